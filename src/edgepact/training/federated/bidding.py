"""Engaging by auction: clients bid what an update costs them, winners train and are paid.

`ByAuction` buys updates at one rate within a round's budget (proportional share: truthful, and
never over the budget). `BySecondScore` buys updates at any rate of a list, each client at the
rate at which it is worth most for what it asks: an auction and compression in one. Both are
truthful round by round; what a client is worth comes from its data, speed and loss as the
server sees them, and from nothing that it bids.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from edgepact.credits import MICRO
from edgepact.efficiency.selection import Candidates, worth
from edgepact.engagement import Answer, Finished, Item, Question
from edgepact.errors import InputError
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.solvers.in_context.procuring import Buying, capped
from edgepact.training.federated.standing import Standing

SLACK_CREDITS = 2.0 / MICRO
"""Bids and pay are whole micro-credits: so much is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByAuction:
    """The proportional-share auction over updates of one rate.

    Attributes:
        budget_microcredits: of a round.
        rate: compression rate of everybody.
        preferred_s: seconds of a round up to which a client is not slow.
        fading: what a client that trained in the last round is worth of what it would be if it
            had not; the rest comes back round by round. Data that was just learnt from teaches
            less, and an auction without this buys the same cheap clients for ever.
        standing: what was seen of the clients.
        buying: sets the most that a client of typical worth is paid, from past bids of others;
            others in proportion to their worth. None for no such ceiling.
    """

    budget_microcredits: int
    rate: float = 1.0
    preferred_s: float = math.inf
    fading: float = 0.25
    standing: Standing = field(default_factory=Standing)
    buying: Buying | None = None

    def __post_init__(self) -> None:
        if self.budget_microcredits < 1:
            raise InputError("train", "budget", "credits above 0", self.budget_microcredits)
        if not 0.0 < self.fading <= 1.0:
            raise InputError("auction", "fading", "above 0, at most 1", self.fading)

    def question(self, round: int) -> Question:
        """A bid for an update."""
        return Question(bid_amounts=(self.rate,))

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """The winners, each at its threshold, rounded down to whole micro-credits.

        A winner's threshold is at least its bid, and bids are whole, so rounding takes nobody
        below its bid.
        """
        bids = {
            name: answer.bids_microcredits[0]
            for name, answer in answers.items()
            if answer.bids_microcredits[0] is not None
        }
        if not bids:
            return {}
        seen = self.standing.candidates(round, {name: answers[name] for name in bids})
        values = rested_worth(seen, preferred_s=self.preferred_s, fading=self.fading)
        auction = ProportionalShare(values=values, budget=float(self.budget_microcredits))
        award = auction.award(np.array(list(bids.values()), float))
        engaged = {
            name: Item(amount=self.rate, reward_microcredits=_whole(award.payments[at]))
            for at, name in enumerate(bids)
            if award.wins[at]
        }
        if self.buying is None:
            return engaged
        relative = dict(zip(bids, values / np.mean(values), strict=True))
        most = self.buying.ceilings(list(engaged)).most
        return capped(engaged, bids, {name: relative[name] * most[name] for name in engaged})

    def observe(self, finished: Finished) -> None:
        """Remembers who took part, and what was asked."""
        self.standing.observe(finished)
        if self.buying is not None:
            self.buying.hear(self.asked(finished.answers))

    def asked(self, answers: Mapping[str, Answer]) -> dict[str, float]:
        """What each bidder asks for an update, credits."""
        first = {name: answer.bids_microcredits[0] for name, answer in answers.items()}
        return {name: bid / MICRO for name, bid in first.items() if bid is not None}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BySecondScore:
    """The second-score auction over updates of several rates.

    A client's score is the most that any rate leaves, the rate's worth less the bid; the highest
    positive scores win, each trains at its best rate and is paid that rate's worth less the
    highest losing score (Che 1993). So it is paid at least its bid, and no bid but the true
    ones does better for it.

    Attributes:
        rates: on which clients bid.
        worth_credits: of a typical client's update at each rate, credits.
        per_round: winners at most.
        preferred_s, fading: as in `ByAuction`.
        standing: what was seen of the clients.
        buying: sets the least score that engages a client of typical worth, from past bids of
            others, as a ceiling on what the rate worth most is paid; of other clients in
            proportion to their worth. None for none.
    """

    rates: tuple[float, ...]
    worth_credits: tuple[float, ...]
    per_round: int
    preferred_s: float = math.inf
    fading: float = 0.25
    standing: Standing = field(default_factory=Standing)
    buying: Buying | None = None

    def __post_init__(self) -> None:
        if len(self.rates) != len(self.worth_credits) or not self.rates:
            found = f"{len(self.rates)} and {len(self.worth_credits)}"
            raise InputError(
                "auction", "rates, worth_credits", "as many of both, 1 at least", found
            )
        if not all(0.0 <= each < 1e9 for each in self.worth_credits):
            raise InputError("auction", "worth_credits", "0 to 1e9 credits", "others")

    def question(self, round: int) -> Question:
        """A bid for an update at each rate."""
        return Question(bid_amounts=self.rates)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """The winners, each at its best rate."""
        if not answers:
            return {}
        names = list(answers)
        bids = np.array(
            [
                [np.inf if bid is None else bid / MICRO for bid in answers[name].bids_microcredits]
                for name in names
            ]
        )
        seen = self.standing.candidates(round, answers)
        relative = rested_worth(seen, preferred_s=self.preferred_s, fading=self.fading)
        value = np.outer(relative / np.mean(relative), self.worth_credits)
        left = value - bids
        best = np.argmax(left, axis=1)
        score = left[np.arange(len(names)), best]
        order = np.argsort(-score, kind="stable")
        winners = [at for at in order[: self.per_round] if score[at] > 0.0]
        losing = max(float(score[order[len(winners)]]), 0.0) if len(winners) < len(order) else 0.0
        least = np.zeros(len(names))
        if self.buying is not None:
            most = self.buying.ceilings(names).most
            floor = max(self.worth_credits) - np.array([most[name] for name in names])
            least = relative / np.mean(relative) * floor
        engaged = {}
        for at in winners:
            paid = value[at, best[at]] - max(losing, float(least[at]))
            asked = bids[at, best[at]]
            # Who asks just what would be paid is engaged: bids are rounded up.
            if asked <= paid + SLACK_CREDITS:
                reward = max(_whole(paid * MICRO), int(np.rint(asked * MICRO)))
                engaged[names[at]] = Item(amount=self.rates[best[at]], reward_microcredits=reward)
        return engaged

    def observe(self, finished: Finished) -> None:
        """Remembers who took part, and what was asked."""
        self.standing.observe(finished)
        if self.buying is not None:
            self.buying.hear(self.asked(finished.answers))

    def asked(self, answers: Mapping[str, Answer]) -> dict[str, float]:
        """What each bidder asks, credits, were each rate worth as much as the one worth most.

        That is the worth of this rate less the score of a client of typical worth.
        """
        found = {}
        for name, answer in answers.items():
            bids = zip(self.worth_credits, answer.bids_microcredits, strict=True)
            each = [
                max(self.worth_credits) - worth + bid / MICRO
                for worth, bid in bids
                if bid is not None
            ]
            if each:
                found[name] = min(each)
        return found


def rested_worth(
    seen: Candidates, *, preferred_s: float, fading: float
) -> Float[np.ndarray, " clients"]:
    """What each client is worth now, in images: its `worth`, less what it has just taught."""
    idle = np.where(seen.last_round > 0, seen.round - seen.last_round, np.inf)
    # One round after training `fading` is left, and the rest comes back by that factor a round.
    return worth(seen, preferred_s=preferred_s) * (1.0 - (1.0 - fading) ** idle)


def _whole(microcredits: float) -> int:
    """Down to whole micro-credits; what sums and products are off by does not cost one."""
    return math.floor(microcredits * (1.0 + 1e-12) + 1e-6)
