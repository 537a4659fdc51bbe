"""Tolerances: between honest work and every cheat, at every cut and for every codec.

The shipped ones are held against keys, perturbations and copies that calibration has not seen.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks.random_vit import VitShape
from edgepact.efficiency.model_compression.int8 import quantise_int8
from edgepact.inference.calibration import (
    calibrate,
    draw_pixels,
    int8_weights,
    one_bit_changed,
    tolerance_between,
)
from edgepact.inference.codecs import BUILT_IN, FP32
from edgepact.inference.compact_evidence import deviation, kept
from edgepact.inference.digests import digest_of
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import Pipeline, preprocess, stage_path
from edgepact.inference.sketch import NUMBERS, sketch
from edgepact.inference.tolerances import TOLERANCES_JSON, Tolerances, read_tolerances
from edgepact.jobs.classification import find_images
from edgepact.tensors import Codec, TensorSpec

LAYERS = 12
CUTS = range(1, LAYERS + 1)
HEAD = LAYERS + 1


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(embedded())


@pytest.fixture(scope="module")
def pixels(pipeline: Pipeline) -> list[np.ndarray]:
    return [preprocess(each.path.read_bytes(), pipeline.info) for each in find_images(samples())]


@pytest.fixture(scope="module")
def tolerances() -> Tolerances:
    found = read_tolerances(embedded(), digest_of(embedded()))
    assert found is not None, "run scripts/calibrate_embedded_clip.py: the model has changed"
    return found


def end(amount: int) -> int:
    """The stage whose output is handed over."""
    return HEAD if amount == LAYERS else amount


def through(codec: Codec, amount: int, x: np.ndarray) -> np.ndarray:
    if amount == LAYERS:
        return x
    spec = (TensorSpec(name="x", datatype="FP32", shape=x.shape, coded=True),)
    return np.asarray(codec.unpack(codec.pack({"x": x}, spec), spec)["x"])


def margins_of(
    tolerances: Tolerances, amount: int, own: np.ndarray, came: np.ndarray, key: bytes
) -> list[float]:
    """How far beyond the tolerance what came lies, with each codec, as a multiple of it."""
    found = []
    for codec in BUILT_IN:
        margin = tolerances.of(amount, codec.name)
        assert margin is not None
        evidence = kept(through(codec, amount, came), key)
        far = deviation(evidence, through(codec, amount, own), key)
        found.append(far / margin.tolerance)
    return found


def opened(model: str | bytes, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def chain(
    run: Sequence[Callable[[np.ndarray], np.ndarray]], x: np.ndarray, start: int = 0
) -> dict[int, np.ndarray]:
    """Outputs of the stages from one on."""
    found = {}
    for stage in range(start, len(run)):
        x = found[stage] = run[stage](x)
    return found


@pytest.fixture(scope="module")
def exact(pipeline: Pipeline) -> list[Callable[[np.ndarray], np.ndarray]]:
    return [lambda x, s=s: pipeline.run(x, s, s + 1) for s in range(HEAD + 1)]  # type: ignore[misc]


def test_every_single_skipped_block_is_caught(
    tolerances: Tolerances,
    exact: list[Callable[[np.ndarray], np.ndarray]],
    pixels: list[np.ndarray],
) -> None:
    for i, image in enumerate(pixels[5::43]):
        own = chain(exact, image)
        for block in CUTS:
            skipped = chain(exact, own[block - 1], block + 1)
            skipped[block] = own[block - 1]
            for amount in range(block, LAYERS + 1):
                found = margins_of(
                    tolerances, amount, own[end(amount)], skipped[end(amount)], b"%d" % i
                )
                assert min(found) > 2, (amount, block)


def test_int8_weights_are_caught_at_every_cut(
    tolerances: Tolerances,
    exact: list[Callable[[np.ndarray], np.ndarray]],
    pixels: list[np.ndarray],
) -> None:
    sessions = []
    for stage in range(HEAD + 1):
        content = int8_weights(stage_path(embedded(), stage))
        assert content is not None
        sessions.append(opened(content, ort.GraphOptimizationLevel.ORT_ENABLE_ALL))
    run = [lambda x, s=s: s.run(None, {s.get_inputs()[0].name: x})[0] for s in sessions]
    for i, image in enumerate(pixels[::3]):
        own, cheap = chain(exact, image), chain(run, image)
        for amount in CUTS:
            found = margins_of(tolerances, amount, own[end(amount)], cheap[end(amount)], b"%d" % i)
            assert min(found) > 1, amount


def test_honest_work_of_other_processors_passes_on_every_sample(
    tolerances: Tolerances,
    exact: list[Callable[[np.ndarray], np.ndarray]],
    pixels: list[np.ndarray],
) -> None:
    """No false alarm in 300 images at 12 cuts with 3 codecs, done in two other ways."""
    level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [opened(str(stage_path(embedded(), stage)), level) for stage in range(HEAD + 1)]
    plain = [lambda x, s=s: s.run(None, {s.get_inputs()[0].name: x})[0] for s in sessions]
    rng = np.random.default_rng(2026)

    def perturbed(y: np.ndarray) -> np.ndarray:
        return y * (1 + np.float32(1e-5) * rng.standard_normal(y.shape, np.float32))

    rough = [lambda x, run=run: perturbed(run(x)) for run in exact]
    audits, alarms = 0, 0
    for i, image in enumerate(pixels):
        own = chain(exact, image)
        for done in (chain(plain, image), chain(rough, image)):
            for amount in CUTS:
                found = margins_of(
                    tolerances, amount, own[end(amount)], done[end(amount)], b"own%d" % i
                )
                audits, alarms = audits + len(found), alarms + sum(far > 1 for far in found)
    assert (audits, alarms) == (300 * 12 * 3 * 2, 0)


def test_shipped_margins_leave_room_on_both_sides(tolerances: Tolerances) -> None:
    at = {(margin.amount, margin.codec) for margin in tolerances.margins}
    assert at == {(amount, codec.name) for amount in CUTS for codec in BUILT_IN}
    for margin in tolerances.margins:
        assert margin.tolerance >= 2 * margin.honest
        assert margin.cheat > 2 * margin.tolerance
        assert (margin.false_alarms, margin.power) == (0, 1.0)
    assert tolerances.power == 1


def test_copies_with_one_bit_changed_are_repeats_and_different_images_are_not(
    tolerances: Tolerances, pipeline: Pipeline, pixels: list[np.ndarray]
) -> None:
    rng = np.random.default_rng(7)
    vectors = [pipeline.run(image, 0, HEAD + 1) for image in pixels]
    for image, vector in zip(pixels, vectors, strict=True):
        copy = one_bit_changed(image, pipeline.info, rng)
        assert not np.array_equal(copy, image)
        amount = int(rng.integers(1, LAYERS))
        sent = through(BUILT_IN[0], amount, pipeline.device_part(copy, amount))
        apart = sketch(pipeline.server_part(sent, amount)) - sketch(vector)
        assert np.linalg.norm(apart) < tolerances.repeat_distance
    own = np.concatenate([sketch(vector) for vector in vectors])
    rows, columns = np.triu_indices(len(own), 1)
    near = (np.linalg.norm(own[rows] - own[columns], axis=1) < tolerances.repeat_distance).sum()
    assert (len(rows), near) == (tolerances.pairs, tolerances.pairs_near) == (44850, 0)


def test_sketches_of_long_vectors_keep_their_distances() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    short = sketch(vectors)
    assert short.shape == (40, NUMBERS)
    assert short.dtype == np.float32
    rows, columns = np.triu_indices(40, 1)
    shares = np.linalg.norm(short[rows] - short[columns], axis=1)
    shares /= np.linalg.norm(vectors[rows] - vectors[columns], axis=1)
    assert 0.5 < shares.min() < 1 < shares.max() < 1.5
    assert np.array_equal(sketch(vectors[:, :24]), vectors[:, :24])


# ---------------------------------------------------------------- any model


def test_a_model_without_images_is_calibrated_on_drawn_ones(
    cut_vit: Callable[[VitShape], Path],
) -> None:
    model = cut_vit(VitShape())
    found = calibrate(model, model_digest="d", seconds_max=1.0)
    assert {margin.amount for margin in found.margins} == {1, 2, 3}
    for margin in found.margins:
        assert margin.false_alarms == 0
        assert margin.tolerance >= 2 * margin.honest
    drawn = draw_pixels(Pipeline(model).info, 3, 5)
    again = [calibrate(model, model_digest="d", pixels=drawn, codecs=[FP32]) for _ in range(2)]
    assert again[0] == again[1]


def test_honest_work_passes_where_a_model_is_in_int8_already(tmp_path: Path) -> None:
    """A difference in the last bit becomes a step of a product there."""
    quantise_int8(embedded(), tmp_path / "model")
    drawn = draw_pixels(Pipeline(embedded()).info, 3, 0)
    found = calibrate(tmp_path / "model", model_digest="d", pixels=drawn, codecs=[FP32])
    exact = calibrate(embedded(), model_digest="d", pixels=drawn, codecs=[FP32])
    for margin, other in zip(found.margins, exact.margins, strict=True):
        assert margin.false_alarms == 0
        assert margin.cheat_name != "int8 weights" == other.cheat_name
        assert margin.tolerance > 5 * other.tolerance
        assert margin.power > 0.5


def test_honest_devices_come_first_where_cheats_cannot_be_told_apart() -> None:
    assert tolerance_between(1e-3, 1e-4, 1e-3) == 2e-3
    assert tolerance_between(1e-3, 0.0, 1e-3) == 2e-3
    assert tolerance_between(0.0, 1.0, 0.0) == 1e-5


def test_they_are_read_as_written_and_for_their_own_model_only(
    tolerances: Tolerances, tmp_path: Path
) -> None:
    digest = tolerances.model_digest
    assert read_tolerances(tmp_path, digest) is None
    tolerances.write(tmp_path)
    assert read_tolerances(tmp_path, digest) == tolerances
    assert [path.name for path in tmp_path.iterdir()] == [TOLERANCES_JSON]
    assert read_tolerances(tmp_path, "another") is None
    path = tmp_path / TOLERANCES_JSON
    good = json.loads(path.read_text())
    row = good["margins"][0]
    bad: Any
    for bad in (
        {**good, "format": 0},
        {**good, "margins": [{**row, "tolerance": 0}]},
        {**good, "margins": [{**row, "tolerance": "wide"}]},
        {**good, "margins": [{**row, "power": float("nan")}]},
        {**good, "margins": [{**row, "power": 2}]},
        {**good, "margins": [{**row, "power": "all"}]},
        {**good, "margins": [{"amount": 1}]},
        {**good, "repeat_distance": -1},
        {**good, "other": 1},
        [],
    ):
        path.write_text(json.dumps(bad))
        assert read_tolerances(tmp_path, digest) is None
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        assert read_tolerances(tmp_path, digest) is None


@pytest.mark.parametrize("field", ["repeat_distance", "margins"])
def test_a_number_too_large_for_a_float_is_none_of_them(
    tolerances: Tolerances, tmp_path: Path, field: str
) -> None:
    tolerances.write(tmp_path)
    path = tmp_path / TOLERANCES_JSON
    table = json.loads(path.read_text())
    if field == "margins":
        table["margins"][0]["tolerance"] = 10**400
    else:
        table[field] = 10**400
    path.write_text(json.dumps(table))
    assert read_tolerances(tmp_path, tolerances.model_digest) is None
