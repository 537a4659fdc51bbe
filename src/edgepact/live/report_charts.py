"""Charts of a report: lines, bars and shaded tables as HTML that says in words what it shows.

A chart is data first. Without scripts lines are a drawing, bars and shades are boxes, and all
numbers stand in a table; the report's script, which is the live page's, draws the lines anew so
that they can be hovered, and copies the numbers. Colours are names of the look that page and report
share (`market/page/static/look.css`), so that a report is light, dark or printed as its reader
wants it.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

T = TypeVar("T")

WIDTH, HEIGHT = 720, 220
"""Of a drawing, in its own units."""

LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 42
"""What the drawing leaves around its plot for numbers and names."""

DRAWN_MAX = 48
"""Rows of bars, or of shades, that are drawn; the numbers have all."""

ROUNDS_MAX = 16
"""Columns of shades that are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        name: in the legend.
        ink: a colour of the look: `device`, `server`, `link`, `ledger`, `quiet`, `ink`.
        values: one for each of the chart's x; None where there is none.
        dash: lengths of dashes and gaps; none for a solid line.
        dots: whether its values are marked.
        joined: whether a line joins them.
    """

    name: str
    ink: str
    values: Sequence[float | None]
    dash: tuple[int, ...] = ()
    dots: bool = False
    joined: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines over a number.

    Attributes:
        title: of the chart.
        unit: of its values.
        across: what x is, with its unit.
        x: in rising order.
        lines: over it.
        log: whether x has a logarithmic scale.
        numbers: positions of the x that the table of numbers has; None for all.
    """

    title: str
    unit: str
    across: str
    x: Sequence[float]
    lines: Sequence[Line]
    log: bool = False
    numbers: Sequence[int] | None = None

    def figure(self) -> str:
        """As HTML."""
        data = json.dumps(
            {
                "lines": {
                    "x": self.across,
                    "log": self.log,
                    "whole": self._whole,
                    "lines": [
                        {
                            "name": each.name,
                            "ink": f"--{each.ink}",
                            "dash": list(each.dash),
                            "dots": each.dots,
                            "joined": each.joined,
                        }
                        for each in self.lines
                    ],
                },
                "columns": [_short(self.x), *(_short(each.values) for each in self.lines)],
            },
            allow_nan=False,
            separators=(",", ":"),
        )
        rows = [
            [number(self.x[at]), *(number(each.values[at]) for each in self.lines)]
            for at in (range(len(self.x)) if self.numbers is None else self.numbers)
        ]
        head = [self.across, *(each.name for each in self.lines)]
        key = "".join(
            f'<span><svg class="dash" viewBox="0 0 28 8" aria-hidden="true">{_sample(each)}</svg>'
            f"{escape(each.name)}</span>"
            for each in self.lines
        )
        return _figure(
            self.title,
            self.unit,
            f'<div class="chart lines" role="img" aria-label="{escape(self._words())}" '
            f'data-lines="{escape(data)}">{self._drawing()}</div><p class="key">{key}</p>',
            table(head, rows),
        )

    @property
    def _whole(self) -> bool:
        """Whether x is counted, as rounds are."""
        return all(float(each).is_integer() for each in self.x)

    def _words(self) -> str:
        """What the chart shows, for who cannot see it."""
        told = []
        for line in self.lines:
            known = [
                (x, value)
                for x, value in zip(self.x, line.values, strict=True)
                if value is not None
            ]
            if not known:
                continue
            (_, first), (_, last) = known[0], known[-1]
            most_at, most = max(known, key=lambda each: each[1])
            told.append(
                f"{line.name}: {number(first)}"
                if len(known) == 1
                else f"{line.name}: from {number(first)} to {number(last)}, "
                f"at most {number(most)} at {number(most_at)}"
            )
        reach = f"{self.across} from {number(self.x[0])} to {number(self.x[-1])}"
        return f"{self.title}, {self.unit}, {reach}. {'; '.join(told)}. All under Numbers."

    def _drawing(self) -> str:
        """The lines as SVG: what is seen without scripts, and printed."""
        known = [value for line in self.lines for value in line.values if value is not None]
        low, high = _around(min(known, default=0.0), max(known, default=1.0))
        over = [math.log10(x) for x in self.x] if self.log else [float(x) for x in self.x]
        left, right = over[0], over[-1] if over[-1] > over[0] else over[0] + 1.0

        def across(x: float) -> float:
            return LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)

        def up(y: float) -> float:
            return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

        parts = [
            f'<path class="rule" d="M{LEFT} {up(y):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{number(y)}</text>'
            for y in _ticks(low, high)
        ]
        ticks = _decades(self.x) if self.log else _ticks(left, right, whole=self._whole)
        parts += [
            f'<text x="{across(math.log10(x) if self.log else x):.1f}" y="{HEIGHT - BOTTOM + 18}" '
            f'text-anchor="middle">{number(x)}</text>'
            for x in ticks
        ]
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
            f"{escape(self.across)}</text>"
        )
        for line in self.lines:
            places = [
                None if y is None else (across(x), up(y))
                for x, y in zip(over, line.values, strict=True)
            ]
            parts.append(_path(line, places))
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true" focusable="false">'
            f"{''.join(parts)}</svg>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Bars of devices, one beside or one after the other.

    Attributes:
        title: of the chart.
        unit: of its values.
        parts: name of each and its colour of the look.
        rows: name of a device and its values, one a part.
        stacked: whether the parts make up a whole, drawn one after the other.
        across: what a row is.
    """

    title: str
    unit: str
    parts: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[float]]]
    stacked: bool = True
    across: str = "device"

    def figure(self) -> str:
        """As HTML."""
        wholes = [
            sum(values) if self.stacked else max(values, default=0.0) for _, values in self.rows
        ]
        longest = max((each for each in wholes if each > 0.0), default=1.0)
        key = "".join(
            f'<span><i class="{ink}"></i>{escape(name)}</span>' for name, ink in self.parts
        )
        shown = spread_out(self.rows, DRAWN_MAX)
        bars = "".join(self._row(name, values, longest) for name, values in shown)
        head = [self.across, *(name for name, _ in self.parts)]
        if self.stacked and len(self.parts) > 1:
            head.append("together")
        rows = []
        for (name, values), whole in zip(self.rows, wholes, strict=True):
            cells = [*values, whole] if len(head) > 1 + len(values) else values
            rows.append([name, *map(number, cells)])
        return _figure(
            self.title,
            self.unit,
            f'<p class="key">{key}</p><dl class="bars">{bars}</dl>'
            + _some(len(shown), len(self.rows)),
            table(head, rows),
        )

    def _row(self, name: str, values: Sequence[float], longest: float) -> str:
        told = ", ".join(
            f"{part} {number(value)}" for (part, _), value in zip(self.parts, values, strict=True)
        )
        pieces = "".join(
            f'<i class="{ink}" style="width:{100.0 * max(value, 0.0) / longest:.2f}%" '
            f'title="{escape(f"{name}, {part}: {number(value)} {self.unit}")}"></i>'
            for (part, ink), value in zip(self.parts, values, strict=True)
        )
        kind = "stacked" if self.stacked else "beside"
        return (
            f"<dt>{escape(name)}</dt><dd>"
            f'<div class="{kind}" role="img" aria-label="{escape(f"{name}: {told} {self.unit}")}">'
            f"{pieces}</div><small>{escape(told)}</small></dd>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shades:
    """Who did how much in which round: a table whose cells are the darker, the more it is.

    Attributes:
        title: of the table.
        unit: of its values.
        columns: names of rounds.
        rows: name of a device and its values; None where it did not answer.
        most: a value that is as dark as can be.
    """

    title: str
    unit: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    most: float

    def figure(self) -> str:
        """As HTML."""
        shown = spread_out(self.rows, DRAWN_MAX)
        places = spread_out(range(len(self.columns)), ROUNDS_MAX)
        head = "".join(f'<th scope="col">{escape(self.columns[at])}</th>' for at in places)
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th>'
            + "".join(self._cell(values[at]) for at in places)
            + "</tr>"
            for name, values in shown
        )
        some = _some(len(places), len(self.columns), "rounds") + _some(len(shown), len(self.rows))
        drawn = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(self.title)}">'
            f'<table class="shades"><thead><tr><th scope="col">device</th>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{some}"
        )
        if not some:
            return _figure(self.title, self.unit, drawn, "")
        rows = [[name, *map(number, values)] for name, values in self.rows]
        return _figure(self.title, self.unit, drawn, table(["device", *self.columns], rows))

    def _cell(self, value: float | None) -> str:
        if value is None:
            return "<td>none</td>"
        share = 45.0 * min(max(value / self.most, 0.0), 1.0) if self.most > 0.0 else 0.0
        return f'<td style="--share:{share:.0f}%">{number(value)}</td>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names its rows; it scrolls sideways where the window is narrow."""
    rows = [tuple(row) for row in rows]
    numeric = [all(_is_number(row[at]) for row in rows) for at in range(len(head))]
    kinds = [' class="number"' if each and at else "" for at, each in enumerate(numeric)]
    top = "".join(
        f'<th scope="col"{kind}>{escape(cell)}</th>' for cell, kind in zip(head, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(
            f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    )
    label = escape(", ".join(each for each in head if each) or "table")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def spread_out(items: Sequence[T], most: int) -> list[T]:
    """So many of them at most, evenly over all, in order.

    Example:
        >>> spread_out("abcdefg", 3)
        ['a', 'd', 'g']
    """
    if len(items) <= most:
        return list(items)
    return [items[round(at * (len(items) - 1) / max(most - 1, 1))] for at in range(most)]


def number(value: float | None) -> str:
    """A number as people read it, to four digits.

    Example:
        >>> number(12345.678), number(0.0123456), number(None)
        ('12,346', '0.01235', 'none')
    """
    if value is None or not math.isfinite(value):
        return "none"
    if value == 0.0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---------------------------------------------------------------- private


def _figure(title: str, unit: str, drawn: str, numbers: str) -> str:
    under = f'<details class="numbers"><summary>Numbers</summary>{numbers}</details>'
    return (
        f"<figure><figcaption><span><strong>{escape(title)}</strong>, {escape(unit)}</span>"
        f"</figcaption>{drawn}{under if numbers else ''}</figure>"
    )


def _some(shown: int, of: int, what: str = "devices") -> str:
    told = f"{shown} of {of} {what} are drawn; the numbers have all."
    return "" if shown == of else f'<p class="quiet-text">{told}</p>'


def _short(values: Sequence[float | None]) -> list[float | None]:
    """For the script: to eight digits, and None where there is no number."""
    return [
        None if each is None or not math.isfinite(each) else float(f"{each:.8g}") for each in values
    ]


def _is_number(cell: str) -> bool:
    return bool(cell) and (cell in ("none", "-", "yes", "no") or cell[0] in "-+.0123456789")


def _around(low: float, high: float) -> tuple[float, float]:
    """Room above and below, so that no line lies on the edge."""
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers between two, five at most."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4.0))
    step *= next(each for each in (1.0, 2.0, 2.5, 5.0, 10.0) if (high - low) / (each * step) <= 5.0)
    step = float(max(1, math.ceil(step))) if whole else step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(at * step, 12) for at in range(first, last + 1)]


def _decades(x: Sequence[float]) -> list[float]:
    low, high = x[0], x[-1]
    places = (factor * 10.0**at for at in range(-12, 13) for factor in (1.0, 2.0, 5.0))
    return [each for each in places if low * (1 - 1e-9) <= each <= high * (1 + 1e-9)]


def _look(line: Line) -> str:
    dash = f";stroke-dasharray:{','.join(map(str, line.dash))}" if line.dash else ""
    return f'style="stroke:var(--{line.ink}){dash}"'


def _sample(line: Line) -> str:
    """A line as the legend has it."""
    stroke = f'<path d="M0 4H28" {_look(line)}/>' if line.joined else ""
    dot = f'<circle cx="14" cy="4" r="3" style="fill:var(--{line.ink})"/>' if line.dots else ""
    return stroke + dot


def _path(line: Line, places: Sequence[tuple[float, float] | None]) -> str:
    drawn = ""
    if line.joined:
        steps, begun = [], False
        for place in places:
            if place is not None:
                steps.append(f"{'L' if begun else 'M'}{place[0]:.1f} {place[1]:.1f}")
            begun = place is not None
        drawn = f'<path d="{"".join(steps)}" {_look(line)}/>'
    if line.dots:
        radius = 2.5 if line.joined else 4.5
        drawn += "".join(
            f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}" '
            f'style="fill:var(--{line.ink})"/>'
            for place in places
            if place is not None
        )
    return drawn
