"""Settings of a federated training in words, values and limits: said once, for every way in.

`TrainSettings` is what every way states alike; `TrainConfig` adds what training itself needs, such
as a contract that has been read, and `TrainOptions` the same as a command line says it. The command
line loads this module before it knows what it is asked, so it imports nothing large.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepact.errors import InputError
from edgepact.settings import check, same, setting
from edgepact.training.federated.task_config import TaskConfig
from edgepact.training.federated.work import PRICED, Priced

CLIENTS_MAX = ROUNDS_MAX = 1000

WORKERS_MAX = 64
"""Most processes that play clients."""

BUDGET_CREDITS_MAX = 1e9

MECHANISMS = ("none", "contract", "auction", "stackelberg")

AGGREGATE_NAMES = ("fedavg", "fedadam")
"""Ways to put updates together; `aggregate.AGGREGATES` has them."""

SELECTORS = ("auction", "random", "fedcs", "oort", "power-of-choice")
"""Who chooses among the willing; the first is an auction's own rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What every way of asking for a federated training states alike.

    Raises:
        InputError: of the source `train` and the field that cannot be.
    """

    SOURCE: ClassVar[str] = "train"

    clients: int = setting("Clients in the fleet.", default=20, least=1, most=CLIENTS_MAX)
    rounds: int = setting(
        "Rounds in all, those of an earlier run included.", default=20, least=1, most=ROUNDS_MAX
    )
    dirichlet: float = setting(
        "How evenly labels are spread: 0.1 hardly, 1 unevenly, inf evenly.",
        default=1.0,
        above=0,
        infinite=True,
    )
    mechanism: str = setting(
        "Who trains for what: none, contract (a menu), auction (bids) or stackelberg "
        "(a price for taking part, or for each step of the rate).",
        default="none",
        choices=MECHANISMS,
    )
    priced: Priced = setting(
        "What a contract's qualities are: rate, of compression, or epochs that a client trains.",
        default="rate",
        choices=PRICED,
    )
    solver: str | None = setting(
        "Who decides: a contract's menu by optimum or gdm; a posted price by gdm, golden-section, "
        "grid, cma-es, gaussian-process or random [default: the first]"
    )
    worth: float | None = setting(
        "With stackelberg, instead of a contract: credits an update is worth; clients take part "
        "for the price or stay away.",
        above=0,
        most=BUDGET_CREDITS_MAX,
    )
    rate: float = setting(
        "Without a contract: share of the bytes of float32 an update takes.",
        default=1.0,
        above=0,
        most=1,
    )
    per_round: int | None = setting(
        "Most clients that train in a round [default: all]", least=1, most=CLIENTS_MAX
    )
    budget: float | None = setting(
        "Most credits to promise in a round [default: no limit]", least=0, most=BUDGET_CREDITS_MAX
    )
    selector: str | None = setting(
        "Who is chosen of the willing: random, fedcs, oort, power-of-choice, or auction: "
        "the winners [default: the mechanism's own choice]",
        choices=SELECTORS,
    )
    pay: float = setting(
        "Without a mechanism: credits for each accepted update.",
        default=0.0,
        least=0,
        most=BUDGET_CREDITS_MAX,
    )
    deadline_s: float | None = setting(
        "Seconds that a round may take, by the clients' simulated clocks.",
        flag="--deadline",
        above=0,
        most=BUDGET_CREDITS_MAX,
    )
    aggregate: str = setting(
        "How updates are put together: fedavg or fedadam.",
        default="fedavg",
        choices=AGGREGATE_NAMES,
    )
    out: Path = setting(
        "Folder of the run; the same again resumes.", default=Path("edgepact-train")
    )
    workers: int | None = setting(
        "Processes that play clients [default: one a core]", least=1, most=WORKERS_MAX
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(TrainSettings):
    """A federated training as `edgepact train` is told it; `config_of` makes it the settings.

    Raises:
        InputError: of the source `train` and the field that cannot be.
    """

    contract: Path | None = setting("Cost types and value, in TOML.", metavar="FILE")
    cost_min: float = setting(
        "Least private cost of an update, without a contract.",
        default=0.5,
        least=0,
        most=BUDGET_CREDITS_MAX,
    )
    cost_max: float = setting(
        "Largest private cost of an update, likewise.",
        default=1.5,
        least=0,
        most=BUDGET_CREDITS_MAX,
    )
    data: str = same(TaskConfig, "data")
    layers: int = same(TaskConfig, "layers")
    seed: int = same(TaskConfig, "seed")
    smoke: bool = setting("Train in small: sample images, four clients, two rounds.", default=False)

    def __post_init__(self) -> None:
        check(self)
        if self.cost_min > self.cost_max:
            found = f"{self.cost_min:g}, {self.cost_max:g}"
            raise InputError(self.SOURCE, "cost_min, cost_max", "the first up to the second", found)
