"""A scenario is read as a whole, whatever command uses a part of it; slips are recognised."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgepact
from edgepact.errors import InputError
from edgepact.fields import load
from edgepact.live.run import terms_of
from edgepact.live.run_config import RunConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PARTITION = "scenario-partition.toml"
SCENARIOS = sorted(path.name for path in EXAMPLES.glob("scenario-*.toml"))
FILES = [
    *SCENARIOS,
    *("five-cameras.toml", "crowd.toml", "may-decline.toml", "contract.toml", "measured.toml"),
    *("two-costs.toml", "auction.toml", "auction-optimal.toml", "auction-scored.toml"),
]

RUNNING = ("server.layers_max", "name: ", "names ", "job.images_from")
"""What `edgepact run --fleet` refuses when it measures: it may play a market with another model."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a changed example finds the files that it names."""
    for path in EXAMPLES.iterdir():
        if path.suffix in (".csv", ".toml"):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def changed(folder: Path, name: str, change: Callable[[str], str]) -> Path:
    text = (EXAMPLES / name).read_text()
    other = change(text)
    assert other != text
    file = folder / "own.toml"
    file.write_text(other)
    return file


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (
            "scenario-compression.toml",
            "[efficiency]",
            "[efficiency]\ncompress = 'model'",
            "efficiency.compress: expected one of update",
        ),
        (PARTITION, "layers_max = 12", "layers_max = 13", "server.layers_max: expected 12, the"),
        (PARTITION, "[[device]]", "[[device]]\nname = 'a/b c'", "name: expected letters, digits"),
        (PARTITION, "[[device]]", "[[device]]\nname = 'Server'", "names other than 'server'"),
        (PARTITION, "[job]", "[job]\nimages_from = 'nowhere'", "job.images_from: expected a fol"),
        (PARTITION, "[job]", "[job]\nturns = 3", "job.turns: expected one of name"),
        (PARTITION, "[solver]", "[solver]\nspeed = 3", "solver.speed: expected one of name"),
        (PARTITION, "[efficiency]", "[eficiency]", "did you mean [efficiency]?"),
        ("scenario-layer-menu.toml", "[job]", "[jobb]", "did you mean [job]?"),
        ("scenario-selection.toml", "[solver]", "[solvr]", "did you mean [solver]?"),
    ],
)
def test_what_run_refuses_is_refused_by_all(
    folder: Path, name: str, old: str, new: str, told: str
) -> None:
    def change(text: str) -> str:
        if new.startswith("[[device]]\nname"):
            text = re.sub(r"(?m)^name = .*cam.*$|^\s*name = (?!.*classif|.*infer).*$", "", text)
            head, _, rest = text.partition("[[device]]")
            return head + new + rest
        return text.replace(old, new)

    file = changed(folder, name, change)
    commands: list[Callable[[Path], Any]] = [edgepact.solve]
    if name == PARTITION:
        commands.append(edgepact.quote)
        if not told.startswith(RUNNING):
            commands.append(lambda path: terms_of(RunConfig(fleet=path)))
    for command in commands:
        with pytest.raises(InputError, match=re.escape(told)):
            command(file)


def slips(document: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """The keys that a document says something by, each once."""
    for key, value in document.items():
        yield key
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                yield from slips(entry, (*place, key))


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_key_or_table_is_told_with_what_was_meant(folder: Path, name: str) -> None:
    keys = [key for key in dict.fromkeys(slips(load(EXAMPLES / name))) if len(key) > 1]
    assert keys
    for key in keys:
        slip = key[:-1] + 2 * key[-1]
        pattern = rf"(?m)(^\s*|[\[{{,] ?){key}(?=\s*[=\]])"
        file = changed(folder, name, lambda text: re.sub(pattern, rf"\g<1>{slip}", text))  # noqa: B023
        with pytest.raises(InputError) as refused:
            edgepact.solve(file)
        said = str(refused.value)
        assert slip in said, said
        assert re.search(rf"did you mean .?{key}\b", said), said
