"""What the report of a run shows in which sentences were spoken: players of them.

Sounds stand in the page itself, so that it asks nothing of any server; there are as many of them as
`PLAYERS_MAX` and `SOUND_BYTES_MAX` allow. Sentences come from a user and are escaped.
"""

import base64
from dataclasses import fields
from html import escape
from pathlib import Path

from edgepact.credits import in_credits
from edgepact.jobs.speech.sound import as_wav, of_text
from edgepact.live.job_told import JobTold, notes
from edgepact.live.report_charts import spread_out
from edgepact.live.report_page import strip
from edgepact.pacts.partition_results import time_split
from edgepact.pacts.partition_speech import DeviceSpeech, SpeechDone, SpokenResult

PLAYERS_MAX = 24
SOUND_BYTES_MAX = 8 << 20
"""Of all WAV files in the page."""

HEAD = (
    *("device", "sentences", "seconds of sound", "of these a second of computing"),
    *("bytes sent a second of sound", "received", "GMAC: device", "server", "paid, credits"),
)


def told(work: SpeechDone, place: Path | None) -> JobTold:
    """What was spoken, and by whom.

    Args:
        work: that was done.
        place: not asked for.
    """
    stages = work.profile.costs.layers_max
    return JobTold(
        kind="speech",
        title=f"{len(work.devices)} devices, {len(work.pieces)} sentences, "
        f"{work.seconds:.0f} seconds of sound",
        intro=(
            f"{work.profile.model}, a voice of {stages} stages, split between self-interested "
            "devices and one edge server. A device reads a sentence and runs the first stages, "
            "the server the rest; stages are paid for each frame of 12.5 ms of sound."
        ),
        file="sentences.csv",
        columns=[each.name for each in fields(SpokenResult) if each.name != "sound"],
        rows=({"device": device, **result.as_row()} for device, result in work.pieces),
        made=(
            "What was spoken",
            _players(work, stages),
            "Bars show who ran which stages: the device first, the server after it.",
        ),
        timed="a second of sound",
        head=HEAD,
        devices=[_device(each) for each in work.devices],
    )


# ---------------------------------------------------------------- private


def _players(work: SpeechDone, stages: int) -> str:
    shown, left = [], SOUND_BYTES_MAX
    for device, each in spread_out(work.pieces, PLAYERS_MAX):
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
    data = base64.b64encode(sound).decode()
    return (
        f'<article><p class="prompt">{escape(each.sentence)}</p>'
        f'<audio controls preload="none" aria-label="{escape(f"Spoken: {each.sentence}")}" '
        f'src="data:audio/wav;base64,{data}"></audio>'
        f"{strip(own, stages - own, words=who)}{notes(told)}</article>"
    )


def _who(amount: int, stages: int) -> str:
    if amount == 0:
        return f"the reading, the server all {stages} stages and the sound"
    if amount == stages:
        return f"all {stages} stages, and the sound"
    first = "the first stage" if amount == 1 else f"the first {amount} stages"
    return f"{first} of {stages}, the server the rest and the sound"


def _device(each: DeviceSpeech) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.sentences}", f"{each.seconds:.1f}", f"{each.realtime:.3g}"),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
