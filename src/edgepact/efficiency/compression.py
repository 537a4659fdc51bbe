r"""What an update weighs on the wire, and what is lost by making it lighter.

Top-k keeps the largest entries; QSGD (Alistarh et al., 2017, arXiv 1610.02132) and
int8 spend fewer bits on each. A payload is outside data: `decode` accepts nothing
that is not exactly a message of its own compressor and of the expected size.
"""

import math
import struct
import time
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgepact.errors import InputError

Vector = NDArray[np.float32]

_HEADER = struct.Struct("<2sBBI")
_MAGIC, _VERSION = b"EC", 1
_IDENTITY, _INT8, _QSGD, _SPARSE = range(4)
_INDICES = struct.Struct("<IB")
_LARGEST = float(np.finfo(np.float32).max)
MAX_SIZE = 1 << 30
"""Entries of the longest vector that is encoded or decoded."""


@runtime_checkable
class Compressor(Protocol):
    """A float32 vector to bytes and back; `decode` raises InputError on a bad payload."""

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """The message of a finite vector [n]; `rng` feeds stochastic rounding."""
        ...

    def decode(self, payload: bytes, size: int) -> Vector:
        """The finite vector [size] a message stands for."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Every entry as float32."""

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Four bytes an entry."""
        vector = _checked(vector)
        return _header(_IDENTITY, vector.size) + vector.astype("<f4").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        """The same entries [size]."""
        body = _body(payload, _IDENTITY, size)
        _expect_length(body, 4 * size)
        return _finite(np.frombuffer(body, "<f4").astype(np.float32))


@dataclass(frozen=True, slots=True)
class Int8:
    """One signed byte an entry and one float32 scale a block.

    Attributes:
        block: entries that share a scale.
        stochastic: round at random, without bias, instead of to the nearest.
    """

    block: int = 256
    stochastic: bool = False

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InputError("int8", "block", "a whole number above 0", self.block)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Scales, then codes in -127 to 127."""
        vector = _checked(vector)
        starts = np.arange(0, vector.size, self.block)
        largest = np.maximum.reduceat(np.abs(vector), starts) if vector.size else vector
        scales = (largest.astype(np.float64) / 127).astype("<f4")
        spread = np.repeat(scales.astype(np.float64), min(self.block, vector.size))[: vector.size]
        steps = np.divide(vector, spread, out=np.zeros(vector.size), where=spread > 0)
        rounded = np.floor(steps + rng.random(vector.size)) if self.stochastic else np.rint(steps)
        codes = np.clip(rounded, -127, 127).astype(np.int8)
        return _header(_INT8, vector.size) + scales.tobytes() + codes.tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        """Code times scale [size]."""
        body = _body(payload, _INT8, size)
        blocks = -(-size // self.block)
        _expect_length(body, 4 * blocks + size)
        scales = _finite(np.frombuffer(body, "<f4", blocks).astype(np.float32))
        codes = np.frombuffer(body, np.int8, size, 4 * blocks)
        if (scales < 0).any() or (codes == -128).any():
            raise InputError("update", "int8", "scales from 0 and codes from -127", "others")
        values = codes * np.repeat(scales.astype(np.float64), min(self.block, size or 1))[:size]
        return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


@dataclass(frozen=True, slots=True)
class QSGD:
    r"""Unbiased random rounding of $|v_i|/\|v\|$ to multiples of $1/s$.

    $E\|Q(v)-v\|^2 \le \min(n/s^2, \sqrt n/s)\,\|v\|^2$ (Alistarh et al., 2017, lemma 3.1).

    Attributes:
        levels: $s$, from 1 to 32767.
    """

    levels: int

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 32767:
            raise InputError("qsgd", "levels", "a whole number from 1 to 32767", self.levels)

    @property
    def _width(self) -> int:
        return self.levels.bit_length() + 1

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """The norm, then sign and level of each entry, bit-packed."""
        vector = _checked(vector)
        norm = float(np.linalg.norm(vector.astype(np.float64)))
        if norm > _LARGEST / 2:
            raise InputError("update", "norm", "a norm that float32 can hold", norm)
        # Rounded up, or the largest level of a vector with one entry would be exceeded.
        stored = np.nextafter(np.float32(norm), np.float32(np.inf)) if norm else np.float32(0)
        share = np.abs(vector.astype(np.float64)) / (float(stored) or 1.0)
        level = np.floor(share * self.levels + rng.random(vector.size)).astype(np.int64)
        codes = 2 * np.minimum(level, self.levels) + (vector < 0)
        head = struct.pack("<fH", stored, self.levels)
        return _header(_QSGD, vector.size) + head + _pack(codes, self._width)

    def decode(self, payload: bytes, size: int) -> Vector:
        """Sign times level times norm over levels [size]."""
        body = _body(payload, _QSGD, size)
        _expect_length(body, 6 + _packed_bytes(size, self._width))
        norm, levels = struct.unpack_from("<fH", body)
        if levels != self.levels or not 0 <= norm < math.inf:
            raise InputError("update", "qsgd", f"{self.levels} levels and a finite norm", "others")
        codes = _unpack(body[6:], size, self._width)
        level = codes >> 1
        if (level > self.levels).any():
            raise InputError("update", "level", f"at most {self.levels}", int(level.max()))
        return ((1 - 2 * (codes & 1)) * level * (norm / self.levels)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TopK:
    """The largest entries by magnitude, exactly; the others become 0.

    Attributes:
        kept: fraction of entries kept, in (0, 1]; their number is rounded up.
    """

    kept: float

    def __post_init__(self) -> None:
        _check_fraction("kept", self.kept)

    def count(self, size: int) -> int:
        """Entries kept of `size`."""
        return min(size, math.ceil(self.kept * size))

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Positions, then values as float32."""
        return Composed(self, Identity()).encode(vector, rng)

    def decode(self, payload: bytes, size: int) -> Vector:
        """The kept entries at their places [size]."""
        return Composed(self, Identity()).decode(payload, size)


@dataclass(frozen=True, slots=True)
class Composed:
    """Top-k, then another compressor on the kept values.

    Attributes:
        select: which entries are kept.
        values: how their values are written.
    """

    select: TopK
    values: Identity | Int8 | QSGD

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Positions as a bitmap or as gaps, whichever is smaller, then the values."""
        vector = _checked(vector)
        count = self.select.count(vector.size)
        places = np.sort(np.argpartition(-np.abs(vector), max(count - 1, 0))[:count])
        values = self.values.encode(vector[places], rng)
        return _header(_SPARSE, vector.size) + _pack_places(places, vector.size) + values

    def decode(self, payload: bytes, size: int) -> Vector:
        """The kept entries at their places [size]."""
        body = _body(payload, _SPARSE, size)
        places, rest = _unpack_places(body, size, self.select.count(size))
        vector = np.zeros(size, np.float32)
        vector[places] = self.values.decode(rest, len(places))
        return vector


def at_rate(rate: float) -> Compressor:
    """The compressor of a contract's rate: a share of the bytes of float32, in (0, 1].

    A message of n entries has at most `4 n rate + 64` bytes. The fraction kept never
    falls as the rate rises. Kept values are int8; a rate of 1 sends float32.
    """
    _check_fraction("rate", rate)
    if rate == 1:
        return Identity()
    value = 1 + 4 / 256
    # A position costs at most 4 bytes as a gap, or all together one bit an entry.
    kept = max(4 * rate / (4 + value), (4 * rate - 1 / 8) / value)
    return Int8() if 4 * rate >= value else Composed(TopK(min(kept, 1.0)), Int8())


def with_error_feedback(
    compressor: Compressor, vector: Vector, residual: Vector, rng: np.random.Generator
) -> tuple[bytes, Vector]:
    """The message of `vector + residual`, and what it leaves for the next round [n]."""
    if vector.shape != residual.shape:
        raise InputError("update", "residual", f"shape {vector.shape}", residual.shape)
    wanted = vector + residual
    payload = compressor.encode(wanted, rng)
    return payload, wanted - compressor.decode(payload, wanted.size)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Bytes of a message, seconds to encode and decode it, and ||v - C(v)|| / ||v||."""

    bytes: int
    seconds: float
    relative_error: float


def measure(compressor: Compressor, vector: Vector, rng: np.random.Generator) -> Measurement:
    """What one message of `vector` [n] costs and loses."""
    start = time.perf_counter()
    payload = compressor.encode(vector, rng)
    decoded = compressor.decode(payload, vector.size)
    seconds = time.perf_counter() - start
    exact = vector.astype(np.float64)
    norm = float(np.linalg.norm(exact))
    error = float(np.linalg.norm(exact - decoded)) / norm if norm else 0.0
    return Measurement(len(payload), seconds, error)


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise InputError("compression", name, "a number above 0 and at most 1", value)


def _checked(vector: Vector) -> Vector:
    if vector.ndim != 1 or vector.dtype != np.float32 or not 0 < vector.size <= MAX_SIZE:
        found = f"{vector.dtype} {vector.shape}"
        raise InputError("update", "vector", "a float32 vector of 1 entry or more", found)
    return _finite(vector)


def _finite(values: Vector) -> Vector:
    if not np.isfinite(values).all():
        raise InputError("update", "values", "finite numbers", "NaN or infinity")
    return values


def _header(kind: int, size: int) -> bytes:
    return _HEADER.pack(_MAGIC, _VERSION, kind, size)


def _body(payload: bytes, kind: int, size: int) -> bytes:
    if not 0 < size <= MAX_SIZE:
        raise InputError("update", "size", f"1 to {MAX_SIZE}", size)
    if payload[: _HEADER.size] != _header(kind, size):
        raise InputError("update", "header", f"kind {kind} of {size} entries", "another")
    return payload[_HEADER.size :]


def _expect_length(body: bytes, length: int) -> None:
    if len(body) != length:
        raise InputError("update", "length", f"{length} bytes", len(body))


def _packed_bytes(count: int, width: int) -> int:
    return (count * width + 7) // 8


def _pack(codes: NDArray[np.int64], width: int) -> bytes:
    bits = np.empty((len(codes), width), np.uint8)
    for place in range(width):
        bits[:, place] = (codes >> place) & 1
    return np.packbits(bits).tobytes()


def _unpack(packed: bytes, count: int, width: int) -> NDArray[np.int64]:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * width)
    codes = np.zeros(count, np.int64)
    for place in range(width):
        codes |= bits.reshape(count, width)[:, place].astype(np.int64) << place
    return codes


def _pack_places(places: NDArray[Any], size: int) -> bytes:
    gaps = np.diff(places, prepend=-1) - 1
    width = int(gaps.max()).bit_length()
    if _packed_bytes(len(places), width) < _packed_bytes(size, 1):
        return _INDICES.pack(len(places), width) + _pack(gaps, width)
    bitmap = np.zeros(size, np.int64)
    bitmap[places] = 1
    return _INDICES.pack(len(places), 255) + _pack(bitmap, 1)


def _unpack_places(body: bytes, size: int, count: int) -> tuple[NDArray[np.int64], bytes]:
    if len(body) < _INDICES.size:
        raise InputError("update", "length", f"{_INDICES.size} bytes or more", len(body))
    found, width = _INDICES.unpack_from(body)
    if found != count or (width > 31 and width != 255):
        raise InputError("update", "positions", f"{count} of them", found)
    dense = width == 255
    length = _packed_bytes(size, 1) if dense else _packed_bytes(count, width)
    packed, rest = body[_INDICES.size :][:length], body[_INDICES.size + length :]
    _expect_length(packed, length)
    if dense:
        places = np.flatnonzero(_unpack(packed, size, 1))
    else:
        # Gaps are from 0, so the sums rise strictly.
        places = np.cumsum(_unpack(packed, count, width) + 1) - 1
    if len(places) != count or places[-1] >= size:
        raise InputError("update", "positions", f"{count} below {size}", "others")
    return places, rest
