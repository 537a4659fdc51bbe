"""What a server knows of a fleet, and what finds prices for it from the answers so far.

It loads NumPy and nothing of the games themselves, so that a market that quotes starts at once.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.satisfaction import Satisfaction

if TYPE_CHECKING:
    from edgepact.mechanisms.stackelberg.terms import Game

SOURCE = "observed rounds"
"""Where bad observations are said to come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What only some methods are told: how devices decide, though not their costs.

    Attributes:
        satisfaction: S.
        A: GMAC per layer.
        B: GMAC before the first layer.
    """

    satisfaction: Satisfaction
    A: float
    B: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a server knows of a fleet before it has seen an answer.

    Attributes:
        saving: b, what it saves per layer that a device runs, credits.
        layers_max: layers of the model.
        price_min, price_max: range it may post, credits per layer.
        devices: number of devices.
        integer: whether devices run whole layers.
        form: how devices decide, or None for methods that do not know it.
    """

    saving: float
    layers_max: int
    price_min: float
    price_max: float
    devices: int
    integer: bool
    form: Form | None = None

    @staticmethod
    def of(game: "Game", *, form: bool) -> "Known":
        """What is public in a game; `form` tells also how devices decide.

        Raises:
            InputError: devices differ in A or B, or the lowest price is 0.
        """
        A, B = game.fleet.A, game.fleet.B
        if len(game.fleet) == 0 or np.ptp(A) > 0 or np.ptp(B) > 0:
            raise InputError("game", "fleet", "devices with one A and one B", "others")
        if not 0 < float(game.price_min) < float(game.price_max):
            raise InputError("game", "price_min", "a price above 0", float(game.price_min))
        return Known(
            saving=float(game.beta * A[0]),
            layers_max=game.layers_max,
            price_min=float(game.price_min),
            price_max=float(game.price_max),
            devices=len(game.fleet),
            integer=game.integer,
            form=Form(satisfaction=game.satisfaction, A=float(A[0]), B=float(B[0]))
            if form
            else None,
        )

    @staticmethod
    def of_any(game: "Game", *, source: object) -> "Known":
        """What is public in any game, for methods that need not know how devices decide.

        Where 0 may be posted, the lowest price is `LEAST_SHARE` of what a layer saves:
        prices are looked for on scales that 0 has no place on, and it buys next to
        nothing (`least_price`). Of devices that save the server different amounts per
        layer the mean counts.

        Args:
            game: devices may differ in A and B.
            source: where the game stands, for errors.

        Raises:
            InputError: no price above 0 is worth posting.
        """
        from edgepact.mechanisms.stackelberg.score import least_price

        saving, high = float(np.mean(game.saving)), float(game.price_max)
        if not saving > 0:
            raise InputError(source, "server.beta", "a cost of computing above 0", saving)
        if not high > 0:
            raise InputError(source, "server.price_max", "a price above 0", high)
        return Known(
            saving=saving,
            layers_max=game.layers_max,
            price_min=float(least_price(game)),
            price_max=high,
            devices=len(game.fleet),
            integer=game.integer,
        )

    @property
    def price_top(self) -> float:
        """Highest price worth posting: above what a layer saves, every layer is a loss."""
        return max(self.price_min, min(self.price_max, self.saving))

    def price_at(self, position: float) -> float:
        """Price at a position in [0, 1] on the logarithmic scale of prices worth posting."""
        price = self.price_min * (self.price_top / self.price_min) ** position
        return float(min(max(price, self.price_min), self.price_top))

    def position_of(self, prices: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
        """Positions of prices; all 0 where only one price is worth posting."""
        width = np.log(self.price_top / self.price_min)
        return np.log(prices / self.price_min) / (width if width > 0 else 1.0)


@runtime_checkable
class Quoter(Protocol):
    """A way to quote. Fields are its configuration; it keeps no memory of its own."""

    knows_form: ClassVar[bool]
    """Whether it must be told how devices decide."""

    knows_absence: ClassVar[bool]
    """Whether it tells a device that was away from one that sold nothing; see `ask`."""

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
        present: Bool[np.ndarray, "rounds devices"] | None = None,
    ) -> float:
        """The next price, credits per layer.

        Args:
            seed: of this fleet, the same in every round.
            known: what is public.
            prices: posted so far, the first round first.
            layers: what the devices that are here now answered.
            present: whether they were here then; always if None. Methods that do not
                know absence look at `layers` only.

        Raises:
            InputError: an observation is not a possible one.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """All that a quoter is shown, checked.

    Attributes:
        seed: of this fleet, the same in every round.
        known: what is public.
        prices: posted so far, the first round first.
        layers: what the devices that are here now answered.
        present: whether they were here then.
        profits: what each round brought in.
    """

    seed: int
    known: Known
    prices: Float[np.ndarray, " rounds"]
    layers: Float[np.ndarray, "rounds devices"]
    present: Bool[np.ndarray, "rounds devices"]
    profits: Float[np.ndarray, " rounds"]

    def __len__(self) -> int:
        return len(self.prices)


class Rival(ABC):
    """A `Quoter` that says only how it decides; being asked is said here, once for all rivals."""

    __slots__ = ()
    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False

    @abstractmethod
    def next_price(self, seen: Rounds) -> float:
        """The next price, credits per layer."""

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
        present: Bool[np.ndarray, "rounds devices"] | None = None,
    ) -> float:
        """As `Quoter.quote`."""
        earned = profits(known, prices, layers)
        if present is None:
            present = np.ones(layers.shape, dtype=bool)
        return self.next_price(
            Rounds(
                seed=seed,
                known=known,
                prices=prices,
                layers=layers,
                present=present,
                profits=earned,
            )
        )


def ask(
    quoter: Quoter,
    seed: int,
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    layers: Float[np.ndarray, "rounds devices"],
    present: Bool[np.ndarray, "rounds devices"],
    means: Float[np.ndarray, " rounds"],
) -> float:
    """The next price for a fleet whose devices were not all here in every round.

    A method that knows absence is told of it, and is spared rounds in which nobody took
    part who is here now. For others the mean answer of a round stands in for those that
    are missing, which is what a server could do for them; it is no answer of anybody.

    Args:
        quoter: the method.
        seed: of this fleet, the same in every round.
        known: what is public of the devices that are here now.
        prices: posted so far, the first round first.
        layers: what those devices answered; where they were away, anything.
        present: whether they were here then.
        means: mean answer of all who were there in a round, also of who has left since.

    Raises:
        InputError: an observation is not a possible one.
    """
    if quoter.knows_absence:
        some = present.any(axis=1)
        answers = np.where(present, layers, 0.0)[some]
        return quoter.quote(seed, known, prices[some], answers, present[some])
    filled = (np.round(means) if known.integer else means)[:, None]
    return quoter.quote(seed, known, prices.copy(), np.where(present, layers, filled))


def profits(
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    layers: Float[np.ndarray, "rounds devices"],
) -> Float[np.ndarray, " rounds"]:
    """What buying layers brought in each round seen, `(b - P) sum_n L_n`, credits.

    Raises:
        InputError: a price or an answer is impossible; every quoter checks by this.
    """
    if layers.shape != (len(prices), known.devices):
        shape = f"{len(prices)} x {known.devices}"
        raise InputError(SOURCE, "layers", f"rounds x devices, {shape}", str(layers.shape))
    bad = ~(np.isfinite(prices) & (prices > 0))
    if np.any(bad):
        where = int(np.argmax(bad))
        raise InputError(SOURCE, f"prices[{where}]", "a number above 0", float(prices[where]))
    wrong = ~((layers >= 0) & (layers <= known.layers_max))
    if known.integer:
        wrong |= layers != np.floor(layers)
    if np.any(wrong):
        row, column = (int(at) for at in np.argwhere(wrong)[0])
        kind = "whole layers" if known.integer else "layers"
        raise InputError(
            SOURCE,
            f"layers[{row}][{column}]",
            f"{kind} from 0 to {known.layers_max}",
            float(layers[row, column]),
        )
    return (known.saving - prices) * layers.sum(axis=1)
