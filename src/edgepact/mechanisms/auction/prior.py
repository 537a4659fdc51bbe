r"""What is believed of a bid before it is seen, and the virtual costs that follow from it.

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

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError

KNOTS = 4096
"""Costs at which a virtual cost is tabulated, at least."""

KNOTS_A_SEGMENT = 8
"""The same for each stretch between two jumps of the density."""

SEGMENTS_MAX = 10_000
"""Most bins of a histogram."""

PARTS_MAX = 1_000
"""Most parts of a mixture."""

DECAY_MAX = 25.0
"""Most e-foldings of an exponential's density over its support: F itself is 1 beyond."""

WEIGHT_SLACK = 1e-6
"""How far weights may be from a sum of 1: files round them."""


class Prior(ABC):
    """A distribution of costs or values on an interval, with a density."""

    @property
    @abstractmethod
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Ends of the support and jumps of the density between, rising."""

    @abstractmethod
    def cdf(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """F(x), 0 below the support and 1 above it."""

    @abstractmethod
    def density(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """f(x) inside the support, the limit from the right where f jumps."""

    def tail(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """1 - F(x), exact where that is small."""
        return np.asarray(1.0 - self.cdf(x))

    @property
    def low(self) -> float:
        """The least it can be."""
        return float(self.edges[0])

    @property
    def high(self) -> float:
        """The most it can be."""
        return float(self.edges[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram(Prior):
    """Uniform in each of several bins.

    Attributes:
        bins: their ends, rising, shape `bins + 1`.
        weights: probability of each bin, sum 1; 0 is possible, but not for the outer two.

    Raises:
        InputError: something is out of range.
    """

    bins: Float[np.ndarray, " ends"]
    weights: Float[np.ndarray, " bins"]

    def __post_init__(self) -> None:
        bins, weights = np.asarray(self.bins), np.asarray(self.weights)
        if bins.ndim != 1 or not 2 <= len(bins) <= SEGMENTS_MAX + 1:
            expected = f"2 to {SEGMENTS_MAX + 1} numbers"
            raise InputError("prior", "bins", expected, f"shape {bins.shape}")
        if not np.all(np.isfinite(bins)) or not np.all(np.diff(bins) > 0.0):
            raise InputError("prior", "bins", "finite numbers that rise", _listed(bins))
        if weights.shape != (len(bins) - 1,):
            found = f"shape {weights.shape}"
            raise InputError("prior", "weights", f"{len(bins) - 1} numbers", found)
        _check_weights(weights)
        if weights[0] == 0.0 or weights[-1] == 0.0:
            expected = "outer bins that are possible"
            raise InputError("prior", "weights", expected, _listed(weights))

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Ends of the bins."""
        return np.asarray(self.bins, float)

    def cdf(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """F(x)."""
        total = np.cumsum(self.weights)
        return np.asarray(np.interp(x, self.edges, np.append(0.0, total) / total[-1]))

    def density(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """f(x)."""
        share = np.asarray(self.weights) / np.sum(self.weights) / np.diff(self.edges)
        at = np.searchsorted(self.edges, x, side="right") - 1
        return np.asarray(share[np.clip(at, 0, len(share) - 1)])


def uniform(low: float, high: float) -> Histogram:
    """The uniform distribution on [low, high].

    Raises:
        InputError: low is not below high.
    """
    return Histogram(bins=np.array([low, high], float), weights=np.ones(1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TruncatedExponential(Prior):
    """Density falling as exp(-rate x) on [start, stop].

    Raises:
        InputError: something is out of range.
    """

    start: float
    stop: float
    rate: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.start) and self.start < self.stop < np.inf):
            raise InputError("prior", "low, high", "low < high", f"{self.start:g}, {self.stop:g}")
        if not 0.0 < self.rate * (self.stop - self.start) <= DECAY_MAX:
            expected = f"above 0, rate * (high - low) at most {DECAY_MAX:g}"
            raise InputError("prior", "rate", expected, self.rate)

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Ends of the support."""
        return np.array([self.start, self.stop], float)

    def cdf(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """F(x)."""
        inside = np.clip(x, self.start, self.stop) - self.start
        whole = np.expm1(-self.rate * (self.stop - self.start))
        return np.asarray(np.expm1(-self.rate * inside) / whole)

    def tail(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """1 - F(x)."""
        inside, length = np.clip(x, self.start, self.stop) - self.start, self.stop - self.start
        left = np.exp(-self.rate * inside) * np.expm1(-self.rate * (length - inside))
        return np.asarray(left / np.expm1(-self.rate * length))

    def density(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """f(x)."""
        inside = np.clip(x, self.start, self.stop) - self.start
        whole = -np.expm1(-self.rate * (self.stop - self.start))
        return np.asarray(self.rate * np.exp(-self.rate * inside) / whole)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture(Prior):
    """One of several priors, drawn with given weights.

    Raises:
        InputError: no parts, or weights that are no probabilities.
    """

    parts: Sequence[Prior]
    weights: Float[np.ndarray, " parts"]

    def __post_init__(self) -> None:
        if not 1 <= len(self.parts) <= PARTS_MAX:
            raise InputError("prior", "parts", f"1 to {PARTS_MAX}", len(self.parts))
        if np.shape(self.weights) != (len(self.parts),):
            found = f"shape {np.shape(self.weights)}"
            raise InputError("prior", "weights", f"{len(self.parts)} numbers", found)
        _check_weights(np.asarray(self.weights))
        if not np.all(np.asarray(self.weights) > 0.0):
            found = _listed(np.asarray(self.weights))
            raise InputError("prior", "weights", "numbers above 0", found)

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Edges of all parts."""
        return np.unique(np.concatenate([part.edges for part in self.parts]))

    def cdf(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """F(x)."""
        weighted = zip(self.weights, self.parts, strict=True)
        return np.asarray(sum(weight * part.cdf(x) for weight, part in weighted))

    def tail(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """1 - F(x)."""
        weighted = zip(self.weights, self.parts, strict=True)
        return np.asarray(sum(weight * part.tail(x) for weight, part in weighted))

    def density(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """f(x)."""
        x = np.asarray(x)
        total = np.zeros(x.shape)
        for weight, part in zip(self.weights, self.parts, strict=True):
            total += weight * np.where((x >= part.low) & (x < part.high), part.density(x), 0.0)
        return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mirrored(Prior):
    """The distribution of -x: whoever pays w for a unit is one who supplies it at cost -w."""

    of: Prior

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Edges, from the other end."""
        return -self.of.edges[::-1]

    def cdf(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """F(x)."""
        return self.of.tail(-np.asarray(x))

    def tail(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """1 - F(x)."""
        return self.of.cdf(-np.asarray(x))

    def density(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """f(x)."""
        return self.of.density(-np.asarray(x))


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


def _check_weights(weights: np.ndarray) -> None:
    if not np.all(np.isfinite(weights) & (weights >= 0.0)):
        raise InputError("prior", "weights", "numbers of at least 0", _listed(weights))
    if abs(float(np.sum(weights)) - 1.0) > WEIGHT_SLACK:
        raise InputError("prior", "weights", "numbers that add up to 1", float(np.sum(weights)))


def _listed(numbers: np.ndarray) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:4])
    return f"[{shown}{', ...' if len(numbers) > 4 else ''}]"
