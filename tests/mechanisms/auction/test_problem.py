"""Auctions set up from past bids: truthful by construction, measured against Myerson's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.mechanisms.auction.problem import (
    AuctionDesign,
    Priors,
    Rules,
    expected,
    optimal,
    plug_in,
    sell,
    tables,
)
from edgepact.problem import observation_size

PROBLEM = AuctionDesign(past=100, auctions=4000)
SECOND_PRICE = Rules(jnp.zeros(3), jnp.ones(3))


@pytest.mark.parametrize(
    ("priors", "best", "second"),
    [
        (Priors.uniform(3, 0.0, 1.0), 17 / 32, 0.5),
        (Priors.exponentials(3, 3.0), 2.749, 2.5),
        # By hand, of the second highest of three; the published 2.2250 was sampled.
        (Priors.pieces(3, 3.0, 5.0, 0.75), 2.375, 2.21875),
    ],
)
def test_anchors_of_theory(priors: Priors, best: float, second: float) -> None:
    known = tables(priors)
    assert float(optimal(known)) == pytest.approx(best, rel=2e-3)
    assert float(expected(known, SECOND_PRICE)) == pytest.approx(second, rel=1e-3)


def test_ironing_gives_the_slopes_of_the_upper_hull() -> None:
    known = tables(Priors.pieces(1, 3.0, 5.0, 0.75), cells=64)
    virtual, ironed = np.asarray(known.virtual[0]), np.asarray(known.ironed[0])
    assert np.any(np.diff(virtual) < 0.0)
    assert np.all(np.diff(ironed) >= -1e-5)
    # Sums from the top are the revenue curve: ironed it lies above, and touches at the ends.
    curve, hull = np.cumsum(virtual[::-1]), np.cumsum(ironed[::-1])
    assert np.all(hull >= curve - 1e-3)
    assert hull[-1] == pytest.approx(curve[-1], abs=1e-3)


def test_no_action_earns_more_than_myerson_and_samples_agree_with_the_grid() -> None:
    earn = jax.jit(jax.vmap(PROBLEM.expected, (None, 0)))
    for seed in range(3):
        state = jax.jit(PROBLEM.reset)(jax.random.key(seed))
        best = PROBLEM.optimum(state)
        actions = jax.random.uniform(jax.random.key(9), (50, 6), minval=-1.0, maxval=1.0)
        earned = earn(state, actions)
        assert float(earned.max()) <= float(best.leader) * 1.002
        chosen = PROBLEM.best_action(state)
        assert float(PROBLEM.expected(state, chosen)) >= 0.93 * float(best.leader)
        after, payoff = jax.jit(PROBLEM.step)(jax.random.key(1), state, chosen)
        assert float(payoff.leader) == pytest.approx(
            float(PROBLEM.expected(state, chosen)), rel=0.05
        )
        assert float(payoff.reward) == pytest.approx(float(payoff.leader / state.scale))
        assert bool(PROBLEM.finished(after))


def test_truth_is_best_whatever_the_action() -> None:
    rng = np.random.default_rng(0)
    for seed in range(3):
        state = jax.jit(PROBLEM.reset)(jax.random.key(seed))
        rules = PROBLEM.rules(state, jnp.asarray(rng.uniform(-1.0, 1.0, 6), jnp.float32))
        rules = Rules(*(np.asarray(part, np.float64) for part in rules))
        values = rng.uniform(0.0, 3.0, (200, 3))
        won, paid = (np.asarray(x, np.float64) for x in sell(rules, jnp.asarray(values)))
        truth = won * values - paid
        assert np.all(truth >= -1e-5)
        assert np.all(won.sum(1) <= 1.0)
        for bidder in range(3):
            for bid in np.linspace(0.0, 4.0, 25):
                lie = values.copy()
                lie[:, bidder] = bid
                won, paid = (np.asarray(x, np.float64) for x in sell(rules, jnp.asarray(lie)))
                gain = (won * values - paid - truth)[:, bidder]
                assert gain.max() <= 1e-5  # float32


def test_observations_hold_past_bids_and_nothing_else() -> None:
    assert observation_size(PROBLEM) == 3 * 11
    state = PROBLEM.reset(jax.random.key(0))
    seen = PROBLEM.observe(state)
    assert float(seen.mean()) == pytest.approx(1.0, rel=1e-5)
    other = PROBLEM.among(Priors.uniform(3, 0.0, 9.0), jax.random.key(5))
    same = jax.tree.map(lambda x: x, other)
    swapped = type(state)(other.priors, state.seen, state.number)
    assert np.array_equal(PROBLEM.observe(swapped), seen)
    assert np.array_equal(PROBLEM.observe(same), PROBLEM.observe(other))


def test_without_learning_past_bids_already_say_much() -> None:
    state = PROBLEM.among(Priors.uniform(3, 0.0, 1.0), jax.random.key(2))
    known = tables(state.priors)
    assert float(expected(known, plug_in(state))) > float(expected(known, SECOND_PRICE))
