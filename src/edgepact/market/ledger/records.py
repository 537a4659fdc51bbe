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

The functions work within a transaction that is handed to them. Tokens are random and long, so
that a plain SHA-256 of them is a safe thing to store: there is nothing to guess.
"""

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from edgepact.engagement import NOTHING, Answer, Item, Question
from edgepact.errors import MarketError
from edgepact.market.demand import Request
from edgepact.market.ledger.database import META, READ_AT_ONCE, SERIAL, fact
from edgepact.market.protocol.messages import (
    answer_json,
    question_json,
    read_answer,
    read_question,
)

SECRET = "secret"
"""Fact of a ledger from which seeds and tokens are drawn."""

SECRET_BYTES = 32

TRAINING = "training"
"""The job of rounds that Flower carries; its pieces are updates."""

_DEVICES = sa.Table(
    "devices",
    META,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("enrol_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("confirmed", sa.Boolean, nullable=False),
    sa.Column("strikes", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("excluded", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revoked", sa.Boolean, nullable=False, server_default=sa.false()),
)
_TOKENS = sa.Table(
    "tokens",
    META,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("issued_s", sa.Float, nullable=False),
    sa.Column("expires_s", sa.Float, nullable=True),
    sa.Column("revoked", sa.Boolean, nullable=False),
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
    # What was delivered and is pending of it, kept so that nobody has to add it up.
    sa.Column("units", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("pending_microcredits", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("state", sa.String(8), nullable=False, server_default="settled"),
    sa.Column("rate", sa.Float, nullable=True),
    sa.Column("deadline_s", sa.Float, nullable=True),
    sa.CheckConstraint("amount >= 0 and reward_microcredits >= 0"),
    # Few are not settled; with this nobody looks through all to find them.
    sa.Index(
        "assignments_unsettled",
        "round",
        "device",
        sqlite_where=sa.text("state <> 'settled'"),
        postgresql_where=sa.text("state <> 'settled'"),
    ),
)
_VERDICTS = sa.Table(
    "verdicts",
    META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("told", sa.Text, nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
)
PIECES = sa.Table(
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
    sa.Column("commitment", sa.LargeBinary(32), nullable=True),
    sa.Column("sketch", sa.LargeBinary, nullable=True),
    sa.UniqueConstraint("device", "piece"),
    sa.Index("pieces_by_round", "round", "device"),
    sa.Index("pieces_by_digest", "digest"),
)
_LEASE = sa.Table(
    "lease",
    META,
    sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("until_s", sa.Float, nullable=False),
)


@sa.event.listens_for(_LEASE, "after_create")
def _nobody_leads(_table: sa.Table, books: sa.Connection, **_: object) -> None:
    # There from the start, so that two who take the first lease wait for each other at its row.
    books.execute(_LEASE.insert().values(one=1, holder="", fence=0, until_s=0.0))


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


# ---------------------------------------------------------------- devices


def enrol(books: sa.Connection, one_time_token: str, name: str) -> str:
    """Enrols a device and returns its token, see `Ledger.enrol`."""
    # The same request has the same answer: where a network doubles it, or the device asks again
    # before the first has come in, whichever answer it hears has to be good.
    secret = bytes.fromhex(fact(books, SECRET, secrets.token_hex(SECRET_BYTES)))
    asked = f"device token\n{name}\n{one_time_token}".encode()
    token = urlsafe_b64encode(hmac.digest(secret, asked, "sha256")).decode().rstrip("=")
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
    else:  # a token of an older version was drawn
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
    """Name of the device with this token; None for nobody's, or if it was revoked."""
    query = sa.select(_DEVICES.c.name).where(
        _DEVICES.c.token_hash == token_hash(token), sa.not_(_DEVICES.c.revoked)
    )
    row = books.execute(query).first()
    return None if row is None else str(row.name)


def shut_out(books: sa.Connection) -> dict[str, bool]:
    """Devices that may take no part: excluded (True), or their token was revoked (False)."""
    query = sa.select(_DEVICES.c.name, _DEVICES.c.excluded).where(
        sa.or_(_DEVICES.c.excluded, _DEVICES.c.revoked)
    )
    return {row.name: bool(row.excluded) for row in books.execute(query)}


def strikes(books: sa.Connection) -> dict[str, int]:
    """Audits that devices have failed, of those that have."""
    query = sa.select(_DEVICES.c.name, _DEVICES.c.strikes).where(_DEVICES.c.strikes > 0)
    return {row.name: int(row.strikes) for row in books.execute(query)}


def strike(books: sa.Connection, device: str, strikes_max: int) -> None:
    """Counts a failed audit; at so many the device is excluded."""
    count = _DEVICES.c.strikes + 1
    books.execute(
        _DEVICES.update()
        .where(_DEVICES.c.name == device)
        .values(strikes=count, excluded=sa.or_(_DEVICES.c.excluded, count >= strikes_max))
    )


def change_device(books: sa.Connection, name: str, **values: Any) -> None:
    """Sets columns of a device.

    Raises:
        MarketError: there is none of this name.
    """
    found = books.execute(_DEVICES.update().where(_DEVICES.c.name == name).values(**values))
    if not found.rowcount:
        raise MarketError(f"no device is enrolled as {name!r}")


def members(books: sa.Connection) -> list[tuple[str, int, bool, bool]]:
    """Name, strikes, excluded, revoked of all devices."""
    query = sa.select(_DEVICES).order_by(_DEVICES.c.name)
    return [
        (row.name, row.strikes, bool(row.excluded), bool(row.revoked))
        for row in books.execute(query)
    ]


# ---------------------------------------------------------------- one-time tokens

LABEL_CHARS = 12


def issue(books: sa.Connection, token: str, issued_s: float, expires_s: float | None) -> Token:
    """Keeps the hash of a new one-time token."""
    mark = token_hash(token)
    label = mark[:LABEL_CHARS]
    books.execute(
        _TOKENS.insert().values(
            hash=mark, label=label, issued_s=issued_s, expires_s=expires_s, revoked=False
        )
    )
    return Token(label=label, issued_s=issued_s, expires_s=expires_s, revoked=False, device=None)


def issued(books: sa.Connection) -> list[Token]:
    """All one-time tokens that were issued, in order."""
    join = _TOKENS.outerjoin(_DEVICES, _DEVICES.c.enrol_hash == _TOKENS.c.hash)
    query = sa.select(_TOKENS, _DEVICES.c.name).select_from(join).order_by(_TOKENS.c.issued_s)
    return [
        Token(
            label=row.label,
            issued_s=row.issued_s,
            expires_s=row.expires_s,
            revoked=bool(row.revoked),
            device=row.name,
        )
        for row in books.execute(query)
    ]


def admits(books: sa.Connection, token: str, now_s: float) -> bool:
    """Whether a one-time token was issued and is neither revoked nor expired."""
    row = books.execute(sa.select(_TOKENS).where(_TOKENS.c.hash == token_hash(token))).first()
    return row is not None and not row.revoked and (row.expires_s is None or now_s < row.expires_s)


def revoke_token(books: sa.Connection, label: str) -> bool:
    """Voids a one-time token; False if there is none of this label."""
    found = books.execute(_TOKENS.update().where(_TOKENS.c.label == label).values(revoked=True))
    return bool(found.rowcount)


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
    check_open(row, number)
    return row


def check_open(row: Any, number: int) -> None:
    """Whether the row of a round is one that is not over.

    Raises:
        MarketError: there is none, or it is closed.
    """
    if row is None:
        raise MarketError(f"there is no round {number}")
    if row.closed:
        raise MarketError(f"round {number} is closed")


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


def assign(
    books: sa.Connection, number: int, device: str, item: Item, stage: Stage = Stage.OPEN
) -> None:
    """Adds an assignment."""
    books.execute(
        _ASSIGNMENTS.insert().values(
            round=number,
            device=device,
            amount=item.amount,
            reward_microcredits=item.reward_microcredits,
            state=stage,
        )
    )


def assignments(books: sa.Connection, keys: set[tuple[int, str]]) -> dict[tuple[int, str], Any]:
    """Rows of assignments by round and device, of those that there are."""
    rows = _of_keys(books, _ASSIGNMENTS, ("round", "device"), keys)
    return {(row.round, row.device): row for row in rows}


def count_delivered(books: sa.Connection, changes: Mapping[tuple[int, str], list[int]]) -> None:
    """Adds units and pending micro-credits to device-rounds."""
    books.execute(
        _ASSIGNMENTS.update()
        .where(
            _ASSIGNMENTS.c.round == sa.bindparam("of_round"),
            _ASSIGNMENTS.c.device == sa.bindparam("of_device"),
        )
        .values(
            units=_ASSIGNMENTS.c.units + sa.bindparam("more_units", type_=sa.BigInteger),
            pending_microcredits=_ASSIGNMENTS.c.pending_microcredits
            + sa.bindparam("more", type_=sa.BigInteger),
        ),
        [
            {"of_round": number, "of_device": name, "more_units": units, "more": microcredits}
            for (number, name), (units, microcredits) in sorted(changes.items())
        ],
    )


_UNSETTLED = sa.text("assignments.state <> 'settled'")
"""Written out, since SQLite does not see that a parameter's value fits the index."""


def set_stage(books: sa.Connection, number: int, device: str, stage: Stage, **also: Any) -> None:
    """Moves the settlement of a device-round on."""
    books.execute(
        _ASSIGNMENTS.update()
        .where(_ASSIGNMENTS.c.round == number, _ASSIGNMENTS.c.device == device)
        .values(state=stage, **also)
    )


def unsettled(books: sa.Connection, device: str | None = None) -> list[tuple[int, str, Stage]]:
    """Round, device and stage of device-rounds that are not settled, of all devices or one."""
    query = sa.select(_ASSIGNMENTS.c.round, _ASSIGNMENTS.c.device, _ASSIGNMENTS.c.state).where(
        _UNSETTLED
    )
    if device is not None:
        query = query.where(_ASSIGNMENTS.c.device == device)
    ordered = query.order_by(_ASSIGNMENTS.c.round, _ASSIGNMENTS.c.device)
    return [(row.round, row.device, Stage(row.state)) for row in books.execute(ordered)]


def bought_in(
    books: sa.Connection,
    number: int,
    beside: Callable[[sa.Select[Any], sa.ColumnElement[str]], sa.Select[Any]],
) -> int:
    """What is owed or paid for the work of a round, micro-credits: neither what is forfeit nor
    what has expired.

    Asked with each group of pieces, so it goes through the round's devices and not its pieces:
    what is pending of each is kept, and what was paid is one transfer.

    Args:
        books: of the ledger.
        number: of the round.
        beside: joins what a reference stands for, see `double_entry.beside`.
    """
    of_round = _ASSIGNMENTS.c.round == number
    reference = f"round:{number}/" + _ASSIGNMENTS.c.device + "/paid"  # as `accounts.paid_of` has it
    settled = sa.select(_ASSIGNMENTS.c.device).where(
        of_round, _ASSIGNMENTS.c.state == Stage.SETTLED, _ASSIGNMENTS.c.units > 0
    )
    paid = sa.func.sum(beside(settled, reference).subquery().c.moved)
    pending = sa.func.sum(_ASSIGNMENTS.c.pending_microcredits)
    queries = sa.select(paid), sa.select(pending).where(of_round)
    return sum(int(books.execute(query).scalar_one() or 0) for query in queries)


def open_audits(books: sa.Connection) -> list[OpenAudit]:
    """Device-rounds whose audit is not over."""
    query = (
        sa.select(_ASSIGNMENTS.c.round, _ASSIGNMENTS.c.device, _ASSIGNMENTS.c.deadline_s)
        .where(_UNSETTLED, _ASSIGNMENTS.c.state == Stage.AUDITING)
        .order_by(_ASSIGNMENTS.c.round, _ASSIGNMENTS.c.device)
    )
    # One by one: a join would go through all pieces that there ever were.
    return [
        OpenAudit(
            round=row.round,
            device=row.device,
            pieces=tuple(
                each.piece for each in pending(books, row.round, row.device) if each.picked
            ),
            deadline_s=row.deadline_s or 0.0,
        )
        for row in books.execute(query).all()
    ]


def add_verdict(books: sa.Connection, number: int, device: str, told: str, signature: str) -> None:
    """Keeps a verdict."""
    books.execute(
        _VERDICTS.insert().values(round=number, device=device, told=told, signature=signature)
    )


def verdicts(books: sa.Connection, device: str | None = None) -> list[tuple[str, str]]:
    """Texts and signatures of all verdicts, or of those on a device."""
    query = sa.select(_VERDICTS).order_by(_VERDICTS.c.round, _VERDICTS.c.device)
    if device is not None:
        query = query.where(_VERDICTS.c.device == device)
    return [(row.told, row.signature) for row in books.execute(query)]


def shut(books: sa.Connection, number: int) -> None:
    """Notes that a round takes no more answers."""
    books.execute(_ROUNDS.update().where(_ROUNDS.c.number == number).values(engaged=True))


def close_round(books: sa.Connection, number: int) -> None:
    """Closes a round: what comes later is refused. Its device-rounds are settled by themselves."""
    books.execute(_ROUNDS.update().where(_ROUNDS.c.number == number).values(closed=True))


def rounds(books: sa.Connection, last: int | None, pieces: bool) -> list[RoundRecord]:
    """All rounds in order, or the last few of them; with every piece, or only of open rounds."""
    query = sa.select(_ROUNDS).order_by(_ROUNDS.c.number.desc()).limit(last)
    found = list(reversed(books.execute(query).all()))
    if not found:
        return []
    first = found[0].number
    told: dict[int, dict[str, Answer]] = {row.number: {} for row in found}
    assigned: dict[int, dict[str, Item]] = {row.number: {} for row in found}
    stages: dict[int, dict[str, Stage]] = {row.number: {} for row in found}
    rates: dict[int, dict[str, float]] = {row.number: {} for row in found}
    done: dict[int, dict[str, dict[str, int]]] = {row.number: {} for row in found}
    for row in books.execute(sa.select(_ANSWERS).where(_ANSWERS.c.round >= first)):
        told[row.round][row.device] = read_answer("ledger", json.loads(row.answer))
    for row in books.execute(sa.select(_ASSIGNMENTS).where(_ASSIGNMENTS.c.round >= first)):
        assigned[row.round][row.device] = _item(row)
        stages[row.round][row.device] = Stage(row.state)
        if row.rate is not None:
            rates[row.round][row.device] = float(row.rate)
    sums = {row.number: list[Any]() for row in found}
    of_device = (PIECES.c.round, PIECES.c.device, PIECES.c.state)
    summed = sa.select(
        *of_device,
        sa.func.sum(PIECES.c.units).label("units"),
        sa.func.sum(PIECES.c.microcredits).label("microcredits"),
    )
    for row in books.execute(summed.where(PIECES.c.round >= first).group_by(*of_device)):
        sums[row.round].append(row)
    named = [row.number for row in found if pieces or not row.closed]
    if named:
        columns = (PIECES.c.round, PIECES.c.device, PIECES.c.piece, PIECES.c.units)
        wanted = PIECES.c.round >= named[0]
        if len(named) < len(found):
            wanted = PIECES.c.round.in_(named)
        for row in books.execute(sa.select(*columns).where(wanted).order_by(PIECES.c.id)):
            done[row.round].setdefault(row.device, {})[row.piece] = row.units
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
            pieces=done[row.number],
            stages=stages[row.number],
            rates=rates[row.number],
            delivered=_sums(sums[row.number], "units", frozenset(PieceState)),
            units=_sums(sums[row.number], "units", _PENDING_OR_PAID),
            paid_microcredits=_sums(sums[row.number], "microcredits", {PieceState.PAID}),
            pending_microcredits=_sums(sums[row.number], "microcredits", {PieceState.PENDING}),
        )
        for row in found
    ]


# ---------------------------------------------------------------- pieces


def piece_row(books: sa.Connection, device: str, piece: str) -> Any:
    """The row of a piece, or None."""
    return books.execute(
        sa.select(PIECES).where(PIECES.c.device == device, PIECES.c.piece == piece)
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


def known_pieces(books: sa.Connection, keys: set[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """Rows of pieces by device and id, of those that there are."""
    rows = _of_keys(books, PIECES, ("device", "piece"), keys)
    return {(row.device, row.piece): row for row in rows}


def delivered_since(
    books: sa.Connection, digests: set[bytes], first_round: int
) -> dict[bytes, tuple[str, str]]:
    """Who has delivered work of these digests from a round on: device and piece. What has expired
    may be delivered again: the server did not pay for it, and the device is not to blame."""
    query = sa.select(PIECES.c.digest, PIECES.c.device, PIECES.c.piece).where(
        PIECES.c.digest.in_(digests),
        PIECES.c.round >= first_round,
        PIECES.c.state != PieceState.EXPIRED,
    )
    return {bytes(row.digest): (row.device, row.piece) for row in books.execute(query)}


def add_pieces(books: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Adds pieces as they are settled.

    Raises:
        sqlalchemy.exc.IntegrityError: there is one of such an id.
    """
    books.execute(PIECES.insert(), list(rows))


_PENDING_OR_PAID = {PieceState.PENDING, PieceState.PAID}


def pending(books: sa.Connection, number: int, device: str) -> list[Pending]:
    """Pieces of a device-round whose pay is pending, in order."""
    query = (
        sa.select(PIECES)
        .where(
            PIECES.c.round == number,
            PIECES.c.device == device,
            PIECES.c.state == PieceState.PENDING,
        )
        .order_by(PIECES.c.id)
    )
    return [
        Pending(
            piece=row.piece,
            units=row.units,
            microcredits=row.microcredits,
            auditable=row.evidence is not None,
            picked=bool(row.audited) and row.evidence is not None,
        )
        for row in books.execute(query)
    ]


def rows_of(books: sa.Connection, number: int, device: str) -> list[Any]:
    """Rows of all pieces of a device-round, in order."""
    query = sa.select(PIECES).where(PIECES.c.round == number, PIECES.c.device == device)
    return list(books.execute(query.order_by(PIECES.c.id)))


def pick(books: sa.Connection, device: str, pieces: Sequence[str]) -> None:
    """Notes which pieces are audited."""
    books.execute(
        PIECES.update()
        .where(PIECES.c.device == device, PIECES.c.piece.in_(pieces))
        .values(audited=True)
    )


def change_piece(books: sa.Connection, device: str, piece: str, **values: Any) -> None:
    """Sets columns of a piece."""
    books.execute(
        PIECES.update().where(PIECES.c.device == device, PIECES.c.piece == piece).values(**values)
    )


def end_pending(
    books: sa.Connection, device: str, state: PieceState, number: int | None = None
) -> tuple[int, bytes]:
    """Ends what is pending of a device, in all rounds or in one.

    Returns:
        Its micro-credits, and a mark of the pieces, see `pieces_mark`.
    """
    which = [PIECES.c.device == device, PIECES.c.state == PieceState.PENDING]
    if number is not None:
        which.append(PIECES.c.round == number)
    query = sa.select(PIECES.c.piece, PIECES.c.microcredits).where(*which).order_by(PIECES.c.id)
    found = books.execute(query).all()
    books.execute(PIECES.update().where(*which).values(state=state, evidence=None))
    return sum(row.microcredits for row in found), pieces_mark(row.piece for row in found)


def pieces_mark(pieces: Iterable[str]) -> bytes:
    """SHA-256 of ids of pieces, in order: what the transfer of their pay binds."""
    mark = hashlib.sha256()
    for piece in pieces:
        mark.update(f"{len(piece)}:{piece}".encode())
    return mark.digest()


def sketches(books: sa.Connection, first_round: int) -> list[tuple[int, str, str, bytes]]:
    """Round, device, id and sketch of pieces from a round on that have one and have not expired."""
    query = sa.select(PIECES.c.round, PIECES.c.device, PIECES.c.piece, PIECES.c.sketch).where(
        PIECES.c.round >= first_round,
        PIECES.c.sketch.is_not(None),
        PIECES.c.state != PieceState.EXPIRED,
    )
    rows = books.execute(query.order_by(PIECES.c.id))
    return [(row.round, row.device, row.piece, bytes(row.sketch)) for row in rows]


def all_pieces(books: sa.Connection, *, device: str | None = None) -> Iterator[Any]:
    """Rows of all pieces, or of a device's, without their evidence; by round, device and id, and
    not all at once."""
    kept = (each for each in PIECES.c if each.name not in ("evidence", "sketch"))
    query = sa.select(*kept).order_by(PIECES.c.round, PIECES.c.device, PIECES.c.id)
    if device is not None:
        query = query.where(PIECES.c.device == device)
    yield from books.execute(query.execution_options(yield_per=READ_AT_ONCE))


def pieces_beside(
    books: sa.Connection,
    beside: Callable[[sa.Select[Any], sa.ColumnElement[str]], sa.Select[Any]],
) -> Iterator[Any]:
    """Rows of all pieces by round, device and id, with what their deliveries have moved.

    Args:
        books: the transaction.
        beside: joins what a reference stands for, see `double_entry.beside`.

    Returns:
        Number, device, id, round, amount, units, micro-credits, state, digest and commitment of
        each, and what `beside` adds; not all at once.
    """
    names = ("id", "device", "piece", "round", "amount", "units", "microcredits", "state")
    kept = (PIECES.c[name] for name in (*names, "digest", "commitment"))
    reference = PIECES.c.device + "/" + PIECES.c.piece  # as `accounts.delivery_of` has it
    query = beside(sa.select(*kept), reference)
    query = query.order_by(PIECES.c.round, PIECES.c.device, PIECES.c.id)
    yield from books.execute(query.execution_options(yield_per=READ_AT_ONCE))


def all_verdicts(books: sa.Connection) -> Iterator[Any]:
    """Rows of all verdicts; not all at once."""
    query = sa.select(_VERDICTS).order_by(_VERDICTS.c.round, _VERDICTS.c.device)
    yield from books.execute(query.execution_options(yield_per=READ_AT_ONCE))


def paid_by_round(books: sa.Connection) -> dict[int, dict[str, int]]:
    """Micro-credits that were paid, by round and device."""
    query = (
        sa.select(PIECES.c.round, PIECES.c.device, sa.func.sum(PIECES.c.microcredits).label("paid"))
        .where(PIECES.c.state == PieceState.PAID)
        .group_by(PIECES.c.round, PIECES.c.device)
        .order_by(PIECES.c.round, PIECES.c.device)
    )
    found = dict[int, dict[str, int]]()
    for row in books.execute(query):
        found.setdefault(row.round, {})[row.device] = int(row.paid)
    return found


def worth_by_state(books: sa.Connection) -> dict[str, dict[str, int]]:
    """Micro-credits of all pieces by device and state."""
    query = sa.select(
        PIECES.c.device, PIECES.c.state, sa.func.sum(PIECES.c.microcredits).label("total")
    ).group_by(PIECES.c.device, PIECES.c.state)
    found = dict[str, dict[str, int]]()
    for row in books.execute(query):
        found.setdefault(row.device, {})[row.state] = int(row.total)
    return found


# ---------------------------------------------------------------- who writes


def lease(books: sa.Connection, *, lock: bool) -> Any:
    """The row of the lease, which nobody changes until the transaction ends.

    Args:
        books: the transaction.
        lock: whether it is to be changed in this transaction, and nobody else may read it so.
    """
    query = sa.select(_LEASE)
    return books.execute(query.with_for_update(read=not lock)).one()


def take_lease(books: sa.Connection, holder: str, fence: int, until_s: float) -> None:
    """Writes the lease down."""
    books.execute(_LEASE.update().values(holder=holder, fence=fence, until_s=until_s))


# ---------------------------------------------------------------- told


def payments(books: sa.Connection, round: int | None) -> list[Payment]:
    """Pieces that were paid, in order, of all rounds or of one."""
    query = sa.select(PIECES).where(PIECES.c.state == PieceState.PAID).order_by(PIECES.c.id)
    if round is not None:
        query = query.where(PIECES.c.round == round)
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
    """How many pieces are in each state."""
    query = sa.select(PIECES.c.state, sa.func.count().label("pieces")).group_by(PIECES.c.state)
    counts = {str(row.state): int(row.pieces) for row in books.execute(query)}
    return {state.value: counts.get(state.value, 0) for state in PieceState}


def count_audited(books: sa.Connection) -> int:
    """How many pieces were picked for an audit."""
    return int(books.execute(sa.select(sa.func.count()).where(PIECES.c.audited)).scalar_one())


def settlement_of(row: Any, *, repeated: bool) -> Settlement:
    """How the piece of a row stands."""
    return Settlement(
        state=PieceState(row.state),
        microcredits=row.microcredits,
        units=row.units,
        repeated=repeated,
        audited=bool(row.audited),
    )


# ---------------------------------------------------------------- private


def _of_keys(
    books: sa.Connection, table: sa.Table, names: tuple[str, str], keys: Set[tuple[Any, Any]]
) -> Any:
    """Rows of a table by two columns.

    A join, since SQLite uses no index for pairs in a list; and with one parameter, so that the
    statement is the same for any number of keys.
    """
    if not keys:
        return []
    said = sa.bindparam("wanted", json.dumps(sorted(keys)), sa.Text)
    wanted: sa.FromClause
    parts: list[sa.ColumnElement[Any]]
    if books.dialect.name == "sqlite":
        wanted = sa.func.json_each(said).table_valued(sa.column("value", sa.Text), name="wanted")
        parts = [sa.func.json_extract(wanted.c.value, f"$[{at}]") for at in (0, 1)]
    elif books.dialect.name == "postgresql":
        wanted = sa.func.json_array_elements(sa.cast(said, sa.JSON)).table_valued(
            sa.column("value", sa.JSON), name="wanted"
        )
        parts = [
            sa.cast(wanted.c.value.op("->>")(at), table.c[name].type)
            for at, name in enumerate(names)
        ]
    else:
        columns = (sa.column(name, table.c[name].type) for name in names)
        wanted = sa.values(*columns, name="wanted").data(sorted(keys)).cte("wanted")
        parts = [wanted.c[name] for name in names]
    same = sa.and_(*(table.c[name] == part for name, part in zip(names, parts, strict=True)))
    return books.execute(sa.select(table).select_from(wanted.join(table, same)))


def _item(row: Any) -> Item:
    item = Item(amount=row.amount, reward_microcredits=row.reward_microcredits)
    return NOTHING if item == NOTHING else item


def _sums(rows: Sequence[Any], column: str, states: Set[PieceState]) -> dict[str, int]:
    found = dict.fromkeys([each.device for each in rows], 0)
    for each in rows:
        if each.state in states:
            found[each.device] += int(getattr(each, column))  # PostgreSQL adds up to decimals
    return found
