"""Thompson sampling of the price from a Gaussian process of supply that never falls."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import isotonic_regression

from edgepact.solvers.quoter import Rival, Rounds
from edgepact.solvers.search.gaussian_process import squared_exponential


@dataclass(frozen=True, slots=True, kw_only=True)
class MonotoneProcess(Rival):
    """Thompson sampling: supply is drawn as it may be, and what is best for the draw is posted.

    Unlike `GaussianProcess`, which looks at profit alone, it knows that profit is (b - P) times a
    supply that never falls as the price rises (GP-TS-M). A draw of the posterior is projected
    onto rising functions (Lin and Dunson 2014, "Bayesian monotone regression using Gaussian process
    projection"). The length scale is the most likely of a few.

    Args:
        lengths: length scales to choose from, as shares of the scale.
        noise: standard deviation that is not explained, in units of the signal's.
        candidates: prices among which the next one is chosen.
    """

    lengths: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    noise: float = 0.02
    candidates: int = 128

    def next_price(self, seen: Rounds) -> float:
        """What is best for one draw of supply; the middle at first."""
        known = seen.known
        if len(seen) == 0:
            return known.price_at(0.5)
        grid = (np.arange(self.candidates) + 0.5) / self.candidates
        supply = seen.layers.sum(axis=1) / (known.devices * known.layers_max)
        rng = np.random.default_rng([seen.seed, len(seen)])
        drawn = self.draw(rng, known.position_of(seen.prices), supply, grid)
        posted = np.array([known.price_at(float(each)) for each in grid])
        return float(posted[int(np.argmax((known.saving - posted) * drawn))])

    def draw(
        self,
        rng: np.random.Generator,
        x: Float[np.ndarray, " seen"],
        y: Float[np.ndarray, " seen"],
        grid: Float[np.ndarray, " grid"],
    ) -> Float[np.ndarray, " grid"]:
        """One supply, a share of all layers, that rises along the grid."""
        mean, root = self._posterior(x, y - 0.5, grid)
        path = 0.5 + mean + root @ rng.standard_normal(len(grid))
        rising: np.ndarray = isotonic_regression(path).x
        return np.clip(rising, 0.0, 1.0)

    def _posterior(
        self,
        x: Float[np.ndarray, " seen"],
        y: Float[np.ndarray, " seen"],
        grid: Float[np.ndarray, " grid"],
    ) -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, "grid grid"]]:
        """Mean, and a root of the covariance; the signal's variance is the most likely one."""
        best = (-math.inf, 0.0, self.lengths[0])
        for length in self.lengths:
            root = self._root(x, length)
            variance = max(float(y @ cho_solve((root, True), y)) / len(x), 1e-4)
            likelihood = -0.5 * len(x) * math.log(variance) - float(np.sum(np.log(np.diag(root))))
            best = max(best, (likelihood, variance, length))
        _, variance, length = best
        root = self._root(x, length)
        across = squared_exponential(grid, x, length)
        left = squared_exponential(grid, grid, length) - across @ cho_solve((root, True), across.T)
        spread = cholesky(left + 1e-6 * np.eye(len(grid)), lower=True)
        return across @ cho_solve((root, True), y), math.sqrt(variance) * spread

    def _root(self, x: Float[np.ndarray, " seen"], length: float) -> np.ndarray:
        among = squared_exponential(x, x, length) + self.noise**2 * np.eye(len(x))
        return np.asarray(cholesky(among, lower=True))
