"""What a device has earned, told by its server over a signature.

Anybody who knows the server's public key can check it, without the ledger.
"""

import json
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.market.ledger import Ledger, PieceState, account_of, pending_of
from edgepact.market.ledger.signing import ServerKey, key_file, read_signed, signed

KIND = "statement of a device"


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
        InputError: there is no such ledger or device, or the key cannot be used.
    """
    with Ledger(url, read_only=True) as ledger, ledger.one_state():
        with ledger.told() as told:
            member = told.member(device)
            if member is None:
                raise InputError("ledger statement", "DEVICE", "an enrolled device", device)
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
        return signed(document, ServerKey(key_file(ledger.file, key)))


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
