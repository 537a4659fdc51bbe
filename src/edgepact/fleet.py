"""Devices as arrays, and priors to draw them from.

A fleet of a million devices is an ordinary input, so devices are columns and
never objects. The same code runs on NumPy arrays (float64, exact answers) and
on JAX arrays (float32, compiled training loops).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fields import check_column, file_exists

if TYPE_CHECKING:
    # The array API standard has no static type yet, and a union would ask every caller
    # that knows which of the two it holds to say so again.
    Array = Any
    Scalar = Any
else:
    # NumPy for exact answers, JAX in compiled loops.
    Array = np.ndarray | jax.Array
    Scalar = float | np.floating | Float[Array, ""]

Layers = Float[Array, "*batch devices"] | Int[Array, "*batch devices"]
"""Layers per device: whole numbers in integer games, stored as floats under JAX."""


class Fleet(eqx.Module):
    """What is private to the devices, one entry a device.

    Attributes:
        alpha: weight of a device's satisfaction, credits; above 0.
        capacity: W, computing a device has for one image's time, GMAC; at least 0.
        A: computing of one layer, GMAC; above 0.
        B: computing before the first layer, GMAC; at least 0.
    """

    alpha: Float[Array, " devices"]
    capacity: Float[Array, " devices"]
    A: Float[Array, " devices"]
    B: Float[Array, " devices"]

    def __len__(self) -> int:
        return int(self.alpha.shape[0])


class Interval(eqx.Module):
    """A closed interval of real numbers, with its map from actions in [-1, 1]."""

    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def from_unit(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The point of the interval an action in [-1, 1] stands for."""
        return self.low + (self.high - self.low) * (action + 1.0) / 2.0

    def to_unit(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The action in [-1, 1] that stands for a point of the interval."""
        return (value - self.low) / (self.high - self.low) * 2.0 - 1.0


class FleetPrior(eqx.Module):
    """Devices drawn independently: alpha and W uniform on intervals, common A and B.

    The defaults are a fleet in which the best price lies between the devices'
    entry prices and several local maxima are common.
    """

    alpha: Interval = Interval(2.0, 6.0)
    capacity: Interval = Interval(8.0, 14.0)
    A: float = eqx.field(default=1.0, static=True)
    B: float = eqx.field(default=0.5, static=True)

    def sample(self, key: PRNGKeyArray, devices: int) -> Fleet:
        """Draws a fleet; arrays of shape (devices,)."""
        of_alpha, of_capacity = jax.random.split(key)
        shape = (devices,)
        return Fleet(
            alpha=jax.random.uniform(
                of_alpha, shape, minval=self.alpha.low, maxval=self.alpha.high
            ),
            capacity=jax.random.uniform(
                of_capacity, shape, minval=self.capacity.low, maxval=self.capacity.high
            ),
            A=jax.numpy.full(shape, self.A),
            B=jax.numpy.full(shape, self.B),
        )


COLUMNS = ("alpha", "capacity", "A", "B")
"""Columns of a fleet file, in the order of `Fleet`'s fields."""

DEVICES_MAX = 20_000_000
"""Most devices a fleet file may hold: some gigabytes of columns."""


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
    return checked_fleet(path, Fleet(**columns)), names


def read_columns(
    path: Path, columns: Sequence[str], *, row: str
) -> tuple[dict[str, Float[np.ndarray, " rows"]], list[str] | None]:
    """Reads columns of numbers from CSV or Parquet, and a column `name` if there is one.

    Args:
        path: a `.csv` or `.parquet` file.
        columns: all that the file must have; of others only `name` is allowed.
        row: what a row is, as errors call it.

    Returns:
        The columns as float64 NumPy arrays, and the names if the file has any.

    Raises:
        InputError: the file cannot be read, or a column or cell is missing or no number.
    """
    table = _read_table(path, columns, row)
    header = table.column_names
    for name in header:
        if name not in {*columns, "name"}:
            expected = f"only the columns {', '.join(columns)} and name"
            raise InputError(path, name, expected, "this one")
        if header.count(name) > 1:
            raise InputError(path, name, "one column of this name", f"{header.count(name)}")
    for name in columns:
        if name not in header:
            found = ", ".join(header) or "no columns"
            raise InputError(path, name, "a column of this name", found)
    if not 1 <= table.num_rows <= DEVICES_MAX:
        raise InputError(path, "rows", f"1 to {DEVICES_MAX} {row}s", f"{table.num_rows}")
    numbers = {name: _numbers(path, table.column(name), name, row) for name in columns}
    names = _names(path, table.column("name"), row) if "name" in header else None
    return numbers, names


def checked_fleet(source: object, fleet: Fleet) -> Fleet:
    """Passes a fleet on if its values are possible, and names the first that is not.

    Raises:
        InputError: a value is not finite, too small or too large.
    """
    for name, strict in (("alpha", True), ("capacity", False), ("A", True), ("B", False)):
        column = np.asarray(getattr(fleet, name))
        check_column(source, "device", name, column, strict=strict)
    return fleet


def _read_table(path: Path, columns: Sequence[str], row: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix not in {".csv", ".parquet"}:
        raise InputError(path, "", "a .csv or .parquet file", path.suffix or "no suffix")
    if not file_exists(path):
        raise InputError(path, "", "a file that exists", "none there")
    try:
        if path.suffix == ".csv":
            return _read_csv(path, columns, row)
        return parquet.read_table(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(path, "", f"a readable {path.suffix[1:]} file", f"{error}") from None


def _read_csv(path: Path, columns: Sequence[str], row: str) -> Any:
    """The table; columns of numbers as such, so that a word in one is found out.

    Raises:
        InputError: a cell of such a column is no number.
    """
    import pyarrow as pa
    from pyarrow import csv

    # Only an empty cell is empty: "nan" and "NULL" must not pass for one.
    types: dict[str, Any] = dict.fromkeys(columns, pa.float64())
    numbers = csv.ConvertOptions(column_types={**types, "name": pa.string()}, null_values=[""])
    try:
        return csv.read_csv(path, convert_options=numbers)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
        words = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
        table = csv.read_csv(path, convert_options=words)
        for name in set(columns) & set(table.column_names):
            for at, cell in enumerate(table.column(name).to_pylist(), start=1):
                if cell and not _is_number(cell):
                    raise InputError(path, f"{row}[{at}].{name}", "a number", repr(cell)) from None
        raise


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, column: Any, name: str, row: str) -> np.ndarray:
    import pyarrow as pa

    if column.null_count:
        at = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(path, f"{row}[{at + 1}].{name}", "a number", "an empty cell")
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(path, name, "a column of numbers", f"{column.type}")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _names(path: Path, column: Any, row: str) -> list[str]:
    names = ["" if name is None else str(name) for name in column.to_pylist()]
    for at, name in enumerate(names, start=1):
        if not name.strip() or not name.isprintable():
            raise InputError(path, f"{row}[{at}].name", "a line of text", repr(name))
    return names
