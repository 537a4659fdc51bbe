"""A server that stands by: it says that it is not ready, until the ledger's lease is its own.

One server at a time writes a ledger. Another one that is started with `--standby` listens, answers
only whether it is ready, which it is not, and asks for the lease again and again. When the process
that had it has ended on this host it is free at once, elsewhere when its time is up; whatever the
old server sends after that is refused by the ledger (its fence).
"""

import asyncio
import time
from contextlib import suppress

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgepact.market.books import SEAL_S
from edgepact.market.ledger import LedByAnother, Ledger, LedgerError
from edgepact.market.ledger.seals import expect_whole, seal_file
from edgepact.market.ledger.signing import ServerKey, key_file
from edgepact.market.protocol import messages
from edgepact.market.serve_config import ServeConfig

POLL_S = 0.5
"""How often the lease is asked for."""


class Switch:
    """What answers now: nobody but a standby, or a market.

    Attributes:
        current: the application of a market; None while there is none.
    """

    def __init__(self) -> None:
        self.current: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request on, or says that this server stands by."""
        await (self.current or _standing_by)(scope, receive, send)


async def lead_at_last(ledger: Ledger, config: ServeConfig) -> None:
    """Returns once the lease of the ledger is this server's.

    What the leader has written meanwhile is looked at now and then, so that little of it is left
    to be looked at when the lease is free. A database that fails is tried again.

    Raises:
        MarketError: the ledger is not whole.
        InputError: the key cannot be used.
    """
    looked_s: float | None = None
    while True:
        with suppress(LedByAnother, LedgerError):
            await asyncio.to_thread(ledger.lead)
            return
        if looked_s is None or time.monotonic() - looked_s > SEAL_S:
            with suppress(LedgerError):
                await asyncio.to_thread(_look, ledger, config)
            looked_s = time.monotonic()
        await asyncio.sleep(POLL_S)


# ---------------------------------------------------------------- private


def _look(ledger: Ledger, config: ServeConfig) -> None:
    key_path = key_file(ledger.file, config.key)
    expect_whole(ledger, ServerKey(key_path), seal_file(key_path))


async def _standing_by(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    told: dict[str, object] = {"error": "this server stands by: another one serves the market"}
    told["reason"] = messages.STANDBY
    status, path = 503, scope["path"]
    if path == "/v2/health/live":
        told, status = {"live": True}, 200
    elif path == "/v2/health/ready":
        told = {"ready": False}
    elif path == "/market/status":
        told, status = {"state": "standby"}, 200
    await JSONResponse(told, status, {"Retry-After": "1"})(scope, receive, send)
