"""Devices that a file names or lists: CSV, Parquet or `[[device]]` in, checked columns out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import Table, check_column, check_list, checked_names, table_file
from edgepact.files.columns import Columns, read_columns
from edgepact.fleet import ABOVE_ZERO, COLUMNS, Fleet, fleet_of

STRICT = (*ABOVE_ZERO, "link_mbit")
"""Figures of a device for which 0 is too small."""


def read_fleet(path: Path) -> tuple[Fleet, list[str] | None]:
    """Reads a fleet from CSV or Parquet; columns `alpha, capacity, A, B`, optionally `name`.

    Args:
        path: a `.csv` or `.parquet` file.

    Returns:
        The fleet as float64 NumPy arrays, and the names if the file has any.

    Raises:
        InputError: the file cannot be read, or a column or value is missing or impossible.
    """
    columns, names = read_columns(path, COLUMNS, row="device")
    return fleet_of(path, columns), names


def read_devices(
    path: Path, top: Table, columns: Sequence[str], *, most: int
) -> tuple[Columns, list[str]]:
    """Devices as the top of a file states them: `devices = FILE`, or `[[device]]` tables.

    Args:
        path: the file.
        top: its top, of which the two fields are read.
        columns: figures of a device that are wanted, such as `COLUMNS`.
        most: most devices.

    Returns:
        Each figure as a float64 NumPy array, and the names, which differ.

    Raises:
        InputError: there are none, too many, or a figure is missing or impossible.
    """
    if "devices" in top:
        if "device" in top:
            raise InputError(path, "device", "either devices = FILE or [[device]]", "both")
        file = table_file(path, "devices", top.text("devices"))
        found, names = read_columns(file, columns, row="device", rows_max=most)
        for name in columns:
            check_column(file, "device", name, found[name], strict=name in STRICT)
        rows = len(found[columns[0]])
        return found, checked_names(file, "device", names, rows)
    entries = top.raw("device", "[[device]] or devices = FILE")
    check_list(path, "device", entries, of="[[device]] tables", least=1, most=most)
    listed: dict[str, list[float]] = {name: [] for name in columns}
    called = []
    for at, entry in enumerate(entries, start=1):
        device = Table(path, f"device[{at}]", entry)
        called.append(device.text("name", f"device-{at}"))
        for name in columns:
            bound = {"above" if name in STRICT else "least": 0.0}
            listed[name].append(device.number(name, **bound))
        device.close()
    found = {name: np.asarray(column) for name, column in listed.items()}
    return found, checked_names(path, "device", called, len(called))
