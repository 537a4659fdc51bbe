"""What is kept beside the books: devices, tokens, rounds, answers, assignments, pieces, verdicts.

A piece is known by (device, piece) and a unique constraint holds it to one row, so that a request
repeated by a device, or by a network, or after a crash, is never paid twice. What a device does in
a round, its *device-round*, is settled as a whole, and its assignment is where that is kept.

=======  ====================================  ================================================
state    meaning of a piece                    its transfer
=======  ====================================  ================================================
pending  delivered, its audit is not over      `server` to `pending:<device>`
paid     its device-round has passed           with the rest of it, on to `device:<name>`
forfeit  some audit of the device was failed   with all that was pending, on to `forfeited`
expired  the server could not audit it         back to `server`
=======  ====================================  ================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from edgepact.engagement import Answer, Item, Question
from edgepact.market.demand import Request

SECRET = "secret"
"""Fact of a ledger from which seeds and tokens are drawn."""

SECRET_BYTES = 32

TRAINING = "training"
"""The job of rounds that Flower carries; its pieces are updates."""


class PieceState(StrEnum):
    """What has become of a piece's payment."""

    PENDING = "pending"
    PAID = "paid"
    FORFEIT = "forfeit"
    EXPIRED = "expired"


class Stage(StrEnum):
    """How far the settlement of a device-round has come."""

    OPEN = "open"
    AUDITING = "auditing"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A finished piece of work.

    Attributes:
        device: name of the device.
        piece: the device's id of it, its own in all rounds.
        round: number of the round.
        amount: at which it was worked.
        digest: SHA-256 of what came, which tells a repetition from other work.
        units: how many it was, as the server has counted.
        commitment: SHA-256 by which the device has bound itself to its input; None where what
            came was the input.
        evidence: what an audit is held against; empty where there is nothing to audit.
        sketch: by which work that is nearly the same is known again; empty for none.
        request: of a buyer, that the piece was worked for; None where nobody has to ask.
        units_sold: that the buyer pays for; None for those that count.
    """

    device: str
    piece: str
    round: int
    amount: float
    digest: bytes
    units: int = 1
    commitment: bytes | None = None
    evidence: bytes = b""
    sketch: bytes = b""
    request: Request | None = None
    units_sold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A piece whose pay is pending.

    Attributes:
        piece: its id.
        units: of it that count.
        microcredits: its pay.
        auditable: whether there is anything to audit.
        picked: whether it is being audited: its source is awaited.
    """

    piece: str
    units: int
    microcredits: int
    auditable: bool
    picked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a picked piece is audited by.

    Attributes:
        round, amount: of the piece.
        commitment: SHA-256 by which the device has bound itself to its source.
        evidence: what is held against what the source gives.
        bound: what the source itself is held against; None where nobody asked for the piece.
    """

    round: int
    amount: int
    commitment: bytes | None
    evidence: bytes
    bound: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAudit:
    """A device-round whose audit is not over.

    Attributes:
        round, device: which.
        pieces: picked, whose source is awaited.
        deadline_s: when it ends, on the clock of the server that has set it.
    """

    round: int
    device: str
    pieces: tuple[str, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """What was delivered for a buyer.

    Attributes:
        request: its id, and that of the piece.
        buyer: who asked.
        device: that has worked on it.
        round: number of the round.
        units: that it pays for, if it pays.
        microcredits: that the buyer has paid the server; 0 as long as the piece is not paid.
        state: of the piece's payment.
    """

    request: str
    buyer: str
    device: str
    round: int
    units: int
    microcredits: int
    state: PieceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An enrolled device, as its operator sees it.

    Attributes:
        name: its name.
        strikes: audits it has failed.
        excluded: whether it may take part no more, until the operator readmits it.
        revoked: whether its token is void.
        pending_microcredits: pay that is pending.
        paid_microcredits: what it has earned.
    """

    name: str
    strikes: int
    excluded: bool
    revoked: bool
    pending_microcredits: int
    paid_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A one-time token of which the ledger keeps the hash.

    Attributes:
        label: the first letters of its hash, by which it can be revoked.
        issued_s, expires_s: seconds since 1970; None for never.
        revoked: whether it is void.
        device: who has enrolled with it.
    """

    label: str
    issued_s: float
    expires_s: float | None
    revoked: bool
    device: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be promised at most, micro-credits; None for no limit."""

    round_microcredits: int | None = None
    total_microcredits: int | None = None

    def allows_more_than(self, before: "Limits") -> bool:
        """Whether one of the limits is further away than it was."""
        return any(
            then is not None and (now is None or now > then)
            for now, then in (
                (self.round_microcredits, before.round_microcredits),
                (self.total_microcredits, before.total_microcredits),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece that is assigned and settled at once, such as an update in federated training.

    Attributes:
        device: name of the device.
        job: an id of it, the device's own in all rounds.
        round: number of the round, one of `open_work_round`.
        microcredits: what it earns.
        digest: SHA-256 of what was delivered.
    """

    device: str
    job: str
    round: int
    microcredits: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a piece stands in the ledger.

    Attributes:
        state: pending, paid, forfeit or expired.
        microcredits: what it earns or would have earned.
        units: of it that count.
        repeated: whether the ledger knew the piece before.
        audited: whether it was picked for an audit.
    """

    state: PieceState
    microcredits: int
    units: int = 1
    repeated: bool = False
    audited: bool = False

    @property
    def paid_microcredits(self) -> int:
        """What the device has received for it."""
        return self.microcredits if self.state is PieceState.PAID else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One round: what was asked, who answered and works what, what was delivered and paid.

    Attributes:
        number: number of the round.
        job: name of the job.
        model: name of the model.
        digest: of the model.
        question: what everybody was asked.
        units_per_device: units taken from each device at most.
        engaged: whether it takes no more answers, since those that wait for each other were
            weighed.
        closed: whether it is over.
        answers: by device.
        assigned: who works how much for what, amount 0 included, by device.
        pieces: units of the recorded pieces by device and id, in order; of a round that is over
            only where they were asked for.
        stages: how far each device-round is settled.
        rates: at which audits were drawn, of the device-rounds whose deliveries have ended.
        delivered: units that were delivered, whatever became of them, by device.
        units: units that were delivered and are pending or paid, by device.
        paid_microcredits: payments by device.
        pending_microcredits: pay that is pending, by device.
    """

    number: int
    job: str
    model: str
    digest: str
    question: Question
    units_per_device: int
    engaged: bool
    closed: bool
    answers: Mapping[str, Answer]
    assigned: Mapping[str, Item]
    pieces: Mapping[str, Mapping[str, int]]
    stages: Mapping[str, Stage]
    rates: Mapping[str, float]
    delivered: Mapping[str, int]
    units: Mapping[str, int]
    paid_microcredits: Mapping[str, int]
    pending_microcredits: Mapping[str, int]

    @property
    def amounts(self) -> dict[str, int]:
        """What each device works, in whole steps."""
        return {name: int(item.amount) for name, item in self.assigned.items()}

    @property
    def price_microcredits(self) -> int | None:
        """Of a step for a unit of work, where a price was posted."""
        return self.question.price_microcredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One piece that was paid."""

    round: int
    device: str
    piece: str
    amount: float
    units: int
    microcredits: int
    audited: bool
    recorded_s: float
