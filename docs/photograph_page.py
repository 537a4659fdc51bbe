"""Photographs the live page while `edgepact run --open` plays a market, and then its report.

Run `python docs/photograph_page.py` with the extra `browser` and a Chromium on the machine; the
pictures are `docs/live-page-THEME.png` and `docs/report-THEME.png`, for light and dark.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 1230}
THEMES = ("light", "dark")
ROUNDS = 14


def photograph() -> None:
    """Plays a market and photographs its page near the end."""
    chromium = shutil.which("chromium") or sys.exit("expected a Chromium on this machine")
    with tempfile.TemporaryDirectory() as place:
        told = Path(place) / "address"
        browser = Path(place) / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {told}\n')
        browser.chmod(0o755)
        run = [sys.executable, "-m", "edgepact", "run", "--open", "--rounds", f"{ROUNDS}"]
        market = subprocess.Popen(
            [*run, "--out", f"{place}/run"],
            env={**os.environ, "BROWSER": f"{browser}"},
            stdout=subprocess.DEVNULL,
        )
        while not told.exists() and market.poll() is None:
            time.sleep(0.1)
        with sync_playwright() as started:
            shown = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = shown.new_page(viewport=SIZE)
            page.goto(told.read_text().strip())
            page.locator("#link", has_text="Live").wait_for()
            while page.evaluate("state.facts.round") != ROUNDS:
                page.wait_for_timeout(100)
            for theme in THEMES:
                page.evaluate(f"theme('{theme}'); draw()")
                page.wait_for_timeout(500)
                page.screenshot(path=Path(__file__).parent / f"live-page-{theme}.png")
            market.wait()
            for theme in THEMES:
                page = shown.new_page(viewport=SIZE, color_scheme=theme)
                page.goto((Path(place) / "run" / "report.html").as_uri())
                page.wait_for_timeout(500)
                page.screenshot(path=Path(__file__).parent / f"report-{theme}.png")
            shown.close()


if __name__ == "__main__":
    photograph()
