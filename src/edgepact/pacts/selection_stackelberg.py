"""Clients of a federated training selected by a posted price: who finds it worth it trains.

The top of the file says what an update is worth to the server, `worth`; the clients' private costs
are drawn between the `cost_min` and `cost_max` of `[job]`.
"""

from dataclasses import dataclass
from pathlib import Path

from edgepact.framework import Document, Run
from edgepact.pacts.training_measured import ClientsFound, clients_found
from edgepact.pacts.training_outcome import TrainingOutcome, trained_by
from edgepact.pacts.training_prices import BestPrice, Quoting, prices_posted
from edgepact.pacts.training_terms import TrainingTerms, read_training, top_of
from edgepact.training.federated.composition import by_price
from edgepact.training.federated.config import SOLVERS
from edgepact.training.federated.options import BUDGET_CREDITS_MAX


@dataclass(frozen=True, slots=True)
class SelectionStackelberg:
    """Clients train for a posted price, or stay away."""

    name: str = "selection-stackelberg-training"
    method: str = "selection"
    mechanism: str = "stackelberg"
    job: str = "training"
    compress: str | None = None
    solvers: tuple[str, ...] = SOLVERS["stackelberg"]

    def read(self, source: Path, document: Document, *, smoke: bool) -> TrainingTerms:
        """Terms: what work is worth, and how clients train."""
        top = top_of(source, document, self.mechanism)
        worth = top.number("worth", above=0.0, most=BUDGET_CREDITS_MAX)
        top.close()
        return read_training(self, source, document, smoke=smoke, worth=worth)

    def measure(self, terms: TrainingTerms, run: Run) -> ClientsFound:
        """What clients hold and how slow they are."""
        return clients_found(terms)

    def optimum(self, terms: TrainingTerms, measured: ClientsFound) -> BestPrice:
        """The price that would earn most, were every private cost known."""
        return BestPrice.of(by_price(terms.config), terms.fleet())

    def decide(self, terms: TrainingTerms, measured: ClientsFound) -> Quoting:
        """Prices follow from the answers, round by round."""
        return Quoting(solver=terms.solver)

    def engage(
        self, terms: TrainingTerms, measured: ClientsFound, decision: Quoting, run: Run
    ) -> TrainingOutcome:
        """Trains; each round at a price of its own."""
        trained = trained_by(terms, by_price(terms.config), run)
        prices = prices_posted(self.optimum(terms, measured), terms.solver, trained.history)
        return TrainingOutcome(trained=trained, decided=(prices,))


PACT = SelectionStackelberg()
