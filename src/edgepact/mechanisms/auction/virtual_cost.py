r"""Virtual costs: what it costs a buyer to buy from one more type, the others' rents included.

To buy from a bidder of cost $c \sim F$ whenever the cost lies below $p$ takes a price of $p$
and happens with probability $q = F(p)$, so it is paid $C(q) = q F^{-1}(q)$ on average. The
slope of that curve is the *virtual cost* $\varphi(c) = c + F(c)/f(c)$: what one more bit of
probability costs, the higher price to all cheaper types included (Myerson 1981). Where $C$ is
not convex, $\varphi$ falls somewhere and no truthful auction can follow it; the slope of the
convex hull of $C$ takes its place (*ironing*, in quantile space, so each cost weighs as much as
it is likely). Whoever sells instead of buying meets a bidder of value $w$ as one of cost $-w$.

Exact for uniform priors and for histograms that need no ironing; otherwise $\varphi$ is
interpolated between `KNOTS` costs, which moves what an auction earns by the square of their
distance and its truthfulness not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError
from edgepact.mechanisms.auction.prior import Mirrored, Prior

KNOTS = 4096
"""Costs at which a virtual cost is tabulated, at least."""

KNOTS_A_SEGMENT = 8
"""The same for each stretch between two jumps of the density."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VirtualCost:
    """An ironed virtual cost: rising, linear between knots.

    Two knots of one cost are a jump, two of one level a stretch that was ironed. Below the
    support it goes on with slope 1, so that there cheaper stays better; above it is infinite.

    Attributes:
        prior: whose it is.
        cost, level: of each knot, neither falling.
    """

    prior: Prior
    cost: Float[np.ndarray, " knots"]
    level: Float[np.ndarray, " knots"]

    def at(self, cost: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The ironed virtual cost of any costs."""
        level = np.interp(cost, self.cost, self.level, right=np.inf)
        below = np.minimum(cost - self.cost[0], 0.0)
        return np.asarray(level + below)

    def price(self, value: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The highest cost whose virtual cost is at most a value; -inf if none in the support."""
        knot = np.searchsorted(self.level, value, side="right") - 1
        return np.where(knot >= 0, self._between(np.maximum(knot, 0), value), -np.inf)

    def threshold(
        self,
        value: Float[np.ndarray, " bidders"],
        bar: Float[np.ndarray, " bidders"],
        wins_ties: Bool[np.ndarray, " bidders"],
    ) -> Float[np.ndarray, " bidders"]:
        """The highest cost at which value - virtual cost still beats a bar.

        On an ironed stretch all costs score the same, and whether they beat a bar of that very
        score is up to the tie. Scores are therefore compared as an auction computes them, and
        not the bar turned into a virtual cost, which rounding could put on either side.
        """
        if len(value) == 0:
            return np.zeros(0)

        def beats(knot: np.ndarray) -> np.ndarray:
            score = value - self.level[knot]
            return (score > bar) | (wins_ties & (score == bar))

        low = np.zeros(len(value), int)  # beats the bar, if any does
        high = np.full(len(value), len(self.cost))  # does not
        for _ in range(len(self.cost).bit_length()):
            middle = (low + high) // 2
            good = beats(middle)
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        below = self.cost[0] + np.minimum(value - bar - self.level[0], 0.0)
        return np.where(beats(low), self._between(low, value - bar), below)

    def _between(
        self, knot: Int[np.ndarray, "..."], level: Float[np.ndarray, "..."]
    ) -> Float[np.ndarray, "..."]:
        """The cost of a level that lies between a knot and the next."""
        after = np.minimum(knot + 1, len(self.cost) - 1)
        width, rise = self.cost[after] - self.cost[knot], self.level[after] - self.level[knot]
        climbed = (level - self.level[knot]) * width
        step = np.divide(climbed, rise, out=np.zeros(climbed.shape), where=rise > 0.0)
        return self.cost[knot] + np.clip(step, 0.0, width)


def virtual_cost(prior: Prior) -> VirtualCost:
    """The virtual cost of a prior over costs, ironed where it falls."""
    edges = prior.edges
    inside = max(KNOTS_A_SEGMENT, KNOTS // (len(edges) - 1))
    steps = np.linspace(0.0, 1.0, inside, endpoint=False)
    c = np.append(edges[:-1, None] + np.diff(edges)[:, None] * steps, edges[-1])
    F = prior.cdf(c)
    # After a gap in the support the cost jumps at one quantile: the gap goes with what follows.
    known = np.append(0, np.flatnonzero(np.diff(F) > 0.0) + 1)
    after_gap = np.diff(known) > 1
    c, F = c[known], F[known]
    with np.errstate(divide="ignore", over="ignore"):
        start = c[:-1] + F[:-1] / prior.density(np.nextafter(c[:-1], np.inf))
        stop = c[1:] + F[1:] / prior.density(np.nextafter(c[1:], -np.inf))
    raw = np.ravel(np.column_stack([start, stop]))
    cost = np.ravel(np.column_stack([c[:-1], c[1:]]))
    slack = 1e-12 * (1.0 + np.abs(raw[1:]))  # what rounding does to a level stretch
    if np.all(np.isfinite(raw)) and np.all(np.diff(raw) >= -slack) and not np.any(after_gap):
        return _tabulated(prior, cost, np.maximum.accumulate(raw))
    pooled = isotonic_regression(np.diff(c * F) / np.diff(F), weights=np.diff(F))
    size = np.diff(pooled.blocks)
    ironed = np.repeat(size > 1, size) | after_gap | ~np.isfinite(start) | ~np.isfinite(stop)
    flat = np.repeat(ironed, 2)
    level = np.where(flat, np.repeat(pooled.x, 2), raw)
    # The ends of an ironed stretch are known up to a knot: what lies beside it must not cross.
    ceiling = np.minimum.accumulate(np.where(flat, level, np.inf)[::-1])[::-1]
    return _tabulated(prior, cost, np.maximum.accumulate(np.minimum(level, ceiling)))


def virtual_value(prior: Prior) -> VirtualCost:
    r"""The virtual value $\varphi(w) = w - (1-F)/f$ of a prior over values, as a cost of $-w$."""
    return virtual_cost(Mirrored(of=prior))


def _tabulated(prior: Prior, cost: np.ndarray, level: np.ndarray) -> VirtualCost:
    """Without the knots that repeat the one before."""
    new = np.append(True, (np.diff(cost) > 0.0) | (np.diff(level) > 0.0))
    return VirtualCost(prior=prior, cost=cost[new], level=level[new])


def by_virtual_cost(
    virtual: VirtualCost | Sequence[VirtualCost], bidders: int
) -> list[tuple[VirtualCost, slice | Int[np.ndarray, " own"]]]:
    """Each virtual cost with the bidders it belongs to."""
    if isinstance(virtual, VirtualCost):
        return [(virtual, slice(0, bidders))]
    owners: dict[int, list[int]] = {}
    for at, each in enumerate(virtual):
        owners.setdefault(id(each), []).append(at)
    return [(virtual[own[0]], np.array(own)) for own in owners.values()]


def check_virtual(virtual: VirtualCost | Sequence[VirtualCost], bidders: int) -> None:
    """Raises `InputError` unless there is one virtual cost, or one for each bidder."""
    if not isinstance(virtual, VirtualCost) and len(virtual) != bidders:
        raise InputError("auction", "virtual", f"one, or {bidders}", len(virtual))
