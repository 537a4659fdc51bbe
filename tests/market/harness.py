"""Real markets for tests: in a thread of this process, and as processes of their own.

Imported as `tests.market.harness`: pytest puts the root of the project on the path when it is
started as `python -m pytest`.
"""

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

from edgepact.inference.codec import encode
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.market import protocol
from edgepact.market.protocol import TensorValue
from edgepact.market.rounds import FixedPrice
from edgepact.market.server import MarketServer, ServeConfig

PATIENCE_S = 300.0
"""The end of all patience; nothing here is expected to take long."""

# What a device process needs for A*L + B of the embedded model does not matter here: with
# these numbers the price alone decides.
DEVICE = {"alpha": 1.0, "capacity": 20.0, "A": 1.0, "B": 1.0}

_SERVE = """
import json, sys
from pathlib import Path
from edgepact.errors import EdgepactError
from edgepact.inference.models import embedded
from edgepact.market.rounds import FixedPrice
from edgepact.market.server import ServeConfig, serve
c = json.loads(sys.argv[1])
c["ready_file"] = Path(c["ready_file"])
c["enrol_tokens"] = tuple(c.get("enrol_tokens", ()))
price = c.pop("price", 1.0)
try:
    serve(ServeConfig(model_dir=embedded(), **c), FixedPrice(price))
except EdgepactError as error:
    sys.exit(f"error: {error}")
"""

_DEVICE = """
import json, sys
from pathlib import Path
from edgepact.errors import EdgepactError
from edgepact.inference.models import embedded
from edgepact.market.device import DeviceConfig, run_device
c = json.loads(sys.argv[1])
for field in ("images", "results", "token_file"):
    if field in c:
        c[field] = Path(c[field])
try:
    summary = run_device(DeviceConfig(model_dir=embedded(), **c))
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
        """Commits."""
        return self.http.post("/market/commit", json={"round": round, "layers": layers})

    def infer(
        self, layers: int, round: int, job: str, inputs: dict[str, TensorValue]
    ) -> httpx.Response:
        """Sends a job."""
        body, length = protocol.encode_request(job, inputs, {"round": round})
        return self.http.post(
            f"/v2/models/fashion-clip-cut-{layers}/infer",
            content=body,
            headers={protocol.HEADER_LENGTH: str(length)},
        )

    def audit(self, job: str, image: bytes) -> httpx.Response:
        """Shows an image."""
        return self.http.post("/market/audit", params={"job": job}, content=image)


def parameters(answer: httpx.Response) -> dict[str, Any]:
    """The parameters of an inference response."""
    assert answer.status_code == 200, answer.text
    header = answer.headers.get(protocol.HEADER_LENGTH)
    return dict(protocol.decode_response(answer.content, header).parameters)


def image(index: int = 0) -> bytes:
    """One of the sample images."""
    return sorted(samples().glob("*/*.png"))[index].read_bytes()


def inputs_at(
    pipeline: Pipeline, layers: int, picture: bytes, codec: str = "int8"
) -> dict[str, TensorValue]:
    """What an honest device sends."""
    if layers == 0:
        return {"image": (picture,)}
    x = pipeline.device_part(preprocess(picture, pipeline.info), layers)
    return {"vector": x} if layers == pipeline.layers_max else dict(encode(x, codec))


@contextmanager
def served(tmp_path: Path, **settings: Any) -> Iterator[MarketServer]:
    """A market served by a thread of this process."""
    pricer = settings.pop("pricer", None) or FixedPrice(settings.pop("price", 1.0))
    config: dict[str, Any] = {
        "model_dir": embedded(),
        "ledger_url": f"sqlite:///{tmp_path / 'ledger.db'}",
        "port": 0,
        "ready_file": tmp_path / "ready.json",
        "enrol_tokens": tuple(f"once-{i}" for i in range(64)),
        "audit_probability": 0.0,
        "commit_timeout_s": 300.0,
    } | settings
    server = MarketServer(ServeConfig(**config), pricer)
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
        } | settings
        process = self._start(_SERVE, config)
        wait_until(lambda: ready.exists() or process.poll() is not None)
        assert ready.exists(), process.communicate()[1]
        return process, json.loads(ready.read_text())["url"]

    def server_that_fails(self, **settings: Any) -> subprocess.Popen[str]:
        """Starts a server that is not expected to answer."""
        config = {"ledger_url": self.ledger_url, "ready_file": str(self.folder / "no")} | settings
        return self._start(_SERVE, config)

    def device(self, url: str, index: int, **settings: Any) -> subprocess.Popen[str]:
        """Starts device `cam-<index>`."""
        config = {
            "server_url": url,
            "name": f"cam-{index}",
            "enrol_token": f"once-{index}",
            "images": str(samples()),
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
        """What a device has written, unfinished lines left out."""
        path = self.results(index)
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

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
