"""Compressed HTTP bodies: gzip and deflate, both ways, with a bound on what a body inflates to.

A few kilobytes can inflate to gigabytes, so that what comes out is counted while it does, and
nothing is inflated at once that the bound does not allow.
"""

import gzip
import zlib
from functools import lru_cache

from edgepact.errors import InputError, shown

SOURCE = "request"

GZIP, DEFLATE, IDENTITY = "gzip", "deflate", "identity"

WINDOW = {GZIP: zlib.MAX_WBITS | 16, DEFLATE: zlib.MAX_WBITS}

LEVEL = 1
"""Of what is compressed here: activations compress badly, and a level more costs twice the time."""

LEAST_BYTES = 1024
"""Smaller answers are not compressed."""


class TooLarge(InputError):
    """A body inflates to more than it may."""


class Inflating:
    """A body that is inflated as it comes.

    Args:
        encoding: `gzip` or `deflate` (of zlib's format, or the raw one that some clients send).
        bytes_max: that it may inflate to.
        source: whose body it is, for what is said.
    """

    def __init__(self, encoding: str, bytes_max: int, source: str = SOURCE) -> None:
        self._source = source
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._stream = zlib.decompressobj(WINDOW[encoding])
        self._began = False
        self._out = 0

    def inflate(self, chunk: bytes) -> bytes:
        """What a chunk of the body inflates to.

        Raises:
            InputError: it is not compressed so, or something follows its end.
            TooLarge: the whole is more than it may be.
        """
        if not chunk:
            return b""
        if not self._began and self._encoding == DEFLATE and chunk[0] & 0x0F != 8:
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._began = True
        if self._stream.eof:
            raise InputError(self._source, "body", f"one {self._encoding} stream", "more behind it")
        try:
            out = self._stream.decompress(chunk, self._bytes_max - self._out + 1)
        except zlib.error as error:
            raise InputError(
                self._source, "body", f"a {self._encoding} stream", f"{error}"
            ) from None
        self._out += len(out)
        if self._out > self._bytes_max:
            expected = f"a body that inflates to at most {self._bytes_max} bytes"
            raise TooLarge(self._source, "body", expected, "a larger one")
        if self._stream.unused_data:
            raise InputError(self._source, "body", f"one {self._encoding} stream", "more behind it")
        return out

    def end(self) -> None:
        """The body has come to its end.

        Raises:
            InputError: the stream has not.
        """
        if not self._stream.eof:
            raise InputError(self._source, "body", f"a whole {self._encoding} stream", "a cut one")


def encoding_of(header: str, source: str = SOURCE) -> str | None:
    """How a body is compressed; None if it is not.

    Args:
        header: the value of `Content-Encoding`, empty where there is none.
        source: whose body it is, for what is said.

    Raises:
        InputError: by something that is not known here, or twice.
    """
    name = header.strip().lower()
    if name in ("", IDENTITY):
        return None
    if name not in WINDOW:
        raise InputError(source, "Content-Encoding", f"{GZIP}, {DEFLATE} or none", shown(header))
    return name


@lru_cache(maxsize=64)
def accepted(header: str) -> str | None:
    """How an answer may be compressed by what `Accept-Encoding` says; None for not at all.

    Example:
        >>> accepted("br, gzip;q=0.5, deflate;q=0")
        'gzip'
    """
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = 1.0
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = _number(value)
        weights[name.strip()] = weight
    best = max((GZIP, DEFLATE), key=lambda name: weights.get(name, 0.0))
    return best if weights.get(best, 0.0) > 0 else None


def compressed(content: bytes, encoding: str) -> bytes:
    """A body, compressed."""
    if encoding == GZIP:
        return gzip.compress(content, LEVEL, mtime=0)
    return zlib.compress(content, LEVEL)


def _number(text: str) -> float:
    digits = text.strip()
    return float(digits) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else 0.0
