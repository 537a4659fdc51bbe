"""The best posted price of a training: what clients take at it, and its audit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.engagement import chosen
from edgepact.mechanisms.contract.quality import CostForm
from edgepact.pacts.training_prices import BestPrice, _costs, _taken_at, earned, steps_taken
from edgepact.solvers.by_name import quoter
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.simulated import CostRange, CostTypes, Simulated
from edgepact.training.federated.task import SAMPLES, TaskConfig


def posted(steps: int, saving: float, clients: int) -> ByPrice:
    return ByPrice(quoter=quoter("grid"), saving_credits=saving, steps=steps, clients=clients)


def fleet(costs: CostTypes | CostRange, clients: int) -> Simulated:
    task = TaskConfig(data=SAMPLES)
    return Simulated(task=task, clients=clients, dirichlet=1.0, costs=costs, seed=1)


def types(form: CostForm, fixed: float) -> CostTypes:
    return CostTypes(
        psi=(9.0, 4.0, 1.0), probability=(0.3, 0.3, 0.4), form=form, participation_credits=fixed
    )


@given(
    st.integers(1, 12),
    st.sampled_from(["linear", "quadratic"]),
    st.sampled_from([0.0, 0.25]),
    st.integers(1, 3 * MICRO),
)
def test_steps_are_those_that_a_client_itself_would_choose(
    steps: int, form: CostForm, fixed: float, price: int
) -> None:
    by_price, clients = posted(steps, 1.0, 5), fleet(types(form, fixed), 5)
    found, gains = _taken_at(_costs(by_price, clients), price)
    question = by_price.asked(price)
    for number in range(5):
        place = chosen(question, clients.cost(number).microcredits)
        assert found[number] == (0 if place is None else steps - place)
        if place is not None:
            item = question.menu[place]
            kept = item.reward_microcredits - clients.cost(number).microcredits(item.amount)
            assert gains[number] == pytest.approx(kept, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 12])
def test_the_answer_is_what_the_price_brings(steps: int) -> None:
    costs = CostRange(low=0.5, high=1.5) if steps == 1 else types("quadratic", 0.0)
    by_price, clients = posted(steps, 2.0, 12), fleet(costs, 12)
    best = BestPrice.of(by_price, clients)
    assert best.left_credits == pytest.approx(earned(by_price, clients, best.price_microcredits))
    assert best.steps_taken == steps_taken(by_price, clients, best.price_microcredits)
    assert best.kept == pytest.approx(float(np.sum(best.gains)))
    assert best.broken == ()
    assert best.audit.largest_gain_from_lying >= 0.0
    assert "Simulated" not in repr(best)


def test_a_price_above_what_work_is_worth_breaks_its_promises() -> None:
    # Only where the least price that can be posted, a micro-credit, is above it.
    by_price, clients = posted(1, 1e-7, 3), fleet(CostRange(low=0.0, high=0.0), 3)
    assert BestPrice.of(by_price, clients).broken == ("individually rational", "budget balanced")
