"""Devices as arrays, and priors to draw them from.

A fleet of a million devices is an ordinary input, so devices are columns and
never objects. The same code runs on NumPy arrays (float64, exact answers) and
on JAX arrays (float32, compiled training loops).
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from edgepact.errors import InputError

Array = np.ndarray | jax.Array
"""What the mechanisms compute with: NumPy for exact answers, JAX in compiled loops."""

Scalar = float | np.floating[Any] | Float[Array, ""]
"""A number, or an array of shape ()."""

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
            alpha=jax.random.uniform(of_alpha, shape, minval=self.alpha.low, maxval=self.alpha.high),
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
    table = _read_table(path)
    if not 1 <= table.num_rows <= DEVICES_MAX:
        raise InputError(path, "rows", f"1 to {DEVICES_MAX} devices", table.num_rows)
    columns = {name: _numbers(path, table, name) for name in COLUMNS}
    names = None
    if "name" in table.column_names:
        names = [str(name) for name in table.column("name").to_pylist()]
    unknown = sorted(set(table.column_names) - {*COLUMNS, "name"})
    if unknown:
        raise InputError(path, unknown[0], f"columns {', '.join(COLUMNS)} and name", "this one")
    return checked_fleet(path, Fleet(**columns)), names


def checked_fleet(source: object, fleet: Fleet) -> Fleet:
    """Passes a fleet on if its values are possible, and names the first that is not."""
    for name, low, strict in (
        ("alpha", 0.0, True),
        ("capacity", 0.0, False),
        ("A", 0.0, True),
        ("B", 0.0, False),
    ):
        column = np.asarray(getattr(fleet, name))
        good = np.isfinite(column) & ((column > low) if strict else (column >= low))
        if not good.all():
            at = int(np.argmin(good))
            expected = f"a finite number {'above' if strict else 'of at least'} {low:g}"
            raise InputError(source, f"device[{at + 1}].{name}", expected, float(column[at]))
    return fleet


def _read_table(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix not in {".csv", ".parquet"}:
        raise InputError(path, "", "a .csv or .parquet file", path.suffix or "no suffix")
    if not path.is_file():
        raise InputError(path, "", "a file that exists", "none there")
    try:
        return csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, "", f"a readable {path.suffix[1:]} file", f"{error}") from error


def _numbers(path: Path, table: Any, name: str) -> np.ndarray:
    import pyarrow as pa

    if name not in table.column_names:
        found = ", ".join(table.column_names) or "no columns"
        raise InputError(path, name, "a column of this name", found)
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(path, name, "a column of numbers", f"{column.type}")
    if column.null_count:
        at = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(path, f"device[{at + 1}].{name}", "a number", "an empty cell")
    return np.asarray(column.to_numpy(), dtype=np.float64)
