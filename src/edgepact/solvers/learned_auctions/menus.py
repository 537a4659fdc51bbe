"""Menus of affine maximisers, learnt by gradient ascent on revenue.

Any menu is truthful, so nothing has to be traded against regret: the gradient of the revenue of a
smoothed auction is followed while its temperature falls, and what is handed back is checked,
exact and in float64. Lotteries come out of softmax over who gets an item; for unit demand the
smaller of two, over bidders and over items, as in Dütting et al. (ICML 2019, arXiv 1706.03459).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.errors import check_choice
from edgepact.mechanisms.auction.affine_maximiser import AffineMaximiser, Demand, check, softly

Draw = Callable[[PRNGKeyArray], Float[Array, "batch bidders items"]]
"""Draws a batch of values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a menu is learnt.

    Attributes:
        menu: allocations, without the empty one that every menu has.
        steps: gradient steps.
        learning_rate: of Adam at the start; falls along a cosine.
        hot, cold: temperature at the start and at the end, as a share of `unit`.
        unit: a typical value, credits.
        weigh: whether the bidders' weights are learnt, too.
    """

    menu: int = 64
    steps: int = 3000
    learning_rate: float = 1e-2
    hot: float = 0.03
    cold: float = 0.003
    unit: float = 1.0
    weigh: bool = True


class MenuLogits(eqx.Module):
    """A menu without constraints.

    Attributes:
        takers: of each item, whom it goes to; the last is nobody.
        wants: of each bidder of unit demand, which item it gets; the last is none.
        boosts: lambda, without that of the empty allocation, which is 0.
        log_weights: ln w.
    """

    takers: Float[Array, "menu takers items"]
    wants: Float[Array, "menu bidders wants"]
    boosts: Float[Array, " menu"]
    log_weights: Float[Array, " bidders"]

    @staticmethod
    def draw(key: PRNGKeyArray, menu: int, bidders: int, items: int, unit: float) -> "MenuLogits":
        """Random allocations, most of them close to deterministic, and boosts of about 0."""
        of_takers, of_wants, of_boosts = jax.random.split(key, 3)
        return MenuLogits(
            2.0 * jax.random.normal(of_takers, (menu, bidders + 1, items)),
            2.0 * jax.random.normal(of_wants, (menu, bidders, items + 1)),
            0.01 * unit * jax.random.normal(of_boosts, (menu,)),
            jnp.zeros(bidders),
        )

    def menu(self, demand: Demand) -> AffineMaximiser:
        """The menu they stand for, the empty allocation first."""
        allocations = _stretched(self.takers, axis=1)[:, :-1, :]
        if demand == "unit":
            wanted = _stretched(self.wants, axis=2)[:, :, :-1]
            allocations = jnp.minimum(allocations, wanted)
        nothing = jnp.zeros_like(allocations[:1])
        # Only ratios of weights matter, so they are kept at a geometric mean of 1.
        weights = jnp.exp(self.log_weights - jnp.mean(self.log_weights))
        boosts = jnp.concatenate([jnp.zeros(1), self.boosts])
        return AffineMaximiser(jnp.concatenate([nothing, allocations]), boosts, weights)


_STRETCH = 0.05
"""How far beyond 0 and 1 odds reach before they are cut off."""


def _stretched(logits: Array, axis: int) -> Array:
    """Softmax that reaches 0 and 1: optimal menus hold certain sales, and nearly costs revenue.

    Sums stay at 1 or less. Where two or more are left above 0, what is taken off them makes up
    for the stretch; where only one is left, it is cut off at 1.
    """
    odds = (1.0 + 2.0 * _STRETCH) * jax.nn.softmax(logits, axis=axis) - _STRETCH
    return jnp.clip(odds, 0.0, 1.0)


def learn_menu(
    draw: Draw,
    key: PRNGKeyArray,
    *,
    demand: Demand = "additive",
    course: Course,
    start: MenuLogits | None = None,
    on_steps: Callable[[int, int], None] = lambda done, steps: None,
) -> AffineMaximiser:
    """Learns a menu for values drawn by `draw`.

    Args:
        draw: values of the bidders, a batch at a time.
        key: of all randomness.
        demand: `additive` or `unit`.
        course: how.
        start: where to start; random if None.
        on_steps: told how many steps of how many are done.

    Returns:
        A menu in float64 that has passed `check`.

    Raises:
        InputError: there is no such demand; nothing was learned.
    """
    check_choice("menu", "demand", demand, get_args(Demand))
    of_start, of_draws = jax.random.split(key)
    _, bidders, items = jax.eval_shape(draw, key).shape
    logits = start or MenuLogits.draw(of_start, course.menu, bidders, items, course.unit)
    falling = optax.cosine_decay_schedule(course.learning_rate, course.steps, alpha=0.01)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))

    def loss(logits: MenuLogits, key: PRNGKeyArray, temperature: Array) -> Array:
        sale = softly(logits.menu(demand), draw(key), temperature)
        return -jnp.mean(jnp.sum(sale.payments, axis=-1)) / course.unit

    def step(carry: Any, now: Any) -> tuple[Any, Array]:
        logits, moments = carry
        number, key = now
        cooling = (course.cold / course.hot) ** (number / course.steps)
        value, gradient = jax.value_and_grad(loss)(logits, key, course.unit * course.hot * cooling)
        if not course.weigh:
            still = jnp.zeros_like(gradient.log_weights)
            gradient = eqx.tree_at(lambda g: g.log_weights, gradient, still)
        change, moments = optimiser.update(gradient, moments)
        return (optax.apply_updates(logits, change), moments), value

    run = jax.jit(lambda carry, now: jax.lax.scan(step, carry, now))
    carry = (logits, optimiser.init(logits))
    keys = jax.random.split(of_draws, course.steps)
    chunk = max(1, -(-course.steps // 20))
    for begin in range(0, course.steps, chunk):
        numbers = jnp.arange(begin, min(begin + chunk, course.steps))
        carry, values = run(carry, (numbers, keys[begin : begin + chunk]))
        values.block_until_ready()
        on_steps(min(begin + chunk, course.steps), course.steps)
    return exactly(carry[0].menu(demand), demand)


def exactly(menu: AffineMaximiser, demand: Demand) -> AffineMaximiser:
    """The same menu in float64, with the rounding of float32 taken out of its sums."""
    allocations = np.clip(np.asarray(menu.allocations, np.float64), 0.0, 1.0)
    allocations = allocations / np.maximum(allocations.sum(axis=1, keepdims=True), 1.0)
    if demand == "unit":
        allocations = allocations / np.maximum(allocations.sum(axis=2, keepdims=True), 1.0)
    boosts = np.asarray(menu.boosts, np.float64)
    found = AffineMaximiser(allocations, boosts, np.asarray(menu.weights, np.float64))
    check(found, demand)
    return found


def soft_lies(
    menu: AffineMaximiser,
    values: Float[np.ndarray, "batch bidders items"],
    *,
    low: float,
    high: float,
    temperature: float,
    steps: int = 100,
) -> Float[np.ndarray, "batch bidders items"]:
    """Where each bidder's utility in the smoothed auction leads it: lies for a search to try.

    The exact auction has no slope, since a bid changes its outcome in jumps.

    Args:
        menu: the auction.
        values: the truth, from which the ascent starts.
        low, high: range of bids, credits.
        temperature: of the smoothing, credits; it leaves gains of about this size.
        steps: of gradient ascent, each a fiftieth of the range at most.
    """
    menu = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), menu)
    truth = jnp.asarray(values, jnp.float32)
    stride = 0.02 * (high - low)

    def earned(bids: Array) -> Array:
        total = jnp.zeros(())
        for bidder in range(truth.shape[1]):
            alone = truth.at[:, bidder].set(bids[:, bidder])
            utility = softly(menu, alone, temperature).utility(truth)
            total = total + jnp.sum(utility[:, bidder])
        return total

    def climb(bids: Array, _: None) -> tuple[Array, None]:
        slope = jax.grad(earned)(bids)
        size = jnp.max(jnp.abs(slope), axis=-1, keepdims=True) + 1e-9
        return jnp.clip(bids + stride * slope / size, low, high), None

    found = jax.jit(lambda start: jax.lax.scan(climb, start, None, length=steps)[0])(truth)
    return np.asarray(found, np.float64)
