"""Ledgers with devices and rounds in them, for tests of the books."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepact.engagement import Answer, Item, Question, posted
from edgepact.market.ledger import Ledger, Pending, Piece, Settlement
from edgepact.work import Model
from tests.market.harness import place

MODEL = Model(name="m", amount_max=12, digest="ab")
DEVICES = ("cam-1", "cam-2")
LAYERS = {"cam-1": 3, "cam-2": 0, "cam-3": 2}
PRICE = 250_001
UNITS = 6


def piece(
    device: str = "cam-1",
    name: str = "a",
    round: int = 1,
    content: bytes | None = None,
    units: int = 1,
    evidence: bytes = b"",
) -> Piece:
    """A piece, the work of which is its own unless its content is said."""
    own = f"{device}/{name}".encode() if content is None else content
    return Piece(
        device=device,
        piece=name,
        round=round,
        amount=float(LAYERS[device]),
        digest=hashlib.sha256(own).digest(),
        units=units,
        commitment=bytes(32),
        evidence=evidence,
    )


def open_ledger(folder: Path, *, synchronous: str = "OFF", **options: Any) -> Ledger:
    """The ledger of a folder."""
    return Ledger(f"sqlite:///{folder / 'ledger.db'}", synchronous=synchronous, **options)


def with_round(
    ledger: Ledger, number: int = 1, units: int = UNITS, devices: Sequence[str] = DEVICES
) -> Ledger:
    """Opens a round at a posted price, in which everybody has their layers."""
    known = ledger.devices()
    for device in devices:
        if device not in known:
            ledger.enrol(f"once-{device}", device)
    open_round(ledger, number, posted(PRICE, 12), units)
    for device in devices:
        answer = Answer(item=place(LAYERS[device]))
        ledger.answer(number, device, answer, assigned=item_of(LAYERS[device]))
    return ledger


def open_round(ledger: Ledger, number: int, question: Question, units: int = UNITS) -> None:
    """Opens a round that asks a question."""
    ledger.open_round(
        number, job="classification", model=MODEL, question=question, units_per_device=units
    )


def item_of(layers: int) -> Item:
    """What so many layers earn."""
    return Item(amount=float(layers), reward_microcredits=PRICE * layers)


def delivered(ledger: Ledger, *pieces: Piece, **options: Any) -> list[Settlement]:
    """Delivers pieces, none of which is refused."""
    found = ledger.deliver(pieces, **options)
    for each in found:
        if not isinstance(each, Settlement):
            raise each
    return [each for each in found if isinstance(each, Settlement)]


def picking(*names: str) -> Any:
    """A draw that picks these."""

    def draw(pending: list[Pending]) -> tuple[list[str], float]:
        return [each.piece for each in pending if each.piece in names], 0.5

    return draw


def sign(text: str) -> str:
    """A signature of tests."""
    return hashlib.sha256(text.encode()).hexdigest()


def forfeit(ledger: Ledger, device: str = "cam-1", number: int = 1, strikes_max: int = 2) -> int:
    """An audit was failed."""
    return ledger.forfeit(
        number, device, why={"reason": "differs"}, strikes_max=strikes_max, sign=sign
    )
