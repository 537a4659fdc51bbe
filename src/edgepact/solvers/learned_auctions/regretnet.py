"""RegretNet in small: the rival that learns allocations and payments themselves.

Dütting, Feng, Narasimhan, Parkes and Ravindranath (ICML 2019, arXiv 1706.03459). One network
allocates, one charges a share of what a bidder says its allocation is worth to it, so that nobody
that tells the truth loses. Truthfulness is not built in: the gain of the best lie found by a few
steps of gradient ascent is pushed down by an augmented Lagrangian. How much a stronger search
finds is for `mechanisms.misreport` to say.
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

from edgepact.mechanisms.auction.affine_maximiser import Sale
from edgepact.solvers.learned_auctions.menus import Draw
from edgepact.solvers.learners.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How it is trained.

    Attributes:
        hidden: width of both networks.
        steps, learning_rate: of Adam.
        lies: steps of gradient ascent towards a lie, in training.
        stride: of that ascent, credits.
        multiplier: of the regret at the start.
        penalty, penalty_growth: of its square, and what is added 50 times in a training.
        unit: largest value, credits; bids lie between 0 and it.
    """

    hidden: int = 64
    steps: int = 3000
    learning_rate: float = 2e-3
    lies: int = 10
    stride: float = 0.1
    multiplier: float = 10.0
    penalty: float = 50.0
    penalty_growth: float = 20.0
    unit: float = 1.0


class RegretNet(eqx.Module):
    """The two networks."""

    allocate: Network
    charge: Network

    @staticmethod
    def draw(key: PRNGKeyArray, bidders: int, items: int, hidden: int) -> "RegretNet":
        """Random weights."""
        of_allocate, of_charge = jax.random.split(key)
        size = bidders * items
        return RegretNet(
            Network((size, hidden, hidden, (bidders + 1) * items), of_allocate),
            Network((size, hidden, hidden, bidders), of_charge),
        )

    def __call__(self, bids: Float[Array, "bidders items"]) -> Sale:
        """The outcome of one auction."""
        bidders, items = bids.shape
        said = self.allocate(bids.ravel()).reshape(bidders + 1, items)
        allocation = jax.nn.softmax(said, axis=0)[:-1]
        share = jax.nn.sigmoid(self.charge(bids.ravel()))
        return Sale(allocation, share * jnp.sum(allocation * bids, axis=1))

    def sell(self, bids: Float[np.ndarray, "batch bidders items"]) -> Sale:
        """Many auctions, for `mechanisms.misreport`; computed in float32."""
        sale = _all(self, jnp.asarray(bids, jnp.float32))
        return Sale(*(np.asarray(part, np.float64) for part in sale))


@eqx.filter_jit
def _all(network: RegretNet, bids: Float[Array, "batch bidders items"]) -> Sale:
    return jax.vmap(network)(bids)


def lies(
    network: RegretNet,
    values: Float[Array, "batch bidders items"],
    start: Float[Array, "batch bidders items"],
    steps: int,
    course: Course,
) -> Float[Array, "batch bidders items"]:
    """Gradient ascent of each bidder's utility in its own bid, the others telling the truth."""

    def climb(bids: Array, _: None) -> tuple[Array, None]:
        slope = jax.grad(lambda tried: jnp.sum(_earned(network, values, tried)))(bids)
        return jnp.clip(bids + course.stride * slope, 0.0, course.unit), None

    return jax.lax.scan(climb, start, None, length=steps)[0]


def _earned(network: RegretNet, values: Array, lie: Array) -> Float[Array, "batch bidders"]:
    """What each bidder earns by its own lie alone."""
    earned = []
    for bidder in range(values.shape[1]):
        sale = jax.vmap(network)(values.at[:, bidder].set(lie[:, bidder]))
        earned.append(sale.utility(values)[:, bidder])
    return jnp.stack(earned, axis=1)


def gains(network: RegretNet, values: Array, lie: Array) -> Float[Array, "batch bidders"]:
    """What lies bring beyond the truth, at least 0, credits."""
    truth = jax.vmap(network)(values).utility(values)
    return jax.nn.relu(_earned(network, values, lie) - truth)


def train_regretnet(
    draw: Draw,
    key: PRNGKeyArray,
    *,
    course: Course,
    on_steps: Callable[[int, int], None] = lambda done, steps: None,
) -> RegretNet:
    """Trains on values drawn by `draw`."""
    of_start, of_draws = jax.random.split(key)
    _, bidders, items = jax.eval_shape(draw, key).shape
    network = RegretNet.draw(of_start, bidders, items, course.hidden)
    optimiser = optax.adam(course.learning_rate)

    def loss(network: RegretNet, values: Array, lie: Array, weight: Array, penalty: Array) -> Any:
        sale = jax.vmap(network)(values)
        regret = jnp.mean(gains(network, values, lie), axis=0) / course.unit
        revenue = jnp.mean(jnp.sum(sale.payments, axis=1)) / course.unit
        total = -revenue + jnp.sum(weight * regret) + 0.5 * penalty * jnp.sum(regret**2)
        return total, regret

    def step(carry: Any, key: PRNGKeyArray) -> tuple[Any, None]:
        network, moments, weight, penalty = carry
        of_values, of_lies = jax.random.split(key)
        values = draw(of_values)
        start = jax.random.uniform(of_lies, values.shape, maxval=course.unit)
        lie = jax.lax.stop_gradient(lies(network, values, start, course.lies, course))
        gradient, regret = jax.grad(loss, has_aux=True)(network, values, lie, weight, penalty)
        change, moments = optimiser.update(gradient, moments)
        network = optax.apply_updates(network, change)
        # The multipliers follow the regret slowly, a hundredth of the penalty a step.
        return (network, moments, weight + 0.01 * penalty * regret, penalty), None

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))
    weight, penalty = jnp.full(bidders, course.multiplier), jnp.asarray(course.penalty)
    carry = (network, optimiser.init(network), weight, penalty)
    keys = jax.random.split(of_draws, course.steps)
    chunk = max(1, -(-course.steps // 50))
    for begin in range(0, course.steps, chunk):
        carry, _ = run(carry, keys[begin : begin + chunk])
        carry = (*carry[:3], carry[3] + course.penalty_growth)
        jax.tree.map(lambda part: part.block_until_ready(), carry)
        on_steps(min(begin + chunk, course.steps), course.steps)
    return carry[0]


def known_lies(
    network: RegretNet,
    values: Float[np.ndarray, "batch bidders items"],
    rng: np.random.Generator,
    *,
    restarts: int,
    steps: int,
    course: Course,
) -> list[np.ndarray]:
    """Lies that long gradient ascents end at, from the truth and from random bids."""
    truth = jnp.asarray(values, jnp.float32)
    climb = jax.jit(lambda start: lies(network, truth, start, steps, course))
    starts = [values, *(rng.uniform(0.0, course.unit, values.shape) for _ in range(restarts - 1))]
    return [np.asarray(climb(jnp.asarray(start, jnp.float32)), np.float64) for start in starts]
