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


def printed(sheet: Sheet) -> str:
    console = Console(width=100, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(sheet))
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


def test_no_figure_of_a_named_row_is_cut_in_a_narrow_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = ("stage/of/a/model/with/a/long/name", "[red]other")
    cells = ("1x1024x768", "0.003484", "3,145,728", "1,572,864")
    sheet = Sheet(
        title="cuts",
        head=("name", "shape", "device GMAC", "fp32 B", "fp16 B"),
        rows=tuple((name, *cells) for name in names),
    )
    shown = printed(sheet)
    for text in (*names, *cells, "GMAC"):
        assert text in shown
    assert all(len(line) <= 60 for line in shown.splitlines())
    monkeypatch.setenv("COLUMNS", "100")
    wide = printed(sheet)
    assert all(f"{name} " in wide and "│" in wide for name in names)


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
