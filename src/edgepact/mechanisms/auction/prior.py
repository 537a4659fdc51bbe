"""What is believed of a bid before it is seen: distributions of costs or values.

`virtual_cost` has what follows from them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError

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


def _check_weights(weights: np.ndarray) -> None:
    if not np.all(np.isfinite(weights) & (weights >= 0.0)):
        raise InputError("prior", "weights", "numbers of at least 0", _listed(weights))
    if abs(float(np.sum(weights)) - 1.0) > WEIGHT_SLACK:
        raise InputError("prior", "weights", "numbers that add up to 1", float(np.sum(weights)))


def _listed(numbers: np.ndarray) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:4])
    return f"[{shown}{', ...' if len(numbers) > 4 else ''}]"
