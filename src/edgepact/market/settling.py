"""How device-rounds end: what is audited, what is shown, and what becomes of the pay.

Only when a device has delivered all it will in a round is drawn which of its pieces are audited,
with as high a rate as makes cheating on any share of them a loss (`mechanisms.audit_rate`). It
then shows their sources; each is held against the digest to which the device had bound itself
with the piece, and worked again. The pay of the round follows once all have passed. Work that
differs, or silence, loses all that is pending of the device. What the server cannot work again,
though the device has shown its source, expires: it is not paid, and nobody is to blame.

The draw is in the ledger before anybody hears of it, so that a restart draws nothing anew.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from edgepact.engagement import Item, Question
from edgepact.errors import InputError, MarketError
from edgepact.market.books import Books
from edgepact.market.ledger import (
    Evidence,
    LedgerError,
    Pending,
    PieceState,
    RoundRecord,
    Settlement,
    Stage,
)
from edgepact.market.ledger.signing import ServerKey
from edgepact.market.logs import Log

SALT_BYTES = 32

WATCH_S = 1.0
"""How often it is looked after audits whose time is up, and after what the operator has said."""

WRONG_SOURCES_MAX = 5
"""Sources that may be shown for a piece that are not what the device had bound itself to, or that
nobody can read."""

PUT_OFF_MAX = 20
"""How many times the time to show a source may be given again to a device since the server is busy:
else some who keep it busy could put their audits off for ever, and with them its end."""


class CannotAudit(Exception):
    """A piece cannot be worked again here, whatever its device does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """How much is audited, and what a failed audit means.

    Args:
        rate: the least share of pieces to audit at which cheating loses money, by the units of
            each, the reward of a unit in micro-credits, and the least reward that the device
            could have taken instead.
        timeout_s: time to show a source.
        strikes_max: failed audits at which a device is excluded.
        fixed: share that is audited whatever `rate` says; None for what it says.
        chance: numbers from 0 to 1 that nobody can foresee.
        bought: whether buyers pay for pieces. Then those that earn their device nothing are all
            audited: it has no pay to lose that would keep it from spoiling what they buy.
        tries: units that a piece can become at most by work that is not good enough. Where buyers
            ask for so many pieces and no more, who spoils its first tries is paid for so many
            units where an honest device earns its margin on one.
    """

    rate: Callable[[list[int], int, int], float]
    timeout_s: float
    strikes_max: int
    fixed: float | None = None
    chance: Callable[[], float] = secrets.SystemRandom().random
    bought: bool = False
    tries: int = 1

    def least_of(self, reward: int, least_reward: int, strikes: int = 0) -> int:
        """The reward of which the margin is a share, micro-credits: a smaller one stands for a
        smaller margin.

        Args:
            reward: of a unit.
            least_reward: that the device could have taken instead; 0 if there was nothing less.
            strikes: audits that the device has failed. Each says that its margin is thinner than
                was thought: half of what it was.
        """
        least = min(reward, least_reward) if least_reward > 0 else reward
        return max(1, (least >> strikes) // self.tries)

    def drawn(
        self, pending: list[Pending], least_reward: int, strikes: int = 0
    ) -> tuple[list[str], float]:
        """Which pieces of a device-round are audited, and the rate.

        Args:
            pending: its pieces.
            least_reward: of a unit, that the device could have taken instead, micro-credits; 0
                if there was nothing less.
            strikes: audits that the device has failed.
        """
        auditable = [each for each in pending if each.auditable]
        if not auditable:
            return [], 0.0
        reward = max(each.microcredits // max(1, each.units) for each in auditable)
        if not reward and self.bought:
            return [each.piece for each in auditable], 1.0
        if not reward:
            return [], 0.0  # there is nothing to lose, nor to gain
        least = self.least_of(reward, least_reward, strikes)
        rate = self.fixed
        if rate is None:
            rate = self.rate([each.units for each in auditable], reward, least)
        return [each.piece for each in auditable if self.chance() < rate], rate


@dataclass(slots=True)
class _Audit:
    """A device-round that is audited: pieces whose sources are awaited, until when, and until when
    at the very last, however busy the server is."""

    pieces: set[str]
    deadline_s: float
    last_s: float
    wrong: dict[str, int] = field(default_factory=dict)
    in_hand: int = 0  # sources that were shown, and are being worked


class Settling:
    """The ends of a market's device-rounds. Its coroutines belong to one event loop.

    Args:
        books: the ledger.
        rules: of the audits.
        key: signs verdicts.
        passes: works a source again and compares: device, piece, what is kept, source. Raises
            InputError for a source that cannot be read, `CannotAudit` for the server's own fault.
        run: has something computed in its turn, for a device.
        changed: called when what devices are to show, or their pay, is another.
        expired: called with device and piece that the server could not audit.
        clock: seconds on one that nobody sets: were it the time of day, a clock that is put
            forward would end the time of honest devices.
    """

    def __init__(
        self,
        books: Books,
        rules: AuditRules,
        key: ServerKey,
        passes: Callable[[str, str, Evidence, bytes], bool],
        *,
        run: Callable[[str, Callable[[], bool]], Any],
        changed: Callable[[], None],
        expired: Callable[[str, str], None] = lambda device, piece: None,
        clock: Callable[[], float] = time.monotonic,
        log: Log | None = None,
    ) -> None:
        self._books, self._rules, self._key = books, rules, key
        self._passes, self._run, self._changed, self._clock = passes, run, changed, clock
        self._expired, self._log = expired, log or Log()
        self._open: dict[tuple[int, str], _Audit] = {}
        self._strikes: dict[str, int] = {}
        self.shut_out: dict[str, str] = {}
        """Why devices may take no part, of those that may not."""

    async def resume(
        self,
        open_round: int | None,
        records: Sequence[RoundRecord] = (),
        foreign: Set[int] = frozenset(),
    ) -> None:
        """Goes on where the ledger stands: audits begin anew, rounds that are over end.

        Args:
            open_round: number of the round that goes on, if one does.
            records: the rounds of the ledger.
            foreign: numbers of those whose work cannot be done again here, since another job or
                model is served now: what is picked of them expires.
        """
        until_s = self._clock() + self._rules.timeout_s
        await self._books.insist(lambda: self._books.ledger.postpone(until_s))
        for each in await self._books.insist_on_reading(lambda ledger: ledger.open_audits()):
            self._open[each.round, each.device] = self._begun(each.pieces, until_s)
        await self.hear_of_members(insist=True)
        offered = {each.number: least_reward(each.question, each.assigned) for each in records}
        for number, device, stage in await self._books.insist_on_reading(
            lambda ledger: ledger.unsettled()
        ):
            if stage is Stage.OPEN and number != open_round:
                await self.end(number, device, offered.get(number, 0))
        for number, device in [key for key in self._open if key[0] in foreign]:
            for piece in sorted(self._open[number, device].pieces):
                await self._expire(number, device, piece)

    @property
    def auditing(self) -> int:
        """Device-rounds that are being audited."""
        return len(self._open)

    def due(self, device: str) -> list[dict[str, object]]:
        """What a device is to show: pieces, and the seconds it has left."""
        now_s = self._clock()
        return [
            {"piece": piece, "seconds": max(0.0, round(audit.deadline_s - now_s, 3))}
            for (_, name), audit in self._open.items()
            if name == device
            for piece in sorted(audit.pieces)
        ]

    async def end(self, number: int, device: str, least_reward: int = 0) -> None:
        """Ends the deliveries of a device-round, draws what is audited, and pays if nothing is.

        Args:
            number: of the round.
            device: whose.
            least_reward: of a unit, that the device could have taken instead, micro-credits; 0 if
                there was nothing less.
        """
        until_s = self._clock() + self._rules.timeout_s
        strikes = self._strikes.get(device, 0)
        begun = await self._books.insist(
            lambda: self._books.ledger.settle(
                number,
                device,
                draw=lambda pending: self._rules.drawn(pending, least_reward, strikes),
                deadline_s=until_s,
            )
        )
        if begun is not None and (number, device) not in self._open:
            self._open[number, device] = self._begun(begun.pieces, begun.deadline_s)
        self._changed()

    def put_off(self, device: str) -> None:
        """Gives a device its time again: the server was too busy to look at what it showed."""
        until_s = self._clock() + self._rules.timeout_s
        for (_, name), audit in self._open.items():
            if name == device:
                audit.deadline_s = max(audit.deadline_s, min(until_s, audit.last_s))

    async def show(self, device: str, piece: str, shown: bytes) -> Settlement:
        """Holds a source against what was delivered for it.

        Args:
            device: who shows it.
            piece: the piece.
            shown: the salt, and the source.

        Raises:
            InputError: it is not what the device has bound itself to, or cannot be read.
            MarketError: no such piece.
        """
        kept = await self._books.read(lambda ledger: ledger.evidence(device, piece))
        if kept is not None:
            await self._show(device, piece, kept, shown)
        found = await self._books.read(lambda ledger: ledger.find(device, [piece]))
        return found[piece]

    async def _show(self, device: str, piece: str, kept: Evidence, shown: bytes) -> None:
        audit = self._open.get((kept.round, device))
        if audit is None or piece not in audit.pieces:
            return  # its time is just up, or it has been shown a moment ago
        salt, source = shown[:SALT_BYTES], shown[SALT_BYTES:]
        if kept.commitment != hashlib.sha256(salt + source).digest():
            await self._note_wrong(audit, kept, device, piece, "another source than committed to")
            raise InputError(
                "audit",
                "source",
                "the source that the commitment of the piece was made for",
                "another",
            )
        try:
            with self._in_hand(audit):
                passes = await self._run(device, lambda: self._passes(device, piece, kept, source))
        except InputError:
            await self._note_wrong(audit, kept, device, piece, "its source cannot be read")
            raise
        except CannotAudit:
            await self._expire(kept.round, device, piece)
            return
        except Exception:
            await self._expire(kept.round, device, piece)
            raise  # a defect, to be told as such
        if passes:
            with self._in_hand(audit):
                stage = await self._books.write(lambda: self._books.ledger.passed(device, piece))
            audit.pieces.discard(piece)
            if stage is Stage.SETTLED:
                self._open.pop((kept.round, device), None)
        else:
            await self._failed(
                kept.round,
                device,
                piece,
                "the work differs from what its source gives",
                commitment=(kept.commitment or b"").hex(),
                evidence=hashlib.sha256(kept.evidence).hexdigest(),
            )
        self._changed()

    async def _note_wrong(
        self, audit: _Audit, kept: Evidence, device: str, piece: str, reason: str
    ) -> None:
        """A source was shown that is of no use; some of them are a mistake, more are a cheat."""
        audit.wrong[piece] = audit.wrong.get(piece, 0) + 1
        if audit.wrong[piece] >= WRONG_SOURCES_MAX:
            await self._failed(kept.round, device, piece, reason)

    def _begun(self, pieces: Sequence[str], deadline_s: float) -> _Audit:
        return _Audit(set(pieces), deadline_s, deadline_s + PUT_OFF_MAX * self._rules.timeout_s)

    async def watch(self) -> None:
        """Ends audits whose time is up, and hears whom the operator lets in or out, for ever.

        Time in which the server stood still, or could not write its ledger, is nobody's.
        """
        looked_s = self._clock()
        while True:
            await asyncio.sleep(WATCH_S)
            with suppress(LedgerError):
                await self.hear_of_members()
            now_s = self._clock()
            stood_s = now_s - looked_s if not self._books.sound else now_s - looked_s - WATCH_S
            looked_s = now_s
            if stood_s > WATCH_S / 2:
                for each in self._open.values():
                    each.deadline_s += stood_s
            late = [
                key
                for key, audit in self._open.items()
                if audit.deadline_s < now_s and not audit.in_hand
            ]
            for number, device in late:
                audit = self._open.get((number, device))
                if audit is not None and not audit.pieces:
                    del self._open[number, device]  # all has passed
                elif audit is not None and device in self.shut_out:
                    await self._expire_all(number, device, audit.pieces)
                elif audit is not None:
                    await self._failed(
                        number, device, min(audit.pieces), "its source was not shown in time"
                    )

    @contextmanager
    def _in_hand(self, audit: _Audit) -> Iterator[None]:
        """What the server takes for a source is not the device's time: it begins again after."""
        audit.in_hand += 1
        try:
            yield
        finally:
            audit.in_hand -= 1
            audit.deadline_s = max(audit.deadline_s, self._clock() + self._rules.timeout_s)

    async def hear_of_members(self, *, insist: bool = False) -> None:
        """Who may take no part, and who has failed audits.

        Time in which a device could show nothing, since it was shut out, is not its own: what it
        still has to show it may show from its return on.
        """
        read = self._books.insist_on_reading if insist else self._books.read
        before = self.shut_out
        self.shut_out, self._strikes = await read(
            lambda ledger: (ledger.shut_out(), ledger.strikes())
        )
        back = before.keys() - self.shut_out.keys()
        until_s = self._clock() + self._rules.timeout_s
        for (_, device), audit in self._open.items():
            if device in back:
                audit.deadline_s = max(audit.deadline_s, until_s)

    async def drained(self) -> None:
        """Returns once no audit is open."""
        while self._open:
            await asyncio.sleep(0.05)

    async def _failed(
        self, number: int, device: str, piece: str, reason: str, **evidence: str
    ) -> None:
        """All that is pending of the device is lost, and it has a strike."""
        self._log.warning("forfeited", device=device, round=number, piece=piece, why=reason)
        why: Mapping[str, Any] = {"piece": piece, "reason": reason, **evidence}
        await self._books.insist(
            lambda: self._books.ledger.forfeit(
                number,
                device,
                why=why,
                strikes_max=self._rules.strikes_max,
                sign=self._key.sign,
            )
        )
        for key in [key for key in self._open if key[1] == device]:
            del self._open[key]
        await self.hear_of_members(insist=True)
        self._changed()

    async def _expire(self, number: int, device: str, piece: str) -> None:
        """A piece that the server cannot audit is neither paid nor held against its device."""
        stage = await self._books.insist(lambda: self._books.ledger.expire(device, piece))
        audit = self._open.get((number, device))
        if audit is not None:
            audit.pieces.discard(piece)
            if stage is Stage.SETTLED:
                del self._open[number, device]
        self._expired(device, piece)
        self._changed()

    async def _expire_all(self, number: int, device: str, picked: Collection[str]) -> None:
        """The operator has shut a device out that had still to show sources, and could not.

        Nothing is held against it. But what was not picked is paid because what was picked passed:
        were it paid now, to shut out somebody who cheats would pay most of the cheat.
        """
        found = await self._books.insist_on_reading(lambda ledger: ledger.pieces_of(device, number))
        pending = {piece for piece, each in found.items() if each.state is PieceState.PENDING}
        # What was picked comes last: with it the device-round is settled, also after a restart.
        for piece in [*sorted(pending - set(picked)), *sorted(picked)]:
            await self._expire(number, device, piece)


def least_reward(question: Question, assigned: Mapping[str, Item]) -> int:
    """The least that a device could have been paid for a unit instead, micro-credits; 0 for none.

    Of a menu, its least item. Bids are no such thing: what somebody asks is neither paid nor
    proved. So after an auction it is the least that anybody is paid in this round, brought down to
    the least amount that was asked at the same pay of a step. What a bidder says can lower this,
    which has everybody audited more; to raise it, all that are engaged would have to conspire.
    """
    if question.menu:
        return min(item.reward_microcredits for item in question.menu)
    smallest = min(question.bid_amounts, default=0.0)
    paid = [
        max(1, int(item.reward_microcredits * min(1.0, smallest / item.amount)))
        for item in assigned.values()
        if item.amount > 0 and item.reward_microcredits > 0
    ]
    return min(paid, default=0)


def rates_of(rules: AuditRules, rewards: Collection[int], least: int, pieces: int) -> list[float]:
    """Shares of its pieces that are audited at least of a device that delivers a whole round.

    Args:
        rules: of the audits.
        rewards: of a unit, that devices may be paid, micro-credits; of 0 there is nothing to gain.
        least: the least reward that they could take instead.
        pieces: of a round, a unit each.

    Returns:
        The least and the largest at which cheating loses money; nothing if nothing is paid.
    """
    paid = {reward for reward in rewards if reward > 0}
    found = {rules.rate([1] * pieces, each, rules.least_of(each, least)) for each in paid}
    return [min(found), max(found)] if found else []


def told_rates(rules: AuditRules, found: Sequence[float], units: int, unit: str) -> str:
    """What `rates_of` has found, in words; a warning where less is audited.

    Args:
        rules: of audits.
        found: least and greatest rate.
        units: that a device delivers in a round.
        unit: what one is called: `image`.
    """
    shares = [f"{100 * each:.3g} %" for each in found]
    derived = shares[0] if shares[0] == shares[-1] else f"{shares[0]} to {shares[-1]}"
    of = f"of the pieces of a device that delivers {units} {unit}{'s' * (units != 1)} in a round"
    if rules.fixed is None:
        # Above 1 a rate is cut to 1, which may not be enough: that is told where it is known.
        least = ", the least at which cheating loses money" if found[-1] < 1.0 else ""
        return f"audits: {derived} {of}{least}"
    if rules.fixed < found[-1]:
        return (
            f"warning: audits of {100 * rules.fixed:.3g} % are too few: cheating loses money "
            f"from {derived} {of}"
        )
    return f"audits: {100 * rules.fixed:.3g} %; cheating loses money from {derived} {of}"


def expect_admitted(shut_out: Mapping[str, str], device: str) -> None:
    """Whether a device may take part.

    Raises:
        MarketError: it may not.
    """
    if device in shut_out:
        raise MarketError(
            f"{device!r} may take no part: {shut_out[device]}; its operator can readmit it"
        )
