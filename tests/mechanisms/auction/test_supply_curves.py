"""Auctions of cost curves: exact against brute force, truthful for whole curves."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.audit import audit_auction
from edgepact.mechanisms.auction.supply_audit import audit_supply, largest_gain_by_layers
from edgepact.mechanisms.auction.supply_curves import (
    BlockShare,
    SupplyPayAsBid,
    SupplyVcg,
    block_costs,
    relief_of,
)
from tests.strategies import numbers


@st.composite
def supplies(
    draw: st.DrawFn, *, devices_max: int = 4, layers_max: int = 3, convex: bool | None = None
) -> tuple[SupplyVcg, np.ndarray]:
    """An auction under any coupling, and curves of any form, some supply missing."""
    count, most = draw(st.integers(1, devices_max)), draw(st.integers(1, layers_max))
    column = st.lists(numbers(0.0, 3.0), min_size=most, max_size=most)
    steps = np.array(draw(st.lists(column, min_size=count, max_size=count)))
    bent = draw(st.booleans()) if convex is None else convex
    steps = np.sort(steps, axis=1) if bent else steps
    cap = np.array(draw(st.lists(st.integers(0, most), min_size=count, max_size=count)))
    curves = np.concatenate([np.zeros((count, 1)), np.cumsum(steps, axis=1)], axis=1)
    curves = np.where(np.arange(most + 1) <= cap[:, None], curves, np.inf)
    many = st.lists(numbers(0.0, 3.0), min_size=count, max_size=count)
    saving = np.array(draw(many))
    limits: dict = {}
    coupling = draw(st.sampled_from(["none", "layers", "devices", "relief", "both"]))
    if coupling in ("layers", "both"):
        limits["layers_total"] = draw(st.integers(1, count * most))
    if coupling == "devices":
        limits["devices_max"] = draw(st.integers(1, count))
    if coupling in ("relief", "both"):
        size = count * most
        each = draw(st.lists(numbers(-1.0, 2.0), min_size=size, max_size=size))
        each = sorted(each, reverse=True) if bent else each
        limits["relief"] = np.concatenate([[0.0], np.cumsum(each)])
    return SupplyVcg(saving=saving, layers_max=most, **limits), curves


def best_welfare(auction: SupplyVcg, curves: np.ndarray, without: int | None = None) -> float:
    """By every assignment of layers."""
    count, items = curves.shape
    best = 0.0
    for layers in product(range(items), repeat=count):
        if without is not None and layers[without]:
            continue
        total = sum(layers)
        if auction.layers_total is not None and total > auction.layers_total:
            continue
        if auction.devices_max is not None and np.count_nonzero(layers) > auction.devices_max:
            continue
        relief = 0.0 if auction.relief is None else auction.relief[total]
        cost = curves[np.arange(count), layers]
        best = max(best, float(auction.saving @ np.array(layers) - np.sum(cost) + relief))
    return best


@settings(max_examples=80)
@given(supplies())
def test_most_welfare_and_what_each_adds(drawn: tuple[SupplyVcg, np.ndarray]) -> None:
    auction, curves = drawn
    award = auction.award(curves)
    welfare = best_welfare(auction, curves)
    asked = curves[np.arange(len(curves)), award.layers]
    assert award.welfare == pytest.approx(welfare, abs=1e-9)
    assert award.saving - np.sum(asked) == pytest.approx(welfare, abs=1e-9)
    for own in range(len(curves)):
        added = welfare - best_welfare(auction, curves, without=own)
        assert award.payments[own] - asked[own] == pytest.approx(added, abs=1e-9)


@settings(max_examples=60)
@given(supplies(devices_max=6, layers_max=5, convex=True))
def test_merging_convex_curves_is_the_dynamic_program(
    drawn: tuple[SupplyVcg, np.ndarray],
) -> None:
    auction, curves = drawn
    merged, programmed = auction.award(curves), auction.by_program(curves)
    asked, other = (curves[np.arange(len(curves)), each.layers] for each in (merged, programmed))
    assert merged.welfare == pytest.approx(programmed.welfare, abs=1e-9)
    # Which of equally good layers are taken may differ, what everybody keeps may not.
    assert merged.payments - asked == pytest.approx(programmed.payments - other, abs=1e-9)


@settings(max_examples=40)
@given(supplies(), st.randoms(use_true_random=False))
def test_the_order_of_devices_changes_nothing(
    drawn: tuple[SupplyVcg, np.ndarray], random: object
) -> None:
    auction, curves = drawn
    order = list(range(len(curves)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = SupplyVcg(
        saving=auction.saving[order],
        layers_max=auction.layers_max,
        layers_total=auction.layers_total,
        devices_max=auction.devices_max,
        relief=auction.relief,
    )
    award, again = auction.award(curves), other.award(curves[order])
    kept = award.payments - curves[np.arange(len(curves)), award.layers]
    kept_again = again.payments - curves[order, again.layers]
    assert again.welfare == pytest.approx(award.welfare, abs=1e-9)
    assert kept_again == pytest.approx(kept[order], abs=1e-9)


@settings(max_examples=30)
@given(supplies())
def test_no_curve_pays_better_than_the_truth(drawn: tuple[SupplyVcg, np.ndarray]) -> None:
    auction, curves = drawn
    audit = audit_supply(auction, curves, rng=np.random.default_rng(1), random_curves=6)
    assert audit.individually_rational
    assert audit.incentive_compatible
    assert audit.best_lie is None
    assert np.max(largest_gain_by_layers(auction, curves)) == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=40)
@given(supplies())
def test_a_device_is_paid_the_price_of_what_it_runs(drawn: tuple[SupplyVcg, np.ndarray]) -> None:
    auction, curves = drawn
    award, prices = auction.award(curves), auction.prices(curves)
    rows = np.arange(len(curves))
    assert award.payments == pytest.approx(prices[rows, award.layers], abs=1e-9)
    # And to offer that number alone, a little below its price, is to be taken at it.
    for own, layers in enumerate(award.layers):
        if layers:
            other = curves.copy()
            only = np.arange(curves.shape[1]) == layers
            asked = max(prices[own, layers] - 1e-6, 0.0)
            other[own] = np.where(only, asked, np.where(np.arange(len(only)) == 0, 0.0, np.inf))
            again = auction.award(other)
            assert again.layers[own] == layers or prices[own, layers] <= 1e-6
            assert again.payments[own] == pytest.approx(
                prices[own, layers] if again.layers[own] else 0.0, abs=1e-9
            )


@settings(max_examples=40)
@given(supplies())
def test_devices_that_do_not_compete_keep_all_they_save(
    drawn: tuple[SupplyVcg, np.ndarray],
) -> None:
    coupled, curves = drawn
    free = SupplyVcg(saving=coupled.saving, layers_max=coupled.layers_max)
    award = free.award(curves)
    assert award.payments == pytest.approx(free.saving * award.layers, abs=1e-9)
    assert award.profit == pytest.approx(0.0, abs=1e-9)


CURVES = np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 5.0], [0.0, 0.5, 3.5]])
"""Layers cost the devices (1, 2), (2, 3) and (0.5, 3)."""


def test_three_devices_worked_out_by_hand() -> None:
    # Each layer saves 4, and three are wanted. The cheapest cost 0.5 (third), 1 (first) and 2, of
    # the first or the second; the first comes first. So the first runs 2, the third 1: welfare
    # 12 - 3.5 = 8.5. Without the first: 0.5, 2 and 3, welfare 12 - 5.5 = 6.5, so it is paid
    # 3 + 2 = 5. Without the third: 1, 2, 2: welfare 12 - 5 = 7, so it is paid 0.5 + 1.5 = 2. The
    # server keeps 12 - 7 = 5.
    award = SupplyVcg(saving=np.full(3, 4.0), layers_max=2, layers_total=3).award(CURVES)
    assert award.layers.tolist() == [2, 0, 1]
    assert award.payments.tolist() == [5.0, 0.0, 2.0]
    assert (award.welfare, award.saving, award.profit) == (8.5, 12.0, 5.0)


def test_a_server_whose_own_computing_gets_dearer_worked_out_by_hand() -> None:
    # Six layers cost it 0, 0.2, 0.6, 1.4, 2.6, 4.6, 7.6 by how many it runs itself, so buying
    # relieves it of 3, 2, 1.2, 0.8, 0.4, 0.2 in turn. Devices ask 0.5, 1, 2, ...: two layers are
    # bought at 0.5 + 1, since a third at 2 would bring 1.2. Welfare 5 - 1.5 = 3.5. Without the
    # first: 0.5 and 2 (which brings 2, nothing is left): 2.5, so it is paid 1 + 1 = 2. Without the
    # third: 1 and 2: 2, so it is paid 0.5 + 1.5 = 2. The server keeps 5 - 4 = 1.
    own = np.array([0.0, 0.2, 0.6, 1.4, 2.6, 4.6, 7.6])
    auction = SupplyVcg(saving=np.zeros(3), layers_max=2, relief=relief_of(own))
    award = auction.award(CURVES)
    assert award.layers.tolist() == [1, 0, 1]
    assert award.payments == pytest.approx([2.0, 0.0, 2.0])
    assert award.profit == pytest.approx(1.0)


def test_pay_as_bid_invites_the_lie_that_is_found() -> None:
    rule = SupplyPayAsBid(vcg=SupplyVcg(saving=np.full(3, 4.0), layers_max=2, layers_total=3))
    audit = audit_supply(rule, CURVES, rng=np.random.default_rng(0))
    # Asking what VCG would pay: the first gains 2 by its two layers, the third 1.5 by its one.
    assert not audit.incentive_compatible
    assert audit.largest_gain_from_lying == pytest.approx(2.0, abs=1e-5)
    assert audit.best_lie is not None
    assert audit.best_lie[0] == 0


def test_the_pivot_may_cost_more_than_it_saves_where_relief_is_not_concave() -> None:
    # Two layers together are worth 4, one is worth nothing: each device adds all of it.
    auction = SupplyVcg(saving=np.zeros(2), layers_max=1, relief=np.array([0.0, 0.0, 4.0]))
    curves = np.array([[0.0, 1.0], [0.0, 1.0]])
    award = auction.award(curves)
    assert award.payments.tolist() == [3.0, 3.0]
    audit = audit_supply(auction, curves, rng=np.random.default_rng(0))
    assert audit.incentive_compatible
    assert not audit.budget_balanced


@settings(max_examples=40)
@given(supplies(convex=True))
def test_under_a_concave_relief_the_server_never_pays_more_than_it_saves(
    drawn: tuple[SupplyVcg, np.ndarray],
) -> None:
    auction, curves = drawn
    assert auction.award(curves).profit >= -1e-9


def test_a_public_block_is_bought_within_a_budget_and_for_no_more_than_it_saves() -> None:
    # Two layers save 4. Devices ask 3, 5 and 3.5 of a budget of 12: 5 is more than it saves. Two
    # shares of 6 cover both others, at a price of 4 each, since no block is paid above that.
    auction = BlockShare(saving=np.full(3, 2.0), layers=2, budget=12.0)
    award = auction.award(block_costs(CURVES, 2))
    assert award.wins.tolist() == [True, False, True]
    assert award.payments.tolist() == [4.0, 0.0, 4.0]
    # Of a budget of 7.4 each is paid half: 3.7; of 6.9 a half is 3.45 and one alone gets 3.5,
    # which is what the next one asks.
    assert BlockShare(saving=np.full(3, 2.0), layers=2, budget=7.4).award(
        block_costs(CURVES, 2)
    ).payments == pytest.approx([3.7, 0.0, 3.7])
    assert BlockShare(saving=np.full(3, 2.0), layers=2, budget=6.9).award(
        block_costs(CURVES, 2)
    ).payments == pytest.approx([3.5, 0.0, 0.0])


@settings(max_examples=40)
@given(supplies(), numbers(0.25, 8.0))
def test_no_lie_about_a_block_pays(drawn: tuple[SupplyVcg, np.ndarray], budget: float) -> None:
    vcg, curves = drawn
    auction = BlockShare(saving=vcg.saving + 0.25, layers=vcg.layers_max, budget=budget)
    costs = block_costs(curves, vcg.layers_max)
    audit = audit_auction(auction, costs)
    assert audit.individually_rational
    assert audit.incentive_compatible
    assert audit.budget_balanced
    assert audit.monotone
    award = auction.award(costs)
    assert np.sum(award.payments) <= np.sum((vcg.saving + 0.25)[award.wins]) * vcg.layers_max


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"saving": np.array([-1.0])}, r"saving\[0\]"),
        ({"layers_total": 0}, "layers_total"),
        ({"devices_max": 1, "layers_total": 1}, "devices_max"),
        ({"relief": np.array([0.0])}, "relief"),
        ({"relief": np.array([1.0, 2.0, 3.0])}, "relief"),
    ],
)
def test_impossible_auctions_are_refused(change: dict, field: str) -> None:
    terms: dict = {"saving": np.ones(1), "layers_max": 2}
    with pytest.raises(InputError, match=field):
        SupplyVcg(**(terms | change))


@pytest.mark.parametrize("curve", [[1.0, 2.0, 3.0], [0.0, -1.0, 2.0], [0.0, np.nan, 1.0]])
def test_impossible_curves_are_refused(curve: list[float]) -> None:
    with pytest.raises(InputError, match=r"curves\[0\]"):
        SupplyVcg(saving=np.ones(1), layers_max=2).award(np.array([curve]))
