"""Generation of text as a job: the device runs the first blocks of a language model, a token at a
time, the server the rest; it draws each token, so that none can be made up.

A piece is a prompt, a unit a token that was generated. The parts of a split, in order of use:

- `prompts`: what there is to write on, and how;
- `exchange`: what travels;
- `device`, `server`: the two halves;
- `evidence`: what is kept for an audit, and how far honest work lies from a server's own.

A token's activation can reach 25,000 in a few channels while most stay below 10; audits therefore
measure each channel against its own typical size.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepact.work import Json

if TYPE_CHECKING:
    from edgepact.jobs.text.device import TextDevice
    from edgepact.jobs.text.server import TextServer


@dataclass(frozen=True, slots=True)
class Text:
    """Writes text; the device runs the first blocks of the model for each token."""

    name: str = "text"
    about: str = "Writes text; the device runs the first blocks of a language model."
    unit: str = "token"
    step: str = "block"
    codecs: tuple[str, ...] = ("fp16", "fp32", "int8")
    agreed: frozenset[str] = frozenset({"drafts"})

    def told(self, settings: Mapping[str, Json]) -> Mapping[str, Json]:
        """All settings, see `prompts.TextSettings`: a device may write otherwise, within them.

        Raises:
            InputError: a setting cannot be.
        """
        from edgepact.jobs.text.prompts import TextSettings

        return asdict(TextSettings.of(settings))

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "TextDevice":
        """The device's half.

        Args:
            model: a GGUF file, a folder with one, or a folder of stages; None for SmolLM2.
            inputs: a file of prompts, a line each; None for some that come with the job.
            settings: see `prompts.TextSettings`.

        Raises:
            InputError: model, prompts or settings cannot be used.
            MissingExtraError: the extra `text` is not installed.
        """
        from edgepact.jobs.text.device import TextDevice
        from edgepact.jobs.text.prompts import TextSettings

        return TextDevice(model, inputs, TextSettings.of(settings))

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "TextServer":
        """The server's half.

        Raises:
            InputError: the model or a setting cannot be used.
            MissingExtraError: the extra `text` is not installed.
        """
        from edgepact.jobs.text.prompts import TextSettings
        from edgepact.jobs.text.server import TextServer

        return TextServer(model, TextSettings.of(settings))


TEXT = Text()
