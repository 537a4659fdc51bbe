"""The Open Inference Protocol over gRPC, beside HTTP: the same market, tokens, bounds and TLS.

Clients show their token as the metadata `authorization: Bearer <token>`; health alone needs none.
Every method is taken as a stream, which is the same on the wire: so the token is looked at, and a
place given, before a message is read. Compressed messages are refused, since the library would
inflate them without a bound.

What a client that has gone had asked for is finished all the same, as over HTTP: half of a
payment would be worse than an answer that nobody hears.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote

import grpc

from edgepact.errors import InputError, MarketError
from edgepact.market.books import Busy
from edgepact.market.bounds import Bounds, Crowded, Place
from edgepact.market.evidence import cut_name
from edgepact.market.inference import OPERATOR, Inference, NoSuchModel
from edgepact.market.ledger import LedgerError
from edgepact.market.protocol import grpc_messages, messages, oip
from edgepact.market.protocol.model_facts import VERSION, server_metadata

RPCS_MAX = 512
"""Calls in hand at a time."""

STREAM_IDLE_S = 60.0
"""How long a stream of requests may say nothing."""

CONNECTION_IDLE_S = 300.0

IDENTITY_ONLY = 1
"""Bit set of the compressions that are taken: none."""

_T = TypeVar("_T")


class _Refused(Exception):
    """A call is answered with a status."""

    def __init__(self, code: grpc.StatusCode, words: str, after_s: float | None = None) -> None:
        super().__init__(words)
        self.code, self.words, self.after_s = code, words, after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcServer:
    """A gRPC server that answers.

    Attributes:
        port: it listens on.
    """

    port: int
    _server: Any

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls, and lets those in hand end."""
        await self._server.stop(grace_s)


async def start_grpc(
    inference: Inference,
    bounds: Bounds,
    operator_token: str,
    *,
    host: str,
    port: int,
    tls: Path | None,
    connections_max: int = 2048,
    head_timeout_s: float = 10.0,
    body_timeout_s: float = 30.0,
) -> GrpcServer:
    """Starts to answer, on the event loop that runs.

    Args:
        inference: what is asked for.
        bounds: shared with HTTP.
        operator_token: of the operator.
        host: address to listen on.
        port: to listen on; 0 for any.
        tls: folder of `server.pem` and `server.key`; None for none.
        connections_max: most connections at once.
        head_timeout_s: how long a handshake may take.
        body_timeout_s: how long a message may take.

    Raises:
        MarketError: the port cannot be had.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=RPCS_MAX,
        options=[
            ("grpc.max_receive_message_length", oip.BODY_BYTES_MAX + messages.MESSAGE_BYTES_MAX),
            ("grpc.max_metadata_size", messages.MESSAGE_BYTES_MAX),
            ("grpc.max_concurrent_streams", bounds.requests_max),
            ("grpc.max_allowed_incoming_connections", connections_max),
            ("grpc.max_connection_idle_ms", int(CONNECTION_IDLE_S * 1e3)),
            ("grpc.server_handshake_timeout_ms", int(head_timeout_s * 1e3)),
            ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
            ("grpc.so_reuseport", 0),
        ],
    )
    service = _Service(inference, bounds, operator_token, body_timeout_s)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(grpc_messages.SERVICE, service.handlers()),)
    )
    named = f"[{host}]" if ":" in host else host or "0.0.0.0"
    try:
        if tls is None:
            bound = server.add_insecure_port(f"{named}:{port}")
        else:
            pair = (tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes()
            bound = server.add_secure_port(f"{named}:{port}", grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        bound = 0
    if not bound:
        raise MarketError(f"cannot listen on {host} port {port} for gRPC")
    await server.start()
    return GrpcServer(port=bound, _server=server)


class _Service:
    """The calls."""

    def __init__(
        self, inference: Inference, bounds: Bounds, operator_token: str, body_timeout_s: float
    ) -> None:
        self._inference = inference
        self._bounds = bounds
        self._operator_token = operator_token
        self._body_timeout_s = body_timeout_s
        self._under_way: set[asyncio.Task[Any]] = set()

    def handlers(self) -> dict[str, Any]:
        """By name of the method."""
        single: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        found = {name: self._known(name, answer) for name, answer in single.items()}
        found |= {name: self._open(name) for name in ("ServerLive", "ServerReady")}
        found["ModelInfer"] = grpc.stream_unary_rpc_method_handler(self._infer)
        found["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return found

    # ------------------------------------------------------------ calls

    async def _server_metadata(self, asked: Any) -> Any:
        return grpc_messages.answered("ServerMetadataResponse", server_metadata())

    async def _model_ready(self, asked: Any) -> Any:
        self._inference.amount(asked.name, asked.version)
        ready = self._inference.market.ready
        return grpc_messages.answered("ModelReadyResponse", {"ready": ready})

    async def _model_metadata(self, asked: Any) -> Any:
        amount = self._inference.amount(asked.name, asked.version)
        told = self._inference.metadata(amount)
        return grpc_messages.answered("ModelMetadataResponse", told)

    async def _model_config(self, asked: Any) -> Any:
        amount = self._inference.amount(asked.name, asked.version)
        return grpc_messages.config_response(self._inference.config(amount))

    async def _model_statistics(self, asked: Any) -> Any:
        amount = self._inference.amount(asked.name, asked.version) if asked.name else None
        told = self._inference.statistics(amount)
        return grpc_messages.answered("ModelStatisticsResponse", told)

    async def _infer(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async def answer() -> bytes:
            device = await self._who(context)
            with self._bounds.place(_asker(device)) as place:
                content = await self._one(requests, place)
                response = await self._finished(self._inferred(device, content))
                return bytes(response.SerializeToString())

        return await _answered(context, answer)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Requests one after another, each in a place; one that is refused does not end it."""
        while True:

            async def answer() -> bytes | None:
                device = await self._who(context)  # it may have been revoked
                with self._bounds.place(_asker(device)) as place:
                    content = await self._read(requests, place, STREAM_IDLE_S, end_at_once=True)
                    if content is None:
                        return None
                    try:
                        response = await self._finished(self._inferred(device, content))
                        told = grpc_messages.stream_response(response)
                    except Exception as error:
                        told = grpc_messages.stream_response(error=_refusal(error).words)
                    return bytes(told.SerializeToString())

            content = await _answered(context, answer)
            if content is None:
                return  # it has said all
            yield content

    # ------------------------------------------------------------ parts of them

    def _known(self, name: str, answer: Callable[[Any], Awaitable[Any]]) -> Any:
        """A handler of what those who show a token may ask."""

        async def handle(requests: AsyncIterator[bytes], context: Any) -> bytes:
            async def call() -> bytes:
                device = await self._who(context)
                with self._bounds.place(_asker(device)) as place:
                    content = await self._one(requests, place)
                    response = await answer(grpc_messages.read(f"{name}Request", content))
                    return bytes(response.SerializeToString())

            return await _answered(context, call)

        return grpc.stream_unary_rpc_method_handler(handle)

    def _open(self, name: str) -> Any:
        """A handler of what anybody may ask."""

        async def handle(requests: AsyncIterator[bytes], context: Any) -> bytes:
            async def call() -> bytes:
                with self._bounds.place(f"address {_address(context.peer())}"):
                    ready = name == "ServerLive" or self._inference.market.ready
                    field = name.removeprefix("Server").lower()
                    told = grpc_messages.answered(f"{name}Response", {field: ready})
                    return bytes(told.SerializeToString())

            return await _answered(context, call)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _who(self, context: Any) -> str | None:
        """The device that asks; None for the operator."""
        shown = [value for key, value in context.invocation_metadata() if key == "authorization"]
        scheme, _, token = (shown[0] if len(shown) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not 1 <= len(token) <= messages.TOKEN_CHARS_MAX:
            expected = "expected the metadata 'authorization: Bearer <token>'"
            raise _Refused(grpc.StatusCode.UNAUTHENTICATED, expected)
        if secrets.compare_digest(token.encode(), self._operator_token.encode()):
            return None
        market, address = self._inference.market, _address(context.peer())
        if not market.remembers(token):
            self._bounds.expect_no_guessing(address)
        device = await market.device(token)
        if device is None:
            self._bounds.was_wrong(address)
            words = "this device token is not known here"
            raise _Refused(grpc.StatusCode.UNAUTHENTICATED, words)
        return device

    async def _read(
        self,
        requests: AsyncIterator[bytes],
        place: Place,
        within_s: float,
        *,
        end_at_once: bool = False,
    ) -> bytes | None:
        """The next message, counted among the bytes in hand; None at the end, if it may be."""
        try:
            async with asyncio.timeout(within_s):
                content = bytes(await anext(aiter(requests)))
        except TimeoutError:
            words = f"expected a message within {within_s:g} s"
            raise _Refused(grpc.StatusCode.DEADLINE_EXCEEDED, words) from None
        except StopAsyncIteration:
            if end_at_once:
                return None
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "expected a message") from None
        place.take(len(content))
        return content

    async def _one(self, requests: AsyncIterator[bytes], place: Place) -> bytes:
        """The one message of a call."""
        content = await self._read(requests, place, self._body_timeout_s)
        assert content is not None
        return content

    async def _inferred(self, device: str | None, content: bytes) -> Any:
        asked = grpc_messages.read("ModelInferRequest", content)
        amount = self._inference.amount(asked.model_name, asked.model_version)
        answer = await self._inference.infer(device, amount, grpc_messages.infer_request(asked))
        return grpc_messages.infer_response(
            id=answer.id,
            model=cut_name(self._inference.market.part.model, amount),
            version=VERSION,
            outputs=answer.outputs,
            parameters=answer.parameters,
        )

    async def _finished(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What work comes to, which goes on if the client goes away."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # somebody has looked at it


# ---------------------------------------------------------------- private


def _address(peer: str) -> str:
    """The address in what gRPC calls a peer.

    Example:
        >>> _address("ipv4:10.0.0.1:80"), _address("ipv6:%5B::1%5D:80")
        ('10.0.0.1', '::1')
    """
    host = unquote(peer.partition(":")[2]).rpartition(":")[0]
    return host.strip("[]")


def _asker(device: str | None) -> str:
    return OPERATOR if device is None else f"device {device}"


async def _answered(context: Any, answer: Callable[[], Awaitable[_T]]) -> _T:
    """An answer, or the status that stands for the error."""
    try:
        return await answer()
    except Exception as error:
        refusal = _refusal(error)
    await _abort(context, refusal)


async def _abort(context: Any, refusal: _Refused) -> NoReturn:
    trailing = () if refusal.after_s is None else (("retry-after", f"{refusal.after_s:g}"),)
    await context.abort(refusal.code, refusal.words, trailing)
    raise AssertionError("abort raises")


def _refusal(error: Exception) -> _Refused:
    """The status that stands for an error, as the statuses of HTTP do."""
    code = grpc.StatusCode
    match error:
        case _Refused():
            return error
        case NoSuchModel():
            return _Refused(code.NOT_FOUND, f"{error}")
        case InputError():
            return _Refused(code.INVALID_ARGUMENT, f"{error}")
        case Crowded():
            kind = code.RESOURCE_EXHAUSTED if error.own else code.UNAVAILABLE
            return _Refused(kind, f"{error}", float(math.ceil(error.after_s)))
        case Busy():
            words = f"{error}" or "all places in the queue are taken"
            return _Refused(code.UNAVAILABLE, words, 1.0)
        case LedgerError():
            return _Refused(code.UNAVAILABLE, "the ledger cannot be written just now", 1.0)
        case MarketError():
            return _Refused(code.FAILED_PRECONDITION, f"{error}")
        case _:
            return _Refused(code.INTERNAL, "internal error")
