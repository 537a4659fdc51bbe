"""Cheats at a real server: each is found out or refused, earns less than its honest neighbour, is
excluded at two strikes, and comes back when its operator says so."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgepact.cli import app
from edgepact.errors import MarketError
from edgepact.market.device import run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.ledger import Ledger, Member
from edgepact.studies.cheats import CHEATS, HONEST, CheatingJob, other_model
from edgepact.studies.cheats_at_market import write_pictures
from tests.market.harness import DEVICE, PATIENCE_S, Processes, finish, served, wait_until

UNITS = 10
PICTURES = 4 * UNITS
"""Of each device: more than it can bring before the first may be brought again."""

RULES: dict[str, Any] = {
    "audit_probability": 1.0,
    "repeat_rounds": 2,
    "strikes_max": 2,
    "units_per_round": UNITS,
    "price": 0.5,
}
CUT = {"capacity": 8.5}
"""Room for seven layers, so that what travels is an activation."""


def members(url: str) -> dict[str, Member]:
    with Ledger(url, read_only=True) as reader:
        return {each.name: each for each in reader.members()}


def verdicts(url: str, device: str) -> list[dict[str, Any]]:
    with Ledger(url, read_only=True) as reader:
        return [json.loads(told) for told, _ in reader.verdicts(device)]


class Played:
    """A device in a thread of this process."""

    def __init__(self, folder: Path, url: str, name: str, cheat: str = HONEST) -> None:
        self.error: MarketError | None = None
        own: dict[str, Any] = {**DEVICE, **CUT}
        self._config = DeviceConfig(
            server_url=url,
            name=name,
            enrol_token=f"once-{name}",
            inputs=folder / name,
            results=folder / f"{name}.jsonl",
            token_file=folder / f"{name}.token",
            away_timeout_s=1.0,
            **own,
        )
        self._job = CheatingJob(cheat=cheat)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            run_device(self._config, job=self._job)
        except MarketError as error:
            self.error = error


def test_a_cheat_is_excluded_at_two_strikes_and_comes_back_by_its_operator(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    for at, name in enumerate(("honest", "random", "near")):
        write_pictures(tmp_path / name, at * PICTURES, PICTURES)
    tokens = tuple(f"once-{name}" for name in ("honest", "random", "near"))
    playing: list[Played] = []
    try:
        with served(tmp_path, **RULES, devices_min=3, enrol_tokens=tokens) as server:
            for name, cheat in (("honest", HONEST), ("random", "random"), ("near", "near-replay")):
                playing.append(Played(tmp_path, server.url, name, cheat))
            wait_until(lambda: "random" in members(url) and members(url)["random"].excluded)
            playing[1].thread.join(PATIENCE_S)
            assert "excluded after failed audits" in str(playing[1].error)
            found = members(url)
            assert (found["random"].strikes, found["random"].paid_microcredits) == (2, 0)
            reasons = {each["reason"] for each in verdicts(url, "random")}
            assert reasons == {"the work differs from what its source gives"}
            # Nobody waits for who was excluded, and honest work is paid.
            wait_until(lambda: members(url)["honest"].paid_microcredits > 0)
            before = members(url)["honest"].paid_microcredits
            wait_until(lambda: members(url)["honest"].paid_microcredits > before)
            near, honest = members(url)["near"], members(url)["honest"]
            assert near.strikes == honest.strikes == 0
            assert near.paid_microcredits < 0.5 * honest.paid_microcredits
            # It stays out, whatever it does, until its operator readmits it.
            again = Played(tmp_path, server.url, "random")
            again.thread.join(PATIENCE_S)
            assert "its operator can readmit it" in str(again.error)
            done = CliRunner().invoke(app, ["token", "readmit", "random", "--ledger", url])
            assert done.exit_code == 0, done.output
            wait_until(lambda: "random" not in server.market._settling.shut_out)
            playing.append(Played(tmp_path, server.url, "random"))
            wait_until(lambda: members(url)["random"].paid_microcredits > 0)
            assert members(url)["random"].strikes == 0
    finally:
        for each in playing:
            each.thread.join(PATIENCE_S)
    with Ledger(url, read_only=True) as reader:
        assert reader.check() == []


@pytest.mark.slow
def test_every_cheat_among_real_processes(processes: Processes, tmp_path: Path) -> None:
    """One server and a process for each kind of cheat, beside an honest one."""
    kinds = [*CHEATS, "two-identities"]  # the first is honest
    settings = RULES | {
        "enrol_tokens": [f"once-{at}" for at in range(len(kinds))],
        "devices_min": len(kinds),
        "commit_timeout_s": 20.0,  # a device that was killed is waited for so long, once
        "round_timeout_s": 20.0,
        "audit_timeout_s": 10.0,
    }
    server, url = processes.server(**settings)
    ledger = processes.ledger_url
    running = []
    for at, kind in enumerate(kinds):
        pictures = tmp_path / "pictures" / kind
        if not pictures.exists():
            # Two identities have the pictures of one device for one round.
            count = UNITS if kind == "two-identities" else PICTURES
            write_pictures(pictures, at * PICTURES, count)
        other = other_model(kind, tmp_path / f"{kind}-model")
        more = {"cheat": kind, "inputs": str(pictures)} | CUT
        if other is not None:
            more["other"] = str(other)
        running.append(processes.device(url, at, **more))
    leaver = kinds.index("leaves")
    wait_until(lambda: any(line.get("state") == "pending" for line in processes.lines(leaver)))
    running[leaver].kill()  # before it shows anything
    wrong = [
        at
        for at, kind in enumerate(kinds)
        if kind in CHEATS and CHEATS[kind].every and kind != "leaves"
    ]

    def all_found() -> bool:
        found = members(ledger)
        if len(found) < len(kinds):
            return False
        return all(found[f"cam-{at}"].excluded for at in wrong) and bool(
            verdicts(ledger, f"cam-{leaver}")
        )

    wait_until(all_found, 2 * PATIENCE_S)
    for at in wrong:
        _, err = finish(running[at])
        assert running[at].returncode == 1
        assert "excluded after failed audits" in err
    paid = {name: each.paid_microcredits for name, each in members(ledger).items()}
    before = paid["cam-0"]
    wait_until(lambda: members(ledger)["cam-0"].paid_microcredits > before)
    server.terminate()
    finish(server)
    found = members(ledger)
    honest = found["cam-0"]
    assert honest.strikes == 0
    for at, kind in enumerate(kinds[1:], 1):
        own = found[f"cam-{at}"]
        assert own.paid_microcredits < honest.paid_microcredits, kind
        if at in wrong:
            assert (own.strikes, own.excluded) == (2, True), kind
            # One that cheats on a piece now and then may have a round without.
            assert own.paid_microcredits == 0 or CHEATS[kind].every > 1, kind
    (verdict,) = verdicts(ledger, f"cam-{leaver}")
    assert verdict["reason"] == "its source was not shown in time"
    assert found[f"cam-{leaver}"].paid_microcredits == 0
    # Both identities together have what one honest device would have had, at most.
    pair = [at for at, kind in enumerate(kinds) if kind == "two-identities"]
    assert sum(found[f"cam-{at}"].paid_microcredits for at in pair) < honest.paid_microcredits
    with Ledger(ledger, read_only=True) as reader:
        assert reader.check() == []
