"""`edgepact token list`: one-time tokens and devices."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgepact.cli.output import Json, print_json, print_sheets
from edgepact.cli.token.ledger_option import DEFAULT, LedgerUrl
from edgepact.framework import Sheet

if TYPE_CHECKING:
    from edgepact.market.ledger import Member, Token


def list_(ledger: LedgerUrl = DEFAULT, as_json: Json = False) -> None:
    """List one-time tokens by label, and devices with their strikes."""
    import time

    from edgepact.market.ledger import Ledger

    with Ledger(ledger, read_only=True) as books, books.one_state():
        tokens, members = books.tokens(), books.members()
    now_s = time.time()
    if as_json:
        print_json(
            {
                "tokens": [
                    {
                        "label": each.label,
                        "issued_s": each.issued_s,
                        "expires_s": each.expires_s,
                        "state": _token_state(each, now_s),
                        "device": each.device,
                    }
                    for each in tokens
                ],
                "devices": [
                    {"name": each.name, "strikes": each.strikes, "state": _device_state(each)}
                    for each in members
                ],
            }
        )
        return
    one_time = Sheet(
        title="One-time tokens",
        head=("label", "issued", "ends", "state", "device"),
        rows=tuple(
            (
                each.label,
                _time(each.issued_s),
                _time(each.expires_s),
                _token_state(each, now_s),
                each.device or "",
            )
            for each in tokens
        ),
    )
    devices = Sheet(
        title="Devices",
        head=("device", "strikes", "state"),
        rows=tuple((each.name, str(each.strikes), _device_state(each)) for each in members),
    )
    print_sheets((one_time, devices))


def _token_state(token: "Token", now_s: float) -> str:
    if token.revoked:
        return "revoked"
    if token.device is not None:
        return "used"
    return "ended" if token.expires_s is not None and token.expires_s <= now_s else "open"


def _device_state(member: "Member") -> str:
    return "revoked" if member.revoked else "excluded" if member.excluded else "enrolled"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")
