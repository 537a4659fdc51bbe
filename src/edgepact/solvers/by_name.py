"""Solvers by the names that options and scenario files use, as parts that can be listed.

Each is made when it is asked for, so that names can be listed without loading what is behind
them. Ways to quote that must be told how devices decide have no names: they are rivals of
studies, in `known_form`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from edgepact.errors import InputError, shown
from edgepact.framework import Solver
from edgepact.registry import part, parts
from edgepact.solvers.quoter import Quoter

DEFAULT = "gdm"
"""The diffusion model comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A solver as a part.

    Attributes:
        name: as options and files spell it.
        about: one sentence.
        made: by mechanism, `module:name` of what is called for the solver.
        finds: by mechanism, `module:name` of the function that finds the decision itself.
        sees_costs: whether it must be shown what is private, as a yardstick is.
    """

    name: str
    about: str
    made: Mapping[str, str] = field(default_factory=dict)
    finds: Mapping[str, str] = field(default_factory=dict)
    sees_costs: bool = False

    @property
    def decides(self) -> tuple[str, ...]:
        """Mechanisms whose decisions it finds."""
        return (*self.made, *self.finds)

    def make(self, mechanism: str) -> Any:
        """A `Quoter` of prices, or a function: contract to menu, game to outcome, auction and bids
        to award.

        Raises:
            InputError: it finds no decisions of this mechanism.
        """
        if mechanism in self.made:
            return _loaded(self.made[mechanism])()
        if mechanism in self.finds:
            return _loaded(self.finds[mechanism])
        expected = f"a mechanism that it decides for: {', '.join(self.decides)}"
        raise InputError("solver", self.name, expected, shown(mechanism))


def quoters() -> tuple[str, ...]:
    """Names of the installed solvers that post prices and see no private costs, `gdm` first."""
    return solvers_of("stackelberg", sees_costs=False)


def solvers_of(mechanism: str, *, sees_costs: bool | None = None) -> tuple[str, ...]:
    """Names of the installed solvers that decide for a mechanism, `gdm` first.

    Args:
        mechanism: its name.
        sees_costs: only those that are shown private costs, or only others; None for all.
    """
    found = [
        name
        for name, solver in parts("solvers").items()
        if mechanism in solver.decides and sees_costs in (None, solver.sees_costs)
    ]
    return tuple(sorted(found, key=lambda name: (name != DEFAULT, name)))


def quoter(name: str, *, source: object = "solver", field: str = "name") -> Quoter:
    """The way to quote of a name.

    Args:
        name: one of `quoters()`.
        source, field: where the name was read, for errors.

    Raises:
        InputError: no such solver posts prices.
    """
    if name not in quoters():
        raise InputError(source, field, f"one of {', '.join(quoters())}", shown(name))
    made: Quoter = _solver(name).make("stackelberg")
    return made


def award(auction: Any, bids: Any) -> Any:
    """What an auction's own rule says of bids; nothing is left to search."""
    return auction.award(bids)


def _solver(name: str) -> Solver:
    found: Solver = part("solvers", name)
    return found


def _loaded(path: str) -> Any:
    module, _, name = path.partition(":")
    value: Any = import_module(module)
    for each in name.split("."):
        value = getattr(value, each)
    return value


GDM = Named(
    name="gdm",
    about="The diffusion model that generates what is private and decides in context.",
    made={"stackelberg": "edgepact.solvers.in_context.pricing:InContext.shipped"},
    finds={"contract": "edgepact.solvers.in_context.menus:gdm_menu"},
)
GOLDEN_SECTION = Named(
    name="golden-section",
    about="Shrinks a bracket of prices by the golden ratio, right where there is one peak.",
    made={"stackelberg": "edgepact.solvers.search.golden_section:GoldenSection"},
)
GRID = Named(
    name="grid",
    about="Tries a grid of prices from coarse to fine, then keeps to the best.",
    made={"stackelberg": "edgepact.solvers.search.grid:GridSearch"},
)
CMA_ES = Named(
    name="cma-es",
    about="An evolution strategy over prices whose step size adapts; needs edgepact[rivals].",
    made={"stackelberg": "edgepact.solvers.search.cma_es:CMAES"},
)
GAUSSIAN_PROCESS = Named(
    name="gaussian-process",
    about="Bayesian optimisation: posts the price of the largest expected improvement.",
    made={"stackelberg": "edgepact.solvers.search.gaussian_process:GaussianProcess"},
)
RANDOM = Named(
    name="random",
    about="Draws a price from all that may be posted, whatever was seen.",
    made={"stackelberg": "edgepact.solvers.search.random_quotes:RandomQuotes"},
)
OPTIMUM = Named(
    name="optimum",
    about="The exact best decision: a price from all private costs, a menu from the types.",
    finds={
        "stackelberg": "edgepact.mechanisms.stackelberg.optimum:equilibrium",
        "contract": "edgepact.mechanisms.contract.optimum:optimal_menu",
    },
    sees_costs=True,
)
EXACT = Named(
    name="exact",
    about="The auction's own rule: winners and thresholds are computed, not searched.",
    finds={"auction": "edgepact.solvers.by_name:award"},
)
