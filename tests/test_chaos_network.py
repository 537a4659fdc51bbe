"""Bad networks in their long form: real processes on hosts of their own, and by a proxy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import network
from chaos.hosts import Hosts, Shape
from chaos.parts import CannotHere, Given


@pytest.mark.full  # minutes; `make chaos` is the long form
def test_promises_are_kept_on_bad_networks(tmp_path: Path) -> None:
    found = network.run(Given(seed=14, rounds=30, folder=tmp_path))
    assert found.broken == ()
    assert "requests by a proxy" in found.did


_ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
    ear.bind(("", 999))
    print("ready", flush=True)
    while True:
        words, who = ear.recvfrom(2000)
        ear.sendto(words + who[0].encode(), who)
"""

_ASK = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
    mouth.settimeout(0.5)
    for _ in range(3):
        began = time.monotonic()
        mouth.sendto(b"x" * 100, (sys.argv[1], 999))
        try:
            print(mouth.recv(2000)[100:].decode(), time.monotonic() - began)
        except TimeoutError:
            print("nothing", 0.0)
"""


def test_hosts_are_apart_and_their_links_are_as_they_were_shaped() -> None:
    try:
        hosts = Hosts(2)
    except CannotHere as error:
        pytest.skip(str(error))

    def ask(host: int) -> list[tuple[str, float]]:
        command = [*hosts.on(host), sys.executable, "-c", _ASK, hosts.address(0)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [(line.split()[0], float(line.split()[1])) for line in told.splitlines()]

    with hosts:
        before = os.readlink("/proc/self/ns/net")
        with hosts.entered(0):
            ear = subprocess.Popen([sys.executable, "-c", _ECHO], stdout=subprocess.PIPE)
            assert os.readlink("/proc/thread-self/ns/net") != before
        try:
            assert ear.stdout is not None
            assert ear.stdout.readline() == b"ready\n"
            hosts.shape(1, Shape(round_trip_ms=100.0))
            assert all(who == hosts.address(1) and took >= 0.1 for who, took in ask(1))
            up, down = hosts.carried(1)
            assert (up["packets"], down["packets"]) == (3, 3)
            assert up["bytes"] == 3 * (100 + 8 + 20)  # with the heads of UDP and IP
            hosts.shape(1, Shape(cut=True))
            assert {who for who, _ in ask(1)} == {"nothing"}
            hosts.shape(1, Shape())
            assert {who for who, _ in ask(1)} == {hosts.address(1)}
            assert {who for who, _ in ask(2)} == {hosts.address(2)}
            assert {who for who, _ in [*ask(2)]} != {hosts.move(2, 77)}
            assert {who for who, _ in ask(2)} == {"10.8.0.77"}
        finally:
            ear.kill()
            ear.communicate()
    assert os.readlink("/proc/self/ns/net") == before
