"""Auctions of three numbers: truthful whatever they are, and what the fit finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction import affine_maximiser, tariffs
from edgepact.mechanisms.auction.misreport import search
from edgepact.solvers.learned_auctions.three_numbers import (
    fit_maximiser,
    fit_tariffs,
    maximiser_of,
    tariffs_of,
)
from tests.strategies import numbers


@given(numbers(-2.0, 0.5), numbers(-2.0, 0.5), numbers(-2.0, 0.5), st.integers(1, 3))
def test_boosts_go_to_what_is_sold(one: float, together: float, apart: float, bidders: int) -> None:
    menu = maximiser_of((one, together, apart), bidders)
    affine_maximiser.check(menu)
    for allocation, boost in zip(menu.allocations, menu.boosts, strict=True):
        sold, most = allocation.sum(), allocation.sum(axis=1).max()
        expected = {(0, 0): 0.0, (1, 1): one, (2, 2): together, (2, 1): apart}[sold, most]
        assert boost == expected


@settings(max_examples=25)
@given(numbers(-0.5, 1.5), numbers(-1.0, 1.0), numbers(-0.5, 1.5), st.integers(1, 3))
def test_no_tariff_breaks_a_promise(
    reserve: float, fixed: float, share: float, bidders: int
) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((20, bidders, 2))
    offer = tariffs_of((reserve, fixed, share), low=0.0, high=1.0)
    sale = tariffs.sell(offer, values)
    assert np.all(sale.utility(values) >= 0.0)
    lies = search(
        lambda bids: tariffs.sell(offer, bids),
        values,
        low=0.0,
        high=1.0,
        rng=rng,
        restarts=3,
        chains=1,
        refinements=3,
    )
    assert lies.worst <= 1e-12


def test_fitted_numbers_beat_items_sold_separately() -> None:
    rng = np.random.default_rng(3)
    values, fresh = rng.random((4_000, 2, 2)), rng.random((100_000, 2, 2))
    found = affine_maximiser.sell(maximiser_of(fit_maximiser(values), 2), fresh)
    assert found.payments.sum(1).mean() > 0.868
    offer = tariffs_of(fit_tariffs(values, low=0.0, high=1.0), low=0.0, high=1.0)
    assert tariffs.sell(offer, fresh).payments.sum(1).mean() > 5 / 6


def test_of_ten_items_three_numbers_beat_items_sold_separately() -> None:
    rng = np.random.default_rng(4)
    offer = tariffs_of((0.88, -0.22, 0.73), low=0.0, high=1.0)
    sale = tariffs.sell(offer, rng.random((10_000, 3, 10)))
    assert sale.payments.sum(1).mean() > 5.6


def test_three_boosts_are_for_two_items() -> None:
    with pytest.raises(InputError, match="items"):
        fit_maximiser(np.zeros((1, 2, 3)))
