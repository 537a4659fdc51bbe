"""Speech as a job: a device reads a sentence and runs the first stages of a voice, the server the
rest; the finished sound is there on either side.

A piece is a sentence, a unit a frame of 12.5 ms of its sound: what a sentence costs grows with its
length, so that who is paid by the sentence would bring short ones. In order of use:

- `sentences`: what there is to speak, and how;
- `phonemes`: the front end;
- `voice`, `cutting`: the stages;
- `sound`: from spectra to a waveform;
- `reading`, `halves`: the job, upon that of models in stages (`jobs.staged`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepact.work import Json

if TYPE_CHECKING:
    from edgepact.jobs.speech.halves import SpeechDevice, SpeechServer


@dataclass(frozen=True, slots=True)
class Speech:
    """Speaks sentences; the device runs the first stages of the voice."""

    name: str = "speech"
    about: str = "Speaks sentences; the device runs the first stages of the voice."
    unit: str = "frame"
    step: str = "stage"
    codecs: tuple[str, ...] = ("fp16", "fp32", "int8")
    agreed: frozenset[str] = frozenset({"speed", "accent"})

    def told(self, settings: Mapping[str, Json]) -> Mapping[str, Json]:
        """All settings, see `sentences.SpeechSettings`.

        Raises:
            InputError: a setting cannot be.
        """
        from edgepact.jobs.speech.sentences import SpeechSettings

        return asdict(SpeechSettings.of(settings))

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "SpeechDevice":
        """The device's half.

        Args:
            model: a voice: an ONNX file, a folder with one, or a folder of stages; None for the
                one in `hibari-tts`.
            inputs: a file of sentences, a line each; None for some that come with the job.
            settings: see `sentences.SpeechSettings`.

        Raises:
            InputError: voice, sentences or settings cannot be used.
            MissingExtraError: the extra `speech` is not installed.
        """
        from edgepact.jobs.speech.halves import SpeechDevice
        from edgepact.jobs.speech.sentences import SpeechSettings
        from edgepact.jobs.speech.voice import read_voice

        return SpeechDevice(read_voice(model, SpeechSettings.of(settings)), inputs)

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "SpeechServer":
        """The server's half.

        Raises:
            InputError: the voice or a setting cannot be used.
            MissingExtraError: the extra `speech` is not installed.
        """
        from edgepact.jobs.speech.halves import SpeechServer
        from edgepact.jobs.speech.sentences import SpeechSettings
        from edgepact.jobs.speech.voice import read_voice

        return SpeechServer(read_voice(model, SpeechSettings.of(settings)))


SPEECH = Speech()
