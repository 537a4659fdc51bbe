"""Files of weights that claim much: refused by name, before memory or time are spent on them."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import InputError
from edgepact.inference.checkpoints.stored import HEADER_BYTES_MAX, TENSORS_MAX, Tensors

NOTHING = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def write(folder: Path, header: Any, rest: bytes = b"") -> Path:
    """A folder with a crafted file."""
    head = json.dumps(header, separators=(",", ":")).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + rest)
    return folder


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [1] * 100])
def test_a_shape_that_no_array_has_is_named(tmp_path: Path, shape: list[int]) -> None:
    size = 4 * (0 not in shape)
    header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    with pytest.raises(InputError, match="a: expected a shape that an array can have"):
        Tensors(write(tmp_path, header, bytes(size)))


def test_more_tensors_than_any_model_has_are_refused(tmp_path: Path) -> None:
    header = {f"{at}": NOTHING for at in range(TENSORS_MAX + 1)}
    with pytest.raises(InputError, match=f"header: expected at most {TENSORS_MAX} tensors"):
        Tensors(write(tmp_path, header))


def test_a_long_header_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors

    write(tmp_path, {"__metadata__": {"a": "x" * HEADER_BYTES_MAX}})
    monkeypatch.setattr(safetensors, "safe_open", None)
    with pytest.raises(InputError, match=f"header: expected at most {HEADER_BYTES_MAX} bytes"):
        Tensors(tmp_path)
