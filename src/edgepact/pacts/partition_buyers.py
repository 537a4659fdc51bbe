"""Buyers as a scenario states them, and what they take a piece for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgepact.credits import in_credits, in_microcredits
from edgepact.errors import InputError
from edgepact.files.buyers import buyers_of
from edgepact.framework import Document
from edgepact.market.demand import PER, Buyer
from edgepact.pacts.partition_jobs import SplitJob
from edgepact.tables import one


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


def units_most(split: SplitJob, settings: Mapping[str, Any]) -> int:
    """Most units of a piece of a job."""
    return split.units_most(settings) if isinstance(split, SizesPieces) else 1


def read_buyers(
    source: Path, document: Document, split: SplitJob, settings: Mapping[str, Any]
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


def sold_per_unit(split: SplitJob, folder: Path, settings: Mapping[str, Any]) -> float:
    """Units that a buyer pays for, of each that a device is paid for; expected."""
    found = split.until(folder, settings) if isinstance(split, TriesPieces) else None
    return 1.0 if found is None else found.sold_per_unit
