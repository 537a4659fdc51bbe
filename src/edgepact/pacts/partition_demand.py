"""Buyers of a run: how their requests reach devices, and what came of it.

Requests are handed out before the first round, those of whoever pays most for a unit first, to one
device after the other. Who hands them out is the process that plays the market, in the buyers'
name: devices never see the key.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepact.credits import in_credits
from edgepact.framework import Json, Sheet
from edgepact.market.demand import (
    Demand,
    write_requests,
)
from edgepact.market.ledger import PieceState, Sale
from edgepact.market.statement import Statement
from edgepact.pacts.partition_buyers import Asking
from edgepact.pacts.partition_terms import SplitTerms
from edgepact.registry import part
from edgepact.tables import one


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
    terms: SplitTerms, names: Sequence[str], inputs: Mapping[str, Path | None]
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


def _in_turn(terms: SplitTerms, names: Sequence[str]) -> dict[str, list[tuple[Asking, int]]]:
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
    terms: SplitTerms, own: Path, inputs: Path | None, asked: Sequence[tuple[Asking, int]]
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
