"""The ways to quote that studies compare: the GDM in context and its rivals, as they ship."""

from dataclasses import replace
from pathlib import Path

from edgepact.progress import progress_bar
from edgepact.solvers.in_context.curves_training import Course, train_generator
from edgepact.solvers.in_context.pricing import SHIPPED, InContext, load, save
from edgepact.solvers.known_form.bayes import BayesianPostedPrice, BayesianPosterior
from edgepact.solvers.known_form.identify import IdentifyThenSolve
from edgepact.solvers.quoter import Quoter
from edgepact.solvers.search.cma_es import CMAES
from edgepact.solvers.search.gaussian_process import GaussianProcess
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.solvers.search.grid import GridSearch
from edgepact.solvers.search.monotone_process import MonotoneProcess
from edgepact.solvers.search.random_quotes import RandomQuotes

GDM = "GDM in context"
POSTED = "Bayesian posted price"

TRAINING_SEED = 0
"""Of the weights that ship, too."""

SHIPPING = Course()
"""Of the weights that ship."""

COLOURS = {
    GDM: "#0b6e4f",
    "golden section": "#edae49",
    "grid": "#c77d3a",
    "CMA-ES": "#8f6bb3",
    "Gaussian process": "#2f6690",
    "GP-TS-M": "#7fb7be",
    "random": "#9aa5b1",
    "identify, then solve": "#d1495b",
    POSTED: "#1f2933",
    "Bayesian posterior": "#7a1f3d",
}


def train_to(path: Path, *, smoke: bool, course: Course = SHIPPING) -> None:
    """Trains a generator with a progress bar and writes it; minutes on two cores."""
    if smoke:
        course = replace(course, fleets=100, updates=20, batch=8)
    chunk = 20 if smoke else 100
    with progress_bar(f"Train {path.stem}") as advance:
        save(path, train_generator(TRAINING_SEED, course, advance, chunk=chunk))


def in_context(weights: Path = SHIPPED) -> Quoter:
    """The quoter with the weights that ship, or others."""
    return InContext(load(weights))


def methods(weights: Path = SHIPPED) -> dict[str, Quoter]:
    """All of them, the GDM first, then those that do not know how devices decide."""
    return {
        GDM: in_context(weights),
        "golden section": GoldenSection(),
        "grid": GridSearch(),
        "CMA-ES": CMAES(),
        "Gaussian process": GaussianProcess(),
        "GP-TS-M": MonotoneProcess(),
        "random": RandomQuotes(),
        "identify, then solve": IdentifyThenSolve(),
        POSTED: BayesianPostedPrice(),
        "Bayesian posterior": BayesianPosterior(),
    }
