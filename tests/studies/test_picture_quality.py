"""Measures of crowds of pictures, against closed forms."""

import numpy as np
import pytest

from edgepact.studies.picture_quality import frechet, recall, spread


def test_the_distance_of_two_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    scale, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([1.0, 0.0, -2.0, 0.0])
    # Of diagonal covariances: squared means apart, and squared deviations apart.
    expected = (shift**2).sum() + ((scale - 1) ** 2).sum()
    assert frechet(x, x * scale + shift) == pytest.approx(expected, rel=1e-6)
    assert frechet(x * scale + shift, x) == pytest.approx(expected, rel=1e-6)
    turned = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert frechet(x @ turned, (x * scale + shift) @ turned) == pytest.approx(expected, rel=1e-6)


def test_recall_is_of_what_is_covered() -> None:
    rng = np.random.default_rng(1)
    crowd = rng.normal(size=(200, 2))
    far = crowd + np.array([100.0, 0.0])
    assert recall(crowd, crowd) == 1.0
    assert recall(far, crowd) == 0.0
    assert recall(np.concatenate([crowd, far]), crowd) == 0.5


def test_a_crowd_of_one_picture_has_no_spread() -> None:
    labels = np.array([0, 0, 1, 1])
    same = np.full((4, 28, 28), 7, np.uint8)
    assert spread(same, labels) == 0.0
    two = same.copy()
    two[[1, 3]] += 10
    assert spread(two, labels) == pytest.approx(10.0)
