"""Hosts on one machine, with links between them that are slow, lossy, cut, or move.

Each host is a network namespace; all packets pass a switch of our own (`chaos.packet_switch`),
which delays, loses, repeats and reorders them. It takes Linux, `ip`, `nsenter` and root's rights.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chaos
from chaos.packet_switch import ADDRESS, FIRST
from chaos.parts import CannotHere

ROOT = Path(chaos.__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A link, both of whose directions are alike.

    Attributes:
        round_trip_ms: of a small packet.
        jitter_ms: by so much a round trip is longer or shorter at most.
        loss: share of packets that are lost in each direction.
        rate_kbit: each direction carries so much, kbit/s; None for no limit.
        twice: share of packets that come twice.
        early: share of packets that overtake others.
        cut: whether nothing comes through.
    """

    round_trip_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    rate_kbit: float | None = None
    twice: float = 0.0
    early: float = 0.0
    cut: bool = False

    def way(self) -> dict[str, Any]:
        """One direction, as the switch is told."""
        return {
            "delay_s": self.round_trip_ms / 2e3,
            "jitter_s": self.jitter_ms / 2e3,
            "loss": self.loss,
            "rate": 1e3 * (self.rate_kbit or 0.0),
            "twice": self.twice,
            "early": self.early,
            "cut": self.cut,
        }


class Hosts:
    """A server's host, number 0, and hosts of devices, from number 1.

    Args:
        devices: how many.
        seed: of what is lost, and so on.

    Raises:
        CannotHere: this machine does not allow it.
    """

    def __init__(self, devices: int, seed: int = 0) -> None:
        for program in ("ip", "nsenter"):
            if shutil.which(program) is None:
                raise CannotHere(f"there is no `{program}`")
        if os.geteuid() != 0:
            raise CannotHere("network namespaces with interfaces of their own take root's rights")
        self._switch = subprocess.Popen(
            [sys.executable, "-m", "chaos.packet_switch", str(devices + 1), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._switch.stdout is not None
        line = self._switch.stdout.readline()
        if not line:
            said = self._switch.communicate()[1].strip()
            raise CannotHere(f"no hosts in network namespaces: {said.splitlines()[-1:] or said}")
        self._pids: list[int] = json.loads(line)["pids"]

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *_: object) -> None:
        self._switch.communicate()  # the end of its input is its end

    def address(self, host: int) -> str:
        """At first, of a host."""
        return ADDRESS.format(FIRST + host)

    def on(self, host: int) -> tuple[str, ...]:
        """What a command is begun with to run on a host."""
        return ("nsenter", "--target", str(self._pids[host]), "--net", "--")

    @contextmanager
    def entered(self, host: int) -> Iterator[None]:
        """This thread, and what it starts, is on a host meanwhile."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(f"/proc/{self._pids[host]}/ns/net")
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(before)

    def shape(self, host: int, shape: Shape) -> None:
        """Gives a host another link."""
        self._ask({"host": host, "up": shape.way(), "down": shape.way()})

    def carried(self, host: int) -> tuple[dict[str, int], dict[str, int]]:
        """Packets and bytes that the link of a host has been given, up and down: with their IP
        heads, and those that were lost too."""
        up, down = self._ask({"host": host})
        return up, down

    def move(self, host: int, last: int) -> str:
        """Gives a host another address, in place of all it has; returns it."""
        address = ADDRESS.format(last)
        for words in ("addr flush dev eth0", f"addr add {address}/24 dev eth0"):
            subprocess.run([*self.on(host), "ip", *words.split()], check=True)
        return address

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.write(json.dumps(command) + "\n")
        self._switch.stdin.flush()
        return json.loads(self._switch.stdout.readline())


def _enter(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        _set_namespace(file)
    finally:
        os.close(file)


def _set_namespace(file: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(file, 0):
        raise OSError(ctypes.get_errno(), "no network namespace can be entered")
