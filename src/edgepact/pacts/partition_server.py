"""What is public where layers are bought by menu or auction: the server's terms and the prior.

A and B are facts of the model that everybody runs; a device's weight of satisfaction and its
capacity are its own. The server knows of them what it believes: ranges, or listed types with
their frequencies. The scenario's public part is a file that `edgepact serve --scenario` is
given; private costs have no place in it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.fields import FRAMEWORK, Table, check_list
from edgepact.files.fleet import read_devices
from edgepact.framework import Document
from edgepact.mechanisms.contract.layer_menus import SampledTypes, types_of
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import LAYERS_MAX
from edgepact.pacts.partition_settings import DEVICES_MAX
from edgepact.pacts.partition_terms import (
    PrivateDevices,
    SplitTerms,
    costs_of,
    drawn_names,
    fleet_of,
)
from edgepact.settings import SEED_MAX
from edgepact.work import Model

SAMPLES = 500
"""Types that a menu is written for, if nothing is said."""

SAMPLES_MAX = 20_000

TYPES_LISTED_MAX = 64
"""Most listed types: their best menu is found exactly."""

KINDS, KINDS_SEED = 4096, 0x6D
"""Samples of a prior that devices are told apart by, and the seed that they are drawn with."""

DRAWN = 1
"""Separates the devices that are drawn from the samples that the server draws of a prior: of one
seed they would be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTerms:
    """What the server states.

    Attributes:
        revenue: for one image of each device, credits.
        beta: what computing costs it, credits per GMAC.
        layers_max: layers of the model.
        A: GMAC per layer.
        B: GMAC before the first layer.
        satisfaction: family of S.
    """

    revenue: float
    beta: float
    layers_max: int
    A: float
    B: float
    satisfaction: str

    @property
    def saving(self) -> float:
        """What it saves by a layer that a device runs, credits."""
        return self.beta * self.A

    def expect_model(self, source: Path, model: Model, step: str) -> None:
        """Refuses a model of another number of steps.

        Raises:
            InputError: names both.
        """
        if self.layers_max != model.amount_max:
            expected = f"{model.amount_max}, the {step}s of {model.name}"
            raise InputError(source, "server.layers_max", expected, self.layers_max)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Believed:
    """What devices may be.

    Attributes:
        alpha: of each type, credits.
        capacity: W of each type, GMAC.
        weight: how frequent each is; they add up to 1.
        ranges: least and most alpha, and capacity, that types were sampled from; None if the types
            are listed and these are all there are.
    """

    alpha: Float[np.ndarray, " types"]
    capacity: Float[np.ndarray, " types"]
    weight: Float[np.ndarray, " types"]
    ranges: tuple[tuple[float, float], tuple[float, float]] | None

    @classmethod
    def sampled(
        cls, alpha: tuple[float, float], capacity: tuple[float, float], samples: int, seed: int
    ) -> "Believed":
        """Types drawn uniformly from ranges."""
        rng = np.random.default_rng(seed)
        return cls(
            alpha=rng.uniform(*alpha, samples),
            capacity=rng.uniform(*capacity, samples),
            weight=np.full(samples, 1.0 / samples),
            ranges=(alpha, capacity),
        )

    def drawn(self, devices: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights of satisfaction and capacities of devices of this kind."""
        rng = np.random.default_rng((seed, DRAWN))
        if self.ranges is not None:
            of_alpha, of_capacity = self.ranges
            return rng.uniform(*of_alpha, devices), rng.uniform(*of_capacity, devices)
        which = rng.choice(len(self.weight), devices, p=self.weight)
        return self.alpha[which], self.capacity[which]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoughtTerms(SplitTerms):
    """A scenario in which layers are bought by menu or by auction.

    Attributes:
        server: its terms.
        believed: what devices may be; None where nothing is said of it.
        listed: the devices; None where they are drawn, or where the file is public.
        public: all of the file that nobody needs to hide, as a document.
    """

    server: ServerTerms
    believed: Believed | None
    listed: PrivateDevices | None
    public: Document

    @property
    def private(self) -> PrivateDevices:
        """The devices, drawn from what is believed where none are listed.

        Raises:
            InputError: there is nothing to draw them from.
        """
        if self.listed is not None:
            return self.listed
        if self.believed is None:
            expected = "[[device]] tables or devices = FILE, or a [prior] to draw devices from"
            raise InputError(self.source, "device", expected, "neither")
        alpha, capacity = self.believed.drawn(self.devices, self.seed)
        return PrivateDevices(
            names=drawn_names(self.devices),
            fleet=fleet_of(alpha, capacity, A=self.server.A, B=self.server.B),
            satisfaction=self.server.satisfaction,
        )

    def types(self, devices: PrivateDevices) -> SampledTypes:
        """Costs of devices, and what they save."""
        server = self.server
        return types_of(
            devices.fleet,
            FAMILIES[devices.satisfaction],
            beta=server.beta,
            layers_max=server.layers_max,
        )

    def believed_types(self) -> SampledTypes:
        """The same of what devices may be, by frequency.

        Raises:
            InputError: nothing is said of it.
        """
        return self._types_of(self._stated_belief())

    def kinds(self) -> SampledTypes:
        """The same in more samples, where it is sampled: enough for choices to tell apart.

        Raises:
            InputError: nothing is said of it.
        """
        believed = self._stated_belief()
        if believed.ranges is not None:
            believed = Believed.sampled(*believed.ranges, KINDS, KINDS_SEED)
        return self._types_of(believed)

    def _stated_belief(self) -> Believed:
        if self.believed is None:
            expected = "a [prior], or [[type]] tables: what the server believes of devices"
            raise InputError(self.source, "prior", expected, "neither")
        return self.believed

    def _types_of(self, believed: Believed) -> SampledTypes:
        server = self.server
        return types_of(
            fleet_of(believed.alpha, believed.capacity, A=server.A, B=server.B),
            FAMILIES[server.satisfaction],
            beta=server.beta,
            layers_max=server.layers_max,
            weight=believed.weight,
        )


def read_bought(
    split: dict[str, Any], document: Document, top: Table, *, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The fields of `BoughtTerms`; closes no table but its own.

    Args:
        split: fields of `SplitTerms`.
        document: all of the file.
        top: its top, of which the mechanism reads the rest.
        also: further fields of `[server]`, which the mechanism reads.

    Raises:
        InputError: names the file, the field, what was expected and what was found.
    """
    source = split["source"]
    satisfaction = top.choice("satisfaction", tuple(FAMILIES), "log1p")
    values = top.raw("server", "a table [server]")
    server = _server(SplitTerms(**split), values, satisfaction, also)
    believed = None
    if "prior" in top:
        if "type" in document:
            raise InputError(source, "type", "either [prior] or [[type]]", "both")
        believed = _prior(source, top.raw("prior", "a table [prior]"))
    elif "type" in top:
        believed = _types(source, top.raw("type", "[[type]]"))
    listed = None
    if "device" in top or "devices" in top:
        # A and B are the model's; a file that has them, as a market's has, is told of it.
        columns, names = read_devices(source, top, ("alpha", "capacity"), most=DEVICES_MAX)
        listed = PrivateDevices(
            names=names,
            fleet=fleet_of(**columns, A=server.A, B=server.B),
            satisfaction=server.satisfaction,
        )
    # What runs the processes says the rest itself; of drawn devices the seed would tell all.
    public = {name: value for name, value in document.items() if name not in ("device", "devices")}
    public |= {
        "server": document["server"]
        | {"A": server.A, "B": server.B, "layers_max": server.layers_max},
        "efficiency": {"method": document["efficiency"]["method"]},
        "solver": {"name": split["solver"]},
        "job": {"name": document["job"]["name"], **split["settings"]},
    }
    ordered = {name: public[name] for name in public if name not in FRAMEWORK}
    ordered |= {name: public[name] for name in FRAMEWORK}
    return split | {"server": server, "believed": believed, "listed": listed, "public": ordered}


def _server(
    split: SplitTerms, values: Any, satisfaction: str, also: tuple[str, ...]
) -> ServerTerms:
    table = Table(split.source, "server", values)
    stated = {
        name: table.number(name, above=0.0) if name == "A" else table.number(name, least=0.0)
        for name in ("A", "B")
        if name in table
    }
    layers_max = None
    if "layers_max" in table:
        layers_max = table.whole("layers_max", least=1, most=LAYERS_MAX)
    revenue, beta = table.number("revenue"), table.number("beta", above=0.0)
    for name in also:
        if name in table:
            table.raw(name, "a number")
    table.close()
    if layers_max is None or len(stated) < 2:
        costs = costs_of(split)
        stated = {"A": costs.A, "B": costs.B} | stated
        layers_max = costs.layers_max if layers_max is None else layers_max
    return ServerTerms(
        revenue=revenue, beta=beta, layers_max=layers_max, satisfaction=satisfaction, **stated
    )


def _prior(source: Path, values: Any) -> Believed:
    table = Table(source, "prior", values)
    alpha = table.interval("alpha_min", "alpha_max", least=0.0)
    if alpha[0] <= 0.0:
        expected = "a finite number above 0"
        raise InputError(source, "prior.alpha_min", expected, alpha[0])
    capacity = table.interval("capacity_min", "capacity_max", least=0.0)
    samples = table.whole("samples", SAMPLES, least=1, most=SAMPLES_MAX)
    seed = table.whole("seed", 0, least=0, most=SEED_MAX)
    table.close()
    return Believed.sampled(alpha, capacity, samples, seed)


def _types(source: Path, entries: Any) -> Believed:
    rows = []
    check_list(source, "type", entries, of="[[type]] tables", least=1, most=TYPES_LISTED_MAX)
    for at, entry in enumerate(entries, start=1):
        row = Table(source, f"type[{at}]", entry)
        alpha, capacity = row.number("alpha", above=0.0), row.number("capacity", least=0.0)
        rows.append((alpha, capacity, row.number("weight", 1.0, above=0.0)))
        row.close()
    alphas, capacities, weights = np.array(rows).T
    return Believed(
        alpha=alphas, capacity=capacities, weight=weights / np.sum(weights), ranges=None
    )
