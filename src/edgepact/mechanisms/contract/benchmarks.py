"""What menus are held against that nobody could offer: the first best, with costs public."""

import numpy as np

from edgepact.mechanisms.contract.budget import within_budget
from edgepact.mechanisms.contract.ordered import Plan, Types, in_order
from edgepact.mechanisms.contract.terms import Contract, Menu


def complete_information(contract: Contract) -> Menu:
    """First best: costs are public, everybody gets just its cost back.

    The ceiling of every menu, of lotteries too: with a budget, who is served may be drawn here
    as well as in `optimal_menu`.
    """
    types = in_order(contract)
    return within_budget(types, lambda multiplier: _public(types, multiplier), types.compensated)


def _public(types: Types, multiplier: float) -> Plan:
    """Each type by itself, at its own cost."""
    price = (1.0 + multiplier) * types.psi
    quality = types.best(price)
    left = types.worth(quality) - price * types.cost(quality)
    served = left >= (1.0 + multiplier) * types.contract.participation_cost
    return Plan(served.astype(float), np.where(served, types.cost(quality), 0.0))
