"""Price, split and pay for the work of a mobile edge network.

The public API stands here, and each name loads what it needs when it is first used: a device
process must stay free of JAX, and `edgepact --help` must answer at once. The folders follow the
layers of the framework this package implements (Lai et al., arXiv 2312.12063): `efficiency`
leaves a variable open, `mechanisms` price it, `solvers` find the decision, `jobs`, `inference`,
`training` and `market` do the work and settle it; a pact is one choice of them all. Types of the
names are in `__init__.pyi`.
"""

from importlib import import_module
from typing import Any

from edgepact.compiled import have_programs_end

have_programs_end()

__version__ = "0.2.0"

_HOMES = {
    **dict.fromkeys(("load_study", "quote", "run", "solve", "study", "train"), "edgepact.api"),
    **dict.fromkeys(
        ("EdgepactError", "InputError", "InputWarning", "MarketError", "MissingExtraError"),
        "edgepact.errors",
    ),
    "Contract": "edgepact.mechanisms.contract.terms",
    "Diffusion": "edgepact.solvers.learners.diffusion",
    "Fleet": "edgepact.fleet",
    "Game": "edgepact.mechanisms.stackelberg.terms",
    "PPO": "edgepact.solvers.learners.ppo",
    "Payoff": "edgepact.problem",
    "Problem": "edgepact.problem",
    "Random": "edgepact.solvers.learners.random",
    "RunConfig": "edgepact.live.run_config",
    "TrainConfig": "edgepact.training.federated.config",
    **dict.fromkeys(("installed", "part", "parts"), "edgepact.registry"),
    "learn": "edgepact.solvers.learners.training",
}
"""Where each public name is at home."""

_ROOMS = ("pacts", "mechanisms", "solvers", "jobs", "studies")
"""Folders that are names of the front door too: `edgepact.pacts.partition_stackelberg.PACT`."""

_NAMES_THERE = {"learn": "train"}
"""What it is called there, where that differs."""

__all__ = [  # noqa: RUF022  (what is done, what is stated, how one learns, what goes wrong)
    "quote",
    "run",
    "solve",
    "study",
    "load_study",
    "train",
    "installed",
    "part",
    "parts",
    "Contract",
    "Fleet",
    "Game",
    "RunConfig",
    "TrainConfig",
    "Diffusion",
    "PPO",
    "Payoff",
    "Problem",
    "Random",
    "learn",
    "EdgepactError",
    "InputError",
    "InputWarning",
    "MarketError",
    "MissingExtraError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), _NAMES_THERE.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
