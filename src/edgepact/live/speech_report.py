"""The report of a run in which sentences were spoken: one HTML file with players, CSV beside it.

Sounds stand in the page itself, so that it asks nothing of any server; there are as many of them as
`PLAYERS_MAX` and `SOUND_BYTES_MAX` allow. Sentences come from a user and are escaped.
"""

import base64
import csv
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

from edgepact.credits import in_credits
from edgepact.framework import Json, Sheet
from edgepact.jobs.speech.sound import as_wav, of_text
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.pacts.partition_speech import DeviceSpeech, SpeechDone, SpokenResult
from edgepact.provenance import provenance, write_metrics

PLAYERS_MAX = 24
SOUND_BYTES_MAX = 8 << 20
"""Of all WAV files in the page."""


def write_speech_report(folder: Path, terms: Any, outcome: WorkPriced | LayersBought) -> Path:
    """Writes report.html, sentences.csv and metrics.json.

    Args:
        folder: to write into.
        terms: of the scenario, kept beside its figures.
        outcome: of the pact.

    Returns:
        The path of report.html.
    """
    work = outcome.work
    assert isinstance(work, SpeechDone)
    with (folder / "sentences.csv").open("w", newline="", encoding="utf-8") as file:
        names = [each.name for each in fields(SpokenResult) if each.name != "sound"]
        table = csv.DictWriter(file, ["device", *names])
        table.writeheader()
        for device, result in work.spoken:
            table.writerow({"device": device, **result.as_row()})
    kept: dict[str, Json] = outcome.to_dict()
    write_metrics(folder, terms, kept)
    stages = work.profile.costs.layers_max
    sheets = "".join(_sheet(each) for each in (*outcome.sheets, *outcome.decided))
    page = _PAGE.format(
        title=f"{len(work.devices)} devices, {len(work.spoken)} sentences, "
        f"{work.seconds:.0f} seconds of sound",
        model=escape(work.profile.model),
        stages=stages,
        cards=_cards(work),
        players=_players(work, stages),
        devices=_devices(work),
        sheets=sheets,
        origin=escape(f"edgepact {provenance(terms)['edgepact']} · {work.live_seconds:.0f} s"),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


# ---------------------------------------------------------------- private


def _cards(work: SpeechDone) -> str:
    return "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in work.rows("as promised")
    )


def _players(work: SpeechDone, stages: int) -> str:
    step = max(1, len(work.spoken) // PLAYERS_MAX)
    shown, left = [], SOUND_BYTES_MAX
    for device, each in work.spoken[::step][:PLAYERS_MAX]:
        sound = as_wav(of_text(each.sound))
        if len(sound) > left:
            continue
        left -= len(sound)
        shown.append(_player(device, each, stages, sound))
    return "".join(shown)


def _player(device: str, each: SpokenResult, stages: int, sound: bytes) -> str:
    computing = each.device_seconds + (each.compute_seconds or 0.0)
    audit = "audited" if each.audited else "not audited"
    link = (each.roundtrip_seconds or 0.0) - (each.server_seconds or 0.0)
    told = (
        f"{device} did {_who(each.amount, stages)}",
        f"{each.phonemes} phonemes, {each.frames} frames: {each.seconds:.2f} s of sound in "
        f"{1e3 * computing:.0f} ms of computing",
        f"{1e3 * each.device_seconds:.0f} ms on the device, {1e3 * link:.0f} ms on the way, "
        f"{1e3 * (each.compute_seconds or 0.0):.0f} ms in the server's stages",
        f"{each.bytes_sent:,} bytes sent, {each.bytes_received:,} received, "
        f"{each.codec or 'no codec'}",
        f"{in_credits(each.paid_microcredits):.3f} credits, {each.state}, {audit}",
        *(("spoken without the server",) if each.alone else ()),
    )
    notes = "".join(f"<li>{escape(line)}</li>" for line in told)
    data = base64.b64encode(sound).decode()
    return (
        f"<article><figure><figcaption>{escape(each.sentence)}</figcaption>"
        f'<audio controls preload="none" aria-label="{escape(f"Spoken: {each.sentence}")}" '
        f'src="data:audio/wav;base64,{data}"></audio></figure><ul>{notes}</ul></article>'
    )


def _who(amount: int, stages: int) -> str:
    if amount == 0:
        return f"the reading, the server all {stages} stages"
    if amount == stages:
        return f"all {stages} stages, and the sound"
    return f"the first {amount} of {stages} stages, the server the rest, and the sound"


def _devices(work: SpeechDone) -> str:
    head = (
        *("device", "sentences", "seconds of sound", "of these a second of computing"),
        *("ms a second of sound: device", "link", "server's stages", "waiting"),
        *("bytes sent a second of sound", "received", "GMAC: device", "server"),
        *("paid, credits", "lost"),
    )
    return _table(head, [_device(each) for each in work.devices])


def _device(each: DeviceSpeech) -> tuple[str, ...]:
    times = (each.device_s, each.link_s, each.compute_s, each.wait_s)
    return (
        *(each.name, f"{each.sentences}", f"{each.seconds:.1f}", f"{each.realtime:.3g}"),
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}"),
        *(f"{each.paid_credits:.3f}", each.lost or ""),
    )


def _sheet(sheet: Sheet) -> str:
    notes = "".join(f"<p>{escape(each)}</p>" for each in sheet.notes)
    table = _table(sheet.head, list(sheet.rows))
    return f"<section><h2>{escape(sheet.title)}</h2>{table}{notes}</section>"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; media-src data:">
<title>edgepact run: speech</title>
<style>
:root {{ --ink:#1f2933; --quiet:#616e7c; --line:#e4e7eb; --green:#0b6e4f; }}
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
figure {{ margin:0 0 8px; }}
figcaption {{ font-weight:600; margin:0 0 8px; overflow-wrap:anywhere; }}
audio {{ display:block; width:100%; max-width:520px; }}
ul, section p {{ color:var(--quiet); font-size:13px; margin:0; padding-left:18px; }}
table {{ border-collapse:collapse; width:100%; font-size:14px; display:block; overflow-x:auto; }}
th, td {{ text-align:right; padding:6px 10px; border-bottom:1px solid var(--line);
  font-variant-numeric:tabular-nums; }}
th:first-child, td:first-child {{ text-align:left; }}
footer {{ margin-top:24px; color:var(--quiet); font-size:13px; }}
</style></head><body><main>
<h1>{title}</h1>
<p>{model}, a voice of {stages} stages, split between self-interested devices and one edge server. A
device reads a sentence and runs the first stages, the server the rest; stages are paid for each
frame of 12.5 ms of sound.</p>
<div class="cards">{cards}</div>
<section><h2>What each device did</h2>{devices}</section>
<section><h2>What was spoken</h2>{players}</section>
{sheets}
<footer>{origin}</footer>
</main></body></html>
"""
