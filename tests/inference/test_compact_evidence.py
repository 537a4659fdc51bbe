"""What is kept of an activation: how much, where, and what it tells apart."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgepact.inference.compact_evidence import (
    DRAWN,
    EVIDENCE_BYTES_MAX,
    LARGEST,
    deviation,
    drawn_positions,
    kept,
)

SHAPES = [(1, 16, 64), (1, 50, 768), (1, 1000, 16), (1, 512), (1, 64), (1, 1, 1)]


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_a_kilobyte_at_most(shape: tuple[int, ...]) -> None:
    evidence = kept(drawn(shape), b"key")
    assert len(evidence) <= EVIDENCE_BYTES_MAX <= 1024


@given(arrays(np.float32, array_shapes(max_side=40), elements=st.floats(-1e5, 1e5, width=32)))
def test_a_tensor_does_not_deviate_from_itself(x: np.ndarray) -> None:
    assert deviation(kept(x, b"key"), x, b"key") == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_deviation_is_a_share_of_ones_own_numbers(shape: tuple[int, ...]) -> None:
    own = np.abs(drawn(shape)) + 1
    for factor in (0.0, 0.5, 1.5, 4.0):
        found = deviation(kept(factor * own, b"key"), own, b"key")
        assert found == pytest.approx(abs(factor - 1), rel=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_positions_are_in_every_row_alike_and_follow_from_the_key(shape: tuple[int, ...]) -> None:
    size, rows = math.prod(shape), math.prod(shape[:-1])
    positions = drawn_positions(shape, b"key")
    assert positions.min() >= 0
    assert positions.max() < size
    assert np.array_equal(positions, drawn_positions(shape, b"key"))
    if size <= DRAWN:
        assert positions.tolist() == list(range(size))
        return
    assert not np.array_equal(positions, drawn_positions(shape, b"other"))
    counts = np.bincount(positions // shape[-1], minlength=rows)
    assert counts.max() - counts.min() <= 1


def test_no_row_is_safe_where_there_are_more_than_positions() -> None:
    shape = (1, 1000, 16)
    rows = {int(p) // 16 for i in range(40) for p in drawn_positions(shape, b"%d" % i)}
    assert len(rows) == 1000


def test_right_large_numbers_do_not_make_up_for_wrong_ones_elsewhere() -> None:
    """As activations of transformers are: a few numbers hold most of the magnitude."""
    own = drawn((1, 50, 768))
    own[0, :, 3] *= 10_000
    cheat = drawn(own.shape, 1)
    cheat[0, :, 3] = own[0, :, 3]
    found = [deviation(kept(cheat, b"%d" % i), own, b"%d" % i) for i in range(50)]
    assert np.median(found) > 0.5


def test_one_invented_token_of_fifty_shows() -> None:
    own = drawn((1, 50, 768))
    cheat = own.copy()
    cheat[0, 17] = drawn((768,), 1)
    found = [deviation(kept(cheat, b"%d" % i), own, b"%d" % i) for i in range(50)]
    assert min(found) > 0.005


def test_numbers_beyond_half_precision_are_kept_as_its_end() -> None:
    own = np.full((1, 4, 4), 1e6, np.float32)
    assert deviation(kept(own, b"key"), own, b"key") == 0
    assert deviation(kept(-own, b"key"), own, b"key") == 2


def test_what_is_no_evidence_of_such_a_tensor_deviates_without_end() -> None:
    own = drawn((1, 16, 64))
    good = kept(own, b"key")
    outside = (10**6).to_bytes(4, "little") + good[4:]
    nan = good[: 4 * LARGEST] + np.float16(np.nan).tobytes() + good[4 * LARGEST + 2 :]
    for bad in (b"", good[:-1], good + b"\0", kept(drawn((1, 64)), b"key"), outside, nan):
        assert deviation(bad, own, b"key") == math.inf
    assert deviation(good, own * np.float32(np.inf), b"key") == math.inf
    zeros = np.zeros_like(own)
    assert deviation(kept(zeros, b"key"), zeros, b"key") == 0
    assert deviation(good, zeros, b"key") == math.inf
