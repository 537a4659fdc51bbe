"""What travels between device and server in place of an fp32 activation.

`int8` keeps one scale for each token: its largest number becomes 127. A token
takes a quarter of its fp32 bytes and four for the scale. `fp16` halves the
bytes, `fp32` changes nothing. The embedded model sends more numbers than its
image has pixels, so no codec makes an activation smaller than the image file:
a split saves the server's computing, not bandwidth.

A received message is checked before anything is computed from it.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Shaped

from edgepact.errors import InputError

Codec = Literal["int8", "fp16", "fp32"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Activation = Float32[np.ndarray, "images tokens width"]

TOKENS = "tokens"
SCALE = "scale"


def encode(x: Activation, codec: str) -> dict[str, np.ndarray]:
    r"""Pack activations into named tensors.

    For `int8` each token $x$ becomes $q = \mathrm{round}(x/s)$ with
    $s = \max|x| / 127$, so that no number moves by more than $s/2$.

    Args:
        x: activations, float32 `images tokens width`.
        codec: `"int8"`, `"fp16"` or `"fp32"`.

    Returns:
        `tokens`, and for `int8` also `scale`, float32 `images tokens 1`.

    Raises:
        InputError: `codec` is unknown, or `x` holds what it cannot express: a
            number that is not finite, or one too large for fp16.

    Example:
        >>> packed = encode(np.array([[[0.5, -1.0, 2.0]]], np.float32), "int8")
        >>> packed["tokens"].tolist(), packed["scale"].shape
        ([[[32, -64, 127]]], (1, 1, 1))
    """
    if codec not in CODECS:
        raise InputError("codec", "", f"one of {', '.join(CODECS)}", codec)
    if codec == "fp32":
        _insist(bool(np.isfinite(x).all()), "activation", "finite numbers", "others")
        return {TOKENS: np.asarray(x, np.float32)}
    largest = np.abs(x).max(axis=-1, keepdims=True)
    _insist(bool(np.isfinite(largest).all()), "activation", "finite numbers", "others")
    if codec == "fp16":
        limit = float(np.finfo(np.float16).max)
        _insist(bool((largest <= limit).all()), "activation", f"numbers up to {limit:g}", "larger")
        return {TOKENS: x.astype(np.float16)}
    # The smallest normal number keeps x/scale finite; a token of zeros stays one of zeros.
    scale = np.maximum(largest / np.float32(127), np.finfo(np.float32).tiny).astype(np.float32)
    return {TOKENS: np.rint(x / scale).astype(np.int8), SCALE: scale}


def decode(tensors: Mapping[str, Shaped[np.ndarray, "..."]]) -> Activation:
    """Unpack what `encode` made; the element type tells the codec.

    Args:
        tensors: named tensors as received, nothing about them taken for granted.

    Returns:
        Activations, float32 `images tokens width`, all finite.

    Raises:
        InputError: a tensor is missing, too many, of a wrong type or shape, or
            holds numbers that are not finite; a scale is not above 0.
    """
    expected = [TOKENS, SCALE] if SCALE in tensors else [TOKENS]
    _insist(sorted(tensors) == sorted(expected), "", f"tensors {expected}", sorted(tensors))
    tokens = tensors[TOKENS]
    _insist(tokens.ndim == 3 and tokens.size > 0, TOKENS, "3 dimensions", list(tokens.shape))
    if SCALE in tensors:
        scale = tensors[SCALE]
        _insist(tokens.dtype == np.int8, TOKENS, "int8 beside a scale", str(tokens.dtype))
        _insist(scale.dtype == np.float32, SCALE, "float32", str(scale.dtype))
        shape = (*tokens.shape[:2], 1)
        _insist(scale.shape == shape, SCALE, f"shape {list(shape)}", list(scale.shape))
        _insist(
            bool((scale > 0).all() and np.isfinite(scale).all()),
            SCALE,
            "finite numbers above 0",
            "others",
        )
        with np.errstate(over="ignore"):
            x: np.ndarray = np.multiply(tokens, scale, dtype=np.float32)
    else:
        _insist(
            tokens.dtype in (np.float16, np.float32),
            TOKENS,
            "float16 or float32 without a scale",
            str(tokens.dtype),
        )
        x = tokens.astype(np.float32)
    _insist(bool(np.isfinite(x).all()), TOKENS, "finite numbers", "others")
    return x


def encoded_bytes(tensors: Mapping[str, Shaped[np.ndarray, "..."]]) -> int:
    """Size of packed tensors on the link, without names and headers."""
    return sum(tensor.nbytes for tensor in tensors.values())


def _insist(fulfilled: bool, field: str, expected: str, found: object) -> None:
    if not fulfilled:
        raise InputError("activation message", field, expected, found)
