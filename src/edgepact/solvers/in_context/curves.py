"""What answers leave open of a fleet's supply curves, and supply curves that agree with them.

A device is the price at which it takes each further layer: its *supply curve*, read at `LEVELS`
equal shares of the model. An answer of L layers to the price P says that whatever is reached at
L is reached at P or below, and all beyond only above P; so past answers leave an interval for
the price of each layer, and whatever is drawn within the intervals agrees with all of them.
Prices are logarithms of shares of b, what a layer saves the server.

Answers of devices that change, waver or lie can contradict each other. Then every answer is a
vote that weighs less with age, and an interval is all that the votes do not speak much more
against than against what they like best. A fleet that never contradicted itself is taken at its
word for ever.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from edgepact.solvers.quoter import Known

Array = Any
"""NumPy or JAX array."""

LEVELS = 12
"""Places at which a supply curve is generated: shares m / LEVELS of the model."""

MARGIN = 0.5
"""How far beyond the range of prices a curve may be said to lie, in logarithms."""

AGE_HALVES = 6.0
"""Rounds after which an answer of a fleet that contradicts itself counts half."""

DOUBT = 0.75
"""How much more the votes may speak against a place than against the best, at most."""

DEVICES_LEARNED = 16
"""Most devices of a fleet that is learned on."""

BESIDE = 0.5
"""Levels from a continuous answer within which a level is not drawn by itself."""

NOISE = (2.5, 1.2, 0.6, 0.3, 0.15, 0.08, 0.04, 0.02)
"""Standard deviations of the noise at the steps of sampling: layers of a device move together, and
narrow intervals show whether they do in the samples."""

FAR = 1e3
"""Levels further away than any answer."""

FEATURES = 10 * LEVELS + 2 + 7
"""Numbers that the generator is told of a device."""


class Terms(NamedTuple):
    """What is public; leading axes are batch axes.

    Attributes:
        low, top: ends of the range of prices worth posting, logarithms of shares of b.
        layers_max: layers of the model.
        integer: 1 if devices run whole layers.
        rounds: number of different prices posted so far.
        devices: number of devices.
        wide: 1 to generate from the broad prior, 0 from the reference prior.
    """

    low: Array
    top: Array
    layers_max: Array
    integer: Array
    rounds: Array
    devices: Array
    wide: Array


class Intervals(NamedTuple):
    """Where the prices of a device's levels lie; arrays `(*batch, devices, levels)`.

    Attributes:
        low, high: ends, `low <= high`, neither falling from one level to the next.
        line: where a straight line in 1/P through the two nearest continuous answers puts the
            price, in [-1, 1]; 0 where there are no two.
        sure: 1 where `line` is known.
        under, over: how near the nearest continuous answers with fewer and with more layers are,
            1 / (1 + levels between); 0 where there is none.
        answers: number of answers of the device, `(*batch, devices)`.
        age: rounds since the last one.
    """

    low: Array
    high: Array
    line: Array
    sure: Array
    under: Array
    over: Array
    answers: Array
    age: Array


class Seen(NamedTuple):
    """Answers by distinct price.

    Attributes:
        price: logarithms of shares of b, rising.
        layers: the latest answer of each device to each price, `(prices, devices)`.
        there: whether there is one.
        age: rounds since then.
        steady: whether no device has contradicted itself.
    """

    price: Float[np.ndarray, " prices"]
    layers: Float[np.ndarray, "prices devices"]
    there: Bool[np.ndarray, "prices devices"]
    age: Float[np.ndarray, "prices devices"]
    steady: bool


def read(
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    layers: Float[np.ndarray, "rounds devices"],
    present: Bool[np.ndarray, "rounds devices"],
) -> Seen:
    """Sorts the rounds seen by price; the latest answer to a price replaces earlier ones."""
    distinct, which = np.unique(prices, return_inverse=True)
    shape = (len(distinct), layers.shape[1])
    latest, there, age = np.zeros(shape), np.zeros(shape, dtype=bool), np.zeros(shape)
    steady = True
    for at in range(len(prices)):
        row, now = which[at], present[at]
        steady = steady and not np.any(now & there[row] & (latest[row] != layers[at]))
        latest[row] = np.where(now, layers[at], latest[row])
        age[row] = np.where(now, len(prices) - 1.0 - at, age[row])
        there[row] |= now
    if steady and len(distinct) > 1:
        most = np.maximum.accumulate(np.where(there, latest, -1.0), axis=0)
        steady = not np.any(there[1:] & (latest[1:] < most[:-1]))
    return Seen(np.log(distinct / known.saving), latest, there, age, steady)


def intervals(
    seen: Seen, places: Float[np.ndarray, " levels"], low: float, top: float, *, integer: bool
) -> tuple[Float[np.ndarray, "devices levels"], Float[np.ndarray, "devices levels"]]:
    """Ends of what the answers leave open for the price at which each place is reached.

    Args:
        seen: answers.
        places: layers, rising; whole devices reach a place between two layers between them.
        low, top: ends of the range of prices.
        integer: whether devices run whole layers.
    """
    devices = seen.layers.shape[1]
    before, after = (np.floor(places), np.ceil(places)) if integer else (places, places)
    before = np.where(before > 0, before, np.minimum(places, 1.0)) if integer else before
    least = np.full((devices, len(places)), low - MARGIN)
    most = np.full((devices, len(places)), top + MARGIN)
    if seen.steady:
        for row, price in enumerate(seen.price):
            there, layers = seen.there[row][:, None], seen.layers[row][:, None]
            least = np.where(there & (layers < before), price, least)
        for row in range(len(seen.price) - 1, -1, -1):
            there, layers = seen.there[row][:, None], seen.layers[row][:, None]
            most = np.where(there & (layers >= after), seen.price[row], most)
    else:
        ends = np.concatenate([[low - MARGIN], seen.price, [top + MARGIN]])
        weight = seen.there * 0.5 ** (seen.age / AGE_HALVES)
        cells = _believed(seen, before, weight)
        least = ends[np.argmax(cells, axis=0)]
        cells = cells if before is after else _believed(seen, after, weight)
        most = ends[len(ends) - 1 - np.argmax(cells[::-1], axis=0)]
        least = np.maximum.accumulate(least, axis=1)
        most = np.maximum(most, least)
    # A price that was posted outside of the range says nothing of places within it.
    least, most = (np.clip(each, low - MARGIN, top + MARGIN) for each in (least, most))
    return least, np.maximum.accumulate(most, axis=1)


def _believed(seen: Seen, places: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Whether votes allow each cell between prices, `(cells, devices, levels)`."""
    reached = seen.layers[:, :, None] >= places
    vote = weight[:, :, None]
    none = np.zeros((1, *reached.shape[1:]))
    # In cell j the price lies above the first j prices, and not above the others.
    lower = np.concatenate([none, np.cumsum(vote * reached, axis=0)])
    upper = np.concatenate([np.cumsum((vote * ~reached)[::-1], axis=0)[::-1], none])
    against = lower + upper
    return against <= against.min(axis=0) + DOUBT


def evidence(known: Known, seen: Seen, low: float, top: float) -> Intervals:
    """What is known of the levels of every device."""
    places = known.layers_max * (np.arange(LEVELS) + 1.0) / LEVELS
    least, most = intervals(seen, places, low, top, integer=known.integer)
    nothing = (np.zeros_like(least),) * 4
    told = nothing
    if not known.integer and seen.steady and len(seen.price):
        sold = seen.layers.T * LEVELS / known.layers_max
        told = pinned(np.exp(-seen.price), sold, seen.there.T, least, most)
    age = np.min(np.where(seen.there, seen.age, 50.0), axis=0, initial=50.0)
    return Intervals(least, most, *told, seen.there.sum(axis=0) * 1.0, age)


def pinned(
    inverse: Array, sold: Array, there: Array, low: Array, high: Array
) -> tuple[Array, Array, Array, Array]:
    """What continuous answers say of the levels beyond the intervals.

    An answer is a point of the curve, unless it is one of several equal ones: then a device has
    come to its end. Nothing sold is no point either.

    Args:
        inverse: 1/P of the answers, shares of b, `(answers,)`.
        sold: layers in levels, `(devices, answers)`.
        there: whether there is an answer.
        low, high: of the intervals, `(devices, levels)`.

    Returns:
        `line`, `sure`, `under` and `over` of `Intervals`.
    """
    xp = low.__array_namespace__()
    other = xp.abs(inverse[:, None] - inverse) > 1e-9
    same = there[:, None, :] & other & (xp.abs(sold[:, :, None] - sold[:, None, :]) < 1e-6)
    point = there & (sold > 0) & (sold < LEVELS) & ~xp.any(same, axis=-1)
    place = xp.arange(LEVELS, dtype=low.dtype) + 1.0
    apart = sold[:, None, :] - place[:, None]
    away = xp.where(point[:, None, :], xp.abs(apart), FAR)

    def nearest(away: Array) -> tuple[Array, Array, Array]:
        which = xp.argmin(away, axis=-1)
        layers = xp.take_along_axis(sold, which, axis=-1)
        return layers, inverse[which], xp.min(away, axis=-1) < FAR

    layers, first, _ = nearest(away)
    others = xp.where(xp.abs(sold[:, None, :] - layers[..., None]) < 1e-6, FAR, away)
    more, second, two = nearest(others)
    slope = (second - first) / xp.where(two, more - layers, 1.0)
    price = -xp.log(xp.clip(first + (place - layers) * slope, 1e-6, 1e6))
    line = 2.0 * (price - low) / xp.maximum(high - low, 1e-6) - 1.0
    near = (
        1.0 / (1.0 + xp.min(xp.where(side, away, FAR), axis=-1)) for side in (apart < 0, apart >= 0)
    )
    under, over = (xp.where(each > 2.0 / FAR, each, 0.0) for each in near)
    return xp.where(two, xp.clip(line, -1.0, 1.0), 0.0), two * 1.0, under, over


def features(terms: Terms, at: Intervals) -> tuple[Array, Array, Array]:
    """What the generator is told of every device, and its linear guess (see `Context`).

    The guess at a level draws a straight line in 1/P through the device's other levels, near and
    narrow ones first: supply curves are smooth, and for two families of satisfaction such lines.

    Returns:
        Features `(*batch, devices, FEATURES)`, mix and offset.
    """
    xp = at.low.__array_namespace__()
    mix, offset, spread = _guess(at)
    mix = mix * (1.0 - at.sure[..., None])
    offset = xp.where(at.sure > 0, at.line, offset)
    width = xp.maximum(at.high - at.low, 1e-6)

    def column(x: Array) -> Array:
        return xp.broadcast_to(x[..., None], at.answers.shape)

    of_device = [xp.log1p(at.answers) / 2.0, xp.log1p(at.age) / 4.0]
    of_fleet = [
        column(terms.low) / 3.0 + 1.0,
        column(terms.top),
        xp.log(column(terms.layers_max) / 12.0),
        column(terms.integer),
        xp.log1p(column(terms.rounds)) / 2.0,
        xp.log(column(terms.devices)) / 4.0,
        column(terms.wide),
    ]
    parts = [
        at.low + 1.0,
        at.high + 1.0,
        (xp.log(width) + 2.0) / 2.0,
        (xp.exp(-at.low) + xp.exp(-at.high)) / 20.0,
        xp.clip(offset, -4.0, 4.0),
        spread,
        at.line,
        at.sure,
        at.under,
        at.over,
        xp.stack(of_device + of_fleet, axis=-1),
    ]
    return xp.concat(parts, axis=-1), mix, offset


def _guess(at: Intervals) -> tuple[Array, Array, Array]:
    """Each level from the others by a local straight line of 1/P over levels."""
    xp = at.low.__array_namespace__()
    first, last = xp.exp(-at.low), xp.exp(-at.high)
    middle, half = (first + last) / 2.0, xp.maximum((first - last) / 2.0, 1e-5)
    level = xp.arange(LEVELS, dtype=at.low.dtype)
    apart = level[None, :] - level[:, None]
    near = xp.where(apart == 0, 0.0, 1.0 / (xp.abs(apart) + (apart == 0)))
    # Weights from 1 (the narrowest) downwards.
    narrow = (xp.min(half, axis=-1, keepdims=True) / half) ** 2 + 1e-6
    weight = narrow[..., None, :] * near
    weight = weight / xp.sum(weight, axis=-1, keepdims=True)
    mean = xp.sum(weight * apart, axis=-1, keepdims=True)
    square = xp.sum(weight * apart**2, axis=-1, keepdims=True) * 1.001
    line = weight * (square - mean * apart) / xp.maximum(square - mean**2, 1e-6)
    mix = line * (half[..., None, :] / half[..., None])
    offset = (middle - xp.sum(line * middle[..., None, :], axis=-1)) / half
    spread = xp.log(xp.sum(mix**2, axis=-1) + 1e-4) / 8.0
    return mix, offset, xp.clip(spread, -2.0, 2.0)


def placed(
    at: Intervals, position: Float[np.ndarray, "samples devices levels"]
) -> Float[np.ndarray, "samples devices levels"]:
    """Prices of levels at positions in [-1, 1] within their intervals, made rising.

    A level right beside a single continuous answer lies on the way from there to the next level:
    what its price is drawn wrong by would be steep or flat there.
    """
    price = at.low + (position + 1.0) / 2.0 * (at.high - at.low)
    price = np.clip(price, at.low, at.high)
    alone = at.sure == 0
    beside = 1.0 / (1.0 + BESIDE)
    for near, pin, step in ((at.under, at.low, -1), (at.over, at.high, 1)):
        close = alone & (near > beside)
        close[:, -1 if step < 0 else 0] = False
        if close.any():
            apart = 1.0 / np.where(close, near, 1.0) - 1.0
            start, end = np.exp(-pin), np.exp(-np.roll(price, step, axis=-1))
            between = -np.log(start + (end - start) * apart / (apart + 1.0))
            price = np.where(close, between, price)
    rising: np.ndarray = np.maximum.accumulate(np.clip(price, at.low, at.high), axis=-1)
    return rising


def evenly(
    rng: np.random.Generator, at: Intervals, samples: int
) -> Float[np.ndarray, "samples devices levels"]:
    """Prices of levels spread evenly in 1/P, on a line through places drawn in the intervals.

    Where continuous answers already say how layers go with 1/P, that is followed.
    """
    first, last = np.exp(-at.low), np.exp(-at.high)
    middle, half = (first + last) / 2.0, np.maximum((first - last) / 2.0, 1e-6)
    told = at.sure > 0
    anywhere = rng.uniform(-1.0, 1.0, (samples, *middle.shape))
    straight = np.exp(-(at.low + (at.line + 1.0) / 2.0 * (at.high - at.low)))
    inverse = np.where(told, straight, middle - half * anywhere)
    weight = half**-2.0
    weight /= weight.sum(axis=-1, keepdims=True)
    level = np.arange(LEVELS)
    apart = level - np.sum(weight * level, axis=-1, keepdims=True)
    slope = np.sum(weight * apart * inverse, axis=-1, keepdims=True) / (
        np.sum(weight * apart**2, axis=-1, keepdims=True) + 1e-9
    )
    line = np.sum(weight * inverse, axis=-1, keepdims=True) + slope * apart
    price = -np.log(np.clip(np.where(told, inverse, line), last, first))
    rising: np.ndarray = np.maximum.accumulate(np.clip(price, at.low, at.high), axis=-1)
    return rising
