"""Pieces on their way into the books: what each earns, within what is assigned and the budget.

All of a group are taken in one transaction, each by itself: one that is refused holds no other up.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from edgepact.credits import in_credits
from edgepact.errors import MarketError
from edgepact.market.demand import Request
from edgepact.market.ledger import double_entry, piece_rows, round_rows, sales
from edgepact.market.ledger.accounts import FORFEITED, SERVER, delivery_of, mark_of, pending_of
from edgepact.market.ledger.double_entry import Transfer
from edgepact.market.ledger.records import Limits, Piece, PieceState, Settlement, Stage


class RepeatedWork(MarketError):
    """The same work was delivered before."""


class NoBudget(MarketError):
    """No more may be promised."""


class Delivery:
    """Pieces on their way into the books, all in one transaction."""

    def __init__(
        self, books: sa.Connection, now_s: float, first_round: int | None, limits: Limits
    ) -> None:
        self._books, self._now_s = books, now_s
        self._first_round, self._limits = first_round, limits

    def take(self, pieces: Sequence[Piece]) -> list[Settlement | MarketError]:
        """See `Ledger.deliver`."""
        books = self._books
        known = piece_rows.known_pieces(books, {(each.device, each.piece) for each in pieces})
        fresh = [each for each in pieces if (each.device, each.piece) not in known]
        self._rounds = {number: round_rows.round_row(books, number) for number in _rounds_of(fresh)}
        self._assigned = round_rows.assignments(books, {(e.round, e.device) for e in fresh})
        self._before = dict[bytes, tuple[str, str]]()
        if fresh and self._first_round is not None:
            digests = {each.digest for each in fresh if each.amount > 0}
            self._before = piece_rows.delivered_since(books, digests, self._first_round)
        self._added: dict[tuple[int, str], list[int]] = {}
        self._promised = 0
        self._promised_in: dict[int, int] = {}
        if fresh and self._limits.total_microcredits is not None:
            # What was forfeit is nobody's, and may be promised anew.
            self._promised = -double_entry.balance(books, SERVER)
            self._promised -= double_entry.balance(books, FORFEITED)
            self._promised += sales.received(books)
        if fresh and self._limits.round_microcredits is not None:
            self._promised_in = {
                n: round_rows.bought_in(books, n, double_entry.beside) for n in _rounds_of(fresh)
            }
        asked = [each.request.id for each in fresh if each.request is not None]
        self._sold = sales.known(books, asked) if asked else set[str]()
        rows: list[dict[str, Any]] = []
        sold: list[dict[str, Any]] = []
        transfers: list[Transfer] = []
        found: list[Settlement | MarketError] = []
        taken: dict[tuple[str, str], tuple[Piece, Settlement]] = {}
        for each in pieces:
            key = each.device, each.piece
            try:
                if key in known:
                    found.append(known_in(known[key], each))
                elif key in taken:
                    first, settlement = taken[key]
                    _expect_the_same(each, first.round, first.amount, first.digest)
                    found.append(
                        Settlement(
                            state=settlement.state,
                            microcredits=settlement.microcredits,
                            units=settlement.units,
                            repeated=True,
                        )
                    )
                else:
                    settlement = self._weighed(each)
                    taken[key] = each, settlement
                    rows.append(_row(each, settlement, self._now_s))
                    if each.request is not None:
                        self._sold.add(each.request.id)
                        sold.append(_sale(each, each.request, settlement))
                    transfers.append(
                        Transfer(
                            reference=delivery_of(each.device, each.piece),
                            debit=SERVER,
                            credit=pending_of(each.device),
                            microcredits=settlement.microcredits,
                            about=mark_of(
                                each.device,
                                each.piece,
                                each.round,
                                each.amount,
                                settlement.units,
                                each.digest,
                                each.commitment,
                            ),
                        )
                    )
                    found.append(settlement)
            except MarketError as error:
                found.append(error)
        if rows:
            piece_rows.add_pieces(books, rows)
            sales.add(books, sold)
            round_rows.count_delivered(books, self._added)
            double_entry.move(books, transfers)
        return found

    def _weighed(self, each: Piece) -> Settlement:
        """What a new piece earns.

        Raises:
            MarketError: it cannot be taken.
        """
        terms, assigned = self._rounds[each.round], self._assigned.get((each.round, each.device))
        round_rows.check_open(terms, each.round)
        if assigned is None or assigned.amount != each.amount:
            said = "nothing" if assigned is None else f"{assigned.amount:g}"
            raise MarketError(
                f"{each.device!r} was assigned {said} in round {each.round}, not {each.amount:g}"
            )
        if assigned.state != Stage.OPEN:
            raise MarketError(f"round {each.round} is being settled for {each.device!r}")
        more = self._added.setdefault((each.round, each.device), [0, 0])
        left = terms.units_per_device - assigned.units - more[0]
        if left <= 0:
            raise MarketError(
                f"{each.device!r} has delivered all {terms.units_per_device} units "
                f"of round {each.round}"
            )
        request, units = each.request, min(each.units, left)
        if request is not None:
            # Two buyers may ask for the same; each request is delivered once.
            if request.id in self._sold:
                raise RepeatedWork(f"the request {request.id!r} was delivered before")
            units = min(units, request.units_most)
        elif self._first_round is not None and each.amount > 0 and each.digest in self._before:
            raise RepeatedWork(f"the work of {each.piece!r} was delivered before")
        microcredits = units * assigned.reward_microcredits
        self._expect_budget(each.round, microcredits)
        more[0], more[1] = more[0] + units, more[1] + microcredits
        self._before[each.digest] = each.device, each.piece
        return Settlement(state=PieceState.PENDING, microcredits=microcredits, units=units)

    def _expect_budget(self, number: int, microcredits: int) -> None:
        limits = self._limits
        total, in_round = self._promised, self._promised_in.get(number, 0)
        for limit, promised, of in (
            (limits.total_microcredits, total, "the market"),
            (limits.round_microcredits, in_round, f"round {number}"),
        ):
            if limit is not None and promised + microcredits > limit:
                raise NoBudget(
                    f"the budget of {of} is used up: {in_credits(promised):.6f} of "
                    f"{in_credits(limit):.6f} credits"
                )
        self._promised = total + microcredits
        self._promised_in[number] = in_round + microcredits


def known_piece(books: sa.Connection, piece: Piece) -> Settlement | None:
    """How a piece stands; None of one that the ledger does not know.

    Raises:
        MarketError: the id was used for something else.
    """
    row = piece_rows.piece_row(books, piece.device, piece.piece)
    return None if row is None else known_in(row, piece)


def known_in(row: Any, piece: Piece) -> Settlement:
    """How a piece stands that the ledger knows.

    Raises:
        MarketError: the id was used for something else.
    """
    _expect_the_same(piece, row.round, row.amount, bytes(row.digest))
    return piece_rows.settlement_of(row, repeated=True)


# ---------------------------------------------------------------- private


def _rounds_of(pieces: Sequence[Piece]) -> set[int]:
    return {each.round for each in pieces}


def _row(each: Piece, settlement: Settlement, now_s: float) -> dict[str, Any]:
    return {
        "device": each.device,
        "piece": each.piece,
        "round": each.round,
        "amount": each.amount,
        "units": settlement.units,
        "microcredits": settlement.microcredits,
        "state": settlement.state,
        "digest": each.digest,
        "audited": False,
        "evidence": each.evidence or None,
        "recorded_s": now_s,
        "commitment": each.commitment,
        "sketch": each.sketch or None,
    }


def _sale(each: Piece, request: Request, settlement: Settlement) -> dict[str, Any]:
    sold = settlement.units
    if each.units_sold is not None:
        sold = min(max(each.units_sold, 0), sold)
    return {
        "request": request.id,
        "buyer": request.buyer,
        "device": each.device,
        "round": each.round,
        "units": sold,
        "microcredits": request.price(sold),
        "bound": request.bound,
    }


def _expect_the_same(piece: Piece, round: int, amount: float, digest: bytes) -> None:
    if round != piece.round:
        raise RepeatedWork(f"{piece.piece!r} was delivered in round {round} already")
    if (amount, digest) != (piece.amount, piece.digest):
        raise MarketError(f"the id {piece.piece!r} has been used for something else")
