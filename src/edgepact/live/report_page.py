"""The page of a report: one HTML file that asks nothing of any server, whatever the run was.

It has the look of the live page, whose style, chart library and drawing stand in it. What jobs
show differs; what the numbers mean, headings, tiles, tables, and who did which part of what are the
same.
Texts come from models and from users: all of it is escaped, and no script runs but the page's own,
which its policy names by hash.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from edgepact.credits import in_credits
from edgepact.framework import Sheet
from edgepact.live.report_charts import Bars, spread_out, table
from edgepact.market.statement import Statement
from edgepact.pacts.partition_results import TimeSplit

COLUMNS_MAX = 8
"""Devices, or rounds, that have columns of their own in the table of payments."""


def page(
    *,
    kind: str,
    title: str,
    verdict: Sequence[str],
    good: bool,
    intro: str,
    tiles: str,
    sections: Iterable[str],
    origin: str,
) -> str:
    """The whole page.

    Args:
        kind: what the run was about, for the name of the window.
        title: heading.
        verdict: sentences that say what the numbers mean for who paid.
        good: whether all promises were kept.
        intro: what was done, a sentence or two.
        tiles: figures that come first, as `tiles` writes them.
        sections: below, as `section` writes them.
        origin: which version made it, and how long it took.
    """
    static = files("edgepact.market.page") / "static"
    own = files("edgepact.live")
    styles = (static / "uplot.min.css", static / "look.css", own / "report.css")
    scripts = (static / "uplot.min.js", static / "charts.js", own / "report.js")
    style = "\n".join(each.read_text("utf-8") for each in styles)
    script = "\n".join(each.read_text("utf-8") for each in scripts)
    policy = (
        "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy.format(digest)}">
<title>edgepact run: {escape(kind)}</title>
<style>
{style}</style></head><body>
<header><p><strong>edgepact</strong> report of a run</p></header>
<main>
<h1>{escape(title)}</h1>
<p class="verdict{"" if good else " bad"}">{escape(" ".join(verdict))}</p>
<p class="intro">{escape(intro)}</p>
<dl class="tiles">{tiles}</dl>
{"".join(sections)}
</main>
<footer>{escape(origin)}</footer>
<script type="text/javascript">{script}</script>
</body></html>
"""


def tiles(rows: Iterable[Sequence[str]]) -> str:
    """Figures: name and value, and perhaps a remark."""
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{''.join(f'<small>{escape(each)}</small>' for each in remarks)}</dd></div>"
        for name, value, *remarks in rows
    )


def section(title: str, body: str, *notes: str, before: str = "") -> str:
    """A part of the page.

    Args:
        title: heading.
        body: HTML.
        notes: sentences below.
        before: what stands above the body, in words.
    """
    told = "".join(f"<p>{escape(each)}</p>" for each in notes)
    above = f"<p>{escape(before)}</p>" if before else ""
    return f"<section><h2>{escape(title)}</h2>{above}{body}{told}</section>"


def sheet_section(sheet: Sheet) -> str:
    """A sheet as a part of the page."""
    return section(sheet.title, table(sheet.head, sheet.rows), *sheet.notes)


def payments(statement: Statement, names: Sequence[str]) -> str:
    """Credits by round and device, and what became of the pieces. Of many devices, a row each.

    Args:
        statement: of the ledger.
        names: of devices.
    """
    paid = statement.paid_by_round()
    rounds = sorted(paid)
    by_device = len(names) > COLUMNS_MAX
    lines: list[tuple[str, list[int]]]
    if by_device:
        columns = [f"round {each}" for each in rounds] if len(rounds) <= COLUMNS_MAX else []
        lines = [(name, [paid[each].get(name, 0) for each in rounds]) for name in names]
    else:
        columns = list(names)
        lines = [(f"{each}", [paid[each].get(name, 0) for name in names]) for each in rounds]
    sums = [sum(column) for column in zip(*(values for _, values in lines), strict=True)]
    cells = [
        (first, *(f"{in_credits(each):.6f}" for each in (*(micro if columns else ()), sum(micro))))
        for first, micro in (*lines, ("all", sums))
    ]
    jobs = ", ".join(f"{count} {kind}" for kind, count in sorted(statement.jobs.items()) if count)
    balance = "equal" if statement.balanced else "DO NOT EQUAL"
    return section(
        "Payments",
        table(("device" if by_device else "round", *columns, "all"), cells),
        f"Credits, as the ledger has them. Debits {balance} credits; pieces: {jobs}.",
    )


def strip(device: int, server: int, *, words: str, device_first: bool = True) -> str:
    """Who did which steps, drawn as a bar of two colours.

    Args:
        device, server: steps of each.
        words: the same, for whoever cannot see it.
        device_first: whether the device does the first steps, or the last.
    """
    parts = [("device", device), ("server", server)]
    bars = "".join(
        f'<i class="{name}" style="flex-grow:{steps}"></i>'
        for name, steps in (parts if device_first else reversed(parts))
        if steps
    )
    return f'<div class="strip" role="img" aria-label="{escape(words)}">{bars}</div>'


def times(devices: Iterable[tuple[str, TimeSplit]], *, unit: str) -> str:
    """Where the time went, a bar a device.

    Args:
        devices: name and times.
        unit: that the times are of, in words: `a token`.
    """
    return Bars(
        title="Time",
        unit=f"milliseconds {unit}, median",
        parts=(
            ("device's part and codec", "device"),
            ("on the way", "link"),
            ("server's part", "server"),
            ("server's queue and books", "ledger"),
        ),
        rows=[
            (
                name,
                [
                    1e3 * s
                    for s in (
                        each.device_s,
                        each.link_s,
                        each.compute_s,
                        each.wait_s,
                    )
                ],
            )
            for name, each in devices
        ],
    ).figure()


__all__ = [
    "page",
    "payments",
    "section",
    "sheet_section",
    "spread_out",
    "strip",
    "table",
    "tiles",
    "times",
]
