"""A menu of local work from one of any qualities: epochs are whole.

The exact optimum over whole epochs is `mechanisms.contract.local_work`; this rounds what a solver
wrote that knows nothing of them.
"""

from dataclasses import replace

import numpy as np

from edgepact.mechanisms.contract.ordered import Plan, in_order
from edgepact.mechanisms.contract.terms import Contract, Menu


def rounded_menu(contract: Contract, menu: Menu) -> Menu:
    """Each quality at the nearest whole number within bounds, paid as cheaply as can be.

    Rounding keeps the order of qualities, so that nobody gains by a lie. What rounds to nothing
    is left out.
    """
    types = in_order(contract)
    least, most = np.ceil(contract.quality_min), np.floor(contract.quality_max)
    nearest = np.clip(np.rint(menu.quality), least, most)
    quality = np.where(menu.served, nearest, 0.0)[types.order]
    plan = Plan((quality > 0.0).astype(float), np.asarray(types.cost(quality), float))
    paid = types.rewarded(plan)
    # As they are, and not as c and its inverse leave them.
    return replace(paid, quality=types.restore(quality), chance=None)
