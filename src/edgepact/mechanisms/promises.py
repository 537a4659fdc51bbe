"""What mechanisms promise, so that an audit can say which promises an answer breaks.

Each mechanism states its promises once, next to its audit; an audit measures, and names in words
those that do not hold. What a mechanism does not promise may be found not to hold, such as a
truthful bid under a pay-as-bid rule, and that is no fault.
"""

from collections.abc import Iterable
from enum import StrEnum


class Promise(StrEnum):
    """A property that an answer may be promised to have; its value names it in an audit."""

    INDIVIDUALLY_RATIONAL = "individually_rational"
    INCENTIVE_COMPATIBLE = "incentive_compatible"
    BUDGET_BALANCED = "budget_balanced"
    MONOTONE = "monotone"

    @property
    def words(self) -> str:
        """As it is told to people."""
        return self.value.replace("_", " ")


def broken(audit: object, promised: Iterable[Promise]) -> tuple[str, ...]:
    """The promises that an audit found not to hold, in words.

    Args:
        audit: with a truth value of the name of each promise.
        promised: what the mechanism promises.
    """
    return tuple(each.words for each in promised if not getattr(audit, each.value))
