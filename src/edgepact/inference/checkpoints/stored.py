"""Named tensors of a checkpoint, read where they lie: safetensors, in one file or in several.

The library `safetensors` checks a file's header (offsets that overlap, reach beyond the end or
leave holes) when it is opened; the tensors are then views of the file, so that a checkpoint of any
size takes no memory of its own. Pickled checkpoints are not read: unpickling runs their code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, MissingExtraError, shown

SINGLE = ("model.safetensors", "open_clip_model.safetensors")
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "open_clip_pytorch_model.bin")

TENSORS_MAX = 20_000
FILES_MAX = 100
HEADER_BYTES_MAX = 2**24

KINDS: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}
"""How tensors are stored that are read here; NumPy has no bfloat16, whose bits are kept."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a checkpoint.

    Attributes:
        values: a view of the file; of bfloat16 its bits.
        kind: one of `KINDS`.
    """

    values: np.ndarray
    kind: str

    def floats(self) -> np.ndarray:
        """The numbers in single precision, in memory of their own unless they are stored so."""
        if self.kind == "BF16":
            return (self.values.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(self.values, np.float32)


class Tensors:
    """The tensors of a checkpoint's folder, asked for by name and shape.

    Args:
        folder: with `model.safetensors`, or the files that `model.safetensors.index.json` names.

    Raises:
        InputError: there is none, or a file is damaged.
        MissingExtraError: the library `safetensors` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, Stored] = {}
        for path in _files(folder):
            self._found |= _opened(path)
            if len(self._found) > TENSORS_MAX:
                raise InputError(path, "", f"at most {TENSORS_MAX} tensors", len(self._found))

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def of(self, name: str, *shape: int) -> Stored:
        """A tensor of this shape; of one number, whatever its dimensions.

        Raises:
            InputError: there is none, or it has another shape or kind.
        """
        expected = f"a tensor of shape {list(shape)}" if shape else "a tensor of one number"
        found = self._found.get(name)
        if found is None:
            raise InputError(self._folder, name, expected, "no such tensor")
        fits = found.values.shape == shape if shape else found.values.size == 1
        if not fits or found.kind == "I64":
            told = f"{found.kind} of shape {list(found.values.shape)}"
            raise InputError(self._folder, name, expected, told)
        return found

    def number(self, name: str) -> float:
        """A tensor of one number, as one.

        Raises:
            InputError: as `of`; or it is not finite.
        """
        number = float(self.of(name).floats().reshape(()))
        if not np.isfinite(number):
            raise InputError(self._folder, name, "a finite number", number)
        return number


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint's folder, at most `HEADER_BYTES_MAX` long.

    Raises:
        InputError: there is no such file, or it is no JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(HEADER_BYTES_MAX + 1)
        if len(content) > HEADER_BYTES_MAX:
            raise InputError(path, "", f"at most {HEADER_BYTES_MAX} bytes", "more")
        table = json.loads(content)
    except OSError as error:
        raise InputError(path, "", "a JSON file", error.strerror or "nothing") from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, "", "JSON", str(error)[:200]) from None
    if not isinstance(table, dict):
        raise InputError(path, "", "a JSON object", shown(table))
    return table


# ---------------------------------------------------------------- private


def _files(folder: Path) -> list[Path]:
    for name in SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    if (folder / INDEX).is_file():
        return _indexed(folder)
    expected = f"{' or '.join((*SINGLE, INDEX))} in it"
    for name in PICKLED:
        if (folder / name).is_file():
            found = f"only {name}, which is pickled: save it as safetensors with its library"
            raise InputError(folder, "", expected, found)
    raise InputError(folder, "", expected, "none" if folder.is_dir() else "no such folder")


def _indexed(folder: Path) -> list[Path]:
    path = folder / INDEX
    table = read_json(path).get("weight_map")
    expected = f"1 to {FILES_MAX} files of the folder"
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise InputError(path, "weight_map", expected, shown(table))
    names = sorted(set(table.values()))
    if not 1 <= len(names) <= FILES_MAX or any(Path(name).name != name for name in names):
        raise InputError(path, "weight_map", expected, shown(names))
    return [folder / name for name in names]


def _opened(path: Path) -> dict[str, Stored]:
    try:
        import safetensors
    except ImportError:
        raise MissingExtraError("reading a checkpoint", "clip") from None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_BYTES_MAX:
                raise InputError(path, "header", f"at most {HEADER_BYTES_MAX} bytes", length)
            with safetensors.safe_open(path, framework="numpy"):  # checks the header
                pass
            header: dict[str, Any] = json.loads(file.read(length))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(path, "", "a safetensors file", why) from None
    if len(header) > TENSORS_MAX:
        raise InputError(path, "header", f"at most {TENSORS_MAX} tensors", len(header))
    whole = np.memmap(path, np.uint8, "r")
    found = {}
    for name, about in header.items():
        if name == "__metadata__" or about["dtype"] not in KINDS:
            continue
        start, stop = (8 + length + offset for offset in about["data_offsets"])
        # A view of raw bytes: a tensor need not begin at a multiple of its numbers' size.
        values = np.frombuffer(whole, np.uint8, stop - start, start) if stop > start else whole[:0]
        kind = about["dtype"]
        try:
            shaped = values.view(KINDS[kind]).reshape(about["shape"])
        except (ValueError, OverflowError):  # more dimensions, or larger ones, than arrays have
            shape = shown(about["shape"])
            raise InputError(path, name, "a shape that an array can have", shape) from None
        found[name] = Stored(shaped, kind)
    return found
