"""The bound by a linear program: never below what theory says can be earned, and close to it."""

import math
from typing import Any

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.mechanisms.auction.affine_maximiser import Demand
from edgepact.mechanisms.auction.revenue_program import TOLERANCE, revenue_bound

SINGLE = {1: 0.25, 2: 5 / 12, 3: 17 / 32}
"""Myerson's revenue from one item, values uniform on [0, 1]."""


@pytest.mark.parametrize("cells", [2, 4, 8])
def test_one_item_and_one_bidder_is_myerson_exactly(cells: int) -> None:
    assert revenue_bound(1, 1, cells=cells).revenue == pytest.approx(0.25, abs=TOLERANCE)


@pytest.mark.parametrize("bidders", [2, 3])
def test_one_item_tends_to_myerson_with_the_square_of_a_cell(bidders: int) -> None:
    for cells in (8, 16):
        found = revenue_bound(bidders, 1, cells=cells)
        assert found.settled
        above = found.revenue - SINGLE[bidders]
        assert -TOLERANCE <= above <= 0.6 * bidders / cells**2
        assert found.grid_term == pytest.approx(above, rel=0.3)


@pytest.mark.parametrize(
    ("low", "demand", "optimum"),
    [
        (0.0, "additive", 4 / 9 + 2 * math.sqrt(2) / 27),
        (0.0, "unit", 2 / (3 * math.sqrt(3))),
        (2.0, "unit", 2.133132),
    ],
)
def test_two_items_and_one_bidder(low: float, demand: Demand, optimum: float) -> None:
    found = revenue_bound(1, 2, low=low, high=low + 1.0, demand=demand, cells=16)
    assert optimum - TOLERANCE <= found.revenue <= optimum + 0.003
    assert found.coarser > found.revenue
    assert found.revenue - found.grid_term == pytest.approx(optimum, abs=0.003)


def test_two_items_and_two_bidders_lie_between_auctions_and_welfare() -> None:
    found = revenue_bound(2, 2, cells=8)
    # Item-wise Myerson earns 5/6; the best affine maximiser known, .8743. All welfare is 4/3.
    assert 5 / 6 < 0.8743 < found.revenue < 0.93
    assert found.settled


def test_it_scales_with_the_unit() -> None:
    one, hundred = (revenue_bound(1, 2, high=high, cells=4).revenue for high in (1.0, 100.0))
    assert hundred == pytest.approx(100.0 * one, rel=1e-6)


def test_fewer_rounds_leave_a_bound() -> None:
    best = revenue_bound(2, 2, cells=4).revenue
    early = [revenue_bound(2, 2, cells=4, rounds=rounds) for rounds in (1, 2)]
    assert early[0].revenue >= early[1].revenue >= best - TOLERANCE
    assert not early[0].settled


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"items": 3}, "items"),
        ({"bidders": 0}, "bidders"),
        ({"cells": 1}, "cells"),
        ({"low": 1.0}, "low, high"),
        ({"high": np.inf}, "low, high"),
    ],
)
def test_impossible_bounds_are_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        revenue_bound(**{"bidders": 1, "items": 1} | change)
