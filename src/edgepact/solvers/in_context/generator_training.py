"""What the trainings of generators share: weights to begin with, the loss, the gradient steps."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PRNGKeyArray

from edgepact.solvers.in_context import generator
from edgepact.solvers.in_context.generator import Context
from edgepact.solvers.in_context.policy_file import Weights


def random_weights(
    seed: int, sizes: Mapping[str, tuple[int, int]], last: float = 0.1
) -> dict[str, tuple[Array, Array]]:
    """Random weights of the layers of `generator.sizes`; those of the last one `last` times as
    large."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, (inputs, outputs) in sizes.items():
        scale = last if name == "out" else 1.0
        weight = scale / np.sqrt(inputs) * rng.normal(size=(inputs, outputs))
        weights[name] = (jnp.asarray(weight, jnp.float32), jnp.zeros(outputs))
    return weights


def denoising_loss(
    weights: Weights,
    seen: Context,
    position: Array,
    present: Array,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    *,
    noises: int,
    ends: tuple[float, float],
) -> Array:
    """Error of positions restored from noise, as a share of what nobody could know less of.

    Args:
        weights: to be judged.
        seen: what the denoiser is told of every row, `(batch, rows)`.
        position: the truth, `(batch, rows, positions)`.
        present: 1 for rows that exist, else 0, `(batch, rows)`.
        keys: of the noise's level, and of the noise.
        noises: levels at which each row is restored.
        ends: least and highest standard deviation of the noise.
    """
    of_level, of_noise = keys
    seen = Context(*(part[:, None] for part in seen))
    batch, rows, positions = position.shape
    shape = (batch, noises, rows, 1)
    least, most = np.log(ends[0]), np.log(ends[1])
    noise = jnp.exp(jax.random.uniform(of_level, shape, minval=least, maxval=most))
    clean = position[:, None]
    noisy = clean + noise * jax.random.normal(of_noise, (*shape[:-1], positions))
    restored = generator.denoise(weights, seen, noisy, noise)
    weight = (noise**2 + generator.DATA_SPREAD**2) / (noise * generator.DATA_SPREAD) ** 2
    error = jnp.mean(weight * (restored - clean) ** 2, axis=-1)
    there = jnp.broadcast_to(present[:, None], error.shape)
    return jnp.sum(error * there) / jnp.sum(there)


def descended(
    slope: Callable[[Any, PRNGKeyArray, Any], Any],
    optimiser: optax.GradientTransformation,
    weights: Any,
    pool: Any,
    keys: Key[Array, " steps"],
    *,
    memory: Callable[[Array], Array | float],
    chunk: int,
    on_progress: Callable[[int, int], None],
) -> Weights:
    """Takes gradient steps, and returns the smoothed weights.

    Args:
        slope: gradient of the loss at weights, of what a key draws from the pool.
        optimiser: turns gradients into steps.
        weights: to begin with.
        pool: what there is to learn on.
        keys: one for each step.
        memory: how much the smoothed weights keep of themselves in a step, by the number of steps
            before it.
        chunk: steps in one call of the compiled program.
        on_progress: told after each chunk how many steps are done, and of how many.
    """

    def step(pool: Any, carried: Any, key: PRNGKeyArray) -> tuple[Any, None]:
        weights, smooth, state, done = carried
        change, state = optimiser.update(slope(weights, key, pool), state, weights)
        weights = optax.apply_updates(weights, change)
        smooth = optax.incremental_update(weights, smooth, 1.0 - memory(done))
        return (weights, smooth, state, done + 1.0), None

    @jax.jit
    def steps(carried: Any, keys: Key[Array, " steps"], pool: Any) -> Any:
        return jax.lax.scan(partial(step, pool), carried, keys)[0]

    carried = (weights, weights, optimiser.init(weights), jnp.zeros(()))
    for done in range(0, len(keys), chunk):
        carried = steps(carried, keys[done : done + chunk], pool)
        carried[3].block_until_ready()
        on_progress(min(done + chunk, len(keys)), len(keys))
    smoothed: Weights = jax.tree.map(np.asarray, carried[1])
    return smoothed
