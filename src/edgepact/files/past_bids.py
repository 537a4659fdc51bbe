"""Files that `edgepact quote` reads for an auction: what is public, and what was bid in the past.

A file with `mechanism = "auction"` that states no prior and no bids of today:

    mechanism = "auction"
    units = 1                    # sold at a time
    unit_cost = 0.1              # credits a unit costs the seller; 0 if not said
    value_max = 5.0              # the highest possible value, credits; may be left out
    returning = true             # the same bidders come again: own past bids set no own reserve
    past = "past-bids.csv"       # columns name and bid, a row for every past bid

In place of `past`, a `[[bidder]]` table for each bidder has a `name` and a list `past`, which is
empty for one that never bid.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import Table, check_column, checked_names, shown, table_file
from edgepact.files.columns import read_columns
from edgepact.solvers.in_context.bids import BIDS_MIN, Bids, bid_range
from edgepact.solvers.in_context.reserves import BIDDERS_MAX, UNITS_MAX, Selling

PAST_MAX = 1_000_000
"""Most past bids of a file, and of one bidder."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PastBidsFile:
    """A sale of which only past bids are known.

    Attributes:
        public: what the decision may see.
        seen: past bids.
    """

    public: Selling
    seen: Bids


def past_bids_of(path: Path, document: dict[str, Any]) -> PastBidsFile:
    """What a document states.

    Args:
        path: of its file, for errors and for the file that it names.
        document: all of it.

    Raises:
        InputError: it says something impossible.
    """
    table = Table(path, "", document)
    table.expect_known(
        *("mechanism", "units", "unit_cost", "value_max", "returning", "past", "bidder")
    )
    table.choice("mechanism", ("auction",))
    units = table.whole("units", 1, least=1, most=UNITS_MAX)
    unit_cost = table.number("unit_cost", 0.0, least=0.0)
    value_max = table.number("value_max", above=0.0) if "value_max" in table else np.inf
    returning = table.flag("returning", True)
    if "past" in document and "bidder" in document:
        raise InputError(path, "bidder", "either past = FILE or [[bidder]]", "both")
    listed = table.raw("bidder" if "bidder" in document else "past", "past = FILE or [[bidder]]")
    table.close()
    if "bidder" in document:
        names, past = _listed(path, listed, value_max)
    else:
        named = Table(path, "", {"past": listed}).text("past")
        names, past = _read(table_file(path, "past", named), value_max)
    public = Selling(
        names=tuple(names),
        units=units,
        unit_cost=unit_cost,
        value_max=value_max,
        returning=returning,
        source=path,
    )
    return PastBidsFile(public=public, seen=Bids(past=tuple(past)))


def _read(source: Path, value_max: float) -> tuple[list[str], list[np.ndarray]]:
    """Bidders in the order in which they first bid, and what each bid."""
    columns, names = read_columns(source, ["bid"], row="bid", rows_max=PAST_MAX)
    bids = columns["bid"]
    if names is None:
        raise InputError(source, "name", "a column of this name: whose bid each is", "none")
    check_column(source, "bid", "bid", bids, strict=False)
    for at in np.flatnonzero(bids > value_max)[:1]:
        field = f"bid[{at + 1}].bid"
        raise InputError(source, field, f"a number {bid_range(value_max)}", bids[at].item())
    of = dict.fromkeys(names)
    if len(of) > BIDDERS_MAX:
        raise InputError(source, "name", f"at most {BIDDERS_MAX} bidders", len(of))
    column = np.array(names)
    return list(of), [bids[column == name] for name in of]


def _listed(path: Path, entries: Any, value_max: float) -> tuple[list[str], list[np.ndarray]]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= BIDDERS_MAX:
        expected = f"1 to {BIDDERS_MAX} [[bidder]] tables"
        found = len(entries) if isinstance(entries, list) else shown(entries)
        raise InputError(path, "bidder", expected, found)
    names, past = [], []
    for at, entry in enumerate(entries, start=1):
        table = Table(path, f"bidder[{at}]", entry)
        names.append(table.text("name", f"bidder-{at}"))
        listed = table.raw("past", "a list of past bids")
        table.close()
        field = f"bidder[{at}].past"
        if not isinstance(listed, list) or len(listed) > PAST_MAX:
            raise InputError(path, field, f"a list of up to {PAST_MAX} past bids", shown(listed))
        row = Table(path, field, {str(k): each for k, each in enumerate(listed, start=1)})
        most = value_max if np.isfinite(value_max) else None
        own = [row.number(str(k), least=0.0, most=most) for k in range(1, len(listed) + 1)]
        past.append(np.array(own, float))
    seen = sum(len(each) for each in past)
    if seen < BIDS_MIN:
        raise InputError(path, "bidder", f"at least {BIDS_MIN} past bids to learn from", seen)
    return checked_names(path, "bidder", names, len(names)), past
