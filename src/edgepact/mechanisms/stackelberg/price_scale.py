"""The scale on which learners choose a price: logarithmic, as prices differ by factors.

A device enters at a price that may be a hundredth of what a layer saves the server, and a server
may be allowed to post ten times that. On an even scale all prices worth posting then share a
sliver at the end of the range, too thin for a learner to tell them apart. On a logarithmic one
each factor has the same room. It is the scale on which random prices of the score are drawn
(`mechanisms.stackelberg.score`), so a learner that guesses scores 0.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from edgepact.fleet import Array, Fleet, FleetPrior, Interval, Scalar
from edgepact.mechanisms.stackelberg.score import least_posted


class LogPrices(Interval):
    """An interval of prices whose actions are spread evenly over their logarithms.

    Attributes:
        low, high: what may be posted, credits per layer.
        least: the lowest price there is an action for, above 0 and from `low` to `high`: a
            logarithm has no place for 0.
    """

    least: Scalar | float

    def from_unit(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The price an action in [-1, 1] stands for."""
        return self.least * (self.high / self.least) ** ((action + 1.0) / 2.0)

    def to_unit(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The action that stands for a price; below `least` it lies outside of [-1, 1]."""
        xp = value.__array_namespace__()
        factors = xp.log(xp.asarray(self.high / self.least))
        return xp.log(value / self.least) / factors * 2.0 - 1.0


def on_a_log_scale(price: Interval, beta: float, fleets: Sequence[FleetPrior | Fleet]) -> Interval:
    """What may be posted, on the logarithmic scale.

    Args:
        price: what may be posted. One that has a scale of its own keeps it, and so does what
            is no interval of prices, which problems refuse.
        beta: credits per GMAC that is left to the server.
        fleets: the devices, or what they are drawn from.
    """
    if type(price) is not Interval or not 0.0 <= price.low < price.high < math.inf:
        return price
    if price.low > 0.0:
        return LogPrices(price.low, price.high, price.low)
    computing = [each.A for each in fleets]
    # A problem may be put together inside of a compiled program, of devices known only there.
    xp = jnp if any(isinstance(each, jax.core.Tracer) for each in computing) else np
    mean = xp.mean(xp.concatenate([xp.ravel(xp.asarray(each)) for each in computing]))
    return LogPrices(price.low, price.high, least_posted(beta * mean, price.high))
