r"""The most that each bidder is paid for work, from the past bids of all others: reserves mirrored.

Who buys work that is worth $v$ to it and hears bids $b$ stands where a seller stands to whom the
surpluses $v - b$ are offered for a thing that costs nothing: a reserve $r$ of the sale is a
*ceiling* $v - r$ of the purchase, and both leave $r$ with the chance that the surplus is at least
$r$. So ceilings are what `reserves` decides, for surpluses.

*Truthful over rounds.* Whether a bidder wins, and what it is paid, is what the auction says, capped
by its own ceiling; the auction itself is held without ceilings, among all bids. A ceiling is
learnt from bids that others made. So no bid of a bidder moves anything that it meets later on.

Learning takes a few bids of some and a few of others. Where a bidder has made too few by itself, or
where there are many bidders, they are put together as *groups* whose members share a ceiling, and
no member's bids set it. Who stands in which group follows from names, and from how often each has
bid, not from what.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgepact.credits import rounded_up
from edgepact.engagement import Item
from edgepact.solvers.in_context.bids import BIDS_MIN, Bids
from edgepact.solvers.in_context.deciding import Decider
from edgepact.solvers.in_context.reserves import ReserveDecision, Reserves, Selling

GROUPS_MAX = 16
"""Most groups: learning of each from all others grows with their square."""

LEAST_SHARE = 1e-6
"""A bid of the worth or above leaves this share of it: nobody's surplus is nothing or less."""

BIDS_KEPT = 1000
"""Past bids of a bidder that are remembered, the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What was believed before a round, and set for it.

    Attributes:
        most: that each bidder may be paid, credits.
        accepting: share of bidders that were expected to ask no more than their ceiling; None
            where ceilings were the stated one.
        bids: past bids that were learnt from; 0 where there were too few to learn.
    """

    most: dict[str, float]
    accepting: float | None
    bids: int


@dataclass(slots=True, kw_only=True)
class Buying:
    """Sets ceilings round by round, and remembers what was bid.

    Attributes:
        decider: sets reserves.
        worth: of what is bought of one bidder, credits; above 0.
        stated: the ceiling while there are too few bids to learn from, credits.
        seed: of the noise that distributions are drawn from.
        past: bids heard so far, by bidder, credits.
    """

    worth: float
    stated: float
    seed: int
    decider: Decider[Selling, Bids, ReserveDecision] = field(default_factory=Reserves.shipped)
    past: dict[str, list[float]] = field(default_factory=dict)

    def hear(self, bids: Mapping[str, float]) -> None:
        """Remembers the bids of a round, credits."""
        for name, bid in bids.items():
            own = self.past.setdefault(name, [])
            own.append(bid)
            del own[:-BIDS_KEPT]

    def ceilings(self, names: Sequence[str]) -> Ceilings:
        """The most that each of these bidders may be paid next, from what was heard so far."""
        groups = _groups({name: len(self.past.get(name, ())) for name in (*self.past, *names)})
        if len(groups) < 2:
            return Ceilings(most=dict.fromkeys(names, self.stated), accepting=None, bids=0)
        past = tuple(
            np.array([self._surplus(bid) for name in group for bid in self.past.get(name, ())])
            for group in groups
        )
        called = tuple(f"group-{at:02d}" for at in range(len(groups)))
        known = Selling(names=called, units=len(called), value_max=self.worth)
        decided = self.decider.decide(known, Bids(past=past), self.seed)
        of = {name: at for at, group in enumerate(groups) for name in group}
        most = self.worth - decided.reserves
        return Ceilings(
            most={name: float(most[of[name]]) for name in names},
            accepting=float(np.mean([decided.wins[of[name]] for name in names])) if names else None,
            bids=sum(len(own) for own in past),
        )

    def _surplus(self, bid: float) -> float:
        return max(self.worth - bid, LEAST_SHARE * self.worth)


def _groups(made: Mapping[str, int]) -> list[list[str]]:
    """Names in groups that made some `BIDS_MIN` bids each, by how many bids each name made."""
    total = sum(made.values())
    number = min(GROUPS_MAX, total // BIDS_MIN)
    if number < 2:
        return [sorted(made)]
    enough, bids = max(math.ceil(total / number), BIDS_MIN), 0
    found: list[list[str]] = [[]]
    for name in sorted(made):
        if bids >= enough:
            found.append([])
            bids = 0
        found[-1].append(name)
        bids += made[name]
    if bids < BIDS_MIN and len(found) > 1:
        last = found.pop()
        found[-1] += last
    return found


def capped(
    engaged: Mapping[str, Item], bids: Mapping[str, int], most: Mapping[str, float]
) -> dict[str, Item]:
    """What is left of an award under ceilings.

    Args:
        engaged: as the auction awards it; what each is paid does not hang on its own bid.
        bids: of those that won, for the amount they won, micro-credits.
        most: that each may be paid, credits; rounded up, so that who asks just that is paid.

    Returns:
        Who is engaged, at the smaller of what the auction says and its ceiling.
    """
    found = {}
    for name, item in engaged.items():
        ceiling = rounded_up(most[name])
        if bids[name] <= ceiling:
            paid = min(item.reward_microcredits, ceiling)
            found[name] = replace(item, reward_microcredits=paid)
    return found


def best_ceiling(
    worth: float, costs: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray
) -> float:
    """The ceiling that leaves most, if costs are believed to be these with these frequencies.

    Args:
        worth: of what is bought of one bidder, credits.
        costs: that bidders may have, credits; infinite for those that cannot do it.
        weights: how frequent each is.

    Returns:
        Credits; the worth where nobody costs less, so that nothing is lost by it.

    Example:
        >>> best_ceiling(10.0, [1.0, 4.0, 9.5], [0.3, 0.4, 0.3])
        4.0
    """
    costs, weights = np.asarray(costs, float), np.asarray(weights, float)
    order = np.argsort(costs, kind="stable")
    left = (worth - costs[order]) * np.cumsum(weights[order])
    best = int(np.argmax(left))
    return float(costs[order][best]) if left[best] > 0.0 else worth
