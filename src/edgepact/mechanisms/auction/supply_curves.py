r"""Auctions in which a bid is a cost curve: what a device asks for 0, 1, 2, ... layers.

Layers cost a device increasing amounts, so one number does not say what it would do. It reports
$\hat c_n(L)$ for every number of layers; infinity withholds supply. `SupplyVcg` then chooses
layers that maximise

$$\sum_n \bigl( b_n L_n - \hat c_n(L_n) \bigr) + V\Bigl(\sum_n L_n\Bigr)$$

and pays every device what it adds, $\hat c_n(L_n) + W - W_{-n}$ with $W$ that maximum and $W_{-n}$
the one without the device (Clarke 1971): whatever the others report, it keeps $W - W_{-n}$ of its
true welfare, so no curve serves it better than the true one.

*Without anything that couples devices* the sum separates, each device is paid $b_n L_n$, all it
saves, and the server is left with nothing: truthful and useless. Devices compete if there is
less to do than they offer: at most so many layers, at most so many devices, or a server whose own
computing gets dearer at the margin, which makes $V$ concave (`relief`).

Curves that are convex, as true ones are, are merged layer by layer in order of what each adds;
others need a dynamic program over devices and layers. Both are exact. For a *public block* of
layers a bid is one number again, and `BlockShare` buys most savings for a budget.

NumPy only, float64. Theory: docs/theory/supply-curves.md.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from edgepact.errors import InputError
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.terms import Auction, Award, check_count

CELLS_MAX = 200_000_000
"""Most cells that a dynamic program may visit for the devices together: seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SupplyAward:
    """Who runs what and who is paid what.

    Attributes:
        layers: of each device; 0 for none.
        payments: to each device, credits a unit of work; 0 for no layers.
        welfare: what all this brings at the reported costs, over no trade; credits.
        saving: what it brings the server before it pays, credits.
    """

    layers: Int[np.ndarray, " devices"]
    payments: Float[np.ndarray, " devices"]
    welfare: float
    saving: float

    @property
    def profit(self) -> float:
        """What the server keeps, credits."""
        return self.saving - float(np.sum(self.payments))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SupplyVcg:
    """Most welfare over reported cost curves; each device is paid what it adds.

    Attributes:
        saving: b, what the server saves by a layer that a device runs, credits; a device each.
        layers_max: most layers of a device; curves have one number more.
        layers_total: most layers of all devices together; None for no limit.
        devices_max: most devices that run any; None for no limit. Not with another coupling.
        relief: V(Q), what Q layers bought are worth to the server beyond `saving`, credits, for
            Q = 0, 1, ...; V(0) = 0. None for nothing. `relief_of` has it from the server's cost.

    Raises:
        InputError: something is out of range.
    """

    saving: Float[np.ndarray, " devices"]
    layers_max: int
    layers_total: int | None = None
    devices_max: int | None = None
    relief: Float[np.ndarray, " totals"] | None = None

    def __post_init__(self) -> None:
        saving = np.asarray(self.saving)
        if saving.ndim != 1 or len(saving) == 0:
            raise InputError("auction", "saving", "one or more", f"shape {saving.shape}")
        for at in np.flatnonzero(~(np.isfinite(saving) & (saving >= 0.0)))[:1]:
            expected = "a finite number of at least 0"
            raise InputError("auction", f"saving[{at}]", expected, saving[at].item())
        for name in ("layers_max", "layers_total", "devices_max"):
            if (count := getattr(self, name)) is not None:
                check_count(name, count)
        if self.devices_max is not None and (self.layers_total, self.relief) != (None, None):
            expected = "neither layers_total nor relief beside it"
            raise InputError("auction", "devices_max", expected, "one of them")
        if self.relief is not None:
            relief, least = np.asarray(self.relief), self._most() + 1
            if relief.ndim != 1 or len(relief) < least:
                expected = f"at least {least} numbers, for 0, 1, ... layers bought"
                raise InputError("auction", "relief", expected, f"shape {relief.shape}")
            if not np.all(np.isfinite(relief)) or relief[0] != 0.0:
                raise InputError("auction", "relief", "finite numbers, the first 0", "others")

    @property
    def pays_prices(self) -> bool:
        """Whether a device is paid just the price of what it runs, whatever it reported."""
        return True

    def award(self, curves: Float[np.ndarray, "devices items"]) -> SupplyAward:
        """Holds the auction. Convex curves in O(n L log(n L)) and n passes, others in O(n^2 L^2).

        Args:
            curves: reported cost of 0, 1, ... layers, credits; the first is 0, none negative.

        Raises:
            InputError: a curve is impossible, or there are too many for a dynamic program.
        """
        surplus = self._surplus(curves)
        if self._merges(surplus):
            return self._settled(curves, *self._merged(surplus))
        return self._settled(curves, *self._programmed(surplus))

    def by_program(self, curves: Float[np.ndarray, "devices items"]) -> SupplyAward:
        """`award` by the dynamic program even where curves are convex: one checks the other."""
        return self._settled(curves, *self._programmed(self._surplus(curves)))

    def _settled(
        self, curves: np.ndarray, layers: np.ndarray, welfare: float, without: np.ndarray
    ) -> SupplyAward:
        """Every device is paid what it asked and what it added."""
        rows = np.arange(len(layers))
        asked = np.asarray(curves)[rows, layers]
        paid = np.where(layers > 0, asked + np.maximum(welfare - without, 0.0), 0.0)
        saving = float(np.asarray(self.saving) @ layers) + float(self._worth()[self._use(layers)])
        return SupplyAward(layers=layers, payments=paid, welfare=welfare, saving=saving)

    def prices(
        self, curves: Float[np.ndarray, "devices items"]
    ) -> Float[np.ndarray, "devices items"]:
        """What a device is paid for each number of layers, if it reports so that it runs them.

        It depends on the others' curves alone. Minus infinity where the coupling rules them out.
        This is all that a device can choose from, so the best lie of all is the best of these.
        """
        surplus = self._surplus(curves)
        before, after = self._tables(surplus)
        worth = self._worth()
        found = np.full(np.shape(curves), -np.inf)
        for own in range(len(surplus)):
            others = _joined(before[own], after[own + 1])
            none = float(np.max(others + worth))
            for layers in range(self.layers_max + 1):
                use = self._use(np.array([layers]))
                if use < len(worth):
                    best = float(np.max(others[: len(worth) - use] + worth[use:]))
                    found[own, layers] = best + self.saving[own] * layers - none
        found[:, 0] = 0.0
        return found

    def _most(self) -> int:
        """Most layers that can be bought of all."""
        all_layers = len(self.saving) * self.layers_max
        return all_layers if self.layers_total is None else min(self.layers_total, all_layers)

    def _use(self, layers: np.ndarray) -> int:
        """What so many layers take of the coupling: layers, or devices."""
        return int(np.count_nonzero(layers) if self.devices_max is not None else np.sum(layers))

    def _worth(self) -> Float[np.ndarray, " uses"]:
        """V by what is used of the coupling."""
        if self.devices_max is not None:
            return np.zeros(min(self.devices_max, len(self.saving)) + 1)
        return (
            np.zeros(self._most() + 1) if self.relief is None else self.relief[: self._most() + 1]
        )

    def _surplus(self, curves: np.ndarray) -> Float[np.ndarray, "devices items"]:
        """b L - c(L); minus infinity where supply is withheld."""
        curves = np.asarray(curves, float)
        shape = (len(self.saving), self.layers_max + 1)
        if curves.shape != shape:
            raise InputError("auction", "curves", f"shape {shape}", f"shape {curves.shape}")
        good = (curves >= 0.0) & ((np.arange(shape[1]) > 0) | (curves == 0.0))
        for at in np.flatnonzero(~good.all(axis=1))[:1]:
            expected = "0 for no layers, then numbers of at least 0"
            raise InputError("auction", f"curves[{at}]", expected, f"{curves[at].tolist()}")
        return np.outer(self.saving, np.arange(shape[1])) - curves

    def _merges(self, surplus: np.ndarray) -> bool:
        """Whether each further layer brings less, so that the best ones can be taken in turn."""
        if self.devices_max is not None:
            return True
        return bool(np.all(_concave(surplus)) and _concave(self._worth()[None])[0])

    def _merged(self, surplus: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Layers, welfare, and welfare without each device, by merging what layers add."""
        if self.devices_max is not None:
            best = np.argmax(surplus, axis=1)
            added = np.max(surplus, axis=1, keepdims=True)  # one choice a device, not a layer
        else:
            best = None
            with np.errstate(invalid="ignore"):
                added = np.diff(surplus, axis=1)
            added = np.where(np.isfinite(surplus[:, 1:]), added, -np.inf)
        owner = np.repeat(np.arange(len(surplus)), added.shape[1])
        order = np.argsort(-added.ravel(), kind="stable")
        ranked, whose = added.ravel()[order], owner[order]
        extra = np.diff(self._worth())
        taken = _worthwhile(ranked, extra)
        welfare = float(np.sum(ranked[:taken] + extra[:taken]))
        counts = np.bincount(whose[:taken], minlength=len(surplus))
        layers = counts if best is None else np.where(counts > 0, best, 0)
        without = np.full(len(surplus), welfare)
        for own in np.flatnonzero(layers):
            others = ranked[whose != own][: len(extra)]
            stays = _worthwhile(others, extra)
            without[own] = float(np.sum(others[:stays] + extra[:stays]))
        return layers, welfare, without

    def _programmed(self, surplus: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """The same by a dynamic program, for curves of any form."""
        before, after = self._tables(surplus)
        worth = self._worth()
        count = len(surplus)
        uses = [self._use(np.array([layers])) for layers in range(surplus.shape[1])]
        total = after[0] + worth
        welfare, left = float(np.max(total)), int(np.argmax(total))
        layers = np.zeros(count, int)
        for own in range(count):
            rest = np.array(
                [
                    surplus[own, at] + after[own + 1][left - use] if use <= left else -np.inf
                    for at, use in enumerate(uses)
                ]
            )
            chosen = int(np.argmax(rest))
            layers[own] = chosen
            left = left - uses[chosen]
        without = np.full(count, welfare)
        for runs in np.flatnonzero(layers):
            without[runs] = float(np.max(_joined(before[runs], after[runs + 1]) + worth))
        return layers, welfare, without

    def _tables(self, surplus: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Best surplus by what is used: of devices before each, and of those from it on."""
        size, count = len(self._worth()), len(surplus)
        cells = count * size * (size + 2 * surplus.shape[1])
        if cells > CELLS_MAX:
            expected = f"convex curves, or at most {CELLS_MAX} cells of a dynamic program"
            raise InputError("auction", "curves", expected, cells)
        none = np.where(np.arange(size) == 0, 0.0, -np.inf)
        before, after = [none], [none]
        for own in range(count):
            before.append(self._with_one_more(before[-1], surplus[own]))
            after.append(self._with_one_more(after[-1], surplus[count - 1 - own]))
        return before, after[::-1]

    def _with_one_more(self, table: np.ndarray, surplus: np.ndarray) -> np.ndarray:
        best = table.copy()
        for layers in range(1, len(surplus)):
            use = self._use(np.array([layers]))
            if use < len(table):
                np.maximum(best[use:], surplus[layers] + table[: len(table) - use], out=best[use:])
        return best


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SupplyPayAsBid:
    """As `SupplyVcg`, but each device is paid what it asks: the rule that invites to lie.

    Kept to be compared with, as `scoring.PayAsBid` is.
    """

    vcg: SupplyVcg

    @property
    def pays_prices(self) -> bool:
        """No: what it asked."""
        return False

    def award(self, curves: Float[np.ndarray, "devices items"]) -> SupplyAward:
        """The same layers, paid at the reported curves."""
        award = self.vcg.award(curves)
        asked = np.asarray(curves)[np.arange(len(award.layers)), award.layers]
        return replace(award, payments=np.where(award.layers > 0, asked, 0.0))

    def prices(
        self, curves: Float[np.ndarray, "devices items"]
    ) -> Float[np.ndarray, "devices items"]:
        """The most that a device may ask for each number of layers and still run them."""
        return self.vcg.prices(curves)


def relief_of(server_cost: Float[np.ndarray, " totals"]) -> Float[np.ndarray, " totals"]:
    """V from what 0, 1, ... layers cost the server that it runs itself; set `saving` to 0 then.

    Where the cost is convex, each further layer that is bought relieves it of a cheaper one.

    Args:
        server_cost: credits, up to all layers of all devices.

    Example:
        >>> relief_of(np.array([0.0, 1.0, 3.0, 6.0])).tolist()
        [0.0, 3.0, 5.0, 6.0]
    """
    return np.asarray(server_cost[-1] - server_cost[::-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockShare(Auction):
    """Proportional share for a public block of layers: a device runs all of it, or none.

    What a device bids is its cost of the block, one private number; `block_costs` reads it off a
    curve. Devices that ask more than the block saves do not take part, which also bounds what is
    paid: thresholds are those of `ProportionalShare`, at most the saving.

    Attributes:
        saving: b, what the server saves by a layer, credits; above 0, a device each.
        layers: of the block.
        budget: most credits to pay.

    Raises:
        InputError: something is out of range.
    """

    saving: Float[np.ndarray, " devices"]
    layers: int
    budget: float

    def __post_init__(self) -> None:
        check_count("layers", self.layers)
        self._share()  # checks the rest

    @property
    def bidders(self) -> int | None:
        """As many as savings."""
        return len(self.saving)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n log n)."""
        share, bids = self._share(), self._checked(bids)
        award = share.award(np.where(bids <= share.values, bids, np.inf))
        assert award.unit_price is not None
        unit = np.asarray(np.minimum(award.unit_price, 1.0))
        paid = np.where(award.wins, np.minimum(award.payments, share.values), 0.0)
        return Award(wins=award.wins, payments=paid, unit_price=unit)

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Those of proportional share, and what the block saves."""
        share, bids = self._share(), self._checked(bids)
        points = share.critical_bids(bids)
        points = np.where(np.isfinite(points), points, 0.0)
        reserve = np.broadcast_to(share.values, bids.shape)[..., None]
        return np.concatenate([points, reserve], axis=-1)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """What is left of the budget."""
        return self._share().spare(award)

    def _share(self) -> ProportionalShare:
        return ProportionalShare(values=np.asarray(self.saving) * self.layers, budget=self.budget)


def block_costs(
    curves: Float[np.ndarray, "devices items"], layers: int
) -> Float[np.ndarray, " devices"]:
    """What a block of so many layers costs each device; infinity if it cannot run it."""
    return np.asarray(curves)[:, layers]


def _concave(rows: np.ndarray) -> np.ndarray:
    """Whether each row is concave; exactly, so that the greedy choice is the best one."""
    with np.errstate(invalid="ignore"):
        step = np.diff(rows, axis=1)
    step = np.where(np.isfinite(rows[:, 1:]), step, -np.inf)
    return np.all(step[:, 1:] <= step[:, :-1], axis=1)


def _worthwhile(added: np.ndarray, extra: np.ndarray) -> int:
    """How many of falling additions to take; what is added beyond falls too."""
    most = min(len(added), len(extra))
    return int(np.count_nonzero(np.logical_and.accumulate(added[:most] + extra[:most] > 0.0)))


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Best of two groups of devices by what they use together."""
    size = len(one)
    padded = np.concatenate([np.full(size - 1, -np.inf), other])
    # Row q holds other[q - k] for k = 0, 1, ...; what would be before its start is ruled out.
    shifted = np.lib.stride_tricks.sliding_window_view(padded, size)[:, ::-1]
    return np.asarray(np.max(one + shifted, axis=1))
