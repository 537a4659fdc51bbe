"""The colours, dashes and markers of every picture: of studies and of reports.

Two curves of one picture differ in colour, dashes and marker, so that print without colours tells
them apart as well. The colours are also apart for readers without red or green cones: the least
distance of two of them in CIELAB, to them and to everybody else, is held by a test that simulates
how they see (Machado, Oliveira and Fernandes 2009, severity 1).
"""

from typing import Any, NamedTuple

INK = "#1f2933"
"""Text, axes, and what all else is held against."""
BLUE = "#006aff"
GREEN = "#0f9954"
AMBER = "#cc9900"
PURPLE = "#b20095"
BROWN = "#661a00"
SKY = "#00aaff"
GREY = "#a3adb8"
"""What is only there for comparison."""

DEEP_GREEN = "#0b6e4f"
"""Of reports, in the place of `GREEN`: dark enough for letters on white."""

COLOURS = (BLUE, AMBER, PURPLE, GREEN, BROWN, SKY, INK, GREY)
"""All of them, those that are easiest to tell apart first."""

APART = 30.0
"""Least distance of two colours in CIELAB, as anybody sees them. 2.3 is just noticeable."""

Dashes = str | tuple[int, tuple[float, ...]]
"""A line style of matplotlib's."""

DASHES: tuple[Dashes, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (7, 1.5)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class Look(NamedTuple):
    """How one curve is drawn.

    Attributes:
        colour: of the line, its markers and its band.
        dashes: of the line.
        marker: of its points.
    """

    colour: str
    dashes: Dashes
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """What `Axes.plot` takes."""
        return {"color": self.colour, "linestyle": self.dashes, "marker": self.marker}


LOOKS = tuple(Look(*each) for each in zip(COLOURS, DASHES, MARKERS, strict=True))
"""For the curves of a picture in their order, no two of which have anything in common."""

BLUE_LINE, AMBER_LINE, PURPLE_LINE, GREEN_LINE, BROWN_LINE, SKY_LINE, INK_LINE, GREY_LINE = LOOKS
"""The same by name."""

BAND = 0.18
"""How much of its colour a band has."""
