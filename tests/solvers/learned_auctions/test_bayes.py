"""Exact Bayes: its evidence against brute force, its beliefs against the priors, its ceiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.mechanisms.auction.problem import (
    AuctionDesign,
    Priors,
    by_score,
    expected,
    optimal,
    plug_in,
    tables,
)
from edgepact.solvers.learned_auctions.bayes import (
    GRID,
    believe,
    prior_tail,
    scores,
    tails,
)

PROBLEM = AuctionDesign()


def brute_force(bids: np.ndarray, draws: int) -> tuple[float, float]:
    """Evidence and mean of the next value, by weighing priors drawn at random."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, draws)
    first, low = rng.uniform(0.5, 1.5, draws), rng.uniform(0.0, 1.0, draws)
    second, share = first * rng.uniform(0.5, 2.0, draws), rng.uniform(0.5, 0.9, draws)
    likelihood = np.ones(draws)
    for bid in bids:
        uniform = ((bid >= low) & (bid <= low + 2.0 * first)) / (2.0 * first)
        exponential = np.exp(-bid / first) / first
        inside = np.where(bid < first, share / first, (1.0 - share) / second)
        pieces = np.where(bid <= first + second, inside, 0.0)
        likelihood *= np.select([kind == 0, kind == 1], [uniform, exponential], pieces)
    mean = np.select(
        [kind == 0, kind == 1],
        [low + first, first],
        share * first / 2.0 + (1.0 - share) * (first + second / 2.0),
    )
    return float(np.log(likelihood.mean())), float((likelihood * mean).sum() / likelihood.sum())


@pytest.mark.parametrize("seed", range(3))
def test_evidence_and_belief_are_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bids = (rng.uniform(0.4, 2.2, 12), rng.exponential(1.0, 12), rng.uniform(0.0, 1.2, 12))[seed]
    log_evidence, mean = brute_force(bids, 400_000)
    found = believe(bids)
    assert found.log_evidence == pytest.approx(log_evidence, abs=0.1)
    assert np.trapezoid(found.tail, GRID) == pytest.approx(mean, rel=0.02)
    assert np.all(np.diff(found.tail) <= 1e-9)
    assert found.tail[0] == pytest.approx(1.0)


def test_before_any_bid_it_believes_what_priors_are_drawn_from() -> None:
    draw = jax.jit(jax.vmap(PROBLEM.draw))
    priors, _ = draw(jax.random.split(jax.random.key(0), 4000))
    values = np.asarray(priors.value_at(jax.random.uniform(jax.random.key(1), (4000, 3))))
    for value in (0.3, 1.0, 2.0, 3.0):
        # Bidders of a round share a prior in half of them, so values count for less than they are.
        error = np.sqrt(0.25 / 4000)
        found = float(np.interp(value, GRID, prior_tail()))
        assert found == pytest.approx(float((values > value).mean()), abs=4.0 * error)


def test_impossible_bids_teach_nothing() -> None:
    found = believe(np.array([1e4, 2e4, 1e5]))
    assert np.isfinite(found.log_evidence) or np.array_equal(found.tail, prior_tail())


def test_scores_of_a_known_prior_are_its_virtual_values() -> None:
    values = np.linspace(0.05, 0.95, 19)
    assert scores(np.clip(1.0 - GRID, 0.0, 1.0), values) == pytest.approx(
        2.0 * values - 1.0, abs=0.011
    )


@pytest.mark.full
def test_it_earns_more_than_a_rule_and_less_than_who_knows_the_priors() -> None:
    keys = jax.random.split(jax.random.key(3), 12)
    priors, of_past = jax.vmap(PROBLEM.draw)(keys)
    past = np.asarray(jax.vmap(PROBLEM.past_bids)(priors, of_past), float)
    states = jax.vmap(PROBLEM.reset)(keys)
    known = jax.lax.map(tables, priors)
    best = np.asarray(jax.vmap(optimal)(known))
    score = np.empty((2, *known.value.shape))
    for context, bids in enumerate(past):
        for way, each in enumerate(tails(bids)):
            for bidder, tail in enumerate(each):
                values = np.asarray(known.value[context, bidder], float)
                score[way, context, bidder] = scores(tail, values)
    earned = jax.jit(jax.vmap(by_score))
    told, without = (np.asarray(earned(known, jnp.asarray(s, jnp.float32))) / best for s in score)
    rule = np.asarray(jax.vmap(expected)(known, jax.vmap(plug_in)(states))) / best
    assert np.all(told <= 1.0 + 1e-4)
    assert told.mean() > 0.995
    assert rule.mean() < told.mean()
    assert without.mean() < told.mean()


def test_own_past_bids_do_not_enter_the_belief_that_leaves_them_out() -> None:
    past = np.asarray(PROBLEM.past_bids(Priors.uniform(3, 0.2, 1.8), jax.random.key(0)), float)
    changed = past.copy()
    changed[:, 1] *= 0.5
    before, after = tails(past), tails(changed)
    assert np.array_equal(before.left_out[1], after.left_out[1])
    assert not np.array_equal(before.left_out[0], after.left_out[0])
    assert not np.array_equal(before.told[1], after.told[1])
