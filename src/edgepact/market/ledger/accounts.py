"""What accounts and transfers of the market are called, and what transfers bind.

A device's name has neither a colon nor a slash, so that no device and no piece can be named such
that two references are the same.
"""

import hashlib

SERVER = "server"
"""The account that pays."""

FORFEITED = "forfeited"
"""The account of pay that was forfeit: nobody's gain."""


def account_of(device: str) -> str:
    """A device's account."""
    return f"device:{device}"


def pending_of(device: str) -> str:
    """The account of what is pending of a device."""
    return f"pending:{device}"


def buyer_of(name: str) -> str:
    """A buyer's account."""
    return f"buyer:{name}"


def sold_of(request: str) -> str:
    """Reference of the transfer that a buyer pays for a request with."""
    return f"sold:{request}"


def delivery_of(device: str, piece: str) -> str:
    """Reference of the transfer that a piece is delivered with."""
    return f"{device}/{piece}"


def expiry_of(device: str, piece: str) -> str:
    """Reference of the transfer that takes back the pay of a piece that has expired."""
    return f"expired:{device}/{piece}"


def paid_of(number: int, device: str) -> str:
    """Reference of the transfer that pays a device-round."""
    return f"round:{number}/{device}/paid"


def forfeit_of(number: int, device: str) -> str:
    """Reference of the transfer of what is forfeit by an audit of a device-round."""
    return f"round:{number}/{device}/forfeit"


def mark_of(
    device: str,
    piece: str,
    number: int,
    amount: float,
    units: int,
    digest: bytes,
    commitment: bytes | None,
) -> bytes:
    """What the chain of transfers binds of a piece: all that its pay was for."""
    told = f"{device}/{piece} {number} {amount!r} {units} "
    return hashlib.sha256(told.encode() + digest + (commitment or b"")).digest()
