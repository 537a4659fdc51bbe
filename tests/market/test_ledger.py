"""The books: they balance at every moment, and nothing acknowledged is lost or repeated."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.engagement import NOTHING, Answer, Item, Question, posted
from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import (
    SERVER,
    Ledger,
    Piece,
    PieceState,
    Settlement,
    Work,
    account_of,
)
from edgepact.market.ledger.double_entry import transfer
from edgepact.work import Model
from tests.market.harness import place

MODEL = Model(name="m", amount_max=12, digest="ab")
DEVICES = ("cam-1", "cam-2")
LAYERS = {"cam-1": 3, "cam-2": 0}
PRICE = 250_001
UNITS = 6


def piece(
    device: str = "cam-1", name: str = "a", round: int = 1, content: bytes = b"x", units: int = 1
) -> Piece:
    return Piece(
        device=device,
        piece=name,
        round=round,
        amount=float(LAYERS[device]),
        digest=content.ljust(32, b"."),
        units=units,
    )


def open_ledger(folder: Path, *, synchronous: str = "FULL") -> Ledger:
    return Ledger(f"sqlite:///{folder / 'ledger.db'}", synchronous=synchronous)


def with_round(ledger: Ledger, number: int = 1, units: int = UNITS) -> Ledger:
    for index, device in enumerate(DEVICES):
        if device not in ledger.devices():
            ledger.enrol(f"once-{index}", device)
    open_round(ledger, number, posted(PRICE, 12), units)
    for device in DEVICES:
        answer = Answer(item=place(LAYERS[device]))
        ledger.answer(number, device, answer, assigned=item_of(LAYERS[device]))
    return ledger


def open_round(ledger: Ledger, number: int, question: Question, units: int = UNITS) -> None:
    ledger.open_round(
        number, job="classification", model=MODEL, question=question, units_per_device=units
    )


def item_of(layers: int) -> Item:
    return Item(amount=float(layers), reward_microcredits=PRICE * layers)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield with_round(ledger)


def test_payment_has_two_entries(ledger: Ledger) -> None:
    settled = ledger.settle(piece())
    assert settled == Settlement(state=PieceState.PAID, microcredits=3 * PRICE)
    entries = [(e.account, e.debit_microcredits, e.credit_microcredits) for e in ledger.entries()]
    assert entries == [(SERVER, 3 * PRICE, 0), (account_of("cam-1"), 0, 3 * PRICE)]
    assert ledger.balances() == {
        SERVER: -3 * PRICE,
        account_of("cam-1"): 3 * PRICE,
        account_of("cam-2"): 0,
    }


def test_piece_without_layers_is_recorded_and_moves_no_money(ledger: Ledger) -> None:
    assert ledger.settle(piece("cam-2")).state is PieceState.PAID
    assert ledger.entries() == []
    assert [(p.device, p.microcredits) for p in ledger.payments(1)] == [("cam-2", 0)]


def test_repeated_piece_is_paid_once(ledger: Ledger) -> None:
    first = ledger.settle(piece())
    again = ledger.settle(piece())
    assert (first.repeated, again.repeated) == (False, True)
    assert again.paid_microcredits == first.paid_microcredits
    assert len(ledger.entries()) == 2


def test_units_are_paid_and_no_more_than_are_left(ledger: Ledger) -> None:
    assert ledger.settle(piece(units=4)).paid_microcredits == 4 * 3 * PRICE
    last = ledger.settle(piece(name="b", units=4))
    assert (last.units, last.paid_microcredits) == (2, 2 * 3 * PRICE)
    with pytest.raises(MarketError, match="delivered all 6 units"):
        ledger.settle(piece(name="c"))
    assert [(p.piece, p.units) for p in ledger.payments()] == [("a", 4), ("b", 2)]


def test_the_database_itself_refuses_a_second_payment(ledger: Ledger) -> None:
    ledger.settle(piece())
    with pytest.raises(sa.exc.IntegrityError), ledger._books() as books:
        transfer(books, "cam-1/a", debit=SERVER, credit=account_of("cam-1"), microcredits=1)
    columns = (
        "device, piece, round, amount, units, microcredits, state, digest, audited, recorded_s"
    )
    with pytest.raises(sa.exc.IntegrityError), ledger._books() as books:
        books.exec_driver_sql(f"insert into pieces ({columns}) select {columns} from pieces")
    assert ledger.totals() == (3 * PRICE, 3 * PRICE)


def test_what_is_refused_pays_nothing(ledger: Ledger) -> None:
    def refused(task: Piece, says: str) -> None:
        with pytest.raises(MarketError, match=says):
            ledger.settle(task)

    refused(piece(round=2), "no round 2")
    other = Piece(device="cam-1", piece="a", round=1, amount=4.0, digest=b"x" * 32)
    refused(other, "was assigned 3 in round 1, not 4")
    ledger.settle(piece())
    refused(piece(content=b"y"), "something else")
    for index in range(UNITS - 1):
        ledger.settle(piece(name=f"{index}"))
    refused(piece(name="one-more"), "delivered all 6 units")
    ledger.close_round(1)
    refused(piece("cam-2"), "closed")
    assert ledger.settle(piece()).repeated  # what was settled stays settled
    assert ledger.balances()[account_of("cam-1")] == UNITS * 3 * PRICE


def test_held_payment_waits_for_its_audit(ledger: Ledger) -> None:
    for name in ("good", "bad", "late"):
        settled = ledger.settle(piece(name=name), evidence=b"activation")
        assert (settled.state, settled.paid_microcredits) == (PieceState.HELD, 0)
    assert ledger.evidence("cam-1", "good") == (3, b"activation")
    assert ledger.totals() == (0, 0)
    assert ledger.release("cam-1", "good").paid_microcredits == 3 * PRICE
    assert ledger.release("cam-1", "good").repeated
    assert ledger.forfeit("cam-1", "good").state is PieceState.PAID
    assert ledger.forfeit("cam-1", "bad").state is PieceState.FORFEIT
    assert ledger.release("cam-1", "bad").state is PieceState.FORFEIT
    ledger.close_round(1)
    assert ledger.release("cam-1", "late").state is PieceState.FORFEIT
    assert ledger.evidence("cam-1", "late") is None
    assert ledger.balances()[account_of("cam-1")] == 3 * PRICE
    assert ledger.jobs_by_state() == {"paid": 1, "held": 0, "forfeit": 2}
    assert ledger.audited() == 3
    assert [payment.audited for payment in ledger.payments()] == [True]
    with pytest.raises(MarketError, match="no piece"):
        ledger.release("cam-1", "never")


def test_enrolment(ledger: Ledger) -> None:
    token = ledger.enrol("once-9", "cam-9")
    assert ledger.device_of(token) == "cam-9"
    assert ledger.device_of("once-9") is None
    renewed = ledger.enrol("once-9", "cam-9")  # the answer was lost
    assert (ledger.device_of(token), ledger.device_of(renewed)) == (None, "cam-9")
    ledger.confirm("cam-9")
    for one_time, name in (("once-9", "cam-9"), ("once-9", "cam-8"), ("once-8", "cam-9")):
        with pytest.raises(MarketError):
            ledger.enrol(one_time, name)


def test_rounds_are_told(ledger: Ledger) -> None:
    ledger.settle(piece(name="b"))
    ledger.settle(piece(name="a"), evidence=b"e")
    with pytest.raises(MarketError, match="another server"):
        open_round(ledger, 1, posted(1, 12), 1)
    with pytest.raises(MarketError, match="another answer"):
        ledger.answer(1, "cam-1", Answer(item=place(4)), assigned=item_of(4))
    again = ledger.answer(1, "cam-1", Answer(item=place(3)), assigned=item_of(3))
    assert again == item_of(3)
    (record,) = ledger.rounds()
    assert (record.job, record.model, record.digest) == ("classification", "m", "ab")
    assert record.question == posted(PRICE, 12)
    assert record.price_microcredits == PRICE
    assert record.amounts == LAYERS
    assert record.answers == {"cam-1": Answer(item=place(3)), "cam-2": Answer()}
    assert record.pieces == {"cam-1": {"b": 1, "a": 1}}
    assert record.held == {"cam-1": ("a",)}
    assert record.units == {"cam-1": 1}
    assert record.paid_microcredits == {"cam-1": 3 * PRICE}
    ledger.close_round(1)
    with_round(ledger, 2)
    assert [r.closed for r in ledger.rounds()] == [True, False]
    assert [r.number for r in ledger.rounds(last=1)] == [2]


CALL = Question(bid_amounts=(1.0, 3.0))
BIDS = Answer(bids_microcredits=(5, None), claims={"examples": 7.0})


def test_all_are_assigned_at_once_and_the_round_is_shut(ledger: Ledger) -> None:
    open_round(ledger, 2, CALL)
    for device in DEVICES:
        assert ledger.answer(2, device, BIDS) is None
    assert ledger.answers(2) == dict.fromkeys(DEVICES, BIDS)
    with pytest.raises(MarketError, match="was assigned nothing"):
        ledger.settle(piece(round=2))
    ledger.enrol("once-9", "cam-9")
    with pytest.raises(MarketError, match="'cam-9' is engaged in round 2 and was silent"):
        ledger.engage(2, {"cam-1": item_of(3), "cam-9": item_of(1)})
    assert not ledger.rounds(last=1)[0].assigned  # all or nothing
    assigned = {"cam-1": item_of(3), "cam-2": NOTHING}
    assert ledger.engage(2, {"cam-1": item_of(3)}) == assigned
    assert ledger.engage(2, {"cam-2": item_of(1)}) == assigned  # the first award counts
    assert ledger.answer(2, "cam-1", BIDS) == item_of(3)
    with pytest.raises(MarketError, match="no more answers"):
        ledger.answer(2, "cam-9", BIDS)
    (record,) = ledger.rounds(last=1)
    assert (record.engaged, record.question, record.assigned) == (True, CALL, assigned)
    assert ledger.settle(piece(round=2)).paid_microcredits == 3 * PRICE


def test_secret_stays_the_same(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as one:
        secret = one.secret()
        assert len(secret) == 32
    with open_ledger(tmp_path) as again:
        assert again.secret() == secret
    (tmp_path / "other").mkdir()
    with open_ledger(tmp_path / "other") as other:
        assert other.secret() != secret


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("drop table facts", "found one of before editions were counted"),
        ("update facts set value = '1' where name = 'schema'", "found edition 1"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_ledger_of_another_edition_is_an_input_error(
    tmp_path: Path, change: str, says: str, create: bool
) -> None:
    with open_ledger(tmp_path) as ledger, ledger._books() as books:
        books.exec_driver_sql(change)
    with pytest.raises(InputError, match=f"a ledger of edition 2 .*{says}"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", create=create)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(InputError) as error:
        Ledger("nodriver://user:hunter2@host/db")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite://", "sqlite:///:memory:", "sqlite:////no/such/folder/l.db", "x://y",
     "sqlite:////dev/null/l.db"],
)  # fmt: skip
def test_impossible_url_is_an_input_error(url: str) -> None:
    with pytest.raises(InputError, match="ledger"):
        Ledger(url)


def test_file_that_is_no_database_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("nothing of the kind " * 100)
    with pytest.raises(InputError, match="ledger"):
        open_ledger(tmp_path)


def test_reader_does_not_create(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    with pytest.raises(InputError, match="no file"):
        Ledger(f"sqlite:///{missing}", create=False)
    assert not missing.exists()
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with other.begin() as books:
        books.exec_driver_sql("create table something (x)")
    other.dispose()
    with pytest.raises(InputError, match="another database"):
        Ledger(f"sqlite:///{tmp_path / 'other.db'}", create=False)


# ---------------------------------------------------------------- properties

_PIECES = st.tuples(st.sampled_from(DEVICES), st.sampled_from("abcdefgh"))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), _PIECES),
        st.tuples(st.just("hold"), _PIECES),
        st.tuples(st.just("release"), _PIECES),
        st.tuples(st.just("forfeit"), _PIECES),
        st.tuples(st.just("crash"), st.tuples(st.integers(0, 12), _PIECES)),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=25,
)


class _PowerCut(BaseException):
    """Ends a transaction in the middle."""


@settings(max_examples=60, deadline=None)
@given(steps=_STEPS)
def test_books_balance_whatever_happens(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = with_round(open_ledger(folder, synchronous="OFF"))
        acknowledged: dict[tuple[str, str], Settlement] = {}
        try:
            for what, subject in steps:
                ledger = _step(ledger, folder, what, subject, acknowledged)
                debits, credits = ledger.totals()
                assert debits == credits
                assert sum(ledger.balances().values()) == 0
            for device in DEVICES:
                paid = [
                    settled.paid_microcredits
                    for (owner, _), settled in acknowledged.items()
                    if owner == device
                ]
                assert ledger.balances()[account_of(device)] == sum(paid)
        finally:
            ledger.close()


def _step(
    ledger: Ledger,
    folder: Path,
    what: str,
    subject: Any,
    acknowledged: dict[tuple[str, str], Settlement],
) -> Ledger:
    """Does one thing; notes how a piece stands if the ledger has said so."""
    if what == "reopen":
        ledger.close()
        return open_ledger(folder, synchronous="OFF")
    if what == "close":
        ledger.close_round(1)
        for key, settled in acknowledged.items():
            if settled.state is PieceState.HELD:
                acknowledged[key] = Settlement(
                    state=PieceState.FORFEIT, microcredits=settled.microcredits
                )
        return ledger
    if what == "crash":
        statements, key = subject
        with _power_cut(ledger, statements), suppress(_PowerCut, MarketError):
            acknowledged[key] = ledger.settle(piece(*key))
        ledger.close()
        return open_ledger(folder, synchronous="OFF")
    key = subject
    try:
        match what:
            case "pay":
                settled = ledger.settle(piece(*key))
            case "hold":
                settled = ledger.settle(piece(*key), evidence=b"e")
            case "release":
                settled = ledger.release(*key)
            case _:
                settled = ledger.forfeit(*key)
    except MarketError:
        return ledger
    if key in acknowledged and settled.repeated:
        assert settled.state is acknowledged[key].state
    acknowledged[key] = settled
    return ledger


class _power_cut:
    """After so many statements the next one never happens."""

    def __init__(self, ledger: Ledger, statements: int) -> None:
        self._engine, self._left = ledger._database.engine, statements

    def __enter__(self) -> None:
        sa.event.listen(self._engine, "before_cursor_execute", self._count)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self._left -= 1
        if self._left < 0:
            raise _PowerCut


# ---------------------------------------------------------------- a real crash

_PAY_IN_A_LOOP = """
import sys
from edgepact.market.ledger import Ledger, Piece
ledger = Ledger(sys.argv[1])
for index in range(int(sys.argv[2]), 10**6):
    done = Piece(device="cam-1", piece=str(index), round=1, amount=3.0, digest=b"x" * 32)
    ledger.settle(done)
    print(index, flush=True)
"""


def test_killed_process_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with with_round(open_ledger(tmp_path), units=10**6):
        pass
    acknowledged: list[int] = []
    for count in (7, 30):
        start = acknowledged[-1] + 1 if acknowledged else 0
        process = subprocess.Popen(
            [sys.executable, "-c", _PAY_IN_A_LOOP, f"sqlite:///{tmp_path / 'ledger.db'}",
             str(start)],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(count):
            acknowledged.append(int(process.stdout.readline()))
        process.kill()
        rest, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
        acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line[-1] == "\n"]
        with open_ledger(tmp_path) as ledger:
            paid = [int(payment.piece) for payment in ledger.payments()]
            # Each once, and at most one that was written but not acknowledged any more.
            assert paid in (acknowledged, [*acknowledged, acknowledged[-1] + 1])
            assert ledger.totals() == (len(paid) * 3 * PRICE,) * 2
            again = ledger.settle(piece(name=str(acknowledged[0]), content=b"x" * 32))
            assert again.repeated
            acknowledged = paid


def work(device: str = "cam-1", microcredits: int = 7, content: bytes = b"x") -> Work:
    return Work(
        device=device,
        job="1-a",
        round=1,
        microcredits=microcredits,
        digest=content.ljust(32, b"."),
    )


def test_work_is_paid_its_own_price_once(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        for _ in range(2):  # all of it may be said again
            ledger.admit("cam-1")
            ledger.open_work_round(1, model="m")
        first, again = ledger.pay_work(work()), ledger.pay_work(work())
        assert (first.paid_microcredits, first.repeated, again.repeated) == (7, False, True)
        for other in (work(microcredits=8), work(content=b"y")):
            with pytest.raises(MarketError, match="something else"):
                ledger.pay_work(other)
        ledger.close_round(1)
        assert ledger.pay_work(work()).repeated
        ledger.admit("cam-2")
        with pytest.raises(MarketError, match="closed"):
            ledger.pay_work(work("cam-2"))
        assert ledger.totals() == (7, 7)
        assert ledger.balances() == {SERVER: -7, account_of("cam-1"): 7, account_of("cam-2"): 0}


def test_a_round_of_images_is_no_round_of_work(ledger: Ledger) -> None:
    with pytest.raises(MarketError, match="another kind"):
        ledger.open_work_round(1, model="m")


def test_nobody_can_enrol_as_an_admitted_device(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.admit("cam-1")
        with pytest.raises(MarketError, match="has enrolled as"):
            ledger.enrol("once", "cam-1")
