"""The chain of a picture: its recipe, its times, and who does which of its steps.

A recipe says how many steps a chain has, how strongly the text guides it, and how many of its
first steps are done once for several prompts that mean much the same. Step k leads from time k/N
to (k+1)/N. Of N steps the server does the first N - amount, the device the rest, and the picture
itself. A device and a server with the same recipe and the same weights hold the same model: both
stand in its digest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from edgepact.errors import InputError
from edgepact.fields import Table
from edgepact.inference.flow import WEIGHTS, Flow, moved, read_flow
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import open_session
from edgepact.inference.zero_shot import TEXT_GRAPH, prompt_bytes
from edgepact.work import Json, Model

GENERATOR_JSON = "generator.json"
STEPS_MAX = 64
GUIDANCE_MAX = 20.0
GROUP_MAX = 1024
DRAWS_MAX = 16
VECTORS_HELD = 4096
"""Text vectors that are kept; further ones are computed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How pictures are made.

    Attributes:
        steps: of a chain.
        guidance: 1 follows the text as it was learnt; more follows it more.
        shared: first steps that are done once for a group of prompts, at most.
        group: pictures for which a shared beginning serves.
        draws: most that are made of a picture, until one is accepted.
        accepted_at: least probability of what is meant, as the judge sees it, at which a picture
            is accepted; None to take any.
    """

    steps: int
    guidance: float
    shared: int = 1
    group: int = 8
    draws: int = 1
    accepted_at: float | None = None

    def time(self, step: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Time before a step."""
        found: np.ndarray = np.asarray(step, np.float32) / np.float32(self.steps)
        return found

    def shared_at(self, amount: int) -> int:
        """Steps that are shared where a device does `amount` of them."""
        return min(self.shared, self.steps - amount)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generator:
    """A generator in a folder, and how it is used.

    Attributes:
        name: of the model.
        flow: its weights.
        recipe: how pictures are made.
        labels, templates: that prompts are made of if nobody has any.
        folder: where it lies.
        text_folder: of the text encoder.
    """

    name: str
    flow: Flow
    recipe: Recipe
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    folder: Path
    text_folder: Path

    @property
    def model(self) -> Model:
        """What both sides have to hold alike."""
        found = hashlib.sha256()
        for path in (self.folder / WEIGHTS, self.text_folder / TEXT_GRAPH):
            found.update(hashlib.sha256(path.read_bytes()).digest())
        recipe = self.recipe
        found.update(f"{recipe.steps} {recipe.guidance!r} {self.labels!r}".encode())
        return Model(name=self.name, amount_max=recipe.steps, digest=found.hexdigest())

    def advanced(
        self,
        x: Float[np.ndarray, "rows components"],
        step: Int[np.ndarray, " rows"],
        text: Float[np.ndarray, "rows dim"],
    ) -> Float[np.ndarray, "rows components"]:
        """Each chain one step further.

        Args:
            x: chains on their way.
            step: that each does now.
            text: vector of each prompt.
        """
        now, then = self.recipe.time(step), self.recipe.time(step + 1)
        return moved(x, self.flow.meant(x, now, text, self.recipe.guidance), now, then)

    def passed(
        self,
        x: Float[np.ndarray, "rows components"],
        start: int,
        stop: int,
        text: Float[np.ndarray, "rows dim"],
    ) -> Float[np.ndarray, "rows components"]:
        """Chains after the steps from `start` to `stop - 1`."""
        for step in range(start, stop):
            x = self.advanced(x, np.full(len(x), step), text)
        return x

    def started_together(
        self, text: Float[np.ndarray, "1 dim"], steps: int, seed: int
    ) -> Float[np.ndarray, "1 components"]:
        """What a shared beginning of some steps takes for the picture that is meant.

        Its chain is its own; what comes of it is the estimate at its last step, from which
        `after_shared` lets each picture begin with noise of its own. Pictures of one group would
        else be one picture.
        """
        x = self.flow.noise(seed)
        x = self.passed(x, 0, steps - 1, text)
        now = self.recipe.time(np.array([steps - 1]))
        return self.flow.meant(x, now, text, self.recipe.guidance)

    def after_shared(
        self,
        noise: Float[np.ndarray, "rows components"],
        meant: Float[np.ndarray, "rows components"],
        steps: int,
    ) -> Float[np.ndarray, "rows components"]:
        """Chains after a shared beginning of some steps."""
        time = self.recipe.time(np.array([steps]))
        found: np.ndarray = (1 - time) * noise + time * meant
        return found


def recipe_of(settings: Mapping[str, Json], *, steps: int, guidance: float) -> Recipe:
    """The recipe that settings of the job state.

    Args:
        settings: `steps`, `guidance`, `shared`, `group`, `draws`, `accepted_at`, each of which may
            be missing.
        steps, guidance: where they are.

    Raises:
        InputError: a setting cannot be used.
    """
    own = Table(Path("job"), "settings", dict(settings))
    recipe = Recipe(
        steps=own.whole("steps", steps, least=1, most=STEPS_MAX),
        guidance=own.number("guidance", guidance, least=0.0, most=GUIDANCE_MAX),
        shared=own.whole("shared", 1, least=0, most=STEPS_MAX),
        group=own.whole("group", 8, least=1, most=GROUP_MAX),
        draws=own.whole("draws", 1, least=1, most=DRAWS_MAX),
        accepted_at=own.number("accepted_at", above=0.0, most=1.0)
        if "accepted_at" in own
        else None,
    )
    if recipe.draws > 1 and recipe.accepted_at is None:
        expected = "a threshold beside draws, or all are alike"
        raise InputError(Path("job"), "settings.accepted_at", expected, "none")
    own.close()
    return recipe


def read_generator(folder: Path, settings: Mapping[str, Json]) -> Generator:
    """The generator of a folder; settings of the job stand above what the folder states.

    Args:
        folder: with weights, `generator.json`, and a text encoder if it is not the embedded CLIP's.
        settings: of the recipe, see `recipe_of`.

    Raises:
        InputError: a file or a setting cannot be used.
    """
    path = folder / GENERATOR_JSON
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise InputError(path, "", "a generator's description as JSON", found) from None
    if not isinstance(stated, dict):
        raise InputError(path, "", "a JSON object", type(stated).__name__)
    table = Table(path, "", stated)
    name = table.text("name")
    labels, templates = _names(path, table, "labels"), _names(path, table, "templates")
    for at, template in enumerate(templates):
        if "{}" not in template:
            raise InputError(path, f"templates[{at}]", "a prompt with {}", template)
    recipe = recipe_of(
        settings,
        steps=table.whole("steps", least=1, most=STEPS_MAX),
        guidance=table.number("guidance", least=0.0, most=GUIDANCE_MAX),
    )
    table.close()
    text_folder = folder if (folder / TEXT_GRAPH).is_file() else embedded()
    return Generator(
        name=name,
        flow=read_flow(folder),
        recipe=recipe,
        labels=labels,
        templates=templates,
        folder=folder,
        text_folder=text_folder,
    )


class TextVectors:
    """Vectors of prompts, by the generator's text encoder; the newest are held.

    Args:
        folder: of the encoder.

    Raises:
        InputError: it cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        self._session = open_session(folder / TEXT_GRAPH)
        self._bytes_max = int(self._session.get_inputs()[0].shape[1])
        self._held: dict[str, Float[np.ndarray, "1 dim"]] = {}

    def of(self, prompt: str) -> Float[np.ndarray, "1 dim"]:
        """The vector of a prompt, of length 1.

        Raises:
            InputError: the prompt is empty or longer than the encoder reads.
        """
        if not prompt.strip():
            raise InputError("prompt", "", "a text", "an empty one")
        if prompt not in self._held:
            texts = prompt_bytes([prompt], self._bytes_max)
            (vector,) = self._session.run(["vector"], {"bytes": texts})
            if len(self._held) >= VECTORS_HELD:
                self._held.pop(next(iter(self._held)))
            self._held[prompt] = vector / np.linalg.norm(vector)
        return self._held[prompt]


def _names(path: Path, table: Table, name: str) -> tuple[str, ...]:
    found = table.raw(name, "a list of texts")
    if not isinstance(found, list) or not found or not all(isinstance(x, str) for x in found):
        raise InputError(path, name, "a list of texts", "something else")
    return tuple(found)
