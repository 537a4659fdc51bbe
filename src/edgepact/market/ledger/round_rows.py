"""Rounds, what devices answered, what each was assigned and how that stands, and verdicts.

The functions work within a transaction that is handed to them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import sqlalchemy as sa

from edgepact.engagement import NOTHING, Answer, Item
from edgepact.errors import MarketError
from edgepact.market.ledger.database import READ_AT_ONCE
from edgepact.market.ledger.piece_rows import PENDING_OR_PAID, pending
from edgepact.market.ledger.records import OpenAudit, PieceState, RoundRecord, Stage
from edgepact.market.ledger.tables import ANSWERS, ASSIGNMENTS, PIECES, ROUNDS, VERDICTS, of_keys
from edgepact.market.protocol.messages import (
    answer_json,
    question_json,
    read_answer,
    read_question,
)


def open_round(books: sa.Connection, number: int, **terms: Any) -> None:
    """Adds a round: job, model, digest, question, units_per_device.

    Raises:
        sqlalchemy.exc.IntegrityError: there is one of this number.
    """
    question = json.dumps(question_json(terms.pop("question")))
    books.execute(
        ROUNDS.insert().values(
            number=number, question=question, engaged=False, closed=False, **terms
        )
    )


def round_row(books: sa.Connection, number: int) -> Any:
    """The row of a round, or None."""
    return books.execute(sa.select(ROUNDS).where(ROUNDS.c.number == number)).first()


def expect_open(books: sa.Connection, number: int) -> Any:
    """The row of a round that is not over.

    Raises:
        MarketError: there is none, or it is closed.
    """
    row = round_row(books, number)
    check_open(row, number)
    return row


def check_open(row: Any, number: int) -> None:
    """Whether the row of a round is one that is not over.

    Raises:
        MarketError: there is none, or it is closed.
    """
    if row is None:
        raise MarketError(f"there is no round {number}")
    if row.closed:
        raise MarketError(f"round {number} is closed")


def answers(books: sa.Connection, number: int) -> dict[str, Answer]:
    """All answers of a round."""
    rows = books.execute(
        sa.select(ANSWERS).where(ANSWERS.c.round == number).order_by(ANSWERS.c.device)
    )
    return {row.device: read_answer("ledger", json.loads(row.answer)) for row in rows}


def answer_of(books: sa.Connection, number: int, device: str) -> Answer | None:
    """A device's answer in a round."""
    text = books.execute(
        sa.select(ANSWERS.c.answer).where(ANSWERS.c.round == number, ANSWERS.c.device == device)
    ).scalar()
    return None if text is None else read_answer("ledger", json.loads(text))


def add_answer(books: sa.Connection, number: int, device: str, answer: Answer) -> None:
    """Adds an answer."""
    text = json.dumps(answer_json(answer))
    books.execute(ANSWERS.insert().values(round=number, device=device, answer=text))


def assignment_of(books: sa.Connection, number: int, device: str) -> Item | None:
    """What a device works in a round for what."""
    row = books.execute(
        sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.round == number, ASSIGNMENTS.c.device == device)
    ).first()
    return None if row is None else _item(row)


def assign(
    books: sa.Connection, number: int, device: str, item: Item, stage: Stage = Stage.OPEN
) -> None:
    """Adds an assignment."""
    books.execute(
        ASSIGNMENTS.insert().values(
            round=number,
            device=device,
            amount=item.amount,
            reward_microcredits=item.reward_microcredits,
            state=stage,
        )
    )


def assignments(books: sa.Connection, keys: set[tuple[int, str]]) -> dict[tuple[int, str], Any]:
    """Rows of assignments by round and device, of those that there are."""
    rows = of_keys(books, ASSIGNMENTS, ("round", "device"), keys)
    return {(row.round, row.device): row for row in rows}


def count_delivered(books: sa.Connection, changes: Mapping[tuple[int, str], list[int]]) -> None:
    """Adds units and pending micro-credits to device-rounds."""
    books.execute(
        ASSIGNMENTS.update()
        .where(
            ASSIGNMENTS.c.round == sa.bindparam("of_round"),
            ASSIGNMENTS.c.device == sa.bindparam("of_device"),
        )
        .values(
            units=ASSIGNMENTS.c.units + sa.bindparam("more_units", type_=sa.BigInteger),
            pending_microcredits=ASSIGNMENTS.c.pending_microcredits
            + sa.bindparam("more", type_=sa.BigInteger),
        ),
        [
            {"of_round": number, "of_device": name, "more_units": units, "more": microcredits}
            for (number, name), (units, microcredits) in sorted(changes.items())
        ],
    )


_UNSETTLED = sa.text("assignments.state <> 'settled'")
"""Written out, since SQLite does not see that a parameter's value fits the index."""


def set_stage(books: sa.Connection, number: int, device: str, stage: Stage, **also: Any) -> None:
    """Moves the settlement of a device-round on."""
    books.execute(
        ASSIGNMENTS.update()
        .where(ASSIGNMENTS.c.round == number, ASSIGNMENTS.c.device == device)
        .values(state=stage, **also)
    )


def unsettled(books: sa.Connection, device: str | None = None) -> list[tuple[int, str, Stage]]:
    """Round, device and stage of device-rounds that are not settled, of all devices or one."""
    query = sa.select(ASSIGNMENTS.c.round, ASSIGNMENTS.c.device, ASSIGNMENTS.c.state).where(
        _UNSETTLED
    )
    if device is not None:
        query = query.where(ASSIGNMENTS.c.device == device)
    ordered = query.order_by(ASSIGNMENTS.c.round, ASSIGNMENTS.c.device)
    return [(row.round, row.device, Stage(row.state)) for row in books.execute(ordered)]


def bought_in(
    books: sa.Connection,
    number: int,
    beside: Callable[[sa.Select[Any], sa.ColumnElement[str]], sa.Select[Any]],
) -> int:
    """What is owed or paid for the work of a round, micro-credits: neither what is forfeit nor
    what has expired.

    Asked with each group of pieces, so it goes through the round's devices and not its pieces:
    what is pending of each is kept, and what was paid is one transfer.

    Args:
        books: of the ledger.
        number: of the round.
        beside: joins what a reference stands for, see `double_entry.beside`.
    """
    of_round = ASSIGNMENTS.c.round == number
    reference = f"round:{number}/" + ASSIGNMENTS.c.device + "/paid"  # as `accounts.paid_of` has it
    settled = sa.select(ASSIGNMENTS.c.device).where(
        of_round, ASSIGNMENTS.c.state == Stage.SETTLED, ASSIGNMENTS.c.units > 0
    )
    paid = sa.func.sum(beside(settled, reference).subquery().c.moved)
    pending = sa.func.sum(ASSIGNMENTS.c.pending_microcredits)
    queries = sa.select(paid), sa.select(pending).where(of_round)
    return sum(int(books.execute(query).scalar_one() or 0) for query in queries)


def open_audits(books: sa.Connection) -> list[OpenAudit]:
    """Device-rounds whose audit is not over."""
    query = (
        sa.select(ASSIGNMENTS.c.round, ASSIGNMENTS.c.device, ASSIGNMENTS.c.deadline_s)
        .where(_UNSETTLED, ASSIGNMENTS.c.state == Stage.AUDITING)
        .order_by(ASSIGNMENTS.c.round, ASSIGNMENTS.c.device)
    )
    # One by one: a join would go through all pieces that there ever were.
    return [
        OpenAudit(
            round=row.round,
            device=row.device,
            pieces=tuple(
                each.piece for each in pending(books, row.round, row.device) if each.picked
            ),
            deadline_s=row.deadline_s or 0.0,
        )
        for row in books.execute(query).all()
    ]


def add_verdict(books: sa.Connection, number: int, device: str, told: str, signature: str) -> None:
    """Keeps a verdict."""
    books.execute(
        VERDICTS.insert().values(round=number, device=device, told=told, signature=signature)
    )


def verdicts(books: sa.Connection, device: str | None = None) -> list[tuple[str, str]]:
    """Texts and signatures of all verdicts, or of those on a device."""
    query = sa.select(VERDICTS).order_by(VERDICTS.c.round, VERDICTS.c.device)
    if device is not None:
        query = query.where(VERDICTS.c.device == device)
    return [(row.told, row.signature) for row in books.execute(query)]


def all_verdicts(books: sa.Connection) -> Iterator[Any]:
    """Rows of all verdicts; not all at once."""
    query = sa.select(VERDICTS).order_by(VERDICTS.c.round, VERDICTS.c.device)
    yield from books.execute(query.execution_options(yield_per=READ_AT_ONCE))


def shut(books: sa.Connection, number: int) -> None:
    """Notes that a round takes no more answers."""
    books.execute(ROUNDS.update().where(ROUNDS.c.number == number).values(engaged=True))


def close_round(books: sa.Connection, number: int) -> None:
    """Closes a round: what comes later is refused. Its device-rounds are settled by themselves."""
    books.execute(ROUNDS.update().where(ROUNDS.c.number == number).values(closed=True))


def rounds(books: sa.Connection, last: int | None, pieces: bool) -> list[RoundRecord]:
    """All rounds in order, or the last few of them; with every piece, or only of open rounds."""
    query = sa.select(ROUNDS).order_by(ROUNDS.c.number.desc()).limit(last)
    found = list(reversed(books.execute(query).all()))
    if not found:
        return []
    first = found[0].number
    told: dict[int, dict[str, Answer]] = {row.number: {} for row in found}
    assigned: dict[int, dict[str, Item]] = {row.number: {} for row in found}
    stages: dict[int, dict[str, Stage]] = {row.number: {} for row in found}
    rates: dict[int, dict[str, float]] = {row.number: {} for row in found}
    done: dict[int, dict[str, dict[str, int]]] = {row.number: {} for row in found}
    for row in books.execute(sa.select(ANSWERS).where(ANSWERS.c.round >= first)):
        told[row.round][row.device] = read_answer("ledger", json.loads(row.answer))
    for row in books.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.round >= first)):
        assigned[row.round][row.device] = _item(row)
        stages[row.round][row.device] = Stage(row.state)
        if row.rate is not None:
            rates[row.round][row.device] = float(row.rate)
    sums = {row.number: list[Any]() for row in found}
    of_device = (PIECES.c.round, PIECES.c.device, PIECES.c.state)
    summed = sa.select(
        *of_device,
        sa.func.sum(PIECES.c.units).label("units"),
        sa.func.sum(PIECES.c.microcredits).label("microcredits"),
    )
    for row in books.execute(summed.where(PIECES.c.round >= first).group_by(*of_device)):
        sums[row.round].append(row)
    named = [row.number for row in found if pieces or not row.closed]
    if named:
        columns = (PIECES.c.round, PIECES.c.device, PIECES.c.piece, PIECES.c.units)
        wanted = PIECES.c.round >= named[0]
        if len(named) < len(found):
            wanted = PIECES.c.round.in_(named)
        for row in books.execute(sa.select(*columns).where(wanted).order_by(PIECES.c.id)):
            done[row.round].setdefault(row.device, {})[row.piece] = row.units
    return [
        RoundRecord(
            number=row.number,
            job=row.job,
            model=row.model,
            digest=row.digest,
            question=read_question("ledger", json.loads(row.question)),
            units_per_device=row.units_per_device,
            engaged=row.engaged,
            closed=row.closed,
            answers=told[row.number],
            assigned=assigned[row.number],
            pieces=done[row.number],
            stages=stages[row.number],
            rates=rates[row.number],
            delivered=_sums(sums[row.number], "units", frozenset(PieceState)),
            units=_sums(sums[row.number], "units", PENDING_OR_PAID),
            paid_microcredits=_sums(sums[row.number], "microcredits", {PieceState.PAID}),
            pending_microcredits=_sums(sums[row.number], "microcredits", {PieceState.PENDING}),
        )
        for row in found
    ]


def _item(row: Any) -> Item:
    item = Item(amount=row.amount, reward_microcredits=row.reward_microcredits)
    return NOTHING if item == NOTHING else item


def _sums(rows: Sequence[Any], column: str, states: Set[PieceState]) -> dict[str, int]:
    found = dict.fromkeys([each.device for each in rows], 0)
    for each in rows:
        if each.state in states:
            found[each.device] += int(getattr(each, column))  # PostgreSQL adds up to decimals
    return found
