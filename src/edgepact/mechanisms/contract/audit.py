"""Does a menu keep its promises? Every pair of types is checked, nothing is sampled.

*Individually rational*: no type loses by taking the item meant for it.
*Incentive compatible*: no type gains by taking the item of another.
*Budget balanced*: expected payments stay within the budget, or, where there is none, within
what the bought quality is worth.

A contract promises the first two, and the third where it has a budget.
"""

from dataclasses import dataclass

import numpy as np

from edgepact.mechanisms.contract.lottery import LotteryMenu, WideContract
from edgepact.mechanisms.contract.quality import cost_of
from edgepact.mechanisms.contract.responses import payments, profit, rents
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.mechanisms.promises import Promise, broken

TOLERANCE = 1e-9
"""Slack for rounding, relative to the largest reward or burden."""

TINY = float(np.finfo(float).tiny)
"""Where every item is worth nothing, any slack above 0 will do."""

CELLS = 4_000_000
"""Pairs weighed at once; a block of rows of this size stays within some 100 MB."""


def promises(contract: Contract | WideContract) -> tuple[Promise, ...]:
    """What every answer to a contract has to keep."""
    always = (Promise.INDIVIDUALLY_RATIONAL, Promise.INCENTIVE_COMPATIBLE)
    return always if contract.budget is None else (*always, Promise.BUDGET_BALANCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAudit:
    """What was found.

    Attributes:
        promised: what the contract promises.
        individually_rational: no type and not the principal loses by taking part.
        incentive_compatible: no type gains by another's item.
        budget_balanced: payments stay within the budget, or the value bought.
        largest_gain_from_lying: credits, over all types and all items; exact.
        largest_loss_from_taking_part: credits, over all types; exact.
        pairs: number of pairs (type, other type) weighed, K(K-1).
    """

    promised: tuple[Promise, ...]
    individually_rational: bool
    incentive_compatible: bool
    budget_balanced: bool
    largest_gain_from_lying: float
    largest_loss_from_taking_part: float
    pairs: int

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


def audit_menu(contract: Contract, menu: Menu) -> ContractAudit:
    """Audits a menu of whatever origin."""
    kept = rents(contract, menu)
    gain = largest_gain_from_lying(contract, menu)
    loss = max(0.0, -float(np.min(kept)))
    # The dearest item taken by the dearest type is the largest number that is rounded.
    burden = float(np.max(contract.psi) * np.max(cost_of(contract.cost, menu.quality)))
    slack = TOLERANCE * max(burden, float(np.max(np.abs(menu.reward))), TINY)
    paid, earned = payments(contract, menu), profit(contract, menu)
    limit = paid + earned if contract.budget is None else contract.budget
    return ContractAudit(
        promised=promises(contract),
        individually_rational=loss <= slack and earned >= -slack * contract.devices,
        incentive_compatible=gain <= slack,
        budget_balanced=paid <= limit * (1.0 + TOLERANCE),
        largest_gain_from_lying=gain,
        largest_loss_from_taking_part=loss,
        pairs=len(kept) * (len(kept) - 1),
    )


def audit_lotteries(contract: WideContract, menu: LotteryMenu) -> ContractAudit:
    """Audits a menu of lotteries for types with several costs."""
    own = np.diagonal(menu.burden)
    # Money is of the size of what is paid and borne for the dearest item.
    slack = TOLERANCE * max(float(np.max(menu.burden)), float(np.max(np.abs(menu.reward))), TINY)
    kept = menu.reward - own
    gain = max(0.0, float(np.max(menu.reward - menu.burden - kept[:, None])))
    loss = max(0.0, -float(np.min(kept)))
    paid = float(contract.devices * np.sum(contract.probability * menu.reward))
    limit = paid + menu.profit if contract.budget is None else contract.budget
    return ContractAudit(
        promised=promises(contract),
        individually_rational=loss <= slack and menu.profit >= -slack * contract.devices,
        incentive_compatible=gain <= slack,
        budget_balanced=paid <= limit * (1.0 + TOLERANCE),
        largest_gain_from_lying=gain,
        largest_loss_from_taking_part=loss,
        pairs=len(kept) * (len(kept) - 1),
    )


def largest_gain_from_lying(contract: Contract, menu: Menu) -> float:
    """The most any type gains by an item meant for another, over all K(K-1) pairs; credits.

    Taking nothing instead of an item is not a lie but a loss from taking part.
    """
    kept = rents(contract, menu)
    items = np.flatnonzero(menu.served)
    if len(items) == 0:
        return 0.0
    burden = np.asarray(cost_of(contract.cost, menu.quality))[items]
    reward = menu.reward[items] - contract.participation_cost
    # Of an item that is drawn, its chance counts of both.
    chance = menu.engaged[items]
    burden, reward = chance * burden, chance * reward
    rows, gain = max(1, CELLS // len(items)), 0.0
    for start in range(0, len(kept), rows):
        part = slice(start, start + rows)
        best = np.max(reward - np.outer(contract.psi[part], burden), axis=1)
        gain = max(gain, float(np.max(best - kept[part])))
    return gain
