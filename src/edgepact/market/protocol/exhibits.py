"""How an exhibit travels, and what is checked of it before anybody sees it.

A message of JSON with `given` and `answer`, texts, and `picture` and `sound`, files in base 64;
what there is not is left out. Nothing is taken on trust: a picture is a PNG of three kinds of chunk
whose pixels inflate to exactly what its head says, a sound is a WAV file of one head and its
samples.
"""

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping

from edgepact.errors import InputError
from edgepact.exhibit import (
    PICTURE_BYTES_MAX,
    PICTURE_SIDE_MAX,
    SOUND_BYTES_MAX,
    TEXT_CHARS_MAX,
    Exhibit,
    showable,
)

EXHIBIT_BYTES_MAX = 256 * 1024
"""Of a message: both files in base 64, both texts."""

PICTURE_CHARS_MAX, SOUND_CHARS_MAX = (
    4 * -(-most // 3) for most in (PICTURE_BYTES_MAX, SOUND_BYTES_MAX)
)
"""Of a file in base 64."""

FIELDS = ("given", "answer", "picture", "sound")

RATE_LEAST, RATE_MOST = 4_000, 48_000
"""Samples a second of a sound."""

_SOURCE = "exhibit"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNKS_MAX = 64
_CHANNELS = {0: 1, 2: 3}
"""Of the colour types that are taken: grey, red with green and blue."""

_WAV = struct.Struct("<4sI4s4sIHHIIHH4sI")


def exhibit_json(exhibit: Exhibit) -> dict[str, object]:
    """The message."""
    told: dict[str, object] = {}
    for name in FIELDS:
        value = getattr(exhibit, name)
        if value:
            told[name] = value if isinstance(value, str) else base64.b64encode(value).decode()
    return told


def read_exhibit(body: Mapping[str, object]) -> Exhibit:
    """What a stranger's message shows.

    Raises:
        InputError: of the field that cannot be shown.
    """
    unknown = sorted(set(body) - set(FIELDS))
    if unknown:
        raise InputError(_SOURCE, unknown[0][:64], f"none but {', '.join(FIELDS)}", "it")
    if not any(body.values()):
        raise InputError(_SOURCE, "", f"at least one of {', '.join(FIELDS)}", "none")
    picture = _file("picture", body.get("picture", ""), PICTURE_BYTES_MAX)
    sound = _file("sound", body.get("sound", ""), SOUND_BYTES_MAX)
    if picture:
        _check_png(picture)
    if sound:
        _check_wav(sound)
    return Exhibit(
        given=_text("given", body.get("given", "")),
        answer=_text("answer", body.get("answer", "")),
        picture=picture,
        sound=sound,
    )


# ---------------------------------------------------------------- private


def _text(name: str, value: object) -> str:
    expected = f"a text of at most {TEXT_CHARS_MAX} characters"
    if not isinstance(value, str):
        raise InputError(_SOURCE, name, expected, type(value).__name__)
    if len(value) > TEXT_CHARS_MAX:
        raise InputError(_SOURCE, name, expected, f"{len(value)}")
    for character in value:
        if not showable(character):
            without = "a text without control characters"
            raise InputError(_SOURCE, name, without, f"U+{ord(character):04X}")
    return value


def _file(name: str, value: object, bytes_max: int) -> bytes:
    expected = f"a file of at most {bytes_max} bytes in base 64"
    if not isinstance(value, str) or not value.isascii():
        raise InputError(_SOURCE, name, expected, "another value")
    try:
        content = base64.b64decode(value, validate=True)
    except binascii.Error:
        raise InputError(_SOURCE, name, expected, "no base 64") from None
    if len(content) > bytes_max:
        raise InputError(_SOURCE, name, expected, f"{len(content)} bytes")
    return content


def _not_png(expected: str, found: object) -> InputError:
    return InputError(_SOURCE, "picture", expected, found)


def _check_png(content: bytes) -> None:
    """Whether it is a small PNG, grey or in colour, of 8 bits, with nothing beside its pixels.

    Raises:
        InputError: it is none.
    """
    chunks = _chunks(content)
    names = [name for name, _ in chunks]
    plain = [b"IHDR", *[b"IDAT"] * (len(names) - 2), b"IEND"]
    if len(names) < 3 or names != plain:
        raise _not_png("a PNG of the chunks IHDR, IDAT and IEND", "others")
    head = chunks[0][1]
    if len(head) != 13 or chunks[-1][1]:
        raise _not_png("a PNG whose head has 13 bytes and whose end has none", "others")
    width, height, *kind = struct.unpack(">IIBBBBB", head)
    if not (1 <= width <= PICTURE_SIDE_MAX and 1 <= height <= PICTURE_SIDE_MAX):
        most = f"at most {PICTURE_SIDE_MAX} x {PICTURE_SIDE_MAX} pixels"
        raise _not_png(most, f"{width} x {height}")
    depth, colour, *ways = kind
    if depth != 8 or colour not in _CHANNELS or ways != [0, 0, 0]:
        raise _not_png("8 bits of grey or of red, green and blue, not interlaced", f"{kind}")
    row = 1 + width * _CHANNELS[colour]
    inflating = zlib.decompressobj()
    try:
        # One byte more than there may be: what would inflate beyond is never made.
        pixels = inflating.decompress(b"".join(data for _, data in chunks[1:-1]), row * height + 1)
    except zlib.error:
        raise _not_png("pixels that can be inflated", "others") from None
    if len(pixels) != row * height or not inflating.eof or inflating.unused_data:
        raise _not_png(f"{row * height} bytes of rows", "another number")
    if max(pixels[::row]) > 4:
        raise _not_png("filters of rows from 0 to 4", max(pixels[::row]))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Names and contents of a PNG's chunks, up to its end."""
    if not content.startswith(_PNG):
        raise _not_png("a PNG file", "another")
    found: list[tuple[bytes, bytes]] = []
    at = len(_PNG)
    while at < len(content):
        if len(found) == _CHUNKS_MAX:
            raise _not_png(f"at most {_CHUNKS_MAX} chunks", "more")
        size = int.from_bytes(content[at : at + 4])
        end = at + 12 + size
        if end > len(content):
            raise _not_png("a PNG that is whole", "a part of one")
        name, data = content[at + 4 : at + 8], content[at + 8 : end - 4]
        if zlib.crc32(name + data) != int.from_bytes(content[end - 4 : end]):
            raise _not_png("chunks that their checksums fit", "others")
        found.append((name, data))
        at = end
    return found


def _check_wav(content: bytes) -> None:
    """Whether it is a WAV file of 16-bit samples of one channel, with nothing beside them.

    Raises:
        InputError: it is none.
    """
    if len(content) < _WAV.size:
        raise InputError(_SOURCE, "sound", "a WAV file", "another")
    head = _WAV.unpack_from(content)
    riff, whole, kind, form, form_size, coding, channels, rate, pace, frame, bits, data, size = head
    names = (riff, kind, form, data) == (b"RIFF", b"WAVE", b"fmt ", b"data")
    sizes = (whole, size) == (len(content) - 8, len(content) - _WAV.size)
    plain = (form_size, coding, channels, frame, bits) == (16, 1, 1, 2, 16)
    if not (names and sizes and plain and size > 0 and size % 2 == 0 and pace == 2 * rate):
        expected = "a WAV file of a head of 44 bytes and 16-bit samples of one channel"
        raise InputError(_SOURCE, "sound", expected, "another")
    if not RATE_LEAST <= rate <= RATE_MOST:
        raise InputError(_SOURCE, "sound", f"{RATE_LEAST} to {RATE_MOST} samples a second", rate)
