"""Bayesian optimisation of the price: a Gaussian process and its expected improvement."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, cholesky
from scipy.special import ndtr

from edgepact.solvers.quoter import Rival, Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianProcess(Rival):
    """Bayesian optimisation: a Gaussian process over prices, largest expected improvement.

    The length scale is the most likely of a few. One value is known without a
    quote: at the price of what a layer saves, profit is 0.

    Args:
        lengths: length scales to choose from, as shares of the scale.
        noise: standard deviation that is not explained, in units of the signal's.
        candidates: prices among which the next one is chosen.
    """

    lengths: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    noise: float = 0.01
    candidates: int = 256

    def next_price(self, seen: Rounds) -> float:
        """Where most improvement is expected; the middle at first."""
        known, earned = seen.known, seen.profits
        if len(seen) == 0:
            return known.price_at(0.5)
        x = known.position_of(seen.prices)
        if known.saving <= known.price_max:
            x, earned = np.append(x, 1.0), np.append(earned, 0.0)
        scale = float(np.max(np.abs(earned)))
        y = earned / (scale if scale > 0 else 1.0)
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
            among = squared_exponential(x, x, length) + self.noise**2 * np.eye(len(x))
            root = cholesky(among, lower=True)
            solved = cho_solve((root, True), y)
            variance = max(float(y @ solved) / len(x), 1e-12)
            likelihood = -0.5 * len(x) * math.log(variance) - float(np.sum(np.log(np.diag(root))))
            if likelihood > best[0]:
                across = squared_exponential(grid, x, length)
                left = 1.0 - np.sum(across * cho_solve((root, True), across.T).T, axis=1)
                best = (
                    likelihood,
                    across @ solved,
                    np.sqrt(variance * np.clip(left, 1e-12, None)),
                )
        return best[1], best[2]


def squared_exponential(
    x: Float[np.ndarray, " rows"], y: Float[np.ndarray, " columns"], length: float
) -> Float[np.ndarray, "rows columns"]:
    """The kernel of a length scale; 1 where a place meets itself."""
    return np.exp(-0.5 * ((x[:, None] - y[None, :]) / length) ** 2)
