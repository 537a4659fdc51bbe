"""The generator: the same in NumPy and JAX, blind to the order of rows and to padding."""

import jax
import jax.numpy as jnp
import numpy as np

from edgepact.solvers.in_context import curves, generator, pricing
from edgepact.solvers.in_context.curves import LEVELS, Intervals, Terms

WEIGHTS = pricing.load(pricing.SHIPPED)


def told(devices: int) -> tuple[Terms, Intervals]:
    rng = np.random.default_rng(1)
    ends = np.sort(rng.uniform(-3.0, 0.0, (2, devices, LEVELS)), axis=0)
    low, high = (np.maximum.accumulate(each, axis=-1) for each in ends)
    terms = Terms(*(np.float32(each) for each in (-3.0, 0.0, 12, 1, 3, devices, 0)))
    none = np.zeros_like(low)
    parts = (low, high, none, none, none, none, np.full(devices, 3.0), np.zeros(devices))
    return terms, Intervals(*(np.asarray(each, np.float32) for each in parts))


def test_numpy_and_jax_restore_alike() -> None:
    terms, at = told(5)
    there = np.ones(5, np.float32)
    noisy = np.random.default_rng(2).normal(size=(5, LEVELS)).astype(np.float32)
    noise = np.full((5, 1), 0.5, np.float32)

    def restored(at, there, noisy, noise):
        features, mix, offset = curves.features(jax.tree.map(xp.asarray, terms), at)
        seen = generator.context(WEIGHTS, features, there, mix, offset)
        return generator.denoise(WEIGHTS, seen, noisy, noise)

    xp = np
    found = restored(at, there, noisy, noise)
    xp = jnp
    same = jax.jit(restored)(*jax.tree.map(jnp.asarray, (at, there, noisy, noise)))
    assert found.shape == (5, LEVELS)
    assert np.allclose(found, same, atol=2e-2)


def test_rows_that_do_not_exist_are_not_read() -> None:
    terms, at = told(5)
    features, mix, offset = curves.features(terms, at)
    there = np.array([1, 1, 1, 0, 0], np.float32)
    few = generator.context(WEIGHTS, features[:3], there[:3], mix[:3], offset[:3])
    padded = generator.context(WEIGHTS, features, there, mix, offset)
    assert np.allclose(few.base, padded.base[:3], atol=1e-4)


def test_positions_lie_within_their_intervals_and_differ_between_draws() -> None:
    terms, at = told(7)
    features, mix, offset = curves.features(terms, at)
    seen = generator.context(WEIGHTS, features, np.ones(7, np.float32), mix, offset)
    first, again, other = (
        generator.sample(WEIGHTS, seen, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.all(np.abs(first) <= 1.0)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
