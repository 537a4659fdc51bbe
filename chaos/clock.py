"""The time of day is set, by hours, forwards and backwards, under a market that works.

Servers and devices of the market see another wall clock than the machine, which is set while they
run; their monotonic clocks go on, as they do where an administrator or NTP sets a clock. Time that
somebody has left (of an audit, of a round, of a lease) must not change with it; only what was said
to hold until a time of day, which is a one-time token, ends with the clock of its server.

It is done by a library that is preloaded, built from `wall_clock.c` when it is needed.
"""

import mmap
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from chaos.market import Broken, Market
from chaos.parts import CannotHere, Given, Outcome
from chaos.promises import Witness
from edgepact.market.ledger import Ledger

ABOUT = "clocks of server and devices set by hours, forwards and backwards"

EACH = 10
"""Rounds of the run for each time that clocks are set."""

HOUR_S = 3600
HOURS_MAX = 72
DEVICES = 2
VALID_S = 2.0 * HOUR_S

LOOKED_S = 3.0
"""How long everybody stands still once the clock is set: the server looks after audits whose time
is up more often."""

SERVE = ("--images", "6", "--commit-timeout-s", "1", "--audit-probability", "1")
"""All is audited, so that there is always an audit that could end."""


def run(given: Given) -> Outcome:
    """Sets clocks, and looks each time whether anything ended by it."""
    draws, times = given.draws("clock"), max(3, given.rounds // EACH)
    library = build(given.folder)
    clocks = {name: Clock(given.folder / name) for name in ("server", "rival", "cam")}

    def environment(name: str) -> Mapping[str, str]:
        kind = "rival" if name == "server-1" else name.split("-")[0]
        return {"LD_PRELOAD": str(library), "EDGEPACT_CHAOS_CLOCK": str(clocks[kind].path)}

    folder = given.folder / "market"
    with Market(folder, devices=DEVICES, servers=2, serve=SERVE, environment=environment) as market:
        witness, during = Witness(market), 0
        try:
            market.start()
            for turn in range(times):
                given.say(f"set {turn} of {times} times")
                witness.await_work(draws.randint(1, 20))
                during += _set(market, draws, clocks)
                witness.await_work(12)
                if broken := witness.look():
                    return _outcome(turn, broken, witness, during)
            given.say("tokens, and a second server")
            clocks["server"].set(0)
            broken = _tokens(market, clocks["server"])
            _rival(market, witness, clocks["rival"])
            broken += witness.end()
        except Broken as error:
            broken = [str(error)]
        if witness.counts()["forfeit"]:
            broken.append("honest devices have lost pay, since a clock was set")
        return _outcome(times, broken, witness, during)


class Clock:
    """A wall clock that is set through a file.

    Args:
        path: the file, with the seconds by which it is off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("q", 0))

    def set(self, off_s: float) -> None:
        """Sets it to the machine's and so many seconds."""
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as seconds:
            seconds[:] = struct.pack("q", round(off_s))


def build(folder: Path) -> Path:
    """Builds the library.

    Raises:
        CannotHere: there is no C compiler, or another system than Linux.
    """
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        raise CannotHere("it takes Linux and a C compiler, cc")
    library = folder / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def _set(market: Market, draws: random.Random, clocks: Mapping[str, Clock]) -> int:
    """Sets clocks while an audit is open and its device says nothing; returns whether one was.

    Devices are held still for a moment, which is far less than an audit takes: whoever goes by
    the wall clock will think that they were silent for hours.
    """
    off_s = draws.choice([-1, 1]) * draws.randint(HOUR_S, HOURS_MAX * HOUR_S)
    whose = draws.choice([["server"], ["server"], ["cam"], ["server", "cam"]])
    devices = [market.running[f"cam-{index}"] for index in market.devices]
    for _ in range(50):
        for device in devices:
            device.send_signal(signal.SIGSTOP)
        auditing = int(market.status()["audits_open"] > 0)
        if auditing:
            break
        for device in devices:
            device.send_signal(signal.SIGCONT)
        time.sleep(draws.uniform(0.0, 0.05))
    for name in whose:
        clocks[name].set(off_s)
    time.sleep(LOOKED_S)
    for device in devices:
        device.send_signal(signal.SIGCONT)
    return auditing


def _tokens(market: Market, clock: Clock) -> list[str]:
    """A token holds until its hour by the clock of the server, as often as that is set."""
    broken = []
    with Ledger(market.ledger_url) as ledger:
        tokens = [ledger.issue_token(valid_s=VALID_S)[0] for _ in range(2)]
    for off_s, token, expected in (
        (VALID_S + HOUR_S, tokens[0], 401),
        (VALID_S - HOUR_S, tokens[0], 200),
        (-HOURS_MAX * HOUR_S, tokens[1], 200),
    ):
        clock.set(off_s)
        message = {"token": token, "name": f"late-{tokens.index(token)}"}
        answer = httpx.post(f"{market.url()}/market/enrol", json=message)
        if answer.status_code != expected:
            broken.append(
                f"a token of {VALID_S} s was answered {answer.status_code} and not {expected} by "
                f"a server whose clock was set by {off_s} s"
            )
    clock.set(0)
    return broken


def _rival(market: Market, witness: Witness, clock: Clock) -> None:
    """A second server whose clock is ahead takes nothing from the first, which is well."""
    clock.set(HOURS_MAX * HOUR_S)
    name = market.start_server(1, "--standby")
    market.wait(
        lambda: "standby:" in market.log(name).read_text() or market.is_ready(1),
        "the second server to ask for the lease",
    )
    led = market.is_ready(1)
    market.kill(name)
    if led:
        raise Broken("a server whose clock is ahead has taken the ledger from one that is well")
    witness.await_work(12)


def _outcome(times: int, broken: list[str], witness: Witness, during: int) -> Outcome:
    return Outcome(
        did=f"clocks set {times} times",
        broken=tuple(broken),
        figures={"audits open at that moment": during, "pieces": witness.pieces()},
    )
