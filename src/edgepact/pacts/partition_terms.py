"""What scenario files state of split inference, whatever the mechanism: model, rounds, devices.

Three pacts share it. What a device or the server can be told is stated once for all of them in
`[job]`; what is private to one device has no place there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.efficiency.partition import LayerCosts
from edgepact.errors import InputError
from edgepact.fields import Table
from edgepact.fleet import Fleet
from edgepact.framework import Document, Pact
from edgepact.inference.models import embedded, samples
from edgepact.market.device_config import DeviceConfig
from edgepact.market.serve_config import ServeConfig
from edgepact.mechanisms.stackelberg.link import Links
from edgepact.pacts.partition_settings import DEVICES, PlaySettings
from edgepact.settings import fields_in

JOBS = ("classification", "inference")
"""Spellings of the job; the second is the older one."""

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
        model, images_from: folders; None for the embedded CLIP and its sample images.
        rounds, images: to play, and images of each device in a round.
        devices: to draw; 0 where the file lists them.
        seed: of the devices that are drawn, of the solver and of the order of images.
        codec: how activations are sent; None for the job's favourite.
        away_timeout_s: how long devices wait for a server that is away, seconds.
        round_timeout_s: time to work in a round once everybody has answered, seconds.
        audit_probability: share of images that are audited before payment; None for the least at
            which cheating loses money.
        solver: name of the solver.
        smoke: in small.
    """

    source: Path
    model: Path | None = None
    images_from: Path | None = None
    rounds: int = USUAL.rounds
    images: int = USUAL.images
    devices: int = DEVICES
    seed: int = USUAL.seed
    codec: str | None = None
    away_timeout_s: float = 30.0
    # What a device that died costs the others; a round takes well under a second.
    round_timeout_s: float = 20.0
    audit_probability: float | None = None
    solver: str
    smoke: bool = False

    @property
    def rounds_played(self) -> int:
        """Two in small."""
        return SMOKE_ROUNDS if self.smoke else self.rounds

    @property
    def model_folder(self) -> Path:
        """Where the model is."""
        return self.model or embedded()

    @property
    def images_folder(self) -> Path:
        """Where the images are."""
        return self.images_from or samples()


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
    job.choice("name", JOBS)
    listed = "device" in document or "devices" in document
    if listed and "devices" in job:
        found: Any = document["job"]["devices"]
        raise InputError(source, "job.devices", "nothing beside listed devices", found)
    fields: dict[str, Any] = {
        "source": source,
        "model": model,
        "images_from": _folder(source, job, "images_from"),
        "devices": 0 if listed else DEVICES,
        "solver": solver,
        "smoke": smoke,
        **fields_in(PlaySettings, job, "rounds", "images", "devices", "seed"),
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
    if not terms.model_folder.is_dir():
        expected = "a model directory"
        raise InputError(terms.source, "efficiency.model", expected, f"{terms.model_folder}")
    return LayerCosts.of_model(terms.model_folder)


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
