"""Real markets for tests: in a thread of this process, and as processes of their own.

Imported as `tests.market.harness`: pytest puts the root of the project on the path when it is
started as `python -m pytest`.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from edgepact.engagement import posted
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.models import samples
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.market.posted import FixedPrice
from edgepact.market.protocol import oip
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import MarketServer
from edgepact.tensors import Tensors, TensorSpec

LAYERS = 12
"""Of the embedded model."""

PATIENCE_S = 300.0
"""The end of all patience; nothing here is expected to take long."""

SALT = bytes(32)
"""Of the commitments that tests make."""

# What a device process needs for A*L + B of the embedded model does not matter here: with
# these numbers the price alone decides.
DEVICE = {"alpha": 1.0, "capacity": 20.0, "A": 1.0, "B": 1.0}

_SERVE = """
import json, sys
from pathlib import Path
from edgepact.errors import EdgepactError
from edgepact.market.posted import FixedPrice
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import serve
c = json.loads(sys.argv[1])
c["ready_file"] = Path(c["ready_file"])
if "key" in c:
    c["key"] = Path(c["key"])
c["enrol_tokens"] = tuple(c.get("enrol_tokens", ()))
price = c.pop("price", 1.0)
try:
    serve(ServeConfig(**c), FixedPrice(price=price, steps_max=12))
except EdgepactError as error:
    sys.exit(f"error: {error}")
"""

_DEVICE = """
import json, sys
from pathlib import Path
from edgepact.errors import EdgepactError
from edgepact.market.device import run_device
from edgepact.market.device_config import DeviceConfig
c = json.loads(sys.argv[1])
job, cheat, other = None, c.pop("cheat", None), c.pop("other", None)
if cheat is not None:
    from edgepact.studies.cheats import CheatingJob
    job = CheatingJob(cheat=cheat, other=other and Path(other))
for field in ("inputs", "results", "token_file", "model", "ca"):
    if field in c:
        c[field] = Path(c[field])
try:
    summary = run_device(DeviceConfig(**c), job=job)
    print(summary)
except EdgepactError as error:
    sys.exit(f"error: {error}")
"""


class Device:
    """A device played by a test, over a real connection."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self.name = name
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S)
        answer = self.http.post("/market/enrol", json={"token": token, "name": name})
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["device_token"]
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def offer(self, after: int = 0) -> dict[str, Any]:
        """The next offer."""
        answer = self.http.get("/market/offer", params={"after": after})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def commit(self, round: int, layers: int) -> httpx.Response:
        """Takes so many layers at the price that is posted."""
        return self.answer(round, item=place(layers))

    def answer(self, round: int, **answer: Any) -> httpx.Response:
        """Answers the question of a round."""
        return self.http.post("/market/commit", json={"round": round, **answer})

    def infer(
        self,
        layers: int,
        round: int,
        piece: str,
        inputs: Tensors,
        *,
        model: str = "fashion-clip",
        source: bytes = b"",
        **parameters: Any,
    ) -> httpx.Response:
        """Sends an exchange of a piece, bound to a source."""
        if layers:
            parameters.setdefault("commitment", hashlib.sha256(SALT + source).hexdigest())
        body, length = oip.encode_request(piece, inputs, {"round": round, **parameters})
        return self.http.post(
            f"/v2/models/{model}-cut-{layers}/infer",
            content=body,
            headers={oip.HEADER_LENGTH: str(length)},
        )

    def audit(self, piece: str, image: bytes) -> httpx.Response:
        """Shows the source of a piece."""
        return self.http.post("/market/audit", params={"piece": piece}, content=SALT + image)

    def pieces(self, round: int) -> dict[str, Any]:
        """How the pieces of a round stand."""
        answer = self.http.get("/market/pieces", params={"round": round})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["pieces"])


def place(layers: int) -> int | None:
    """Where so many layers stand in the menu of a posted price."""
    menu = posted(1, LAYERS).menu
    return next((at for at, item in enumerate(menu) if item.amount == layers), None)


def parameters(answer: httpx.Response) -> dict[str, Any]:
    """The parameters of an inference response."""
    assert answer.status_code == 200, answer.text
    header = answer.headers.get(oip.HEADER_LENGTH)
    return dict(oip.decode_response(answer.content, header).parameters)


def image(index: int = 0) -> bytes:
    """One of the sample images."""
    return sorted(samples().glob("*/*.png"))[index].read_bytes()


def inputs_at(pipeline: Pipeline, layers: int, picture: bytes, codec: str = "int8") -> Tensors:
    """What an honest device sends."""
    if layers == 0:
        return {"image": (picture,)}
    x = pipeline.device_part(preprocess(picture, pipeline.info), layers)
    if layers == pipeline.layers_max:
        return {"vector": x}
    spec = TensorSpec(name="tokens", datatype="FP32", shape=x.shape, coded=True)
    packs = next(each for each in BUILT_IN if each.name == codec)
    return packs.pack({"tokens": x}, [spec])


@contextmanager
def served(tmp_path: Path, **settings: Any) -> Iterator[MarketServer]:
    """A market served by a thread of this process."""
    job = settings.pop("job", None)
    price = settings.pop("price", 1.0)
    mechanism = settings.pop("mechanism", None) or FixedPrice(price=price, steps_max=LAYERS)
    config: dict[str, Any] = {
        "ledger_url": f"sqlite:///{tmp_path / 'ledger.db'}",
        "port": 0,
        "ready_file": tmp_path / "ready.json",
        "enrol_tokens": tuple(f"once-{i}" for i in range(64)),
        "audit_probability": 0.0,
        "repeat_rounds": 0,
        "commit_timeout_s": 300.0,
    } | settings
    server = MarketServer(ServeConfig(**config), mechanism, job=job)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Waits for a condition, and fails if it does not come."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.01)


class Processes:
    """Servers and devices as processes of their own; what is left of them ends with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.ledger_url = f"sqlite:///{folder / 'ledger.db'}"
        self._stack = stack
        self._count = 0

    def server(self, **settings: Any) -> tuple[subprocess.Popen[str], str]:
        """Starts a server; returns it and its URL."""
        self._count += 1
        ready = self.folder / f"ready-{self._count}.json"
        config = {
            "ledger_url": self.ledger_url,
            "port": 0,
            "ready_file": str(ready),
            "enrol_tokens": ["once-0", "once-1", "once-2"],
            "commit_timeout_s": PATIENCE_S,
            "round_timeout_s": PATIENCE_S,
            "repeat_rounds": 0,  # devices of tests share the sample images
        } | settings
        process = self._start(_SERVE, config)
        wait_until(lambda: ready.exists() or process.poll() is not None)
        assert ready.exists(), process.communicate()[1]
        return process, json.loads(ready.read_text())["url"]

    def status(self, url: str) -> dict[str, Any]:
        """The market at a glance, as the operator of the last server sees it."""
        told = json.loads((self.folder / f"ready-{self._count}.json").read_text())
        shown = {"Authorization": f"Bearer {told['operator_token']}"}
        answer = httpx.get(f"{url}/market/status", timeout=PATIENCE_S, headers=shown)
        return dict(answer.raise_for_status().json())

    def server_that_fails(self, **settings: Any) -> subprocess.Popen[str]:
        """Starts a server that is not expected to answer."""
        config = {"ledger_url": self.ledger_url, "ready_file": str(self.folder / "no")} | settings
        return self._start(_SERVE, config)

    def device(self, url: str, index: int, **settings: Any) -> subprocess.Popen[str]:
        """Starts device `cam-<index>`; with `cheat`, one that cheats in this way."""
        config = {
            "server_url": url,
            "name": f"cam-{index}",
            "enrol_token": f"once-{index}",
            "inputs": str(samples()),
            "results": str(self.results(index)),
            "token_file": str(self.folder / f"cam-{index}.token"),
            "away_timeout_s": PATIENCE_S,
            **DEVICE,
        } | settings
        return self._start(_DEVICE, config)

    def results(self, index: int) -> Path:
        """The results file of a device."""
        return self.folder / f"cam-{index}.jsonl"

    def lines(self, index: int) -> list[dict[str, Any]]:
        """What a device has written, unfinished lines left out; as it was added."""
        path = self.results(index)
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def pieces(self, index: int) -> list[dict[str, Any]]:
        """The last line of each piece of a device."""
        return list({line["piece"]: line for line in self.lines(index)}.values())

    def _start(self, code: str, config: dict[str, Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, json.dumps(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self._stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


def finish(process: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> tuple[str, str]:
    """Waits for a process to end by itself; returns what it said."""
    return process.communicate(timeout=timeout_s)
