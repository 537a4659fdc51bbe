"""Columns of numbers from CSV and Parquet, as people have such files.

Headers may be padded, in another order and have columns nobody asked for, which are told and
passed over (`InputWarning`); names may be bytes, suffixes in capitals, text may begin with a byte
order mark. What cannot be meant safely is refused in words: other separators, decimal commas,
UTF-16, compressed files. A million rows is an ordinary input, so cells stay in arrays.
"""

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError, InputWarning
from edgepact.fields import (
    check_text,
    expect_file,
    foreign,
    nearest,
    other_encoding,
    shown,
    without_mark,
)

ROWS_MAX = 20_000_000
"""Most rows a file may hold: some gigabytes of columns."""

HEADER_BYTES_MAX = 1_000_000
"""Longest first line of a CSV file."""

TOLD_MAX = 8
"""Most columns that a line on what is passed over names."""

NAME = "name"
"""The column of names, which no file needs to have."""

Columns = dict[str, Float[np.ndarray, " rows"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The columns of a file that are wanted, by their places in it."""

    places: dict[str, int]
    width: int
    unnamed_last: bool
    passed_over: tuple[str, ...]


def read_columns(
    path: Path,
    columns: Sequence[str],
    *,
    row: str,
    rows_max: int = ROWS_MAX,
    tells: bool = True,
) -> tuple[Columns, list[str] | None]:
    """Reads columns of numbers from CSV or Parquet, and a column `name` if there is one.

    Args:
        path: a `.csv` or `.parquet` file.
        columns: all that the file must have.
        row: what a row is, as errors call it.
        rows_max: most rows that it may have.
        tells: whether to warn of columns that are passed over.

    Returns:
        The columns as float64 NumPy arrays, and the names if the file has any.

    Raises:
        InputError: the file cannot be read, or a column or cell is missing or no number.
    """
    import pyarrow as pa

    kind = path.suffix.lower()
    if kind not in {".csv", ".parquet"}:
        found = path.suffix or "no suffix"
        if kind in {".gz", ".zip", ".xz", ".bz2", ".zst"}:
            found = f"{found}: unpack the file"
        raise InputError(path, "", "a .csv or .parquet file", found)
    expect_file(path, "a file that exists")
    read = _read_csv if kind == ".csv" else _read_parquet
    try:
        table, header = read(path, tuple(columns), row, rows_max)
    # What pyarrow raises of damaged files; a name that is no UTF-8 is a ValueError.
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(path, "", f"a readable {kind[1:]} file", f"{error}") from None
    numbers = {name: _numbers(path, table[name], name, row) for name in columns}
    names = _names(path, table[NAME], row) if NAME in table else None
    if tells and header.passed_over:
        warnings.warn(f"{path}: {_told(header)}", InputWarning, stacklevel=2)
    return numbers, names


def _told(header: _Header) -> str:
    over = header.passed_over
    words = []
    for each in over[:TOLD_MAX]:
        meant = nearest(each, () if NAME in header.places else (NAME,))
        words.append(shown(each) + (f" (did you mean {shown(meant)}?)" if meant else ""))
    more = f" and {len(over) - TOLD_MAX} more" if len(over) > TOLD_MAX else ""
    return f"passes over the column{'s' if len(over) > 1 else ''} {', '.join(words)}{more}"


def _header(path: Path, columns: Sequence[str], found: Sequence[str], *, text: bool) -> _Header:
    """Which columns of a file are wanted.

    Raises:
        InputError: one is missing or comes twice.
    """
    wanted = (*columns, NAME)
    stripped = [name.strip() for name in found]
    for name in wanted:
        if stripped.count(name) > 1:
            raise InputError(path, name, "one column of this name", f"{stripped.count(name)}")
    spare = [name for name in stripped if name and name not in wanted]
    for name in columns:
        if name not in stripped:
            meant = nearest(name, spare)
            listed = ", ".join(shown(each) for each in found) or "no columns"
            hint = f"{shown(meant)}; did you mean `{name}`?" if meant else listed
            raise InputError(path, name, "a column of this name", hint)
    # A comma at the end of each line, as some programs write, is no column.
    unnamed_last = text and stripped[-1] == ""
    return _Header(
        places={name: stripped.index(name) for name in wanted if name in stripped},
        width=len(found),
        unnamed_last=unnamed_last,
        passed_over=tuple(
            name
            for at, name in enumerate(stripped)
            if name not in wanted and not (unnamed_last and at == len(stripped) - 1)
        ),
    )


def _expect_rows(path: Path, rows: int, row: str, rows_max: int) -> None:
    if not 1 <= rows <= rows_max:
        raise InputError(path, "rows", f"1 to {rows_max} {row}s", f"{rows}")


# ---------------------------------------------------------------- Parquet


def _read_parquet(
    path: Path, columns: Sequence[str], row: str, rows_max: int
) -> tuple[dict[str, Any], _Header]:
    from pyarrow import parquet

    if path.stat().st_size == 0:
        raise InputError(path, "", "a Parquet file", "an empty file")
    with parquet.ParquetFile(path) as file:
        found = file.schema_arrow.names
        header = _header(path, columns, found, text=False)
        _expect_rows(path, file.metadata.num_rows, row, rows_max)
        table = file.read(columns=[found[at] for at in header.places.values()])
    # Nobody has checked yet that text is UTF-8 and that places in dictionaries exist.
    table.validate(full=True)
    _expect_rows(path, table.num_rows, row, rows_max)
    return {name: table.column(found[at]) for name, at in header.places.items()}, header


# ---------------------------------------------------------------- CSV


def _read_csv(
    path: Path, columns: Sequence[str], row: str, rows_max: int
) -> tuple[dict[str, Any], _Header]:
    """The table; columns of numbers as such, so that a word in one is found out.

    Raises:
        InputError: a cell of such a column is no number.
    """
    import pyarrow as pa

    found, lines = _first_line(path, columns)
    header = _header(path, columns, found, text=True)
    # Names of our own, since the file's may be padded, empty or doubled.
    try:
        table = _parsed(path, header, lines, pa.float64())
    except pa.ArrowInvalid as error:
        if "Could not skip" in str(error):  # no end of line after the header
            _expect_rows(path, 0, row, rows_max)
        _expect_utf8(path)
        if "conversion error" in str(error):
            words = _parsed(path, header, lines, pa.string())
            _expect_numbers(path, {name: words.column(name) for name in columns}, row)
        cells = re.search(r"Expected (\d+) columns, got (\d+): (.*)", str(error), re.DOTALL)
        if cells is None:
            raise
        hint = " (decimal commas?)" if int(cells[2]) > int(cells[1]) else ""
        found_row = f"a row of {cells[2]}{hint}: {shown(cells[3])}"
        raise InputError(path, "", f"{cells[1]} cells in each row", found_row) from None
    _expect_rows(path, table.num_rows, row, rows_max)
    return {name: table.column(name) for name in header.places}, _checked_last(table, header)


def _expect_utf8(path: Path) -> None:
    """Raises InputError for the first byte of a file that is no UTF-8, or 0."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        found = other_encoding(content, error.start)
        raise InputError(path, "", "a CSV file in UTF-8", found) from None
    if (at := content.find(b"\0")) >= 0:
        raise InputError(path, "", "a CSV file in UTF-8", other_encoding(content, at))


LAST = "last"
"""Our name of an unnamed last column: no file's column is called so here."""


def _checked_last(table: Any, header: _Header) -> _Header:
    """A last column without a name is passed over in silence only where it is empty."""
    if not header.unnamed_last or all(not cell.strip() for cell in _texts(table.column(LAST))):
        return header
    return _Header(
        places=header.places,
        width=header.width,
        unnamed_last=True,
        passed_over=(*header.passed_over, ""),
    )


def _parsed(path: Path, header: _Header, lines: int, of_numbers: Any) -> Any:
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    names = [f"column {at}" for at in range(header.width)]
    for name, at in header.places.items():
        names[at] = name
    if header.unnamed_last:
        names[-1] = LAST
    wanted = [*header.places, *([LAST] if header.unnamed_last else [])]
    types = {name: pa.string() if name in (NAME, LAST) else of_numbers for name in wanted}
    return pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(column_names=names, skip_rows=lines),
        # Only an empty cell is empty: "nan" and "NULL" must not pass for one.
        convert_options=pa_csv.ConvertOptions(
            column_types=types, include_columns=wanted, null_values=[""]
        ),
    )


def _first_line(path: Path, columns: Sequence[str]) -> tuple[list[str], int]:
    """The names of columns, and the number of lines up to them.

    Raises:
        InputError: there are none, or the file is no text with commas.
    """
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES_MAX)
    if other := foreign(start):
        raise InputError(path, "", "a CSV file in UTF-8", other)
    if len(start) == HEADER_BYTES_MAX and not re.search(rb"[\r\n]", start):
        raise InputError(path, "", f"a first line of less than {HEADER_BYTES_MAX} bytes", "more")
    text_start = without_mark(start)
    lines = 0
    for line in re.split(rb"\r\n|\r|\n", text_start):
        lines += 1
        if line:
            break
    else:
        expected = f"a line with the names of columns ({', '.join(columns)})"
        raise InputError(path, "", expected, "an empty file")
    try:
        text = line.decode()
        (found,) = csv.reader([text], strict=True)
    except UnicodeDecodeError as error:
        at = start.find(line) + error.start
        raise InputError(path, "", "a CSV file in UTF-8", other_encoding(start, at)) from None
    except (ValueError, csv.Error) as error:
        raise InputError(path, "", "a line with the names of columns", f"{error}") from None
    if len(set(columns) & {name.strip() for name in found}) < len(columns):
        _expect_commas(path, columns, text)
    return found, lines


def _expect_commas(path: Path, columns: Sequence[str], line: str) -> None:
    """Raises InputError if another separator would make sense of a header."""
    for sign, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        names = {name.strip().strip('"') for name in line.split(sign)}
        if names & {*columns, NAME} and len(names) > 1:
            expected = "columns separated by commas, and numbers with decimal points"
            raise InputError(path, "", expected, f"columns separated by {word}")


# As fast_float reads them, by which pyarrow does.
_NUMBER = re.compile(r"\s*-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*", re.ASCII)


def _expect_numbers(path: Path, columns: dict[str, Any], row: str) -> None:
    """Raises InputError for the first cell that is no number.

    Raises:
        InputError: there is one.
    """
    for name, column in columns.items():
        for at, cell in enumerate(_texts(column), start=1):
            if cell and not _NUMBER.fullmatch(cell) and not _is_special(cell):
                expected = "a number"
                if _DECIMAL_COMMA.fullmatch(cell):
                    expected = "a number with a decimal point"
                raise InputError(path, f"{row}[{at}].{name}", expected, shown(cell))


def _is_special(cell: str) -> bool:
    return cell.strip().lower().lstrip("+-") in {"nan", "inf", "infinity"}


def _texts(column: Any) -> Iterator[str]:
    return ("" if cell is None else str(cell) for cell in column.to_pylist())


# ---------------------------------------------------------------- cells


def _decoded(column: Any) -> Any:
    """A column without the dictionary that some writers keep its values in."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _numbers(path: Path, column: Any, name: str, row: str) -> Float[np.ndarray, " rows"]:
    import pyarrow as pa

    if column.null_count:
        at = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(path, f"{row}[{at + 1}].{name}", "a number", "an empty cell")
    column = _decoded(column)
    kind = column.type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(path, name, "a column of numbers", f"{kind}")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _names(path: Path, column: Any, row: str) -> list[str]:
    """Names of rows as text, whatever type the file gives them.

    Raises:
        InputError: a name is missing, blank, endless, or cannot be printed.
    """
    import pyarrow as pa

    if column.null_count:
        at = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(path, f"{row}[{at + 1}].{NAME}", "a line of text", "an empty cell")
    column = _decoded(column)
    kind = column.type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    others = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
        pa.types.is_integer,
    )
    if not any(is_kind(kind) for is_kind in (*texts, *others)):
        raise InputError(path, NAME, "a column of text", f"{kind}")
    names = []
    for at, cell in enumerate(column.to_pylist(), start=1):
        try:
            # Writers without a type of text leave its bytes, and fill a fixed width with NULs.
            name = cell.rstrip(b"\0").decode() if isinstance(cell, bytes) else str(cell)
        except UnicodeDecodeError:
            found = "bytes that are no UTF-8"
            raise InputError(path, f"{row}[{at}].{NAME}", "a line of text", found) from None
        name = check_text(path, f"{row}[{at}].{NAME}", name.strip())
        names.append(name)
    return names
