"""Learning as users see it: it reaches the optimum, and a seed says all."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.fleet import Fleet, FleetPrior
from edgepact.mechanisms.stackelberg.optimum import outcome
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver, Training, train


def a_fleet(seed: int = 0) -> Fleet:
    return FleetPrior().sample(jax.random.key(seed), 5)


def share_of_range(problem: RepeatedPricing, utility: object) -> np.ndarray:
    """Share of the range between uniformly random pricing and the exact optimum."""
    prices = jnp.linspace(problem.price.low, problem.price.high, 2001)
    random = float(jnp.mean(outcome(problem.game(problem.fleets), prices).server_utility))
    best = float(problem.optimum(problem.reset(jax.random.key(0))).leader)
    return (np.asarray(utility) - random) / (best - random)


def trained(solver: Solver, *, fleet: int = 0, seeds: int, epochs: int) -> np.ndarray:
    problem = RepeatedPricing(a_fleet(fleet))
    result = train(solver, problem, jax.random.key(1), seeds=seeds, epochs=epochs)
    assert result.utility.shape == (seeds, epochs)
    return share_of_range(problem, result.utility)


def gdm_training(told: Callable[[int], None] = print) -> Training:
    problem = RepeatedPricing(a_fleet())
    return train(
        Diffusion(), problem, jax.random.key(1), seeds=2, epochs=80, chunk=40, on_epochs=told
    )


@pytest.fixture(scope="module")
def gdm() -> Training:
    return gdm_training()


class TestDiffusionModel:
    def test_reaches_the_optimum_on_every_seed(self, gdm: Training) -> None:
        share = share_of_range(RepeatedPricing(a_fleet()), gdm.utility)
        assert share.shape == (2, 80)
        assert np.all(share[:, -10:] >= 0.99)
        assert np.all(share <= 1.0 + 1e-4), "nobody beats the oracle"
        assert np.all(share[:, 0] < 0.9), "it had something to learn"

    def test_same_seed_same_bits(self, gdm: Training) -> None:
        told: list[int] = []
        again = gdm_training(told.append)
        for one, other in zip(jax.tree.leaves(gdm), jax.tree.leaves(again), strict=True):
            assert np.array_equal(one, other)
        assert told == [40, 80]

    def test_other_seed_other_learning(self, gdm: Training) -> None:
        assert not np.array_equal(gdm.utility[0, :5], gdm.utility[1, :5])

    @pytest.mark.slow
    @pytest.mark.parametrize("fleet", [0, 1, 2])
    def test_many_seeds(self, fleet: int) -> None:
        share = trained(Diffusion(), fleet=fleet, seeds=10, epochs=500)
        assert np.all(share[:, -50:] >= 0.99), share[:, -50:].min(axis=1)


@pytest.mark.slow
def test_ppo_learns() -> None:
    share = trained(PPO(learning_rate=3e-3), seeds=2, epochs=75)
    assert np.all(share[:, -10:] >= 0.9)
    assert np.mean(share[:, 0]) < 0.8


@pytest.mark.slow
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


def test_random_pricing_earns_what_uniform_prices_earn() -> None:
    share = trained(Random(), seeds=4, epochs=100)
    assert abs(share.mean()) < 0.05


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
