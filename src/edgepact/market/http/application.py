"""The market and the Open Inference Protocol over one HTTP port.

=======================================  ====================================================
`POST /market/enrol`                     a one-time token for a token of one's own
`GET /market/offer?after=R`              the next offer after round R, held open for a while;
                                         `device` names whose token is shown
`POST /market/commit`                    an answer to the question of a round
`POST /market/audit?piece=P`             salt (32 bytes) and source of a piece that is audited
`POST /market/exhibit?piece=P`           what the device's owner lets be shown of a piece
`POST /market/done?round=R`              a device has no more to bring in a round
`GET /market/pieces?round=R`             how the device's pieces of a round stand
`POST /market/leave`                     a device goes
`GET /market/status`                     everything at a glance, for the operator's token;
                                         others hear only that the market is up
`GET /metrics`                           for Prometheus, for the operator's token
`GET /page` and what is under it         the live page, see `page.routes`
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
work was delivered before, "no budget" where no more can be promised for any), 413 for too large,
503 with `Retry-After` for too busy.

A handler decodes, asks the market, and encodes; the market itself is in `play`.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgepact.errors import InputError, MarketError
from edgepact.market.books import Busy
from edgepact.market.bounds import Bounds, Crowded
from edgepact.market.demand import NotAskedError
from edgepact.market.entry import Entry
from edgepact.market.http.market_routes import market_routes
from edgepact.market.http.oip_routes import oip_routes
from edgepact.market.http.requests import address_of
from edgepact.market.inference import Inference, NoSuchModel
from edgepact.market.ledger import LedByAnother, LedgerError, NoBudget, RepeatedWork
from edgepact.market.logs import Complaints, Log
from edgepact.market.metrics import Metrics
from edgepact.market.page.routes import page_routes
from edgepact.market.page.watch import Watch
from edgepact.market.play import Market
from edgepact.market.protocol import messages
from edgepact.market.protocol.compression import TooLarge
from edgepact.market.sessions import LostSession

RETRY_AFTER_S = 1


def application(
    market: Market,
    operator_token: str,
    *,
    hosts: Sequence[str] = (),
    bounds: Bounds | None = None,
    body_timeout_s: float = 30.0,
    complaints: Complaints | None = None,
    watch: Watch | None = None,
) -> Starlette:
    """The HTTP interface of a market.

    Args:
        market: behind it.
        operator_token: shows the whole status.
        hosts: names that the server may be called by, beside addresses and `localhost`.
        bounds: of what anybody may have in hand.
        body_timeout_s: how long a body may take.
        complaints: told of everything that is refused.
        watch: what the live page shows; None for no page.
    """
    complaints = complaints or Complaints(Log())
    metrics = Metrics()
    handlers: dict[Any, _ErrorHandler] = {
        InputError: _malformed,
        MarketError: _refused,
        LostSession: _lost,
        NoSuchModel: _unknown,
        TooLarge: _too_large,
        RepeatedWork: _repeated,
        NotAskedError: _not_asked,
        NoBudget: _unpayable,
        LedByAnother: _deposed,
        Busy: _busy,
        LedgerError: _unwritten,
        Crowded: _crowded,
        HTTPException: _http_error,
        500: _defect,
    }
    app = Starlette(
        routes=[*oip_routes(), *market_routes(), *(page_routes() if watch else ())],
        exception_handlers={
            kind: _noted(handler, complaints, metrics) for kind, handler in handlers.items()
        },
        middleware=[Middleware(Entry, hosts=hosts)],
    )
    app.state.market = market
    app.state.operator_token = operator_token
    app.state.bounds = bounds or Bounds()
    app.state.metrics = metrics
    app.state.inference = Inference(market, metrics, complaints.log)
    app.state.body_timeout_s = body_timeout_s
    app.state.watch = watch
    return app


# ---------------------------------------------------------------- private

_ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


def _noted(handler: _ErrorHandler, complaints: Complaints, metrics: Metrics) -> _ErrorHandler:
    """A handler of errors of which complaints and metrics hear."""

    async def handle(request: Request, error: Exception) -> Response:
        answer = await handler(request, error)
        status, why = answer.status_code, type(error).__name__
        facts: dict[str, object] = {"exc_info": error} if status == 500 else {"said": str(error)}
        if isinstance(error, HTTPException):
            facts = {"said": error.detail}
        metrics.refused(status)
        complaints.note(address_of(request), status, why, **facts)
        return answer

    return handle


async def _malformed(request: Request, error: Exception) -> Response:
    return _error(400, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    return _error(409, str(error))


async def _unknown(request: Request, error: Exception) -> Response:
    return _error(404, str(error))


async def _too_large(request: Request, error: Exception) -> Response:
    return _error(413, str(error))


async def _lost(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "reason": messages.SESSION_LOST}, 409)


async def _repeated(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "reason": messages.REPEATED}, 409)


async def _not_asked(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "reason": messages.NOT_ASKED}, 409)


async def _unpayable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "reason": messages.NO_BUDGET}, 409)


async def _deposed(request: Request, error: Exception) -> Response:
    told = {"error": "another server serves the market now", "reason": messages.STANDBY}
    return JSONResponse(told, 503, {"Retry-After": str(RETRY_AFTER_S)})


async def _busy(request: Request, error: Exception) -> Response:
    message = str(error) or "all places in the queue are taken"
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_S)})


async def _crowded(request: Request, error: Exception) -> Response:
    assert isinstance(error, Crowded)
    after_s = max(RETRY_AFTER_S, math.ceil(error.after_s))
    return _error(429 if error.own else 503, str(error), {"Retry-After": str(after_s)})


async def _unwritten(request: Request, error: Exception) -> Response:
    # Its own words name the database, which is nobody else's business.
    message = "the ledger cannot be written just now"
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_S)})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    return _error(500, "internal error")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
