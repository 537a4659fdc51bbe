"""One price for each class of devices: repeated pricing of several fleets at once.

Phones, cameras and gateways can be told apart by anybody, and are paid accordingly: the
server posts one price per layer for each class. What is private within a class stays
private. No device can choose its class, and no class's answer depends on another's price,
so the exact optimum is the equilibrium of every class by itself; F, which the server
earns however the work is split, is earned once.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fields import check_flag, check_kind
from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.price_scale import on_a_log_scale
from edgepact.mechanisms.stackelberg.problem import (
    FLEETS,
    History,
    RepeatedPricing,
    Round,
    check_sizes,
)
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction
from edgepact.problem import Payoff, Problem

PHONES = FleetPrior(alpha=Interval(4.0, 8.0), capacity=Interval(7.0, 11.0))
CAMERAS = FleetPrior(alpha=Interval(1.0, 2.5), capacity=Interval(4.0, 7.0))
GATEWAYS = FleetPrior(alpha=Interval(2.0, 6.0), capacity=Interval(12.0, 20.0))


class ClassPricing(Problem):
    """A server posts a price per layer to each class of devices, round after round.

    Attributes:
        classes: for each class a prior to draw its devices from at each reset, or its
            fixed fleet; phones, cameras and gateways unless others are given.
        devices: number of devices drawn of each class; of a fixed fleet, its own.
        price: what the server may post to a class, credits per layer; on a logarithmic scale,
            as in `RepeatedPricing`.
        beta: credits per GMAC that is left to the server.
        revenue: F, credits a round, for all classes together.
        layers_max, integer, satisfaction: as in `Game`.
        window: rounds the server remembers.
        rounds: length of an episode; None plays on for ever.

    The reward is the server's profit as a share of the cost of running every layer itself.

    Raises:
        InputError: there is no class, or not one number of devices for each, or a size
            is below 1.
    """

    classes: tuple[FleetPrior | Fleet, ...] = (PHONES, CAMERAS, GATEWAYS)
    devices: tuple[int, ...] = eqx.field(static=True, default=(4, 3, 2))
    price: Interval = Interval(0.05, 3.0)
    beta: float = eqx.field(static=True, default=1.0)
    revenue: float = eqx.field(static=True, default=100.0)
    layers_max: int = eqx.field(static=True, default=12)
    integer: bool = eqx.field(static=True, default=False)
    satisfaction: Satisfaction = eqx.field(static=True, default=FAMILIES["log1p"])
    window: int = eqx.field(static=True, default=1)
    rounds: int | None = eqx.field(static=True, default=None)

    def __post_init__(self) -> None:
        for at, each in enumerate(self.classes):
            check_kind("ClassPricing", f"classes[{at}]", each, FleetPrior | Fleet, FLEETS)
        # One scale for all classes, so that an action means the same price in each.
        self.price = on_a_log_scale(self.price, self.beta, self.classes)

    def __check_init__(self) -> None:
        if not self.classes:
            raise InputError("ClassPricing", "classes", "at least one class", "none")
        sizes = [
            len(each) if isinstance(each, Fleet) else number
            for each, number in zip(self.classes, self.devices, strict=False)
        ]
        if len(self.devices) != len(self.classes) or list(self.devices) != sizes:
            expected = "the number of devices of each class"
            raise InputError("ClassPricing", "devices", expected, self.devices)
        if min(self.devices) < 1:
            raise InputError("ClassPricing", "devices", "at least 1 of each class", self.devices)
        check_flag("ClassPricing", "integer", self.integer)
        check_sizes(
            "ClassPricing",
            price=self.price,
            devices=sum(self.devices),
            layers_max=self.layers_max,
            window=self.window,
            rounds=self.rounds,
        )

    @property
    def action_size(self) -> int:
        """One price for each class."""
        return len(self.classes)

    @property
    def markets(self) -> tuple[RepeatedPricing, ...]:
        """The classes as problems by themselves, without F."""
        return tuple(
            RepeatedPricing(
                fleets,
                price=self.price,
                devices=devices,
                beta=self.beta,
                revenue=0.0,
                layers_max=self.layers_max,
                integer=self.integer,
                satisfaction=self.satisfaction,
                window=self.window,
                rounds=self.rounds,
            )
            for fleets, devices in zip(self.classes, self.devices, strict=True)
        )

    def reset(self, key: PRNGKeyArray) -> tuple[Round, ...]:
        """Draws the devices of each class that is not fixed, and forgets all rounds."""
        keys = jax.random.split(key, self.action_size)
        return tuple(market.reset(own) for market, own in zip(self.markets, keys, strict=True))

    def observe(self, state: tuple[Round, ...]) -> tuple[History, ...]:
        """Past prices and answers of each class; nothing private.

        The class of an answer is public, who of the class gave it is not told.
        """
        return tuple(
            market.observe(of_class) for market, of_class in zip(self.markets, state, strict=True)
        )

    def step(
        self, key: PRNGKeyArray, state: tuple[Round, ...], action: Float[Array, " action"]
    ) -> tuple[tuple[Round, ...], Payoff]:
        """Posts the prices an action stands for; devices answer with best responses."""
        keys = jax.random.split(key, self.action_size)
        played = [
            market.step(own, of_class, price[None])
            for market, own, of_class, price in zip(self.markets, keys, state, action, strict=True)
        ]
        after, payoffs = zip(*played, strict=True)
        return after, self._together(state, payoffs)

    def optimum(self, state: tuple[Round, ...]) -> Payoff:
        """The equilibrium of each class under complete information."""
        payoffs = tuple(
            market.optimum(of_class) for market, of_class in zip(self.markets, state, strict=True)
        )
        return self._together(state, payoffs)

    def guess(self, state: tuple[Round, ...]) -> Float[Array, ""]:
        """The mean utility of a random price to each class, drawn by itself."""
        each = [
            market.guess(of_class) for market, of_class in zip(self.markets, state, strict=True)
        ]
        return self.revenue + jnp.sum(jnp.stack(each))

    def no_trade(self, state: tuple[Round, ...]) -> Float[Array, ""]:
        """The utility of a server that runs every layer itself: the zero of the gain."""
        each = [
            market.no_trade(of_class) for market, of_class in zip(self.markets, state, strict=True)
        ]
        return self.revenue + jnp.sum(jnp.stack(each))

    def best_action(self, state: tuple[Round, ...]) -> Float[Array, " action"]:
        """The equilibrium price of each class as an action."""
        return jnp.concatenate(
            [
                market.best_action(of_class)
                for market, of_class in zip(self.markets, state, strict=True)
            ]
        )

    def finished(self, state: tuple[Round, ...]) -> Bool[Array, ""]:
        """After `rounds` rounds, which all classes play together."""
        return self.markets[0].finished(state[0])

    def _together(self, state: tuple[Round, ...], payoffs: tuple[Payoff, ...]) -> Payoff:
        """Sums over classes; followers in the order of classes."""
        costs = jnp.stack([each.leader for each in payoffs])  # without F, so negative
        computing = sum(jnp.sum(of_class.fleet.A) for of_class in state)
        saved_at_most = self.beta * self.layers_max * computing
        return Payoff(
            leader=self.revenue + jnp.sum(costs),
            followers=jnp.concatenate([each.followers for each in payoffs]),
            payments=jnp.concatenate([each.payments for each in payoffs]),
            reward=(jnp.sum(costs) + saved_at_most) / saved_at_most,
        )
