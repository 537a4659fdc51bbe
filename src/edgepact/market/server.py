"""The server process: the market and the Open Inference Protocol over one HTTP port.

=======================================  ====================================================
`POST /market/enrol`                     a one-time token for a token of one's own
`GET /market/offer?after=R`              the next offer after round R, held open for a while
`POST /market/commit`                    layers for a round
`POST /market/audit?job=J`               the image of a job that is audited, as the body
`POST /market/leave`                     a device goes
`GET /market/status`                     everything at a glance, for people and programs
`GET /v2`, `/v2/health/{live,ready}`     Open Inference Protocol v2, with the binary tensor
`GET /v2/models/M`, `/v2/models/M/ready` extension; one model M for every cut
`POST /v2/models/M/infer`                one job: the request's `id` is the job's id, the
                                         parameter `round` its round
=======================================  ====================================================

Devices show their token as `Authorization: Bearer`. Errors are `{"error": "..."}` with a status:
400 for a message that is malformed, 401 for a wrong token, 404, 409 for what the market refuses,
413 for too large, 503 with `Retry-After` for too busy.

A handler decodes, asks the market, and encodes; the market itself is in `play`.
"""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import edgepact
from edgepact.errors import InputError, MarketError
from edgepact.market import protocol
from edgepact.market.ledger import JobState, Ledger, LedgerError, Settlement
from edgepact.market.play import Busy, Market, Rules
from edgepact.market.rounds import Pricer, Terms
from edgepact.market.work import Workbench, audit_secret

BODY_TIMEOUT_S = 30.0
"""How long a client may take to send its body."""

SHUTDOWN_TIMEOUT_S = 5
"""How long requests may go on when the server stops."""

CONNECTIONS_MAX = 2048
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How a market is served.

    Args:
        model_dir: the model directory.
        ledger_url: SQLAlchemy URL of the ledger.
        host: address to listen on.
        port: port to listen on; 0 lets the system choose.
        ready_file: where to write `{"url": ..., "host": ..., "port": ..., "pid": ...}` once the
            server answers; without it the same line goes to standard output.
        rounds: rounds to play, those in the ledger included; None plays until it is stopped.
        devices_min: devices that must be there before the first round.
        gather_timeout_s: how long to wait for so many, seconds; then one is enough. None
            waits on.
        images_per_round: images taken and paid per device and round.
        commit_timeout_s: time to commit after the first commitment, seconds.
        round_timeout_s: time to work after that, seconds.
        enrol_tokens: one-time tokens, one for each device that may enrol.
        audit_probability: share of split jobs that are computed again before they are paid.
        seed: makes the choice of audited jobs repeatable, and predictable for who knows it;
            None in earnest.

    Raises:
        InputError: a value that cannot be.
    """

    model_dir: Path
    ledger_url: str
    host: str = "127.0.0.1"
    port: int = 8080
    ready_file: Path | None = None
    rounds: int | None = None
    devices_min: int = 1
    gather_timeout_s: float | None = None
    images_per_round: int = 16
    commit_timeout_s: float = 10.0
    round_timeout_s: float = 120.0
    enrol_tokens: tuple[str, ...] = ()
    audit_probability: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        images_max = protocol.IMAGES_PER_ROUND_MAX
        for field, fits, expected in (
            ("port", 0 <= self.port <= 65535, "a port from 0 to 65535"),
            ("rounds", self.rounds is None or self.rounds >= 1, "at least 1"),
            ("devices_min", self.devices_min >= 1, "at least 1"),
            (
                "gather_timeout_s",
                self.gather_timeout_s is None or 0 < self.gather_timeout_s <= 86400,
                "0 to 86400 seconds",
            ),
            ("images_per_round", 1 <= self.images_per_round <= images_max, f"1 to {images_max}"),
            ("commit_timeout_s", 0 < self.commit_timeout_s <= 86400, "0 to 86400 seconds"),
            ("round_timeout_s", 0 < self.round_timeout_s <= 86400, "0 to 86400 seconds"),
            ("audit_probability", 0 <= self.audit_probability <= 1, "a number from 0 to 1"),
            ("seed", self.seed is None or self.seed >= 0, "a whole number from 0"),
        ):
            if not fits:
                raise InputError("serve", field, expected, getattr(self, field))


def serve(config: ServeConfig, pricer: Pricer) -> None:
    """Serves a market until its rounds are over or the process is told to stop.

    SIGINT and SIGTERM let requests in flight finish, within a limit.

    Args:
        config: how.
        pricer: names the price of each round.

    Raises:
        InputError: the model or the ledger cannot be used.
        MarketError: the port is taken, or the pricer named an impossible price.
    """
    MarketServer(config, pricer).run()


class MarketServer(uvicorn.Server):
    """A server that holds its port already; `run` serves until `stop` or the end.

    The port is taken before anything else is started, so that a server that cannot have it
    leaves no trace.

    Raises:
        InputError: the model or the ledger cannot be used.
        MarketError: the port is taken.
    """

    def __init__(self, config: ServeConfig, pricer: Pricer) -> None:
        self._listener = _listen(config.host, config.port)
        try:
            _forget(config.ready_file)
            bench = Workbench(config.model_dir)
            bench.warm()
            self.market = Market(_rules(config, bench), Ledger(config.ledger_url), bench, pricer)
        except BaseException:
            self._listener.close()
            raise
        self._ready_file = config.ready_file
        self._failure: BaseException | None = None
        host, self.port = self._listener.getsockname()[:2]
        self._host = str(host)
        self.url = (
            f"http://[{host}]:{self.port}" if ":" in self._host else (f"http://{host}:{self.port}")
        )
        super().__init__(
            uvicorn.Config(
                application(self.market),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves.

        Raises:
            MarketError: the pricer named an impossible price, or the ledger was lost.
        """
        super().run(sockets or [self._listener])
        if self._failure is not None:
            raise self._failure

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts answering, and the rounds."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._playing = self._loop.create_task(self.market.play())
        self._playing.add_done_callback(self._played)
        _tell(self._ready_file, url=self.url, host=self._host, port=self.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets requests finish, then closes the books."""
        self.market.stop()
        await super().shutdown(sockets)
        self._playing.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # kept in _failure
            await self._playing
        await asyncio.to_thread(self.market.close)

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self.market.stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM; a second SIGINT does not wait for anybody.

        The signal is not raised again afterwards, as uvicorn would do it: to be told to stop is
        a proper end.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.stop()

    def _played(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failure = task.exception()
        self.should_exit = True


def application(market: Market) -> Starlette:
    """The HTTP interface of a market."""
    app = Starlette(
        routes=[
            Route("/market/enrol", _enrol, methods=["POST"]),
            Route("/market/offer", _offer),
            Route("/market/commit", _commit, methods=["POST"]),
            Route("/market/audit", _audit, methods=["POST"]),
            Route("/market/leave", _leave, methods=["POST"]),
            Route("/market/status", _status),
            Route("/v2", _about),
            Route("/v2/health/live", _live),
            Route("/v2/health/ready", _ready),
            *(
                route
                for model in ("/v2/models/{model}", "/v2/models/{model}/versions/1")
                for route in (
                    Route(model, _metadata),
                    Route(f"{model}/ready", _model_ready),
                    Route(f"{model}/infer", _infer, methods=["POST"]),
                )
            ),
        ],
        exception_handlers={
            InputError: _malformed,
            MarketError: _refused,
            Busy: _busy,
            LedgerError: _busy,
            HTTPException: _http_error,
            500: _defect,
        },
    )
    app.state.market = market
    return app


# ---------------------------------------------------------------- market


async def _enrol(request: Request) -> Response:
    body = protocol.read_object("enrol", await _body(request, protocol.HEADER_BYTES_MAX))
    asked = protocol.EnrolRequest.from_json(body)
    token = await _market(request).enrol(asked.token, asked.name)
    if token is None:
        raise HTTPException(401, "this one-time token is not known here")
    return JSONResponse({"device_token": token})


async def _offer(request: Request) -> Response:
    device = await _device(request)
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 15):
        raise InputError("offer", "after", "the number of a round", after)
    return JSONResponse((await _market(request).offer(device, int(after))).as_json())


async def _commit(request: Request) -> Response:
    device = await _device(request)
    body = protocol.read_object("commit", await _body(request, protocol.HEADER_BYTES_MAX))
    asked = protocol.CommitRequest.from_json(body)
    await _market(request).commit(device, asked.round, asked.layers)
    return JSONResponse(asked.as_json())


async def _audit(request: Request) -> Response:
    device = await _device(request)
    job = protocol.check_job("audit", request.query_params.get("job"))
    image = await _body(request, protocol.BODY_BYTES_MAX)
    return JSONResponse(_outcome(await _market(request).audit(device, job, image)))


async def _leave(request: Request) -> Response:
    _market(request).leave(await _device(request))
    return JSONResponse({})


async def _status(request: Request) -> Response:
    return JSONResponse(await _market(request).status())


# ---------------------------------------------------------------- Open Inference Protocol


async def _about(request: Request) -> Response:
    return JSONResponse(
        {
            "name": "edgepact",
            "version": edgepact.__version__,
            "extensions": ["binary_tensor_data"],
        }
    )


async def _live(request: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = _market(request).ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _metadata(request: Request) -> Response:
    return JSONResponse(_market(request).bench.metadata(_layers(request)))


async def _model_ready(request: Request) -> Response:
    layers = _layers(request)
    name = _market(request).bench.model_name(layers)
    ready = _market(request).ready
    return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)


async def _infer(request: Request) -> Response:
    market = _market(request)
    device = await _device(request)
    layers = _layers(request)
    body = await _body(request, protocol.BODY_BYTES_MAX)
    start_s = time.perf_counter()
    asked = protocol.decode_request(body, request.headers.get(protocol.HEADER_LENGTH))
    job = protocol.check_job("infer request", asked.id)
    number = protocol.check_round("infer request", asked.parameters.get("round"))
    market.bench.check(layers, asked.inputs)
    answer, settled = await market.work(device, number, job, layers, asked.inputs)
    content, header_length = protocol.encode_response(
        id=job,
        model=market.bench.model_name(layers),
        outputs={"probabilities": answer.probabilities},
        parameters={
            **_outcome(settled),
            "label": answer.label,
            "compute_seconds": answer.compute_s,
            "server_seconds": time.perf_counter() - start_s,
        },
        binary=asked.binary_output,
    )
    if header_length is None:
        return Response(content, media_type=protocol.JSON_TYPE)
    return Response(
        content,
        media_type=protocol.BINARY_TYPE,
        headers={protocol.HEADER_LENGTH: str(header_length)},
    )


# ---------------------------------------------------------------- private


def _market(request: Request) -> Market:
    market = request.app.state.market
    assert isinstance(market, Market)
    return market


async def _device(request: Request) -> str:
    """Name of the device that asks."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 1 <= len(token) <= protocol.TOKEN_CHARS_MAX:
        raise HTTPException(401, "expected the header 'Authorization: Bearer <device token>'")
    name = await _market(request).device(token)
    if name is None:
        raise HTTPException(401, "this device token is not known here")
    return name


def _layers(request: Request) -> int:
    model = request.path_params["model"]
    bench = _market(request).bench
    layers = bench.layers_of(model)
    if layers is None:
        first, last = bench.model_name(0), bench.model_name(bench.layers_max)
        raise HTTPException(404, f"there is no model {model!r}, expected {first} to {last}")
    return layers


async def _body(request: Request, bytes_max: int) -> bytes:
    """The body, if it is not too large and does not take too long."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "compressed bodies are not accepted")
    too_large = HTTPException(413, f"expected at most {bytes_max} bytes of body")
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()) or int(declared) > bytes_max:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise HTTPException(408, f"expected the body within {BODY_TIMEOUT_S:g} s") from None
    except ClientDisconnect:
        # Nobody hears this answer; a device that dies in mid-request is no defect of the server.
        raise HTTPException(400, "the client has gone away") from None
    return b"".join(chunks)


def _outcome(settled: Settlement) -> dict[str, object]:
    """What has become of a job's payment, for the device."""
    return {
        "state": settled.state.value,
        "audit": settled.state is JobState.HELD,
        "paid_microcredits": settled.paid_microcredits,
        "repeated": settled.repeated,
    }


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _malformed(request: Request, error: Exception) -> Response:
    return _error(400, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    return _error(409, str(error))


async def _busy(request: Request, error: Exception) -> Response:
    message = str(error) or "all places in the queue are taken"
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_S)})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    return _error(500, "internal error")


def _rules(config: ServeConfig, bench: Workbench) -> Rules:
    return Rules(
        terms=Terms(
            model=bench.info.name,
            layers_max=bench.layers_max,
            images_per_round=config.images_per_round,
            commit_timeout_s=config.commit_timeout_s,
            round_timeout_s=config.round_timeout_s,
        ),
        rounds=config.rounds,
        devices_min=config.devices_min,
        gather_timeout_s=config.gather_timeout_s,
        audit_probability=config.audit_probability,
        audit_secret=audit_secret(config.seed),
        enrol_tokens=frozenset(config.enrol_tokens),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named since asyncio switches Nagle's algorithm off only where it is, and
    # with it on every answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(CONNECTIONS_MAX)
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


def _tell(ready_file: Path | None, **where: object) -> None:
    """Tells who started this process where it answers, in one piece."""
    line = json.dumps({**where, "pid": os.getpid()})
    if ready_file is None:
        print(line, flush=True, file=sys.stdout)
        return
    part = ready_file.with_name(ready_file.name + ".part")
    part.write_text(line + "\n", encoding="utf-8")
    part.replace(ready_file)
