"""The seam between mechanisms and solvers: what a leader sees, chooses and earns.

A mechanism states its repeated decision as a `Problem`, a bundle of pure
functions that `jit` and `vmap`. A solver learns a decision knowing nothing
but this interface. Every problem carries its own exact optimum, so a learned
result is always reported as a share of the best possible. `check` holds the pieces of a
problem against each other; whoever plays one calls it first.
"""

from abc import abstractmethod
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from edgepact.errors import InputError, check_count

State = Any
"""A problem's own state: a pytree of arrays, private values included."""

Observation: TypeAlias = PyTree[Float[Array, "..."]]
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
    """A leader's repeated decision. Actions lie in [-1, 1]^d, `d = action_size`.

    Arrays in its fields are arguments of what is compiled, so that methods know their shapes and
    no values. Problems that differ in arrays alone share a compiled program.
    """

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

    def guess(self, state: State) -> Float[Array, ""] | None:
        """The leader's mean utility if it guesses in this round: the zero of the score.

        None, unless a problem says what guessing is: a share is then one of the optimum.
        """
        return None

    def no_trade(self, state: State) -> Float[Array, ""] | None:
        """The leader's utility if it trades with nobody in this round: the zero of its gain.

        None, unless a problem says what that is.
        """
        return None

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


_VALUE_ASKED_FOR = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)
"""What JAX raises where a method asks for the value of an array while it is compiled."""


def check(problem: Problem) -> None:
    """Holds the pieces of a problem against each other; nothing is compiled or computed.

    Shapes and types are found by tracing (`jax.eval_shape`), so a mistake is told in words
    before minutes go into compiling it.

    Raises:
        InputError: a piece has another shape or type than the seam wants; it is named as
            `Class: method()`. Or a method asks for the values of an array.
    """
    name = type(problem).__name__
    size = problem.action_size
    check_count(name, "action_size", size)

    def pieces(problem: Problem, key: PRNGKeyArray) -> dict[str, Any]:
        def of(method: str, *args: Any) -> Any:
            try:
                return getattr(problem, method)(*args)
            except _VALUE_ASKED_FOR as error:
                expected = "operations of JAX, such as jnp.where for `if`: values are not known yet"
                found = str(error).splitlines()[0]
                raise InputError(name, f"{method}()", expected, found) from error

        state = of("reset", key)
        stepped = of("step", key, state, jnp.zeros(size))
        if not isinstance(stepped, tuple) or len(stepped) != 2:
            expected = "the next state and a Payoff, as a pair"
            raise InputError(name, "step()", expected, f"a {type(stepped).__name__}")
        after, payoff = stepped
        read = ("observe", "optimum", "best_action", "guess", "no_trade")
        return {
            "reset": state,
            "step": payoff,
            "after": after,
            **{method: of(method, state) for method in read},
            "finished": of("finished", after),
        }

    found = eqx.filter_eval_shape(pieces, problem, jax.random.key(0))
    _check_observation(name, found["observe"])
    _check_payoffs(name, found["step"], found["optimum"])
    _check_number(name, "best_action()", found["best_action"], (size,))
    for method in ("guess", "no_trade"):
        if found[method] is not None:
            _check_number(name, f"{method}()", found[method], ())
    over = found["finished"]
    if _shape(over) != () or over.dtype != jnp.bool_:
        raise InputError(
            name,
            "finished()",
            "one truth value of JAX, bool (), such as jnp.asarray(True)",
            _told(over),
        )
    _check_state(name, found["reset"], found["after"])


def check_seen(problem: Problem, observation: Any) -> None:
    """Refuses an observation that no learner could use.

    Args:
        problem: what was observed.
        observation: a vector, or several of one shape, as `flat_observation` gives them.

    Raises:
        InputError: it is not finite.
    """
    bad = ~np.isfinite(np.asarray(observation))
    if bad.any():
        found = f"{np.asarray(observation)[bad].ravel()[0]} at place {int(np.argwhere(bad)[0, -1])}"
        raise InputError(type(problem).__name__, "observe()", "finite numbers", found)


def _check_observation(name: str, seen: Any) -> None:
    leaves = jax.tree.leaves(seen)
    if not leaves:
        raise InputError(name, "observe()", "at least one array of numbers", "none")
    for leaf in leaves:
        if _shape(leaf) is None or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(name, "observe()", "arrays of floating point numbers", _told(leaf))


def _check_payoffs(name: str, step: Any, optimum: Any) -> None:
    for method, payoff in (("step()", step), ("optimum()", optimum)):
        if not isinstance(payoff, Payoff):
            raise InputError(name, method, "a Payoff", type(payoff).__name__)
        for field in ("leader", "reward"):
            _check_number(name, f"{method}.{field}", getattr(payoff, field), ())
        shape = _shape(payoff.followers)
        if shape is None or len(shape) != 1:
            expected = "one number for each follower, a vector"
            raise InputError(name, f"{method}.followers", expected, _told(payoff.followers))
        _check_number(name, f"{method}.followers", payoff.followers, shape)
        _check_number(name, f"{method}.payments", payoff.payments, shape)


def _check_number(name: str, what: str, found: Any, shape: tuple[int, ...]) -> None:
    if _shape(found) != shape or not jnp.issubdtype(found.dtype, jnp.floating):
        expected = "one floating point number, shape ()" if shape == () else f"numbers, {shape}"
        raise InputError(name, what, expected, _told(found))


def _check_state(name: str, before: Any, after: Any) -> None:
    """A compiled loop carries the state, so a step may not change what it is made of."""
    made, left = str(jax.tree.structure(before)), str(jax.tree.structure(after))
    if made != left:
        raise InputError(name, "step()", f"a state like {made}", left)
    for (path, one), other in zip(
        jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        if _shape(one) != _shape(other) or one.dtype != other.dtype:
            place = f"step(), state{jax.tree_util.keystr(path)}"
            raise InputError(name, place, f"{_told(one)} as reset() made it", _told(other))


def _shape(leaf: Any) -> tuple[int, ...] | None:
    return getattr(leaf, "shape", None)


def _told(leaf: Any) -> str:
    shape = _shape(leaf)
    return type(leaf).__name__ if shape is None else f"{leaf.dtype} {shape}"
