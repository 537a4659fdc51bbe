"""Schedules of a price per layer: answers, the exact optimum, and what may be seen."""

import random
from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from edgepact.errors import InputError
from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Measured
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.terms import Contract
from edgepact.mechanisms.stackelberg.benchmarks import first_best
from edgepact.mechanisms.stackelberg.layer_pricing import (
    LayerPricing,
    Negotiation,
    has_common_order,
    optimal_schedule,
    schedule_outcome,
    schedule_response,
)
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import best_response
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.problem import flat_observation, observation_size
from tests.strategies import games, numbers, ordered_games

KEY = jax.random.key(0)
ROUNDING = 1e-7


def costs_by_definition(game: Game) -> np.ndarray:
    """What each device gives up for 0, 1, ... layers; infinite where they do not fit."""
    f = game.fleet
    layers = np.arange(game.layers_max + 1.0)
    left = (f.capacity - f.B)[:, None] - f.A[:, None] * layers
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = f.alpha[:, None] * game.satisfaction.value(np.where(left >= 0, left, 0.0))
        cost = np.where(left >= -1e-9, kept[:, :1] - kept, np.inf)
    cost[np.isnan(cost)] = np.inf
    cost[:, 0] = 0.0
    return cost


def best_over_assignments(game: Game) -> float:
    """The best profit of any tariff, whoever runs what, with no order assumed.

    An assignment of layers to devices asks of the tariff that each device likes its own
    count best. These are bounds on differences of R, so the cheapest R is found by longest
    paths from R(0) = 0, and there is none if a bound goes on rising.
    """
    cost = costs_by_definition(game)
    b, devices = game.saving, len(game.fleet)
    levels = game.layers_max + 1
    best = 0.0
    for assigned in product(range(levels), repeat=devices):
        own = cost[np.arange(devices), list(assigned)]
        if np.any(np.isinf(own)):
            continue
        at_least = np.full(levels, -np.inf)
        at_least[0] = 0.0
        settled = False
        for _ in range(levels + 1):
            before = at_least.copy()
            at_least = np.maximum.accumulate(at_least)  # no price is negative
            for n, count in enumerate(assigned):
                asked = np.max(at_least + own[n] - cost[n])
                at_least[count] = max(at_least[count], asked)
            settled = bool(np.all(at_least <= before + 1e-12))
            if settled:
                break
        if settled and at_least[0] <= 1e-12:
            earned = sum(b[n] * count - at_least[count] for n, count in enumerate(assigned))
            best = max(best, float(earned))
    return best


def profit_of(game: Game, server_utility: float) -> float:
    """What the server gains by buying."""
    return float(server_utility - game.revenue + np.sum(game.saving) * game.layers_max)


@st.composite
def games_and_schedules(draw: st.DrawFn) -> tuple[Game, np.ndarray]:
    game = draw(games(integer=True, outside_option=False))
    prices = st.lists(numbers(0.0, 15.0), min_size=game.layers_max, max_size=game.layers_max)
    return game, np.array(draw(prices))


class TestFollowers:
    @given(games_and_schedules())
    def test_no_number_of_layers_is_better(self, drawn: tuple[Game, np.ndarray]) -> None:
        game, schedule = drawn
        result = schedule_outcome(game, schedule)
        paid = np.concatenate([[0.0], np.cumsum(schedule)])
        utility = paid - costs_by_definition(game)
        for n, layers in enumerate(result.layers.astype(int)):
            best = np.max(utility[n])
            assert utility[n, layers] >= best - ROUNDING * (1 + abs(best))
            assert result.payments[n] == pytest.approx(paid[layers])

    @given(games_and_schedules())
    def test_nobody_loses_by_taking_part(self, drawn: tuple[Game, np.ndarray]) -> None:
        game, schedule = drawn
        idle = schedule_outcome(game, np.zeros_like(schedule)).device_utility
        assert np.all(schedule_outcome(game, schedule).device_utility >= idle - ROUNDING * 60)

    @given(games_and_schedules(), st.data())
    def test_a_bonus_on_the_way_keeps_whoever_came_so_far(
        self, drawn: tuple[Game, np.ndarray], data: st.DataObject
    ) -> None:
        game, schedule = drawn
        at = data.draw(st.integers(0, game.layers_max - 1))
        more = schedule + np.where(np.arange(game.layers_max) == at, 1.0, 0.0)
        before, after = schedule_response(game, schedule), schedule_response(game, more)
        assert np.all(after[before > at] > at)
        utilities = [schedule_outcome(game, each).device_utility for each in (schedule, more)]
        assert np.all(utilities[1] >= utilities[0] - ROUNDING * 60)

    @given(games(integer=True, outside_option=False), numbers(0.0, 15.0))
    def test_equal_prices_are_one_price(self, game: Game, price: float) -> None:
        schedule = np.full(game.layers_max, price)
        np.testing.assert_array_equal(schedule_response(game, schedule), best_response(game, price))

    def test_a_later_prize_carries_a_device_through_a_loss(self) -> None:
        fleet = Fleet(*(np.array([each]) for each in (3.0, 9.0, 1.0, 0.0)))
        game = Game(fleet, 0.0, 2.0, 0.0, 2.0, layers_max=2)
        assert schedule_response(game, np.array([0.0, 0.3])).tolist() == [0.0]
        assert schedule_response(game, np.array([0.0, 0.9])).tolist() == [2.0]


class TestLeader:
    @given(ordered_games())
    def test_it_earns_what_it_says(self, game: Game) -> None:
        best = optimal_schedule(game)
        again = schedule_outcome(game, best.price * (1 + 1e-9))
        scale = 1 + np.sum(game.saving) * game.layers_max
        assert float(again.server_utility) >= best.server_utility - 1e-7 * scale

    @settings(max_examples=100)
    @given(ordered_games(devices_max=3, layers_max=3))
    def test_no_tariff_earns_more(self, game: Game) -> None:
        found = profit_of(game, optimal_schedule(game).server_utility)
        assert found == pytest.approx(best_over_assignments(game), abs=1e-6)

    @given(ordered_games(devices_max=3, layers_max=3))
    def test_no_schedule_on_a_grid_earns_more(self, game: Game) -> None:
        prices = np.linspace(0.0, 1.2 * float(np.max(game.saving)), 12)
        every = np.stack(np.meshgrid(*[prices] * game.layers_max), axis=-1)
        tried = schedule_outcome(game, every.reshape(-1, game.layers_max)).server_utility
        assert np.max(tried) <= optimal_schedule(game).server_utility + 1e-6

    @given(ordered_games())
    def test_between_one_price_and_first_best(self, game: Game) -> None:
        # What the server may post as a single price is free here, as the schedule is.
        game = replace(game, price_min=0.0, price_max=float(np.max(game.saving)))
        uniform, best = equilibrium(game).server_utility, optimal_schedule(game).server_utility
        slack = 1e-7 * (1 + np.sum(game.saving) * game.layers_max)
        assert uniform <= best + slack
        assert best <= first_best(game).server_utility + slack

    @given(ordered_games())
    def test_prices_lie_between_nothing_and_the_largest_saving(self, game: Game) -> None:
        schedule = optimal_schedule(game).price
        assert np.all(schedule >= 0.0)
        assert np.all(schedule <= np.max(game.saving) * (1 + 1e-9))

    @given(ordered_games())
    def test_who_bears_less_runs_more(self, game: Game) -> None:
        assert np.all(np.diff(optimal_schedule(game).layers) <= 0)

    @given(ordered_games(), st.randoms(use_true_random=False))
    def test_order_of_devices_does_not_matter(self, game: Game, shuffle: random.Random) -> None:
        mixed = list(range(len(game.fleet)))
        shuffle.shuffle(mixed)
        fleet = _taken(game.fleet, mixed)
        one, other = optimal_schedule(game), optimal_schedule(replace(game, fleet=fleet))
        assert other.server_utility == pytest.approx(float(one.server_utility))

    def test_one_device_is_left_nothing(self) -> None:
        fleet = Fleet(*(np.array([each]) for each in (3.0, 14.0, 1.0, 0.5)))
        game = Game(fleet, 0.0, 1.0, 0.0, 1.0, layers_max=12)
        best, ceiling = optimal_schedule(game), first_best(game)
        assert best.server_utility == pytest.approx(float(ceiling.server_utility))
        assert np.array_equal(best.layers, ceiling.layers)

    @given(
        st.lists(numbers(0.25, 20.0), min_size=1, max_size=6),
        numbers(1.25, 20.0),
        numbers(0.25, 6.0),
        st.sampled_from(sorted(FAMILIES)),
    )
    def test_where_alpha_alone_is_private_it_is_the_contract(
        self, alpha: list[float], room: float, b: float, family: str
    ) -> None:
        """Quality is the satisfaction given up; what layers are worth is a line through points.

        The contract knows nothing of layers: it irons virtual costs.
        """
        size = len(alpha)
        fleet = Fleet(np.array(alpha), np.full(size, room), np.ones(size), np.zeros(size))
        game = Game(fleet, 0.0, b, 0.0, b, layers_max=8, satisfaction=FAMILIES[family])
        # Relative to alpha, so that it is the same of all.
        given_up = costs_by_definition(game)[0] / alpha[0]
        given_up = given_up[np.isfinite(given_up)]
        assume(np.all(np.diff(given_up) > 1e-6))  # the contract needs points that differ
        contract = Contract(
            psi=fleet.alpha,
            probability=np.full(size, 1.0 / size),
            value=Measured(quality=given_up, value=b * np.arange(len(given_up))),
            quality_max=float(given_up[-1]),
            devices=size,
        )
        found = profit_of(game, optimal_schedule(game).server_utility)
        assert found == pytest.approx(profit(contract, optimal_menu(contract)), abs=1e-6)


class TestCommonOrder:
    @given(ordered_games(), st.randoms(use_true_random=False))
    def test_aligned_devices_have_one(self, game: Game, shuffle: random.Random) -> None:
        mixed = list(range(len(game.fleet)))
        shuffle.shuffle(mixed)
        assert has_common_order(replace(game, fleet=_taken(game.fleet, mixed)))

    def test_a_keen_roomy_and_a_modest_narrow_device_have_none(self) -> None:
        # The second is cheaper for the first layer and dearer for the third.
        game = Game(a_fleet_without_order(), 0.0, 1.0, 0.0, 1.0, layers_max=3)
        assert not has_common_order(game)

    def test_without_one_the_sum_over_layers_would_be_wrong(self) -> None:
        """Why such fleets are refused: the formula is off the best tariff there."""
        game = Game(a_fleet_without_order(), 0.0, 3.0, 0.0, 3.0, layers_max=3)
        formula = profit_of(game, optimal_schedule(game).server_utility)
        assert abs(formula - best_over_assignments(game)) > 0.01


@pytest.mark.parametrize("rest", [{"integer": False}, {"outside_option": True}])
def test_games_without_costs_layer_by_layer_are_refused(rest: dict[str, bool]) -> None:
    game = Game(a_fleet_without_order(), 0.0, 1.0, 0.0, 1.0, layers_max=3)
    with pytest.raises(InputError, match="whole layers"):
        optimal_schedule(replace(game, **rest))


class TestProblem:
    def a_fleet(self) -> Fleet:
        prior = FleetPrior(capacity=Interval(14.0, 14.0))
        return jax.jit(prior.sample, static_argnums=1)(KEY, 5)

    @pytest.mark.parametrize(
        "prior",
        [
            FleetPrior(capacity=Interval(14.0, 14.0)),
            FleetPrior(alpha=Interval(3.0, 3.0)),
        ],
        ids=["private alpha", "private W"],
    )
    def test_the_best_action_earns_the_optimum_and_no_other_more(self, prior: FleetPrior) -> None:
        problem = LayerPricing(prior, devices=6)

        @jax.jit
        @jax.vmap
        def compare(key: Array) -> tuple[Array, Array, Array, Array]:
            state = problem.reset(key)
            best = problem.best_action(state)
            _, at_best = problem.step(key, state, best)
            other = jnp.clip(best + 0.1 * jax.random.normal(key, best.shape), -1.0, 1.0)
            _, nearby = problem.step(key, state, other)
            exact = problem.optimum(state)
            return exact.leader, at_best.leader, nearby.leader, exact.reward - at_best.reward

        optimum, at_best, nearby, difference = compare(jax.random.split(KEY, 50))
        np.testing.assert_allclose(at_best, optimum, atol=1e-3)
        np.testing.assert_allclose(difference, 0.0, atol=1e-4)
        assert np.all(nearby <= optimum + 1e-3)

    def test_a_margin_is_paid_for_bought_layers_only(self) -> None:
        fleet = jax.tree.map(lambda column: np.asarray(column, np.float32), self.a_fleet())
        plain = LayerPricing(fleet, beta=0.5)
        price = plain.price.from_unit(_best_action(plain))
        more = plain.price.from_unit(_best_action(replace(plain, margin=0.01)))
        np.testing.assert_allclose(more, np.where(price > 1e-5, price + 0.01, 0.0), atol=1e-5)
        assert np.any(price <= 1e-5)

    def test_compiled_as_in_double_precision(self) -> None:
        problem = LayerPricing(self.a_fleet())
        compiled = jax.jit(lambda key: problem.optimum(problem.reset(key)))(KEY)
        double = jax.tree.map(lambda column: np.asarray(column, np.float64), problem.fleets)
        exact = optimal_schedule(problem.game(double))
        assert float(compiled.leader) == pytest.approx(float(exact.server_utility), rel=1e-6)
        np.testing.assert_allclose(compiled.payments, exact.payments, rtol=1e-4, atol=1e-4)

    def test_private_values_that_leave_answers_equal_leave_no_trace(self) -> None:
        seen = []
        for alpha, capacity in (([1.0, 2.0], [15.0, 14.0]), ([0.2, 1.1], [40.0, 29.0])):
            fleet = Fleet(*map(jnp.array, (alpha, capacity, [1.0] * 2, [0.5] * 2)))
            problem = LayerPricing(fleet, price=Interval(0.0, 3.0), window=2)
            seen.append(_seen_after(problem, jnp.full(12, 0.9)))
        assert np.array_equal(*seen)

    def test_size_and_end_of_an_episode(self) -> None:
        problem = LayerPricing(self.a_fleet(), window=3, rounds=1, layers_max=4)
        assert problem.action_size == 4
        assert observation_size(problem) == 3 * (4 + 5 + 1)
        after = jax.eval_shape(lambda: problem.step(KEY, problem.reset(KEY), jnp.zeros(4))[0])
        for number, over in ((0.0, False), (1.0, True)):
            state = Negotiation(after.fleet, after.history, jnp.asarray(number))
            assert bool(problem.finished(state)) == over
            assert not replace(problem, rounds=None).finished(state)

    def test_fleets_without_a_common_order_are_refused(self) -> None:
        fleet = jax.tree.map(jnp.asarray, a_fleet_without_order())
        with pytest.raises(InputError, match="common order"):
            LayerPricing(fleet, layers_max=3)
        with pytest.raises(InputError, match="same for all"):
            LayerPricing(FleetPrior())

    @pytest.mark.parametrize("price", [Interval(0.05, 3.0), Interval(0.0, 0.9)])
    def test_prices_that_may_miss_the_optimum_are_refused(self, price: Interval) -> None:
        with pytest.raises(InputError, match="from 0 to at least b = 1"):
            LayerPricing(price=price)


def _best_action(problem: LayerPricing) -> Array:
    return jax.jit(lambda: problem.best_action(problem.reset(KEY)))()


def _seen_after(problem: LayerPricing, action: Array) -> Array:
    def play() -> Array:
        state, _ = problem.step(KEY, problem.reset(KEY), action)
        return flat_observation(problem, state)

    return jax.jit(play)()


def a_fleet_without_order() -> Fleet:
    return Fleet(*map(np.array, ([6.0, 2.0], [9.0, 3.2], [1.0, 1.0], [0.0, 0.0])))


def _taken(fleet: Fleet, order: list[int]) -> Fleet:
    return jax.tree.map(lambda column: column[order], fleet)
