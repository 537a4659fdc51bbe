"""Hosts in network namespaces of their own, and the switch that their packets pass: a process.

Run by `chaos.hosts` as `python -m chaos.packet_switch HOSTS`. Each host has one interface, a TUN
device, whose packets come here; the switch looks at the addresses, and hands each on when the links
of its sender and of its receiver let it: later, twice, out of turn, or never. As the kernels of the
hosts see real packets, they do themselves what they do on a bad network: they send again, back off
and give up. No `netem` is needed, which not every kernel has.

Commands come on standard input and are answered on standard output, one JSON object a line; when
the input ends, everything is gone.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

ADDRESS = "10.8.0.{}"
FIRST = 1
PACKET_BYTES = 65_536
AT_ONCE = 64
"""Packets of a host that are taken before the others have their turn."""

BUFFER_S = 1.0
"""What a link of a limited rate holds at most, seconds of sending; more is dropped."""

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Way:
    """One direction of a host's link.

    Attributes:
        delay_s: how long a packet is on its way.
        jitter_s: by so much more or less, at random; packets keep their order.
        loss: share of packets that are lost.
        rate: bits a second; 0 for no limit.
        twice: share of packets that come twice.
        early: share of packets that overtake others.
        cut: whether nothing comes through.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate: float = 0.0
    twice: float = 0.0
    early: float = 0.0
    cut: bool = False
    busy_s: float = 0.0
    last_s: float = 0.0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("packets", "bytes", "lost", "dropped", "twice"), 0)
    )

    def arrivals(self, size: int, now_s: float, draws: random.Random) -> list[float]:
        """When a packet that is sent now arrives; never, or twice, as may be."""
        self.counts["packets"] += 1
        self.counts["bytes"] += size
        if self.cut or draws.random() < self.loss:
            self.counts["lost"] += 1
            return []
        if not (self.rate or self.delay_s or self.jitter_s or self.twice):
            return [now_s]
        sent_s = now_s
        if self.rate:
            if self.busy_s - now_s > BUFFER_S:
                self.counts["dropped"] += 1
                return []
            self.busy_s = sent_s = max(self.busy_s, now_s) + 8 * size / self.rate
        if draws.random() < self.early:
            there_s = sent_s
        else:
            there_s = sent_s + self.delay_s + draws.uniform(-self.jitter_s, self.jitter_s)
            there_s = self.last_s = max(there_s, self.last_s)
        if draws.random() < self.twice:
            self.counts["twice"] += 1
            return [there_s, there_s]
        return [there_s]


class Switch:
    """Carries packets between hosts.

    Args:
        files: of the hosts' interfaces; the first is the server's.
        seed: of what is lost, and so on.
    """

    def __init__(self, files: list[int], seed: int) -> None:
        self._files = files
        self._ways = [(Way(), Way()) for _ in files]  # up and down, by host
        self._where = {socket.inet_aton(ADDRESS.format(FIRST + n)): n for n in range(len(files))}
        self._draws = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._order = count()

    def shape(self, host: int, up: dict[str, Any], down: dict[str, Any]) -> None:
        """Gives the link of a host other properties; what is counted goes on."""
        for way, told in zip(self._ways[host], (up, down), strict=True):
            for name, value in told.items():
                setattr(way, name, value)

    def counts(self, host: int) -> list[dict[str, int]]:
        """What the link of a host has carried, up and down."""
        return [dict(way.counts) for way in self._ways[host]]

    def take(self, host: int) -> None:
        """Takes packets that a host has sent."""
        for _ in range(AT_ONCE):
            try:
                packet = os.read(self._files[host], PACKET_BYTES)
            except BlockingIOError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue  # hosts talk IPv4 alone
            self._where[packet[12:16]] = host  # who moves is found where it is heard from
            target = self._where.get(packet[16:20])
            if target is None:
                continue
            now_s = time.monotonic()
            for left_s in self._ways[host][0].arrivals(len(packet), now_s, self._draws):
                for there_s in self._ways[target][1].arrivals(len(packet), left_s, self._draws):
                    if there_s <= now_s:
                        self._hand_over(target, packet)
                    else:
                        each = (there_s, next(self._order), target, packet)
                        heapq.heappush(self._waiting, each)

    def deliver(self) -> float | None:
        """Hands over what has arrived; returns the seconds until the next does."""
        while self._waiting:
            left_s = self._waiting[0][0] - time.monotonic()
            if left_s > 0.0:
                return left_s
            _, _, target, packet = heapq.heappop(self._waiting)
            self._hand_over(target, packet)
        return None

    def _hand_over(self, target: int, packet: bytes) -> None:
        with suppress(OSError):  # its queue is full, or its interface down: the packet is lost
            os.write(self._files[target], packet)


def main() -> None:
    """The process."""
    hosts = [_host(number) for number in range(int(sys.argv[1]))]
    files = [file for _, file in hosts]
    switch = Switch(files, seed=int(sys.argv[2]))
    print(json.dumps({"pids": [pid for pid, _ in hosts]}), flush=True)
    with selectors.DefaultSelector() as selector:
        for number, file in enumerate(files):
            os.set_blocking(file, False)
            selector.register(file, selectors.EVENT_READ, number)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        commands = b""
        while True:
            left_s = switch.deliver()
            for key, _ in selector.select(left_s):
                if key.data is not None:
                    switch.take(key.data)
                    continue
                came = os.read(sys.stdin.fileno(), PACKET_BYTES)
                if not came:
                    return
                commands += came
                while b"\n" in commands:
                    line, commands = commands.split(b"\n", 1)
                    _obey(switch, json.loads(line))


def _obey(switch: Switch, command: dict[str, Any]) -> None:
    host = int(command["host"])
    if "up" in command:
        switch.shape(host, command["up"], command["down"])
    print(json.dumps(switch.counts(host)), flush=True)


def _host(number: int) -> tuple[int, int]:
    """A process that holds a namespace, and its interface."""
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        status = 1
        try:
            file = _interface(number)
            socket.send_fds(there, [b"."], [file])
            there.recv(1)  # until the switch is gone
            status = 0
        except OSError as error:
            there.send(f"{error}".encode())
        finally:
            os._exit(status)
    there.close()
    said, files, _, _ = socket.recv_fds(here, 1000, 1)
    if not files:
        sys.exit(said.decode() or "no interface")
    _OPEN.append(here)
    return pid, files[0]


_OPEN: list[socket.socket] = []
"""What the hosts wait on."""


def _interface(number: int) -> int:
    """Enters a network namespace of its own and opens the interface of the host there."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace can be made")
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _IFF_TUN | _IFF_NO_PI))
    for words in (
        "link set lo up",
        f"addr add {ADDRESS.format(FIRST + number)}/24 dev eth0",
        "link set eth0 up",
    ):
        told = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
        if told.returncode:
            raise OSError(0, f"ip {words}: {told.stderr.strip()}")
    return file


if __name__ == "__main__":
    main()
