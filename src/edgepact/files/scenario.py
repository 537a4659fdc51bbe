"""One file for the whole framework: method, mechanism, solver and job, if they fit together.

The terms of the mechanism stand at the top, as in the files that `edgepact solve` reads; the
tables `[efficiency]`, `[solver]` and `[job]` say what else is chosen.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgepact.errors import InputError
from edgepact.fields import FRAMEWORK, Table, load, nearest, table_file
from edgepact.files import mechanism_of
from edgepact.solvers.quoters import OPTIMUM, QUOTERS

METHODS = ("partition", "compression", "selection")
JOBS = ("inference", "training")

SELECTORS = ("auction", "random", "fedcs", "oort", "power-of-choice")
"""Who chooses among the willing; the first is an auction's own rule."""

CREDITS_MAX = 1e9
ROUNDS_MAX = IMAGES_MAX = CLIENTS_MAX = 1000
DEVICES_MAX, LAYERS_MAX, SEED_MAX = 64, 48, 2**31 - 1


class Fit(NamedTuple):
    """What a pair of method and mechanism allows: the job, and solvers, the default first."""

    job: str
    solvers: tuple[str, ...]


EXACT = "exact"
"""The rule itself: an auction's winners and thresholds are computed, not searched."""

FITS = {
    ("partition", "stackelberg"): Fit("inference", (*QUOTERS, OPTIMUM)),
    ("compression", "contract"): Fit("training", (OPTIMUM, "gdm")),
    ("compression", "stackelberg"): Fit("training", tuple(QUOTERS)),
    ("compression", "auction"): Fit("training", (EXACT,)),
    ("selection", "auction"): Fit("training", (EXACT,)),
    ("selection", "stackelberg"): Fit("training", tuple(QUOTERS)),
}
"""Pairs that fit."""

MISFITS = {
    ("partition", "contract"): (
        "a live device answers a price with the layers that suit it now, and a menu of (layers, "
        "reward) would be fixed before its costs change; price layers with 'stackelberg'"
    ),
    ("partition", "auction"): (
        "an auction decides who gets a place, and every device of a partition has one; price "
        "layers with 'stackelberg'"
    ),
    ("selection", "contract"): (
        "a contract prices how much a client sends, and a selection asks only whether it trains; "
        "take 'compression', with a selector beside it"
    ),
}
"""Pairs that do not, and why."""

WRONG_JOB = {
    "partition": "a partition divides the model for an image; a client that trains has all of it",
    "compression": "it is updates of a training that are compressed; for a smaller model to infer "
    "with there is edgepact model compress",
    "selection": "clients are selected for a round of training; every image is somebody's own",
}
"""Why a method has the other job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Split inference on this machine.

    Attributes:
        rounds, images: to play, and images of each device in a round.
        devices: to draw; None where the file lists them.
        seed: of the fleet, the quotes and the order of images.
        model, images_from: folders; None for the embedded CLIP and its sample images.
    """

    rounds: int
    images: int
    devices: int | None
    seed: int
    model: Path | None
    images_from: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Federated training with simulated clients.

    Attributes:
        clients, rounds: how many.
        dirichlet: concentration of the labels.
        layers: of the image tower.
        data: a folder of Fashion-MNIST, or `samples`; None for Debian's.
        aggregate: how updates are put together.
        seed: of everything.
        cost_min, cost_max: of private costs where the terms state no types, credits.
        deadline_s: of a round, by the clients' simulated clocks; None for none.
        per_round: most that train in a round; None for all.
        selector: chooses among the willing; None for the mechanism itself.
        rate: of all updates where the mechanism prices none.
    """

    clients: int
    rounds: int
    dirichlet: float
    layers: int
    data: str | None
    aggregate: str
    seed: int
    cost_min: float
    cost_max: float
    deadline_s: float | None
    per_round: int | None
    selector: str | None
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario.

    Attributes:
        source: the file.
        method, mechanism, solver: their names.
        job: what is done, and how.
        terms: file with the mechanism's terms, a market's or a contract's; None if it needs none.
        worth: credits an update is worth, for a price that selects.
        budget: credits of a round, for an auction.
    """

    source: Path
    method: str
    mechanism: str
    solver: str
    job: Inference | Training
    terms: Path | None = None
    worth: float | None = None
    budget: float | None = None


def read_scenario(path: Path) -> Scenario:
    """Reads a scenario.

    The terms of a market or a contract are checked by their own readers, when they are used.

    Raises:
        InputError: the file is missing, not TOML, says something impossible, or chooses parts
            that do not fit together.
    """
    document = load(path)
    mechanism = mechanism_of(path)
    missing = [name for name in FRAMEWORK if name not in document]
    if len(missing) == len(FRAMEWORK):
        expected = "[efficiency], [solver] and [job]; a market alone is played with --fleet"
        raise InputError(path, "", expected, "none of them")
    for name in missing:
        slip = nearest(name, document)
        hint = f", but [{slip}]; did you mean [{name}]?" if slip else ""
        raise InputError(path, name, f"a table [{name}]", f"nothing{hint}")
    efficiency = Table(path, "efficiency", document["efficiency"])
    method = efficiency.choice("method", METHODS)
    fit = FITS.get((method, mechanism))
    if fit is None:
        expected = f"a mechanism for {method}"
        raise InputError(path, "mechanism", expected, f"{mechanism}: {MISFITS[method, mechanism]}")
    job = Table(path, "job", document["job"])
    named = job.choice("name", JOBS)
    if named != fit.job:
        raise InputError(path, "job.name", fit.job, f"{named}: {WRONG_JOB[method]}")
    solver = _solver(path, document["solver"], mechanism, fit)
    read: Inference | Training
    if named == "inference":
        read = _inference(path, document, efficiency, job)
    else:
        read = _training(path, efficiency, job, method, mechanism)
    efficiency.close()
    job.close()
    terms = _terms(path, document, method, mechanism)
    return Scenario(
        source=path, method=method, mechanism=mechanism, solver=solver, job=read, **terms
    )


def _solver(path: Path, values: Any, mechanism: str, fit: Fit) -> str:
    table = Table(path, "solver", values)
    every = tuple(dict.fromkeys((*QUOTERS, OPTIMUM, EXACT)))
    name = table.choice("name", every, fit.solvers[0])
    table.close()
    if name not in fit.solvers:
        reason = {
            "auction": "the rule's thresholds are exact for any bids, so nothing is left to search",
            "contract": "a menu is many numbers that must fit each other; searches of one do not",
            "stackelberg": "a price is searched, or computed from what is private; no rule gives it"
            if name == EXACT
            else "clients' costs are theirs: nobody could compute the optimum",
        }[mechanism]
        raise InputError(
            path, "solver.name", f"one of {', '.join(fit.solvers)}", f"{name}: {reason}"
        )
    return name


def _terms(path: Path, document: dict[str, Any], method: str, mechanism: str) -> dict[str, Any]:
    """Fields of `Scenario` for what stands at the top of the file."""
    if mechanism == "contract":
        return {"terms": path}
    if method == "partition":
        stated = {name for name in document if name not in (*FRAMEWORK, "mechanism")}
        return {"terms": path} if stated else {}
    top = Table(path, "", {name: document[name] for name in document if name not in FRAMEWORK})
    top.choice("mechanism", (mechanism,))
    found: dict[str, Any] = {}
    if mechanism == "auction":
        rule = {"selection": "proportional_share", "compression": "second_score"}[method]
        top.choice("rule", (rule,))
    if method == "compression":
        found["terms"] = table_file(path, "terms", top.text("terms", ""))
    elif mechanism == "auction":
        found["budget"] = _at_most(path, "budget", top.number("budget", above=0.0))
    else:
        found["worth"] = _at_most(path, "worth", top.number("worth", above=0.0))
    top.close()
    return found


def _inference(path: Path, document: dict[str, Any], efficiency: Table, job: Table) -> Inference:
    listed = "device" in document or "devices" in document
    if listed and "devices" in job:
        found = document["job"]["devices"]
        raise InputError(path, "job.devices", "nothing beside listed devices", found)
    return Inference(
        rounds=job.whole("rounds", 12, least=1, most=ROUNDS_MAX),
        images=job.whole("images", 12, least=1, most=IMAGES_MAX),
        devices=None if listed else job.whole("devices", 5, least=1, most=DEVICES_MAX),
        seed=job.whole("seed", 0, least=0, most=SEED_MAX),
        model=path.parent / efficiency.text("model", "") if "model" in efficiency else None,
        images_from=path.parent / job.text("images_from", "") if "images_from" in job else None,
    )


def _training(path: Path, efficiency: Table, job: Table, method: str, mechanism: str) -> Training:
    clients = job.whole("clients", 20, least=1, most=CLIENTS_MAX)
    per_round = None
    if "per_round" in efficiency:
        per_round = efficiency.whole("per_round", least=1, most=clients)
    rate = 1.0
    if method == "selection":
        rate = _at_most(path, "efficiency.rate", efficiency.number("rate", 1.0, above=0.0), 1.0)
    return Training(
        clients=clients,
        rounds=job.whole("rounds", 20, least=1, most=ROUNDS_MAX),
        dirichlet=_dirichlet(job),
        layers=job.whole("layers", 4, least=1, most=LAYERS_MAX),
        data=job.text("data", "") if "data" in job else None,
        aggregate=job.choice("aggregate", ("fedavg", "fedadam"), "fedavg"),
        seed=job.whole("seed", 0, least=0, most=SEED_MAX),
        cost_min=job.number("cost_min", 0.5, least=0.0),
        cost_max=job.number("cost_max", 1.5, least=0.0),
        deadline_s=job.number("deadline_s", above=0.0) if "deadline_s" in job else None,
        per_round=per_round,
        selector=_selector(path, efficiency, mechanism),
        rate=rate,
    )


def _dirichlet(job: Table) -> float:
    # Infinity stands for an even split.
    if job.is_infinite("dirichlet"):
        return math.inf
    return job.number("dirichlet", 1.0, above=0.0)


def _selector(path: Path, efficiency: Table, mechanism: str) -> str | None:
    if "selector" not in efficiency:
        return None
    if mechanism == "stackelberg":
        expected = "none: who takes part is what the price decides"
        raise InputError(path, "efficiency.selector", expected, "one")
    options = SELECTORS if mechanism == "auction" else SELECTORS[1:]
    return efficiency.choice("selector", options)


def _at_most(path: Path, field: str, value: float, most: float = CREDITS_MAX) -> float:
    if value > most:
        raise InputError(path, field, f"at most {most:g}", value)
    return value
