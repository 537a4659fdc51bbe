"""Sheets in the three forms in which they are shown."""

from html.parser import HTMLParser

import pytest
from rich.console import Console

from edgepact.framework import Sheet
from edgepact.tables import html, markdown, rich_table

SHEET = Sheet(
    title="Step 1. measured",
    head=("device", "layers"),
    rows=(("cam-1", "3"), ("cam-2", "12")),
    notes=("All of them answered.",),
)
HOSTILE = "[red]a|b</td><script>\\"


def sheet_of(cell: str) -> Sheet:
    return Sheet(title=cell, head=("device", "layers"), rows=((cell, "1"),), notes=(cell,))


def printed(sheet: Sheet, width: int = 100) -> str:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(sheet), crop=False)
    return capture.get()


@pytest.mark.parametrize("render", [printed, markdown, html])
def test_everything_is_shown(render) -> None:
    shown = render(SHEET)
    for text in (SHEET.title, *SHEET.head, *SHEET.notes, "cam-1", "cam-2", "12"):
        assert text in shown


def test_figures_stand_right_in_markdown() -> None:
    assert markdown(SHEET).splitlines()[2:5] == [
        "| device | layers |",
        "| :-- | --: |",
        "| cam-1 | 3 |",
    ]


def test_cells_are_no_markup() -> None:
    sheet = sheet_of(HOSTILE)
    assert HOSTILE in printed(sheet)
    (row,) = [line for line in markdown(sheet).splitlines() if line.endswith("| 1 |")]
    assert "\\|" in row
    assert "<script>" not in row
    assert row.replace("\\|", "").count("|") == 3

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[str] = set()

        def handle_starttag(self, tag: str, attrs: list) -> None:
            self.seen.add(tag)

    tags = Tags()
    tags.feed(html(sheet))
    assert "script" not in tags.seen


@pytest.mark.parametrize("longest", [5, 20, 30, 60, 200])
@pytest.mark.parametrize("width", [60, 80, 100])
def test_names_and_figures_are_whole_however_long_the_names_are(longest: int, width: int) -> None:
    """A name is typed again, and a figure of which a part is missing is another figure."""
    names = ("x", "/" + "n" * (longest - 1))
    figures = ("0.0008694", "1,602,387")
    rows = tuple((name, "1x128x128 + 1x128x192", *figures) for name in names)
    sheet = Sheet(title="cuts", head=("name", "shape", "device GMAC", "fp32 B"), rows=rows)
    shown = printed(sheet, width)
    for text in (*names, *figures):
        assert any(text in line for line in shown.splitlines()), text
    assert shown.count(figures[0]) == shown.count(figures[1]) == len(rows)
    table = [line for line in shown.splitlines() if line.startswith(("│", "┏", "┃", "└"))]
    assert max(map(len, table)) <= width


def test_a_name_stands_beside_its_figures_where_there_is_room_for_both() -> None:
    head = ("name", "shape", "device GMAC", "server GMAC", "fp32 B", "fp16 B", "int8 B")
    cells = ("1x1x4x7x4x7", "0.0008694", "0.009015", "4,096", "2,048", "1,088")
    shown = printed(Sheet(title="cuts", head=head, rows=(("block_01.middle", *cells),)), 80)
    (line,) = [line for line in shown.splitlines() if "block_01.middle" in line]
    assert all(figure in line for figure in cells[1:])
    numbered = printed(Sheet(title="cuts", head=head, rows=(("n" * 30, *cells),)), 80)
    (line,) = [line for line in numbered.splitlines() if "n" * 30 in line]
    assert line.strip() == "1 " + "n" * 30
    assert any(line.startswith("│ 1") and "0.0008694" in line for line in numbered.splitlines())


def test_columns_without_room_go_on_in_further_tables() -> None:
    devices = [f"new-phone-{at}" for at in range(7)]
    amounts = [f"{28 + at}.770960" for at in range(7)]
    sheet = Sheet(title="Paid", head=("round", *devices), rows=(("4", *amounts),))
    lines = printed(sheet, 80).splitlines()
    assert max(map(len, lines)) <= 80
    for word in (*devices, *amounts):
        assert sum(word in line for line in lines) == 1
    assert sum("round" in line for line in lines) == 2


def test_a_single_column_without_room_is_shown() -> None:
    shown = printed(Sheet(title="One", head=("figure",), rows=(("1" * 150,),)), 80)
    assert shown.count("1") == 150
