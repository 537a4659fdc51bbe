"""`/openapi.json` is true: what it describes is there, and answers as it says."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable

from edgepact.inference.pipeline import Pipeline
from edgepact.market import play
from edgepact.market.server import MarketServer
from edgepact.tensors import Tensors, datatype_of
from tests.market.harness import PATIENCE_S, Device, image, inputs_at, served, wait_until

# What schemathesis knows to check, but for what no document says: whether the numbers of a request
# that is well formed fit the model, the round and the ledger.
LEFT_OUT = ("positive_data_acceptance", "use_after_free", "ensure_resource_availability")


# It draws by itself which part of a request it spoils.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketServer]:
    kept = play.POLL_TIMEOUT_S
    play.POLL_TIMEOUT_S = 0.01  # polls of rounds to come are held open so long
    try:
        free = {"unpaid_per_minute": 1_000_000, "requests_per_s": 1e6, "wrong_tokens_each": 60_000}
        with served(tmp_path_factory.mktemp("openapi"), **free) as server:
            yield server
    finally:
        play.POLL_TIMEOUT_S = kept


@pytest.fixture(scope="module")
def device(server: MarketServer) -> Iterator[Device]:
    device = Device(server.url, "once-1", "cam-1")
    yield device
    device.http.close()


def described(device: Device) -> dict[str, Any]:
    return dict(device.http.get("/openapi.json").raise_for_status().json())


def test_every_route_is_described(server: MarketServer, device: Device) -> None:
    paths = described(device)["paths"]
    there = {
        (route.path, method)
        for route in server._app.routes
        for method in route.methods or ()
        # What the live page asks is between it and its server: docs/how-to/watch-a-market.md.
        if method != "HEAD" and not route.path.startswith("/page")
    }
    told = {(path, method.upper()) for path, each in paths.items() for method in each}
    assert told == there


def test_strangers_are_not_told(server: MarketServer) -> None:
    assert httpx.get(f"{server.url}/openapi.json", timeout=PATIENCE_S).status_code == 401


def play_against(server: MarketServer, device: Device, examples: int) -> None:
    """Sends what the document allows, and what it does not, operation by operation."""
    schema = schemathesis.openapi.from_dict(described(device))
    schema.config.update(base_url=server.url)
    known = schemathesis.checks.CHECKS.get_all_names()
    left_out = schemathesis.checks.CHECKS.get_by_names([n for n in LEFT_OUT if n in known])
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        operators = operation.path in ("/market/status", "/metrics")
        token = server.operator_token if operators else device.token
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            send(operation, mode, token, left_out, examples)
            tried += 1
    assert tried > 30


def send(operation: Any, mode: Any, token: str, left_out: list[Any], examples: int) -> None:
    """Sends cases of one operation and looks at the answers.

    No document can say that other names in a query are passed over, so they are not sent.
    """
    names = {parameter.name for parameter in operation.query}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def each(case: schemathesis.Case) -> None:
        assume(not isinstance(case.query, dict) or set(case.query) <= names)
        case.call_and_validate(
            headers={"Authorization": f"Bearer {token}"},
            excluded_checks=left_out,
            timeout=PATIENCE_S,
        )

    with suppress(Unsatisfiable):  # nothing that could be wrong about it
        each()


def test_server_answers_as_it_is_described(server: MarketServer, device: Device) -> None:
    play_against(server, device, examples=1)


@pytest.mark.slow
def test_server_answers_as_it_is_described_at_length(server: MarketServer, device: Device) -> None:
    play_against(server, device, examples=30)


def test_real_answers_are_as_described(tmp_path: Path, pipeline: Pipeline) -> None:
    with served(tmp_path) as server:
        device = Device(server.url, "once-1", "cam-1")
        play_a_round(device, pipeline)
        device.http.close()


def play_a_round(device: Device, pipeline: Pipeline) -> None:
    schema = schemathesis.openapi.from_dict(described(device))

    def holds(path: str, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        method = answer.request.method
        schema[path][method].validate_response(answer)

    params = {"after": 0}
    wait_until(lambda: device.offer()["state"] == "offer")  # polls are short here
    holds("/market/offer", device.http.get("/market/offer", params=params))
    holds("/market/commit", device.commit(1, 4))
    holds("/market/offer", device.http.get("/market/offer", params=params))
    sent = inputs_at(pipeline, 4, image())
    model = "/v2/models/fashion-clip-cut-4"
    for more in ({"round": 1, "commitment": "00" * 32}, {}):
        body = oip_json(sent, more)
        answer = device.http.post(f"{model}/infer", json=body)
        assert answer.json()["outputs"][0]["shape"] == [1, 10]
        holds("/v2/models/{model}/infer", answer)
    holds("/market/pieces", device.http.get("/market/pieces", params={"round": 1}))
    holds("/market/done", device.http.post("/market/done", params={"round": 1}))
    for end in ("", "/config", "/stats", "/ready"):
        holds("/v2/models/{model}" + end, device.http.get(model + end))
    holds("/market/leave", device.http.post("/market/leave"))


def oip_json(tensors: Tensors, parameters: dict[str, Any]) -> dict[str, Any]:
    """An inference request in JSON alone."""
    entries = [
        {
            "name": name,
            "datatype": datatype_of(value),
            "shape": list(np.shape(value)),
            "data": np.asarray(value).ravel().tolist(),
        }
        for name, value in tensors.items()
    ]
    return {"id": "job", "inputs": entries, "parameters": parameters}
