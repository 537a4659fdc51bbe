"""A database for the ledger: opened, told apart from others, and changed by whole transactions.

SQLite in WAL mode with `synchronous=FULL` writes each commit through to the disk before it
returns; any other database that SQLAlchemy knows will do. Its tables have editions, see
`migrations`: a ledger of an older one is brought up to date when it is opened to be written.

Who only reads opens a read-only transaction, which holds up nobody who writes.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import migrations

BUSY_TIMEOUT_S = 10
"""How long a transaction waits for another process that writes to the same SQLite file."""

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
        create: whether tables that do not exist are created, and old ones brought up to date.
        read_only: whether nothing will be written.

    Raises:
        InputError: the URL is no URL, its driver is missing, no ledger can be kept there, or one
            of another edition is there.
    """

    def __init__(self, url: str, *, synchronous: str, create: bool, read_only: bool) -> None:
        self._read_only = read_only
        self._of_thread = threading.local()
        try:
            parsed = sa.make_url(url)
            # Messages name the place, and must not repeat a password in it.
            self.url = parsed.render_as_string(hide_password=True)
            self.engine = sa.create_engine(parsed)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            expected = "a database URL such as sqlite:///ledger.db"
            found = without_password(url)
            if isinstance(error, ModuleNotFoundError):
                found = f"{found}, whose driver {error.name} is not installed"
            raise InputError("ledger", "url", expected, found) from None
        if self.engine.dialect.name == "sqlite":
            file = self.engine.url.database
            if file is None or file in ("", ":memory:"):
                raise InputError("ledger", "url", "a database that outlives the process", self.url)
            if not create and not Path(file).is_file():
                raise InputError("ledger", "url", "a ledger", f"no file {file}")
            _set_up_sqlite(self.engine, synchronous, read_only=read_only)
        try:
            with self.books() as books:
                self._expect_own_tables(books, create)
        except LedgerError as error:
            self.close()
            raise InputError("ledger", "url", "a database to keep it in", str(error)) from None
        except InputError:
            self.close()
            raise

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        if self.engine.dialect.name != "sqlite":
            return None
        return Path(str(self.engine.url.database))

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextmanager
    def books(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is kept, or nothing.

        Within `together` it is a part of that transaction, which is kept or not by itself.

        Raises:
            LedgerError: the database cannot be reached or written.
        """
        group: sa.Connection | None = getattr(self._of_thread, "group", None)
        try:
            if group is not None:
                with group.begin_nested():
                    yield group
                return
            with self.engine.begin() as books:
                if self._read_only and books.dialect.name == "postgresql":
                    books.exec_driver_sql("set transaction read only")
                yield books
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            reason = (str(error.orig).splitlines() or [type(error).__name__])[0]
            raise LedgerError(f"{self.url}: {reason}") from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Transactions of this thread become one, which reaches the disk once.

        What one of them raises undoes that one alone. Nothing may be acknowledged before this
        has been left without an error.

        Raises:
            LedgerError: the database cannot be reached or written; all of it is undone.
        """
        with self.books() as books:
            self._of_thread.group = books
            try:
                yield
            finally:
                self._of_thread.group = None

    def _expect_own_tables(self, books: sa.Connection, create: bool) -> None:
        there = set(sa.inspect(books).get_table_names()) & {FACTS.name, "devices", "rounds"}
        if not there:
            if not create:
                raise InputError("ledger", "url", "a ledger", f"another database at {self.url}")
            META.create_all(books)
            books.execute(FACTS.insert().values(name="schema", value=migrations.EDITION))
            return
        found = None
        if FACTS.name in there:
            found = books.execute(sa.select(FACTS.c.value).where(FACTS.c.name == "schema")).scalar()
        if found == migrations.EDITION:
            return
        if found in migrations.OLDER and create:
            migrations.upgrade(books, str(found))
            return
        known = "one of before editions were counted" if found is None else f"edition {found}"
        hint = "; edgepact serve brings it up to date" if found in migrations.OLDER else ""
        raise InputError(
            "ledger",
            "url",
            f"a ledger of edition {migrations.EDITION} of its tables, or a new file",
            f"{known} at {self.url}{hint}",
        )


def without_password(url: str) -> str:
    """A text that was to be a database URL, without what may be a password in it."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, _ = head.partition("://")
    return f"{scheme}{slashes}***@{tail}" if at else url


def fact(books: sa.Connection, name: str, value: str) -> str:
    """A fact of the ledger; the value is kept if there was none."""
    known = books.execute(sa.select(FACTS.c.value).where(FACTS.c.name == name)).scalar()
    if known is not None:
        return str(known)
    books.execute(FACTS.insert().values(name=name, value=value))
    return value


def _set_up_sqlite(engine: sa.Engine, synchronous: str, *, read_only: bool) -> None:
    """WAL, full durability, foreign keys, and writers that queue instead of failing.

    The driver's own handling of transactions is switched off: it opens them too late, so that
    what was read before a write could be out of date. A file that is new is its owner's alone,
    and so are those that SQLite keeps beside it.
    """
    file = Path(str(engine.url.database))
    if not read_only and not file.exists() and file.parent.is_dir():
        file.touch(mode=0o600)

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        try:
            connection.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_S * 1000}")
            if read_only:
                connection.execute("pragma query_only = on")
                return
            connection.execute("pragma journal_mode = wal")
            connection.execute(f"pragma synchronous = {synchronous}")
            connection.execute("pragma foreign_keys = on")
        except BaseException:
            connection.close()  # a file that is no database: nobody else would
            raise

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("begin" if read_only else "begin immediate")
