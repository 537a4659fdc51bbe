"""Does an auction keep its promises? Lies are tried where they could pay, nothing is assumed.

*Individually rational*: no bidder that bids the truth is worse off than by staying away.
*Incentive compatible*: no bidder gains by another bid, the others' bids given.
*Budget balanced*: payments stay within the budget, or, where there is none, within what is
bought or above what is sold.
*Monotone*: no winner loses by bidding lower (when selling: higher).

A grid of lies would miss what happens between its points. What a bidder gains can change only
where its bid crosses a critical value of the rule, so each of those is tried, a little below, at
and a little above, and with them the bidder's own payment, 0, and a bid beyond all others. The
bids in hand are taken for the truth. What of this is promised, each rule says itself, in
`Auction.promises`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from edgepact.mechanisms.auction.terms import Auction, Award
from edgepact.mechanisms.promises import Promise, broken

TOLERANCE = 1e-9
"""Slack for rounding, relative to the largest bid or payment."""

STEP = 1e-6
"""How far beside a critical value a lie stands, relative."""

CELLS = 2_000_000
"""Bids in the auctions that are held at once."""

CELLS_MAX = 20_000_000
"""Bids in all auctions held, unless told otherwise: seconds of work."""

BIDDERS_AUDITED = 64
"""Most bidders whose lies are searched where some must be left out."""

LIES_LEAST = 12
"""Lies tried of each of those, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuctionAudit:
    """What was found.

    Attributes:
        promised: what the rule promises.
        individually_rational: no bidder loses by taking part truthfully.
        incentive_compatible: no lie that was tried pays.
        budget_balanced: payments stay within the budget, or the value bought.
        monotone: nobody who would win with one bid loses with a better one.
        largest_gain_from_lying: credits; over all critical values of the bidders searched.
        largest_loss_from_taking_part: credits; over all bidders.
        lies_tried: how many.
        bidders_searched: in how many auctions' bidders' place.
    """

    promised: tuple[Promise, ...]
    individually_rational: bool
    incentive_compatible: bool
    budget_balanced: bool
    monotone: bool
    largest_gain_from_lying: float
    largest_loss_from_taking_part: float
    lies_tried: int
    bidders_searched: int

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that do not hold, in words."""
        return broken(self, self.promised)

    def as_json(self) -> dict[str, bool | float]:
        """The keys of `edgepact solve --json`."""
        return {
            "individually_rational": self.individually_rational,
            "incentive_compatible": self.incentive_compatible,
            "budget_balanced": self.budget_balanced,
            "largest_gain_from_lying": self.largest_gain_from_lying,
            "largest_loss_from_taking_part": self.largest_loss_from_taking_part,
        }


def audit_auction(
    auction: Auction,
    truth: Float[np.ndarray, "*batch bidders"],
    *,
    cells_max: int = CELLS_MAX,
) -> AuctionAudit:
    """Audits a rule on true costs (or values), one auction or a batch of them.

    Where every lie of every bidder would take more than `cells_max` bids to try, bidders and
    lies are taken evenly over their order, those at the margin of winning always.
    """
    truth = np.asarray(truth, float)
    return audit_rule(
        auction.award,
        truth,
        critical_bids=auction.critical_bids,
        spare=auction.spare,
        sells=auction.sells,
        cells_max=int(cells_max / auction.effort),
        promised=auction.promises,
    )


def audit_rule(
    rule: Callable[[Float[np.ndarray, "*batch bidders"]], Award],
    truth: Float[np.ndarray, "*batch bidders"],
    *,
    critical_bids: Callable[[Float[np.ndarray, "*batch bidders"]], np.ndarray] | None = None,
    spare: Callable[[Award], Float[np.ndarray, "*batch"]] | None = None,
    sells: bool = False,
    cells_max: int = CELLS_MAX,
    promised: tuple[Promise, ...] = (),
) -> AuctionAudit:
    """Audits any rule.

    Args:
        rule: bids of shape `*batch bidders` to an award.
        truth: costs; values if the rule sells.
        critical_bids: where a bidder's fate may turn, as `Auction.critical_bids`; without it
            the rivals' bids and every bidder's threshold as bisection finds it.
        spare: credits left of what an award may cost; without it the budget is not judged.
        sells: whether bidders pay.
        cells_max: most bids in all auctions held.
        promised: what the rule promises.
    """
    batch = np.asarray(truth, float).reshape(-1, np.shape(truth)[-1])
    count, size = batch.shape
    honest = rule(batch)
    sign = -1.0 if sells else 1.0
    kept = np.where(honest.wins, sign * (honest.payments - batch), -sign * honest.payments)
    find = critical_bids or (lambda bids: _found_critical(rule, bids, sells))
    lies, of = _lies(batch, honest, find, sells, cells_max)
    gain, monotone = 0.0, True
    block = max(1, CELLS // (size * lies.shape[1]))
    for start in range(0, len(lies), block):
        tried, (row, own) = lies[start : start + block], of[start : start + block].T
        bids = np.repeat(batch[row][:, None, :], tried.shape[1], axis=1)
        np.put_along_axis(bids, own[:, None, None], tried[:, :, None], axis=2)
        answer = rule(bids.reshape(-1, size))
        at = np.repeat(own, tried.shape[1])
        wins = answer.wins[np.arange(len(at)), at].reshape(tried.shape)
        paid = answer.payments[np.arange(len(at)), at].reshape(tried.shape)
        true = batch[row, own][:, None]
        kept_by_lie = np.where(wins, sign * (paid - true), -sign * paid)
        gain = max(gain, float(np.max(kept_by_lie - kept[row, own][:, None], initial=0.0)))
        best_lost = np.min(np.where(wins, np.inf, sign * tried), axis=1, initial=np.inf)
        worst_won = np.max(np.where(wins, sign * tried, -np.inf), axis=1, initial=-np.inf)
        # At one and the same critical value rounding may decide.
        monotone &= bool(np.all(worst_won <= best_lost + TOLERANCE * (1.0 + np.abs(best_lost))))
    finite = batch[np.isfinite(batch)]
    scale = max(float(np.max(honest.payments)), float(np.max(finite, initial=0.0)))
    slack = TOLERANCE * max(scale, float(np.finfo(float).tiny))
    loss = max(0.0, -float(np.min(np.where(np.isfinite(kept), kept, 0.0))))
    left = np.zeros(count) if spare is None else spare(honest)
    return AuctionAudit(
        promised=promised,
        individually_rational=loss <= slack,
        incentive_compatible=gain <= slack,
        budget_balanced=bool(np.all(left >= -slack)),
        monotone=monotone,
        largest_gain_from_lying=gain,
        largest_loss_from_taking_part=loss,
        lies_tried=lies.size,
        bidders_searched=len(lies),
    )


def _lies(
    batch: np.ndarray,
    honest: Award,
    critical_bids: Callable[[np.ndarray], np.ndarray],
    sells: bool,
    cells_max: int,
) -> tuple[Float[np.ndarray, "searched points"], Int[np.ndarray, "searched 2"]]:
    """Lies, and the auction and bidder each row of them belongs to."""
    count, size = batch.shape
    finite = np.where(np.isfinite(batch), batch, 0.0)
    beyond = 2.0 * max(float(np.max(finite)), float(np.max(honest.payments))) + 1.0
    ends = [0.0, beyond] if sells else [0.0, beyond, np.inf]
    # All critical lies are some three a bidder and critical value, two of these a rival.
    if 6 * batch.size * size**2 <= cells_max:
        points = critical_bids(batch).reshape(count * size, -1)
        of = np.stack(np.unravel_index(np.arange(batch.size), batch.shape), axis=-1)
    else:
        bidders = int(np.clip(cells_max // (size * LIES_LEAST), 2, BIDDERS_AUDITED))
        of = _margin(batch, honest, bidders)
        few = batch.size * size <= CELLS
        points = critical_bids(batch)[*of.T] if few else finite[of[:, 0]]
        most = min(max(1, cells_max // (3 * size * len(of))), points.shape[1])
        spread = np.linspace(0, points.shape[1] - 1, most).astype(int)
        points = np.sort(points, axis=1)[:, spread]
    own = honest.payments[of[:, 0], of[:, 1], None]
    points = np.concatenate([points, own], axis=1)
    around = np.concatenate([points * (1.0 - STEP), points, points * (1.0 + STEP)], axis=1)
    return np.concatenate([around, np.tile(ends, (len(of), 1))], axis=1), of


def _margin(batch: np.ndarray, honest: Award, bidders: int) -> Int[np.ndarray, "searched 2"]:
    """Some bidders: half of them winners that gain least, half from the whole range of bids."""
    margin = np.where(honest.wins, np.abs(honest.payments - batch), np.inf)
    half = min(bidders // 2, batch.size)
    closest = np.argpartition(margin, half - 1, axis=None)[:half]
    ranked = np.argsort(batch, axis=None, kind="stable")
    spread = ranked[np.linspace(0, batch.size - 1, half + 2).astype(int)[1:-1]]
    chosen = np.unique(np.concatenate([closest, spread]))
    return np.stack(np.unravel_index(chosen, batch.shape), axis=-1)


def _found_critical(
    rule: Callable[[np.ndarray], Award], bids: np.ndarray, sells: bool
) -> np.ndarray:
    """Rivals' bids, and each bidder's threshold by bisection; shape `batch bidders points`."""
    rivals = np.broadcast_to(bids[:, None, :], (*bids.shape, bids.shape[1]))
    best = np.zeros(bids.shape)
    worst = np.full(bids.shape, 4.0 * float(np.max(bids, where=np.isfinite(bids), initial=1.0)))
    if sells:
        best, worst = worst, best
    for _ in range(60):
        middle = 0.5 * (best + worst)
        for own in range(bids.shape[1]):
            told = bids.copy()
            told[:, own] = middle[:, own]
            wins = rule(told).wins[:, own]
            best[:, own] = np.where(wins, middle[:, own], best[:, own])
            worst[:, own] = np.where(wins, worst[:, own], middle[:, own])
    return np.concatenate([rivals, best[..., None], worst[..., None]], axis=-1)
