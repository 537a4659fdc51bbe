r"""What a split costs a device over its link: the time it waits, and the energy of sending.

A device that runs $L$ layers sends what they make of an image in place of the image itself. With
$D(L)$ bytes sent and $R(L)$ round trips an image, a link of rate $r_n$ and round trip $\rho_n$,
a second of waiting worth $\tau_n$ credits to the device and the energy of a megabyte worth
$\epsilon_n$,

$$\ell_n(L) = \tau_n \Bigl(\frac{8\,D(L)}{r_n} + R(L)\,\rho_n\Bigr) + \epsilon_n \frac{D(L)}{10^6},
  \qquad U_n = P L + \alpha_n S(W_n - A_n L - B_n) - \bigl[\ell_n(L) - \ell_n(0)\bigr].$$

Only the difference to sending the image counts, since a device that runs nothing sends that. It
may be negative: the last cut sends one vector, which is smaller than any image. What a layer
costs then no longer rises from layer to layer; `convex_marginals` has what follows for a price.

NumPy and JAX arrays alike (array API standard), and neither is needed to load it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from edgepact.errors import InputError
from edgepact.fields import check_number

# A number, or an array that names its own namespace: np.ndarray, jax.Array or a JAX tracer.
Array = Any

LINK_LAYERS_MAX = 128
"""Most layers of a model whose bytes are weighed: the work grows with their square."""

BYTES_MAX = 1e12
"""Most bytes of one image on its way; real ones are some thousands."""

ROUND_TRIPS_MAX = 1e6

RATE_LEAST_MBIT = 1e-6
"""Slowest link: a bit a second."""

COST_MAX = 1e9
"""Most that a second, a round trip or a megabyte may be worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Links of devices, and what their use is worth to them: numbers, or arrays `(devices,)`.

    Attributes:
        link_mbit: rate at which a device sends, Mbit/s; above 0.
        round_trip_ms: time of a message there and back, ms.
        time_cost: worth of a second of waiting, credits.
        energy_cost: worth of the energy of a megabyte sent, credits.
    """

    link_mbit: Array
    round_trip_ms: Array
    time_cost: Array = 0.0
    energy_cost: Array = 0.0


LINK_COLUMNS = tuple(field.name for field in fields(Links))
"""Columns of a file of devices, in the order of `Links`' fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What travels for one image at each cut, of the model and its codec: public.

    Attributes:
        sent_bytes: at 0 layers, where the image itself is sent, up to all of them.
        round_trips: likewise; None for one each.

    Raises:
        InputError: of the source `traffic` and the field that cannot be.
    """

    sent_bytes: Sequence[float | int]
    round_trips: Sequence[float | int] | None = None

    def __post_init__(self) -> None:
        many = len(self.sent_bytes)
        if not 2 <= many <= LINK_LAYERS_MAX + 1:
            expected = f"2 to {LINK_LAYERS_MAX + 1} numbers, from no layers to all of them"
            raise InputError("traffic", "sent_bytes", expected, f"{many}")
        trips = self.round_trips
        if trips is not None and len(trips) != many:
            raise InputError("traffic", "round_trips", f"{many} numbers", f"{len(trips)}")
        for name, values, most in (
            ("sent_bytes", self.sent_bytes, BYTES_MAX),
            ("round_trips", trips or (), ROUND_TRIPS_MAX),
        ):
            for at, value in enumerate(values):
                check_number("traffic", f"{name}[{at + 1}]", value, least=0.0, most=most)


def link_cost(links: Links, sent_bytes: Array, round_trips: Array = 1.0) -> Array:
    r"""$\ell$, what sending costs, credits: of numbers, or of arrays that broadcast."""
    seconds = 8.0 * sent_bytes / (1e6 * links.link_mbit) + round_trips * links.round_trip_ms / 1e3
    return links.time_cost * seconds + links.energy_cost * sent_bytes / 1e6


def link_costs(links: Links, traffic: Traffic, xp: Any) -> Array:
    r"""$\ell_n(L) - \ell_n(0)$ for 1 to all layers, credits, shape `(devices, layers)`.

    Args:
        links: columns, arrays `(devices,)`.
        traffic: of one image.
        xp: the array library, NumPy or jax.numpy.
    """
    columns = Links(**{name: xp.asarray(getattr(links, name))[..., None] for name in LINK_COLUMNS})
    trips = traffic.round_trips or [1.0] * len(traffic.sent_bytes)
    cost = link_cost(columns, xp.asarray(traffic.sent_bytes), xp.asarray(trips))
    return cost[..., 1:] - cost[..., :1]


def convex_marginals(cost: Array) -> Array:
    r"""Price from which each further layer is run, whatever layers cost.

    At a price $P$ per layer a device runs the $L$ that maximises $P L - c(L)$. Those $L$ that are
    ever best are the corners of the greatest convex function below $c$ (its lower hull), and its
    slope between two corners is the price at which the device jumps from one to the next. Layers
    of one jump get the very same number, so that who counts the layers whose price is met finds
    the best response. For a convex $c$ these are the marginal costs; for a convex $c$ with a cost
    of taking part the first jump ends where the average cost is least.

    By the max-min formula of isotonic regression the slope before layer $k$ is
    $\max_{i<k} \min_{j \ge k} (c(j) - c(i)) / (j - i)$: $O(L^2)$ a device.

    Args:
        cost: $c(0), \ldots, c(L)$, shape `(devices, layers + 1)`; infinite from some layer on for
            what a device cannot do; $c(0)$ is finite.

    Returns:
        Shape `(devices, layers)`, rising along the last axis; infinite where `cost` is.
    """
    xp = cost.__array_namespace__()
    layers = cost.shape[-1] - 1
    finite = xp.isfinite(cost)
    price = xp.full_like(cost[..., 1:], -xp.inf)
    for i in range(layers):
        steps = xp.arange(1, layers - i + 1, dtype=cost.dtype)
        start = xp.where(finite[..., i], cost[..., i], 0.0)[..., None]
        slope = (cost[..., i + 1 :] - start) / steps
        least = _least_from_here(xp, slope)
        # Layers up to i do not begin there, and from where it cannot be nothing begins.
        least = xp.where(finite[..., i, None], least, -xp.inf)
        before = xp.full_like(cost[..., :i], -xp.inf)
        price = xp.maximum(price, xp.concat([before, least], axis=-1))
    return xp.where(finite[..., 1:], price, xp.inf)


def _least_from_here(xp: Any, values: Array) -> Array:
    """The least of each entry and those behind it, along the last axis."""
    least = [values[..., -1]]
    for at in range(values.shape[-1] - 2, -1, -1):
        least.append(xp.minimum(values[..., at], least[-1]))
    return xp.stack(least[::-1], axis=-1)
