"""What the report of a run shows in which images were classified: some of them, and charts."""

import base64
from dataclasses import asdict, fields
from html import escape
from pathlib import Path

from edgepact.credits import in_credits
from edgepact.inference.models import samples
from edgepact.live import charts
from edgepact.live.job_told import JobTold
from edgepact.live.report_charts import spread_out
from edgepact.pacts.partition_findings import DeviceFindings, ImageResult, WorkDone

GALLERY = 24
"""Images in the report."""


def told(work: WorkDone, place: Path | None) -> JobTold:
    """What was seen, and by whom.

    Args:
        work: that was done.
        place: the folder of images; None for the samples.
    """
    place = place or samples()
    shown = spread_out(work.images, GALLERY)
    tiles = "".join(_tile(place, device, each) for device, each in shown)
    return JobTold(
        kind="images",
        title=f"{len(work.devices)} devices, {len(work.images)} images",
        intro=(
            f"{work.profile.model}, an image encoder split between self-interested devices and "
            "one edge server: every device answers with the layers that pay it best, runs them "
            "on real images, and is paid for every verified one."
        ),
        file="images.csv",
        columns=[each.name for each in fields(ImageResult)],
        rows=({"device": device, **asdict(result)} for device, result in work.images),
        made=(
            "What was seen",
            f'<div class="tiled">{tiles}</div>',
            "Some of the images, with what split inference said of them. Where it is wrong, the "
            "tile's upper edge is dashed and the true class stands below.",
        ),
        timed="an image",
        head=(
            *("device", "images", "bytes sent an image", "the same as JPEG"),
            *("GMAC: device", "server", "paid, credits"),
        ),
        devices=[_device(each) for each in work.devices],
        charts=(
            (
                "Who did the computing",
                charts.computing(work.devices).figure(),
                "Counted in multiply-accumulate operations of the stages each side ran.",
            ),
            (
                "What the split does not save: bandwidth",
                charts.bytes_sent(work.devices).figure(),
                _bandwidth(work.bytes_ratio),
            ),
        ),
    )


# ---------------------------------------------------------------- private


def _bandwidth(ratio: float) -> str:
    costs = f"{ratio:.1f} times the bytes of" if ratio >= 1.0 else f"{ratio:.0%} of the bytes of"
    return (
        f"The devices sent {costs} the same images as JPEG of quality 90. An activation is as "
        "large after the first layer as after the last, and an image is small: cutting the model "
        "saves the server's computing, not the link. A device that runs no layer sends its image "
        "file, one that runs all of them only the image vector."
    )


def _tile(place: Path, device: str, result: ImageResult) -> str:
    data = base64.b64encode((place / result.file).read_bytes()).decode()
    kind = "png" if result.file.endswith(".png") else "jpeg"
    right = result.label_true in (None, result.label_predicted)
    note = "" if right else f"<small>in truth {escape(result.label_true or '')}</small>"
    return (
        f'<div class="tile{"" if right else " miss"}">'
        f'<img alt="{escape(_seen(device, result))}" src="data:image/{kind};base64,{data}">'
        f"<em>{escape(result.label_predicted or '')}</em>{note}"
        f"<small>{escape(device)}<br>{result.layers} layers<br>"
        f"{in_credits(result.paid_microcredits):.3f} credits</small></div>"
    )


def _seen(device: str, result: ImageResult) -> str:
    """What a picture shows, for who cannot see it."""
    true = result.label_true
    shown = f"Image of {device}" if true is None else f"Image of {device} that shows: {true}"
    return f"{shown}; classified as {result.label_predicted or 'nothing'}"


def _device(each: DeviceFindings) -> tuple[str, ...]:
    return (
        *(each.name, f"{each.images}", f"{each.bytes_sent:.0f}", f"{each.jpeg_bytes:.0f}"),
        *(f"{each.device_gmac:.3g}", f"{each.server_gmac:.3g}", f"{each.paid_credits:.3f}"),
    )
