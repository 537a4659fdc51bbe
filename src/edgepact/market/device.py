"""The device process: decides for itself how much to work, works, and is paid.

A device knows what the server does not: how much its computing is worth to it and how much it
has. To each question it gives the answer that is best for itself, does its part of the pieces it
has, whatever the job, and hears what the server makes of them. One line of JSON a piece goes to
the results file.

Several pieces are in flight at once, as many as the round trip makes worth it: while one waits
for its answer, the device computes on the next. Before a piece is sent the device binds itself
to its source; after a round the server asks for some of the sources, and pays when it has seen
them. These are shown, and pay is asked for, beside the work of the next round.

It needs NumPy, an HTTP client and what its job needs, nothing more: no JAX, no database.

A piece's id follows from round and place, so that whatever is sent again, after a timeout or a
restart of either side, is the same piece and is paid once. If the server stays away, the device
finishes the pieces at hand by itself where it has the capacity for the whole model, and ends.

With a `Desk` it works on nothing but what its users ask for: it takes part in a round when somebody
has asked, stays for a while after the last of them, and tells the server that it brings no more.
What they ask and hear stands in no file. If the server stays away it goes on alone where it can,
and takes part again as soon as the server answers.
"""

import hashlib
import json
import math
import random
import secrets
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from edgepact import registry
from edgepact.engagement import Answer, chosen, truthful_bids
from edgepact.errors import EdgepactError, InputError, MarketError, shown
from edgepact.exhibit import ExhibitedPart, shortened
from edgepact.market.asked import Asked, Desk
from edgepact.market.demand import Asks, read_requests
from edgepact.market.device_config import IN_FLIGHT_MAX, DeviceConfig
from edgepact.market.device_token import held_alone, store_token, stored_token
from edgepact.market.evidence import cut_name, unpacked
from edgepact.market.link import Link, Refused, Traffic
from edgepact.market.link_cost import sent_bytes, with_link
from edgepact.market.own_cost import computing_cost
from edgepact.market.protocol import messages, oip
from edgepact.market.protocol.exhibits import exhibit_json, read_exhibit
from edgepact.market.protocol.messages import (
    Commitment,
    CommitRequest,
    EnrolRequest,
    NoOffer,
    Offer,
)
from edgepact.market.results import SETTLED, Bound, PieceResult, Results
from edgepact.market.tracing import HEADER as TRACE_HEADER
from edgepact.market.tracing import trace_of, traceparent
from edgepact.mechanisms.stackelberg.link import Links
from edgepact.tensors import Codec, Tensors
from edgepact.work import (
    DevicePart,
    Job,
    Json,
    Reply,
    ServerAway,
    SessionLost,
    SizedPart,
    ToldJob,
)

RESTARTS_MAX = 10
"""How often a piece is begun again whose session was lost."""

SETTLING_TIMEOUT_S = 30.0
"""How long a device that goes waits for what it has been paid for its last round."""

LEAVING_POLL_S = 0.2

LEAVING_PATIENCE_S = 3.0
"""How long it waits for an answer then: the server may have gone as well."""

QUIET_S = 5.0
"""How long a device stays in a round after what was asked for last."""

LOOK_S = 5.0
"""How often a device of which nobody asks anything looks what is to be shown."""

LOOK_IN_S = 60.0
"""How often it asks then whether the market is over: the others wait for who asks, for a moment."""

SOURCES_KEPT = 1024
"""Sources of pieces that were asked for, kept for audits, in memory alone."""

# Answers that concern the piece alone: what it brought cannot be used.
_NO_GOOD = frozenset({400, 413})

_MARKETS_OWN = frozenset(
    {
        "finished",
        "state",
        "audited",
        "units",
        "paid_microcredits",
        "pending_microcredits",
        "repeated",
    }
    | {"exchange", "compute_seconds", "server_seconds", "audits", "from_books"}
    | {"queue_seconds", "ledger_seconds"}
)
"""Parameters of a response that are not the job's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """What a device has done from start to end.

    Attributes:
        rounds: rounds it took part in.
        units: units of work, such as images, that the server has finished for it.
        paid_microcredits: what it has earned.
        pending_microcredits: what is pending of it at the end.
        bytes_sent: all that it has sent, heads and polls included; TLS, TCP and IP add theirs.
        bytes_received: likewise.
    """

    rounds: int
    units: int
    paid_microcredits: int
    pending_microcredits: int
    bytes_sent: int
    bytes_received: int


def run_device(
    config: DeviceConfig,
    *,
    job: Job | None = None,
    opened: Callable[[DevicePart], AbstractContextManager[Desk]] | None = None,
) -> DeviceSummary:
    """Takes part in a market until it is over or the process is told to stop.

    SIGINT and SIGTERM let the pieces at hand finish.

    Args:
        config: the device.
        job: what is done; None for the installed one that `config` names.
        opened: opens the desk at which users ask for pieces; None to work on the inputs.

    Raises:
        InputError: the inputs, the model or the results file cannot be used, or another process
            uses the token file.
        MarketError: the server refused the device, or stayed away too long.
    """
    job = job or registry.part("jobs", config.job, source="device", field="job")
    # Made before the server is asked for anything, so that what cannot be used is told at once.
    hand = _Hand.made(config, job, config.job_settings)
    codec = registry.part("codecs", config.codec or job.codecs[0], source="device", field="codec")
    path = config.results or Path(f"{config.name}.jsonl")
    link = Link(config.addresses, config.away_timeout_s, config.name, config.ca)
    desk_of = nullcontext(None) if opened is None else opened(hand.part)
    with (
        held_alone(config.token_file),
        Results(path) as results,
        link,
        _Stop(link) as stop,
        desk_of as desk,
    ):
        worker = _Worker(config, job, hand, codec, results, stop, link, desk)
        try:
            worker.take_part()
        except _Stopped:
            pass
        finally:
            worker.leave()
    return worker.summary


def bring_enough(flying: int, units_each: float, wanted: int) -> bool:
    """Whether pieces under way will bring the units that a round still wants, if they are as large
    as those before: what is begun beyond that is worked for nothing.

    Args:
        flying: pieces under way.
        units_each: mean units of those that are finished; a piece has at least one.
        wanted: units that are left of the round's.

    Example:
        >>> bring_enough(2, 300.0, 550), bring_enough(1, 300.0, 550), bring_enough(0, 1.0, 0)
        (True, False, True)
    """
    return flying * max(1.0, units_each) >= wanted


# ---------------------------------------------------------------- private


class _Stopped(Exception):
    """SIGINT or SIGTERM has come while the device was only waiting."""


class _OfBooks(Exception):
    """A piece was finished before, and nobody keeps any more what it came to."""


@contextmanager
def _told_of(job: Job, what: str) -> Iterator[None]:
    """Tells in words of what a job raises that nobody has foreseen, such as one from outside.

    Raises:
        MarketError: in place of it, with where it was raised.
    """
    try:
        yield
    except (EdgepactError, Refused, ServerAway, SessionLost, _Stopped):
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise MarketError(
            f"the job {job.name} failed in {what}: {type(error).__name__}: {error} "
            f"({place.filename}, line {place.lineno})"
        ) from error


def _own_fields(job: Job, piece: str, value: object) -> Mapping[str, Json]:
    """What a job returns of a finished piece, if a line of the results file can hold it.

    Raises:
        MarketError: it cannot.
    """
    fields = {} if value is None else value
    if not isinstance(fields, Mapping):
        raise MarketError(
            f"the job {job.name} returns a {type(value).__name__} of {piece}, expected a mapping"
        )
    try:
        json.dumps(dict(fields))
    except (TypeError, ValueError, RecursionError) as error:
        raise MarketError(
            f"the job {job.name} returns what is no JSON of {piece}: {error}"
        ) from None
    return fields


class _Stop:
    """Turns SIGINT and SIGTERM into a request to stop, and ends only waits at once.

    A piece that is being worked on is finished first, so that the results file tells all that
    was delivered.
    """

    def __init__(self, link: Link) -> None:
        self.requested = False
        self._link = link
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
        self._link.stopping.set()
        if self._waiting:
            self._waiting = False
            raise _Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hand:
    """The device's half of the job under some settings, and what it works on.

    Attributes:
        part: the half.
        pieces: in an order of the device's own.
    """

    part: DevicePart
    pieces: list[Any]

    @classmethod
    def made(cls, config: DeviceConfig, job: Job, settings: Mapping[str, Json]) -> "_Hand":
        """As the device is told.

        Raises:
            InputError: a setting, the model or the inputs cannot be used.
            MarketError: the job fails.
        """
        with _told_of(job, "its device part"):
            part = job.device_part(config.model, config.inputs, settings)
            pieces = list(part.pieces())
        if not pieces:
            raise InputError("device", "inputs", "a piece to work on at least", "none")
        # With its name, so that devices of one seed do not all send the same pieces.
        random.Random(f"{config.seed} {config.name}").shuffle(pieces)
        return cls(part=part, pieces=pieces)


class _Worker:
    """A device at work. `take_part` and `leave` belong to one thread, which hands pieces to others.

    The job's part is used by one of them at a time, and never while it waits for the server. One
    more thread runs errands: it shows sources and asks for pay.
    """

    def __init__(
        self,
        config: DeviceConfig,
        job: Job,
        hand: _Hand,
        codec: Codec,
        results: Results,
        stop: _Stop,
        link: Link,
        desk: Desk | None,
    ) -> None:
        self._desk = desk
        self._asks = None if config.requests is None else read_requests(config.requests)
        self._requests: dict[str, tuple[Asks, int]] | None = None  # once the settings are heard
        self._sources: OrderedDict[str, bytes] = OrderedDict()  # of what was asked for
        self._looked_in_s = -math.inf
        self._config = config
        self._job = job
        self._hand = hand
        self._settings = config.job_settings
        self._heard: Mapping[str, Json] | None = None  # of them, from the server
        self._codec = codec
        self._results = results
        self._stop = stop
        self._link = link
        self._computing = threading.Lock()
        self._counting = threading.Lock()
        self._errands = ThreadPoolExecutor(1, thread_name_prefix="errands")
        self._errand: Future[None] | None = None
        self._useless: dict[int, Exception] = {}  # places of pieces that cannot be worked on
        self._unwanted: set[str] = set()  # requests that the server takes no work on any more
        self._used: dict[int, int] = {}  # the last round in which an input was delivered
        self._due: set[str] = set()  # pieces whose sources are to be shown
        self._hopeless: set[str] = set()  # of these, those that cannot be
        self._work_s: float | None = None  # computing of a piece, lately
        self._told: set[int] = set()  # rounds of which the server has told all there is
        self._sizes: dict[int, float] = {}  # bytes that a piece sends, by amount
        self._enrolled = self._gone = False
        self._known_as: str | None = None  # to the server
        self._unpayable = ""  # why no work was to be had, when that was said last
        self._rounds = self._units = self._finished = 0
        self._settled: dict[str, int] = {}  # micro-credits of pieces, as far as they are known
        self._pending: dict[str, int] = {}
        self._show_every_s: float | None = None  # what the server takes; None for nothing
        self._shown_s = -math.inf
        self._showing: Future[None] | None = None
        self._unshown: set[str] = set()  # why pieces were not shown

    @property
    def summary(self) -> DeviceSummary:
        """What it has done."""
        return DeviceSummary(
            rounds=self._rounds,
            units=self._units,
            paid_microcredits=sum(self._settled.values()),
            pending_microcredits=sum(self._pending.values()),
            bytes_sent=self._link.traffic.bytes_sent,
            bytes_received=self._link.traffic.bytes_received,
        )

    def take_part(self) -> None:
        """Round after round until the market is over or a signal comes."""
        if self._desk is None:
            self._take_part()
            return
        try:
            while True:
                try:
                    self._take_part()
                    return
                except MarketError:
                    if not self._gone or not self._can_do_alone():
                        raise
                self._serve_alone(self._desk)
        finally:
            self._desk.close()

    def _take_part(self) -> None:
        try:
            if not self._enrolled:
                self._enrol()
            after = 0
            while not self._stop.requested:
                if self._desk is not None and not self._is_asked(self._desk):
                    continue
                answer = self._poll(after)
                self._expect_errand(wait=isinstance(answer, NoOffer))
                if isinstance(answer, NoOffer):
                    self._show_due()
                    self._hear_of_pay()
                    if answer.state == "over":
                        return  # all audits are over, too
                    continue
                self._run_errand(answer.round)
                self._expect_the_same(answer)
                if self._desk is not None and not self._desk.wait(0.0):
                    continue
                # A refusal within a round concerns this round: it has ended without us.
                try:
                    amount = self._amount(answer)
                    if amount is None:
                        continue  # others are awaited: the next poll tells
                    after = answer.round
                    if self._desk is None:
                        self._work(answer, amount)
                    else:
                        self._serve(self._desk, answer, amount)
                except Refused:
                    after = answer.round
        except Refused as error:
            raise MarketError(f"{self._link.address}: {error}") from None
        except ServerAway as error:
            if self._stop.requested:
                raise _Stopped from None
            self._gone = True
            self._link.leave()  # what it sends may arrive, though no answer does
            raise MarketError(
                f"{self._link.address} has not answered for "
                f"{self._config.away_timeout_s:g} s ({error}); {self._config.name} ends"
            ) from None

    def leave(self) -> None:
        """Says good-bye, shows what is still to be shown, and hears of the last pay."""
        self._link.stopping.set()
        self._errands.shutdown(wait=True)
        if not self._enrolled or self._gone:
            return
        self._link.hurry(LEAVING_PATIENCE_S)
        told = self._link.leave()
        if not self._pending:
            return
        with suppress(Refused, ServerAway, InputError):
            self._note_due(told.get("audits"))
            end_s = time.monotonic() + SETTLING_TIMEOUT_S
            self._told.clear()
            while time.monotonic() < end_s:
                self._show_due()
                self._hear_of_pay()
                if not self._pending:
                    return
                time.sleep(LEAVING_POLL_S)

    # ------------------------------------------------------------ errands

    def _run_errand(self, number: int) -> None:
        """Shows sources and asks for the pay of rounds before this one, beside what goes on.

        Raises:
            Refused, ServerAway: the last errand met it.
        """
        self._expect_errand()
        if self._errand is None:
            self._errand = self._errands.submit(self._do_errand, number)

    def _do_errand(self, number: int) -> None:
        self._show_due()
        self._hear_of_pay(number)

    def _expect_errand(self, *, wait: bool = False) -> None:
        """Hears how the last errand went, if it is done.

        Args:
            wait: for its end.

        Raises:
            Refused, ServerAway: it met it.
        """
        errand = self._errand
        if errand is not None and (wait or errand.done()):
            self._errand = None
            errand.result()

    # ------------------------------------------------------------ talking

    def _enrol(self) -> None:
        """Shows the token of an earlier run, or gets one."""
        config = self._config
        token = stored_token(config.token_file)
        if token is None:
            if config.enrol_token is None:
                expected = "a one-time token, of `edgepact token issue` or of the server's start"
                if config.token_file is not None:
                    expected += f", since there is no file {shown(str(config.token_file))}"
                raise InputError("device", "enrol_token", expected, "none")
            request = EnrolRequest(token=config.enrol_token, name=config.name)
            with self._stop.waiting():
                answer = self._link.ask("POST", "/market/enrol", message=request.as_json())
            value = answer.get("device_token")
            if not isinstance(value, str):
                raise MarketError("the server answered the enrolment without a token")
            token = value
            self._note_name(messages.read_device("enrol", answer))
            store_token(config.token_file, token)
        self._link.show(token)
        self._enrolled = True

    def _poll(self, after: int) -> Offer | NoOffer:
        with self._stop.waiting():
            told = self._link.ask("GET", f"/market/offer?after={after}", held=True)
        self._note_due(told.get("audits"))
        self._note_name(messages.read_device("offer", told))
        self._agree(messages.read_settings("offer", told.get("job_settings")))
        self._show_every_s = messages.read_pace("offer", told.get("show_every_s"))
        return messages.read_offer(told)

    def _note_name(self, known_as: str | None) -> None:
        """Says whom the server takes the device for, if that is another than it is called."""
        if known_as is None or known_as == self._known_as:
            return
        self._known_as = known_as
        if known_as != self._config.name:
            self._say(
                f"the server knows this device as {known_as}, with whose token it comes "
                f"({self._config.token_file}); for another name it has to enrol anew, "
                "with a token file of its own"
            )

    def _agree(self, heard: Mapping[str, Json] | None) -> None:
        """Takes the settings of the job as the server tells them; what the device states stands
        above them. Who asks at a desk has settings with each piece, within the server's.

        Raises:
            MarketError: both sides have to hold something alike, and do not; or the settings are
                none that this device's job takes.
            InputError: what is asked for is not among the inputs.
        """
        job = self._job
        if heard is not None and heard != self._heard and isinstance(job, ToldJob):
            self._heard, stated = heard, self._config.job_settings
            both = stated if self._desk is not None else {**heard, **stated}
            try:
                told = job.told(both)
                for name in sorted(job.agreed & heard.keys()):
                    if told.get(name) != heard[name]:
                        raise MarketError(self._told_apart(name, told.get(name), heard[name]))
                if told != job.told(self._settings):
                    with self._computing:
                        self._hand = _Hand.made(self._config, job, both)
                    self._settings, self._sizes, self._requests = both, {}, None
                    self._useless.clear()
            except InputError as error:
                raise MarketError(f"the server's settings cannot be used here: {error}") from None
        if self._asks is not None and self._requests is None:
            path = self._config.requests
            self._requests = _placed(path, self._asks, self._hand.part, self._hand.pieces)

    def _told_apart(self, name: str, own: Json, theirs: Json) -> str:
        """Why a setting that differs ends the device."""
        said = json.dumps({**self._config.job_settings, name: theirs})
        return (
            f"the server does {self._job.name} with {name} {theirs}, {self._config.name} with "
            f"{own}, and both need the same: start it with --job-settings '{said}'"
        )

    def _expect_the_same(self, offer: Offer) -> None:
        """Before any work: both sides have to mean the same job, model and codec.

        Raises:
            MarketError: they do not.
        """
        name, theirs, own = self._config.name, offer.model, self._hand.part.model
        if offer.job != self._job.name:
            raise MarketError(
                f"the server offers the job {offer.job}, {name} does {self._job.name}"
            )
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
            self._note_due(told.get("audits"))
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
        if config.time_cost or config.energy_cost:
            cost = with_link(cost, self._links(), self._bytes_at())
        return Answer(
            item=chosen(question, cost),
            bids_microcredits=truthful_bids(question.bid_amounts, cost),
        )

    def _links(self) -> Links:
        """The link as stated, or as measured; what is not known yet costs nothing."""
        config, speed = self._config, self._link.speed
        rate, trip = config.link_mbit or speed.link_mbit, config.round_trip_ms
        if trip is None:
            trip = speed.round_trip_ms
        return Links(
            link_mbit=math.inf if rate is None else rate,
            round_trip_ms=trip or 0.0,
            time_cost=config.time_cost,
            energy_cost=config.energy_cost,
        )

    def _bytes_at(self) -> dict[int, float]:
        """What a piece sends at each amount."""
        self._sizes = self._sizes or sent_bytes(self._hand.part, self._codec)
        return self._sizes

    def _note_due(self, audits: object) -> None:
        """Notes which sources the server wants to see."""
        named = set(messages.read_audits("server", audits)) - self._hopeless
        with self._counting:
            self._due |= named

    def _show_due(self) -> None:
        """Shows the sources that the server wants to see."""
        while self._due:
            with self._counting:
                piece = min(self._due)
            try:
                self._show(piece)
            except Refused as error:
                self._hopeless.add(piece)
                self._say(f"the audit of {piece} is refused: {error}")
            with self._counting:
                self._due.discard(piece)

    def _show(self, piece: str) -> None:
        bound, source = self._results.bound(piece), self._sources.get(piece)
        if bound is not None and source is None:
            _, source = self._found(bound)
        if bound is None or source is None:
            self._hopeless.add(piece)
            missing = "its salt is not in the journal beside the results file"
            if bound is not None:
                missing = "its source is no more among the inputs"
            self._say(f"cannot show {piece}, which loses its pay: {missing}")
            return
        headers = {"Content-Type": oip.BINARY_TYPE}
        path = f"/market/audit?piece={piece}"
        answer = self._link.send("POST", path, bound.salt + source, headers, held_s=0.0)
        told = messages.read_object("server", answer.content, messages.ANSWER_BYTES_MAX)
        self._note_due(told.get("audits"))

    def _found(self, bound: Bound) -> tuple[int, bytes] | tuple[None, None]:
        """Place and source of the input to which the device has bound itself, if it is there.

        Under another seed or name, or beside new inputs, it stands in another place than before.
        """
        others = (at for at in range(len(self._hand.pieces)) if at != bound.place)
        for at in (bound.place, *others):
            if at < len(self._hand.pieces):
                with suppress(InputError), self._computing:
                    source = self._hand.part.source(self._hand.pieces[at])
                    if hashlib.sha256(source).hexdigest() == bound.source_digest:
                        return at, source
        return None, None

    def _hear_of_pay(self, before: int | None = None) -> None:
        """Asks how pieces stand whose line in the results file is open.

        Args:
            before: of rounds before this one, which are over; None for all.
        """
        for number, open_lines in self._results.open_lines().items():
            if number in self._told or (before is not None and number >= before):
                continue
            told = self._link.ask("GET", f"/market/pieces?round={number}")
            self._note_due(told.get("audits"))
            found = told.get("pieces")
            if not isinstance(found, dict):
                continue
            for piece, line in open_lines.items():
                stands = found.get(piece)
                if not isinstance(stands, dict) or stands.get("state") == line.get("state"):
                    continue
                line = {
                    **line,
                    "state": str(stands.get("state")),
                    "units": _count(stands.get("units")),
                    "paid_microcredits": _count(stands.get("paid_microcredits")),
                    "pending_microcredits": _count(stands.get("pending_microcredits")),
                    "audited": stands.get("audited") is True,
                }
                self._results.add(line)
                self._count_pay(piece, line)
            if not any(isinstance(s, dict) and s.get("state") == "pending" for s in found.values()):
                self._told.add(number)  # what is open of it now, the server does not know

    def _count_pay(self, piece: str, line: dict[str, Any]) -> None:
        with self._counting:
            self._settled[piece] = _count(line.get("paid_microcredits"))
            self._pending[piece] = _count(line.get("pending_microcredits"))
            if line.get("state") in SETTLED:
                del self._pending[piece]

    def _say(self, what: str) -> None:
        print(f"{self._config.name}: {what}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------ working

    def _work(self, offer: Offer, amount: int) -> None:
        """Delivers the units of a round, several pieces at a time."""
        with _told_of(self._job, "preparing"):
            self._hand.part.prepare(amount)
        self._rounds += 1
        if self._requests is not None:
            self._expect_errand(wait=True)  # which asks for what a killed device had delivered
        todo = self._places(offer)
        done = sum(offer.pieces_done.values())
        flying: dict[Future[int], str] = {}
        exhausted = refused = False
        with ThreadPoolExecutor(IN_FLIGHT_MAX, thread_name_prefix="piece") as threads:
            try:
                while not (exhausted or refused or self._stop.requested) or flying:
                    more = not (exhausted or refused or self._stop.requested)
                    if more and len(flying) < self._window() and self._wants(offer, done, flying):
                        name, at = next(todo, ("", 0))
                        exhausted = not name
                        if name:
                            flying[threads.submit(self._piece, offer, amount, name, at)] = name
                        continue
                    if not flying:
                        break
                    ended, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in ended:
                        name = flying.pop(future)
                        try:
                            units = future.result()
                        except Refused as error:
                            if error.reason == messages.NO_BUDGET and not refused:
                                self._say_unpayable(str(error))
                            refused = True  # the round has ended without us
                            continue
                        done += 0 if name in offer.pieces_done else units
                    if self._due:
                        self._run_errand(offer.round)
            finally:
                wait(flying)
        if done < offer.units_per_round and not self._stop.requested:
            if exhausted:
                self._say(
                    f"has nothing new to bring in round {offer.round} beyond {done} "
                    f"{'unit' if done == 1 else 'units'}"
                )
            told = self._link.ask("POST", f"/market/done?round={offer.round}")
            self._note_due(told.get("audits"))
            self._show_due()

    # ------------------------------------------------------------ working on what is asked for

    def _is_asked(self, desk: Desk) -> bool:
        """Waits until somebody asks for something, or it is time to ask the server how it is."""
        with self._stop.waiting():
            asked = desk.wait(LOOK_S)
        if asked or time.monotonic() > self._looked_in_s + LOOK_IN_S:
            self._looked_in_s = time.monotonic()
            return True
        self._expect_errand(wait=True)
        self._show_due()
        self._hear_of_pay()
        return False

    def _serve(self, desk: Desk, offer: Offer, amount: int) -> None:
        """Works in a round on what is asked for, several pieces at a time."""
        self._hand.part.prepare(amount)
        self._rounds += 1
        done = sum(offer.pieces_done.values())
        most = self._config.in_flight or IN_FLIGHT_MAX
        flying = set[Future[int]]()
        refused = False
        quiet_s = time.monotonic() + QUIET_S
        with ThreadPoolExecutor(IN_FLIGHT_MAX, thread_name_prefix="piece") as threads:
            try:
                while True:
                    for future in [each for each in flying if each.done()]:
                        flying.remove(future)
                        quiet_s = time.monotonic() + QUIET_S
                        try:
                            done += future.result()
                        except Refused as error:
                            if error.reason == messages.NO_BUDGET and not refused:
                                self._say_unpayable(str(error))
                            elif not refused:
                                what = f"what it did last in round {offer.round} is not paid"
                                self._say(f"{what}: {error}")
                            refused = True
                    if self._due:
                        self._run_errand(offer.round)
                    # Each brings a unit at least.
                    full = done + len(flying) >= offer.units_per_round
                    ending = refused or self._stop.requested
                    if not flying and (ending or full or time.monotonic() > quiet_s):
                        break
                    if ending or full or len(flying) >= most:
                        wait(flying, return_when=FIRST_COMPLETED)
                        continue
                    asked = desk.take(1.0)
                    if asked is not None and asked.begin():
                        future = threads.submit(self._asked_piece, desk, offer, amount, asked)
                        future.add_done_callback(lambda _: desk.wake())
                        flying.add(future)
            finally:
                wait(flying)
        if done < offer.units_per_round and not self._stop.requested:
            told = self._link.ask("POST", f"/market/done?round={offer.round}")
            self._note_due(told.get("audits"))
            self._show_due()

    def _asked_piece(self, desk: Desk, offer: Offer, amount: int, asked: Asked) -> int:
        """One piece that is asked for; returns its units.

        Raises:
            Refused: the round has ended; it is tried again in the next.
            ServerAway: the server has not answered for too long.
        """
        name = f"{offer.round}-{secrets.token_hex(8)}"
        result = PieceResult(round=offer.round, piece=name, amount=amount)
        try:
            piece = asked.piece()
            if piece is None:
                asked.ended.set_result({})
                return 0
            source = self._hand.part.source(piece)
            with self._counting:
                self._sources[name] = source
                if len(self._sources) > SOURCES_KEPT:
                    self._sources.popitem(last=False)
            away = self._carried(offer, 0, piece, result)
        except Refused as error:
            result.refused = str(error)
            self._results.add(result.as_json())
            if error.status in _NO_GOOD:
                asked.fail(error)
                return 0
            if error.reason == messages.REPEATED:
                asked.ended.set_result({})  # all of it was told; nothing is paid
                return 0
            desk.again(asked, error)
            raise
        except ServerAway as error:
            self._results.add(result.as_json())
            if self._stop.requested:
                asked.fail(error)
            else:
                desk.again(asked, error)
            raise
        except BaseException as error:
            self._keep_taken(name, result)
            asked.fail(error if isinstance(error, Exception) else ServerAway("the device ends"))
            if isinstance(error, InputError | MarketError):
                return 0
            raise
        own = dict(result.own)
        # What is said and heard is nobody else's.
        result.own = {field: each for field, each in own.items() if not isinstance(each, str)}
        result.alone = away is not None
        line = result.as_json()
        self._results.add(line)
        if result.exchanges:
            with self._counting:
                self._units += result.units
                self._finished += 1
            self._count_pay(name, line)
        asked.ended.set_result(own)
        if away is not None:
            raise away
        return result.units

    def _serve_alone(self, desk: Desk) -> None:
        """Works without the server on what is asked for, until it answers or the device ends."""
        self._say("goes on alone with what it is asked for, until the server answers")
        self._hand.part.prepare(0)
        back: Future[bool] = self._errands.submit(self._is_back)
        back.add_done_callback(lambda _: desk.wake())
        while not (back.done() and back.result()):
            if back.done():
                back = self._errands.submit(self._is_back)
                back.add_done_callback(lambda _: desk.wake())
            with self._stop.waiting():
                asked = desk.take(LOOK_S)
            if asked is not None and asked.begin():
                self._do_alone(asked)
        self._gone = False

    def _is_back(self) -> bool:
        """Whether the server answers; it is waited for as long as for any answer."""
        try:
            self._link.ask("GET", "/market/status")
        except ServerAway:
            return False
        except Refused:
            return True
        return True

    def _do_alone(self, asked: Asked) -> None:
        """The whole of a piece that is asked for."""
        try:
            piece = asked.piece()
            own: dict[str, Any] = {}
            if piece is not None:
                running = self._hand.part.work(piece, 0)
                try:
                    next(running)
                    running.throw(ServerAway("the server is away"))
                    raise ServerAway("the job does nothing without its server")
                except StopIteration as end:
                    own = dict(end.value or {})
                finally:
                    running.close()
            asked.ended.set_result(own)
        except Exception as error:
            asked.fail(error)
            if not isinstance(error, InputError | ServerAway):
                raise

    def _say_unpayable(self, why: str) -> None:
        """Says why nobody gives it work; of a budget that is used up for good, once."""
        if why != self._unpayable:
            self._unpayable = why
            self._say(f"gets no more work for now: {why}")

    def _wants(self, offer: Offer, done: int, flying: Mapping[Future[int], str]) -> bool:
        """Whether another piece is to be begun, as far as is known of those under way."""
        fresh = sum(name not in offer.pieces_done for name in flying.values())
        untold = any(not self._results.has(name) for name in offer.pieces_done)
        if isinstance(self._hand.part, SizedPart):
            most = self._hand.part.units_most
            few = done + most * (fresh + 1) <= offer.units_per_round
        else:
            with self._counting:
                each = self._units / self._finished if self._finished else 1.0
            few = not bring_enough(fresh, each, offer.units_per_round - done)
        return few or (untold and not flying)

    def _places(self, offer: Offer) -> Iterator[tuple[str, int]]:
        """Ids of the pieces of a round and the places of their inputs: first those that the
        server knows and the results file does not, then such as were not delivered lately."""
        if self._requests is not None:
            yield from (
                (name, at)
                for name, (_, at) in self._requests.items()
                if not self._results.has(name) and name not in self._unwanted
            )
            return
        number, inputs = offer.round, len(self._hand.pieces)
        again = {name for name in offer.pieces_done if not self._results.has(name)}
        for index in count():
            name = f"{number}-{index}"
            at = ((number - 1) * offer.units_per_round + index) % inputs
            if name in again:
                again.discard(name)
                bound = self._results.bound(name)
                place = at if bound is None else self._found(bound)[0]
                if place is not None:
                    yield name, place
            elif name not in offer.pieces_done:
                lately = self._used.get(at, -offer.repeat_rounds) + offer.repeat_rounds > number
                if at not in self._useless and not (offer.repeat_rounds and lately):
                    self._used[at] = number
                    yield name, at
            if index >= inputs + offer.units_per_round + len(offer.pieces_done):
                return  # every input has had its turn

    def _window(self) -> int:
        """How many pieces are worth having in flight: what hides the round trip."""
        if self._config.in_flight is not None:
            return self._config.in_flight
        answer_s, work_s = self._link.answer_s, self._work_s
        if answer_s is None or work_s is None:
            return 1
        return max(1, min(IN_FLIGHT_MAX, 1 + round(answer_s / max(work_s, 1e-4))))

    def _pass_over(self, at: int, why: Exception) -> None:
        """Notes and tells that a piece cannot be worked on.

        Raises:
            InputError: so it is with every piece.
            MarketError: likewise.
        """
        with self._counting:
            known = at in self._useless  # by another turn of it that was in flight as well
            self._useless[at] = why
            all_are = len(self._useless) == len(self._hand.pieces)
        if all_are:
            if isinstance(why, InputError):
                raise why
            raise MarketError(f"{self._link.address}: {why}")
        if not known:
            self._say(f"passed over: {why}")

    def _piece(self, offer: Offer, amount: int, name: str, at: int) -> int:
        """One piece: the device's part, its exchanges, the result; returns its units.

        Raises:
            Refused: the round has ended.
            ServerAway: the server has not answered for too long.
        """
        piece = self._hand.pieces[at]
        result = PieceResult(round=offer.round, piece=name, amount=amount)
        before = self._results.bound(name)
        try:
            with _told_of(self._job, f"its work on {name}"):
                away = self._carried(offer, at, piece, result)
        except InputError as error:
            self._keep_taken(name, result)
            self._pass_over(at, error)
            return result.units
        except MarketError:
            self._keep_taken(name, result)
            raise
        except ServerAway:
            self._results.add(result.as_json())
            raise
        except Refused as error:
            result.refused = str(error)
            if error.reason == messages.REPEATED and before and before.round < offer.round:
                # Delivered by this device, which was ended before it could write it down.
                self._results.bind_again(name, before)
                with self._counting:
                    self._told.discard(before.round)
            else:
                self._results.add(result.as_json())
            if error.reason in (messages.REPEATED, messages.NOT_ASKED):
                self._used[at] = offer.round
                self._unwanted.add(name)
                return 0  # it is somebody's work already: another piece takes its turn
            if error.status in _NO_GOOD:
                self._pass_over(at, error)
                return 0
            raise
        result.alone = away is not None
        line = result.as_json()
        self._results.add(line)
        if result.exchanges:
            with self._counting:
                self._units += result.units
                self._finished += 1
            self._count_pay(name, line)
            self._exhibit(name, piece, result.own)
        if away is not None:
            raise away
        return result.units

    def _keep_taken(self, name: str, result: PieceResult) -> None:
        """Notes a piece that the server has taken, though the job broke after that: its pay is
        asked for, and its source is shown."""
        if result.state != "unpaid":
            line = result.as_json()
            self._results.add(line)
            self._count_pay(name, line)

    def _exhibit(self, name: str, piece: Any, own: Mapping[str, Json]) -> None:
        """Shows a finished piece to who looks at the market, if the device's owner agrees, the
        server takes any, and the last one was a while ago."""
        part, every_s, now_s = self._hand.part, self._show_every_s, time.monotonic()
        if not self._config.show_pieces or every_s is None or not isinstance(part, ExhibitedPart):
            return
        with self._counting:
            busy = self._showing is not None and not self._showing.done()
            if busy or now_s < self._shown_s + every_s or self._stop.requested:
                return
            self._shown_s = now_s
        # As little as a thumbnail takes, it waits for the part, which one thread uses at a time.
        try:
            with self._computing:
                exhibit = part.exhibit(piece, own)
        except InputError:
            return
        except (Exception, SystemExit) as error:
            # Of a plugin: what may be missed must not end the work.
            self._say_unshown(f"exhibit failed: {type(error).__name__}")
            return
        try:
            given, answer = shortened(exhibit.given), shortened(exhibit.answer)
            message = exhibit_json(replace(exhibit, given=given, answer=answer))
            read_exhibit(message)  # as the server does, which tells nobody of its job
        except InputError as error:
            self._say_unshown(f"exhibit cannot be shown: {error}")
            return
        except Exception as error:
            self._say_unshown(f"exhibit is no Exhibit of texts and bytes: {type(error).__name__}")
            return
        with suppress(RuntimeError):  # the device is leaving
            self._showing = self._errands.submit(self._send_exhibit, name, message)

    def _say_unshown(self, why: str) -> None:
        """Says why a piece is not shown, once."""
        with self._counting:
            known = why in self._unshown
            self._unshown.add(why)
        if not known:
            self._say(f"a piece is not shown: its job's {why}")

    def _send_exhibit(self, name: str, message: Mapping[str, object]) -> None:
        """An exhibit that does not arrive is missed by nobody."""
        with suppress(Refused, ServerAway, InputError, MarketError):
            self._link.ask("POST", f"/market/exhibit?piece={quote(name)}", message=message)

    def _carried(self, offer: Offer, at: int, piece: Any, result: PieceResult) -> ServerAway | None:
        """Carries a piece to its end, begun again where its session is lost.

        Returns:
            Why it was finished alone, if it was.

        Raises:
            InputError: it cannot be worked on.
            Refused: the server does not take it.
            ServerAway: the server has not answered for too long.
        """
        for _ in range(RESTARTS_MAX):
            with suppress(SessionLost):
                return self._exchanges(offer, at, piece, result)
        raise MarketError(f"the server has lost the session of {result.piece} {RESTARTS_MAX} times")

    def _exchanges(
        self, offer: Offer, at: int, piece: Any, result: PieceResult
    ) -> ServerAway | None:
        """Carries a piece's generator from exchange to exchange, to its end.

        Returns:
            Why it was finished alone, if it was.

        Raises:
            SessionLost: it has to be begun again.
            ServerAway: no answer came, and the job did not finish without.
        """
        amount, exchange, losses = result.amount, 0, 0
        running = self._hand.part.work(piece, amount)
        if not isinstance(running, Generator):
            kind = type(running).__name__
            raise MarketError(f"the work of the job {self._job.name} is a {kind}, no generator")
        away: ServerAway | None = None
        commitment: str | None = None
        event: Reply | SessionLost | ServerAway | None = None
        try:
            while True:
                with self._computing:
                    start_s = time.perf_counter()
                    try:
                        if isinstance(event, Exception):
                            sent = running.throw(event)
                        else:
                            sent = next(running) if event is None else running.send(event)
                    finally:
                        took_s = time.perf_counter() - start_s
                        result.device_seconds += took_s
                    if exchange == 0 and amount > 0 and commitment is None:
                        source = self._hand.part.source(piece)
                        bound = self._results.bind(result.piece, offer.round, at, source)
                        commitment = bound.commitment(source)
                    if event is None:
                        before_s = self._work_s
                        self._work_s = took_s if before_s is None else 0.8 * before_s + 0.2 * took_s
                if away is not None:
                    raise away  # the job wants to send, and there is nobody
                if result.state != "unpaid":
                    raise MarketError(
                        f"{self._job.name} goes on with {result.piece}, which is finished"
                    )
                try:
                    event = self._once(offer, exchange, sent, result, commitment)
                    exchange += 1
                except Refused as error:
                    if not error.lost:
                        raise
                    event, exchange, losses = SessionLost(str(error)), 0, losses + 1
                    if losses > RESTARTS_MAX:
                        raise MarketError(f"{result.piece} was lost {losses} times") from None
                except ServerAway as error:
                    if not self._can_do_alone():
                        raise
                    event = away = error
        except _OfBooks:
            return away
        except StopIteration as end:
            if away is None and result.state == "unpaid":
                raise MarketError(
                    f"{self._job.name} has ended {result.piece} before the server"
                ) from None
            result.own = _own_fields(self._job, result.piece, end.value)
            return away
        finally:
            running.close()

    def _once(
        self,
        offer: Offer,
        exchange: int,
        sent: Tensors,
        result: PieceResult,
        commitment: str | None,
    ) -> Reply:
        """One exchange.

        Raises:
            _OfBooks: the piece was finished before, and the server tells only how it stands.
        """
        start_s = time.perf_counter()
        amount = result.amount
        specs = self._hand.part.expects(amount, exchange)
        if any(spec.coded for spec in specs):
            result.codec = self._codec.name
        told = {"round": offer.round, "exchange": exchange, "codec": self._codec.name}
        if commitment is not None:
            told["commitment"] = commitment
        if exchange == 0 and self._requests is not None and result.piece in self._requests:
            told["request"] = self._requests[result.piece][0].text
        packed = self._codec.pack(sent, specs)
        body, length = oip.encode_request(result.piece, packed, told)
        headers = {oip.HEADER_LENGTH: str(length), "Content-Type": oip.BINARY_TYPE}
        result.trace = trace_of(self._config.name, result.piece)
        headers[TRACE_HEADER] = traceparent(result.trace)
        path = f"/v2/models/{cut_name(offer.model, amount)}/infer"
        sent_s = time.perf_counter()
        result.encode_seconds += sent_s - start_s
        traffic = Traffic()
        try:
            answered = self._link.send("POST", path, body, headers, traffic=traffic)
        finally:
            result.attempts += traffic.attempts
            result.bytes_sent += traffic.body_bytes_sent
            result.bytes_received += traffic.body_bytes_received
            result.http_bytes_sent += traffic.bytes_sent
            result.http_bytes_received += traffic.bytes_received
        result.roundtrip_seconds = (result.roundtrip_seconds or 0.0) + time.perf_counter() - sent_s
        result.exchanges += 1
        answer = oip.decode_response(answered.content, answered.header_length)
        facts = answer.parameters
        self._note_due(facts.get("audits"))
        server_s = _seconds(facts.get("server_seconds"))
        self._link.speed.note(len(body), answered.seconds - server_s)
        result.server_seconds = (result.server_seconds or 0.0) + server_s
        result.compute_seconds = (result.compute_seconds or 0.0) + _seconds(
            facts.get("compute_seconds")
        )
        result.queue_seconds = (result.queue_seconds or 0.0) + _seconds(facts.get("queue_seconds"))
        result.ledger_seconds = (result.ledger_seconds or 0.0) + _seconds(
            facts.get("ledger_seconds")
        )
        finished = facts.get("finished") is True
        if finished:
            result.state = str(facts.get("state"))
            result.audited = facts.get("audited") is True
            result.units = _count(facts.get("units"))
            result.paid_microcredits = _count(facts.get("paid_microcredits"))
            result.pending_microcredits = _count(facts.get("pending_microcredits"))
        if finished and facts.get("from_books") is True:
            raise _OfBooks
        given = self._hand.part.returns(amount)
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

    def _can_do_alone(self) -> bool:
        """Whether the device has the capacity for the whole model."""
        config = self._config
        return config.capacity >= config.A * self._hand.part.model.amount_max + config.B


def _placed(
    path: Path | None, asks: list[Asks], part: DevicePart, pieces: list[Any]
) -> dict[str, tuple[Asks, int]]:
    """Requests of a file by id, each with the place of its input.

    Raises:
        InputError: an input is not there.
    """
    places = dict[str, int]()
    for at, piece in enumerate(pieces):
        with suppress(InputError):  # it is told where it is to be worked on
            places.setdefault(hashlib.sha256(part.source(piece)).hexdigest(), at)
    found = dict[str, tuple[Asks, int]]()
    for each in asks:
        if each.source not in places:
            raise InputError(path, each.id, "a request for one of the inputs", "another")
        found[each.id] = each, places[each.source]
    return found


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
