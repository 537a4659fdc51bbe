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

NumPy and SciPy only, float64, so that devices and servers need no JAX for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression

from edgepact.errors import InputError
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
        quality: to deliver; 0 for a type that is left out.
        reward: credits for it; 0 likewise.
        served: whether the menu holds an item for the type.
    """

    quality: Float[np.ndarray, " types"]
    reward: Float[np.ndarray, " types"]
    served: Bool[np.ndarray, " types"]


def rents(contract: Contract, menu: Menu) -> Float[np.ndarray, " types"]:
    """What a device of each type keeps, R - psi c(q), taking the item meant for it; credits."""
    burden = contract.psi * cost_of(contract.cost, menu.quality) + contract.participation_cost
    return np.where(menu.served, menu.reward - burden, 0.0)


def profit(contract: Contract, menu: Menu) -> float:
    """What the principal keeps, expected over all N devices, each taking its own item."""
    each = np.where(menu.served, contract.worth(menu.quality) - menu.reward, 0.0)
    return float(contract.devices * np.sum(contract.probability * each))


def payments(contract: Contract, menu: Menu) -> float:
    """What the principal pays, expected over all N devices; credits."""
    return float(contract.devices * np.sum(contract.probability * menu.reward))


def virtual_cost(contract: Contract) -> Float[np.ndarray, " types"]:
    """What a unit of c(q) of each type costs the principal, the others' rents included.

    A type that is cheap for itself but rare can be dear: whatever it is paid has to be left to
    all who are better. Among types of equal cost only the last in order bears that.
    """
    types = _in_order(contract)
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
    items = np.flatnonzero(menu.served)
    items = items[np.argsort(-gain[items], kind="stable")]  # the principal's favourites first
    if len(items) == 0:
        return np.full(len(psi), NONE)
    picked = np.empty(len(psi), int)
    for at, own in enumerate(psi):
        utility = menu.reward[items] - own * burden[items] - contract.participation_cost
        slack = 1e-12 * (1.0 + np.max(np.abs(menu.reward)))
        best = np.max(utility)
        first = items[np.argmax(utility >= best - slack)]
        picked[at] = first if best >= -slack else NONE
    return picked


def complete_information(contract: Contract) -> Menu:
    """First best: costs are public, everybody gets just its cost back.

    A type is served if that brings anything. Where a budget binds and serving has a fixed cost,
    serving whole types only may leave a little of the budget unspent.
    """
    types = _in_order(contract)
    fixed = contract.participation_cost

    def at(multiplier: float) -> tuple[np.ndarray, np.ndarray]:
        price = (1.0 + multiplier) * types.psi
        quality = types.best(price)
        surplus = types.worth(quality) - price * types.cost(quality) - (1.0 + multiplier) * fixed
        return quality, surplus >= 0.0

    def spent(quality: np.ndarray, served: np.ndarray) -> float:
        reward = types.psi * types.cost(quality) + fixed
        return float(np.sum(types.p * np.where(served, reward, 0.0)))

    quality, served = at(0.0)
    limit = contract.budget
    if limit is not None and contract.devices * spent(quality, served) > limit:
        most = limit / contract.devices
        low, high = _bracket(lambda multiplier: spent(*at(multiplier)) <= most)
        (richer, _), (quality, served) = at(low), at(high)
        quality = _mixed(types, richer, quality, lambda q: spent(q, served), most)
    reward = types.psi * types.cost(quality) + fixed
    return types.menu(np.where(served, quality, 0.0), np.where(served, reward, 0.0), served)


def optimal_menu(contract: Contract) -> Menu:
    """The menu that earns most if every device picks what suits it best.

    Exact: the ironed virtual costs give the qualities, the recursion gives the rewards. With a
    budget, the virtual costs are scaled by one plus a multiplier found by bisection; where
    spending jumps over the budget, the two menus on either side of the jump are both optimal
    for the multiplier, and so is every mixture of their costs, one of which spends exactly the
    budget. Types may be left out, dearest first, where taking part costs something even at the
    lowest quality; then every cutoff is weighed. O(K log K), with K sets of bisections at
    worst when there are both a budget and a cutoff.
    """
    types = _in_order(contract)
    if contract.budget is None:
        start = int(np.argmax(_totals(types, 0.0))) if types.may_leave_out else 0
        return types.rewarded(start, _ironed(types, start, 0.0))
    return _best_within(types, contract.budget / contract.devices)


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
    types = _in_order(contract)
    quality = np.maximum.accumulate(types.best(price[types.order]))
    return types.rewarded(0, quality)


class _Types(NamedTuple):
    """Types in order of falling cost, with what the theory needs of them."""

    contract: Contract
    order: Int[np.ndarray, " types"]
    psi: Float[np.ndarray, " types"]
    p: Float[np.ndarray, " types"]
    scale: Float[np.ndarray, " types"]
    phi: Float[np.ndarray, " types"]

    @property
    def may_leave_out(self) -> bool:
        """Whether serving a type can cost more than it brings even at the lowest quality."""
        low = np.full(len(self.psi), self.contract.quality_min)
        free = self.contract.participation_cost == 0.0 and self.contract.quality_min == 0.0
        return not (free and bool(np.all(self.worth(low) >= 0.0)))

    def cost(self, quality: np.ndarray) -> np.ndarray:
        return np.asarray(cost_of(self.contract.cost, quality))

    def worth(self, quality: np.ndarray) -> np.ndarray:
        return self.contract.worth(self.restore(quality))[self.order]

    def best(self, price: np.ndarray) -> np.ndarray:
        """Each type's best quality at a price of its own for c, within bounds."""
        value, form = self.contract.value, self.contract.cost
        with np.errstate(divide="ignore", over="ignore"):
            if isinstance(value, Value):
                quality = value.best(price / self.scale, form)
            else:
                own = zip(price / self.scale, self.order, strict=True)
                quality = np.array([value[k].best(np.asarray(each), form) for each, k in own])
        return np.clip(quality, self.contract.quality_min, self.contract.quality_max)

    def restore(self, column: np.ndarray) -> np.ndarray:
        """A column in the contract's own order."""
        restored = np.empty_like(column)
        restored[self.order] = column
        return restored

    def menu(self, quality: np.ndarray, reward: np.ndarray, served: np.ndarray) -> Menu:
        return Menu(
            quality=self.restore(quality),
            reward=self.restore(reward),
            served=self.restore(served),
        )

    def rewarded(self, start: int, quality: np.ndarray) -> Menu:
        """The cheapest rewards for rising qualities of the types from `start` on."""
        reward = np.zeros(len(self.psi))
        steps = np.diff(self.cost(quality[start:]), prepend=0.0)
        reward[start:] = np.cumsum(self.psi[start:] * steps) + self.contract.participation_cost
        served = np.arange(len(self.psi)) >= start
        return self.menu(np.where(served, quality, 0.0), reward, served)


def _in_order(contract: Contract) -> _Types:
    scale = contract.value_scale
    scale = np.ones(len(contract.psi)) if scale is None else np.asarray(scale, float)
    # Among equal costs, which the order of incentives leaves open, what is worth less comes
    # first: then the one that bears the rents of better types is the one that does most.
    order = np.lexsort((scale, -np.asarray(contract.psi)))
    psi, p = np.asarray(contract.psi, float)[order], np.asarray(contract.probability, float)[order]
    better = np.append(np.cumsum(p[::-1])[::-1][1:], 0.0)
    drop = psi - np.append(psi[1:], psi[-1])
    return _Types(contract, order, psi, p, scale[order], psi + drop * better / p)


def _ironed(types: _Types, start: int, multiplier: float) -> np.ndarray:
    """Optimal qualities of the types from `start` on, at a multiplier of the budget."""
    if not isinstance(types.contract.value, Value):
        return _pooled(types, start, multiplier)
    served = slice(start, None)
    ratio, weight = (types.phi / types.scale)[served], (types.p * types.scale)[served]
    price = np.array(types.phi)
    ironed = isotonic_regression(ratio, weights=weight, increasing=False).x
    price[served] = ironed * types.scale[served]
    return types.best((1.0 + multiplier) * price)


def _pooled(types: _Types, start: int, multiplier: float) -> np.ndarray:
    """Generalised pooling of adjacent violators: for values of different forms.

    A block of types that share one quality maximises the sum of its concave objectives; blocks
    in the wrong order are joined (Best, Chakravarti and Ubhaya 2000).
    """
    charge = (1.0 + multiplier) * types.p * types.phi
    blocks: list[tuple[int, float]] = []  # first type, quality
    for at in range(start, len(types.psi)):
        first, quality = at, _best_shared(types, charge, at, at + 1)
        while blocks and blocks[-1][1] >= quality:
            first = blocks.pop()[0]
            quality = _best_shared(types, charge, first, at + 1)
        blocks.append((first, quality))
    qualities = np.zeros(len(types.psi))
    for first, shared in blocks:
        qualities[first:] = shared
    return qualities


BISECTIONS = 200
"""Halvings; an interval of floats is exhausted before."""


def _best_shared(types: _Types, charge: np.ndarray, first: int, last: int) -> float:
    """The quality that is best for the types of a block together."""
    contract = types.contract
    assert not isinstance(contract.value, Value)
    weight = types.p[first:last] * types.scale[first:last]
    values = [contract.value[k] for k in types.order[first:last]]
    total = float(np.sum(charge[first:last]))

    def rises(quality: float) -> bool:
        at = np.asarray(quality)
        slope = sum(w * float(v.slope(at)) for w, v in zip(weight, values, strict=True))
        return bool(slope >= total * float(marginal_cost(contract.cost, at)))

    low, high = contract.quality_min, contract.quality_max
    if not rises(low):
        return low
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if rises(middle) else (low, middle)
    return high


def _totals(types: _Types, multiplier: float) -> Float[np.ndarray, " cutoffs"]:
    """Profit a device by cutoff: entry m serves types m, m+1, ...; the last serves nobody.

    Pooling from the cheapest type on gives the ironed blocks of every suffix on the way, so
    all K problems cost one pass and one call for the best qualities of all blocks ever formed.
    """
    size = len(types.psi)
    price = 1.0 + multiplier
    fixed = price * types.contract.participation_cost * np.append(np.cumsum(types.p[::-1])[::-1], 0)
    if not isinstance(types.contract.value, Value):
        return np.array([_total(types, m, multiplier) for m in range(size)] + [0.0])
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
    bounds = types.contract.quality_min, types.contract.quality_max
    with np.errstate(divide="ignore", over="ignore"):
        best = types.contract.value.best(price * charges / weights, types.contract.cost)
    quality = np.clip(best, *bounds)
    gain = weights * types.contract.value.at(quality) - price * charges * types.cost(quality)
    for at, (_, _, beneath) in enumerate(formed):
        if beneath >= 0:
            gain[at] += gain[beneath]
    return np.append(gain[tops][::-1], 0.0) - fixed


def _total(types: _Types, start: int, multiplier: float) -> float:
    """Profit a device of one cutoff, what is paid weighed by one plus the multiplier."""
    quality = _ironed(types, start, multiplier)
    served = slice(start, None)
    paid = types.phi * types.cost(quality) + types.contract.participation_cost
    gain = types.p * (types.worth(quality) - (1.0 + multiplier) * paid)
    return float(np.sum(gain[served]))


def _best_within(types: _Types, most: float) -> Menu:
    """The best menu that pays at most so much a device, over all cutoffs.

    The Lagrangian at any multiplier bounds every cutoff's profit from above, so a cutoff is
    solved only while its bound beats the best menu found.
    """
    cutoffs = len(types.psi) + 1
    if not types.may_leave_out:
        affordable = _affordable(types, 0, most)
        assert affordable is not None  # the lowest quality is free
        return affordable[0]
    bound = _totals(types, 0.0)
    best, found = types.rewarded(cutoffs - 1, np.zeros(cutoffs - 1)), 0.0
    for _ in range(cutoffs):
        start = int(np.argmax(bound))
        if bound[start] <= found:
            break
        affordable = _affordable(types, start, most)
        bound[start] = -np.inf
        if affordable is None:
            continue
        menu, multiplier = affordable
        earned = profit(types.contract, menu) / types.contract.devices
        if earned > found:
            best, found = menu, earned
        bound = np.minimum(bound, _totals(types, multiplier) + multiplier * most)
    return best


def _affordable(types: _Types, start: int, most: float) -> tuple[Menu, float] | None:
    """The best menu of one cutoff that pays at most so much a device, and the multiplier.

    None if not even the lowest quality can be paid.
    """
    contract = types.contract

    def spent(quality: np.ndarray) -> float:
        menu = types.rewarded(start, quality)
        return payments(contract, menu) / contract.devices

    quality = _ironed(types, start, 0.0)
    if spent(quality) <= most:
        return types.rewarded(start, quality), 0.0
    if spent(np.full(len(types.psi), contract.quality_min)) > most:
        return None
    low, high = _bracket(lambda multiplier: spent(_ironed(types, start, multiplier)) <= most)
    richer, poorer = _ironed(types, start, low), _ironed(types, start, high)
    if spent(poorer) > most:  # nothing but the lowest quality is affordable
        poorer = np.full(len(types.psi), contract.quality_min)
    return types.rewarded(start, _mixed(types, richer, poorer, spent, most)), high


def _bracket(affordable: Callable[[float], bool]) -> tuple[float, float]:
    """Two neighbouring multipliers; the budget binds at the first and holds at the second."""
    low, high = 0.0, 1.0
    while not affordable(high) and high < 1e300:
        low, high = high, high * 16.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (low, middle) if affordable(middle) else (middle, high)
    return low, high


def _mixed(
    types: _Types,
    richer: np.ndarray,
    poorer: np.ndarray,
    spent: Callable[[np.ndarray], float],
    most: float,
) -> np.ndarray:
    """The mixture of two menus' costs that spends the budget and not a bit more."""
    above, below = types.cost(richer), types.cost(poorer)
    over, under = spent(richer), spent(poorer)
    share = float(np.clip((most - under) / (over - under), 0.0, 1.0)) if over > under else 0.0
    low, high = types.contract.quality_min, types.contract.quality_max
    for step in (0.0, *(2.0**-at for at in range(52, 30, -1))):
        cost = below + share * (1.0 - step) * (above - below)
        quality = np.clip(quality_of(types.contract.cost, cost), low, high)
        if spent(quality) <= most:
            return quality
    return poorer
