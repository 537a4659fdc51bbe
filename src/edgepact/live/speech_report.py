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
from edgepact.jobs.speech.sound import as_wav, of_text
from edgepact.live import work_page
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.pacts.partition_results import time_split
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
        for device, result in work.pieces:
            table.writerow({"device": device, **result.as_row()})
    write_metrics(folder, terms, outcome.to_dict())
    stages = work.profile.costs.layers_max
    page = work_page.page(
        kind="speech",
        title=f"{len(work.devices)} devices, {len(work.pieces)} sentences, "
        f"{work.seconds:.0f} seconds of sound",
        intro=(
            f"{work.profile.model}, a voice of {stages} stages, split between self-interested "
            "devices and one edge server. A device reads a sentence and runs the first stages, "
            "the server the rest; stages are paid for each frame of 12.5 ms of sound."
        ),
        cards=work_page.cards(work.rows("as promised")),
        sections=(
            work_page.section(
                "What was spoken",
                _players(work, stages),
                "Bars show who ran which stages: the device in green, the server in blue.",
            ),
            work_page.section("Where the time went", _times(work)),
            work_page.section("What each device did", _devices(work)),
            *(work_page.sheet_section(each) for each in (*outcome.decided, *outcome.besides)),
            work_page.payments(work.statement, [each.name for each in work.devices]),
        ),
        origin=f"edgepact {provenance(terms)['edgepact']} · {work.live_seconds:.0f} s",
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


# ---------------------------------------------------------------- private


def _players(work: SpeechDone, stages: int) -> str:
    step = max(1, len(work.pieces) // PLAYERS_MAX)
    shown, left = [], SOUND_BYTES_MAX
    for device, each in work.pieces[::step][:PLAYERS_MAX]:
        sound = as_wav(of_text(each.sound))
        if len(sound) <= left:
            left -= len(sound)
            shown.append(_player(device, each, stages, sound))
    return "".join(shown)


def _player(device: str, each: SpokenResult, stages: int, sound: bytes) -> str:
    split = time_split(each)
    own = stages if each.alone else each.amount
    who = f"{device} did {_who(own, stages)}"
    # The last sentence of a round is paid as far as the round's seconds go.
    part = f" for {each.units} of its frames" if each.units < each.frames else ""
    told = (
        f"{who}; {in_credits(each.paid_microcredits):.3f} credits{part}, {each.state}, "
        f"{'audited' if each.audited else 'not audited'}",
        f"{each.phonemes} phonemes, {each.frames} frames: {each.seconds:.2f} s of sound in "
        f"{1e3 * (each.device_seconds + split.compute_s):.0f} ms of computing",
        f"{each.bytes_sent:,} bytes sent, {each.bytes_received:,} received, "
        f"{each.codec or 'no codec'}",
        *(("spoken without the server",) if each.alone else ()),
    )
    notes = "".join(f"<li>{escape(line)}</li>" for line in told)
    data = base64.b64encode(sound).decode()
    return (
        f'<article><p class="prompt">{escape(each.sentence)}</p>'
        f'<audio controls preload="none" aria-label="{escape(f"Spoken: {each.sentence}")}" '
        f'src="data:audio/wav;base64,{data}"></audio>'
        f"{work_page.strip(own, stages - own, words=who)}<ul>{notes}</ul></article>"
    )


def _who(amount: int, stages: int) -> str:
    if amount == 0:
        return f"the reading, the server all {stages} stages and the sound"
    if amount == stages:
        return f"all {stages} stages, and the sound"
    first = "the first stage" if amount == 1 else f"the first {amount} stages"
    return f"{first} of {stages}, the server the rest and the sound"


def _times(work: SpeechDone) -> str:
    times = [(each.name, each.times) for each in work.devices if each.sentences]
    return work_page.time_bars(times, unit="a second of sound")


def _devices(work: SpeechDone) -> str:
    head = (
        *("device", "sentences", "seconds of sound", "of these a second of computing"),
        *("bytes sent a second of sound", "received", "GMAC: device", "server", "paid, credits"),
    )
    lost = [f"{each.name} was lost: {each.lost}." for each in work.devices if each.lost]
    told = "".join(f"<p>{escape(each)}</p>" for each in lost)
    return work_page.table(head, [_device(each) for each in work.devices]) + told


def _device(each: DeviceSpeech) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.sentences}", f"{each.seconds:.1f}", f"{each.realtime:.3g}"),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
