"""Inputs that are nearly right, for every parser of bytes from outside.

A parser reads an input or raises the error that it documents, in bounded time and memory.
Whatever else it does is told with the input. One input again:

    python -m chaos.fuzz "PARSER" SEED [COUNT]
"""

import gc
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from chaos.fuzz.parsers import Parser, parsers, quiet
from chaos.parts import Given, Outcome

ABOUT = "inputs that are nearly right, for every parser of bytes from outside"

PER_ROUND = 1000
"""Inputs for each of `rounds`, over all parsers."""

SLOW_S = 2.0
"""Processor time after which one input is a finding."""

HANG_S = 10.0
"""Processor time after which it is given up."""

GROWN_MEBIBYTES_MAX = 512

FINDINGS_MAX = 5
"""Findings of a parser after which it is left alone."""


class Hangs(BaseException):
    """An input takes too much of the processor's time; no parser may catch this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What became of a parser's inputs."""

    name: str
    inputs: int
    right: int
    seconds: float
    findings: tuple[str, ...]


def fuzz(parser: Parser, seed: int, count: int, folder: Path) -> Read:
    """Hands inputs to a parser.

    Args:
        parser: the parser.
        seed: of the inputs.
        count: how many; the right ones come first, and have to be read.
        folder: for files.
    """
    draws = random.Random(f"{seed} {parser.name}")
    findings: list[str] = []
    right = done = 0
    place = folder / "input"
    peak, began_s = _peak(), time.process_time()
    with quiet(), _bounded():
        for number in range(count):
            content = (
                parser.seeds[number]
                if number < len(parser.seeds)
                else parser.change(draws, parser.seeds)
            )
            done += 1
            if parser.apart:
                (folder / "last input").write_bytes(content)
            why, start_s = None, time.process_time()
            signal.setitimer(signal.ITIMER_PROF, HANG_S)
            try:
                parser.read(content, place)
                right += 1
            except parser.errors as error:
                if number < len(parser.seeds) and parser.seeds_are_right:
                    why = f"a right input is refused: {error}"
                elif any(not each.isprintable() for each in str(error)):
                    why = f"a message that terminals cannot be handed: {str(error)!r}"
            except Hangs:
                why = f"{HANG_S:g} s of processor time were not enough"
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            took_s = time.process_time() - start_s
            # The right ones come first, and load what a parser needs.
            if why is None and took_s > SLOW_S and number >= len(parser.seeds):
                why = f"took {took_s:.1f} s of processor time"
            if why is not None:
                kept = folder / f"{parser.name}-{number}".replace(" ", "-").replace("/", "-")
                kept.write_bytes(content)
                findings.append(
                    f"{parser.name}, input {number}: {why[:300]}; it begins {content[:80]!r}"
                )
                if len(findings) >= FINDINGS_MAX:
                    break
    seconds = time.process_time() - began_s
    gc.collect()
    grown = _peak() - peak
    if grown > GROWN_MEBIBYTES_MAX:
        findings.append(f"{parser.name}: {grown:.0f} MiB were taken")
    return Read(
        name=parser.name,
        inputs=done,
        right=right,
        seconds=seconds,
        findings=tuple(findings),
    )


def apart(name: str, seed: int, count: int, folder: Path) -> Read:
    """As `fuzz`, in a process of its own, which may be ended by what it reads."""
    command = [sys.executable, "-m", "chaos.fuzz", name, str(seed), str(count), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(ended.stdout.splitlines()[-1])
        return Read(**{**told, "findings": tuple(told["findings"])})
    except (IndexError, ValueError, TypeError):
        last = folder / "last input"
        content = last.read_bytes() if last.exists() else b""
        return Read(
            name=name,
            inputs=0,
            right=0,
            seconds=0.0,
            findings=(
                f"{name}: the process ended with {ended.returncode} ({ended.stderr[-200:]}); "
                f"its last input begins {content[:80]!r}",
            ),
        )


def told(read: Read) -> str:
    """In one line, as JSON."""
    return json.dumps(asdict(read))


def run(given: Given) -> Outcome:
    """Hands each parser its share of the inputs."""
    total = PER_ROUND * given.rounds
    findings: list[str] = []
    figures: dict[str, int | float | str] = {}
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        listed = list(parsers(Path(folder)))
        share = total / sum(each.weight for each in listed)
        for parser in listed:
            count = max(len(parser.seeds), round(share * parser.weight))
            given.say(f"{parser.name}: {count:,} inputs")
            if parser.apart:
                found = apart(parser.name, given.seed, count, Path(folder))
            else:
                found = fuzz(parser, given.seed, count, Path(folder))
            done += found.inputs
            findings += found.findings
            speed = found.inputs / found.seconds if found.seconds else 0.0
            figures[f"{parser.name}, inputs a second"] = speed
    return Outcome(did=f"{done:,} inputs", broken=tuple(findings), figures=figures)


@contextmanager
def _bounded() -> Iterator[None]:
    """An input that takes too long is given up."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise Hangs

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, hangs)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _peak() -> float:
    """Most memory this process ever had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
