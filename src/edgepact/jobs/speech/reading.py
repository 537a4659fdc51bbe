"""How sentences become the inputs of a voice, and what is compared of its sounds."""

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.inference.stage_folder import Handed, StageFolder
from edgepact.jobs.speech.phonemes import FrontEnd, checked_ids
from edgepact.jobs.speech.sentences import SpeechSettings, own_sentences, read_sentences
from edgepact.jobs.speech.sound import BANDS, as_pcm, loudness_in_parts, of_pcm, waveform
from edgepact.jobs.staged.reading import Answer, Piece, Reading

SOURCE_BYTES_MAX = 8192

EXAMPLES, EXAMPLE_CHARS = 5, 50
"""Sentences that are enough to measure with, and how long they are at most."""

PARTS, MOMENTS = 4, 6
"""A sound is compared part by part, so that one that is made up shows, and each part by its mean
loudness at some moments: honest sounds differ from frame to frame, and hardly in the mean."""


class Speakable(Reading):
    """Sentences of a file. A piece travels as the numbers of its phonemes, so that a server needs
    none of the dictionaries; the voice's settings stand in `stages.reading`."""

    name = "speech"
    inputs_field = "sentences_from"
    inputs_words = "a file of sentences, a line each"
    inputs_are_folder = False
    rows_axis = -1

    def __init__(self, model: StageFolder) -> None:
        super().__init__(model)
        told = {name: value for name, value in model.reading.items() if name != "name"}
        self.settings = SpeechSettings.of(told)
        self._front = FrontEnd(self.settings.accent)
        self.phonemes = lru_cache(maxsize=256)(self._front.phonemes)

    def load(self) -> None:
        """Loads the dictionaries, which takes a moment."""
        self._front.load()

    def own_inputs(self) -> Path:
        """Sentences that come with the job."""
        return own_sentences()

    def pieces(self, inputs: Path) -> Sequence[Piece]:
        """A piece for each line."""
        return [Piece(name=each, content=each.encode()) for each in read_sentences(inputs)]

    def source(self, piece: Piece) -> bytes:
        """The numbers of its phonemes, as JSON.

        Raises:
            InputError: it cannot be spoken.
        """
        return json.dumps({"ids": self._front.ids(self.phonemes(piece.name))}).encode()

    def tensors(self, source: bytes, *, name: object = "piece") -> dict[str, np.ndarray]:
        """The phonemes, and how fast they are spoken."""
        expected = "JSON with ids, the numbers of phonemes"
        try:
            if len(source) > SOURCE_BYTES_MAX:
                raise ValueError
            found = json.loads(source)["ids"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise InputError(name, "ids", expected, f"{len(source)} other bytes") from None
        return self.inputs(checked_ids(found, str(name)))

    def inputs(self, ids: Sequence[int]) -> dict[str, np.ndarray]:
        """What the first stage takes.

        Args:
            ids: numbers of the phonemes, with the pauses at both ends.
        """
        speed = np.array([self.settings.speed], np.float32)
        return {"ids": np.array([ids], np.int64), "speed": speed}

    def examples(self, count: int, seed: int) -> list[dict[str, np.ndarray]]:
        """Sentences that come with the job."""
        lines = [each for each in read_sentences(own_sentences()) if len(each) <= EXAMPLE_CHARS]
        order = np.random.default_rng(seed).permutation(len(lines))[: min(count, EXAMPLES)]
        return [self.inputs(self._front.ids(self.phonemes(lines[at]))) for at in order]

    def answer(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """A sound is made of a seed besides: see `halves`."""
        raise NotImplementedError

    def compared(self) -> tuple[Handed, ...]:
        """How loud each part of the sound is."""
        return tuple(
            Handed(name=f"part {at}", dtype="float32", shape=(MOMENTS, BANDS))
            for at in range(1, PARTS + 1)
        )

    def comparable(
        self, outputs: Mapping[str, np.ndarray], *, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """How loud the sound is that the spectra and a seed make."""
        return comparable_sound(as_pcm(waveform(outputs, seed)))

    def alike(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """As `alike_sound`, with noise of another seed for any other outputs."""
        seed = zlib.crc32(b"".join(np.ascontiguousarray(each).data for each in outputs.values()))
        return alike_sound(as_pcm(waveform(outputs, seed)))


def alike_sound(pcm: bytes) -> np.ndarray | None:
    """How loud each part of a sound is beside its mean, at length 1; None of silence.

    Copies of a sentence as codecs and seeds make them lie within .014 of each other, "Hello, Bob"
    and "Hello, Rob" .21 apart, most sentences more than .7.

    Args:
        pcm: of a stranger.

    Raises:
        InputError: it is no sound.
    """
    levels = np.concatenate([part.ravel() for part in comparable_sound(pcm).values()])
    centred = levels - levels.mean()
    length = float(np.linalg.norm(centred))
    return centred / np.float32(length) if length > 0 else None


def comparable_sound(pcm: bytes) -> dict[str, np.ndarray]:
    """How loud each part of a sound is.

    Args:
        pcm: of a stranger.

    Raises:
        InputError: it is no sound.
    """
    parts = loudness_in_parts(of_pcm(pcm), PARTS, MOMENTS)
    return {f"part {at}": part for at, part in enumerate(parts, 1)}
