"""Many writes as one, and one server at a time that writes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edgepact.engagement import NOTHING, Answer, posted
from edgepact.errors import MarketError
from edgepact.market.ledger import (
    Ledger,
    LedgerError,
    PieceState,
    Settlement,
    Work,
    account_of,
)
from edgepact.market.ledger.ledger import this_process
from tests.market.ledger_cases import (
    PRICE,
    delivered,
    forfeit,
    open_ledger,
    open_round,
    piece,
    with_round,
)

PAY = 3 * PRICE


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield with_round(ledger)
        assert ledger.check() == []


def commits(ledger: Ledger, body: Callable[[], Any]) -> int:
    """How many transactions a body takes to the disk."""
    count = 0

    def counted(_: object) -> None:
        nonlocal count
        count += 1

    sa.event.listen(ledger._database.engine, "commit", counted)
    try:
        body()
    finally:
        sa.event.remove(ledger._database.engine, "commit", counted)
    return count


def test_a_group_reaches_the_disk_once(ledger: Ledger) -> None:
    def body() -> None:
        with ledger.together():
            for name in "abc":
                delivered(ledger, piece(name=name))
            with ledger.together():  # is the same one
                delivered(ledger, piece(name="d"))
            delivered(ledger, piece(name="e"))

    assert commits(ledger, body) == 1
    assert len(ledger.pieces_of("cam-1", 1)) == 5


def test_an_error_within_a_group_undoes_its_own_call_alone(ledger: Ledger) -> None:
    with ledger.together():
        delivered(ledger, piece())
        with pytest.raises(MarketError):
            ledger.settle(9, "cam-1")
        with pytest.raises(MarketError, match="another server"):
            open_round(ledger, 1, posted(1, 12))
        with pytest.raises(MarketError, match="drawn wrongly"):
            ledger.settle(1, "cam-1", draw=_broken)
        (again, fresh) = delivered(ledger, piece(), piece(name="b"))
    assert (again.repeated, fresh.repeated) == (True, False)
    assert ledger.jobs_by_state()["pending"] == 2


def _broken(_: object) -> tuple[list[str], float]:
    raise MarketError("drawn wrongly")


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, MarketError])
def test_a_group_that_is_left_with_an_error_never_was(
    ledger: Ledger, error: type[BaseException]
) -> None:
    delivered(ledger, piece("cam-2"))
    before = ledger.seal(), ledger.jobs_by_state(), ledger.devices()
    with suppress(error), ledger.together():
        delivered(ledger, piece())
        ledger.settle(1, "cam-1")
        ledger.enrol("once", "cam-9")
        raise error
    assert (ledger.seal(), ledger.jobs_by_state(), ledger.devices()) == before
    assert delivered(ledger, piece())[0].repeated is False  # and nothing is left of the group


def test_a_group_whose_commit_fails_never_was(ledger: Ledger, tmp_path: Path) -> None:
    """The file is locked by somebody else while it is to be written."""
    engine = ledger._database.engine

    def full(_: object) -> None:
        raise sa.exc.OperationalError("commit", {}, OSError("disk full"))

    sa.event.listen(engine, "commit", full)
    with pytest.raises(LedgerError, match="disk full"), ledger.together():
        delivered(ledger, piece())
    sa.event.remove(engine, "commit", full)
    assert ledger.jobs_by_state()["pending"] == 0
    delivered(ledger, piece())


# ---------------------------------------------------------------- one server at a time


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Ledger, Ledger, list[float]]]:
    """Two servers on one ledger, and their clock."""
    now_s = [1000.0]

    def pause(seconds: float) -> None:
        now_s[0] += seconds

    def time_s() -> float:
        return now_s[0]

    with ExitStack() as held:
        one, other = (
            held.enter_context(open_ledger(tmp_path, clock=time_s, steady=time_s, pause=pause))
            for _ in range(2)
        )
        with_round(one)
        yield one, other, now_s
        assert other.check() == []


WRITES: dict[str, Callable[[Ledger], Any]] = {
    "deliver": lambda ledger: ledger.deliver([piece(name="b")]),
    "pay_work": lambda ledger: ledger.pay_work(
        Work(device="cam-1", job="w", round=1, microcredits=7, digest=bytes(32))
    ),
    "settle": lambda ledger: ledger.settle(1, "cam-1"),
    "passed": lambda ledger: ledger.passed("cam-1", "a"),
    "expire": lambda ledger: ledger.expire("cam-1", "a"),
    "forfeit": lambda ledger: forfeit(ledger),
    "postpone": lambda ledger: ledger.postpone(9.0),
    "open_round": lambda ledger: open_round(ledger, 7, posted(1, 12)),
    "open_work_round": lambda ledger: ledger.open_work_round(8, model="m"),
    "answer": lambda ledger: ledger.answer(1, "cam-1", Answer(), assigned=NOTHING),
    "engage": lambda ledger: ledger.engage(1, {}),
    "close_round": lambda ledger: ledger.close_round(1),
    "enrol": lambda ledger: ledger.enrol("once", "cam-9"),
    "admit": lambda ledger: ledger.admit("cam-9"),
    "confirm": lambda ledger: ledger.confirm("cam-1"),
    "readmit": lambda ledger: ledger.readmit("cam-1"),
    "revoke_device": lambda ledger: ledger.revoke_device("cam-1"),
    "revoke": lambda ledger: ledger.revoke("cam-1"),
    "issue_token": lambda ledger: ledger.issue_token(),
    "secret": lambda ledger: ledger.secret(),
    "note_server": lambda ledger: ledger.note_server("ab" * 32),
    "lead": lambda ledger: ledger.lead("one"),
}


def test_a_live_server_keeps_its_ledger(two: tuple[Ledger, Ledger, list[float]]) -> None:
    one, other, now_s = two
    one.lead("one:1", lease_s=10.0)
    for _ in range(3):
        now_s[0] += 9.0
        one.lead("one:1", lease_s=10.0)
        with pytest.raises(MarketError, match=r"one:1 serves the ledger .* for 10 s more"):
            other.lead("other:1")
    delivered(one, piece())
    delivered(other, piece(name="by-the-operator"))  # who leads nothing is not fenced
    one.give_up_lead()
    other.lead("other:1")
    one.give_up_lead()  # takes nothing from the other
    with pytest.raises(MarketError, match="taken over: it is led by other:1"):
        one.lead("one:1")


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("write", WRITES)
def test_who_has_lost_the_lease_writes_nothing(
    two: tuple[Ledger, Ledger, list[float]], write: str, grouped: bool
) -> None:
    one, other, now_s = two
    one.lead("one", lease_s=10.0)
    delivered(one, piece())
    now_s[0] += 10.0
    other.lead("other")
    before = other.seal(), other.rounds(), other.members(), other.tokens()
    with ExitStack() as held:
        held.enter_context(pytest.raises(MarketError, match="taken over: it is led by other"))
        if grouped and write != "lead":
            held.enter_context(one.together())
        WRITES[write](one)
    assert (other.seal(), other.rounds(), other.members(), other.tokens()) == before
    delivered(other, piece(name="c"))


def test_every_method_that_writes_is_in_that_test() -> None:
    """By the words of the class: what uses a transaction that writes."""
    import inspect

    writing = {
        name
        for name, method in inspect.getmembers(Ledger, inspect.isfunction)
        if "self._write()" in inspect.getsource(method)
    }
    assert writing <= set(WRITES)


def test_the_lease_of_a_process_that_has_ended_is_free_at_once(
    two: tuple[Ledger, Ledger, list[float]],
) -> None:
    one, other, _ = two
    dead = subprocess.run(
        [
            sys.executable,
            "-c",
            "from edgepact.market.ledger.ledger import this_process; print(this_process())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    one.lead(dead, lease_s=3600.0)
    other.lead("other")
    with pytest.raises(MarketError, match="taken over"):
        one.deliver([piece()])


def test_the_lease_of_a_process_that_lives_is_not(
    two: tuple[Ledger, Ledger, list[float]],
) -> None:
    one, other, _ = two
    one.lead(lease_s=3600.0)
    with pytest.raises(MarketError, match="serves the ledger"):
        other.lead("other")
    other.lead(this_process())  # itself, started again in this process


def test_of_another_host_nobody_says_that_it_is_gone(
    two: tuple[Ledger, Ledger, list[float]],
) -> None:
    one, other, now_s = two
    one.lead("elsewhere:1:999999999", lease_s=10.0)
    with pytest.raises(MarketError, match="elsewhere"):
        other.lead("other")
    now_s[0] += 10.0
    other.lead("other")


@pytest.mark.parametrize("jump_s", [7200.0, -7200.0])
@pytest.mark.parametrize("of_the_leader", [True, False])
def test_a_wall_clock_that_is_set_takes_no_lease_and_keeps_none(
    tmp_path: Path, jump_s: float, of_the_leader: bool
) -> None:
    steady_s, off_s = [1000.0], {True: 0.0, False: 0.0}

    def pause(seconds: float) -> None:
        steady_s[0] += seconds
        if leading:
            one.lead("elsewhere:1:1")

    def opened(leader: bool) -> Ledger:
        return open_ledger(
            tmp_path,
            clock=lambda: 1e9 + steady_s[0] + off_s[leader],
            steady=lambda: steady_s[0],
            pause=pause,
        )

    leading = True
    with opened(True) as one, opened(False) as other:
        one.lead("elsewhere:1:1")
        off_s[of_the_leader] = jump_s
        for _ in range(20):
            with pytest.raises(MarketError, match="elsewhere:1:1 serves the ledger"):
                other.lead("elsewhere:2:2")
            pause(2.5)
        leading = False  # it was killed: of another host nobody can know
        for _ in range(4):
            with suppress(MarketError):
                other.lead("elsewhere:2:2")
            pause(2.5)
        other.lead("elsewhere:2:2")
        with pytest.raises(MarketError, match="taken over: it is led by elsewhere:2:2"):
            one.deliver([piece()])


def test_what_was_acknowledged_before_the_takeover_stays(
    two: tuple[Ledger, Ledger, list[float]],
) -> None:
    one, other, now_s = two
    one.lead("one")
    with one.together():
        (first,) = delivered(one, piece())
    now_s[0] += 3600.0
    other.lead("other")
    (again,) = delivered(other, piece())
    assert (again.repeated, again.microcredits) == (True, first.microcredits)
    other.settle(1, "cam-1")
    assert other.find("cam-1", ["a"])["a"] == Settlement(
        state=PieceState.PAID, microcredits=PAY, repeated=True
    )
    assert other.balances()[account_of("cam-1")] == PAY
