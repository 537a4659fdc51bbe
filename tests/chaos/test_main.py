"""The command line of `python -m chaos`: parts, the seed, what is told, the exit status."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chaos import __main__ as command
from chaos import parts
from chaos.parts import CannotHere, Given, Outcome


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> tuple[int, Any]:
    """Exit status, and what was written."""
    out = folder / "found.json"
    monkeypatch.setattr(
        sys, "argv", ["chaos", *arguments, "--folder", str(folder), "--json", str(out)]
    )
    with pytest.raises(SystemExit) as ended:
        command.main()
    return int(ended.value.code or 0), json.loads(out.read_text()) if out.exists() else None


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A part that does what a test sets."""
    made = ModuleType("chaos.nothing")
    made.ABOUT = "nothing at all"  # type: ignore[attr-defined]
    monkeypatch.setattr(command, "there", lambda: ("nothing",))
    monkeypatch.setattr(command, "part", lambda name: made)
    return made


def test_a_part_is_given_the_seed_and_the_length(
    part: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn = []

    def does(given: Given) -> Outcome:
        assert given.folder.is_dir()
        drawn.append((given.rounds, given.draws("a").random(), given.draws("b").random()))
        return Outcome(did="nothing", figures={"ones": 1})

    part.run = does  # type: ignore[attr-defined]
    for _ in range(2):
        code, found = run(monkeypatch, tmp_path, "--rounds", "7", "--seed", "5")
        assert (code, found["seed"], found["rounds"]) == (0, 5, 7)
        assert found["again"] == "python -m chaos nothing --rounds 7 --seed 5"
        (one,) = found["parts"]
        assert (one["state"], one["figures"]) == ("kept", {"ones": 1})
    assert drawn[0] == drawn[1]
    assert drawn[0][1] != drawn[0][2]
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]  # nothing is left


def test_a_broken_promise_and_a_part_that_fails_end_with_1(
    part: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    part.run = lambda given: Outcome(did="all", broken=("it rains",))  # type: ignore[attr-defined]
    code, found = run(monkeypatch, tmp_path)
    assert (code, found["parts"][0]["broken"]) == (1, ["it rains"])
    told = capsys.readouterr().out
    assert "BROKEN nothing: it rains" in told
    assert f"What is left of it: {tmp_path}" in told

    def fails(given: Given) -> Outcome:
        raise ZeroDivisionError("by nothing")

    part.run = fails  # type: ignore[attr-defined]
    code, found = run(monkeypatch, tmp_path)
    assert code == 1
    assert "ZeroDivisionError: by nothing" in found["parts"][0]["broken"][0]


def test_what_cannot_be_done_here_is_told_and_is_no_success(
    part: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def cannot(given: Given) -> Outcome:
        raise CannotHere("no compiler")

    part.run = cannot  # type: ignore[attr-defined]
    code, found = run(monkeypatch, tmp_path)
    assert (code, found["parts"][0]["state"], found["parts"][0]["reason"]) == (
        0,
        "not here",
        "no compiler",
    )


def test_unknown_parts_and_lengths_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "rain") == (2, None)
    assert "found rain" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path, "--rounds", "0") == (2, None)


@pytest.mark.parametrize("name", parts.there())
def test_parts_say_what_they_do(name: str) -> None:
    loaded = parts.part(name)
    assert loaded.ABOUT.strip()
    assert callable(loaded.run)
