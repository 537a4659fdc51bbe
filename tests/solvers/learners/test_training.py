"""Learning as users see it: it reaches the optimum, and a seed says all."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fleet import Fleet, FleetPrior
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import gain_of, range_of
from edgepact.problem import Problem
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Evaluation, Learner, Solver, Training, train


def a_fleet(seed: int = 0) -> Fleet:
    return FleetPrior().sample(jax.random.key(seed), 5)


def trained(solver: Solver, *, fleet: int = 0, seeds: int, epochs: int) -> np.ndarray:
    problem = RepeatedPricing(a_fleet(fleet))
    result = train(solver, problem, jax.random.key(1), seeds=seeds, epochs=epochs)
    assert result.utility.shape == (seeds, epochs)
    return result.share.mean


def gdm_training(told: Callable[[int], None] = print) -> Training:
    problem = RepeatedPricing(a_fleet())
    return train(
        Diffusion(), problem, jax.random.key(1), seeds=2, epochs=80, chunk=40, on_epochs=told
    )


@pytest.fixture(scope="module")
def gdm() -> Training:
    return gdm_training()


@pytest.mark.slow
class TestDiffusionModel:
    def test_reaches_the_optimum_on_every_seed(self, gdm: Training) -> None:
        share = gdm.share.mean
        assert share.shape == (2, 80)
        assert np.all(share[:, -10:] >= 0.99)
        assert np.all(share <= 1.0 + 1e-4), "nobody beats the oracle"
        assert np.all(share[:, 0] < 0.99), "it had something to learn"

    def test_same_seed_same_bits(self, gdm: Training) -> None:
        told: list[int] = []
        again = gdm_training(told.append)
        for one, other in zip(jax.tree.leaves(gdm), jax.tree.leaves(again), strict=True):
            assert np.array_equal(one, other)
        assert told == [40, 80]

    def test_other_seed_other_learning(self, gdm: Training) -> None:
        assert not np.array_equal(gdm.utility[0, :5], gdm.utility[1, :5])


@pytest.mark.full
@pytest.mark.parametrize("fleet", [0, 1, 2])
def test_many_seeds(fleet: int) -> None:
    share = trained(Diffusion(), fleet=fleet, seeds=10, epochs=500)
    assert np.all(share[:, -50:] >= 0.99), share[:, -50:].min(axis=1)


@pytest.mark.slow
def test_ppo_learns() -> None:
    share = trained(PPO(learning_rate=3e-3), seeds=2, epochs=75)
    assert np.all(share[:, -10:] >= 0.9)
    # It begins in the middle of a logarithmic range, which is no bad guess here.
    assert np.mean(share[:, 0]) < 0.85


@pytest.mark.full
@pytest.mark.parametrize(
    "solver",
    [
        Diffusion(hidden=8, steps=2, games=2, updates=2, batch=4, memory=64),
        PPO(hidden=8, games=2, rollout=4, passes=2),
    ],
    ids=["gdm", "ppo"],
)
def test_side_by_side_as_one_by_one(solver: Solver) -> None:
    """Learners under `vmap` are what each would be alone, but for the order of sums."""
    problem, key = RepeatedPricing(a_fleet()), jax.random.key(5)
    together = train(solver, problem, key, seeds=2, epochs=6, lanes=4)
    of_begin, of_run = jax.random.split(key)
    keys = jax.random.split(of_run, (2, 6))
    epoch = jax.jit(lambda learner, key: solver.epoch(problem, learner, key))
    for seed, start in enumerate(jax.random.split(of_begin, 2)):
        learner = solver.init(problem, jax.random.split(start)[0])
        for each in keys[seed]:
            learner = epoch(learner, jax.random.split(each)[0])
        beside = jax.tree.map(lambda part, seed=seed: part[seed], together.learner)
        for one, other in zip(jax.tree.leaves(learner), jax.tree.leaves(beside), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_random_pricing_earns_what_log_uniform_prices_earn() -> None:
    problem = RepeatedPricing(a_fleet())
    result = train(Random(), problem, jax.random.key(1), seeds=4, epochs=100)
    # With NumPy: asked one operation at a time, JAX would compile each of them.
    game = problem.game(jax.tree.map(lambda column: np.asarray(column, np.float64), a_fleet()))
    prices = np.geomspace(problem.price.low, problem.price.high, 2001)
    uniform = np.mean(outcome(game, prices).server_utility)
    reach = range_of(game)
    expected = float(reach.share(uniform))
    assert expected == pytest.approx(0.0, abs=0.01), "guessing is the zero of the score"
    assert abs(float(reach.share(np.mean(result.utility))) - expected) < 0.05


class Traced(Random):
    """Guesses, and counts how often it is compiled: as Python its epoch runs only then."""

    times: ClassVar[list[int]] = []

    def epoch(self, problem: Problem, learner: Learner, key: PRNGKeyArray) -> Learner:
        self.times.append(problem.action_size)
        return super().epoch(problem, learner, key)


def test_another_fleet_of_the_size_is_learnt_by_the_program_of_the_first() -> None:
    fleets = [jax.tree.map(np.asarray, a_fleet(seed)) for seed in (0, 3)]
    for fleet in fleets:
        problem = RepeatedPricing(fleet)
        result = train(Traced(), problem, jax.random.key(1), seeds=2, epochs=2, lanes=2)
        # It is this fleet that was played.
        best = float(equilibrium(problem.game(fleet)).server_utility)
        np.testing.assert_allclose(result.optimum, best, rtol=1e-4)
    assert len(Traced.times) == 1


@pytest.fixture(scope="module")
def guessed() -> Training:
    problem = RepeatedPricing(a_fleet())
    return train(Random(), problem, jax.random.key(1), seeds=2, epochs=80, chunk=40)


class TestShares:
    """Of the optimum, on the very games that learners were judged by."""

    def test_they_are_paired_and_of_the_one_range(self, guessed: Training) -> None:
        games = guessed.evaluation
        assert games.utility.shape == games.optimum.shape == (2, 80, 16)
        assert games.guess is not None
        fleet = jax.tree.map(lambda column: np.asarray(column, np.float64), a_fleet())
        reach = range_of(RepeatedPricing(a_fleet()).game(fleet))
        np.testing.assert_allclose(games.optimum, float(reach.best), rtol=1e-5)
        np.testing.assert_allclose(games.guess, float(reach.zero), rtol=1e-5)
        np.testing.assert_allclose(guessed.utility, games.utility.mean(axis=-1), rtol=1e-5)
        np.testing.assert_allclose(guessed.optimum, games.optimum.mean(axis=-1), rtol=1e-5)
        expected = reach.share(np.asarray(guessed.utility, float))
        np.testing.assert_allclose(guessed.share.mean, expected, atol=1e-4)
        gain = gain_of(RepeatedPricing(a_fleet()).game(fleet))
        np.testing.assert_allclose(games.no_trade, float(gain.alone), rtol=1e-5)
        assert guessed.gain_share is not None
        expected = gain.share(np.asarray(guessed.utility, float))
        np.testing.assert_allclose(guessed.gain_share.mean, expected, atol=1e-4)

    def test_a_share_of_all_lies_within_its_interval(self, guessed: Training) -> None:
        share = guessed.share_of_last(10)
        assert share.low <= share.mean <= share.high <= 1.0 + 1e-4
        assert share.mean == pytest.approx(guessed.share.mean[:, -10:].mean(), abs=1e-6)
        with pytest.raises(InputError, match="epochs: expected 1 to 80"):
            guessed.share_of_last(81)
        assert f"last 10 epochs {share.mean:.3f}, 95 % interval {share.low:.3f}" in repr(guessed)
        assert len(repr(guessed)) < 200

    def test_intervals_hold_the_true_share_as_often_as_they_say(self) -> None:
        # Games of which the share is known: utilities are 0.8 of the optimum, and noise.
        rng = np.random.default_rng(0)
        optimum = rng.uniform(1.0, 3.0, (4000, 16))
        utility = 0.8 * optimum + rng.normal(0.0, 0.1, optimum.shape)
        share = Evaluation(utility + 5.0, optimum + 5.0, np.full(optimum.shape, 5.0)).share
        held = np.mean((share.low <= 0.8) & (share.high >= 0.8))
        assert 0.93 < held < 0.97
        # Pairing takes the luck of the games out: without it the interval would be as wide
        # as optima differ.
        assert np.mean(share.high - share.low) < 0.1

    def test_what_cannot_be_said_is_not_said(self) -> None:
        flat = np.zeros((1, 3))
        assert np.isnan(Evaluation(flat, flat, None).share.mean).all()
        assert Evaluation(flat, flat, flat).share.mean.tolist() == [1.0]
        assert Evaluation(flat, flat, flat).gain_share is None
        one = Evaluation(np.ones((1, 1)), np.full((1, 1), 2.0), None).share
        assert (one.mean[0], one.low[0], one.high[0]) == (0.5, -np.inf, np.inf)


class TestRandom:
    def test_is_uniform(self) -> None:
        problem, solver = RepeatedPricing(a_fleet()), Random()
        learner = solver.init(problem, jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), 4000)
        drawn = np.sort(jax.vmap(lambda key: solver.act(learner, key, jnp.zeros(7)))(keys)[:, 0])
        # Kolmogorov-Smirnov at the 0.1 % level.
        expected = np.linspace(-1.0, 1.0, len(drawn))
        assert np.max(np.abs(drawn - expected)) / 2.0 < 1.95 / np.sqrt(len(drawn))

    def test_does_not_learn(self) -> None:
        problem, solver = RepeatedPricing(a_fleet()), Random()
        learner = solver.init(problem, jax.random.key(0))
        assert solver.epoch(problem, learner, jax.random.key(1)) is learner
        assert solver.rounds_per_epoch == Diffusion().rounds_per_epoch == PPO().rounds_per_epoch
