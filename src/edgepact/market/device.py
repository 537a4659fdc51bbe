"""The device process: decides for itself how much to work, works, and is paid.

A device knows what the server does not: how much its computing is worth to it and how much it
has. To each question it gives the answer that is best for itself, does its part of the pieces it
has, whatever the job, and hears what the server makes of them. One line of JSON a piece goes to
the results file.

It needs NumPy, an HTTP client and what its job needs, nothing more: no JAX, no database.

A piece's id follows from round and place, so that whatever is sent again, after a timeout or a
restart of either side, is the same piece and is paid once. If the server stays away, the device
finishes the piece at hand by itself where it has the capacity for the whole model, and ends.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from edgepact import registry
from edgepact.engagement import Answer, chosen, truthful_bids
from edgepact.errors import InputError, MarketError
from edgepact.market.device_config import DeviceConfig
from edgepact.market.evidence import cut_name, unpacked
from edgepact.market.own_cost import computing_cost
from edgepact.market.protocol import messages, oip
from edgepact.market.protocol.messages import (
    Commitment,
    CommitRequest,
    EnrolRequest,
    NoOffer,
    Offer,
)
from edgepact.market.protocol.oip import BODY_BYTES_MAX
from edgepact.tensors import Codec, Tensors
from edgepact.work import DevicePart, Job, Json, Reply, ServerAway, SessionLost

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
"""Longest wait for any answer; the server holds a poll open for less."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
LEAVE_TIMEOUT_S = 2.0

RESTARTS_MAX = 10
"""How often a piece is begun again whose session was lost."""

# Answers after which the same request may succeed.
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})

# Answers that concern the piece alone: what it brought cannot be used.
_NO_GOOD = frozenset({400, 413})

_MARKETS_OWN = frozenset(
    {"finished", "state", "audit", "units", "paid_microcredits", "repeated", "exchange"}
    | {"compute_seconds", "server_seconds"}
)
"""Parameters of a response that are not the job's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """What a device has done from start to end.

    Attributes:
        rounds: rounds it took part in.
        units: units of work, such as images, that the server has finished for it.
        paid_microcredits: what it has earned.
    """

    rounds: int
    units: int
    paid_microcredits: int


@dataclass(slots=True, kw_only=True)
class PieceResult:
    """One line of the results file. If a piece has several, the last one counts.

    Attributes:
        round: the round.
        piece: its id.
        amount: of it that the device does, such as layers.
        units: that the server has counted.
        codec: how its tensors were sent; None where none was coded.
        exchanges: that were answered.
        device_seconds: in the device's part.
        encode_seconds: codec and request.
        roundtrip_seconds: from sending to the answer, repetitions included; None if none came.
        attempts: how often a request was sent.
        server_seconds: in the server, from the whole request to the answer.
        compute_seconds: of these, computing.
        bytes_sent: HTTP bodies.
        state: `paid`, `forfeit`, `held` (its audit was not finished) or `unpaid`.
        audited: whether the server has audited it.
        paid_microcredits: what it has earned.
        own: fields of the job.
    """

    round: int
    piece: str
    amount: int
    units: int = 0
    codec: str | None = None
    exchanges: int = 0
    device_seconds: float = 0.0
    encode_seconds: float = 0.0
    roundtrip_seconds: float | None = None
    attempts: int = 0
    server_seconds: float | None = None
    compute_seconds: float | None = None
    bytes_sent: int = 0
    state: str = "unpaid"
    audited: bool = False
    paid_microcredits: int = 0
    own: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """The line; the job's fields among the others."""
        names = [name for name in self.__slots__ if name != "own"]
        return {name: getattr(self, name) for name in names} | dict(self.own)


def run_device(config: DeviceConfig, *, job: Job | None = None) -> DeviceSummary:
    """Takes part in a market until it is over or the process is told to stop.

    SIGINT and SIGTERM let the piece at hand finish.

    Args:
        config: the device.
        job: what is done; None for the installed one that `config` names.

    Raises:
        InputError: the inputs, the model or the results file cannot be used.
        MarketError: the server refused the device, or stayed away too long.
    """
    job = job or registry.part("jobs", config.job, source="device", field="job")
    part = job.device_part(config.model, config.inputs, config.job_settings)
    pieces = list(part.pieces())
    # With its name, so that devices of one seed do not all send the same pieces.
    random.Random(f"{config.seed} {config.name}").shuffle(pieces)
    codec = registry.part("codecs", config.codec or job.codecs[0], source="device", field="codec")
    path = config.results or Path(f"{config.name}.jsonl")
    with _Results(path) as results, _Stop() as stop, _Link(config, stop) as link:
        worker = _Worker(config, job.name, part, pieces, codec, results, stop, link)
        try:
            worker.take_part()
        except _Stopped:
            pass
        finally:
            link.leave()
    return DeviceSummary(
        rounds=worker.rounds, units=worker.units, paid_microcredits=worker.paid_microcredits
    )


# ---------------------------------------------------------------- private


class _Stopped(Exception):
    """SIGINT or SIGTERM has come while the device was only waiting."""


class _Refused(Exception):
    """The market has refused a request for a reason that time does not change.

    Args:
        reason: in its own words.
        status: HTTP status.
        lost: whether the piece has to be begun again.
    """

    def __init__(self, reason: str, status: int, *, lost: bool) -> None:
        super().__init__(reason)
        self.status, self.lost = status, lost


class _Stop:
    """Turns SIGINT and SIGTERM into a request to stop, and ends only waits at once.

    A piece that is being worked on is finished first, so that the results file tells all that
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
        headers = {"Content-Type": messages.JSON_TYPE}
        response, _ = self.send(method, path, body, headers, breakable=True)
        # Offers list the pieces done, so they may be larger than other messages.
        return messages.read_object("server", response.content, BODY_BYTES_MAX)

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
            ServerAway: no answer within `away_timeout_s`.
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
                raise _refusal(response)
            # Half of the pause is random, so that devices do not all come back at once.
            pause_s = backoff_s * (0.5 + 0.5 * self._jitter.random())
            if time.monotonic() + pause_s > end_s:
                raise ServerAway("no answer" if response is None else _reason(response))
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
        self._settled = set(_settled_pieces(text))

    def __enter__(self) -> "_Results":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, piece: str) -> bool:
        """Whether an earlier line tells the end of this piece."""
        return piece in self._settled

    def add(self, result: PieceResult) -> None:
        """Adds a line, at once."""
        self._file.write(json.dumps(result.as_json()) + "\n")
        self._file.flush()


class _Worker:
    """A device at work."""

    def __init__(
        self,
        config: DeviceConfig,
        job: str,
        part: DevicePart,
        pieces: list[Any],
        codec: Codec,
        results: _Results,
        stop: _Stop,
        link: _Link,
    ) -> None:
        self._config = config
        self._job = job
        self._part = part
        self._pieces = pieces
        self._codec = codec
        self._results = results
        self._stop = stop
        self._link = link
        self._useless: dict[int, Exception] = {}  # places of pieces that cannot be worked on
        self.rounds = 0
        self.units = 0
        self.paid_microcredits = 0

    def take_part(self) -> None:
        """Round after round until the market is over or a signal comes."""
        try:
            self._link.enrol()
            after = 0
            while not self._stop.requested:
                answer = messages.read_offer(self._link.ask("GET", f"/market/offer?after={after}"))
                if isinstance(answer, NoOffer):
                    if answer.state == "over":
                        return
                    continue
                self._expect_the_same(answer)
                # A refusal within a round concerns this round: it has ended without us.
                try:
                    amount = self._amount(answer)
                    if amount is None:
                        continue  # others are awaited: the next poll tells
                    after = answer.round
                    self._work(answer, amount)
                except _Refused:
                    after = answer.round
        except _Refused as error:
            raise MarketError(f"{self._config.server_url}: {error}") from None
        except ServerAway as error:
            self._link.gone()
            raise MarketError(
                f"{self._config.server_url} has not answered for "
                f"{self._config.away_timeout_s:g} s ({error}); {self._config.name} ends"
            ) from None

    def _expect_the_same(self, offer: Offer) -> None:
        """Before any work: both sides have to mean the same job, model and codec.

        Raises:
            MarketError: they do not.
        """
        name, theirs, own = self._config.name, offer.model, self._part.model
        if offer.job != self._job:
            raise MarketError(f"the server offers the job {offer.job}, {name} does {self._job}")
        if (theirs.name, theirs.amount_max) != (own.name, own.amount_max):
            raise MarketError(
                f"the server offers {theirs.name} with {theirs.amount_max} steps, "
                f"{name} holds {own.name} with {own.amount_max}"
            )
        if theirs.digest and own.digest and theirs.digest != own.digest:
            raise MarketError(
                f"{name} holds other weights of {own.name} than the server: digest "
                f"{own.digest[:12]} here, {theirs.digest[:12]} there; its work would fail every "
                "audit, so give both the same model folder"
            )
        if self._codec.name not in offer.codecs:
            raise MarketError(f"the server does not take the codec {self._codec.name}")

    def _amount(self, offer: Offer) -> int | None:
        """What the device works in this round, once that is settled."""
        assigned = offer.assigned
        if offer.standing == "asked":
            request = CommitRequest(round=offer.round, answer=self._answer(offer))
            told = self._link.ask("POST", "/market/commit", message=request.as_json())
            assigned = Commitment.from_json(told).assigned
        if assigned is None:
            return None
        if assigned.amount > offer.model.amount_max:
            raise MarketError(f"the server assigns an amount of {assigned.amount:g}")
        return int(assigned.amount)

    def _answer(self, offer: Offer) -> Answer:
        """What is best for the device itself."""
        config, question = self._config, offer.question
        cost = computing_cost(
            alpha=config.alpha,
            capacity=config.capacity,
            A=config.A,
            B=config.B,
            satisfaction=config.satisfaction,
            layers_max=config.layers_max,
        )
        return Answer(
            item=chosen(question, cost),
            bids_microcredits=truthful_bids(question.bid_amounts, cost),
        )

    def _work(self, offer: Offer, amount: int) -> None:
        """Delivers the units of a round."""
        self._part.prepare(amount)
        self.rounds += 1
        done = sum(offer.pieces_done.values())
        again = {name for name in offer.pieces_done if not self._results.has(name)}
        for index in count():
            if self._stop.requested or (done >= offer.units_per_round and not again):
                return
            name = f"{offer.round}-{index}"
            known = name in offer.pieces_done
            if (known and name not in again) or (not known and done >= offer.units_per_round):
                if index > len(offer.pieces_done) + len(self._pieces) + offer.units_per_round:
                    return  # what is still to be told has an id of somebody else's making
                continue
            again.discard(name)
            at = ((offer.round - 1) * offer.units_per_round + index) % len(self._pieces)
            if at in self._useless:
                continue
            try:
                units = self._piece(offer, amount, name, self._pieces[at])
            except _Useless as error:
                self._pass_over(at, error.why)
                continue
            done += 0 if known else units

    def _pass_over(self, at: int, why: Exception) -> None:
        """Notes and tells that a piece cannot be worked on.

        Raises:
            InputError: so it is with every piece.
            MarketError: likewise.
        """
        self._useless[at] = why
        if len(self._useless) == len(self._pieces):
            if isinstance(why, InputError):
                raise why
            raise MarketError(f"{self._config.server_url}: {why}")
        print(f"{self._config.name}: passed over: {why}", file=sys.stderr, flush=True)

    def _piece(self, offer: Offer, amount: int, name: str, piece: Any) -> int:
        """One piece: the device's part, its exchanges, the result; returns its units.

        Raises:
            _Useless: it cannot be worked on.
            _Refused: the round has ended.
            ServerAway: the server has not answered for too long.
        """
        result = PieceResult(round=offer.round, piece=name, amount=amount)
        away: ServerAway | None = None
        try:
            for _ in range(RESTARTS_MAX):
                try:
                    away = self._exchanges(offer, piece, result)
                    break
                except SessionLost:
                    continue
            else:
                raise MarketError(f"the server has lost the session of {name} {RESTARTS_MAX} times")
        except InputError as error:
            raise _Useless(error) from None
        except _Refused as error:
            if error.status in _NO_GOOD:
                raise _Useless(error) from None
            raise
        if away is None and result.state == "held":
            try:
                self._show(result, piece)
            except ServerAway as error:
                away = error
        self._results.add(result)
        if result.exchanges:
            self.units += result.units
            self.paid_microcredits += result.paid_microcredits
        if away is not None:
            raise away
        return result.units

    def _exchanges(self, offer: Offer, piece: Any, result: PieceResult) -> ServerAway | None:
        """Carries a piece's generator from exchange to exchange, to its end.

        Returns:
            Why it was finished alone, if it was.

        Raises:
            SessionLost: it has to be begun again.
            ServerAway: no answer came, and the job did not finish without.
        """
        amount, exchange, losses = result.amount, 0, 0
        start_s = time.perf_counter()
        running = self._part.work(piece, amount)
        away: ServerAway | None = None
        try:
            sent = next(running)
            while True:
                result.device_seconds += time.perf_counter() - start_s
                if away is not None:
                    raise away  # the job wants to send, and there is nobody
                if result.state != "unpaid":
                    raise MarketError(f"{self._job} goes on with {result.piece}, which is finished")
                event: Reply | SessionLost | ServerAway
                try:
                    event = self._once(offer, exchange, sent, result)
                    exchange += 1
                except _Refused as error:
                    if not error.lost:
                        raise
                    event, exchange, losses = SessionLost(str(error)), 0, losses + 1
                    if losses > RESTARTS_MAX:
                        raise MarketError(f"{result.piece} was lost {losses} times") from None
                except ServerAway as error:
                    if not self._can_do_alone():
                        raise
                    event = away = error
                start_s = time.perf_counter()
                sent = running.send(event) if isinstance(event, Reply) else running.throw(event)
        except StopIteration as end:
            result.device_seconds += time.perf_counter() - start_s
            if away is None and result.state == "unpaid":
                raise MarketError(
                    f"{self._job} has ended {result.piece} before the server"
                ) from None
            result.own = dict(end.value or {})
            return away
        finally:
            running.close()

    def _once(self, offer: Offer, exchange: int, sent: Tensors, result: PieceResult) -> Reply:
        """One exchange."""
        start_s = time.perf_counter()
        amount = result.amount
        specs = self._part.expects(amount, exchange)
        if any(spec.coded for spec in specs):
            result.codec = self._codec.name
        told = {"round": offer.round, "exchange": exchange, "codec": self._codec.name}
        packed = self._codec.pack(sent, specs)
        body, length = oip.encode_request(result.piece, packed, told)
        headers = {oip.HEADER_LENGTH: str(length), "Content-Type": oip.BINARY_TYPE}
        path = f"/v2/models/{cut_name(offer.model, amount)}/infer"
        sent_s = time.perf_counter()
        result.encode_seconds += sent_s - start_s
        result.bytes_sent += len(body)
        response, attempts = self._link.send("POST", path, body, headers)
        result.roundtrip_seconds = (result.roundtrip_seconds or 0.0) + time.perf_counter() - sent_s
        result.attempts += attempts
        result.exchanges += 1
        answer = oip.decode_response(response.content, response.headers.get(oip.HEADER_LENGTH))
        facts = answer.parameters
        result.server_seconds = (result.server_seconds or 0.0) + _seconds(
            facts.get("server_seconds")
        )
        result.compute_seconds = (result.compute_seconds or 0.0) + _seconds(
            facts.get("compute_seconds")
        )
        finished = facts.get("finished") is True
        if finished:
            result.state = str(facts.get("state"))
            result.units = _count(facts.get("units"))
            result.paid_microcredits = _count(facts.get("paid_microcredits"))
        given = self._part.returns(amount)
        # An answer may leave tensors out.
        specs = tuple(
            spec
            for spec in given
            if all(each.name in answer.outputs for each in self._codec.packed([spec]))
        )
        outputs = unpacked(self._codec, answer.outputs, specs, "infer response")
        return Reply(
            outputs=outputs,
            finished=finished,
            units=result.units or 1,
            told={name: value for name, value in facts.items() if name not in _MARKETS_OWN},
        )

    def _show(self, result: PieceResult, piece: Any) -> None:
        """Shows the source of a piece that the server has picked; hears what becomes of it."""
        headers = {"Content-Type": oip.BINARY_TYPE}
        path, source = f"/market/audit?piece={result.piece}", self._part.source(piece)
        response, _ = self._link.send("POST", path, source, headers)
        told = messages.read_object("server", response.content)
        result.audited = True
        result.state = str(told.get("state"))
        result.paid_microcredits = _count(told.get("paid_microcredits"))

    def _can_do_alone(self) -> bool:
        """Whether the device has the capacity for the whole model."""
        config = self._config
        return config.capacity >= config.A * self._part.model.amount_max + config.B


class _Useless(Exception):
    """A piece cannot be worked on."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


def _refusal(response: httpx.Response) -> _Refused:
    try:
        told = messages.read_object("server", response.content)
    except InputError:
        told = {}
    lost = response.status_code == 409 and told.get("reason") == messages.SESSION_LOST
    return _Refused(_reason(response), response.status_code, lost=lost)


def _reason(response: httpx.Response) -> str:
    """The server's own words, if it has found any."""
    try:
        return str(messages.read_object("server", response.content)["error"])
    except (InputError, KeyError):
        return f"HTTP status {response.status_code}"


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _settled_pieces(text: str) -> Iterator[str]:
    """Pieces whose end is told in the lines of an earlier run."""
    for line in text.splitlines():
        with suppress(ValueError, AttributeError, RecursionError):
            row = json.loads(line)
            if row.get("state") in ("paid", "forfeit"):
                yield str(row.get("piece"))


def _stored_token(path: Path | None) -> str | None:
    if path is None or not path.exists():
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not 1 <= len(token) <= messages.TOKEN_CHARS_MAX:
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
