"""Teaching a transformer to name the best price of a fleet from a history with it.

Fleets come from the prior that the generator learns on (`in_context.curves_training`), in the same
shares, and are tabulated at the prices that the transformer may choose. In the first half of the
training histories are those of somebody who posts prices anywhere or, at all scales, around the
best so far, as the generator is shown them. Then half of them are the transformer's own, made anew
from time to time (OMGPT): only so it learns what it meets when it quotes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from edgepact.solvers.in_context.curves_training import (
    FINE,
    INTEGER_SHARE,
    Course,
    Drawn,
    curve_fleet,
    family_fleet,
    reference_fleet,
)
from edgepact.solvers.in_context.generator_training import random_weights
from edgepact.solvers.in_context.policy_file import Weights
from edgepact.solvers.pretrained.transformer import GRID, ROUNDS, History, Terms, scores, sizes

LEAST_GAIN = 0.02
"""A fleet from which less can be gained, as a share of all, is left out, as the generator's are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Settings of a training.

    Attributes:
        prior: how many fleets are drawn, and in which shares.
        batch: fleets in one gradient step, each with one history.
        updates: gradient steps.
        rate: learning rate at its highest; rises first, then falls along a cosine.
        memory: of the running mean of the weights that is kept.
        own: histories of its own that are kept, a fleet each.
        refreshes: how often they are made anew, evenly over the second half.
    """

    prior: Course = field(default_factory=Course)
    batch: int = 64
    updates: int = 9_000
    rate: float = 2e-3
    memory: float = 0.999
    own: int = 1024
    refreshes: int = 5


class Pool(NamedTuple):
    """Fleets at every price of the grid.

    Attributes:
        sold, spread: mean and standard deviation over devices of the share of the model that
            they run, `(fleets, GRID)`.
        terms: what is public.
        best: number of the best price.
    """

    sold: Array
    spread: Array
    terms: Terms
    best: Array


def make_pool(seed: int, prior: Course) -> Pool:
    """Draws and tabulates the fleets to learn on."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < prior.fleets:
        if rng.uniform() < prior.reference_share:
            drawn = reference_fleet(rng)
        elif rng.uniform() < prior.curve_share:
            drawn = curve_fleet(rng)
        else:
            drawn = family_fleet(rng, prior.families)
        row = tabulated(drawn, integer=bool(rng.uniform() < INTEGER_SHARE))
        if row is not None:
            rows.append(row)
    sold, spread, terms, best = zip(*rows, strict=True)
    public = (np.array(column, np.float32) for column in zip(*terms, strict=True))
    return Pool(
        jnp.asarray(np.array(sold)),
        jnp.asarray(np.array(spread)),
        Terms(*map(jnp.asarray, public)),
        jnp.asarray(np.array(best)),
    )


def tabulated(drawn: Drawn, *, integer: bool) -> tuple[Any, ...] | None:
    """A row of the pool, or None for a fleet from which next to nothing can be gained."""
    low, top, K = np.log(drawn.low), np.log(drawn.top), drawn.layers_max
    grid = np.exp(np.linspace(low, top, GRID)) * (1.0 + 1e-12)
    if integer:
        prices = drawn.price(np.arange(1.0, K + 1.0), True)
        share = np.array([np.searchsorted(row, grid, side="right") for row in prices]) / K
    else:
        places = K * np.arange(FINE + 1) / FINE
        prices = drawn.price(np.maximum(places, 1e-9 * K), False)
        # Straight in 1/P; what is never reached has 1/P = 0.
        share = np.array([np.interp(-1.0 / grid, -1.0 / row, places / K) for row in prices])
        share = np.where(grid >= prices[:, :1], share, 0.0)
    sold = share.mean(axis=0)
    gain = (1.0 - grid) * sold
    if gain.max() < LEAST_GAIN:
        return None
    terms = (low, top, K, float(integer), drawn.devices)
    half = (each.astype(np.float16) for each in (sold, share.std(axis=0)))
    return (*half, terms, int(np.argmax(gain)))


def histories(key: PRNGKeyArray, fleet: Pool) -> Array:
    """Prices, numbers of the grid, posted to a fleet by somebody who sees only its answers."""
    keys = jax.random.split(key, 5)
    width = (GRID - 1) / (fleet.terms.top - fleet.terms.low)
    scale = jnp.power(10.0, jax.random.uniform(keys[0], (ROUNDS,), minval=-2.7, maxval=-0.1))
    near = width * scale * jax.random.normal(keys[1], (ROUNDS,))
    anywhere = jax.random.randint(keys[2], (ROUNDS,), 0, GRID)
    free = jax.random.uniform(keys[3], (ROUNDS,)) < 0.15
    again = jax.random.uniform(keys[4], (ROUNDS,)) < 0.15

    def post(best: tuple[Array, Array], now: Any) -> tuple[tuple[Array, Array], Array]:
        off, other, at_random, same = now
        beside = jnp.clip(jnp.round(best[0] + jnp.where(same, 0.0, off)), 0, GRID - 1).astype(int)
        at = jnp.where(at_random | (best[1] <= 0), other, beside)
        gained = _gain(fleet, at)
        more = gained > best[1]
        return (jnp.where(more, at, best[0]), jnp.maximum(gained, best[1])), at

    start = (anywhere[0], jnp.zeros(()))
    return jax.lax.scan(post, start, (near, anywhere, free, again))[1]


def seen(fleet: Pool, posted: Array) -> History:
    """What a fleet answered to prices of the grid."""
    sold, spread = (each[posted].astype(jnp.float32) for each in (fleet.sold, fleet.spread))
    return History(posted / (GRID - 1.0), sold, spread)


def own_histories(weights: Weights, key: PRNGKeyArray, fleets: Pool) -> Array:
    """Prices that the transformer posts itself: the likeliest, or for every second fleet draws."""
    count = fleets.best.shape[0]
    draws = jnp.where(jnp.arange(count) % 2 == 0, 0.0, 1.0)[:, None]

    def step(at: Array, posted: Array) -> Array:
        found = scores(weights, fleets.terms, jax.vmap(seen)(fleets, posted))[:, at]
        noise = jax.random.gumbel(jax.random.fold_in(key, at), found.shape)
        return posted.at[:, at].set(jnp.argmax(found + draws * noise, axis=-1))

    return jax.lax.fori_loop(0, ROUNDS, step, jnp.zeros((count, ROUNDS), int))


def loss(weights: Weights, fleets: Pool, posted: Array) -> Array:
    """Cross entropy of the best price, before every round and after all."""
    found = scores(weights, fleets.terms, jax.vmap(seen)(fleets, posted))
    chances = jax.nn.log_softmax(found, axis=-1)
    return -jnp.mean(jnp.take_along_axis(chances, fleets.best[:, None, None], axis=-1))


def train_transformer(
    seed: int,
    lessons: Lessons,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    *,
    chunk: int = 100,
) -> Weights:
    """Trains a transformer from nothing.

    Args:
        seed: of everything.
        lessons: settings.
        on_progress: told how many gradient steps are done, and how many there are.
        chunk: gradient steps between two calls of it, which `lessons.updates` is a multiple of.
    """
    pool = make_pool(seed, lessons.prior)
    optimizer, steps, refresh = _compiled(lessons, chunk)
    weights = random_weights(seed, sizes())
    carry = (weights, weights, optimizer.init(weights))
    key = jax.random.key(seed)
    half, own = lessons.updates // 2, None
    every = max(half // max(lessons.refreshes, 1), 1)
    made = -1
    for done in range(0, lessons.updates, chunk):
        key, now, of_own = jax.random.split(key, 3)
        if lessons.refreshes and done >= half and (done - half) // every > made:
            made = (done - half) // every
            own = refresh(carry[1], of_own, pool)
        carry = steps(carry, now, pool, own)
        on_progress(done + chunk, lessons.updates)
    kept: Weights = jax.tree.map(np.asarray, carry[1])
    return kept


@cache
def _compiled(lessons: Lessons, chunk: int) -> tuple[optax.GradientTransformation, Any, Any]:
    """The optimizer, so many gradient steps as one program, and histories of its own."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, lessons.rate, min(500, lessons.updates // 2), lessons.updates, 0.02 * lessons.rate
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def drawn(key: PRNGKeyArray, pool: Pool, fleets: int) -> tuple[Array, Pool]:
        rows = jax.random.randint(key, (fleets,), 0, pool.best.shape[0])
        return rows, jax.tree.map(lambda column: column[rows], pool)

    def step(pool: Pool, own: Any, carry: Any, key: PRNGKeyArray) -> tuple[Any, Array]:
        weights, kept, state = carry
        of_rows, of_posted, of_own = jax.random.split(key, 3)
        _, fleets = drawn(of_rows, pool, lessons.batch)
        posted = jax.vmap(histories)(jax.random.split(of_posted, lessons.batch), fleets)
        if own is not None:
            # Half of the batch.
            at = jax.random.randint(of_own, (lessons.batch // 2,), 0, lessons.own)
            others = jax.tree.map(lambda column: column[own[0][at]], pool)
            fleets = jax.tree.map(
                lambda one, other: jnp.concatenate([one[: len(one) - len(other)], other]),
                fleets,
                others,
            )
            posted = jnp.concatenate([posted[: len(posted) - len(at)], own[1][at]])
        value, slope = jax.value_and_grad(loss)(weights, fleets, posted)
        change, state = optimizer.update(slope, state, weights)
        weights = optax.apply_updates(weights, change)
        kept = optax.incremental_update(weights, kept, 1.0 - lessons.memory)
        return (weights, kept, state), value

    def steps(carry: Any, key: PRNGKeyArray, pool: Pool, own: Any) -> Any:
        return jax.lax.scan(partial(step, pool, own), carry, jax.random.split(key, chunk))[0]

    def refresh(weights: Weights, key: PRNGKeyArray, pool: Pool) -> tuple[Array, Array]:
        of_rows, of_posted = jax.random.split(key)
        rows, fleets = drawn(of_rows, pool, lessons.own)
        return rows, own_histories(weights, of_posted, fleets)

    return optimizer, jax.jit(steps), jax.jit(refresh)


def _gain(fleet: Pool, at: Array) -> Array:
    """What a price of the grid earns, as a share of what all layers would save."""
    low, top = fleet.terms.low, fleet.terms.top
    price = jnp.exp(low + (top - low) * at / (GRID - 1.0))
    return (1.0 - price) * fleet.sold[at].astype(jnp.float32)
