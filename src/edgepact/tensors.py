"""Named tensors as they cross a wire, and what a model says of them.

Below the market and the jobs, since both speak of them. NumPy and the standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DATATYPES: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("<i1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
}
"""Numeric data types of the Open Inference Protocol that are used here; `BYTES` comes on top."""

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
