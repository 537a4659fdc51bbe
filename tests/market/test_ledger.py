"""The books: they balance at every moment, and nothing acknowledged is lost or repeated."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.engagement import NOTHING, Answer, Question, posted
from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import (
    FORFEITED,
    SERVER,
    Ledger,
    LedgerError,
    Limits,
    NoBudget,
    Piece,
    PieceState,
    RepeatedWork,
    Settlement,
    Stage,
    Transfer,
    Work,
    account_of,
    pending_of,
)
from edgepact.market.ledger.double_entry import beside, move
from edgepact.market.ledger.round_rows import bought_in
from tests.market.harness import place
from tests.market.ledger_cases import (
    DEVICES,
    LAYERS,
    PRICE,
    UNITS,
    delivered,
    forfeit,
    item_of,
    open_ledger,
    open_round,
    picking,
    piece,
    sign,
    with_round,
)

PAY = 3 * PRICE
"""Of a unit of cam-1."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield with_round(ledger)
        assert ledger.check() == []


def refused(ledger: Ledger, *pieces: Piece, **options: Any) -> list[MarketError]:
    found = ledger.deliver(pieces, **options)
    assert all(isinstance(each, MarketError) for each in found), found
    return [each for each in found if isinstance(each, MarketError)]


# ---------------------------------------------------------------- pay is pending, then paid


def test_pay_is_pending_until_the_device_round_is_settled(ledger: Ledger) -> None:
    assert delivered(ledger, piece()) == [Settlement(state=PieceState.PENDING, microcredits=PAY)]
    assert ledger.balances()[pending_of("cam-1")] == PAY
    assert ledger.settle(1, "cam-1") is None
    entries = [(e.account, e.debit_microcredits, e.credit_microcredits) for e in ledger.entries()]
    assert entries == [
        (SERVER, PAY, 0),
        (pending_of("cam-1"), 0, PAY),
        (pending_of("cam-1"), PAY, 0),
        (account_of("cam-1"), 0, PAY),
    ]
    assert ledger.balances() == {
        SERVER: -PAY,
        pending_of("cam-1"): 0,
        account_of("cam-1"): PAY,
        account_of("cam-2"): 0,
    }
    assert ledger.settle(1, "cam-1") is None
    assert len(ledger.entries()) == 4
    with pytest.raises(MarketError, match="assigned nothing"):
        ledger.settle(2, "cam-1")


def test_piece_without_layers_is_recorded_and_moves_no_money(ledger: Ledger) -> None:
    delivered(ledger, piece("cam-2"))
    ledger.settle(1, "cam-2")
    assert ledger.entries() == []
    assert [(p.device, p.microcredits) for p in ledger.payments(1)] == [("cam-2", 0)]


@pytest.mark.parametrize("at_once", [True, False])
def test_repeated_piece_is_paid_once(ledger: Ledger, at_once: bool) -> None:
    if at_once:
        first, again = delivered(ledger, piece(), piece())
    else:
        (first,), (again,) = delivered(ledger, piece()), delivered(ledger, piece())
    assert (first.repeated, again.repeated) == (False, True)
    assert (again.microcredits, again.units) == (first.microcredits, first.units)
    ledger.settle(1, "cam-1")
    (late,) = delivered(ledger, piece())
    assert (late.repeated, late.paid_microcredits) == (True, PAY)
    assert ledger.find("cam-1", ["a", "b"]) == {"a": late}
    assert ledger.pieces_of("cam-1", 1) == {"a": late}
    assert (ledger.knows("cam-1", "a", 1, 3.0), ledger.knows("cam-1", "a", 2, 3.0)) == (True, False)
    assert len(ledger.entries()) == 4


@pytest.mark.parametrize("at_once", [True, False])
def test_units_are_paid_and_no_more_than_are_left(ledger: Ledger, at_once: bool) -> None:
    three = [piece(units=4), piece(name="b", units=4), piece(name="c")]
    found = ledger.deliver(three) if at_once else [ledger.deliver([each])[0] for each in three]
    first, last, over = found
    assert isinstance(first, Settlement)
    assert first.microcredits == 4 * PAY
    assert isinstance(last, Settlement)
    assert (last.units, last.microcredits) == (2, 2 * PAY)
    assert "delivered all 6 units" in str(over)
    ledger.settle(1, "cam-1")
    assert [(p.piece, p.units) for p in ledger.payments()] == [("a", 4), ("b", 2)]


def test_the_database_itself_refuses_a_second_payment(ledger: Ledger) -> None:
    delivered(ledger, piece())
    ledger.settle(1, "cam-1")
    transfer = Transfer(
        reference="cam-1/a", debit=SERVER, credit=account_of("cam-1"), microcredits=1
    )
    with pytest.raises(sa.exc.IntegrityError), ledger._write() as books:
        move(books, [transfer])
    columns = (
        "device, piece, round, amount, units, microcredits, state, digest, audited, recorded_s"
    )
    with pytest.raises(sa.exc.IntegrityError), ledger._write() as books:
        books.exec_driver_sql(f"insert into pieces ({columns}) select {columns} from pieces")
    assert ledger.balances()[account_of("cam-1")] == PAY


def test_what_is_refused_pays_nothing_and_keeps_nobody_else(ledger: Ledger) -> None:
    other = Piece(device="cam-1", piece="a", round=1, amount=4.0, digest=b"x" * 32)
    found = ledger.deliver([piece(round=2), other, piece(), piece(content=b"y")])
    says = ["no round 2", "was assigned 3 in round 1, not 4", None, "something else"]
    for each, expected in zip(found, says, strict=True):
        assert isinstance(each, Settlement) if expected is None else expected in str(each)
    delivered(ledger, *(piece(name=f"{index}") for index in range(UNITS - 1)))
    assert "delivered all 6 units" in str(*refused(ledger, piece(name="one-more")))
    ledger.settle(1, "cam-1")
    assert "is being settled" in str(*refused(ledger, piece(name="late")))
    ledger.close_round(1)
    assert "closed" in str(*refused(ledger, piece("cam-2")))
    assert delivered(ledger, piece())[0].repeated  # what was settled stays settled
    assert ledger.balances()[account_of("cam-1")] == UNITS * PAY


# ---------------------------------------------------------------- the same work, budgets


def test_the_same_work_is_taken_once_whoever_delivers_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger, devices=("cam-1", "cam-3"))
        same = b"one activation"
        first, own, others = ledger.deliver(
            [
                piece(content=same),
                piece(name="b", content=same),
                piece("cam-3", content=same),
            ],
            first_round=1,
        )
        assert isinstance(first, Settlement)
        assert isinstance(own, RepeatedWork)
        assert isinstance(others, RepeatedWork)
        assert delivered(ledger, piece(content=same), first_round=1)[0].repeated
        with_round(ledger, 2, devices=("cam-1", "cam-3"))
        later = piece("cam-3", "later", round=2, content=same)
        assert isinstance(ledger.deliver([later], first_round=1)[0], RepeatedWork)
        assert isinstance(ledger.deliver([later], first_round=2)[0], Settlement)
        assert isinstance(ledger.deliver([piece(name="c", content=same)])[0], Settlement)
        assert ledger.check() == []


def test_the_same_input_without_layers_is_no_repetition(ledger: Ledger) -> None:
    assert len(delivered(ledger, *(piece("cam-2", n, content=b"x") for n in "ab"), first_round=1))


@pytest.mark.parametrize("of", ["round", "total"])
@pytest.mark.parametrize("at_once", [True, False])
def test_no_more_is_promised_than_a_budget(ledger: Ledger, of: str, at_once: bool) -> None:
    limits = Limits(**{f"{of}_microcredits": 2 * PAY + 1})
    three = [piece(name=name) for name in "abc"]
    if at_once:
        found = ledger.deliver(three, limits=limits)
    else:
        found = [ledger.deliver([each], limits=limits)[0] for each in three]
    assert [isinstance(each, NoBudget) for each in found] == [False, False, True]
    assert ledger.balances()[pending_of("cam-1")] == 2 * PAY
    assert delivered(ledger, piece(), limits=limits)[0].repeated
    with_round(ledger, 2)
    (next_round,) = ledger.deliver([piece(name="n", round=2)], limits=limits)
    assert isinstance(next_round, NoBudget) == (of == "total")
    forfeit(ledger)
    (after,) = ledger.deliver([piece(name="m", round=2)], limits=limits)
    # The device-round 2 was settled with the forfeit.
    assert "being settled" in str(after)
    with_round(ledger, 3)
    assert isinstance(ledger.deliver([piece(name="o", round=3)], limits=limits)[0], Settlement)


@pytest.mark.parametrize("of", ["round", "total"])
def test_what_is_not_paid_leaves_the_budget_to_others(tmp_path: Path, of: str) -> None:
    """A cheat must not use up what honest devices would have earned."""
    with open_ledger(tmp_path) as ledger:
        with_round(ledger, devices=("cam-1", "cam-3"))
        limits = Limits(**{f"{of}_microcredits": 2 * PAY})
        others = [piece("cam-3", name) for name in "abc"]  # 2 of 3 layers each
        delivered(ledger, piece(name="a"), piece(name="b"), limits=limits)
        assert isinstance(ledger.deliver(others, limits=limits)[0], NoBudget)
        ledger.expire("cam-1", "a")
        assert [type(each) for each in ledger.deliver(others, limits=limits)] == [
            Settlement, NoBudget, NoBudget,
        ]  # fmt: skip
        forfeit(ledger)
        assert delivered(ledger, *others, limits=limits)[-1].state is PieceState.PENDING
        for device in ("cam-1", "cam-3"):
            ledger.settle(1, device)
        assert ledger.balances()[account_of("cam-3")] == 2 * PAY
        assert ledger.check() == []


def test_what_has_expired_may_be_delivered_again_and_what_is_forfeit_may_not(
    tmp_path: Path,
) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        delivered(ledger, piece(name="a", content=b"one"), piece(name="b", content=b"two"))
        ledger.expire("cam-1", "a")
        forfeit(ledger)
        with_round(ledger, 2)
        for content, taken in ((b"one", Settlement), (b"two", RepeatedWork)):
            again = piece(name=content.decode(), round=2, content=content)
            assert isinstance(ledger.deliver([again], first_round=1)[0], taken)
        assert ledger.check() == []


# ---------------------------------------------------------------- audits


def with_audit(ledger: Ledger, *picked: str) -> None:
    delivered(ledger, *(piece(name=name, evidence=b"activation") for name in "abc"))
    begun = ledger.settle(1, "cam-1", draw=picking(*picked), deadline_s=9.0)
    assert begun is not None
    assert (begun.pieces, begun.deadline_s) == (picked, 9.0)


def test_nothing_is_paid_before_the_last_audit_has_passed(ledger: Ledger) -> None:
    with_audit(ledger, "a", "c")
    again = ledger.settle(1, "cam-1", draw=picking("b"))
    assert again is not None
    assert again.pieces == ("a", "c")  # the first picks count
    kept = ledger.evidence("cam-1", "a")
    assert kept is not None
    assert (kept.round, kept.amount, kept.commitment, kept.evidence) == (
        1, 3, bytes(32), b"activation",
    )  # fmt: skip
    assert ledger.evidence("cam-1", "b") is None
    assert [each.picked for each in ledger.pending(1, "cam-1")] == [True, False, True]
    assert ledger.passed("cam-1", "a") is Stage.AUDITING
    assert ledger.passed("cam-1", "a") is Stage.AUDITING
    assert ledger.evidence("cam-1", "a") is None
    assert ledger.jobs_by_state() == {"pending": 3, "paid": 0, "forfeit": 0, "expired": 0}
    (open_audit,) = ledger.open_audits()
    assert open_audit.pieces == ("c",)
    ledger.postpone(12.0)
    assert ledger.open_audits()[0].deadline_s == 12.0
    assert ledger.passed("cam-1", "c") is Stage.SETTLED
    assert ledger.passed("cam-1", "c") is Stage.SETTLED
    assert ledger.balances()[account_of("cam-1")] == 3 * PAY
    assert ledger.jobs_by_state()["paid"] == 3
    assert (ledger.audited(), [p.audited for p in ledger.payments()]) == (2, [True, False, True])
    assert (ledger.open_audits(), ledger.unsettled()) == ([], [(1, "cam-2", Stage.OPEN)])
    with pytest.raises(MarketError, match="no piece"):
        ledger.passed("cam-1", "never")


def test_what_the_server_cannot_audit_expires_and_the_rest_is_paid(ledger: Ledger) -> None:
    with_audit(ledger, "a", "b")
    for _ in range(2):
        assert ledger.expire("cam-1", "a") is Stage.AUDITING
    assert ledger.passed("cam-1", "b") is Stage.SETTLED
    assert ledger.expire("cam-1", "b") is Stage.SETTLED
    assert ledger.jobs_by_state() == {"pending": 0, "paid": 2, "forfeit": 0, "expired": 1}
    assert ledger.balances()[SERVER] == -2 * PAY
    assert ledger.strikes() == {}


def test_a_piece_that_expires_before_the_draw_pays_nothing_else(ledger: Ledger) -> None:
    delivered(ledger, piece(), piece(name="b"))
    assert ledger.expire("cam-1", "a") is Stage.OPEN
    assert ledger.balances()[account_of("cam-1")] == 0


def test_no_name_of_a_piece_takes_another_transfers_reference(ledger: Ledger) -> None:
    delivered(ledger, *(piece(name=name) for name in ("x", "x/expired", "/paid", "expired:x")))
    ledger.expire("cam-1", "x")
    ledger.settle(1, "cam-1")
    assert ledger.jobs_by_state()["paid"] == 3


def test_a_failed_audit_takes_all_that_is_pending(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        devices = ("cam-1", "cam-3")
        with_round(ledger, devices=devices)
        with_round(ledger, 2, devices=devices)
        delivered(ledger, piece(name="old", evidence=b"e"), piece("cam-3", "theirs"))
        ledger.settle(1, "cam-1", draw=picking("old"))
        delivered(ledger, piece(name="new", round=2))
        assert forfeit(ledger) == 2 * PAY
        assert forfeit(ledger) == forfeit(ledger, number=2) == 0
        assert ledger.balances()[FORFEITED] == 2 * PAY
        assert ledger.balances()[pending_of("cam-3")] == 2 * PRICE
        assert ledger.unsettled() == [(1, "cam-3", Stage.OPEN), (2, "cam-3", Stage.OPEN)]
        assert (ledger.strikes(), ledger.shut_out()) == ({"cam-1": 1}, {})
        assert ledger.passed("cam-1", "old") is Stage.SETTLED
        ((told, signature),) = ledger.verdicts("cam-1")
        assert ledger.verdicts() == [(told, signature)]
        assert '"reason": "differs"' in told
        assert signature == sign(told)
        with_round(ledger, 3, devices=devices)
        assert forfeit(ledger, number=3) == 0  # silence with nothing pending is a strike too
        assert ledger.shut_out() == {"cam-1": "excluded after failed audits"}
        ledger.readmit("cam-1")
        assert (ledger.strikes(), ledger.shut_out()) == ({}, {})
        with pytest.raises(MarketError, match="no device"):
            ledger.readmit("cam-9")
        assert ledger.check() == []


# ---------------------------------------------------------------- devices and tokens


def test_enrolment(ledger: Ledger) -> None:
    token = ledger.enrol("once-9", "cam-9")
    assert ledger.device_of(token) == "cam-9"
    assert ledger.device_of("once-9") is None
    renewed = ledger.enrol("once-9", "cam-9")  # the answer was lost
    assert renewed == token  # whichever of two answers a device hears, it is good
    assert ledger.enrol("once-8", "cam-8") != token
    ledger.confirm("cam-9")
    for one_time, name in (("once-9", "cam-9"), ("once-9", "cam-8"), ("once-7", "cam-9")):
        with pytest.raises(MarketError):
            ledger.enrol(one_time, name)
    ledger.revoke("cam-9")
    assert ledger.device_of(renewed) is None
    assert ledger.shut_out() == {"cam-9": "revoked by the operator"}


def test_one_time_tokens_end_and_can_be_revoked(tmp_path: Path) -> None:
    now_s = [1000.0]
    with open_ledger(tmp_path, clock=lambda: now_s[0]) as ledger:
        (lasting, first), (short, second) = ledger.issue_token(), ledger.issue_token(valid_s=60.0)
        assert ledger.admits(lasting)
        assert ledger.admits(short)
        assert not ledger.admits("never-issued")
        now_s[0] += 60.0
        assert (ledger.admits(lasting), ledger.admits(short)) == (True, False)
        ledger.enrol(lasting, "cam-1")
        told = {each.label: each.device for each in ledger.tokens()}
        assert told == {first.label: "cam-1", second.label: None}
        ledger.revoke(first.label)
        assert not ledger.admits(lasting)
        with pytest.raises(MarketError, match="neither an enrolled device nor the label"):
            ledger.revoke("nobody")
    kept = (tmp_path / "ledger.db").read_bytes()
    assert lasting.encode() not in kept
    assert short.encode() not in kept


def test_nobody_can_enrol_as_an_admitted_device(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.admit("cam-1")
        with pytest.raises(MarketError, match="has enrolled as"):
            ledger.enrol("once", "cam-1")


# ---------------------------------------------------------------- rounds


def test_rounds_are_told(ledger: Ledger) -> None:
    delivered(ledger, piece(name="b"), piece(name="a", evidence=b"e"))
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
    assert record.amounts == {name: LAYERS[name] for name in DEVICES}
    assert record.answers == {"cam-1": Answer(item=place(3)), "cam-2": Answer()}
    assert record.pieces == {"cam-1": {"b": 1, "a": 1}}
    assert record.stages == {"cam-1": Stage.OPEN, "cam-2": Stage.OPEN}
    assert record.units == {"cam-1": 2}
    assert record.paid_microcredits == {"cam-1": 0}
    assert record.pending_microcredits == {"cam-1": 2 * PAY}
    ledger.close_round(1)
    ledger.settle(1, "cam-1")
    with_round(ledger, 2)
    assert [r.closed for r in ledger.rounds()] == [True, False]
    assert ledger.rounds()[0].paid_microcredits == {"cam-1": 2 * PAY}
    assert [r.number for r in ledger.rounds(last=1)] == [2]
    (one, two), (bare, same) = ledger.rounds(), ledger.rounds(pieces=False)
    assert (replace(one, pieces={}), two) == (bare, same)
    assert one.pieces
    assert ledger.paid_by_round() == {1: {"cam-1": 2 * PAY}}


CALL = Question(bid_amounts=(1.0, 3.0))
BIDS = Answer(bids_microcredits=(5, None), claims={"examples": 7.0})


def test_all_are_assigned_at_once_and_the_round_is_shut(ledger: Ledger) -> None:
    open_round(ledger, 2, CALL)
    for device in DEVICES:
        assert ledger.answer(2, device, BIDS) is None
    assert ledger.answers(2) == dict.fromkeys(DEVICES, BIDS)
    assert "was assigned nothing" in str(*refused(ledger, piece(round=2)))
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
    assert delivered(ledger, piece(round=2))[0].microcredits == PAY


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
        kept = ledger.balances()
        assert (kept[SERVER], kept[account_of("cam-1")], kept[account_of("cam-2")]) == (-7, 7, 0)
        assert ledger.check() == []


def test_a_round_of_images_is_no_round_of_work(ledger: Ledger) -> None:
    with pytest.raises(MarketError, match="another kind"):
        ledger.open_work_round(1, model="m")


# ---------------------------------------------------------------- opening


def test_secret_stays_the_same(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as one:
        secret = one.secret()
        assert len(secret) == 32
    with open_ledger(tmp_path) as again:
        assert again.secret() == secret
    (tmp_path / "other").mkdir()
    with open_ledger(tmp_path / "other") as other:
        assert other.secret() != secret


def test_files_are_their_owners_alone(ledger: Ledger, tmp_path: Path) -> None:
    delivered(ledger, piece())
    for file in tmp_path.glob("ledger.db*"):
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("drop table facts", "found one of before editions were counted"),
        ("update facts set value = '1' where name = 'schema'", "found edition 1"),
        ("update facts set value = '99' where name = 'schema'", "found edition 99"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}])
def test_ledger_of_another_edition_is_an_input_error(
    tmp_path: Path, change: str, says: str, options: dict[str, bool]
) -> None:
    with open_ledger(tmp_path) as ledger, ledger._write() as books:
        books.exec_driver_sql(change)
    with pytest.raises(InputError, match=f"a ledger of edition 4 .*{says}"):
        open_ledger(tmp_path, **options)


PASSWORDS = (
    "nodriver://user:hunter2@host/db",
    "postgresql://u:hunter2@127.0.0.1:1/d//u:hunter2@127.0.0.1:1/d",
    "postgresql://me//me:hunter2@127.0.0.1:1/d?sslmode=require",
    "hunter2@x",
    "postgresql+psycopg://u:hunter2@:x/d",
    "postgresql+psycopg://u:hunter2@127.0.0.1:1/d?connect_timeout=1",
    "postgresql+psycopg://u@127.0.0.1:1/d?password=hunter2",
    "postgresql://u:hun@hunter2@/x",
    "sqlite://u:hunter2@/x",
    "user:hunter2@host/db",
    "nodriver://host/db?password=hunter2",
    "sqlite:///no-such.db?passphrase=hunter2",
    "sqlite:///no-such.db?timeout=5&key=hunter2&key=hunter2",
    "postgresql://u@127.0.0.1:1/d?passphrase=hunter2",
    "host=127.0.0.1 password=hunter2",
    "host=127.0.0.1 password=a@hunter2",
    "password = hunter2 host=127.0.0.1",
    "nodriver://host=127.0.0.1 password=x@hunter2",
    "nodriver://u:hunter2=x y@host/db",
    "nodriver:host=127.0.0.1 password=hunter2",
    "user:hunter2=@host/db",
    "nodriver://host/db&password=hunter2",
)


@pytest.mark.parametrize("url", PASSWORDS)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_password_in_a_url_is_not_repeated(url: str, read_only: bool) -> None:
    with pytest.raises(InputError) as error:
        Ledger(url, read_only=read_only)
    assert "hunter2" not in str(error.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("option", ["passphrase", "key", "mode", "uri", "cipher"])
@pytest.mark.parametrize("read_only", [True, False])
def test_an_option_that_sqlite_does_not_have_is_an_input_error(
    tmp_path: Path, option: str, read_only: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with pytest.raises(InputError, match=f'no options but .* found the option "{option}"'):
        Ledger(f"{url}?timeout=5&{option}=hunter2", read_only=read_only)
    assert not (tmp_path / "ledger.db").exists()
    with Ledger(f"{url}?timeout=5") as ledger:
        assert ledger.check() == []


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite://", "sqlite:///:memory:", "sqlite:////no/such/folder/l.db", "x://y",
     "sqlite:////dev/null/l.db", "sqlite:////", "sqlite:///."],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}])
def test_impossible_url_is_an_input_error(url: str, options: dict[str, bool]) -> None:
    with pytest.raises(InputError, match="ledger"):
        Ledger(url, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("read_only", [True, False])
def test_file_that_is_no_database_is_an_input_error(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "ledger.db").write_text("nothing of the kind " * 100)
    with pytest.raises(InputError, match="ledger"):
        open_ledger(tmp_path, read_only=read_only)


def test_reader_does_not_create(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(InputError, match="no file"):
            Ledger(f"sqlite:///{missing}", **options)  # type: ignore[arg-type]
    assert not missing.exists()
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with other.begin() as books:
        books.exec_driver_sql("create table something (x)")
    other.dispose()
    with pytest.raises(InputError, match="another database"):
        Ledger(f"sqlite:///{tmp_path / 'other.db'}", create=False)


def test_reader_sees_and_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    delivered(ledger, piece())
    with open_ledger(tmp_path, read_only=True) as reader:
        assert reader.check() == []
        assert reader.balances() == ledger.balances()
        with pytest.raises(MarketError):
            reader.settle(1, "cam-1")
        with pytest.raises(MarketError):
            reader.deliver([piece(name="b")])
    assert ledger.jobs_by_state()["pending"] == 1


# ---------------------------------------------------------------- properties

_PIECES = st.tuples(st.sampled_from(DEVICES), st.sampled_from("abcdefgh"))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.lists(_PIECES, min_size=1, max_size=4)),
        st.tuples(st.just("settle"), st.tuples(st.sampled_from(DEVICES), st.sets(_PIECES))),
        st.tuples(st.just("passed"), _PIECES),
        st.tuples(st.just("expire"), _PIECES),
        st.tuples(st.just("forfeit"), st.sampled_from(DEVICES)),
        st.tuples(st.just("crash"), st.tuples(st.integers(0, 14), _PIECES)),
        st.tuples(st.just("crash in settling"), st.tuples(st.integers(0, 10), _PIECES)),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=25,
)

_AFTER = {
    PieceState.PENDING: set(PieceState),
    PieceState.PAID: {PieceState.PAID},
    PieceState.FORFEIT: {PieceState.FORFEIT},
    PieceState.EXPIRED: {PieceState.EXPIRED},
}
"""What may become of a piece of each state."""


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
                assert ledger.check() == []
                kept = ledger.balances()
                assert sum(kept.values()) == 0
                bought = 0
                for device in DEVICES:
                    now = ledger.find(device, "abcdefgh")
                    for piece, before in acknowledged.items():
                        if piece[0] == device:  # what was acknowledged is there, and goes one way
                            found = now[piece[1]]
                            assert found.microcredits == before.microcredits
                            assert found.state in _AFTER[before.state]
                            acknowledged[piece] = found
                    paid = sum(found.paid_microcredits for found in now.values())
                    assert kept[account_of(device)] == paid
                    bought += sum(
                        found.microcredits
                        for found in now.values()
                        if found.state in (PieceState.PENDING, PieceState.PAID)
                    )
                # What a budget is held against: all pieces are of round 1.
                with ledger._read() as books:
                    assert bought_in(books, 1, beside) == bought
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
    if what.startswith("crash"):
        statements, key = subject
        with _power_cut(ledger, statements), suppress(_PowerCut):
            if what == "crash":
                _deliver(ledger, [key], acknowledged)
            else:
                ledger.settle(1, key[0], draw=picking(key[1]))
        ledger.close()
        return open_ledger(folder, synchronous="OFF")
    with suppress(MarketError):  # no such piece
        match what:
            case "deliver":
                _deliver(ledger, subject, acknowledged)
            case "settle":
                device, picked = subject
                ledger.settle(1, device, draw=picking(*(name for _, name in picked)))
            case "passed":
                ledger.passed(*subject)
            case "expire":
                ledger.expire(*subject)
            case "forfeit":
                forfeit(ledger, subject)
            case _:
                ledger.close_round(1)
    return ledger


def _deliver(
    ledger: Ledger, keys: list[tuple[str, str]], acknowledged: dict[tuple[str, str], Settlement]
) -> None:
    found = ledger.deliver([piece(*key, evidence=b"e") for key in keys])
    for key, each in zip(keys, found, strict=True):
        if isinstance(each, Settlement):
            assert each.repeated == (key in acknowledged) or each.repeated
            acknowledged[key] = each


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
import hashlib, sys
from edgepact.market.ledger import Ledger, Piece
ledger = Ledger(sys.argv[1])
for index in range(int(sys.argv[2]), 10**6):
    digest = hashlib.sha256(f"cam-1/{index}".encode()).digest()
    done = Piece(device="cam-1", piece=str(index), round=1, amount=3.0, digest=digest)
    with ledger.together():
        ledger.deliver([done])
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
            there = [int(name) for name in ledger.pieces_of("cam-1", 1)]
            # Each once, and at most one that was written but not acknowledged any more.
            assert there in (acknowledged, [*acknowledged, acknowledged[-1] + 1])
            assert ledger.balances()[pending_of("cam-1")] == len(there) * PAY
            assert ledger.check() == []
            assert delivered(ledger, piece(name=str(acknowledged[0])))[0].repeated
            acknowledged = there


def test_a_file_that_was_moved_away_is_written_by_nobody_until_it_is_back(tmp_path: Path) -> None:
    """SQLite itself would go on writing to it under its new name, or begin an empty one."""
    with open_ledger(tmp_path) as ledger, open_ledger(tmp_path, read_only=True) as reader:
        with_round(ledger)
        delivered(ledger, piece())
        assert reader.jobs_by_state()["pending"] == 1
        file, away = tmp_path / "ledger.db", tmp_path / "away.db"
        file.rename(away)
        for books in (ledger, reader):
            with pytest.raises(LedgerError, match=r"no file .*ledger\.db"):
                books.jobs_by_state()
        with pytest.raises(LedgerError, match="moved away or removed"):
            ledger.deliver([piece(name="b")])
        assert not file.exists()
        away.rename(file)
        delivered(ledger, piece(name="b"))
        assert reader.jobs_by_state()["pending"] == 2
        assert ledger.check() == []


def test_another_file_at_its_place_is_the_ledger_from_then_on(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        ledger.backup(tmp_path / "copy.db")
        delivered(ledger, piece())
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"ledger.db{suffix}").rename(tmp_path / f"old{suffix}")
        (tmp_path / "copy.db").replace(tmp_path / "ledger.db")
        assert ledger.jobs_by_state()["pending"] == 0
        delivered(ledger, piece())
        assert ledger.check() == []
