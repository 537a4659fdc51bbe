"""What the report of a run shows in which pictures were drawn: all of them."""

from dataclasses import asdict, fields
from html import escape
from pathlib import Path

from edgepact.credits import in_credits
from edgepact.live.job_told import JobTold
from edgepact.live.report_charts import spread_out
from edgepact.live.report_page import strip
from edgepact.market.demand import buyer_in
from edgepact.pacts.partition_pictures import DevicePictures, PictureResult, PicturesDone

SHOWN_MAX = 60
"""Pictures in the report."""


def told(work: PicturesDone, place: Path | None) -> JobTold:
    """What was drawn, and by whom.

    Args:
        work: that was done.
        place: not asked for.
    """
    recipe = work.recipe
    shared = "the first step" if recipe.shared == 1 else f"the first {recipe.shared} steps"
    together = f", {shared} once for prompts that belong together" if recipe.shared else ""
    shown = spread_out(work.pieces, SHOWN_MAX)
    tiles = "".join(_tile(device, each, recipe.steps) for device, each in shown)
    return JobTold(
        kind="pictures",
        title=f"{len(work.devices)} devices, {len(work.pieces)} pictures",
        intro=(
            f"Pictures drawn of prompts by {work.profile.model}, in chains of {recipe.steps} "
            f"steps with a guidance of {recipe.guidance:g}: one edge server does the "
            f"first{together}; a self-interested device does the last, and is paid for each."
        ),
        file="pictures.csv",
        columns=[each.name for each in fields(PictureResult) if each.name != "picture"],
        rows=({"device": device, **asdict(result)} for device, result in work.pieces),
        made=(
            "What was drawn",
            f'<div class="tiled">{tiles}</div>',
            "Beneath a picture stand its prompt and what a judge saw in it that took no part in "
            "drawing it; where that is not what was meant, the tile's upper edge is dashed. Then "
            "a bar of who did which steps, the server first, and what was paid.",
        ),
        timed="a picture",
        head=("device", "pictures", "steps", "bytes sent a picture", "received", "paid, credits"),
        devices=[_device(each) for each in work.devices],
    )


# ---------------------------------------------------------------- private


def _tile(device: str, each: PictureResult, steps: int) -> str:
    seen = each.label_judged or "not judged"
    return (
        f'<div class="tile{" miss" if each.as_meant is False else ""}">'
        f'<img alt="Drawn for: {escape(each.prompt)}; judged as {escape(seen)}" '
        f'src="data:image/png;base64,{escape(each.picture)}"><b>{escape(each.prompt)}</b>'
        f"<em>{escape(seen)}</em>{_strip(device, each, steps)}"
        f"<small>{escape(_who(device, each, steps))}<br>"
        f"{in_credits(each.paid_microcredits):.3f} credits{_asked(each)}"
        f"{', audited' if each.audited else ''}"
        f"{'' if each.state == 'paid' else f', {escape(each.state)}'}</small></div>"
    )


def _asked(each: PictureResult) -> str:
    """For whom it was drawn, and how often until it was accepted."""
    buyer = buyer_in(each.piece)
    told = "" if buyer is None else f", for {escape(buyer)}"
    if each.appropriate is not None:
        draws = "1 draw" if each.draws == 1 else f"{each.draws} draws"
        told += f", {draws}" if each.appropriate else f", {draws}, none accepted"
    return told


def _strip(device: str, each: PictureResult, steps: int) -> str:
    own = steps if each.alone else each.amount
    words = _who(device, each, steps)
    return strip(own, steps - own, words=words, device_first=False)


def _who(device: str, each: PictureResult, steps: int) -> str:
    if each.alone:
        return f"{device} alone, all {steps} steps"
    if each.amount == 0:
        return f"the server all {steps} steps, for {device}"
    if each.amount == steps:
        return f"{device} all {steps} steps"
    if each.amount == 1:
        return f"{device} the last of {steps} steps"
    return f"{device} the last {each.amount} of {steps} steps"


def _device(each: DevicePictures) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.pictures}", f"{each.steps}"),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}", f"{each.paid_credits:.3f}"),
    )
