"""Clients of a federated training selected by an auction with a budget for each round.

The top of the file states the rule (`proportional_share`) and the `budget` of a round; the clients'
private costs are drawn between the `cost_min` and `cost_max` of `[job]`. With a selector beside it
the auction decides nothing: an equal share of the budget is posted for each place. With
`[solver] name = "gdm"` the file also says what a typical update is worth, `worth`, and each client
is paid at most what the past bids of the others suggest, within the range of costs at first.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.credits import MICRO
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.mechanisms.auction.audit import AuctionAudit, audit_auction
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.mechanisms.auction.terms import Award
from edgepact.pacts.training_bids import Rule, awards
from edgepact.pacts.training_measured import ClientsFound, clients_found
from edgepact.pacts.training_outcome import TrainingOutcome, trained_by
from edgepact.pacts.training_terms import TrainingTerms, read_training, top_of
from edgepact.tables import NO_LIE_PAYS, NOBODY_LOSES, Shown, audit_sheet, decimals, figure, yes
from edgepact.training.federated.composition import engagement_of
from edgepact.training.federated.config import SOLVERS
from edgepact.training.federated.options import BUDGET_CREDITS_MAX


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstRound(Shown):
    """The auction of the first round, if everybody bids the truth.

    Attributes:
        budget: of a round, credits.
        costs: of each client, credits.
        award: who wins, and what they are paid.
        audit: of the rule, with those costs.
        selector: who chooses in the auction's place, if anybody does.
    """

    budget: float
    costs: np.ndarray
    award: Award
    audit: AuctionAudit
    selector: str | None

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the award does not keep."""
        return self.audit.broken

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The award; its audit."""
        wins, payments = self.award.wins, self.award.payments
        least = "-" if self.least_gain is None else decimals(self.least_gain)
        rows = (
            ("budget of a round, credits", f"{self.budget:g}"),
            ("winners, if all bid the truth", f"{int(wins.sum())} of {len(self.costs)}"),
            ("they are paid, credits", f"{float(payments.sum()):.4f}"),
            ("their costs, credits", f"{float(self.costs[wins].sum()):.4f}"),
            ("least gain of a winner over staying away, credits", least),
        )
        beside = (
            "The auction itself decides nothing here; with another selector its pay is posted.",
        )
        return (
            Sheet(
                title="Proportional-share auction: clients bid, winners are paid their threshold",
                head=("in the first round, where worth is by images held", "value"),
                rows=rows,
                notes=() if self.selector in (None, "auction") else beside,
            ),
            self._audit(),
        )

    def _audit(self) -> Sheet:
        audit, beside = self.audit, float(np.sum(self.award.payments))
        gain = figure(audit.largest_gain_from_lying, beside, 4)
        return audit_sheet(
            (NOBODY_LOSES, yes(audit.individually_rational)),
            (NO_LIE_PAYS, yes(audit.incentive_compatible)),
            ("payments stay within the budget", yes(audit.budget_balanced)),
            (f"largest gain from lying ({audit.lies_tried:,} lies tried)", f"{gain} credits"),
        )

    @property
    def least_gain(self) -> float | None:
        """Of a winner over staying away, credits; None if nobody wins."""
        gains = (self.award.payments - self.costs)[self.award.wins]
        return float(np.min(gains)) if len(gains) else None

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "budget": self.budget,
            "winners": np.flatnonzero(self.award.wins).tolist(),
            "payments": self.award.payments.tolist(),
            "costs": self.costs.tolist(),
            "paid": float(np.sum(self.award.payments)),
            "cost_of_winners": float(np.sum(self.costs[self.award.wins])),
            "least_gain": self.least_gain,
            "audit": self.audit.as_json() | {"lies_tried": self.audit.lies_tried},
        }


@dataclass(frozen=True, slots=True)
class SelectionAuction:
    """Clients bid what an update costs them; the budget selects."""

    name: str = "selection-auction-training"
    method: str = "selection"
    mechanism: str = "auction"
    job: str = "training"
    compress: str | None = None
    solvers: tuple[str, ...] = SOLVERS["auction"]

    def read(self, source: Path, document: Document, *, smoke: bool) -> TrainingTerms:
        """Terms: the budget, and how clients train."""
        top = top_of(source, document, self.mechanism)
        top.choice("rule", ("proportional_share",))
        stated = {"budget": top.number("budget", above=0.0, most=BUDGET_CREDITS_MAX)}
        if "worth" in top:
            stated["worth"] = top.number("worth", above=0.0, most=BUDGET_CREDITS_MAX)
        top.close()
        return read_training(self, source, document, smoke=smoke, **stated)

    def measure(self, terms: TrainingTerms, run: Run) -> ClientsFound:
        """What clients hold and how slow they are."""
        return clients_found(terms)

    def optimum(self, terms: TrainingTerms, measured: ClientsFound | None) -> FirstRound:
        """The rule with everybody's true cost; worth is by images held, so the data are read."""
        with terms.stated():
            return self._first_round(terms)

    def _first_round(self, terms: TrainingTerms) -> FirstRound:
        config, fleet = terms.config, terms.fleet()
        assert config.budget is not None
        costs = np.array(
            [
                fleet.cost(number).microcredits(config.rate) / MICRO
                for number in range(fleet.clients)
            ]
        )
        held = np.array(
            [len(fleet.client(number).images) for number in range(fleet.clients)], float
        )
        rule = ProportionalShare(values=held, budget=config.budget)
        return FirstRound(
            budget=config.budget,
            costs=costs,
            award=rule.award(costs),
            audit=audit_auction(rule, costs),
            selector=config.selector,
        )

    def decide(self, terms: TrainingTerms, measured: ClientsFound) -> Rule:
        """Nothing is left to search but what may be paid, which follows from the bids."""
        return Rule(terms.solver)

    def engage(
        self, terms: TrainingTerms, measured: ClientsFound, decision: Rule, run: Run
    ) -> TrainingOutcome:
        """Trains; each round holds its auction."""
        trained = trained_by(terms, engagement_of(terms.config), run)
        held = awards(trained.history, terms.fleet(), engagement_of(terms.config))
        return TrainingOutcome(trained=trained, decided=(held,))


PACT = SelectionAuction()
