"""What split inference by real processes showed: from the devices' results and the ledger.

Everything here is computed from what the processes wrote; nothing is assumed from the plan of
the run. What the server earned by it is the mechanism's business.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from edgepact.credits import in_credits
from edgepact.efficiency.profile import Profile
from edgepact.framework import Json
from edgepact.inference.models import samples
from edgepact.inference.pictures import read_picture
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.market.statement import Statement
from edgepact.pacts.partition_jobs import JobTerms
from edgepact.pacts.partition_results import (
    DeviceShare,
    Played,
    TimeSplit,
    mean,
    median,
    paid_as_promised,
    results_of,
    settled_rows,
    time_split,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """One image, as a line of a device's results file tells it; the last line of a piece counts.

    Attributes:
        round: the round.
        piece: its id.
        file: the image, relative to the image folder.
        label_true: its class as its folder says; None in a flat folder.
        label_predicted: its class as the model says.
        layers: layers run by the device.
        codec: how the activation was sent; None at the first and last cut.
        device_seconds: reading, preprocessing and the device's layers.
        encode_seconds: codec and request.
        roundtrip_seconds: from sending to the answer, repetitions included; None if none came.
        attempts: how often the request was sent.
        server_seconds: in the server, from the whole request to the answer.
        compute_seconds: of these, computing.
        bytes_sent: HTTP bodies, those that were sent again included.
        image_bytes: the image's file.
        jpeg_bytes: the image as a JPEG of quality 90.
        state: `pending` (its round is not settled), `paid`, `forfeit`, `expired` or `unpaid`.
        audited: whether the server has audited it.
        paid_microcredits: what it has earned.
    """

    round: int
    piece: str
    file: str
    label_true: str | None
    label_predicted: str | None
    layers: int
    codec: str | None
    device_seconds: float
    encode_seconds: float
    roundtrip_seconds: float | None
    attempts: int
    server_seconds: float | None
    compute_seconds: float | None
    bytes_sent: int
    image_bytes: int
    jpeg_bytes: int
    state: str
    audited: bool
    paid_microcredits: int

    @staticmethod
    def from_line(line: str) -> "ImageResult | None":
        """Reads a line; of its fields those that are told here. None where a device was killed
        before it could tell more than that there was such a piece, or the piece was refused."""
        row = json.loads(line)
        if "amount" not in row or "file" not in row:
            return None
        row["layers"] = row["amount"]
        return ImageResult(**{each.name: row[each.name] for each in fields(ImageResult)})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFindings(DeviceShare):
    """What one device did in all rounds; times are medians over its images, seconds.

    Attributes:
        bytes_sent: an image, HTTP bodies.
        jpeg_bytes: of an image as a JPEG.
    """

    bytes_sent: float
    jpeg_bytes: float

    @property
    def images(self) -> int:
        """Its units."""
        return self.units


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDone:
    """Images classified, and how they were paid.

    Attributes:
        profile: of the model on this machine.
        images: one result an image, the last word on each job, with the device it belongs to.
        devices: in the order of the market.
        accuracy: share of images whose class was found; None without labels.
        whole_accuracy: of the unsplit model on the same images.
        agreement: share of images on which split and whole model say the same.
        server_gmac, whole_gmac: the server's computing, and what it would be unsplit.
        statement: of the ledger.
        paid_as_earned: whether the books balance, and the ledger paid for each image just what
            its device had been promised.
        audited: images that the server computed again before it paid.
        live_seconds: from the start of the server to the end of the last round.
    """

    profile: Profile
    images: tuple[tuple[str, ImageResult], ...]
    devices: tuple[DeviceFindings, ...]
    accuracy: float | None
    whole_accuracy: float | None
    agreement: float
    server_gmac: float
    whole_gmac: float
    statement: Statement
    paid_as_earned: bool
    audited: int
    live_seconds: float

    @property
    def unit(self) -> str:
        """What is counted."""
        return "image"

    @property
    def step(self) -> str:
        """What one step of an amount is."""
        return "layer"

    @property
    def paid_pieces(self) -> tuple[tuple[str, int, int, int], ...]:
        """See `partition_jobs.Work`."""
        return tuple((name, each.layers, 1, each.paid_microcredits) for name, each in self.images)

    def rows(self, promised: str) -> tuple[tuple[str, str], ...]:
        """See `partition_jobs.Work`."""
        return work_rows(self, promised)

    def as_json(self) -> dict[str, Json]:
        """See `partition_jobs.Work`."""
        return work_dict(self)

    @property
    def server_saved(self) -> float:
        """Share of the server's computing that devices took over."""
        return 1.0 - self.server_gmac / self.whole_gmac

    @property
    def bytes_ratio(self) -> float:
        """Bytes sent over the bytes of the same images as JPEG."""
        sent = sum(result.bytes_sent for _, result in self.images)
        return sent / sum(result.jpeg_bytes for _, result in self.images)


def work_done(
    *, terms: JobTerms, folder: Path, profile: Profile, names: list[str], played: Played
) -> WorkDone:
    """Reads what the processes wrote into `folder`, and measures it.

    Raises:
        MarketError: no image was finished, so there is nothing to report.
    """
    results = results_of(folder, names, _classified, "image")
    files = {result.file for _, result in results}
    images = terms.inputs_place or samples()
    whole = _whole_predictions(terms.model_folder, images, files)
    labelled = [result for _, result in results if result.label_true is not None]
    costs, statement = profile.costs, played.statement
    return WorkDone(
        profile=profile,
        images=tuple(results),
        devices=tuple(_device(name, results, profile, played.lost) for name in names),
        accuracy=_share([r.label_predicted == r.label_true for r in labelled]),
        whole_accuracy=_share([whole[r.file] == r.label_true for r in labelled]),
        agreement=_share([whole[r.file] == r.label_predicted for _, r in results]) or 0.0,
        server_gmac=sum(costs.server(result.layers) for _, result in results),
        whole_gmac=costs.total * len(results),
        statement=statement,
        paid_as_earned=paid_as_promised(statement),
        audited=sum(result.audited for _, result in results),
        live_seconds=played.live_seconds,
    )


def work_rows(work: WorkDone, promised: str) -> tuple[tuple[str, str], ...]:
    """What came of the job as rows of figure and value.

    Args:
        work: that was done.
        promised: what is paid for each image, in words.
    """
    right = [] if work.accuracy is None else [("classified right", f"{work.accuracy:.2%}")]
    return (
        ("images classified", f"{len(work.images)}"),
        *right,
        ("same class as the unsplit model", f"{work.agreement:.2%}"),
        ("the server's computing saved", f"{work.server_saved:.2%}"),
        ("bytes sent over JPEG's", f"{work.bytes_ratio:.2f}"),
        ("jobs audited before payment", f"{work.audited}"),
        *settled_rows(
            work.statement, paid_as_earned=work.paid_as_earned, promised=promised, unit=work.unit
        ),
    )


def work_dict(work: WorkDone) -> dict[str, Json]:
    """The same as JSON."""
    return {
        "images": len(work.images),
        "agreement": work.agreement,
        "accuracy": work.accuracy,
        "server_saved": work.server_saved,
        "bytes_ratio": work.bytes_ratio,
        "audited": work.audited,
        "paid_as_earned": work.paid_as_earned,
        "books_balance": work.statement.balanced,
    }


def _classified(line: str) -> ImageResult | None:
    """Of a line, if its image got a class."""
    result = ImageResult.from_line(line)
    return None if result is None or result.label_predicted is None else result


def _device(
    name: str, results: list[tuple[str, ImageResult]], profile: Profile, lost: Mapping[str, str]
) -> DeviceFindings:
    own = [result for device, result in results if device == name]
    finished = [r for r in own if r.roundtrip_seconds is not None and r.server_seconds is not None]
    times, costs = [time_split(each) for each in finished], profile.costs

    return DeviceFindings(
        name=name,
        units=len(own),
        paid_credits=in_credits(sum(r.paid_microcredits for r in own)),
        times=TimeSplit.over(times, median),
        device_gmac=sum((costs.device(r.layers) for r in own), 0.0),
        server_gmac=sum((costs.server(r.layers) for r in own), 0.0),
        lost=lost.get(name),
        bytes_sent=mean(r.bytes_sent for r in own),
        jpeg_bytes=mean(r.jpeg_bytes for r in own),
    )


def _whole_predictions(model: Path, images: Path, files: set[str]) -> dict[str, str]:
    """What the unsplit model says of each image."""
    pipeline, knowledge = Pipeline(model), KnowledgeBase.from_texts(model)
    stages = pipeline.stage_count
    said = {}
    for file in sorted(files):
        pixels = preprocess(read_picture(images / file), pipeline.info, source=images / file)
        probabilities = knowledge.classify(pipeline.run(pixels, 0, stages))
        said[file] = knowledge.labels[int(np.argmax(probabilities[0]))]
    return said


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
