r"""Contracts for devices whose costs are private: the exact optimal menu.

A principal buys quality from $N$ devices of $K$ types. A device of type $k$ bears
$\psi_k c(q)$ for quality $q$ and keeps $\psi_k$ to itself; the principal knows only how
frequent each type is, $p_k$. It offers a menu of items $(q_k, R_k)$ and every device takes
what suits it best, or nothing. In the order $\psi_1 \ge \dots \ge \psi_K$ the best menu is
found without any search (Mussa and Rosen 1978; derivation: docs/theory/contract.md):

1. A menu can be kept to only if $q$ rises with $k$; the cheapest rewards are then
   $R_k = R_{k-1} + \psi_k (c(q_k) - c(q_{k-1}))$.
2. Put in, they leave $\sum_k p_k (V(q_k) - \varphi_k c(q_k))$ with the *virtual cost*
   $\varphi_k = \psi_k + (\psi_k - \psi_{k+1}) \sum_{i>k} p_i / p_k$.
3. If $\varphi$ falls with $k$, every $q_k$ is chosen by itself. Otherwise $\varphi$ is
   *ironed*: its isotonic regression with weights $p$ takes its place. With values
   $s_k V$ that differ in scale the same holds of $\varphi_k / s_k$ with weights $p_k s_k$.
4. Whether a device is engaged at all may be drawn. What a type brings is concave in the chance
   and the cost expected together, so the budget has a multiplier and menus can be mixed.

NumPy and SciPy only, float64, so that devices and servers need no JAX for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError
from edgepact.mechanisms.contract.levels import rising_levels
from edgepact.mechanisms.contract.quality import (
    COST_FORMS,
    CostForm,
    Value,
    cost_of,
    marginal_cost,
    quality_of,
)

PROBABILITY_SLACK = 1e-6
"""How far probabilities may be from a sum of 1: files round them."""

NONE = -1
"""What `choose` gives for a device that takes no item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contract:
    """What the principal knows when it writes a menu.

    Types come in any order, equal costs included; results keep it. A probability of 0 is
    refused: a type that does not occur has no virtual cost. Leave it out.

    Attributes:
        psi: credits per unit of c(q), above 0, shape `types`.
        probability: of each type, above 0, sum 1.
        value: V, credits a device; or one for each type, in file order.
        value_scale: s_k, by which a type's work is worth more or less than V; 1 if None.
        cost: form of c.
        quality_min, quality_max: of every item.
        devices: N.
        budget: most credits to pay, expected over all N; None for no limit.
        participation_cost: credits a device bears for taking part at all.

    Raises:
        InputError: something is out of range.
    """

    psi: Float[np.ndarray, " types"]
    probability: Float[np.ndarray, " types"]
    value: Value | Sequence[Value]
    value_scale: Float[np.ndarray, " types"] | None = None
    cost: CostForm = "linear"
    quality_min: float = 0.0
    quality_max: float = 1.0
    devices: int = 1
    budget: float | None = None
    participation_cost: float = 0.0

    def __post_init__(self) -> None:
        psi = np.asarray(self.psi)
        if psi.ndim != 1 or len(psi) == 0:
            raise InputError("contract", "psi", "one or more types", f"shape {psi.shape}")
        for name in ("psi", "probability", "value_scale"):
            column = getattr(self, name)
            if column is None:
                continue
            if np.shape(column) != psi.shape:
                raise InputError("contract", name, f"{len(psi)} numbers", f"{np.shape(column)}")
            for at in np.flatnonzero(~(np.isfinite(column) & (np.asarray(column) > 0.0)))[:1]:
                raise InputError("contract", f"{name}[{at}]", "a number above 0", column[at].item())
        total = float(np.sum(self.probability))
        if abs(total - 1.0) > PROBABILITY_SLACK:
            raise InputError("contract", "probability", "numbers that add up to 1", total)
        if self.cost not in COST_FORMS:
            raise InputError("contract", "cost", f"one of {', '.join(COST_FORMS)}", self.cost)
        if not 0.0 <= self.quality_min < self.quality_max < np.inf:
            found = f"{self.quality_min:g}, {self.quality_max:g}"
            raise InputError("contract", "quality_min, quality_max", "0 <= min < max", found)
        if self.devices < 1:
            raise InputError("contract", "devices", "at least 1", self.devices)
        if self.budget is not None and not 0.0 <= self.budget < np.inf:
            raise InputError("contract", "budget", "a number of at least 0", self.budget)
        if not 0.0 <= self.participation_cost < np.inf:
            found_cost = self.participation_cost
            raise InputError("contract", "participation_cost", "at least 0", found_cost)
        if not isinstance(self.value, Value) and len(self.value) != len(psi):
            raise InputError("contract", "value", f"one, or {len(psi)}", len(self.value))

    def worth(self, quality: Float[np.ndarray, " types"]) -> Float[np.ndarray, " types"]:
        """What each type's quality is worth to the principal, credits."""
        if isinstance(self.value, Value):
            values = np.asarray(self.value.at(quality))
        else:
            values = np.array([v.at(q) for v, q in zip(self.value, quality, strict=True)])
        return values if self.value_scale is None else self.value_scale * values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Menu:
    """An item for each type, in the order of the contract's types.

    Attributes:
        quality: to deliver if engaged; 0 for a type that is left out.
        reward: credits for it if engaged; 0 likewise.
        served: whether the menu holds an item for the type.
        chance: with which a device that takes the item is engaged; whoever is not delivers
            nothing, bears nothing and is paid nothing. None if all that are served surely are.
    """

    quality: Float[np.ndarray, " types"]
    reward: Float[np.ndarray, " types"]
    served: Bool[np.ndarray, " types"]
    chance: Float[np.ndarray, " types"] | None = None

    @property
    def engaged(self) -> Float[np.ndarray, " types"]:
        """With which chance a device is, by type; 0 where there is no item."""
        sure = self.served.astype(float)
        return sure if self.chance is None else np.where(self.served, self.chance, 0.0)

    def as_json(self) -> list[dict[str, float]]:
        """The key `menu` of `edgepact solve --json`; `probability` where an item is drawn."""
        items = zip(self.quality.tolist(), self.reward.tolist(), self.engaged.tolist(), strict=True)
        return [
            {"quality": quality, "reward": reward}
            | ({"probability": chance} if 0.0 < chance < 1.0 else {})
            for quality, reward, chance in items
        ]


def rents(contract: Contract, menu: Menu) -> Float[np.ndarray, " types"]:
    """What a device of each type keeps, expected, R - psi c(q) if engaged; credits."""
    burden = contract.psi * cost_of(contract.cost, menu.quality) + contract.participation_cost
    return menu.engaged * np.where(menu.served, menu.reward - burden, 0.0)


def profit(contract: Contract, menu: Menu) -> float:
    """What the principal keeps, expected over all N devices, each taking its own item."""
    each = np.where(menu.served, contract.worth(menu.quality) - menu.reward, 0.0)
    return float(contract.devices * np.sum(contract.probability * (menu.engaged * each)))


def payments(contract: Contract, menu: Menu) -> float:
    """What the principal pays, expected over all N devices; credits."""
    paid = menu.engaged * menu.reward
    return float(contract.devices * np.sum(contract.probability * paid))


def virtual_cost(contract: Contract) -> Float[np.ndarray, " types"]:
    """What a unit of c(q) of each type costs the principal, the others' rents included.

    A type that is cheap for itself but rare can be dear: whatever it is paid has to be left to
    all who are better. Among types of equal cost the one that delivers most bears that, or those
    that do alike together.
    """
    types = in_order(contract)
    return types.restore(types.phi)


def choose(
    contract: Contract, menu: Menu, psi: Float[np.ndarray, " devices"]
) -> Int[np.ndarray, " devices"]:
    """The item that devices of given costs pick: its place in the menu, or `NONE`.

    A device that is indifferent does what the principal prefers.
    """
    burden = cost_of(contract.cost, menu.quality)
    value = contract.value if isinstance(contract.value, Value) else None
    gain = (value.at(menu.quality) if value else contract.worth(menu.quality)) - menu.reward
    chance = menu.engaged
    gain = chance * gain
    items = np.flatnonzero(menu.served)
    items = items[np.argsort(-gain[items], kind="stable")]  # the principal's favourites first
    if len(items) == 0:
        return np.full(len(psi), NONE)
    picked = np.empty(len(psi), int)
    for at, own in enumerate(psi):
        utility = menu.reward[items] - own * burden[items] - contract.participation_cost
        utility = chance[items] * utility
        slack = 1e-12 * (1.0 + np.max(np.abs(menu.reward)))
        best = np.max(utility)
        first = items[np.argmax(utility >= best - slack)]
        picked[at] = first if best >= -slack else NONE
    return picked


def complete_information(contract: Contract) -> Menu:
    """First best: costs are public, everybody gets just its cost back.

    The ceiling of every menu, of lotteries too: with a budget, who is served may be drawn here
    as well as in `optimal_menu`.
    """
    types = in_order(contract)
    return within_budget(types, lambda multiplier: _public(types, multiplier), types.compensated)


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
        return pay(_unpaid(types))
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


def _unpaid(types: Types) -> Plan:
    """All that can be had for nothing."""
    nothing = np.zeros(len(types.psi))
    free = types.contract.participation_cost == 0.0 and types.contract.quality_min == 0.0
    return Plan((types.worth(nothing) >= 0.0) * float(free), nothing)


def _public(types: Types, multiplier: float) -> Plan:
    """Each type by itself, at its own cost."""
    price = (1.0 + multiplier) * types.psi
    quality = types.best(price)
    left = types.worth(quality) - price * types.cost(quality)
    served = left >= (1.0 + multiplier) * types.contract.participation_cost
    return Plan(served.astype(float), np.where(served, types.cost(quality), 0.0))


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
        with np.errstate(divide="ignore"):
            own = types.slope(quality) / np.asarray(marginal_cost(form, quality))
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
