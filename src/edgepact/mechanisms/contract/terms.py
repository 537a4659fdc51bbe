r"""What is given in a contract, and the menu that answers it.

A principal buys quality from $N$ devices of $K$ types. A device of type $k$ bears
$\psi_k c(q)$ for quality $q$ and keeps $\psi_k$ to itself; the principal knows only how
frequent each type is, $p_k$. It offers a menu of items $(q_k, R_k)$ and every device takes
what suits it best, or nothing: `responses`. The menu that earns most is in `optimum`.

NumPy and SciPy only, float64, so that devices and servers need no JAX for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError, check_choice, check_count, shown
from edgepact.fields import as_numbers, check_number
from edgepact.mechanisms.contract.quality import (
    COST_FORMS,
    CostForm,
    Value,
)

DEVICES_MAX = 10**9
"""Most devices of a contract."""

PROBABILITY_SLACK = 1e-6
"""How far probabilities may be from a sum of 1: files round them."""


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
        as_columns(self)
        check_scalars(self)
        psi = self.psi
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
        check_choice("contract", "cost", self.cost, COST_FORMS)
        if not 0.0 <= self.quality_min < self.quality_max < np.inf:
            found = f"{self.quality_min:g}, {self.quality_max:g}"
            raise InputError("contract", "quality_min, quality_max", "0 <= min < max", found)
        values = self.value
        if isinstance(values, Value):
            return
        if not isinstance(values, list | tuple) or not all(isinstance(v, Value) for v in values):
            raise InputError("contract", "value", "a Value, or a list of one a type", shown(values))
        if len(values) != len(psi):
            raise InputError("contract", "value", f"one, or {len(psi)}", len(values))

    def worth(self, quality: Float[np.ndarray, " types"]) -> Float[np.ndarray, " types"]:
        """What each type's quality is worth to the principal, credits."""
        if isinstance(self.value, Value):
            values = np.asarray(self.value.at(quality))
        else:
            values = np.array([v.at(q) for v, q in zip(self.value, quality, strict=True)])
        return values if self.value_scale is None else self.value_scale * values


def as_columns(contract: Any) -> None:
    """Has a contract's lists of numbers be arrays; of one with several costs a type too.

    Raises:
        InputError: they are no numbers.
    """
    for name in ("psi", "probability", "value_scale"):
        column = getattr(contract, name)
        if column is not None or name != "value_scale":
            object.__setattr__(contract, name, as_numbers("contract", name, column))


def check_scalars(contract: Any) -> None:
    """Raises InputError for one that is no number, or out of range by itself."""
    check_count("contract", "devices", contract.devices, most=DEVICES_MAX)
    for name in ("quality_min", "quality_max", "participation_cost", "budget"):
        number = getattr(contract, name)
        if number is not None or name != "budget":
            check_number("contract", name, number, least=0.0, sized=False)


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
