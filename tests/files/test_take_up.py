"""Files of past menus: what they say, and how what is impossible is told."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepact
from edgepact.errors import InputError
from edgepact.fields import load
from edgepact.files.take_up import take_up_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "past-menus.toml"


def changed(**fields: Any) -> dict[str, Any]:
    document = load(EXAMPLE)
    for name, value in fields.items():
        document.pop(name, None)
        if value is not None:
            document[name] = value
    return document


def test_the_example_is_read_and_answered() -> None:
    stated = take_up_of(EXAMPLE, load(EXAMPLE))
    assert stated.public.types_told
    assert stated.private is None
    assert [menu.declined for menu in stated.seen.menus] == [0.0, 10.0]
    assert stated.seen.menus[0].taken.tolist() == [23.0, 17.0]
    decision = edgepact.quote(EXAMPLE, seed=2)
    told = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert {"menu", "taken", "profit", "declined"} <= set(told)
    assert len(told["menu"]) == len(told["taken"])
    assert sum(told["taken"]) + told["declined"] == pytest.approx(1.0)
    assert len(decision.sheets[0].rows) == len(told["menu"]) + 1
    assert decision.to_dict() == edgepact.quote(EXAMPLE, seed=2).to_dict()
    with pytest.raises(InputError, match="past rounds stand in the file"):
        edgepact.quote(EXAMPLE, rounds=3)


def test_stated_frequencies_are_held_against_and_not_seen(tmp_path: Path) -> None:
    document = tomllib.loads(EXAMPLE.read_text())
    answers = []
    for shares in ((0.2, 0.3, 0.5), (0.6, 0.3, 0.1)):
        text = EXAMPLE.read_text()
        for cost, share in zip(("3.0", "2.0", "1.0"), shares, strict=True):
            text = text.replace(f"\ncost = {cost}", f"\nprobability = {share}\ncost = {cost}")
        path = tmp_path / "stated.toml"
        path.write_text(text)
        answers.append(edgepact.quote(path).to_dict())
    optima = [answer.pop("optimum") for answer in answers]
    assert answers[0] == answers[1] == edgepact.quote(EXAMPLE).to_dict()
    assert optima[0]["profit"] != optima[1]["profit"]
    assert all(0.0 < each["share"] <= 1.0 + 1e-9 for each in optima)
    assert len(document["type"]) == 3


def test_a_range_of_costs_in_place_of_types(tmp_path: Path) -> None:
    path = tmp_path / "range.toml"
    text = EXAMPLE.read_text()
    start, end = text.index("[[type]]"), text.index("[[round]]")
    path.write_text("cost_min = 0.5\ncost_max = 4.0\n" + text[:start] + text[end:])
    stated = take_up_of(path, load(path))
    assert not stated.public.types_told
    told = edgepact.quote(path).to_dict()
    assert np.all(np.diff([item["quality"] for item in told["menu"]]) > 0)
    assert min(told["cost"]) >= 0.5 - 1e-9
    assert max(told["cost"]) <= 4.0 + 1e-9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"round": 3}, "round: expected up to"),
        ({"round": [{"taken": [1]}]}, r"round\[1\].menu: expected a list of items"),
        (
            {"round": [{"menu": [{"quality": 1.0, "reward": 2.0}], "taken": [1, 2]}]},
            r"round\[1\].taken: expected 1 counts",
        ),
        (
            {"round": [{"menu": [{"quality": 1.0}], "taken": [1]}]},
            r"round\[1\].menu\[1\].reward",
        ),
        (
            {"round": [{"menu": [{"quality": 1.0, "reward": 2.0}], "taken": [1.5]}]},
            r"round\[1\].taken\[1\]: expected a whole number",
        ),
        ({"cost_min": 1.0}, "type: expected types, or the range"),
        ({"cost_min": 2.0, "cost_max": 1.0, "type": None}, "expected min < max"),
        ({"type": [{"cost": 1.0, "probability": 1.0}, {"cost": 2.0}]}, r"type\[2\].probability"),
        ({"rounds": []}, "rounds"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        take_up_of(EXAMPLE, changed(**fields))


def test_take_up_that_nobody_would_show_is_told_with_file_round_and_item(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(EXAMPLE.read_text().replace("declined = 0", "declined = 4"))
    with pytest.raises(InputError, match=r"odd.toml: round\[1\].declined: expected 0 devices"):
        edgepact.quote(path)
