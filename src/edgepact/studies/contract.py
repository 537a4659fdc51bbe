"""What menus earn when types are private: the GDM beside exact, plain and mistaken rules.

Part A, profit. A menu is scored by what it earns, devices taking what suits them best, as a share
of the optimal menu for the true frequencies; and by the promises it breaks. Two questions:

* *Populations never seen.* A rule sees costs, the value function and either the frequencies or the
  take-up of a few past menus, and proposes a menu. The GDM in context was trained once; its
  honest rival is the *plug-in* rule, the optimal menu for the frequencies that take-up suggests.
* *One contract.* Learners that know nothing play one contract over and over, as in the literature.

Part B, accuracy against bytes and money in federated training, is `contract_training`.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from edgepact.mechanisms.contract.audit import largest_gain_from_lying
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.optimum import menu_at, optimal_menu
from edgepact.mechanisms.contract.ordered import virtual_cost
from edgepact.mechanisms.contract.problem import (
    Instance,
    InstancePrior,
    MenuDesign,
    broken_promises,
)
from edgepact.mechanisms.contract.quality import Log1p, Saturating, Value, cost_of
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.take_up import TakeUp, frequencies, take_up_of
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.pages import percent, table, write_page
from edgepact.problem import flat_observation
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context.menus import SHIPPED, InContextMenus, load, save
from edgepact.solvers.in_context.menus_training import Course, train_policy
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver
from edgepact.studies import contract_training

TRAINED = "menus.npz"
"""Weights that `--train` leaves in the folder."""

TRAINING_SEED = 0
"""Of the weights that ship, too."""

GDM = "GDM in context"
PLUG_IN = "plug-in"
SMOOTHED = "plug-in, one device added to each type"

COLOURS = {
    GDM: "#0b6e4f",
    PLUG_IN: "#d1495b",
    SMOOTHED: "#edae49",
    "equal frequencies": "#2f6690",
    "one item for all": "#8f6bb3",
    "qualities pooled, unweighted": "#c77d3a",
    "no rent term": "#9aa5b1",
}

TOLD = "frequencies told"

TYPES_OF_LITERATURE = (110.0, 140.0, 175.0, 200.0, 220.0, 235.0, 245.0, 250.0)
"""One over the costs of the types that published code for diffusion contracts uses."""

BROKEN = 1e-4
"""A promise broken by more than this share of V's largest value counts as a violation."""

LOW = 5.0
"""Percentile shown beside means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of part A.

    Attributes:
        seed: draws everything; no training uses it.
        populations: never seen, of each prior.
        rounds: past menus whose take-up is known.
        devices: in each of those rounds; one comparison for each number.
        contracts: for learners that play one.
        seeds: independent learners of each contract.
        types: of those contracts.
        epochs: of 64 rounds each.
        lanes: rounds played for the score of a learner, after its last epoch.
    """

    seed: int = 20_000
    populations: int = 500
    rounds: int = 3
    devices: tuple[int, ...] = (10, 100, 1000)
    contracts: int = 8
    seeds: int = 2
    types: int = 8
    epochs: int = 200
    lanes: int = 8


class Known(NamedTuple):
    """What a rule is given of the types' frequencies."""

    label: str
    take_up: TakeUp | None
    told: np.ndarray | None

    def estimate(self, pseudo: float) -> np.ndarray:
        """Frequencies in order of falling cost; positive, as a `Contract` wants them."""
        if self.take_up is None:
            assert self.told is not None
            return self.told
        exists = np.ones(self.take_up.first.shape[-1])
        found = np.maximum(frequencies(self.take_up, exists, pseudo), 1e-9)
        return found / found.sum()


Rule = Callable[[Contract, Known], Menu]
"""Proposes a menu; of the contract, types stand in order of falling cost and the probabilities
are not to be looked at."""


class Score(NamedTuple):
    """One menu of one rule for one population."""

    prior: str
    known: str
    population: int
    rule: str
    share: float
    gain_from_lying: float
    loss_from_taking_part: float


class Learned(NamedTuple):
    """A learner's menus after its last epoch; axes contracts, seeds, lanes.

    Attributes:
        share: profit as a share of the optimum.
        broken: promises broken, a share of V's largest value.
    """

    share: np.ndarray
    broken: np.ndarray


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return Config()
    return Config(populations=8, devices=(10, 1000), contracts=2, seeds=1, epochs=2, lanes=2)


def rules(weights: Path) -> dict[str, Rule]:
    """All that propose menus to populations never seen."""
    gdm = InContextMenus(load(weights))

    def in_context(contract: Contract, known: Known) -> Menu:
        given = known.told if known.take_up is None else known.take_up
        assert given is not None
        return menu_at(contract, gdm.prices(0, contract.psi, given))

    def plug_in(contract: Contract, known: Known) -> Menu:
        return optimal_menu(replace(contract, probability=known.estimate(0.0)))

    def smoothed(contract: Contract, known: Known) -> Menu:
        return optimal_menu(replace(contract, probability=known.estimate(1.0)))

    def equal(contract: Contract, known: Known) -> Menu:
        size = len(contract.psi)
        return optimal_menu(replace(contract, probability=np.full(size, 1.0 / size)))

    def no_rents(contract: Contract, known: Known) -> Menu:
        return menu_at(contract, contract.psi)

    def pooled(contract: Contract, known: Known) -> Menu:
        guess = replace(contract, probability=known.estimate(1.0))
        assert isinstance(contract.value, Value)
        alone = np.clip(
            contract.value.best(virtual_cost(guess), contract.cost), 0.0, contract.quality_max
        )
        quality = np.maximum(isotonic_regression(alone).x, 0.0)
        steps = np.diff(np.asarray(cost_of(contract.cost, quality)), prepend=0.0)
        return Menu(
            quality=quality,
            reward=np.cumsum(contract.psi * steps),
            served=np.ones(len(quality), bool),
        )

    return {
        GDM: in_context,
        PLUG_IN: plug_in,
        SMOOTHED: smoothed,
        "equal frequencies": equal,
        "one item for all": _one_item,
        "qualities pooled, unweighted": pooled,
        "no rent term": no_rents,
    }


def _one_item(contract: Contract, known: Known) -> Menu:
    """The same quality and reward for whoever wants them; the best cutoff by the estimate."""
    p, psi = known.estimate(1.0), contract.psi
    takers = np.cumsum(p[::-1])[::-1]
    assert isinstance(contract.value, Value)
    quality = np.clip(contract.value.best(psi, contract.cost), 0.0, contract.quality_max)
    reward = psi * np.asarray(cost_of(contract.cost, quality))
    start = int(np.argmax(takers * (np.asarray(contract.value.at(quality)) - reward)))
    takes = np.arange(len(psi)) >= start
    return Menu(
        quality=np.where(takes, quality[start], 0.0),
        reward=np.where(takes, reward[start], 0.0),
        served=np.ones(len(psi), bool),
    )


def priors(config: Config) -> dict[str, Callable[[np.random.Generator], Contract]]:
    """Where populations come from; each draws one, types in order of falling cost."""
    broad = InstancePrior()
    uneven = InstancePrior(spread=(2.5, 3.5), concentration=(0.1, 0.3))

    def drawn(prior: InstancePrior, types: tuple[int, int]) -> Callable[..., Contract]:
        def draw(rng: np.random.Generator) -> Contract:
            size = int(rng.integers(types[0], types[1] + 1))
            return _drawn(rng, prior, size)

        return draw

    def literature(rng: np.random.Generator) -> Contract:
        contract = _drawn(rng, broad, len(TYPES_OF_LITERATURE))
        psi = TYPES_OF_LITERATURE[-1] / np.array(TYPES_OF_LITERATURE)
        p = rng.dirichlet(np.ones(len(psi)))
        return replace(contract, psi=psi, probability=0.99 * p + 0.01 / len(psi))

    return {
        "as trained on": drawn(broad, (2, 16)),
        "types of the literature": literature,
        "wider costs, rarer types": drawn(uneven, (4, 12)),
    }


def _drawn(rng: np.random.Generator, prior: InstancePrior, types: int) -> Contract:
    """As `InstancePrior.sample`, which would be compiled for each number of types."""

    def log_uniform(span: tuple[float, float]) -> float:
        return float(np.exp(rng.uniform(np.log(span[0]), np.log(span[1]))))

    places = -np.sort(-rng.uniform(size=types))
    psi = np.exp(rng.uniform(*prior.spread) * (places - places[-1]))
    p = rng.dirichlet(np.full(types, log_uniform(prior.concentration)))
    quadratic, saturates = rng.uniform(size=2) < 0.5
    quality_max = log_uniform(prior.saturating_max if saturates else prior.quality_max)
    wanted = rng.uniform(*prior.top) * quality_max
    slope = np.exp(-wanted) if saturates else 1.0 / (1.0 + wanted)
    scale = (2.0 * wanted if quadratic else 1.0) / float(slope)
    return Contract(
        psi=psi,
        probability=(1.0 - prior.least) * p + prior.least / types,
        value=Saturating(scale=scale) if saturates else Log1p(scale=scale),
        cost="quadratic" if quadratic else "linear",
        quality_max=quality_max,
    )


def past_take_up(rng: np.random.Generator, contract: Contract, rounds: int, devices: int) -> TakeUp:
    """What devices drawn anew took of menus that were best for what somebody believed."""
    size = len(contract.psi)
    menus, taken = [], []
    for _ in range(rounds):
        believed = 0.99 * rng.dirichlet(np.ones(size)) + 0.01 / size
        menus.append(optimal_menu(replace(contract, probability=believed)))
        taken.append(rng.multinomial(devices, contract.probability))
    return take_up_of(contract, menus, taken)


def score_all(config: Config, compared: dict[str, Rule]) -> tuple[list[Score], dict[str, float]]:
    """Every rule on every population under every condition; and first best over the optimum."""
    scores: list[Score] = []
    first_best: dict[str, float] = {}
    for prior, draw in priors(config).items():
        rng = np.random.default_rng([config.seed, len(first_best)])
        over = []
        with progress_bar(prior) as advance:
            for at in range(config.populations):
                contract = draw(rng)
                best = profit(contract, optimal_menu(contract))
                over.append(profit(contract, complete_information(contract)) / best)
                given = [Known(TOLD, None, np.asarray(contract.probability))]
                for devices in config.devices:
                    label = f"{config.rounds} x {devices} devices"
                    seen = past_take_up(rng, contract, config.rounds, devices)
                    given.append(Known(label, seen, None))
                for known in given:
                    for name, rule in compared.items():
                        menu = rule(contract, known)
                        share = profit(contract, menu) / best
                        lie = largest_gain_from_lying(contract, menu)
                        loss = max(0.0, -float(np.min(rents(contract, menu))))
                        scores.append(Score(prior, known.label, at, name, share, lie, loss))
                advance(at + 1, config.populations)
        first_best[prior] = float(np.mean(over))
    return scores, first_best


def solvers() -> dict[str, tuple[Solver, MenuDesign]]:
    """Learners of one contract, each with the language it speaks."""
    constructed = MenuDesign(window=1, rounds=None)
    paper = MenuDesign(window=1, rounds=None, action="paper")
    return {
        "GDM, value": (Diffusion(), constructed),
        "GDM, expert": (Diffusion(mode="expert"), constructed),
        "GDM, value, paper's menus": (Diffusion(), paper),
        "PPO": (PPO(learning_rate=3e-3), constructed),
        "PPO, paper's menus": (PPO(learning_rate=3e-3), paper),
        "random": (Random(), constructed),
    }


SMOKED = ("GDM, expert", "random")
"""Learners of a smoke run: each costs its own compilation."""


def learn(config: Config, smoke: bool) -> dict[str, Learned]:
    """Learners of one contract: all contracts and seeds side by side, one compiled program."""
    of_contracts, of_learning = jax.random.split(jax.random.key(config.seed))
    prior = InstancePrior()
    instances = jax.vmap(lambda key: prior.sample(key, config.types))(
        jax.random.split(of_contracts, config.contracts)
    )
    # One axis for contracts and seeds together: every axis more takes longer to compile.
    instances = jax.tree.map(lambda column: jnp.repeat(column, config.seeds, axis=0), instances)
    keys = jax.random.split(of_learning, config.contracts * config.seeds)
    found = {}
    for name, (solver, problem) in solvers().items():
        if smoke and name not in SMOKED:
            continue
        if smoke and isinstance(solver, Diffusion):
            solver = replace(solver, steps=1)  # the chain is written out when it is compiled
        with progress_bar(name) as advance:
            found[name] = _learned(solver, problem, instances, keys, config)
            advance(1, 1)
    return found


def _learned(
    solver: Solver, problem: MenuDesign, instances: Instance, keys: Any, config: Config
) -> Learned:
    def one(instance: Instance, key: Any) -> tuple[Any, Any]:
        game = replace(problem, instances=instance, types=config.types)
        of_start, of_epochs, of_lanes = jax.random.split(key, 3)

        def epoch(learner: Any, key: Any) -> tuple[Any, None]:
            return solver.epoch(game, learner, key), None

        start = solver.init(game, of_start)
        learner, _ = jax.lax.scan(epoch, start, jax.random.split(of_epochs, config.epochs))

        def lane(key: Any) -> tuple[Any, Any]:
            of_state, of_action, of_step = jax.random.split(key, 3)
            state = game.reset(of_state)
            action = solver.act(learner, of_action, flat_observation(game, state))
            _, payoff = game.step(of_step, state, action)
            offer = game.offer(instance, action)
            broken = broken_promises(instance, offer.quality, offer.reward)
            scale = instance.worth.at(instance.quality_max)
            return payoff.leader / game.optimum(state).leader, broken / scale

        return jax.vmap(lane)(jax.random.split(of_lanes, config.lanes))

    share, broken = jax.jit(jax.vmap(one))(instances, keys)
    shape = (config.contracts, config.seeds, config.lanes)
    shares, broke = (np.asarray(part, np.float64).reshape(shape) for part in (share, broken))
    return Learned(shares, np.maximum(broke, 0.0))


def grouped(scores: list[Score]) -> dict[tuple[str, str, str], np.ndarray]:
    """Shares by prior, condition and rule."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for each in scores:
        found.setdefault((each.prior, each.known, each.rule), []).append(each.share)
    return {key: np.array(shares) for key, shares in found.items()}


def measures(
    scores: list[Score], first_best: dict[str, float], learned: dict[str, Learned]
) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    shares: dict[str, Any] = {}
    for (prior, known, rule), each in grouped(scores).items():
        shares.setdefault(prior, {}).setdefault(known, {})[rule] = {
            "share_mean": float(each.mean()),
            "share_low": float(np.percentile(each, LOW)),
            "share_worst": float(each.min()),
        }
    promises = {
        rule: {
            "menus": sum(each.rule == rule for each in scores),
            "largest_gain_from_lying": max(e.gain_from_lying for e in scores if e.rule == rule),
            "largest_loss_from_taking_part": max(
                e.loss_from_taking_part for e in scores if e.rule == rule
            ),
        }
        for rule in dict.fromkeys(each.rule for each in scores)
    }
    return {
        "never_seen": shares,
        "first_best_over_optimum": first_best,
        "promises": promises,
        "one_contract": {
            name: {
                "share_mean": float(each.share.mean()),
                "share_low": float(np.percentile(each.share, LOW)),
                "share_by_contract": each.share.mean(axis=(1, 2)).tolist(),
                "menus_that_break_promises": float(np.mean(each.broken > BROKEN)),
                "largest_broken_promise": float(each.broken.max()),
            }
            for name, each in learned.items()
        },
    }


def write_tables(folder: Path, scores: list[Score], learned: dict[str, Learned]) -> None:
    """Writes `shares.csv`, a line for every menu, and `learned.csv` for every learner's."""
    with (folder / "shares.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Score._fields)
        for each in scores:
            numbers = (each.share, each.gain_from_lying, each.loss_from_taking_part)
            rows.writerow([*each[:4], *(f"{number:.6g}" for number in numbers)])
    with (folder / "learned.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["learner", "contract", "seed", "lane", "share", "broken"])
        for name, found in learned.items():
            for place in np.ndindex(found.share.shape):
                cells = (found.share[place], found.broken[place])
                rows.writerow([name, *place, *(f"{cell:.6g}" for cell in cells)])


def draw(scores: list[Score], learned: dict[str, Learned], config: Config) -> Figure:
    """What rules miss against what is known, and what learners of one contract reach."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    missed, reached = figure.subplots(1, 2)
    shares = grouped(scores)
    prior = scores[0].prior
    conditions = list(dict.fromkeys(each.known for each in scores))
    conditions = [*conditions[1:], conditions[0]]
    for rule, colour in COLOURS.items():
        lost = [100.0 * (1.0 - shares[prior, known, rule].mean()) for known in conditions]
        missed.plot(range(len(lost)), np.maximum(lost, 1e-3), color=colour, marker="o", label=rule)
    missed.set_yscale("log")
    missed.set_xticks(range(len(conditions)), conditions, fontsize=8)
    missed.set_ylabel("mean share of the optimum missed, %")
    missed.set_title(f"Populations never seen, {prior}", fontsize=10)
    missed.legend(frameon=False, fontsize=7)
    for row, (_, found) in enumerate(learned.items()):
        each = 100.0 * np.maximum(found.share.mean(axis=2).ravel(), 0.0)
        reached.plot(each, [row] * len(each), "o", color="#0b6e4f", alpha=0.5)
    reached.set_yticks(range(len(learned)), list(learned))
    reached.invert_yaxis()
    reached.axvline(100.0, color="black", linestyle=":")
    reached.set_xlabel("share of the optimum, %; below 0 shown as 0")
    reached.set_title(f"One contract, {config.epochs} epochs", fontsize=10)
    for axes in (missed, reached):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def profit_page(
    scores: list[Score],
    first_best: dict[str, float],
    learned: dict[str, Learned],
    config: Config,
) -> list[str]:
    """Part A in words and tables."""
    shares = grouped(scores)
    conditions = list(dict.fromkeys(each.known for each in scores))
    compared = list(dict.fromkeys(each.rule for each in scores))
    parts = [
        "Shares are profit over that of the optimal menu for the true frequencies, in percent; "
        "the 5th percentile in brackets. A menu's profit is what it earns when every "
        "device takes what suits it best.",
        "![What rules miss, and what learners reach](contract.png)",
        "## Part A: profit with populations never seen",
        f"{config.populations} populations of each prior. Take-up is that of {config.rounds} past "
        "menus, each best for frequencies that somebody believed in, so some types shared an item "
        "and cannot be told apart. The plug-in rule is the optimal menu for the most likely "
        "frequencies; no rule can beat, on average, the optimal menu for the *expected* ones, "
        "which takes knowing the prior.",
    ]
    for prior, over in first_best.items():
        rows = []
        for rule in compared:
            each = [shares[prior, known, rule] for known in conditions]
            rows.append(
                [rule, *(f"{percent(x.mean())} ({percent(np.percentile(x, LOW))})" for x in each)]
            )
        sentence = f"If costs were public, profit would be {percent(over)} % of the optimum."
        parts += [
            f"### {prior[0].upper()}{prior[1:]}",
            table(["rule", *conditions], rows),
            sentence,
        ]
    own = [each for each in scores if each.rule == GDM]
    lie = max(each.gain_from_lying for each in own)
    loss = max(each.loss_from_taking_part for each in own)
    parts += [
        f"Promises: over {len(own)} menus of the GDM no type gained more than {lie:.1e} credits by "
        f"another's item, and none lost more than {loss:.1e} by its own.",
        "## Part A: learners of one contract",
        f"{config.contracts} contracts of {config.types} types, {config.seeds} seeds each, "
        f"{config.epochs} epochs of 64 rounds. Learners speak in steps of quality, which cannot "
        "break a promise, or with the menus of the literature, qualities and rewards as they come. "
        "Of the latter, devices take what suits them best, or nothing.",
    ]
    rows = [
        [
            name,
            percent(each.share.mean()),
            percent(np.percentile(each.share, LOW)),
            percent(float(np.mean(each.broken > BROKEN))),
            percent(float(each.broken.mean())),
        ]
        for name, each in learned.items()
    ]
    head = [
        "learner",
        "share",
        "5th percentile",
        "menus that break promises",
        "broken by, of V's largest value",
    ]
    return [*parts, table(head, rows)]


def train(folder: Path, smoke: bool) -> None:
    """Trains the policy that ships from nothing, into the folder."""
    course = Course()
    if smoke:
        course = replace(course, populations=500, pools=1, updates=20, batch=32)
    with progress_bar("Train menus") as advance:
        save(folder / TRAINED, train_policy(TRAINING_SEED, course, advance))


def run(folder: Path, smoke: bool) -> None:
    """Writes two CSV and PNG for each part, metrics.json and page.md.

    The weights are those in the folder, if it was trained to, or else those that ship.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, trained = config_for(smoke), folder / TRAINED
    compared = rules(trained if trained.is_file() else SHIPPED)
    scores, first_best = score_all(config, compared)
    learned = learn(config, smoke)
    write_tables(folder, scores, learned)
    draw(scores, learned, config).savefig(folder / "contract.png", dpi=120)
    training, of_training = contract_training.write(folder, smoke)
    found = {"profit": measures(scores, first_best, learned), "training": training}
    parts = [*profit_page(scores, first_best, learned, config), *of_training]
    write_metrics(folder, config, found)
    title = "Menus for private types"
    write_page(folder, "contract", title, parts, smoke=smoke)
