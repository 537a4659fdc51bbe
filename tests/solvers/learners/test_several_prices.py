"""The diffusion model on actions of several components: prices by class, and by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from edgepact.fleet import FleetPrior, Interval
from edgepact.mechanisms.stackelberg.class_pricing import CAMERAS, GATEWAYS, PHONES, ClassPricing
from edgepact.mechanisms.stackelberg.layer_pricing import LayerPricing
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.problem import Problem
from edgepact.solvers.learners.diffusion import Diffusion, Mode
from edgepact.solvers.learners.training import train

KEY = jax.random.key(0)


def three_classes() -> ClassPricing:
    keys = jax.random.split(jax.random.key(7), 3)
    return ClassPricing(
        (PHONES.sample(keys[0], 4), CAMERAS.sample(keys[1], 3), GATEWAYS.sample(keys[2], 2))
    )


def schedules(margin: float = 0.0) -> LayerPricing:
    """Twelve prices, and five devices with alpha private."""
    fleet = FleetPrior(capacity=Interval(14.0, 14.0)).sample(KEY, 5)
    return LayerPricing(fleet, margin=margin)


def random_and_best(problem: Problem) -> tuple[float, float]:
    """What uniformly random prices earn on average, and the exact optimum."""

    @jax.jit
    def both() -> tuple[Array, Array]:
        state = problem.reset(KEY)
        drawn = jax.random.uniform(KEY, (20_000, problem.action_size), minval=-1.0)
        earned = jax.vmap(lambda action: problem.step(KEY, state, action)[1].leader)(drawn)
        return jnp.mean(earned), problem.optimum(state).leader

    random, best = both()
    return float(random), float(best)


def share_of_range(problem: Problem, mode: Mode, *, seeds: int, epochs: int) -> np.ndarray:
    random, best = random_and_best(problem)
    training = train(Diffusion(mode=mode), problem, jax.random.key(1), seeds=seeds, epochs=epochs)
    share = (np.asarray(training.utility) - random) / (best - random)
    assert np.all(share <= 1.0 + 1e-4), "nobody beats the oracle"
    return share


@pytest.mark.full
def test_it_finds_a_price_for_each_class() -> None:
    share = share_of_range(three_classes(), "value", seeds=1, epochs=25)
    assert np.all(share[:, -5:] >= 0.97)
    assert np.all(share[:, 0] < 0.9), "it had something to learn"


@pytest.mark.full
@pytest.mark.parametrize("mode", ["value", "expert"])
def test_many_seeds_find_a_price_for_each_class(mode: Mode) -> None:
    share = share_of_range(three_classes(), mode, seeds=5, epochs=100)
    assert np.all(share[:, -10:] >= 0.99), share[:, -10:].min(axis=1)


@pytest.mark.full
class TestSchedules:
    """Twelve prices, each at the edge of a cliff: the optimum leaves devices indifferent."""

    def best_single_price(self) -> float:
        problem = schedules()
        random, best = random_and_best(problem)
        uniform = equilibrium(problem.game(problem.fleets)).server_utility
        return (float(uniform) - random) / (best - random)

    def test_values_lead_most_learners_close_to_the_edge_and_all_beyond_one_price(self) -> None:
        share = share_of_range(schedules(), "value", seeds=3, epochs=300)[:, -30:].mean(axis=1)
        assert np.median(share) >= 0.95, share
        # About one learner in three is left a fifth of the range below the optimum.
        assert np.all(share >= self.best_single_price() + 0.1), share

    def test_an_expert_with_a_margin_is_followed_further(self) -> None:
        share = share_of_range(schedules(margin=0.005), "expert", seeds=2, epochs=140)
        assert np.all(share[:, -10:] >= 0.97), share[:, -10:].min(axis=1)

    def test_an_expert_without_one_is_followed_over_the_edge(self) -> None:
        share = share_of_range(schedules(), "expert", seeds=2, epochs=100)
        assert np.all(share[:, -10:].mean(axis=1) < 0.9)
