"""What was asked for before anything was measured, beside what came of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.pages import percent, table


class Verdict(NamedTuple):
    """A mark and what was measured, in the same unit.

    Attributes:
        what: was asked for, in words.
        asked: the mark.
        measured: what it is held against.
        most: whether the mark is an upper bound.
        error: standard error of what was measured, where there is one.
    """

    what: str
    asked: float
    measured: float
    most: bool = False
    error: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it is enough."""
        return self.measured <= self.asked if self.most else self.measured >= self.asked

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return self._asdict() | {"reached": self.reached}


def verdict_table(found: Sequence[Verdict], shown: Callable[[float], str] = percent) -> str:
    """All of them, a line each, after a sentence on how many were reached."""
    rows = [
        [
            each.what,
            f"at {'most' if each.most else 'least'} {shown(each.asked)}",
            shown(each.measured) + ("" if each.error is None else f" ± {shown(each.error)}"),
            "reached" if each.reached else "**missed**",
        ]
        for each in found
    ]
    reached = sum(each.reached for each in found)
    lead = f"{reached} of {len(found)} marks are reached."
    return lead + "\n\n" + table(["mark", "asked", "measured", "reached"], rows)


def standard_error(values: Float[np.ndarray, " values"]) -> float:
    """Standard error of a mean; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(len(values)))
