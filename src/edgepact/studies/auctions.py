"""Learning where theory stops: auctions of several items, and auctions set up from past bids.

First, items sold together. Learnt menus and learnt tariffs are truthful whatever was learnt, so
all that can go wrong is revenue, which is measured on fresh values beside what theory gives, what
three numbers earn, a bound on what any auction could, and RegretNet, whose regret is searched for
as strongly as theirs.

Second, one item sold after past bids. The diffusion model generates distributions of values, and
Myerson's theory does the rest (`solvers.in_context.reserves`); its rivals are learners that see
quantiles of past bids and set weights and reserves themselves. The share of Myerson's optimum that
each earns, for priors it has never met, is exact up to a grid of quantiles. The ceiling is exact
Bayes told how priors are drawn. All are shown also where own past bids set no own reserve, and
where that is truthful over rounds.

Third, why they must not: the best lie over a horizon, for ways to learn reserves.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from edgepact import pages
from edgepact.errors import check_choice
from edgepact.mechanisms.auction import (
    affine_maximiser,
    learnt_reserves,
    revenue_program,
    tariffs,
)
from edgepact.mechanisms.auction import problem as auction_design
from edgepact.mechanisms.auction.affine_maximiser import Demand
from edgepact.mechanisms.auction.learnt_reserves import Reserves as Setter
from edgepact.mechanisms.auction.lies_over_rounds import BestLie, Lie, best_lie
from edgepact.mechanisms.auction.misreport import Auction, search
from edgepact.mechanisms.auction.problem import (
    AuctionDesign,
    Priors,
    Rules,
    Selling,
    Tables,
    by_score,
    lazily,
    leave_own_out,
    plug_in,
    tables,
)
from edgepact.mechanisms.auction.revenue_flow import flow_bound
from edgepact.pages import percent
from edgepact.palette import AMBER, BLUE, GREY, INK, PURPLE
from edgepact.problem import flat_observation
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context import reserves
from edgepact.solvers.in_context.bids import Bids
from edgepact.solvers.in_context.bids_training import (
    Course,
    broad_table,
    drawn_bids,
    train_generator,
    values_at,
)
from edgepact.solvers.in_context.reserves import Predicted, Reserves, reserve, virtual_of
from edgepact.solvers.learned_auctions import bayes, regretnet
from edgepact.solvers.learned_auctions import menus as auction_menus
from edgepact.solvers.learned_auctions import tariffs as tariff_learning
from edgepact.solvers.learned_auctions import three_numbers as few
from edgepact.solvers.learned_auctions.menus import Draw
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver
from edgepact.solvers.learners.training import train as learn
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import write_findings, write_picture
from edgepact.studies.spread import spread, stretches

BINS = 14
"""Of the histogram, each with as many past bids."""

OTHER_PAST = (20, 200)
"""Past bids of each bidder with priors of other forms."""

LOT = 0.01
"""Probabilities closer to 0 and 1 than this draw no lots."""

TRAINED = "reserves.npz"
"""Weights that `--train` leaves in the folder."""

CONTEXTS_AT_A_TIME = 25
"""Contexts of one process at a time."""

TRAINING_SEED = 0
"""Of the weights that ship."""

COLOURS = {"learnt": BLUE, "RegretNet": AMBER, "theory": INK}
BARS = (BLUE, AMBER, PURPLE, GREY)
ABOVE: dict[str, Any] = {"frameon": False, "loc": "lower right", "bbox_to_anchor": (1.0, 1.0)}
"""Place of a panel's legend: bars leave none inside it."""

SEPARATELY = "items separately (Myerson)"
MENU = "menu, learnt"
THREE_BOOSTS = "affine maximiser of three numbers"
TARIFFS = "tariffs set by rivals, learnt"
THREE_TARIFFS = "tariffs of three numbers"
REGRETNET = "RegretNet, small"
SECOND_PRICE = "second price, no reserve"
MYERSON = "Myerson's slopes and reserves"
GENERATED = "Myerson's auction of generated distributions"
HISTOGRAM = "Myerson's auction of a histogram of past bids"
BAYES = "Bayes told how priors are drawn"
BEST_PRICE = "best price of each bidder's past bids"
TELLING = (GENERATED, HISTOGRAM, BAYES)
"""Ways that see every past bid."""

Advance = Callable[[int, int], None]
"""Told how many steps are done, and how many there are."""

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
        fitted, fitted_large: values that three numbers are fitted to, up to 2 and with 10 items.
        cells: of the grid of the bound by a linear program, along an axis.
        flows: profiles on which the bound by a flow of types is estimated.
        horizons, blocks: over which lies are searched, and of 200 auctions each.
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
    fitted: int = 40_000
    fitted_large: int = 10_000
    cells: int = 20
    flows: int = 400_000
    horizons: int = 100
    blocks: int = 5
    epochs: int = field(default=100, metadata=size("epochs"))
    seeds: int = field(default=2, metadata=size("seeds"))
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
        fitted=500,
        fitted_large=200,
        cells=4,
        flows=2_000,
        horizons=4,
        blocks=2,
        epochs=2,
        seeds=1,
        contexts=16,
        settings=SMOKED,
        learners=("GDM",),
        diffusion_steps=1,
    )


SOLD_CPU_S, EPOCH_CPU_S, CONTEXT_CPU_S = 600.0, 3.0, 0.17
"""CPU seconds of all items sold together, of an epoch of one seed of all learners, and of one
unseen prior by all ways that see every past bid; recorded as in `durations`."""


def seconds(config: Config) -> float:
    """CPU seconds that the full settings of items and so many learners and priors take."""
    learners = EPOCH_CPU_S * config.epochs * config.seeds
    return SOLD_CPU_S + learners + CONTEXT_CPU_S * config.contexts


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
        lots: share of outcomes in which somebody gets something with a probability between
            `LOT` and 1 less that.
    """

    revenue: float
    error: float
    regret: float
    worst: float
    bound: float | None
    claimed: float | None
    lost: float
    sold: float
    lots: float


class Bound(NamedTuple):
    """What no auction earns in one setting, credits.

    Attributes:
        revenue: the bound.
        error: its standard error where it is estimated, 0 else.
        grid: what the grid of a linear program adds to it, estimated; 0 for the others.
        way: how it was found.
    """

    revenue: float
    error: float
    grid: float
    way: str


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
    seen, lots, lost, sold, most = [], 0.0, 0.0, 0.0, None
    batches = max(1, count // batch)
    for _ in range(batches):
        values = setting.values(rng, batch)
        sale = auction(values)
        scaled = (values - setting.low) / (setting.high - setting.low)
        seen.append(np.column_stack([sale.payments.sum(1), *_controls(scaled)]))
        utility = sale.utility(values)
        lost = max(lost, float(-utility.min()))
        sold = max(sold, float(sale.allocation.sum(1).max()))
        drawn = (sale.allocation > LOT) & (sale.allocation < 1.0 - LOT)
        lots += float(drawn.any(axis=(1, 2)).mean()) / batches
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
    lost = max(lost, 0.0)
    return Measured(revenue, error, lies.regret, lies.worst, most, claimed, lost, sold, lots)


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


def learnt_menu(setting: Setting, config: Config, on_steps: Advance) -> dict[str, Measured]:
    """Learns a menu and measures it."""
    course = auction_menus.Course(
        menu=config.menu_large if setting.large else config.menu,
        steps=config.steps_large if setting.large else config.steps,
        unit=0.5 * (setting.low + setting.high) if setting.low > 0 else setting.high,
        learning_rate=1e-2 if setting.bidders == 2 else 2e-2,
        hot=0.03 if setting.bidders == 2 else 0.05,
        cold=0.002,
    )
    menu = auction_menus.learn_menu(
        setting.draw(256 if setting.large else 2048),
        jax.random.key(config.seed),
        demand=setting.demand,
        course=course,
        on_steps=on_steps,
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
    return {MENU: measured}


def learnt_tariffs(setting: Setting, config: Config, on_steps: Advance) -> dict[str, Measured]:
    """Learns tariffs and measures them."""
    course = tariff_learning.Course(steps=config.steps_large if setting.large else config.steps)
    network = tariff_learning.learn_tariffs(
        setting.draw(1024), jax.random.key(config.seed), course=course, on_steps=on_steps
    )
    return {TARIFFS: measure(lambda bids: tariffs.sell(network.offer, bids), setting, config)}


def small_regretnet(setting: Setting, config: Config, on_steps: Advance) -> dict[str, Measured]:
    """Trains RegretNet; its regret twice, as its training measures it and by the search."""
    course = regretnet.Course(steps=config.regretnet_steps)
    network = regretnet.train_regretnet(
        setting.draw(256), jax.random.key(config.seed), course=course, on_steps=on_steps
    )
    rng = np.random.default_rng([config.seed, 2])
    values = setting.values(rng, 10 * config.profiles)
    start = rng.uniform(0.0, course.unit, values.shape)
    truth = jnp.asarray(values, jnp.float32)
    lie = regretnet.lies(network, truth, jnp.asarray(start, jnp.float32), course.lies, course)
    claimed = float(jnp.mean(regretnet.gains(network, truth, lie)))

    def known(values: np.ndarray) -> list[np.ndarray]:
        return regretnet.known_lies(network, values, rng, restarts=10, steps=100, course=course)

    return {REGRETNET: measure(network.sell, setting, config, known=known, claimed=claimed)}


def three_numbers(setting: Setting, config: Config, on_steps: Advance) -> dict[str, Measured]:
    """Fits auctions of three numbers on values of their own and measures them."""
    rng = np.random.default_rng([config.seed, 3])
    values = setting.values(rng, config.fitted_large if setting.large else config.fitted)
    low, high = setting.low, setting.high
    found = {}
    if setting.items == 2 and setting.demand == "additive":
        menu = few.maximiser_of(few.fit_maximiser(values), setting.bidders)
        found[THREE_BOOSTS] = measure(
            lambda bids: affine_maximiser.sell(menu, bids),
            setting,
            config,
            bound=lambda values: affine_maximiser.most_by_any_bid(menu, values),
        )
    offer = few.tariffs_of(few.fit_tariffs(values, low=low, high=high), low=low, high=high)
    found[THREE_TARIFFS] = measure(lambda bids: tariffs.sell(offer, bids), setting, config)
    return found


def bound_of(setting: Setting, config: Config) -> Bound | None:
    """What no auction earns; None if no bound is known."""
    bidders, items, low, high = setting[:4]
    if items <= revenue_program.ITEMS_MAX:
        found = revenue_program.revenue_bound(
            bidders, items, low=low, high=high, demand=setting.demand, cells=config.cells
        )
        return Bound(found.revenue, 0.0, found.grid_term, "linear program")
    if setting.demand == "unit":
        return None
    rng = np.random.default_rng([config.seed, 4])
    flow = flow_bound(bidders, items, low=low, high=high, samples=config.flows, rng=rng)
    return Bound(flow.revenue, flow.error, 0.0, "flow of types")


WAYS: dict[str, Callable[[Setting, Config, Advance], dict[str, Measured]]] = {
    "menu": learnt_menu,
    "tariffs": learnt_tariffs,
    "three numbers": three_numbers,
    "RegretNet": small_regretnet,
}
"""Ways to sell several items, each of which finds one auction or two."""


def _ways_of(setting: Setting) -> list[str]:
    met = {"menu": True, "RegretNet": setting.bidders == 2}
    return [way for way in WAYS if met.get(way, setting.bidders > 1)]


class Piece(NamedTuple):
    """What one process does at a time: one way in one setting.

    Attributes:
        config: of the study.
        setting, way: by name.
        alone: whether no other process works beside this one, so that it shows how far it is.
    """

    config: Config
    setting: str
    way: str
    alone: bool


def sell_piece(piece: Piece) -> dict[str, Measured]:
    """Finds the auctions of one way and measures them."""
    setting = SETTINGS[piece.setting]
    title = f"{piece.way}, {setting.bidders} x {setting.items} {setting.demand}"
    with progress_bar(title, enabled=piece.alone) as advance:
        return WAYS[piece.way](setting, piece.config, advance)


def sell_several_items(config: Config, *, workers: int = 1) -> dict[str, dict[str, Measured]]:
    """All auctions of all settings."""
    names = config.settings or tuple(SETTINGS)
    pieces = [
        Piece(config, name, way, workers == 1) for name in names for way in _ways_of(SETTINGS[name])
    ]
    pieces.sort(key=lambda piece: not SETTINGS[piece.setting].large)  # longest first
    with progress_bar(f"{len(pieces)} ways to sell items", enabled=workers > 1) as advance:
        measured = spread(sell_piece, pieces, workers=workers, on_piece=advance)
    found: dict[str, dict[str, Measured]] = {name: {} for name in names}
    for name in names:
        for piece, auctions in zip(pieces, measured, strict=True):
            if piece.setting == name:
                found[name] |= auctions
    return found


def bound_piece(piece: tuple[str, Config]) -> Bound | None:
    """What no auction of one setting earns."""
    name, config = piece
    return bound_of(SETTINGS[name], config)


ANCHORS: dict[str, Priors] = {
    "uniform on [0, 1]": Priors.uniform(3, 0.0, 1.0),
    "exponential of mean 3": Priors.exponentials(3, 3.0),
    "irregular": Priors.pieces(3, 3.0, 5.0, 0.75),
}
"""Priors of MyersonNet: three bidders; the irregular one is uniform on [0, 3] with probability
3/4 and on [3, 8] else."""


UNLIKE = "uniform on [0, 1], [0, 2] and [0, 3]"
"""Bidders with priors of their own, in the search for lies."""

SETTERS: dict[str, tuple[Setter, bool]] = {
    "own past bids": (learnt_reserves.own, False),
    "past bids of all, pooled": (learnt_reserves.pooled, False),
    "past bids of all others": (learnt_reserves.leave_own_out, False),
    "past bids of all others, lazy": (learnt_reserves.leave_own_out, True),
}
"""Ways to learn reserves, and whether only the highest bid may win."""


def lies_over_rounds(config: Config) -> dict[str, dict[str, BestLie]]:
    """The best lie of one bidder, of each prior and each way to learn reserves."""
    rng = np.random.default_rng([config.seed, 5])
    shape = (config.horizons, config.blocks, AuctionDesign().past, 3)
    found = {}
    for name, priors in ANCHORS.items():
        values = np.asarray(priors.value_at(jnp.asarray(rng.random(shape), jnp.float32)))
        found[name] = values.astype(float)
    found[UNLIKE] = rng.random(shape) * np.array([1.0, 2.0, 3.0])
    return {
        name: {way: best_lie(rule, values, lazy=lazy) for way, (rule, lazy) in SETTERS.items()}
        for name, values in found.items()
    }


class Proposals(NamedTuple):
    """What ways to set up an auction of one item earn, as shares of Myerson's optimum.

    Attributes:
        unseen: of each way, the share for every unseen prior, seeds x contexts.
        left_out: the same where own past bids set neither the own reserve nor the own weight;
            without ways to which past bids are nothing.
        lazy: the same where the highest bid alone may win, at a reserve that own past bids do
            not set.
        anchors: of each anchor, the optimum in credits and the shares of each way, their means.
        reserves: exact, and from generated distributions, over the scale of the context, for
            every bidder.
    """

    unseen: dict[str, np.ndarray]
    left_out: dict[str, np.ndarray]
    lazy: dict[str, np.ndarray]
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


def propose(config: Config, weights: Path = reserves.SHIPPED, *, workers: int = 1) -> Proposals:
    """Trains every learner on priors drawn anew each round, and compares all ways on others.

    Args:
        config: settings.
        weights: of the generator of distributions.
        workers: processes that share the work.
    """
    problem = AuctionDesign()
    of_states, of_acting, of_anchors = (_keys(config)[at] for at in (0, 2, 3))
    keys = jax.random.split(of_states, config.contexts)
    copies = max(1, config.contexts // 10)
    priors, of_past = jax.vmap(problem.draw)(keys)
    parts, keys_of_past = [priors], [of_past]
    for anchor in ANCHORS.values():
        parts.append(jax.tree.map(lambda part: jnp.repeat(part[None], copies, axis=0), anchor))
        keys_of_past.append(jax.random.split(of_anchors, copies))
    # All in one batch: what costs most is to compile.
    priors = jax.tree.map(lambda *each: jnp.concatenate(each), *parts)
    of_past = jnp.concatenate(keys_of_past)
    states = jax.vmap(problem.among)(priors, of_past)
    past = np.asarray(jax.jit(jax.vmap(problem.past_bids))(priors, of_past), float)
    theory = jax.jit(lambda states: jax.lax.map(lambda s: tables(s.priors), states))(states)
    best = np.asarray(jax.jit(jax.vmap(auction_design.optimal))(theory))
    earned = jax.jit(jax.vmap(auction_design.expected))

    ways = _trained(problem, config, of_acting, workers)
    ways[BEST_PRICE] = [plug_in]
    ways[SECOND_PRICE] = [_second_price]
    ways[MYERSON] = [lambda state: problem.rules(state, problem.best_action(state))]
    rules = {name: [jax.jit(jax.vmap(way))(states) for way in same] for name, same in ways.items()}
    shares = {
        name: np.stack([np.asarray(earned(theory, each)) / best for each in same])
        for name, same in rules.items()
    }
    left_out, sold_lazily = {}, {}
    for name in ways:
        if name in (MYERSON, SECOND_PRICE):
            continue
        without = [jax.jit(jax.vmap(partial(leave_own_out, way)))(states) for way in ways[name]]
        left_out[name] = np.stack([np.asarray(earned(theory, each)) / best for each in without])
        sold_lazily[name] = np.stack(
            [np.asarray(_all_lazily(theory, each.reserve)) / best for each in without]
        )
    told = _of_past_bids(past, theory, best, config, weights, workers)
    shares |= {name: each.told for name, each in told.items()}
    left_out |= {name: each.left_out for name, each in told.items()}
    sold_lazily |= {name: each.lazy for name, each in told.items()}
    anchors = {}
    for number, name in enumerate(ANCHORS):
        first = config.contexts + number * copies
        anchors[name] = {"optimum": float(best[first])} | {
            way: float(each[:, first : first + copies].mean()) for way, each in shares.items()
        }
    scale = np.asarray(jax.vmap(lambda s: s.scale)(states))[: config.contexts, None]
    exact = np.asarray(rules[MYERSON][0].reserve)[: config.contexts]
    found = np.stack([exact, told[GENERATED].reserves[: config.contexts]], axis=-1)
    measured = {name: each[:, : config.contexts] for name, each in shares.items()}
    # The ceiling stands before what knows the priors.
    last = {MYERSON: measured.pop(MYERSON)}
    return Proposals(
        measured | last,
        {name: each[:, : config.contexts] for name, each in left_out.items()},
        {name: each[:, : config.contexts] for name, each in sold_lazily.items()},
        anchors,
        (found / scale[..., None]).reshape(-1, 2),
    )


def _keys(config: Config) -> jax.Array:
    """Of states, of training, of acting and of anchors."""
    return jax.random.split(jax.random.key(config.seed + 1), 4)


class Lesson(NamedTuple):
    """What one process does at a time: a learner of one seed, as in `Piece`."""

    config: Config
    learner: str
    seed: int
    alone: bool


def learn_piece(lesson: Lesson) -> Any:
    """What a learner of the design has become, as arrays of NumPy."""
    config, name, seed, alone = lesson
    epochs = config.epochs if name != "random" else 1
    title = f"{name}, auction design, seed {seed}"
    with progress_bar(title, enabled=alone) as advance:
        training = learn(
            solvers(config)[name],
            AuctionDesign(),
            jax.random.fold_in(_keys(config)[1], seed),
            seeds=1,
            epochs=epochs,
            lanes=4,
            on_epochs=lambda done: advance(done, epochs),
        )
    return jax.tree.map(lambda part: np.asarray(part[0]), training.learner)


def _trained(
    problem: AuctionDesign, config: Config, of_acting: jax.Array, workers: int
) -> dict[str, list[Callable[[Selling], Rules]]]:
    """The rules that each learner sets, one of every seed, by its name."""
    found = solvers(config)
    for name in config.learners:
        check_choice("auctions", "learners", name, tuple(found))
    names = [name for name in found if not config.learners or name in config.learners]
    # Each seed by itself: in one program side by side, PPO never ended in this game.
    lessons = [
        Lesson(config, name, seed, workers == 1) for name in names for seed in range(config.seeds)
    ]
    with progress_bar(f"{len(lessons)} learners", enabled=workers > 1) as advance:
        learners = spread(learn_piece, lessons, workers=workers, on_piece=advance)
    ways: dict[str, list[Callable[[Selling], Rules]]] = {name: [] for name in names}
    for lesson, learner in zip(lessons, learners, strict=True):
        ways[lesson.learner].append(_way(problem, found[lesson.learner], learner, of_acting))
    return ways


_by_scores, _all_lazily = jax.jit(jax.vmap(by_score)), jax.jit(jax.vmap(lazily))


class Told(NamedTuple):
    """A way that sees every past bid, in all contexts.

    Attributes:
        told, left_out, lazy: shares of Myerson's optimum, as in `Proposals`; 1 x contexts.
        reserves: with own past bids, credits, contexts x bidders.
    """

    told: np.ndarray
    left_out: np.ndarray
    lazy: np.ndarray
    reserves: np.ndarray


Beliefs = tuple[list[Predicted], list[Predicted]]
"""What is thought of each bidder's next value, after all past bids and after all others'."""


class Contexts(NamedTuple):
    """What one process does at a time: what past bids of some contexts tell.

    Attributes:
        weights: of the generator of distributions.
        seed: of the first context; each has the next.
        past: bids, contexts x past x bidders, credits.
        values: of the grid of each bidder, contexts x bidders x values, credits.
    """

    weights: Path
    seed: int
    past: np.ndarray
    values: np.ndarray


@cache
def _decider(weights: Path) -> Reserves:
    """Once a process."""
    return Reserves(reserves.load(weights))


def _generated(weights: Path, bids: np.ndarray, seed: int) -> Beliefs:
    evidence, decider = Bids(past=tuple(bids.T)), _decider(weights)
    return decider.beliefs(evidence, seed), decider.beliefs(evidence, seed, own_left_out=True)


def tell_piece(contexts: Contexts) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Virtual values and reserves by each way, from all past bids and from those of others."""
    past, values = contexts.past, contexts.values
    score = {name: np.empty((2, *values.shape)) for name in TELLING}
    least = {name: np.empty((2, *values.shape[:2])) for name in TELLING}
    for context, bids in enumerate(past):
        told: dict[str, Beliefs] = {
            GENERATED: _generated(contexts.weights, bids, contexts.seed + context),
            HISTOGRAM: _by_histogram(bids),
            BAYES: _by_bayes(bids),
        }
        for name, both in told.items():
            for number, beliefs in enumerate(both):
                for bidder, belief in enumerate(beliefs):
                    at = number, context, bidder
                    score[name][at] = virtual_of(belief).at(values[context, bidder])
                    least[name][at] = reserve(belief)
    return {name: (score[name], least[name]) for name in TELLING}


def _of_past_bids(
    past: np.ndarray, known: Tables, best: np.ndarray, config: Config, weights: Path, workers: int
) -> dict[str, Told]:
    """Shares of the ways that see every past bid."""
    values = np.asarray(known.value, float)
    some = [
        Contexts(weights, config.seed + each.start, past[each], values[each])
        for each in stretches(len(past), CONTEXTS_AT_A_TIME)
    ]
    with progress_bar("ways that see every past bid") as advance:
        parts = spread(tell_piece, some, workers=workers, on_piece=advance)

    def share(way: Any, each: np.ndarray) -> np.ndarray:
        return np.asarray(way(known, jnp.asarray(each, jnp.float32)) / best)[None]

    found = {}
    for name in TELLING:
        score, least = (np.concatenate([part[name][at] for part in parts], 1) for at in (0, 1))
        found[name] = Told(
            share(_by_scores, score[0]),
            share(_by_scores, score[1]),
            share(_all_lazily, least[1]),
            least[0],
        )
    return found


class OtherForms(NamedTuple):
    """Shares of Myerson's optimum on priors of other forms than `AuctionDesign` draws.

    Attributes:
        past: past bids of each bidder.
        shares: of each way, of every prior.
    """

    past: int
    shares: dict[str, np.ndarray]


class Forms(NamedTuple):
    """What one process does at a time: priors of other forms, of so many past bids; as `Piece`."""

    config: Config
    weights: Path
    past: int
    alone: bool


def on_other_forms(
    config: Config, weights: Path = reserves.SHIPPED, *, workers: int = 1
) -> list[OtherForms]:
    """Ways that need no learner of `AuctionDesign`, on distributions of many forms and none.

    Args:
        config: settings.
        weights: of the generator of distributions.
        workers: processes that share the work.
    """
    pieces = [Forms(config, weights, past, workers == 1) for past in OTHER_PAST]
    with progress_bar("priors of other forms", enabled=workers > 1) as advance:
        return spread(forms_piece, pieces, workers=workers, on_piece=advance)


def forms_piece(forms: Forms) -> OtherForms:
    """All priors of other forms, of so many past bids."""
    config, past = forms.config, forms.past
    rng = np.random.default_rng([config.seed, 6, past])
    decider, known = _decider(forms.weights), list[np.ndarray]()
    score: dict[str, list[np.ndarray]] = {name: [] for name in (GENERATED, HISTOGRAM, BEST_PRICE)}
    title = f"priors of other forms, {past} past bids"
    with progress_bar(title, enabled=forms.alone) as advance:
        for at in range(config.contexts):
            priors = [broad_table(rng) for _ in range(3)]
            priors = [priors[0]] * 3 if rng.uniform() < 0.5 else priors
            bids = [drawn_bids(rng, each, past) for each in priors]
            theory = _tabulated(priors)
            value = theory[0]
            told = {
                GENERATED: decider.beliefs(Bids(past=tuple(bids)), config.seed + at),
                HISTOGRAM: _by_histogram(np.array(bids).T)[0],
            }
            for name, beliefs in told.items():
                each = [virtual_of(b).at(v) for b, v in zip(beliefs, value, strict=True)]
                score[name].append(np.array(each))
            price = learnt_reserves.best_price(np.array(bids))
            score[BEST_PRICE].append(value - price[:, None])
            known.append(theory)
            advance(at + 1, config.contexts)
    stacked = Tables(*jnp.asarray(np.stack(known, axis=1), jnp.float32))
    best = np.asarray(jax.vmap(auction_design.optimal)(stacked))
    shares = {
        name: np.asarray(_by_scores(stacked, jnp.asarray(np.array(each), jnp.float32))) / best
        for name, each in score.items()
    }
    return OtherForms(past, shares)


def _tabulated(priors: list[np.ndarray], cells: int = 256) -> np.ndarray:
    """Parts of `Tables` of distributions given by tables, 3 x bidders x cells."""
    edges = np.linspace(0.0, 1.0, cells + 1)
    value = np.array([values_at(each, 0.5 * (edges[:-1] + edges[1:])) for each in priors])
    ends = np.array([values_at(each, np.minimum(edges, 1.0 - 1e-7)) for each in priors])
    posted = np.where(edges < 1.0, (1.0 - edges) * ends, 0.0)
    virtual = cells * (posted[:, :-1] - posted[:, 1:])
    return np.stack([value, virtual, [isotonic_regression(each).x for each in virtual]])


def _by_bayes(past: np.ndarray) -> Beliefs:
    tails = bayes.tails(past)
    told, left_out = (
        [Predicted(bayes.GRID, tail) for tail in each] for each in (tails.told, tails.left_out)
    )
    return told, left_out


def _by_histogram(past: np.ndarray) -> Beliefs:
    def of(bids: np.ndarray) -> Predicted:
        level = np.linspace(0.0, 1.0, BINS + 1)
        ends = np.quantile(bids, level)
        # Values go on a little below the least bid and above the highest.
        second = np.partition(bids, -2)[-2]
        ends[0] = max(ends[0] - (ends[-1] - ends[0]) / len(bids), 0.0)
        ends[-1] += ends[-1] - second
        return Predicted(ends, 1.0 - level)

    others = [np.delete(past, bidder, axis=1).ravel() for bidder in range(past.shape[1])]
    return [of(bids) for bids in past.T], [of(bids) for bids in others]


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


def measures(
    sold: dict[str, dict[str, Measured]],
    bounds: dict[str, Bound | None],
    proposals: Proposals,
    others: list[OtherForms],
    lies: dict[str, dict[str, BestLie]],
) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    several = {
        name: {
            "optimum": SETTINGS[name].optimum,
            "known": SETTINGS[name].known,
            "bound": bound._asdict() if (bound := bounds[name]) else None,
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
            "share_left_out": float(proposals.left_out[name].mean())
            if name in proposals.left_out
            else None,
            "share_lazy": float(proposals.lazy[name].mean()) if name in proposals.lazy else None,
        }
        for name, each in proposals.unseen.items()
    }
    over_rounds = {
        prior: {way: each._asdict() | {"lie": str(each.lie)} for way, each in ways.items()}
        for prior, ways in lies.items()
    }
    return {
        "several_items": several,
        "unseen_priors": unseen,
        "gap_closed": dict(zip(("share", "error"), closed(proposals), strict=True))
        if "PPO" in proposals.unseen
        else None,
        "other_forms": {
            str(each.past): {name: float(s.mean()) for name, s in each.shares.items()}
            for each in others
        },
        "anchors": proposals.anchors,
        "lies_over_rounds": over_rounds,
    }


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
        rows.writerow(["way", "seed", "context", "share", "share_left_out", "share_lazy"])
        for way, shares in proposals.unseen.items():
            others = proposals.left_out.get(way), proposals.lazy.get(way)
            for at in np.ndindex(shares.shape):
                cells = ["" if each is None else f"{each[at]:.6g}" for each in others]
                rows.writerow([way, *at, f"{shares[at]:.6g}", *cells])


def draw(
    sold: dict[str, dict[str, Measured]],
    bounds: dict[str, Bound | None],
    proposals: Proposals,
    lies: dict[str, dict[str, BestLie]],
) -> Figure:
    """Revenue up to its bound, learnt reserves and exact ones, shares, and the best lies."""
    figure = Figure(figsize=(13, 10.5), layout="constrained")
    (revenue, shares), (learned, lied) = figure.subplots(2, 2)
    _draw_revenue(revenue, sold, bounds)
    exact, learnt = proposals.reserves.T
    learned.plot(exact, learnt, ".", color=COLOURS["learnt"], alpha=0.25, markersize=4)
    ends = [0.0, float(max(exact.max(), learnt.max()))]
    learned.plot(ends, ends, color=COLOURS["theory"], linestyle=":")
    learned.set_xlabel("Myerson's reserve over the mean past bid")
    learned.set_ylabel("reserve from generated distributions")
    labels, boxes = [], []
    for name, each in proposals.unseen.items():
        labels.append(name)
        boxes.append(100.0 * each.ravel())
        if name in proposals.left_out:
            labels.append("... own past bids left out")
            boxes.append(100.0 * proposals.left_out[name].ravel())
    shares.boxplot(
        boxes,
        orientation="horizontal",
        tick_labels=labels,
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": COLOURS["learnt"]},
    )
    shares.invert_yaxis()
    shares.set_xlabel("share of Myerson's optimum, %")
    height = 0.8 / len(lies)
    hatches = ("", "//", "..", "xx")
    for number, (prior, ways) in enumerate(lies.items()):
        lied.barh(
            np.arange(len(ways)) + height * (number - 0.5 * (len(lies) - 1)),
            [100.0 * each.gain for each in ways.values()],
            height,
            xerr=[100.0 * each.error for each in ways.values()],
            label=prior,
            color=BARS[number % len(BARS)],
            hatch=hatches[number % len(hatches)],
            edgecolor="white",
        )
    lied.set_yticks(np.arange(len(SETTERS)), list(SETTERS))
    lied.invert_yaxis()
    lied.axvline(0.0, color=COLOURS["theory"], linewidth=1.0)
    lied.set_xlabel("gain of the best lie over the horizon,\n% of what truth earns")
    lied.legend(**ABOVE, ncols=2)
    for axes in (revenue, learned, shares, lied):
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_revenue(
    axes: Axes, sold: dict[str, dict[str, Measured]], bounds: dict[str, Bound | None]
) -> None:
    """Revenue above selling items separately, and how far it could reach at most."""
    names: list[str] = []
    marks = {"RegretNet": "X", "learnt": "o", "theory": "s"}
    for name, ways in sold.items():
        setting = SETTINGS[name]
        if SEPARATELY not in setting.known or setting.bidders == 1:
            continue
        base = setting.known[SEPARATELY]
        first = len(names)
        for way, each in ways.items():
            kind = "theory" if way in (THREE_BOOSTS, THREE_TARIFFS) else "learnt"
            kind = "RegretNet" if way == REGRETNET else kind
            axes.errorbar(
                100.0 * (each.revenue / base - 1.0),
                len(names),
                xerr=100.0 * each.error / base,
                marker=marks[kind],
                color=COLOURS[kind],
                linestyle="none",
            )
            regret = f" (regret {each.regret:.0e})" if way == REGRETNET else ""
            names.append(f"{setting.bidders} x {setting.items}: {way}{regret}")
        bound = bounds[name]
        if bound is not None:
            most = 100.0 * (bound.revenue / base - 1.0)
            reach = (first - 0.4, len(names) - 0.6)
            axes.vlines(most, *reach, color=INK, linestyle="--", label="no auction earns more")
    axes.axvline(0.0, color=COLOURS["theory"], linestyle=":", linewidth=1.0)
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("revenue above selling items separately, %")
    # Each setting has its bound; one of them is named.
    axes.legend(handles=axes.get_legend_handles_labels()[0][:1], **ABOVE)


def page(
    sold: dict[str, dict[str, Measured]],
    bounds: dict[str, Bound | None],
    proposals: Proposals,
    others: list[OtherForms],
    lies: dict[str, dict[str, BestLie]],
    config: Config,
) -> list[str]:
    """The findings in words and tables."""
    return [
        "![Revenue and bounds; shares of the optimum; reserves; lies over rounds](auctions.png)",
        *_page_of_items(sold, bounds, config),
        *_page_of_proposals(proposals, config),
        *_page_of_other_forms(others, config),
        *_page_of_lies(lies, config),
    ]


def _page_of_items(
    sold: dict[str, dict[str, Measured]], bounds: dict[str, Bound | None], config: Config
) -> list[str]:
    rows = []
    for name, ways in sold.items():
        setting, bound = SETTINGS[name], bounds[name]
        if bound is None:
            rows.append([name, "no auction earns more than", "none known", *[""] * 6])
        else:
            found = f"{bound.revenue:.4f}"
            found += f" ± {bound.error:.4f}" if bound.error > 0.0 else ""
            rows.append([name, f"no auction earns more than ({bound.way})", found, *[""] * 6])
        theory = {} if setting.optimum is None else {"optimum": setting.optimum}
        for of_what, amount in (theory | setting.known).items():
            of_bound = "" if bound is None else percent(amount / bound.revenue)
            rows.append([name, f"{of_what} (theory)", f"{amount:.6f}", "", of_bound, *[""] * 4])
        for way, each in ways.items():
            cheated = way == REGRETNET
            rows.append(
                [
                    name,
                    way,
                    f"{each.revenue:.5f} ± {each.error:.5f}",
                    percent(each.revenue / setting.optimum) if setting.optimum else "",
                    "" if bound is None or cheated else percent(each.revenue / bound.revenue),
                    f"{100.0 * each.lots:.1f}",
                    f"{each.regret:.1e}",
                    f"{each.worst:.1e}",
                    "" if each.claimed is None else f"{each.claimed:.1e}",
                ]
            )
    head = ["setting", "auction", "revenue", "% of optimum", "% of bound", "by lot, %"]
    head += ["regret", "worst lie", "claimed"]
    return [
        "## Several items",
        "Revenue in credits on "
        f"{config.samples:,} fresh profiles ({config.samples_large:,} with ten items), after ± "
        "its standard error, with control variates of known mean. *By lot* is the share of "
        f"outcomes in which anybody gets anything with a probability between {LOT:g} and "
        f"{1.0 - LOT:g}. Regret is the mean gain of a "
        f"bidder's best lie at {config.profiles} profiles, found by one search for all: random "
        "bids, bids near the truth, what gradient ascent found, and pattern search from the "
        "best. *Claimed* is regret as RegretNet's own training measures it.",
        pages.table(head, rows),
        "Menus and tariffs are truthful by construction: what is found there is rounding. "
        "Revenue of RegretNet is not comparable with theirs, since its bidders would lie.",
        *_lots(sold),
        *_compared(sold),
        *_bounded(bounds, config),
    ]


def _lots(sold: dict[str, dict[str, Measured]]) -> list[str]:
    """Which menus of lotteries are none, and which draw lots for nothing."""
    never, some = [], []
    for name, ways in sold.items():
        menu, rival = ways[MENU], ways.get(THREE_BOOSTS)
        if menu.lots < 1e-3:
            never.append(name)
            continue
        said = f"{name}, {100.0 * menu.lots:.1f} %"
        if rival is not None:
            error = 2.0 * math.hypot(menu.error, rival.error)
            if menu.revenue - rival.revenue <= error:
                said += (
                    ", which bring nothing: three numbers that draw no lots earn as much, within "
                    f"two standard errors ({error:.4f})"
                )
        some.append(said)
    parts = []
    if never:
        parts.append(
            "A menu may hold lotteries. Where less than one outcome in a thousand is drawn by lot "
            "it is in truth a deterministic auction, whatever its form: " + "; ".join(never) + "."
        )
    if some:
        parts.append("Outcomes that are drawn by lot by the other menus: " + "; ".join(some) + ".")
    return parts


def _compared(sold: dict[str, dict[str, Measured]]) -> list[str]:
    """Who is behind items sold separately, and behind three numbers."""
    said = []
    for name, ways in sold.items():
        separately = SETTINGS[name].known.get(SEPARATELY)
        for way, each in ways.items():
            if way == REGRETNET or separately is None:
                continue
            if each.revenue + 2.0 * each.error < separately:
                said.append(
                    f"{name}: *{way}* earns {each.revenue:.3f}, **less than items sold "
                    f"separately by Myerson's auction, {separately:.4f}**, which takes no "
                    "learning."
                )
        for learnt, few_numbers in ((MENU, THREE_BOOSTS), (TARIFFS, THREE_TARIFFS)):
            if learnt in ways and few_numbers in ways:
                share = ways[few_numbers].revenue / ways[learnt].revenue
                said.append(
                    f"{name}: *{few_numbers}* earns {percent(share)} % of *{learnt}*, "
                    f"{ways[few_numbers].revenue:.4f} of {ways[learnt].revenue:.4f}."
                )
    return said


def _bounded(bounds: dict[str, Bound | None], config: Config) -> list[str]:
    said = []
    terms = [
        f"{name}, {bound.grid:.4f}"
        for name, bound in bounds.items()
        if bound is not None and bound.way == "linear program"
    ]
    if terms:
        said.append(
            "Bounds of the linear program hold for any auction in which truth is an "
            f"equilibrium, on a grid of {config.cells} cells an axis. What the grid adds is "
            "contained in them, so that they are bounds however coarse it is; estimated from a "
            "grid half as fine it is, in credits: " + "; ".join(terms) + "."
        )
    flows = [
        f"{name}: {bound.revenue - 1.96 * bound.error:.3f} to "
        f"{bound.revenue + 1.96 * bound.error:.3f}"
        for name, bound in bounds.items()
        if bound is not None and bound.way == "flow of types"
    ]
    if flows:
        said.append(
            "Bounds by a flow of types (the duality of Cai, Devanur and Weinberg, along rays) are "
            f"estimated on {config.flows:,} profiles; with 95 % confidence they lie in: "
            + "; ".join(flows)
            + ". They are not tight: nobody knows how much of the rest can be earned."
        )
    return said


def _page_of_proposals(proposals: Proposals, config: Config) -> list[str]:
    unseen = [
        [
            name,
            _share(each),
            _share(proposals.left_out[name]) if name in proposals.left_out else "",
            _share(proposals.lazy[name]) if name in proposals.lazy else "",
            ", ".join(percent(float(x)) for x in each.mean(axis=1)),
            percent(float(np.quantile(each, 0.05))),
            percent(float(each.min())),
        ]
        for name, each in proposals.unseen.items()
    ]
    names = [name for name in proposals.unseen if name != BAYES]
    anchors = [
        [name, f"{found['optimum']:.4f}", *(percent(found[way]) for way in names)]
        for name, found in proposals.anchors.items()
    ]
    head = ["way", "share, %", "own past bids left out, %", "and sold lazily, %"]
    head += ["of each seed", "5 % quantile", "worst"]
    return [
        "## One item, set up from past bids",
        f"Three bidders, {config.contexts} priors that no learner met, "
        f"{config.epochs * 512:,} rounds of learning for "
        f"{'one seed' if config.seeds == 1 else f'each of {config.seeds} seeds'}. "
        "Shares of the revenue of Myerson's auction, which knows the priors; ways to set up an "
        f"auction see {AuctionDesign().past} past bids of each bidder, but for the last one, "
        f"which knows the priors too and sets Myerson's own slopes and reserves. *{BAYES}* is the "
        "ceiling: it is told the distribution that priors are drawn from, sees every past bid "
        "and not quantiles alone, and is not bound to affine scores, which the last row is. "
        f"*{HISTOGRAM}* sees every past bid, too, and knows nothing else: each bidder's in {BINS} "
        f"bins of as many bids, virtual values ironed. *{GENERATED}* draws {reserves.SAMPLES} "
        "distributions of each bidder's values with the diffusion model, trained by the "
        "denoising loss alone on half such priors, half many others, and irons their mean.",
        pages.table(head, unseen),
        *_gaps(proposals),
        "In the column *own past bids left out* a bidder's reserve and weight are what the same "
        "way says if the mean of the others' quantiles stands where the bidder's own stood "
        "(ways that see every past bid: if they see the others' bids alone). There a bidder "
        "that comes again has no reason to bid low. Its price is high here, since in half of the "
        "rounds bidders have priors of their own, of which others' bids say nothing; Bayes shows "
        "how much of that no rule can avoid. Scores that are learnt from others alone then "
        "compare bidders badly: who drives others' bids up is thought to value little itself. So "
        "*and sold lazily*, the highest bid alone may win, at that reserve at least, which leaves "
        "nothing to compare. That no lie pays over rounds is then a theorem, and this is how "
        "`edgepact quote` sells to bidders that come again.",
        "Priors of the literature, shares in % of the optimum (in credits); two of them Bayes "
        "would hold impossible:",
        pages.table(["prior", "optimum", *names], anchors),
    ]


def _page_of_other_forms(others: list[OtherForms], config: Config) -> list[str]:
    names = list(others[0].shares)
    rows = [
        [name, *(percent(float(s.mean()), _error(s)) for s in (o.shares[name] for o in others))]
        for name in names
    ]
    head = ["way", *(f"{each.past} past bids, %" for each in others)]
    return [
        "Priors of other forms, half of them shared by the bidders: Weibull, lognormal, gamma and "
        "beta distributions, steps, and densities that rise and fall at random "
        f"(`bids_training.broad_table`, {config.contexts} fresh draws); shares of Myerson's "
        "optimum after few past bids of each bidder, and many:",
        pages.table(head, rows),
    ]


def _error(each: np.ndarray) -> float:
    return float(each.std(ddof=1)) / math.sqrt(len(each))


def _gaps(proposals: Proposals) -> list[str]:
    """Who is how far ahead of PPO, up to the ceiling, and where older learners still win."""
    older = [name for name in ("GDM", "PPO") if name in proposals.unseen]
    said = []
    if "PPO" in proposals.unseen:
        base = proposals.unseen["PPO"].mean(axis=0)
        ahead = {
            name: proposals.unseen[name].mean(axis=0) - base
            for name in ("GDM", HISTOGRAM, GENERATED, BAYES)
            if name in proposals.unseen
        }
        listed = ", ".join(
            f"{name} {pages.points(float(each.mean()))} ± "
            f"{100.0 * float(each.std(ddof=1)) / math.sqrt(len(each)):.3f}"
            for name, each in ahead.items()
        )
        said.append(
            f"Points ahead of PPO, prior by prior: {listed}. The last is as far as any way can "
            f"get; *{GENERATED}* closes {percent(*closed(proposals))} % of the gap."
        )
    wins = [
        f"{name} on {anchor}"
        for anchor, found in proposals.anchors.items()
        for name in older
        if found[name] > found[GENERATED]
    ]
    columns = {
        "unseen priors": proposals.unseen,
        "unseen priors, own past bids left out": proposals.left_out,
        "unseen priors, own past bids left out, sold lazily": proposals.lazy,
    }
    level = []
    for of_what, column in columns.items():
        for name in older:
            ahead = column[name].mean(axis=0) - column[GENERATED].mean(axis=0)
            if ahead.mean() > 0.0:
                wins.append(f"{name} on {of_what}")
            elif ahead.mean() > -2.0 * _error(ahead):
                level.append(f"{name} on {of_what}")
    said.append(
        f"Learners that set weights and reserves themselves ({', '.join(older)}) stand here as "
        f"rivals alone. Where they earn more than generated distributions: {_listed(wins)}. "
        f"Where not less by two standard errors: {_listed(level)}."
    )
    return said


def _listed(words: list[str]) -> str:
    return "; ".join(words) if words else "nowhere"


def closed(proposals: Proposals) -> tuple[float, float]:
    """The share of the gap from PPO to Bayes that generated distributions close, and its error.

    The standard error is that of a ratio of means over the same priors.
    """
    base = proposals.unseen["PPO"].mean(axis=0)
    gained = proposals.unseen[GENERATED].mean(axis=0) - base
    gap = proposals.unseen[BAYES].mean(axis=0) - base
    ratio = float(gained.mean() / gap.mean())
    return ratio, _error(gained - ratio * gap) / abs(float(gap.mean()))


def _share(each: np.ndarray) -> str:
    return percent(float(each.mean()), float(each.mean(0).std() / math.sqrt(each.shape[1])))


def _page_of_lies(lies: dict[str, dict[str, BestLie]], config: Config) -> list[str]:
    rows = [
        [
            prior,
            way,
            "none pays" if each.lie == Lie() else str(each.lie),
            percent(each.gain, each.error),
            f"{each.revenue:.4f}",
            f"{each.revenue_lied:.4f}",
        ]
        for prior, ways in lies.items()
        for way, each in ways.items()
    ]
    head = ["prior", "reserves are set by", "best lie", "it brings, %"]
    head += ["revenue", "revenue, lied"]
    return [
        "## Truthful in one round, and over rounds",
        f"Three bidders meet {config.blocks} blocks of {AuctionDesign().past} auctions. In the "
        "first there is no reserve; later a bidder's reserve is the price that would have earned "
        "most in the block before, from its own past bids, from all, or from all others'. The "
        "first bidder may lie in all blocks but the last: bid a share of its value, never over a "
        "cap, or at least so much. What the best of these lies brings, chosen on one half of "
        f"{config.horizons} horizons and measured on the other, is in % of what truth earns over "
        "the horizon. Where only the highest bid may win (*lazy*) and own past bids are left "
        "out, that no lie pays is a theorem.",
        pages.table(head, rows),
    ]


def train(folder: Path, smoke: bool) -> None:
    """Trains the generator of distributions that ships from nothing, into the folder."""
    course = Course()
    if smoke:
        course = replace(course, sales=200, updates=100, batch=16)
    with progress_bar("Train the generator of distributions") as advance:
        reserves.save(folder / TRAINED, train_generator(TRAINING_SEED, course, advance))


def run(folder: Path, asked: Asked) -> None:
    """Writes auctions.csv, shares.csv, auctions.png, metrics.json and page.md.

    The weights of the generator are those in the folder, if it was trained to, or those that ship.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = sized(config_for(asked.smoke), asked)
    sold = sell_several_items(config, workers=asked.workers)
    write_auctions(folder, sold)
    bounded = [(name, config) for name in sold]
    bounds = dict(zip(sold, spread(bound_piece, bounded, workers=asked.workers), strict=True))
    trained = folder / TRAINED
    weights = trained if trained.is_file() else reserves.SHIPPED
    proposals = propose(config, weights, workers=asked.workers)
    write_shares(folder, proposals)
    others = on_other_forms(config, weights, workers=asked.workers)
    lies = lies_over_rounds(config)
    write_picture(folder, "auctions", lambda: draw(sold, bounds, proposals, lies), config, asked)
    write_metrics(
        folder, config, measures(sold, bounds, proposals, others, lies), asked.record("auctions")
    )
    title = "Auctions that are learnt and cannot be gamed"
    parts = page(sold, bounds, proposals, others, lies, config)
    write_findings(folder, "auctions", title, parts, asked)
