"""The market's books: double entry, whole micro-credits, every piece of work paid at most once.

What the server has acknowledged is in here, and survives a crash. The money of a piece moves in
the same transaction that records it. Its price is that of the device's assignment: the reward of
one unit, times the units that the server has counted.

Methods are safe to call from several threads.
"""

import secrets
import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from edgepact.engagement import NOTHING, Answer, Item, Question
from edgepact.errors import MarketError, check_choice
from edgepact.market.ledger import double_entry, records
from edgepact.market.ledger.database import Database, fact
from edgepact.market.ledger.double_entry import Entry
from edgepact.market.ledger.records import (
    TRAINING,
    Payment,
    Piece,
    PieceState,
    RoundRecord,
    Settlement,
    Work,
)
from edgepact.work import Model

SERVER = "server"
"""The account that pays."""

SECRET_BYTES = 32


class Ledger:
    """The books at a database URL.

    Args:
        url: an SQLAlchemy URL such as `sqlite:///run/ledger.db`; any database will do.
        synchronous: SQLite's setting. `FULL` is durable against power cuts; `OFF` is for tests
            that open hundreds of ledgers.
        create: whether a ledger that does not exist is created; who only reads one had better
            hear of a wrong path.
        clock: seconds since 1970, for the times of pieces.

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_choice("ledger", "synchronous", synchronous, ("OFF", "NORMAL", "FULL", "EXTRA"))
        self._database = Database(url, synchronous=synchronous, create=create)
        self._books = self._database.books
        self._clock = clock

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def secret(self) -> bytes:
        """A secret of this ledger, the same for ever: seeds and audits are drawn with it."""
        with self._books() as books:
            return bytes.fromhex(fact(books, "secret", secrets.token_hex(SECRET_BYTES)))

    # ------------------------------------------------------------ devices

    def enrol(self, one_time_token: str, name: str) -> str:
        """Enrols a device and returns its token, which is nowhere else.

        If the answer was lost on its way the device may ask again with the same one-time token
        and name, until it has used the token it was given.

        Raises:
            MarketError: the one-time token is used up, or another device has the name.
        """
        with self._books() as books:
            return records.enrol(books, one_time_token, name)

    def admit(self, name: str) -> None:
        """Notes a device whom somebody else has identified: it has no token here.

        A device that is known already, in whatever way, stays as it is.
        """
        with self._books() as books:
            records.admit(books, name)

    def confirm(self, name: str) -> None:
        """Notes that a device has used its own token: its one-time token is void from now on."""
        with self._books() as books:
            records.confirm(books, name)

    def device_of(self, token: str) -> str | None:
        """Name of the device with this token; None for nobody's."""
        with self._books() as books:
            return records.device_of(books, token)

    def devices(self) -> list[str]:
        """Names of all enrolled devices."""
        with self._books() as books:
            return records.devices(books)

    # ------------------------------------------------------------ rounds

    def open_round(
        self, number: int, *, job: str, model: Model, question: Question, units_per_device: int
    ) -> None:
        """Records what a round asks before anybody hears of it.

        Raises:
            MarketError: the round exists; another server may be using this ledger.
        """
        try:
            with self._books() as books:
                records.open_round(
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
                f"round {number} exists in {self._database.url}: is another server using this "
                "ledger?"
            ) from None

    def open_work_round(self, number: int, *, model: str) -> None:
        """Records a round of work that is assigned and settled piece by piece, see `pay_work`.

        It takes one piece of each device. The same round again changes nothing.

        Raises:
            MarketError: the round exists and is of another kind or model.
        """
        terms = {"job": TRAINING, "model": model, "digest": "", "units_per_device": 1}
        with self._books() as books:
            known = records.round_row(books, number)
            if known is None:
                records.open_round(books, number, question=Question(), **terms)
            elif any(getattr(known, name) != value for name, value in terms.items()):
                raise MarketError(
                    f"round {number} exists in {self._database.url} and is of another kind"
                )

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
        with self._books() as books:
            row = records.expect_open(books, number)
            known = records.answer_of(books, number, device)
            if known is not None:
                if known != answer:
                    raise MarketError(
                        f"{device!r} has given another answer in round {number} already"
                    )
                return records.assignment_of(books, number, device)
            if row.engaged:
                raise MarketError(f"round {number} takes no more answers")
            records.add_answer(books, number, device, answer)
            if assigned is not None:
                records.assign(books, number, device, assigned)
            return assigned

    def answers(self, number: int) -> dict[str, Answer]:
        """All answers of a round, by device."""
        with self._books() as books:
            return records.answers(books, number)

    def engage(self, number: int, engaged: Mapping[str, Item]) -> dict[str, Item]:
        """Records who works how much for what, and shuts the round for answers, all at once.

        Everybody who has answered and is not engaged works at amount 0. Again, it changes
        nothing: what was recorded first counts.

        Returns:
            What everybody works for what.

        Raises:
            MarketError: the round is closed, or somebody is engaged who did not answer.
        """
        with self._books() as books:
            row = records.expect_open(books, number)
            names = records.answers(books, number)
            if not row.engaged:
                for name in engaged:
                    if name not in names:
                        raise MarketError(f"{name!r} is engaged in round {number} and was silent")
                for name in names:
                    records.assign(books, number, name, engaged.get(name, NOTHING))
                records.shut(books, number)
            found = {name: records.assignment_of(books, number, name) for name in names}
            return {name: item for name, item in found.items() if item is not None}

    def close_round(self, number: int) -> None:
        """Closes a round: payments still held are forfeit, pieces that come later are refused."""
        with self._books() as books:
            records.close_round(books, number)

    def rounds(self, *, last: int | None = None) -> list[RoundRecord]:
        """All rounds in order, or the last few of them."""
        with self._books() as books:
            return records.rounds(books, last)

    # ------------------------------------------------------------ pieces

    def settle(self, piece: Piece, *, evidence: bytes | None = None) -> Settlement:
        """Records a finished piece and pays it, once, in one transaction.

        Args:
            piece: what was done. Of its units no more are paid than are left of the quota.
            evidence: what the device sent, if the piece was picked for an audit. The payment is
                then held until `release` or `forfeit`.

        Returns:
            How the piece stands; one known before is left as it is.

        Raises:
            MarketError: the round is closed, the device was not assigned this amount or has
                delivered all its units, or the id was used for something else. Nothing is paid.
        """
        try:
            with self._books() as books:
                return self._settle(books, piece, evidence)
        except sa.exc.IntegrityError:
            # Two servers at one database recorded it at the same time: the other one's row counts.
            known = self.find(piece)
            if known is None:
                raise
            return known

    def pay_work(self, work: Work) -> Settlement:
        """Assigns a piece of work and settles it at once, at its own price, in one transaction.

        Returns:
            How it stands; what was known before is left as it is.

        Raises:
            MarketError: there is no such round, it is closed, or the piece's id was used for
                something else. Nothing is paid.
        """
        try:
            return self._pay_work(work)
        except sa.exc.IntegrityError:
            # As in `settle`; the second try finds the other one's row, or says what is wrong.
            return self._pay_work(work)

    def find(self, piece: Piece) -> Settlement | None:
        """How a piece stands; None if the ledger does not know it.

        Raises:
            MarketError: the id was used for something else.
        """
        with self._books() as books:
            return _known(books, piece)

    def knows(self, device: str, piece: str, round: int, amount: float) -> bool:
        """Whether a device has delivered a piece of this id, in this round, at this amount."""
        with self._books() as books:
            row = records.piece_row(books, device, piece)
        return row is not None and (row.round, row.amount) == (round, amount)

    def release(self, device: str, piece: str) -> Settlement:
        """Pays a held piece, whose audit it has passed. Others are left as they are.

        Raises:
            MarketError: no such piece.
        """
        with self._books() as books:
            row = records.expect_piece(books, device, piece)
            if row.state != PieceState.HELD:
                return records.settlement_of(row, repeated=True)
            records.set_state(books, row.id, PieceState.PAID)
            _pay(books, device, piece, row.microcredits)
            return Settlement(state=PieceState.PAID, microcredits=row.microcredits, units=row.units)

    def forfeit(self, device: str, piece: str) -> Settlement:
        """Ends a held piece without payment. Others are left as they are.

        Raises:
            MarketError: no such piece.
        """
        with self._books() as books:
            row = records.expect_piece(books, device, piece)
            if row.state != PieceState.HELD:
                return records.settlement_of(row, repeated=True)
            records.set_state(books, row.id, PieceState.FORFEIT)
            return Settlement(
                state=PieceState.FORFEIT, microcredits=row.microcredits, units=row.units
            )

    def evidence(self, device: str, piece: str) -> tuple[int, bytes] | None:
        """Amount and evidence of a held piece; None if its audit is over.

        Raises:
            MarketError: no such piece.
        """
        with self._books() as books:
            row = records.expect_piece(books, device, piece)
        return None if row.state != PieceState.HELD else (int(row.amount), row.evidence)

    # ------------------------------------------------------------ the books

    def entries(self) -> list[Entry]:
        """Every line of the books, in order."""
        with self._books() as books:
            return double_entry.entries(books)

    def balances(self) -> dict[str, int]:
        """Credits less debits of every account, micro-credits: what a device has earned, and,
        below zero, what the server has paid."""
        with self._books() as books:
            accounts = {SERVER: 0} | {account_of(name): 0 for name in records.devices(books)}
            return accounts | double_entry.balances(books)

    def totals(self) -> tuple[int, int]:
        """Sum of all debits and of all credits, micro-credits: always equal."""
        with self._books() as books:
            return double_entry.totals(books)

    def payments(self, round: int | None = None) -> list[Payment]:
        """Pieces that were paid, in order, of all rounds or of one (those of price 0 too)."""
        with self._books() as books:
            return records.payments(books, round)

    def jobs_by_state(self) -> dict[str, int]:
        """How many pieces of all rounds were paid, are held, are forfeit."""
        with self._books() as books:
            return records.count_by_state(books)

    def audited(self) -> int:
        """How many pieces of all rounds were picked for an audit."""
        with self._books() as books:
            return records.count_audited(books)

    # ------------------------------------------------------------ private

    def _settle(self, books: sa.Connection, piece: Piece, evidence: bytes | None) -> Settlement:
        known = _known(books, piece)
        if known is not None:
            return known
        terms = records.expect_open(books, piece.round)
        assigned = records.assignment_of(books, piece.round, piece.device)
        if assigned is None or assigned.amount != piece.amount:
            said = "nothing" if assigned is None else f"{assigned.amount:g}"
            raise MarketError(
                f"{piece.device!r} was assigned {said} in round {piece.round}, not {piece.amount:g}"
            )
        left = terms.units_per_device - records.units_of(books, piece.round, piece.device)
        if left <= 0:
            raise MarketError(
                f"{piece.device!r} has delivered all {terms.units_per_device} units "
                f"of round {piece.round}"
            )
        units = min(piece.units, left)
        settlement = Settlement(
            state=PieceState.PAID if evidence is None else PieceState.HELD,
            microcredits=units * assigned.reward_microcredits,
            units=units,
        )
        records.add_piece(books, piece, settlement, evidence=evidence, recorded_s=self._clock())
        if evidence is None:
            _pay(books, piece.device, piece.piece, settlement.microcredits)
        return settlement

    def _pay_work(self, work: Work) -> Settlement:
        item = Item(amount=1.0, reward_microcredits=work.microcredits)
        piece = Piece(
            device=work.device,
            piece=work.job,
            round=work.round,
            amount=item.amount,
            digest=work.digest,
        )
        with self._books() as books:
            known = _known(books, piece)
            if known is None:
                records.expect_open(books, work.round)
                if records.assignment_of(books, work.round, work.device) is None:
                    records.assign(books, work.round, work.device, item)
            elif known.microcredits != work.microcredits:
                raise MarketError(f"the id {work.job!r} has been used for something else")
            return self._settle(books, piece, None)


def account_of(device: str) -> str:
    """A device's account."""
    return f"device:{device}"


def _known(books: sa.Connection, piece: Piece) -> Settlement | None:
    row = records.piece_row(books, piece.device, piece.piece)
    if row is None:
        return None
    found = (row.round, row.amount, row.digest)
    if found != (piece.round, piece.amount, piece.digest):
        raise MarketError(f"the id {piece.piece!r} has been used for something else")
    return records.settlement_of(row, repeated=True)


def _pay(books: sa.Connection, device: str, piece: str, microcredits: int) -> None:
    double_entry.transfer(
        books,
        f"{device}/{piece}",
        debit=SERVER,
        credit=account_of(device),
        microcredits=microcredits,
    )
