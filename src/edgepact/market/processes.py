"""A server and its devices as real processes on this machine, started and stopped cleanly."""

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from edgepact.errors import MarketError
from edgepact.market.device_config import DeviceConfig
from edgepact.market.serve_config import ServeOptions
from edgepact.market.statement import Statement, read_statement
from edgepact.market.tls import AUTHORITY
from edgepact.settings import arguments, environment

READY_TIMEOUT_S = 300.0
"""Loading JAX, compiling the policy and opening the model takes seconds, and minutes on a machine
with much else to do."""

STALL_TIMEOUT_S = 120.0
"""Longest time between units of work delivered, once there was one: before, devices may still be
loading what the server loads (`READY_TIMEOUT_S`). Rounds have shorter limits of their own."""

CLOSING_TIMEOUT_S = 60.0
"""Longest time in which the server closes its last round, and devices hear of their pay."""

ROOM_BYTES_MIN = 4096
"""Less room than this on its disk, and a log may be empty for that alone."""

STOP_TIMEOUT_S = 10.0
POLL_S = 0.15


class LiveMarket:
    """Processes of one market; leaving the block stops them all, however it is left.

    Args:
        folder: logs, tokens and results go here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._server: subprocess.Popen[bytes] | None = None
        self._devices: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""
        self._operator_token = ""
        self.ca: Path | None = None

    def __enter__(self) -> "LiveMarket":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Devices first: a device whose server is gone would wait for it to come back.
        everyone = [*self._devices.values(), *([self._server] if self._server else [])]
        for process in everyone:
            if process.poll() is None:
                process.terminate()
        end_s = time.monotonic() + STOP_TIMEOUT_S
        for process in everyone:
            try:
                process.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.close()

    def start_server(self, options: ServeOptions) -> None:
        """Starts `edgepact serve` and waits until it answers; one-time tokens do not show in the
        process list.

        Args:
            options: all of it is passed on; without a ready file it gets one in the folder.

        Raises:
            MarketError: it ended or stayed silent; the message holds the end of its log.
        """
        ready = options.ready_file or self._folder / "server-ready.json"
        ready.unlink(missing_ok=True)
        # Stated here, so that one of this process's own environment does not come in between.
        self._operator_token = options.operator_token or secrets.token_hex(20)
        options = replace(options, ready_file=ready, operator_token=self._operator_token)
        command = ["serve", *arguments(options)]
        self._server = self._start("server", command, environment(options))
        end_s = time.monotonic() + READY_TIMEOUT_S
        while not ready.is_file():
            if self._server.poll() is not None:
                raise MarketError(f"the server did not start: {self._last_words('server')}")
            if time.monotonic() > end_s:
                raise MarketError(f"the server did not answer within {READY_TIMEOUT_S:g} s")
            time.sleep(POLL_S)
        told = json.loads(ready.read_text())
        self.ca = None if options.tls is None else options.tls / AUTHORITY
        self.url = str(told["url"])

    @property
    def page(self) -> str:
        """Address of the live page, with the operator's token where no browser sends it."""
        return f"{self.url}/page#token={self._operator_token}"

    def start_device(self, config: DeviceConfig) -> None:
        """Starts `edgepact device` with all of its settings; its enrolment token does not show in
        the process list."""
        if config.ca is None:
            config = replace(config, ca=self.ca)
        command = ["device", *arguments(config)]
        self._devices[config.name] = self._start(config.name, command, environment(config))

    def watch(self, on_status: Callable[[dict[str, Any]], None]) -> None:
        """Follows the market until its rounds are over.

        Args:
            on_status: called with each answer of `GET /market/status`.

        Raises:
            MarketError: the server ended early, all devices have gone, or nothing moves.
        """
        assert self._server is not None, "start the server first"
        delivered, moved_s = -1, time.monotonic()
        shown = {"Authorization": f"Bearer {self._operator_token}"}
        trusted: ssl.SSLContext | bool = True
        if self.ca is not None:
            trusted = ssl.create_default_context(cafile=str(self.ca))
        with httpx.Client(base_url=self.url, timeout=10.0, headers=shown, verify=trusted) as client:
            while self._server.poll() is None:
                status = _ask(client)
                if status is not None:
                    on_status(status)
                    now = sum(sum(each["units"].values()) for each in status["rounds"])
                    if now != delivered:
                        delivered, moved_s = now, time.monotonic()
                patience_s = STALL_TIMEOUT_S if delivered > 0 else READY_TIMEOUT_S
                if time.monotonic() - moved_s > patience_s:
                    why = f"no work was delivered for {patience_s:g} s"
                    raise MarketError(f"{why}; what its processes said is in {self._folder}")
                if all(device.poll() is not None for device in self._devices.values()):
                    self._finish_without_devices()
                time.sleep(POLL_S)
        if self._server.returncode != 0:
            raise MarketError(f"the server ended early: {self._last_words('server')}")
        for device in self._devices.values():
            try:
                device.wait(CLOSING_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                device.terminate()

    def lost_devices(self) -> dict[str, str]:
        """Devices that ended with an error, and their last words."""
        return {
            name: self._last_words(name)
            for name, process in self._devices.items()
            if process.poll() not in (None, 0)
        }

    def _finish_without_devices(self) -> None:
        """The last device has gone; the server may still be closing its last round."""
        assert self._server is not None
        try:
            self._server.wait(CLOSING_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            lost = "; ".join(f"{name}: {words}" for name, words in self.lost_devices().items())
            raise MarketError(
                f"all devices have gone ({lost or 'without an error'}), and the server has not "
                f"closed its last round within {CLOSING_TIMEOUT_S:g} s"
            ) from None

    def _start(
        self, name: str, arguments: Sequence[str], secret: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        return subprocess.Popen(
            [sys.executable, "-m", "edgepact", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **secret},
        )

    def _last_words(self, name: str) -> str:
        lines = (self._folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
        if shutil.disk_usage(self._folder).free < ROOM_BYTES_MIN:
            return f"no space is left in {self._folder}; free some, or write elsewhere"
        return "it said nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A live market that has ended.

    Attributes:
        statement: of its ledger.
        lost: devices that ended with an error, and their last words.
        live_seconds: from the start of the server to the end of the last round.
    """

    statement: Statement
    lost: dict[str, str]
    live_seconds: float


def played(
    folder: Path,
    server: ServeOptions,
    devices: Sequence[DeviceConfig],
    on_status: Callable[[dict[str, Any]], None] = lambda status: None,
) -> Played:
    """Starts a server and its devices, follows the rounds until they are over, stops everybody.

    Args:
        folder: logs and results go here.
        server: tokens to enrol with are made here.
        devices: the server's address and the tokens are filled in.
        on_status: called with each answer of `GET /market/status`.

    Raises:
        MarketError: the server could not be started or ended early, or all devices were lost.
    """
    started_s = time.monotonic()
    tokens = tuple(secrets.token_hex(20) for _ in devices)
    with LiveMarket(folder) as live:
        live.start_server(replace(server, enrol_tokens=tokens))
        for device, token in zip(devices, tokens, strict=True):
            live.start_device(replace(device, server_url=live.url, enrol_token=token))
        live.watch(on_status)
        statement, lost = read_statement(server.ledger_url), live.lost_devices()
    return Played(statement=statement, lost=lost, live_seconds=time.monotonic() - started_s)


def _ask(client: httpx.Client) -> dict[str, Any] | None:
    """The market at a glance; None while the server does not answer, as when it ends."""
    try:
        status: dict[str, Any] = client.get("/market/status").raise_for_status().json()
    except httpx.HTTPError:
        return None
    return status
