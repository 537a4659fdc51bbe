"""Every page of the built site in a real browser: whoever reads it, on whatever screen.

Run with `make test-browser`, which needs a Chromium on the machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs_site.conftest import PAGES
from tests.in_browser import CHROMIUM

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WIDEST = {"width": 1440, "height": 900}
"""From 82 em on a page's own contents stand beside it."""
KINDS = [
    "index",
    "tutorials/own-mechanism",
    "how-to/run-a-scenario",
    "how-to/write-a-plugin",
    "theory/scores",
    "studies/fig5",
    "reference/api/gym",
    "reference/deployment-files",
    "release-notes",
    "search",
]
"""A page of each kind, on which every colour of the site stands: contrasts, and links that are told
apart in a text, follow from the style sheets alone, and measuring them takes most of the time."""

# Style sheets that lie in files cannot be asked for again, which axe would complain of.
TELLS = {"preload": False, "resultTypes": ["violations"]}
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
STRUCTURE = {**TELLS, "rules": {rule: {"enabled": False} for rule in COLOUR_RULES}}
COLOURS = {**TELLS, "runOnly": COLOUR_RULES}
SIZES = {**TELLS, "runOnly": ["target-size"]}


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    """One tab for all pages, of which every complaint is heard, and every request."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport=WIDE, color_scheme="light", reduced_motion="reduce")
        tab.set_default_timeout(60_000)
        tab.complaints, tab.asked = [], []
        tab.on(
            "console",
            lambda said: said.type in ("error", "warning") and tab.complaints.append(said.text),
        )
        tab.on("pageerror", lambda error: tab.complaints.append(f"{error}"))
        tab.on("request", lambda request: tab.asked.append(request.url))
        yield tab
        browser.close()


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The site at an address, as its search wants it: files may not ask for one another."""
    handler = partial(Quiet, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *said: Any) -> None:
        """Nothing."""


def found(tab: Any, options: dict[str, Any], without: str | None = None) -> list[str]:
    """What is wrong with the page but for a part of it, each with the places it is wrong at."""
    context = None if without is None else {"exclude": [[without]]}
    violations = axe.Axe().run(tab, context, options).response["violations"]
    return [
        f"{each['id']}: {[node['html'][:200] for node in each['nodes'][:3]]}" for each in violations
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_by_everybody(site: Path, tab: Any, name: str) -> None:
    tab.complaints.clear()
    tab.asked.clear()
    tab.set_viewport_size(WIDE)
    tab.goto((site / f"{name}.html").as_uri())
    # The list of all pages is the same everywhere: it is looked at on a page of each kind.
    assert found(tab, STRUCTURE, None if name in KINDS else ".sidebar-drawer") == []
    assert tab.get_attribute("html", "lang") == "en"
    assert tab.locator("h1").count() == 1
    tab.set_viewport_size(NARROW)
    assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert [url for url in tab.asked if not url.startswith(("file:", "data:"))] == []
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_colours_stand_out(site: Path, tab: Any, name: str, scheme: str) -> None:
    tab.set_viewport_size(WIDE)
    tab.emulate_media(color_scheme=scheme)
    tab.goto((site / f"{name}.html").as_uri())
    assert found(tab, COLOURS) == []


@pytest.mark.parametrize("name", KINDS)
def test_what_is_pointed_at_is_large_enough(site: Path, tab: Any, name: str) -> None:
    for size in (WIDEST, NARROW):
        tab.set_viewport_size(size)
        tab.goto((site / f"{name}.html").as_uri())
        assert found(tab, SIZES) == []


def test_the_search_finds_pages_that_can_be_read_by_everybody(site: Path, tab: Any) -> None:
    tab.complaints.clear()
    tab.set_viewport_size(NARROW)
    with served(site) as url:
        tab.goto(f"{url}/search.html")
        tab.locator("article input").fill("equilibrium")
        tab.keyboard.press("Enter")
        tab.locator("article a[href^='theory/stackelberg.html']").first.wait_for()
        tab.locator(".search-summary", has_text="found").wait_for()
        assert found(tab, TELLS) == []
    assert tab.complaints == []
