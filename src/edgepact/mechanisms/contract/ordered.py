r"""Types in the order of falling cost, in which the theory numbers them, and virtual costs.

In the order $\psi_1 \ge \dots \ge \psi_K$ a menu can be kept to only if $q$ rises with $k$;
the cheapest rewards are then $R_k = R_{k-1} + \psi_k (c(q_k) - c(q_{k-1}))$. Put in, they leave
$\sum_k p_k (V(q_k) - \varphi_k c(q_k))$ with the *virtual cost*
$\varphi_k = \psi_k + (\psi_k - \psi_{k+1}) \sum_{i>k} p_i / p_k$.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from edgepact.mechanisms.contract.quality import (
    Value,
    cost_of,
    quality_of,
)
from edgepact.mechanisms.contract.terms import Contract, Menu


def virtual_cost(contract: Contract) -> Float[np.ndarray, " types"]:
    """What a unit of c(q) of each type costs the principal, the others' rents included.

    A type that is cheap for itself but rare can be dear: whatever it is paid has to be left to
    all who are better. Among types of equal cost the one that delivers most bears that, or those
    that do alike together.
    """
    types = in_order(contract)
    return types.restore(types.phi)


class Plan(NamedTuple):
    """What is bought from each type, in the order of `Types`.

    Attributes:
        chance: with which a device that takes the item is engaged.
        level: of c, expected: the chance times c of the quality.
    """

    chance: Float[np.ndarray, " types"]
    level: Float[np.ndarray, " types"]


class Types(NamedTuple):
    """Types in order of falling cost, with what the theory needs of them.

    Attributes:
        order: their places in the contract.
        rent: of all better types together, a unit of c of the type; only the last of several
            of equal cost bears it.
        phi: virtual cost. Types that are alike share the rents that their last one bears.
    """

    contract: Contract
    order: Int[np.ndarray, " types"]
    psi: Float[np.ndarray, " types"]
    p: Float[np.ndarray, " types"]
    scale: Float[np.ndarray, " types"]
    rent: Float[np.ndarray, " types"]
    phi: Float[np.ndarray, " types"]

    @property
    def may_leave_out(self) -> bool:
        """Whether serving a type can cost more than it brings even at the lowest quality."""
        low = np.full(len(self.psi), self.contract.quality_min)
        free = self.contract.participation_cost == 0.0 and self.contract.quality_min == 0.0
        return not (free and bool(np.all(self.worth(low) >= 0.0)))

    def cost(self, quality: np.ndarray) -> np.ndarray:
        """c of each type's quality."""
        return np.asarray(cost_of(self.contract.cost, quality))

    def worth(self, quality: np.ndarray) -> np.ndarray:
        """What each type's quality is worth, credits."""
        return self.contract.worth(self.restore(quality))[self.order]

    def slope(self, quality: np.ndarray) -> np.ndarray:
        """By how much that rises with quality."""
        value = self.contract.value
        if isinstance(value, Value):
            return self.scale * np.asarray(value.slope(quality))
        own = zip(self.order, quality, strict=True)
        return self.scale * np.array([float(value[k].slope(np.asarray(each))) for k, each in own])

    def best(self, price: np.ndarray) -> np.ndarray:
        """Each type's best quality at a price of its own for c, within bounds."""
        value = self.contract.value
        if isinstance(value, Value):
            return self.bought(value, price / self.scale)
        ratio = price / self.scale
        own = zip(ratio, self.order, strict=True)
        return np.array([float(self.bought(value[k], np.asarray(each))) for each, k in own])

    def bought(self, value: Value, price: np.ndarray) -> np.ndarray:
        """The best quality of a value function at a price for c, within bounds."""
        with np.errstate(divide="ignore", over="ignore"):
            quality = value.best(price, self.contract.cost)
        return np.asarray(np.clip(quality, self.contract.quality_min, self.contract.quality_max))

    def restore(self, column: np.ndarray) -> np.ndarray:
        """A column in the contract's own order."""
        restored = np.empty_like(column)
        restored[self.order] = column
        return restored

    def menu(self, plan: Plan, net: np.ndarray) -> Menu:
        """The menu of a plan with what each item pays beyond taking part, expected."""
        low, high = self.contract.quality_min, self.contract.quality_max
        served = plan.chance > 0.0
        chance = np.where(served, plan.chance, 1.0)
        quality = np.clip(quality_of(self.contract.cost, plan.level / chance), low, high)
        reward = net / chance + self.contract.participation_cost
        drawn = bool(np.any(chance < 1.0))
        return Menu(
            quality=self.restore(np.where(served, quality, 0.0)),
            reward=self.restore(np.where(served, reward, 0.0)),
            served=self.restore(served),
            chance=self.restore(plan.chance) if drawn else None,
        )

    def rewarded(self, plan: Plan) -> Menu:
        """The cheapest rewards for levels that rise as costs fall."""
        # Among types of equal cost levels come in any order, and the next one envies the highest.
        rising = np.lexsort((plan.level, -self.psi))
        steps = np.diff(plan.level[rising], prepend=0.0)
        net = np.empty(len(self.psi))
        net[rising] = np.cumsum(self.psi[rising] * steps)
        return self.menu(plan, net)

    def compensated(self, plan: Plan) -> Menu:
        """What everybody bears and no more, as if costs were public."""
        return self.menu(plan, self.psi * plan.level)


def in_order(contract: Contract) -> Types:
    """The types of a contract as the theory numbers them."""
    scale = contract.value_scale
    scale = np.ones(len(contract.psi)) if scale is None else np.asarray(scale, float)
    cost = np.asarray(contract.psi, float)
    # Among equal costs, which the order of incentives leaves open, what is worth less comes
    # first: then the one that bears the rents of better types is the one that does most.
    keen = scale
    if not isinstance(contract.value, Value):
        unordered = Types(contract, np.arange(len(cost)), cost, cost, scale, cost, cost)
        keen = unordered.best(cost)
    order = np.lexsort((keen, -cost))
    psi, p = cost[order], np.asarray(contract.probability, float)[order]
    better = np.append(np.cumsum(p[::-1])[::-1][1:], 0.0)
    rent = (psi - np.append(psi[1:], psi[-1])) * better
    alike = np.cumsum((np.diff(psi, prepend=np.nan) != 0) | (np.diff(keen[order], prepend=0) != 0))
    shared, together = np.bincount(alike, rent), np.bincount(alike, p)
    phi = psi + shared[alike] / together[alike]
    return Types(contract, order, psi, p, scale[order], rent, phi)
