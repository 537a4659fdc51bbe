r"""What is given in the game of model partition: one server, its fleet, and their rules.

A server (leader) posts one price $P$ per transformer layer. Device $n$
(follower) runs $L_n$ of the $L_{\max}$ layers and keeps the rest of its
computing for itself:

$$U_n = P L_n + \alpha_n S(W_n - A_n L_n - B_n), \qquad
  U_s = F - \sum_n \bigl[P L_n + \beta A_n (L_{\max} - L_n)\bigr].$$

The article (arXiv 2312.12063, Sec. IV-B) gives these in words and in its
Fig. 3; the forms of $S$ are in `satisfaction`. `responses` has what the devices
do, `optimum` the price that is best for the server.
"""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.fields import check_flag, check_interval, check_kind, check_number, check_whole, plain
from edgepact.fleet import Array, Fleet, Scalar
from edgepact.mechanisms.stackelberg.link import LINK_LAYERS_MAX
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction

LEAST = 0.0
"""Least that computing costs a server, and least price."""

LAYERS_MAX = 1000
"""Most layers of a model; real ones have tens."""

CELLS_MAX = 200_000_000
"""Most devices times layers of an integer game: a dozen arrays of this size are held."""


class Game(eqx.Module):
    """One server, its fleet, and the rules they play by.

    What is made inside of a compiled function has no values yet, so that only what is known then
    is checked.

    Attributes:
        fleet: the devices' private characteristics.
        revenue: F, credits, whatever the split.
        beta: what computing costs the server, credits per GMAC.
        price_min, price_max: range the server may post, credits per layer.
        layers_max: layers of the model.
        integer: whether devices run whole layers.
        satisfaction: S.
        outside_option: whether a device may decline and then spends nothing;
            without it B is spent even at no layers, as in the article.
        link: what 1 to all layers cost each device over its link beyond running none, credits,
            shape `(devices, layers_max)`, as `link.link_costs` has it; None where links cost
            nothing. Only with whole layers, since nothing is known of what travels between cuts.

    Raises:
        InputError: of the source `game` and the field that cannot be.
    """

    fleet: Fleet
    revenue: Scalar
    beta: Scalar
    price_min: Scalar
    price_max: Scalar
    layers_max: int = eqx.field(static=True, converter=plain)
    integer: bool = eqx.field(static=True, default=True, converter=plain)
    satisfaction: Satisfaction = eqx.field(static=True, default=FAMILIES["log1p"])
    outside_option: bool = eqx.field(static=True, default=False, converter=plain)
    link: Float[Array, "devices layers"] | None = None

    def __check_init__(self) -> None:
        check_kind("game", "fleet", self.fleet, Fleet, "a Fleet")
        check_whole("game", "layers_max", self.layers_max, least=1, most=LAYERS_MAX)
        for name in ("integer", "outside_option"):
            check_flag("game", name, getattr(self, name))
        families = f"one of FAMILIES: {', '.join(FAMILIES)}"
        check_kind("game", "satisfaction", self.satisfaction, Satisfaction, families)
        cells = len(self.fleet) * self.layers_max
        if self.integer and cells > CELLS_MAX:
            expected = f"at most {CELLS_MAX} devices times layers with whole layers"
            raise InputError("game", "fleet", expected, cells)
        _known("revenue", self.revenue, None)
        _known("beta", self.beta, LEAST)
        price_min = _known("price_min", self.price_min, LEAST)
        price_max = _known("price_max", self.price_max, LEAST)
        if price_min is not None and price_max is not None:
            check_interval("game", "price_min", price_min, "price_max", price_max)
        if self.link is not None:
            self._check_link(self.link)

    def _check_link(self, link: Array) -> None:
        if not self.integer:
            expected = "whole layers: what travels is known at the cuts alone"
            raise InputError("game", "link", expected, "continuous layers")
        shape, wanted = getattr(link, "shape", ()), (len(self.fleet), self.layers_max)
        if shape != wanted or self.layers_max > LINK_LAYERS_MAX:
            most = f", at most {LINK_LAYERS_MAX} layers"
            raise InputError("game", "link", f"an array of shape {wanted}{most}", f"{shape}")
        if not isinstance(link, jax.core.Tracer) and not np.isfinite(link).all():
            raise InputError("game", "link", "finite numbers", "others")

    @property
    def saving(self) -> Float[Array, " devices"]:
        """b = beta A, what the server saves per layer a device runs, credits."""
        return self.beta * self.fleet.A

    @property
    def room(self) -> Float[Array, " devices"]:
        """W - B, computing left before the first layer, GMAC."""
        return self.fleet.capacity - self.fleet.B


def _known(name: str, value: Any, least: float | None) -> float | None:
    """A number, checked; None of what is not known yet.

    Raises:
        InputError: it is no number in the range.
    """
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, np.ndarray | jax.Array) and value.shape == ():
        value = value.item()
    return check_number("game", name, value, least=least)
