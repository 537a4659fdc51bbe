"""Files of numbers, of friends and of strangers."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.inference.stage_folder import Handed, StageFolder
from edgepact.jobs.staged.arrays import Arrays

MODEL = StageFolder(
    folder=Path("folder"),
    name="drawn",
    inputs=(
        Handed(name="x", dtype="float32", shape=("batch", 3)),
        Handed(name="mask", dtype="int64", shape=("batch",), control=True),
    ),
    cuts=(),
    outputs=(Handed(name="y", dtype="float32", shape=("batch", 3)),),
    macs=(0,),
)
ARRAYS = Arrays(MODEL)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_one_array_is_the_data_and_masks_are_open(dtype: object, order: str) -> None:
    x = np.asarray(np.arange(6).reshape(2, 3), dtype, order=order)  # type: ignore[call-overload]
    found = ARRAYS.tensors(npy(x))
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == x.tolist()
    assert found["mask"].tolist() == [1, 1]


def test_arrays_by_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.ones((1, 3), np.float32), mask=np.array([7]))
    (piece,) = ARRAYS.pieces(tmp_path)
    found = ARRAYS.tensors(ARRAYS.source(piece))
    assert found["mask"].tolist() == [7]


class Run:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise AssertionError('it ran')",))


def zipped(content: bytes, name: str = "x.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def listing(entries: int, packed: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of nothing but names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as archive:
        for at in range(entries):
            archive.writestr(f"{at}.npy", b"")
    return file.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"\x93NUMPY",
        pickle.dumps(Run()),
        npy(np.array([Run()], dtype=object)),
        zipped(npy(np.array([Run()], dtype=object))),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (16777216, 16777216)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}") + b"1234",
        header("__import__('os').abort()"),
        header("(" * 3000),
        npy(np.ones((1, 3), np.float32))[:-1],
        npy(np.array([["a"]])),
        npy(np.array([[1, 2, 3]])),
        npy(np.array([[1.0, np.inf, 0.0]], np.float32)),
        npy(np.array([[1.0, 1e300, 0.0]])),
        zipped(b"\0" * (65 << 20)),
        zipped(npy(np.ones(3, np.float32)), "other.npy"),
        listing(3000),
        listing(1, zipfile.ZIP_LZMA),
    ],
    ids=lambda content: f"{len(content)} bytes",  # archives hold the time of day
)
def test_what_is_no_array_of_numbers_is_an_error_and_runs_nothing(content: bytes) -> None:
    with pytest.raises(InputError):
        ARRAYS.tensors(content, name="sent")


def test_a_list_of_entries_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = listing(65)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(InputError, match="at most 64 arrays, found 65"):
        ARRAYS.tensors(content, name="sent")
