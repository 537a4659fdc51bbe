"""Local work of a federated training, bought by contract: a menu of (epochs, reward).

The top of the file is a contract as `edgepact solve` reads it; its quality is the epochs that a
client trains in a round, whole ones, a type's `cost` that of an epoch. All updates have one
rate, `[efficiency] rate`. Who finds no item worth it does not train, so that the menu also selects.
"""

from dataclasses import dataclass
from pathlib import Path

from edgepact.framework import Document, Run
from edgepact.mechanisms.contract.local_work import whole_menu
from edgepact.pacts.training_measured import ClientsFound, clients_found
from edgepact.pacts.training_menus import BestMenu, OfferedMenu, menus_written
from edgepact.pacts.training_outcome import TrainingOutcome, trained_by
from edgepact.pacts.training_terms import TrainingTerms, read_training
from edgepact.training.federated.composition import engagement_of, offer_of
from edgepact.training.federated.config import SOLVERS, PricedContract


@dataclass(frozen=True, slots=True)
class SelectionContract:
    """Clients of private cost types take epochs and rewards from one menu."""

    name: str = "selection-contract-training"
    method: str = "selection"
    mechanism: str = "contract"
    job: str = "training"
    compress: str | None = None
    solvers: tuple[str, ...] = SOLVERS["contract"]

    def read(self, source: Path, document: Document, *, smoke: bool) -> TrainingTerms:
        """Terms: the contract, and how clients train."""
        contract = PricedContract.of(source, document, priced="epochs")
        return read_training(
            self, source, document, smoke=smoke, contract=contract, priced="epochs"
        )

    def measure(self, terms: TrainingTerms, run: Run) -> ClientsFound:
        """What clients hold, and how long an epoch takes them."""
        return clients_found(terms)

    def optimum(self, terms: TrainingTerms, measured: ClientsFound) -> BestMenu:
        """The menu of whole epochs that earns most."""
        return BestMenu.of(terms.contract, "epochs", whole_menu(terms.contract))

    def decide(self, terms: TrainingTerms, measured: ClientsFound) -> OfferedMenu:
        """The solver's menu; its first one, if it learns."""
        best = self.optimum(terms, measured)
        return OfferedMenu.of(best, terms.solver, offer_of(terms.config, terms.contract))

    def engage(
        self, terms: TrainingTerms, measured: ClientsFound, decision: OfferedMenu, run: Run
    ) -> TrainingOutcome:
        """Trains and pays by the menu."""
        trained = trained_by(terms, engagement_of(terms.config, decision.menu), run)
        again = engagement_of(terms.config, decision.menu)
        menus = menus_written(again, terms.fleet(), trained.history, whole_menu)
        return TrainingOutcome(trained=trained, decided=menus)


PACT = SelectionContract()
