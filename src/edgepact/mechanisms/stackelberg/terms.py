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

import equinox as eqx
from jaxtyping import Float

from edgepact.fleet import Array, Fleet, Scalar
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction


class Game(eqx.Module):
    """One server, its fleet, and the rules they play by.

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
    """

    fleet: Fleet
    revenue: Scalar
    beta: Scalar
    price_min: Scalar
    price_max: Scalar
    layers_max: int = eqx.field(static=True)
    integer: bool = eqx.field(static=True, default=True)
    satisfaction: Satisfaction = eqx.field(static=True, default=FAMILIES["log1p"])
    outside_option: bool = eqx.field(static=True, default=False)

    @property
    def saving(self) -> Float[Array, " devices"]:
        """b = beta A, what the server saves per layer a device runs, credits."""
        return self.beta * self.fleet.A

    @property
    def room(self) -> Float[Array, " devices"]:
        """W - B, computing left before the first layer, GMAC."""
        return self.fleet.capacity - self.fleet.B
