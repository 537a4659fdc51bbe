r"""What is learnt together: the embedded CLIP's image tower, against texts that stay fixed.

The classifier is ten frozen vectors, those of "a photo of a {label}" by the embedded text tower;
an image's logits are its scaled cosines with them. Only the image tower is trained, from random
weights or after a short warm start on public images that the server holds itself.

Everything that crosses a wire is one float32 vector of all weights. A client's epoch is one
compiled program of fixed shape, `steps` batches of `batch` images whatever the client holds, so
that a process compiles once for all of its clients.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Float32, Int, Key, UInt8
from PIL import Image

from edgepact.compiled import keep_compiled
from edgepact.efficiency.compression import Vector
from edgepact.errors import InputError
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import ModelInfo
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.training.clip import ClipConfig, ImageEncoder, Normalisation, augment
from edgepact.training.fashion_mnist import (
    IMAGE_SIZE,
    LABELS,
    LabelledImages,
    read,
)
from edgepact.training.federated.task_config import SAMPLES, TaskConfig

TEMPLATE = "a photo of a {}"
SAMPLES_A_PUBLIC_ONE = 6
"""Of so many sample images for training, the server keeps one at most for the warm start."""

TEST_EVERY = 5
"""Of the sample images of each class, every so many-th is kept for testing."""


class Data(NamedTuple):
    """Images of the clients, of the server, and for the accuracy."""

    shared: LabelledImages
    public: LabelledImages
    test: LabelledImages


class Task:
    """The compiled pieces of a task; one in a process serves all clients of that process.

    Attributes:
        config: what it was made from.
        data: its images.
        size: weights of the model, n.
        macs_per_image: multiply-accumulates of a forward pass.
    """

    def __init__(self, config: TaskConfig) -> None:
        keep_compiled()
        self.config = config
        self.data = read_data(config)
        texts = KnowledgeBase.from_texts(embedded(), LABELS, (TEMPLATE,))
        info = ModelInfo.read(embedded())
        normalisation = Normalisation(mean=info.mean[0], std=info.std[0])
        self._shape = ClipConfig(layers=config.layers)
        # Shapes only: whoever gets its weights from the server draws none of its own.
        tower = eqx.filter_eval_shape(ImageEncoder.init, jax.random.key(0), self._shape)
        arrays, static = eqx.partition(tower, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
        flat, unravel = ravel_pytree(
            jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), arrays)
        )
        self.size = int(flat.size)
        self.macs_per_image = _macs_per_image(self._shape)

        def logits(vector: Float32[Array, " n"], images: UInt8[Array, "b h w"]) -> Array:
            encoder = eqx.combine(unravel(vector), static)
            vectors = encoder(normalisation(images))
            return texts.logit_scale * (vectors @ texts.vectors.T)

        self._train = _compiled_training(logits, config)
        self._correct = jax.jit(
            lambda vector, images, labels: jnp.sum(jnp.argmax(logits(vector, images), 1) == labels)
        )

    def start(self) -> Vector:
        """Weights before the first round [n]: random, then trained on the public images."""
        config, public = self.config, self.data.public
        weights = self._random_weights()
        if len(public) == 0:
            return weights
        for begun in range(0, config.warm_up_steps, config.steps):
            weights, _ = self.train(weights, public, seed=[config.seed, 0xA0, begun])
        return weights

    def _random_weights(self) -> Vector:
        init = jax.jit(lambda key: ravel_pytree(ImageEncoder.init(key, self._shape))[0])
        return np.asarray(init(jax.random.key(self.config.seed)), np.float32)

    def train(
        self, weights: Vector, images: LabelledImages, *, seed: Sequence[int], epochs: int = 1
    ) -> tuple[Vector, float]:
        """Trains for epochs of `steps` batches of a client's images, drawn in passes over them.

        Returns:
            The weights [n] after it, and the root mean square of the images' losses as they
            were met.
        """
        config = self.config
        random = np.random.default_rng(seed)
        every = _passes(len(images), epochs * config.steps * config.batch, random)
        shape = (config.steps, config.batch)
        trained, losses = jnp.asarray(weights), []
        for places in np.split(every, epochs):
            trained, loss = self._train(
                trained,
                jnp.asarray(images.images[places].reshape(*shape, IMAGE_SIZE, IMAGE_SIZE)),
                jnp.asarray(images.labels[places].reshape(shape), jnp.int32),
                jax.random.key(int(random.integers(2**31))),
            )
            losses.append(float(loss))
        # Of a single epoch it is that loss itself, to the digit.
        mean = losses[0] if epochs == 1 else float(np.sqrt(np.mean(np.square(losses))))
        return np.asarray(trained, np.float32), mean

    def accuracy(self, weights: Vector) -> float:
        """Share of the test images told right."""
        test, vector = self.data.test, jnp.asarray(weights)
        chunk = min(500, len(test))
        right = 0
        for begin in range(0, len(test), chunk):
            # The last chunk reaches back, so that all have one shape; what counted is left out.
            first = min(begin, len(test) - chunk)
            labels = test.labels[first : first + chunk].astype(np.int32)
            labels[: begin - first] = -1
            images = jnp.asarray(test.images[first : first + chunk])
            right += int(self._correct(vector, images, jnp.asarray(labels)))
        return right / len(test)


@lru_cache(maxsize=2)
def task_of(config: TaskConfig) -> Task:
    """The process's one task of this configuration."""
    return Task(config)


@lru_cache(maxsize=2)
def read_data(config: TaskConfig) -> Data:
    """The images of a task.

    Raises:
        InputError: a file is missing or damaged, or there are too few images.
    """
    if config.data == SAMPLES:
        every = _sample_images()
        test = np.arange(len(every)) // len(LABELS) % TEST_EVERY == 0
        train, tested = _part(every, np.flatnonzero(~test)), _part(every, np.flatnonzero(test))
    else:
        folder = Path(config.data)
        if not folder.is_dir():
            expected = (
                f'"{SAMPLES}", the images that come with edgepact, or a folder of Fashion-MNIST '
                "files (Debian: apt-get install dataset-fashion-mnist)"
            )
            raise InputError("task", "data", expected, f"{folder}, which is not there")
        train, tested = read(folder, "train"), read(folder, "test")
    public = config.public_images
    if config.data == SAMPLES:
        public = min(public, len(train) // SAMPLES_A_PUBLIC_ONE)
    if not public < len(train):
        expected = f"less than {len(train)}, the training images"
        raise InputError("task", "public_images", expected, config.public_images)
    mixed = np.random.default_rng([config.seed, 0xDA]).permutation(len(train))
    return Data(
        shared=_part(train, np.sort(mixed[public:])),
        public=_part(train, np.sort(mixed[:public])),
        test=tested.first(config.test_images),
    )


def _sample_images() -> LabelledImages:
    """Classes take turns, so that every run of ten images holds each once."""
    folder = samples()
    files = [sorted((folder / label).glob("*.png")) for label in LABELS]
    rows = [(path, at) for row in zip(*files, strict=False) for at, path in enumerate(row)]
    grey = []
    for path, _ in rows:
        with Image.open(path) as image:
            grey.append(np.asarray(image.convert("L"), np.uint8))
    return LabelledImages(
        images=np.stack(grey), labels=np.array([label for _, label in rows], np.uint8)
    )


def _part(images: LabelledImages, places: Int[np.ndarray, " some"]) -> LabelledImages:
    return LabelledImages(images=images.images[places], labels=images.labels[places])


def _passes(held: int, wanted: int, random: np.random.Generator) -> Int[np.ndarray, " wanted"]:
    """Places in 0..held-1: each once before any comes again."""
    passes = [random.permutation(held) for _ in range(-(-wanted // held))]
    return np.concatenate(passes)[:wanted]


def _compiled_training(
    logits: Callable[[Array, Array], Array], config: TaskConfig
) -> Callable[
    [
        Float[Array, " n"],
        UInt8[Array, "steps batch 28 28"],
        Int[Array, "steps batch"],
        Key[Array, ""],
    ],
    tuple[Float[Array, " n"], Float[Array, ""]],
]:
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(config.learning_rate, b2=0.98, weight_decay=config.weight_decay),
    )

    def loss(vector: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        scores = logits(vector, images)
        each = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return each.mean(), jnp.square(each).mean()

    def step(
        carry: tuple[Array, optax.OptState], batch: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, optax.OptState], Array]:
        vector, state = carry
        images, labels, key = batch
        moved = augment(key, images, config.shift_pixels)
        gradient, square = jax.grad(loss, has_aux=True)(vector, moved, labels)
        change, state = optimiser.update(gradient, state, vector)
        return (optax.apply_updates(vector, change), state), square

    def training(vector: Array, images: Array, labels: Array, key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key, config.steps)
        start = (vector, optimiser.init(vector))
        (vector, _), squares = jax.lax.scan(step, start, (images, labels, keys))
        return vector, jnp.sqrt(jnp.mean(squares))

    return jax.jit(training)


def _macs_per_image(shape: ClipConfig) -> float:
    """`layers * (4 t w^2 + 2 t w m + 2 t^2 w)` of the blocks, and what stands around them."""
    tokens, width = shape.tokens, shape.width
    block = tokens * width * (4 * width + 2 * shape.mlp_width + 2 * tokens)
    around = tokens * shape.channels * shape.patch**2 * width + width * shape.dim
    return float(shape.layers * block + around)
