"""The server process: its port, its life and its end.

What it answers is in `http.application`; the market itself is in `play`.
"""

import asyncio
import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from edgepact import registry
from edgepact.errors import InputError, MarketError
from edgepact.market.bounds import Bounds
from edgepact.market.connections import BoundedProtocol, Room
from edgepact.market.http.application import application
from edgepact.market.opening import Mechanism, market_on
from edgepact.market.serve_config import DEFAULT_JOB, ServeConfig, is_loopback
from edgepact.market.tls import server_context
from edgepact.work import Job

if TYPE_CHECKING:
    from edgepact.market.grpc_server import GrpcServer

SHUTDOWN_TIMEOUT_S = 5
"""How long requests may go on when the server stops."""

BACKLOG = 2048
"""Connections that wait to be accepted."""

FILES_KEPT = 256
"""Open files that are kept for other things than connections."""


def serve(config: ServeConfig, engagement: Mechanism, *, job: Job | None = None) -> None:
    """Serves a market until its rounds are over or the process is told to stop.

    SIGINT and SIGTERM let requests in flight finish, within a limit.

    Args:
        config: how.
        engagement: the mechanism.
        job: what is done; None for the installed one that `config` names.

    Raises:
        InputError: the model or the ledger cannot be used.
        MarketError: the port is taken, or the mechanism asked or decided what it may not.
    """
    MarketServer(config, engagement, job=job).run()


class MarketServer(uvicorn.Server):
    """A server that holds its port already; `run` serves until `stop` or the end.

    The port is taken before anything else is started, so that a server that cannot have it
    leaves no trace.

    Args:
        config: how it is served.
        engagement: the mechanism.
        job: what is done; None for the installed one that `config` names.

    Raises:
        InputError: the job, the model or the ledger cannot be used.
        MarketError: the port is taken.
    """

    def __init__(
        self, config: ServeConfig, engagement: Mechanism, *, job: Job | None = None
    ) -> None:
        self._listener = _listen(config.host, config.port)
        try:
            _expect_grpc(config)
            _forget(config.ready_file)
            self._tls = _tls(config)
            named = config.job or DEFAULT_JOB
            job = job or registry.part("jobs", named, source="serve", field="job")
            part = job.server_part(config.model, config.job_settings)
            part.warm()
            codecs = tuple(registry.part("codecs", name) for name in job.codecs)
            self.market, self._books = market_on(config, job.name, part, codecs, engagement)
        except BaseException:
            self._listener.close()
            raise
        self.operator_token = config.operator_token or secrets.token_hex(20)
        self._settings = config
        self._ready_file = config.ready_file
        self._failure: BaseException | None = None
        self.grpc_port: int | None = None  # once it answers
        self._grpc: GrpcServer | None = None
        scheme = "http" if self._tls is None else "https"
        host, self.port = self._listener.getsockname()[:2]
        self._host = str(host)
        named = f"[{host}]" if ":" in self._host else host
        self.url = f"{scheme}://{named}:{self.port}"
        self._app = application(
            self.market,
            self.operator_token,
            hosts=(*_own_names(config.host), *config.allow_hosts),
            bounds=Bounds(requests_max=config.requests_each),
            body_timeout_s=config.body_timeout_s,
        )
        super().__init__(
            uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http="httptools",
                timeout_keep_alive=60,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves.

        Raises:
            MarketError: the mechanism asked or decided what it may not, or the ledger was lost.
        """
        super().run(sockets or [self._listener])
        if self._failure is not None:
            raise self._failure

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts answering, and the rounds."""
        self._loop = asyncio.get_running_loop()
        await super().startup([])  # which would bound neither connections nor heads
        room = Room[BoundedProtocol](
            total_max=_files_allow(self._settings.connections_max),
            group_max=self._settings.connections_each,
        )

        def connected() -> BoundedProtocol:
            return BoundedProtocol(
                room,
                self._settings.head_timeout_s,
                self._settings.body_timeout_s,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        for listener in sockets or []:
            server = await self._loop.create_server(
                connected,
                sock=listener,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=self._settings.head_timeout_s if self._tls else None,
            )
            self.servers.append(server)
        self._playing = self._loop.create_task(self.market.play())
        self._playing.add_done_callback(self._played)
        self._leading = self._loop.create_task(self._books.keep_lead())
        self._leading.add_done_callback(self._played)
        where: dict[str, object] = {"url": self.url, "host": self._host, "port": self.port}
        if self._settings.grpc_port is not None:
            try:
                self._grpc = await self._start_grpc(self._settings.grpc_port)
            except MarketError as error:
                self._failure = error
                self.should_exit = True
                return
            self.grpc_port = where["grpc_port"] = self._grpc.port
        _tell(self._ready_file, where, self.operator_token)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets requests finish, then closes the books."""
        self.market.stop()
        if self._grpc is not None:
            stopping = asyncio.create_task(self._grpc.stop(SHUTDOWN_TIMEOUT_S))
            await super().shutdown(sockets)
            await stopping
        else:
            await super().shutdown(sockets)
        for task in (self._leading, self._playing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # kept in _failure
                await task
        await asyncio.to_thread(self.market.close)

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self.should_exit = True
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self.market.stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM; a second SIGINT does not wait for anybody.

        The signal is not raised again afterwards, as uvicorn would do it: to be told to stop is
        a proper end.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.stop()

    async def _start_grpc(self, port: int) -> "GrpcServer":
        """Answers over gRPC too."""
        # Its library would write a line to standard error for each call that it refuses.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from edgepact.market.grpc_server import start_grpc  # which loads the extra `grpc`

        return await start_grpc(
            self._app.state.inference,
            self._app.state.bounds,
            self.operator_token,
            host=self._settings.host,
            port=port,
            tls=self._settings.tls,
            connections_max=self._settings.connections_max,
            head_timeout_s=self._settings.head_timeout_s,
            body_timeout_s=self._settings.body_timeout_s,
        )

    def _played(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._failure is None:
            self._failure = task.exception()
        self.should_exit = True


# ---------------------------------------------------------------- private


def _expect_grpc(config: ServeConfig) -> None:
    """Expects that gRPC can be answered if it is asked for.

    Raises:
        InputError: its packages are not installed.
        MarketError: its port is taken.
    """
    if config.grpc_port is None:
        return
    for package in ("grpc", "tritonclient"):
        if find_spec(package) is None:
            expected = "edgepact installed with its extra grpc: pip install 'edgepact[grpc]'"
            raise InputError("serve", "grpc_port", expected, f"no package {package}")
    _listen(config.host, config.grpc_port).close()


def _tls(config: ServeConfig) -> ssl.SSLContext | None:
    """What the server proves with who it is; without it a word of warning where others listen."""
    if config.tls is not None:
        return server_context(config.tls, [*_own_names(config.host), *config.allow_hosts])
    if not is_loopback(config.host):
        words = f"{config.host} is beyond the loopback interface, and tokens travel in clear"
        print(f"warning: {words}; --tls FOLDER makes certificates", file=sys.stderr, flush=True)
    return None


def _own_names(host: str) -> list[str]:
    """What a server that listens on a host can be called by."""
    if host not in ("", "0.0.0.0", "::"):
        return [host]
    own = socket.gethostname()
    with contextlib.suppress(OSError):
        return [own, *sorted({str(info[4][0]) for info in socket.getaddrinfo(own, None)})]
    return [own]


def _files_allow(connections: int) -> int:
    """How many connections the limit of open files leaves room for; it is raised if it may be."""
    try:
        import resource
    except ImportError:  # on Windows, where no such limit is
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES_KEPT
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(1, min(connections, soft - FILES_KEPT))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named since asyncio switches Nagle's algorithm off only where it is, and
    # with it on every answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise MarketError(
                f"port {port} on {host} is in use by another program; "
                "choose another port, or 0 for any that is free"
            ) from None
        raise MarketError(f"cannot listen on {host} port {port}: {error.strerror}") from None


def _forget(ready_file: Path | None) -> None:
    """Removes what an earlier server said of itself, and finds out whether we can speak."""
    if ready_file is None:
        return
    if not ready_file.parent.is_dir():
        raise InputError("serve", "ready_file", "a file in a folder that exists", str(ready_file))
    try:
        ready_file.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            "serve", "ready_file", "a file to write to", f"{ready_file} ({error.strerror})"
        ) from None


def _tell(ready_file: Path | None, where: Mapping[str, object], operator_token: str) -> None:
    """Tells who started this process where it answers, in one piece.

    The operator's token goes into the file, which is private to its owner, and nowhere else: what
    is printed ends in logs.
    """
    told = {**where, "pid": os.getpid()}
    if ready_file is None:
        print(json.dumps(told), flush=True, file=sys.stdout)
        return
    part = ready_file.with_name(ready_file.name + ".part")
    part.unlink(missing_ok=True)
    line = json.dumps({**told, "operator_token": operator_token})
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(line + "\n")
    part.replace(ready_file)
