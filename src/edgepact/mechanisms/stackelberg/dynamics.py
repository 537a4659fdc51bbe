r"""Fleets that change from round to round, and devices that do not answer at once or exactly.

Each kind of change is switched on by its own parameters of `Dynamics` and is off by
default:

- *fading* (`channel`): a bad link leaves less of the round for computing;
- *churn* (`arrivals`, `stay`): devices come as a Poisson process and stay for
  exponential times, so that the population settles at Poisson(arrivals * stay);
- *drift* (`drift`, `drift_bound`): a device's capacity wanders, a random walk of its
  logarithm between reflecting bounds;
- *inertia* (`inertia`): a device moves only part of the way to its best response;
- *noise* (`noise`): a device chooses each number of layers with a probability that
  grows with its utility, `Pr(L) ~ exp(U(L) / tau)` (logit responses, McKelvey and
  Palfrey 1995);
- *lies* (`liars`, `lie`): some devices answer as if their alpha were another one.

A fleet has a fixed number of slots, so that everything compiles; a mask says which of
them are taken. Every kind draws from a key of its own: switching one on leaves the
draws of the others as they are.

What changes by itself (`start`, `advance`) is apart from what depends on the price
(`answer`). The latter, and all that tells the present fleet from its conditions, is
written against the array API: with NumPy arrays it is exact in float64.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, PRNGKeyArray

from edgepact.errors import InputError
from edgepact.fleet import Array, Fleet, Layers, Scalar, namespace
from edgepact.mechanisms.stackelberg.channel import Channel
from edgepact.mechanisms.stackelberg.responses import best_response, layers_cap, settle
from edgepact.mechanisms.stackelberg.terms import Game

LEVELS_PER_LAYER = 4
"""Levels between which a noisy device chooses, per layer, where layers are continuous."""


class Conditions(eqx.Module):
    """How things stand in one round; private, but for who is present.

    Attributes:
        fleet: the characteristics of the device in each slot, as it came.
        present: which slots are taken.
        new: which devices came for this round, so that they have no habits yet.
        lying: which devices would lie.
        drift: by how much capacity has wandered, natural logarithm.
        gain_db: of each link without its fading.
        fading: real and imaginary part of each link's fading.
        layers: what the devices answered in the round before; means nothing for new ones.
    """

    fleet: Fleet
    present: Bool[Array, " devices"]
    new: Bool[Array, " devices"]
    lying: Bool[Array, " devices"]
    drift: Float[Array, " devices"]
    gain_db: Float[Array, " devices"]
    fading: Float[Array, "devices 2"]
    layers: Float[Array, " devices"]


class Dynamics(eqx.Module):
    r"""What changes, and how much; the defaults change nothing.

    Attributes:
        channel: the links of the devices; None for links that cost no time.
        arrivals: devices that come, per round. They find a slot if one is free.
        stay: rounds that a device stays, on average.
        drift: standard deviation of the change of ln W from one round to the next.
        drift_bound: largest size that the sum of these changes reaches.
        inertia: $\eta$, the part of the way to its best response that a device goes,
            above 0 and at most 1: `L += eta (BR - L)`. Whole layers are rounded up,
            away from where it is, so that it arrives.
        noise: $\tau$, credits: differences of utility below it hardly count. 0 is
            the best response.
        liars: share of devices that lie.
        lie: factor by which a liar's alpha seems larger than it is.
    """

    channel: Channel | None = None
    arrivals: float = eqx.field(static=True, default=0.0)
    stay: float = eqx.field(static=True, default=math.inf)
    drift: float = eqx.field(static=True, default=0.0)
    drift_bound: float = eqx.field(static=True, default=0.5)
    inertia: float = eqx.field(static=True, default=1.0)
    noise: float = eqx.field(static=True, default=0.0)
    liars: float = eqx.field(static=True, default=0.0)
    lie: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        for name, good, expected in (
            ("arrivals", 0 <= self.arrivals < math.inf, "a finite number of at least 0"),
            ("stay", self.stay > 0, "a number of rounds above 0"),
            ("drift", 0 <= self.drift < math.inf, "a finite number of at least 0"),
            ("drift_bound", 0 < self.drift_bound <= 10, "above 0 and at most 10"),
            ("inertia", 0 < self.inertia <= 1, "above 0 and at most 1"),
            ("noise", 0 <= self.noise < math.inf, "a finite number of at least 0"),
            ("liars", 0 <= self.liars <= 1, "0 to 1"),
            ("lie", 0 < self.lie < math.inf, "a finite number above 0"),
        ):
            if not good:
                raise InputError("dynamics", name, expected, getattr(self, name))
        if (self.arrivals > 0) != (self.stay < math.inf):
            expected = "arrivals above 0 and a finite stay together, or neither"
            raise InputError("dynamics", "stay", expected, self.stay)

    @property
    def churns(self) -> bool:
        """Whether devices come and go."""
        return self.arrivals > 0

    def start(self, key: PRNGKeyArray, fleet: Fleet) -> Conditions:
        """Draws the first round: a slot for each device of a fleet.

        With churn the number present is drawn from the stationary population, as far
        as there are slots; without it everybody is there. Capacities are the fleet's.
        """
        of_number, of_slots, of_devices = jax.random.split(key, 3)
        present = jnp.ones(len(fleet), dtype=bool)
        if self.churns:
            number = _poisson(of_number, self.arrivals * self.stay, len(fleet))
            present = _some(of_slots, present, number)
        return self._arrive(of_devices, fleet, present)

    def advance(
        self, key: PRNGKeyArray, conditions: Conditions, layers: Layers, newcomers: Fleet
    ) -> Conditions:
        """The next round.

        Args:
            key: of what changes.
            conditions: of the round that was played.
            layers: what the devices answered in it.
            newcomers: for each slot the device that takes it if somebody comes to it.
        """
        of_leaving, of_number, of_slots, of_drift, of_fading, of_devices = jax.random.split(key, 6)
        devices = len(conditions.fleet)
        present, drift, fading = conditions.present, conditions.drift, conditions.fading
        comes = jnp.zeros(devices, dtype=bool)
        if self.churns:
            # Exact at the rounds' ends: of those who come during a round, some leave in it.
            remains = math.exp(-1.0 / self.stay)
            stays = present & (jax.random.uniform(of_leaving, (devices,)) < remains)
            arrived = _poisson(of_number, self.arrivals * self.stay * (1.0 - remains), devices)
            comes = _some(of_slots, ~stays, arrived)
            present = stays | comes
        if self.drift > 0:
            step = self.drift * jax.random.normal(of_drift, (devices,))
            drift = _reflected(drift + step, self.drift_bound)
        if self.channel is not None:
            fading = self.channel.fade(of_fading, fading)
        staying = Conditions(
            fleet=conditions.fleet,
            present=present,
            new=comes,
            lying=conditions.lying,
            drift=drift,
            gain_db=conditions.gain_db,
            fading=fading,
            layers=layers,
        )
        if not self.churns:
            return staying
        came = self._arrive(of_devices, newcomers, present)
        came = eqx.tree_at(lambda each: each.new, came, comes)

        def pick(new: Any, old: Any) -> Any:
            return jnp.where(comes if new.ndim == 1 else comes[:, None], new, old)

        return jax.tree.map(pick, came, staying)

    def fleet_now(self, conditions: Conditions) -> Fleet:
        """The devices with the capacities that they really have in this round.

        An empty slot has no capacity: it takes part in nothing.
        """
        capacity = conditions.fleet.capacity
        xp = namespace(capacity)
        if self.drift > 0:
            capacity = capacity * xp.exp(conditions.drift)
        if self.channel is not None:
            rate = self.channel.rate_bit_s(conditions.gain_db, conditions.fading)
            capacity = capacity * self.channel.time_left(rate)
        if self.churns:
            capacity = xp.where(conditions.present, capacity, 0.0)
        now = conditions.fleet
        return Fleet.derived(now.alpha, capacity, now.A, now.B)

    def fleet_shown(self, conditions: Conditions) -> Fleet:
        """The devices as they make themselves out to be, lies included.

        It is the fleet a price has to do with: what devices answer follows from it
        alone, and no price can earn more than the best one for it.
        """
        fleet = self.fleet_now(conditions)
        if self.liars == 0 or self.lie == 1:
            return fleet
        xp = namespace(fleet.alpha)
        alpha = xp.where(conditions.lying, self.lie * fleet.alpha, fleet.alpha)
        return Fleet.derived(alpha, fleet.capacity, fleet.A, fleet.B)

    def draw_shocks(self, key: PRNGKeyArray, game: Game) -> Float[Array, "levels devices"]:
        """Gumbel variables for `answer`, one for each device and level of layers."""
        return jax.random.gumbel(key, (levels_of(game), len(game.fleet)))

    def answer(
        self,
        game: Game,
        price: Scalar,
        before: Float[Array, " devices"],
        settled: Bool[Array, " devices"],
        shocks: Float[Array, "levels devices"] | None = None,
    ) -> Float[Array, " devices"]:
        """Layers that devices run at a price.

        Args:
            game: played with `fleet_shown`.
            price: credits per layer, shape `()`.
            before: their layers in the round before.
            settled: devices that have a habit; others answer without inertia.
            shocks: standard Gumbel variables; needed only with noise. Utilities with
                noise `tau` times these have their largest value at each level with
                the logit probability.

        Returns:
            Layers, at most what fits into the capacity of this round.
        """
        xp = namespace(game.fleet.A)
        layers = best_response(game, price)
        if self.noise > 0:
            assert shocks is not None
            levels = self._levels(game, layers)
            utility = settle(game, price, levels).device_utility
            possible = levels <= layers_cap(game)
            noisy = xp.where(possible, utility + self.noise * shocks, -xp.inf)
            best = xp.argmax(noisy, axis=0)
            layers = xp.take_along_axis(levels, best[None, :], axis=0)[0]
        if self.inertia < 1:
            step = self.inertia * (layers - before)
            if game.integer:
                # Up to rounding: a tenth of ten layers is one.
                step = xp.sign(step) * xp.ceil(xp.abs(step) - 1e-4)
            moved = xp.minimum(before + step, layers_cap(game))
            layers = xp.where(settled, moved, layers)
        return layers

    def _levels(self, game: Game, best: Array) -> Float[Array, "levels devices"]:
        """Levels to choose between; the best response is among them."""
        xp = namespace(best)
        number = levels_of(game)
        steps = xp.arange(number, dtype=best.dtype)[:, None]
        if game.integer:
            return xp.broadcast_to(steps, (number, best.shape[0]))
        levels = layers_cap(game) * (steps / (number - 1))
        nearest = xp.argmin(xp.abs(levels - best), axis=0)
        return xp.where(xp.arange(number)[:, None] == nearest, best, levels)

    def _arrive(
        self, key: PRNGKeyArray, fleet: Fleet, present: Bool[Array, " devices"]
    ) -> Conditions:
        """Devices that have just come: nothing has drifted yet and there are no habits."""
        of_place, of_fading, of_lies = jax.random.split(key, 3)
        devices = len(fleet)
        gain_db, fading = jnp.zeros(devices), jnp.zeros((devices, 2))
        if self.channel is not None:
            gain_db = self.channel.draw_gain_db(of_place, devices)
            fading = self.channel.draw_fading(of_fading, devices)
        return Conditions(
            fleet=fleet,
            present=present,
            new=present,
            lying=jax.random.uniform(of_lies, (devices,)) < self.liars,
            drift=jnp.zeros(devices),
            gain_db=gain_db,
            fading=fading,
            layers=jnp.zeros(devices),
        )


def levels_of(game: Game) -> int:
    """Levels of layers between which a noisy device chooses."""
    return game.layers_max * (1 if game.integer else LEVELS_PER_LAYER) + 1


def _poisson(key: PRNGKeyArray, mean: float, most: int) -> Array:
    """A Poisson variable, cut off at `most`: events of a process of rate 1 up to `mean`."""
    times = jnp.cumsum(jax.random.exponential(key, (most,)))
    return jnp.sum(times <= mean)


def _some(key: PRNGKeyArray, among: Bool[Array, " devices"], number: Array) -> Array:
    """A random choice of so many, or of all if there are fewer."""
    lot = jnp.where(among, jax.random.uniform(key, among.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(lot))
    return among & (rank < number)


def _reflected(value: Array, bound: float) -> Array:
    """Folds real numbers into `[-bound, bound]`, as mirrors at both ends would."""
    return bound - jnp.abs(jnp.mod(value + bound, 4.0 * bound) - 2.0 * bound)
