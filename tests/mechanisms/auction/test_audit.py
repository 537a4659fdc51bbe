"""The audit: truthful rules pass at every critical lie, and tempting ones are caught."""

from collections.abc import Callable

import numpy as np
import pytest

from edgepact.mechanisms.auction.audit import audit_auction, audit_rule
from edgepact.mechanisms.auction.knapsack_vcg import KnapsackVcg
from edgepact.mechanisms.auction.optimal_procurement import OptimalProcurement
from edgepact.mechanisms.auction.posted_prices import expected_budget
from edgepact.mechanisms.auction.prior import Histogram, TruncatedExponential, uniform
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.reserve import ReserveAuction
from edgepact.mechanisms.auction.scoring import PayAsBid
from edgepact.mechanisms.auction.terms import Auction, Award
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.auction.virtual_cost import virtual_cost, virtual_value

COSTS = Histogram(bins=np.array([0.0, 0.5, 0.6, 1.0]), weights=np.array([0.3, 0.5, 0.2]))
IRONED = virtual_cost(COSTS)
EXPONENTIAL = virtual_cost(TruncatedExponential(start=0.0, stop=1.0, rate=2.0))
UNIFORM = virtual_cost(uniform(0.0, 1.0))


def share(draw: np.random.Generator, values: np.ndarray) -> Auction:
    return ProportionalShare(values=values, budget=float(draw.uniform(0.2, 3.0)))


def vcg(draw: np.random.Generator, values: np.ndarray) -> Auction:
    return Vcg(values=values, winners_max=int(draw.integers(1, len(values) + 1)))


def knapsack(draw: np.random.Generator, values: np.ndarray) -> Auction:
    sizes = draw.integers(1, 6, len(values))
    return KnapsackVcg(values=values, sizes=sizes, capacity=int(draw.integers(1, 15)))


def optimal(draw: np.random.Generator, values: np.ndarray) -> Auction:
    most = int(draw.integers(1, len(values) + 1))
    return OptimalProcurement(values=np.ones(len(values)), virtual=IRONED, winners_max=most)


def mixed(draw: np.random.Generator, values: np.ndarray) -> Auction:
    most = int(draw.integers(1, len(values) + 1))
    each = [(UNIFORM, IRONED, EXPONENTIAL)[kind] for kind in draw.integers(0, 3, len(values))]
    return OptimalProcurement(values=values, virtual=each, winners_max=most)


def posted(draw: np.random.Generator, values: np.ndarray) -> Auction:
    return expected_budget(values, IRONED, float(draw.uniform(0.2, 3.0)))


def forward(draw: np.random.Generator, values: np.ndarray) -> Auction:
    units = int(draw.integers(1, len(values) + 1))
    cost = float(draw.choice([0.0, 0.3]))
    return ReserveAuction(virtual=virtual_value(COSTS), units=units, unit_cost=cost)


TRUTHFUL = [share, vcg, knapsack, optimal, mixed, posted, forward]
Make = Callable[[np.random.Generator, np.ndarray], Auction]


def assert_promises_are_kept(make: Make, rules: int, instances: int) -> None:
    draw = np.random.default_rng(7)
    for _ in range(rules):
        size = int(draw.integers(1, 8))
        auction = make(draw, draw.choice([0.5, 1.0, 1.7, draw.uniform(0.3, 2.0)], size))
        # Half of the bids on a grid: equal ones are where ties and thresholds go wrong.
        fine, coarse = draw.random((instances, size)), draw.integers(0, 11, (instances, size)) / 10
        bids = np.where(draw.random((instances, 1)) < 0.5, fine, coarse)
        audit = audit_auction(auction, bids, cells_max=10**12)
        assert audit.bidders_searched == bids.size
        assert audit.largest_gain_from_lying < 1e-9
        assert audit.largest_loss_from_taking_part < 1e-9
        assert audit.individually_rational
        assert audit.incentive_compatible
        assert audit.budget_balanced
        assert audit.monotone
        if isinstance(auction, ProportionalShare):
            assert np.all(np.sum(auction.award(bids).payments, axis=-1) <= auction.budget)


@pytest.mark.parametrize("make", TRUTHFUL)
def test_no_lie_pays(make: Make) -> None:
    assert_promises_are_kept(make, 5, 3 if make is knapsack else 40)


@pytest.mark.slow
@pytest.mark.parametrize("make", TRUTHFUL)
def test_no_lie_pays_in_thousands_of_auctions(make: Make) -> None:
    # Each price of a knapsack takes many programs of its own.
    assert_promises_are_kept(make, 100, 10 if make is knapsack else 100)


def with_thresholds(rule: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], Award]:
    """A rule that pays each winner its threshold, as bisection finds it."""

    def award(bids: np.ndarray) -> Award:
        wins = rule(bids)
        low, high = np.array(bids), np.full(bids.shape, 1e3)
        for _ in range(60):
            middle = 0.5 * (low + high)
            for own in range(bids.shape[-1]):
                told = bids.copy()
                told[..., own] = middle[..., own]
                won = rule(told)[..., own]
                low[..., own] = np.where(won, middle[..., own], low[..., own])
                high[..., own] = np.where(won, high[..., own], middle[..., own])
        return Award(wins=wins, payments=np.where(wins, low, 0.0))

    return award


def test_the_better_of_greedy_and_the_best_single_breaks_the_budget() -> None:
    # The tempting way to a bound on value: it stays truthful, but one dear bidder that would
    # win alone lifts every threshold, and what is paid in the end exceeds the budget.
    draw = np.random.default_rng(0)
    values, budget = np.array([1.0, 1.2, 2.5, 1.4]), 1.0
    greedy = ProportionalShare(values=values, budget=budget)

    def better_of_both(bids: np.ndarray) -> np.ndarray:
        shared = greedy.award(bids).wins
        affordable = np.where(bids <= budget, values, 0.0)
        single = np.eye(len(values), dtype=bool)[np.argmax(affordable, axis=-1)]
        single &= bids <= budget
        worth = np.sum(np.where(shared, values, 0.0), axis=-1, keepdims=True)
        alone = np.max(affordable, axis=-1, keepdims=True)
        return np.where(worth >= alone, shared, single)

    bids = draw.random((60, 4))
    for rule, kept in ((with_thresholds(better_of_both), False), (greedy.award, True)):
        audit = audit_rule(rule, bids, critical_bids=greedy.critical_bids, spare=greedy.spare)
        assert audit.budget_balanced is kept
        assert audit.individually_rational
        assert audit.monotone


def test_paying_bids_is_caught() -> None:
    values = np.array([2.0, 2.0, 2.0])
    audit = audit_auction(PayAsBid(scores=values, winners_max=1), np.array([0.5, 1.0, 1.5]))
    assert not audit.incentive_compatible
    assert audit.largest_gain_from_lying == pytest.approx(0.5, abs=1e-5)


def test_the_wrong_end_of_an_ironed_stretch_is_caught() -> None:
    auction = OptimalProcurement(values=np.ones(2), virtual=IRONED, winners_max=1)
    stop = IRONED.cost[IRONED.level == IRONED.at(np.array([0.5]))[0]][-1]

    def generous(bids: np.ndarray) -> Award:
        award = auction.award(bids)
        on_stretch = IRONED.at(award.payments) == IRONED.at(np.array(0.5))
        paid = np.where(award.wins & on_stretch, stop, award.payments)
        return Award(wins=award.wins, payments=paid)

    told = np.array([[0.5, 0.5]])
    assert audit_auction(auction, told).incentive_compatible
    audit = audit_rule(generous, told, critical_bids=auction.critical_bids)
    assert not audit.incentive_compatible


def test_losing_with_a_better_bid_is_caught() -> None:
    def middle_wins(bids: np.ndarray) -> Award:
        wins = bids == np.median(bids, axis=-1, keepdims=True)
        return Award(wins=wins, payments=np.where(wins, bids, 0.0))

    assert not audit_rule(middle_wins, np.array([0.2, 0.5, 0.9])).monotone


def test_without_critical_values_bisection_finds_them() -> None:
    auction = Vcg(values=np.ones(4), winners_max=2)
    bids = np.random.default_rng(0).random((20, 4))
    assert audit_rule(auction.award, bids).incentive_compatible

    def half(bids: np.ndarray) -> Award:
        award = auction.award(bids)
        paid = np.where(award.wins, 0.5 * (award.payments + bids), 0.0)
        return Award(wins=award.wins, payments=paid)

    assert not audit_rule(half, bids).incentive_compatible


def test_of_many_bidders_some_are_searched() -> None:
    draw = np.random.default_rng(0)
    values, bids = draw.uniform(0.5, 1.5, 30_000), draw.random(30_000)
    honest = ProportionalShare(values=values, budget=100.0)
    audit = audit_auction(honest, bids, cells_max=2_000_000)
    assert audit.incentive_compatible
    assert 2 <= audit.bidders_searched <= 64
    cheap = audit_auction(PayAsBid(scores=values, winners_max=100), bids, cells_max=2_000_000)
    assert not cheap.incentive_compatible
