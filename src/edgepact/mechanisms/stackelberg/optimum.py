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
Of very many breakpoints most are ruled out by one pass of counting before that.

Everything is written against the array API standard: with NumPy arrays it
computes at once in float64, with JAX arrays it can be compiled and vmapped.

Ties are broken as in a strong Stackelberg equilibrium: an indifferent device
does what the server prefers, and of several best prices the largest is taken.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from edgepact.fleet import Array, Fleet, Layers, Scalar
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction


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
        thresholds = layer_prices(game)
        price = _best(*_whole_candidates(game, thresholds, 0.0))
        return settle(game, price, _whole_supply(thresholds, price[..., None], game.saving))
    supply = interior_supply(game)
    price = _best(*_smooth_candidates(game, supply, 0.0))
    return settle(game, price, _smooth_supply(game, supply, price[..., None], game.saving))


def bayesian_price(game: Game, sample: Fleet) -> Scalar:
    """The best price for devices of which only the distribution is known.

    Maximises the expected profit `E[(b - P) L*(P)]` of a device, with the
    distribution given by a sample: a fleet of many draws is a game of its own,
    and its exact equilibrium is the answer. Nothing better can be quoted before
    anything was observed, so this is the honest baseline of a first quote.

    Args:
        game: its rules and prices count, its fleet does not.
        sample: devices drawn from what is believed, some thousands.
    """
    return equilibrium(replace(game, fleet=sample)).price


def candidates(
    game: Game, *, below_best: float = math.inf
) -> tuple[Float[Array, " candidates"], Float[Array, " candidates"]]:
    """The finitely many prices one of which is optimal, and the profit G at each.

    Entries that stand for no real price come with a profit of minus infinity.

    Args:
        game: the game.
        below_best: prices that earn at least this much less than the best may be
            left out, credits. It saves most of the sorting of a large fleet.
    """
    if game.integer:
        return _whole_candidates(game, layer_prices(game), below_best)
    return _smooth_candidates(game, interior_supply(game), below_best)


def breakpoints(game: Game) -> Float[Array, " breakpoints"]:
    """Sorted prices at which some device enters, saturates or adds a layer.

    Prices outside of `[price_min, price_max]` come as infinity, at the end.
    """
    xp = _namespace(game.fleet.A)
    if game.integer:
        prices = xp.reshape(layer_prices(game), (-1,))
    else:
        supply = interior_supply(game)
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
        candidates = xp.clip(layer_prices(game), low, None)
    else:
        supply = interior_supply(game)
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


class InteriorSupply(NamedTuple):
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
        thresholds = layer_prices(game)
        return _whole_supply(thresholds[:, None, :] if per_device else thresholds, price, b)
    supply = interior_supply(game)
    if per_device:
        supply = InteriorSupply(*(part[:, None] for part in supply))
    return _smooth_supply(game, supply, price, b)


def _whole_supply(thresholds: Array, price: Array, b: Array) -> Array:
    """Counts the layers whose price is met; at equality the server's wish decides."""
    xp = _namespace(thresholds)
    price, b = price[..., None], b[..., None]
    supplied = (thresholds < price) | ((thresholds == price) & (b >= price))
    return xp.sum(supplied, axis=-1, dtype=thresholds.dtype)


def _smooth_supply(game: Game, supply: InteriorSupply, price: Array, b: Array) -> Array:
    xp = _namespace(price)
    entered = (supply.entry < price) | ((supply.entry == price) & (b >= price))
    term = game.satisfaction.price_term(price)
    interior = xp.clip(supply.intercept + supply.coefficient * term, 0.0, supply.cap)
    return xp.where(entered, xp.where(price >= supply.saturation, supply.cap, interior), 0.0)


def layer_prices(game: Game) -> Float[Array, "devices layers"]:
    r"""Price from which device n runs its k-th layer; infinite beyond its cap.

    The utility is concave in the layers, so layer k is supplied iff the price
    covers its marginal cost $\alpha(S(W-B-A(k-1)) - S(W-B-Ak))$, increasing in
    k. With the outside option nothing is supplied below the least average cost,
    where the device jumps from declining to several layers at once.
    """
    xp = _namespace(game.fleet.A)
    fleet = game.fleet
    steps = xp.arange(1, game.layers_max + 1, dtype=fleet.A.dtype)
    able = _takes_part(game)
    room = xp.where(able, game.room, fleet.A * (game.layers_max + 1))
    alpha, A = fleet.alpha[:, None], fleet.A[:, None]
    before = xp.clip(room[:, None] - A * (steps - 1.0), 0.0, None)
    feasible = steps <= layers_cap(game)[:, None]
    marginal = alpha * game.satisfaction.drop(before, xp.minimum(A, before))
    if game.outside_option:
        capacity = (room + fleet.B)[:, None]
        spent = xp.minimum(fleet.B[:, None] + A * steps, capacity)
        average = alpha * game.satisfaction.drop(capacity, spent) / steps
        least = xp.min(xp.where(feasible, average, xp.inf), axis=-1, keepdims=True)
        marginal = xp.maximum(marginal, least)
    return xp.where(feasible & able[:, None], marginal, xp.inf)


def interior_supply(game: Game) -> InteriorSupply:
    """How each device's supply depends on the price with continuous layers."""
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
    xp = _namespace(game.fleet.A)
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


def _smooth_candidates(
    game: Game, supply: InteriorSupply, below_best: float
) -> tuple[Array, Array]:
    """Sweeps entries and saturations in order of price, keeping sums of supply laws."""
    xp = _namespace(game.fleet.A)
    b = game.saving
    common = _is_common(b)
    k, c, cap = supply.intercept, supply.coefficient, supply.cap
    prices = xp.concat([supply.entry, supply.saturation])
    changes = [xp.concat([k, cap - k]), xp.concat([c, -c])]
    if not common:
        changes += [xp.concat([b * k, b * (cap - k)]), xp.concat([b * c, -b * c])]

    def trade(price: Array, sums: list[Array]) -> tuple[Array, Array]:
        k, c, bk, bc = sums if len(sums) == 4 else (*sums, b[0] * sums[0], b[0] * sums[1])
        term = game.satisfaction.price_term(price)
        return k + c * term, bk + bc * term

    window, prices, changes = _promising(game, below_best, prices, changes, trade)
    prices = xp.clip(prices, window.low, window.high)
    order = xp.argsort(prices)
    left = xp.concat([xp.asarray([window.low], dtype=b.dtype), xp.take(prices, order)])
    right = xp.concat([left[1:], xp.asarray([window.high], dtype=b.dtype)])
    sums = [
        xp.cumulative_sum(xp.concat([xp.asarray([start], dtype=b.dtype), xp.take(change, order)]))
        for start, change in zip(window.sums, changes, strict=True)
    ]
    k, c = sums[:2]
    # Between equal breakpoints the sums are half updated and stand for no real supply.
    real = xp.concat([left[1:] > left[:-1], xp.ones((1,), dtype=bool)])
    # Where everybody has saturated, rounding leaves a trace of c that means nothing.
    elastic = c > 16 * xp.finfo(b.dtype).eps * xp.max(c)
    peak = _peak(game, k, c, b[0] * c if common else sums[3], elastic, left, right)
    tried, profits = [], []
    for price in (left, peak, right):
        supplied, saved = trade(price, sums)
        tried.append(price)
        profits.append(xp.where(real, saved - price * supplied, -xp.inf))
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


def _whole_candidates(game: Game, thresholds: Array, below_best: float) -> tuple[Array, Array]:
    """Profit falls between layer prices, so the optimum lies at one of them.

    Entry j stands for buying the j cheapest layers at the price of the last.
    """
    xp = _namespace(thresholds)
    b = game.saving
    common = _is_common(b)
    prices = xp.reshape(thresholds, (-1,))
    changes = [xp.broadcast_to(xp.ones((1,), dtype=prices.dtype), prices.shape)]
    if not common:
        changes += [xp.reshape(xp.broadcast_to(b[:, None], thresholds.shape), (-1,))]

    def trade(price: Array, sums: list[Array]) -> tuple[Array, Array]:
        return sums[0], sums[1] if len(sums) == 2 else b[0] * sums[0]

    window, prices, changes = _promising(game, below_best, prices, changes, trade)
    before = xp.asarray([window.sums[0]], dtype=prices.dtype)
    bought = xp.concat([before, before + xp.arange(1, prices.shape[0] + 1, dtype=prices.dtype)])
    if common:
        prices = xp.sort(prices)
        saved = b[0] * bought
    else:
        # Of layers at one price the server wants those first that save it most.
        order = xp.argsort(-changes[1], stable=True)
        order = xp.take(order, xp.argsort(xp.take(prices, order), stable=True))
        prices = xp.take(prices, order)
        start = xp.asarray([window.sums[1]], dtype=prices.dtype)
        saved = xp.cumulative_sum(xp.concat([start, xp.take(changes[1], order)]))
    forced = xp.sum(prices < game.price_min)  # layers supplied even at the lowest price
    most = xp.asarray([window.high], dtype=prices.dtype)
    # Buying no more is best at the largest price at which nobody offers a further layer
    # (nothing), or was best below the window (something).
    first = xp.minimum(xp.concat([prices, most])[:1], most)
    first = xp.where(before > 0, xp.asarray([window.low], dtype=prices.dtype), first)
    prices = xp.clip(xp.concat([first, prices]), game.price_min, None)
    real = (bought >= forced) & (prices <= game.price_max)
    return prices, xp.where(real, saved - xp.where(real, prices, 0.0) * bought, -xp.inf)


BINS = 4096
"""Bins in which breakpoints are counted before the promising ones are sorted."""

COUNTED_MIN = 4 * BINS
"""Fewer breakpoints than this are sorted at once."""


class _Window(NamedTuple):
    """Prices among which the best one is, and the sums of all changes below them."""

    low: Scalar
    high: Scalar
    sums: list[Scalar]


Trade = Callable[[Array, list[Array]], tuple[Array, Array]]
"""Layers supplied, and what they save the server, from prices and sums of changes."""


def _promising(
    game: Game, below_best: float, prices: Array, changes: list[Array], trade: Trade
) -> tuple[_Window, Array, list[Array]]:
    """Leaves out breakpoints that cannot matter, since sorting is what takes time.

    Supply, and what it saves, grow with the price. Between two prices the profit
    is therefore at most what is saved at the upper one less what the supply at
    the lower one costs there, and a bin whose bound is below the profit at some
    edge holds no optimum. Sums at the edges need one pass of counting. Rounding
    may put a breakpoint into the bin beside its own, so the window is one bin
    wider on each side than the bounds say.

    NumPy drops what it leaves out; under JAX shapes are fixed, so breakpoints
    above the largest price move to infinity and change nothing there.
    """
    whole = _Window(game.price_min, game.price_max, [0.0] * len(changes))
    if not isinstance(prices, np.ndarray):
        xp = _namespace(prices)
        within = prices <= game.price_max
        changes = [xp.where(within, change, 0.0) for change in changes]
        return whole, xp.where(within, prices, xp.inf), changes
    if below_best == math.inf:
        within = prices <= game.price_max
        return whole, prices[within], [change[within] for change in changes]
    # Above what a layer saves at most, profit falls as soon as anybody supplies.
    top = max(game.price_min, min(game.price_max, max(game.saving.max(), prices.min())))
    whole, within = whole._replace(high=top), prices <= top
    prices, changes = prices[within], [change[within] for change in changes]
    if len(prices) < COUNTED_MIN or top <= game.price_min:
        return whole, prices, changes

    edges = np.linspace(game.price_min, top, BINS + 1)
    index = ((prices - game.price_min) * (BINS / (top - game.price_min))).astype(np.intp)
    np.clip(index, 0, BINS - 1, out=index)
    sums = [_summed(np.bincount(index, change, BINS)) for change in changes]
    supplied, saved = trade(edges, sums)
    paid = edges * supplied
    # What rounding of the sums can come to, intercepts being their largest terms.
    largest = np.max(np.abs(sums[0])) + np.max(np.abs(supplied))
    slack = below_best + 1e-9 * max(top, game.saving.max()) * largest
    # The first edge is left out: layers that are forced on the server cost something there.
    reached = np.max((saved - paid)[1:])
    possible = np.flatnonzero(saved[1:] - paid[:-1] >= reached - slack)
    first, last = max(possible[0] - 1, 0), min(possible[-1] + 1, BINS - 1)
    inside = (index >= first) & (index <= last)
    window = _Window(edges[first], edges[last + 1], [total[first] for total in sums])
    return window, prices[inside], [change[inside] for change in changes]


def _summed(changes: np.ndarray) -> np.ndarray:
    """Running sums with a zero in front."""
    return np.concatenate([np.zeros(1), np.cumsum(changes)])


def _best(prices: Array, profits: Array) -> Any:
    """The price of largest profit; of equal profits, the larger price."""
    xp = _namespace(prices)
    return xp.max(xp.where(profits == xp.max(profits), prices, -xp.inf))


def _is_common(b: Array) -> bool:
    """Whether all devices save the server the same, as far as can be known now.

    Values that JAX only traces are unknown; then the general sums are kept.
    """
    return isinstance(b, np.ndarray) and bool(np.all(b == b[:1]))
