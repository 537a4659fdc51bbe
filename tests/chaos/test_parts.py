"""Parts of `python -m chaos` on real processes: a few kills always, the rest where it may last."""

from pathlib import Path

import pytest

from chaos import buyers, clock, database, kills, standby
from chaos.parts import CannotHere, Given, Part

SEED = 14


def kept(part: Part, folder: Path, rounds: int) -> None:
    """Runs a part in a length, and expects all promises to hold."""
    try:
        outcome = part.run(Given(seed=SEED, rounds=rounds, folder=folder))
    except CannotHere as error:
        pytest.skip(str(error))
    assert outcome.broken == ()


def test_a_few_kills(tmp_path: Path) -> None:
    kept(kills, tmp_path, 2)


@pytest.mark.full  # minutes a part; `make chaos` is the long form
@pytest.mark.parametrize(
    ("part", "rounds"),
    [(kills, 25), (buyers, 25), (standby, 40), (clock, 30), (database, 1)],
    ids=["kills", "buyers", "standby", "clock", "database"],
)
def test_the_middle_form(tmp_path: Path, part: Part, rounds: int) -> None:
    kept(part, tmp_path, rounds)
