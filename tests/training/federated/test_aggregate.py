"""Aggregation against the same written out entry by entry."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.training.federated.aggregate import FedAdam, FedAvg, mean_update

ENTRIES = st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4)


def vector(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


@given(
    updates=st.lists(ENTRIES, min_size=1, max_size=6),
    data=st.data(),
)
def test_mean_is_weighed_by_examples(updates: list[list[float]], data: st.DataObject) -> None:
    count = len(updates)
    examples = data.draw(st.lists(st.integers(1, 10_000), min_size=count, max_size=count))
    mean = mean_update([vector(each) for each in updates], examples)
    for at in range(4):
        by_hand = sum(n * update[at] for n, update in zip(examples, updates, strict=True))
        assert float(mean[at]) == pytest.approx(by_hand / sum(examples), rel=1e-5, abs=1e-5)


def test_fedavg_of_all_is_the_mean_of_their_weights() -> None:
    weights = vector([1.0, 2.0, 3.0, 4.0])
    trained = [weights + 1.0, weights - 3.0]
    model = FedAvg().start(weights)
    moved = FedAvg().move(model, mean_update([each - weights for each in trained], [3, 1]))
    assert moved.weights == pytest.approx(np.average(trained, axis=0, weights=[3, 1]))


@given(rounds=st.lists(ENTRIES, min_size=1, max_size=5))
def test_fedadam_follows_its_definition(rounds: list[list[float]]) -> None:
    rule = FedAdam(learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3)
    model = rule.start(np.zeros(4, np.float32))
    x, m, v = [0.0] * 4, [0.0] * 4, [0.0] * 4
    for update in rounds:
        model = rule.move(model, vector(update))
        for at in range(4):
            m[at] = 0.9 * m[at] + 0.1 * update[at]
            v[at] = 0.99 * v[at] + 0.01 * update[at] ** 2
            x[at] += 0.1 * m[at] / (math.sqrt(v[at]) + 1e-3)
    assert model.weights == pytest.approx(x, rel=1e-3, abs=1e-4)
    assert model.weights.dtype == np.float32


def test_updates_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError):
        mean_update([], [])
    with pytest.raises(InputError):
        mean_update([np.zeros(3, np.float32), np.zeros(4, np.float32)], [1, 1])
    with pytest.raises(InputError):
        mean_update([np.zeros(3, np.float32)], [0])
