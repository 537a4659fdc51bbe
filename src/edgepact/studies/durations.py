"""How long a study will take, said before it begins.

A study that knows reckons the CPU seconds of its sizes from rates that were recorded once, on one
core of the machine that made the pages of docs/studies; another core is faster or slower, and so is
one that is busy. Progress bars tell what is left as it really goes.
"""

from typing import Any

from edgepact.studies.asked import Asked

BEGIN_S = 15.0
"""Seconds in which a process loads JAX and compiles what it needs first."""

UNKNOWN = "has not been recorded; each part tells as it goes"


def how_long(name: str, reckoned_s: float | None, asked: Asked) -> str:
    """The duration of a study, in a sentence.

    Args:
        name: of the study.
        reckoned_s: CPU seconds of one core by recorded rates; None if nothing was recorded.
        asked: how many processes share it, and whether it is a smoke run.
    """
    if asked.smoke:
        return f"{name}: a smoke run, which takes up to some minutes, mostly to compile."
    if reckoned_s is None:
        return f"{name}: how long it takes {UNKNOWN}."
    shared = f" of each of {asked.workers} cores" if asked.workers > 1 else " of one core"
    took = in_words(reckoned_s / asked.workers + BEGIN_S)
    return f"{name}: about {took}{shared}, reckoned by rates recorded on another machine."


def in_words(seconds: float) -> str:
    """A duration as one says it."""
    if seconds < 90.0:
        return f"{10 * max(1, round(seconds / 10.0))} seconds"
    if seconds < 90 * 60.0:
        return f"{round(seconds / 60.0)} minutes"
    return f"{seconds / 3600.0:.1f} hours"


def reckoned(module: Any, config: Any) -> float | None:
    """CPU seconds of a study by its own `seconds`; None if it has none."""
    known = getattr(module, "seconds", None)
    return None if known is None else float(known(config))
