"""The server's key: it signs heads of the books, verdicts and statements.

An Ed25519 key in a file that its owner alone can read, made at first use.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgepact.errors import InputError

KEY_BYTES = 32


class ServerKey:
    """A key to sign with.

    Args:
        path: its file, 32 bytes in hexadecimal.
        make: whether it is made if it does not exist. Only who serves a ledger makes its key.

    Raises:
        InputError: the file cannot be read or made, or holds no key.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        if not make and not path.exists():
            expected = "the key of the ledger's server; --key says where it is"
            raise InputError(path, "", expected, "no such file")
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(_read_or_make(path))
        except OSError as error:
            raise InputError(path, "", "a file for the server's key", f"{error.strerror}") from None
        except ValueError:
            raise InputError(path, "", "a key of 32 bytes in hexadecimal", "another") from None

    @property
    def public(self) -> str:
        """By which others check signatures, hexadecimal."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, text: str) -> str:
        """The signature of a text, hexadecimal."""
        return self._key.sign(text.encode()).hex()


def is_signed(public: str, text: str, signature: str) -> bool:
    """Whether a text was signed with the key whose public half this is."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), text.encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def signed(document: Mapping[str, Any], key: ServerKey) -> dict[str, Any]:
    """A JSON document with the key's public half and its signature in it.

    What is signed is the document with the public half and without the signature, as JSON with
    sorted keys and no spaces.
    """
    told = {**document, "public": key.public}
    return {**told, "signature": key.sign(_canonical(told))}


def read_signed(path: Path, public: str | None = None) -> dict[str, Any]:
    """A JSON document that was signed.

    Args:
        path: its file.
        public: by which key, hexadecimal; None for the one that it names itself.

    Raises:
        InputError: there is none, it was altered, or another key has signed it.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = getattr(error, "strerror", None) or f"{error}"
        raise InputError(path, "", "a signed JSON document", found) from None
    if not isinstance(told, dict) or not isinstance(told.get("signature"), str):
        raise InputError(path, "signature", "a signed JSON document", "none")
    own = str(told.get("public"))
    if public is not None and own != public.lower():
        raise InputError(path, "public", f"the key {public}", own)
    bare = {name: value for name, value in told.items() if name != "signature"}
    if not is_signed(own, _canonical(bare), told["signature"]):
        raise InputError(path, "signature", "one that fits what stands there", "another")
    return told


def key_file(ledger_file: Path | None, stated: Path | None = None) -> Path:
    """Where the key of a ledger's server is: as stated, or beside an SQLite ledger."""
    if stated is not None:
        return stated
    if ledger_file is not None:
        return ledger_file.with_name(f"{ledger_file.name}.key")
    return Path("edgepact-server.key")


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _read_or_make(path: Path) -> bytes:
    if not path.exists():
        # Written whole before it has its name: nobody reads half a key.
        part = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(os.urandom(KEY_BYTES).hex() + "\n")
        try:
            path.hardlink_to(part)  # fails where another server has been faster
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return bytes.fromhex(path.read_text(encoding="ascii").strip())
