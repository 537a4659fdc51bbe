"""What menus earn when types are private: the GDM beside exact, plain and mistaken rules.

Part A, profit. A menu is scored by what it earns, devices taking what suits them best, as a share
of the optimal menu for the true frequencies; and by the promises it breaks. Two questions:

* *Populations never seen.* A rule sees costs, the value function and either the frequencies or the
  take-up of a few past menus, and proposes a menu. The GDM in context was trained once; its
  honest rival is the *plug-in* rule, the optimal menu for the frequencies that take-up suggests,
  and its ceiling exact Bayes told the prior. Also without being told the costs of types, and with
  past menus of its own writing.
* *One contract.* Learners that know nothing play one contract over and over, as in the literature.

Part B, accuracy against bytes and money in federated training, is `contract_training`.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
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
from edgepact.mechanisms.contract.responses import NONE, choose, profit, rents
from edgepact.mechanisms.contract.take_up import TakeUp, frequencies, take_up_of
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.pages import percent, table
from edgepact.palette import (
    AMBER_LINE,
    BLUE_LINE,
    BROWN_LINE,
    GREY_LINE,
    INK,
    INK_LINE,
    PURPLE_LINE,
    SKY_LINE,
    Look,
)
from edgepact.problem import flat_observation
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context import takeup
from edgepact.solvers.in_context.menus import (
    LEARNING,
    SHIPPED,
    MenuDecision,
    Menus,
    best_menu,
    decision_of,
    gdm_menu,
    load,
    offered_to,
    save,
)
from edgepact.solvers.in_context.menus_training import Course
from edgepact.solvers.in_context.menus_training import train as train_generator
from edgepact.solvers.in_context.takeup import PastMenu, Public
from edgepact.solvers.known_form.frequencies import expected_frequencies
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver
from edgepact.studies import contract_training
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import (
    draw_curve,
    log_ticks,
    with_legend,
    write_findings,
    write_picture,
)
from edgepact.studies.spread import spread

TRAINED = "menus.npz"
"""Weights that `--train` leaves in the folder."""

TRAINING_SEED = 0
"""Of the weights that ship, too."""

GDM = "GDM in context"
PLUG_IN = "plug-in"
SMOOTHED = "plug-in, one device added to each type"
BAYES = "exact Bayes, told the prior"
BAYES_APART = "exact Bayes, told the prior and every device's type"

LOOKS: dict[str, Look] = {
    GDM: BLUE_LINE,
    PLUG_IN: AMBER_LINE,
    SMOOTHED: PURPLE_LINE,
    BAYES: INK_LINE,
    BAYES_APART: GREY_LINE,
    "equal frequencies": AMBER_LINE._replace(dashes=":", marker="h"),
    "one item for all": BROWN_LINE,
    "qualities pooled, unweighted": SKY_LINE,
    "no rent term": GREY_LINE._replace(dashes=(0, (2, 1)), marker="<"),
}
SORTS = {
    "rules that learn from take-up": (GDM, PLUG_IN, SMOOTHED, BAYES, BAYES_APART),
    "the GDM, and rules that leave something out": (GDM, *tuple(LOOKS)[5:]),
}
"""Rules that are drawn in one panel."""

TOLD = "frequencies told"

TYPES_OF_LITERATURE = (110.0, 140.0, 175.0, 200.0, 220.0, 235.0, 245.0, 250.0)
"""One over the costs of the types that published code for diffusion contracts uses."""

BROKEN = 1e-4
"""A promise broken by more than this share of V's largest value counts as a violation."""

LEAST_MISSED = 1e-3
"""Percent; what is less is drawn as this."""

LOW = 5.0
"""Percentile shown beside means."""

SCORED_CPU_S, WRITTEN_CPU_S, LEARNED_CPU_S = 0.3, 0.6, 0.12
"""CPU seconds of all rules on a population of each prior, of menus of their own writing for one,
and of an epoch of all learners on one contract; recorded in November 2026."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of part A.

    Attributes:
        seed: draws everything; no training uses it.
        populations: never seen, of each prior.
        rounds: past menus whose take-up is known.
        devices: in each of those rounds; one comparison for each number.
        sweeps: of Gibbs sampling, for exact Bayes.
        own_rounds, own_devices: rounds played with menus of a rule's own writing, and devices in
            each.
        own_populations: that they are played with.
        contracts: for learners that play one.
        seeds: independent learners of each contract.
        types: of those contracts.
        epochs: of 64 rounds each.
        lanes: rounds played for the score of a learner, after its last epoch.
    """

    seed: int = 20_000
    populations: int = field(default=500, metadata=size("fleets"))
    rounds: int = 3
    devices: tuple[int, ...] = (10, 100, 1000)
    sweeps: int = 120
    own_rounds: int = 4
    own_devices: int = 100
    own_populations: int = field(default=300, metadata=size("fleets"))
    contracts: int = 8
    seeds: int = field(default=2, metadata=size("seeds"))
    types: int = 8
    epochs: int = field(default=200, metadata=size("epochs"))
    lanes: int = 8


class Known(NamedTuple):
    """What a rule is given of the types' frequencies.

    Attributes:
        label: of the condition.
        take_up: counts by type, in order of falling cost; None if frequencies are told.
        seen: the same as it was seen, menus and what was taken of them.
        told: frequencies, if they are.
        bayes, apart: frequencies that exact Bayes expects, which is told the prior, from what was
            seen and from every device's type.
    """

    label: str
    take_up: TakeUp | None
    seen: takeup.TakeUp | None
    told: np.ndarray | None
    bayes: np.ndarray | None = None
    apart: np.ndarray | None = None

    def estimate(self, pseudo: float) -> np.ndarray:
        """Frequencies in order of falling cost; positive, as a `Contract` wants them."""
        if self.take_up is None:
            assert self.told is not None
            return self.told
        exists = np.ones(self.take_up.first.shape[-1])
        return _positive(frequencies(self.take_up, exists, pseudo))

    def expected(self, apart: bool) -> np.ndarray:
        """Frequencies that exact Bayes expects."""
        found = self.told if self.take_up is None else self.apart if apart else self.bayes
        assert found is not None
        return found


def _positive(found: np.ndarray) -> np.ndarray:
    found = np.maximum(found, 1e-9)
    whole: np.ndarray = found / found.sum()
    return whole


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
    small = Config(populations=8, devices=(10, 1000), contracts=2, seeds=1, epochs=2, lanes=2)
    return replace(small, sweeps=20, own_rounds=2, own_populations=4)


def seconds(config: Config) -> float:
    """CPU seconds that both parts take, by recorded times."""
    rules_of_all = SCORED_CPU_S * config.populations
    own = WRITTEN_CPU_S * (config.populations + config.own_populations)
    learners = LEARNED_CPU_S * config.epochs * config.seeds * config.contracts
    part_b = replace(contract_training.FederationConfig(), seeds=tuple(range(config.seeds)))
    return rules_of_all + own + learners + contract_training.seconds(part_b)


def rules(weights: Path) -> dict[str, Rule]:
    """All that propose menus to populations never seen."""
    gdm = Menus(load(weights))

    def in_context(contract: Contract, known: Known) -> Menu:
        if known.seen is None:
            assert known.told is not None
            return gdm_menu(replace(contract, probability=known.told))
        found = gdm.frequencies(Public(contract=contract), known.seen, 0)
        return best_menu(replace(contract, probability=found), LEARNING)

    def bayes(contract: Contract, known: Known) -> Menu:
        return optimal_menu(replace(contract, probability=known.expected(False)))

    def bayes_apart(contract: Contract, known: Known) -> Menu:
        return optimal_menu(replace(contract, probability=known.expected(True)))

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
        BAYES: bayes,
        BAYES_APART: bayes_apart,
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


class Prior(NamedTuple):
    """Where populations come from.

    Attributes:
        draw: one, types in order of falling cost.
        concentration: range of the Dirichlet parameter, which exact Bayes is told.
    """

    draw: Callable[[np.random.Generator], Contract]
    concentration: tuple[float, float]


def priors(config: Config) -> dict[str, Prior]:
    """Where populations come from."""
    broad = InstancePrior()
    uneven = InstancePrior(spread=(2.5, 3.5), concentration=(0.1, 0.3))

    def drawn(prior: InstancePrior, types: tuple[int, int]) -> Prior:
        def draw(rng: np.random.Generator) -> Contract:
            size = int(rng.integers(types[0], types[1] + 1))
            return _drawn(rng, prior, size)

        return Prior(draw, prior.concentration)

    def literature(rng: np.random.Generator) -> Contract:
        contract = _drawn(rng, broad, len(TYPES_OF_LITERATURE))
        psi = TYPES_OF_LITERATURE[-1] / np.array(TYPES_OF_LITERATURE)
        p = rng.dirichlet(np.ones(len(psi)))
        return replace(contract, psi=psi, probability=0.99 * p + 0.01 / len(psi))

    return {
        "as trained on": drawn(broad, (2, 16)),
        "types of the literature": Prior(literature, (1.0, 1.0)),
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


def past_take_up(
    rng: np.random.Generator, contract: Contract, rounds: int, devices: int
) -> tuple[TakeUp, takeup.TakeUp]:
    """What devices drawn anew took of menus that were best for what somebody believed.

    Returns:
        Counts by type, and the menus with counts by item.
    """
    size = len(contract.psi)
    menus, taken = [], []
    for _ in range(rounds):
        believed = 0.99 * rng.dirichlet(np.ones(size)) + 0.01 / size
        menus.append(optimal_menu(replace(contract, probability=believed)))
        taken.append(rng.multinomial(devices, contract.probability))
    return take_up_of(contract, menus, taken), seen_of(menus, taken)


def seen_of(menus: list[Menu], taken: list[np.ndarray]) -> takeup.TakeUp:
    """Menus with an item for each type as they were offered."""
    return takeup.TakeUp(
        menus=[
            PastMenu(quality=menu.quality, reward=menu.reward, taken=np.asarray(count, float))
            for menu, count in zip(menus, taken, strict=True)
        ]
    )


def expected_of(
    contracts: list[Contract], seen: list[TakeUp], prior: Prior, config: Config, *, apart: bool
) -> list[np.ndarray]:
    """Frequencies that exact Bayes expects, of many populations at once.

    Args:
        contracts: types in order of falling cost.
        seen: take-up of each, as many rounds of all.
        prior: that it is told.
        config: settings.
        apart: whether it is told every device's type.
    """
    most = max(len(contract.psi) for contract in contracts)
    exists = np.array([np.arange(most) < len(each.psi) for each in contracts]) * 1.0

    def padded(column: np.ndarray) -> np.ndarray:
        return np.pad(column, ((0, 0), (0, most - column.shape[1])))

    taken = np.array([padded(each.taken) for each in seen])
    first = np.array([padded(np.ones_like(e.first) if apart else e.first) for e in seen])
    found = expected_frequencies(
        TakeUp(taken, first),
        exists,
        concentration=prior.concentration,
        least=InstancePrior().least,
        seed=config.seed,
        sweeps=config.sweeps,
    )
    return [row[: len(each.psi)] for row, each in zip(found, contracts, strict=True)]


class Population(NamedTuple):
    """A population, and what is known of it in turn.

    Attributes:
        weights: of the GDM.
        prior: that it is drawn from, by name.
        number: of it among those of the prior.
        contract: with the true frequencies.
        best: what the optimal menu earns, credits.
        given: what rules are told of it, a condition each.
    """

    weights: Path
    prior: str
    number: int
    contract: Contract
    best: float
    given: tuple[Known, ...]


_rules = cache(rules)
"""Once a process."""


def score_population(drawn: Population) -> list[Score]:
    """Every rule on one population under every condition."""
    contract, scores = drawn.contract, []
    for known in drawn.given:
        for name, rule in _rules(drawn.weights).items():
            menu = rule(contract, known)
            share = profit(contract, menu) / drawn.best
            lie = largest_gain_from_lying(contract, menu)
            loss = max(0.0, -float(np.min(rents(contract, menu))))
            place = (drawn.prior, known.label, drawn.number, name)
            scores.append(Score(*place, share, lie, loss))
    return scores


def score_all(
    config: Config, weights: Path, *, workers: int = 1
) -> tuple[list[Score], dict[str, float]]:
    """Every rule on every population under every condition; and first best over the optimum."""
    drawn: list[Population] = []
    first_best: dict[str, float] = {}
    for name, prior in priors(config).items():
        rng = np.random.default_rng([config.seed, len(first_best)])
        contracts = [prior.draw(rng) for _ in range(config.populations)]
        best = [profit(contract, optimal_menu(contract)) for contract in contracts]
        over = [
            profit(c, complete_information(c)) / b for c, b in zip(contracts, best, strict=True)
        ]
        first_best[name] = float(np.mean(over))
        given = [[Known(TOLD, None, None, np.asarray(c.probability)) for c in contracts]]
        for devices in config.devices:
            label = f"{config.rounds} x {devices} devices"
            past = [past_take_up(rng, c, config.rounds, devices) for c in contracts]
            counts = [each[0] for each in past]
            expected = [
                expected_of(contracts, counts, prior, config, apart=apart)
                for apart in (False, True)
            ]
            given.append(
                [
                    Known(label, each[0], each[1], None, bayes, apart)
                    for each, bayes, apart in zip(past, *expected, strict=True)
                ]
            )
        told = zip(*given, strict=True)
        drawn += [
            Population(weights, name, at, *each)
            for at, each in enumerate(zip(contracts, best, told, strict=True))
        ]
    with progress_bar(f"{config.populations} populations of each prior") as advance:
        scores = spread(score_population, drawn, workers=workers, on_piece=advance)
    return list(chain.from_iterable(scores)), first_best


Shares = dict[str, dict[str, np.ndarray]]
"""Shares of the optimum by prior and rule, `(populations, conditions)`."""

UNTOLD, UNTOLD_PLUG_IN = "GDM in context", "counts spread evenly, one device added to each stretch"
UNTOLD_OWN = (UNTOLD, UNTOLD_PLUG_IN)

RANGE = 1.2
"""The range of costs that is told ends a factor of it beyond those there are, at either end."""

BELIEVED_TYPES = 6
"""Types of the beliefs that past menus were best for, where nobody was told any."""


def score_untold(config: Config, weights: Path, at: int) -> dict[str, np.ndarray]:
    """Menus for types whose costs are not told, only the range they lie in, by devices seen."""
    gdm, prior = Menus(load(weights)), tuple(priors(config).values())[at]
    rng = np.random.default_rng([config.seed, 7, at])
    shares: dict[str, list[list[float]]] = {UNTOLD: [], UNTOLD_PLUG_IN: []}
    for _ in range(config.populations):
        contract = prior.draw(rng)
        best = profit(contract, optimal_menu(contract))
        public = _only_range(contract)
        rows: dict[str, list[float]] = {rule: [] for rule in shares}
        for devices in config.devices:
            seen = _untold_take_up(rng, contract, public, config.rounds, devices)
            decided, evenly = gdm.decide(public, seen, 0), _spread_evenly(public, seen)
            for rule, menu in ((UNTOLD, decided), (UNTOLD_PLUG_IN, evenly)):
                rows[rule].append(profit(contract, offered_to(contract, menu)) / best)
        for rule, each in rows.items():
            shares[rule].append(each)
    return {rule: np.array(each) for rule, each in shares.items()}


def play_untold(config: Config, weights: Path, at: int) -> dict[str, np.ndarray]:
    """Shares of menus written one after another where only the range of costs is known."""
    gdm, prior = Menus(load(weights)), tuple(priors(config).values())[at]
    rng = np.random.default_rng([config.seed, 9, at])
    shares = {rule: np.zeros((config.own_populations, config.own_rounds)) for rule in UNTOLD_OWN}
    for population in range(config.own_populations):
        contract = prior.draw(rng)
        best = profit(contract, optimal_menu(contract))
        public = _only_range(contract)
        drawn = rng.multinomial(config.own_devices, contract.probability, config.own_rounds)
        for rule in UNTOLD_OWN:
            past: list[PastMenu] = []
            for number, devices in enumerate(drawn):
                seen = takeup.TakeUp(menus=past)
                decided = (
                    gdm.decide(public, seen, 0) if rule == UNTOLD else _spread_evenly(public, seen)
                )
                taken = offered_to(contract, decided)
                shares[rule][population, number] = profit(contract, taken) / best
                past.append(_taken_by(contract, decided, devices))
    return shares


def _only_range(contract: Contract) -> Public:
    """What is public where only the range of costs is."""
    ends = np.array([contract.psi[0] * RANGE, contract.psi[-1] / RANGE])
    two = replace(contract, psi=ends, probability=np.array([0.5, 0.5]))
    return Public(contract=two, types_told=False)


def _taken_by(contract: Contract, decided: MenuDecision, devices: np.ndarray) -> PastMenu:
    """What so many devices of each type take of a menu."""
    quality = offered_to(contract, decided).quality
    takes = quality[:, None] == decided.quality
    taken = devices @ takes
    return PastMenu(
        quality=decided.quality,
        reward=decided.reward,
        taken=taken.astype(float),
        declined=float(np.sum(devices) - np.sum(taken)),
    )


def _untold_take_up(
    rng: np.random.Generator, contract: Contract, public: Public, rounds: int, devices: int
) -> takeup.TakeUp:
    """What was taken of menus that were best for types that somebody made up."""
    past = []
    high, low = np.log(public.contract.psi)
    for _ in range(rounds):
        believed = replace(
            contract,
            psi=np.exp(rng.uniform(low, high, BELIEVED_TYPES)),
            probability=_positive(rng.dirichlet(np.ones(BELIEVED_TYPES))),
        )
        menu = optimal_menu(believed)
        drawn = rng.multinomial(devices, contract.probability)
        item = choose(contract, menu, np.asarray(contract.psi))
        taken = np.bincount(item[item != NONE], drawn[item != NONE], BELIEVED_TYPES)
        declined = float(np.sum(drawn[item == NONE]))
        past.append(
            PastMenu(quality=menu.quality, reward=menu.reward, taken=taken, declined=declined)
        )
    return takeup.TakeUp(menus=past)


def _spread_evenly(public: Public, seen: takeup.TakeUp) -> MenuDecision:
    """The optimal menu were devices spread over stretches as counted, in the middle of each."""
    rows = takeup.read(public, seen)
    share = _positive(frequencies(rows.counts, rows.exists, pseudo=1.0))
    cost = np.exp(0.5 * (rows.low + rows.high))
    believed = replace(public.contract, psi=cost, probability=share)
    return decision_of(believed, optimal_menu(believed), devices=0)


OWN = {
    "GDM in context": ("gdm", True),
    "GDM in context, types not told apart": ("gdm", False),
    SMOOTHED: ("smoothed", False),
    BAYES: ("bayes", False),
    "exact Bayes, its menus tell types apart": ("bayes", True),
}
"""Rules that write their own menus: what they expect, and whether they pay to tell types apart."""


def play_own(config: Config, weights: Path, at: int) -> dict[str, np.ndarray]:
    """Shares of menus that rules write one after another, from the take-up of their own."""
    gdm, prior = Menus(load(weights)), tuple(priors(config).values())[at]
    rng = np.random.default_rng([config.seed, 8, at])
    contracts = [prior.draw(rng) for _ in range(config.own_populations)]
    best = [profit(contract, optimal_menu(contract)) for contract in contracts]
    drawn = [
        rng.multinomial(config.own_devices, c.probability, config.own_rounds) for c in contracts
    ]
    found = {}
    for rule, (expects, learns) in OWN.items():
        menus: list[list[Menu]] = [[] for _ in contracts]
        shares = np.zeros((len(contracts), config.own_rounds))
        for now in range(config.own_rounds):
            past = [list(each[:now]) for each in drawn]
            counts = [take_up_of(c, m, p) for c, m, p in zip(contracts, menus, past, strict=True)]
            if expects == "bayes":
                expected = expected_of(contracts, counts, prior, config, apart=False)
            elif expects == "gdm":
                expected = [
                    gdm.frequencies(Public(contract=c), seen_of(m, p), 0)
                    for c, m, p in zip(contracts, menus, past, strict=True)
                ]
            else:
                expected = [frequencies(c, np.ones(c.first.shape[-1]), 1.0) for c in counts]
            for number, (contract, each) in enumerate(zip(contracts, expected, strict=True)):
                believed = replace(contract, probability=_positive(each))
                menu = best_menu(believed, LEARNING if learns else 0.0)
                menus[number].append(menu)
                shares[number, now] = profit(contract, menu) / best[number]
        found[rule] = shares
    return found


WRITTEN = {"own": play_own, "untold": score_untold, "untold, own": play_untold}
"""Comparisons that go through the populations of a prior in order, and so by one process each."""


def _write_menus(piece: tuple[str, Config, Path, int]) -> dict[str, np.ndarray]:
    comparison, config, weights, at = piece
    return WRITTEN[comparison](config, weights, at)


def write_all(config: Config, weights: Path, *, workers: int = 1) -> dict[str, Shares]:
    """All of `WRITTEN`, by name and prior."""
    names = tuple(priors(config))
    places = [(comparison, at) for comparison in WRITTEN for at in range(len(names))]
    pieces = [(comparison, config, weights, at) for comparison, at in places]
    with progress_bar("menus of their own, costs not told") as advance:
        shares = spread(_write_menus, pieces, workers=workers, on_piece=advance)
    found: dict[str, Shares] = {comparison: {} for comparison in WRITTEN}
    for (comparison, at), each in zip(places, shares, strict=True):
        found[comparison][names[at]] = each
    return found


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


def learn(config: Config, smoke: bool, *, workers: int = 1) -> dict[str, Learned]:
    """Learners of one contract, by name."""
    pieces = [(config, smoke, name) for name in solvers() if not smoke or name in SMOKED]
    with progress_bar("learners of one contract") as advance:
        learned = spread(learn_one, pieces, workers=workers, on_piece=advance)
    return {name: each for (_, _, name), each in zip(pieces, learned, strict=True)}


def learn_one(piece: tuple[Config, bool, str]) -> Learned:
    """One learner: all contracts and seeds side by side, one compiled program."""
    config, smoke, name = piece
    of_contracts, of_learning = jax.random.split(jax.random.key(config.seed))
    prior = InstancePrior()
    instances = jax.vmap(lambda key: prior.sample(key, config.types))(
        jax.random.split(of_contracts, config.contracts)
    )
    # One axis for contracts and seeds together: every axis more takes longer to compile.
    instances = jax.tree.map(lambda column: jnp.repeat(column, config.seeds, axis=0), instances)
    keys = jax.random.split(of_learning, config.contracts * config.seeds)
    solver, problem = solvers()[name]
    if smoke and isinstance(solver, Diffusion):
        solver = replace(solver, steps=1)  # the chain is written out when it is compiled
    return _learned(solver, problem, instances, keys, config)


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
            "share_error": float(each.std() / len(each) ** 0.5),
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
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    panels = figure.subplots(1, 3)
    reached = panels[-1]
    shares = grouped(scores)
    prior = scores[0].prior
    conditions = list(dict.fromkeys(each.known for each in scores))
    conditions = [*conditions[1:], conditions[0]]
    for axes, (sort, named) in zip(panels, SORTS.items(), strict=False):
        axes.sharey(panels[0])
        for rule in named:
            missed = [100.0 * (1.0 - shares[prior, known, rule]) for known in conditions]
            lost = np.array([each.mean() for each in missed])
            error = np.array([each.std() / len(each) ** 0.5 for each in missed])
            band = tuple(np.maximum(lost + side * error, LEAST_MISSED) for side in (-1.0, 1.0))
            places, at_least = np.arange(len(lost)), np.maximum(lost, LEAST_MISSED)
            draw_curve(axes, places, at_least, band, LOOKS[rule], label=rule, marks=len(lost))
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
        axes.set_xticks(places, [_seen(each) for each in conditions])
        axes.set_xlabel(
            f"devices seen with each of {config.rounds}\npast menus, or frequencies told"
        )
        axes.set_title(f"never seen, {prior}:\n{sort}")
    panels[0].invert_yaxis()
    panels[0].set_ylabel("missed share of the optimum, %")
    for row, (_, found) in enumerate(learned.items()):
        each = 100.0 * np.maximum(found.share.mean(axis=2).ravel(), 0.0)
        reached.plot(each, [row] * len(each), "o", color=LOOKS[GDM].colour, alpha=0.5)
    reached.set_yticks(range(len(learned)), list(learned))
    reached.invert_yaxis()
    reached.axvline(100.0, color=INK, linestyle=":")
    reached.set_xlabel("share of the optimum, %\n(below 0 shown as 0)")
    reached.set_title(f"one contract, {config.epochs} epochs")
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return with_legend(figure, panels, ncols=3)


def _seen(condition: str) -> str:
    """A condition as short as ticks ask for it.

    Example:
        >>> _seen("3 x 10 devices"), _seen(TOLD)
        ('10', 'told')
    """
    return "told" if condition == TOLD else condition.split()[-2]


def profit_page(
    scores: list[Score],
    first_best: dict[str, float],
    learned: dict[str, Learned],
    untold: tuple[Shares, Shares],
    own: Shares,
    config: Config,
) -> list[str]:
    """Part A in words and tables."""
    shares = grouped(scores)
    conditions = list(dict.fromkeys(each.known for each in scores))
    compared = list(dict.fromkeys(each.rule for each in scores))
    parts = [
        "Shares are profit over that of the optimal menu for the true frequencies, in percent, "
        "with the standard error of the mean, and the 5th percentile in brackets. A menu's profit "
        "is what it earns when every device takes what suits it best.",
        "![What rules miss, and what learners reach](contract.png)",
        "## Part A: profit with populations never seen",
        f"{config.populations} populations of each prior. Take-up is that of {config.rounds} past "
        "menus, each best for frequencies that somebody believed in, so some types shared an item "
        "and cannot be told apart. The plug-in rule is the optimal menu for the most likely "
        "frequencies; no rule can beat, on average, the optimal menu for the *expected* ones, "
        "which takes knowing the prior: exact Bayes. Told every device's type as well, it is what "
        "menus would reach that had told all types apart. The generator is told no prior.",
    ]
    for prior, over in first_best.items():
        rows = []
        for rule in compared:
            each = [shares[prior, known, rule] for known in conditions]
            cells = (f"{_mean(x)} ({percent(np.percentile(x, LOW))})" for x in each)
            rows.append([rule, *cells])
        for rival, words in ((BAYES, "exact Bayes"), (SMOOTHED, "the smoothed plug-in rule")):
            over_it = [
                _mean(shares[prior, known, GDM] - shares[prior, known, rival])
                for known in conditions
            ]
            rows.append([f"GDM in context less {words}, points", *over_it])
        sentence = f"If costs were public, profit would be {percent(over)} % of the optimum."
        parts += [
            f"### {prior[0].upper()}{prior[1:]}",
            table(["rule", *conditions], rows),
            sentence,
        ]
    parts += _own_page(own, config) + _untold_page(untold, config)
    written = [each for each in scores if each.rule == GDM]
    lie = max(each.gain_from_lying for each in written)
    loss = max(each.loss_from_taking_part for each in written)
    parts += [
        f"Promises: over {len(written)} menus of the GDM no type gained more than {lie:.1e} "
        f"credits by another's item, and none lost more than {loss:.1e} by its own.",
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


def _mean(shares: np.ndarray) -> str:
    """Mean and its standard error, percent."""
    error = float(np.std(shares)) / max(len(shares), 1) ** 0.5
    return f"{percent(float(np.mean(shares)))} ± {percent(error)}"


def _own_page(own: Shares, config: Config) -> list[str]:
    """Menus of a rule's own writing."""
    rounds = [f"menu {at + 1}" for at in range(config.own_rounds)]
    parts = [
        "### Menus of their own writing",
        f"{config.own_populations} populations of each prior, {config.own_devices} devices a "
        "round; the first menu is written with nothing seen. How frequent types are that share an "
        "item is never learned from it. A rule that tells types apart gives up at most "
        f"{100.0 * LEARNING:g} % of the profit it expects for small steps between neighbours; "
        "exact Bayes that does so is the ceiling of Bayes that chooses its menus to learn.",
    ]
    for name, rules_of in own.items():
        rows = [
            [rule, *(_mean(each[:, at]) for at in range(each.shape[1]))]
            for rule, each in rules_of.items()
        ]
        parts += [f"{name[0].upper()}{name[1:]}:", table(["rule", *rounds], rows)]
    return parts


def _untold_page(untold: tuple[Shares, Shares], config: Config) -> list[str]:
    """Types whose costs are not told."""
    rounds = [f"own menu {at + 1}" for at in range(config.own_rounds)]
    conditions = [f"{config.rounds} x {devices} devices" for devices in config.devices] + rounds
    parts = [
        "### Costs not told",
        f"Only the range of costs is known, a factor of {RANGE:g} wider at either end than the "
        f"costs there are. Past menus were best for {BELIEVED_TYPES} types that somebody made up "
        f"({config.populations} populations), or of the rule's own writing ({config.own_devices} "
        f"devices a round, {config.own_populations} populations). Shares are of the optimal menu "
        "for the true costs and frequencies. Where a type lies in its stretch is found round by "
        "round, and until then the dearest are left out now and then.",
    ]
    for name, rules_of in untold[0].items():
        rows = []
        for rule, each in rules_of.items():
            own = untold[1][name][rule]
            cells = [each[:, at] for at in range(each.shape[1])]
            cells += [own[:, at] for at in range(own.shape[1])]
            rows.append([rule, *(_mean(cell) for cell in cells)])
        parts += [f"{name[0].upper()}{name[1:]}:", table(["rule", *conditions], rows)]
    return parts


def train(folder: Path, smoke: bool) -> None:
    """Trains the generator that ships from nothing, into the folder."""
    course = Course()
    if smoke:
        course = replace(course, populations=500, updates=20, batch=32)
    with progress_bar("Train menus") as advance:
        save(folder / TRAINED, train_generator(TRAINING_SEED, course, advance))


def run(folder: Path, asked: Asked) -> None:
    """Writes two CSV and PNG for each part, metrics.json and page.md.

    The weights are those in the folder, if it was trained to, or else those that ship.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, trained = sized(config_for(asked.smoke), asked), folder / TRAINED
    weights = trained if trained.is_file() else SHIPPED
    workers = asked.workers
    scores, first_best = score_all(config, weights, workers=workers)
    own, untold, untold_own = write_all(config, weights, workers=workers).values()
    learned = learn(config, asked.smoke, workers=workers)
    write_tables(folder, scores, learned)
    write_picture(folder, "contract", lambda: draw(scores, learned, config), config, asked)
    training, of_training = contract_training.write(folder, asked)
    found = {
        "profit": measures(scores, first_best, learned)
        | {
            "own_menus": _told(own),
            "costs_not_told": _told(untold),
            "costs_not_told_own_menus": _told(untold_own),
        },
        "training": training,
    }
    parts = [
        *profit_page(scores, first_best, learned, (untold, untold_own), own, config),
        *of_training,
    ]
    write_metrics(folder, config, found, asked.record("contract"))
    title = "Menus for private types"
    write_findings(folder, "contract", title, parts, asked)


def _told(shares: Shares) -> dict[str, Any]:
    """Means and standard errors for `metrics.json`."""
    return {
        prior: {
            rule: {
                "share_mean": each.mean(axis=0).tolist(),
                "share_error": (each.std(axis=0) / len(each) ** 0.5).tolist(),
            }
            for rule, each in rules_of.items()
        }
        for prior, rules_of in shares.items()
    }
