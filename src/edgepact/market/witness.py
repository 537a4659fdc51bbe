"""Who looks on while a market runs: told what happened, and asked nothing.

The market and its inference tell a witness of rounds that ended and of exchanges that were
answered. Nothing that they do depends on it, so it must return at once and raise nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from edgepact.market.ledger import RoundRecord
from edgepact.work import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeSeen:
    """An exchange that was answered and is paid for.

    Attributes:
        device, piece: whose it is, and of which piece.
        round: number of the round.
        exchange: which of the piece's exchanges, counted from 0.
        amount: of the piece that the device does.
        began_s: when its body began to come, seconds since 1970.
        body_s: seconds in which the body came.
        queue_s: seconds that it waited for its turn and for others.
        compute_s: seconds of computing.
        ledger_s: seconds until it was durable.
        server_s: seconds from the body to the answer, with all of these but the first.
        bytes_in, bytes_out: of the tensors.
        state: what has become of the piece's pay; None while it is not finished.
        told: the job's own facts, such as the label found.
    """

    device: str
    piece: str
    round: int
    exchange: int
    amount: int
    began_s: float
    body_s: float
    queue_s: float
    compute_s: float
    ledger_s: float
    server_s: float
    bytes_in: int
    bytes_out: int
    state: str | None
    told: Mapping[str, Json]


class Witness(Protocol):
    """Looks on."""

    def round_closed(self, record: RoundRecord) -> None:
        """A round has ended, and this is how its ledger stands."""
        ...

    def exchanged(self, seen: ExchangeSeen) -> None:
        """An exchange was answered."""
        ...
