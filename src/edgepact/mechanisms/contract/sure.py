"""The best menu without a draw: whoever takes an item is engaged.

Whoever is served, all of lower cost are too, so only K + 1 *cutoffs* have to be weighed. It is
what a principal offers that cannot draw, and the measure of what drawing brings.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from edgepact.mechanisms.contract.budget import bracket
from edgepact.mechanisms.contract.levels import rising_levels
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.ordered import Plan, Types, in_order
from edgepact.mechanisms.contract.quality import Value, marginal_cost
from edgepact.mechanisms.contract.responses import payments, profit
from edgepact.mechanisms.contract.terms import Contract, Menu


def sure_menu(contract: Contract) -> Menu:
    """The menu that earns most among those that serve a type and all of lower cost, or nobody.

    The same as `optimal_menu` wherever that draws nobody. With a budget, the Lagrangian at any
    multiplier bounds every cutoff's profit from above, so a cutoff is solved only while its
    bound beats the best menu found.
    """
    menu = optimal_menu(contract)
    if menu.chance is None:
        return menu
    types = in_order(contract)
    cutoffs = len(types.psi) + 1
    bound = _totals(types, 0.0)
    best, found = types.rewarded(Plan(*np.zeros((2, cutoffs - 1)))), 0.0
    for _ in range(cutoffs):
        start = int(np.argmax(bound))
        if bound[start] <= found:
            break
        bound[start] = -np.inf
        affordable = _affordable(types, start)
        if affordable is None:
            continue
        menu, multiplier = affordable
        earned = profit(contract, menu) / contract.devices
        if earned > found:
            best, found = menu, earned
        if contract.budget is not None:
            spared = multiplier * contract.budget / contract.devices
            bound = np.minimum(bound, _totals(types, multiplier) + spared)
    return best


def _plans(types: Types, start: int) -> Callable[[float], Plan]:
    """The best plan by multiplier that serves the types from `start` on."""
    contract, value, size = types.contract, types.contract.value, len(types.psi)
    served = np.arange(size) >= start

    def plan(multiplier: float) -> Plan:
        quality = np.zeros(size)
        if isinstance(value, Value):
            bought = types.bought(value, (1.0 + multiplier) * ironed)
            quality[start:] = np.maximum.accumulate(bought)
        else:
            quality[start:] = levels(multiplier)
        return Plan(served.astype(float), np.where(served, types.cost(quality), 0.0))

    def levels(multiplier: float) -> np.ndarray:
        charge = (1.0 + multiplier) * (types.p * types.psi + types.rent)

        def slope(quality: np.ndarray) -> np.ndarray:
            own = np.full(size, contract.quality_max)
            own[start:] = quality
            with np.errstate(divide="ignore"):
                gain = types.slope(own) / np.asarray(marginal_cost(contract.cost, own))
            return (types.p * gain - charge)[start:]

        return rising_levels(slope, size - start, contract.quality_min, contract.quality_max)

    if isinstance(value, Value):
        ratio, weight = (types.phi / types.scale)[start:], (types.p * types.scale)[start:]
        ironed = isotonic_regression(ratio, weights=weight, increasing=False).x
    return plan


def _affordable(types: Types, start: int) -> tuple[Menu, float] | None:
    """The best menu of one cutoff within the budget, and the multiplier.

    None if not even the lowest quality can be paid.
    """
    contract, plan = types.contract, _plans(types, start)
    menu = types.rewarded(plan(0.0))
    if contract.budget is None or payments(contract, menu) <= contract.budget:
        return menu, 0.0
    most = contract.budget

    def spent(plan: Plan) -> float:
        return payments(contract, types.rewarded(plan))

    served = (np.arange(len(types.psi)) >= start).astype(float)
    lowest = Plan(served, served * types.cost(np.full(len(served), contract.quality_min)))
    if spent(lowest) > most:
        return None
    low, high = bracket(lambda multiplier: spent(plan(multiplier)) <= most)
    richer, poorer = plan(low), plan(high)
    if spent(poorer) > most:  # nothing but the lowest quality is affordable
        poorer = lowest
    over, under = spent(richer), spent(poorer)
    share = float(np.clip((most - under) / (over - under), 0.0, 1.0)) if over > under else 0.0
    for step in (0.0, *(2.0**-at for at in range(52, 30, -1))):
        part = share * (1.0 - step)
        mixed = Plan(served, poorer.level + part * (richer.level - poorer.level))
        if spent(mixed) <= most:
            return types.rewarded(mixed), high
    return types.rewarded(poorer), high


def _totals(types: Types, multiplier: float) -> Float[np.ndarray, " cutoffs"]:
    """Profit a device by cutoff, what is paid weighed by one plus the multiplier.

    Entry m serves types m, m+1, ...; the last serves nobody. Pooling from the cheapest type on
    gives the ironed blocks of every suffix on the way, so all K problems cost one pass and one
    call for the best qualities of all blocks ever formed.
    """
    size = len(types.psi)
    price, value = 1.0 + multiplier, types.contract.value
    fixed = price * types.contract.participation_cost * np.append(np.cumsum(types.p[::-1])[::-1], 0)
    if not isinstance(value, Value):
        charges = types.p * types.psi + types.rent
        profits = []
        for start in range(size):
            chance, level = _plans(types, start)(multiplier)
            menu = types.rewarded(Plan(chance, level))
            gain = chance * types.p * types.worth(menu.quality[types.order])
            profits.append(float(np.sum(gain - price * charges * level)))
        return np.array([*profits, 0.0]) - fixed
    charge, weight = types.p * types.phi, types.p * types.scale
    formed: list[tuple[float, float, int]] = []  # charge, weight, block beneath
    top, tops = -1, []
    for at in range(size - 1, -1, -1):
        block = (float(charge[at]), float(weight[at]))
        while top >= 0 and block[0] * formed[top][1] <= formed[top][0] * block[1]:
            block = (block[0] + formed[top][0], block[1] + formed[top][1])
            top = formed[top][2]
        formed.append((*block, top))
        top = len(formed) - 1
        tops.append(top)
    charges, weights = np.array([(c, w) for c, w, _ in formed]).T
    quality = types.bought(value, price * charges / weights)
    gain = weights * np.asarray(value.at(quality)) - price * charges * types.cost(quality)
    for at, (_, _, beneath) in enumerate(formed):
        if beneath >= 0:
            gain[at] += gain[beneath]
    return np.append(gain[tops][::-1], 0.0) - fixed
