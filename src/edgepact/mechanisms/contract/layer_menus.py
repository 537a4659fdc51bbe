r"""Menus of (layers, reward) for devices whose weight of satisfaction and capacity are private.

A server offers each device the same items: run $L$ layers of every image and be paid $R(L)$ for
it, or run none and be paid nothing. A device that weighs what it keeps by $\alpha S$ and has $W$
bears

$$c(L) = \alpha \bigl( S(W - B) - S(W - A L - B) \bigr),$$

rising and convex, and takes the item it likes best. One item for each number of layers is
enough: of two with the same layers everybody takes the one that pays more. Types $(\alpha, W)$
have two dimensions and no order, so nothing like the ironing of `optimum` is exact; the server
knows types by samples, and `layer_menu_program` finds the best menu for these.

This module holds what a menu is, what devices make of it, and its audit. NumPy only, float64:
a server needs no JAX for it. Theory: docs/theory/layer-menus.md.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.satisfaction import Satisfaction

TOLERANCE = 1e-9
"""Slack for rounding, relative to the largest reward or cost that a menu is about."""

TINY = float(np.finfo(float).tiny)
"""Where nothing costs anything, any slack above 0 will do."""


@runtime_checkable
class Devices(Protocol):
    """Columns of devices, one entry each, as in `edgepact.fleet.Fleet`."""

    alpha: Any
    capacity: Any
    A: Any
    B: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledTypes:
    """Types of devices, such as samples of what devices may be; or a fleet's own.

    Attributes:
        cost: c(L) of each type, credits a unit of work. The first column, no layers, is 0; rows
            do not fall; infinity stands for more layers than the type has computing for.
        saving: b, what the server saves by each layer that the type runs, credits.
        weight: number of devices expected of each type; not negative, one of them above 0.

    Raises:
        InputError: a shape or a number is impossible.
    """

    cost: Float[np.ndarray, "types items"]
    saving: Float[np.ndarray, " types"]
    weight: Float[np.ndarray, " types"]

    def __post_init__(self) -> None:
        cost = np.asarray(self.cost)
        if cost.ndim != 2 or len(cost) == 0 or cost.shape[1] < 2:
            expected = "a row for each type, a column for 0, 1, ... layers"
            raise InputError("types", "cost", expected, f"shape {cost.shape}")
        with np.errstate(invalid="ignore"):
            rising = np.all((cost[:, 1:] >= cost[:, :-1]) & (cost[:, 1:] >= 0.0), axis=1)
        for at in np.flatnonzero(~(rising & (cost[:, 0] == 0.0)))[:1]:
            expected = "costs that start at 0 and do not fall"
            raise InputError("types", f"cost[{at}]", expected, f"{cost[at].tolist()}")
        for name in ("saving", "weight"):
            column = np.asarray(getattr(self, name))
            if column.shape != cost.shape[:1]:
                raise InputError("types", name, f"{len(cost)} numbers", f"shape {column.shape}")
            for at in np.flatnonzero(~(np.isfinite(column) & (column >= 0.0)))[:1]:
                expected = "a finite number of at least 0"
                raise InputError("types", f"{name}[{at}]", expected, column[at].item())
        if not np.any(np.asarray(self.weight) > 0.0):
            raise InputError("types", "weight", "one of them above 0", "none")

    @property
    def layers_max(self) -> int:
        """Most layers that an item may ask for."""
        return self.cost.shape[1] - 1

    def gain(
        self, reward: Float[np.ndarray, " items"]
    ) -> tuple[Float[np.ndarray, "types items"], Float[np.ndarray, "types items"]]:
        """What each type and what the server keeps of each item; minus infinity if impossible."""
        device = reward - self.cost
        server = np.outer(self.saving, np.arange(self.layers_max + 1)) - reward
        return device, np.where(np.isfinite(device), server, -np.inf)


def types_of(
    devices: Devices,
    satisfaction: Satisfaction,
    *,
    beta: float,
    layers_max: int,
    weight: Float[np.ndarray, " types"] | None = None,
) -> SampledTypes:
    """The type of each device: of samples, of a fleet, or of one's own row.

    A device with W < B takes no part: every layer costs it infinitely much.

    Args:
        devices: columns `alpha`, `capacity`, `A` and `B`.
        satisfaction: S.
        beta: what computing costs the server, credits per GMAC.
        layers_max: layers of the model.
        weight: number of devices that each stands for; 1 each if None.

    Raises:
        InputError: something is out of range.

    Example:
        >>> from types import SimpleNamespace
        >>> from edgepact.mechanisms.stackelberg.satisfaction import Log1p
        >>> one = {"alpha": [2.0], "capacity": [3.0], "A": [1.0], "B": [1.0]}
        >>> types_of(SimpleNamespace(**one), Log1p(), beta=1.0, layers_max=3).cost.round(3).tolist()
        [[0.0, 0.811, 2.197, inf]]
    """
    if layers_max < 1:
        raise InputError("types", "layers_max", "at least 1", layers_max)
    columns = (devices.alpha, devices.capacity, devices.A, devices.B)
    alpha, capacity, A, B = (np.asarray(column, float)[:, None] for column in columns)
    layers, room = np.arange(layers_max + 1.0), capacity - B
    # As in `stackelberg.layers_cap`: a capacity meant to hold k layers exactly holds them.
    fits = layers * A <= room * (1.0 + 8.0 * np.finfo(float).eps)
    spent = np.minimum(layers * A, np.maximum(room, 0.0))
    drop = satisfaction.drop(np.broadcast_to(np.maximum(room, 0.0), spent.shape), spent)
    cost = np.where(fits, alpha * np.asarray(drop), np.inf)
    cost[:, 0] = 0.0
    return SampledTypes(
        cost=np.maximum.accumulate(cost, axis=1),
        saving=beta * A[:, 0],
        weight=np.ones(len(alpha)) if weight is None else np.asarray(weight, float),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerMenu:
    """A menu, and what is known of it for the types it was written for.

    Attributes:
        reward: R(L) for L = 0, 1, ... layers, credits a unit of work; 0 for no layers and minus
            infinity where there is no such item.
        layers: meant for each type. Of items it likes equally that is the one which serves the
            server best: which brings most, or with a budget leaves enough for the others.
        profit: of the server, saving less payments, summed over types by weight; credits.
        payments: likewise.
        upper_bound: what no menu can exceed. Equal to the profit up to rounding unless the search
            was stopped by its time limit.
        lottery_profit: of the best menu whose items are lotteries over layers; None where that
            program would be too large.
        posted_profit: of the best single price a layer.
        first_best_profit: what costs in public would let the server keep, a budget observed.
    """

    reward: Float[np.ndarray, " items"]
    layers: Int[np.ndarray, " types"]
    profit: float
    payments: float
    upper_bound: float
    lottery_profit: float | None
    posted_profit: float
    first_best_profit: float

    @property
    def gap(self) -> float:
        """Credits by which a better menu might exceed this one; 0 if it is proved optimal."""
        return max(0.0, self.upper_bound - self.profit)

    @property
    def proved(self) -> bool:
        """Whether the search ended: the gap is rounding."""
        return self.gap <= 1e-6 * max(abs(self.upper_bound), TINY)

    @property
    def lottery_gain(self) -> float | None:
        """Credits that lotteries over layers would add."""
        return None if self.lottery_profit is None else max(0.0, self.lottery_profit - self.profit)

    def items(self) -> list[tuple[int, float]]:
        """What is on offer: layers and reward, without the empty item."""
        offered = np.flatnonzero(np.isfinite(self.reward))
        return [(int(at), float(self.reward[at])) for at in offered if at > 0]

    def as_json(self) -> dict[str, Any]:
        """For `edgepact solve --json`."""
        return {
            "menu": [{"layers": layers, "reward": reward} for layers, reward in self.items()],
            "profit": self.profit,
            "payments": self.payments,
            "upper_bound": self.upper_bound,
            "proved_optimal": self.proved,
            "posted_price_profit": self.posted_profit,
            "lottery_profit": self.lottery_profit,
            "first_best_profit": self.first_best_profit,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """What devices make of a menu.

    Attributes:
        layers: of the item each takes; 0 for none.
        payments: to each, credits a unit of work.
        utility: of each beyond staying away, credits.
        saving: of the server by each, credits.
        weight: number of devices each stands for.
    """

    layers: Int[np.ndarray, " devices"]
    payments: Float[np.ndarray, " devices"]
    utility: Float[np.ndarray, " devices"]
    saving: Float[np.ndarray, " devices"]
    weight: Float[np.ndarray, " devices"]

    @property
    def profit(self) -> float:
        """What the server keeps of all, by weight; credits."""
        return float(np.sum(self.weight * (self.saving - self.payments)))

    @property
    def paid(self) -> float:
        """What the server pays all, by weight; credits."""
        return float(np.sum(self.weight * self.payments))


def play_menu(reward: Float[np.ndarray, " items"], types: SampledTypes) -> Taken:
    """What devices take of a menu, be they those it was written for or others.

    Of items that a device likes equally, up to rounding, it takes the one the server gains most
    by, as everywhere in this package.

    Args:
        reward: of 0, 1, ... layers; minus infinity where there is no item.
        types: of the devices, `types_of` a fleet.

    Raises:
        InputError: the menu asks for other numbers of layers than the types know costs of.
    """
    reward = _checked(reward, types)
    device, server = types.gain(reward)
    best = np.max(device, axis=1, keepdims=True)
    liked = device >= best - _slack(reward, types)
    layers = np.argmax(np.where(liked, server, -np.inf), axis=1)
    return take_items(reward, types, layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMenuAudit:
    """What was found; the same promises and keys as `contract.audit.ContractAudit`.

    That every device takes what it likes best is no promise of the menu but the devices' doing.
    What is checked is that the item *meant* for each type, on which profit and payments were
    reckoned, is one that it likes best after all rounding.

    Attributes:
        individually_rational: no type loses by its item, and not the server by the menu.
        incentive_compatible: no type gains by any other item.
        budget_balanced: payments stay within the budget, or the saving.
        largest_gain_from_lying: credits; over all types and all items, exact.
        largest_loss_from_taking_part: credits; over all types, exact.
        pairs: of type and other item that were weighed.
    """

    individually_rational: bool
    incentive_compatible: bool
    budget_balanced: bool
    largest_gain_from_lying: float
    largest_loss_from_taking_part: float
    pairs: int

    def as_json(self) -> dict[str, bool | float]:
        """The keys of `edgepact solve --json`."""
        return {
            "individually_rational": self.individually_rational,
            "incentive_compatible": self.incentive_compatible,
            "budget_balanced": self.budget_balanced,
            "largest_gain_from_lying": self.largest_gain_from_lying,
            "largest_loss_from_taking_part": self.largest_loss_from_taking_part,
        }


def audit_layer_menu(
    reward: Float[np.ndarray, " items"],
    layers: Int[np.ndarray, " types"],
    types: SampledTypes,
    *,
    budget: float | None = None,
) -> LayerMenuAudit:
    """Audits a menu of whatever origin: `audit_layer_menu(menu.reward, menu.layers, types)`.

    Args:
        reward: of 0, 1, ... layers; minus infinity where there is no item.
        layers: of the item meant for each type.
        types: whose costs count.
        budget: most credits to pay by weight; None for no limit but the saving.

    Raises:
        InputError: sizes disagree, or an item is meant for a type that is not on the menu.
    """
    reward = _checked(reward, types)
    if layers.shape != types.weight.shape or not np.all(np.isin(layers, _offered(reward))):
        expected = f"an item of the menu for each of {len(types.weight)} types"
        raise InputError("menu", "layers", expected, f"{layers.tolist()}")
    device, _ = types.gain(reward)
    taken, slack = take_items(reward, types, layers), _slack(reward, types)
    # Of a type that does not occur nobody can be asked anything.
    occurs = types.weight > 0.0
    gain = max(0.0, float(np.max((np.max(device, axis=1) - taken.utility)[occurs])))
    loss = max(0.0, -float(np.min(taken.utility[occurs])))
    limit = taken.paid + taken.profit if budget is None else budget
    total = max(float(np.sum(types.weight)), 1.0)
    return LayerMenuAudit(
        individually_rational=loss <= slack and taken.profit >= -slack * total,
        incentive_compatible=gain <= slack,
        budget_balanced=taken.paid <= limit * (1.0 + TOLERANCE) + (budget is None) * slack * total,
        largest_gain_from_lying=gain,
        largest_loss_from_taking_part=loss,
        pairs=len(types.weight) * (len(_offered(reward)) - 1),
    )


def take_items(
    reward: Float[np.ndarray, " items"],
    types: SampledTypes,
    layers: Int[np.ndarray, " types"],
) -> Taken:
    """What follows if each type takes the item of so many layers, whether it likes it best or not.

    A type that cannot run them has a utility of minus infinity.
    """
    rows = np.arange(len(layers))
    return Taken(
        layers=layers,
        payments=reward[layers],
        utility=reward[layers] - types.cost[rows, layers],
        saving=types.saving * layers,
        weight=np.asarray(types.weight, float),
    )


def _offered(reward: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isfinite(reward))


def _slack(reward: np.ndarray, types: SampledTypes) -> float:
    finite = types.cost[np.isfinite(types.cost)]
    largest = max(float(np.max(np.abs(reward[_offered(reward)]))), float(np.max(finite)))
    return TOLERANCE * max(largest, TINY)


def _checked(reward: np.ndarray, types: SampledTypes) -> np.ndarray:
    reward = np.asarray(reward, float)
    if reward.shape != types.cost.shape[1:]:
        expected = f"a reward for each of 0 to {types.layers_max} layers"
        raise InputError("menu", "reward", expected, f"shape {reward.shape}")
    if reward[0] != 0.0 or np.any(np.isnan(reward) | (reward == np.inf)):
        expected = "0 for no layers, and numbers or minus infinity"
        raise InputError("menu", "reward", expected, f"{reward.tolist()}")
    return reward
