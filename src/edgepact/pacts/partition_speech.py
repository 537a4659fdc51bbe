"""Speech in the eyes of a partition: stages of a voice, frames of sound that are paid.

A sentence is a piece, and the unit is a frame of 12.5 ms of its sound. What a sentence costs grows
with its length: paid by the sentence, devices would bring short ones. Frames are what the stages'
computing is proportional to, and the server counts them in what it has made or been shown. Costs
are those of a reference sentence of 54 phonemes and 256 frames, divided by its frames: phonemes are
computed with too, about five frames to each, and attention between them grows a little faster.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.efficiency.partition import MACS_PER_GMAC, LayerCosts
from edgepact.efficiency.profile import Profile, Progress, fit_line
from edgepact.fields import Table
from edgepact.framework import Json
from edgepact.inference.stage_folder import StageFolder, StageRunner
from edgepact.jobs.speech.halves import voice_model
from edgepact.jobs.speech.reading import Speakable
from edgepact.jobs.speech.sentences import SpeechSettings, own_sentences, read_sentences
from edgepact.jobs.speech.sound import (
    FRAME,
    FRAMES_PER_S,
    PITCH,
    as_pcm,
    loudness_db,
    of_pcm,
    of_text,
    waveform,
)
from edgepact.jobs.speech.voice import macs_per_frame, read_voice, voice_folder
from edgepact.jobs.staged.reading import Piece
from edgepact.pacts.partition_jobs import JobTerms, Shares, settings_stated
from edgepact.pacts.partition_results import (
    DeviceShare,
    JobDone,
    PieceDone,
    Played,
    TimeSplit,
    results_of,
    share_of,
    time_split,
)
from edgepact.pacts.partition_shares import lines_shared_out
from edgepact.work import Model

SECONDS = 20
SECONDS_MAX = 3_600
SMOKE_SECONDS = 4

FRAMES_A_CHARACTER = 4
"""Frames that a character of a sentence takes, rather few, to know how many a round may take."""

FRAMES_ASKED = 10 * FRAMES_PER_S
"""Most frames of a sentence that a buyer asks for; further ones are not counted."""

REFERENCE = "The device reads the first half of this sentence aloud."
"""What stages are timed on."""

SENTENCES_CHECKED = 8
"""Sentences that the unsplit voice speaks too, to compare."""

OPTIONS = ("speed", "accent")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenResult(PieceDone):
    """One sentence; its amount is in stages, its units are frames.

    Attributes:
        sentence: as it is read.
        phonemes, frames: how many it has.
        seed: of its noise.
        sound: as `sound.as_text` has it.
        alone: whether the device spoke it without the server.
        exchanges: that were answered.
        speech_seconds: from its start to its sound.
    """

    sentence: str
    phonemes: int
    frames: int
    seed: int
    sound: str
    alone: bool
    exchanges: int
    speech_seconds: float

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self.frames / FRAMES_PER_S

    def as_row(self) -> dict[str, Json]:
        """All but the sound."""
        return {name: value for name, value in asdict(self).items() if name != "sound"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpeech(DeviceShare):
    """What one device did in all rounds; times are seconds for each second of sound.

    Attributes:
        sentences: that were spoken with it.
        seconds: of sound.
        realtime: seconds of sound for each second of computing, on both sides.
        bytes_sent, bytes_received: a second of sound, HTTP bodies.
    """

    sentences: int
    seconds: float
    realtime: float
    bytes_sent: float
    bytes_received: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Sounds of a run beside those of the unsplit voice, from the same seeds.

    Attributes:
        sentences: that were compared.
        as_long: how many of them last as long.
        identical: how many are the same, sample by sample.
        apart: largest difference of two samples, as a share of the loudest that there can be; of
            those that last as long.
        loudness_db: mean difference of their loudness, over frames and bands.
        energy_db: largest difference of the energies of two sounds.
    """

    sentences: int
    as_long: int
    identical: int
    apart: float
    loudness_db: float
    energy_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechDone(JobDone[SpokenResult, DeviceSpeech]):
    """Sentences spoken, and how they were paid.

    Attributes:
        compared: with the unsplit voice.
    """

    compared: Compared
    unit: str = "frame"
    step: str = "stage"

    @property
    def seconds(self) -> float:
        """Of sound, all together."""
        return sum(each.seconds for _, each in self.pieces)

    def rows(self, promised: str) -> tuple[tuple[str, str], ...]:
        """See `partition_jobs.Work`."""
        like, seconds = self.compared, max(self.seconds, 1e-9)
        sent = sum(each.bytes_sent for _, each in self.pieces) / seconds
        received = sum(each.bytes_received for _, each in self.pieces) / seconds
        speed = float(np.median([each.realtime for each in self.devices if each.sentences]))
        return (
            ("sentences spoken", f"{len(self.pieces)}"),
            ("seconds of sound", f"{self.seconds:.1f}"),
            ("seconds of sound a second of computing, median device", f"{speed:.3g}"),
            (
                "of sounds compared, as long as the unsplit voice's",
                f"{like.as_long} of {like.sentences}",
            ),
            ("the same as the unsplit voice's", f"{like.identical} of {like.sentences}"),
            ("largest difference of a sample, of the loudest there can be", f"{like.apart:.2g}"),
            ("difference of loudness, dB, mean of frames and bands", f"{like.loudness_db:.2g}"),
            ("difference of energy, dB, largest of a sentence", f"{like.energy_db:.2g}"),
            ("bytes sent for a second of sound", f"{sent:.0f}"),
            ("bytes received for a second of sound", f"{received:.0f}"),
            ("the server's computing saved", f"{self.server_saved:.2%}"),
            *self.paid_rows("sentences", promised),
        )

    def as_json(self) -> dict[str, Json]:
        """See `partition_jobs.Work`."""
        return {
            "sentences": [{"device": name, **each.as_row()} for name, each in self.pieces],
            "seconds": self.seconds,
            "compared": asdict(self.compared),
            "server_saved": self.server_saved,
            **self.paid_json(),
        }


@dataclass(frozen=True, slots=True)
class SplitSpeech:
    """See `partition_jobs.SplitJob`."""

    unit: str = "frame"
    step: str = "stage"
    device_share: str = "runs the first L stages of the voice"
    inputs_field: str = "sentences_from"
    inputs_words: str = "a file of sentences, a line each"
    inputs_are_folder: bool = False

    def own_inputs(self) -> Path:
        """Sentences that come with the job."""
        return own_sentences()

    def model_folder(self, model: Path | None) -> Path:
        """The stages of a voice, written the first time; the packaged one if none is named."""
        return _stages_of(model)

    def model(self, folder: Path, settings: Mapping[str, Any]) -> Model:
        """Its name and its stages."""
        return voice_model(read_voice(folder, SpeechSettings.of(settings)))

    def read_units(self, job: Table, *, smoke: bool) -> int:
        """The field `seconds`: of sound, of each device in a round."""
        found = job.whole("seconds", SECONDS, least=1, most=SECONDS_MAX)
        return FRAMES_PER_S * (min(found, SMOKE_SECONDS) if smoke else found)

    def read_settings(self, job: Table, *, smoke: bool) -> Mapping[str, Any]:
        """How sentences are spoken."""
        return settings_stated(job, OPTIONS, SpeechSettings.of)

    def units_most(self, settings: Mapping[str, Any]) -> int:
        """See `partition_buyers.SizesPieces`: frames of a sentence that a buyer asks for."""
        return FRAMES_ASKED

    def make_ready(self, model: Path, inputs: Path | None) -> None:
        """Reads both."""
        read_voice(model, SpeechSettings())
        read_sentences(inputs or own_sentences())

    def costs(self, model: Path, settings: Mapping[str, Any]) -> LayerCosts:
        """Counted in the graph, for a frame of the reference sentence."""
        return _costs(read_voice(model, SpeechSettings.of(settings)))

    def profile(
        self, model: Path, settings: Mapping[str, Any], repeats: int, progress: Progress
    ) -> Profile:
        """One sentence, stage by stage; times are those of a frame of it."""
        voice = read_voice(model, SpeechSettings.of(settings))
        seconds = _stage_seconds(voice, repeats, progress)
        cuts = np.cumsum(seconds[:-1])
        return Profile(
            model=voice.name,
            threads=1,
            repeats=repeats,
            seconds_per_stage=tuple(seconds),
            seconds_per_cut=tuple(cuts.tolist()),
            gmac_per_stage=_costs(voice).per_stage,
            fit=fit_line(cuts.tolist()),
            codecs=(),
            pixel_bytes=0,
            vector_bytes=2 * FRAME,
            unit=self.unit,
            step=self.step,
        )

    def shared_out(
        self, inputs: Path | None, names: Sequence[str], *, per_round: int, rounds: int, seed: int
    ) -> AbstractContextManager[Shares]:
        """A file of sentences of its own for each device, where there are enough."""
        sentences = read_sentences(inputs or own_sentences())
        characters = sum(len(each) for each in sentences) / len(sentences)
        in_round = 1 + int(per_round / (FRAMES_A_CHARACTER * characters))
        return lines_shared_out(sentences, names, in_round=in_round, rounds=rounds, seed=seed)

    def done(
        self,
        *,
        terms: JobTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> SpeechDone:
        """What was spoken."""
        results = results_of(folder, names, SpokenResult.from_line, "sentence")
        voice = read_voice(terms.model_folder, SpeechSettings.of(terms.settings))
        return SpeechDone(
            profile=profile,
            pieces=tuple(results),
            devices=tuple(_device(name, results, profile, played.lost) for name in names),
            played=played,
            compared=compared(voice, [each for _, each in results]),
        )


SPEECH = SplitSpeech()


def compared(voice: StageFolder, results: Sequence[SpokenResult]) -> Compared:
    """Some of the sounds beside those that the unsplit voice makes, from the same seeds."""
    reading, runner = Speakable(voice), StageRunner(voice)
    step = max(1, len(results) // SENTENCES_CHECKED)
    chosen = results[::step][:SENTENCES_CHECKED]
    as_long = identical = 0
    apart, loudness, energy = 0.0, [0.0], 0.0
    for each in chosen:
        inputs = reading.tensors(reading.source(Piece(name=each.sentence)))
        spectra = runner.run(inputs, 0, voice.stages)
        own = of_pcm(as_pcm(waveform(spectra, each.seed))).astype(np.float64)
        came = of_pcm(of_text(each.sound)).astype(np.float64)
        energies = [10.0 * np.log10(np.mean(sound**2) + 1.0) for sound in (own, came)]
        energy = max(energy, float(abs(energies[0] - energies[1])))
        if len(own) == len(came):
            as_long += 1
            identical += bool((own == came).all())
            apart = max(apart, float(np.abs(own - came).max()) / 32767.0)
            levels = [loudness_db(sound.astype(np.int16)) for sound in (own, came)]
            loudness.append(float(np.abs(levels[0] - levels[1]).mean()))
    return Compared(
        sentences=len(chosen),
        as_long=as_long,
        identical=identical,
        apart=apart,
        loudness_db=sum(loudness) / max(1, as_long),
        energy_db=energy,
    )


# ---------------------------------------------------------------- private


@lru_cache(maxsize=8)
def _stages_of(model: Path | None) -> Path:
    return voice_folder(model)


def _costs(voice: StageFolder) -> LayerCosts:
    macs = macs_per_frame(voice)
    return LayerCosts(per_stage=(0.0, *(count / MACS_PER_GMAC for count in macs), 0.0))


def _stage_seconds(voice: StageFolder, repeats: int, progress: Progress) -> list[float]:
    """Reading the sentence; each stage; the waveform: seconds for a frame."""
    front, runner, stages = Speakable(voice), StageRunner(voice), voice.stages
    front.source(Piece(name=REFERENCE))
    runner.load(range(stages))
    fastest, frames = np.full(stages + 2, np.inf), 1
    for repeat in range(repeats):
        start_s = time.perf_counter()
        front.phonemes.cache_clear()
        values = front.tensors(front.source(Piece(name=REFERENCE)))
        times = [time.perf_counter() - start_s]
        for stage in range(stages):
            start_s = time.perf_counter()
            values = runner.run(values, stage, stage + 1)
            times.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        waveform(values, repeat)
        times.append(time.perf_counter() - start_s)
        frames = values[PITCH].shape[1]
        fastest = np.minimum(fastest, times)
        progress(repeat + 1, repeats)
    return [float(each) / frames for each in fastest]


def _device(
    name: str,
    results: Sequence[tuple[str, SpokenResult]],
    profile: Profile,
    lost: Mapping[str, str],
) -> DeviceSpeech:
    own = [result for device, result in results if device == name]
    times = [time_split(each) for each in own]
    seconds = sum((each.seconds for each in own), 0.0)
    costs = profile.costs

    def a_second(values: Iterable[float]) -> float:
        return sum(values, 0.0) / max(seconds, 1e-9)

    def gmac(result: SpokenResult) -> tuple[float, float]:
        frames, amount = result.frames, result.amount
        return frames * costs.device(amount), frames * costs.server(amount)

    computing = sum((each.device_s + each.compute_s for each in times), 0.0)
    return DeviceSpeech(
        **share_of(name, own, lost, times=TimeSplit.over(times, a_second), gmac=gmac),
        sentences=len(own),
        seconds=seconds,
        realtime=seconds / max(computing, 1e-9),
        bytes_sent=a_second(each.bytes_sent for each in own),
        bytes_received=a_second(each.bytes_received for each in own),
    )
