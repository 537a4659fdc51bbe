"""The towers of a checkpoint as ONNX graphs over one file of weights.

Weights are written as they are stored; those of half precision (float16, bfloat16) are cast to
single precision, which ONNX Runtime does once, when a session loads. Reshapes keep the batch
symbolic, and the tensors between blocks are named, so that `graph.cut` finds them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgepact.inference.checkpoints.stored import Stored
from edgepact.inference.checkpoints.towers import (
    AttentionPooling,
    Block,
    Dense,
    ImageTower,
    Norm,
    Shape,
    TextTower,
)
from edgepact.inference.graph import BOUNDARIES_KEY

OPSET = 20
"""The first with the operator `Gelu`."""

IR_VERSION = 10
QUICK_GELU = 1.702
ALIGNMENT_BYTES = 64
"""Offsets of weights are multiples of this: the width of an AVX-512 register."""

_DATATYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


class WeightFile:
    """A file of weights in the making; a context manager.

    Args:
        path: of the file; graphs name it without its folder.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._name, self._size = path.open("wb"), path.name, 0

    def __enter__(self) -> "WeightFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def tensor(self, name: str, values: np.ndarray, datatype: int) -> onnx.TensorProto:
        """Appends values, and describes where they lie."""
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._size += self._file.write(bytes(-self._size % ALIGNMENT_BYTES))
        tensor = TensorProto(name=name, data_type=datatype, dims=values.shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self._name, "offset": self._size, "length": content.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._size += self._file.write(content.data)
        return tensor


def image_graph(tower: ImageTower, weights: WeightFile) -> onnx.ModelProto:
    """From `pixels`, `batch 3 size size`, to `vector`, `batch dim`, of length 1."""
    graph, width, size = _Graph("image", weights), tower.shape.width, tower.image_size
    kernel = [graph.weight("patches", tower.kernel)]
    if tower.kernel_shift is not None:
        kernel.append(graph.weight("patches.shift", tower.kernel_shift))
    x = graph.node("Conv", ["pixels", *kernel], "embed.grid", strides=[tower.patch, tower.patch])
    patches = (size // tower.patch) ** 2
    x = graph.reshape(x, (0, width, patches), "embed.columns")
    x = graph.node("Transpose", [x], "embed.patches", perm=[0, 2, 1])
    if tower.class_token is not None:
        x = graph.joined_class(x, tower.class_token, width)
    x = graph.node("Add", [x, graph.weight("positions", tower.positions)], "embed.positioned")
    if tower.first_norm is not None:
        x = graph.norm(x, tower.first_norm, tower.shape, "embed.norm")
    boundaries = [x]
    for number, block in enumerate(tower.blocks, start=1):
        x = graph.block(x, block, tower.shape, f"block_{number:02d}", tokens=tower.tokens)
        boundaries.append(x)
    if tower.class_token is not None:
        x = graph.node("Gather", [x, graph.index(0)], "head.class", axis=1)
    x = graph.norm(x, tower.last_norm, tower.shape, "head.norm")
    if tower.pooling is not None:
        x = graph.pooled(x, tower.pooling, tower.shape, tokens=tower.tokens)
    if tower.projection is not None:
        x = graph.dense(x, tower.projection, "head.projection")
    graph.unit(x, "vector")
    return graph.model(
        _value("pixels", TensorProto.FLOAT, 3, size, size),
        _value("vector", TensorProto.FLOAT, tower.dim),
        {BOUNDARIES_KEY: json.dumps(boundaries)},
    )


def text_graph(tower: TextTower, dim: int, weights: WeightFile) -> onnx.ModelProto:
    """From `ids`, `batch length`, to `vector`, `batch dim`, of length 1."""
    graph = _Graph("text", weights)
    x = graph.node("Gather", [graph.weight("tokens", tower.embedding), "ids"], "embed.tokens")
    x = graph.node("Add", [x, graph.weight("positions", tower.positions)], "embed.out")
    added = graph.causal(tower.length) if tower.causal else None
    for number, block in enumerate(tower.blocks, start=1):
        at = f"block_{number:02d}"
        x = graph.block(x, block, tower.shape, at, tokens=tower.length, added=added)
    x = graph.norm(x, tower.last_norm, tower.shape, "head.norm")
    x = graph.at_end(x, tower)
    graph.unit(graph.dense(x, tower.projection, "head.projection"), "vector")
    return graph.model(
        _value("ids", TensorProto.INT64, tower.length),
        _value("vector", TensorProto.FLOAT, dim),
        {},
    )


# ---------------------------------------------------------------- private


class _Graph:
    """Nodes and weights of one graph; every method adds nodes and names their result."""

    def __init__(self, name: str, weights: WeightFile) -> None:
        self._name, self._weights = name, weights
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def weight(
        self, name: str, *stored: Stored, turn: Callable[[np.ndarray], np.ndarray] = lambda x: x
    ) -> str:
        """Stored tensors, one below the other, turned as asked for."""
        kinds = {one.kind for one in stored}
        same = len(kinds) == 1
        values = [turn(one.values if same else one.floats()) for one in stored]
        kind = stored[0].kind if same else "F32"
        joined = values[0] if len(values) == 1 else np.concatenate(values, axis=-1)
        written = f"{self._name}.{name}"
        self._tensors[written] = self._weights.tensor(written, joined, _DATATYPES[kind])
        if kind == "F32":
            return written
        return self.node("Cast", [written], f"{name}.fp32", to=TensorProto.FLOAT)

    def constant(self, name: str, values: Any, datatype: int) -> str:
        """A small constant, kept in the graph itself."""
        array = np.asarray(values, helper.tensor_dtype_to_np_dtype(datatype))
        self._tensors[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        name = "ints_" + "_".join(str(value).replace("-", "m") for value in values)
        return self.constant(name, values, TensorProto.INT64)

    def index(self, value: int) -> str:
        return self.constant(f"index_{value}", value, TensorProto.INT64)

    def reshape(self, x: str, shape: Sequence[int], output: str) -> str:
        """0 keeps a dimension, so that no graph asks for the batch size."""
        return self.node("Reshape", [x, self.integers(*shape)], output)

    def dense(self, x: str, layer: Dense, name: str) -> str:
        weight = self.weight(f"{name}.weight", *layer.weights, turn=np.transpose)
        x = self.node("MatMul", [x, weight], f"{name}.x")
        if not layer.shifts:
            return x
        return self.node("Add", [x, self.weight(f"{name}.shift", *layer.shifts)], f"{name}.y")

    def norm(self, x: str, layer: Norm, shape: Shape, name: str) -> str:
        inputs = [
            x,
            self.weight(f"{name}.scale", layer.scale),
            self.weight(f"{name}.shift", layer.shift),
        ]
        return self.node("LayerNormalization", inputs, f"{name}.y", axis=-1, epsilon=shape.epsilon)

    def joined_class(self, x: str, token: Stored, width: int) -> str:
        """The class token before the patches of each picture: zeros of its place, and it."""
        first = self.node(
            "Slice", [x, self.integers(0), self.integers(1), self.integers(1)], "embed.first"
        )
        none = self.node(
            "Mul", [first, self.constant("zero", 0.0, TensorProto.FLOAT)], "embed.none"
        )
        token_ = self.reshape(self.weight("class", token), (1, 1, width), "embed.class_row")
        each = self.node("Add", [none, token_], "embed.class")
        return self.node("Concat", [each, x], "embed.joined", axis=1)

    def block(
        self,
        x: str,
        layer: Block,
        shape: Shape,
        name: str,
        *,
        tokens: int,
        added: str | None = None,
    ) -> str:
        normal = self.norm(x, layer.attention_norm, shape, f"{name}.attention_norm")
        size = shape.width // shape.heads
        qkv = self.dense(normal, layer.attention_in, f"{name}.attention_in")
        parts = self.reshape(qkv, (0, tokens, 3, shape.heads, size), f"{name}.parts")
        # [3, batch, heads, tokens, size]: one split makes query, key and value.
        parts = self.node("Transpose", [parts], f"{name}.by_kind", perm=[2, 0, 3, 1, 4])
        mixed = self.attention(*self.three(parts, name), shape, name, tokens=tokens, added=added)
        attended = self.dense(mixed, layer.attention_out, f"{name}.attention_out")
        x = self.node("Add", [x, attended], f"{name}.middle")
        hidden = self.norm(x, layer.mlp_norm, shape, f"{name}.mlp_norm")
        hidden = self.mlp(hidden, layer.mlp_in, layer.mlp_out, shape, name)
        return self.node("Add", [x, hidden], f"{name}.out")

    def three(self, parts: str, name: str) -> tuple[str, str, str]:
        split = [f"{name}.{kind}_1" for kind in ("query", "key", "value")]
        self._nodes.append(
            helper.make_node("Split", [parts], split, name=f"{name}.split", axis=0, num_outputs=3)
        )
        query, key, value = (
            self.node("Squeeze", [one, self.integers(0)], one.removesuffix("_1")) for one in split
        )
        return query, key, value

    def attention(
        self,
        query: str,
        key: str,
        value: str,
        shape: Shape,
        name: str,
        *,
        tokens: int,
        added: str | None = None,
    ) -> str:
        """Of `batch heads tokens size` each; its result has the heads side by side."""
        scale = self.constant(
            f"{self._name}.scale", (shape.width // shape.heads) ** -0.5, TensorProto.FLOAT
        )
        key = self.node("Transpose", [key], f"{name}.key_turned", perm=[0, 1, 3, 2])
        score = self.node("MatMul", [query, key], f"{name}.raw_score")
        score = self.node("Mul", [score, scale], f"{name}.score")
        if added is not None:
            score = self.node("Add", [score, added], f"{name}.masked")
        share = self.node("Softmax", [score], f"{name}.share", axis=-1)
        mixed = self.node("MatMul", [share, value], f"{name}.mixed")
        mixed = self.node("Transpose", [mixed], f"{name}.by_token", perm=[0, 2, 1, 3])
        return self.reshape(mixed, (0, tokens, shape.width), f"{name}.heads_joined")

    def mlp(self, x: str, first: Dense, second: Dense, shape: Shape, name: str) -> str:
        x = self.dense(x, first, f"{name}.mlp_in")
        if shape.activation == "quick_gelu":
            steep = self.constant("quick_gelu", QUICK_GELU, TensorProto.FLOAT)
            gate = self.node("Mul", [x, steep], f"{name}.steep")
            gate = self.node("Sigmoid", [gate], f"{name}.gate")
            x = self.node("Mul", [x, gate], f"{name}.active")
        else:
            form = "tanh" if shape.activation == "gelu_tanh" else "none"
            x = self.node("Gelu", [x], f"{name}.active", approximate=form)
        return self.dense(x, second, f"{name}.mlp_out")

    def pooled(self, x: str, head: AttentionPooling, shape: Shape, *, tokens: int) -> str:
        """One row of all tokens: what a learnt query finds in them."""
        width, size = shape.width, shape.width // shape.heads
        (weights,), (shifts,) = head.attention_in.weights, head.attention_in.shifts
        # The query does not depend on the picture: a constant, folded when a session loads.
        part = Dense(weights=(_rows(weights, 0, width),), shifts=(_rows(shifts, 0, width),))
        query = self.reshape(self.weight("head.query", head.query), (1, 1, width), "head.query.row")
        query = self.dense(query, part, "head.query.in")
        query = self.reshape(query, (1, shape.heads, 1, size), "head.query.heads")
        part = Dense(
            weights=(_rows(weights, width, 3 * width),), shifts=(_rows(shifts, width, 3 * width),)
        )
        both = self.dense(x, part, "head.key_value")
        both = self.reshape(both, (0, tokens, 2, shape.heads, size), "head.parts")
        both = self.node("Transpose", [both], "head.by_kind", perm=[2, 0, 3, 1, 4])
        split = ["head.key_1", "head.value_1"]
        self._nodes.append(
            helper.make_node("Split", [both], split, name="head.split", axis=0, num_outputs=2)
        )
        key, value = (
            self.node("Squeeze", [one, self.integers(0)], one.removesuffix("_1")) for one in split
        )
        mixed = self.attention(query, key, value, shape, "head", tokens=1)
        mixed = self.reshape(mixed, (0, width), "head.row")
        x = self.dense(mixed, head.attention_out, "head.attention_out")
        hidden = self.norm(x, head.mlp_norm, shape, "head.mlp_norm")
        hidden = self.mlp(hidden, head.mlp_in, head.mlp_out, shape, "head")
        return self.node("Add", [x, hidden], "head.pooled")

    def causal(self, length: int) -> str:
        """What is added to scores: a token sees none behind it."""
        hidden = np.triu(np.full((length, length), np.finfo(np.float32).min), 1)
        return self.constant("causal", hidden, TensorProto.FLOAT)

    def at_end(self, x: str, tower: TextTower) -> str:
        """The token where a text's vector is read."""
        if tower.at_last:
            return self.node("Gather", [x, self.index(tower.length - 1)], "head.end", axis=1)
        ids = "ids"
        if tower.end is not None:
            here = self.node("Equal", [ids, self.index(tower.end)], "head.is_end")
            ids = self.node("Cast", [here], "head.ends", to=TensorProto.INT64)
        place = self.node("ArgMax", [ids], "head.place", axis=1, keepdims=1)
        return self.node("GatherND", [x, place], "head.end", batch_dims=1)

    def unit(self, x: str, output: str) -> str:
        length = self.node("ReduceL2", [x, self.integers(-1)], f"{output}.length", keepdims=1)
        return self.node("Div", [x, length], output)

    def model(
        self,
        input_: onnx.ValueInfoProto,
        output: onnx.ValueInfoProto,
        properties: dict[str, str],
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self._name, [input_], [output], list(self._tensors.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="edgepact",
        )
        helper.set_model_props(model, properties)
        return model


def _rows(stored: Stored, start: int, stop: int) -> Stored:
    return Stored(stored.values[start:stop], stored.kind)


def _value(name: str, datatype: int, *sizes: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, datatype, ["batch", *sizes])
