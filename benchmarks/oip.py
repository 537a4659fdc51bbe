"""An activation over the Open Inference Protocol against a bare gRPC echo of the same bytes.

Run by `python -m benchmarks oip`. 49 x 768 numbers at half precision go to a server and come back.
The rival is a synchronous gRPC server whose one method returns the bytes that it was given: no
protocol, no token, no bounds, no names or shapes. On our side it is a whole market server with a
token, its bounds and its queue, whose job gives back what it was sent, so that no model's
computing is in either. Each has one client with one connection in this process and one server
process; they take turns in a drawn order within one run, so that a neighbour's load falls on all.

The target is that tritonclient over HTTP takes at most 1.3 times the rival's median. Beside it are
shown tritonclient over gRPC, and the client of `edgepact device`.

How low any of it can go is shown by the same clients on servers that know no more of HTTP than they
must and give back the bytes that they were given: one on the same HTTP server as ours, uvicorn with
httptools, and one on an asyncio protocol alone. What ours takes longer than the first is the
market's own: routing, token, bounds, checks, the turn in the queue and its thread.
"""

import asyncio
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.http
import uvicorn

from edgepact.errors import InputError
from edgepact.market.posted import FixedPrice
from edgepact.market.protocol import oip
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import serve
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply

SHAPE = (1, 49, 768)
RATIO_MAX = 1.3
TURNS = 3000
WARM_UP = 200
METHOD = "/echo/echo"
MODEL = "echo-cut-1"
OPERATOR = "benchmark"
RIVAL = "bare gRPC echo"
OURS = "OIP REST, tritonclient.http"
HTTP_FLOOR = "bare echo on uvicorn, tritonclient.http"


@dataclass(frozen=True, slots=True)
class Echo:
    """A job, and its server's half, that gives back what it was sent."""

    name: str = "echo"
    unit: str = "activation"
    step: str = "layer"
    codecs: tuple[str, ...] = ("fp32",)

    @property
    def model(self) -> Model:
        """It holds none."""
        return Model(name="echo", amount_max=1)

    @property
    def about(self) -> Mapping[str, Json]:
        """Nothing more."""
        return {}

    @property
    def audit_power(self) -> float:
        """Nobody is audited here."""
        return 1.0

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "Echo":
        """It is its own half."""
        return self

    def device_part(self, model: Path | None, inputs: Path | None, settings: Any) -> Any:
        """There is none."""
        raise NotImplementedError

    def warm(self) -> None:
        """Nothing is loaded."""

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """An activation, at half precision for the job itself: no codec has work with it."""
        return (TensorSpec(name="tokens", datatype="FP16", shape=SHAPE),)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The same."""
        return self.expects(amount, 0)

    def begin(self, amount: int, seed: int) -> None:
        """Nothing is kept."""

    def answer(self, batch: Sequence[tuple[Any, Tensors]]) -> list[Reply | InputError]:
        """What came."""
        return [Reply(outputs=sent) for _, sent in batch]

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """Nothing is kept."""
        return b""

    def passes_audit(
        self,
        amount: int,
        evidence: Sequence[bytes],
        source: bytes,
        *,
        seed: int,
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Nobody is audited here."""
        return True


def measure(turns: int) -> dict[str, Any]:
    """Medians and upper percentiles of round trips, milliseconds, and the ratios of medians.

    Args:
        turns: round trips of each.
    """
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float16)
    with ExitStack() as stack:
        calls = _calls(x, stack)
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        draw = random.Random(0)
        order = list(calls)
        for turn in range(turns + WARM_UP):
            draw.shuffle(order)
            for name in order:
                start_s = time.perf_counter()
                back = calls[name]()
                took_s = time.perf_counter() - start_s
                if turn >= WARM_UP:
                    seconds[name].append(took_s)
                elif turn == 0 and back != x.tobytes():
                    raise RuntimeError(f"{name}: another activation came back")
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    rows = [
        {
            "client": name,
            "p50_ms": 1e3 * medians[name],
            "p90_ms": 1e3 * statistics.quantiles(each, n=10)[8],
            "ratio_of_p50": medians[name] / medians[RIVAL],
        }
        for name, each in seconds.items()
    ]
    ratio = medians[OURS] / medians[RIVAL]
    own_ms = 1e3 * (medians[OURS] - medians[HTTP_FLOOR])
    return {
        "title": "49 x 768 numbers at half precision, there and back",
        "rows": rows,
        "round_trips_each": turns,
        "ratio": ratio,
        "ratio_max": RATIO_MAX,
        "reached": ratio <= RATIO_MAX,
        "ms_beyond_bare_echo_on_uvicorn": own_ms,
    }


def main() -> None:
    match sys.argv[1:]:
        case ["--echo"]:
            _serve_echo()
        case ["--uvicorn-echo"]:
            _serve_uvicorn_echo()
        case ["--asyncio-echo"]:
            asyncio.run(_serve_asyncio_echo())
        case ["--market", folder]:
            _serve_market(Path(folder))
        case options:
            print(json.dumps(measure(TURNS // 10 if "--quick" in options else TURNS)))


# ---------------------------------------------------------------- private


def _calls(x: np.ndarray, stack: ExitStack) -> dict[str, Callable[[], bytes]]:
    """Round trips by name; each returns what came back."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    echo = json.loads(stack.enter_context(_process("--echo")))
    where = json.loads(stack.enter_context(_process("--market", str(folder))))
    on_uvicorn, on_asyncio = (
        json.loads(stack.enter_context(_process(f"--{kind}-echo")))["port"]
        for kind in ("uvicorn", "asyncio")
    )
    shown = {"authorization": f"Bearer {OPERATOR}"}

    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{echo['port']}"))
    bare = channel.unary_unary(METHOD)

    def bare_call() -> bytes:
        return bytes(bare(x.tobytes()))

    def triton(kinds: Any, port: int) -> Callable[[], bytes]:
        client = stack.enter_context(kinds.InferenceServerClient(f"127.0.0.1:{port}"))

        def call() -> bytes:
            tensor = kinds.InferInput("tokens", SHAPE, "FP16")
            tensor.set_data_from_numpy(x)
            return bytes(
                client.infer(MODEL, [tensor], headers=dict(shown)).as_numpy("tokens").tobytes()
            )

        return call

    def own(url: str) -> Callable[[], bytes]:
        http = stack.enter_context(httpx.Client(base_url=url, headers=shown))

        def call() -> bytes:
            body, length = oip.encode_request("", {"tokens": x}, {})
            answer = http.post(
                f"/v2/models/{MODEL}/infer",
                content=body,
                headers={oip.HEADER_LENGTH: str(length), "Accept-Encoding": "identity"},
            )
            response = oip.decode_response(answer.content, answer.headers[oip.HEADER_LENGTH])
            return np.asarray(response.outputs["tokens"]).tobytes()

        return call

    return {
        RIVAL: bare_call,
        OURS: triton(tritonclient.http, where["port"]),
        HTTP_FLOOR: triton(tritonclient.http, on_uvicorn),
        "bare echo on asyncio, tritonclient.http": triton(tritonclient.http, on_asyncio),
        "OIP gRPC, tritonclient.grpc": triton(tritonclient.grpc, where["grpc_port"]),
        "OIP REST, client of the device": own(where["url"]),
        "bare echo on uvicorn, client of the device": own(f"http://127.0.0.1:{on_uvicorn}"),
    }


@contextmanager
def _process(*options: str) -> Iterator[str]:
    """A server in a process of its own; yields the line that says where it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.oip", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.communicate()


def _serve_echo() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(lambda content, context: content)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("echo", {"echo": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


def _answered() -> bytes:
    """The JSON part of every answer of a bare HTTP echo."""
    x = np.zeros(SHAPE, np.float16)
    body, length = oip.encode_response(id="", model=MODEL, outputs={"tokens": x}, parameters={})
    assert length is not None
    return body[:length]


def _serve_uvicorn_echo() -> None:
    head = _answered()

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message["body"])
            more = message.get("more_body", False)
        start = int(dict(scope["headers"])[oip.HEADER_LENGTH.lower().encode()])
        content = head + b"".join(parts)[start:]
        headers = [
            (oip.HEADER_LENGTH.encode(), str(len(head)).encode()),
            (b"Content-Length", str(len(content)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    config = uvicorn.Config(
        echo,
        loop="asyncio",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    # The protocol is named since asyncio switches Nagle's algorithm off only where it is.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        uvicorn.Server(config).run([listener])


async def _serve_asyncio_echo() -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _AsyncioEcho(_answered()), "127.0.0.1", 0
    )
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


class _AsyncioEcho(asyncio.Protocol):
    """Takes requests of one client that waits for each answer; nothing else is looked at."""

    def __init__(self, head: bytes) -> None:
        self._head, self._came = head, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers once the request is whole."""
        self._came += data
        end = self._came.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        lines = self._came[:end].decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        whole = end + int(fields["content-length"])
        if len(self._came) < whole:
            return
        tensors = bytes(self._came[end + int(fields[oip.HEADER_LENGTH.lower()]) : whole])
        del self._came[:whole]
        content = self._head + tensors
        self._transport.write(
            b"HTTP/1.1 200 OK\r\n%s: %d\r\nContent-Length: %d\r\n\r\n"
            % (oip.HEADER_LENGTH.encode(), len(self._head), len(content))
            + content
        )


def _serve_market(folder: Path) -> None:
    config = ServeConfig(
        ledger_url=f"sqlite:///{folder / 'ledger.db'}",
        port=0,
        grpc_port=0,
        operator_token=OPERATOR,
        unpaid_per_minute=1_000_000,
        requests_per_s=1e6,
        bytes_per_s=1e12,
        audit_probability=0.0,
    )
    serve(config, FixedPrice(price=1.0, steps_max=1), job=Echo())


if __name__ == "__main__":
    main()
