"""From what was asked to the parts that play: mechanism, clients, bounds."""

import math
from typing import Any

import numpy as np

from edgepact.credits import MICRO
from edgepact.efficiency.selection import (
    Deadline,
    Oort,
    PowerOfChoice,
    RandomSelection,
    Selector,
)
from edgepact.engagement import Engagement
from edgepact.mechanisms.contract.local_work import whole_menu
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.solvers.by_name import quoter
from edgepact.solvers.in_context.procuring import Buying, best_ceiling
from edgepact.training.federated.bidding import ByAuction, BySecondScore
from edgepact.training.federated.config import SOLVERS, WEIGHT_SHARE_MAX, TrainConfig
from edgepact.training.federated.contract import ByContract, items
from edgepact.training.federated.everyone import Everyone
from edgepact.training.federated.learnt_contract import ByLearntContract
from edgepact.training.federated.posted import STEPS, ByPrice
from edgepact.training.federated.rounds import RoundsConfig
from edgepact.training.federated.selecting import BySelector, Narrowed
from edgepact.training.federated.simulated import CostRange, CostTypes, Simulated

COSTS_BELIEVED = 200
"""Costs that stand for a range of them, in the first ceiling."""


def engagement_of(config: TrainConfig, offer: Menu | None = None) -> Engagement:
    """The mechanism that a configuration names.

    Args:
        config: of the run.
        offer: a contract's menu, if it was decided before; None to have its solver write it.
    """
    seed, per_round = config.task.seed, config.per_round
    budget, late_s = config.budget_microcredits, config.deadline_s or math.inf
    contract = None if config.contract is None else config.contract.contract
    if config.mechanism == "stackelberg":
        return by_price(config)
    if config.mechanism == "auction" and contract is not None:
        menu = items(contract, sure_menu(contract))
        rates = tuple(sorted({item.amount for item in menu}))
        worths = tuple(float(contract.worth(np.full(len(contract.psi), r))[0]) for r in rates)
        return BySecondScore(
            rates=rates,
            worth_credits=worths,
            per_round=per_round or config.clients,
            preferred_s=late_s,
            buying=_buying_rates(contract, rates, worths, seed) if config.learns else None,
        )
    if config.mechanism == "auction" and config.selector in (None, "auction"):
        assert budget is not None
        return ByAuction(
            budget_microcredits=budget,
            rate=config.rate,
            preferred_s=late_s,
            buying=_buying(config) if config.learns else None,
        )
    selector = _selector_of(config)
    if contract is not None:
        limits: dict[str, Any] = {}
        if selector is None:
            limits = {"per_round": per_round, "budget_microcredits": budget}
        terms: dict[str, Any] = dict(contract=contract, variable=config.variable, seed=seed)
        menus: Engagement
        if config.learns:
            menus = ByLearntContract(**terms, **limits)
        else:
            offer = offer or offer_of(config, contract)
            menus = ByContract(**terms, **limits, offer=offer)
        if selector is None:
            return menus
        assert per_round is not None
        return Narrowed(
            mechanism=menus,
            selector=selector,
            per_round=per_round,
            budget_microcredits=budget,
            seed=seed,
        )
    if selector is None and not config.pay:
        return Everyone(per_round=per_round, rate=config.rate, seed=seed)
    assert per_round is not None
    pay = round(config.pay * MICRO)
    if config.mechanism == "auction":
        # The selector does not look at bids, so the truth is kept by a price that does not either.
        assert budget is not None
        pay = budget // per_round
    return BySelector(
        selector=selector or RandomSelection(),
        per_round=per_round,
        rate=config.rate,
        pay_microcredits=pay,
        budget_microcredits=budget,
        seed=seed,
    )


def offer_of(config: TrainConfig, contract: Contract) -> Menu:
    """The exact menu for the frequencies that a contract states: any solver's first one."""
    return whole_menu(contract) if config.priced == "epochs" else sure_menu(contract)


def _buying(config: TrainConfig) -> Buying:
    """Ceilings for updates of one rate; costs are first believed to be evenly spread."""
    assert config.worth is not None
    spread = np.linspace(*config.costs, COSTS_BELIEVED)
    stated = best_ceiling(config.worth, spread, np.full(len(spread), 1.0 / len(spread)))
    return Buying(worth=config.worth, stated=stated, seed=config.task.seed)


def _buying_rates(
    contract: Contract, rates: tuple[float, ...], worths: tuple[float, ...], seed: int
) -> Buying:
    """Ceilings for updates of any rate; types are first believed to be as frequent as stated."""
    most = max(worths)
    bears = [CostTypes.of(contract).cost(at) for at in range(len(contract.psi))]
    asked = [
        min(
            most - worth + cost.microcredits(rate) / MICRO
            for rate, worth in zip(rates, worths, strict=True)
        )
        for cost in bears
    ]
    stated = best_ceiling(most, asked, np.asarray(contract.probability, float))
    return Buying(worth=most, stated=stated, seed=seed)


def by_price(config: TrainConfig) -> ByPrice:
    """The posted price of a configuration: for steps of a contract's rate, or for taking part."""
    steps, rate, worth = 1, config.rate, config.worth
    if config.contract is not None:
        contract = config.contract.contract
        steps, rate = STEPS, contract.quality_max
        worth = float(contract.worth(np.full(len(contract.psi), rate))[0])
    assert worth is not None
    return ByPrice(
        quoter=quoter(config.solver or SOLVERS["stackelberg"][0]),
        saving_credits=worth / steps,
        steps=steps,
        rate_max=rate,
        clients=config.clients,
        seed=config.task.seed,
    )


def _selector_of(config: TrainConfig) -> Selector | None:
    if config.selector == "fedcs":
        assert config.deadline_s is not None
        return Deadline(deadline_s=config.deadline_s)
    made: dict[str, Selector] = {
        "random": RandomSelection(),
        "oort": Oort(),
        "power-of-choice": PowerOfChoice(),
    }
    return None if config.selector is None else made[config.selector]


def fleet_of(config: TrainConfig) -> Simulated:
    """The simulated clients of a configuration."""
    costs: CostTypes | CostRange | None = None
    if config.contract is not None:
        costs = CostTypes.of(config.contract.contract)
    elif config.mechanism in ("auction", "stackelberg") or config.pay:
        costs = CostRange(low=config.costs[0], high=config.costs[1])
    return Simulated(
        task=config.task,
        clients=config.clients,
        dirichlet=config.dirichlet,
        costs=costs,
        seed=config.task.seed,
    )


def rounds_config(config: TrainConfig, images: int, size: int) -> RoundsConfig:
    """Bounds on what clients claim and move.

    Adam moves a weight by about its learning rate a step, so that no honest client gets further
    in an epoch than all steps in one direction.
    """
    return RoundsConfig(
        rounds=config.rounds,
        variable=config.variable,
        budget_microcredits=config.budget_microcredits,
        examples_max=WEIGHT_SHARE_MAX * -(-images // config.clients),
        norm_max=config.task.steps * config.task.learning_rate * math.sqrt(size),
    )
