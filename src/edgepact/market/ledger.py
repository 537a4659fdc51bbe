"""The market's books: double entry, whole micro-credits, every job paid at most once.

What the server has acknowledged is in here, and survives a crash: SQLite in WAL mode with
`synchronous=FULL` writes each commit through to the disk before it returns. Beside the entries
the ledger keeps what the entries need to make sense after a restart: devices and the hashes of
their tokens, rounds, commitments, and jobs.

A job is known by (device, job id) and a unique constraint holds it to one row, so that a
request repeated by a device, or by a network, or after a crash, is never paid twice. Its
money moves in the same transaction that records it:

======  =======================  ======================
state   meaning                  entries
======  =======================  ======================
paid    verified, or not picked  debit `server`, credit `device:<name>`
held    waits for its audit      none yet
forfeit failed its audit         none, ever
======  =======================  ======================

An update in federated training is a job too, with a price of its own and no layers: `pay_work`.

Methods are safe to call from several threads. Tokens are random and long, so that a plain
SHA-256 of them is a safe thing to store: there is nothing to guess.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edgepact.errors import InputError, MarketError, check_choice

SERVER = "server"
"""The account that pays."""

BUSY_TIMEOUT_S = 10
"""How long a transaction waits for another process that writes to the same SQLite file."""

_META = sa.MetaData()
# SQLite counts rows by itself only in columns of the exact type INTEGER.
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_DEVICES = sa.Table(
    "devices",
    _META,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("enrol_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("confirmed", sa.Boolean, nullable=False),
)
_ROUNDS = sa.Table(
    "rounds",
    _META,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("price_microcredits", sa.BigInteger, nullable=False),
    sa.Column("images_per_device", sa.BigInteger, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    sa.CheckConstraint("price_microcredits >= 0"),
)
_COMMITMENTS = sa.Table(
    "commitments",
    _META,
    sa.Column("round", sa.ForeignKey("rounds.number"), primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), primary_key=True),
    sa.Column("layers", sa.Integer, nullable=False),
)
_JOBS = sa.Table(
    "jobs",
    _META,
    sa.Column("id", _SERIAL, primary_key=True),
    sa.Column("device", sa.ForeignKey("devices.name"), nullable=False),
    sa.Column("job", sa.String(64), nullable=False),
    sa.Column("round", sa.ForeignKey("rounds.number"), nullable=False),
    sa.Column("layers", sa.Integer, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("audited", sa.Boolean, nullable=False),
    sa.Column("evidence", sa.LargeBinary, nullable=True),
    sa.Column("recorded_s", sa.Float, nullable=False),
    sa.UniqueConstraint("device", "job"),
    sa.Index("jobs_by_round", "round", "device"),
)
_ENTRIES = sa.Table(
    "entries",
    _META,
    sa.Column("id", _SERIAL, primary_key=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("account", sa.String(80), nullable=False),
    sa.Column("debit_microcredits", sa.BigInteger, nullable=False),
    sa.Column("credit_microcredits", sa.BigInteger, nullable=False),
    # The last line of defence for "paid once": an account stands in a job's entries once.
    sa.UniqueConstraint("job_id", "account"),
    sa.CheckConstraint("debit_microcredits >= 0 and credit_microcredits >= 0"),
    sa.CheckConstraint("(debit_microcredits = 0) <> (credit_microcredits = 0)"),
)


class LedgerError(MarketError):
    """The books cannot be read or written just now: a full disk, a lost database."""


class JobState(StrEnum):
    """What has become of a job's payment."""

    PAID = "paid"
    HELD = "held"
    FORFEIT = "forfeit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image a device worked on.

    Args:
        device: name of the device.
        job: the device's id of it, its own in all rounds.
        round: number of the round.
        layers: layers the device ran.
        digest: SHA-256 of the tensors, which tells a repetition from another job.
    """

    device: str
    job: str
    round: int
    layers: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work with a price of its own, such as an update in federated training.

    Args:
        device: name of the device.
        job: an id of it, the device's own in all rounds.
        round: number of the round, one of `open_work_round`.
        microcredits: what it earns.
        digest: SHA-256 of what was delivered.
    """

    device: str
    job: str
    round: int
    microcredits: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a job stands in the ledger.

    Args:
        state: paid, held or forfeit.
        microcredits: its price (what it earns or would have earned).
        repeated: whether the ledger knew the job before.
    """

    state: JobState
    microcredits: int
    repeated: bool = False

    @property
    def paid_microcredits(self) -> int:
        """What the device has received for it."""
        return self.microcredits if self.state is JobState.PAID else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One round: what was offered, who committed to what, what was delivered and paid.

    Args:
        number: number of the round.
        model: the model it was for.
        price_microcredits: per layer and image.
        images_per_device: images taken from each device at most.
        closed: whether it is over.
        layers: committed layers by device.
        jobs: recorded jobs by device, in order.
        held: jobs by device whose audit is open.
        paid_microcredits: payments by device.
    """

    number: int
    model: str
    price_microcredits: int
    images_per_device: int
    closed: bool
    layers: dict[str, int]
    jobs: dict[str, tuple[str, ...]]
    held: dict[str, tuple[str, ...]]
    paid_microcredits: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the books; those of one job add up to zero."""

    id: int
    device: str
    job: str
    account: str
    debit_microcredits: int
    credit_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One job that was paid."""

    round: int
    device: str
    job: str
    layers: int
    microcredits: int
    audited: bool
    recorded_s: float


class Ledger:
    """The books at a database URL.

    Args:
        url: an SQLAlchemy URL such as `sqlite:///run/ledger.db`; any database will do.
        synchronous: SQLite's setting. `FULL` is durable against power cuts; `OFF` is for tests
            that open hundreds of ledgers.
        create: whether a ledger that does not exist is created; who only reads one had better
            hear of a wrong path.
        clock: seconds since 1970, for the times of jobs.

    Raises:
        InputError: the URL is no URL, its driver is missing, or no ledger can be kept there.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: str = "FULL",
        create: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_choice("ledger", "synchronous", synchronous, ("OFF", "NORMAL", "FULL", "EXTRA"))
        self._url = url
        self._clock = clock
        try:
            self._engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            raise InputError(
                "ledger", "url", "a database URL such as sqlite:///ledger.db", f"{url} ({error})"
            ) from None
        if self._engine.dialect.name == "sqlite":
            file = self._engine.url.database
            if file is None or file in ("", ":memory:"):
                raise InputError("ledger", "url", "a database that outlives the process", url)
            if not create and not Path(file).is_file():
                raise InputError("ledger", "url", "a ledger", f"no file {file}")
            _set_up_sqlite(self._engine, synchronous)
        try:
            with self._books() as books:
                if create:
                    _META.create_all(books)
                elif not sa.inspect(books).has_table(_ENTRIES.name):
                    raise InputError("ledger", "url", "a ledger", f"another database at {url}")
        except LedgerError as error:
            self.close()
            raise InputError("ledger", "url", "a database to keep it in", str(error)) from None

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ devices

    def enrol(self, one_time_token: str, name: str) -> str:
        """Enrols a device and returns its token, which is nowhere else.

        If the answer was lost on its way the device may ask again with the same one-time token
        and name, until it has used the token it was given.

        Raises:
            MarketError: the one-time token is used up, or another device has the name.
        """
        token = secrets.token_urlsafe(32)
        enrol_hash = token_hash(one_time_token)
        row = {"enrol_hash": enrol_hash, "token_hash": token_hash(token), "confirmed": False}
        with self._books() as books:
            known = books.execute(
                sa.select(_DEVICES.c.enrol_hash, _DEVICES.c.confirmed).where(
                    _DEVICES.c.name == name
                )
            ).first()
            if known is None:
                used = sa.select(_DEVICES.c.name).where(_DEVICES.c.enrol_hash == enrol_hash)
                if books.execute(used).first() is not None:
                    raise MarketError("this one-time token has enrolled another device already")
                books.execute(_DEVICES.insert().values(name=name, **row))
            elif known.enrol_hash != enrol_hash:
                raise MarketError(f"another device has enrolled as {name!r}")
            elif known.confirmed:
                raise MarketError(f"{name!r} has enrolled already and uses its own token")
            else:
                books.execute(_DEVICES.update().where(_DEVICES.c.name == name).values(**row))
        return token

    def admit(self, name: str) -> None:
        """Notes a device whom somebody else has identified: it has no token here.

        A device that is known already, in whatever way, stays as it is.
        """
        nobodys = {"enrol_hash": token_hash(secrets.token_urlsafe(32))}
        nobodys["token_hash"] = token_hash(secrets.token_urlsafe(32))
        with self._books() as books:
            known = books.execute(sa.select(_DEVICES.c.name).where(_DEVICES.c.name == name)).first()
            if known is None:
                books.execute(_DEVICES.insert().values(name=name, confirmed=True, **nobodys))

    def confirm(self, name: str) -> None:
        """Notes that a device has used its own token: its one-time token is void from now on."""
        with self._books() as books:
            books.execute(_DEVICES.update().where(_DEVICES.c.name == name).values(confirmed=True))

    def device_of(self, token: str) -> str | None:
        """Name of the device with this token; None for nobody's."""
        query = sa.select(_DEVICES.c.name).where(_DEVICES.c.token_hash == token_hash(token))
        with self._books() as books:
            row = books.execute(query).first()
        return None if row is None else str(row.name)

    def devices(self) -> list[str]:
        """Names of all enrolled devices."""
        with self._books() as books:
            names = books.execute(sa.select(_DEVICES.c.name).order_by(_DEVICES.c.name))
            return [str(name) for name in names.scalars()]

    # ------------------------------------------------------------ rounds

    def open_round(
        self, number: int, *, model: str, price_microcredits: int, images_per_device: int
    ) -> None:
        """Records an offer before anybody hears of it.

        Raises:
            MarketError: the round exists; another server may be using this ledger.
        """
        try:
            with self._books() as books:
                books.execute(
                    _ROUNDS.insert().values(
                        number=number,
                        model=model,
                        price_microcredits=price_microcredits,
                        images_per_device=images_per_device,
                        closed=False,
                    )
                )
        except sa.exc.IntegrityError:
            raise MarketError(
                f"round {number} exists in {self._url}: is another server using this ledger?"
            ) from None

    def open_work_round(self, number: int, *, model: str) -> None:
        """Records a round of work that is priced piece by piece, see `pay_work`.

        It takes no images. The same round again changes nothing.

        Raises:
            MarketError: the round exists and is of another kind or model.
        """
        terms = {"model": model, "price_microcredits": 0, "images_per_device": 0}
        with self._books() as books:
            known = books.execute(sa.select(_ROUNDS).where(_ROUNDS.c.number == number)).first()
            if known is None:
                books.execute(_ROUNDS.insert().values(number=number, closed=False, **terms))
            elif any(getattr(known, name) != value for name, value in terms.items()):
                raise MarketError(f"round {number} exists in {self._url} and is of another kind")

    def commit(self, number: int, device: str, layers: int) -> None:
        """Records a commitment. The same one again changes nothing.

        Raises:
            MarketError: the device has committed to another number of layers, or the round is
                closed.
        """
        with self._books() as books:
            self._open_round(books, number)
            known = self._committed(books, number, device)
            if known is None:
                books.execute(
                    _COMMITMENTS.insert().values(round=number, device=device, layers=layers)
                )
            elif known != layers:
                raise MarketError(
                    f"{device!r} has committed to {known} layers in round {number} already"
                )

    def close_round(self, number: int) -> None:
        """Closes a round: payments still held are forfeit, jobs that come later are refused."""
        with self._books() as books:
            books.execute(_ROUNDS.update().where(_ROUNDS.c.number == number).values(closed=True))
            books.execute(
                _JOBS.update()
                .where(_JOBS.c.round == number, _JOBS.c.state == JobState.HELD)
                .values(state=JobState.FORFEIT, evidence=None)
            )

    def rounds(self, *, last: int | None = None) -> list[RoundRecord]:
        """All rounds in order, or the last few of them."""
        with self._books() as books:
            query = sa.select(_ROUNDS).order_by(_ROUNDS.c.number.desc()).limit(last)
            rounds = list(reversed(books.execute(query).all()))
            if not rounds:
                return []
            first = rounds[0].number
            commitments = books.execute(
                sa.select(_COMMITMENTS).where(_COMMITMENTS.c.round >= first)
            ).all()
            jobs = books.execute(
                sa.select(
                    _JOBS.c.round, _JOBS.c.device, _JOBS.c.job, _JOBS.c.state, _JOBS.c.microcredits
                )
                .where(_JOBS.c.round >= first)
                .order_by(_JOBS.c.id)
            ).all()
        layers: dict[int, dict[str, int]] = {row.number: {} for row in rounds}
        done: dict[int, dict[str, list[Any]]] = {row.number: {} for row in rounds}
        for commitment in commitments:
            layers[commitment.round][commitment.device] = commitment.layers
        for job in jobs:
            done[job.round].setdefault(job.device, []).append(job)
        return [
            RoundRecord(
                number=row.number,
                model=row.model,
                price_microcredits=row.price_microcredits,
                images_per_device=row.images_per_device,
                closed=row.closed,
                layers=layers[row.number],
                jobs={name: tuple(j.job for j in own) for name, own in done[row.number].items()},
                held={
                    name: tuple(j.job for j in own if j.state == JobState.HELD)
                    for name, own in done[row.number].items()
                },
                paid_microcredits={
                    name: sum(j.microcredits for j in own if j.state == JobState.PAID)
                    for name, own in done[row.number].items()
                },
            )
            for row in rounds
        ]

    # ------------------------------------------------------------ jobs

    def settle(self, job: Job, *, evidence: bytes | None = None) -> Settlement:
        """Records a finished job and pays it, once, in one transaction.

        Args:
            job: what was done.
            evidence: what the device sent, if the job was picked for an audit. The payment is
                then held until `release` or `forfeit`.

        Returns:
            How the job stands; a job known before is left as it is.

        Raises:
            MarketError: the round is closed, the device did not commit to these layers or has
                delivered all its images, or the id was used for something else. Nothing is paid.
        """
        try:
            return self._settle(job, evidence)
        except sa.exc.IntegrityError:
            # Two servers at one database recorded it at the same time: the other one's row counts.
            known = self.find(job)
            if known is None:
                raise
            return known

    def pay_work(self, work: Work) -> Settlement:
        """Records and pays a piece of work at its own price, once, in one transaction.

        Returns:
            How it stands; what was known before is left as it is.

        Raises:
            MarketError: there is no such round, it is closed, or the job's id was used for
                something else. Nothing is paid.
        """
        try:
            return self._pay_work(work)
        except sa.exc.IntegrityError:
            # As in `settle`; the second try finds the other one's row, or says what is wrong.
            return self._pay_work(work)

    def find(self, job: Job) -> Settlement | None:
        """How a job stands; None if the ledger does not know it.

        Raises:
            MarketError: the id was used for something else.
        """
        with self._books() as books:
            return self._find(books, job)

    def release(self, device: str, job: str) -> Settlement:
        """Pays a held job, whose audit it has passed. Jobs in other states are left as they are.

        Raises:
            MarketError: no such job.
        """
        with self._books() as books:
            row = self._row(books, device, job)
            if row.state != JobState.HELD:
                return _settlement(row, repeated=True)
            self._set_state(books, row.id, JobState.PAID)
            self._pay(books, row.id, device, row.microcredits)
            return Settlement(state=JobState.PAID, microcredits=row.microcredits)

    def forfeit(self, device: str, job: str) -> Settlement:
        """Ends a held job without payment. Jobs in other states are left as they are.

        Raises:
            MarketError: no such job.
        """
        with self._books() as books:
            row = self._row(books, device, job)
            if row.state != JobState.HELD:
                return _settlement(row, repeated=True)
            self._set_state(books, row.id, JobState.FORFEIT)
            return Settlement(state=JobState.FORFEIT, microcredits=row.microcredits)

    def evidence(self, device: str, job: str) -> tuple[int, bytes] | None:
        """Layers and evidence of a held job; None if its audit is over.

        Raises:
            MarketError: no such job.
        """
        with self._books() as books:
            row = self._row(books, device, job)
        return None if row.state != JobState.HELD else (row.layers, row.evidence)

    # ------------------------------------------------------------ the books

    def entries(self) -> list[Entry]:
        """Every line of the books, in order."""
        query = (
            sa.select(_ENTRIES, _JOBS.c.device, _JOBS.c.job)
            .join(_JOBS, _JOBS.c.id == _ENTRIES.c.job_id)
            .order_by(_ENTRIES.c.id)
        )
        with self._books() as books:
            return [
                Entry(
                    id=row.id,
                    device=row.device,
                    job=row.job,
                    account=row.account,
                    debit_microcredits=row.debit_microcredits,
                    credit_microcredits=row.credit_microcredits,
                )
                for row in books.execute(query)
            ]

    def balances(self) -> dict[str, int]:
        """Credits less debits of every account, micro-credits: what a device has earned, and,
        below zero, what the server has paid."""
        total = sa.func.sum(_ENTRIES.c.credit_microcredits - _ENTRIES.c.debit_microcredits)
        query = sa.select(_ENTRIES.c.account, total.label("total")).group_by(_ENTRIES.c.account)
        with self._books() as books:
            names = books.execute(sa.select(_DEVICES.c.name).order_by(_DEVICES.c.name)).scalars()
            balances = {SERVER: 0} | {account_of(name): 0 for name in names}
            return balances | {row.account: int(row.total) for row in books.execute(query)}

    def totals(self) -> tuple[int, int]:
        """Sum of all debits and of all credits, micro-credits: always equal."""
        query = sa.select(
            sa.func.coalesce(sa.func.sum(_ENTRIES.c.debit_microcredits), 0),
            sa.func.coalesce(sa.func.sum(_ENTRIES.c.credit_microcredits), 0),
        )
        with self._books() as books:
            debits, credits = books.execute(query).one()
        return int(debits), int(credits)

    def payments(self, round: int | None = None) -> list[Payment]:
        """Jobs that were paid, in order, of all rounds or of one (jobs of price 0 too)."""
        query = sa.select(_JOBS).where(_JOBS.c.state == JobState.PAID).order_by(_JOBS.c.id)
        if round is not None:
            query = query.where(_JOBS.c.round == round)
        with self._books() as books:
            return [
                Payment(
                    round=row.round,
                    device=row.device,
                    job=row.job,
                    layers=row.layers,
                    microcredits=row.microcredits,
                    audited=row.audited,
                    recorded_s=row.recorded_s,
                )
                for row in books.execute(query)
            ]

    def jobs_by_state(self) -> dict[str, int]:
        """How many jobs of all rounds were paid, are held, are forfeit."""
        query = sa.select(_JOBS.c.state, sa.func.count().label("jobs")).group_by(_JOBS.c.state)
        with self._books() as books:
            counts = {str(row.state): int(row.jobs) for row in books.execute(query)}
        return {state.value: counts.get(state.value, 0) for state in JobState}

    def audited(self) -> int:
        """How many jobs of all rounds were picked for an audit."""
        query = sa.select(sa.func.count()).where(_JOBS.c.audited)
        with self._books() as books:
            return int(books.execute(query).scalar_one())

    # ------------------------------------------------------------ private

    @contextmanager
    def _books(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is kept, or nothing."""
        try:
            with self._engine.begin() as books:
                yield books
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            reason = (str(error.orig).splitlines() or [type(error).__name__])[0]
            raise LedgerError(f"{self._url}: {reason}") from error

    def _settle(self, job: Job, evidence: bytes | None) -> Settlement:
        with self._books() as books:
            known = self._find(books, job)
            if known is not None:
                return known
            offer = self._open_round(books, job.round)
            committed = self._committed(books, job.round, job.device)
            if committed != job.layers:
                said = "nothing" if committed is None else f"{committed} layers"
                raise MarketError(
                    f"{job.device!r} has committed to {said} in round {job.round}, "
                    f"not to {job.layers} layers"
                )
            count = sa.select(sa.func.count()).where(
                _JOBS.c.round == job.round, _JOBS.c.device == job.device
            )
            if books.execute(count).scalar_one() >= offer.images_per_device:
                raise MarketError(
                    f"{job.device!r} has delivered all {offer.images_per_device} images "
                    f"of round {job.round}"
                )
            state = JobState.PAID if evidence is None else JobState.HELD
            microcredits = offer.price_microcredits * job.layers
            result = books.execute(
                _JOBS.insert().values(
                    device=job.device,
                    job=job.job,
                    round=job.round,
                    layers=job.layers,
                    microcredits=microcredits,
                    state=state,
                    digest=job.digest,
                    audited=evidence is not None,
                    evidence=evidence,
                    recorded_s=self._clock(),
                )
            )
            if state is JobState.PAID:
                assert result.inserted_primary_key is not None
                self._pay(books, result.inserted_primary_key[0], job.device, microcredits)
            return Settlement(state=state, microcredits=microcredits)

    def _pay_work(self, work: Work) -> Settlement:
        with self._books() as books:
            row = self._find_row(books, work.device, work.job)
            if row is not None:
                found = (row.round, row.microcredits, row.digest)
                if found != (work.round, work.microcredits, work.digest):
                    raise MarketError(f"the job id {work.job!r} has been used for something else")
                return _settlement(row, repeated=True)
            self._open_round(books, work.round)
            result = books.execute(
                _JOBS.insert().values(
                    device=work.device,
                    job=work.job,
                    round=work.round,
                    layers=0,
                    microcredits=work.microcredits,
                    state=JobState.PAID,
                    digest=work.digest,
                    audited=False,
                    evidence=None,
                    recorded_s=self._clock(),
                )
            )
            assert result.inserted_primary_key is not None
            self._pay(books, result.inserted_primary_key[0], work.device, work.microcredits)
            return Settlement(state=JobState.PAID, microcredits=work.microcredits)

    def _find(self, books: sa.Connection, job: Job) -> Settlement | None:
        row = self._find_row(books, job.device, job.job)
        if row is None:
            return None
        if (row.round, row.layers, row.digest) != (job.round, job.layers, job.digest):
            raise MarketError(f"the job id {job.job!r} has been used for something else")
        return _settlement(row, repeated=True)

    @staticmethod
    def _find_row(books: sa.Connection, device: str, job: str) -> Any:
        return books.execute(
            sa.select(_JOBS).where(_JOBS.c.device == device, _JOBS.c.job == job)
        ).first()

    @classmethod
    def _row(cls, books: sa.Connection, device: str, job: str) -> Any:
        row = cls._find_row(books, device, job)
        if row is None:
            raise MarketError(f"{device!r} has no job {job!r}")
        return row

    @staticmethod
    def _open_round(books: sa.Connection, number: int) -> Any:
        row = books.execute(sa.select(_ROUNDS).where(_ROUNDS.c.number == number)).first()
        if row is None:
            raise MarketError(f"there is no round {number}")
        if row.closed:
            raise MarketError(f"round {number} is closed")
        return row

    @staticmethod
    def _committed(books: sa.Connection, number: int, device: str) -> int | None:
        query = sa.select(_COMMITMENTS.c.layers).where(
            _COMMITMENTS.c.round == number, _COMMITMENTS.c.device == device
        )
        layers = books.execute(query).scalar()
        return None if layers is None else int(layers)

    @staticmethod
    def _set_state(books: sa.Connection, job_id: int, state: JobState) -> None:
        books.execute(_JOBS.update().where(_JOBS.c.id == job_id).values(state=state, evidence=None))

    @staticmethod
    def _pay(books: sa.Connection, job_id: int, device: str, microcredits: int) -> None:
        """Both entries of a payment; a payment of zero needs none."""
        if microcredits == 0:
            return
        books.execute(
            _ENTRIES.insert(),
            [
                {
                    "job_id": job_id,
                    "account": SERVER,
                    "debit_microcredits": microcredits,
                    "credit_microcredits": 0,
                },
                {
                    "job_id": job_id,
                    "account": account_of(device),
                    "debit_microcredits": 0,
                    "credit_microcredits": microcredits,
                },
            ],
        )


def account_of(device: str) -> str:
    """A device's account."""
    return f"device:{device}"


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _settlement(row: Any, *, repeated: bool) -> Settlement:
    return Settlement(state=JobState(row.state), microcredits=row.microcredits, repeated=repeated)


def _set_up_sqlite(engine: sa.Engine, synchronous: str) -> None:
    """WAL, full durability, foreign keys, and writers that queue instead of failing.

    The driver's own handling of transactions is switched off: it opens them too late, so that
    what was read before a write could be out of date.
    """

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        cursor.execute("pragma journal_mode = wal")
        cursor.execute(f"pragma synchronous = {synchronous}")
        cursor.execute("pragma foreign_keys = on")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("begin immediate")
