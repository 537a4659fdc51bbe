"""One name for the way of a piece: from the device over the link and the queue to the ledger.

It follows from device and piece, so that whoever knows both finds the way in either's records. It
travels in the header `traceparent` of the W3C's Trace Context, which other tools read; a request
that brings another one keeps it.
"""

import hashlib
import re
import secrets

HEADER = "traceparent"

_SHAPE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def trace_of(device: str, piece: str) -> str:
    """The trace of a piece, 32 hexadecimal digits."""
    return hashlib.sha256(f"trace\n{device}\n{piece}".encode()).hexdigest()[:32]


def traceparent(trace: str) -> str:
    """The header for a trace, with a new name for the part of it that begins here."""
    return f"00-{trace}-{secrets.token_hex(8)}-01"


def read_traceparent(text: str | None) -> str | None:
    """The trace that a header names; None for what names none."""
    found = _SHAPE.fullmatch(text or "")
    if found is None or text is None or text.startswith("ff"):
        return None
    trace, span = found.groups()
    return None if set(trace) == {"0"} or set(span) == {"0"} else trace
