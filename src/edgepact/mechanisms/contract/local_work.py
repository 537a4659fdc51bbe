r"""Menus of (local work, reward): contracts whose quality comes in whole numbers.

A client of a training round does local work before it sends its update: epochs, or images in
portions of some size. A client of type $k$ bears $\psi_k c(q)$ for $q$ of it, as in `optimum`,
and a round is worth $V(q)$ to who runs it; but half an epoch is not on offer, and rounding the
qualities of `optimal_menu` loses profit and may break the budget. Here the optimum is exact over
whole numbers.

With the cheapest rewards of rising qualities, types of equal cost taken together, profit is a
sum over costs $\psi^1 > \psi^2 > \dots$ in which neighbours share only the largest quality so far:

$$\sum_g \Bigl[ \sum_{k \in g} p_k \bigl( V_k(q_k) - \psi^g c(q_k) \bigr)
  - (\psi^g - \psi^{g+1})\, c(\max_{k \in g} q_k)\, P_{>g} \Bigr],$$

with $P_{>g}$ the share of cheaper types, which are left that rent. A dynamic program over that
largest quality is exact for any value and any rising cost, leaving types out included. Under a
budget profit and payments are followed together: of two menus of the same cheapest types and
largest quality, one that pays more and earns less is dropped, and so is one that even the best
completion at the best price of money would not lift above the best menu known.

The result is a `Menu` of the contract, so `profit`, `rents`, `choose` and `audit_menu` apply.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.contract.quality import Value, cost_of
from edgepact.mechanisms.contract.terms import Contract, Menu

AMOUNTS_MAX = 1000
"""Most amounts of work on offer; the program grows with their square."""

MENUS_MAX = 1_000_000
"""Most menus followed at once under a budget."""

SLACK = 1e-12
"""Relative, by which rounding may make a sum of payments exceed the budget."""


def whole_menu(contract: Contract, *, portion: float = 1.0) -> Menu:
    """The menu that earns most, every quality a whole number of portions within bounds.

    O(K Q^2) for K types and Q amounts of work; under a budget that binds more, by how many menus
    have to be followed.

    Args:
        contract: quality is local work; its bounds, budget and cost of taking part are observed.
        portion: of work, such as 1 for epochs, or the number of images that are trained on
            together.

    Raises:
        InputError: no whole number of portions lies within the bounds, or too many do; or more
            menus than `MENUS_MAX` would have to be followed.

    Example:
        >>> from edgepact.mechanisms.contract.quality import Log1p
        >>> contract = Contract(psi=np.array([3.0, 2.0, 1.0]), quality_max=5.0,
        ...                     probability=np.array([0.3, 0.3, 0.4]), value=Log1p(scale=10.0))
        >>> menu = whole_menu(contract)
        >>> menu.quality.tolist(), menu.reward.tolist()
        ([1.0, 2.0, 5.0], [3.0, 5.0, 8.0])
    """
    work = _amounts(contract, portion)
    levels = _levels(contract, work)
    most = np.inf if contract.budget is None else contract.budget / contract.devices
    best = _Choices.of(levels, 0.0)
    if best.spent <= most * (1.0 + SLACK):
        return _menu(contract, work, levels, best.outcome)
    price, known = _price_of_money(levels, most)
    return _menu(contract, work, levels, _within(levels, most, price, known))


class _Level(NamedTuple):
    """Types of one cost, and what each outcome means; outcome 0 takes no part.

    Attributes:
        own: the types, in the contract's order.
        gain: p_k times worth, by type and outcome.
        burden: p_k times what it is paid for itself, by type and outcome.
        rent: what all cheaper types are left if this is the largest outcome so far.
    """

    own: np.ndarray
    gain: Float[np.ndarray, "own outcomes"]
    burden: Float[np.ndarray, "own outcomes"]
    rent: Float[np.ndarray, " outcomes"]


class _Choices(NamedTuple):
    """An outcome for each type of each level, what it earns and what is paid; a device."""

    outcome: list[np.ndarray]
    earned: float
    spent: float

    @staticmethod
    def of(levels: list[_Level], price: float) -> "_Choices":
        """The best at a price of money, which makes every payment dearer."""
        rest = _to_go(levels, price)
        outcome, least = [], 0
        for level, after in zip(levels, rest[1:], strict=True):
            best, total = _between(level, price)
            largest = int(np.argmax(total[least] + after))
            outcome.append(best[least, largest])
            least = largest
        earned, spent = _totals(levels, outcome)
        return _Choices(outcome, earned, spent)


def _amounts(contract: Contract, portion: float) -> Float[np.ndarray, " amounts"]:
    if not 0.0 < portion < np.inf:
        raise InputError("contract", "portion", "a finite number above 0", portion)
    first = int(np.ceil(contract.quality_min / portion * (1.0 - SLACK)))
    last = int(np.floor(contract.quality_max / portion * (1.0 + SLACK)))
    if not 0 <= last - first < AMOUNTS_MAX:
        expected = f"1 to {AMOUNTS_MAX} whole numbers of portions between them"
        found = f"{contract.quality_min:g}, {contract.quality_max:g} and portions of {portion:g}"
        raise InputError("contract", "quality_min, quality_max", expected, found)
    work = portion * np.arange(first, last + 1)
    return np.clip(work, contract.quality_min, contract.quality_max)


def _levels(contract: Contract, work: np.ndarray) -> list[_Level]:
    """From the dearest cost to the cheapest."""
    psi, p = np.asarray(contract.psi, float), np.asarray(contract.probability, float)
    costs = np.unique(psi)[::-1]
    c = np.asarray(cost_of(contract.cost, work))
    worth = _worth(contract, work)
    levels = []
    for at, cost in enumerate(costs):
        own = np.flatnonzero(psi == cost)
        better = float(np.sum(p[psi < cost]))
        drop = cost - costs[at + 1] if at + 1 < len(costs) else 0.0
        paid = p[own, None] * (cost * c + contract.participation_cost)
        levels.append(
            _Level(
                own=own,
                gain=np.hstack([np.zeros((len(own), 1)), p[own, None] * worth[own]]),
                burden=np.hstack([np.zeros((len(own), 1)), paid]),
                rent=np.append(0.0, drop * better * c),
            )
        )
    return levels


def _worth(contract: Contract, work: np.ndarray) -> Float[np.ndarray, "types amounts"]:
    count = len(contract.psi)
    if isinstance(contract.value, Value):
        table = np.broadcast_to(np.asarray(contract.value.at(work)), (count, len(work)))
    else:
        table = np.array([np.asarray(value.at(work)) for value in contract.value])
    return table if contract.value_scale is None else contract.value_scale[:, None] * table


def _between(level: _Level, price: float) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of each type, and their total, if none is below one outcome or above another.

    Shapes `least largest own` and `least largest`; a total of minus infinity where least exceeds
    largest.
    """
    net = level.gain - (1.0 + price) * level.burden
    size = net.shape[1]
    at = np.arange(size)
    best = np.zeros((size, size, len(net)), int)
    for least in range(size):
        # Of equal ones the first, which is the one that is paid less.
        running = np.maximum.accumulate(net[:, least:], axis=1)
        rises = np.concatenate([np.ones((len(net), 1), bool), running[:, 1:] > running[:, :-1]], 1)
        where = np.maximum.accumulate(np.where(rises, at[least:], 0), axis=1)
        best[least, least:] = where.T
    total = np.sum(net[np.arange(len(net)), best], axis=2) - (1.0 + price) * level.rent
    return best, np.where(at[:, None] <= at, total, -np.inf)


def _to_go(levels: list[_Level], price: float) -> list[Float[np.ndarray, " outcomes"]]:
    """What the levels from each on bring at most, by the largest outcome before them."""
    rest = [np.zeros(len(levels[0].rent))]
    for level in reversed(levels):
        rest.append(np.max(_between(level, price)[1] + rest[-1], axis=1))
    return rest[::-1]


def _totals(levels: list[_Level], outcome: list[np.ndarray]) -> tuple[float, float]:
    """What a menu earns and pays, a device."""
    gained = spent = 0.0
    least = 0
    for level, own in zip(levels, outcome, strict=True):
        rows = np.arange(len(own))
        least = max(least, int(np.max(own)))
        gained += float(np.sum(level.gain[rows, own]))
        spent += float(np.sum(level.burden[rows, own]) + level.rent[least])
    return gained - spent, spent


def _price_of_money(levels: list[_Level], most: float) -> tuple[float, _Choices]:
    """A price at which the best menu is just within the budget, and that menu."""
    low, high = 0.0, 1.0
    while _Choices.of(levels, high).spent > most and high < 1e12:
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = 0.5 * (low + high)
        within = _Choices.of(levels, middle).spent <= most
        low, high = (low, middle) if within else (middle, high)
    found = _Choices.of(levels, high)
    if found.spent <= most:
        return high, found
    nothing = [np.zeros(len(level.own), int) for level in levels]
    return high, _Choices(nothing, 0.0, 0.0)


def _within(levels: list[_Level], most: float, price: float, known: _Choices) -> list[np.ndarray]:
    """The best outcomes that a budget allows, by following all menus that may still be it."""
    limit = most * (1.0 + SLACK)
    dear, free = _to_go(levels, price), _to_go(levels, 0.0)
    # Type by type; a menu is its largest outcome, the least that its level allows, earned, spent.
    states = np.zeros((1, 4))
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for level, rest, rest_free in zip(levels, dear[1:], free[1:], strict=True):
        size = len(level.rent)
        outcomes = np.arange(size)
        states[:, 1] = states[:, 0]
        for number in range(len(level.own)):
            tried = np.repeat(states, size, axis=0)
            chosen = np.tile(outcomes, len(states))
            parent = np.repeat(np.arange(len(states)), size)
            allowed = chosen >= tried[:, 1]
            tried, chosen, parent = tried[allowed], chosen[allowed], parent[allowed]
            paid = level.burden[number, chosen]
            tried[:, 2] += level.gain[number, chosen] - paid
            tried[:, 3] += paid
            tried[:, 0] = np.maximum(tried[:, 0], chosen)
            if number == len(level.own) - 1:
                rent = level.rent[tried[:, 0].astype(int)]
                tried[:, 2] -= rent
                tried[:, 3] += rent
                # What the rest may bring, were money to cost so much, and within what is left.
                at = tried[:, 0].astype(int)
                bound = tried[:, 2] + np.minimum(
                    rest_free[at], rest[at] + price * (limit - tried[:, 3])
                )
                hopeful = bound >= known.earned - SLACK * abs(known.earned)
                keep = np.flatnonzero(hopeful & (tried[:, 3] <= limit))
            else:
                keep = np.flatnonzero(tried[:, 3] <= limit)
            keep = keep[_undominated(tried[keep])]
            if len(keep) > MENUS_MAX:
                expected = f"a contract with at most {MENUS_MAX} menus to follow"
                raise InputError("contract", "budget", expected, len(keep))
            states = tried[keep]
            history.append((parent[keep], chosen[keep]))
    if len(states) == 0 or float(np.max(states[:, 2])) < known.earned:
        return known.outcome
    place, chosen_by_type = int(np.argmax(states[:, 2])), []
    for parents, outcome in reversed(history):
        chosen_by_type.append(int(outcome[place]))
        place = int(parents[place])
    flat = iter(chosen_by_type[::-1])
    return [np.array([next(flat) for _ in level.own]) for level in levels]


def _undominated(states: np.ndarray) -> np.ndarray:
    """Menus than which none with the same outcomes earns as much and pays less."""
    order = np.lexsort((-states[:, 2], states[:, 3], states[:, 1], states[:, 0]))
    kept, last, best = [], None, -np.inf
    for at in order.tolist():
        kind = (states[at, 0], states[at, 1])
        if kind != last:
            last, best = kind, -np.inf
        if states[at, 2] > best:
            best = states[at, 2]
            kept.append(at)
    return np.array(kept, int)


def _menu(
    contract: Contract, work: np.ndarray, levels: list[_Level], outcome: list[np.ndarray]
) -> Menu:
    """The cheapest rewards: each step up is paid at the cost of those who take it first."""
    count = len(contract.psi)
    quality, reward, served = np.zeros(count), np.zeros(count), np.zeros(count, bool)
    cost = np.append(0.0, np.asarray(cost_of(contract.cost, work)))
    amount, before, paid = np.append(0.0, work), 0.0, 0.0
    for level, own in zip(levels, outcome, strict=True):
        takes = own > 0
        psi = float(contract.psi[level.own[0]])
        types = level.own[takes]
        quality[types] = amount[own[takes]]
        reward[types] = paid + psi * (cost[own[takes]] - before) + contract.participation_cost
        served[types] = True
        largest = float(cost[int(np.max(own))])
        if largest > before:
            paid, before = paid + psi * (largest - before), largest
    return Menu(quality=quality, reward=reward, served=served)
