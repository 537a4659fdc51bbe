"""What prices are held against that are no equilibrium of the game.

`bayesian_price` knows the distribution of the devices alone, `personalised`
quotes each device its own price, and `first_best` knows everything and leaves
the devices nothing: no mechanism earns more.
"""

from dataclasses import replace

from edgepact.fleet import Fleet, Scalar, namespace
from edgepact.mechanisms.stackelberg.optimum import equilibrium, peak_price
from edgepact.mechanisms.stackelberg.responses import (
    Outcome,
    interior_supply,
    kept_value,
    layer_prices,
    supply_at,
)
from edgepact.mechanisms.stackelberg.terms import Game


def bayesian_price(game: Game, sample: Fleet) -> Scalar:
    """The best price for devices of which only the distribution is known.

    Maximises the expected profit `E[(b - P) L*(P)]` of a device, with the
    distribution given by a sample: a fleet of many draws is a game of its own,
    and its exact equilibrium is the answer. Nothing better can be quoted before
    anything was observed, so this is the honest baseline of a first quote.

    Args:
        game: its rules and prices count, its fleet and links do not.
        sample: devices drawn from what is believed, some thousands.
    """
    return equilibrium(replace(game, fleet=sample, link=None)).price


def personalised(game: Game) -> Outcome:
    """The best price for each device by itself; `price` has shape `(devices,)`.

    More than one uniform price can earn, less than `first_best`. A device from
    which nothing is worth buying is quoted the price at which it still declines.
    """
    xp = namespace(game.fleet.A)
    b = game.saving
    low, high = game.price_min, game.price_max
    if game.integer:
        candidates = xp.clip(layer_prices(game), low, None)
    else:
        supply = interior_supply(game)
        ends = xp.minimum(supply.saturation, xp.asarray(high, dtype=b.dtype))
        c = supply.coefficient
        peak = peak_price(game, supply.intercept, c, b * c, c > 0, supply.entry, ends)
        candidates = xp.clip(xp.stack([supply.entry, peak, ends], axis=-1), low, None)
    candidates = xp.clip(candidates, None, high)
    layers = supply_at(game, candidates, per_device=True)
    profit = (b[:, None] - candidates) * layers
    best = xp.argmax(profit, axis=-1)[:, None]
    price = xp.take_along_axis(candidates, best, axis=-1)[:, 0]
    chosen = xp.take_along_axis(layers, best, axis=-1)[:, 0]
    payments = price * chosen
    return Outcome(
        price=price,
        layers=chosen,
        server_utility=game.revenue - xp.sum(payments + b * (game.layers_max - chosen)),
        device_utility=payments + kept_value(game, chosen),
        payments=payments,
    )


def first_best(game: Game) -> Outcome:
    """The efficient split, all surplus to the server: the ceiling of any mechanism.

    The layers are the best responses to the price at which a layer is worth to
    the server, and the payment just makes up for the satisfaction given up.
    """
    xp = namespace(game.fleet.A)
    b = game.saving
    layers = supply_at(game, b[:, None], per_device=True)[:, 0]
    idle = kept_value(game, xp.zeros_like(layers))
    payments = xp.where(layers > 0, idle - kept_value(game, layers), 0.0)
    return Outcome(
        price=xp.where(layers > 0, payments / xp.where(layers > 0, layers, 1.0), 0.0),
        layers=layers,
        server_utility=game.revenue - xp.sum(payments + b * (game.layers_max - layers)),
        device_utility=payments + kept_value(game, layers),
        payments=payments,
    )
