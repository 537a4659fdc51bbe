"""Who asks and pays: devices are not paid for demand they invent, and buyers' money balances."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError, MarketError
from edgepact.market.demand import (
    KEY_BYTES,
    Buyer,
    Demand,
    Request,
    read_demand,
    read_requests,
    write_requests,
)
from edgepact.market.ledger import SERVER, Ledger, PieceState, RepeatedWork, account_of, buyer_of
from edgepact.market.posted import FixedPrice
from edgepact.market.statement import read_statement
from tests.market.echo import PIECES, Echo, EchoDevice, EchoServer
from tests.market.harness import SALT, Device, image, parameters, served
from tests.market.ledger_cases import delivered, forfeit, open_ledger, picking, piece, with_round
from tests.market.test_exchanges import REWARD, lines, market, run, sent

SHOP = Buyer(name="shop", microcredits=5_000_000, units=5, units_each=2)
CLUB = Buyer(name="club", microcredits=700, per="request", units=9, units_each=3)
DEMAND = Demand(key=bytes(range(KEY_BYTES)), buyers=(SHOP, CLUB))


# ---------------------------------------------------------------- requests


def test_a_request_is_accepted_from_its_device_for_its_piece() -> None:
    text = DEMAND.issue("shop", 2, "cam-0", b"prompt")
    request = DEMAND.accepted(text, "cam-0", "shop:2")
    assert (request.buyer, request.units_most, request.price(3)) == ("shop", 1, 15_000_000)
    assert DEMAND.fits("shop:2", "cam-0", request.bound, b"prompt")
    assert not DEMAND.fits("shop:2", "cam-0", request.bound, b"another")
    assert not DEMAND.fits("shop:2", "cam-1", request.bound, b"prompt")
    assert not DEMAND.fits("shop", "cam-0", request.bound, b"prompt")
    flat = DEMAND.accepted(DEMAND.issue("club", 0, "cam-0", b"p"), "cam-0", "club:0")
    assert [flat.price(units) for units in (1, 3)] == [700, 700]


@pytest.mark.parametrize(
    ("text", "device", "named", "says"),
    [
        (None, "cam-0", "shop:0", "without a request"),
        (DEMAND.issue("shop", 0, "cam-0", b"p"), "cam-1", "shop:0", "forged"),
        (DEMAND.issue("shop", 0, "cam-0", b"p"), "cam-0", "shop:1", "is that of shop:0"),
        (Demand.of([SHOP]).issue("shop", 0, "cam-0", b"p"), "cam-0", "shop:0", "forged"),
        (
            Demand(key=DEMAND.key, buyers=(replace(SHOP, units=99),)).issue(
                "shop", 3, "cam-0", b"p"
            ),
            "cam-0",
            "shop:3",
            "beyond its quota of 5",
        ),
    ],
    # Of their own, since keys are drawn anew by each process that collects these tests.
    ids=["no request", "another device's", "another piece's", "another key's", "beyond the quota"],
)
def test_what_nobody_asked_for_is_refused(
    text: str | None, device: str, named: str, says: str
) -> None:
    with pytest.raises(MarketError, match=says):
        DEMAND.accepted(text, device, named)


def test_no_more_is_issued_than_the_quota_holds() -> None:
    for buyer, number, says in (("shop", 3, "beyond its quota"), ("nobody", 0, "no buyer")):
        with pytest.raises(MarketError, match=says):
            DEMAND.issue(buyer, number, "cam-0", b"p")
    assert (SHOP.requests, CLUB.requests) == (3, 3)


@given(
    at=st.integers(0, 140),
    to=st.characters(min_codepoint=33, max_codepoint=126),
)
def test_a_request_that_was_changed_anywhere_is_refused(at: int, to: str) -> None:
    text = DEMAND.issue("shop", 1, "cam-0", b"p")
    changed = text[:at] + to + text[at + 1 :]
    if changed.lower() != text:
        with pytest.raises((MarketError, InputError)):
            DEMAND.accepted(changed, "cam-0", "shop:1")


@pytest.mark.parametrize("text", ["", "shop", "shop:1:00:00", "shop:-1:" + "00" * 32, 7, "x" * 300])
def test_no_request_is_an_input_error(text: object) -> None:
    with pytest.raises(InputError, match="request"):
        DEMAND.accepted(text, "cam-0", "shop:1")
    zeros = ":".join(["00" * 32] * 2)
    for number in ("01", "+1", "1" * 11, "\u0663"):  # a request has one id
        with pytest.raises(InputError, match="request"):
            DEMAND.accepted(f"shop:{number}:{zeros}", "cam-0", "shop:1")


def test_demand_and_requests_are_files(tmp_path: Path) -> None:
    DEMAND.write(tmp_path / "demand.json")
    assert (tmp_path / "demand.json").stat().st_mode & 0o077 == 0
    assert read_demand(tmp_path / "demand.json") == DEMAND
    assert DEMAND.key.hex() not in repr(DEMAND)
    text = DEMAND.issue("shop", 0, "cam-0", b"p")
    write_requests(tmp_path / "requests", [(text, b"p")])
    (asks,) = read_requests(tmp_path / "requests")
    assert (asks.id, asks.text) == ("shop:0", text)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key": "ab"}, "key"),
        ({"buyers": 3}, "buyers"),
        ({"buyers": [{"name": "x"}]}, r"buyers\[1\]"),
        ({"buyers": [7]}, r"buyers\[1\]"),
        ({"buyer": []}, "buyer"),
    ],
)
def test_a_wrong_file_of_demand_is_an_input_error(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    path = tmp_path / "demand.json"
    DEMAND.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=field):
        read_demand(path)
    with pytest.raises(InputError, match="each name once"):
        Demand(key=DEMAND.key, buyers=(SHOP, SHOP))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"key": ' * 100_000, '{"request": ' * 100_000])
def test_brackets_without_end_are_an_input_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(InputError, match="JSON"):
        read_demand(path)
    with pytest.raises(InputError, match="JSON"):
        read_requests(path)


# ---------------------------------------------------------------- the books


def request(number: int, buyer: Buyer = SHOP, device: str = "cam-1") -> Request:
    text = DEMAND.issue(buyer.name, number, device, b"p")
    return DEMAND.accepted(text, device, f"{buyer.name}:{number}")


def asked(number: int, *, units: int = 1, buyer: Buyer = SHOP, content: bytes = b"x") -> Any:
    made = piece(name=f"{buyer.name}:{number}", units=units, content=content, evidence=b"kept")
    return replace(made, request=request(number, buyer))


def test_a_buyer_pays_for_what_is_paid_and_the_books_balance(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        # The same work for two requests is no repetition; of each so many units count.
        found = delivered(
            ledger, asked(0, units=3), asked(1), asked(0, units=2, buyer=CLUB), first_round=1
        )
        assert [each.units for each in found] == [2, 1, 2]
        assert buyer_of("shop") not in ledger.balances()
        ledger.settle(1, "cam-1")
        balances = ledger.balances()
        assert balances[buyer_of("shop")] == -3 * SHOP.microcredits
        assert balances[buyer_of("club")] == -CLUB.microcredits
        earned = balances[account_of("cam-1")]
        assert balances[SERVER] == 3 * SHOP.microcredits + CLUB.microcredits - earned
        assert sum(balances.values()) == 0
        assert ledger.check() == []
        told = [(each.request, each.units, each.microcredits) for each in ledger.sales()]
        assert told == [
            ("shop:0", 2, 10_000_000),
            ("shop:1", 1, 5_000_000),
            ("club:0", 2, 700),
        ]


def test_a_buyer_pays_nothing_for_what_is_forfeit_or_expired(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        delivered(ledger, asked(0), asked(1))
        ledger.settle(1, "cam-1", draw=picking("shop:0"))
        kept = ledger.evidence("cam-1", "shop:0")
        assert kept is not None
        assert kept.bound == request(0).bound
        ledger.expire("cam-1", "shop:0")
        assert ledger.balances()[buyer_of("shop")] == -SHOP.microcredits
        with_round(ledger, 2)
        delivered(ledger, replace(asked(2), round=2))
        ledger.settle(2, "cam-1", draw=picking("shop:2"))
        forfeit(ledger, "cam-1", 2)
        assert ledger.balances()[buyer_of("shop")] == -SHOP.microcredits
        states = [each.state for each in ledger.sales()]
        assert states == [PieceState.EXPIRED, PieceState.PAID, PieceState.FORFEIT]
        assert ledger.check() == []


def test_a_request_is_delivered_once_and_revenue_is_no_budget(tmp_path: Path) -> None:
    from edgepact.market.ledger import Limits

    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        delivered(ledger, asked(0))
        (again,) = ledger.deliver([replace(asked(0), piece="another")])
        assert isinstance(again, RepeatedWork)
        ledger.settle(1, "cam-1")
        with_round(ledger, 2)
        spent = ledger.balances()[account_of("cam-1")]
        limits = Limits(total_microcredits=spent)
        (refused,) = ledger.deliver([replace(asked(1), round=2)], limits=limits)
        assert "the budget of the market is used up" in str(refused)


def test_what_is_sold_may_be_less_than_what_is_paid(tmp_path: Path) -> None:
    """Two tries of a piece, both paid to the device: the buyer pays for one, or for none."""
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        good = replace(asked(0, units=2), units_sold=1)
        bad = replace(asked(1, units=2), units_sold=0)
        flat = replace(asked(0, units=2, buyer=CLUB), units_sold=0)
        delivered(ledger, good, bad, flat)
        ledger.settle(1, "cam-1")
        assert [(each.units, each.microcredits) for each in ledger.sales()] == [
            (1, SHOP.microcredits),
            (0, 0),
            (0, 0),
        ]
        assert sum(each.units for each in ledger.payments()) == 6
        assert buyer_of("club") not in ledger.balances()
        assert ledger.check() == []


class Whole(Echo):
    """Pieces that are worth nothing in part, of at most three units."""

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Any]
    ) -> EchoDevice:
        return _Sized(self)


class _Sized(EchoDevice):
    units_most = 3


def test_no_piece_is_begun_that_might_not_be_paid_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.market.echo.PIECES", (PIECES[0],))
    for job, units in ((Echo(), 4), (Whole(), 3)):
        folder = tmp_path / type(job).__name__
        folder.mkdir()
        with market(folder, rounds=1, units_per_round=4) as server:
            assert run(server, folder, job).units == units


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("update sales set microcredits = 1", "is not what it owes"),
        ("update sales set buyer = 'club'", "is not what it owes"),
        ("delete from sales", "transfers are for pieces or verdicts that are not there"),
        ("update pieces set state = 'expired'", "is not what it owes"),
    ],
)
def test_sales_that_were_altered_are_told(tmp_path: Path, change: str, says: str) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        delivered(ledger, asked(0))
        ledger.settle(1, "cam-1")
        with ledger._database.engine.begin() as books:
            books.exec_driver_sql(change)
        assert any(says in each for each in ledger.check()), ledger.check()


def test_a_sale_that_nobody_paid_is_told(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger)
        delivered(ledger, asked(0))
        with ledger._database.engine.begin() as books:
            books.exec_driver_sql("update pieces set state = 'paid'")
        assert any("shop has not paid for shop:0" in each for each in ledger.check())


# ---------------------------------------------------------------- a market


def asking(folder: Path) -> Path:
    DEMAND.write(folder / "demand.json")
    return folder / "demand.json"


def source_of(numbers: tuple[float, ...]) -> bytes:
    return Echo().device_part(None, None, {}).source(numbers)


def test_a_device_is_not_paid_for_demand_that_it_invents(tmp_path: Path) -> None:
    """Refused before anything is computed, in whatever way it makes a request up."""
    with ExitStack() as stack, market(tmp_path, demand=asking(tmp_path)) as server:
        part = server.market.part
        assert isinstance(part, EchoServer)
        devices = [Device(server.url, f"once-{at}", f"cam-{at}") for at in range(2)]
        for each in devices:
            stack.callback(each.http.close)
            assert each.offer()["round"] == 1
            each.answer(1, item=0)
        hostile = devices[0]
        more = Demand(key=DEMAND.key, buyers=(replace(SHOP, units=99),))
        inventions = {
            "nothing": ("p", None),
            "an id alone": ("shop:0", None),
            "another key": ("shop:0", Demand.of([SHOP]).issue("shop", 0, "cam-0", b"p")),
            "another's request": ("shop:0", DEMAND.issue("shop", 0, "cam-1", b"p")),
            "another id": ("shop:1", DEMAND.issue("shop", 0, "cam-0", b"p")),
            "beyond the quota": ("shop:3", more.issue("shop", 3, "cam-0", b"p")),
        }
        for name, text in inventions.values():
            told: dict[str, Any] = {} if text is None else {"request": text}
            answer = hostile.infer(3, 1, name, sent(1.0, 0), model="echo", exchange=0, **told)
            assert answer.status_code == 409, answer.text
        assert (part.begun, part.answered) == (0, 0)
        ledger = server.market._ledger
        assert ledger.entries() == []
        good = DEMAND.issue("shop", 0, "cam-0", b"p")
        answer = hostile.infer(3, 1, "shop:0", sent(1.0, 0), model="echo", exchange=0, request=good)
        assert parameters(answer)["pending_microcredits"] == REWARD
        again = hostile.infer(3, 1, "shop:0", sent(9.0, 0), model="echo", exchange=0, request=good)
        assert again.status_code == 409
        assert [each.buyer for each in ledger.sales()] == ["shop"]


@pytest.mark.parametrize("lies", [False, True])
def test_a_device_works_on_what_is_asked_for_alone(tmp_path: Path, lies: bool) -> None:
    """Two requests for the same; and where it works on something else, its audit fails."""
    asks = [(0, PIECES[1]), (1, PIECES[1]), (2, PIECES[0])]
    texts = [
        (DEMAND.issue("club", number, "cam-0", source_of(PIECES[2] if lies else numbers)), numbers)
        for number, numbers in asks
    ]
    path = tmp_path / "requests.jsonl"
    write_requests(path, [(text, source_of(numbers)) for text, numbers in texts])
    options = {"audit_probability": 1.0, "repeat_rounds": 2, "demand": asking(tmp_path)}
    with market(tmp_path, rounds=1, units_per_round=9, **options) as server:
        done = run(server, tmp_path, Echo(), requests=path)
    statement = read_statement(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert statement.balanced
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", read_only=True) as ledger:
        assert ledger.check() == []
        sold = ledger.sales()
    if lies:
        assert done.paid_microcredits == 0
        assert all(each.microcredits == 0 for each in sold)
    else:
        assert done.paid_microcredits == 5 * REWARD  # 1, 1 and 3 units
        assert [each.microcredits for each in sold] == [700] * 3
        assert statement.balances[buyer_of("club")] == -2100


def test_what_a_killed_device_had_delivered_is_heard_of_and_not_worked_again(
    tmp_path: Path,
) -> None:
    """It had no time to write a line. The request is the first of its file still, in the next
    round, and it must not keep the device from the others."""
    first, second = PIECES[1], PIECES[0]
    asks = [DEMAND.issue("shop", at, "cam-0", source_of(n)) for at, n in enumerate((first, second))]
    path = tmp_path / "requests.jsonl"
    write_requests(path, [(asks[0], source_of(first)), (asks[1], source_of(second))])
    settings = {"rounds": 2, "units_per_round": 3, "demand": asking(tmp_path)}
    with ExitStack() as stack, market(tmp_path, **settings) as server:
        killed = Device(server.url, "once-0", "cam-0")
        stack.callback(killed.http.close)
        assert killed.offer()["round"] == 1
        killed.answer(1, item=0)
        told = {"model": "echo", "exchange": 0, "request": asks[0], "source": source_of(first)}
        parameters(killed.infer(3, 1, "shop:0", sent(4.0 * first[0], 0), **told))
        killed.http.post("/market/done", params={"round": 1})
        (tmp_path / "token").write_text(killed.token)
        row = {"piece": "shop:0", "round": 1, "place": 0, "salt": SALT.hex()}
        row["sha256"] = hashlib.sha256(source_of(first)).hexdigest()
        (tmp_path / "results.jsonl.sources").write_text(json.dumps(row) + "\n")
        done = run(server, tmp_path, Echo(), requests=path)
        sold = [(each.request, each.round) for each in server.market._ledger.sales()]
    assert sold == [("shop:0", 1), ("shop:1", 2)]
    assert done.paid_microcredits == 3 * REWARD  # of the second 2 of 3 numbers were asked for
    assert {each["piece"]: each["state"] for each in lines(tmp_path)} == {
        "shop:0": "paid",
        "shop:1": "paid",
    }


def test_a_request_that_is_refused_does_not_keep_a_device_from_the_others(tmp_path: Path) -> None:
    """As those beyond a quota are that was made smaller."""
    other = Demand(key=bytes(KEY_BYTES), buyers=(SHOP, CLUB))
    numbers = PIECES[1]
    asks = [
        each.issue("shop", at, "cam-0", source_of(numbers))
        for at, each in enumerate((other, DEMAND))
    ]
    path = tmp_path / "requests.jsonl"
    write_requests(path, [(each, source_of(numbers)) for each in asks])
    with market(tmp_path, rounds=2, units_per_round=1, demand=asking(tmp_path)) as server:
        run(server, tmp_path, Echo(), requests=path)
        assert [(each.request, each.round) for each in server.market._ledger.sales()] == [
            ("shop:1", 1)
        ]


@pytest.mark.parametrize("lies", [False, True])
def test_what_earns_its_device_nothing_is_audited_for_its_buyer(tmp_path: Path, lies: bool) -> None:
    """A price below half a micro-credit is posted as 0, and nothing is at stake."""
    settings = {"rounds": 1, "units_per_round": 1, "audit_probability": None}
    free = FixedPrice(price=4e-7, steps_max=4)
    with market(tmp_path, demand=asking(tmp_path), mechanism=free, **settings) as server:
        asks = DEMAND.issue("shop", 0, "cam-0", source_of(PIECES[1]))
        path = tmp_path / "requests.jsonl"
        write_requests(path, [(asks, source_of(PIECES[1]))])
        run(server, tmp_path, Echo(lies=lies), requests=path, alpha=1e-12)
        ledger = server.market._ledger
        assert [each.units for each in ledger.sales()] == [1]
        assert [each.microcredits for each in ledger.sales()] == [0 if lies else SHOP.microcredits]
        assert ledger.strikes() == ({"cam-0": 1} if lies else {})


def test_a_buyer_pays_at_amount_0_for_what_it_has_asked_for_alone(tmp_path: Path) -> None:
    """Nobody is paid there, so nobody is audited: what comes is compared at once."""
    with (
        ExitStack() as stack,
        market(tmp_path, demand=asking(tmp_path), rounds=1, units_per_round=9) as server,
    ):
        device = Device(server.url, "once-0", "cam-0")
        stack.callback(device.http.close)
        assert device.offer()["round"] == 1
        device.commit(1, 0)
        numbers = PIECES[2]

        def works(piece: str, numbers: tuple[float, ...]) -> int:
            asks = DEMAND.issue("shop", int(piece[-1]), "cam-0", source_of(PIECES[2]))
            for at, x in enumerate(numbers):
                told: dict[str, Any] = {"model": "echo", "exchange": at, "request": asks}
                answer = device.infer(0, 1, piece, sent(x, len(numbers) - at - 1), **told)
            return int(answer.status_code)

        ledger = server.market._ledger
        for other in ((1.0,), (*numbers, 1.0), numbers[::-1]):
            assert works("shop:0", other) == 409
            assert ledger.sales() == []
        # It is not used up by what nobody had asked for.
        assert works("shop:0", numbers) == 200
        (sale,) = ledger.sales()
        assert (sale.request, sale.units) == ("shop:0", 2)


def test_an_image_that_nobody_asked_for_is_refused_before_it_is_computed(tmp_path: Path) -> None:
    """Where the source comes as it is there is nothing to wait for."""
    with ExitStack() as stack, served(tmp_path, demand=asking(tmp_path)) as server:
        device = Device(server.url, "once-0", "cam-0")
        stack.callback(device.http.close)
        assert device.offer()["round"] == 1
        device.commit(1, 0)
        asks = DEMAND.issue("shop", 0, "cam-0", image(1))
        found = []
        for shown in (2, 1):
            answer = device.infer(0, 1, "shop:0", {"image": (image(shown),)}, request=asks)
            found.append((answer.status_code, len(server.market._ledger.sales())))
        assert found == [(409, 0), (200, 1)]
