"""Writing a trained CLIP as a model directory: ONNX graphs over one weight file.

The graphs are put together block by block with `onnx.helper`, so that they hold
exactly the operators of the model, keep the batch dimension symbolic (no
`Shape` node anywhere) and name the tensors at which they may be cut. Weights
are stored once, in half precision, in `weights.bin`; each is followed by a
cast to single precision that ONNX Runtime folds away when a session loads.
Computing stays in single precision, which a CPU does faster. Rounding the
JAX model with `rounded_to_half` first makes both compute the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from edgepact.errors import InputError
from edgepact.inference.digests import state_weights
from edgepact.inference.graph import BOUNDARIES_KEY, cut
from edgepact.inference.pipeline import IMAGE_GRAPH, MODEL_JSON, ModelInfo
from edgepact.inference.zero_shot import TEXT_GRAPH
from edgepact.training.clip import (
    NORM_EPSILON,
    Block,
    Clip,
    ClipConfig,
    Dense,
    ImageEncoder,
    Norm,
    Normalisation,
    TextEncoder,
)

WEIGHTS = "weights.bin"
CONFIG_KEY = "edgepact.clip"

# LayerNormalization exists since opset 17, ReduceMean takes its axes as an input since 18.
_OPSET = 18
_IR_VERSION = 10
# Offsets in the weight file are multiples of this: the width of an AVX-512 register.
_ALIGNMENT_BYTES = 64
_MASKED = -1e9


def rounded_to_half(model: Clip) -> Clip:
    """The same model with weights that half precision can hold."""
    rounded: Clip = jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf, np.float16), jnp.float32), model
    )
    return rounded


def export(
    model: Clip,
    config: ClipConfig,
    normalisation: Normalisation,
    *,
    name: str,
    labels: Sequence[str],
    templates: Sequence[str],
    model_dir: Path,
) -> None:
    """Write graphs, weights, stages and `model.json`.

    Args:
        model: what to write; its weights are rounded to half precision.
        config: its shape.
        normalisation: of the pixels, for `model.json`.
        name: of the model.
        labels: classes that a knowledge base holds by default.
        templates: prompts that it is built from by default, each with one `{}`.
        model_dir: created if missing; files of an earlier export are replaced.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    logit_scale = float(rounded_to_half(model).logit_scale)
    # NumPy from here on: JAX would compile a program for every slice of every shape.
    model = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), model)
    weights = _Weights()
    graphs = {
        IMAGE_GRAPH: _image_graph(model.image, config, weights),
        TEXT_GRAPH: _text_graph(model.text, config, weights),
    }
    (model_dir / WEIGHTS).write_bytes(weights.data)
    for file, graph in graphs.items():
        (model_dir / file).write_bytes(graph.SerializeToString(deterministic=True))
        # By path: only so does the checker find the weights.
        onnx.checker.check_model(model_dir / file, full_check=True)
    facts = {
        "name": name,
        "layers_max": config.layers,
        "image_size": config.image_size,
        "channels": config.channels,
        "mean": normalisation.mean,
        "std": normalisation.std,
        "dim": config.dim,
        "logit_scale": round(logit_scale, 4),
        "labels": list(labels),
        "templates": list(templates),
        "tokens": config.tokens,
        "width": config.width,
    }
    (model_dir / MODEL_JSON).write_text(json.dumps(facts, indent=2) + "\n")
    state_weights(model_dir)
    cut(model_dir)


def image_graph(encoder: ImageEncoder, config: ClipConfig) -> onnx.ModelProto:
    """The graph of an image encoder with its weights inside, rounded to half precision.

    Args:
        encoder: of NumPy or JAX arrays; blocks may have fewer heads and units than the shape says.
        config: its shape.
    """
    weights = _Weights()
    halves = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), encoder)
    model = _image_graph(halves, config, weights)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            offset, length = int(place["offset"]), int(place["length"])
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = bytes(weights.data[offset : offset + length])
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model read back from its directory, ready to be trained further."""

    model: Clip
    config: ClipConfig
    normalisation: Normalisation


def load(model_dir: Path) -> Loaded:
    """Read back what `export` wrote.

    Raises:
        InputError: the directory was not written by `export`, or is damaged.
    """
    info = ModelInfo.read(model_dir)
    graphs = {name: _read(model_dir / name) for name in (IMAGE_GRAPH, TEXT_GRAPH)}
    stored = {
        tensor.name: tensor for graph in graphs.values() for tensor in graph.graph.initializer
    }
    config = _config(graphs[IMAGE_GRAPH], model_dir / IMAGE_GRAPH)
    skeleton = eqx.filter_eval_shape(Clip.init, jax.random.key(0), config)

    def leaf(path: tuple[jax.tree_util.GetAttrKey, ...], like: jax.ShapeDtypeStruct) -> np.ndarray:
        names = [part.name for part in path]
        if names == ["log_scale"]:
            return np.asarray(np.log(info.logit_scale))
        if "blocks" not in names:
            return values(".".join(names), like.shape)
        at = names.index("blocks")
        return np.stack(
            [
                values(
                    ".".join([*names[:at], f"block_{number:02d}", *names[at + 1 :]]), like.shape[1:]
                )
                for number in range(1, like.shape[0] + 1)
            ]
        )

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        tensor = stored.get(name)
        if tensor is None or tuple(tensor.dims) != shape:
            found = "no such weight" if tensor is None else f"shape {tuple(tensor.dims)}"
            raise InputError(model_dir, name, f"a weight of shape {shape}", found)
        return np.asarray(numpy_helper.to_array(tensor))

    model: Clip = jax.tree_util.tree_map_with_path(
        lambda path, like: jnp.asarray(leaf(path, like), jnp.float32), skeleton
    )
    return Loaded(
        model=model, config=config, normalisation=Normalisation(mean=info.mean[0], std=info.std[0])
    )


class _Weights:
    """The weight file in the making, shared by all graphs."""

    def __init__(self) -> None:
        self.data = bytearray()

    def tensor(self, name: str, values: ArrayLike) -> onnx.TensorProto:
        """Append values and describe where they lie."""
        half = np.asarray(values, "<f2")  # Little-endian, as ONNX wants external data.
        self.data.extend(bytes(-len(self.data) % _ALIGNMENT_BYTES))
        tensor = onnx.TensorProto(
            name=name,
            data_type=TensorProto.FLOAT16,
            dims=half.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": WEIGHTS, "offset": len(self.data), "length": half.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.data.extend(half.tobytes())
        return tensor


class _Graph:
    """Nodes and weights of one graph; every method adds nodes and names their result."""

    def __init__(self, prefix: str, weights: _Weights) -> None:
        self._prefix, self._weights = prefix, weights
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: ArrayLike) -> str:
        stored = f"{self._prefix}.{name}"
        self._tensors[stored] = self._weights.tensor(stored, values)
        return self.node("Cast", [stored], f"{name}.fp32", to=TensorProto.FLOAT)

    def integers(self, *values: int) -> str:
        """A small constant such as the target of a reshape, kept in the graph itself."""
        name = "ints_" + "_".join(str(value).replace("-", "m") for value in values)
        self._tensors[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def number(self, name: str, value: float) -> str:
        self._tensors[name] = helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        return name

    def reshape(self, x: str, shape: Sequence[int], output: str) -> str:
        """0 keeps a dimension, so that no graph asks for the batch size."""
        return self.node("Reshape", [x, self.integers(*shape)], output)

    def dense(self, x: str, layer: Dense, name: str) -> str:
        product = self.node("MatMul", [x, self.weight(f"{name}.weight", layer.weight)], f"{name}.x")
        return self.node("Add", [product, self.weight(f"{name}.bias", layer.bias)], f"{name}.y")

    def norm(self, x: str, layer: Norm, name: str) -> str:
        inputs = [
            x,
            self.weight(f"{name}.scale", layer.scale),
            self.weight(f"{name}.bias", layer.bias),
        ]
        return self.node("LayerNormalization", inputs, f"{name}.y", axis=-1, epsilon=NORM_EPSILON)

    def block(self, x: str, layer: Block, name: str, *, tokens: int, added: str | None) -> str:
        """A transformer block; its result is named `{name}.out`.

        Args:
            x: name of its input.
            layer: the weights.
            name: of the block.
            tokens: number of them.
            added: what is added to the attention scores before the softmax.
        """
        heads = layer.heads
        size = layer.attention_out.weight.shape[0] // heads
        at = f"{name}.attention"
        normal = self.norm(x, layer.attention_norm, f"{name}.attention_norm")
        qkv = self.dense(normal, layer.attention_in, f"{name}.attention_in")
        parts = self.reshape(qkv, (0, tokens, 3, heads, size), f"{at}.parts")
        # [3, n, heads, tokens, size]: one split makes query, key and value.
        parts = self.node("Transpose", [parts], f"{at}.by_kind", perm=[2, 0, 3, 1, 4])
        split = [f"{at}.{kind}_1" for kind in ("query", "key", "value")]
        self._nodes.append(
            helper.make_node("Split", [parts], split, name=f"{at}.split", axis=0, num_outputs=3)
        )
        query, key, value = (
            self.node("Squeeze", [one, self.integers(0)], one.removesuffix("_1")) for one in split
        )
        key = self.node("Transpose", [key], f"{at}.key_t", perm=[0, 1, 3, 2])
        score = self.node("MatMul", [query, key], f"{at}.raw_score")
        score = self.node("Mul", [score, self.number("attention_scale", size**-0.5)], f"{at}.score")
        if added is not None:
            score = self.node("Add", [score, added], f"{at}.masked_score")
        share = self.node("Softmax", [score], f"{at}.share", axis=-1)
        mixed = self.node("MatMul", [share, value], f"{at}.mixed")
        mixed = self.node("Transpose", [mixed], f"{at}.by_token", perm=[0, 2, 1, 3])
        mixed = self.reshape(mixed, (0, tokens, heads * size), f"{at}.joined")
        attended = self.dense(mixed, layer.attention_out, f"{name}.attention_out")
        x = self.node("Add", [x, attended], f"{name}.middle")
        hidden = self.dense(
            self.norm(x, layer.mlp_norm, f"{name}.mlp_norm"), layer.mlp_in, f"{name}.mlp_in"
        )
        steep = self.node("Mul", [hidden, self.number("gelu_scale", 1.702)], f"{name}.gelu_in")
        gate = self.node("Sigmoid", [steep], f"{name}.gelu_gate")
        hidden = self.node("Mul", [hidden, gate], f"{name}.gelu")
        return self.node(
            "Add", [x, self.dense(hidden, layer.mlp_out, f"{name}.mlp_out")], f"{name}.out"
        )

    def unit(self, x: str, output: str) -> str:
        length = self.node("ReduceL2", [x, self.integers(-1)], f"{output}.length", keepdims=1)
        return self.node("Div", [x, length], output)

    def model(
        self,
        input_: onnx.ValueInfoProto,
        output: onnx.ValueInfoProto,
        properties: Mapping[str, str],
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self._prefix, [input_], [output], list(self._tensors.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="edgepact",
        )
        helper.set_model_props(model, dict(properties))
        return model


def _image_graph(encoder: ImageEncoder, config: ClipConfig, weights: _Weights) -> onnx.ModelProto:
    graph = _Graph("image", weights)
    side, patch, channels = config.image_size // config.patch, config.patch, config.channels
    tiles = graph.reshape("pixels", (0, channels, side, patch, side, patch), "embed.tiles")
    tiles = graph.node("Transpose", [tiles], "embed.by_patch", perm=[0, 2, 4, 1, 3, 5])
    rows = graph.reshape(tiles, (0, config.tokens, channels * patch**2), "embed.rows")
    patches = graph.dense(rows, encoder.patches, "patches")
    position = graph.weight("position", encoder.position)
    x = graph.node("Add", [patches, position], "embed.out")
    boundaries = [x]
    for number, layer in enumerate(_unstacked(encoder.blocks), start=1):
        x = graph.block(x, layer, f"block_{number:02d}", tokens=config.tokens, added=None)
        boundaries.append(x)
    normal = graph.norm(x, encoder.norm, "norm")
    mean = graph.node("ReduceMean", [normal, graph.integers(1)], "head.mean", keepdims=0)
    graph.unit(graph.dense(mean, encoder.projection, "projection"), "vector")
    size = config.image_size
    return graph.model(
        _value("pixels", TensorProto.FLOAT, channels, size, size),
        _value("vector", TensorProto.FLOAT, config.dim),
        {BOUNDARIES_KEY: json.dumps(boundaries), CONFIG_KEY: json.dumps(asdict(config))},
    )


def _text_graph(encoder: TextEncoder, config: ClipConfig, weights: _Weights) -> onnx.ModelProto:
    graph = _Graph("text", weights)
    count = config.text_bytes
    letters = graph.weight("letters", encoder.letters)
    x = graph.node("Gather", [letters, "bytes"], "embed.letters", axis=0)
    x = graph.node("Add", [x, graph.weight("position", encoder.position)], "embed.out")
    present = graph.node("Cast", ["bytes"], "present.bool", to=TensorProto.BOOL)
    present = graph.node("Cast", [present], "present", to=TensorProto.FLOAT)
    missing = graph.node("Sub", [graph.number("one", 1.0), present], "missing")
    added = graph.node("Mul", [missing, graph.number("masked", _MASKED)], "mask.flat")
    added = graph.reshape(added, (0, 1, 1, count), "mask")
    for number, layer in enumerate(_unstacked(encoder.blocks), start=1):
        x = graph.block(x, layer, f"block_{number:02d}", tokens=count, added=added)
    normal = graph.norm(x, encoder.norm, "norm")
    weight = graph.node("Unsqueeze", [present, graph.integers(2)], "head.weight")
    kept = graph.node("Mul", [normal, weight], "head.kept")
    total = graph.node("ReduceSum", [kept, graph.integers(1)], "head.total", keepdims=0)
    length = graph.node("ReduceSum", [present, graph.integers(1)], "head.length", keepdims=1)
    mean = graph.node("Div", [total, length], "head.mean")
    graph.unit(graph.dense(mean, encoder.projection, "projection"), "vector")
    return graph.model(
        _value("bytes", TensorProto.INT32, count),
        _value("vector", TensorProto.FLOAT, config.dim),
        {},
    )


def _unstacked(blocks: Block) -> Iterator[Block]:
    for index in range(blocks.attention_norm.scale.shape[0]):
        yield jax.tree.map(lambda leaf, at=index: leaf[at], blocks)


def _value(name: str, kind: int, *sizes: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *sizes])


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(path, "", "an ONNX model with its weights", reason) from error


def _config(model: onnx.ModelProto, path: Path) -> ClipConfig:
    properties = {entry.key: entry.value for entry in model.metadata_props}
    text = properties.get(CONFIG_KEY, "nothing")
    try:
        return ClipConfig(**json.loads(text))
    except (TypeError, ValueError):
        raise InputError(
            path, f"metadata_props[{CONFIG_KEY}]", "the shape of a CLIP of edgepact", text[:80]
        ) from None
