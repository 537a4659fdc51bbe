"""The diffusion model finds the best price of all, not the nearest peak.

Every game is measured by the gain over no trade, which shares of a wide range of prices flatter.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.solvers.learners.diffusion import Diffusion, Memory, _empty, _graded, _stored
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.training import Solver
from edgepact.studies.false_peaks import far_apart, learn, two_peaks

WITHIN = 0.99
"""Share of the gain over no trade from which a price counts as the global optimum."""


@pytest.mark.slow
def test_a_false_peak_is_left_and_a_wide_range_does_not_hide_the_true_one() -> None:
    """In small: few rounds, and prices to ten times what a layer saves."""
    solver = Diffusion(hidden=32, learning_updates=160)
    share = learn(solver, [two_peaks()], 120.0, seed=1, seeds=2, epochs=20)
    assert np.all(share.gain[:, -1] >= WITHIN), share.gain[:, -1]
    assert np.all(share.gain <= 1.0 + 1e-4), "nobody beats the oracle"


@pytest.mark.full
@pytest.mark.parametrize("high", [12.0, 120.0])
def test_fleets_far_apart_each_at_its_best_price(high: float) -> None:
    def final(solver: Solver) -> np.ndarray:
        return learn(solver, far_apart(20), high, seed=1, seeds=1, epochs=100).gain[:, -1]

    ours = final(Diffusion(learning_updates=800))
    assert np.all(ours >= WITHIN), ours.round(4)
    theirs = final(PPO(learning_rate=3e-3, learning_epochs=100))
    assert ours.mean() >= theirs.mean() - 1e-4


@pytest.mark.full
@pytest.mark.parametrize("high", [12.0, 120.0])
def test_sixteen_of_sixteen_seeds(high: float) -> None:
    """With the settings of figure 4's study."""
    solver = Diffusion(learning_updates=1280)
    share = learn(solver, [two_peaks()], high, seed=1, seeds=16, epochs=160).gain
    assert np.all(share[:, -20:].mean(axis=1) >= WITHIN), share[:, -20:].mean(axis=1)
    assert np.all(share[:, -1] >= WITHIN), share[:, -1]


class TestMemory:
    """Explored rounds outlast those played once the price is found."""

    def test_only_what_is_kept_takes_a_place_and_the_oldest_goes_first(self) -> None:
        memory = _empty(4, features=1, actions=1)
        for start in (0.0, 4.0):
            numbers = start + jnp.arange(4.0)
            column = numbers[:, None]
            played = Memory(column, column, numbers, column, jnp.ones(4))
            memory = _stored(memory, played, jnp.array([True, False, True, True]))
        # 0 2 3 4 6 7 were kept, in a ring of four.
        assert sorted(np.asarray(memory.reward).tolist()) == [3.0, 4.0, 6.0, 7.0]
        assert np.array_equal(memory.action[:, 0], memory.reward)
        assert float(memory.rounds) == 6.0

    def test_grades_rise_with_rewards_and_are_finest_near_the_best(self) -> None:
        rewards = jnp.array([-50.0, -1.0, 0.0, 0.1, 0.45, 0.46, 0.0, 0.0])
        explored = _empty(8, features=1, actions=1)._replace(
            reward=rewards.at[6].set(9.0), rounds=jnp.asarray(6.0)
        )
        latest = _empty(2, features=1, actions=1)
        grade = np.asarray(_graded(rewards[:6], explored, latest))
        assert np.all(np.diff(grade) > 0)
        assert grade[2] == pytest.approx(0.0, abs=1e-5), "the median of the six there are"
        assert grade[0] > -5.0, "a great loss is not all that critics see"
        assert (grade[5] - grade[4]) / 0.01 > 5 * (grade[3] - grade[2]) / 0.1
        # What was found since is better than all that was explored, and there is still an upward.
        latest = latest._replace(reward=jnp.array([0.5, 9.0]), rounds=jnp.asarray(1.0))
        better = np.asarray(_graded(jnp.array([0.46, 0.48, 0.5]), explored, latest))
        assert np.all(np.diff(better) > 0.1)

    def test_equal_rewards_are_graded_alike_and_finite(self) -> None:
        explored = _empty(8, features=1, actions=1)
        for rounds in (0.0, 8.0):
            filled = explored._replace(rounds=jnp.asarray(rounds))
            grade = _graded(jnp.zeros(3), filled, filled)
            assert np.all(np.isfinite(grade))
            assert float(np.ptp(grade)) == 0.0
