"""What a federated training is asked for, and what of it fits together.

There is one settings object, whoever states the settings: the options of `edgepact train`, the
tables of a scenario file, or the run config of a Flower deployment. What all of them state alike is
described in `options`; what of it fits together is checked here. Errors name the object's own
fields; each of the three says in one place how it spells them (`stated_in`).
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepact.credits import MICRO
from edgepact.errors import InputError, shown
from edgepact.fields import load, terms_in
from edgepact.files.contract import contract_of
from edgepact.mechanisms.contract.terms import Contract
from edgepact.settings import settings_of
from edgepact.solvers.by_name import quoters
from edgepact.training.federated.options import TrainOptions, TrainSettings
from edgepact.training.federated.simulated import CostRange
from edgepact.training.federated.task_config import SAMPLES, TaskConfig
from edgepact.training.federated.work import RATES, Priced, Variable
from edgepact.typed import expect_types

EXACT = "exact"
"""The rule itself: an auction's winners and thresholds are computed, not searched."""

LEARNT = "gdm"
"""The diffusion model, which learns from round to round."""

SOLVERS: dict[str, tuple[str, ...]] = {
    "contract": ("optimum", LEARNT),
    "stackelberg": quoters(),
    "auction": (EXACT, LEARNT),
}
"""By mechanism, the default first. A menu is the exact one for the frequencies that are stated, or
for those that past take-up tells; an auction is held by its rule, as it is or with ceilings on pay
that past bids tell."""

WEIGHT_SHARE_MAX = 4
"""A client's examples count up to this many times an even share of all images."""

SETTINGS = ("train", "task")
"""Sources that errors name whose fields are settings."""


@contextmanager
def stated_in(source: object, spelt: Mapping[str, str], otherwise: str = "{}") -> Iterator[None]:
    """Has errors in settings name the place where they were stated.

    Args:
        source: file or command.
        spelt: how it spells fields of `TrainConfig` and `TaskConfig`.
        otherwise: how it spells all others, with `{}` for the field in hyphens.

    Raises:
        InputError: an error in the settings, in these words.
    """
    try:
        yield
    except InputError as error:
        if error.source not in SETTINGS:
            raise
        fields = [
            spelt.get(name, otherwise.format(name.replace("_", "-")))
            for name in error.field.split(", ")
        ]
        raise InputError(source, ", ".join(fields), error.expected, error.found) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PricedContract:
    """A contract as a file states it, to train by.

    Attributes:
        contract: its qualities are amounts.
        sha256: of what the file states, which tells one run from another.
    """

    contract: Contract
    sha256: str

    @classmethod
    def read(cls, source: Path, *, priced: Priced = "rate") -> "PricedContract":
        """Of a file.

        Raises:
            InputError: as `of`, and if there is no such file.
        """
        return cls.of(source, load(source), priced=priced)

    @classmethod
    def of(
        cls, source: Path, document: Mapping[str, Any], *, priced: Priced = "rate"
    ) -> "PricedContract":
        """Of a document; the tables of a scenario beside it are passed over.

        Raises:
            InputError: it states no contract, its types have several costs, or qualities can be no
                amounts.
        """
        contract = contract_of(source, document)
        if not isinstance(contract, Contract):
            raise InputError(source, "type.cost", "one cost a type, to train by", "several")
        most = Variable(priced=priced).amount_max
        if contract.quality_max > most:
            kind = "a compression rate" if priced == "rate" else "epochs"
            expected = f"{kind}, at most {most:g}"
            raise InputError(source, "quality_max", expected, contract.quality_max)
        text = json.dumps(terms_in(document), sort_keys=True, default=str)
        return cls(contract=contract, sha256=hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(TrainSettings):
    """What a federated training is asked for.

    Attributes:
        clients: in the fleet.
        rounds: to play in all.
        dirichlet: concentration of the labels over clients; infinity for an even split.
        mechanism: one of `options.MECHANISMS`.
        contract: cost types and what an amount is worth, for a contract and for a Stackelberg
            price; with an auction, clients bid on the rates of its optimal menu.
        priced: the variable that the contract's qualities are.
        solver: one of the mechanism's `SOLVERS`; None for the first.
        worth: credits an update is worth to the server, for a Stackelberg price without a contract:
            clients then take part for the price or stay away, all at `rate`; and for an auction
            with ceilings on pay, where that is what a typical one is worth.
        rate: compression rate of everybody where no contract sets it.
        selector: one of `options.SELECTORS`; None for the mechanism's own choice.
        pay: credits for an update, without a mechanism; clients whom it costs more stay away.
        costs: least and largest cost of an update to a simulated client, credits, without a
            contract.
        deadline_s: seconds of a round, for FedCS; also what is not yet slow for an auction.
        per_round: clients that train in a round at most; None for all.
        aggregate: `fedavg` or `fedadam`.
        budget: most credits to promise in a round; None for no limit.
        task: what is trained.
        out: folder of the run.
        workers: processes of the simulation; None for one a core.

    Raises:
        InputError: of the source `train` and the field that cannot be.
    """

    contract: PricedContract | None = None
    costs: tuple[float, float] = (0.5, 1.5)
    task: TaskConfig = field(default_factory=TaskConfig)

    def __post_init__(self) -> None:
        expect_types(self.SOURCE, self)
        self._expect_mechanism_whole()
        self._expect_selection_fitting()
        if self.per_round is not None and self.per_round > self.clients:
            _refuse("per_round", f"1 to {self.clients}", self.per_round)
        CostRange(low=self.costs[0], high=self.costs[1])

    def _expect_mechanism_whole(self) -> None:
        """Refuses a mechanism without its terms, or terms without their mechanism."""
        mechanism, contract = self.mechanism, self.contract
        if mechanism == "contract" and contract is None:
            _refuse("contract", "a file with cost types, which mechanism contract prices", "none")
        ceilings = mechanism == "auction" and self.learns
        valued = mechanism == "stackelberg" or ceilings
        if (valued and contract is None) == (self.worth is None):
            expected = (
                f"with mechanism stackelberg, or auction and solver {LEARNT}, and only there: "
                "either one of them"
            )
            _refuse("worth, contract", expected, "neither" if self.worth is None else self.worth)
        if ceilings and self.selector not in (None, "auction"):
            expected = f"{EXACT} beside a selector, with which the auction decides nothing"
            _refuse("solver", expected, shown(self.solver))
        fitting = SOLVERS.get(mechanism, ())
        if self.solver is not None and self.solver not in fitting:
            expected = (
                f"one of {', '.join(fitting)} with mechanism {mechanism}"
                if fitting
                else f"none: mechanism {mechanism} leaves nothing to solve"
            )
            _refuse("solver", expected, shown(self.solver))
        if mechanism == "none" and contract is not None:
            expected = "contract, auction or stackelberg beside a file with cost types"
            _refuse("mechanism", expected, shown(mechanism))
        if contract is not None and self.priced == "rate" and self.rate != 1.0:
            _refuse("rate", "no rate beside a contract: clients choose theirs", self.rate)
        if self.priced == "epochs" and mechanism != "contract":
            _refuse(
                "priced",
                "rate: local work is priced by mechanism contract only",
                shown(self.priced),
            )
        if mechanism == "auction" and (contract is None) == (self.budget is None):
            expected = "credits a round for the auction of updates at one rate, and only for that"
            _refuse("budget", expected, "nothing" if self.budget is None else self.budget)

    def _expect_selection_fitting(self) -> None:
        """Refuses a selection that the mechanism has no room for."""
        mechanism, selector = self.mechanism, self.selector
        if selector == "auction" and mechanism != "auction":
            _refuse("selector", "mechanism auction, whose winners are selected", shown(mechanism))
        of_others = selector not in (None, "auction")
        if of_others and mechanism == "auction" and self.contract is not None:
            _refuse(
                "selector", "the auction's own choice where clients bid on rates", shown(selector)
            )
        if mechanism == "stackelberg" and (selector is not None or self.per_round is not None):
            expected = "nobody: who takes part is what the price decides"
            _refuse("selector, per_round", expected, "a selection beside it")
        if of_others and self.per_round is None:
            _refuse("per_round", "how many a selector may choose", "nothing")
        if selector == "fedcs" and self.deadline_s is None:
            _refuse("deadline_s", "seconds of a round, for fedcs", "nothing")
        if self.pay and (mechanism != "none" or self.per_round is None):
            _refuse("pay", "no pay beside a mechanism, and a number of clients a round", self.pay)

    @property
    def learns(self) -> bool:
        """Whether menus, prices or ceilings follow from what was seen in earlier rounds."""
        return self.solver == LEARNT

    @property
    def budget_microcredits(self) -> int | None:
        """The budget of a round."""
        return None if self.budget is None else round(self.budget * MICRO)

    @property
    def variable(self) -> Variable:
        """What an amount of the mechanism is."""
        return RATES if self.priced == "rate" else Variable(priced="epochs", rate=self.rate)

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
        task = asdict(self.task)
        return {
            "clients": self.clients,
            "rounds": self.rounds,
            "dirichlet": "inf" if math.isinf(self.dirichlet) else self.dirichlet,
            "mechanism": self.mechanism,
            "contract_sha256": None if self.contract is None else self.contract.sha256,
            # Nothing in folders of earlier versions, where rates were the only choice.
            "priced": None if self.priced == "rate" else self.priced,
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


def config_of(options: TrainOptions) -> TrainConfig:
    """The settings that a command line tells of.

    Raises:
        InputError: they do not fit together, or the contract cannot be read.
    """
    alike = {each.name: getattr(options, each.name) for each in settings_of(TrainSettings)}
    file = options.contract
    config = TrainConfig(
        **alike,
        contract=None if file is None else PricedContract.read(file, priced=options.priced),
        costs=(options.cost_min, options.cost_max),
        task=TaskConfig(data=options.data, layers=options.layers, seed=options.seed),
    )
    return config.smoke() if options.smoke else config


def _refuse(field: str, expected: str, found: object) -> None:
    raise InputError("train", field, expected, found)
