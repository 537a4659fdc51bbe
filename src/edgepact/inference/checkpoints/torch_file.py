"""Weights in a file of PyTorch's older format, read without PyTorch, and without running anything.

Such a `.pth` is a row of pickles with the numbers behind them, and a pickle is a program: reading
it as Python does may call anything. Here it is no program. The few instructions that a dictionary
of tensors is written in are carried out by hand (`pickletools` only tells them apart), names stand
for themselves, nothing is imported, and any other instruction or name ends it. What PyTorch's
`weights_only=True` lets through of such a file is what comes out.
"""

import io
import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, shown

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

BYTES_MAX = 1 << 30
INSTRUCTIONS_MAX = 1_000_000
TENSORS_MAX = 10_000
DIMENSIONS_MAX = 8

_EXPECTED = "a .pth file of tensors in PyTorch's format of before 1.6"

_STORAGES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_DICT = "collections OrderedDict"


class _Refused(Exception):
    """Why a file is not read."""


class _Name(str):
    """A name that the pickle mentions; nothing of it is looked up."""


class _Storage:
    """Numbers that stand at the end of the file."""

    def __init__(self, key: str, dtype: np.dtype[Any], count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count


class _Tensor:
    """A view of a storage."""

    def __init__(
        self, storage: _Storage, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self.storage, self.start = storage, start
        self.shape, self.strides = shape, strides


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file, by name.

    Args:
        path: a dictionary of tensors, as `torch.save` wrote it before PyTorch 1.6.

    Raises:
        InputError: it is no such file, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise InputError(path, "", _EXPECTED, error.strerror or "none") from None
    if len(content) > BYTES_MAX:
        raise InputError(path, "", f"at most {BYTES_MAX} bytes", "more")
    try:
        return _tensors(io.BytesIO(content), content)
    # What pickletools raises at strange bytes shares no base.
    except Exception as error:
        raise InputError(path, "", _EXPECTED, shown(str(error))) from None


# ---------------------------------------------------------------- private


def _tensors(file: io.BytesIO, content: bytes) -> dict[str, np.ndarray]:
    if _carried_out(file) != MAGIC or _carried_out(file) != PROTOCOL:
        raise _Refused("another format")
    about = _carried_out(file)
    if not isinstance(about, dict) or about.get("little_endian") is not True:
        raise _Refused("numbers in another order")
    table, keys = _carried_out(file), _carried_out(file)
    if not isinstance(table, dict) or not isinstance(keys, list) or len(table) > TENSORS_MAX:
        raise _Refused("no dictionary of tensors")
    # Anything else is not compared: tuples may hold each other without end in sight.
    if not all(isinstance(key, str) for key in keys):
        raise _Refused("storages without a name")
    storages: dict[str, _Storage] = {}
    for name, value in table.items():
        if not isinstance(value, _Tensor):
            raise _Refused(f"{name}, which is no tensor")
        known = storages.setdefault(value.storage.key, value.storage)
        if (known.dtype, known.count) != (value.storage.dtype, value.storage.count):
            raise _Refused(f"{name}: one storage of two sizes")
    if sorted(storages) != sorted(keys):
        raise _Refused("other storages than it names")
    numbers = {}
    place = file.tell()
    for key in keys:
        storage = storages[key]
        (count,) = np.frombuffer(content, "<i8", 1, place)
        if count != storage.count:
            raise _Refused("a storage of another size")
        numbers[key] = np.frombuffer(content, storage.dtype, storage.count, place + 8)
        place += 8 + storage.count * storage.dtype.itemsize
    if place != len(content):
        raise _Refused("further bytes behind the numbers")
    return {name: _view(value, numbers[value.storage.key]) for name, value in table.items()}


def _view(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    size = math.prod(tensor.shape)
    if size == 0:
        return np.zeros(tensor.shape, numbers.dtype)
    pairs = list(zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.start + sum((side - 1) * stride for side, stride in pairs)
    if last >= len(numbers) or size > len(numbers):
        raise _Refused("a tensor beyond its storage")
    steps = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.start :], tensor.shape, steps, writeable=False
    )


def _carried_out(file: io.BytesIO) -> Any:
    """What one pickle describes."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    for done, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if done > INSTRUCTIONS_MAX:
            raise _Refused("too many instructions")
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                (found,) = stack
                return found
            case "MARK":
                marks.append(len(stack))
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(instruction.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "BINPUT" | "LONG_BINPUT":
                memo[int(argument or 0)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument or 0)])
            case "SETITEM":
                key, value = stack[-2:]
                del stack[-2:]
                _set(stack[-1], [key, value])
            case "SETITEMS":
                pairs = pop_to_mark()
                _set(stack[-1], pairs)
            case "APPENDS":
                found = pop_to_mark()
                if not isinstance(stack[-1], list):
                    raise _Refused("a list that is none")
                stack[-1].extend(found)
            case "GLOBAL":
                if argument not in (_TENSOR, _DICT, *_STORAGES):
                    raise _Refused(f"the name {argument}")
                stack.append(_Name(argument))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                stack.append(_made(name, arguments))
            case "BUILD":
                stack.pop()  # attributes of a dictionary, which nobody asks for
                if not isinstance(stack[-1], dict):
                    raise _Refused("attributes of what is no dictionary")
            case other:
                raise _Refused(f"the instruction {other}")
    raise _Refused("no end")


def _set(table: Any, pairs: list[Any]) -> None:
    if not isinstance(table, dict) or len(pairs) % 2:
        raise _Refused("a dictionary that is none")
    # A tuple of tuples of a million levels cannot be hashed, nor one that holds itself 2**40 times.
    if not all(isinstance(key, str) for key in pairs[::2]):
        raise _Refused("a key that is no text")
    table.update(zip(pairs[::2], pairs[1::2], strict=True))


def _storage(described: Any) -> _Storage:
    kind, name, key, place, count, view = described
    dtype = _STORAGES.get(name) if isinstance(name, _Name) else None
    if kind != "storage" or dtype is None or view is not None:
        raise _Refused("a storage of another kind")
    if not isinstance(key, str) or not isinstance(place, str):
        raise _Refused("a storage of another kind")
    if type(count) is not int or not 0 <= count <= BYTES_MAX:
        raise _Refused("a storage without a size")
    return _Storage(key, dtype, count)


def _made(name: Any, arguments: Any) -> dict[Any, Any] | _Tensor:
    if isinstance(name, _Name) and name == _DICT and arguments == ():
        return {}
    if not isinstance(name, _Name) or name != _TENSOR:
        raise _Refused("a call")
    storage, start, shape, strides, *_ = arguments
    if not isinstance(storage, _Storage) or type(start) is not int or start < 0:
        raise _Refused("a tensor without numbers")
    if not isinstance(shape, tuple) or len(shape) > DIMENSIONS_MAX:
        raise _Refused("a tensor without a shape")
    if not isinstance(strides, tuple) or len(strides) != len(shape):
        raise _Refused("a tensor without a shape")
    if not all(type(size) is int and 0 <= size <= BYTES_MAX for size in (*shape, *strides)):
        raise _Refused("a tensor without a shape")
    return _Tensor(storage, start, shape, strides)
