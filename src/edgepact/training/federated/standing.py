"""What a server has seen of its clients so far: the sight of selectors and auctions."""

from collections.abc import Mapping

import numpy as np

from edgepact.efficiency.selection import Candidates
from edgepact.training.federated.engagement import Answer
from edgepact.training.federated.rounds import Round


class Standing:
    """Remembers who took part when; everything else is in the clients' answers."""

    def __init__(self) -> None:
        self._last_round: dict[str, int] = {}

    def observe(self, round: Round) -> None:
        """Notes whose updates were accepted."""
        for delivery in round.accepted:
            self._last_round[delivery.client] = round.number

    def candidates(self, round: int, answers: Mapping[str, Answer]) -> Candidates:
        """The clients that answered, in the order of `answers`.

        What they claim of their data counts up to ten times the median of all claims: a
        selector must not be won by the largest number somebody dares to send.
        """
        said = list(answers.values())
        examples = np.array([answer.examples for answer in said], int)
        bound = max(10 * int(np.median(examples)), 1) if len(said) else 1
        return Candidates(
            examples=np.minimum(examples, bound),
            compute_s=np.array([answer.compute_s for answer in said], float),
            upload_s=np.array([answer.upload_s for answer in said], float),
            loss=np.array([np.nan if a.loss is None else a.loss for a in said], float),
            last_round=np.array([self._last_round.get(name, 0) for name in answers], int),
            round=round,
        )
