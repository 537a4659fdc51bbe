"""The Open Inference Protocol as its own clients speak it: tritonclient over HTTP and gRPC, plain
and asynchronous, against one server; and what is declared against what is sent, over both."""

import asyncio
import gzip
import inspect
import json
import re
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgepact.errors import InputError, MarketError
from edgepact.inference.pipeline import Pipeline
from edgepact.market.protocol.oip import HEADER_LENGTH, encode_request
from edgepact.market.server import MarketServer
from tests.market.harness import PATIENCE_S, Device, image, inputs_at, served, wait_until

grpc = pytest.importorskip("grpc", reason="gRPC needs the extra `grpc`")
http_client = pytest.importorskip("tritonclient.http")
http_aio = pytest.importorskip("tritonclient.http.aio")
grpc_client = pytest.importorskip("tritonclient.grpc")
grpc_aio = pytest.importorskip("tritonclient.grpc.aio")
service_pb2 = pytest.importorskip("tritonclient.grpc.service_pb2")

FLAVOURS = {
    "http": http_client,
    "http.aio": http_aio,
    "grpc": grpc_client,
    "grpc.aio": grpc_aio,
}
CUT = 4
MODEL = f"fashion-clip-cut-{CUT}"
PER_MINUTE = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketServer]:
    settings = {"grpc_port": 0, "unpaid_per_minute": PER_MINUTE, "requests_each": 100}
    with served(tmp_path_factory.mktemp("oip"), price=0.25, **settings) as server:
        wait_until(lambda: server.grpc_port)
        yield server


@pytest.fixture(scope="module")
def device(server: MarketServer) -> Iterator[Device]:
    device = Device(server.url, "once-1", "cam-1")
    device.http.headers["Accept-Encoding"] = "identity"
    assert device.offer()["round"] == 1
    assert device.commit(1, CUT).status_code == 200
    yield device
    device.http.close()


class Client:
    """One of tritonclient's clients, called as if it were a plain one."""

    def __init__(self, flavour: str, server: MarketServer, token: str) -> None:
        self.over_grpc = flavour.startswith("grpc")
        self.kinds = FLAVOURS[flavour]
        self.headers = {"authorization": f"Bearer {token}"}
        self._loop = asyncio.new_event_loop() if flavour.endswith("aio") else None
        port = server.grpc_port if self.over_grpc else server.port
        self.address = f"127.0.0.1:{port}"
        self._client = self._ended(self._made)

    def _made(self) -> Any:
        async def made() -> Any:
            return self.kinds.InferenceServerClient(self.address)

        return self.kinds.InferenceServerClient(self.address) if self._loop is None else made()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *given, **named: self._ended(lambda: method(*given, **named))

    def _ended(self, call: Callable[[], Any]) -> Any:
        found = call()
        if self._loop is not None and inspect.isawaitable(found):
            return self._loop.run_until_complete(found)
        return found

    def close(self) -> None:
        self._ended(self._client.close)
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def inputs(self, sent: Any) -> list[Any]:
        found = []
        for name, value in sent.items():
            if isinstance(value, tuple):
                value = np.array(value, dtype=object)
            kind = {"i1": "INT8", "f2": "FP16", "f4": "FP32"}.get(value.dtype.str[1:], "BYTES")
            tensor = self.kinds.InferInput(name, list(value.shape), kind)
            tensor.set_data_from_numpy(value)
            found.append(tensor)
        return found


@pytest.fixture(params=FLAVOURS)
def client(
    request: pytest.FixtureRequest, server: MarketServer, device: Device
) -> Iterator[Client]:
    client = Client(request.param, server, device.token)
    yield client
    client.close()


# ---------------------------------------------------------------- clients


def test_client_learns_of_server_and_models(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    shown = {"headers": client.headers}
    as_json = shown | ({"as_json": True} if client.over_grpc else {})
    assert client.is_model_ready(MODEL, "1", **shown)
    assert "binary_tensor_data" in client.get_server_metadata(**as_json)["extensions"]
    metadata = client.get_model_metadata(MODEL, **as_json)
    shapes = {each["name"]: [int(n) for n in each["shape"]] for each in metadata["inputs"]}
    assert shapes == {"tokens": [-1, 16, 64], "tokens.scale": [-1, 16, 1]}
    config = client.get_model_config(MODEL, **as_json)
    config = config.get("config", config)
    assert config["max_batch_size"] == 64
    assert [each["data_type"] for each in config["input"]] == ["TYPE_INT8", "TYPE_FP32"]
    told = client.get_inference_statistics(MODEL, **as_json)["model_stats"]
    assert [each["name"] for each in told] == [MODEL]


@pytest.mark.parametrize("layers", [0, CUT, 12])
@pytest.mark.parametrize("codec", ["int8", "fp16", "fp32"])
def test_client_infers_without_a_round(
    client: Client, device: Device, pipeline: Pipeline, layers: int, codec: str
) -> None:
    sent = inputs_at(pipeline, layers, image(5), codec)
    model = f"fashion-clip-cut-{layers}"
    result = client.infer(model, client.inputs(sent), headers=client.headers, request_id="any")
    assert result.as_numpy("probabilities").shape == (1, 10)
    body, length = encode_request("any", sent, {})
    answer = device.http.post(
        f"/v2/models/{model}/infer", content=body, headers={HEADER_LENGTH: str(length)}
    )
    assert answer.status_code == 200
    plain = np.frombuffer(answer.content[int(answer.headers[HEADER_LENGTH]) :], "<f4")
    assert np.array_equal(result.as_numpy("probabilities").ravel(), plain)
    assert device.pieces(1).keys() <= {f"paid-{flavour}" for flavour in FLAVOURS}


def test_client_infers_a_batch(client: Client, pipeline: Pipeline) -> None:
    pieces = [inputs_at(pipeline, CUT, image(at)) for at in range(6)]
    batch = {name: np.concatenate([each[name] for each in pieces]) for name in pieces[0]}
    shown = {"headers": client.headers}
    together = client.infer(MODEL, client.inputs(batch), **shown).as_numpy("probabilities")
    for at, each in enumerate(pieces):
        alone = client.infer(MODEL, client.inputs(each), **shown).as_numpy("probabilities")
        assert np.array_equal(alone[0], together[at])
    pictures = {"image": np.array([image(at) for at in range(3)], dtype=object)}
    labelled = client.infer("fashion-clip-cut-0", client.inputs(pictures), **shown)
    assert labelled.as_numpy("probabilities").shape == (3, 10)


def test_client_is_paid(
    client: Client, device: Device, pipeline: Pipeline, request: pytest.FixtureRequest
) -> None:
    flavour = request.node.callspec.params["client"]
    sent = inputs_at(pipeline, CUT, image(20 + list(FLAVOURS).index(flavour)))
    for _ in range(2):  # the second time it is the same job
        client.infer(
            MODEL,
            client.inputs(sent),
            request_id=f"paid-{flavour}",
            headers=client.headers,
            parameters={"round": 1, "commitment": "00" * 32},
        )
    assert device.pieces(1)[f"paid-{flavour}"]["pending_microcredits"] == 250_000 * CUT


def test_client_is_refused(client: Client, pipeline: Pipeline) -> None:
    sent = client.inputs(inputs_at(pipeline, CUT, image(5)))
    refused = pytest.raises(client.kinds.InferenceServerException, match="token")
    with refused:
        client.infer(MODEL, sent)
    with refused:
        client.infer(MODEL, sent, headers={"authorization": "Bearer guess"})
    with pytest.raises(client.kinds.InferenceServerException, match="there is no model"):
        client.infer("fashion-clip-cut-13", sent, headers=client.headers)
    with pytest.raises(client.kinds.InferenceServerException, match="there is no version"):
        client.infer(MODEL, sent, model_version="2", headers=client.headers)
    asked = [client.kinds.InferRequestedOutput("nope")]
    with pytest.raises(client.kinds.InferenceServerException, match="expected outputs of"):
        client.infer(MODEL, sent, outputs=asked, headers=client.headers)
    asked = [client.kinds.InferRequestedOutput("probabilities", class_count=3)]
    with pytest.raises(client.kinds.InferenceServerException, match="not spoken here"):
        client.infer(MODEL, sent, outputs=asked, headers=client.headers)


def test_http_client_compresses(server: MarketServer, device: Device, pipeline: Pipeline) -> None:
    client = Client("http", server, device.token)
    sent = client.inputs(inputs_at(pipeline, CUT, image(5)))
    plain = client.infer(MODEL, sent, headers=client.headers)
    for name in ("gzip", "deflate"):
        result = client.infer(
            MODEL,
            sent,
            headers=client.headers,
            request_compression_algorithm=name,
            response_compression_algorithm=name,
        )
        same = np.array_equal(result.as_numpy("probabilities"), plain.as_numpy("probabilities"))
        assert same, name
    client.close()


def test_grpc_stream_goes_on_after_an_error(
    server: MarketServer, device: Device, pipeline: Pipeline
) -> None:
    client = Client("grpc.aio", server, device.token)
    good = client.inputs(inputs_at(pipeline, CUT, image(5)))
    bad = client.inputs({"tokens": np.zeros((1, 3, 64), np.float32)})

    async def requests() -> Any:
        for at, inputs in enumerate((good, bad, good)):
            yield {"model_name": MODEL, "inputs": inputs, "request_id": f"{at}"}

    async def play() -> list[Any]:
        answers = client._client.stream_infer(requests(), headers=client.headers)
        return [answer async for answer in answers]

    answers = client._loop.run_until_complete(play())
    assert [error is None for _, error in answers] == [True, False, True]
    assert "expected shape" in f"{answers[1][1]}"
    assert [result.get_response().id for result, error in answers if error is None] == ["0", "2"]
    client.close()


# ---------------------------------------------------------------- bounds


def test_gzip_bomb_is_refused(device: Device) -> None:
    for name, bomb in (
        ("gzip", gzip.compress(bytes(16 * 2**20))),
        ("deflate", zlib.compress(bytes(16 * 2**20))),
    ):
        answer = device.http.post(
            f"/v2/models/{MODEL}/infer", content=bomb, headers={"Content-Encoding": name}
        )
        assert answer.status_code == 413
        assert "inflates to at most" in answer.json()["error"]
    answer = device.http.post(
        f"/v2/models/{MODEL}/infer", content=b"x", headers={"Content-Encoding": "br"}
    )
    assert answer.status_code == 415
    answer = device.http.post(
        f"/v2/models/{MODEL}/infer", content=b"xx", headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 400


def test_compressed_grpc_is_refused(server: MarketServer, device: Device) -> None:
    client = Client("grpc", server, device.token)
    bomb = client.inputs({"image": np.array([bytes(7 * 2**20)], dtype=object)})
    with pytest.raises(grpc_client.InferenceServerException) as refused:
        client.infer(
            "fashion-clip-cut-0", bomb, headers=client.headers, compression_algorithm="gzip"
        )
    assert "UNIMPLEMENTED" in f"{refused.value.status()}"
    client.close()


def test_grpc_without_a_token_reads_no_message(server: MarketServer) -> None:
    """The status comes though nothing was sent."""
    stop = threading.Event()

    def nothing() -> Iterator[bytes]:
        stop.wait(PATIENCE_S)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        future = call.future(nothing(), timeout=PATIENCE_S)
        assert future.code() is grpc.StatusCode.UNAUTHENTICATED
        stop.set()


def test_grpc_takes_no_more_of_a_device_than_http(
    server: MarketServer, device: Device, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = server._app.state.bounds
    monkeypatch.setattr(bounds, "requests_max", 0)
    client = Client("grpc", server, device.token)
    sent = client.inputs(inputs_at(pipeline, CUT, image(5)))
    with pytest.raises(grpc_client.InferenceServerException) as refused:
        client.infer(MODEL, sent, headers=client.headers)
    assert "RESOURCE_EXHAUSTED" in f"{refused.value.status()}"
    assert device.http.get(f"/v2/models/{MODEL}").status_code == 200
    client.close()


def test_rate_is_told(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline) -> None:
    folder = tmp_path_factory.mktemp("rate")
    with served(folder, unpaid_per_minute=2) as server:
        device = Device(server.url, "once-1", "cam-1")
        body, length = encode_request("", inputs_at(pipeline, CUT, image(5)), {})
        headers = {HEADER_LENGTH: str(length)}
        path = f"/v2/models/{MODEL}/infer"
        codes = [device.http.post(path, content=body, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in codes] == [200, 200, 429]
        assert 1 <= int(codes[2].headers["Retry-After"]) <= 31
        device.http.close()


def test_unpaid_work_can_be_off(
    tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline
) -> None:
    with served(tmp_path_factory.mktemp("off"), unpaid_per_minute=0) as server:
        device = Device(server.url, "once-1", "cam-1")
        body, length = encode_request("job", inputs_at(pipeline, CUT, image(5)), {})
        headers = {HEADER_LENGTH: str(length)}
        answer = device.http.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers)
        assert answer.status_code == 400
        assert "round" in answer.json()["error"]
        shape = device.http.get(f"/v2/models/{MODEL}").json()["inputs"][0]["shape"]
        assert shape == [1, 16, 64], "paid work comes one piece a request"
        device.http.close()


def test_taken_grpc_port_is_told(server: MarketServer, tmp_path: Any) -> None:
    with (
        pytest.raises(MarketError, match=f"port {server.grpc_port}"),
        served(tmp_path, grpc_port=server.grpc_port),
    ):
        pass


# ---------------------------------------------------------------- declared and actual

TOKENS = np.zeros((1, 16, 64), np.float32)


def _raw(*numbers: Any, kind: str = "<f4") -> bytes:
    return np.asarray(numbers, kind).tobytes()


UNLIKE: dict[str, tuple[dict[str, Any], str]] = {
    "bytes of fewer numbers": ({"raw": TOKENS.tobytes()[:-4]}, "expected 4096 bytes"),
    "bytes of more numbers": ({"raw": TOKENS.tobytes() + b"0000"}, "expected 4096 bytes"),
    "another shape of as many": ({"shape": [1, 64, 16]}, "expected shape [1, 16, 64]"),
    "another rank": ({"shape": [16, 64]}, "expected shape [1, 16, 64]"),
    "a negative length": ({"shape": [-1, 16, 64]}, "shape"),
    "a huge length": ({"shape": [2**62, 16, 64]}, "shape"),
    "an empty shape": ({"shape": []}, "expected 4 bytes"),
    "another type of the same size": (
        {"datatype": "INT32"},
        "expected data type",
    ),
    "a type that is none": ({"datatype": "FP33"}, "datatype"),
    "another name": ({"name": "token"}, "expected the tensors"),
    "an empty name": ({"name": ""}, "name"),
    "no finite numbers": (
        {"raw": np.full((1, 16, 64), np.nan, np.float32).tobytes()},
        "finite",
    ),
    "twice the tensor": ({"times": 2}, "twice"),
    "no tensor": ({"times": 0}, "inputs"),
    "an unknown output": ({"outputs": ["nope"]}, "expected outputs of ['probabilities']"),
    "an output twice": ({"outputs": ["probabilities"] * 2}, "each output once"),
    "an output of another codec": (
        {"outputs": ["probabilities.scale"]},
        "expected outputs of ['probabilities']",
    ),
    "an unknown codec": ({"parameters": {"codec": "zip"}}, "codec"),
    "a sequence": ({"parameters": {"sequence_id": 7}}, "not spoken here"),
    "a negative exchange": ({"parameters": {"exchange": -1}}, "exchange"),
    "a later exchange": ({"parameters": {"exchange": 1}}, "begin it again"),
    "shared memory": (
        {"input_parameters": {"shared_memory_region": "x"}},
        "not spoken here",
    ),
}


def _as_http(device: Device, spec: dict[str, Any]) -> tuple[bool, str]:
    chunk = spec["raw"]
    entry = {
        "name": spec["name"],
        "datatype": spec["datatype"],
        "shape": spec["shape"],
        "parameters": {**spec["input_parameters"], "binary_data_size": len(chunk)},
    }
    head = json.dumps(
        {
            "id": "job",
            "inputs": [entry] * spec["times"],
            "parameters": spec["parameters"],
            "outputs": [{"name": name} for name in spec["outputs"]],
        }
    ).encode()
    answer = device.http.post(
        f"/v2/models/{MODEL}/infer",
        content=head + chunk * spec["times"],
        headers={HEADER_LENGTH: str(len(head))},
    )
    assert answer.status_code in (200, 400, 409), answer.text
    return answer.status_code == 200, "" if answer.status_code == 200 else answer.json()["error"]


def _as_grpc(server: MarketServer, device: Device, spec: dict[str, Any]) -> tuple[bool, str]:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="job")
    for _ in range(spec["times"]):
        tensor = request.inputs.add(
            name=spec["name"], datatype=spec["datatype"], shape=spec["shape"]
        )
        for name, value in spec["input_parameters"].items():
            tensor.parameters[name].string_param = value
        request.raw_input_contents.append(spec["raw"])
    for name in spec["outputs"]:
        request.outputs.add(name=name)
    for name, value in spec["parameters"].items():
        if isinstance(value, int):
            request.parameters[name].int64_param = value
        else:
            request.parameters[name].string_param = value
    return _grpc_infer(server, device, request)


def _grpc_infer(server: MarketServer, device: Device, request: Any) -> tuple[bool, str]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        shown = (("authorization", f"Bearer {device.token}"),)
        try:
            call(request.SerializeToString(), metadata=shown, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            kinds = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
            return error.code() not in kinds, str(error.details())
        return True, ""


BASE: dict[str, Any] = {
    "name": "tokens",
    "datatype": "FP32",
    "shape": [1, 16, 64],
    "raw": TOKENS.tobytes(),
    "times": 1,
    "outputs": [],
    "parameters": {},
    "input_parameters": {},
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_is_declared_is_what_comes(server: MarketServer, device: Device, kind: str) -> None:
    """The same over HTTP and gRPC; and the request they change is taken."""
    changes, says = UNLIKE[kind]
    spec = BASE | changes
    for taken, words in (_as_http(device, spec), _as_grpc(server, device, spec)):
        assert not taken
        assert says in words
    assert _as_http(device, BASE)[0]
    assert _as_grpc(server, device, BASE)[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.inputs[0].contents.fp32_contents.append(1.0), "found both"),
        (lambda r: r.raw_input_contents.append(b""), "one for each input"),
        (lambda r: r.ClearField("raw_input_contents"), "expected 1024 elements"),
        (
            lambda r: (
                r.ClearField("raw_input_contents"),
                r.inputs[0].contents.int_contents.extend([0] * 1024),
            ),
            "expected fp32_contents",
        ),
        (
            lambda r: (
                r.ClearField("raw_input_contents"),
                r.inputs[0].contents.fp32_contents.extend([0.0] * 1023),
            ),
            "found 1023",
        ),
    ],
)
def test_grpc_contents_are_what_is_declared(
    server: MarketServer, device: Device, change: Callable[[Any], Any], says: str
) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="job")
    request.inputs.add(name="tokens", datatype="FP32", shape=[1, 16, 64])
    request.raw_input_contents.append(TOKENS.tobytes())
    change(request)
    taken, words = _grpc_infer(server, device, request)
    assert not taken
    assert says in words


def test_grpc_contents_are_read(server: MarketServer, device: Device) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="job")
    tensor = request.inputs.add(name="tokens", datatype="FP32", shape=[1, 16, 64])
    tensor.contents.fp32_contents.extend([0.5] * 1024)
    assert _grpc_infer(server, device, request) == (True, "")


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\xff\xff", b"\x0a\x05ab"])
def test_grpc_garbage_is_refused(server: MarketServer, device: Device, content: bytes) -> None:
    class Garbage:
        def SerializeToString(self) -> bytes:
            return content

    taken, words = _grpc_infer(server, device, Garbage())
    assert not taken
    assert "expected a message of the protocol" in words


def test_grpc_needs_its_extra(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepact.market import server as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with (
        pytest.raises(InputError, match=r"grpc_port.*edgepact\[grpc\]"),
        served(tmp_path, grpc_port=0),
    ):
        pass


def test_grpc_over_tls(tmp_path: Any) -> None:
    with served(tmp_path, grpc_port=0, tls=tmp_path / "tls") as server:
        wait_until(lambda: server.grpc_port)
        authority = (tmp_path / "tls" / "authority.pem").read_bytes()
        trusted = grpc.ssl_channel_credentials(authority)
        address = f"localhost:{server.grpc_port}"
        with grpc.secure_channel(address, trusted) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            told = service_pb2.ServerLiveResponse.FromString(call(b"", timeout=PATIENCE_S))
            assert told.live
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=PATIENCE_S)
        ask = httpx.get(
            f"https://localhost:{server.port}/v2/health/live",
            verify=ssl.create_default_context(cadata=authority.decode()),
            timeout=PATIENCE_S,
        )
        assert ask.status_code == 200


def test_the_how_to_says_what_works(
    server: MarketServer, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "call-the-server.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for said, meant in (
        ("THE-DEVICE-TOKEN", device.http.headers["Authorization"].removeprefix("Bearer ")),
        ("127.0.0.1:8080", f"127.0.0.1:{server.port}"),
    ):
        assert said in code
        code = code.replace(said, meant)
    (tmp_path / "shoe.png").write_bytes(image())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), names)
    assert names["result"].as_numpy("probabilities").shape[0] == 1
