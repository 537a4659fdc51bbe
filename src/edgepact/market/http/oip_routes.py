"""The Open Inference Protocol v2 over REST, under `/v2`, with the binary tensor extension."""

import asyncio
import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import edgepact
from edgepact.fields import check_whole
from edgepact.market.evidence import amount_of, cut_name
from edgepact.market.exchanges import Answered
from edgepact.market.http.requests import body_of, expect_known, for_devices, market_of, outcome
from edgepact.market.json_bounds import check_json
from edgepact.market.protocol import messages, oip
from edgepact.tensors import Tensors, TensorSpec
from edgepact.work import EXCHANGES_MAX


def oip_routes() -> list[Route]:
    """All of them."""
    return [
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
    ]


async def _about(request: Request) -> Response:
    await expect_known(request)
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
    ready = market_of(request).ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _metadata(request: Request) -> Response:
    await expect_known(request)
    market, amount = market_of(request), _amount(request)
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
    await expect_known(request)
    market = market_of(request)
    name = cut_name(market.part.model, _amount(request))
    return JSONResponse({"name": name, "ready": market.ready}, 200 if market.ready else 503)


@for_devices
async def _infer(request: Request, device: str) -> Response:
    market = market_of(request)
    amount = _amount(request)
    body = await body_of(request, oip.BODY_BYTES_MAX)
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
    request.app.state.metrics.exchange(server_s, answered.compute_s)
    content, header_length = oip.encode_response(
        id=piece,
        model=cut_name(market.part.model, amount),
        outputs=_outputs(answered, specs, asked.outputs),
        parameters={
            **answered.reply.told,
            **_progress(answered),
            "exchange": exchange,
            "from_books": answered.from_books,
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


async def _decoded(source: str, body: bytes, header_length: str | None) -> oip.InferRequest:
    if header_length is not None:
        return oip.decode_request(body, header_length)
    check_json(source, body)
    if len(body) <= messages.MESSAGE_BYTES_MAX:
        return oip.decode_request(body, None)
    return await asyncio.to_thread(oip.decode_request, body, None)


def _amount(request: Request) -> int:
    name = request.path_params["model"]
    model = market_of(request).part.model
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
    return {"finished": True, **outcome(answered.settlement)}
