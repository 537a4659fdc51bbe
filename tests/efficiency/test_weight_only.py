"""Weights in 8 bits a channel and in 4 bits a block."""

from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import given

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.footprint import footprint
from edgepact.efficiency.model_compression.weight_only import (
    BLOCK,
    in_blocks,
    per_channel,
    quantise_weights4,
    quantise_weights8,
)
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.pipeline import Pipeline

Quantise = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_vit(tmp_path_factory.mktemp("small"), VitShape(layers=2))
    graph.cut(folder)
    return folder


def matrix(inputs: int, outputs: int, seed: int, spread: float) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((inputs, outputs)) * spread


SIZES = (st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**32 - 1))
SPREADS = st.sampled_from([1e-6, 0.05, 1.0, 3e4])


@given(*SIZES, SPREADS)
def test_a_channel_is_off_by_half_a_step_at_most(
    inputs: int, outputs: int, seed: int, spread: float
) -> None:
    weights = matrix(inputs, outputs, seed, spread)
    codes, scales = per_channel(weights)
    assert (np.abs(codes * scales - weights) <= scales * (0.5 + 1e-4)).all()
    assert (np.abs(codes).max(axis=0) == 127).all()


@given(*SIZES, SPREADS)
def test_a_block_is_off_by_a_step_at_most(
    inputs: int, outputs: int, seed: int, spread: float
) -> None:
    weights = matrix(inputs, outputs, seed, spread)
    codes, scales = in_blocks(weights)
    whole = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], BLOCK)
    undone = ((whole.astype(int) - 8) * scales[..., None]).reshape(outputs, -1)[:, :inputs].T
    step = np.repeat(np.abs(scales), BLOCK, axis=1)[:, :inputs].T
    # The one that is as large as the largest but of the other sign loses a whole step.
    assert (np.abs(undone - weights) <= step * (1 + 1e-4)).all()
    largest = np.abs(weights).argmax(axis=0)
    row = np.arange(outputs)
    assert undone[largest, row] == pytest.approx(weights[largest, row], rel=1e-5)


def test_zeros_stay_zeros() -> None:
    for codes, scales in (per_channel(np.zeros((40, 2))), in_blocks(np.zeros((40, 2)))):
        assert (scales == 1).all()
        assert set(codes.reshape(-1).tolist()) <= {0, 0x88}


@pytest.mark.parametrize(
    ("quantise", "operator"),
    [(quantise_weights8, "DequantizeLinear"), (quantise_weights4, "MatMulNBits")],
)
def test_fewer_bytes_as_many_operations_and_no_neighbours(
    quantise: Quantise, operator: str, small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    quantise(small, out)
    before, after = footprint(small), footprint(out)
    assert after.macs == before.macs
    assert after.weight_bytes < 0.75 * before.weight_bytes
    nodes = onnx.load(out / "image.onnx").graph.node
    assert operator in {node.op_type for node in nodes}
    pipeline = Pipeline(out)
    assert pipeline.takes_batches()
    pixels = np.random.default_rng(0).standard_normal((2, *pipeline.expects(0)[1]), np.float32)
    own, exact = pipeline.device_part(pixels, 2), Pipeline(small).device_part(pixels, 2)
    assert np.sum(own * exact, axis=1) == pytest.approx(1.0, abs=0.05)
    assert not np.array_equal(own, exact)


def test_a_model_without_matrices_is_refused(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "in-4"
    quantise_weights4(small, out)
    with pytest.raises(InputError, match="a MatMul with a constant matrix"):
        quantise_weights8(out, tmp_path / "again")
    with pytest.raises(InputError, match="a new or empty folder"):
        quantise_weights8(small, out)
