"""The two halves of a voice: those of a model in stages (`jobs.staged`), which end in a sound.

===========  =============================================  ==============================
amount       exchanges                                      who makes the sound
===========  =============================================  ==============================
0            numbers of phonemes; the sound comes back      the server
1 to 10      the tensors of that cut; the sound comes back  the server
11           numbers of phonemes; a seed comes back;        the device, from that seed
             the sound
===========  =============================================  ==============================

The noise in a sound is drawn from the session's seed, which is the server's, so that any sound can
be made again. At the last amount a device is told the seed before it makes the sound. What is kept
of such a sound is how loud it is at some frames and bands; samples themselves would tell honest
devices apart whose pitch differs in the last bit, which nobody hears.

A sound is known again by its loudness at some moments, whatever its noise: who has sent one is not
paid for sending it once more, a little changed.

The server counts frames, and is told none: a device cannot be paid for more sound than there is,
and one that draws its sounds out fails the audit.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from edgepact.errors import InputError
from edgepact.exhibit import Exhibit
from edgepact.inference.stage_folder import StageFolder
from edgepact.jobs.speech.reading import Speakable, alike_sound, comparable_sound
from edgepact.jobs.speech.sound import (
    FRAME,
    FRAMES_MAX,
    PITCH,
    as_pcm,
    as_text,
    excerpt,
    of_pcm,
    of_text,
    waveform,
)
from edgepact.jobs.staged.evidence import deviation, kept
from edgepact.jobs.staged.halves import SOURCE, StagedDevice, StagedServer
from edgepact.jobs.staged.reading import Piece
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply, ServerAway, Work

SOUND = "sound"
"""Name of the tensor that a sound travels in."""

WARM = (0, 50, 83, 54, 156, 31, 0)
"""Phonemes of a greeting."""

DURATIONS = 2
"""Stages after which it is known how many frames a sound has."""


def voice_model(voice: StageFolder) -> Model:
    """What both sides have to hold alike: the stages, and how they speak."""
    from edgepact.inference.digests import digest_of_stages

    return _model(voice, digest_of_stages(voice.folder))


class SpeechDevice(StagedDevice):
    """The sentences of a device, and the stages that it runs on them."""

    reading: Speakable

    @property
    def model(self) -> Model:
        """The voice that it holds, and how it speaks."""
        return _model(self.folder, self._digest)

    def prepare(self, amount: int) -> None:
        """Opens the device's stages, and the dictionaries of the front end."""
        super().prepare(amount)
        self.reading.load()

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """What is sent."""
        if amount == self.folder.stages:
            return _expected_of_whole(exchange)
        return super().expects(amount, exchange)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The sound, where the device has not made it."""
        return _returned(amount, self.folder.stages)

    def work(self, piece: Piece, amount: int) -> Work:
        """Sends phonemes, activations or the sound; is told the sound, or the seed for it.

        Raises:
            InputError: the sentence cannot be spoken.
        """
        start_s, stages = time.perf_counter(), self.folder.stages
        source = self.source(piece)
        values: Mapping[str, np.ndarray] = self._read_in(source, piece.name)
        phonemes = values["ids"].shape[1] - 2
        # Of a whole sound the seed is asked for first: see this module.
        done = amount if amount < stages else 0
        values = self.runner.run(values, 0, done)
        sent: Tensors = {SOURCE: (source,)}
        if done:
            sent = {name: np.asarray(value) for name, value in values.items()}
        pcm, alone = b"", False
        try:
            reply = yield sent
            seed = int(str(reply.told.get("seed", "0")))
            if amount == stages:
                pcm = as_pcm(waveform(self.runner.run(values, 0, stages), seed))
                yield {SOUND: (pcm,)}
            else:
                (sound,) = reply.outputs[SOUND]
                pcm = of_pcm(bytes(sound)).tobytes()
        except ServerAway:
            alone = True
            if not pcm:
                seed = secrets.randbits(62)
                pcm = as_pcm(waveform(self.runner.run(values, done, stages), seed))
        return {
            "sentence": piece.name,
            "phonemes": phonemes,
            "frames": len(pcm) // (2 * FRAME),
            "seed": seed,
            "sound": as_text(pcm),
            "alone": alone,
            "speech_seconds": time.perf_counter() - start_s,
        }

    def exhibit(self, piece: Piece, result: Mapping[str, Json]) -> Exhibit:
        """The sentence, and how it begins to sound."""
        return Exhibit(given=piece.name, sound=excerpt(of_text(result["sound"])))


@dataclass(slots=True)
class SpeechSession:
    """A sentence on its way.

    Attributes:
        amount: stages of the device.
        seed: of the noise.
        asked: whether a device that makes the whole sound was told the seed.
    """

    amount: int
    seed: int
    asked: bool = False


class SpeechServer(StagedServer):
    """The voice, cut everywhere, and the judge of devices."""

    reading: Speakable

    @property
    def model(self) -> Model:
        """The voice that it holds, and how it speaks."""
        return _model(self.folder, self._digest)

    @property
    def about(self) -> Mapping[str, Json]:
        """How it speaks."""
        return {**super().about, **asdict(self.reading.settings)}

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """What comes."""
        if amount == self.folder.stages:
            return _expected_of_whole(exchange)
        return super().expects(amount, exchange)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The sound, where the device has not made it."""
        return _returned(amount, self.folder.stages)

    def warm(self) -> None:
        """As any model in stages; and speaks, so that what sounds are made with is loaded too."""
        super().warm()
        self._sound(SpeechSession(0, 0), self.reading.inputs(WARM))

    def begin(self, amount: int, seed: int) -> SpeechSession:  # type: ignore[override]
        """A sentence on its way."""
        return SpeechSession(amount, seed)

    def answer(  # type: ignore[override]
        self, batch: Sequence[tuple[SpeechSession, Tensors]]
    ) -> list[Reply | InputError]:
        """The sound of each sentence, or the seed for it, or what is wrong with one."""
        return [self._spoken(session, sent) for session, sent in batch]

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """Of activations and sounds about 1 KB; nothing where phonemes came."""
        if amount < self.folder.stages:
            return super().evidence(amount, exchange, sent, reply, key)
        if exchange == 0:
            return b""
        (pcm,) = sent[SOUND]
        told = _frames(bytes(pcm)).to_bytes(4, "little")
        return told + kept(self.reading.compared(), comparable_sound(bytes(pcm)), key)

    def passes_audit(
        self,
        amount: int,
        evidence: Sequence[bytes],
        source: bytes,
        *,
        seed: int,
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Whether what came is what the device's stages make of the phonemes, and of the seed."""
        if amount < self.folder.stages:
            return super().passes_audit(amount, evidence, source, seed=seed, codec=codec, key=key)
        if len(evidence) != 2:
            return False
        pcm = as_pcm(waveform(self._device_part(source, amount, SOURCE), seed))
        told, rest = evidence[1][:4], evidence[1][4:]
        if told != _frames(pcm).to_bytes(4, "little"):
            return False
        apart = deviation(rest, self.reading.compared(), comparable_sound(pcm), key)
        return apart <= self._tolerance(amount, codec)

    # ------------------------------------------------------------ private

    def _spoken(self, session: SpeechSession, sent: Tensors) -> Reply | InputError:
        try:
            if session.amount < self.folder.stages:
                return self._sound(session, self._expected(self._values(session.amount, sent)))
            if not session.asked:
                (source,) = sent[SOURCE]
                self._read_in(bytes(source), SOURCE)
                session.asked = True
                return Reply(outputs={}, finished=False, told={"seed": str(session.seed)})
            (pcm,) = sent[SOUND]
            of_pcm(bytes(pcm))
            sketch = self._sketched(alike_sound(bytes(pcm)))
            return Reply(outputs={}, units=_frames(bytes(pcm)), sketch=sketch)
        except InputError as error:
            return error

    def _expected(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Tensors with the speed that was agreed on: durations are divided by it."""
        speed, own = values["speed"], self.reading.inputs(())["speed"]
        if not np.array_equal(speed, own):
            raise InputError("infer request", "speed", f"{own.tolist()}", f"{speed.tolist()}")
        return values

    def _sound(self, session: SpeechSession, values: Mapping[str, np.ndarray]) -> Reply:
        """The server's stages, and the sound; durations are looked at before they are gone on."""
        at = session.amount
        if at < DURATIONS:
            values, at = self.runner.run(values, at, DURATIONS), DURATIONS
            frames = values[PITCH].shape[1]
            if frames > FRAMES_MAX:
                expected = f"a sentence of at most {FRAMES_MAX} frames"
                raise InputError("infer request", "sentence", expected, frames)
        spectra = self.runner.run(values, at, self.folder.stages)
        pcm = as_pcm(waveform(spectra, session.seed))
        told = {"seed": str(session.seed)}
        sketch = self._sketched(alike_sound(pcm))
        return Reply(outputs={SOUND: (pcm,)}, units=_frames(pcm), told=told, sketch=sketch)


# ---------------------------------------------------------------- private


def _model(voice: StageFolder, digest: str) -> Model:
    told = hashlib.sha256(f"{digest} {sorted(voice.reading.items())}".encode())
    return Model(name=voice.name, amount_max=voice.stages, digest=told.hexdigest())


def _expected_of_whole(exchange: int) -> tuple[TensorSpec, ...]:
    name = SOURCE if exchange == 0 else SOUND
    return (TensorSpec(name=name, datatype="BYTES", shape=(1,)),)


def _returned(amount: int, stages: int) -> tuple[TensorSpec, ...]:
    made = (TensorSpec(name=SOUND, datatype="BYTES", shape=(1,)),)
    return made if amount < stages else ()


def _frames(pcm: bytes) -> int:
    return len(pcm) // (2 * FRAME)
