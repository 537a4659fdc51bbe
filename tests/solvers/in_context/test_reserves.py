"""Reserves over samples: Myerson's where all is known, and nobody's own bids set its own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.lies_over_rounds import Lie, played
from edgepact.mechanisms.auction.prior import Histogram
from edgepact.mechanisms.auction.reserve import ReserveAuction
from edgepact.mechanisms.auction.virtual_cost import virtual_value
from edgepact.solvers.in_context import reserves
from edgepact.solvers.in_context.bids import Bids, row_of
from edgepact.solvers.in_context.deciding import Decider
from edgepact.solvers.in_context.reserves import (
    Predicted,
    ReserveDecision,
    Reserves,
    Selling,
    predicted,
    reserve,
    sold_by_score,
    sold_lazily,
    virtual_of,
)

RNG = np.random.default_rng(0)

WHOLE: Decider[Selling, Bids, ReserveDecision] = Reserves.shipped()

DECIDER = Reserves(reserves.load(reserves.SHIPPED), samples=8)
"""Draws few distributions of a bidder: what is tested holds for any number."""


@st.composite
def beliefs(draw: st.DrawFn) -> Predicted:
    """Distributions that are uniform between some points, with and without gaps."""
    number = draw(st.integers(1, 5))
    width = draw(st.lists(st.integers(1, 6), min_size=number, max_size=number))
    mass = draw(st.lists(st.integers(0, 4), min_size=number, max_size=number))
    mass[-1] += 1
    at = draw(st.integers(0, 8)) + np.append(0, np.cumsum(width))
    tail = 1.0 - np.append(0, np.cumsum(mass)) / sum(mass)
    return Predicted(at / 8.0, tail)


HISTORIES = st.lists(
    st.lists(st.floats(0.05, 20.0), min_size=4, max_size=12).map(np.array), min_size=2, max_size=4
)
"""Past bids of 2 to 4 bidders."""


def of(evidence: Bids, **terms: object) -> Selling:
    names = tuple(f"bidder-{at}" for at in range(len(evidence.past)))
    return replace(Selling(names=names), **terms)


@given(beliefs(), st.sampled_from([0.0, 0.1, 0.25]))
def test_a_known_distribution_has_the_reserve_of_brute_force(
    belief: Predicted, cost: float
) -> None:
    price = np.unique(np.concatenate([np.linspace(0.0, belief.at[-1], 20_001), belief.at]))
    earned = (price - cost) * np.interp(price, belief.at, belief.tail)
    found = reserve(belief, cost=cost)
    own = (found - cost) * float(np.interp(found, belief.at, belief.tail))
    assert own >= earned.max() - 1e-12
    assert own <= earned.max() + 1e-5


@given(beliefs())
@settings(max_examples=40)
def test_a_known_distribution_has_myersons_reserve(belief: Predicted) -> None:
    weights = belief.tail[:-1] - belief.tail[1:]
    some = np.flatnonzero(weights > 0.0)
    first, last = some[0], some[-1] + 1
    prior = Histogram(bins=belief.at[first : last + 1], weights=weights[first:last])
    auction = ReserveAuction(virtual=virtual_value(prior), units=1)

    def earned(price: float) -> float:
        return price * float(np.interp(price, belief.at, belief.tail))

    # Where two prices earn the same, either is Myerson's.
    assert earned(auction.reserve) == pytest.approx(earned(reserve(belief)), rel=1e-3)


def test_one_known_sample_has_myersons_reserve_exactly() -> None:
    # Uniform on [1, 5] and on [0, 3]: the reserves are 5/2 and 3/2.
    for low, high, best in ((1.0, 5.0, 2.5), (0.0, 3.0, 1.5)):
        row, _ = row_of(np.linspace(low + 0.1, high - 0.1, 50), np.zeros(0))
        level = (row.place - low) / (high - low)
        belief = predicted(row, level[None])
        assert belief.at[[0, -1]] == pytest.approx([low, high])
        assert reserve(belief) == pytest.approx(best)
        middle = virtual_of(belief).at(np.array([0.5 * (low + high)]))
        assert middle == pytest.approx(low, abs=0.05)


@given(beliefs())
def test_virtual_values_never_fall(belief: Predicted) -> None:
    virtual = virtual_of(belief)
    assert np.all(np.diff(virtual.level) >= -1e-9)


@given(st.lists(beliefs(), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=25)
def test_what_is_expected_is_the_mean_of_sales(
    believed: list[Predicted], units: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    draws, bidders = 40_000, len(believed)
    values = np.stack([np.interp(rng.random(draws), 1.0 - b.tail, b.at) for b in believed], axis=1)
    least = np.array([reserve(each) for each in believed])
    ranked = -np.sort(-values, axis=1)
    ranked = np.pad(ranked, ((0, 0), (0, units + 1)))
    rival = np.where(values >= ranked[:, [units - 1]], ranked[:, [units]], ranked[:, [units - 1]])
    won = (values > rival) & (values >= least)
    paid = np.where(won, np.maximum(least, rival), 0.0)
    wins, payments = sold_lazily(believed, least, units)
    error = paid.std(axis=0) / np.sqrt(draws)
    assert np.all(np.abs(paid.mean(axis=0) - payments) < 5.0 * error + 0.005 * values.max())
    assert np.all(np.abs(won.mean(axis=0) - wins) < 0.02)
    # Alike and regular, both ways to sell are one.
    if bidders > 1 and len(believed[0].at) == 2:
        same = [believed[0]] * bidders
        alike = np.full(bidders, least[0])
        lazy = sold_lazily(same, alike, units)[1].sum()
        scored = sold_by_score(same, [lambda x: x] * bidders, alike, units)[1].sum()
        assert lazy == pytest.approx(scored, rel=0.01)


def test_theory_of_equal_bidders() -> None:
    even = Predicted(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]))
    for bidders, units, revenue in ((1, 1, 0.25), (3, 1, 17 / 32), (5, 2, 1.046875)):
        least = np.full(bidders, reserve(even))
        lazy = sold_lazily([even] * bidders, least, units)[1]
        scores = [lambda x: 2.0 * x - 1.0] * bidders
        by_score = sold_by_score([even] * bidders, scores, least, units)[1]
        assert lazy.sum() == pytest.approx(revenue, abs=2e-3)
        assert by_score.sum() == pytest.approx(revenue, abs=2e-3)


@given(HISTORIES, st.integers(0, 1), st.lists(st.floats(0.05, 90.0), min_size=4, max_size=9))
@settings(max_examples=15)
def test_own_past_bids_never_set_the_own_reserve(
    past: list[np.ndarray], bidder: int, other: list[float]
) -> None:
    changed = list(past)
    changed[bidder] = np.array(other)
    first, again = (
        DECIDER.beliefs(Bids(past=tuple(each)), 3, own_left_out=True)[bidder]
        for each in (past, changed)
    )
    # To the last bit.
    assert reserve(first) == reserve(again)
    assert np.array_equal(first.tail, again.tail)


@given(HISTORIES, st.booleans())
@settings(max_examples=15)
def test_the_order_of_bids_and_of_bidders_changes_nothing(
    past: list[np.ndarray], returning: bool
) -> None:
    evidence = Bids(past=tuple(past))
    known = of(evidence, returning=returning)
    found = DECIDER.decide(known, evidence, 7)
    turned = Bids(past=tuple(each[::-1] for each in evidence.past))
    same = DECIDER.decide(known, turned, 7)
    assert np.array_equal(found.reserves, same.reserves)
    assert np.array_equal(found.payments, same.payments)
    mirrored = DECIDER.decide(known, Bids(past=evidence.past[::-1]), 7)
    assert np.allclose(found.reserves, mirrored.reserves[::-1], rtol=1e-6)
    assert np.allclose(found.payments, mirrored.payments[::-1], rtol=1e-4, atol=1e-7)


def test_seeds_reproduce_and_differ() -> None:
    evidence = Bids(past=(RNG.random(40), RNG.random(30)))
    found = [DECIDER.decide(of(evidence), evidence, seed).reserves for seed in (1, 1, 2)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_reserves_of_another_currency_are_the_same() -> None:
    evidence = Bids(past=(RNG.random(40), RNG.random(30)))
    cents = Bids(past=tuple(100.0 * each for each in evidence.past))
    found = DECIDER.decide(of(evidence), evidence, 1)
    other = DECIDER.decide(of(evidence), cents, 1)
    assert np.allclose(100.0 * found.reserves, other.reserves, rtol=1e-2)


def test_what_ships_knows_the_reserve_of_uniform_values() -> None:
    rng = np.random.default_rng(5)
    evidence = Bids(past=tuple(2.0 * rng.random((3, 200))))
    found = WHOLE.decide(of(evidence), evidence, 0)
    assert np.all(np.abs(found.reserves - 1.0) < 0.15)
    assert found.revenue == pytest.approx(2.0 * 17 / 32, rel=0.05)
    strangers = WHOLE.decide(of(evidence, returning=False), evidence, 0)
    assert strangers.revenue == pytest.approx(2.0 * 17 / 32, rel=0.05)
    assert strangers.revenue == pytest.approx(strangers.payments.sum())


def test_a_cost_raises_reserves_and_the_range_bounds_them() -> None:
    evidence = Bids(past=tuple(RNG.random((2, 50))))
    free = DECIDER.decide(of(evidence), evidence, 0)
    dear = DECIDER.decide(of(evidence, unit_cost=0.5, value_max=1.0), evidence, 0)
    assert np.all(dear.reserves >= free.reserves)
    assert np.all(dear.reserves <= 1.0)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"units": 0}, "units"),
        ({"unit_cost": -1.0}, "unit_cost"),
        ({"value_max": 0.0}, "value_max"),
        ({"names": ("a",)}, "bidders"),
    ],
)
def test_impossible_sales_are_refused(terms: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as told:
        replace(Selling(names=("a", "b")), **terms)
    assert told.value.field == field


def test_from_own_bids_alone_nothing_is_learnt_of_a_bidder_that_comes_again() -> None:
    evidence = Bids(past=(RNG.random(50), np.zeros(0)))
    with pytest.raises(InputError, match="at least 4 past bids of other bidders to learn from"):
        DECIDER.decide(of(evidence), evidence, 0)
    found = DECIDER.decide(of(evidence, returning=False), evidence, 0)
    assert np.all(found.reserves > 0.0)


def test_a_decision_can_be_shown_and_written() -> None:
    evidence = Bids(past=tuple(RNG.random((2, 50))))
    for returning in (True, False):
        found = DECIDER.decide(of(evidence, returning=returning), evidence, 0)
        said = found.to_dict()
        assert {"reserves", "payments", "revenue", "names"} <= set(said)
        assert len(found.sheets[0].rows) == 3
        assert len(said["virtual"]) == 2


def test_what_ships_is_small_and_whole() -> None:
    shapes = {name: layer[0].shape for name, layer in reserves.load(reserves.SHIPPED).items()}
    assert shapes == {name: tuple(size) for name, size in reserves.layer_sizes().items()}
    assert reserves.SHIPPED.stat().st_size < 300_000


def test_sold_lazily_at_generated_reserves_no_lie_pays() -> None:
    rng = np.random.default_rng(3)

    def learnt(past: np.ndarray) -> np.ndarray:
        found = np.empty((*past.shape[:-2], past.shape[-1]))
        for at in np.ndindex(past.shape[:-2]):
            beliefs = DECIDER.beliefs(Bids(past=tuple(past[at].T)), 0, own_left_out=True)
            found[at] = [reserve(each) for each in beliefs]
        return found

    values = rng.random((2, 3, 12, 2)) * np.array([1.0, 2.0])
    truth, _ = played(learnt, values, Lie(), lazy=True)
    for lie in (Lie(share=0.3), Lie(most=0.4), Lie(least=0.6)):
        lied, _ = played(learnt, values, lie, lazy=True)
        assert np.all(lied <= truth + 1e-12)
