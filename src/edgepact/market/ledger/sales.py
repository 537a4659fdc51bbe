"""What was delivered for buyers: each request once, and what is paid for it when its round settles.

The functions work within a transaction that is handed to them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger import double_entry
from edgepact.market.ledger.accounts import SERVER, buyer_of, sold_of
from edgepact.market.ledger.database import META, READ_AT_ONCE
from edgepact.market.ledger.double_entry import Transfer
from edgepact.market.ledger.records import PieceState
from edgepact.market.ledger.tables import PIECES

SALES = sa.Table(
    "sales",
    META,
    # The id of a request is that of its piece.
    sa.Column("request", sa.String(64), primary_key=True),
    sa.Column("buyer", sa.String(64), nullable=False),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("round", sa.BigInteger, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("bound", sa.LargeBinary(32), nullable=False),
    sa.CheckConstraint("microcredits >= 0"),
    sa.Index("sales_by_round", "round", "device"),
)


def add(books: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Notes for whom pieces were delivered.

    Raises:
        sqlalchemy.exc.IntegrityError: a request was delivered before.
    """
    if rows:
        books.execute(SALES.insert(), list(rows))


def known(books: sa.Connection, requests: Sequence[str]) -> set[str]:
    """Those requests that were delivered."""
    query = sa.select(SALES.c.request).where(SALES.c.request.in_(requests))
    return set(books.execute(query).scalars())


def bound_of(books: sa.Connection, device: str, piece: str) -> bytes | None:
    """What the source of a piece is held against; None of one that nobody asked for."""
    query = sa.select(SALES.c.bound).where(SALES.c.request == piece, SALES.c.device == device)
    found = books.execute(query).scalar()
    return None if found is None else bytes(found)


def bill(books: sa.Connection, number: int, device: str) -> None:
    """Has buyers pay the server for all pieces of a device-round that are paid."""
    paid = sa.select(SALES).join(
        PIECES, (PIECES.c.device == SALES.c.device) & (PIECES.c.piece == SALES.c.request)
    )
    query = paid.where(
        SALES.c.round == number, SALES.c.device == device, PIECES.c.state == PieceState.PAID
    ).order_by(PIECES.c.id)
    double_entry.move(books, [_transfer(row) for row in books.execute(query).all()])


def all_sales(books: sa.Connection) -> Iterator[tuple[Any, Transfer | None]]:
    """Rows of all sales, each with its piece's state, and with what was paid."""
    query = sa.select(SALES, PIECES.c.state).join(
        PIECES, (PIECES.c.device == SALES.c.device) & (PIECES.c.piece == SALES.c.request)
    )
    query = query.order_by(SALES.c.round, SALES.c.device, PIECES.c.id)
    rows = books.execute(query).all()
    for at in range(0, len(rows), READ_AT_ONCE):
        some = rows[at : at + READ_AT_ONCE]
        found = double_entry.find(books, [sold_of(row.request) for row in some])
        for row in some:
            yield row, found.get(sold_of(row.request))


def received(books: sa.Connection) -> int:
    """What buyers have paid in all, micro-credits."""
    return -double_entry.total_of(books, buyer_of(""))


def wrong(books: sa.Connection) -> Iterator[str | None]:
    """What is wrong with what buyers have paid, in sentences; None for each payment that is right
    and says what it was for."""
    for row, moved in all_sales(books):
        due = row.microcredits if row.state == PieceState.PAID else 0
        if moved is None:
            if due:
                yield f"{row.buyer} has not paid for {row.request}, which is paid to {row.device}"
        elif due and moved == _transfer(row):
            yield None
        else:
            yield f"what {row.buyer} has paid for {row.request} is not what it owes"


def _transfer(row: Any) -> Transfer:
    told = f"{row.request} {row.buyer} {row.device} {row.round} {row.units} {row.microcredits} "
    return Transfer(
        reference=sold_of(row.request),
        debit=buyer_of(row.buyer),
        credit=SERVER,
        microcredits=row.microcredits,
        about=hashlib.sha256(told.encode() + bytes(row.bound)).digest(),
    )
