"""How device-rounds end: what is drawn for audits, and what the server cannot audit."""

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.engagement import Answer, Item, Question, posted, taken
from edgepact.errors import InputError
from edgepact.market import settling as of_settling
from edgepact.market.ledger import Pending, PieceState
from edgepact.market.serve_config import MARGIN
from edgepact.market.settling import (
    PUT_OFF_MAX,
    WRONG_SOURCES_MAX,
    AuditRules,
    least_reward,
    rates_of,
    told_rates,
)
from edgepact.mechanisms.audit_rate import audit_rate
from edgepact.work import Json, Model
from tests.market.echo import MODEL, Echo, EchoServer
from tests.market.harness import Device, parameters, served, wait_until


def derived(units: list[int], reward: int, least: int) -> float:
    return audit_rate(units, margin=0.25, reward=reward, least_reward=least)


def pieces(count: int, *, auditable: bool = True) -> list[Pending]:
    return [
        Pending(piece=f"{i}", units=2, microcredits=6, auditable=auditable, picked=False)
        for i in range(count)
    ]


def test_share_of_audited_pieces_is_the_rate() -> None:
    heard = list[tuple[list[int], int, int]]()

    def rate(units: list[int], reward: int, least: int) -> float:
        heard.append((units, reward, least))
        return 0.05

    rules = AuditRules(rate=rate, timeout_s=1.0, strikes_max=2)
    picked, told = rules.drawn(pieces(20_000), 1)
    assert told == 0.05
    assert 0.04 < len(picked) / 20_000 < 0.06
    assert heard == [([2] * 20_000, 3, 1)]
    assert rules.drawn(pieces(5, auditable=False), 1) == ([], 0.0)
    # What was offered least cannot be more than what was paid, and nothing is no reward.
    for least in (0, 7):
        rules.drawn(pieces(1), least)
        assert heard[-1] == ([2], 3, 3)


def test_draws_of_a_seed_are_the_same_and_others_are_nobodys() -> None:
    def drawn(**chance: object) -> list[str]:
        rules = AuditRules(rate=lambda *_: 0.5, timeout_s=1.0, strikes_max=2, **chance)  # type: ignore[arg-type]
        return rules.drawn(pieces(64), 1)[0]

    assert drawn(chance=random.Random(3).random) == drawn(chance=random.Random(3).random)
    assert drawn() != drawn()
    assert np.mean([len(drawn()) for _ in range(200)]) > 20


def test_whoever_failed_an_audit_is_audited_as_if_its_margin_were_half() -> None:
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=9)
    margins = [0.25, 0.125, 0.0625, 0.03125]
    alike = {"reward": 4, "least_reward": 4}
    exact = [audit_rate([2] * 16, margin=each, **alike) for each in margins]
    paid = [replace(each, microcredits=2 * 10**6) for each in pieces(16)]
    rates = [rules.drawn(paid, 10**6, strikes)[1] for strikes in range(4)]
    assert rates == pytest.approx(exact, rel=1e-5)
    assert rules.drawn(paid, 1, 60)[1] < 1  # however many they are


def test_a_fixed_share_is_audited_whatever_is_derived() -> None:
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=2, fixed=0.05)
    assert rules.drawn(pieces(3), 1)[1] == 0.05


def test_least_reward_of_a_menu_and_of_what_bidders_are_paid() -> None:
    assert least_reward(posted(7, 12), {}) == 7
    bids = Question(bid_amounts=(2.0, 4.0))
    paid = {
        "a": Item(amount=4.0, reward_microcredits=100),
        "b": Item(amount=2.0, reward_microcredits=70),
        "c": Item(amount=0.0, reward_microcredits=0),
        "d": Item(amount=4.0, reward_microcredits=0),
    }
    assert least_reward(bids, paid) == 50  # half of 100 for half of the steps
    assert least_reward(bids, {"b": paid["b"]}) == 70
    assert least_reward(bids, {}) == least_reward(bids, {"d": paid["d"]}) == 0


@given(tries=st.integers(1, 16), pieces=st.integers(1, 40), spoilt=st.integers(1, 40))
def test_who_spoils_tries_to_be_paid_for_more_loses(tries: int, pieces: int, spoilt: int) -> None:
    """Where buyers ask for so many pieces: an honest device has its margin on a unit of each."""
    spoilt, reward = min(spoilt, pieces), 1000 * tries
    good = pieces - spoilt
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=2, bought=True, tries=tries)
    rate = rules.rate([tries] * spoilt + [1] * good, reward, rules.least_of(reward, 0))
    pay = (tries * spoilt + good) * (1 - rate) ** spoilt  # all or nothing; costs stay
    assert pay - (1 - MARGIN) * good < MARGIN * pieces


def test_rates_are_told_and_too_few_audits_are_warned_of() -> None:
    rules = AuditRules(rate=derived, timeout_s=1.0, strikes_max=2)
    rewards = [item.reward_microcredits for item in posted(10**6, 12).menu]
    found = rates_of(rules, rewards, 10**6, 16)
    least, most = derived([1] * 16, 1, 1), derived([1] * 16, 12, 1)
    assert found == [least, most]
    assert rates_of(rules, [0], 0, 16) == rates_of(rules, [], 0, 16) == []
    told = told_rates(rules, found, 16, "token")
    assert f"{100 * least:.3g} % to {100 * most:.3g} %" in told
    assert told.startswith("audits: ")
    assert told_rates(rules, [least, least], 16, "token").count("%") == 1
    for fixed, warns in ((0.05, True), (least, True), (most, False), (1.0, False)):
        said = told_rates(replace(rules, fixed=fixed), found, 16, "token")
        assert said.startswith("warning: ") == warns
        assert f"{100 * most:.3g} %" in said


# ---------------------------------------------------------------- what the server cannot audit


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEcho(Echo):
    """The same job with another model, or one whose audits break down."""

    digest: str = ""
    breaks: bool = False
    power: float = 1.0

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> EchoServer:
        return _Other(self)


class _Other(EchoServer):
    def __init__(self, job: OtherEcho) -> None:
        super().__init__()
        self._job = job

    @property
    def model(self) -> Model:
        return replace(MODEL, digest=self._job.digest)

    @property
    def audit_power(self) -> float:
        return self._job.power

    def passes_audit(self, amount: int, evidence: Sequence[bytes], *told: Any, **of: Any) -> bool:
        if self._job.breaks:
            raise MemoryError
        if told[0] == b"no numbers":
            raise InputError("echo", "source", "numbers", "none")
        return super().passes_audit(amount, evidence, *told, **of)


class Threefold:
    """A menu of three steps for a credit a unit."""

    def question(self, round: int) -> Question:
        return Question(menu=(Item(amount=3.0, reward_microcredits=10**6),))

    def engage(self, round: int, question: Question, answers: dict[str, Answer]) -> dict[str, Item]:
        return taken(question, answers)


class Connected:
    """A device whose connection is closed at the end of a block."""

    def __init__(self, server: Any, token: str, name: str) -> None:
        self.device = Device(server.url, token, name)

    def close(self) -> None:
        self.device.http.close()


def deliver(device: Device, number: int, name: str, x: float) -> dict[str, Any]:
    """A piece of one number, as an honest device sends it."""
    sent = {"x": np.array([4 * x], np.float32), "left": np.array([0], np.int32)}
    source = json.dumps([x]).encode()
    return parameters(device.infer(3, number, name, sent, model="echo", source=source))


@pytest.fixture
def server_settings() -> dict[str, Any]:
    return {"mechanism": Threefold(), "audit_probability": 1.0, "repeat_rounds": 3}


def test_work_of_another_model_expires_and_may_be_delivered_again(
    tmp_path: Path, server_settings: dict[str, Any]
) -> None:
    with (
        served(tmp_path, job=Echo(), **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
        closing(Connected(server, "once-1", "cam-1")) as second,
    ):
        shows, silent = first.device, second.device
        for device, x in ((shows, 1.0), (silent, 7.0)):
            assert device.offer()["round"] == 1
            device.answer(1, item=0)
            deliver(device, 1, "a", x)
        # One is asked for its source; the other's device-round has not ended.
        assert len(shows.http.post("/market/leave").json()["audits"]) == 1
        token = shows.token
    with served(tmp_path, job=OtherEcho(digest="ab" * 32), **server_settings) as server:
        ledger = server.market._ledger
        wait_until(lambda: ledger.jobs_by_state()["expired"] == 2)
        assert ledger.strikes() == {}
        assert ledger.balances()["pending:cam-0"] == ledger.balances()["server"] == 0
        shows.http = type(shows.http)(
            base_url=server.url, timeout=60.0, headers={"Authorization": f"Bearer {token}"}
        )
        with closing(shows.http):
            while (offer := shows.offer(1)).get("state") == "wait":
                pass
            shows.answer(offer["round"], item=0)
            assert deliver(shows, offer["round"], "again", 1.0)["state"] == "pending"
            assert shows.http.post("/market/leave").json()["audits"]
            assert shows.audit("again", b"[1.0]").json()["state"] == "paid"
        assert ledger.check() == []


def test_an_audit_that_breaks_down_is_the_servers_fault(
    tmp_path: Path, server_settings: dict[str, Any]
) -> None:
    with (
        served(tmp_path, job=OtherEcho(breaks=True), **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        device = first.device
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        deliver(device, 1, "a", 1.0)
        assert len(device.http.post("/market/leave").json()["audits"]) == 1
        assert device.audit("a", b"[1.0]").status_code == 500
        found = server.market._ledger.find("cam-0", ["a"])
        assert found["a"].state is PieceState.EXPIRED
        assert server.market._ledger.strikes() == {}
        assert server.market._settling.auditing == 0


def test_a_server_that_is_too_busy_to_look_gives_time_again(
    tmp_path: Path, server_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    # Nobody watches: to whoever does, a clock that jumps is a server that stood still.
    monkeypatch.setattr(of_settling, "WATCH_S", 3600.0)
    with (
        served(tmp_path, job=Echo(), audit_timeout_s=30.0, **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        settling, device = server.market._settling, first.device
        monkeypatch.setattr(settling, "_clock", lambda: now_s[0])
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        deliver(device, 1, "a", 1.0)
        (due,) = device.http.post("/market/leave").json()["audits"]
        assert due["seconds"] == 30.0
        now_s[0] += 29.0
        with monkeypatch.context() as busy:
            busy.setattr("edgepact.market.exchanges.EXCHANGES_IN_FLIGHT_MAX", 0)
            assert device.audit("a", b"[1.0]").status_code == 503
        assert settling.due("cam-0") == [{"piece": "a", "seconds": 30.0}]
        now_s[0] += 29.0
        assert device.audit("a", b"[1.0]").json()["state"] == "paid"


def test_who_keeps_the_server_busy_cannot_put_its_audit_off_for_ever(
    tmp_path: Path, server_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    # Nobody watches: to whoever does, a clock that jumps is a server that stood still.
    monkeypatch.setattr(of_settling, "WATCH_S", 3600.0)
    with (
        served(tmp_path, job=Echo(), audit_timeout_s=30.0, **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        settling, device = server.market._settling, first.device
        monkeypatch.setattr(settling, "_clock", lambda: now_s[0])
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        deliver(device, 1, "a", 1.0)
        device.http.post("/market/leave")
        left_s = []
        for _ in range(PUT_OFF_MAX + 3):
            now_s[0] += 29.0
            settling.put_off("cam-0")
            (due,) = settling.due("cam-0")
            left_s.append(due["seconds"])
        # 29 of 30 seconds had passed each time: those 20 that are saved are its last.
        assert left_s == [30.0] * PUT_OFF_MAX + [21.0, 0.0, 0.0]


def test_what_a_device_can_show_no_more_since_it_was_revoked_expires(
    tmp_path: Path, server_settings: dict[str, Any]
) -> None:
    with (
        served(tmp_path, job=Echo(), audit_timeout_s=2.0, **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        device, ledger = first.device, server.market._ledger
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        deliver(device, 1, "a", 1.0)
        device.http.post("/market/leave")
        ledger.revoke("cam-0")
        wait_until(lambda: not server.market._settling.auditing)
        assert ledger.find("cam-0", ["a"])["a"].state is PieceState.EXPIRED
        assert ledger.strikes() == {}


def test_who_is_readmitted_has_the_whole_time_again_to_show_its_source(
    tmp_path: Path, server_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        served(tmp_path, job=Echo(), audit_timeout_s=30.0, **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        settling, device = server.market._settling, first.device
        ledger = server.market._ledger
        now_s = [settling._clock()]
        monkeypatch.setattr(settling, "_clock", lambda: now_s[0])
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        deliver(device, 1, "a", 1.0)
        device.http.post("/market/leave")
        ledger.revoke("cam-0")
        wait_until(lambda: settling.shut_out)
        assert device.audit("a", b"[1.0]").status_code == 409  # it is shut out
        now_s[0] += 29.0
        ledger.readmit("cam-0")
        wait_until(lambda: not settling.shut_out)
        (due,) = settling.due("cam-0")
        assert due["seconds"] >= 30.0
        assert device.audit("a", b"[1.0]").json()["state"] == "paid"
        assert ledger.strikes() == {}


def test_to_revoke_a_device_before_its_audit_does_not_pay_what_was_not_picked(
    tmp_path: Path, server_settings: dict[str, Any]
) -> None:
    draws = iter([0.9, 0.1, 0.9])
    settings = {**server_settings, "audit_probability": 0.5}
    with (
        served(tmp_path, job=Echo(), audit_timeout_s=2.0, **settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        rules = server.market._settling._rules
        server.market._settling._rules = replace(rules, chance=lambda: next(draws))
        device, ledger = first.device, server.market._ledger
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        for number, name in enumerate("abc"):
            deliver(device, 1, name, 1.0 + number)
        left = device.http.post("/market/leave").json()
        assert [each["piece"] for each in left["audits"]] == ["b"]
        ledger.revoke("cam-0")
        wait_until(lambda: not server.market._settling.auditing)
        found = ledger.find("cam-0", ["a", "b", "c"])
        assert {each.state for each in found.values()} == {PieceState.EXPIRED}
        assert ledger.strikes() == {}


@pytest.mark.parametrize("bound_to", [b"[1.0]", b"no numbers"])
def test_sources_of_no_use_are_a_mistake_some_times_and_then_a_cheat(
    tmp_path: Path, server_settings: dict[str, Any], bound_to: bytes
) -> None:
    """Others than the device is bound to, and one that it is bound to and nobody can read."""
    with (
        served(tmp_path, job=OtherEcho(), **server_settings) as server,
        closing(Connected(server, "once-0", "cam-0")) as first,
    ):
        device = first.device
        assert device.offer()["round"] == 1
        device.answer(1, item=0)
        sent = {"x": np.array([4.0], np.float32), "left": np.array([0], np.int32)}
        assert device.infer(3, 1, "a", sent, model="echo", source=bound_to).status_code == 200
        device.http.post("/market/leave")
        ledger = server.market._ledger
        for tried in range(WRONG_SOURCES_MAX):
            assert ledger.strikes() == {}, tried
            assert device.audit("a", b"no numbers").status_code == 400
        assert ledger.strikes() == {"cam-0": 1}
        assert ledger.jobs_by_state()["forfeit"] == 1


# ---------------------------------------------------------------- what the operator hears


@pytest.mark.parametrize(
    ("settings", "power", "told"),
    [
        ({"audit_probability": None}, 1.0, ["audits: 40.5 % of the pieces"]),
        ({"audit_probability": None}, 0.5, ["audits: 81.1 % of the pieces"]),
        ({"audit_probability": 0.05}, 1.0, ["warning: audits of 5 % are too few", "from 40.5 %"]),
        ({"audit_probability": 0.9}, 1.0, ["audits: 90 %; cheating loses money from 40.5 %"]),
        ({"margin": 0.5, "audit_probability": None}, 1.0, ["audits: 29.3 % of the pieces"]),
        ({"audit_probability": None}, 0.2, ["finds 20% of cheats, and no rate makes"]),
    ],
)
def test_a_server_says_how_much_is_audited(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    power: float,
    told: list[str],
) -> None:
    job = OtherEcho(power=power)
    with served(tmp_path, job=job, mechanism=Threefold(), units_per_round=4, **settings):
        pass
    said = capsys.readouterr().err
    for each in told:
        assert each in said
    assert said.count("audits: ") + said.count("audits of") == 1  # not again for each round
