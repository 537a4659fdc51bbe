"""Whether pieces and verdicts are what the books say: each piece paid once, for what it was.

The books by themselves are `double_entry.check`'s. However large a ledger is, a few thousand rows
of it are in memory at once.
"""

import hashlib
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger import double_entry, member_rows, piece_rows, round_rows, sales
from edgepact.market.ledger.accounts import (
    FORFEITED,
    SERVER,
    account_of,
    delivery_of,
    expiry_of,
    forfeit_of,
    mark_of,
    paid_of,
    pending_of,
)
from edgepact.market.ledger.database import READ_AT_ONCE, known_fact
from edgepact.market.ledger.records import PieceState

WRONG_MAX = 20
"""Pieces that a check names."""


def check_pieces(books: sa.Connection) -> list[str]:
    """What is wrong between the books and the pieces, in sentences; nothing if they agree."""
    return _sums(books) + list(islice(_rows(books), WRONG_MAX))


def _sums(books: sa.Connection) -> list[str]:
    """Accounts that do not hold what the pieces of their state add up to."""
    kept, worth = double_entry.balances(books), piece_rows.worth_by_state(books)
    wrong, forfeited = list[str](), 0
    for device in member_rows.devices(books):
        own = worth.get(device, {})
        for account, state in (
            (account_of(device), PieceState.PAID),
            (pending_of(device), PieceState.PENDING),
        ):
            if kept.get(account, 0) != own.get(state, 0):
                wrong.append(
                    f"{account} holds {kept.get(account, 0)} micro-credits, the pieces "
                    f"that are {state} add up to {own.get(state, 0)}"
                )
        forfeited += own.get(PieceState.FORFEIT, 0)
    # Pieces that failed an audit under an older edition never had a transfer.
    if kept.get(FORFEITED, 0) > forfeited:
        wrong.append(
            f"{FORFEITED} holds {kept.get(FORFEITED, 0)} micro-credits, the pieces that "
            f"are forfeit add up to {forfeited}"
        )
    return wrong


def _rows(books: sa.Connection) -> Iterator[str]:
    """Pieces, payments and verdicts without their like on the other side."""
    older = int(known_fact(books, "pieces_of_edition_2") or 0)
    bound = 0  # transfers that say what they were for, and were found to
    expired, paid = list[tuple[str, str]](), list[tuple[str, bytes]]()
    of, own = (0, ""), list[str]()
    # One walk through all there is, and no objects: there may be millions of them.
    for row in piece_rows.pieces_beside(books, double_entry.beside):
        _, device, piece, number, *_, state, _, _, debit, _, _, about = row
        bound += about is not None
        if not _is_paid_for(row, older):
            yield f"the piece {delivery_of(device, piece)} is not what its transfer was for"
        if of != (number, device):
            paid.append((paid_of(*of), piece_rows.pieces_mark(own)))
            of, own = (number, device), []
        if state == _PAID:
            own.append(piece)
        elif state == _EXPIRED and debit is not None:
            expired.append((device, piece))
        if max(len(expired), len(paid)) >= READ_AT_ONCE:
            bound += yield from _taken_back_and_paid(books, expired, paid)
            expired, paid = [], []
    paid.append((paid_of(*of), piece_rows.pieces_mark(own)))
    bound += yield from _taken_back_and_paid(books, expired, paid)
    for row in round_rows.all_verdicts(books):
        reference = forfeit_of(row.round, row.device)
        transfer = double_entry.find(books, [reference]).get(reference)
        bound += transfer is not None and transfer.about is not None
        mark = hashlib.sha256(row.told.encode()).digest()
        if transfer is not None and transfer.about != mark:
            yield f"the verdict on {row.device} in round {row.round} was altered"
    for each in sales.wrong(books):
        if each is None:
            bound += 1
        else:
            yield each
    explained = double_entry.count_explained(books)
    if explained != bound:
        yield f"{explained - bound} transfers are for pieces or verdicts that are not there"


_PAID, _EXPIRED = PieceState.PAID.value, PieceState.EXPIRED.value
_UNPAID = frozenset({PieceState.FORFEIT.value, PieceState.EXPIRED.value})


def _is_paid_for(row: Any, older: int) -> bool:
    """Whether a piece and the transfer of its delivery say the same."""
    at, device, piece, number, amount, units, microcredits, state, digest, commitment = row[:10]
    debit, credit, moved, about = row[10:]
    if debit is None:
        # Under edition 2 only what was paid had a transfer.
        return microcredits == 0 or (state in _UNPAID and at <= older)
    if about is None:
        to = account_of(device)
    else:
        to = pending_of(device)
        if about != mark_of(device, piece, number, amount, units, digest, commitment):
            return False
    return bool(debit == SERVER and credit == to and moved == microcredits)


def _taken_back_and_paid(
    books: sa.Connection, expired: list[tuple[str, str]], paid: list[tuple[str, bytes]]
) -> Generator[str, None, int]:
    """What is wrong with pieces that have expired and with payments of device-rounds.

    Args:
        books: the transaction.
        expired: device and id of pieces that have, and had a transfer.
        paid: reference of the payment of each device-round, and a mark of its paid pieces.

    Returns:
        How many of the payments say what they were for.
    """
    found = _transfers(books, [expiry_of(*each) for each in expired])
    for device, piece in expired:
        if expiry_of(device, piece) not in found:
            reference = delivery_of(device, piece)
            yield f"the piece {reference} has expired and its pay was not taken back"
    bound, found = 0, _transfers(books, [reference for reference, _ in paid])
    for reference, mark in paid:
        transfer = found.get(reference)
        bound += transfer is not None and transfer.about is not None
        if transfer is not None and transfer.about not in (None, mark):
            yield f"the transfer {reference} was for other pieces than those that are paid"
    return bound


def _transfers(books: sa.Connection, references: list[str]) -> dict[str, double_entry.Transfer]:
    return double_entry.find(books, references) if references else {}
