"""What cheating earns, in a market and in many thousand that are reckoned: less than honest work.

In three steps:

1. *Power*: cheats of every kind are audited, and how often an audit finds them is counted.
2. *Market*: an honest device of the stated margin and one of each kind of cheat are in the same
   market, with its real rounds, audits, evidence and ledger, for a few rounds and seeds.
3. *Many rounds*: with the powers of step 1 the settlement is reckoned for many seeds, at the
   derived rate and at .05, by the rules of now and by those of before, when a failed audit lost
   the one piece.

The device is the one that is deterred least: of all that it is paid it keeps the stated margin when
it is honest. Profit is pay less own cost, told as a share of what honest work brings. Intervals are
95 %: of Student's t over seeds of markets, normal over those that are reckoned.
"""

import csv
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from edgepact.mechanisms.audit_rate import audit_rate, best_cheat
from edgepact.pages import table
from edgepact.palette import AMBER_LINE, BLUE_LINE, INK, PURPLE_LINE
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.cheats import CHEATS, HONEST, Cheat, other_model
from edgepact.studies.cheats_at_market import (
    REPEAT_ROUNDS,
    STRIKES_MAX,
    Earned,
    Setting,
    measured_power,
    play_market,
    write_pictures,
)
from edgepact.studies.drawing import say_found, scaled, with_legend, write_findings, write_picture

FIXED = 0.05
"""The share that was audited before it was derived."""

TWINS = "two-identities"
MARGINS = (0.5, 0.25, 0.1)
LOOKS = dict(zip(MARGINS, (BLUE_LINE, AMBER_LINE, PURPLE_LINE), strict=True))
RATES = tuple(float(rate) for rate in np.geomspace(0.01, 1.0, 41))
RATES_SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
PIECES_SHOWN = (1, 2, 4, 8, 16, 32, 64, 128)

PICTURE_CPU_S, AUDIT_CPU_S = 0.12, 0.007
"""CPU seconds of a picture that each device of a market delivers, and of an audit; recorded in
November 2026, on a busy machine. Durations are reckoned from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        layers: of the embedded model that devices are paid for.
        pieces: pictures of a device in a round.
        margin: share of its pay that the honest device keeps.
        market_rounds: of each market that is played.
        market_seeds: markets that are played.
        audits: of each kind of cheat, for its power.
        rounds: that are reckoned.
        runs: seeds that are reckoned.
        seed: of what is reckoned.
    """

    layers: int = 6
    pieces: int = 16
    margin: float = 0.25
    market_rounds: int = 8
    market_seeds: int = field(default=10, metadata=size("seeds", least=2))
    audits: int = 200
    rounds: int = 20
    runs: int = 20_000
    seed: int = 7


class Interval(NamedTuple):
    """A mean, and how far from it the ends of its 95 % interval are."""

    mean: float
    half: float

    @property
    def above(self) -> float:
        """Its upper end."""
        return self.mean + self.half

    @property
    def told(self) -> str:
        """For a table."""
        return f"{self.mean:.3f} ± {self.half:.3f}"


class Power(NamedTuple):
    """Audits of cheated work that failed, of so many."""

    found: int
    audits: int

    @property
    def share(self) -> float:
        """Of audits that found it."""
        return self.found / self.audits

    @property
    def least(self) -> float:
        """Lower end of the exact one-sided 95 % interval (Clopper and Pearson)."""
        if self.found == 0:
            return 0.0
        return float(stats.beta.ppf(0.05, self.found, self.audits - self.found + 1))


class Played(NamedTuple):
    """Of one kind in the markets that were played: sums over markets, and shares of honest profit.

    Attributes:
        delivered, refused: pieces.
        paid, spent: credits.
        strikes: failed audits.
        excluded: markets in which it was excluded.
        ratio: profit over that of the honest neighbours, which have as many devices.
    """

    delivered: int
    refused: int
    paid: float
    spent: float
    strikes: int
    excluded: int
    ratio: Interval


class Rules(NamedTuple):
    """How audits are reckoned.

    Attributes:
        rate: share of pieces audited; None for the derived one, which rises with strikes.
        round_lost: whether a failed audit loses the round and counts a strike; else the piece.
        repeats: whether repeats are refused.
        rounds: that are played, unless the device is excluded.
    """

    rate: float | None
    round_lost: bool
    repeats: bool
    rounds: int


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if smoke:
        return Config(pieces=10, market_rounds=2, market_seeds=2, audits=4, runs=500)
    return Config()


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by recorded times; what is reckoned takes next to none."""
    pictures = config.market_seeds * config.market_rounds * config.pieces
    audits = config.audits * sum(1 for cheat in CHEATS.values() if cheat.every)
    return pictures * PICTURE_CPU_S + audits * AUDIT_CPU_S


def rules_of(config: Config) -> dict[str, Rules]:
    """What is compared, by name."""
    return {
        "derived, one round": Rules(None, True, True, 1),
        "derived, many rounds": Rules(None, True, True, config.rounds),
        "5 %, one round": Rules(FIXED, True, True, 1),
        "5 %, many rounds": Rules(FIXED, True, True, config.rounds),
        "5 %, only the piece is lost": Rules(FIXED, False, False, config.rounds),
    }


# ---------------------------------------------------------------- what is reckoned


def derived_rate(config: Config, pieces: int, margin: float | None = None) -> float:
    """Least rate at which cheating loses money, of so many pieces of equal pay; 0 of none."""
    told = config.margin if margin is None else margin
    return audit_rate([1] * pieces, margin=told, reward=1, least_reward=1)


def reckoned(cheat: Cheat, power: float, rules: Rules, config: Config) -> Interval:
    """Profit of a kind of cheat as a share of honest profit, over many seeds.

    Args:
        cheat: the kind.
        power: share of audits of what it cheats on that find it.
        rules: of the audits.
        config: of the study.
    """
    rng = np.random.default_rng(config.seed)
    runs, pieces, cost = config.runs, config.pieces, 1.0 - config.margin
    cheated = sum(cheat.is_on(at) for at in range(pieces))
    once = cheat.once and rules.repeats
    taken = 1 if once else pieces
    devices = 2 if cheat.twins else 1
    # A pair's second device does no work and, where repeats are refused, is paid for none.
    paid_devices = 1 if cheat.twins and rules.repeats else devices
    worked = 1.0 if cheat.once else pieces - cheated + cheat.cost * cheated
    # A source that is not shown is as good as a wrong one.
    found_by_one = 1.0 if not cheat.shows else power
    profit, strikes = np.zeros(runs), np.zeros(runs, int)
    # A piece done once and delivered once is honest work, however often it is tried; in the
    # rounds after it is refused until it has left the window.
    for number in range(rules.rounds):
        there = strikes < STRIKES_MAX
        if rules.round_lost:
            rates = [
                derived_rate(config, taken, config.margin / 2**at) if rules.rate is None
                else rules.rate
                for at in range(STRIKES_MAX)
            ]  # fmt: skip
            rate = np.array([*rates, 0.0])[np.minimum(strikes, STRIKES_MAX)]
            escapes = rng.random(runs) < (1 - found_by_one * rate) ** cheated
            pay = np.where(escapes, float(taken * paid_devices), 0.0)
            if once and number % REPEAT_ROUNDS:
                pay = np.zeros(runs)
            strikes += there & ~escapes
        else:
            lost = rng.binomial(cheated, found_by_one * (rules.rate or 0.0), runs)
            pay = float(taken * paid_devices) - lost
        profit += there * (pay - cost * worked)
    honest = devices * rules.rounds * pieces * config.margin
    return interval(profit / honest)


def interval(values: np.ndarray) -> Interval:
    """Mean and 95 % interval of independent values, by Student's t."""
    if len(values) < 2 or not values.std():
        return Interval(float(values.mean()), 0.0)
    wide = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean()), float(wide))


# ---------------------------------------------------------------- what is played


def measure(config: Config, folder: Path) -> tuple[dict[str, Power], list[dict[str, Earned]]]:
    """Powers of audits, and markets.

    Args:
        config: of the study.
        folder: an empty one, for pictures, models and ledgers.
    """
    setting = Setting(
        layers=config.layers,
        pieces=config.pieces,
        rounds=config.market_rounds,
        margin=config.margin,
    )
    count = config.pieces * config.market_rounds
    others = {kind: other_model(kind, folder / "models" / kind) for kind in CHEATS}
    names = [f"{HONEST}-1", f"{HONEST}-2", f"{TWINS}-1", f"{TWINS}-2"]
    names += [kind for kind in CHEATS if kind not in (HONEST, TWINS)]
    pictures: dict[str, Path] = {}
    for at, name in enumerate(names):
        twin = pictures.get(f"{TWINS}-1") if name == f"{TWINS}-2" else None
        pictures[name] = twin or write_pictures(folder / "pictures" / name, at * count, count)
    powers = {}
    wrong = [kind for kind, cheat in CHEATS.items() if cheat.every]
    with progress_bar("Audits of cheats") as advance:
        for done, kind in enumerate(wrong, 1):
            found = measured_power(kind, setting, pictures[kind], others[kind], config.audits)
            powers[kind] = Power(*found)
            advance(done, len(wrong))
    markets = []
    with progress_bar("Markets with cheats") as advance:
        for seed in range(config.market_seeds):
            place = folder / "markets" / f"{seed}"
            markets.append(play_market(setting, pictures, others, place, seed=seed))
            advance(seed + 1, config.market_seeds)
    return powers, markets


def summed(config: Config, markets: list[dict[str, Earned]]) -> dict[str, Played]:
    """Kinds of cheats over all markets, beside what honest work of as many devices would bring."""
    found = {}
    for kind, cheat in CHEATS.items():
        pair = kind in (HONEST, TWINS)
        names = [f"{kind}-1", f"{kind}-2"] if pair else [kind]
        each = [[market[name] for name in names] for market in markets]
        # Two identities do the work of one: what the second spends it would have from the first.
        spent = [own[0].spent if cheat.twins else sum(x.spent for x in own) for own in each]
        paid = [sum(x.paid for x in own) for own in each]
        honest = len(names) * config.market_rounds * config.pieces * config.margin
        ratio = (np.array(paid) - np.array(spent)) / honest
        all_of = [x for own in each for x in own]
        found[kind] = Played(
            delivered=sum(x.delivered for x in all_of),
            refused=sum(x.refused for x in all_of),
            paid=sum(paid),
            spent=sum(spent),
            strikes=sum(x.strikes for x in all_of),
            excluded=sum(x.excluded for x in all_of),
            ratio=interval(ratio),
        )
    return found


# ---------------------------------------------------------------- what is told


class Found(NamedTuple):
    """All that the study has found."""

    config: Config
    powers: dict[str, Power]
    played: dict[str, Played]
    reckoned: dict[str, dict[str, Interval]]


def curve(config: Config, margin: float) -> list[float]:
    """The best cheat's profit over honest profit, in one round, at each of `RATES`."""
    alike = {"margin": margin, "reward": 1.0, "least_reward": 1.0}
    return [best_cheat(rate, [1.0] * config.pieces, **alike) for rate in RATES]


def sweep(config: Config) -> list[dict[str, float]]:
    """By margin: the derived rate, what the best cheat has there, and at the rates shown."""
    rows = []
    for margin in MARGINS:
        alike = {"margin": margin, "reward": 1.0, "least_reward": 1.0}
        units = [1.0] * config.pieces
        rate = derived_rate(config, config.pieces, margin)
        at = {f"{each:g}": best_cheat(each, units, **alike) for each in RATES_SHOWN}
        rows.append({"margin": margin, "rate": rate, "best": best_cheat(rate, units, **alike)} | at)
    return rows


def draw(found: Found) -> Figure:
    """What honest work earns above the best cheat by the rate, and the rate by a round's length."""
    config = found.config
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=(3, 2))
    left, right = panels
    rows = sweep(config)
    for row in rows:
        margin = row["margin"]
        look: dict[str, Any] = {**LOOKS[margin].line, "markersize": scaled(5.0)}
        ahead = 1.0 - np.array(curve(config, margin))
        left.plot(RATES, ahead, **look, markevery=6, label=f"margin {margin:g}")
        star = {"color": LOOKS[margin].colour, "markeredgecolor": INK, "markersize": scaled(15.0)}
        left.plot([row["rate"]], [1.0 - row["best"]], "*", **star)
        lengths = [derived_rate(config, pieces, margin) for pieces in PIECES_SHOWN]
        right.plot(PIECES_SHOWN, lengths, **look)
    told = {"fmt": "x", "color": INK, "markersize": scaled(6.0), "capsize": 2}
    for rate in RATES[::5]:
        rules = Rules(rate, True, True, 1)
        each = reckoned(CHEATS["random"], found.powers["random"].share, rules, config)
        label = f"random numbers, margin {config.margin:g}, reckoned" if rate == RATES[0] else None
        left.errorbar([rate], [1.0 - each.mean], [each.half], label=label, **told)
    left.plot(
        [],
        [],
        "*",
        color="white",
        markeredgecolor=INK,
        markersize=scaled(13.0),
        label="derived rate",
    )
    left.axhline(0.0, color=INK, linewidth=0.9, linestyle=":")
    left.axvline(FIXED, color=INK, linewidth=0.9, linestyle="--")
    beside = {"textcoords": "offset points", "fontsize": "small"}
    left.annotate("above: cheating loses", (RATES[0], 0.0), xytext=(0, 4), **beside)
    left.annotate(f"{FIXED:.0%}, as before", (FIXED, 1.25), xytext=(4, 0), **beside)
    left.set_xscale("log")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_ylim(-4.0, 1.5)
    left.set_xlabel("share of pieces that is audited")
    left.set_ylabel("honest profit less best cheat's,\nas a share of honest profit")
    loses = all(row["best"] < 1.0 for row in rows)
    say_found(
        left,
        f"one round of {config.pieces} pieces: at the derived rate\n"
        + ("even the best cheat earns less" if loses else "some cheat earns no less")
        + " than honest work",
    )
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.invert_yaxis()
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
    right.set_xlabel("pieces of a device in a round")
    right.set_ylabel("derived rate of audits (up: fewer)")
    say_found(right, "the longer the round,\nthe fewer audits are needed")
    for axes in (left, right):
        _clean(axes)
    return with_legend(figure, panels, ncols=5)


def _clean(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def measures(found: Found) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    return {
        "derived_rate": derived_rate(found.config, found.config.pieces),
        "power": {
            kind: {"found": each.found, "audits": each.audits, "least": each.least}
            for kind, each in found.powers.items()
        },
        "played": {
            kind: {**each._asdict(), "ratio": each.ratio._asdict()}
            for kind, each in found.played.items()
        },
        "reckoned": {
            rules: {kind: each._asdict() for kind, each in kinds.items()}
            for rules, kinds in found.reckoned.items()
        },
        "sweep": sweep(found.config),
        "curve": {f"{margin:g}": curve(found.config, margin) for margin in MARGINS},
        "rates": list(RATES),
        "deterred": deterred(found),
    }


def deterred(found: Found) -> bool:
    """Whether each kind earned less than honest work by more than its interval, in the markets
    played and in those reckoned at the derived rate."""
    kinds = [kind for kind in CHEATS if kind != HONEST]
    told = [found.played[kind].ratio for kind in kinds]
    for rules in ("derived, one round", "derived, many rounds"):
        told += [found.reckoned[rules][kind] for kind in kinds]
    return all(each.above < 1.0 for each in told)


def page(found: Found) -> list[str]:
    """The findings in words and tables."""
    config = found.config
    rate = derived_rate(config, config.pieces)
    verdict = (
        "Every kind of cheat earned less than honest work by more than its interval, in the "
        "markets that were played and in those that were reckoned at the derived rate."
        if deterred(found)
        else "**Some kind of cheat did not earn less than honest work by more than its interval.**"
    )
    before = found.reckoned["5 %, only the piece is lost"]
    paid = [kind for kind, each in before.items() if each.mean - each.half > 1.0]
    least = min(each.least for each in found.powers.values())
    return [
        f"Devices that keep {config.margin:.0%} of their pay when they are honest are paid for "
        f"{config.layers} layers of the embedded model, {config.pieces} pictures a round. "
        f"The derived rate of audits is {rate:.1%}, and rises with a strike. Profit is pay less "
        "own cost, as a share of what honest work brings; 1 is honest. Theory and proof: "
        "[how often to audit](../theory/audits.md).",
        verdict,
        f"Before, when 5 % were audited and a failed audit lost the one piece, "
        f"{len(paid)} of {len(CHEATS) - 1} kinds earned more than honest work.",
        "![What the best cheat earns at every rate, and the rates of rounds](cheating.png)",
        "Left: what honest work earns above the best of all cheats in one round, for three "
        "margins. The cheat breaks even where a curve crosses the dotted line; stars are the "
        "derived rates, which leave it at most half of the margin for cheating on everything. "
        "Curves are exact and have no bands; crosses are random numbers in every piece, as the "
        f"settlement was reckoned for {config.runs:,} seeds, with 95 % intervals. Right: the "
        "derived rate by the length of a round.",
        table(
            ["margin", "derived rate", "best cheat there", *(f"at {r:.0%}" for r in RATES_SHOWN)],
            [
                [
                    f"{row['margin']:g}",
                    f"{row['rate']:.3f}",
                    f"{row['best']:.2f}",
                    *(f"{row[f'{r:g}']:.2f}" for r in RATES_SHOWN),
                ]
                for row in sweep(config)
            ],
        ),
        "## The cheats",
        "Costs are shares of an honest device's cost of a piece, and kind to the cheat: what it "
        "would have to know it is given. An audit's power is the share of audits of cheated pieces "
        f"that found them; the least is the lower end of its 95 % interval, {least:.3f} for all.",
        table(
            ["kind", "what it does", "cost", "audits", "found", "power at least"],
            [
                [kind, each.does, f"{each.cost:.2g}", *_power(found, kind)]
                for kind, each in CHEATS.items()
                if kind != HONEST
            ],
        ),
        "## In a market",
        f"{config.market_seeds} markets of {config.market_rounds} rounds were played in one "
        "process with the market's own rounds, settlement, evidence and ledger: two honest "
        "devices, and of each kind of cheat one, each with pictures of its own. Two strikes "
        "exclude. Two identities are held against two honest devices.",
        table(
            ["kind", "delivered", "refused", "strikes", "excluded", "paid", "own cost", "profit"],
            [
                [
                    kind,
                    each.delivered,
                    each.refused,
                    each.strikes,
                    each.excluded,
                    f"{each.paid:.0f}",
                    f"{each.spent:.1f}",
                    each.ratio.told,
                ]
                for kind, each in found.played.items()
            ],
        ),
        "A market of a few rounds is a coarse measure: whether a cheat is found in the first or "
        "the third round is chance. So the settlement was reckoned as well.",
        "## Over many seeds",
        f"With the powers above, for {config.runs:,} seeds: an identity that is used for one "
        f"round and thrown away, and one that stays for {config.rounds} rounds, or until two "
        "strikes exclude it. At 5 % an identity that is thrown away gains by cheating; one that "
        "stays is held back by exclusion alone. In the last column a failed audit loses one "
        "piece, and repeats are paid: as it was before.",
        table(
            ["kind", *found.reckoned],
            [[kind, *(of[kind].told for of in found.reckoned.values())] for kind in CHEATS],
        ),
    ]


def _power(found: Found, kind: str) -> tuple[str, str, str]:
    if kind not in found.powers:
        return "", "", ""
    each = found.powers[kind]
    return f"{each.audits}", f"{each.found}", f"{each.least:.3f}"


def reckon(config: Config, powers: Mapping[str, Power]) -> dict[str, dict[str, Interval]]:
    """Every kind by every rule."""
    return {
        name: {
            kind: reckoned(cheat, powers[kind].share if kind in powers else 1.0, rules, config)
            for kind, cheat in CHEATS.items()
        }
        for name, rules in rules_of(config).items()
    }


def write_tables(folder: Path, found: Found) -> None:
    """Writes `curves.csv`, a line a rate, and `reckoned.csv`, a line a kind and rule."""
    with (folder / "curves.csv").open("w", newline="") as file:
        curves = csv.writer(file)
        curves.writerow(["rate", *(f"best_at_margin_{margin:g}" for margin in MARGINS)])
        columns = [curve(found.config, margin) for margin in MARGINS]
        curves.writerows(zip(RATES, *columns, strict=True))
    with (folder / "reckoned.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["rules", "kind", "profit_over_honest", "half_interval_95"])
        for rules, kinds in found.reckoned.items():
            lines.writerows([rules, kind, *each] for kind, each in kinds.items())


def run(folder: Path, asked: Asked) -> None:
    """Measures, plays, reckons, and writes everything."""
    folder.mkdir(parents=True, exist_ok=True)
    config = sized(config_for(asked.smoke), asked)
    with tempfile.TemporaryDirectory() as place:
        powers, markets = measure(config, Path(place))
    found = Found(config, powers, summed(config, markets), reckon(config, powers))
    write_picture(folder, "cheating", lambda: draw(found), config, asked)
    write_tables(folder, found)
    write_metrics(folder, config, measures(found), asked.record("cheating"))
    title = "What cheating earns"
    write_findings(folder, "cheating", title, page(found), asked)
