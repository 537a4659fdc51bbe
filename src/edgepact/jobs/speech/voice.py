"""A voice in stages: where it is found, how it is cut, and what each of its stages is.

A voice of `hibari` reads phonemes (`ids`) and says the spectrum of each frame of sound. Its graph
has no tensor through which all passes, since it is two networks side by side; it has cuts of two
tensors. Those that are taken here make stages of about equal computing, whose borders lie where
little travels:

=======  ====================================================  =====================================
stage    does                                                  hands on
=======  ====================================================  =====================================
1        reads: both encoders of phonemes                      320 numbers a phoneme
2        how long each phoneme lasts, pitch and energy         130 numbers a frame, and its pitch
3        the decoder's first block                             256 numbers a frame, and its pitch
4 to 10  the decoder's further blocks                          the same
11       spectra, and from them the waveform                   300 samples a frame
=======  ====================================================  =====================================

Pitch travels as it is, whatever the codec: its errors would add up from frame to frame to another
phase. So do the phonemes' numbers behind stage 1, since durations are rounded from them, and a
sound that lasts longer is another one.
"""

from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from edgepact.errors import InputError
from edgepact.inference.gguf.known import cache_folder
from edgepact.inference.stage_folder import StageFolder, is_stage_folder, read_stage_folder
from edgepact.jobs.speech.phonemes import packaged
from edgepact.jobs.speech.sentences import SpeechSettings
from edgepact.jobs.speech.sound import PITCH

VOICE = "hibari.onnx"
"""The voice in the package: American English, Apache-2.0."""

CUTS = (
    ("/Add_19_output_0", "/Add_39_output_0"),
    (PITCH, "/Concat_43_output_0"),
    *((PITCH, f"/dec.{block}/Add_1_output_0") for block in range(8)),
)
"""Tensors at each cut, as the exporter of these voices calls them."""

EXACT = frozenset({PITCH, *CUTS[0]})
"""Tensors that no codec packs."""

FRAMES = "frames"
"""Among the sizes that a voice's stages were counted at: frames of sound."""


def read_voice(path: Path | None, settings: SpeechSettings) -> StageFolder:
    """The stages of a voice; those of an ONNX file are written the first time, in a second.

    Args:
        path: an ONNX file, a folder with one, or a folder of stages; None for the packaged voice.
        settings: how it speaks, handed to its reading.

    Raises:
        InputError: it cannot be used.
        MissingExtraError: the extra `speech` is not installed.
    """
    packaged(VOICE)  # whose front end and signal processing every voice needs
    found = read_stage_folder(voice_folder(path))
    names = [tuple(each.name for each in cut) for cut in found.cuts]
    if tuple(names) != CUTS or found.macs is None or FRAMES not in found.sizes:
        expected = f"a voice in {len(CUTS) + 1} stages"
        raise InputError(found.folder, "cuts", expected, f"{found.stages} others")
    return replace(found, reading={"name": "speech", **asdict(settings)})


def macs_per_frame(voice: StageFolder) -> tuple[float, ...]:
    """Multiply-accumulate operations of each stage, for a frame of the reference sentence."""
    assert voice.macs is not None
    return tuple(count / voice.sizes[FRAMES] for count in voice.macs)


def voice_folder(path: Path | None) -> Path:
    """The folder of a voice's stages; see `read_voice`."""
    found = packaged(VOICE) if path is None else path
    if found.is_dir():
        if is_stage_folder(found):
            return found
        files = sorted(each for each in found.iterdir() if each.suffix.lower() == ".onnx")
        if len(files) != 1:
            expected = "a folder of stages, or with one ONNX file"
            raise InputError(found, "", expected, f"{len(files)} ONNX files")
        found = files[0]
    # The ONNX package is needed to write stages, not to run them.
    if find_spec("onnx") is None:
        expected = "a folder of stages, or the package onnx, which writes them"
        raise InputError(found, "", expected, "neither")
    from edgepact.jobs.speech.cutting import kept_stages

    return kept_stages(found, cache_folder())
