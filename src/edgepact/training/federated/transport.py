"""How the server reaches its clients: one small interface, and one that opens no socket.

`flower.FlowerTransport` is the same over Flower's grid, in its simulation and in deployments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edgepact.efficiency.compression import Vector
from edgepact.training.federated.messages import Fields

FAILURE_CHARS_MAX = 200
"""Longest reason that is kept of a failure."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """To one client: fields, and the weights [n] where there is something to train."""

    fields: Fields
    weights: Vector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """From one client: fields, or why there are none."""

    client: str
    fields: Fields | None = None
    failure: str = ""


@runtime_checkable
class Transport(Protocol):
    """Names of clients, and requests to them."""

    def clients(self) -> Sequence[str]:
        """Who can be reached just now."""
        ...

    def exchange(self, kind: str, requests: Mapping[str, Request], timeout_s: float) -> list[Reply]:
        """Sends requests and waits for the replies, in any order, for at most so long.

        A client may be missing among the replies, or come twice; the caller checks.
        """
        ...


Handler = Callable[[str, Request], Fields]


class InMemory:
    """Clients that are functions of this process; one that raises has failed.

    Attributes:
        handlers: by name, what answers a kind of request.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.handlers = dict(handlers)

    def clients(self) -> Sequence[str]:
        """All of them."""
        return sorted(self.handlers)

    def exchange(self, kind: str, requests: Mapping[str, Request], timeout_s: float) -> list[Reply]:
        """Asks one after the other."""
        replies = []
        for name, request in requests.items():
            try:
                replies.append(Reply(client=name, fields=self.handlers[name](kind, request)))
            except Exception as error:
                replies.append(Reply(client=name, failure=failure_of(error)))
        return replies


def failure_of(error: object) -> str:
    """A failure as one short line."""
    kind = f"{type(error).__name__}: " if isinstance(error, Exception) else ""
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= FAILURE_CHARS_MAX else text[: FAILURE_CHARS_MAX - 1] + "…"
