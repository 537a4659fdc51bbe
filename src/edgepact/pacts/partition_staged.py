"""Models in stages in the eyes of a partition: photographs, sentences, and any model at all.

A device that takes the amount L runs the first L stages; there is nothing besides them that it
does or the server keeps, so of the costs `A L + B` the second part is 0, and every stage is a step
that can be sold.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.credits import in_credits
from edgepact.efficiency.partition import MACS_PER_GMAC, LayerCosts
from edgepact.efficiency.profile import CodecCost, Profile, Progress, fit_line
from edgepact.errors import InputError, MarketError
from edgepact.fields import Table
from edgepact.framework import Json
from edgepact.inference.codecs import BUILT_IN, packed_bytes
from edgepact.inference.stage_folder import STAGES_JSON, StageFolder, StageRunner, read_stage_folder
from edgepact.jobs.staged import STAGED, Staged
from edgepact.jobs.staged.arrays import arrays_in
from edgepact.jobs.staged.photographs import PHOTO, own_photographs, photographs_in
from edgepact.jobs.staged.place import stages_of
from edgepact.jobs.staged.reading import Piece, Reading, drawn_inputs, reading_of
from edgepact.jobs.staged.sentences import INPUTS_WORDS as SENTENCES_WORDS
from edgepact.jobs.staged.sentences import SENTENCES, own_sentences, sentences_in
from edgepact.market.statement import Statement
from edgepact.pacts.partition_live import Played
from edgepact.pacts.partition_results import (
    paid_as_promised,
    results_of,
    settled_rows,
    time_split,
)
from edgepact.pacts.partition_settings import IMAGES_MAX, PlaySettings
from edgepact.pacts.partition_shares import REPEAT_ROUNDS, SPARE, Shares
from edgepact.pacts.partition_terms import SplitTerms
from edgepact.tensors import Tensors
from edgepact.work import Model

SMOKE_UNITS = 2

CHECKED = 200
"""Pieces read before anything is started."""

WHOLE_CHECKED = 64
"""Pieces that the unsplit model is asked of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedResult:
    """One piece, as a line of a device's results file tells it; the last line of a piece counts.

    Attributes:
        round, piece: of it.
        file: what was worked on: a file's name, or the sentence itself.
        label_true: what is right, if it is known.
        answer: in words.
        facts: the same and more.
        amount: stages of the device.
        units: that it was.
        codec: how tensors were sent; None where the piece itself or an output was.
        alone: whether the device finished it without the server.
        source_bytes: of the piece as it is.
        device_seconds: reading in, and the device's stages.
        encode_seconds: codec and request.
        roundtrip_seconds: from sending to the answer; None if none came.
        server_seconds: in the server.
        compute_seconds: of these, computing.
        bytes_sent, bytes_received: HTTP bodies.
        state, audited, paid_microcredits: what became of its pay.
        more: further fields, which the model's reading has written.
    """

    round: int
    piece: str
    file: str
    label_true: str | None
    answer: str
    facts: Mapping[str, Json]
    amount: int
    units: int
    codec: str | None
    alone: bool
    source_bytes: int
    device_seconds: float
    encode_seconds: float
    roundtrip_seconds: float | None
    server_seconds: float | None
    compute_seconds: float | None
    bytes_sent: int
    bytes_received: int
    state: str
    audited: bool
    paid_microcredits: int
    more: Mapping[str, Json]

    @staticmethod
    def from_line(line: str) -> "StagedResult | None":
        """Reads a line; None for one of a piece that was not finished."""
        row = json.loads(line)
        names = [each.name for each in fields(StagedResult) if each.name != "more"]
        if not all(name in row for name in names):
            return None
        more = {name: value for name, value in row.items() if name not in names}
        return StagedResult(**{name: row[name] for name in names}, more=more)

    @property
    def label(self) -> str | None:
        """The class that was found, of a model that finds one."""
        found = self.facts.get("label")
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePieces:
    """What one device did in all rounds; times are seconds, medians over its pieces.

    Attributes:
        name: of the device.
        pieces: that it finished.
        units: that they were.
        paid_credits: for them.
        device_s, link_s, compute_s, wait_s: in its stages and codec; on the way; in the server's
            stages; waiting there and for the books.
        bytes_sent: a piece, HTTP bodies.
        source_bytes: what a piece has as it is.
        device_gmac, server_gmac: computed on each side.
        lost: its last words, if it ended with an error.
    """

    name: str
    pieces: int
    units: int
    paid_credits: float
    device_s: float
    link_s: float
    compute_s: float
    wait_s: float
    bytes_sent: float
    source_bytes: float
    device_gmac: float
    server_gmac: float
    lost: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDone:
    """Pieces worked on, and how they were paid.

    Attributes:
        profile: of the model on this machine.
        unit: what is counted: `photograph`.
        reading: of the model: `photographs`.
        pieces: with the device that each belongs to.
        devices: in the order of the market.
        agreement: share of some pieces on which split and unsplit model say the same.
        same_words: what that means, in words.
        statement: of the ledger.
        paid_as_earned: whether the books balance, and each unit was paid as promised.
        live_seconds: from the start of the server to the end of the last round.
        step: what one step of an amount is.
    """

    profile: Profile
    unit: str
    reading: str
    pieces: tuple[tuple[str, StagedResult], ...]
    devices: tuple[DevicePieces, ...]
    agreement: float
    same_words: str
    statement: Statement
    paid_as_earned: bool
    live_seconds: float
    step: str = "stage"

    @property
    def accuracy(self) -> float | None:
        """Share of the pieces of known class whose class was found; None without any."""
        known = [each for _, each in self.pieces if each.label_true is not None and each.label]
        hits = [each.label == each.label_true for each in known]
        return sum(hits) / len(hits) if hits else None

    @property
    def server_saved(self) -> float:
        """Share of the server's computing that devices took over."""
        costs = self.profile.costs
        left = sum(costs.server(each.amount) for _, each in self.pieces)
        return 1.0 - left / (costs.total * len(self.pieces))

    @property
    def audited(self) -> int:
        """Pieces that the server computed again before it paid."""
        return sum(each.audited for _, each in self.pieces)

    @property
    def forfeit(self) -> int:
        """Pieces that lost their pay."""
        return sum(each.state == "forfeit" for _, each in self.pieces)

    @property
    def paid_pieces(self) -> tuple[tuple[str, int, int, int], ...]:
        """See `partition_jobs.Work`."""
        return tuple(
            (name, each.amount, each.units, each.paid_microcredits) for name, each in self.pieces
        )

    def rows(self, promised: str) -> tuple[tuple[str, str], ...]:
        """See `partition_jobs.Work`."""
        count, units = len(self.pieces), f"{self.unit}s"
        sent = sum(each.bytes_sent for _, each in self.pieces) / count
        whole = sum(each.source_bytes for _, each in self.pieces) / count
        right = [] if self.accuracy is None else [("classified right", f"{self.accuracy:.2%}")]
        return (
            (f"{units} worked on", f"{count}"),
            *right,
            (self.same_words, f"{self.agreement:.2%}"),
            ("the server's computing saved", f"{self.server_saved:.2%}"),
            (f"bytes sent for a {self.unit}", f"{sent:.0f}"),
            (f"bytes of a {self.unit} as it is", f"{whole:.0f}"),
            (f"{units} audited before payment", f"{self.audited}"),
            (f"{units} that lost their pay", f"{self.forfeit}"),
            *settled_rows(
                self.statement,
                paid_as_earned=self.paid_as_earned,
                promised=promised,
                unit=self.unit,
            ),
        )

    def as_json(self) -> dict[str, Json]:
        """See `partition_jobs.Work`."""
        return {
            "pieces": len(self.pieces),
            "agreement": self.agreement,
            "accuracy": self.accuracy,
            "server_saved": self.server_saved,
            "audited": self.audited,
            "paid_as_earned": self.paid_as_earned,
            "books_balance": self.statement.balanced,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStaged:
    """See `partition_jobs.SplitJob`; an instance for each job over models in stages.

    Attributes:
        job: the job.
        units_field: field of `[job]` with the units of each device in a round: `photographs`.
        find: the pieces of a place that a scenario names.
        own: where pieces are if nothing is said; None for what the model's reading makes up.
    """

    job: Staged
    units_field: str
    inputs_field: str
    inputs_words: str
    inputs_are_folder: bool
    find: Callable[[Path], Sequence[Piece]]
    own: Callable[[], Path] | None = None
    step: str = "stage"
    device_share: str = "runs the first L stages of the model"

    @property
    def unit(self) -> str:
        """As the job calls it."""
        return self.job.unit

    def own_inputs(self) -> Path | None:
        """What comes with the job, or its extra."""
        return None if self.own is None else self.own()

    def model_folder(self, model: Path | None) -> Path:
        """A folder of stages, or that of a file, cut the first time; the job's own model."""
        return _folder(self.job, model)

    def model(self, folder: Path, settings: Mapping[str, Any]) -> Model:
        """Its name and its stages."""
        found = read_stage_folder(folder)
        return Model(name=found.name, amount_max=found.stages)

    def read_units(self, job: Table, *, smoke: bool) -> int:
        """Of each device in a round."""
        found = job.whole(self.units_field, PlaySettings().images, least=1, most=IMAGES_MAX)
        return min(found, SMOKE_UNITS) if smoke else found

    def read_settings(self, job: Table, *, smoke: bool) -> Mapping[str, Any]:
        """None."""
        return {}

    def make_ready(self, model: Path, inputs: Path | None) -> None:
        """Reads some pieces in: a broken one should not end a device later."""
        reading = reading_of(read_stage_folder(model))
        for piece in self._pieces(reading, inputs)[:CHECKED]:
            found = reading.tensors(reading.source(piece), name=piece.name)
            reading.model.checked(reading.model.inputs, found, piece.name)

    def costs(self, model: Path, settings: Mapping[str, Any]) -> LayerCosts:
        """Counted when it was cut."""
        return stage_costs(read_stage_folder(model))

    def profile(
        self, model: Path, settings: Mapping[str, Any], repeats: int, progress: Progress
    ) -> Profile:
        """Of one piece that looks like any."""
        return stages_profile(read_stage_folder(model), repeats, progress, unit=self.unit)

    @contextmanager
    def shared_out(
        self, inputs: Path | None, names: Sequence[str], *, per_round: int, rounds: int, seed: int
    ) -> Iterator[Shares]:
        """A folder of links, or a file of lines, for each device, where there are enough."""
        place = inputs if inputs is not None else self.own_inputs()
        if place is None:
            yield Shares(folders=dict.fromkeys(names, None), repeat_rounds=0)
            return
        pieces = self.find(place)
        share = len(pieces) // len(names)
        repeat_rounds = min(REPEAT_ROUNDS, rounds, share // per_round)
        if share == 0:
            yield Shares(folders=dict.fromkeys(names, place), repeat_rounds=0)
            return
        order = np.random.default_rng(seed).permutation(len(pieces))
        most = max(SPARE * per_round * rounds, 1)
        with tempfile.TemporaryDirectory(prefix="edgepact-pieces-") as kept:
            folders = {}
            for at, name in enumerate(names):
                own = [pieces[index] for index in order[at :: len(names)][:most]]
                folders[name] = _given(own, place, Path(kept) / name)
            yield Shares(folders=folders, repeat_rounds=repeat_rounds)

    def done(
        self,
        *,
        terms: SplitTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> StagedDone:
        """What was answered."""
        results = results_of(folder, names, StagedResult.from_line)
        if not results:
            raise MarketError(f"no {self.unit} was finished; see the logs in {folder}")
        model = read_stage_folder(terms.model_folder)
        reading = reading_of(model)
        pieces = self._pieces(reading, terms.inputs_place)
        return StagedDone(
            profile=profile,
            unit=self.unit,
            reading=reading.name,
            pieces=tuple(results),
            devices=tuple(_device(name, results, profile, played.lost) for name in names),
            agreement=_agreement(reading, pieces, results),
            same_words=reading.same_words,
            statement=played.statement,
            paid_as_earned=paid_as_promised(played.statement),
            live_seconds=played.live_seconds,
        )

    def _pieces(self, reading: Reading, inputs: Path | None) -> Sequence[Piece]:
        return reading.own_pieces() if inputs is None else reading.pieces(inputs)


def arrays_or_images_in(folder: Path) -> Sequence[Piece]:
    """What models of any reading work on: the arrays of a folder, or else its images.

    Raises:
        InputError: there are neither.
    """
    try:
        return arrays_in(folder)
    except InputError:
        with suppress(InputError):
            return photographs_in(folder)
        raise


SPLIT_STAGED = SplitStaged(
    job=STAGED,
    units_field="pieces",
    inputs_field="pieces_from",
    inputs_words="a folder of .npy or .npz files, or of images where the model reads them",
    inputs_are_folder=True,
    find=arrays_or_images_in,
)
"""A model of which nothing more is known."""

SPLIT_PHOTOGRAPHS = SplitStaged(
    job=PHOTO,
    units_field="photographs",
    inputs_field="photographs_from",
    inputs_words="a folder of images",
    inputs_are_folder=True,
    find=photographs_in,
    own=own_photographs,
)

SPLIT_SENTENCES = SplitStaged(
    job=SENTENCES,
    units_field="sentences",
    inputs_field="sentences_from",
    inputs_words=SENTENCES_WORDS,
    inputs_are_folder=False,
    find=sentences_in,
    own=own_sentences,
)


def job_for(model: Path) -> str:
    """Name of the job that stages of a model are for, by the reading that they ask for.

    Raises:
        InputError: there is no such model, or it cannot be cut.
    """
    reading = stages_of(STAGED, model).reading.get("name")
    names = {"photographs": PHOTO.name, "sentences": SENTENCES.name}
    return names.get(str(reading), STAGED.name)


def stage_costs(model: StageFolder) -> LayerCosts:
    """GMAC of a piece, stage by stage; nothing before the first and behind the last.

    Raises:
        InputError: they could not be counted.
    """
    if model.macs is None:
        expected = "operations that can be counted, since they are what is priced"
        raise InputError(model.folder / STAGES_JSON, "macs", expected, model.uncounted or "none")
    if sum(model.macs) == 0:
        raise InputError(model.folder / STAGES_JSON, "macs", "stages that compute", "none do")
    return LayerCosts(per_stage=(0.0, *(count / MACS_PER_GMAC for count in model.macs), 0.0))


def stages_profile(
    model: StageFolder, repeats: int, progress: Progress | None = None, *, unit: str = "piece"
) -> Profile:
    """What stages take on this machine, with one thread: the fastest of the repeats, on noise of
    the sizes that operations were counted at.

    Args:
        model: its stages.
        repeats: of which the fastest counts.
        progress: told after each repeat how many are done.
        unit: what is worked on.

    Raises:
        InputError: the model cannot be run, or its operations not be counted.
    """
    costs = stage_costs(model)
    runner = StageRunner(model)
    values = [drawn_inputs(model, 1, 0)[0]]
    for stage in range(model.stages):
        values.append(runner.run(values[-1], stage, stage + 1))
    fastest = np.full(model.stages, np.inf)
    for repeat in range(repeats):
        for stage in range(model.stages):
            start_s = time.perf_counter()
            runner.run(values[stage], stage, stage + 1)
            fastest[stage] = min(fastest[stage], time.perf_counter() - start_s)
        if progress is not None:
            progress(repeat + 1, repeats)
    cuts = [0.0, *(float(each) for each in np.cumsum(fastest))]
    middle = max(1, model.stages // 2)
    outputs = sum(each.nbytes for each in values[-1].values())
    return Profile(
        model=model.name,
        threads=1,
        repeats=repeats,
        seconds_per_stage=(0.0, *(float(each) for each in fastest), 0.0),
        seconds_per_cut=tuple(cuts),
        gmac_per_stage=costs.per_stage,
        fit=fit_line(cuts),
        codecs=_codec_costs(model, middle, values[middle], repeats),
        pixel_bytes=sum(each.nbytes for each in values[0].values()),
        vector_bytes=outputs,
        unit=unit,
        step="stage",
    )


# ---------------------------------------------------------------- private


@lru_cache(maxsize=16)
def _folder(job: Staged, model: Path | None) -> Path:
    return stages_of(job, model).folder


def _codec_costs(
    model: StageFolder, after: int, values: Mapping[str, np.ndarray], repeats: int
) -> tuple[CodecCost, ...]:
    """Of what is handed over in the middle of a model; of codecs that can express it."""
    handed = model.handed(after)
    specs = [each.spec(coded=True) for each in handed]
    sent: Tensors = {each.name: each.to_wire(values[each.name]) for each in handed}
    found = []
    for codec in BUILT_IN:
        encode_s = decode_s = math.inf
        try:
            packed = codec.pack(sent, specs)
        except InputError:
            continue
        for _ in range(repeats):
            start_s = time.perf_counter()
            codec.pack(sent, specs)
            middle_s = time.perf_counter()
            codec.unpack(packed, specs)
            encode_s = min(encode_s, middle_s - start_s)
            decode_s = min(decode_s, time.perf_counter() - middle_s)
        cost = CodecCost(
            codec=codec.name,
            bytes_per_image=packed_bytes(packed),
            encode_s=encode_s,
            decode_s=decode_s,
        )
        found.append(cost)
    return tuple(found)


def _given(pieces: Sequence[Piece], place: Path, to: Path) -> Path:
    """What one device is given: links to files in a folder, or lines in a file."""
    if all(piece.path is None for piece in pieces):
        target = to.with_suffix(".txt")
        target.write_bytes(b"\n".join(piece.content for piece in pieces) + b"\n")
        return target
    for piece in pieces:
        assert piece.path is not None
        link = to / piece.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(piece.path.resolve())
    return to


def _agreement(
    reading: Reading, pieces: Sequence[Piece], results: Sequence[tuple[str, StagedResult]]
) -> float:
    """Share of some pieces on which the unsplit model says the same."""
    known = {piece.name: piece for piece in pieces}
    runner, stages = StageRunner(reading.model), reading.model.stages
    latest = {each.file: each for _, each in results if each.file in known}
    hits = []
    for name, each in list(latest.items())[:WHOLE_CHECKED]:
        values = reading.tensors(reading.source(known[name]), name=name)
        whole = reading.answer(runner.run(values, 0, stages))
        row = {"answer": each.answer, "facts": each.facts, **each.more}
        hits.append(reading.same(row, whole))
    return float(np.mean(hits)) if hits else 0.0


def _device(
    name: str,
    results: Sequence[tuple[str, StagedResult]],
    profile: Profile,
    lost: Mapping[str, str],
) -> DevicePieces:
    own = [result for device, result in results if device == name]
    times = [time_split(each) for each in own if each.roundtrip_seconds is not None]
    costs = profile.costs

    def median(values: list[float]) -> float:
        return float(np.median(values)) if values else 0.0

    def mean(values: list[int]) -> float:
        return float(np.mean(values)) if values else 0.0

    return DevicePieces(
        name=name,
        pieces=len(own),
        units=sum(each.units for each in own),
        paid_credits=in_credits(sum(each.paid_microcredits for each in own)),
        device_s=median([each.device_s for each in times]),
        link_s=median([each.link_s for each in times]),
        compute_s=median([each.compute_s for each in times]),
        wait_s=median([each.wait_s for each in times]),
        bytes_sent=mean([each.bytes_sent for each in own]),
        source_bytes=mean([each.source_bytes for each in own]),
        device_gmac=sum(costs.device(each.amount) for each in own),
        server_gmac=sum(costs.server(each.amount) for each in own),
        lost=lost.get(name),
    )
