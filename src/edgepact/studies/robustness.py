"""How quotes fare on fleets that the prior did not promise.

Each case changes one thing: how devices value what they keep, how far their costs spread, how many
they are and of how many layers, or how exactly they answer. Methods that are told how devices
decide are told what was believed, `log1p` and the reference prior, and not what is true. The GDM is
told neither, but was trained on a prior of its own.

So for each family of satisfaction a generator is trained that has never seen it, with `--train`,
and quotes to fleets of that family. Where the family is that of the reference prior, the fleets
that would be of it in training are of the other three. A run without `--train` finds these
generators if they stand in the folder, and says so if they do not.

Under noise a quote is scored by what its price would earn from exact answers, and the best quote so
far is the one that looked best to the server.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.mechanisms.stackelberg.responses import best_response, layers_cap, outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pages import percent, table
from edgepact.palette import SKY_LINE, Look
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context.curves_training import EVERY_FAMILY, Course
from edgepact.solvers.known_form.bayes import BayesianPosterior
from edgepact.solvers.known_form.identify import IdentifyThenSolve
from edgepact.solvers.quoter import Form, Known, Quoter, profits
from edgepact.solvers.quoting import REFERENCE, Answer, meet, reference_fleets, seed_of
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import draw_curve, with_legend, write_findings, write_picture
from edgepact.studies.marks import Verdict, standard_error, verdict_table
from edgepact.studies.methods import GDM, LOOKS, QUOTE_CPU_S, SHIPPING, in_context, train_to
from edgepact.studies.odd_fleets import LAYERS, odd_fleets
from edgepact.studies.quoting import KINDS, error_of
from edgepact.studies.spread import spread, stretches

SHOWN = (1, 2, 3, 5, 8, 12)
"""Quotes that are reported."""

BELIEVED = Form(satisfaction=REFERENCE.satisfaction, A=REFERENCE.A, B=REFERENCE.B)
"""What methods that want to know the form are told, true or not."""

FLEETS_AT_A_TIME = 10
"""Of one method, which one process meets before it is asked for the next."""

UNSEEN = "GDM that never saw the family"
"""In each case of a family, the generator trained without it."""

WITHOUT = {
    family: Course(
        fleets=12_000,
        updates=5_000,
        families=tuple(each for each in EVERY_FAMILY if each != family),
    )
    for family in EVERY_FAMILY
}
"""The training without each family; shorter than the one that ships."""

UNSEEN_MARKS = {
    "log1p": {3: 0.97},
    "log": {3: 0.97},
    "sqrt": {3: 0.97},
    "exp": {3: 0.90, 8: 0.98},
}
"""Least mean share at some quotes where the family was left out of the training."""

ODD_MARKS = {2: 0.985, 5: 0.99}
"""Least mean share on odd fleets at the second quote, and from the fifth on."""

ODD_FALL = 0.01
"""Most that a later quote may earn less than the first on odd fleets."""

METHOD_LOOKS: dict[str, Look] = {**LOOKS, UNSEEN: SKY_LINE}
"""The generator that has not seen a family looks as nobody else here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        fleets: of every family of satisfaction, for each kind of layers.
        others: fleets of the cases of heavy tails and of noise, for each kind.
        odd: odd fleets of each number of layers, for each kind.
        fleets_seed: draws them; no training uses it.
        seed: of the methods' own randomness and of noisy answers.
        rounds: quotes to each fleet.
        tail: standard deviation of the logarithm of what multiplies each alpha.
        wrong: chance that an answer of whole layers is one off, either way.
        noise: standard deviation of continuous answers, as a share of the model.
    """

    fleets: int = field(default=100, metadata=size("fleets"))
    others: int = field(default=40, metadata=size("fleets"))
    odd: int = field(default=50, metadata=size("fleets"))
    fleets_seed: int = 20_313
    seed: int = 1
    rounds: int = 12
    tail: float = 1.0
    wrong: float = 0.2
    noise: float = 0.02


class Case(NamedTuple):
    """One way to be wrong about fleets.

    Attributes:
        what: is different, in words.
        fleets: draws games of one kind.
        answer: how devices answer, exactly if None.
        family: of satisfaction that all devices have, where that is what the case is about.
        layers: of the model, where the fleets are odd ones.
    """

    what: str
    fleets: Callable[[bool], list[Game]]
    answer: Answer | None = None
    family: str | None = None
    layers: int | None = None


class Met(NamedTuple):
    """One method in one case: shares of the range, fleets x rounds."""

    posted: np.ndarray
    best_so_far: np.ndarray

    def followed_by(self, later: "Met") -> "Met":
        """The same method on more fleets."""
        return Met(*(np.concatenate(both) for both in zip(self, later, strict=True)))


Found = dict[str, dict[str, dict[str, Met]]]
"""By case, kind of layers and method."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(fleets=2, others=1, odd=1, rounds=3) if smoke else Config()


def cases(config: Config) -> dict[str, Case]:
    """All of them, by name."""

    def reference(fleets: int, **changes: Any) -> Callable[[bool], list[Game]]:
        prior = replace(REFERENCE, **changes)
        return lambda integer: reference_fleets(
            config.fleets_seed, fleets, integer=integer, prior=prior
        )

    others = reference(config.others)

    found = {}
    for family in EVERY_FAMILY:
        usual = family == REFERENCE.satisfaction.name
        what = f"devices value what they keep by `{family}`"
        found[f"satisfaction {family}"] = Case(
            f"nothing: the reference prior, where {what}" if usual else what,
            reference(config.fleets, satisfaction=FAMILIES[family]),
            family=family,
        )
    for layers in LAYERS:
        found[f"odd fleets, {layers} layers"] = Case(
            "20 to 200 devices, alpha lognormal (mean 1.3 and standard deviation 0.8 of its "
            f"logarithm), capacities uniform on 4 to 22 GMAC, {layers} layers",
            lambda integer, layers=layers: odd_fleets(  # type: ignore[misc]
                config.fleets_seed, config.odd, layers_max=layers, integer=integer
            ),
            layers=layers,
        )
    found["heavy tails"] = Case(
        f"each alpha times a lognormal, sigma {config.tail:g}",
        lambda integer: [_heavy(game, config, at) for at, game in enumerate(others(integer))],
    )
    found["noise"] = Case(
        f"answers of whole layers are one off with chance {config.wrong:g}, continuous ones "
        f"have a standard deviation of {100 * config.noise:g} % of the model",
        others,
        lambda game, price, rng: _noisy(game, price, rng, config),
    )
    return found


def _heavy(game: Game, config: Config, at: int) -> Game:
    rng = np.random.default_rng([config.fleets_seed, at])
    factor = np.exp(config.tail * rng.standard_normal(len(game.fleet)))
    return replace(game, fleet=replace(game.fleet, alpha=game.fleet.alpha * factor))


def _noisy(game: Game, price: float, rng: np.random.Generator, config: Config) -> np.ndarray:
    layers = best_response(game, price)
    if game.integer:
        off = rng.choice((-1.0, 1.0), layers.shape) * (
            rng.uniform(size=layers.shape) < config.wrong
        )
    else:
        off = config.noise * game.layers_max * rng.standard_normal(layers.shape)
    return np.clip(layers + off, 0.0, layers_cap(game))


def trained_without(folder: Path, family: str) -> Path:
    """Where the generator that has never seen a family stands."""
    return folder / f"without-{family}.npz"


def quoters(folder: Path, case: Case) -> dict[str, Quoter]:
    """Who quotes in a case: the GDM, the best search, and two who trust what they were told.

    Args:
        folder: may hold the generators of `WITHOUT`.
        case: where it is about a family, the generator that has not seen it quotes, too.
    """
    found: dict[str, Quoter] = {GDM: in_context()}
    if case.family is not None:
        path = trained_without(folder, case.family)
        if path.is_file():
            found[UNSEEN] = in_context(path)
    return found | {
        "golden section": GoldenSection(),
        "identify, then solve": IdentifyThenSolve(),
        "Bayesian posterior": BayesianPosterior(),
    }


def meet_all(
    quoter: Quoter, games: list[Game], case: Case, config: Config, *, first: int = 0
) -> Met:
    """Lets a method meet the fleets of a case, or those from a number on."""
    posted = np.empty((len(games), config.rounds))
    kept = np.empty_like(posted)
    for at, game in enumerate(games):
        known = Known.of(game, form=False)
        if quoter.knows_form:
            known = replace(known, form=BELIEVED)
        seed = seed_of(config.seed, first + at)
        met = meet(quoter, game, known, rounds=config.rounds, seed=seed, answer=case.answer)
        posted[at] = range_of(game).share(outcome(game, met.price).server_utility)
        seen = profits(known, met.price, met.layers)
        best = [int(np.argmax(seen[: now + 1])) for now in range(config.rounds)]
        kept[at] = posted[at, best]
    return Met(posted, kept)


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the recorded times of quotes; without `--train`."""
    who = (GDM, "golden section", "identify, then solve", "Bayesian posterior")
    fleets = len(EVERY_FAMILY) * config.fleets + len(LAYERS) * config.odd + 2 * config.others
    return len(KINDS) * fleets * config.rounds * sum(QUOTE_CPU_S[each] for each in who)


class Piece(NamedTuple):
    """What one process does at a time: a method's quotes to some of the fleets of a case.

    Attributes:
        config: of the study.
        folder: may hold the generators of `WITHOUT`.
        case: by name.
        kind: of layers.
        method: by name.
        fleets: by number.
    """

    config: Config
    folder: Path
    case: str
    kind: str
    method: str
    fleets: range


@cache
def _prepared(
    config: Config, folder: Path, case: str, kind: str
) -> tuple[Case, list[Game], dict[str, Quoter]]:
    """A case, its fleets and who quotes to them, once a process."""
    named = cases(config)[case]
    return named, named.fleets(KINDS[kind]), quoters(folder, named)


def meet_piece(piece: Piece) -> Met:
    """Lets a method meet some of the fleets; each has its own seed, whoever else is met."""
    case, games, who = _prepared(piece.config, piece.folder, piece.case, piece.kind)
    fleets = piece.fleets
    some = games[fleets.start : fleets.stop]
    return meet_all(who[piece.method], some, case, piece.config, first=fleets.start)


def play_all(config: Config, named: dict[str, Case], folder: Path, *, workers: int = 1) -> Found:
    """Every method in every case, with both kinds of layers; by as many processes as there are."""
    pieces = []
    for name in named:
        for kind in KINDS:
            _, games, who = _prepared(config, folder, name, kind)
            pieces += [
                Piece(config, folder, name, kind, method, fleets)
                for method in who
                for fleets in stretches(len(games), FLEETS_AT_A_TIME)
            ]
    with progress_bar(f"{len(named)} cases") as advance:
        met = spread(meet_piece, pieces, workers=workers, on_piece=advance)
    found: Found = {name: {kind: {} for kind in KINDS} for name in named}
    for piece, part in zip(pieces, met, strict=True):
        of_kind = found[piece.case][piece.kind]
        before = of_kind.get(piece.method)
        of_kind[piece.method] = part if before is None else before.followed_by(part)
    return found


def verdicts(found: Found, named: dict[str, Case]) -> list[Verdict]:
    """What was asked for, and what came; marks of quotes that were not made are left out."""
    held = []
    for name, of_case in found.items():
        case = named[name]
        for kind, of_kind in of_case.items():
            if case.family is not None and UNSEEN in of_kind:
                posted = of_kind[UNSEEN].posted
                for quote, least in UNSEEN_MARKS[case.family].items():
                    if quote <= posted.shape[1]:
                        what = f"`{case.family}` left out of training, {kind}: quote {quote}"
                        held.append(_at_least(what, least, posted, quote - 1))
            if case.layers is not None:
                held += _of_odd(f"{name}, {kind}", of_kind[GDM].posted)
    return held


def _at_least(what: str, least: float, posted: np.ndarray, at: int) -> Verdict:
    """The mean over fleets at one quote, counted from 0, beside a mark."""
    shares = posted[:, at]
    return Verdict(what, least, float(shares.mean()), error=standard_error(shares))


def _of_odd(where: str, posted: np.ndarray) -> list[Verdict]:
    held = []
    second, later = ODD_MARKS
    mean = posted.mean(axis=0)
    if len(mean) >= second:
        held.append(_at_least(f"{where}: quote {second}", ODD_MARKS[second], posted, second - 1))
        what = f"{where}: least quote after the first, beside the first less a point"
        at = 1 + int(np.argmin(mean[1:]))
        held.append(_at_least(what, float(mean[0]) - ODD_FALL, posted, at))
    if len(mean) >= later:
        what = f"{where}: least of quotes {later} to {len(mean)}"
        at = later - 1 + int(np.argmin(mean[later - 1 :]))
        held.append(_at_least(what, ODD_MARKS[later], posted, at))
    return held


def measures(found: Found, named: dict[str, Case]) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    return {
        "marks": [each.to_dict() for each in verdicts(found, named)],
        "cases": {
            case: {
                kind: {
                    method: {
                        "fleets": len(met.posted),
                        "posted": _as_lists(met.posted),
                        "best_so_far": _as_lists(met.best_so_far),
                        "fell": fell(met.posted),
                    }
                    for method, met in of_kind.items()
                }
                for kind, of_kind in of_case.items()
            }
            for case, of_case in found.items()
        },
    }


def fell(posted: np.ndarray) -> float:
    """Share of fleets that were ever quoted worse than at first by more than a point."""
    return float(np.mean(np.any(posted < posted[:, :1] - ODD_FALL, axis=1)))


def _as_lists(shares: np.ndarray) -> dict[str, list[float]]:
    return {
        "mean": shares.mean(axis=0).tolist(),
        "standard_error": error_of(shares).tolist(),
        "percentile_5": np.percentile(shares, 5.0, axis=0).tolist(),
    }


def write_tables(folder: Path, found: Found) -> None:
    """Writes `curves.csv`: a line for each case, kind, method and quote."""
    with (folder / "curves.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        columns = ("mean", "standard_error", "percentile_5")
        rows.writerow(["case", "layers", "method", "fleets", "counted", "quote", *columns])
        for case, of_case in found.items():
            for kind, of_kind in of_case.items():
                for method, met in of_kind.items():
                    for counted, shares in met._asdict().items():
                        place = [case, kind, method, len(shares), counted]
                        for at, values in enumerate(zip(*_as_lists(shares).values(), strict=True)):
                            rows.writerow([*place, at + 1, *(f"{x:.6g}" for x in values)])


LEAST_MISSED = 5e-3
"""Percent at which the logarithmic axis ends: there is nothing to see below."""


ACROSS = 4
"""Panels beside each other: two cases, with both kinds of layers each."""


def draw(found: Found) -> Figure:
    """What each posted quote misses, a panel for each family and number of layers of odd fleets."""
    shown = [
        (case, kind)
        for case in found
        if case.startswith(("satisfaction", "odd"))
        for kind in found[case]
    ]
    down = len(shown) // ACROSS
    figure = Figure(figsize=(12, 1.2 + 2.7 * down), layout="constrained")
    panels = figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False)
    for axes, (case, kind) in zip(panels.flat, shown, strict=True):
        for method, met in found[case][kind].items():
            _line(axes, method, met.posted)
        axes.set_yscale("log")
        axes.set_ylim(LEAST_MISSED, 100.0)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(f"{case},\n{kind} layers")
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0, 0].invert_yaxis()
    figure.supxlabel("quote")
    figure.supylabel("missed share of the range as posted, %: mean, and its standard error")
    return with_legend(figure, panels, ncols=3, place="upper center")


def _line(axes: Any, method: str, posted: np.ndarray) -> None:
    missed, error = 100.0 * (1.0 - posted.mean(axis=0)), 100.0 * error_of(posted)
    draw_curve(
        axes,
        np.arange(1, len(missed) + 1),
        np.maximum(missed, LEAST_MISSED),
        tuple(np.maximum(missed + side * error, LEAST_MISSED) for side in (-1.0, 1.0)),
        METHOD_LOOKS[method],
        label=method,
        width=2.2 if method == GDM else 1.5,
    )


def page(found: Found, named: dict[str, Case], trained: str) -> list[str]:
    """The findings in words and tables."""
    parts = [
        "Each case changes one thing. Golden-section search knows nothing and believes nothing. "
        "Identify-then-solve and the Bayesian posterior are told what was believed, `log1p` and "
        "the reference prior, whatever is true. The GDM is told neither. A share of 100 is the "
        "exact optimum, 0 the mean of random prices. All are held to the quotes they post; beside "
        "that stands the best quote so far, as it looked to the server, at the last quote. After ± "
        "stands the standard error over fleets.",
        trained,
        "![What each posted quote misses](robustness.png)",
    ]
    held = verdicts(found, named)
    if held:
        parts += ["## What was asked for", verdict_table(held)]
    for case, of_case in found.items():
        number = len(next(iter(of_case["integer"].values())).posted)
        parts.append(f"## {case[0].upper()}{case[1:]}")
        parts.append(f"Different: {named[case].what}. Fleets: {number} of each kind of layers.")
        for kind, of_kind in of_case.items():
            rounds = len(next(iter(of_kind.values())).posted[0])
            shown = [at for at in SHOWN if at <= rounds]
            rows = []
            for method, met in of_kind.items():
                mean, error = met.posted.mean(axis=0), error_of(met.posted)
                rows.append(
                    [
                        method,
                        *(percent(mean[at - 1], error[at - 1]) for at in shown),
                        percent(float(met.best_so_far[:, -1].mean())),
                        percent(fell(met.posted)),
                    ]
                )
            head = [
                f"{kind} layers, quote",
                *(str(at) for at in shown),
                "best so far",
                "fleets ever a point below the first",
            ]
            parts += [table(head, rows)]
    return parts


def train(folder: Path, smoke: bool) -> None:
    """Trains a generator without each family, into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for family, course in WITHOUT.items():
        train_to(trained_without(folder, family), smoke=smoke, course=course)


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, robustness.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = sized(config_for(asked.smoke), asked)
    named = cases(config)
    found = play_all(config, named, folder, workers=asked.workers)
    write_tables(folder, found)
    write_picture(folder, "robustness", lambda: draw(found), config, asked)
    write_metrics(folder, config, measures(found, named), asked.record("robustness"))
    there = [family for family in WITHOUT if trained_without(folder, family).is_file()]
    parts = page(found, named, _trained(there))
    command = "robustness" + (" --train" if there else "")
    write_findings(folder, command, "Quotes where the prior is wrong", parts, asked)


def _trained(there: list[str]) -> str:
    """Which generators took part, in words."""
    text = "The generator that ships has seen all four families and both priors in training."
    if there:
        course = next(iter(WITHOUT.values()))
        text += (
            f" `{UNSEEN}` is another one in each case, made for this page by `--train` and not "
            f"shipped: trained on the other three families and on curves of no family, for "
            f"{course.updates:,} gradient steps on {course.fleets:,} fleets, where the one that "
            f"ships was trained for {SHIPPING.updates:,} on {SHIPPING.fleets:,}."
        )
    missing = [f"`{family}`" for family in WITHOUT if family not in there]
    if missing:
        text += f" Not here, since it takes `--train`: generators without {', '.join(missing)}."
    return text
