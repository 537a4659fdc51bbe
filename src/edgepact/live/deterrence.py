"""Why cheating in a live run loses money: the derived rate of audits, and what a cheat earns."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from edgepact.market.ledger import RoundRecord
from edgepact.market.settling import least_reward
from edgepact.mechanisms.audit_rate import audit_rate, best_cheat


@dataclass(frozen=True, slots=True, kw_only=True)
class Deterrence:
    """Of devices that were paid for so many layers, the others of the menu at their least.

    Attributes:
        layers: that they were paid for.
        pieces: of a device in a round.
        ratio: their pay over that of the least paid item, the largest of all rounds.
        margin: share of the least paid item's pay that an honest device keeps.
        rate: derived from these, for an audit that finds every cheat.
        drawn: rates at which audits were drawn, one a device and round.
    """

    layers: int
    pieces: int
    ratio: float
    margin: float
    rate: float
    drawn: tuple[float, ...]

    def best(self, rate: float) -> float:
        """Profit of the best cheat over honest profit, at a rate of audits."""
        units = [1.0] * self.pieces
        return best_cheat(rate, units, margin=self.margin, reward=self.ratio, least_reward=1.0)


def deterrences(rounds: Sequence[RoundRecord], margin: float) -> list[Deterrence]:
    """One for each number of layers that was taken, most layers first."""
    ratios: dict[int, float] = {}
    drawn: dict[int, list[float]] = defaultdict(list)
    for record in rounds:
        least = least_reward(record.question, record.assigned)
        for name, item in record.assigned.items():
            layers = int(item.amount)
            if layers == 0 or item.reward_microcredits == 0:
                continue
            reward = item.reward_microcredits
            ratio = reward / min(least or reward, reward)
            ratios[layers] = max(ratio, ratios.get(layers, 1.0))
            if name in record.rates:
                drawn[layers].append(record.rates[name])
    found = []
    for layers in sorted(ratios, reverse=True):
        pieces = max(record.units_per_device for record in rounds)
        told = {"margin": margin, "reward": ratios[layers], "least_reward": 1.0}
        found.append(
            Deterrence(
                layers=layers,
                pieces=pieces,
                ratio=ratios[layers],
                margin=margin,
                rate=audit_rate([1.0] * pieces, **told),
                drawn=tuple(drawn[layers]),
            )
        )
    return found
