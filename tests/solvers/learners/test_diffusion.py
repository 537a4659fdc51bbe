"""The diffusion itself: its constants, its draws, and that learning never freezes.

Whatever runs in JAX runs as one compiled program: asked one operation at a time, it would compile
each of them.
"""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from edgepact.errors import InputError
from edgepact.fleet import Fleet, FleetPrior
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.problem import flat_observation
from edgepact.solvers.learners.diffusion import (
    Chain,
    Denoiser,
    Diffusion,
    DiffusionLearner,
    Sampling,
    Schedule,
    sample,
)
from edgepact.solvers.learners.diffusion import chain as chain_of

SCHEDULES: tuple[Schedule, ...] = ("vp", "cosine", "linear")


@cache
def chain(schedule: Schedule, steps: int) -> Chain:
    return jax.jit(lambda: chain_of(schedule, steps))()


@partial(jax.jit, static_argnames=("size", "sampling"))
def draws(
    denoiser: Denoiser,
    constants: Chain,
    keys: Array,
    seen: Array,
    size: int,
    sampling: Sampling = "ddpm",
) -> Array:
    """An action for each key, all with one observation."""
    return jax.vmap(lambda key: sample(denoiser, constants, key, seen, size, sampling))(keys)


def a_fleet() -> Fleet:
    return FleetPrior().sample(jax.random.key(0), 5)


def a_denoiser(
    action_size: int, features: int, *, copies: tuple[int, ...] = (), scale: float = 0.7
) -> Denoiser:
    """Weights drawn with NumPy, since JAX would compile for seconds."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: Denoiser(action_size, features, 16, key), jax.random.key(0))

    def draw(leaf: jax.ShapeDtypeStruct) -> Array:
        spread = scale / np.sqrt(leaf.shape[-1])
        return jnp.asarray(rng.normal(0.0, spread, (*copies, *leaf.shape)), jnp.float32)

    return jax.tree.map(draw, shapes)


@pytest.mark.parametrize("steps", [1, 2, 5, 6, 20, 30])
@pytest.mark.parametrize("schedule", SCHEDULES)
class TestChain:
    def test_signal_falls_to_near_noise(self, schedule: Schedule, steps: int) -> None:
        signal = np.asarray(chain(schedule, steps).signal)
        assert signal[0] < 1.0
        assert np.all(np.diff(signal) < 0)
        assert 0.0 <= signal[-1] < 0.1

    def test_posterior_undoes_the_forward_process(self, schedule: Schedule, steps: int) -> None:
        # x_{t-1} drawn from the posterior, given x_t from the forward process, must be
        # distributed as the forward process says of step t-1: in mean and variance.
        constants = jax.tree.map(lambda part: np.asarray(part, float), chain(schedule, steps))
        before = np.concatenate([[1.0], constants.signal[:-1]])
        mean = constants.from_clean + constants.from_noisy * constants.signal
        np.testing.assert_allclose(mean, before, atol=2e-5)
        noise = constants.from_noisy**2 * (1.0 - constants.signal**2) + constants.spread**2
        np.testing.assert_allclose(noise, 1.0 - before**2, atol=2e-5)

    def test_last_draw_is_the_prediction(self, schedule: Schedule, steps: int) -> None:
        constants = chain(schedule, steps)
        assert constants.from_clean[0] == pytest.approx(1.0, abs=1e-5)
        assert constants.spread[0] == constants.from_noisy[0] == 0.0


@pytest.mark.parametrize("steps", [2, 5, 6, 30])
def test_vp_discretises_a_linear_rate(steps: int) -> None:
    # The kept variance is exp of minus the integral of 0.1 + 9.9 s over [0, t/T].
    s = np.arange(1, steps + 1) / steps
    kept = np.exp(-(0.1 * s + 9.9 * s**2 / 2.0))
    np.testing.assert_allclose(chain("vp", steps).signal ** 2, kept, rtol=1e-4)


class TestSample:
    @pytest.mark.parametrize("size", [1, 3])
    def test_stays_within_and_differs_by_key(self, size: int) -> None:
        denoisers = a_denoiser(size, 4, copies=(50,))
        seen = jax.random.normal(jax.random.key(1), (50, 4))
        keys = jax.random.split(jax.random.key(2), (50, 2))

        constants = chain("vp", 5)

        @jax.jit
        def drawn(keys: Array) -> Array:
            each = jax.vmap(draws, in_axes=(0, None, 0, 0, None))
            return each(denoisers, constants, keys, seen, size)

        actions = np.asarray(drawn(keys))
        assert actions.shape == (50, 2, size)
        assert np.all(np.abs(actions) < 1.0)
        assert np.all(np.any(actions[:, 0] != actions[:, 1], axis=-1))
        assert np.array_equal(actions, drawn(keys))

    def test_follows_a_denoiser_that_knows(self) -> None:
        # With weights of zero only the last bias speaks: every draw is its tanh.
        denoiser = jax.tree.map(np.zeros_like, a_denoiser(1, 2))
        denoiser = _with_last_bias(denoiser, 0.7)
        keys = jax.random.split(jax.random.key(1), 20)
        drawn = draws(denoiser, chain("vp", 5), keys, jnp.zeros(2), 1)
        np.testing.assert_allclose(drawn, np.tanh(0.7), rtol=1e-6)


class TestNeverFrozen:
    @staticmethod
    @jax.jit
    @jax.value_and_grad
    def mean_draw(denoiser: Denoiser, constants: Chain) -> Array:
        keys = jax.random.split(jax.random.key(1), 8)
        return jnp.mean(draws(denoiser, constants, keys, jnp.zeros(3), 1))

    @pytest.mark.parametrize("bound", [-1.0, 1.0])
    def test_gradient_at_a_bound(self, bound: float) -> None:
        """A chain whose draws sit at a price bound still feels where it should go."""
        denoiser = _with_last_bias(a_denoiser(1, 3, scale=0.5), 4.0 * bound)
        drawn, slope = self.mean_draw(denoiser, chain("vp", 5))
        assert abs(float(drawn) - bound) < 0.01
        gradient = slope.network.layers[-1].bias
        assert np.all(np.isfinite(gradient))
        assert float(gradient[0]) > 0.0

    @pytest.mark.slow
    def test_training_leaves_both_bounds(self) -> None:
        problem, solver = RepeatedPricing(a_fleet()), Diffusion(hidden=32)
        fresh = _fresh(problem, solver)
        stuck = [_with_last_bias(fresh.denoiser, bias) for bias in (-5.0, 5.0)]
        denoisers = jax.tree.map(lambda *parts: np.stack(parts), *stuck)
        learners = jax.tree.map(lambda part: jnp.stack([part, part]), fresh)
        learners = learners._replace(denoiser=denoisers, smooth=denoisers)

        @jax.jit
        @jax.vmap
        def price(learner: DiffusionLearner) -> Array:
            return jnp.mean(_decisions(problem, solver, learner))

        @jax.jit
        @jax.vmap
        def taught(learner: DiffusionLearner) -> DiffusionLearner:
            return _after_epochs(problem, solver, learner, 100)

        np.testing.assert_allclose(price(learners), [-1.0, 1.0], atol=1e-3)
        np.testing.assert_allclose(price(taught(learners)), _best(problem), atol=0.1)


@pytest.mark.slow
def test_expert_mode_restores_the_oracles_decision() -> None:
    problem = RepeatedPricing(a_fleet())
    solver = Diffusion(mode="expert", hidden=32)

    @jax.jit
    def decided(learner: DiffusionLearner) -> Array:
        return _decisions(problem, solver, _after_epochs(problem, solver, learner, 60))

    drawn = decided(_fresh(problem, solver))
    np.testing.assert_allclose(drawn, _best(problem), atol=0.1)


def _fresh(problem: RepeatedPricing, solver: Diffusion) -> DiffusionLearner:
    return jax.jit(lambda key: solver.init(problem, key))(jax.random.key(0))


def _best(problem: RepeatedPricing) -> float:
    """The oracle's decision, the same in every game of a known fleet."""
    best = jax.jit(lambda key: problem.best_action(problem.reset(key)))
    return float(best(jax.random.key(0))[0])


def _after_epochs(
    problem: RepeatedPricing, solver: Diffusion, learner: DiffusionLearner, epochs: int
) -> DiffusionLearner:
    def epoch(learner: DiffusionLearner, key: Array) -> tuple[DiffusionLearner, None]:
        return solver.epoch(problem, learner, key), None

    return jax.lax.scan(epoch, learner, jax.random.split(jax.random.key(3), epochs))[0]


def _decisions(problem: RepeatedPricing, solver: Diffusion, learner: DiffusionLearner) -> Array:
    """What the learner decides in each of its games, given what it sees there."""
    seen = jax.vmap(lambda state: flat_observation(problem, state))(learner.states)
    keys = jax.random.split(jax.random.key(2), len(seen))
    return jax.vmap(lambda key, seen: solver.act(learner, key, seen))(keys, seen)


def _with_last_bias(denoiser: Denoiser, value: float) -> Denoiser:
    return eqx.tree_at(
        lambda each: each.network.layers[-1].bias,
        denoiser,
        np.full_like(denoiser.network.layers[-1].bias, value),
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
class TestSampling:
    """DDIM follows the first noise; DDPM draws on the way. With one step both are the same."""

    def draws(self, schedule: Schedule, steps: int, sampling: Sampling) -> np.ndarray:
        keys = jax.random.split(jax.random.key(4), 8)
        seen = jnp.array([0.3, -0.2])
        return np.asarray(draws(a_denoiser(1, 2), chain(schedule, steps), keys, seen, 1, sampling))

    def test_one_step_is_the_same_either_way(self, schedule: Schedule) -> None:
        assert np.array_equal(self.draws(schedule, 1, "ddpm"), self.draws(schedule, 1, "ddim"))

    def test_more_steps_differ_and_stay_in_range(self, schedule: Schedule) -> None:
        ddpm, ddim = (self.draws(schedule, 4, sampling) for sampling in ("ddpm", "ddim"))
        assert not np.allclose(ddpm, ddim)
        for drawn in (ddpm, ddim):
            assert np.all(np.abs(drawn) < 1.0)


@pytest.mark.parametrize("steps", [0, 21])
def test_impossible_numbers_of_steps_are_named(steps: int) -> None:
    with pytest.raises(InputError, match="steps"):
        Diffusion(steps=steps)


class TestPaperMode:
    def test_it_asks_for_the_articles_reward(self) -> None:
        problem = RepeatedPricing(a_fleet())
        with pytest.raises(InputError, match="binary"):
            Diffusion(mode="paper").init(problem, jax.random.key(0))

    def test_over_a_horizon_a_cycle_earns_more_than_the_optimum(self) -> None:
        """Why the article's reward is learned at gamma = 0 only."""
        problem = RepeatedPricing(a_fleet(), reward="binary")
        rounds = 10

        def earned(actions: list[Array]) -> float:
            state, total = problem.reset(jax.random.key(0)), 0.0
            for action in actions:
                state, payoff = problem.step(jax.random.key(0), state, action)
                total += float(payoff.reward)
            return total / rounds

        best = problem.best_action(problem.reset(jax.random.key(0)))
        assert earned([best] * rounds) == 0.0
        assert earned([jnp.array([-1.0]), best] * (rounds // 2)) == 0.5
