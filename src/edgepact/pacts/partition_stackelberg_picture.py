"""Pictures drawn by a server and devices together; the server posts a price for each step.

The game is that of a partitioned model, with steps of the chain in place of layers: a step of a
device spares the server that step. The top of the file is a market as `edgepact solve` reads it,
`server.layers_max` the steps of the chain; with `[job] devices` and nothing at the top a fleet is
drawn.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.efficiency.partition import LayerCosts
from edgepact.errors import InputError
from edgepact.fields import FRAMEWORK, Table
from edgepact.files.stackelberg import GameFile, game_of
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.inference.models import garments
from edgepact.jobs.picture.chain import Generator, read_generator
from edgepact.jobs.picture.job import PICTURE
from edgepact.market.device_config import DeviceConfig
from edgepact.market.play import round_status
from edgepact.market.processes import played
from edgepact.market.serve_config import ServeConfig, ServeOptions
from edgepact.mechanisms.stackelberg.audit import audit_price
from edgepact.mechanisms.stackelberg.link import LINK_COLUMNS, Links
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.pacts.partition_settings import DEVICES, DEVICES_MAX, PlaySettings
from edgepact.pacts.partition_stackelberg import BestPrice, PartitionTerms, Quoting, drawn_market
from edgepact.pacts.partition_watching import watching
from edgepact.pacts.pictures_drawn import PicturesDrawn, pictures_drawn, write_report
from edgepact.settings import fields_in
from edgepact.solvers.by_name import OPTIMUM, quoters

SMOKE_ROUNDS, SMOKE_PICTURES = 2, 2
GATHER_TIMEOUT_S = 30.0

JOB_SETTINGS = ("steps", "guidance", "shared", "group")
"""Fields of `[job]` that both halves are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTerms:
    """What a scenario states.

    Attributes:
        source: the file.
        model: folder of the generator; None for that of garments.
        prompts_from: file of prompts; None for the generator's own.
        play: rounds, pictures of each device in a round (its `images`), seed.
        devices: to draw; 0 where the file lists them.
        codec: how chains travel; None for the job's favourite.
        away_timeout_s, round_timeout_s: as of every live market, seconds.
        audit_probability: share audited; None for the least at which cheating loses money.
        job: settings of the job.
        solver: name of the solver.
        market: as the file states it; None to draw one.
        smoke: in small.
    """

    source: Path
    model: Path | None
    prompts_from: Path | None
    play: PlaySettings
    devices: int
    codec: str | None
    away_timeout_s: float
    round_timeout_s: float
    audit_probability: float | None
    job: dict[str, Json]
    solver: str
    market: GameFile | None
    smoke: bool

    def held(self) -> Generator:
        """The generator, as the job reads it.

        Raises:
            InputError: it, or a setting of the job, cannot be used.
        """
        try:
            return read_generator(self.model or garments(), self.job)
        except InputError as error:
            field = error.field.removeprefix("settings.")
            if field not in JOB_SETTINGS:
                raise
            raise InputError(self.source, f"job.{field}", error.expected, error.found) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepsMeasured:
    """What steps cost, and the market that is about to be played.

    Attributes:
        generator: whose steps they are.
        market: devices and server.
    """

    generator: Generator
    market: GameFile

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        flow, recipe = self.generator.flow, self.generator.recipe
        rows = (
            ("steps of the chain", f"{recipe.steps}"),
            ("of them shared by prompts that belong together", f"{recipe.shared}"),
            ("guidance", f"{recipe.guidance:g}"),
            ("A, GMAC of a step", f"{flow.step_gmac:.4g}"),
            ("B, GMAC of the picture from the chain", f"{flow.decode_gmac:.4g}"),
            ("numbers of a chain", f"{flow.components}"),
        )
        return (
            Sheet(
                title="Partition: each device does the last L steps of the chain",
                head=("counted in the generator", "value"),
                rows=rows,
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        flow = self.generator.flow
        steps = self.generator.recipe.steps
        return {"steps": steps, "A": flow.step_gmac, "B": flow.decode_gmac}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStackelbergPicture:
    """Devices do as many steps of a picture as a posted price pays them best."""

    name: str = "partition-stackelberg-picture"
    method: str = "partition"
    mechanism: str = "stackelberg"
    job: str = "picture"
    compress: str | None = None

    @property
    def solvers(self) -> tuple[str, ...]:
        """Ways to quote, and the exact optimum as a yardstick."""
        return (*quoters(), OPTIMUM.name)

    def read(self, source: Path, document: Document, *, smoke: bool) -> PictureTerms:
        """Terms: the market, and how it is played."""
        solvers = Table(source, "solver", document["solver"])
        solver = solvers.choice("name", self.solvers, self.solvers[0])
        solvers.close()
        efficiency = Table(source, "efficiency", document["efficiency"])
        efficiency.choice("method", (self.method,))
        generator = _path(source, efficiency, "model")
        efficiency.close()
        job = Table(source, "job", document["job"])
        job.choice("name", (self.job,))
        listed = "device" in document or "devices" in document
        if listed and "devices" in job:
            found: Any = document["job"]["devices"]
            raise InputError(source, "job.devices", "nothing beside listed devices", found)
        prompts = _path(source, job, "prompts_from")
        play = fields_in(PlaySettings, job, "rounds", "devices", "seed")
        most = {"least": 1, "most": 1000}
        play["images"] = job.whole("pictures", PlaySettings().images, **most)
        if smoke:
            play |= {"rounds": SMOKE_ROUNDS, "images": min(SMOKE_PICTURES, play["images"])}
        device = fields_in(DeviceConfig, job, "codec", "away_timeout_s")
        server = fields_in(ServeConfig, job, "round_timeout_s", "audit_probability")
        settings = {name: job.raw(name, "a number") for name in JOB_SETTINGS if name in job}
        job.close()
        stated = {name for name in document if name not in (*FRAMEWORK, "mechanism")}
        return PictureTerms(
            source=source,
            model=generator,
            prompts_from=prompts,
            play=PlaySettings(**play),
            devices=0 if listed else play.get("devices") or DEVICES,
            codec=device.get("codec"),
            away_timeout_s=device.get("away_timeout_s", 30.0),
            round_timeout_s=server.get("round_timeout_s", 20.0),
            audit_probability=server.get("audit_probability"),
            job=settings,
            solver=solver,
            market=game_of(source, document) if stated else None,
            smoke=smoke,
        )

    def expect_runnable(self, terms: PictureTerms) -> None:
        """Refuses a market that processes here cannot play, and prompts that cannot be read."""
        held = terms.held()
        try:
            PICTURE.device_part(terms.model, terms.prompts_from, terms.job)
        except InputError as error:
            if terms.prompts_from is None or error.source != str(terms.prompts_from):
                raise
            expected, found = error.expected, f"{terms.prompts_from}: {error.found}"
            raise InputError(terms.source, "job.prompts_from", expected, found) from None
        if terms.market is not None:
            _expect_playable(terms, terms.market, held)

    def measure(self, terms: PictureTerms, run: Run) -> StepsMeasured:
        """What steps cost, as counted in the generator."""
        if run.out.exists() and (not run.out.is_dir() or any(run.out.iterdir())):
            raise InputError("run", "out", "a new or empty folder", f"{run.out}")
        self.expect_runnable(terms)
        held = terms.held()
        return StepsMeasured(generator=held, market=_market(terms, held))

    def optimum(self, terms: PictureTerms, measured: StepsMeasured | None) -> BestPrice:
        """The equilibrium with everybody's costs known."""
        market = _market(terms, terms.held()) if measured is None else measured.market
        best = equilibrium(market.game)
        return BestPrice(
            market=market, outcome=best, audit=audit_price(market.game, best), step="step"
        )

    def decide(self, terms: PictureTerms, measured: StepsMeasured | None) -> Quoting:
        """Prices follow from the answers, round by round."""
        market = _market(terms, terms.held()) if measured is None else measured.market
        return Quoting(solver=terms.solver, market=market, seed=terms.play.seed, step="step")

    def engage(
        self, terms: PictureTerms, measured: StepsMeasured, decision: Quoting, run: Run
    ) -> PicturesDrawn:
        """Plays the market with real processes."""
        run.on_live()
        market, play = measured.market, terms.play
        fleet, links = market.game.fleet, market.links
        url = f"sqlite:///{run.out.resolve() / 'ledger.db'}"
        alike: dict[str, Any] = {"job": self.job, "job_settings": terms.job}
        # As in `partition_live.play`: the server is not told the seed of the run, which devices
        # know, or they could work out which pieces are audited.
        server = ServeOptions(
            **decision.asked,
            **alike,
            model=terms.model,
            ledger_url=url,
            port=0,
            rounds=play.rounds,
            devices_min=len(market.names),
            units_per_round=play.images,
            round_timeout_s=terms.round_timeout_s,
            gather_timeout_s=GATHER_TIMEOUT_S,
            audit_probability=terms.audit_probability,
            repeat_rounds=0,  # a prompt may come again: every picture begins with noise of its own
        )
        devices = [
            DeviceConfig(
                **alike,
                server_url="http://filled-in",
                name=name,
                model=terms.model,
                inputs=terms.prompts_from,
                results=run.out / f"{name}.jsonl",
                alpha=float(fleet.alpha[at]),
                capacity=float(fleet.capacity[at]),
                A=float(fleet.A[at]),
                B=float(fleet.B[at]),
                satisfaction=market.game.satisfaction.name,
                **_link(links, at),
                codec=terms.codec,
                away_timeout_s=terms.away_timeout_s,
                seed=play.seed + at,
            )
            for at, name in enumerate(market.names)
        ]
        with watching(market.names, play.rounds, play.images, self.job) as on_status:
            live = played(run.out, server, devices, on_status)
            # The market may have ended between two looks at it.
            rounds = [round_status(each) for each in live.statement.rounds]
            on_status({"devices_present": [], "rounds": rounds})
        drawn = pictures_drawn(
            folder=run.out,
            generator=measured.generator,
            market=market,
            statement=live.statement,
            lost=live.lost,
            solver=terms.solver,
        )
        write_report(run.out, drawn)
        return drawn


def _market(terms: PictureTerms, held: Generator) -> GameFile:
    """The market of the file, or one that is drawn in the units of the generator."""
    if terms.market is not None:
        return terms.market
    flow = held.flow
    costs = LayerCosts(per_stage=(flow.decode_gmac, *[flow.step_gmac] * held.recipe.steps, 0.0))
    drawn = PartitionTerms(
        source=terms.source, devices=terms.devices, seed=terms.play.seed, solver=terms.solver
    )
    return drawn_market(drawn, costs)


def _expect_playable(terms: PictureTerms, market: GameFile, held: Generator) -> None:
    game, steps = market.game, held.recipe.steps
    for field, fits, expected, found in (
        (
            "server.layers_max",
            game.layers_max == steps,
            f"{steps}, the steps of {held.name}",
            game.layers_max,
        ),
        ("layers", game.integer, "'integer', since processes do whole steps", "'continuous'"),
        (
            "server.price_max",
            game.price_max > game.price_min,
            "more than price_min, or there is nothing to quote",
            game.price_max,
        ),
        ("outside_option", not game.outside_option, "false: live devices do not decline", "true"),
        (
            "device",
            len(market.names) <= DEVICES_MAX,
            f"at most {DEVICES_MAX} devices, each a process here",
            len(market.names),
        ),
    ):
        if not fits:
            raise InputError(terms.source, field, expected, found)


def _link(links: Links | None, at: int) -> dict[str, Any]:
    """What a device is told of its own link."""
    if links is None:
        return {}
    return {name: float(getattr(links, name)[at]) for name in LINK_COLUMNS}


def _path(source: Path, table: Table, name: str) -> Path | None:
    return source.parent / table.text(name, "") if name in table else None


PACT = PartitionStackelbergPicture()
"""Pictures for a price per step."""
