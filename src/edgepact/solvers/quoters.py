"""Ways to quote by the names that options and scenario files use.

Only those that need not be told how devices decide; the others are in `solvers.bayes` and
`solvers.identify`.
"""

from collections.abc import Callable

from edgepact.solvers.in_context.pricing import InContext
from edgepact.solvers.quotes import Quoter
from edgepact.solvers.search.cma_es import CMAES
from edgepact.solvers.search.gaussian_process import GaussianProcess
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.solvers.search.grid import GridSearch
from edgepact.solvers.search.random_quotes import RandomQuotes

QUOTERS: dict[str, Callable[[], Quoter]] = {
    "gdm": InContext.shipped,
    "golden-section": GoldenSection,
    "grid": GridSearch,
    "cma-es": CMAES,
    "gaussian-process": GaussianProcess,
    "random": RandomQuotes,
}
"""The diffusion model in context first."""

OPTIMUM = "optimum"
"""Beside them: the exact best price, which takes all that is private. A yardstick."""
