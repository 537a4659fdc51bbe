"""How much a lie would bring: a strong search for profitable misreports in any auction.

A weak search reports small regret of anything. This one needs nothing but the auction itself:
bids all over the range, bids near the truth, bids the caller knows to be critical, and from the
best of them a pattern search with ever smaller steps. Where an auction can be differentiated, the
caller adds what gradient ascent found.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.mechanisms.auction.affine_maximiser import Sale

Auction = Callable[[Float[np.ndarray, "batch bidders items"]], Sale]
"""Bids to outcome, many profiles at once."""


class Misreports(NamedTuple):
    """The best lies found.

    Attributes:
        gain: what the best lie brings each bidder beyond the truth, credits; 0 if none was found.
        bids: that lie; the truth if none was found.
    """

    gain: Float[np.ndarray, "profiles bidders"]
    bids: Float[np.ndarray, "profiles bidders items"]

    @property
    def regret(self) -> float:
        """Mean gain of a bidder."""
        return float(self.gain.mean())

    @property
    def worst(self) -> float:
        """Largest gain of anybody."""
        return float(self.gain.max())


def search(
    auction: Auction,
    values: Float[np.ndarray, "profiles bidders items"],
    *,
    low: float,
    high: float,
    rng: np.random.Generator,
    restarts: int = 100,
    chains: int = 3,
    refinements: int = 40,
    known: Sequence[Float[np.ndarray, "profiles bidders items"]] = (),
) -> Misreports:
    """Searches a lie for each bidder of each profile, while the others tell the truth.

    Args:
        auction: what is tried.
        values: the truth, credits.
        low, high: range of bids, credits.
        rng: of the trials.
        restarts: bids drawn from the whole range, and as many again near the truth.
        chains: best bids from which the pattern search starts.
        refinements: steps of it, each with two trials an item; a step without success halves
            the stride.
        known: bids to try as well, such as those a gradient found.
    """
    profiles, bidders, items = values.shape
    truth = auction(values).utility(values)
    gain, bids = np.zeros((profiles, bidders)), values.copy()
    for bidder in range(bidders):

        def earned(trial: np.ndarray, bidder: int = bidder) -> np.ndarray:
            reported = values.copy()
            reported[:, bidder] = trial
            return auction(reported).utility(values)[:, bidder]

        tried = [values[:, bidder]]
        tried += [rng.uniform(low, high, (profiles, items)) for _ in range(restarts)]
        for number in range(restarts):
            spread = (high - low) * 10.0 ** (-4.0 * number / max(restarts, 1))
            near = values[:, bidder] + spread * rng.standard_normal((profiles, items))
            tried.append(np.clip(near, low, high))
        tried += [np.clip(each[:, bidder], low, high) for each in known]
        utility = np.stack([earned(trial) for trial in tried])
        order = np.argsort(-utility, axis=0)[:chains]
        for rank in range(min(chains, len(order))):
            start = np.stack(tried)[order[rank], np.arange(profiles)]
            found, best = _refine(earned, start, low, high, refinements)
            better = best - truth[:, bidder] > gain[:, bidder]
            gain[better, bidder] = (best - truth[:, bidder])[better]
            bids[better, bidder] = found[better]
    return Misreports(gain, bids)


def _refine(
    earned: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    low: float,
    high: float,
    refinements: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Pattern search from one bid of each profile; what it found and earns."""
    at, best = start.copy(), earned(start)
    stride = np.full(len(start), 0.25 * (high - low))
    for _ in range(refinements):
        improved = np.zeros(len(start), bool)
        for item in range(start.shape[1]):
            for sign in (1.0, -1.0):
                trial = at.copy()
                trial[:, item] = np.clip(trial[:, item] + sign * stride, low, high)
                utility = earned(trial)
                better = utility > best
                at[better], best[better] = trial[better], utility[better]
                improved |= better
        stride = np.where(improved, stride, 0.5 * stride)
    return at, best
