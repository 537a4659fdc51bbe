"""Proximal policy optimisation, the article's learning baseline.

The clipped objective of Schulman et al. 2017 (arXiv 1707.06347) with
generalised advantage estimation, and the implementation details that matter:
orthogonal initialisation, advantages standardised per minibatch, gradient
clipping, a learning rate that falls to zero.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from edgepact.errors import InputError, check_count
from edgepact.fields import check_number
from edgepact.problem import Problem, State, flat_observation, observation_size
from edgepact.solvers.learners.network import Network
from edgepact.solvers.learners.training import COUNT_MAX, Solver, play
from edgepact.typed import expect_types


class PolicyAndValue(NamedTuple):
    """A Gaussian policy with a spread that does not depend on the state, and a critic."""

    mean: Network
    log_spread: Float[Array, " action"]
    value: Network


class PPOLearner(NamedTuple):
    """All that changes while PPO learns."""

    networks: PolicyAndValue
    optimiser: PyTree
    states: State


class _Rollout(NamedTuple):
    observation: Array
    action: Array
    log_density: Array
    reward: Array
    value: Array


class PPO(Solver):
    """PPO with settings chosen on this game, in its favour (see the fig4 study).

    Attributes:
        games: games played side by side.
        rollout: rounds played in each of them before an update.
        passes: times a rollout is gone through.
        minibatches: parts a rollout is split into.
        hidden: width of the networks.
        learning_rate: at the start; falls linearly to zero over `learning_epochs`.
        discount: gamma. A posted price does not change the game, so 0 looks as far
            as there is anything to see, and estimates advantages with least noise.
        trace: lambda of the advantage estimate.
        clip: how far the density ratio may move.
        value_weight, entropy_weight: of the loss terms.

    Raises:
        InputError: a number is out of range.
    """

    games: int = eqx.field(static=True, default=8)
    rollout: int = eqx.field(static=True, default=8)
    passes: int = eqx.field(static=True, default=10)
    minibatches: int = eqx.field(static=True, default=2)
    hidden: int = eqx.field(static=True, default=64)
    learning_rate: float = eqx.field(static=True, default=1e-3)
    learning_epochs: int = eqx.field(static=True, default=500)
    discount: float = eqx.field(static=True, default=0.0)
    trace: float = eqx.field(static=True, default=0.95)
    clip: float = eqx.field(static=True, default=0.2)
    value_weight: float = eqx.field(static=True, default=0.5)
    entropy_weight: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        expect_types("PPO", self)
        for name in ("games", "rollout", "passes", "minibatches", "hidden", "learning_epochs"):
            check_count("PPO", name, getattr(self, name), most=COUNT_MAX)
        for name in ("learning_rate", "clip"):
            check_number("PPO", name, getattr(self, name), above=0.0)
        for name in ("discount", "trace"):
            check_number("PPO", name, getattr(self, name), least=0.0, most=1.0)
        for name in ("value_weight", "entropy_weight"):
            check_number("PPO", name, getattr(self, name), least=0.0)
        if self.rounds_per_epoch % self.minibatches:
            expected = f"a divisor of the {self.rounds_per_epoch} rounds of an epoch"
            raise InputError("PPO", "minibatches", expected, self.minibatches)

    @property
    def rounds_per_epoch(self) -> int:
        """One rollout of every game."""
        return self.games * self.rollout

    def init(self, problem: Problem, key: PRNGKeyArray) -> PPOLearner:
        """A policy centred on the middle of the range, spread over all of it."""
        of_mean, of_value, of_games = jax.random.split(key, 3)
        features, actions = observation_size(problem), problem.action_size
        sizes = (features, self.hidden, self.hidden)
        networks = PolicyAndValue(
            mean=_orthogonal(Network((*sizes, actions), of_mean), 0.01, of_mean),
            log_spread=jnp.full(actions, -0.5),
            value=_orthogonal(Network((*sizes, 1), of_value), 1.0, of_value),
        )
        states = jax.vmap(problem.reset)(jax.random.split(of_games, self.games))
        return PPOLearner(networks, self._optimiser().init(networks), states)

    def epoch(self, problem: Problem, learner: PPOLearner, key: PRNGKeyArray) -> PPOLearner:
        """One rollout and its update."""
        of_play, of_passes = jax.random.split(key)
        states, rounds, last = self._play(problem, learner, of_play)
        advantage = self._advantages(rounds, last)
        returns = advantage + rounds.value
        batch = jax.tree.map(
            lambda x: x.reshape(self.rounds_per_epoch, *x.shape[2:]), (rounds, advantage, returns)
        )
        optimiser = self._optimiser()

        def minibatch(carry: Any, rows: Array) -> tuple[Any, None]:
            networks, steps = carry
            part = jax.tree.map(lambda x: x[rows], batch)
            gradient = jax.grad(self._loss)(networks, *part)
            step, steps = optimiser.update(gradient, steps)
            return (eqx.apply_updates(networks, step), steps), None

        orders = jax.vmap(lambda key: jax.random.permutation(key, self.rounds_per_epoch))(
            jax.random.split(of_passes, self.passes)
        )
        rows = orders.reshape(self.passes * self.minibatches, -1)
        carry, _ = jax.lax.scan(minibatch, (learner.networks, learner.optimiser), rows)
        return PPOLearner(*carry, states)

    def act(
        self, learner: PPOLearner, key: PRNGKeyArray, observation: Float[Array, " features"]
    ) -> Float[Array, " action"]:
        """The mean of the policy: better than a draw from it."""
        return jnp.clip(learner.networks.mean(observation), -1.0, 1.0)

    def _optimiser(self) -> optax.GradientTransformation:
        updates = self.learning_epochs * self.passes * self.minibatches
        rate = optax.linear_schedule(self.learning_rate, 0.0, updates)
        return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-5))

    def _play(
        self, problem: Problem, learner: PPOLearner, key: PRNGKeyArray
    ) -> tuple[State, _Rollout, Array]:
        networks = learner.networks

        def one(key: PRNGKeyArray, state: State) -> tuple[State, _Rollout]:
            of_action, of_step = jax.random.split(key)
            observation = flat_observation(problem, state)
            mean, spread = networks.mean(observation), jnp.exp(networks.log_spread)
            action = mean + spread * jax.random.normal(of_action, mean.shape)
            after, payoff = play(problem, of_step, state, jnp.clip(action, -1.0, 1.0))
            density = _log_density(action, mean, networks.log_spread)
            value = networks.value(observation)[0]
            return after, _Rollout(observation, action, density, payoff.reward, value)

        def together(states: State, key: PRNGKeyArray) -> tuple[State, _Rollout]:
            return jax.vmap(one)(jax.random.split(key, self.games), states)

        keys = jax.random.split(key, self.rollout)
        states, rounds = jax.lax.scan(together, learner.states, keys)
        seen = jax.vmap(lambda state: flat_observation(problem, state))(states)
        return states, rounds, jax.vmap(networks.value)(seen)[:, 0]

    def _advantages(self, rounds: _Rollout, last: Array) -> Array:
        def backwards(carry: tuple[Array, Array], now: tuple[Array, Array]) -> Any:
            advantage, value_after = carry
            reward, value = now
            surprise = reward + self.discount * value_after - value
            advantage = surprise + self.discount * self.trace * advantage
            return (advantage, value), advantage

        start = (jnp.zeros_like(last), last)
        _, advantage = jax.lax.scan(backwards, start, (rounds.reward, rounds.value), reverse=True)
        return advantage

    def _loss(
        self, networks: PolicyAndValue, rounds: _Rollout, advantage: Array, returns: Array
    ) -> Float[Array, ""]:
        mean = jax.vmap(networks.mean)(rounds.observation)
        density = _log_density(rounds.action, mean, networks.log_spread)
        ratio = jnp.exp(density - rounds.log_density)
        advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
        clipped = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        gain = jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
        value = jax.vmap(networks.value)(rounds.observation)[:, 0]
        entropy = jnp.sum(networks.log_spread)
        error = jnp.mean((value - returns) ** 2)
        return -gain + self.value_weight * error - self.entropy_weight * entropy


def _log_density(action: Array, mean: Array, log_spread: Array) -> Array:
    scaled = (action - mean) / jnp.exp(log_spread)
    return jnp.sum(-0.5 * scaled**2 - log_spread - 0.5 * jnp.log(2.0 * jnp.pi), axis=-1)


def _orthogonal(network: Network, last_scale: float, key: PRNGKeyArray) -> Network:
    """Orthogonal weights, zero biases; the last layer scaled down."""
    layers = []
    keys = jax.random.split(key, len(network.layers))
    for at, layer in enumerate(network.layers):
        scale = last_scale if at == len(network.layers) - 1 else 2.0**0.5
        weight = jax.nn.initializers.orthogonal(scale)(keys[at], layer.weight.shape)
        layers.append(
            eqx.tree_at(
                lambda each: (each.weight, each.bias), layer, (weight, jnp.zeros(len(weight)))
            )
        )
    return eqx.tree_at(lambda net: net.layers, network, tuple(layers))
