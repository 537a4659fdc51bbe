"""Devices as arrays, and priors to draw them from.

A fleet of a million devices is an ordinary input, so devices are columns and
never objects. The same code runs on NumPy arrays (float64, exact answers) and
on JAX arrays (float32, compiled training loops).
"""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from edgepact.fields import check_column

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
"""Columns of a file of devices, in the order of `Fleet`'s fields."""


def checked_fleet(source: object, fleet: Fleet) -> Fleet:
    """Passes a fleet on if its values are possible, and names the first that is not.

    Raises:
        InputError: a value is not finite, too small or too large.
    """
    for name, strict in (("alpha", True), ("capacity", False), ("A", True), ("B", False)):
        column = np.asarray(getattr(fleet, name))
        check_column(source, "device", name, column, strict=strict)
    return fleet
