"""A database for the ledger: opened, told apart from others, and changed by whole transactions.

SQLite in WAL mode with `synchronous=FULL` writes each commit through to the disk before it
returns; any other database that SQLAlchemy knows will do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edgepact.errors import InputError, MarketError

BUSY_TIMEOUT_S = 10
"""How long a transaction waits for another process that writes to the same SQLite file."""

SCHEMA = "2"
"""Edition of the tables; a ledger of another one is refused."""

META = sa.MetaData()

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite counts rows by itself only in columns of the exact type INTEGER."""

FACTS = sa.Table(
    "facts",
    META,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(256), nullable=False),
)
"""What holds for a ledger as a whole: the edition of its tables, its secret."""


class LedgerError(MarketError):
    """The books cannot be read or written just now: a full disk, a lost database."""


class Database:
    """A ledger's tables at a database URL.

    Args:
        url: an SQLAlchemy URL such as `sqlite:///run/ledger.db`.
        synchronous: SQLite's setting, see `Ledger`.
        create: whether tables that do not exist are created.

    Raises:
        InputError: the URL is no URL, its driver is missing, no ledger can be kept there, or one
            of another edition is there.
    """

    def __init__(self, url: str, *, synchronous: str, create: bool) -> None:
        self.url = url
        try:
            # Messages repeat the URL, and must not repeat a password in it.
            self.url = sa.make_url(url).render_as_string(hide_password=True)
            self.engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            expected = "a database URL such as sqlite:///ledger.db"
            raise InputError("ledger", "url", expected, f"{self.url} ({error})") from None
        if self.engine.dialect.name == "sqlite":
            file = self.engine.url.database
            if file is None or file in ("", ":memory:"):
                raise InputError("ledger", "url", "a database that outlives the process", url)
            if not create and not Path(file).is_file():
                raise InputError("ledger", "url", "a ledger", f"no file {file}")
            _set_up_sqlite(self.engine, synchronous)
        try:
            with self.books() as books:
                self._expect_own_tables(books, create)
        except LedgerError as error:
            self.close()
            raise InputError("ledger", "url", "a database to keep it in", str(error)) from None
        except InputError:
            self.close()
            raise

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextmanager
    def books(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is kept, or nothing.

        Raises:
            LedgerError: the database cannot be reached or written.
        """
        try:
            with self.engine.begin() as books:
                yield books
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            reason = (str(error.orig).splitlines() or [type(error).__name__])[0]
            raise LedgerError(f"{self.url}: {reason}") from error

    def _expect_own_tables(self, books: sa.Connection, create: bool) -> None:
        there = set(sa.inspect(books).get_table_names()) & set(META.tables)
        if not there:
            if not create:
                raise InputError("ledger", "url", "a ledger", f"another database at {self.url}")
            META.create_all(books)
            books.execute(FACTS.insert().values(name="schema", value=SCHEMA))
            return
        found = None
        if FACTS.name in there:
            found = books.execute(sa.select(FACTS.c.value).where(FACTS.c.name == "schema")).scalar()
        if found != SCHEMA:
            other = "one of before editions were counted" if found is None else f"edition {found}"
            raise InputError(
                "ledger",
                "url",
                f"a ledger of edition {SCHEMA} of its tables, or a new file",
                f"{other} at {self.url}",
            )


def fact(books: sa.Connection, name: str, value: str) -> str:
    """A fact of the ledger; the value is kept if there was none."""
    known = books.execute(sa.select(FACTS.c.value).where(FACTS.c.name == name)).scalar()
    if known is not None:
        return str(known)
    books.execute(FACTS.insert().values(name=name, value=value))
    return value


def _set_up_sqlite(engine: sa.Engine, synchronous: str) -> None:
    """WAL, full durability, foreign keys, and writers that queue instead of failing.

    The driver's own handling of transactions is switched off: it opens them too late, so that
    what was read before a write could be out of date.
    """

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        try:
            connection.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_S * 1000}")
            connection.execute("pragma journal_mode = wal")
            connection.execute(f"pragma synchronous = {synchronous}")
            connection.execute("pragma foreign_keys = on")
        except BaseException:
            connection.close()  # a file that is no database: nobody else would
            raise

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("begin immediate")
