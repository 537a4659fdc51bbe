"""Reports in a real browser: to hover, to copy from, to print, to read without scripts.

Run with `make test-browser`, which needs a Chromium on the machine.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.in_browser import NARROW, NEEDED, WIDE, Page, photographed, serious, waits_for

pytestmark = [pytest.mark.browser, NEEDED]

EXAMPLES = Path(__file__).parents[2] / "examples"


def needs(package: str, name: str) -> Any:
    """A scenario whose extra may be missing here."""
    missing = find_spec(package) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"no {package} here"))


REPORTS = ["partition", "picture", needs("hibari", "speech")]
"""A price for images, with all charts; generated pictures; sounds."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Address of the report of an example, run in small; each is run once."""
    ran: dict[str, str] = {}

    def of(name: str) -> str:
        if name not in ran:
            out = tmp_path_factory.mktemp(name) / "out"
            scenario = f"{EXAMPLES / f'scenario-{name}.toml'}"
            command = [sys.executable, "-m", "edgepact", "run", scenario, "--smoke"]
            done = subprocess.run(
                [*command, "--out", f"{out}"], capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, done.stderr
            ran[name] = (out / "report.html").as_uri()
        return ran[name]

    return of


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_read_wide_narrow_light_and_dark(
    report: Callable[[str], str], page: Page, tmp_path: Path, name: str
) -> None:
    for scheme, sizes in (("light", {"wide": WIDE}), ("dark", {"narrow": NARROW})):
        page.emulate_media(color_scheme=scheme)
        page.goto(report(name))
        page.locator(".chart.drawn canvas").first.wait_for()
        assert "The server paid" in page.locator(".verdict").inner_text()
        photographed(page, f"report-{name}", tmp_path, sizes)
        assert serious(page) == []
    assert page.hosts <= {""}  # that of a file
    assert page.complaints == []


def test_lines_are_hovered(report: Callable[[str], str], page: Page) -> None:
    page.goto(report("partition"))
    chart = page.locator("figure:has(strong:text-is('Price'))")
    chart.scroll_into_view_if_needed()
    place = chart.locator(".u-over").bounding_box()
    page.mouse.move(place["x"] + place["width"] - 3, place["y"] + place["height"] / 2)
    told = chart.locator(".u-legend")
    told.filter(has_text=re.compile(r"round\s*2")).wait_for()
    said = re.search(r"quoted\s*([\d.]+)", told.text_content())
    assert said is not None
    chart.locator("summary").click()
    numbers = chart.locator(".numbers tbody tr").nth(1).inner_text().split()
    assert float(said.group(1)) == pytest.approx(float(numbers[1]), rel=1e-3)


def test_numbers_are_copied_by_the_keyboard(report: Callable[[str], str], page: Page) -> None:
    page.goto(report("partition"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    figure = page.locator("figure:has(strong:text-is('Time'))")
    figure.locator("summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    figure.locator("button", has_text="Copied").wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    head = ["device", "device's part and codec", "on the way", "server's part"]
    assert lines[0].split("\t") == [*head, "server's queue and books", "together"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["camera", "phone", "drone"]
    for line in lines[1:]:
        *parts, whole = (float(each.replace(",", "")) for each in line.split("\t")[1:])
        assert sum(parts) == pytest.approx(whole, rel=2e-3)


def test_nothing_needs_a_script(report: Callable[[str], str], chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report("partition"))
    drawing = page.locator(".chart svg").first
    assert drawing.is_visible()
    numbers = page.locator("figure .numbers").first
    numbers.locator("summary").click()
    numbers.locator("table").wait_for()
    context.close()


def test_it_prints_light_with_drawings_that_are_whole(
    report: Callable[[str], str], page: Page, tmp_path: Path
) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(report("partition"))
    page.locator(".chart.drawn canvas").first.wait_for()
    printed = page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert printed.startswith(b"%PDF")
    assert len(printed) > 30_000
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 1000})  # of A4 within its margins
    waits_for(page, "matchMedia('print').matches")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".uplot").first.is_hidden()
    assert page.locator("button").first.is_hidden()
    cut = page.evaluate(
        """[...document.querySelectorAll('figure, table, .tile, .chart svg')]
           .filter((each) => each.checkVisibility())
           .map((each) => each.getBoundingClientRect())
           .filter((box) => box.right > innerWidth + 1 || box.left < -1).length"""
    )
    assert cut == 0
