"""What a device has earned, told by its server over a signature.

Anybody who knows the server's public key can check it, without the ledger.
"""

import json
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import Ledger, PieceState, account_of, pending_of
from edgepact.market.ledger.seals import servers_key
from edgepact.market.ledger.signing import read_signed, signed

KIND = "statement of a device"


class NotWhole(MarketError):
    """The books do not bear out what a statement would say."""


def device_statement(
    url: str, device: str, *, key: Path | None = None, now_s: float
) -> dict[str, Any]:
    """A signed statement of a device.

    Args:
        url: where the ledger is.
        device: its name.
        key: file of the server's key; None for the one beside the ledger.
        now_s: the time it is told at, seconds since 1970.

    Raises:
        InputError: there is no such ledger or device, or the key is missing or another server's.
        NotWhole: the books are not whole; nothing is signed then.
    """
    with Ledger(url, read_only=True) as ledger, ledger.one_state():
        signer = servers_key(ledger, key)
        with ledger.told() as told:
            member = told.member(device)
            if member is None:
                raise InputError("ledger statement", "DEVICE", "an enrolled device", device)
            wrong = ledger.check()
            if wrong:
                raise NotWhole(
                    f"the ledger {ledger.url} is NOT whole, so nothing is signed: {wrong[0]} "
                    "(`edgepact ledger check` tells all)"
                )
            strikes, excluded, revoked = member
            seal = told.seal()
            rounds: dict[int, dict[str, dict[str, int]]] = {}
            for row in told.pieces(device):
                own = rounds.setdefault(row.round, {}).setdefault(
                    row.state, {"pieces": 0, "units": 0, "microcredits": 0}
                )
                own["pieces"] += 1
                own["units"] += row.units
                own["microcredits"] += row.microcredits
            document = {
                "kind": KIND,
                "device": device,
                "told_s": now_s,
                "transfer": seal.id,
                "transfer_hash": seal.hash.hex(),
                "paid_microcredits": told.balance(account_of(device)),
                "pending_microcredits": told.balance(pending_of(device)),
                "strikes": strikes,
                "excluded": excluded,
                "revoked": revoked,
                "rounds": [
                    {"round": number, **{state: own.get(state) for state in PieceState}}
                    for number, own in sorted(rounds.items())
                ],
            }
        document["verdicts"] = [
            {"told": json.loads(text), "signature": signature}
            for text, signature in ledger.verdicts(device)
        ]
        return signed(document, signer)


def read_device_statement(path: Path, public: str | None = None) -> dict[str, Any]:
    """A statement that a server has signed.

    Args:
        path: its file.
        public: the server's public key, hexadecimal; None for the one that it names itself.

    Raises:
        InputError: it is none, it was altered, or another key has signed it.
    """
    told = read_signed(path, public)
    if told.get("kind") != KIND:
        raise InputError(path, "kind", KIND, str(told.get("kind")))
    return told
