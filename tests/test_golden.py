"""What the shipped examples are answered, to twelve digits: see tests/golden/write.py."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import InputError
from edgepact.files import mechanism_of
from edgepact.tables import DEVICES_SHOWN, NOBODY_LOSES
from tests.golden.write import EXAMPLES, HERE, QUOTED, SHOWN, SOLVED


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what all examples are answered now."""
    # One process for all, without the checks of types that make solving slow under pytest.
    folder = tmp_path_factory.mktemp("answers")
    subprocess.run([sys.executable, str(HERE / "write.py"), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def shown(answers: Path) -> list[dict[str, Any]]:
    """Name, JSON and tables of every answer, and of the steps of every scenario before its job."""
    return [json.loads(line) for line in (answers / SHOWN).read_text("utf-8").splitlines()]


def test_answers_are_as_they_were(answers: Path) -> None:
    names = sorted(each.name for each in HERE.glob("*.json"))
    assert names == sorted(each.name for each in answers.glob("*.json"))
    for name in names:
        found, held = ((folder / name).read_text(encoding="utf-8") for folder in (answers, HERE))
        # The last digits are the processor's; quotes are drawn in single precision.
        slack = 1e-4 if name.startswith("quote-") else 1e-12
        kept = _kept(json.loads(held), json.loads(found))
        assert _alike(kept, json.loads(held), slack), name


def test_everything_that_a_table_shows_is_in_the_json(shown: list[dict[str, Any]]) -> None:
    assert len(shown) > len(SOLVED) + len(QUOTED)
    missing = [
        (each["name"], sheet["title"], text)
        for each in shown
        for sheet in each["sheets"]
        for text in _texts(sheet)
        for figure in _figures(text, each["told"])
        if not _is_told(figure, each["told"])
    ]
    assert missing == []


def test_a_figure_that_the_json_lacks_is_found() -> None:
    told = {"price": 1.234567, "layers": [3, 4], "benchmarks": {"alone": 10.0}}
    for text in ("1.2346", "1.23", "7", "-8.7654", "2 devices"):
        assert all(_is_told(figure, told) for figure in _figures(text, told)), text
    for text in ("1.2347", "1.3", "9", "8.8", "0.25 credits"):
        assert not all(_is_told(figure, told) for figure in _figures(text, told)), text


def test_every_exact_answer_has_its_audit_as_a_table(shown: list[dict[str, Any]]) -> None:
    for each in shown:
        if not each["name"].startswith(("solve-", "optimum-")):
            continue
        (audit,) = [sheet for sheet in each["sheets"] if sheet["title"] == "Audit"]
        assert audit["head"] == ["question", "answer"], each["name"]
        assert audit["rows"][0][0] == NOBODY_LOSES, each["name"]
        assert "audit" in each["told"], each["name"]


def test_titles_and_notes_are_written_out(shown: list[dict[str, Any]]) -> None:
    for each in shown:
        for sheet in each["sheets"]:
            assert not sheet["title"][0].islower(), sheet["title"]
            for note in sheet["notes"]:
                assert not note[0].islower(), note
                assert note.endswith("."), note


def _alike(one: Any, other: Any, slack: float) -> bool:
    """Whether two answers are the same but for a share of their numbers, or of 1 for small ones."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[k], other[k], slack) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_alike(*pair, slack) for pair in pairs)
    if slack and type(one) is type(other) is float:
        return abs(one - other) <= slack * max(1.0, abs(other))
    return bool(one == other)


def test_answers_are_alike_only_if_they_are() -> None:
    held = {"price": 0.5, "layers": [3, 4], "names": ["a"]}
    for changed in ({"price": 0.51}, {"layers": [3, 5]}, {"layers": [3]}, {"names": ["b"]}):
        assert not _alike(held | changed, held, 1e-4)
    assert _alike(held | {"price": 0.50001}, held, 1e-4)
    assert not _alike(held | {"price": 0.50001}, held, 0.0)


def _kept(held: Any, found: Any) -> Any:
    """What is found under the keys that are held; further ones may have joined them."""
    if isinstance(held, dict) and isinstance(found, dict):
        return {key: _kept(each, found.get(key)) for key, each in held.items()}
    if isinstance(held, list) and isinstance(found, list) and len(held) == len(found):
        return [_kept(one, other) for one, other in zip(held, found, strict=True)]
    return found


def test_every_example_that_solves_is_held() -> None:
    shipped = {each.stem: each for each in EXAMPLES.glob("*.toml")}
    assert set(SOLVED) <= set(shipped)
    for name in sorted(set(shipped) - set(SOLVED)):
        assert not _solvable(shipped[name]), f"{name}: add it to tests/golden/write.py"


def _solvable(file: Path) -> bool:
    """Whether a file names a mechanism and states the devices or bids of one market, and no past
    rounds to decide from instead."""
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    if document.get("job", {}).get("name") == "text":
        return False  # its model is another package, which is not in every environment
    if document.get("efficiency", {}).get("compress") == "model":
        return False  # what its forms cost and keep has to be measured first
    try:
        mechanism = mechanism_of(file)
    except InputError:
        return False
    stated = {"stackelberg": {"server"}, "contract": {"type"}, "auction": {"bid", "bids"}}
    return bool(stated[mechanism] & set(document)) and "round" not in document


def _texts(sheet: dict[str, Any]) -> list[str]:
    """Title, notes and cells; what numbers the rows is no figure."""
    cells = [
        cell
        for number, row in enumerate(sheet["rows"], start=1)
        for cell in (row[1:] if row[0] == f"{number}" else row)
    ]
    return [sheet["title"], *sheet["notes"], *cells]


def _figures(text: str, told: Any) -> list[str]:
    """The numbers in a text, without those in names."""
    for name in sorted(_words(told), key=len, reverse=True):
        text = text.replace(name, "")
    return re.findall(r"(?<![\w.-])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)? ?%?(?![\w-])", text)


def _words(told: Any) -> set[str]:
    if isinstance(told, str):
        return {told} if re.search(r"[a-zA-Z]", told) else set()
    inner = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    return {word for each in inner for word in _words(each)}


def _is_told(figure: str, told: Any) -> bool:
    """Whether a shown number is, rounded, one of the JSON: a value, how many or how much there is
    of a list, or how much more than the server has alone."""
    text = figure.rstrip(" %").replace(",", "")
    mantissa, _, exponent = text.partition("e")
    digits, size = len(mantissa.partition(".")[2]), 10.0 ** int(exponent or 0)
    value = float(text)
    slack = 0.5000001 * size * 10.0**-digits
    if "." not in mantissa and not exponent and len(mantissa.lstrip("+-")) < 4:
        slack = 1e-5 * abs(value)  # too few digits to have been cut: it stands for itself
    if figure.endswith("%"):
        value, slack = value / 100.0, slack / 100.0
    if value == 0.0:
        slack = max(slack, 1e-6)
    alone = _alone(told)
    found = [DEVICES_SHOWN, *_numbers(told)]
    found += [sign * other + each for each in found for other in alone for sign in (1.0, -1.0)]
    return any(abs(each - value) <= slack for each in found)


def _alone(told: dict[str, Any]) -> list[float]:
    """What the server has if nobody takes part."""
    if "benchmarks" in told:
        return [told["benchmarks"]["alone"]]
    return [told["alone"]] if "alone" in told else []


def _numbers(told: Any) -> Iterator[float]:
    if isinstance(told, bool) or told is None or isinstance(told, str):
        return
    if isinstance(told, int | float):
        yield float(told)
        return
    inner = list(told.values() if isinstance(told, dict) else told)
    if isinstance(told, list):
        yield float(len(told))
        if all(isinstance(each, int | float) for each in told):
            yield float(sum(told))
    for each in inner:
        yield from _numbers(each)
