"""Devices as arrays, and priors to draw them from.

A fleet of a million devices is an ordinary input, so devices are columns and
never objects. The same code runs on NumPy arrays (float64, exact answers) and
on JAX arrays (float32, compiled training loops).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fields import as_numbers, check_column, check_kind, check_number

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


def namespace(array: Array) -> Any:
    """The library that an array belongs to, by the array API standard: NumPy or jax.numpy."""
    return array.__array_namespace__()


COLUMNS = ("alpha", "capacity", "A", "B")
"""Columns of a file of devices, in the order of `Fleet`'s fields."""

ABOVE_ZERO = ("alpha", "A")
"""Those for which 0 is too small."""


def _column(values: Any) -> Any:
    """What can be made an array of floats, and all else as it is, to be told of with its name.

    What was checked once stays as it was: nobody else holds it, and it cannot be written to.
    """
    if isinstance(values, jax.Array):
        return values
    try:
        column = np.array(as_numbers("fleet", "", values), np.float64)
    except InputError:
        return values
    column.flags.writeable = False
    return column


class Fleet(eqx.Module):
    """What is private to the devices, one entry a device.

    Lists and arrays of NumPy become float64 arrays of NumPy that cannot be written to. What is
    made inside of a compiled function has no values yet, so that only its shapes are checked.

    Attributes:
        alpha: weight of a device's satisfaction, credits; above 0.
        capacity: W, computing a device has for one image's time, GMAC; at least 0.
        A: computing of one layer, GMAC; above 0.
        B: computing before the first layer, GMAC; at least 0.

    Raises:
        InputError: a column is no list or array of numbers, columns differ in length, there is no
            device, or a value is not finite, too small or too large.

    Example:
        >>> fleet = Fleet(alpha=[3.0, 8], capacity=[9, 12], A=[1, 1], B=[0, -2])
        Traceback (most recent call last):
        ...
        edgepact.errors.InputError: fleet: device[2].B: expected a finite number of at least 0, \
found -2.0
    """

    alpha: Float[Array, " devices"] = eqx.field(converter=_column)
    capacity: Float[Array, " devices"] = eqx.field(converter=_column)
    A: Float[Array, " devices"] = eqx.field(converter=_column)
    B: Float[Array, " devices"] = eqx.field(converter=_column)

    def __check_init__(self) -> None:
        devices = None
        for name in COLUMNS:
            column = getattr(self, name)
            if not isinstance(column, jax.Array):
                column = as_numbers("fleet", name, column, row="device")
            shape = column.shape
            if len(shape) != 1 or shape[0] == 0:
                found = "an empty list" if shape == (0,) else f"an array of shape {shape}"
                raise InputError("fleet", name, "one or more numbers, one a device", found)
            devices = shape[0] if devices is None else devices
            if shape[0] != devices:
                expected = f"{devices} numbers, as many as of alpha"
                raise InputError("fleet", name, expected, f"{shape[0]}")
            if not isinstance(column, jax.core.Tracer):
                check_column("fleet", "device", name, np.asarray(column), strict=name in ABOVE_ZERO)

    @classmethod
    def derived(cls, alpha: Array, capacity: Array, A: Array, B: Array) -> "Fleet":
        """Devices that follow from others: lies, estimates, capacity that comes and goes.

        They may be what no device can be, and are made by the thousand: nothing is checked.
        """
        fleet = object.__new__(cls)
        for name, column in zip(COLUMNS, (alpha, capacity, A, B), strict=True):
            object.__setattr__(fleet, name, column)
        return fleet

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

    Raises:
        InputError: an interval falls, or a value is not finite, too small or too large.
    """

    alpha: Interval = Interval(2.0, 6.0)
    capacity: Interval = Interval(8.0, 14.0)
    A: float = eqx.field(default=1.0, static=True)
    B: float = eqx.field(default=0.5, static=True)

    def __check_init__(self) -> None:
        for name, interval in (("alpha", self.alpha), ("capacity", self.capacity)):
            check_kind("FleetPrior", name, interval, Interval, "an Interval")
            above, least = (0.0, None) if name in ABOVE_ZERO else (None, 0.0)
            place = f"{name}.low"
            low = check_number("FleetPrior", place, interval.low, above=above, least=least)
            check_number("FleetPrior", f"{name}.high", interval.high, least=low)
        check_number("FleetPrior", "A", self.A, above=0.0)
        check_number("FleetPrior", "B", self.B, least=0.0)

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


def fleet_of(source: object, columns: Mapping[str, Any]) -> Fleet:
    """The devices whose columns a file states.

    Raises:
        InputError: as `Fleet`, of the file.
    """
    try:
        return Fleet(**columns)
    except InputError as error:
        raise InputError(source, error.field, error.expected, error.found) from None
