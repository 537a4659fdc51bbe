"""The built-in codecs: what travels between device and server in place of an fp32 activation.

`int8` keeps one scale for each row along the last axis: its largest number becomes 127. A token
takes a quarter of its fp32 bytes and four for the scale, which travels as a tensor of its own,
`tokens.scale` beside `tokens`. `fp16` halves the bytes, `fp32` changes nothing. The embedded
model sends more numbers than its image has pixels, so no codec makes an activation smaller than
the image file: a split saves the server's computing, not bandwidth.

Tensors that are not coded, or not float32, pass by as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepact.errors import InputError
from edgepact.tensors import Codec, Tensors, TensorSpec, TensorValue

SCALE = ".scale"
"""How the name of a scale ends."""

SOURCE = "activation"
"""Where numbers are said to stand that cannot be packed or unpacked."""


@dataclass(frozen=True, slots=True)
class Int8:
    r"""Sends each number as a byte, with a scale for each row.

    Each row $x$ becomes $q = \mathrm{round}(x/s)$ with $s = \max|x| / 127$, so that no number
    moves by more than $s/2$.

    Attributes:
        name: `int8`.
        tolerance: rounding is half of 1/127 = 0.004 of the largest value; the rest is for
            processors that add in another order, which can turn a value to the next step.

    Example:
        >>> spec = TensorSpec(name="tokens", datatype="FP32", shape=(1, 1, 3), coded=True)
        >>> packed = INT8.pack({"tokens": np.array([[[0.5, -1.0, 2.0]]], np.float32)}, [spec])
        >>> packed["tokens"].tolist(), packed["tokens.scale"].shape
        ([[[32, -64, 127]]], (1, 1, 1))
    """

    name: str = "int8"
    tolerance: float = 0.02

    def packed(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """See `edgepact.tensors.Codec`."""
        found: list[TensorSpec] = []
        for spec in specs:
            if not is_coded(spec):
                found.append(spec)
                continue
            found.append(replace(spec, datatype="INT8"))
            scale = (*spec.shape[:-1], 1)
            found.append(TensorSpec(name=spec.name + SCALE, datatype="FP32", shape=scale))
        return tuple(found)

    def pack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """See `edgepact.tensors.Codec`."""
        packed = dict(tensors)
        for name, x in _coded(tensors, specs):
            largest = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
            # The smallest normal number keeps x/scale finite; a row of zeros stays one of zeros.
            scale = np.maximum(largest / np.float32(127), np.finfo(np.float32).tiny)
            packed[name] = np.rint(x / scale).astype(np.int8)
            packed[name + SCALE] = scale.astype(np.float32)
        return packed

    def unpack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """See `edgepact.tensors.Codec`."""
        found = {spec.name: tensors[spec.name] for spec in specs}
        for spec in specs:
            if is_coded(spec):
                scale = np.asarray(tensors[spec.name + SCALE])
                if not ((scale > 0) & np.isfinite(scale)).all():
                    raise InputError(SOURCE, spec.name + SCALE, "finite numbers above 0", "others")
                with np.errstate(over="ignore"):
                    x = np.multiply(tensors[spec.name], scale, dtype=np.float32)
                found[spec.name] = _finite(spec.name, x)
        return found


@dataclass(frozen=True, slots=True)
class Half:
    """Sends numbers at half precision.

    Attributes:
        name: `fp16`.
        tolerance: rounding is 0.0005 of the largest value; the rest is for other processors.
    """

    name: str = "fp16"
    tolerance: float = 2e-3

    def packed(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """See `edgepact.tensors.Codec`."""
        return tuple(replace(spec, datatype="FP16") if is_coded(spec) else spec for spec in specs)

    def pack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """See `edgepact.tensors.Codec`."""
        packed = dict(tensors)
        most = float(np.finfo(np.float16).max)
        for name, x in _coded(tensors, specs):
            if x.size and float(np.abs(x).max()) > most:
                raise InputError(SOURCE, name, f"numbers up to {most:g}", "larger ones")
            packed[name] = x.astype(np.float16)
        return packed

    def unpack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """See `edgepact.tensors.Codec`."""
        return _as_float32(tensors, specs)


@dataclass(frozen=True, slots=True)
class Single:
    """Sends numbers at single precision, as they are.

    Attributes:
        name: `fp32`.
        tolerance: what another processor makes of the same sums.
    """

    name: str = "fp32"
    tolerance: float = 1e-3

    def packed(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """See `edgepact.tensors.Codec`."""
        return tuple(specs)

    def pack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """See `edgepact.tensors.Codec`."""
        return dict(tensors) | dict(_coded(tensors, specs))

    def unpack(self, tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
        """See `edgepact.tensors.Codec`."""
        return _as_float32(tensors, specs)


INT8 = Int8()
FP16 = Half()
FP32 = Single()

BUILT_IN: tuple[Codec, ...] = (INT8, FP16, FP32)
"""The favourite first."""


def is_coded(spec: TensorSpec) -> bool:
    """Whether these codecs pack a tensor."""
    return spec.coded and spec.datatype == "FP32" and len(spec.shape) > 0


def packed_bytes(tensors: Tensors) -> int:
    """Size of tensors on the link, without names and headers."""
    return sum(
        sum(map(len, value)) if isinstance(value, tuple) else value.nbytes
        for value in tensors.values()
    )


def _coded(tensors: Tensors, specs: Sequence[TensorSpec]) -> list[tuple[str, np.ndarray]]:
    """The tensors that are packed, all finite."""
    return [
        (spec.name, _finite(spec.name, np.asarray(tensors[spec.name], np.float32)))
        for spec in specs
        if is_coded(spec)
    ]


def _as_float32(tensors: Tensors, specs: Sequence[TensorSpec]) -> dict[str, TensorValue]:
    found = {spec.name: tensors[spec.name] for spec in specs}
    for spec in specs:
        if is_coded(spec):
            found[spec.name] = _finite(spec.name, np.asarray(tensors[spec.name], np.float32))
    return found


def _finite(name: str, x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise InputError(SOURCE, name, "finite numbers", "NaN or infinity")
    return x
