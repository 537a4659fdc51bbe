"""Fields of files and messages: one set of checks, one way of showing what was found.

The checks (`check_number`, `check_whole`, ...) take a value of any type from outside, pass it on
if it is what a field wants, and else raise an `InputError` that names source, field, what was
expected and found. `Table` reads TOML with them field by field, the market reads its messages
with them. A device loads this module, so it imports nothing large; `shown` itself stands beside
`InputError`, which spells values with it too.
"""

import math
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.errors import shown as shown

FILE_BYTES_MAX = 256 * 2**20
"""Largest TOML file read; larger fleets come as CSV or Parquet."""

TEXT_CHARS_MAX = 4096
"""Longest line of text where a field states no limit of its own: a path."""

SIZE_MIN, SIZE_MAX = 1e-30, 1e30
"""Sizes a number may have. Wider than any unit needs, and narrow enough that no product,
quotient or power of them that the mechanisms form leaves the range of floats."""

FLOAT_MAX = sys.float_info.max


def check_number(
    source: object,
    field: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    sized: bool = True,
) -> float:
    """A finite number in a range, of a size that can be computed with.

    Args:
        source: file or message.
        field: path of the value inside it.
        value: what stood there.
        above, least: what the number must be larger than, or not below.
        most: what it must not exceed.
        sized: whether it also needs a size that mechanisms can compute with.

    Raises:
        InputError: no number, not finite, out of range, or no size from `SIZE_MIN` to `SIZE_MAX`.
    """
    expected, value = "a finite number" + _range(above, least, most), plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(source, field, expected, shown(value))
    # An integer beyond the range of floats cannot be converted, only compared: not by isfinite.
    if not abs(value) < math.inf or (not sized and abs(value) > FLOAT_MAX):
        raise InputError(source, field, expected, shown(value))
    if (above is not None and value <= above) or (least is not None and value < least):
        raise InputError(source, field, expected, shown(value))
    if most is not None and value > most:
        raise InputError(source, field, expected, shown(value))
    if sized and not has_size(value):
        raise InputError(source, field, size_expected(value), shown(value))
    return float(value)


def _range(above: float | None, least: float | None, most: float | None) -> str:
    words = [] if above is None else [f"above {above:g}"]
    words += [] if least is None else [f"of at least {least:g}"]
    words += [] if most is None else [f"of at most {most:g}"]
    return " " + " and ".join(words) if words else ""


def has_size(value: Any) -> Any:
    """Whether a number, or each of an array, is 0 or of a size that can be computed with."""
    size = abs(value)
    return (size == 0.0) | ((size >= SIZE_MIN) & (size <= SIZE_MAX))


def size_expected(value: float | int) -> str:
    """What would have been accepted instead of a number without `has_size`."""
    if abs(value) < SIZE_MIN:
        return f"0 or a number of a size of at least {SIZE_MIN:g}"
    return f"a number of at most {SIZE_MAX:g}" if value > 0 else f"one of at least {-SIZE_MAX:g}"


def check_whole(source: object, field: str, value: object, *, least: int, most: int) -> int:
    """A whole number in a range.

    Raises:
        InputError: anything else; 1.0 and true are no whole numbers.
    """
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        expected = f"a whole number from {least} to {most}"
        raise InputError(source, field, expected, shown(value))
    return value


def check_text(
    source: object, field: str, value: object, *, chars_max: int = TEXT_CHARS_MAX
) -> str:
    """A line of text that is not blank.

    Raises:
        InputError: no text, blank, too long, or with characters that cannot be printed.
    """
    # What is not printable includes surrogates, which no encoding takes.
    good = isinstance(value, str) and len(value) <= chars_max and value.isprintable()
    if not isinstance(value, str) or not good or not value.strip():
        expected = "a line of text"
        if chars_max != TEXT_CHARS_MAX or (isinstance(value, str) and len(value) > chars_max):
            expected = f"a text of 1 to {chars_max} printable characters"
        raise InputError(source, field, expected, shown(value))
    return value


def check_choice(source: object, field: str, value: object, options: Iterable[str]) -> str:
    """One of a few words.

    Raises:
        InputError: another word, or none.
    """
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        found = shown(value)
        if isinstance(value, str) and (meant := nearest(value, options)):
            found += f"; did you mean {shown(meant)}?"
        raise InputError(source, field, f"one of {', '.join(options)}", found)
    return value


def check_flag(source: object, field: str, value: object) -> bool:
    """true or false.

    Raises:
        InputError: anything else.
    """
    value = plain(value)
    if not isinstance(value, bool):
        raise InputError(source, field, "true or false", shown(value))
    return value


def check_interval(
    source: object, low: str, first: float, high: str, second: float, *, strict: bool = False
) -> None:
    """Two numbers of which the second is no smaller than the first, or larger.

    Args:
        source: file or message.
        low, first: field and value of the lower end.
        high, second: of the upper end.
        strict: whether the ends need to differ.

    Raises:
        InputError: they are the other way round; both are named.
    """
    if second < first or (strict and second == first):
        expected = f"a number {'above' if strict else 'of at least'} {low}"
        found = f"{shown(second)} beside {low} = {shown(first)}"
        raise InputError(source, high, expected, found)


def check_path(source: object, field: str, value: object) -> Path:
    """A path, or the text of one; whether anything is there is left to the caller.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(source, field, "a path", shown(value))
    return Path(value)


def check_callable(source: object, field: str, value: object) -> None:
    """Something that can be called.

    Raises:
        InputError: anything else.
    """
    if not callable(value):
        raise InputError(source, field, "a function", shown(value))


def check_kind(source: object, field: str, value: object, kinds: Any, expected: str) -> None:
    """An object of one of some classes.

    Raises:
        InputError: an object of another.
    """
    if not isinstance(value, kinds):
        raise InputError(source, field, expected, shown(value))


def plain(value: Any) -> Any:
    """A scalar of NumPy as the Python number that files hold; all else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def as_numbers(source: object, field: str, values: Any, *, row: str = "") -> np.ndarray:
    """A list or an array of numbers as an array of floats, of whatever shape.

    Args:
        source, field, values: as for `check_number`.
        row: what an entry belongs to, as in `device[2].alpha`, if it is not an entry of the field.

    Raises:
        InputError: it holds what are no numbers, or numbers beyond the range of floats, or its
            rows differ in length.
    """
    expected = "a list or an array of numbers"
    if isinstance(values, list | tuple):
        nested = any(isinstance(each, list | tuple) or np.ndim(each) > 0 for each in values[:1])
        if not nested:
            if not set(map(type, values)) <= {int, float}:
                for at, each in enumerate(values):
                    place = f"{row}[{at + 1}].{field}" if row else f"{field}[{at}]"
                    check_number(source, place, each, sized=False)
            try:
                return np.array(values, np.float64)
            except OverflowError:
                raise InputError(source, field, expected, shown(values)) from None
    elif not hasattr(values, "__array__"):
        raise InputError(source, field, expected, shown(values))
    elif isinstance(values, np.ma.MaskedArray):
        raise InputError(source, field, expected, "an array of which parts are masked")
    try:
        column = np.asarray(values)
    except (ValueError, TypeError):
        raise InputError(source, field, expected, shown(values)) from None
    if column.dtype.kind not in "iuf":
        raise InputError(source, field, expected, f"values of the type {column.dtype}")
    return column if column.dtype.kind == "f" else column.astype(np.float64)


def check_list(
    source: object, field: str, value: object, *, of: str, least: int = 0, most: int
) -> list[Any]:
    """A list of a length; its entries are left to the caller.

    Args:
        source, field, value: as for `check_number`.
        of: what its entries are, in the plural.
        least, most: how many there may be.

    Raises:
        InputError: no list, too short or too long.
    """
    if not isinstance(value, list) or not least <= len(value) <= most:
        count = f"at most {most}" if least == 0 else f"{least} to {most}"
        count = f"{most}" if least == most else count
        found = f"{len(value)}" if isinstance(value, list) else shown(value)
        raise InputError(source, field, f"a list of {count} {of}", found)
    return value


def check_table(
    source: object, field: str, value: object, *, kind: str = "a table"
) -> dict[str, Any]:
    """A table of TOML, or whatever `kind` calls a mapping.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, dict):
        raise InputError(source, field, kind, shown(value))
    return value


def check_column(
    source: object, row: str, name: str, column: np.ndarray, *, strict: bool
) -> np.ndarray:
    """A column of numbers that can be computed with; the first that cannot is named.

    Args:
        source: where it stands.
        row: what a row is.
        name: name of the column.
        column: its values, shape `(rows,)`.
        strict: whether they need to be above 0 instead of at least 0.

    Raises:
        InputError: a value is not finite, negative, too small or too large.
    """
    good = (column > 0.0 if strict else column >= 0.0) & has_size(column)
    if not good.all():
        at = int(np.argmin(good))
        above, least = (0.0, None) if strict else (None, 0.0)
        field = f"{row}[{at + 1}].{name}"
        check_number(source, field, float(column[at]), above=above, least=least)
    return column


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that a word is probably a misspelling of, if there is one.

    Words joined by `_` are compared one by one, so that `price_max` is no slip for `price_min`.

    Example:
        >>> nearest("capcity", ("alpha", "capacity")), nearest("price_max", ("price_min",))
        ('capacity', None)
    """
    scores = {option: _likeness(_words(word), _words(option)) for option in options}
    best = max(scores, key=lambda option: scores[option], default=None)
    return best if best is not None and scores[best] >= LIKENESS_MIN else None


LIKENESS_MIN = 0.66
"""How alike two words are of which one is taken for a misspelling of the other."""

NAME_CHARS_MAX = 64
"""Longest word that is compared with others; comparing takes its square."""


def _words(name: str) -> list[str]:
    return re.split(r"[_\W]+", name.strip().casefold())


def _likeness(these: list[str], those: list[str]) -> float:
    if "".join(these) == "".join(those):
        return 1.0
    longest = max(sum(map(len, words)) for words in (these, those))
    if len(these) != len(those) or longest > NAME_CHARS_MAX:
        return 0.0
    return min(SequenceMatcher(None, a, b).ratio() for a, b in zip(these, those, strict=True))


def load(path: Path) -> dict[str, Any]:
    """The document a file holds.

    Raises:
        InputError: there is none, it is too large, or it is not TOML.
    """
    expect_file(path, "a TOML file")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise InputError(path, "", f"at most {FILE_BYTES_MAX} bytes", path.stat().st_size)
    content = b""
    try:
        content = path.read_bytes()
        if other := foreign(content):
            raise InputError(path, "", "TOML in UTF-8", other)
        return tomllib.loads(without_mark(content).decode())
    except UnicodeDecodeError as error:
        raise InputError(path, "", "TOML in UTF-8", other_encoding(content, error.start)) from None
    # ValueError: not TOML, or a number of too many digits.
    except (ValueError, OSError, RecursionError) as error:
        raise _no_toml(path, without_mark(content).decode(), f"{error}") from None


def _no_toml(path: Path, text: str, told: str) -> InputError:
    """What the reader of TOML says: where, and what to write instead where that is likely.

    The line itself is not repeated, since it may hold a password.
    """
    place = ""
    if at := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", told):
        told, place = at[1], f"line {at[2]}, column {at[3]}"
        line = text.split("\n")[int(at[2]) - 1]
        if re.search(r"=\s*[+-]?\d+,\d+\s*(#.*)?$", line):
            told += "; numbers have a decimal point, not a comma"
    if twice := re.search(r"Cannot declare \('([\w-]+)',\) twice", told):
        told += f"; of several each is written [[{twice[1]}]]"
    if "Cannot overwrite a value" in told:
        told += ": a name twice; is a line such as [job] or [[device]] missing before it?"
    return InputError(path, place, "TOML", f"what its reader refuses: {told}")


FOREIGN = (
    (b"\x1f\x8b", "a compressed file (gzip): unpack it"),
    (b"BZh", "a compressed file (bzip2): unpack it"),
    (b"\xfd7zXZ\x00", "a compressed file (xz): unpack it"),
    (b"\x28\xb5\x2f\xfd", "a compressed file (zstd): unpack it"),
    (b"PK\x03\x04", "an archive or a spreadsheet: save it as text"),
    (b"PAR1", "a Parquet file"),
    (b"\xff\xfe\0\0", "a byte order mark of UTF-32: save it as UTF-8"),
    (b"\xff\xfe", "a byte order mark of UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "a byte order mark of UTF-16: save it as UTF-8"),
)
"""First bytes of files that are no text in UTF-8, and what to say of them."""


def foreign(content: bytes) -> str | None:
    """What a file is that should have been text in UTF-8 and begins as another kind does."""
    for start, kind in FOREIGN:
        if content.startswith(start):
            return kind
    if b"\0" in content[:100]:
        return "bytes that are 0 (UTF-16, or no text): save it as UTF-8"
    return None


BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def without_mark(content: bytes) -> bytes:
    """A text without the byte order marks before it: there are two where a program has put one
    before a text that had it."""
    while content.startswith(BYTE_ORDER_MARK):
        content = content.removeprefix(BYTE_ORDER_MARK)
    return content


def other_encoding(content: bytes, at: int) -> str:
    """Which byte, at a place, shows that a text is in another encoding than UTF-8."""
    line = len(re.findall(rb"\r\n|\r|\n", content[:at])) + 1
    return f"a byte of another encoding (0x{content[at]:02x}, line {line}): save it as UTF-8"


FRAMEWORK = ("efficiency", "solver", "job")
"""Tables beside a mechanism's terms in the file of a whole scenario."""


def terms_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a document says of its mechanism, without the tables of `FRAMEWORK`."""
    return {name: value for name, value in document.items() if name not in FRAMEWORK}


class Table:
    """One TOML table, read field by field; `close` refuses what nobody asked for."""

    def __init__(self, source: Path, path: str, values: Any) -> None:
        self._source, self._path = source, path
        self._values = dict(check_table(source, path, values))
        self._known: list[str] = []
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether the table says something of a field, which it may from now on."""
        self._known.append(name)
        return name in self._values

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        above: float | None = None,
        least: float | None = None,
        most: float | None = None,
    ) -> float:
        """A finite number, larger than `above`, within `least` and `most`, of a reasonable size."""
        value = self._take(name, "a finite number" + _range(above, least, most), default)
        return check_number(
            self._source, self._field(name), value, above=above, least=least, most=most
        )

    def whole(self, name: str, default: int | None = None, *, least: int, most: int) -> int:
        """A whole number in a range."""
        value = self._take(name, f"a whole number from {least} to {most}", default)
        return check_whole(self._source, self._field(name), value, least=least, most=most)

    def choice(self, name: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of a few words."""
        value = self._take(name, "one of " + ", ".join(options), default)
        return check_choice(self._source, self._field(name), value, options)

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._take(name, "true or false", default)
        return check_flag(self._source, self._field(name), value)

    def text(self, name: str, default: str | None = None) -> str:
        """A line of text."""
        value = self._take(name, "a line of text", default)
        return check_text(self._source, self._field(name), value)

    def interval(
        self,
        low: str,
        high: str,
        *,
        low_default: float | None = None,
        least: float,
        strict: bool = False,
    ) -> tuple[float, float]:
        """Two numbers of at least `least`, the first no larger than the second, or smaller."""
        if low_default is not None and low not in self:
            bound = {"above" if strict else "least": low_default}
            return low_default, self.number(high, **bound)
        first, second = self.number(low, least=least), self.number(high, least=least)
        names = self._field(low), self._field(high)
        check_interval(self._source, names[0], first, names[1], second, strict=strict)
        return first, second

    def is_infinite(self, name: str) -> bool:
        """Whether a field is infinity, which `number` refuses; if so, it counts as read."""
        if self._values.get(name) != math.inf:
            return False
        self._take(name, "inf")
        return True

    def is_list_of_one(self, name: str) -> bool:
        """Whether a field is a list with one entry; it does not count as read."""
        value = self._values.get(name)
        return isinstance(value, list) and len(value) == 1

    def raw(self, name: str, expected: str) -> Any:
        """A value of any type, to be checked by the caller."""
        return self._take(name, expected)

    def place(self, name: str) -> tuple[Path, str]:
        """What errors in a field name: the file, and the field's path in it."""
        return self._source, self._field(name)

    def close(self) -> None:
        """Raises if the table holds a field that nobody read."""
        known = list(dict.fromkeys(self._known))
        # Beside the top of a file the tables of a scenario may be meant.
        tables = () if self._path else FRAMEWORK
        for name in self._values:
            unread = [each for each in known if each not in self._read]
            meant = nearest(name, unread) or nearest(name, (*known, *tables))
            found = "this field" + (f"; did you mean `{meant}`?" if meant else "")
            raise InputError(self._source, self._field(name), f"one of {', '.join(known)}", found)

    def expect_known(self, *names: str) -> None:
        """Raises if the table holds a field of another name, before any field is missed.

        Args:
            names: all that such a table can say, also what does not go together: `close` looks at
                that.
        """
        unknown = {name: value for name, value in self._values.items() if name not in names}
        if unknown:
            table = Table(self._source, self._path, unknown)
            table._known += names
            table.close()

    def _take(self, name: str, expected: str, default: Any = None) -> Any:
        self._known.append(name)
        if name in self._values:
            self._read.add(name)
            return self._values.pop(name)
        if default is None:
            slip = nearest(name, self._values)
            hint = f", but {shown(slip)}; did you mean `{name}`?" if slip else ""
            raise InputError(self._source, self._field(name), expected, f"nothing{hint}")
        return default

    def _field(self, name: str) -> str:
        # A key that could be overlooked, such as an empty one, is quoted as TOML wants it.
        bare = re.fullmatch(r"[\w-]+", name) is not None
        key = name if bare else shown(name)
        return f"{self._path}.{key}" if self._path else key


def file_exists(path: Path) -> bool:
    """Whether a path leads to a file; impossible paths lead to none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a folder that may not be searched
        return False


def expect_file(path: Path, expected: str) -> None:
    """Expects a file at a path.

    Raises:
        InputError: there is none, or a folder.
    """
    if not file_exists(path):
        try:
            found = "a folder" if path.is_dir() else "none there"
        except (OSError, ValueError):
            found = "none there"
        raise InputError(path, "", expected, found)


def table_file(path: Path, field: str, name: str) -> Path:
    """A table that a file names, relative to itself.

    Raises:
        InputError: there is none.
    """
    file = path.parent / name
    try:
        expect_file(file, "a file that exists")
    except InputError as error:
        found = f"no file {shown(str(file))}" if error.found == "none there" else "a folder"
        raise InputError(path, field, error.expected, found) from None
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
