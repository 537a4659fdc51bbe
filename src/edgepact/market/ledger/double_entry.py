"""Accounts and amounts: what leaves one account enters another, once.

A transfer has a reference, which no other has, and moves an amount from the account it debits to
the one it credits. What it was for is somebody else's to know. Amounts are whole micro-credits.

Transfers are only ever added. Each carries a SHA-256 over itself and the one before, so that a
transfer that was altered, left out or put in shows, and `head` tells the last: who has kept a head
can tell that the books were cut or written anew. Balances are kept, so that nobody has to add up
the books to know them; `check` does.

The functions work within a transaction that is handed to them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger.database import META

_TRANSFERS = sa.Table(
    "transfers",
    META,
    # Counted here and not by the database, so that none is missing.
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    # The last line of defence for "paid once".
    sa.Column("reference", sa.String(160), nullable=False, unique=True),
    sa.Column("debit", sa.String(80), nullable=False),
    sa.Column("credit", sa.String(80), nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("about", sa.LargeBinary(32), nullable=True),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.CheckConstraint("microcredits > 0 and debit <> credit"),
)
_ACCOUNTS = sa.Table(
    "accounts",
    META,
    sa.Column("account", sa.String(80), primary_key=True),
    sa.Column("balance_microcredits", sa.BigInteger, nullable=False),
)
_HEAD = sa.Table(
    "head",
    META,
    sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
    sa.Column("id", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
)

START = bytes(32)
"""What stands in the place of the hash before the first transfer's."""

READ_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """An amount to move.

    Attributes:
        reference: its own, in all the books.
        debit: the account it leaves.
        credit: the account it enters.
        microcredits: how much; one of zero is left out.
        about: SHA-256 of what it was for, in which the chain binds it; None for nothing.
    """

    reference: str
    debit: str
    credit: str
    microcredits: int
    about: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the books; the two of a transfer add up to zero."""

    id: int
    reference: str
    account: str
    debit_microcredits: int
    credit_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last transfer: its number and its hash, which stands for all before."""

    id: int
    hash: bytes


def move(books: sa.Connection, transfers: Sequence[Transfer]) -> None:
    """Adds transfers, in order.

    Raises:
        sqlalchemy.exc.IntegrityError: a reference has been used.
    """
    moved = [each for each in transfers if each.microcredits]
    if not moved:
        return
    last = _locked_head(books)
    at, mark = last.id, last.hash
    rows, changes = [], dict[str, int]()
    for each in moved:
        at, mark = at + 1, hash_of(mark, at + 1, each)
        rows.append(
            {
                "id": at,
                "reference": each.reference,
                "debit": each.debit,
                "credit": each.credit,
                "microcredits": each.microcredits,
                "about": each.about,
                "hash": mark,
            }
        )
        changes[each.debit] = changes.get(each.debit, 0) - each.microcredits
        changes[each.credit] = changes.get(each.credit, 0) + each.microcredits
    books.execute(_TRANSFERS.insert(), rows)
    books.execute(_HEAD.update().values(id=at, hash=mark))
    _add_to_balances(books, changes)


def hash_of(before: bytes, at: int, transfer: Transfer) -> bytes:
    """SHA-256 of a transfer and of all before it.

    Args:
        before: hash of the transfer before, `START` for the first.
        at: number of the transfer, from 1.
        transfer: the transfer.
    """
    parts = (transfer.reference, transfer.debit, transfer.credit)
    told = "".join(f"{len(part)}:{part}" for part in parts)  # no two transfers read alike
    end = f"{at} {told} {transfer.microcredits} ".encode() + (transfer.about or b"")
    return hashlib.sha256(before + end).digest()


def head(books: sa.Connection) -> Head:
    """The last transfer; number 0 before the first."""
    row = books.execute(sa.select(_HEAD.c.id, _HEAD.c.hash)).first()
    return Head(id=0, hash=START) if row is None else Head(id=row.id, hash=bytes(row.hash))


def transfers(books: sa.Connection) -> Iterator[tuple[int, Transfer, bytes]]:
    """Number, transfer and hash of every one, in order; not all are in memory at once."""
    last = 0
    while True:
        query = sa.select(_TRANSFERS).where(_TRANSFERS.c.id > last).order_by(_TRANSFERS.c.id)
        rows = books.execute(query.limit(READ_AT_ONCE)).all()
        for row in rows:
            yield row.id, _transfer(row), bytes(row.hash)
        if len(rows) < READ_AT_ONCE:
            return
        last = rows[-1].id


def entries(books: sa.Connection) -> list[Entry]:
    """Every line, in order."""
    return [
        Entry(
            id=at,
            reference=each.reference,
            account=account,
            debit_microcredits=debited,
            credit_microcredits=credited,
        )
        for at, each, _ in transfers(books)
        for account, debited, credited in (
            (each.debit, each.microcredits, 0),
            (each.credit, 0, each.microcredits),
        )
    ]


def balances(books: sa.Connection) -> dict[str, int]:
    """Credits less debits of every account that has ever moved, micro-credits."""
    query = sa.select(_ACCOUNTS).order_by(_ACCOUNTS.c.account)
    return {row.account: int(row.balance_microcredits) for row in books.execute(query)}


def balance(books: sa.Connection, account: str) -> int:
    """Credits less debits of an account, micro-credits."""
    query = sa.select(_ACCOUNTS.c.balance_microcredits).where(_ACCOUNTS.c.account == account)
    return int(books.execute(query).scalar() or 0)


def totals(books: sa.Connection) -> tuple[int, int]:
    """Sum of all debits and of all credits that were ever moved, micro-credits: always equal."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_TRANSFERS.c.microcredits), 0))
    moved = int(books.execute(query).scalar_one())
    return moved, moved


def abouts(books: sa.Connection) -> Iterator[tuple[str, bytes]]:
    """Reference of every transfer that says what it was for, and what."""
    for _, each, _ in transfers(books):
        if each.about is not None:
            yield each.reference, each.about


def check(books: sa.Connection) -> list[str]:
    """What is wrong with the books, in sentences; nothing if they are whole.

    Adds up every transfer and follows the chain of hashes.
    """
    wrong = list[str]()
    before, expected, found = START, 1, dict[str, int]()
    broken = False
    for at, each, mark in transfers(books):
        if at != expected and not broken:
            wrong.append(f"transfer {expected} is missing: {at} comes in its place")
            broken = True
        if hash_of(before, at, each) != mark and not broken:
            wrong.append(f"transfer {at} ({each.reference}) or one before it was altered")
            broken = True
        before, expected = mark, at + 1
        found[each.debit] = found.get(each.debit, 0) - each.microcredits
        found[each.credit] = found.get(each.credit, 0) + each.microcredits
    last = head(books)
    if (last.id, last.hash) != (expected - 1, before):
        wrong.append(f"the chain ends at transfer {expected - 1}, its head tells {last.id}")
    kept = balances(books)
    for account in sorted(kept.keys() | found.keys()):
        if kept.get(account, 0) != found.get(account, 0):
            wrong.append(
                f"{account} is kept with {kept.get(account, 0)} micro-credits, "
                f"its transfers add up to {found.get(account, 0)}"
            )
    return wrong


def _locked_head(books: sa.Connection) -> Head:
    """The head, which nobody else moves until the transaction ends."""
    row = books.execute(sa.select(_HEAD.c.id, _HEAD.c.hash).with_for_update()).first()
    if row is None:
        books.execute(_HEAD.insert().values(one=1, id=0, hash=START))
        return Head(id=0, hash=START)
    return Head(id=row.id, hash=bytes(row.hash))


def _add_to_balances(books: sa.Connection, changes: dict[str, int]) -> None:
    named = sa.select(_ACCOUNTS.c.account).where(_ACCOUNTS.c.account.in_(sorted(changes)))
    there = set(books.execute(named).scalars())
    fresh = [
        {"account": account, "balance_microcredits": change}
        for account, change in changes.items()
        if account not in there
    ]
    moved = [
        {"of": account, "change": change}
        for account, change in sorted(changes.items())
        if account in there and change
    ]
    if fresh:
        books.execute(_ACCOUNTS.insert(), fresh)
    if moved:
        kept = _ACCOUNTS.c.balance_microcredits
        books.execute(
            _ACCOUNTS.update()
            .where(_ACCOUNTS.c.account == sa.bindparam("of"))
            .values(balance_microcredits=kept + sa.bindparam("change", type_=sa.BigInteger)),
            moved,
        )


def _transfer(row: Any) -> Transfer:
    return Transfer(
        reference=row.reference,
        debit=row.debit,
        credit=row.credit,
        microcredits=row.microcredits,
        about=None if row.about is None else bytes(row.about),
    )
