r"""Auctions among bidders whose costs are private, and what makes the truth their best bid.

A buyer meets $n$ bidders; bidder $i$ has a cost $c_i$ that only it knows, bids $b_i$, and is
worth a known $v_i$. A rule decides who wins and what winners are paid. Telling the truth is
best for everybody, whatever the others do, exactly if a lower bid never turns a winner into a
loser and winners are paid their *threshold*, the highest bid with which they would still have
won (Myerson 1981; Archer and Tardos 2001). Every rule here but the pay-as-bid ones of
`scoring_auction` is of that kind; `auction_audit` checks it without trusting the theory.

A rule is a small frozen object that holds what is public, and `award` is its only step:

- `ProportionalShare`: most value for a fixed budget, one price per unit of value.
- `Vcg`: most welfare, at most so many winners. `KnapsackVcg`: winners must fit a capacity.
- `OptimalProcurement`: most profit in expectation over a prior, at most so many winners.
- `expected_budget`: most value in expectation, payments within a budget in expectation.

`forward_auction` sells instead of buying, `scoring_auction` buys what has several qualities.
Proofs: docs/theory/auction.md. NumPy and SciPy only, float64; bids come as one auction or as a
batch of auctions, and nothing loops over bidders except the program of `KnapsackVcg`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq

from edgepact.errors import InputError
from edgepact.mechanisms.auction.prior import VirtualCost
from edgepact.mechanisms.promises import Promise

CELLS_MAX = 20_000_000
"""Most cells, bidders times capacity, of the table behind `KnapsackVcg`: 160 MB."""

LOG_MULTIPLIER_MAX = 690.0
"""The multiplier of `expected_budget` lies between exp of minus this and of this: any float."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Award:
    """Who won and who is paid what.

    Attributes:
        wins: whether each bidder won.
        payments: credits: to the bidder when buying, from it when selling; 0 for losers.
        unit_price: credits per unit of value, of rules that have one price; 0 if nobody won.
    """

    wins: Bool[np.ndarray, "*batch bidders"]
    payments: Float[np.ndarray, "*batch bidders"]
    unit_price: Float[np.ndarray, "*batch"] | None = None


class Auction(ABC):
    """A rule: bids in, an award out. All of it but the bids is public."""

    @property
    def sells(self) -> bool:
        """Whether bidders pay, and bid values, instead of being paid and bidding costs."""
        return False

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What every award keeps; all of it unless a rule says otherwise."""
        return tuple(Promise)

    @property
    def effort(self) -> float:
        """Work of an award, a bid; 1 where it is a sort or less."""
        return 1.0

    @property
    @abstractmethod
    def bidders(self) -> int | None:
        """How many bids the rule takes; None for any number."""

    @abstractmethod
    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """Holds the auction; credits. A bid of infinity takes no part in one that buys.

        Raises:
            InputError: a bid is negative or no number, or their number is wrong.
        """

    @abstractmethod
    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids at which the fate of each bidder may turn, the others' bids given.

        Where lies are worth looking for: they depend on the others' bids, not on its own.
        """

    @abstractmethod
    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """Credits left of what an award may cost: the budget, or the value bought."""

    def _checked(self, bids: np.ndarray) -> np.ndarray:
        bids = np.asarray(bids, float)
        if bids.ndim == 0 or (self.bidders is not None and bids.shape[-1] != self.bidders):
            expected = "one or more" if self.bidders is None else str(self.bidders)
            raise InputError("auction", "bids", f"{expected} bids", f"shape {bids.shape}")
        good = (bids >= 0.0) & ~(np.isinf(bids) & self.sells)
        if not np.all(good):
            at = ", ".join(map(str, np.argwhere(~good)[0]))
            kind = "a finite number" if self.sells else "a number"
            found = bids[~good][0].item()
            raise InputError("auction", f"bids[{at}]", f"{kind} of at least 0", found)
        return bids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProportionalShare(Auction):
    r"""Most value for a budget: everybody who wins is paid one price per unit of value.

    In the order of $r_i = b_i / v_i$ the first $k$ win, with the largest $k$ such that a share
    of the budget in proportion to $v$ covers every winner's bid: $r_k \le B / V_k$,
    $V_k = v_1 + \dots + v_k$. The price is $\min(B / V_k, r_{k+1})$, which makes $v_i$ times it
    each winner's threshold and keeps payments within $B$ (Singer 2010). O(n log n).

    The value bought is at least half of what the whole budget could buy from bidders that
    are paid just their costs and take part in fractions, less half the largest value.

    Among equal ratios the first in order wins; a winner beside a loser of the same ratio is
    paid its bid, so neither has anything to gain.

    Attributes:
        values: v, above 0, shape `bidders`.
        budget: B, credits.
    """

    values: Float[np.ndarray, " bidders"]
    budget: float

    def __post_init__(self) -> None:
        _check_values(self.values)
        _check_budget(self.budget)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n log n)."""
        bids = self._checked(bids)
        ratio = bids / self.values
        order = np.argsort(ratio, axis=-1, kind="stable")
        ranked = np.take_along_axis(ratio, order, axis=-1)
        price = self.budget / np.cumsum(np.asarray(self.values)[order], axis=-1)
        # `ranked` rises and `price` falls, in floats too, so those who can be paid come first.
        winners = np.count_nonzero(ranked <= price, axis=-1, keepdims=True)
        shared = np.take_along_axis(price, np.maximum(winners - 1, 0), axis=-1)
        ranked = np.append(ranked, np.full((*ranked.shape[:-1], 1), np.inf), axis=-1)
        unit = np.minimum(shared, np.take_along_axis(ranked, winners, axis=-1))
        unit = np.where(winners > 0, unit, 0.0)
        wins = np.zeros(bids.shape, bool)
        np.put_along_axis(wins, order, np.arange(bids.shape[-1]) < winners, axis=-1)
        paid = np.where(wins, unit * self.values, 0.0)
        total = np.sum(paid, axis=-1, keepdims=True)
        if np.any(total > self.budget):  # by rounding of a long sum; the budget is a promise
            less = np.divide(
                self.budget, total, out=np.ones(total.shape), where=total > self.budget
            )
            unit = np.where(total > self.budget, unit * less * (1.0 - 1e-14), unit)
            paid = np.where(wins, unit * self.values, 0.0)
        return Award(wins=wins, payments=paid, unit_price=unit[..., 0])

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Every rival's ratio, and the price when the j best of the rivals win beside it."""
        bids = self._checked(bids)
        size = bids.shape[-1]
        ratio = bids / self.values
        order = np.argsort(ratio, axis=-1, kind="stable")
        ranked = np.asarray(self.values)[order]
        own = order[..., None, :] == np.arange(size)[:, None]
        rivals = np.cumsum(np.where(own, 0.0, ranked[..., None, :]), axis=-1)
        values = np.asarray(self.values)[:, None]
        shares = self.budget / (rivals + values)
        beside = np.broadcast_to(ratio[..., None, :], shares.shape)
        alone = np.full((*bids.shape, 1), self.budget)
        return np.concatenate([values * shares, values * beside, alone], axis=-1)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """What is left of the budget."""
        return np.asarray(self.budget - np.sum(award.payments, axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vcg(Auction):
    r"""Most welfare $\sum (v_i - b_i)$ with at most K winners; each is paid what it adds.

    The K best of $s_i = v_i - b_i > 0$ win and are paid $v_i - \max(s_{K+1}, 0)$
    (Vickrey 1961, Clarke 1971, Groves 1973). O(n).

    Attributes:
        values: v, above 0, shape `bidders`.
        winners_max: K.
    """

    values: Float[np.ndarray, " bidders"]
    winners_max: int

    def __post_init__(self) -> None:
        _check_values(self.values)
        check_count("winners_max", self.winners_max)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        top = best_scores(self.values - self._checked(bids), self.winners_max)
        return Award(wins=top.wins, payments=np.where(top.wins, self.values - top.bar, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids that score as each rival does, and the one that scores 0."""
        bids = self._checked(bids)
        same = np.asarray(self.values)[:, None] - (self.values - bids)[..., None, :]
        zero = np.broadcast_to(np.asarray(self.values), bids.shape)[..., None]
        return np.maximum(np.concatenate([same, zero], axis=-1), 0.0)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The value bought less the payments."""
        return value_left(self.values, award)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnapsackVcg(Auction):
    r"""Most welfare among winners that fit a capacity together; each is paid what it adds.

    Winners' sizes, such as megabytes of an upload, may add up to the capacity. The best set
    is exact (a dynamic program over whole sizes), and so is the threshold of bidder $i$,
    $v_i - (W_{-i}(C) - W_{-i}(C - z_i))$ with the best welfare $W_{-i}$ that the others reach in
    a capacity. Tables over the bidders before and after $i$ give all of these at the cost of
    two programs instead of $n + 1$: $O(n C)$ time and memory. One auction at a time.

    Attributes:
        values: v, above 0, shape `bidders`.
        sizes: whole numbers above 0, shape `bidders`.
        capacity: C, a whole number.

    Raises:
        InputError: something is out of range, or bidders times capacity exceed `CELLS_MAX`.
    """

    values: Float[np.ndarray, " bidders"]
    sizes: Int[np.ndarray, " bidders"]
    capacity: int

    def __post_init__(self) -> None:
        _check_values(self.values)
        if np.shape(self.sizes) != np.shape(self.values):
            found = f"shape {np.shape(self.sizes)}"
            raise InputError("auction", "sizes", f"{len(self.values)} whole numbers", found)
        for at in np.flatnonzero(np.asarray(self.sizes) < 1)[:1]:
            found_size = self.sizes[at].item()
            raise InputError("auction", f"sizes[{at}]", "a whole number above 0", found_size)
        check_count("capacity", self.capacity)
        cells = (len(self.values) + 1) * (self._units()[1] + 1)
        if cells > CELLS_MAX:
            expected = f"bidders times capacity of at most {CELLS_MAX}, in units all sizes share"
            raise InputError("auction", "capacity", expected, cells)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    @property
    def effort(self) -> float:
        """A pass over the capacity, and what it costs to begin one."""
        return 100.0 + self._units()[1]

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n C) for each auction of a batch."""
        bids = self._checked(bids)
        flat = bids.reshape(-1, bids.shape[-1])
        each = [self._best(score) for score in self.values - flat]
        wins = np.array([wins for wins, _ in each], bool).reshape(bids.shape)
        thresholds = np.array([threshold for _, threshold in each]).reshape(bids.shape)
        return Award(wins=wins, payments=np.where(wins, thresholds, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Every bidder's own threshold, and bids that score as each rival does."""
        bids = self._checked(bids)
        flat = bids.reshape(-1, bids.shape[-1])
        own = np.array([self._best(score)[1] for score in self.values - flat])
        same = np.asarray(self.values)[:, None] - (self.values - bids)[..., None, :]
        return np.maximum(np.concatenate([own.reshape(*bids.shape, 1), same], axis=-1), 0.0)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The value bought less the payments."""
        return value_left(self.values, award)

    def _units(self) -> tuple[np.ndarray, int]:
        """Sizes and capacity in the largest unit that divides all sizes."""
        sizes = np.asarray(self.sizes)
        unit = int(np.gcd.reduce(sizes))
        return sizes // unit, min(self.capacity, int(np.sum(sizes))) // unit

    def _best(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who is in the best set, and every bidder's threshold (negative: none)."""
        whole, capacity = self._units()
        sizes, scores = whole.tolist(), score.tolist()
        count = len(score)
        after = np.zeros((count + 1, capacity + 1))  # best of the bidders from i on
        for at in range(count - 1, -1, -1):
            after[at] = _with_one_more(after[at + 1], scores[at], sizes[at])
        wins = np.zeros(count, bool)
        threshold = np.full(count, -np.inf)
        before, room = np.zeros(capacity + 1), capacity
        for at in range(count):
            size = sizes[at]
            if size <= capacity:
                others = np.max(before + after[at + 1, ::-1])
                beside = before[: capacity - size + 1] + after[at + 1, capacity - size :: -1]
                threshold[at] = self.values[at] - (others - np.max(beside))
            if after[at, room] > after[at + 1, room]:
                wins[at], room = True, room - size
            before = _with_one_more(before, scores[at], size)
        return wins, threshold


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OptimalProcurement(Auction):
    r"""Most profit in expectation over the bidders' priors, with at most K winners.

    The K best of $v_i - \varphi_i(b_i) > 0$ win, with the ironed virtual cost $\varphi_i$ in
    place of the bid, and are paid their thresholds, at most the top of their support
    (Myerson 1981). On an ironed stretch all costs are treated alike; ties go to the first in
    order, and thresholds respect that. Bids above the support lose. O(n).

    Attributes:
        values: v, above 0, shape `bidders`.
        virtual: of all bidders, or one for each; `bid_prior.virtual_cost` makes them.
        winners_max: K.
    """

    values: Float[np.ndarray, " bidders"]
    virtual: VirtualCost | Sequence[VirtualCost]
    winners_max: int

    def __post_init__(self) -> None:
        _check_values(self.values)
        _check_virtual(self.virtual, len(self.values))
        check_count("winners_max", self.winners_max)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        bids = self._checked(bids)
        top = best_scores(self._score(bids), self.winners_max)
        paid = np.zeros(bids.shape)
        for virtual, own in _groups(self.virtual, len(self.values)):
            part, columns = top.wins[..., own], np.broadcast_to(self.values, bids.shape)[..., own]
            bar = np.broadcast_to(top.bar, bids.shape)[..., own]
            threshold = np.zeros(part.shape)
            threshold[part] = virtual.threshold(
                columns[part], bar[part], top.wins_ties[..., own][part]
            )
            paid[..., own] = threshold
        return Award(wins=top.wins, payments=paid)

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids that score as each rival or 0 does, both ends where many do; ends of support."""
        bids = self._checked(bids)
        score = np.maximum(self._score(bids), 0.0)
        rivals = np.broadcast_to(score[..., None, :], (*bids.shape, bids.shape[-1]))
        bar = np.append(rivals, np.zeros((*bids.shape, 1)), axis=-1)
        values = np.broadcast_to(np.asarray(self.values)[:, None], bar.shape)
        found = np.zeros((*bids.shape, 2 * bar.shape[-1] + 2))
        for virtual, own in _groups(self.virtual, len(self.values)):
            v, s = values[..., own, :], bar[..., own, :]
            for at, ties in enumerate((False, True)):
                ends = virtual.threshold(v.ravel(), s.ravel(), np.full(s.size, ties))
                found[..., own, at : 2 * s.shape[-1] : 2] = ends.reshape(s.shape)
            found[..., own, -2:] = virtual.cost[[0, -1]]
        return np.maximum(found, 0.0)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The value bought less the payments."""
        return value_left(self.values, award)

    def _score(self, bids: np.ndarray) -> np.ndarray:
        score = np.empty(bids.shape)
        for virtual, own in _groups(self.virtual, len(self.values)):
            score[..., own] = np.asarray(self.values)[own] - virtual.at(bids[..., own])
        return score


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostedPrices(Auction):
    """Everybody whose bid is at most its price wins and is paid it.

    Attributes:
        values: v, above 0, shape `bidders`.
        prices: credits, shape `bidders`; minus infinity for who is not wanted.
        expected_payments: credits, before the bids are seen.
        budget: what those may be; None for no limit.
    """

    values: Float[np.ndarray, " bidders"]
    prices: Float[np.ndarray, " bidders"]
    expected_payments: float
    budget: float | None = None

    def __post_init__(self) -> None:
        _check_values(self.values)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        wins = self._checked(bids) <= self.prices
        return Award(wins=wins, payments=np.where(wins, self.prices, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Each bidder's own price."""
        bids = self._checked(bids)
        return np.maximum(np.broadcast_to(self.prices, bids.shape), 0.0)[..., None]

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """What the budget leaves of the payments expected; it holds on average."""
        if self.budget is None:
            return value_left(self.values, award)
        return np.full(award.wins.shape[:-1], self.budget - self.expected_payments)


def expected_budget(
    values: Float[np.ndarray, " bidders"],
    virtual: VirtualCost | Sequence[VirtualCost],
    budget: float,
) -> PostedPrices:
    r"""Most value in expectation, if payments need to stay within a budget in expectation.

    A bidder is bought where $v_i \ge \lambda \varphi_i(b_i)$. That does not depend on the other
    bids, so the rule is a price for each bidder, $\varphi_i^{-1}(v_i / \lambda)$, on which
    $\sum_i p_i F_i(p_i)$ is spent; bisection finds the $\lambda$ that spends the budget. Where
    it binds on an ironed stretch, the best would be a lottery between the stretch's two ends;
    the higher price then goes to as many bidders, in order, as the budget allows, and less
    than the difference for one of them is left over.

    Raises:
        InputError: something is out of range.
    """
    _check_values(values)
    _check_virtual(virtual, len(values))
    _check_budget(budget)

    def prices(multiplier: float) -> tuple[np.ndarray, np.ndarray]:
        worth = np.asarray(values) / multiplier
        price, spent = np.empty(len(values)), np.empty(len(values))
        for each, own in _groups(virtual, len(values)):
            price[own] = each.price(worth[own])
            spent[own] = np.maximum(price[own], 0.0) * each.prior.cdf(price[own])
        return price, spent

    def overspent(log_multiplier: float) -> float:
        return float(np.sum(prices(np.exp(log_multiplier))[1])) - budget

    best, spent = prices(np.exp(-LOG_MULTIPLIER_MAX))
    if float(np.sum(spent)) > budget:
        root = brentq(overspent, -LOG_MULTIPLIER_MAX, LOG_MULTIPLIER_MAX, xtol=1e-13, rtol=1e-15)
        # Spending may jump at the root, so it is held between two multipliers.
        width, low, high = 1e-13, np.exp(root), np.exp(root)
        while overspent(np.log(low)) <= 0.0 or overspent(np.log(high)) > 0.0:
            width, low = 2.0 * width, np.exp(root - width)
            high = np.exp(min(root + width, LOG_MULTIPLIER_MAX))
        (dearer, over), (best, spent) = prices(low), prices(high)
        left = budget * (1.0 - 1e-12) - float(np.sum(spent))
        raised = np.cumsum(over - spent) <= left
        best, spent = np.where(raised, dearer, best), np.where(raised, over, spent)
    return PostedPrices(
        values=values,
        prices=best,
        expected_payments=float(np.sum(spent)),
        budget=budget,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Top:
    """The best scores of each auction.

    Attributes:
        wins: the K best of those above 0; of equal ones the first in order.
        bar: best score left out, at least 0; shape `*batch 1`.
        wins_ties: whether a winner would still win if its score were just the bar.
    """

    wins: Bool[np.ndarray, "*batch bidders"]
    bar: Float[np.ndarray, "*batch 1"]
    wins_ties: Bool[np.ndarray, "*batch bidders"]


def best_scores(
    scores: Float[np.ndarray, "*batch bidders"], winners_max: int, *, zero_wins: bool = False
) -> Top:
    """The best scores, in O(n): a partition, not a sort.

    Args:
        scores: of each bidder; minus infinity cannot win.
        winners_max: K.
        zero_wins: whether a score of 0 may win.
    """
    size = scores.shape[-1]
    able = (scores >= 0.0 if zero_wins else scores > 0.0) & (scores > -np.inf)
    held = np.where(able, scores, -np.inf)
    if winners_max >= size:
        bar = np.zeros((*scores.shape[:-1], 1))
        return Top(wins=able, bar=bar, wins_ties=able & zero_wins)
    cut = size - winners_max
    parted = np.partition(held, (cut - 1, cut), axis=-1)
    last, left_out = parted[..., cut, None], parted[..., cut - 1, None]
    tied = (held == last) & able
    surely = held > last
    room = winners_max - np.count_nonzero(surely, axis=-1, keepdims=True)
    wins = surely | (tied & (np.cumsum(tied, axis=-1) <= room))
    # A winner that scored just the bar would stand among those that do, in order: it stays in
    # if few enough of them come before it.
    at_bar = held == left_out
    over_bar = held > left_out
    earlier = np.cumsum(at_bar, axis=-1)
    free = winners_max - np.count_nonzero(over_bar, axis=-1, keepdims=True)
    rivals = np.where(over_bar, earlier <= free, wins)
    wins_ties = np.where(left_out > -np.inf, rivals, zero_wins)
    return Top(wins=wins, bar=np.maximum(left_out, 0.0), wins_ties=wins & wins_ties)


def value_left(values: Float[np.ndarray, " bidders"], award: Award) -> Float[np.ndarray, "*batch"]:
    """What the winners are worth less what they are paid, credits."""
    return np.asarray(np.sum(np.where(award.wins, values - award.payments, 0.0), axis=-1))


def check_count(name: str, count: int) -> None:
    """Raises `InputError` unless a number is whole and at least 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError("auction", name, "a whole number of at least 1", count)


def _with_one_more(table: np.ndarray, score: float, size: int) -> np.ndarray:
    """Best welfare in every capacity, when one more bidder may be taken."""
    more = table.copy()
    if score > 0.0 and size < len(table):
        np.maximum(table[size:], score + table[: len(table) - size], out=more[size:])
    return more


def _groups(
    virtual: VirtualCost | Sequence[VirtualCost], bidders: int
) -> list[tuple[VirtualCost, slice | Int[np.ndarray, " own"]]]:
    """Each virtual cost with the bidders it belongs to."""
    if isinstance(virtual, VirtualCost):
        return [(virtual, slice(0, bidders))]
    owners: dict[int, list[int]] = {}
    for at, each in enumerate(virtual):
        owners.setdefault(id(each), []).append(at)
    return [(virtual[own[0]], np.array(own)) for own in owners.values()]


def _check_virtual(virtual: VirtualCost | Sequence[VirtualCost], bidders: int) -> None:
    if not isinstance(virtual, VirtualCost) and len(virtual) != bidders:
        raise InputError("auction", "virtual", f"one, or {bidders}", len(virtual))


def _check_values(values: np.ndarray) -> None:
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0:
        raise InputError("auction", "values", "one or more numbers", f"shape {values.shape}")
    for at in np.flatnonzero(~(np.isfinite(values) & (values > 0.0)))[:1]:
        found = values[at].item()
        raise InputError("auction", f"values[{at}]", "a finite number above 0", found)


def _check_budget(budget: float) -> None:
    if not 0.0 <= budget < np.inf:
        raise InputError("auction", "budget", "a finite number of at least 0", budget)
