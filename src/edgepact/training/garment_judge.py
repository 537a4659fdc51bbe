"""Training of the judge of garments: a small convolutional network that knows pictures and labels.

It judges what the generator makes (`edgepact.training.garments`), so it shares nothing with it: no
captions, no vectors of the embedded CLIP, no weights, not the seed; only the training pictures,
which it has seen with their labels. Three convolutions of 3x3, each halved by the largest of 2x2,
a layer whose 64 numbers are the features of Fréchet distances, and a layer of classes.

Convolutions are matrix products of patches here: on a processor that is several times faster than
a convolution in JAX. `write_judge` makes an ONNX model of ordinary convolutions of the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import optax
from jaxtyping import Array, Float, Int, Key, UInt8
from onnx import TensorProto, helper, numpy_helper

from edgepact.inference.judge import JUDGE, MEAN, STD
from edgepact.training.clip import augment
from edgepact.training.fashion_mnist import IMAGE_SIZE, LABELS

Weights = dict[str, Array]
Report = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """How the judge is trained.

    Attributes:
        channels: of the three convolutions.
        features: numbers of a picture before the classes.
        epochs: passes over the pictures.
        batch: pictures of a step.
        learning_rate: after the warm-up, before it falls along a cosine.
        shift_pixels: pictures are mirrored, and moved by up to so much.
    """

    channels: tuple[int, int, int] = (12, 24, 48)
    features: int = 64
    epochs: int = 5
    batch: int = 128
    learning_rate: float = 2e-3
    shift_pixels: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgeTrained:
    """A judge, and how its training went.

    Attributes:
        weights: arrays by name.
        losses: of each step.
        cpu_seconds: of this process for all of it.
    """

    weights: dict[str, np.ndarray]
    losses: Float[np.ndarray, " steps"]
    cpu_seconds: float


def initial(key: Key[Array, ""], config: JudgeConfig) -> Weights:
    """Random weights."""
    one, two, three = config.channels
    side = IMAGE_SIZE // 8
    shapes = {
        "conv0": (9, one),
        "conv1": (9 * one, two),
        "conv2": (9 * two, three),
        "dense": (side * side * three, config.features),
        "classes": (config.features, len(LABELS)),
    }
    weights: Weights = {}
    for at, (name, shape) in zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True):
        weights[name] = jax.random.normal(at, shape) * (2 / shape[0]) ** 0.5
        weights[name + "_bias"] = jnp.zeros(shape[1])
    return weights


def logits_of(weights: Weights, images: UInt8[Array, "n size size"]) -> Float[Array, "n classes"]:
    """A number for each class."""
    x = ((images.astype(jnp.float32) / 255 - MEAN) / STD)[..., None]
    for at in range(3):
        patches = _patches(x)
        flat = patches.reshape(-1, patches.shape[-1]) @ weights[f"conv{at}"]
        x = jax.nn.relu(flat + weights[f"conv{at}_bias"]).reshape(*x.shape[:3], -1)
        x = _halved(x)
    x = x.reshape(len(x), -1)
    features = jax.nn.relu(x @ weights["dense"] + weights["dense_bias"])
    return features @ weights["classes"] + weights["classes_bias"]


def train_judge(
    images: UInt8[np.ndarray, "n size size"],
    labels: UInt8[np.ndarray, " n"],
    config: JudgeConfig,
    *,
    seed: int,
    report: Report = lambda done, steps, loss: None,
) -> JudgeTrained:
    """Trains a judge.

    Args:
        images: grey levels.
        labels: class of each.
        config: how.
        seed: all randomness comes from it.
        report: told how it goes, after each chunk of steps.
    """
    started_s = time.process_time()
    first_key, key = jax.random.split(jax.random.key(seed))
    weights = initial(first_key, config)
    per_epoch = len(labels) // config.batch
    steps = per_epoch * config.epochs
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, steps // 20), max(2, steps)
    )
    optimiser = optax.adamw(schedule, weight_decay=0.02)

    def loss_of(weights: Weights, rows: Int[Array, " batch"], key: Key[Array, ""]) -> Array:
        found = logits_of(weights, augment(key, all_images[rows], config.shift_pixels))
        return optax.softmax_cross_entropy_with_integer_labels(found, all_labels[rows]).mean()

    @jax.jit
    def epoch(
        weights: Weights,
        moments: optax.OptState,
        rows: Int[Array, "steps batch"],
        key: Key[Array, ""],
    ) -> tuple[Weights, optax.OptState, Float[Array, " steps"]]:
        def step(
            carry: tuple[Weights, optax.OptState], inputs: tuple[Array, Array]
        ) -> tuple[tuple[Weights, optax.OptState], Array]:
            weights, moments = carry
            loss, gradient = jax.value_and_grad(loss_of)(weights, *inputs)
            updates, moments = optimiser.update(gradient, moments, weights)
            return (optax.apply_updates(weights, updates), moments), loss

        (weights, moments), losses = jax.lax.scan(
            step, (weights, moments), (rows, jax.random.split(key, len(rows)))
        )
        return weights, moments, losses

    all_images, all_labels = jnp.asarray(images), jnp.asarray(labels, jnp.int32)
    moments = optimiser.init(weights)
    losses: list[np.ndarray] = []
    for at in range(config.epochs):
        key, order_key, now = jax.random.split(key, 3)
        order = jax.random.permutation(order_key, len(labels))[: per_epoch * config.batch]
        rows = order.reshape(per_epoch, config.batch)
        weights, moments, lost = epoch(weights, moments, rows, now)
        losses.append(np.asarray(lost))
        report((at + 1) * per_epoch, steps, float(losses[-1].mean()))
    return JudgeTrained(
        weights={name: np.asarray(values, np.float32) for name, values in weights.items()},
        losses=np.concatenate(losses),
        cpu_seconds=time.process_time() - started_s,
    )


def write_judge(weights: dict[str, np.ndarray], folder: Path) -> Path:
    """Writes the ONNX model that `edgepact.inference.judge` runs; returns its path.

    Its weights are in half precision, and turned into single precision when it is loaded.
    """
    nodes, held = [], []

    def kept(name: str, values: np.ndarray) -> str:
        held.append(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        nodes.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
        return name

    x = "pixels"
    for at in range(3):
        flat = weights[f"conv{at}"]
        # Rows are kernel row, kernel column, channel.
        kernel = flat.reshape(3, 3, -1, flat.shape[1]).transpose(3, 2, 0, 1)
        parts = [kept(f"conv{at}", kernel), kept(f"conv{at}_bias", weights[f"conv{at}_bias"])]
        nodes += [
            helper.make_node("Conv", [x, *parts], [f"c{at}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{at}"], [f"r{at}"]),
            helper.make_node(
                "MaxPool", [f"r{at}"], [f"p{at}"], kernel_shape=[2, 2], strides=[2, 2]
            ),
        ]
        x = f"p{at}"
    # JAX flattens rows, columns, channels.
    nodes += [
        helper.make_node("Transpose", [x], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["last"], ["flat"]),
    ]
    dense = [kept(name, weights[name]) for name in ("dense", "dense_bias")]
    classes = [kept(name, weights[name]) for name in ("classes", "classes_bias")]
    nodes += [
        helper.make_node("Gemm", ["flat", *dense], ["summed"]),
        helper.make_node("Relu", ["summed"], ["features"]),
        helper.make_node("Gemm", ["features", *classes], ["logits"]),
    ]
    # Casts first: a node may only use what stands before it.
    nodes.sort(key=lambda node: node.op_type != "Cast")
    size = [IMAGE_SIZE, IMAGE_SIZE]
    graph = helper.make_graph(
        nodes,
        "garment-judge",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 1, *size])],
        [
            helper.make_tensor_value_info(
                "features", TensorProto.FLOAT, ["n", weights["dense"].shape[1]]
            ),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(LABELS)]),
        ],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path = folder / JUDGE
    path.write_bytes(model.SerializeToString())
    return path


def _patches(x: Float[Array, "n rows columns channels"]) -> Float[Array, "n rows columns patch"]:
    rows, columns = x.shape[1:3]
    around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate(
        [around[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=-1
    )


def _halved(x: Float[Array, "n rows columns channels"]) -> Float[Array, "n half half channels"]:
    """The largest of each 2x2; an odd last row or column is left out."""
    n, rows, columns, channels = x.shape
    even = x[:, : rows // 2 * 2, : columns // 2 * 2]
    return even.reshape(n, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4))
