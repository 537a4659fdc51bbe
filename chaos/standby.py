"""Two servers on one ledger: one leads, one stands by; the leader is killed, or held still.

Each has a host name of its own where that is allowed, so that nobody can know by itself that the
other is dead: its lease has to run out. A leader that was held still for longer than its lease
wakes up after another has taken over, and must not write a thing. It then stands by itself, as does
the one that was killed and is started again.
"""

import random
import signal
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Sequence

from chaos.market import Broken, Market
from chaos.parts import Given, Outcome
from chaos.promises import Witness

ABOUT = "the leader of two servers killed, or held still for longer than its lease"

EACH = 20
"""Rounds of the run for each takeover."""

HELD_STILL = 0.4
"""Share of the takeovers from a leader that is not dead and wakes up again."""

DEVICES = 2
SERVE = ("--standby", "--images", "8", "--commit-timeout-s", "1", "--round-timeout-s", "10")


def run(given: Given) -> Outcome:
    """Takeover after takeover."""
    draws, times = given.draws("standby"), max(2, given.rounds // EACH)
    apart = _apart()
    took_s: list[float] = []
    with Market(
        given.folder / "market",
        devices=DEVICES,
        servers=2,
        serve=SERVE,
        servers_wrapped=apart,
        revive=True,
    ) as market:
        witness = Witness(market)
        try:
            market.start()
            market.start_server(1)
            leader = 0
            for turn in range(times):
                given.say(f"{turn} of {times} takeovers")
                witness.await_work(draws.randint(1, 30))
                took_s.append(_takeover(market, draws, leader))
                leader = 1 - leader
                witness.await_work(10)
                if broken := witness.look():
                    break
                market.wait(
                    lambda old=1 - leader: not market.is_ready(old),  # type: ignore[misc]
                    "the old leader to say that it is not ready",
                )
            else:
                market.kill(f"server-{1 - leader}")
                broken = witness.end()
        except Broken as error:
            broken = [str(error)]
        if witness.counts()["forfeit"]:
            broken.append("honest devices have lost pay since another server leads")
        return Outcome(
            did=f"{len(took_s)} takeovers",
            broken=tuple(broken),
            figures={
                "servers are": "on hosts of their own" if apart[0] else "on one host",
                "other server ready after, s (median)": statistics.median(took_s or [0.0]),
                "other server ready after, s (longest)": max(took_s, default=0.0),
                "pieces": witness.pieces(),
            },
        )


def _takeover(market: Market, draws: random.Random, leader: int) -> float:
    """Takes the leader away until the other one is ready; returns the seconds that took."""
    name, other, began = f"server-{leader}", 1 - leader, time.monotonic()
    if draws.random() >= HELD_STILL:
        market.kill(name)
        market.wait(lambda: market.is_ready(other), f"server-{other} to take over")
        took_s = time.monotonic() - began
        market.start_server(leader)
        return took_s
    _hold_still(market, name)
    try:
        market.wait(lambda: market.is_ready(other), f"server-{other} to take over")
        return time.monotonic() - began
    finally:
        market.running[name].send_signal(signal.SIGCONT)


def _hold_still(market: Market, name: str) -> None:
    """Stops a server, but not within a transaction: nobody else could write as long as that."""
    while True:
        market.running[name].send_signal(signal.SIGSTOP)
        books = sqlite3.connect(market.ledger_file, timeout=1.0, isolation_level=None)
        try:
            books.execute("begin immediate")
            return
        except sqlite3.OperationalError:
            market.running[name].send_signal(signal.SIGCONT)
        finally:
            books.close()


def _apart() -> Sequence[Sequence[str]]:
    """By what two servers are started so that each has a host name of its own."""
    apart = [
        ["unshare", "--uts", "sh", "-c", f'hostname chaos-{which} && exec "$@"', "sh"]
        for which in (0, 1)
    ]
    try:
        subprocess.run([*apart[0], "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return (), ()
    return apart
