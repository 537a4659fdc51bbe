"""Tables `[[buyer]]`: who pays the server for units, how much, and for how many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.credits import PRICE_CREDITS_MAX
from edgepact.errors import InputError
from edgepact.fields import Table, check_list, check_text

BUYERS_MAX = 10_000

UNITS_MAX = 10**9
"""Largest quota."""

PROMPTS_MAX = 1000
"""Most prompts of a buyer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedBuyer:
    """A buyer as a file states it.

    Attributes:
        name: of it; `buyer-1`, `buyer-2`, ... where the file has none.
        revenue_per_unit: that it pays, credits.
        units: its quota, in all.
        prompts: what it asks for, in turn; none where it takes what inputs there are.
    """

    name: str
    revenue_per_unit: float
    units: int
    prompts: tuple[str, ...] = ()


def buyers_of(source: Path, document: Mapping[str, Any]) -> tuple[StatedBuyer, ...]:
    """The buyers of a document; none where it has none.

    Raises:
        InputError: names the file, the field, what was expected and what was found.
    """
    if "buyer" not in document:
        return ()
    found: list[StatedBuyer] = []
    rows = check_list(source, "buyer", document["buyer"], of="buyers", least=1, most=BUYERS_MAX)
    for at, values in enumerate(rows, start=1):
        row = Table(source, f"buyer[{at}]", values)
        name = row.text("name", f"buyer-{at}")
        if name in [other.name for other in found]:
            raise InputError(source, f"buyer[{at}].name", "each name once", name)
        revenue = row.number("revenue_per_unit", least=0.0, most=PRICE_CREDITS_MAX)
        units = row.whole("units", least=1, most=UNITS_MAX)
        prompts = _prompts(source, row) if "prompts" in row else ()
        row.close()
        found.append(StatedBuyer(name=name, revenue_per_unit=revenue, units=units, prompts=prompts))
    if len({bool(each.prompts) for each in found}) > 1:
        expected = "prompts of every buyer, or of none"
        raise InputError(source, "buyer.prompts", expected, "some of them have any")
    return tuple(found)


def mean_revenue(buyers: Sequence[StatedBuyer]) -> float:
    """What a unit brings on average over all quotas, credits."""
    units = sum(each.units for each in buyers)
    return sum(each.revenue_per_unit * each.units for each in buyers) / units


def _prompts(source: Path, row: Table) -> tuple[str, ...]:
    _, field = row.place("prompts")
    listed = row.raw("prompts", "a list of texts")
    check_list(source, field, listed, of="prompts", least=1, most=PROMPTS_MAX)
    return tuple(
        check_text(source, f"{field}[{at}]", each) for at, each in enumerate(listed, start=1)
    )
