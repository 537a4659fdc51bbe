"""Repeated pricing of a fleet with private costs: the game as a `Problem`."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.satisfaction import FAMILIES, Satisfaction
from edgepact.mechanisms.stackelberg import Game, Outcome, equilibrium, outcome
from edgepact.problem import Payoff, Problem

RewardMode = Literal["utility", "improvement", "binary"]
"""What the learner is told after a round.

`utility` is the server's profit as a share of the cost of running every layer
itself. `improvement` is its change since the round before. `binary` is the
article's 1 if the utility rose and 0 if it fell: over a horizon a constant
optimal price earns 0 with it and a low-high cycle earns 1/2 a round, so it
makes sense only to a learner that looks no further than the next round.
"""


class History(eqx.Module):
    """The last rounds, the latest first; rounds not yet played hold zeros.

    Attributes:
        price: posted price on the scale of actions, [-1, 1].
        layers: the devices' answers as shares of the model's layers.
        played: 1 where the round was played, else 0.
    """

    price: Float[Array, " rounds"]
    layers: Float[Array, "rounds devices"]
    played: Float[Array, " rounds"]

    @staticmethod
    def empty(rounds: int, devices: int) -> "History":
        """A history of which nothing was played."""
        return History(jnp.zeros(rounds), jnp.zeros((rounds, devices)), jnp.zeros(rounds))

    def remember(self, price: Float[Array, ""], layers: Float[Array, " devices"]) -> "History":
        """Puts a round in front; the oldest drops out."""
        return History(
            jnp.concatenate([price[None], self.price[:-1]]),
            jnp.concatenate([layers[None], self.layers[:-1]]),
            jnp.concatenate([jnp.ones(1), self.played[:-1]]),
        )

    def in_order_of_supply(self) -> "History":
        """The same history with the devices that supplied least first."""
        order = jnp.argsort(jnp.sum(self.layers, axis=0))
        return History(self.price, self.layers[:, order], self.played)


class Round(eqx.Module):
    """State of an episode: the fleet, private to it, and what was seen so far."""

    fleet: Fleet
    history: History
    utility: Float[Array, ""]
    number: Float[Array, ""]


class RepeatedPricing(Problem):
    """A server posts a price per layer, round after round, to one fleet of devices.

    Attributes:
        fleets: a prior to draw a fleet from at each reset, or one fixed fleet.
        devices: number of devices a prior draws.
        price: what the server may post, credits per layer.
        beta: credits per GMAC that is left to the server.
        revenue: F, credits a round.
        layers_max, integer, satisfaction: as in `Game`.
        window: rounds the server remembers.
        rounds: length of an episode; None plays on for ever.
        reward: what the learner is told.
    """

    fleets: FleetPrior | Fleet
    price: Interval = Interval(0.05, 3.0)
    devices: int = eqx.field(static=True, default=5)
    beta: float = eqx.field(static=True, default=1.0)
    revenue: float = eqx.field(static=True, default=100.0)
    layers_max: int = eqx.field(static=True, default=12)
    integer: bool = eqx.field(static=True, default=False)
    satisfaction: Satisfaction = eqx.field(static=True, default=FAMILIES["log1p"])
    window: int = eqx.field(static=True, default=1)
    rounds: int | None = eqx.field(static=True, default=None)
    reward: RewardMode = eqx.field(static=True, default="utility")

    @property
    def action_size(self) -> int:
        """One price."""
        return 1

    def reset(self, key: PRNGKeyArray) -> Round:
        """Draws a fleet, unless it is fixed, and forgets all rounds."""
        fleet = self.fleets
        if isinstance(fleet, FleetPrior):
            fleet = fleet.sample(key, self.devices)
        history = History.empty(self.window, len(fleet))
        return Round(fleet, history, jnp.zeros(()), jnp.zeros(()))

    def observe(self, state: Round) -> History:
        """Past prices and answers; nothing private.

        Devices come in order of what they supplied, so that it does not matter
        in which order they enrolled.
        """
        return state.history.in_order_of_supply()

    def step(
        self, key: PRNGKeyArray, state: Round, action: Float[Array, " action"]
    ) -> tuple[Round, Payoff]:
        """Posts the price an action stands for; devices answer with best responses."""
        price = self.price.from_unit(action[0])
        result = outcome(self.game(state.fleet), price)
        after = Round(
            state.fleet,
            state.history.remember(action[0], result.layers / self.layers_max),
            result.server_utility,
            state.number + 1.0,
        )
        return after, self._payoff(state, result)

    def optimum(self, state: Round) -> Payoff:
        """The equilibrium under complete information."""
        return self._payoff(state, equilibrium(self.game(state.fleet)))

    def best_action(self, state: Round) -> Float[Array, " action"]:
        """The equilibrium price as an action."""
        return self.price.to_unit(equilibrium(self.game(state.fleet)).price)[None]

    def finished(self, state: Round) -> Bool[Array, ""]:
        """After `rounds` rounds."""
        return jnp.asarray(False) if self.rounds is None else state.number >= self.rounds

    def game(self, fleet: Fleet) -> Game:
        """The game that is played with a fleet."""
        return Game(
            fleet=fleet,
            revenue=self.revenue,
            beta=self.beta,
            price_min=self.price.low,
            price_max=self.price.high,
            layers_max=self.layers_max,
            integer=self.integer,
            satisfaction=self.satisfaction,
        )

    def _payoff(self, before: Round, result: Outcome) -> Payoff:
        saved_at_most = self.beta * self.layers_max * jnp.sum(before.fleet.A)
        alone = self.revenue - saved_at_most
        change = jnp.where(before.number > 0, result.server_utility - before.utility, 0.0)
        if self.reward == "utility":
            reward = (result.server_utility - alone) / saved_at_most
        elif self.reward == "improvement":
            reward = change / saved_at_most
        else:
            reward = jnp.where(change > 0, 1.0, 0.0)
        return Payoff(result.server_utility, result.device_utility, result.payments, reward)
