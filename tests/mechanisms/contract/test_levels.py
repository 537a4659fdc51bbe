"""Rising levels: against isotonic regression, and never apart where they belong together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from edgepact.mechanisms.contract.levels import rising_levels
from tests.strategies import numbers


@given(st.lists(st.tuples(numbers(-1.0, 3.0), st.floats(0.1, 2.0)), min_size=1, max_size=8))
def test_of_parabolas_it_is_isotonic_regression(tops: list[tuple[float, float]]) -> None:
    top, weight = np.array(tops).T
    found = rising_levels(lambda level: weight * (top - level), len(top), 0.0, 2.0)
    expected = np.clip(isotonic_regression(top, weights=weight).x, 0.0, 2.0)
    assert found == pytest.approx(expected, abs=1e-12)
    assert np.all(np.diff(found) >= 0.0)
    alone = rising_levels(lambda level: weight * (top - level), len(top), 0.0, 2.0, ordered=False)
    assert alone == pytest.approx(np.clip(top, 0.0, 2.0), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_blocks_end_on_one_float(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    falling, weight = -np.sort(-rng.uniform(0.0, 1.0, size)), rng.uniform(0.1, 2.0, size)
    found = rising_levels(lambda level: weight * (falling - level), size, 0.0, 1.0)
    assert len(np.unique(found)) == 1


def test_the_largest_of_equally_good_levels() -> None:
    found = rising_levels(lambda level: np.zeros(3), 3, 0.0, 2.0)
    assert found.tolist() == [2.0, 2.0, 2.0]
    kink = rising_levels(lambda level: np.where(level < 0.7, 1.0, -1.0), 2, 0.0, 2.0)
    assert kink.tolist() == [0.7, 0.7]
