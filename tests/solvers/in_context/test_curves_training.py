"""What the generator learns on: exact curves, shown as answers leave them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import best_response, layer_prices
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.solvers.in_context import curves_training as training
from edgepact.solvers.in_context.curves import LEVELS, MARGIN
from edgepact.solvers.in_context.curves_training import Course, Pool
from edgepact.solvers.in_context.pricing import InContext
from edgepact.solvers.quoting import REFERENCE, play, reference_fleets

DRAWS = (training.reference_fleet, training.family_fleet, training.curve_fleet)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(FAMILIES)))
def test_curves_are_those_of_the_exact_game(seed: int, family: str) -> None:
    rng = np.random.default_rng(seed)
    alpha, capacity = rng.uniform(1.0, 9.0, 3), rng.uniform(6.0, 16.0, 3)
    S = FAMILIES[family]
    game = replace(REFERENCE, satisfaction=S).game(
        Fleet(alpha, capacity, np.ones(3), np.full(3, 0.5)), integer=True
    )
    price = training._of_family(S, alpha, capacity - 0.5, 1.0, 1.0)
    exact = layer_prices(game)
    found = price(np.arange(1.0, 13.0), True)
    reachable = exact < 10.0
    assert np.allclose(found[reachable], exact[reachable])
    smooth = replace(game, integer=False)
    at = np.linspace(0.3, 5.7, 7)
    for layers, prices in zip(at, price(at, False).T, strict=True):
        for device, each in enumerate(prices):
            if 1e-6 < each < 10.0:
                assert best_response(smooth, each)[device] == pytest.approx(layers, rel=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(DRAWS), st.booleans())
def test_a_fleet_of_the_pool_rises_and_is_shown_as_answers_leave_it(
    seed: int, draw, integer: bool
) -> None:
    row = training.tabulated(draw(np.random.default_rng(seed)), integer=integer, wide=True)
    if row is None:
        return
    fleet = Pool(*(jnp.asarray(part, jnp.float32) for part in row))
    there = np.asarray(fleet.present) > 0
    assert np.all(np.diff(fleet.curve[there], axis=1) >= -1e-6)
    assert np.all(np.asarray(fleet.before <= fleet.after + 1e-6))
    terms, at, position = jax.jit(training.shown)(jax.random.key(seed % 1000), fleet)
    low, high, level = (np.asarray(each)[there] for each in (at.low, at.high, fleet.level))
    assert np.all(low <= high)
    assert np.all((low <= level + 1e-5) & (level <= high + 1e-5))
    assert np.all(low >= float(fleet.low) - MARGIN - 1e-5)
    assert np.all(np.abs(np.asarray(position)) <= 1.0)
    assert position.shape[-1] == LEVELS
    assert int(terms.devices) == there.sum()


@pytest.mark.slow
def test_training_lowers_the_loss_and_reproduces_from_its_seed_to_the_bit() -> None:
    course = Course(fleets=40, updates=60, batch=8, memory=0.9)
    first, again = (training.train_generator(7, course, chunk=20) for _ in range(2))
    assert all(np.array_equal(first[name][0], again[name][0]) for name in first)
    pool = training.make_pool(8, course)
    fleets = jax.tree.map(lambda column: column[:8], pool)
    lost = jax.jit(training.loss, static_argnums=3)
    before, after = (
        lost(weights, jax.random.key(1), fleets, 2)
        for weights in (training.initial_weights(7), first)
    )
    assert after < 0.95 * before


def test_prices_are_posted_by_what_has_been_answered_alone() -> None:
    """What is never answered moves none: else the model would learn where the best price is."""
    row = training.tabulated(
        training.reference_fleet(np.random.default_rng(4)), integer=True, wide=False
    )
    assert row is not None
    fleet = Pool(*(jnp.asarray(part, jnp.float32) for part in row))
    price = training._posted(jax.random.key(3), fleet)
    highest = price.max()
    # Layers that nobody took yet may cost anything beyond.
    dearer = jnp.where(fleet.after > highest, fleet.after + 0.1, fleet.after)
    assert (fleet.after > highest).any()
    again = training._posted(jax.random.key(3), fleet._replace(after=dearer))
    assert np.array_equal(price, again)
    cheaper = training._posted(jax.random.key(3), fleet._replace(after=fleet.after - 1.0))
    assert not np.array_equal(price, cheaper)


@pytest.mark.full
def test_a_short_training_learns_to_quote() -> None:
    course = Course(fleets=2000, reference_share=1.0, updates=1500)
    quoter = InContext(training.train_generator(0, course), ways=("reference",))
    shares = play(quoter, reference_fleets(14, 30, integer=False), rounds=4, seed=0)
    assert shares.mean(axis=0)[3] > 0.97


def test_the_reference_prior_is_without_its_own_family_where_that_is_left_out() -> None:
    whole = np.arange(1.0, 13.0)

    def prices(*families: str) -> np.ndarray:
        rng = np.random.default_rng(5)
        return training.reference_fleet(rng, families).price(whole, True)

    usual = training.reference_fleet(np.random.default_rng(5)).price(whole, True)
    np.testing.assert_array_equal(prices("exp", "log1p"), usual)
    without = training.make_pool(3, Course(fleets=6, reference_share=1.0, families=("sqrt",)))
    assert not np.any(np.asarray(without.wide))
    assert not np.array_equal(
        without.curve, training.make_pool(3, Course(fleets=6, reference_share=1.0)).curve
    )
