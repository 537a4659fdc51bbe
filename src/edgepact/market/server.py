"""The server process: the market and the Open Inference Protocol over one HTTP port.

=======================================  ====================================================
`POST /market/enrol`                     a one-time token for a token of one's own
`GET /market/offer?after=R`              the next offer after round R, held open for a while
`POST /market/commit`                    an answer to the question of a round
`POST /market/audit?piece=P`             salt (32 bytes) and source of a piece that is audited
`POST /market/done?round=R`              a device has no more to bring in a round
`GET /market/pieces?round=R`             how the device's pieces of a round stand
`POST /market/leave`                     a device goes
`GET /market/status`                     everything at a glance, for the operator's token;
                                         others hear only that the market is up
`GET /metrics`                           for Prometheus, for the operator's token
`GET /v2`, `/v2/health/{live,ready}`     Open Inference Protocol v2, with the binary tensor
`GET /v2/models/M`, `/v2/models/M/ready` extension; one model M for every cut
`POST /v2/models/M/infer`                one exchange of a piece: the request's `id` is the
                                         piece's id; parameters are `round`, `exchange`
                                         (counted from 0, which is the default) and `codec`
                                         (default: the one whose tensors these are) and, where
                                         the device does part of the work, `commitment`
                                         (hexadecimal SHA-256 of salt and source)
=======================================  ====================================================

Devices and the operator show their token as `Authorization: Bearer`; without one only enrolment,
health, and whether the market is up are answered. Errors are `{"error": "..."}` with a status:
400 for a message that is malformed, 401 for a wrong token, 403 for a browser page of another
origin, 404, 421 for a name that the server is not called by, 409 for what the market refuses
(with the `reason` "session lost" where a piece has to be begun again, "repeated" where the same
work was delivered before), 413 for too large, 503
with `Retry-After` for too busy.

A handler decodes, asks the market, and encodes; the market itself is in `play`.
"""

import asyncio
import contextlib
import errno
import json
import os
import random
import secrets
import signal
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import edgepact
from edgepact import registry
from edgepact.credits import in_microcredits
from edgepact.engagement import Engagement
from edgepact.errors import InputError, MarketError
from edgepact.fields import check_whole
from edgepact.market.books import Books, Busy
from edgepact.market.bounds import Bounds, Crowded, Place
from edgepact.market.connections import BoundedProtocol, Room
from edgepact.market.entry import Entry
from edgepact.market.evidence import amount_of, cut_name, secret_of
from edgepact.market.json_bounds import check_json
from edgepact.market.ledger import (
    Ledger,
    LedgerError,
    Limits,
    PieceState,
    RepeatedWork,
    Settlement,
)
from edgepact.market.ledger.seals import expect_whole, seal_file, write_seal
from edgepact.market.ledger.signing import ServerKey, key_file
from edgepact.market.metrics import METRICS_TYPE, Metrics
from edgepact.market.play import Answered, Market, Rules
from edgepact.market.protocol import messages, oip
from edgepact.market.rounds import Terms
from edgepact.market.serve_config import DEFAULT_JOB, ServeConfig, is_loopback
from edgepact.market.sessions import LostSession
from edgepact.market.settling import AuditRules
from edgepact.market.tls import server_context
from edgepact.mechanisms.audit_rate import audit_rate
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import EXCHANGES_MAX, Job, Model, ServerPart

BODY_GRACE_S = 5.0
BODY_BYTES_PER_SECOND_LEAST = 1024
"""After the grace a body has to come at this rate at least."""

SHUTDOWN_TIMEOUT_S = 5
"""How long requests may go on when the server stops."""

BACKLOG = 2048
"""Connections that wait to be accepted."""

FILES_KEPT = 256
"""Open files that are kept for other things than connections."""

RETRY_AFTER_S = 1


Mechanism = Engagement | Callable[[Model], Engagement]
"""A mechanism, or how to make it for the model of the job that is served."""


@runtime_checkable
class StatesModel(Protocol):
    """Terms of a pact that may say which model is served; others are served by the job's own."""

    @property
    def model(self) -> Path | None:
        """Folder of the model; None for the job's own."""
        ...


@runtime_checkable
class Served(Protocol):
    """A decision of a pact that a live market can be served by."""

    def engagement(self, model: Model, seed: int | None) -> Engagement:
        """The mechanism at work.

        Args:
            model: of the job that is served.
            seed: of whatever it draws; None for one that nobody knows.

        Raises:
            InputError: it is for a model of other layers.
        """
        ...


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
            _forget(config.ready_file)
            self._tls = _tls(config)
            named = config.job or DEFAULT_JOB
            job = job or registry.part("jobs", named, source="serve", field="job")
            part = job.server_part(config.model, config.job_settings)
            part.warm()
            codecs = tuple(registry.part("codecs", name) for name in job.codecs)
            self.market, self._books = _market_on(config, job.name, part, codecs, engagement)
        except BaseException:
            self._listener.close()
            raise
        self.operator_token = config.operator_token or secrets.token_hex(20)
        self._settings = config
        self._ready_file = config.ready_file
        self._failure: BaseException | None = None
        scheme = "http" if self._tls is None else "https"
        host, self.port = self._listener.getsockname()[:2]
        self._host = str(host)
        named = f"[{host}]" if ":" in self._host else host
        self.url = f"{scheme}://{named}:{self.port}"
        super().__init__(
            uvicorn.Config(
                application(
                    self.market,
                    self.operator_token,
                    hosts=(*_own_names(config.host), *config.allow_hosts),
                    bounds=Bounds(requests_max=config.requests_each),
                    body_timeout_s=config.body_timeout_s,
                ),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http="h11",
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
        where = {"url": self.url, "host": self._host, "port": self.port}
        _tell(self._ready_file, where, self.operator_token)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets requests finish, then closes the books."""
        self.market.stop()
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

    def _played(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._failure is None:
            self._failure = task.exception()
        self.should_exit = True


def application(
    market: Market,
    operator_token: str,
    *,
    hosts: Sequence[str] = (),
    bounds: Bounds | None = None,
    body_timeout_s: float = 30.0,
) -> Starlette:
    """The HTTP interface of a market.

    Args:
        market: behind it.
        operator_token: shows the whole status.
        hosts: names that the server may be called by, beside addresses and `localhost`.
        bounds: of what anybody may have in hand.
        body_timeout_s: how long a body may take.
    """
    app = Starlette(
        routes=[
            Route("/market/enrol", _enrol, methods=["POST"]),
            Route("/market/offer", _offer),
            Route("/market/commit", _commit, methods=["POST"]),
            Route("/market/audit", _audit, methods=["POST"]),
            Route("/market/leave", _leave, methods=["POST"]),
            Route("/market/done", _done, methods=["POST"]),
            Route("/market/pieces", _pieces),
            Route("/market/status", _status),
            Route("/metrics", _metrics),
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
            LostSession: _lost,
            RepeatedWork: _repeated,
            Busy: _busy,
            LedgerError: _unwritten,
            Crowded: _crowded,
            HTTPException: _http_error,
            500: _defect,
        },
        middleware=[Middleware(Entry, hosts=hosts)],
    )
    app.state.market = market
    app.state.operator_token = operator_token
    app.state.bounds = bounds or Bounds()
    app.state.metrics = Metrics()
    app.state.body_timeout_s = body_timeout_s
    return app


# ---------------------------------------------------------------- market

_Handler = Callable[[Request], Awaitable[Response]]


def _for_devices(handler: Callable[[Request, str], Awaitable[Response]]) -> _Handler:
    """A handler of what devices ask, each within its bounds, before any body is read."""

    async def handle(request: Request) -> Response:
        device = await _device(request)
        with request.app.state.bounds.place(f"device {device}") as place:
            request.state.place = place
            return await handler(request, device)

    return handle


def _for_strangers(handler: _Handler) -> _Handler:
    """A handler of what anybody may ask, each address within its bounds."""

    async def handle(request: Request) -> Response:
        address = request.client.host if request.client else ""
        with request.app.state.bounds.place(f"address {address}") as place:
            request.state.place = place
            return await handler(request)

    return handle


@_for_strangers
async def _enrol(request: Request) -> Response:
    body = messages.read_object("enrol", await _body(request, messages.MESSAGE_BYTES_MAX))
    asked = messages.EnrolRequest.from_json(body)
    token = await _market(request).enrol(asked.token, asked.name)
    if token is None:
        raise HTTPException(401, "this one-time token is not known here")
    return JSONResponse({"device_token": token})


@_for_devices
async def _offer(request: Request, device: str) -> Response:
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 15):
        raise InputError("offer", "after", "the number of a round", after)
    offer = await _market(request).offer(device, int(after))
    return JSONResponse({**offer.as_json(), "audits": _market(request).due(device)})


@_for_devices
async def _commit(request: Request, device: str) -> Response:
    body = messages.read_object("commit", await _body(request, messages.MESSAGE_BYTES_MAX))
    asked = messages.CommitRequest.from_json(body)
    assigned = await _market(request).commit(device, asked.round, asked.answer)
    commitment = messages.Commitment(round=asked.round, assigned=assigned).as_json()
    return JSONResponse({**commitment, "audits": _market(request).due(device)})


@_for_devices
async def _audit(request: Request, device: str) -> Response:
    piece = messages.check_piece("audit", request.query_params.get("piece"))
    shown = await _body(request, oip.BODY_BYTES_MAX)
    outcome = _outcome(await _market(request).audit(device, piece, shown))
    return JSONResponse({**outcome, "audits": _market(request).due(device)})


@_for_devices
async def _leave(request: Request, device: str) -> Response:
    await _market(request).leave(device)
    return JSONResponse({"audits": _market(request).due(device)})


@_for_devices
async def _done(request: Request, device: str) -> Response:
    await _market(request).done(device, _round(request))
    return JSONResponse({"audits": _market(request).due(device)})


@_for_devices
async def _pieces(request: Request, device: str) -> Response:
    found = await _market(request).pieces(device, _round(request))
    return JSONResponse({"pieces": {piece: _outcome(each) for piece, each in found.items()}})


async def _status(request: Request) -> Response:
    if "authorization" not in request.headers:
        return JSONResponse({"state": "up"})
    if not _is_operator(request):
        raise HTTPException(401, "this is not the operator's token")
    return JSONResponse(await _market(request).status())


async def _metrics(request: Request) -> Response:
    if not _is_operator(request):
        raise HTTPException(401, "this is not the operator's token")
    market = _market(request)
    told = request.app.state.metrics.told(await market.status(), ready=market.ready)
    return Response(told, media_type=METRICS_TYPE)


# ---------------------------------------------------------------- Open Inference Protocol


async def _about(request: Request) -> Response:
    await _known(request)
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
    await _known(request)
    market, amount = _market(request), _amount(request)
    specs = market.part.expects(amount, 0)
    told = market.codecs[0].packed(specs)
    parameters: dict[str, object] = {**market.part.about, "amount": amount}
    if any(spec.coded for spec in specs):
        parameters["codecs"] = {
            codec.name: [spec.as_json() for spec in codec.packed(specs)] for codec in market.codecs
        }
    return JSONResponse(
        {
            "name": cut_name(market.part.model, amount),
            "versions": ["1"],
            "platform": "edgepact",
            "inputs": [spec.as_json() for spec in told],
            "outputs": [spec.as_json() for spec in market.part.returns(amount)],
            "parameters": parameters,
        }
    )


async def _model_ready(request: Request) -> Response:
    await _known(request)
    market = _market(request)
    name = cut_name(market.part.model, _amount(request))
    return JSONResponse({"name": name, "ready": market.ready}, 200 if market.ready else 503)


@_for_devices
async def _infer(request: Request, device: str) -> Response:
    market = _market(request)
    amount = _amount(request)
    body = await _body(request, oip.BODY_BYTES_MAX)
    start_s = time.perf_counter()
    source = "infer request"
    asked = await _decoded(source, body, request.headers.get(oip.HEADER_LENGTH))
    piece = messages.check_piece(source, asked.id)
    number = messages.check_round(source, asked.parameters.get("round"))
    exchange = check_whole(
        source,
        "parameters.exchange",
        asked.parameters.get("exchange", 0),
        least=0,
        most=EXCHANGES_MAX - 1,
    )
    specs = market.part.returns(amount)
    oip.check_outputs(asked.outputs, specs)
    answered = await market.exchange(
        device,
        number,
        piece,
        exchange,
        amount,
        asked.parameters.get("codec"),
        messages.check_commitment(source, asked.parameters.get("commitment")),
        asked.inputs,
    )
    server_s = time.perf_counter() - start_s
    request.app.state.metrics.exchange(
        server_s, answered.compute_s, wait_s=answered.wait_s, together=answered.together
    )
    content, header_length = oip.encode_response(
        id=piece,
        model=cut_name(market.part.model, amount),
        outputs=_outputs(answered, specs, asked.outputs),
        parameters={
            **answered.reply.told,
            **_progress(answered),
            "exchange": exchange,
            "compute_seconds": answered.compute_s,
            "server_seconds": server_s,
            "audits": market.due(device),
        },
        binary=asked.binary_output,
    )
    if header_length is None:
        return Response(content, media_type=messages.JSON_TYPE)
    return Response(
        content,
        media_type=oip.BINARY_TYPE,
        headers={oip.HEADER_LENGTH: str(header_length)},
    )


# ---------------------------------------------------------------- private


def _market(request: Request) -> Market:
    market = request.app.state.market
    assert isinstance(market, Market)
    return market


async def _known(request: Request) -> None:
    """Expects the token of a device or of the operator."""
    if not _is_operator(request):
        await _device(request)


def _is_operator(request: Request) -> bool:
    asked, own = _token(request), str(request.app.state.operator_token)
    return secrets.compare_digest(asked.encode(), own.encode())


def _token(request: Request) -> str:
    """The token that is shown."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 1 <= len(token) <= messages.TOKEN_CHARS_MAX:
        raise HTTPException(401, "expected the header 'Authorization: Bearer <token>'")
    return token


async def _device(request: Request) -> str:
    """Name of the device that asks."""
    token = _token(request)
    name = await _market(request).device(token)
    if name is None:
        raise HTTPException(401, "this device token is not known here")
    connection = getattr(request.state, "connection", None)
    if isinstance(connection, BoundedProtocol):
        connection.known_as(name)
    return name


async def _decoded(source: str, body: bytes, header_length: str | None) -> oip.InferRequest:
    if header_length is not None:
        return oip.decode_request(body, header_length)
    check_json(source, body)
    if len(body) <= messages.MESSAGE_BYTES_MAX:
        return oip.decode_request(body, None)
    return await asyncio.to_thread(oip.decode_request, body, None)


def _round(request: Request) -> int:
    text = request.query_params.get("round", "")
    whole = text.isascii() and text.isdigit() and len(text) <= 15
    return messages.check_round(request.url.path, int(text) if whole else text)


def _amount(request: Request) -> int:
    name = request.path_params["model"]
    model = _market(request).part.model
    amount = amount_of(model, name)
    if amount is None:
        first, last = cut_name(model, 0), cut_name(model, model.amount_max)
        raise HTTPException(404, f"there is no model {name!r}, expected {first} to {last}")
    return amount


def _outputs(
    answered: Answered, specs: Sequence[TensorSpec], wanted: Sequence[str] | None
) -> Tensors:
    """The job's tensors, packed; of those that no codec packs, the ones that are wanted."""
    given = answered.reply.outputs
    packed = answered.codec.pack(given, [spec for spec in specs if spec.name in given])
    left_out = {spec.name for spec in specs if wanted is not None and spec.name not in wanted}
    return {name: value for name, value in packed.items() if name not in left_out}


def _progress(answered: Answered) -> dict[str, object]:
    """Whether the piece is finished, and then what has become of its payment."""
    if answered.settlement is None:
        return {"finished": False}
    return {"finished": True, **_outcome(answered.settlement)}


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
    place: Place = request.state.place
    most_s: float = request.app.state.body_timeout_s
    start_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(None) as deadline:
            deadline.reschedule(start_s + min(most_s, BODY_GRACE_S))
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise too_large
                place.take(len(chunk))
                chunks.append(chunk)
                allowed_s = BODY_GRACE_S + size / BODY_BYTES_PER_SECOND_LEAST
                deadline.reschedule(start_s + min(most_s, allowed_s))
    except TimeoutError:
        rate = BODY_BYTES_PER_SECOND_LEAST
        expected = f"expected the body within {most_s:g} s, and {rate} bytes a second of it"
        raise HTTPException(408, expected) from None
    except ClientDisconnect:
        # Nobody hears this answer; a device that dies in mid-request is no defect of the server.
        raise HTTPException(400, "the client has gone away") from None
    return b"".join(chunks)


def _outcome(settled: Settlement) -> dict[str, object]:
    """What has become of a piece's payment, for the device."""
    return {
        "state": settled.state.value,
        "audited": settled.audited,
        "units": settled.units,
        "paid_microcredits": settled.paid_microcredits,
        "pending_microcredits": (
            settled.microcredits if settled.state is PieceState.PENDING else 0
        ),
        "repeated": settled.repeated,
    }


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _malformed(request: Request, error: Exception) -> Response:
    return _error(400, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    return _error(409, str(error))


async def _lost(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "reason": messages.SESSION_LOST}, 409)


async def _repeated(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "reason": messages.REPEATED}, 409)


async def _busy(request: Request, error: Exception) -> Response:
    message = str(error) or "all places in the queue are taken"
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_S)})


async def _crowded(request: Request, error: Exception) -> Response:
    assert isinstance(error, Crowded)
    return _error(429 if error.own else 503, str(error), {"Retry-After": str(RETRY_AFTER_S)})


async def _unwritten(request: Request, error: Exception) -> Response:
    # Its own words name the database, which is nobody else's business.
    message = "the ledger cannot be written just now"
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_S)})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    return _error(500, "internal error")


def _market_on(
    config: ServeConfig,
    job: str,
    part: ServerPart,
    codecs: tuple[Codec, ...],
    mechanism: Mechanism,
) -> tuple[Market, Books]:
    engagement = mechanism if isinstance(mechanism, Engagement) else mechanism(part.model)
    ledger = Ledger(config.ledger_url)
    try:
        ledger.lead()
        key_path = key_file(ledger.file, config.key)
        key, seal = ServerKey(key_path), seal_file(key_path)
        expect_whole(ledger, key, seal)
        books = Books(
            ledger,
            Ledger(config.ledger_url, read_only=True),
            limits=Limits(
                round_microcredits=_in_microcredits(config.round_budget),
                total_microcredits=_in_microcredits(config.budget),
            ),
            repeat_rounds=config.repeat_rounds or None,
            at_close=lambda: write_seal(seal, ledger.seal(), key),
        )
        rules = Rules(
            terms=Terms(
                job=job,
                model=part.model,
                units_per_round=config.units_per_round,
                commit_timeout_s=config.commit_timeout_s,
                round_timeout_s=config.round_timeout_s,
            ),
            rounds=config.rounds,
            devices_min=config.devices_min,
            gather_timeout_s=config.gather_timeout_s,
            audits=_audit_rules(config, part.audit_power),
            secret=ledger.secret() if config.seed is None else secret_of(config.seed),
            enrol_tokens=frozenset(config.enrol_tokens),
            batch_max=config.batch_max,
            batch_wait_s=config.batch_wait_ms / 1000,
        )
        return Market(rules, books, key, part, codecs, engagement), books
    except BaseException:
        with contextlib.suppress(MarketError):
            ledger.give_up_lead()
        ledger.close()
        raise


def _in_microcredits(credits: float | None) -> int | None:
    return None if credits is None else in_microcredits(credits)


def _audit_rules(config: ServeConfig, power: float) -> AuditRules:
    fixed = config.audit_probability

    def rate(units: list[int], reward: int, least_reward: int) -> float:
        if fixed is not None:
            return fixed
        return audit_rate(units, margin=config.margin, reward=reward, least_reward=least_reward)

    chance = {} if config.seed is None else {"chance": random.Random(config.seed).random}
    return AuditRules(
        rate=rate, timeout_s=config.audit_timeout_s, strikes_max=config.strikes_max, **chance
    )


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
