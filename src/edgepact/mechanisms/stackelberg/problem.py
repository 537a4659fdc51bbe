"""Repeated pricing of a fleet with private costs: the game as a `Problem`."""

import math
from dataclasses import replace
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.errors import InputError, check_choice, check_count
from edgepact.fields import check_flag, check_kind
from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.dynamics import Conditions, Dynamics
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.price_scale import on_a_log_scale
from edgepact.mechanisms.stackelberg.responses import Outcome, outcome, settle
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction
from edgepact.mechanisms.stackelberg.score import alone_utility, random_utility
from edgepact.mechanisms.stackelberg.terms import LAYERS_MAX, Game
from edgepact.problem import Payoff, Problem

RewardMode = Literal["utility", "improvement", "binary"]
"""What the learner is told after a round.

`utility` is the server's profit as a share of the cost of running every layer
itself. `improvement` is its change since the round before. `binary` is the
article's 1 if the utility rose and 0 if it fell: over a horizon a constant
optimal price earns 0 with it and a low-high cycle earns 1/2 a round, so it
makes sense only to a learner that looks no further than the next round.
"""


FLEETS = "a Fleet, or a FleetPrior to draw one from"
"""What a problem is told of its devices."""


class History(eqx.Module):
    """The last rounds, the latest first; rounds not yet played hold zeros.

    Attributes:
        price: what was posted on the scale of actions, [-1, 1]: a price, or one for
            each layer.
        layers: the devices' answers as shares of the model's layers.
        played: 1 where the round was played, else 0.
        present: 1 where the device took part in the round, else 0; None of a fleet
            that does not change.
        here: 1 where the device is there now, else 0; None likewise.
    """

    price: Float[Array, "rounds *prices"]  # noqa: F821
    layers: Float[Array, "rounds devices"]
    played: Float[Array, " rounds"]
    present: Float[Array, "rounds devices"] | None = None
    here: Float[Array, " devices"] | None = None

    @staticmethod
    def empty(rounds: int, devices: int, prices: tuple[int, ...] = ()) -> "History":
        """A history of which nothing was played; `prices` is the shape of what is posted."""
        posted = jnp.zeros((rounds, *prices))
        return History(posted, jnp.zeros((rounds, devices)), jnp.zeros(rounds))

    @staticmethod
    def of_changing(rounds: int, here: Bool[Array, " devices"]) -> "History":
        """A history of which nothing was played, with those who are there now."""
        devices = here.shape[0]
        nothing = History.empty(rounds, devices)
        absent = jnp.zeros((rounds, devices))
        return replace(nothing, present=absent, here=here.astype(absent.dtype))

    def remember(
        self, price: Float[Array, "*prices"], layers: Float[Array, " devices"]
    ) -> "History":
        """Puts a round in front; the oldest drops out."""
        return History(
            jnp.concatenate([price[None], self.price[:-1]]),
            jnp.concatenate([layers[None], self.layers[:-1]]),
            jnp.concatenate([jnp.ones(1), self.played[:-1]]),
            self.present,
            self.here,
        )

    def turn_over(self, new: Bool[Array, " devices"], here: Bool[Array, " devices"]) -> "History":
        """Notes who took part in the latest round and who is there for the next one.

        A device that is new in a slot has no past: that of the one before it is gone.
        """
        assert self.present is not None
        assert self.here is not None
        present = jnp.concatenate([self.here[None], self.present[:-1]])
        return History(
            self.price,
            jnp.where(new, 0.0, self.layers),
            self.played,
            jnp.where(new, 0.0, present),
            here.astype(present.dtype),
        )

    def in_order_of_supply(self) -> "History":
        """The same history with the devices that supplied least first."""
        order = jnp.argsort(jnp.sum(self.layers, axis=0))
        return History(
            self.price,
            self.layers[:, order],
            self.played,
            None if self.present is None else self.present[:, order],
            None if self.here is None else self.here[order],
        )


class Round(eqx.Module):
    """State of an episode: the fleet, private to it, and what was seen so far.

    Of a fleet that changes, `fleet` is what it is in this round, with no capacity in
    empty slots, and `conditions` say what it comes from.
    """

    fleet: Fleet
    history: History
    utility: Float[Array, ""]
    number: Float[Array, ""]
    conditions: Conditions | None = None


class RepeatedPricing(Problem):
    """A server posts a price per layer, round after round, to one fleet of devices.

    Attributes:
        fleets: a prior to draw a fleet from at each reset, or one fixed fleet.
        devices: number of devices a prior draws.
        price: what the server may post, credits per layer. An action stands for a price on a
            logarithmic scale (`price_scale`); an interval with a scale of its own keeps it.
        beta: credits per GMAC that is left to the server.
        revenue: F, credits a round.
        layers_max, integer, satisfaction: as in `Game`.
        window: rounds the server remembers.
        rounds: length of an episode; None plays on for ever.
        reward: what the learner is told.
        dynamics: what changes from round to round; None for nothing. With churn, the
            number of devices is the number of slots; those who come are drawn from
            the prior, or return if the fleet is fixed.

    Raises:
        InputError: there are no devices, a size is below 1, prices do not rise from 0 or more, or
            there is no such reward.
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
    dynamics: Dynamics | None = None

    def __post_init__(self) -> None:
        check_kind("RepeatedPricing", "fleets", self.fleets, FleetPrior | Fleet, FLEETS)
        self.price = on_a_log_scale(self.price, self.beta, (self.fleets,))

    def __check_init__(self) -> None:
        devices = len(self.fleets) if isinstance(self.fleets, Fleet) else self.devices
        check_sizes(
            "RepeatedPricing",
            price=self.price,
            devices=devices,
            layers_max=self.layers_max,
            window=self.window,
            rounds=self.rounds,
        )
        check_flag("RepeatedPricing", "integer", self.integer)
        check_choice("RepeatedPricing", "reward", self.reward, get_args(RewardMode))

    @property
    def action_size(self) -> int:
        """One price."""
        return 1

    def reset(self, key: PRNGKeyArray) -> Round:
        """Draws a fleet, unless it is fixed, and forgets all rounds."""
        if self.dynamics is not None:
            of_fleet, of_start = jax.random.split(key)
            conditions = self.dynamics.start(of_start, self._draw(of_fleet))
            history = History.of_changing(self.window, conditions.present)
            return self._round(conditions, history, jnp.zeros(()), jnp.zeros(()))
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
        """Posts the price an action stands for; devices answer with best responses.

        In a fleet that changes they answer as its dynamics say, and the next round comes.
        """
        price = self.price.from_unit(action[0])
        if self.dynamics is not None:
            return self._step_changing(self.dynamics, key, state, action[0], price)
        result = outcome(self.game(state.fleet), price)
        after = Round(
            state.fleet,
            state.history.remember(action[0], result.layers / self.layers_max),
            result.server_utility,
            state.number + 1.0,
        )
        return after, self._payoff(state, result)

    def optimum(self, state: Round) -> Payoff:
        """The equilibrium under complete information.

        In a fleet that changes, that of this round's fleet as it shows itself, were it to
        answer at once and exactly.
        """
        result = equilibrium(self.game_now(state))
        if self.dynamics is None:
            return self._payoff(state, result)
        return self._payoff_changing(state, result.price, result.layers)

    def guess(self, state: Round) -> Float[Array, ""]:
        """The mean utility of a random price: the zero of the score."""
        return random_utility(self.game_now(state))

    def no_trade(self, state: Round) -> Float[Array, ""]:
        """The utility of a server that runs every layer itself: the zero of the gain."""
        return alone_utility(self.game_now(state))

    def best_action(self, state: Round) -> Float[Array, " action"]:
        """The equilibrium price as an action."""
        best = equilibrium(self.game_now(state)).price
        return jnp.clip(self.price.to_unit(best), -1.0, 1.0)[None]

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

    def game_now(self, state: Round) -> Game:
        """The game of this round, lies included.

        Empty slots have no image to run, so nothing is charged for them.
        """
        if self.dynamics is None or state.conditions is None:
            return self.game(state.fleet)
        game = self.game(self.dynamics.fleet_shown(state.conditions))
        unused = jnp.where(state.conditions.present, 0.0, game.saving)
        return replace(game, revenue=self.revenue + self.layers_max * jnp.sum(unused))

    def _draw(self, key: PRNGKeyArray) -> Fleet:
        fleets = self.fleets
        return fleets.sample(key, self.devices) if isinstance(fleets, FleetPrior) else fleets

    def _round(
        self,
        conditions: Conditions,
        history: History,
        utility: Float[Array, ""],
        number: Float[Array, ""],
    ) -> Round:
        assert self.dynamics is not None
        fleet = self.dynamics.fleet_now(conditions)
        return Round(fleet, history, utility, number, conditions)

    def _step_changing(
        self,
        dynamics: Dynamics,
        key: PRNGKeyArray,
        state: Round,
        action: Float[Array, ""],
        price: Float[Array, ""],
    ) -> tuple[Round, Payoff]:
        now = state.conditions
        assert now is not None
        of_noise, of_change, of_newcomers = jax.random.split(key, 3)
        game = self.game_now(state)
        shocks = dynamics.draw_shocks(of_noise, game) if dynamics.noise > 0 else None
        layers = dynamics.answer(game, price, now.layers, ~now.new, shocks)
        payoff = self._payoff_changing(state, price, layers)
        after = dynamics.advance(of_change, now, layers, self._draw(of_newcomers))
        history = state.history.remember(action, layers / self.layers_max)
        history = history.turn_over(after.new, after.present)
        return self._round(after, history, payoff.leader, state.number + 1.0), payoff

    def _payoff_changing(
        self, before: Round, price: Float[Array, ""], layers: Float[Array, " devices"]
    ) -> Payoff:
        """What everybody gets; a liar by its true alpha, and rewards per device there is."""
        game = replace(self.game_now(before), fleet=before.fleet)
        result = settle(game, price, layers)
        assert before.conditions is not None
        there = jnp.where(before.conditions.present, before.fleet.A, 0.0)
        saved_at_most = self.beta * self.layers_max * jnp.sum(there)
        scale = jnp.where(saved_at_most > 0, saved_at_most, 1.0)
        alone = self.revenue - saved_at_most
        change = jnp.where(before.number > 0, result.server_utility - before.utility, 0.0)
        if self.reward == "utility":
            reward = (result.server_utility - alone) / scale
        elif self.reward == "improvement":
            reward = change / scale
        else:
            reward = jnp.where(change > 0, 1.0, 0.0)
        return Payoff(result.server_utility, result.device_utility, result.payments, reward)

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


DEVICES_MAX = 1_000_000
"""Most devices of a fleet that is priced again and again."""

WINDOW_MAX = 10_000
"""Most rounds that a server remembers."""

SEEN_MAX = 10_000_000
"""Most answers that are seen at once, devices times rounds."""

ROUNDS_MAX = 2**24
"""Longest episode: rounds are counted in float32."""


def check_sizes(
    source: str,
    *,
    price: Interval,
    devices: int,
    layers_max: int,
    window: int,
    rounds: int | None,
) -> None:
    """Refuses repeated pricing that cannot be played; `source` is the problem's name.

    Raises:
        InputError: a size is below 1 or above its limit, or prices do not rise from 0 or more.
    """
    check_count(source, "devices", devices, most=DEVICES_MAX)
    check_count(source, "layers_max", layers_max, most=LAYERS_MAX)
    check_count(source, "window", window, most=WINDOW_MAX)
    if rounds is not None:
        check_count(source, "rounds", rounds, most=ROUNDS_MAX)
    if devices * window > SEEN_MAX:
        expected = f"at most {SEEN_MAX} answers seen at once, devices times window"
        raise InputError(source, "devices, window", expected, devices * window)
    check_kind(source, "price", price, Interval, "an Interval of prices")
    if not 0.0 <= price.low < price.high < math.inf:
        expected = "an interval of prices that rises from 0 or more"
        raise InputError(source, "price", expected, f"{price.low:g} to {price.high:g}")
