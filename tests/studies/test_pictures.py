"""The study of pictures: what it says of what it measured."""

import csv
from pathlib import Path

import pytest

from edgepact.studies.asked import Asked
from edgepact.studies.pictures import Found, Quality, Split, config_for, run, verdicts


def found(*, few: float, shared: float, chain_bytes: int) -> Found:
    def quality(accuracy: float) -> Quality:
        return Quality(accuracy, 0.01, 20.0, 0.8, 0.7)

    return Found(
        config=config_for(True),
        recipe_steps=8,
        recipe_guidance=1.5,
        real=quality(0.89),
        reduced=quality(0.88),
        swept={(8, 1.5): quality(few), (16, 1.5): quality(0.99)},
        within={0: quality(0.92), 1: quality(shared)},
        across={0: quality(0.92), 1: quality(0.5)},
        split=[Split(4, "int8", quality(0.9), 1.0, chain_bytes, 0.5)],
        png_bytes=600.0,
        margins=(),
    )


@pytest.mark.parametrize(
    ("few", "shared", "chain_bytes", "reached"),
    [
        (0.91, 0.915, 132, [True, True, True]),
        (0.89, 0.915, 132, [False, True, True]),
        (0.91, 0.90, 132, [True, False, True]),
        (0.91, 0.93, 700, [True, True, False]),
    ],
)
def test_marks_are_told_reached_or_missed(
    few: float, shared: float, chain_bytes: int, reached: list[bool]
) -> None:
    told = verdicts(found(few=few, shared=shared, chain_bytes=chain_bytes))
    assert [each[2] for each in told] == reached


@pytest.mark.slow
def test_the_study_in_small_writes_its_page(tmp_path: Path) -> None:
    run(tmp_path, Asked(smoke=True))
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "smoke run" in page
    assert page.count("**reached**") + page.count("**missed**") == 3
    with (tmp_path / "pictures.csv").open() as file:
        settings = [row["setting"] for row in csv.DictReader(file)]
    assert len(settings) == len(set(settings))
    assert (tmp_path / "pictures.png").stat().st_size > 5000
