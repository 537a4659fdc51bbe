"""Files with `mechanism = "auction"`: TOML in, a checked auction and its bids out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import (
    Table,
    check_column,
    checked_names,
    load,
    shown,
    table_file,
    terms_in,
)
from edgepact.files.columns import ROWS_MAX, read_columns
from edgepact.mechanisms.auction.knapsack_vcg import CELLS_MAX, KnapsackVcg
from edgepact.mechanisms.auction.optimal_procurement import OptimalProcurement
from edgepact.mechanisms.auction.posted_prices import expected_budget
from edgepact.mechanisms.auction.prior import (
    PARTS_MAX,
    SEGMENTS_MAX,
    Histogram,
    Mixture,
    Prior,
    TruncatedExponential,
    uniform,
)
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.reserve import ReserveAuction
from edgepact.mechanisms.auction.scoring import (
    SCORE_FORMS,
    PayAsBid,
    Score,
    ScoreForm,
    second_score,
)
from edgepact.mechanisms.auction.terms import Auction
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.auction.virtual_cost import virtual_cost, virtual_value

BIDS_MAX = ROWS_MAX
"""Most bids of a file."""

QUALITIES_MAX = 100
"""Most qualities of a scored bid."""

RULES = ("proportional_share", "vcg", "optimal", "reserve", "second_score", "fmore")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuctionFile:
    """An auction as a file states it.

    Attributes:
        source: the file.
        rule: its name, one of `RULES`.
        auction: the rule.
        bids: credits, in file order.
        names: of the bidders; `bid-1`, `bid-2`, ... where the file has none.
    """

    source: Path
    rule: str
    auction: Auction
    bids: np.ndarray
    names: list[str]


def read_auction(path: Path) -> AuctionFile:
    """Reads a file with `mechanism = "auction"`.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible.
    """
    return auction_of(path, load(path))


def auction_of(path: Path, document: dict[str, Any]) -> AuctionFile:
    """What a document with `mechanism = "auction"` states.

    Args:
        path: of its file, for errors and for the files that it names.
        document: all of it; the tables of a scenario are passed over.

    Raises:
        InputError: it says something impossible.
    """
    document = terms_in(document)
    table = Table(path, "", document)
    table.expect_known(
        *("mechanism", "rule", "budget", "units", "unit_cost", "winners_max", "capacity"),
        *("prior", "score", "bid", "bids"),
    )
    table.choice("mechanism", ("auction",))
    rule = table.choice("rule", RULES)
    terms = _terms(path, table, document, rule)
    table.raw("bids" if "bids" in document else "bid", "[[bid]] or bids = FILE")
    table.close()
    bids, names = _bids(path, document, rule, terms)
    return AuctionFile(
        source=path,
        rule=rule,
        auction=_auction(path, rule, terms, bids),
        bids=bids["bid"],
        names=checked_names(path, "bid", names, len(bids["bid"])),
    )


def _terms(path: Path, table: Table, document: dict[str, Any], rule: str) -> dict[str, Any]:
    """What a rule needs to know besides the bids, by field."""
    terms: dict[str, Any] = {}
    other = {"vcg": "capacity", "optimal": "budget"}.get(rule)
    if rule == "proportional_share":
        terms["budget"] = table.number("budget", least=0.0)
    elif rule == "reserve":
        terms["units"] = table.whole("units", least=1, most=BIDS_MAX)
        terms["unit_cost"] = table.number("unit_cost", least=0.0) if "unit_cost" in table else 0
    elif other is None or other not in table:
        terms["winners_max"] = table.whole("winners_max", least=1, most=BIDS_MAX)
    else:
        if "winners_max" in document:
            raise InputError(path, other, f"either winners_max or {other}", "both")
        if other == "capacity":
            terms["capacity"] = table.whole("capacity", least=1, most=10**15)
        else:
            terms["budget"] = table.number("budget", least=0.0)
    if rule in ("optimal", "reserve"):
        prior = table.raw("prior", "a table such as { form = 'uniform', low = 0.0, high = 1.0 }")
        terms["prior"] = _prior(path, "prior", prior)
    if rule in ("second_score", "fmore"):
        score = table.raw("score", "a table such as { weights = [2.0, 1.0] }")
        terms["score"] = _score(path, score)
    return terms


def _auction(
    path: Path, rule: str, terms: dict[str, Any], columns: dict[str, np.ndarray]
) -> Auction:
    if rule == "reserve":
        virtual = virtual_value(terms["prior"])
        return ReserveAuction(
            virtual=virtual, units=terms["units"], unit_cost=float(terms["unit_cost"])
        )
    if "score" in terms:
        weights = terms["score"].weights
        quality = np.stack([columns[f"quality_{at + 1}"] for at in range(len(weights))], axis=-1)
        with np.errstate(over="ignore", under="ignore"):
            scores = terms["score"](quality)
        check_column(path, "bid", "quality: score", scores, strict=True)
        of = second_score if rule == "second_score" else _pay_as_bid
        return of(scores, terms["winners_max"])
    values = columns["value"]
    if rule == "proportional_share":
        return ProportionalShare(values=values, budget=terms["budget"])
    if rule == "optimal" and "budget" in terms:
        return expected_budget(values, virtual_cost(terms["prior"]), terms["budget"])
    if rule == "optimal":
        virtual = virtual_cost(terms["prior"])
        return OptimalProcurement(values=values, virtual=virtual, winners_max=terms["winners_max"])
    if "capacity" not in terms:
        return Vcg(values=values, winners_max=terms["winners_max"])
    return _knapsack(path, values, columns["size"], terms["capacity"])


def _pay_as_bid(scores: np.ndarray, winners_max: int) -> Auction:
    return PayAsBid(scores=scores, winners_max=winners_max)


def _knapsack(path: Path, values: np.ndarray, sizes: np.ndarray, capacity: int) -> Auction:
    wrong = (sizes != np.floor(sizes)) | (sizes > 1e15)
    for at in np.flatnonzero(wrong)[:1]:
        expected = "a whole number of at most 1e15"
        raise InputError(path, f"bid[{at + 1}].size", expected, sizes[at].item())
    try:
        return KnapsackVcg(values=values, sizes=sizes.astype(np.int64), capacity=capacity)
    except InputError as error:  # too large a table
        expected = f"bids times capacity of at most {CELLS_MAX}"
        raise InputError(path, error.field, expected, error.found) from None


def _prior(path: Path, field: str, values: Any, depth: int = 0) -> Prior:
    table = Table(path, field, values)
    forms = ("uniform", "exponential", "histogram") + (("mixture",) if depth == 0 else ())
    form = table.choice("form", forms)
    try:
        prior: Prior
        if form == "histogram":
            bins = _numbers(path, f"{field}.bins", table.raw("bins", "a list"), SEGMENTS_MAX + 1)
            listed = table.raw("weights", "a list")
            weights = _numbers(path, f"{field}.weights", listed, SEGMENTS_MAX)
            prior = Histogram(bins=bins, weights=weights)
        elif form == "mixture":
            parts = table.raw("parts", "a list of tables")
            if not isinstance(parts, list) or not 1 <= len(parts) <= PARTS_MAX:
                raise InputError(path, f"{field}.parts", f"1 to {PARTS_MAX} tables", shown(parts))
            read = [
                _prior(path, f"{field}.parts[{at}]", each, 1) for at, each in enumerate(parts, 1)
            ]
            listed = table.raw("weights", "a list")
            weights = _numbers(path, f"{field}.weights", listed, PARTS_MAX)
            prior = Mixture(parts=read, weights=weights)
        else:
            low, high = table.interval("low", "high", least=0.0, strict=True)
            prior = uniform(low, high)
            if form == "exponential":
                rate = table.number("rate", above=0.0)
                prior = TruncatedExponential(start=low, stop=high, rate=rate)
    except InputError as error:
        if error.source != "prior":
            raise
        raise InputError(path, f"{field}.{error.field}", error.expected, error.found) from None
    table.close()
    if prior.low < 0.0:
        raise InputError(path, f"{field}.bins", "numbers of at least 0", prior.low)
    return prior


def _score(path: Path, values: Any) -> Score:
    table = Table(path, "score", values)
    form = table.choice("form", SCORE_FORMS, "sum")
    scale = table.number("scale", above=0.0) if "scale" in table else 1.0
    weights = _numbers(path, "score.weights", table.raw("weights", "a list"), QUALITIES_MAX)
    table.close()
    try:
        return Score(weights=weights, form=cast(ScoreForm, form), scale=scale)
    except InputError as error:
        field = f"score.{error.field}"
        raise InputError(path, field, error.expected, error.found) from None


def _numbers(path: Path, field: str, listed: Any, most: int) -> np.ndarray:
    """A list of finite numbers."""
    if not isinstance(listed, list) or not 1 <= len(listed) <= most:
        raise InputError(path, field, f"a list of 1 to {most} numbers", shown(listed))
    row = Table(path, field, {str(at): each for at, each in enumerate(listed, start=1)})
    return np.array([row.number(str(at)) for at in range(1, len(listed) + 1)])


def _bids(
    path: Path, document: dict[str, Any], rule: str, terms: dict[str, Any]
) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Columns of bids, checked, and names if there are any."""
    columns = ["bid"]
    if "score" in terms:
        columns += [f"quality_{at + 1}" for at in range(len(terms["score"].weights))]
    elif rule != "reserve":
        columns += ["value", "size"] if "capacity" in terms else ["value"]
    names: list[str] | None
    if "bids" in document:
        if "bid" in document:
            raise InputError(path, "bid", "either bids = FILE or [[bid]]", "both")
        source = table_file(path, "bids", Table(path, "", document).text("bids", ""))
        read, names = read_columns(source, columns, row="bid")
    else:
        source = path
        read, names = _listed(path, document["bid"], columns)
    for name in columns:
        check_column(source, "bid", name, read[name], strict=name != "bid")
    return read, names


def _listed(
    path: Path, entries: Any, columns: list[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= BIDS_MAX:
        raise InputError(path, "bid", "one or more [[bid]] tables", shown(entries))
    qualities = sum(name.startswith("quality_") for name in columns)
    read: dict[str, list[float]] = {name: [] for name in columns}
    names = []
    for at, entry in enumerate(entries, start=1):
        row = Table(path, f"bid[{at}]", entry)
        names.append(row.text("name", f"bid-{at}"))
        for name in columns:
            if name == "bid":
                read[name].append(row.number(name, least=0.0))
            elif not name.startswith("quality_"):
                read[name].append(row.number(name, above=0.0))
        if qualities:
            expected = f"a list of {qualities} numbers, as many as score.weights"
            listed = row.raw("quality", expected)
            if not isinstance(listed, list) or len(listed) != qualities:
                raise InputError(path, f"bid[{at}].quality", expected, shown(listed))
            for d, each in enumerate(_numbers(path, f"bid[{at}].quality", listed, qualities)):
                read[f"quality_{d + 1}"].append(float(each))
        row.close()
    return {name: np.array(column) for name, column in read.items()}, names
