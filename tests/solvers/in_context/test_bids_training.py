"""Training of the generator of distributions: its priors, its positions, and that it learns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.mechanisms.auction.problem import _draw_priors
from edgepact.solvers.in_context import bids_training as training
from edgepact.solvers.in_context import reserves
from edgepact.solvers.in_context.bids import PLACES

SMALL = replace(training.Course(), sales=200, updates=100, batch=16)


def test_reference_tables_are_drawn_as_the_design_draws_priors() -> None:
    rng = np.random.default_rng(0)
    mine = np.array([training.reference_table(rng) for _ in range(3000)])
    keys = jax.random.split(jax.random.key(0), 3000)
    drawn = jax.jit(jax.vmap(lambda key: _draw_priors(key, 1)))(keys)
    level = jnp.array([0.1, 0.5, 0.9])
    theirs = np.asarray(jax.jit(jax.vmap(lambda p: p.value_at(level[:, None])))(drawn))[..., 0]
    at = np.searchsorted(training._LEVEL, level)
    assert np.allclose(mine[:, at].mean(axis=0), theirs.mean(axis=0), rtol=0.06)
    assert np.allclose(mine[:, at].std(axis=0), theirs.std(axis=0), rtol=0.1)


def test_tables_rise_from_at_least_0() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        table = training.broad_table(rng)
        assert np.all(np.isfinite(table))
        assert table[0] >= 0.0
        assert np.all(np.diff(table) >= 0.0)


def test_positions_of_bidders_that_bid_are_uniform() -> None:
    course = replace(SMALL, unseen_share=0.0)
    pool = training.make_pool(3, course)
    there = np.asarray(pool.present, bool)
    assert np.array_equal(there, np.asarray(pool.seen, bool))
    position = np.asarray(pool.position)[there]
    assert position.shape[1] == PLACES
    assert np.all(np.abs(position) <= 1.0)
    assert np.allclose(position.mean(axis=0), 0.0, atol=0.15)
    assert np.allclose(position.std(axis=0), np.sqrt(1.0 / 3.0), atol=0.08)


@pytest.mark.full
def test_it_learns_and_a_seed_reproduces_it() -> None:
    course = replace(SMALL, updates=300, memory=0.95)
    first, again = (training.train_generator(1, course, lambda done, of: None) for _ in range(2))
    for name, layer in first.items():
        assert np.array_equal(layer[0], again[name][0])
    pool = training.make_pool(2, SMALL)
    key = jax.random.key(0)
    before = training.loss(training.initial_weights(1), key, pool, 2)
    assert float(training.loss(first, key, pool, 2)) < 0.92 * float(before)
    assert {name: layer[0].shape for name, layer in first.items()} == reserves.layer_sizes()
