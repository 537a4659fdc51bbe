"""Whether pieces and verdicts are what the books say: each piece paid once, for what it was.

The books by themselves are `double_entry.check`'s. However large a ledger is, a few thousand rows
of it are in memory at once.
"""

import hashlib
from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa

from edgepact.market.ledger import double_entry, records
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
    kept, worth = double_entry.balances(books), records.worth_by_state(books)
    wrong, forfeited = list[str](), 0
    for device in records.devices(books):
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
    pieces = records.all_pieces(books)
    while chunk := list(islice(pieces, READ_AT_ONCE)):
        found = _transfers(books, [delivery_of(row.device, row.piece) for row in chunk])
        expired = _transfers(
            books,
            [expiry_of(row.device, row.piece) for row in chunk if row.state == PieceState.EXPIRED],
        )
        for row in chunk:
            reference = delivery_of(row.device, row.piece)
            transfer = found.get(reference)
            bound += transfer is not None and transfer.about is not None
            if not _is_paid_for(row, transfer, older):
                yield f"the piece {reference} is not what its transfer was for"
            back = expired.get(expiry_of(row.device, row.piece))
            if transfer is not None and row.state == PieceState.EXPIRED and back is None:
                yield f"the piece {reference} has expired and its pay was not taken back"
    paid = _paid_rounds(books)
    while chunk_paid := list(islice(paid, READ_AT_ONCE)):
        found = _transfers(books, [reference for reference, _ in chunk_paid])
        for reference, mark in chunk_paid:
            transfer = found.get(reference)
            bound += transfer is not None and transfer.about is not None
            if transfer is not None and transfer.about not in (None, mark):
                yield f"the transfer {reference} was for other pieces than those that are paid"
    for row in records.all_verdicts(books):
        reference = forfeit_of(row.round, row.device)
        transfer = double_entry.find(books, [reference]).get(reference)
        bound += transfer is not None and transfer.about is not None
        mark = hashlib.sha256(row.told.encode()).digest()
        if transfer is not None and transfer.about != mark:
            yield f"the verdict on {row.device} in round {row.round} was altered"
    explained = double_entry.count_explained(books)
    if explained != bound:
        yield f"{explained - bound} transfers are for pieces or verdicts that are not there"


def _is_paid_for(row: Any, transfer: double_entry.Transfer | None, older: int) -> bool:
    """Whether a piece and the transfer of its delivery say the same."""
    if transfer is None:
        # Under edition 2 only what was paid had a transfer.
        unpaid = row.state in (PieceState.FORFEIT, PieceState.EXPIRED)
        return row.microcredits == 0 or (unpaid and row.id <= older)
    mark = mark_of(
        row.device,
        row.piece,
        row.round,
        row.amount,
        row.units,
        bytes(row.digest),
        None if row.commitment is None else bytes(row.commitment),
    )
    to = account_of(row.device) if transfer.about is None else pending_of(row.device)
    return (
        transfer.about in (None, mark)
        and (transfer.debit, transfer.credit) == (SERVER, to)
        and transfer.microcredits == row.microcredits
    )


def _paid_rounds(books: sa.Connection) -> Iterator[tuple[str, bytes]]:
    """Reference of the payment of each device-round, and a mark of its paid pieces."""
    for (number, device), rows in groupby(
        records.all_pieces(books), key=lambda row: (row.round, row.device)
    ):
        own = [row.piece for row in rows if row.state == PieceState.PAID]
        yield paid_of(number, device), records.pieces_mark(own)


def _transfers(books: sa.Connection, references: list[str]) -> dict[str, double_entry.Transfer]:
    return double_entry.find(books, references) if references else {}
