"""What a client does in a round, and which part of it the mechanism prices.

An amount of the seam (`edgepact.engagement`) is one number. Where updates are compressed it is the
*rate* of an update and everybody trains one epoch; where local work is bought it is the *epochs* a
client trains, whole ones, and all updates have one rate.
"""

from dataclasses import dataclass
from typing import Literal

from edgepact.errors import InputError

EPOCHS_MAX = 100
"""Most epochs of a client in a round."""

Priced = Literal["rate", "epochs"]
"""The variable that an amount stands for."""

PRICED: tuple[Priced, ...] = ("rate", "epochs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundWork:
    """A client's work in a round.

    Attributes:
        rate: of its update, a share of the bytes of float32, in (0, 1].
        epochs: it trains before, 1 or more.

    Raises:
        InputError: a value that cannot be.
    """

    rate: float = 1.0
    epochs: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise InputError("work", "rate", "above 0, at most 1", self.rate)
        if not 1 <= self.epochs <= EPOCHS_MAX:
            raise InputError("work", "epochs", f"1 to {EPOCHS_MAX}", self.epochs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """Which part of the work an amount is.

    Attributes:
        priced: the part.
        rate: of every update where epochs are priced.
    """

    priced: Priced = "rate"
    rate: float = 1.0

    @property
    def amount_max(self) -> float:
        """Largest amount there is."""
        return 1.0 if self.priced == "rate" else float(EPOCHS_MAX)

    @property
    def whole(self) -> bool:
        """Whether amounts count whole steps."""
        return self.priced == "epochs"

    def work(self, amount: float) -> RoundWork:
        """What a client does that was assigned an amount.

        Raises:
            InputError: an amount that cannot be.
        """
        if self.priced == "rate":
            return RoundWork(rate=amount)
        if amount % 1.0:
            raise InputError("work", "epochs", "a whole number", amount)
        return RoundWork(rate=self.rate, epochs=int(amount))

    def amount(self, work: RoundWork) -> float:
        """The part of the work that is priced."""
        return work.rate if self.priced == "rate" else float(work.epochs)


RATES = Variable()
"""Rates are priced: the only choice where nothing else is said."""
