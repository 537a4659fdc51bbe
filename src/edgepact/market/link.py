"""A device's connection to its server: patient, bounded, and clear about what it waits for.

A request is sent again, on a fresh connection, after a time that follows from how long answers
have taken before; it gives up only when the server has not answered for `away_timeout_s`. Of
several addresses the next is tried whenever one does not answer, so that a server that has moved
is found. Requests may be sent from several threads at once.
"""

import json
import random
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edgepact.errors import InputError, MarketError
from edgepact.market.link_cost import LinkSpeed
from edgepact.market.protocol import messages, oip
from edgepact.work import ServerAway

CONNECT_TIMEOUT_S = 5.0

POLL_TIMEOUT_S = 30.0
"""Longest wait for the answer to a poll, which the server holds open for less."""

ANSWER_FIRST_S = 10.0
"""How long the first answer may take; later ones a few times what they have taken."""

ANSWER_LEAST_S = 2.0
ANSWER_ROUNDTRIPS = 8.0
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
LEAVE_TIMEOUT_S = 5.0

SAID_AFTER_S = 3.0
"""Once it has waited for so long, a device says for what."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of the server.

    Attributes:
        content: its body.
        header_length: of the binary tensor extension; None where the body is plain JSON.
        attempts: how often the request was sent.
        seconds: from the last sending to the answer.
    """

    content: bytes
    header_length: str | None
    attempts: int
    seconds: float


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
        self._said = False  # what is waited for, by whichever thread came first
        self.speed = LinkSpeed()
        self.stopping = threading.Event()
        """Set to end waits for the next try."""
        verify: ssl.SSLContext | bool = True if ca is None else _trusting(ca)
        settings: dict[str, Any] = {
            "verify": verify,
            "trust_env": False,  # no proxy stands between a device and its edge server
        }
        self._client = httpx.Client(**settings)
        # What is sent again goes another way: the connection may be dead, or the address new.
        self._fresh = httpx.Client(**settings, limits=httpx.Limits(max_keepalive_connections=0))

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
        """How long answers to work take lately, seconds; None before the first."""
        return self._answer_s

    def hurry(self, away_timeout_s: float) -> None:
        """Gives up sooner from now on, even if it was to stop."""
        self._away_timeout_s = min(self._away_timeout_s, away_timeout_s)
        self.stopping.clear()

    def show(self, token: str) -> None:
        """Shows this token with every request."""
        self._headers["Authorization"] = f"Bearer {token}"

    def ask(
        self, method: str, path: str, *, message: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """A market message and its answer."""
        body = None if message is None else json.dumps(message).encode()
        headers = {"Content-Type": messages.JSON_TYPE}
        answer = self.send(method, path, body, headers, timeout_s=POLL_TIMEOUT_S)
        if body is not None:  # polls are held open
            self.speed.note(len(body), answer.seconds)
        # Offers list the pieces done, so they may be larger than other messages.
        return messages.read_object("server", answer.content, messages.ANSWER_BYTES_MAX)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        """Sends a request until it is answered.

        Args:
            method, path, body, headers: of the request.
            timeout_s: of one attempt; None for what follows from earlier answers.

        Raises:
            Refused: the server does not want it.
            ServerAway: no answer within `away_timeout_s`, or the device is to stop.
        """
        began_s = time.monotonic()
        backoff_s, attempts = BACKOFF_FIRST_S, 0
        while True:
            attempts += 1
            sent_s = time.monotonic()
            wait_s = timeout_s or self._patience_s(attempts)
            why = self._once(method, path, body, headers, attempts > 1, wait_s)
            now_s = time.monotonic()
            if isinstance(why, httpx.Response):
                if why.is_success:
                    self._said = False
                    if timeout_s is None:
                        self._note(now_s - sent_s)
                    return Answer(
                        content=why.content,
                        header_length=why.headers.get(oip.HEADER_LENGTH),
                        attempts=attempts,
                        seconds=now_s - sent_s,
                    )
                if why.status_code not in TRY_AGAIN:
                    raise _refusal(why)
                backoff_s = max(backoff_s, _retry_after_s(why))
                if _told(why)[1] == messages.STANDBY:
                    with self._lock:
                        self._at += 1
            else:
                with self._lock:
                    self._at += 1
            words = why if isinstance(why, str) else _told(why)[0]
            # Half of the pause is random, so that devices do not all come back at once.
            pause_s = backoff_s * (0.5 + 0.5 * self._jitter.random())
            if now_s + pause_s > began_s + self._away_timeout_s:
                raise ServerAway(words)
            if now_s - began_s > SAID_AFTER_S and not self._said:
                self._said = True
                self._say(f"waits for {self.address}: {words}")
            if isinstance(why, str) and self.stopping.wait(pause_s):
                raise ServerAway(f"{words}, and it is to stop")
            if not isinstance(why, str):
                time.sleep(pause_s)  # the server is there, and will answer
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def leave(self) -> dict[str, object]:
        """Says good-bye, once, and hears what is still to be shown; nothing if nobody answers."""
        try:
            response = self._client.post(
                self.address + "/market/leave", headers=self._headers, timeout=LEAVE_TIMEOUT_S
            )
            return messages.read_object("server", response.content, messages.ANSWER_BYTES_MAX)
        except (httpx.HTTPError, InputError):
            return {}

    # ------------------------------------------------------------ private

    def _say(self, what: str) -> None:
        print(f"{self._who}: {what}", file=sys.stderr, flush=True)

    def _patience_s(self, attempt: int) -> float:
        with self._lock:
            usual_s = self._answer_s
        if usual_s is None:
            return ANSWER_FIRST_S
        return min(POLL_TIMEOUT_S, max(ANSWER_LEAST_S, ANSWER_ROUNDTRIPS * usual_s) * attempt)

    def _note(self, seconds: float) -> None:
        with self._lock:
            before = self._answer_s
            self._answer_s = seconds if before is None else 0.8 * before + 0.2 * seconds

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        fresh: bool,
        timeout_s: float,
    ) -> httpx.Response | str:
        """The answer, or why there is none."""
        client = self._fresh if fresh else self._client
        try:
            return client.request(
                method,
                self.address + path,
                content=body,
                headers={**self._headers, **headers},
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        except httpx.ConnectError as error:
            return _unreachable(error)
        except httpx.TimeoutException as error:
            kind = "connection" if isinstance(error, httpx.ConnectTimeout) else "answer"
            return f"no {kind} within {timeout_s:.3g} s: the link is dead or very slow"
        except httpx.TransportError as error:
            return f"the connection broke ({type(error).__name__})"
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise MarketError(f"{self.address}: {error}") from None


def _trusting(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise InputError(ca, "", "a file of certificates to trust, PEM", f"{error}") from None


def _unreachable(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused: no server listens there"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if type(cause).__name__ == "gaierror":
            return "no host of this name is known"
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "refused" in text:
        return "connection refused: no server listens there"
    return "no host of this name is known" if "Name or service" in text else text or "no connection"


def _told(response: httpx.Response) -> tuple[str, str]:
    """The server's own words, if it has found any, and the reason for programs."""
    try:
        told = messages.read_object("server", response.content)
        return str(told["error"]), str(told.get("reason") or "")
    except (InputError, KeyError):
        return f"HTTP status {response.status_code}", ""


def _refusal(response: httpx.Response) -> Refused:
    words, reason = _told(response)
    return Refused(words, response.status_code, reason)


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), BACKOFF_MAX_S) if text.isascii() and text.isdigit() else 0.0
