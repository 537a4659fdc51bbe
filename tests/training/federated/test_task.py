"""The task on the images of the package: who holds what, one program for all, a true accuracy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.training.fashion_mnist import LABELS
from edgepact.training.federated.task import read_data, task_of
from edgepact.training.federated.task_config import SAMPLES, TaskConfig

CONFIG = TaskConfig(
    data=SAMPLES,
    layers=1,
    public_images=40,
    warm_up_steps=4,
    test_images=60,
    steps=8,
    batch=16,
    learning_rate=3e-3,
)


def test_images_are_held_once_and_all_classes_are_tested() -> None:
    data = read_data(CONFIG)
    assert [len(part) for part in data] == [200, 40, 60]
    assert np.bincount(data.test.labels).tolist() == [6] * len(LABELS)
    rows = [image.tobytes() for part in data for image in part.images]
    assert len(set(rows)) == len(rows)


def test_training_repeats_itself_and_learns() -> None:
    task = task_of(CONFIG)
    weights = task.start()
    assert weights.shape == (task.size,)
    (once, loss), (again, same), (other, _) = (
        task.train(weights, task.data.shared, seed=[seed]) for seed in (1, 1, 2)
    )
    assert 0.0 < loss == same
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    few, _ = task.train(weights, task.data.shared.first(3), seed=[1])  # the same shapes
    assert np.isfinite(few).all()
    for seed in range(4):
        once, _ = task.train(once, task.data.shared, seed=[seed])
    assert task.accuracy(once) > task.accuracy(weights)
    assert 60 * task.accuracy(once) == pytest.approx(round(60 * task.accuracy(once)))


def test_what_is_out_of_range_or_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="steps"):
        replace(CONFIG, steps=0)
    with pytest.raises(InputError, match="dataset-fashion-mnist"):
        read_data(replace(CONFIG, data=str(tmp_path)))
    with pytest.raises(InputError, match=r'data: expected "samples".*which is not there'):
        read_data(replace(CONFIG, data=str(tmp_path / "nowhere")))


def test_of_the_sample_images_most_are_left_to_the_clients() -> None:
    for wanted, kept in ((1000, 40), (40, 40), (10, 10)):
        data = read_data(replace(CONFIG, public_images=wanted))
        assert (len(data.public), len(data.shared)) == (kept, 240 - kept)
