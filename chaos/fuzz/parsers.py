"""The parsers of bytes from outside: what a right input is, and what a wrong one may raise."""

import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import sqlalchemy as sa
from PIL import Image

from chaos.fuzz.mutations import Mutation, changed_bytes, changed_json, changed_text, mixed
from edgepact.errors import EdgepactError, InputError
from edgepact.fields import load
from edgepact.files.auction import read_auction
from edgepact.files.contract import read_contract
from edgepact.files.fleet import read_fleet
from edgepact.files.scenario import read_scenario
from edgepact.files.stackelberg import read_game
from edgepact.inference import graph
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.models import embedded
from edgepact.inference.pictures import decoded
from edgepact.inference.pipeline import MODEL_JSON, ModelInfo, open_session, stage_path
from edgepact.market.device_statement import read_device_statement
from edgepact.market.device_token import stored_token
from edgepact.market.entry import Entry
from edgepact.market.evidence import amount_of, unpacked
from edgepact.market.json_bounds import check_json
from edgepact.market.ledger import Ledger
from edgepact.market.ledger.seals import read_seal
from edgepact.market.ledger.signing import ServerKey, signed
from edgepact.market.protocol import compression, messages, oip
from edgepact.market.results import Results
from edgepact.market.serve_config import ServeOptions
from edgepact.settings import from_table
from edgepact.tensors import TensorSpec
from edgepact.work import Model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL = Model(name="fashion-clip", amount_max=12)
IMAGE_SIZE = 224
PASSWORD = "hunter2-and-more"
SPECS = (TensorSpec(name="tokens", datatype="FP32", shape=(1, 5, 8), coded=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """A parser.

    Attributes:
        name: of it.
        read: reads an input; the file it may use is written there first.
        seeds: right inputs, and some that nearly are.
        change: makes others of them.
        errors: what a wrong input may raise.
        weight: inputs of it, as a share of what others get: some are slow.
        apart: whether it is code that may end the process.
        seeds_are_right: whether each of the seeds has to be read.
    """

    name: str
    read: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    change: Mutation
    errors: tuple[type[Exception], ...] = (InputError,)
    weight: float = 1.0
    apart: bool = False
    seeds_are_right: bool = True


def parsers(folder: Path) -> Iterator[Parser]:
    """All of them.

    Args:
        folder: for files that seeds are made with.
    """
    yield from _of_messages()
    yield from _of_tensors()
    yield from _of_grpc()
    yield from _of_requests()
    yield from _of_pictures()
    yield from _of_files(folder)
    yield from _of_models()


# ---------------------------------------------------------------- what devices and servers say

_JSON = mixed(changed_json, changed_json, changed_text, changed_bytes)


def _changed_line(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A line of JSON that is changed, among others."""
    lines = b"\n".join(seeds).split(b"\n")
    some = [draws.choice([each for each in lines if each]) for _ in range(3)]
    return b"\n".join([*some, changed_json(draws, some), b""])


_LINES = mixed(_changed_line, _changed_line, changed_text, changed_bytes)


def _of_messages() -> Iterator[Parser]:
    posted = {"price_microcredits": 1_500_000, "steps": 12, "step": 1.0}
    item = {"amount": 3.0, "reward_microcredits": 7}
    offer = {
        "state": "offer", "round": 3, "question": posted, "job": "classification",
        "model": "fashion-clip", "amount_max": 12, "digest": "ab12", "units_per_round": 20,
        "commit_timeout_s": 5.0, "codecs": ["int8", "fp16"], "repeat_rounds": 2,
        "standing": "assigned", "assigned": item, "pieces_done": {"3-0": 1},
        "audits": [{"piece": "3-0", "seconds": 2.5}],
    }  # fmt: skip
    menu = {**offer, "question": {"menu": [item], "bid_amounts": [1.0]}, "standing": "asked"}
    menu["assigned"] = None
    for name, read, told in (
        ("offers", messages.read_offer, (offer, menu, {"state": "wait"}, {"state": "over"})),
        (
            "answers",
            messages.CommitRequest.from_json,
            ({"round": 1, "item": 2}, {"round": 1, "item": None, "bids_microcredits": [1, None]}),
        ),
        (
            "assignments",
            messages.Commitment.from_json,
            ({"round": 1, "standing": "assigned", "assigned": item, "audits": []},),
        ),
        ("enrolments", messages.EnrolRequest.from_json, ({"token": "once", "name": "cam-1"},)),
    ):
        yield Parser(
            name=name,
            read=_message(read),
            seeds=tuple(json.dumps(each).encode() for each in told),
            change=_JSON,
        )
    yield Parser(
        name="audits asked for",
        read=lambda content, _: messages.read_audits(
            "answer", messages.read_object("answer", content).get("audits")
        ),
        seeds=(json.dumps(offer).encode(),),
        change=_JSON,
    )


def _message(read: Callable[[Mapping[str, object]], object]) -> Callable[[bytes, Path], object]:
    def whole(content: bytes, _: Path) -> object:
        return read(messages.read_object("message", content))

    return whole


# ---------------------------------------------------------------- tensors

_LENGTH = 6


def _of_tensors() -> Iterator[Parser]:
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(1, 5, 8)
    packed = [codec.pack({"tokens": x}, SPECS) for codec in BUILT_IN]
    told = {"round": 1, "exchange": 0, "codec": "int8", "commitment": "00" * 32}
    binary = [oip.encode_request("1-0", tensors, told) for tensors in packed]
    image = oip.encode_request("1-1", {"image": (b"abc", b"")}, told)
    plain = {
        "id": "1-2", "parameters": {"round": 1}, "outputs": [{"name": "logits"}],
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1.5, 2], [3, -4e3]]},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [7]},
        ],
    }  # fmt: skip
    requests = tuple(_framed(*each) for each in (*binary, image))
    answered = _framed(
        *oip.encode_response(
            id="1-0", model="m", outputs={"vector": x}, parameters={"finished": True}
        )
    )
    split = mixed(_changed_frame, _changed_frame, changed_bytes)
    yield Parser(
        name="binary requests", read=_frame(oip.decode_request), seeds=requests, change=split
    )
    yield Parser(
        name="binary answers", read=_frame(oip.decode_response), seeds=(answered,), change=split
    )
    yield Parser(
        name="JSON requests",
        read=_json_request,
        seeds=(json.dumps(plain).encode(),),
        change=_JSON,
    )
    for codec, tensors in zip(BUILT_IN, packed, strict=True):
        yield Parser(
            name=f"tensors of {codec.name}",
            read=_coded(codec),
            seeds=(_framed(*oip.encode_request("1-0", tensors, told)),),
            change=split,
        )


def _of_grpc() -> Iterator[Parser]:
    """Requests over gRPC, as tritonclient sends them, and with numbers that do not come raw."""
    try:
        from tritonclient.grpc import service_pb2

        from edgepact.market.protocol import grpc_messages
    except ImportError:
        return  # without the extra nothing reads them
    raw = service_pb2.ModelInferRequest(model_name="m", id="1-0")
    raw.parameters["round"].int64_param = 1
    raw.parameters["codec"].string_param = "int8"
    raw.inputs.add(name="x", datatype="FP16", shape=[1, 2])
    raw.inputs.add(name="left", datatype="INT32", shape=[1])
    raw.raw_input_contents.extend([b"\0\x3c\0\x3c", b"\1\0\0\0"])
    raw.outputs.add(name="logits")
    typed = service_pb2.ModelInferRequest(model_name="m")
    for name, datatype, kept, values in (
        ("x", "FP32", "fp32_contents", [1.5, float("inf")]),
        ("n", "INT8", "int_contents", [-3, 4]),
        ("image", "BYTES", "bytes_contents", [b"abc", b""]),
    ):
        one = typed.inputs.add(name=name, datatype=datatype, shape=[2])
        getattr(one.contents, kept).extend(values)

    def request(content: bytes, _: Path) -> object:
        return grpc_messages.infer_request(grpc_messages.read("ModelInferRequest", content))

    yield Parser(
        name="gRPC requests",
        read=request,
        seeds=tuple(each.SerializeToString() for each in (raw, typed)),
        change=changed_bytes,
    )


def _framed(body: bytes, length: int | None) -> bytes:
    """A body behind the text of its header."""
    return str(length).rjust(_LENGTH)[:_LENGTH].encode() + body


def _changed_frame(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A body whose JSON is changed, with a length that fits it most of the time."""
    seed = draws.choice(seeds)
    length = int(seed[:_LENGTH])
    body = seed[_LENGTH:]
    head, rest = body[:length], body[length:]
    if draws.random() < 0.8:
        head = changed_json(draws, (head,))
    if draws.random() < 0.4:
        rest = changed_bytes(draws, (rest or b"\x00",))
    told = len(head) if draws.random() < 0.9 else draws.randrange(len(head) + 9)
    return _framed(head + rest, told)


def _frame(read: Callable[[bytes, str | None], object]) -> Callable[[bytes, Path], object]:
    def whole(content: bytes, _: Path) -> object:
        return read(content[_LENGTH:], content[:_LENGTH].decode("latin-1"))

    return whole


def _json_request(content: bytes, _: Path) -> object:
    check_json("request", content)
    return oip.decode_request(content, None)


def _coded(codec: Any) -> Callable[[bytes, Path], object]:
    def whole(content: bytes, _: Path) -> object:
        request = oip.decode_request(content[_LENGTH:], content[:_LENGTH].decode("latin-1"))
        found = unpacked(codec, request.inputs, SPECS, "request")
        x = np.asarray(found["tokens"])
        assert x.dtype == np.float32
        assert x.shape == (1, 5, 8)
        assert np.isfinite(x).all()
        return found

    return whole


# ---------------------------------------------------------------- HTTP


def _of_requests() -> Iterator[Parser]:
    entry = Entry(lambda *_: None, ("edge.example", "box"))  # type: ignore[arg-type]

    def enter(content: bytes, _: Path) -> object:
        host, _nl, origin = content.partition(b"\n")
        headers = [(b"host", host)] + ([(b"origin", origin)] if origin else [])
        refusal = entry._refusal({"type": "http", "scheme": "http", "headers": headers})
        return None if refusal is None else refusal.status_code

    yield Parser(
        name="Host and Origin",
        read=enter,
        seeds=(
            b"edge.example:8080\nhttp://edge.example:8080",
            b"[::1]:80\nnull",
            b"127.0.0.1",
            b"localhost:1\nhttps://evil.example",
        ),
        change=mixed(changed_text, changed_bytes),
        errors=(),
    )

    def encoding(content: bytes, _: Path) -> object:
        text = content.decode("latin-1")
        return compression.encoding_of(text), compression.accepted(text)

    yield Parser(
        name="encodings named",
        read=encoding,
        seeds=(b"gzip", b"deflate, gzip;q=1.0, *;q=0.5", b"identity", b"gzip;q=0"),
        change=mixed(changed_text, changed_bytes),
        seeds_are_right=False,
    )

    def inflate(content: bytes, _: Path) -> object:
        kind = compression.GZIP if content[:1] < b"\x80" else compression.DEFLATE
        stream = compression.Inflating(kind, 100_000)
        out = stream.inflate(content[1:300]) + stream.inflate(content[300:])
        stream.end()
        assert len(out) <= 100_000
        return out

    text = bytes(range(256)) * 30
    yield Parser(
        name="compressed bodies",
        read=inflate,
        seeds=(
            b"\x00" + compression.compressed(text, compression.GZIP),
            b"\x80" + compression.compressed(text, compression.DEFLATE),
            b"\x00" + compression.compressed(bytes(10**6), compression.GZIP),
        ),
        change=changed_bytes,
        seeds_are_right=False,
    )
    yield Parser(
        name="names of models",
        read=lambda content, _: amount_of(MODEL, content.decode("latin-1")),
        seeds=(b"fashion-clip-cut-3", b"fashion-clip-cut-12"),
        change=mixed(changed_text, changed_bytes),
        errors=(),
    )

    def name(content: bytes, _: Path) -> object:
        text = content.decode("latin-1")
        which, _nl, value = text.partition("\n")
        if which == "commitment":
            return messages.check_commitment("x", value)
        read = messages.check_name if which == "name" else messages.check_piece
        return read("x", value)

    yield Parser(
        name="names, pieces, commitments",
        read=name,
        seeds=(b"name\ncam-1", b"piece\n3-0", b"commitment\n" + b"ab" * 32),
        change=mixed(changed_text, changed_bytes),
    )


# ---------------------------------------------------------------- pictures


def _of_pictures() -> Iterator[Parser]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    seeds = {"png": list[bytes](), "jpeg": list[bytes](), "webp": list[bytes](), "bmp": []}
    for kind, made in seeds.items():
        for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK"):
            with_it = Image.fromarray(noise).convert(mode)
            file = io.BytesIO()
            try:
                with_it.save(file, kind)
            except OSError:
                continue  # this kind has no such mode
            made.append(file.getvalue())
    rotated = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(rotated, "jpeg", exif=exif, progressive=True)
    seeds["jpeg"].append(rotated.getvalue())
    for kind, made in seeds.items():
        yield Parser(
            name=f"pictures ({kind})",
            read=lambda content, _: decoded(content, image_size=IMAGE_SIZE),
            seeds=tuple(made),
            change=changed_bytes,
            weight=0.5,
        )


# ---------------------------------------------------------------- files


def _of_files(folder: Path) -> Iterator[Parser]:
    for path in EXAMPLES.glob("*.csv"):  # that others name
        (folder / path.name).write_bytes(path.read_bytes())
    texts = {path.name: path.read_bytes() for path in sorted(EXAMPLES.glob("*.toml"))}

    def some(*words: str) -> tuple[bytes, ...]:
        return tuple(text for name, text in texts.items() if any(word in name for word in words))

    auctions = tuple(text for name, text in texts.items() if name.startswith("auction"))
    game = some("five-cameras", "crowd", "two-peaks", "far-devices", "may-decline")
    for name, read, seeds in (
        ("games (TOML)", read_game, game),
        ("contracts (TOML)", read_contract, some("contract", "measured", "two-costs")),
        ("auctions (TOML)", read_auction, auctions),
        ("scenarios (TOML)", read_scenario, some("scenario")),
        ("serve --config", _serve_config, (_SERVE,)),
    ):
        yield Parser(
            name=name,
            read=_file(read, ".toml"),
            seeds=seeds,
            change=mixed(changed_text, changed_text, changed_text, changed_bytes),
            weight=0.4,
        )
    rows = b"name,alpha,capacity,A,B\ncam-1,9.0,20,0.6,0.04\ncam-2,8,10,0.5,0.1\n"
    yield Parser(
        name="fleets (CSV)",
        read=_file(read_fleet, ".csv"),
        seeds=(
            rows,
            b"\xef\xbb\xbf" + rows.replace(b"\n", b"\r\n"),
            rows.replace(b"cam-1", b'"a,b"'),
        ),
        change=mixed(changed_text, changed_text, changed_bytes),
        weight=0.4,
    )
    yield Parser(
        name="fleets (Parquet)",
        read=_file(read_fleet, ".parquet"),
        seeds=_parquet(),
        change=changed_bytes,
        weight=0.3,
        apart=True,
    )
    line = {"round": 1, "piece": "1-0", "amount": 3, "units": 1, "state": "pending"}
    bound = {"piece": "1-0", "round": 1, "place": 3, "salt": "00" * 32, "sha256": "ab" * 32}
    journal = (
        json.dumps(line).encode() + b"\n" + json.dumps({**line, "state": "paid"}).encode(),
        json.dumps(bound).encode() + b"\n",
        json.dumps({**line, **bound}).encode(),
    )
    yield Parser(
        name="results and journal", read=_results, seeds=journal, change=_LINES, weight=0.5
    )
    yield Parser(
        name="tokens of devices",
        read=_token,
        seeds=(b"KFgQFhF_YW03ELqmzECBOdh7Rfjnu-ZY7u-2DfKB_Os\n",),
        change=mixed(changed_text, changed_bytes),
    )
    key = ServerKey(folder / "fuzz.key")
    seal = {"kind": "seal of a ledger", "id": 7, "hash": "ab" * 32, "balances": "cd" * 32}
    statement = {"kind": "statement of a device", "device": "cam-1", "pieces": [], "verdicts": []}
    for name, read, told in (
        ("seals", read_seal, seal),
        ("statements", read_device_statement, statement),
    ):
        right = signed(told, key)

        def resigned(draws: random.Random, seeds: Sequence[bytes], key: ServerKey = key) -> bytes:
            """Changed, and signed again: whoever has a key may have written it."""
            changed = json.loads(changed_json(draws, seeds))
            if not isinstance(changed, dict):
                return json.dumps(changed).encode()
            changed.pop("signature", None)
            try:
                return json.dumps(signed(changed, key)).encode()
            except (UnicodeEncodeError, ValueError):
                return json.dumps(changed).encode()

        yield Parser(
            name=name,
            read=_file(read, ".json"),
            seeds=(json.dumps(right).encode(),),
            change=mixed(_JSON, resigned),
            weight=0.4,
        )
    yield Parser(
        name="URLs of ledgers",
        read=_ledger,
        seeds=(
            b"sqlite:///no/such/ledger.db",
            b"sqlite:///:memory:",
            f"postgresql://me:{PASSWORD}@localhost:5432/books?sslmode=require".encode(),
            f"mysql+pymysql://me:{PASSWORD}@h/x?password={PASSWORD}".encode(),
        ),
        change=mixed(changed_text, changed_bytes),
        errors=(EdgepactError,),
        weight=0.3,
        seeds_are_right=False,
    )


_SERVE = b"""images = 20
rounds = 3
host = "127.0.0.1"
port = 8080
ledger = "sqlite:///ledger.db"
audit_timeout_s = 30.0
margin = 0.25
strikes_max = 2
allow_host = ["edge.example"]
"""


def _serve_config(path: Path) -> object:
    return from_table(ServeOptions, path, load(path))


def _file(read: Callable[[Path], object], ending: str) -> Callable[[bytes, Path], object]:
    def whole(content: bytes, place: Path) -> object:
        path = place.with_suffix(ending)
        path.write_bytes(content)
        return read(path)

    return whole


def _parquet() -> tuple[bytes, ...]:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {"name": ["a", "b"], "alpha": [9.0, 8.0], "capacity": [20.0, 9.0], "A": [1.0, 2.0],
         "B": [0.0, 0.1]}
    )  # fmt: skip
    found = []
    for how in ("none", "snappy"):
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, compression=how)
        found.append(sink.getvalue().to_pybytes())
    return tuple(found)


def _results(content: bytes, place: Path) -> object:
    path = place.with_suffix(".jsonl")
    path.write_bytes(content)
    path.with_name(path.name + ".sources").write_bytes(content)
    with Results(path) as results:
        return results.open_lines(), results.has("1-0"), results.bound("1-0")


def _token(content: bytes, place: Path) -> object:
    path = place.with_suffix(".token")
    path.write_bytes(content)
    token = stored_token(path)
    request = httpx.Request("GET", "http://x", headers={"Authorization": f"Bearer {token}"})
    assert all(32 <= byte < 127 for _, value in request.headers.raw for byte in value)
    return token


def _expect_hidden(told: str) -> None:
    if PASSWORD in told:
        raise AssertionError("the message repeats the password")


def _ledger(content: bytes, _: Path) -> object:
    url = content.decode("utf-8", errors="replace")
    create = sa.create_engine

    def nowhere(parsed: sa.URL, **settings: Any) -> Any:
        if parsed.get_backend_name() == "sqlite":
            return create(parsed, **settings)

        def refuse() -> Any:
            raise engine.dialect.loaded_dbapi.OperationalError("nobody is there")

        engine = create(parsed, creator=refuse, **settings)
        return engine

    try:
        with mock.patch.object(sa, "create_engine", nowhere):
            Ledger(url, create=False).close()
    except EdgepactError as error:
        # As long as it stands where a password does, and only there, it is nobody's to see.
        place, _question, _query = url.partition("?")
        if not url.startswith("sqlite") and place.count(PASSWORD) == place.count(f":{PASSWORD}@"):
            _expect_hidden(str(error))
        raise
    return None


# ---------------------------------------------------------------- models


def _of_models() -> Iterator[Parser]:
    table = (embedded() / MODEL_JSON).read_bytes()

    def info(content: bytes, place: Path) -> object:
        place.mkdir(exist_ok=True)
        (place / MODEL_JSON).write_bytes(content)
        return ModelInfo.read(place)

    yield Parser(name="model.json", read=info, seeds=(table,), change=_JSON, weight=0.4)
    yield Parser(
        name="stages of the embedded model (ONNX)",
        read=_file(open_session, ".onnx"),
        seeds=tuple(stage_path(embedded(), at).read_bytes() for at in (0, 1)),
        change=changed_bytes,
        weight=0.01,
        apart=True,
        seeds_are_right=False,  # their weights are elsewhere
    )
    yield Parser(
        name="stages (ONNX)",
        read=_file(open_session, ".onnx"),
        seeds=(_tiny_onnx(),),
        change=changed_bytes,
        weight=0.01,
        apart=True,
    )
    yield Parser(
        name="graphs to be cut (ONNX)",
        read=_file(graph.boundaries, ".onnx"),
        seeds=(_tiny_onnx(),),
        change=changed_bytes,
        weight=0.05,
        apart=True,
    )


def _tiny_onnx() -> bytes:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [float(i) for i in range(16)])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    entry = model.metadata_props.add()
    entry.key, entry.value = graph.BOUNDARIES_KEY, '["a", "b"]'
    return bytes(model.SerializeToString())


@contextmanager
def quiet() -> Iterator[None]:
    """Without what libraries say of broken input."""
    import warnings

    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
