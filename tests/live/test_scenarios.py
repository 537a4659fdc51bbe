"""A scenario's four steps, with the job done for real."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.framework import Run
from edgepact.live.scenario import run_scenario
from edgepact.mechanisms.contract.quality import CostForm
from edgepact.pacts.training_prices import best_price, earned
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.simulated import CostRange, CostTypes, Simulated
from edgepact.training.federated.task_config import TaskConfig
from tests.training.federated.test_train import needs_flower

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PARTS = ["a resource-efficient method", "an incentive mechanism", "a solver", "the job"]


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edgepact", "run", *options],
        capture_output=True,
        text=True,
        timeout=400,
    )


def steps_of(folder: Path) -> list[dict[str, list[dict[str, str]]]]:
    """The first table of each step; audits and comparisons follow it."""
    steps = json.loads((folder / "steps.json").read_text())["steps"]
    numbers = [each["step"] for each in steps]
    assert sorted(numbers) == numbers
    first = [steps[numbers.index(number)] for number in (1, 2, 3, 4)]
    assert [each["part"] for each in first] == PARTS
    assert [each["chosen"] for each in steps if each["step"] == 2].count("Audit") == 1
    page = (folder / "steps.md").read_text()
    assert page.count("\n## Step ") == len(steps)
    assert ".toml --smoke\n" in page, "the command that made it"
    rows: list[dict[str, list[dict[str, str]]]] = first
    return rows


def values(step: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {next(iter(row.values())): row["value"] for row in step["rows"]}


@pytest.mark.parametrize(
    ("solver", "who"),
    [
        ("golden-section", "A server that prices by golden section"),
        pytest.param("optimum", "A server that was told", marks=pytest.mark.slow),
    ],
)
def test_a_partition_is_priced_and_run_by_any_solver(tmp_path: Path, solver: str, who: str) -> None:
    text = (EXAMPLES / "scenario-partition.toml").read_text()
    file = tmp_path / "own.toml"
    file.write_text(text.replace('"gdm"', f'"{solver}"').replace("images = 8", "images = 2"))
    done = run(str(file), "--smoke", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "Step 3, a solver" in done.stdout
    assert f"Report: {tmp_path / 'out' / 'report.html'}\n" in done.stdout
    steps = steps_of(tmp_path / "out")
    played = steps[2]["rows"]
    assert [row["round"] for row in played] == ["1", "2", "best"]
    assert (played[0]["share of the range"] == "100.00%") == (solver == "optimum")
    told = values(steps[3])
    assert told["images classified"] == "12"
    assert told["paid price times layers for each image"] == "yes"
    assert who in (tmp_path / "out" / "report.html").read_text()


@needs_flower
@pytest.mark.slow
@pytest.mark.parametrize("name", ["compression", "local-work", "selection", "price"])
def test_clients_train_by_every_mechanism(tmp_path: Path, name: str) -> None:
    done = run(str(EXAMPLES / f"scenario-{name}.toml"), "--smoke", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    told = values(steps_of(tmp_path / "out")[3])
    assert told["the books"] == "balance"
    assert int(told["updates accepted"]) > 0


@needs_flower
@pytest.mark.slow
def test_clients_bid_on_rates_of_a_contract(tmp_path: Path) -> None:
    file = tmp_path / "bids.toml"
    terms = EXAMPLES / "train-contract.toml"
    file.write_text(
        f'mechanism = "auction"\nrule = "second_score"\nterms = "{terms}"\n[solver]\n'
        '[efficiency]\nmethod = "compression"\nper_round = 2\n[job]\nname = "training"\n'
    )
    done = run(str(file), "--smoke", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    steps = steps_of(tmp_path / "out")
    assert len(steps[1]["rows"]) == 3, "three rates of the menu"
    assert {row["winners"] for row in steps[2]["rows"]} == {"2"}
    for row in steps[2]["rows"]:
        assert float(row["promised, credits"]) >= float(row["their private costs"])


def test_a_scenario_says_all(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "scenario-partition.toml"), "--rounds", "3")
    assert done.returncode == 2
    assert "--rounds: expected the setting in" in done.stderr
    done = run(str(EXAMPLES / "auction.toml"))
    assert done.returncode == 2
    assert "[efficiency]" in done.stderr


@pytest.mark.parametrize(
    ("name", "said", "instead", "told"),
    [
        (
            "partition",
            '"partition"',
            '"partition"\nmodel = "none"',
            "efficiency.model: expected a",
        ),
        ("partition", "layers_max = 12", "layers_max = 6", "server.layers_max: expected 12"),
        (
            "partition",
            "rounds = 8",
            'rounds = 8\nimages_from = "none"',
            "job.images_from: expected a",
        ),
    ],
)
def test_errors_name_the_file_and_its_fields(
    tmp_path: Path, name: str, said: str, instead: str, told: str
) -> None:
    text = (EXAMPLES / f"scenario-{name}.toml").read_text()
    file = tmp_path / "own.toml"
    file.write_text(text.replace(said, instead))
    with pytest.raises(InputError, match=f"own.toml: {told}"):
        run_scenario(read_scenario(file, smoke=True), Run(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def fleet(costs: CostTypes | CostRange, clients: int, seed: int) -> Simulated:
    return Simulated(task=TaskConfig(), clients=clients, dirichlet=1.0, costs=costs, seed=seed)


def posted(steps: int, saving: float, clients: int) -> ByPrice:
    return ByPrice(
        quoter=GoldenSection(),
        saving_credits=saving,
        clients=clients,
        steps=steps,
        rate_max=0.5,
    )


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    clients=st.integers(1, 6),
    steps=st.sampled_from([1, 3, 12]),
    form=st.sampled_from(["linear", "quadratic"]),
    fixed=st.sampled_from([0.0, 0.1]),
    saving=st.floats(0.05, 2.0),
)
def test_the_best_posted_price_is_as_good_as_any_tried(
    seed: int, clients: int, steps: int, form: CostForm, fixed: float, saving: float
) -> None:
    costs = CostTypes(
        psi=(9.0, 4.0, 1.0), probability=(0.3, 0.3, 0.4), form=form, participation_credits=fixed
    )
    by_price, of = posted(steps, saving, clients), fleet(costs, clients, seed)
    best = earned(by_price, of, best_price(by_price, of))
    tried = np.linspace(1, saving * MICRO, 400).astype(int)
    assert best >= max(earned(by_price, of, int(price)) for price in tried) - 1e-9
