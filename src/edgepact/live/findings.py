"""What a live run showed: measured from the devices' results and the ledger.

Everything here is computed from what the processes wrote; nothing is assumed
from the plan of the run.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.credits import MICRO, in_credits
from edgepact.efficiency.profile import Profile
from edgepact.errors import MarketError
from edgepact.files.stackelberg import GameFile
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.market.statement import Statement
from edgepact.mechanisms.stackelberg.audit import Audit, audit_price
from edgepact.mechanisms.stackelberg.benchmarks import first_best, personalised
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import Outcome, outcome, settle
from edgepact.mechanisms.stackelberg.score import Range, range_of


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
        bytes_sent: HTTP body.
        image_bytes: the image's file.
        jpeg_bytes: the image as a JPEG of quality 90.
        state: `paid`, `forfeit`, `held` (its audit was not finished) or `unpaid`.
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
    def from_line(line: str) -> "ImageResult":
        """Reads a line; of its fields those that are told here."""
        row = json.loads(line)
        row["layers"] = row["amount"]
        return ImageResult(**{each.name: row[each.name] for each in fields(ImageResult)})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRound:
    """One closed round as the ledger has it.

    Attributes:
        number: from 1.
        price: credits per layer and image.
        layers: by device; devices that did not commit are missing.
        utility: of the server, for one image of each device, credits.
        share: of the range between random pricing and the exact optimum.
    """

    number: int
    price: float
    layers: dict[str, int]
    utility: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFindings:
    """What one device did in all rounds; times are medians over its images, seconds."""

    name: str
    images: int
    paid_credits: float
    device_s: float
    link_s: float
    compute_s: float
    wait_s: float
    bytes_sent: float
    jpeg_bytes: float
    device_gmac: float
    server_gmac: float
    lost: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """A whole run.

    Attributes:
        market: the game that was played.
        profile: of the model on this machine.
        best: the exact equilibrium; `personal` and `first` bound it from above.
        blind: what the best price brings that is chosen from the prior alone.
        range: what there is to gain over a random price.
        rounds: as played.
        images: one result an image, the last word on each job.
        devices: in the order of the market.
        accuracy: share of images whose class was found; None without labels.
        whole_accuracy: of the unsplit model on the same images.
        agreement: share of images on which split and whole model say the same.
        server_gmac, whole_gmac: the server's computing, and what it would be unsplit.
        statement: of the ledger.
        paid_as_earned: whether the ledger paid exactly price times layers for each job.
        audit: of the exact price, on the devices' true characteristics.
        audited: jobs the server computed again before it paid.
        live_seconds: from the start of the server to the end of the last round.
    """

    market: GameFile
    profile: Profile
    best: Outcome
    personal: Outcome
    first: Outcome
    blind: Outcome
    range: Range
    rounds: tuple[PlayedRound, ...]
    images: tuple[tuple[str, ImageResult], ...]
    devices: tuple[DeviceFindings, ...]
    accuracy: float | None
    whole_accuracy: float | None
    agreement: float
    server_gmac: float
    whole_gmac: float
    statement: Statement
    paid_as_earned: bool
    audit: Audit
    audited: int
    live_seconds: float

    def share(self, utility: float) -> float:
        """Where a utility lies between random pricing (0) and the exact optimum (1)."""
        return float(self.range.share(utility))

    @property
    def random_utility(self) -> float:
        """The server's mean utility of a random price, credits."""
        return float(self.range.zero)

    @property
    def blind_share(self) -> float:
        """Share of the best price that never looks."""
        return self.share(float(self.blind.server_utility))

    @property
    def mean_share(self) -> float:
        """Share of the quotes, mean over rounds."""
        return float(np.mean([each.share for each in self.rounds]))

    @property
    def server_saved(self) -> float:
        """Share of the server's computing that devices took over."""
        return 1.0 - self.server_gmac / self.whole_gmac

    @property
    def bytes_ratio(self) -> float:
        """Bytes sent over the bytes of the same images as JPEG."""
        sent = sum(result.bytes_sent for _, result in self.images)
        return sent / sum(result.jpeg_bytes for _, result in self.images)


def find(
    *,
    folder: Path,
    market: GameFile,
    prior_price: float,
    profile: Profile,
    model: Path,
    images: Path,
    statement: Statement,
    lost: dict[str, str],
    live_seconds: float,
) -> Findings:
    """Reads what the processes wrote into `folder`, and measures it.

    Raises:
        MarketError: no image was finished, so there is nothing to report.
    """
    results = _read_results(folder, market.names)
    if not results:
        raise MarketError(f"no image was finished; see the logs in {folder}")
    game = market.game
    best, reach = equilibrium(game), range_of(game)
    rounds = _rounds(market, statement, reach)
    whole = _whole_predictions(model, images, {result.file for _, result in results})
    labelled = [result for _, result in results if result.label_true is not None]
    costs = profile.costs
    return Findings(
        market=market,
        profile=profile,
        best=best,
        personal=personalised(game),
        first=first_best(game),
        blind=outcome(game, prior_price),
        range=reach,
        rounds=rounds,
        images=tuple(results),
        devices=tuple(_device(name, results, profile, lost) for name in market.names),
        accuracy=_share([r.label_predicted == r.label_true for r in labelled]),
        whole_accuracy=_share([whole[r.file] == r.label_true for r in labelled]),
        agreement=_share([whole[r.file] == r.label_predicted for _, r in results]) or 0.0,
        server_gmac=sum(costs.server(result.layers) for _, result in results),
        whole_gmac=costs.total * len(results),
        statement=statement,
        paid_as_earned=_paid_as_earned(rounds, statement),
        audit=audit_price(game, best),
        audited=sum(result.audited for _, result in results),
        live_seconds=live_seconds,
    )


def _read_results(folder: Path, names: list[str]) -> list[tuple[str, ImageResult]]:
    results: dict[tuple[str, str], ImageResult] = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        if path.is_file():
            for line in path.read_text().splitlines():
                result = ImageResult.from_line(line)
                if result.label_predicted is not None:
                    results[name, result.piece] = result
    return [(name, result) for (name, _), result in results.items()]


def _rounds(market: GameFile, statement: Statement, reach: Range) -> tuple[PlayedRound, ...]:
    rounds = []
    for record in statement.rounds:
        layers = np.array([record.amounts.get(name, 0) for name in market.names], float)
        price = in_credits(record.price_microcredits or 0)
        utility = float(settle(market.game, price, layers).server_utility)
        rounds.append(
            PlayedRound(
                number=record.number,
                price=price,
                layers=record.amounts,
                utility=utility,
                share=float(reach.share(utility)),
            )
        )
    return tuple(rounds)


def _device(
    name: str, results: list[tuple[str, ImageResult]], profile: Profile, lost: dict[str, str]
) -> DeviceFindings:
    own = [result for device, result in results if device == name]
    finished = [r for r in own if r.roundtrip_seconds is not None and r.server_seconds is not None]
    costs = profile.costs

    def median(values: list[float]) -> float:
        return float(np.median(values)) if values else 0.0

    return DeviceFindings(
        name=name,
        images=len(own),
        paid_credits=in_credits(sum(r.paid_microcredits for r in own)),
        device_s=median([r.device_seconds + r.encode_seconds for r in finished]),
        link_s=median([(r.roundtrip_seconds or 0.0) - (r.server_seconds or 0.0) for r in finished]),
        compute_s=median([r.compute_seconds or 0.0 for r in finished]),
        wait_s=median([(r.server_seconds or 0.0) - (r.compute_seconds or 0.0) for r in finished]),
        bytes_sent=float(np.mean([r.bytes_sent for r in own])) if own else 0.0,
        jpeg_bytes=float(np.mean([r.jpeg_bytes for r in own])) if own else 0.0,
        device_gmac=sum(costs.device(r.layers) for r in own),
        server_gmac=sum(costs.server(r.layers) for r in own),
        lost=lost.get(name),
    )


def _whole_predictions(model: Path, images: Path, files: set[str]) -> dict[str, str]:
    """What the unsplit model says of each image."""
    pipeline, knowledge = Pipeline(model), KnowledgeBase.from_texts(model)
    stages = pipeline.stage_count
    said = {}
    for file in sorted(files):
        pixels = preprocess((images / file).read_bytes(), pipeline.info)
        probabilities = knowledge.classify(pipeline.run(pixels, 0, stages))
        said[file] = knowledge.labels[int(np.argmax(probabilities[0]))]
    return said


def _paid_as_earned(rounds: tuple[PlayedRound, ...], statement: Statement) -> bool:
    prices = {each.number: round(each.price * MICRO) for each in rounds}
    return statement.balanced and all(
        payment.microcredits == prices[payment.round] * payment.amount * payment.units
        for payment in statement.payments
    )


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def as_json(findings: Findings) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    game = findings.market.game
    return {
        "optimum": {
            "price": float(findings.best.price),
            "server_utility": float(findings.best.server_utility),
            "layers": findings.best.layers.astype(int).tolist(),
            "personalised_utility": float(findings.personal.server_utility),
            "prior_only_price": float(findings.blind.price),
            "prior_only_utility": float(findings.blind.server_utility),
            "prior_only_share": findings.blind_share,
            "first_best_utility": float(findings.first.server_utility),
            "alone_utility": float(game.revenue - np.sum(game.saving) * game.layers_max),
            "random_utility": findings.random_utility,
        },
        "rounds": [
            {
                "round": each.number,
                "price": each.price,
                "layers": each.layers,
                "server_utility": each.utility,
                "share": each.share,
            }
            for each in findings.rounds
        ],
        "mean_share": findings.mean_share,
        "images": len(findings.images),
        "accuracy": findings.accuracy,
        "whole_model_accuracy": findings.whole_accuracy,
        "agreement_with_whole_model": findings.agreement,
        "server_computing_saved": findings.server_saved,
        "server_gmac": findings.server_gmac,
        "unsplit_gmac": findings.whole_gmac,
        "bytes_sent_over_jpeg": findings.bytes_ratio,
        "devices": {
            device.name: {
                "images": device.images,
                "paid_credits": device.paid_credits,
                "device_ms_median": device.device_s * 1e3,
                "link_ms_median": device.link_s * 1e3,
                "server_compute_ms_median": device.compute_s * 1e3,
                "server_queue_and_ledger_ms_median": device.wait_s * 1e3,
                "bytes_sent_mean": device.bytes_sent,
                "jpeg_bytes_mean": device.jpeg_bytes,
                "lost": device.lost,
            }
            for device in findings.devices
        },
        "ledger": findings.statement.to_dict(),
        "paid_as_earned": findings.paid_as_earned,
        "jobs_audited": findings.audited,
        "audit": findings.audit.as_json(),
        "live_seconds": findings.live_seconds,
    }
