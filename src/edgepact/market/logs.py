"""What a server tells of itself while it runs: a line an event, to standard error.

Each line has the time, a level, an event and its facts (device, piece, round, trace, seconds by
part), as text or as JSON. No token, password or address of a database stands in one: whatever looks
like one is taken out. Complaints of what strangers send are counted by address and summed up, so
that nobody can fill a disk with them.

The library that writes lines is loaded when the first one is written.
"""

import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

VALUE_CHARS_MAX = 300
"""Of a fact; what is longer is cut."""

WINDOW_S = 60.0
"""Complaints of one kind are told one by one, then counted, and summed up after so long."""

TOLD_EACH = 3
"""Complaints of one kind and address that are told one by one in a window."""

TOLD_MAX = 100
"""The same of all together."""

KINDS_MAX = 1024
"""Kinds of complaints that are told apart in a window; those beyond are counted together."""

TOO_LATE = 409
"""What every device hears whose round ended before its work did, so not worth a warning."""

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_SECRET = re.compile(r"\b[0-9a-fA-F]{40,}\b")
_NEVER = ("token", "password", "secret", "authorization", "url", "key")


@dataclass(slots=True)
class Log:
    """Where events go.

    Attributes:
        format: `text` or `json`.
        level: the least that is told.
        write: takes a line; standard error if None.
    """

    format: str = "text"
    level: str = "warning"
    write: Callable[[str], object] | None = None
    _logger: Any = None

    def debug(self, event: str, **facts: Any) -> None:
        """Tells what somebody who looks for an error wants to know."""
        self._tell("debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """Tells what happens as it should."""
        self._tell("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Tells what somebody should know."""
        self._tell("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Tells what somebody should do something about."""
        self._tell("error", event, facts)

    def say(self, words: str) -> None:
        """Tells people something whatever the level: as it is, or as an event of JSON."""
        if self.format == "text":
            _Lines(self.write).msg(words)
            return
        level, colon, rest = words.partition(": ")
        known = bool(colon) and level in LEVELS
        self._tell("warning", rest if known else words, {}, always=True)

    def tells(self, level: str) -> bool:
        """Whether events of a level are told."""
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def _tell(self, level: str, event: str, facts: dict[str, Any], *, always: bool = False) -> None:
        if not (always or self.tells(level)):
            return
        if self._logger is None:
            self._logger = self._made()
        getattr(self._logger, level)(event, **facts)

    def _made(self) -> Any:
        import structlog

        renderer: Any = structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "event"], sort_keys=False
        )
        if self.format == "json":
            renderer = structlog.processors.JSONRenderer(default=str)
        return structlog.wrap_logger(
            _Lines(self.write),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                _without_secrets,
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
            cache_logger_on_first_use=True,
        )


@dataclass(slots=True)
class Complaints:
    """What was refused, by whom and why: told a few times, then counted. For one event loop.

    Attributes:
        log: where it is told.
        clock: seconds.
    """

    log: Log
    clock: Callable[[], float] = time.monotonic
    _counts: "OrderedDict[tuple[str, int], int]" = field(default_factory=OrderedDict)
    _began_s: float | None = None
    _told: int = 0
    _others: int = 0

    def note(self, address: str, status: int, why: str, **facts: Any) -> None:
        """Somebody was refused something."""
        now_s = self.clock()
        if self._began_s is not None and now_s - self._began_s >= WINDOW_S:
            self.sum_up()
        if self._began_s is None:
            self._began_s = now_s
        kind = address, status
        if kind not in self._counts and len(self._counts) >= KINDS_MAX:
            self._others += 1
            return
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= TOLD_EACH and self._told < TOLD_MAX:
            self._told += 1
            tell = self.log.error if status >= 500 and status != 503 else self.log.info
            tell("refused", address=address, status=status, why=why, **facts)

    def sum_up(self) -> None:
        """Tells of how many were not told of one by one, and begins anew."""
        for (address, status), count in self._counts.items():
            if count > TOLD_EACH and self._told < 2 * TOLD_MAX:
                self._told += 1
                tell = self.log.info if status == TOO_LATE else self.log.warning
                tell("refused again", address=address, status=status, times=count)
            elif count > TOLD_EACH:
                self._others += count
        if self._others:
            self.log.warning("refused again", address="others", times=self._others)
        self._counts.clear()
        self._began_s, self._told, self._others = None, 0, 0


# ---------------------------------------------------------------- private


class _Lines:
    """What structlog hands finished lines to."""

    def __init__(self, write: Callable[[str], object] | None) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        """Writes a line, whole."""
        if self._write is not None:
            self._write(line)
            return
        sys.stderr.write(line.replace("\n", "\\n") + "\n")
        sys.stderr.flush()

    debug = info = warning = error = msg


def _without_secrets(
    logger: Any, method: str, facts: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {name: _plain(name, value) for name, value in facts.items()}


def _plain(name: str, value: Any) -> Any:
    if any(part in name.lower() for part in _NEVER):
        return "..."
    if isinstance(value, str):
        if name != "exception":
            value = value[:VALUE_CHARS_MAX]
        for pattern in (_URL, _BEARER, _SECRET):
            value = pattern.sub("...", value)
        return value
    if isinstance(value, float):
        return round(value, 6)
    return value if isinstance(value, int | bool | None) else _plain(name, str(value))
