"""The bound by a flow of types: Myerson for one item, above every auction for several."""

import math
from typing import Any

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.mechanisms.auction.revenue_flow import flow_bound, virtual_values
from edgepact.mechanisms.auction.tariffs import no_fee, sell


@pytest.mark.parametrize(("bidders", "best"), [(1, 0.25), (2, 5 / 12), (3, 17 / 32)])
def test_one_item_is_myerson(bidders: int, best: float) -> None:
    rng = np.random.default_rng(bidders)
    values = rng.random((50, 1))
    virtual = virtual_values(values, low=0.0, high=1.0)
    assert virtual == pytest.approx(2.0 * values - 1.0, abs=1e-12)
    found = flow_bound(bidders, 1, samples=200_000, rng=rng)
    assert abs(found.revenue - best) < 4.0 * found.error
    assert found.interval[0] < found.revenue < found.interval[1]


def test_one_item_that_is_worth_something_to_everybody() -> None:
    found = flow_bound(1, 1, low=2.0, high=3.0, samples=100_000, rng=np.random.default_rng(0))
    assert found.revenue == pytest.approx(2.0, abs=4.0 * found.error)


@pytest.mark.parametrize(
    ("bidders", "items", "earned"),
    [(1, 2, 4 / 9 + 2 * math.sqrt(2) / 27), (2, 2, 0.8743), (3, 10, 5.681)],
)
def test_it_is_above_what_auctions_earn_and_below_welfare(
    bidders: int, items: int, earned: float
) -> None:
    rng = np.random.default_rng(1)
    found = flow_bound(bidders, items, samples=20_000, rng=rng)
    welfare = items * bidders / (bidders + 1)
    assert earned < found.interval[0] < found.revenue < 0.95 * welfare
    values = rng.random((20_000, bidders, items))
    assert sell(no_fee(0.5), values).payments.sum(1).mean() < found.revenue


def test_along_a_ray_types_keep_what_myerson_leaves_them() -> None:
    # For any monotone allocation along a ray, what is paid is what virtual values say: checked
    # for a price on the bundle of three items, over rays in all directions.
    rng, items, price = np.random.default_rng(2), 3, 1.2
    values = rng.random((400_000, items))
    buys = values.sum(1) >= price
    paid = price * buys
    virtual = np.where(buys, virtual_values(values, low=0.0, high=1.0).sum(1), 0.0)
    gap = paid - virtual
    assert abs(gap.mean()) < 4.0 * gap.std() / math.sqrt(len(gap))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"items": 0}, "bidders, items"),
        ({"samples": 1}, "samples"),
        ({"low": -1.0}, "low, high"),
    ],
)
def test_impossible_bounds_are_refused(change: dict[str, Any], field: str) -> None:
    asked: dict[str, Any] = {
        "bidders": 1,
        "items": 1,
        "samples": 10,
        "rng": np.random.default_rng(0),
    }
    with pytest.raises(InputError, match=field):
        flow_bound(**asked | change)
