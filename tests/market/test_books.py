"""The way to the ledger: groups, a lease that is kept, a clean end."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import MarketError
from edgepact.market import books as of_books
from edgepact.market import settling as of_settling
from edgepact.market.books import Books
from edgepact.market.ledger import LedgerError, Settlement
from edgepact.market.ledger.signing import ServerKey
from edgepact.market.settling import AuditRules, Settling
from tests.market.ledger_cases import open_ledger, piece, with_round


def played(folder: Path, course: Callable[[Books], Coroutine[Any, Any, None]]) -> None:
    """Runs a course on the books of a folder, and closes them."""
    ledger = with_round(open_ledger(folder), units=1000)
    books = Books(ledger, open_ledger(folder, read_only=True))
    try:
        asyncio.run(course(books))
    finally:
        books.close()
    with open_ledger(folder) as again:
        assert again.check() == []


def test_who_is_refused_in_a_group_keeps_nobody_else(tmp_path: Path) -> None:
    async def course(books: Books) -> None:
        pieces = [piece(name=f"{n}") for n in range(20)] + [piece(round=9)]
        found = await asyncio.gather(
            *(books.deliver(each) for each in pieces),
            books.write(lambda: books.ledger.settle(9, "cam-1")),
            return_exceptions=True,
        )
        assert [isinstance(each, Settlement) for each in found] == [True] * 20 + [False] * 2
        assert all(isinstance(each, MarketError) for each in found[20:])
        there = await books.read(lambda ledger: ledger.pieces_of("cam-1", 1))
        assert len(there) == 20

    played(tmp_path, course)


def test_a_lease_is_kept_and_its_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_books, "RENEW_S", 0.0)
    renewed = asyncio.Event()

    async def course(books: Books) -> None:
        books.ledger.lead("one", lease_s=0.001)
        before, calls = books.ledger.lead, 0

        def lead() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise LedgerError("away")  # which takes no lease away
            before("one", lease_s=3600.0)
            loop.call_soon_threadsafe(renewed.set)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(books.ledger, "lead", lead)
        task = asyncio.create_task(books.keep_lead())
        await renewed.wait()
        with open_ledger(tmp_path) as other, pytest.raises(MarketError, match="serves the ledger"):
            other.lead("other")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        monkeypatch.setattr(books.ledger, "lead", lambda: before("one"))
        now_s = [0.0]

        def steady() -> float:
            return now_s[0]

        def pause(seconds: float) -> None:
            now_s[0] += seconds

        with open_ledger(tmp_path, clock=lambda: 1e12, steady=steady, pause=pause) as other:
            other.lead("other")
        with pytest.raises(MarketError, match="taken over: it is led by other"):
            await books.keep_lead()
        with pytest.raises(MarketError, match="taken over"):
            await books.deliver(piece())

    played(tmp_path, course)


def test_at_the_end_the_lease_is_free_and_the_last_word_was_said(tmp_path: Path) -> None:
    said = []

    async def course(books: Books) -> None:
        books.ledger.lead("elsewhere:1:1", lease_s=3600.0)
        books.seal = lambda: said.append(books.ledger.seal().id)
        await books.deliver(piece())

    played(tmp_path, course)
    assert said == [1]
    with open_ledger(tmp_path) as other:
        other.lead("other")


def test_a_ledger_is_sealed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_books, "RENEW_S", 0.0)
    monkeypatch.setattr(of_books, "SEAL_S", 0.0)
    sealed = asyncio.Event()

    async def course(books: Books) -> None:
        loop = asyncio.get_running_loop()
        calls = 0

        def seal() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise LedgerError("away")  # it is sealed the next time
            loop.call_soon_threadsafe(sealed.set)

        books.seal = seal
        task = asyncio.create_task(books.keep_lead())
        await sealed.wait()
        task.cancel()
        books.seal = lambda: None

    played(tmp_path, course)


def test_a_running_server_hears_whom_its_operator_lets_in_or_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_settling, "WATCH_S", 0.0)
    rules = AuditRules(rate=lambda *_: 0.0, timeout_s=1.0, strikes_max=1)

    async def course(books: Books) -> None:
        settling = Settling(
            books,
            rules,
            ServerKey(tmp_path / "key"),
            lambda *_: True,
            run=lambda call: call(),
            changed=lambda: None,
        )
        watching = asyncio.create_task(settling.watch())
        with open_ledger(tmp_path) as operator:
            operator.revoke("cam-2")
            while settling.shut_out != {"cam-2": "revoked by the operator"}:
                await asyncio.sleep(0.001)
            operator.readmit("cam-2")
            while settling.shut_out:
                await asyncio.sleep(0.001)
        watching.cancel()

    played(tmp_path, course)


def test_pieces_are_not_held_up_by_a_crowd_of_other_writes(tmp_path: Path) -> None:
    done: list[str] = []

    async def course(books: Books) -> None:
        async def noted(name: str, writing: Coroutine[Any, Any, Any]) -> None:
            await writing
            done.append(name)

        many = 10 * of_books.CALLS_MAX
        await asyncio.gather(
            *(noted("call", books.write(lambda: None)) for _ in range(many)),
            *(noted("piece", books.deliver(piece(name=f"{n}"))) for n in range(20)),
        )

    played(tmp_path, course)
    # With the first group, in which a few calls come too: all of them get their turn.
    assert done[: 20 + of_books.CALLS_MAX].count("piece") == 20
    assert done.count("call") == 10 * of_books.CALLS_MAX
