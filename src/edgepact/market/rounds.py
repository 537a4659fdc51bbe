"""The rules of a round, free of clocks, sockets and files.

A round is offered at a price, devices commit to a number of layers, work for it, and the round
closes when all of them have delivered or its time is up:

::

    offered --all awaited devices committed, or commit timeout--> working
    working --all images delivered and audited, or round timeout--> closed

A device may deliver from the moment it has committed; what ends with `offered` is the time to
commit. The commit timeout starts with the first commitment: an offer nobody has answered stays
open. Times are seconds on any clock the caller likes, always passed in.

The next price is the business of a `Pricer`, which sees what the server saw and nothing else.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

from edgepact.errors import MarketError
from edgepact.market.protocol import MICRO, PRICE_CREDITS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What the server saw in one round.

    Args:
        price: credits per layer and image.
        layers: committed layers by device name.
        number: number of the round.
        images: delivered images by device name.
        paid_microcredits: payments by device name.
    """

    price: float
    layers: dict[str, int]
    number: int = 0
    images: dict[str, int] = field(default_factory=dict)
    paid_microcredits: dict[str, int] = field(default_factory=dict)


@runtime_checkable
class Pricer(Protocol):
    """Names the price of the next round."""

    def __call__(self, history: list[RoundResult]) -> float:
        """The price in credits per layer and image, from all closed rounds so far."""


@dataclass(frozen=True, slots=True)
class FixedPrice:
    """The same price in every round.

    Example:
        >>> FixedPrice(1.5)([])
        1.5
    """

    price: float

    def __call__(self, history: list[RoundResult]) -> float:
        """The price, whatever happened."""
        return self.price


class Phase(StrEnum):
    """Where a round stands."""

    OFFERED = "offered"
    WORKING = "working"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What does not change from round to round.

    Args:
        model: name of the model.
        layers_max: its layers.
        images_per_round: images taken from each device.
        commit_timeout_s: from the first commitment to the end of commitments.
        round_timeout_s: from the end of commitments to the end of the round.
    """

    model: str
    layers_max: int
    images_per_round: int
    commit_timeout_s: float
    round_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round in progress.

    Args:
        number: from 1.
        price_microcredits: per layer and image.
        terms: what was offered beside the price.
        phase: where it stands.
        layers: commitments by device.
        jobs: recorded jobs by device.
        held: those that wait for their audit.
        gone: devices that said they leave: nobody waits for them.
        deadline_s: when the phase ends; None while nobody has committed.
    """

    number: int
    price_microcredits: int
    terms: Terms
    phase: Phase = Phase.OFFERED
    layers: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    held: frozenset[tuple[str, str]] = frozenset()
    gone: frozenset[str] = frozenset()
    deadline_s: float | None = None


def price_in_microcredits(price: float) -> int:
    """A pricer's price as the ledger holds it.

    Raises:
        MarketError: not a number from 0 to the highest price that can be offered.
    """
    if not (math.isfinite(price) and 0 <= price <= PRICE_CREDITS_MAX):
        raise MarketError(
            f"the pricer named a price of {price}, expected 0 to {PRICE_CREDITS_MAX:g} credits"
        )
    return round(price * MICRO)


def check_commitment(round: Round, device: str, layers: int) -> None:
    """Whether a commitment can be taken; the same one again can, at any time.

    Raises:
        MarketError: too many layers, another commitment than before, or too late.
    """
    if layers > round.terms.layers_max:
        raise MarketError(
            f"{round.terms.model} has {round.terms.layers_max} layers, "
            f"{device!r} committed to {layers}"
        )
    known = round.layers.get(device)
    if known not in (None, layers):
        raise MarketError(
            f"{device!r} has committed to {known} layers in round {round.number} already"
        )
    if known is None and round.phase is not Phase.OFFERED:
        raise MarketError(f"round {round.number} takes no more commitments")


def commit(round: Round, device: str, layers: int, now_s: float) -> Round:
    """The round with a commitment the ledger has recorded; the first starts the clock."""
    deadline_s = round.deadline_s
    if round.phase is Phase.OFFERED and deadline_s is None:
        deadline_s = now_s + round.terms.commit_timeout_s
    return replace(round, layers={**round.layers, device: layers}, deadline_s=deadline_s)


def admit(round: Round, device: str, job: str, layers: int) -> None:
    """Whether a job may be computed: the device committed to this cut and has images left.

    Raises:
        MarketError: it may not; the message says why.
    """
    committed = round.layers.get(device)
    if committed is None:
        raise MarketError(f"{device!r} has not committed to anything in round {round.number}")
    if committed != layers:
        raise MarketError(
            f"{device!r} has committed to {committed} layers in round {round.number}, "
            f"not to {layers} layers"
        )
    done = round.jobs.get(device, frozenset())
    if job in done:
        return
    if round.phase is Phase.CLOSED:
        raise MarketError(f"round {round.number} is closed")
    if len(done) >= round.terms.images_per_round:
        raise MarketError(
            f"{device!r} has delivered all {round.terms.images_per_round} images "
            f"of round {round.number}"
        )


def record(round: Round, device: str, job: str, *, held: bool) -> Round:
    """The round after a job was recorded in the ledger; `held` if its audit is open."""
    done = round.jobs.get(device, frozenset()) | {job}
    key = frozenset({(device, job)})
    return replace(
        round,
        jobs={**round.jobs, device: done},
        held=round.held | key if held else round.held - key,
    )


def leave(round: Round, device: str) -> Round:
    """The round after a device has said that it leaves."""
    return replace(round, gone=round.gone | {device})


def come_back(round: Round, device: str) -> Round:
    """The round after a device that had left is there again."""
    return replace(round, gone=round.gone - {device}) if device in round.gone else round


def advance(round: Round, awaited: Set[str], now_s: float) -> Round:
    """The round in the phase in which it should be now.

    Args:
        round: the round.
        awaited: devices whose commitment is expected.
        now_s: the time.
    """
    late = round.deadline_s is not None and now_s >= round.deadline_s
    if round.phase is Phase.OFFERED and round.layers:
        missing = set(awaited) - set(round.layers) - round.gone
        if late or not missing:
            return advance(
                replace(round, phase=Phase.WORKING, deadline_s=now_s + round.terms.round_timeout_s),
                awaited,
                now_s,
            )
    if round.phase is Phase.WORKING and (late or not unfinished(round)):
        return replace(round, phase=Phase.CLOSED, deadline_s=None)
    return round


def unfinished(round: Round) -> set[str]:
    """Committed devices, not gone, with images or audits left to deliver."""
    return {
        device
        for device in round.layers
        if device not in round.gone
        and (
            len(round.jobs.get(device, ())) < round.terms.images_per_round
            or any(holder == device for holder, _ in round.held)
        )
    }
