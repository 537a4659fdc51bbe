"""Auctions at work in the live market: bids for steps of the amount, weighed together.

Bids, savings and pay are whole micro-credits, so that the floats in which auctions compute are
exact, and the award is the one that anybody would reckon from the same bids.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.credits import MICRO, in_credits, in_microcredits
from edgepact.engagement import Answer, Finished, Item, Question
from edgepact.mechanisms.auction.supply_curves import BlockShare, SupplyVcg, relief_of
from edgepact.solvers.in_context.procuring import Buying, Ceilings, capped


@dataclass(frozen=True, slots=True, kw_only=True)
class Competition:
    """What makes bidders compete: less to do than they offer.

    Attributes:
        saving: what the server saves by a step that somebody else does, credits; of its own
            steps the first costs it so much.
        steps_max: most steps of one bidder.
        steps_total: most steps of all together; None for no limit.
        bidders_max: most bidders that do any; None for no limit. Not with another coupling.
        rise: by how much each further step that the server does itself costs it more than the
            one before, credits.

    Raises:
        InputError: couplings that do not go together.
    """

    saving: float
    steps_max: int
    steps_total: int | None = None
    bidders_max: int | None = None
    rise: float = 0.0

    def __post_init__(self) -> None:
        self.rule(1)

    def rule(self, bidders: int) -> SupplyVcg:
        """The auction for so many bidders, in credits."""
        return self._rule(bidders, self.saving, self.rise)

    def rule_in_microcredits(self, bidders: int) -> SupplyVcg:
        """The same in whole micro-credits."""
        saving, rise = in_microcredits(self.saving), in_microcredits(self.rise)
        return self._rule(bidders, float(saving), float(rise))

    def own_cost(self, bidders: int) -> Float[np.ndarray, " totals"]:
        """What 0, 1, ... steps cost the server that it does itself, credits."""
        return _own_cost(bidders * self.steps_max, self.saving, self.rise)

    def _rule(self, bidders: int, saving: float, rise: float) -> SupplyVcg:
        relief = None
        if rise > 0.0:
            relief = relief_of(_own_cost(bidders * self.steps_max, saving, rise))
        return SupplyVcg(
            saving=np.full(bidders, 0.0 if rise > 0.0 else saving),
            layers_max=self.steps_max,
            layers_total=self.steps_total,
            devices_max=self.bidders_max,
            relief=relief,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCurves:
    """A bid is a cost curve; most welfare over reported curves, everybody paid what it adds.

    Attributes:
        competition: what there is to do.
    """

    competition: Competition

    def worth(self, amount: float) -> float | None:
        """What a unit saves the server at this amount, credits; None where its own steps grow
        dearer, so that it hangs on what all do together."""
        return self.competition.saving * amount if self.competition.rise == 0.0 else None

    def question(self, round: int) -> Question:
        """A bid for each number of steps."""
        most = self.competition.steps_max
        return Question(bid_amounts=tuple(float(steps) for steps in range(1, most + 1)))

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Whoever is bought steps; in the order of names, so that ties are nobody's luck."""
        names = _bidding(answers)
        if not names:
            return {}
        curves = np.array(
            [[0.0, *_bids_of(answers[name], len(question.bid_amounts))] for name in names]
        )
        award = self.competition.rule_in_microcredits(len(names)).award(curves)
        return {
            name: Item(amount=float(steps), reward_microcredits=int(np.rint(paid)))
            for name, steps, paid in zip(names, award.layers, award.payments, strict=True)
            if steps > 0
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ByBlock:
    """Proportional share for a public block of steps: one number a bidder, within a budget.

    Attributes:
        saving: what the server saves by a step, credits; above 0.
        steps: of the block.
        budget: most credits to pay for one unit of work of everybody.
    """

    saving: float
    steps: int
    budget: float

    def worth(self, amount: float) -> float:
        """What a unit saves the server at this amount, credits."""
        return self.saving * amount

    def rule(self, bidders: int) -> BlockShare:
        """The auction for so many bidders, in credits."""
        return BlockShare(
            saving=np.full(bidders, self.saving), layers=self.steps, budget=self.budget
        )

    def question(self, round: int) -> Question:
        """A bid for the block."""
        return Question(bid_amounts=(float(self.steps),))

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Winners, paid by their thresholds; rounded down, which keeps the budget."""
        names = _bidding(answers)
        if not names:
            return {}
        bids = np.array([_bids_of(answers[name], 1)[0] for name in names])
        rule = BlockShare(
            saving=np.full(len(names), float(in_microcredits(self.saving))),
            layers=self.steps,
            budget=float(math.floor(self.budget * MICRO)),
        )
        award = rule.award(bids)
        return {
            name: Item(
                amount=float(self.steps),
                # A threshold is at least the bid, which is whole.
                reward_microcredits=max(int(bid), math.floor(paid + 1e-6)),
            )
            for name, bid, wins, paid in zip(names, bids, award.wins, award.payments, strict=True)
            if wins
        }


class LearntBlock:
    """Proportional share for a block, with ceilings on pay that are learnt from past bids.

    The auction is held among all bids, as without ceilings; then each winner is paid at most its
    own ceiling, which hangs on nothing that it ever bid, and drops out where it asks more.

    Args:
        block: the auction.
        buying: sets the ceilings, from the rounds so far.
    """

    def __init__(self, block: ByBlock, buying: Buying) -> None:
        self._block = block
        self._buying = buying

    def worth(self, amount: float) -> float:
        """What a unit saves the server at this amount, credits."""
        return self._block.worth(amount)

    def question(self, round: int) -> Question:
        """A bid for the block."""
        return self._block.question(round)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Winners that ask no more than their ceiling."""
        engaged = self._block.engage(round, question, answers)
        bids = self.heard(answers)
        return capped(engaged, bids, self._buying.ceilings(sorted(engaged)).most)

    def believed(self, answers: Mapping[str, Answer]) -> Ceilings:
        """The ceilings of all that answered, from the rounds so far."""
        return self._buying.ceilings(sorted(self.heard(answers)))

    def observe(self, finished: Finished) -> None:
        """Remembers what was bid."""
        heard = self.heard(finished.answers)
        self._buying.hear({name: in_credits(bid) for name, bid in heard.items()})

    @staticmethod
    def heard(answers: Mapping[str, Answer]) -> dict[str, int]:
        """What each bidder asks for the block, micro-credits, in the order of names."""
        first = {name: answers[name].bids_microcredits[0] for name in _bidding(answers)}
        return {name: bid for name, bid in first.items() if bid is not None}


def _bidding(answers: Mapping[str, Answer]) -> list[str]:
    return sorted(name for name, answer in answers.items() if answer.bids_microcredits)


def _bids_of(answer: Answer, amounts: int) -> list[float]:
    """Bids in micro-credits; infinity where supply is withheld."""
    bids = answer.bids_microcredits
    return [math.inf if bid is None else float(bid) for bid in bids[:amounts]]


def _own_cost(steps: int, saving: float, rise: float) -> np.ndarray:
    own = np.arange(steps + 1.0)
    return saving * own + rise * own * (own - 1.0) / 2.0
