"""What a server keeps of an activation until it is audited: 1 KB, and not the activation.

Every piece may be audited after all are delivered, so evidence of every piece is kept. Of an
activation these numbers are kept, at half precision:

- the `LARGEST` of largest magnitude, with their positions, as a fingerprint that invented numbers
  do not share;
- `DRAWN` at positions drawn from a key that the device does not know, spread evenly over the
  tokens, so that none of them can be left out. Their positions follow from the key again.

An audit computes the activation itself, packs and unpacks it with the codec it came in, and
compares at these positions. Both groups are judged by themselves: numbers that are right where
an activation is large do not make up for wrong ones elsewhere. The measure is the mean absolute
deviation as a share of the mean magnitude of the *server's own* numbers, so that no device can
make it small by sending large ones.

NumPy and the standard library only. The idea of a top-k fingerprint that survives another
processor's rounding is that of TOPLOC (Ong et al. 2025, arXiv 2501.16007).
"""

import hashlib
import math
from typing import Any

import numpy as np

LARGEST = 48
"""Numbers of largest magnitude that are kept."""

DRAWN = 352
"""Numbers at secret positions that are kept; all of a tensor that has no more."""

EVIDENCE_BYTES_MAX = 6 * LARGEST + 2 * DRAWN
"""Most bytes of evidence: four for a position, two for a number."""

_HALF_MAX = np.float32(np.finfo(np.float16).max)

Numbers = np.ndarray[Any, np.dtype[np.float32]]


def kept(x: np.ndarray, key: bytes) -> bytes:
    """Evidence of a tensor.

    Args:
        x: any shape; all but the last axis are rows, such as the tokens of one image.
        key: secret from which positions are drawn.

    Returns:
        At most `EVIDENCE_BYTES_MAX` bytes.

    Example:
        >>> x = np.arange(1024, dtype=np.float32).reshape(1, 16, 64)
        >>> len(kept(x, b"secret")), deviation(kept(x, b"secret"), x, b"secret")
        (992, 0.0)
        >>> deviation(kept(x, b"secret"), 2 * x, b"secret")
        0.5
    """
    flat = _flat(x)
    largest = _largest(flat)
    values = _half(flat[np.concatenate([largest, drawn_positions(x.shape, key)])])
    return largest.astype("<u4").tobytes() + values.tobytes()


def deviation(evidence: bytes, own: np.ndarray, key: bytes) -> float:
    """How far the tensor of which evidence was kept is from one's own.

    Args:
        evidence: that `kept` made of a tensor of the shape of `own`.
        own: what the tensor should be, float32.
        key: that `kept` was told.

    Returns:
        The larger of the mean absolute deviations of the two groups, each as a share of the mean
        magnitude of one's own numbers there; infinity where evidence is no such tensor's, or
        holds what is not finite.
    """
    flat = _flat(own)
    largest_count = min(LARGEST, flat.size)
    drawn = drawn_positions(own.shape, key)
    if len(evidence) != 6 * largest_count + 2 * drawn.size:
        return math.inf
    largest = np.frombuffer(evidence, "<u4", largest_count).astype(np.intp)
    if largest.size and int(largest.max()) >= flat.size:
        return math.inf
    came = np.frombuffer(evidence, "<f2", offset=4 * largest_count).astype(np.float32)
    mine = _half(flat[np.concatenate([largest, drawn])]).astype(np.float32)
    if not (np.isfinite(came).all() and np.isfinite(mine).all()):
        return math.inf
    apart, size = np.abs(came - mine), np.abs(mine)
    return max(
        _share(float(apart[group].sum()), float(size[group].sum()))
        for group in (slice(largest_count), slice(largest_count, None))
    )


def drawn_positions(shape: tuple[int, ...], key: bytes) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Positions in a flattened tensor, from a key: each row as often as any other, to one.

    Drawn by SHAKE-256, whose stream no version of a library changes.
    """
    size, width = math.prod(shape), shape[-1] if shape else 1
    if size <= DRAWN:
        return np.arange(size)
    rows = size // width
    drawn = np.frombuffer(hashlib.shake_256(b"positions\n" + key).digest(8 * DRAWN + 8), "<u8")
    first = int(drawn[-1] % rows)  # rows beyond `DRAWN` take turns, by the key
    row = (first + np.arange(DRAWN) * rows // DRAWN) % rows if rows > DRAWN else np.arange(DRAWN)
    return row.astype(np.intp) % rows * width + (drawn[:-1] % width).astype(np.intp)


def _flat(x: np.ndarray) -> Numbers:
    return np.ascontiguousarray(x, np.float32).reshape(-1)


def _largest(flat: Numbers) -> np.ndarray[Any, np.dtype[np.intp]]:
    if flat.size <= LARGEST:
        return np.arange(flat.size)
    return np.sort(np.argpartition(np.abs(flat), flat.size - LARGEST)[-LARGEST:])


def _half(values: Numbers) -> np.ndarray[Any, np.dtype[np.float16]]:
    # What exceeds the range of half precision is kept as its end, on both sides alike; what is
    # not finite stays so, and no audit passes it.
    held = np.clip(values, -_HALF_MAX, _HALF_MAX)
    return np.where(np.isfinite(values), held, np.float32(np.nan)).astype("<f2")


def _share(apart: float, size: float) -> float:
    if size > 0:
        return apart / size
    return 0.0 if apart == 0 else math.inf
