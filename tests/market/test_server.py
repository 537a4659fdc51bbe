"""The server over real connections: who may do what, and what is refused before it computes."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgepact.engagement import Answer, Finished, Item, Question, posted, taken
from edgepact.errors import InputError
from edgepact.inference.pipeline import Pipeline
from edgepact.market.ledger import Ledger, LedgerError
from edgepact.market.ledger.signing import ServerKey, is_signed
from edgepact.market.posted import FixedPrice
from edgepact.market.protocol.oip import BODY_BYTES_MAX, HEADER_LENGTH, encode_request
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import MarketServer, _tell
from edgepact.tensors import Tensors
from tests.market.echo import Echo
from tests.market.harness import (
    LAYERS,
    PATIENCE_S,
    Device,
    image,
    inputs_at,
    parameters,
    served,
    wait_until,
)

CUT = 4
UNITS_PER_ROUND = 5


@pytest.fixture(scope="module")
def ask() -> Iterator[httpx.Client]:
    """Somebody who is not enrolled, with the patience that a busy machine asks for."""
    with httpx.Client(timeout=PATIENCE_S) as http:
        yield http


class Open:
    """A market whose first round stays open, and devices for it."""

    def __init__(self, server: MarketServer, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.folder = folder
        self.url = server.url
        self._stack = stack
        self._count = 0
        # It never answers, so the round waits for it and others can commit.
        self._keeper = self.device()
        self._keeper.offer()

    def device(self, layers: int | None = None) -> Device:
        self._count += 1
        device = Device(self.url, f"once-{self._count}", f"cam-{self._count}")
        self._stack.callback(device.http.close)
        if layers is not None:
            assert device.offer()["round"] == 1
            assert device.commit(1, layers).status_code == 200
        return device

    @property
    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.server.operator_token}"}

    @property
    def ledger(self) -> Ledger:
        return self.server.market._ledger

    def entries(self) -> int:
        return len(self.ledger.entries())


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("market")
    settings = {"units_per_round": UNITS_PER_ROUND, "price": 0.25}
    with served(folder, **settings) as server, ExitStack() as stack:
        yield Open(server, folder, stack)


# ---------------------------------------------------------------- enrolment and tokens


def test_one_time_token_enrols_one_device(market: Open, ask: httpx.Client) -> None:
    device = market.device()
    body = {"token": f"once-{market._count}", "name": "another"}
    answer = ask.post(f"{market.url}/market/enrol", json=body)
    assert answer.status_code == 409
    assert "enrolled another device" in answer.json()["error"]
    # A lost answer may be asked for again, but not once the token is in use.
    again = {"token": f"once-{market._count}", "name": device.name}
    renewed = ask.post(f"{market.url}/market/enrol", json=again)
    assert renewed.status_code == 200
    assert renewed.json()["device_token"] == device.token
    assert device.http.post("/market/leave").status_code == 200
    assert ask.post(f"{market.url}/market/enrol", json=again).status_code == 409


def test_unknown_one_time_token_is_refused(market: Open, ask: httpx.Client) -> None:
    answer = ask.post(f"{market.url}/market/enrol", json={"token": "guess", "name": "x"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"token": "once-60"}',
        b'{"token": 1, "name": "x"}',
        b'{"token": "once-60", "name": "a b"}',
        b'{"token": "once-60", "name": "\\ud800"}',
        b'{"token": "\\ud800", "name": "x"}',
        b'{"token": "once-60", "name": ""}',
        b"[" * 30_000,
        b"\xff",
    ],
)
def test_malformed_enrolment_is_refused(market: Open, ask: httpx.Client, body: bytes) -> None:
    answer = ask.post(f"{market.url}/market/enrol", content=body)
    assert answer.status_code == 400
    assert "enrol" in answer.json()["error"]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "x"}])
def test_wrong_device_token_is_refused(
    market: Open, ask: httpx.Client, header: dict[str, str]
) -> None:
    for method, path in (
        ("GET", "/market/offer"),
        ("POST", "/market/commit"),
        ("POST", "/market/audit?piece=1"),
        ("POST", "/market/leave"),
        ("POST", f"/v2/models/fashion-clip-cut-{CUT}/infer"),
    ):
        assert ask.request(method, market.url + path, headers=header).status_code == 401


def test_tokens_are_stored_hashed(market: Open) -> None:
    device = market.device()
    files = market.folder.glob("ledger.db*")  # with the write-ahead log
    raw = b"".join(file.read_bytes() for file in files)
    assert device.name.encode() in raw
    assert device.token.encode() not in raw


# ---------------------------------------------------------------- commitments


def test_commitment_is_checked(market: Open) -> None:
    device = market.device(layers=CUT)
    assert device.commit(1, CUT).status_code == 200  # the same again
    assert device.commit(1, CUT + 1).status_code == 409
    assert market.device().answer(1, item=12).status_code == 409
    assert market.device().commit(7, CUT).status_code == 409
    assert market.device().answer(1, item=-1).status_code == 400
    assert market.device().answer(1, item=0, bids_microcredits=[1]).status_code == 409
    offer = device.offer()
    assert offer["standing"] == "assigned"
    assert offer["assigned"] == {"amount": CUT, "reward_microcredits": CUT * 250_000}
    nothing = market.device().answer(1, item=None).json()
    assert nothing["assigned"] == {"amount": 0.0, "reward_microcredits": 0}


def test_offer_states_what_both_sides_must_hold(market: Open) -> None:
    offer = market.device().offer()
    assert offer["question"] == {"price_microcredits": 250_000, "steps": LAYERS, "step": 1.0}
    assert (offer["job"], offer["model"], offer["amount_max"]) == (
        "classification",
        "fashion-clip",
        LAYERS,
    )
    assert len(offer["digest"]) == 64
    assert offer["codecs"] == ["int8", "fp16", "fp32"]
    assert (offer["standing"], offer["assigned"]) == ("asked", None)


# ---------------------------------------------------------------- jobs


@pytest.mark.parametrize("layers", [0, 1, 6, 11, 12])
def test_job_is_answered_and_paid(market: Open, pipeline: Pipeline, layers: int) -> None:
    device = market.device(layers)
    for index, codec in enumerate(("int8", "fp16", "fp32")):
        sent = inputs_at(pipeline, layers, image(index), codec)
        told = parameters(device.infer(layers, 1, f"job-{index}", sent))
        assert told["state"] == "pending"
        assert told["pending_microcredits"] == 250_000 * layers
        assert 0 < told["compute_seconds"] <= told["server_seconds"]
    balances = market.ledger.balances()
    assert balances.get(f"pending:{device.name}", 0) == 3 * 250_000 * layers
    # Whoever goes is paid for what it has delivered.
    assert device.http.post("/market/leave").json() == {"audits": []}
    assert {each["state"] for each in device.pieces(1).values()} == {"paid"}
    assert market.ledger.balances()[f"device:{device.name}"] == 3 * 250_000 * layers
    assert market.ledger.check() == []


def test_the_same_label_at_every_cut(market: Open, pipeline: Pipeline) -> None:
    labels = set()
    for layers in (0, 3, 12):
        device = market.device(layers)
        sent = inputs_at(pipeline, layers, image(40), "fp32")
        labels.add(parameters(device.infer(layers, 1, "job", sent))["label"])
    assert len(labels) == 1


def test_repeated_job_is_paid_once(market: Open, pipeline: Pipeline) -> None:
    device = market.device(CUT)
    sent = inputs_at(pipeline, CUT, image(1))
    first = parameters(device.infer(CUT, 1, "job", sent))
    entries = market.entries()
    again = parameters(device.infer(CUT, 1, "job", sent))
    assert (first["repeated"], again["repeated"]) == (False, True)
    for field in ("state", "paid_microcredits", "label"):
        assert again[field] == first[field]
    assert market.entries() == entries
    # The same id for another image is a mistake or a fraud.
    other = device.infer(CUT, 1, "job", inputs_at(pipeline, CUT, image(2)))
    assert other.status_code == 409
    assert market.entries() == entries


def test_no_more_images_than_offered_are_paid(market: Open, pipeline: Pipeline) -> None:
    device = market.device(CUT)
    sent = inputs_at(pipeline, CUT, image(3))
    for index in range(UNITS_PER_ROUND):
        assert device.infer(CUT, 1, f"job-{index}", sent).status_code == 200
    wait_until(lambda: all(each["state"] == "paid" for each in device.pieces(1).values()))
    entries = market.entries()
    answer = device.infer(CUT, 1, "one-more", sent)
    assert answer.status_code == 409
    assert "delivered all" in answer.json()["error"]
    assert market.entries() == entries


def test_wrong_cut_or_round_is_refused(market: Open, pipeline: Pipeline) -> None:
    device = market.device(CUT)
    entries = market.entries()
    deeper = device.infer(CUT + 1, 1, "job", inputs_at(pipeline, CUT + 1, image()))
    assert deeper.status_code == 409
    assert f"was assigned {CUT} in round 1" in deeper.json()["error"]
    later = device.infer(CUT, 2, "job", inputs_at(pipeline, CUT, image()))
    assert later.status_code == 409
    nobody = market.device().infer(CUT, 1, "job", inputs_at(pipeline, CUT, image()))
    assert nobody.status_code == 409
    assert market.entries() == entries


def _nan(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"tokens": _nan((1, 16, 64))}, "finite"),
        ({"tokens": np.full((1, 16, 64), np.inf, np.float16)}, "finite"),
        ({"tokens": np.ones((1, 16, 64), np.int8), "tokens.scale": _nan((1, 16, 1))}, "finite"),
        ({"tokens": np.ones((1, 16, 64), np.int8), "tokens.scale": -np.ones((1, 16, 1), "f")},
         "above 0"),
        ({"tokens": np.ones((1, 16, 64), np.int8)}, "scale"),
        ({"tokens": np.full((1, 16, 64), 127, np.int8),
          "tokens.scale": np.full((1, 16, 1), 3e38, "f")}, "finite"),
        ({"tokens": np.ones((1, 16, 63), np.float32)}, "shape"),
        ({"tokens": np.ones((2, 16, 64), np.float32)}, "shape"),
        ({"tokens": np.ones((0, 16, 64), np.float32)}, "shape"),
        ({"vector": np.ones((1, 64), np.float32)}, "tensors"),
        ({"image": (b"x",)}, "tensors"),
        ({"tokens": (b"x",), "tokens.scale": np.ones((1, 16, 1), "f")}, "data type"),
    ],
)  # fmt: skip
def test_impossible_tensors_are_refused(market: Open, inputs: Tensors, says: str) -> None:
    device = market.device(CUT)
    entries = market.entries()
    answer = device.infer(CUT, 1, "job", inputs)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert market.entries() == entries


def test_unreadable_images_are_refused_and_good_ones_paid(market: Open) -> None:
    device = market.device(0)
    for content, found in (
        (b"", "an empty file"),
        (b"no image", "bytes of another kind"),
        (image()[:60], "a PNG file that cannot be decoded"),
        (b"\0\0\0\x1cftypavif" + b"\xff" * 40, "an AVIF file"),
        (b"BLP2\0\0\0\0", "a BLP file"),
        (b"DDS " + b"\xff" * 124, "a DDS file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file"),
        (image()[:16] + b"\x7f\xff\xff\xff" * 2 + image()[24:], "2147483647x2147483647"),
    ):
        answer = device.infer(0, 1, "job", {"image": (content,)})
        assert answer.status_code == 400, answer.text
        assert f"found {found}" in answer.json()["error"]
    assert device.infer(0, 1, "job", {"image": (image(),)}).status_code == 200


def test_vector_that_is_none_is_refused(market: Open) -> None:
    device = market.device(12)
    vector = np.full((1, 64), 7.0, np.float32)
    assert device.infer(12, 1, "job", {"vector": vector}).status_code == 400


def test_request_needs_id_and_round(market: Open, pipeline: Pipeline) -> None:
    device = market.device(CUT)
    sent = inputs_at(pipeline, CUT, image())
    for job, more in (
        ("", {"round": 1}),
        ("job", {"round": None}),
        ("job", {"round": "1"}),
        ("j\n", {"round": 1}),
    ):
        body, length = encode_request(job, sent, more)
        answer = device.http.post(
            f"/v2/models/fashion-clip-cut-{CUT}/infer",
            content=body,
            headers={HEADER_LENGTH: str(length)},
        )
        assert answer.status_code == 400


def test_oversized_body_is_refused(market: Open) -> None:
    device = market.device(0)
    path = "/v2/models/fashion-clip-cut-0/infer"
    assert device.http.post(path, content=b"0" * (BODY_BYTES_MAX + 1)).status_code == 413

    def chunks() -> Iterator[bytes]:  # without a length in advance
        for _ in range(BODY_BYTES_MAX // 2**20 + 1):
            yield b"0" * 2**20

    assert device.http.post(path, content=chunks()).status_code == 413
    assert device.http.post("/market/enrol", content=b"0" * 70_000).status_code == 413
    packed = device.http.post(path, content=b"0", headers={"Content-Encoding": "br"})
    assert packed.status_code == 415


def test_client_that_goes_away_leaves_no_trace(
    market: Open, ask: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    device = market.device(CUT)
    head = (
        f"POST /v2/models/fashion-clip-cut-{CUT}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {device.token}\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", market.server.port)) as connection:
        connection.sendall(head.encode() + b"half")
        time.sleep(0.1)
    assert ask.get(f"{market.url}/v2/health/live").status_code == 200
    time.sleep(0.1)
    assert caplog.records == []


# ---------------------------------------------------------------- Open Inference Protocol


def test_metadata_states_every_cut(market: Open) -> None:
    with httpx.Client(base_url=market.url, timeout=PATIENCE_S, headers=market.operator) as http:
        for layers in range(13):
            path = f"/v2/models/fashion-clip-cut-{layers}"
            told = http.get(path).json()
            names = [tensor["name"] for tensor in told["inputs"]]
            middle = ["tokens", "tokens.scale"]
            assert names == {0: ["image"], 12: ["vector"]}.get(layers, middle)
            assert told["outputs"][0]["shape"] == [-1, len(told["parameters"]["labels"])]
            assert http.get(f"{path}/ready").json()["ready"] is True
            assert http.get(f"{path}/versions/1/ready").status_code == 200
        for model in ("fashion-clip-cut-13", "fashion-clip-cut-04", "fashion-clip", "x-cut-1"):
            assert http.get(f"/v2/models/{model}").status_code == 404


def test_json_tensors_are_served_too(market: Open, pipeline: Pipeline) -> None:
    device = market.device(12)
    vector = inputs_at(pipeline, 12, image())["vector"]
    assert isinstance(vector, np.ndarray)
    data = {"name": "vector", "datatype": "FP32", "shape": [1, 64], "data": vector.tolist()}
    answer = device.http.post(
        "/v2/models/fashion-clip-cut-12/infer",
        json={
            "id": "job",
            "parameters": {"round": 1, "commitment": "00" * 32},
            "inputs": [data],
        },
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    probabilities = answer.json()["outputs"][0]["data"]
    assert len(probabilities) == 10
    assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([[[0.0] * 16] * 64], "shape [1, 16, 64], nested or flat, found numbers of shape"),
        ([0.0] * 1023, "shape [1, 16, 64], nested or flat, found numbers of shape [1023]"),
        (["0.0"] * 1024, "inputs.tokens.data: expected numbers alone, found a text"),
        ([False] * 1024, "inputs.tokens.data: expected numbers alone, found true or false"),
        ([0.0] * 1023 + [None], "inputs.tokens.data: expected numbers alone, found null"),
        ([[[0.0] * 64] * 15 + [[0.0] * 63]], "inputs.tokens.data: expected lists of one length"),
    ],
)
def test_json_data_of_another_kind_is_refused(market: Open, data: list[object], says: str) -> None:
    """Nested data states its own shape: silently reshaped, it would be another activation."""
    device = market.device(CUT)
    entries = market.entries()
    tensor = {"name": "tokens", "datatype": "FP32", "shape": [1, 16, 64], "data": data}
    answer = device.http.post(
        f"/v2/models/fashion-clip-cut-{CUT}/infer",
        json={"id": "job", "parameters": {"round": 1}, "inputs": [tensor]},
    )
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert market.entries() == entries


def test_unknown_output_is_refused(market: Open) -> None:
    device = market.device(0)
    body, length = encode_request("job", {"image": (image(),)}, {"round": 1})
    head = json.loads(body[:length])
    head["outputs"] = [{"name": "nope"}]
    text = json.dumps(head).encode()
    answer = device.http.post(
        "/v2/models/fashion-clip-cut-0/infer",
        content=text + body[length:],
        headers={HEADER_LENGTH: str(len(text))},
    )
    assert answer.status_code == 400
    assert "expected outputs of ['probabilities'], found \"nope\"" in answer.json()["error"]
    assert market.ledger.payments() == [
        each for each in market.ledger.payments() if each.device != device.name
    ]


def test_tritonclient_calls_it(market: Open, pipeline: Pipeline) -> None:
    triton = pytest.importorskip(
        "tritonclient.http", reason="the conformance test needs the extra `grpc`"
    )
    client = triton.InferenceServerClient(market.url.removeprefix("http://"))
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert "binary_tensor_data" in client.get_server_metadata(market.operator)["extensions"]
        for layers in (0, CUT, 12):
            device = market.device(layers)
            model = f"fashion-clip-cut-{layers}"
            assert client.is_model_ready(model, "1", market.operator)
            metadata = client.get_model_metadata(model, headers=market.operator)
            sent = inputs_at(pipeline, layers, image(5))
            inputs = []
            for spec in metadata["inputs"]:
                value = sent[spec["name"]]
                if isinstance(value, tuple):
                    value = np.array(value, dtype=object)
                shape = list(value.shape)
                assert shape[1:] == spec["shape"][1:]
                tensor = triton.InferInput(spec["name"], shape, spec["datatype"])
                tensor.set_data_from_numpy(value, binary_data=True)
                inputs.append(tensor)
            asked = [
                triton.InferRequestedOutput("probabilities", binary_data=binary)
                for binary in (True, False)
            ]
            for index, outputs in enumerate([None, asked[:1], asked[1:]]):
                result = client.infer(
                    model,
                    inputs,
                    outputs=outputs,
                    request_id=f"job-{index}",
                    headers={"Authorization": f"Bearer {device.token}"},
                    parameters={"round": 1, "commitment": "00" * 32},
                )
                probabilities = result.as_numpy("probabilities")
                assert probabilities.shape == (1, 10)
                told = result.get_response()["parameters"]
                labels = metadata["parameters"]["labels"]
                assert told["label"] == labels[int(probabilities.argmax())]
                assert told["pending_microcredits"] == 250_000 * layers
            with pytest.raises(triton.InferenceServerException, match="token"):
                client.infer(
                    model, inputs, request_id="x", parameters={"round": 1, "commitment": "00" * 32}
                )
    finally:
        client.close()


def test_status_tells_the_market(market: Open, ask: httpx.Client) -> None:
    status = ask.get(f"{market.url}/market/status", headers=market.operator).json()
    assert status["state"] == "asking"
    (round,) = status["rounds"]
    assert round["price"] == 0.25
    assert not round["closed"]
    promised = sum(sum(round[f"{kind}_microcredits"].values()) for kind in ("paid", "pending"))
    assert status["balances_microcredits"]["server"] == -promised


def test_strangers_hear_only_that_it_is_up(market: Open, ask: httpx.Client) -> None:
    assert ask.get(f"{market.url}/market/status").json() == {"state": "up"}
    for token in ("guess", market.device().token, market.server.operator_token + "x"):
        shown = {"Authorization": f"Bearer {token}"}
        assert ask.get(f"{market.url}/market/status", headers=shown).status_code == 401
    told = market.folder / "ready.json"
    assert json.loads(told.read_text())["operator_token"] == market.server.operator_token
    assert told.stat().st_mode & 0o077 == 0


def test_metrics_tell_the_operator(market: Open, ask: httpx.Client) -> None:
    url = f"{market.url}/metrics"
    assert ask.get(url).status_code == 401
    shown = {"Authorization": f"Bearer {market.device().token}"}
    assert ask.get(url, headers=shown).status_code == 401
    status = ask.get(f"{market.url}/market/status", headers=market.operator).json()
    told = ask.get(url, headers=market.operator).text.splitlines()
    assert "edgepact_ready 1.0" in told
    for state, count in status["jobs"].items():
        assert f'edgepact_jobs{{state="{state}"}} {float(count)}' in told


def test_operators_own_token_and_no_words_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _tell(None, {"url": "http://x"}, "the-secret")
    said = capsys.readouterr()
    assert "http://x" in said.out
    assert "the-secret" not in said.out + said.err
    part = tmp_path / "ready.json.part"
    part.write_text("of a server that was killed")  # with whatever permissions it had
    part.chmod(0o666)
    _tell(tmp_path / "ready.json", {}, "the-secret")
    assert (tmp_path / "ready.json").stat().st_mode & 0o077 == 0
    _tell(tmp_path / "ready.json", {}, None)
    assert "operator_token" not in json.loads((tmp_path / "ready.json").read_text())


@pytest.mark.parametrize("path", ["/v2", "/v2/models/fashion-clip-cut-4", "/market/pieces?round=1"])
def test_tokens_are_asked_for_everywhere_but_health(
    market: Open, ask: httpx.Client, path: str
) -> None:
    assert ask.get(f"{market.url}{path}").status_code == 401
    assert ask.get(f"{market.url}{path}", headers={"Authorization": "Bearer x"}).status_code == 401
    assert ask.get(f"{market.url}/v2/health/ready").status_code == 200


def test_database_error_names_no_database(
    market: Open, ask: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> object:
        raise LedgerError("postgresql://market:hunter2@db/market: no connection")

    monkeypatch.setattr(market.server.market, "status", fails)
    monkeypatch.setattr(market.server.market, "device", fails)
    for path, shown in (("status", market.operator), ("offer", {"Authorization": "Bearer x"})):
        answer = ask.get(f"{market.url}/market/{path}", headers=shown)
        assert answer.status_code == 503
        assert answer.json() == {"error": "the ledger cannot be written just now"}
        assert int(answer.headers["Retry-After"]) > 0


def test_browser_pages_cannot_reach_in(market: Open, ask: httpx.Client) -> None:
    live = f"{market.url}/v2/health/live"
    own = market.url.removeprefix("http://")
    for origin in ("null", "http://evil.example", f"https://{own}", "http://127.0.0.1:1"):
        assert ask.get(live, headers={"Origin": origin}).status_code == 403
    assert ask.get(live, headers={"Origin": market.url}).status_code == 200
    for host in ("evil.example", f"evil.example:{market.server.port}", ""):
        assert ask.get(live, headers={"Host": host}).status_code in (400, 421)
    for host in ("localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.3"):
        assert ask.get(live, headers={"Host": host}).status_code == 200


def test_unknown_path_and_method_are_json_errors(market: Open, ask: httpx.Client) -> None:
    assert "error" in ask.get(f"{market.url}/nothing").json()
    assert "error" in ask.get(f"{market.url}/market/enrol").json()
    assert ask.get(f"{market.url}/market/offer?after=x", headers={}).status_code == 401


# ---------------------------------------------------------------- audits


def test_honest_work_is_paid_after_its_audit(
    tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline
) -> None:
    folder = tmp_path_factory.mktemp("audit")
    with served(folder, audit_probability=1.0) as server, ExitStack() as stack:
        market = Open(server, folder, stack)
        for layers, codec in ((1, "int8"), (7, "fp16"), (11, "fp32"), (12, "int8")):
            device = market.device(layers)
            sent = inputs_at(pipeline, layers, image(), codec)
            told = parameters(device.infer(layers, 1, "job", sent, source=image()))
            assert (told["state"], told["paid_microcredits"], told["audits"]) == ("pending", 0, [])
            # Nobody can know what is audited before all is delivered.
            assert device.audit("job", image()).json()["state"] == "pending"
            (asked,) = device.http.post("/market/leave").json()["audits"]
            # That answer may be lost: who goes hears of it when it asks for its pay, too.
            told = device.http.get("/market/pieces", params={"round": 1}).json()
            assert [each["piece"] for each in told["audits"]] == [asked["piece"]]
            assert (asked["piece"], asked["seconds"] > 0) == ("job", True)
            # Another image than it was bound to is a mistake that can be mended.
            assert device.audit("job", image(1)).status_code == 400
            assert device.audit("job", b"no image").status_code == 400
            answer = device.audit("job", image()).json()
            assert (answer["state"], answer["paid_microcredits"]) == ("paid", 1_000_000 * layers)
            assert device.audit("job", image()).json()["state"] == "paid"
            assert market.ledger.balances()[f"device:{device.name}"] == 1_000_000 * layers
        lazy = market.device(0)  # has done nothing that could be audited
        parameters(lazy.infer(0, 1, "job", inputs_at(pipeline, 0, image())))
        assert lazy.http.post("/market/leave").json() == {"audits": []}
        assert lazy.pieces(1)["job"]["state"] == "paid"


def test_a_cheat_loses_all_that_is_pending(
    tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline
) -> None:
    folder = tmp_path_factory.mktemp("cheat")
    with served(folder, audit_probability=1.0, strikes_max=1) as server, ExitStack() as stack:
        market = Open(server, folder, stack)
        cheat = market.device(6)
        honest = inputs_at(pipeline, 6, image(1))
        parameters(cheat.infer(6, 1, "honest", honest, source=image(1)))
        invented = inputs_at(pipeline, 3, image())  # three layers instead of six
        parameters(cheat.infer(6, 1, "job", invented, source=image()))
        assert len(cheat.http.post("/market/leave").json()["audits"]) == 2
        assert cheat.audit("job", image()).status_code in (200, 409)
        refused = cheat.http.get("/market/pieces", params={"round": 1})
        assert refused.status_code == 409
        assert "excluded after failed audits" in refused.json()["error"]
        balances = market.ledger.balances()
        assert balances[f"device:{cheat.name}"] == balances[f"pending:{cheat.name}"] == 0
        assert balances["forfeited"] == 2 * 6 * 1_000_000
        assert market.ledger.jobs_by_state()["forfeit"] == 2
        ((told, signature),) = market.ledger.verdicts(cheat.name)
        assert json.loads(told)["reason"] == "the work differs from what its source gives"
        key = ServerKey(folder / "ledger.db.key")
        assert is_signed(key.public, told, signature)
        assert market.ledger.check() == []


def test_audit_that_is_not_answered_forfeits(
    tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline
) -> None:
    folder = tmp_path_factory.mktemp("silent")
    settings = {"audit_probability": 1.0, "units_per_round": 1, "audit_timeout_s": 0.1}
    with served(folder, **settings) as server, ExitStack() as stack:
        device = Device(server.url, "once-0", "cam-0")
        stack.callback(device.http.close)
        assert device.offer()["round"] == 1
        device.commit(1, 4)
        sent = inputs_at(pipeline, 4, image())
        assert parameters(device.infer(4, 1, "job", sent, source=image()))["state"] == "pending"
        # The next round does not wait for the audit.
        assert next_offer(device, after=1)["round"] == 2
        wait_until(lambda: device.pieces(1)["job"]["state"] == "forfeit")
        # What is repeated later hears how it stands; what is new comes too late.
        again = parameters(device.infer(4, 1, "job", sent, source=image()))
        assert (again["state"], again["paid_microcredits"]) == ("forfeit", 0)
        assert device.infer(4, 1, "late", sent).status_code == 409
        assert server.market._ledger.balances()["device:cam-0"] == 0


def test_the_same_work_is_not_paid_twice(
    tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline
) -> None:
    folder = tmp_path_factory.mktemp("repeated")
    with served(folder, repeat_rounds=2) as server, ExitStack() as stack:
        market = Open(server, folder, stack)
        first, second = market.device(6), market.device(6)
        sent = inputs_at(pipeline, 6, image())
        parameters(first.infer(6, 1, "job", sent, source=image()))
        for device, piece in ((first, "other"), (second, "job")):
            refused = device.infer(6, 1, piece, sent, source=image())
            assert (refused.status_code, refused.json()["reason"]) == (409, "repeated")
        parameters(second.infer(6, 1, "job", inputs_at(pipeline, 6, image(1)), source=image(1)))


def test_work_that_is_not_bound_to_a_source_is_refused(market: Open, pipeline: Pipeline) -> None:
    device = market.device(CUT)
    sent = inputs_at(pipeline, CUT, image())
    for commitment in (None, "", "abc", "zz" * 32, 7, "00" * 33):
        refused = device.infer(CUT, 1, "job", sent, commitment=commitment)
        assert refused.status_code == 400, commitment
        assert "parameters.commitment" in refused.json()["error"]


def next_offer(device: Device, after: int) -> dict[str, Any]:
    """The next offer, however often a poll ends without one."""
    while (offer := device.offer(after)).get("state") == "wait":
        pass
    return offer


# ---------------------------------------------------------------- prices, limits, restarts


class Rising:
    """A credit more in each round; remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[Finished] = []

    def question(self, round: int) -> Question:
        return posted(10**6 * (1 + len(self.seen)), LAYERS)

    def engage(self, round: int, question: Question, answers: dict[str, Answer]) -> dict[str, Item]:
        return taken(question, answers)

    def observe(self, finished: Finished) -> None:
        self.seen.append(finished)


def test_mechanism_sees_what_the_server_saw(
    tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline
) -> None:
    rising = Rising()
    folder = tmp_path_factory.mktemp("prices")
    with (
        served(folder, mechanism=rising, devices_min=2, units_per_round=1, rounds=3) as server,
        ExitStack() as stack,
    ):
        devices = [Device(server.url, f"once-{i}", f"cam-{i}") for i in range(2)]
        for device in devices:
            stack.callback(device.http.close)
        waiting = threading.Thread(target=devices[1].offer)
        waiting.start()
        for number in (1, 2):
            for index, device in enumerate(devices):
                offer = device.offer(after=number - 1)
                price = offer["question"]["price_microcredits"]
                assert (offer["round"], price) == (number, number * 10**6)
                device.commit(number, index * 12)
            for index, device in enumerate(devices):
                sent = inputs_at(pipeline, index * 12, image())
                assert device.infer(index * 12, number, f"{number}", sent).status_code == 200
        waiting.join()
        assert devices[0].offer(after=2)["round"] == 3
    assert rising.seen[1] == Finished(
        number=2,
        question=posted(2_000_000, LAYERS),
        answers={"cam-0": Answer(), "cam-1": Answer(item=0)},
        assigned={"cam-1": Item(amount=12.0, reward_microcredits=24_000_000)},
        units={"cam-0": 1, "cam-1": 1},
        paid_microcredits={"cam-0": 0, "cam-1": 24_000_000},
    )
    # The third round is still open. On the same terms it goes on; on others a new one is offered.
    for units, number in ((1, 3), (2, 4)):
        again = Rising()
        with served(folder, mechanism=again, units_per_round=units) as server:
            (*_, last) = server.market._ledger.rounds()
            assert (last.number, last.closed) == (3, units == 2)
            with httpx.Client(
                base_url=server.url, headers=device.http.headers, timeout=PATIENCE_S
            ) as http:
                offer = http.get("/market/offer").json()
            price = offer["question"]["price_microcredits"]
            assert (offer["round"], price) == (number, 3 * 10**6)
        # What is on record is told again; a round that nobody took part in tells nothing.
        assert again.seen == rising.seen


def test_full_queue_sends_away(
    market: Open, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = market.device(CUT)
    sent = inputs_at(pipeline, CUT, image())
    with monkeypatch.context() as full:
        full.setattr("edgepact.market.exchanges.EXCHANGES_IN_FLIGHT_MAX", 0)
        answer = device.infer(CUT, 1, "job", sent)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert device.infer(CUT, 1, "job", sent).status_code == 200


def test_ready_file_must_have_a_folder(tmp_path: Path) -> None:
    config = ServeConfig(
        ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}",
        port=0,
        ready_file=tmp_path / "none" / "ready.json",
    )
    with pytest.raises(InputError, match="ready_file"):
        MarketServer(config, FixedPrice(price=1.0, steps_max=1))


def test_config_is_checked() -> None:
    for field, value in (
        ("port", 70_000),
        ("rounds", 0),
        ("devices_min", 0),
        ("units_per_round", 0),
        ("audit_probability", 1.5),
        ("round_timeout_s", 0.0),
        ("seed", -1),
    ):
        with pytest.raises(InputError, match=field):
            ServeConfig(ledger_url="sqlite:///x", **{field: value})  # type: ignore[arg-type]


def test_impossible_price_ends_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("price")
    config = ServeConfig(
        ledger_url=f"sqlite:///{folder / 'ledger.db'}",
        port=0,
        ready_file=folder / "ready.json",
        enrol_tokens=("once-0",),
    )
    server = MarketServer(config, FixedPrice(price=float("nan"), steps_max=1))
    said: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except Exception as error:
            said.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not (folder / "ready.json").exists():
        thread.join(0.01)
    url = json.loads((folder / "ready.json").read_text())["url"]
    device = Device(url, "once-0", "cam-0")
    with closing(device.http):
        assert device.offer()["state"] == "wait"
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert "price of nan" in str(said[0])


def test_a_market_whose_rounds_are_all_played_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", synchronous="OFF") as ledger:
        for number in (1, 2):
            ledger.open_work_round(number, model="m")
            ledger.close_round(number)
    mechanism = FixedPrice(price=1.0, steps_max=4)
    with served(tmp_path, job=Echo(), rounds=2, mechanism=mechanism) as server:
        wait_until(lambda: server.should_exit)
    assert "the ledger has 2 rounds already" in capsys.readouterr().err
