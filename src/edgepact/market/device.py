"""The device process: decides for itself how much to work, works, and is paid.

A device knows what the server does not: how much its computing is worth to it and how much it
has. From each offer it takes the number of layers that is best for itself, runs them on its own
images, and sends the activation; the server finishes. One line of JSON per image goes to the
results file.

It needs ONNX Runtime, NumPy, Pillow and an HTTP client, nothing more: no JAX, no database.

A job's id follows from round and image, so that whatever is sent again, after a timeout or a
restart of either side, is the same job and is paid once. If the server stays away, the device
finishes the image at hand by itself where it has the capacity for the whole model, and ends.
"""

import io
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import numpy as np
from PIL import Image

from edgepact.errors import InputError, MarketError
from edgepact.inference.codec import CODECS, encode
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.market import protocol
from edgepact.market.protocol import MICRO, CommitRequest, EnrolRequest, NoOffer, Offer
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
IMAGES_MAX = 1_000_000
JPEG_QUALITY = 90

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
"""Longest wait for any answer; the server holds a poll open for less."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
LEAVE_TIMEOUT_S = 2.0

# Answers after which the same request may succeed.
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """One device.

    Args:
        server_url: where the server answers, such as `http://127.0.0.1:8080`.
        name: letters, digits, `.`, `_`, `-`.
        model_dir: the model directory.
        images: folder of images, flat or with one folder for each class.
        results: file to which a line of JSON is added for each image.
        alpha: weight of satisfaction, credits.
        capacity: W, GMAC per image.
        A: GMAC per layer.
        B: GMAC before the first layer.
        satisfaction: family of S: `log1p`, `log`, `sqrt` or `exp`.
        layers_max: most layers it would ever run; None for the model's.
        enrol_token: one-time token; not needed if `token_file` holds a token.
        token_file: where the device's own token is kept over restarts.
        codec: how activations are sent: `int8`, `fp16` or `fp32`.
        seed: order of the images.
        away_timeout_s: how long to go on asking a server that does not answer, seconds.

    Raises:
        InputError: a value that cannot be.
    """

    server_url: str
    name: str
    model_dir: Path
    images: Path
    results: Path
    alpha: float
    capacity: float
    A: float
    B: float
    satisfaction: str = "log1p"
    layers_max: int | None = None
    enrol_token: str | None = None
    token_file: Path | None = None
    codec: str = "int8"
    seed: int = 0
    away_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        protocol.check_name("device", self.name)
        for field, fits, expected in (
            ("server_url", _is_http_url(self.server_url), "a URL such as http://127.0.0.1:8080"),
            ("alpha", 0 < self.alpha < np.inf, "a number above 0"),
            ("capacity", 0 <= self.capacity < np.inf, "a number from 0"),
            ("A", 0 < self.A < np.inf, "a number above 0"),
            ("B", 0 <= self.B < np.inf, "a number from 0"),
            ("satisfaction", self.satisfaction in FAMILIES, f"one of {', '.join(FAMILIES)}"),
            ("layers_max", self.layers_max is None or self.layers_max >= 0, "0 or more"),
            ("codec", self.codec in CODECS, f"one of {', '.join(CODECS)}"),
            ("away_timeout_s", 0 < self.away_timeout_s <= 86400, "0 to 86400 seconds"),
        ):
            if not fits:
                raise InputError("device", field, expected, getattr(self, field))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """What a device has done from start to end.

    Args:
        rounds: rounds it took part in.
        images: images the server has finished for it.
        paid_microcredits: what it has earned.
    """

    rounds: int
    images: int
    paid_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """One line of the results file. If a job has several, the last one counts.

    Args:
        round: the round.
        job: the job's id.
        file: the image, relative to the image folder.
        label_true: its class as its folder says; None in a flat folder.
        label_predicted: its class as the model says.
        layers: layers run by the device.
        codec: how the activation was sent; None at the first and last cut.
        device_seconds: reading, preprocessing and the device's layers.
        encode_seconds: codec and request.
        roundtrip_seconds: from sending to the answer, repetitions included; None if none came.
        attempts: how often the request was sent.
        server_seconds: in the server, from the whole request to the answer.
        compute_seconds: of these, computing.
        bytes_sent: HTTP body.
        image_bytes: the image's file.
        jpeg_bytes: the image as a JPEG of quality 90.
        state: `paid`, `forfeit`, `held` (its audit was not finished) or `unpaid`.
        audited: whether the server has audited it.
        paid_microcredits: what it has earned.
    """

    round: int
    job: str
    file: str
    label_true: str | None
    label_predicted: str | None
    layers: int
    codec: str | None
    device_seconds: float
    encode_seconds: float
    roundtrip_seconds: float | None
    attempts: int
    server_seconds: float | None
    compute_seconds: float | None
    bytes_sent: int
    image_bytes: int
    jpeg_bytes: int
    state: str
    audited: bool
    paid_microcredits: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file and the class it stands for, if its folder says."""

    path: Path
    label: str | None


def best_layers(
    price: float,
    *,
    alpha: float,
    capacity: float,
    A: float,
    B: float,
    satisfaction: str,
    layers_max: int,
) -> int:
    r"""The number of layers that is best for the device itself.

    Maximises $P L + \alpha S(W - A L - B)$ over all $L$ it has the capacity for, by trying
    each. Of several equally good ones it takes the largest; equally good is what differs by
    less than the price can be told, a micro-credit per layer. A device that cannot even embed
    the image ($W < B$) takes no part: 0.

    Args:
        price: $P$, credits per layer and image.
        alpha: $\alpha$, credits.
        capacity: $W$, GMAC.
        A: GMAC per layer.
        B: GMAC before the first layer.
        satisfaction: family of $S$.
        layers_max: most layers there are.

    Example:
        >>> device = dict(alpha=3.0, capacity=4.2, A=0.3577, B=0.1156, satisfaction="log1p")
        >>> [best_layers(price, **device, layers_max=12) for price in (0.0, 0.3, 3.0)]
        [0, 4, 11]
    """
    if capacity < B:
        return 0
    layers = np.arange(min(layers_max, int((capacity - B) / A)) + 1)
    left = np.maximum(capacity - A * layers - B, 0.0)
    utility = price * layers + alpha * FAMILIES[satisfaction].value(left)
    return int(np.flatnonzero(utility >= utility.max() - layers_max / MICRO)[-1])


def find_images(folder: Path) -> list[Picture]:
    """Images of a folder: flat, or one folder for each class; in the order of their names.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(folder, "", "a folder of images", "no such folder")
    classes = [(path, path.name) for path in sorted(folder.iterdir()) if path.is_dir()]
    pictures = [
        Picture(path, label)
        for place, label in [(folder, None), *classes]
        for path in sorted(place.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    if not 1 <= len(pictures) <= IMAGES_MAX:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(
            folder, "", f"1 to {IMAGES_MAX} images ({kinds})", f"{len(pictures)} images"
        )
    return pictures


def run_device(config: DeviceConfig) -> DeviceSummary:
    """Takes part in a market until it is over or the process is told to stop.

    SIGINT and SIGTERM let the image at hand finish.

    Raises:
        InputError: the images, the model or the results file cannot be used.
        MarketError: the server refused the device, or stayed away too long.
    """
    pictures = find_images(config.images)
    # With its name, so that devices of one seed do not all send the same images.
    random.Random(f"{config.seed} {config.name}").shuffle(pictures)
    pipeline = Pipeline(config.model_dir)
    with _Results(config.results) as results, _Stop() as stop, _Link(config, stop) as link:
        worker = _Worker(config, pictures, pipeline, results, stop, link)
        try:
            worker.take_part()
        except _Stopped:
            pass
        finally:
            link.leave()
    return DeviceSummary(
        rounds=worker.rounds, images=worker.images, paid_microcredits=worker.paid_microcredits
    )


# ---------------------------------------------------------------- private


class _Stopped(Exception):
    """SIGINT or SIGTERM has come while the device was only waiting."""


class _ServerAway(Exception):
    """The server has not answered for too long."""


class _Refused(Exception):
    """The market has refused a request for a reason that time does not change."""


class _Stop:
    """Turns SIGINT and SIGTERM into a request to stop, and ends only waits at once.

    An image that is being worked on is finished first, so that the results file tells all that
    was paid.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Stop":
        # Only the main thread may listen to signals; elsewhere nobody sends any.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside may be broken off.

        Raises:
            _Stopped: a signal has come.
        """
        self._waiting = True
        try:
            if self.requested:
                raise _Stopped
            yield
        finally:
            self._waiting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._waiting:
            self._waiting = False
            raise _Stopped


class _Link:
    """One persistent connection to the server, with bounded patience."""

    def __init__(self, config: DeviceConfig, stop: _Stop) -> None:
        self._config = config
        self._stop = stop
        self._jitter = random.Random()
        self._enrolled = False
        self._client = httpx.Client(
            base_url=config.server_url,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,  # no proxy stands between a device and its edge server
        )

    def __enter__(self) -> "_Link":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def enrol(self) -> None:
        """Shows the token of an earlier run, or gets one."""
        config = self._config
        token = _stored_token(config.token_file)
        if token is None:
            if config.enrol_token is None:
                raise InputError("device", "enrol_token", "a one-time token", "none")
            request = EnrolRequest(token=config.enrol_token, name=config.name)
            answer = self.ask("POST", "/market/enrol", message=request.as_json())
            value = answer.get("device_token")
            if not isinstance(value, str):
                raise MarketError("the server answered the enrolment without a token")
            token = value
            _store_token(config.token_file, token)
        self._client.headers["Authorization"] = f"Bearer {token}"
        self._enrolled = True

    def ask(
        self,
        method: str,
        path: str,
        *,
        message: Mapping[str, object] | None = None,
    ) -> dict[str, object]:
        """A market message and its answer; waits for it may be broken off by a signal."""
        body = None if message is None else json.dumps(message).encode()
        headers = {"Content-Type": protocol.JSON_TYPE}
        response, _ = self.send(method, path, body, headers, breakable=True)
        # Offers list the jobs done, so they may be larger than other messages.
        return protocol.read_object("server", response.content, protocol.BODY_BYTES_MAX)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        breakable: bool = False,
    ) -> tuple[httpx.Response, int]:
        """Sends a request until it is answered.

        Returns:
            The answer, and how often the request was sent.

        Raises:
            _Refused: the server does not want it.
            _ServerAway: no answer within `away_timeout_s`.
        """
        end_s = time.monotonic() + self._config.away_timeout_s
        backoff_s = BACKOFF_FIRST_S
        attempts = 0
        while True:
            attempts += 1
            response = self._once(method, path, body, headers, breakable=breakable)
            if response is not None and response.is_success:
                return response, attempts
            if response is not None and response.status_code not in _TRY_AGAIN:
                raise _Refused(_reason(response))
            # Half of the pause is random, so that devices do not all come back at once.
            pause_s = backoff_s * (0.5 + 0.5 * self._jitter.random())
            if time.monotonic() + pause_s > end_s:
                raise _ServerAway("no answer" if response is None else _reason(response))
            with self._stop.waiting():
                time.sleep(pause_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def leave(self) -> None:
        """Says good-bye, if the server still listens."""
        if self._enrolled:
            with suppress(httpx.HTTPError):
                self._client.post("/market/leave", timeout=LEAVE_TIMEOUT_S)

    def gone(self) -> None:
        """Notes that there is nobody to say good-bye to."""
        self._enrolled = False

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        breakable: bool,
    ) -> httpx.Response | None:
        try:
            if not breakable:
                return self._client.request(method, path, content=body, headers=headers)
            with self._stop.waiting():
                return self._client.request(method, path, content=body, headers=headers)
        except httpx.TransportError:
            return None
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise MarketError(f"{self._config.server_url}: {error}") from None


class _Results:
    """The results file; lines of an earlier run of this device stay."""

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            self._file = path.open("a", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(path, "", "a file to write results to", str(error)) from None
        if text and not text.endswith("\n"):
            self._file.write("\n")  # a line cut short by a crash ends here
        self._settled = set(_settled_jobs(text))

    def __enter__(self) -> "_Results":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, job: str) -> bool:
        """Whether an earlier line tells the end of this job."""
        return job in self._settled

    def add(self, result: ImageResult) -> None:
        """Adds a line, at once."""
        self._file.write(json.dumps(asdict(result)) + "\n")
        self._file.flush()


class _Worker:
    """A device at work."""

    def __init__(
        self,
        config: DeviceConfig,
        pictures: list[Picture],
        pipeline: Pipeline,
        results: _Results,
        stop: _Stop,
        link: _Link,
    ) -> None:
        self._config = config
        self._pictures = pictures
        self._pipeline = pipeline
        self._results = results
        self._stop = stop
        self._link = link
        self.rounds = 0
        self.images = 0
        self.paid_microcredits = 0

    def take_part(self) -> None:
        """Round after round until the market is over or a signal comes."""
        try:
            self._link.enrol()
            after = 0
            while not self._stop.requested:
                answer = protocol.read_offer(self._link.ask("GET", f"/market/offer?after={after}"))
                if isinstance(answer, NoOffer):
                    if answer.state == "over":
                        return
                    continue
                after = answer.round
                # A refusal within a round concerns this round: it has ended without us.
                with suppress(_Refused):
                    self._work(answer)
        except _Refused as error:
            raise MarketError(f"{self._config.server_url}: {error}") from None
        except _ServerAway as error:
            self._link.gone()
            raise MarketError(
                f"{self._config.server_url} has not answered for "
                f"{self._config.away_timeout_s:g} s ({error}); {self._config.name} ends"
            ) from None

    def _work(self, offer: Offer) -> None:
        """Commits to an offer and delivers its images."""
        config, info = self._config, self._pipeline.info
        if (offer.model, offer.layers_max) != (info.name, info.layers_max):
            raise MarketError(
                f"the server offers {offer.model} with {offer.layers_max} layers, "
                f"{config.name} holds {info.name} with {info.layers_max}"
            )
        if config.codec not in offer.codecs:
            raise MarketError(f"the server does not take the codec {config.codec}")
        layers = offer.committed
        if layers is None:
            most = offer.layers_max
            layers = best_layers(
                offer.price,
                alpha=config.alpha,
                capacity=config.capacity,
                A=config.A,
                B=config.B,
                satisfaction=config.satisfaction,
                layers_max=most if config.layers_max is None else min(most, config.layers_max),
            )
            request = CommitRequest(round=offer.round, layers=layers)
            self._link.ask("POST", "/market/commit", message=request.as_json())
        self._pipeline.load(self._pipeline.device_stages(layers))
        self.rounds += 1
        known = set(offer.jobs_done)
        for index in range(offer.images_per_round):
            job = f"{offer.round}-{index}"
            if job in known and self._results.has(job):
                continue
            if self._stop.requested:
                return
            at = (offer.round - 1) * offer.images_per_round + index
            self._image(offer, layers, job, self._pictures[at % len(self._pictures)])

    def _image(self, offer: Offer, layers: int, job: str, picture: Picture) -> None:
        """One job: the device's part, the request, the result."""
        path = f"/v2/models/{offer.model}-cut-{layers}/infer"
        start_s = time.perf_counter()
        image = _read(picture.path)
        read_s = time.perf_counter() - start_s
        jpeg_bytes = _jpeg_bytes(picture.path, image)
        start_s = time.perf_counter()
        boundary = None
        if layers > 0:
            boundary = self._pipeline.device_part(preprocess(image, self._pipeline.info), layers)
        worked_s = time.perf_counter()
        body, header_length = protocol.encode_request(
            job, self._encode(image, boundary, layers), {"round": offer.round}
        )
        headers = {
            protocol.HEADER_LENGTH: str(header_length),
            "Content-Type": protocol.BINARY_TYPE,
        }
        encoded_s = time.perf_counter()
        label, roundtrip_s, attempts = None, None, 0
        told: dict[str, object] = {"state": "unpaid"}
        away = None
        try:
            response, attempts = self._link.send("POST", path, body, headers)
            roundtrip_s = time.perf_counter() - encoded_s
            answer = protocol.decode_response(
                response.content, response.headers.get(protocol.HEADER_LENGTH)
            )
            told, label = answer.parameters, str(answer.parameters.get("label"))
            if told.get("audit") is True:
                told = told | self._audited(job, image)
        except _ServerAway as error:
            away = error
            label = self._finish_alone(image) if label is None else label
        paid = told.get("paid_microcredits", 0)
        result = ImageResult(
            round=offer.round,
            job=job,
            file=picture.path.relative_to(self._config.images).as_posix(),
            label_true=picture.label,
            label_predicted=label,
            layers=layers,
            codec=self._config.codec if 0 < layers < offer.layers_max else None,
            device_seconds=read_s + worked_s - start_s,
            encode_seconds=encoded_s - worked_s,
            roundtrip_seconds=roundtrip_s,
            attempts=attempts,
            server_seconds=_seconds(told.get("server_seconds")),
            compute_seconds=_seconds(told.get("compute_seconds")),
            bytes_sent=len(body),
            image_bytes=len(image),
            jpeg_bytes=jpeg_bytes,
            state=str(told.get("state")),
            audited=told.get("audited") is True,
            paid_microcredits=paid if isinstance(paid, int) else 0,
        )
        self._results.add(result)
        if roundtrip_s is not None:
            self.images += 1
            self.paid_microcredits += result.paid_microcredits
        if away is not None:
            raise away

    def _audited(self, job: str, image: bytes) -> dict[str, object]:
        """Shows the image of a job the server has picked, and hears what becomes of it."""
        headers = {"Content-Type": protocol.BINARY_TYPE}
        response, _ = self._link.send("POST", f"/market/audit?job={job}", image, headers)
        return {**protocol.read_object("server", response.content), "audited": True}

    def _encode(
        self, image: bytes, boundary: np.ndarray | None, layers: int
    ) -> dict[str, protocol.TensorValue]:
        if boundary is None:
            return {"image": (image,)}
        if layers == self._pipeline.layers_max:
            return {"vector": boundary}
        return dict(encode(boundary, self._config.codec))

    def _finish_alone(self, image: bytes) -> str | None:
        """The whole model on the device, if its capacity is enough for it."""
        config, layers_max = self._config, self._pipeline.layers_max
        if config.capacity < config.A * layers_max + config.B:
            return None
        vector = self._pipeline.device_part(preprocess(image, self._pipeline.info), layers_max)
        classes = KnowledgeBase.from_texts(config.model_dir)
        return classes.labels[int(np.argmax(classes.classify(vector)[0]))]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, "", "an image file", error.strerror or "nothing") from None


def _jpeg_bytes(path: Path, image: bytes) -> int:
    """Size of the image as a JPEG: what sending the picture itself would have cost."""
    buffer = io.BytesIO()
    try:
        opened = Image.open(io.BytesIO(image))
        opened.convert("L" if opened.mode in ("1", "L", "LA") else "RGB").save(
            buffer, "JPEG", quality=JPEG_QUALITY
        )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError(path, "", "an image file", "bytes that cannot be decoded") from None
    return buffer.tell()


def _is_http_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _reason(response: httpx.Response) -> str:
    """The server's own words, if it has found any."""
    try:
        return str(protocol.read_object("server", response.content)["error"])
    except (InputError, KeyError):
        return f"HTTP status {response.status_code}"


def _settled_jobs(text: str) -> Iterator[str]:
    """Jobs whose end is told in the lines of an earlier run."""
    for line in text.splitlines():
        with suppress(ValueError, AttributeError, RecursionError):
            row = json.loads(line)
            if row.get("state") in ("paid", "forfeit"):
                yield str(row.get("job"))


def _stored_token(path: Path | None) -> str | None:
    if path is None or not path.exists():
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not 1 <= len(token) <= protocol.TOKEN_CHARS_MAX:
        raise InputError(path, "", "a device token", "something else")
    return token


def _store_token(path: Path | None, token: str) -> None:
    """Keeps a token where only its owner can read it."""
    if path is None:
        return
    try:
        part = path.with_name(path.name + ".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token + "\n")
        part.replace(path)
    except OSError as error:
        raise InputError(path, "", "a place to keep the token", str(error.strerror)) from None
