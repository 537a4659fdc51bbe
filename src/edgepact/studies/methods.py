"""The ways to quote that studies compare: the GDM in context and its rivals, as they ship."""

from dataclasses import replace
from pathlib import Path

from edgepact.progress import progress_bar
from edgepact.solvers.in_context.curves_training import Course, train_generator
from edgepact.solvers.in_context.pricing import SHIPPED, InContext, load, save
from edgepact.solvers.known_form.bayes import BayesianPostedPrice, BayesianPosterior
from edgepact.solvers.known_form.identify import IdentifyThenSolve
from edgepact.solvers.known_form.told_posterior import ToldPosterior
from edgepact.solvers.pretrained import transformer
from edgepact.solvers.pretrained.transformer import Transformer
from edgepact.solvers.pretrained.transformer_training import Lessons, train_transformer
from edgepact.solvers.quoter import Quoter
from edgepact.solvers.search.cma_es import CMAES
from edgepact.solvers.search.gaussian_process import GaussianProcess
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.solvers.search.grid import GridSearch
from edgepact.solvers.search.monotone_process import MonotoneProcess
from edgepact.solvers.search.random_quotes import RandomQuotes

GDM = "GDM in context"
POSTED = "Bayesian posted price"
TRANSFORMER = "pretrained transformer"
CEILING = "told posterior, our rule"

TRAINING_SEED = 0
"""Of the weights that ship, too."""

SHIPPING = Course()
"""Of the weights that ship."""

COLOURS = {
    GDM: "#009e73",
    TRANSFORMER: "#d55e00",
    "golden section": "#e69f00",
    "grid": "#e69f00",
    "CMA-ES": "#cc79a7",
    "Gaussian process": "#0072b2",
    "GP-TS-M": "#56b4e9",
    "random": "#9aa5b1",
    "identify, then solve": "#882255",
    POSTED: "#1f2933",
    "Bayesian posterior": "#1f2933",
    CEILING: "#1f2933",
}
"""Those of Okabe and Ito, which colour-blind readers tell apart, as far as they reach; where two
methods share one, `DASHES` differ."""

DASHES: dict[str, str | tuple[int, tuple[float, ...]]] = {
    GDM: "-",
    TRANSFORMER: (0, (7, 1.5)),
    "golden section": "-",
    "grid": ":",
    "CMA-ES": (0, (3, 1, 1, 1)),
    "Gaussian process": "-",
    "GP-TS-M": "--",
    "random": ":",
    "identify, then solve": "-.",
    POSTED: ":",
    "Bayesian posterior": "--",
    CEILING: "-",
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


def train_transformer_to(path: Path, *, smoke: bool) -> None:
    """Trains a transformer to decide with a progress bar and writes it; as `train_to`."""
    lessons = Lessons()
    if smoke:
        few = replace(lessons.prior, fleets=100)
        lessons = replace(lessons, prior=few, updates=20, batch=8, own=8, refreshes=1)
    chunk = 10 if smoke else 100
    with progress_bar(f"Train {path.stem}") as advance:
        transformer.save(path, train_transformer(TRAINING_SEED, lessons, advance, chunk=chunk))


def methods(weights: Path = SHIPPED, lessons: Path = transformer.SHIPPED) -> dict[str, Quoter]:
    """All that can be asked about any fleet, the GDM first, then those not told how devices decide.

    Args:
        weights: of the GDM.
        lessons: weights of the transformer, which is left out where there are none.

    Raises:
        MissingExtraError: the library of CMA-ES is not installed.
    """
    taught = {}
    if lessons.is_file():
        taught = {TRANSFORMER: Transformer(weights=transformer.load(lessons))}
    return {
        GDM: in_context(weights),
        **taught,
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


def with_ceiling(named: dict[str, Quoter]) -> dict[str, Quoter]:
    """Methods, and last what only fleets of the reference prior can be held against."""
    return {**named, CEILING: ToldPosterior()}
