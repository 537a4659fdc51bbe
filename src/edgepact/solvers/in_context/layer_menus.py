r"""The next menu of layers for devices of which only choices are known, from generated frequencies.

What a layer costs a device hangs on two private numbers, and a menu divides what devices may be by
more than one bound. So what was seen is read device by device: of all *kinds* that a device may
be, those fit that would have taken what it took of every menu so far. Menus so far divide kinds
into *cells* whose kinds answered all alike, and how frequent each cell is, among devices that come,
is generated given how many stand in it (`takeup`, `menus`): a cell is a row there, of the cost of
its kinds.

What a menu earns is a sum over devices, so the mean over generated populations is one population,
and the menu for it the best decision. Menus that were offered stay candidates: what they earn is
known, and a menu is left only for one that promises more.

A device that answered as no kind does, for noise, drift or a lie, counts as the kinds that it
comes nearest to; of what it said to one menu the last answer counts.

NumPy and SciPy only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from edgepact.framework import Json, Sheet
from edgepact.mechanisms.contract.layer_menu_program import climbed_menu, optimal_layer_menu
from edgepact.mechanisms.contract.layer_menus import SampledTypes
from edgepact.mechanisms.contract.take_up import TakeUp as Counts
from edgepact.solvers.in_context import menus
from edgepact.solvers.in_context.policy_file import Weights
from edgepact.solvers.in_context.takeup import USUAL_SPREAD, USUAL_TYPES, Rows
from edgepact.tables import Shown

KEPT = 400
"""Kinds that a menu is written for, where there are more."""

NEAREST = 8
"""Kinds that a device counts as that answered as none does."""

SEARCH_S = 2.0
"""Longest search for the exact menu of listed kinds between two rounds, seconds."""

EMPTY = 1e-9
"""A cell of so few answers is one of none."""

DIGITS = 9
"""Of a generated frequency."""

LEAST_COST = 1e-3
"""Least cost of a kind, as a share of what is saved, that is told from none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayersPublic:
    """What is public of a menu of layers.

    Attributes:
        kinds: what devices may be, their weights being what is believed before anybody answers.
        listed: whether these are all there are, so that the best menu for them is exact.
        tie: gains this close are equal to whoever chooses, credits.
    """

    kinds: SampledTypes
    listed: bool
    tie: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PastLayerMenu:
    """A menu that was offered, and what was taken of it.

    Attributes:
        reward: of 0, 1, ... layers, credits; minus infinity where there was no item.
        layers: that each device took, by name; 0 for none.
    """

    reward: Float[np.ndarray, " items"]
    layers: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerMenuDecision(Shown):
    """A menu to offer.

    Attributes:
        reward: of 0, 1, ... layers, credits; minus infinity where there is no item.
        taken: share of devices expected to take so many layers.
        profit: expected of a device, credits.
        kinds: what devices are believed to be.
        answers: that were seen.
        kept: whether the menu was offered before.
    """

    reward: Float[np.ndarray, " items"]
    taken: Float[np.ndarray, " items"]
    profit: float
    kinds: SampledTypes
    answers: int
    kept: bool

    def to_dict(self) -> dict[str, Json]:
        """As JSON; `taken` begins with those that take nothing."""
        return {
            "menu": [
                {"layers": int(at), "reward": float(self.reward[at])}
                for at in np.flatnonzero(np.isfinite(self.reward))
                if at > 0
            ],
            "taken": self.taken.tolist(),
            "profit": self.profit,
            "answers_seen": self.answers,
            "offered_before": self.kept,
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The items, and what is expected of them."""
        offered = np.flatnonzero(np.isfinite(self.reward))
        return (
            Sheet(
                title=f"Menu to offer next; expected profit {self.profit:.6g} credits a device",
                head=("layers", "reward", "expected to take it"),
                rows=tuple(
                    (f"{at}", f"{self.reward[at]:.6g}", f"{self.taken[at]:.1%}") for at in offered
                ),
            ),
        )


class LayerMenus:
    """Writes menus of layers with a trained generator; a `deciding.Decider`.

    Args:
        weights: of the generator of take-up.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    @staticmethod
    def shipped() -> "LayerMenus":
        """With the weights that come with the package."""
        return LayerMenus(menus.load(menus.SHIPPED))

    def decide(
        self, known: LayersPublic, evidence: Sequence[PastLayerMenu], seed: int
    ) -> LayerMenuDecision:
        """The next menu.

        Args:
            known: what is public.
            evidence: past menus and what was taken of them, the first one first.
            seed: of the noise that frequencies are generated from.
        """
        met = [past for past in evidence if past.layers]
        weight, cell = self._believed(known, met, seed)
        believed = replace(known.kinds, weight=weight)
        few = believed if known.listed else thinned(believed, cell)
        if known.listed:
            written = optimal_layer_menu(few, time_limit_s=SEARCH_S)
        else:
            written = climbed_menu(few)
        reward, best, kept = written.reward, earned(written.reward, few, known.tie), False
        for past in met:
            again = earned(past.reward, few, known.tie)
            if (again >= best and not kept) or again > best:
                reward, best, kept = past.reward, again, True
        took = choices(reward, few, known.tie)
        share = few.weight / np.sum(few.weight)
        return LayerMenuDecision(
            reward=reward,
            taken=np.bincount(took, weights=share, minlength=len(reward)),
            profit=best,
            kinds=few,
            answers=sum(len(past.layers) for past in met),
            kept=kept,
        )

    def _believed(
        self, known: LayersPublic, met: Sequence[PastLayerMenu], seed: int
    ) -> tuple[Float[np.ndarray, " kinds"], Int[np.ndarray, " kinds"]]:
        """How frequent each kind is, and its cell."""
        kinds = known.kinds
        prior = np.asarray(kinds.weight, float) / np.sum(kinds.weight)
        if not met:
            return prior, np.zeros(len(prior), int)
        asked, answers = _distinct(met)
        took = np.array([choices(reward, kinds, known.tie) for reward in asked])
        _, cell = np.unique(took, axis=1, return_inverse=True)
        cell = np.asarray(cell).ravel()
        counted = np.zeros(len(prior))
        for said, times in answers.values():
            fits = fitting(kinds, asked, took, said, known.tie)
            counted += times * prior * fits / np.sum(prior * fits)
        cell = _pooled(cell, counted, np.log(cost_share(kinds)))
        frequency = self._generated(kinds, prior, counted, cell, seed)
        within = counted + prior
        return frequency[cell] * within / np.bincount(cell, weights=within)[cell], cell

    def _generated(
        self,
        kinds: SampledTypes,
        prior: np.ndarray,
        counted: np.ndarray,
        cell: np.ndarray,
        seed: int,
    ) -> Float[np.ndarray, " cells"]:
        """Mean frequency of each cell over generated populations."""
        cost = np.log(cost_share(kinds))
        number = int(cell.max()) + 1
        low, high = np.full(number, np.inf), np.full(number, -np.inf)
        np.minimum.at(low, cell, cost)
        np.maximum.at(high, cell, cost)
        order = np.lexsort((np.arange(number), -(low + high)))
        types = np.bincount(cell, weights=prior)[order] * min(len(prior), USUAL_TYPES)
        low, high = low[order], high[order]
        taken = np.bincount(cell, weights=counted)[order]
        usual = len(prior) <= USUAL_TYPES and np.ptp(cost) <= USUAL_SPREAD
        rows = Rows(
            low,
            high,
            types,
            np.array(1.0),
            Counts(taken[None], np.ones((1, number))),
            np.array(1.0 * usual),
        )
        found = np.empty(number)
        found[order] = np.mean(menus.generate_rows(self._weights, rows, seed)[0], axis=0)
        # What rounding decides, such as which kinds stand for many, is decided alike anywhere.
        return np.round(found, DIGITS)


def choices(
    reward: Float[np.ndarray, " items"], kinds: SampledTypes, tie: float
) -> Int[np.ndarray, " kinds"]:
    """Layers that each kind takes of a menu: of what suits it best, the server's favourite."""
    device, server = kinds.gain(reward)
    best = np.maximum(np.max(device, axis=1, keepdims=True), 0.0)
    good = device >= best - tie
    good[:, 0] = False
    found = np.argmax(np.where(good, server, -np.inf), axis=1)
    return np.where(np.any(good, axis=1), found, 0)


def earned(reward: Float[np.ndarray, " items"], kinds: SampledTypes, tie: float) -> float:
    """What a menu leaves the server of a device, expected, credits."""
    took = choices(reward, kinds, tie)
    share = kinds.weight / np.sum(kinds.weight)
    return float(share @ (kinds.saving * took - reward[took]))


def fitting(
    kinds: SampledTypes,
    asked: Sequence[Float[np.ndarray, " items"]],
    took: Int[np.ndarray, "menus kinds"],
    said: Mapping[int, int],
    tie: float,
) -> Bool[np.ndarray, " kinds"]:
    """Kinds that would have said what a device said of all menus; else those that come nearest.

    Args:
        kinds: what it may be.
        asked: the menus.
        took: what each kind takes of each.
        said: what the device took, by place of the menu.
        tie: gains this close are equal, credits.
    """
    lost = np.zeros(len(kinds.cost))
    for at, layers in said.items():
        device, _ = kinds.gain(asked[at])
        least = np.maximum(np.max(device, axis=1), 0.0) - device[:, layers]
        lost += np.where(took[at] == layers, 0.0, np.maximum(least, tie))
    near = np.sort(lost)[min(NEAREST, len(lost)) - 1]
    found: np.ndarray = lost <= (0.0 if np.any(lost == 0.0) else near)
    return found


def cost_share(kinds: SampledTypes) -> Float[np.ndarray, " kinds"]:
    """What layers cost each kind, in one number: of what they save, the mean over all numbers."""
    layers = np.arange(1, kinds.cost.shape[1])
    share = kinds.cost[:, 1:] / np.maximum(kinds.saving[:, None] * layers, 1e-300)
    return np.asarray(np.maximum(np.mean(np.minimum(share, 1.0), axis=1), LEAST_COST))


def thinned(kinds: SampledTypes, cell: Int[np.ndarray, " kinds"]) -> SampledTypes:
    """A few kinds for all: of each cell as many as it has weight, evenly over its costs."""
    weight, cost = kinds.weight / np.sum(kinds.weight), cost_share(kinds)
    order = np.lexsort((cost, cell))
    place, mass = [], []
    for at in range(int(cell.max()) + 1):
        own = order[cell[order] == at]
        whole = float(np.sum(weight[own]))
        number = min(len(own), int(np.ceil(KEPT * whole)))
        if number == 0:
            continue
        below = np.cumsum(weight[own]) / whole
        picked = np.searchsorted(below, (np.arange(number) + 0.5) / number)
        place.append(own[np.minimum(picked, len(own) - 1)])
        mass.append(np.full(number, whole / number))
    some = np.concatenate(place)
    return SampledTypes(
        cost=kinds.cost[some], saving=kinds.saving[some], weight=np.concatenate(mass)
    )


def _pooled(
    cell: Int[np.ndarray, " kinds"], counted: np.ndarray, cost: np.ndarray
) -> Int[np.ndarray, " kinds"]:
    """The same cells, but those in which nobody was seen as one where they are neighbours in cost:
    menus divide what nobody is ever more finely, and it is no more likely for that."""
    mean = np.bincount(cell, weights=cost) / np.bincount(cell)
    order = np.argsort(-mean, kind="stable")
    empty = np.bincount(cell, weights=counted)[order] < EMPTY
    begins = np.concatenate([[True], ~(empty[1:] & empty[:-1])])
    number = np.empty(len(order), int)
    number[order] = np.cumsum(begins) - 1
    return number[cell]


def _distinct(
    met: Sequence[PastLayerMenu],
) -> tuple[list[np.ndarray], dict[str, tuple[dict[int, int], int]]]:
    """Different menus, and of each device its last answer to each and how often it answered."""
    places: dict[bytes, int] = {}
    asked: list[np.ndarray] = []
    said: dict[str, tuple[dict[int, int], int]] = {}
    for past in met:
        reward = np.asarray(past.reward, float)
        at = places.setdefault(reward.tobytes(), len(asked))
        if at == len(asked):
            asked.append(reward)
        for name, layers in past.layers.items():
            answers, times = said.get(name, ({}, 0))
            said[name] = answers | {at: layers}, times + 1
    return asked, dict(sorted(said.items()))
