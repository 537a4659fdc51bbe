"""The contract as a problem: its optimum, its actions, what is seen and what is paid."""

from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.problem import (
    History,
    Instance,
    MenuDesign,
    Round,
    action_of,
    broken_promises,
    shares_of,
)
from edgepact.mechanisms.contract.quality import Linear, Log1p, Saturating, fit_saturating
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.terms import Contract
from edgepact.problem import flat_observation, observation_size
from tests.strategies import contract_terms

NUMBER = 100


@cache
def drawn() -> Any:
    """States; what devices took before does not depend on the language of actions."""
    keys = jax.random.split(jax.random.key(0), NUMBER)
    return jax.jit(jax.vmap(MenuDesign().reset))(keys)


@eqx.filter_jit
def solved(instance: Instance) -> tuple[jax.Array, ...]:
    quality = instance.optimal_quality()
    again = instance.quality_max * shares_of(action_of(quality / instance.quality_max))
    return quality, instance.rewards(quality), instance.profit(quality), again


@settings(max_examples=40)
@given(contract_terms(sizes=(1, 6)))
def test_the_optimum_is_the_exact_one_and_actions_can_say_it(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    quality, reward, earned, again = solved(Instance.of(contract))
    exact, order = optimal_menu(contract), np.argsort(-contract.psi, kind="stable")
    scale = contract.quality_max
    assert np.asarray(quality) == pytest.approx(exact.quality[order], abs=2e-5 * scale)
    most = max(1e-3, float(exact.reward.max()))
    assert np.asarray(reward) == pytest.approx(exact.reward[order], abs=1e-4 * most)
    assert float(earned) == pytest.approx(profit(contract, exact), rel=1e-4, abs=1e-5)
    assert np.asarray(again) == pytest.approx(np.asarray(quality), abs=2e-6 * scale)


@pytest.mark.parametrize("action", ["constructed", "paper"])
def test_the_best_action_earns_the_optimum(action: str) -> None:
    problem, states = MenuDesign(action=action), drawn()

    @jax.jit
    @jax.vmap
    def played(state: Any) -> tuple[jax.Array, ...]:
        after, payoff = problem.step(jax.random.key(1), state, problem.best_action(state))
        best, quality = problem.optimum(state), state.instance.optimal_quality()
        scale = state.instance.worth.at(state.instance.quality_max)
        taken = jnp.sum(after.history.taken, axis=1)
        return payoff.leader, best.leader, jnp.min(payoff.followers) / scale, quality, taken

    earned, best, least, quality, taken = (np.asarray(part) for part in played(states))
    assert np.all(best > 0.0)
    assert earned == pytest.approx(best, rel=1e-3)
    assert np.all(least > -1e-4)
    assert taken == pytest.approx(np.ones((NUMBER, problem.window)))
    # Most drawn contracts need ironing, and some reach bounds.
    pooled = np.isclose(np.diff(quality, axis=1), 0.0).any(axis=1)
    assert 0.5 < pooled.mean() < 1.0
    assert 0.0 < np.mean(quality == 0.0) < 0.5


@jax.jit
def judged(states: Any, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Broken promises of a constructed menu, and its profit over the optimum."""
    problem = MenuDesign()

    def one(state: Any) -> tuple[jax.Array, jax.Array]:
        instance = state.instance
        offer = problem.offer(instance, action)
        broken = broken_promises(instance, offer.quality, offer.reward)
        ratio = instance.profit(offer.quality) / problem.optimum(state).leader
        return broken / (offer.reward[-1] + 1e-6), ratio

    return jax.vmap(one)(states)


@settings(max_examples=30)
@given(st.lists(st.floats(-1.0, 1.0, width=32), min_size=8, max_size=8))
def test_no_constructed_menu_breaks_a_promise_or_beats_the_optimum(action: list[float]) -> None:
    broken, ratio = judged(drawn(), jnp.asarray(action, jnp.float32))
    assert float(jnp.max(broken)) < 3e-6
    assert float(jnp.max(ratio)) < 1.0 + 1e-5


@jax.jit
def there_and_back(shares: jax.Array) -> jax.Array:
    return shares_of(action_of(shares))


@given(st.lists(st.floats(0.0, 1.0, width=32), min_size=4, max_size=4))
def test_actions_say_every_rising_menu(steps: list[float]) -> None:
    rising = np.sort(np.asarray(steps, np.float32))
    found = there_and_back(rising)
    assert np.asarray(found) == pytest.approx(rising, abs=1e-6)
    # Pooled types stay pooled to the last bit.
    assert np.all(np.diff(found)[np.diff(rising) == 0.0] == 0.0)


def test_nothing_private_is_seen() -> None:
    problem, states = MenuDesign(), drawn()
    state = jax.tree.map(lambda column: column[0], states)
    hidden = replace(state.instance, probability=jnp.full(8, 0.125))
    other = replace(state, instance=hidden)
    same = flat_observation(problem, state) == flat_observation(problem, other)
    assert bool(jnp.all(same))
    told = replace(problem, told=True)
    assert observation_size(told) == observation_size(problem) + 8
    assert float(jnp.max(jnp.abs(flat_observation(problem, state)))) < 20.0


def test_broken_promises_cost_reward_and_devices_take_what_suits_them() -> None:
    contract = Contract(
        psi=np.array([2.0, 1.0]),
        probability=np.array([0.5, 0.5]),
        value=Log1p(scale=10.0),
        quality_max=4.0,
    )
    problem = MenuDesign(Instance.of(contract), types=2, action="paper", rounds=None)
    nothing = History(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    state, step = Round(Instance.of(contract), nothing, jnp.zeros(())), eqx.filter_jit(problem.step)
    most = 10.0 * np.log(5.0)
    # The dearer type is offered a rich item that the cheaper one prefers to its own.
    quality, reward = np.array([1.0, 2.0]), np.array([6.0, 4.0])
    action = 2.0 * np.concatenate([quality / 4.0, reward / most]) - 1.0
    after, payoff = step(jax.random.key(1), state, jnp.asarray(action, jnp.float32))
    assert np.asarray(payoff.followers) == pytest.approx([4.0, 5.0], abs=1e-4)
    assert float(payoff.leader) == pytest.approx(10.0 * np.log(2.0) - 6.0, abs=1e-4)
    promised = 0.5 * (10.0 * np.log(2.0) - 6.0) + 0.5 * (10.0 * np.log(3.0) - 4.0)
    assert float(payoff.reward) == pytest.approx((promised - 2.0 * 3.0) / most, abs=1e-4)
    refused = 2.0 * np.concatenate([quality / 4.0, [0.0, 0.0]]) - 1.0
    after, payoff = step(jax.random.key(1), state, jnp.asarray(refused, jnp.float32))
    assert float(payoff.leader) == 0.0
    assert float(jnp.sum(after.history.taken)) == 0.0


def test_a_contract_goes_there_and_back() -> None:
    rate, accuracy = np.linspace(0.0, 1.0, 6), 0.9 - 0.8 * np.exp(-3.0 * np.linspace(0.0, 1.0, 6))
    fitted = fit_saturating(rate, accuracy)
    contract = Contract(
        psi=np.array([0.2, 0.5, 0.9]), probability=np.array([0.2, 0.3, 0.5]), value=fitted
    )
    back = Instance.of(contract).contract()
    assert back.psi == pytest.approx([0.9, 0.5, 0.2])
    assert back.probability == pytest.approx([0.5, 0.3, 0.2])
    assert isinstance(back.value, Saturating)
    assert back.value.base == pytest.approx(0.1, abs=1e-3)
    for impossible in (
        replace(contract, budget=1.0),
        replace(contract, value=Linear()),
        replace(contract, value_scale=np.array([1.0, 2.0, 1.0])),
    ):
        with pytest.raises(InputError):
            Instance.of(impossible)
    with pytest.raises(InputError, match="types"):
        MenuDesign(Instance.of(contract), types=8)
