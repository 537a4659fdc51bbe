"""Tariffs: whatever the others' bids make of them, truth is best and no item is sold twice."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.misreport import search
from edgepact.mechanisms.auction.tariffs import Offer, Tariffs, floors, no_fee, sell, softly


def wild(seed: int) -> Offer:
    """Any function of the others' bids, as jagged as can be."""

    def offer(bidder: int, others: np.ndarray) -> Tariffs:
        noise = np.sin(1e4 * (seed + 1 + bidder + others.sum((1, 2))))[:, None]
        fees = np.abs(noise) * np.array([0.0, 0.1, 0.3])
        above = np.abs(noise[:, :, None]) * np.array([0.4, 0.1, 0.0])[None, :, None]
        return Tariffs(fees, floors(others)[:, None, :] + above)

    return offer


@given(st.integers(0, 50), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_nobody_loses_and_no_item_is_sold_twice(
    seed: int, bidders: int, items: int, coarse: bool
) -> None:
    values = np.random.default_rng(seed).random((40, bidders, items))
    if coarse:  # equal bids
        values = np.round(values * 4) / 4
    sale = sell(wild(seed), values)
    assert np.all(sale.allocation.sum(1) <= 1.0)
    assert np.all(sale.payments >= 0.0)
    assert np.all(sale.utility(values) >= 0.0)


@pytest.mark.parametrize("seed", range(2))
def test_a_strong_search_finds_no_lie_that_pays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((40, 2, 2))
    # What decides are the prices themselves, so bids at and next to them are tried.
    prices = [
        np.stack([wild(seed)(i, np.delete(values, i, axis=1)).prices[:, k] for i in range(2)], 1)
        for k in range(3)
    ]
    known = [np.clip(price + step, 0.0, 1.0) for price in prices for step in (-1e-9, 0.0, 1e-9)]
    found = search(
        lambda bids: sell(wild(seed), bids),
        values,
        low=0.0,
        high=1.0,
        rng=rng,
        known=known,
        restarts=20,
    )
    assert found.worst <= 1e-9


def test_without_fees_items_are_sold_separately() -> None:
    values = np.array([[[0.9, 0.3], [0.6, 0.45]]])
    sale = sell(no_fee(0.5), values)
    assert sale.allocation.tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    assert sale.payments.tolist() == [[0.6, 0.0]]


def test_a_bidder_pays_a_fee_where_that_is_cheaper() -> None:
    def offer(bidder: int, others: np.ndarray) -> Tariffs:
        fees = np.array([[0.0, 0.3]])
        return Tariffs(fees, np.array([[[0.7, 0.7], [0.5, 0.5]]]))

    sale = sell(offer, np.array([[[0.9, 0.9]]]))
    assert sale.payments[0, 0] == pytest.approx(1.3)
    sale = sell(offer, np.array([[[0.9, 0.6]]]))
    assert sale.payments[0, 0] == pytest.approx(0.7)


def test_softly_tends_to_what_is_paid() -> None:
    values = np.random.default_rng(3).random((60, 2, 2))
    offered = wild(1)(0, values[:, 1:])
    exact = sell(wild(1), values).payments[:, 0]
    for xp in (np, jnp):
        soft = softly(Tariffs(*(xp.asarray(x) for x in offered)), xp.asarray(values[:, 0]), 1e-4)
        assert np.mean(np.abs(np.asarray(soft) - exact) > 0.02) < 0.05


@pytest.mark.parametrize("spoil", [-0.1, np.nan])
def test_an_offer_that_would_break_a_promise_is_refused(spoil: float) -> None:
    values = np.array([[[0.9], [0.6]]])

    def below(bidder: int, others: np.ndarray) -> Tariffs:
        return Tariffs(np.zeros((1, 1)), floors(others)[:, None, :] + spoil)

    def rebate(bidder: int, others: np.ndarray) -> Tariffs:
        return Tariffs(np.full((1, 1), spoil), floors(others)[:, None, :])

    for offer, message in ((below, "highest bids"), (rebate, "at least 0")):
        with pytest.raises(InputError, match=message):
            sell(offer, values)
