import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.optimize import lsq_linear

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.profile import REPEATS_MAX, Profile, fit_line, profile
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import ModelInfo


@pytest.fixture(scope="module")
def measured() -> Profile:
    return profile(embedded(), repeats=30)


def test_the_line_is_that_of_the_cuts(measured: Profile) -> None:
    # How straight it is, and that no neighbour bends it, is for `edgepact profile` to show.
    assert len(measured.seconds_per_cut) == 13
    assert min(*measured.seconds_per_cut, *measured.seconds_per_stage) > 0
    assert measured.fit == fit_line(measured.seconds_per_cut)
    assert measured.fit.B_s >= 0.0


def test_costs_come_from_the_graph(measured: Profile) -> None:
    macs = graph.macs_per_stage(embedded())
    assert measured.gmac_per_stage == tuple(count / 1e9 for count in macs)
    assert measured.gmac_per_s == measured.costs.A / measured.fit.A_s


def test_bytes_of_codecs_beside_those_of_the_image(measured: Profile) -> None:
    info = ModelInfo.read(embedded())
    numbers = info.tokens * info.width
    found = {cost.codec: cost.bytes_per_image for cost in measured.codecs}
    assert found == {"int8": numbers + 4 * info.tokens, "fp16": 2 * numbers, "fp32": 4 * numbers}
    assert measured.pixel_bytes == info.image_size**2
    assert measured.vector_bytes == 4 * info.dim
    assert all(cost.encode_s > 0 and cost.decode_s > 0 for cost in measured.codecs)


def test_json_holds_all_of_it_and_nothing_json_has_not(measured: Profile) -> None:
    table = measured.to_dict()
    assert json.loads(json.dumps(table)) == table
    assert table["seconds_per_cut"] == list(measured.seconds_per_cut)
    assert table["fit"]["A_s"] == measured.fit.A_s
    assert (table["A_gmac"], table["B_gmac"]) == (measured.costs.A, measured.costs.B)


def test_the_table_names_every_stage_and_the_fit(measured: Profile) -> None:
    written = io.StringIO()
    Console(width=100, file=written).print(measured)
    text = written.getvalue()
    rows = ["embed", *(f"block {block}" for block in range(1, 13)), "head"]
    assert all(f"│ {name} " in text for name in rows)
    assert f"R squared {measured.fit.r_squared:.4f}" in text
    assert all(f"{cost.codec}: {cost.bytes_per_image:,} bytes" in text for cost in measured.codecs)


def test_progress_is_told_after_each_repeat(tmp_path: Path) -> None:
    model_dir = write_vit(tmp_path / "m", VitShape(layers=1, channels=3))
    graph.cut(model_dir)
    told: list[tuple[int, int]] = []
    found = profile(model_dir, repeats=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (found.model, found.repeats, len(found.seconds_per_stage)) == ("random-vit", 3, 3)
    assert found.pixel_bytes == 3 * 28 * 28


@pytest.mark.parametrize("repeats", [0, -1, REPEATS_MAX + 1])
def test_repeats_are_limited(repeats: int) -> None:
    with pytest.raises(InputError, match="repeats: expected a number from 1"):
        profile(embedded(), repeats=repeats)


def test_a_description_that_contradicts_the_graph(tmp_path: Path) -> None:
    model_dir = write_vit(tmp_path / "m", VitShape(layers=2))
    graph.cut(model_dir)
    path = model_dir / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_max": 1}))
    with pytest.raises(InputError, match="layers_max: expected 2, the number of blocks"):
        profile(model_dir, repeats=1)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_the_fit_is_least_squares_with_no_time_below_zero(seconds: list[float]) -> None:
    layers = np.column_stack([np.arange(len(seconds)), np.ones(len(seconds))])
    bounds = ([-np.inf, 0.0], np.inf)
    slope, start = lsq_linear(layers, seconds, bounds, method="bvls", tol=1e-12).x
    fit = fit_line(seconds)
    assert fit.A_s == pytest.approx(slope, rel=1e-6, abs=1e-6)
    assert fit.B_s == pytest.approx(start, rel=1e-6, abs=1e-6)
    if np.ptp(seconds) > 1e-3:
        missed = layers @ (slope, start) - seconds
        explained = 1.0 - missed @ missed / np.sum((seconds - np.mean(seconds)) ** 2)
        assert fit.r_squared == pytest.approx(explained, abs=1e-6)


def test_a_fit_needs_two_cuts() -> None:
    with pytest.raises(InputError, match="at least two times"):
        fit_line([1.0])
