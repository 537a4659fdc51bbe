"""A small CLIP in JAX: two encoders whose vectors of matching image and text agree.

The image encoder is a vision transformer of equal blocks, the shape of network
the split-inference game is about; the text encoder reads bytes, so it needs no
vocabulary. Both are trained together with the contrastive loss of CLIP
(Radford et al. 2021), in its form for several matching captions per image
(Khosla et al. 2020, eq. 2).

Blocks are stored stacked along their first axis and run by `lax.scan`: one
block is compiled, whatever the depth. Products are taken on 2-D arrays, which
on a CPU is three times faster than on 3-D ones.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

NORM_EPSILON = 1e-5
# Called after each chunk of steps with steps done, steps in all and mean loss.
Report = Callable[[int, int, float], None]

_Trainable = TypeVar("_Trainable", bound=eqx.Module)
# CLIP's bound on the temperature: beyond it the loss chases single pairs.
_LOGIT_SCALE_MAX = 100.0
_MASKED = -1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """Shape of the model; the defaults are the embedded model's."""

    image_size: int = 28
    channels: int = 1
    patch: int = 7
    layers: int = 12
    text_layers: int = 2
    text_bytes: int = 40
    width: int = 64
    heads: int = 4
    mlp_width: int = 256
    dim: int = 64

    @property
    def tokens(self) -> int:
        """Patches of one image."""
        return (self.image_size // self.patch) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How `train` trains; the defaults made the embedded model.

    Args:
        epochs: passes over the images.
        batch: images a step.
        captions: captions of each class a step.
        learning_rate: highest of the schedule (linear warm-up, then cosine to 0).
        warm_up_share: share of the steps spent warming up.
        weight_decay: of matrices only.
        gradient_norm_max: longer gradients are shortened to it.
        shift_pixels: images are moved at random by up to this much.
        chunk_steps: steps in one compiled call, between two reports of progress.
    """

    epochs: int = 12
    batch: int = 128
    captions: int = 4
    learning_rate: float = 1.5e-3
    warm_up_share: float = 0.05
    weight_decay: float = 0.05
    gradient_norm_max: float = 1.0
    shift_pixels: int = 1
    chunk_steps: int = 39


class Dense(eqx.Module):
    """An affine map of the last axis."""

    weight: Float[Array, "... in out"]  # noqa: F821
    bias: Float[Array, "... out"]

    @classmethod
    def init(cls, key: Key[Array, ""], size_in: int, size_out: int) -> "Dense":
        """Random weights of variance 1 / size_in, biases 0."""
        weight = jax.random.truncated_normal(key, -2.0, 2.0, (size_in, size_out), jnp.float32)
        return cls(weight=weight * size_in**-0.5, bias=jnp.zeros(size_out, jnp.float32))

    def __call__(self, x: Float[Array, "rows in"]) -> Float[Array, "rows out"]:
        """Map rows of size `in` to rows of size `out`."""
        return x @ self.weight + self.bias[None, :]


class Norm(eqx.Module):
    """Layer normalisation of the last axis."""

    scale: Float[Array, "... width"]
    bias: Float[Array, "... width"]

    @classmethod
    def init(cls, width: int) -> "Norm":
        """Scale 1, bias 0."""
        return cls(scale=jnp.ones(width, jnp.float32), bias=jnp.zeros(width, jnp.float32))

    def __call__(self, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
        """Bring each row to mean 0 and variance 1, then scale and shift it."""
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + NORM_EPSILON)
        return normal * self.scale[None, :] + self.bias[None, :]


class Block(eqx.Module):
    """A transformer block: attention, then MLP, each added to its normalised input."""

    attention_norm: Norm
    attention_in: Dense
    attention_out: Dense
    mlp_norm: Norm
    mlp_in: Dense
    mlp_out: Dense
    heads: int = eqx.field(static=True)

    @classmethod
    def init(cls, key: Key[Array, ""], config: ClipConfig, depth: int) -> "Block":
        """Random weights; what is added to the stream starts small, as `depth` parts add up."""
        keys = jax.random.split(key, 4)
        width, small = config.width, (2 * depth) ** -0.5
        attention_out = Dense.init(keys[1], width, width)
        mlp_out = Dense.init(keys[3], config.mlp_width, width)
        return cls(
            attention_norm=Norm.init(width),
            attention_in=Dense.init(keys[0], width, 3 * width),
            attention_out=Dense(attention_out.weight * small, attention_out.bias),
            mlp_norm=Norm.init(width),
            mlp_in=Dense.init(keys[2], width, config.mlp_width),
            mlp_out=Dense(mlp_out.weight * small, mlp_out.bias),
            heads=config.heads,
        )

    def __call__(
        self, x: Float[Array, "n tokens width"], present: Bool[Array, "n tokens"] | None
    ) -> Float[Array, "n tokens width"]:
        """One stage; where `present` is false no token looks."""
        n, tokens, width = x.shape
        flat = x.reshape(n * tokens, width)
        flat = flat + self.attention_out(self.mixed(x, present))
        flat = flat + self.mlp_out(self.hidden(flat))
        return flat.reshape(n, tokens, width)

    def mixed(
        self, x: Float[Array, "n tokens width"], present: Bool[Array, "n tokens"] | None
    ) -> Float[Array, "rows mixed"]:
        """What the heads make of a block's input, head after head in each row."""
        n, tokens, width = x.shape
        qkv = self.attention_in(self.attention_norm(x.reshape(n * tokens, width)))
        # Not the width over the heads: a pruned block has fewer heads of the same size.
        size = qkv.shape[-1] // (3 * self.heads)
        query, key, value = jnp.moveaxis(qkv.reshape(n, tokens, 3, self.heads, size), 2, 0)
        score = jnp.einsum("nqhd,nkhd->nhqk", query, key) * size**-0.5
        if present is not None:
            score = jnp.where(present[:, None, None, :], score, _MASKED)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(score, axis=-1), value)
        return mixed.reshape(n * tokens, self.heads * size)

    def hidden(self, flat: Float[Array, "rows width"]) -> Float[Array, "rows units"]:
        """What the hidden units of the MLP make of the stream after attention."""
        return quick_gelu(self.mlp_in(self.mlp_norm(flat)))


class ImageEncoder(eqx.Module):
    """Patches to tokens, blocks, then the normalised projection of their mean."""

    patches: Dense
    position: Float[Array, "tokens width"]
    blocks: Block
    norm: Norm
    projection: Dense
    patch: int = eqx.field(static=True)

    @classmethod
    def init(cls, key: Key[Array, ""], config: ClipConfig) -> "ImageEncoder":
        """Random weights."""
        keys = jax.random.split(key, 4)
        pixels = config.channels * config.patch**2
        return cls(
            patches=Dense.init(keys[0], pixels, config.width),
            position=0.02 * jax.random.normal(keys[1], (config.tokens, config.width), jnp.float32),
            blocks=_stacked_blocks(keys[2], config, config.layers),
            norm=Norm.init(config.width),
            projection=Dense.init(keys[3], config.width, config.dim),
            patch=config.patch,
        )

    def __call__(self, pixels: Float[Array, "n channels size size"]) -> Float[Array, "n dim"]:
        """All stages: normalised pixels to vectors of length 1."""
        return self.head(_through(self.blocks, self.embed(pixels), None))

    def embed(self, pixels: Float[Array, "n channels size size"]) -> Float[Array, "n tokens width"]:
        """Stage 0: one token for each patch."""
        n, channels, size, _ = pixels.shape
        side = size // self.patch
        tiles = pixels.reshape(n, channels, side, self.patch, side, self.patch)
        rows = tiles.transpose(0, 2, 4, 1, 3, 5).reshape(n * side**2, channels * self.patch**2)
        return self.patches(rows).reshape(n, side**2, -1) + self.position[None]

    def head(self, tokens: Float[Array, "n tokens width"]) -> Float[Array, "n dim"]:
        """The last stage: the image's vector, of length 1."""
        n, count, width = tokens.shape
        normal = self.norm(tokens.reshape(n * count, width)).reshape(n, count, width)
        return _unit(self.projection(normal.mean(axis=1)))


class TextEncoder(eqx.Module):
    """Bytes to a vector of length 1; zero bytes are padding."""

    letters: Float[Array, "256 width"]
    position: Float[Array, "bytes width"]
    blocks: Block
    norm: Norm
    projection: Dense

    @classmethod
    def init(cls, key: Key[Array, ""], config: ClipConfig) -> "TextEncoder":
        """Random weights."""
        keys = jax.random.split(key, 4)
        shape = (config.text_bytes, config.width)
        return cls(
            letters=0.5 * jax.random.normal(keys[0], (256, config.width), jnp.float32),
            position=0.1 * jax.random.normal(keys[1], shape, jnp.float32),
            blocks=_stacked_blocks(keys[2], config, config.text_layers),
            norm=Norm.init(config.width),
            projection=Dense.init(keys[3], config.width, config.dim),
        )

    def __call__(self, text: Int[Array, "n bytes"]) -> Float[Array, "n dim"]:
        """UTF-8 bytes, padded with zeros, to vectors of length 1."""
        present = text != 0
        tokens = _through(self.blocks, self.letters[text] + self.position[None], present)
        n, count, width = tokens.shape
        normal = self.norm(tokens.reshape(n * count, width)).reshape(n, count, width)
        weight = present.astype(jnp.float32)
        mean = (normal * weight[:, :, None]).sum(axis=1) / weight.sum(axis=1)[:, None]
        return _unit(self.projection(mean))


class Clip(eqx.Module):
    """Image and text encoder, and the temperature between them."""

    image: ImageEncoder
    text: TextEncoder
    log_scale: Float[Array, ""]

    @classmethod
    def init(cls, key: Key[Array, ""], config: ClipConfig) -> "Clip":
        """Random weights; the temperature starts at CLIP's 1 / 0.07."""
        image_key, text_key = jax.random.split(key)
        return cls(
            image=ImageEncoder.init(image_key, config),
            text=TextEncoder.init(text_key, config),
            log_scale=jnp.asarray(np.log(1 / 0.07), jnp.float32),
        )

    @property
    def logit_scale(self) -> Float[Array, ""]:
        """What multiplies a cosine to make a logit."""
        return jnp.minimum(jnp.exp(self.log_scale), _LOGIT_SCALE_MAX)


class Normalisation(eqx.Module):
    """Mean and spread of the training pixels, as shares of full white."""

    mean: float = eqx.field(static=True)
    std: float = eqx.field(static=True)

    @classmethod
    def of(cls, images: UInt8[np.ndarray, "n size size"]) -> "Normalisation":
        """Measured over all pixels; rounded so that the model file is easy to read."""
        shares = images.astype(np.float64) / 255
        return cls(mean=round(float(shares.mean()), 4), std=round(float(shares.std()), 4))

    def __call__(self, grey: UInt8[Array, "n size size"]) -> Float[Array, "n 1 size size"]:
        """Grey levels to what the image encoder takes."""
        return ((grey.astype(jnp.float32) / 255 - self.mean) / self.std)[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model and the loss of each of its steps."""

    model: Clip
    losses: Float[np.ndarray, " steps"]


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """CLIP's cheap approximation of the Gaussian error linear unit."""
    return x * jax.nn.sigmoid(1.702 * x)


def contrastive_loss(
    image_vectors: Float[Array, "images dim"],
    text_vectors: Float[Array, "texts dim"],
    matches: Bool[Array, "images texts"],
    logit_scale: Float[Array, ""],
) -> Float[Array, ""]:
    r"""Multi-positive InfoNCE, averaged over both directions.

    With logits $z_{ij}$ and $P(i)$ the texts that match image $i$, an image
    contributes $-\frac{1}{|P(i)|}\sum_{j \in P(i)} \log \mathrm{softmax}_j(z_i)$;
    a text contributes the same over its images. One without a match in the
    batch contributes nothing.

    Args:
        image_vectors: of length 1, shape `images dim`.
        text_vectors: of length 1, shape `texts dim`.
        matches: which text describes which image, shape `images texts`.
        logit_scale: inverse temperature, shape `()`.
    """
    logits = logit_scale * (image_vectors @ text_vectors.T)
    return 0.5 * (_cross_entropy(logits, matches) + _cross_entropy(logits.T, matches.T))


def batch_loss(
    model: Clip,
    pixels: Float[Array, "images channels size size"],
    labels: Int[Array, " images"],
    texts: Int[Array, "texts bytes"],
    text_labels: Int[Array, " texts"],
) -> Float[Array, ""]:
    """Loss of a batch whose images and captions match when their labels do."""
    matches = labels[:, None] == text_labels[None, :]
    return contrastive_loss(model.image(pixels), model.text(texts), matches, model.logit_scale)


def augment(
    key: Key[Array, ""], images: UInt8[Array, "n size size"], shift_pixels: int
) -> UInt8[Array, "n size size"]:
    """Each image mirrored or not, and moved by up to `shift_pixels` each way."""
    n, size, _ = images.shape
    flip_key, shift_key = jax.random.split(key)
    flip = jax.random.bernoulli(flip_key, 0.5, (n, 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    around = ((0, 0), (shift_pixels, shift_pixels), (shift_pixels, shift_pixels))
    corner = jax.random.randint(shift_key, (n, 2), 0, 2 * shift_pixels + 1)
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1]), (size, size)))(
        jnp.pad(images, around), corner
    )


def train(
    model: Clip,
    images: UInt8[np.ndarray, "n size size"],
    labels: UInt8[np.ndarray, " n"],
    captions: Int[np.ndarray, "classes captions bytes"],
    normalisation: Normalisation,
    config: TrainingConfig,
    key: Key[Array, ""],
    *,
    steps_max: int | None = None,
    report: Report = lambda done, steps, loss: None,
) -> Trained:
    """Train both encoders together.

    Args:
        model: where to start.
        images: grey levels, shape `n size size`.
        labels: class of each, shape `n`.
        captions: those to draw from, shape `classes captions bytes`.
        normalisation: applied to the grey levels.
        config: how.
        key: all randomness comes from it.
        steps_max: the schedule ends here if the epochs would take longer.
        report: called after each chunk with steps done, steps in all, mean loss.

    Raises:
        ValueError: there are fewer images than a batch takes.
    """
    data = _Data(
        images=jnp.asarray(images),
        labels=jnp.asarray(labels, jnp.int32),
        captions=jnp.asarray(captions),
        fixed=normalisation,
    )
    trained, losses = _fit(model, data, _loss_of_both, config, key, steps_max, report)
    return Trained(model=trained, losses=losses)


def tune_text(
    model: Clip,
    image_vectors: Float[np.ndarray, "n dim"],
    labels: UInt8[np.ndarray, " n"],
    captions: Int[np.ndarray, "classes captions bytes"],
    config: TrainingConfig,
    key: Key[Array, ""],
    *,
    steps_max: int | None = None,
    report: Report = lambda done, steps, loss: None,
) -> Trained:
    """Train the text encoder alone, against vectors of a finished image encoder.

    A text costs far less than an image, so that this stage can show the text
    encoder many more captions than `train` can afford.

    Args:
        model: its image encoder and temperature stay as they are.
        image_vectors: of the training images, shape `n dim`.
        labels: class of each, shape `n`.
        captions: those to draw from, shape `classes captions bytes`.
        config: how; `shift_pixels` means nothing here.
        key: all randomness comes from it.
        steps_max: the schedule ends here if the epochs would take longer.
        report: called after each chunk with steps done, steps in all, mean loss.

    Raises:
        ValueError: there are fewer images than a batch takes.
    """
    data = _Data(
        images=jnp.asarray(image_vectors),
        labels=jnp.asarray(labels, jnp.int32),
        captions=jnp.asarray(captions),
        fixed=model.logit_scale,
    )
    text, losses = _fit(model.text, data, _loss_of_text, config, key, steps_max, report)
    return Trained(model=dataclasses.replace(model, text=text), losses=losses)


def encode_images(
    model: Clip,
    images: UInt8[np.ndarray, "n size size"],
    normalisation: Normalisation,
    *,
    batch: int = 500,
) -> Float[np.ndarray, "n dim"]:
    """Vectors of many images, a batch at a time."""
    encode = eqx.filter_jit(lambda model, grey: model.image(normalisation(grey)))
    return np.concatenate(
        [
            np.asarray(encode(model, jnp.asarray(images[start : start + batch])))
            for start in range(0, len(images), batch)
        ]
    )


class _Data(eqx.Module):
    """What every step draws from; an argument, since a constant would be compiled in."""

    images: UInt8[Array, "n size size"] | Float[Array, "n dim"]
    labels: Int[Array, " n"]
    captions: Int[Array, "classes captions bytes"]
    fixed: Normalisation | Float[Array, ""]


def _loss_of_both(
    model: Clip, data: _Data, row: Int[Array, " batch"], key: Key[Array, ""], config: TrainingConfig
) -> Float[Array, ""]:
    assert isinstance(data.fixed, Normalisation)
    augment_key, caption_key = jax.random.split(key)
    pixels = data.fixed(augment(augment_key, data.images[row], config.shift_pixels))
    texts, text_labels = _draw_captions(caption_key, data.captions, config.captions)
    return batch_loss(model, pixels, data.labels[row], texts, text_labels)


def _loss_of_text(
    text: TextEncoder,
    data: _Data,
    row: Int[Array, " batch"],
    key: Key[Array, ""],
    config: TrainingConfig,
) -> Float[Array, ""]:
    assert not isinstance(data.fixed, Normalisation)
    texts, text_labels = _draw_captions(key, data.captions, config.captions)
    matches = data.labels[row][:, None] == text_labels[None, :]
    return contrastive_loss(data.images[row], text(texts), matches, data.fixed)


def _fit(
    trainable: _Trainable,
    data: _Data,
    loss: Callable[..., Array],
    config: TrainingConfig,
    key: Key[Array, ""],
    steps_max: int | None,
    report: Report,
) -> tuple[_Trainable, Float[np.ndarray, " steps"]]:
    steps_per_epoch = len(data.labels) // config.batch
    if steps_per_epoch == 0:
        raise ValueError(f"a batch of {config.batch} needs as many images, got {len(data.labels)}")
    steps = config.epochs * steps_per_epoch
    steps = steps if steps_max is None else min(steps, steps_max)
    state = _optimiser(config, steps).init(trainable)
    order_key, chunk_key = jax.random.split(key)
    rows = _orders(order_key, len(data.labels), config.batch, steps)
    losses: list[np.ndarray] = []
    for start in range(0, steps, config.chunk_steps):
        chunk_key, now = jax.random.split(chunk_key)
        chunk = jnp.asarray(rows[start : start + config.chunk_steps])
        trainable, state, found = _run_chunk(
            trainable, state, data, chunk, now, loss, config, steps
        )
        losses.append(np.asarray(found))
        report(start + len(found), steps, float(losses[-1].mean()))
    return trainable, np.concatenate(losses)


@eqx.filter_jit
def _run_chunk(
    trainable: _Trainable,
    state: optax.OptState,
    data: _Data,
    rows: Int[Array, "steps batch"],
    key: Key[Array, ""],
    loss: Callable[..., Array],
    config: TrainingConfig,
    steps_total: int,
) -> tuple[_Trainable, optax.OptState, Float[Array, " steps"]]:
    """One compiled program for all steps of a chunk; `loss` and what follows are static."""
    optimiser = _optimiser(config, steps_total)

    def step(
        carry: tuple[_Trainable, optax.OptState],
        inputs: tuple[Int[Array, " batch"], Key[Array, ""]],
    ) -> tuple[tuple[_Trainable, optax.OptState], Float[Array, ""]]:
        trainable, state = carry
        row, key = inputs
        value, gradient = jax.value_and_grad(loss)(trainable, data, row, key, config)
        updates, state = optimiser.update(gradient, state, trainable)
        return (optax.apply_updates(trainable, updates), state), value

    (trainable, state), losses = jax.lax.scan(
        step, (trainable, state), (rows, jax.random.split(key, len(rows)))
    )
    return trainable, state, losses


def _stacked_blocks(key: Key[Array, ""], config: ClipConfig, depth: int) -> Block:
    stacked: Block = eqx.filter_vmap(lambda one: Block.init(one, config, depth))(
        jax.random.split(key, depth)
    )
    return stacked


def _through(
    blocks: Block,
    x: Float[Array, "n tokens width"],
    present: Bool[Array, "n tokens"] | None,
) -> Float[Array, "n tokens width"]:
    # Recomputing a block going backwards is cheaper than keeping its insides: half the time here.
    @jax.checkpoint
    def one(
        x: Float[Array, "n tokens width"], block: Block
    ) -> tuple[Float[Array, "n tokens width"], None]:
        return block(x, present), None

    last: Float[Array, "n tokens width"] = jax.lax.scan(one, x, blocks)[0]
    return last


def _unit(x: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    length: Float[Array, "n 1"] = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / length


def _cross_entropy(
    logits: Float[Array, "rows columns"], matches: Bool[Array, "rows columns"]
) -> Float[Array, ""]:
    target = matches.astype(jnp.float32)
    count = target.sum(axis=1)
    row = -(target * jax.nn.log_softmax(logits, axis=1)).sum(axis=1) / jnp.maximum(count, 1.0)
    return row.sum() / jnp.maximum((count > 0).sum(), 1)


def _draw_captions(
    key: Key[Array, ""], bank: Int[Array, "classes captions bytes"], count: int
) -> tuple[Int[Array, "texts bytes"], Int[Array, " texts"]]:
    """`count` captions of every class, and the class of each."""
    classes, captions, _ = bank.shape
    drawn = jax.random.randint(key, (classes, count), 0, captions)
    texts = jnp.take_along_axis(bank, drawn[:, :, None], axis=1).reshape(classes * count, -1)
    return texts, jnp.repeat(jnp.arange(classes, dtype=jnp.int32), count)


def _orders(
    key: Key[Array, ""], images: int, batch: int, steps: int
) -> Int[np.ndarray, "steps batch"]:
    """Rows of each step: every epoch a new order, what does not fill a batch left out."""
    per_epoch = images // batch
    epochs = -(-steps // per_epoch)
    orders = [
        np.asarray(jax.random.permutation(one, images))[: per_epoch * batch].reshape(-1, batch)
        for one in jax.random.split(key, epochs)
    ]
    return np.concatenate(orders)[:steps]


def _optimiser(config: TrainingConfig, steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, int(config.warm_up_share * steps)), max(2, steps)
    )
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_norm_max),
        optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay, mask=_is_matrix),
    )


def _is_matrix(trainable: _Trainable) -> _Trainable:
    """True at the leaves called `weight`; stacking gives biases two axes, so shape cannot tell."""
    marked: _Trainable = jax.tree_util.tree_map_with_path(
        lambda path, leaf: getattr(path[-1], "name", "") == "weight", trainable
    )
    return marked
