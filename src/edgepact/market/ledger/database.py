"""A database for the ledger: opened, told apart from others, and changed by whole transactions.

SQLite in WAL mode with `synchronous=FULL` writes each commit through to the disk before it
returns; any other database that SQLAlchemy knows will do. Its tables have editions, see
`migrations`: a ledger of an older one is brought up to date when it is opened to be written.

Whatever only reads has a read-only transaction on one state of the books, which holds up nobody
who writes.
"""

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edgepact.errors import InputError, MarketError, shown
from edgepact.market.ledger import migrations

BUSY_TIMEOUT_S = 10
"""How long a transaction waits for another one that has locked what it needs."""

READ_AT_ONCE = 5_000
"""Rows of a large table that are in memory at once."""

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


SQLITE_OPTIONS = frozenset(
    {"cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout"}
)
"""Which the driver takes in a URL. What else stands there it would pass over, and a passphrase that
is passed over protects nothing."""

STILL_S = 10
"""A writer that stands still for so long amid a transaction loses it, on PostgreSQL: what it has
locked is free again."""


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
        self.is_new = False  # whether there were no tables before
        try:
            parsed = sa.make_url(url)
            if "@" in (parsed.host or ""):
                raise ValueError("an @ in a password is written %40")
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")  # the one that is installed
            # Messages name the place, and must not repeat a password in it.
            self._secrets = _secrets_of(parsed)
            self.url = parsed.set(query={}).render_as_string(hide_password=True)
            if any(secret in str(parsed.database) for secret in self._secrets):
                self.url = parsed.set(query={}, database="***").render_as_string()
            _expect_known_options(parsed)
            self.engine = sa.create_engine(parsed)
            self._reads = self.engine.execution_options(**_reading(self.engine))
        except (sa.exc.ArgumentError, ModuleNotFoundError, ValueError) as error:
            meant = url if url and not set(url) & set(":@?=") else "ledger.db"
            expected = f"a database URL such as sqlite:///{meant}"
            if "@" in url:
                expected += ", in whose password an @ is written %40"
            found = without_password(url)
            if isinstance(error, ModuleNotFoundError):
                found = f"{found}, whose driver {error.name} is not installed"
                if error.name == "psycopg":
                    found += ": pip install 'edgepact[postgres]'"
            raise InputError("ledger", "url", expected, found) from None
        if self.engine.dialect.name == "sqlite":
            file = self.engine.url.database
            if file is None or file in ("", ":memory:"):
                raise InputError("ledger", "url", "a database that outlives the process", self.url)
            if not create and not _is_file(Path(file)):
                raise InputError("ledger", "url", "a ledger", f"no file {file}")
            _set_up_sqlite(self.engine, synchronous, read_only=read_only)
        elif self.engine.dialect.name == "postgresql":
            _set_up_postgresql(self.engine)
        try:
            with self.books() if create else self.reading() as books:
                self._expect_own_tables(books, create)
        except LedgerError as error:
            self.close()
            if _is_locked(error):
                raise  # it is a ledger, and others are writing it
            raise InputError("ledger", "url", "a database to keep it in", str(error)) from None
        except BaseException:
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
        with self._telling():
            if self._group is not None:
                with self._group.begin_nested():
                    yield self._group
                return
            with (self._reads if self._read_only else self.engine).begin() as books:
                yield books

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One state of the books, to be read; within `together` with what was written there.

        Raises:
            LedgerError: the database cannot be reached.
        """
        with self._telling():
            if self._group is not None:
                yield self._group
                return
            with self._reads.begin() as books:
                yield books

    @contextmanager
    def together(self) -> Iterator[None]:
        """Transactions of this thread become one, which reaches the disk once.

        What one of them raises undoes that one alone. Nothing may be acknowledged before this
        has been left without an error.

        Raises:
            LedgerError: the database cannot be reached or written; all of it is undone.
        """
        with self.books() as books, self._grouped(books):
            yield

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """What this thread reads within is of one state of the books.

        Raises:
            LedgerError: the database cannot be reached.
        """
        with self.reading() as books, self._grouped(books):
            yield

    @contextmanager
    def _grouped(self, books: sa.Connection) -> Iterator[None]:
        before = self._group
        self._of_thread.group = books
        try:
            yield
        finally:
            self._of_thread.group = before

    @property
    def _group(self) -> sa.Connection | None:
        """The transaction of `together`, while this thread is within it."""
        return getattr(self._of_thread, "group", None)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Faults of the database become errors that name the place and no password."""
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            reason = (str(error.orig).splitlines() or [type(error).__name__])[0]
            for secret in self._secrets:
                reason = reason.replace(secret, "***")
            raise LedgerError(f"{self.url}: {reason}") from error

    def backup(self, file: Path) -> None:
        """Copies an SQLite database as it is now, while others may write.

        Raises:
            InputError: there is such a file, or none can be made.
            MarketError: it is another database.
        """
        if self.file is None:
            raise MarketError(f"{self.url} is no SQLite ledger: back it up with pg_dump")
        if file.exists():
            raise InputError("backup", "--out", "a new file", f"one that exists, {file}")
        part = file.with_name(f"{file.name}.part")
        try:
            part.unlink(missing_ok=True)
            part.touch(mode=0o600)
            copy = sqlite3.connect(part)
            try:
                with closing(self.engine.raw_connection()) as own:
                    own.driver_connection.backup(copy)  # type: ignore[union-attr]
            finally:
                copy.close()
            part.replace(file)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            raise InputError("backup", "--out", "a file to copy to", f"{file}: {error}") from None

    def _expect_own_tables(self, books: sa.Connection, create: bool) -> None:
        if create and books.dialect.name == "postgresql":
            # Two servers that start at once do not both make the tables.
            books.exec_driver_sql(f"select pg_advisory_xact_lock({_MAKING})")
        there = set(sa.inspect(books).get_table_names()) & {FACTS.name, "devices", "rounds"}
        if not there:
            if not create:
                raise InputError("ledger", "url", "a ledger", f"another database at {self.url}")
            META.create_all(books)
            self.is_new = True
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
        hint = "; `edgepact serve` brings it up to date" if found in migrations.OLDER else ""
        if found is not None and found.isdigit() and int(found) > int(migrations.EDITION):
            hint = "; a newer edgepact has written it: update this one"
        raise InputError(
            "ledger",
            "url",
            f"a ledger of edition {migrations.EDITION} of its tables, or a new file",
            f"{known} at {self.url}{hint}",
        )


_MAKING = 0x6564676570616374
"""Number of the lock under which tables are made; any will do that nobody else uses."""


def _reading(engine: sa.Engine) -> dict[str, Any]:
    """Options of transactions that only read, and see one state of the books."""
    if engine.dialect.name == "postgresql":
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return {"reading": True}


def _is_file(path: Path) -> bool:
    """Whether there is such a file; names that are too long for any are no files."""
    try:
        return path.is_file()
    except OSError:
        return False


def _secrets_of(url: sa.URL) -> list[str]:
    """What no message repeats of a URL: its password, wherever it stands in it."""
    said = [str(url.password or "")]
    # What stands before an @ where the database's name should be is of a URL gone wrong.
    before, at, _ = str(url.database or "").rpartition("@")
    if at and url.get_backend_name() != "sqlite":
        said += [before, before.rpartition(":")[2]]
    for name, value in url.query.items():
        if "pass" in name:
            said += [value] if isinstance(value, str) else value
    return [each for each in said if each]


def _expect_known_options(url: sa.URL) -> None:
    """Of other databases the driver itself refuses what it does not know.

    Raises:
        InputError: an SQLite URL has an option that there is not; its value is not repeated.
    """
    unknown = sorted(set(url.query) - SQLITE_OPTIONS)
    if url.get_backend_name() == "sqlite" and unknown:
        expected = f"an SQLite URL with no options but {', '.join(sorted(SQLITE_OPTIONS))}"
        raise InputError("ledger", "url", expected, f"the option {shown(unknown[0])}")


def without_password(url: str) -> str:
    """A text that was to be a database URL, without what may be a password in it."""
    place, _, _ = url.partition("?")
    if "=" in place and ("://" not in place or any(map(str.isspace, place))):
        # What libpq takes besides URLs: `host=127.0.0.1 password=...`.
        return f"{re.split('[=:]', place, maxsplit=1)[0]}***"
    head, at, tail = place.rpartition("@")
    scheme, slashes, _ = head.partition("://")
    # After the place an = belongs to an option that lacks its ?, or is one of libpq's.
    shown, more, _ = tail.partition("=")
    told = f"{shown}=***" if more else tail
    return f"{scheme if slashes else ''}{slashes}***@{told}" if at else told


def known_fact(books: sa.Connection, name: str) -> str | None:
    """A fact of the ledger; None if there is none."""
    known = books.execute(sa.select(FACTS.c.value).where(FACTS.c.name == name)).scalar()
    return None if known is None else str(known)


def fact(books: sa.Connection, name: str, value: str) -> str:
    """A fact of the ledger; the value is kept if there was none."""
    known = known_fact(books, name)
    if known is not None:
        return known
    books.execute(FACTS.insert().values(name=name, value=value))
    return value


def keep_fact(books: sa.Connection, name: str, value: str) -> None:
    """Sets a fact of the ledger, whether there was one or not."""
    if fact(books, name, value) != value:
        books.execute(FACTS.update().where(FACTS.c.name == name).values(value=value))


def _identity(file: Path) -> tuple[int, int] | None:
    """By what a file is known whatever it is called; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_locked(error: LedgerError) -> bool:
    """Whether somebody else has an SQLite file locked, and has had for as long as was waited."""
    cause = getattr(error.__cause__, "orig", None)
    return getattr(cause, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _set_up_postgresql(engine: sa.Engine) -> None:
    """Nobody waits for ever: neither for a lock, nor for whoever holds one and stands still."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        connection.execute(f"set lock_timeout = '{BUSY_TIMEOUT_S}s'")
        connection.execute(f"set idle_in_transaction_session_timeout = '{STILL_S}s'")
        connection.commit()


def _set_up_sqlite(engine: sa.Engine, synchronous: str, *, read_only: bool) -> None:
    """WAL, full durability, foreign keys, and writers that queue instead of failing.

    The driver's own handling of transactions is switched off: it opens them too late, so that
    what was read before a write could be out of date. A file that is new is its owner's alone,
    and so are those that SQLite keeps beside it.
    """
    file = Path(str(engine.url.database))
    if not read_only and not file.exists() and file.parent.is_dir():
        file.touch(mode=0o600)

    def _no_file() -> sqlite3.Error:
        return sqlite3.OperationalError(f"no file {file}: it was moved away or removed")

    @sa.event.listens_for(engine, "do_connect")
    def _do_connect(*_: object) -> None:
        if not file.is_file():
            raise _no_file()  # SQLite would begin an empty one

    @sa.event.listens_for(engine, "checkout")
    def _checkout(_connection: object, record: Any, _proxy: object) -> None:
        """What is written is found again at the path: SQLite itself goes on writing to a file
        that has another name by now, or none."""
        now = _identity(file)
        if now is None:
            raise _no_file()  # and keep the connection: it may come back
        if now != record.info["file"]:
            raise sa.exc.DisconnectionError(f"{file} is another file now")

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        record.info["file"] = _identity(file)
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
        reads = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("begin" if reads else "begin immediate")
