"""What there is to write on, and how: prompts of a file, settings of a scenario."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, shown
from edgepact.inference.sampling import ALTERNATIVES_MAX, Drawn, Sampling
from edgepact.settings import SEED_MAX
from edgepact.work import Json

PROMPTS_MAX = 100_000
PROMPTS_BYTES_MAX = 64 << 20
TOKENS_MAX = 4096
"""Most tokens of a text that are generated."""

DRAFTS_MAX, TEXTS_KEPT_MAX = 16, 1024


def own_prompts() -> Path:
    """Prompts that come with the job, a line each."""
    return Path(__file__).with_name("prompts.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How texts are written, as `[job]` of a scenario states it.

    Attributes:
        tokens_max: most tokens of a text that are generated; on the server, the most that a device
            may ask for.
        temperature, top_k, top_p: see `inference.sampling.Sampling`.
        chat: whether a prompt is said to the model as a user's message, by its template, or is
            the beginning of a text.
        alternatives: of how many of the likeliest tokens the probabilities are told.
        seed: of the tokens that are drawn; -1 for one that the server chooses.
        drafts: most tokens that the device guesses ahead (`inference.drafts`), which the server
            looks at in one step; on the server, the most that a device may. The text stays the
            same. Both sides have to allow some, or none.
        texts_kept: finished texts whose keys and values a side keeps, so that a prompt that begins
            like one of them is computed from where it differs; 0 for none.

    Raises:
        InputError: a value is out of range.
    """

    tokens_max: int = 32
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    chat: bool = True
    alternatives: int = 0
    seed: int = -1
    drafts: int = 0
    texts_kept: int = 4

    def __post_init__(self) -> None:
        for name, most in (
            ("tokens_max", TOKENS_MAX),
            ("alternatives", ALTERNATIVES_MAX),
            ("drafts", DRAFTS_MAX),
            ("texts_kept", TEXTS_KEPT_MAX),
        ):
            least = 1 if name == "tokens_max" else 0
            if not least <= getattr(self, name) <= most:
                expected = f"a whole number from {least} to {most}"
                raise InputError("job", name, expected, getattr(self, name))
        if not -1 <= self.seed <= SEED_MAX:
            raise InputError("job", "seed", f"a whole number from -1 to {SEED_MAX}", self.seed)
        _ = self.sampling

    @classmethod
    def of(cls, settings: Mapping[str, Json]) -> "TextSettings":
        """From a job's settings.

        Raises:
            InputError: there is no such setting, or a value cannot be.
        """
        known = {each.name: each.type for each in fields(cls)}
        for name, value in settings.items():
            if name not in known:
                raise InputError("job", name, f"settings: {', '.join(known)}", "this field")
            kind: Any = known[name]
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise InputError("job", name, f"a value of type {kind.__name__}", shown(value))
        return cls(**settings)

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


def _go_on(drawn: Drawn) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A piece of work.

    Attributes:
        tokens: of the prompt, at least one.
        settings: how the text goes on.
        text: as it was read; empty where only tokens are known.
        name: of the request that it answers: what is asked twice is two pieces of work.
        on_token: told each token as soon as it is known; whether the text ends there, as it does
            behind a word that its reader did not want to see, or when he has gone.
    """

    tokens: tuple[int, ...]
    settings: TextSettings
    text: str = ""
    name: str = ""
    on_token: Callable[[Drawn], bool] = field(default=_go_on, compare=False)


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, a line each; empty lines are passed over.

    Raises:
        InputError: there is no such file, or no prompt in it.
    """
    try:
        if path.stat().st_size > PROMPTS_BYTES_MAX:
            expected = f"at most {PROMPTS_BYTES_MAX} bytes"
            raise InputError(path, "", expected, path.stat().st_size)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(path, "", "a file of prompts", error.strerror or "none") from None
    except UnicodeDecodeError:
        raise InputError(path, "", "UTF-8 text", "other bytes") from None
    found = [line.strip() for line in lines if line.strip()]
    if not 1 <= len(found) <= PROMPTS_MAX:
        raise InputError(path, "", f"1 to {PROMPTS_MAX} prompts, a line each", f"{len(found)}")
    return found
