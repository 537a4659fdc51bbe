r"""Contracts for costs of several dimensions: a linear program over lotteries.

A device of type $k$ bears $\sum_j \psi_{kj} c_j(q)$, for instance computing that is linear in
quality plus energy that is quadratic. If all $c_j$ have one form, only the sums $\sum_j \psi_{kj}$
matter and types have an order; `contract.optimal_menu` is exact then. Otherwise a type may be
cheap at low quality and dear at high, nobody knows beforehand which promises bind, and no closed
form exists. What is left is to state all of them. An item is a *lottery* over qualities of a
grid with a sure reward, so that profit, all $K(K-1)$ incentives and all $K$ participations are
linear (HiGHS solves it); the grid is then made finer around the qualities in use.

Lotteries are no trick of the solver: with costs of two dimensions they can earn more than any
menu of sure qualities, since a gamble between high and low deters a type whose quadratic part is
large. The result says so where they do, with what the best menu without them earns that was found.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from edgepact.errors import InputError, shown
from edgepact.mechanisms.contract.budget import bracket
from edgepact.mechanisms.contract.levels import rising_levels
from edgepact.mechanisms.contract.quality import (
    COST_FORMS,
    CostForm,
    Value,
    cost_of,
    marginal_cost,
)
from edgepact.mechanisms.contract.terms import PROBABILITY_SLACK, as_columns, check_scalars

TYPES_MAX = 24
"""Most types; rows grow with their square."""

GRID = 65
"""Qualities of the first grid; closer together at the low end, where value bends most."""

REFINEMENTS = 5
"""Times the grid is halved around qualities in use."""

USED = 1e-6
"""Chances below this are rounding errors of the program."""

SURE_GRID = 25
"""Qualities of the coarse grid on which a menu without lotteries is searched."""

NODES = 200
"""Most branches of that search."""

TINY = float(np.finfo(float).tiny)
"""Where nothing is worth anything, money has no other unit."""

CLIMBS = 10
"""Rounds over all types in the climb that follows it."""

GAIN = 1e-5
"""Least share of the profit that lotteries have to bring to be called better."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WideContract:
    """What the principal knows; as `contract.Contract`, with several costs a type.

    Attributes:
        psi: credits per unit of each c_j(q), none negative, shape `(types, parts)`.
        costs: form of each c_j.
        probability: of each type, above 0, sum 1.
        value: V, credits a device.
        value_scale: by which a type's work is worth more or less than V; 1 if None.
        quality_min, quality_max: of every item.
        devices: N.
        budget: most credits to pay, expected over all N; None for no limit.
        participation_cost: credits a device bears for taking part at all.

    Raises:
        InputError: something is out of range, or there are more than `TYPES_MAX` types.
    """

    psi: Float[np.ndarray, "types parts"]
    costs: tuple[CostForm, ...]
    probability: Float[np.ndarray, " types"]
    value: Value
    value_scale: Float[np.ndarray, " types"] | None = None
    quality_min: float = 0.0
    quality_max: float = 1.0
    devices: int = 1
    budget: float | None = None
    participation_cost: float = 0.0

    def __post_init__(self) -> None:
        as_columns(self)
        check_scalars(self)
        where, psi = "contract", self.psi
        if psi.ndim != 2 or not 1 <= len(psi) <= TYPES_MAX:
            found = f"shape {psi.shape}"
            raise InputError(where, "psi", f"costs of 1 to {TYPES_MAX} types", found)
        forms = self.costs
        good_forms = isinstance(forms, list | tuple) and all(each in COST_FORMS for each in forms)
        if not good_forms or psi.shape[1] != len(forms):
            expected = f"a form for each of {psi.shape[1]} costs: {', '.join(COST_FORMS)}"
            raise InputError(where, "costs", expected, shown(forms))
        if not isinstance(self.value, Value):
            raise InputError(where, "value", "a Value", shown(self.value))
        good = np.isfinite(psi) & (psi >= 0.0)
        for at in np.flatnonzero(~good.all(axis=1) | ~(psi > 0.0).any(axis=1))[:1]:
            expected = "numbers of at least 0, one of them above"
            raise InputError(where, f"psi[{at}]", expected, f"{psi[at].tolist()}")
        for name in ("probability", "value_scale"):
            column = getattr(self, name)
            if column is None:
                continue
            if np.shape(column) != psi.shape[:1]:
                raise InputError(where, name, f"{len(psi)} numbers", f"{np.shape(column)}")
            for at in np.flatnonzero(~(np.isfinite(column) & (np.asarray(column) > 0.0)))[:1]:
                raise InputError(where, f"{name}[{at}]", "a number above 0", column[at].item())
        total = float(np.sum(self.probability))
        if abs(total - 1.0) > PROBABILITY_SLACK:
            raise InputError(where, "probability", "numbers that add up to 1", total)
        if not 0.0 <= self.quality_min < self.quality_max < np.inf:
            found = f"{self.quality_min:g}, {self.quality_max:g}"
            raise InputError(where, "quality_min, quality_max", "0 <= min < max", found)

    def burden(self, quality: Float[np.ndarray, " items"]) -> Float[np.ndarray, "types items"]:
        """What each type bears for each quality, credits."""
        parts = [np.asarray(cost_of(form, quality)) for form in self.costs]
        return np.asarray(self.psi) @ np.array(parts) + self.participation_cost

    def worth(self, quality: Float[np.ndarray, " items"]) -> Float[np.ndarray, "types items"]:
        """What each quality of each type is worth to the principal, credits."""
        scale = np.ones(len(self.psi)) if self.value_scale is None else self.value_scale
        return np.outer(scale, np.asarray(self.value.at(quality)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LotteryMenu:
    """An item for each type: a lottery over qualities and a sure reward.

    Attributes:
        quality: that occur; NaN stands for taking no part.
        chance: of each quality in each type's item; rows sum to 1.
        reward: of each type's item, credits, whatever quality is drawn.
        burden: what each type would bear for each type's item, expected; credits.
        profit: of the principal, expected over all N devices, credits.
        rents: what a device of each type keeps, expected.
        sure_profit: of the best menu without lotteries that was found; None if none was.
        lotteries: whether they bring more than `GAIN` of the profit.
        largest_gain_from_lying, largest_loss_from_taking_part: over all types, exact; credits.
    """

    quality: Float[np.ndarray, " items"]
    chance: Float[np.ndarray, "types items"]
    reward: Float[np.ndarray, " types"]
    burden: Float[np.ndarray, "types items_of"]
    profit: float
    rents: Float[np.ndarray, " types"]
    sure_profit: float | None
    lotteries: bool
    largest_gain_from_lying: float
    largest_loss_from_taking_part: float

    def items(self) -> list[list[tuple[float | None, float]]]:
        """Of each type, the qualities that may be drawn and their chances; None takes no part."""
        return [
            [
                (None if np.isnan(quality) else float(quality), float(chance))
                for quality, chance in zip(self.quality, row, strict=True)
                if chance > 0.0
            ]
            for row in self.chance
        ]

    def about_lotteries(self) -> str:
        """Whether lotteries are optimal, in a sentence."""
        if not self.lotteries:
            return "Lotteries bring nothing: two qualities of an item lie between grid points."
        found = "no menu without them was found"
        if self.sure_profit is not None:
            found = f"the best menu found without them earns {self.sure_profit:.6g}"
        return f"Lotteries are optimal: {found}."

    def as_json(self) -> dict[str, Any]:
        """The keys of `edgepact solve --json` for several costs a type."""
        menu = []
        for items, reward in zip(self.items(), self.reward.tolist(), strict=True):
            lottery = [{"quality": quality, "probability": chance} for quality, chance in items]
            menu.append({"lottery": lottery, "reward": reward})
        return {
            "menu": menu,
            "profit": self.profit,
            "rents": self.rents.tolist(),
            "lotteries_are_optimal": self.lotteries,
            "profit_without_lotteries": self.sure_profit,
            "audit": {
                "largest_gain_from_lying": self.largest_gain_from_lying,
                "largest_loss_from_taking_part": self.largest_loss_from_taking_part,
            },
        }


class _Grid(NamedTuple):
    """Outcomes of lotteries; the first may be to take no part, with NaN for its quality."""

    quality: Float[np.ndarray, " items"]
    burden: Float[np.ndarray, "types items"]
    worth: Float[np.ndarray, "types items"]


def lottery_menu(
    contract: WideContract, *, grid: int = GRID, refinements: int = REFINEMENTS
) -> LotteryMenu:
    """The best menu of lotteries over a grid of qualities.

    Args:
        contract: of types with several costs.
        grid: qualities of the first grid.
        refinements: times it is made finer around the qualities in use.

    Raises:
        InputError: the linear program has no solution in float64.
    """
    outcomes, chance = _refined(contract, grid, refinements)
    found = _cheapest(_own(outcomes, chance))
    if found is None:
        raise InputError("contract", "", "costs whose sizes lie closer together", "no solution")
    chance, reward = _within_budget(contract, chance, found)
    quality, own = outcomes.quality, _own(outcomes, chance)
    profit = _profit(contract, outcomes, chance, reward)
    used = np.flatnonzero((chance > 0.0).any(axis=0))
    sure = _best_sure(contract, outcomes, chance)
    kept = reward - np.diagonal(own)
    gain = reward - own  # type by item
    threshold = GAIN * max(abs(profit), TINY)
    return LotteryMenu(
        quality=quality[used],
        chance=chance[:, used],
        reward=reward,
        burden=own,
        profit=profit,
        rents=kept,
        sure_profit=sure,
        lotteries=_gambles(chance) and (sure is None or profit - sure > threshold),
        largest_gain_from_lying=max(0.0, float(np.max(gain - kept[:, None]))),
        largest_loss_from_taking_part=max(0.0, -float(np.min(kept))),
    )


def _within_budget(
    contract: WideContract, chance: np.ndarray, reward: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All items at so much less of a chance that the budget holds to the last digit.

    The program keeps it up to its own tolerance only. The first outcome is always to do nothing
    that costs anything, and a mixture with it keeps all promises.
    """
    if contract.budget is None:
        return chance, reward

    def paid(part: float) -> float:
        return float(contract.devices * np.sum(contract.probability * (part * reward)))

    part = min(1.0, contract.budget / max(paid(1.0), TINY))
    while paid(part) > contract.budget:
        part *= 1.0 - 1e-15
    mixed = part * chance
    mixed[:, 0] += 1.0 - part
    return mixed, part * reward


def first_best_profit(contract: WideContract) -> float:
    """What the principal would keep if costs were public, draws of who takes part included.

    Exact: without incentives each type is a problem of its own, concave in quality. With a budget,
    the value is that of the Lagrangian at the multiplier where the budget starts to hold, which no
    menu within the budget exceeds whatever the multiplier.
    """
    p, scale = np.asarray(contract.probability), contract.value_scale
    weight = np.ones(len(p)) if scale is None else np.asarray(scale)

    def served(multiplier: float) -> tuple[np.ndarray, np.ndarray]:
        """By type: what it brings at a multiplier, and what it bears if that is above 0."""
        price = 1.0 + multiplier

        def slope(quality: np.ndarray) -> np.ndarray:
            parts = [np.asarray(marginal_cost(form, quality)) for form in contract.costs]
            own = np.sum(np.asarray(contract.psi) * np.array(parts).T, axis=1)
            return weight * np.asarray(contract.value.slope(quality)) - price * own

        low, high = contract.quality_min, contract.quality_max
        quality = rising_levels(slope, len(p), low, high, ordered=False)
        burden = np.diagonal(contract.burden(quality))
        left = np.diagonal(contract.worth(quality)) - price * burden
        return np.maximum(left, 0.0), np.where(left > 0.0, burden, 0.0)

    if contract.budget is None:
        return float(contract.devices * np.sum(p * served(0.0)[0]))
    most, multiplier = contract.budget / contract.devices, 0.0
    if float(np.sum(p * served(0.0)[1])) > most:
        _, multiplier = bracket(lambda each: float(np.sum(p * served(each)[1])) <= most)
    return float(contract.devices * (np.sum(p * served(multiplier)[0]) + multiplier * most))


def linear_program_menu(contract: WideContract, grid: int) -> float:
    """Profit of the menu of one linear program over a grid, without refinement; credits."""
    outcomes, chance = _refined(contract, grid, 0)
    reward = _cheapest(_own(outcomes, chance))
    assert reward is not None
    return _profit(contract, outcomes, chance, reward)


def _refined(
    contract: WideContract, size: int, refinements: int
) -> tuple[_Grid, Float[np.ndarray, "types items"]]:
    low, high = contract.quality_min, contract.quality_max
    quality = low + (high - low) * np.linspace(0.0, 1.0, size) ** 2
    outcomes = _grid(contract, quality)
    chance = _solved(contract, outcomes)
    for _ in range(refinements):
        used = quality[(chance[:, -len(quality) :] > USED).any(axis=0)]
        at = np.searchsorted(quality, used)
        below, above = quality[np.maximum(at - 1, 0)], quality[np.minimum(at + 1, len(quality) - 1)]
        # The old points stay: a finer grid never earns less.
        quality = np.unique(np.concatenate([quality, (below + used) / 2.0, (used + above) / 2.0]))
        outcomes = _grid(contract, quality)
        chance = _solved(contract, outcomes)
    return outcomes, chance


def _grid(contract: WideContract, quality: np.ndarray) -> _Grid:
    burden, worth = contract.burden(quality), contract.worth(quality)
    nothing = np.zeros((len(contract.psi), 1))
    free = np.all(contract.burden(quality[:1]) == 0.0) and np.all(worth[:, 0] >= 0.0)
    if free:
        return _Grid(quality, burden, worth)
    outcomes = (np.append(np.nan, quality), np.hstack([nothing, burden]))
    return _Grid(*outcomes, np.hstack([nothing, worth]))


class _Program(NamedTuple):
    """Maximise gain @ x; x holds chances type by type, then rewards, in units of money."""

    gain: Float[np.ndarray, " variables"]
    promises: csr_array
    limits: Float[np.ndarray, " promises"]
    certain: csr_array
    low: Float[np.ndarray, " variables"]
    high: Float[np.ndarray, " variables"]

    def constraints(self) -> list[LinearConstraint]:
        """As SciPy takes them."""
        return [
            LinearConstraint(self.promises, -np.inf, self.limits),
            LinearConstraint(self.certain, 1.0, 1.0),
        ]


def _program(contract: WideContract, grid: _Grid) -> _Program:
    """All participations, all incentives, and the budget."""
    types, items = grid.burden.shape
    p = np.asarray(contract.probability)
    # HiGHS has absolute tolerances, so money is counted in units of the largest amount.
    unit = max(float(np.max(np.abs(grid.worth))), TINY)
    burden, worth = grid.burden / unit, grid.worth / unit
    place = np.arange(types * items).reshape(types, items)
    reward = types * items + np.arange(types)
    entries: list[tuple[int, np.ndarray, np.ndarray]] = []  # row, columns, numbers
    row = 0
    for k in range(types):
        for j in range(types):
            # What k keeps of its own item is not below what j's item, or none, would leave it.
            entries += [(row, place[k], burden[k]), (row, reward[k : k + 1], -np.ones(1))]
            if j != k:
                entries += [(row, place[j], -burden[k]), (row, reward[j : j + 1], np.ones(1))]
            row += 1
    limits = np.zeros(row)
    if contract.budget is not None:
        entries.append((row, reward, contract.devices * p))
        limits, row = np.append(limits, contract.budget / unit), row + 1
    variables = types * (items + 1)
    rows = np.concatenate([np.full(len(columns), at) for at, columns, _ in entries])
    columns = np.concatenate([columns for _, columns, _ in entries])
    numbers = np.concatenate([each for _, _, each in entries])
    sums = (np.repeat(np.arange(types), items), place.ravel())
    return _Program(
        gain=np.concatenate([(p[:, None] * worth).ravel(), -p]),
        promises=coo_array((numbers, (rows, columns)), (row, variables)).tocsr(),
        limits=limits,
        certain=coo_array((np.ones(types * items), sums), (types, variables)).tocsr(),
        low=np.concatenate([np.zeros(types * items), np.full(types, -np.inf)]),
        high=np.concatenate([np.ones(types * items), np.full(types, np.inf)]),
    )


def _solved(contract: WideContract, grid: _Grid) -> Float[np.ndarray, "types items"]:
    """Chances of the best menu."""
    types, items = grid.burden.shape
    program = _program(contract, grid)
    # SciPy's other entrance to HiGHS, and the one whose types know sparse matrices.
    solved = milp(
        -program.gain,
        constraints=program.constraints(),
        bounds=Bounds(program.low, program.high),
    )
    if not solved.success:
        expected = "terms that can be met, of sizes that lie closer together"
        raise InputError("contract", "", expected, str(solved.message))
    chance = np.asarray(solved.x)[: types * items].reshape(types, items)
    chance = np.where(chance > USED, chance, 0.0)
    return chance / chance.sum(axis=1, keepdims=True)


def _gambles(chance: np.ndarray) -> bool:
    """Whether any item mixes more than neighbours of the grid, between which the best may lie."""
    used = chance > USED
    lowest, highest = np.argmax(used, axis=1), used.shape[1] - 1 - np.argmax(used[:, ::-1], axis=1)
    return bool(np.any(highest - lowest > 1))


def _own(grid: _Grid, chance: np.ndarray) -> Float[np.ndarray, "types items_of"]:
    """What each type would bear for each type's item."""
    return grid.burden @ chance.T


def _cheapest(burden: Float[np.ndarray, "types types"]) -> Float[np.ndarray, " types"] | None:
    """The least rewards that keep all promises, by longest paths; None if there are none.

    Exact to the last digits, which the program's own rewards are not.
    """
    reward = np.diagonal(burden).copy()
    own = reward.copy()
    for _ in range(len(reward)):
        # A type keeps at least what another's item would leave it.
        reward = np.maximum(reward, own + np.max(reward - burden, axis=1))
    left = float(np.max(own + np.max(reward - burden, axis=1) - reward))
    return reward if left <= 1e-6 * max(float(np.max(np.abs(reward))), 1e-300) else None


def _profit(contract: WideContract, grid: _Grid, chance: np.ndarray, reward: np.ndarray) -> float:
    each = np.sum(chance * grid.worth, axis=1) - reward
    return float(contract.devices * np.sum(contract.probability * each))


def _best_sure(contract: WideContract, grid: _Grid, chance: np.ndarray) -> float | None:
    """The best profit without lotteries that was found.

    The same program with whole chances, on the qualities in use and a coarse grid, then a climb
    on the fine one. A limit on the branches tried keeps it short, and keeps it repeatable.
    """
    types = len(chance)
    used = np.flatnonzero((chance > USED).any(axis=0))
    coarse = np.linspace(0, len(grid.quality) - 1, SURE_GRID).astype(int)
    kept = np.union1d(used, np.append(coarse, 0))
    small = _Grid(grid.quality[kept], grid.burden[:, kept], grid.worth[:, kept])
    program = _program(contract, small)
    items = types * len(kept)
    found = milp(
        -program.gain,
        constraints=program.constraints(),
        integrality=np.concatenate([np.ones(items), np.zeros(types)]),
        bounds=Bounds(program.low, program.high),
        options={"node_limit": NODES},
    )
    if found.x is None:
        return None
    place = kept[np.argmax(found.x[:items].reshape(types, -1), axis=1)]
    return _climbed(contract, grid, place)


def _climbed(contract: WideContract, grid: _Grid, place: np.ndarray) -> float | None:
    """Moves one type at a time, along the grid or to another's item, while that earns more."""
    here, found = place.copy(), _sure(contract, grid, place)
    for _ in range(CLIMBS):
        before = found
        for k in range(len(here)):
            near = np.clip(here[k] + np.array([-4, -2, -1, 1, 2, 4]), 0, len(grid.quality) - 1)
            for at in np.union1d(near, here):
                moved = here.copy()
                moved[k] = at
                earned = _sure(contract, grid, moved)
                if earned is not None and (found is None or earned > found):
                    here, found = moved, earned
        if found == before:
            break
    return found


def _sure(contract: WideContract, grid: _Grid, place: np.ndarray) -> float | None:
    """The profit of one sure quality for each type; None if promises cannot be kept."""
    reward = _cheapest(grid.burden[:, place])
    p = np.asarray(contract.probability)
    if reward is None:
        return None
    if contract.budget is not None and contract.devices * float(p @ reward) > contract.budget:
        return None
    worth = grid.worth[np.arange(len(place)), place]
    return float(contract.devices * np.sum(p * (worth - reward)))
