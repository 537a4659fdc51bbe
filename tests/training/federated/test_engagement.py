"""Mechanisms engage whom they should, and clients choose as the theory expects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.engagement import Answer, Question, chosen, truthful_bids
from edgepact.errors import InputError
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Saturating
from edgepact.mechanisms.contract.responses import NONE, choose, rents
from edgepact.mechanisms.contract.terms import Contract
from edgepact.training.federated.contract import ByContract, items
from edgepact.training.federated.everyone import Everyone
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.work import RoundWork, Variable


def contract(psi: list[float], participation_cost: float = 0.0) -> Contract:
    return Contract(
        psi=np.array(psi),
        probability=np.full(len(psi), 1.0 / len(psi)),
        value=Saturating(scale=2.0, rate=20.0),
        quality_max=1.0,
        participation_cost=participation_cost,
    )


COSTS = st.lists(st.floats(0.5, 30.0), min_size=1, max_size=6, unique=True)


@given(psi=COSTS, fixed=st.sampled_from([0.0, 0.01]))
def test_clients_take_the_item_meant_for_their_type(psi: list[float], fixed: float) -> None:
    terms = contract(psi, fixed)
    menu = optimal_menu(terms)
    offered = items(terms, menu)
    expected = choose(terms, menu, np.array(psi))
    for at, own in enumerate(psi):
        cost = PrivateCost(psi=own, participation_credits=fixed)
        taken = chosen(Question(menu=offered), cost.microcredits)
        if taken is None:
            assert expected[at] == NONE or menu.quality[expected[at]] == 0.0
            continue
        item = offered[taken]
        gain = item.reward_microcredits - cost.microcredits(item.amount)
        # Rounding rewards to whole micro-credits may move a client that is indifferent.
        assert gain / MICRO == pytest.approx(rents(terms, menu)[at], abs=5e-6)
        assert gain >= -2.0


def test_a_lie_about_the_type_costs_the_liar() -> None:
    terms = contract([12.0, 6.0, 2.0])
    offered = ByContract(contract=terms).menu
    for own in terms.psi:
        honest = PrivateCost(psi=float(own))
        best = chosen(Question(menu=offered), honest.microcredits)
        assert best is not None
        for claimed in terms.psi:
            taken = chosen(Question(menu=offered), PrivateCost(psi=float(claimed)).microcredits)
            assert taken is not None

            def gain(at: int, cost: PrivateCost = honest) -> float:
                return offered[at].reward_microcredits - cost.microcredits(offered[at].amount)

            assert gain(taken) <= gain(best) + 3.0


@given(
    per_round=st.one_of(st.none(), st.integers(1, 10)),
    budget=st.integers(0, 3 * MICRO),
    round=st.integers(1, 50),
)
def test_contract_stays_within_the_budget(per_round: int | None, budget: int, round: int) -> None:
    mechanism = ByContract(
        contract=contract([12.0, 6.0, 2.0]), per_round=per_round, budget_microcredits=budget
    )
    answers = {
        f"client-{n}": Answer(item=None if n % 4 == 3 else n % len(mechanism.menu))
        for n in range(8)
    }
    engaged = mechanism.engage(round, mechanism.question(round), answers)
    assert sum(item.reward_microcredits for item in engaged.values()) <= budget
    assert per_round is None or len(engaged) <= per_round
    for name, item in engaged.items():
        taken = answers[name].item
        assert taken is not None
        assert item == mechanism.menu[taken]
    assert mechanism.engage(round, mechanism.question(round), answers) == engaged


def test_everyone_draws_another_share_in_every_round() -> None:
    answers = {f"client-{n}": Answer() for n in range(10)}
    mechanism = Everyone(per_round=4, rate=0.5)
    drawn = [
        frozenset(mechanism.engage(round, mechanism.question(round), answers))
        for round in range(1, 20)
    ]
    assert all(len(each) == 4 for each in drawn)
    assert len(set(drawn)) > 1
    assert set().union(*drawn) == set(answers)


def test_bids_are_costs_rounded_up() -> None:
    cost = PrivateCost(psi=1.5, participation_credits=0.25)
    assert truthful_bids((0.5, 1.0), cost.microcredits) == (1_000_000, 1_750_000)
    assert truthful_bids((1 / 3,), PrivateCost(psi=1.0).microcredits) == (333_334,)


def test_what_is_no_rate_is_refused() -> None:
    with pytest.raises(InputError, match="rate"):
        RoundWork(rate=0.0)
    with pytest.raises(InputError, match="epochs"):
        Variable(priced="epochs").work(1.5)
    with pytest.raises(InputError, match="quality_max"):
        ByContract(
            contract=Contract(
                psi=np.ones(1), probability=np.ones(1), value=Saturating(), quality_max=2.0
            )
        )
