"""Step 3 of pacts that train by auction: the rule decides, round by round, and what it may pay."""

from dataclasses import dataclass

from edgepact.credits import MICRO
from edgepact.engagement import Engagement
from edgepact.framework import Json, Sheet
from edgepact.training.federated.bidding import ByAuction, BySecondScore
from edgepact.training.federated.config import EXACT, LEARNT
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.simulated import Simulated, name_of
from edgepact.training.federated.work import RATES

RULE = "The rule itself: thresholds are exact for any bids, nothing is left to search"

CEILINGS = f"The rule, with the most that is paid to each set by {LEARNT} from the bids of others"


@dataclass(frozen=True, slots=True)
class Rule:
    """The auction's own rule; whom it chose is told with the rounds.

    Attributes:
        solver: what sets the most that is paid, if anything does.
    """

    solver: str = EXACT

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """None before the first round."""
        return ()

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": self.solver}


def awards(
    history: tuple[Round, ...], fleet: Simulated, engagement: Engagement | None = None
) -> Sheet:
    """Who won what in each round, beside what it cost them.

    Args:
        history: the rounds.
        fleet: the clients with their costs.
        engagement: the mechanism, new: it has seen no round. With ceilings on pay they are set
            again from the rounds before, as they were then, and told.
    """
    cost = {name_of(number): fleet.cost(number) for number in range(fleet.clients)}
    told = _Ceilings.of(engagement)
    rows = []
    for played in history[1:]:
        promised = sum(each.reward_microcredits for each in played.deliveries) / MICRO
        own = sum(cost[each.client].microcredits(each.rate) for each in played.deliveries) / MICRO
        paid = (f"{len(played.deliveries)}", f"{promised:.4f}", f"{own:.4f}")
        believed = () if told is None else told.of_round(played)
        rows.append((f"{played.number}", *believed, *paid))
    return Sheet(
        title=RULE if told is None else CEILINGS,
        head=(
            "round",
            *(() if told is None else told.HEAD),
            *("winners", "promised, credits", "their private costs"),
        ),
        rows=tuple(rows),
        notes=() if told is None else (told.NOTE,),
    )


@dataclass(frozen=True, slots=True)
class _Ceilings:
    """What was believed and set before each round, found again."""

    rule: ByAuction | BySecondScore

    HEAD = (
        "bids learnt from",
        "most that is paid, least and most",
        "expected to ask no more",
        "bids",
    )
    NOTE = (
        "Credits for an update of a client of typical worth, at the rate worth most; of others in "
        "proportion. Nobody's own bids set what it may be paid. Before there are enough bids to "
        "learn from, what the file states of costs does."
    )

    @classmethod
    def of(cls, engagement: Engagement | None) -> "_Ceilings | None":
        if isinstance(engagement, ByAuction | BySecondScore) and engagement.buying is not None:
            return cls(engagement)
        return None

    def of_round(self, played: Round) -> tuple[str, ...]:
        """Values below `HEAD`."""
        asked = self.rule.asked(played.answers)
        assert self.rule.buying is not None
        set_now = self.rule.buying.ceilings(sorted(asked))
        self.rule.observe(played.finished(RATES))
        most = set_now.most.values()
        accepting = "-" if set_now.accepting is None else f"{set_now.accepting:.1%}"
        bounds = f"{min(most):.4g} {max(most):.4g}" if most else "-"
        return (f"{set_now.bids}", bounds, accepting, f"{len(asked)}")
