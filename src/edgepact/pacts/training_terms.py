"""Terms of the pacts whose job is federated training, as a scenario file states them.

The top of the file says what the mechanism needs, which is each pact's own; the tables
`[efficiency]`, `[solver]` and `[job]` mean the same in all of them and are read here, into the
settings that training takes (`TrainConfig`). Whatever does not fit together is found there, and
told by the names of the file's fields.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.fields import FRAMEWORK, Table, table_file
from edgepact.framework import Document, Pact
from edgepact.mechanisms.contract.terms import Contract
from edgepact.settings import fields_in
from edgepact.training.federated.config import (
    EXACT,
    PricedContract,
    TrainConfig,
    stated_in,
)
from edgepact.training.federated.options import TrainOptions, TrainSettings
from edgepact.training.federated.simulated import Simulated
from edgepact.training.federated.task_config import TaskConfig

JOB = "training"

SPELT = {
    "mechanism": "mechanism",
    "contract": "terms",
    "worth": "worth",
    "budget": "budget",
    "solver": "solver.name",
    "rate": "efficiency.rate",
    "per_round": "efficiency.per_round",
    "selector": "efficiency.selector",
    "deadline_s": "job.deadline_s",
    "costs": "job.cost_min, job.cost_max",
}
"""Where a scenario states a setting that is no field of `[job]` by its own name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingTerms:
    """What a scenario states of a training.

    Attributes:
        source: the file.
        config: settings of the training.
        solver: name of the solver.
    """

    source: Path
    config: TrainConfig
    solver: str

    @property
    def contract(self) -> Contract:
        """Cost types and value; of a pact that has them."""
        assert self.config.contract is not None
        return self.config.contract.contract

    @contextmanager
    def stated(self) -> Iterator[None]:
        """Has errors in settings name the fields of the file."""
        with stated_in(self.source, SPELT, "job.{}"):
            yield

    def fleet(self) -> Simulated:
        """The simulated clients: private costs in it are for whoever looks on."""
        from edgepact.training.federated.composition import fleet_of

        return fleet_of(self.config)


def read_training(
    pact: Pact, source: Path, document: Document, *, smoke: bool, **mechanism: Any
) -> TrainingTerms:
    """Reads the three tables, beside what the pact has read of its mechanism.

    Args:
        pact: whose terms they are.
        source: the file.
        document: all of it.
        smoke: in small.
        mechanism: settings of `TrainConfig` that the top of the file states.

    Raises:
        InputError: a table or field is missing, misspelt, out of range, or does not fit.
    """
    solvers = Table(source, "solver", document.get("solver", {}))
    solver = solvers.choice("name", pact.solvers, pact.solvers[0])
    solvers.close()
    job = _job(source, document)
    efficiency = _efficiency(pact, source, document)
    with stated_in(source, SPELT, "job.{}"):
        config = TrainConfig(
            mechanism=pact.mechanism,
            solver=None if solver == EXACT else solver,
            **job,
            **efficiency,
            **mechanism,
        )
    config = config.smoke() if smoke else config
    return TrainingTerms(source=source, config=config, solver=solver)


def top_of(source: Path, document: Document, mechanism: str) -> Table:
    """What stands above the tables, without the name of the mechanism."""
    top = Table(
        source, "", {name: each for name, each in document.items() if name not in FRAMEWORK}
    )
    top.choice("mechanism", (mechanism,))
    return top


def terms_file(source: Path, top: Table) -> PricedContract:
    """Cost types and value from the file that the field `terms` names."""
    return PricedContract.read(table_file(source, "terms", top.text("terms", "")))


def _efficiency(pact: Pact, source: Path, document: Document) -> dict[str, Any]:
    table = Table(source, "efficiency", document["efficiency"])
    table.choice("method", (pact.method,))
    names = ["per_round", "selector"]
    if pact.compress is not None:
        table.choice("compress", (pact.compress,), pact.compress)
    else:
        names.append("rate")
    found = fields_in(TrainSettings, table, *names)
    table.close()
    return found


def _job(source: Path, document: Document) -> dict[str, Any]:
    """Fields of `TrainConfig`, its task among them."""
    table = Table(source, "job", document["job"])
    table.choice("name", (JOB,))
    names = ("clients", "rounds", "dirichlet", "aggregate", "deadline_s")
    found = fields_in(TrainSettings, table, *names)
    found["task"] = TaskConfig(**fields_in(TaskConfig, table, "layers", "data", "seed"))
    costs = fields_in(TrainOptions, table, "cost_min", "cost_max")
    usual = TrainConfig().costs
    found["costs"] = costs.get("cost_min", usual[0]), costs.get("cost_max", usual[1])
    table.close()
    return found
