"""Teaching the generator what supply curves are like: fleets to learn on, one compiled loop.

The prior is broad: the reference prior of `solvers.quoting`, fleets of every family of
satisfaction with any relation of costs, and smooth rising curves of no family. A fleet is shown as
some past prices leave it, which lie anywhere or, at all scales, around the best of those before, as
they do when it is quoted to. The model learns by the denoising loss alone; nothing is decided in
training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction
from edgepact.solvers.in_context import curves, generator
from edgepact.solvers.in_context.curves import DEVICES_LEARNED as DEVICES
from edgepact.solvers.in_context.curves import LEVELS, MARGIN, Intervals, Terms
from edgepact.solvers.in_context.generator_training import denoising_loss, random_weights
from edgepact.solvers.in_context.policy_file import Weights
from edgepact.solvers.quoting import REFERENCE

EVERY_FAMILY = tuple(FAMILIES)

FINE = 48
"""Places at which continuous supply is tabulated, a multiple of `LEVELS`."""

ROUNDS = 14
"""Most past prices."""

INTEGER_SHARE = 0.6
"""Share of fleets with whole layers."""

REFERENCE_KIND, FAMILY_KIND, CURVE_KIND = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Settings of a training.

    Attributes:
        fleets: fleets in the pool.
        reference_share: share of them that come from the reference prior.
        curve_share: share of the others whose curves belong to no family.
        families: satisfaction families of the rest, and of fleets of the reference prior where its
            own is not among them.
        batch: fleets in one gradient step.
        noises: noise levels at which each of their devices is restored.
        updates: gradient steps.
        rate: learning rate at its highest; falls along a cosine.
        memory: of the running mean of the weights that is kept.
    """

    fleets: int = 40_000
    reference_share: float = 0.45
    curve_share: float = 0.45
    families: tuple[str, ...] = EVERY_FAMILY
    batch: int = 48
    noises: int = 2
    updates: int = 30_000
    rate: float = 2e-3
    memory: float = 0.999


class Pool(NamedTuple):
    """Fleets with all that is private to them; prices are logarithms of shares of b.

    Attributes:
        curve: price of every place of the fine scale, the first one that of the first sliver,
            `(fleets, devices, FINE + 1)`.
        level, before, after: prices of the levels, and of the whole layers around them.
        present: 1 for devices that exist.
        low, top, layers_max, integer, wide: as in `curves.Terms`.
    """

    curve: Array
    level: Array
    before: Array
    after: Array
    present: Array
    low: Array
    top: Array
    layers_max: Array
    integer: Array
    wide: Array


class Drawn(NamedTuple):
    """One fleet: prices of places as shares of b by a function of layers, and what is public."""

    price: Callable[[np.ndarray, bool], np.ndarray]
    devices: int
    low: float
    top: float
    layers_max: int


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _of_family(
    family: Satisfaction, alpha: np.ndarray, room: np.ndarray, A: float, b: float
) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Prices of layers, `(devices, layers)`: of each whole one, or of each further sliver."""

    def price(layers: np.ndarray, whole: bool) -> np.ndarray:
        done = A * layers
        with np.errstate(divide="ignore", invalid="ignore"):
            if whole:
                before = np.clip(room[:, None] - done + A, 0.0, None)
                cost = family.drop(before, np.minimum(A, before))
            else:
                cost = A * family.marginal(np.clip(room[:, None] - done, 0.0, None))
        return np.where(done <= room[:, None], alpha[:, None] * cost / b, np.inf)

    return price


def reference_fleet(
    rng: np.random.Generator, families: Sequence[str] = (REFERENCE.satisfaction.name,)
) -> Drawn:
    """A fleet of the reference prior; of one of the families where its own is not among them."""
    family = REFERENCE.satisfaction
    if family.name not in families:
        family = FAMILIES[families[int(rng.integers(len(families)))]]
    devices = int(rng.integers(1, REFERENCE.devices_max + 1))
    fleet, b = REFERENCE.fleet(rng, devices), REFERENCE.beta * REFERENCE.A
    room = np.asarray(fleet.capacity) - REFERENCE.B
    price = _of_family(family, np.asarray(fleet.alpha), room, REFERENCE.A, b)
    top = min(REFERENCE.price_max, b)
    return Drawn(price, devices, REFERENCE.price_min / b, top / b, REFERENCE.layers_max)


def _public(rng: np.random.Generator) -> tuple[int, int, float, float]:
    """Devices, layers, and least and highest price of a fleet of the broad prior."""
    most = 1.0 if rng.uniform() < 0.4 else _log_uniform(rng, 0.8, 5.0)
    layers = LEVELS if rng.uniform() < 0.4 else round(_log_uniform(rng, 4.0, 48.4))
    low = most * _log_uniform(rng, 0.002, 0.15)
    if rng.uniform() < 0.3:
        low, most = REFERENCE.price_min, REFERENCE.price_max
    return int(rng.integers(1, DEVICES + 1)), layers, low, min(most, 1.0)


def family_fleet(rng: np.random.Generator, families: Sequence[str] = EVERY_FAMILY) -> Drawn:
    """A fleet of any family, with any relation of costs; b is 1."""
    devices, layers_max, low, top = _public(rng)
    family = FAMILIES[families[int(rng.integers(len(families)))]]
    # The whole model in GMAC: where satisfaction satiates, a few are all that matter.
    A = _log_uniform(rng, 0.5, 12.0 if family.name == "exp" else 60.0) / layers_max
    unlike = rng.uniform() * rng.uniform(-0.7, 0.7, devices)
    room = A * layers_max * _log_uniform(rng, 0.4, 2.5) * (1.0 + unlike)
    typical = float(room.mean())
    halfway = max(typical - A * min(layers_max, typical / A) / 2.0, 1e-3)
    # Half of the work of a typical device is done for some 4 to 80 % of what it saves.
    alpha = _log_uniform(rng, 0.04, 0.8) / (A * float(family.marginal(np.float64(halfway))))
    spread = rng.uniform() * 0.8
    weights = alpha * np.exp(spread * rng.standard_normal(devices))
    return Drawn(_of_family(family, weights, room, A, 1.0), devices, low, top, layers_max)


def curve_fleet(rng: np.random.Generator) -> Drawn:
    """A fleet whose prices rise smoothly from a first to a last layer, by no formula.

    Layers are spread evenly over a power of the price, with a common bend and one of each
    device's own; the power goes from -2.5 to 1.5.
    """
    devices, layers_max, low, top = _public(rng)
    spread = rng.uniform(0.0, 0.8) if rng.uniform() < 0.7 else rng.uniform(0.5, 1.2)
    start = rng.uniform(np.log(low) - 0.2, -0.2) + spread * rng.standard_normal(devices)
    highest = 5.0
    if rng.uniform() < 0.4:
        # Most of the model is had for the least price, and the last layers are dear.
        start, highest = start - rng.uniform(0.0, 9.0), 12.0
    alike = rng.uniform(0.0, 0.6)
    height = np.exp(np.log(_log_uniform(rng, 0.15, highest)) + alike * rng.standard_normal(devices))
    power = rng.uniform(-2.5, 1.5) + rng.uniform(0.0, 0.5) * rng.standard_normal(devices)
    power = np.where(np.abs(power) < 1e-3, 1e-3, power)
    bend = rng.uniform(0.0, 0.8) * rng.standard_normal()
    own = rng.uniform(0.0, 0.5) * rng.standard_normal(devices)
    cap = np.where(
        rng.uniform(size=devices) < rng.uniform(0.0, 0.6), rng.uniform(0.2, 1.0, devices), 1.0
    )
    first, last = np.exp(power * start), np.exp(power * (start + height))

    def price(layers: np.ndarray, whole: bool) -> np.ndarray:
        place = np.broadcast_to((layers - 0.5 * whole) / layers_max, (devices, len(layers)))
        share = np.clip(place, 0.0, 1.0) ** np.exp(bend + own)[:, None]
        powered = first[:, None] + (last - first)[:, None] * share
        rising = np.exp(np.log(np.maximum(powered, 1e-30)) / power[:, None])
        return np.where(layers <= np.floor(cap * layers_max)[:, None], rising, np.inf)

    return Drawn(price, devices, low, top, layers_max)


def make_pool(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Pool:
    """Draws the fleets to learn on; those from which next to nothing can be gained are left out."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < course.fleets:
        wide = rng.uniform() >= course.reference_share
        if not wide:
            drawn = reference_fleet(rng, course.families)
        elif rng.uniform() < course.curve_share:
            drawn = curve_fleet(rng)
        else:
            drawn = family_fleet(rng, course.families)
        row = tabulated(drawn, integer=bool(rng.uniform() < INTEGER_SHARE), wide=wide)
        if row is not None:
            rows.append(row)
            if len(rows) % 100 == 0:
                on_progress(len(rows), course.fleets)
    return Pool(*(jnp.asarray(np.array(column, np.float32)) for column in zip(*rows, strict=True)))


def tabulated(drawn: Drawn, *, integer: bool, wide: bool) -> tuple[Any, ...] | None:
    """A row of the pool, or None for a fleet from which next to nothing can be gained."""
    low, top, K = np.log(drawn.low), np.log(drawn.top), drawn.layers_max
    whole = np.arange(1.0, K + 1.0)
    places = K * np.arange(FINE + 1) / FINE
    levels = places[FINE // LEVELS :: FINE // LEVELS]

    def logs(prices: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.clip(np.log(prices), low - MARGIN, top + MARGIN)

    if integer:
        prices = logs(drawn.price(whole, True))
        inverse = np.exp(-prices)
        between = [-np.log(np.interp(places, whole, row)) for row in inverse]
        curve = np.array(between)
        at = np.maximum(np.floor(levels + 1e-9).astype(int), 1) - 1
        before, after = prices[:, at], prices[:, np.ceil(levels - 1e-9).astype(int) - 1]
        level = curve[:, FINE // LEVELS :: FINE // LEVELS]
        level = np.clip(level, before, after)
    else:
        curve = logs(drawn.price(np.maximum(places, 1e-9 * K), False))
        level = curve[:, FINE // LEVELS :: FINE // LEVELS]
        before = after = level
    grid = np.linspace(low, top, 128)
    steps = prices if integer else curve[:, 1:]
    sold = np.searchsorted(np.sort(steps, axis=None), grid, side="right") / steps.size
    gain = (1.0 - np.exp(grid)) * sold
    if gain.max() < 0.02:
        return None

    def padded(column: np.ndarray) -> np.ndarray:
        return np.pad(column, ((0, DEVICES - drawn.devices), (0, 0)))

    present = np.arange(DEVICES) < drawn.devices
    return (
        *(padded(each) for each in (curve, level, before, after)),
        present,
        *(low, top, K, float(integer), float(wide)),
    )


def shown(key: PRNGKeyArray, fleet: Pool) -> tuple[Terms, Intervals, Array]:
    """One fleet of the pool as some past prices leave it, and the positions of its levels."""
    of_number, of_prices, of_there = jax.random.split(key, 3)
    number = jnp.floor(ROUNDS * jax.random.uniform(of_number) ** 1.3 + 0.3)
    price = _posted(of_prices, fleet)
    away = jax.random.uniform(of_there, (DEVICES, ROUNDS + 1))
    often = jnp.where(away[0, -1] < 0.1, 0.5, 0.0)
    there = (jnp.arange(ROUNDS) < number) & (away[:, :ROUNDS] >= often)

    each, some = price[None, None, :], there[:, None, :]
    under = some & (each < fleet.before[..., None])
    over = some & (each >= fleet.after[..., None])
    floor, ceiling = fleet.low - MARGIN, fleet.top + MARGIN
    low = jnp.max(jnp.where(under, each, floor), axis=-1)
    high = jnp.min(jnp.where(over, each, ceiling), axis=-1)

    high = jnp.maximum(high, low)
    sold = LEVELS * jax.vmap(partial(_supply, price))(fleet.curve)
    told = curves.pinned(jnp.exp(-price), sold, there, low, high)
    answers = jnp.sum(there, axis=-1) * 1.0
    line, sure, under, over = (jnp.where(fleet.integer == 0, each, 0.0) for each in told)
    at = Intervals(
        low=low,
        high=high,
        line=line,
        sure=sure,
        under=under,
        over=over,
        answers=answers,
        age=jnp.where(answers > 0, 0.0, 50.0),
    )
    terms = Terms(
        fleet.low,
        fleet.top,
        fleet.layers_max,
        fleet.integer,
        number,
        jnp.sum(fleet.present),
        fleet.wide,
    )
    width = jnp.maximum(at.high - at.low, 1e-6)
    position = jnp.clip(2.0 * (fleet.level - at.low) / width - 1.0, -1.0, 1.0)
    return terms, at, position


def _posted(key: PRNGKeyArray, fleet: Pool) -> Array:
    """Prices that are posted to a fleet by somebody who sees no more than its answers.

    Each lies anywhere or, at all scales, around the one that earned most so far. Were they put
    around the best price itself, the generator would learn that the best lies where prices are.
    """
    of_first, of_scale, of_near, of_any, of_where = jax.random.split(key, 5)
    drawn = (
        jnp.power(10.0, jax.random.uniform(of_scale, (ROUNDS,), minval=-2.7, maxval=-0.1)),
        jax.random.normal(of_near, (ROUNDS,)),
        jax.random.uniform(of_any, (ROUNDS,), minval=fleet.low, maxval=fleet.top),
        jax.random.uniform(of_where, (ROUNDS,)) < 0.15,
    )

    def post(best: tuple[Array, Array], now: Any) -> tuple[tuple[Array, Array], Array]:
        scale, near, anywhere, free = now
        price = jnp.where(free | (best[1] <= 0), anywhere, best[0] + scale * near)
        price = jnp.clip(price, fleet.low, fleet.top)
        whole = jnp.mean(fleet.after <= price, axis=-1)
        sold = jax.vmap(partial(_supply, price[None]))(fleet.curve)[:, 0]
        layers = jnp.sum(jnp.where(fleet.integer == 0, sold, whole) * fleet.present)
        earned = (1.0 - jnp.exp(price)) * layers
        more = earned > best[1]
        return (jnp.where(more, price, best[0]), jnp.maximum(earned, best[1])), price

    first = jax.random.uniform(of_first, minval=fleet.low, maxval=fleet.top)
    return jax.lax.scan(post, (first, jnp.zeros(())), drawn)[1]


def _supply(price: Array, curve: Array) -> Array:
    """Shares of the model that a device of the fine scale takes at prices."""
    reached = jnp.sum(curve[None, :] <= price[:, None], axis=-1)
    before = jnp.clip(reached - 1, 0, FINE - 1)
    start, end = jnp.exp(-curve[before]), jnp.exp(-curve[before + 1])
    inside = (start - jnp.exp(-price)) / jnp.maximum(start - end, 1e-9)
    share = (before + jnp.clip(inside, 0.0, 1.0)) / FINE
    return jnp.where(reached == 0, 0.0, share)


def loss(weights: Weights, key: PRNGKeyArray, fleets: Pool, noises: int) -> Array:
    """Error of positions restored from noise, as a share of what nobody could know less of."""
    of_shown, of_level, of_noise = jax.random.split(key, 3)
    batch = fleets.low.shape[0]
    terms, at, position = jax.vmap(shown)(jax.random.split(of_shown, batch), fleets)
    told, mix, offset = curves.features(terms, at)
    seen = generator.context(weights, told, fleets.present, mix, offset)
    ends = curves.NOISE[-1] * 0.75, curves.NOISE[0] * 1.1
    keys = of_level, of_noise
    return denoising_loss(weights, seen, position, fleets.present, keys, noises=noises, ends=ends)


def initial_weights(seed: int) -> dict[str, tuple[Array, Array]]:
    """Random weights."""
    return random_weights(seed, generator.sizes(curves.FEATURES, LEVELS, gap=True))


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
    optimizer, steps = _compiled(course, chunk)
    weights = initial_weights(seed)
    carry = (weights, weights, optimizer.init(weights))
    key = jax.random.key(seed)
    for done in range(0, course.updates, chunk):
        key, now = jax.random.split(key)
        carry = steps(carry, now, pool)
        # Else progress would be told of what has only been asked for.
        jax.tree.map(lambda column: column.block_until_ready(), carry)
        on_progress(done + chunk, course.updates)
    kept: Weights = jax.tree.map(np.asarray, carry[1])
    return kept


@cache
def _compiled(course: Course, chunk: int) -> tuple[optax.GradientTransformation, Any]:
    """The optimizer, and so many gradient steps as one program; compiled once."""
    schedule = optax.cosine_decay_schedule(course.rate, course.updates, 0.01)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def step(pool: Pool, carry: Any, key: PRNGKeyArray) -> tuple[Any, None]:
        weights, kept, state = carry
        of_rows, of_loss = jax.random.split(key)
        rows = jax.random.randint(of_rows, (course.batch,), 0, pool.low.shape[0])
        fleets = jax.tree.map(lambda column: column[rows], pool)
        slope = jax.grad(loss)(weights, of_loss, fleets, course.noises)
        change, state = optimizer.update(slope, state, weights)
        weights = optax.apply_updates(weights, change)
        kept = optax.incremental_update(weights, kept, 1.0 - course.memory)
        return (weights, kept, state), None

    def steps(carry: Any, key: PRNGKeyArray, pool: Pool) -> Any:
        return jax.lax.scan(partial(step, pool), carry, jax.random.split(key, chunk))[0]

    return optimizer, jax.jit(steps)
