"""The report of a run in which pictures were drawn: one HTML file with all of them in it."""

import csv
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

from edgepact.credits import in_credits
from edgepact.live import work_page
from edgepact.market.demand import buyer_in
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_pictures import DevicePictures, PictureResult, PicturesDone
from edgepact.pacts.partition_priced import WorkPriced
from edgepact.provenance import provenance, write_metrics

SHOWN_MAX = 60
"""Pictures in the report."""


def write_picture_report(folder: Path, terms: Any, outcome: WorkPriced | LayersBought) -> Path:
    """Writes report.html, pictures.csv and metrics.json.

    Args:
        folder: to write into.
        terms: of the scenario, kept beside its figures.
        outcome: of the pact.

    Returns:
        The path of report.html.
    """
    work = outcome.work
    assert isinstance(work, PicturesDone)
    with (folder / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
        names = [each.name for each in fields(PictureResult) if each.name != "picture"]
        table = csv.DictWriter(file, ["device", *names], extrasaction="ignore")
        table.writeheader()
        for device, result in work.pieces:
            table.writerow({"device": device, **asdict(result)})
    write_metrics(folder, terms, outcome.to_dict())
    recipe = work.recipe
    shared = "the first step" if recipe.shared == 1 else f"the first {recipe.shared} steps"
    together = f", {shared} once for prompts that belong together" if recipe.shared else ""
    page = work_page.page(
        kind="pictures",
        title=f"{len(work.devices)} devices, {len(work.pieces)} pictures",
        intro=(
            f"Pictures drawn of prompts by {work.profile.model}, in chains of {recipe.steps} "
            f"steps with a guidance of {recipe.guidance:g}: one edge server does the "
            f"first{together}; a self-interested device does the last, and is paid for each."
        ),
        cards=work_page.cards(work.rows("as promised")),
        sections=(
            work_page.section(
                "What was drawn",
                _tiles(work),
                "Beneath a picture stand its prompt and what a judge saw in it that took no part "
                "in drawing it, in red where that is not what was meant; then who did which steps "
                "(blue: the server, green: the device), and what was paid.",
            ),
            work_page.section("Where the time went", _times(work), "Medians over pictures."),
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


def _tiles(work: PicturesDone) -> str:
    shown = work_page.spread_out(work.pieces, SHOWN_MAX)
    tiles = "".join(_tile(device, each, work.recipe.steps) for device, each in shown)
    return f'<div class="tiles">{tiles}</div>'


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
    return work_page.strip(own, steps - own, words=words, device_first=False)


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


def _times(work: PicturesDone) -> str:
    times = [(each.name, each.times) for each in work.devices if each.pictures]
    return work_page.time_bars(times, unit="a picture")


def _devices(work: PicturesDone) -> str:
    head = (*("device", "pictures", "steps", "bytes sent a picture", "received", "paid, credits"),)
    lost = [f"{each.name} was lost: {each.lost}." for each in work.devices if each.lost]
    told = "".join(f"<p>{escape(each)}</p>" for each in lost)
    return work_page.table(head, [_device(each) for each in work.devices]) + told


def _device(each: DevicePictures) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.pictures}", f"{each.steps}"),
        *(f"{each.bytes_sent:.0f}", f"{each.bytes_received:.0f}", f"{each.paid_credits:.3f}"),
    )
