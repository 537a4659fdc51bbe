"""Step 3 of pacts that train by auction: the rule decides, round by round."""

from dataclasses import dataclass

from edgepact.credits import MICRO
from edgepact.framework import Json, Sheet
from edgepact.pacts.training_terms import EXACT
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.simulated import Simulated, name_of

RULE = "The rule itself: thresholds are exact for any bids, nothing is left to search"


@dataclass(frozen=True, slots=True)
class Rule:
    """The auction's own rule; whom it chose is told with the rounds."""

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """None before the first round."""
        return ()

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": EXACT}


def awards(history: tuple[Round, ...], fleet: Simulated) -> Sheet:
    """Who won what in each round, beside what it cost them."""
    cost = {name_of(number): fleet.cost(number) for number in range(fleet.clients)}
    rows = []
    for played in history[1:]:
        promised = sum(each.reward_microcredits for each in played.deliveries) / MICRO
        own = sum(cost[each.client].microcredits(each.rate) for each in played.deliveries) / MICRO
        rows.append(
            (f"{played.number}", f"{len(played.deliveries)}", f"{promised:.4f}", f"{own:.4f}")
        )
    return Sheet(
        title=RULE,
        head=("round", "winners", "promised, credits", "their private costs"),
        rows=tuple(rows),
    )
