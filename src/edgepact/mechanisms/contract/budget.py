"""The best menu that a budget allows: a multiplier, and a mixture of the menus beside it.

What a type brings is concave in the chance to be engaged and the cost expected together, so the
budget has a multiplier, and menus can be mixed.
"""

from collections.abc import Callable

import numpy as np

from edgepact.mechanisms.contract.ordered import Plan, Types
from edgepact.mechanisms.contract.responses import payments
from edgepact.mechanisms.contract.terms import Menu


def within_budget(types: Types, plan: Callable[[float], Plan], pay: Callable[[Plan], Menu]) -> Menu:
    """The best menu that a budget allows.

    Args:
        types: of the contract.
        plan: that is best if what is paid counts one plus a multiplier.
        pay: the rewards of a plan.
    """
    contract = types.contract
    menu = pay(plan(0.0))
    if contract.budget is None:
        return menu
    most = contract.budget / contract.devices

    def spent(menu: Menu) -> float:
        return payments(contract, menu) / contract.devices

    if spent(menu) <= most:
        return menu
    if most == 0.0:
        return pay(unpaid(types))
    low, high = bracket(lambda multiplier: spent(pay(plan(multiplier))) <= most)
    richer, poorer = plan(low), plan(high)
    over, under = spent(pay(richer)), spent(pay(poorer))
    share = float(np.clip((most - under) / (over - under), 0.0, 1.0)) if over > under else 0.0
    for step in (0.0, *(2.0**-at for at in range(52, 30, -1))):
        part = share * (1.0 - step)
        mixed = Plan(*(b + part * (a - b) for a, b in zip(richer, poorer, strict=True)))
        menu = pay(mixed)
        if spent(menu) <= most:
            return menu
    return pay(poorer)


CLOSE = 1e-11
"""Multipliers this close, relative, are as good as one: what a mixture of the menus of both loses
is of second order in their distance."""


def bracket(affordable: Callable[[float], bool]) -> tuple[float, float]:
    """Two multipliers next to each other; the budget binds at one and holds at the other."""
    low, high = 0.0, 1.0
    while not affordable(high) and high < 1e300:
        low, high = high, high * 16.0
    while high - low > CLOSE * (1.0 + low):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if affordable(middle) else (middle, high)
    return low, high


def unpaid(types: Types) -> Plan:
    """All that can be had for nothing."""
    nothing = np.zeros(len(types.psi))
    free = types.contract.participation_cost == 0.0 and types.contract.quality_min == 0.0
    return Plan((types.worth(nothing) >= 0.0) * float(free), nothing)
