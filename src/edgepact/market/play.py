"""The market as it runs: who is there, which round is on, and the books behind it.

Everything here runs on one event loop, so that the state needs no locks. What takes time runs
in threads of one worker each, for the job, where every device has its turn and pieces pass the
stages of a model together (`fair_queue`), and for the ledger (`books`): while payments are written
through to the disk, the next piece is computed. The number of exchanges in flight has a limit.

The ledger is written first and the state in memory follows; after a restart the state is read
back from the ledger. How a device-round ends is in `settling`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepact.credits import in_credits
from edgepact.engagement import (
    NOTHING,
    Answer,
    Engagement,
    Finished,
    Item,
    Learning,
    check_engaged,
)
from edgepact.errors import InputError, MarketError, shown
from edgepact.market import rounds
from edgepact.market.books import Books, Busy
from edgepact.market.evidence import (
    chosen_codec,
    digest,
    evidence_key,
    pack_evidence,
    session_seed,
    unpack_evidence,
    unpacked,
)
from edgepact.market.fair_queue import FairQueue, Passage
from edgepact.market.ledger import (
    Evidence,
    Piece,
    PieceState,
    RepeatedWork,
    RoundRecord,
    Settlement,
    token_hash,
)
from edgepact.market.ledger.signing import ServerKey
from edgepact.market.protocol.messages import NoOffer, Offer, Standing
from edgepact.market.repeats import Repeats
from edgepact.market.rounds import Phase, Round, Terms
from edgepact.market.sessions import LostSession, NoRoom, Session, Sessions
from edgepact.market.settling import AuditRules, Settling, expect_admitted
from edgepact.tensors import Codec, Tensors
from edgepact.work import EXCHANGES_MAX, Reply, ServerPart, StagedPart

POLL_TIMEOUT_S = 10.0
"""How long a poll for an offer is held open."""

FAREWELL_TIMEOUT_S = 5.0
"""How long the server waits at the end for devices to hear that the market is over."""

EXCHANGES_IN_FLIGHT_MAX = 64
"""Exchanges computed or waiting at a time; the next is told to come back."""

HISTORY_ROUNDS_MAX = 1000
"""Rounds that a mechanism and the status see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this market is run.

    Args:
        terms: what every offer says.
        rounds: rounds to play, those already in the ledger included; None for no end.
        devices_min: devices that must be there before the first round.
        gather_timeout_s: how long to wait for so many; then one is enough. None waits on.
        audits: how much is audited, and what a failed audit means.
        secret: key that draws the seeds of sessions, and what is kept of work.
        enrol_tokens: one-time tokens that are accepted beside those that the ledger knows.
        batch_max: most pieces that pass the job's stages together.
        batch_wait_s: how long a piece may be passed over so that others come up to it.
    """

    terms: Terms
    rounds: int | None
    devices_min: int
    gather_timeout_s: float | None
    audits: AuditRules
    secret: bytes
    enrol_tokens: frozenset[str]
    batch_max: int = 1
    batch_wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an exchange came to.

    Attributes:
        reply: the job's answer.
        codec: packs it.
        compute_s: seconds of computing, without queueing and bookkeeping.
        wait_s: seconds from the asking in which nothing was computed for it.
        together: how many passed a stage together, on average over its stages.
        settlement: how the piece stands, if it is finished.
    """

    reply: Reply
    codec: Codec
    compute_s: float
    wait_s: float
    together: float
    settlement: Settlement | None


class Market:
    """One market on one ledger. Its coroutines belong to one event loop.

    A round that was open when the last server on this ledger ended goes on as it was asked.

    Args:
        rules: how it is run.
        books: the ledger.
        key: signs verdicts.
        part: the server's half of the job.
        codecs: that requests may use, the favourite first.
        engagement: the mechanism.
    """

    def __init__(
        self,
        rules: Rules,
        books: Books,
        key: ServerKey,
        part: ServerPart,
        codecs: tuple[Codec, ...],
        engagement: Engagement,
    ) -> None:
        self.rules = rules
        self.part = part
        self.codecs = codecs
        self._books = books
        self._ledger = books.ledger
        self._engagement = engagement
        self._staged = part if isinstance(part, StagedPart) and part.stages > 0 else None
        self._compute = FairQueue(
            "job", self._staged, size_max=rules.batch_max, wait_s=rules.batch_wait_s
        )
        self._settling = Settling(
            books, rules.audits, key, self._passes, run=self._compute.run, changed=self._notify
        )
        self._repeats = None if books.repeat_rounds is None else Repeats(books.repeat_rounds)
        self._lagging: frozenset[str] = frozenset()  # who was too slow in the last round
        self._sessions = Sessions()
        self._enrol_hashes = frozenset(token_hash(token) for token in rules.enrol_tokens)
        self._names: dict[str, str] = {}  # by token hash
        self._present: set[str] = set()  # devices whose next answer is waited for
        self._polls: Counter[str] = Counter()  # polls held open, by device
        self._expected_back: set[str] = set()  # the same after a restart, before they have polled
        self._in_flight = 0
        self._over = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._round, self._number = self._resume()

    # ------------------------------------------------------------ what devices ask

    async def enrol(self, one_time_token: str, name: str) -> str | None:
        """Token of a newly enrolled device; None if the one-time token is unknown.

        Raises:
            MarketError: the one-time token or the name is taken.
        """
        known = token_hash(one_time_token) in self._enrol_hashes or await self._books.read(
            lambda ledger: ledger.admits(one_time_token)
        )
        if not known:
            return None
        return await self._books.write(lambda: self._ledger.enrol(one_time_token, name))

    async def device(self, token: str) -> str | None:
        """Name of the device that holds the token; None for nobody's.

        Raises:
            MarketError: it may take no part.
        """
        key = token_hash(token)
        if key not in self._names:
            found = await self._books.read(lambda ledger: ledger.device_of(token))
            if found is None:
                return None
            await self._books.write(lambda: self._ledger.confirm(found))
            self._names[key] = found
        name = self._names[key]
        expect_admitted(self._settling.shut_out, name)
        return name

    def due(self, device: str) -> list[dict[str, object]]:
        """Pieces whose sources a device is to show, and the seconds it has left."""
        return self._settling.due(device)

    async def offer(self, device: str, after: int) -> Offer | NoOffer:
        """The next offer for a device, as soon as there is one, or word to ask again."""
        self._present.add(device)
        if self._round is not None:
            self._round = rounds.come_back(self._round, device)
        self._notify()
        self._polls[device] += 1
        try:
            return await self._poll(device, after, time.monotonic() + POLL_TIMEOUT_S)
        finally:
            self._polls[device] -= 1

    async def commit(self, device: str, number: int, answer: Answer) -> Item | None:
        """Takes an answer; returns what it settles, or None while others are awaited.

        Raises:
            MarketError: it cannot be taken.
        """
        if self._round is None or self._round.number != number:
            raise MarketError(f"round {number} is not open")
        rounds.check_answer(self._round, device, answer)
        assigned = None
        if self._round.question.immediate and device not in self._round.answers:
            # Nobody else's answer matters, so this one is weighed alone.
            found = await self._engaged(self._round, {device: answer})
            assigned = found.get(device, NOTHING)
        assigned = await self._books.write(
            lambda: self._ledger.answer(number, device, answer, assigned=assigned)
        )
        # If the round has gone on to its next phase meanwhile, the ledger counts.
        if self._round.number == number:
            now_s = time.monotonic()
            self._round = rounds.answered(self._round, device, answer, assigned, now_s)
            self._notify()
        return assigned

    async def exchange(
        self,
        device: str,
        number: int,
        piece: str,
        exchange: int,
        amount: int,
        codec: object,
        commitment: bytes | None,
        sent: Tensors,
    ) -> Answered:
        """Works on an exchange of a piece; the last one settles the piece.

        Args:
            device: who sends.
            number: of the round.
            piece: the device's id of the piece.
            exchange: counted from 0.
            amount: that the device does of it.
            codec: name of the codec that has packed the tensors; None if none was named.
            commitment: SHA-256 by which the device has bound itself to its source.
            sent: as they came.

        Raises:
            Busy: too many exchanges or sessions are in flight.
            InputError: the tensors do not fit, or cannot be worked with.
            LostSession: the piece has to be begun again.
            MarketError: the device may not deliver it; nothing is paid.
        """
        with self._place():
            specs = self.part.expects(amount, exchange)
            chosen = chosen_codec(codec, self.codecs, sent, specs)
            tensors = unpacked(chosen, sent, specs, "infer request")
            if self._round is not None and self._round.number == number:
                rounds.admit(self._round, device, piece, amount)
            elif not await self._books.read(
                lambda ledger: ledger.knows(device, piece, number, float(amount))
            ):
                raise MarketError(f"round {number} is not open")
            session = self._session(device, number, piece, exchange, amount, commitment, sent)
            async with session.lock:
                mark = self._mark(session, exchange, sent)
                if not session.answers_again(exchange, mark):
                    if exchange != session.exchange + 1 or session.settled is not None:
                        raise LostSession(f"exchange {exchange} of {piece!r} is not the next")
                    await self._answer(session, exchange, chosen, tensors, mark)
                assert session.reply is not None
                settled = await self._settle(session) if session.reply.finished else None
                return Answered(
                    reply=session.reply,
                    codec=chosen,
                    compute_s=session.compute_s,
                    wait_s=session.wait_s,
                    together=session.together,
                    settlement=settled,
                )

    async def audit(self, device: str, piece: str, shown: bytes) -> Settlement:
        """Holds the salt and source of a piece against what was delivered for it.

        Raises:
            Busy: too many exchanges are in flight.
            InputError: it is another source, or cannot be read: there is time for another try.
            MarketError: no such piece.
        """
        with self._place():
            return await self._settling.show(device, piece, shown)

    async def pieces(self, device: str, number: int) -> dict[str, Settlement]:
        """How all pieces of a device stand that it has delivered in a round."""
        return await self._books.read(lambda ledger: ledger.pieces_of(device, number))

    async def done(self, device: str, number: int) -> None:
        """A device says that it has no more work to bring in a round."""
        if self._round is not None and self._round.number == number:
            self._round = rounds.bring_no_more(self._round, device)
            await self._end(device)
        self._notify()

    async def leave(self, device: str) -> None:
        """A device says that it goes: nobody waits for it any more, and its round ends."""
        self._present.discard(device)
        self._expected_back.discard(device)
        if self._round is not None:
            self._round = rounds.leave(self._round, device)
            await self._end(device)
        self._notify()

    async def _end(self, device: str) -> None:
        """Ends what a device delivers in the round that is on."""
        assert self._round is not None
        if device in self._round.assigned:
            await self._settling.end(self._round.number, device, _least_reward(self._round))

    async def status(self) -> dict[str, object]:
        """The market at a glance, for people and for the process that started it."""
        records, balances, jobs, audited = await self._books.read(
            lambda ledger: (
                ledger.rounds(last=HISTORY_ROUNDS_MAX),
                ledger.balances(),
                ledger.jobs_by_state(),
                ledger.audited(),
            )
        )
        terms = self.rules.terms
        return {
            "state": self._state(),
            "job": terms.job,
            "model": terms.model.name,
            "amount_max": terms.model.amount_max,
            "about": dict(self.part.about),
            "units_per_round": terms.units_per_round,
            "rounds_total": self.rules.rounds,
            "devices_present": sorted(self._present),
            "exchanges_in_flight": self._in_flight,
            "sessions": len(self._sessions),
            "jobs": jobs,
            "jobs_audited": audited,
            "audits_open": self._settling.auditing,
            "shut_out": dict(self._settling.shut_out),
            "balances_microcredits": balances,
            "rounds": [round_status(record) for record in records],
        }

    @property
    def ready(self) -> bool:
        """Whether work can be taken."""
        return self._books.sound and not (self._over or self._stopping)

    # ------------------------------------------------------------ the rounds, one after another

    async def play(self) -> None:
        """Plays all rounds; returns when the market is over and its devices know.

        Raises:
            MarketError: the mechanism asks or decides what it may not, or the ledger is used by
                another.
        """
        resumed = None if self._round is None else self._round.number
        await self._settling.resume(resumed)
        watching = asyncio.create_task(self._settling.watch())
        try:
            await self._play()
            await self._settling.drained()
        finally:
            watching.cancel()
        self._over = True
        self._notify()
        end_s = time.monotonic() + FAREWELL_TIMEOUT_S
        while self._present and await self._change(end_s):
            pass

    async def _play(self) -> None:
        """All rounds."""
        commit_timeout_s = self.rules.terms.commit_timeout_s
        if self._round is not None:
            await self._play_round()
        # After a restart the devices come back by themselves; some of them may not.
        patience_s = commit_timeout_s if self._number else self.rules.gather_timeout_s
        while self.rules.rounds is None or self._number < self.rules.rounds:
            await self._gather(patience_s)
            self._round = await self._open(self._number + 1)
            self._number += 1
            await self._play_round()
            patience_s = 0.0

    def stop(self) -> None:
        """Lets every waiting poll return, so that the server can stop."""
        self._stopping = True
        self._notify()

    def close(self) -> None:
        """Finishes what is being computed and written, and closes the ledger."""
        self._compute.close()
        self._books.close()

    # ------------------------------------------------------------ private

    def _resume(self) -> tuple[Round | None, int]:
        """Where the ledger stands: the open round, and the last number."""
        records = self._ledger.rounds()
        terms = self.rules.terms
        resumed = None
        for record in records:
            if record.closed:
                continue
            model = terms.model
            asked = (record.job, record.model, record.digest, record.units_per_device)
            if asked != (terms.job, model.name, model.digest, terms.units_per_round):
                self._ledger.close_round(record.number)  # it was on other terms
                continue
            start_s = time.monotonic()
            resumed = Round(
                number=record.number,
                question=record.question,
                terms=terms,
                answers=record.answers,
                assigned=record.assigned,
                pieces=record.pieces,
                deadline_s=start_s + terms.commit_timeout_s if record.answers else None,
            )
            if record.engaged:
                resumed = rounds.engaged(resumed, record.assigned, start_s)
            self._expected_back = set(self._ledger.devices())
        if self._repeats is not None and records:
            first = records[-1].number - (self._books.repeat_rounds or 0) + 1
            for number, device, piece, sketch in self._ledger.sketches(first):
                self._repeats.take(number, device, piece, np.frombuffer(sketch, "<f4"))
        if isinstance(self._engagement, Learning):
            told = [each for each in records if each.closed and each.answers]
            for record in told[-HISTORY_ROUNDS_MAX:]:
                self._engagement.observe(_finished(record))
        return resumed, records[-1].number if records else 0

    async def _gather(self, patience_s: float | None) -> None:
        """Waits until enough devices are there; when patience ends one is enough."""
        end_s = None if patience_s is None else time.monotonic() + patience_s
        while len(self._present) < self.rules.devices_min:
            patient = end_s is None or time.monotonic() < end_s
            if self._present and not patient:
                return
            await self._change(end_s if patient else None)

    async def _open(self, number: int) -> Round:
        question = await asyncio.to_thread(self._engagement.question, number)
        terms = self.rules.terms
        rounds.check_question(question, terms)
        await self._books.insist(
            lambda: self._ledger.open_round(
                number,
                job=terms.job,
                model=terms.model,
                question=question,
                units_per_device=terms.units_per_round,
            )
        )
        return Round(number=number, question=question, terms=terms, lagging=self._lagging)

    async def _engaged(self, round: Round, answers: Mapping[str, Answer]) -> dict[str, Item]:
        """The mechanism's decision on some answers.

        Raises:
            MarketError: it is none that it may take.
        """
        engage, most = self._engagement.engage, float(round.terms.model.amount_max)
        found = await asyncio.to_thread(engage, round.number, round.question, answers)
        try:
            check_engaged(found, answers, amount_max=most, whole=True)
        except InputError as error:
            raise MarketError(f"{error}") from None
        return found

    async def _engage(self) -> None:
        """Weighs all answers of the round, and records who works what: all at once."""
        assert self._round is not None
        number = self._round.number
        # The ledger's own thread takes one thing after another: no answer slips in behind this.
        answers = await self._books.insist(lambda: self._ledger.answers(number))
        found = await self._engaged(self._round, answers)
        assigned = await self._books.insist(lambda: self._ledger.engage(number, found))
        self._round = rounds.engaged(self._round, assigned, time.monotonic())
        self._notify()

    async def _play_round(self) -> None:
        """Carries the current round to its end, closes it in the books and remembers it."""
        assert self._round is not None
        self._notify()
        while self._round.phase is not Phase.CLOSED:
            before = self._round
            awaited = self._present | self._expected_back
            self._round = rounds.advance(before, awaited, time.monotonic())
            if self._round.phase is before.phase:
                await self._change(before.deadline_s)
                continue
            if before.phase is Phase.ASKING:
                self._drop(self._present - set(before.answers))  # they let the question pass
                self._expected_back = set()
            if self._round.phase is Phase.ENGAGING:
                await self._engage()
            self._notify()
        closed = self._round
        number = closed.number
        self._lagging = rounds.too_slow(closed, self._present)
        self._drop(rounds.unfinished(closed))
        # What was delivered before the books hear of the end counts: their thread takes one
        # thing after another.
        await self._books.insist(lambda: self._ledger.close_round(number))
        for device, item in closed.assigned.items():
            if item.amount > 0 or closed.pieces.get(device):
                await self._settling.end(number, device, _least_reward(closed))
        (record,) = await self._books.insist(lambda: self._ledger.rounds(last=1))
        if record.answers and isinstance(self._engagement, Learning):
            await asyncio.to_thread(self._engagement.observe, _finished(record))

    async def _poll(self, device: str, after: int, end_s: float) -> Offer | NoOffer:
        asked_for = {each["piece"] for each in self.due(device)}
        while True:
            if self._over:
                return NoOffer(state="over")
            offer = self._offer_now(device, after)
            if offer is not None:
                return offer
            # What is to be shown is heard at once, but once only.
            new = any(each["piece"] not in asked_for for each in self.due(device))
            if self._stopping or new or not await self._change(end_s):
                waiting = self._offer_now(device, after, waiting=True)
                return waiting or NoOffer(state="wait")

    def _drop(self, devices: set[str]) -> None:
        """Nobody waits for these devices again until they poll, unless they do so just now."""
        self._present -= {device for device in devices if self._polls[device] <= 0}

    def _offer_now(self, device: str, after: int, *, waiting: bool = False) -> Offer | None:
        """The offer a device should hear now; `waiting` if nothing else would be told."""
        current = self._round
        if current is None or current.phase is Phase.CLOSED or current.number <= after:
            return None
        assigned, answered = current.assigned.get(device), device in current.answers
        late = current.phase is not Phase.ASKING and not current.question.immediate
        if (not answered and late) or device in current.done:
            return None
        standing: Standing = "asked"
        if answered:
            standing = "waiting" if assigned is None else "assigned"
        if standing == "waiting" and not waiting:
            return None
        terms = current.terms
        left_s = terms.commit_timeout_s
        if current.deadline_s is not None and not answered:
            left_s = max(0.0, current.deadline_s - time.monotonic())
        return Offer(
            round=current.number,
            question=current.question,
            job=terms.job,
            model=terms.model,
            units_per_round=terms.units_per_round,
            commit_timeout_s=left_s,
            codecs=tuple(codec.name for codec in self.codecs),
            repeat_rounds=self._books.repeat_rounds or 0,
            standing=standing,
            assigned=assigned,
            pieces_done=current.pieces.get(device, {}),
        )

    def _session(
        self,
        device: str,
        number: int,
        piece: str,
        exchange: int,
        amount: int,
        commitment: bytes | None,
        sent: Tensors,
    ) -> Session:
        """The session of a piece; a new one at its first exchange.

        Raises:
            LostSession: a later exchange of a piece that is not under way.
            Busy: there is no room for another.
        """
        now_s = time.monotonic()
        session = self._sessions.find(device, piece, now_s)
        if session is not None and (session.round, session.amount) == (number, amount):
            again = exchange > 0 or session.exchange < 0
            if again or session.answers_again(0, digest(b"", sent)):
                return session
        if exchange > 0:
            raise LostSession(f"there is no session of {piece!r}: begin it again")
        if amount > 0 and commitment is None:
            expected = "64 hexadecimal digits: SHA-256 of a salt of 32 bytes and the source"
            raise InputError("infer request", "parameters.commitment", expected, None)
        session = Session(
            device=device,
            piece=piece,
            round=number,
            amount=amount,
            seed=session_seed(self.rules.secret, device, piece),
            commitment=commitment,
        )
        try:
            self._sessions.add(session, now_s)
        except NoRoom:
            raise Busy from None
        return session

    @staticmethod
    def _mark(session: Session, exchange: int, sent: Tensors) -> bytes:
        """Digest of a piece with an exchange that has come: the next one, or the last again."""
        before = session.digest if exchange == session.exchange + 1 else session.before
        return digest(before, sent)

    async def _answer(
        self, session: Session, exchange: int, codec: Codec, tensors: Tensors, mark: bytes
    ) -> None:
        """Computes the next exchange of a session."""

        def begin() -> None:
            if exchange == 0:
                session.job = self.part.begin(session.amount, session.seed)

        def kept_of(reply: Reply | InputError) -> tuple[Reply, bytes]:
            if isinstance(reply, InputError):
                raise reply
            if session.amount <= 0:
                return reply, b""
            key = evidence_key(self.rules.secret, session.device, session.piece)
            return reply, self.part.evidence(session.amount, exchange, tensors, reply, key)

        try:
            passage = await self._passage(session, tensors, begin, kept_of)
            reply, kept = passage.found
        except InputError:
            if exchange == 0:
                self._sessions.drop(session)
            raise
        except Exception:
            self._sessions.drop(session)  # whatever state it is in
            raise
        if exchange + 1 >= EXCHANGES_MAX and not reply.finished:
            self._sessions.drop(session)
            raise MarketError(f"{session.piece!r} has not ended after {EXCHANGES_MAX} exchanges")
        session.before, session.digest = session.digest, mark
        session.exchange, session.reply, session.codec = exchange, reply, codec
        session.compute_s, session.wait_s = passage.compute_s, passage.wait_s
        session.together = passage.together
        session.evidence.append(kept)

    async def _passage(
        self,
        session: Session,
        tensors: Tensors,
        begin: Callable[[], None],
        kept_of: Callable[[Reply | InputError], tuple[Reply, bytes]],
    ) -> Passage[tuple[Reply, bytes]]:
        """Has an exchange computed: with others, stage by stage, where the job can."""
        staged = self._staged

        def enter() -> tuple[int, Any]:
            begin()
            if staged is None:
                (reply,) = self.part.answer([(session.job, tensors)])
                return 0, reply  # which nothing is left to do for
            entered = staged.enter(session.job, tensors)
            if isinstance(entered, InputError):
                raise entered
            return entered

        def leave(travelled: Any) -> tuple[Reply, bytes]:
            return kept_of(travelled if staged is None else staged.leave(session.job, travelled))

        return await self._compute.travel(session.device, enter, leave)

    async def _settle(self, session: Session) -> Settlement:
        """Delivers a finished piece, once, with the units that the server's half has counted."""
        if session.settled is not None:
            known = session.settled
            found = await self._books.read(lambda ledger: ledger.find(known.device, [known.piece]))
            return found[known.piece]
        assert session.reply is not None
        assert session.codec is not None
        kept = pack_evidence(session.codec.name, session.evidence) if any(session.evidence) else b""
        sketch = session.reply.sketch if session.amount > 0 else None
        done = Piece(
            device=session.device,
            piece=session.piece,
            round=session.round,
            amount=float(session.amount),
            digest=session.digest,
            units=max(1, session.reply.units),
            commitment=session.commitment,
            evidence=kept,
            sketch=b"" if sketch is None else sketch.astype("<f4").tobytes(),
        )
        try:
            if sketch is not None and not self._is_new(done, sketch):
                raise RepeatedWork(f"the work of {done.piece!r} is nearly that of another piece")
            settled = await self._books.deliver(done)
        except MarketError:
            self._sessions.drop(session)
            if self._repeats is not None:
                self._repeats.drop(done.device, done.piece)
            raise
        session.settled, session.job, session.evidence = done, None, []
        await self._record(session.device, session.round, session.piece, settled)
        return settled

    def _is_new(self, done: Piece, sketch: np.ndarray) -> bool:
        """Whether nobody has delivered nearly the same work lately."""
        if self._repeats is None:
            return True
        return self._repeats.take(done.round, done.device, done.piece, sketch)

    def _passes(self, device: str, piece: str, kept: Evidence, source: bytes) -> bool:
        name, evidence = unpack_evidence(kept.evidence)
        codec = next((each for each in self.codecs if each.name == name), None)
        if codec is None:
            raise InputError("audit", "codec", "one that the server has", shown(name))
        return self.part.passes_audit(
            kept.amount,
            evidence,
            source,
            seed=session_seed(self.rules.secret, device, piece),
            codec=codec,
            key=evidence_key(self.rules.secret, device, piece),
        )

    async def _record(self, device: str, number: int, piece: str, settled: Settlement) -> None:
        """Brings the round in memory up to what the ledger has just recorded."""
        if self._round is None or self._round.number != number:
            return
        if settled.state in (PieceState.PENDING, PieceState.PAID):
            self._round = rounds.record(self._round, device, piece, settled.units)
        if rounds.delivered(self._round, device):
            await self._end(device)
            self._notify()

    def _state(self) -> str:
        if self._over:
            return "over"
        if self._stopping:
            return "stopping"
        if self._round is None or self._round.phase is Phase.CLOSED:
            return "waiting"
        return self._round.phase.value

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place in the queue."""
        if self._in_flight >= EXCHANGES_IN_FLIGHT_MAX:
            raise Busy
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def _notify(self) -> None:
        """Wakes everybody who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, end_s: float | None) -> bool:
        """Waits for the next change; False if none came before the end."""
        try:
            async with asyncio.timeout(None if end_s is None else end_s - time.monotonic()):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


def round_status(record: RoundRecord) -> dict[str, object]:
    """A round at a glance."""
    price = record.price_microcredits
    return {
        "round": record.number,
        "closed": record.closed,
        "price": None if price is None else in_credits(price),
        "answered": sorted(record.answers),
        "amounts": record.amounts,
        "units": {name: sum(own.values()) for name, own in record.pieces.items()},
        "paid_microcredits": dict(record.paid_microcredits),
        "pending_microcredits": dict(record.pending_microcredits),
    }


def _least_reward(round: Round) -> int:
    """The least that a device could have taken of what was offered, micro-credits a unit."""
    return min((item.reward_microcredits for item in round.question.menu), default=0)


def _finished(record: RoundRecord) -> Finished:
    return Finished(
        number=record.number,
        question=record.question,
        answers=record.answers,
        assigned={name: item for name, item in record.assigned.items() if item.amount > 0},
        units=record.units,
        # What is owed: whether an audit is over has nothing to do with the mechanism.
        paid_microcredits={
            name: record.paid_microcredits.get(name, 0) + pending
            for name, pending in record.pending_microcredits.items()
        },
    )
