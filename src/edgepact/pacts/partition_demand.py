"""Buyers of a run: what a scenario states of them, how requests reach devices, what came of it.

Requests are handed out before the first round, those of whoever pays most for a unit first, to one
device after the other. Who hands them out is the process that plays the market, in the buyers'
name: devices never see the key.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from edgepact.credits import in_credits, in_microcredits
from edgepact.errors import InputError
from edgepact.files.buyers import buyers_of
from edgepact.framework import Document, Json, Sheet
from edgepact.market.demand import (
    PER,
    Buyer,
    Demand,
    write_requests,
)
from edgepact.market.ledger import PieceState, Sale
from edgepact.market.statement import Statement
from edgepact.registry import part
from edgepact.tables import one

if TYPE_CHECKING:
    from edgepact.pacts.partition_jobs import SplitJob
    from edgepact.pacts.partition_terms import SplitTerms


@runtime_checkable
class SizesPieces(Protocol):
    """What a `SplitJob` has besides if a piece may be more than one unit."""

    def units_most(self, settings: Mapping[str, Any]) -> int:
        """Most units of a piece."""
        ...


@runtime_checkable
class TakesTries(Protocol):
    """What `TriesPieces.until` tells."""

    @property
    def sold_per_unit(self) -> float:
        """Units that a buyer pays for, of each that a device is paid for; expected."""
        ...


@runtime_checkable
class TriesPieces(Protocol):
    """What a `SplitJob` has besides if a piece is tried until it is good, each try a unit."""

    def until(self, folder: Path, settings: Mapping[str, Any]) -> TakesTries | None:
        """What a good piece takes; None where any is taken at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A buyer, and what it asks for.

    Attributes:
        buyer: who pays; a piece that is tried counts all tries in its quota.
        units: its quota as it is stated.
        prompts: what its requests ask for, in turn; none for whatever the inputs are.
    """

    buyer: Buyer
    units: int
    prompts: tuple[str, ...] = ()

    @property
    def worth(self) -> float:
        """What it pays for a unit, credits; of a whole request its even share."""
        units = 1 if self.buyer.per == PER[0] else self.buyer.units_each
        return in_credits(self.buyer.microcredits) / units


def units_most(split: "SplitJob", settings: Mapping[str, Any]) -> int:
    """Most units of a piece of a job."""
    return split.units_most(settings) if isinstance(split, SizesPieces) else 1


def read_buyers(
    source: Path, document: Document, split: "SplitJob", settings: Mapping[str, Any]
) -> tuple[Asking, ...]:
    """The tables `[[buyer]]` of a scenario; none where it has none.

    Raises:
        InputError: names the file, the field, what was expected and what was found.
    """
    each = units_most(split, settings)
    # A buyer asks for good pieces, however often each is tried.
    tries = each if isinstance(split, TriesPieces) else 1
    asking: list[Asking] = []
    for at, stated in enumerate(buyers_of(source, document), start=1):
        if stated.prompts and split.inputs_are_folder:
            expected = f"none: what is worked on is {one(split.unit)} of a folder"
            raise InputError(source, f"buyer[{at}].prompts", expected, "some")
        try:
            buyer = Buyer(
                name=stated.name,
                microcredits=in_microcredits(stated.revenue_per_unit),
                units=stated.units * tries,
                units_each=each,
            )
        except InputError as error:
            field = f"buyer[{at}].{error.field}"
            raise InputError(source, field, error.expected, error.found) from None
        asking.append(Asking(buyer=buyer, units=stated.units, prompts=stated.prompts))
    return tuple(asking)


def mean_worth(asking: Sequence[Asking]) -> float:
    """What a unit brings on average over all quotas, credits."""
    units = sum(each.units for each in asking)
    return sum(each.worth * each.units for each in asking) / units


def sold_per_unit(terms: "SplitTerms") -> float:
    """Units that a buyer pays for, of each that a device is paid for; expected."""
    split = terms.split
    found = (
        split.until(terms.model_folder, terms.settings) if isinstance(split, TriesPieces) else None
    )
    return 1.0 if found is None else found.sold_per_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOut:
    """Where requests lie.

    Attributes:
        demand: what the server is told.
        inputs: of each device; None for the job's own.
        requests: of each device.
    """

    demand: Path
    inputs: Mapping[str, Path | None]
    requests: Mapping[str, Path]


@contextmanager
def handed_out(
    terms: "SplitTerms", names: Sequence[str], inputs: Mapping[str, Path | None]
) -> Iterator[HandedOut]:
    """Hands the requests of all buyers out, for as long as the block runs.

    Args:
        terms: of the scenario.
        names: of devices.
        inputs: what each of them has to work on.

    Raises:
        InputError: something cannot be worked on.
    """
    demand = Demand.of([each.buyer for each in terms.buyers])
    with tempfile.TemporaryDirectory(prefix="edgepact-requests-") as place:
        folder = Path(place)
        demand.write(folder / "demand.json")
        given, files = dict[str, Path | None](), dict[str, Path]()
        for name, asked in _in_turn(terms, names).items():
            given[name], sources = _sources(terms, folder / f"{name}.txt", inputs[name], asked)
            requests = [
                (demand.issue(each.buyer.name, number, name, source), source)
                for (each, number), source in zip(asked, sources, strict=True)
            ]
            files[name] = folder / f"{name}.jsonl"
            write_requests(files[name], requests)
        yield HandedOut(demand=folder / "demand.json", inputs=given, requests=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerServed:
    """What a buyer has got.

    Attributes:
        name: of the buyer.
        units_asked: its quota.
        requests, units: that were delivered and are paid.
        lost: requests that it does not pay for: their work was forfeit, could not be audited, or
            did not come out as it was asked for.
        paid_microcredits: by it.
    """

    name: str
    units_asked: int
    requests: int
    units: int
    lost: int
    paid_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """What the server earned: what buyers have paid, less what it has paid and computed.

    Attributes:
        buyers: what each has got.
        payments_microcredits: to devices.
        computing: what the server's own computing costs it, credits.
        unit: what is counted.
        step: what one step of an amount is.
    """

    buyers: tuple[BuyerServed, ...]
    payments_microcredits: int
    computing: float
    unit: str
    step: str

    @property
    def revenue_microcredits(self) -> int:
        """Of all buyers."""
        return sum(each.paid_microcredits for each in self.buyers)

    @property
    def utility(self) -> float:
        """What is left to the server, credits."""
        moved = self.revenue_microcredits - self.payments_microcredits
        return in_credits(moved) - self.computing

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Two tables."""
        bought = Sheet(
            title="Who asked, and what it has paid",
            head=(
                *("buyer", f"{self.unit}s asked for", "requests delivered", f"{self.unit}s"),
                *("not paid for", "it has paid, credits"),
            ),
            rows=tuple(
                (
                    each.name,
                    f"{each.units_asked}",
                    f"{each.requests}",
                    f"{each.units}",
                    f"{each.lost}",
                    f"{in_credits(each.paid_microcredits):.3f}",
                )
                for each in self.buyers
            ),
            notes=(
                "Work that no buyer asked for, or beyond a quota, is refused before it is done, "
                "and earns nothing.",
            ),
        )
        rows = (
            ("buyers have paid", f"{in_credits(self.revenue_microcredits):.3f}"),
            ("devices were paid", f"{in_credits(self.payments_microcredits):.3f}"),
            ("the server's own computing costs", f"{self.computing:.3f}"),
            ("it has earned", f"{self.utility:.3f}"),
        )
        earned = Sheet(
            title="What the server earned",
            head=("", "credits"),
            rows=rows,
            notes=(
                f"Its computing is counted whole, also where it is no {self.step} of "
                f"{one(self.unit)}, such as reading a prompt; the utilities of the rounds count "
                f"{self.step}s alone.",
                *(
                    (
                        "It has lost: what it was paid covers less than all of that. A higher "
                        "revenue_per_unit does, or requests for more, of which little is reading.",
                    )
                    if self.utility < 0.0
                    else ()
                ),
            ),
        )
        return bought, earned

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "buyers": [
                {
                    "name": each.name,
                    "units_asked": each.units_asked,
                    "requests": each.requests,
                    "units": each.units,
                    "lost": each.lost,
                    "paid": in_credits(each.paid_microcredits),
                }
                for each in self.buyers
            ],
            "revenue": in_credits(self.revenue_microcredits),
            "payments": in_credits(self.payments_microcredits),
            "computing": self.computing,
            "utility": self.utility,
        }


def earned(
    asking: Sequence[Asking], statement: Statement, computing: float, *, unit: str, step: str
) -> Earnings | None:
    """What a run brought; None where nobody was asked to pay.

    Args:
        asking: the buyers.
        statement: of the ledger.
        computing: what the server's own computing costs it, credits.
        unit: what is counted.
        step: what one step of an amount is.
    """
    if not asking:
        return None
    sold = dict[str, list[Sale]]()
    for sale in statement.sales:
        sold.setdefault(sale.buyer, []).append(sale)
    return Earnings(
        buyers=tuple(_served(each, sold.get(each.buyer.name, [])) for each in asking),
        payments_microcredits=sum(each.microcredits for each in statement.payments),
        computing=computing,
        unit=unit,
        step=step,
    )


# ---------------------------------------------------------------- private


def _in_turn(terms: "SplitTerms", names: Sequence[str]) -> dict[str, list[tuple[Asking, int]]]:
    """Who works on what: no more than its rounds can take, if each request brings one unit."""
    asked: dict[str, list[tuple[Asking, int]]] = {name: [] for name in names}
    room = terms.units * terms.rounds_played * len(names)
    at = 0
    for each in sorted(terms.buyers, key=lambda each: -each.worth):
        for number in range(min(each.buyer.requests, room - at)):
            asked[names[at % len(names)]].append((each, number))
            at += 1
    return asked


def _sources(
    terms: "SplitTerms", own: Path, inputs: Path | None, asked: Sequence[tuple[Asking, int]]
) -> tuple[Path | None, list[bytes]]:
    """What a device works on, and the source of each of its requests."""
    prompts = [each.prompts[number % len(each.prompts)] for each, number in asked if each.prompts]
    lines = list(dict.fromkeys(prompts))
    if lines:
        own.write_text("\n".join(lines) + "\n", encoding="utf-8")
        inputs = own
    job = part("jobs", terms.job, source=terms.source, field="job.name")
    held = job.device_part(terms.model_folder, inputs, terms.settings)
    pieces = list(held.pieces())
    if lines:
        at = {line: number for number, line in enumerate(lines)}
        chosen = [pieces[at[prompt]] for prompt in prompts]
    else:
        chosen = [pieces[number % len(pieces)] for number in range(len(asked))]
    return inputs, [held.source(piece) for piece in chosen]


def _served(asking: Asking, sold: Sequence[Sale]) -> BuyerServed:
    paid = [each for each in sold if each.state is PieceState.PAID]
    ended = (PieceState.FORFEIT, PieceState.EXPIRED)
    lost = [each for each in sold if each.state in ended or (each in paid and each.units == 0)]
    return BuyerServed(
        name=asking.buyer.name,
        units_asked=asking.units,
        requests=len(paid),
        units=sum(each.units for each in paid),
        lost=len(lost),
        paid_microcredits=sum(each.microcredits for each in paid),
    )
