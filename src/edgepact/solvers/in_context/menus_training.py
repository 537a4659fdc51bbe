"""Teaching the generator who takes what: populations to learn on, one compiled loop.

The prior is broad: the contracts of `InstancePrior` with their costs told, populations with costs
further apart and frequencies more unequal, and populations whose types are not told, of a few
costs or of many that spread around some. A population is shown as the take-up of a few menus with a
few or many devices leaves it, some rows sharing an item. The model learns by the denoising loss
alone; nothing is decided in training.

Pools are drawn with NumPy, all at once: counts of many devices are quick there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from edgepact.mechanisms.contract.problem import InstancePrior
from edgepact.mechanisms.contract.take_up import TakeUp as Counts
from edgepact.solvers.in_context import generator, menus, takeup
from edgepact.solvers.in_context.generator import Context
from edgepact.solvers.in_context.generator_training import descended, random_weights
from edgepact.solvers.in_context.policy_file import Weights
from edgepact.solvers.in_context.takeup import POSITIONS, Rows

ROWS = 24
"""Rows of a population in training; a server may have more."""

CHUNK = 5000
"""Populations that are drawn at once."""

ROUNDS = 4
"""Most rounds of take-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Settings of a training.

    Attributes:
        populations: in the pool.
        reference_share: share of them from the reference prior.
        spread_share: share of the others whose types are not told.
        spread: range of the logarithm of the dearest cost over the cheapest, of all but the
            reference prior.
        concentration: range of their Dirichlet parameter, log-uniform.
        devices: range of the number that answers in a round, log-uniform.
        batch: populations in one gradient step.
        noises: noise levels at which each of their rows is restored.
        updates: gradient steps.
        rate: learning rate at its highest; falls along a cosine.
        memory: of the running mean of the weights that is kept.
    """

    populations: int = 30_000
    reference_share: float = 0.4
    spread_share: float = 0.35
    spread: tuple[float, float] = (0.1, 4.0)
    concentration: tuple[float, float] = (0.05, 8.0)
    devices: tuple[float, float] = (3.0, 6000.0)
    batch: int = 64
    noises: int = 2
    updates: int = 5_000
    rate: float = 2e-3
    memory: float = 0.999


class Pool(NamedTuple):
    """Populations as the generator is shown them, with the truth as positions.

    Attributes:
        features: `(populations, rows, FEATURES)`.
        exists: `(populations, rows)`.
        guess, position: `(populations, rows, POSITIONS)`.
        matters: 1 for positions that are to be restored.
    """

    features: Array
    exists: Array
    guess: Array
    position: Array
    matters: Array


def make_pool(seed: int, course: Course, number: int | None = None) -> Pool:
    """Draws populations and what they took."""
    rng = np.random.default_rng(seed)
    size = course.populations if number is None else number
    parts = [_shown(rng, course, min(CHUNK, size - at)) for at in range(0, size, CHUNK)]
    return Pool(*(jnp.asarray(np.concatenate(column)) for column in zip(*parts, strict=True)))


def _shown(rng: np.random.Generator, course: Course, size: int) -> tuple[np.ndarray, ...]:
    """Columns of a pool."""
    rows, log_frequency, log_cost = _drawn(rng, course, size)
    seen = takeup.intervals(rows)
    position = np.stack(
        [
            takeup.position(seen.low, seen.high, log_frequency),
            takeup.position(rows.low, rows.high, log_cost),
        ],
        axis=-1,
    )
    guess = np.stack(
        [takeup.position(seen.low, seen.high, seen.guess), np.zeros_like(seen.low)], axis=-1
    )
    # Where next to nobody is, nothing says where costs lie.
    somebody = log_frequency > np.log(2.0 * takeup.LEAST)
    open_cost = rows.exists * (1.0 - rows.told[:, None]) * somebody
    matters = np.stack([rows.exists, open_cost], axis=-1)
    columns = (seen.features, rows.exists, guess, position, matters)
    return tuple(column.astype(np.float32) for column in columns)


def _drawn(
    rng: np.random.Generator, course: Course, size: int
) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Populations of all kinds, their frequencies and where costs lie, in logarithms."""
    prior, at = InstancePrior(), np.arange(ROWS)
    usual = rng.uniform(size=size) < course.reference_share
    told = usual | (rng.uniform(size=size) > course.spread_share)

    number = np.where(told, rng.integers(1, takeup.USUAL_TYPES + 1, size), 0)
    number = np.where(told & ~usual, rng.integers(1, ROWS + 1, size), number)
    number = np.where(told, number, rng.integers(2, ROWS + 1, size))
    exists = (at < number[:, None]) * 1.0

    def within(usual_span: tuple[float, float], other: tuple[float, float]) -> np.ndarray:
        low, high = np.where(usual[:, None], usual_span, other).T
        return rng.uniform(low, high)

    spread = within(prior.spread, course.spread)[:, None]
    level = np.exp(within(tuple(np.log(prior.concentration)), tuple(np.log(course.concentration))))
    places = np.where(exists > 0, rng.uniform(size=(size, ROWS)), -1.0)
    places = -np.sort(-places, axis=1)
    least = np.min(np.where(exists > 0, places, 2.0), axis=1, keepdims=True)
    cost = spread * np.maximum(places - least, 0.0)
    weights = np.where(
        exists > 0, rng.standard_gamma(np.maximum(level, 1e-3)[:, None], places.shape), 0
    )
    weights = np.where(exists > 0, np.maximum(weights, 1e-30), 0.0)
    p = weights / weights.sum(axis=1, keepdims=True)
    p = exists * ((1.0 - prior.least) * p + prior.least / number[:, None])

    # Of populations whose types are not told, rows are stretches of the range of costs.
    edges = rng.uniform(size=(size, ROWS + 1))
    edges[:, 0] = 2.0
    edges = np.where(at < number[:, None] - 1, edges[:, 1:], -1.0)
    edges = -np.sort(-edges, axis=1)
    high = np.concatenate([np.ones((size, 1)), edges[:, :-1]], axis=1)
    high = np.where(exists > 0, np.maximum(high, 0.0), 0.0)
    low = np.where(exists > 0, np.maximum(edges, 0.0), 0.0)
    q, middle = _spread_out(rng, low, high, exists, level)
    high, low, middle = spread * high, spread * low, spread * middle
    told_rows = told[:, None]
    p = np.where(told_rows, p, q)
    low, high = np.where(told_rows, cost, low), np.where(told_rows, cost, high)
    middle = np.where(told_rows, cost, middle)

    counts = _answers(rng, course, p, exists)
    rows = Rows(low, high, exists, told * 1.0, counts, usual * 1.0)
    # Frequencies are merged as counts are.
    whole = takeup.merged(rows._replace(counts=Counts(p[:, None], counts.first.max(1)[:, None])))
    rows, p = takeup.merged(rows), whole.counts.taken[:, 0]
    middle = np.where(told_rows, 0.5 * (rows.low + rows.high), middle)
    return rows, np.log(np.maximum(p, 0.1 * takeup.LEAST)), middle


def _spread_out(
    rng: np.random.Generator,
    low: np.ndarray,
    high: np.ndarray,
    exists: np.ndarray,
    level: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of stretches of [0, 1] and the mean place in each, of costs of all kinds.

    Half of the populations have a few costs, the others costs that spread around a few.
    """
    size, few, many = len(low), 16, 20
    sharp = rng.uniform(size=size) < 0.5
    number = rng.integers(1, few + 1, size)
    centre = rng.uniform(size=(size, few))
    shares = rng.standard_gamma(np.maximum(level, 1e-2)[:, None], (size, few))
    shares = np.where(np.arange(few) < number[:, None], np.maximum(shares, 1e-30), 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    width = np.where(sharp, 0.0, np.exp(rng.uniform(np.log(0.02), np.log(0.5), size)))
    quantile = np.linspace(-2.0, 2.0, many) if many > 1 else np.zeros(1)
    bell = np.exp(-0.5 * quantile**2)
    atom = centre[:, :, None] + width[:, None, None] * quantile
    atom += (width[:, None, None] * 4.0 / many) * rng.uniform(-0.5, 0.5, (size, few, 1))
    atom = np.abs(np.where(atom > 1.0, 2.0 - atom, atom))
    atom = np.clip(atom, 0.0, 1.0).reshape(size, -1)
    mass = (shares[:, :, None] * bell / bell.sum()).reshape(size, -1)
    frequency, middle = np.zeros_like(low), 0.5 * (low + high)
    for row in range(low.shape[1]):
        inside = (
            (atom >= low[:, row, None]) & (atom < high[:, row, None]) & (exists[:, row, None] > 0)
        )
        frequency[:, row] = np.sum(mass * inside, axis=1)
        moment = np.sum(mass * inside * atom, axis=1)
        some = frequency[:, row] > 1e-12
        middle[:, row] = np.where(
            some, moment / np.where(some, frequency[:, row], 1), middle[:, row]
        )
    total = frequency.sum(axis=1, keepdims=True)
    return frequency / np.where(total > 0, total, 1.0), middle


def _answers(rng: np.random.Generator, course: Course, p: np.ndarray, exists: np.ndarray) -> Counts:
    """Take-up of up to `ROUNDS` menus, of which some rows could not be told apart."""
    size = len(p)
    low, high = np.log(course.devices)
    played = np.arange(ROUNDS) < rng.integers(0, ROUNDS + 1, (size, 1))
    devices = np.exp(rng.uniform(low, high, (size, 1)) + rng.normal(0.0, 0.2, (size, ROUNDS)))
    devices = np.maximum(devices, 1.0).astype(int) * played
    drawn = rng.multinomial(devices, (p / p.sum(axis=1, keepdims=True))[:, None]) * 1.0
    often = rng.uniform(0.3, 1.0, (size, 1, 1)) * np.ones((size, ROUNDS, 1))
    often = np.where(rng.uniform(size=(size, 1, 1)) < 0.25, 1.0, often)
    first = (rng.uniform(size=drawn.shape) < often) * 1.0
    first[..., 0] = 1.0
    return Counts(drawn * exists[:, None], first * exists[:, None])


def train(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    chunk: int = 500,
) -> Weights:
    """Trains a generator from nothing.

    Args:
        seed: of everything.
        course: settings.
        on_progress: told after each chunk how many gradient steps are done, and of how many.
        chunk: gradient steps in one call of the compiled program.
    """
    pool = make_pool(seed, course)
    falling = optax.warmup_cosine_decay_schedule(
        0.0, course.rate, min(200, course.updates), course.updates + 1, course.rate / 50.0
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling, b2=0.99))

    def slope(weights: Any, key: PRNGKeyArray, pool: Pool) -> Any:
        of_rows, of_noise = jax.random.split(key)
        at = jax.random.randint(of_rows, (course.batch,), 0, pool.exists.shape[0])
        shown = jax.tree.map(lambda column: column[at], pool)
        return jax.grad(partial(loss, shown=shown, key=of_noise, noises=course.noises))(weights)

    return descended(
        slope,
        optimiser,
        initial_weights(seed),
        pool,
        jax.random.split(jax.random.key(seed), course.updates),
        # Early on the smoothed weights are those of late.
        memory=lambda done: jnp.minimum(course.memory, (done + 1.0) / (done + 10.0)),
        chunk=chunk,
        on_progress=on_progress,
    )


def loss(weights: Any, shown: Pool, key: PRNGKeyArray, noises: int) -> Array:
    """Squared error of the restored positions, at random noise levels, as the source weighs it."""
    of_level, of_noise = jax.random.split(key)
    shape = (noises, *shown.position.shape)
    log_noise = jax.random.normal(of_level, (*shape[:-1], 1)) * 1.2 - 0.8
    noise = jnp.exp(jnp.clip(log_noise, np.log(0.03), np.log(4.0)))
    noisy = shown.position + noise * jax.random.normal(of_noise, shape)
    mix = jnp.zeros((POSITIONS, POSITIONS))
    told = generator.context(weights, shown.features, shown.exists, mix, shown.guess)
    # Rows of all noise levels flat: matrix products of two axes are quicker.
    flat = Context(
        jnp.broadcast_to(told.base, (noises, *told.base.shape)).reshape(-1, generator.WIDTH),
        mix,
        jnp.broadcast_to(shown.guess, shape).reshape(-1, POSITIONS),
    )
    restored = generator.denoise(
        weights, flat, noisy.reshape(-1, POSITIONS), noise.reshape(-1, 1)
    ).reshape(shape)
    spread = generator.DATA_SPREAD
    weight = (noise**2 + spread**2) / (noise * spread) ** 2
    matters = shown.matters / jnp.maximum(jnp.sum(shown.matters), 1.0)
    return jnp.sum(matters * jnp.mean(weight * (restored - shown.position) ** 2, axis=0))


def initial_weights(seed: int) -> dict[str, tuple[Array, Array]]:
    """Small random weights; the last layer's are nearly 0."""
    return random_weights(seed, generator.sizes(takeup.FEATURES, POSITIONS), last=0.02)


def save(path: Any, weights: Weights) -> None:
    """Writes what was trained; see `menus.save`."""
    menus.save(path, weights)
