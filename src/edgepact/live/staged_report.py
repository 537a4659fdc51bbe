"""The report of a run of a model in stages: each piece, what was found, and who computed what."""

import base64
import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgepact.credits import in_credits
from edgepact.errors import InputError
from edgepact.inference.pictures import decoded, read_picture
from edgepact.jobs.classification import IMAGE_SUFFIXES
from edgepact.live import work_page
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.pacts.partition_staged import DevicePieces, StagedDone, StagedResult
from edgepact.provenance import provenance, write_metrics
from edgepact.tables import one

SHOWN_MAX = 60
"""Pieces in the report."""

THUMBNAIL = 168
"""Longer side of a small picture, pixels."""

TOP_SHOWN = 3


def write_staged_report(folder: Path, terms: Any, outcome: WorkPriced | LayersBought) -> Path:
    """Writes report.html, pieces.csv and metrics.json.

    Args:
        folder: to write into.
        terms: of the scenario, kept beside its figures.
        outcome: of the pact.

    Returns:
        The path of report.html.
    """
    work = outcome.work
    assert isinstance(work, StagedDone)
    with (folder / "pieces.csv").open("w", newline="", encoding="utf-8") as file:
        names = [each.name for each in fields(StagedResult) if each.name not in ("facts", "more")]
        table = csv.DictWriter(file, ["device", *names], extrasaction="ignore")
        table.writeheader()
        for device, result in work.pieces:
            table.writerow({"device": device, **asdict(result)})
    write_metrics(folder, terms, outcome.to_dict())
    stages, units = work.profile.costs.layers_max, f"{work.unit}s"
    page = work_page.page(
        kind=units,
        title=f"{len(work.devices)} devices, {len(work.pieces)} {units}",
        intro=(
            f"{work.profile.model}, a model of {work.profile.costs.total:.3g} GMAC in {stages} "
            "stages, split between self-interested devices and one edge server: a device runs the "
            f"first stages, the server the rest; stages are paid for each {work.unit}."
        ),
        cards=work_page.cards(work.rows("as promised")),
        sections=(
            work_page.section("What was found", _found(work, terms.inputs_place, stages)),
            work_page.section("Where the time went", _times(work), f"Medians over {units}."),
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


def _found(work: StagedDone, place: Path | None, stages: int) -> str:
    step = max(1, len(work.pieces) // SHOWN_MAX)
    shown = work.pieces[::step][:SHOWN_MAX]
    vectors = _vectors(work)
    return "".join(_piece(device, each, place, stages, vectors) for device, each in shown)


def _piece(
    device: str,
    each: StagedResult,
    place: Path | None,
    stages: int,
    vectors: Mapping[str, np.ndarray],
) -> str:
    words = _who(device, each, stages)
    own = stages if each.alone else each.amount
    told = [
        words,
        f"{each.bytes_sent:,} bytes sent{f' as {each.codec}' if each.codec else ''}; "
        f"{each.source_bytes:,} bytes it has as it is",
        f"{in_credits(each.paid_microcredits):.3f} credits, {each.state}"
        f"{', audited' if each.audited else ''}",
    ]
    others = _others(each) or _nearest(each, vectors)
    if others:
        told.insert(0, others)
    if each.label_true is not None:
        told.insert(0, f"known to be: {each.label_true}")
    notes = "".join(f"<li>{escape(line)}</li>" for line in told)
    return (
        f'<article><p class="prompt">{escape(each.file)}</p>{_thumbnail(each, place)}'
        f'<p class="text">{escape(each.answer)}</p>'
        f"{work_page.strip(own, stages - own, words=words)}<ul>{notes}</ul></article>"
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
        f'<img alt="{escape(each.file)}" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{content}">'
    )


def _times(work: StagedDone) -> str:
    times = [(each.name, each.times) for each in work.devices if each.pieces]
    return work_page.time_bars(times, unit=one(work.unit))


def _devices(work: StagedDone) -> str:
    head = (
        *("device", f"{work.unit}s", f"bytes sent {one(work.unit)}", "as it is"),
        *("GMAC: device", "server", "paid, credits"),
    )
    lost = [f"{each.name} was lost: {each.lost}." for each in work.devices if each.lost]
    told = "".join(f"<p>{escape(each)}</p>" for each in lost)
    return work_page.table(head, [_device(each) for each in work.devices]) + told


def _device(each: DevicePieces) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.pieces}", f"{each.bytes_sent:.0f}", f"{each.source_bytes:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
