"""Heads of GGUF files that claim much: what is parsed is bounded; numbers stay where they are."""

import struct
from pathlib import Path

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.inference.gguf.file import HEAD_BYTES_MAX, ITEMS_MAX, read_gguf
from tests.memory import most_bytes

TEXT, BYTES, LIST, FLOATS = 8, 0, 9, 6


def text(said: str) -> bytes:
    """A text, as a file has it."""
    return struct.pack("<Q", len(said)) + said.encode()


def listed(name: str, kind: int, count: int, content: bytes) -> bytes:
    """A list of the metadata."""
    return text(name) + struct.pack("<IIQ", LIST, kind, count) + content


def write(folder: Path, *facts: bytes) -> Path:
    """A file of facts and of no tensors."""
    path = folder / "crafted.gguf"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(facts))
    path.write_bytes(head + b"".join(facts))
    return path


def test_lists_of_numbers_cost_no_memory(tmp_path: Path) -> None:
    each = 4 * ITEMS_MAX
    content = np.arange(ITEMS_MAX, dtype="<f4").tobytes()
    count = HEAD_BYTES_MAX // each - 1
    path = write(tmp_path, *(listed(f"n{at}", FLOATS, ITEMS_MAX, content) for at in range(count)))
    file = read_gguf(path)
    assert len(file.facts) == count >= 5
    assert np.array_equal(file.facts["n0"], np.arange(ITEMS_MAX))
    assert most_bytes(lambda: read_gguf(path)) < 1_000_000


def test_truth_values_are_read(tmp_path: Path) -> None:
    file = read_gguf(write(tmp_path, listed("t", 7, 3, b"\0\1\2")))
    assert np.array_equal(file.facts["t"], [False, True, True])


def test_texts_of_all_lists_are_counted_together(tmp_path: Path) -> None:
    half = ITEMS_MAX // 2 + 1
    some = listed("a", TEXT, half, bytes(8 * half))
    path = write(tmp_path, some, listed("b", TEXT, half, b""))
    with pytest.raises(InputError, match=f"b: expected at most {ITEMS_MAX} texts in all lists"):
        read_gguf(path)


def test_a_list_says_how_long_it_may_be(tmp_path: Path) -> None:
    path = write(tmp_path, listed("a", BYTES, ITEMS_MAX + 1, b""))
    with pytest.raises(InputError, match=f"a: expected at most {ITEMS_MAX}"):
        read_gguf(path)


def test_a_head_says_how_long_it_may_be(tmp_path: Path) -> None:
    """Bytes before the tensors, of which the file has enough."""
    long = "x" * (1 << 20)
    path = write(
        tmp_path, *(text(f"t{at}") + struct.pack("<I", TEXT) + text(long) for at in range(33))
    )
    with pytest.raises(InputError, match=f"at most {HEAD_BYTES_MAX} bytes before the tensors"):
        read_gguf(path)


def test_a_list_where_a_number_belongs_is_refused(tmp_path: Path) -> None:
    file = read_gguf(write(tmp_path, listed("n", BYTES, 3, b"\0\1\2")))
    with pytest.raises(
        InputError, match="n: expected a whole number from 0 to 9, found a list of numbers"
    ):
        file.whole("n", least=0, most=9)
    with pytest.raises(InputError, match="n: expected a list of texts, found a list of numbers"):
        file.texts("n")
