"""A ledger that somebody has written in behind its back shows it."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from edgepact.market.ledger import Ledger, Seal, pending_of
from tests.market.ledger_cases import (
    delivered,
    forfeit,
    open_ledger,
    picking,
    piece,
    with_round,
)

DEVICES = ("cam-1", "cam-3")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Pieces that are paid, pending, forfeit and expired."""
    with open_ledger(tmp_path) as ledger:
        with_round(ledger, 1, devices=DEVICES)
        delivered(ledger, *(piece(name=name) for name in "abcd"), piece("cam-3", "z"))
        ledger.settle(1, "cam-1", draw=picking("d"))
        ledger.expire("cam-1", "d")
        with_round(ledger, 2, devices=DEVICES)
        delivered(ledger, piece(name="e", round=2), piece(name="f", round=2))
        forfeit(ledger, "cam-3", 1)
        assert ledger.jobs_by_state() == {"pending": 2, "paid": 3, "forfeit": 1, "expired": 1}
        assert ledger.check() == []
        yield ledger


SUM = "update accounts set balance_microcredits = balance_microcredits"

TAMPERED = {
    "amount": ["update transfers set microcredits = microcredits + 1 where id = 2"],
    "amount, and balances with it": [
        "update transfers set microcredits = microcredits + 1 where id = 2",
        f"{SUM} + 1 where account = 'pending:cam-1'",
        f"{SUM} - 1 where account = 'server'",
    ],
    "account": ["update transfers set credit = 'device:cam-3' where id = 2"],
    "reference": ["update transfers set reference = 'cam-1/zz' where id = 2"],
    "what it was for": ["update transfers set about = null where id = 2"],
    "hash": ["update transfers set hash = zeroblob(32) where id = 2"],
    "left out": ["delete from transfers where id = 2"],
    "first left out": ["delete from transfers where id = 1"],
    "put in at the end": [
        "insert into transfers select id + 100, 'x', debit, credit, 1, about, hash "
        "from transfers where id = 2"
    ],
    "put in before the first": [
        "insert into transfers select 0, 'x', debit, credit, 1, about, hash "
        "from transfers where id = 2"
    ],
    "numbers swapped": [
        "update transfers set id = -1 where id = 2",
        "update transfers set id = 2 where id = 3",
        "update transfers set id = 3 where id = -1",
    ],
    "last cut off": ["delete from transfers where id = (select max(id) from transfers)"],
    "last cut off, and the head with it": [
        "delete from transfers where id = (select max(id) from transfers)",
        "update head set id = (select max(id) from transfers), "
        "hash = (select hash from transfers order by id desc limit 1)",
    ],
    "head": ["update head set hash = zeroblob(32)"],
    "head gone": ["delete from head"],
    "all gone": ["delete from transfers", "update head set id = 0, hash = zeroblob(32)"],
    "balance": [f"{SUM} + 1 where account = 'device:cam-1'"],
    "two balances": [
        f"{SUM} + 1 where account = 'device:cam-1'",
        f"{SUM} - 1 where account = 'server'",
    ],
    "account gone": ["delete from accounts where account = 'device:cam-1'"],
    "account put in": ["insert into accounts values ('device:cam-9', 5)"],
    "digest of a piece": ["update pieces set digest = zeroblob(32) where piece = 'a'"],
    "commitment of a piece": ["update pieces set commitment = null where piece = 'a'"],
    "amount of a piece": ["update pieces set amount = 4 where piece = 'a'"],
    "units of a piece": ["update pieces set units = 2 where piece = 'a'"],
    "round of a piece": ["update pieces set round = 2 where piece = 'a'"],
    "pay of a piece": ["update pieces set microcredits = microcredits + 1 where piece = 'a'"],
    "pay moved between pieces": [
        "update pieces set microcredits = microcredits + 1 where piece = 'a'",
        "update pieces set microcredits = microcredits - 1 where piece = 'b'",
    ],
    "name of a piece": ["update pieces set piece = 'zz' where piece = 'a'"],
    "device of a piece": ["update pieces set device = 'cam-3' where piece = 'a'"],
    "state of a piece": ["update pieces set state = 'pending' where piece = 'a'"],
    "states of two pieces swapped": [
        "update pieces set state = 'expired' where piece = 'a'",
        "update pieces set state = 'paid' where piece = 'd'",
    ],
    "piece gone": ["delete from pieces where piece = 'a'"],
    "pending piece gone": ["delete from pieces where piece = 'e'"],
    "forfeit piece gone": ["delete from pieces where piece = 'z'"],
    "expired piece gone": ["delete from pieces where piece = 'd'"],
    "piece put in": [
        "insert into pieces (id, device, piece, round, amount, units, microcredits, state, digest, "
        "audited, recorded_s) select 99, device, 'zz', round, amount, units, microcredits, state, "
        "digest, audited, recorded_s from pieces where piece = 'z'"
    ],
    "verdict": ["update verdicts set told = replace(told, 'differs', 'silent')"],
    "verdict gone": ["delete from verdicts"],
}


@pytest.mark.parametrize("statements", TAMPERED.values(), ids=TAMPERED)
def test_whatever_is_altered_is_told(ledger: Ledger, statements: list[str]) -> None:
    tamper(ledger, statements)
    assert ledger.check() != []


def tamper(ledger: Ledger, statements: list[str]) -> None:
    with ledger._database.engine.begin() as books:
        for statement in statements:
            assert books.exec_driver_sql(statement).rowcount, statement


def test_it_is_said_what_is_wrong_and_where(ledger: Ledger) -> None:
    tamper(ledger, TAMPERED["amount"])
    told = ledger.check()
    assert "transfer 2 (cam-1/b) or one before it was altered" in told
    assert any(each.startswith("pending:cam-1 is kept with") for each in told)
    assert ledger.unbalanced() == ["pending:cam-1", "server"]


def earlier(folder: Path) -> tuple[Ledger, Seal]:
    """A ledger that was put back to an earlier time by its files, whole in itself."""
    with open_ledger(folder) as ledger:
        with_round(ledger, devices=DEVICES)
        delivered(ledger, piece())
        ledger.backup(folder / "before.db")
        delivered(ledger, piece(name="b"))
        seal = ledger.seal()
    for file in folder.glob("ledger.db*"):
        file.unlink()
    shutil.move(folder / "before.db", folder / "ledger.db")
    return open_ledger(folder), seal


@pytest.mark.parametrize("since", [False, True])
def test_books_that_were_cut_whole_show_by_a_seal(tmp_path: Path, since: bool) -> None:
    ledger, seal = earlier(tmp_path)
    with ledger:
        assert ledger.check() == []
        (told, *_) = ledger.check(seal, since=since)
        assert "the books were cut: they held transfer 2" in told
        delivered(ledger, piece(name="another"))
        (told, *_) = ledger.check(seal, since=since)
        assert "written anew: transfer 2 is not the one they held" in told


def test_books_that_were_written_anew_show_by_a_seal(ledger: Ledger, tmp_path: Path) -> None:
    """Whoever computes all hashes again is not told from the server, but by who kept a seal."""
    seal = ledger.seal()
    (tmp_path / "other").mkdir()
    with open_ledger(tmp_path / "other") as other:
        with_round(other, devices=DEVICES)
        delivered(other, *(piece(name=name) for name in "vwxy"), piece("cam-3", "z"))
        with_round(other, 2, devices=DEVICES)
        delivered(other, *(piece(name=f"{n}", round=2) for n in range(6)))
        assert other.check() == []
        assert other.check(seal) != []


def test_since_a_seal_only_what_came_after_is_looked_at(ledger: Ledger) -> None:
    seal = ledger.seal()
    assert ledger.check(seal, since=True) == []
    delivered(ledger, piece(name="g", round=2))
    ledger.settle(2, "cam-1")
    assert ledger.check(seal, since=True) == ledger.check(seal) == []
    tamper(ledger, ["update transfers set microcredits = 5 where id = 2"])
    assert ledger.check(seal, since=True) == []
    assert ledger.check(seal) != []


@pytest.mark.parametrize(
    "name", ["balance", "two balances", "account gone", "account put in", "head", "last cut off",
             "put in at the end", "all gone", "head gone"],
)  # fmt: skip
@pytest.mark.parametrize("later", [False, True])
def test_since_a_seal_these_are_told(ledger: Ledger, name: str, later: bool) -> None:
    seal = ledger.seal()
    if later:
        delivered(ledger, piece(name="g", round=2))
    tamper(ledger, TAMPERED[name])
    assert ledger.check(seal, since=True) != []


def test_the_start_has_a_seal_too(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        seal = ledger.seal()
        assert (seal.id, seal.balances) == (0, hashlib.sha256().digest())
        with_round(ledger, devices=DEVICES)
        delivered(ledger, piece())
        assert ledger.check(seal) == ledger.check(seal, since=True) == []


def test_a_copy_is_whole_and_its_owners_alone(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    ledger.backup(file)
    assert file.stat().st_mode & 0o077 == 0
    with Ledger(f"sqlite:///{file}", read_only=True) as copy:
        assert copy.seal() == ledger.seal()
        assert copy.check() == []
        assert copy.balances()[pending_of("cam-1")] == ledger.balances()[pending_of("cam-1")]


def test_reading_looks_up_what_it_needs(ledger: Ledger) -> None:
    """No statement of the market's course goes through a large table."""
    said: list[tuple[str, object]] = []

    def noted(_c: object, _k: object, statement: str, parameters: object, *_: object) -> None:
        if statement.lstrip().lower().startswith(("select", "with", "update")):
            said.append((statement, parameters))

    engine = ledger._database.engine
    sa.event.listen(engine, "before_cursor_execute", noted)
    with_round(ledger, 3, devices=DEVICES)
    each = [piece(name=f"3-{n}", round=3, evidence=b"e") for n in range(3)]
    delivered(ledger, *each, first_round=2)
    ledger.find("cam-1", ["a"])
    ledger.settle(3, "cam-1", draw=picking("3-0", "3-1"))
    ledger.open_audits()
    ledger.evidence("cam-1", "3-0")
    ledger.passed("cam-1", "3-0")
    ledger.expire("cam-1", "3-1")
    forfeit(ledger, "cam-1", 2)
    sa.event.remove(engine, "before_cursor_execute", noted)
    whole = []
    for statement, parameters in said:
        first = parameters[0] if isinstance(parameters, list) else parameters
        with ledger._read() as books:
            plan = books.exec_driver_sql(f"explain query plan {statement}", first).all()
        whole += [
            (statement, step.detail)
            for step in plan
            for table in ("pieces", "transfers", "assignments")
            if step.detail.startswith(f"SCAN {table}") and "INDEX" not in step.detail
        ]
    assert not whole
    assert len(said) > 20
