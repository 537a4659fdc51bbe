"""Learning where theory stops: auctions of several items, and auctions set up from past bids.

First, items sold together. Learnt menus and learnt tariffs are truthful whatever was learnt, so
all that can go wrong is revenue, which is measured on fresh values beside what theory gives and
beside RegretNet, whose regret is searched for as strongly as theirs.

Second, the diffusion model as proposer. It sees quantiles of past bids and sets the weights and
reserves of a truthful auction of one item, for priors it has never met; the share of Myerson's
optimum that it earns is exact, up to a grid of quantiles.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from edgepact import pages
from edgepact.errors import check_choice
from edgepact.mechanisms.auction import affine_maximiser, tariffs
from edgepact.mechanisms.auction import problem as auction_design
from edgepact.mechanisms.auction.affine_maximiser import AffineMaximiser, Demand
from edgepact.mechanisms.auction.misreport import Auction, search
from edgepact.mechanisms.auction.problem import (
    AuctionDesign,
    Priors,
    Rules,
    Selling,
    plug_in,
    tables,
)
from edgepact.pages import percent, write_page
from edgepact.problem import flat_observation
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.learned_auctions import menus as auction_menus
from edgepact.solvers.learned_auctions import regretnet
from edgepact.solvers.learned_auctions import tariffs as tariff_learning
from edgepact.solvers.learned_auctions.menus import Draw
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver, train

COLOURS = {"learnt": "#0b6e4f", "RegretNet": "#d1495b", "theory": "#6c757d", "PPO": "#edae49"}

SEPARATELY = "items separately (Myerson)"
MENU = "menu of lotteries, learnt"
TARIFFS = "tariffs set by rivals, learnt"
REGRETNET = "RegretNet, small"
MYERSON = "Myerson's slopes and reserves"

SMOKED = ("1 bidder, 2 items, additive on [0, 1]", "2 bidders, 2 items, additive on [0, 1]")
"""Settings of a smoke run: each costs its own compilations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        seed: of everything.
        samples, samples_large: values on which revenue is measured, up to 2 and with 10 items.
        profiles: values at which lies are searched.
        steps, steps_large: gradient steps of menus and tariffs, up to 2 and with 10 items.
        menu, menu_large: allocations of the menus.
        regretnet_steps: gradient steps of RegretNet.
        restarts: random bids of the search for lies; it tries as many again near the truth.
        epochs: of GDM and PPO, 512 rounds each.
        seeds: of GDM and PPO.
        contexts: unseen priors on which they are compared.
        settings: of several items, by name; all if empty.
        learners: of the design, by name; all if empty.
        diffusion_steps: steps of the GDM.
    """

    seed: int = 0
    samples: int = 2_000_000
    samples_large: int = 2_000_000
    profiles: int = 200
    steps: int = 2500
    steps_large: int = 1500
    menu: int = 64
    menu_large: int = 512
    regretnet_steps: int = 3000
    restarts: int = 50
    epochs: int = 100
    seeds: int = 2
    contexts: int = 1000
    settings: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    diffusion_steps: int = 5

    def __post_init__(self) -> None:
        for name in self.settings:
            check_choice("auctions", "settings", name, tuple(SETTINGS))


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return Config()
    return Config(
        samples=20_000,
        samples_large=2_000,
        profiles=10,
        steps=20,
        steps_large=5,
        menu=8,
        menu_large=16,
        regretnet_steps=20,
        restarts=3,
        epochs=2,
        seeds=1,
        contexts=16,
        settings=SMOKED,
        learners=("GDM",),
        diffusion_steps=1,
    )


class Setting(NamedTuple):
    """Bidders with values uniform on an interval, and what is known of their revenue.

    Attributes:
        bidders, items: how many.
        low, high: the interval, credits.
        demand: additive or unit.
        known: revenue that theory gives, credits.
        optimum: the highest revenue of any truthful auction, credits; None if nobody knows.
    """

    bidders: int
    items: int
    low: float
    high: float
    demand: Demand
    known: dict[str, float]
    optimum: float | None = None

    @property
    def large(self) -> bool:
        """Whether it takes many steps and samples of their own."""
        return self.items > 2

    def draw(self, batch: int) -> Draw:
        """Draws values for training."""
        shape = (batch, self.bidders, self.items)
        return lambda key: jax.random.uniform(key, shape, minval=self.low, maxval=self.high)

    def values(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws values for measuring."""
        return rng.uniform(self.low, self.high, (count, self.bidders, self.items))


def best_for_one_item(bidders: int) -> float:
    """Revenue of a second-price auction with reserve 1/2, values uniform on [0, 1]."""
    first = 2.0 * bidders * (1.0 - 0.5 ** (bidders + 1)) / (bidders + 1)
    return first - (1.0 - 0.5**bidders)


SETTINGS: dict[str, Setting] = {
    "1 bidder, 2 items, additive on [0, 1]": Setting(
        1, 2, 0.0, 1.0, "additive", {SEPARATELY: 0.5}, 4.0 / 9.0 + 2.0 * math.sqrt(2.0) / 27.0
    ),
    "1 bidder, 2 items, unit demand on [2, 3]": Setting(1, 2, 2.0, 3.0, "unit", {}, 2.133132),
    "1 bidder, 2 items, unit demand on [0, 1]": Setting(
        1, 2, 0.0, 1.0, "unit", {}, 2.0 / (3.0 * math.sqrt(3.0))
    ),
    "2 bidders, 2 items, additive on [0, 1]": Setting(
        2, 2, 0.0, 1.0, "additive", {SEPARATELY: 2 * best_for_one_item(2)}
    ),
    "3 bidders, 10 items, additive on [0, 1]": Setting(
        3,
        10,
        0.0,
        1.0,
        "additive",
        {SEPARATELY: 10 * best_for_one_item(3), "all items in one bundle": 5.0},
    ),
}
"""The optimum of one additive bidder is by Manelli and Vincent (2006), those of unit demand by
Pavlov (2011)."""


class Measured(NamedTuple):
    """One auction in one setting.

    Attributes:
        revenue, error: mean and standard error, credits.
        regret, worst: mean and largest gain of a lie that the search found, credits.
        bound: what any lie could bring at most, by looking at every outcome; None if unknown.
        claimed: regret as the training itself measures it; None where there is none.
        lost: most that anybody lost by taking part, credits.
        sold: largest probability with which an item was sold.
    """

    revenue: float
    error: float
    regret: float
    worst: float
    bound: float | None
    claimed: float | None
    lost: float
    sold: float


def measure(
    auction: Auction,
    setting: Setting,
    config: Config,
    *,
    known: Callable[[np.ndarray], list[np.ndarray]] = lambda values: [],
    bound: Callable[[np.ndarray], np.ndarray] | None = None,
    claimed: float | None = None,
) -> Measured:
    """Revenue on fresh values, and the search for lies.

    The highest values and the revenue of selling items separately, both of known mean, are
    control variates.

    Args:
        auction: what is measured.
        setting: whose values.
        config: how many.
        known: lies to try at given values, beside those of the search.
        bound: what any bid could earn at given values.
        claimed: as in `Measured`.
    """
    rng = np.random.default_rng([config.seed, 1])
    count = config.samples_large if setting.large else config.samples
    batch = 2_000 if setting.large else 20_000
    seen, lost, sold, most = [], 0.0, 0.0, None
    for _ in range(max(1, count // batch)):
        values = setting.values(rng, batch)
        sale = auction(values)
        scaled = (values - setting.low) / (setting.high - setting.low)
        seen.append(np.column_stack([sale.payments.sum(1), *_controls(scaled)]))
        utility = sale.utility(values)
        lost = max(lost, float(-utility.min()))
        sold = max(sold, float(sale.allocation.sum(1).max()))
        if bound is not None and most is None:
            most = float((bound(values) - utility).max())
    revenue, error = _with_controls(np.concatenate(seen), setting)
    values = setting.values(rng, config.profiles)
    lies = search(
        auction,
        values,
        low=setting.low,
        high=setting.high,
        rng=rng,
        restarts=config.restarts,
        chains=2,
        refinements=25,
        known=known(values),
    )
    return Measured(revenue, error, lies.regret, lies.worst, most, claimed, max(lost, 0.0), sold)


def _controls(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over items: the highest value, and what it pays with a reserve of 1/2."""
    ranked = np.sort(scaled, axis=1)
    first = ranked[:, -1]
    second = ranked[:, -2] if scaled.shape[1] > 1 else np.zeros_like(first)
    return first.sum(1), np.where(first > 0.5, np.maximum(second, 0.5), 0.0).sum(1)


def _with_controls(seen: np.ndarray, setting: Setting) -> tuple[float, float]:
    bidders, items = setting.bidders, setting.items
    means = items * np.array([bidders / (bidders + 1), best_for_one_item(bidders)])
    off = seen[:, 1:] - means
    slope = np.linalg.lstsq(off - off.mean(0), seen[:, 0] - seen[:, 0].mean(), rcond=None)[0]
    corrected = seen[:, 0] - off @ slope
    return float(corrected.mean()), float(corrected.std(ddof=1) / math.sqrt(len(corrected)))


def learnt_menu(setting: Setting, config: Config, title: str) -> tuple[AffineMaximiser, Measured]:
    """Learns a menu and measures it."""
    course = auction_menus.Course(
        menu=config.menu_large if setting.large else config.menu,
        steps=config.steps_large if setting.large else config.steps,
        unit=0.5 * (setting.low + setting.high) if setting.low > 0 else setting.high,
        learning_rate=1e-2 if setting.bidders == 2 else 2e-2,
        hot=0.03 if setting.bidders == 2 else 0.05,
        cold=0.002,
    )
    with progress_bar(title) as advance:
        menu = auction_menus.learn_menu(
            setting.draw(256 if setting.large else 2048),
            jax.random.key(config.seed),
            demand=setting.demand,
            course=course,
            on_steps=advance,
        )

    def known(values: np.ndarray) -> list[np.ndarray]:
        return [
            auction_menus.soft_lies(
                menu, values, low=setting.low, high=setting.high, temperature=temperature
            )
            for temperature in (0.1 * course.unit, 0.01 * course.unit)
        ]

    measured = measure(
        lambda bids: affine_maximiser.sell(menu, bids),
        setting,
        config,
        known=known,
        bound=lambda values: affine_maximiser.most_by_any_bid(menu, values),
    )
    return menu, measured


def learnt_tariffs(setting: Setting, config: Config, title: str) -> Measured:
    """Learns tariffs and measures them."""
    course = tariff_learning.Course(steps=config.steps_large if setting.large else config.steps)
    with progress_bar(title) as advance:
        network = tariff_learning.learn_tariffs(
            setting.draw(1024), jax.random.key(config.seed), course=course, on_steps=advance
        )
    return measure(lambda bids: tariffs.sell(network.offer, bids), setting, config)


def small_regretnet(setting: Setting, config: Config, title: str) -> Measured:
    """Trains RegretNet; its regret twice, as its training measures it and by the search."""
    course = regretnet.Course(steps=config.regretnet_steps)
    with progress_bar(title) as advance:
        network = regretnet.train_regretnet(
            setting.draw(256), jax.random.key(config.seed), course=course, on_steps=advance
        )
    rng = np.random.default_rng([config.seed, 2])
    values = setting.values(rng, 10 * config.profiles)
    start = rng.uniform(0.0, course.unit, values.shape)
    truth = jnp.asarray(values, jnp.float32)
    lie = regretnet.lies(network, truth, jnp.asarray(start, jnp.float32), course.lies, course)
    claimed = float(jnp.mean(regretnet.gains(network, truth, lie)))

    def known(values: np.ndarray) -> list[np.ndarray]:
        return regretnet.known_lies(network, values, rng, restarts=10, steps=100, course=course)

    return measure(network.sell, setting, config, known=known, claimed=claimed)


def sell_several_items(config: Config) -> dict[str, dict[str, Measured]]:
    """All auctions of all settings."""
    found: dict[str, dict[str, Measured]] = {}
    for name in config.settings or SETTINGS:
        setting = SETTINGS[name]
        title = f"{setting.bidders} x {setting.items} {setting.demand}"
        found[name] = {MENU: learnt_menu(setting, config, f"menu, {title}")[1]}
        if setting.bidders > 1:
            found[name][TARIFFS] = learnt_tariffs(setting, config, f"tariffs, {title}")
        if setting.bidders == 2:
            found[name][REGRETNET] = small_regretnet(setting, config, f"RegretNet, {title}")
    return found


ANCHORS: dict[str, Priors] = {
    "uniform on [0, 1]": Priors.uniform(3, 0.0, 1.0),
    "exponential of mean 3": Priors.exponentials(3, 3.0),
    "irregular": Priors.pieces(3, 3.0, 5.0, 0.75),
}
"""Priors of MyersonNet: three bidders; the irregular one is uniform on [0, 3] with probability
3/4 and on [3, 8] else."""


class Proposals(NamedTuple):
    """What ways to set up an auction of one item earn, as shares of Myerson's optimum.

    Attributes:
        unseen: of each way, the share for every unseen prior, seeds x contexts.
        anchors: of each anchor, the optimum in credits and the shares of each way, their means.
        reserves: learnt by the GDM and exact, over the scale of the context, for every bidder.
    """

    unseen: dict[str, np.ndarray]
    anchors: dict[str, dict[str, float]]
    reserves: np.ndarray


def solvers(config: Config) -> dict[str, Solver]:
    """Learners of the design, with 512 rounds an epoch each."""
    return {
        "GDM": Diffusion(
            steps=config.diffusion_steps,
            games=32,
            updates=16,
            batch=256,
            memory=32_768,
            critic_rate=3e-3,
            learning_updates=16 * config.epochs,
            exploration_rounds=20_000.0,
        ),
        "PPO": PPO(
            games=64,
            rollout=8,
            passes=4,
            minibatches=4,
            learning_rate=1e-3,
            learning_epochs=config.epochs,
        ),
        "random": Random(rounds=512),
    }


def propose(config: Config) -> Proposals:
    """Trains every solver on priors drawn anew each round, and compares them on others."""
    problem = AuctionDesign()
    of_states, of_training, of_acting, of_anchors = jax.random.split(
        jax.random.key(config.seed + 1), 4
    )
    unseen = jax.vmap(problem.reset)(jax.random.split(of_states, config.contexts))
    copies = max(1, config.contexts // 10)
    batches = [unseen]
    for priors in ANCHORS.values():
        among = partial(problem.among, priors)
        batches.append(jax.vmap(among)(jax.random.split(of_anchors, copies)))
    # All in one batch: what costs most is to compile.
    states = jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)
    theory = jax.jit(lambda states: jax.lax.map(lambda s: tables(s.priors), states))(states)
    best = np.asarray(jax.jit(jax.vmap(auction_design.optimal))(theory))
    earned = jax.jit(jax.vmap(auction_design.expected))

    ways: dict[str, list[Callable[[Selling], Rules]]] = {}
    found = solvers(config)
    for name in config.learners:
        check_choice("auctions", "learners", name, tuple(found))
    for name, solver in found.items():
        if config.learners and name not in config.learners:
            continue
        # One seed after another: side by side, PPO's program never ended in this game.
        ways[name] = []
        for seed in range(config.seeds):
            with progress_bar(f"{name}, auction design, seed {seed}") as advance:

                def on_epochs(done: int, show: Callable[[int, int], None] = advance) -> None:
                    show(done, config.epochs)

                training = train(
                    solver,
                    problem,
                    jax.random.fold_in(of_training, seed),
                    seeds=1,
                    epochs=config.epochs if name != "random" else 1,
                    lanes=4,
                    on_epochs=on_epochs,
                )
            learner = jax.tree.map(lambda part: part[0], training.learner)
            ways[name].append(_way(problem, solver, learner, of_acting))
    ways["best price of each bidder's past bids"] = [plug_in]
    ways["second price, no reserve"] = [_second_price]
    ways[MYERSON] = [lambda state: problem.rules(state, problem.best_action(state))]
    rules = {name: [jax.jit(jax.vmap(way))(states) for way in same] for name, same in ways.items()}
    shares = {
        name: np.stack([np.asarray(earned(theory, each)) / best for each in same])
        for name, same in rules.items()
    }
    anchors = {}
    for number, name in enumerate(ANCHORS):
        first = config.contexts + number * copies
        anchors[name] = {"optimum": float(best[first])} | {
            way: float(each[:, first : first + copies].mean()) for way, each in shares.items()
        }
    exact, learnt = (
        np.ravel(
            (rules[way][0].reserve / jax.vmap(lambda s: s.scale)(states)[:, None])[
                : config.contexts
            ]
        )
        for way in (MYERSON, "GDM")
    )
    return Proposals(
        {name: each[:, : config.contexts] for name, each in shares.items()},
        anchors,
        np.stack([exact, learnt], axis=1),
    )


def _way(
    problem: AuctionDesign, solver: Solver, learner: Any, key: Any
) -> Callable[[Selling], Rules]:
    def rules(state: Selling) -> Rules:
        own = jax.random.fold_in(key, jax.lax.bitcast_convert_type(state.scale, jnp.int32))
        return problem.rules(state, solver.act(learner, own, flat_observation(problem, state)))

    return rules


def _second_price(state: Selling) -> Rules:
    nothing = jnp.zeros(state.seen.shape[0])
    return Rules(nothing, jnp.ones_like(nothing))


def measures(sold: dict[str, dict[str, Measured]], proposals: Proposals) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    several = {
        name: {
            "optimum": SETTINGS[name].optimum,
            "known": SETTINGS[name].known,
            "auctions": {way: each._asdict() for way, each in ways.items()},
        }
        for name, ways in sold.items()
    }
    unseen = {
        name: {
            "share_mean": float(each.mean()),
            "share_of_each_seed": each.mean(axis=1).tolist(),
            "share_5_percent_quantile": float(np.quantile(each, 0.05)),
            "share_worst": float(each.min()),
        }
        for name, each in proposals.unseen.items()
    }
    return {"several_items": several, "unseen_priors": unseen, "anchors": proposals.anchors}


def write_auctions(folder: Path, sold: dict[str, dict[str, Measured]]) -> None:
    """Writes `auctions.csv`, a line for every auction."""
    with (folder / "auctions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["setting", "auction", *Measured._fields])
        for name, ways in sold.items():
            for way, each in ways.items():
                rows.writerow([name, way, *each])


def write_shares(folder: Path, proposals: Proposals) -> None:
    """Writes `shares.csv`, a line for every way, seed and unseen prior."""
    with (folder / "shares.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["way", "seed", "context", "share"])
        for way, shares in proposals.unseen.items():
            for seed, context in np.ndindex(shares.shape):
                rows.writerow([way, seed, context, f"{shares[seed, context]:.6g}"])


def draw(sold: dict[str, dict[str, Measured]], proposals: Proposals) -> Figure:
    """Revenue against regret, learnt reserves against exact ones, shares of the optimum."""
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    revenue, reserves, shares = figure.subplots(1, 3)
    marks = {"2 bidders, 2 items": "o", "3 bidders, 10 items": "s"}
    for name, ways in sold.items():
        setting, short = SETTINGS[name], ", ".join(name.split(", ")[:2])
        if short not in marks:
            continue
        base = setting.known[SEPARATELY]
        for way, each in ways.items():
            revenue.errorbar(
                max(each.regret, 1e-17),
                100.0 * (each.revenue / base - 1.0),
                yerr=100.0 * each.error / base,
                marker=marks[short],
                color=COLOURS["RegretNet" if way == REGRETNET else "learnt"],
                linestyle="none",
            )
            revenue.annotate(
                f"{way.split(',')[0]}, {setting.bidders} x {setting.items}",
                (max(each.regret, 1e-17), 100.0 * (each.revenue / base - 1.0)),
                xytext=(-6 if way == REGRETNET else 6, 5),
                textcoords="offset points",
                ha="right" if way == REGRETNET else "left",
                fontsize=8,
            )
    revenue.axhline(0.0, color=COLOURS["theory"], linestyle=":", linewidth=1.0)
    revenue.set_xscale("log")
    revenue.set_xlim(5e-18, 1.0)
    revenue.set_xlabel("regret found, credits a bidder")
    revenue.set_ylabel("revenue above selling items separately, %")
    exact, learnt = proposals.reserves.T
    reserves.plot(exact, learnt, ".", color=COLOURS["learnt"], alpha=0.25, markersize=4)
    ends = [0.0, float(max(exact.max(), learnt.max()))]
    reserves.plot(ends, ends, color=COLOURS["theory"], linestyle=":")
    reserves.set_xlabel("Myerson's reserve over the mean past bid")
    reserves.set_ylabel("reserve that the GDM sets")
    names = list(proposals.unseen)
    shares.boxplot(
        [100.0 * proposals.unseen[name].ravel() for name in names],
        orientation="horizontal",
        tick_labels=names,
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": COLOURS["learnt"]},
    )
    shares.invert_yaxis()
    shares.set_xlabel("share of Myerson's optimum, %")
    for axes in (revenue, reserves, shares):
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def page(sold: dict[str, dict[str, Measured]], proposals: Proposals, config: Config) -> list[str]:
    """The findings in words and tables."""
    rows = []
    for name, ways in sold.items():
        setting = SETTINGS[name]
        if setting.optimum is not None:
            rows.append([name, "optimum (theory)", f"{setting.optimum:.6f}", "", "", "", ""])
        for of_what, amount in setting.known.items():
            rows.append([name, f"{of_what} (theory)", f"{amount:.4f}", "", "", "", ""])
        for way, each in ways.items():
            rows.append(
                [
                    name,
                    way,
                    f"{each.revenue:.5f} ± {each.error:.5f}",
                    percent(each.revenue / setting.optimum) if setting.optimum else "",
                    f"{each.regret:.1e}",
                    f"{each.worst:.1e}",
                    "" if each.claimed is None else f"{each.claimed:.1e}",
                ]
            )
    head = ["setting", "auction", "revenue", "% of optimum", "regret", "worst lie", "claimed"]
    unseen = [
        [
            name,
            percent(float(each.mean()), float(each.mean(0).std() / math.sqrt(each.shape[1]))),
            ", ".join(percent(float(x)) for x in each.mean(axis=1)),
            percent(float(np.quantile(each, 0.05))),
            percent(float(each.min())),
        ]
        for name, each in proposals.unseen.items()
    ]
    names = list(proposals.unseen)
    anchors = [
        [name, f"{found['optimum']:.4f}", *(percent(found[way]) for way in names)]
        for name, found in proposals.anchors.items()
    ]
    return [
        "![Revenue and regret; reserves; shares of the optimum](auctions.png)",
        "## Several items",
        "Revenue in credits on "
        f"{config.samples:,} fresh profiles ({config.samples_large:,} with ten items), after ± "
        "its standard error, with control variates of known mean. Regret is the mean gain of a "
        f"bidder's best lie at {config.profiles} profiles, found by one search for all: random "
        "bids, bids near the truth, what gradient ascent found, and pattern search from the "
        "best. *Claimed* is regret as RegretNet's own training measures it.",
        pages.table(head, rows),
        "Menus and tariffs are truthful by construction: what is found there is rounding. "
        "Revenue of RegretNet is not comparable with theirs, since its bidders would lie.",
        "## One item, set up from past bids",
        f"Three bidders, {config.contexts} priors that no learner met, "
        f"{config.epochs * 512:,} rounds of learning for each of {config.seeds} seeds. "
        "Shares of the revenue of Myerson's auction, which knows the priors; ways to set up an "
        f"auction see {AuctionDesign().past} past bids of each bidder, but for the last one, "
        "which knows the priors too and sets Myerson's own.",
        pages.table(["way", "share, %", "of each seed", "5 % quantile", "worst"], unseen),
        "Priors of the literature, shares in % of the optimum (in credits):",
        pages.table(["prior", "optimum", *names], anchors),
    ]


def run(folder: Path, smoke: bool) -> None:
    """Writes auctions.csv, shares.csv, auctions.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(smoke)
    sold = sell_several_items(config)
    write_auctions(folder, sold)
    proposals = propose(config)
    write_shares(folder, proposals)
    draw(sold, proposals).savefig(folder / "auctions.png", dpi=120)
    write_metrics(folder, config, measures(sold, proposals))
    title = "Auctions that are learnt and cannot be gamed"
    write_page(folder, "auctions", title, page(sold, proposals, config), smoke=smoke)
