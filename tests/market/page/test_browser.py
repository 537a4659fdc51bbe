"""The live page in a real browser: it loads, moves, asks before it acts, and comes back.

Run with `make test-browser`, which needs a Chromium on the machine.
"""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepact.market.ledger import Ledger
from edgepact.market.server import MarketServer
from tests.market.harness import Processes, wait_until
from tests.market.page.conftest import CHROMIUM
from tests.market.page.test_history import record
from tests.market.page.test_served import Bounded, Playing

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

Page = Any
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

AWAY = re.compile(r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET")
"""What a browser says of a server that is away, by itself."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
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


def address(server: MarketServer) -> str:
    """Of the page, with the token."""
    return f"{server.url}/page#token={server.operator_token}"


def shown(page: Page, name: str) -> str:
    """The value of a tile."""
    return str(page.locator("#tiles div", has_text=name).locator("dd").first.inner_text())


def opened(page: Page, server: MarketServer) -> None:
    """Opens the page, and waits until the market is on it."""
    page.goto(address(server))
    page.locator("#link", has_text="Live").wait_for()


def waits_for(page: Page, script: str) -> None:
    """Until something is so in the page, which lets nobody but itself evaluate anything."""
    for _ in range(600):
        if page.evaluate(script):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"waited in vain for {script}")


def test_it_loads_moves_and_asks_no_other_host(
    playing: Playing, page: Page, tmp_path: Path
) -> None:
    mechanism = Bounded(price=1.0, steps_max=12)
    with playing(mechanism=mechanism, best_price=1.25) as server:
        opened(page, server)
        assert "token" not in page.url
        waits_for(page, "state.points.size >= 4 && state.pieces.size >= 2")
        first = page.evaluate("state.facts.round")
        waits_for(page, f"state.facts.round > {first + 2}")
        assert shown(page, "Price").startswith("1\n")
        assert "exact optimum 1.25" in shown(page, "Price")
        assert page.locator("canvas").count() >= 6
        # What is drawn is said to those who do not see it.
        said = page.locator("#chart-price .chart").get_attribute("aria-label")
        assert "posted 1" in said
        assert "exact optimum 1.25" in said
        page.locator("#chart-money button").click()
        numbers = page.locator("#chart-money .scroll tbody tr").nth(1).inner_text()
        assert numbers.split()[1:] == ["60", "30", "30"], numbers
        assert "ankle boot" in page.locator("#way").inner_text() or "label" in (
            page.locator("#way").inner_text()
        )
        folder = Path(os.environ.get("EDGEPACT_PHOTOGRAPHS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            page.set_viewport_size(size)
            page.wait_for_timeout(300)
            assert page.evaluate(
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            )
            photograph = page.screenshot(path=folder / f"live-page-{name}.png", full_page=True)
            assert len(photograph) > 20_000
        assert page.hosts == {server.url.removeprefix("http://")}
        assert page.complaints == []


def test_without_the_token_nothing_is_shown_and_a_wrong_one_is_refused(
    playing: Playing, page: Page
) -> None:
    with playing() as server:
        page.goto(f"{server.url}/page")
        page.locator("#sign-in").wait_for()
        assert not page.locator("#market").is_visible()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.locator("#sign-in-error", has_text="not the operator's token").wait_for()
        page.fill("#token", server.operator_token)
        page.keyboard.press("Enter")
        page.locator("#link", has_text="Live").wait_for()
        assert page.evaluate("localStorage.length") == 0


def test_controls_ask_before_they_act(playing: Playing, page: Page) -> None:
    with playing(mechanism=Bounded(price=1.0, steps_max=12)) as server:
        opened(page, server)
        page.click("#pause")
        assert page.locator("#ask").is_visible()
        page.click("#ask-no")
        page.wait_for_timeout(300)
        assert not server.market.paused
        # By the keyboard alone.
        page.focus("#pause")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        waits_for(page, "state.facts.state === 'paused'")
        assert server.market.paused
        assert page.locator("#pause").inner_text() == "Resume"
        page.click("#pause")
        page.click("#ask-yes")
        wait_until(lambda: not server.market.paused)
        page.fill("#low", "0.25")
        page.fill("#high", "1.75")
        page.locator("#bounds-form button").click()
        assert "0.25 and 1.75" in page.locator("#ask-words").inner_text()
        page.click("#ask-yes")
        wait_until(lambda: Bounded.bounds == (0.25, 1.75))
        page.fill("#budget", "a lot")
        page.locator("#budget-form button").click()
        page.click("#ask-yes")
        page.locator("#control-said", has_text="Refused").wait_for()
        page.fill("#budget", "123.5")
        page.locator("#budget-form button").click()
        page.click("#ask-yes")
        wait_until(lambda: server.market.limits.total_microcredits == 123_500_000)
        page.click("text=Revoke >> nth=0")
        page.click("#ask-yes")
        page.locator("#devices tbody tr", has_text="revoked").wait_for()
        assert page.complaints == ["Failed to load resource: the server responded with a status "
                                   "of 400 (Bad Request)"]  # fmt: skip


def test_it_comes_back_when_the_server_does(processes: Processes, page: Page) -> None:
    token = {"operator_token": "an-operator-who-comes-back"}
    process, url = processes.server(**token)
    page.goto(f"{url}/page#token={token['operator_token']}")
    page.locator("#link", has_text="Live").wait_for()
    process.kill()
    process.wait()
    page.locator("#link", has_text="away").wait_for()
    assert page.locator("#market").is_visible()  # what was known stays
    processes.server(**token, port=int(url.rsplit(":", 1)[1]))
    page.locator("#link", has_text="Live").wait_for()
    assert [said for said in page.complaints if not AWAY.search(said)] == []


def test_a_day_of_rounds_and_a_thousand_devices(
    playing: Playing, page: Page, tmp_path: Path
) -> None:
    rounds, names = 17_280, [f"device-{at}" for at in range(1000)]  # one each five seconds
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    with ledger.together():
        for name in names:
            ledger.admit(name)
    ledger.close()
    with playing(layers=(), devices_min=1) as server:
        watch = server._app.state.watch
        done = threading.Event()

        def a_day() -> None:
            for number in range(1, rounds + 1):
                watch.round_closed(record(number, units=number % 7))
            done.set()

        server._loop.call_soon_threadsafe(a_day)
        assert done.wait(120)
        opened(page, server)
        assert page.evaluate("inOrder()[0].first") == 1
        assert page.evaluate("inOrder().at(-1).last") == rounds
        assert page.evaluate("state.points.size") <= 1024
        assert page.evaluate("inOrder().reduce((sum, p) => sum + p.units, 0)") == sum(
            number % 7 for number in range(1, rounds + 1)
        )
        assert "page 1 of 20" in page.locator("#devices-said").inner_text()
        page.fill("#filter", "device-999")
        waits_for(page, "document.querySelectorAll('#devices tbody tr').length === 1")
        drawn = page.evaluate("document.body.dataset.drawn")
        waits_for(page, f"Number(document.body.dataset.drawn) >= {drawn} + 2")
        assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(playing: Playing, page: Page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    with playing() as server:
        page.goto(f"{server.url}/page")
        page.locator("#sign-in").wait_for()
        assert _serious(axe.run(page).response) == []
        page.fill("#token", server.operator_token)
        page.keyboard.press("Enter")
        waits_for(page, "state.points.size >= 3 && state.pieces.size >= 1")
        page.locator("#chart-price button").click()
        assert _serious(axe.run(page).response) == []
        page.click("#pause")
        assert _serious(axe.run(page).response) == []


def _serious(found: dict[str, Any]) -> list[str]:
    """What axe finds serious or critical, with where."""
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
