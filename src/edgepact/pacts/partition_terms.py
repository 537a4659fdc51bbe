"""What scenario files state of split inference, whatever the mechanism: model, rounds, devices.

Three pacts share it. What a device or the server can be told is stated once for all of them in
`[job]`; what is private to one device has no place there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.efficiency.partition import LayerCosts
from edgepact.errors import InputError
from edgepact.fields import Table
from edgepact.fleet import Fleet
from edgepact.framework import Document, Pact
from edgepact.market.device_config import DeviceConfig
from edgepact.market.serve_config import ServeConfig
from edgepact.mechanisms.stackelberg.link import Links
from edgepact.pacts.partition_buyers import Asking, TriesPieces, units_most
from edgepact.pacts.partition_jobs import SplitJob, split_job
from edgepact.pacts.partition_settings import DEVICES, PlaySettings
from edgepact.registry import JOBS_SPELT
from edgepact.settings import fields_in

DEVICE_NAMES = ("camera", "phone", "drone", "kiosk", "robot", "watch", "car", "glasses")
"""Names of devices that are drawn; further ones are numbered."""

SMOKE_ROUNDS = 2

USUAL = PlaySettings()
"""What is played if nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTerms:
    """How split inference is done.

    Attributes:
        source: the file.
        job: name of the job.
        model: folder or file of the model; None for the job's own.
        inputs_from: what devices work on, such as a folder of images; None for the job's own.
        rounds, units: to play, and units of work, such as images, of each device in a round.
        settings: of the job.
        devices: to draw; 0 where the file lists them.
        seed: of the devices that are drawn, of the solver and of the order of images.
        codec: how activations are sent; None for the job's favourite.
        away_timeout_s: how long devices wait for a server that is away, seconds.
        round_timeout_s: time to work in a round once everybody has answered, seconds.
        audit_probability: share of images that are audited before payment; None for the least at
            which cheating loses money.
        solver: name of the solver.
        smoke: in small.
        buyers: who ask for work and pay the server; none where devices bring work of their own.
    """

    source: Path
    job: str = "classification"
    model: Path | None = None
    inputs_from: Path | None = None
    rounds: int = USUAL.rounds
    units: int = USUAL.images
    settings: Mapping[str, Any] = field(default_factory=dict)
    devices: int = DEVICES
    seed: int = USUAL.seed
    codec: str | None = None
    away_timeout_s: float = 30.0
    # What a device that died costs the others; a round takes well under a second.
    round_timeout_s: float = 20.0
    audit_probability: float | None = None
    solver: str
    smoke: bool = False
    buyers: tuple[Asking, ...] = ()

    @property
    def rounds_played(self) -> int:
        """Two in small."""
        return SMOKE_ROUNDS if self.smoke else self.rounds

    @property
    def model_folder(self) -> Path:
        """Where the model is, cut into stages."""
        return self.split.model_folder(self.model)

    @property
    def inputs_place(self) -> Path | None:
        """Where there is what devices work on; None for what the model itself brings."""
        return self.inputs_from or self.split.own_inputs()

    @property
    def split(self) -> SplitJob:
        """What a partition asks of the job."""
        return split_job(self.job)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrivateDevices:
    """Devices with what only they know.

    Attributes:
        names: of each.
        fleet: their figures, float64.
        satisfaction: family of S.
        links: arrays `(devices,)`; None where their use costs nothing.
    """

    names: list[str]
    fleet: Fleet
    satisfaction: str
    links: Links | None = None


def read_split(pact: Pact, source: Path, document: Document, *, smoke: bool) -> dict[str, Any]:
    """The fields of `SplitTerms` that `[efficiency]`, `[solver]` and `[job]` state.

    Raises:
        InputError: names the file, the field, what was expected and what was found.
    """
    solvers = Table(source, "solver", document["solver"])
    solver = solvers.choice("name", pact.solvers, pact.solvers[0])
    solvers.close()
    efficiency = Table(source, "efficiency", document["efficiency"])
    efficiency.choice("method", (pact.method,))
    model = _folder(source, efficiency, "model")
    efficiency.close()
    job = Table(source, "job", document["job"])
    job.choice("name", (pact.job, *(old for old, new in JOBS_SPELT.items() if new == pact.job)))
    split = split_job(pact.job)
    listed = "device" in document or "devices" in document
    if listed and "devices" in job:
        found: Any = document["job"]["devices"]
        raise InputError(source, "job.devices", "nothing beside listed devices", found)
    settings = split.read_settings(job, smoke=smoke)
    units = split.read_units(job, smoke=smoke)
    if isinstance(split, TriesPieces):  # so many pieces, however often each is tried
        units *= units_most(split, settings)
    fields: dict[str, Any] = {
        "source": source,
        "model": model,
        "job": pact.job,
        "inputs_from": _folder(source, job, split.inputs_field),
        "settings": settings,
        "units": units,
        "devices": 0 if listed else DEVICES,
        "solver": solver,
        "smoke": smoke,
        **fields_in(PlaySettings, job, "rounds", "devices", "seed"),
        **fields_in(DeviceConfig, job, "codec", "away_timeout_s"),
        **fields_in(ServeConfig, job, "round_timeout_s", "audit_probability"),
    }
    job.close()
    return fields


def costs_of(terms: SplitTerms) -> LayerCosts:
    """What the model's layers cost, counted in its graph: what is public of a split.

    Raises:
        InputError: the model cannot be read.
    """
    expect_model(terms)
    return terms.split.costs(terms.model_folder, terms.settings)


def expect_model(terms: SplitTerms) -> None:
    """Expects the model that a scenario names.

    Raises:
        InputError: it is not there.
    """
    if terms.model is not None and not terms.model.exists():
        expected = "a model directory, a folder of stages, or a model's file"
        found = f"{terms.model}: there is no such file or folder"
        raise InputError(terms.source, "efficiency.model", expected, found)


def drawn_names(count: int) -> list[str]:
    """Names of devices that nobody has named.

    Example:
        >>> drawn_names(9)[-2:]
        ['glasses', 'camera-2']
    """
    return [
        DEVICE_NAMES[at % len(DEVICE_NAMES)]
        + ("" if at < len(DEVICE_NAMES) else f"-{at // len(DEVICE_NAMES) + 1}")
        for at in range(count)
    ]


def fleet_of(alpha: np.ndarray, capacity: np.ndarray, *, A: float, B: float) -> Fleet:
    """Devices that run one model: A and B are the model's, the rest is their own."""
    alpha = np.asarray(alpha, float)
    return Fleet(
        alpha=alpha,
        capacity=np.asarray(capacity, float),
        A=np.full(alpha.shape, A),
        B=np.full(alpha.shape, B),
    )


def _folder(source: Path, table: Table, name: str) -> Path | None:
    return source.parent / table.text(name, "") if name in table else None
