"""Who is let in before anything is read: no browser page, and nobody who was sent to another name.

A page in a browser on the same machine or network can send requests here. It cannot hide where it
comes from (`Origin`) nor, if its own name was made to point here, which name it called (`Host`).
So requests are taken under names that the operator has said, and under addresses, which no page
can make its own.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


def _plain(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status)


class Entry:
    """Refuses requests of browser pages of other origins (403) and to other names (421).

    Args:
        app: what is behind it.
        hosts: names that the server may be called by, beside addresses and `localhost`.
        refused: makes the answer to what is refused, of a status and why.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        refused: Callable[[int, str], Response] = _plain,
    ) -> None:
        self._app, self._refused = app, refused
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request on, or refuses it."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        host = hosts[0] if hosts else ""  # HTTP/1.1 is refused without one before it comes here
        if len(hosts) > 1 or (hosts and not self.knows(host)):
            words = "this server is not called by this name; its operator can allow it"
            return self._refused(421, words)
        if any(origin.lower() != f"{scope['scheme']}://{host}".lower() for origin in origins):
            return self._refused(403, "pages of other origins cannot reach in")
        return None

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        name = _without_port(host)
        if name is None:
            return False
        if name in self._hosts or name == "localhost":
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _without_port(host: str) -> str | None:
    """The name or address of a `Host` header; None for what is none."""
    text = host.strip().lower()
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        if not closed or (rest and not _is_port(rest)):
            return None
        return address
    name, colon, port = text.partition(":")
    if colon and not _is_port(colon + port):
        return None
    return name.rstrip(".")


def _is_port(text: str) -> bool:
    digits = text[1:]
    return text[0] == ":" and digits.isascii() and digits.isdigit() and len(digits) <= 5
