"""Users bid for slots of generation; a forward auction with a reserve selects whose work is done.

A slot is a text of at most so many tokens, or so many pictures, and the fleet limits how many there
are: what its devices can do in all rounds. The top of the file is an auction of the rule `reserve`
as `edgepact solve` reads it, with `units`, the slots for sale, and `unit_cost`, what one costs,
filled in where they are left out; bids may say what is asked for, `prompt`. Winners and payments
are those of `solve`. Each winner is then a buyer that pays its payment when its slot was delivered,
and devices do the work for a posted price, as in a partition with a Stackelberg game: users pay the
server by the auction, the server pays devices by the game.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.credits import MICRO, in_credits
from edgepact.errors import InputError
from edgepact.fields import Table, check_list, check_table, check_text, check_whole, terms_in
from edgepact.files.auction import BIDS_MAX, AuctionFile, auction_of
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.market.demand import UNITS_MAX, Buyer
from edgepact.mechanisms.auction.reserve import ReserveAuction
from edgepact.pacts.partition_buyers import Asking, units_most
from edgepact.pacts.partition_jobs import split_job
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.pacts.partition_stackelberg import (
    MarketMeasured,
    PartitionStackelberg,
    PartitionTerms,
    Quoting,
    drawn_market,
)
from edgepact.pacts.partition_terms import costs_of, read_split
from edgepact.solutions.auction import AuctionSolution, solve_auction
from edgepact.solvers.by_name import OPTIMUM, quoters
from edgepact.tables import Shown, yes

RULE = "reserve"

PIECES_MAX = 1000
"""Most pieces, such as pictures, of a slot."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotTerms:
    """What a scenario states.

    Attributes:
        source: the file.
        play: how the work is done, without buyers.
        document: of the auction, as it is stated.
        prompts: of the bids; None where one says nothing.
        pieces: of a slot.
        units_each: most units of a piece.
    """

    source: Path
    play: PartitionTerms
    document: Document
    prompts: tuple[str | None, ...]
    pieces: int
    units_each: int

    @property
    def slot(self) -> int:
        """Most units of a slot."""
        return self.pieces * self.units_each

    @property
    def capacity(self) -> int:
        """Slots that the fleet can do in all rounds."""
        play = self.play
        each_round = play.units // self.units_each * play.devices
        return each_round * play.rounds_played // self.pieces

    @cached_property
    def slot_cost(self) -> float:
        """What a slot costs a server that computes all of it itself, credits; prompts are not
        counted. The best price for a step is at most what the step costs the server, so that
        with devices it costs no more, whatever they keep to themselves."""
        costs = costs_of(self.play)
        beta = float(drawn_market(self.play, costs).game.beta)
        return self.slot * beta * costs.total

    @cached_property
    def auction(self) -> AuctionFile:
        """The auction with its bids.

        Raises:
            InputError: the fleet can do none, or fewer slots than are for sale.
        """
        stated, capacity = dict(self.document), self.capacity
        if capacity < 1:
            expected = f"rounds in which a device can do {self.slot} {self.play.split.unit}s"
            found = f"{self.play.units} {self.play.split.unit}s of each device in a round"
            raise InputError(self.source, "job", expected, found)
        if "units" in stated:
            check_whole(self.source, "units", stated["units"], least=1, most=BIDS_MAX)
            # In small the fleet does less, and so much is for sale.
            if stated["units"] > capacity and not self.play.smoke:
                expected = f"at most {capacity}, the slots that the fleet can do"
                raise InputError(self.source, "units", expected, stated["units"])
        stated["units"] = min(stated.get("units", capacity), capacity)
        if "unit_cost" not in stated:
            stated["unit_cost"] = self.slot_cost
        return auction_of(self.source, stated)

    @property
    def rule(self) -> ReserveAuction:
        """The rule."""
        rule = self.auction.auction
        assert isinstance(rule, ReserveAuction)
        return rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotsSold(Shown):
    """The auction held, and how its work is priced to devices.

    Attributes:
        terms: as stated.
        solution: winners, payments and audit, as `edgepact solve` has them.
        quoting: of a price to devices.
    """

    terms: SlotTerms
    solution: AuctionSolution
    quoting: Quoting

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What was for sale, and at which reserve."""
        terms, rule = self.terms, self.terms.rule
        unit = terms.play.split.unit
        rows = (
            (f"a slot, at most so many {unit}s", f"{terms.slot}"),
            ("slots that the fleet can do", f"{terms.capacity}"),
            ("slots for sale", f"{rule.units}"),
            ("a slot costs the server, credits", f"{rule.unit_cost:.4f}"),
            ("reserve: the lowest bid that can win, credits", f"{rule.reserve:.4f}"),
            ("users who bid", f"{len(self.solution.names)}"),
            ("of them win", f"{len(self.solution.winners)}"),
        )
        title = f"A forward auction sells slots; {self.quoting.solver} prices work to devices"
        return (Sheet(title=title, head=("", "value"), rows=rows),)

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "slot": self.terms.slot,
            "capacity": self.terms.capacity,
            "slots": self.terms.rule.units,
            "slot_cost": self.terms.rule.unit_cost,
            "reserve": self.terms.rule.reserve,
            "solver": self.quoting.solver,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotsGenerated(WorkPriced):
    """What was generated for whom, and what they have paid.

    Attributes:
        sold: the auction.
    """

    sold: SlotsSold

    @property
    def besides(self) -> tuple[Sheet, ...]:
        """Users; what the server earned."""
        _, *money = WorkPriced.besides.fget(self)  # type: ignore[attr-defined]
        # Buyers are the winners, who are told with their bids.
        return (self._users(), *money)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Users; the work; what the server earned."""
        users, *money = self.besides
        return (users, self.figures, *money)

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        told = WorkPriced.to_dict(self)
        return {**told, "auction": self.sold.solution.to_dict(), "slots": self._slots()}

    def _slots(self) -> list[dict[str, Json]]:
        """Of each user: what it bid and owes, and what was generated and paid."""
        assert self.earnings is not None
        served = {each.name: each for each in self.earnings.buyers}
        solution, devices = self.sold.solution, dict[str, list[str]]()
        for sale in self.work.statement.sales:
            devices.setdefault(sale.buyer, []).append(sale.device)
        rows = []
        for at, name in enumerate(solution.names):
            got = served.get(name)
            rows.append(
                {
                    "user": name,
                    "bid": float(solution.bids[at]),
                    "wins": bool(solution.wins[at]),
                    "payment": float(solution.payments[at]),
                    "units": 0 if got is None else got.units,
                    "paid": 0.0 if got is None else in_credits(got.paid_microcredits),
                    "devices": sorted(set(devices.get(name, []))),
                }
            )
        return rows

    def _users(self) -> Sheet:
        slots, unit = self._slots(), self.work.unit
        due = all(
            each["paid"] <= each["payment"] + 1e-9 and each["payment"] <= each["bid"] + 1e-9
            for each in slots
        )
        return Sheet(
            title="What was generated for whom",
            head=("user", "bid", "wins", "pays for the slot", f"{unit}s", "has paid", "by"),
            rows=tuple(
                (
                    each["user"],
                    f"{each['bid']:.4g}",
                    "yes" if each["wins"] else "",
                    f"{each['payment']:.4f}",
                    f"{each['units']}",
                    f"{each['paid']:.4f}",
                    ", ".join(each["devices"]),
                )
                for each in slots
            ),
            notes=(
                f"Nobody has paid more than it bid: {yes(due)}. Whose slot was not delivered "
                "pays nothing.",
            ),
        )


@dataclass(frozen=True, slots=True)
class SelectionSlots:
    """Users bid for slots of generation, a reserve protects the server, devices are paid a price.

    Attributes:
        name: of the pact.
        job: that generates.
    """

    name: str
    job: str
    method: str = "selection"
    mechanism: str = "auction"
    compress: str | None = None

    @property
    def solvers(self) -> tuple[str, ...]:
        """Ways to quote a price to devices, and the exact optimum as a yardstick."""
        return (*quoters(), OPTIMUM.name)

    def read(self, source: Path, document: Document, *, smoke: bool) -> SlotTerms:
        """Terms: the auction, and how slots are generated."""
        job = dict(check_table(source, "job", document["job"]))
        pieces = check_whole(source, "job.slot", job.pop("slot", 1), least=1, most=PIECES_MAX)
        fields = read_split(self, source, {**document, "job": job}, smoke=smoke)
        stated, prompts = _without_prompts(source, terms_in(document))
        top = Table(source, "", stated)
        top.choice("mechanism", (self.mechanism,))
        top.choice("rule", (RULE,))
        each = units_most(split_job(self.job), fields["settings"])
        terms = SlotTerms(
            source=source,
            play=PartitionTerms(**fields),
            document=stated,
            prompts=prompts,
            pieces=pieces,
            units_each=each,
        )
        if terms.slot > UNITS_MAX:
            raise InputError(source, "job.slot", f"at most {UNITS_MAX} units in all", terms.slot)
        # What it says is checked before anything hangs on it; what it costs is counted later.
        auction_of(source, {"units": 1, "unit_cost": 0.0, **stated})
        return terms

    def expect_runnable(self, terms: SlotTerms) -> None:
        """Refuses a fleet that cannot do the slots for sale, and names that are no buyers'."""
        self._priced.expect_runnable(terms.play)
        if not sold_to(terms).wins.any():
            expected = f"one of at least the reserve, {terms.rule.reserve:g}"
            raise InputError(terms.source, "bid", expected, float(np.max(terms.auction.bids)))

    def measure(self, terms: SlotTerms, run: Run) -> MarketMeasured:
        """What the job costs on this machine."""
        self.expect_runnable(terms)
        play = replace(terms.play, buyers=winners(terms, sold_to(terms)))
        return self._priced.measure(play, run)

    def optimum(self, terms: SlotTerms, measured: MarketMeasured | None) -> AuctionSolution:
        """Winners and payments, and the audit of the rule, as `edgepact solve` has them."""
        return sold_to(terms)

    def decide(self, terms: SlotTerms, measured: MarketMeasured | None) -> SlotsSold:
        """The reserve follows from the prior and the cost; prices from devices' answers."""
        quoting = self._priced.decide(terms.play, measured)
        return SlotsSold(terms=terms, solution=sold_to(terms), quoting=quoting)

    def engage(
        self, terms: SlotTerms, measured: MarketMeasured, decision: SlotsSold, run: Run
    ) -> SlotsGenerated:
        """Generates for the winners with real processes."""
        play = replace(terms.play, buyers=winners(terms, decision.solution))
        done = self._priced.engage(play, measured, decision.quoting, run)
        assert isinstance(done, WorkPriced)  # as no job that generates classifies images
        return SlotsGenerated(
            work=done.work,
            solver=done.solver,
            best=done.best,
            rounds=done.rounds,
            paid_by_price=done.paid_by_price,
            worth=done.worth,
            earnings=done.earnings,
            sold=decision,
        )

    @property
    def _priced(self) -> PartitionStackelberg:
        """How the work is priced to devices."""
        return PartitionStackelberg(name=self.name, job=self.job)


def sold_to(terms: SlotTerms) -> AuctionSolution:
    """Winners and payments."""
    return solve_auction(terms.auction)


def winners(terms: SlotTerms, solution: AuctionSolution) -> tuple[Asking, ...]:
    """Whoever wins, as a buyer of one slot.

    Raises:
        InputError: a name is none of a buyer.
    """
    found = []
    for at in np.flatnonzero(solution.wins):
        prompt = terms.prompts[at]
        try:
            buyer = slot_buyer(
                solution.names[at],
                float(solution.payments[at]),
                pieces=terms.pieces,
                units_each=terms.units_each,
            )
        except InputError as error:
            field = f"bid[{at + 1}].{error.field}"
            raise InputError(terms.source, field, error.expected, error.found) from None
        asked = () if prompt is None else (prompt,)
        found.append(Asking(buyer=buyer, units=terms.pieces, prompts=asked))
    return tuple(found)


def slot_buyer(name: str, payment: float, *, pieces: int, units_each: int) -> Buyer:
    """A user who pays so many credits for a slot, each piece its even share.

    Whole micro-credits are rounded down, so that nobody pays more than the auction says.
    """
    return Buyer(
        name=name,
        microcredits=math.floor(payment * MICRO / pieces + 1e-6),
        per="request",
        units=pieces * units_each,
        units_each=units_each,
    )


def _without_prompts(source: Path, stated: Document) -> tuple[Document, tuple[str | None, ...]]:
    """The auction alone, and what its bids ask for."""
    entries = Table(source, "", stated).raw("bid", "one or more [[bid]] tables")
    rows = check_list(source, "bid", entries, of="bids", least=1, most=BIDS_MAX)
    bids: list[dict[str, Any]] = []
    prompts: list[str | None] = []
    for at, row in enumerate(rows, start=1):
        bid = dict(check_table(source, f"bid[{at}]", row))
        Table(source, f"bid[{at}]", bid).expect_known("name", "bid", "prompt")
        said = bid.pop("prompt", None)
        prompts.append(None if said is None else check_text(source, f"bid[{at}].prompt", said))
        bids.append(bid)
    if None in prompts and any(prompts):
        at = prompts.index(None) + 1
        raise InputError(source, f"bid[{at}].prompt", "a prompt of every bid, or of none", "none")
    return {**stated, "bid": bids}, tuple(prompts)


TEXT = SelectionSlots(name="selection-auction-text", job="text")
"""Slots of texts."""

PICTURE = SelectionSlots(name="selection-auction-picture", job="picture")
"""Slots of pictures."""
