"""Bad networks: far, lossy, narrow, cut and moving links, slow senders, requests doubled and late.

First the devices stand on hosts of their own, whose packets are delayed, lost, repeated and
reordered one by one, where this machine allows it (`chaos.hosts`); one fault after another is put
on the link of one device or of all. Then they reach their server by a proxy that does the like to
whole requests (`chaos.unreliable`), everywhere. After each fault work has to go on, and what was
told to hold.
"""

import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from chaos.hosts import Hosts, Shape
from chaos.market import Broken, Market
from chaos.parts import CannotHere, Given, Outcome
from chaos.promises import Witness
from chaos.unreliable import CALM, Mischief, Unreliable

ABOUT = "far, lossy, cut and moving links; slow senders; requests lost, doubled, late, sent again"

DEVICES = 3
GOOD = Shape(round_trip_ms=2.0)
FAR = Shape(round_trip_ms=50.0, loss=0.02)
BAD = Shape(round_trip_ms=200.0, loss=0.05, rate_kbit=256.0)
ODD = Shape(round_trip_ms=50.0, jitter_ms=40.0, loss=0.01, twice=0.1, early=0.2)
CUT = Shape(cut=True)

CUT_S = (1.0, 9.0)
"""How long a link is cut; a connection counts as dead in between."""

SLOW_SENDERS = 40
DRIBBLE_S = 0.2

LINES = 16
"""Lines that a device writes before a fault is over: those of some pieces and of their pay."""

FAULTS_PER_ROUND = 0.2
"""Faults for each unit of `--rounds`: one takes some seconds."""

REQUESTS_PER_ROUND = 20
MISCHIEF = Mischief(
    doubled=0.1,
    replayed=0.1,
    truncated=0.03,
    overtaken=0.05,
    unanswered=0.05,
    half_answered=0.03,
    silent=0.005,
)

SERVE = (
    "--images",
    "8",
    "--devices-min",
    "1",
    "--commit-timeout-s",
    "5",
    "--round-timeout-s",
    "20",
)


def run(given: Given) -> Outcome:
    """One fault after another on packets, then a lot of mischief on requests."""
    broken, figures = list[str](), dict[str, int | float | str]()
    did = []
    try:
        faults, broken = _on_hosts(given)
        did.append(f"{faults} faults on links")
    except CannotHere as error:
        figures["links of hosts"] = f"not here: {error}"
    if not broken:
        requests, broken = _by_proxy(given, figures)
        did.append(f"{requests} requests by a proxy")
    return Outcome(did=", ".join(did), broken=tuple(broken), figures=figures)


# ---------------------------------------------------------------- packets


class _Spread(Market):
    """A market whose devices stand on hosts of their own."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self._hosts = hosts
        listens = ("--host", hosts.address(0))
        super().__init__(folder, devices=DEVICES, serve=(*SERVE, *listens))

    def url(self, which: int = 0) -> str:
        """Address of a server."""
        return super().url(which).replace("127.0.0.1", self._hosts.address(0))

    def _start(self, name: str, arguments: list[str], wrapped: Sequence[str] = ()) -> str:
        kind, _, index = name.rpartition("-")
        if kind == "cam":
            wrapped = self._hosts.on(int(index) + 1)
        return super()._start(name, arguments, wrapped)


class _Faults:
    """What can be done to links, each until it is over."""

    def __init__(self, market: _Spread, hosts: Hosts, draws: random.Random) -> None:
        self._market, self._hosts, self._draws = market, hosts, draws
        self._moved = 0
        self.kinds: tuple[Callable[[], str], ...] = (
            lambda: self._all(FAR, "50 ms and 2 % loss for all"),
            lambda: self._one(BAD, "200 ms, 5 % loss and 256 kbit/s"),
            lambda: self._one(ODD, "packets twice, early and late"),
            self._cut,
            self._move,
            self._slow_senders,
        )

    def _all(self, shape: Shape, words: str) -> str:
        for index in self._market.devices:
            self._hosts.shape(index + 1, shape)
        _await_lines(self._market, self._market.devices)
        return words

    def _one(self, shape: Shape, words: str) -> str:
        index = self._draws.choice(self._market.devices)
        self._hosts.shape(index + 1, shape)
        _await_lines(self._market, self._market.devices)
        return f"{words} for cam-{index}"

    def _cut(self) -> str:
        """The others go on meanwhile; then the device comes back by itself."""
        index, cut_s = self._draws.choice(self._market.devices), self._draws.uniform(*CUT_S)
        self._hosts.shape(index + 1, CUT)
        began_s = time.monotonic()
        _await_lines(self._market, [each for each in self._market.devices if each != index])
        time.sleep(max(0.0, cut_s - (time.monotonic() - began_s)))
        self._hosts.shape(index + 1, GOOD)
        _await_lines(self._market, [index])
        return f"cam-{index} cut off for {cut_s:.1f} s"

    def _move(self) -> str:
        index = self._draws.choice(self._market.devices)
        self._moved += 1
        address = self._hosts.move(index + 1, 100 + self._moved % 150)
        _await_lines(self._market, [index])
        return f"cam-{index} moved to {address}"

    def _slow_senders(self) -> str:
        """Heads and bodies that come a byte at a time, in the name of a device."""
        index = self._draws.choice(self._market.devices)
        token = (self._market.folder / f"cam-{index}.token").read_text().strip()
        body = (
            "POST /v2/models/adding-cut-4/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: 1000000\r\n\r\n"
        )
        host, _, port = self._market.url().rpartition("/")[2].partition(":")
        with ExitStack() as at_end:
            senders = []
            for at in range(SLOW_SENDERS):
                senders.append(at_end.enter_context(socket.create_connection((host, int(port)))))
                head = body if at % 8 == 0 else "POST /market/commit HTTP/1.1\r\nX-Slow: "
                senders[-1].sendall(head.encode())
            enough = threading.Event()
            thread = threading.Thread(target=_dribble, args=(senders, enough))
            thread.start()
            at_end.callback(thread.join)
            at_end.callback(enough.set)
            others = [each for each in self._market.devices if each != index]
            _await_lines(self._market, others)
        return f"{SLOW_SENDERS} slow senders, some as cam-{index}"


def _dribble(senders: Sequence[socket.socket], enough: threading.Event) -> None:
    """Sends a byte on each now and then; the server may have ended some."""
    while not enough.wait(DRIBBLE_S):
        for sender in senders:
            with suppress(OSError):
                sender.send(b"x")


def _on_hosts(given: Given) -> tuple[int, list[str]]:
    draws, faults = given.draws("links"), max(1, round(FAULTS_PER_ROUND * given.rounds))
    with Hosts(DEVICES, given.seed) as hosts, hosts.entered(0):
        for host in range(1, DEVICES + 1):
            hosts.shape(host, GOOD)
        market = _Spread(given.folder / "hosts", hosts)
        with market:
            witness, told = Witness(market), "the start"
            try:
                market.start()
                doing = _Faults(market, hosts, draws)
                order = list[Callable[[], str]]()
                for number in range(faults):
                    if not order:  # each kind once, then again in another order
                        order = draws.sample(doing.kinds, len(doing.kinds))
                    told = order.pop()()
                    given.say(f"{number + 1} of {faults} faults on links: {told}")
                    broken = witness.look()
                    for host in range(1, DEVICES + 1):
                        hosts.shape(host, GOOD)
                    if broken:
                        return number + 1, [f"after {told}: {each}" for each in broken]
                return faults, _ended(market, witness)
            except Broken as error:
                return faults, [f"after {told}: {error}"]


# ---------------------------------------------------------------- requests


class _Proxied(Market):
    """A market whose devices reach their server by a proxy."""

    def __init__(self, folder: Path, draws: random.Random) -> None:
        super().__init__(folder, devices=DEVICES, serve=SERVE)
        port = int(super().url().rpartition(":")[2])
        self.way = Unreliable("127.0.0.1", port, draws)

    def _start(self, name: str, arguments: list[str], wrapped: Sequence[str] = ()) -> str:
        if name.startswith("cam-"):
            arguments = [self.way.url if each == self.url() else each for each in arguments]
        return super()._start(name, arguments, wrapped)


def _by_proxy(given: Given, figures: dict[str, int | float | str]) -> tuple[int, list[str]]:
    draws, requests = given.draws("requests"), REQUESTS_PER_ROUND * given.rounds
    market = _Proxied(given.folder / "proxy", draws)
    with market, market.way as way:
        witness = Witness(market)
        try:
            market.start()
            witness.await_work()
            while way.done["requests"] < requests:
                given.say(f"{way.done['requests']} of {requests} requests by a proxy")
                delay_s = draws.choice((0.0, 0.025, 0.1))
                way.mischief = replace(MISCHIEF, delay_s=delay_s)
                more = min(requests, way.done["requests"] + 10 * REQUESTS_PER_ROUND)
                market.wait(lambda most=more: way.done["requests"] >= most, "requests")  # type: ignore[misc]
                if draws.random() < 0.5:
                    way.move(f"127.0.0.{draws.randint(2, 250)}")
                broken = witness.look()
                if broken:
                    return way.done["requests"], broken
            way.mischief = CALM
            _await_lines(market, market.devices)
            counts = {what.replace("_", " "): n for what, n in way.done.items()}
            figures |= {f"requests {what}": n for what, n in counts.items() if what != "requests"}
            return way.done["requests"], _ended(market, witness)
        except Broken as error:
            return way.done["requests"], [f"{error}"]


# ---------------------------------------------------------------- private


def _await_lines(market: Market, devices: Sequence[int]) -> None:
    """Waits until each of these devices has been told of some more pieces and their pay."""

    def count(index: int) -> int:
        path = market.results(index)
        return path.read_bytes().count(b"\n") if path.exists() else 0

    before = {index: count(index) for index in devices}
    for index in devices:
        market.wait(
            lambda index=index: count(index) >= before[index] + LINES,  # type: ignore[misc]
            f"cam-{index} to be told of its work",
        )


def _ended(market: Market, witness: Witness) -> list[str]:
    """Ends the market in good order; nobody who was honest has lost pay."""
    broken = witness.end()
    if witness.counts()["forfeit"]:
        broken.append(f"honest devices have lost {witness.counts()['forfeit']} pieces")
    return broken
