"""Write a vision transformer with random weights as a model directory.

Staged inference must work for any depth, width and number of channels, and its
price must be known for models of a size that nobody ships in a repository.
Tests and benchmarks make such models with this module. The weights are drawn,
so no two initialisers are equal and nothing can merge them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = "weights.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape:
    """Sizes of a vision transformer; the defaults are small enough for any test."""

    layers: int = 3
    width: int = 32
    heads: int = 2
    patch: int = 7
    image_size: int = 28
    channels: int = 1
    dim: int = 24
    class_token: bool = False
    shape_paths: bool = False
    """Take the batch size of every reshape from the input image, as exporters do."""
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Length of the sequence between two blocks."""
        return (self.image_size // self.patch) ** 2 + self.class_token


VIT_B_32 = VitShape(
    layers=12, width=768, heads=12, patch=32, image_size=224, channels=3, dim=512, class_token=True
)
EMBEDDED = VitShape(layers=12, width=64, heads=4, dim=64)


def write_vit(model_dir: Path, shape: VitShape) -> Path:
    """Write `image.onnx`, `weights.bin` and `model.json`; return the directory."""
    model_dir.mkdir(parents=True, exist_ok=True)
    writer = _Writer(np.random.default_rng(shape.seed))
    names = [writer.embed(shape)]
    for block in range(1, shape.layers + 1):
        names.append(writer.block(shape, names[-1], f"block{block}"))
    writer.head(shape, names[-1])
    pixels: list[str | int | None] = ["batch", shape.channels, shape.image_size, shape.image_size]
    graph = helper.make_graph(
        writer.nodes,
        "image",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, pixels)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", shape.dim])],
        writer.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"edgepact.boundaries": json.dumps(names)})
    (model_dir / WEIGHTS).write_bytes(bytes(writer.weights))
    onnx.save(model, model_dir / "image.onnx")
    info = {
        "name": "random-vit",
        "layers_max": shape.layers,
        "image_size": shape.image_size,
        "channels": shape.channels,
        "mean": [0.5] * shape.channels if shape.channels > 1 else 0.5,
        "std": [0.25] * shape.channels if shape.channels > 1 else 0.25,
        "dim": shape.dim,
        "logit_scale": 10.0,
        "labels": ["cat", "dog"],
        "templates": ["a photo of a {}"],
        "tokens": shape.tokens,
        "width": shape.width,
        "drawn": asdict(shape),
    }
    (model_dir / "model.json").write_text(json.dumps(info, indent=1))
    return model_dir


class _Writer:
    """Collects nodes, and weights as fp16 in one external file."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.weights = bytearray()

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def weight(self, name: str, *dims: int, scale: float, around: float = 0.0) -> str:
        values = (around + scale * self.rng.standard_normal(dims, np.float32)).astype("<f2")
        tensor = TensorProto(
            name=f"{name}/fp16", data_type=TensorProto.FLOAT16, data_location=TensorProto.EXTERNAL
        )
        tensor.dims.extend(dims)
        for key, value in {
            "location": WEIGHTS,
            "offset": len(self.weights),
            "length": values.nbytes,
        }.items():
            tensor.external_data.add(key=key, value=str(value))
        self.weights += values.tobytes()
        self.initializers.append(tensor)
        return self.op("Cast", [tensor.name], name, to=TensorProto.FLOAT)

    def numbers(self, name: str, values: Sequence[int]) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        weight = self.weight(f"{name}/weight", inputs, outputs, scale=inputs**-0.5)
        product = self.op("MatMul", [x, weight], f"{name}/product")
        return self.op("Add", [product, self.weight(f"{name}/bias", outputs, scale=0.1)], name)

    def norm(self, x: str, name: str, width: int) -> str:
        scale = self.weight(f"{name}/scale", width, scale=0.1, around=1.0)
        bias = self.weight(f"{name}/bias", width, scale=0.1)
        return self.op("LayerNormalization", [x, scale, bias], name, epsilon=1e-5)

    def reshape(self, x: str, name: str, sizes: Sequence[int], shape: VitShape) -> str:
        """Reshape all but the batch; `sizes` follow it."""
        if not shape.shape_paths:
            return self.op("Reshape", [x, self.numbers(f"{name}/sizes", [0, *sizes])], name)
        asked = self.op("Shape", ["pixels"], f"{name}/shape")
        batch = self.op("Gather", [asked, self.numbers(f"{name}/zero", [0])], f"{name}/batch")
        rest = self.numbers(f"{name}/rest", sizes)
        return self.op("Reshape", [x, self.op("Concat", [batch, rest], f"{name}/to", axis=0)], name)

    def embed(self, shape: VitShape) -> str:
        kernel = (shape.channels, shape.patch, shape.patch)
        weight = self.weight(
            "embed/kernel", shape.width, *kernel, scale=float(np.prod(kernel)) ** -0.5
        )
        sides = [shape.patch, shape.patch]
        x = self.op("Conv", ["pixels", weight], "embed/patches", strides=sides, kernel_shape=sides)
        patches = shape.tokens - shape.class_token
        x = self.reshape(x, "embed/flat", [shape.width, patches], shape)
        x = self.op("Transpose", [x], "embed/tokens", perm=[0, 2, 1])
        if shape.class_token:
            token = self.weight("embed/class", 1, 1, shape.width, scale=1.0)
            asked = self.op("Shape", ["pixels"], "embed/shape")
            batch = self.op("Gather", [asked, self.numbers("embed/zero", [0])], "embed/batch")
            sizes = [batch, self.numbers("embed/one_token", [1, shape.width])]
            to = self.op("Concat", sizes, "embed/to", axis=0)
            x = self.op("Concat", [self.op("Expand", [token, to], "embed/classes"), x], "embed/all")
            self.nodes[-1].attribute.append(helper.make_attribute("axis", 1))
        places = self.weight("embed/places", 1, shape.tokens, shape.width, scale=0.5)
        return self.op("Add", [x, places], "embed/out")

    def block(self, shape: VitShape, x: str, name: str) -> str:
        width, heads = shape.width, shape.heads
        split = [shape.tokens, heads, width // heads]
        normed = self.norm(x, f"{name}/norm1", width)
        parts = {}
        for part, order in {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}.items():
            y = self.linear(normed, f"{name}/{part}", width, width)
            y = self.reshape(y, f"{name}/{part}/split", split, shape)
            parts[part] = self.op("Transpose", [y], f"{name}/{part}/heads", perm=order)
        scores = self.op("MatMul", [parts["q"], parts["k"]], f"{name}/scores")
        root = numpy_helper.from_array(
            np.array((width // heads) ** 0.5, np.float32), f"{name}/root"
        )
        self.initializers.append(root)
        scores = self.op("Div", [scores, root.name], f"{name}/scaled")
        shares = self.op("Softmax", [scores], f"{name}/shares", axis=-1)
        y = self.op("MatMul", [shares, parts["v"]], f"{name}/mixed")
        y = self.op("Transpose", [y], f"{name}/joined", perm=[0, 2, 1, 3])
        y = self.reshape(y, f"{name}/merged", [shape.tokens, width], shape)
        x = self.op("Add", [x, self.linear(y, f"{name}/project", width, width)], f"{name}/middle")
        y = self.norm(x, f"{name}/norm2", width)
        y = self.linear(y, f"{name}/up", width, 4 * width)
        # CLIP's quick GELU: x * sigmoid(1.702 x).
        slope = numpy_helper.from_array(np.array(1.702, np.float32), f"{name}/slope")
        self.initializers.append(slope)
        steep = self.op("Mul", [y, slope.name], f"{name}/steep")
        y = self.op("Mul", [y, self.op("Sigmoid", [steep], f"{name}/gate")], f"{name}/gelu")
        y = self.linear(y, f"{name}/down", 4 * width, width)
        return self.op("Add", [x, y], f"{name}/out")

    def head(self, shape: VitShape, x: str) -> None:
        x = self.norm(x, "head/norm", shape.width)
        axis = self.numbers("head/axis", [1])
        x = self.op("ReduceMean", [x, axis], "head/pooled", keepdims=0)
        weight = self.weight("head/weight", shape.width, shape.dim, scale=shape.width**-0.5)
        x = self.op("Gemm", [x, weight], "head/projected")
        length = self.op("ReduceL2", [x, self.numbers("head/dim", [-1])], "head/length", keepdims=1)
        self.op("Div", [x, length], "vector")
