"""Files of devices: CSV or Parquet in, a checked fleet out."""

from pathlib import Path

from edgepact.files.columns import read_columns
from edgepact.fleet import COLUMNS, Fleet, fleet_of


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
