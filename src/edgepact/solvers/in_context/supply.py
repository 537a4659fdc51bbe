"""What samples of supply curves sell at a price, in whole layers or continuous ones."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.solvers.in_context import curves
from edgepact.solvers.in_context.curves import LEVELS, Seen
from edgepact.solvers.quoter import Known


class Sample(NamedTuple):
    """Supply curves of a fleet, drawn several times.

    Attributes:
        price: logarithms of shares of b at which whole layers, or levels, are reached,
            `(samples, devices, layers)`.
        layers: of the model.
        integer: whether devices run whole layers.
        pins: answers that continuous curves go through exactly, or None.
        correction: what totals at the prices seen are to be multiplied by, where the devices
            drawn stand for more, or None.
    """

    price: np.ndarray
    layers: int
    integer: bool
    pins: Seen | None
    correction: tuple[np.ndarray, np.ndarray] | None = None


def sample_of(known: Known, seen: Seen, levels: np.ndarray, low: float, top: float) -> Sample:
    """Curves through generated levels that agree with every answer.

    Args:
        known: what is public.
        seen: answers of the devices that are drawn.
        levels: logarithms of the prices of the levels, `(samples, devices, LEVELS)`, rising.
        low, top: ends of the range of prices.
    """
    K = known.layers_max
    if not known.integer:
        whole = seen.steady and len(seen.price) > 0 and bool(seen.there.all())
        return Sample(levels, K, False, seen if whole else None)
    if K != LEVELS:
        places = K * (np.arange(LEVELS) + 1.0) / LEVELS
        layer = np.arange(1.0, K + 1.0)
        before = np.clip(np.searchsorted(places, layer) - 1, 0, LEVELS - 2)
        share = (layer - places[before]) / (places[before + 1] - places[before])
        inverse = np.exp(-levels)
        drawn = inverse[..., before] * (1.0 - share) + inverse[..., before + 1] * share
        least, most = curves.intervals(seen, layer, low, top, integer=True)
        levels = -np.log(np.maximum(drawn, np.exp(-top - curves.MARGIN)))
        levels = np.maximum.accumulate(np.clip(levels, least, most), axis=-1)
    return Sample(levels, K, True, None)


def alone(sample: Sample) -> Sample:
    """Every device drawn as a fleet of its own; nothing was answered yet."""
    samples, devices = sample.price.shape[:2]
    return sample._replace(price=sample.price.reshape(samples * devices, 1, -1))


def each_supply(sample: Sample, price: float) -> Float[np.ndarray, "samples devices"]:
    """Layers of every device at one price, a logarithm of a share of b."""
    if sample.integer:
        return np.sum(sample.price <= price, axis=-1) * 1.0
    return _smooth(sample, np.array([price]))[..., 0]


def total_supply(
    sample: Sample, prices: Float[np.ndarray, " prices"]
) -> Float[np.ndarray, "samples prices"]:
    """Layers of all devices together at some prices, logarithms of shares of b."""
    if sample.integer:
        flat = np.sort(sample.price.reshape(len(sample.price), -1), axis=-1)
        total = np.stack([np.searchsorted(row, prices, side="right") for row in flat]) * 1.0
    else:
        total = np.sum(_smooth(sample, prices), axis=1)
    if sample.correction is not None:
        total = total * np.interp(prices, *sample.correction)
    return total


def moments(
    sample: Sample, prices: Float[np.ndarray, " prices"]
) -> tuple[Float[np.ndarray, " prices"], Float[np.ndarray, " prices"]]:
    """Mean and variance of the layers of all devices together, who are drawn independently.

    As many totals as there are ways to choose a sample for every device are thereby looked at,
    not only as many as there are samples.
    """
    samples, devices = sample.price.shape[:2]
    if sample.integer:
        mean, second = np.zeros((2, devices, len(prices)))
        flat = sample.price.transpose(1, 0, 2).reshape(devices, -1)
        # L layers are the sum of 1 over the layers reached, and L^2 that of 2 k - 1.
        odd = np.tile(2.0 * np.arange(sample.price.shape[2]) + 1.0, samples)
        order = np.argsort(flat, axis=-1)
        rising = np.take_along_axis(flat, order, axis=-1)
        squares = np.concatenate([np.zeros((devices, 1)), np.cumsum(odd[order], axis=-1)], axis=-1)
        for device in range(devices):
            reached = np.searchsorted(rising[device], prices, side="right")
            mean[device] = reached / samples
            second[device] = squares[device][reached] / samples
        spread = second - mean**2
    else:
        each = _smooth(sample, prices)
        mean, spread = each.mean(axis=0), each.var(axis=0)
    scale = 1.0 if sample.correction is None else np.interp(prices, *sample.correction)
    total = np.sum(spread, axis=0) * samples / max(samples - 1, 1)
    return np.sum(mean, axis=0) * scale, np.maximum(total, 0.0) * scale**2


def _smooth(sample: Sample, prices: np.ndarray) -> np.ndarray:
    """Layers of every device, straight in 1/P between what is known of its curve.

    A curve's knots are the levels, where it enters (the first levels continued downwards) and
    the pins on either side of a price.
    """
    step = sample.layers / LEVELS
    inverse = np.exp(-sample.price)
    entry = np.maximum(2.0 * inverse[..., :1] - inverse[..., 1:2], inverse[..., :1])
    knots = np.concatenate([entry, inverse], axis=-1)
    at = np.exp(-prices)
    reached = np.zeros((*knots.shape[:-1], len(prices)), dtype=np.intp)
    for knot in range(LEVELS + 1):
        reached += knots[..., knot, None] >= at
    some = reached > 0
    start = np.maximum(reached - 1, 0)
    end = np.minimum(start + 1, LEVELS)
    from_y, to_y = (np.take_along_axis(knots, each, axis=-1) for each in (start, end))
    from_x, to_x = step * start, step * np.where(some, end, 0)
    if sample.pins is not None:
        pins = sample.pins
        below = np.searchsorted(pins.price, prices, side="right") - 1
        layers, inverses = pins.layers.T, np.exp(-pins.price)
        has = below >= 0
        pin_y, pin_x = inverses[np.maximum(below, 0)], layers[:, np.maximum(below, 0)]
        # Where a device enters is only reckoned: one that has sold before has entered already.
        nearer = has & ((pin_y <= from_y) | (pin_x > from_x) | ~some)
        from_x, from_y = np.where(nearer, pin_x, from_x), np.where(nearer, pin_y, from_y)
        above = np.minimum(below + 1, len(pins.price) - 1)
        pin_y, pin_x = inverses[above], layers[:, above]
        nearer = (below + 1 < len(pins.price)) & (pin_y >= to_y) & some
        to_x, to_y = np.where(nearer, pin_x, to_x), np.where(nearer, pin_y, to_y)
        # Before it enters a device sells nothing.
        to_x = np.maximum(to_x, from_x)
    share = np.clip((from_y - at) / np.maximum(from_y - to_y, 1e-12), 0.0, 1.0)
    found: np.ndarray = from_x + share * (to_x - from_x)
    return found
