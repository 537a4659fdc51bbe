"""The study of pictures: what it says of what it measured."""

import csv
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepact.studies.asked import Asked
from edgepact.studies.drawing import COLUMNS_IN, DPI, write_picture
from edgepact.studies.pictures import Found, Quality, Shown, Split, config_for, draw, verdicts


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
        grid={},
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


def test_the_grid_is_drawn_in_the_style_and_format_asked_for(tmp_path: Path) -> None:
    config = config_for(True)
    images = np.full((config.shown, 28, 28), 128, np.uint8)
    grid = {label: Shown(images, images[:1]) for label in ("Bag", "Coat")}
    for asked in (Asked(format="svg"), Asked(format="pdf"), Asked(style="article", smoke=True)):
        write_picture(tmp_path, "pictures", lambda: draw(grid, config), config, asked)
    assert {each.suffix for each in tmp_path.iterdir()} == {".svg", ".pdf", ".png"}
    (width,) = struct.unpack(">I", (tmp_path / "pictures.png").read_bytes()[16:20])
    assert width == pytest.approx(COLUMNS_IN * DPI["article"], abs=1)
    shown = [axes for axes in draw(grid, config).axes if axes.images]
    assert len(shown) == len(grid) * (config.shown + 1)


@pytest.mark.slow
def test_the_study_in_small_writes_its_page(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("pictures")
    page = (folder / "page.md").read_text(encoding="utf-8")
    assert "smoke run" in page
    assert page.count("**reached**") + page.count("**missed**") == 3
    with (folder / "pictures.csv").open() as file:
        settings = [row["setting"] for row in csv.DictReader(file)]
    assert len(settings) == len(set(settings))
    assert (folder / "pictures.png").stat().st_size > 5000
