"""A device's connection to its server: patient, bounded, and clear about what it waits for.

A request is sent again, on a fresh connection, after a time that follows from how long answers
have taken before; it gives up only when the server has not answered for `away_timeout_s`. That the
other end is gone, though its server only takes its time, is noticed sooner: by the kernel, which
misses its acknowledgements. Of several addresses the next is tried whenever one does not answer, so
that a server that has moved is found. Requests may be sent from several threads at once.

What time does not mend at an address is not waited for: TLS where there is none, or the other way
round, and a certificate that is not trusted. Where it is so at all addresses, and none has ever
answered, there is nothing to wait for.
"""

import errno
import json
import random
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from edgepact.errors import InputError, MarketError
from edgepact.market.link_cost import LinkSpeed
from edgepact.market.protocol import compression, messages, oip
from edgepact.work import ServerAway

CONNECT_TIMEOUT_S = 5.0

SILENCE_S = 6.0
"""A connection is dead on which the other end has acknowledged nothing for so long. Of four losses
in a row, which end one of 200 ms, a link that loses one packet of twenty has one in 160,000."""

POLL_HELD_S = 10.0
"""How long the server holds a poll open."""

ANSWER_MOST_S = 30.0
"""Longest wait for an answer to one attempt, polls aside."""

ANSWER_FIRST_S = 10.0
"""How long the first answer may take; later ones a few times what they have taken."""

ANSWER_LEAST_S = 2.0
TRIES_LEAST = 3
"""One attempt never takes more than this part of the time after which the device gives up, unless
that is less than `ANSWER_LEAST_S`: a loss in silence is tried again."""

ANSWER_ROUNDTRIPS = 8.0
ANSWERS_KEPT = 16
"""Answers from which the least time of one is found."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
LEAVE_TIMEOUT_S = 3.0

SAID_AFTER_S = 3.0
"""Once it has waited for so long, a device says for what."""

# Of a certificate that holds not yet, or no more: the clock of a device that has just been started
# may be wrong, and a server may have its certificate renewed.
_OF_ITS_TIME = frozenset({9, 10})
_OTHER_NAME = frozenset({62, 64})
"""Numbers that OpenSSL has for what is wrong with a certificate (`man verify`)."""

# What OpenSSL says of an answer that is none of TLS; which, hangs on its version.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})

# Answers after which the same request may succeed.
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class Refused(Exception):
    """The market has refused a request for a reason that time does not change.

    Args:
        message: in its own words.
        status: HTTP status.
        reason: by which programs tell it, such as `messages.REPEATED`; empty for none.
    """

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    @property
    def lost(self) -> bool:
        """Whether the piece has to be begun again."""
        return self.reason == messages.SESSION_LOST


class _Misfit(str):
    """Why there is no answer, where waiting does not help: what is to be done instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of the server.

    Attributes:
        content: its body.
        header_length: of the binary tensor extension; None where the body is plain JSON.
        seconds: from the last sending to the answer.
    """

    content: bytes
    header_length: str | None
    seconds: float


@dataclass(slots=True)
class Traffic:
    """What was exchanged with the server, whatever came of it.

    Attributes:
        attempts: requests that were sent, those that were sent again included.
        body_bytes_sent: bodies of these.
        body_bytes_received: bodies of their answers.
        bytes_sent: bodies and heads as HTTP has them; TLS, TCP and IP add theirs.
        bytes_received: likewise of the answers.
    """

    attempts: int = 0
    body_bytes_sent: int = 0
    body_bytes_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def sent(self, request: httpx.Request, body: bytes) -> None:
        """Counts a request; also one of which nobody knows how much has arrived."""
        target = len(f"{request.method}  HTTP/1.1\r\n") + len(request.url.raw_path)
        self.attempts += 1
        self.body_bytes_sent += len(body)
        self.bytes_sent += target + _fields_bytes(request.headers.raw) + len(body)

    def received(self, response: httpx.Response) -> None:
        """Counts an answer, which has been read; its body as it travelled."""
        status = len(f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n")
        body = response.num_bytes_downloaded
        self.body_bytes_received += body
        self.bytes_received += status + _fields_bytes(response.headers.raw) + body


class Link:
    """Connections to one server.

    Args:
        addresses: of the server; the first is tried first.
        away_timeout_s: after so long without an answer it gives up; infinity never does.
        who: the device's name, for what is said.
        ca: certificates to trust; None for those of the system.
    """

    def __init__(
        self, addresses: tuple[str, ...], away_timeout_s: float, who: str, ca: Path | None = None
    ) -> None:
        self._addresses, self._away_timeout_s, self._who = addresses, away_timeout_s, who
        self._at = 0
        self._lock = threading.Lock()
        self._jitter = random.Random()
        self._headers = dict[str, str]()
        self._answer_s: float | None = None
        self._lately_s: deque[float] = deque(maxlen=ANSWERS_KEPT)
        self._said_s: float | None = None  # since when is waited for what was said
        self._traffic = Traffic()
        self._misfits = dict[str, str]()  # by address, until anybody has answered
        self._answered = False
        self._looked = set[str]()  # addresses at which was looked whether they speak TLS
        self.speed = LinkSpeed()
        self.stopping = threading.Event()
        """Set to end waits for the next try."""
        settings: dict[str, Any] = {
            "verify": _trusting(addresses, ca),
            "socket_options": _watched(),
        }
        # No proxy stands between a device and its edge server.
        self._client = httpx.Client(transport=httpx.HTTPTransport(**settings), trust_env=False)
        # What is sent again goes another way: the connection may be dead, or the address new.
        alone = httpx.HTTPTransport(**settings, limits=httpx.Limits(max_keepalive_connections=0))
        self._fresh = httpx.Client(transport=alone, trust_env=False)

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._fresh.close()

    @property
    def address(self) -> str:
        """The one that is used now."""
        return self._addresses[self._at % len(self._addresses)]

    @property
    def answer_s(self) -> float | None:
        """How long answers to work take at least, lately, seconds; None before the first. What
        they take longer is mostly that they wait for each other."""
        with self._lock:
            return min(self._lately_s, default=None)

    @property
    def traffic(self) -> Traffic:
        """All that was exchanged so far."""
        with self._lock:
            return replace(self._traffic)

    def hurry(self, away_timeout_s: float) -> None:
        """Gives up sooner from now on, even if it was to stop."""
        self._away_timeout_s = min(self._away_timeout_s, away_timeout_s)
        self.stopping.clear()

    def show(self, token: str) -> None:
        """Shows this token with every request."""
        self._headers["Authorization"] = f"Bearer {token}"

    def ask(
        self,
        method: str,
        path: str,
        *,
        message: Mapping[str, object] | None = None,
        held: bool = False,
    ) -> dict[str, object]:
        """A market message and its answer.

        Args:
            method, path: of the request.
            message: its body.
            held: whether the server may hold it open, as it does with polls.
        """
        body = b"" if message is None else json.dumps(message).encode()
        headers = {"Content-Type": messages.JSON_TYPE}
        answer = self.send(method, path, body, headers, held_s=POLL_HELD_S if held else 0.0)
        if not held:
            self.speed.note(len(body), answer.seconds)
        # Offers list the pieces done, so they may be larger than other messages.
        return messages.read_object("server", answer.content, messages.ANSWER_BYTES_MAX)

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        held_s: float | None = None,
        traffic: Traffic | None = None,
    ) -> Answer:
        """Sends a request until it is answered.

        Args:
            method, path, body, headers: of the request.
            held_s: how long the server may hold it open; None for work, whose answers tell how
                long others may take.
            traffic: where to count it, beside the link's own.

        Raises:
            InputError: the answer is larger than any may be, or not compressed as it says.
            MarketError: no address can be used as it is given.
            Refused: the server does not want it.
            ServerAway: no answer within `away_timeout_s`, or the device is to stop.
        """
        began_s = time.monotonic()
        backoff_s, attempts = BACKOFF_FIRST_S, 0
        counted = (self._traffic,) if traffic is None else (self._traffic, traffic)
        while True:
            attempts += 1
            sent_s, at, address = time.monotonic(), self._at, self.address
            wait_s = (held_s or 0.0) + self._patience_s(attempts)
            fresh = attempts > 1
            why = self._once(method, address, path, body, headers, fresh, wait_s, counted)
            now_s = time.monotonic()
            self._expect_usable(address, why)
            if isinstance(why, httpx.Response):
                if why.is_success:
                    self._heard(now_s)
                    if held_s is None:
                        self._note(now_s - sent_s)
                    return Answer(
                        content=why.content,
                        header_length=why.headers.get(oip.HEADER_LENGTH),
                        seconds=now_s - sent_s,
                    )
                if why.status_code not in TRY_AGAIN:
                    raise _refusal(why)
                backoff_s = max(backoff_s, _retry_after_s(why))
                if _told(why)[1] == messages.STANDBY:
                    self._pass_on(at)
            else:
                self._pass_on(at)
            words = why if isinstance(why, str) else _told(why)[0]
            # Half of the pause is random, so that devices do not all come back at once.
            pause_s = backoff_s * (0.5 + 0.5 * self._jitter.random())
            if now_s + pause_s > began_s + self._away_timeout_s:
                raise ServerAway(words)
            if now_s - began_s > SAID_AFTER_S:
                self._say_waiting(words, began_s)
            if isinstance(why, str) and self.stopping.wait(pause_s):
                raise ServerAway(f"{words}, and it is to stop")
            if not isinstance(why, str):
                time.sleep(pause_s)  # the server is there, and will answer
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def leave(self) -> dict[str, object]:
        """Says good-bye, once, and hears what is still to be shown; nothing if nobody answers."""
        try:
            with self._client.stream(
                "POST",
                self.address + "/market/leave",
                headers=self._headers,
                timeout=LEAVE_TIMEOUT_S,
            ) as response:
                content = _content(response)
            return messages.read_object("server", content, messages.ANSWER_BYTES_MAX)
        except (httpx.HTTPError, InputError):
            return {}

    # ------------------------------------------------------------ private

    def _pass_on(self, at: int) -> None:
        """Goes on to the next address, unless another thread has done so already."""
        with self._lock:
            if self._at == at:
                self._at += 1

    def _expect_usable(self, address: str, why: httpx.Response | str) -> None:
        """Notes at which addresses it makes no sense to wait.

        Raises:
            MarketError: at none, and no server has ever answered.
        """
        if not isinstance(why, str):
            self._answered = True
        if self._answered:
            return
        with self._lock:
            known = address in self._misfits
            self._misfits.pop(address, None)
            if isinstance(why, _Misfit):
                self._misfits[address] = why
            hopeless = len(self._misfits) == len(set(self._addresses))
            words = "; ".join(f"{each}: {told}" for each, told in self._misfits.items())
        if hopeless:
            raise MarketError(words)
        if isinstance(why, _Misfit) and not known:
            self._say(f"goes on without {address}: {why}")

    def _say_waiting(self, why: str, since_s: float) -> None:
        """Says once what is waited for, whichever thread comes first."""
        with self._lock:
            if self._said_s is not None:
                return
            self._said_s = since_s
        most_s = self._away_timeout_s
        end = "for ever" if most_s == float("inf") else f"for at most {most_s:g} s"
        self._say(f"waits for {self.address} {end}: {why}")

    def _heard(self, now_s: float) -> None:
        """Says that the server is back, if it was said to be away."""
        with self._lock:
            since_s, self._said_s = self._said_s, None
        if since_s is not None:
            self._say(f"{self.address} answers again after {now_s - since_s:.0f} s")

    def _say(self, what: str) -> None:
        print(f"{self._who}: {what}", file=sys.stderr, flush=True)

    def _patience_s(self, attempt: int) -> float:
        with self._lock:
            usual_s = self._answer_s
        most_s = min(ANSWER_MOST_S, max(ANSWER_LEAST_S, self._away_timeout_s / TRIES_LEAST))
        if usual_s is None:
            return min(most_s, ANSWER_FIRST_S)
        return min(most_s, max(ANSWER_LEAST_S, ANSWER_ROUNDTRIPS * usual_s) * attempt)

    def _note(self, seconds: float) -> None:
        with self._lock:
            before = self._answer_s
            self._answer_s = seconds if before is None else 0.8 * before + 0.2 * seconds
            self._lately_s.append(seconds)

    def _once(
        self,
        method: str,
        address: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        fresh: bool,
        timeout_s: float,
        counted: tuple[Traffic, ...],
    ) -> httpx.Response | str:
        """The answer, or why there is none."""
        client = self._fresh if fresh else self._client
        try:
            request = client.build_request(
                method,
                address + path,
                content=body,
                headers={**self._headers, **headers},
                timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            )
            with self._lock:
                for each in counted:
                    each.sent(request, body)
            response = client.send(request, stream=True)
            try:
                content = _content(response)
            finally:
                response.close()
                with self._lock:
                    for each in counted:
                        each.received(response)
            return httpx.Response(response.status_code, headers=_plain(response), content=content)
        except httpx.ConnectError as error:
            return _unreachable(error)
        except httpx.ConnectTimeout:
            return f"no connection within {CONNECT_TIMEOUT_S:g} s: the link is dead or very slow"
        except httpx.TimeoutException:
            return f"no answer within {timeout_s:.3g} s: the link is dead, or the server very slow"
        except httpx.TransportError as error:
            if _caused_by(error, errno.ETIMEDOUT):
                return f"no sign of the other end for {SILENCE_S:g} s: the link is dead"
            if self._wants_tls(address, min(timeout_s, CONNECT_TIMEOUT_S)):
                return _Misfit(
                    "the server there speaks TLS: give the address with https://, and --ca FILE "
                    "with the certificates to trust, such as the authority.pem of `serve --tls`"
                )
            return f"the connection broke ({type(error).__name__})"
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise MarketError(f"{address}: {error}") from None

    def _wants_tls(self, address: str, timeout_s: float) -> bool:
        """Whether a server that takes no plain HTTP speaks TLS; looks once at each address."""
        with self._lock:
            if self._answered or _is_tls(address) or address in self._looked:
                return False
            self._looked.add(address)
        url = httpx.URL(address)
        return speaks_tls(url.host, url.port or 80, timeout_s)


def speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    """Whether who listens there begins TLS; nothing is told to it, so it need not be trusted."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout_s) as connection,
            anybody.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except (OSError, ValueError):
        return False


# ---------------------------------------------------------------- private


def _trusting(addresses: tuple[str, ...], ca: Path | None) -> ssl.SSLContext:
    """What all connections share, for reading the system's certificates takes a while."""
    if ca is None and not any(map(_is_tls, addresses)):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is never asked
    try:
        return httpx.create_ssl_context() if ca is None else ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        # OpenSSL's own words for a file without certificates help nobody.
        found = "none in it" if isinstance(error, ssl.SSLError) else f"{error.strerror}"
        source = "SSL_CERT_FILE" if ca is None else ca
        raise InputError(source, "", "a file of certificates to trust, PEM", found) from None


def _is_tls(address: str) -> bool:
    return httpx.URL(address).scheme == "https"


def _watched() -> list[tuple[int, int, int]]:
    """Socket options by which the kernel notices that nobody is there any more."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2}
    wanted["TCP_USER_TIMEOUT"] = round(1e3 * SILENCE_S)
    for name, value in wanted.items():
        if hasattr(socket, name):  # each system has some of them
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it comes from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _caused_by(error: BaseException, number: int) -> bool:
    return any(isinstance(each, OSError) and each.errno == number for each in _causes(error))


def _unreachable(error: httpx.ConnectError) -> str:
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused: no server listens there"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _mistrusted(cause)
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return _Misfit("the server there speaks no TLS: give the address with http://")
        if isinstance(cause, socket.gaierror):
            return "no host of this name is known"
        if isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return "there is no way to this host: the device's own link is down"
        if isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT:
            return f"no sign of the other end for {SILENCE_S:g} s: the link is dead"
    return str(error) or "no connection"


def _mistrusted(error: ssl.SSLCertVerificationError) -> str:
    words = f"its certificate is not trusted ({error.verify_message})"
    if error.verify_code in _OF_ITS_TIME:
        return f"{words}: is this device's clock right?"
    if error.verify_code in _OTHER_NAME:
        return _Misfit(f"{words}: call it by a name in its certificate, see `serve --allow-host`")
    return _Misfit(
        f"{words}: give --ca FILE with the certificates to trust, such as the authority.pem that "
        "`serve --tls` has made"
    )


def _fields_bytes(fields: Sequence[tuple[bytes, bytes]]) -> int:
    """Header fields, with the empty line that ends a head."""
    return 2 + sum(len(name) + len(value) + len(b": \r\n") for name, value in fields)


def _content(response: httpx.Response) -> bytes:
    """The body of an answer as it comes, never more of it than any answer has.

    Raises:
        InputError: it is larger, or inflates to more; or is not compressed as it says.
    """
    most = max(messages.ANSWER_BYTES_MAX, oip.BODY_BYTES_MAX)
    encoding = compression.encoding_of(response.headers.get("content-encoding", ""), "server")
    inflating = None if encoding is None else compression.Inflating(encoding, most, "server")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk if inflating is None else inflating.inflate(chunk)
        if len(content) > most or response.num_bytes_downloaded > most:
            raise InputError("server", "body", f"at most {most} bytes", "more")
    if inflating is not None and response.num_bytes_downloaded:
        inflating.end()
    return bytes(content)


def _plain(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    """The head of an answer, but for how its body was compressed."""
    return [each for each in response.headers.raw if each[0].lower() != b"content-encoding"]


def _told(response: httpx.Response) -> tuple[str, str]:
    """The server's own words, if it has found any, and the reason for programs."""
    try:
        told = messages.read_object("server", response.content)
        return str(told["error"]), str(told.get("reason") or "")
    except (InputError, KeyError):
        strange = "not in the market's words: does something else answer there?"
        return f"HTTP status {response.status_code}, {strange}", ""


def _refusal(response: httpx.Response) -> Refused:
    words, reason = _told(response)
    return Refused(words, response.status_code, reason)


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), BACKOFF_MAX_S) if text.isascii() and text.isdigit() else 0.0
