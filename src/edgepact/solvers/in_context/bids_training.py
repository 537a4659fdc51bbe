"""Teaching the generator what distributions of values are like: sales to learn on, one loop.

The prior is broad: half are priors that `AuctionDesign` draws, which bidders share or have each
their own; the others are distributions of many forms and of none (densities that rise and fall at
random, smoothly or in steps), after anything from a few bids to many hundred. Of some bidders
nothing was seen, so that the generator learns what others' bids say of them. It learns by the
denoising loss alone; no auction is held in training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import betaincinv, gammaincinv, ndtri

from edgepact.mechanisms.auction.problem import LOW, SECOND, SHARE, WIDTH
from edgepact.solvers.in_context import bids, generator, reserves
from edgepact.solvers.in_context.bids import PLACES
from edgepact.solvers.in_context.generator_training import (
    denoising_loss,
    descended,
    random_weights,
)
from edgepact.solvers.in_context.policy_file import Weights

BIDDERS = 4
"""Most bidders of a sale that is learned on."""

STEPS = 512
"""Steps of a table of values by level; finer at both ends."""

_AT = np.linspace(0.0, 1.0, STEPS + 1)

_LEVEL: Float[np.ndarray, " steps"] = np.clip(_AT**2 * (3.0 - 2.0 * _AT), 0.0, 1.0 - 1e-7)
"""Levels of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Settings of a training.

    Attributes:
        sales: to learn on.
        reference_share: share of them with priors that `AuctionDesign` draws.
        unseen_share: share of those with several bidders of one of which nothing was seen.
        batch: sales in one gradient step.
        noises: noise levels at which each of their bidders is restored.
        updates: gradient steps.
        rate: learning rate at its highest; falls along a cosine.
        memory: of the running mean of the weights that is kept.
    """

    sales: int = 60_000
    reference_share: float = 0.5
    unseen_share: float = 0.4
    batch: int = 64
    noises: int = 2
    updates: int = 20_000
    rate: float = 2e-3
    memory: float = 0.999


class Pool(NamedTuple):
    """Sales with all that is private to them.

    Attributes:
        told: features of each bidder, `(sales, BIDDERS, features)`.
        position: of its distribution, in [-1, 1], `(sales, BIDDERS, PLACES)`.
        seen: 1 for bidders whose bids were seen.
        present: 1 for bidders that exist.
    """

    told: Array
    position: Array
    seen: Array
    present: Array


def reference_table(rng: np.random.Generator) -> Float[np.ndarray, " steps"]:
    """Values by level of a prior as `AuctionDesign` draws them."""
    kind, first = int(rng.integers(3)), rng.uniform(*WIDTH)
    if kind == 1:
        return -first * np.log1p(-_LEVEL)
    if kind == 0:
        return rng.uniform(*LOW) + 2.0 * first * _LEVEL
    second, share = first * rng.uniform(*SECOND), rng.uniform(*SHARE)
    inner, outer = first * _LEVEL / share, first + second * (_LEVEL - share) / (1.0 - share)
    return np.where(share > _LEVEL, inner, outer)


def broad_table(rng: np.random.Generator) -> Float[np.ndarray, " steps"]:
    """Values by level of a distribution of some form or none."""
    kind = int(rng.integers(7))
    if kind == 0:
        table = rng.uniform(0.6, 4.0) ** -1.0 * np.log(-np.log1p(-_LEVEL) + 1e-12)
        table = np.exp(table)  # Weibull
    elif kind == 1:
        table = np.exp(rng.uniform(0.15, 1.3) * ndtri(np.clip(_LEVEL, 1e-7, 1.0)))
    elif kind == 2:
        table = gammaincinv(np.exp(rng.uniform(-0.5, 2.5)), _LEVEL)
    elif kind == 3:
        first, second = np.exp(rng.uniform(-0.6, 1.8, 2))
        table = betaincinv(first, second, _LEVEL)
    elif kind == 4:
        pieces = int(rng.integers(1, 6))
        width, mass = rng.dirichlet(np.ones(pieces)), rng.dirichlet(np.full(pieces, 1.5))
        ends = np.append(0.0, np.cumsum(width))
        table = np.interp(_LEVEL, np.append(0.0, np.cumsum(mass)), ends)
    elif kind == 5:
        knots = int(rng.integers(3, 9))
        log = np.interp(
            np.linspace(0.0, 1.0, 400),
            np.linspace(0.0, 1.0, knots),
            rng.uniform(0.3, 1.8) * rng.standard_normal(knots),
        )
        level = np.append(0.0, np.cumsum(np.exp(log)))
        table = np.interp(_LEVEL, level / level[-1], np.linspace(0.0, 1.0, 401))
    else:
        table = reference_table(rng)
    table = table / float(np.mean(table))
    return table + (rng.uniform(0.0, 2.0) if rng.uniform() < 0.35 else 0.0)


def drawn_sale(
    rng: np.random.Generator, course: Course
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Distributions by table, past bids of each bidder, and which one never bid, or -1."""
    reference = rng.uniform() < course.reference_share
    table = reference_table if reference else broad_table
    bidders = 3 if reference and rng.uniform() < 0.8 else int(rng.integers(1, BIDDERS + 1))
    tables = [table(rng) for _ in range(bidders)]
    alike = rng.uniform()
    if alike < 0.5:
        tables = [tables[0]] * bidders
    elif alike < 0.65 and not reference:
        tables = [tables[0] * np.exp(rng.normal(0.0, 0.5)) for _ in range(bidders)]
    if rng.uniform() < (0.6 if reference else 0.3):
        counts = np.full(bidders, 200)
    else:
        counts = np.exp(rng.uniform(np.log(4.0), np.log(800.0), bidders)).astype(int)
        counts = counts if rng.uniform() < 0.5 else np.full(bidders, counts[0])
    past = [drawn_bids(rng, t, int(n)) for t, n in zip(tables, counts, strict=True)]
    none = int(rng.integers(bidders)) if rng.uniform() < course.unseen_share else -1
    return tables, past, none if bidders > 1 else -1


def drawn_bids(rng: np.random.Generator, table: np.ndarray, count: int) -> np.ndarray:
    """Bids of a distribution given by a table."""
    return values_at(table, rng.random(count))


def values_at(table: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Values at levels of a table; their places invert those of `_LEVEL`."""
    at = STEPS * (0.5 - np.sin(np.arcsin(1.0 - 2.0 * level) / 3.0))
    below = np.minimum(at.astype(int), STEPS - 1)
    rest = at - below
    return np.asarray((1.0 - rest) * table[below] + rest * table[below + 1])


def tabulated(tables: list[np.ndarray], past: list[np.ndarray], none: int) -> tuple[Any, ...]:
    """A sale as the generator is to see it, padded to `BIDDERS`."""
    shown = [own if at != none else own[:0] for at, own in enumerate(past)]
    told = np.zeros((BIDDERS, bids.FEATURES), np.float32)
    position = np.zeros((BIDDERS, PLACES), np.float32)
    for at, own in enumerate(shown):
        others = np.concatenate([own[:0], *shown[:at], *shown[at + 1 :]])
        row, told[at] = bids.row_of(own, others)
        level = np.interp(row.place, tables[at], _LEVEL)
        position[at] = bids.position_of(row, level)
    number = np.arange(BIDDERS)
    return told, position, (number < len(past)) & (number != none), number < len(past)


def make_pool(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Pool:
    """Draws the sales to learn on."""
    rng = np.random.default_rng(seed)
    shapes = (bids.FEATURES,), (PLACES,), (), ()
    columns = [np.zeros((course.sales, BIDDERS, *shape), np.float32) for shape in shapes]
    for at in range(course.sales):
        for column, part in zip(columns, tabulated(*drawn_sale(rng, course)), strict=True):
            column[at] = part
        if (at + 1) % 100 == 0:
            on_progress(at + 1, course.sales)
    return Pool(*(jnp.asarray(column) for column in columns))


def loss(weights: Weights, key: PRNGKeyArray, sales: Pool, noises: int) -> Array:
    """Error of positions restored from noise, as a share of what nobody could know less of."""
    of_level, of_noise = jax.random.split(key)
    batch = sales.present.shape[0]
    nothing = jnp.zeros((batch, BIDDERS, PLACES))
    mix = jnp.broadcast_to(jnp.asarray(reserves.SMOOTH), (batch, BIDDERS, PLACES, PLACES))
    seen = generator.context(weights, sales.told, sales.seen, mix, nothing)
    ends = 0.03, generator.NOISE[0] * 1.1
    keys = of_level, of_noise
    return denoising_loss(
        weights, seen, sales.position, sales.present, keys, noises=noises, ends=ends
    )


def initial_weights(seed: int) -> dict[str, tuple[Array, Array]]:
    """Random weights."""
    return random_weights(seed, reserves.layer_sizes())


def train_generator(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    *,
    chunk: int = 100,
) -> Weights:
    """Trains a generator from nothing.

    Args:
        seed: of everything.
        course: settings.
        on_progress: told how many gradient steps are done, and how many there are.
        chunk: gradient steps between two calls of it, which `course.updates` is a multiple of.
    """
    pool = make_pool(seed, course)
    schedule = optax.cosine_decay_schedule(course.rate, course.updates, 0.01)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def slope(weights: Any, key: PRNGKeyArray, pool: Pool) -> Any:
        of_rows, of_loss = jax.random.split(key)
        rows = jax.random.randint(of_rows, (course.batch,), 0, course.sales)
        sales = jax.tree.map(lambda column: column[rows], pool)
        return jax.grad(loss)(weights, of_loss, sales, course.noises)

    key, keys = jax.random.key(seed), []
    for _ in range(0, course.updates, chunk):
        key, now = jax.random.split(key)
        keys.append(jax.random.split(now, chunk))
    return descended(
        slope,
        optimizer,
        initial_weights(seed),
        pool,
        jnp.concatenate(keys),
        memory=lambda done: course.memory,
        chunk=chunk,
        on_progress=on_progress,
    )
