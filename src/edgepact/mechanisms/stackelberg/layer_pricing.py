r"""One price for each layer, in order: a schedule for all devices, and its exact optimum.

The server posts a schedule $p_1, \dots, p_{L_{\max}}$; a device that runs $L$ layers is
paid $R(L) = p_1 + \dots + p_L$. To device $n$ its $l$-th layer costs $m_n(l)$ of
satisfaction, and it picks the whole number $L$ that maximises

$$\sum_{l \le L} \bigl[ p_l - m_n(l) \bigr].$$

Any tariff on layers is such a schedule, so the best one is a screening problem: all devices
read one tariff and each takes what suits it. It is solved exactly where the devices have a
*common order*, in which one that comes later bears at least as much for every layer (more,
if the two save the server different amounts). That holds if only $\alpha$ is private, or only
$W$, or if they go together. Then

1. who runs $l$ layers is a prefix of the order, of size $j_l$, and $j_l$ falls with $l$;
2. the cheapest schedule that makes them do so pays for each layer what it costs the last
   who runs it, $p_l = m_{j_l}(l)$, and nothing where nobody does;
3. so the profit is a sum over layers, $\sum_l \sum_{n \le j_l} [b_n - m_{j_l}(l)]$, which
   dynamic programming maximises over falling $j$ in O(N L).

The proof is in docs/theory/stackelberg.md. Without a common order two devices may each be the
cheaper one for some layers, whom to buy from is a combinatorial choice, and such fleets are
refused. Written against the array API standard, like the game itself.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fields import check_kind
from edgepact.fleet import Array, Fleet, FleetPrior, Interval, Layers, namespace
from edgepact.mechanisms.stackelberg.problem import FLEETS, History, check_sizes
from edgepact.mechanisms.stackelberg.responses import Outcome, layer_prices, settle
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction
from edgepact.mechanisms.stackelberg.score import alone_utility, random_utility
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.problem import Payoff, Problem

ORDER_SLACK = 1e-6
"""By how much of itself a cost may be out of order, or b above the largest price: single
precision tells no more."""


def schedule_response(game: Game, schedule: Float[Array, "*batch layers"]) -> Layers:
    """Whole layers that maximise each device's utility at a schedule.

    A device may pass through layers that do not pay for the sake of later ones that do. An
    indifferent one does what the server prefers.

    Args:
        game: of whole layers, without an outside option.
        schedule: credits for each layer, in order, shape `(*batch, layers_max)`.

    Returns:
        Layers as floats that hold whole numbers, shape `(*batch, devices)`.

    Raises:
        InputError: devices run parts of layers, or may decline.

    Example:
        >>> fleet = Fleet(*map(np.array, ([3.0, 8.0], [9.0, 9.0], [1.0, 1.0], [0.0, 0.0])))
        >>> game = Game(fleet, 0.0, 2.0, 0.0, 2.0, layers_max=3)
        >>> schedule_response(game, np.array([0.9, 0.2, 0.6])).tolist()
        [3.0, 1.0]
    """
    xp = namespace(game.fleet.A)
    posted = xp.asarray(schedule, dtype=game.fleet.A.dtype)[..., None, :]
    utility = _running(posted - _layer_costs(game))
    gain = _running(game.saving[:, None] - posted)
    best = utility == xp.max(utility, axis=-1, keepdims=True)
    gain = xp.where(best, gain, -xp.inf)
    best = best & (gain == xp.max(gain, axis=-1, keepdims=True))
    counts = xp.arange(game.layers_max + 1, dtype=posted.dtype)
    return xp.max(xp.where(best, counts, 0.0), axis=-1)


def schedule_outcome(game: Game, schedule: Float[Array, "*batch layers"]) -> Outcome:
    """Best responses to a schedule and what everybody gets.

    The `price` of the outcome is the schedule.
    """
    return settle_schedule(game, schedule, schedule_response(game, schedule))


def settle_schedule(game: Game, schedule: Float[Array, "*batch layers"], layers: Layers) -> Outcome:
    """What everybody gets when the devices run `layers`, best response or not."""
    xp = namespace(game.fleet.A)
    posted = xp.asarray(schedule, dtype=game.fleet.A.dtype)
    tariff = _running(posted)[..., None, :]
    counts = xp.arange(game.layers_max + 1, dtype=posted.dtype)
    payments = xp.sum(xp.where(layers[..., None] == counts, tariff, 0.0), axis=-1)
    unpaid = settle(game, 0.0, layers)
    return Outcome(
        price=posted,
        layers=layers,
        server_utility=unpaid.server_utility - xp.sum(payments, axis=-1),
        device_utility=unpaid.device_utility + payments,
        payments=payments,
    )


def optimal_schedule(game: Game) -> Outcome:
    """The exact optimum over all schedules, for devices with a common order.

    No price of it is above the largest saving b, nor below 0. Of equally good schedules it
    is one that buys more.

    Args:
        game: of whole layers, without an outside option and with a common order
            (`has_common_order`); its range of prices does not count.

    Raises:
        InputError: devices run parts of layers, or may decline. Whether they have a common
            order is not looked at.
    """
    xp = namespace(game.fleet.A)
    cost, b = _layer_costs(game), game.saving
    order = _order(cost)
    # Worth of layer l bought from the first j devices: row l, column j.
    j = xp.arange(len(b) + 1, dtype=b.dtype)
    cost_of_last = xp.concat([xp.zeros_like(cost[:1]), xp.take(cost, order, axis=0)]).T
    bought = xp.isfinite(cost_of_last)
    price = xp.where(bought, cost_of_last, 0.0)
    worth = xp.where(bought, _running(xp.take(b, order)) - j * price, -xp.inf)

    # What the layers from l on bring by themselves, and if at most j devices run them.
    totals, rest = [], xp.zeros_like(j)
    for of_layer in worth[::-1]:
        totals.append(of_layer + rest)
        rest = xp.maximum.accumulate(totals[-1])
    count, counts = j[-1], []
    for total in reversed(totals):
        open_to_it = xp.where(j <= count, total, -xp.inf)
        count = xp.max(xp.where(open_to_it == xp.max(open_to_it), j, 0.0))
        counts.append(count)
    buyers = xp.stack(counts)
    schedule = xp.take_along_axis(price, buyers[:, None].astype(int), axis=-1)[:, 0]
    place = xp.argsort(order)
    layers = xp.sum(place[:, None] < buyers, axis=-1, dtype=b.dtype)
    return settle_schedule(game, schedule, layers)


def has_common_order(game: Game) -> bool:
    """Whether one order of the devices is that of their costs at every layer.

    Devices that save the server different amounts must differ in all costs: at a tie the
    server would choose between them layer by layer. It looks at values, so it cannot be
    compiled.
    """
    cost, b = np.asarray(_layer_costs(game)), np.asarray(game.saving)
    order = _order(cost)
    cost, b = cost[order], b[order]
    before, after = cost[:-1], cost[1:]
    alike = (b[1:] == b[:-1])[:, None]
    in_order = np.where(alike, after >= before * (1.0 - ORDER_SLACK), after > before)
    return bool(np.all(in_order | np.isinf(after)))


class Negotiation(eqx.Module):
    """State of an episode: the fleet, private to it, and what was seen so far."""

    fleet: Fleet
    history: History
    number: Float[Array, ""]


class LayerPricing(Problem):
    """A server posts a price for each layer, in order, round after round, to one fleet.

    Attributes:
        fleets: a prior to draw a fleet from at each reset, or one fixed fleet. Devices
            must have a common order: of a prior, alpha or W has to be the same for all.
        devices: number of devices a prior draws.
        price: what the server may post for a layer, credits; from 0 to at least the
            largest saving b, so that the best schedule lies within.
        beta: credits per GMAC that is left to the server.
        revenue: F, credits a round.
        layers_max, satisfaction: as in `Game`; layers are whole.
        window: rounds the server remembers.
        rounds: length of an episode; None plays on for ever.
        margin: credits that `best_action` pays for a bought layer on top of the best
            schedule. At the best schedule devices are indifferent, and a learner that
            restores it with the least error loses whole layers; with a margin it does not.
            At 0 `best_action` earns `optimum`.

    The reward is the server's profit as a share of the cost of running every layer itself.

    Raises:
        InputError: the devices have no common order, prices do not go from 0 to b, or a
            size is below 1.
    """

    fleets: FleetPrior | Fleet = FleetPrior(capacity=Interval(14.0, 14.0))
    price: Interval = Interval(0.0, 1.5)
    devices: int = eqx.field(static=True, default=5)
    beta: float = eqx.field(static=True, default=1.0)
    revenue: float = eqx.field(static=True, default=100.0)
    layers_max: int = eqx.field(static=True, default=12)
    satisfaction: Satisfaction = eqx.field(static=True, default=FAMILIES["log1p"])
    window: int = eqx.field(static=True, default=1)
    rounds: int | None = eqx.field(static=True, default=None)
    margin: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        fleets = self.fleets
        check_kind("LayerPricing", "fleets", fleets, FleetPrior | Fleet, FLEETS)
        number = len(fleets) if isinstance(fleets, Fleet) else self.devices
        check_sizes(
            "LayerPricing",
            price=self.price,
            devices=number,
            layers_max=self.layers_max,
            window=self.window,
            rounds=self.rounds,
        )
        if isinstance(fleets, FleetPrior):
            points = [each.low == each.high for each in (fleets.alpha, fleets.capacity)]
            expected = "a prior in which alpha or the capacity is the same for all"
            ordered = any(points)
        else:
            expected = "devices that bear the costs of every layer in one common order"
            ordered = has_common_order(self.game(fleets))
        if not ordered:
            raise InputError("LayerPricing", "fleets", expected, "others")
        saving = self.beta * float(np.max(fleets.A))
        if self.price.low != 0.0 or self.price.high < saving * (1.0 - ORDER_SLACK):
            expected = f"an interval from 0 to at least b = {saving:g}"
            found = f"{self.price.low:g} to {self.price.high:g}"
            raise InputError("LayerPricing", "price", expected, found)

    @property
    def action_size(self) -> int:
        """One price for each layer."""
        return self.layers_max

    def reset(self, key: PRNGKeyArray) -> Negotiation:
        """Draws a fleet, unless it is fixed, and forgets all rounds."""
        fleet = self.fleets
        if isinstance(fleet, FleetPrior):
            fleet = fleet.sample(key, self.devices)
        history = History.empty(self.window, len(fleet), prices=(self.layers_max,))
        return Negotiation(fleet, history, jnp.zeros(()))

    def observe(self, state: Negotiation) -> History:
        """Past schedules and answers; nothing private.

        Devices come in order of what they supplied, so that it does not matter
        in which order they enrolled.
        """
        return state.history.in_order_of_supply()

    def step(
        self, key: PRNGKeyArray, state: Negotiation, action: Float[Array, " action"]
    ) -> tuple[Negotiation, Payoff]:
        """Posts the schedule an action stands for; devices answer with best responses."""
        result = schedule_outcome(self.game(state.fleet), self.price.from_unit(action))
        history = state.history.remember(action, result.layers / self.layers_max)
        after = Negotiation(state.fleet, history, state.number + 1.0)
        return after, self._payoff(state, result)

    def optimum(self, state: Negotiation) -> Payoff:
        """The best schedule under complete information."""
        return self._payoff(state, optimal_schedule(self.game(state.fleet)))

    def guess(self, state: Negotiation) -> Float[Array, ""]:
        """The mean utility of a random price, the same for all layers."""
        return random_utility(self.game(state.fleet))

    def no_trade(self, state: Negotiation) -> Float[Array, ""]:
        """The utility of a server that runs every layer itself: the zero of the gain."""
        return alone_utility(self.game(state.fleet))

    def best_action(self, state: Negotiation) -> Float[Array, " action"]:
        """The best schedule, and the margin, as an action.

        It is rounded up, so that what the way to an action and back loses does not lose a
        layer.
        """
        price = optimal_schedule(self.game(state.fleet)).price
        action = self.price.to_unit(jnp.where(price > 0.0, price + self.margin, price))
        rounding = 8.0 * namespace(action).finfo(action.dtype).eps
        return jnp.clip(action + rounding, -1.0, 1.0)

    def finished(self, state: Negotiation) -> Bool[Array, ""]:
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
            satisfaction=self.satisfaction,
        )

    def _payoff(self, before: Negotiation, result: Outcome) -> Payoff:
        saved_at_most = self.beta * self.layers_max * jnp.sum(before.fleet.A)
        alone = self.revenue - saved_at_most
        reward = (result.server_utility - alone) / saved_at_most
        return Payoff(result.server_utility, result.device_utility, result.payments, reward)


def _layer_costs(game: Game) -> Float[Array, "devices layers"]:
    """m, what each layer costs each device; infinite beyond its cap."""
    if not game.integer or game.outside_option:
        expected = "whole layers and devices that may not decline"
        raise InputError("schedule of layer prices", "game", expected, "another game")
    return layer_prices(game)


def _running(terms: Array) -> Array:
    """Running sums along the last axis with a zero in front."""
    xp = namespace(terms)
    return xp.concat([xp.zeros_like(terms[..., :1]), xp.cumulative_sum(terms, axis=-1)], axis=-1)


def _order(cost: Array) -> Array:
    """Devices by their costs at the first layer, equal ones by those at the second, ...

    If there is a common order this is one: it differs from any other among equals only.
    """
    xp = namespace(cost)
    return xp.lexsort(tuple(cost[:, layer] for layer in reversed(range(cost.shape[1]))))
