"""EfficientNet-lite as an ONNX graph, from the weights that a PyTorch file of it has.

The architecture is that of M. Tan and Q. Le (EfficientNet, 2019) without squeeze-and-excitation
and with ReLU6, as TensorFlow's `efficientnet/lite` has it: a stem, blocks of expansion, depthwise
and projecting convolution, a head. What varies, kernels and widths, is read from the weights;
strides are those of the family. Batch normalisation is folded into the convolution before it.
Needs the ONNX package.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepact.errors import InputError

IMAGE_SIZE = 224

EPSILON = 1e-3
"""Of the batch normalisation, as the family has it."""

STRIDED_BLOCKS = (1, 3, 5, 11)
"""Blocks of lite0 that halve the picture; the stem does too."""

BLOCKS = 16

_OPSET, _IR = 18, 10


def write_efficientnet_lite0(weights: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes the model: `pixels`, `(batch, 3, 224, 224)`, to `logits`, `(batch, 1000)`.

    Args:
        weights: tensors by the names that PyTorch's implementations give.
        path: of the ONNX file.

    Raises:
        InputError: a tensor is missing, or has another shape.
    """
    graph = _Graph(weights, path)
    x = graph.convolved("pixels", "_conv_stem", "_bn0", stride=2, name="stem")
    for block in range(BLOCKS):
        x = graph.block(x, block)
    x = graph.convolved(x, "_conv_head", "_bn1", name="head")
    graph.node("GlobalAveragePool", [x], "pooled")
    graph.node("Flatten", ["pooled"], "vector", axis=1)
    for name in ("weight", "bias"):
        graph.add(f"fc.{name}", graph.tensor(f"_fc.{name}"))
    graph.node("Gemm", ["vector", "fc.weight", "fc.bias"], "logits", transB=1)
    size: list[str | int | None] = ["batch", 3, IMAGE_SIZE, IMAGE_SIZE]
    classes = len(graph.tensor("_fc.bias"))
    made = helper.make_graph(
        graph.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        graph.initializers,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="edgepact", ir_version=_IR)
    onnx.save(model, path)


# ---------------------------------------------------------------- private


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self, weights: Mapping[str, np.ndarray], path: Path) -> None:
        self._weights, self._path = weights, path
        self._sizes = {"pixels": IMAGE_SIZE}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.add("least", np.array(0, np.float32))
        self.add("most", np.array(6, np.float32))

    def tensor(self, name: str) -> np.ndarray:
        """A weight."""
        found = self._weights.get(name)
        if found is None or found.dtype != np.float32:
            raise InputError(self._path, name, "a float32 tensor of this name", "none")
        return found

    def add(self, name: str, value: np.ndarray) -> None:
        """A weight of the graph."""
        self.initializers.append(numpy_helper.from_array(value.astype(np.float32), name))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """A node, called as what it makes."""
        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)

    def convolved(
        self,
        x: str,
        conv: str,
        norm: str,
        *,
        name: str,
        stride: int = 1,
        depthwise: bool = False,
        bounded: bool = True,
    ) -> str:
        """A convolution that keeps the size or halves it, normalised, and bounded by ReLU6."""
        kernel = self.tensor(f"{conv}.weight").astype(np.float64)
        gain, shift, mean, variance = (
            self.tensor(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if kernel.ndim != 4 or gain.shape != kernel.shape[:1]:
            raise InputError(self._path, conv, "a kernel for each normalised channel", "others")
        scale = gain / np.sqrt(variance + EPSILON)
        self.add(f"{name}.kernel", kernel * scale[:, None, None, None])
        self.add(f"{name}.bias", shift - mean * scale)
        side, width = self._sizes[x], kernel.shape[-1]
        out = -(-side // stride)
        missing = max((out - 1) * stride + width - side, 0)
        before, after = missing // 2, missing - missing // 2
        made = f"{name}.sum" if bounded else name
        self.node(
            "Conv",
            [x, f"{name}.kernel", f"{name}.bias"],
            made,
            kernel_shape=[width, width],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=kernel.shape[0] if depthwise else 1,
        )
        if bounded:
            self.node("Clip", [made, "least", "most"], name)
        self._sizes[name] = out
        return name

    def block(self, x: str, block: int) -> str:
        """An inverted bottleneck; added to what it takes where the shapes are the same."""
        own, name = f"_blocks.{block}.", f"block_{block}"
        stride = 2 if block in STRIDED_BLOCKS else 1
        inner, came = x, 0
        if f"{own}_expand_conv.weight" in self._weights:
            came = self.tensor(f"{own}_expand_conv.weight").shape[1]
            inner = self.convolved(x, f"{own}_expand_conv", f"{own}_bn0", name=f"{name}.expanded")
        inner = self.convolved(
            inner,
            f"{own}_depthwise_conv",
            f"{own}_bn1",
            name=f"{name}.depthwise",
            stride=stride,
            depthwise=True,
        )
        narrow = self.tensor(f"{own}_project_conv.weight").shape[0]
        same = stride == 1 and narrow == came
        made = self.convolved(
            inner,
            f"{own}_project_conv",
            f"{own}_bn2",
            name=f"{name}.projected" if same else name,
            bounded=False,
        )
        if not same:
            return made
        self.node("Add", [x, made], name)
        self._sizes[name] = self._sizes[made]
        return name
