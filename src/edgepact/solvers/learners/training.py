"""How a solver learns a problem: epochs of play, each followed by an evaluation.

All learners share this loop, so that a figure compares like with like. An
*epoch* is a fixed number of rounds of the game, the same for every learner:
rounds are what an operator pays for. The loop is one compiled program; seeds
run side by side under `vmap`.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.problem import Payoff, Problem, State, flat_observation

Learner = Any
"""A solver's own state: networks, optimisers, memory."""


class Solver(eqx.Module):
    """A way to find a leader's decision. Fields are its configuration."""

    @abstractmethod
    def init(self, problem: Problem, key: PRNGKeyArray) -> Learner:
        """A learner that has seen nothing."""

    @abstractmethod
    def epoch(self, problem: Problem, learner: Learner, key: PRNGKeyArray) -> Learner:
        """Plays `rounds_per_epoch` rounds and learns from them."""

    @abstractmethod
    def act(
        self, learner: Learner, key: PRNGKeyArray, observation: Float[Array, " features"]
    ) -> Float[Array, " action"]:
        """The decision without exploration."""

    @property
    @abstractmethod
    def rounds_per_epoch(self) -> int:
        """Rounds of the game played in one epoch."""


class Training(NamedTuple):
    """Result of `train`.

    Attributes:
        learner: the learner after the last epoch; leading axis seeds.
        utility: the leader's mean utility after each epoch, credits.
        action: the mean action after each epoch.
    """

    learner: Learner
    utility: Float[Array, "seeds epochs"]
    action: Float[Array, "seeds epochs"]


def train(
    solver: Solver,
    problem: Problem,
    key: PRNGKeyArray,
    *,
    seeds: int,
    epochs: int,
    lanes: int = 16,
    chunk: int = 25,
    on_epochs: Callable[[int], None] = lambda epochs: None,
) -> Training:
    """Trains `seeds` independent learners side by side.

    After every epoch the learner plays one round, without exploring and without
    learning from it, in each of `lanes` games kept for evaluation.

    Args:
        solver: the way to learn.
        problem: what to learn.
        key: of all randomness.
        seeds: number of learners.
        epochs: epochs to play.
        lanes: games kept for evaluation.
        chunk: epochs in one call of the compiled program.
        on_epochs: called with the number of epochs done, after each chunk.
    """

    def begin(key: PRNGKeyArray) -> tuple[Learner, State]:
        of_learner, of_lanes = jax.random.split(key)
        lane_keys = jax.random.split(of_lanes, lanes)
        return solver.init(problem, of_learner), jax.vmap(problem.reset)(lane_keys)

    def one_epoch(carry: tuple[Learner, State], key: PRNGKeyArray) -> tuple[Any, Any]:
        learner, states = carry
        of_epoch, of_play = jax.random.split(key)
        learner = solver.epoch(problem, learner, of_epoch)

        def lane(key: PRNGKeyArray, state: State) -> tuple[State, Payoff, Array]:
            of_action, of_step = jax.random.split(key)
            action = solver.act(learner, of_action, flat_observation(problem, state))
            after, payoff = play(problem, of_step, state, action)
            return after, payoff, action

        states, payoff, action = jax.vmap(lane)(jax.random.split(of_play, lanes), states)
        return (learner, states), (jnp.mean(payoff.leader), jnp.mean(action))

    @jax.jit
    def run(carry: tuple[Learner, State], keys: Array) -> tuple[Any, Any]:
        return jax.vmap(lambda c, k: jax.lax.scan(one_epoch, c, k))(carry, keys)

    of_begin, of_run = jax.random.split(key)
    carry = jax.jit(jax.vmap(begin))(jax.random.split(of_begin, seeds))
    keys = jax.random.split(of_run, (seeds, epochs))
    curves = []
    for start in range(0, epochs, chunk):
        carry, curve = run(carry, keys[:, start : start + chunk])
        curves.append(jax.tree.map(lambda part: part.block_until_ready(), curve))
        on_epochs(min(start + chunk, epochs))
    utility, action = (jnp.concatenate(parts, axis=1) for parts in zip(*curves, strict=True))
    return Training(carry[0], utility, action)


def play(
    problem: Problem, key: PRNGKeyArray, state: State, action: Float[Array, " action"]
) -> tuple[State, Payoff]:
    """One round; an episode that ends is followed by a new one."""
    of_step, of_reset = jax.random.split(key)
    after, payoff = problem.step(of_step, state, action)
    fresh = problem.reset(of_reset)
    over = problem.finished(after)
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, after), payoff
