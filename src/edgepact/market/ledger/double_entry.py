"""Accounts and amounts: what leaves one account enters another, once.

A transfer has a reference, which no other has, and two entries that add up to zero. What it was
for is somebody else's to know. Amounts are whole micro-credits. The functions work within a
transaction that is handed to them.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from edgepact.market.ledger.database import META, SERIAL

_ENTRIES = sa.Table(
    "entries",
    META,
    sa.Column("id", SERIAL, primary_key=True),
    sa.Column("reference", sa.String(160), nullable=False),
    sa.Column("account", sa.String(80), nullable=False),
    sa.Column("debit_microcredits", sa.BigInteger, nullable=False),
    sa.Column("credit_microcredits", sa.BigInteger, nullable=False),
    # The last line of defence for "paid once": an account stands in a transfer's entries once.
    sa.UniqueConstraint("reference", "account"),
    sa.CheckConstraint("debit_microcredits >= 0 and credit_microcredits >= 0"),
    sa.CheckConstraint("(debit_microcredits = 0) <> (credit_microcredits = 0)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the books; those of one transfer add up to zero."""

    id: int
    reference: str
    account: str
    debit_microcredits: int
    credit_microcredits: int


def transfer(
    books: sa.Connection, reference: str, *, debit: str, credit: str, microcredits: int
) -> None:
    """Moves an amount; one of zero needs no entries.

    Raises:
        sqlalchemy.exc.IntegrityError: the reference has been used.
    """
    if microcredits == 0:
        return
    amounts = {debit: (microcredits, 0), credit: (0, microcredits)}
    books.execute(
        _ENTRIES.insert(),
        [
            {
                "reference": reference,
                "account": account,
                "debit_microcredits": debited,
                "credit_microcredits": credited,
            }
            for account, (debited, credited) in amounts.items()
        ],
    )


def entries(books: sa.Connection) -> list[Entry]:
    """Every line, in order."""
    return [
        Entry(
            id=row.id,
            reference=row.reference,
            account=row.account,
            debit_microcredits=row.debit_microcredits,
            credit_microcredits=row.credit_microcredits,
        )
        for row in books.execute(sa.select(_ENTRIES).order_by(_ENTRIES.c.id))
    ]


def balances(books: sa.Connection) -> dict[str, int]:
    """Credits less debits of every account that has entries, micro-credits."""
    total = sa.func.sum(_ENTRIES.c.credit_microcredits - _ENTRIES.c.debit_microcredits)
    query = sa.select(_ENTRIES.c.account, total.label("total")).group_by(_ENTRIES.c.account)
    return {row.account: int(row.total) for row in books.execute(query)}


def totals(books: sa.Connection) -> tuple[int, int]:
    """Sum of all debits and of all credits, micro-credits: always equal."""
    query = sa.select(
        sa.func.coalesce(sa.func.sum(_ENTRIES.c.debit_microcredits), 0),
        sa.func.coalesce(sa.func.sum(_ENTRIES.c.credit_microcredits), 0),
    )
    debits, credits = books.execute(query).one()
    return int(debits), int(credits)
