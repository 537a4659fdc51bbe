"""What can go wrong that a user can mend.

::

    EdgepactError
    ├── InputError         a file, option or message says something impossible
    ├── MissingExtraError  an optional library is not installed
    └── MarketError        the live market refused or could not be reached

The command line prints the message of any of these as one line and exits with
status 2. Everything else is a defect of ours and may show a traceback.
"""


class EdgepactError(Exception):
    """Base of all errors whose message is written for the user."""


class InputError(EdgepactError):
    """Input that cannot be used: where it stood, what was expected, what came.

    Args:
        source: the file, option or message that holds the value.
        field: path of the value inside the source, such as `device[2].alpha`;
            empty when the source as a whole is meant.
        expected: what would have been accepted, as a noun phrase.
        found: what stood there.

    Example:
        >>> print(InputError("fleet.toml", "device[2].alpha", "a number above 0", -3))
        fleet.toml: device[2].alpha: expected a number above 0, found -3
    """

    def __init__(self, source: object, field: str, expected: str, found: object) -> None:
        self.source, self.field, self.expected, self.found = str(source), field, expected, found
        place = f"{source}: {field}" if field else f"{source}"
        shown = found if isinstance(found, str) else repr(found)
        super().__init__(f"{place}: expected {expected}, found {shown}")


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
    if found not in choices:
        raise InputError(source, field, f"one of {', '.join(choices)}", found)


def check_count(source: str, field: str, found: int) -> None:
    """Refuses a number of things below 1.

    Raises:
        InputError: `found` is no whole number of at least 1.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(source, field, "a whole number of at least 1", found)
