"""The market's books: double entry, whole micro-credits, every piece of work paid at most once.

What the server has acknowledged is in here, and survives a crash. The money of a piece moves in
the same transaction that records it: to an account of what is *pending*, and on to the device's
own when its device-round is settled. A piece's price is that of the device's assignment: the
reward of one unit, times the units that the server has counted.

Writing takes the lease of the ledger, so that two servers never work on one: whoever takes it over
raises its fence, and the transactions of whoever had it before are refused from then on.

Methods are safe to call from several threads.
"""

import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edgepact.engagement import NOTHING, Answer, Item, Question
from edgepact.errors import MarketError, check_choice
from edgepact.market.ledger import (
    double_entry,
    lease_row,
    member_rows,
    piece_rows,
    round_rows,
    sales,
)
from edgepact.market.ledger.accounts import (
    FORFEITED,
    SERVER,
    account_of,
    expiry_of,
    forfeit_of,
    paid_of,
    pending_of,
)
from edgepact.market.ledger.checking import check_pieces
from edgepact.market.ledger.database import Database, fact, keep_fact, known_fact
from edgepact.market.ledger.delivery import (
    Delivery,
    known_piece,
)
from edgepact.market.ledger.double_entry import Entry, Head, Seal, Transfer
from edgepact.market.ledger.records import (
    SECRET,
    SECRET_BYTES,
    TRAINING,
    Evidence,
    Limits,
    Member,
    OpenAudit,
    Payment,
    Pending,
    Piece,
    PieceState,
    RoundRecord,
    Sale,
    Settlement,
    Stage,
    Token,
    Work,
)
from edgepact.work import Model

SERVERS_KEY = "servers_key"
"""The fact by which key the server is known."""

LEASE_S = 10.0
"""How long a lease holds that is not renewed."""

WATCHED_EVERY_S = 0.25
"""How often a lease is looked at that seems to have ended."""


class Ledger:
    """The books at a database URL.

    Args:
        url: an SQLAlchemy URL such as `sqlite:///run/ledger.db`; any database will do.
        synchronous: SQLite's setting. `FULL` is durable against power cuts; `OFF` is for tests
            that open hundreds of ledgers.
        create: whether a ledger that does not exist is created, and an older one brought up to
            date; who only reads one had better hear of a wrong path.
        read_only: whether nothing will be written: reading then holds nobody up.
        clock: seconds since 1970, for the times of pieces.
        steady: seconds on a clock that nobody sets, by which leases of others end.
        pause: waits for so many seconds.

    Raises:
        InputError: the URL is no URL, its driver is missing, no ledger can be kept there, or one
            of another edition is there.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: str = "FULL",
        create: bool = True,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        check_choice("ledger", "synchronous", synchronous, ("OFF", "NORMAL", "FULL", "EXTRA"))
        self._database = Database(
            url, synchronous=synchronous, create=create and not read_only, read_only=read_only
        )
        self._read = self._database.reading
        self._clock = clock
        self._steady, self._pause = steady, pause
        self._fence: int | None = None
        self._watched: tuple[tuple[str, int, float], float] | None = None
        self._grouped = threading.local()

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return self._database.url

    @property
    def file(self) -> Path | None:
        """The file of an SQLite ledger."""
        return self._database.file

    @property
    def is_new(self) -> bool:
        """Whether there was no ledger before this one was opened."""
        return self._database.is_new

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def secret(self) -> bytes:
        """A secret of this ledger, the same for ever: seeds are drawn with it."""
        with self._write() as books:
            return bytes.fromhex(fact(books, SECRET, secrets.token_hex(SECRET_BYTES)))

    def note_server(self, public: str) -> None:
        """Keeps by which public key, hexadecimal, the server that leads this ledger is known."""
        with self._write() as books:
            keep_fact(books, SERVERS_KEY, public)

    @property
    def server(self) -> str | None:
        """Public key of the last server that led it, hexadecimal; None if that is not known."""
        with self._read() as books:
            return known_fact(books, SERVERS_KEY)

    # ------------------------------------------------------------ one writer, few transactions

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread writes within is one transaction, which reaches the disk once.

        What one call raises undoes that call alone. Nothing may be acknowledged before this has
        been left without an error.

        Raises:
            MarketError: another server has taken the ledger over.
            LedgerError: the database cannot be written; all of it is undone.
        """
        if getattr(self._grouped, "now", False):
            yield  # it is one transaction already
            return
        with self._database.together():
            with self._read() as books:
                self._begin(books)
            self._grouped.now = True
            try:
                yield
            finally:
                self._grouped.now = False

    def lead(self, holder: str = "", *, lease_s: float = LEASE_S) -> None:
        """Takes the lease of this ledger, or renews it.

        From the first call on every transaction that writes makes sure that nobody has taken it
        over.

        A lease of somebody else ends when it has not been renewed for its time on the steady clock
        of this process, however clocks were set here or there: who calls again and again, on the
        same ledger, takes it over then. Where it should have ended by the wall clock, this is
        waited for in the call.

        Args:
            holder: who takes it; the host and process if empty.
            lease_s: how long it holds, seconds, unless it is renewed.

        Raises:
            LedByAnother: another server holds it; the message says which and for how long.
        """
        holder = holder or this_process()
        first: tuple[str, int, float] | None = None
        while True:
            with self._database.books() as books:
                now_s = self._clock()
                row = lease_row.lease(books, lock=True)
                if self._fence is not None:
                    if row.fence != self._fence:
                        raise self._taken_over(row)
                    lease_row.take_lease(books, holder, self._fence, now_s + lease_s)
                    return
                left_s = lease_s - self._unchanged_s(row)
                if row.holder in ("", holder) or left_s <= 0 or _is_gone(row.holder):
                    lease_row.take_lease(books, holder, row.fence + 1, now_s + lease_s)
                    break
                seen = (row.holder, row.fence, row.until_s)
                first = first or seen
                if row.until_s > now_s or seen != first:
                    raise LedByAnother(
                        f"{row.holder} serves the ledger {self.url} and holds it for "
                        f"{left_s:.0f} s more; --standby waits for it"
                    )
            self._pause(min(WATCHED_EVERY_S, left_s))
        self._fence, self._watched = row.fence + 1, None

    def _unchanged_s(self, row: Any) -> float:
        """For how long a lease of somebody else is known not to have been renewed."""
        seen, now_s = (row.holder, row.fence, row.until_s), self._steady()
        if self._watched is None or self._watched[0] != seen:
            self._watched = seen, now_s
        return now_s - self._watched[1]

    def give_up_lead(self) -> None:
        """Lets go of the lease, so that another server need not wait for its end."""
        if self._fence is None:
            return
        with self._database.books() as books:
            row = lease_row.lease(books, lock=True)
            if row.fence == self._fence:
                lease_row.take_lease(books, "", self._fence, 0.0)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """A transaction that writes; it is refused to a server that has lost the lease."""
        with self._database.books() as books:
            if not getattr(self._grouped, "now", False):
                self._begin(books)
            yield books

    def _begin(self, books: sa.Connection) -> None:
        """Keeps the lease as it is, and other writers out, until the transaction ends."""
        if self._fence is not None:
            row = lease_row.lease(books, lock=False)
            if row.fence != self._fence:
                raise self._taken_over(row)
        double_entry.lock(books)

    def _taken_over(self, row: Any) -> "LedByAnother":
        other = row.holder or "nobody"
        return LedByAnother(f"the ledger {self.url} was taken over: it is led by {other}")

    # ------------------------------------------------------------ devices

    def enrol(self, one_time_token: str, name: str) -> str:
        """Enrols a device and returns its token, which is nowhere else.

        If the answer was lost on its way the device may ask again with the same one-time token
        and name, until it has used the token it was given; the answer is the same.

        Raises:
            MarketError: the one-time token is used up, or another device has the name.
        """
        with self._write() as books:
            return member_rows.enrol(books, one_time_token, name)

    def admit(self, name: str) -> None:
        """Notes a device whom somebody else has identified: it has no token here.

        A device that is known already, in whatever way, stays as it is.
        """
        with self._write() as books:
            member_rows.admit(books, name)

    def confirm(self, name: str) -> None:
        """Notes that a device has used its own token: its one-time token is void from now on."""
        with self._write() as books:
            member_rows.confirm(books, name)

    def device_of(self, token: str) -> str | None:
        """Name of the device with this token; None for nobody's, or if it was revoked."""
        with self._read() as books:
            return member_rows.device_of(books, token)

    def devices(self) -> list[str]:
        """Names of all enrolled devices."""
        with self._read() as books:
            return member_rows.devices(books)

    def members(self) -> list[Member]:
        """All enrolled devices, as their operator sees them."""
        with self._read() as books:
            kept = double_entry.balances(books)
            return [
                Member(
                    name=name,
                    strikes=strikes,
                    excluded=excluded,
                    revoked=revoked,
                    pending_microcredits=kept.get(pending_of(name), 0),
                    paid_microcredits=kept.get(account_of(name), 0),
                )
                for name, strikes, excluded, revoked in member_rows.members(books)
            ]

    def strikes(self) -> dict[str, int]:
        """Audits failed, of devices that have failed any."""
        with self._read() as books:
            return member_rows.strikes(books)

    def shut_out(self) -> dict[str, str]:
        """Why devices may take no part, of those that may not."""
        with self._read() as books:
            return {
                name: "excluded after failed audits" if excluded else "revoked by the operator"
                for name, excluded in member_rows.shut_out(books).items()
            }

    def readmit(self, name: str) -> bool:
        """Lets an excluded or revoked device take part again; its strikes are forgotten.

        Returns:
            Whether it was shut out.

        Raises:
            MarketError: there is none of this name.
        """
        with self._write() as books:
            was_out = name in member_rows.shut_out(books)
            member_rows.change_device(books, name, excluded=False, revoked=False, strikes=0)
            return was_out

    # ------------------------------------------------------------ one-time tokens

    def issue_token(self, *, valid_s: float | None = None) -> tuple[str, Token]:
        """A new one-time token, which is nowhere else, and what the ledger keeps of it."""
        token, now_s = secrets.token_hex(20), self._clock()
        with self._write() as books:
            expires_s = None if valid_s is None else now_s + valid_s
            return token, member_rows.issue(books, token, now_s, expires_s)

    def tokens(self) -> list[Token]:
        """All one-time tokens that were issued, in order."""
        with self._read() as books:
            return member_rows.issued(books)

    def admits(self, one_time_token: str) -> bool:
        """Whether a one-time token was issued and is neither revoked nor expired."""
        with self._read() as books:
            return member_rows.admits(books, one_time_token, self._clock())

    def revoke(self, name: str) -> None:
        """Voids the token of a device, or a one-time token by its label.

        Raises:
            MarketError: there is neither.
        """
        with self._write() as books:
            if not member_rows.revoke_token(books, name):
                try:
                    member_rows.change_device(books, name, revoked=True)
                except MarketError:
                    raise MarketError(
                        f"{name!r} is neither an enrolled device nor the label of a token"
                    ) from None

    def revoke_device(self, name: str) -> None:
        """Voids the token of a device.

        Raises:
            MarketError: none is enrolled under this name.
        """
        with self._write() as books:
            member_rows.change_device(books, name, revoked=True)

    # ------------------------------------------------------------ rounds

    def open_round(
        self, number: int, *, job: str, model: Model, question: Question, units_per_device: int
    ) -> None:
        """Records what a round asks before anybody hears of it.

        Raises:
            MarketError: the round exists; another server may be using this ledger.
        """
        try:
            with self._write() as books:
                round_rows.open_round(
                    books,
                    number,
                    job=job,
                    model=model.name,
                    digest=model.digest,
                    question=question,
                    units_per_device=units_per_device,
                )
        except sa.exc.IntegrityError:
            raise MarketError(
                f"round {number} exists in {self.url}: is another server using this ledger?"
            ) from None

    def open_work_round(self, number: int, *, model: str) -> None:
        """Records a round of work that is assigned and settled piece by piece, see `pay_work`.

        It takes one piece of each device. The same round again changes nothing.

        Raises:
            MarketError: the round exists and is of another kind or model.
        """
        terms = {"job": TRAINING, "model": model, "digest": "", "units_per_device": 1}
        with self._write() as books:
            known = round_rows.round_row(books, number)
            if known is None:
                round_rows.open_round(books, number, question=Question(), **terms)
            elif any(getattr(known, name) != value for name, value in terms.items()):
                raise MarketError(f"round {number} exists in {self.url} and is of another kind")

    def answer(
        self, number: int, device: str, answer: Answer, *, assigned: Item | None = None
    ) -> Item | None:
        """Records an answer, with what it settles at once. The same one again changes nothing.

        Args:
            number: of the round.
            device: who answers.
            answer: to the round's question.
            assigned: what the device works for what, where nobody else's answer matters.

        Returns:
            What it works for what; None while others are awaited.

        Raises:
            MarketError: the device has given another answer, or the round takes none any more.
        """
        with self._write() as books:
            row = round_rows.expect_open(books, number)
            known = round_rows.answer_of(books, number, device)
            if known is not None:
                if known != answer:
                    raise MarketError(
                        f"{device!r} has given another answer in round {number} already"
                    )
                return round_rows.assignment_of(books, number, device)
            if row.engaged:
                raise MarketError(f"round {number} takes no more answers")
            round_rows.add_answer(books, number, device, answer)
            if assigned is not None:
                round_rows.assign(books, number, device, assigned)
            return assigned

    def answers(self, number: int) -> dict[str, Answer]:
        """All answers of a round, by device."""
        with self._read() as books:
            return round_rows.answers(books, number)

    def engage(self, number: int, engaged: Mapping[str, Item]) -> dict[str, Item]:
        """Records who works how much for what, and shuts the round for answers, all at once.

        Everybody who has answered and is not engaged works at amount 0. Again, it changes
        nothing: what was recorded first counts.

        Returns:
            What everybody works for what.

        Raises:
            MarketError: the round is closed, or somebody is engaged who did not answer.
        """
        with self._write() as books:
            row = round_rows.expect_open(books, number)
            names = round_rows.answers(books, number)
            if not row.engaged:
                for name in engaged:
                    if name not in names:
                        raise MarketError(f"{name!r} is engaged in round {number} and was silent")
                for name in names:
                    round_rows.assign(books, number, name, engaged.get(name, NOTHING))
                round_rows.shut(books, number)
            found = {name: round_rows.assignment_of(books, number, name) for name in names}
            return {name: item for name, item in found.items() if item is not None}

    def close_round(self, number: int) -> None:
        """Closes a round: what comes later is refused. Its device-rounds are settled one by one."""
        with self._write() as books:
            round_rows.close_round(books, number)

    def rounds(self, *, last: int | None = None, pieces: bool = True) -> list[RoundRecord]:
        """All rounds in order, or the last few of them.

        Args:
            last: how many; None for all.
            pieces: whether each piece is named, or only those of rounds that are open.
        """
        with self._read() as books:
            return round_rows.rounds(books, last, pieces)

    # ------------------------------------------------------------ pieces

    def deliver(
        self,
        pieces: Sequence[Piece],
        *,
        first_round: int | None = None,
        limits: Limits | None = None,
    ) -> list[Settlement | MarketError]:
        """Records finished pieces, each once; their pay is pending from now on.

        It costs a few statements, however many pieces there are.

        Args:
            pieces: what was done. Of a piece's units no more count than are left of the quota.
            first_round: from this round on the same work is not taken twice, whoever delivers
                it; None takes it.
            limits: of what may be promised.

        Returns:
            How each stands, one known before as it is; or why it is refused: the round is closed
            or settled, the device was not assigned this amount or has delivered all its units,
            the id was used for something else, the same work was delivered before
            (`RepeatedWork`), or no budget is left. Nothing is paid for what is refused.
        """
        with self._write() as books:
            return Delivery(books, self._clock(), first_round, limits or Limits()).take(pieces)

    def pay_work(self, work: Work) -> Settlement:
        """Assigns a piece of work, delivers and settles it, at its own price, at once.

        Returns:
            How it stands; what was known before is left as it is.

        Raises:
            MarketError: there is no such round, it is closed, or the piece's id was used for
                something else. Nothing is paid.
        """
        item = Item(amount=1.0, reward_microcredits=work.microcredits)
        piece = Piece(
            device=work.device,
            piece=work.job,
            round=work.round,
            amount=item.amount,
            digest=work.digest,
        )
        with self._write() as books:
            known = known_piece(books, piece)
            if known is None:
                round_rows.expect_open(books, work.round)
                if round_rows.assignment_of(books, work.round, work.device) is None:
                    round_rows.assign(books, work.round, work.device, item)
            elif known.microcredits != work.microcredits:
                raise MarketError(f"the id {work.job!r} has been used for something else")
            else:
                return known
            (delivered,) = Delivery(books, self._clock(), None, Limits()).take([piece])
            if isinstance(delivered, MarketError):
                raise delivered
            _settle(books, work.round, work.device)
            return Settlement(
                state=PieceState.PAID,
                microcredits=delivered.microcredits,
                units=delivered.units,
            )

    def find(self, device: str, pieces: Sequence[str]) -> dict[str, Settlement]:
        """How pieces of a device stand, of those that the ledger knows."""
        with self._read() as books:
            rows = piece_rows.known_pieces(books, {(device, piece) for piece in pieces})
            return {
                piece: piece_rows.settlement_of(row, repeated=True)
                for (_, piece), row in rows.items()
            }

    def pieces_of(self, device: str, number: int) -> dict[str, Settlement]:
        """How all pieces of a device stand that it has delivered in a round."""
        with self._read() as books:
            return {
                row.piece: piece_rows.settlement_of(row, repeated=True)
                for row in piece_rows.rows_of(books, number, device)
            }

    def knows(self, device: str, piece: str, round: int, amount: float) -> bool:
        """Whether a device has delivered a piece of this id, in this round, at this amount."""
        with self._read() as books:
            row = piece_rows.piece_row(books, device, piece)
        return row is not None and (row.round, row.amount) == (round, amount)

    def sketches(self, first_round: int) -> list[tuple[int, str, str, bytes]]:
        """Round, device, id and sketch of pieces from a round on that have one."""
        with self._read() as books:
            return piece_rows.sketches(books, first_round)

    # ------------------------------------------------------------ device-rounds

    def unsettled(self) -> list[tuple[int, str, Stage]]:
        """Round, device and stage of every device-round that is not settled."""
        with self._read() as books:
            return round_rows.unsettled(books)

    def pending(self, number: int, device: str) -> list[Pending]:
        """Pieces of a device-round whose pay is pending, in order."""
        with self._read() as books:
            return piece_rows.pending(books, number, device)

    def settle(
        self,
        number: int,
        device: str,
        *,
        draw: Callable[[list[Pending]], tuple[Sequence[str], float]] | None = None,
        deadline_s: float = 0.0,
    ) -> OpenAudit | None:
        """Ends the deliveries of a device-round: what is picked is audited, the rest waits for it.

        Without picks everything is paid at once. Again, it changes nothing: the first picks
        count. Nothing is delivered between the draw and the end.

        Args:
            number: of the round.
            device: whose.
            draw: ids of the pieces to audit, of those that are pending, and the rate at which
                they were drawn; None for no audit.
            deadline_s: until when their sources must be shown, on the caller's clock.

        Returns:
            The audit that is open, begun with this call or before; None if all is settled.

        Raises:
            MarketError: the device was assigned nothing.
        """
        with self._write() as books:
            row = _assigned_row(books, number, device)
            if row.state == Stage.AUDITING:
                # The commit of an earlier call went through, though its answer was lost.
                waiting = [
                    each.piece for each in piece_rows.pending(books, number, device) if each.picked
                ]
                return OpenAudit(
                    round=number,
                    device=device,
                    pieces=tuple(waiting),
                    deadline_s=row.deadline_s or deadline_s,
                )
            if row.state == Stage.SETTLED:
                return None
            picked, rate = draw(piece_rows.pending(books, number, device)) if draw else ((), 0.0)
            if not picked:
                round_rows.set_stage(books, number, device, Stage.OPEN, rate=rate)
                _settle(books, number, device)
                return None
            piece_rows.pick(books, device, picked)
            round_rows.set_stage(
                books, number, device, Stage.AUDITING, rate=rate, deadline_s=deadline_s
            )
            return OpenAudit(
                round=number, device=device, pieces=tuple(picked), deadline_s=deadline_s
            )

    def open_audits(self) -> list[OpenAudit]:
        """Device-rounds whose audit is not over."""
        with self._read() as books:
            return round_rows.open_audits(books)

    def postpone(self, deadline_s: float) -> None:
        """Gives every open audit until then: the server was away."""
        with self._write() as books:
            for each in round_rows.open_audits(books):
                if each.deadline_s < deadline_s:
                    round_rows.set_stage(
                        books, each.round, each.device, Stage.AUDITING, deadline_s=deadline_s
                    )

    def evidence(self, device: str, piece: str) -> Evidence | None:
        """What a picked piece is audited by; None if it is not picked, or its audit is over.

        Raises:
            MarketError: no such piece.
        """
        with self._read() as books:
            row = piece_rows.expect_piece(books, device, piece)
            bound = sales.bound_of(books, device, piece)
        if row.state != PieceState.PENDING or not row.audited or row.evidence is None:
            return None
        return Evidence(
            round=row.round,
            amount=int(row.amount),
            commitment=None if row.commitment is None else bytes(row.commitment),
            evidence=bytes(row.evidence),
            bound=bound,
        )

    def passed(self, device: str, piece: str) -> Stage:
        """Ends the audit of a piece, which it has passed; the last one settles the device-round."""
        with self._write() as books:
            row = piece_rows.expect_piece(books, device, piece)
            if row.state == PieceState.PENDING and row.audited and row.evidence is not None:
                piece_rows.change_piece(books, device, piece, evidence=None)
                return _settle_if_audited(books, row.round, device)
            return Stage(_assigned_row(books, row.round, device).state)

    def expire(self, device: str, piece: str) -> Stage:
        """Ends the audit of a piece that the server could not hold: no pay, and no blame."""
        with self._write() as books:
            row = piece_rows.expect_piece(books, device, piece)
            if row.state == PieceState.PENDING:
                piece_rows.change_piece(
                    books, device, piece, state=PieceState.EXPIRED, evidence=None
                )
                double_entry.move(
                    books,
                    [
                        Transfer(
                            reference=expiry_of(device, piece),
                            debit=pending_of(device),
                            credit=SERVER,
                            microcredits=row.microcredits,
                        )
                    ],
                )
                taken = {(row.round, device): [0, -row.microcredits]}
                round_rows.count_delivered(books, taken)
                return _settle_if_audited(books, row.round, device)
            return Stage(_assigned_row(books, row.round, device).state)

    def forfeit(
        self,
        number: int,
        device: str,
        *,
        why: Mapping[str, Any],
        strikes_max: int,
        sign: Callable[[str], str],
    ) -> int:
        """Takes all that is pending of a device, in every round, and counts a strike.

        The verdict is kept with its reason and signature. Again, it changes nothing.

        Args:
            number: of the round whose audit has failed.
            device: whose.
            why: what was found, as JSON values.
            strikes_max: strikes at which it is excluded.
            sign: signs the text of the verdict.

        Returns:
            Micro-credits that are forfeit.

        Raises:
            MarketError: the device was assigned nothing in this round.
        """
        with self._write() as books:
            if _assigned_row(books, number, device).state == Stage.SETTLED:
                return 0
            microcredits, mark = piece_rows.end_pending(books, device, PieceState.FORFEIT)
            for other, name, _ in round_rows.unsettled(books, device):
                round_rows.set_stage(books, other, name, Stage.SETTLED, pending_microcredits=0)
            member_rows.strike(books, device, strikes_max)
            told = json.dumps(
                {
                    "verdict": "forfeit",
                    "device": device,
                    "round": number,
                    "microcredits": microcredits,
                    "pieces": mark.hex(),
                    "recorded_s": self._clock(),
                    **why,
                },
                sort_keys=True,
            )
            round_rows.add_verdict(books, number, device, told, sign(told))
            double_entry.move(
                books,
                [
                    Transfer(
                        reference=forfeit_of(number, device),
                        debit=pending_of(device),
                        credit=FORFEITED,
                        microcredits=microcredits,
                        about=hashlib.sha256(told.encode()).digest(),
                    )
                ],
            )
            return microcredits

    def verdicts(self, device: str | None = None) -> list[tuple[str, str]]:
        """Texts and signatures of all verdicts, or of those on a device."""
        with self._read() as books:
            return round_rows.verdicts(books, device)

    # ------------------------------------------------------------ the books

    def entries(self) -> list[Entry]:
        """Every line of the books, in order."""
        with self._read() as books:
            return double_entry.entries(books)

    def head(self) -> Head:
        """The last transfer."""
        with self._read() as books:
            return double_entry.head(books)

    def balances(self) -> dict[str, int]:
        """Credits less debits of every account, micro-credits: what a device has earned, and,
        below zero, what the server has paid."""
        with self._read() as books:
            accounts = {SERVER: 0} | {account_of(name): 0 for name in member_rows.devices(books)}
            return accounts | double_entry.balances(books)

    def totals(self) -> tuple[int, int]:
        """What has left accounts and what others hold of it, micro-credits: always equal."""
        with self._read() as books:
            return double_entry.totals(books)

    def payments(self, round: int | None = None) -> list[Payment]:
        """Pieces that were paid, in order, of all rounds or of one (those of price 0 too)."""
        with self._read() as books:
            return piece_rows.payments(books, round)

    def jobs_by_state(self) -> dict[str, int]:
        """How many pieces of all rounds are in each state."""
        with self._read() as books:
            return piece_rows.count_by_state(books)

    def audited(self) -> int:
        """How many pieces of all rounds were picked for an audit."""
        with self._read() as books:
            return piece_rows.count_audited(books)

    def unbalanced(self) -> list[str]:
        """Accounts whose balance is not what their transfers add up to."""
        with self._read() as books:
            return double_entry.unbalanced(books)

    def sales(self) -> list[Sale]:
        """What was delivered for buyers, by round, device and the order of delivery."""
        with self._read() as books:
            return [
                Sale(
                    request=row.request,
                    buyer=row.buyer,
                    device=row.device,
                    round=row.round,
                    units=row.units,
                    microcredits=0 if moved is None else moved.microcredits,
                    state=PieceState(row.state),
                )
                for row, moved in sales.all_sales(books)
            ]

    def paid_by_round(self) -> dict[int, dict[str, int]]:
        """Micro-credits that were paid, by round and device."""
        with self._read() as books:
            return piece_rows.paid_by_round(books)

    def seal(self) -> Seal:
        """The books as they are, in few bytes: by it they are known again."""
        with self._read() as books:
            return double_entry.seal(books)

    def check(self, kept: Seal | None = None, *, since: bool = False) -> list[str]:
        """What is wrong with this ledger, in sentences; nothing if it is whole.

        Adds up the books and follows their chain, and holds them against the pieces: that each
        was paid once and what it was paid for, what each device has been paid, and what is
        pending.

        Args:
            kept: a seal of these books of before, which they must go on from.
            since: whether only the books since then are looked at, and no pieces. It costs what
                was added since, and not what is there.
        """
        with self._read() as books:
            wrong = double_entry.check(books, kept, since=since)
            if since and kept is not None:
                return wrong
            return wrong + check_pieces(books)

    # ------------------------------------------------------------ all of it, row by row

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """What this thread reads within is of one moment, whatever others write meanwhile."""
        with self._database.one_state():
            yield

    @contextmanager
    def told(self) -> Iterator["Told"]:
        """One state of the ledger, of which large tables are read row by row."""
        with self._read() as books:
            yield Told(books)

    def backup(self, file: Path) -> None:
        """Copies an SQLite ledger, which may be written meanwhile.

        Raises:
            LedgerError: it cannot be copied there.
            MarketError: it is no SQLite ledger.
        """
        self._database.backup(file)


class Told:
    """A ledger at one moment, told row by row."""

    def __init__(self, books: sa.Connection) -> None:
        self._books = books

    def seal(self) -> Seal:
        """The books, in few bytes."""
        return double_entry.seal(self._books)

    def transfers(self) -> Iterator[tuple[int, Transfer, bytes]]:
        """Number, transfer and hash, in order."""
        return double_entry.transfers(self._books)

    def pieces(self, device: str | None = None) -> Iterator[Any]:
        """Rows of all pieces or of a device's, by round, device and the order of delivery."""
        return piece_rows.all_pieces(self._books, device=device)

    def verdicts(self) -> Iterator[Any]:
        """Rows of all verdicts, by round and device."""
        return round_rows.all_verdicts(self._books)

    def balance(self, account: str) -> int:
        """Credits less debits, micro-credits."""
        return double_entry.balance(self._books, account)

    def member(self, name: str) -> tuple[int, bool, bool] | None:
        """Strikes, excluded, revoked of a device; None if there is none of this name."""
        for each, strikes, excluded, revoked in member_rows.members(self._books):
            if each == name:
                return strikes, excluded, revoked
        return None


class LedByAnother(MarketError):
    """Another server holds the lease of the ledger, or has taken it over."""


def this_process() -> str:
    """Host, space of process numbers, and process, as the holder of a lease."""
    return f"{_this_host()}:{os.getpid()}"


def _assigned_row(books: sa.Connection, number: int, device: str) -> Any:
    row = round_rows.assignments(books, {(number, device)}).get((number, device))
    if row is None:
        raise MarketError(f"{device!r} was assigned nothing in round {number}")
    return row


def _settle_if_audited(books: sa.Connection, number: int, device: str) -> Stage:
    stage = Stage(_assigned_row(books, number, device).state)
    if stage is not Stage.AUDITING or any(
        each.picked for each in piece_rows.pending(books, number, device)
    ):
        return stage
    _settle(books, number, device)
    return Stage.SETTLED


def _settle(books: sa.Connection, number: int, device: str) -> None:
    """Pays all that is pending of a device-round."""
    microcredits, mark = piece_rows.end_pending(books, device, PieceState.PAID, number)
    double_entry.move(
        books,
        [
            Transfer(
                reference=paid_of(number, device),
                debit=pending_of(device),
                credit=account_of(device),
                microcredits=microcredits,
                about=mark,
            )
        ],
    )
    sales.bill(books, number, device)
    round_rows.set_stage(books, number, device, Stage.SETTLED, pending_microcredits=0)


def _this_host() -> str:
    """This host, and the space in which its processes are numbered: containers have their own."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{socket.gethostname()}:{space}"


def _is_gone(holder: str) -> bool:
    """Whether the holder of a lease was a process of this host that has ended."""
    host, _, process = holder.rpartition(":")
    if host != _this_host() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
