"""Results as tables for the terminal, for pages and for notebooks.

What a result has to show is a `Sheet`; here it becomes Rich, Markdown or HTML, and nowhere else.
Cells are text that may come from anybody, such as the name of a device: none of it is markup.
Rich is loaded when something is printed, since a device prints no tables.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape as html_escape
from typing import TYPE_CHECKING, Literal

from edgepact.framework import Sheet

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

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

    What has to be typed again, the column `name`, is on one line however narrow the terminal:
    where it leaves the figures no room, the rows are numbered and the names stand below. Without
    such a column, what has no room stands in further tables.
    """
    from rich.console import Group
    from rich.text import Text

    title, notes = Text(sheet.title, style="bold"), (Text(note) for note in sheet.notes)
    return Group(title, _Fitting(sheet), *notes)


class _Fitting:
    """The table of a sheet, as wide as it may be."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> "Iterator[RenderableType]":
        from rich.text import Text

        sheet, room = self._sheet, options.max_width
        if _taken(_whole_widths(sheet)) <= room:
            yield _table(sheet)
            return
        widths = _narrow_widths(sheet, room)
        if _taken(widths) <= room:
            yield _table(sheet, widths)
            return
        if "name" not in sheet.head:
            for part in _beside_each_other(sheet, widths, room):
                yield _table(part)
            return
        at = sheet.head.index("name")
        rows = [
            (str(number), *row[:at], *row[at + 1 :]) for number, row in enumerate(sheet.rows, 1)
        ]
        head = ("", *sheet.head[:at], *sheet.head[at + 1 :])
        figures = Sheet(title=sheet.title, head=head, rows=tuple(rows))
        widths = _narrow_widths(figures, room)
        yield _table(figures, widths if _taken(widths) <= room else ())
        for number, row in enumerate(sheet.rows, 1):
            # Longer than the terminal is wide, it is the terminal that breaks it.
            yield Text(f"{number:>3} {row[at]}", no_wrap=True, overflow="ignore")


def _beside_each_other(sheet: Sheet, widths: Sequence[int], room: int) -> Iterator[Sheet]:
    """A sheet too wide for the room in several, each with the first column and some others."""
    if len(widths) == 1:
        yield sheet
    at = 1
    while at < len(widths):
        last = at + 1
        while last < len(widths) and _taken([widths[0], *widths[at : last + 1]]) <= room:
            last += 1
        head = (sheet.head[0], *sheet.head[at:last])
        rows = tuple((row[0], *row[at:last]) for row in sheet.rows)
        yield Sheet(title="", head=head, rows=rows)
        at = last


def _table(sheet: Sheet, widths: Sequence[int] = ()) -> "Table":
    """All cells of a sheet; what has no room is broken, and nothing of it left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for at, (name, words) in enumerate(zip(sheet.head, _words(sheet), strict=True)):
        justify: Literal["left", "right"] = "left" if words else "right"
        table.add_column(
            Text(name),
            justify=justify,
            no_wrap=name == "name",
            overflow="fold",
            width=widths[at] if widths else None,
        )
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _whole_widths(sheet: Sheet) -> list[int]:
    """What each column takes with nothing of it broken."""
    return [_widest(column) for column in zip(sheet.head, *sheet.rows, strict=True)]


def _narrow_widths(sheet: Sheet, room: int) -> list[int]:
    """What each takes with its head broken between words, and its cells where there is no room."""
    columns = [*zip(*sheet.rows, strict=True)] if sheet.rows else [()] * len(sheet.head)
    heads = [_widest(head.split()) for head in sheet.head]
    widths = [max(head, _widest(cells)) for head, cells in zip(heads, columns, strict=True)]
    for at in sorted(range(len(widths)), key=lambda at: -widths[at]):
        if sheet.head[at] != "name":
            kept = _widest(part for cell in columns[at] for part in _unbroken(cell))
            least = max(heads[at], kept)
            widths[at] = max(least, widths[at] - max(0, _taken(widths) - room))
    return widths


def _unbroken(cell: str) -> list[str]:
    """Its words; of those that are no figures, such as the shape of a tensor, only so much."""
    return [word[:9] if any(map(str.isalpha, word)) else word for word in cell.split()]


def _widest(texts: Iterable[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, texts), default=0)


def _taken(widths: Sequence[int]) -> int:
    """All columns, each with a blank on both sides, and the lines between and around them."""
    return sum(each + 3 for each in widths) + 1


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
