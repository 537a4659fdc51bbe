"""A model split between devices and a server, which posts a price for each layer: the main job.

The top of the file is a market as `edgepact solve` reads it; with `[job] devices` a fleet is drawn
instead. What measures, plays and judges a live market is handed in (`Machinery`): it starts
processes and stands above the pacts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgepact import pact
from edgepact.efficiency.profile import Profile
from edgepact.errors import InputError
from edgepact.fields import FRAMEWORK, Table
from edgepact.files.stackelberg import GameFile
from edgepact.mechanisms.stackelberg.audit import Audit, audit_price, gains_over_staying_away
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import Outcome
from edgepact.pact import Document, Json, Run, Sheet
from edgepact.solvers.by_name import OPTIMUM, quoters
from edgepact.tables import NOBODY_LOSES

ROUNDS_MAX = IMAGES_MAX = 1000
DEVICES_MAX, SEED_MAX = 64, 2**31 - 1

JOBS = ("classification", "inference")
"""Spellings of the job; the second is the older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTerms:
    """What a scenario states.

    Attributes:
        source: the file.
        fleet: file of the market; None to draw one.
        rounds, images: to play, and images of each device in a round.
        devices: to draw; 0 where the file lists them.
        seed: of the fleet, the quotes and the order of images.
        model, images_from: folders; None for the embedded CLIP and its sample images.
        solver: name of the solver.
        smoke: in small.
    """

    source: Path
    fleet: Path | None
    rounds: int
    images: int
    devices: int
    seed: int
    model: Path | None
    images_from: Path | None
    solver: str
    smoke: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayersMeasured:
    """The model's layers on this machine, and the market that is about to be played.

    Attributes:
        profile: what layers cost.
        market: devices and server.
    """

    profile: Profile
    market: GameFile

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        costs, profile = self.profile.costs, self.profile
        rows = (
            ("layers of the model, L_max", f"{costs.layers_max}"),
            ("A, GMAC of a layer", f"{costs.A:.4g}"),
            ("B, GMAC before the first", f"{costs.B:.4g}"),
            ("milliseconds of a layer", f"{1e3 * profile.fit.A_s:.4g}"),
            ("R2 of milliseconds as A L + B", f"{profile.fit.r_squared:.4f}"),
            ("milliseconds of an image, unsplit", f"{1e3 * sum(profile.seconds_per_stage):.4g}"),
        )
        return (
            Sheet(
                title="partition: each device runs the first L layers of the model",
                head=("measured on this machine", "value"),
                rows=rows,
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        costs = self.profile.costs
        return {"layers_max": costs.layers_max, "A": costs.A, "B": costs.B}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestPrice:
    """The price that earns most with everybody's costs known, and its audit.

    Attributes:
        market: devices and server.
        outcome: the price and the answers.
        audit: of it.
    """

    market: GameFile
    outcome: Outcome
    audit: Audit

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the price does not keep."""
        return self.audit.broken

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        best, audit = self.outcome, self.audit
        gains = gains_over_staying_away(self.market.game, best)
        columns = (best.payments, best.device_utility, gains)
        rows = tuple(
            (name, f"{layers:g}", *(f"{each:.4f}" for each in credits))
            for name, layers, *credits in zip(self.market.names, best.layers, *columns, strict=True)
        )
        return (
            Sheet(
                title="Stackelberg game: the server posts a price per layer, devices answer; its "
                "exact optimum",
                head=("device", "layers", "payment", "utility", "over staying away"),
                rows=rows,
                notes=(
                    f"Best price {float(best.price):.5g} credits per layer, server's utility "
                    f"{float(best.server_utility):.5g} credits.",
                    f"{NOBODY_LOSES.capitalize()}: {_yes(audit.individually_rational)}. Payments "
                    f"within the saving: {_yes(audit.budget_balanced)}. A lie about private "
                    f"figures could bring {audit.largest_gain_from_lying:.3g} credits, if figures "
                    "were asked for.",
                ),
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        best = self.outcome
        return {
            "price": float(best.price),
            "server_utility": float(best.server_utility),
            "layers": np.asarray(best.layers).tolist(),
            "audit": self.audit.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting:
    """The solver that finds a price in each round; what it found is told with the rounds.

    Attributes:
        solver: its name.
    """

    solver: str

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """None before the first round."""
        return ()

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": self.solver}


@runtime_checkable
class Machinery(Protocol):
    """What a live market needs of what stands above the pacts."""

    def expect_ready(self, terms: PartitionTerms, out: Path) -> None:
        """Refuses what cannot work before anything is written.

        Raises:
            InputError: a file, folder or setting cannot be used.
        """
        ...

    def measure(self, terms: PartitionTerms, run: Run) -> tuple[Profile, GameFile]:
        """Profiles the model, and reads or draws the market."""
        ...

    def play(
        self, terms: PartitionTerms, profile: Profile, market: GameFile, run: Run
    ) -> pact.Outcome:
        """Starts everybody, follows the rounds, judges, reports."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStackelberg:
    """Devices take as many layers as a posted price pays them best."""

    machinery: Machinery
    name: str = "partition-stackelberg-classification"
    method: str = "partition"
    mechanism: str = "stackelberg"
    job: str = "classification"
    compress: str | None = None

    @property
    def solvers(self) -> tuple[str, ...]:
        """Ways to quote, and the exact optimum as a yardstick."""
        return (*quoters(), OPTIMUM.name)

    def read(self, source: Path, document: Document, *, smoke: bool) -> PartitionTerms:
        """Terms: the market, and how it is played."""
        solvers = Table(source, "solver", document.get("solver", {}))
        solver = solvers.choice("name", self.solvers, self.solvers[0])
        solvers.close()
        efficiency = Table(source, "efficiency", document["efficiency"])
        efficiency.choice("method", (self.method,))
        model = _folder(source, efficiency, "model")
        efficiency.close()
        job = Table(source, "job", document["job"])
        job.choice("name", JOBS)
        listed = "device" in document or "devices" in document
        if listed and "devices" in job:
            found: Any = document["job"]["devices"]
            raise InputError(source, "job.devices", "nothing beside listed devices", found)
        stated = {name for name in document if name not in (*FRAMEWORK, "mechanism")}
        terms = PartitionTerms(
            source=source,
            fleet=source if stated else None,
            rounds=job.whole("rounds", 12, least=1, most=ROUNDS_MAX),
            images=job.whole("images", 12, least=1, most=IMAGES_MAX),
            devices=0 if listed else job.whole("devices", 5, least=1, most=DEVICES_MAX),
            seed=job.whole("seed", 0, least=0, most=SEED_MAX),
            model=model,
            images_from=_folder(source, job, "images_from"),
            solver=solver,
            smoke=smoke,
        )
        job.close()
        return terms

    def measure(self, terms: PartitionTerms, run: Run) -> LayersMeasured:
        """What layers cost on this machine."""
        self.machinery.expect_ready(terms, run.out)
        profile, market = self.machinery.measure(terms, run)
        return LayersMeasured(profile=profile, market=market)

    def optimum(self, terms: PartitionTerms, measured: LayersMeasured) -> BestPrice:
        """The equilibrium with everybody's costs known."""
        game = measured.market.game
        best = equilibrium(game)
        return BestPrice(market=measured.market, outcome=best, audit=audit_price(game, best))

    def decide(self, terms: PartitionTerms, measured: LayersMeasured) -> Quoting:
        """Prices follow from the answers, round by round."""
        return Quoting(solver=terms.solver)

    def engage(
        self, terms: PartitionTerms, measured: LayersMeasured, decision: Quoting, run: Run
    ) -> pact.Outcome:
        """Plays the market with real processes."""
        return self.machinery.play(terms, measured.profile, measured.market, run)


def _folder(source: Path, table: Table, name: str) -> Path | None:
    return source.parent / table.text(name, "") if name in table else None


def _yes(fact: bool) -> str:
    return "yes" if fact else "NO"
