"""SIGKILL for server and devices at random moments, and again, and again.

A market lives through some kills, then ends in good order and everything is held against
everything; the next one begins on a new ledger, so that a thousand kills take as long as ten times
a hundred. Most victims are hit while work goes on, some while they start.
"""

import random
import statistics
import time

from chaos.market import MEBIBYTE, Broken, Market
from chaos.parts import Given, Outcome
from chaos.promises import Witness

ABOUT = "kill -9 of server and devices at random moments"

KILLS_EACH = 100
"""Most kills that one market lives through."""

DEVICES = 3

MOMENT_S = 0.3
"""A victim at work is hit at a moment within so many seconds."""

WORK_MAX = 40
"""Most pieces that are awaited from one kill to the next."""

STARTING_S = 1.5
"""A victim that starts is hit within so many seconds."""

STARTING = 0.15
"""Share of the kills that hit a victim while it starts."""

MEMORY_GROWTH_MAX = 1.5
MEMORY_SPARE = 64 * MEBIBYTE
"""No server may be larger than the first was after its start, times that and more by that."""

SERVE = ("--images", "8", "--devices-min", "1", "--commit-timeout-s", "1", "--round-timeout-s", "5")
"""Rounds are short, so that all their moments are hit."""


def run(given: Given, *, buyers: bool = False) -> Outcome:
    """Kills, and looks after each kill whether all that was told holds.

    Args:
        given: length, seed, folder.
        buyers: whether devices work on what buyers ask for.
    """
    draws = given.draws("kills")
    tally, broken = _Tally(), list[str]()
    left, market = given.rounds, 0
    while left and not broken:
        kills = min(KILLS_EACH, left)
        broken += _one_market(given, draws, tally, market, kills, buyers=buyers)
        left, market = left - kills, market + 1
    return Outcome(
        did=f"{tally.kills} kills in {market} markets",
        broken=tuple(broken),
        figures=tally.figures(),
    )


class _Tally:
    """What is counted over all markets."""

    def __init__(self) -> None:
        self.kills = self.of_servers = self.starting = self.checks = self.pieces = self.first = 0
        self.back_s: list[float] = []
        self.memory: list[int] = []
        self.by_state: dict[str, int] = {}

    def figures(self) -> dict[str, int | float | str]:
        """As they are told."""
        figures: dict[str, int | float | str] = {
            "kills of a server": self.of_servers,
            "kills while starting": self.starting,
            "kills of first starts": self.first,
            "looks at all promises": self.checks,
            "pieces": self.pieces,
            **{f"pieces {state}": count for state, count in self.by_state.items()},
        }
        if self.back_s:
            figures["server ready again after, s (median)"] = statistics.median(self.back_s)
            figures["server ready again after, s (longest)"] = max(self.back_s)
        if self.memory:
            figures["server memory, MiB (most)"] = max(self.memory) // MEBIBYTE
        return figures


def _one_market(
    given: Given,
    draws: random.Random,
    tally: _Tally,
    number: int,
    kills: int,
    *,
    buyers: bool,
) -> list[str]:
    folder = given.folder / f"market-{number}"
    with Market(folder, devices=DEVICES, serve=SERVE, buyers=buyers) as market:
        witness = Witness(market)
        try:
            _begin(market, draws, tally, 1 + kills // 20)
            witness.await_work()
            memory_max = MEMORY_GROWTH_MAX * market.memory_bytes("server-0") + MEMORY_SPARE
            for _ in range(kills):
                if tally.kills % 10 == 0:
                    given.say(f"{tally.kills} of {given.rounds} kills, {tally.pieces} pieces")
                told = _kill(market, draws, tally)
                witness.await_work(draws.randint(1, WORK_MAX))
                broken = witness.look()
                memory = market.memory_bytes("server-0")
                tally.memory.append(memory)
                if memory > memory_max:
                    broken.append(f"the server has grown to {memory // MEBIBYTE} MiB")
                if broken:
                    return [f"after kill {tally.kills} ({told}): {each}" for each in broken]
            for index in market.devices:
                _await_line(market, index)
            broken = witness.end()
            for state, count in witness.counts().items():
                tally.by_state[state] = tally.by_state.get(state, 0) + count
            tally.pieces = sum(tally.by_state.values())
            tally.checks += witness.checks
            if witness.counts()["forfeit"]:
                broken.append("honest devices that came back at once have lost pay")
            return broken
        except Broken as error:
            return [f"after kill {tally.kills}: {error}"]


def _begin(market: Market, draws: random.Random, tally: _Tally, times: int) -> None:
    """Starts everybody for the first time, which is when ledger, key and tokens are made: each
    server and device is killed some times before it may go on."""
    for index in (None, *market.devices):
        for _ in range(times):
            name = market.start_server() if index is None else market.start_device(index)
            time.sleep(draws.uniform(0.0, STARTING_S))
            market.kill(name)
            tally.first += 1
        if index is None:
            market.start_server()
            market.await_ready()
        else:
            market.start_device(index)


def _kill(market: Market, draws: random.Random, tally: _Tally) -> str:
    """Kills somebody, or everybody, and starts whom it has killed; returns who it was."""
    servers, devices = ["server-0"], [f"cam-{index}" for index in market.devices]
    victims = draws.choice([servers, servers, [draws.choice(devices)], servers + devices])
    starting = draws.random() < STARTING
    moment_s = draws.uniform(0.0, STARTING_S if starting else MOMENT_S)
    if starting:
        for name in victims:
            market.kill(name)
        _start(market, victims, wait=False)
    time.sleep(moment_s)
    market.expect_running()
    for name in victims:
        market.kill(name)
    began = time.monotonic()
    _start(market, victims, wait=True)
    tally.kills += 1
    tally.starting += starting
    if "server-0" in victims:
        tally.of_servers += 1
        tally.back_s.append(time.monotonic() - began)
    return f"{', '.join(victims)}{' while starting' if starting else ''} at {moment_s:.3f} s"


def _start(market: Market, names: list[str], *, wait: bool) -> None:
    for name in names:
        kind, _, number = name.rpartition("-")
        if kind == "cam":
            market.start_device(int(number))
        else:
            market.start_server(int(number))
            if wait:
                market.await_ready(int(number))


def _await_line(market: Market, index: int) -> None:
    """Waits until a device has been told something since it was started last."""
    path = market.results(index)
    before = path.stat().st_size if path.exists() else 0
    market.wait(
        lambda: path.exists() and path.stat().st_size > before, f"cam-{index} to be told something"
    )
