"""The real market and real devices in one thread, in virtual time and in an order that is drawn.

Everything that waits does so in one event loop, which draws what happens next; a number of the
seed is one interleaving, and happens again by itself:

    python -m chaos.simulation SEED NUMBER
"""

import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos.parts import Given, Outcome
from chaos.simulation.plan import drawn
from chaos.simulation.world import World
from edgepact.market.ledger import Ledger
from edgepact.market.ledger.signing import ServerKey

ABOUT = "servers and devices in virtual time, their messages and deaths in an order that is drawn"

PER_ROUND = 10
"""Interleavings for each of `rounds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of an interleaving."""

    broken: tuple[str, ...]
    steps: int
    virtual_s: float
    requests: int
    pieces: Counter[str]
    verdicts: int
    said: str
    story: tuple[str, ...]


class Simulation:
    """Interleavings of one seed.

    Args:
        seed: of all that is drawn.
        folder: to work in; in memory where there is such a place.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed, self._folder = seed, folder
        self._template = folder / "template.db"
        with Ledger(f"sqlite:///{self._template}", synchronous="OFF"):
            pass
        self._key = ServerKey(folder / "server.key")

    def happen(self, number: int) -> Found:
        """One of them."""
        name = f"{self._seed} {number}"
        with tempfile.TemporaryDirectory(dir=self._folder) as own:
            world = World(drawn(random.Random(name)), name, Path(own), self._template, self._key)
            world.run()
            return Found(
                broken=tuple(world.witness.broken),
                steps=world.loop.steps,
                virtual_s=world.clock.now_s,
                requests=world.wire.sent,
                pieces=Counter(world.counts),
                verdicts=len(world.witness.verdicts_s),
                said=world.said.getvalue(),
                story=tuple(world.story),
            )


def in_memory() -> Path | None:
    """A folder whose files are in memory; None where there is none."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else None


def run(given: Given) -> Outcome:
    """Lets them happen one after another."""
    count = PER_ROUND * given.rounds
    broken: list[str] = []
    total = Counter[str]()
    steps = requests = verdicts = 0
    virtual_s, began_s = 0.0, time.monotonic()
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        simulation = Simulation(given.seed, Path(folder))
        for number in range(count):
            found = simulation.happen(number)
            steps, requests = steps + found.steps, requests + found.requests
            virtual_s, verdicts = virtual_s + found.virtual_s, verdicts + found.verdicts
            total += found.pieces
            broken += [
                f"{each} (python -m chaos.simulation {given.seed} {number})"
                for each in found.broken
            ]
            if number % 50 == 49:
                given.say(f"{number + 1} of {count} interleavings, {len(broken)} promises broken")
    took_s = time.monotonic() - began_s
    return Outcome(
        did=f"{count:,} interleavings",
        broken=tuple(broken),
        figures={
            "interleavings a second": count / took_s,
            "steps": steps,
            "requests": requests,
            "virtual hours": virtual_s / 3600,
            "verdicts": verdicts,
            **{f"pieces {state}": total[state] for state in sorted(total)},
        },
    )
