"""CMA-ES: evolution with a step size that adapts, by the library `cmaes`."""

from dataclasses import dataclass

import numpy as np

from edgepact.errors import MissingExtraError
from edgepact.solvers.search.trials import Search, Trials

try:
    from cmaes import CMA
except ImportError:  # an extra
    CMA = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CMAES(Search):
    """Covariance matrix adaptation in one dimension, where the matrix is a number.

    The library's defaults stand (M. Nomura and M. Shibata, "cmaes: a simple yet practical Python
    library for CMA-ES", arXiv 2402.01373), generations of four among them.

    Args:
        mean, sigma: of the first generation, as shares of the scale.
        tolerance: width of a generation at which it ends.

    Raises:
        MissingExtraError: the library is not installed.
    """

    mean: float = 0.5
    sigma: float = 0.25
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if CMA is None:
            raise MissingExtraError("CMA-ES", "rivals")

    def trials(self, rng: np.random.Generator) -> Trials:
        """Generations of four; what falls outside of the scale is drawn again."""
        evolution = CMA(
            mean=np.array([self.mean]),
            sigma=self.sigma,
            bounds=np.array([[0.0, 1.0]]),
            seed=int(rng.integers(2**32)),
        )
        width = 1.0
        while width > self.tolerance:
            drawn = [evolution.ask() for _ in range(evolution.population_size)]
            found = []
            for each in drawn:
                # The library looks for the least.
                found.append(-(yield float(each[0])))
            evolution.tell(list(zip(drawn, found, strict=True)))
            width = float(np.ptp(drawn))
