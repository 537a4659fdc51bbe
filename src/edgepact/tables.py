"""Results as tables for the terminal, for pages and for notebooks.

What a result has to show is a `Sheet`; here it becomes Rich, Markdown or HTML, and nowhere else.
Cells are text that may come from anybody, such as the name of a device: none of it is markup.
"""

from collections.abc import Sequence
from html import escape as html_escape
from types import EllipsisType

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgepact.files.auction import AuctionFile
from edgepact.files.market import Market
from edgepact.mechanisms.auction.audit import AuctionAudit
from edgepact.mechanisms.auction.rules import Auction, Award
from edgepact.mechanisms.stackelberg.audit import Audit, gains_over_staying_away
from edgepact.mechanisms.stackelberg.optimum import Game, Outcome, first_best, personalised
from edgepact.mechanisms.stackelberg.score import LEAST_SHARE
from edgepact.pact import Sheet
from edgepact.solvers.in_context.quoted import Quoted

DEVICES_SHOWN = 20

DEVICES_QUOTED = 6
"""Most devices that have a column each in a table of quotes."""


ROUNDING = 1e-9
"""What is smaller than this beside the numbers it was computed from is nothing."""


NOBODY_LOSES = "nobody is worse off than by staying away"
"""The question of individual rationality; a utility may be negative beside it."""


def figure(value: float, beside: float, digits: int = 6) -> str:
    """A number for a table: 0 where it is only what rounding left of larger ones.

    Args:
        value: the number.
        beside: the size of the numbers it came from.
        digits: significant ones to show.

    Example:
        >>> figure(1.77636e-15, beside=8.0), figure(0.25, beside=8.0)
        ('0', '0.25')
    """
    return "0" if abs(value) <= ROUNDING * abs(beside) else f"{value:.{digits}g}"


def rich_table(sheet: Sheet) -> RenderableType:
    """A sheet for the terminal: title, table, notes. The first column is words, the others are
    figures, aligned right."""
    table = Table()
    for at, name in enumerate(sheet.head):
        table.add_column(Text(name), justify="right" if at else "left")
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    return Group(Text(sheet.title, style="bold"), table, *(Text(note) for note in sheet.notes))


def markdown(sheet: Sheet) -> str:
    """A sheet as a section of a Markdown page."""
    lines = [
        _markdown_row(sheet.head),
        _markdown_row([":--", *["--:"] * (len(sheet.head) - 1)]),
        *(_markdown_row([_markdown_cell(cell) for cell in row]) for row in sheet.rows),
    ]
    return "\n\n".join([f"## {sheet.title}", "\n".join(lines), *sheet.notes])


def html(sheet: Sheet) -> str:
    """A sheet as HTML, for notebooks and pages."""
    head = "".join(f"<th>{html_escape(name)}</th>" for name in sheet.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html_escape(cell)}</td>" for cell in row) + "</tr>"
        for row in sheet.rows
    )
    notes = "".join(f"<p>{html_escape(note)}</p>" for note in sheet.notes)
    return (
        f"<section><h3>{html_escape(sheet.title)}</h3><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{notes}</section>"
    )


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def market_table(market: Market, result: Outcome) -> RenderableType:
    """The price, and what each device does and gets; of many devices, the first."""
    game, size = market.game, len(market.names)
    table = Table()
    table.add_column("device")
    for title in ("alpha", "capacity", "layers", "payment", "utility", "over staying away"):
        table.add_column(title, justify="right")
    gains = np.asarray(gains_over_staying_away(game, result))
    digits = 0 if game.integer else 4
    for at in range(min(size, DEVICES_SHOWN)):
        table.add_row(
            escape(market.names[at]),
            f"{game.fleet.alpha[at]:.4g}",
            f"{game.fleet.capacity[at]:.4g}",
            f"{result.layers[at]:.{digits}f}",
            f"{result.payments[at]:.4f}",
            f"{result.device_utility[at]:.4f}",
            f"{_cents(gains[at]):.4f}",
        )
    if size > 1:
        table.add_section()
        credits_of_all = (result.payments, result.device_utility, gains)
        shown = (
            f"{np.sum(result.layers):.{digits}f}",
            *(f"{_cents(np.sum(each)):.4f}" for each in credits_of_all),
        )
        table.add_row("all", "", "", *shown)
    title = (
        f"Best price {float(result.price):.6g} credits per layer; "
        f"server's utility {float(result.server_utility):.6g} credits"
    )
    least = f"The least a device gains over staying away is {_cents(np.min(gains)):.4f} credits."
    more = [f"(the first {DEVICES_SHOWN} of {size} devices)"] if size > DEVICES_SHOWN else []
    return Group(title, table, *more, least)


def quotes_table(market: Market, result: Quoted) -> RenderableType:
    """Rounds of quotes, what devices answered, and a sentence on how good that is."""
    few = len(market.names) <= DEVICES_QUOTED
    table = Table()
    table.add_column("round", justify="right")
    table.add_column("price", justify="right")
    for name in market.names if few else ["layers, all devices"]:
        table.add_column(escape(name), justify="right")
    table.add_column("server's utility", justify="right")
    table.add_column("share of the optimum", justify="right")
    digits = 0 if result.integer else 3

    def row(label: str, of: Outcome, at: int | EllipsisType, share: float) -> list[str]:
        layers = np.asarray(of.layers)[at]
        shown = layers if few else [np.sum(layers)]
        return [
            label,
            f"{float(np.asarray(of.price)[at]):.5g}",
            *(f"{float(each):.{digits}f}" for each in shown),
            f"{float(np.asarray(of.server_utility)[at]):.6g}",
            f"{100.0 * share:.2f} %",
        ]

    for at, share in enumerate(result.shares):
        table.add_row(*row(str(at + 1), result.rounds, at, float(share)))
    table.add_section()
    table.add_row(*row("best", result.best, ..., 1.0))
    number = int(np.argmax(result.shares))
    meaning = (
        f"Without seeing any device's costs, quote {number + 1} of {len(result.shares)} earned "
        f"{100.0 * float(result.shares[number]):.2f} % of what a server could gain over random "
        f"prices that knew them all, and the last one {100.0 * float(result.shares[-1]):.2f} %."
    )
    notes = []
    if float(market.game.price_min) <= 0:
        low = result.known.price_min
        notes.append(
            f"Prices below {low:.4g} ({LEAST_SHARE:.1%} of a layer's saving) are not posted."
        )
    if np.ptp(market.game.fleet.A) > 0:
        notes.append("A layer saves different amounts on different devices; the mean was used.")
    return Group(table, meaning, *notes)


def _cents(value: float) -> float:
    """A number of which four decimals are shown, so that none of them reads -0.0000."""
    return 0.0 if abs(value) < 5e-5 else float(value)


def benchmarks_table(game: Game, result: Outcome) -> Table:
    """The server's utility beside what it would have otherwise."""
    nothing = float(game.revenue - np.sum(game.saving) * game.layers_max)
    table = Table(title="What the server could earn", title_justify="left")
    table.add_column("rule")
    table.add_column("server's utility", justify="right")
    table.add_column("over doing it alone", justify="right")
    for rule, utility in (
        ("alone, no device takes part", nothing),
        ("one price for all (this result)", result.server_utility),
        ("a price for each device", personalised(game).server_utility),
        ("first best, all surplus to the server", first_best(game).server_utility),
    ):
        table.add_row(rule, f"{float(utility):.6g}", f"{float(utility) - nothing:+.6g}")
    return table


def audit_table(audit: Audit) -> Table:
    """The audit in words."""
    table = Table(title="Audit", title_justify="left")
    table.add_column("question")
    table.add_column("answer", justify="right")
    table.add_row(NOBODY_LOSES, _yes(audit.individually_rational))
    table.add_row("payments stay within the saving", _yes(audit.budget_balanced))
    table.add_row(
        f"largest gain from lying about alpha or W ({audit.lies_tried} lies tried)",
        f"at least {figure(audit.largest_gain_from_lying, 1.0, 4)} credits",
    )
    return table


def auction_table(read: AuctionFile, award: Award) -> RenderableType:
    """Who wins and is paid what; of many bidders, the first winners."""
    winners = np.flatnonzero(award.wins)
    few = len(read.names) <= DEVICES_SHOWN
    shown = np.arange(len(read.names)) if few else winners[:DEVICES_SHOWN]
    sells = read.auction.sells
    table = Table()
    table.add_column("bidder")
    for title in (
        "bid",
        "wins",
        *(("pays", "below its bid") if sells else ("is paid", "beyond its bid")),
    ):
        table.add_column(title, justify="right")
    for at in shown:
        wins, bid, payment = bool(award.wins[at]), read.bids[at], award.payments[at]
        gain = (bid - payment if sells else payment - bid) if wins else 0.0
        name = escape(read.names[at])
        table.add_row(name, f"{bid:.4g}", "yes" if wins else "", f"{payment:.4f}", f"{gain:.4f}")
    total = float(np.sum(award.payments))
    title = (
        f"{len(winners)} of {len(read.names)} bidders win and "
        f"{'pay' if sells else 'are paid'} {total:.6g} credits"
    )
    if award.unit_price is not None and len(winners):
        title += f", {float(award.unit_price):.6g} a unit of value"
    rest = [] if few else [f"(the first {len(shown)} of {len(winners)} winners)"]
    return Group(title, table, *rest)


def auction_audit_table(auction: Auction, audit: AuctionAudit) -> Table:
    """The audit of an auction in words."""
    table = Table(title="Audit", title_justify="left")
    table.add_column("question")
    table.add_column("answer", justify="right")
    limit = "cover what is sold" if auction.sells else "stay within the budget or the value bought"
    table.add_row(NOBODY_LOSES, _yes(audit.individually_rational))
    table.add_row(f"payments {limit}", _yes(audit.budget_balanced))
    table.add_row("a better bid never loses what a worse one wins", _yes(audit.monotone))
    table.add_row(
        f"largest gain from lying ({audit.lies_tried} lies of {audit.bidders_searched} bidders)",
        f"{figure(audit.largest_gain_from_lying, 1.0, 4)} credits",
    )
    return table


def _yes(fact: bool) -> str:
    return "yes" if fact else "NO"
