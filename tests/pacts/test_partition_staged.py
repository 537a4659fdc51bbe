"""Partitions of models in stages: what scenarios state of them, costs, shares, whole runs."""

import functools
import json
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.inference.graph import cut_file
from edgepact.inference.stage_folder import STAGES_JSON, read_stage_folder
from edgepact.jobs.staged.arrays import arrays_in
from edgepact.market.statement import read_statement
from edgepact.pacts.partition_jobs import SplitJob
from edgepact.pacts.partition_staged import (
    SPLIT_PHOTOGRAPHS,
    SPLIT_SENTENCES,
    SPLIT_STAGED,
    StagedResult,
    job_for,
    stage_costs,
    stages_profile,
)
from edgepact.pacts.partition_terms import SplitTerms
from tests.tiny_stages import CUTS, tiny_stages

EXAMPLES = Path(__file__).parents[2] / "examples"

SERVER = "[server]\nrevenue = 40.0\nbeta = 30000.0\n"
PRIOR = "[prior]\nalpha_min = 1.0\nalpha_max = 6.0\ncapacity_min = 4e-4\ncapacity_max = 8e-4\n"
TOPS = {
    "stackelberg": "",
    "contract": f"{SERVER}{PRIOR}",
    "auction": f'rule = "vcg"\nlayers_total = 6\n{SERVER}{PRIOR}',
}
SOLVERS = {"stackelberg": "golden-section", "contract": "optimum", "auction": "exact"}
JOB = 'name = "staged"\ndevices = 2\nrounds = 2\npieces = 4\naudit_probability = 1.0\n'


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    cut_file(tiny_stages(place), CUTS, place / "stages")
    return place / "stages"


ROW: dict[str, Any] = {
    **{name: "a" for name in ("piece", "file", "label_true", "answer", "codec", "state")},
    **{"alone": False, "audited": False, "facts": {"label": "cat"}},
    **{"device_seconds": 0.1, "encode_seconds": 0.1},
}


def stated(folder: Path, stages: Path, mechanism: str, job: str = JOB) -> Path:
    path = folder / f"{mechanism}.toml"
    path.write_text(
        f'mechanism = "{mechanism}"\n{TOPS[mechanism]}'
        f'[efficiency]\nmethod = "partition"\nmodel = "{stages}"\n'
        f'[solver]\nname = "{SOLVERS[mechanism]}"\n[job]\n{job}'
    )
    return path


def run(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "edgepact", "run", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("split", [SPLIT_STAGED, SPLIT_PHOTOGRAPHS, SPLIT_SENTENCES])
def test_each_is_a_job_in_the_eyes_of_a_partition(split: object) -> None:
    assert isinstance(split, SplitJob)


@pytest.mark.parametrize("mechanism", list(TOPS))
def test_scenarios_state_units_and_inputs(tmp_path: Path, stages: Path, mechanism: str) -> None:
    path = stated(tmp_path, stages, mechanism, f'{JOB}pieces_from = "arrays"\n')
    terms = read_scenario(path).terms
    assert isinstance(terms, SplitTerms)
    assert (terms.job, terms.units, terms.inputs_from) == ("staged", 4, tmp_path / "arrays")
    assert terms.model_folder == stages
    small = read_scenario(path, smoke=True).terms
    assert isinstance(small, SplitTerms)
    assert small.units == 2
    path = stated(tmp_path, stages, mechanism, f"{JOB}speed = 1\n")
    with pytest.raises(InputError, match="speed"):
        read_scenario(path)


def test_all_stages_are_for_sale_and_nothing_beside_them(stages: Path) -> None:
    model = read_stage_folder(stages)
    costs = stage_costs(model)
    assert costs.layers_max == model.stages == SPLIT_STAGED.model(stages, {}).amount_max
    assert costs.B == costs.head == 0.0
    assert costs.device(model.stages) == pytest.approx(costs.total) == pytest.approx(163840e-9)
    assert costs.server(2) == pytest.approx(sum(costs.per_stage[3:]))
    found = stages_profile(model, 3)
    assert found.seconds_per_cut[0] == 0.0
    assert len(found.seconds_per_cut) == model.stages + 1
    assert [each.codec for each in found.codecs] == ["int8", "fp16", "fp32"]
    rows = found.sheets[0].rows
    assert [row[0] for row in rows] == [f"stage {at}" for at in range(1, model.stages + 1)]


def test_what_cannot_be_counted_is_not_priced(stages: Path, tmp_path: Path) -> None:
    table = json.loads((stages / STAGES_JSON).read_text())
    for path in stages.glob("stage_*.onnx"):
        (tmp_path / path.name).symlink_to(path)
    for changed, told in (
        ({"macs": None, "uncounted": "node mix: com.other.Mix"}, "node mix"),
        ({"macs": [0] * (len(CUTS) + 1)}, "none do"),
    ):
        (tmp_path / STAGES_JSON).write_text(json.dumps(table | changed))
        with pytest.raises(InputError, match=told):
            stage_costs(read_stage_folder(tmp_path))


def test_devices_get_pieces_of_their_own(tmp_path: Path) -> None:
    for at in range(9):
        np.save(tmp_path / f"{at}.npy", np.zeros(1))
    shares = {"per_round": 2, "rounds": 3, "seed": 0}
    with SPLIT_STAGED.shared_out(tmp_path, ["a", "b"], **shares) as found:
        places = {name: place for name, place in found.folders.items() if place}
        given = {name: {p.name for p in arrays_in(place)} for name, place in places.items()}
        assert len(given["a"] | given["b"]) == 9
        assert not given["a"] & given["b"]
        assert found.repeat_rounds == 2
    with SPLIT_STAGED.shared_out(None, ["a", "b"], **shares) as found:
        assert found.folders == {"a": None, "b": None}
    lines = tmp_path / "lines.txt"
    lines.write_text("One.\nTwo.\nThree.\n")
    with SPLIT_SENTENCES.shared_out(lines, ["a", "b"], **shares) as found:
        texts = [place.read_text().split() for place in found.folders.values() if place]
        assert sorted(functools.reduce(operator.iadd, texts, [])) == ["One.", "Three.", "Two."]
    for at in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{at}.png")
    with SPLIT_PHOTOGRAPHS.shared_out(tmp_path, ["a", "b"], **shares) as found:
        assert all(place and len(list(place.iterdir())) == 2 for place in found.folders.values())


def test_a_line_keeps_what_a_reading_has_added() -> None:
    names = [name for name in StagedResult.__dataclass_fields__ if name != "more"]
    timed = dict.fromkeys(name for name in names if name.endswith("_seconds"))
    row = dict.fromkeys(names, 0) | timed | ROW
    line = json.dumps(row | {"vector": [1.0]})
    found = StagedResult.from_line(line)
    assert found is not None
    assert found.more == {"vector": [1.0]}
    assert found.label == "cat"
    assert StagedResult.from_line(json.dumps({"piece": "a"})) is None


def test_a_model_says_which_job_it_is_for(stages: Path) -> None:
    assert job_for(stages) == "staged"


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", list(TOPS))
def test_every_mechanism_prices_stages(tmp_path: Path, stages: Path, mechanism: str) -> None:
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for at in range(8):
        words = np.random.default_rng(at).integers(50, size=(1, 6 + at))
        np.savez(arrays / f"<script>{at}.npz", words=words)
    job = f'{JOB}pieces_from = "arrays"\ncodec = "fp32"\n'
    told = run(stated(tmp_path, stages, mechanism, job), "--out", tmp_path / "out")
    assert "NO" not in told.split("Step 4")[1].split()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    statement = read_statement(f"sqlite:///{tmp_path / 'out' / 'ledger.db'}")
    assert statement.balanced
    assert statement.jobs.get("forfeit", 0) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["agreement"] == 1.0
    assert metrics["audited"] > 0


@pytest.mark.slow
def test_the_example_names_photographs(tmp_path: Path) -> None:
    told = run(EXAMPLES / "scenario-photo.toml", "--out", tmp_path / "out")
    assert "NO" not in told.split("Step 4")[1].split()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "espresso" in page
    assert page.count("data:image/jpeg;base64,") >= 12
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["agreement"] > 0.9


@pytest.mark.slow
def test_the_main_job_takes_an_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACT_STAGES", str(tmp_path / "kept"))
    path = tiny_stages(tmp_path)
    run("--model", path, "--smoke", "--devices", "2", "--images", "2", "--out", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["agreement"] == 1.0
    assert metrics["books_balance"]
