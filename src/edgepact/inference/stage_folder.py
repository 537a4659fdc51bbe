"""A folder of stages of any model, and what its `stages.json` says of them.

`edgepact model cut` writes it beside the stages: what the model takes, what is handed on at each
cut, what it gives, and what each stage computes. With it a device opens the stages that it runs
and no others, without the ONNX package, and a server knows what may come before anything comes.

Files of strangers are read: whatever is out of bounds is an `InputError`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, shown
from edgepact.inference.pipeline import LAYERS_MAX, open_session, stage_path
from edgepact.tensors import ANY, TensorSpec

STAGES_JSON = "stages.json"

FORMAT = 1

JSON_BYTES_MAX = 8 << 20
NAME_CHARS_MAX = 64
TENSOR_CHARS_MAX = 512
TENSORS_MAX = 64
DIMENSIONS_MAX = 8
MACS_MAX = 10**18

SIZE_MAX = 4096
"""Largest free size, unless the folder says otherwise."""

ELEMENTS_MAX = 1 << 24
"""Most numbers of one tensor that is handed on."""

WIRE: dict[str, str] = {
    "bool": "INT8",
    "int8": "INT8",
    "uint8": "INT8",
    "int16": "INT32",
    "uint16": "INT32",
    "int32": "INT32",
    "uint32": "INT32",
    "int64": "INT64",
    "uint64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
}
"""As what numbers of each type travel: same bits, or wider; NumPy's names, the protocol's."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_WIDER = frozenset({"int16", "uint16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A tensor that goes into a model, from stage to stage, or out of it.

    Attributes:
        name: its name in the graph.
        dtype: as NumPy calls it, one of `WIRE`.
        shape: numbers, and names of free sizes.
        control: whether it is an input that every stage gets as it is.
        exact: whether no codec may pack it, such as a pitch, whose errors would add up.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    control: bool = False
    exact: bool = False

    @property
    def coded(self) -> bool:
        """Whether a codec packs it: activations are, inputs that are control are not."""
        exact = self.control or self.exact
        return self.dtype == "float32" and not exact and len(self.shape) > 0

    def spec(self, *, coded: bool) -> TensorSpec:
        """As it travels.

        Args:
            coded: whether a codec may pack it.
        """
        return TensorSpec(
            name=self.name,
            datatype=WIRE[self.dtype],
            shape=tuple(size if isinstance(size, int) else ANY for size in self.shape),
            coded=coded and self.coded,
        )

    def to_wire(self, value: np.ndarray) -> np.ndarray:
        """The tensor as the protocol can say it."""
        if self.dtype in _WIDER:
            return value.astype(np.int32)
        if self.dtype in ("bool", "uint8", "uint32", "uint64"):
            return np.ascontiguousarray(value).view(np.dtype(f"<i{value.dtype.itemsize}"))
        return np.ascontiguousarray(value)

    def of_wire(self, value: np.ndarray) -> np.ndarray:
        """What `to_wire` made, from a stranger.

        Raises:
            InputError: numbers that it makes of none.
        """
        if self.dtype in _WIDER:
            limits = np.iinfo(self.dtype)
            if value.size and not limits.min <= value.min() <= value.max() <= limits.max:
                raise InputError("tensor", self.name, f"numbers of {self.dtype}", "others")
            return value.astype(self.dtype)
        if self.dtype == "bool":
            if not np.isin(value, (0, 1)).all():
                raise InputError("tensor", self.name, "0 or 1", "other numbers")
            return value.astype(bool)
        if self.dtype in ("uint8", "uint32", "uint64"):
            return np.ascontiguousarray(value).view(self.dtype)
        return np.ascontiguousarray(value, np.dtype(self.dtype))

    def as_json(self) -> dict[str, Any]:
        """As `stages.json` has it."""
        found: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        return found | ({"exact": True} if self.exact else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFolder:
    """A model in stages.

    Attributes:
        folder: where they are.
        name: of the model: letters, digits, `.`, `_`, `-`.
        inputs: data first, then control.
        cuts: what is handed on after each stage but the last.
        outputs: of the last.
        macs: of each stage; None where some operation could not be counted.
        uncounted: why, in words; empty where all were.
        sizes: the free sizes that they were counted at.
        most: largest number that each free size may have; `SIZE_MAX` for those not named.
        reading: how files become inputs and outputs answers: its name, and its settings.
    """

    folder: Path
    name: str
    inputs: tuple[Handed, ...]
    cuts: tuple[tuple[Handed, ...], ...]
    outputs: tuple[Handed, ...]
    macs: tuple[int, ...] | None
    uncounted: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(self.cuts) + 1

    @property
    def control(self) -> tuple[Handed, ...]:
        """Inputs that every stage gets."""
        return tuple(each for each in self.inputs if each.control)

    def handed(self, after: int) -> tuple[Handed, ...]:
        """What is handed over after so many stages; control beside it until all are run."""
        if after == 0:
            return self.inputs
        if after == self.stages:
            return self.outputs
        return (*self.cuts[after - 1], *self.control)

    def checked(
        self, handed: Sequence[Handed], values: Mapping[str, np.ndarray], source: object
    ) -> dict[str, np.ndarray]:
        """Tensors that are what they should be: names, types, shapes; one number a free size.

        Args:
            handed: what they should be.
            values: as programs hold them.
            source: what errors name.

        Raises:
            InputError: one is not.
        """
        found: dict[str, np.ndarray] = {}
        free: dict[str, int] = {}
        for each in handed:
            value = values.get(each.name)
            if value is None:
                raise InputError(source, each.name, "a tensor of this name", "none")
            if value.dtype.name != each.dtype:
                raise InputError(source, each.name, f"numbers of {each.dtype}", value.dtype.name)
            told = list(each.shape)
            if len(value.shape) != len(told) or value.size > ELEMENTS_MAX:
                raise InputError(source, each.name, f"the shape {told}", f"{list(value.shape)}")
            for size, wanted in zip(value.shape, each.shape, strict=True):
                if isinstance(wanted, str):
                    most = self.most.get(wanted, SIZE_MAX)
                    if not 1 <= size <= most:
                        place = f"{each.name}: {wanted}"
                        raise InputError(source, place, f"a size of 1 to {most}", size)
                    wanted = free.setdefault(wanted, size)
                if size != wanted:
                    raise InputError(source, each.name, f"the shape {told}", f"{list(value.shape)}")
            found[each.name] = value
        return found

    def write(self) -> Path:
        """Puts `stages.json` into the folder.

        Raises:
            OSError: it cannot be written.
        """
        table = {
            "format": FORMAT,
            "name": self.name,
            "inputs": [each.as_json() | {"control": each.control} for each in self.inputs],
            "cuts": [[each.as_json() for each in cut] for cut in self.cuts],
            "outputs": [each.as_json() for each in self.outputs],
            "macs": None if self.macs is None else list(self.macs),
            "uncounted": self.uncounted,
            "sizes": dict(self.sizes),
            "most": dict(self.most),
            "reading": dict(self.reading),
        }
        path = self.folder / STAGES_JSON
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
        return path


def is_stage_folder(path: Path) -> bool:
    """Whether a folder holds stages of a model of any kind."""
    return (path / STAGES_JSON).is_file()


def read_stage_folder(folder: Path) -> StageFolder:
    """What `stages.json` says, checked.

    Raises:
        InputError: there is none, or it says something impossible, or a stage is missing.
    """
    path = folder / STAGES_JSON
    try:
        with path.open("rb") as file:
            content = file.read(JSON_BYTES_MAX + 1)
    except OSError as error:
        expected = "a folder that edgepact model cut has written"
        raise InputError(path, "", expected, error.strerror or "none") from None
    if len(content) > JSON_BYTES_MAX:
        raise InputError(path, "", f"at most {JSON_BYTES_MAX} bytes", "more")
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(path, "", "JSON", shown(str(error))) from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise InputError(path, "format", f"{FORMAT}", "another")
    found = _Reader(path, table).folder(folder)
    for stage in range(found.stages):
        if not stage_path(folder, stage).is_file():
            raise InputError(stage_path(folder, stage), "", "a stage", "no such file")
    return found


class StageRunner:
    """Runs stages of a folder, of which it opens those that it is asked for.

    Args:
        folder: of stages.
        threads: of each operator.
    """

    def __init__(self, folder: StageFolder, *, threads: int = 1) -> None:
        self._folder, self._threads = folder, threads
        self._sessions: dict[int, Any] = {}

    def load(self, stages: range) -> None:
        """Opens stages that are not open yet.

        Raises:
            InputError: one cannot be.
        """
        for stage in stages:
            if stage not in self._sessions:
                path = stage_path(self._folder.folder, stage)
                self._sessions[stage] = open_session(path, threads=self._threads)

    def run(self, values: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
        """What is handed over after stages, from what was before them.

        Args:
            values: by name: what `handed(start)` says.
            start: first stage.
            stop: stage not to run any more.

        Raises:
            InputError: a stage cannot be opened, or cannot work on this.
        """
        self.load(range(start, stop))
        found = dict(values)
        for stage in range(start, stop):
            found |= run_session(self._sessions[stage], found, stage_path(Path(), stage))
        return {each.name: found[each.name] for each in self._folder.handed(stop)}


def run_session(session: Any, values: Mapping[str, np.ndarray], source: object) -> dict[str, Any]:
    """All that a session gives.

    Raises:
        InputError: it cannot work on these values.
    """
    names = [tensor.name for tensor in session.get_outputs()]
    try:
        given = {tensor.name: values[tensor.name] for tensor in session.get_inputs()}
        return dict(zip(names, session.run(names, given), strict=True))
    except KeyError as error:
        raise InputError(source, "", "all inputs of the stage", f"no {error.args[0]}") from None
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(source, "", "values that the stage can work on", reason) from None


# ---------------------------------------------------------------- private


class _Reader:
    """Fields of one file."""

    def __init__(self, path: Path, table: Mapping[str, Any]) -> None:
        self._path, self._table = path, table

    def folder(self, folder: Path) -> StageFolder:
        name = self._table.get("name")
        if not isinstance(name, str) or len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
            raise self._wrong("name", "letters, digits, '.', '_', '-'", name)
        cuts = self._list("cuts", self._table.get("cuts"), 0, LAYERS_MAX)
        found = StageFolder(
            folder=folder,
            name=name,
            inputs=self._handed("inputs", self._table.get("inputs")),
            cuts=tuple(self._handed(f"cuts[{at}]", cut) for at, cut in enumerate(cuts)),
            outputs=self._handed("outputs", self._table.get("outputs")),
            macs=self._macs(len(cuts) + 1),
            uncounted=str(self._table.get("uncounted", ""))[:TENSOR_CHARS_MAX],
            sizes=self._sizes("sizes"),
            most=self._sizes("most"),
            reading=self._reading(),
        )
        if not [each for each in found.inputs if not each.control]:
            raise self._wrong("inputs", "an input that is data", "none")
        return found

    def _macs(self, stages: int) -> tuple[int, ...] | None:
        if self._table.get("macs") is None:
            return None
        macs = self._list("macs", self._table["macs"], stages, stages)
        for at, count in enumerate(macs):
            if type(count) is not int or not 0 <= count <= MACS_MAX:
                raise self._wrong(f"macs[{at}]", f"a whole number up to {MACS_MAX}", count)
        return tuple(macs)

    def _reading(self) -> dict[str, Any]:
        found = self._table.get("reading", {})
        if not isinstance(found, dict):
            raise self._wrong("reading", "a table", found)
        return found

    def _sizes(self, field: str) -> dict[str, int]:
        found = self._table.get(field, {})
        if not isinstance(found, dict) or len(found) > TENSORS_MAX:
            raise self._wrong(field, "numbers by the names of free sizes", found)
        for name, size in found.items():
            if type(size) is not int or not 1 <= size <= ELEMENTS_MAX:
                raise self._wrong(f"{field}.{name}", f"a number of 1 to {ELEMENTS_MAX}", size)
        return found

    def _handed(self, field: str, rows: Any) -> tuple[Handed, ...]:
        found = []
        for at, row in enumerate(self._list(field, rows, 1, TENSORS_MAX)):
            place = f"{field}[{at}]"
            if not isinstance(row, dict):
                raise self._wrong(place, "a tensor: name, dtype, shape", row)
            name, dtype = row.get("name"), row.get("dtype")
            if not isinstance(name, str) or not 1 <= len(name) <= TENSOR_CHARS_MAX:
                raise self._wrong(f"{place}.name", "a name", name)
            if not isinstance(dtype, str) or dtype not in WIRE:
                raise self._wrong(f"{place}.dtype", f"one of {', '.join(WIRE)}", dtype)
            shape = self._list(f"{place}.shape", row.get("shape"), 0, DIMENSIONS_MAX)
            for size in shape:
                free = isinstance(size, str) and 1 <= len(size) <= TENSOR_CHARS_MAX
                if not free and not (type(size) is int and 1 <= size <= ELEMENTS_MAX):
                    raise self._wrong(f"{place}.shape", "numbers, and names of free sizes", size)
            if math.prod(size for size in shape if isinstance(size, int)) > ELEMENTS_MAX:
                raise self._wrong(f"{place}.shape", f"at most {ELEMENTS_MAX} numbers", shape)
            marks = {mark: row.get(mark, False) is True for mark in ("control", "exact")}
            found.append(Handed(name=name, dtype=dtype, shape=tuple(shape), **marks))
        if len({each.name for each in found}) < len(found):
            raise self._wrong(field, "names that differ", "the same twice")
        return tuple(found)

    def _list(self, field: str, found: Any, least: int, most: int) -> list[Any]:
        if not isinstance(found, list) or not least <= len(found) <= most:
            raise self._wrong(field, f"a list of {least} to {most}", found)
        return found

    def _wrong(self, field: str, expected: str, found: object) -> InputError:
        return InputError(self._path, field, expected, found)
