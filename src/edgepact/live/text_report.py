"""The report of a run in which texts were written: one HTML file, with CSV beside it.

Texts come from a model and prompts from a user: all of it is escaped, and no line of it is run.
"""

import csv
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

from edgepact.credits import in_credits
from edgepact.framework import Json, Sheet
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.pacts.partition_texts import DeviceTexts, TextResult, TextsDone
from edgepact.palette import DEEP_GREEN
from edgepact.provenance import provenance, write_metrics

TEXTS_SHOWN = 60

Cells = list[tuple[str, ...]]


def write_text_report(folder: Path, terms: Any, outcome: WorkPriced | LayersBought) -> Path:
    """Writes report.html, texts.csv and metrics.json.

    Args:
        folder: to write into.
        terms: of the scenario, kept beside its figures.
        outcome: of the pact.

    Returns:
        The path of report.html.
    """
    work = outcome.work
    assert isinstance(work, TextsDone)
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        columns = ["device", *(each.name for each in fields(TextResult))]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for device, result in work.texts:
            table.writerow({"device": device, **asdict(result)})
    kept: dict[str, Json] = outcome.to_dict()
    write_metrics(folder, terms, kept)
    blocks = work.profile.costs.layers_max
    sheets = "".join(_sheet(each) for each in (*outcome.sheets, *outcome.decided))
    page = _PAGE.format(
        green=DEEP_GREEN,
        title=f"{len(work.devices)} devices, {len(work.texts)} texts, {work.tokens} tokens",
        model=escape(work.profile.model),
        blocks=blocks,
        cards=_cards(work),
        texts=_texts(work, blocks),
        devices=_devices(work, blocks),
        sheets=sheets,
        origin=escape(f"edgepact {provenance(terms)['edgepact']} · {work.live_seconds:.0f} s"),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


# ---------------------------------------------------------------- private


def _cards(work: TextsDone) -> str:
    return "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in work.rows("as promised")
    )


def _texts(work: TextsDone, blocks: int) -> str:
    step = max(1, len(work.texts) // TEXTS_SHOWN)
    shown = []
    for device, each in work.texts[::step][:TEXTS_SHOWN]:
        audit = "audited" if each.audited else "not audited"
        paid = f"{in_credits(each.paid_microcredits):.3f} credits, {each.state}, {audit}"
        speed = each.tokens / each.text_seconds if each.text_seconds else 0.0
        told = [
            f"{device} did {_blocks(1, each.amount)}, the server {_rest(each.amount, blocks)}",
            f"{each.prompt_tokens} tokens of prompt, {each.tokens} generated, {each.reason}",
            f"first token after {each.first_token_seconds:.2f} s, {speed:.3g} tokens a second",
            f"{each.bytes_sent:,} bytes sent, {each.bytes_received:,} received, {each.codec}",
            paid,
        ]
        if each.replays:
            told.append(f"its session was lost {each.replays} times, and brought back")
        if each.tokens_alone:
            told.append(f"{each.tokens_alone} tokens were written without the server")
        notes = "".join(f"<li>{escape(line)}</li>" for line in told)
        shown.append(
            f'<article><p class="prompt">{escape(each.prompt)}</p>'
            f'<p class="text">{escape(each.text)}</p><ul>{notes}</ul></article>'
        )
    return "".join(shown)


def _blocks(first: int, last: int) -> str:
    return f"embed and blocks {first} to {last}" if last >= first else "nothing but asking"


def _rest(amount: int, blocks: int) -> str:
    if amount == blocks:
        return "the head"
    return f"blocks {amount + 1} to {blocks} and the head" if amount else "all of it"


def _devices(work: TextsDone, blocks: int) -> str:
    head = (
        *("device", "texts", "tokens", "tokens a second"),
        *("ms a token: device", "link", "server's blocks", "waiting"),
        *("bytes sent a token", "received", "GMAC: device", "server", "paid, credits", "lost"),
    )
    return _table(head, [_device(each) for each in work.devices])


def _device(each: DeviceTexts) -> tuple[str, ...]:
    times = (each.device_s, each.link_s, each.compute_s, each.wait_s)
    return (
        *(each.name, f"{each.texts}", f"{each.tokens}", f"{each.tokens_per_s:.3g}"),
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}"),
        *(f"{each.paid_credits:.3f}", each.lost or ""),
    )


def _sheet(sheet: Sheet) -> str:
    notes = "".join(f"<p>{escape(each)}</p>" for each in sheet.notes)
    table = _table(sheet.head, list(sheet.rows))
    return f"<section><h2>{escape(sheet.title)}</h2>{table}{notes}</section>"


def _table(head: tuple[str, ...], rows: Cells) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>edgepact run: text</title>
<style>
:root {{ --ink:#1f2933; --quiet:#616e7c; --line:#e4e7eb; --green:{green}; }}
* {{ box-sizing:border-box; }}
body {{ margin:0; background:#f5f7f9; color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif; }}
main {{ max-width:960px; margin:0 auto; padding:32px 20px 64px; }}
h1 {{ font-size:30px; margin:0 0 4px; }}
h2 {{ font-size:20px; margin:0 0 6px; }}
section, article {{ background:white; border:1px solid var(--line); border-radius:10px;
  padding:18px 22px; margin-top:18px; }}
article {{ margin-top:10px; }}
.cards {{ display:grid; grid-template-columns:repeat(auto-fit,minmax(200px,1fr)); gap:12px;
  margin-top:22px; }}
.card {{ background:white; border:1px solid var(--line); border-radius:10px; padding:14px 16px; }}
.card b {{ display:block; font-size:24px; color:var(--green); }}
.prompt {{ font-weight:600; margin:0 0 6px; }}
.text {{ margin:0 0 8px; white-space:pre-wrap; border-left:3px solid var(--green);
  padding-left:12px; }}
ul, section p {{ color:var(--quiet); font-size:13px; margin:0; padding-left:18px; }}
table {{ border-collapse:collapse; width:100%; font-size:14px; display:block; overflow-x:auto; }}
th, td {{ text-align:right; padding:6px 10px; border-bottom:1px solid var(--line);
  font-variant-numeric:tabular-nums; }}
th:first-child, td:first-child {{ text-align:left; }}
footer {{ margin-top:24px; color:var(--quiet); font-size:13px; }}
</style></head><body><main>
<h1>{title}</h1>
<p>{model}, a language model of {blocks} blocks, split between self-interested devices and one edge
server. A device runs the first blocks for each token, the server the rest, and draws the token;
blocks are paid for each token.</p>
<div class="cards">{cards}</div>
<section><h2>What each device did</h2>{devices}</section>
<section><h2>What was written</h2>{texts}</section>
{sheets}
<footer>{origin}</footer>
</main></body></html>
"""
