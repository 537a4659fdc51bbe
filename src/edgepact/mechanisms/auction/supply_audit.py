"""Does an auction of cost curves keep its promises? The best lie is searched among whole curves.

A device's report matters only through what it is made to run and what it is paid for that. So
the lies that can pay are known: for every number of layers, a curve that offers nothing else, at
a level just below, at and just above the highest with which it would still be taken (the price
of `SupplyRule.prices`, which the others' curves set). For a rule that pays by these prices the
best of them is the best lie there is. A rule of another kind may be fooled otherwise, so whole
curves are tried too: the truth withheld beyond every number of layers, withheld below it, scaled,
raised to the prices, the prices themselves, and random ones, convex and not.

The curves in hand are taken for the truth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from edgepact.mechanisms.auction.audit import STEP, TOLERANCE
from edgepact.mechanisms.auction.supply_curves import SupplyAward

SCALES = (0.0, 0.25, 0.5, 0.8, 0.95, 1.05, 1.25, 1.5, 2.0, 4.0)
"""By which whole true curves are scaled."""

RANDOM_CURVES = 20
"""Tried of every device, half of them convex."""

WORK_MAX = 60_000_000
"""Curves tried times what an auction takes at worst, devices times layers squared: seconds. Of
more devices than that allows, evenly many over their order are searched."""


@runtime_checkable
class SupplyRule(Protocol):
    """An auction of cost curves: `SupplyVcg`, or any other that is to be audited."""

    @property
    def pays_prices(self) -> bool:
        """Whether a device is paid just the price of what it runs, whatever it reported."""

    def award(self, curves: Float[np.ndarray, "devices items"]) -> SupplyAward:
        """Holds the auction."""

    def prices(
        self, curves: Float[np.ndarray, "devices items"]
    ) -> Float[np.ndarray, "devices items"]:
        """For each number of layers, the most with which a device that asks it still runs them.

        Minus infinity where it never does. Of the others' curves alone.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyAudit:
    """What was found; the same promises and keys as `auction.audit.AuctionAudit`.

    Attributes:
        individually_rational: no device loses by taking part truthfully.
        incentive_compatible: no curve that was tried pays; and of a rule that pays by prices,
            no number of layers has a price that would serve a device better, which is exact.
        budget_balanced: the server pays at most what it saves.
        largest_gain_from_lying: credits; over all curves of the devices searched.
        largest_loss_from_taking_part: credits; over all devices.
        lies_tried: how many curves.
        devices_searched: in how many devices' place.
        best_lie: device and curve of the largest gain; None if no lie gains anything.
    """

    individually_rational: bool
    incentive_compatible: bool
    budget_balanced: bool
    largest_gain_from_lying: float
    largest_loss_from_taking_part: float
    lies_tried: int
    devices_searched: int
    best_lie: tuple[int, tuple[float, ...]] | None

    def as_json(self) -> dict[str, bool | float]:
        """The keys of `edgepact solve --json`."""
        return {
            "individually_rational": self.individually_rational,
            "incentive_compatible": self.incentive_compatible,
            "budget_balanced": self.budget_balanced,
            "largest_gain_from_lying": self.largest_gain_from_lying,
            "largest_loss_from_taking_part": self.largest_loss_from_taking_part,
        }


def audit_supply(
    rule: SupplyRule,
    truth: Float[np.ndarray, "devices items"],
    *,
    rng: np.random.Generator,
    work_max: int = WORK_MAX,
    random_curves: int = RANDOM_CURVES,
) -> SupplyAudit:
    """Audits a rule on true curves.

    Args:
        rule: to be audited.
        truth: what 0, 1, ... layers really cost each device; infinity where it cannot.
        rng: of the random curves.
        work_max: bounds how many devices' lies are searched; two at least.
        random_curves: tried of each.
    """
    truth = np.asarray(truth, float)
    honest, prices = rule.award(truth), rule.prices(truth)
    kept = _utility(honest, truth)
    finite = truth[np.isfinite(truth)]
    slack = TOLERANCE * max(
        float(np.max(finite)), float(np.max(honest.payments)), float(np.finfo(float).tiny)
    )
    lies = 7 * truth.shape[1] + 2 * len(SCALES) + random_curves
    count = min(len(truth), max(2, work_max // (lies * truth.size**2)))
    searched = np.unique(np.linspace(0, len(truth) - 1, count).astype(int))
    gain, tried, best_lie = 0.0, 0, None
    if rule.pays_prices:
        gain = max(0.0, float(np.max(largest_gain_by_layers(rule, truth))))
    for own in searched.tolist():
        for curve in _lies(truth[own], prices[own], rng, random_curves):
            reported = truth.copy()
            reported[own] = curve
            more = float(_utility(rule.award(reported), truth)[own] - kept[own])
            tried += 1
            if more > gain:
                gain = more
                best_lie = (own, tuple(curve.tolist())) if more > slack else best_lie
    loss = max(0.0, -float(np.min(kept)))
    return SupplyAudit(
        individually_rational=loss <= slack,
        incentive_compatible=gain <= slack,
        budget_balanced=honest.profit >= -slack * len(truth),
        largest_gain_from_lying=gain,
        largest_loss_from_taking_part=loss,
        lies_tried=tried,
        devices_searched=len(searched),
        best_lie=best_lie,
    )


def largest_gain_by_layers(
    rule: SupplyRule, truth: Float[np.ndarray, "devices items"]
) -> Float[np.ndarray, " devices"]:
    """The most each device gains by any report, of a rule that pays by `prices`; exact.

    Whatever it reports, it ends with some number of layers at their price, which it cannot move.
    """
    kept = _utility(rule.award(truth), truth)
    best = np.max(np.where(np.isfinite(truth), rule.prices(truth) - truth, -np.inf), axis=1)
    return np.asarray(best - kept)


def _utility(award: SupplyAward, truth: np.ndarray) -> np.ndarray:
    return award.payments - truth[np.arange(len(truth)), award.layers]


def _lies(
    true: np.ndarray, price: np.ndarray, rng: np.random.Generator, random_curves: int
) -> Iterator[Float[np.ndarray, " items"]]:
    """Curves that a device may report; each starts with 0 for no layers."""
    layers = np.arange(len(true))
    reachable = np.maximum(np.where(np.isfinite(price), price, 0.0), 0.0)
    for at in layers[1:]:
        only = layers == at
        for level in (0.0, *(reachable[at] * (1.0 + np.array([-STEP, 0.0, STEP])))):
            yield np.where(only, level, np.where(layers == 0, 0.0, np.inf))
        if np.isfinite(true[at]):
            yield np.where(only | (layers == 0), true, np.inf)
            yield np.where(layers <= at, true, np.inf)  # supply withheld
            yield np.where((layers >= at) | (layers == 0), true, np.inf)
    for scale in SCALES:
        # Not infinity times 0: what it cannot run it does not offer.
        yield np.where(np.isfinite(true), scale * np.where(np.isfinite(true), true, 0.0), np.inf)
    for level in (1.0 - STEP, 1.0, 1.0 + STEP):
        yield np.where(layers == 0, 0.0, reachable * level)
        yield np.where(layers == 0, 0.0, np.maximum(true, reachable * level))
    top = 2.0 * max(float(np.max(true[np.isfinite(true)])), float(np.max(reachable)), 1e-300)
    for number in range(random_curves):
        steps = rng.exponential(top / len(true), len(true) - 1)
        steps = np.sort(steps) if number % 2 else steps
        cap = rng.integers(1, len(true) + 1)
        yield np.where(layers < cap, np.concatenate([[0.0], np.cumsum(steps)]), np.inf)
