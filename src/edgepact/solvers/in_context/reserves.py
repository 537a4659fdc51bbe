r"""Reserves and virtual values from past bids, by generated distributions of values.

What a seller does not know of a bidder is the distribution $F$ of its value. The generator draws
such distributions, given what all bids say (`bids`, `generator`), and the rest is Myerson's theory.

*Why the mean is enough.* What any truthful auction earns is an integral over each bidder's
distribution, so it is linear in each of them; given all past bids, bidders' next values are taken
as independent. So the expected revenue over samples is the revenue under the mean $\bar F$ of the
samples, and the auction that earns most is Myerson's for $\bar F$: the highest virtual value wins,
ironed where it falls, and the reserve of a bidder is the posted price $r$ with the most
$(r - c)\,(1 - \bar F(r))$, at cost $c$ of a unit.

*Truthful over rounds.* Of bidders that come again, what is thought of a bidder is drawn from the
bids of all others alone, and units are sold *lazily*: the highest bids win if they reach their
own reserve, and pay the larger of that and the highest bid that lost. Nothing of what a bidder
pays depends on any bid that it made (`mechanisms.auction.learnt_reserves`).

A seller needs NumPy and SciPy alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError
from edgepact.framework import Json, Sheet
from edgepact.solvers.in_context import generator
from edgepact.solvers.in_context.bids import (
    FEATURES,
    PLACES,
    Bids,
    Row,
    check_bids,
    level_of,
    row_of,
)
from edgepact.solvers.in_context.deciding import SOURCE
from edgepact.solvers.in_context.policy_file import Weights, read_weights, write_weights
from edgepact.tables import Shown

SHIPPED = Path(__file__).parent / "weights" / "reserves.npz"
"""The generator that comes with the package; its model card stands beside it."""

WIDTH = 96
"""Width of the denoiser."""

SAMPLES = 64
"""Distributions drawn of a bidder."""

BIDDERS_MAX = 64
"""Most bidders of a sale: each is learnt of from all others apart."""

UNITS_MAX = 64
"""Most units of a sale: every bidder wants one."""

BEYOND = 3.0
"""How far a distribution goes on beyond its outer places at most, in distances to the next one."""

FINER = 16
"""Points between two points of beliefs at which expected payments are added up."""


def _smooth() -> Float[np.ndarray, "places places"]:
    near = np.eye(PLACES, k=1) + np.eye(PLACES, k=-1)
    return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)


SMOOTH: Float[np.ndarray, "places places"] = _smooth()
"""A guess at every position: the mean of its neighbours (see `generator.Context`)."""


class Predicted(NamedTuple):
    """The distribution of a bidder's next value: uniform between places.

    Attributes:
        at: values, neither falling, credits.
        tail: chance that the next value is above each, from 1 at the first to 0 at the last.
    """

    at: Float[np.ndarray, " ends"]
    tail: Float[np.ndarray, " ends"]


class Virtual(NamedTuple):
    """An ironed virtual value: linear between points, level beyond them.

    Attributes:
        value: the points, never falling, credits.
        level: virtual values there, never falling, credits.
    """

    value: Float[np.ndarray, " points"]
    level: Float[np.ndarray, " points"]

    def at(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Virtual values of values, credits."""
        return np.asarray(np.interp(values, self.value, self.level))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selling:
    """What is public of a sale.

    Attributes:
        names: of the bidders.
        units: that are sold at a time, one for each bidder at most.
        unit_cost: what a sold unit costs the seller, credits.
        value_max: the highest possible value, credits; inf if nobody knows one.
        returning: whether the same bidders come again, so that what one bid in the past must not
            set what it meets; else past bids are those of others of its kind.
        source: where this is stated, for errors.

    Raises:
        InputError: something is out of range.
    """

    names: tuple[str, ...]
    units: int = 1
    unit_cost: float = 0.0
    value_max: float = np.inf
    returning: bool = True
    source: object = SOURCE

    def __post_init__(self) -> None:
        least = 2 if self.returning else 1
        if not least <= len(self.names) <= BIDDERS_MAX:
            expected = f"{least} to {BIDDERS_MAX}"
            if self.returning:
                expected += ", since what is learnt of one is learnt from the others"
            raise InputError(self.source, "bidders", expected, len(self.names))
        if not 1 <= self.units <= UNITS_MAX:
            expected = f"a whole number from 1 to {UNITS_MAX}"
            raise InputError(self.source, "units", expected, self.units)
        if not 0.0 <= self.unit_cost < np.inf:
            expected = "a number of at least 0"
            raise InputError(self.source, "unit_cost", expected, self.unit_cost)
        if not self.value_max > 0.0:
            raise InputError(self.source, "value_max", "a number above 0", self.value_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveDecision(Shown):
    """Reserves to set, and what is expected of them.

    Attributes:
        names: of the bidders.
        reserves: the least that each of them can buy at, credits.
        payments: what each is expected to pay at a sale, credits.
        wins: chance that each gets a unit.
        revenue: expected at a sale, credits.
        virtual: of each bidder, values and virtual values, linear between them: where bidders do
            not come again the highest win.
        returning: as in `Selling`.
    """

    names: tuple[str, ...]
    reserves: Float[np.ndarray, " bidders"]
    payments: Float[np.ndarray, " bidders"]
    wins: Float[np.ndarray, " bidders"]
    revenue: float
    virtual: tuple[Virtual, ...]
    returning: bool

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact quote --json`; lists in the order of `names`."""
        return {
            "names": list(self.names),
            "reserves": self.reserves.tolist(),
            "payments": self.payments.tolist(),
            "wins": self.wins.tolist(),
            "revenue": self.revenue,
            "rule": "highest bid" if self.returning else "highest virtual value",
            "virtual": [
                {"values": each.value.tolist(), "virtual_values": each.level.tolist()}
                for each in self.virtual
            ],
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """A row for every bidder, and how the sale goes."""
        columns = zip(self.names, self.reserves, self.payments, self.wins, strict=True)
        rows = [
            (name, f"{own:.5g}", f"{paid:.5g}", f"{100.0 * wins:.2f} %")
            for name, own, paid, wins in columns
        ]
        total = ("all", "", f"{self.revenue:.5g}", "")
        how = (
            "The highest virtual values of bids from the reserve on win; a winner pays the least "
            "bid that would have won. The JSON has the virtual values."
        )
        if self.returning:
            how = (
                "The highest bids win if they reach their own reserve; a winner pays the larger "
                "of that and the highest bid that lost. A bidder's reserve is learnt from the "
                "past bids of all others alone, so that none gains by what it bids now later on."
            )
        sheet = Sheet(
            title="Reserves from past bids",
            head=("name", "reserve", "expected to pay", "expected to win"),
            rows=(*rows, total),
            notes=(how,),
        )
        return (sheet,)


class Reserves:
    """Sets reserves with a trained generator; a `deciding.Decider`.

    Args:
        weights: of the generator, from `load` or `Reserves.shipped`.
        samples: distributions drawn of a bidder.
    """

    def __init__(self, weights: Weights, *, samples: int = SAMPLES) -> None:
        self._weights = weights
        self._samples = samples

    @staticmethod
    def shipped() -> "Reserves":
        """With the weights that come with the package."""
        return Reserves(load(SHIPPED))

    def decide(self, known: Selling, evidence: Bids, seed: int) -> ReserveDecision:
        """The reserves to set, and what to expect.

        Where bidders come again, a bidder's own past bids do not change its reserve, to the last
        bit. What is expected is read off the past bids of all.

        Args:
            known: what is public.
            evidence: past bids of each bidder of `known.names`.
            seed: of the noise that distributions are drawn from.

        Raises:
            InputError: bids are impossible, or there are too few.
        """
        check_bids(evidence, names=known.names, value_max=known.value_max, source=known.source)
        of_all = self.beliefs(evidence, seed, value_max=known.value_max, source=known.source)
        setting = of_all
        if known.returning:
            setting = self.beliefs(
                evidence,
                seed,
                value_max=known.value_max,
                own_left_out=True,
                source=known.source,
            )
        reserves = np.array([reserve(each, cost=known.unit_cost) for each in setting])
        virtual = tuple(virtual_of(each) for each in setting)
        if known.returning:
            wins, payments = sold_lazily(of_all, reserves, known.units)
        else:
            scores = [each.at for each in virtual]
            wins, payments = sold_by_score(of_all, scores, reserves, known.units)
        return ReserveDecision(
            names=known.names,
            reserves=reserves,
            payments=payments,
            wins=wins,
            revenue=float(payments.sum()),
            virtual=virtual,
            returning=known.returning,
        )

    def beliefs(
        self,
        evidence: Bids,
        seed: int,
        *,
        value_max: float = np.inf,
        own_left_out: bool = False,
        source: object = SOURCE,
    ) -> list[Predicted]:
        """What is thought of the next value of each bidder.

        Args:
            evidence: past bids.
            seed: of the noise, the same for every bidder, so that their order does not matter.
            value_max: the highest possible value, credits.
            own_left_out: whether a bidder's own bids are left out.
            source: where the bids stand, for errors.
        """
        bidders, found = range(len(evidence.past)), []
        for at in bidders if own_left_out else (None,):
            past = [own[:0] if other == at else own for other, own in enumerate(evidence.past)]
            of = tuple(bidders) if at is None else (at,)
            drawn_ones = drawn(
                self._weights, tuple(past), of, seed, samples=self._samples, source=source
            )
            found += [predicted(row, levels, value_max=value_max) for row, levels in drawn_ones]
        return found


def layer_sizes() -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer."""
    return generator.sizes(FEATURES, PLACES, WIDTH)


def load(path: Path) -> Weights:
    """Reads the weights of a generator.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    return read_weights(path, "a trained generator of distributions", sizes=layer_sizes())


def save(path: Path, weights: Weights) -> None:
    """Writes the weights of a generator."""
    write_weights(path, weights)


def drawn(
    weights: Weights,
    past: tuple[Float[np.ndarray, " _"], ...],
    of: tuple[int, ...],
    seed: int,
    *,
    samples: int = SAMPLES,
    source: object = SOURCE,
) -> list[tuple[Row, Float[np.ndarray, "samples places"]]]:
    """Draws distributions of bidders.

    Args:
        weights: trained.
        past: bids of each bidder, in any order; none where none are to be seen.
        of: which bidders to draw.
        seed: of the noise, the same for each of them.
        samples: of each.
        source: where the bids stand, for errors.

    Returns:
        For each of them its places and levels F there.

    Raises:
        InputError: there are too few bids.
    """
    rows, told = [], []
    for at, own in enumerate(past):
        others = np.concatenate([own[:0], *past[:at], *past[at + 1 :]])
        row, features = row_of(own, others, source=source)
        rows.append(row)
        told.append(features)
    seen = np.array([len(own) > 0 for own in past], np.float32)
    # In an order that bids alone decide, so that sums over bidders are the same.
    order = np.lexsort(np.array(told).T)
    mix = np.broadcast_to(SMOOTH, (len(past), PLACES, PLACES))
    nothing = np.zeros((len(past), PLACES), np.float32)
    read = generator.context(weights, np.array(told)[order], seen[order], mix, nothing)
    back = np.argsort(order)
    found = []
    for at in of:
        same = read.rows(np.full(samples, back[at]))
        position = generator.sample(weights, same, np.random.default_rng(seed))
        found.append((rows[at], level_of(rows[at], position)))
    return found


def predicted(
    row: Row,
    levels: Float[np.ndarray, "samples places"],
    *,
    value_max: float = np.inf,
) -> Predicted:
    """The mean of samples, going on beyond its outer places as dense as next to them."""
    F, x = levels.mean(axis=0), row.place
    low = max(_beyond(x[0], x[1], F[0], F[1] - F[0]), 0.0)
    high = _beyond(x[-1], x[-2], 1.0 - F[-1], F[-1] - F[-2])
    at, below = np.concatenate([[low], x, [high]]), np.concatenate([[0.0], F, [1.0]])
    if high > value_max:
        # Nothing is above the range: what was drawn there is spread over all below.
        inside = at < value_max
        most = float(np.interp(value_max, at, below))
        at, below = np.append(at[inside], value_max), np.append(below[inside], most) / most
    return Predicted(at, 1.0 - below)


def _beyond(end: float, inner: float, left: float, between: float) -> float:
    """Where a distribution ends if it goes on as between two places, not too far away."""
    return float(end + (end - inner) * min(left / max(between, 1e-12), BEYOND))


def virtual_of(belief: Predicted) -> Virtual:
    """The ironed virtual value of a belief.

    Between two points it is, on average, the slope of what posted prices earn over the chance
    that they sell; that is ironed, and stands at the middle between the points.
    """
    sold = belief.tail[:-1] - belief.tail[1:]
    some = sold > 1e-9
    posted = belief.at * belief.tail
    slope = (posted[:-1] - posted[1:])[some] / sold[some]
    ironed = isotonic_regression(slope, weights=sold[some]).x
    return Virtual(0.5 * (belief.at[:-1] + belief.at[1:])[some], np.asarray(ironed))


def reserve(belief: Predicted, *, cost: float = 0.0) -> float:
    r"""The posted price with the most expected profit, credits: Myerson's reserve.

    Exact: between two points the chance to sell is linear, and what a price earns a parabola.
    """
    start, end = belief.at[:-1], belief.at[1:]
    before, after = belief.tail[:-1], belief.tail[1:]
    fall = (before - after) / np.where(end > start, end - start, np.inf)
    # d/dr (r - c)(before - fall (r - start)) = 0.
    top = 0.5 * (start + cost + before / np.where(fall > 0.0, fall, 1e-300))
    price = np.concatenate([[belief.at[0]], np.clip(top, start, end), end])
    left = before - fall * (np.clip(top, start, end) - start)
    sold = np.concatenate([[belief.tail[0]], left, np.where(end > start, after, before)])
    return float(price[np.argmax((price - cost) * sold)])


def sold_lazily(
    beliefs: Sequence[Predicted], reserves: Float[np.ndarray, " bidders"], units: int
) -> tuple[Float[np.ndarray, " bidders"], Float[np.ndarray, " bidders"]]:
    """Chances to win and expected payments, if the highest bids win that reach their own reserve.

    Of the others' values let Y be the highest but `units - 1`, 0 if there is none. A bidder buys
    where its value is above both Y and its reserve, at the larger of these.

    Args:
        beliefs: of each bidder's value, taken as independent.
        reserves: of each bidder, credits.
        units: for sale.
    """
    ends = np.unique(np.concatenate([[0.0], reserves, *(each.at for each in beliefs)]))
    inside = np.arange(FINER) / FINER
    at = np.append((ends[:-1, None] + np.diff(ends)[:, None] * inside).ravel(), ends[-1])
    tails = np.array([np.interp(at, each.at, each.tail) for each in beliefs])
    wins, payments = np.zeros(len(beliefs)), np.zeros(len(beliefs))
    for bidder, own in enumerate(tails):
        # Chances that exactly 0, 1, ... units - 1 of the others are above each point.
        above = np.zeros((units, len(at)))
        above[0] = 1.0
        for other, tail in enumerate(tails):
            if other != bidder:
                fewer = np.concatenate([np.zeros((1, len(at))), above[:-1]])
                above = above * (1.0 - tail) + fewer * tail
        below = above.sum(axis=0)
        free = int(np.searchsorted(at, reserves[bidder]))
        step = np.diff(below[free:])
        bought = 0.5 * (own[free:-1] + own[free + 1 :])
        paid = 0.5 * (at[free:-1] * own[free:-1] + at[free + 1 :] * own[free + 1 :])
        wins[bidder] = own[free] * below[free] + bought @ step
        payments[bidder] = at[free] * own[free] * below[free] + paid @ step
    return wins, payments


def sold_by_score(
    beliefs: Sequence[Predicted],
    scores: Sequence[Callable[[np.ndarray], np.ndarray]],
    reserves: Float[np.ndarray, " bidders"],
    units: int,
) -> tuple[Float[np.ndarray, " bidders"], Float[np.ndarray, " bidders"]]:
    """Chances to win and expected payments, if the highest scores win from the reserve on.

    A payment is the mean virtual value where its bidder wins (Myerson's lemma). Of equal scores
    either wins as often.

    Args:
        beliefs: of each bidder's value, taken as independent.
        scores: of each bidder's values, never falling.
        reserves: of each bidder, credits.
        units: for sale.
    """
    inside = np.arange(FINER) / FINER
    cells = []
    for belief, score, least in zip(beliefs, scores, reserves, strict=True):
        ends = np.unique(np.append(belief.at, least))
        at = np.append((ends[:-1, None] + np.diff(ends)[:, None] * inside).ravel(), ends[-1])
        tail = np.interp(at, belief.at, belief.tail)
        middle = 0.5 * (at[:-1] + at[1:])
        scored = np.where(middle >= least, score(middle), -np.inf)
        cells.append((tail[:-1] - tail[1:], at[:-1] * tail[:-1] - at[1:] * tail[1:], scored))
    wins, payments = np.zeros(len(cells)), np.zeros(len(cells))
    for bidder, (mass, posted, own) in enumerate(cells):
        fewer = np.zeros((2, units, len(own)))
        fewer[:, 0] = 1.0
        for other, (weight, _, scored) in enumerate(cells):
            if other == bidder:
                continue
            left = np.append(np.cumsum(weight[::-1])[::-1], 0.0)
            first = np.searchsorted(scored, own, side="left")
            for ties, ahead_of in enumerate((first, np.searchsorted(scored, own, side="right"))):
                ahead = left[ahead_of]
                one_less = np.concatenate([np.zeros((1, len(own))), fewer[ties, :-1]])
                fewer[ties] = fewer[ties] * (1.0 - ahead) + one_less * ahead
        chance = np.where(np.isfinite(own), fewer.sum(axis=1).mean(axis=0), 0.0)
        wins[bidder], payments[bidder] = mass @ chance, posted @ chance
    return wins, payments
