r"""Fewer attention heads and fewer hidden units in every block, and a short fine-tuning.

A head leaves with its columns of query, key and value and its rows of the projection behind; a
hidden unit with its column and its row. Those go whose part of the block's output varies least
over the pictures, and their mean stays as a bias. What is left is an ordinary dense model with as
many numbers between its blocks as before.

That is what makes halves: the fine-tuning teaches the pruned blocks what the original's blocks
hand on, at *every* boundary and not at the end alone. A device may then run pruned blocks in front
of a server's original ones, or the other way round, wherever the model is cut.

No labels are needed. Without pictures of the user's, those of the embedded generator of garments
serve, so that nothing has to be downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int

from edgepact.efficiency.model_compression.model_folder import (
    check_free,
    check_share,
    keep_only_boundaries,
    write_model,
)
from edgepact.errors import InputError
from edgepact.inference.flow import moved, read_flow
from edgepact.inference.models import garments
from edgepact.inference.pipeline import ModelInfo
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.training.clip import Block, ImageEncoder
from edgepact.training.export import image_graph, load

METHOD = "heads"

STEPS_MAX = 20_000

Report = Callable[[int, int, float], None]
"""Told after each chunk: steps done, steps in all, mean loss."""

_Pair = tuple[Array, Array]
"""What the pruned blocks hand on, and what the original's do."""

_FLOW_STEPS = 8
"""Of the generator's chain: teaching needs no finer pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningConfig:
    """How a model is pruned and taught.

    Attributes:
        share: of the heads and of the hidden units of each block that go, from 0 to below 1;
            rounded to whole ones, of which one stays.
        steps: of the optimiser; 0 prunes alone.
        batch: pictures of a step.
        learning_rate: after a short warm-up, before it falls along a cosine.
        seed: of the order of pictures.
        chunk_steps: steps between two reports.
    """

    share: float = 0.5
    steps: int = 400
    batch: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    chunk_steps: int = 50

    def __post_init__(self) -> None:
        check_share(self.share)
        for name, least in (("steps", 0), ("batch", 1), ("chunk_steps", 1)):
            value = getattr(self, name)
            if not least <= value <= STEPS_MAX:
                raise InputError("pruning", name, f"a number from {least} to {STEPS_MAX}", value)


def prune_heads(
    model_dir: Path,
    out_dir: Path,
    config: PruningConfig,
    *,
    pixels: Float32[np.ndarray, "images channels size size"] | None = None,
    report: Report = lambda done, steps, loss: None,
) -> None:
    """Write a model folder whose blocks have fewer heads and hidden units.

    Args:
        model_dir: a model that edgepact has trained, such as the embedded one.
        out_dir: a folder that is new or empty.
        config: how.
        pixels: preprocessed pictures to choose and to teach by, other than those the result is
            judged by; None takes pictures of the generator of garments.
        report: called after each chunk of steps.

    Raises:
        InputError: the model is another one, whose heads are not known, or `out_dir` is taken.
    """
    check_free(out_dir)
    loaded = load(model_dir)
    if pixels is None:
        pixels = drawn_pixels(model_dir, 2048, config.seed)
    teacher = loaded.model.image
    student = without_parts(teacher, jnp.asarray(pixels[:256]), config.share)
    if config.steps:
        student = _taught(teacher, student, np.asarray(pixels), config, report)
    graph = image_graph(student, loaded.config)
    keep_only_boundaries(graph)
    write_model(graph, model_dir, out_dir, method=METHOD, share=config.share)


def drawn_pixels(
    model_dir: Path, count: int, seed: int
) -> Float32[np.ndarray, "images channels size size"]:
    """Pictures of the generator of garments, as the model's input.

    Raises:
        InputError: the model takes pictures of another size.
    """
    info, flow = ModelInfo.read(model_dir), read_flow(garments())
    rng = np.random.default_rng(seed)
    texts = KnowledgeBase.from_texts(model_dir).vectors
    if (info.channels, info.image_size, texts.shape[1]) != (1, 28, flow.dim):
        expected = "one channel of 28 pixels, as the embedded generator draws them"
        found = f"{info.channels} of {info.image_size}"
        raise InputError(model_dir, "image_size", expected, found)
    text = texts[rng.integers(len(texts), size=count)]
    x = flow.noise(seed, count)
    for step in range(_FLOW_STEPS):
        now = np.full(count, step / _FLOW_STEPS, np.float32)
        then = now + np.float32(1 / _FLOW_STEPS)
        x = moved(x, flow.meant(x, now, text, 1.0), now, then)
    grey = flow.decoded(x)[:, None].astype(np.float32) / np.float32(255)
    found_pixels: np.ndarray = (grey - np.float32(info.mean[0])) / np.float32(info.std[0])
    return found_pixels


def without_parts(
    encoder: ImageEncoder, pixels: Float[Array, "n channels size size"], share: float
) -> ImageEncoder:
    """The encoder without the heads and units that vary least, not yet taught.

    Args:
        encoder: blocks stacked along their first axis.
        pixels: pictures to choose by.
        share: of heads and of units that go.
    """
    x, pruned = encoder.embed(pixels), []
    for at in range(encoder.blocks.mlp_in.bias.shape[0]):
        block = jax.tree.map(lambda leaf, at=at: leaf[at], encoder.blocks)
        mixed, hidden, x = _insides(block, x)
        pruned.append(_smaller(block, np.asarray(mixed), np.asarray(hidden), share))
    blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pruned)
    smaller: ImageEncoder = eqx.tree_at(lambda each: each.blocks, encoder, blocks)
    return smaller


@eqx.filter_jit
def _insides(
    block: Block, x: Float[Array, "n tokens width"]
) -> tuple[Float[Array, "rows mixed"], Float[Array, "rows units"], Float[Array, "n tokens width"]]:
    flat = x.reshape(-1, x.shape[-1])
    mixed = block.mixed(x, None)
    hidden = block.hidden(flat + block.attention_out(mixed))
    return mixed, hidden, block(x, None)


def _smaller(block: Block, mixed: np.ndarray, hidden: np.ndarray, share: float) -> Block:
    """One block with fewer heads and units; what goes leaves its mean in the bias behind it."""
    size = mixed.shape[1] // block.heads
    out = np.asarray(block.attention_out.weight)
    parts = mixed.reshape(len(mixed), block.heads, size)
    spread = [
        float(np.trace(out[rows].T @ np.cov(parts[:, head], rowvar=False) @ out[rows]))
        for head, rows in enumerate(np.arange(len(out)).reshape(block.heads, size))
    ]
    heads = _kept(np.array(spread), share)
    channels = (heads[:, None] * size + np.arange(size)).reshape(-1)
    down = np.asarray(block.mlp_out.weight)
    units = _kept(hidden.var(axis=0) * (down**2).sum(axis=1), share)
    width = block.heads * size
    columns = np.concatenate([part * width + channels for part in range(3)])
    smaller = eqx.tree_at(
        lambda each: (
            each.attention_in.weight,
            each.attention_in.bias,
            each.attention_out.weight,
            each.attention_out.bias,
            each.mlp_in.weight,
            each.mlp_in.bias,
            each.mlp_out.weight,
            each.mlp_out.bias,
        ),
        block,
        (
            block.attention_in.weight[:, columns],
            block.attention_in.bias[columns],
            block.attention_out.weight[channels],
            block.attention_out.bias + _mean_of_others(mixed, channels) @ out,
            block.mlp_in.weight[:, units],
            block.mlp_in.bias[units],
            block.mlp_out.weight[units],
            block.mlp_out.bias + _mean_of_others(hidden, units) @ down,
        ),
    )
    return Block(
        attention_norm=smaller.attention_norm,
        attention_in=smaller.attention_in,
        attention_out=smaller.attention_out,
        mlp_norm=smaller.mlp_norm,
        mlp_in=smaller.mlp_in,
        mlp_out=smaller.mlp_out,
        heads=len(heads),
    )


def _kept(worth: Float[np.ndarray, " parts"], share: float) -> Int[np.ndarray, " kept"]:
    """The most worthy, in their order."""
    removed = min(round(share * len(worth)), len(worth) - 1)
    return np.sort(np.argsort(worth, kind="stable")[removed:])


def _mean_of_others(
    values: Float[np.ndarray, "rows parts"], kept: Int[np.ndarray, " kept"]
) -> Float[np.ndarray, " parts"]:
    mean = values.mean(axis=0)
    mean[kept] = 0.0
    return mean


def _taught(
    teacher: ImageEncoder,
    student: ImageEncoder,
    pixels: np.ndarray,
    config: PruningConfig,
    report: Report,
) -> ImageEncoder:
    batch = min(config.batch, len(pixels))
    warm = max(1, config.steps // 20)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warm, max(config.steps, warm + 1)
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.98))

    def loss(blocks: Block, batch_pixels: Array) -> Array:
        def through(carry: tuple[Array, Array], pair: tuple[Block, Block]) -> tuple[_Pair, Array]:
            own, meant = carry
            own, meant = pair[0](own, None), jax.lax.stop_gradient(pair[1](meant, None))
            spread = jnp.var(meant)
            return (own, meant), jnp.mean(jnp.square(own - meant)) / spread

        start = teacher.embed(batch_pixels)
        (own, meant), far = jax.lax.scan(
            jax.checkpoint(through), (start, start), (blocks, teacher.blocks)
        )
        vectors = jnp.sum(jnp.square(teacher.head(own) - teacher.head(meant)), axis=-1)
        return jnp.mean(far) + jnp.mean(vectors)

    @eqx.filter_jit
    def chunk(
        blocks: Block, state: optax.OptState, data: Array, rows: Array
    ) -> tuple[Block, optax.OptState, Array]:
        def step(
            carry: tuple[Block, optax.OptState], row: Array
        ) -> tuple[tuple[Block, optax.OptState], Array]:
            blocks, state = carry
            value, gradient = jax.value_and_grad(loss)(blocks, data[row])
            updates, state = optimiser.update(gradient, state, blocks)
            return (optax.apply_updates(blocks, updates), state), value

        (blocks, state), losses = jax.lax.scan(step, (blocks, state), rows)
        return blocks, state, losses

    rng = np.random.default_rng(config.seed)
    epochs = -(-config.steps * batch // len(pixels))
    order = np.concatenate([rng.permutation(len(pixels)) for _ in range(epochs + 1)])
    rows = order[: config.steps * batch].reshape(config.steps, batch)
    blocks, state = student.blocks, optimiser.init(student.blocks)
    data = jnp.asarray(pixels)
    for start in range(0, config.steps, config.chunk_steps):
        now = jnp.asarray(rows[start : start + config.chunk_steps])
        blocks, state, losses = chunk(blocks, state, data, now)
        report(start + len(now), config.steps, float(losses.mean()))
    taught: ImageEncoder = eqx.tree_at(lambda each: each.blocks, student, blocks)
    return taught
