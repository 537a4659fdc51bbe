r"""What take-up of past menus leaves open: how frequent costs are, as rows for the generator.

A *row* is what devices of some cost are counted as: neighbouring types that no menu has told apart,
for nothing was learned of each by itself; or, where only the range of costs is public, a stretch of
it so short that what is within hardly matters. Rows stand in order of falling cost. A menu divides
them: who takes an item has a cost between two bounds, where the lines $R_j - \psi c_j$ of
neighbouring items cross. So a round of answers is a number of devices for each of some runs of
neighbouring rows, and nothing else about a menu matters.

Two numbers of a row are private: the logarithm of its frequency, and where in its stretch its costs
lie. For each there is an interval that what was seen leaves: the stretch, and the frequencies that
do not make what was counted a marvel, of the row or of runs it is part of. The generator draws
places in these intervals; frequencies are then made to sum to 1, as gamma variables are to become a
Dirichlet one.

Leading axes of arrays are batch axes, of training; NumPy alone is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.contract.quality import cost_of
from edgepact.mechanisms.contract.take_up import TakeUp as Counts
from edgepact.mechanisms.contract.take_up import frequencies
from edgepact.mechanisms.contract.terms import Contract
from edgepact.solvers.in_context.deciding import SOURCE, impossible

POSITIONS = 2
"""Private numbers of a row: its frequency, and where its costs lie."""

FEATURES = 21

ROWS_MAX = 512
"""Most rows: types, or stretches of the range of costs."""

STRETCH = 0.25
"""Longest stretch of costs that is one row, in logarithms, where there is room for as many rows."""

STRETCHES = 16
"""Rows that a range of costs is divided into at least where stretches would be longer."""

USUAL_TYPES, USUAL_SPREAD = 16, 2.5
"""Most types of the reference prior, and how far its costs lie apart at most, in logarithms."""

DIVISIONS_MAX = 32
"""Most ways in which past menus divided rows that are looked at."""

BOUNDS_MAX, BOUNDS_KEPT = 256, 24
"""Most bounds of past menus that are looked at, and that a range of costs is divided at."""

SPLIT = 1e-6
"""Bounds of stretches that lie closer together, in logarithms, are one."""

LEAST = 3e-4
"""Least frequency of a row that is told from none."""

PASSES = 2
"""Times that bounds of rows are drawn from those of runs."""

MARVEL = 4.0
"""Standard deviations of a count beyond which nothing is looked for."""

TIE = 1e-4
"""A bound within this share of a type's cost is on it, of the nearest: menus are written down with
few digits. Who is indifferent takes the item of higher quality."""

COUNT_MAX = 10**9
"""Most devices that take an item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PastMenu:
    """A menu that was offered, and how many devices took what.

    Attributes:
        quality, reward: of its items, in any order.
        taken: devices that took each.
        declined: devices that took none.
    """

    quality: Float[np.ndarray, " items"]
    reward: Float[np.ndarray, " items"]
    taken: Float[np.ndarray, " items"]
    declined: float = 0.0


Past = tuple[PastMenu, tuple[np.ndarray, np.ndarray]]
"""A past menu, with the bounds between its items and these items; see `_bounds`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TakeUp:
    """All that was offered and taken so far.

    Attributes:
        menus: in any order, for it is the same devices or ones of the same kind that choose.
        source: where it stands, for errors.
    """

    menus: Sequence[PastMenu] = ()
    source: object = SOURCE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Public:
    """What a principal knows of a contract before anybody has answered.

    Attributes:
        contract: its value, form of cost, bounds and money; its `psi` are the costs of the types,
            or, if those are not told, the two ends of the range they lie in. Its probabilities
            are private: they are replaced by equal ones as soon as this is made.
        types_told: whether devices have these costs and no others.
    """

    contract: Contract
    types_told: bool = True

    def __post_init__(self) -> None:
        size = len(self.contract.psi)
        equal = replace(self.contract, probability=np.full(size, 1.0 / size))
        object.__setattr__(self, "contract", equal)
        if self.types_told:
            if size > ROWS_MAX:
                raise InputError(SOURCE, "psi", f"at most {ROWS_MAX} types", size)
            return
        ends = np.unique(self.contract.psi)
        if size != 2 or len(ends) != 2:
            found = f"{size} costs, {len(ends)} of them different"
            raise InputError(SOURCE, "psi", "two ends of a range of costs", found)
        if self.contract.value_scale is not None and np.ptp(self.contract.value_scale) > 0:
            raise InputError(SOURCE, "value_scale", "one, where types are not told", "several")


class Rows(NamedTuple):
    """Costs that devices may have, in order of falling cost, and what was counted of them.

    Attributes:
        low, high: logarithms of the ends of each row's stretch, or of its types' costs.
        types: number of types of each row, 0 for padding, which stands last; 1 of stretches.
        told: 1 where the types' costs are told.
        counts: rounds of answers; padding stands in nobody's run and takes nothing.
        reference: 1 where the generator is to take the population for one of the reference prior.
    """

    low: Float[np.ndarray, "*batch rows"]
    high: Float[np.ndarray, "*batch rows"]
    types: Float[np.ndarray, "*batch rows"]
    told: Float[np.ndarray, "*batch"]
    counts: Counts
    reference: Float[np.ndarray, "*batch"]

    @property
    def exists(self) -> Float[np.ndarray, "*batch rows"]:
        """1 for rows that there are."""
        return (self.types > 0) * 1.0


def read(public: Public, seen: TakeUp) -> Rows:
    """What was offered and taken, as rows.

    Types stand in the order of `order_of`.

    Raises:
        InputError: a menu or a count is impossible, or nobody would have answered so.
    """
    contract = public.contract
    checked = [_checked(contract, at, menu, seen.source) for at, menu in enumerate(seen.menus, 1)]
    bounds = [_bounds(contract, menu) for menu in checked]
    past = list(zip(checked, bounds, strict=True))
    if public.types_told:
        cost = np.log(contract.psi[order_of(contract)])
        low, high = cost, cost
    else:
        low, high = _range_divided(np.log(np.sort(contract.psi)), past, seen.source)
    counts = _counted(low, high, public.types_told, past, seen.source)
    usual = public.types_told and len(low) <= USUAL_TYPES and low[0] - low[-1] <= USUAL_SPREAD
    told = np.array(1.0 * public.types_told)
    found = merged(Rows(low, high, np.ones(len(low)), told, counts, np.array(1.0 * usual)))
    size = int(np.sum(found.types > 0))
    parts = Counts(found.counts.taken[:, :size], found.counts.first[:, :size])
    low, high, types = (part[:size] for part in (found.low, found.high, found.types))
    return Rows(low, high, types, told, parts, found.reference)


def _counted(
    low: np.ndarray, high: np.ndarray, told: bool, past: Sequence[Past], source: object
) -> Counts:
    """Rounds of answers by row, in an order that answers alone decide, so that sums are the same.

    Raises:
        InputError: nobody would have answered so.
    """
    middle, rounds = 0.5 * (low + high), []
    for at, (menu, (cuts, items)) in enumerate(past, 1):
        if told and len(cuts):
            nearest = middle[np.argmin(np.abs(middle[:, None] - cuts), axis=0)]
            cuts = np.where(np.abs(nearest - cuts) <= TIE, nearest, cuts)
        # The run of a row: 0 for those too dear for any item, then by rising quality.
        run = np.sum(middle[:, None] <= cuts, axis=1)
        number = np.zeros(len(items) + 1)
        for item, devices in enumerate([*menu.taken, menu.declined]):
            if devices == 0:
                continue
            none = item == len(menu.taken)
            place = 0 if none else _run_of(menu, items, item)
            if place is not None and not told:
                place = _among(low, high, run, cuts, place)
            if place is None or not np.any(run == place):
                field = "declined" if none else f"taken[{item + 1}]"
                other = "some item suits every cost better than none"
                other = other if none else "some other item suits every cost better"
                expected = f"0 devices, for {other}"
                raise impossible(source, f"round[{at}].{field}", expected, devices)
            number[place] += devices
        first = np.concatenate([[1.0], (np.diff(run) != 0) * 1.0])
        rounds.append((np.where(first > 0, number[run], 0.0), first))
    rounds.sort(key=lambda each: (each[0].tolist(), each[1].tolist()))
    taken = np.array([each[0] for each in rounds]).reshape(len(rounds), len(low))
    begins = np.array([each[1] for each in rounds]).reshape(len(rounds), len(low))
    return _pooled(Counts(taken, begins))


def _pooled(counts: Counts) -> Counts:
    """Rounds that divided rows alike as one; of many divisions those that most devices met."""
    divisions, which = np.unique(counts.first, axis=0, return_inverse=True)
    taken = np.zeros((len(divisions), counts.taken.shape[-1]))
    np.add.at(taken, which.ravel(), counts.taken)
    most = np.sort(np.argsort(-taken.sum(axis=-1), kind="stable")[:DIVISIONS_MAX])
    return Counts(taken[most], divisions[most])


def merged(rows: Rows) -> Rows:
    """Types that no menu told apart as one row each, where types are told; padded as before."""
    exists, (taken, first) = rows.exists, rows.counts
    starts = np.max(first, axis=-2, initial=0.0)
    starts = exists * np.maximum(starts, 1.0 - rows.told[..., None])
    starts[..., :1] = exists[..., :1]
    after = np.concatenate([exists[..., 1:], np.zeros_like(exists[..., :1])], axis=-1)
    following = np.concatenate([starts[..., 1:], np.zeros_like(starts[..., :1])], axis=-1)
    ends = exists * np.where(after > 0, following, 1.0)
    number = np.cumsum(starts, axis=-1) - 1.0
    member = (number[..., :, None] == np.arange(exists.shape[-1])) * exists[..., None]

    def gathered(column: np.ndarray) -> np.ndarray:
        total: np.ndarray = (column[..., None, :] @ member)[..., 0, :]
        return total

    counts = Counts(taken @ member, (first * starts[..., None, :]) @ member)
    low, high = gathered(rows.low * ends), gathered(rows.high * starts)
    return Rows(low, high, gathered(rows.types), rows.told, counts, rows.reference)


def order_of(contract: Contract) -> np.ndarray:
    """Places of types in order of falling cost, however they are listed."""
    scale = contract.value_scale
    scale = np.ones(len(contract.psi)) if scale is None else np.asarray(scale)
    return np.lexsort((scale, -np.asarray(contract.psi)))


def _checked(contract: Contract, at: int, menu: PastMenu, source: object) -> PastMenu:
    columns = {}
    for name in ("quality", "reward", "taken"):
        column = np.asarray(getattr(menu, name), float)
        if column.ndim != 1 or column.shape != np.shape(menu.quality):
            expected = f"{np.size(menu.quality)} numbers, one for each item"
            raise InputError(source, f"round[{at}].{name}", expected, f"{column.size}")
        columns[name] = column
    most = {"quality": contract.quality_max, "reward": np.inf, "taken": COUNT_MAX}
    for name, column in columns.items():
        bad = ~(np.isfinite(column) & (column >= 0.0) & (column <= most[name]))
        if name == "taken":
            bad |= column != np.floor(column)
        for item in np.flatnonzero(bad)[:1]:
            kind = "a whole number" if name == "taken" else "a number"
            expected = f"{kind} of at least 0"
            expected += "" if most[name] == np.inf else f" and at most {most[name]:g}"
            field = f"round[{at}].{name}[{item + 1}]"
            raise InputError(source, field, expected, column[item].item())
    none = float(menu.declined)
    if not (0.0 <= none <= COUNT_MAX and none == np.floor(none)):
        expected = f"a whole number of at least 0 and at most {COUNT_MAX}"
        raise InputError(source, f"round[{at}].declined", expected, none)
    return PastMenu(**columns, declined=none)


def _bounds(contract: Contract, menu: PastMenu) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the costs up to which somebody takes anything, then each better item.

    Returns:
        Bounds, falling, and the item that is taken from each to the next.
    """
    level = np.asarray(cost_of(contract.cost, menu.quality))
    net = menu.reward - contract.participation_cost
    # The upper hull of rewards over levels of c, from taking nothing on.
    hull, cuts = [(0.0, 0.0, -1)], [np.inf]
    for item in np.lexsort((-net, level)):
        x, y = float(level[item]), float(net[item])
        if x == hull[-1][0]:
            if y > hull[-1][1]:  # paid for nothing: even the dearest takes it
                hull = [(x, y, int(item))]
            continue
        slope = (y - hull[-1][1]) / (x - hull[-1][0])
        while slope >= cuts[-1]:
            hull.pop()
            cuts.pop()
            slope = (y - hull[-1][1]) / (x - hull[-1][0])
        if slope > 0.0:
            hull.append((x, y, int(item)))
            cuts.append(slope)
    kept = [(np.log(cut), item) for cut, (_, _, item) in zip(cuts, hull, strict=True) if item >= 0]
    found = np.array([cut for cut, _ in kept]), np.array([item for _, item in kept], int)
    return found


def _run_of(menu: PastMenu, items: np.ndarray, item: int) -> int | None:
    """Which run of costs takes an item, 0 for those that take none; None if nobody takes it."""
    if menu.quality[item] == 0.0 and menu.reward[item] == 0.0:
        return 0
    # Types that share an item may have it listed once each.
    alike = (menu.quality == menu.quality[item]) & (menu.reward == menu.reward[item])
    found = np.flatnonzero(alike[items])
    return int(found[0]) + 1 if len(found) else None


def _among(
    low: np.ndarray, high: np.ndarray, run: np.ndarray, cuts: np.ndarray, place: int
) -> int | None:
    """The run of rows that a run of costs counts to; None if none of the range is in it."""
    least = cuts[place] if place < len(cuts) else -np.inf
    most = cuts[place - 1] if place > 0 else np.inf
    least, most = max(least, low[-1]), min(most, high[0])
    if not most - least > SPLIT:
        return None
    middle = 0.5 * (least + most)
    return int(run[np.argmax(low <= middle)])


def _telling(past: Sequence[Past]) -> np.ndarray:
    """Bounds of past menus, if there are many those between items that most devices took."""
    cuts, devices = [np.zeros(0)], [np.zeros(0)]
    for menu, (cut, items) in past:
        number = np.append(menu.declined, menu.taken[items])
        cuts.append(cut)
        devices.append(number[:-1] + number[1:])
    order = np.argsort(-np.concatenate(devices), kind="stable")[:BOUNDS_MAX]
    found: np.ndarray = np.sort(np.concatenate(cuts)[order])
    return found


def _range_divided(
    ends: np.ndarray, past: Sequence[Past], source: object
) -> tuple[np.ndarray, np.ndarray]:
    """A range of costs as stretches, finer where devices are.

    Past menus of many items divide it into more stretches than are of use, most of them empty:
    bounds are kept where next to them most devices seem to be.
    """
    low, high = _stretches(ends, _telling(past), np.inf)
    if len(low) > BOUNDS_KEPT + 1:
        counts = _counted(low, high, False, past, source)
        share = frequencies(counts, high - low)
        beside = np.maximum(share[:-1], share[1:])
        kept = np.sort(np.argsort(-beside, kind="stable")[:BOUNDS_KEPT])
        low, high = _stretches(ends, low[kept], np.inf)
    return _stretches(ends, low[:-1], max(STRETCH, (ends[1] - ends[0]) / STRETCHES))


def _stretches(ends: np.ndarray, cuts: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """A range of costs divided at bounds, and evenly between them; falling."""
    within = cuts[(cuts > ends[0] + SPLIT) & (cuts < ends[1] - SPLIT)]
    edges = np.sort(np.concatenate([ends, within]))
    edges = edges[np.concatenate([[True], np.diff(edges) > SPLIT])]
    pieces = [
        np.linspace(a, b, max(1, int(np.ceil((b - a) / longest - 1e-9))) + 1)[:-1]
        for a, b in pairwise(edges)
    ]
    edges = np.append(np.concatenate(pieces), ends[1])
    return edges[:-1][::-1], edges[1:][::-1]


class Intervals(NamedTuple):
    """Where the private numbers of rows may lie, `(*batch, rows)`, and what is told of each row.

    Attributes:
        low, high: ends of the logarithm of the frequency.
        guess: logarithm of the frequency that counts suggest, one device added to each row.
        features: `(*batch, rows, FEATURES)`.
    """

    low: np.ndarray
    high: np.ndarray
    guess: np.ndarray
    features: np.ndarray


def intervals(rows: Rows) -> Intervals:
    """What was seen, as the generator takes it."""
    exists, (taken, first) = rows.exists, rows.counts
    there = exists[..., None, :]
    run = np.cumsum(first * there, axis=-1) * there - (1.0 - there)
    same = (run[..., :, None] == run[..., None, :]) * there[..., None, :] * there[..., :, None]
    members = np.sum(same, axis=-1)
    together = np.sum(same * taken[..., None, :], axis=-1)
    devices = np.sum(taken, axis=-1)[..., None]
    total = np.sum(devices, axis=(-1, -2))[..., None]
    alone = (members == 1.0) * 1.0
    own = np.sum(alone * together, axis=-2)
    asked = np.sum(alone * devices, axis=-2)
    floor, at_least = np.log(LEAST), np.exp(_least(own, asked))
    at_most = np.exp(np.minimum(_most(own, asked), 0.0))
    run_most = np.exp(np.minimum(_most(together, devices), 0.0))
    run_least = np.exp(_least(together, devices))
    for _ in range(PASSES):
        # A run's frequency less what the others of it must have, or may have at most.
        others = (same @ at_least[..., None, :, None])[..., 0] - at_least[..., None, :]
        may = np.where(members > 0, run_most - others, 1.0)
        at_most = np.minimum(at_most, np.min(may, axis=-2, initial=1.0))
        others = (same @ at_most[..., None, :, None])[..., 0] - at_most[..., None, :]
        must = np.where(members > 0, run_least - others, 0.0)
        at_least = np.maximum(at_least, np.max(must, axis=-2, initial=0.0))
    # Where rounds contradict each other, whatever lies between what they say.
    at_least, at_most = np.minimum(at_least, at_most), np.maximum(at_least, at_most)
    high = np.clip(np.log(np.maximum(at_most, LEAST)), floor + 1.0, 0.0)
    low = np.minimum(np.log(np.maximum(at_least, LEAST)), high - 0.02)
    guess = np.log(np.maximum(frequencies(rows.counts, rows.types, pseudo=1.0), 1e-12))
    guess = np.asarray(np.where(exists > 0, guess, floor))
    likely = frequencies(rows.counts, rows.types)

    middle = 0.5 * (rows.low + rows.high)
    width = rows.high - rows.low
    least = np.min(np.where(exists > 0, middle, np.inf), axis=-1, keepdims=True)
    number = np.sum(rows.types, axis=-1, keepdims=True)
    gap = -np.diff(middle, axis=-1) * exists[..., 1:]
    nothing = np.zeros_like(middle[..., :1])
    smallest = np.min(np.where(devices > 0, members, ROWS_MAX), axis=-2, initial=ROWS_MAX)
    fewest = np.min(np.where(devices > 0, together, np.inf), axis=-2, initial=np.inf)
    fewest = np.where(np.isfinite(fewest), fewest, 0.0)
    wide = exists * 0.0
    columns = [
        (middle - least) / 3.0,
        np.concatenate([nothing, gap], axis=-1),
        np.concatenate([gap, nothing], axis=-1),
        np.minimum(4.0 * width, 3.0),
        wide + 1.0 - rows.told[..., None],
        np.log(np.maximum(rows.types, 1.0)) / 3.0,
        wide + np.log(number) / 3.0,
        wide + 1.0 / number,
        wide + np.log1p(total) / 8.0,
        guess / 4.0 + 1.0,
        np.sqrt(np.maximum(likely, 0.0)),
        low / 4.0 + 1.0,
        high / 4.0 + 1.0,
        np.log1p(asked) / 8.0,
        np.log1p(own) / 8.0,
        np.log1p(fewest) / 8.0,
        1.0 / np.maximum(smallest, 1.0),
        np.log1p(likely * total) / 8.0,
        wide + rows.reference[..., None],
        np.cumsum(rows.types, axis=-1) / number,
        np.sum(devices > 0, axis=-2) / 4.0,
    ]
    told = np.stack([exists * column for column in columns], axis=-1)
    return Intervals(low, high, guess, told.astype(np.float32))


def _most(count: np.ndarray, devices: np.ndarray) -> np.ndarray:
    """Logarithm of the largest frequency that so few counted would not make a marvel."""
    more = count + 3.0
    share = np.minimum(more / (devices + 3.0), 1.0)
    return np.log(share) + MARVEL * np.sqrt((1.0 - share) / more)


def _least(count: np.ndarray, devices: np.ndarray) -> np.ndarray:
    """The same of the smallest for so many; minus infinity where none were asked."""
    less = count + 0.2
    share = less / (devices + 0.4)
    found = np.log(share) - MARVEL * np.sqrt(np.maximum(1.0 - share, 0.0) / less)
    return np.where(devices > 0, found, -np.inf)


def position(low: np.ndarray, high: np.ndarray, value: np.ndarray) -> np.ndarray:
    """A place in an interval as a number in [-1, 1]; 0 in one that is a point."""
    wide = high - low
    found = 2.0 * (value - low) / np.where(wide > 0, wide, 1.0) - 1.0
    return np.where(wide > 0, np.clip(found, -1.0, 1.0), 0.0)


def place(low: np.ndarray, high: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The inverse of `position`."""
    return low + 0.5 * (at + 1.0) * (high - low)
