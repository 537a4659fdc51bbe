r"""What past bids leave open of the distributions that bidders draw their values from.

Of $n$ bids in rising order, the chance that the next value is below the $k$-th one is unknown, but
not how it is spread: $F(x_{(k)})$ has the distribution Beta$(k, n + 1 - k)$ whatever $F$ is, since
levels of draws are uniform. So `PLACES` of the ordered bids stand for all, and what is generated
of a distribution is, for each of these places, *how far up in its Beta distribution* $F$ lies: a
position in [-1, 1] that is uniform for whoever knows nothing of distributions. What the model adds
is what it has learnt of how distributions look, and what bidders of one sale have in common. Of a
bidder that never bid the places are among all others' bids together and beyond them, and $F$ lies
there anywhere in [0, 1].

Everything is told in shares of the mean bid: bids in another currency give the same distribution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import betainc, betaincinv

from edgepact.solvers.in_context.deciding import SOURCE, impossible

PLACES = 12
"""Ordered bids at which a distribution is generated."""

DENSER = 1.5
"""Power by which places gather where values are high, which is where an item is sold."""

BELOW, UP_TO, ABOVE = (0.5,), 0.985, (1.35, 2.2)
"""Places of a bidder that never bid: shares of the least of all others' bids, these up to a level,
and multiples of the bid there."""

BIDS_MIN = 4
"""Fewest past bids from which a distribution can be generated."""

FEATURES = 7 * PLACES + 7
"""Numbers that the generator is told of a bidder."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bids:
    """Past bids.

    Attributes:
        past: of each bidder, in any order, credits; none for one that never bid.
    """

    past: tuple[Float[np.ndarray, "..."], ...]


class Row(NamedTuple):
    """A bidder as the generator sees it.

    Attributes:
        place: the places, neither falling, credits.
        above, below: parameters a, b of the Beta distribution of F at each of them.
    """

    place: Float[np.ndarray, " places"]
    above: Float[np.ndarray, " places"]
    below: Float[np.ndarray, " places"]


def check_bids(
    bids: Bids, *, names: tuple[str, ...], value_max: float, source: object = SOURCE
) -> None:
    """Raises `InputError` for bids that nobody can have made, such as below 0 or above the range.

    Args:
        bids: to check.
        names: of the bidders.
        value_max: the highest possible value, credits.
        source: where the bids stand, for errors.
    """
    if len(bids.past) != len(names):
        expected = f"those of {len(names)} bidders"
        raise impossible(source, "past", expected, f"of {len(bids.past)}")
    for name, own in zip(names, bids.past, strict=True):
        if np.ndim(own) != 1:
            raise impossible(source, f"past[{name}]", "a row of bids", f"shape {np.shape(own)}")
        wrong = ~(np.isfinite(own) & (own >= 0.0) & (own <= value_max))
        if np.any(wrong):
            at = int(np.argmax(wrong))
            field = f"past[{name}][{at + 1}]"
            raise impossible(source, field, f"a number {bid_range(value_max)}", float(own[at]))


def bid_range(value_max: float) -> str:
    """The range of bids in words, as errors tell it."""
    return f"from 0 to {value_max:g}" if np.isfinite(value_max) else "of at least 0"


def row_of(
    own: Float[np.ndarray, " bids"],
    others: Float[np.ndarray, " others"],
    *,
    source: object = SOURCE,
) -> tuple[Row, Float[np.ndarray, " features"]]:
    """How the generator sees a bidder, and what it is told of it.

    Args:
        own: past bids of the bidder; none for one of which nothing is known.
        others: past bids of all others.
        source: where the bids stand, for errors.

    Raises:
        InputError: there are fewer than `BIDS_MIN` bids to learn from, or none above 0.
    """
    seen = np.sort(own if len(own) else others)
    if len(seen) < BIDS_MIN or seen[-1] <= 0.0:
        found = f"{len(seen)}" if len(seen) < BIDS_MIN else "none above 0"
        whose = "" if len(own) else " of other bidders"
        expected = f"at least {BIDS_MIN} past bids{whose} to learn from"
        raise impossible(source, "past", expected, found)
    count, known = len(seen), len(own) > 0
    inside = PLACES if known else PLACES - len(BELOW) - len(ABOVE)
    level = 1.0 - (1.0 - np.arange(inside) / (inside - 1.0)) ** DENSER
    level *= 1.0 if known else UP_TO
    rank = (count - 1.0) * level
    place = np.interp(rank, np.arange(count), seen)
    if known:
        row = Row(place, rank + 1.0, count - rank)
    else:
        beyond = place[0] * np.array(BELOW), place[-1] * np.array(ABOVE)
        row = Row(np.concatenate([beyond[0], place, beyond[1]]), np.ones(PLACES), np.ones(PLACES))
        level = np.concatenate([np.zeros(len(BELOW)), level, np.ones(len(ABOVE))])
    everyone = np.sort(np.concatenate([own, others]))
    scale = max(float(np.mean(everyone)), 1e-300)
    return row, _features(row, level, seen, np.sort(others), scale, known)


def _features(
    row: Row,
    level: np.ndarray,
    seen: np.ndarray,
    others: np.ndarray,
    scale: float,
    known: bool,
) -> np.ndarray:
    x = row.place / scale
    gap = np.diff(x, prepend=0.0) + 1e-4
    risen = np.diff(level, prepend=0.0) + 1.0 / (len(seen) + 1.0)
    inner = (len(seen) * level + 0.5) / (len(seen) + 1.0)
    # Straight lines of the level, and of the logarithm of what is left, through all places ...
    inside = (x - x[0]) / max(x[-1] - x[0], 1e-9)
    even = inner[0] + (inner[-1] - inner[0]) * inside
    mean = float(seen.mean()) / scale
    fading = 1.0 - np.exp(-x / max(mean, 1e-9))
    # ... and from each place's neighbours.
    last = PLACES - 1
    before, after = np.maximum(np.arange(PLACES) - 1, 0), np.minimum(np.arange(PLACES) + 1, last)
    before[0], after[0], before[last], after[last] = 1, 2, last - 2, last - 1
    apart = np.maximum(np.abs(x[after] - x[before]), 1e-9)
    near = inner[before] + (inner[after] - inner[before]) * (x - x[before]) / apart
    told = np.full(PLACES, 0.5)
    if len(others):
        first = np.searchsorted(others, row.place, side="left")
        last_one = np.searchsorted(others, row.place, side="right")
        told = (0.5 * (first + last_one) + 0.5) / (len(others) + 1.0)
    return np.concatenate(
        [
            np.log(x + 0.03),
            np.log(risen / gap) / 2.0,
            2.0 * level - 1.0 if known else 2.0 * inner - 1.0,
            position_of(row, even),
            position_of(row, fading),
            position_of(row, near),
            position_of(row, told),
            [
                1.0 if known else -1.0,
                np.log(len(seen)) / 3.0 - 1.0,
                np.log1p(len(others)) / 3.0 - 1.0,
                np.log(mean + 0.03),
                np.log(float(seen.std()) / scale + 0.03),
                x[0] / max(mean, 1e-9),
                float(np.mean((seen / scale) ** 3)) ** (1.0 / 3.0) / 2.0,
            ],
        ]
    ).astype(np.float32)


def position_of(
    row: Row, level: Float[np.ndarray, "*batch places"]
) -> Float[np.ndarray, "*batch places"]:
    """Positions of levels F at the places, in [-1, 1]."""
    return np.asarray(2.0 * betainc(row.above, row.below, np.clip(level, 0.0, 1.0)) - 1.0)


def level_of(
    row: Row, position: Float[np.ndarray, "*batch places"]
) -> Float[np.ndarray, "*batch places"]:
    """Levels F of positions at the places, made rising."""
    inside = np.clip(0.5 * (position.astype(float) + 1.0), 1e-9, 1.0 - 1e-9)
    return np.asarray(np.maximum.accumulate(betaincinv(row.above, row.below, inside), axis=-1))
