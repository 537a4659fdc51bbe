r"""The seam of the mechanisms: what a round asks, what it hears, and who works for what.

A mechanism at work is an `Engagement`. The live market and the federation call it in the same way
and know nothing else of it::

    question(round)                   what everybody is asked
    engage(round, question, answers)  from the answers: who works how much, for which reward
    observe(finished)                 (if it learns) what became of a round

The variable that a resource-efficient method leaves open is one number, the *amount*: layers of a
model that a device runs, the rate at which an update is compressed, the epochs a client trains.
An `Item` is an amount and the reward for one unit of work done at it. Amount 0, for nothing, can
always be chosen and stands in no menu.

==============  ============================  ============================  =====================
mechanism       asks                          hears                         rewards
==============  ============================  ============================  =====================
posted price    a menu with a price a step    a place in the menu, or none  the item's
contract        a menu                        a place in the menu, or none  the item's
auction         a bid for each of some        least reward for each, none   what the auction pays
                amounts                       where it does not bid
nothing         nothing                       who is there                  none
==============  ============================  ============================  =====================

What a device answers is a claim: parsed and within bounds, and possibly a lie. The question of a
round is kept with the round and handed back to `engage`, so that a round that a crash interrupted
goes on as it was asked. Costs stay where they arise: no message has a field for them.

Amounts are floats here, since rates are. Where they count whole steps, the one who carries the
round (the market, the federation) converts them once, where it takes an assignment.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from edgepact.credits import MICRO, PRICE_CREDITS_MAX, REWARD_MICROCREDITS_MAX
from edgepact.errors import InputError, shown

ITEMS_MAX = 1000
"""Most items of a menu, and most amounts that bids are called for."""

AMOUNT_MAX = 1e6
"""Largest amount; real ones are layers, epochs, or shares of at most 1."""

UNITS_PER_ROUND_MAX = 100_000
"""Most units of work of one device in a round."""

TIE_MICROCREDITS = 2
"""Gains this close are equal: rewards are rounded to whole micro-credits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An amount of the open variable, for a reward.

    Attributes:
        amount: above 0 in a menu; 0 stands for nothing done beyond taking part.
        reward_microcredits: for one unit of work delivered at this amount.

    Raises:
        InputError: a value that cannot be.
    """

    amount: float
    reward_microcredits: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.amount <= AMOUNT_MAX:
            raise InputError("item", "amount", f"0 to {AMOUNT_MAX:g}", self.amount)
        if not 0 <= self.reward_microcredits <= REWARD_MICROCREDITS_MAX:
            expected = f"0 to {REWARD_MICROCREDITS_MAX}"
            raise InputError("item", "reward_microcredits", expected, self.reward_microcredits)


NOTHING = Item(amount=0.0, reward_microcredits=0)
"""Taking part with amount 0. In a split the server then runs the whole model for the device; in a
federation the client does not train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a round asks of everybody.

    Attributes:
        menu: items to choose from, the principal's favourites first: whoever is indifferent
            takes the first.
        bid_amounts: amounts for each of which one may say what it wants for a unit of work.
        price_microcredits: of one step of the amount, where the menu is a posted price; its
            items then follow from it.

    Raises:
        InputError: too many items, or an impossible amount.
    """

    menu: tuple[Item, ...] = ()
    bid_amounts: tuple[float, ...] = ()
    price_microcredits: int | None = None

    def __post_init__(self) -> None:
        if len(self.menu) > ITEMS_MAX or len(self.bid_amounts) > ITEMS_MAX:
            found = f"{len(self.menu)} and {len(self.bid_amounts)}"
            raise InputError("question", "menu, bid_amounts", f"at most {ITEMS_MAX}", found)
        for amount in (*self.bid_amounts, *(item.amount for item in self.menu)):
            if not 0.0 < amount <= AMOUNT_MAX:
                raise InputError("question", "amount", f"above 0, at most {AMOUNT_MAX:g}", amount)

    @property
    def tie_microcredits(self) -> int:
        """Gains this close are equal to whoever chooses: what rounding can have moved.

        A posted price is rounded once and multiplied by the steps, up to a micro-credit a step.
        """
        if self.price_microcredits is None:
            return TIE_MICROCREDITS
        return max(TIE_MICROCREDITS, len(self.menu))

    @property
    def immediate(self) -> bool:
        """Whether an answer settles what its sender does, whatever others say: so with a menu.
        Bids wait for each other."""
        return not self.bid_amounts


def posted(price_microcredits: int, steps_max: int, step: float = 1.0) -> Question:
    """A price for each step of the amount, the most steps first.

    Args:
        price_microcredits: of a step, for one unit of work.
        steps_max: most steps, such as the layers of the model.
        step: amount of one step.

    Raises:
        InputError: a price that cannot be posted.

    Example:
        >>> [(item.amount, item.reward_microcredits) for item in posted(5, 3).menu]
        [(3.0, 15), (2.0, 10), (1.0, 5)]
    """
    most = int(PRICE_CREDITS_MAX * MICRO)
    if not 0 <= price_microcredits <= most:
        raise InputError("question", "price_microcredits", f"0 to {most}", price_microcredits)
    menu = tuple(
        Item(amount=step * steps, reward_microcredits=price_microcredits * steps)
        for steps in range(steps_max, 0, -1)
    )
    return Question(menu=menu, price_microcredits=price_microcredits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a device says to a question.

    Attributes:
        item: place in the menu of what it takes; None for amount 0.
        bids_microcredits: least reward for a unit of work at each of the question's amounts;
            None where it does not bid.
        claims: further facts it states of itself, by name: examples held, seconds needed.
    """

    item: int | None = None
    bids_microcredits: tuple[int | None, ...] = ()
    claims: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of a round: all that a mechanism may learn from.

    Attributes:
        number: of the round, from 1.
        question: what was asked.
        answers: what was heard, by name.
        assigned: who was to work how much for what, by name; amounts above 0 only.
        units: units of work delivered and accepted, by name.
        paid_microcredits: by name.
    """

    number: int
    question: Question
    answers: Mapping[str, Answer]
    assigned: Mapping[str, Item]
    units: Mapping[str, int] = field(default_factory=dict)
    paid_microcredits: Mapping[str, int] = field(default_factory=dict)


Cost = Callable[[float], float]
"""What a unit of work at an amount costs whoever does it, micro-credits; infinite where it cannot.
Nothing done costs nothing: it is the gain over staying at amount 0 that is weighed."""


def chosen(question: Question, cost: Cost) -> int | None:
    """Place of the item that is best for whoever chooses; None if nothing is better.

    Of those that are equally good (see `Question.tie_microcredits`), the first.
    """
    gains = [item.reward_microcredits - cost(item.amount) for item in question.menu]
    least = max([0.0, *gains]) - question.tie_microcredits
    return next((at for at, gain in enumerate(gains) if gain >= least), None)


def taken(question: Question, answers: Mapping[str, Answer]) -> dict[str, Item]:
    """What those have taken that answered a menu: what its mechanism engages them for."""
    return {
        name: question.menu[answer.item]
        for name, answer in answers.items()
        if answer.item is not None
    }


def truthful_bids(
    amounts: Sequence[float], cost: Cost, *, claimed: float = 1.0
) -> tuple[int | None, ...]:
    """One's own cost of each amount, rounded up and at least 0; None where it cannot be done.

    `claimed` multiplies it: 1 is the truth.
    """
    bids: list[int | None] = []
    for amount in amounts:
        wanted = max(claimed * cost(amount), 0.0)  # nobody pays to be allowed to work
        within = wanted <= REWARD_MICROCREDITS_MAX
        bids.append(math.ceil(wanted - 1e-6) if within else None)
    return tuple(bids)


@runtime_checkable
class Engagement(Protocol):
    """A mechanism at work."""

    def question(self, round: int) -> Question:
        """What everybody is asked in a round, counted from 1."""
        ...

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Who works how much, by name: amounts above 0, of nobody but those that answered.

        With an immediate question it is called for each answer as it comes, and must not depend
        on who else has answered.
        """
        ...


@runtime_checkable
class Learning(Protocol):
    """A mechanism that uses what earlier rounds brought.

    `observe` is called once with each finished round, in order; after a restart with those that
    are on record, at most the last thousand, so that the mechanism itself need not be stored.
    """

    def observe(self, finished: Finished) -> None:
        """What became of a round."""
        ...


@runtime_checkable
class Valuing(Protocol):
    """A mechanism that may know what devices' work is worth to the server."""

    def worth(self, amount: float) -> float | None:
        """Of a unit done at this amount, before it is paid for, credits; None where it is not
        known, or hangs on what others do."""
        ...


@runtime_checkable
class PriceBounded(Protocol):
    """A mechanism whose prices an operator can bound while it is at work."""

    @property
    def price_bounds(self) -> tuple[float, float]:
        """Lowest and highest price, credits."""
        ...

    def bound_prices(self, low: float, high: float) -> None:
        """Names no other price from the next question on.

        Raises:
            MarketError: not from a micro-credit up, the first below the second, or more than can
                be posted.
        """
        ...


def check_engaged(
    engaged: Mapping[str, Item], answers: Mapping[str, Answer], *, amount_max: float, whole: bool
) -> None:
    """Holds what a mechanism has decided against what it may decide.

    Args:
        engaged: what `Engagement.engage` returned.
        answers: what it was given.
        amount_max: largest amount there is.
        whole: whether amounts count whole steps.

    Raises:
        InputError: somebody who did not answer, or an impossible amount.
    """
    for name, item in engaged.items():
        if name not in answers:
            raise InputError("engagement", "engage", "only those that answered", shown(name))
        if not 0.0 < item.amount <= amount_max or (whole and item.amount % 1.0):
            kind = "a whole number" if whole else "an amount"
            expected = f"{kind} above 0, at most {amount_max:g}"
            raise InputError("engagement", f"engage[{name}].amount", expected, item.amount)
