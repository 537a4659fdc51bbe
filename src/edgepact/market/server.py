"""The server process: its port, its life and its end.

What it answers is in `http.application`; the market itself is in `play`.
"""

import asyncio
import contextlib
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
from edgepact.market.connections import BoundedProtocol, Connection, Handshake, Room
from edgepact.market.http.application import application
from edgepact.market.ledger import LedByAnother, Ledger, LedgerError
from edgepact.market.listening import listen_at
from edgepact.market.logs import Complaints, Log
from edgepact.market.opening import Mechanism, Opening
from edgepact.market.page.watch import Watch
from edgepact.market.play import Market
from edgepact.market.rates import Rate
from edgepact.market.serve_config import DEFAULT_JOB, ServeConfig, is_loopback
from edgepact.market.standby import POLL_S, Switch, lead_at_last
from edgepact.market.tls import server_context
from edgepact.work import Job, ServerPart

if TYPE_CHECKING:
    from edgepact.market.grpc_server import GrpcServer
    from edgepact.market.ray_engine import RayEngine

SHUTDOWN_TIMEOUT_S = 5
"""How long requests may go on when the server stops."""

BACKLOG = 2048
"""Connections that wait to be accepted."""

HANDSHAKES_FILL_S = 4.0
"""Time in which an address may begin TLS as often as it may have connections, seconds."""

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
        MarketError: the port is taken, or another server serves the ledger.
    """

    def __init__(
        self, config: ServeConfig, engagement: Mechanism, *, job: Job | None = None
    ) -> None:
        self.operator_token = config.operator_token or secrets.token_hex(20)
        self._settings = config
        self._log = Log(config.log_format, config.log_level)
        self._complaints = Complaints(self._log)
        self._failure: BaseException | None = None
        self._market: Market | None = None
        self._switch = Switch()
        self.grpc_port: int | None = None  # once it answers
        self._grpc: GrpcServer | None = None
        self._life: asyncio.Task[None] | None = None
        self._engine: RayEngine | None = None
        self._listener = listen_at(config.host, config.port, BACKLOG)
        try:
            _expect_grpc(config)
            _forget(config.ready_file)
            self._tls = _tls(config, self._log)
            named = config.job or DEFAULT_JOB
            job = job or registry.part("jobs", named, source="serve", field="job")
            self._job = job
            part = self._part(job)
            part.warm()
            codecs = tuple(registry.part("codecs", name) for name in job.codecs)
            self._opening = Opening(config, job, part, codecs, engagement, log=self._log)
            ledger = self._led()
            if ledger is not None:
                self._begin(ledger)
        except BaseException:
            self._listener.close()
            self._close_engine()
            raise
        scheme = "http" if self._tls is None else "https"
        host, self.port = self._listener.getsockname()[:2]
        self._host = str(host)
        named = f"[{host}]" if ":" in self._host else host
        self.url = f"{scheme}://{named}:{self.port}"
        super().__init__(
            uvicorn.Config(
                self._switch,
                # Whatever else is installed: Ray brings uvloop, on which nothing here is tested.
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http="httptools",
                timeout_keep_alive=60,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )

    @property
    def market(self) -> Market:
        """The market that is served; a server that stands by has none."""
        assert self._market is not None
        return self._market

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
        settings = self._settings
        room = Room[Connection](
            total_max=_files_allow(settings.connections_max),
            group_max=settings.connections_each,
            refused=self._complaints.note,
        )
        each = float(settings.connections_each)
        handshakes = Rate(per_s=each / HANDSHAKES_FILL_S, burst=each)

        def connected() -> BoundedProtocol:
            return BoundedProtocol(
                room,
                settings.head_timeout_s,
                settings.body_timeout_s,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        def accepted() -> asyncio.Protocol:
            if self._tls is None:
                return connected()
            return Handshake(room, handshakes, self._tls, settings.head_timeout_s, connected)

        for listener in sockets or []:
            server = await self._loop.create_server(accepted, sock=listener, backlog=BACKLOG)
            self.servers.append(server)
        if self._market is not None:
            self._market.tell_rates()
        where: dict[str, object] = {"url": self.url, "host": self._host, "port": self.port}
        try:
            await self._start_grpc()
        except MarketError as error:
            self._failure = error
            self.should_exit = True
            return
        if self.grpc_port is not None:
            where["grpc_port"] = self.grpc_port
        self._life = self._loop.create_task(self._live())
        self._life.add_done_callback(self._ended)
        stated = self._settings.operator_token is not None
        _tell(self._settings.ready_file, where, None if stated else self.operator_token)
        self._log.info("started", host=self._host, port=self.port, standby=self._market is None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets requests finish, then closes the books."""
        if self._market is not None:
            self._market.stop()
        stopping = asyncio.create_task(self._stop_grpc())
        await super().shutdown(sockets)
        await stopping
        if self._life is not None:
            self._life.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # kept in _failure
                await self._life
        await self._end()
        await asyncio.to_thread(self._close_engine)
        self._complaints.sum_up()
        self._log.info("stopped")

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self.should_exit = True
        with contextlib.suppress(RuntimeError):  # it has ended already
            if self._market is not None:
                self._loop.call_soon_threadsafe(self._market.stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM; a second SIGINT does not wait for anybody.

        The signal is not raised again afterwards, as uvicorn would do it: to be told to stop is
        a proper end.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.stop()

    # ------------------------------------------------------------ private

    def _part(self, job: Job) -> ServerPart:
        """The server's half of the job, here or in replicas."""
        config = self._settings
        if config.engine == "process":
            return job.server_part(config.model, config.job_settings)
        from edgepact.market.ray_engine import RayEngine  # which loads the extra `ray`

        self._engine = RayEngine(
            job,
            config.model,
            config.job_settings,
            count=config.replicas,
            address=config.ray_address,
        )
        return self._engine.part

    def _close_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    async def _live(self) -> None:
        """Serves markets: the one at hand, and those that are taken over.

        Raises:
            MarketError: the mechanism asked or decided what it may not, or the ledger was lost.
        """
        while True:
            if self._market is None:
                await self._take_over()
            play = self._loop.create_task(self.market.play())
            lead = self._loop.create_task(self._books.keep_lead())
            try:
                done, _ = await asyncio.wait({play, lead}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (play, lead):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await task
            failures = [task.exception() for task in done]
            failure = next((each for each in failures if each is not None), None)
            if failure is None:
                return
            if not (self._settings.standby and isinstance(failure, LedByAnother)):
                raise failure
            self._log.say(f"standby: {failure}")
            self._switch.current = None
            await self._stop_grpc()
            await self._end()

    def _led(self) -> Ledger | None:
        """The ledger, if this server leads it; None for one that stands by.

        Raises:
            InputError: it cannot be used.
            MarketError: another server leads it or has it locked, and this one is not to stand by.
        """
        try:
            ledger = Ledger(self._settings.ledger_url)
            try:
                ledger.lead()
            except BaseException:
                ledger.close()
                raise
        except (LedByAnother, LedgerError) as error:
            if not self._settings.standby:
                raise
            self._log.say(f"standby: {error}")
            return None
        return ledger

    async def _take_over(self) -> None:
        """Waits for the lease of the ledger, and goes on where its last server was."""
        while self._market is None:
            try:
                ledger = await asyncio.to_thread(Ledger, self._settings.ledger_url)
            # It was there when this server started, or was locked, and will be again.
            except (InputError, LedgerError):
                await asyncio.sleep(POLL_S)
                continue
            try:
                await lead_at_last(ledger, self._settings)
            except BaseException:
                ledger.close()
                raise
            with contextlib.suppress(LedgerError):
                await asyncio.to_thread(self._begin, ledger)
        await self._start_grpc()
        self.market.tell_rates()
        self._log.say("standby: it has taken the market over")

    def _begin(self, ledger: Ledger) -> None:
        """Opens the market on a ledger that this server leads, and lets it answer."""
        config = self._settings
        self._market, self._books = self._opening.market_on(ledger)
        watch = None
        if config.page:
            watch = Watch(
                self._market,
                self._market.rounds_found,
                config.best_price,
                unit=self._job.unit,
                step=self._job.step,
            )
            self._market.witness = watch
        self._switch.current = self._app = application(
            self._market,
            self.operator_token,
            hosts=(*_own_names(config.host), *config.allow_hosts),
            bounds=Bounds(
                requests_max=config.requests_each,
                requests=Rate(per_s=config.requests_per_s, burst=2 * config.requests_per_s),
                bytes=Rate(per_s=config.bytes_per_s, burst=2 * config.bytes_per_s),
                wrong_tokens=Rate(per_s=1.0, burst=float(config.wrong_tokens_each)),
            ),
            body_timeout_s=config.body_timeout_s,
            complaints=self._complaints,
            watch=watch,
        )

    async def _start_grpc(self) -> None:
        """Answers over gRPC too, if that is asked for and there is a market.

        Raises:
            MarketError: its port is taken.
        """
        config = self._settings
        if config.grpc_port is None or self._market is None:
            return
        # Its library would write a line to standard error for each call that it refuses.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from edgepact.market.grpc_server import start_grpc  # which loads the extra `grpc`

        self._grpc = await start_grpc(
            self._app.state.inference,
            self._app.state.bounds,
            self.operator_token,
            host=config.host,
            port=config.grpc_port,
            tls=config.tls,
            connections_max=config.connections_max,
            head_timeout_s=config.head_timeout_s,
            body_timeout_s=config.body_timeout_s,
        )
        self.grpc_port = self._grpc.port

    async def _stop_grpc(self) -> None:
        """Lets calls finish."""
        grpc, self._grpc = self._grpc, None
        if grpc is not None:
            await grpc.stop(SHUTDOWN_TIMEOUT_S)

    async def _end(self) -> None:
        """Closes the market, if there is one."""
        market, self._market = self._market, None
        if market is not None:
            await asyncio.to_thread(market.close)

    def _ended(self, task: asyncio.Task[None]) -> None:
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
    listen_at(config.host, config.grpc_port, BACKLOG).close()


def _tls(config: ServeConfig, log: Log) -> ssl.SSLContext | None:
    """What the server proves with who it is; without it a word of warning where others listen."""
    if config.tls is not None:
        return server_context(config.tls, [*_own_names(config.host), *config.allow_hosts])
    if not is_loopback(config.host):
        words = f"{config.host} is beyond the loopback interface, and tokens travel in clear"
        log.say(f"warning: {words}; --tls FOLDER makes certificates")
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


def _tell(ready_file: Path | None, where: Mapping[str, object], operator_token: str | None) -> None:
    """Tells who started this process where it answers, in one piece.

    An operator's token that was made here goes into the file, which is private to its owner, and
    nowhere else: what is printed ends in logs. One that was stated (None) is known to who stated
    it, and is written nowhere.
    """
    told = {**where, "pid": os.getpid()}
    if ready_file is None:
        print(json.dumps(told), flush=True, file=sys.stdout)
        return
    part = ready_file.with_name(ready_file.name + ".part")
    part.unlink(missing_ok=True)
    if operator_token is not None:
        told["operator_token"] = operator_token
    line = json.dumps(told)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(line + "\n")
    part.replace(ready_file)
