"""What `edgepact train` is asked for, and what of it fits together."""

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepact.errors import InputError
from edgepact.fields import load_terms
from edgepact.files.scenario import SELECTORS
from edgepact.solvers.by_name import quoters
from edgepact.training.federated.aggregate import AGGREGATES
from edgepact.training.federated.engagement import MICRO
from edgepact.training.federated.rounds import (
    ROUNDS_MAX,
)
from edgepact.training.federated.simulated import CostRange
from edgepact.training.federated.task import SAMPLES, TaskConfig

if TYPE_CHECKING:
    pass

MECHANISMS = ("none", "contract", "auction", "stackelberg")

MENU_SOLVERS = ("optimum", "gdm")
"""Who writes a contract's menu: the exact optimum, or the diffusion model from frequencies."""

SOLVERS: dict[str, tuple[str, ...]] = {"contract": MENU_SOLVERS, "stackelberg": quoters()}
"""By mechanism, the default first; an auction's rule leaves nothing to solve."""

WEIGHT_SHARE_MAX = 4
"""A client's examples count up to this many times an even share of all images."""

BUDGET_CREDITS_MAX = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What `edgepact train` is asked for.

    Attributes:
        clients: in the fleet.
        rounds: to play in all.
        dirichlet: concentration of the labels over clients; infinity for an even split.
        mechanism: one of `MECHANISMS`.
        contract: file with cost types and what a rate is worth, for a contract and for a
            Stackelberg price; with an auction, clients bid on the rates of its optimal menu.
        solver: one of the mechanism's `SOLVERS`; None for the first.
        worth: credits an update is worth to the server, for a Stackelberg price without a file:
            clients then take part for the price or stay away, all at `rate`.
        rate: compression rate of everybody where no contract sets it.
        selector: one of `SELECTORS`; None for the mechanism's own choice.
        pay: credits for an update, without a mechanism; clients whom it costs more stay away.
        costs: least and largest cost of an update to a client, credits, without a contract.
        deadline_s: of a round, for FedCS; also what is not yet slow for an auction.
        per_round: clients that train in a round at most; None for all.
        aggregate: `fedavg` or `fedadam`.
        budget: most credits to promise in a round; None for no limit.
        task: what is trained.
        out: folder of the run.
        workers: processes of the simulation; None for one a core.
    """

    clients: int = 20
    rounds: int = 20
    dirichlet: float = 1.0
    mechanism: str = "none"
    contract: Path | None = None
    solver: str | None = None
    worth: float | None = None
    rate: float = 1.0
    per_round: int | None = None
    aggregate: str = "fedavg"
    budget: float | None = None
    selector: str | None = None
    pay: float = 0.0
    costs: tuple[float, float] = (0.5, 1.5)
    deadline_s: float | None = None
    task: TaskConfig = field(default_factory=TaskConfig)
    out: Path = Path("edgepact-train")
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.mechanism not in MECHANISMS:
            expected = f"one of {', '.join(MECHANISMS)}"
            raise InputError("train", "--mechanism", expected, self.mechanism)
        if self.aggregate not in AGGREGATES:
            expected = f"one of {', '.join(AGGREGATES)}"
            raise InputError("train", "--aggregate", expected, self.aggregate)
        self._expect_fitting()
        if not 0.0 < self.rate <= 1.0:
            raise InputError("train", "--rate", "a number above 0, at most 1", self.rate)
        if not 1 <= self.rounds <= ROUNDS_MAX:
            raise InputError("train", "--rounds", f"1 to {ROUNDS_MAX}", self.rounds)
        if self.per_round is not None and not 1 <= self.per_round <= self.clients:
            raise InputError("train", "--per-round", f"1 to {self.clients}", self.per_round)
        if self.budget is not None and not 0.0 <= self.budget <= BUDGET_CREDITS_MAX:
            expected = f"0 to {BUDGET_CREDITS_MAX:g} credits"
            raise InputError("train", "--budget", expected, self.budget)

    def _expect_fitting(self) -> None:
        """Refuses what does not fit together, and says why."""
        mechanism, selector = self.mechanism, self.selector
        if mechanism == "contract" and self.contract is None:
            expected = "a file with cost types, which --mechanism contract prices"
            raise InputError("train", "--contract", expected, "none")
        if (mechanism == "stackelberg" and self.contract is None) == (self.worth is None):
            expected = "with --mechanism stackelberg, and only there: either one of them"
            found = "neither" if self.worth is None else self.worth
            raise InputError("train", "--worth, --contract", expected, found)
        if self.worth is not None and not 0.0 < self.worth < BUDGET_CREDITS_MAX:
            expected = f"above 0, below {BUDGET_CREDITS_MAX:g} credits"
            raise InputError("train", "--worth", expected, self.worth)
        fitting = SOLVERS.get(mechanism, ())
        if self.solver is not None and self.solver not in fitting:
            expected = (
                f"one of {', '.join(fitting)} with --mechanism {mechanism}"
                if fitting
                else f"none: --mechanism {mechanism} leaves nothing to solve"
            )
            raise InputError("train", "--solver", expected, self.solver)
        if mechanism == "none" and self.contract is not None:
            expected = "--mechanism contract, auction or stackelberg beside a --contract file"
            raise InputError("train", "--mechanism", expected, "none")
        if self.contract is not None and self.rate != 1.0:
            expected = "no rate beside a contract: clients choose theirs"
            raise InputError("train", "--rate", expected, self.rate)
        if selector is not None and selector not in SELECTORS:
            raise InputError("train", "--selector", f"one of {', '.join(SELECTORS)}", selector)
        if selector == "auction" and mechanism != "auction":
            expected = "--mechanism auction, whose winners are selected"
            raise InputError("train", "--selector", expected, mechanism)
        if (
            mechanism == "auction"
            and self.contract is not None
            and selector not in (None, "auction")
        ):
            expected = "the auction's own choice where clients bid on rates"
            raise InputError("train", "--selector", expected, selector)
        if selector not in (None, "auction") and self.per_round is None:
            raise InputError("train", "--per-round", "how many a selector may choose", "nothing")
        if mechanism == "auction" and (self.contract is None) == (self.budget is None):
            expected = "credits a round for the auction of updates at one rate, and only for that"
            found = "nothing" if self.budget is None else self.budget
            raise InputError("train", "--budget", expected, found)
        if mechanism == "stackelberg" and (selector is not None or self.per_round is not None):
            expected = "nobody: who takes part is what the price decides"
            raise InputError("train", "--selector, --per-round", expected, "a selection beside it")
        if (self.selector == "fedcs") and self.deadline_s is None:
            raise InputError("train", "--deadline", "seconds of a round, for fedcs", "nothing")
        if self.deadline_s is not None and not 0.0 < self.deadline_s < 1e9:
            raise InputError("train", "--deadline", "seconds above 0", self.deadline_s)
        if self.pay and (mechanism != "none" or self.per_round is None):
            expected = "no pay beside a mechanism, and --per-round with it"
            raise InputError("train", "--pay", expected, self.pay)
        if not 0.0 <= self.pay <= BUDGET_CREDITS_MAX:
            expected = f"0 to {BUDGET_CREDITS_MAX:g} credits"
            raise InputError("train", "--pay", expected, self.pay)
        CostRange(low=self.costs[0], high=self.costs[1])

    @property
    def budget_microcredits(self) -> int | None:
        """The budget of a round."""
        return None if self.budget is None else round(self.budget * MICRO)

    def smoke(self) -> "TrainConfig":
        """The same in small: sample images, few clients, a short tower."""
        task = TaskConfig(
            data=SAMPLES,
            layers=2,
            public_images=40,
            warm_up_steps=4,
            test_images=60,
            steps=4,
            batch=16,
            seed=self.task.seed,
        )
        clients = min(self.clients, 4)
        per_round = None if self.per_round is None else min(self.per_round, clients)
        rounds = min(self.rounds, 2)
        return replace(self, task=task, clients=clients, per_round=per_round, rounds=rounds)

    def settings(self) -> dict[str, Any]:
        """What makes one run another run, as JSON values."""
        task = {name: getattr(self.task, name) for name in TaskConfig.__dataclass_fields__}
        digest = None
        if self.contract is not None:
            terms = json.dumps(load_terms(self.contract), sort_keys=True, default=str)
            digest = hashlib.sha256(terms.encode()).hexdigest()
        return {
            "clients": self.clients,
            "rounds": self.rounds,
            "dirichlet": "inf" if math.isinf(self.dirichlet) else self.dirichlet,
            "mechanism": self.mechanism,
            "contract_sha256": digest,
            "solver": self.solver,
            "worth_credits": self.worth,
            "rate": self.rate,
            "per_round": self.per_round,
            "aggregate": self.aggregate,
            "budget_microcredits": self.budget_microcredits,
            "selector": self.selector,
            "pay_credits": self.pay,
            "costs_credits": list(self.costs),
            "deadline_s": self.deadline_s,
            **{f"task.{name}": value for name, value in task.items()},
        }
