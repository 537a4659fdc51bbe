"""From what a voice's last stage gives to a waveform, and how it travels and is kept.

The network says for each frame of 12.5 ms how loud and in which phase each frequency is: of the
pulses of the voice, of noise, and of the rest. The noise is the only thing that is drawn. It is an
input here, as the seed that it comes from, so that a sound can be made again bit by bit; one
inverse short-time Fourier transform makes the waveform, by the code of the package `hibari-tts`.
"""

import base64
import io
import itertools
import wave
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int16

from edgepact.errors import InputError
from edgepact.exhibit import SOUND_SECONDS_MAX

RATE = 24_000
"""Samples a second."""

FRAME = 300
"""Samples of a frame."""

FRAMES_PER_S = RATE // FRAME

FRAMES_MAX = 4_000
"""Most frames of a sentence: 50 seconds."""

SPECTRA = ("lh", "theta", "ln", "lr", "phi")
"""Outputs of a voice, beside the pitch: how loud and in which phase pulses are, noise, the rest."""

PITCH = "f0"

BANDS = 24
"""In which loudness is compared."""

WINDOW = 4 * FRAME

QUIET_DB = -60.0
"""Loudness below which nothing is heard beside the loudest."""

SILENCE_DB = -70.0
"""What loudness is counted from, below what silence counts as: a share of nothing is no measure."""


def waveform(spectra: Mapping[str, np.ndarray], seed: int) -> Float[np.ndarray, " samples"]:
    """The sound of a sentence.

    Args:
        spectra: `SPECTRA`, each `(1, 601, frames)`, and `PITCH`, `(1, frames)`, Hz.
        seed: of the noise.
    """
    from hibari import dsp

    parts = [np.asarray(spectra[name][0], np.float32) for name in (*SPECTRA, PITCH)]
    found: np.ndarray = dsp.synth(*parts, np.random.default_rng(seed))
    return found


def as_pcm(sound: Float[np.ndarray, " samples"]) -> bytes:
    """As 16-bit numbers, little-endian: how it travels."""
    return (np.clip(sound, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


def of_pcm(content: bytes) -> Int16[np.ndarray, " samples"]:
    """What `as_pcm` made, from a stranger.

    Raises:
        InputError: it is no whole number of frames, or too many.
    """
    size = 2 * FRAME
    if len(content) % size or not 1 <= len(content) // size <= FRAMES_MAX:
        expected = f"1 to {FRAMES_MAX} frames of {size} bytes"
        raise InputError("sound", "", expected, f"{len(content)} bytes")
    return np.frombuffer(content, "<i2")


def as_wav(content: bytes, rate: int = RATE) -> bytes:
    """A file that any player plays, of what `as_pcm` made."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(content)
    return buffer.getvalue()


def excerpt(content: bytes) -> bytes:
    """The first `SOUND_SECONDS_MAX` seconds of what `as_pcm` made, at half the rate: a WAV file for
    an exhibit, in which speech is as well understood."""
    pairs = np.frombuffer(content, "<i2")[: SOUND_SECONDS_MAX * RATE].reshape(-1, 2)
    return as_wav((pairs.astype(np.int32).sum(axis=1) // 2).astype("<i2").tobytes(), RATE // 2)


def as_text(content: bytes) -> str:
    """What `as_pcm` made, for a line of JSON."""
    return base64.b64encode(content).decode()


def of_text(text: str) -> bytes:
    """What `as_text` made."""
    return base64.b64decode(text)


def loudness_db(pcm: Int16[np.ndarray, " samples"]) -> Float[np.ndarray, "frames bands"]:
    """How loud a sound is, frame by frame, in bands as wide as ears hear them.

    It knows nothing of phases, which turn with the last bit of the pitch and are not heard.

    Returns:
        Decibels below the loudest that 16 bits can say, at least `QUIET_DB`.
    """
    frames = max(1, len(pcm) // FRAME)
    padded = np.pad(pcm.astype(np.float32) / 32768.0, (WINDOW // 2, WINDOW // 2 + FRAME))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::FRAME][:frames]
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(pieces * window, axis=1)) ** 2 / (WINDOW / 4) ** 2
    edges = _edges()
    sums = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    found = 10.0 * np.log10(np.maximum(sums, 1e-12))
    return np.maximum(found, QUIET_DB)


def loudness_in_parts(
    pcm: Int16[np.ndarray, " samples"], parts: int, moments: int
) -> Float[np.ndarray, "parts moments bands"]:
    """The mean loudness at moments that share a sound evenly, decibels above `SILENCE_DB`."""
    levels = loudness_db(pcm) - SILENCE_DB
    ends = np.linspace(0, len(levels), parts * moments + 1).astype(int)
    means = [levels[at : max(end, at + 1)].mean(axis=0) for at, end in itertools.pairwise(ends)]
    return np.stack(means).reshape(parts, moments, BANDS).astype(np.float32)


def _edges() -> np.ndarray:
    """Bins that bands begin with, and the end of the last: even on the mel scale from 50 Hz."""
    low, high = (2595.0 * np.log10(1.0 + each / 700.0) for each in (50.0, 0.5 * RATE))
    hertz = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 1) / 2595.0) - 1.0)
    bins = np.rint(hertz * WINDOW / RATE).astype(int)
    return np.maximum.accumulate(np.maximum(bins, bins[0] + np.arange(BANDS + 1)))
