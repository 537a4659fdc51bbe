"""The report of a run whose halves were made smaller: one HTML file, with figures beside it."""

import base64
from pathlib import Path
from typing import Any

from edgepact.live import work_page
from edgepact.pacts.compression_stackelberg_model import HalvesPlayed, pairs_sheet
from edgepact.provenance import provenance, write_metrics


def write_halves_report(folder: Path, terms: Any, outcome: HalvesPlayed) -> Path:
    """Writes report.html and metrics.json; `halves.png` is there from the measurement.

    Args:
        folder: to write into.
        terms: of the scenario, kept beside its figures.
        outcome: of the pact.

    Returns:
        The path of report.html.
    """
    work = outcome.work
    device, server = outcome.decision.forms
    write_metrics(folder, terms, outcome.to_dict())
    drawn = base64.b64encode((folder / "halves.png").read_bytes()).decode()
    picture = (
        f'<img style="max-width:100%" src="data:image/png;base64,{drawn}" '
        'alt="Accuracy against seconds of all pairs of forms; the figures stand in halves.json">'
    )
    names = ("device", "images", "paid, credits", "device ms", "server ms", "bytes sent")
    devices = [
        (
            each.name,
            f"{each.images}",
            f"{each.paid_credits:.3f}",
            f"{1e3 * each.device_s:.3f}",
            f"{1e3 * each.compute_s:.3f}",
            f"{each.bytes_sent:,.0f}",
        )
        for each in work.devices
    ]
    page = work_page.page(
        kind="halves",
        title=f"{len(work.devices)} devices, {len(work.images)} images, "
        f"{device} on devices and {server} on the server",
        intro=(
            f"{work.profile.model}, split between self-interested devices and one edge server. "
            "In which form each half runs was decided together with the price per layer, of "
            "which every pair of forms has its own best."
        ),
        cards=work_page.cards((name, value) for name, value in outcome.sheets[0].rows),
        sections=(
            work_page.section("What forms cost and get right", picture),
            work_page.sheet_section(pairs_sheet(outcome.decision.problem, outcome.others)),
            *(work_page.sheet_section(each) for each in outcome.decision.sheets),
            *(work_page.sheet_section(each) for each in outcome.decided),
            work_page.section(
                "What each device did",
                work_page.table(names, devices),
                "Milliseconds and bytes of an image, the median and the mean.",
            ),
        ),
        origin=f"edgepact {provenance(terms)['edgepact']} · {work.live_seconds:.0f} s",
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
