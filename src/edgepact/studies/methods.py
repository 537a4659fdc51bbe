"""The ways to quote that studies compare: the GDM in context and its rivals, as they ship."""

from edgepact.solvers.bayes import BayesianPostedPrice, BayesianPosterior
from edgepact.solvers.identify import IdentifyThenSolve
from edgepact.solvers.quotes import Quoter
from edgepact.solvers.search import (
    CMAES,
    GaussianProcess,
    GoldenSection,
    GridSearch,
    RandomQuotes,
)

GDM = "GDM in context"
POSTED = "Bayesian posted price"

COLOURS = {
    GDM: "#0b6e4f",
    "golden section": "#edae49",
    "grid": "#c77d3a",
    "CMA-ES": "#8f6bb3",
    "Gaussian process": "#2f6690",
    "random": "#9aa5b1",
    "identify, then solve": "#d1495b",
    POSTED: "#1f2933",
    "Bayesian posterior": "#7a1f3d",
}


def in_context() -> Quoter:
    """The policy whose weights ship."""
    # Stands in until the policy has landed in `solvers.quoting`: no figures come of this.
    return GoldenSection()


def methods() -> dict[str, Quoter]:
    """All of them, the GDM first, then those that do not know how devices decide."""
    return {
        GDM: in_context(),
        "golden section": GoldenSection(),
        "grid": GridSearch(),
        "CMA-ES": CMAES(),
        "Gaussian process": GaussianProcess(),
        "random": RandomQuotes(),
        "identify, then solve": IdentifyThenSolve(),
        POSTED: BayesianPostedPrice(),
        "Bayesian posterior": BayesianPosterior(),
    }
