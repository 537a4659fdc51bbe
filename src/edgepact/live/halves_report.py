"""The report of a run whose halves were made smaller: one HTML file, with figures beside it."""

import base64
from pathlib import Path
from typing import Any

from edgepact.live import report_page
from edgepact.live.report_charts import table
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
        f'<img class="drawing" src="data:image/png;base64,{drawn}" '
        'alt="Accuracy against seconds of all pairs of forms; the figures stand in halves.json">'
    )
    names = ("device", "images", "paid, credits", "device ms", "server ms", "bytes sent")
    devices = [
        (
            each.name,
            f"{each.images}",
            f"{each.paid_credits:.3f}",
            f"{1e3 * each.times.device_s:.3f}",
            f"{1e3 * each.times.compute_s:.3f}",
            f"{each.bytes_sent:,.0f}",
        )
        for each in work.devices
    ]
    sound = work.statement.balanced and outcome.paid_by_price
    paid = sum(each.paid_credits for each in work.devices)
    page = report_page.page(
        kind="halves",
        title=f"{len(work.devices)} devices, {len(work.images)} images, "
        f"{device} on devices and {server} on the server",
        intro=(
            f"{work.profile.model}, split between self-interested devices and one edge server. "
            "In which form each half runs was decided together with the price per layer, of "
            "which every pair of forms has its own best."
        ),
        verdict=(
            f"The server paid {paid:.3g} credits for {len(work.images):,} images, with {device} on "
            f"devices and {server} on the server.",
            f"In the last round it had {outcome.rounds[-1].utility:.3g} credits for an image of "
            f"each device; the best of all pairs of forms and prices leaves it "
            f"{outcome.others[0].server_utility:.3g}.",
            "The ledger balances, and everybody was paid as promised."
            if sound
            else "The ledger does NOT show what was promised.",
        ),
        good=sound,
        tiles=report_page.tiles(outcome.sheets[0].rows),
        sections=(
            report_page.section("What forms cost and get right", picture),
            report_page.sheet_section(pairs_sheet(outcome.decision.problem, outcome.others)),
            *(report_page.sheet_section(each) for each in outcome.decision.sheets),
            *(report_page.sheet_section(each) for each in outcome.decided),
            report_page.section(
                "What each device did",
                table(names, devices),
                "Milliseconds and bytes of an image, the median and the mean.",
            ),
        ),
        origin=f"edgepact {provenance(terms)['edgepact']} · {work.live_seconds:.0f} s",
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
