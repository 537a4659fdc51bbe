"""A model's halves made smaller, and a price for each layer: both decided together.

The market is that of a partition with a posted price. Beside the price, the server decides in which
form devices run their layers and in which it runs its own: the original, fewer bits, pruned. What
forms cost and get right is measured first; then all pairs are tried, each with its exact best
price (`mechanisms.stackelberg.halves`). The market is played with the forms that were chosen, and
its audits know the others: a device that runs a cheaper form than agreed is caught.

Solvers that see no private costs choose the forms by what is believed of devices, and then quote
prices from answers in the game with these forms.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edgepact.credits import MICRO, in_credits
from edgepact.efficiency.halves import (
    COSTS,
    SAME_SPEED,
    HalvesMeasured,
    measure_halves,
    picture,
    write_halves,
)
from edgepact.efficiency.model_compression.report import Images
from edgepact.efficiency.partition import LayerCosts
from edgepact.efficiency.profile import Profile
from edgepact.engagement import Engagement
from edgepact.errors import InputError
from edgepact.fields import Table, check_list
from edgepact.files.stackelberg import GameFile
from edgepact.files.written import written_toml
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.inference.calibration import calibrate
from edgepact.inference.digests import digest_of
from edgepact.inference.models import samples
from edgepact.inference.pictures import read_picture
from edgepact.inference.pipeline import ModelInfo, preprocess
from edgepact.inference.tolerances import Tolerances
from edgepact.jobs.classification import find_images
from edgepact.market.posted import FixedPrice
from edgepact.market.statement import Statement
from edgepact.mechanisms.stackelberg.audit import (
    TOLERANCE,
    Audit,
    audit_price,
    gains_over_staying_away,
)
from edgepact.mechanisms.stackelberg.halves import (
    HalvesGame,
    HalvesOutcome,
    believed_best,
    best_halves,
    brought,
    quoted,
    settled,
)
from edgepact.pacts.partition_findings import WorkDone, work_dict, work_rows
from edgepact.pacts.partition_live import (
    expect_ready,
    layers_profiled,
    play,
    tell_other_sizes,
)
from edgepact.pacts.partition_stackelberg import (
    PACT as PARTITION,
)
from edgepact.pacts.partition_stackelberg import (
    MarketMeasured,
    PartitionTerms,
    believed_prior,
    devices_of,
    drawn_market,
    market_document,
)
from edgepact.progress import progress_bar
from edgepact.solutions.stackelberg import price_audit
from edgepact.solvers.by_name import OPTIMUM, quoters
from edgepact.solvers.quoter import Known
from edgepact.tables import IF_KNOWN, yes
from edgepact.training.forms import FORMS, TEACHING_STEPS, FormsConfig, make_forms
from edgepact.work import Model

BELIEVED_DEVICES = 100
"""Drawn of the prior by a server that knows no device."""

SMOKE_IMAGES = 60
CALIBRATION_IMAGES, SMOKE_CALIBRATION = 60, 10
"""Images that audits are calibrated with: honest work and cheats."""

OWN = ("compress", "forms", "cost", "share", "fine_tune_steps", "accuracy_least")
"""Fields of `[efficiency]` beside those of a partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvesTerms(PartitionTerms):
    """What a scenario states.

    Attributes:
        forms: which are made, and how.
        cost: what counts as a form's cost: one of `efficiency.halves.COSTS`.
        accuracy_least: pairs of forms that fall below it at any cut are not chosen.
    """

    forms: FormsConfig
    cost: str = COSTS[0]
    accuracy_least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FormsMeasured(MarketMeasured):
    """The market, and the forms of its model.

    Attributes:
        halves: every pair of forms at every cut.
        folders: of the forms by name.
        images: that they were judged on, preprocessed.
    """

    halves: HalvesMeasured
    folders: dict[str, Path]
    images: Images

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What forms weigh, cost and get right."""
        return self.halves.sheets

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return self.halves.to_dict()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestHalves:
    """The exact best price of each pair of forms, with everybody's costs known.

    Attributes:
        problem: the game.
        names: of the devices.
        found: of each pair, the best first.
        audit: of the best one's price, in the game with its forms.
    """

    problem: HalvesGame
    names: list[str]
    found: tuple[HalvesOutcome, ...]
    audit: Audit

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the price does not keep."""
        return self.audit.broken

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What each pair would earn, what each device does and gets at the best, and the audit."""
        best = self.found[0]
        rows = tuple(
            (name, f"{layers:g}", f"{paid:.4f}", f"{utility:.4f}")
            for name, layers, paid, utility in zip(
                self.names, best.layers, best.payments, best.device_utility, strict=True
            )
        )
        devices = Sheet(
            title="What devices do and get with the best forms and price",
            head=("device", "layers", "payment", "utility"),
            rows=rows,
        )
        return (pairs_sheet(self.problem, self.found), devices, price_audit(self.audit))

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "pairs": [_pair_dict(self.problem, each) for each in self.found],
            "audit": self.audit.as_json() | {"lies_tried": self.audit.lies_tried},
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalvesChosen:
    """Which forms are run, and how prices are found.

    Attributes:
        solver: its name.
        problem: the game.
        chosen: forms and a price; of a solver that knows no device the price is what it expects to
            be best, and quotes follow the answers.
        seed: of the noise that prices are drawn from.
    """

    solver: str
    problem: HalvesGame
    chosen: HalvesOutcome
    seed: int

    @property
    def forms(self) -> tuple[str, str]:
        """Names of the device's and the server's."""
        names = self.problem.forms.names
        return names[self.chosen.device], names[self.chosen.server]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        sees = self.solver == OPTIMUM.name
        price = "price per layer" if sees else "price it expects to be best"
        device, server = self.forms
        rows = (
            ("form of the devices' layers", device),
            ("form of the server's layers", server),
            (price, f"{self.chosen.price:.5g}"),
            ("accuracy it expects", f"{self.chosen.accuracy:.2%}"),
        )
        how = "with everybody's costs known" if sees else "by what is believed of devices"
        return (
            Sheet(
                title=f"Forms and price chosen by {self.solver}, {how}",
                head=("choice", "value"),
                rows=rows,
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": self.solver, **_pair_dict(self.problem, self.chosen)}

    @property
    def asked(self) -> dict[str, Any]:
        """What `edgepact serve` is told."""
        game = quoted(self.problem, self.chosen.device, self.chosen.server)
        if self.solver == OPTIMUM.name:
            return {"price": self.chosen.price}
        if float(game.beta) <= 0.0:  # no layer is worth a search
            return {"price": float(game.price_min)}
        known = Known.of_any(game, source="market")
        return {
            "solver": self.solver,
            "saving": known.saving,
            "price_min": known.price_min,
            "price_max": known.price_max,
            "quote_seed": self.seed,
        }

    def engagement(self, model: Model, seed: int | None) -> Engagement:
        """The chosen price, posted."""
        steps = self.problem.game.layers_max
        return FixedPrice(price=self.chosen.price, steps_max=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvesRound:
    """One closed round.

    Attributes:
        number: from 1.
        price: credits per layer and image.
        layers: of all devices.
        accuracy: expected at these cuts.
        utility: the server's expected one, credits.
    """

    number: int
    price: float
    layers: int
    accuracy: float
    utility: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalvesPlayed:
    """What came of a live market whose halves were made smaller.

    Attributes:
        work: images classified, and how they were paid.
        decision: forms and solver.
        rounds: as played.
        others: the exact best of every pair, the best first.
        paid_by_price: whether each payment was price times layers.
        power: share of audits that find the least noticeable cheat, other forms among them.
        cheat: the cheat that is hardest to tell.
    """

    work: WorkDone
    decision: HalvesChosen
    rounds: tuple[HalvesRound, ...]
    others: tuple[HalvesOutcome, ...]
    paid_by_price: bool
    power: float
    cheat: str

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """The prices of all rounds, with what was best."""
        best = self.others[0]
        rows = [
            (
                f"{each.number}",
                f"{each.price:.5g}",
                f"{each.layers}",
                f"{each.accuracy:.2%}",
                f"{each.utility:.5g}",
            )
            for each in self.rounds
        ]
        told = f"{best.price:.5g}", f"{best.layers.sum():g}", f"{best.accuracy:.2%}"
        rows.append(("best of all pairs", *told, f"{best.server_utility:.5g}"))
        device, server = self.decision.forms
        return (
            Sheet(
                title=f"Prices posted in live rounds by {self.decision.solver}, "
                f"{device} on devices and {server} on the server",
                head=("round", "price", "layers of all", "expected accuracy", "server's utility"),
                rows=tuple(rows),
            ),
        )

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What was done."""
        device, server = self.decision.forms
        before = (("devices ran", device), ("the server ran", server))
        whole = self.work.whole_accuracy
        right = () if whole is None else (("classified right by the original", f"{whole:.2%}"),)
        after = (
            ("each payment is the posted price's", yes(self.paid_by_price)),
            ("audits that find the least noticeable cheat", f"{self.power:.0%} ({self.cheat})"),
        )
        rows = (*before, *work_rows(self.work, "price times layers"), *right, *after)
        title = "Split inference by real processes, each half in its form"
        return (Sheet(title=title, head=("figure", "value"), rows=rows),)

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        problem = self.decision.problem
        return {
            **work_dict(self.work),
            "forms": list(self.decision.forms),
            "paid_by_price": self.paid_by_price,
            "audit_power": self.power,
            "rounds": [
                {
                    "price": each.price,
                    "layers": each.layers,
                    "accuracy": each.accuracy,
                    "server_utility": each.utility,
                }
                for each in self.rounds
            ],
            "pairs": [_pair_dict(problem, each) for each in self.others],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvesCosts(LayerCosts):
    """Computing of an image whose two halves have costs of their own.

    Attributes:
        server_per_stage: GMAC of the server's embed, blocks and head.
    """

    server_per_stage: tuple[float, ...]

    def device(self, layers: int) -> float:
        """GMAC of a device with `layers` layers of its form."""
        if layers == self.layers_max:
            return sum(self.per_stage)
        return sum(self.per_stage[: layers + 1]) if layers else 0.0

    def server(self, layers: int) -> float:
        """GMAC that are left to the server, in its form."""
        if layers == self.layers_max:
            return 0.0
        return sum(self.server_per_stage[layers + 1 if layers else 0 :])

    @property
    def total(self) -> float:
        """GMAC of an image that the server does alone."""
        return sum(self.server_per_stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvesProfile(Profile):
    """A profile whose operations are those of two forms.

    Attributes:
        server_gmac_per_stage: of the server's form.
    """

    server_gmac_per_stage: tuple[float, ...]

    @property
    def costs(self) -> LayerCosts:
        """GMAC of both sides."""
        return HalvesCosts(
            per_stage=self.gmac_per_stage, server_per_stage=self.server_gmac_per_stage
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionStackelbergModel:
    """Devices take as many layers as a posted price pays, in forms that the server chooses."""

    name: str = "compression-stackelberg-classification"
    method: str = "compression"
    mechanism: str = "stackelberg"
    job: str = "classification"
    compress: str | None = "model"

    @property
    def solvers(self) -> tuple[str, ...]:
        """Ways to quote, and the exact optimum as a yardstick."""
        return (*quoters(), OPTIMUM.name)

    def read(self, source: Path, document: Document, *, smoke: bool) -> HalvesTerms:
        """Terms: the market as a partition states it, and the forms."""
        table = Table(source, "efficiency", document["efficiency"])
        table.expect_known("method", "model", *OWN)
        own = {name: table.raw(name, "a value") for name in OWN if name in table}
        rest = {
            name: value for name, value in document["efficiency"].items() if name not in OWN
        } | {"method": PARTITION.method}
        table.choice("method", (self.method,))
        forms = _read_forms(source, own, smoke=smoke)
        read = PARTITION.read(source, document | {"efficiency": rest}, smoke=smoke)
        terms = HalvesTerms(
            **{name: getattr(read, name) for name in PartitionTerms.__dataclass_fields__},
            **forms,
        )
        if terms.market is not None and not terms.market.game.integer:
            expected = "'integer', since accuracy is known at the cuts alone"
            raise InputError(source, "layers", expected, "'continuous'")
        return terms

    def expect_runnable(self, terms: HalvesTerms) -> None:
        """Refuses a market that processes here cannot play."""
        PARTITION.expect_runnable(terms)

    def measure(self, terms: HalvesTerms, run: Run) -> FormsMeasured:
        """Makes the forms, and measures every pair of them at every cut."""
        expect_ready(terms, run.out)
        self.expect_runnable(terms)
        images = judged_by(terms)
        profile = layers_profiled(terms, run.out)
        market = terms.market or drawn_market(terms, profile.costs)
        text = written_toml(market_document(market))
        (run.out / "market.toml").write_text(text, encoding="utf-8")
        devices = devices_of(market)
        tell_other_sizes(profile, devices, terms.split.step)
        with progress_bar("Make the model's forms") as advance:
            folders = make_forms(
                terms.model_folder, run.out / "forms", terms.forms, progress=advance
            )
        with progress_bar("Measure every pair of forms") as advance:
            found = measure_halves(
                folders, images, repeats=5 if terms.smoke else 30, progress=advance
            )
        text = json.dumps(found.to_dict(), indent=2) + "\n"
        (run.out / "halves.json").write_text(text, encoding="utf-8")
        picture(found).savefig(run.out / "halves.png", dpi=130)
        return FormsMeasured(
            profile=profile,
            devices=devices,
            split=terms.split,
            market=market,
            halves=found,
            folders=folders,
            images=images,
        )

    def optimum(self, terms: HalvesTerms, measured: FormsMeasured | None) -> BestHalves:
        """Every pair of forms with its exact best price, everybody's costs known.

        Raises:
            InputError: nothing was measured: what forms cost and get right is not known without.
        """
        problem, market = game_of(terms, measured)
        found = best_halves(problem)
        best = found[0]
        return BestHalves(
            problem=problem, names=market.names, found=found, audit=audited(problem, best)
        )

    def decide(self, terms: HalvesTerms, measured: FormsMeasured | None) -> HalvesChosen:
        """Forms and price: exact where costs are seen, else by what is believed.

        Raises:
            InputError: nothing was measured.
        """
        problem, market = game_of(terms, measured)
        if terms.solver == OPTIMUM.name:
            chosen = best_halves(problem)[0]
        else:
            prior = believed_prior(terms, market.game)
            drawn = prior.sample(jax.random.key(terms.seed + 1), BELIEVED_DEVICES)
            chosen = believed_best(problem, drawn)
        return HalvesChosen(solver=terms.solver, problem=problem, chosen=chosen, seed=terms.seed)

    def engage(
        self, terms: HalvesTerms, measured: FormsMeasured, decision: HalvesChosen, run: Run
    ) -> HalvesPlayed:
        """Plays the market with the chosen forms, by real processes."""
        device, server = decision.forms
        folder = run.out / "forms" / "chosen"
        name = f"{measured.halves.model}-{device}-{server}"
        write_halves(measured.folders[device], measured.folders[server], folder, name=name)
        count = SMOKE_CALIBRATION if terms.smoke else CALIBRATION_IMAGES
        tolerances = calibrated(measured, decision, folder, count)
        tolerances.write(folder)
        problem, chosen = decision.problem, decision.chosen
        game = problem.fixed(chosen.device, chosen.server)
        fleet = jax.tree.map(lambda column: np.asarray(column, np.float64), game.fleet)
        played = play(
            replace(terms, model=folder),
            replace(measured.devices, fleet=fleet),
            decision.asked,
            run,
        )
        work = terms.split.done(
            terms=terms,
            folder=run.out,
            profile=_profile_of(measured, chosen),
            names=measured.devices.names,
            played=played,
        )
        assert isinstance(work, WorkDone)  # as images are classified
        hardest = min(tolerances.margins, key=lambda each: (each.power, each.cheat))
        return HalvesPlayed(
            work=work,
            decision=decision,
            rounds=_rounds(problem, chosen, measured.market.names, played.statement),
            others=best_halves(problem),
            paid_by_price=_paid_by_price(played.statement),
            power=tolerances.power,
            cheat=hardest.cheat_name,
        )


def audited(problem: HalvesGame, best: HalvesOutcome) -> Audit:
    """The audit of a price for a pair of forms: of the server it counts what layers bring it in
    accuracy too, which may be worth paying more than the computing that they save."""
    game = problem.fixed(best.device, best.server)
    outcome = _as_outcome(game, best)
    found, paid, had = (
        audit_price(game, outcome),
        float(best.payments.sum()),
        brought(problem, best),
    )
    slack = TOLERANCE * (1.0 + abs(had) + float(np.abs(best.device_utility).max()))
    gains = gains_over_staying_away(game, outcome)
    return replace(
        found,
        individually_rational=bool(np.all(gains >= -slack) and had - paid >= -slack),
        budget_balanced=paid <= had + slack,
    )


def game_of(terms: HalvesTerms, measured: FormsMeasured | None) -> tuple[HalvesGame, GameFile]:
    """The game with forms to choose, and the market it stands in.

    Raises:
        InputError: nothing was measured, or no pair of forms is accurate enough.
    """
    if measured is None:
        expected = "a run, which measures the forms: edgepact run, or edgepact model halves"
        raise InputError(terms.source, "efficiency.forms", expected, "nothing measured")
    market = measured.market
    try:
        problem = HalvesGame(
            game=market.game,
            forms=measured.halves.as_forms(terms.cost),
            accuracy_least=terms.accuracy_least,
        )
    except InputError as error:
        field = f"efficiency.{error.field}"
        raise InputError(terms.source, field, error.expected, error.found) from None
    return problem, market


def calibrated(
    measured: FormsMeasured, decision: HalvesChosen, folder: Path, count: int
) -> Tolerances:
    """Tolerances of audits of the devices' form, which know all cheaper forms as cheats.

    In whole numbers a difference in the last bit can become a step of 8 bits, so that copies of a
    picture lie further apart, and so may two pictures of one thing: where any do, likeness costs
    nobody pay.
    """
    forms, agreed = decision.problem.forms, decision.chosen.device
    cheaper = {
        name: measured.folders[name]
        for at, name in enumerate(forms.names)
        if forms.layer_share[at] < SAME_SPEED * forms.layer_share[agreed]
    }
    found = calibrate(
        folder,
        model_digest=digest_of(folder),
        pixels=_spread(measured.images.pixels, count),
        cheaper=cheaper,
    )
    return replace(found, repeat_distance=0.0) if found.pairs_near else found


def judged_by(terms: HalvesTerms) -> Images:
    """The images that forms are judged by: those of the job, if their folders name classes.

    Raises:
        InputError: they do not.
    """
    info = ModelInfo.read(terms.model_folder)
    place = terms.inputs_place or samples()
    pictures = find_images(place)
    labels = [each.label for each in pictures]
    if not all(label in info.labels for label in labels):
        expected = "images in a folder for each class: a form's accuracy counts"
        raise InputError(terms.source, "job.images_from", expected, f"{place}")
    if terms.smoke:
        kept = np.linspace(0, len(pictures) - 1, min(SMOKE_IMAGES, len(pictures))).astype(int)
        pictures = [pictures[at] for at in kept]
    pixels = [preprocess(read_picture(each.path), info, source=each.path) for each in pictures]
    classes = [info.labels.index(str(each.label)) for each in pictures]
    return Images(pixels=np.concatenate(pixels), classes=np.array(classes, np.int64))


def pairs_sheet(problem: HalvesGame, found: Sequence[HalvesOutcome]) -> Sheet:
    """What every pair of forms would earn at its best price."""
    names, best = problem.forms.names, found[0]
    rows = tuple(
        (
            names[each.device],
            names[each.server],
            f"{each.price:.5g}",
            f"{each.layers.sum():g}",
            f"{each.accuracy:.2%}",
            f"{each.server_utility:.5g}",
            f"{each.server_utility - best.server_utility:.3g}",
        )
        for each in found
    )
    left_out = len(names) ** 2 - len(found)
    notes = (f"{left_out} pairs fall below the least accuracy.",) if left_out else ()
    return Sheet(
        title=f"Forms and price together: each pair at its exact best price; {IF_KNOWN}",
        head=("device", "server", "price", "layers", "accuracy", "server's utility", "less"),
        rows=rows,
        notes=notes,
    )


# ---------------------------------------------------------------- private


def _read_forms(source: Path, own: dict[str, Any], *, smoke: bool) -> dict[str, Any]:
    """The fields of `[efficiency]` that say which forms there are."""
    table = Table(source, "efficiency", own)
    table.choice("compress", ("model",), "model")
    names: Any = list(FORMS)
    if "forms" in table:
        names = table.raw("forms", f"a list of {', '.join(FORMS)}")
        check_list(source, "efficiency.forms", names, of="texts", least=1, most=len(FORMS))
    cost = table.choice("cost", COSTS, COSTS[0])
    share = table.number("share", 0.5, least=0.0, most=0.99)
    steps = table.whole("fine_tune_steps", TEACHING_STEPS, least=0, most=20_000)
    least = table.number("accuracy_least", 0.0, least=0.0, most=1.0)
    try:
        forms = FormsConfig(forms=tuple(map(str, names)), share=share, steps=0 if smoke else steps)
        _ = forms.pruning
    except InputError as error:
        raise InputError(source, "efficiency.forms", error.expected, error.found) from None
    # A few pictures say little of a floor, and pruning was not taught: in small nobody is left out.
    return {"forms": forms, "cost": cost, "accuracy_least": 0.0 if smoke else least}


def _as_outcome(game: Any, best: HalvesOutcome) -> Any:
    from edgepact.mechanisms.stackelberg.responses import settle

    return settle(game, best.price, best.layers)


def _spread(pixels: np.ndarray, count: int) -> list[np.ndarray]:
    """A few images from all over the set, a batch of one each."""
    at = np.unique(np.linspace(0, len(pixels) - 1, count).astype(int))
    return [pixels[each : each + 1] for each in at]


def _profile_of(measured: FormsMeasured, chosen: HalvesOutcome) -> HalvesProfile:
    base, forms = measured.profile, measured.halves.forms
    kept = {name: getattr(base, name) for name in Profile.__dataclass_fields__}
    own, rest = forms[chosen.device], forms[chosen.server]
    kept |= {"gmac_per_stage": own.gmac_per_stage, "fit": own.fit}
    return HalvesProfile(**kept, server_gmac_per_stage=rest.gmac_per_stage)


def _rounds(
    problem: HalvesGame, chosen: HalvesOutcome, names: Sequence[str], statement: Statement
) -> tuple[HalvesRound, ...]:
    rounds = []
    for record in statement.rounds:
        layers = np.array([record.amounts.get(name, 0) for name in names], float)
        price = in_credits(record.price_microcredits or 0)
        found = settled(problem, chosen.device, chosen.server, price, layers)
        rounds.append(
            HalvesRound(
                number=record.number,
                price=price,
                layers=int(layers.sum()),
                accuracy=found.accuracy,
                utility=found.server_utility,
            )
        )
    return tuple(rounds)


def _paid_by_price(statement: Statement) -> bool:
    prices = {
        each.number: round(in_credits(each.price_microcredits or 0) * MICRO)
        for each in statement.rounds
    }
    return all(
        payment.microcredits == prices[payment.round] * payment.amount * payment.units
        for payment in statement.payments
    )


def _pair_dict(problem: HalvesGame, each: HalvesOutcome) -> dict[str, Json]:
    names = problem.forms.names
    return {
        "device": names[each.device],
        "server": names[each.server],
        "price": each.price,
        "layers": each.layers.tolist(),
        "accuracy": each.accuracy,
        "server_utility": each.server_utility,
    }


PACT = CompressionStackelbergModel()
"""Compression of a model that is split, and its price."""
