"""What the shipped examples are answered, to the digit: see tests/golden/write.py."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.files import mechanism_of
from tests.golden.write import EXAMPLES, HERE, SOLVED


def test_answers_are_as_they_were(tmp_path: Path) -> None:
    # One process for all, without the checks of types that make solving slow under pytest.
    subprocess.run([sys.executable, str(HERE / "write.py"), str(tmp_path)], check=True)
    names = sorted(each.name for each in HERE.glob("*.json"))
    assert names == sorted(each.name for each in tmp_path.iterdir())
    for name in names:
        found, held = ((folder / name).read_text(encoding="utf-8") for folder in (tmp_path, HERE))
        assert _kept(json.loads(held), json.loads(found)) == json.loads(held), name


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
    """Whether a file names a mechanism and states the devices or bids of one market."""
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        mechanism = mechanism_of(file)
    except InputError:
        return False
    stated = {"stackelberg": {"server"}, "contract": {"type"}, "auction": {"bid", "bids"}}
    return bool(stated[mechanism] & set(document))
