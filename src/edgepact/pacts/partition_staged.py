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

from edgepact.efficiency.partition import MACS_PER_GMAC, LayerCosts
from edgepact.efficiency.profile import CodecCost, Profile, Progress, fit_line
from edgepact.errors import InputError
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
from edgepact.pacts.partition_jobs import JobTerms, Shares
from edgepact.pacts.partition_results import (
    DeviceShare,
    JobDone,
    K,
    PieceDone,
    Played,
    TimeSplit,
    from_row,
    mean,
    median,
    results_of,
    share_of,
    time_split,
)
from edgepact.pacts.partition_settings import IMAGES_MAX, PlaySettings
from edgepact.pacts.partition_shares import REPEAT_ROUNDS, SPARE
from edgepact.tensors import Tensors
from edgepact.work import Model

SMOKE_UNITS = 2

CHECKED = 200
"""Pieces read before anything is started."""

WHOLE_CHECKED = 64
"""Pieces that the unsplit model is asked of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedResult(PieceDone):
    """One piece; its amount is in stages.

    Attributes:
        file: what was worked on: a file's name, or the sentence itself.
        label_true: what is right, if it is known.
        answer: in words.
        facts: the same and more.
        alone: whether the device finished it without the server.
        source_bytes: of the piece as it is.
        more: further fields, which the model's reading has written.
    """

    file: str
    label_true: str | None
    answer: str
    facts: Mapping[str, Json]
    alone: bool
    source_bytes: int
    more: Mapping[str, Json]

    @classmethod
    def from_line(cls: type[K], line: str) -> K | None:
        """Reads a line; None for one of a piece that was not finished."""
        row, known = json.loads(line), {each.name for each in fields(StagedResult)}
        more = {name: value for name, value in row.items() if name not in known}
        return from_row(cls, row | {"more": more})

    @property
    def label(self) -> str | None:
        """The class that was found, of a model that finds one."""
        found = self.facts.get("label")
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePieces(DeviceShare):
    """What one device did in all rounds; times are seconds, medians over its pieces.

    Attributes:
        pieces: that it finished.
        bytes_sent: a piece, HTTP bodies.
        source_bytes: what a piece has as it is.
    """

    pieces: int
    bytes_sent: float
    source_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDone(JobDone[StagedResult, DevicePieces]):
    """Pieces worked on, and how they were paid.

    Attributes:
        reading: of the model: `photographs`.
        agreement: share of some pieces on which split and unsplit model say the same.
        same_words: what that means, in words.
    """

    reading: str
    agreement: float
    same_words: str
    step: str = "stage"

    @property
    def accuracy(self) -> float | None:
        """Share of the pieces of known class whose class was found; None without any."""
        known = [each for _, each in self.pieces if each.label_true is not None and each.label]
        hits = [each.label == each.label_true for each in known]
        return sum(hits) / len(hits) if hits else None

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
            *self.paid_rows(units, promised),
        )

    def as_json(self) -> dict[str, Json]:
        """See `partition_jobs.Work`."""
        return {
            "pieces": len(self.pieces),
            "agreement": self.agreement,
            "accuracy": self.accuracy,
            "server_saved": self.server_saved,
            **self.paid_json(),
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
        terms: JobTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> StagedDone:
        """What was answered."""
        results = results_of(folder, names, StagedResult.from_line, self.unit)
        reading = reading_of(read_stage_folder(terms.model_folder))
        return StagedDone(
            profile=profile,
            pieces=tuple(results),
            devices=tuple(_device(name, results, profile, played.lost) for name in names),
            played=played,
            unit=self.unit,
            reading=reading.name,
            agreement=_agreement(reading, self._pieces(reading, terms.inputs_place), results),
            same_words=reading.same_words,
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

    def gmac(result: StagedResult) -> tuple[float, float]:
        return costs.device(result.amount), costs.server(result.amount)

    return DevicePieces(
        **share_of(name, own, lost, times=TimeSplit.over(times, median), gmac=gmac),
        pieces=len(own),
        bytes_sent=mean(each.bytes_sent for each in own),
        source_bytes=mean(each.source_bytes for each in own),
    )
