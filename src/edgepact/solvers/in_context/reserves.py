r"""Reserves and virtual values from past bids, by generated distributions of values.

What a seller does not know of a bidder is the distribution $F$ of its value. The generator draws
such distributions, given what all bids say (`bids`, `generator`), and the rest is Myerson's theory.

*Why the mean is enough.* What any truthful auction earns is an integral over each bidder's
distribution, so it is linear in each of them; given all past bids, bidders' next values are taken as
independent. So the expected revenue over samples is the revenue under the mean $\bar F$ of the
samples, and the auction that earns most is Myerson's for $\bar F$: the highest virtual value wins,
ironed where it falls, and the reserve of a bidder is the posted price $r$ with the most
$(r - c)\,(1 - \bar F(r))$, at cost $c$ of the item.

*Truthful over rounds.* For bidders that come again, what is thought of a bidder is drawn from
the bids of all others alone, and the item is sold *lazily*: the highest bids win if they reach
their own reserve, and pay the larger of that and the highest bid that lost. Nothing of what a bidder
pays depends on any bid that it made (`mechanisms.auction.learnt_reserves`).

A seller needs NumPy and SciPy alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError
from edgepact.framework import Json, Sheet
from edgepact.solvers.in_context import bids as evidence
from edgepact.solvers.in_context import generator
from edgepact.solvers.in_context.bids import FEATURES, PLACES, Bids
from edgepact.solvers.in_context.policy_file import Weights, read_weights, write_weights

SHIPPED = Path(__file__).parent / "weights" / "reserves.npz"
"""The generator that comes with the package; its model card stands beside it."""

WIDTH = 96
"""Width of the denoiser."""

SAMPLES = 64
"""Distributions drawn of a bidder."""


def _smooth() -> Float[np.ndarray, "places places"]:
    near = np.eye(PLACES, k=1) + np.eye(PLACES, k=-1)
    return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)


SMOOTH: Float[np.ndarray, "places places"] = _smooth()
"""A guess at every position: the mean of its neighbours (see `generator.Context`)."""


class Predicted(NamedTuple):
    """The distribution of a bidder's next value: uniform between places.

    Attributes:
        at: values, neither falling, credits.
        tail: chance that the next value is above each, from 1 at the first to 0 at the last.
    """

    at: Float[np.ndarray, " ends"]
    tail: Float[np.ndarray, " ends"]


def layer_sizes() -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer."""
    return generator.sizes(FEATURES, PLACES, WIDTH)


def load(path: Path) -> Weights:
    """Reads the weights of a generator.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    return read_weights(path, "a trained generator of distributions", sizes=layer_sizes())


def save(path: Path, weights: Weights) -> None:
    """Writes the weights of a generator."""
    write_weights(path, weights)


def drawn(
    weights: Weights,
    past: tuple[Float[np.ndarray, " bids"], ...],
    of: tuple[int, ...],
    rng: np.random.Generator,
    *,
    samples: int = SAMPLES,
) -> list[tuple[evidence.Row, Float[np.ndarray, "samples places"]]]:
    """Draws distributions of bidders.

    Args:
        weights: trained.
        past: bids of each bidder, in any order; none where none are to be seen.
        of: which bidders to draw.
        rng: of the noise.
        samples: of each.

    Returns:
        For each of them its places and levels F there.
    """
    rows, told = [], []
    for at, own in enumerate(past):
        others = np.concatenate([own[:0], *past[:at], *past[at + 1 :]])
        row, features = evidence.row_of(own, others)
        rows.append(row)
        told.append(features)
    seen = np.array([len(own) > 0 for own in past], np.float32)
    # In an order that bids alone decide, so that sums over bidders are the same.
    order = np.lexsort(np.array(told).T)
    mix = np.broadcast_to(SMOOTH, (len(past), PLACES, PLACES))
    nothing = np.zeros((len(past), PLACES), np.float32)
    read = generator.context(weights, np.array(told)[order], seen[order], mix, nothing)
    back = np.argsort(order)
    found = []
    for at in of:
        same = read.rows(np.full(samples, back[at]))
        position = generator.sample(weights, same, rng)
        found.append((rows[at], evidence.level_of(rows[at], position)))
    return found


def predicted(
    row: evidence.Row,
    levels: Float[np.ndarray, "samples places"],
    *,
    value_max: float = np.inf,
) -> Predicted:
    """The mean of samples, continued beyond the least and the highest place as dense as next to it."""
    F, x = levels.mean(axis=0), row.place
    low = _beyond(x[0], x[1], F[0], F[1] - F[0])
    high = _beyond(x[-1], x[-2], 1.0 - F[-1], F[-1] - F[-2])
    at = np.concatenate([[max(low, 0.0)], x, [min(high, value_max)]])
    return Predicted(at, np.concatenate([[1.0], 1.0 - F, [0.0]]))


def _beyond(end: float, inner: float, left: float, between: float) -> float:
    """Where a distribution ends if it goes on as between two places."""
    return float(end + (end - inner) * min(left / max(between, 1e-12), 1.0))


def virtual_values(
    belief: Predicted, values: Float[np.ndarray, " values"]
) -> Float[np.ndarray, " values"]:
    """Ironed virtual values of a belief at some values, credits.

    Between two points the virtual value is, on average, the slope of what posted prices earn over
    the chance that they sell; that is ironed, and interpolated between the middles.
    """
    sold = belief.tail[:-1] - belief.tail[1:]
    some = sold > 1e-9
    posted = belief.at * belief.tail
    slope = (posted[:-1] - posted[1:])[some] / sold[some]
    ironed = isotonic_regression(slope, weights=sold[some]).x
    middle = 0.5 * (belief.at[:-1] + belief.at[1:])[some]
    return np.asarray(np.interp(values, middle, ironed))


def reserve(belief: Predicted, *, cost: float = 0.0) -> float:
    r"""The posted price with the most expected profit, credits: Myerson's reserve.

    Exact: between two points the chance to sell is linear, and what a price earns a parabola.
    """
    start, end = belief.at[:-1], belief.at[1:]
    before, after = belief.tail[:-1], belief.tail[1:]
    fall = (before - after) / np.where(end > start, end - start, np.inf)
    # d/dr (r - c)(before - fall (r - start)) = 0.
    top = 0.5 * (start + cost + before / np.where(fall > 0.0, fall, 1e-300))
    price = np.concatenate([[belief.at[0]], np.clip(top, start, end), end])
    left = before - fall * (np.clip(top, start, end) - start)
    sold = np.concatenate([[belief.tail[0]], left, np.where(end > start, after, before)])
    return float(price[np.argmax((price - cost) * sold)])
