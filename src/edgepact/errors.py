"""What can go wrong that a user can mend.

::

    EdgepactError
    ├── InputError         a file, option or message says something impossible
    ├── MissingExtraError  an optional library is not installed
    └── MarketError        the live market refused or could not be reached

The command line prints the message of any of these as one line and exits with
status 2. Everything else is a defect of ours and may show a traceback. What was found is
repeated by `shown`, so that no message carries control characters, secrets or whole files.
"""

import json
from numbers import Integral
from typing import Any

SHOWN_CHARS_MAX = 60
"""Longest value that a message repeats."""

SENTENCE_CHARS_MAX = 500
"""Longest part of a message, such as what a library says of a broken file."""

SHOWN_ENTRIES_MAX = 8
"""Longest list whose entries a message repeats."""

SECRETS = ("token", "password", "secret")
"""How fields end whose values no message repeats."""


def shown(value: Any) -> str:
    """A value as files and messages spell it, on one line and shortened where it is long.

    Example:
        >>> print(shown(True), shown("cam-1"), shown([1, "x"]), shown(None))
        true "cam-1" [1, "x"] nothing
    """
    if value is None:
        return "nothing"
    if isinstance(value, str):
        text = json.dumps(value[: 2 * SHOWN_CHARS_MAX], ensure_ascii=False)
    elif isinstance(value, bool):
        text = json.dumps(value)
    elif isinstance(value, int) and abs(value) > 10**SHOWN_CHARS_MAX:
        text = f"a whole number of {value.bit_length()} bits"  # str() refuses the longest
    elif isinstance(value, bytes | bytearray | memoryview):
        text = f"{len(value)} bytes"
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list | tuple):
        text = _listed(value)
    else:
        text = str(value)
        if " at 0x" in text:  # an address says nothing
            text = f"an object of the class {type(value).__name__}"
    return _plain(text, SHOWN_CHARS_MAX)


def _listed(values: list[Any] | tuple[Any, ...]) -> str:
    nested = any(isinstance(each, dict | list | tuple) for each in values[:SHOWN_ENTRIES_MAX])
    if not values:
        return "an empty list"
    text = f"[{', '.join(shown(each) for each in values[:SHOWN_ENTRIES_MAX])}]"
    if nested or len(values) > SHOWN_ENTRIES_MAX or len(text) > SHOWN_CHARS_MAX:
        return f"a list of {len(values)}"
    return text


def _plain(text: str, chars_max: int) -> str:
    """Text on one line that any terminal can be handed: what is not printable is escaped."""
    text = " ".join(text[: 2 * chars_max].split("\n"))
    if not text.isprintable():
        text = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
        )
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


class EdgepactError(Exception):
    """Base of all errors whose message is written for the user."""


class InputError(EdgepactError):
    """Input that cannot be used: where it stood, what was expected, what came.

    Args:
        source: the file, option or message that holds the value.
        field: path of the value inside the source, such as `device[2].alpha`;
            empty when the source as a whole is meant.
        expected: what would have been accepted, as a noun phrase.
        found: what stood there: a value, which `shown` spells, or a phrase in words.

    Of fields that hold a secret, such as `enrol.token`, nothing that was found is repeated.

    Example:
        >>> print(InputError("fleet.toml", "device[2].alpha", "a number above 0", -3))
        fleet.toml: device[2].alpha: expected a number above 0, found -3
    """

    def __init__(self, source: object, field: str, expected: str, found: object) -> None:
        secret = next((word for word in SECRETS if field.lower().endswith(word)), None)
        absent = found is None or (isinstance(found, str) and found in ("nothing", "none"))
        if secret is not None and not absent:
            found = f"another {secret}"
        self.source, self.field, self.expected, self.found = str(source), field, expected, found
        place = f"{source}: {field}" if field else f"{source}"
        phrase = found if isinstance(found, str) else shown(found)
        parts = (_plain(part, SENTENCE_CHARS_MAX) for part in (place, expected, phrase))
        super().__init__("{}: expected {}, found {}".format(*parts))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Travels between processes whole."""
        return InputError, (self.source, self.field, self.expected, self.found)


class InputWarning(UserWarning):
    """Input that is used, though not all of it: the message names the file and what is left out."""


class MissingExtraError(EdgepactError):
    """An optional library is missing; the message is the line that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional library: pip install 'edgepact[{extra}]'")


class MarketError(EdgepactError):
    """The live market refused a request or could not be reached."""


def check_choice(source: str, field: str, found: object, choices: tuple[str, ...]) -> None:
    """Refuses a word that is none of a closed set, naming them all.

    Raises:
        InputError: `found` is none of `choices`.
    """
    if not isinstance(found, str) or found not in choices:
        raise InputError(source, field, f"one of {', '.join(choices)}", shown(found))


def check_count(source: str, field: str, found: object, *, most: int | None = None) -> None:
    """Refuses a number of things below 1, or above what there may be.

    Raises:
        InputError: `found` is no whole number of at least 1, or above `most`.
    """
    whole = isinstance(found, Integral) and not isinstance(found, bool)
    if not whole or found < 1 or (most is not None and found > most):  # type: ignore[operator]
        above = whole and most is not None and found > most  # type: ignore[operator]
        expected = f"from 1 to {most}" if above else "of at least 1"
        raise InputError(source, field, f"a whole number {expected}", shown(found))
