"""Pictures of studies: size and letters in print, marks of smoke runs, links of pages."""

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from edgepact.palette import LOOKS
from edgepact.studies.asked import Asked
from edgepact.studies.drawing import (
    COLUMN_IN,
    COLUMNS_IN,
    DPI,
    draw_curve,
    log_ticks,
    mark,
    say_found,
    with_legend,
    write_findings,
    write_picture,
)
from edgepact.studies.quoting import Config


def drawn(across: int) -> Figure:
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(1, across, squeeze=False)
    x = np.arange(9.0)
    for axes in panels.flat:
        for look in LOOKS[:3]:
            draw_curve(axes, x, x, (x - 1.0, x + 1.0), look, label=look.marker)
        axes.set_xlabel("a quantity")
    return with_legend(figure, panels, ncols=3)


@pytest.mark.parametrize(("across", "width_in"), [(1, COLUMN_IN), (2, COLUMNS_IN)])
def test_print_is_as_wide_as_columns(across: int, width_in: float, tmp_path: Path) -> None:
    write_picture(tmp_path, "x", lambda: drawn(across), Config(), Asked(style="article"))
    (width,) = struct.unpack(">I", (tmp_path / "x.png").read_bytes()[16:20])
    assert width == pytest.approx(width_in * DPI["article"], abs=1)


def test_print_embeds_its_letters(tmp_path: Path) -> None:
    asked = Asked(style="article", format="pdf")
    write_picture(tmp_path, "x", lambda: drawn(1), Config(), asked)
    source = (tmp_path / "x.pdf").read_bytes()
    assert b"/FontFile2" in source, "letters of a TrueType font"
    assert b"STIXGeneral" in source
    assert b"/Type3" not in source
    write_picture(tmp_path, "again", lambda: drawn(1), Config(), asked)
    assert (tmp_path / "again.pdf").read_bytes() == source


@pytest.mark.parametrize(("style", "told"), [("page", "as was found"), ("article", "")])
def test_captions_say_what_was_found_in_print(style: str, told: str, tmp_path: Path) -> None:
    figure = drawn(2)
    left, right = figure.axes
    say_found(left, "as was found")
    right.set_title("whole layers")
    write_picture(tmp_path, "x", lambda: figure, Config(), Asked(style=style))
    assert (left.get_title(), right.get_title()) == (told, "whole layers")


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0.3, 6.0, ["0.5", "1", "2", "5"]), (0.005, 60.0, ["0.01", "1"])]
)
def test_numbers_of_a_short_axis_are_plain(low: float, high: float, ticks: list[str]) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set(xscale="log", xlim=(low, high))
    log_ticks(axes.xaxis)
    figure.draw_without_rendering()
    told = [label.get_text() for label in axes.get_xticklabels(which="both")]
    assert set(ticks) <= set(told)
    assert all(float(each) > 0.0 for each in told if each), "no powers written as powers"


def test_a_legend_names_each_curve_once() -> None:
    (legend,) = drawn(2).legends
    assert [text.get_text() for text in legend.get_texts()] == [each.marker for each in LOOKS[:3]]


def test_every_curve_has_a_band_and_markers() -> None:
    (axes,) = drawn(1).axes
    assert len(axes.collections) == len(axes.lines) == 3
    shown = [line.get_markevery()[0] for line in axes.lines]  # type: ignore[index]
    assert all(
        line.get_marker() == look.marker for line, look in zip(axes.lines, LOOKS[:3], strict=True)
    )
    assert max(shown) < len(axes.lines[0].get_xdata())  # type: ignore[arg-type]


def test_a_smoke_run_says_what_it_played(tmp_path: Path) -> None:
    config = Config(fleets=3)
    assert mark(config) == "smoke run (fleets: 3): means nothing"
    for smoke in (True, False):
        asked = Asked(smoke=smoke, format="svg")
        write_picture(tmp_path, f"{smoke}", lambda: drawn(1), config, asked)
        assert (mark(config) in (tmp_path / f"{smoke}.svg").read_text()) == smoke


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(), "![A curve](x.png)"),
        (Asked(format="svg"), "![A curve](x.svg)"),
        (Asked(format="pdf"), "\n[A curve](x.pdf)"),
        (Asked(fleets=7, smoke=True), "$ edgepact study speed --fleets 7 --smoke"),
    ],
)
def test_a_page_shows_the_picture_there_is(asked: Asked, said: str, tmp_path: Path) -> None:
    write_findings(tmp_path, "speed", "A title", ["![A curve](x.png)"], asked)
    assert said in (tmp_path / "page.md").read_text()
