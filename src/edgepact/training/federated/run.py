"""The whole of `edgepact train`: a simulated federation that pays, in a folder of its own."""

import hashlib
import importlib.util
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepact.efficiency.selection import (
    Deadline,
    Oort,
    PowerOfChoice,
    RandomSelection,
    Selector,
)
from edgepact.errors import InputError, MissingExtraError
from edgepact.market.ledger import Ledger
from edgepact.mechanisms.contract import Contract, Menu, optimal_menu
from edgepact.scenario.contract import read_contract
from edgepact.scenario.toml import load_terms
from edgepact.solvers.menus import gdm_menu
from edgepact.solvers.quoters import QUOTERS
from edgepact.training.federated import folder as files
from edgepact.training.federated.aggregate import AGGREGATES
from edgepact.training.federated.bidding import ByAuction, BySecondScore
from edgepact.training.federated.contract import ByContract, items
from edgepact.training.federated.engagement import MICRO, Engagement, Everyone
from edgepact.training.federated.posted import STEPS, ByPrice
from edgepact.training.federated.rounds import (
    ROUNDS_MAX,
    Progress,
    Round,
    RoundsConfig,
    play,
    start,
)
from edgepact.training.federated.selecting import BySelector, Narrowed
from edgepact.training.federated.simulated import CostRange, CostTypes, Simulated, name_of
from edgepact.training.federated.task import SAMPLES, TaskConfig, read_data, task_of
from edgepact.training.federated.transport import InMemory, Transport

if TYPE_CHECKING:
    from rich.table import Table

MECHANISMS = ("none", "contract", "auction", "stackelberg")

SELECTORS = ("auction", "random", "fedcs", "oort", "power-of-choice")

MENU_SOLVERS = ("optimum", "gdm")
"""Who writes a contract's menu: the exact optimum, or the diffusion model from frequencies."""

SOLVERS: dict[str, tuple[str, ...]] = {"contract": MENU_SOLVERS, "stackelberg": tuple(QUOTERS)}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeTakeUp:
    """What clients of one cost type did. Known to who simulates them, not to the server.

    Attributes:
        psi: credits per unit of c(rate).
        clients: of the type.
        trained: updates of theirs that were accepted.
        mean_rate: of these.
        paid_microcredits: for these.
    """

    psi: float
    clients: int
    trained: int
    mean_rate: float
    paid_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a run.

    Attributes:
        out: its folder.
        size: weights of the model.
        history: round 0 and all finished rounds.
        types: take-up by cost type; empty without a contract.
        balanced: whether the books balance.
    """

    out: Path
    size: int
    history: tuple[Round, ...]
    types: tuple[TypeTakeUp, ...]
    balanced: bool

    @property
    def accuracy(self) -> float:
        """After the last round."""
        return self.history[-1].accuracy

    def as_json(self) -> dict[str, Any]:
        """For `metrics.json` and `edgepact train --json`."""
        updates = sum(len(each.accepted) for each in self.history)
        engaged = sum(len(each.deliveries) for each in self.history)
        bytes_up = sum(each.bytes_up for each in self.history)
        return {
            "rounds": self.history[-1].number,
            "accuracy_start": self.history[0].accuracy,
            "accuracy": self.accuracy,
            "accuracy_by_round": [each.accuracy for each in self.history],
            "weights": self.size,
            "updates": updates,
            "rejected": engaged - updates,
            "bytes_up": bytes_up,
            "bytes_up_float32": 4 * self.size * updates,
            "times_fewer_bytes": 4 * self.size * updates / bytes_up if bytes_up else None,
            "bytes_down": 4 * self.size * engaged,
            "paid_microcredits": sum(each.paid_microcredits for each in self.history),
            "books_balance": self.balanced,
            "seconds": sum(each.seconds for each in self.history),
            "types": [
                {
                    "psi": each.psi,
                    "clients": each.clients,
                    "trained": each.trained,
                    "mean_rate": each.mean_rate,
                    "paid_microcredits": each.paid_microcredits,
                }
                for each in self.types
            ],
            "out": str(self.out),
        }

    def figures(self) -> list[tuple[str, str]]:
        """What came of it in words."""
        facts = self.as_json()
        fewer = facts["times_fewer_bytes"]
        balance = "balance" if self.balanced else "DO NOT BALANCE"
        return [
            ("rounds", f"{facts['rounds']}"),
            ("accuracy before the first round", f"{facts['accuracy_start']:.2%}"),
            ("accuracy after the last", f"{self.accuracy:.2%}"),
            ("updates accepted", f"{facts['updates']}"),
            ("updates rejected, unpaid", f"{facts['rejected']}"),
            ("bytes up", f"{facts['bytes_up']:,}"),
            ("bytes up as float32", f"{facts['bytes_up_float32']:,}"),
            ("times fewer bytes", "none sent" if fewer is None else f"{fewer:.1f}"),
            ("bytes down, weights as float32", f"{facts['bytes_down']:,}"),
            ("paid, credits", f"{facts['paid_microcredits'] / MICRO:.6f}"),
            ("the books", balance),
            ("seconds", f"{facts['seconds']:.1f}"),
        ]

    def tables(self) -> "list[Table | str]":
        """The figures for a terminal."""
        from rich.table import Table

        table = Table(title="Federated training", title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in self.figures():
            table.add_row(name, value)
        if not self.types:
            return [table]
        types = Table(title="Who took what", title_justify="left")
        for title in ("cost psi", "clients", "updates", "mean rate", "paid, credits"):
            types.add_column(title, justify="right")
        for each in self.types:
            types.add_row(
                f"{each.psi:g}",
                f"{each.clients}",
                f"{each.trained}",
                f"{each.mean_rate:.4f}",
                f"{each.paid_microcredits / MICRO:.6f}",
            )
        return [table, types]


def train(config: TrainConfig, advance: Callable[[int, int], None] = lambda *_: None) -> Trained:
    """Trains together, from the start or from where the folder's last run stopped.

    Args:
        config: what and how.
        advance: told how many rounds are done, of how many.

    Raises:
        MissingExtraError: Flower or Ray is not installed.
        InputError: a setting, a file or the folder cannot be used.
        MarketError: the simulation broke down.
    """
    simulate = _simulation()
    fleet = fleet_of(config, contract_of(config))
    workers = config.workers or min(os.cpu_count() or 1, config.clients)
    trained = train_over(
        config,
        lambda serve: simulate(fleet, serve, workers=workers, log=config.out / files.LOG),
        advance,
    )
    return _written(replace(trained, types=_take_up(fleet, trained.history)))


def expect_ready(config: TrainConfig) -> None:
    """Finds out what is missing before anything is started.

    Raises:
        MissingExtraError, InputError: as `train`.
    """
    _simulation()
    contract_of(config)
    read_data(config.task)


Reach = Callable[[Callable[[Transport], None]], None]
"""Calls what it is given with a transport to the clients, and returns when that is done."""


def train_over(
    config: TrainConfig, reach: Reach, advance: Callable[[int, int], None] = lambda *_: None
) -> Trained:
    """The same over any transport; what costs clients have is not known."""
    engagement = engagement_of(config, contract_of(config))
    shared = len(read_data(config.task).shared)
    if config.clients > shared:
        raise InputError("train", "--clients", f"at most {shared}, the images", config.clients)
    with files.locked(config.out):
        files.keep_config(config.out, config.settings(), may_differ=frozenset({"rounds"}))
        task = task_of(config.task)
        aggregate = AGGREGATES[config.aggregate]
        progress = files.read_checkpoint(config.out, task.size)
        if progress is None:
            progress = start(task, aggregate, task.start())
            files.write_checkpoint(config.out, progress)
        reached = [progress]
        advance(progress.round, config.rounds)

        def keep(now: Progress) -> None:
            files.write_checkpoint(config.out, now)
            reached[0] = now

        with Ledger(f"sqlite:///{config.out / files.LEDGER}") as books:

            def serve(transport: Transport) -> None:
                play(
                    reached[0],
                    transport=transport,
                    engagement=engagement,
                    aggregate=aggregate,
                    task=task,
                    config=rounds_config(config, shared, task.size),
                    keep=keep,
                    books=books,
                    report=lambda finished: advance(finished.number, config.rounds),
                )

            if progress.round < config.rounds:
                reach(serve)
            else:
                # Nobody has to be reached for what the last round may still owe.
                serve(InMemory({}))
            debits, credits = books.totals()
        return _written(
            Trained(
                out=config.out,
                size=task.size,
                history=reached[0].history,
                types=(),
                balanced=debits == credits,
            )
        )


def contract_of(config: TrainConfig) -> Contract | None:
    """The contract a configuration names, if any.

    Raises:
        InputError: the file is none, its types have several costs, or qualities can be no rates.
    """
    if config.contract is None:
        return None
    contract = read_contract(config.contract)
    if not isinstance(contract, Contract):
        raise InputError(config.contract, "type.cost", "one cost a type, to train by", "several")
    if contract.quality_max > 1.0:
        found = contract.quality_max
        raise InputError(config.contract, "quality_max", "a compression rate, at most 1", found)
    return contract


def engagement_of(config: TrainConfig, contract: Contract | None) -> Engagement:
    """The mechanism that a configuration names."""
    seed, per_round = config.task.seed, config.per_round
    budget, late_s = config.budget_microcredits, config.deadline_s or math.inf
    if config.mechanism == "stackelberg":
        return by_price(config, contract)
    if config.mechanism == "auction" and contract is not None:
        menu = items(contract, optimal_menu(contract))
        rates = tuple(sorted({item.rate for item in menu}))
        worths = tuple(float(contract.worth(np.full(len(contract.psi), r))[0]) for r in rates)
        return BySecondScore(
            rates=rates,
            worth_credits=worths,
            per_round=per_round or config.clients,
            preferred_s=late_s,
        )
    if config.mechanism == "auction" and config.selector in (None, "auction"):
        assert budget is not None
        return ByAuction(budget_microcredits=budget, rate=config.rate, preferred_s=late_s)
    selector = _selector_of(config)
    if contract is not None:
        offer = offer_of(config, contract)
        if selector is None:
            return ByContract(
                contract=contract,
                offer=offer,
                per_round=per_round,
                budget_microcredits=budget,
                seed=seed,
            )
        assert per_round is not None
        return Narrowed(
            mechanism=ByContract(contract=contract, offer=offer, seed=seed),
            selector=selector,
            per_round=per_round,
            budget_microcredits=budget,
            seed=seed,
        )
    if selector is None and not config.pay:
        return Everyone(per_round=per_round, rate=config.rate, seed=seed)
    assert per_round is not None
    pay = round(config.pay * MICRO)
    if config.mechanism == "auction":
        # The selector does not look at bids, so the truth is kept by a price that does not either.
        assert budget is not None
        pay = budget // per_round
    return BySelector(
        selector=selector or RandomSelection(),
        per_round=per_round,
        rate=config.rate,
        pay_microcredits=pay,
        budget_microcredits=budget,
        seed=seed,
    )


def offer_of(config: TrainConfig, contract: Contract) -> Menu:
    """The menu that a configuration's solver writes for a contract."""
    return gdm_menu(contract) if config.solver == "gdm" else optimal_menu(contract)


def by_price(config: TrainConfig, contract: Contract | None) -> ByPrice:
    """The posted price of a configuration: for steps of a contract's rate, or for taking part."""
    steps, rate, worth = 1, config.rate, config.worth
    if contract is not None:
        steps, rate = STEPS, contract.quality_max
        worth = float(contract.worth(np.full(len(contract.psi), rate))[0])
    assert worth is not None
    return ByPrice(
        quoter=QUOTERS[config.solver or SOLVERS["stackelberg"][0]](),
        saving_credits=worth / steps,
        steps=steps,
        rate_max=rate,
        clients=tuple(name_of(number) for number in range(config.clients)),
        seed=config.task.seed,
    )


def _selector_of(config: TrainConfig) -> Selector | None:
    if config.selector == "fedcs":
        assert config.deadline_s is not None
        return Deadline(deadline_s=config.deadline_s)
    made: dict[str, Selector] = {
        "random": RandomSelection(),
        "oort": Oort(),
        "power-of-choice": PowerOfChoice(),
    }
    return None if config.selector is None else made[config.selector]


def fleet_of(config: TrainConfig, contract: Contract | None) -> Simulated:
    """The simulated clients of a configuration."""
    costs: CostTypes | CostRange | None = None
    if contract is not None:
        costs = CostTypes.of(contract)
    elif config.mechanism in ("auction", "stackelberg") or config.pay:
        costs = CostRange(low=config.costs[0], high=config.costs[1])
    return Simulated(
        task=config.task,
        clients=config.clients,
        dirichlet=config.dirichlet,
        costs=costs,
        seed=config.task.seed,
    )


def rounds_config(config: TrainConfig, images: int, size: int) -> RoundsConfig:
    """Bounds on what clients claim and move.

    Adam moves a weight by about its learning rate a step, so that no honest client gets further
    than all steps in one direction.
    """
    return RoundsConfig(
        rounds=config.rounds,
        budget_microcredits=config.budget_microcredits,
        examples_max=WEIGHT_SHARE_MAX * -(-images // config.clients),
        norm_max=config.task.steps * config.task.learning_rate * math.sqrt(size),
    )


def _simulation() -> Callable[..., None]:
    try:
        from edgepact.training.federated.flower import simulate
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "flwr":
            raise
        raise MissingExtraError("federated training", "federated") from None
    # Flower imports Ray late, where nobody could be told what is missing.
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("federated training", "federated")
    return simulate


def _take_up(fleet: Simulated, history: tuple[Round, ...]) -> tuple[TypeTakeUp, ...]:
    if not isinstance(fleet.costs, CostTypes):
        return ()
    costs = fleet.costs
    type_of = {name_of(number): costs.drawn(fleet.seed, number) for number in range(fleet.clients)}
    rows = []
    for at, psi in enumerate(costs.psi):
        done = [each for past in history for each in past.accepted if type_of[each.client] == at]
        rows.append(
            TypeTakeUp(
                psi=psi,
                clients=sum(kind == at for kind in type_of.values()),
                trained=len(done),
                mean_rate=float(np.mean([each.rate for each in done])) if done else 0.0,
                paid_microcredits=sum(each.paid_microcredits for each in done),
            )
        )
    return tuple(rows)


def _written(trained: Trained) -> Trained:
    """The same, with `rounds.csv`, `metrics.json` and `accuracy.png` in its folder."""
    files.write_rounds(trained.out, trained.history)
    metrics = json.dumps(trained.as_json(), indent=2, allow_nan=False)
    files.write_durably(trained.out / files.METRICS, metrics.encode() + b"\n")
    _draw(trained)
    return trained


def _draw(trained: Trained) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0))
    axes.plot(
        [each.number for each in trained.history], [each.accuracy for each in trained.history], "o-"
    )
    axes.set_xlabel("round")
    axes.set_ylabel("share of the test images told right")
    axes.grid(alpha=0.3)
    figure.savefig(trained.out / files.FIGURE, dpi=150, bbox_inches="tight")
    pyplot.close(figure)
