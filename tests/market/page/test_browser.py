"""The live page in a real browser: it loads, moves, asks before it acts, and comes back.

Run with `make test-browser`, which needs a Chromium on the machine.
"""

import re
import signal
import threading
from pathlib import Path

import httpx
import pytest

from edgepact.market.ledger import Ledger
from edgepact.market.server import MarketServer
from tests.in_browser import NEEDED, Page, photographed, serious, waits_for
from tests.market.harness import Device, Processes, served, wait_until
from tests.market.page.test_exhibits import GOOD, bring, in_text, png, show, wav
from tests.market.page.test_history import record
from tests.market.page.test_served import Bounded, Playing

pytestmark = [pytest.mark.browser, NEEDED]

AWAY = re.compile(r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET")
"""What a browser says of a server that is away, by itself."""


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
        page.locator("#chart-money button", has_text="Numbers").click()
        page.locator("#chart-money tbody tr", has_text="603030").first.wait_for()  # three cells
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator("#chart-money button", has_text="Copy").click()
        page.locator("#chart-money button", has_text="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()").splitlines()
        assert copied[0] == "Round\tworth of the work\tpaid or pending\tserver's utility"
        assert "60\t30\t30" in copied[2]
        page.locator("#way", has_text="label").wait_for()
        photographed(page, "live-page", tmp_path)
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
        for budget in ("a lot", "-5"):  # nobody is asked about what cannot be
            page.fill("#budget", budget)
            page.locator("#budget-form button").click()
            page.locator("#control-said", has_text="Not done: a budget is a number").wait_for()
        page.fill("#low", "2")
        page.locator("#bounds-form button").click()
        page.locator("#control-said", has_text="Not done: bounds are two numbers").wait_for()
        assert not page.locator("#ask").is_visible()
        page.fill("#budget", "0.0000001")
        page.locator("#budget-form button").click()
        assert "that is nothing more" in page.locator("#ask-words").inner_text()
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


def test_of_a_market_that_has_ended_nothing_can_be_changed(playing: Playing, page: Page) -> None:
    with playing() as server:
        opened(page, server)
        waits_for(page, "state.devices.size >= 1")
        assert page.locator("#devices tbody button").first.is_enabled()
    page.locator("#link", has_text="The market has ended").wait_for()
    for each in ("#pause", "#budget-form button", "#devices tbody button"):
        assert page.locator(each).first.is_disabled(), each


def test_it_comes_back_when_the_server_does(processes: Processes, page: Page) -> None:
    token = {"operator_token": "an-operator-who-comes-back"}
    process, url = processes.server(**token)
    page.goto(f"{url}/page#token={token['operator_token']}")
    page.locator("#link", has_text="Live").wait_for()
    operator = {"Authorization": f"Bearer {token['operator_token']}"}
    httpx.post(f"{url}/page/control", json={"action": "pause"}, headers=operator).raise_for_status()
    page.locator("#pause", has_text="Resume").wait_for()
    process.kill()
    process.wait()
    page.locator("#link", has_text="away").wait_for()
    assert page.locator("#market").is_visible()  # what was known stays
    processes.server(**token, port=int(url.rsplit(":", 1)[1]))
    page.locator("#link", has_text="Live").wait_for()
    # It follows its settings again: the pause is over, and that is said.
    page.locator("#pause", has_text="Pause").wait_for()
    page.locator("#control-said", has_text="no longer holds: the pause.").wait_for()
    assert [said for said in page.complaints if not AWAY.search(said)] == []


def test_what_others_ask_while_a_browser_is_away_is_not_called_lost(
    processes: Processes, page: Page
) -> None:
    token = {"operator_token": "an-operator-of-two-browsers"}
    process, url = processes.server(**token)
    page.goto(f"{url}/page#token={token['operator_token']}")
    page.locator("#link", has_text="Live").wait_for()
    process.send_signal(signal.SIGSTOP)
    page.locator("#link", has_text="away").wait_for()
    page.context.set_offline(True)
    process.send_signal(signal.SIGCONT)
    operator = {"Authorization": f"Bearer {token['operator_token']}"}
    httpx.post(f"{url}/page/control", json={"action": "pause"}, headers=operator).raise_for_status()
    page.context.set_offline(False)
    page.locator("#pause", has_text="Resume").wait_for()
    assert page.locator("#control-said").inner_text() == ""


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
    page.emulate_media(color_scheme=scheme)
    with playing() as server:
        page.goto(f"{server.url}/page")
        page.locator("#sign-in").wait_for()
        assert serious(page) == []
        page.fill("#token", server.operator_token)
        page.keyboard.press("Enter")
        waits_for(page, "state.points.size >= 3 && state.pieces.size >= 1")
        page.locator("#chart-price button", has_text="Numbers").click()
        assert serious(page) == []
        page.click("#pause")
        assert serious(page) == []


def test_a_picture_a_text_and_a_sound_are_seen_and_a_stranger_writes_no_page(
    page: Page, tmp_path: Path
) -> None:
    attack = "<img src=x onerror=\"document.title='taken over'\">"
    with served(tmp_path, units_per_round=200) as server:
        device = Device(server.url, "once-0", "cam-0")
        device.commit(int(device.offer()["round"]), 0)
        bring(device, "first", "second")
        opened(page, server)
        page.locator("#exhibit", has_text="cam-0 has shown nothing").wait_for()
        tall = attack + 200 * "\n"  # of which no line pushes the controls below away
        told = GOOD | {"given": tall, "picture": in_text(png()), "sound": in_text(wav())}
        assert show(device, "second", told).status_code == 200
        page.locator("#exhibit dd", has_text="<img src=x").wait_for()
        height = page.locator("#exhibit dd").first.evaluate("text => text.clientHeight")
        assert 100 < height < 300
        picture = page.locator("#exhibit img")
        assert picture.count() == 1
        assert picture.evaluate("image => image.naturalWidth") == 4
        assert picture.get_attribute("alt") == "Picture of this piece: a label"
        sound = "#exhibit audio"
        waits_for(page, f"document.querySelector('{sound}').readyState >= 1")
        lasts_s = page.locator(sound).evaluate("sound => sound.duration")
        assert lasts_s == pytest.approx(100 / 12_000, rel=0.01)
        assert page.locator("#piece").input_value() == "cam-0 second"
        page.locator("#piece").select_option("cam-0 first")
        page.locator("#exhibit", has_text="This piece is not shown").wait_for()
        assert page.title() != "taken over"
        assert page.complaints == []
        assert serious(page) == []
        device.http.close()
