"""Results as tables for the terminal, for pages and for notebooks.

What a result has to show is a `Sheet`; here it becomes Rich, Markdown or HTML, and nowhere else.
Cells are text that may come from anybody, such as the name of a device: none of it is markup.
Rich is loaded when something is printed, since a device prints no tables.
"""

from collections.abc import Sequence
from html import escape as html_escape
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from edgepact.framework import Sheet

if TYPE_CHECKING:
    from rich.console import RenderableType

ROUNDING = 1e-9
"""What is smaller than this beside the numbers it was computed from is nothing."""

DEVICES_SHOWN = 20
"""Most devices with a row; the JSON has all."""

NOBODY_LOSES = "nobody is worse off than by staying away"
"""The question of individual rationality; a utility may be negative beside it."""

NOBODY_ENVIES = "nobody likes another's item better"
"""The question of incentive compatibility, of a menu."""

NO_LIE_PAYS = "no lie about costs pays"
"""The question of incentive compatibility, of an auction."""

IF_KNOWN = "the exact optimum, if the costs of all were known"
"""What a yardstick is that needs what is private."""


def one(noun: str) -> str:
    """One of what a noun says.

    Example:
        >>> one("image"), one("step")
        ('an image', 'a step')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class Shown:
    """Base of results: a notebook shows their sheets as HTML, `rich.print` as tables."""

    __slots__ = ()

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What is shown; each result has its own."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return "".join(html(sheet) for sheet in self.sheets)

    def __rich__(self) -> "RenderableType":
        from rich.console import Group

        return Group(*(rich_table(sheet) for sheet in self.sheets))


def rich_table(sheet: Sheet) -> "RenderableType":
    """A sheet for the terminal: title, table, notes; columns of figures are aligned right.

    What has to be typed again, the column `name`, is on one line however narrow the terminal. Where
    figures had to be cut for it, they stand on a line below their name.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if sheet.head[:1] == ("name",) and _natural_width(sheet) > _terminal_width():
        return Group(
            Text(sheet.title, style="bold"), *_in_two_lines(sheet), *map(Text, sheet.notes)
        )
    table = Table()
    for name, words in zip(sheet.head, _words(sheet), strict=True):
        justify: Literal["left", "right"] = "left" if words else "right"
        table.add_column(Text(name), justify=justify, no_wrap=name == "name")
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    return Group(Text(sheet.title, style="bold"), table, *(Text(note) for note in sheet.notes))


def markdown(sheet: Sheet) -> str:
    """A sheet as a section of a Markdown page."""
    lines = [
        _markdown_row(sheet.head),
        _markdown_row([":--" if words else "--:" for words in _words(sheet)]),
        *(_markdown_row([_markdown_cell(cell) for cell in row]) for row in sheet.rows),
    ]
    return "\n\n".join([f"## {sheet.title}", "\n".join(lines), *sheet.notes])


def html(sheet: Sheet) -> str:
    """A sheet as HTML, for notebooks and pages."""
    head = "".join(f"<th>{html_escape(name)}</th>" for name in sheet.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html_escape(cell)}</td>" for cell in row) + "</tr>"
        for row in sheet.rows
    )
    notes = "".join(f"<p>{html_escape(note)}</p>" for note in sheet.notes)
    return (
        f"<section><h3>{html_escape(sheet.title)}</h3><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{notes}</section>"
    )


def figure(value: float, beside: float, digits: int = 6) -> str:
    """A number for a table: 0 where it is only what rounding left of larger ones.

    Args:
        value: the number.
        beside: the size of the numbers it came from.
        digits: significant ones to show.

    Example:
        >>> figure(1.77636e-15, beside=8.0), figure(0.25, beside=8.0)
        ('0', '0.25')
    """
    return "0" if abs(value) <= ROUNDING * abs(beside) else f"{value:.{digits}g}"


def decimals(value: float, digits: int = 4) -> str:
    """A number with so many decimals, none of which reads -0.0000.

    Example:
        >>> decimals(-1e-9), decimals(2.5)
        ('0.0000', '2.5000')
    """
    return f"{0.0 if abs(value) < 0.5 * 10.0**-digits else value:.{digits}f}"


def yes(fact: bool) -> str:
    """A fact in a cell; what should not be stands out."""
    return "yes" if fact else "NO"


def audit_sheet(*answers: tuple[str, str]) -> Sheet:
    """An audit, of whatever mechanism: questions and what was found."""
    return Sheet(title="Audit", head=("question", "answer"), rows=answers)


def _terminal_width() -> int:
    from rich.console import Console

    return Console().width


def _natural_width(sheet: Sheet) -> int:
    """Of a table in which no name and no figure is cut; words may be folded."""
    least = [
        max(len(part) for part in (*head.split(), *([] if words and at else column)))
        for at, (head, words, column) in enumerate(_columns(sheet))
    ]
    return sum(least) + 3 * len(least) + 1


def _columns(sheet: Sheet) -> list[tuple[str, bool, Sequence[str]]]:
    columns = zip(*sheet.rows, strict=True) if sheet.rows else [("",)] * len(sheet.head)
    return list(zip(sheet.head, _words(sheet), columns, strict=True))


def _in_two_lines(sheet: Sheet) -> list["RenderableType"]:
    """A name, and below it everything else; heads are folded to what they stand above."""
    from rich.text import Text

    columns = _columns(sheet)[1:]
    widths = [max(len(part) for part in (*head.split(), *column)) for head, _, column in columns]
    heads = [wrap(head, width) for (head, _, _), width in zip(columns, widths, strict=True)]
    high = max(len(each) for each in heads)
    padded = [[""] * (high - len(each)) + each for each in heads]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            ["", *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))]
        )

    top = [sheet.head[0], *(line(cells) for cells in zip(*padded, strict=True))]
    lines: list[RenderableType] = [Text(each, style="bold") for each in top]
    for name, *cells in sheet.rows:
        lines += [Text(name, overflow="fold"), Text(line(cells), overflow="fold")]
    return lines


def _words(sheet: Sheet) -> list[bool]:
    """Whether a column is words: the first, and any whose cells all start with a letter."""
    columns = zip(*sheet.rows, strict=True) if sheet.rows else [()] * len(sheet.head)
    return [
        at == 0 or (any(column) and all(cell[:1].isalpha() for cell in column if cell))
        for at, column in enumerate(columns)
    ]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
