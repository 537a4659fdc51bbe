"""The best price over samples of supply: arithmetic, and nothing learned.

Of a price it is known exactly, in every sample, what it would earn. Its worth is what it earns on
average and, H times, how far it is expected to better the best price seen:

    E[G(P)] + H E[max(0, G(P) - G(best seen))].

Before the first answer nothing is known of what there is to gain, and most gain on average is had
where fleets are rich. What counts is the share of the range (`mechanisms.stackelberg.score`), so a
first price is the one with the highest share on average.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from edgepact.solvers.in_context.supply import Sample, alone, moments, total_supply

MANY = 6
"""Devices from which on the layers of all together are taken to be normal."""

SEARCHED = 200
"""Prices looked at first, of whole layers."""

SEARCHED_SMOOTH = 72
"""Prices looked at first, of continuous layers."""

FINER = (96, 32)
"""Prices looked at around the best of them, twice, of whole and continuous layers."""

RANDOM_PRICES = 64
"""Prices over which the gain of a random one is averaged."""

WORTHWHILE = 0.02
"""Least range, as a share of what all layers would save, of a device that counts."""

PROMISED = 1e-6
"""Least share of what all layers would save that makes another price worth posting."""


def best_price(
    samples: Sequence[tuple[Sample, float]],
    seen: Float[np.ndarray, " prices"],
    *,
    low: float,
    top: float,
    horizon: float,
    certain: tuple[Float[np.ndarray, " prices"], float] | None = None,
) -> tuple[float, bool]:
    """The price to post, a logarithm of a share of b, and whether it is one of those seen.

    Args:
        samples: of supply curves, each with what it counts; these sum to 1.
        seen: prices posted so far, rising, logarithms of shares of b.
        low, top: ends of the range of prices.
        horizon: H.
        certain: layers that are sold at least at the prices seen, as a share of all layers, and
            the most that may be lost against the best seen, as a share of what that
            earns; None allows every price.
    """
    inside = seen[(seen >= low - 1e-12) & (seen <= top + 1e-12)]
    best, best_gain = np.nan, 0.0
    if len(inside):
        gains = sum(much * gain(sample, inside).mean(axis=0) for sample, much in samples)
        best, best_gain = float(inside[np.argmax(gains)]), float(np.max(gains))

    def worth(prices: np.ndarray) -> np.ndarray:
        total = np.zeros(len(prices))
        for sample, much in samples:
            mean, better = expected(sample, prices, best_gain)
            total += much * (mean + horizon * better)
        if certain is not None and len(seen):
            layers, most = certain
            below = np.searchsorted(seen, prices, side="right") - 1
            least = (1.0 - np.exp(prices)) * np.where(below >= 0, layers[np.maximum(below, 0)], 0.0)
            total = np.where(least >= best_gain * (1.0 - most), total, -np.inf)
        return total

    whole = samples[0][0].integer
    steps = np.zeros(0)
    if whole:
        # An optimum lies where somebody takes one more layer.
        steps = np.unique(np.concatenate([sample.price.ravel() for sample, _ in samples]))
        steps = steps[(steps >= low) & (steps <= top)]
    prices = np.linspace(low, top, SEARCHED_SMOOTH)
    if whole and len(steps):
        prices = thinned(steps, SEARCHED)
    elif len(inside):
        near = best + 0.3 * np.linspace(-1.0, 1.0, 25) ** 3
        prices = np.unique(np.concatenate([prices, np.clip(near, low, top)]))
    found = worth(prices)
    at = int(np.argmax(found))
    for _ in range(2):
        ends = prices[max(at - 2, 0)], prices[min(at + 2, len(prices) - 1)]
        finer = np.linspace(*ends, FINER[1])
        if whole and len(steps):
            finer = thinned(steps[(steps >= ends[0]) & (steps <= ends[1])], FINER[0])
        again = worth(finer)
        if np.max(again) < found[at]:
            break
        prices, found, at = finer, again, int(np.argmax(again))
    if len(inside) and not found[at] > best_gain + PROMISED:
        return best, True
    return float(min(max(prices[at], low), top)), False


def first_price(
    samples: Sequence[tuple[Sample, float]], *, low: float, top: float, highest: float
) -> float:
    """The price to post when nothing was answered yet, a logarithm of a share of b.

    Devices of a fleet are more alike than those of different ones, and are drawn independently; so
    every device drawn is looked at as a fleet of its own.

    Args:
        samples: of supply curves, each with what it counts.
        low, top: ends of the range of prices worth posting.
        highest: price that may be posted; at least `top`.
    """
    prices = np.linspace(low, top, SEARCHED)
    anywhere = low + (np.arange(RANDOM_PRICES) + 0.5) / RANDOM_PRICES * (highest - low)
    total = np.zeros(len(prices))
    for sample, much in samples:
        each = alone(sample)
        earned, random = gain(each, prices), gain(each, anywhere).mean(axis=1, keepdims=True)
        reach = earned.max(axis=1, keepdims=True) - random
        counts = reach > WORTHWHILE
        share = np.where(counts, (earned - random) / np.where(counts, reach, 1.0), 0.0)
        total += much * share.sum(axis=0) / max(float(counts.sum()), 1.0)
    return float(prices[np.argmax(total)])


def expected(
    sample: Sample, prices: Float[np.ndarray, " prices"], best: float
) -> tuple[Float[np.ndarray, " prices"], Float[np.ndarray, " prices"]]:
    """What prices earn, and how far they better what is known to be earned, on average.

    Many devices, drawn independently, sell what is close to normal (see `moments`); of few, the
    samples themselves are looked at.
    """
    if sample.price.shape[1] < MANY:
        earned = gain(sample, prices)
        return earned.mean(axis=0), np.maximum(earned - best, 0.0).mean(axis=0)
    most = sample.price.shape[1] * sample.layers
    each = (1.0 - np.exp(prices)) / most
    layers, variance = moments(sample, prices)
    mean, spread = each * layers, np.maximum(each * np.sqrt(variance), 1e-12)
    ahead = (mean - best) / spread
    density = np.exp(-0.5 * np.minimum(np.abs(ahead), 30.0) ** 2) / np.sqrt(2.0 * np.pi)
    return mean, np.maximum(spread * (ahead * normal_share(ahead) + density), 0.0)


def normal_share(x: np.ndarray) -> np.ndarray:
    """The standard normal distribution function, to 7.5e-8 (Abramowitz and Stegun, 26.2.17)."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(x))
    series = 0.0
    for factor in (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530):
        series = t * (factor + series)
    tail = series * np.exp(-0.5 * np.minimum(np.abs(x), 30.0) ** 2) / np.sqrt(2.0 * np.pi)
    return np.asarray(np.where(x > 0, 1.0 - tail, tail))


def gain(
    sample: Sample, prices: Float[np.ndarray, " prices"]
) -> Float[np.ndarray, "samples prices"]:
    """What prices earn in every sample, as a share of what all layers would save."""
    most = sample.price.shape[1] * sample.layers
    found: np.ndarray = (1.0 - np.exp(prices)) * total_supply(sample, prices) / most
    return found


def thinned(rising: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly by rank, with the first and the last."""
    if len(rising) <= most:
        return rising
    return rising[np.linspace(0, len(rising) - 1, most).astype(int)]
