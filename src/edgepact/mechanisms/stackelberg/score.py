r"""How good a price is: three words, and the one definition of each.

With $U$ what a price earns the server, $U^*$ the exact equilibrium, $U_{random}$ the mean
utility of a price drawn log-uniformly from what may be posted, and $U_0$ what the server has
that runs every layer itself:

*share of the range*
: $(U - U_{random}) / (U^* - U_{random})$. 1 is the best a server could do that knew
  everything, 0 is guessing.

*gain over no trade*
: $U - U_0$, credits: what the price is worth to the server. Below 0 it had better not trade.

*attainable gain*
: $U^* - U_0$, credits: the gain over no trade of the best price. A share of the gain over no
  trade is one of it, $(U - U_0) / (U^* - U_0)$.

The second share is the stricter one where prices may be posted that are far too high: random
prices then lose so much that whoever loses nothing is near 1 already, by the first share.

A logarithmic scale has no place for 0: where 0 may be posted, prices are drawn from
`least_price` on, which buys next to nothing.

Studies, live runs, learners and quotes all score by these, so that two shares of one game
agree. It is written against the array API standard, like the game itself.
"""

from typing import Any, NamedTuple

from jaxtyping import Float

from edgepact.fleet import Array, Scalar
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.terms import Game

LEAST_SHARE = 0.002
"""Lowest price drawn or quoted where 0 may be posted, as a share of what a layer saves."""

RANDOM_PRICES = 1000
"""Prices over which the utility of a random price is averaged: the middles of as many equal
cells of the logarithmic scale."""


class Range(NamedTuple):
    """What there is to gain, credits.

    Attributes:
        zero: the server's mean utility of a random price.
        best: its utility at the exact equilibrium.
    """

    zero: Scalar
    best: Scalar

    def share(self, utility: Scalar | Float[Array, "*shape"]) -> Any:
        """Share of the range that a utility is; 1 is the best.

        Where no price earns more than guessing there is nothing to miss, and every
        utility counts as 1.
        """
        xp = self.best.__array_namespace__()
        reach = self.best - self.zero
        some = reach > 0
        return xp.where(some, (utility - self.zero) / xp.where(some, reach, 1.0), 1.0)


class Gain(NamedTuple):
    """What there is to gain over no trade, credits.

    Attributes:
        alone: the server's utility if it runs every layer itself.
        best: its utility at the exact equilibrium.
    """

    alone: Scalar
    best: Scalar

    @property
    def attainable(self) -> Any:
        """The attainable gain, credits."""
        return self.best - self.alone

    def share(self, utility: Scalar | Float[Array, "*shape"]) -> Any:
        """Share of the gain over no trade that a utility is; 1 is the best, 0 is no trade.

        Where no price gains anything there is nothing to miss: no trade, too, is then the
        best, and every utility counts as 1.
        """
        xp = self.best.__array_namespace__()
        some = self.attainable > 0
        gained = utility - self.alone
        return xp.where(some, gained / xp.where(some, self.attainable, 1.0), 1.0)


def least_price(game: Game) -> Scalar:
    """Lowest price on the logarithmic scale of what may be posted, credits per layer.

    It is `price_min`, or, where 0 may be posted, `LEAST_SHARE` of what a layer saves the
    server (of devices that save it different amounts the mean) or of `price_max`,
    whichever is less.
    """
    xp = game.fleet.A.__array_namespace__()
    dtype = game.fleet.A.dtype
    low, high = xp.asarray(game.price_min, dtype=dtype), xp.asarray(game.price_max, dtype=dtype)
    return xp.where(low > 0, low, least_posted(xp.mean(game.saving), high))


def least_posted(saving: Scalar, high: Scalar | float) -> Scalar:
    """The lowest price on a logarithmic scale where 0 may be posted, credits per layer.

    Args:
        saving: what a layer saves the server, of devices that save it different amounts the
            mean, credits.
        high: the highest price.
    """
    xp = saving.__array_namespace__()
    worth = xp.minimum(saving, xp.asarray(high, dtype=saving.dtype))
    # Where a layer saves nothing, no price is worth posting and any scale will do.
    return LEAST_SHARE * xp.where(worth > 0, worth, 1.0)


def random_prices(game: Game) -> Float[Array, " prices"]:
    """`RANDOM_PRICES` prices spread evenly over the logarithmic scale of what may be posted."""
    xp = game.fleet.A.__array_namespace__()
    low, high = least_price(game), game.price_max
    cells = (xp.arange(RANDOM_PRICES, dtype=game.fleet.A.dtype) + 0.5) / RANDOM_PRICES
    return low * (high / low) ** cells


def random_utility(game: Game) -> Scalar:
    """The server's mean utility of a random price, credits: the zero of the score."""
    xp = game.fleet.A.__array_namespace__()
    return xp.mean(outcome(game, random_prices(game)).server_utility)


def range_of(game: Game) -> Range:
    """Zero and best of a game.

    Args:
        game: devices as NumPy arrays (exact, float64), or as JAX arrays.
    """
    return Range(random_utility(game), equilibrium(game).server_utility)


def alone_utility(game: Game) -> Scalar:
    """What the server has that runs every layer itself, credits: the zero of the gain."""
    xp = game.fleet.A.__array_namespace__()
    return game.revenue - game.layers_max * xp.sum(game.saving)


def gain_of(game: Game) -> Gain:
    """No trade and best of a game.

    Args:
        game: devices as NumPy arrays (exact, float64), or as JAX arrays.
    """
    return Gain(alone_utility(game), equilibrium(game).server_utility)
