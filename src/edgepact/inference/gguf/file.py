"""Reads a GGUF file within bounds: what it says of itself, and where its tensors lie.

A file may come from anywhere. Before anything is read, its count, length or offset is held against
a limit and against the size of the file, so that a damaged or hostile one costs an `InputError`
that names the field, and neither memory nor time. Tensors are not loaded: they are views of the
file. Numbers are little-endian; versions 2 and 3 are known.

NumPy and the standard library only. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgepact.errors import InputError

FILE_BYTES_MAX = 64 << 30
FACTS_MAX = 4096
TENSORS_MAX = 65_536
ITEMS_MAX = 1_000_000
"""Most items of a list, and most texts in all lists together, such as tokens and merges: each is an
object of some 60 bytes. A vocabulary of 262,144 tokens is the largest that is known."""

TEXT_BYTES_MAX = 1 << 20
NAME_BYTES_MAX = 256
HEAD_BYTES_MAX = 32 << 20
"""Most bytes before the tensors; vocabularies of 128,256 tokens and their merges have 8 million. A
character beyond the basic plane makes all of its text four times as large in memory."""

DIMENSIONS_MAX = 4
ELEMENTS_MAX = 1 << 36
ALIGNMENT_MAX = 4096

Fact = str | int | float | bool | tuple[str, ...] | np.ndarray
"""A value of the metadata; a list of numbers or of truth values is an array."""


class BlockType(NamedTuple):
    """How numbers of a tensor are packed.

    Attributes:
        name: as GGML spells it.
        elements: of a block.
        size: of a block, bytes.
    """

    name: str
    elements: int
    size: int


TYPES = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    8: BlockType("Q8_0", 32, 34),
}
"""The packings that are known, by their number in a file."""

OTHER_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
    15: "Q8_K", 30: "BF16",
}  # fmt: skip
"""Packings that are known by name alone, so that a refusal can say it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        name: its name.
        shape: rows first, as NumPy has it; a file has it the other way round.
        type: how its numbers are packed; blocks lie along the last axis.
        data: uint8, `(blocks, bytes of a block)`; a view of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: BlockType
    data: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GgufFile:
    """A file that was read.

    Attributes:
        path: where it is.
        facts: its metadata.
        tensors: by name.
    """

    path: Path
    facts: Mapping[str, Fact]
    tensors: Mapping[str, GgufTensor]

    def text(self, name: str, default: str | None = None) -> str:
        """A text of the metadata.

        Raises:
            InputError: it is missing, or no text.
        """
        value = self.facts.get(name, default)
        if not isinstance(value, str):
            raise InputError(self.path, name, "a text", _kind(value))
        return value

    def whole(self, name: str, default: int | None = None, *, least: int, most: int) -> int:
        """A whole number of the metadata.

        Raises:
            InputError: it is missing, no whole number, or out of range.
        """
        value = self.facts.get(name, default)
        expected = f"a whole number from {least} to {most}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(self.path, name, expected, _kind(value))
        if not least <= value <= most:
            raise InputError(self.path, name, expected, value)
        return value

    def number(self, name: str, default: float | None = None, *, above: float) -> float:
        """A number of the metadata.

        Raises:
            InputError: it is missing, no finite number, or not above the bound.
        """
        value = self.facts.get(name, default)
        expected = f"a finite number above {above:g}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(self.path, name, expected, _kind(value))
        if not (math.isfinite(value) and value > above):
            raise InputError(self.path, name, expected, float(value))
        return float(value)

    def yes(self, name: str, default: bool) -> bool:
        """A truth value of the metadata.

        Raises:
            InputError: it is none.
        """
        value = self.facts.get(name, default)
        if not isinstance(value, bool):
            raise InputError(self.path, name, "true or false", _kind(value))
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts of the metadata.

        Raises:
            InputError: it is missing, or has items of another type.
        """
        value = self.facts.get(name)
        if not isinstance(value, tuple):
            raise InputError(self.path, name, "a list of texts", _kind(value))
        return value

    def tensor(self, name: str, shape: tuple[int, ...]) -> GgufTensor:
        """A tensor of a shape.

        Raises:
            InputError: it is missing, or has another shape.
        """
        found = self.tensors.get(name)
        expected = f"a tensor of shape {list(shape)}"
        if found is None:
            raise InputError(self.path, name, expected, "nothing")
        if found.shape != shape:
            raise InputError(self.path, name, expected, f"one of shape {list(found.shape)}")
        return found


def read_gguf(path: Path) -> GgufFile:
    """Reads a file's metadata, and where its tensors lie.

    Raises:
        InputError: it is no GGUF file, damaged, or beyond a limit.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(path, "", "a GGUF file", "no such file")
        if not 24 <= size <= FILE_BYTES_MAX:
            expected = f"a GGUF file of 24 to {FILE_BYTES_MAX} bytes"
            raise InputError(path, "", expected, f"{size} bytes")
        content = np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise InputError(path, "", "a GGUF file", error.strerror or "none") from None
    return _Reader(path, content).read()


# ---------------------------------------------------------------- private

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_TEXT, _LIST, _BOOL = 8, 9, 7


class _Reader:
    def __init__(self, path: Path, content: np.ndarray) -> None:
        self._path, self._content = path, content
        self._head = memoryview(content[:HEAD_BYTES_MAX].data)
        self._at = self._texts = 0

    def read(self) -> GgufFile:
        if bytes(self._take(4, "magic")) != b"GGUF":
            raise InputError(self._path, "magic", "'GGUF'", f"{bytes(self._head[:4])!r}")
        version = self._scalar("<I", "version")
        if version not in (2, 3):
            raise InputError(self._path, "version", "2 or 3, little-endian", version)
        tensors = self._count("tensor_count", TENSORS_MAX)
        count = self._count("kv_count", FACTS_MAX)
        facts: dict[str, Fact] = {}
        for at in range(count):
            name = self._text(f"metadata[{at}]", NAME_BYTES_MAX)
            if name in facts:
                raise InputError(self._path, name, "one value", "two")
            facts[name] = self._value(name)
        alignment = facts.get("general.alignment", 32)
        power = isinstance(alignment, int) and 0 < alignment <= ALIGNMENT_MAX
        if not power or alignment & (alignment - 1):  # type: ignore[operator]
            expected = f"a power of 2 up to {ALIGNMENT_MAX}"
            raise InputError(self._path, "general.alignment", expected, _kind(alignment))
        assert isinstance(alignment, int)
        places = [self._place(at) for at in range(tensors)]
        start = -(-self._at // alignment) * alignment
        found: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in places:
            if name in found:
                raise InputError(self._path, name, "one tensor", "two")
            found[name] = self._tensor(name, shape, kind, start, offset, alignment)
        return GgufFile(path=self._path, facts=facts, tensors=found)

    def _take(self, size: int, field: str) -> memoryview:
        end = self._at + size
        if end > len(self._head) < len(self._content):
            expected = f"at most {HEAD_BYTES_MAX} bytes before the tensors"
            raise InputError(self._path, field, expected, f"at least {end}")
        if end > len(self._head):
            raise InputError(
                self._path, field, f"{size} bytes at {self._at}", f"{len(self._head) - self._at}"
            )
        taken = self._head[self._at : end]
        self._at = end
        return taken

    def _scalar(self, form: str, field: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form), field))[0]

    def _count(self, field: str, most: int) -> int:
        count: int = self._scalar("<Q", field)
        if count > most:
            raise InputError(self._path, field, f"at most {most}", count)
        return count

    def _text(self, field: str, most: int = TEXT_BYTES_MAX) -> str:
        size = self._count(field, most)
        content = bytes(self._take(size, field))
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(self._path, field, "UTF-8 text", "other bytes") from None

    def _value(self, name: str) -> Fact:
        kind = self._scalar("<I", name)
        if kind == _LIST:
            return self._list(name)
        return self._single(kind, name)

    def _single(self, kind: int, name: str) -> str | int | float | bool:
        if kind == _TEXT:
            return self._text(name)
        if kind == _BOOL:
            return self._scalar("<B", name) != 0
        if kind not in _SCALARS:
            raise InputError(self._path, name, "a type from 0 to 12", kind)
        value: int | float = self._scalar(_SCALARS[kind], name)
        return value

    def _list(self, name: str) -> tuple[str, ...] | np.ndarray:
        kind = self._scalar("<I", name)
        count = self._count(name, ITEMS_MAX)
        if kind == _TEXT:
            self._texts += count
            if self._texts > ITEMS_MAX:
                expected = f"at most {ITEMS_MAX} texts in all lists"
                raise InputError(self._path, name, expected, f"at least {self._texts}")
            return tuple(self._text(name) for _ in range(count))
        if kind != _BOOL and kind not in _SCALARS:
            raise InputError(self._path, name, "a list of numbers or texts", f"of type {kind}")
        form = "<u1" if kind == _BOOL else _SCALARS[kind].replace("b", "i1").replace("B", "u1")
        dtype = np.dtype(form)
        found = np.frombuffer(self._take(count * dtype.itemsize, name), dtype)
        return found != 0 if kind == _BOOL else found

    def _place(self, at: int) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text(f"tensor[{at}]", NAME_BYTES_MAX)
        count = self._scalar("<I", name)
        if not 1 <= count <= DIMENSIONS_MAX:
            raise InputError(self._path, name, f"1 to {DIMENSIONS_MAX} dimensions", count)
        lengths = [self._scalar("<Q", name) for _ in range(count)]
        if not all(1 <= each <= ELEMENTS_MAX for each in lengths):
            raise InputError(self._path, name, f"dimensions from 1 to {ELEMENTS_MAX}", lengths)
        return name, tuple(reversed(lengths)), self._scalar("<I", name), self._scalar("<Q", name)

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: int, start: int, offset: int, alignment: int
    ) -> GgufTensor:
        packing = TYPES.get(kind)
        if packing is None:
            known = ", ".join(each.name for each in TYPES.values())
            found = OTHER_TYPES.get(kind, f"type {kind}")
            raise InputError(self._path, name, f"numbers packed as one of {known}", found)
        elements = math.prod(shape)
        if elements > ELEMENTS_MAX or shape[-1] % packing.elements:
            expected = f"rows of whole blocks of {packing.elements}, {ELEMENTS_MAX} numbers in all"
            raise InputError(self._path, name, expected, f"shape {list(shape)}")
        if offset % alignment:
            raise InputError(self._path, name, f"an offset that {alignment} divides", offset)
        size = elements // packing.elements * packing.size
        room = len(self._content) - start - offset
        if size > room:
            raise InputError(self._path, name, f"{size} bytes at {offset}", f"{max(room, 0)}")
        content = self._content[start + offset : start + offset + size]
        return GgufTensor(
            name=name, shape=shape, type=packing, data=content.reshape(-1, packing.size)
        )


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, np.ndarray):
        return "a list of numbers"
    return f"{value!r}"[:60] if isinstance(value, str | int | float) else "a list of texts"
