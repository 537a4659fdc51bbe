"""The market as it runs: who is there, which round is on, and the books behind it.

Everything here runs on one event loop, so that the state needs no locks. What takes time runs
in threads of one worker each, for the job and for the ledger (`books`): while payments are written
through to the disk, the next piece is computed.

The ledger is written first and the state in memory follows; after a restart the state is read
back from the ledger. How a piece is worked on is in `exchanges`, how a device-round ends in
`settling`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from edgepact.credits import in_credits
from edgepact.engagement import (
    NOTHING,
    Answer,
    Engagement,
    Finished,
    Item,
    Learning,
    Question,
    check_engaged,
)
from edgepact.errors import InputError, MarketError
from edgepact.market import rounds
from edgepact.market.books import Books, Busy
from edgepact.market.demand import Demand
from edgepact.market.exchanges import Answered, Exchange, Exchanges
from edgepact.market.fair_queue import ONE_BY_ONE, Batching
from edgepact.market.ledger import (
    Ledger,
    Limits,
    PieceState,
    RoundRecord,
    Settlement,
    token_hash,
)
from edgepact.market.ledger.signing import ServerKey
from edgepact.market.logs import Log
from edgepact.market.protocol.messages import NoOffer, Offer, Standing
from edgepact.market.rounds import Phase, Round, Terms
from edgepact.market.settling import (
    AuditRules,
    Settling,
    expect_admitted,
    least_reward,
    rates_of,
    told_rates,
)
from edgepact.market.unpaid import Unpaid
from edgepact.market.witness import Witness
from edgepact.tensors import Codec
from edgepact.work import Json, ServerPart

POLL_TIMEOUT_S = 10.0
"""How long a poll for an offer is held open."""

FAREWELL_TIMEOUT_S = 5.0
"""How long the server waits at the end for devices to hear that the market is over."""

FAREWELL_LATE_S = 10.0
"""How long it waits for those that are still at work on the last round, which was over for the
others: a device that finds nobody would look for the server as long as it would for any other."""

REST_S, REST_S_MAX = 0.5, 60.0
"""How long a market rests after a round whose every piece was beyond the budget: twice as long
after each, until something is delivered or the limits change. Else it would play all its rounds in
vain before anybody had seen that its budget is used up."""

HISTORY_ROUNDS_MAX = 1000
"""Rounds that a mechanism and the status see."""

_T = TypeVar("_T")


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
        unpaid_per_minute: pieces that a client may ask for without pay; 0 for none.
        batching: how pieces pass the job's stages together.
        demand: who asks for pieces and pays the server; None where devices bring their own.
        job_settings: of the job, as devices are told them; None for a job that tells none.
    """

    terms: Terms
    rounds: int | None
    devices_min: int
    gather_timeout_s: float | None
    audits: AuditRules
    secret: bytes
    enrol_tokens: frozenset[str]
    unpaid_per_minute: int = 0
    batching: Batching = ONE_BY_ONE
    demand: Demand | None = None
    job_settings: Mapping[str, Json] | None = None


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
        log: hears what happens, and how much is audited where that is another than before.
    """

    def __init__(
        self,
        rules: Rules,
        books: Books,
        key: ServerKey,
        part: ServerPart,
        codecs: tuple[Codec, ...],
        engagement: Engagement,
        *,
        log: Log | None = None,
    ) -> None:
        self.rules = rules
        self._log = log or Log()
        self.part = part
        self.codecs = codecs
        self._books = books
        self._ledger = books.ledger
        self._engagement = engagement
        self._exchanges = Exchanges(
            part,
            codecs,
            books,
            rules.secret,
            batching=rules.batching,
            demand=rules.demand,
            recorded=self._record,
        )
        self._settling = Settling(
            books,
            rules.audits,
            key,
            self._exchanges.passes,
            run=self._exchanges.compute.run,
            changed=self._notify,
            expired=self._exchanges.forget,
            log=self._log,
        )
        self.unpaid = Unpaid(
            part,
            rules.secret,
            self._exchanges.compute.run_behind,
            rules.unpaid_per_minute,
        )
        self._paces: dict[str, float] = {}  # how long devices take for a round
        self._patience = rounds.Patience()
        self._passed: dict[str, float] = {}  # questions that devices let pass lately
        self._enrol_hashes = frozenset(token_hash(token) for token in rules.enrol_tokens)
        self._names: dict[str, str] = {}  # by token hash
        self._enrolled: set[str] = set()  # token hashes that nobody has shown yet
        self._present: set[str] = set()  # devices whose next answer is waited for
        self._polls: Counter[str] = Counter()  # polls held open, by device
        self._expected_back: set[str] = set()  # the same after a restart, before they have polled
        self._told_rates = ""
        self._late: set[str] = set()  # devices that were at work when the last round ended
        self._endings: set[asyncio.Task[None]] = set()
        self._over = False
        self._stopping = False
        self._paused = False
        self._resting = False  # since a round whose every piece was beyond the budget
        self.witness: Witness | None = None
        """Told of every round that has ended."""
        self._changed = asyncio.Event()
        self._found = self._ledger.rounds(last=HISTORY_ROUNDS_MAX, pieces=False)
        self._round, self._number = self._resume(self._found)

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
        token = await self._books.write(lambda: self._ledger.enrol(one_time_token, name))
        self._enrolled.add(token_hash(token))
        self._log.info("enrolled", device=name)
        return token

    def remembers(self, token: str) -> bool:
        """Whether a token is a device's that was shown or given out since the start."""
        key = token_hash(token)
        return key in self._names or key in self._enrolled

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
            self._enrolled.discard(key)
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
        # What is to be shown may have been told before in an answer that was lost.
        least_s = min((float(str(each["seconds"])) for each in self.due(device)), default=inf)
        patience_s = min(POLL_TIMEOUT_S, least_s / 4)
        try:
            return await self._poll(device, after, time.monotonic() + patience_s)
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

    async def exchange(self, asked: Exchange, codec: object) -> Answered:
        """Works on an exchange of a piece; the last one settles the piece.

        Args:
            asked: the exchange.
            codec: name of the codec that has packed the tensors; None if none was named.

        Raises:
            Busy: too many exchanges or sessions are in flight.
            InputError: the tensors do not fit, or cannot be worked with.
            LostSession: the piece has to be begun again.
            MarketError: the device may not deliver it; nothing is paid.
        """
        with self._exchanges.place():
            chosen, tensors = self._exchanges.unpacked(asked, codec)
            known = await self._admitted(asked.device, asked.round, asked.piece, asked.amount)
            return await self._exchanges.answer(asked, chosen, tensors, known=known)

    async def audit(self, device: str, piece: str, shown: bytes) -> Settlement:
        """Holds the salt and source of a piece against what was delivered for it.

        Raises:
            Busy: too many exchanges are in flight.
            InputError: it is another source, or cannot be read: there is time for another try.
            MarketError: no such piece.
        """
        try:
            with self._exchanges.place():
                return await self._settling.show(device, piece, shown)
        except Busy:
            self._settling.put_off(device)
            raise

    async def pieces(self, device: str, number: int) -> dict[str, Settlement]:
        """How all pieces of a device stand that it has delivered in a round."""
        return await self._books.read(lambda ledger: ledger.pieces_of(device, number))

    async def done(self, device: str, number: int) -> None:
        """A device says that it has no more work to bring in a round."""
        if self._round is not None and self._round.number == number:
            self._round = rounds.bring_no_more(self._round, device, time.monotonic())
            await self._end(device)
        self._notify()

    async def leave(self, device: str) -> None:
        """A device says that it goes: nobody waits for it any more, and its round ends."""
        self._present.discard(device)
        self._late.discard(device)
        self._expected_back.discard(device)
        if self._round is not None:
            self._round = rounds.leave(self._round, device, time.monotonic())
            await self._end(device)
        self._notify()

    async def _end(self, device: str) -> None:
        """Ends what a device delivers in the round that is on."""
        assert self._round is not None
        if device in self._round.assigned:
            least = least_reward(self._round.question, self._round.assigned)
            await self._settling.end(self._round.number, device, least)

    async def status(self, *, rounds: bool = True) -> dict[str, object]:
        """The market at a glance, for people and for the process that started it.

        Args:
            rounds: whether each of the last rounds is told of.
        """
        records, balances, jobs, audited = await self._books.read(
            lambda ledger: (
                ledger.rounds(last=HISTORY_ROUNDS_MAX, pieces=False) if rounds else [],
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
            "exchanges_in_flight": self._exchanges.in_flight,
            "sessions": self._exchanges.sessions,
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
        found, self._found = self._found, []
        foreign = {each.number for each in found if not self._can_work_again(each)}
        await self._settling.resume(resumed, found, foreign)
        watching = asyncio.create_task(self._settling.watch())
        try:
            await self._play()
            await self._settling.drained()
        finally:
            watching.cancel()
        self._over = True
        self._notify()
        now_s = time.monotonic()
        while True:
            shut_out = set(self._settling.shut_out)
            late, here = self._late - shut_out, self._present - shut_out
            patience_s = FAREWELL_LATE_S if late else FAREWELL_TIMEOUT_S
            if not (late or here) or not await self._change(now_s + patience_s):
                return

    async def _play(self) -> None:
        """All rounds."""
        commit_timeout_s = self.rules.terms.commit_timeout_s
        if self._round is not None:
            await self._play_round()
        elif self.rules.rounds is not None and self._number >= self.rules.rounds:
            self._log.say(
                f"nothing is left to play: the ledger has {self._number} rounds already, and "
                f"--rounds {self.rules.rounds} counts them in"
            )
        # After a restart the devices come back by themselves; some of them may not.
        patience_s = commit_timeout_s if self._number else self.rules.gather_timeout_s
        rest_s = REST_S
        while self.rules.rounds is None or self._number < self.rules.rounds:
            await self._gather(patience_s)
            if self._paused:
                await self._change(None)
                continue
            self._round = await self._open(self._number + 1)
            self._number += 1
            unpayable = self._books.unpayable
            delivered = await self._play_round()
            patience_s = 0.0
            if delivered:
                rest_s, self._resting = REST_S, False
            elif self._books.unpayable > unpayable and self._number != self.rules.rounds:
                await self._rest(rest_s)
                rest_s = min(2.0 * rest_s, REST_S_MAX)

    async def _rest(self, rest_s: float) -> None:
        """Waits so long, or until more may be promised. A server that stops cancels it."""
        end_s = time.monotonic() + rest_s
        if not self._resting:
            self._log.warning("budget used up", round=self._number, next="raise it, or stop")
        self._resting = True
        self._notify()
        while self._resting and await self._change(end_s):
            pass

    # ------------------------------------------------------------ what an operator may change

    @property
    def engagement(self) -> Engagement:
        """The mechanism at work."""
        return self._engagement

    @property
    def paused(self) -> bool:
        """Whether no further round begins."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Lets no further round begin, or lets it; the one that is on goes on."""
        self._paused = paused
        self._log.info("paused" if paused else "resumed")
        self._notify()

    @property
    def limits(self) -> Limits:
        """What may be promised at most."""
        return self._books.limits

    def limit(self, limits: Limits) -> None:
        """Promises no more than this from now on; what is promised already is paid."""
        if limits.allows_more_than(self._books.limits):
            self._resting = False
        self._books.limits = limits
        self._log.info(
            "limits",
            round_microcredits=limits.round_microcredits,
            total_microcredits=limits.total_microcredits,
        )
        self._notify()

    async def revoke(self, device: str) -> None:
        """Voids a device's token: it takes no part from now on.

        Raises:
            MarketError: no device is enrolled under this name.
        """
        await self._books.write(lambda: self._ledger.revoke_device(device))
        await self._settling.hear_of_members()
        self._log.info("revoked", device=device)
        self._notify()

    async def readmit(self, device: str) -> None:
        """Lets a device that was shut out take part again.

        Raises:
            MarketError: no device is enrolled under this name.
        """
        await self._books.write(lambda: self._ledger.readmit(device))
        await self._settling.hear_of_members()
        self._log.info("readmitted", device=device)
        self._notify()

    # ------------------------------------------------------------ what an onlooker may see

    @property
    def rounds_found(self) -> Sequence[RoundRecord]:
        """Rounds that the ledger had at the start; none once the market plays."""
        return self._found

    async def read(self, call: Callable[[Ledger], _T]) -> _T:
        """Reads from the books, beside whatever is written.

        Raises:
            LedgerError: the database fails.
        """
        return await self._books.read(call)

    async def changed(self, within_s: float) -> bool:
        """Waits for the next change; False if none came in this time."""
        return await self._change(time.monotonic() + within_s)

    @property
    def present(self) -> frozenset[str]:
        """Devices whose next answer is waited for."""
        return frozenset(self._present)

    def glance(self) -> dict[str, object]:
        """What is known without a look at the books."""
        current = self._round
        left_s = None
        if current is not None and current.deadline_s is not None:
            left_s = max(0.0, current.deadline_s - time.monotonic())
        return {
            "state": self._state(),
            "paused": self._paused,
            "budget_used_up": self._resting,
            "ready": self.ready,
            "round": self._number,
            "left_s": left_s,
            "answered": 0 if current is None else len(current.answers),
            "exchanges_in_flight": self._exchanges.in_flight,
            "sessions": self._exchanges.sessions,
            "audits_open": self._settling.auditing,
        }

    def stop(self) -> None:
        """Lets every waiting poll return, so that the server can stop."""
        self._stopping = True
        self._notify()

    def close(self) -> None:
        """Finishes what is being computed and written, and closes the ledger."""
        self._exchanges.close()
        self._books.close()

    # ------------------------------------------------------------ private

    def _can_work_again(self, record: RoundRecord) -> bool:
        """Whether the work of a round is of the job and the model that are served now."""
        terms = self.rules.terms
        served = (terms.job, terms.model.name, terms.model.digest)
        return (record.job, record.model, record.digest) == served

    def _resume(self, records: list[RoundRecord]) -> tuple[Round | None, int]:
        """Where the ledger stands: the open round, and the last number."""
        terms = self.rules.terms
        resumed = None
        for record in records:
            if record.closed:
                continue
            alike = record.units_per_device == terms.units_per_round
            if not (alike and self._can_work_again(record)):
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
        if records:
            self._exchanges.resume(records[-1].number)
        if isinstance(self._engagement, Learning):
            for record in records:
                if record.closed and record.answers:
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
        self._tell_rates([item.reward_microcredits for item in question.menu], question, {})
        return Round(
            number=number,
            question=question,
            terms=terms,
            lagging=rounds.lagging(terms, self._paces),
            patience=self._patience,
            passed=self._passed,
        )

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
        rewards = [item.reward_microcredits for item in assigned.values()]
        self._tell_rates(rewards, self._round.question, assigned)
        self._notify()

    def _tell_rates(
        self, rewards: list[int], question: Question, assigned: Mapping[str, Item]
    ) -> None:
        """A line on how much is audited, where it is another than before."""
        rules, units = self.rules.audits, self.rules.terms.units_per_round
        found = rates_of(rules, rewards, least_reward(question, assigned), units)
        unit = self.rules.terms.unit
        told = told_rates(rules, found, units, unit) if found else self._told_rates
        if told != self._told_rates:
            self._told_rates = told
            self._log.say(told)

    def tell_rates(self) -> None:
        """How much is audited, as far as it is known before anything is asked: at equal pay."""
        self._tell_rates([1], Question(), {})

    async def _play_round(self) -> bool:
        """Carries the current round to its end, closes it in the books and remembers it.

        Returns:
            Whether anything was delivered.
        """
        assert self._round is not None
        here = len(self._present)
        self._log.info("round open", round=self._round.number, devices=here)
        self._notify()
        while self._round.phase is not Phase.CLOSED:
            shut_out = set(self._settling.shut_out)
            for device in shut_out - self._round.gone:  # it cannot say that it leaves
                self._round = rounds.leave(self._round, device, time.monotonic())
            before = self._round
            awaited = (self._present | self._expected_back) - shut_out
            self._round = rounds.advance(before, awaited, time.monotonic())
            if self._round.phase is before.phase:
                await self._change(self._round.deadline_s)
                continue
            if before.phase is Phase.ASKING:
                self._drop(self._present - set(before.answers))  # they let the question pass
                self._expected_back = set()
            if self._round.phase is Phase.ENGAGING:
                await self._engage()
            self._notify()
        closed = self._round
        number = closed.number
        now_s = time.monotonic()
        self._paces = rounds.paces(closed, self._present, self._paces, now_s)
        self._patience = rounds.patience(closed, now_s)
        self._passed = rounds.passed(closed)
        self._late = rounds.unfinished(closed)
        self._drop(self._late)
        # What was delivered before the books hear of the end counts: their thread takes one
        # thing after another.
        await self._books.insist(lambda: self._ledger.close_round(number))
        # What was written behind the last look at the round in memory counts as well.
        (record,) = await self._books.insist(lambda: self._ledger.rounds(last=1, pieces=False))
        self._log.info(
            "round closed",
            round=number,
            units=sum(record.delivered.values()),
            devices=len(record.delivered),
        )
        least = least_reward(closed.question, record.assigned)
        for device, item in record.assigned.items():
            if item.amount > 0 or record.units.get(device):
                await self._settling.end(number, device, least)
        if record.answers and isinstance(self._engagement, Learning):
            await asyncio.to_thread(self._engagement.observe, _finished(record))
        if self.witness is not None:
            self.witness.round_closed(record)
        return any(record.delivered.values())

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

    async def _admitted(self, device: str, number: int, piece: str, amount: int) -> bool:
        """Whether a piece that may be worked on has been delivered before.

        Raises:
            MarketError: it may not.
        """
        if self._round is not None and self._round.number == number:
            rounds.admit(self._round, device, piece, amount)
            return piece in self._round.pieces.get(device, {})
        known = await self._books.read(
            lambda ledger: ledger.knows(device, piece, number, float(amount))
        )
        if not known:
            raise MarketError(f"round {number} is not open")
        return True

    async def _record(self, device: str, number: int, piece: str, settled: Settlement) -> None:
        """Brings the round in memory up to what the ledger has just recorded."""
        if self._round is None or self._round.number != number:
            return
        if settled.state in (PieceState.PENDING, PieceState.PAID):
            self._round = rounds.record(self._round, device, piece, settled.units, time.monotonic())
        if rounds.delivered(self._round, device):
            # The answer to a device's last piece does not wait for this: when a thousand devices
            # end at once it takes a while. What is to be shown is told with the next answer.
            ending = asyncio.create_task(self._end(device))
            self._endings.add(ending)
            ending.add_done_callback(self._ended)
            self._notify()

    def _ended(self, ending: "asyncio.Task[None]") -> None:
        """A device-round has ended; if that failed the round's own end does it again."""
        self._endings.discard(ending)
        if not ending.cancelled():
            ending.exception()

    def _state(self) -> str:
        if self._over:
            return "over"
        if self._stopping:
            return "stopping"
        if self._paused and (self._round is None or self._round.phase is Phase.CLOSED):
            return "paused"
        if self._round is None or self._round.phase is Phase.CLOSED:
            return "waiting"
        return self._round.phase.value

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
        "units": dict(record.delivered),
        "paid_microcredits": dict(record.paid_microcredits),
        "pending_microcredits": dict(record.pending_microcredits),
    }


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
