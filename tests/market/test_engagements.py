"""Mechanisms of each kind at work in a live market: a menu, and an auction whose bids wait."""

import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgepact.engagement import NOTHING, Answer, Engagement, Item, Question, taken
from edgepact.market.ledger import Ledger
from edgepact.market.rounds import Round
from edgepact.market.server import MarketServer
from tests.market.echo import Echo
from tests.market.harness import DEVICE, Device, Processes, finish, served, wait_until
from tests.market.test_exchanges import sent

MENU = (
    Item(amount=9.0, reward_microcredits=2_000_000),
    Item(amount=3.0, reward_microcredits=500_000),
)


class Menu:
    """The same menu in every round."""

    def question(self, round: int) -> Question:
        return Question(menu=MENU)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        return taken(question, answers)


class SecondPrice:
    """One device is bought two layers, from the lowest bid, for the second lowest."""

    def __init__(self) -> None:
        self.engaged: list[dict[str, Answer]] = []

    def question(self, round: int) -> Question:
        return Question(bid_amounts=(2.0,))

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        self.engaged.append(dict(answers))
        bids = sorted(
            (bid, name)
            for name, answer in answers.items()
            for bid in answer.bids_microcredits
            if bid is not None
        )
        if not bids:
            return {}
        reward = bids[1][0] if len(bids) > 1 else bids[0][0]
        return {bids[0][1]: Item(amount=2.0, reward_microcredits=reward)}


def play(
    server: MarketServer, processes: Processes, devices: list[dict[str, Any]]
) -> dict[int, list[dict[str, Any]]]:
    """Devices as processes of their own play a market to its end."""
    running = [
        processes.device(server.url, at, **(DEVICE | device)) for at, device in enumerate(devices)
    ]
    for process in running:
        _, err = finish(process)
        assert (process.returncode, err) == (0, "")
    return {at: processes.pieces(at) for at in range(len(devices))}


def test_the_stubs_are_mechanisms() -> None:
    assert isinstance(Menu(), Engagement)
    assert isinstance(SecondPrice(), Engagement)


def test_a_menu_is_played_by_real_devices(tmp_path: Path, processes: Processes) -> None:
    # L layers cost alpha ln(20 / (20 - L)): 9 are worth their 2 credits up to alpha = 3.34, and 3
    # their half credit up to 3.08, which who never runs more than 5 takes.
    devices = [{"alpha": 1.0}, {"alpha": 3.0, "layers_max": 5}, {"alpha": 30.0}]
    settings = {"mechanism": Menu(), "rounds": 2, "devices_min": 3, "units_per_round": 4}
    with served(tmp_path, audit_probability=0.3, **settings) as server, ExitStack() as held:
        lines = play(server, processes, devices)
        books = held.enter_context(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", create=False))
        records = books.rounds()
        for record in records:
            assert record.assigned == {"cam-0": MENU[0], "cam-1": MENU[1], "cam-2": NOTHING}
        assert -books.balances()["server"] == 2 * 4 * (2_000_000 + 500_000)
    for at, layers in enumerate((9, 3, 0)):
        assert len(lines[at]) == 8
        assert {(line["amount"], line["state"]) for line in lines[at]} == {(layers, "paid")}


def test_an_auction_is_played_by_real_devices(tmp_path: Path, processes: Processes) -> None:
    devices = [{"alpha": 2.0}, {"alpha": 1.0}, {"alpha": 5.0, "capacity": 2.5}]
    auction = SecondPrice()
    settings = {"mechanism": auction, "rounds": 2, "devices_min": 3, "units_per_round": 4}
    with served(tmp_path, **settings) as server, ExitStack() as held:
        lines = play(server, processes, devices)
        books = held.enter_context(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", create=False))
        records = books.rounds()
        for record in records:
            bids = [record.answers[f"cam-{at}"].bids_microcredits for at in range(3)]
            assert bids[2] == (None,)  # two layers are beyond its capacity
            (second,), (first,) = bids[0], bids[1]
            assert first is not None
            assert second is not None
            assert first < second
            assert record.engaged
            assert record.assigned == {
                "cam-0": NOTHING,
                "cam-1": Item(amount=2.0, reward_microcredits=second),
                "cam-2": NOTHING,
            }
            assert record.paid_microcredits == {"cam-0": 0, "cam-1": 4 * second, "cam-2": 0}
        debits, credits = books.totals()
        assert debits == credits > 0
    assert len(auction.engaged) == 2
    # Who was not engaged lets the server do all of it, and is not paid.
    for at, layers in enumerate((0, 2, 0)):
        assert {line["amount"] for line in lines[at]} == {layers}
        assert all(line["label_predicted"] for line in lines[at])


def test_bids_outlive_the_server_and_are_weighed_once(tmp_path: Path) -> None:
    auction = SecondPrice()
    settings = {"job": Echo(), "mechanism": auction, "devices_min": 2, "units_per_round": 1}
    with ExitStack() as stack:

        def device(server: MarketServer, at: int) -> Device:
            made = Device(server.url, f"once-{at}", f"cam-{at}")
            stack.callback(made.http.close)
            return made

        with served(tmp_path, **settings) as server:
            one, two = device(server, 0), device(server, 1)
            there = threading.Thread(target=two.offer)
            there.start()
            assert one.offer()["question"] == {"bid_amounts": [2.0]}
            there.join()
            told = one.answer(1, bids_microcredits=[7]).json()
            assert (told["standing"], told["assigned"]) == ("waiting", None)
            refused = one.infer(0, 1, "p", sent(1.0, 0), model="echo")
            assert "waits for its assignment" in refused.json()["error"]
        with served(tmp_path, **settings) as server:
            for each in (one, two):
                each.http.base_url = server.url
            assert two.answer(1, bids_microcredits=[9]).status_code == 200
            offer = one.offer()
            assert offer["standing"] == "assigned"
            assert offer["assigned"] == {"amount": 2.0, "reward_microcredits": 9}
            assert two.offer()["assigned"] == {"amount": 0.0, "reward_microcredits": 0}
            assert one.answer(1, bids_microcredits=[7]).json()["assigned"]["amount"] == 2.0
            assert one.answer(1, bids_microcredits=[5]).status_code == 409
        with served(tmp_path, **settings) as server:
            for each in (one, two):
                each.http.base_url = server.url
            assert one.offer()["assigned"] == {"amount": 2.0, "reward_microcredits": 9}
            assert one.infer(2, 1, "p", sent(1.0, 0), model="echo").status_code == 200
            wait_until(lambda: server.market._ledger.balances().get("device:cam-0") == 9)
    assert auction.engaged == [
        {"cam-0": Answer(bids_microcredits=(7,)), "cam-1": Answer(bids_microcredits=(9,))}
    ]


def test_nobody_waits_for_a_bidder_who_stays_silent(tmp_path: Path) -> None:
    settings = {"job": Echo(), "mechanism": SecondPrice(), "commit_timeout_s": 0.2}
    with served(tmp_path, **settings) as server, ExitStack() as stack:
        silent = Device(server.url, "once-1", "cam-1")
        one = Device(server.url, "once-0", "cam-0")
        for each in (silent, one):
            stack.callback(each.http.close)
        assert silent.offer()["round"] == 1
        assert one.offer()["round"] == 1
        assert one.answer(1, bids_microcredits=[7]).json()["standing"] == "waiting"
        assert one.offer()["assigned"] == {"amount": 2.0, "reward_microcredits": 7}
        late = silent.answer(1, bids_microcredits=[1])
        assert late.status_code == 409
        assert "no more answers" in late.json()["error"]


@pytest.mark.parametrize(
    ("item", "name", "says"),
    [
        (Item(amount=2.5, reward_microcredits=1), "cam-0", "a whole number above 0"),
        (Item(amount=5.0, reward_microcredits=1), "cam-0", "at most 4"),
        (Item(amount=2.0, reward_microcredits=1), "nobody", "only those that answered"),
    ],
)
def test_a_mechanism_that_decides_what_it_may_not_engages_nobody(
    tmp_path: Path, item: Item, name: str, says: str
) -> None:
    class Wrong(Menu):
        def question(self, round: int) -> Question:
            return Question(menu=(Item(amount=1.0, reward_microcredits=1),))

        def engage(
            self, round: int, question: Question, answers: Mapping[str, Answer]
        ) -> dict[str, Item]:
            return {name: item}

    with served(tmp_path, job=Echo(), mechanism=Wrong()) as server, ExitStack() as stack:
        device = Device(server.url, "once-0", "cam-0")
        stack.callback(device.http.close)
        device.offer()
        answer = device.answer(1, item=0)
        assert answer.status_code == 409
        assert says in answer.json()["error"]
        assert not server.market._ledger.rounds()[0].answers


def test_a_server_process_stops_while_bids_wait(processes: Processes) -> None:
    """A device that waits for its award ends when it is told to, at once."""
    with served(processes.folder, mechanism=SecondPrice(), devices_min=1) as server:
        keeper = Device(server.url, "once-9", "keeper")
        assert keeper.offer()["round"] == 1
        waiting = processes.device(server.url, 0, **DEVICE)
        seen = threading.Event()
        ledger = server.market._ledger
        while not ledger.rounds()[0].answers:
            seen.wait(0.02)
        waiting.send_signal(signal.SIGTERM)
        _, err = finish(waiting)
        keeper.http.close()
    assert (waiting.returncode, err) == (0, "")


def test_who_lets_a_call_for_bids_pass_is_not_awaited_as_long_again(tmp_path: Path) -> None:
    """It polls, lets the others wait, leaves in time, and is back for the next call."""
    with (
        served(
            tmp_path, job=Echo(), mechanism=SecondPrice(), devices_min=1, commit_timeout_s=1000.0
        ) as server,
        ExitStack() as stack,
    ):
        evader, honest = (Device(server.url, f"once-{name}", name) for name in ("0", "1"))
        for device in (evader, honest):
            stack.callback(device.http.close)

        def left_s(number: int) -> float:
            """What the others still wait at most, once the honest one has bid."""
            assert evader.offer(number - 1)["round"] == number
            assert honest.offer(number - 1)["round"] == number
            bid = honest.answer(number, bids_microcredits=[5])
            assert bid.json()["standing"] == "waiting"
            # The market looks at its round again beside the answer.
            wait_until(lambda: current().deadline_s)
            return (current().deadline_s or 0.0) - time.monotonic()

        def current() -> Round:
            assert server.market._round is not None
            return server.market._round

        def go() -> None:
            assert evader.http.post("/market/leave").status_code == 200
            number = honest.offer()["round"]
            assert honest.http.post(f"/market/done?round={number}").status_code == 200

        assert left_s(1) > 500.0
        go()
        wait_until(lambda: left_s(2) < 201.0)
        go()
        wait_until(lambda: left_s(3) < 41.0)
