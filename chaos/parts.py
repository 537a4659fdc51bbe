"""The parts of `python -m chaos`: what they are given, what they hand back, which there are."""

import importlib
import importlib.util
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

PARTS = ("kills", "buyers", "standby", "database", "clock", "network", "simulation", "fuzz")
"""Modules of this package, in the order in which they run."""


class CannotHere(Exception):
    """This machine does not allow what the part does; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a part is given.

    Attributes:
        seed: of all that the part draws.
        rounds: the length: so many kills, ten times as many interleavings, and so on.
        folder: an empty folder of its own, removed after the run.
        say: shows a line on how far the part is; it replaces the line before.
    """

    seed: int
    rounds: int
    folder: Path
    say: Callable[[str], None] = lambda line: None

    def draws(self, name: str) -> random.Random:
        """A source of random numbers for a purpose, the same for the same seed."""
        return random.Random(f"{self.seed} {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a part has found.

    Attributes:
        did: what was done, such as "1,000 kills".
        broken: promises that were not kept, a sentence each.
        figures: what was counted or measured, by name with the unit.
    """

    did: str
    broken: tuple[str, ...] = ()
    figures: Mapping[str, int | float | str] = field(default_factory=dict)


class Part(Protocol):
    """A module of this package that does something to a market."""

    ABOUT: str

    def run(self, given: Given) -> Outcome:
        """Does it, and tells what came of it."""
        ...


def there() -> tuple[str, ...]:
    """Names of the parts that there are, in the order in which they run."""
    return tuple(name for name in PARTS if importlib.util.find_spec(f"chaos.{name}"))


def part(name: str) -> Part:
    """A part by its name, loaded."""
    return cast(Part, importlib.import_module(f"chaos.{name}"))
