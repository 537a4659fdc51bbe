"""A real browser, for tests of pages: every complaint is heard, and every request seen.

`from tests.in_browser import chromium, page` in a conftest gives its tests the fixtures.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")

NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

Page = Any
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    """A page of which every complaint is heard, and every request."""
    context = chromium.new_context(viewport=WIDE, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.complaints, page.hosts = [], set()
    page.on(
        "console",
        lambda said: said.type in ("error", "warning") and page.complaints.append(said.text),
    )
    page.on("pageerror", lambda error: page.complaints.append(f"{error}"))
    page.on("request", lambda asked: page.hosts.add(asked.url.split("/")[2]))
    yield page
    context.close()


def waits_for(page: Page, script: str) -> None:
    """Until something is so in the page, which lets nobody but itself evaluate anything."""
    for _ in range(600):
        if page.evaluate(script):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"waited in vain for {script}")


SIZES = {"wide": WIDE, "narrow": NARROW}


def photographed(
    page: Page, name: str, otherwise: Path, sizes: dict[str, dict[str, int]] = SIZES
) -> None:
    """Keeps the page in these sizes, in the folder that `EDGEPACT_PHOTOGRAPHS` names, and holds
    that it never has to be pushed sideways."""
    folder = Path(os.environ.get("EDGEPACT_PHOTOGRAPHS") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    for size_name, size in sizes.items():
        page.set_viewport_size(size)
        waits_for(
            page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        page.wait_for_timeout(300)  # charts are drawn anew
        photograph = page.screenshot(path=folder / f"{name}-{size_name}.png", full_page=True)
        assert len(photograph) > 20_000


def serious(page: Page) -> list[str]:
    """What axe finds serious or critical in a page, with where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']]}"
        for each in axe.run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
