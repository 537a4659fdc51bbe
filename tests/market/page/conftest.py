"""A market with players, and a real browser to look at it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgepact.inference.pipeline import Pipeline
from edgepact.market.server import MarketServer
from tests.in_browser import chromium, page
from tests.market.harness import PATIENCE_S, Device, image, inputs_at, served

__all__ = ["chromium", "page"]


class Players:
    """Devices that take part in every round until they are told to stop, each in a thread."""

    def __init__(self, pipeline: Pipeline, layers: tuple[int, ...]) -> None:
        self._pipeline, self._layers = pipeline, layers
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, url: str) -> None:
        """Begins to play at a server."""
        for index, layers in enumerate(self._layers):
            device = Device(url, f"once-{index}", f"cam-{index}")
            thread = threading.Thread(target=self._play, args=(device, layers), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Tells all of them to end."""
        self._over.set()

    def join(self) -> None:
        """Waits until they have ended."""
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _play(self, device: Device, layers: int) -> None:
        after, picture = 0, image(layers)
        while not self._over.is_set():
            try:
                offer = device.offer(after)
                if offer["state"] != "offer":
                    continue
                after = int(offer["round"])
                if device.commit(after, layers).status_code != 200:
                    continue
                sent = inputs_at(self._pipeline, layers, picture)
                for piece in range(int(offer["units_per_round"])):
                    device.infer(layers, after, f"r{after}-{piece}", sent, source=picture)
            except (httpx.HTTPError, AssertionError):  # the server is away, or refuses
                self._over.wait(0.05)
        device.http.close()


@pytest.fixture
def playing(tmp_path: Path, pipeline: Pipeline) -> Callable[..., Any]:
    """A market that is played, as a context: `with playing(layers=(3, 0)) as server`."""

    @contextmanager
    def started(layers: tuple[int, ...] = (3, 0, 12), **settings: Any) -> Iterator[MarketServer]:
        settings = {"units_per_round": 2, "devices_min": len(layers)} | settings
        players = Players(pipeline, layers)
        try:
            with served(tmp_path, **settings) as server:
                players.start(server.url)
                try:
                    yield server
                finally:
                    players.stop()
        finally:
            players.join()

    return started
