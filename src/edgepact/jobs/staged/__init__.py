"""The work of any model in stages: the device runs the first ones, the server the rest.

A piece is whatever the model's reading makes of what there is to work on: an array, a photograph,
a sentence. It takes one exchange, and is one unit; a step of the amount is a stage:

===========  =====================================  ===========================
amount       what travels                           what the server does
===========  =====================================  ===========================
0            the piece as it is, such as a file     all of it
1 to S-1     the tensors of that cut, floats coded  the stages that are left
S            what the model gives                   reads the answer in it
===========  =====================================  ===========================

The parts:

- `reading`: the two plug points, how pieces become tensors and outputs become answers; `arrays`,
  `photographs` and `sentences` are readings, and further ones may be written;
- `place`: where a model is found, and cut if it is not;
- `halves`: the device's part and the server's;
- `evidence`: what is kept for an audit;
- `measuring`: how far honest work may lie from a server's own, cut by cut and codec by codec.

A model with state that stays from exchange to exchange is none of these; language models are the
job `text`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepact.work import Json

if TYPE_CHECKING:
    from edgepact.jobs.staged.halves import StagedDevice, StagedServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Runs a model of any kind that was cut into stages.

    A job for a certain kind of model is another instance, with a name, a unit and a model of its
    own.

    Attributes:
        name, about, unit, step, codecs: see `edgepact.work.Job`.
        own: `module:function` that gives the folder or file of the job's own model; empty for
            none.
    """

    name: str
    about: str
    unit: str
    step: str = "stage"
    codecs: tuple[str, ...] = ("fp16", "int8", "fp32")
    own: str = ""

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "StagedDevice":
        """The device's half.

        Args:
            model: a folder of stages, or an ONNX file; None for the job's own.
            inputs: what the model's reading reads; None for its own.
            settings: none so far.

        Raises:
            InputError: the model or the inputs cannot be used, or there is a setting.
            MissingExtraError: the job's own model, or its reading, is not installed.
        """
        from edgepact.jobs.staged.halves import StagedDevice
        from edgepact.jobs.staged.place import expect_no_settings, stages_of

        expect_no_settings(settings)
        return StagedDevice(stages_of(self, model), inputs)

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "StagedServer":
        """The server's half.

        Raises:
            InputError, MissingExtraError: as `device_part`.
        """
        from edgepact.jobs.staged.halves import StagedServer
        from edgepact.jobs.staged.place import expect_no_settings, stages_of

        expect_no_settings(settings)
        return StagedServer(stages_of(self, model))


STAGED = Staged(
    name="staged",
    about="Runs any ONNX model in stages; the device runs the first of them.",
    unit="piece",
)
"""A model of which nothing more is known: the one job that needs to be told its model."""
