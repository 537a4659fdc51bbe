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
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger.database import META, READ_AT_ONCE

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


@sa.event.listens_for(_HEAD, "after_create")
def _begin_chain(_table: sa.Table, books: sa.Connection, **_: object) -> None:
    books.execute(_HEAD.insert().values(one=1, id=0, hash=START))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The books at a moment: what somebody keeps who wants to know them again.

    Attributes:
        id, hash: of the last transfer; 0 and zeros before the first.
        balances: SHA-256 of the balances of all accounts.
    """

    id: int
    hash: bytes
    balances: bytes


def move(books: sa.Connection, transfers: Sequence[Transfer]) -> None:
    """Adds transfers, in order.

    Raises:
        sqlalchemy.exc.IntegrityError: a reference has been used.
    """
    moved = [each for each in transfers if each.microcredits]
    if not moved:
        return
    last = lock(books)
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
    return _hash_of(
        before,
        at,
        transfer.reference,
        transfer.debit,
        transfer.credit,
        transfer.microcredits,
        transfer.about,
    )


def _hash_of(
    before: bytes,
    at: int,
    reference: str,
    debit: str,
    credit: str,
    microcredits: int,
    about: bytes | None,
) -> bytes:
    # With their lengths, so that no two transfers read alike.
    said = f"{len(reference)}:{reference}{len(debit)}:{debit}{len(credit)}:{credit}"
    told = f"{at} {said} {microcredits} ".encode()
    return hashlib.sha256(b"".join((before, told, about or b""))).digest()


def lock(books: sa.Connection) -> Head:
    """The head, which nobody else moves until the transaction ends: writers queue here."""
    return _read_head(books, sa.select(_HEAD.c.id, _HEAD.c.hash).with_for_update())


def head(books: sa.Connection) -> Head:
    """The last transfer; number 0 before the first."""
    return _read_head(books, sa.select(_HEAD.c.id, _HEAD.c.hash))


def transfers(
    books: sa.Connection, after: int | None = None
) -> Iterator[tuple[int, Transfer, bytes]]:
    """Number, transfer and hash of every one, in order; not all are in memory at once.

    Args:
        books: the transaction.
        after: number of the last that is left out; None for none.
    """
    for row in _rows(books, after):
        yield row.id, _transfer(row), bytes(row.hash)


def _rows(books: sa.Connection, after: int | None) -> Iterator[Any]:
    """Rows of transfers in order: number, reference, debit, credit, amount, about, hash."""
    query = sa.select(_TRANSFERS).order_by(_TRANSFERS.c.id)
    if after is not None:
        query = query.where(_TRANSFERS.c.id > after)
    yield from books.execute(query.execution_options(yield_per=READ_AT_ONCE))


def beside(rows: sa.Select[Any], reference: sa.ColumnElement[str]) -> sa.Select[Any]:
    """A query of others with the transfer of a reference in each row, if there is one.

    Args:
        rows: the query, of one table.
        reference: made of its columns.

    Returns:
        The query with more columns: debit, credit, micro-credits, what it was for.
    """
    more = (_TRANSFERS.c.debit, _TRANSFERS.c.credit, _TRANSFERS.c.microcredits.label("moved"))
    joined = rows.outerjoin(_TRANSFERS, _TRANSFERS.c.reference == reference)
    return joined.add_columns(*more, _TRANSFERS.c.about)


def find(books: sa.Connection, references: Sequence[str]) -> dict[str, Transfer]:
    """Transfers by reference, of those that there are."""
    query = sa.select(_TRANSFERS).where(_TRANSFERS.c.reference.in_(references))
    return {row.reference: _transfer(row) for row in books.execute(query)}


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


def total_of(books: sa.Connection, begins: str) -> int:
    """Credits less debits of all accounts whose names begin so, micro-credits."""
    total = sa.func.sum(_ACCOUNTS.c.balance_microcredits)
    query = sa.select(total).where(_ACCOUNTS.c.account.startswith(begins, autoescape=True))
    return int(books.execute(query).scalar() or 0)


def totals(books: sa.Connection) -> tuple[int, int]:
    """Sums of the balances below zero and of those above, micro-credits: equal in whole books."""
    kept = balances(books).values()
    return -sum(each for each in kept if each < 0), sum(each for each in kept if each > 0)


def unbalanced(books: sa.Connection) -> list[str]:
    """Accounts whose balance is not what their transfers add up to; the database adds."""
    moved = sa.func.sum(_TRANSFERS.c.microcredits).label("moved")
    changes = dict[str, int]()
    for column, sign in ((_TRANSFERS.c.debit, -1), (_TRANSFERS.c.credit, 1)):
        for account, total in books.execute(sa.select(column, moved).group_by(column)):
            changes[account] = changes.get(account, 0) + sign * int(total)
    kept = balances(books)
    return [
        account
        for account in sorted(kept.keys() | changes.keys())
        if kept.get(account, 0) != changes.get(account, 0)
    ]


def count_explained(books: sa.Connection) -> int:
    """How many transfers say what they were for."""
    query = sa.select(sa.func.count()).where(_TRANSFERS.c.about.is_not(None))
    return int(books.execute(query).scalar_one())


def balances_mark(kept: Mapping[str, int]) -> bytes:
    """SHA-256 of balances, by which they are known again; accounts of zero do not count."""
    told = "".join(f"{name} {value}\n" for name, value in sorted(kept.items()) if value)
    return hashlib.sha256(told.encode()).digest()


def check(books: sa.Connection, kept: Seal | None = None, *, since: bool = False) -> list[str]:
    """What is wrong with the books, in sentences; nothing if they are whole.

    Follows the chain of hashes and adds up every transfer.

    Args:
        books: the transaction.
        kept: the books as they were known to be before.
        since: whether only what came after that is looked at, which is as good as long as nobody
            but the books' own server can have made `kept`.
    """
    wrong = list[str]()
    start = Seal(id=0, hash=START, balances=balances_mark({}))
    if kept is not None:
        wrong += _gone(books, kept)
        start = kept if since and not wrong else start
    changes = defaultdict[str, int](int)
    last, before = start.id, start.hash
    # Rows as they come and no objects: there may be millions of them.
    for at, reference, debit, credit, microcredits, about, mark in _rows(books, start.id or None):
        if not wrong:
            if at != last + 1:
                wrong.append(f"transfer {last + 1} is missing: {at} comes in its place")
            elif _hash_of(before, at, reference, debit, credit, microcredits, about) != mark:
                wrong.append(f"transfer {at} ({reference}) or one before it was altered")
        last, before = at, mark
        changes[debit] -= microcredits
        changes[credit] += microcredits
    told = head(books)
    if told != Head(id=last, hash=bytes(before)):
        wrong.append(f"the chain ends at transfer {last}, its head tells {told.id}")
    now = balances(books)
    if start.id == 0:
        for account in sorted(now.keys() | changes.keys()):
            if now.get(account, 0) != changes.get(account, 0):
                wrong.append(
                    f"{account} is kept with {now.get(account, 0)} micro-credits, "
                    f"its transfers add up to {changes.get(account, 0)}"
                )
    else:
        names = now.keys() | changes.keys()
        then = {name: now.get(name, 0) - changes.get(name, 0) for name in names}
        if balances_mark(then) != start.balances:
            wrong.append(f"balances are not those of transfer {start.id} and what came after it")
    return wrong


def seal(books: sa.Connection) -> Seal:
    """The books as they are, in few bytes."""
    last = head(books)
    return Seal(id=last.id, hash=last.hash, balances=balances_mark(balances(books)))


def _gone(books: sa.Connection, kept: Seal) -> list[str]:
    """What is wrong if the books no longer hold the transfer that they held."""
    if kept.id == 0:
        return []
    query = sa.select(_TRANSFERS.c.hash).where(_TRANSFERS.c.id == kept.id)
    found = books.execute(query).scalar()
    if found is None:
        return [f"the books were cut: they held transfer {kept.id}, and do so no more"]
    if bytes(found) != kept.hash:
        return [f"the books were written anew: transfer {kept.id} is not the one they held"]
    return []


def _read_head(books: sa.Connection, query: sa.Select[Any]) -> Head:
    row = books.execute(query).first()
    return Head(id=0, hash=START) if row is None else Head(id=row.id, hash=bytes(row.hash))


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
