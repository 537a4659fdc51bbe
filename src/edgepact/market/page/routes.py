"""The page over HTTP, under `/page`: its files for anybody, all that moves for the operator.

=========================  ====================================================================
`GET /page`                the page itself, which holds no secret
`GET /page/static/NAME`    its style, script and chart library; nothing comes from another host
`GET /page/events`         what happens, as server-sent events: `all`, then `change` after `change`
`GET /page/exhibit`        what a device shows of a piece: `device` and `piece` name it
`POST /page/control`       what is to be changed, see `control.change`
=========================  ====================================================================

The latter three ask for the operator's token as a header, on loopback as well: whoever can reach a
port of a machine need not be its operator. The page asks for it, or is opened with it behind the
`#` of its address, which no browser sends anywhere, and keeps it for the tab.
"""

from collections.abc import AsyncIterator
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from edgepact.market.http.requests import (
    body_of,
    bounds_of,
    is_operator,
    market_of,
    wrong_token,
)
from edgepact.market.page import control
from edgepact.market.page.watch import Watch
from edgepact.market.protocol import messages
from edgepact.market.protocol.exhibits import exhibit_json

TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html", "svg": "image/svg+xml"}

FILES = (
    "look.css",
    "page.css",
    "charts.js",
    "page.js",
    "uplot.min.css",
    "uplot.min.js",
    "icon.svg",
)
"""That the page loads."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """All of them."""
    return [
        Route("/page", _page),
        Route("/page/", _to_page),
        Route("/page/static/{name}", _file),
        Route("/page/events", _events),
        Route("/page/exhibit", _exhibit),
        Route("/page/control", _control, methods=["POST"]),
    ]


async def _page(request: Request) -> Response:
    return _static("page.html")


async def _to_page(request: Request) -> Response:
    return RedirectResponse("/page")


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404, "the page has no such file")
    return _static(name)


async def _events(request: Request) -> Response:
    _expect_operator(request)
    watch = request.app.state.watch
    assert isinstance(watch, Watch)
    views = watch.view()
    # Here, so that one page too many is told so before anything else.
    first = await anext(views)
    return StreamingResponse(
        _with(first, views),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _exhibit(request: Request) -> Response:
    _expect_operator(request)
    watch = request.app.state.watch
    assert isinstance(watch, Watch)
    device, piece = (request.query_params.get(name, "") for name in ("device", "piece"))
    found = watch.exhibit(device, piece)
    if found is None:
        raise HTTPException(404, "nothing is shown of this piece, or no more")
    return JSONResponse(exhibit_json(found), headers={"Cache-Control": "no-store"})


async def _control(request: Request) -> Response:
    _expect_operator(request)
    with bounds_of(request).place("operator") as place:
        request.state.place = place
        asked = messages.read_object("control", await body_of(request, messages.MESSAGE_BYTES_MAX))
        await control.change(market_of(request), asked)
    return JSONResponse({"done": asked["action"]})


# ---------------------------------------------------------------- private


def _expect_operator(request: Request) -> None:
    if not is_operator(request):
        raise wrong_token(request, "this is not the operator's token")


async def _with(first: bytes, views: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for message in views:
        yield message


def _static(name: str) -> Response:
    content = files("edgepact.market.page").joinpath("static", name).read_bytes()
    kind = TYPES[name.rsplit(".", 1)[1]]
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=HEADERS)
