"""Pieces of several exchanges with state: repetitions, lost sessions, restarts, pay, audits."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgepact.engagement import Answer, Finished, Item, Question, taken
from edgepact.errors import EdgepactError, MarketError
from edgepact.market import sessions
from edgepact.market.device import DeviceSummary, run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.evidence import session_seed
from edgepact.market.link import Link
from edgepact.market.protocol import oip
from edgepact.market.server import MarketServer
from edgepact.market.sessions import NoRoom, Session, Sessions
from edgepact.tensors import Tensors
from edgepact.work import DevicePart, Job, ServerPart, Work
from tests.market.echo import PIECES, Echo, EchoDevice, EchoServer, first_of
from tests.market.harness import PATIENCE_S, Device, parameters, served, wait_until

REWARD = 1_000_000
MENU = (Item(amount=3.0, reward_microcredits=REWARD),)


class OneItem:
    """A menu of three steps for a credit a unit."""

    def question(self, round: int) -> Question:
        return Question(menu=MENU)

    def engage(self, round: int, question: Question, answers: dict[str, Answer]) -> dict[str, Item]:
        return taken(question, answers)


@contextmanager
def market(folder: Path, **settings: Any) -> Iterator[MarketServer]:
    with served(folder, **{"job": Echo(), "mechanism": OneItem(), **settings}) as server:
        yield server


def sent(x: float, left: int) -> Tensors:
    return {"x": np.array([x], np.float32), "left": np.array([left], np.int32)}


class Player:
    """A device played by hand that takes three steps."""

    def __init__(self, server: MarketServer, stack: ExitStack, number: int = 0) -> None:
        self.device = Device(server.url, f"once-{number}", f"cam-{number}")
        stack.callback(self.device.http.close)
        assert self.device.offer()["round"] == 1
        assert self.device.answer(1, item=0).json()["assigned"]["amount"] == 3.0

    def send(self, piece: str, exchange: int, x: float, left: int) -> Any:
        return self.device.infer(3, 1, piece, sent(x, left), model="echo", exchange=exchange)

    def sum(self, piece: str, exchange: int, x: float, left: int) -> float:
        answer = self.send(piece, exchange, x, left)
        assert answer.status_code == 200, answer.text
        told = oip.decode_response(answer.content, answer.headers[oip.HEADER_LENGTH])
        return float(np.asarray(told.outputs["sum"])[0])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_echo_is_a_job() -> None:
    assert isinstance(Echo(), Job)
    assert isinstance(Echo().device_part(None, None, {}), DevicePart)
    assert isinstance(EchoServer(), ServerPart)


def test_state_is_kept_and_a_piece_is_paid_once_at_its_end(
    tmp_path: Path, stack: ExitStack
) -> None:
    with market(tmp_path) as server:
        player, books = Player(server, stack), server.market._ledger
        first = first_of(session_seed(server.market.rules.secret, "cam-0", "p"))
        assert player.sum("p", 0, 1.0, 2) == first + 1
        assert player.sum("p", 1, 2.0, 1) == first + 3
        assert books.payments() == []
        last = player.send("p", 2, 4.0, 0)
        told = parameters(last)
        assert (told["finished"], told["units"], told["state"]) == (True, 3, "pending")
        assert (told["pending_microcredits"], told["heard"]) == (3 * REWARD, 4.0)
        assert books.balances()["pending:cam-0"] == 3 * REWARD


def test_a_repeated_exchange_has_the_answer_it_had(tmp_path: Path, stack: ExitStack) -> None:
    with market(tmp_path) as server:
        player, part = Player(server, stack), server.market.part
        assert isinstance(part, EchoServer)
        for exchange, left in ((0, 1), (1, 0)):
            first = player.sum("p", exchange, 1.0, left)
            assert [player.sum("p", exchange, 1.0, left) for _ in range(2)] == [first, first]
        assert (part.begun, part.answered) == (1, 2)
        again = parameters(player.send("p", 1, 1.0, 0))
        assert (again["repeated"], again["pending_microcredits"]) == (True, 2 * REWARD)
        assert -server.market._ledger.balances()["server"] == 2 * REWARD


def test_what_does_not_follow_belongs_to_a_lost_session(tmp_path: Path, stack: ExitStack) -> None:
    with market(tmp_path) as server:
        player = Player(server, stack)
        player.sum("p", 0, 1.0, 2)
        for piece, exchange, x in (("q", 1, 1.0), ("p", 2, 1.0), ("p", 5, 1.0)):
            answer = player.send(piece, exchange, x, 0)
            assert answer.status_code == 409
            assert answer.json()["reason"] == "session lost"
        player.sum("p", 1, 2.0, 1)
        # Another content for an exchange that was answered is no repetition.
        assert player.send("p", 1, 3.0, 1).json()["reason"] == "session lost"
        # Begun again it is the same piece with the same seed.
        first = first_of(session_seed(server.market.rules.secret, "cam-0", "p"))
        assert player.sum("p", 0, 1.0, 0) == first + 1
        assert -server.market._ledger.balances()["server"] == REWARD


def test_a_finished_piece_is_not_paid_for_other_work(tmp_path: Path, stack: ExitStack) -> None:
    with market(tmp_path) as server:
        player = Player(server, stack)
        player.sum("p", 0, 1.0, 0)
        other = player.send("p", 0, 2.0, 0)
        assert other.status_code == 409
        assert "used for something else" in other.json()["error"]
        assert -server.market._ledger.balances()["server"] == REWARD


def test_who_is_late_in_the_last_round_hears_that_the_market_is_over(
    tmp_path: Path, stack: ExitStack
) -> None:
    with market(tmp_path, rounds=1, units_per_round=3, round_timeout_s=0.5) as server:
        player = Player(server, stack)
        player.send("p", 0, 1.0, 2)
        wait_until(lambda: server.market.glance()["state"] == "over")
        refused = player.send("p", 1, 1.0, 1)
        assert refused.status_code == 409
        assert "round 1 is closed" in refused.json()["error"]
        told = player.device.offer(1)
        assert told.pop("show_every_s") > 0
        assert told == {"state": "over", "audits": [], "device": "cam-0"}
        player.device.http.post("/market/leave")
        wait_until(lambda: server.should_exit)


def test_an_error_spoils_its_own_exchange_only(tmp_path: Path, stack: ExitStack) -> None:
    with market(tmp_path) as server:
        player = Player(server, stack)
        first = player.sum("p", 0, 1.0, 1)
        assert player.send("p", 1, 2000.0, 0).status_code == 400
        assert player.sum("p", 1, 2.0, 0) == first + 2
        bad = player.device.infer(3, 1, "q", sent(1.0, 0), model="echo", codec="zip")
        assert "expected one of fp32, int8" in bad.json()["error"]
        for exchange in (-1, 4096, "0", 1.5, True):
            answer = player.device.infer(3, 1, "q", sent(1.0, 0), model="echo", exchange=exchange)
            assert answer.status_code == 400
            assert "parameters.exchange" in answer.json()["error"]


def test_quota_is_of_units(tmp_path: Path, stack: ExitStack) -> None:
    with market(tmp_path, units_per_round=3) as server:
        keeper = Device(server.url, "once-1", "cam-1")  # never answers: the round stays open
        stack.callback(keeper.http.close)
        keeper.offer()
        player = Player(server, stack)
        for piece in ("a", "b"):
            player.sum(piece, 0, 1.0, 1)
            last = parameters(player.send(piece, 1, 1.0, 0))
        assert (last["units"], last["pending_microcredits"]) == (1, REWARD)  # of two, one was left
        assert "delivered all 3 units" in player.send("c", 0, 1.0, 0).json()["error"]
        assert keeper.offer()["round"] == 1


# ---------------------------------------------------------------- the device


def run(server: MarketServer, folder: Path, job: Echo, **settings: Any) -> DeviceSummary:
    config: dict[str, Any] = {
        "server_url": server.url,
        "name": "cam-0",
        "enrol_token": "once-0",
        "token_file": folder / "token",
        "results": folder / "results.jsonl",
        "alpha": 1e-6,
        "capacity": 10.0,
        "A": 1.0,
        "B": 0.0,
        "in_flight": 1,
        **settings,
    }
    return run_device(DeviceConfig(**config), job=job)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The last line of each piece."""
    text = (folder / "results.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return list({row["piece"]: row for row in rows}.values())


@pytest.mark.parametrize("codec", ["fp32", "int8"])
def test_a_device_plays_whole_rounds(tmp_path: Path, codec: str) -> None:
    with market(tmp_path, rounds=2, units_per_round=6, audit_probability=0.5, seed=1) as server:
        done = run(server, tmp_path, Echo(), codec=codec)
        balance = server.market._ledger.balances()["device:cam-0"]
    assert (done.rounds, done.units) == (2, 12)
    assert done.paid_microcredits == balance == 12 * REWARD
    told = lines(tmp_path)
    assert any(line["audited"] for line in told)
    for line in told:
        assert (line["state"], line["codec"]) == ("paid", codec)
        assert line["exchanges"] == len(line["numbers"])
        steps = np.diff(line["sums"])
        np.testing.assert_allclose(steps, 4 * np.array(line["numbers"][1:]), rtol=0.05)


class Breaking(EchoDevice):
    """Breaks at the end of the first piece of three numbers, which the server has taken by then."""

    __slots__ = ()
    ending: ClassVar[Callable[[], Any]]

    def work(self, piece: tuple[float, ...], amount: int) -> Work:
        told = yield from EchoDevice.work(self, piece, amount)
        return type(self).ending() if len(piece) == 3 else told


def raising(error: BaseException) -> Callable[[], Any]:
    def end() -> Any:
        raise error

    return end


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (raising(ZeroDivisionError("by hand")), "failed in its work on .*: ZeroDivisionError: by"),
        (raising(SystemExit(3)), "failed in its work on .*: SystemExit: 3 .*test_exchanges.py"),
        (lambda: [1, 2], "returns a list of .*, expected a mapping"),
        (lambda: {"numbers": {1, 2}}, "returns what is no JSON of "),
    ],
)
def test_a_job_that_breaks_ends_its_device_in_words_and_loses_no_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Callable[[], Any], words: str
) -> None:
    """All is audited: what the server took before the job broke is still shown, and paid."""
    monkeypatch.setattr("edgepact.market.device.LEAVING_PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(Breaking, "ending", staticmethod(ending), raising=False)
    monkeypatch.setattr(Echo, "device_part", lambda self, *_: Breaking(self))
    with market(tmp_path, rounds=1, units_per_round=6, audit_probability=1.0) as server:
        with pytest.raises(MarketError, match=f"the job echo {words}"):
            run(server, tmp_path, Echo())
        told = {line["piece"]: line for line in lines(tmp_path)}
        paid = sum(line["paid_microcredits"] for line in told.values())
        assert server.market._ledger.balances()["device:cam-0"] == paid >= 3 * REWARD
    assert {line["state"] for line in told.values()} == {"paid"}


def test_what_a_job_tells_of_a_piece_is_not_taken_for_what_the_market_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"state": "lost", "piece": 7, "paid_microcredits": -1, "device_seconds": 0.25, "mood": 1}
    monkeypatch.setattr(Breaking, "ending", staticmethod(lambda: own), raising=False)
    monkeypatch.setattr(Echo, "device_part", lambda self, *_: Breaking(self))
    with market(tmp_path, rounds=1, units_per_round=6) as server:
        assert run(server, tmp_path, Echo()).paid_microcredits == 6 * REWARD
    (line,) = [each for each in lines(tmp_path) if "mood" in each]
    assert (line["state"], line["paid_microcredits"]) == ("paid", 3 * REWARD)
    assert line["device_seconds"] == 0.25


@pytest.mark.parametrize(
    ("method", "made", "words"),
    [
        ("work", lambda *_: None, "the work of the job echo is a NoneType, no generator"),
        ("pieces", lambda *_: (), "inputs: expected a piece to work on at least, found none"),
        ("pieces", lambda *_: 3, "the job echo failed in its device part: TypeError"),
        ("prepare", raising(OSError("no disk")), "failed in preparing: (TypeError|OSError)"),
        ("source", lambda *_: "text", r"failed in its work on .*: Type(Check)?Error"),
    ],
)
def test_a_job_of_the_wrong_shape_ends_its_device_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, made: Any, words: str
) -> None:
    monkeypatch.setattr(EchoDevice, method, made)
    with (
        market(tmp_path, rounds=1, units_per_round=6, devices_min=1) as server,
        pytest.raises(EdgepactError, match=words),
    ):
        run(server, tmp_path, Echo())


@pytest.mark.parametrize("handles_loss", [True, False])
def test_a_lost_session_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handles_loss: bool
) -> None:
    """Sessions are dropped as if for want of room, one after the first exchange of each piece."""
    answer, dropped = EchoServer.answer, set[int]()

    def answer_and_forget(self: EchoServer, batch: Any) -> Any:
        replies = answer(self, batch)
        if self.begun not in dropped and not replies[0].finished and self.begun % 2:
            dropped.add(self.begun)
            server.market._exchanges._sessions._all.clear()
        return replies

    monkeypatch.setattr(EchoServer, "answer", answer_and_forget)
    job = Echo(handles_loss=handles_loss)
    with market(tmp_path, rounds=1, units_per_round=6) as server:
        done = run(server, tmp_path, job)
        assert -server.market._ledger.balances()["server"] == 6 * REWARD
    assert job.lost
    assert done.units == 6
    assert {tuple(line["numbers"]) for line in lines(tmp_path)} == set(PIECES)


def test_a_server_that_is_restarted_draws_the_same(tmp_path: Path, stack: ExitStack) -> None:
    with market(tmp_path) as server:
        player = Player(server, stack)
        first = player.sum("p", 0, 1.0, 2)
        done = player.sum("q", 0, 1.0, 0)
    with market(tmp_path) as server:
        headers = dict(player.device.http.headers)
        again = Device.__new__(Device)
        again.http = stack.enter_context(_client(server.url, headers))
        player.device = again
        assert again.offer()["standing"] == "assigned"
        assert player.send("p", 1, 2.0, 1).json()["reason"] == "session lost"
        assert player.sum("p", 0, 1.0, 2) == first
        assert player.sum("q", 0, 1.0, 0) == done  # settled before: answered, and not paid again
        assert -server.market._ledger.balances()["server"] == REWARD


def test_what_was_delivered_is_computed_once_more_at_most(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart a device may hear again what it has not heard; no more than once."""
    computed: list[int] = []
    answer = EchoServer.answer

    def counted(self: EchoServer, batch: Any) -> Any:
        computed.append(len(batch))
        return answer(self, batch)

    monkeypatch.setattr(EchoServer, "answer", counted)
    with market(tmp_path) as server:
        player = Player(server, stack)
        assert [player.sum("q", 0, 1.0, 0) for _ in range(5)] == [player.sum("q", 0, 1.0, 0)] * 5
        assert player.send("q", 0, 2.0, 0).status_code == 409
        assert len(computed) == 1
    with market(tmp_path) as server:
        player.device.http = stack.enter_context(
            _client(server.url, dict(player.device.http.headers))
        )
        player.device.offer()
        for from_books in (False, True, True):
            told = parameters(player.send("q", 0, 1.0, 0))
            assert (told["state"], told["repeated"]) == ("pending", True)
            assert told["from_books"] is from_books
            assert len(computed) == 2
            server.market._exchanges._sessions._all.clear()
        assert -server.market._ledger.balances()["server"] == REWARD


def test_a_device_takes_what_only_the_books_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answer is lost, and the server has forgotten what the piece came to."""
    send, lost = Link.send, list[str]()

    def once_lost(self: Link, method: str, path: str, *rest: Any, **more: Any) -> Any:
        answered = send(self, method, path, *rest, **more)
        if path.endswith("/infer") and not lost:
            lost.append(path)
            server.market._exchanges._sessions._all.clear()
            server.market._exchanges._computed_again["cam-0", "1-0"] = None
            return send(self, method, path, *rest, **more)
        return answered

    monkeypatch.setattr(Link, "send", once_lost)
    monkeypatch.setattr("tests.market.echo.PIECES", ((4.0,),))
    with market(tmp_path, rounds=1, units_per_round=1) as server:
        done = run(server, tmp_path, Echo())
        assert (done.units, done.paid_microcredits) == (1, REWARD)
    assert lost
    (line,) = lines(tmp_path)
    assert (line["state"], "sums" in line) == ("paid", False)


def test_a_device_that_lies_forfeits(tmp_path: Path) -> None:
    with market(tmp_path, rounds=1, units_per_round=6, audit_probability=1.0) as server:
        done = run(server, tmp_path, Echo(lies=True))
        assert server.market._ledger.jobs_by_state() == {
            "pending": 0,
            "paid": 0,
            "forfeit": 3,
            "expired": 0,
        }
    assert done.paid_microcredits == 0
    assert {line["state"] for line in lines(tmp_path)} == {"forfeit"}


def test_a_server_that_stays_away_is_finished_without(tmp_path: Path, links: list[Link]) -> None:
    with market(tmp_path, rounds=None) as server:
        part = server.market.part
        assert isinstance(part, EchoServer)
        answer = part.answer

        def answer_once(batch: Any) -> Any:
            server.stop()
            links[0].hurry(0.3)
            return answer(batch)

        part.answer = answer_once  # type: ignore[method-assign]
        with pytest.raises(MarketError, match=r"has not answered for"):
            run(server, tmp_path, Echo())
    last = lines(tmp_path)[-1]
    assert last["alone"]
    assert last["state"] == "unpaid"


def test_a_job_the_server_does_not_offer_is_refused(tmp_path: Path) -> None:
    with (
        market(tmp_path) as server,
        pytest.raises(MarketError, match="the server offers the job echo, cam-0 does other"),
    ):
        run(server, tmp_path, Echo(name="other"))


def _client(url: str, headers: dict[str, str]) -> Any:
    import httpx

    return httpx.Client(base_url=url, headers={"Authorization": headers["authorization"]})


# ---------------------------------------------------------------- bounds


def session(device: str, piece: str) -> Session:
    return Session(device=device, piece=piece, round=1, amount=1, seed=0, commitment=None)


def test_sessions_are_bounded_by_device_in_all_and_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = sessions.SESSIONS_PER_DEVICE_MAX
    monkeypatch.setattr(sessions, "SESSIONS_MAX", most + 2)
    held = Sessions()
    for at in range(most + 3):
        held.add(session("a", f"{at}"), now_s=float(at))
    assert len(held) == most
    assert held.find("a", "0", 9.0) is None
    assert held.find("a", f"{most + 2}", 9.0) is not None
    for at in range(2):
        held.add(session("b", f"{at}"), now_s=10.0)
    with pytest.raises(NoRoom):
        held.add(session("c", "0"), now_s=10.0)
    held.add(session("c", "0"), now_s=20.0 + sessions.SESSION_IDLE_S)
    assert len(held) == 1


def test_observed_rounds_tell_units(tmp_path: Path) -> None:
    class Watching(OneItem):
        def __init__(self) -> None:
            self.seen: list[Finished] = []

        def observe(self, finished: Finished) -> None:
            self.seen.append(finished)

    watching = Watching()
    with market(tmp_path, mechanism=watching, rounds=1, units_per_round=6) as server:
        run(server, tmp_path, Echo())
    (finished,) = watching.seen
    assert finished.units == {"cam-0": 6}
    assert finished.paid_microcredits == {"cam-0": 6 * REWARD}
    assert finished.assigned == {"cam-0": MENU[0]}
