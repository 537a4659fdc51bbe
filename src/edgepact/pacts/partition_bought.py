"""Steps 3 and 4 where layers are bought by menu or auction: rounds held against the optimum.

The amounts and rewards are those of the ledger. What they earned is reckoned from the devices'
true figures, which nobody saw who took part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepact.credits import MICRO, in_credits
from edgepact.engagement import Cost, Item
from edgepact.files.written import written_toml
from edgepact.framework import Json, Run, Sheet
from edgepact.market.ledger import RoundRecord
from edgepact.market.own_cost import computing_cost
from edgepact.pacts.partition_jobs import Work
from edgepact.pacts.partition_live import (
    LayersMeasured,
    expect_fitting,
    expect_folders,
    expect_ready,
    layers_profiled,
    play,
    tell_other_sizes,
)
from edgepact.pacts.partition_server import BoughtTerms
from edgepact.pacts.partition_terms import PrivateDevices
from edgepact.tables import decimals, yes

LEARNT = "gdm"
"""The solver that decides each round anew, from the rounds before."""

PUBLIC_FILE = "public.toml"
"""The scenario's public part in the folder of a run: all that the server process is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoughtRound:
    """One closed round as the ledger has it.

    Attributes:
        number: from 1.
        asked: in words: how many items were offered, or how many bids were heard.
        layers: by device; devices that did not answer are missing.
        rewards: by device, credits an image.
        gains: by device, over staying away, credits an image.
        profit: what the server keeps of what it saves, for one image of each device, credits.
        utility: of the server, likewise.
        share: profit, of that of the optimum; None where there is nothing to earn.
        as_ruled: whether everybody was engaged as the mechanism says of true costs.
    """

    number: int
    asked: str
    layers: dict[str, int]
    rewards: dict[str, float]
    gains: dict[str, float]
    profit: float
    utility: float
    share: float | None
    as_ruled: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayersBought:
    """What came of a live market in which layers were bought.

    Attributes:
        work: that was done.
        rounds: as played.
        kept: by each device of all its pay, over staying away, credits.
        best_profit: of the optimum, credits.
        best_saving: the same before anybody is paid.
        best_utility: the server's utility then.
        best_layers: layers of all devices then.
        optimum: what brings it, in words.
        title: of the table of rounds.
        ruled: what `BoughtRound.as_ruled` says, in words.
        learnt: what was believed and decided in each round; None where rounds do not learn.
    """

    work: Work
    rounds: tuple[BoughtRound, ...]
    kept: dict[str, float]
    best_profit: float
    best_saving: float
    best_utility: float
    best_layers: int
    optimum: str
    title: str
    ruled: str
    learnt: "Learnt | None" = None

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """What was asked and bought in all rounds."""
        rows = [
            (
                f"{each.number}",
                each.asked,
                f"{sum(each.layers.values())}",
                f"{sum(each.rewards.values()):.5g}",
                f"{each.profit:.5g}",
                f"{each.utility:.5g}",
                "-" if each.share is None else f"{each.share:.2%}",
            )
            for each in self.rounds
        ]
        best = (f"{self.best_profit:.5g}", f"{self.best_utility:.5g}")
        paid = f"{self._best_paid:.5g}"
        rows.append(("best", "", f"{self.best_layers}", paid, *best, f"{1.0:.2%}"))
        return (
            Sheet(
                title=self.title,
                head=(
                    "round",
                    "asked",
                    f"{self.work.step}s of all",
                    "paid",
                    "profit",
                    "server's utility",
                    "share of the optimum",
                ),
                rows=tuple(rows),
                notes=(
                    f"Credits for one {self.work.unit} of each device; profit is what the server "
                    "keeps of what it saves. A share of 0 is a server that does all by itself.",
                ),
            ),
            *(() if self.learnt is None else (self.learnt.sheet,)),
        )

    @property
    def _best_paid(self) -> float:
        return self.best_saving - self.best_profit

    @property
    def as_ruled(self) -> bool:
        """Whether all rounds were."""
        return all(each.as_ruled for each in self.rounds)

    @property
    def figures(self) -> Sheet:
        """Of the work; a page shows them as cards."""
        return Sheet(
            title="Split inference by real processes",
            head=("figure", "value"),
            rows=(*self.work.rows("as assigned"), (self.ruled, yes(self.as_ruled))),
        )

    @property
    def besides(self) -> tuple[Sheet, ...]:
        """Tables besides the figures: what each device made of it."""
        work, last = self.work, self.rounds[-1]
        rows = tuple(
            (
                device.name,
                f"{device.units}",
                f"{last.layers.get(device.name, 0)}",
                decimals(device.paid_credits),
                decimals(self.kept[device.name]),
            )
            for device in work.devices
        )
        lost = [f"{each.name} was lost: {each.lost}." for each in work.devices if each.lost]
        return (
            Sheet(
                title="What devices were paid, and what it leaves them",
                head=(
                    "device",
                    f"{work.unit}s",
                    f"{work.step}s, last round",
                    "paid, credits",
                    "over staying away",
                ),
                rows=rows,
                notes=tuple(lost),
            ),
        )

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The figures, and the tables besides them."""
        return (self.figures, *self.besides)

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            **self.work.as_json(),
            "as_ruled": self.as_ruled,
            "optimal_profit": self.best_profit,
            "over_staying_away": self.kept,
            "rounds": [
                {
                    "asked": each.asked,
                    "layers": each.layers,
                    "rewards": each.rewards,
                    "over_staying_away": each.gains,
                    "profit": each.profit,
                    "server_utility": each.utility,
                    "share": each.share,
                    **({} if self.learnt is None else {"learnt": self.learnt.rounds[at]}),
                }
                for at, each in enumerate(self.rounds)
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learnt:
    """What was believed, offered and heard in each round of a market that learns.

    Attributes:
        sheet: a row a round.
        rounds: the same as JSON.
    """

    sheet: Sheet
    rounds: tuple[dict[str, Json], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Yardstick:
    """What rounds are held against.

    Attributes:
        profit: of the optimum, credits.
        saving: before anybody is paid.
        layers: of all devices.
        saved: what layers of all devices together save, credits.
        alone: what the server spends if it does all by itself, credits.
        ruled: whether a round went as the mechanism says: of the round and everybody's cost.
        asked: what a round asked, in words.
        optimum: what brings it, in words.
        title: of the table of rounds.
        words: what `ruled` says.
        learnt: decides all rounds again, as they were then; None where rounds do not learn.
    """

    profit: float
    saving: float
    layers: int
    saved: Callable[[int], float]
    alone: float
    ruled: Callable[[RoundRecord, Mapping[str, Cost]], bool]
    asked: Callable[[RoundRecord], str]
    optimum: str
    title: str
    words: str
    learnt: Callable[[Sequence[RoundRecord]], Learnt] | None = None


def expect_runnable(terms: BoughtTerms) -> None:
    """Refuses devices and layers that processes here cannot be.

    Raises:
        InputError: names the field.
    """
    expect_folders(terms)
    expect_fitting(terms, terms.private, terms.server.layers_max)


def measured_layers(terms: BoughtTerms, run: Run) -> LayersMeasured:
    """What layers cost on this machine, and the devices that will run them."""
    expect_ready(terms, run.out)
    expect_runnable(terms)
    devices = terms.private
    profile = layers_profiled(terms, run.out)
    tell_other_sizes(profile, devices, terms.split.step)
    return LayersMeasured(profile=profile, devices=devices, split=terms.split)


def bought(
    terms: BoughtTerms, measured: LayersMeasured, yardstick: Yardstick, run: Run
) -> LayersBought:
    """Plays the market with real processes, the server told what is public and no more.

    Raises:
        MarketError: the server could not be started, or all devices were lost.
    """
    public = run.out / PUBLIC_FILE
    public.write_text(written_toml(terms.public), encoding="utf-8")
    devices = measured.devices
    asked: dict[str, Any] = {"scenario": public}
    if yardstick.learnt is not None:
        asked["quote_seed"] = terms.seed  # of what is generated alone: see `partition_live.play`
    played = play(terms, devices, asked, run)
    work = terms.split.done(
        terms=terms, folder=run.out, profile=measured.profile, names=devices.names, played=played
    )
    costs = own_costs(devices)
    rounds = tuple(_round(terms, record, costs, yardstick) for record in played.statement.rounds)
    return LayersBought(
        work=work,
        rounds=rounds,
        kept=_kept(work, costs),
        best_profit=yardstick.profit,
        best_utility=terms.server.revenue - yardstick.alone + yardstick.profit,
        best_saving=yardstick.saving,
        best_layers=yardstick.layers,
        optimum=yardstick.optimum,
        title=yardstick.title,
        ruled=yardstick.words,
        learnt=None if yardstick.learnt is None else yardstick.learnt(played.statement.rounds),
    )


def own_costs(devices: PrivateDevices) -> dict[str, Cost]:
    """What layers cost each device, as its own process reckons it; micro-credits."""
    fleet = devices.fleet
    return {
        name: computing_cost(
            alpha=float(fleet.alpha[at]),
            capacity=float(fleet.capacity[at]),
            A=float(fleet.A[at]),
            B=float(fleet.B[at]),
            satisfaction=devices.satisfaction,
        )
        for at, name in enumerate(devices.names)
    }


def _round(
    terms: BoughtTerms, record: RoundRecord, costs: Mapping[str, Cost], yardstick: Yardstick
) -> BoughtRound:
    assigned = record.assigned
    rewards = {name: in_credits(item.reward_microcredits) for name, item in assigned.items()}
    profit = yardstick.saved(sum(record.amounts.values())) - sum(rewards.values())
    return BoughtRound(
        number=record.number,
        asked=yardstick.asked(record),
        layers=record.amounts,
        rewards=rewards,
        gains={name: gain(item, costs[name]) for name, item in assigned.items()},
        profit=profit,
        utility=terms.server.revenue - yardstick.alone + profit,
        share=profit / yardstick.profit if yardstick.profit > 0.0 else None,
        as_ruled=yardstick.ruled(record, costs),
    )


def gain(item: Item, cost: Cost) -> float:
    """What an item leaves a device over staying away, credits an image."""
    return float((item.reward_microcredits - cost(item.amount)) / MICRO)


def _kept(work: Work, costs: Mapping[str, Cost]) -> dict[str, float]:
    kept = dict.fromkeys(costs, 0.0)
    for name, layers, units, paid_microcredits in work.paid_pieces:
        kept[name] += (paid_microcredits - units * costs[name](float(layers))) / MICRO
    return kept
