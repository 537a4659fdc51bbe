"""Who takes part: devices and the tokens that they enrol with.

The functions work within a transaction that is handed to them. Tokens are random and long, so
that a plain SHA-256 of them is a safe thing to store: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from typing import Any

import sqlalchemy as sa

from edgepact.errors import MarketError
from edgepact.market.ledger.database import fact
from edgepact.market.ledger.records import SECRET, SECRET_BYTES, Token
from edgepact.market.ledger.tables import DEVICES, TOKENS


def enrol(books: sa.Connection, one_time_token: str, name: str) -> str:
    """Enrols a device and returns its token, see `Ledger.enrol`."""
    # The same request has the same answer: where a network doubles it, or the device asks again
    # before the first has come in, whichever answer it hears has to be good.
    secret = bytes.fromhex(fact(books, SECRET, secrets.token_hex(SECRET_BYTES)))
    asked = f"device token\n{name}\n{one_time_token}".encode()
    token = urlsafe_b64encode(hmac.digest(secret, asked, "sha256")).decode().rstrip("=")
    enrol_hash = token_hash(one_time_token)
    row = {"enrol_hash": enrol_hash, "token_hash": token_hash(token), "confirmed": False}
    known = books.execute(
        sa.select(DEVICES.c.enrol_hash, DEVICES.c.confirmed).where(DEVICES.c.name == name)
    ).first()
    if known is None:
        used = sa.select(DEVICES.c.name).where(DEVICES.c.enrol_hash == enrol_hash)
        if books.execute(used).first() is not None:
            raise MarketError(
                "this one-time token has enrolled another device already: each needs one of its "
                "own, which the operator makes by `edgepact token issue`"
            )
        books.execute(DEVICES.insert().values(name=name, **row))
    elif known.enrol_hash != enrol_hash:
        raise MarketError(f"another device has enrolled as {name!r}: take another name")
    elif known.confirmed:
        raise MarketError(
            f"{name!r} has enrolled already and uses the token that it was given then, which "
            "stands in its token file"
        )
    else:  # a token of an older version was drawn
        books.execute(DEVICES.update().where(DEVICES.c.name == name).values(**row))
    return token


def admit(books: sa.Connection, name: str) -> None:
    """Notes a device whom somebody else has identified, see `Ledger.admit`."""
    known = books.execute(sa.select(DEVICES.c.name).where(DEVICES.c.name == name)).first()
    if known is None:
        nobodys = {
            column: token_hash(secrets.token_urlsafe(32)) for column in ("enrol_hash", "token_hash")
        }
        books.execute(DEVICES.insert().values(name=name, confirmed=True, **nobodys))


def confirm(books: sa.Connection, name: str) -> None:
    """Notes that a device has used its own token."""
    books.execute(DEVICES.update().where(DEVICES.c.name == name).values(confirmed=True))


def device_of(books: sa.Connection, token: str) -> str | None:
    """Name of the device with this token; None for nobody's, or if it was revoked."""
    query = sa.select(DEVICES.c.name).where(
        DEVICES.c.token_hash == token_hash(token), sa.not_(DEVICES.c.revoked)
    )
    row = books.execute(query).first()
    return None if row is None else str(row.name)


def shut_out(books: sa.Connection) -> dict[str, bool]:
    """Devices that may take no part: excluded (True), or their token was revoked (False)."""
    query = sa.select(DEVICES.c.name, DEVICES.c.excluded).where(
        sa.or_(DEVICES.c.excluded, DEVICES.c.revoked)
    )
    return {row.name: bool(row.excluded) for row in books.execute(query)}


def strikes(books: sa.Connection) -> dict[str, int]:
    """Audits that devices have failed, of those that have."""
    query = sa.select(DEVICES.c.name, DEVICES.c.strikes).where(DEVICES.c.strikes > 0)
    return {row.name: int(row.strikes) for row in books.execute(query)}


def strike(books: sa.Connection, device: str, strikes_max: int) -> None:
    """Counts a failed audit; at so many the device is excluded."""
    count = DEVICES.c.strikes + 1
    books.execute(
        DEVICES.update()
        .where(DEVICES.c.name == device)
        .values(strikes=count, excluded=sa.or_(DEVICES.c.excluded, count >= strikes_max))
    )


def change_device(books: sa.Connection, name: str, **values: Any) -> None:
    """Sets columns of a device.

    Raises:
        MarketError: there is none of this name.
    """
    found = books.execute(DEVICES.update().where(DEVICES.c.name == name).values(**values))
    if not found.rowcount:
        raise MarketError(f"no device is enrolled as {name!r}")


def members(books: sa.Connection) -> list[tuple[str, int, bool, bool]]:
    """Name, strikes, excluded, revoked of all devices."""
    query = sa.select(DEVICES).order_by(DEVICES.c.name)
    return [
        (row.name, row.strikes, bool(row.excluded), bool(row.revoked))
        for row in books.execute(query)
    ]


LABEL_CHARS = 12


def issue(books: sa.Connection, token: str, issued_s: float, expires_s: float | None) -> Token:
    """Keeps the hash of a new one-time token."""
    mark = token_hash(token)
    label = mark[:LABEL_CHARS]
    books.execute(
        TOKENS.insert().values(
            hash=mark, label=label, issued_s=issued_s, expires_s=expires_s, revoked=False
        )
    )
    return Token(label=label, issued_s=issued_s, expires_s=expires_s, revoked=False, device=None)


def issued(books: sa.Connection) -> list[Token]:
    """All one-time tokens that were issued, in order."""
    join = TOKENS.outerjoin(DEVICES, DEVICES.c.enrol_hash == TOKENS.c.hash)
    query = sa.select(TOKENS, DEVICES.c.name).select_from(join).order_by(TOKENS.c.issued_s)
    return [
        Token(
            label=row.label,
            issued_s=row.issued_s,
            expires_s=row.expires_s,
            revoked=bool(row.revoked),
            device=row.name,
        )
        for row in books.execute(query)
    ]


def admits(books: sa.Connection, token: str, now_s: float) -> bool:
    """Whether a one-time token was issued and is neither revoked nor expired."""
    row = books.execute(sa.select(TOKENS).where(TOKENS.c.hash == token_hash(token))).first()
    return row is not None and not row.revoked and (row.expires_s is None or now_s < row.expires_s)


def revoke_token(books: sa.Connection, label: str) -> bool:
    """Voids a one-time token; False if there is none of this label."""
    found = books.execute(TOKENS.update().where(TOKENS.c.label == label).values(revoked=True))
    return bool(found.rowcount)


def devices(books: sa.Connection) -> list[str]:
    """Names of all enrolled devices."""
    names = books.execute(sa.select(DEVICES.c.name).order_by(DEVICES.c.name))
    return [str(name) for name in names.scalars()]


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
