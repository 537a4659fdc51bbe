"""The score: one zero and one best for every game, wherever it is scored."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import (
    LEAST_SHARE,
    RANDOM_PRICES,
    Range,
    gain_of,
    least_price,
    random_prices,
    range_of,
)
from edgepact.mechanisms.stackelberg.terms import Game
from tests.strategies import games


def a_game(**changes: float) -> Game:
    fleet = Fleet(
        alpha=np.array([2.0, 3.0, 5.0]),
        capacity=np.array([9.0, 12.0, 10.0]),
        A=np.ones(3),
        B=np.full(3, 0.5),
    )
    game = Game(fleet, 100.0, 1.0, 0.05, 3.0, layers_max=12, integer=False)
    return replace(game, **changes)


@given(games())
def test_no_price_scores_above_one_and_the_best_scores_one(game: Game) -> None:
    reach = range_of(game)
    assert reach.zero <= reach.best + 1e-9 * abs(reach.best)
    assert reach.share(equilibrium(game).server_utility) == pytest.approx(1.0)
    low, high = float(game.price_min), float(game.price_max)
    shares = reach.share(outcome(game, np.linspace(low, high, 50)).server_utility)
    slack = 1e-9 * abs(float(reach.best)) / max(float(reach.best - reach.zero), 1e-300)
    assert np.all(shares <= 1.0 + slack)


def test_zero_is_what_prices_earn_that_are_drawn_log_uniformly() -> None:
    game = a_game()
    zero, _ = range_of(game)
    drawn = 0.05 * 60 ** np.random.default_rng(0).uniform(size=20_000)
    utility = outcome(game, drawn).server_utility
    assert zero == pytest.approx(utility.mean(), abs=5 * utility.std() / np.sqrt(len(drawn)))


def test_where_zero_may_be_posted_prices_start_at_a_share_of_the_saving() -> None:
    game = a_game(price_min=0.0)
    assert float(least_price(game)) == pytest.approx(LEAST_SHARE)
    prices = random_prices(game)
    assert prices.shape == (RANDOM_PRICES,)
    assert prices[0] == pytest.approx(LEAST_SHARE, rel=5e-3)
    assert prices[-1] == pytest.approx(3.0, rel=5e-3)
    # A range that ends below the saving begins lower, and one of no saving is a range too.
    assert float(least_price(a_game(price_min=0.0, price_max=0.1))) == pytest.approx(2e-4)
    assert np.all(np.isfinite(random_prices(a_game(price_min=0.0, beta=0.0))))


def test_where_there_is_nothing_to_gain_nothing_is_missed() -> None:
    flat = range_of(a_game(price_min=2.0, price_max=2.0))
    assert flat.share(flat.zero) == 1.0
    assert Range(np.float64(3.0), np.float64(3.0)).share(np.array([1.0, 3.0])).tolist() == [1, 1]


@given(games())
def test_no_trade_gains_nothing_and_no_price_more_than_what_is_attainable(game: Game) -> None:
    gain = gain_of(game)
    alone = game.revenue - float(np.sum(game.saving)) * game.layers_max
    assert float(gain.alone) == pytest.approx(alone)
    if gain.attainable > 1e-6:
        assert float(gain.share(gain.alone)) == pytest.approx(0.0, abs=1e-9)
        assert float(gain.share(gain.best)) == pytest.approx(1.0)
    prices = np.linspace(float(game.price_min), float(game.price_max), 50)
    utility = outcome(game, prices).server_utility
    assert np.all(utility - gain.alone <= gain.attainable + 1e-9 * abs(float(gain.best)))


def test_what_is_far_too_dear_flatters_one_share_and_not_the_other() -> None:
    near, wide = a_game(price_max=1.0), a_game(price_max=10.0)
    utility = outcome(near, np.array([0.2])).server_utility
    assert range_of(wide).share(utility) > range_of(near).share(utility) + 0.1
    np.testing.assert_allclose(gain_of(wide).share(utility), gain_of(near).share(utility))


def test_where_nothing_can_be_gained_nothing_is_missed() -> None:
    nothing = gain_of(a_game(beta=0.0, price_min=0.0))
    assert nothing.attainable == 0.0
    assert nothing.share(nothing.alone) == 1.0


def test_compiled_it_is_the_same() -> None:
    game = a_game()
    fleet = jax.tree.map(jnp.asarray, game.fleet)
    compiled = jax.jit(lambda fleet: range_of(replace(game, fleet=fleet)))(fleet)
    exact = range_of(game)
    assert float(compiled.zero) == pytest.approx(float(exact.zero), rel=1e-5)
    assert float(compiled.best) == pytest.approx(float(exact.best), rel=1e-5)
    assert float(compiled.share(compiled.best)) == 1.0
