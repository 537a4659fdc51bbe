"""Selling with a reserve: closed forms, brute force, irregular priors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.prior import Histogram, TruncatedExponential, uniform
from edgepact.mechanisms.auction.reserve import ReserveAuction
from edgepact.mechanisms.auction.virtual_cost import virtual_value
from tests.strategies import numbers

UNIFORM = virtual_value(uniform(0.0, 1.0))
TWO_KINDS = Histogram(bins=np.array([2.0, 3.0, 5.0, 6.0]), weights=np.array([0.7, 0.05, 0.25]))


@pytest.mark.parametrize("cost", [0.0, 0.2, 1.0, 1.5])
def test_the_reserve_of_a_uniform_prior(cost: float) -> None:
    reserve = ReserveAuction(virtual=UNIFORM, units=1, unit_cost=cost).reserve
    # Above the support the virtual value goes on as the value itself.
    assert reserve == pytest.approx((1.0 + cost) / 2.0 if cost <= 1.0 else cost, abs=1e-12)


def test_the_reserve_is_the_best_price_for_one_bidder() -> None:
    for prior in (TWO_KINDS, TruncatedExponential(start=0.5, stop=4.0, rate=1.0)):
        prices = np.linspace(0.0, 6.0, 60_001)
        auction = ReserveAuction(virtual=virtual_value(prior), units=1, unit_cost=0.25)
        earned = (auction.reserve - 0.25) * prior.tail(np.array(auction.reserve))
        assert earned == pytest.approx(np.max((prices - 0.25) * prior.tail(prices)), rel=1e-6)


@pytest.mark.parametrize("bidders", [1, 2, 3, 5])
def test_expected_revenue_is_what_theory_says(bidders: int) -> None:
    auction = ReserveAuction(virtual=UNIFORM, units=1)
    bids = np.random.default_rng(bidders).random((100_000, bidders))
    revenue = np.sum(auction.award(bids).payments, axis=-1)
    half = 2.0**-bidders
    exact = 2.0 * bidders * (1.0 - half / 2.0) / (bidders + 1) - (1.0 - half)
    error = np.std(revenue) / np.sqrt(len(revenue))
    assert np.mean(revenue) == pytest.approx(exact, abs=4.0 * error)
    known = {1: 0.25, 2: 0.416667, 3: 0.53125, 5: 0.671875}
    assert exact == pytest.approx(known[bidders], abs=5e-7)


@given(
    st.lists(numbers(0.0, 1.5), min_size=1, max_size=7),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.25, 0.5]),
)
def test_the_highest_bids_from_the_reserve_on_win(
    listed: list[float], units: int, cost: float
) -> None:
    bids = np.array(listed)
    auction = ReserveAuction(virtual=UNIFORM, units=units, unit_cost=cost)
    award = auction.award(bids)
    ranked = sorted(range(len(bids)), key=lambda at: (-bids[at], at))
    winners = [at for at in ranked if bids[at] >= auction.reserve][:units]
    losing = bids[ranked[units]] if len(bids) > units else 0.0
    # A bid within rounding of the reserve or of another may fall on either side.
    apart = np.abs(np.subtract.outer(bids, np.append(bids, auction.reserve)))
    if np.all((apart > 1e-9) | (apart == 0.0)):
        assert np.flatnonzero(award.wins).tolist() == sorted(winners)
    paid = max(auction.reserve, losing)
    assert award.payments[award.wins] == pytest.approx(paid, abs=1e-9)
    assert np.all(award.payments[~award.wins] == 0.0)


def test_on_an_ironed_stretch_order_decides_and_not_the_bid() -> None:
    virtual = virtual_value(TWO_KINDS)
    auction = ReserveAuction(virtual=virtual, units=1)
    low, high = 2.5, 4.5
    assert virtual.at(np.array([-low]))[0] == virtual.at(np.array([-high]))[0]
    assert auction.award(np.array([low, high])).wins.tolist() == [True, False]
    assert auction.award(np.array([high, low])).wins.tolist() == [True, False]


def test_ironing_earns_more_than_the_best_single_reserve() -> None:
    prior = TWO_KINDS
    q = np.append(0.0, np.cumsum(prior.weights))
    values = np.interp(np.random.default_rng(0).random((200_000, 2)), q, prior.bins)
    ranked = np.sort(values, axis=-1)
    ours = np.sum(
        ReserveAuction(virtual=virtual_value(prior), units=1).award(values).payments, axis=-1
    )
    for reserve in np.linspace(0.0, 6.0, 33):
        plain = np.where(ranked[:, 1] >= reserve, np.maximum(ranked[:, 0], reserve), 0.0)
        gain = ours - plain
        assert np.mean(gain) >= -3.0 * np.std(gain) / np.sqrt(len(gain))


def test_impossible_terms_and_bids_are_refused() -> None:
    auction = ReserveAuction(virtual=UNIFORM, units=1)
    for bids in ([-1.0], [np.inf], [np.nan]):
        with pytest.raises(InputError, match=r"bids\[0\]"):
            auction.award(np.array(bids))
    with pytest.raises(InputError, match="units"):
        ReserveAuction(virtual=UNIFORM, units=0)
    with pytest.raises(InputError, match="unit_cost"):
        ReserveAuction(virtual=UNIFORM, units=1, unit_cost=-1.0)
