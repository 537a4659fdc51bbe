r"""Weights in few bits, computing in floating point: fewer bytes, as many operations.

Two forms, both without sample images:

- *8 bits a channel*: a column of a matrix has one scale, $w = s q$ with whole $q$ from -127 to
  127, undone by `DequantizeLinear` in front of the product;
- *4 bits a block*: 32 numbers of a column have one scale, $w = s (q - 8)$ with $q$ from 0 to 15,
  multiplied as they are by ONNX Runtime's `MatMulNBits`.

Neither depends on the images beside an image, other than the scales of `int8`. Whether a form
takes less time hangs on the runtime and on how large the matrices are: measure it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from jaxtyping import Float, Float32, Int8, UInt8
from onnx import helper, numpy_helper

from edgepact.efficiency.model_compression.int8 import fold_casts
from edgepact.efficiency.model_compression.model_folder import (
    Weights,
    check_free,
    keep_only_boundaries,
    read_image_encoder,
    write_model,
)
from edgepact.errors import InputError
from edgepact.inference.pipeline import IMAGE_GRAPH

METHOD_8, METHOD_4 = "weights8", "weights4"

BLOCK = 32
"""Numbers of a column that have one scale."""

CONTRIB = "com.microsoft"

_ACCURACY_LEVEL = 4
"""Of `MatMulNBits`: inputs are rounded to 8 bits, a scale for each block, which is many times as
fast as to undo the rounding of the weights."""


def quantise_weights8(model_dir: Path, out_dir: Path) -> None:
    """Write a model folder whose matrices have 8 bits a number and a scale for each column.

    Args:
        model_dir: any staged model.
        out_dir: a folder that is new or empty.

    Raises:
        InputError: the model cannot be read, has no product with a constant matrix, or
            `out_dir` is taken.
    """
    _rewrite(model_dir, out_dir, METHOD_8, _dequantised)


def quantise_weights4(model_dir: Path, out_dir: Path) -> None:
    """Write a model folder whose products are `MatMulNBits` with 4 bits in blocks of 32.

    Args:
        model_dir: any staged model; its `Gemm` nodes stay as they are.
        out_dir: a folder that is new or empty.

    Raises:
        InputError: as `quantise_weights8`.
    """
    _rewrite(model_dir, out_dir, METHOD_4, _in_blocks)


def per_channel(
    weights: Float[np.ndarray, "inputs outputs"],
) -> tuple[Int8[np.ndarray, "inputs outputs"], Float32[np.ndarray, " outputs"]]:
    """Whole numbers and the scale of each column; their product is nearest to the weights.

    Example:
        >>> codes, scales = per_channel(np.array([[1.0, 0.0], [-2.54, 0.0]]))
        >>> codes.tolist(), scales.tolist()
        ([[50, 0], [-127, 0]], [0.019999999552965164, 1.0])
    """
    largest = np.abs(weights).max(axis=0)
    scales = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    return np.rint(weights / scales).clip(-127, 127).astype(np.int8), scales


def in_blocks(
    weights: Float[np.ndarray, "inputs outputs"],
) -> tuple[UInt8[np.ndarray, "outputs blocks bytes"], Float32[np.ndarray, "outputs blocks"]]:
    """Codes, two to a byte with the even one in its low half, and the scale of each block.

    The number of largest size in a block becomes exactly 0 of the 15 codes, so that the one code
    more on that side is used; inputs that fill no block are followed by zeros.

    Example:
        >>> codes, scales = in_blocks(np.array([[-8.0], [7.0]]))
        >>> codes.shape, codes[0, 0, :2].tolist(), scales.tolist()
        ((1, 1, 16), [240, 136], [[1.0]])
    """
    inputs, outputs = weights.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float64)
    padded[:, :inputs] = weights.T
    rows = padded.reshape(outputs, blocks, BLOCK)
    at = np.abs(rows).argmax(axis=-1)[..., None]
    extreme = np.take_along_axis(rows, at, axis=-1)[..., 0]
    scales = np.where(extreme != 0, extreme / -8, 1.0).astype(np.float32)
    codes = (np.rint(rows / scales[..., None]) + 8).clip(0, 15).astype(np.uint8)
    return codes[..., 0::2] | codes[..., 1::2] << 4, scales


_Replace = Callable[[onnx.GraphProto, onnx.NodeProto, np.ndarray], list[onnx.NodeProto]]


def _rewrite(model_dir: Path, out_dir: Path, method: str, replaced: _Replace) -> None:
    """Puts other nodes in the place of each product with a constant matrix."""
    check_free(out_dir)
    image = read_image_encoder(model_dir)
    graph = image.graph
    found = fold_casts(graph)
    weights = Weights(graph)
    products = [
        node
        for node in graph.node
        if node.op_type == "MatMul"
        and weights.is_matrix(node.input[1])
        and len(weights.sizes(node.input[1])) == 2
    ]
    if not found or not products:
        expected = "a MatMul with a constant matrix"
        raise InputError(model_dir / IMAGE_GRAPH, "graph", expected, "none")
    new: dict[str, list[onnx.NodeProto]] = {}
    for node in products:
        values = weights.values(node.input[1]).astype(np.float32)
        new[node.output[0]] = replaced(graph, node, values)
    nodes = [each for node in graph.node for each in new.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)
    if method == METHOD_4 and all(each.domain != CONTRIB for each in image.opset_import):
        image.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    keep_only_boundaries(image)
    write_model(image, model_dir, out_dir, method=method)


def _dequantised(
    graph: onnx.GraphProto, node: onnx.NodeProto, values: np.ndarray
) -> list[onnx.NodeProto]:
    name = node.input[1]
    codes, scales = per_channel(values)
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}.codes"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
    back = f"{node.output[0]}.weights"
    undone = helper.make_node(
        "DequantizeLinear", [f"{name}.codes", f"{name}.scales"], [back], name=back, axis=1
    )
    product = helper.make_node("MatMul", [node.input[0], back], [node.output[0]], name=node.name)
    return [undone, product]


def _in_blocks(
    graph: onnx.GraphProto, node: onnx.NodeProto, values: np.ndarray
) -> list[onnx.NodeProto]:
    name = node.input[1]
    codes, scales = in_blocks(values)
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}.codes"))
    graph.initializer.append(numpy_helper.from_array(scales.reshape(-1), f"{name}.scales"))
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{name}.codes", f"{name}.scales"],
        [node.output[0]],
        name=node.name,
        domain=CONTRIB,
        K=values.shape[0],
        N=values.shape[1],
        bits=4,
        block_size=BLOCK,
        accuracy_level=_ACCURACY_LEVEL,
    )
    return [product]


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = {each.name: each for each in graph.initializer if each.name in read}
    del graph.initializer[:]
    graph.initializer.extend(kept.values())
