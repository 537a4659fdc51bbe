r"""The exact optimum of the Stackelberg game: the price per layer that earns the server most.

With $b_n = \beta A_n$, what the server saves per layer, its profit from buying is
$G(P) = \sum_n (b_n - P) L_n(P)$.

$G$ is not concave. Between the prices at which devices enter or saturate it has
one local maximum per piece, but at an entry price its slope jumps *up*, so
heterogeneous fleets have several peaks and local search can stop on a wrong
one. The exact optimum sorts all those breakpoints and sweeps them once with
running sums: O(N log N) for continuous layers, O(N L log N L) for integer ones.
Of very many breakpoints most are ruled out by one pass of counting before that.

Everything is written against the array API standard: with NumPy arrays it
computes at once in float64, with JAX arrays it can be compiled and vmapped.
Of several best prices the largest is taken.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.fleet import Array, Scalar, namespace
from edgepact.mechanisms.stackelberg.responses import (
    InteriorSupply,
    Outcome,
    interior_supply,
    layer_prices,
    settle,
    smooth_supply,
    whole_supply,
)
from edgepact.mechanisms.stackelberg.terms import Game


def equilibrium(game: Game) -> Outcome:
    """The exact Stackelberg equilibrium under complete information."""
    if game.integer:
        thresholds = layer_prices(game)
        price = _best(*_whole_candidates(game, thresholds, 0.0))
        return settle(game, price, whole_supply(thresholds, price[..., None], game.saving))
    supply = interior_supply(game)
    price = _best(*_smooth_candidates(game, supply, 0.0))
    return settle(game, price, smooth_supply(game, supply, price[..., None], game.saving))


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
    xp = namespace(game.fleet.A)
    if game.integer:
        prices = xp.reshape(layer_prices(game), (-1,))
    else:
        supply = interior_supply(game)
        prices = xp.concat([supply.entry, supply.saturation])
    inside = (prices >= game.price_min) & (prices <= game.price_max)
    return xp.sort(xp.where(inside, prices, xp.inf))


def _smooth_candidates(
    game: Game, supply: InteriorSupply, below_best: float
) -> tuple[Array, Array]:
    """Sweeps entries and saturations in order of price, keeping sums of supply laws."""
    xp = namespace(game.fleet.A)
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
    peak = peak_price(game, k, c, b[0] * c if common else sums[3], elastic, left, right)
    tried, profits = [], []
    for price in (left, peak, right):
        supplied, saved = trade(price, sums)
        tried.append(price)
        profits.append(xp.where(real, saved - price * supplied, -xp.inf))
    return xp.concat(tried), xp.concat(profits)


def peak_price(
    game: Game, k: Array, c: Array, bc: Array, elastic: Array, left: Array, right: Array
) -> Array:
    """Best price of each piece `[left, right]`, or `left` where supply is not elastic."""
    xp = namespace(k)
    stationary = game.satisfaction.stationary_price(
        xp.where(elastic, k, 1.0), xp.where(elastic, c, 1.0), xp.where(elastic, bc, 1.0)
    )
    return xp.clip(xp.where(elastic, stationary, left), left, right)


def _whole_candidates(game: Game, thresholds: Array, below_best: float) -> tuple[Array, Array]:
    """Profit falls between layer prices, so the optimum lies at one of them.

    Entry j stands for buying the j cheapest layers at the price of the last.
    """
    xp = namespace(thresholds)
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
        xp = namespace(prices)
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
    xp = namespace(prices)
    return xp.max(xp.where(profits == xp.max(profits), prices, -xp.inf))


def _is_common(b: Array) -> bool:
    """Whether all devices save the server the same, as far as can be known now.

    Values that JAX only traces are unknown; then the general sums are kept.
    """
    return isinstance(b, np.ndarray) and bool(np.all(b == b[:1]))
