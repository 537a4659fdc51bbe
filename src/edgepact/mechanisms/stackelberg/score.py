r"""The score of a price: its share of what there is to gain. The one definition of it.

The score of a utility is its *share of the range*,

$$(U - U_{random}) / (U^* - U_{random}),$$

with $U^*$ the exact equilibrium and $U_{random}$ the mean utility of a price drawn
log-uniformly from what may be posted. 1 is the best a server could do that knew
everything, 0 is guessing. A logarithmic scale has no place for 0: where 0 may be posted,
prices are drawn from `least_price` on, which buys next to nothing.

Studies, live runs, learners and quotes all score by it, so that two shares of one game
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


def least_price(game: Game) -> Scalar:
    """Lowest price on the logarithmic scale of what may be posted, credits per layer.

    It is `price_min`, or, where 0 may be posted, `LEAST_SHARE` of what a layer saves the
    server (of devices that save it different amounts the mean) or of `price_max`,
    whichever is less.
    """
    xp = game.fleet.A.__array_namespace__()
    dtype = game.fleet.A.dtype
    low, high = xp.asarray(game.price_min, dtype=dtype), xp.asarray(game.price_max, dtype=dtype)
    worth = xp.minimum(xp.mean(game.saving), high)
    # Where a layer saves nothing, no price is worth posting and any scale will do.
    return xp.where(low > 0, low, LEAST_SHARE * xp.where(worth > 0, worth, 1.0))


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
