r"""Weights in blocks of 32, as GGML packs them and as ONNX Runtime's `MatMulNBits` does.

Exact: no number is rounded anew. `MatMulNBits` computes with $w = s (q - z)$ where z = 8 (4 bits)
or 128 (8 bits). Q4_0, $w = d (q - 8)$, and Q8_0, $w = d q$ with signed q, are of that form. Q4_1,
$w = d q + m$, is that with $s = d$ and a rest $(8 d + m)$, the same for all 32 numbers of a block:
it is multiplied with the sum of the block's inputs. A zero point that is rounded to a whole number
instead moves logits by ten times as much as all else.
"""

from dataclasses import dataclass

import numpy as np

from edgepact.inference.gguf.file import GgufTensor

BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """A matrix as `MatMulNBits` wants it.

    Attributes:
        bits: 4 or 8.
        codes: uint8, `(rows, blocks, bits * 4)`: a byte holds number 2j in its low half and number
            2j + 1 in its high half where there are 4 bits.
        scales: float32, `(rows, blocks)`.
        rest: float32, `(blocks, rows)`: what the sum of a block's inputs is multiplied with; None
            where it would be 0.
    """

    bits: int
    codes: np.ndarray
    scales: np.ndarray
    rest: np.ndarray | None


def packed(tensor: GgufTensor) -> Packed | None:
    """A matrix in blocks; None where its numbers stand alone.

    Args:
        tensor: of two dimensions.
    """
    rows, columns = tensor.shape
    blocks = columns // BLOCK
    data = tensor.data
    if tensor.type.name == "Q8_0":
        scales = _halves(data[:, :2]).reshape(rows, blocks)
        codes = (data[:, 2:] ^ np.uint8(128)).reshape(rows, blocks, BLOCK)  # q + 128
        return Packed(bits=8, codes=codes, scales=scales, rest=None)
    if tensor.type.name == "Q4_0":
        scales = _halves(data[:, :2]).reshape(rows, blocks)
        codes = _paired(data[:, 2:]).reshape(rows, blocks, BLOCK // 2)
        return Packed(bits=4, codes=codes, scales=scales, rest=None)
    if tensor.type.name == "Q4_1":
        scales = _halves(data[:, :2]).reshape(rows, blocks)
        least = _halves(data[:, 2:4]).reshape(rows, blocks)
        codes = _paired(data[:, 4:]).reshape(rows, blocks, BLOCK // 2)
        rest = np.ascontiguousarray((8 * scales + least).T)
        return Packed(bits=4, codes=codes, scales=scales, rest=rest)
    return None


def rest_macs(tensor: GgufTensor) -> int:
    """Multiplications of a row of inputs with what blocks of a matrix have as their least value,
    which come on top of those with the matrix; see `Packed.rest`."""
    rows, columns = tensor.shape
    return rows * (columns // BLOCK) if tensor.type.name == "Q4_1" else 0


def numbers(tensor: GgufTensor) -> np.ndarray:
    """A tensor's numbers, float32, in its shape."""
    name, data = tensor.type.name, tensor.data
    if name == "F32":
        values = np.ascontiguousarray(data).view("<f4")
    elif name == "F16":
        values = _halves(data)
    elif name == "Q8_0":
        values = _halves(data[:, :2]) * np.ascontiguousarray(data[:, 2:]).view(np.int8)
    else:
        head = 2 if name == "Q4_0" else 4
        codes = np.concatenate([data[:, head:] & 15, data[:, head:] >> 4], axis=1)
        scale = _halves(data[:, :2])
        if name == "Q4_0":
            values = scale * (codes.astype(np.float32) - 8)
        else:
            values = scale * codes.astype(np.float32) + _halves(data[:, 2:4])
    return values.astype(np.float32, copy=False).reshape(tensor.shape)


def _halves(data: np.ndarray) -> np.ndarray:
    """Float16 numbers as float32."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _paired(data: np.ndarray) -> np.ndarray:
    """Bytes with numbers j and j + 16 to bytes with numbers 2j and 2j + 1."""
    codes = np.concatenate([data & 15, data >> 4], axis=1)
    return codes[:, 0::2] | codes[:, 1::2] << 4
