"""Whether the witness of `python -m chaos` sees what it is there to see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from chaos.market import Market
from chaos.promises import Witness
from edgepact.market.ledger import Ledger
from tests.market.ledger_cases import PRICE, delivered, piece, with_round

PAY = 3 * PRICE


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """A market of two devices, of which `cam-1` has worked, and no process runs."""
    return Market(tmp_path, devices=2)


@pytest.fixture
def ledger(market: Market) -> Any:
    with Ledger(market.ledger_url, synchronous="OFF") as ledger:
        with_round(ledger, devices=("cam-1",))
        delivered(ledger, piece(device="cam-1"), piece(device="cam-1", name="b"))
        yield ledger


def line(name: str = "a", state: str = "pending", **more: Any) -> dict[str, Any]:
    pay = {"pending_microcredits": 0, "paid_microcredits": 0}
    pay[f"{state}_microcredits"] = PAY
    return {"round": 1, "piece": name, "state": state, **pay, **more}


def told(market: Market, *lines: dict[str, Any]) -> None:
    with market.results(1).open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in lines)


def test_a_market_that_keeps_its_promises(market: Market, ledger: Ledger) -> None:
    witness = Witness(market)
    told(market, line(), line("b"), {"round": 1, "piece": "c", "state": "unpaid"})
    assert witness.look() == []
    ledger.settle(1, "cam-1")
    assert witness.look() == []  # it knows more than the device was told
    told(market, line(state="paid"), line("b", state="paid"))
    assert witness.look() == []
    assert witness.last_look() == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line("lost")], "cam-1 was told that lost is pending; the ledger has no such piece"),
        ([line(state="paid")], "cam-1 was told that a is paid; the ledger has pending"),
        ([line(pending_microcredits=1)], f"cam-1 was told 1 micro-credits for a; .* has {PAY}"),
    ],
)
def test_what_was_told_and_does_not_hold(
    market: Market, ledger: Ledger, lines: list[dict[str, Any]], said: str
) -> None:
    witness = Witness(market)
    assert witness.look() == []
    told(market, *lines)
    broken = witness.look()
    with pytest.raises(AssertionError, match=said):
        assert not broken, "\n".join(broken)


def paid_twice(ledger: Ledger, books: sa.Connection) -> None:
    books.execute(sa.text("update accounts set balance_microcredits = balance_microcredits * 2"))


def rewritten(ledger: Ledger, books: sa.Connection) -> None:
    books.execute(sa.text("update transfers set hash = zeroblob(32)"))


@pytest.mark.parametrize("harm", [paid_twice, rewritten])
def test_books_that_were_harmed(
    market: Market, ledger: Ledger, harm: Callable[[Ledger, sa.Connection], None]
) -> None:
    witness = Witness(market)
    assert witness.look() == []
    engine = sa.create_engine(market.ledger_url)
    with engine.begin() as books:
        harm(ledger, books)
    engine.dispose()
    assert witness.look() != []


def test_in_the_end_the_file_of_a_device_says_what_the_ledger_says(
    market: Market, ledger: Ledger
) -> None:
    witness = Witness(market)
    told(market, line(), line("b"))
    ledger.settle(1, "cam-1")
    told(market, line(state="paid"))
    assert witness.last_look() == ["cam-1 has pending for b, which is paid in the ledger"]


def test_a_line_that_is_being_written_is_read_later(market: Market, ledger: Ledger) -> None:
    witness = Witness(market)
    text = json.dumps(line("lost")) + "\n"
    with market.results(1).open("a") as file:
        file.write(text[:20])
        file.flush()
        assert witness.look() == []
        file.write(text[20:])
        file.flush()
        assert len(witness.look()) == 1
