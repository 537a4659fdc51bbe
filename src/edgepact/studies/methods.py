"""The ways to quote that studies compare: the GDM in context and its rivals, as they ship."""

from dataclasses import replace
from pathlib import Path

from edgepact.palette import (
    AMBER_LINE,
    BLUE_LINE,
    BROWN_LINE,
    GREEN_LINE,
    GREY_LINE,
    INK_LINE,
    PURPLE_LINE,
    SKY_LINE,
    Look,
)
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

LOOKS: dict[str, Look] = {
    GDM: BLUE_LINE,
    TRANSFORMER: AMBER_LINE,
    "golden section": PURPLE_LINE,
    "GP-TS-M": GREEN_LINE,
    "CMA-ES": BROWN_LINE,
    "Gaussian process": SKY_LINE,
    "Bayesian posterior": INK_LINE,
    "grid": GREY_LINE,
    "identify, then solve": BROWN_LINE._replace(dashes=(0, (2, 1)), marker="d"),
    CEILING: PURPLE_LINE._replace(dashes=(0, (9, 2)), marker="p"),
    POSTED: AMBER_LINE._replace(dashes=":", marker="h"),
    "random": GREY_LINE._replace(dashes="--", marker="<"),
}
"""Eight colours are as many as anybody tells apart: those who share one do not meet in a panel, and
have other dashes and markers."""


QUOTE_CPU_S = {
    GDM: 0.0208,
    TRANSFORMER: 0.0010,
    "golden section": 0.0002,
    "grid": 0.0003,
    "CMA-ES": 0.0008,
    "Gaussian process": 0.0005,
    "GP-TS-M": 0.0008,
    "random": 0.0002,
    "identify, then solve": 0.0015,
    POSTED: 0.0002,
    "Bayesian posterior": 0.0065,
    CEILING: 0.0096,
}
"""CPU seconds of one quote and its answer, of fleets of 1 to 16 devices: means of both kinds of
layers on `docs/studies/quoting.md`, recorded in November 2026. Durations are reckoned from them."""


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
