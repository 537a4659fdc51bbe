r"""The exact optimal menu for devices whose costs are private.

In the order $\psi_1 \ge \dots \ge \psi_K$ the best menu is found without any search (Mussa and
Rosen 1978; derivation: docs/theory/contract.md):

1. A menu can be kept to only if $q$ rises with $k$; the cheapest rewards are then
   $R_k = R_{k-1} + \psi_k (c(q_k) - c(q_{k-1}))$.
2. Put in, they leave $\sum_k p_k (V(q_k) - \varphi_k c(q_k))$ with the *virtual cost*
   $\varphi_k = \psi_k + (\psi_k - \psi_{k+1}) \sum_{i>k} p_i / p_k$ (`ordered`).
3. If $\varphi$ falls with $k$, every $q_k$ is chosen by itself. Otherwise $\varphi$ is
   *ironed*: its isotonic regression with weights $p$ takes its place. With values
   $s_k V$ that differ in scale the same holds of $\varphi_k / s_k$ with weights $p_k s_k$.
4. Whether a device is engaged at all may be drawn. What a type brings is concave in the chance
   and the cost expected together, so the budget has a multiplier and menus can be mixed
   (`budget`).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError
from edgepact.mechanisms.contract.budget import within_budget
from edgepact.mechanisms.contract.levels import rising_levels
from edgepact.mechanisms.contract.ordered import Plan, Types, in_order
from edgepact.mechanisms.contract.quality import (
    Value,
    marginal_cost,
)
from edgepact.mechanisms.contract.terms import Contract, Menu


def optimal_menu(contract: Contract) -> Menu:
    """The menu that earns most if every device picks what suits it best.

    Exact among all menus, of lotteries too. A lottery over qualities is never worth it, since V
    is concave in c; whether a device is engaged at all may be drawn, by `Menu.chance`, where a
    participation cost or a least quality meets a budget or types of unlike value. `sure_menu` is
    the best without.

    Rewards follow by the recursion, levels of c from the ironed virtual costs, or from
    `rising_levels` where types differ in more than a scale. With a budget, what is paid counts
    one plus a multiplier, found by bisection; where spending jumps over the budget, the two menus
    on either side of the jump are both optimal for the multiplier, and so is every mixture of
    their chances and costs, one of which spends exactly the budget. O(K log K) for a multiplier.
    """
    types = in_order(contract)
    return within_budget(types, _plans(types), types.rewarded)


def menu_at(contract: Contract, price: Float[np.ndarray, " types"]) -> Menu:
    """The menu that buys from each type what is best, were c to cost the principal a price.

    Rewards are the cheapest that nobody can better by a lie, so the menu breaks no promise
    whatever prices are; a type whose price is higher than that of a dearer one is pooled with
    it. How frequent types are plays no part. Everybody is served, budget and all left aside.

    Args:
        contract: whose costs, value and bounds count.
        price: of each type, credits per unit of c, above 0, in the contract's order.

    Raises:
        InputError: a price is not above 0, or there is not one for each type.
    """
    price = np.asarray(price, float)
    if price.shape != np.shape(contract.psi) or not np.all(price > 0.0):
        expected = f"{len(contract.psi)} prices above 0"
        raise InputError("menu", "price", expected, f"{price.tolist()}")
    types = in_order(contract)
    quality = np.maximum.accumulate(types.best(price[types.order]))
    return types.rewarded(Plan(np.ones(len(quality)), types.cost(quality)))


def _plans(types: Types) -> Callable[[float], Plan]:
    """The best plan by multiplier, all incentives kept."""
    value, scale = types.contract.value, types.scale
    if not isinstance(value, Value) or (types.may_leave_out and np.any(scale != scale[0])):
        return lambda multiplier: _levelled(types, multiplier)
    weight = types.p * scale
    # One number a block: what is pooled here stays so, whatever is done to all numbers alike.
    ironed = isotonic_regression(types.phi / scale, weights=weight, increasing=False).x

    def plan(multiplier: float) -> Plan:
        price = (1.0 + multiplier) * ironed
        quality = np.maximum.accumulate(types.bought(value, price))
        level = types.cost(quality)
        if not types.may_leave_out:
            return Plan(np.ones(len(level)), level)
        fixed = (1.0 + multiplier) * types.contract.participation_cost / scale[0]
        left = np.asarray(value.at(quality)) - price * level - fixed
        served = np.maximum.accumulate(left >= 0.0)
        return Plan(served.astype(float), np.where(served, level, 0.0))

    return plan


def _levelled(types: Types, multiplier: float) -> Plan:
    r"""The best plan where types differ in more than a scale.

    What a type brings that is engaged with the best chance for an expected cost C is concave:
    $W(C) = \max_x x\,V(c^{-1}(C / x)) - (1 + \lambda) f x$, with f the cost of taking part. Up to
    the *full* level, where the line from nothing touches V, the chance rises and the quality
    stays; from there on the chance is 1. Levels are told by the quality that costs them.
    """
    contract, form = types.contract, types.contract.cost
    price, low, high = 1.0 + multiplier, contract.quality_min, contract.quality_max
    fixed = price * contract.participation_cost
    full = np.full(len(types.psi), 0.0)
    if types.may_leave_out:

        def falls(quality: np.ndarray) -> np.ndarray:
            # Cost over marginal cost is q for a linear and q/2 for a quadratic one.
            reach = quality if form == "linear" else 0.5 * quality
            return fixed - types.worth(quality) + types.slope(quality) * reach

        # From where on a higher quality at a lower chance brings less.
        def short(quality: np.ndarray) -> np.ndarray:
            return np.where(falls(quality) > 0.0, 1.0, -1.0)

        full = rising_levels(short, len(types.psi), low, high, ordered=False)
    touching = types.worth(full) - fixed
    with np.errstate(divide="ignore", invalid="ignore"):
        line = np.where(full > 0.0, touching / types.cost(full), 0.0)

    def gain(quality: np.ndarray) -> np.ndarray:
        """By a unit of c, before it is paid."""
        with np.errstate(divide="ignore", invalid="ignore"):
            own = types.slope(quality) / np.asarray(marginal_cost(form, quality))
        # A value that is flat gains nothing, also where the first bit of quality costs nothing.
        own = np.where(types.slope(quality) == 0.0, 0.0, own)
        return np.where(quality < full, line, own)

    at = _with_equal_costs_in_order(types, gain, price)
    charge = np.empty(len(at))
    charge[at] = price * (types.p[at] * types.psi + types.rent)

    def slope(quality: np.ndarray) -> np.ndarray:
        own = np.empty(len(at))
        own[at] = quality
        return (types.p * gain(own) - charge)[at]

    found = np.empty(len(at))
    found[at] = rising_levels(slope, len(at), 0.0, high)
    level, most = types.cost(found), types.cost(full)
    chance = np.where(found < full, level / np.where(most > 0.0, most, 1.0), 1.0)
    return Plan(chance, level)


def _with_equal_costs_in_order(
    types: Types, gain: Callable[[np.ndarray], np.ndarray], price: float
) -> Int[np.ndarray, " types"]:
    """Places of the types such that among equal costs whoever delivers more alone comes later.

    No incentive orders types of equal cost. The level of each is its own best, unless that is
    out of the range that dearer and cheaper types leave, so this order costs nothing.
    """
    place = np.arange(len(types.psi))
    if isinstance(types.contract.value, Value) or np.all(np.diff(types.psi) != 0.0):
        return place
    top = types.contract.quality_max

    def slope(quality: np.ndarray) -> np.ndarray:
        return gain(quality) - price * types.psi

    alone = rising_levels(slope, len(place), 0.0, top, ordered=False)
    return np.lexsort((alone, -types.psi))
