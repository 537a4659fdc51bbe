"""A contract at work in the live market: the same menu in every round.

Who answers takes the item that is best for it, and is paid the item's reward for each unit of
work. How the menu was written is its mechanism's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepact.engagement import Answer, Item, Question, taken


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedMenu:
    """One menu for everybody and every round.

    Attributes:
        items: the server's favourites first: whoever is indifferent takes the first.
    """

    items: tuple[Item, ...]

    def question(self, round: int) -> Question:
        """The menu, whatever happened."""
        return Question(menu=self.items)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Everybody for what it has taken."""
        return taken(question, answers)
