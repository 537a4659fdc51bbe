r"""The next menu for devices of which only past take-up is known, from generated frequencies.

What a principal does not know of a population is how frequent each cost is, and, where the types
themselves are not told, which costs there are. The generator draws populations, all of which agree
with what was taken so far (`takeup`, `generator`), and the rest is exact:

*The decision.* Whatever devices there are, what a menu earns is a sum over them. So the mean of
what it earns over many populations is what it earns with the mean one, cost of taking part and
expected budget included, and the exact optimal menu for the mean population
(`mechanisms.contract.optimum`) is the best decision over all samples. Costs that are not told make
many types of it; a device then takes of the menu what suits it best.

*What it is worth to know.* Types that share an item cannot be told apart by what they take. Told
apart they can be for next to nothing: a small step of quality between neighbours, paid for as the
theory wants it. The steps are as large as `LEARNING` of the expected profit pays for.

*Units.* Costs enter by their ratios, money has no scale. A server needs NumPy and SciPy.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.framework import Json, Sheet
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.ordered import Plan, in_order
from edgepact.mechanisms.contract.responses import NONE, choose, profit
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.solvers.in_context import generator, takeup
from edgepact.solvers.in_context.generator import Context
from edgepact.solvers.in_context.policy_file import Weights, read_weights, write_weights
from edgepact.solvers.in_context.takeup import POSITIONS, Intervals, Public, Rows, TakeUp
from edgepact.tables import Shown, figure

SHIPPED = Path(__file__).parent / "weights" / "menus.npz"
"""The generator that comes with the package; its model card stands beside it."""

DRAWN = 1024
"""Rows generated for one decision, of all samples together."""

SAMPLES = (8, 128)
"""Fewest and most samples."""

ATOMS, ATOMS_MAX = 3, 96
"""Most costs that stand for all that samples have in one stretch, and in all stretches together
where there are fewer stretches."""

LEARNING = 1e-4
"""Share of the expected profit that is given up to tell types apart."""

STEPS = (1e-2, 3e-3, 1e-3)
"""Steps between types that would share an item, as shares of the largest level of c."""

SHOWN_MAX = 24
"""Most items that have a row in a sheet; the JSON has all."""


class Population(NamedTuple):
    """Generated samples of a population, in order of falling cost.

    Attributes:
        cost: credits per unit of c(q) of each type, or in each stretch of the range of costs.
        frequency: of each; sums to 1 in each sample.
    """

    cost: Float[np.ndarray, "samples costs"]
    frequency: Float[np.ndarray, "samples costs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuDecision(Shown):
    """A menu to offer; items by rising quality.

    Attributes:
        quality, reward: of the items.
        chance: with which a device that takes the item is engaged; 1 nearly always.
        taken: share of devices expected to take each.
        declined: share expected to take none.
        profit: expected, of all devices, credits.
        cost, probability: of the types as they are believed to be, falling costs.
        devices: that were seen to choose.
        optimum: the best menu's profit and this menu's share of it, in credits and as a number up
            to 1, if the true frequencies are known to whoever asks; the decision is not told them.
    """

    quality: Float[np.ndarray, " items"]
    reward: Float[np.ndarray, " items"]
    chance: Float[np.ndarray, " items"]
    taken: Float[np.ndarray, " items"]
    declined: float
    profit: float
    cost: Float[np.ndarray, " types"]
    probability: Float[np.ndarray, " types"]
    devices: int
    optimum: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact quote --json`; `taken` in the order of `menu`."""
        items = zip(self.quality, self.reward, self.chance, strict=True)
        answer: dict[str, Json] = {
            "menu": [
                {"quality": float(quality), "reward": float(reward)}
                | ({"probability": float(chance)} if chance < 1.0 else {})
                for quality, reward, chance in items
            ],
            "taken": self.taken.tolist(),
            "declined": self.declined,
            "profit": self.profit,
            "cost": self.cost.tolist(),
            "probability": self.probability.tolist(),
            "devices_seen": self.devices,
        }
        if self.optimum is not None:
            answer["optimum"] = {"profit": self.optimum[0], "share": self.optimum[1]}
        return answer

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The items, and a sentence on what was known."""
        beside = float(np.max(self.reward, initial=0.0))
        drawn = bool(np.any(self.chance < 1.0))
        rows = [
            (
                str(at + 1),
                figure(self.quality[at], beside),
                figure(self.reward[at], beside),
                *((f"{self.chance[at]:.4f}",) if drawn else ()),
                f"{100.0 * self.taken[at]:.2f} %",
            )
            for at in range(len(self.quality))[:SHOWN_MAX]
        ]
        rows.append(("none", "", "", *(("",) if drawn else ()), f"{100.0 * self.declined:.2f} %"))
        seen = f"given what {self.devices:,} devices took of past menus"
        notes = [
            f"Frequencies were generated {seen if self.devices else 'with nothing seen yet'}; "
            "nothing private was read."
        ]
        if len(self.quality) > SHOWN_MAX:
            notes.append(f"{len(self.quality) - SHOWN_MAX} more items stand in the JSON.")
        if self.optimum is not None:
            best, share = self.optimum
            notes.append(
                f"With the frequencies that the file states, which the decision did not see, this "
                f"menu earns {100.0 * share:.2f} % of the exact optimum, {best:.6g} credits."
            )
        return (
            Sheet(
                title=f"Menu to offer next; expected profit {self.profit:.6g} credits",
                head=(
                    *("item", "quality", "reward"),
                    *(("chance",) if drawn else ()),
                    "expected to take it",
                ),
                rows=tuple(rows),
                notes=tuple(notes),
            ),
        )


class Menus:
    """Writes menus with a trained generator; a `deciding.Decider`.

    Args:
        weights: of the generator, from `load` or `Menus.shipped`.
        learning: share of the expected profit that may be given up to tell types apart.
    """

    def __init__(self, weights: Weights, *, learning: float = LEARNING) -> None:
        self._weights = weights
        self._learning = learning

    @staticmethod
    def shipped() -> "Menus":
        """With the weights that come with the package."""
        return Menus(load(SHIPPED))

    def decide(self, known: Public, evidence: TakeUp, seed: int) -> MenuDecision:
        """The next menu, what is expected to be taken of it and what it is expected to earn.

        Args:
            known: what is public.
            evidence: past menus and what was taken of them; none is fine.
            seed: of the noise that populations are generated from.

        Raises:
            InputError: nobody could have answered so, or the contract has no finite solution in
                float64.
        """
        drawn = self.population(known, evidence, seed)
        with np.errstate(all="ignore"):  # what is not finite is refused below, in words
            believed = believed_contract(known, drawn)
            menu = best_menu(believed, self._learning)
            decided = decision_of(believed, menu, devices=_devices(evidence))
        results = (decided.quality, decided.reward, decided.taken, decided.profit)
        if not all(np.isfinite(each).all() for each in results):
            expected = "numbers whose sizes lie closer together"
            found = "a contract without a finite solution in float64"
            raise InputError(evidence.source, "", expected, found)
        return decided

    def frequencies(
        self, known: Public, evidence: TakeUp, seed: int
    ) -> Float[np.ndarray, " types"]:
        """Expected frequencies of types whose costs are told, in the contract's order."""
        drawn = self.population(known, evidence, seed)
        return np.asarray(believed_contract(known, drawn).probability)

    def population(self, known: Public, evidence: TakeUp, seed: int) -> Population:
        """Generated samples of who there is; types in the order of `takeup.order_of`."""
        drawn = generate(self._weights, takeup.read(known, evidence), seed)
        if not known.types_told:
            return drawn
        cost = known.contract.psi[takeup.order_of(known.contract)]
        return drawn._replace(cost=np.broadcast_to(cost, drawn.frequency.shape))


def generate(weights: Weights, rows: Rows, seed: int) -> Population:
    """Draws populations that agree with what was seen; rows without a batch axis.

    Types of one row share its frequency evenly: nothing that was seen tells them apart.
    """
    frequency, cost = generate_rows(weights, rows, seed)
    types = rows.types.astype(int)
    return Population(
        np.repeat(cost, types, axis=-1), np.repeat(frequency / rows.types, types, axis=-1)
    )


def generate_rows(
    weights: Weights, rows: Rows, seed: int
) -> tuple[Float[np.ndarray, "samples rows"], Float[np.ndarray, "samples rows"]]:
    """Frequencies of rows in generated populations, and costs; as `generate`.

    In double precision: sums in single differ by machine and number of threads as far as to write
    another menu, and whoever was offered one should find that it follows from those before.
    """
    weights = {
        name: (rate.astype(float), bias.astype(float)) for name, (rate, bias) in weights.items()
    }
    seen, size = takeup.intervals(rows), len(rows.low)
    samples = int(np.clip(DRAWN // max(size, 1), *SAMPLES))
    told = grounds(weights, rows, seen)
    each = told.rows(np.tile(np.arange(size), samples))
    at = generator.sample(weights, each, np.random.default_rng(seed))
    at = at.reshape(samples, size, POSITIONS).astype(float)
    frequency = np.exp(takeup.place(seen.low, seen.high, at[..., 0]))
    frequency /= np.sum(frequency, axis=-1, keepdims=True)
    return frequency, np.exp(takeup.place(rows.low, rows.high, at[..., 1]))


def grounds(weights: Weights, rows: Rows, seen: Intervals) -> Context:
    """What the denoiser is told of every row; its guess is the frequencies that counts suggest."""
    offset = np.stack(
        [takeup.position(seen.low, seen.high, seen.guess), np.zeros_like(seen.low)], axis=-1
    )
    mix = np.zeros((*offset.shape, POSITIONS), np.float32)
    exists = rows.exists.astype(np.float32)
    return generator.context(weights, seen.features, exists, mix, offset.astype(np.float32))


def believed_contract(known: Public, drawn: Population) -> Contract:
    """The contract with the mean population: of told types in their order, else by falling cost."""
    contract = known.contract
    mean = np.mean(drawn.frequency, axis=0)
    if known.types_told:
        probability = np.empty_like(mean)
        probability[takeup.order_of(contract)] = mean
        return replace(contract, probability=_positive(probability))
    # Samples in order of falling cost in each stretch; a few costs of each stand for all.
    order = np.argsort(-drawn.cost, axis=0)
    cost = np.take_along_axis(drawn.cost, order, axis=0)
    weight = np.take_along_axis(drawn.frequency, order, axis=0)
    atoms = int(np.clip(ATOMS_MAX // max(cost.shape[1], 1), 1, ATOMS))
    parts = np.array_split(np.arange(len(cost)), atoms)
    mass = np.stack([weight[part].sum(axis=0) for part in parts], axis=1)
    moment = np.stack([(weight * cost)[part].sum(axis=0) for part in parts], axis=1)
    psi, probability = (moment / mass).ravel(), (mass / len(cost)).ravel()
    scale = None if contract.value_scale is None else np.full(len(psi), contract.value_scale[0])
    return replace(contract, psi=psi, probability=_positive(probability), value_scale=scale)


def _positive(probability: np.ndarray) -> np.ndarray:
    least = np.maximum(probability, 1e-9)
    found: np.ndarray = least / np.sum(least)
    return found


def best_menu(contract: Contract, learning: float = 0.0) -> Menu:
    """The exact optimal menu, or one that tells all types apart and earns next to the same.

    Args:
        contract: with the frequencies that are believed in.
        learning: share of the profit that may be given up.
    """
    best = optimal_menu(contract)
    types = in_order(contract)
    if learning <= 0.0 or len(types.psi) < 2 or types.may_leave_out or contract.budget is not None:
        return best
    level = types.cost(best.quality[types.order])
    if np.all(np.diff(level) > 0.0) and level[0] > 0.0:
        return best
    earned, top = profit(contract, best), float(types.cost(np.array(contract.quality_max)))
    for step in STEPS:
        told_apart = apart(level, step * top, top)
        # Nothing tells types of equal cost apart.
        last = np.searchsorted(-types.psi, -types.psi, side="right") - 1
        menu = types.rewarded(Plan(np.ones(len(level)), told_apart[last]))
        if profit(contract, menu) >= earned * (1.0 - learning):
            return menu
    return best


def apart(
    level: Float[np.ndarray, " types"], step: float, top: float
) -> Float[np.ndarray, " types"]:
    """Rising levels near those given, no two of them closer than a step, within (0, top]."""
    step = min(step, top / len(level))
    _, begins, block, count = np.unique(
        level, return_index=True, return_inverse=True, return_counts=True
    )
    # Around the level that types share, in steps; then whatever lies too close is moved up.
    at = np.arange(len(level))
    wanted = level + step * (at - begins[block] - 0.5 * (count[block] - 1))
    rising = np.maximum.accumulate(np.maximum(wanted, step) - step * at) + step * at
    found: np.ndarray = np.minimum(rising, top - step * at[::-1])
    return found


def decision_of(contract: Contract, menu: Menu, *, devices: int) -> MenuDecision:
    """A menu with what is expected of it when devices take what suits them best."""
    quality, reward, chance = (
        np.asarray(c, float) for c in (menu.quality, menu.reward, menu.engaged)
    )
    items, member = np.unique(np.stack([quality, reward, chance]), axis=1, return_inverse=True)
    p = np.asarray(contract.probability)
    share = np.bincount(member.ravel(), weights=p * (chance > 0.0), minlength=items.shape[1])
    offered = items[2] > 0.0
    offered &= items[0] + items[1] > 0.0
    order = np.argsort(-np.asarray(contract.psi), kind="stable")
    taken = share[offered]
    return MenuDecision(
        quality=items[0][offered],
        reward=items[1][offered],
        chance=items[2][offered],
        taken=taken,
        declined=max(0.0, 1.0 - float(np.sum(taken))),
        profit=profit(contract, menu),
        cost=np.asarray(contract.psi)[order],
        probability=p[order],
        devices=devices,
    )


def offered_to(contract: Contract, decision: MenuDecision) -> Menu:
    """What each type of a contract takes of a decided menu, as a menu for these types."""
    size = len(decision.quality)
    drawn = bool(np.any(decision.chance < 1.0))
    menu = Menu(
        quality=decision.quality,
        reward=decision.reward,
        served=np.ones(size, bool),
        chance=decision.chance if drawn else None,
    )
    psi = np.asarray(contract.psi, float)
    item = choose(contract, menu, psi) if size else np.full(len(psi), NONE)
    some = item != NONE
    at = np.where(some, item, 0)

    def taken(column: np.ndarray) -> np.ndarray:
        return np.where(some, column[at], 0.0) if size else np.zeros(len(psi))

    return Menu(
        quality=taken(decision.quality),
        reward=taken(decision.reward),
        served=some,
        chance=taken(decision.chance) if drawn else None,
    )


def gdm_menu(contract: Contract) -> Menu:
    """The menu for a contract whose frequencies are told: one sample, known, and solved exactly.

    Nothing is left to generate, so it is the mechanism's own best menu without a draw.
    """
    return sure_menu(contract)


def _devices(evidence: TakeUp) -> int:
    return int(sum(float(np.sum(menu.taken)) + menu.declined for menu in evidence.menus))


def load(path: Path) -> Weights:
    """Reads a generator.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    sizes = generator.sizes(takeup.FEATURES, POSITIONS)
    half = read_weights(path, "a trained generator of take-up", sizes=sizes)
    # Half precision is kept, single is computed with.
    return {
        name: (np.asarray(weight, np.float32), np.asarray(bias, np.float32))
        for name, (weight, bias) in half.items()
    }


def save(path: Path, weights: Weights) -> None:
    """Writes a generator, in half precision."""
    write_weights(path, weights, half=True)
