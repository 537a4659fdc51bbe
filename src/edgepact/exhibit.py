"""What a device may show people of a piece: a thumbnail, a cut text, a few seconds of sound.

What a device works on is shown to nobody. An *exhibit* is the exception that its owner agrees to:
small, so that it costs little beside the work, and of kinds that are safe to show to an operator.
`market.protocol.exhibits` says how it travels and what a server checks of it.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

TEXT_CHARS_MAX = 400
"""Of what was given, and of the answer."""

PICTURE_BYTES_MAX = 32 * 1024
PICTURE_SIDE_MAX = 160
"""Of a thumbnail, pixels."""

SOUND_BYTES_MAX = 144 * 1024
SOUND_SECONDS_MAX = 6

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
"""Characters that turn the direction of what stands around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """What is shown of a piece; what a job does not have stays empty.

    Attributes:
        given: what the piece was, in words: a prompt, a sentence. At most `TEXT_CHARS_MAX`.
        answer: what came of it, in words: a label, a text. Likewise.
        picture: PNG file, at most `PICTURE_BYTES_MAX`.
        sound: WAV file, at most `SOUND_BYTES_MAX`.
    """

    given: str = ""
    answer: str = ""
    picture: bytes = b""
    sound: bytes = b""


@runtime_checkable
class ExhibitedPart(Protocol):
    """What a `DevicePart` has besides if people can be shown its pieces."""

    def exhibit(self, piece: Any, result: Mapping[str, Any]) -> Exhibit:
        """What to show of a finished piece.

        Args:
            piece: one of `DevicePart.pieces`.
            result: what its `work` returned.
        """
        ...


def showable(character: str) -> bool:
    """Whether a character may stand in a text that is shown: no control but line ends and tabs,
    nothing that turns the direction of the page, and nothing that UTF-8 cannot say."""
    if character in "\n\t":
        return True
    return character not in _TURNING and unicodedata.category(character) not in ("Cc", "Cs")


def shortened(text: str) -> str:
    """A text as it may be shown: cut, and with `�` for characters that may not.

    Example:
        >>> shortened("a\\x00b"), len(shortened("word " * 1000)), shortened("abc")
        ('a�b', 400, 'abc')
    """
    cut = text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"
    return "".join(each if showable(each) else "\ufffd" for each in cut)


def named(label: object, truth: object = None) -> str:
    """A class that was found, with the true one where that is known and another."""
    found = "nothing" if label is None else str(label)
    return found if truth is None or truth == label else f"{found} (in truth {truth})"
