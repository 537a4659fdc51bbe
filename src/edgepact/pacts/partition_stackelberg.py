"""A model split between devices and a server, which posts a price for each layer: the main job.

The top of the file is a market as `edgepact solve` reads it; with `[job] devices` and nothing at
the top a fleet is drawn.
"""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from edgepact.efficiency.partition import LayerCosts
from edgepact.engagement import Engagement
from edgepact.errors import InputError
from edgepact.fields import FRAMEWORK
from edgepact.files.stackelberg import GameFile, game_of
from edgepact.files.written import written_toml
from edgepact.fleet import COLUMNS, FleetPrior, Interval
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.inference.models import samples
from edgepact.market.link_cost import sent_bytes
from edgepact.market.posted import FixedPrice
from edgepact.market.quoted_price import QuotedPrice
from edgepact.mechanisms.stackelberg.audit import Audit, audit_price, gains_over_staying_away
from edgepact.mechanisms.stackelberg.benchmarks import bayesian_price
from edgepact.mechanisms.stackelberg.link import LINK_COLUMNS, Traffic
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import Outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pacts.partition_buyers import mean_worth, read_buyers, sold_per_unit
from edgepact.pacts.partition_findings import WorkDone
from edgepact.pacts.partition_jobs import split_job
from edgepact.pacts.partition_live import (
    LayersMeasured,
    expect_fitting,
    expect_folders,
    expect_ready,
    layers_profiled,
    play,
    tell_other_sizes,
)
from edgepact.pacts.partition_priced import MarketPlayed, WorkPriced, earnings_of, find, priced
from edgepact.pacts.partition_terms import (
    PrivateDevices,
    SplitTerms,
    costs_of,
    drawn_names,
    read_split,
)
from edgepact.registry import part
from edgepact.solutions.stackelberg import price_audit
from edgepact.solvers.by_name import OPTIMUM, quoter, quoters
from edgepact.solvers.quoter import Known
from edgepact.tables import IF_KNOWN
from edgepact.work import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTerms(SplitTerms):
    """What a scenario states.

    Attributes:
        market: as the file states it; None to draw one.
    """

    market: GameFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketMeasured(LayersMeasured):
    """The model's layers, and the market that is about to be played.

    Attributes:
        market: devices and server.
    """

    market: GameFile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestPrice:
    """The price that earns most with everybody's costs known, and its audit.

    Attributes:
        market: devices and server.
        outcome: the price and the answers.
        audit: of it.
        step: what one step of an amount is.
    """

    market: GameFile
    outcome: Outcome
    audit: Audit
    step: str

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the price does not keep."""
        return self.audit.broken

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What each device does and gets; the audit."""
        best, audit = self.outcome, self.audit
        columns = (best.payments, best.device_utility, self.over_staying_away)
        rows = tuple(
            (name, f"{layers:g}", *(f"{each:.4f}" for each in credits))
            for name, layers, *credits in zip(self.market.names, best.layers, *columns, strict=True)
        )
        return (
            Sheet(
                title=f"Stackelberg game: the server posts a price per {self.step}, devices "
                f"answer; {IF_KNOWN}",
                head=("device", f"{self.step}s", "payment", "utility", "over staying away"),
                rows=rows,
                notes=(
                    f"Best price {float(best.price):.5g} credits per {self.step}, server's utility "
                    f"{float(best.server_utility):.5g} credits.",
                ),
            ),
            price_audit(audit),
        )

    @property
    def over_staying_away(self) -> Float[np.ndarray, " devices"]:
        """What each device has beyond its utility without the server, credits."""
        return np.asarray(gains_over_staying_away(self.market.game, self.outcome))

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        best = self.outcome
        return {
            "price": float(best.price),
            "server_utility": float(best.server_utility),
            "layers": np.asarray(best.layers).tolist(),
            "device_utility": np.asarray(best.device_utility).tolist(),
            "payments": np.asarray(best.payments).tolist(),
            "over_staying_away": self.over_staying_away.tolist(),
            "names": list(self.market.names),
            "audit": self.audit.as_json() | {"lies_tried": self.audit.lies_tried},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting:
    """The solver that finds a price in each round; what it found is told with the rounds.

    Attributes:
        solver: its name.
        market: devices and server; of the devices it sees what a step of theirs saves.
        seed: of the noise that prices are drawn from.
        step: what one step of an amount is.
    """

    solver: str
    market: GameFile
    seed: int
    step: str = "layer"

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """None before the first round."""
        return ()

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": self.solver}

    @property
    def asked(self) -> dict[str, Any]:
        """What `edgepact serve` is told: what is public in the game, if there is a search."""
        if self.solver == OPTIMUM.name:
            return {"price": float(equilibrium(self.market.game).price)}
        known = self._known
        return {
            "solver": self.solver,
            "saving": known.saving,
            "price_min": known.price_min,
            "price_max": known.price_max,
            # For the eyes of who looks at the live page: quotes know nothing of it.
            "best_price": float(equilibrium(self.market.game).price),
            "quote_seed": self.seed,  # of quotes alone: see `partition_live.play`
        }

    def engagement(self, model: Model, seed: int | None) -> Engagement:
        """The prices at work."""
        game = self.market.game
        if game.layers_max != model.amount_max:
            expected = f"{model.amount_max}, the {self.step}s of {model.name}"
            raise InputError(self.market.source, "server.layers_max", expected, game.layers_max)
        if self.solver == OPTIMUM.name:
            return FixedPrice(price=float(equilibrium(game).price), steps_max=game.layers_max)
        drawn = secrets.randbits(31) if seed is None else seed
        return QuotedPrice(quoter(self.solver), self._known, drawn)

    @property
    def _known(self) -> Known:
        return Known.of_any(self.market.game, source="market")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStackelberg:
    """Devices take as many layers as a posted price pays them best."""

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
        fields = read_split(self, source, document, smoke=smoke)
        buyers = read_buyers(source, document, split_job(self.job), fields["settings"])
        drawn = PartitionTerms(**fields, buyers=buyers)
        stated = {name for name in document if name not in (*FRAMEWORK, "mechanism", "buyer")}
        if not stated:
            return drawn
        market = game_of(source, document, traffic=lambda: _traffic(drawn))
        return replace(drawn, market=market)

    def expect_runnable(self, terms: PartitionTerms) -> None:
        """Refuses a market that processes here cannot play."""
        expect_folders(terms)
        if terms.market is not None:
            _expect_playable(terms, terms.market)

    def measure(self, terms: PartitionTerms, run: Run) -> MarketMeasured:
        """What layers cost on this machine; the market stands in a file of its own, to solve."""
        expect_ready(terms, run.out)
        self.expect_runnable(terms)
        profile = layers_profiled(terms, run.out)
        market = _sold(terms, terms.market or drawn_market(terms, profile.costs))
        text = written_toml(market_document(market))
        (run.out / "market.toml").write_text(text, encoding="utf-8")
        devices = devices_of(market)
        tell_other_sizes(profile, devices, terms.split.step)
        return MarketMeasured(profile=profile, devices=devices, split=terms.split, market=market)

    def optimum(self, terms: PartitionTerms, measured: MarketMeasured | None) -> BestPrice:
        """The equilibrium with everybody's costs known."""
        market = _market(terms, measured)
        best = equilibrium(market.game)
        audit, step = audit_price(market.game, best), terms.split.step
        return BestPrice(market=market, outcome=best, audit=audit, step=step)

    def decide(self, terms: PartitionTerms, measured: MarketMeasured | None) -> Quoting:
        """Prices follow from the answers, round by round."""
        market = _market(terms, measured)
        return Quoting(solver=terms.solver, market=market, seed=terms.seed, step=terms.split.step)

    def engage(
        self, terms: PartitionTerms, measured: MarketMeasured, decision: Quoting, run: Run
    ) -> MarketPlayed | WorkPriced:
        """Plays the market with real processes."""
        played = play(terms, measured.devices, decision.asked, run)
        work = terms.split.done(
            terms=terms,
            folder=run.out,
            profile=measured.profile,
            names=measured.devices.names,
            played=played,
        )
        if not isinstance(work, WorkDone):
            return priced(work, measured.market, terms.solver, terms.buyers)
        findings = find(work, measured.market, _prior_price(terms, measured.market.game))
        return MarketPlayed(
            findings=findings,
            solver=terms.solver,
            images_folder=terms.inputs_place or samples(),
            earnings=earnings_of(work, measured.market, terms.buyers),
        )


def drawn_market(terms: PartitionTerms, costs: LayerCosts) -> GameFile:
    """Heterogeneous devices in the units of the model.

    A layer costs the server one credit. Satisfaction is ln(y), the family in
    which the unit of computing drops out, so that a model of one MMAC a layer
    and one of 358 play the same game.
    """
    fleet = _prior(costs.A, costs.B).sample(jax.random.key(terms.seed), terms.devices)
    # Without buyers: of a unit that the server does alone it keeps 40 %.
    brought = mean_worth(terms.buyers) if terms.buyers else 5.0 * costs.layers_max / 3.0
    game = Game(
        fleet=jax.tree.map(lambda column: np.asarray(column, np.float64), fleet),
        revenue=terms.devices * brought,
        beta=1.0 / costs.A,
        price_min=0.05,
        price_max=1.2,
        layers_max=costs.layers_max,
        satisfaction=FAMILIES["log"],
    )
    return GameFile(source=terms.source, game=game, names=drawn_names(terms.devices))


def _market(terms: PartitionTerms, measured: MarketMeasured | None) -> GameFile:
    if measured is not None:
        return measured.market
    return _sold(terms, terms.market or drawn_market(terms, costs_of(terms)))


def _sold(terms: PartitionTerms, market: GameFile) -> GameFile:
    """The market with what a unit brings where not every one is sold."""
    if not terms.buyers:
        return market
    revenue = float(market.game.revenue) * sold_per_unit(
        terms.split, terms.model_folder, terms.settings
    )
    return replace(market, game=replace(market.game, revenue=revenue))


def devices_of(market: GameFile) -> PrivateDevices:
    """Its devices, with what only they know."""
    game = market.game
    return PrivateDevices(
        names=market.names,
        fleet=game.fleet,
        satisfaction=game.satisfaction.name,
        links=market.links,
    )


def _traffic(terms: SplitTerms) -> Traffic:
    """What the model's cuts send with the codec of the run, as its devices reckon it."""
    job = part("jobs", terms.job, source=terms.source, field="job.name")
    name = terms.codec or job.codecs[0]
    codec = part("codecs", name, source=terms.source, field="job.codec")
    held = job.device_part(terms.model_folder, terms.inputs_place, terms.settings)
    return Traffic(sent_bytes=list(sent_bytes(held, codec).values()))


def _expect_playable(terms: PartitionTerms, market: GameFile) -> None:
    game, step = market.game, terms.split.step
    expect_fitting(terms, devices_of(market), game.layers_max)
    for field, fits, expected, found in (
        ("layers", game.integer, f"'integer', since processes do whole {step}s", "'continuous'"),
        (
            "server.price_max",
            game.price_max > game.price_min,
            "more than price_min, or there is nothing to quote",
            game.price_max,
        ),
        ("outside_option", not game.outside_option, "false: live devices do not decline", "true"),
    ):
        if not fits:
            raise InputError(terms.source, field, expected, found)


def _prior(A: float, B: float) -> FleetPrior:
    """What the operator believes before anything is seen: the fleets this job draws from."""
    return FleetPrior(
        alpha=Interval(1.0, 6.0), capacity=Interval(B + 13.0 * A, B + 25.0 * A), A=A, B=B
    )


def believed_prior(terms: PartitionTerms, game: Game) -> FleetPrior:
    """What an operator believes of the devices before it has seen an answer."""
    fleet = game.fleet
    A, B = float(fleet.A.mean()), float(fleet.B.mean())
    if terms.market is None:
        return _prior(A, B)
    # Of a fleet from a file the operator is taken to know the ranges, twice as wide.
    return FleetPrior(
        alpha=Interval(float(fleet.alpha.min()) / 2.0, float(fleet.alpha.max()) * 2.0),
        capacity=Interval(float(fleet.capacity.min()) / 2.0, float(fleet.capacity.max()) * 2),
        A=A,
        B=B,
    )


def _prior_price(terms: PartitionTerms, game: Game) -> float:
    """What an operator would post that knows the prior and never looks at an answer."""
    drawn = believed_prior(terms, game).sample(jax.random.key(terms.seed + 1), 20_000)
    sample = jax.tree.map(lambda column: np.asarray(column, np.float64), drawn)
    return float(bayesian_price(game, sample))


def market_document(market: GameFile) -> Document:
    """The market as a file that `edgepact solve` reads."""
    game = market.game
    fleet = game.fleet
    columns = {name: getattr(fleet, name) for name in COLUMNS}
    if market.links is not None:
        columns |= {name: getattr(market.links, name) for name in LINK_COLUMNS}
    document: Document = {
        "mechanism": "stackelberg",
        "layers": "integer" if game.integer else "continuous",
        "satisfaction": game.satisfaction.name,
        "server": {
            "revenue": float(game.revenue),
            "beta": float(game.beta),
            "layers_max": game.layers_max,
            "price_min": float(game.price_min),
            "price_max": float(game.price_max),
        },
        "device": [
            {"name": name, **{column: float(values[at]) for column, values in columns.items()}}
            for at, name in enumerate(market.names)
        ],
    }
    if market.traffic is not None:
        sent = [float(each) for each in market.traffic.sent_bytes]
        document["traffic"] = {"sent_bytes": sent}
        if market.traffic.round_trips is not None:
            document["traffic"]["round_trips"] = [float(e) for e in market.traffic.round_trips]
    return document


PACT = PartitionStackelberg()
"""The main job."""

PICTURE = PartitionStackelberg(name="partition-stackelberg-picture", job="picture")
"""The same of the steps of a picture's chain."""

TEXT = PartitionStackelberg(name="partition-stackelberg-text", job="text")
"""The same of a language model."""

PHOTO = PartitionStackelberg(name="partition-stackelberg-photo", job="photo")
"""The same of photographs, by a model in stages."""

SENTENCES = PartitionStackelberg(name="partition-stackelberg-sentences", job="sentences")
"""The same of sentences, by a model in stages."""

STAGED = PartitionStackelberg(name="partition-stackelberg-staged", job="staged")
"""The same of any model in stages."""

SPEECH = PartitionStackelberg(name="partition-stackelberg-speech", job="speech")
"""The same of a voice."""
