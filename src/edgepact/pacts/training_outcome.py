"""Step 4 of pacts that train: the training itself, over Flower, and what came of it."""

from dataclasses import dataclass, replace

from edgepact.engagement import Engagement
from edgepact.framework import Json, Run, Sheet
from edgepact.pacts.training_terms import TrainingTerms
from edgepact.training.federated.run import Trained, train


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutcome:
    """What came of a training.

    Attributes:
        trained: the training.
        decided: what was decided in its rounds.
    """

    trained: Trained
    decided: tuple[Sheet, ...] = ()

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        return (
            Sheet(
                title="Federated training over Flower",
                head=("figure", "value"),
                rows=tuple(self.trained.figures()),
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        """What `edgepact train --json` prints."""
        return self.trained.to_dict()


def trained_by(terms: TrainingTerms, engagement: Engagement, run: Run) -> Trained:
    """Trains in the run's folder, by a mechanism.

    Raises:
        MarketError: the training broke down.
        InputError: the folder cannot be used.
    """
    with terms.stated():
        return train(
            replace(terms.config, out=run.out),
            lambda done, of: run.on_progress(done, of, "train together"),
            engagement=engagement,
        )


def share(earned: float, best: float) -> str:
    """In percent; a dash where nothing can be earned."""
    return f"{earned / best:.2%}" if best > 0.0 else "-"
