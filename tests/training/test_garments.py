"""Training of the generator and of its judge: what is learnt, on little data."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.inference.flow import read_flow, write_flow
from edgepact.inference.judge import Judge
from edgepact.inference.models import garment_judge
from edgepact.training.fashion_mnist import LABELS
from edgepact.training.garment_judge import JudgeConfig, logits_of, train_judge, write_judge
from edgepact.training.garments import Components, GarmentsConfig, train_garments

TINY = GarmentsConfig(
    components=6,
    width=16,
    blocks=1,
    cond=8,
    steps=200,
    batch=32,
    chunk_steps=20,
    learning_rate=3e-3,
)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Two kinds: bright on the left, bright on the right; with noise."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 60, (120, 28, 28))
    found[::2, :, :14] += 150
    found[1::2, :, 14:] += 150
    return found.astype(np.uint8)


LABEL = np.arange(120, dtype=np.uint8) % 2


def test_components_are_a_scaled_basis(images: np.ndarray) -> None:
    found = Components.of(images, 5)
    scale = np.sqrt((found.basis**2).sum(axis=1))
    unit = found.basis / scale[:, None]
    np.testing.assert_allclose(unit @ unit.T, np.eye(5), atol=1e-4)
    levels = images.reshape(120, -1) / 127.5 - 1
    z = (levels - found.mean) @ (unit / scale[:, None]).T
    np.testing.assert_allclose(z.var(axis=0, ddof=1), found.variance, rtol=1e-3)
    assert 0 < found.kept < 1
    assert found.variance.mean() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.slow
def test_a_text_chooses_what_is_drawn(images: np.ndarray, tmp_path: Path) -> None:
    texts = np.zeros((2, 1, 4), np.float32)
    texts[0, 0, 0] = texts[1, 0, 1] = 1.0
    trained = train_garments(images, LABEL, texts, TINY, seed=0)
    assert trained.losses.shape == (200,)
    write_flow(trained.flow, tmp_path)
    flow = read_flow(tmp_path)
    # At the beginning nothing is known but the text: the mean of its kind is meant.
    t = np.zeros(40, np.float32)
    meant = [flow.estimate(flow.noise(1, 40), t, np.repeat(each, 40, axis=0)) for each in texts]
    left, right = (flow.decoded(each).mean(axis=0) for each in meant)
    assert left[:, :14].mean() > left[:, 14:].mean() + 20
    assert right[:, 14:].mean() > right[:, :14].mean() + 20


@pytest.mark.slow
def test_the_exported_judge_is_the_one_that_was_trained(images: np.ndarray, tmp_path: Path) -> None:
    config = JudgeConfig(channels=(2, 3, 4), features=8, epochs=1, batch=40)
    trained = train_judge(images, LABEL, config, seed=0)
    write_judge(trained.weights, tmp_path)
    (tmp_path / "labels.json").write_text(str(list(LABELS)).replace("'", '"'))
    seen, features = Judge(tmp_path).seen(images[:7])
    weights = {
        name: jnp.asarray(values.astype(np.float16).astype(np.float32))
        for name, values in trained.weights.items()
    }
    logits = np.asarray(logits_of(weights, jnp.asarray(images[:7])))
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-5)
    assert features.shape == (7, 8)


def test_the_shipped_judge_is_small_and_knows_the_samples() -> None:
    from edgepact.inference.models import samples
    from edgepact.inference.pictures import decoded, read_picture
    from edgepact.jobs.classification import find_images

    assert sum(path.stat().st_size for path in garment_judge().iterdir()) < 1_000_000
    judge, pictures = Judge(garment_judge()), find_images(samples())[::10]
    grey = np.stack(
        [
            np.asarray(decoded(read_picture(each.path), image_size=28).convert("L"))
            for each in pictures
        ]
    )
    seen = judge.seen(grey)[0].argmax(axis=1)
    right = [judge.labels[at] == each.label for at, each in zip(seen, pictures, strict=True)]
    assert np.mean(right) > 0.7
