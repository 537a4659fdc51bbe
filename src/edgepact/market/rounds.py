"""The rules of a round, free of clocks, sockets and files.

A round asks a question, devices answer, work for what they are assigned, and the round closes
when all of them have delivered or its time is up:

::

    asking --all awaited devices answered, or commit timeout--> working
    working --all units delivered, soft deadline, or round timeout--> closed

Where an answer settles what its sender does (a price, a menu), a device is assigned its work at
once and may deliver from then on; what ends with `asking` is the time to answer. Where answers
wait for each other (bids), all are weighed in between: `engaging` lasts until the ledger has
recorded who works what. The commit timeout starts with the first answer: a question nobody has
answered stays open. Times are seconds on any clock the caller likes, always passed in.

Nobody waits long for the slow. Once half of those that are waited for have delivered, the others
have some times as long in all. And how long each takes for a round is remembered, as a multiple of
what half of them take: who takes longer than that by more than a small share lags, and the others
wait for those that lag by that share of their own time and no longer, until they keep up again.
What is too short for those that lag to deliver anything is saved up (`Patience`), for each apart,
so that they have their turn in some of many short rounds and none uses up another's. They take
part, and are paid for what they deliver, all the same. Who says late that it brings no more, or
goes, was waited for as well. So was who does not answer until the time is up, or goes before: for
who let questions pass lately nobody waits the whole time to answer again. What is audited, and when
it is paid, is no matter of the round.
"""

import math
import statistics
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum

from edgepact.engagement import Answer, Item, Question
from edgepact.errors import MarketError
from edgepact.work import Model

SOFT_FACTOR = 4.0
"""How many times as long as the faster half the slower half may take."""

SOFT_LEAST_S = 2.0
"""What the slower half has after the faster half at least, seconds."""

ANSWER_SHARE = 0.2
"""Share of the time to answer that those have who lag, or let a question pass; of this the same
share for each further one."""

ANSWER_LEAST_S = 1.0
"""What is left of it at least, seconds, if there was as much: enough on a bad link."""

PASSED_MEMORY = 0.9
"""How much of the questions that a device let pass is remembered when it has answered another: it
answers seven in a row until it has the whole time again."""

PASSED_MOST = 5.0
"""Most that is remembered: it would answer 22 in a row."""

PACE_MEMORY = 0.5
"""How much of a pace is what it was before the last round."""

PACE_MOST = 10.0
"""Of a device that delivers nothing."""


class Phase(StrEnum):
    """Where a round stands."""

    ASKING = "asking"
    ENGAGING = "engaging"
    WORKING = "working"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What does not change from round to round.

    Attributes:
        job: name of the job.
        model: what both sides have to hold alike.
        unit: what one unit of work is called.
        units_per_round: units taken from each device.
        commit_timeout_s: from the first answer to the end of answers.
        round_timeout_s: from the end of answers to the end of the round.
        wait_share: by this share of what the others take, over all rounds, they may wait for those
            that lag; infinity treats all alike.
    """

    job: str
    model: Model
    unit: str = "unit"
    units_per_round: int
    commit_timeout_s: float
    round_timeout_s: float
    wait_share: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the others still wait for those that lag, over all rounds.

    Each that lags has a part of its own: else one that brings nothing, or little, would use up
    what others need for their turn.

    Attributes:
        saved_s: what they may wait for a device, and have not.
        needed_s: how long they waited for a device when it last brought something, or longer than
            they waited in vain: to wait less would be for nothing.
    """

    saved_s: Mapping[str, float] = field(default_factory=dict)
    needed_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round in progress.

    Attributes:
        number: from 1.
        question: what everybody is asked.
        terms: what is offered beside it.
        phase: where it stands.
        answers: by device.
        assigned: who works how much for what, amount 0 included.
        pieces: units of the recorded pieces by device and id.
        gone: devices that said they leave: nobody waits for them.
        done: devices that said they have no more to bring in this round.
        lagging: devices that were slow before: nobody waits for them for long.
        patience: how long the others wait for them.
        passed: questions that devices let pass lately, see `passed`.
        silent: devices that were waited for in vain: time was up, or they have left unanswered.
        delivered_s: when devices had delivered all their units.
        stopped_s: when others had said that they bring no more, or go.
        began_s: when the work has begun; None before.
        deadline_s: when the phase ends; None while nobody has answered.
    """

    number: int
    question: Question
    terms: Terms
    phase: Phase = Phase.ASKING
    answers: Mapping[str, Answer] = field(default_factory=dict)
    assigned: Mapping[str, Item] = field(default_factory=dict)
    pieces: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    lagging: frozenset[str] = frozenset()
    patience: Patience = Patience()
    passed: Mapping[str, float] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    delivered_s: Mapping[str, float] = field(default_factory=dict)
    stopped_s: Mapping[str, float] = field(default_factory=dict)
    began_s: float | None = None
    deadline_s: float | None = None


def check_question(question: Question, terms: Terms) -> None:
    """Holds what a mechanism asks against what there is to do: whole steps of the job.

    Raises:
        MarketError: an amount that the job does not have.
    """
    most = terms.model.amount_max
    for amount in (*question.bid_amounts, *(item.amount for item in question.menu)):
        if amount > most or amount % 1.0:
            raise MarketError(
                f"the mechanism asks for an amount of {amount:g}, expected whole ones to {most}"
            )


def check_answer(round: Round, device: str, answer: Answer) -> None:
    """Whether an answer can be taken; the same one again can, at any time.

    Raises:
        MarketError: it does not fit the question, is another than before, or comes too late.
    """
    question = round.question
    if answer.item is not None and answer.item >= len(question.menu):
        raise MarketError(f"{device!r} takes item {answer.item} of a menu of {len(question.menu)}")
    if len(answer.bids_microcredits) not in (0, len(question.bid_amounts)):
        raise MarketError(
            f"{device!r} bids for {len(answer.bids_microcredits)} amounts, "
            f"expected {len(question.bid_amounts)}"
        )
    known = round.answers.get(device)
    if known not in (None, answer):
        raise MarketError(f"{device!r} has given another answer in round {round.number} already")
    late = round.phase is Phase.CLOSED or not (question.immediate or round.phase is Phase.ASKING)
    if known is None and late:
        raise MarketError(f"round {round.number} takes no more answers")


def answered(
    round: Round, device: str, answer: Answer, assigned: Item | None, now_s: float
) -> Round:
    """The round with an answer the ledger has recorded; the first starts the clock."""
    deadline_s = round.deadline_s
    if round.phase is Phase.ASKING and deadline_s is None:
        deadline_s = now_s + round.terms.commit_timeout_s
    return replace(
        round,
        answers={**round.answers, device: answer},
        assigned=round.assigned if assigned is None else {**round.assigned, device: assigned},
        deadline_s=deadline_s,
    )


def engaged(round: Round, assigned: Mapping[str, Item], now_s: float) -> Round:
    """The round in which all answers have been weighed, and who works what is on record."""
    return replace(
        round,
        phase=Phase.WORKING,
        assigned=dict(assigned),
        began_s=now_s,
        deadline_s=now_s + round.terms.round_timeout_s,
    )


def admit(round: Round, device: str, piece: str, amount: int) -> None:
    """Whether a piece may be worked on: the device was assigned this and has units left.

    Raises:
        MarketError: it may not; the message says why.
    """
    assigned = round.assigned.get(device)
    if assigned is None:
        waits = "waits for its assignment" if device in round.answers else "has not answered"
        raise MarketError(f"{device!r} {waits} in round {round.number}")
    if assigned.amount != amount:
        raise MarketError(
            f"{device!r} was assigned {assigned.amount:g} in round {round.number}, not {amount}"
        )
    done = round.pieces.get(device, {})
    if piece in done:
        return
    if round.phase is Phase.CLOSED:
        raise MarketError(f"round {round.number} is closed")
    if sum(done.values()) >= round.terms.units_per_round:
        raise MarketError(
            f"{device!r} has delivered all {round.terms.units_per_round} units "
            f"of round {round.number}"
        )


def record(round: Round, device: str, piece: str, units: int, now_s: float | None = None) -> Round:
    """The round after a piece was recorded in the ledger."""
    done = {**round.pieces.get(device, {}), piece: units}
    after = replace(round, pieces={**round.pieces, device: done})
    if now_s is None or device in round.delivered_s or not delivered(after, device):
        return after
    return replace(after, delivered_s={**round.delivered_s, device: now_s})


def leave(round: Round, device: str, now_s: float) -> Round:
    """The round after a device has said that it leaves."""
    after = replace(_stopped(round, device, now_s), gone=round.gone | {device})
    # Before anybody has answered nobody waits.
    if round.phase is Phase.ASKING and round.answers and device not in round.answers:
        return replace(after, silent=round.silent | {device})
    return after


def bring_no_more(round: Round, device: str, now_s: float) -> Round:
    """The round after a device has said that it has no more to bring."""
    return replace(_stopped(round, device, now_s), done=round.done | {device})


def _stopped(round: Round, device: str, now_s: float) -> Round:
    """The round in which nobody waits for a device any more."""
    if device in round.delivered_s or device in round.stopped_s or device not in round.assigned:
        return round
    return replace(round, stopped_s={**round.stopped_s, device: now_s})


def come_back(round: Round, device: str) -> Round:
    """The round after a device that had left is there again."""
    if device not in round.gone:
        return round
    stopped_s = dict(round.stopped_s)
    if device not in round.done:
        stopped_s.pop(device, None)  # it is waited for again
    return replace(round, gone=round.gone - {device}, stopped_s=stopped_s)


def advance(round: Round, awaited: Set[str], now_s: float) -> Round:
    """The round in the phase in which it should be now.

    Args:
        round: the round.
        awaited: devices whose answer is expected.
        now_s: the time.
    """
    late = round.deadline_s is not None and now_s >= round.deadline_s
    if round.phase is Phase.ASKING and round.answers:
        missing = set(awaited) - set(round.answers) - round.gone
        # To a question that settles each by itself the slow may answer later: work goes on.
        slow = {device for device in missing if _patience_to_answer_s(round, device) is not None}
        if late or missing <= (slow if round.question.immediate else set()):
            round = replace(round, silent=round.silent | missing) if late else round
            if not round.question.immediate:
                return replace(round, phase=Phase.ENGAGING, deadline_s=None)
            working = replace(
                round,
                phase=Phase.WORKING,
                began_s=now_s,
                deadline_s=now_s + round.terms.round_timeout_s,
            )
            return advance(working, awaited, now_s)
        if missing == slow:
            waits_s = [_patience_to_answer_s(round, device) or 0.0 for device in slow]
            return _not_later(round, now_s + max(waits_s))
    if round.phase is Phase.WORKING:
        if late or not unfinished(round) or _waits_enough(round, now_s):
            return replace(round, phase=Phase.CLOSED, deadline_s=None)
        return _hurried(round, now_s)
    return round


def delivered(round: Round, device: str) -> bool:
    """Whether a device has delivered all its units."""
    return sum(round.pieces.get(device, {}).values()) >= round.terms.units_per_round


def unfinished(round: Round) -> set[str]:
    """Devices with work, not gone, that have units left to deliver."""
    return {
        device
        for device in round.assigned
        if device not in round.gone | round.done and not delivered(round, device)
    }


def paces(
    round: Round, awaited: Set[str], before: Mapping[str, float], now_s: float
) -> dict[str, float]:
    """How long devices take for a round, as multiples of what half of them take.

    Args:
        round: one that is closed.
        awaited: devices whose answer was expected.
        before: what was known of them.
        now_s: when it was closed.
    """
    known = dict(before)
    took = _times(round, now_s)
    # However many bring nothing, they do not say how long it takes.
    half = statistics.median_low([one for one in took.values() if one < math.inf] or [0.0])
    found = {device: one / half for device, one in took.items()} if half > 0.0 else {}
    for device, at_s in round.stopped_s.items():
        # Whoever brings less than all shows only how long the others have waited for it.
        if half > 0.0 and round.began_s is not None:
            pace = (at_s - round.began_s) / half
            found |= {device: pace} if pace > known.get(device, 1.0) else {}
    silent = set(awaited) - set(round.answers) - round.gone
    for device, pace in {**found, **dict.fromkeys(silent, PACE_MOST)}.items():
        pace = min(pace, PACE_MOST)
        known[device] = PACE_MEMORY * known.get(device, pace) + (1.0 - PACE_MEMORY) * pace
    return known


def passed(round: Round) -> dict[str, float]:
    """How many questions devices let pass lately, by device; the older ones count less.

    A device that lets questions pass, whether it is silent or leaves in time, so holds the others
    up for the whole time to answer at most in one round of eight.

    Args:
        round: one that is closed.
    """
    known = {
        device: count * (PASSED_MEMORY if device in round.answers else 1.0)
        for device, count in round.passed.items()
    }
    for device in round.silent - set(round.answers):
        known[device] = min(PASSED_MOST, known.get(device, 0.0) + 1.0)
    return {device: count for device, count in known.items() if count > 0.01}


def lagging(terms: Terms, paces: Mapping[str, float]) -> frozenset[str]:
    """Devices for which the others do not wait for long."""
    return frozenset(device for device, pace in paces.items() if pace > 1.0 + terms.wait_share)


def patience(round: Round, now_s: float) -> Patience:
    """How long the others wait for those that lag from the next round on.

    Args:
        round: one that is closed.
        now_s: when it was closed.
    """
    quick_s = _quick_until(round)
    if quick_s is None:
        return round.patience
    most_s, may_s = round.terms.round_timeout_s, _may_wait(round, quick_s)
    needed_s = dict(round.patience.needed_s)
    stayed_s = dict[str, float]()
    for device, patient_s in may_s.items():
        end_s = round.delivered_s.get(device, round.stopped_s.get(device, now_s))
        if patient_s >= needed_s.get(device, 0.0) and end_s > quick_s:
            stayed_s[device] = min(end_s - quick_s, patient_s)
    # Who was waited for together shares what it took; nobody gives more than it had.
    waited_s = max(stayed_s.values(), default=0.0)
    in_all_s = sum(stayed_s.values())
    saved_s = {**round.patience.saved_s, **may_s}
    for device, own_s in stayed_s.items():
        if own_s <= 0.0:
            continue
        saved_s[device] -= waited_s * own_s / in_all_s
        in_vain = not round.pieces.get(device)
        needed_s[device] = 2.0 * max(own_s, needed_s.get(device, 0.0)) if in_vain else own_s
    return Patience(
        saved_s={device: min(one, most_s) for device, one in saved_s.items()},
        needed_s={device: min(one, most_s) for device, one in needed_s.items()},
    )


def _patience_to_answer_s(round: Round, device: str) -> float | None:
    """How long the others wait for an answer once only such as this device are missing; None for
    the whole time."""
    times = max(math.floor(round.passed.get(device, 0.0) + 0.5), int(device in round.lagging))
    whole_s = round.terms.commit_timeout_s
    return None if times == 0 else max(min(ANSWER_LEAST_S, whole_s), whole_s * ANSWER_SHARE**times)


def _times(round: Round, now_s: float) -> dict[str, float]:
    """What devices take for all units of a round, seconds: of those that were cut off, at the
    rate at which they have delivered; infinity of those that have delivered nothing."""
    if round.began_s is None:
        return {}
    quota, times = round.terms.units_per_round, dict[str, float]()
    for device in set(round.assigned) - round.gone - round.done:
        units = sum(round.pieces.get(device, {}).values())
        end_s = round.delivered_s.get(device, now_s)
        share = min(units, quota) / quota
        times[device] = (end_s - round.began_s) / share if share else math.inf
    return times


def _waits_enough(round: Round, now_s: float) -> bool:
    """Whether only such are unfinished as lag, and the others have waited their share for them."""
    return _all_quick_ended(round) and now_s >= _patient_until(round)


def _all_quick_ended(round: Round) -> bool:
    """Whether nobody is waited for but those that lag, and somebody waits."""
    return _quick_until(round) is not None and unfinished(round) <= round.lagging


def _patient_until(round: Round) -> float:
    """Until when the others wait for those that lag, once all others have delivered."""
    quick_s = _quick_until(round)
    assert quick_s is not None, "nobody waits"
    needed_s, left = round.patience.needed_s, unfinished(round)
    return quick_s + max(
        (
            may_s
            for device, may_s in _may_wait(round, quick_s).items()
            if device in left and may_s >= needed_s.get(device, 0.0)
        ),
        default=0.0,
    )


def _may_wait(round: Round, quick_s: float) -> dict[str, float]:
    """How long the others may wait for each of those that lag."""
    slow = set(round.assigned) & round.lagging - round.gone
    if round.began_s is None or not slow:
        return {}
    earned_s = round.terms.wait_share * (quick_s - round.began_s) / len(slow)
    return {device: round.patience.saved_s.get(device, 0.0) + earned_s for device in slow}


def _quick_until(round: Round) -> float | None:
    """When the last of those that do not lag had delivered all it would; None if none has.

    Who has brought nothing, or has gone, does not wait for anybody.
    """
    quick = set(round.assigned) - round.lagging - round.gone
    ended_s = {**round.stopped_s, **round.delivered_s}
    return max(
        (at_s for device, at_s in ended_s.items() if device in quick & set(round.pieces)),
        default=None,
    )


def _not_later(round: Round, soft_s: float) -> Round:
    """The round with a deadline that is no later than this."""
    if round.deadline_s is None or soft_s < round.deadline_s:
        return replace(round, deadline_s=soft_s)
    return round


def _hurried(round: Round, now_s: float) -> Round:
    """The round with a soft deadline, once half of those that are waited for have delivered."""
    if round.began_s is not None and round.deadline_s is not None and _all_quick_ended(round):
        hard_s = round.began_s + round.terms.round_timeout_s
        return replace(round, deadline_s=min(_patient_until(round), hard_s))
    quick = set(round.assigned) - round.lagging - round.gone - round.done
    done = {device for device in quick if delivered(round, device)}
    if round.began_s is None or round.deadline_s is None or 2 * len(done) < len(quick) or not done:
        return round
    hard_s = round.began_s + round.terms.round_timeout_s
    took_s = now_s - round.began_s
    soft_s = round.began_s + max(SOFT_FACTOR * took_s, took_s + SOFT_LEAST_S)
    # It is set once: later calls would only put it off.
    return replace(round, deadline_s=soft_s) if round.deadline_s == hard_s > soft_s else round
