"""What every handler of requests does first: who asks, within which bounds, and with what body."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edgepact.errors import InputError
from edgepact.market.bounds import Bounds, Place
from edgepact.market.connections import BoundedProtocol
from edgepact.market.inference import Inference
from edgepact.market.play import Market
from edgepact.market.protocol import compression, messages

BODY_GRACE_S = 5.0
BODY_BYTES_PER_SECOND_LEAST = 1024
"""After the grace a body has to come at this rate at least."""

Handler = Callable[[Request], Awaitable[Response]]


def for_devices(handler: Callable[[Request, str], Awaitable[Response]]) -> Handler:
    """A handler of what devices ask, each within its bounds, before any body is read."""

    async def handle(request: Request) -> Response:
        device = await device_of(request)
        with bounds_of(request).place(f"device {device}") as place:
            request.state.place = place
            return await handler(request, device)

    return handle


def for_clients(handler: Callable[[Request, str | None], Awaitable[Response]]) -> Handler:
    """A handler of what devices and the operator (None) ask, each within its bounds."""

    async def handle(request: Request) -> Response:
        device = None if is_operator(request) else await device_of(request)
        who = "operator" if device is None else f"device {device}"
        with request.app.state.bounds.place(who) as place:
            request.state.place = place
            return await handler(request, device)

    return handle


def for_strangers(handler: Handler) -> Handler:
    """A handler of what anybody may ask, each address within its bounds."""

    async def handle(request: Request) -> Response:
        with bounds_of(request).place(f"address {address_of(request)}") as place:
            request.state.place = place
            return await handler(request)

    return handle


def bounds_of(request: Request) -> Bounds:
    """What anybody may ask for."""
    bounds = request.app.state.bounds
    assert isinstance(bounds, Bounds)
    return bounds


def address_of(request: Request) -> str:
    """Of the client; empty where it has none."""
    return request.client.host if request.client else ""


def wrong_token(request: Request, words: str) -> HTTPException:
    """The refusal of a token, which counts against the address that has shown it."""
    bounds_of(request).was_wrong(address_of(request))
    return HTTPException(401, words)


def market_of(request: Request) -> Market:
    """The market that is asked."""
    market = request.app.state.market
    assert isinstance(market, Market)
    return market


def inference_of(request: Request) -> Inference:
    """Of the market that is asked."""
    inference = request.app.state.inference
    assert isinstance(inference, Inference)
    return inference


async def expect_known(request: Request) -> None:
    """Expects the token of a device or of the operator.

    Raises:
        HTTPException: another is shown, or none.
        Crowded: as `device_of`.
    """
    if not is_operator(request):
        await device_of(request)


def is_operator(request: Request) -> bool:
    """Whether the operator's token is shown.

    Raises:
        HTTPException: none is.
    """
    asked, own = _token(request), str(request.app.state.operator_token)
    return secrets.compare_digest(asked.encode(), own.encode())


async def device_of(request: Request) -> str:
    """Name of the device that asks.

    Raises:
        HTTPException: it shows no token, or none of a device.
        Crowded: too many tokens from its address were wrong, and this one was never seen.
    """
    token, market = _token(request), market_of(request)
    if not market.remembers(token):
        bounds_of(request).expect_no_guessing(address_of(request))
    name = await market.device(token)
    if name is None:
        raise wrong_token(request, "this device token is not known here")
    connection = getattr(request.state, "connection", None)
    if isinstance(connection, BoundedProtocol):
        connection.known_as(name)
    return name


def round_of(request: Request) -> int:
    """The round that the query names.

    Raises:
        InputError: it is the number of none.
    """
    text = request.query_params.get("round", "")
    whole = text.isascii() and text.isdigit() and len(text) <= 15
    return messages.check_round(request.url.path, int(text) if whole else text)


async def body_of(request: Request, bytes_max: int) -> bytes:
    """The body, inflated, if it is not too large and does not take too long.

    Raises:
        Crowded: there is no room for it.
        HTTPException: it is too large or too slow.
        InputError: it is not compressed as it says.
        TooLarge: it inflates to more than a body may have.
    """
    try:
        encoding = compression.encoding_of(request.headers.get("content-encoding", ""))
    except InputError as error:
        raise HTTPException(415, f"{error}", {"Accept-Encoding": "gzip, deflate"}) from None
    inflating = None if encoding is None else compression.Inflating(encoding, bytes_max)
    told = request.headers.get("content-length", "0")
    declared = int(told) if told.isascii() and told.isdigit() else bytes_max + 1
    if declared > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size = 0
    place: Place = request.state.place
    most_s: float = request.app.state.body_timeout_s
    start_s = asyncio.get_running_loop().time()
    late_s = start_s + min(most_s, BODY_GRACE_S)
    try:
        async with asyncio.timeout_at(late_s) as deadline:
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise _too_large(bytes_max)
                plain = chunk if inflating is None else inflating.inflate(chunk)
                place.take(len(plain))
                chunks.append(plain)
                allowed_s = BODY_GRACE_S + size / BODY_BYTES_PER_SECOND_LEAST
                # Mostly it is whole by now, or has all the time that there is.
                if size != declared and late_s < start_s + min(most_s, allowed_s):
                    late_s = start_s + min(most_s, allowed_s)
                    deadline.reschedule(late_s)
    except TimeoutError:
        rate = BODY_BYTES_PER_SECOND_LEAST
        expected = f"expected the body within {most_s:g} s, and {rate} bytes a second of it"
        raise HTTPException(408, expected) from None
    except ClientDisconnect:
        # Nobody hears this answer; a device that dies in mid-request is no defect of the server.
        raise HTTPException(400, "the client has gone away") from None
    if inflating is not None:
        inflating.end()
    return b"".join(chunks)


async def encoded(request: Request, response: Response) -> Response:
    """A response, compressed if the client asks for it and it is worth it; large ones beside the
    event loop."""
    name = compression.accepted(request.headers.get("accept-encoding", ""))
    if name is None or len(response.body) < compression.LEAST_BYTES:
        return response
    content = bytes(response.body)
    if len(content) <= messages.MESSAGE_BYTES_MAX:
        response.body = compression.compressed(content, name)
    else:
        response.body = await asyncio.to_thread(compression.compressed, content, name)
    response.headers["Content-Encoding"] = name
    response.headers["Content-Length"] = str(len(response.body))
    response.headers["Vary"] = "Accept-Encoding"
    return response


# ---------------------------------------------------------------- private


def _too_large(bytes_max: int) -> HTTPException:
    return HTTPException(413, f"expected at most {bytes_max} bytes of body")


def _token(request: Request) -> str:
    """The token that is shown."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 1 <= len(token) <= messages.TOKEN_CHARS_MAX:
        raise HTTPException(401, "expected the header 'Authorization: Bearer <token>'")
    return token
