"""Buying auctions: golden values, brute force, theorems on random bids."""

from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.auction.best_scores import best_scores
from edgepact.mechanisms.auction.knapsack_vcg import KnapsackVcg
from edgepact.mechanisms.auction.optimal_procurement import OptimalProcurement
from edgepact.mechanisms.auction.posted_prices import PostedPrices, expected_budget
from edgepact.mechanisms.auction.prior import Histogram, uniform
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.terms import Auction
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.auction.virtual_cost import virtual_cost
from tests.strategies import bids_and_values, numbers

UNIFORM = virtual_cost(uniform(0.0, 4.0))
IRONED = virtual_cost(
    Histogram(bins=np.array([0.0, 2.0, 2.5, 4.0]), weights=np.array([0.3, 0.5, 0.2]))
)
Drawn = tuple[np.ndarray, np.ndarray]


Made = tuple[Callable[[], Auction], np.ndarray]


@st.composite
def auctions(draw: st.DrawFn) -> Made:
    """Any truthful rule, still to be made, with bids for it."""
    bids, values = draw(bids_and_values())
    most = draw(st.integers(1, len(bids) + 1))
    budget = draw(numbers(0.0, 12.0))
    sizes = draw(st.lists(st.integers(1, 6), min_size=len(bids), max_size=len(bids)))
    capacity = draw(st.integers(1, 14))
    virtual = draw(st.sampled_from([UNIFORM, IRONED]))
    each = [draw(st.sampled_from([UNIFORM, IRONED])) for _ in bids]
    rules: list[Callable[[], Auction]] = [
        lambda: ProportionalShare(values=values, budget=budget),
        lambda: Vcg(values=values, winners_max=most),
        lambda: KnapsackVcg(values=values, sizes=np.array(sizes), capacity=capacity),
        lambda: OptimalProcurement(values=values, virtual=virtual, winners_max=most),
        lambda: OptimalProcurement(values=values, virtual=each, winners_max=most),
        lambda: expected_budget(values, IRONED, budget),
    ]
    return draw(st.sampled_from(rules)), bids


def with_bid(bids: np.ndarray, own: int, bid: float) -> np.ndarray:
    told = bids.copy()
    told[own] = bid
    return told


@given(auctions())
def test_nobody_loses_and_losers_are_paid_nothing(drawn: Made) -> None:
    make, bids = drawn
    auction = make()
    award = auction.award(bids)
    assert np.all(award.payments[award.wins] >= bids[award.wins] * (1.0 - 1e-12) - 1e-12)
    assert np.all(award.payments[~award.wins] == 0.0)
    assert auction.spare(award) >= -1e-12 * (1.0 + np.sum(award.payments))


@given(auctions(), st.data())
def test_winners_stay_winners_up_to_their_payment_and_no_further(
    drawn: Made, data: st.DataObject
) -> None:
    make, bids = drawn
    auction = make()
    award = auction.award(bids)
    for own in np.flatnonzero(award.wins):
        paid = award.payments[own]
        below, above = paid * (1.0 - 1e-9) - 1e-12, paid * (1.0 + 1e-9) + 1e-12
        assert not auction.award(with_bid(bids, own, above)).wins[own]
        for lie in (below, 0.5 * below, 0.0, data.draw(st.floats(0.0, 1.0)) * below):
            if lie < 0.0:
                continue
            other = auction.award(with_bid(bids, own, lie))
            assert other.wins[own]
            assert other.payments[own] == pytest.approx(paid, rel=1e-12, abs=1e-12)
    for own in np.flatnonzero(~award.wins):
        assert not auction.award(with_bid(bids, own, bids[own] * 1.5 + 0.1)).wins[own]


@given(auctions())
def test_a_batch_is_its_auctions(drawn: Made) -> None:
    make, bids = drawn
    auction = make()
    batch = np.stack([bids, bids[::-1], np.zeros(len(bids)), np.full(len(bids), np.inf)])
    together = auction.award(batch.reshape(2, 2, -1))
    for at, each in enumerate(batch):
        alone = auction.award(each)
        assert together.wins[at // 2, at % 2].tolist() == alone.wins.tolist()
        assert together.payments[at // 2, at % 2].tolist() == alone.payments.tolist()
        if alone.unit_price is not None:
            assert together.unit_price is not None
            assert together.unit_price[at // 2, at % 2] == alone.unit_price
    assert not np.any(auction.award(batch[3]).wins), "infinity takes no part"


class TestProportionalShare:
    def test_golden_values(self) -> None:
        auction = ProportionalShare(values=np.array([4.0, 5.0, 5.0, 2.0, 4.0]), budget=8.0)
        award = auction.award(np.array([1.0, 2.0, 3.0, 2.0, 5.0]))
        assert award.wins.tolist() == [True, True, False, False, False]
        assert award.unit_price == pytest.approx(0.6, rel=1e-12)
        assert award.payments == pytest.approx([2.4, 3.0, 0.0, 0.0, 0.0], rel=1e-12)

    @given(bids_and_values(), numbers(0.0, 12.0))
    def test_the_budget_is_kept_to_the_last_bit(self, drawn: Drawn, budget: float) -> None:
        bids, values = drawn
        award = ProportionalShare(values=values, budget=budget).award(bids)
        assert np.sum(award.payments) <= budget

    def test_the_budget_is_kept_to_the_last_bit_by_many(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(20):
            values, budget = rng.uniform(0.1, 1.0, 20_000), float(rng.uniform(10.0, 5_000.0))
            award = ProportionalShare(values=values, budget=budget).award(rng.random(20_000))
            assert np.sum(award.payments) <= budget

    @given(bids_and_values(), numbers(0.25, 12.0))
    def test_value_is_at_least_half_of_what_the_budget_could_buy(
        self, drawn: Drawn, budget: float
    ) -> None:
        bids, values = drawn
        award = ProportionalShare(values=values, budget=budget).award(bids)
        left, most = budget, 0.0
        for at in np.argsort(bids / values):  # in fractions, paying costs
            share = min(1.0, left / bids[at]) if bids[at] > 0.0 else 1.0
            left, most = left - share * bids[at], most + share * values[at]
        assert most <= 2.0 * np.sum(values[award.wins]) + np.max(values) + 1e-9

    def test_ties_go_to_the_first_and_leave_nothing_to_gain(self) -> None:
        auction = ProportionalShare(values=np.ones(3), budget=2.0)
        award = auction.award(np.array([0.8, 0.8, 0.8]))
        assert award.wins.tolist() == [True, True, False]
        assert award.payments == pytest.approx([0.8, 0.8, 0.0])

    def test_without_a_winner_there_is_no_price(self) -> None:
        award = ProportionalShare(values=np.ones(2), budget=1.0).award(np.array([2.0, 3.0]))
        assert award.unit_price == 0.0
        assert not award.wins.any()


def best_welfare(scores: np.ndarray, sizes: np.ndarray, capacity: float, most: int) -> float:
    """The best welfare of any set, by trying all."""
    everybody = range(len(scores))
    sets = (chosen for k in range(most + 1) for chosen in combinations(everybody, k))
    return max(sum(scores[list(c)]) for c in sets if sum(sizes[list(c)]) <= capacity)


class TestVcg:
    @given(bids_and_values(bidders_max=6), st.integers(1, 6))
    def test_it_is_the_best_of_all_sets_and_pays_what_winners_add(
        self, drawn: Drawn, most: int
    ) -> None:
        bids, values = drawn
        award = Vcg(values=values, winners_max=most).award(bids)
        score, sizes = values - bids, np.ones(len(bids), int)
        best = best_welfare(score, sizes, np.inf, min(most, len(bids)))
        assert np.sum(score[award.wins]) == pytest.approx(best, abs=1e-12)
        self.assert_pays_what_is_added(award.payments, award.wins, bids, score, sizes, 1e9, most)

    @given(bids_and_values(bidders_max=6), st.integers(1, 14), st.data())
    def test_in_a_knapsack_too(self, drawn: Drawn, capacity: int, data: st.DataObject) -> None:
        bids, values = drawn
        count = len(bids)
        sizes = np.array(data.draw(st.lists(st.integers(1, 6), min_size=count, max_size=count)))
        award = KnapsackVcg(values=values, sizes=sizes, capacity=capacity).award(bids)
        score = values - bids
        best = best_welfare(score, sizes, capacity, count)
        assert np.sum(sizes[award.wins]) <= capacity
        assert np.sum(score[award.wins]) == pytest.approx(best, abs=1e-12)
        self.assert_pays_what_is_added(
            award.payments, award.wins, bids, score, sizes, capacity, count
        )

    def assert_pays_what_is_added(
        self,
        payments: np.ndarray,
        wins: np.ndarray,
        bids: np.ndarray,
        score: np.ndarray,
        sizes: np.ndarray,
        capacity: float,
        most: int,
    ) -> None:
        best = best_welfare(score, sizes, capacity, min(most, len(bids)))
        for own in np.flatnonzero(wins):
            others = np.arange(len(bids)) != own
            without = best_welfare(score[others], sizes[others], capacity, min(most, len(bids) - 1))
            assert payments[own] == pytest.approx(bids[own] + best - without, abs=1e-9)

    def test_a_knapsack_of_equal_sizes_is_a_number_of_winners(self) -> None:
        rng = np.random.default_rng(0)
        values, bids = rng.uniform(1.0, 2.0, 40), rng.random((5, 40))
        same = KnapsackVcg(values=values, sizes=np.full(40, 10**9), capacity=7 * 10**9 + 5)
        few = Vcg(values=values, winners_max=7)
        assert same.award(bids).wins.tolist() == few.award(bids).wins.tolist()
        assert same.award(bids).payments == pytest.approx(few.award(bids).payments)


class TestOptimalProcurement:
    @pytest.mark.parametrize(("bidders", "most", "profit"), [(3, 1, 17.0 / 32.0), (5, 2, 1.046875)])
    def test_expected_profit_is_what_theory_says(
        self, bidders: int, most: int, profit: float
    ) -> None:
        virtual = virtual_cost(uniform(0.0, 1.0))
        auction = OptimalProcurement(values=np.ones(bidders), virtual=virtual, winners_max=most)
        drawn = auction.spare(auction.award(np.random.default_rng(1).random((200_000, bidders))))
        error = np.std(drawn) / np.sqrt(len(drawn))
        assert np.mean(drawn) == pytest.approx(profit, abs=4.0 * error)
        assert error < 1.1e-3

    def test_expected_profit_by_quadrature(self) -> None:
        # Midpoints of a grid of all three costs: the profit is smooth up to kinks.
        points = (np.arange(64) + 0.5) / 64
        costs = np.array(list(product(points, repeat=3)))
        virtual = virtual_cost(uniform(0.0, 1.0))
        auction = OptimalProcurement(values=np.ones(3), virtual=virtual, winners_max=1)
        profit = np.mean(auction.spare(auction.award(costs)))
        assert profit == pytest.approx(17.0 / 32.0, abs=1e-3)

    def test_one_bidder_meets_the_best_price(self) -> None:
        prior = IRONED.prior
        prices = np.linspace(0.0, 4.0, 40_001)
        best = np.max((3.0 - prices) * prior.cdf(prices))
        auction = OptimalProcurement(values=np.array([3.0]), virtual=IRONED, winners_max=1)
        paid = auction.award(np.array([0.0])).payments
        assert (3.0 - paid) * prior.cdf(paid) == pytest.approx(best, rel=1e-6)

    def test_ironing_earns_more_than_leaving_it_out(self) -> None:
        # The other bidder of a flat stretch is chosen by order; the raw virtual costs would
        # choose by bid, wrongly, since they fall.
        rng = np.random.default_rng(2)
        prior = IRONED.prior
        assert isinstance(prior, Histogram)
        q = np.append(0.0, np.cumsum(prior.weights))
        costs = np.interp(rng.random((400_000, 2)), q, prior.bins)
        ironed = OptimalProcurement(values=np.full(2, 3.5), virtual=IRONED, winners_max=1)
        plain = OptimalProcurement(values=np.full(2, 3.5), virtual=UNIFORM, winners_max=1)
        gain = ironed.spare(ironed.award(costs)) - plain.spare(plain.award(costs))
        assert np.mean(gain) > 4.0 * np.std(gain) / np.sqrt(len(gain))

    def test_payments_on_a_flat_stretch_depend_on_who_wins_ties(self) -> None:
        auction = OptimalProcurement(values=np.full(2, 3.5), virtual=IRONED, winners_max=1)
        level = IRONED.at(np.array([2.0]))[0]
        start, stop = IRONED.cost[IRONED.level == level][[0, -1]]
        first = auction.award(np.array([1.9, 2.0]))
        assert first.payments == pytest.approx([stop, 0.0], rel=1e-12)
        second = auction.award(np.array([1.9, 0.5]))
        assert second.payments == pytest.approx([0.0, start], rel=1e-12)

    def test_nobody_is_paid_more_than_can_be_asked(self) -> None:
        auction = OptimalProcurement(values=np.full(2, 100.0), virtual=UNIFORM, winners_max=2)
        assert auction.award(np.array([1.0, 4.5])).payments.tolist() == [4.0, 0.0]


class TestExpectedBudget:
    @pytest.mark.parametrize("virtual", [UNIFORM, IRONED])
    @pytest.mark.parametrize("budget", [0.0, 0.5, 2.0, 4.0, 100.0])
    def test_it_spends_the_budget_or_buys_all(self, virtual: object, budget: float) -> None:
        values = np.array([1.0, 1.0, 2.0, 3.0])
        posted = expected_budget(values, virtual, budget)
        assert posted.expected_payments <= budget
        rng = np.random.default_rng(3)
        prior = virtual.prior
        q = np.append(0.0, np.cumsum(prior.weights))
        costs = np.interp(rng.random((100_000, 4)), q, prior.bins)
        paid = np.sum(posted.award(costs).payments, axis=-1)
        error = np.std(paid) / np.sqrt(len(paid))
        assert np.mean(paid) == pytest.approx(posted.expected_payments, abs=4.0 * error + 1e-12)
        if budget == 100.0:
            assert posted.prices.tolist() == [4.0] * 4
        elif virtual is UNIFORM:
            assert posted.expected_payments == pytest.approx(budget, rel=1e-9)

    def test_no_other_prices_buy_more_value(self) -> None:
        values, grid = np.array([1.0, 2.0]), np.linspace(0.0, 4.0, 401)
        posted = expected_budget(values, UNIFORM, 1.0)
        best = np.sum(values * UNIFORM.prior.cdf(posted.prices))
        first, second = np.meshgrid(grid, grid)
        spent = first * first / 4.0 + second * second / 4.0
        bought = values[0] * first / 4.0 + values[1] * second / 4.0
        assert np.max(bought[spent <= 1.0]) <= best + 1e-9


@given(st.lists(st.integers(-2, 3), min_size=1, max_size=8), st.integers(1, 9), st.booleans())
def test_best_scores_are_those_of_a_sort(listed: list[int], most: int, zero: bool) -> None:
    scores = np.array(listed, float)
    top = best_scores(scores, most, zero_wins=zero)
    able = [at for at in range(len(scores)) if scores[at] > 0 or (zero and scores[at] == 0)]
    ranked = sorted(able, key=lambda at: (-scores[at], at))
    assert np.flatnonzero(top.wins).tolist() == sorted(ranked[:most])
    assert top.bar[0] == (scores[ranked[most]] if len(ranked) > most else 0.0)
    for own in ranked[:most]:
        told = scores.copy()
        told[own] = top.bar[0]
        assert top.wins_ties[own] == best_scores(told, most, zero_wins=zero).wins[own]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ProportionalShare(values=np.array([1.0, 0.0]), budget=1.0), r"values\[1\]"),
        (lambda: ProportionalShare(values=np.ones(2), budget=np.nan), "budget"),
        (lambda: Vcg(values=np.array([np.inf]), winners_max=1), r"values\[0\]"),
        (lambda: Vcg(values=np.ones(2), winners_max=0), "winners_max"),
        (lambda: KnapsackVcg(values=np.ones(2), sizes=np.array([1, 0]), capacity=1), r"sizes\[1"),
        (lambda: KnapsackVcg(values=np.ones(1), sizes=np.array([2]), capacity=0), "capacity"),
        (
            lambda: KnapsackVcg(
                values=np.ones(2), sizes=np.array([10**8, 10**8 + 1]), capacity=10**8
            ),
            "capacity",
        ),
        (
            lambda: OptimalProcurement(values=np.ones(2), virtual=[UNIFORM], winners_max=1),
            "virtual",
        ),
        (lambda: expected_budget(np.ones(2), UNIFORM, -1.0), "budget"),
        (lambda: PostedPrices(values=np.zeros(1), prices=np.ones(1), expected_payments=0.0), "val"),
        (lambda: Vcg(values=np.ones(2), winners_max=1).award(np.ones(3)), "bids: expected 2 bids"),
        (lambda: Vcg(values=np.ones(2), winners_max=1).award(np.array([1.0, -1.0])), r"bids\[1\]"),
        (
            lambda: Vcg(values=np.ones(2), winners_max=1).award(np.array([[1, 1], [np.nan, 0.0]])),
            r"bids\[1, 0\]",
        ),
    ],
)
def test_impossible_terms_and_bids_are_refused(make: Callable[[], object], field: str) -> None:
    with pytest.raises(InputError, match=f"auction: {field}"):
        make()
