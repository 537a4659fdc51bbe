"""The diffusion model finds the best price of all, not the nearest peak.

Every game is measured by the gain over no trade, which shares of a wide range of prices flatter.
All games with as many devices are one compiled program, learners and fleets side by side.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, PRNGKeyArray

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import gain_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.problem import Problem, flat_observation
from edgepact.solvers.learners.diffusion import Diffusion, Memory, _empty, _graded, _stored
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.training import Learner, Solver, play, train
from edgepact.studies.fig4 import two_peaks

WITHIN = 0.99
"""Share of the gain over no trade from which a price counts as the global optimum."""


def exact(fleet: Fleet) -> Fleet:
    return jax.tree.map(lambda column: np.asarray(column, float), fleet)


def far_apart(count: int) -> list[Fleet]:
    """Fleets of three whose entry prices lie so far apart that the profit has a false peak.

    Some have it above the best price and some below; it has 30 to 97 % of the best gain, and
    other prices earn less on the way there.
    """
    rng, fleets = np.random.default_rng(0), []
    prices = np.geomspace(0.024, 12.0, 4001)
    while len(fleets) < count:
        alpha, capacity = 10.0 ** rng.uniform(-1.0, 2.0, 3), rng.uniform(8.0, 14.0, 3)
        fleet = Fleet(alpha, capacity, np.ones(3), np.full(3, 0.5))
        game = Game(fleet, 0.0, 12.0, 0.0, 12.0, layers_max=12, integer=False)
        gain = np.asarray(outcome(game, prices).server_utility) - float(gain_of(game).alone)
        peaks = np.sort(gain[1:-1][(gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])])
        if len(peaks) > 1 and 0.3 <= peaks[-2] / peaks[-1] <= 0.97:
            fleets.append(fleet)
    return fleets


def final_shares(
    solver: Solver, fleets: list[Fleet], high: float, *, seeds: int, epochs: int
) -> np.ndarray:
    """Shares of the gain over no trade after the last epoch, `fleets seeds`: one round each."""

    def problem_of(fleet: Fleet) -> RepeatedPricing:
        return RepeatedPricing(fleet, price=Interval(0.0, high), beta=12.0, revenue=0.0)

    def learn(fleet: Fleet, key: PRNGKeyArray) -> Array:
        problem = problem_of(fleet)
        of_begin, of_epochs, of_last = jax.random.split(key, 3)

        def epoch(learner: Learner, key: PRNGKeyArray) -> tuple[Learner, None]:
            return solver.epoch(problem, learner, key), None

        keys = jax.random.split(of_epochs, epochs)
        learner, _ = jax.lax.scan(epoch, solver.init(problem, of_begin), keys)
        return judged(solver, problem, learner, of_last)

    together = jax.tree.map(lambda *columns: jnp.stack(columns).astype(jnp.float32), *fleets)
    keys = jax.random.split(jax.random.key(1), (len(fleets), seeds))
    utility = jax.jit(jax.vmap(jax.vmap(learn, in_axes=(None, 0))))(together, keys)
    gains = [gain_of(problem_of(fleet).game(exact(fleet))) for fleet in fleets]
    return np.stack(
        [gain.share(np.asarray(own, float)) for gain, own in zip(gains, utility, strict=True)]
    )


def judged(solver: Solver, problem: Problem, learner: Learner, key: PRNGKeyArray) -> Array:
    """Mean utility over sixteen games: the second round, which has seen the first."""

    def game(key: PRNGKeyArray) -> Array:
        first, second, step = jax.random.split(key, 3)
        state = problem.reset(step)
        state, _ = play(
            problem, step, state, solver.act(learner, first, flat_observation(problem, state))
        )
        action = solver.act(learner, second, flat_observation(problem, state))
        return play(problem, step, state, action)[1].leader

    return jnp.mean(jax.vmap(game)(jax.random.split(key, 16)))


def test_a_false_peak_is_left_and_a_wide_range_does_not_hide_the_true_one() -> None:
    """In small: few rounds, and prices to ten times what a layer saves."""
    fleet = two_peaks(120.0).fleets
    assert isinstance(fleet, Fleet)
    solver = Diffusion(hidden=32, learning_updates=160)
    share = final_shares(solver, [fleet], 120.0, seeds=2, epochs=20)
    assert np.all(share >= WITHIN), share
    assert np.all(share <= 1.0 + 1e-4), "nobody beats the oracle"


@pytest.mark.slow
@pytest.mark.parametrize("high", [12.0, 120.0])
def test_fleets_far_apart_each_at_its_best_price(high: float) -> None:
    fleets = far_apart(20)
    ours = final_shares(Diffusion(learning_updates=800), fleets, high, seeds=1, epochs=100)
    assert np.all(ours >= WITHIN), ours.round(4)
    rival = PPO(learning_rate=3e-3, learning_epochs=100)
    theirs = final_shares(rival, fleets, high, seeds=1, epochs=100)
    assert ours.mean() >= theirs.mean() - 1e-4


FIG4 = RepeatedPricing(FleetPrior().sample(jax.random.key(0), 5))
GAMES: dict[str, Callable[[], Any]] = {
    "figure 4": lambda: FIG4,
    "two peaks": lambda: two_peaks(12.0),
    "two peaks, wide": lambda: two_peaks(120.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_sixteen_of_sixteen_seeds(name: str) -> None:
    """With the settings of figure 4's study and a third of its epochs."""
    problem = GAMES[name]()
    training = train(Diffusion(), problem, jax.random.key(1), seeds=16, epochs=160)
    assert training.gain_share is not None
    share = training.gain_share.mean
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
