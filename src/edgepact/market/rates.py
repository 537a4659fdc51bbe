"""How much anybody may ask for in a time: a bucket for each asker, which fills at a rate.

What is taken may go into debt, so that one large body is let through and the next ones wait: what
is asked for before anything is read is only whether there is anything left.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

ASKERS_MAX = 65_536
"""Buckets that are kept, those that were used last; who is forgotten begins with a full one."""


@dataclass(slots=True, kw_only=True)
class Rate:
    """Buckets of one size, one for each asker. For one event loop.

    Attributes:
        per_s: what comes in, a second.
        burst: what a full bucket holds.
        clock: seconds.
    """

    per_s: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _left: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def wait_s(self, who: str) -> float:
        """Seconds until there is a whole one again; 0 if there is."""
        left = self._now(who)
        return 0.0 if left >= 1 else (1 - left) / self.per_s

    def take(self, who: str, count: int = 1) -> None:
        """Takes so many, into debt if there are fewer."""
        left = self._now(who) - count
        self._left[who] = left, self.clock()
        self._left.move_to_end(who)
        if len(self._left) > ASKERS_MAX:
            self._left.popitem(last=False)

    def _now(self, who: str) -> float:
        left, at_s = self._left.get(who, (self.burst, 0.0))
        return min(self.burst, left + (self.clock() - at_s) * self.per_s)
