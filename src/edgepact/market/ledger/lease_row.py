"""Who may write: the one row of the lease, within a transaction that is handed over."""

from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger.tables import LEASE


def lease(books: sa.Connection, *, lock: bool) -> Any:
    """The row of the lease, which nobody changes until the transaction ends.

    Args:
        books: the transaction.
        lock: whether it is to be changed in this transaction, and nobody else may read it so.
    """
    query = sa.select(LEASE)
    return books.execute(query.with_for_update(read=not lock)).one()


def take_lease(books: sa.Connection, holder: str, fence: int, until_s: float) -> None:
    """Writes the lease down."""
    books.execute(LEASE.update().values(holder=holder, fence=fence, until_s=until_s))
