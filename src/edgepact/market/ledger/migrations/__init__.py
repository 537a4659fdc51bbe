"""Editions of the ledger's tables, and the steps from each to the next.

A step is a module with a function `upgrade(op)`, which is handed Alembic's operations on the
transaction in which all steps are taken: a ledger is brought up to date as a whole, or stays.
"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from edgepact.market.ledger.migrations import edition_3

EDITION = "3"
"""Of the tables as they are declared today."""

_STEPS: dict[str, tuple[str, Callable[[Operations], None]]] = {"2": ("3", edition_3.upgrade)}

OLDER = frozenset(_STEPS)
"""Editions that can be brought up to date."""


def upgrade(books: sa.Connection, edition: str) -> None:
    """Takes every step from an older edition to today's."""
    op = Operations(MigrationContext.configure(books))
    while edition != EDITION:
        edition, step = _STEPS[edition]
        step(op)
        books.execute(sa.text("update facts set value = :e where name = 'schema'"), {"e": edition})
