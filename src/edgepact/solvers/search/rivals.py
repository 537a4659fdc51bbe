"""Rivals that know nothing of how devices decide: they look for the peak of a curve.

All of them see only the profit of each quote, and search the prices worth posting
(up to what a layer saves the server) on a logarithmic scale. The trial-and-error
ones are written as generators that yield a price and are sent its profit; a quote
replays them over the rounds seen, so a quoter keeps no memory and its quotes
depend on nothing but the rounds.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, cholesky
from scipy.special import ndtr

from edgepact.solvers.quotes import Known, profits

Trials = Generator[float, float, None]
"""Yields positions in [0, 1], is sent profits, and ends when it has found enough."""

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomQuotes:
    """A price drawn log-uniformly from all that may be posted: the zero of the score."""

    knows_form: ClassVar[bool] = False

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
    ) -> float:
        """A draw of its own for each round."""
        profits(known, prices, layers)
        position = np.random.default_rng([seed, len(prices)]).uniform()
        price = known.price_min * (known.price_max / known.price_min) ** position
        return float(min(max(price, known.price_min), known.price_max))


class Search(ABC):
    """Trial and error that ends, and keeps to its best quote from then on."""

    __slots__ = ()
    knows_form: ClassVar[bool] = False

    @abstractmethod
    def trials(self, rng: np.random.Generator) -> Trials:
        """The search itself."""

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
    ) -> float:
        """The next trial, or the best price seen once the search has ended."""
        seen = profits(known, prices, layers)
        trials = self.trials(np.random.default_rng(seed))
        try:
            position = next(trials)
            for profit in seen:
                position = trials.send(float(profit))
        except StopIteration:
            best = float(prices[int(np.argmax(seen))])
            return min(max(best, known.price_min), known.price_max)
        return known.price_at(position)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSearch(Search):
    """Tries a grid, the middle first and then always where the largest gap is.

    Args:
        points: of the grid; after them the best is kept.
    """

    points: int = 8

    def trials(self, rng: np.random.Generator) -> Trials:
        """From coarse to fine."""
        left = [(index + 0.5) / self.points for index in range(self.points)]
        tried = [left.pop(self.points // 2)]
        yield tried[0]
        while left:
            # Of equal gaps the higher price: devices enter there rather than leave.
            gaps = [(min(abs(x - y) for y in tried), x) for x in left]
            tried.append(max(gaps)[1])
            left.remove(tried[-1])
            yield tried[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSection(Search):
    """Shrinks a bracket by the golden ratio; right only where there is one peak.

    Args:
        tolerance: width of the bracket at which it ends, as a share of the scale.
    """

    tolerance: float = 0.02

    def trials(self, rng: np.random.Generator) -> Trials:
        """One quote a shrinking, after two to begin with."""
        low, high = 0.0, 1.0
        x, y = 1.0 - GOLDEN, GOLDEN
        at_x = yield x
        at_y = yield y
        while high - low > self.tolerance:
            if at_x > at_y:
                high, y, at_y = y, x, at_x
                x = high - GOLDEN * (high - low)
                at_x = yield x
            else:  # also where both are 0: nobody supplies yet
                low, x, at_x = x, y, at_y
                y = low + GOLDEN * (high - low)
                at_y = yield y


@dataclass(frozen=True, slots=True, kw_only=True)
class CMAES(Search):
    """Covariance matrix adaptation in one dimension, where the matrix is a number.

    The update of N. Hansen, "The CMA Evolution Strategy: A Tutorial"
    (arXiv 1604.00772), with its default constants for n = 1.

    Args:
        mean, sigma: of the first generation, as shares of the scale.
        tolerance: step size at which it ends.
    """

    mean: float = 0.5
    sigma: float = 0.25
    tolerance: float = 0.01

    def trials(self, rng: np.random.Generator) -> Trials:
        """Generations of four."""
        offspring, parents = 4, 2
        weights = math.log((offspring + 1) / 2) - np.log(np.arange(1, parents + 1))
        weights /= weights.sum()
        effective = 1.0 / float(np.sum(weights**2))
        of_sigma = (effective + 2) / (effective + 6)
        damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / 2) - 1) + of_sigma
        of_path = (4 + effective) / (5 + 2 * effective)
        of_one = 2 / (2.3**2 + effective)
        of_many = min(1 - of_one, 2 * (effective - 2 + 1 / effective) / (9 + effective))
        length = math.sqrt(2 / math.pi)  # mean of |N(0, 1)|

        mean, sigma, variance = self.mean, self.sigma, 1.0
        path_sigma, path = 0.0, 0.0
        generation = 0
        while sigma * math.sqrt(variance) > self.tolerance:
            generation += 1
            drawn = mean + sigma * math.sqrt(variance) * rng.standard_normal(offspring)
            positions = np.clip(drawn, 0.0, 1.0)
            found = np.empty(offspring)
            for index, position in enumerate(positions):
                found[index] = yield float(position)
            steps = (positions[np.argsort(-found, kind="stable")[:parents]] - mean) / sigma
            step = float(weights @ steps)
            mean += sigma * step
            path_sigma = (1 - of_sigma) * path_sigma + math.sqrt(
                of_sigma * (2 - of_sigma) * effective
            ) * step / math.sqrt(variance)
            normal = math.sqrt(1 - (1 - of_sigma) ** (2 * generation))
            steady = abs(path_sigma) / normal < (1.4 + 2 / 2) * length
            path = (1 - of_path) * path + steady * math.sqrt(
                of_path * (2 - of_path) * effective
            ) * step
            lost = 0.0 if steady else of_one * of_path * (2 - of_path)
            variance = (
                (1 - of_one - of_many + lost) * variance
                + of_one * path**2
                + of_many * float(weights @ steps**2)
            )
            sigma *= math.exp(of_sigma / damping * (abs(path_sigma) / length - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianProcess:
    """Bayesian optimisation: a Gaussian process over prices, largest expected improvement.

    The length scale is the most likely of a few. One value is known without a
    quote: at the price of what a layer saves, profit is 0.

    Args:
        lengths: length scales to choose from, as shares of the scale.
        noise: standard deviation that is not explained, in units of the signal's.
        candidates: prices among which the next one is chosen.
    """

    knows_form: ClassVar[bool] = False
    lengths: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    noise: float = 0.01
    candidates: int = 256

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
    ) -> float:
        """Where most improvement is expected; the middle at first."""
        seen = profits(known, prices, layers)
        if len(seen) == 0:
            return known.price_at(0.5)
        x = known.position_of(prices)
        if known.saving <= known.price_max:
            x, seen = np.append(x, 1.0), np.append(seen, 0.0)
        scale = float(np.max(np.abs(seen)))
        y = seen / (scale if scale > 0 else 1.0)
        grid = (np.arange(self.candidates) + 0.5) / self.candidates
        mean, deviation = self._posterior(x, y, grid)
        above = (mean - y.max()) / deviation
        density = np.exp(-0.5 * above**2) / math.sqrt(2 * math.pi)
        expected = deviation * (above * ndtr(above) + density)
        return known.price_at(float(grid[int(np.argmax(expected))]))

    def _posterior(
        self,
        x: Float[np.ndarray, " seen"],
        y: Float[np.ndarray, " seen"],
        grid: Float[np.ndarray, " grid"],
    ) -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, " grid"]]:
        """Mean and standard deviation; the signal's variance is the most likely one."""
        best = (-math.inf, grid, grid)
        for length in self.lengths:
            among = _kernel(x, x, length) + self.noise**2 * np.eye(len(x))
            root = cholesky(among, lower=True)
            solved = cho_solve((root, True), y)
            variance = max(float(y @ solved) / len(x), 1e-12)
            likelihood = -0.5 * len(x) * math.log(variance) - float(np.sum(np.log(np.diag(root))))
            if likelihood > best[0]:
                across = _kernel(grid, x, length)
                left = 1.0 - np.sum(across * cho_solve((root, True), across.T).T, axis=1)
                best = (
                    likelihood,
                    across @ solved,
                    np.sqrt(variance * np.clip(left, 1e-12, None)),
                )
        return best[1], best[2]


def _kernel(
    x: Float[np.ndarray, " rows"], y: Float[np.ndarray, " columns"], length: float
) -> Float[np.ndarray, "rows columns"]:
    return np.exp(-0.5 * ((x[:, None] - y[None, :]) / length) ** 2)
