"""What a server has seen of its clients so far: the sight of selectors and auctions."""

from collections.abc import Mapping

import numpy as np

from edgepact.efficiency.selection import Candidates
from edgepact.engagement import Answer, Finished


class Standing:
    """Remembers who took part when; everything else is in the clients' answers."""

    def __init__(self) -> None:
        self._last_round: dict[str, int] = {}

    def observe(self, finished: Finished) -> None:
        """Notes whose updates were accepted."""
        for name in finished.units:
            self._last_round[name] = finished.number

    def candidates(self, round: int, answers: Mapping[str, Answer]) -> Candidates:
        """The clients that answered, in the order of `answers`.

        What they claim of their data counts up to ten times the median of all claims: a
        selector must not be won by the largest number somebody dares to send. Claims are those of
        `messages.CLAIMS`; who claims nothing holds one image and takes no time.
        """
        said = [answer.claims for answer in answers.values()]
        examples = np.array([int(claims.get("examples", 1)) for claims in said], int)
        bound = max(10 * int(np.median(examples)), 1) if len(said) else 1
        return Candidates(
            examples=np.minimum(examples, bound),
            compute_s=np.array([claims.get("compute_s", 0.0) for claims in said], float),
            upload_s=np.array([claims.get("upload_s", 0.0) for claims in said], float),
            loss=np.array([claims.get("loss", np.nan) for claims in said], float),
            last_round=np.array([self._last_round.get(name, 0) for name in answers], int),
            round=round,
        )
