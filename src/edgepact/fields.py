"""TOML read field by field: every error names the file, the field, what was expected and found."""

import json
import math
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.fleet import SIZE_EXPECTED, file_exists, has_size

FILE_BYTES_MAX = 256 * 2**20
"""Largest TOML file read; larger fleets come as CSV or Parquet."""

SHOWN_CHARS_MAX = 60
"""Longest value an error repeats."""


def load(path: Path) -> dict[str, Any]:
    """The document a file holds.

    Raises:
        InputError: there is none, it is too large, or it is not TOML.
    """
    if not file_exists(path):
        raise InputError(path, "", "a TOML file", "none there")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise InputError(path, "", f"at most {FILE_BYTES_MAX} bytes", path.stat().st_size)
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    # ValueError: not TOML, not UTF-8, or a number of too many digits.
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(path, "", "TOML", f"{error}") from None


FRAMEWORK = ("efficiency", "solver", "job")
"""Tables beside a mechanism's terms in the file of a whole scenario."""


def load_terms(path: Path) -> dict[str, Any]:
    """What a file says of its mechanism, without the tables of `FRAMEWORK`.

    Raises:
        InputError: as `load`.
    """
    return {name: value for name, value in load(path).items() if name not in FRAMEWORK}


class Table:
    """One TOML table, read field by field; `close` refuses what nobody asked for."""

    def __init__(self, source: Path, path: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise InputError(source, path, "a table", shown(values))
        self._source, self._path, self._values = source, path, dict(values)
        self._known: list[str] = []

    def __contains__(self, name: str) -> bool:
        """Whether the table says something of a field."""
        return name in self._values

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        above: float | None = None,
        least: float | None = None,
    ) -> float:
        """A finite number, larger than `above` or at least `least`, of a reasonable size."""
        expected = "a finite number"
        if above is not None:
            expected += f" above {above:g}"
        elif least is not None:
            expected += f" of at least {least:g}"
        value = self._take(name, expected, default)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        # An integer beyond the range of floats cannot be converted, only compared.
        good = good and abs(value) <= 1e300 and math.isfinite(value)
        if not good or (above is not None and value <= above):
            raise self._wrong(name, expected, value)
        if least is not None and value < least:
            raise self._wrong(name, expected, value)
        if not has_size(float(value)):
            raise self._wrong(name, SIZE_EXPECTED, value)
        return float(value)

    def whole(self, name: str, default: int | None = None, *, least: int, most: int) -> int:
        """A whole number in a range."""
        expected = f"a whole number from {least} to {most}"
        value = self._take(name, expected, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name, expected, value)
        return value

    def choice(self, name: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of a few words."""
        expected = "one of " + ", ".join(options)
        value = self._take(name, expected, default)
        if not isinstance(value, str) or value not in options:
            raise self._wrong(name, expected, value)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._take(name, "true or false", default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def text(self, name: str, default: str) -> str:
        """A line of text."""
        value = self._take(name, "a line of text", default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self._wrong(name, "a line of text", value)
        return value

    def is_infinite(self, name: str) -> bool:
        """Whether a field is infinity, which `number` refuses; if so, it counts as read."""
        if self._values.get(name) != math.inf:
            return False
        self._take(name, "inf")
        return True

    def raw(self, name: str, expected: str) -> Any:
        """A value of any type, to be checked by the caller."""
        return self._take(name, expected)

    def close(self) -> None:
        """Raises if the table holds a field that nobody read."""
        for name in self._values:
            raise InputError(
                self._source, self._field(name), f"one of {', '.join(self._known)}", "this field"
            )

    def _take(self, name: str, expected: str, default: Any = None) -> Any:
        self._known.append(name)
        if name in self._values:
            return self._values.pop(name)
        if default is None:
            raise InputError(self._source, self._field(name), expected, "nothing")
        return default

    def _wrong(self, name: str, expected: str, value: Any) -> InputError:
        return InputError(self._source, self._field(name), expected, shown(value))

    def _field(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def table_file(path: Path, field: str, name: str) -> Path:
    """A table that a file names, relative to itself.

    Raises:
        InputError: there is none.
    """
    file = path.parent / name
    if not file_exists(file):
        raise InputError(path, field, "a file that exists", f"no file {shown(str(file))}")
    return file


def checked_names(path: Path, row: str, names: list[str] | None, rows: int) -> list[str]:
    """Names that differ, numbered ones where there are none.

    Raises:
        InputError: a name comes twice.
    """
    if names is None:
        return [f"{row}-{at + 1}" for at in range(rows)]
    if len(set(names)) < len(names):
        repeated = Counter(names).most_common(1)[0][0]
        expected = "names that differ"
        raise InputError(path, f"{row}.name", expected, f"{shown(repeated)} more than once")
    return names


def shown(value: Any) -> str:
    """A value as the file spells it, shortened where it is long."""
    if isinstance(value, bool | str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, int) and abs(value) > 10**SHOWN_CHARS_MAX:
        text = f"a whole number of {value.bit_length()} bits"  # str() refuses the longest
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "a list" if value else "an empty list"
    else:
        text = str(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"
