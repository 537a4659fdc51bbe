"""The two plug points of a model in stages: how pieces are read in, and answers read out.

A reading belongs to a kind of model: it knows what the numbers mean. `stages.json` names it, with
settings of its own, under `reading`; without one numbers are numbers (`arrays`). Both halves have
it: the server reads pieces of amount 0 and the pieces of audits in, so that whatever it is handed
there comes from strangers.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.exhibit import Exhibit, named
from edgepact.inference.stage_folder import STAGES_JSON, Handed, StageFolder
from edgepact.work import Json

READINGS = {
    "arrays": "edgepact.jobs.staged.arrays:Arrays",
    "lines": "edgepact.jobs.staged.lines:Lines",
    "photographs": "edgepact.jobs.staged.photographs:Photographs",
    "sentences": "edgepact.jobs.staged.sentences:Sentences",
    "speech": "edgepact.jobs.speech.reading:Speakable",
}
"""Where each reading's class is; loaded when a model asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One thing to work on.

    Attributes:
        name: that results call it by, such as a file's, relative to its folder.
        path: of its file; None where `content` is all of it.
        content: the piece itself, where it is no file.
        label: what is known to be right of it; None for nothing.
    """

    name: str
    path: Path | None = None
    content: bytes = b""
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model says of a piece.

    Attributes:
        text: in words, on one line.
        facts: the same and more, as JSON.
        tensors: for the device, as `Reading.returned` names them.
        units: that the piece was, of which each is paid.
    """

    text: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: int = 1


class Reading:
    """How pieces become tensors, and outputs answers; the base of all readings.

    Args:
        model: that it reads for; `model.reading` has its settings.

    Raises:
        InputError: it is no model of this kind, or a setting cannot be used.
        MissingExtraError: what it needs is not installed.
    """

    name = ""
    """As `stages.json` spells it."""

    same_words = "same answer as the unsplit model"
    """What `same` counts, in words."""

    rows_axis: int | None = None
    """Axis of tensors of which a device could leave a part out, such as time; None for the first
    behind the batch."""

    def __init__(self, model: StageFolder) -> None:
        self.model = model

    def own_inputs(self) -> Path:
        """Where there is something to work on if nothing is said.

        Raises:
            InputError: there is no such place.
            MissingExtraError: there is, in an extra that is not installed.
        """
        raise InputError("job", "inputs", "something to work on", "none")

    def own_pieces(self) -> Sequence[Piece]:
        """What there is to work on if nothing is said; by default what is at that place.

        Raises:
            InputError, MissingExtraError: there is nothing.
        """
        return self.pieces(self.own_inputs())

    def pieces(self, inputs: Path) -> Sequence[Piece]:
        """What there is to work on, at least one.

        Raises:
            InputError: it cannot be found.
        """
        raise NotImplementedError

    def source(self, piece: Piece) -> bytes:
        """A piece as it travels.

        Raises:
            InputError: it cannot be read, or is too large.
        """
        raise NotImplementedError

    def tensors(self, source: bytes, *, name: object = "piece") -> dict[str, np.ndarray]:
        """The model's inputs, control included.

        Args:
            source: as `source` gave it, or as a stranger sent it.
            name: what errors name.

        Raises:
            InputError: it cannot be read.
        """
        raise NotImplementedError

    def examples(self, count: int, seed: int) -> list[dict[str, np.ndarray]]:
        """Inputs to measure with that look like pieces, of the same shapes if that can be."""
        return drawn_inputs(self.model, count, seed)

    def returned(self) -> tuple[Handed, ...]:
        """Tensors that go back to the device with an answer."""
        return ()

    def answer(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """What the model's outputs say.

        Raises:
            InputError: they say nothing that can be read.
        """
        raise NotImplementedError

    def result(self, piece: Piece, tensors: Mapping[str, np.ndarray]) -> Mapping[str, Json]:
        """Fields of the device's results, of what came back to it."""
        return {}

    def exhibit(self, piece: Piece, result: Mapping[str, Json]) -> Exhibit:
        """What people may be shown of a finished piece; see `edgepact.exhibit`.

        Args:
            piece: as it was.
            result: fields of the device's results.
        """
        return Exhibit(given=piece.name, answer=named(result["answer"], result["label_true"]))

    def same(self, result: Mapping[str, Json], whole: Answer) -> bool:
        """Whether a line of results says what the unsplit model says."""
        return bool(result.get("answer") == whole.text)

    def compared(self) -> tuple[Handed, ...]:
        """What an audit compares of a piece of which the device has run all stages."""
        return self.model.outputs

    def comparable(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same of the model's outputs."""
        return dict(outputs)

    def alike(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """A vector of length 1 that is near where pieces are, to know slightly changed ones; None
        if there is none."""
        return None


def reading_of(model: StageFolder) -> Reading:
    """The reading that a model asks for.

    Raises:
        InputError: there is no such reading, or it cannot read for this model.
        MissingExtraError: what it needs is not installed.
    """
    name = model.reading.get("name", "arrays")
    if not isinstance(name, str) or name not in READINGS:
        expected = f"one of {', '.join(READINGS)}"
        raise InputError(model.folder / STAGES_JSON, "reading.name", expected, name)
    module, _, attribute = READINGS[name].partition(":")
    found: Reading = getattr(importlib.import_module(module), attribute)(model)
    return found


def drawn_inputs(model: StageFolder, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Noise, small whole numbers, open masks: for models of which nothing is known."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        values = {}
        for each in model.inputs:
            shape = [
                size if isinstance(size, int) else model.sizes.get(size, 1) for size in each.shape
            ]
            drawn = rng.standard_normal(shape)
            if each.control or each.dtype == "bool":
                drawn = np.ones(shape)
            elif not each.dtype.startswith("float"):
                drawn = np.abs(np.rint(8 * drawn))
            values[each.name] = drawn.astype(each.dtype)
        found.append(values)
    return found
