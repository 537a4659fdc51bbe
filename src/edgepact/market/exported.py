"""A ledger written out, row by row: transfers, pieces and verdicts as CSV and as Parquet.

However large it is, a few thousand rows are in memory at once, and nobody who writes waits.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from edgepact.errors import InputError
from edgepact.market.ledger import Ledger, Told

ROWS_AT_ONCE = 5_000

TRANSFERS = pa.schema(
    [
        ("id", pa.int64()),
        ("reference", pa.string()),
        ("debit", pa.string()),
        ("credit", pa.string()),
        ("microcredits", pa.int64()),
        ("about", pa.string()),
        ("hash", pa.string()),
    ]
)
PIECES = pa.schema(
    [
        ("id", pa.int64()),
        ("device", pa.string()),
        ("piece", pa.string()),
        ("round", pa.int64()),
        ("amount", pa.float64()),
        ("units", pa.int64()),
        ("microcredits", pa.int64()),
        ("state", pa.string()),
        ("digest", pa.string()),
        ("audited", pa.bool_()),
        ("recorded_s", pa.float64()),
        ("commitment", pa.string()),
    ]
)
VERDICTS = pa.schema(
    [
        ("round", pa.int64()),
        ("device", pa.string()),
        ("told", pa.string()),
        ("signature", pa.string()),
    ]
)
"""Columns of the files; digests and hashes are hexadecimal."""


def export(url: str, folder: Path) -> dict[str, int]:
    """Writes a ledger out.

    Args:
        url: where it is.
        folder: new or empty; the files are called after the tables.

    Returns:
        Number of rows by table.

    Raises:
        InputError: there is no ledger, or the folder cannot be used.
        LedgerError: it cannot be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "--out", "a new or empty folder", "one with files in it")
    with Ledger(url, read_only=True) as ledger, ledger.told() as told:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return {
                "transfers": _write(folder / "transfers", TRANSFERS, _transfers(told)),
                "pieces": _write(folder / "pieces", PIECES, _rows(told.pieces(), PIECES)),
                "verdicts": _write(folder / "verdicts", VERDICTS, _rows(told.verdicts(), VERDICTS)),
            }
        except OSError as error:
            raise InputError(folder, "--out", "a folder to write to", f"{error}") from None


def _transfers(told: Told) -> Iterator[tuple[Any, ...]]:
    for at, each, mark in told.transfers():
        about = None if each.about is None else each.about.hex()
        yield at, each.reference, each.debit, each.credit, each.microcredits, about, mark.hex()


def _rows(rows: Iterable[Any], schema: pa.Schema) -> Iterator[tuple[Any, ...]]:
    names = schema.names
    for row in rows:
        values = (getattr(row, name) for name in names)
        yield tuple(bytes(v).hex() if isinstance(v, bytes | memoryview) else v for v in values)


def _write(path: Path, schema: pa.Schema, rows: Iterator[tuple[Any, ...]]) -> int:
    count = 0
    with (
        pyarrow.csv.CSVWriter(path.with_suffix(".csv"), schema) as csv,
        pyarrow.parquet.ParquetWriter(path.with_suffix(".parquet"), schema) as parquet,
    ):
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            columns = [
                pa.array(values, kind)
                for values, kind in zip(zip(*chunk, strict=True), schema.types, strict=True)
            ]
            table = pa.Table.from_arrays(columns, schema=schema)
            csv.write_table(table)
            parquet.write_table(table)
            count += len(chunk)
    return count
