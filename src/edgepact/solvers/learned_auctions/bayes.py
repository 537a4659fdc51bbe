"""An auction set up by exact Bayes: the ceiling of what can be learnt from past bids.

It is told the distribution that `AuctionDesign` draws priors from, sees every past bid rather than
quantiles of them, and holds Myerson's auction for what it then believes of the next value of each
bidder. No seller earns more on average over priors drawn apart, since then the next values are
independent given all bids. Where all bidders share a prior they are not, quite; after 200 bids of
each, what that leaves is far below a tenth of a percent.

The posterior is by quadrature. An exponential has one parameter. A uniform prior has its ends, at
distances from the extreme bids that are nearly exponential. Of two pieces the second and the share
are independent given the first, with closed forms or one integral each.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from edgepact.mechanisms.auction.problem import LOW, SECOND, SHARE, WIDTH
from edgepact.solvers.in_context.reserves import Predicted, virtual_of

GRID: Float[np.ndarray, " grid"] = np.concatenate(
    [np.linspace(0.0, 4.5, 451), np.geomspace(4.5, 20.0, 60)[1:]]
)
"""Values at which chances are kept, credits; priors of pieces end at 4.5 at most."""

_STEPS = 400
"""Widths that are integrated over."""

_ENDS = 20
"""Places of each end of a uniform prior."""

_SECONDS = 8
"""Widths of the second piece for each of the first."""

_NEGLIGIBLE = 1e-7
"""Parameters of less posterior weight are left out."""


class Belief(NamedTuple):
    """What is believed of one prior.

    Attributes:
        log_evidence: log of the density of the bids seen, over all priors.
        tail: chance that the next value is above each of `GRID`.
    """

    log_evidence: float
    tail: Float[np.ndarray, " grid"]


def believe(bids: Float[np.ndarray, " bids"]) -> Belief:
    """The belief after bids from one prior.

    Args:
        bids: in any order, at least 2, credits.
    """
    bids = np.sort(bids)
    kinds = [kind(bids) for kind in (_uniform, _exponential, _pieces)]
    logs = np.array([kind.log_evidence for kind in kinds])
    total = float(logsumexp(logs))
    if not np.isfinite(total):
        # Impossible under every prior: then nothing has been learnt.
        return Belief(-np.inf, prior_tail())
    tail = np.sum([w * kind.tail for w, kind in zip(np.exp(logs - total), kinds, strict=True)], 0)
    return Belief(total - np.log(len(kinds)), tail)


def prior_tail() -> Float[np.ndarray, " grid"]:
    """The chance that a value is above each of `GRID`, before any bid."""
    return _PRIOR_TAIL


class Tails(NamedTuple):
    """Chances that each bidder's next value is above each of `GRID`.

    Attributes:
        told: after the past bids of all.
        left_out: after those of all others.
    """

    told: Float[np.ndarray, "bidders grid"]
    left_out: Float[np.ndarray, "bidders grid"]


def tails(past: Float[np.ndarray, "past bidders"]) -> Tails:
    """What is believed of each bidder's next value.

    In half of the rounds all bidders share a prior; how likely that is, bids say, too.

    Args:
        past: bids of at least 2 bidders, credits.
    """
    apart, together = [believe(bids) for bids in past.T], believe(past.ravel())
    shared = _shared(together, apart)
    told = [shared * together.tail + (1.0 - shared) * each.tail for each in apart]
    left_out = []
    for bidder in range(past.shape[1]):
        others = [each for other, each in enumerate(apart) if other != bidder]
        rest = believe(np.delete(past, bidder, axis=1).ravel())
        shared = _shared(rest, others)
        left_out.append(shared * rest.tail + (1.0 - shared) * prior_tail())
    return Tails(np.stack(told), np.stack(left_out))


def scores(
    tail: Float[np.ndarray, " grid"],
    values: Float[np.ndarray, " values"],
    *,
    at: Float[np.ndarray, " grid"] = GRID,
) -> Float[np.ndarray, " values"]:
    """Ironed virtual values of a belief at some values, credits.

    Args:
        tail: chances that a value is above each point of the grid.
        values: where, credits.
        at: the grid, credits.
    """
    return virtual_of(Predicted(at, tail)).at(values)


def _shared(together: Belief, apart: list[Belief]) -> float:
    """Chance that bidders share a prior; one half before any bid."""
    alone = sum(each.log_evidence for each in apart)
    if not np.isfinite(together.log_evidence):
        return 0.0
    return float(1.0 / (1.0 + np.exp(np.clip(alone - together.log_evidence, -700.0, 700.0))))


def _widths() -> Float[np.ndarray, " widths"]:
    return WIDTH[0] + (WIDTH[1] - WIDTH[0]) * (np.arange(_STEPS) + 0.5) / _STEPS


def _weighed(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which parameters count, and their posterior weights."""
    weight = np.exp(logs - logs.max())
    weight = weight / weight.sum()
    kept = weight > _NEGLIGIBLE
    return kept, weight[kept] / weight[kept].sum()


def _exponential(bids: np.ndarray) -> Belief:
    mean = _widths()
    logs = -len(bids) * np.log(mean) - bids.sum() / mean
    kept, weight = _weighed(logs)
    tail = weight @ np.exp(-GRID[None, :] / mean[kept, None])
    return Belief(float(logsumexp(logs)) - np.log(_STEPS), tail)


def _uniform(bids: np.ndarray) -> Belief:
    count, spread = len(bids), float(bids[-1] - bids[0])
    if spread <= 0.0:
        return Belief(-np.inf, np.zeros_like(GRID))
    # How far the ends lie beyond the extreme bids, at quantiles of an exponential.
    rate = count / spread
    beyond = -np.log1p(-(np.arange(_ENDS) + 0.5) / _ENDS) / rate
    below, above = (each.ravel() for each in np.meshgrid(beyond, beyond))
    low, width = bids[0] - below, spread + below + above
    fits = (low >= LOW[0]) & (low <= LOW[1]) & (width >= 2 * WIDTH[0]) & (width <= 2 * WIDTH[1])
    if not np.any(fits):
        return Belief(-np.inf, np.zeros_like(GRID))
    low, width, below, above = (each[fits] for each in (low, width, below, above))
    # Likelihood over the density that the ends were placed with; halves of widths are uniform.
    area = 2.0 * (LOW[1] - LOW[0]) * (WIDTH[1] - WIDTH[0])
    placed = 2.0 * np.log(rate) - rate * (below + above)
    logs = -count * np.log(width) - placed - np.log(area)
    kept, weight = _weighed(logs)
    inside = np.clip((GRID[None, :] - low[kept, None]) / width[kept, None], 0.0, 1.0)
    return Belief(float(logsumexp(logs)) - 2.0 * np.log(_ENDS), weight @ (1.0 - inside))


def _pieces(bids: np.ndarray) -> Belief:
    first = _widths()
    inner = np.searchsorted(bids, first, side="left").astype(float)
    outer = len(bids) - inner
    low = np.maximum(SECOND[0] * first, np.where(outer > 0.0, bids[-1] - first, 0.0))
    high = SECOND[1] * first
    fits = low < high
    if not np.any(fits):
        return Belief(-np.inf, np.zeros_like(GRID))
    first, inner, outer, low, high = (x[fits] for x in (first, inner, outer, low, high))
    share = SHARE[0] + (SHARE[1] - SHARE[0]) * (np.arange(80) + 0.5) / 80
    of_share = inner[:, None] * np.log(share) + outer[:, None] * np.log1p(-share)
    # The width of the second piece has density s^-outer between its ends.
    power = outer - 1.0
    power = np.where(power == 0.0, 1e-9, power)
    ratio = np.exp(power * np.log(low / high))
    of_second = -power * np.log(low) + np.log((1.0 - ratio) / power)
    of_second -= np.log((SECOND[1] - SECOND[0]) * first)
    of_shares = logsumexp(of_share, axis=1) - np.log(len(share))
    logs = -inner * np.log(first) + of_shares + of_second
    kept, weight = _weighed(logs)
    first, power, ratio, low = (x[kept, None] for x in (first, power, ratio, low))
    odds = np.exp(of_share[kept] - of_share[kept].max(axis=1, keepdims=True))
    mean = ((odds @ share) / odds.sum(axis=1))[:, None]
    level = (np.arange(_SECONDS) + 0.5) / _SECONDS
    second = low * (1.0 - level * (1.0 - ratio)) ** (-1.0 / power)
    inside = GRID[None, :] / first
    beyond = np.zeros((len(weight), len(GRID)))
    for number in range(_SECONDS):
        beyond += np.maximum(1.0 - (GRID[None, :] - first) / second[:, number : number + 1], 0.0)
    tail = np.where(inside < 1.0, 1.0 - mean * inside, (1.0 - mean) * beyond / _SECONDS)
    return Belief(float(logsumexp(logs)) - np.log(_STEPS), weight @ tail)


def _tail_before_bids() -> np.ndarray:
    """By quadrature, with each parameter at its quantiles."""
    half = (np.arange(40) + 0.5) / 40
    width = WIDTH[0] + (WIDTH[1] - WIDTH[0]) * half
    exponential = np.exp(-GRID[None, :] / width[:, None]).mean(axis=0)
    low = LOW[0] + (LOW[1] - LOW[0]) * half
    ends, across = (x.ravel()[:, None] for x in np.meshgrid(low, 2.0 * width))
    uniform = 1.0 - np.clip((GRID[None, :] - ends) / across, 0.0, 1.0).mean(axis=0)
    first, times = (
        x.ravel()[:, None] for x in np.meshgrid(width, SECOND[0] + (SECOND[1] - SECOND[0]) * half)
    )
    share = 0.5 * (SHARE[0] + SHARE[1])
    inside = GRID[None, :] / first
    beyond = np.maximum(1.0 - (inside - 1.0) / times, 0.0)
    pieces = np.where(inside < 1.0, 1.0 - share * inside, (1.0 - share) * beyond).mean(axis=0)
    return np.asarray((uniform + exponential + pieces) / 3.0)


_PRIOR_TAIL = _tail_before_bids()
