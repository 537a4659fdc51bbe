"""Teaching a transformer: the fleets it learns on, the histories, and that it learns."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.solvers.in_context.curves_training import Course, Drawn, reference_fleet
from edgepact.solvers.in_context.generator_training import random_weights
from edgepact.solvers.pretrained.transformer import GRID, ROUNDS, sizes
from edgepact.solvers.pretrained.transformer_training import (
    Lessons,
    Pool,
    histories,
    loss,
    make_pool,
    own_histories,
    seen,
    tabulated,
    train_transformer,
)
from edgepact.solvers.quoting import reference_fleets

FEW = Lessons(
    prior=Course(fleets=60, reference_share=1.0), updates=60, batch=16, own=16, refreshes=1
)
ENOUGH = replace(FEW, prior=replace(FEW.prior, fleets=400), updates=120, batch=32, memory=0.9)
"""To do better than random weights on fleets it has not seen: of 60 it learns those by heart, and
a longer memory would keep the first weights of so few steps."""


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make_pool(3, replace(FEW.prior, reference_share=0.4))


@pytest.mark.parametrize("integer", [False, True])
def test_a_fleet_is_tabulated_as_it_answers(integer: bool) -> None:
    # The same draws as those of a fleet of the reference prior.
    (game,) = reference_fleets(5, 1, integer=integer)
    drawn: Drawn = reference_fleet(np.random.default_rng(5))
    row = tabulated(drawn, integer=integer)
    assert row is not None
    sold, spread, terms, best = row
    assert terms[-1] == len(game.fleet)
    at = np.arange(5, GRID - 1, 37)
    # Right above what the grid says, where a whole layer is sold at its own price, too.
    prices = np.exp(np.log(0.05) * (1.0 - at / (GRID - 1.0))) * (1.0 + 1e-9)
    layers = outcome(game, prices).layers / 12.0
    assert sold[at] == pytest.approx(layers.mean(axis=1), abs=2e-3)
    assert spread[at] == pytest.approx(layers.std(axis=1), abs=4e-3)
    every = np.exp(np.log(0.05) * (1.0 - np.arange(GRID) / (GRID - 1.0)))
    utility = outcome(game, every * (1.0 + 1e-9)).server_utility
    lost = (utility.max() - utility[best]) / np.ptp(utility)
    assert lost < 2e-3


def test_histories_are_answers_to_prices_of_the_grid(pool: Pool) -> None:
    fleet = jax.tree.map(lambda column: column[4], pool)
    posted = histories(jax.random.key(1), fleet)
    assert posted.shape == (ROUNDS,)
    assert np.all((posted >= 0) & (posted < GRID))
    history = seen(fleet, posted)
    assert np.asarray(history.sold) == pytest.approx(np.asarray(fleet.sold)[posted])
    # Whoever sees only answers posts the same to fleets that answer alike.
    alike = fleet._replace(best=fleet.best + 1)
    assert np.array_equal(posted, histories(jax.random.key(1), alike))


@pytest.mark.slow
def test_it_learns_and_seeds_reproduce(pool: Pool) -> None:
    trained = train_transformer(0, ENOUGH, chunk=20)
    again = train_transformer(0, ENOUGH, chunk=20)
    untrained = random_weights(0, sizes())
    for name, layer in trained.items():
        assert all(np.array_equal(x, y) for x, y in zip(layer, again[name], strict=True))
    fleets = jax.tree.map(lambda column: column[:16], make_pool(9, FEW.prior))
    posted = jax.vmap(histories)(jax.random.split(jax.random.key(0), 16), fleets)
    assert loss(trained, fleets, posted) < loss(untrained, fleets, posted) - 0.2
    own = np.asarray(own_histories(trained, jax.random.key(0), fleets))
    assert own.shape == (16, ROUNDS)
    assert np.all((own >= 0) & (own < GRID))
