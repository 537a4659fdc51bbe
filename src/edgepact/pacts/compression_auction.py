"""Compressed updates of a federated training, bought by auction: clients bid on every rate.

The top of the file states the rule (`second_score`) and `terms`, a file with cost types and value:
bids are called for on the rates of its best menu. With `[efficiency] per_round` so many win. With
`[solver] name = "gdm"` each is paid at most what the past bids of the others suggest, at first what
the frequencies of types do.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepact.credits import MICRO
from edgepact.engagement import Item, truthful_bids
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.pacts.training_bids import Rule, awards
from edgepact.pacts.training_measured import RatesFound, rates_found
from edgepact.pacts.training_outcome import TrainingOutcome, trained_by
from edgepact.pacts.training_terms import TrainingTerms, read_training, terms_file, top_of
from edgepact.tables import NO_LIE_PAYS, NOBODY_LOSES, Shown, audit_sheet, decimals, figure, yes
from edgepact.training.federated.bidding import BySecondScore
from edgepact.training.federated.client import Client, Memory
from edgepact.training.federated.composition import engagement_of
from edgepact.training.federated.config import SOLVERS

LIES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.5, 2.0, 4.0)
"""By what each client multiplies its costs to see whether a lie pays."""

SLACK_CREDITS = 4.0 / MICRO
"""Bids and pay are whole micro-credits: so much is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstRound(Shown):
    """The auction of the first round, if everybody bids the truth.

    Attributes:
        rule: rates, and what a typical update is worth at each.
        costs_credits: of each client at each rate, shape `clients rates`.
        winners: of the round.
        paid_credits: to all of them.
        least_gain_credits: of a winner over staying away; None if nobody wins.
        largest_gain_from_lying: of any client, by any of `LIES`, credits.
    """

    rule: BySecondScore
    costs_credits: np.ndarray
    winners: int
    paid_credits: float
    least_gain_credits: float | None
    largest_gain_from_lying: float

    @classmethod
    def of(cls, rule: BySecondScore, clients: list[Client]) -> "FirstRound":
        """Holds the auction once truthfully, and once for each lie of each client."""
        names = [f"{at:06d}" for at in range(len(clients))]
        question = rule.question(1)
        told = {
            name: client.answer(question, Memory())
            for name, client in zip(names, clients, strict=True)
        }
        engaged = rule.engage(1, question, told)
        lied = 0.0
        for name, client in zip(names, clients, strict=True):
            honest = _gain(engaged.get(name), client)
            for factor in LIES:
                bids = truthful_bids(question.bid_amounts, client.cost.microcredits, claimed=factor)
                said = told | {name: replace(told[name], bids_microcredits=bids)}
                gain = _gain(rule.engage(1, question, said).get(name), client)
                lied = max(lied, gain - honest)
        kept = [
            _gain(engaged[name], client)
            for name, client in zip(names, clients, strict=True)
            if name in engaged
        ]
        return cls(
            rule=rule,
            costs_credits=np.array(
                [[each.cost.microcredits(rate) / MICRO for rate in rule.rates] for each in clients]
            ),
            winners=len(engaged),
            paid_credits=sum(item.reward_microcredits for item in engaged.values()) / MICRO,
            least_gain_credits=min(kept, default=None),
            largest_gain_from_lying=lied,
        )

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the award does not keep."""
        loses = (self.least_gain_credits or 0.0) < -SLACK_CREDITS
        found = ["individually rational"] if loses else []
        if self.largest_gain_from_lying > SLACK_CREDITS:
            found.append("incentive compatible")
        return tuple(found)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What rates are worth and cost; the first round; the audit."""
        rule, least = self.rule, self.least_gain_credits
        mean = np.mean(self.costs_credits, axis=0)
        return (
            Sheet(
                title="Second-score auction: clients bid on every rate, the highest scores win",
                head=("rate", "worth of a typical update", "mean private cost"),
                rows=tuple(
                    (f"{rate:.4f}", f"{worth:.4f}", f"{cost:.4f}")
                    for rate, worth, cost in zip(rule.rates, rule.worth_credits, mean, strict=True)
                ),
                notes=(
                    "A winner is paid what its rate is worth less the best losing score: truthful.",
                ),
            ),
            Sheet(
                title="The first round, if all bid the truth",
                head=("figure", "value"),
                rows=(
                    ("winners", f"{self.winners} of {len(self.costs_credits)}"),
                    ("they are paid, credits", f"{self.paid_credits:.4f}"),
                    (
                        "least gain of a winner over staying away, credits",
                        "-" if least is None else decimals(least),
                    ),
                ),
            ),
            self._audit(),
        )

    @property
    def lies_tried(self) -> int:
        """How many."""
        return len(LIES) * len(self.costs_credits)

    def _audit(self) -> Sheet:
        lied = self.largest_gain_from_lying
        gain = figure(lied if lied > SLACK_CREDITS else 0.0, 1.0, 4)
        return audit_sheet(
            (NOBODY_LOSES, yes("individually rational" not in self.broken)),
            (NO_LIE_PAYS, yes("incentive compatible" not in self.broken)),
            (f"largest gain from lying ({self.lies_tried:,} lies tried)", f"{gain} credits"),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "rates": list(self.rule.rates),
            "worth": list(self.rule.worth_credits),
            "costs": self.costs_credits.tolist(),
            "mean_costs": np.mean(self.costs_credits, axis=0).tolist(),
            "winners": self.winners,
            "paid": self.paid_credits,
            "audit": {
                "individually_rational": "individually rational" not in self.broken,
                "incentive_compatible": "incentive compatible" not in self.broken,
                "least_gain": self.least_gain_credits,
                "lies_tried": self.lies_tried,
                "largest_gain_from_lying": self.largest_gain_from_lying,
            },
        }


def _gain(item: Item | None, client: Client) -> float:
    """What a client keeps, credits."""
    if item is None:
        return 0.0
    return (item.reward_microcredits - client.cost.microcredits(item.amount)) / MICRO


@dataclass(frozen=True, slots=True)
class CompressionAuction:
    """Clients bid on rates; the highest scores win."""

    name: str = "compression-auction-training"
    method: str = "compression"
    mechanism: str = "auction"
    job: str = "training"
    compress: str | None = "update"
    solvers: tuple[str, ...] = SOLVERS["auction"]

    def read(self, source: Path, document: Document, *, smoke: bool) -> TrainingTerms:
        """Terms: what rates are worth, and how clients train."""
        top = top_of(source, document, self.mechanism)
        top.choice("rule", ("second_score",))
        contract = terms_file(source, top)
        top.close()
        return read_training(self, source, document, smoke=smoke, contract=contract)

    def measure(self, terms: TrainingTerms, run: Run) -> RatesFound:
        """Bytes and error of an update at each rate."""
        return rates_found(terms)

    def optimum(self, terms: TrainingTerms, measured: RatesFound | None) -> FirstRound:
        """The rule with everybody's true costs."""
        rule, fleet = engagement_of(terms.config), terms.fleet()
        assert isinstance(rule, BySecondScore)
        with terms.stated():
            clients = [fleet.client(number) for number in range(fleet.clients)]
        return FirstRound.of(replace(rule, buying=None), clients)

    def decide(self, terms: TrainingTerms, measured: RatesFound) -> Rule:
        """Nothing is left to search but what may be paid, which follows from the bids."""
        return Rule(terms.solver)

    def engage(
        self, terms: TrainingTerms, measured: RatesFound, decision: Rule, run: Run
    ) -> TrainingOutcome:
        """Trains; each round holds its auction."""
        trained = trained_by(terms, engagement_of(terms.config), run)
        held = awards(trained.history, terms.fleet(), engagement_of(terms.config))
        return TrainingOutcome(trained=trained, decided=(held,))


PACT = CompressionAuction()
