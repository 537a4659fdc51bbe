r"""What no auction of one or two items can earn: an upper bound on revenue by a linear program.

Bidders are alike, and each values every item independently and uniformly on an interval. What
binds any auction in which truth is an equilibrium (Bayes-Nash, and so dominant strategies too) is
that a bidder's expected utility $u(v)$ is convex, with its expected allocation $x(v) \in [0, 1]^m$
as slope (Rochet 1987), and that an item is handed out once. The program keeps of this what can be
said about means over cells of a grid with $k$ cells an axis:

- $\bar u_c$, the mean of $u$ over a cell, and $u^j_f$, its mean over the cell's faces. Differences
  of faces give the mean allocation exactly: $\bar x_{cj} = (u^j_{f'} - u^j_f) / \varepsilon$.
- The mean of what is paid, $x \cdot v - u$, over a cell is linear in these without any rest, since
  by parts the covariance of $v_j$ and $x_j$ is $(u^j_f + u^j_{f'}) / 2 - \bar u_c$.
- Truth against the lies that shift a whole cell to another,
  $\bar u_{c'} \ge \bar u_c + \bar x_c \cdot (c' - c)\,\varepsilon$, exact since the values are
  uniform; and $u$ within a cell above the lines that its neighbours' slopes prolong.
- Of an item, types in a set $S$ of cells cannot be sold more than is drawn with one of them at the
  auction: $n \sum_{c \in S} p_c \bar x_{cj} \le 1 - (1 - p(S))^n$ (Border 1991).

Every true auction satisfies all of it, so the program's optimum is a bound however coarse the
grid: there is no error of discretisation to be added, but one that is contained. It shrinks with
the square of a cell's width; for one item, one bidder and an even grid it is 0. Lies and sets are
added as they are violated, and a bound holds at every stage.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from edgepact.errors import InputError, check_choice
from edgepact.mechanisms.auction.affine_maximiser import Demand

ITEMS_MAX = 2
"""Most items; cells grow as a power of them."""

TOLERANCE = 1e-7
"""By how much the solver may violate a constraint: the scale of the bound's own rounding."""

_VIOLATED = 1e-6
"""Violations below this are not worth another round."""

_ADDED_MAX = 400
"""Most lies added in one round."""


class RevenueBound(NamedTuple):
    """What no auction earns.

    Attributes:
        revenue: the bound, credits.
        coarser: the same with half as many cells an axis, credits. Their difference says how much
            of the bound is due to the grid: about a third of it is left, if it shrinks with the
            square of a cell.
        settled: whether no lie and no set was violated any more when it stopped.
    """

    revenue: float
    coarser: float
    settled: bool

    @property
    def grid_term(self) -> float:
        """Estimate of what the grid adds to the bound, credits."""
        return max(self.coarser - self.revenue, 0.0) / 3.0


def revenue_bound(
    bidders: int,
    items: int,
    *,
    low: float = 0.0,
    high: float = 1.0,
    demand: Demand = "additive",
    cells: int = 12,
    rounds: int = 60,
) -> RevenueBound:
    """The bound, and the one on a grid half as fine.

    Args:
        bidders: how many, all alike.
        items: one or two.
        low, high: ends of the interval of a value, credits.
        demand: of the bidders.
        cells: of the grid along an axis; a multiple of 4 keeps the middle on both grids.
        rounds: most rounds of adding what is violated.

    Raises:
        InputError: too many items, no such demand, or numbers out of range.
    """
    check_choice("bound", "demand", demand, ("additive", "unit"))
    if not 1 <= items <= ITEMS_MAX:
        raise InputError("bound", "items", f"1 to {ITEMS_MAX}", items)
    if bidders < 1:
        raise InputError("bound", "bidders", "at least 1", bidders)
    if cells < 2:
        raise InputError("bound", "cells", "at least 2", cells)
    if not 0.0 <= low < high < np.inf:
        raise InputError("bound", "low, high", "0 <= low < high", f"{low}, {high}")
    found = _solve(_Program(bidders, items, low, high, demand, cells), rounds)
    coarse = _solve(_Program(bidders, items, low, high, demand, max(1, cells // 2)), rounds)
    return RevenueBound(found[0], coarse[0], found[1])


class _Program:
    """Variables and constraints on one grid.

    The mean over a cell is a variable for each cell up to the order of items, the mean over a face
    across the first item one for each face; those across the second item are the same with the
    items exchanged, since an auction may be made symmetric without earning less.
    """

    def __init__(
        self, bidders: int, items: int, low: float, high: float, demand: Demand, cells: int
    ) -> None:
        self.bidders, self.items, self.demand, self.side = bidders, items, demand, cells
        self.width = (high - low) / cells
        self.cells: Int[np.ndarray, "types items"] = np.array(
            list(product(range(cells), repeat=items))
        )
        self.middle = low + (self.cells + 0.5) * self.width
        self.chance = 1.0 / len(self.cells)
        ordered = np.sort(self.cells, axis=1)
        _, self.mean = np.unique(ordered, axis=0, return_inverse=True)
        self.mean = self.mean.ravel()
        means = int(self.mean.max()) + 1
        # Faces across item j below and above each cell.
        other = self.cells[:, ::-1] if items == 2 else np.zeros((len(self.cells), 1), int)
        place = means + self.cells * (cells if items == 2 else 1) + other
        self.below = place
        self.above = place + (cells if items == 2 else 1)
        self.size = int(self.above.max()) + 1

    def number(self, cell: Int[np.ndarray, "*batch items"]) -> Int[np.ndarray, " *batch"]:
        """Number of the cell at a place of the grid."""
        return np.asarray(cell @ (self.side ** np.arange(self.items)[::-1]))

    def row(self) -> Float[np.ndarray, " variables"]:
        return np.zeros(self.size)

    def slope(self, cell: int, item: int, times: float, row: np.ndarray) -> None:
        """Adds so many times the mean allocation of a cell to a row."""
        row[self.above[cell, item]] += times / self.width
        row[self.below[cell, item]] -= times / self.width

    def paid(self) -> Float[np.ndarray, " variables"]:
        """What all bidders pay in expectation."""
        row = self.row()
        for cell in range(len(self.cells)):
            for item in range(self.items):
                self.slope(cell, item, self.middle[cell, item], row)
                row[self.above[cell, item]] += 0.5
                row[self.below[cell, item]] += 0.5
            row[self.mean[cell]] -= self.items + 1.0
        return np.asarray(self.bidders * self.chance * row)

    def always(self) -> tuple[list[np.ndarray], list[float]]:
        """Constraints kept from the beginning, as rows of `row @ variables <= limit`."""
        rows, limits = [], []
        for cell in range(len(self.cells)):
            for item in range(self.items):
                for sign, limit in ((1.0, 1.0), (-1.0, 0.0)):
                    row = self.row()
                    self.slope(cell, item, sign, row)
                    rows.append(row)
                    limits.append(limit)
                # The mean lies above the lines that prolong the neighbours' slopes.
                row = self.row()
                row[self.below[cell, item]] += 1.0
                row[self.mean[cell]] -= 1.0
                if self.cells[cell, item] > 0:
                    self.slope(self._next(cell, item, -1), item, 0.5 * self.width, row)
                rows.append(row)
                limits.append(0.0)
                row = self.row()
                row[self.above[cell, item]] += 1.0
                row[self.mean[cell]] -= 1.0
                last = self.cells[cell, item] == self.side - 1
                if not last:
                    self.slope(self._next(cell, item, 1), item, -0.5 * self.width, row)
                rows.append(row)
                limits.append(0.5 * self.width if last else 0.0)
            if self.demand == "unit":
                row = self.row()
                for item in range(self.items):
                    self.slope(cell, item, 1.0, row)
                rows.append(row)
                limits.append(1.0)
            for step in product((-1, 0, 1), repeat=self.items):
                to = self.cells[cell] + np.array(step)
                if any(step) and np.all((to >= 0) & (to < self.side)):
                    rows.append(self.lie(cell, int(self.number(to))))
                    limits.append(0.0)
        return rows, limits

    def lie(self, told: int, truth: int) -> Float[np.ndarray, " variables"]:
        """Types of one cell do not gain by telling those of another."""
        row = self.row()
        row[self.mean[told]] += 1.0
        row[self.mean[truth]] -= 1.0
        shift = (self.cells[truth] - self.cells[told]) * self.width
        for item in range(self.items):
            self.slope(told, item, float(shift[item]), row)
        return row

    def lies(self, variables: np.ndarray) -> list[np.ndarray]:
        """The lies that pay most."""
        utility = variables[self.mean]
        allocation = (variables[self.above] - variables[self.below]) / self.width
        shift = (self.cells[None, :, :] - self.cells[:, None, :]) * self.width
        gain = utility[:, None] + np.einsum("tj,tsj->ts", allocation, shift) - utility[None, :]
        order = np.argsort(-gain, axis=None)[:_ADDED_MAX]
        told, truth = np.unravel_index(order, gain.shape)
        return [
            self.lie(int(a), int(b))
            for a, b in zip(told, truth, strict=True)
            if gain[a, b] > _VIOLATED
        ]

    def oversold(self, variables: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
        """Sets of types that the first item is sold to more often than they come."""
        allocation = (variables[self.above[:, 0]] - variables[self.below[:, 0]]) / self.width
        order = np.argsort(-allocation, kind="stable")
        sold = self.bidders * self.chance * np.cumsum(allocation[order])
        come = 1.0 - (1.0 - self.chance * np.arange(1, len(order) + 1)) ** self.bidders
        over = sold - come
        # The most violated set, and every one that is locally: they cut off more at once.
        inner = np.r_[True, over[1:] >= over[:-1]] & np.r_[over[:-1] >= over[1:], True]
        rows, limits = [], []
        for last in np.flatnonzero(inner & (over > _VIOLATED)):
            row = self.row()
            for cell in order[: last + 1]:
                self.slope(int(cell), 0, self.bidders * self.chance, row)
            rows.append(row)
            limits.append(float(come[last]))
        return rows, limits

    def _next(self, cell: int, item: int, step: int) -> int:
        place = self.cells[cell].copy()
        place[item] += step
        return int(self.number(place))


def _solve(program: _Program, rounds: int) -> tuple[float, bool]:
    """The bound on one grid, and whether nothing was violated at the end."""
    rows, limits = program.always()
    paid = program.paid()
    bound, settled = np.inf, False
    for _ in range(rounds):
        solved = milp(
            -paid,
            constraints=LinearConstraint(csr_array(np.array(rows)), ub=np.array(limits)),
            bounds=Bounds(lb=0.0),
        )
        if not solved.success:  # what was found so far is a bound, too
            break
        bound = float(-solved.fun)
        lies = program.lies(solved.x)
        sets, come = program.oversold(solved.x)
        if not lies and not sets:
            settled = True
            break
        rows += [*lies, *sets]
        limits += [*([0.0] * len(lies)), *come]
    return bound, settled
