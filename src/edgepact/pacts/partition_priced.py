"""What a live market that was played for a price per layer showed: steps 3 and 4 of its pact."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from edgepact.credits import MICRO, in_credits
from edgepact.files.stackelberg import GameFile
from edgepact.framework import Json, Sheet
from edgepact.market.statement import Statement
from edgepact.mechanisms.stackelberg.audit import Audit, audit_price, gains_over_staying_away
from edgepact.mechanisms.stackelberg.benchmarks import first_best, personalised
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import Outcome, outcome, settle
from edgepact.mechanisms.stackelberg.score import Range, range_of
from edgepact.pacts.partition_buyers import Asking
from edgepact.pacts.partition_demand import Earnings, earned
from edgepact.pacts.partition_findings import WorkDone, work_dict, work_rows
from edgepact.pacts.partition_jobs import Work
from edgepact.tables import yes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRound:
    """One closed round as the ledger has it.

    Attributes:
        number: from 1.
        price: credits per layer and image.
        layers: by device; devices that did not commit are missing.
        utility: of the server, for one image of each device, credits.
        share: of the range between random pricing and the exact optimum.
        gains: by device, over staying away, credits for an image of its own.
    """

    number: int
    price: float
    layers: dict[str, int]
    utility: float
    share: float
    gains: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings(WorkDone):
    """A whole run.

    Attributes:
        market: the game that was played.
        best: the exact equilibrium; `personal` and `first` bound it from above.
        blind: what the best price brings that is chosen from the prior alone.
        range: what there is to gain over a random price.
        rounds: as played.
        audit: of the exact price, on the devices' true characteristics.
    """

    market: GameFile
    best: Outcome
    personal: Outcome
    first: Outcome
    blind: Outcome
    range: Range
    rounds: tuple[PlayedRound, ...]
    audit: Audit

    def share(self, utility: float) -> float:
        """Where a utility lies between random pricing (0) and the exact optimum (1)."""
        return float(self.range.share(utility))

    @property
    def random_utility(self) -> float:
        """The server's mean utility of a random price, credits."""
        return float(self.range.zero)

    @property
    def blind_share(self) -> float:
        """Share of the best price that never looks."""
        return self.share(float(self.blind.server_utility))

    @property
    def mean_share(self) -> float:
        """Share of the quotes, mean over rounds."""
        return float(np.mean([each.share for each in self.rounds]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketPlayed:
    """What came of a live market in which images were classified.

    Attributes:
        findings: all of it.
        solver: whose prices were posted.
        images_folder: where the images are.
        earnings: what the server earned; None where it was not paid.
    """

    findings: Findings
    solver: str
    images_folder: Path
    earnings: Earnings | None = None

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """The prices of all rounds."""
        found = self.findings
        return (_prices_sheet(found.rounds, found.best, self.solver, found.step),)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        return (
            Sheet(
                title="Split inference by real processes",
                head=("figure", "value"),
                rows=work_rows(self.findings, "price times layers"),
            ),
            *_earned_sheets(self.earnings),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            **work_dict(self.findings),
            **_earned_dict(self.earnings),
            "rounds": [_round_dict(each) for each in self.findings.rounds],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkPriced:
    """What came of a live market with posted prices, whatever the job.

    Attributes:
        work: that was done.
        solver: whose prices were posted.
        best: the exact equilibrium.
        rounds: as played.
        paid_by_price: whether each payment was price times amount times units.
        worth: by device, what the work it was paid for would have cost the server, credits.
        earnings: what the server earned; None where it was not paid.
    """

    work: Work
    solver: str
    best: Outcome
    rounds: tuple[PlayedRound, ...]
    paid_by_price: bool
    worth: dict[str, float]
    earnings: Earnings | None = None

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """The prices of all rounds."""
        return (_prices_sheet(self.rounds, self.best, self.solver, self.work.step),)

    @property
    def figures(self) -> Sheet:
        """Of the work; a page shows them as cards."""
        rows = self.work.rows(f"price times {self.work.step}s")
        paid = ("each payment is the posted price's", yes(self.paid_by_price))
        head = ("figure", "value")
        return Sheet(title="Split inference by real processes", head=head, rows=(*rows, paid))

    @property
    def besides(self) -> tuple[Sheet, ...]:
        """Tables besides the figures: who paid the server, and what it earned."""
        return _earned_sheets(self.earnings)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The figures, and the tables besides them."""
        return (self.figures, *self.besides)

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        rounds = [_round_dict(each) for each in self.rounds]
        paid = {"paid_by_price": self.paid_by_price, **_earned_dict(self.earnings)}
        return {**self.work.as_json(), **paid, "rounds": rounds}


def priced(work: Work, market: GameFile, solver: str, buyers: Sequence[Asking] = ()) -> WorkPriced:
    """Holds what was played against the game's exact answers, whatever the job."""
    game = market.game
    rounds = _rounds(market, work.statement, range_of(game))
    return WorkPriced(
        work=work,
        solver=solver,
        best=equilibrium(game),
        rounds=rounds,
        paid_by_price=_paid_by_price(rounds, work.statement),
        worth=worth_of(work, market),
        earnings=earnings_of(work, market, buyers),
    )


def worth_of(work: Work, market: GameFile) -> dict[str, float]:
    """What the work that each device was paid for would have cost the server, credits."""
    worth = dict.fromkeys(market.names, 0.0)
    saving = dict(zip(market.names, map(float, market.game.saving), strict=True))
    for name, amount, units, paid in work.paid_pieces:
        if paid > 0:
            worth[name] += saving[name] * amount * units
    return worth


def earnings_of(work: Work, market: GameFile, buyers: Sequence[Asking]) -> Earnings | None:
    """What the server earned with its own computing at the game's price for a GMAC; None where
    nobody was asked to pay."""
    game = market.game
    if isinstance(work, CountsComputing):
        computing = float(game.beta) * work.server_gmac
    else:
        # What devices left to the server, as the game counts it.
        saving = float(np.mean(np.asarray(game.saving)))
        left = sum((game.layers_max - at) * units for _, at, units, _ in work.paid_pieces)
        computing = saving * left
    return earned(buyers, work.statement, computing, unit=work.unit, step=work.step)


@runtime_checkable
class CountsComputing(Protocol):
    """What `Work` has besides if it counts what the server computed."""

    @property
    def server_gmac(self) -> float:
        """All of it, whatever it was for."""
        ...


def _earned_sheets(earnings: Earnings | None) -> tuple[Sheet, ...]:
    return () if earnings is None else earnings.sheets


def _earned_dict(earnings: Earnings | None) -> dict[str, Json]:
    return {} if earnings is None else {"earned": earnings.to_dict()}


def find(work: WorkDone, market: GameFile, prior_price: float) -> Findings:
    """Holds what was played against the game's exact answers.

    Args:
        work: that was done.
        market: devices and server.
        prior_price: what an operator would post that never looks at an answer.
    """
    game, statement = market.game, work.statement
    best, reach = equilibrium(game), range_of(game)
    rounds = _rounds(market, statement, reach)
    done = {each.name: getattr(work, each.name) for each in fields(work)}
    done["paid_as_earned"] = work.paid_as_earned and _paid_by_price(rounds, statement)
    return Findings(
        **done,
        market=market,
        best=best,
        personal=personalised(game),
        first=first_best(game),
        blind=outcome(game, prior_price),
        range=reach,
        rounds=rounds,
        audit=audit_price(game, best),
    )


def _prices_sheet(rounds: Sequence[PlayedRound], best: Outcome, solver: str, step: str) -> Sheet:
    rows = [
        (
            f"{each.number}",
            f"{each.price:.5g}",
            f"{sum(each.layers.values())}",
            f"{each.utility:.5g}",
            f"{each.share:.2%}",
        )
        for each in rounds
    ]
    layers = f"{int(np.sum(best.layers))}"
    utility = f"{float(best.server_utility):.5g}"
    rows.append(("best", f"{float(best.price):.5g}", layers, utility, f"{1.0:.2%}"))
    return Sheet(
        title=f"Prices posted in live rounds by {solver}",
        head=("round", "price", f"{step}s of all", "server's utility", "share of the range"),
        rows=tuple(rows),
        notes=("A share of 0 is the mean of random prices, 100 % the best price.",),
    )


def _round_dict(each: PlayedRound) -> dict[str, Json]:
    return {
        "price": each.price,
        "layers": each.layers,
        "server_utility": each.utility,
        "share": each.share,
    }


def _rounds(market: GameFile, statement: Statement, reach: Range) -> tuple[PlayedRound, ...]:
    rounds = []
    for record in statement.rounds:
        layers = np.array([record.amounts.get(name, 0) for name in market.names], float)
        price = in_credits(record.price_microcredits or 0)
        settled = settle(market.game, price, layers)
        utility = float(settled.server_utility)
        gains = np.asarray(gains_over_staying_away(market.game, settled)).tolist()
        rounds.append(
            PlayedRound(
                number=record.number,
                price=price,
                layers=record.amounts,
                utility=utility,
                share=float(reach.share(utility)),
                gains=dict(zip(market.names, gains, strict=True)),
            )
        )
    return tuple(rounds)


def _paid_by_price(rounds: tuple[PlayedRound, ...], statement: Statement) -> bool:
    prices = {each.number: round(each.price * MICRO) for each in rounds}
    return all(
        payment.microcredits == prices[payment.round] * payment.amount * payment.units
        for payment in statement.payments
    )
