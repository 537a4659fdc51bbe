"""The web server of a device that answers chat clients, on loopback and nowhere else.

Loopback is no authentication: other users of the machine, and pages in its browsers, reach it too.
So every request shows a token, which stands in a file that its owner alone can read; browser pages
of other origins, and requests to other names, are refused before anything is read of them
(`market.entry`).
"""

import asyncio
import secrets
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgepact.chat.answers import DONE, Answers, RefusalError, event
from edgepact.chat.requests import Wish, read_json, read_wish
from edgepact.chat.writing import Told, Writing
from edgepact.errors import InputError, MarketError
from edgepact.jobs.text.device import TextDevice
from edgepact.market.asked import Desk
from edgepact.market.connections import BoundedProtocol, Connection, Room
from edgepact.market.device_token import store_token, stored_token
from edgepact.market.entry import Entry
from edgepact.market.listening import listen_at
from edgepact.work import DevicePart

HOST = "127.0.0.1"
TOKEN_BYTES = 32
BODY_BYTES_MAX = 2 << 20
HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 64
SHUTDOWN_TIMEOUT_S = 2
STARTUP_TIMEOUT_S = 30.0


@contextmanager
def chat_endpoint(
    part: DevicePart, *, port: int, token_file: Path, say: Callable[[str], None] | None = None
) -> Iterator[Desk]:
    """Answers chat clients as long as it is open.

    Args:
        part: the device's half of a job that writes text.
        port: of loopback; 0 for any that is free.
        token_file: where the token is kept; what stands there already is used again.
        say: is told where it answers; None prints it. The token itself is told to nobody.

    Yields:
        The desk at which it asks for pieces.

    Raises:
        InputError: the job writes no text, or the token file cannot be used.
        MarketError: the port is taken.
    """
    if not isinstance(part, TextDevice):
        raise InputError(
            "device", "chat", "a job that writes text, such as `--job text`", "another"
        )
    token = _token(token_file)
    desk = Desk()
    server = _Server(application(part, desk, token), listen_at(HOST, port, CONNECTIONS_MAX))
    thread = threading.Thread(target=server.run, name="chat", daemon=True)
    thread.start()
    end_s = time.monotonic() + STARTUP_TIMEOUT_S
    while not server.started and thread.is_alive() and time.monotonic() < end_s:
        time.sleep(0.01)
    if not server.started:
        raise MarketError("the endpoint for chat clients did not start")
    url = f"http://{HOST}:{server.port}/v1"
    words = f"chat clients are answered at {url}; their API key stands in {token_file}"
    (say or _print)(words)
    try:
        yield desk
    finally:
        desk.close()
        server.should_exit = True
        thread.join(SHUTDOWN_TIMEOUT_S + BODY_TIMEOUT_S)


def application(part: TextDevice, desk: Desk, token: str) -> Starlette:
    """What answers: OpenAI's models, completions and chat completions.

    Args:
        part: the device's half of the job.
        desk: at which pieces are asked for.
        token: that clients show.
    """
    app = Starlette(
        routes=[
            Route("/v1/models", _known(_models), methods=["GET"]),
            Route("/v1/models/{name:path}", _known(_model), methods=["GET"]),
            Route("/v1/completions", _known(_completions), methods=["POST"]),
            Route("/v1/chat/completions", _known(_chats), methods=["POST"]),
        ],
        exception_handlers={
            RefusalError: _refused,
            HTTPException: _http_error,
            500: _defect,
        },
        middleware=[Middleware(Entry, refused=_not_let_in)],
    )
    app.state.part, app.state.desk, app.state.token = part, desk, token
    app.state.created = int(time.time())
    return app


# ---------------------------------------------------------------- private

_Handler = Callable[[Request], Awaitable[Response]]


class _Stream(StreamingResponse):
    """A stream; whoever asked may go before its first part, and the text ends with that."""

    def __init__(self, parts: AsyncIterator[bytes], writing: Writing) -> None:
        headers = {"Cache-Control": "no-cache"}
        super().__init__(parts, media_type="text/event-stream", headers=headers)
        self._writing = writing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._writing.close()


class _Server(uvicorn.Server):
    """Serves bounded connections on a port that is held already."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http="httptools",
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts answering."""
        room = Room[Connection](total_max=CONNECTIONS_MAX, group_max=CONNECTIONS_MAX)

        def connected() -> BoundedProtocol:
            return BoundedProtocol(
                room,
                HEAD_TIMEOUT_S,
                BODY_TIMEOUT_S,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        loop = asyncio.get_running_loop()
        await super().startup([])  # which would bound neither connections nor heads
        self.servers.append(await loop.create_server(connected, sock=self._listener))


def _token(path: Path) -> str:
    """The token that clients show; a new one is kept."""
    token = stored_token(path)
    if token is None:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        store_token(path, token)
    elif sys.platform != "win32" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        expected = "a file that its owner alone can read (chmod 600)"
        raise InputError(path, "", expected, "one that others can read as well")
    return token


def _print(words: str) -> None:
    print(words, flush=True)


def _known(handler: _Handler) -> _Handler:
    """A handler of what those ask who show the token."""

    async def handle(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        own = str(request.app.state.token)
        shown = token if scheme.lower() == "bearer" else ""
        if not secrets.compare_digest(shown.encode(), own.encode()):
            words = (
                "expected the key of this device's chats as API key; it stands in the file that "
                "the device named when it began, NAME.chat-token"
            )
            raise RefusalError(401, words, code="invalid_api_key")
        return await handler(request)

    return handle


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_about(request)]})


async def _model(request: Request) -> Response:
    about, name = _about(request), request.path_params["name"]
    if name != about["id"]:
        words = f"there is no such model here, but {about['id']}"
        raise RefusalError(404, words, param="model", code="model_not_found")
    return JSONResponse(about)


def _about(request: Request) -> dict[str, object]:
    part: TextDevice = request.app.state.part
    return {
        "id": part.model.name,
        "object": "model",
        "created": request.app.state.created,
        "owned_by": "edgepact",
    }


async def _completions(request: Request) -> Response:
    return await _written(request, chat=False)


async def _chats(request: Request) -> Response:
    return await _written(request, chat=True)


async def _written(request: Request, *, chat: bool) -> Response:
    state = request.app.state
    part: TextDevice = state.part
    content = await _body(request)
    # Templates and tokenizers take their time with long texts.
    wish = await asyncio.to_thread(lambda: read_wish(read_json(content), part, chat=chat))
    answers = Answers(
        chat=chat,
        model=part.model.name,
        logprobs=wish.logprobs,
        alternatives=wish.settings.alternatives,
        text_of=lambda token: part.tokenizer.text([token]),
    )
    writing = Writing(state.desk, part, wish)
    try:
        # What goes wrong until here can still be told by its status.
        told = [await writing.next(request.is_disconnected)]
        if wish.stream:
            parts = _parts(writing, answers, wish, told[0])
            return _Stream(parts, writing)
        while told[-1].reason is None:
            told.append(await writing.next(request.is_disconnected))
    except BaseException:
        writing.close()
        raise
    text = "".join(each.text for each in told)
    tokens = [token for each in told for token in each.tokens]
    return JSONResponse(answers.whole(text, tokens, told[-1].reason or "length", writing.usage))


async def _parts(
    writing: Writing, answers: Answers, wish: Wish, told: Told
) -> AsyncIterator[bytes]:
    """A stream, part by part."""
    at = 0
    try:
        if answers.chat:
            yield answers.opening()
        while True:
            if told.text or (told.tokens and wish.logprobs) or told.reason is not None:
                yield answers.part(told.text, told.tokens, at, reason=told.reason)
            at += len(told.text)
            if told.reason is not None:
                break
            told = await writing.next()
        if wish.usage:
            yield answers.usage(writing.usage)
        yield DONE
    except RefusalError as error:
        yield event(error.as_json())


async def _body(request: Request) -> bytes:
    told = request.headers.get("content-length", "0")
    declared = int(told) if told.isascii() and told.isdigit() and len(told) < 12 else None
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            if declared is None or declared > BODY_BYTES_MAX:
                raise RefusalError(413, f"expected at most {BODY_BYTES_MAX} bytes of body")
            async for chunk in request.stream():
                content += chunk
                if len(content) > BODY_BYTES_MAX:
                    raise RefusalError(413, f"expected at most {BODY_BYTES_MAX} bytes of body")
    except TimeoutError:
        raise RefusalError(408, f"expected the body within {BODY_TIMEOUT_S:g} s") from None
    except ClientDisconnect:
        raise RefusalError(400, "the client has gone away") from None
    return bytes(content)


def _not_let_in(status: int, words: str) -> Response:
    return RefusalError(status, words).response()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return RefusalError(error.status_code, error.detail).response()


async def _defect(request: Request, error: Exception) -> Response:
    return RefusalError(500, "internal error").response()
