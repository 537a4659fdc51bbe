"""What the report of a run of a model in stages shows: each piece, and what was found in it."""

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict, fields
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from edgepact.credits import in_credits
from edgepact.errors import InputError
from edgepact.inference.pictures import decoded, read_picture
from edgepact.jobs.classification import IMAGE_SUFFIXES
from edgepact.live.job_told import JobTold, notes
from edgepact.live.report_charts import spread_out
from edgepact.live.report_page import strip
from edgepact.pacts.partition_staged import DevicePieces, StagedDone, StagedResult
from edgepact.tables import one

SHOWN_MAX = 60
"""Pieces in the report."""

THUMBNAIL = 168
"""Longer side of a small picture, pixels."""

TOP_SHOWN = 3


def told(work: StagedDone, place: Path | None) -> JobTold:
    """What was found in each piece, and who computed it.

    Args:
        work: that was done.
        place: the folder of pieces; None where there is none.
    """
    stages, units = work.profile.costs.layers_max, f"{work.unit}s"
    vectors = _vectors(work)
    shown = spread_out(work.pieces, SHOWN_MAX)
    return JobTold(
        kind=units,
        title=f"{len(work.devices)} devices, {len(work.pieces)} {units}",
        intro=(
            f"{work.profile.model}, a model of {work.profile.costs.total:.3g} GMAC in {stages} "
            "stages, split between self-interested devices and one edge server: a device runs the "
            f"first stages, the server the rest; stages are paid for each {work.unit}."
        ),
        file="pieces.csv",
        columns=[each.name for each in fields(StagedResult) if each.name not in ("facts", "more")],
        rows=({"device": device, **asdict(result)} for device, result in work.pieces),
        made=(
            "What was found",
            "".join(_piece(device, each, place, work, vectors) for device, each in shown),
            "Bars show who ran which stages: the device first, the server after it.",
        ),
        timed=one(work.unit),
        head=(
            *("device", units, f"bytes sent {one(work.unit)}", "as it is"),
            *("GMAC: device", "server", "paid, credits"),
        ),
        devices=[_device(each) for each in work.devices],
    )


# ---------------------------------------------------------------- private


def _piece(
    device: str,
    each: StagedResult,
    place: Path | None,
    work: StagedDone,
    vectors: Mapping[str, np.ndarray],
) -> str:
    stages = work.profile.costs.layers_max
    words = _who(device, each, stages)
    own = stages if each.alone else each.amount
    told = [
        words,
        f"{each.bytes_sent:,} bytes sent{f' as {each.codec}' if each.codec else ''}; "
        f"the {work.unit} itself has {each.source_bytes:,}",
        f"{in_credits(each.paid_microcredits):.3f} credits, {each.state}"
        f"{', audited' if each.audited else ''}",
    ]
    others = _others(each) or _nearest(each, vectors)
    if others:
        told.insert(0, others)
    if each.label_true is not None:
        told.insert(0, f"known to be: {each.label_true}")
    return (
        f'<article><p class="prompt">{escape(each.file)}</p>{_thumbnail(each, place)}'
        f'<p class="text">{escape(each.answer)}</p>'
        f"{strip(own, stages - own, words=words)}{notes(told)}</article>"
    )


def _who(device: str, each: StagedResult, stages: int) -> str:
    if each.alone:
        return f"{device} alone, all {stages} stages"
    if each.amount == 0:
        return f"the server all {stages} stages, for {device}"
    if each.amount == stages:
        return f"{device} all {stages} stages"
    first = "stage 1" if each.amount == 1 else f"stages 1 to {each.amount}"
    rest = f"stages {each.amount + 1} to {stages}" if each.amount + 1 < stages else "the last one"
    return f"{device} {first}, the server {rest}"


def _others(each: StagedResult) -> str:
    """The next likeliest classes."""
    top = each.facts.get("top")
    if not isinstance(top, list):
        return ""
    told = [f"{label} {share:.0%}" for label, share in top[1:TOP_SHOWN]]
    return f"then {', '.join(told)}" if told else ""


def _vectors(work: StagedDone) -> dict[str, np.ndarray]:
    """Vectors of a sentence encoder, by sentence."""
    found = {}
    for _, each in work.pieces:
        vector = each.more.get("vector")
        if isinstance(vector, list) and vector:
            found[each.file] = np.array(vector, np.float64)
    return found


def _nearest(each: StagedResult, vectors: Mapping[str, np.ndarray]) -> str:
    """The sentence whose vector is nearest."""
    own = vectors.get(each.file)
    if own is None:
        return ""
    cosines = [
        (float(own @ other), name)
        for name, other in vectors.items()
        if name != each.file and other.shape == own.shape
    ]
    if not cosines:
        return ""
    cosine, name = max(cosines)
    return f"nearest to it, cosine {cosine:.2f}: {name}"


def _thumbnail(each: StagedResult, place: Path | None) -> str:
    """A small copy of a picture, decoded as carefully as the job does it."""
    if place is None or not place.is_dir():
        return ""
    path = place / each.file
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return ""
    try:
        picture = decoded(read_picture(path), image_size=THUMBNAIL, source=path).convert("RGB")
    except InputError:
        return ""
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=82)
    content = base64.b64encode(file.getvalue()).decode()
    width, height = picture.size
    return (
        f'<img alt="The picture {escape(each.file)}, in small" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{content}">'
    )


def _device(each: DevicePieces) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.pieces}", f"{each.bytes_sent:.0f}", f"{each.source_bytes:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
