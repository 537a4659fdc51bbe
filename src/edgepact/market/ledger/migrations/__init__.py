"""Editions of the ledger's tables, and the steps from each to the next.

A step is a module, named after where it leads, with a function `upgrade(op)`, which is handed
Alembic's operations on the transaction in which all steps are taken: a ledger is brought up to date
as a whole, or stays.
"""

from importlib import import_module

import sqlalchemy as sa

EDITION = "4"
"""Of the tables as they are declared today."""

_STEPS = {"2": "3", "3": "4"}
"""From which to which."""

OLDER = frozenset(_STEPS)
"""Editions that can be brought up to date."""


def upgrade(books: sa.Connection, edition: str) -> None:
    """Takes every step from an older edition to today's."""
    # Here alone, since a server that finds its tables as they are starts without Alembic.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    op = Operations(MigrationContext.configure(books))
    while edition != EDITION:
        edition = _STEPS[edition]
        import_module(f"{__name__}.edition_{edition}").upgrade(op)
        books.execute(sa.text("update facts set value = :e where name = 'schema'"), {"e": edition})
