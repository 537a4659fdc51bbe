"""What work costs a device: the computing it does not keep for itself.

The one thing that no message has a field for. From it a device decides everything it answers.
"""

import math

import numpy as np

from edgepact.credits import MICRO
from edgepact.engagement import Cost
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES

ROUNDING = 8.0 * float(np.finfo(float).eps)
"""As where the games are solved: relative."""


def computing_cost(
    *,
    alpha: float,
    capacity: float,
    A: float,
    B: float,
    satisfaction: str,
    layers_max: int | None = None,
) -> Cost:
    r"""What running $L$ layers on a unit costs a device, in micro-credits.

    $c(L) = \alpha\,(S(W - B) - S(W - A L - B))$: what is lost of the satisfaction it has when it
    runs none. Infinite beyond its capacity, and beyond the layers it would ever run. A device
    that cannot even embed an image ($W < B$) runs none at any price.

    Args:
        alpha: $\alpha$, credits.
        capacity: $W$, GMAC.
        A: GMAC per layer.
        B: GMAC before the first layer.
        satisfaction: family of $S$.
        layers_max: most layers it would ever run; None for as many as it has capacity for.

    Example:
        >>> cost = computing_cost(alpha=2.0, capacity=1.0, A=1.0, B=0.0, satisfaction="sqrt")
        >>> [float(cost(layers)) for layers in (0.0, 1.0, 2.0)]
        [0.0, 2000000.0, inf]
    """
    value = FAMILIES[satisfaction].value
    # A capacity meant to hold k steps exactly holds them, whatever rounding makes of it.
    most = (capacity - B) / A * (1.0 + ROUNDING) if capacity >= B else 0.0
    if layers_max is not None:
        most = min(most, layers_max)

    def cost(layers: float) -> float:
        if layers == 0:
            return 0.0
        if layers > most:
            return math.inf
        left = max(capacity - A * layers - B, 0.0)
        return MICRO * alpha * float(_value(capacity - B) - _value(left))

    def _value(left: float) -> float:
        # log has no finite value where nothing is left.
        with np.errstate(divide="ignore"):
            return float(value(np.float64(left)))

    return cost
