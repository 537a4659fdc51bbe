"""Training of the generator of garments: flow matching in principal components.

The pictures are Fashion-MNIST's; the text is what the embedded CLIP's text encoder makes of a
caption of the class, drawn anew in every batch, and nothing for a tenth of them, so that guidance
has something to compare with. `edgepact.inference.flow` says what is learnt, and runs it without
JAX; a test holds the two networks equal.

The loss is the squared error of the velocity that the estimate implies, in each component
$\\lambda_i / ((1-t)^2 + t^2 \\lambda_i)$ times the squared error in units of what a Gaussian
leaves unknown: neither the small components nor the late times drown the others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from edgepact.inference.flow import FREQUENCIES, MATRICES, PIXELS, Flow, Network
from edgepact.inference.pipeline import open_session
from edgepact.inference.zero_shot import TEXT_GRAPH
from edgepact.training.captions import caption_bank

Weights = dict[str, Array]
Report = Callable[[int, int, float], None]
"""Told after each chunk: steps done, steps in all, mean loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GarmentsConfig:
    """How the generator is trained.

    Attributes:
        components: principal components kept.
        width: of the residual blocks.
        blocks: how many.
        cond: width of the condition.
        captions: of each class, to draw from.
        no_text: share of pictures that are shown without a text.
        steps: of the optimiser.
        batch: pictures of a step.
        learning_rate: after the warm-up, before it falls along a cosine.
        average: weights that are kept are an exponential mean with this decay.
        chunk_steps: steps between two reports.
    """

    components: int = 128
    width: int = 384
    blocks: int = 4
    cond: int = 128
    captions: int = 1024
    no_text: float = 0.1
    steps: int = 3000
    batch: int = 256
    learning_rate: float = 1.5e-3
    average: float = 0.998
    chunk_steps: int = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GarmentsTrained:
    """A generator in single precision, and how its training went.

    Attributes:
        flow: the generator.
        losses: of each step.
        cpu_seconds: of this process for the steps, compiling included.
    """

    flow: Flow
    losses: Float[np.ndarray, " steps"]
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Components:
    """Principal components of pictures, scaled.

    Each is divided by the fourth root of its variance, so that large components stay larger than
    small ones, and the chain settles them first, but not by as much.

    Attributes:
        mean: of the pictures, grey levels from -1 to 1.
        basis: picture of each component's unit.
        variance: of each component.
        kept: share of the pictures' variance that the components hold.
    """

    mean: Float[np.ndarray, " pixels"]
    basis: Float[np.ndarray, "components pixels"]
    variance: Float[np.ndarray, " components"]
    kept: float

    @classmethod
    def of(cls, images: UInt8[np.ndarray, "n size size"], count: int) -> "Components":
        """The first `count` components of images."""
        levels = images.reshape(len(images), -1).astype(np.float32) / np.float32(127.5) - 1
        mean = levels.mean(axis=0)
        covariance = np.cov(levels.T)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        total = float(np.trace(covariance))
        # Their scaled variances have a mean of 1, as noise has.
        scale = values**0.25 * np.sqrt(np.sqrt(values).mean())
        return cls(
            mean=mean,
            basis=(vectors * scale).T.astype(np.float32),
            variance=(values / scale**2).astype(np.float32),
            kept=float(values.sum()) / total,
        )


def caption_vectors(clip: Path, count: int, seed: int) -> Float[np.ndarray, "classes captions dim"]:
    """Text vectors of captions of each class, by the embedded CLIP's text encoder."""
    bank = caption_bank(count, seed=seed)
    session = open_session(clip / TEXT_GRAPH)
    vectors = [session.run(["vector"], {"bytes": texts})[0] for texts in bank]
    stacked = np.stack(vectors)
    unit: np.ndarray = stacked / np.linalg.norm(stacked, axis=-1, keepdims=True)
    return unit


def initial(key: Key[Array, ""], config: GarmentsConfig, dim: int) -> Weights:
    """Random weights; the last layer begins at 0, where the Gaussian's answer stands alone."""
    inputs = dim + 2 * FREQUENCIES
    shapes = {
        "embed": (config.components, config.width),
        "condition": (inputs, config.cond),
        "blend": (config.cond, config.cond),
        "modulate": (config.blocks, config.cond, 2 * config.width),
        "up": (config.blocks, config.width, config.width),
        "down": (config.blocks, config.width, config.width),
    }
    weights = {
        name: jax.random.normal(one, shape) * shape[-2] ** -0.5
        for one, (name, shape) in zip(
            jax.random.split(key, len(shapes)), shapes.items(), strict=True
        )
    }
    weights["modulate"] *= 0.1
    weights["down"] *= config.blocks**-0.5
    weights["out"] = jnp.zeros((config.width, config.components))
    weights["condition_bias"] = jnp.zeros(config.cond)
    weights["blend_bias"] = jnp.zeros(config.cond)
    weights["modulate_bias"] = jnp.zeros((config.blocks, 2 * config.width))
    weights["up_bias"] = jnp.zeros((config.blocks, config.width))
    return weights


def residual(
    weights: Weights,
    scaled: Float[Array, "rows components"],
    t: Float[Array, "rows 1"],
    text: Float[Array, "rows dim"],
) -> Float[Array, "rows components"]:
    """What the network adds to the Gaussian's answer, in units of what that leaves unknown."""
    angles = jnp.pi * t * jnp.arange(FREQUENCIES)
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
    inputs = jnp.concatenate([text * text.shape[1] ** 0.5, waves], axis=1)
    told = jax.nn.silu(inputs @ weights["condition"] + weights["condition_bias"])
    told = jax.nn.silu(told @ weights["blend"] + weights["blend_bias"])
    h = scaled @ weights["embed"]
    for at in range(len(weights["up"])):
        both = told @ weights["modulate"][at] + weights["modulate_bias"][at]
        scale, shift = jnp.split(both, 2, axis=1)
        inner = _normal(h) * (1 + scale) + shift
        up = jax.nn.silu(inner @ weights["up"][at] + weights["up_bias"][at])
        h = h + up @ weights["down"][at]
    return _normal(h) @ weights["out"]


def train_garments(
    images: UInt8[np.ndarray, "n size size"],
    labels: UInt8[np.ndarray, " n"],
    texts: Float[np.ndarray, "classes captions dim"],
    config: GarmentsConfig,
    *,
    seed: int,
    report: Report = lambda done, steps, loss: None,
) -> GarmentsTrained:
    """Trains a generator.

    Args:
        images: grey levels.
        labels: class of each.
        texts: vectors of captions of each class.
        config: how.
        seed: all randomness comes from it.
        report: told how it goes.
    """
    started_s = time.process_time()
    found = Components.of(images, config.components)
    levels = images.reshape(-1, PIXELS).astype(np.float32) / np.float32(127.5) - 1
    size = (found.basis**2).sum(axis=1)
    data = _Data(
        z=jnp.asarray((levels - found.mean) @ (found.basis / size[:, None]).T),
        labels=jnp.asarray(labels, jnp.int32),
        texts=jnp.asarray(texts),
        variance=jnp.asarray(found.variance),
    )
    first_key, key = jax.random.split(jax.random.key(seed))
    weights = initial(first_key, config, texts.shape[2])
    optimiser = _optimiser(config)
    state = (weights, weights, optimiser.init(weights))
    run = jax.jit(lambda state, data, key, at: _chunk(state, data, key, at, config, optimiser))
    losses: list[np.ndarray] = []
    for start in range(0, config.steps, config.chunk_steps):
        key, now = jax.random.split(key)
        state, lost = run(state, data, now, jnp.asarray(start))
        losses.append(np.asarray(lost))
        report(start + len(lost), config.steps, float(losses[-1].mean()))
    averaged = {name: np.asarray(values, np.float32) for name, values in state[1].items()}
    network = Network(**{field.name: averaged[field.name] for field in fields(Network)})
    flow = Flow(mean=found.mean, basis=found.basis, variance=found.variance, network=network)
    return GarmentsTrained(
        flow=flow,
        losses=np.concatenate(losses)[: config.steps],
        cpu_seconds=time.process_time() - started_s,
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """What every step draws from; an argument, since a constant would be compiled in."""

    z: Float[Array, "n components"]
    labels: Int[Array, " n"]
    texts: Float[Array, "classes captions dim"]
    variance: Float[Array, " components"]


_State = tuple[Weights, Weights, optax.OptState]


def _chunk(
    state: _State,
    data: _Data,
    key: Key[Array, ""],
    start: Int[Array, ""],
    config: GarmentsConfig,
    optimiser: optax.GradientTransformation,
) -> tuple[_State, Float[Array, " steps"]]:
    def step(
        carry: _State, inputs: tuple[Key[Array, ""], Int[Array, ""]]
    ) -> tuple[_State, Float[Array, ""]]:
        weights, averaged, moments = carry
        key, at = inputs
        loss, gradient = jax.value_and_grad(_loss)(weights, data, key, config)
        updates, moments = optimiser.update(gradient, moments, weights)
        weights = optax.apply_updates(weights, updates)
        # A mean over fewer steps at first, which would else remember the random beginning.
        keep = jnp.minimum(config.average, (at + 1) / (at + 10))
        averaged = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, averaged, weights)
        return (weights, averaged, moments), loss

    keys = jax.random.split(key, config.chunk_steps)
    return jax.lax.scan(step, state, (keys, start + jnp.arange(config.chunk_steps)))


def _loss(
    weights: Weights, data: _Data, key: Key[Array, ""], config: GarmentsConfig
) -> Float[Array, ""]:
    row_key, noise_key, time_key, text_key, none_key = jax.random.split(key, 5)
    batch = config.batch
    row = jax.random.randint(row_key, (batch,), 0, len(data.labels))
    z, label = data.z[row], data.labels[row]
    caption = jax.random.randint(text_key, (batch,), 0, data.texts.shape[1])
    shown = jax.random.bernoulli(none_key, 1 - config.no_text, (batch, 1))
    text = data.texts[label, caption] * shown
    # Times stand evenly, each moved by the same amount: a batch then misses no part of the chain.
    moved = (jnp.arange(batch) + jax.random.uniform(time_key)) / batch
    t = moved[:, None] * 0.999
    x = (1 - t) * jax.random.normal(noise_key, z.shape) + t * z
    spread = (1 - t) ** 2 + t**2 * data.variance
    known = data.variance * t * x / spread
    target = (z - known) / (jnp.sqrt(data.variance / spread) * (1 - t))
    missed = residual(weights, x / jnp.sqrt(spread), t, text) - target
    return jnp.mean(data.variance / spread * missed**2)


def _normal(h: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    h = h - h.mean(axis=1, keepdims=True)
    return h / jnp.sqrt((h * h).mean(axis=1, keepdims=True) + 1e-5)


def _optimiser(config: GarmentsConfig) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, config.steps // 40), max(2, config.steps)
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            schedule,
            b2=0.99,
            weight_decay=0.01,
            mask={field.name: field.name in MATRICES for field in fields(Network)},
        ),
    )
