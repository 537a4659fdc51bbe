r"""Weights and products in int8, by ONNX Runtime's own quantiser.

Dynamic quantisation: each column of a weight matrix has a scale of its own, and an
activation gets one for the whole tensor when it is there. No sample images are needed.
Two properties matter to a split model:

- The whole model is quantised and then cut, and a cut lies between two operators: device
  plus server compute exactly what the whole does, at every cut.
- Weights have 7 bits. With 8, the instructions of processors without VNNI saturate, and
  device and server would differ by more than rounding; the bit costs next to nothing.

The scale of an activation spans the batch, so an image's vector depends, within the
rounding, on the images beside it. The market runs images one by one.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from edgepact.efficiency.model_compression.model_folder import (
    Weights,
    check_free,
    keep_only_boundaries,
    read_image_encoder,
    write_model,
)
from edgepact.errors import InputError
from edgepact.inference.pipeline import IMAGE_GRAPH

METHOD = "int8"


def quantise_int8(model_dir: Path, out_dir: Path) -> None:
    """Write a model folder whose products with constant matrices are in int8.

    Convolutions stay as they are: they are the first layer at most, where rounding costs
    most and saves least. So do biases, norms, scores and the text encoder.

    Args:
        model_dir: any staged model.
        out_dir: a folder that is new or empty.

    Raises:
        InputError: the model cannot be read, has no product with a constant matrix, or
            `out_dir` is taken.
    """
    check_free(out_dir)
    image = read_image_encoder(model_dir)
    if not fold_casts(image.graph):
        path = model_dir / IMAGE_GRAPH
        raise InputError(path, "graph", "a MatMul or Gemm with a constant matrix", "none")
    # Otherwise the quantiser advises to fuse operators first, which would lose the cuts.
    add_pre_process_metadata(image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / IMAGE_GRAPH
        quantize_dynamic(
            image,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load(path)
    keep_only_boundaries(quantised)
    write_model(quantised, model_dir, out_dir, method=METHOD)


def fold_casts(graph: onnx.GraphProto) -> int:
    """Give products their matrices in float32, which the quantiser wants; count them."""
    weights = Weights(graph)
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    operands = {node.input[1] for node in products if weights.is_matrix(node.input[1])}
    initialisers = {tensor.name for tensor in graph.initializer}
    for name in sorted(operands - initialisers):
        values = weights.values(name).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, name))
    for node in [node for node in graph.node if node.output[0] in operands]:
        graph.node.remove(node)
    still_read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in still_read]:
        graph.initializer.remove(tensor)
    return sum(_is_float32(graph, name) for name in operands)


def _is_float32(graph: onnx.GraphProto, name: str) -> bool:
    return any(
        tensor.name == name and tensor.data_type == TensorProto.FLOAT
        for tensor in graph.initializer
    )
