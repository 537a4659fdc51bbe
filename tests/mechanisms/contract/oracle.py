"""What a contract can earn, by a linear program that knows no theory.

An item is a lottery over taking no part and the qualities of a grid, and an expected payment.
Written from the definitions alone: all K(K-1) incentives and all K participations are rows, so
nothing here can share a mistake with the virtual costs of the package.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog


def program_profit(
    burden: np.ndarray,
    worth: np.ndarray,
    probability: np.ndarray,
    *,
    budget: float | None = None,
    devices: int = 1,
    public: bool = False,
) -> float:
    """The most that lotteries earn, credits over all devices.

    Args:
        burden, worth: of each quality to each type, credits, shape `types qualities`.
        probability: of each type.
        budget: most to pay, expected over all devices; None for no limit.
        devices: number of them.
        public: whether costs are, so that nobody can lie.
    """
    types, grid = burden.shape
    unit = float(np.max(np.abs(worth))) or 1.0
    burden, worth = burden / unit, worth / unit
    columns = types * grid + types
    chance = np.arange(types * grid).reshape(types, grid)
    paid = types * grid + np.arange(types)
    rows, limits = [], []
    for k in range(types):
        own = np.zeros(columns)
        own[chance[k]], own[paid[k]] = -burden[k], 1.0
        rows.append(-own)
        limits.append(0.0)
        for j in range(types):
            if j != k and not public:
                other = np.zeros(columns)
                other[chance[j]], other[paid[j]] = -burden[k], 1.0
                rows.append(other - own)
                limits.append(0.0)
        once = np.zeros(columns)
        once[chance[k]] = 1.0
        rows.append(once)
        limits.append(1.0)
    if budget is not None:
        spent = np.zeros(columns)
        spent[paid] = devices * probability
        rows.append(spent)
        limits.append(budget / unit)
    gain = np.zeros(columns)
    gain[chance] = probability[:, None] * worth
    gain[paid] = -probability
    bounds = [(0.0, None)] * (types * grid) + [(None, None)] * types
    solved = linprog(-gain, np.array(rows), np.array(limits), bounds=bounds, method="highs")
    assert solved.status == 0, solved.message
    return -float(solved.fun) * unit * devices


def tables(
    psi: np.ndarray,
    worths: list[Callable[[float], float]],
    quality: np.ndarray,
    *,
    power: int = 1,
    participation_cost: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Burdens and worths over a grid, for costs psi * q**power and a value for each type."""
    burden = np.outer(psi, quality**power) + participation_cost
    worth = np.array([[each(q) for q in quality.tolist()] for each in worths])
    return burden, worth
