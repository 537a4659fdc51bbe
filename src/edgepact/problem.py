"""The seam between mechanisms and solvers: what a leader sees, chooses and earns.

A mechanism states its repeated decision as a `Problem`, a bundle of pure
functions that `jit` and `vmap`. A solver learns a decision knowing nothing
but this interface. Every problem carries its own exact optimum, so a learned
result is always reported as a share of the best possible.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

State = Any
"""A problem's own state: a pytree of arrays, private values included."""

Observation = PyTree[Float[Array, "..."]]
"""What the leader may see. Never a private value."""


class Payoff(eqx.Module):
    """What one round gave, in credits.

    Attributes:
        leader: the leader's utility.
        followers: each follower's utility.
        payments: what the leader paid to each follower.
        reward: what a learner is told, in the problem's reward mode.
    """

    leader: Float[Array, ""]
    followers: Float[Array, " followers"]
    payments: Float[Array, " followers"]
    reward: Float[Array, ""]


class Problem(eqx.Module):
    """A leader's repeated decision. Actions lie in [-1, 1]^d, `d = action_size`."""

    @property
    @abstractmethod
    def action_size(self) -> int:
        """Number of components of an action."""

    @abstractmethod
    def reset(self, key: PRNGKeyArray) -> State:
        """Draws an environment and starts an episode in it."""

    @abstractmethod
    def observe(self, state: State) -> Observation:
        """What the leader may see before it decides."""

    @abstractmethod
    def step(
        self, key: PRNGKeyArray, state: State, action: Float[Array, " action"]
    ) -> tuple[State, Payoff]:
        """The followers respond to the action, and everybody earns."""

    @abstractmethod
    def optimum(self, state: State) -> Payoff:
        """The oracle: the best that full knowledge of `state` allows in this round."""

    @abstractmethod
    def best_action(self, state: State) -> Float[Array, " action"]:
        """The oracle's decision: what earns `optimum`. Shown to learners only in training."""

    @abstractmethod
    def finished(self, state: State) -> Bool[Array, ""]:
        """Whether the episode is over and the next round needs a `reset`."""


def flat_observation(problem: Problem, state: State) -> Float[Array, " features"]:
    """The observation as one vector, for learners that take vectors."""
    leaves = jax.tree.leaves(problem.observe(state))
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def observation_size(problem: Problem) -> int:
    """Length of `flat_observation`, found without computing anything."""

    def first_observation(key: PRNGKeyArray) -> Float[Array, " features"]:
        return flat_observation(problem, problem.reset(key))

    return int(jax.eval_shape(first_observation, jax.random.key(0)).shape[0])
