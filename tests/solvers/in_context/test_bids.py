"""Past bids as evidence: positions, their order, their currency, and bids that cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.solvers.in_context.bids import (
    BIDS_MIN,
    FEATURES,
    PLACES,
    Bids,
    check_bids,
    level_of,
    position_of,
    row_of,
)

LISTS = st.lists(st.floats(0.01, 50.0), min_size=BIDS_MIN, max_size=30).map(np.array)
NONE = np.zeros(0)


@given(LISTS, st.one_of(st.just(NONE), LISTS), st.integers(0, 99))
@settings(max_examples=40)
def test_a_level_is_found_again_from_its_position(
    own: np.ndarray, others: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    row, told = row_of(own, others)
    assert told.shape == (FEATURES,)
    assert np.all(np.isfinite(told))
    assert np.all(np.diff(row.place) >= 0.0)
    # Levels that are possible, not ones whose position is 1 in double precision.
    level = np.sort(rng.beta(row.above, row.below))
    assert np.allclose(level_of(row, position_of(row, level)), level, atol=1e-6)
    anywhere = level_of(row, rng.uniform(-1.0, 1.0, (5, PLACES)))
    assert np.all((np.diff(anywhere) >= 0.0) & (anywhere[:, :-1] >= 0.0) & (anywhere[:, :-1] <= 1))


def test_positions_of_any_distribution_are_uniform() -> None:
    rng = np.random.default_rng(0)
    levels = rng.random((1500, 21))
    found = []
    for each in levels:
        row, _ = row_of(each**3 + 0.1, NONE)
        # F of this distribution, at places that are bids or lie between two.
        found.append(position_of(row, np.cbrt(row.place - 0.1)))
    place = np.array(found)
    assert np.allclose(place.mean(axis=0), 0.0, atol=0.06)
    assert np.allclose(place.std(axis=0), np.sqrt(1.0 / 3.0), atol=0.06)


@given(LISTS, LISTS, st.floats(0.01, 1e4))
@settings(max_examples=40)
def test_neither_order_nor_currency_is_told(
    own: np.ndarray, others: np.ndarray, rate: float
) -> None:
    _, told = row_of(own, others)
    _, turned = row_of(own[::-1], np.roll(others, 3))
    assert np.array_equal(told, turned)
    row, other_money = row_of(rate * own, rate * others)
    assert np.allclose(told, other_money, atol=2e-3)
    assert np.allclose(row.place, rate * row_of(own, others)[0].place)


@given(LISTS)
def test_a_bidder_that_never_bid_has_places_beyond_all_others(others: np.ndarray) -> None:
    row, _ = row_of(NONE, others)
    assert row.place[0] < others.min()
    assert row.place[-1] > others.max()
    assert np.all(row.above == 1.0)


@pytest.mark.parametrize(
    ("bids", "field", "found"),
    [
        ([0.2, -0.1], "past[b][2]", "-0.1"),
        ([float("nan")], "past[b][1]", "nan"),
        ([float("inf")], "past[b][1]", "inf"),
        ([0.2, 0.3, 4.5], "past[b][3]", "4.5"),
    ],
)
def test_impossible_bids_are_named(bids: list[float], field: str, found: str) -> None:
    evidence = Bids(past=(np.array([1.0, 2.0]), np.array(bids)))
    with pytest.raises(InputError) as told:
        check_bids(evidence, names=("a", "b"), value_max=4.0, source="sale.toml")
    assert str(told.value.field) == field
    assert found in str(told.value)
    assert "from 0 to 4" in str(told.value)


def test_too_few_bids_and_bids_of_nothing() -> None:
    with pytest.raises(InputError, match="at least 4 past bids"):
        row_of(np.array([1.0, 2.0, 3.0]), np.ones(9))
    with pytest.raises(InputError, match="none above 0"):
        row_of(np.zeros(9), np.ones(9))
    with pytest.raises(InputError, match="of 2 bidders"):
        check_bids(Bids(past=(np.ones(3),)), names=("a", "b"), value_max=1.0)
    with pytest.raises(InputError, match="a row of bids"):
        check_bids(Bids(past=(np.ones((3, 2)),)), names=("a",), value_max=1.0)
