r"""What past bids leave open of the distributions that bidders draw their values from.

Of $n$ bids in rising order, the chance that the next value is below the $k$-th one is unknown, but
not how it is spread: $F(x_{(k)})$ has the distribution Beta$(k, n + 1 - k)$ whatever $F$ is (a
classical fact: levels of draws are uniform). So `PLACES` of the ordered bids stand for all, and what
is generated of a distribution is, for each of these places, *how far up in its Beta distribution*
$F$ lies: a position in [-1, 1] that is uniform for whoever knows nothing of distributions. What the
model adds is what it has learnt of how distributions look, and what bidders of one sale have in
common. Of a bidder that never bid the places are those of all others' bids together, and $F$ lies
there anywhere in [0, 1].

Everything is told in shares of the mean bid: bids in another currency give the same distribution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import betainc, betaincinv

from edgepact.errors import InputError

PLACES = 12
"""Ordered bids at which a distribution is generated."""

DENSER = 1.5
"""Power by which places gather where values are high, which is where an item is sold."""

BIDS_MIN = 4
"""Fewest past bids from which a distribution can be generated."""

FEATURES = 7 * PLACES + 7
"""Numbers that the generator is told of a bidder."""

SOURCE = "bids"
"""What errors of evidence name as their source."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bids:
    """Past bids.

    Attributes:
        past: of each bidder, in any order, credits; none for one that never bid.
    """

    past: tuple[Float[np.ndarray, " bids"], ...]


class Row(NamedTuple):
    """A bidder as the generator sees it.

    Attributes:
        place: the places, neither falling, credits.
        above, below: parameters a, b of the Beta distribution of F at each of them.
    """

    place: Float[np.ndarray, " places"]
    above: Float[np.ndarray, " places"]
    below: Float[np.ndarray, " places"]


def check_bids(bids: Bids, *, names: tuple[str, ...], value_max: float) -> None:
    """Raises `InputError` where bids are impossible: negative, no numbers, or above the range.

    Args:
        bids: to check.
        names: of the bidders.
        value_max: the highest possible value, credits.
    """
    if len(bids.past) != len(names):
        expected = f"past bids of {len(names)} bidders"
        raise InputError(SOURCE, "past", expected, len(bids.past))
    for name, own in zip(names, bids.past, strict=True):
        if own.ndim != 1:
            raise InputError(SOURCE, f"past of {name}", "a row of bids", f"shape {own.shape}")
        wrong = ~(np.isfinite(own) & (own >= 0.0) & (own <= value_max))
        if np.any(wrong):
            top = f" to {value_max:g}" if np.isfinite(value_max) else ""
            expected = f"numbers from 0{top}" if top else "numbers of at least 0"
            found = f"{float(own[np.argmax(wrong)]):g}"
            raise InputError(SOURCE, f"past of {name}", expected, found)
        if len(own) == 0:
            continue
        if own.max() <= 0.0:
            raise InputError(SOURCE, f"past of {name}", "a bid above 0", "none")


def row_of(
    own: Float[np.ndarray, " bids"], others: Float[np.ndarray, " bids"]
) -> tuple[Row, Float[np.ndarray, " features"]]:
    """How the generator sees a bidder, and what it is told of it.

    Args:
        own: past bids of the bidder; none for one of which nothing is known.
        others: past bids of all others.

    Raises:
        InputError: there are fewer than `BIDS_MIN` bids to place the distribution by.
    """
    seen = np.sort(own if len(own) else others)
    if len(seen) < BIDS_MIN:
        raise InputError(SOURCE, "past", f"at least {BIDS_MIN} past bids", len(seen))
    count = len(seen)
    rank = (count - 1.0) * (1.0 - (1.0 - np.arange(PLACES) / (PLACES - 1.0)) ** DENSER)
    place = np.interp(rank, np.arange(count), seen)
    known = len(own) > 0
    above, below = (rank + 1.0, count - rank) if known else (np.ones(PLACES), np.ones(PLACES))
    row = Row(place, above, below)
    everyone = np.concatenate([own, others])
    scale = max(float(np.mean(np.sort(everyone))), 1e-300)
    return row, _features(row, rank / (count - 1.0), seen, np.sort(others), scale, known)


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
        below = np.searchsorted(others, row.place, side="left")
        below = 0.5 * (below + np.searchsorted(others, row.place, side="right"))
        told = (below + 0.5) / (len(others) + 1.0)
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
