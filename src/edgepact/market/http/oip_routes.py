"""The Open Inference Protocol v2 over REST, under `/v2`, with the binary tensor extension."""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgepact.market import tracing
from edgepact.market.evidence import cut_name
from edgepact.market.http.requests import (
    body_of,
    encoded,
    expect_known,
    for_clients,
    inference_of,
    market_of,
)
from edgepact.market.json_bounds import check_json
from edgepact.market.protocol import messages, oip
from edgepact.market.protocol.model_facts import VERSION, server_metadata
from edgepact.market.protocol.openapi import document
from edgepact.market.tracing import read_traceparent, traceparent

MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
"""Paths of a model; there is one version of each."""


def oip_routes() -> list[Route]:
    """All of them; what is asked most stands first, since routes are tried one by one."""
    return [
        *(Route(f"{model}/infer", _infer, methods=["POST"]) for model in MODELS),
        Route("/openapi.json", _document),
        Route("/v2", _about),
        Route("/v2/health/live", _live),
        Route("/v2/health/ready", _ready),
        Route("/v2/models/stats", _statistics),
        *(
            route
            for model in MODELS
            for route in (
                Route(model, _metadata),
                Route(f"{model}/ready", _model_ready),
                Route(f"{model}/config", _config),
                Route(f"{model}/stats", _statistics),
            )
        ),
    ]


async def _about(request: Request) -> Response:
    await expect_known(request)
    return JSONResponse(server_metadata())


async def _document(request: Request) -> Response:
    await expect_known(request)
    return JSONResponse(document(market_of(request).part.model))


async def _live(request: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = market_of(request).ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _metadata(request: Request) -> Response:
    await expect_known(request)
    return JSONResponse(inference_of(request).metadata(_amount(request)))


async def _config(request: Request) -> Response:
    await expect_known(request)
    return JSONResponse(inference_of(request).config(_amount(request)))


async def _statistics(request: Request) -> Response:
    await expect_known(request)
    amount = _amount(request) if "model" in request.path_params else None
    return JSONResponse(inference_of(request).statistics(amount))


async def _model_ready(request: Request) -> Response:
    await expect_known(request)
    market = market_of(request)
    name = cut_name(market.part.model, _amount(request))
    return JSONResponse({"name": name, "ready": market.ready}, 200 if market.ready else 503)


@for_clients
async def _infer(request: Request, device: str | None) -> Response:
    inference, amount = inference_of(request), _amount(request)
    start_s = time.perf_counter()
    body = await body_of(request, oip.BODY_BYTES_MAX)
    body_s = time.perf_counter() - start_s
    asked = await _decoded(body, request.headers.get(oip.HEADER_LENGTH))
    trace = read_traceparent(request.headers.get(tracing.HEADER))
    answer = await inference.infer(device, amount, asked, trace=trace, body_s=body_s)
    passed_on = {} if trace is None else {tracing.HEADER: traceparent(trace)}
    content, header_length = oip.encode_response(
        id=answer.id,
        model=answer.model,
        outputs=answer.outputs,
        parameters=answer.parameters,
        binary=asked.binary_output,
        binary_of=asked.binary_of,
    )
    if header_length is None:
        return await encoded(
            request, Response(content, headers=passed_on, media_type=messages.JSON_TYPE)
        )
    headers = {oip.HEADER_LENGTH: str(header_length), **passed_on}
    return await encoded(request, Response(content, media_type=oip.BINARY_TYPE, headers=headers))


# ---------------------------------------------------------------- private


async def _decoded(body: bytes, header_length: str | None) -> oip.InferRequest:
    if header_length is not None:
        return oip.decode_request(body, header_length)
    check_json("infer request", body)
    if len(body) <= messages.MESSAGE_BYTES_MAX:
        return oip.decode_request(body, None)
    return await asyncio.to_thread(oip.decode_request, body, None)


def _amount(request: Request) -> int:
    """Where the model cuts that the path names.

    Raises:
        NoSuchModel: there is none of this name and version.
    """
    version = request.path_params.get("version", VERSION)
    return inference_of(request).amount(request.path_params["model"], version)
