"""How pictures of studies are drawn and written: for a screen, or for a column of print.

A study draws its picture as it is; what depends on the style is set around that. In the style
`article` text is serif and embedded as letters, a picture of one panel across is a column wide and
any other one two columns, as journals of the IEEE have them; titles name panels and say no finding,
since captions do. A smoke run is marked in its picture, with what it really played.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParams, rcParamsDefault
from matplotlib.ticker import LogLocator

from edgepact.pages import write_page
from edgepact.palette import BAND, COLOURS, PURPLE, Look
from edgepact.studies.asked import SIZE, Asked

COLUMN_IN, COLUMNS_IN = 3.5, 7.16
"""Width of one column of print and of two with what is between them, inches."""

LEAST_IN = 2.6
"""Least height in print, inches: labels of axes need it."""

PAGE: dict[str, Any] = {"svg.hashsalt": "edgepact"}
ARTICLE: dict[str, Any] = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],
    "mathtext.fontset": "stix",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 7.0,
    "figure.labelsize": 8.0,
    "figure.titlesize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.6,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "edgepact",
}
"""Type 42 keeps letters of fonts as letters, which printers ask for."""

FINDING = "finding"
"""Label of a panel's title that says what was found, and not which panel it is."""

DPI = {"page": 120, "article": 300}


def write_picture(
    folder: Path, name: str, draw: Callable[[], Any], config: Any, asked: Asked
) -> None:
    """Draws a picture in the style that was asked for and writes it in the format.

    Args:
        folder: of the results.
        name: of the file, without its ending.
        draw: draws a `matplotlib.figure.Figure`.
        config: of the study, as it was played.
        asked: style, format, and whether it is a smoke run.
    """
    settings: Any = ARTICLE if asked.style == "article" else PAGE
    with rc_context(settings):
        figure = draw()
        if asked.style == "article":
            width, height = figure.get_size_inches()
            wide = COLUMN_IN if across(figure) == 1 else COLUMNS_IN
            figure.set_size_inches(wide, max(wide * height / width, LEAST_IN))
            for axes in figure.axes:
                if axes.title.get_label() == FINDING:
                    axes.set_title("")
        if asked.smoke:
            _mark_across(figure, mark(config))
        # No date, so that the same results give the same file.
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(asked.format)
        path = folder / f"{name}.{asked.format}"
        figure.savefig(path, dpi=DPI[asked.style], metadata=dated)


def draw_curve(
    axes: Any,
    x: Any,
    middle: Any,
    band: tuple[Any, ...],
    look: Look,
    *,
    label: str | None = None,
    width: float = 1.5,
    marks: int = 6,
) -> None:
    """A curve with its band, and so many markers along it, so that it is told apart without colour.

    Args:
        axes: panel.
        x, middle: points of the curve.
        band: its lower and upper edge.
        look: how it looks.
        label: in the legend; none if None.
        width: of the line, points.
        marks: markers, fewer where there are fewer points.
    """
    axes.fill_between(x, *band, color=look.colour, alpha=BAND, linewidth=0)
    every = max(1, round(len(x) / marks))
    # Curves that lie on each other have their markers at different points.
    first = COLOURS.index(look.colour) * every // len(COLOURS)
    named = {} if label is None else {"label": label}
    usual = {"linewidth": scaled(width), "markersize": scaled(4.5), "markevery": (first, every)}
    axes.plot(x, middle, **look.line, **usual, **named)


def say_found(axes: Any, words: str) -> None:
    """What was found, as the title of a panel; in print the caption says it, and none is drawn."""
    axes.set_title(words).set_label(FINDING)


def scaled(points: float) -> float:
    """A width or size of marker on a screen, in the style that is being drawn: print is thinner."""
    return points * float(rcParams["lines.linewidth"] / rcParamsDefault["lines.linewidth"])


def log_ticks(axis: Any) -> None:
    """Plain numbers at powers of ten; on an axis of less than two decades, which may hold none, at
    2 and 5 times each as well. To be set when all is drawn."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def with_legend(figure: Any, panels: Any, *, ncols: int, place: str = "lower center") -> Any:
    """The figure with one legend of all panels outside of them, each name once."""
    labels: dict[str, Any] = {}
    for axes in panels.flat:
        handles, names = axes.get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
    around = {"frameon": False, "loc": f"outside {place}", "ncols": ncols}
    figure.legend(labels.values(), labels.keys(), **around)
    return figure


def write_findings(folder: Path, name: str, title: str, parts: Iterable[str], asked: Asked) -> None:
    """Writes `page.md`.

    Args:
        folder: of the results.
        name: of the study, and options of the command that are not sizes.
        title: of the page.
        parts: paragraphs, tables and headings.
        asked: sizes, format, and whether it is a smoke run.
    """
    command = f"{name}{asked.words}"
    write_page(folder, command, title, parts, smoke=asked.smoke, format=asked.format)


def _mark_across(figure: Any, words: str) -> None:
    """Writes over the whole picture, from corner to corner: no part can be cut out of it."""
    width, height = figure.get_size_inches()
    points = 72.0 * float(np.hypot(width, height))
    usual = {"ha": "center", "va": "center", "fontweight": "bold", "color": PURPLE, "alpha": 0.3}
    figure.text(
        0.5,
        0.5,
        words,
        rotation=float(np.degrees(np.arctan2(height, width))),
        fontsize=min(1.2 * points / len(words), 0.05 * points),
        zorder=9.0,
        **usual,
    )


def across(figure: Any) -> int:
    """How many panels stand beside each other."""
    spans = [axes.get_subplotspec() for axes in figure.axes]
    return max((span.get_gridspec().ncols for span in spans if span is not None), default=1)


def mark(config: Any) -> str:
    """What is written over the picture of a smoke run: what it played, and that it means nothing.

    Args:
        config: of the study, as it was played.
    """
    played: dict[str, int] = {}
    for field in fields(config):
        if SIZE in field.metadata:
            value = getattr(config, field.name)
            number = len(value) if isinstance(value, tuple) else value
            played.setdefault(field.name.replace("_", " "), number)
    words = ", ".join(f"{name}: {number}" for name, number in played.items())
    return "smoke run" + (f" ({words})" if words else "") + ": means nothing"
