"""Compressed updates of a federated training for a posted price: so much a step of the rate.

The top of the file names one with cost types and value, `terms`: a step is worth what its value at
the highest rate says.
"""

from dataclasses import dataclass
from pathlib import Path

from edgepact.framework import Document, Run
from edgepact.pacts.training_measured import RatesFound, rates_found
from edgepact.pacts.training_outcome import TrainingOutcome, trained_by
from edgepact.pacts.training_prices import BestPrice, Quoting, prices_posted
from edgepact.pacts.training_terms import TrainingTerms, read_training, terms_file, top_of
from edgepact.training.federated.composition import by_price
from edgepact.training.federated.config import SOLVERS


@dataclass(frozen=True, slots=True)
class CompressionStackelberg:
    """Clients take as many steps of the rate as a posted price pays them best."""

    name: str = "compression-stackelberg-training"
    method: str = "compression"
    mechanism: str = "stackelberg"
    job: str = "training"
    compress: str | None = "update"
    solvers: tuple[str, ...] = SOLVERS["stackelberg"]

    def read(self, source: Path, document: Document, *, smoke: bool) -> TrainingTerms:
        """Terms: what work is worth, and how clients train."""
        top = top_of(source, document, self.mechanism)
        contract = terms_file(source, top)
        top.close()
        return read_training(self, source, document, smoke=smoke, contract=contract)

    def measure(self, terms: TrainingTerms, run: Run) -> RatesFound:
        """Bytes and error of an update at each rate."""
        return rates_found(terms)

    def optimum(self, terms: TrainingTerms, measured: RatesFound) -> BestPrice:
        """The price that would earn most, were every private cost known."""
        return BestPrice.of(by_price(terms.config), terms.fleet())

    def decide(self, terms: TrainingTerms, measured: RatesFound) -> Quoting:
        """Prices follow from the answers, round by round."""
        return Quoting(solver=terms.solver)

    def engage(
        self, terms: TrainingTerms, measured: RatesFound, decision: Quoting, run: Run
    ) -> TrainingOutcome:
        """Trains; each round at a price of its own."""
        trained = trained_by(terms, by_price(terms.config), run)
        prices = prices_posted(self.optimum(terms, measured), terms.solver, trained.history)
        return TrainingOutcome(trained=trained, decided=(prices,))


PACT = CompressionStackelberg()
