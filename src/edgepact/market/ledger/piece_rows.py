"""Pieces of work, each once, and what became of its pay.

The functions work within a transaction that is handed to them.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from edgepact.errors import MarketError
from edgepact.market.ledger.database import READ_AT_ONCE
from edgepact.market.ledger.records import Payment, Pending, PieceState, Settlement
from edgepact.market.ledger.tables import PIECES, of_keys


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
    rows = of_keys(books, PIECES, ("device", "piece"), keys)
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


PENDING_OR_PAID = {PieceState.PENDING, PieceState.PAID}


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
