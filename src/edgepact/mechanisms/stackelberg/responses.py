"""What devices do at a posted price, and what everybody then gets.

A device runs the layers that maximise its utility. What all of them supply rises
with the price, by a law that `optimum` sums over devices: layer by layer
(`layer_prices`), or between entry and saturation (`interior_supply`).

Everything is written against the array API standard: with NumPy arrays it
computes at once in float64, with JAX arrays it can be compiled and vmapped.

Ties are broken as in a strong Stackelberg equilibrium: an indifferent device
does what the server prefers.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from edgepact.fleet import Array, Layers, Scalar, namespace
from edgepact.mechanisms.stackelberg.link import convex_marginals
from edgepact.mechanisms.stackelberg.terms import Game


class Outcome(eqx.Module):
    """What a price leads to; all utilities and payments in credits."""

    price: Scalar | Float[Array, "*prices"]
    layers: Layers
    server_utility: Scalar | Float[Array, "*batch"]
    device_utility: Float[Array, "*batch devices"]
    payments: Float[Array, "*batch devices"]


def layers_cap(game: Game) -> Float[Array, " devices"]:
    """Most layers each device could run: `min(L_max, (W - B) / A)`, whole if integer.

    A device with W < B takes no part and has cap 0.
    """
    xp = namespace(game.fleet.A)
    ratio = game.room / game.fleet.A
    if game.integer:
        # A capacity meant to hold k layers exactly must not lose one to rounding.
        ratio = xp.floor(ratio * (1.0 + 8.0 * xp.finfo(ratio.dtype).eps))
    return xp.clip(ratio, 0.0, float(game.layers_max))


def best_response(game: Game, price: Scalar | Float[Array, "*batch"]) -> Layers:
    r"""Layers that maximise each device's utility at a posted price.

    For $S(y) = \ln(1+y)$ and continuous layers this is
    $\mathrm{clip}((1+W_n-B_n)/A_n - \alpha_n/P,\ 0,\ \mathrm{cap}_n)$.

    Args:
        game: the game.
        price: credits per layer, shape `(*batch)`.

    Returns:
        Layers, shape `(*batch, devices)`; floats that hold whole numbers if integer.

    Example:
        >>> from edgepact.fleet import Fleet
        >>> fleet = Fleet(*map(np.array, ([30.0], [20.0], [1.0], [1.0])))
        >>> game = Game(fleet, 0.0, 4.0, 0.0, 4.0, layers_max=12, integer=False)
        >>> best_response(game, 2.5).tolist()
        [8.0]
    """
    xp = namespace(game.fleet.A)
    posted = xp.asarray(price, dtype=game.fleet.A.dtype)[..., None]
    return supply_at(game, posted)


def outcome(game: Game, price: Scalar | Float[Array, "*batch"]) -> Outcome:
    """Best responses to a price, of shape `(*batch)`, and what everybody gets."""
    return settle(game, price, best_response(game, price))


def settle(game: Game, price: Scalar | Float[Array, "*batch"], layers: Layers) -> Outcome:
    """What everybody gets when the devices run `layers`, best response or not."""
    xp = namespace(game.fleet.A)
    posted = xp.asarray(price, dtype=game.fleet.A.dtype)[..., None]
    payments = posted * layers
    left_to_server = game.saving * (game.layers_max - layers)
    return Outcome(
        price=price,
        layers=layers,
        server_utility=game.revenue - xp.sum(payments + left_to_server, axis=-1),
        device_utility=payments + kept_value(game, layers),
        payments=payments,
    )


class InteriorSupply(NamedTuple):
    """Supply with continuous layers: 0 below `entry`, k + c h(P), `cap` from `saturation`."""

    intercept: Array
    coefficient: Array
    cap: Array
    entry: Array
    saturation: Array


def takes_part(game: Game) -> Bool[Array, " devices"]:
    """Whether a device has enough computing to run anything at all."""
    return game.room > 0 if game.satisfaction.open_at_zero else game.room >= 0


def kept_value(game: Game, layers: Layers) -> Float[Array, "*batch devices"]:
    """alpha S of what a device keeps: 0 if it cannot take part, S(W) if it declines."""
    xp = namespace(game.fleet.A)
    fleet = game.fleet
    kept = fleet.alpha * game.satisfaction.value(xp.clip(game.room - fleet.A * layers, 0.0, None))
    if game.outside_option:
        kept = xp.where(layers > 0, kept, fleet.alpha * game.satisfaction.value(fleet.capacity))
    if game.link is not None:
        kept = kept - _link_cost(game.link, layers)
    return xp.where(takes_part(game), kept, 0.0)


def _link_cost(link: Array, layers: Layers) -> Float[Array, "*batch devices"]:
    """What these layers cost over the link, beyond running none, credits."""
    xp = namespace(link)
    steps = xp.arange(1, link.shape[-1] + 1, dtype=link.dtype)
    return xp.sum(xp.where(steps == layers[..., None], link, 0.0), axis=-1)


def supply_at(game: Game, price: Array, *, per_device: bool = False) -> Array:
    """Layers at prices of shape `(*batch, 1)`, or `(devices, prices)` if per device."""
    b = game.saving[:, None] if per_device else game.saving
    if game.integer:
        thresholds = layer_prices(game)
        return whole_supply(thresholds[:, None, :] if per_device else thresholds, price, b)
    supply = interior_supply(game)
    if per_device:
        supply = InteriorSupply(*(part[:, None] for part in supply))
    return smooth_supply(game, supply, price, b)


def whole_supply(thresholds: Array, price: Array, b: Array) -> Array:
    """Counts the layers whose price is met; at equality the server's wish decides."""
    xp = namespace(thresholds)
    price, b = price[..., None], b[..., None]
    supplied = (thresholds < price) | ((thresholds == price) & (b >= price))
    return xp.sum(supplied, axis=-1, dtype=thresholds.dtype)


def smooth_supply(game: Game, supply: InteriorSupply, price: Array, b: Array) -> Array:
    """Continuous layers at a price; at the entry price the server's wish decides."""
    xp = namespace(price)
    entered = (supply.entry < price) | ((supply.entry == price) & (b >= price))
    term = game.satisfaction.price_term(price)
    interior = xp.clip(supply.intercept + supply.coefficient * term, 0.0, supply.cap)
    return xp.where(entered, xp.where(price >= supply.saturation, supply.cap, interior), 0.0)


def layer_prices(game: Game) -> Float[Array, "devices layers"]:
    r"""Price from which device n runs its k-th layer; infinite beyond its cap.

    The utility is concave in the layers, so layer k is supplied iff the price
    covers its marginal cost $\alpha(S(W-B-A(k-1)) - S(W-B-Ak))$, increasing in
    k. With the outside option nothing is supplied below the least average cost,
    where the device jumps from declining to several layers at once. With a
    cost of the link it jumps wherever the next cut sends enough less.
    """
    xp = namespace(game.fleet.A)
    fleet = game.fleet
    steps = xp.arange(1, game.layers_max + 1, dtype=fleet.A.dtype)
    able = takes_part(game)
    room = xp.where(able, game.room, fleet.A * (game.layers_max + 1))
    alpha, A = fleet.alpha[:, None], fleet.A[:, None]
    before = xp.clip(room[:, None] - A * (steps - 1.0), 0.0, None)
    feasible = steps <= layers_cap(game)[:, None]
    marginal = alpha * game.satisfaction.drop(before, xp.minimum(A, before))
    if game.outside_option:
        capacity = (room + fleet.B)[:, None]
        spent = xp.minimum(fleet.B[:, None] + A * steps, capacity)
        given_up = alpha * game.satisfaction.drop(capacity, spent)
        if game.link is None:
            least = xp.min(xp.where(feasible, given_up / steps, xp.inf), axis=-1, keepdims=True)
            marginal = xp.maximum(marginal, least)
    if game.link is not None:
        lost = given_up if game.outside_option else xp.cumulative_sum(marginal, axis=-1)
        cost = xp.where(feasible, lost + game.link, xp.inf)
        marginal = convex_marginals(xp.concat([xp.zeros_like(cost[:, :1]), cost], axis=-1))
    return xp.where(feasible & able[:, None], marginal, xp.inf)


def interior_supply(game: Game) -> InteriorSupply:
    """How each device's supply depends on the price with continuous layers."""
    xp = namespace(game.fleet.A)
    fleet, S = game.fleet, game.satisfaction
    cap = layers_cap(game)
    some = takes_part(game) & (cap > 0)
    # Others get numbers that give no trouble, and no supply below.
    room = xp.where(some, game.room, 2.0 * fleet.A)
    cap = xp.where(some, cap, 1.0)
    intercept, coefficient = S.supply_law(fleet.alpha, room, fleet.A)
    marginal_cost = fleet.alpha * fleet.A
    entry = marginal_cost * S.marginal(room)
    saturation = marginal_cost * S.marginal(xp.clip(room - fleet.A * cap, 0.0, None))
    if game.outside_option:
        entry = xp.maximum(entry, _participation_price(game, room, cap))
        saturation = xp.maximum(saturation, entry)
    # A device with room for very many more layers than it can run takes all of them within a
    # sliver of prices. As a step it is exact to the same precision, and its huge intercept does
    # not swallow the others' in the running sums.
    step = xp.abs(intercept) * xp.finfo(cap.dtype).eps ** 0.5 > cap
    entry = xp.where(step, saturation, entry)
    intercept = xp.where(step, cap, intercept)
    coefficient = xp.where(step, 0.0, coefficient)
    return InteriorSupply(
        intercept=xp.where(some, intercept, 0.0),
        coefficient=xp.where(some, coefficient, 0.0),
        cap=xp.where(some, cap, 0.0),
        entry=xp.where(some, entry, xp.inf),
        saturation=xp.where(some, saturation, xp.inf),
    )


def _participation_price(game: Game, room: Array, cap: Array) -> Float[Array, " devices"]:
    """Lowest price at which taking part beats declining (continuous layers).

    There the line from declining, alpha S(W) at no layers, touches the concave
    curve of what is kept: marginal cost equals average cost. The difference
    rises with the layers, so bisection finds the touching point, and where it
    is negative up to the cap the device jumps straight to its cap.
    """
    xp = namespace(game.fleet.A)
    fleet, S = game.fleet, game.satisfaction
    capacity = room + fleet.B

    def given_up(layers: Array) -> Array:
        return S.drop(capacity, xp.minimum(fleet.B + fleet.A * layers, capacity))

    low, high = xp.zeros_like(cap), cap
    for _ in range(52 if cap.dtype == np.float64 else 26):
        middle = (low + high) / 2.0
        left = xp.clip(room - fleet.A * middle, 0.0, None)
        short = middle * fleet.A * S.marginal(left) < given_up(middle)
        low, high = xp.where(short, middle, low), xp.where(short, high, middle)
    average = given_up(high) / high
    return fleet.alpha * average
