"""Problems as Gymnasium environments, for learners from outside.

Importing this module registers

- `edgepact/Stackelberg-v0`: 20 rounds of pricing with a fleet of five drawn anew for
  each episode, continuous layers;
- `edgepact/StackelbergInteger-v0`: the same with whole layers;
- `edgepact/StackelbergClasses-v0`: a price for each of three classes of devices;
- `edgepact/StackelbergLayers-v0`: a price for each layer, in order, with whole layers,

all showing the last four rounds. `gymnasium.make("edgepact.gym:edgepact/Stackelberg-v0")`
imports it on the way. Any other `Problem` becomes an environment by `ProblemEnv(problem)`.

Learners see past prices and answers and the reward, never a private value. The
`info` of a step carries the utility and the best possible one, for scoring only.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.compiled import keep_compiled
from edgepact.errors import InputError, MissingExtraError, shown
from edgepact.fields import check_kind, check_number, check_whole
from edgepact.fleet import FleetPrior
from edgepact.mechanisms.stackelberg.class_pricing import ClassPricing
from edgepact.mechanisms.stackelberg.layer_pricing import LayerPricing
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.problem import (
    Payoff,
    Problem,
    State,
    check,
    check_seen,
    flat_observation,
    observation_size,
)

try:
    import gymnasium
    from gymnasium import spaces
except ImportError:
    raise MissingExtraError("An environment for Gymnasium", "gym") from None

SEED_MAX = 2**63 - 1
"""Largest seed of an episode."""

SEEDS = 2**31
"""Keys are drawn from this many seeds."""


class ProblemEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A problem behind the interface of Gymnasium.

    Args:
        problem: what is played; an episode lasts until it says so.
        observation_max: no component of an observation is larger in size.

    An environment can be pickled and copied, in the middle of an episode too.

    Raises:
        InputError: the pieces of the problem do not fit together (`problem.check`).
    """

    def __init__(self, problem: Problem, *, observation_max: float = 1.0) -> None:
        check_number("environment", "observation_max", observation_max, above=0.0)
        check_kind("environment", "problem", problem, Problem, "a Problem")
        check(problem)
        keep_compiled()
        size = observation_size(problem)
        self.action_space = spaces.Box(-1.0, 1.0, (problem.action_size,), np.float32)
        self.observation_space = spaces.Box(-observation_max, observation_max, (size,), np.float32)
        self.problem = problem
        self._state: State | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode in an environment drawn anew; takes no options.

        Raises:
            InputError: the seed is none, or what the leader sees is not finite.
        """
        if seed is not None:
            check_whole("environment", "seed", seed, least=0, most=SEED_MAX)
        super().reset(seed=seed)
        self._state, observation = _reset(self.problem, self._key())
        return self._seen(observation), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            InputError: the action has another shape or is not in [-1, 1], or what the
                problem made of it is not finite.
        """
        if self._state is None:
            raise InputError("environment", "step", "reset() before the first step", "none")
        try:
            chosen = np.asarray(action, np.float32)
        except (TypeError, ValueError):
            chosen = np.full(1, np.nan, np.float32)
        if chosen.shape != self.action_space.shape or not np.all(np.abs(chosen) <= 1.0):
            expected = f"{self.problem.action_size} numbers from -1 to 1"
            raise InputError("environment", "action", expected, shown(action))
        self._state, observation, payoff, best, over = _step(
            self.problem, self._key(), self._state, jnp.asarray(chosen)
        )
        reward, info = float(payoff.reward), {"utility": float(payoff.leader)}
        if not (np.isfinite(reward) and np.isfinite(info["utility"])):
            found = f"reward {reward}, utility {info['utility']}"
            raise InputError(type(self.problem).__name__, "step()", "finite numbers", found)
        info["utility_max"] = float(best)
        return self._seen(observation), reward, bool(over), False, info

    def _seen(self, observation: Float[Array, " features"]) -> np.ndarray:
        """A copy that belongs to the caller, who may write into it."""
        check_seen(self.problem, observation)
        return np.array(observation, np.float32)

    def _key(self) -> PRNGKeyArray:
        return jax.random.key(int(self.np_random.integers(SEEDS)))


def stackelberg(
    *, integer: bool = False, devices: int = 5, window: int = 4, rounds: int = 20
) -> ProblemEnv:
    """Repeated pricing of fleets of the default prior.

    Args:
        integer: whether devices run whole layers.
        devices: number of devices in a fleet.
        window: rounds the server remembers.
        rounds: length of an episode.

    Raises:
        InputError: a number is below 1, or above what can be held.
    """
    problem = RepeatedPricing(
        FleetPrior(), devices=devices, integer=integer, window=window, rounds=rounds
    )
    return ProblemEnv(problem)


def stackelberg_classes(*, integer: bool = False, window: int = 4, rounds: int = 20) -> ProblemEnv:
    """Repeated pricing of phones, cameras and gateways, a price each.

    Args:
        integer: whether devices run whole layers.
        window: rounds the server remembers.
        rounds: length of an episode.
    """
    return ProblemEnv(ClassPricing(integer=integer, window=window, rounds=rounds))


def stackelberg_layers(*, devices: int = 5, window: int = 4, rounds: int = 20) -> ProblemEnv:
    """Repeated pricing with a schedule, a price for each layer, of fleets of the default prior.

    Args:
        devices: number of devices in a fleet.
        window: rounds the server remembers.
        rounds: length of an episode.
    """
    return ProblemEnv(LayerPricing(devices=devices, window=window, rounds=rounds))


@eqx.filter_jit
def _reset(problem: Problem, key: PRNGKeyArray) -> tuple[State, Float[Array, " features"]]:
    state = problem.reset(key)
    return state, flat_observation(problem, state)


@eqx.filter_jit
def _step(
    problem: Problem, key: PRNGKeyArray, state: State, action: Float[Array, " action"]
) -> tuple[State, Float[Array, " features"], Payoff, Float[Array, ""], Array]:
    best = problem.optimum(state).leader
    after, payoff = problem.step(key, state, action)
    return after, flat_observation(problem, after), payoff, best, problem.finished(after)


gymnasium.register(id="edgepact/Stackelberg-v0", entry_point="edgepact.gym:stackelberg")
gymnasium.register(
    id="edgepact/StackelbergInteger-v0",
    entry_point="edgepact.gym:stackelberg",
    kwargs={"integer": True},
)
gymnasium.register(
    id="edgepact/StackelbergClasses-v0", entry_point="edgepact.gym:stackelberg_classes"
)
gymnasium.register(
    id="edgepact/StackelbergLayers-v0", entry_point="edgepact.gym:stackelberg_layers"
)
