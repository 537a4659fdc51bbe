"""The market as it runs: who is there, which round is on, and the books behind it.

Everything here runs on one event loop, so that the state needs no locks. What takes time runs
in two threads of one worker each, one for the model and one for the ledger: while one job's
payment is written through to the disk, the next is computed. The number of jobs in flight has
a limit.

The ledger is written first and the state in memory follows; after a restart the state is read
back from the ledger.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from edgepact.errors import MarketError
from edgepact.inference.codec import CODECS
from edgepact.market import rounds
from edgepact.market.ledger import Job, JobState, Ledger, RoundRecord, Settlement, token_hash
from edgepact.market.protocol import MICRO, NoOffer, Offer, TensorValue
from edgepact.market.rounds import Phase, Pricer, Round, RoundResult, Terms
from edgepact.market.work import (
    Answer,
    Workbench,
    digest,
    pack,
    picked_for_audit,
)

POLL_TIMEOUT_S = 10.0
"""How long a poll for an offer is held open."""

FAREWELL_TIMEOUT_S = 5.0
"""How long the server waits at the end for devices to hear that the market is over."""

JOBS_IN_FLIGHT_MAX = 64
"""Jobs computed or waiting at a time; the next is told to come back."""

HISTORY_ROUNDS_MAX = 1000
"""Rounds a pricer and the status see."""

_T = TypeVar("_T")


class Busy(Exception):
    """All places in the queue are taken: come back in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this market is run.

    Args:
        terms: what every offer says.
        rounds: rounds to play, those already in the ledger included; None for no end.
        devices_min: devices that must be there before the first round.
        gather_timeout_s: how long to wait for so many; then one is enough. None waits on.
        audit_probability: share of jobs that are audited.
        audit_secret: key that picks them.
        enrol_tokens: one-time tokens that are accepted.
    """

    terms: Terms
    rounds: int | None
    devices_min: int
    gather_timeout_s: float | None
    audit_probability: float
    audit_secret: bytes
    enrol_tokens: frozenset[str]


class Market:
    """One market on one ledger. Its coroutines belong to one event loop.

    A round that was open when the last server on this ledger ended goes on from the start.
    """

    def __init__(self, rules: Rules, ledger: Ledger, bench: Workbench, pricer: Pricer) -> None:
        self.rules = rules
        self.bench = bench
        self._ledger = ledger
        self._pricer = pricer
        self._enrol_hashes = frozenset(token_hash(token) for token in rules.enrol_tokens)
        self._names: dict[str, str] = {}  # by token hash
        self._present: set[str] = set()  # devices whose next commitment is waited for
        self._polls: Counter[str] = Counter()  # polls held open, by device
        self._expected_back: set[str] = set()  # the same after a restart, before they have polled
        self._told: set[str] = set()  # devices that know that the market is over
        self._in_flight = 0
        self._over = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._write = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._round, self._history, self._number = self._resume()

    # ------------------------------------------------------------ what devices ask

    async def enrol(self, one_time_token: str, name: str) -> str | None:
        """Token of a newly enrolled device; None if the one-time token is unknown.

        Raises:
            MarketError: the one-time token or the name is taken.
        """
        if token_hash(one_time_token) not in self._enrol_hashes:
            return None
        return await self._books(lambda: self._ledger.enrol(one_time_token, name))

    async def device(self, token: str) -> str | None:
        """Name of the device that holds the token; None for nobody's."""
        key = token_hash(token)
        if key not in self._names:
            name = await self._books(lambda: self._ledger.device_of(token))
            if name is None:
                return None
            await self._books(lambda: self._ledger.confirm(name))
            self._names[key] = name
        return self._names[key]

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

    async def commit(self, device: str, number: int, layers: int) -> None:
        """Takes a commitment.

        Raises:
            MarketError: it cannot be taken.
        """
        if self._round is None or self._round.number != number:
            raise MarketError(f"round {number} is not open")
        rounds.check_commitment(self._round, device, layers)
        await self._books(lambda: self._ledger.commit(number, device, layers))
        # If the round has gone on to its working phase meanwhile, the ledger counts.
        if self._round.number == number:
            self._round = rounds.commit(self._round, device, layers, time.monotonic())
            self._notify()

    async def work(
        self, device: str, number: int, job: str, layers: int, inputs: dict[str, TensorValue]
    ) -> tuple[Answer, Settlement]:
        """Finishes a job whose tensors have been checked, and settles it.

        Raises:
            Busy: too many jobs are in flight.
            InputError: its image cannot be read or its numbers cannot be used.
            MarketError: the device may not deliver it; nothing is paid.
        """
        with self._place():
            task = Job(device=device, job=job, round=number, layers=layers, digest=digest(inputs))
            if self._round is not None and self._round.number == number:
                rounds.admit(self._round, device, job, layers)
            elif await self._books(lambda: self._ledger.find(task)) is None:
                raise MarketError(f"round {number} is not open")
            answer = await self._model(lambda: self.bench.answer(layers, inputs))
            audit = layers > 0 and picked_for_audit(
                self.rules.audit_secret, device, job, self.rules.audit_probability
            )
            evidence = pack(inputs) if audit else None
            settled = await self._books(lambda: self._ledger.settle(task, evidence=evidence))
            self._record(device, number, job, settled)
            return answer, settled

    async def audit(self, device: str, job: str, image: bytes) -> Settlement:
        """Audits a held job against its image, and pays it or not.

        Raises:
            Busy: too many jobs are in flight.
            InputError: the image cannot be read (the job stays held).
            MarketError: no such job.
        """
        with self._place():
            held = await self._books(lambda: self._ledger.evidence(device, job))
            # A job whose audit is over is left as it is by either call.
            passed = held is None or await self._model(
                lambda: self.bench.passes_audit(held[0], held[1], image)
            )
            end = self._ledger.release if passed else self._ledger.forfeit
            settled = await self._books(lambda: end(device, job))
            if self._round is not None and (device, job) in self._round.held:
                self._record(device, self._round.number, job, settled)
            return settled

    def leave(self, device: str) -> None:
        """A device says that it goes: nobody waits for it any more."""
        self._present.discard(device)
        self._expected_back.discard(device)
        if self._round is not None:
            self._round = rounds.leave(self._round, device)
        self._notify()

    async def status(self) -> dict[str, object]:
        """The market at a glance, for people and for the process that started it."""
        records = await self._books(lambda: self._ledger.rounds(last=HISTORY_ROUNDS_MAX))
        balances = await self._books(self._ledger.balances)
        jobs = await self._books(self._ledger.jobs_by_state)
        audited = await self._books(self._ledger.audited)
        terms = self.rules.terms
        return {
            "state": self._state(),
            "model": terms.model,
            "layers_max": terms.layers_max,
            "labels": list(self.bench.labels),
            "images_per_round": terms.images_per_round,
            "rounds_total": self.rules.rounds,
            "devices_present": sorted(self._present),
            "jobs_in_flight": self._in_flight,
            "jobs": jobs,
            "jobs_audited": audited,
            "balances_microcredits": balances,
            "rounds": [
                {
                    "round": record.number,
                    "closed": record.closed,
                    "price": record.price_microcredits / MICRO,
                    "layers": record.layers,
                    "images": {name: len(own) for name, own in record.jobs.items()},
                    "paid_microcredits": record.paid_microcredits,
                }
                for record in records
            ],
        }

    @property
    def ready(self) -> bool:
        """Whether jobs can be taken."""
        return not (self._over or self._stopping)

    # ------------------------------------------------------------ the rounds, one after another

    async def play(self) -> None:
        """Plays all rounds; returns when the market is over and its devices know.

        Raises:
            MarketError: the pricer named an impossible price, or the ledger is used by another.
        """
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
        self._over = True
        self._notify()
        end_s = time.monotonic() + FAREWELL_TIMEOUT_S
        while not self._present <= self._told and await self._change(end_s):
            pass

    def stop(self) -> None:
        """Lets every waiting poll return, so that the server can stop."""
        self._stopping = True
        self._notify()

    def close(self) -> None:
        """Finishes what is being computed and written, and closes the ledger."""
        self._compute.shutdown(wait=True, cancel_futures=True)
        self._write.shutdown(wait=True)
        self._ledger.close()

    # ------------------------------------------------------------ private

    def _resume(self) -> tuple[Round | None, list[RoundResult], int]:
        """Where the ledger stands: the open round, the closed ones, the last number."""
        records = self._ledger.rounds()
        terms = self.rules.terms
        resumed = None
        for record in records:
            if record.closed:
                continue
            if (record.model, record.images_per_device) != (terms.model, terms.images_per_round):
                self._ledger.close_round(record.number)  # it was on other terms
                continue
            start_s = time.monotonic()
            resumed = Round(
                number=record.number,
                price_microcredits=record.price_microcredits,
                terms=terms,
                layers=record.layers,
                jobs={name: frozenset(jobs) for name, jobs in record.jobs.items()},
                held=frozenset((name, job) for name, jobs in record.held.items() for job in jobs),
                deadline_s=start_s + terms.commit_timeout_s if record.layers else None,
            )
            self._expected_back = set(self._ledger.devices())
        history = [_result(record) for record in records if record.closed and record.layers]
        return resumed, history[-HISTORY_ROUNDS_MAX:], records[-1].number if records else 0

    async def _gather(self, patience_s: float | None) -> None:
        """Waits until enough devices are there; when patience ends one is enough."""
        end_s = None if patience_s is None else time.monotonic() + patience_s
        while len(self._present) < self.rules.devices_min:
            patient = end_s is None or time.monotonic() < end_s
            if self._present and not patient:
                return
            await self._change(end_s if patient else None)

    async def _open(self, number: int) -> Round:
        price = await asyncio.to_thread(self._pricer, list(self._history))
        microcredits = rounds.price_in_microcredits(float(price))
        terms = self.rules.terms
        await self._books(
            lambda: self._ledger.open_round(
                number,
                model=terms.model,
                price_microcredits=microcredits,
                images_per_device=terms.images_per_round,
            )
        )
        return Round(number=number, price_microcredits=microcredits, terms=terms)

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
            elif before.phase is Phase.OFFERED:
                self._drop(self._present - set(before.layers))  # they let the offer pass
                self._expected_back = set()
                self._notify()
        number = self._round.number
        self._drop(rounds.unfinished(self._round))
        # What was paid before the books hear of the end counts: their thread takes one thing
        # after another.
        await self._books(lambda: self._ledger.close_round(number))
        (record,) = await self._books(lambda: self._ledger.rounds(last=1))
        self._history = [*self._history, _result(record)][-HISTORY_ROUNDS_MAX:]

    async def _poll(self, device: str, after: int, end_s: float) -> Offer | NoOffer:
        while True:
            if self._over:
                self._told.add(device)
                self._notify()
                return NoOffer(state="over")
            offer = self._offer_now(device, after)
            if offer is not None:
                return offer
            if self._stopping or not await self._change(end_s):
                return NoOffer(state="wait")

    def _drop(self, devices: set[str]) -> None:
        """Nobody waits for these devices again until they poll, unless they do so just now."""
        self._present -= {device for device in devices if self._polls[device] <= 0}

    def _offer_now(self, device: str, after: int) -> Offer | None:
        current = self._round
        if current is None or current.phase is Phase.CLOSED or current.number <= after:
            return None
        committed = current.layers.get(device)
        if committed is None and current.phase is not Phase.OFFERED:
            return None
        terms = current.terms
        left_s = terms.commit_timeout_s
        if current.deadline_s is not None and committed is None:
            left_s = max(0.0, current.deadline_s - time.monotonic())
        return Offer(
            round=current.number,
            price_microcredits=current.price_microcredits,
            model=terms.model,
            layers_max=terms.layers_max,
            images_per_round=terms.images_per_round,
            commit_timeout_s=left_s,
            codecs=CODECS,
            committed=committed,
            jobs_done=tuple(sorted(current.jobs.get(device, ()))),
        )

    def _record(self, device: str, number: int, job: str, settled: Settlement) -> None:
        """Brings the round in memory up to what the ledger has just recorded."""
        if self._round is None or self._round.number != number:
            return
        held = settled.state is JobState.HELD
        self._round = rounds.record(self._round, device, job, held=held)
        if len(self._round.jobs[device]) >= self._round.terms.images_per_round:
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
        if self._in_flight >= JOBS_IN_FLIGHT_MAX:
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

    async def _books(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._write, call)

    async def _model(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._compute, call)


def _result(record: RoundRecord) -> RoundResult:
    return RoundResult(
        number=record.number,
        price=record.price_microcredits / MICRO,
        layers=record.layers,
        images={name: len(jobs) for name, jobs in record.jobs.items()},
        paid_microcredits=record.paid_microcredits,
    )
