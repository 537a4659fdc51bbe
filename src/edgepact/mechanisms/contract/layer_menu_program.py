r"""The best menu of (layers, reward) for sampled types: an exact finite program.

With $x_{mL}$ saying that type $m$ takes $L$ layers and $u_m$ for what it keeps, the server earns

$$\sum_m w_m \Bigl( \sum_L (b_m L - c_m(L))\, x_{mL} - u_m \Bigr),$$

and nobody wants another's item if

$$u_m \ge 0, \qquad u_m \ge u_{m'} + \sum_L \bigl( c_{m'}(L) - c_m(L) \bigr) x_{m'L}
\quad\text{for all } m \ne m'.$$

Chances $x$ make it the linear program of the best *lotteries*; whole $x$ the best *menu*, without
any large constant, so that the first bounds the second closely. HiGHS solves both. Which types
take what decides the rewards: the cheapest are the longest paths over "an item must pay its
takers as much more as they bear more", so rewards are never taken from the solver's floats.

Where types have a common order, each bearing less for every layer than those after it, layers
separate and a pass over layers and types is exact for any number of them. Elsewhere a climb over
rewards, exact in each of them and in each step between two, starts from the best posted price
and ends within about a percent; it is what remains if the time limit strikes.

NumPy and SciPy only, float64.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from edgepact.errors import InputError
from edgepact.mechanisms.contract.layer_menus import (
    TINY,
    LayerMenu,
    SampledTypes,
    Taken,
    play_menu,
    take_items,
)

TYPES_MAX = 64
"""Most types without a common order; incentives grow with their square. With 12 layers a dozen
types are proved optimal in .1 to .3 CPU seconds and 16 in .2 to .5; of 20 to 30 some take longer
than the limit below, and 64 are left within some percent of the bound."""

CELLS_MAX = 4_000_000
"""Most types times items."""

TIME_LIMIT_S = 2.0
"""Seconds for the search, unless told otherwise."""

ROUNDS = 40
"""Most rounds of the climb over all rewards; it ends when one brings nothing."""

RISE = 1e-12
"""Least share of what all layers save that counts as better."""


def optimal_layer_menu(
    types: SampledTypes, *, budget: float | None = None, time_limit_s: float = TIME_LIMIT_S
) -> LayerMenu:
    """The menu that earns most if every type takes what it likes best.

    Proved optimal where `LayerMenu.proved` says so; if the time limit struck, the best menu found
    and a bound. Types that are equal in cost and saving choose alike, so that they may be stated
    once or several times; types of weight 0 change nothing.

    Args:
        types: for which it is written, at most `TYPES_MAX` distinct ones of weight above 0,
            unless they have a common order and there is no budget.
        budget: most credits to pay, summed over types by weight; None for no limit.
        time_limit_s: handed to the search, seconds; what comes before takes some 0.1 s.

    Raises:
        InputError: the budget is impossible, or there are too many types.
    """
    _check_budget(budget)
    group = _Group.of(types)
    own = group.types
    if own.cost.size > CELLS_MAX:
        raise InputError("menu", "types", f"at most {CELLS_MAX} types times items", own.cost.size)
    order = _common_order(own) if budget is None else None
    small = len(own.weight) <= TYPES_MAX
    if order is None and not small:
        expected = f"at most {TYPES_MAX} types without a common order, or `climbed_menu`"
        raise InputError("menu", "types", expected, len(own.weight))
    posted = _posted(own, budget)
    first_best = first_best_profit(own, budget=budget)
    found, bound, lottery = _Found.of(own, posted, budget), first_best, None
    if not first_best > 0.0:
        return _menu(types, group, _Found.of(own, _nothing(own), None), 0.0, 0.0, posted, 0.0)
    if small:
        chance, lottery = _lotteries(own, budget)
        bound = min(bound, lottery)
    if order is not None:
        found = _Found.of(own, _ordered(own, order), budget)
        bound = found.profit
    elif small:
        starts = [posted, cheapest_rewards(own, np.argmax(chance, axis=1))]
        for start in starts:
            if start is not None:
                found = found.better(_climb(own, start, budget))
        searched, proved_bound = _searched(own, budget, time_limit_s)
        bound = min(bound, proved_bound)
        if searched is not None:
            found = found.better(searched)
    return _menu(types, group, found, bound, lottery, posted, first_best)


def climbed_menu(types: SampledTypes, *, budget: float | None = None) -> LayerMenu:
    """A good menu for any number of types, without a proof: the climb alone.

    Raises:
        InputError: the budget is impossible, or there are too many types.
    """
    _check_budget(budget)
    if types.cost.size > CELLS_MAX:
        raise InputError("menu", "types", f"at most {CELLS_MAX} types times items", types.cost.size)
    group = _Group.of(types)
    posted = _posted(group.types, budget)
    first_best = first_best_profit(group.types, budget=budget)
    found = _climb(group.types, posted, budget)
    return _menu(types, group, found, first_best, None, posted, first_best)


def posted_price_menu(
    types: SampledTypes, *, budget: float | None = None
) -> Float[np.ndarray, " items"]:
    """Rewards of the best single price a layer, R(L) = P L; exact, O(n log n) in types x layers.

    Raises:
        InputError: the budget is impossible.
    """
    _check_budget(budget)
    return _posted(types, budget)


def lottery_profit(types: SampledTypes, *, budget: float | None = None) -> float:
    """What the best menu of lotteries over layers earns, expected; credits.

    A device that draws more layers than it can run, or would run for anything, gets off with a
    forfeit: as much as an item of so many layers could ever pay. Without that rule there is no
    best lottery, since ever smaller chances of ever sharper threats would deter as well.

    Raises:
        InputError: the budget is impossible, or there are too many types.
    """
    _check_budget(budget)
    own = _Group.of(types).types
    if not first_best_profit(own, budget=budget) > 0.0:
        return 0.0
    if len(own.weight) > TYPES_MAX:
        raise InputError("menu", "types", f"at most {TYPES_MAX} types", len(own.weight))
    return _lotteries(own, budget)[1]


def first_best_profit(types: SampledTypes, *, budget: float | None = None) -> float:
    """What the server could keep if it knew the types, each paid just its cost; a true ceiling.

    With a budget it is the least that a price of money makes of it: what mixing two choices in
    one type could reach, so never below any menu or lottery.
    """
    layers = np.arange(types.layers_max + 1)
    worth = np.outer(types.saving, layers)
    finite = np.where(np.isfinite(types.cost), types.cost, 0.0)

    def ceiling(price: float) -> tuple[float, float]:
        surplus = np.where(np.isfinite(types.cost), worth - (1.0 + price) * finite, -np.inf)
        best = np.argmax(surplus, axis=1)
        rows = np.arange(len(best))
        spent = float(types.weight @ finite[rows, best])
        total = float(types.weight @ surplus[rows, best])
        return total + price * (budget or 0.0), spent

    least, spent = ceiling(0.0)
    if budget is None or spent <= budget:
        return least
    # Convex in the price of money, and any price gives a ceiling: bisection on its slope.
    low, high = 0.0, 1.0
    while ceiling(high)[1] > budget and high < 1e12:
        low, high = high, 2.0 * high
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if ceiling(middle)[1] > budget else (low, middle)
    return min(least, ceiling(low)[0], ceiling(high)[0])


def cheapest_rewards(
    types: SampledTypes, layers: Int[np.ndarray, " types"]
) -> Float[np.ndarray, " items"] | None:
    """The least rewards with which every type takes the layers meant for it; None if none do.

    Rewards obey R(L) - R(K) >= c_m(L) - c_m(K) for all m meant to take L, and R(0) = 0. Their
    least solution is a longest path from the empty item, and every R(L) a sum of at most
    `layers_max` differences of costs: so finitely many rewards have to be considered at all.
    """
    used = np.unique(np.append(layers, 0))
    step = np.full((len(used), len(used)), -np.inf)
    for at, own in enumerate(used):
        takers = types.cost[layers == own]
        if len(takers):
            if np.any(np.isinf(takers[:, own])):
                return None
            # An item that a taker cannot run is none that it would rather have.
            step[at] = np.max(takers[:, [own]] - takers[:, used], axis=0)
    reward = np.where(used == 0, 0.0, -np.inf)
    for _ in range(len(used)):
        raised = np.maximum(reward, np.max(step + reward, axis=1))
        if np.array_equal(raised, reward):
            break
        reward = raised
    slack = 1e-6 * max(float(np.max(np.abs(reward))), TINY)
    if reward[0] > slack or np.any(np.max(step + reward, axis=1) > reward + slack):
        return None
    full = np.full(types.layers_max + 1, -np.inf)
    full[used] = reward
    full[0] = 0.0
    return full


class _Group(NamedTuple):
    """Types that differ and occur, and which of them each of the caller's types is; -1 for none."""

    types: SampledTypes
    which: Int[np.ndarray, " all_types"]

    @staticmethod
    def of(types: SampledTypes) -> "_Group":
        occurs = types.weight > 0.0
        rows = np.column_stack([types.cost, types.saving])[occurs]
        distinct, index = np.unique(rows, axis=0, return_inverse=True)
        which = np.full(len(types.weight), -1)
        which[occurs] = np.ravel(index)
        weight = np.bincount(which[occurs], weights=types.weight[occurs])
        own = SampledTypes(cost=distinct[:, :-1], saving=distinct[:, -1], weight=weight)
        return _Group(own, which)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """A menu, what each type takes of it, and what that earns; minus infinity over the budget."""

    reward: Float[np.ndarray, " items"]
    layers: Int[np.ndarray, " types"]
    profit: float

    @staticmethod
    def of(types: SampledTypes, reward: np.ndarray, budget: float | None) -> "_Found":
        """Of items that it likes equally, each type takes what the server gains most by."""
        return _Found._taken(play_menu(reward, types), reward, budget)

    @staticmethod
    def meant(
        types: SampledTypes, reward: np.ndarray, layers: np.ndarray, budget: float | None
    ) -> "_Found":
        """Of such items it takes the one meant for it: with a budget, perhaps a cheaper one."""
        return _Found._taken(take_items(reward, types, layers), reward, budget)

    @staticmethod
    def _taken(taken: Taken, reward: np.ndarray, budget: float | None) -> "_Found":
        # Items that nobody takes are taken off, so that others find only what was weighed.
        kept = np.isin(np.arange(len(reward)), np.append(taken.layers, 0))
        within = budget is None or taken.paid <= budget * (1.0 + 1e-12)
        return _Found(
            reward=np.where(kept, reward, -np.inf),
            layers=taken.layers,
            profit=taken.profit if within else -np.inf,
        )

    def better(self, other: "_Found") -> "_Found":
        return other if other.profit > self.profit else self


def _menu(
    types: SampledTypes,
    group: _Group,
    found: _Found,
    bound: float,
    lottery: float | None,
    posted: np.ndarray,
    first_best: float,
) -> LayerMenu:
    free = play_menu(found.reward, types).layers
    layers = np.where(group.which >= 0, found.layers[group.which], free)
    taken = take_items(found.reward, types, layers)
    return LayerMenu(
        reward=found.reward,
        layers=layers,
        profit=taken.profit,
        payments=taken.paid,
        upper_bound=max(bound, taken.profit),
        lottery_profit=lottery,
        posted_profit=play_menu(posted, group.types).profit,
        first_best_profit=first_best,
    )


def _posted(types: SampledTypes, budget: float | None) -> np.ndarray:
    """Prices worth trying are the slopes of the costs' lower hulls, where devices add layers."""
    price, steps, saving = [], [], []
    for cost, b, weight in zip(types.cost, types.saving, types.weight, strict=True):
        at, most = 0, int(np.sum(np.isfinite(cost))) - 1
        while at < most:
            ahead = np.arange(at + 1, most + 1)
            slope = (cost[ahead] - cost[at]) / (ahead - at)
            nearest = float(np.min(slope))
            to = int(ahead[np.flatnonzero(slope <= nearest)[-1]])
            price.append(nearest)
            steps.append(weight * (to - at))
            saving.append(weight * (to - at) * b)
            at = to
    layers = np.arange(types.layers_max + 1.0)
    if not price:
        return 0.0 * layers
    order = np.argsort(price, kind="stable")
    ranked = np.asarray(price)[order]
    bought, saved = np.cumsum(np.asarray(steps)[order]), np.cumsum(np.asarray(saving)[order])
    # Whoever joins at one price joins together: its last step counts.
    last = np.append(ranked[1:] > ranked[:-1], True)
    profit = np.where(last, saved - ranked * bought, -np.inf)
    if budget is not None:
        profit = np.where(ranked * bought <= budget, profit, -np.inf)
    best = int(np.argmax(profit))
    if not profit[best] > 0.0:
        return np.where(layers == 0, 0.0, -np.inf)
    # Half a rounding error more than a multiple of the price would be less than its last taker
    # bears; `play_menu` forgives that.
    return ranked[best] * layers


def _common_order(types: SampledTypes) -> Int[np.ndarray, " types"] | None:
    """Types so that each bears at most as much for any layer as the next; None if there is none.

    Of types that bear the same for a layer the server wants those first that save it most. Where
    other layers order them the other way round, those who run a layer need not be the first of
    any order, and there is none.
    """
    each = _layer_costs(types)
    order = np.lexsort((-types.saving, *each.T[::-1]))
    one, other = each[order][:-1], each[order][1:]
    tied = (one == other) & np.isfinite(one)
    wanted = np.diff(types.saving[order]) <= 0.0
    return order if bool(np.all(other >= one) and np.all(~tied | wanted[:, None])) else None


def _layer_costs(types: SampledTypes) -> Float[np.ndarray, "types layers"]:
    """What each layer adds; infinity from the first one that cannot be run."""
    with np.errstate(invalid="ignore"):
        each = np.diff(types.cost, axis=1)
    return np.where(np.isfinite(types.cost[:, 1:]), each, np.inf)


def _ordered(types: SampledTypes, order: Int[np.ndarray, " types"]) -> np.ndarray:
    """Rewards of the optimum for a common order: how many types run each layer, fewer the deeper.

    If the first j types run layer l, it adds what the j-th of them bears to the reward. A type
    before it would gain by stopping earlier or lose by going on, so no more promises are needed.
    """
    each, b, w = _layer_costs(types)[order], types.saving[order], types.weight[order]
    count = len(order)
    some = np.isfinite(each)
    served = np.cumsum(w)[:, None]
    worth = np.where(some, np.cumsum(w * b)[:, None] - served * np.where(some, each, 0.0), -np.inf)
    worth = np.vstack([np.zeros(types.layers_max), worth])  # row j: the first j run it
    # From the deepest layer on: the most that it and all deeper ones bring to at most j types.
    rest, totals = np.zeros(count + 1), []
    for of_layer in worth.T[::-1]:
        total = of_layer + rest
        totals.append(total)
        rest = np.maximum.accumulate(total)
    reward = np.full(types.layers_max + 1, -np.inf)
    reward[0], limit = 0.0, count
    for at, total in enumerate(totals[::-1]):
        limit = int(np.argmax(total[: limit + 1]))
        if limit == 0:
            break
        reward[at + 1] = reward[at] + each[limit - 1, at]
    return reward


def _climb(types: SampledTypes, reward: np.ndarray, budget: float | None) -> _Found:
    """Moves one reward, or all from one number of layers on, to where it earns most."""
    least = RISE * max(float(np.max(types.saving)) * float(np.sum(types.weight)), TINY)
    best = _Found.of(types, reward, budget)
    if best.profit == -np.inf:
        best = _Found.of(types, _nothing(types), budget)
    for _ in range(ROUNDS):
        before = best.profit
        tightened = cheapest_rewards(types, best.layers)
        if tightened is not None:
            best = best.better(_Found.of(types, tightened, budget))
        for at in range(1, types.layers_max + 1):
            for moved in (np.arange(types.layers_max + 1) == at, None):
                tried = _moved(types, best.reward, at, moved, budget)
                if tried is not None:
                    found = _Found.of(types, tried, budget)
                    best = found if found.profit > best.profit + least else best
        if best.profit <= before + least:
            break
    return best


def _nothing(types: SampledTypes) -> np.ndarray:
    return np.where(np.arange(types.layers_max + 1) == 0, 0.0, -np.inf)


def _moved(
    types: SampledTypes,
    reward: np.ndarray,
    at: int,
    moved: Bool[np.ndarray, " items"] | None,
    budget: float | None,
) -> np.ndarray | None:
    """Rewards with the item `at`, or with it all larger ones, raised or lowered for the best."""
    chosen = np.arange(len(reward)) >= at if moved is None else moved
    base = np.where(chosen, reward, -np.inf)
    if moved is not None:
        base = np.where(chosen, 0.0, -np.inf)  # the item may not be on offer yet
    if not np.any(np.isfinite(base)):
        return None
    device, server = types.gain(np.where(chosen, base, reward))
    inside, outside = np.where(chosen, device, -np.inf), np.where(chosen, -np.inf, device)
    rows = np.arange(len(device))
    into, out_of = np.argmax(inside, axis=1), np.argmax(outside, axis=1)
    # Each type takes a moved item from a raise of so much on.
    with np.errstate(invalid="ignore"):
        threshold = outside[rows, out_of] - inside[rows, into]
    able = np.isfinite(inside[rows, into])
    if not np.any(able):
        return None
    threshold = np.where(able, threshold, np.inf)
    w = types.weight
    order = np.argsort(threshold, kind="stable")[: int(np.sum(able))]
    raised = threshold[order]
    gained = np.where(able, server[rows, into], 0.0)
    kept = server[rows, out_of]
    takers = np.cumsum(w[order])
    profit = np.sum(w * kept) + np.cumsum((w * (gained - kept))[order]) - raised * takers
    if budget is not None:
        paid_in, paid_out = base[into], reward[out_of]
        change = np.where(able, paid_in - paid_out, 0.0)
        paid = np.sum(w * paid_out) + np.cumsum((w * change)[order]) + raised * takers
        profit = np.where(paid <= budget, profit, -np.inf)
    last = np.append(raised[1:] > raised[:-1], True)
    profit = np.where(last, profit, -np.inf)
    by = raised[int(np.argmax(profit))]
    return np.where(chosen, base + by, reward)


class _Program(NamedTuple):
    """Maximise gain @ (x, u), x type by type; money in units of the largest saving."""

    gain: Float[np.ndarray, " variables"]
    promises: csr_array
    certain: csr_array
    high: Float[np.ndarray, " variables"]
    budget: LinearConstraint | None
    unit: float

    def solve(self, whole: bool, time_limit_s: float) -> tuple[np.ndarray | None, float]:
        """The variables, None if none were found, and what they cannot exceed; credits."""
        constraints = [
            LinearConstraint(self.promises, 0.0, np.inf),
            LinearConstraint(self.certain, 1.0, 1.0),
        ]
        if self.budget is not None:
            constraints.append(self.budget)
        types, size = self.certain.shape
        found = milp(
            -self.gain,
            constraints=constraints,
            bounds=Bounds(0.0, self.high),
            integrality=np.where(np.arange(size) < size - types, int(whole), 0),
            options={"mip_rel_gap": 1e-9, "time_limit": time_limit_s},
        )
        bound = found.mip_dual_bound if whole else found.fun
        # Without a bound of its own the search knows nothing that the lotteries did not tell.
        return found.x, np.inf if bound is None or found.status > 1 else -bound * self.unit


def _program(types: SampledTypes, budget: float | None) -> _Program:
    count, items = types.cost.shape
    unit = float(np.max(types.saving)) * types.layers_max
    b, w = types.saving / unit, types.weight / float(np.sum(types.weight))
    forfeit = _largest_rewards(types, budget)
    able = types.cost <= forfeit
    cost = np.where(able, types.cost, 0.0) / unit
    burden = np.where(able, cost, forfeit / unit)
    size = count * items
    place = np.arange(size).reshape(count, items)
    own, other = np.nonzero(~np.eye(count, dtype=bool))
    pair = np.arange(len(own))
    numbers = np.concatenate(
        [np.ones(len(own)), -np.ones(len(own)), (burden[own] - burden[other]).ravel()]
    )
    rows = np.concatenate([pair, pair, np.repeat(pair, items)])
    columns = np.concatenate([size + own, size + other, place[other].ravel()])
    promises = coo_array((numbers, (rows, columns)), (len(own), size + count)).tocsr()
    sums = (np.repeat(np.arange(count), items), place.ravel())
    certain = coo_array((np.ones(size), sums), (count, size + count)).tocsr()
    surplus = np.outer(b, np.arange(items)) - cost
    limit = None
    total = float(np.sum(types.weight))
    if budget is not None:
        paid = np.concatenate([(w[:, None] * cost).ravel(), w])
        limit = LinearConstraint(paid[None], -np.inf, budget / unit / total)
    return _Program(
        gain=np.concatenate([(w[:, None] * surplus).ravel(), -w]),
        promises=promises,
        certain=certain,
        high=np.concatenate([able.ravel().astype(float), np.full(count, np.inf)]),
        budget=limit,
        unit=unit * total,
    )


def _largest_rewards(types: SampledTypes, budget: float | None) -> Float[np.ndarray, " items"]:
    """What an item of so many layers pays in the best menu, at most; credits.

    Without a budget no more than it can save: taken off the menu, all its takers would go to
    items that lose nothing. With one, a longest path visits an item once, so that rewards are
    sums of at most one cost an item, and whoever takes the item is paid out of the budget.
    """
    if budget is None:
        return np.max(types.saving) * np.arange(types.layers_max + 1.0)
    path = np.sum(np.max(np.where(np.isfinite(types.cost), types.cost, 0.0), axis=0))
    most = min(float(path), budget * (1.0 + 1e-9) / float(np.min(types.weight)))
    return np.append(0.0, np.full(types.layers_max, most))


def _lotteries(types: SampledTypes, budget: float | None) -> tuple[np.ndarray, float]:
    """Chances of each number of layers for each type, and what they earn; credits."""
    chance, profit = _program(types, budget).solve(False, np.inf)
    if chance is None:
        raise InputError("menu", "types", "costs whose sizes lie closer together", "no solution")
    return chance[: types.cost.size].reshape(types.cost.shape), profit


def _searched(
    types: SampledTypes, budget: float | None, time_limit_s: float
) -> tuple[_Found | None, float]:
    """The program in whole items: its menu, if one was found in time, and its bound."""
    chosen, bound = _program(types, budget).solve(True, time_limit_s)
    if chosen is None:
        return None, bound
    layers = np.argmax(chosen[: types.cost.size].reshape(types.cost.shape), axis=1)
    reward = cheapest_rewards(types, layers)
    if reward is None:
        return None, bound
    found = _Found.meant(types, reward, layers, budget)
    return found.better(_climb(types, reward, budget)), bound


def _check_budget(budget: float | None) -> None:
    if budget is not None and not 0.0 <= budget < np.inf:
        raise InputError("menu", "budget", "a finite number of at least 0", budget)
