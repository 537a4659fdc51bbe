"""Finite mechanisms against `mechaudit`, which shares no code and no author with this project."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mechaudit import (
    BIC,
    DSIC,
    AllocationCoordinate,
    CustomLinearConstraint,
    CustomLinearObjective,
    DirectMechanism,
    ExPostIR,
    FiniteEnvironment,
    InterimIR,
    PaymentCoordinate,
    PrivateValues,
)

from edgepact.mechanisms.auction.audit import audit_auction
from edgepact.mechanisms.auction.knapsack_vcg import KnapsackVcg
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.scoring import PayAsBid
from edgepact.mechanisms.auction.terms import Auction
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Measured
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.terms import Contract

NOTHING = "nothing"


def environment(contract: Contract, grid: list[float]) -> FiniteEnvironment:
    def value(_: object, own: int, outcome: object) -> float:
        if outcome == NOTHING:
            return 0.0
        return -float(contract.psi[own]) * float(outcome) - contract.participation_cost  # type: ignore[arg-type]

    types = list(range(len(contract.psi)))
    prior = dict(zip(types, contract.probability.tolist(), strict=True))
    return FiniteEnvironment(
        agents={"device": types},
        outcomes=[NOTHING, *grid],
        prior=prior,
        values=PrivateValues(value),
    )


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_a_contract_earns_what_the_outside_designer_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 4))
    p = 0.9 * rng.dirichlet(np.ones(size)) + 0.1 / size
    slopes = -np.sort(-rng.uniform(0.5, 8.0, 3))
    # With a cost that is linear and a value of straight pieces, kinks are all that is bought;
    # in between, a menu mixes two of them.
    grid = [0.0, 0.5, 1.0, 2.0]
    contract = Contract(
        psi=rng.uniform(0.5, 4.0, size),
        probability=p / p.sum(),
        value=Measured(quality=np.array(grid), value=np.cumsum([0.0, *(slopes * np.diff(grid))])),
        quality_max=2.0,
        value_scale=rng.uniform(0.5, 2.0, size),
        budget=None if rng.random() < 0.3 else float(rng.uniform(0.1, 3.0)),
        participation_cost=float(rng.choice([0.0, 0.5])),
    )
    outside = environment(contract, grid)
    gain, spent = {}, {}
    for own, report in enumerate(outside.report_profiles):
        share = float(contract.probability[own])
        paid = PaymentCoordinate(report, "device")
        gain[paid], spent[paid] = share, -share
        for quality in grid:
            worth = contract.worth(np.full(size, quality))[own]
            gain[AllocationCoordinate(report, quality)] = share * float(worth)
    rules = [BIC(), InterimIR()]
    if contract.budget is not None:
        rules.append(CustomLinearConstraint("budget", spent, sense="<=", rhs=contract.budget))
    solution = outside.design(
        objective=CustomLinearObjective("profit", gain), requirements=tuple(rules)
    ).solve()
    menu = optimal_menu(contract)
    assert profit(contract, menu) == pytest.approx(solution.objective_value, rel=1e-6, abs=1e-6)


VALUES = np.array([2.0, 2.0])
BIDS = [0.25, 1.0, 1.75]
SIZES = np.array([1, 2])

TRUTHFUL = [
    Vcg(values=VALUES, winners_max=1),
    KnapsackVcg(values=VALUES, sizes=SIZES, capacity=2),
    ProportionalShare(values=VALUES, budget=2.0),
]


@pytest.mark.parametrize("rule", [*TRUTHFUL, PayAsBid(scores=VALUES, winners_max=1)])
def test_an_auction_is_found_truthful_or_not_by_the_outside_auditor(rule: Auction) -> None:
    winners = list(product([0, 1], repeat=2))

    def value(agent: object, own: float, outcome: object) -> float:
        return -own * outcome[int(agent)]  # type: ignore[index, call-overload]

    outside = FiniteEnvironment(
        agents={0: BIDS, 1: BIDS}, outcomes=winners, values=PrivateValues(value)
    )
    profiles = np.array(list(product(BIDS, repeat=2)))
    award = rule.award(profiles)
    allocation = np.array(
        [[float(tuple(won) == each) for each in winners] for won in award.wins.astype(int).tolist()]
    )
    mechanism = DirectMechanism.from_arrays(allocation, -award.payments)
    report = outside.audit(mechanism, requirements=(DSIC(), ExPostIR()))
    truthful = rule in TRUTHFUL
    assert report.passed == truthful
    assert all(audit_auction(rule, each).incentive_compatible for each in profiles) == truthful
