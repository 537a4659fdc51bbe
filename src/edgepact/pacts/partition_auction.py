"""A model split between devices and a server, which buys layers by auction in every round.

Layers cost a device increasing amounts, so a bid is a cost curve: what it asks for 1, 2, ...
layers. `rule = "vcg"` buys what brings most and pays everybody what it adds; the file states
what makes devices compete, `layers_total`, `devices_max` or a server whose own layers get dearer
(`[server] cost_rise`). `rule = "proportional_share"` buys one public `block` of layers within a
`budget`, for one private number a device; with `[solver] name = "gdm"` each device is paid at most
what the past bids of all others suggest.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from edgepact.credits import MICRO, in_credits
from edgepact.engagement import Answer, Cost, Engagement, Finished, Learning, truthful_bids
from edgepact.errors import InputError
from edgepact.fields import Table, terms_in
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.market.ledger import RoundRecord
from edgepact.market.procured import ByBlock, ByCurves, Competition, LearntBlock
from edgepact.mechanisms.auction.audit import AuctionAudit, audit_auction
from edgepact.mechanisms.auction.supply_audit import SupplyAudit, audit_supply
from edgepact.mechanisms.auction.supply_curves import block_costs
from edgepact.mechanisms.promises import Promise, broken
from edgepact.pacts.partition_bought import (
    LEARNT,
    LayersBought,
    Learnt,
    Yardstick,
    bought,
    expect_runnable,
    measured_layers,
)
from edgepact.pacts.partition_live import LayersMeasured
from edgepact.pacts.partition_server import BoughtTerms, read_bought
from edgepact.pacts.partition_settings import DEVICES_MAX
from edgepact.pacts.partition_terms import PrivateDevices, read_split
from edgepact.solvers.in_context.procuring import Buying, best_ceiling
from edgepact.tables import (
    DEVICES_SHOWN,
    NO_LIE_PAYS,
    NOBODY_LOSES,
    Shown,
    audit_sheet,
    decimals,
    figure,
    one,
    yes,
)
from edgepact.work import Model

RULES = ("vcg", "proportional_share")

COUPLINGS = "layers_total, devices_max or server.cost_rise"

ONLY_BLOCKS = (
    'exact, since what is paid at most is learnt for one block: rule = "proportional_share"'
)

PROMISES = (
    Promise.INDIVIDUALLY_RATIONAL,
    Promise.INCENTIVE_COMPATIBLE,
    Promise.BUDGET_BALANCED,
)
"""What the pivot promises where curves are convex, as true ones are."""

AUDIT_SEED = 0
"""Of the random curves among the lies that an audit tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuctionTerms(BoughtTerms):
    """A scenario in which layers are bought by auction.

    Attributes:
        rule: one of `RULES`.
        mechanism: the rule at work.
    """

    rule: str
    mechanism: ByCurves | ByBlock

    def saved(self, layers: int, devices: int) -> float:
        """What so many layers of all devices together save the server, credits."""
        if isinstance(self.mechanism, ByBlock):
            return self.server.saving * layers
        own = self.mechanism.competition.own_cost(devices)
        return float(own[-1] - own[len(own) - 1 - layers])

    def buying(self, seed: int) -> Buying:
        """Ceilings on what is paid for the block; first by what the file says devices may be.

        Raises:
            InputError: the rule is not for a block.
        """
        rule = self.mechanism
        if not isinstance(rule, ByBlock):
            raise InputError(self.source, "solver.name", ONLY_BLOCKS, self.solver)
        worth = rule.saving * rule.steps
        stated = worth
        if self.believed is not None:
            types = self.believed_types()
            costs = block_costs(types.cost, rule.steps)
            stated = best_ceiling(worth, costs, types.weight)
        return Buying(worth=worth, stated=stated, seed=seed)

    def alone(self, devices: int) -> float:
        """What the server spends on its own computing if nobody takes part, credits."""
        return self.saved(devices * self.server.layers_max, devices)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayersAwarded(Shown):
    """What the rule awards if everybody asks its true cost, and the audit of the rule.

    Attributes:
        terms: the server's.
        devices: with what only they know.
        costs: of 0, 1, ... layers, credits.
        layers: of each device.
        payments: to each, credits an image.
        audit: of the rule.
    """

    terms: AuctionTerms
    devices: PrivateDevices
    costs: Float[np.ndarray, "devices items"]
    layers: Int[np.ndarray, " devices"]
    payments: Float[np.ndarray, " devices"]
    audit: SupplyAudit | AuctionAudit

    @classmethod
    def of(cls, terms: AuctionTerms) -> "LayersAwarded":
        """Holds the auction, and audits it."""
        devices = terms.private
        costs = terms.types(devices).cost
        rule: Any = terms.mechanism
        audit: SupplyAudit | AuctionAudit
        if isinstance(rule, ByBlock):
            block = rule.rule(len(costs))
            bids = block_costs(costs, rule.steps)
            won = block.award(bids)
            layers, payments = np.where(won.wins, rule.steps, 0), won.payments
            audit = audit_auction(block, bids)
        else:
            vcg = rule.competition.rule(len(costs))
            award = vcg.award(costs)
            layers, payments = award.layers, award.payments
            audit = audit_supply(vcg, costs, rng=np.random.default_rng(AUDIT_SEED))
        return cls(
            terms=terms,
            devices=devices,
            costs=costs,
            layers=layers,
            payments=payments,
            audit=audit,
        )

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the rule does not keep."""
        if isinstance(self.audit, AuctionAudit):
            return self.audit.broken
        return broken(self.audit, PROMISES)

    @property
    def saving(self) -> float:
        """What it saves the server before anybody is paid, credits."""
        return self.terms.saved(int(np.sum(self.layers)), len(self.layers))

    @property
    def profit(self) -> float:
        """What the server keeps of that, credits."""
        return self.saving - float(np.sum(self.payments))

    @property
    def borne(self) -> Float[np.ndarray, " devices"]:
        """What it costs each device, credits an image."""
        return np.asarray(self.costs[np.arange(len(self.layers)), self.layers])

    @property
    def block_costs(self) -> Float[np.ndarray, " devices"] | None:
        """What the block costs each device, winners and losers, credits; None without a block."""
        rule = self.terms.mechanism
        return block_costs(self.costs, rule.steps) if isinstance(rule, ByBlock) else None

    @property
    def server_utility(self) -> float:
        """For an image of each device, credits."""
        return self.terms.server.revenue - self.terms.alone(len(self.layers)) + self.profit

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What each device runs and is paid; the audit."""
        told = self.borne if self.block_costs is None else self.block_costs
        columns = zip(
            self.devices.names,
            self.layers,
            told,
            self.payments,
            self.payments - self.borne,
            strict=True,
        )
        rows = tuple(
            (name, f"{layers}", _cost_told(cost), *(decimals(float(each)) for each in credits))
            for name, layers, cost, *credits in columns
        )
        cost = "its cost" if self.block_costs is None else "its cost of the block"
        notes = [
            f"If everybody asks its true cost, the server keeps {self.profit:.5g} of "
            f"{self.saving:.5g} credits that it saves; its utility is {self.server_utility:.5g}."
        ]
        if len(rows) > DEVICES_SHOWN:
            notes.insert(0, f"Shown are the first {DEVICES_SHOWN} of {len(rows)} devices.")
        devices = Sheet(
            title=_rule_told(self.terms),
            head=("device", f"{self.terms.split.step}s", cost, "payment", "over staying away"),
            rows=rows[:DEVICES_SHOWN],
            notes=tuple(notes),
        )
        return devices, self._audit()

    def _audit(self) -> Sheet:
        audit, beside = self.audit, float(np.sum(self.payments))
        curves = isinstance(audit, SupplyAudit)
        tried = "curves, withheld supply among them" if curves else "bids"
        lies = f"{audit.lies_tried:,} {tried} tried"
        gain, loss = audit.largest_gain_from_lying, audit.largest_loss_from_taking_part
        limit = "what is saved" if curves else "the budget"
        return audit_sheet(
            (NOBODY_LOSES, yes(audit.individually_rational)),
            (NO_LIE_PAYS, yes(audit.incentive_compatible)),
            (f"payments stay within {limit}", yes(audit.budget_balanced)),
            (f"largest gain from lying ({lies})", f"{figure(gain, beside, 4)} credits"),
            ("largest loss from taking part", f"{figure(loss, beside, 4)} credits"),
        )

    def to_dict(self) -> dict[str, Json]:
        """As `edgepact solve --json` says it."""
        answer: dict[str, Json] = {
            "rule": self.terms.rule,
            **_limits(self.terms.mechanism),
            "devices": [
                {
                    "name": name,
                    "layers": layers,
                    "cost": cost,
                    "payment": paid,
                    "over_staying_away": paid - cost,
                }
                for name, layers, cost, paid in zip(
                    self.devices.names,
                    self.layers.tolist(),
                    self.borne.tolist(),
                    self.payments.tolist(),
                    strict=True,
                )
            ],
            "saving": self.saving,
            "profit": self.profit,
            "server_utility": self.server_utility,
            "audit": self.audit.as_json() | {"lies_tried": self.audit.lies_tried},
        }
        if self.block_costs is not None:
            for device, cost in zip(answer["devices"], self.block_costs.tolist(), strict=True):
                device["block_cost"] = cost if isfinite(cost) else None  # it has no room for it
        return answer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuleHeld(Shown):
    """The auction's own rule: nothing is left to search.

    Attributes:
        terms: the server's.
    """

    terms: AuctionTerms

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """None before the first round."""
        return ()

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": self.terms.solver, "rule": self.terms.rule}

    def engagement(self, model: Model, seed: int | None) -> Engagement:
        """The rule at work."""
        self.terms.server.expect_model(self.terms.source, model, self.terms.split.step)
        rule = self.terms.mechanism
        if self.terms.solver != LEARNT or not isinstance(rule, ByBlock):
            return rule
        return LearntBlock(rule, self.terms.buying(secrets.randbits(31) if seed is None else seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionAuction:
    """Devices bid cost curves over layers, or their cost of a block."""

    name: str = "partition-auction-classification"
    method: str = "partition"
    mechanism: str = "auction"
    job: str = "classification"
    compress: str | None = None
    solvers: tuple[str, ...] = ("exact", LEARNT)

    def read(self, source: Path, document: Document, *, smoke: bool) -> AuctionTerms:
        """Terms: the rule, the server's, and the devices or how many to draw."""
        split = read_split(self, source, document, smoke=smoke)
        top = Table(source, "", terms_in(document))
        top.expect_known(
            *("mechanism", "rule", "satisfaction", "server", "prior", "type", "device", "devices"),
            *("layers_total", "devices_max", "block", "budget"),
        )
        top.choice("mechanism", (self.mechanism,))
        rule = top.choice("rule", RULES)
        also = ("cost_rise",) if rule == "vcg" else ()
        fields = read_bought(split, document, top, also=also)
        server = fields["server"]
        mechanism: ByCurves | ByBlock
        if rule == "vcg":
            mechanism = ByCurves(
                competition=_competition(source, top, document, server.saving, server.layers_max)
            )
        else:
            mechanism = ByBlock(
                saving=server.saving,
                steps=top.whole("block", least=1, most=server.layers_max),
                budget=top.number("budget", above=0.0),
            )
        top.close()
        if split["solver"] == LEARNT and not isinstance(mechanism, ByBlock):
            raise InputError(source, "solver.name", ONLY_BLOCKS, LEARNT)
        return AuctionTerms(**fields, rule=rule, mechanism=mechanism)

    def expect_runnable(self, terms: AuctionTerms) -> None:
        """Refuses what processes here cannot play."""
        expect_runnable(terms)

    def measure(self, terms: AuctionTerms, run: Run) -> LayersMeasured:
        """What layers cost on this machine."""
        return measured_layers(terms, run)

    def optimum(self, terms: AuctionTerms, measured: LayersMeasured | None) -> LayersAwarded:
        """The rule with everybody's true costs."""
        return LayersAwarded.of(terms)

    def decide(self, terms: AuctionTerms, measured: LayersMeasured | None) -> RuleHeld:
        """Nothing is left to search but what may be paid, which follows from the bids."""
        return RuleHeld(terms=terms)

    def engage(
        self, terms: AuctionTerms, measured: LayersMeasured, decision: RuleHeld, run: Run
    ) -> LayersBought:
        """Plays the market with real processes; each round holds its auction."""
        best, devices = self.optimum(terms, measured), len(measured.devices.names)
        learns = terms.solver == LEARNT
        yardstick = Yardstick(
            profit=best.profit,
            saving=best.saving,
            layers=int(np.sum(best.layers)),
            saved=lambda layers: terms.saved(layers, devices),
            alone=terms.alone(devices),
            ruled=_Ruled(terms),
            asked=_bids_heard,
            optimum="what the rule leaves it if every device bids its true cost",
            title=f"Awards in live rounds by {_called(terms.rule)}",
            words="awards are those of the rule on true costs",
            learnt=_ceilings_set(terms) if learns else None,
        )
        return bought(terms, measured, yardstick, run)


def _competition(
    source: Path, top: Table, document: Document, saving: float, layers_max: int
) -> Competition:
    """What makes devices compete.

    Raises:
        InputError: nothing does, or two things that do not go together.
    """
    most = DEVICES_MAX * layers_max
    found: dict[str, Any] = {}
    if "layers_total" in top:
        found["layers_total"] = top.whole("layers_total", least=1, most=most)
    if "devices_max" in top:
        found["devices_max"] = top.whole("devices_max", least=1, most=DEVICES_MAX)
    server = Table(source, "server", document["server"])
    if "cost_rise" in server:
        found["server.cost_rise"] = server.number("cost_rise", above=0.0)
    if not found:
        expected = f"one that makes devices compete, or each is paid all that it saves: {COUPLINGS}"
        raise InputError(source, "rule", expected, "none of them")
    if "devices_max" in found and len(found) > 1:
        expected = "neither layers_total nor server.cost_rise beside it"
        raise InputError(source, "devices_max", expected, "one of them")
    return Competition(
        saving=saving,
        steps_max=layers_max,
        steps_total=found.get("layers_total"),
        bidders_max=found.get("devices_max"),
        rise=found.get("server.cost_rise", 0.0),
    )


def _called(rule: str) -> str:
    return "VCG" if rule == "vcg" else rule.replace("_", " ")


def _limits(rule: ByCurves | ByBlock) -> dict[str, Json]:
    """What makes devices compete, by the names of the file's fields."""
    if isinstance(rule, ByBlock):
        return {"block": rule.steps, "budget": rule.budget}
    competition = rule.competition
    limits = {
        "layers_total": competition.steps_total,
        "devices_max": competition.bidders_max,
        "cost_rise": competition.rise or None,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def _cost_told(cost: float) -> str:
    return decimals(float(cost)) if isfinite(cost) else "no room for it"


def _rule_told(terms: AuctionTerms) -> str:
    rule, split = terms.mechanism, terms.split
    if isinstance(rule, ByBlock):
        return (
            f"Proportional-share auction: {rule.steps} {split.step}s of each winner, or none, "
            f"for at most {rule.budget:g} credits {one(split.unit)} of each device"
        )
    competition = rule.competition
    limits = []
    if competition.steps_total is not None:
        limits.append(f"at most {competition.steps_total} {split.step}s in all")
    if competition.bidders_max is not None:
        limits.append(f"at most {competition.bidders_max} devices")
    if competition.rise > 0.0:
        limits.append(f"a server whose own {split.step}s get dearer")
    return f"VCG auction of cost curves, {' and '.join(limits)}"


def _bids_heard(record: RoundRecord) -> str:
    each = "curves" if len(record.question.bid_amounts) > 1 else "bids"
    return f"{len(record.answers)} {each}"


class _Ruled:
    """Whether awards are what the rule makes of the true costs of those that answered.

    Called for each round in order, since what was bid may set what is paid later.
    """

    def __init__(self, terms: AuctionTerms) -> None:
        self._rule: Engagement = terms.mechanism
        if terms.solver == LEARNT and isinstance(terms.mechanism, ByBlock):
            self._rule = LearntBlock(terms.mechanism, terms.buying(terms.seed))

    def __call__(self, record: RoundRecord, costs: Mapping[str, Cost]) -> bool:
        amounts = record.question.bid_amounts
        told = {
            name: Answer(bids_microcredits=truthful_bids(amounts, costs[name]))
            for name in record.answers
        }
        due = self._rule.engage(record.number, record.question, told)
        if isinstance(self._rule, Learning):
            self._rule.observe(_heard(record))
        return due == {name: item for name, item in record.assigned.items() if item.amount > 0}


def _heard(record: RoundRecord) -> Finished:
    return Finished(
        number=record.number, question=record.question, answers=record.answers, assigned={}
    )


def _ceilings_set(terms: AuctionTerms) -> Callable[[Sequence[RoundRecord]], Learnt]:
    """What was believed, set and bid in each round, decided again as it was then."""

    def again(records: Sequence[RoundRecord]) -> Learnt:
        rule = terms.mechanism
        assert isinstance(rule, ByBlock)
        learnt, rows, told = LearntBlock(rule, terms.buying(terms.seed)), [], []
        for record in records:
            set_now = learnt.believed(record.answers)
            most, accepting = set_now.most, set_now.accepting
            bids = [in_credits(bid) for bid in learnt.heard(record.answers).values()]
            within = sum(
                bid <= most[name] + 1.0 / MICRO for name, bid in zip(most, bids, strict=True)
            )
            told.append(
                {
                    "bids_seen": set_now.bids,
                    "paid_at_most": dict(most),
                    "expected_within": accepting,
                    "within": within,
                }
            )
            rows.append(
                (
                    f"{record.number}",
                    f"{set_now.bids}",
                    f"{min(most.values()):.4g} {max(most.values()):.4g}" if most else "-",
                    "-" if accepting is None else f"{accepting:.0%}",
                    f"{within} of {len(bids)}",
                )
            )
            learnt.observe(_heard(record))
        sheet = Sheet(
            title=f"The most that is paid for the block, set by {LEARNT} from the bids of others",
            head=(
                *("round", "bids learnt from", "least and most, credits"),
                *("expected to ask no more", "asked no more"),
            ),
            rows=tuple(rows),
            notes=(
                f"Credits {one(terms.split.unit)}. Nobody's own bids set what it may be paid. "
                "Before there are enough bids to learn from, what the file says that devices may "
                "be does, or what the block saves.",
            ),
        )
        return Learnt(sheet=sheet, rounds=tuple(told))

    return again


PACT = PartitionAuction()

PICTURE = PartitionAuction(name="partition-auction-picture", job="picture")
"""The same of the steps of a picture's chain."""

TEXT = PartitionAuction(name="partition-auction-text", job="text")
"""The same of a language model."""

PHOTO = PartitionAuction(name="partition-auction-photo", job="photo")
"""The same of photographs, by a model in stages."""

SENTENCES = PartitionAuction(name="partition-auction-sentences", job="sentences")
"""The same of sentences, by a model in stages."""

STAGED = PartitionAuction(name="partition-auction-staged", job="staged")
"""The same of any model in stages."""

SPEECH = PartitionAuction(name="partition-auction-speech", job="speech")
"""The same of a voice."""
