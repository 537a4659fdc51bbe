"""Teaching the in-context policy of `menus`: populations to learn on, and one compiled loop.

Every population carries its true frequencies, so the optimal prices and the profit of any menu
are known exactly. Two lessons follow one another:

* *expert*: the denoiser learns to restore the optimal prices from noise. Given what the policy
  sees, several populations are possible, and it learns to draw from their best prices;
* *value*: what a drawn menu earns, as a share of the optimum, is raised by moving the whole
  chain up its gradient. Profit is what matters and not the distance of prices: where little is
  known, the menu that earns most on average is nobody's best one.

The pools are drawn with NumPy, all at once: counts of many devices are quick there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from edgepact.mechanisms.contract.ironing import ironed, virtual_cost
from edgepact.mechanisms.contract.problem import Instance, InstancePrior, Worth
from edgepact.mechanisms.contract.take_up import TakeUp, frequencies, told_apart
from edgepact.solvers.in_context import menus
from edgepact.solvers.in_context.menus import STEPS, TYPES, Policy, Scene
from edgepact.solvers.in_context.policy_file import Constants
from edgepact.solvers.learners.diffusion import chain

ROUNDS = 3
"""Most rounds of take-up that are learned on."""

ABSENT = 1e-9
"""Frequency of padding: next to nothing, and what is divided by it stays finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Settings of a training.

    Attributes:
        populations: in a pool.
        pools: drawn one after another.
        batch: populations in a gradient step.
        updates: gradient steps in all.
        expert_share: share of them that follow the expert.
        rate: learning rate at its highest; falls along a cosine.
        draws: of the chain for one population in a step of the second lesson.
        told: share of populations whose frequencies are told.
        devices: range of the number that answered in a round, log-uniform.
    """

    populations: int = 20_000
    pools: int = 8
    batch: int = 256
    updates: int = 10_000
    expert_share: float = 0.25
    rate: float = 1e-3
    draws: int = 2
    told: float = 0.3
    devices: tuple[float, float] = (4.0, 4000.0)


class Pool(NamedTuple):
    """Populations; leading axis populations, types padded in front to `TYPES`.

    Attributes:
        scene: what is seen of them.
        probability: true frequencies; `ABSENT` of padding.
        saturates, scale, quadratic, quality_max: of value and cost, as in `Instance`.
    """

    scene: Scene
    probability: Array
    saturates: Array
    scale: Array
    quadratic: Array
    quality_max: Array


class _Lesson(NamedTuple):
    weights: Any
    smooth: Any
    optimiser: Any
    steps: Array


def make_pool(seed: int, course: Course, number: int | None = None) -> Pool:
    """Draws populations of 1 to `TYPES` types of the broad prior, and take-up of past menus."""
    rng = np.random.default_rng(seed)
    size = course.populations if number is None else number
    prior = InstancePrior()

    def uniform(span: tuple[float, float]) -> np.ndarray:
        return rng.uniform(*span, size)

    def log_uniform(span: tuple[float, float]) -> np.ndarray:
        return np.exp(rng.uniform(np.log(span[0]), np.log(span[1]), size))

    types = rng.integers(1, TYPES + 1, size)
    exists = (np.arange(TYPES) >= TYPES - types[:, None]).astype(float)
    places = np.where(exists > 0, rng.uniform(size=(size, TYPES)), 2.0)
    places = -np.sort(-places, axis=1)
    dearest = np.take_along_axis(places, (TYPES - types)[:, None], axis=1)
    places = np.minimum(places, dearest)
    psi = np.exp(uniform(prior.spread)[:, None] * (places - places[:, -1:]))

    shape = np.repeat(log_uniform(prior.concentration)[:, None], TYPES, axis=1)
    weight = np.log(rng.gamma(shape + 1.0)) + np.log(rng.uniform(size=shape.shape)) / shape
    # Half of the populations have a hump: types of middling or of any other cost prevail.
    hump = np.arange(TYPES) - rng.uniform(-2.0, TYPES + 2.0, (size, 1))
    hump = -0.5 * (hump / np.exp(rng.uniform(0.0, 2.0, (size, 1)))) ** 2
    weight = weight + np.where(rng.uniform(size=(size, 1)) < 0.5, hump, 0.0)
    p = exists * np.exp(weight - np.max(np.where(exists > 0, weight, -np.inf), axis=1)[:, None])
    p = (1.0 - prior.least) * p / p.sum(axis=1)[:, None] + prior.least * exists / types[:, None]

    saturates, quadratic = (rng.uniform(size=(2, size)) < 0.5).astype(float)
    bounds = (log_uniform(prior.saturating_max), log_uniform(prior.quality_max))
    quality_max = np.where(saturates > 0, *bounds)
    wanted = uniform(prior.top) * quality_max
    slope = np.where(saturates > 0, np.exp(-wanted), 1.0 / (1.0 + wanted))
    scale = np.where(quadratic > 0, 2.0 * wanted, 1.0) / slope

    scene = _seen(rng, psi, exists, p, course)
    present = np.where(exists > 0, p, ABSENT)
    columns = [jnp.asarray(c) for c in (present, saturates, scale, quadratic, quality_max)]
    pool = Pool(scene, *columns)
    return jax.tree.map(lambda column: jnp.asarray(column, jnp.float32), pool)


def _seen(
    rng: np.random.Generator, psi: np.ndarray, exists: np.ndarray, p: np.ndarray, course: Course
) -> Scene:
    """Take-up of one to `ROUNDS` menus, of which some types could not be told apart."""
    size = len(psi)
    low, high = np.log(course.devices)
    played = np.arange(ROUNDS) < rng.integers(1, ROUNDS + 1, (size, 1))
    number = np.exp(rng.uniform(low, high, (size, 1))).astype(int) * played
    drawn = rng.multinomial(number, p[:, None])
    often = rng.uniform(0.4, 1.0, (size, 1, 1))
    first = (rng.uniform(size=drawn.shape) < often).astype(float)
    begins = exists - np.pad(exists, ((0, 0), (1, 0)))[:, :-1]
    first = np.maximum(first * exists[:, None], begins[:, None])
    take_up = TakeUp(drawn.astype(float), first)
    told = rng.uniform(size=size) < course.told
    estimate = np.where(told[:, None], p, frequencies(take_up, exists, pseudo=1.0))
    apart = np.where(told[:, None], np.inf, told_apart(take_up))
    apart = np.where(exists > 0, apart, 0.0)
    return Scene(psi, exists, estimate, apart, np.where(told, np.inf, number.sum(axis=1)))


def train_policy(
    seed: int,
    course: Course,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    chunk: int = 500,
) -> Policy:
    """Trains a policy from nothing.

    Args:
        seed: of everything.
        course: settings.
        on_progress: told after each chunk how many gradient steps are done, and of how many.
        chunk: gradient steps in one call of the compiled program.
    """
    constants = chain("vp", STEPS)
    falling = optax.warmup_cosine_decay_schedule(
        0.0, course.rate, min(100, course.updates), course.updates + 1, course.rate / 50.0
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling, b2=0.99))

    def update(expert: bool) -> Callable[..., _Lesson]:
        lesson_of = _restored if expert else _earned

        def step(pool: Pool, lesson: _Lesson, key: PRNGKeyArray) -> tuple[_Lesson, None]:
            of_rows, of_noise = jax.random.split(key)
            rows = jax.random.randint(of_rows, (course.batch,), 0, pool.probability.shape[0])
            part = jax.tree.map(lambda column: column[rows], pool)
            policy = Policy(lesson.weights, Constants(*constants))
            gradient = jax.grad(
                lambda weights: lesson_of(
                    policy._replace(weights=weights), part, of_noise, course.draws
                )
            )(lesson.weights)
            change, state = optimiser.update(gradient, lesson.optimiser, lesson.weights)
            weights = optax.apply_updates(lesson.weights, change)
            rate = jnp.maximum(0.002, 1.0 / (lesson.steps + 1.0))
            smooth = jax.tree.map(lambda old, new: old + rate * (new - old), lesson.smooth, weights)
            return _Lesson(weights, smooth, state, lesson.steps + 1.0), None

        def run(pool: Pool, lesson: _Lesson, keys: Array) -> _Lesson:
            return jax.lax.scan(lambda now, key: step(pool, now, key), lesson, keys)[0]

        return jax.jit(run)

    lessons = {expert: update(expert) for expert in (True, False)}
    weights = _initial_weights(seed)
    lesson = _Lesson(weights, weights, optimiser.init(weights), jnp.zeros(()))
    keys = jax.random.split(jax.random.key(seed), course.updates)
    turn = int(course.updates * course.expert_share)
    done, pool, drawn = 0, None, -1
    while done < course.updates:
        wanted = done * course.pools // course.updates
        if wanted != drawn:
            pool, drawn = make_pool(seed * 1000 + wanted, course), wanted
        expert = done < turn
        end = min(done + chunk, turn if expert else course.updates)
        lesson = lessons[expert](pool, lesson, keys[done:end])
        lesson.steps.block_until_ready()
        done = end
        on_progress(done, course.updates)
    kept = {name: jax.tree.map(np.asarray, lesson.smooth[name]) for name in menus.sizes()}
    return Policy(kept, Constants(*(np.asarray(part) for part in constants)))


def best_prices(pool: Pool) -> Float[Array, "populations types"]:
    """Ironed virtual costs for the true frequencies."""
    return ironed(virtual_cost(pool.scene.psi, pool.probability), pool.probability)


def share_earned(
    pool: Pool, price: Float[Array, "populations types"]
) -> Float[Array, " populations"]:
    """What menus at falling prices earn, as a share of the optimum."""

    def one(row: Pool, price: Array, best: Array) -> Array:
        worth = Worth(row.saturates, row.scale, jnp.ones(()), jnp.zeros(()))
        instance = Instance(row.scene.psi, row.probability, worth, row.quadratic, row.quality_max)
        earned = instance.profit(instance.bought_at(price))
        return earned / instance.profit(instance.bought_at(best))

    return jax.vmap(one)(pool, price, best_prices(pool))


def _restored(policy: Policy, pool: Pool, key: PRNGKeyArray, draws: int) -> Array:
    """Squared error of the best prices restored from noise, at four random steps."""
    of_step, of_noise = jax.random.split(key)
    best = menus.action_of(pool.scene, best_prices(pool))[:, None]
    size = best.shape[0]
    shape = (size, 4, TYPES)
    signal = policy.constants.signal[jax.random.randint(of_step, (size, 4, 1), 0, STEPS)]
    noisy = signal * best + jnp.sqrt(1.0 - signal**2) * jax.random.normal(of_noise, shape)
    seen = menus.grounds(policy.weights, pool.scene)
    missed = (menus.denoise(policy.weights, seen, noisy, signal) - best) ** 2
    # Rare types matter less, and padding not at all.
    weight = pool.scene.exists * (pool.probability + 0.02)
    return jnp.mean(jnp.sum(missed * weight[:, None], axis=-1))


def _earned(policy: Policy, pool: Pool, key: PRNGKeyArray, draws: int) -> Array:
    """Mean share of the optimum that drawn menus miss."""
    size = pool.probability.shape[0]
    noise = jax.random.normal(key, (size, STEPS, draws, TYPES))
    drawn = menus.draw(policy, pool.scene, noise)

    def missed(action: Array) -> Array:
        return 1.0 - share_earned(pool, menus.prices_of(pool.scene, action))

    lost = jax.vmap(missed, in_axes=1)(drawn)
    return jnp.mean(lost)


def _initial_weights(seed: int) -> dict[str, tuple[Array, Array]]:
    rng = np.random.default_rng(seed)
    weights = {}
    for name, (inputs, outputs) in menus.sizes().items():
        scale = (0.02 if name == "denoiser_out" else 1.0) / np.sqrt(inputs)
        weight = scale * rng.normal(size=(inputs, outputs))
        weights[name] = (jnp.asarray(weight, jnp.float32), jnp.zeros(outputs))
    return weights
