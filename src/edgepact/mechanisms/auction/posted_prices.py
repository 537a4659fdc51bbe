"""Most value in expectation within a budget that needs to hold in expectation: a price each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from edgepact.mechanisms.auction.terms import Auction, Award, check_budget, check_values, value_left
from edgepact.mechanisms.auction.virtual_cost import VirtualCost, by_virtual_cost, check_virtual

LOG_MULTIPLIER_MAX = 690.0
"""The multiplier of `expected_budget` lies between exp of minus this and of this: any float."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostedPrices(Auction):
    """Everybody whose bid is at most its price wins and is paid it.

    Attributes:
        values: v, above 0, shape `bidders`.
        prices: credits, shape `bidders`; minus infinity for who is not wanted.
        expected_payments: credits, before the bids are seen.
        budget: what those may be; None for no limit.
    """

    values: Float[np.ndarray, " bidders"]
    prices: Float[np.ndarray, " bidders"]
    expected_payments: float
    budget: float | None = None

    def __post_init__(self) -> None:
        check_values(self.values)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        wins = self._checked(bids) <= self.prices
        return Award(wins=wins, payments=np.where(wins, self.prices, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Each bidder's own price."""
        bids = self._checked(bids)
        return np.maximum(np.broadcast_to(self.prices, bids.shape), 0.0)[..., None]

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """What the budget leaves of the payments expected; it holds on average."""
        if self.budget is None:
            return value_left(self.values, award)
        return np.full(award.wins.shape[:-1], self.budget - self.expected_payments)


def expected_budget(
    values: Float[np.ndarray, " bidders"],
    virtual: VirtualCost | Sequence[VirtualCost],
    budget: float,
) -> PostedPrices:
    r"""Most value in expectation, if payments need to stay within a budget in expectation.

    A bidder is bought where $v_i \ge \lambda \varphi_i(b_i)$. That does not depend on the other
    bids, so the rule is a price for each bidder, $\varphi_i^{-1}(v_i / \lambda)$, on which
    $\sum_i p_i F_i(p_i)$ is spent; bisection finds the $\lambda$ that spends the budget. Where
    it binds on an ironed stretch, the best would be a lottery between the stretch's two ends;
    the higher price then goes to as many bidders, in order, as the budget allows, and less
    than the difference for one of them is left over.

    Raises:
        InputError: something is out of range.
    """
    check_values(values)
    check_virtual(virtual, len(values))
    check_budget(budget)

    def prices(multiplier: float) -> tuple[np.ndarray, np.ndarray]:
        worth = np.asarray(values) / multiplier
        price, spent = np.empty(len(values)), np.empty(len(values))
        for each, own in by_virtual_cost(virtual, len(values)):
            price[own] = each.price(worth[own])
            spent[own] = np.maximum(price[own], 0.0) * each.prior.cdf(price[own])
        return price, spent

    def overspent(log_multiplier: float) -> float:
        return float(np.sum(prices(np.exp(log_multiplier))[1])) - budget

    best, spent = prices(np.exp(-LOG_MULTIPLIER_MAX))
    if float(np.sum(spent)) > budget:
        root = brentq(overspent, -LOG_MULTIPLIER_MAX, LOG_MULTIPLIER_MAX, xtol=1e-13, rtol=1e-15)
        # Spending may jump at the root, so it is held between two multipliers.
        width, low, high = 1e-13, np.exp(root), np.exp(root)
        while overspent(np.log(low)) <= 0.0 or overspent(np.log(high)) > 0.0:
            width, low = 2.0 * width, np.exp(root - width)
            high = np.exp(min(root + width, LOG_MULTIPLIER_MAX))
        (dearer, over), (best, spent) = prices(low), prices(high)
        left = budget * (1.0 - 1e-12) - float(np.sum(spent))
        raised = np.cumsum(over - spent) <= left
        best, spent = np.where(raised, dearer, best), np.where(raised, over, spent)
    return PostedPrices(
        values=values,
        prices=best,
        expected_payments=float(np.sum(spent)),
        budget=budget,
    )
