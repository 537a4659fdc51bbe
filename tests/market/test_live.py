"""Whole markets of real processes: they play, die, come back, and the books agree."""

import json
import re
import signal
import socket
import subprocess
from typing import Any

import pytest

from edgepact.market.ledger import Ledger
from tests.market.harness import Processes, finish, wait_until


def settled_lines(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last line of each piece."""
    return {line["piece"]: line for line in lines}


def assert_books_agree(processes: Processes, devices: tuple[int, ...]) -> list[Any]:
    """What the devices were told is what the ledger has, piece by piece, each once."""
    with Ledger(processes.ledger_url) as ledger:
        payments = ledger.payments()
        assert ledger.check() == []
        settled = sum(p.microcredits for p in payments)
        assert -ledger.balances()["server"] == settled + sum(
            member.pending_microcredits for member in ledger.members()
        ) + ledger.balances().get("forfeited", 0)
        assert len({(p.device, p.piece) for p in payments}) == len(payments)
        for index in devices:
            name = f"cam-{index}"
            told = {
                piece: line["paid_microcredits"]
                for piece, line in settled_lines(processes.lines(index)).items()
                if line["state"] == "paid"
            }
            booked = {p.piece: p.microcredits for p in payments if p.device == name}
            assert told == booked
            assert ledger.balances()[f"device:{name}"] == sum(booked.values())
        return ledger.rounds()


AWAY = ("waits for http", " answers again after ")
"""Words of a device whose server was away; the slower the machine, the more it says."""


def assert_clean_end(process: subprocess.Popen[str], *, waited: bool = False) -> str:
    """What it printed; it has said nothing else but, perhaps, that it waited for the server."""
    out, err = finish(process)
    assert process.returncode == 0, err
    fine = (" of the pieces of a device", *(AWAY if waited else ()))
    said = [line for line in err.splitlines() if not any(words in line for words in fine)]
    assert said == []
    return out


def test_a_market_from_start_to_end(processes: Processes) -> None:
    server, url = processes.server(
        rounds=3, devices_min=2, units_per_round=8, price=0.5, audit_probability=0.3, seed=1
    )
    willing = processes.device(url, 0, alpha=0.5)
    choosy = processes.device(url, 1, alpha=7.0)
    outs = [assert_clean_end(process) for process in (willing, choosy, server)]
    assert "rounds=3, units=24" in outs[0]
    rounds = assert_books_agree(processes, (0, 1))
    assert [record.closed for record in rounds] == [True] * 3
    # U(L) = 0.5 L + alpha ln(20 - L) is largest at L = 20 - 2 alpha, and there are 12 layers.
    assert [record.amounts["cam-0"] for record in rounds] == [12] * 3
    assert [record.amounts["cam-1"] for record in rounds] == [6] * 3
    for index in (0, 1):
        lines = processes.lines(index)
        lines = list(settled_lines(lines).values())
        assert len(lines) == 24
        assert all(line["state"] == "paid" for line in lines)
        assert any(line["audited"] for line in lines)
        assert all(line["paid_microcredits"] == 500_000 * line["amount"] for line in lines)
        right = sum(line["label_true"] == line["label_predicted"] for line in lines)
        assert right / len(lines) > 0.5
        for line in lines:
            assert 0 < line["server_seconds"] < line["roundtrip_seconds"]
            assert min(line["bytes_sent"], line["jpeg_bytes"], line["image_bytes"]) > 0
    assert json.loads(json.dumps(lines[0]))["file"].endswith(".png")


def test_device_that_dies_in_mid_round(processes: Processes) -> None:
    """Its remaining images are not paid; the others go on, and it may come back."""
    images = 300
    # Time being up is what ends the round of the dead, so the timeouts are short. How far anybody
    # gets until then is the machine's business.
    server, url = processes.server(
        rounds=None,
        devices_min=2,
        units_per_round=images,
        commit_timeout_s=5.0,
        round_timeout_s=2.5,
    )
    survivor = processes.device(url, 0)
    victim = processes.device(url, 1)
    wait_until(lambda: len(processes.lines(1)) > 5)
    victim.kill()
    victim.wait()

    def rounds() -> list[dict[str, Any]]:
        return list(processes.status(url)["rounds"])

    def goes_on(record: dict[str, Any]) -> bool:
        return "cam-1" not in record["answered"] and record["units"].get("cam-0", 0) > 0

    def joined() -> list[dict[str, Any]]:
        return [record for record in rounds() if "cam-1" in record["answered"]]

    wait_until(lambda: joined() and goes_on(rounds()[-1]))
    before = joined()
    assert all(record["closed"] for record in before)
    assert before[-1]["units"]["cam-1"] < images
    back = processes.device(url, 1)
    wait_until(lambda: len(joined()) > len(before))
    for process in (survivor, back):
        process.send_signal(signal.SIGTERM)
        assert_clean_end(process)
    server.send_signal(signal.SIGTERM)
    assert_clean_end(server)
    assert_books_agree(processes, (0,))
    with Ledger(processes.ledger_url) as ledger:
        paid = {p.piece for p in ledger.payments() if p.device == "cam-1"}
    told = {
        piece
        for piece, line in settled_lines(processes.lines(1)).items()
        if line["state"] == "paid"
    }
    # What was delivered before the kill is told by its journal, though it had no line yet.
    assert told == paid


def test_server_killed_in_mid_round(processes: Processes) -> None:
    """Started again on the same ledger it goes on; no payment is lost or repeated."""
    port = free_port()
    settings = {
        "port": port,
        "rounds": 2,
        "devices_min": 2,
        "units_per_round": 60,
        "audit_probability": 0.3,
    }
    server, url = processes.server(**settings)
    devices = [processes.device(url, index) for index in (0, 1)]
    for lines in (10, 70):
        wait_until(lambda lines=lines: len(processes.lines(0)) > lines)  # type: ignore[misc]
        server.kill()
        server.wait()
        server, url = processes.server(**settings)
    for process in (*devices, server):
        assert_clean_end(process, waited=True)
    rounds = assert_books_agree(processes, (0, 1))
    assert len(rounds) == 2
    for record in rounds:
        assert {name: len(own) for name, own in record.pieces.items()} == {
            "cam-0": 60,
            "cam-1": 60,
        }
    for index in (0, 1):
        lines_told = processes.lines(index)
        assert len(settled_lines(lines_told)) == 120


def test_device_restarted_in_mid_round_goes_on(processes: Processes) -> None:
    server, url = processes.server(rounds=1, units_per_round=24, audit_probability=1.0)
    device = processes.device(url, 0)
    wait_until(lambda: len(processes.lines(0)) > 10)
    device.kill()
    device.wait()
    # It shows the token it has kept: the one-time token is used up. Its inputs come in another
    # order, and what an audit asks for is found all the same.
    again = processes.device(url, 0, enrol_token=None, seed=7)
    assert_clean_end(again)
    assert_clean_end(server)
    (record,) = assert_books_agree(processes, (0,))
    assert len(record.pieces["cam-0"]) == 24
    assert {(line["state"], line["audited"]) for line in processes.pieces(0)} == {("paid", True)}


def test_a_token_is_used_by_one_process_at_a_time(processes: Processes) -> None:
    _, url = processes.server(units_per_round=500)
    device = processes.device(url, 0)
    wait_until(lambda: processes.lines(0))
    own = {"enrol_token": None, "results": str(processes.folder / "other.jsonl")}
    other = processes.device(url, 0, **own)
    _, said = finish(other)
    assert other.returncode != 0
    assert "cam-0.token: expected a token file that no other process uses" in said
    assert not (processes.folder / "other.jsonl").exists()
    device.kill()
    device.wait()
    third = processes.device(url, 0, **own)
    wait_until(lambda: (processes.folder / "other.jsonl").exists() or third.poll() is not None)
    assert third.poll() is None


def test_server_that_stays_away(processes: Processes) -> None:
    """The device finishes the image at hand by itself and ends with a clear message."""
    server, url = processes.server(units_per_round=500)
    device = processes.device(url, 0, away_timeout_s=5.0)
    wait_until(lambda: len(processes.lines(0)) > 5)
    server.kill()
    server.wait()
    _, err = finish(device)
    assert device.returncode == 1
    (waits, ends) = err.splitlines()
    assert re.fullmatch(r"cam-0: waits for http://\S+ for at most 5 s: .*", waits)
    assert re.fullmatch(r"error: http://\S+ has not answered for 5 s .*; cam-0 ends", ends)
    last = processes.lines(0)[-1]
    assert last["state"] == "unpaid"
    assert last["paid_microcredits"] == 0
    assert last["label_predicted"] is not None


def test_port_in_use(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = processes.server_that_fails(port=port)
        _, err = finish(server)
    assert server.returncode == 1
    assert err.startswith(f"error: port {port} on 127.0.0.1 is in use")
    assert err.count("\n") == 1
    assert not (processes.folder / "ledger.db").exists()


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(processes: Processes, number: signal.Signals) -> None:
    server, url = processes.server(units_per_round=100_000)
    device = processes.device(url, 0)
    wait_until(lambda: len(processes.lines(0)) > 5)
    waiting = processes.device(url, 1)  # comes too late for the round and waits

    def present() -> list[str]:
        return list(processes.status(url)["devices_present"])

    wait_until(lambda: "cam-1" in present())
    for process in (waiting, device, server):
        process.send_signal(number)
        assert_clean_end(process)
    assert_books_agree(processes, (0,))


def free_port() -> int:
    """A port nobody uses now, for servers that must come back at the same one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
