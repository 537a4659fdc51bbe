"""What devices and the operator ask of the market, under `/market/` and `/metrics`."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgepact.errors import InputError, MarketError
from edgepact.market.http.requests import (
    address_of,
    body_of,
    bounds_of,
    for_devices,
    for_strangers,
    is_operator,
    market_of,
    round_of,
    wrong_token,
)
from edgepact.market.inference import outcome
from edgepact.market.metrics import METRICS_TYPE
from edgepact.market.protocol import exhibits, messages, oip


def market_routes() -> list[Route]:
    """All of them."""
    return [
        Route("/market/enrol", _enrol, methods=["POST"]),
        Route("/market/offer", _offer),
        Route("/market/commit", _commit, methods=["POST"]),
        Route("/market/audit", _audit, methods=["POST"]),
        Route("/market/exhibit", _exhibit, methods=["POST"]),
        Route("/market/leave", _leave, methods=["POST"]),
        Route("/market/done", _done, methods=["POST"]),
        Route("/market/pieces", _pieces),
        Route("/market/status", _status),
        Route("/metrics", _metrics),
    ]


@for_strangers
async def _enrol(request: Request) -> Response:
    bounds_of(request).expect_no_guessing(address_of(request))
    body = messages.read_object("enrol", await body_of(request, messages.MESSAGE_BYTES_MAX))
    asked = messages.EnrolRequest.from_json(body)
    token = await market_of(request).enrol(asked.token, asked.name)
    if token is None:
        words = "this one-time token is not known here; `edgepact token issue` makes one"
        raise wrong_token(request, words)
    return JSONResponse({"device_token": token, "device": asked.name})


@for_devices
async def _offer(request: Request, device: str) -> Response:
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 15):
        raise InputError("offer", "after", "the number of a round", after)
    offer = await market_of(request).offer(device, int(after))
    told: dict[str, object] = {"audits": market_of(request).due(device), "device": device}
    if market_of(request).rules.job_settings is not None:
        told["job_settings"] = market_of(request).rules.job_settings
    if request.app.state.watch is not None:
        told["show_every_s"] = request.app.state.watch.show_every_s
    return JSONResponse({**offer.as_json(), **told})


@for_devices
async def _commit(request: Request, device: str) -> Response:
    body = messages.read_object("commit", await body_of(request, messages.MESSAGE_BYTES_MAX))
    asked = messages.CommitRequest.from_json(body)
    assigned = await market_of(request).commit(device, asked.round, asked.answer)
    commitment = messages.Commitment(round=asked.round, assigned=assigned).as_json()
    return JSONResponse({**commitment, "audits": market_of(request).due(device)})


@for_devices
async def _audit(request: Request, device: str) -> Response:
    piece = messages.check_piece("audit", request.query_params.get("piece"))
    shown = await body_of(request, oip.BODY_BYTES_MAX)
    settled = await market_of(request).audit(device, piece, shown)
    return JSONResponse({**outcome(settled), "audits": market_of(request).due(device)})


@for_devices
async def _exhibit(request: Request, device: str) -> Response:
    piece = messages.check_piece("exhibit", request.query_params.get("piece"))
    watch = request.app.state.watch
    if watch is None:
        raise MarketError("this market has no page on which pieces are shown")
    watch.expect_room(device, piece)
    content = await body_of(request, exhibits.EXHIBIT_BYTES_MAX)
    told = messages.read_object("exhibit", content, exhibits.EXHIBIT_BYTES_MAX)
    watch.show(device, piece, exhibits.read_exhibit(told))
    return JSONResponse({"audits": market_of(request).due(device)})


@for_devices
async def _leave(request: Request, device: str) -> Response:
    await market_of(request).leave(device)
    return JSONResponse({"audits": market_of(request).due(device)})


@for_devices
async def _done(request: Request, device: str) -> Response:
    await market_of(request).done(device, round_of(request))
    return JSONResponse({"audits": market_of(request).due(device)})


@for_devices
async def _pieces(request: Request, device: str) -> Response:
    found = await market_of(request).pieces(device, round_of(request))
    pieces = {piece: outcome(each) for piece, each in found.items()}
    # A device that goes asks for nothing else: the answer to its leaving may have been lost.
    return JSONResponse({"pieces": pieces, "audits": market_of(request).due(device)})


async def _status(request: Request) -> Response:
    if "authorization" not in request.headers:
        return JSONResponse({"state": "up"})
    if not is_operator(request):
        raise wrong_token(request, "this is not the operator's token")
    return JSONResponse(await market_of(request).status())


async def _metrics(request: Request) -> Response:
    if not is_operator(request):
        raise wrong_token(request, "this is not the operator's token")
    market = market_of(request)
    told = request.app.state.metrics.told(await market.status(rounds=False), ready=market.ready)
    return Response(told, media_type=METRICS_TYPE)
