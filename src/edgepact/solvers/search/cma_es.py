"""CMA-ES: evolution with a step size that adapts, in one dimension."""

import math
from dataclasses import dataclass

import numpy as np

from edgepact.solvers.search.trials import Search, Trials


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
