"""Compressed updates of a federated training, bought by contract: a menu of (rate, reward).

The top of the file is a contract as `edgepact solve` reads it, with qualities of at most 1, which
are compression rates.
"""

from dataclasses import dataclass
from pathlib import Path

from edgepact.framework import Document, Run
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.pacts.training_measured import RatesFound, rates_found
from edgepact.pacts.training_menus import BestMenu, OfferedMenu, menus_written
from edgepact.pacts.training_outcome import TrainingOutcome, trained_by
from edgepact.pacts.training_terms import TrainingTerms, read_training
from edgepact.training.federated.composition import engagement_of, offer_of
from edgepact.training.federated.config import SOLVERS, PricedContract


@dataclass(frozen=True, slots=True)
class CompressionContract:
    """Clients of private cost types take rates and rewards from one menu."""

    name: str = "compression-contract-training"
    method: str = "compression"
    mechanism: str = "contract"
    job: str = "training"
    compress: str | None = "update"
    solvers: tuple[str, ...] = SOLVERS["contract"]

    def read(self, source: Path, document: Document, *, smoke: bool) -> TrainingTerms:
        """Terms: the contract, and how clients train."""
        contract = PricedContract.of(source, document)
        return read_training(self, source, document, smoke=smoke, contract=contract)

    def measure(self, terms: TrainingTerms, run: Run) -> RatesFound:
        """Bytes and error of an update at each rate."""
        return rates_found(terms)

    def optimum(self, terms: TrainingTerms, measured: RatesFound) -> BestMenu:
        """The menu that earns most."""
        return BestMenu.of(terms.contract, "rate", sure_menu(terms.contract))

    def decide(self, terms: TrainingTerms, measured: RatesFound) -> OfferedMenu:
        """The solver's menu; its first one, if it learns."""
        best = self.optimum(terms, measured)
        return OfferedMenu.of(best, terms.solver, offer_of(terms.config, terms.contract))

    def engage(
        self, terms: TrainingTerms, measured: RatesFound, decision: OfferedMenu, run: Run
    ) -> TrainingOutcome:
        """Trains and pays by the menu."""
        trained = trained_by(terms, engagement_of(terms.config, decision.menu), run)
        again = engagement_of(terms.config, decision.menu)
        menus = menus_written(again, terms.fleet(), trained.history, sure_menu)
        return TrainingOutcome(trained=trained, decided=menus)


PACT = CompressionContract()
