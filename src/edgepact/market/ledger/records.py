"""What is kept beside the books: devices, rounds, answers, assignments and pieces.

A piece is known by (device, piece) and a unique constraint holds it to one row, so that a request
repeated by a device, or by a network, or after a crash, is never paid twice.

=======  =======================  ======================
state    meaning                  its transfer
=======  =======================  ======================
paid     verified, or not picked  `server` to `device:<name>`
held     waits for its audit      none yet
forfeit  failed its audit         none, ever
=======  =======================  ======================

The functions work within a transaction that is handed to them. Tokens are random and long, so
that a plain SHA-256 of them is a safe thing to store: there is nothing to guess.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from edgepact.engagement import NOTHING, Answer, Item, Question
from edgepact.errors import MarketError
from edgepact.market.ledger.database import META, SERIAL
from edgepact.market.protocol.messages import (
    answer_json,
    question_json,
    read_answer,
    read_question,
)

TRAINING = "training"
"""The job of rounds that Flower carries; its pieces are updates."""

_DEVICES = sa.Table(
    "devices",
    META,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("enrol_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("confirmed", sa.Boolean, nullable=False),
)
_ROUNDS = sa.Table(
    "rounds",
    META,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("job", sa.String(64), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("units_per_device", sa.BigInteger, nullable=False),
    sa.Column("engaged", sa.Boolean, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
)
_ANSWERS = sa.Table(
    "answers",
    META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("answer", sa.Text, nullable=False),
)
_ASSIGNMENTS = sa.Table(
    "assignments",
    META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("amount", sa.Float, nullable=False),
    sa.Column("reward_microcredits", sa.BigInteger, nullable=False),
    sa.CheckConstraint("amount >= 0 and reward_microcredits >= 0"),
)
_PIECES = sa.Table(
    "pieces",
    META,
    sa.Column("id", SERIAL, primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), nullable=False),
    sa.Column("piece", sa.String(64), nullable=False),
    sa.Column("round", sa.ForeignKey("rounds.number"), nullable=False),
    sa.Column("amount", sa.Float, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("audited", sa.Boolean, nullable=False),
    sa.Column("evidence", sa.LargeBinary, nullable=True),
    sa.Column("recorded_s", sa.Float, nullable=False),
    sa.UniqueConstraint("device", "piece"),
    sa.Index("pieces_by_round", "round", "device"),
)


class PieceState(StrEnum):
    """What has become of a piece's payment."""

    PAID = "paid"
    HELD = "held"
    FORFEIT = "forfeit"


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
    """

    device: str
    piece: str
    round: int
    amount: float
    digest: bytes
    units: int = 1


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
        state: paid, held or forfeit.
        microcredits: what it earns or would have earned.
        units: of it that are paid.
        repeated: whether the ledger knew the piece before.
    """

    state: PieceState
    microcredits: int
    units: int = 1
    repeated: bool = False

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
        pieces: units of the recorded pieces by device and id, in order.
        held: pieces by device whose audit is open.
        units: units that were paid, by device.
        paid_microcredits: payments by device.
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
    held: Mapping[str, tuple[str, ...]]
    units: Mapping[str, int]
    paid_microcredits: Mapping[str, int]

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


# ---------------------------------------------------------------- devices


def enrol(books: sa.Connection, one_time_token: str, name: str) -> str:
    """Enrols a device and returns its token, see `Ledger.enrol`."""
    token = secrets.token_urlsafe(32)
    enrol_hash = token_hash(one_time_token)
    row = {"enrol_hash": enrol_hash, "token_hash": token_hash(token), "confirmed": False}
    known = books.execute(
        sa.select(_DEVICES.c.enrol_hash, _DEVICES.c.confirmed).where(_DEVICES.c.name == name)
    ).first()
    if known is None:
        used = sa.select(_DEVICES.c.name).where(_DEVICES.c.enrol_hash == enrol_hash)
        if books.execute(used).first() is not None:
            raise MarketError("this one-time token has enrolled another device already")
        books.execute(_DEVICES.insert().values(name=name, **row))
    elif known.enrol_hash != enrol_hash:
        raise MarketError(f"another device has enrolled as {name!r}")
    elif known.confirmed:
        raise MarketError(f"{name!r} has enrolled already and uses its own token")
    else:
        books.execute(_DEVICES.update().where(_DEVICES.c.name == name).values(**row))
    return token


def admit(books: sa.Connection, name: str) -> None:
    """Notes a device whom somebody else has identified, see `Ledger.admit`."""
    known = books.execute(sa.select(_DEVICES.c.name).where(_DEVICES.c.name == name)).first()
    if known is None:
        nobodys = {
            column: token_hash(secrets.token_urlsafe(32)) for column in ("enrol_hash", "token_hash")
        }
        books.execute(_DEVICES.insert().values(name=name, confirmed=True, **nobodys))


def confirm(books: sa.Connection, name: str) -> None:
    """Notes that a device has used its own token."""
    books.execute(_DEVICES.update().where(_DEVICES.c.name == name).values(confirmed=True))


def device_of(books: sa.Connection, token: str) -> str | None:
    """Name of the device with this token; None for nobody's."""
    query = sa.select(_DEVICES.c.name).where(_DEVICES.c.token_hash == token_hash(token))
    row = books.execute(query).first()
    return None if row is None else str(row.name)


def devices(books: sa.Connection) -> list[str]:
    """Names of all enrolled devices."""
    names = books.execute(sa.select(_DEVICES.c.name).order_by(_DEVICES.c.name))
    return [str(name) for name in names.scalars()]


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


# ---------------------------------------------------------------- rounds


def open_round(books: sa.Connection, number: int, **terms: Any) -> None:
    """Adds a round: job, model, digest, question, units_per_device.

    Raises:
        sqlalchemy.exc.IntegrityError: there is one of this number.
    """
    question = json.dumps(question_json(terms.pop("question")))
    books.execute(
        _ROUNDS.insert().values(
            number=number, question=question, engaged=False, closed=False, **terms
        )
    )


def round_row(books: sa.Connection, number: int) -> Any:
    """The row of a round, or None."""
    return books.execute(sa.select(_ROUNDS).where(_ROUNDS.c.number == number)).first()


def expect_open(books: sa.Connection, number: int) -> Any:
    """The row of a round that is not over.

    Raises:
        MarketError: there is none, or it is closed.
    """
    row = round_row(books, number)
    if row is None:
        raise MarketError(f"there is no round {number}")
    if row.closed:
        raise MarketError(f"round {number} is closed")
    return row


def answers(books: sa.Connection, number: int) -> dict[str, Answer]:
    """All answers of a round."""
    rows = books.execute(
        sa.select(_ANSWERS).where(_ANSWERS.c.round == number).order_by(_ANSWERS.c.device)
    )
    return {row.device: read_answer("ledger", json.loads(row.answer)) for row in rows}


def answer_of(books: sa.Connection, number: int, device: str) -> Answer | None:
    """A device's answer in a round."""
    text = books.execute(
        sa.select(_ANSWERS.c.answer).where(_ANSWERS.c.round == number, _ANSWERS.c.device == device)
    ).scalar()
    return None if text is None else read_answer("ledger", json.loads(text))


def add_answer(books: sa.Connection, number: int, device: str, answer: Answer) -> None:
    """Adds an answer."""
    text = json.dumps(answer_json(answer))
    books.execute(_ANSWERS.insert().values(round=number, device=device, answer=text))


def assignment_of(books: sa.Connection, number: int, device: str) -> Item | None:
    """What a device works in a round for what."""
    row = books.execute(
        sa.select(_ASSIGNMENTS).where(
            _ASSIGNMENTS.c.round == number, _ASSIGNMENTS.c.device == device
        )
    ).first()
    return None if row is None else _item(row)


def assign(books: sa.Connection, number: int, device: str, item: Item) -> None:
    """Adds an assignment."""
    books.execute(
        _ASSIGNMENTS.insert().values(
            round=number,
            device=device,
            amount=item.amount,
            reward_microcredits=item.reward_microcredits,
        )
    )


def shut(books: sa.Connection, number: int) -> None:
    """Notes that a round takes no more answers."""
    books.execute(_ROUNDS.update().where(_ROUNDS.c.number == number).values(engaged=True))


def close_round(books: sa.Connection, number: int) -> None:
    """Closes a round; payments still held are forfeit."""
    books.execute(_ROUNDS.update().where(_ROUNDS.c.number == number).values(closed=True))
    books.execute(
        _PIECES.update()
        .where(_PIECES.c.round == number, _PIECES.c.state == PieceState.HELD)
        .values(state=PieceState.FORFEIT, evidence=None)
    )


def rounds(books: sa.Connection, last: int | None) -> list[RoundRecord]:
    """All rounds in order, or the last few of them."""
    query = sa.select(_ROUNDS).order_by(_ROUNDS.c.number.desc()).limit(last)
    found = list(reversed(books.execute(query).all()))
    if not found:
        return []
    first = found[0].number
    told: dict[int, dict[str, Answer]] = {row.number: {} for row in found}
    assigned: dict[int, dict[str, Item]] = {row.number: {} for row in found}
    done: dict[int, dict[str, list[Any]]] = {row.number: {} for row in found}
    for row in books.execute(sa.select(_ANSWERS).where(_ANSWERS.c.round >= first)):
        told[row.round][row.device] = read_answer("ledger", json.loads(row.answer))
    for row in books.execute(sa.select(_ASSIGNMENTS).where(_ASSIGNMENTS.c.round >= first)):
        assigned[row.round][row.device] = _item(row)
    columns = (_PIECES.c.round, _PIECES.c.device, _PIECES.c.piece, _PIECES.c.state)
    pieces = sa.select(*columns, _PIECES.c.units, _PIECES.c.microcredits)
    for row in books.execute(pieces.where(_PIECES.c.round >= first).order_by(_PIECES.c.id)):
        done[row.round].setdefault(row.device, []).append(row)
    return [
        RoundRecord(
            number=row.number,
            job=row.job,
            model=row.model,
            digest=row.digest,
            question=read_question("ledger", json.loads(row.question)),
            units_per_device=row.units_per_device,
            engaged=row.engaged,
            closed=row.closed,
            answers=told[row.number],
            assigned=assigned[row.number],
            pieces={
                name: {each.piece: each.units for each in own}
                for name, own in done[row.number].items()
            },
            held={
                name: tuple(each.piece for each in own if each.state == PieceState.HELD)
                for name, own in done[row.number].items()
            },
            units=_paid(done[row.number], "units"),
            paid_microcredits=_paid(done[row.number], "microcredits"),
        )
        for row in found
    ]


# ---------------------------------------------------------------- pieces


def piece_row(books: sa.Connection, device: str, piece: str) -> Any:
    """The row of a piece, or None."""
    return books.execute(
        sa.select(_PIECES).where(_PIECES.c.device == device, _PIECES.c.piece == piece)
    ).first()


def expect_piece(books: sa.Connection, device: str, piece: str) -> Any:
    """The row of a piece.

    Raises:
        MarketError: there is none.
    """
    row = piece_row(books, device, piece)
    if row is None:
        raise MarketError(f"{device!r} has no piece {piece!r}")
    return row


def units_of(books: sa.Connection, number: int, device: str) -> int:
    """Units of all pieces that a device has delivered in a round."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_PIECES.c.units), 0)).where(
        _PIECES.c.round == number, _PIECES.c.device == device
    )
    return int(books.execute(query).scalar_one())


def add_piece(
    books: sa.Connection,
    piece: Piece,
    settlement: Settlement,
    *,
    evidence: bytes | None,
    recorded_s: float,
) -> None:
    """Adds a piece as it is settled.

    Raises:
        sqlalchemy.exc.IntegrityError: there is one of its id.
    """
    books.execute(
        _PIECES.insert().values(
            device=piece.device,
            piece=piece.piece,
            round=piece.round,
            amount=piece.amount,
            units=settlement.units,
            microcredits=settlement.microcredits,
            state=settlement.state,
            digest=piece.digest,
            audited=evidence is not None,
            evidence=evidence,
            recorded_s=recorded_s,
        )
    )


def set_state(books: sa.Connection, piece_id: int, state: PieceState) -> None:
    """Ends the audit of a piece."""
    books.execute(
        _PIECES.update().where(_PIECES.c.id == piece_id).values(state=state, evidence=None)
    )


def payments(books: sa.Connection, round: int | None) -> list[Payment]:
    """Pieces that were paid, in order, of all rounds or of one."""
    query = sa.select(_PIECES).where(_PIECES.c.state == PieceState.PAID).order_by(_PIECES.c.id)
    if round is not None:
        query = query.where(_PIECES.c.round == round)
    return [
        Payment(
            round=row.round,
            device=row.device,
            piece=row.piece,
            amount=row.amount,
            units=row.units,
            microcredits=row.microcredits,
            audited=row.audited,
            recorded_s=row.recorded_s,
        )
        for row in books.execute(query)
    ]


def count_by_state(books: sa.Connection) -> dict[str, int]:
    """How many pieces were paid, are held, are forfeit."""
    query = sa.select(_PIECES.c.state, sa.func.count().label("pieces")).group_by(_PIECES.c.state)
    counts = {str(row.state): int(row.pieces) for row in books.execute(query)}
    return {state.value: counts.get(state.value, 0) for state in PieceState}


def count_audited(books: sa.Connection) -> int:
    """How many pieces were picked for an audit."""
    return int(books.execute(sa.select(sa.func.count()).where(_PIECES.c.audited)).scalar_one())


def settlement_of(row: Any, *, repeated: bool) -> Settlement:
    """How the piece of a row stands."""
    return Settlement(
        state=PieceState(row.state),
        microcredits=row.microcredits,
        units=row.units,
        repeated=repeated,
    )


# ---------------------------------------------------------------- private


def _item(row: Any) -> Item:
    item = Item(amount=row.amount, reward_microcredits=row.reward_microcredits)
    return NOTHING if item == NOTHING else item


def _paid(done: Mapping[str, list[Any]], column: str) -> dict[str, int]:
    return {
        name: sum(getattr(each, column) for each in own if each.state == PieceState.PAID)
        for name, own in done.items()
    }
