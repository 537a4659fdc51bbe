"""Named tensors, and how they travel: what a model says of them, and the seam of the codecs.

Below the market and the jobs, since both speak of them. NumPy and the standard library only.

A codec is named in the offer and in each request. The built-in ones stand in
`edgepact.inference.codecs`; others are found through the entry points `edgepact.codecs`. Only
tensors whose spec says so (`TensorSpec.coded`) go through a codec: an image file, token ids or
probabilities pass by as they are. A request that names no codec is read by the one whose packed
tensors these are, so that any client of the protocol can send one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

DATATYPES: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("<i1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
}
"""Numeric data types of the Open Inference Protocol that are used here; `BYTES` comes on top."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}

ANY = -1
"""A dimension that a tensor may have at any length, in a `TensorSpec`."""

TensorValue = np.ndarray[Any, np.dtype[Any]] | tuple[bytes, ...]
"""A tensor as the program holds it: a NumPy array, or the elements of a BYTES tensor."""

Tensors = Mapping[str, TensorValue]
"""What travels in one exchange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor of a model.

    Attributes:
        name: its name.
        datatype: one of `DATATYPES`, or `BYTES`.
        shape: its dimensions; `ANY` where a length is free.
        coded: whether a codec packs it on its way: activations are, results are not.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    coded: bool = False

    def as_json(self) -> dict[str, object]:
        """The entry in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def bytes_of(tensors: Tensors) -> int:
    """How many bytes the values of tensors have."""
    return sum(
        value.nbytes if isinstance(value, np.ndarray) else sum(map(len, value))
        for value in tensors.values()
    )


def as_bytes(tensors: Tensors) -> bytes:
    """Named tensors in one piece, in the order of their names: for evidence and digests.

    Raises:
        KeyError: an array's data type is none of `DATATYPES`.
    """
    entries: list[tuple[str, str, list[int]]] = []
    chunks: list[bytes] = []
    for name in sorted(tensors):
        value = tensors[name]
        if isinstance(value, tuple):
            chunk = b"".join(len(item).to_bytes(4, "little") + item for item in value)
            entries.append((name, "BYTES", [len(value)]))
        else:
            datatype = datatype_of(value)
            chunk = np.ascontiguousarray(value, DATATYPES[datatype]).tobytes()
            entries.append((name, datatype, list(value.shape)))
        chunks.append(chunk)
    head = json.dumps(entries).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *chunks])


def from_bytes(content: bytes) -> dict[str, TensorValue]:
    """What `as_bytes` made; of one's own making, so that nothing is checked."""
    start = 4 + int.from_bytes(content[:4], "little")
    tensors: dict[str, TensorValue] = {}
    for name, datatype, shape in json.loads(content[4:start]):
        if datatype == "BYTES":
            items: list[bytes] = []
            for _ in range(shape[0]):
                end = start + 4 + int.from_bytes(content[start : start + 4], "little")
                items.append(content[start + 4 : end])
                start = end
            tensors[name] = tuple(items)
        else:
            dtype, count = DATATYPES[datatype], math.prod(shape)
            array = np.frombuffer(content, dtype, count, start).reshape(shape)
            start += array.nbytes
            tensors[name] = array
    return tensors


def datatype_of(value: TensorValue) -> str:
    """The protocol's name of a tensor's type; `unknown` for one it has not."""
    if isinstance(value, tuple):
        return "BYTES"
    return _NAMES.get(value.dtype, "unknown")


def is_finite(value: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether all numbers of an array are finite; of half precision by its bits, which takes a
    tenth of the time."""
    if value.dtype == DATATYPES["FP16"]:
        largest = (value.view(np.uint16) & np.uint16(0x7FFF)).max(initial=0)  # without its sign
        return bool(largest < 0x7C00)
    return bool(np.isfinite(value).all())


@runtime_checkable
class Codec(Protocol):
    """Packs named float32 tensors, and unpacks what came."""

    @property
    def name(self) -> str:
        """As offers and requests spell it."""
        ...

    @property
    def tolerance(self) -> float:
        """Largest difference between what came and what was packed, as a share of the largest
        absolute value along the last axis: the codec's own error, and what another processor makes
        of the same sum. A job's audit that knows nothing better accepts as much."""
        ...

    def packed(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What tensors of these specs look like on the wire; those not coded stay as they are."""
        ...

    def pack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """The tensors as they travel.

        Raises:
            InputError: a tensor holds what the codec cannot express.
        """
        ...

    def unpack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """What `pack` made, float32 again. Names, types and shapes have been held against
        `packed(specs)`; the numbers have not.

        Raises:
            InputError: numbers that no tensor packs to.
        """
        ...
