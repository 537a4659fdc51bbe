"""Seals of the books in files: the last transfer and the balances, signed.

Who keeps one knows the books again: they must go on from there. A server keeps one of its own
beside its key, so that it need not follow the whole chain whenever it starts.
"""

import json
import os
from pathlib import Path

from edgepact.errors import InputError, MarketError
from edgepact.market.ledger.double_entry import Seal
from edgepact.market.ledger.ledger import Ledger
from edgepact.market.ledger.signing import ServerKey, key_file, read_signed, signed

KIND = "seal of a ledger"


def write_seal(path: Path, seal: Seal, key: ServerKey) -> None:
    """Writes a seal, in one piece.

    Raises:
        InputError: it cannot be written there.
    """
    told = {
        "kind": KIND,
        "id": seal.id,
        "hash": seal.hash.hex(),
        "balances": seal.balances.hex(),
    }
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(signed(told, key)) + "\n")
            file.flush()
            os.fsync(file.fileno())  # half a seal would keep the next server from starting
        part.replace(path)
    except OSError as error:
        raise InputError(path, "", "a file for the seal", f"{error.strerror}") from None


def read_seal(path: Path, public: str | None = None) -> Seal:
    """A seal that was written.

    Raises:
        InputError: there is none, it was altered, or another key has signed it.
    """
    told = read_signed(path, public)
    try:
        seal = Seal(
            id=int(told["id"]),
            hash=bytes.fromhex(told["hash"]),
            balances=bytes.fromhex(told["balances"]),
        )
        if told.get("kind") != KIND:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(path, "kind", KIND, "another document") from None
    return seal


def servers_key(ledger: Ledger, stated: Path | None = None) -> ServerKey:
    """The key of a ledger's server, for who only reads the ledger: none is made.

    Args:
        ledger: the ledger.
        stated: the key's file; None for the one beside the ledger.

    Raises:
        InputError: there is no such file, or the server is known by another key.
    """
    path = key_file(ledger.file, stated)
    key, known = ServerKey(path, make=False), ledger.server
    if known not in (None, key.public):
        expected = f"the key of the ledger's server, {known}; --key says where it is"
        raise InputError(path, "", expected, f"another, {key.public}")
    return key


def seal_file(key_file: Path) -> Path:
    """Where a server keeps the seal of its own books."""
    return key_file.with_name(f"{key_file.name.removesuffix('.key')}.seal")


def expect_whole(ledger: Ledger, key: ServerKey, file: Path) -> None:
    """Holds a ledger against the seal of its last server, and seals it anew.

    The first time, and without a seal, all of it is looked at; else what came since.

    Raises:
        MarketError: it is not whole; the message tells the first that is wrong.
        InputError: the file holds no seal of this key.
    """
    kept = read_seal(file, key.public) if file.exists() else None
    wrong = ledger.check(kept, since=True)
    if wrong:
        hint = f"; if another ledger was put there on purpose, remove {file}" if kept else ""
        raise MarketError(
            f"the ledger {ledger.url} is not whole: {wrong[0]} "
            f"(`edgepact ledger check` tells all){hint}"
        )
    write_seal(file, ledger.seal(), key)
