"""Who trains in a round, at which compression rate, and for what: the seam of the mechanisms.

This is the framework's step 2 seen from step 4. A mechanism is an `Engagement`; the server calls
it twice a round and knows nothing else of it::

    question(round)         what every client is asked: a contract's menu, a call for bids, both,
                            or nothing but whether it is there
    engage(round, answers)  from the answers, who trains at which rate for which reward

========================  ==========================  ==================  =====================
mechanism                 asks                        hears               rewards
========================  ==========================  ==================  =====================
everyone, a random share  nothing                     who is there        none
contract                  `menu`                      `item`              the item's
auction                   `bid_rates`, one rate       `bids_microcredits` what the auction pays
posted pay, a selector    `menu`, one item            `item`, data, time, the item's
                                                      `loss`
posted price              `menu`, steps of the rate   `item`              the item's
auction with a contract   `menu` and `bid_rates`      both                the item's or the
                                                                          auction's, by client
========================  ==========================  ==================  =====================

Whatever a client answers is a claim, parsed and within bounds but possibly a lie; answers of
clients that were not asked, or came twice, never reach a mechanism. Both calls must be functions
of their arguments and of what the mechanism was made from: a round that a crash has interrupted
is asked again. A mechanism that learns from round to round also has `observe` (see `Learning`).

The cost of a client stands in `PrivateCost`. It lives where the client lives, and no message has
a field for it: what leaves the client is a choice or a bid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from edgepact.errors import InputError
from edgepact.mechanisms.contract.quality import COST_FORMS, CostForm, cost_of

if TYPE_CHECKING:
    from edgepact.training.federated.rounds import Round

MICRO = 1_000_000
"""Micro-credits in a credit."""

REWARD_MICROCREDITS_MAX = 10**15
"""Largest reward or bid of one update."""

ITEMS_MAX = 1000
"""Most items of a menu, and most rates that bids are called for."""

TIE_MICROCREDITS = 2
"""Gains this close are equal to a client: rewards are rounded to whole micro-credits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An update at a compression rate, for a reward.

    Attributes:
        rate: share of the bytes of float32, in (0, 1].
        reward_microcredits: for an accepted update.
    """

    rate: float
    reward_microcredits: int

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise InputError("item", "rate", "above 0, at most 1", self.rate)
        if not 0 <= self.reward_microcredits <= REWARD_MICROCREDITS_MAX:
            expected = f"0 to {REWARD_MICROCREDITS_MAX}"
            raise InputError("item", "reward_microcredits", expected, self.reward_microcredits)


Assignment = Item
"""What a client is told to do: the rate it sends at, and what an accepted update earns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a round asks of every client.

    Attributes:
        menu: items to choose from, the principal's favourites first: a client that is
            indifferent takes the first.
        bid_rates: rates for each of which a client may say what it wants for an update.
    """

    menu: tuple[Item, ...] = ()
    bid_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.menu) > ITEMS_MAX or len(self.bid_rates) > ITEMS_MAX:
            found = f"{len(self.menu)} and {len(self.bid_rates)}"
            raise InputError("question", "menu, bid_rates", f"at most {ITEMS_MAX}", found)
        for rate in self.bid_rates:
            if not 0.0 < rate <= 1.0:
                raise InputError("question", "bid_rates", "above 0, at most 1", rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client says to a question.

    Attributes:
        item: place in the menu of what it takes; None for nothing.
        bids_microcredits: least reward for an update at each of the question's rates; None where
            it does not bid.
        examples: images it claims to hold.
        compute_s: how long training takes it: a simulated clock, or its last round's; 0 before
            the first.
        upload_s: how long sending takes it, likewise.
        loss: root mean square of its images' losses when it last trained; None before.
    """

    item: int | None = None
    bids_microcredits: tuple[int | None, ...] = ()
    examples: int = 1
    compute_s: float = 0.0
    upload_s: float = 0.0
    loss: float | None = None


@runtime_checkable
class Engagement(Protocol):
    """A mechanism: what is asked, and who trains for what."""

    def question(self, round: int) -> Question:
        """What every client is asked in a round, counted from 1."""
        ...

    def engage(self, round: int, answers: Mapping[str, Answer]) -> dict[str, Assignment]:
        """Who trains, by name. Nobody but clients that answered; within the round's budget."""
        ...


@runtime_checkable
class Learning(Protocol):
    """A mechanism that uses what earlier rounds brought.

    `observe` is called once with each finished round, in order; after a restart with all that
    the checkpoint holds, so that the mechanism need not be stored.
    """

    def observe(self, round: "Round") -> None:
        """What became of a round: who was engaged, accepted, rejected, and the accuracy."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone:
    """No incentive: a random share of those present trains at one rate, unpaid.

    Attributes:
        per_round: how many train at most; None for all.
        rate: of everybody.
        seed: of the draws.
    """

    per_round: int | None = None
    rate: float = 1.0
    seed: int = 0

    def question(self, round: int) -> Question:
        """Nothing but whether a client is there."""
        return Question()

    def engage(self, round: int, answers: Mapping[str, Answer]) -> dict[str, Assignment]:
        """A random share at the common rate."""
        named = drawn(answers, self.per_round, seed=self.seed, round=round)
        return {name: Assignment(rate=self.rate, reward_microcredits=0) for name in named}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateCost:
    r"""What an update costs a client, $\psi\,c(\text{rate})$ and a fixed part. It stays there.

    Attributes:
        psi: credits per unit of c(rate).
        form: of c.
        participation_credits: for taking part at all.
    """

    psi: float = 0.0
    form: CostForm = "linear"
    participation_credits: float = 0.0

    def __post_init__(self) -> None:
        for name in ("psi", "participation_credits"):
            if not 0.0 <= getattr(self, name) < 1e9:
                raise InputError("client", name, "0 to 1e9", getattr(self, name))
        if self.form not in COST_FORMS:
            raise InputError("client", "form", f"one of {', '.join(COST_FORMS)}", self.form)

    def microcredits(self, rate: float) -> float:
        """Cost of an update at a rate."""
        return MICRO * (self.psi * float(cost_of(self.form, rate)) + self.participation_credits)


def chosen(menu: Sequence[Item], cost: PrivateCost) -> int | None:
    """Place of the item that is best for a client; None if all of them cost it more.

    The first of those that are equally good, see `TIE_MICROCREDITS`.
    """
    gains = [item.reward_microcredits - cost.microcredits(item.rate) for item in menu]
    best = max(gains, default=-np.inf)
    if best < -TIE_MICROCREDITS:
        return None
    return next(at for at, gain in enumerate(gains) if gain >= best - TIE_MICROCREDITS)


def bids(rates: Sequence[float], cost: PrivateCost, *, claimed: float = 1.0) -> tuple[int, ...]:
    """A client's own cost of each rate, rounded up to whole micro-credits.

    `claimed` multiplies it; 1 is the truth.
    """
    return tuple(int(np.ceil(claimed * cost.microcredits(rate) - 1e-6)) for rate in rates)


def drawn(names: Mapping[str, object], most: int | None, *, seed: int, round: int) -> list[str]:
    """At most so many of the names, drawn at random, in a random order."""
    order = np.random.default_rng([seed, round, 0xE6]).permutation(len(names))
    ordered = sorted(names)
    return [ordered[at] for at in order[: len(names) if most is None else most]]
