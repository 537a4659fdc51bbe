"""Menus of a federation that follow from what was taken of those before."""

from dataclasses import replace

import numpy as np
import pytest

from edgepact.credits import MICRO
from edgepact.engagement import Answer, Engagement, Finished, Learning, Question, chosen
from edgepact.errors import InputError
from edgepact.mechanisms.contract.local_work import whole_menu
from edgepact.mechanisms.contract.quality import Log1p, Saturating
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract
from edgepact.training.federated.contract import ByContract
from edgepact.training.federated.learnt_contract import ByLearntContract
from edgepact.training.federated.simulated import CostTypes
from edgepact.training.federated.work import Variable

RATES = Contract(
    psi=np.array([12.0, 6.0, 2.0]),
    probability=np.array([0.3, 0.3, 0.4]),
    value=Saturating(scale=1.0, rate=40.0),
    quality_max=0.5,
)
EPOCHS = Contract(
    psi=np.array([0.6, 0.4, 0.2]),
    probability=np.array([0.3, 0.3, 0.4]),
    value=Log1p(scale=2.0),
    quality_max=4.0,
)
KINDS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)
"""Types of ten clients: most are dear, which the contracts do not say."""


def answers(contract: Contract, question: Question) -> dict[str, Answer]:
    costs = [CostTypes.of(contract).cost(kind) for kind in KINDS]
    return {
        f"client-{at:03d}": Answer(item=chosen(question, cost.microcredits))
        for at, cost in enumerate(costs)
    }


def left(contract: Contract, question: Question, said: dict[str, Answer]) -> float:
    total = 0.0
    for answer in said.values():
        if answer.item is not None:
            item = question.menu[answer.item]
            worth = contract.worth(np.full(3, item.amount))[0]
            total += float(worth) - item.reward_microcredits / MICRO
    return total / len(said)


@pytest.mark.parametrize("priced", ["rate", "epochs"])
def test_menus_come_near_the_best_one_for_the_clients_that_there_are(priced: str) -> None:
    contract = RATES if priced == "rate" else EPOCHS
    exact = sure_menu if priced == "rate" else whole_menu
    variable = Variable(priced=priced)  # type: ignore[arg-type]
    menus = ByLearntContract(contract=contract, variable=variable, seed=1)
    assert isinstance(menus, Engagement)
    assert isinstance(menus, Learning)
    stated = ByContract(contract=contract, variable=variable, offer=exact(contract))
    theirs = replace(contract, probability=np.array([0.7, 0.2, 0.1]))
    best, shares = profit(theirs, exact(theirs)), []
    for number in range(1, 5):
        question = menus.question(number)
        if number == 1:
            assert question == stated.question(1), "the first menu is for what is stated"
        assert all(item.amount % 1.0 == 0.0 for item in question.menu) or priced == "rate"
        said = answers(contract, question)
        shares.append(left(contract, question, said) / best)
        menus.observe(Finished(number=number, question=question, answers=said, assigned={}))
    assert shares[-1] > 0.98
    assert shares[-1] > shares[0]
    assert menus.written().devices == 40
    np.testing.assert_allclose(menus.written().probability, theirs.probability, atol=0.08)


def test_after_a_restart_the_menu_is_the_same() -> None:
    one, two = (ByLearntContract(contract=RATES, seed=5) for _ in range(2))
    question = one.question(1)
    finished = Finished(number=1, question=question, answers=answers(RATES, question), assigned={})
    one.observe(finished)
    two.observe(finished)
    assert one.question(2) == two.question(2)
    assert one.question(2) != question


def test_who_takes_what_no_type_would_take_teaches_nothing_and_breaks_nothing() -> None:
    menus = ByLearntContract(contract=RATES, seed=2)
    question = menus.question(1)
    # A second item that pays less for the same: nobody would take it.
    silly = replace(
        question,
        menu=(*question.menu, replace(question.menu[0], reward_microcredits=1)),
    )
    said = answers(RATES, question)
    lied = said | {"liar": Answer(item=len(question.menu))}
    honest = ByLearntContract(contract=RATES, seed=2)
    honest.observe(Finished(number=1, question=silly, answers=said, assigned={}))
    menus.observe(Finished(number=1, question=silly, answers=lied, assigned={}))
    assert menus.question(2) == honest.question(2)
    engaged = menus.engage(1, silly, lied)
    assert engaged["liar"].reward_microcredits == 1


def test_a_quality_that_is_no_amount_is_refused() -> None:
    with pytest.raises(InputError, match="quality_max: expected rate"):
        ByLearntContract(contract=replace(RATES, quality_max=2.0))
