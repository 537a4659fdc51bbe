"""Results as tables for the terminal."""

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgepact.mechanisms.audit import Audit
from edgepact.mechanisms.stackelberg import Game, Outcome, first_best, personalised
from edgepact.scenario import Market

DEVICES_SHOWN = 20


def market_table(market: Market, result: Outcome) -> RenderableType:
    """The price, and what each device does and gets; of many devices, the first."""
    game, size = market.game, len(market.names)
    table = Table()
    table.add_column("device")
    for title in ("alpha", "capacity", "layers", "payment", "utility"):
        table.add_column(title, justify="right")
    digits = 0 if game.integer else 4
    for at in range(min(size, DEVICES_SHOWN)):
        table.add_row(
            escape(market.names[at]),
            f"{game.fleet.alpha[at]:.4g}",
            f"{game.fleet.capacity[at]:.4g}",
            f"{result.layers[at]:.{digits}f}",
            f"{result.payments[at]:.4f}",
            f"{result.device_utility[at]:.4f}",
        )
    if size > 1:
        table.add_section()
        totals = (np.sum(result.layers), np.sum(result.payments), np.sum(result.device_utility))
        shown = (f"{totals[0]:.{digits}f}", f"{totals[1]:.4f}", f"{totals[2]:.4f}")
        table.add_row("all", "", "", *shown)
    title = (
        f"Best price {float(result.price):.6g} credits per layer; "
        f"server's utility {float(result.server_utility):.6g} credits"
    )
    more = [f"(the first {DEVICES_SHOWN} of {size} devices)"] if size > DEVICES_SHOWN else []
    return Group(title, table, *more)


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
    table.add_row("nobody loses by taking part", _yes(audit.individually_rational))
    table.add_row("payments stay within the saving", _yes(audit.budget_balanced))
    table.add_row(
        f"largest gain from lying about alpha or W ({audit.lies_tried} lies tried)",
        f"at least {audit.largest_gain_from_lying:.4g} credits",
    )
    return table


def _yes(fact: bool) -> str:
    return "yes" if fact else "NO"
