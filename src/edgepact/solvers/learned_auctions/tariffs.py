"""A network that sets tariffs from the rivals' bids, learnt by gradient ascent on revenue.

Nothing it can say is infeasible or invites a lie (see `mechanisms.tariffs`), so all of its
training is about revenue. It reads the floors alone, treats items alike whatever their order, and
serves any number of items and, with equally distributed bidders, every bidder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.mechanisms.auction.tariffs import Tariffs, floors, softly
from edgepact.solvers.learned_auctions.menus import Draw
from edgepact.solvers.learners.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How tariffs are learnt.

    Attributes:
        tariffs: on offer to a bidder; the first has no fee.
        hidden: width of the networks.
        steps, learning_rate, hot, cold, unit: as for menus.
    """

    tariffs: int = 3
    hidden: int = 32
    steps: int = 2000
    learning_rate: float = 5e-3
    hot: float = 0.05
    cold: float = 0.002
    unit: float = 1.0


class TariffNetwork(eqx.Module):
    """Floors to tariffs.

    Attributes:
        each: reads one floor.
        reserve: from a floor and the mean of what was read: a reserve price for the item in
            every tariff.
        fee: from that mean: the fees, per item.
        sharpness: credits over which a price bends from the reserve to the floor.
        unit: a typical value, credits.
    """

    each: Network
    reserve: Network
    fee: Network
    sharpness: float = eqx.field(static=True)
    unit: float = eqx.field(static=True)

    @staticmethod
    def draw(key: PRNGKeyArray, course: Course) -> "TariffNetwork":
        """Random weights, at first with a reserve of half a unit and fees of a fifth an item."""
        of_each, of_reserve, of_fee = jax.random.split(key, 3)
        hidden, tariffs = course.hidden, course.tariffs
        return TariffNetwork(
            Network((1, hidden, hidden), of_each),
            Network((1 + hidden, hidden, tariffs), of_reserve),
            Network((hidden, hidden, tariffs), of_fee),
            0.02 * course.unit,
            course.unit,
        )

    def __call__(self, floor: Float[Array, " items"]) -> Tariffs:
        """Tariffs for a bidder with these floors."""
        scaled = 2.0 * floor[:, None] / self.unit - 1.0
        read = jnp.mean(jax.vmap(self.each)(scaled), axis=0)
        together = jnp.concatenate(
            [scaled, jnp.broadcast_to(read, (len(floor), len(read)))], axis=1
        )
        said = jax.vmap(self.reserve)(together).T
        # The tariff without a fee starts at the monopoly price of a uniform prior, those with
        # one at the floors: from equal starts they would stay equal.
        start = jnp.where(jnp.arange(len(said)) == 0, 0.5, 0.0)[:, None]
        above = self.unit * (start + 0.5 * said) - floor
        prices = floor + self.sharpness * jax.nn.softplus(above / self.sharpness)
        fees = 0.2 * self.unit * len(floor) * jax.nn.softplus(self.fee(read))
        return Tariffs(fees.at[0].set(0.0), prices)

    def offer(self, bidder: int, others: Float[np.ndarray, "batch rivals items"]) -> Tariffs:
        """Tariffs as `mechanisms.tariffs.sell` asks for them."""
        floor = floors(others)
        said = _for_all(self, jnp.asarray(floor, jnp.float32))
        fees, prices = (np.asarray(part, np.float64) for part in said)
        # The network computes in float32, which may round a price below its floor.
        return Tariffs(fees, np.maximum(prices, floor[:, None, :]))


@eqx.filter_jit
def _for_all(network: TariffNetwork, floor: Float[Array, "batch items"]) -> Tariffs:
    return jax.vmap(network)(floor)


def learn_tariffs(
    draw: Draw,
    key: PRNGKeyArray,
    *,
    course: Course,
    on_steps: Callable[[int, int], None] = lambda done, steps: None,
) -> TariffNetwork:
    """Learns tariffs for bidders whose values are independent and equally distributed.

    Args:
        draw: values of all bidders, a batch at a time; equally distributed over bidders.
        key: of all randomness.
        course: how.
        on_steps: told how many steps of how many are done.
    """
    of_start, of_draws = jax.random.split(key)
    network = TariffNetwork.draw(of_start, course)
    falling = optax.cosine_decay_schedule(course.learning_rate, course.steps, alpha=0.01)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))

    def loss(network: TariffNetwork, key: PRNGKeyArray, temperature: Array) -> Array:
        values = draw(key)
        offered = jax.vmap(network)(floors(values[:, 1:]))
        return -jnp.mean(softly(offered, values[:, 0], temperature)) / course.unit

    def step(carry: Any, now: Any) -> tuple[Any, None]:
        network, moments = carry
        number, key = now
        cooling = (course.cold / course.hot) ** (number / course.steps)
        gradient = jax.grad(loss)(network, key, course.unit * course.hot * cooling)
        change, moments = optimiser.update(gradient, moments)
        return (optax.apply_updates(network, change), moments), None

    run = jax.jit(lambda carry, now: jax.lax.scan(step, carry, now))
    carry = (network, optimiser.init(network))
    keys = jax.random.split(of_draws, course.steps)
    chunk = max(1, -(-course.steps // 20))
    for begin in range(0, course.steps, chunk):
        numbers = jnp.arange(begin, min(begin + chunk, course.steps))
        carry, _ = run(carry, (numbers, keys[begin : begin + chunk]))
        jax.tree.map(lambda part: part.block_until_ready(), carry)
        on_steps(min(begin + chunk, course.steps), course.steps)
    return carry[0]
