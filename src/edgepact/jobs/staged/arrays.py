"""Numbers as they are: pieces are .npy and .npz files, answers tell what came out in figures.

A `.npy` file holds the model's one data input, a `.npz` file some or all inputs by their names.
Control that a file leaves out is filled with ones, as for an open mask. Files come from strangers:
no pickled object is read, and a header is believed only as far as the bytes behind it go.
"""

import ast
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from edgepact.errors import InputError, shown
from edgepact.inference.stage_folder import ELEMENTS_MAX, Handed
from edgepact.jobs.staged.reading import Answer, Piece, Reading, drawn_inputs
from edgepact.work import Json

SUFFIXES = frozenset({".npy", ".npz"})
FILES_MAX = 1_000_000
BYTES_MAX = 64 << 20
ARRAYS_MAX = 64
SHOWN_NUMBERS = 4

_MAGIC_ZIP, _MAGIC_NPY = b"PK", b"\x93NUMPY"
_ENTRY_ZIP = b"PK\x01\x02"
_HEADER_MAX = 4096


INPUTS_WORDS = "a folder of .npy or .npz files"

DRAWN = 32
"""Pieces of noise, where there are no files."""

CLOSE = 0.02
"""Within this share of its range a number is the same."""


class Arrays(Reading):
    """See this module."""

    name = "arrays"
    same_words = "same numbers as the unsplit model's, to 2 % of their range"

    def own_pieces(self) -> Sequence[Piece]:
        """Noise of the model's shapes."""
        found = []
        for at, values in enumerate(drawn_inputs(self.model, DRAWN, 0)):
            file = io.BytesIO()
            np.savez(file, allow_pickle=False, **values)
            found.append(Piece(name=f"noise-{at}", content=file.getvalue()))
        return found

    def pieces(self, inputs: Path) -> Sequence[Piece]:
        """All files of a folder, in the order of their names; or one file."""
        return arrays_in(inputs)

    def source(self, piece: Piece) -> bytes:
        """The file."""
        return piece.content if piece.path is None else file_content(piece.path, BYTES_MAX)

    def tensors(self, source: bytes, *, name: object = "piece") -> dict[str, np.ndarray]:
        """The arrays of a file."""
        if len(source) > BYTES_MAX:
            raise InputError(name, "", f"at most {BYTES_MAX} bytes", "more")
        data = [each for each in self.model.inputs if not each.control]
        if source.startswith(_MAGIC_NPY):
            if len(data) > 1:
                names = ", ".join(each.name for each in data)
                raise InputError(name, "", f"a .npz file with {names}", "a .npy file")
            found = {data[0].name: _array(source, name)}
        else:
            found = _arrays(source, name)
        known = {each.name: each for each in self.model.inputs}
        for unknown in set(found) - set(known):
            raise InputError(name, shown(unknown), f"one of {', '.join(known)}", "another name")
        cast = {each: _cast(array, known[each], name) for each, array in found.items()}
        return self._with_control(cast)

    def returned(self) -> tuple[Handed, ...]:
        """All that the model gives."""
        return self.model.outputs

    def answer(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Shape, range and first numbers of each output."""
        facts = {name: _figures(value) for name, value in outputs.items()}
        words = [
            f"{name} {'x'.join(map(str, value.shape)) or 'one number'}"
            + (f": {value.reshape(-1)[0]:.4g}..." if value.size else "")
            for name, value in outputs.items()
        ]
        return Answer(text="; ".join(words), facts=facts, tensors=dict(outputs))

    def same(self, result: Mapping[str, Json], whole: Answer) -> bool:
        """Whether the first numbers of each output are."""
        facts = result.get("facts") or {}
        for name, right in whole.facts.items():
            said = facts.get(name) or {}
            if said.get("shape") != right["shape"]:
                return False
            reach = (right.get("max") or 0.0) - (right.get("min") or 0.0)
            for mine, theirs in zip(said.get("first", ()), right.get("first", ()), strict=False):
                if mine is None or theirs is None or abs(mine - theirs) > CLOSE * reach:
                    return False
        return True

    def _with_control(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """With ones for control that is missing, of the sizes that the data has."""
        sizes: dict[str, int] = {}
        for each in self.model.inputs:
            if each.name in found and len(found[each.name].shape) == len(each.shape):
                for size, wanted in zip(found[each.name].shape, each.shape, strict=True):
                    if isinstance(wanted, str):
                        sizes.setdefault(wanted, size)
        for each in self.model.control:
            if each.name not in found:
                shape = [
                    size if isinstance(size, int) else sizes.get(size, 1) for size in each.shape
                ]
                if math.prod(shape) <= ELEMENTS_MAX:
                    found[each.name] = np.ones(shape, each.dtype)
        return found


def arrays_in(inputs: Path) -> list[Piece]:
    """The files of a folder, in the order of their names; or one file.

    Raises:
        InputError: there is none.
    """
    if inputs.is_file():
        return [Piece(name=inputs.name, path=inputs)]
    if not inputs.is_dir():
        raise InputError(inputs, "", INPUTS_WORDS, "no such folder")
    paths = [
        path
        for path in sorted(inputs.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not 1 <= len(paths) <= FILES_MAX:
        raise InputError(inputs, "", INPUTS_WORDS, f"{len(paths)} of them")
    return [Piece(name=path.name, path=path) for path in paths]


def file_content(path: Path, most: int) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(path, "", "a file", error.strerror or "none") from None
    if len(content) > most:
        raise InputError(path, "", f"at most {most} bytes", "more")
    return content


# ---------------------------------------------------------------- private


def _arrays(source: bytes, name: object) -> dict[str, np.ndarray]:
    expected = "a .npy or .npz file"
    if not source.startswith(_MAGIC_ZIP):
        raise InputError(name, "", expected, f"{len(source)} other bytes")
    found = {}
    left = BYTES_MAX
    # Counted before the list of entries is read: each would be an object of a KB.
    if source.count(_ENTRY_ZIP) > ARRAYS_MAX:
        raise InputError(name, "", f"at most {ARRAYS_MAX} arrays", source.count(_ENTRY_ZIP))
    try:
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            entries = archive.infolist()
            if len(entries) > ARRAYS_MAX:
                raise InputError(name, "", f"at most {ARRAYS_MAX} arrays", len(entries))
            for entry in entries:
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(name, "", "arrays stored or deflated", "another packing")
                with archive.open(entry) as file:
                    content = file.read(left + 1)  # whatever the entry says of its size
                left -= len(content)
                if left < 0:
                    raise InputError(name, "", f"at most {BYTES_MAX} bytes unpacked", "more")
                found[entry.filename.removesuffix(".npy")] = _array(content, name)
    except InputError:
        raise
    except Exception as error:  # what zipfile raises at strange bytes shares no base
        raise InputError(name, "", expected, shown(str(error))) from None
    return found


def _array(content: bytes, name: object) -> np.ndarray:
    """An array from the bytes of a .npy file: numbers only, as many as there are bytes for."""
    try:
        file = io.BytesIO(content)
        version = npy.read_magic(file)
        length = 2 if version[0] == 1 else 4
        size = int.from_bytes(file.read(length), "little")
        head = file.read(size).decode("latin1")
        if version[0] not in (1, 2, 3) or not 0 < size <= _HEADER_MAX or len(head) < size:
            raise ValueError("a header that is none")
        table = ast.literal_eval(head.strip())
        dtype = np.dtype(table["descr"]) if isinstance(table["descr"], str) else None
        shape, turned = table["shape"], table["fortran_order"]
        if dtype is None or dtype.kind not in "fiub":
            raise ValueError("objects that are no numbers")
        if not isinstance(shape, tuple) or len(shape) > 16 or type(turned) is not bool:
            raise ValueError("a shape that is none")
        if not all(type(each) is int and 0 <= each <= ELEMENTS_MAX for each in shape):
            raise ValueError("a shape that is none")
        rest = content[file.tell() :]
        if math.prod(shape) * dtype.itemsize != len(rest):
            raise ValueError(f"{len(rest)} bytes for the shape {list(shape)}")
        array = np.frombuffer(rest, dtype)
        return array.reshape(shape, order="F" if turned else "C")
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError(name, "", "an array of numbers", shown(str(error))) from None


def _cast(array: np.ndarray, wanted: Handed, name: object) -> np.ndarray:
    """Numbers of the model's type, where none of them changes its meaning by it."""
    kinds = {array.dtype.kind, np.dtype(wanted.dtype).kind}
    fits = kinds <= {"f"} or kinds <= {"i", "u"} or kinds <= {"b"}
    if not fits:
        raise InputError(name, wanted.name, f"numbers of {wanted.dtype}", array.dtype.name)
    with np.errstate(over="ignore"):
        found = array.astype(wanted.dtype)
    exact = np.array_equal(found, array) if found.dtype.kind in "iu" else np.isfinite(found).all()
    if not exact:
        raise InputError(name, wanted.name, f"finite numbers of {wanted.dtype}", "others")
    return found


def _figures(value: np.ndarray) -> Json:
    numbers = value.reshape(-1)[:SHOWN_NUMBERS].astype(np.float64)
    found: dict[str, Json] = {"dtype": value.dtype.name, "shape": list(value.shape)}
    if value.size:
        wide = value.astype(np.float64)
        figures = {"min": wide.min(), "mean": wide.mean(), "max": wide.max()}
        found |= {name: _plain(number) for name, number in figures.items()}
        found["first"] = [_plain(number) for number in numbers]
    return found


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
