"""The logarithmic scale of prices: each factor has the same room, and there is a way back."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.class_pricing import ClassPricing
from edgepact.mechanisms.stackelberg.price_scale import LogPrices
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.score import least_price, range_of


def a_fleet() -> Fleet:
    return Fleet(*(jnp.asarray(each) for each in ([1.0, 60.0], [13.0] * 2, [1.0] * 2, [1.0] * 2)))


@given(st.floats(1e-3, 1.0), st.floats(1.5, 1e4), st.floats(-1.0, 1.0))
def test_there_and_back(least: float, factor: float, action: float) -> None:
    scale = LogPrices(0.0, least * factor, least)
    price = scale.from_unit(np.array([action]))
    assert least * (1 - 1e-9) <= price[0] <= least * factor * (1 + 1e-9)
    assert scale.to_unit(price)[0] == pytest.approx(action, abs=1e-6)


def test_equal_steps_are_equal_factors() -> None:
    scale = RepeatedPricing(a_fleet(), price=Interval(0.05, 3.0)).price
    prices = scale.from_unit(np.linspace(-1.0, 1.0, 5))
    assert prices[[0, -1]] == pytest.approx([0.05, 3.0])
    assert prices[1:] / prices[:-1] == pytest.approx(60.0**0.25)


@pytest.mark.parametrize("high", [0.1, 12.0, 120.0])
def test_where_zero_may_be_posted_it_begins_where_random_prices_do(high: float) -> None:
    problem = RepeatedPricing(a_fleet(), price=Interval(0.0, high), beta=12.0)
    exact = problem.game(jax.tree.map(lambda column: np.asarray(column, float), a_fleet()))
    lowest = problem.price.from_unit(np.array([-1.0]))
    assert lowest[0] == pytest.approx(float(least_price(exact)))
    # So who guesses evenly on the scale of actions scores 0.
    actions = np.linspace(-1.0, 1.0, 4001)
    reward = jax.jit(
        jax.vmap(
            lambda action: (
                problem.step(jax.random.key(0), problem.reset(jax.random.key(0)), action[None])[
                    1
                ].leader
            )
        )
    )(jnp.asarray(actions))
    assert float(range_of(exact).share(np.mean(reward, dtype=float))) == pytest.approx(
        0.0, abs=0.02
    )


def test_a_scale_of_ones_own_is_kept_and_a_changed_problem_keeps_its_prices() -> None:
    own = LogPrices(0.0, 12.0, 0.5)
    assert RepeatedPricing(a_fleet(), price=own).price is own
    problem = RepeatedPricing(a_fleet(), price=Interval(0.05, 3.0))
    assert replace(problem, reward="binary").price == problem.price


def test_an_action_is_one_price_in_every_class() -> None:
    problem = ClassPricing(
        (FleetPrior(), FleetPrior(A=5.0)), devices=(2, 2), price=Interval(0.0, 3.0)
    )
    prices = [each.price.from_unit(np.array([-0.4]))[0] for each in problem.markets]
    assert prices[0] == prices[1]


def test_an_optimum_of_no_trade_is_an_action_too() -> None:
    """Nobody sells at any price: the best is any of them, and its action stays in range."""
    dear = Fleet(*(jnp.asarray(each) for each in ([1e5], [13.0], [1.0], [1.0])))
    problem = RepeatedPricing(dear, price=Interval(0.0, 3.0))
    action = problem.best_action(problem.reset(jax.random.key(0)))
    assert -1.0 <= float(action[0]) <= 1.0
