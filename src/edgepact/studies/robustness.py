"""How quotes fare on fleets that the prior did not promise.

Each case changes one thing about the reference prior: how devices value what they keep,
how far their costs spread, how many they are, or how exactly they answer. Methods that
are told how devices decide are told what was believed, `log1p` and the reference prior,
and not what is true. The GDM is told neither, but was trained on a prior of its own.

Under noise a quote is scored by what its price would earn from exact answers, and the
best quote so far is the one that looked best to the server.

With `--train` two more policies are trained first, from nothing: one without one of the
families, and one on the reference prior alone, which shows what the broad prior costs. A
run without finds them if they stand in the folder, and says so if they do not.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import best_response, layers_cap, outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pages import percent, table, write_page
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context.curves_training import EVERY_FAMILY, Course
from edgepact.solvers.known_form.bayes import BayesianPosterior
from edgepact.solvers.known_form.identify import IdentifyThenSolve
from edgepact.solvers.quoter import Form, Known, Quoter, profits
from edgepact.solvers.quoting import REFERENCE, Answer, meet, reference_fleets, seed_of
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.studies.methods import COLOURS, GDM, in_context, train_to
from edgepact.studies.quoting import KINDS, error_of

SHOWN = (1, 2, 3, 5, 8, 20)
"""Quotes that are reported."""
BELIEVED = Form(satisfaction=REFERENCE.satisfaction, A=REFERENCE.A, B=REFERENCE.B)
"""What methods that want to know the form are told, true or not."""


LOSS_MAX = 0.005
"""Most that the broad prior may cost where the reference prior holds."""

THIRD, UNSEEN_MIN = 2, 0.97
"""The quote, from 0, that is good enough where a family was left out of the training."""

LEFT_OUT = "exp"
"""A family left out of a training."""


class Special(NamedTuple):
    """A policy that is trained on less than the one that ships, and where its weights are put."""

    file: str
    course: Course


SPECIAL = {
    f"{GDM}, without {LEFT_OUT}": Special(
        "without-exp.npz", Course(families=[name for name in EVERY_FAMILY if name != LEFT_OUT])
    ),
    f"{GDM}, reference prior alone": Special("reference-alone.npz", Course(reference_share=1.0)),
}
"""By the name that pages give them."""

STYLES = dict(zip(SPECIAL, (":", "--"), strict=True))
"""Of their lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        fleets: of every case, for each kind of layers.
        crowds: of the cases with many devices.
        fleets_seed: draws them; no training uses it.
        seed: of the methods' own randomness and of noisy answers.
        rounds: quotes to each fleet.
        tail: standard deviation of the logarithm of what multiplies each alpha.
        wrong: chance that an answer of whole layers is one off, either way.
        noise: standard deviation of continuous answers, as a share of the model.
    """

    fleets: int = 300
    crowds: int = 40
    fleets_seed: int = 20_313
    seed: int = 1
    rounds: int = 20
    tail: float = 1.0
    wrong: float = 0.2
    noise: float = 0.02


class Case(NamedTuple):
    """One way to be wrong about fleets.

    Attributes:
        what: is different, in words.
        fleets: draws games of one kind.
        answer: how devices answer, exactly if None.
    """

    what: str
    fleets: Callable[[bool], list[Game]]
    answer: Answer | None = None


class Met(NamedTuple):
    """One method in one case: shares of the range, fleets x rounds."""

    posted: np.ndarray
    best_so_far: np.ndarray


Found = dict[str, dict[str, dict[str, Met]]]
"""By case, kind of layers and method."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(fleets=3, crowds=1, rounds=8) if smoke else Config()


def cases(config: Config, crowds: tuple[int, ...] = (64, 256, 1000)) -> dict[str, Case]:
    """All of them, by name."""

    def reference(**changes: Any) -> Callable[[bool], list[Game]]:
        prior = replace(REFERENCE, **changes)
        return lambda integer: reference_fleets(
            config.fleets_seed, config.fleets, integer=integer, prior=prior
        )

    found = {"as believed": Case("nothing: the reference prior", reference())}
    for family in ("log", "sqrt", "exp"):
        what = f"devices value what they keep by `{family}`"
        found[f"satisfaction {family}"] = Case(what, reference(satisfaction=FAMILIES[family]))
    found["heavy tails"] = Case(
        f"each alpha times a lognormal, sigma {config.tail:g}",
        lambda integer: [_heavy(game, config, at) for at, game in enumerate(reference()(integer))],
    )
    for devices in crowds:
        found[f"{devices} devices"] = Case(
            f"{devices} devices in every fleet",
            lambda integer, devices=devices: _crowds(config, devices, integer),  # type: ignore[misc]
        )
    found["noise"] = Case(
        f"answers of whole layers are one off with chance {config.wrong:g}, continuous ones "
        f"have a standard deviation of {100 * config.noise:g} % of the model",
        reference(),
        lambda game, price, rng: _noisy(game, price, rng, config),
    )
    return found


def _heavy(game: Game, config: Config, at: int) -> Game:
    rng = np.random.default_rng([config.fleets_seed, at])
    factor = np.exp(config.tail * rng.standard_normal(len(game.fleet)))
    return replace(game, fleet=replace(game.fleet, alpha=game.fleet.alpha * factor))


def _crowds(config: Config, devices: int, integer: bool) -> list[Game]:
    rng = np.random.default_rng([config.fleets_seed, devices])
    fleets: list[Fleet] = [REFERENCE.fleet(rng, devices) for _ in range(config.crowds)]
    return [REFERENCE.game(fleet, integer=integer) for fleet in fleets]


def _noisy(game: Game, price: float, rng: np.random.Generator, config: Config) -> np.ndarray:
    layers = best_response(game, price)
    if game.integer:
        off = rng.choice((-1.0, 1.0), layers.shape) * (
            rng.uniform(size=layers.shape) < config.wrong
        )
    else:
        off = config.noise * game.layers_max * rng.standard_normal(layers.shape)
    return np.clip(layers + off, 0.0, layers_cap(game))


def quoters(folder: Path) -> dict[str, Quoter]:
    """Who quotes: the GDM, the best search, and two who trust what they were told.

    Args:
        folder: may hold the weights of policies of `SPECIAL`.
    """
    trained = {name: folder / special.file for name, special in SPECIAL.items()}
    return {
        GDM: in_context(),
        **{name: in_context(path) for name, path in trained.items() if path.is_file()},
        "golden section": GoldenSection(),
        "identify, then solve": IdentifyThenSolve(),
        "Bayesian posterior": BayesianPosterior(),
    }


def meet_all(
    quoter: Quoter, games: list[Game], case: Case, config: Config, on_fleet: Callable[..., None]
) -> Met:
    """Lets a method meet the fleets of a case."""
    posted = np.empty((len(games), config.rounds))
    kept = np.empty_like(posted)
    for at, game in enumerate(games):
        known = Known.of(game, form=False)
        if quoter.knows_form:
            known = replace(known, form=BELIEVED)
        seed = seed_of(config.seed, at)
        met = meet(quoter, game, known, rounds=config.rounds, seed=seed, answer=case.answer)
        posted[at] = range_of(game).share(outcome(game, met.price).server_utility)
        seen = profits(known, met.price, met.layers)
        best = [int(np.argmax(seen[: now + 1])) for now in range(config.rounds)]
        kept[at] = posted[at, best]
        on_fleet(at + 1, len(games))
    return Met(posted, kept)


def play_all(config: Config, named: dict[str, Case], who: dict[str, Quoter]) -> Found:
    """Every method in every case, with both kinds of layers."""
    found: Found = {}
    for name, case in named.items():
        found[name] = {kind: {} for kind in KINDS}
        for kind, integer in KINDS.items():
            games = case.fleets(integer)
            for method, quoter in who.items():
                with progress_bar(f"{name}, {kind}: {method}"[:34]) as advance:
                    found[name][kind][method] = meet_all(quoter, games, case, config, advance)
    return found


def counted(name: str, met: Met) -> np.ndarray:
    """The GDM's quotes as posted, a rival's best so far."""
    return met.posted if name.startswith(GDM) else met.best_so_far


def measures(found: Found) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    return {
        case: {
            kind: {
                method: {
                    "fleets": len(met.posted),
                    "posted": _as_lists(met.posted),
                    "best_so_far": _as_lists(met.best_so_far),
                }
                for method, met in of_kind.items()
            }
            for kind, of_kind in of_case.items()
        }
        for case, of_case in found.items()
    }


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
        counts = ("posted", "best_so_far")
        head = ["case", "layers", "method", "fleets", "quote"]
        rows.writerow([*head, *(f"{count}_{each}" for count in counts for each in columns)])
        for case, of_case in measures(found).items():
            for kind, of_kind in of_case.items():
                for method, each in of_kind.items():
                    lists = [each[count][column] for count in counts for column in columns]
                    for at, values in enumerate(zip(*lists, strict=True)):
                        place = [case, kind, method, each["fleets"], at + 1]
                        rows.writerow([*place, *(f"{x:.6g}" for x in values)])


def draw(found: Found) -> Figure:
    """What is missed at each quote, a panel a case."""
    figure = Figure(figsize=(11, 2.3 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), len(KINDS), sharex=True, sharey=True, squeeze=False)
    for row, (case, of_case) in enumerate(found.items()):
        for column, (kind, of_kind) in enumerate(of_case.items()):
            axes = panels[row, column]
            for method, met in of_kind.items():
                missed = 100.0 * (1.0 - counted(method, met).mean(axis=0))
                axes.plot(
                    np.arange(1, len(missed) + 1),
                    np.maximum(missed, 1e-3),
                    color=COLOURS[GDM if method.startswith(GDM) else method],
                    linestyle=STYLES.get(method, "-"),
                    linewidth=2.4 if method == GDM else 1.3,
                    label=method,
                )
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{case}, {kind} layers", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0, 0].invert_yaxis()
    figure.supxlabel("quote")
    figure.supylabel("missed share of the range, %: mean (rivals by their best quote so far)")
    labels: dict[str, Any] = {}
    for axes in panels.flat:
        handles, names = axes.get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
    figure.legend(
        labels.values(), labels.keys(), frameon=False, loc="outside upper center", ncols=4
    )
    return figure


def page(found: Found, named: dict[str, Case], trained: str) -> list[str]:
    """The findings in words and tables."""
    parts = [
        "Each case changes one thing about the reference prior. Golden-section search knows "
        "nothing and believes nothing. Identify-then-solve and the Bayesian posterior are told "
        "what was believed, `log1p` and the reference prior, whatever is true. The GDM is told "
        "neither. A share of 100 is the exact optimum, 0 the mean of random prices; the GDM is "
        "held to the quotes it posts, rivals to their best quote so far, as it looked to the "
        "server. After ± stands the standard error over fleets.",
        trained,
        "![What is missed in each case](robustness.png)",
        *verdict(measures(found)),
    ]
    for case, of_case in found.items():
        number = len(next(iter(of_case["integer"].values())).posted)
        parts.append(f"## {case[0].upper()}{case[1:]}")
        parts.append(f"Different: {named[case].what}. Fleets: {number} of each kind of layers.")
        for kind, of_kind in of_case.items():
            rounds = len(next(iter(of_kind.values())).posted[0])
            shown = [at for at in SHOWN if at <= rounds]
            rows = []
            for method, met in of_kind.items():
                values = counted(method, met)
                mean, error = values.mean(axis=0), error_of(values)
                rows.append([method, *(percent(mean[at - 1], error[at - 1]) for at in shown)])
            parts += [table([f"{kind} layers, quote", *(str(at) for at in shown)], rows)]
    return parts


def verdict(measured: dict[str, Any]) -> list[str]:
    """What was asked for beside what was measured, from the figures of `measures`.

    The policy of the reference prior alone has seen no family but `log1p`, so for it all others
    were left out.
    """
    without, alone = SPECIAL
    unseen = {"satisfaction exp": (without, alone)} | {
        f"satisfaction {family}": (alone,) for family in ("log", "sqrt")
    }
    rows = []
    for kind in KINDS:
        believed = measured["as believed"][kind]
        if alone in believed:
            ahead = np.subtract(
                believed[GDM]["posted"]["mean"], believed[alone]["posted"]["mean"]
            ).min()
            asked = f"{kind}: ahead of the reference prior alone at its worst quote, points"
            rows.append([asked, *_held(float(ahead), -LOSS_MAX)])
        for case, names in unseen.items():
            for name in names:
                if case in measured and name in measured[case][kind]:
                    third = measured[case][kind][name]["posted"]["mean"][THIRD]
                    asked = f"{kind}: quote {THIRD + 1}, {case} not seen by `{name}`"
                    rows.append([asked, *_held(third, UNSEEN_MIN)])
    if not rows:
        return []
    return ["## What was asked for", table(["", "at least", "measured", "reached"], rows)]


def _held(measured: float, least: float) -> list[str]:
    return [percent(least), percent(measured), "yes" if measured >= least else "**no**"]


def train(folder: Path, smoke: bool) -> None:
    """Trains the policies of `SPECIAL`, into the folder."""
    for special in SPECIAL.values():
        train_to(folder / special.file, smoke=smoke, course=special.course)


def run(folder: Path, smoke: bool) -> None:
    """Writes curves.csv, robustness.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(smoke)
    named = cases(config, (64,)) if smoke else cases(config)
    who = quoters(folder)
    found = play_all(config, named, who)
    write_tables(folder, found)
    draw(found).savefig(folder / "robustness.png", dpi=110)
    write_metrics(folder, config, {"cases": measures(found)})
    title = "Quotes where the prior is wrong"
    write_page(folder, "robustness", title, page(found, named, _trained(who)), smoke=smoke)


def _trained(who: dict[str, Quoter]) -> str:
    """Which policies took part, in words."""
    there = [f"`{name}`" for name in SPECIAL if name in who]
    missing = [f"`{name}`" for name in SPECIAL if name not in who]
    text = "The policy that ships has seen all four families and both priors in training."
    if there:
        text += f" Trained on less, by `--train`: {'; '.join(there)}."
    if missing:
        text += f" Not here, since it takes `--train`: {'; '.join(missing)}."
    return text
