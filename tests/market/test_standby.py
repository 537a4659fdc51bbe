"""Two servers of one ledger as processes of their own: one leads, the other stands by."""

import signal
import sqlite3
import subprocess
from contextlib import closing

import httpx
import pytest

from edgepact.market.ledger import Ledger
from tests.market.harness import PATIENCE_S, Processes, finish, wait_until

SETTINGS = {"standby": True, "rounds": 2, "devices_min": 1, "units_per_round": 6}


def ready(url: str) -> int:
    return httpx.get(f"{url}/v2/health/ready", timeout=PATIENCE_S).status_code


def said(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    out, err = finish(process)
    assert process.returncode == 0, err
    return out + err


def test_a_standby_says_so_and_goes_when_told(processes: Processes) -> None:
    leader, url = processes.server(**SETTINGS)
    standby, other = processes.server(**SETTINGS)
    assert ready(url) == 200
    assert ready(other) == 503
    assert httpx.get(f"{other}/v2/health/live").status_code == 200
    assert httpx.get(f"{other}/market/status").json() == {"state": "standby"}
    answer = httpx.get(f"{other}/market/offer")
    assert (answer.status_code, answer.json()["reason"]) == (503, "standby")
    assert answer.headers["retry-after"] == "1"
    refused = processes.server_that_fails()
    assert "--standby waits for it" in finish(refused)[1]
    assert "serves the ledger" in said(standby)
    assert ready(url) == 200
    # A leader that leaves gives the lease up.
    standby, other = processes.server(**SETTINGS)
    said(leader)
    wait_until(lambda: ready(other) == 200)


def played(processes: Processes, hit: signal.Signals, **settings: str) -> None:
    """The leader is hit amid a round; the standby ends it, and the device has every label."""
    leader, url = processes.server(**SETTINGS, **settings)
    standby, other = processes.server(**SETTINGS, **settings)
    device = processes.device(f"{url},{other}", 0, in_flight=2)
    wait_until(lambda: len(processes.lines(0)) >= 2)
    leader.send_signal(hit)
    told, err = finish(device)
    assert device.returncode == 0, err
    assert "units=12" in told
    standby_said = finish(standby)[1]
    assert standby.returncode == 0, standby_said
    assert "it has taken the market over" in standby_said
    lines = processes.pieces(0)
    assert [line["state"] for line in lines] == ["paid"] * 12
    assert all(isinstance(line["label_predicted"], str) for line in lines)
    if leader.poll() is None:  # it goes on, and is shut out
        leader.send_signal(signal.SIGCONT)
        finish(leader)
    with Ledger(processes.ledger_url, read_only=True) as ledger:
        assert ledger.check() == []
        assert sum(ledger.balances().values()) == 0
        assert len(ledger.payments()) == 12


def test_a_standby_takes_over_when_the_leader_is_killed(processes: Processes) -> None:
    played(processes, signal.SIGKILL)


@pytest.mark.slow
def test_a_standby_waits_for_a_ledger_that_is_locked(processes: Processes) -> None:
    """As by a leader that was stopped amid a write."""
    Ledger(processes.ledger_url).close()
    with closing(sqlite3.connect(processes.ledger_url.removeprefix("sqlite:///"))) as other:
        other.execute("begin exclusive")
        standby, url = processes.server(**SETTINGS)
        assert ready(url) == 503
        assert "database is locked" in finish(processes.server_that_fails())[1]
        other.rollback()
        wait_until(lambda: ready(url) == 200)
    assert "database is locked" in said(standby)


@pytest.mark.slow
@pytest.mark.parametrize("hit", [signal.SIGKILL, signal.SIGSTOP])
def test_a_standby_takes_over_on_postgresql(
    processes: Processes, postgres: str, hit: signal.Signals
) -> None:
    """Also when the leader only stands still: its lease runs out, and what it sends is refused.

    On SQLite it would keep the file locked where it was stopped amid a write.
    """
    processes.ledger_url = postgres
    played(processes, hit, key=str(processes.folder / "server.key"))
