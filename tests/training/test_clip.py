from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.training import captions
from edgepact.training.clip import (
    Clip,
    ClipConfig,
    Normalisation,
    TrainingConfig,
    augment,
    contrastive_loss,
    encode_images,
    train,
    tune_text,
)

TINY = ClipConfig(layers=2, text_layers=1, width=16, heads=2, mlp_width=32, dim=8)
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def model():
    # Run once only, so that compiling without optimising is the faster way.
    once = jax.jit(
        lambda key: Clip.init(key, TINY), compiler_options={"xla_backend_optimization_level": 0}
    )
    return once(KEY)


@pytest.fixture(scope="module")
def striped():
    """Images a linear classifier could tell apart: each class is bright in rows of its own."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 400).astype(np.uint8)
    images = random.integers(0, 60, (400, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 3 : 2 * label + 6] += 190
    return images, labels


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_loss_is_the_formula_written_out():
    random = np.random.default_rng(1)
    images = unit(random.normal(size=(5, 4))).astype(np.float32)
    texts = unit(random.normal(size=(3, 4))).astype(np.float32)
    # The last image has no text here, so it must not count.
    matches = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    logits = 5.0 * images.astype(np.float64) @ texts.T
    rows = []
    for z, match in zip(logits[:4], matches[:4], strict=True):
        rows.append(np.mean([np.log(np.exp(z).sum()) - z[j] for j in np.flatnonzero(match)]))
    columns = []
    for z, match in zip(logits.T, matches.T, strict=True):
        columns.append(np.mean([np.log(np.exp(z).sum()) - z[i] for i in np.flatnonzero(match)]))
    expected = (np.mean(rows) + np.mean(columns)) / 2
    got = contrastive_loss(
        jnp.asarray(images), jnp.asarray(texts), jnp.asarray(matches), jnp.asarray(5.0, jnp.float32)
    )
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_vectors_have_length_1_and_do_not_depend_on_the_batch(model):
    pixels = jax.random.normal(KEY, (6, 1, 28, 28), jnp.float32)
    image = eqx.filter_jit(model.image)
    vectors = np.asarray(image(pixels))
    assert vectors.shape == (6, TINY.dim)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.asarray(image(pixels[2:3]))[0] == pytest.approx(vectors[2], abs=1e-5)


def test_padding_of_a_text_means_nothing(model):
    text = jnp.asarray([[98, 97, 103] + [0] * 37])
    padding_rewritten = replace(model.text, letters=model.text.letters.at[0].set(9.0))
    encode = eqx.filter_jit(lambda encoder: encoder(text))
    assert np.asarray(encode(padding_rewritten)) == pytest.approx(
        np.asarray(encode(model.text)), abs=1e-6
    )


def test_patches_are_read_row_by_row(model):
    pixels = np.zeros((1, 1, 28, 28), np.float32)
    pixels[0, 0, 7:14, 21:28] = 1.0  # row 1, column 3 of the 4x4 patches
    plain = model.image.embed(jnp.zeros((1, 1, 28, 28), jnp.float32))
    moved = np.abs(np.asarray(model.image.embed(jnp.asarray(pixels)) - plain)).sum(axis=2)[0]
    assert np.flatnonzero(moved > 1e-6).tolist() == [7]


def test_augmenting_mirrors_and_shifts_only():
    image = np.random.default_rng(0).integers(1, 256, (1, 28, 28)).astype(np.uint8)
    many = jnp.asarray(np.repeat(image, 60, axis=0))
    mirrored = np.asarray(augment(KEY, many, 0))
    kinds = {one.tobytes() for one in mirrored}
    assert kinds == {image[0].tobytes(), image[0, :, ::-1].tobytes()}

    around = np.pad(image[0], 1)
    allowed = {
        around[::1, ::flip][row : row + 28, column : column + 28].tobytes()
        for flip in (1, -1)
        for row in range(3)
        for column in range(3)
    }
    seen = {one.tobytes() for one in np.asarray(augment(KEY, many, 1))}
    assert seen <= allowed
    assert len(seen) > 9


@pytest.mark.slow
def test_training_lowers_the_loss_and_repeats_itself(model, striped):
    images, labels = striped
    config = TrainingConfig(batch=32, captions=2, chunk_steps=10, learning_rate=3e-3)
    bank = captions.caption_bank(20, seed=0)
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(model)]
    reports = []

    def once():
        return train(
            model,
            images,
            labels,
            bank,
            Normalisation.of(images),
            config,
            KEY,
            steps_max=20,
            report=lambda done, steps, loss: reports.append((done, steps, loss)),
        )

    one, other = once(), once()
    assert one.losses.shape == (20,)
    assert one.losses[-5:].mean() < one.losses[:5].mean() - 0.05
    assert [done for done, _, _ in reports] == [10, 20, 10, 20]
    assert reports[1][2] == pytest.approx(one.losses[10:].mean())
    assert np.array_equal(one.losses, other.losses)
    after = [np.asarray(leaf) for leaf in jax.tree.leaves(model)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "input changed"


def test_tuning_the_text_leaves_the_images_alone(model):
    random = np.random.default_rng(2)
    labels = random.integers(0, 10, 200).astype(np.uint8)
    centres = random.standard_normal((10, TINY.dim))
    vectors = unit(centres[labels] + 0.1 * random.standard_normal((200, TINY.dim)))
    trained = tune_text(
        model,
        vectors.astype(np.float32),
        labels,
        captions.caption_bank(20, seed=0),
        TrainingConfig(batch=50, captions=2, chunk_steps=15, learning_rate=1e-2),
        KEY,
        steps_max=30,
    )
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() - 0.05
    unchanged = jax.tree.map(np.array_equal, trained.model.image, model.image)
    assert all(jax.tree.leaves(unchanged))
    assert float(trained.model.log_scale) == float(model.log_scale)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), trained.model.text, model.text)
    assert all(jax.tree.leaves(moved))


def test_encoding_many_images_is_encoding_each(model, striped):
    images, _ = striped
    normalisation = Normalisation.of(images)
    vectors = encode_images(model, images[:10], normalisation, batch=4)
    expected = eqx.filter_jit(model.image)(normalisation(jnp.asarray(images[:10])))
    assert vectors == pytest.approx(np.asarray(expected), abs=1e-5)


def test_a_batch_larger_than_the_data_is_refused(model, striped):
    images, labels = striped
    with pytest.raises(ValueError, match="a batch of 500"):
        train(
            model,
            images,
            labels,
            captions.caption_bank(2, seed=0),
            Normalisation.of(images),
            TrainingConfig(batch=500),
            KEY,
        )
