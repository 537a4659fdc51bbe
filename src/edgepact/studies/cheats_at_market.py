"""Cheats and honest devices in one market of this process: its rounds, audits, ledger, evidence.

Nothing of the market is imitated but the connection: devices call what requests end up calling,
and each has its own pictures. Audits are drawn from a seed; whose round ends first, and draws
first, hangs on threads, so that a play made again differs in who was found when.
"""

import asyncio
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgepact.credits import MICRO
from edgepact.engagement import Answer, Item, Question, taken
from edgepact.errors import MarketError
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.models import embedded, samples
from edgepact.jobs.classification import CLASSIFICATION, ServerHalf, find_images
from edgepact.market.books import Books
from edgepact.market.exchanges import Exchange
from edgepact.market.ledger import Ledger, RepeatedWork
from edgepact.market.ledger.signing import ServerKey
from edgepact.market.logs import Log
from edgepact.market.play import Market, Rules
from edgepact.market.protocol.messages import NoOffer, Offer
from edgepact.market.rounds import Terms
from edgepact.market.settling import SALT_BYTES, AuditRules
from edgepact.mechanisms.audit_rate import audit_rate
from edgepact.studies.cheats import CHEATS, CheatingHalf, CheatingJob
from edgepact.work import Reply

REPEAT_ROUNDS = 2
STRIKES_MAX = 2

AUDIT_TIMEOUT_S = 3.0
"""How long it is waited for a device that has gone."""

ENOUGH_S = 3600.0
"""For what is not to end for want of time."""

CODEC = BUILT_IN[0]
SALT = bytes(SALT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all markets of a study have alike.

    Attributes:
        layers: that everybody is paid for.
        pieces: pictures of each device in a round.
        rounds: of a market.
        margin: share of its pay that an honest device keeps.
    """

    layers: int
    pieces: int
    rounds: int
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """What a device, or two that belong together, came to in a market.

    Attributes:
        delivered: pieces that were taken.
        refused: pieces that were refused as repeats.
        paid: credits; a piece is worth one.
        spent: credits that its own work has cost.
        strikes: audits it has failed.
        excluded: whether it was excluded.
    """

    delivered: int
    refused: int
    paid: float
    spent: float
    strikes: int
    excluded: bool

    @property
    def profit(self) -> float:
        """Credits."""
        return self.paid - self.spent


class OneItem:
    """A menu of one item, a credit a picture, so that every device does the same."""

    def __init__(self, layers: int) -> None:
        self._menu = (Item(amount=float(layers), reward_microcredits=MICRO),)

    def question(self, round: int) -> Question:
        """The same in every round."""
        return Question(menu=self._menu)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Who takes it."""
        return taken(question, answers)


def write_pictures(folder: Path, start: int, count: int) -> Path:
    """A folder of pictures that no other has: samples, moved sideways once all are used.

    Args:
        folder: to make.
        start: number of the first, of all that there are.
        count: how many.
    """
    files = [picture.path for picture in find_images(samples())]
    folder.mkdir(parents=True)
    for number in range(start, start + count):
        moved, at = divmod(number, len(files))
        with Image.open(files[at]) as opened:
            pixels = np.roll(np.array(opened.convert("L")), 2 * moved, axis=-1)
        Image.fromarray(pixels).save(folder / f"{number:06}.png")
    return folder


def play_market(
    setting: Setting,
    pictures: Mapping[str, Path],
    others: Mapping[str, Path | None],
    folder: Path,
    *,
    seed: int,
    fixed: float | None = None,
) -> dict[str, Earned]:
    """One market of a device for each way to cheat, and honest ones.

    Args:
        setting: of the market.
        pictures: a folder of images for each device, by its name; `honest-2` is honest.
        others: folders of the models that cheats run, by way.
        folder: a new one, for the ledger.
        seed: of audits and of what cheats invent.
        fixed: share of pieces to audit; None for the derived one.

    Returns:
        What each came to, by name.
    """
    folder.mkdir(parents=True)
    return asyncio.run(_played(setting, pictures, others, folder, seed, fixed))


def kind_of(name: str) -> str:
    """The way in which a device of this name cheats."""
    head, _, tail = name.rpartition("-")
    return head if head in CHEATS and tail.isdigit() else name


def measured_power(
    cheat: str, setting: Setting, pictures: Path, other: Path | None, count: int
) -> tuple[int, int]:
    """How many audits of work that was cheated on found it.

    Args:
        cheat: the way.
        setting: layers that are paid for.
        pictures: of the device.
        other: the model that it runs.
        count: pieces to cheat on.

    Returns:
        Audits that failed, and audits.
    """
    layers = setting.layers
    half = CheatingHalf(embedded(), pictures, cheat, 0, other)
    server = ServerHalf(embedded())
    specs = server.expects(layers, 0)
    found = tried = at = 0
    while tried < count:
        piece = half.pieces()[at % len(half.pieces())]
        on = half.cheat.is_on(at)
        at += 1
        sent = next(half.work(piece, layers))
        if not on:
            continue
        key = hashlib.sha256(f"{cheat} {at}".encode()).digest()
        came = CODEC.unpack(CODEC.pack(sent, specs), specs)
        kept = server.evidence(layers, 0, came, Reply(outputs={}), key)
        passes = server.passes_audit(
            layers, [kept], half.source(piece), seed=0, codec=CODEC, key=key
        )
        tried, found = tried + 1, found + (not passes)
    return found, tried


# ---------------------------------------------------------------- private


async def _played(
    setting: Setting,
    pictures: Mapping[str, Path],
    others: Mapping[str, Path | None],
    folder: Path,
    seed: int,
    fixed: float | None,
) -> dict[str, Earned]:
    url = f"sqlite:///{folder / 'ledger.db'}"
    ledger = Ledger(url, synchronous="OFF")
    reader = Ledger(url, read_only=True)
    part = CLASSIFICATION.server_part(None, {})
    part.warm()
    names = list(pictures)
    market = Market(
        Rules(
            terms=Terms(
                job=CLASSIFICATION.name,
                model=part.model,
                units_per_round=setting.pieces,
                commit_timeout_s=ENOUGH_S,
                round_timeout_s=ENOUGH_S,
            ),
            rounds=setting.rounds,
            devices_min=len(names),
            gather_timeout_s=None,
            audits=_rules(setting.margin, seed, fixed),
            secret=hashlib.sha256(f"{seed}".encode()).digest(),
            enrol_tokens=frozenset(names),
        ),
        Books(ledger, reader, repeat_rounds=REPEAT_ROUNDS),
        ServerKey(folder / "key"),
        part,
        BUILT_IN,
        OneItem(setting.layers),
        log=Log(write=lambda line: None),
    )
    try:
        players = [
            _Player(
                market, name, setting, pictures[name], others.get(kind_of(name)), 1000 * seed + at
            )
            for at, name in enumerate(names)
        ]
        playing = asyncio.create_task(market.play())
        taking_part = [asyncio.create_task(each.take_part()) for each in players]
        await playing
        await asyncio.gather(*taking_part)
        cost = 1.0 - setting.margin
        balances = ledger.balances()
        members = {each.name: each for each in ledger.members()}
        return {
            each.name: Earned(
                delivered=each.delivered,
                refused=each.refused,
                paid=balances.get(f"device:{each.name}", 0) / MICRO,
                spent=cost * each.half.spent,
                strikes=members[each.name].strikes,
                excluded=members[each.name].excluded,
            )
            for each in players
        }
    finally:
        market.close()


def _rules(margin: float, seed: int, fixed: float | None) -> AuditRules:
    def rate(units: list[int], reward: int, least_reward: int) -> float:
        return audit_rate(units, margin=margin, reward=reward, least_reward=least_reward)

    return AuditRules(
        rate=rate,
        timeout_s=AUDIT_TIMEOUT_S,
        strikes_max=STRIKES_MAX,
        fixed=fixed,
        chance=random.Random(seed).random,
    )


class _Player:
    """A device of this process that takes part until the market is over, or shuts it out."""

    def __init__(
        self,
        market: Market,
        name: str,
        setting: Setting,
        pictures: Path,
        other: Path | None,
        seed: int,
    ) -> None:
        self.name = name
        self.delivered = self.refused = 0
        self._market, self._setting = market, setting
        job = CheatingJob(cheat=kind_of(name), seed=seed, other=other)
        self.half = job.device_part(None, pictures, {})
        self._pieces = self.half.pieces()
        self._next = 0
        self._sources: dict[str, bytes] = {}

    async def take_part(self) -> None:
        """Round after round."""
        token = await self._market.enrol(self.name, self.name)
        assert token is not None
        after = 0
        while True:
            try:
                await self._market.device(token)
            except MarketError:
                return
            await self._show()
            offer = await self._market.offer(self.name, after)
            await self._show()
            if isinstance(offer, NoOffer):
                if offer.state == "over":
                    await self._market.leave(self.name)
                    return
                continue
            if offer.standing == "asked":
                await self._market.commit(self.name, offer.round, Answer(item=0))
            await self._work(offer)
            after = offer.round

    async def _work(self, offer: Offer) -> None:
        """Delivers what it takes for the pieces of a round, each tried once."""
        layers = self._setting.layers
        specs = self.half.expects(layers, 0)
        self.half.begin_round()
        done = 0
        for place in range(self._setting.pieces):
            piece = self._pieces[self._next % len(self._pieces)]
            self._next += 1
            name = f"{offer.round}-{place}"
            source = self._sources[name] = self.half.source(piece)
            sent = CODEC.pack(next(self.half.work(piece, layers)), specs)
            exchange = Exchange(
                device=self.name,
                round=offer.round,
                piece=name,
                at=0,
                amount=layers,
                commitment=hashlib.sha256(SALT + source).digest(),
                sent=sent,
            )
            try:
                await self._market.exchange(exchange, CODEC.name)
            except RepeatedWork:
                self.refused += 1
            except MarketError:
                return  # it was shut out meanwhile
            else:
                done += 1
        self.delivered += done
        if done < self._setting.pieces:
            await self._market.done(self.name, offer.round)

    async def _show(self) -> None:
        if not self.half.cheat.shows:
            return
        while due := self._market.due(self.name):
            piece = str(due[0]["piece"])
            try:
                await self._market.audit(self.name, piece, SALT + self._sources[piece])
            except MarketError:
                return
