"""Weights of PyTorch's older format: what it may hold, and that nothing of it is run."""

import collections
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.inference.checkpoints.torch_file import MAGIC, PROTOCOL, read_torch_file

NAMES = {
    "tensor": "torch._utils _rebuild_tensor_v2",
    "floats": "torch FloatStorage",
    "longs": "torch LongStorage",
    "dict": "collections OrderedDict",
}


class Global:
    """Stands in a pickle for a name of another module."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Stands in a pickle for a call of a name."""

    def __init__(self, name: Global, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments


class Stored:
    """Stands in a pickle for a storage."""

    def __init__(self, *described: Any) -> None:
        self.described = described


PythonPickler: Any = vars(pickle)["_Pickler"]


class Writer(PythonPickler):  # type: ignore[misc]
    """Writes names without looking them up, as PyTorch's own files have them."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(obj, Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.name)
            self.save(obj.arguments)
            self.write(b"R")
        elif isinstance(obj, Stored):
            self.save(obj.described)
            self.write(b"Q")
        else:
            return super().save(obj, save_persistent_id)
        return None


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    Writer(file, 2).dump(value)
    return file.getvalue()


TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
DICT = Global("collections", "OrderedDict")
FLOATS = Global("torch", "FloatStorage")
ABOUT = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}


def tensor(
    key: str, count: int, shape: tuple[int, ...], strides: Any = None, start: int = 0
) -> Call:
    steps = strides
    if steps is None:
        steps = tuple(int(np.prod(shape[at + 1 :])) for at in range(len(shape)))
    storage = Stored("storage", FLOATS, key, "cpu", count, None)
    return Call(TENSOR, storage, start, shape, steps, False, Call(DICT))


def file_of(
    path: Path, table: Any, numbers: dict[str, np.ndarray], *, magic: int = MAGIC, tail: bytes = b""
) -> Path:
    parts = [pickled(each) for each in (magic, PROTOCOL, ABOUT, table, list(numbers))]
    for each in numbers.values():
        parts += [struct.pack("<q", each.size), each.astype("<f4").tobytes()]
    path.write_bytes(b"".join(parts) + tail)
    return path


def test_tensors_come_out_by_name_and_views_as_views(tmp_path: Path) -> None:
    numbers = np.arange(24, dtype=np.float32)
    table = {
        "whole": tensor("1", 24, (2, 3, 4)),
        "turned": tensor("1", 24, (4, 6), (1, 4)),
        "part": tensor("1", 24, (5,), start=7),
        "scalar": tensor("2", 1, ()),
    }
    path = file_of(tmp_path / "a.pth", table, {"1": numbers, "2": np.array([7.0])})
    found = read_torch_file(path)
    assert np.array_equal(found["whole"], numbers.reshape(2, 3, 4))
    assert np.array_equal(found["turned"], numbers.reshape(6, 4).T)
    assert np.array_equal(found["part"], numbers[7:12])
    assert found["scalar"] == 7.0


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise AssertionError('it ran')",))


ONE = {"1": np.zeros(4, np.float32)}


@pytest.mark.parametrize(
    "table",
    [
        Runs(),
        {"a": Runs()},
        {"a": Call(Global("os", "system"), "true")},
        {"a": Call(Global("builtins", "eval"), "1")},
        {"a": Call(DICT, [("b", 1)])},
        {"a": FLOATS},
        {"a": 1},
        {1: tensor("1", 4, (4,))},
        [tensor("1", 4, (4,))],
        {"a": tensor("1", 4, (5,))},
        {"a": tensor("1", 4, (4,), start=1)},
        {"a": tensor("1", 4, (4,), (-1,))},
        {"a": tensor("1", 4, (2**40, 2**40), (0, 0))},
        {"a": tensor("1", 4, (2**20, 4), (0, 1))},
        {"a": tensor("1", 4, (4,), start=-1)},
        {"a": tensor("1", 4, (4,), (1, 1))},
        {"a": tensor("1", 5, (4,))},
        {"a": tensor("2", 4, (4,))},
        {"a": Call(TENSOR, "storage", 0, (4,), (1,), False, None)},
        {"a": Call(TENSOR, Stored("storage", Global("torch", "Other"), "1", "cpu", 4, None), 0)},
        {"a": collections.Counter()},
        {"a": b"bytes"},
    ],
    ids=lambda table: str(type(table)),
)
def test_anything_else_is_an_error_and_runs_nothing(tmp_path: Path, table: Any) -> None:
    path = file_of(tmp_path / "a.pth", table, ONE)
    with pytest.raises(InputError, match=r"a\.pth: expected a \.pth file of tensors"):
        read_torch_file(path)


# As a pickle's instructions: a tuple 200,000 levels deep, and one that holds itself 2**40 times.
DEEP = b")" + b"\x85" * 200_000
WIDE = b"NN\x86q\x00" + b"h\x00h\x00\x86q\x00" * 40
WIDE_TOO = b"NN\x86q\x01" + b"h\x01h\x01\x86q\x01" * 40


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        (b"}" + DEEP + b"Ns.", b"]."),
        (b"}" + WIDE + b"Ns.", b"]."),
        (b"}(" + WIDE + b"Nu.", b"]."),
        (b"}.", b"](" + WIDE + WIDE_TOO + b"e."),
        (b"}.", b"](" + DEEP + b"e."),
    ],
    ids=["deep key", "wide key", "wide key of many", "wide storages", "deep storage"],
)
def test_tuples_without_end_cost_neither_time_nor_the_process(
    tmp_path: Path, table: bytes, keys: bytes
) -> None:
    path = tmp_path / "a.pth"
    head = b"".join(pickled(each) for each in (MAGIC, PROTOCOL, ABOUT))
    path.write_bytes(head + b"\x80\x02" + table + b"\x80\x02" + keys)
    with pytest.raises(InputError, match=r"a\.pth: expected a \.pth file of tensors"):
        read_torch_file(path)


@pytest.mark.parametrize("change", [{"magic": 5}, {"tail": b"0"}])
def test_another_format_or_more_behind_it_is_an_error(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = file_of(tmp_path / "a.pth", {"a": tensor("1", 4, (4,))}, ONE, **change)
    with pytest.raises(InputError):
        read_torch_file(path)


@given(data=st.data())
def test_bytes_that_were_changed_are_tensors_or_an_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("changed") / "a.pth"
    content = bytearray(file_of(place, {"a": tensor("1", 4, (2, 2))}, ONE).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_torch_file(place)
    except InputError:
        return
    assert all(isinstance(each, np.ndarray) for each in found.values())
