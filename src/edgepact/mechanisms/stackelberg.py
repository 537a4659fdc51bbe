r"""The Stackelberg game of model partition: a price per layer, and its exact optimum.

A server (leader) posts one price $P$ per transformer layer. Device $n$
(follower) runs $L_n$ of the $L_{\max}$ layers and keeps the rest of its
computing for itself:

$$U_n = P L_n + \alpha_n S(W_n - A_n L_n - B_n), \qquad
  U_s = F - \sum_n \bigl[P L_n + \beta A_n (L_{\max} - L_n)\bigr].$$

The article (arXiv 2312.12063, Sec. IV-B) gives these in words and in its
Fig. 3; the forms of $S$ are in `satisfaction`. With $b_n = \beta A_n$, what the
server saves per layer, its profit from buying is
$G(P) = \sum_n (b_n - P) L_n(P)$.

$G$ is not concave. Between the prices at which devices enter or saturate it has
one local maximum per piece, but at an entry price its slope jumps *up*, so
heterogeneous fleets have several peaks and local search can stop on a wrong
one. The exact optimum sorts all those breakpoints and sweeps them once with
running sums: O(N log N) for continuous layers, O(N L log N L) for integer ones.

Everything is written against the array API standard: with NumPy arrays it
computes at once in float64, with JAX arrays it can be compiled and vmapped.

Ties are broken as in a strong Stackelberg equilibrium: an indifferent device
does what the server prefers, and of several best prices the largest is taken.
"""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from edgepact.fleet import Array, Fleet, Layers, Scalar
from edgepact.mechanisms.satisfaction import FAMILIES, Satisfaction


class Game(eqx.Module):
    """One server, its fleet, and the rules they play by.

    Attributes:
        fleet: the devices' private characteristics.
        revenue: F, credits, whatever the split.
        beta: what computing costs the server, credits per GMAC.
        price_min, price_max: range the server may post, credits per layer.
        layers_max: layers of the model.
        integer: whether devices run whole layers.
        satisfaction: S.
        outside_option: whether a device may decline and then spends nothing;
            without it B is spent even at no layers, as in the article.
    """

    fleet: Fleet
    revenue: Scalar
    beta: Scalar
    price_min: Scalar
    price_max: Scalar
    layers_max: int = eqx.field(static=True)
    integer: bool = eqx.field(static=True, default=True)
    satisfaction: Satisfaction = eqx.field(static=True, default=FAMILIES["log1p"])
    outside_option: bool = eqx.field(static=True, default=False)

    @property
    def saving(self) -> Float[Array, " devices"]:
        """b = beta A, what the server saves per layer a device runs, credits."""
        return self.beta * self.fleet.A

    @property
    def room(self) -> Float[Array, " devices"]:
        """W - B, computing left before the first layer, GMAC."""
        return self.fleet.capacity - self.fleet.B


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
    xp = _namespace(game.fleet.A)
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
        >>> fleet = Fleet(*map(np.array, ([30.0], [20.0], [1.0], [1.0])))
        >>> game = Game(fleet, 0.0, 4.0, 0.0, 4.0, layers_max=12, integer=False)
        >>> best_response(game, 2.5).tolist()
        [8.0]
    """
    xp = _namespace(game.fleet.A)
    posted = xp.asarray(price, dtype=game.fleet.A.dtype)[..., None]
    return _supply(game, posted)


def outcome(game: Game, price: Scalar | Float[Array, "*batch"]) -> Outcome:
    """Best responses to a price, of shape `(*batch)`, and what everybody gets."""
    return settle(game, price, best_response(game, price))


def settle(game: Game, price: Scalar | Float[Array, "*batch"], layers: Layers) -> Outcome:
    """What everybody gets when the devices run `layers`, best response or not."""
    xp = _namespace(game.fleet.A)
    posted = xp.asarray(price, dtype=game.fleet.A.dtype)[..., None]
    payments = posted * layers
    left_to_server = game.saving * (game.layers_max - layers)
    return Outcome(
        price=price,
        layers=layers,
        server_utility=game.revenue - xp.sum(payments + left_to_server, axis=-1),
        device_utility=payments + _kept_value(game, layers),
        payments=payments,
    )


def equilibrium(game: Game) -> Outcome:
    """The exact Stackelberg equilibrium under complete information."""
    if game.integer:
        thresholds = _layer_prices(game)
        price = _best(*_whole_candidates(game, thresholds))
        return settle(game, price, _whole_supply(thresholds, price[..., None], game.saving))
    supply = _interior(game)
    price = _best(*_smooth_candidates(game, supply))
    return settle(game, price, _smooth_supply(game, supply, price[..., None], game.saving))


def candidates(
    game: Game,
) -> tuple[Float[Array, " candidates"], Float[Array, " candidates"]]:
    """The finitely many prices one of which is optimal, and the profit G at each.

    Entries that stand for no real price come with a profit of minus infinity.
    """
    if game.integer:
        return _whole_candidates(game, _layer_prices(game))
    return _smooth_candidates(game, _interior(game))


def breakpoints(game: Game) -> Float[Array, " breakpoints"]:
    """Sorted prices at which some device enters, saturates or adds a layer.

    Prices outside of `[price_min, price_max]` come as infinity, at the end.
    """
    xp = _namespace(game.fleet.A)
    if game.integer:
        prices = xp.reshape(_layer_prices(game), (-1,))
    else:
        supply = _interior(game)
        prices = xp.concat([supply.entry, supply.saturation])
    inside = (prices >= game.price_min) & (prices <= game.price_max)
    return xp.sort(xp.where(inside, prices, xp.inf))


def personalised(game: Game) -> Outcome:
    """The best price for each device by itself; `price` has shape `(devices,)`.

    More than one uniform price can earn, less than `first_best`. A device from
    which nothing is worth buying is quoted the price at which it still declines.
    """
    xp = _namespace(game.fleet.A)
    b = game.saving
    low, high = game.price_min, game.price_max
    if game.integer:
        candidates = xp.clip(_layer_prices(game), low, None)
    else:
        supply = _interior(game)
        ends = xp.minimum(supply.saturation, xp.asarray(high, dtype=b.dtype))
        c = supply.coefficient
        peak = _peak(game, supply.intercept, c, b * c, c > 0, supply.entry, ends)
        candidates = xp.clip(xp.stack([supply.entry, peak, ends], axis=-1), low, None)
    candidates = xp.clip(candidates, None, high)
    layers = _supply(game, candidates, per_device=True)
    profit = (b[:, None] - candidates) * layers
    best = xp.argmax(profit, axis=-1)[:, None]
    price = xp.take_along_axis(candidates, best, axis=-1)[:, 0]
    chosen = xp.take_along_axis(layers, best, axis=-1)[:, 0]
    payments = price * chosen
    return Outcome(
        price=price,
        layers=chosen,
        server_utility=game.revenue - xp.sum(payments + b * (game.layers_max - chosen)),
        device_utility=payments + _kept_value(game, chosen),
        payments=payments,
    )


def first_best(game: Game) -> Outcome:
    """The efficient split, all surplus to the server: the ceiling of any mechanism.

    The layers are the best responses to the price at which a layer is worth to
    the server, and the payment just makes up for the satisfaction given up.
    """
    xp = _namespace(game.fleet.A)
    b = game.saving
    layers = _supply(game, b[:, None], per_device=True)[:, 0]
    idle = _kept_value(game, xp.zeros_like(layers))
    payments = xp.where(layers > 0, idle - _kept_value(game, layers), 0.0)
    return Outcome(
        price=xp.where(layers > 0, payments / xp.where(layers > 0, layers, 1.0), 0.0),
        layers=layers,
        server_utility=game.revenue - xp.sum(payments + b * (game.layers_max - layers)),
        device_utility=payments + _kept_value(game, layers),
        payments=payments,
    )


class _Interior(NamedTuple):
    """Supply with continuous layers: 0 below `entry`, k + c h(P), `cap` from `saturation`."""

    intercept: Array
    coefficient: Array
    cap: Array
    entry: Array
    saturation: Array


def _namespace(array: Array) -> Any:
    return array.__array_namespace__()


def _takes_part(game: Game) -> Bool[Array, " devices"]:
    return game.room > 0 if game.satisfaction.open_at_zero else game.room >= 0


def _kept_value(game: Game, layers: Layers) -> Float[Array, "*batch devices"]:
    """alpha S of what a device keeps: 0 if it cannot take part, S(W) if it declines."""
    xp = _namespace(game.fleet.A)
    fleet = game.fleet
    kept = fleet.alpha * game.satisfaction.value(xp.clip(game.room - fleet.A * layers, 0.0, None))
    if game.outside_option:
        kept = xp.where(layers > 0, kept, fleet.alpha * game.satisfaction.value(fleet.capacity))
    return xp.where(_takes_part(game), kept, 0.0)


def _supply(game: Game, price: Array, *, per_device: bool = False) -> Array:
    """Layers at prices of shape `(*batch, 1)`, or `(devices, prices)` if per device."""
    b = game.saving[:, None] if per_device else game.saving
    if game.integer:
        thresholds = _layer_prices(game)
        return _whole_supply(thresholds[:, None, :] if per_device else thresholds, price, b)
    supply = _interior(game)
    if per_device:
        supply = _Interior(*(part[:, None] for part in supply))
    return _smooth_supply(game, supply, price, b)


def _whole_supply(thresholds: Array, price: Array, b: Array) -> Array:
    """Counts the layers whose price is met; at equality the server's wish decides."""
    xp = _namespace(thresholds)
    price, b = price[..., None], b[..., None]
    supplied = (thresholds < price) | ((thresholds == price) & (b >= price))
    return xp.sum(supplied, axis=-1, dtype=thresholds.dtype)


def _smooth_supply(game: Game, supply: _Interior, price: Array, b: Array) -> Array:
    xp = _namespace(price)
    entered = (supply.entry < price) | ((supply.entry == price) & (b >= price))
    term = _price_term(game, price)
    interior = xp.clip(supply.intercept + supply.coefficient * term, 0.0, supply.cap)
    return xp.where(entered, xp.where(price >= supply.saturation, supply.cap, interior), 0.0)


def _price_term(game: Game, price: Array) -> Array:
    """h(P), or anything finite at prices too small for anybody to supply at."""
    xp = _namespace(price)
    least = 1e6 * xp.finfo(price.dtype).tiny ** 0.5
    return game.satisfaction.price_term(xp.where(price > least, price, 1.0))


def _layer_prices(game: Game) -> Float[Array, "devices layers"]:
    r"""Price from which device n runs its k-th layer; infinite beyond its cap.

    The utility is concave in the layers, so layer k is supplied iff the price
    covers its marginal cost $\alpha(S(W-B-A(k-1)) - S(W-B-Ak))$, increasing in
    k. With the outside option nothing is supplied below the least average cost,
    where the device jumps from declining to several layers at once.
    """
    xp = _namespace(game.fleet.A)
    fleet = game.fleet
    steps = xp.arange(game.layers_max + 1, dtype=fleet.A.dtype)
    able = _takes_part(game)
    room = xp.where(able, game.room, fleet.A * (game.layers_max + 1))
    left = room[:, None] - fleet.A[:, None] * steps
    kept = fleet.alpha[:, None] * game.satisfaction.value(xp.clip(left, 0.0, None))
    feasible = steps[1:] <= layers_cap(game)[:, None]
    before = kept[:, :-1]
    if game.satisfaction.open_at_zero:  # no layer follows one that leaves nothing
        before = xp.where(before > -xp.inf, before, 0.0)
    marginal = before - kept[:, 1:]
    if game.outside_option:
        declined = fleet.alpha * game.satisfaction.value(room + fleet.B)
        average = (declined[:, None] - kept[:, 1:]) / steps[1:]
        least = xp.min(xp.where(feasible, average, xp.inf), axis=-1, keepdims=True)
        marginal = xp.maximum(marginal, least)
    return xp.where(feasible & able[:, None], marginal, xp.inf)


def _interior(game: Game) -> _Interior:
    xp = _namespace(game.fleet.A)
    fleet, S = game.fleet, game.satisfaction
    cap = layers_cap(game)
    some = _takes_part(game) & (cap > 0)
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
    return _Interior(
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
    xp = _namespace(game.fleet.A)
    fleet, S = game.fleet, game.satisfaction
    declined = S.value(room + fleet.B)
    low, high = xp.zeros_like(cap), cap
    for _ in range(52 if cap.dtype == np.float64 else 26):
        middle = (low + high) / 2.0
        left = xp.clip(room - fleet.A * middle, 0.0, None)
        short = middle * fleet.A * S.marginal(left) < declined - S.value(left)
        low, high = xp.where(short, middle, low), xp.where(short, high, middle)
    average = (declined - S.value(xp.clip(room - fleet.A * high, 0.0, None))) / high
    return fleet.alpha * average


def _smooth_candidates(game: Game, supply: _Interior) -> tuple[Array, Array]:
    """Sweeps entries and saturations in order of price, keeping sums of supply laws."""
    xp = _namespace(game.fleet.A)
    b = game.saving
    k, c, cap = supply.intercept, supply.coefficient, supply.cap
    prices = xp.concat([supply.entry, supply.saturation])
    changes = [xp.concat([k, cap - k]), xp.concat([c, -c])]
    if not _is_common(b):
        changes += [xp.concat([b * k, b * (cap - k)]), xp.concat([b * c, -b * c])]
    prices, *changes = _at_most(game.price_max, prices, *changes)
    prices = xp.clip(prices, game.price_min, game.price_max)
    order = xp.argsort(prices)
    low = xp.full((1,), game.price_min, dtype=b.dtype)
    left = xp.concat([low, xp.take(prices, order)])
    right = xp.concat([left[1:], xp.full((1,), game.price_max, dtype=b.dtype)])
    zero = xp.zeros((1,), dtype=b.dtype)
    sums = [xp.concat([zero, xp.cumulative_sum(xp.take(each, order))]) for each in changes]
    k, c = sums[:2]
    bk, bc = sums[2:] if len(sums) == 4 else (b[0] * k, b[0] * c)
    # Between equal breakpoints the sums are half updated and stand for no real supply.
    real = xp.concat([left[1:] > left[:-1], xp.ones((1,), dtype=bool)])
    # Where everybody has saturated, rounding leaves a trace of c that means nothing.
    elastic = c > 16 * xp.finfo(b.dtype).eps * xp.max(c)
    peak = _peak(game, k, c, bc, elastic, left, right)
    tried, profits = [], []
    for price in (left, peak, right):
        term = _price_term(game, price)
        profit = bk + bc * term - price * (k + c * term)
        tried.append(price)
        profits.append(xp.where(real, profit, -xp.inf))
    return xp.concat(tried), xp.concat(profits)


def _peak(
    game: Game, k: Array, c: Array, bc: Array, elastic: Array, left: Array, right: Array
) -> Array:
    """Best price of each piece `[left, right]`, or `left` where supply is not elastic."""
    xp = _namespace(k)
    stationary = game.satisfaction.stationary_price(
        xp.where(elastic, k, 1.0), xp.where(elastic, c, 1.0), xp.where(elastic, bc, 1.0)
    )
    return xp.clip(xp.where(elastic, stationary, left), left, right)


def _whole_candidates(game: Game, thresholds: Array) -> tuple[Array, Array]:
    """Profit falls between layer prices, so the optimum lies at one of them.

    Entry j stands for buying the j cheapest layers at the price of the last.
    """
    xp = _namespace(thresholds)
    b = game.saving
    flat = xp.reshape(thresholds, (-1,))
    if _is_common(b):
        (prices,) = _at_most(game.price_max, flat)
        prices = xp.sort(prices)
        saved = b[0] * xp.arange(1, prices.shape[0] + 1, dtype=prices.dtype)
    else:
        savings = xp.reshape(xp.broadcast_to(b[:, None], thresholds.shape), (-1,))
        prices, savings = _at_most(game.price_max, flat, savings)
        # Of layers at one price the server wants those first that save it most.
        order = xp.argsort(-savings, stable=True)
        order = xp.take(order, xp.argsort(xp.take(prices, order), stable=True))
        prices = xp.take(prices, order)
        saved = xp.cumulative_sum(xp.take(savings, order))
    forced = xp.sum(prices < game.price_min)  # layers supplied even at the lowest price
    bought = xp.arange(prices.shape[0] + 1, dtype=prices.dtype)
    most = xp.full((1,), game.price_max, dtype=prices.dtype)
    # Buying nothing is best at the largest price at which nobody offers a layer.
    prices = xp.concat([xp.minimum(xp.concat([prices, most])[:1], most), prices])
    prices = xp.clip(prices, game.price_min, None)
    saved = xp.concat([xp.zeros((1,), dtype=saved.dtype), saved])
    real = (bought >= forced) & (prices <= game.price_max)
    return prices, xp.where(real, saved - xp.where(real, prices, 0.0) * bought, -xp.inf)


def _best(prices: Array, profits: Array) -> Any:
    """The price of largest profit; of equal profits, the larger price."""
    xp = _namespace(prices)
    return xp.max(xp.where(profits == xp.max(profits), prices, -xp.inf))


def _is_common(b: Array) -> bool:
    """Whether all devices save the server the same, as far as can be known now.

    Values that JAX only traces are unknown; then the general sums are kept.
    """
    return isinstance(b, np.ndarray) and bool(np.all(b == b[:1]))


def _at_most(price_max: Scalar, prices: Array, *columns: Array) -> list[Array]:
    """Takes breakpoints above the largest price out of the sums.

    NumPy drops them, which makes the sort shorter; under JAX shapes are fixed,
    so the price becomes infinite and what would change there becomes 0.
    """
    within = prices <= price_max
    if isinstance(prices, np.ndarray):
        return [prices[within], *(column[within] for column in columns)]
    xp = _namespace(prices)
    return [xp.where(within, prices, xp.inf), *(xp.where(within, c, 0.0) for c in columns)]
