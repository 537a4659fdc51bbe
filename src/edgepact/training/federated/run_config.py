"""The run config of a Flower deployment as settings: everything is honoured, or refused in words.

Flower overrides only what an app folder lists, so that its file states all of these. A value that
stands for nothing (an empty text, or a number that cannot be one) leaves a setting out:

================  ===================================================================
`contract`        file on the server with cost types; `""` for none
`priced`          what the contract's qualities are: `rate` or `epochs`
`solver`          of the mechanism; `""` for the first
`selector`        who chooses among the willing; `""` for the mechanism's own choice
`per-round`       most that train in a round; 0 for all
`budget`          credits of a round; -1 for no limit
`worth`           credits of an update, for a posted price without a contract; 0 for none
`pay`             credits of an update without a mechanism; 0 for none
`deadline`        seconds of a round; 0 for none
================  ===================================================================

`clients`, `rounds`, `dirichlet`, `mechanism`, `rate`, `aggregate`, `out`, and of the task `data`,
`layers`, `public-images`, `warm-up-steps`, `test-images`, `steps`, `batch`, `learning-rate`,
`weight-decay`, `shift-pixels` and `seed` are those of `TrainConfig` and `TaskConfig`. What clients'
work costs them is in their node configs, and no setting of the run.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgepact.errors import InputError
from edgepact.fields import check_choice, check_number, check_text, check_whole, nearest
from edgepact.settings import settings_of
from edgepact.training.federated.config import PricedContract, TrainConfig, stated_in
from edgepact.training.federated.options import CLIENTS_MAX, ROUNDS_MAX
from edgepact.training.federated.task_config import TaskConfig
from edgepact.training.federated.work import PRICED, Priced

SOURCE = "run config"

RunConfig = Mapping[str, Any]
"""Settings as Flower has them: texts, numbers and flags by name."""

DEFAULTS = TrainConfig()

TASK = {each.name.replace("_", "-"): each.name for each in settings_of(TaskConfig)}

NAMES = (
    "clients",
    "rounds",
    "dirichlet",
    "mechanism",
    "contract",
    "priced",
    "solver",
    "worth",
    "rate",
    "per-round",
    "aggregate",
    "budget",
    "selector",
    "pay",
    "deadline",
    "out",
    *TASK,
)
"""Everything that a run config may say."""

SPELT = {"deadline_s": "deadline"}


class Shared(NamedTuple):
    """What both sides need of a run: its task, and how the data are split."""

    task: TaskConfig
    clients: int
    dirichlet: float


def read_shared(run: RunConfig) -> Shared:
    """What a client needs; the mechanism is the server's business.

    Raises:
        InputError: a setting is out of range.
    """
    with stated_in(SOURCE, SPELT):
        return Shared(
            task=_task(run),
            clients=_whole(run, "clients", 2, least=1, most=CLIENTS_MAX),
            dirichlet=_dirichlet(run),
        )


def read_run_config(run: RunConfig) -> TrainConfig:
    """The settings of a run.

    Raises:
        InputError: a setting is unknown, out of range, or does not fit the others.
    """
    for name in run:
        if name not in NAMES:
            near = nearest(name, NAMES)
            expected = f"one of {', '.join(NAMES)}" if near is None else near
            raise InputError(SOURCE, name, expected, "this setting")
    shared = read_shared(run)
    contract, budget = _text(run, "contract"), _number(run, "budget", -1.0)
    word = check_choice(SOURCE, "priced", run.get("priced", "rate"), PRICED)
    priced: Priced = "epochs" if word == "epochs" else "rate"
    with stated_in(SOURCE, SPELT):
        return TrainConfig(
            clients=shared.clients,
            rounds=_whole(run, "rounds", 3, least=1, most=ROUNDS_MAX),
            dirichlet=shared.dirichlet,
            mechanism=_text(run, "mechanism") or DEFAULTS.mechanism,
            contract=None
            if contract is None
            else PricedContract.read(Path(contract), priced=priced),
            priced=priced,
            solver=_text(run, "solver"),
            worth=_number(run, "worth", 0.0) or None,
            rate=_number(run, "rate", DEFAULTS.rate),
            per_round=_whole(run, "per-round", 0, least=0, most=CLIENTS_MAX) or None,
            aggregate=_text(run, "aggregate") or DEFAULTS.aggregate,
            budget=None if budget < 0.0 else budget,
            selector=_text(run, "selector"),
            pay=_number(run, "pay", 0.0),
            deadline_s=_number(run, "deadline", 0.0) or None,
            task=shared.task,
            out=Path(_text(run, "out") or "edgepact-train"),
        )


def _task(run: RunConfig) -> TaskConfig:
    stated: dict[str, Any] = {}
    for name, field in TASK.items():
        if name not in run:
            continue
        default = getattr(DEFAULTS.task, field)
        if isinstance(default, str):
            stated[field] = check_text(SOURCE, name, run[name])
        elif isinstance(default, int):
            stated[field] = check_whole(SOURCE, name, run[name], least=0, most=2**31 - 1)
        else:
            stated[field] = check_number(SOURCE, name, run[name])
    return TaskConfig(**stated)


def _dirichlet(run: RunConfig) -> float:
    # Infinity, an even split, is no finite number.
    stated = run.get("dirichlet", DEFAULTS.dirichlet)
    return math.inf if stated == math.inf else check_number(SOURCE, "dirichlet", stated, above=0.0)


def _text(run: RunConfig, name: str) -> str | None:
    """A text; None where there is none."""
    value = run.get(name, "")
    return None if value == "" else check_text(SOURCE, name, value)


def _number(run: RunConfig, name: str, default: float) -> float:
    return check_number(SOURCE, name, run.get(name, default))


def _whole(run: RunConfig, name: str, default: int, *, least: int, most: int) -> int:
    return check_whole(SOURCE, name, run.get(name, default), least=least, most=most)
