"""A few numbers of an image's vector, by which work is known again that was delivered before.

The vector is the model's last word on an image: the same at every cut, and nearly the same for a
copy of the picture with a few bits changed. Where it is long, a fixed random projection keeps
its distances, roughly (Johnson and Lindenstrauss); where it is short, it is its own sketch.
"""

import functools
from typing import Any

import numpy as np

NUMBERS = 64
"""Most numbers of a sketch."""

_SEED = 20_231_206


def sketch(vectors: np.ndarray) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sketches of vectors of length 1, float32.

    Args:
        vectors: the last axis is a vector's.

    Returns:
        The same shape, but for a last axis of at most `NUMBERS`.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.shape[-1] <= NUMBERS:
        return vectors
    projected: np.ndarray[Any, np.dtype[np.float32]] = vectors @ _projection(vectors.shape[-1])
    return projected


@functools.cache
def _projection(dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    # NumPy promises that the stream of RandomState never changes: sketches outlive versions.
    drawn = np.random.RandomState(_SEED).standard_normal((dim, NUMBERS))
    return (drawn / np.sqrt(NUMBERS)).astype(np.float32)
