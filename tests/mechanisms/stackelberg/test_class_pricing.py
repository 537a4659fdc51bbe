"""A price for each class: classes do not meet, F is earned once, and nothing private shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from edgepact.errors import InputError
from edgepact.fleet import Fleet, FleetPrior
from edgepact.mechanisms.stackelberg.class_pricing import CAMERAS, GATEWAYS, PHONES, ClassPricing
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.problem import Payoff, flat_observation, observation_size

KEY = jax.random.key(0)


def fixed_classes() -> tuple[Fleet, ...]:
    keys = jax.random.split(jax.random.key(7), 3)
    return (PHONES.sample(keys[0], 4), CAMERAS.sample(keys[1], 3), GATEWAYS.sample(keys[2], 2))


def played(problem: ClassPricing, action: list[float]) -> Payoff:
    step = jax.jit(lambda action: problem.step(KEY, problem.reset(KEY), action)[1])
    return step(jnp.array(action))


def game_of(fleet: Fleet, **rest: object) -> Game:
    terms: dict = {"revenue": 0.0, "beta": 1.0, "price_min": 0.05, "price_max": 3.0}
    return Game(fleet, **(terms | {"layers_max": 12, "integer": False} | rest))


def joined(fleets: tuple[Fleet, ...]) -> Fleet:
    return jax.tree.map(lambda *columns: jnp.concatenate(columns), *fleets)


class TestGame:
    def test_each_device_answers_the_price_of_its_class(self) -> None:
        fleets = fixed_classes()
        problem = ClassPricing(fleets)
        action = [-0.6, 0.1, -0.8]
        payoff = played(problem, action)
        utilities, payments = [], []
        prices = problem.price.from_unit(np.array(action))
        for fleet, price in zip(fleets, prices, strict=True):
            result = outcome(_double(game_of(fleet)), float(price))
            utilities.append(result.device_utility)
            payments.append(result.payments)
        np.testing.assert_allclose(payoff.followers, np.concatenate(utilities), rtol=1e-5)
        np.testing.assert_allclose(payoff.payments, np.concatenate(payments), rtol=1e-5)

    def test_one_price_for_all_classes_is_the_uniform_game(self) -> None:
        fleets = fixed_classes()
        price = 0.7
        problem = ClassPricing(fleets)
        payoff = played(problem, problem.price.to_unit(np.full(3, price)).tolist())
        result = outcome(_double(game_of(joined(fleets), revenue=100.0)), price)
        assert float(payoff.leader) == pytest.approx(float(result.server_utility), abs=1e-3)

    def test_reward_is_profit_in_shares_of_all_layers_cost(self) -> None:
        fleets = fixed_classes()
        payoff = played(ClassPricing(fleets), [-0.2, 0.0, 0.3])
        cost = 12 * float(jnp.sum(joined(fleets).A))
        profit = float(payoff.leader) - (100.0 - cost)
        assert float(payoff.reward) == pytest.approx(profit / cost, abs=1e-5)

    @pytest.mark.parametrize("integer", [False, True])
    def test_the_optimum_is_that_of_every_class_and_revenue_is_earned_once(
        self, integer: bool
    ) -> None:
        fleets = fixed_classes()
        problem = ClassPricing(fleets, integer=integer)
        found = jax.jit(lambda key: problem.optimum(problem.reset(key)))(KEY)
        alone = [equilibrium(_double(game_of(fleet, integer=integer))) for fleet in fleets]
        total = 100.0 + sum(float(each.server_utility) for each in alone)
        assert float(found.leader) == pytest.approx(total, abs=1e-3)
        # A price for each class is worth something: one for all earns less.
        together = equilibrium(_double(game_of(joined(fleets), integer=integer, revenue=100.0)))
        assert float(found.leader) >= float(together.server_utility) - 1e-3

    def test_no_prices_beat_the_optimum_and_the_best_action_earns_it(self) -> None:
        problem = ClassPricing()

        @jax.jit
        @jax.vmap
        def compare(key: Array) -> tuple[Array, Array, Array]:
            state = problem.reset(key)
            _, at_best = problem.step(key, state, problem.best_action(state))
            tried = jax.random.uniform(key, (50, problem.action_size), minval=-1.0)
            any_prices = jax.vmap(lambda action: problem.step(key, state, action)[1].leader)(tried)
            return problem.optimum(state).leader, at_best.leader, jnp.max(any_prices)

        optimum, at_best, best_of_any = compare(jax.random.split(KEY, 50))
        assert np.all(optimum >= best_of_any - 1e-3)
        np.testing.assert_allclose(at_best, optimum, atol=1e-3)

    def test_a_class_alone_is_repeated_pricing(self) -> None:
        problem, single = ClassPricing((PHONES,), (4,)), RepeatedPricing(PHONES, devices=4)

        @jax.jit
        def both(action: Array) -> tuple[Payoff, Payoff]:
            state = problem.reset(KEY)
            alone = single.reset(jax.random.split(KEY, 1)[0])
            return problem.step(KEY, state, action)[1], single.step(KEY, alone, action)[1]

        for one, other in zip(*map(jax.tree.leaves, both(jnp.array([-0.5]))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


class TestSight:
    def test_nothing_is_seen_before_the_first_round(self) -> None:
        problem = ClassPricing()
        first = jax.jit(lambda key: flat_observation(problem, problem.reset(key)))
        assert np.array_equal(first(jax.random.key(1)), first(jax.random.key(2)))

    def test_only_prices_and_answers_are_seen_in_no_order_of_devices(self) -> None:
        seen = []
        for turned in (False, True):
            fleets = fixed_classes()
            if turned:
                fleets = jax.tree.map(lambda column: column[::-1], fleets)
            problem = ClassPricing(fleets)

            def after_one(problem: ClassPricing = problem) -> Array:
                state, _ = problem.step(KEY, problem.reset(KEY), jnp.array([-0.6, -0.7, -0.5]))
                return flat_observation(problem, state)

            seen.append(jax.jit(after_one)())
        np.testing.assert_array_equal(*seen)

    def test_size_and_end_of_an_episode(self) -> None:
        problem = ClassPricing(window=2, rounds=1)
        assert problem.action_size == 3
        assert observation_size(problem) == 2 * ((4 + 3 + 2) + 2 * 3)
        over = jax.jit(
            lambda: problem.finished(problem.step(KEY, problem.reset(KEY), jnp.zeros(3))[0])
        )
        assert over()
        assert not ClassPricing().finished(ClassPricing().reset(KEY))


@pytest.mark.parametrize(
    ("classes", "devices", "match"),
    [
        ((), (), "at least one class"),
        ((FleetPrior(),), (2, 3), "number of devices of each class"),
        ((FleetPrior(),), (0,), "at least 1"),
    ],
)
def test_classes_and_numbers_must_fit(
    classes: tuple[FleetPrior, ...], devices: tuple[int, ...], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        ClassPricing(classes, devices)


def test_a_fixed_fleet_says_how_many_it_has() -> None:
    with pytest.raises(InputError, match="number of devices"):
        ClassPricing(fixed_classes(), (4, 3, 3))


def _double(game: Game) -> Game:
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64) if isinstance(leaf, jax.Array) else leaf, game
    )
