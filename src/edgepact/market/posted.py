"""The Stackelberg game at work in the live market: a price for each step of the amount.

Who answers takes the steps that leave it most, and is paid the price for each and for every unit
of work. A fixed price stands here; one that is quoted anew in each round stands in `quoted`,
which loads JAX.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepact.credits import PRICE_CREDITS_MAX, in_microcredits
from edgepact.engagement import Answer, Item, Question, posted, taken
from edgepact.errors import MarketError


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPrice:
    """The same price in every round.

    Attributes:
        price: credits per step and unit of work.
        steps_max: most steps, such as the layers of the model.
        saving: what the server saves by a step and unit, credits; None where nobody says.

    Example:
        >>> FixedPrice(price=1.5, steps_max=2).question(1).price_microcredits
        1500000
    """

    price: float
    steps_max: int
    saving: float | None = None

    def worth(self, amount: float) -> float | None:
        """What a unit saves the server at this amount, credits."""
        return None if self.saving is None else self.saving * amount

    def question(self, round: int) -> Question:
        """The price, whatever happened."""
        return posted(price_in_microcredits(self.price), self.steps_max)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Everybody for what it has taken."""
        return taken(question, answers)


def price_in_microcredits(price: float) -> int:
    """A price as it is posted.

    Raises:
        MarketError: not a number from 0 to the highest price that can be posted.
    """
    if not 0 <= price <= PRICE_CREDITS_MAX:
        raise MarketError(
            f"the mechanism named a price of {price}, expected 0 to {PRICE_CREDITS_MAX:g} credits"
        )
    return in_microcredits(price)
