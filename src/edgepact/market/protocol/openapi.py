"""The document that describes what the server answers over HTTP: `/openapi.json`, OpenAPI 3.1.

Bounds are those that are checked, from the same constants. Tests send what it allows, and what it
does not, to a server, and hold the answers against it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import edgepact
from edgepact.credits import REWARD_MICROCREDITS_MAX
from edgepact.engagement import AMOUNT_MAX, ITEMS_MAX
from edgepact.exhibit import TEXT_CHARS_MAX
from edgepact.market.protocol import messages, oip
from edgepact.market.protocol.exhibits import PICTURE_CHARS_MAX, SOUND_CHARS_MAX
from edgepact.market.protocol.messages import (
    CLAIM_MAX,
    CLAIMS_MAX,
    JSON_TYPE,
    NAME_CHARS_MAX,
    PACE_S_MAX,
    PIECE_CHARS_MAX,
    SETTINGS_MAX,
    TOKEN_CHARS_MAX,
)
from edgepact.tensors import DATATYPES
from edgepact.work import EXCHANGES_MAX, Model

Table = dict[str, Any]

ROUND_MAX = 10**15 - 1
"""Largest number of a round in a query: 15 digits."""

NAMES_MAX = 200
"""Models that are listed one by one."""

STRAIGHT = (400, 401, 403, 409, 421)
"""What anybody who shows a token may be answered: a malformed request, no token that is known,
another origin, a device that is shut out, another name of the server."""

CROWDED = (429, 503)
BODY = (408, 413, 415)

ERRORS = {
    400: "The request is malformed; the message names field, what was expected and what was found.",
    401: "No token, or one that is not known here.",
    403: "A browser page of another origin.",
    404: "There is no such model or version.",
    408: "The body has not come in time.",
    409: "The market refuses it; `reason` says why where a device has to act on it.",
    413: "The body is too large, or inflates to too much.",
    415: "The body is compressed by something else than gzip or deflate.",
    421: "The server is not called by this name.",
    429: "The asker has too much in hand or asks too often; `Retry-After` says when to come back.",
    503: "No room just now, or the ledger cannot be written; come back after `Retry-After`.",
}


def document(model: Model) -> Table:
    """The whole document, as JSON.

    Args:
        model: that is served; each of its cuts is a model to clients.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgepact market",
            "version": edgepact.__version__,
            "description": "A market for shares of a model's work, and inference by the Open "
            "Inference Protocol v2, one model for every cut. Everybody shows a token.",
        },
        "paths": {**_market(), **_oip(model)},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
            "responses": {f"E{status}": _error(status) for status in ERRORS},
        },
        "security": [{"token": []}],
    }


# ---------------------------------------------------------------- operations


def _market() -> Table:
    named = {"name": "round", "in": "query", "required": True, "schema": _ROUND}
    return {
        "/market/enrol": {
            "post": _operation(
                "enrol",
                "A one-time token for a token of one's own.",
                _ref("Enrolled"),
                errors=(400, 401, 403, 409, 421, *BODY, *CROWDED),
                body=_json(_ref("Enrol")),
                open_to_all=True,
            )
        },
        "/market/offer": {
            "get": _operation(
                "offer",
                "The next offer after a round, held open for a while.",
                {"oneOf": [_ref("Offer"), _ref("NoOffer")]},
                errors=(*STRAIGHT, *CROWDED),
                parameters=[
                    {
                        "name": "after",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 0, "maximum": ROUND_MAX},
                    }
                ],
            )
        },
        "/market/commit": {
            "post": _operation(
                "commit",
                "An answer to the question of a round, which binds.",
                _ref("Commitment"),
                errors=(*STRAIGHT, *BODY, *CROWDED),
                body=_json(_ref("Commit")),
            )
        },
        "/market/audit": {
            "post": _operation(
                "audit",
                "Shows salt (32 bytes) and source of a piece that is audited.",
                {"allOf": [_ref("Outcome"), _ref("Due")]},
                errors=(*STRAIGHT, *BODY, *CROWDED),
                parameters=[{"name": "piece", "in": "query", "required": True, "schema": _PIECE}],
                body={
                    oip.BINARY_TYPE: {
                        "schema": {"type": "string", "format": "binary", "minLength": 32}
                    }
                },
            )
        },
        "/market/exhibit": {
            "post": _operation(
                "exhibit",
                "Shows the operator a piece, where the device's owner agrees to it: one every "
                "`show_every_s` seconds of the latest offer. It is kept in memory, for a while.",
                _ref("Due"),
                errors=(*STRAIGHT, *BODY, *CROWDED),
                parameters=[{"name": "piece", "in": "query", "required": True, "schema": _PIECE}],
                body=_json(_ref("Exhibit")),
            )
        },
        "/market/done": {
            "post": _operation(
                "done",
                "The device has no more to bring in a round.",
                _ref("Due"),
                errors=(*STRAIGHT, *CROWDED),
                parameters=[named],
            )
        },
        "/market/pieces": {
            "get": _operation(
                "pieces",
                "How the device's pieces of a round stand.",
                _ref("Pieces"),
                errors=(*STRAIGHT, *CROWDED),
                parameters=[named],
            )
        },
        "/market/leave": {
            "post": _operation(
                "leave",
                "The device goes: nobody waits for it any more.",
                _ref("Due"),
                errors=(*STRAIGHT, *CROWDED),
            )
        },
        "/market/status": {
            "get": _operation(
                "status",
                "The market at a glance, for the operator's token; others hear that it is up.",
                _ref("Status"),
                errors=(401, 403, 421, 503),
                optional=True,
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Figures for Prometheus, for the operator's token.",
                None,
                errors=(401, 403, 421, 503),
                content={"text/plain": {"schema": {"type": "string"}}},
            )
        },
        "/openapi.json": {
            "get": _operation(
                "openapi", "This document.", {"type": "object"}, errors=(401, 403, 409, 421, 503)
            )
        },
    }


def _oip(served: Model) -> Table:
    told = (401, 403, 409, 421, 503)
    version = {"name": "version", "in": "path", "required": True, "schema": {"const": "1"}}
    model = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": _named(served),
        "description": "`NAME-cut-L`: L is the amount that the client has done of it.",
    }
    paths: Table = {
        "/v2": {
            "get": _operation(
                "server", "Name, version and extensions.", _ref("Server"), errors=told
            )
        },
        "/v2/health/live": {
            "get": _operation(
                "live",
                "Whether the server answers.",
                _flags("live"),
                errors=(403, 421),
                open_to_all=True,
            )
        },
        "/v2/health/ready": {
            "get": _operation(
                "ready",
                "Whether work can be taken and paid.",
                _flags("ready"),
                errors=(403, 421),
                open_to_all=True,
                not_ready=_flags("ready"),
            )
        },
        "/v2/models/stats": {
            "get": _operation(
                "all-statistics",
                "What the models have done since the start.",
                _ref("Statistics"),
                errors=told,
            )
        },
    }
    for prefix, where in (
        ("/v2/models/{model}", [model]),
        ("/v2/models/{model}/versions/{version}", [model, version]),
    ):
        kind = "versioned-" if version in where else ""
        asked: Table = {"errors": (404, *told), "parameters": where}
        paths[prefix] = {
            "get": _operation(
                f"{kind}model", "What a model takes and gives.", _ref("Model"), **asked
            )
        }
        paths[f"{prefix}/ready"] = {
            "get": _operation(
                f"{kind}model-ready",
                "Whether a model can be asked.",
                _ref("ModelReady"),
                not_ready=_ref("ModelReady"),
                **asked,
            )
        }
        paths[f"{prefix}/config"] = {
            "get": _operation(
                f"{kind}model-config",
                "A model's configuration, as Triton names its fields.",
                _ref("ModelConfig"),
                **asked,
            )
        }
        paths[f"{prefix}/stats"] = {
            "get": _operation(
                f"{kind}model-statistics",
                "What a model has done since the start.",
                _ref("Statistics"),
                **asked,
            )
        }
        paths[f"{prefix}/infer"] = {
            "post": _operation(
                f"{kind}infer",
                "One exchange of a piece that a device is paid for, where a round is named; "
                "unpaid inference, of batches too, where none is. Tensors are JSON, or follow "
                f"it as bytes: then `{oip.HEADER_LENGTH}` says how long the JSON is.",
                _ref("InferResponse"),
                errors=(*STRAIGHT, 404, *BODY, *CROWDED),
                parameters=where,
                body={
                    **_json(_ref("InferRequest")),
                    oip.BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}},
                },
                content={
                    JSON_TYPE: {"schema": _ref("InferResponse")},
                    oip.BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}},
                },
                headers={
                    oip.HEADER_LENGTH: {
                        "description": "Bytes of JSON before the tensors, where they are bytes.",
                        "schema": {"type": "integer", "minimum": 2},
                    }
                },
            )
        }
    return paths


def _named(model: Model) -> Table:
    """Names of the cuts of a model."""
    if model.amount_max >= NAMES_MAX:
        return {"type": "string", "pattern": f"^{re.escape(model.name)}-cut-(0|[1-9][0-9]*)$"}
    return {"enum": [f"{model.name}-cut-{amount}" for amount in range(model.amount_max + 1)]}


def _operation(
    name: str,
    summary: str,
    answer: Table | None,
    *,
    errors: Iterable[int],
    parameters: Iterable[Mapping[str, Any]] = (),
    body: Table | None = None,
    content: Table | None = None,
    headers: Table | None = None,
    open_to_all: bool = False,
    optional: bool = False,
    not_ready: Table | None = None,
) -> Table:
    found: Table = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {
                "description": "Answered.",
                "content": content or _json(answer or {}),
                **({"headers": headers} if headers else {}),
            },
            **{
                str(status): {"$ref": f"#/components/responses/E{status}"}
                for status in sorted(set(errors))
            },
        },
    }
    if not_ready is not None:
        # A model that is not ready says so with the status of one that has no room.
        found["responses"]["503"] = {
            "description": "Not now.",
            "content": _json({"anyOf": [not_ready, _ref("Error")]}),
        }
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    if open_to_all:
        found["security"] = []
    elif optional:
        found["security"] = [{}, {"token": []}]
    return found


def _error(status: int) -> Table:
    told: Table = {"description": ERRORS[status], "content": _json(_ref("Error"))}
    if status in CROWDED:
        told["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait at least.",
                "required": True,
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return told


# ---------------------------------------------------------------- schemas


_TEXT = {"type": "string", "minLength": 1}
_DATATYPE = {"enum": ["BYTES", *sorted(DATATYPES)]}
_ROUND = {"type": "integer", "minimum": 1, "maximum": ROUND_MAX}
_PRINTABLE = "^[ -~]*[!-~][ -~]*$"
_PIECE = {"type": "string", "minLength": 1, "maxLength": PIECE_CHARS_MAX, "pattern": _PRINTABLE}
_MICROCREDITS = {"type": "integer", "minimum": 0}
_NUMBERS = {"type": "array", "items": {"type": "integer"}}


def _schemas() -> Table:
    token = {"type": "string", "minLength": 1, "maxLength": TOKEN_CHARS_MAX}
    item = _object(
        {
            "amount": {"type": "number", "minimum": 0, "maximum": AMOUNT_MAX},
            "reward_microcredits": {**_MICROCREDITS, "maximum": REWARD_MICROCREDITS_MAX},
        }
    )
    assigned = {"oneOf": [{"type": "null"}, _ref("Item")]}
    due = _object({"audits": {"type": "array", "items": _ref("Audit")}})
    name: Table = {
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARS_MAX,
        "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]+$",
    }
    tensor = _object({"name": _TEXT, "datatype": _DATATYPE, "shape": _NUMBERS})
    return {
        "Error": _object({"error": {"type": "string"}}, {"reason": {"type": "string"}}),
        "Enrol": _object(
            {
                "token": {**token, "pattern": _PRINTABLE},
                "name": name,
            }
        ),
        "Enrolled": _object({"device_token": token, "device": name}),
        "Item": item,
        "Audit": _object({"piece": _PIECE, "seconds": {"type": "number", "minimum": 0}}),
        "Due": due,
        "NoOffer": _object(
            {
                "state": {"enum": ["wait", "over"]},
                "audits": due["properties"]["audits"],
                "device": name,
            },
            {
                "job_settings": {"type": "object", "maxProperties": SETTINGS_MAX},
                "show_every_s": {"type": "number", "exclusiveMinimum": 0, "maximum": PACE_S_MAX},
            },
        ),
        "Offer": _object(
            {
                "state": {"const": "offer"},
                "round": _ROUND,
                "question": {"type": "object"},
                "job": {"type": "string"},
                "model": {"type": "string"},
                "amount_max": {"type": "integer", "minimum": 1},
                "digest": {"type": "string"},
                "units_per_round": {"type": "integer", "minimum": 1},
                "commit_timeout_s": {"type": "number", "minimum": 0},
                "codecs": {"type": "array", "items": {"type": "string"}},
                "repeat_rounds": {"type": "integer", "minimum": 0},
                "standing": {"enum": ["asked", "waiting", "assigned"]},
                "assigned": assigned,
                "pieces_done": {"type": "object", "additionalProperties": {"type": "integer"}},
                "audits": due["properties"]["audits"],
                "device": name,
            },
            {
                "job_settings": {"type": "object", "maxProperties": SETTINGS_MAX},
                "show_every_s": {"type": "number", "exclusiveMinimum": 0, "maximum": PACE_S_MAX},
            },
        ),
        "Exhibit": _object(
            {},
            {
                "given": {"type": "string", "maxLength": TEXT_CHARS_MAX},
                "answer": {"type": "string", "maxLength": TEXT_CHARS_MAX},
                "picture": _base64("A PNG file.", PICTURE_CHARS_MAX),
                "sound": _base64("A WAV file.", SOUND_CHARS_MAX),
            },
        ),
        "Commit": _object(
            {"round": {"type": "integer", "minimum": 1, "maximum": 2**53}},
            {
                "item": {
                    "oneOf": [
                        {"type": "null"},
                        {"type": "integer", "minimum": 0, "maximum": ITEMS_MAX - 1},
                    ]
                },
                "bids_microcredits": {
                    "type": "array",
                    "maxItems": ITEMS_MAX,
                    "items": {
                        "oneOf": [
                            {"type": "null"},
                            {**_MICROCREDITS, "maximum": REWARD_MICROCREDITS_MAX},
                        ]
                    },
                },
                "claims": {
                    "type": "object",
                    "maxProperties": CLAIMS_MAX,
                    "propertyNames": {
                        "minLength": 1,
                        "maxLength": NAME_CHARS_MAX,
                        "pattern": _PRINTABLE,
                    },
                    "additionalProperties": {
                        "type": "number",
                        "minimum": -CLAIM_MAX,
                        "maximum": CLAIM_MAX,
                    },
                },
            },
        ),
        "Commitment": _object(
            {
                "round": _ROUND,
                "standing": {"enum": ["waiting", "assigned"]},
                "assigned": assigned,
                "audits": due["properties"]["audits"],
            }
        ),
        "Outcome": _object(
            {
                "state": {"enum": ["pending", "paid", "forfeit", "expired"]},
                "audited": {"type": "boolean"},
                "units": {"type": "integer", "minimum": 0},
                "paid_microcredits": _MICROCREDITS,
                "pending_microcredits": _MICROCREDITS,
                "repeated": {"type": "boolean"},
            }
        ),
        "Pieces": _object(
            {
                "pieces": {"type": "object", "additionalProperties": _ref("Outcome")},
                "audits": due["properties"]["audits"],
            }
        ),
        "Status": _object({"state": {"type": "string"}}),
        "Server": _object(
            {
                "name": _TEXT,
                "version": _TEXT,
                "extensions": {"type": "array", "items": {"type": "string"}},
            }
        ),
        "Tensor": tensor,
        "Model": _object(
            {
                "name": _TEXT,
                "versions": {"type": "array", "items": {"type": "string"}},
                "platform": _TEXT,
                "inputs": {"type": "array", "items": _ref("Tensor")},
                "outputs": {"type": "array", "items": _ref("Tensor")},
                "parameters": {"type": "object"},
            }
        ),
        "ModelReady": _object({"name": _TEXT, "ready": {"type": "boolean"}}),
        "ModelConfig": _object(
            {
                "name": _TEXT,
                "platform": _TEXT,
                "max_batch_size": {"type": "integer", "minimum": 0},
                "input": {"type": "array", "items": _ref("Port")},
                "output": {"type": "array", "items": _ref("Port")},
                "parameters": {"type": "object"},
            }
        ),
        "Port": _object({"name": _TEXT, "data_type": _TEXT, "dims": _NUMBERS}),
        "Statistics": _object(
            {
                "model_stats": {
                    "type": "array",
                    "items": _object(
                        {
                            "name": _TEXT,
                            "version": _TEXT,
                            "last_inference": {"type": "integer", "minimum": 0},
                            "inference_count": {"type": "integer", "minimum": 0},
                            "execution_count": {"type": "integer", "minimum": 0},
                            "inference_stats": {"type": "object"},
                            "batch_stats": {"type": "array"},
                        }
                    ),
                }
            }
        ),
        "InferRequest": _infer_request(),
        "InferResponse": _object(
            {
                "model_name": _TEXT,
                "model_version": _TEXT,
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "outputs": {
                    "type": "array",
                    "items": _object(
                        {"name": _TEXT, "datatype": _DATATYPE, "shape": _NUMBERS},
                        {"data": {"type": "array"}},
                    ),
                },
            }
        ),
    }


def _infer_request() -> Table:
    name = {**_TEXT, "maxLength": NAME_CHARS_MAX, "pattern": _PRINTABLE}
    size = {"type": "integer", "minimum": 0, "maximum": oip.BODY_BYTES_MAX}
    return _object(
        {
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": oip.TENSORS_MAX,
                "items": _object(
                    {
                        "name": name,
                        "datatype": _DATATYPE,
                        "shape": {"type": "array", "maxItems": oip.DIMENSIONS_MAX, "items": size},
                        "data": {"type": "array"},
                    },
                    {"parameters": {"type": "object"}},
                ),
            }
        },
        {
            "id": {"type": "string", "maxLength": PIECE_CHARS_MAX, "pattern": "^[ -~]*$"},
            "parameters": {
                "type": "object",
                "properties": {
                    "round": {"type": "integer", "minimum": 1, "maximum": 2**53},
                    "exchange": {"type": "integer", "minimum": 0, "maximum": EXCHANGES_MAX - 1},
                    "codec": {"type": "string", "maxLength": NAME_CHARS_MAX},
                    "commitment": {
                        "type": "string",
                        "pattern": f"^[0-9a-f]{{{2 * messages.COMMITMENT_BYTES}}}$",
                    },
                    "request": {"type": "string", "maxLength": 256, "pattern": "^[ -~]*$"},
                    "binary_data_output": {"type": "boolean"},
                },
            },
            "outputs": {
                "type": "array",
                "maxItems": oip.TENSORS_MAX,
                "items": _object(
                    {"name": name},
                    {
                        "parameters": {
                            "type": "object",
                            "properties": {"binary_data": {"type": "boolean"}},
                        }
                    },
                ),
            },
        },
    )


def _object(needed: Table, more: Table | None = None) -> Table:
    return {"type": "object", "required": list(needed), "properties": {**needed, **(more or {})}}


def _base64(what: str, chars_max: int) -> Table:
    told = {"contentEncoding": "base64", "maxLength": chars_max, "description": what}
    return {"type": "string", **told}


def _flags(name: str) -> Table:
    return _object({name: {"type": "boolean"}})


def _ref(name: str) -> Table:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Table) -> Table:
    return {JSON_TYPE: {"schema": schema}}
