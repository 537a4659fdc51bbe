"""What a partition asks of a job whose pieces are done step by step, whichever it is.

A pact of a partition prices steps, plays the market, and holds it against the optimum; all of that
is the same for images, texts and pictures. What is not, stands behind this protocol: what a step
is called and costs, what a scenario states of the job, what each device is given to work on, and
what came of it. A further job is a further implementation, named in `SPLIT_JOBS`, and an entry
point for each mechanism's pact.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgepact.efficiency.partition import LayerCosts
from edgepact.efficiency.profile import Profile, Progress
from edgepact.errors import InputError
from edgepact.fields import Table
from edgepact.framework import Json
from edgepact.market.statement import Statement
from edgepact.pacts.partition_results import Played, TimeSplit
from edgepact.work import Model

SPLIT_JOBS = {
    "classification": "edgepact.pacts.partition_images:IMAGES",
    "photo": "edgepact.pacts.partition_staged:SPLIT_PHOTOGRAPHS",
    "picture": "edgepact.pacts.partition_pictures:PICTURES",
    "sentences": "edgepact.pacts.partition_staged:SPLIT_SENTENCES",
    "speech": "edgepact.pacts.partition_speech:SPEECH",
    "staged": "edgepact.pacts.partition_staged:SPLIT_STAGED",
    "text": "edgepact.pacts.partition_texts:TEXTS",
}
"""Where each job's implementation is; loaded when it is asked for."""


@runtime_checkable
class DeviceDone(Protocol):
    """What one device did."""

    @property
    def name(self) -> str:
        """Of the device."""
        ...

    @property
    def units(self) -> int:
        """That it finished."""
        ...

    @property
    def paid_credits(self) -> float:
        """In all rounds."""
        ...

    @property
    def times(self) -> TimeSplit:
        """Where its time went: as the job has it, of a piece or of a unit."""
        ...

    @property
    def lost(self) -> str | None:
        """Its last words, if it ended with an error."""
        ...


@runtime_checkable
class Work(Protocol):
    """What came of the job."""

    @property
    def unit(self) -> str:
        """What is counted: `image`."""
        ...

    @property
    def step(self) -> str:
        """What one step of an amount is: `layer`."""
        ...

    @property
    def profile(self) -> Profile:
        """Of the model on this machine."""
        ...

    @property
    def live_seconds(self) -> float:
        """From the start of the server to the end of the last round."""
        ...

    @property
    def statement(self) -> Statement:
        """Of the ledger."""
        ...

    @property
    def devices(self) -> Sequence[DeviceDone]:
        """In the order of the market."""
        ...

    @property
    def paid_as_earned(self) -> bool:
        """Whether the ledger paid just what had been promised."""
        ...

    @property
    def paid_pieces(self) -> Sequence[tuple[str, int, int, int]]:
        """Of each piece its device, amount, units, and what it was paid, micro-credits."""
        ...

    def rows(self, promised: str) -> tuple[tuple[str, str], ...]:
        """As rows of figure and value.

        Args:
            promised: what is paid for each unit, in words.
        """
        ...

    def as_json(self) -> dict[str, Json]:
        """The same as JSON."""
        ...


@runtime_checkable
class JobTerms(Protocol):
    """What a scenario states of a job; see `partition_terms.SplitTerms`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the job."""
        ...

    @property
    def model_folder(self) -> Path:
        """Where the model is, cut into stages."""
        ...

    @property
    def inputs_place(self) -> Path | None:
        """Where there is what devices work on; None for what the model itself brings."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Which device works on what.

    Attributes:
        folders: by device; a file where the job's inputs are one, None for the model's own.
        repeat_rounds: within so many rounds none of them need bring an input again; 0 where there
            are too few for everybody to have their own, and all have all.
    """

    folders: Mapping[str, Path | None]
    repeat_rounds: int


@runtime_checkable
class SplitJob(Protocol):
    """A job in the eyes of a partition."""

    @property
    def unit(self) -> str:
        """What is counted and paid: `image`."""
        ...

    @property
    def step(self) -> str:
        """What one step of an amount is, as `work.Job.step`: `layer`."""
        ...

    @property
    def device_share(self) -> str:
        """What a device does that takes the amount L: `runs the first L layers of the model`."""
        ...

    @property
    def inputs_field(self) -> str:
        """Field of `[job]` that says what devices work on: `images_from`."""
        ...

    @property
    def inputs_words(self) -> str:
        """What it names, in words: `a folder of images`."""
        ...

    @property
    def inputs_are_folder(self) -> bool:
        """Whether it names a folder, or a file."""
        ...

    def own_inputs(self) -> Path | None:
        """What is worked on if nothing is said; None for what the model itself brings."""
        ...

    def model_folder(self, model: Path | None) -> Path:
        """The folder of stages of a model that a scenario names; None for the job's own.

        Raises:
            InputError, MissingExtraError: there is none.
        """
        ...

    def model(self, folder: Path, settings: Mapping[str, Any]) -> Model:
        """Its name and its largest amount, which may hang on the job's settings.

        Raises:
            InputError: it cannot be read.
        """
        ...

    def read_units(self, job: Table, *, smoke: bool) -> int:
        """Units of each device in a round, as `[job]` states them; few of them in small.

        Raises:
            InputError: they cannot be.
        """
        ...

    def read_settings(self, job: Table, *, smoke: bool) -> Mapping[str, Any]:
        """Settings of the job's own that `[job]` states, for both its halves.

        Raises:
            InputError: one cannot be.
        """
        ...

    def make_ready(self, model: Path, inputs: Path | None) -> None:
        """Refuses what cannot work before anything is written, and cuts the model.

        Raises:
            InputError: something cannot be used.
        """
        ...

    def costs(self, model: Path, settings: Mapping[str, Any]) -> LayerCosts:
        """GMAC of a unit, stage by stage."""
        ...

    def profile(
        self, model: Path, settings: Mapping[str, Any], repeats: int, progress: Progress
    ) -> Profile:
        """What stages cost on this machine."""
        ...

    def shared_out(
        self, inputs: Path | None, names: Sequence[str], *, per_round: int, rounds: int, seed: int
    ) -> AbstractContextManager[Shares]:
        """Gives each device what it works on, its own as far as there is enough."""
        ...

    def done(
        self,
        *,
        terms: JobTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> Work:
        """Reads what the processes wrote into a folder, and measures it.

        Raises:
            MarketError: nothing was finished, so there is nothing to report.
        """
        ...


def split_job(name: str) -> SplitJob:
    """A job in the eyes of a partition.

    Raises:
        InputError: partitions know no such job.
    """
    if name not in SPLIT_JOBS:
        expected = f"one that a partition knows: {', '.join(SPLIT_JOBS)}"
        raise InputError("partition", "job", expected, name)
    module, _, attribute = SPLIT_JOBS[name].partition(":")
    found: SplitJob = getattr(importlib.import_module(module), attribute)
    return found


def settings_stated(
    job: Table, names: Sequence[str], expects: Callable[[Mapping[str, Any]], object], **usual: Any
) -> dict[str, Any]:
    """Settings of a job's own, as far as `[job]` states them.

    Args:
        job: the table.
        names: of them.
        expects: refuses what they cannot be; it may ask the table for more.
        **usual: what holds where nothing is stated.

    Raises:
        InputError: one cannot be; names its place in the file.
    """
    found = usual | {name: job.raw(name, "a value") for name in names if name in job}
    try:
        expects(found)
    except InputError as error:
        source, place = job.place(error.field.removeprefix("settings."))
        if error.source == f"{source}":  # what the table has refused itself
            raise
        raise InputError(source, place, error.expected, error.found) from None
    return found
