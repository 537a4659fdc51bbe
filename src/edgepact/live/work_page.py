"""The page of a run in which something was generated: one HTML file that asks nothing of a server.

What jobs show differs; headings, cards, tables, and who did which part of what are the same. Texts
come from models and from users: all of it is escaped, and no script is run.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeVar

from edgepact.credits import in_credits
from edgepact.framework import Sheet
from edgepact.market.statement import Statement
from edgepact.pacts.partition_results import TimeSplit

T = TypeVar("T")

PARTS = (
    ("device", "in the device's part and its codec"),
    ("link", "on the way"),
    ("server", "in the server's part"),
    ("waiting", "for the server's turn and its books"),
)
"""Of a time, in the order of `TimeSplit`, and what each means."""


def page(
    *, kind: str, title: str, intro: str, cards: str, sections: Iterable[str], origin: str
) -> str:
    """The whole page.

    Args:
        kind: what was generated, for the name of the window.
        title: heading.
        intro: what was done, a sentence or two.
        cards: figures that come first, as `cards` writes them.
        sections: below, as `section` writes them.
        origin: which version made it, and how long it took.
    """
    return _PAGE.format(
        kind=escape(kind),
        title=escape(title),
        intro=escape(intro),
        cards=cards,
        sections="\n".join(sections),
        origin=escape(origin),
    )


def cards(rows: Iterable[tuple[str, str]]) -> str:
    """Figures, each with its name."""
    return "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in rows
    )


def section(title: str, body: str, *notes: str) -> str:
    """A part of the page.

    Args:
        title: heading.
        body: HTML.
        notes: sentences below.
    """
    told = "".join(f"<p>{escape(each)}</p>" for each in notes)
    return f"<section><h2>{escape(title)}</h2>{body}{told}</section>"


def sheet_section(sheet: Sheet) -> str:
    """A sheet as a part of the page."""
    return section(sheet.title, table(sheet.head, sheet.rows), *sheet.notes)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways where the window is narrow."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        '<div class="wide" tabindex="0"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def spread_out(items: Sequence[T], most: int) -> list[T]:
    """So many of them at most, evenly over all, in order.

    Example:
        >>> spread_out("abcdefg", 3)
        ['a', 'd', 'g']
    """
    if len(items) <= most:
        return list(items)
    return [items[round(at * (len(items) - 1) / max(most - 1, 1))] for at in range(most)]


def payments(statement: Statement, names: Sequence[str]) -> str:
    """Credits by round and device, and what became of the pieces.

    Args:
        statement: of the ledger.
        names: of devices.
    """
    paid = statement.paid_by_round()
    rows = {
        f"{number}": [devices.get(name, 0) for name in names]
        for number, devices in sorted(paid.items())
    }
    rows["all"] = [sum(each.get(name, 0) for each in paid.values()) for name in names]
    cells = [
        (first, *(f"{in_credits(each):.6f}" for each in (*micro, sum(micro))))
        for first, micro in rows.items()
    ]
    jobs = ", ".join(f"{count} {kind}" for kind, count in sorted(statement.jobs.items()) if count)
    balance = "equal" if statement.balanced else "DO NOT EQUAL"
    return section(
        "Payments",
        table(("round", *names, "all"), cells),
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


def time_bars(devices: Iterable[tuple[str, TimeSplit]], *, unit: str) -> str:
    """Where the time went, a bar a device; as long as it took, beside the slowest.

    Args:
        devices: name and times.
        unit: that the times are of, in words: `a token`.
    """
    rows = [
        (name, (each.device_s, each.link_s, each.compute_s, each.wait_s)) for name, each in devices
    ]
    longest = max((sum(times) for _, times in rows), default=0.0) or 1.0
    legend = "".join(
        f'<li><i class="key {name}"></i>{escape(name)}: {escape(words)}</li>'
        for name, words in PARTS
    )
    bars = []
    for name, times in rows:
        told = ", ".join(
            f"{part} {1e3 * seconds:.3g} ms"
            for (part, _), seconds in zip(PARTS, times, strict=True)
        )
        parts = "".join(
            f'<i class="{part}" style="width:{100.0 * max(seconds, 0.0) / longest:.2f}%"></i>'
            for (part, _), seconds in zip(PARTS, times, strict=True)
        )
        bars.append(
            f"<dt>{escape(name)}</dt><dd>"
            f'<div class="times" role="img" aria-label="{escape(f"{name}: {told} {unit}")}">'
            f"{parts}</div><small>{1e3 * sum(times):.3g} ms {escape(unit)}: {told}</small></dd>"
        )
    return f'<ul class="legend">{legend}</ul><dl class="bars">{"".join(bars)}</dl>'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:">
<title>edgepact run: {kind}</title>
<style>
:root {{ --ink:#1f2933; --quiet:#52606d; --line:#e4e7eb; --green:#0b6e4f; --red:#b3323f;
  --device:#0b6e4f; --link:#b9c2cc; --server:#3b5b92; --waiting:#e0a458; }}
* {{ box-sizing:border-box; }}
body {{ margin:0; background:#f5f7f9; color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif; }}
main {{ max-width:960px; margin:0 auto; padding:32px 20px 64px; }}
h1 {{ font-size:30px; line-height:1.2; margin:0 0 6px; }}
h2 {{ font-size:20px; line-height:1.3; margin:0 0 10px; }}
p {{ margin:0 0 10px; max-width:76ch; }}
section {{ background:white; border:1px solid var(--line); border-radius:10px;
  padding:18px 22px; margin-top:18px; }}
section > p {{ color:var(--quiet); font-size:13px; margin:10px 0 0; }}
article {{ border-top:1px solid var(--line); padding:14px 0; }}
article:first-of-type {{ border-top:0; padding-top:0; }}
.cards {{ display:grid; grid-template-columns:repeat(auto-fit,minmax(200px,1fr)); gap:12px;
  margin-top:22px; }}
.card {{ background:white; border:1px solid var(--line); border-radius:10px; padding:12px 16px; }}
.card b {{ display:block; font-size:24px; line-height:1.3; color:var(--green);
  overflow-wrap:anywhere; }}
.card span {{ font-size:14px; line-height:1.35; display:block; }}
.prompt {{ font-weight:600; margin:0 0 6px; overflow-wrap:anywhere; }}
.text {{ margin:0 0 8px; white-space:pre-wrap; overflow-wrap:anywhere;
  border-left:3px solid var(--green); padding-left:12px; }}
audio {{ display:block; width:100%; max-width:520px; margin:0 0 8px; }}
article ul {{ color:var(--quiet); font-size:13px; margin:6px 0 0; padding-left:18px; }}
.strip {{ display:flex; gap:2px; height:8px; max-width:420px; border-radius:4px;
  overflow:hidden; }}
.strip i, .times i {{ display:block; height:100%; }}
i.device {{ background:var(--device); }}
i.link {{ background:var(--link); }}
i.server {{ background:var(--server); }}
i.waiting {{ background:var(--waiting); }}
.legend {{ list-style:none; display:flex; flex-wrap:wrap; gap:4px 18px; margin:0 0 12px;
  padding:0; font-size:13px; color:var(--quiet); }}
.key {{ display:inline-block; width:11px; height:11px; border-radius:2px; margin-right:6px; }}
.bars {{ display:grid; grid-template-columns:max-content minmax(0,1fr); gap:8px 14px; margin:0; }}
.bars dd {{ margin:0; }}
.times {{ display:flex; height:14px; margin-top:6px; }}
.bars small {{ color:var(--quiet); }}
.tiles {{ display:grid; grid-template-columns:repeat(auto-fill,minmax(124px,1fr)); gap:10px; }}
.tile {{ border:1px solid var(--line); border-top:3px solid var(--green); border-radius:8px;
  padding:8px; text-align:center; font-size:13px; line-height:1.3; margin:0; }}
.tile img {{ width:84px; height:84px; image-rendering:pixelated; display:block;
  margin:0 auto 6px; background:black; border-radius:4px; }}
.tile b, .tile em, .tile small {{ display:block; overflow-wrap:anywhere; }}
.tile em {{ font-style:normal; color:var(--green); }}
.tile .strip {{ margin:6px 0 4px; }}
.tile.miss {{ border-top-color:var(--red); }}
.tile.miss em {{ color:var(--red); }}
.tile small {{ color:var(--quiet); font-size:12px; }}
.wide {{ overflow-x:auto; }}
table {{ border-collapse:collapse; width:100%; font-size:14px; }}
th, td {{ text-align:right; padding:6px 10px; border-bottom:1px solid var(--line);
  font-variant-numeric:tabular-nums; vertical-align:bottom; }}
th {{ line-height:1.3; }}
th:first-child, td:first-child {{ text-align:left; }}
footer {{ margin-top:24px; color:var(--quiet); font-size:13px; }}
@media (max-width:480px) {{
  main {{ padding:20px 12px 48px; }}
  h1 {{ font-size:24px; }}
  section {{ padding:14px; }}
  .cards {{ grid-template-columns:1fr 1fr; gap:8px; }}
  .card {{ padding:10px 12px; }}
  .card b {{ font-size:19px; }}
  .bars {{ grid-template-columns:1fr; gap:2px; }}
  .bars dd {{ margin-bottom:8px; }}
  th, td {{ padding:6px 8px; }}
}}
</style></head><body><main>
<h1>{title}</h1>
<p>{intro}</p>
<div class="cards">{cards}</div>
{sections}
<footer>{origin}</footer>
</main></body></html>
"""
