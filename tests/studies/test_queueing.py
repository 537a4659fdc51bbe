"""The queueing model against a simulation, and at its ends."""

import math

import numpy as np
import pytest

from edgepact.studies.queueing import group_response, group_size, shared_response


@pytest.mark.parametrize(
    ("rate", "fixed_s", "each_s"),
    [(50.0, 0.005, 0.0005), (400.0, 0.004, 0.001), (900.0, 0.003, 0.001), (20.0, 0.2, 0.01)],
)
def test_writes_of_groups_take_as_long_as_in_a_simulation(
    rate: float, fixed_s: float, each_s: float
) -> None:
    rng = np.random.default_rng(0)
    comes = np.cumsum(rng.exponential(1.0 / rate, 20_000))
    at, now, batches, total = 0, 0.0, 0, 0.0
    while at < len(comes):
        begin = max(now, comes[at])
        to = max(at + 1, int(np.searchsorted(comes, begin, side="right")))
        now = begin + fixed_s + each_s * (to - at)
        total += float((now - comes[at:to]).sum())
        at, batches = to, batches + 1
    assert group_response(rate, fixed_s, each_s) == pytest.approx(total / len(comes), rel=0.06)
    assert group_size(rate, fixed_s, each_s) == pytest.approx(len(comes) / batches, rel=0.06)


def test_ends_of_the_model() -> None:
    assert group_response(1e-9, 0.003, 0.001) == pytest.approx(0.004)
    assert group_response(1001.0, 0.003, 0.001) == math.inf
    assert group_size(1001.0, 0.003, 0.001) == math.inf
    assert shared_response(0.001, 1.0) == math.inf
    waits = [group_response(rate, 0.003, 0.001) for rate in (10.0, 100.0, 500.0, 900.0, 990.0)]
    assert waits == sorted(waits)
