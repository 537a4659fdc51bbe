"""The scale on which learners choose a price: logarithmic, as prices differ by factors.

A device enters at a price that may be a hundredth of what a layer saves the server, and a server
may be allowed to post ten times that. On an even scale all prices worth posting then share a
sliver at the end of the range, too thin for a learner to tell them apart. On a logarithmic one
each factor has the same room. It is the scale on which random prices of the score are drawn
(`mechanisms.stackelberg.score`), so a learner that guesses scores 0.
"""

import equinox as eqx
from jaxtyping import Float

from edgepact.fleet import Array, Interval, namespace

LEAST_SHARE = 0.002
"""Lowest price drawn or quoted where 0 may be posted, as a share of what a layer saves."""


class LogPrices(Interval):
    """An interval of prices whose actions are spread evenly over their logarithms.

    Attributes:
        low, high: what may be posted, credits per layer.
        least: the lowest price there is an action for, above 0 and from `low` to `high`: a
            logarithm has no place for 0.
    """

    least: float = eqx.field(static=True)

    def from_unit(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The price an action in [-1, 1] stands for."""
        return self.least * (self.high / self.least) ** ((action + 1.0) / 2.0)

    def to_unit(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The action that stands for a price; below `least` it lies outside of [-1, 1]."""
        xp = namespace(value)
        return xp.log(value / self.least) / xp.log(xp.asarray(self.high / self.least)) * 2.0 - 1.0


def prices_on_a_log_scale(price: Interval, saving: float) -> LogPrices:
    """The logarithmic scale of what may be posted.

    Args:
        price: what may be posted; `high` above 0.
        saving: what a layer saves the server, of devices that save it different amounts the
            mean, credits.
    """
    worth = min(saving, price.high)
    least = price.low if price.low > 0.0 else LEAST_SHARE * (worth if worth > 0.0 else 1.0)
    return LogPrices(price.low, price.high, min(least, price.high))
