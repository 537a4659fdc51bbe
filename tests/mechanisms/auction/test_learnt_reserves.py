"""Reserves learnt from past bids: own past bids never set the own reserve, and what that is for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.learnt_reserves import (
    SHARE_MIN,
    best_price,
    leave_own_out,
    own,
    pooled,
    sell,
)
from edgepact.mechanisms.auction.lies_over_rounds import Lie, best_lie, played
from tests.strategies import numbers


@st.composite
def histories(draw: st.DrawFn) -> np.ndarray:
    """Past bids, rounds x bidders, with coincidences."""
    rounds, bidders = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    row = st.lists(numbers(0.0, 4.0), min_size=bidders, max_size=bidders)
    return np.array(draw(st.lists(row, min_size=rounds, max_size=rounds)))


@given(histories(), st.data())
def test_own_past_bids_never_set_the_own_reserve(past: np.ndarray, data: st.DataObject) -> None:
    bidder = data.draw(st.integers(0, past.shape[1] - 1))
    column = st.lists(numbers(0.0, 9.0), min_size=len(past), max_size=len(past))
    changed = past.copy()
    changed[:, bidder] = data.draw(column)
    # To the last bit.
    assert leave_own_out(past)[bidder] == leave_own_out(changed)[bidder]


@given(histories(), st.integers(0, 1000))
def test_sold_lazily_no_lie_pays_over_any_horizon(past: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks, rounds, bidders = 3, len(past), past.shape[1]
    values = rng.choice(past.ravel(), (1, blocks, rounds, bidders))
    truth, _ = played(leave_own_out, values, Lie(), lazy=True)
    for lie in (
        Lie(share=rng.uniform(0.0, 2.0)),
        Lie(most=rng.uniform(0.0, 4.0)),
        Lie(least=rng.uniform(0.0, 4.0)),
    ):
        lied, _ = played(leave_own_out, values, lie, lazy=True)
        assert lied[0] <= truth[0] + 1e-12


def test_where_own_bids_set_the_reserve_the_search_finds_the_lie() -> None:
    values = np.random.default_rng(0).random((20, 4, 100, 3))
    lied = best_lie(own, values, lazy=False)
    assert lied.gain > 4.0 * lied.error > 0.0
    assert lied.revenue_lied < lied.revenue
    without = best_lie(leave_own_out, values, lazy=True)
    assert (without.lie, without.gain) == (Lie(), 0.0)


@given(st.lists(numbers(0.0, 4.0), min_size=1, max_size=12))
def test_the_best_price_is_the_best_of_all_bids(listed: list[float]) -> None:
    bids = np.array(listed)
    earned = [bid * np.sum(bids >= bid) for bid in bids]
    price = float(best_price(bids))
    assert price in listed
    assert price * np.sum(bids >= price) == pytest.approx(max(earned))


def test_a_few_high_bids_do_not_set_a_price() -> None:
    bids = np.ones(1000)
    bids[:5] = 1e6
    assert SHARE_MIN * len(bids) > 5
    assert best_price(bids) == 1.0


def test_a_batch_is_its_histories() -> None:
    past = np.random.default_rng(1).random((4, 5, 6, 3))
    for rule in (own, pooled, leave_own_out):
        found = rule(past)
        assert found.shape == (4, 5, 3)
        assert np.array_equal(found[2, 3], rule(past[2, 3]))


@given(histories(), st.booleans(), st.data())
def test_truth_is_best_in_a_round_and_winners_pay_at_least_their_reserve(
    past: np.ndarray, lazy: bool, data: st.DataObject
) -> None:
    reserves = leave_own_out(past)
    values = past[0]
    won, paid = sell(reserves, values, lazy=lazy)
    truth = np.where(won, values, 0.0) - paid
    assert won.sum() <= 1
    assert np.all(truth >= 0.0)
    assert np.all(paid[won] >= reserves[won])
    bidder = data.draw(st.integers(0, len(values) - 1))
    lie = values.copy()
    lie[bidder] = data.draw(numbers(0.0, 6.0))
    won, paid = sell(reserves, lie, lazy=lazy)
    assert (np.where(won, values, 0.0) - paid)[bidder] <= truth[bidder]


def test_eager_strikes_out_and_lazy_keeps_the_item() -> None:
    reserves, bids = np.array([0.9, 0.1, 0.1]), np.array([0.8, 0.6, 0.3])
    assert sell(reserves, bids, lazy=True)[0].tolist() == [False, False, False]
    won, paid = sell(reserves, bids, lazy=False)
    assert won.tolist() == [False, True, False]
    assert paid.tolist() == [0.0, 0.3, 0.0]


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        leave_own_out(np.ones((5, 1)))
    with pytest.raises(InputError, match="at least one past bid"):
        own(np.ones((0, 3)))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="numbers of at least 0"):
            pooled(np.array([[1.0, bad]]))
    with pytest.raises(InputError, match="at least 4 horizons"):
        best_lie(own, np.ones((3, 2, 5, 3)), lazy=True)


def test_lies_say_what_they_are() -> None:
    assert str(Lie()) == "the truth"
    assert str(Lie(share=0.5)) == "50 % of the value"
    assert str(Lie(most=0.25)) == "never over 0.25"
    assert str(Lie(least=0.25)) == "at least 0.25"
