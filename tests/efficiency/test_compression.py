"""Updates survive the wire, lose no more than theory allows, and bad messages are refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.efficiency.compression import (
    QSGD,
    Composed,
    Compressor,
    Identity,
    Int8,
    TopK,
    at_rate,
    measure,
    with_error_feedback,
)
from edgepact.errors import InputError

COMPRESSORS: list[Compressor] = [
    Identity(),
    TopK(0.1),
    TopK(0.9),
    QSGD(4),
    Int8(block=16),
    Int8(stochastic=True),
    Composed(TopK(0.2), QSGD(8)),
    Composed(TopK(0.2), Int8()),
]


def _vector(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lossless_compressors_return_what_was_sent(size):
    rng, vector = np.random.default_rng(1), _vector(size)
    for compressor in (Identity(), TopK(1.0)):
        payload = compressor.encode(vector, rng)
        np.testing.assert_array_equal(compressor.decode(payload, size), vector)


@given(seed=st.integers(0, 1000), size=st.integers(1, 200), kept=st.floats(0.01, 1))
def test_top_k_contracts(seed, size, kept):
    vector, top = _vector(size, seed), TopK(kept)
    decoded = top.decode(top.encode(vector, np.random.default_rng(0)), size)
    lost = float(np.sum((vector - decoded) ** 2))
    assert np.count_nonzero(decoded) == top.count(size)
    assert lost <= (1 - top.count(size) / size) * float(np.sum(vector**2)) * (1 + 1e-5)


def test_int8_errs_by_at_most_half_a_step():
    vector, coder = _vector(1000), Int8(block=1000)
    decoded = coder.decode(coder.encode(vector, np.random.default_rng(0)), 1000)
    assert np.abs(vector - decoded).max() <= np.abs(vector).max() / 127 / 2 * 1.001


@pytest.mark.parametrize("coder", [QSGD(1), QSGD(8), QSGD(64), Int8(stochastic=True)])
def test_random_rounding_is_unbiased(coder):
    rng, vector = np.random.default_rng(2), _vector(64)
    # Away from 0: an entry that is never drawn would show no deviation to judge by.
    vector = vector + np.sign(vector) * np.float32(0.5)
    draws = np.stack([coder.decode(coder.encode(vector, rng), 64) for _ in range(3000)])
    error = draws.mean(0) - vector
    deviation = draws.std(0) / math.sqrt(len(draws))
    assert np.all(np.abs(error) <= 5 * deviation + 1e-4)


@pytest.mark.parametrize("levels", [1, 4, 16, 64])
def test_qsgd_keeps_its_variance_bound(levels):
    rng, size = np.random.default_rng(3), 256
    vector, coder = _vector(size), QSGD(levels)
    losses = [
        np.sum((coder.decode(coder.encode(vector, rng), size) - vector) ** 2) for _ in range(400)
    ]
    bound = min(size / levels**2, math.sqrt(size) / levels) * float(np.sum(vector**2))
    assert np.mean(losses) <= bound + 4 * np.std(losses) / math.sqrt(len(losses))


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
def test_error_feedback_loses_nothing(compressor):
    rng, residual = np.random.default_rng(4), np.zeros(300, np.float32)
    sent, meant = np.zeros(300), np.zeros(300)
    for step in range(20):
        vector = _vector(300, step)
        payload, residual = with_error_feedback(compressor, vector, residual, rng)
        sent += compressor.decode(payload, 300)
        meant += vector
    np.testing.assert_allclose(sent + residual, meant, atol=1e-3)


@given(size=st.integers(1, 3000), rates=st.tuples(*[st.floats(0.001, 1)] * 2))
@settings(deadline=None)
def test_a_rate_bounds_the_bytes_and_more_of_it_loses_no_more(size, rates):
    vector, rng = _vector(size), np.random.default_rng(5)
    low, high = (measure(at_rate(rate), vector, rng) for rate in sorted(rates))
    assert low.bytes <= 4 * size * min(rates) + 64
    assert high.bytes <= 4 * size * max(rates) + 64
    assert high.relative_error <= low.relative_error + 0.01


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_bad_message_is_refused_or_harmless(compressor, data):
    size = data.draw(st.integers(1, 100))
    good = compressor.encode(_vector(size), np.random.default_rng(6))
    cut = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=40))
    for payload in (noise, good[:cut] + noise, good[:cut] + noise + good[cut + len(noise) :]):
        try:
            decoded = compressor.decode(payload, size)
        except InputError:
            continue
        assert decoded.shape == (size,)
        assert np.isfinite(decoded).all()


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_refused(compressor, bad):
    vector = _vector(20)
    vector[3] = bad
    with pytest.raises(InputError, match="finite"):
        compressor.encode(vector, np.random.default_rng(0))
