"""A model split between devices and a server, which offers a menu of (layers, reward).

Each device takes the item it likes best. In every round it is the same menu, or, with
`[solver] name = "gdm"`, one that follows from what was taken of those before. What a device may be,
its weight of satisfaction and its capacity, has two dimensions and no order; the server knows
a prior. With `[prior]` the menu is written for samples of it, as many as it takes that the menu
does not learn them by heart; with `[[type]]`, which lists all that devices can be, it is the
exact one. The optimum of step 2 is the exact menu for the devices' true figures.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from edgepact.credits import MICRO
from edgepact.engagement import (
    TIE_MICROCREDITS,
    Cost,
    Engagement,
    Finished,
    Item,
    Question,
    chosen,
)
from edgepact.fields import Table, terms_in
from edgepact.framework import Document, Json, Run, Sheet
from edgepact.market.ledger import RoundRecord
from edgepact.market.offered import FixedMenu, LearntMenu, items_of
from edgepact.mechanisms.contract.layer_menu_program import climbed_menu, optimal_layer_menu
from edgepact.mechanisms.contract.layer_menus import (
    LayerMenu,
    LayerMenuAudit,
    SampledTypes,
    Taken,
    audit_layer_menu,
    take_items,
)
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
from edgepact.pacts.partition_terms import PrivateDevices, read_split
from edgepact.solutions.contract import menu_audit
from edgepact.solvers.in_context.layer_menus import LayerMenus, LayersPublic
from edgepact.tables import DEVICES_SHOWN, Shown, decimals, figure, one
from edgepact.work import Model

PROMISES = (
    Promise.INDIVIDUALLY_RATIONAL,
    Promise.INCENTIVE_COMPATIBLE,
    Promise.BUDGET_BALANCED,
)
"""What a menu promises: nobody loses by it, nobody likes another's item better, and the server
pays no more than it saves."""

COSTS_KNOWN = "if it is known which costs there are, but not whose they are"
"""What the best menu is written for: with costs in public the server would earn more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestLayerMenu(Shown):
    """The menu that earns most of these devices, and its audit.

    Attributes:
        devices: with what only they know.
        types: what layers cost them.
        menu: the best.
        audit: of it.
        revenue: of the server, credits.
        step: what one step of an amount is.
    """

    devices: PrivateDevices
    types: SampledTypes
    menu: LayerMenu
    audit: LayerMenuAudit
    revenue: float
    step: str

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the menu does not keep."""
        return broken(self.audit, PROMISES)

    @property
    def taken(self) -> Taken:
        """What each device takes."""
        return take_items(self.menu.reward, self.types, self.menu.layers)

    @property
    def borne(self) -> Float[np.ndarray, " devices"]:
        """What its item costs each device, credits."""
        return np.asarray(self.taken.payments - self.taken.utility)

    @property
    def alone(self) -> float:
        """What the server spends if it does all by itself, credits."""
        return float(np.sum(self.types.saving)) * self.types.layers_max

    @property
    def server_utility(self) -> float:
        """For a unit of each device, credits."""
        return self.revenue - self.alone + self.menu.profit

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The menu, what each device takes of it, what others would earn, the audit."""
        audit = menu_audit(self.audit, self.menu.payments, "the saving")
        return self._items(), self._devices(), self._benchmarks(), audit

    @property
    def _takers(self) -> dict[int, list[str]]:
        """Names of the devices that take an item, by its layers."""
        found: dict[int, list[str]] = {}
        for name, layers in zip(self.devices.names, self.taken.layers.tolist(), strict=True):
            found.setdefault(layers, []).append(name)
        return found

    def _items(self) -> Sheet:
        takers, items = self._takers, [(0, 0.0), *self.menu.items()]
        return Sheet(
            title=f"Contract: a menu of {self.step}s and rewards, each device takes an item; "
            f"the exact optimum {COSTS_KNOWN}",
            head=(f"{self.step}s", "reward", "devices that take it"),
            rows=tuple(
                (f"{layers}", decimals(paid), f"{len(takers.get(layers, []))}")
                for layers, paid in items
            ),
        )

    def _devices(self) -> Sheet:
        taken = self.taken
        shown = min(len(self.devices.names), DEVICES_SHOWN)
        columns = zip(
            self.devices.names, taken.layers, taken.payments, self.borne, taken.utility, strict=True
        )
        rows = tuple(
            (name, f"{layers}", *(decimals(float(each)) for each in credits))
            for name, layers, *credits in columns
        )
        few = shown == len(rows)
        return Sheet(
            title="What each device takes",
            head=("device", f"{self.step}s", "reward", "its cost", "over staying away"),
            rows=rows[:shown],
            notes=() if few else (f"Shown are the first {shown} of {len(rows)} devices.",),
        )

    def _benchmarks(self) -> Sheet:
        menu = self.menu
        rows = [
            ("alone, no device takes part", 0.0),
            ("the best single price", menu.posted_profit),
            ("this menu", menu.profit),
        ]
        if menu.lottery_profit is not None:
            rows.append(
                (f"with lotteries over {self.step}s", max(menu.lottery_profit, menu.profit))
            )
        rows.append(("first best, costs in public", menu.first_best_profit))
        proof = (
            "No menu earns more than this one."
            if menu.proved
            else f"The search was stopped; no menu earns more than {menu.upper_bound:.5g}."
        )
        told = () if menu.lottery_profit is not None else ("Lotteries were not computed.",)
        alone = self.revenue - self.alone
        return Sheet(
            title="What the server could earn",
            head=("rule", "server's utility", "over doing it alone"),
            rows=tuple(
                (rule, f"{alone + profit:.6g}", f"{figure(profit, menu.profit or 1.0, 5)}")
                for rule, profit in rows
            ),
            notes=(proof, *told),
        )

    def to_dict(self) -> dict[str, Json]:
        """As `edgepact solve --json` says it."""
        taken = self.taken
        return {
            **self.menu.as_json(),
            "menu": [
                {"layers": layers, "reward": paid, "devices": self._takers.get(layers, [])}
                for layers, paid in self.menu.items()
            ],
            "lottery_gain": self.menu.lottery_gain,
            "server_utility": self.server_utility,
            "devices": [
                {
                    "name": name,
                    "layers": layers,
                    "reward": paid,
                    "cost": cost,
                    "over_staying_away": kept,
                }
                for name, layers, paid, cost, kept in zip(
                    self.devices.names,
                    taken.layers.tolist(),
                    taken.payments.tolist(),
                    self.borne.tolist(),
                    taken.utility.tolist(),
                    strict=True,
                )
            ],
            "alone": self.revenue - self.alone,
            "audit": self.audit.as_json() | {"pairs": self.audit.pairs},
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OfferedLayerMenu(Shown):
    """The menu that is offered: written for what the server believes, in whole micro-credits.

    Attributes:
        terms: the server's.
        types: what it believes, by frequency.
        menu: as it was written.
        exact: whether it is the exact one for these types.
        reward: of 0, 1, ... layers, rounded up, credits; minus infinity where there is no item.
        items: the same, those first that the server gains most by.
        taken: what is expected to be taken of it.
        audit: of it.
    """

    terms: BoughtTerms
    types: SampledTypes
    menu: LayerMenu
    exact: bool
    reward: Float[np.ndarray, " items"]
    items: tuple[Item, ...]
    taken: Taken
    audit: LayerMenuAudit

    @classmethod
    def of(cls, terms: BoughtTerms) -> "OfferedLayerMenu":
        """Writes the menu. Rewards are rounded up, so that whoever is just paid its cost takes
        part; rounding moves whoever is indifferent, so the menu is replayed as devices choose, who
        take the server's favourite of what is as good up to a micro-credit or two."""
        types = terms.believed_types()
        believed = terms.believed
        exact = believed is not None and believed.ranges is None
        menu = optimal_layer_menu(types) if exact else climbed_menu(types)
        items = items_of(menu.items(), terms.server.saving)
        reward = np.full(types.layers_max + 1, -np.inf)
        reward[0] = 0.0
        for item in items:
            reward[int(item.amount)] = item.reward_microcredits / MICRO
        layers = _chosen(Question(menu=items), types)
        taken = take_items(reward, types, layers)
        return cls(
            terms=terms,
            types=types,
            menu=menu,
            exact=exact,
            reward=reward,
            items=items,
            taken=taken,
            audit=_up_to_a_tie(audit_layer_menu(reward, layers, types)),
        )

    @property
    def profit(self) -> float:
        """Expected of a device, credits."""
        return self.taken.profit

    @property
    def _when(self) -> str:
        return "first" if self.terms.solver == LEARNT else "in every round"

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The menu; its audit."""
        weight, split = self.types.weight, self.terms.split
        shares = [float(np.sum(weight[self.taken.layers == at])) for at in range(len(self.reward))]
        items = sorted((int(item.amount), item.reward_microcredits) for item in self.items)
        rows = [("0", "0", f"{shares[0]:.1%}")]
        rows += [(f"{at}", f"{paid / MICRO:.6f}", f"{shares[at]:.1%}") for at, paid in items]
        written = f"exactly for {len(weight)} listed types"
        if not self.exact:
            written = f"for {len(weight)} samples of the prior"
        return (
            Sheet(
                title=f"The menu that {self.terms.solver} offers {self._when}, written {written}",
                head=(
                    f"{split.step}s",
                    f"reward, credits {one(split.unit)}",
                    "expected to take it",
                ),
                rows=tuple(rows),
                notes=(
                    f"Expected to leave the server {self.profit:.5g} credits a device of what it "
                    f"saves; the best single price {self.menu.posted_profit:.5g}, costs in public "
                    f"{self.menu.first_best_profit:.5g}.",
                    f"Rewards are whole micro-credits, so a device may lose or gain up to "
                    f"{TIE_MICROCREDITS} of them by its item.",
                ),
            ),
            menu_audit(self.audit, self.menu.payments, "the saving"),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "solver": self.terms.solver,
            "menu": [
                {"layers": int(item.amount), "reward": item.reward_microcredits / MICRO}
                for item in self.items
            ],
            "expected": [
                float(np.sum(self.types.weight[self.taken.layers == at]))
                for at in range(len(self.reward))
            ],
            "types": len(self.types.weight),
            "exact": self.exact,
            "profit": self.profit,
            "posted_price_profit": self.menu.posted_profit,
            "first_best_profit": self.menu.first_best_profit,
            "audit": self.audit.as_json() | {"pairs": self.audit.pairs},
        }

    def engagement(self, model: Model, seed: int | None) -> Engagement:
        """The menu at work; of what learns it is the first one."""
        self.terms.server.expect_model(self.terms.source, model, self.terms.split.step)
        if self.terms.solver != LEARNT:
            return FixedMenu(items=self.items, saving=self.terms.server.saving)
        return self.learnt(secrets.randbits(31) if seed is None else seed)

    def learnt(self, seed: int) -> LearntMenu:
        """Menus that follow from what is taken, this one being the first."""
        known = LayersPublic(
            kinds=self.terms.kinds(),
            listed=self.exact,
            tie=TIE_MICROCREDITS / MICRO,
        )
        saving = self.terms.server.saving
        return LearntMenu(self.items, LayerMenus.shipped(), known, seed, saving)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionContract:
    """Devices of private weights and capacities take layers and rewards from one menu."""

    name: str = "partition-contract-classification"
    method: str = "partition"
    mechanism: str = "contract"
    job: str = "classification"
    compress: str | None = None
    solvers: tuple[str, ...] = ("optimum", LEARNT)

    def read(self, source: Path, document: Document, *, smoke: bool) -> BoughtTerms:
        """Terms: the server's, what it believes, and the devices or how many to draw."""
        split = read_split(self, source, document, smoke=smoke)
        top = Table(source, "", terms_in(document))
        top.choice("mechanism", (self.mechanism,))
        fields = read_bought(split, document, top)
        top.close()
        return BoughtTerms(**fields)

    def expect_runnable(self, terms: BoughtTerms) -> None:
        """Refuses what processes here cannot play."""
        terms.believed_types()
        expect_runnable(terms)

    def measure(self, terms: BoughtTerms, run: Run) -> LayersMeasured:
        """What layers cost on this machine."""
        terms.believed_types()
        return measured_layers(terms, run)

    def optimum(self, terms: BoughtTerms, measured: LayersMeasured | None) -> BestLayerMenu:
        """The exact menu for the devices' true figures."""
        devices = terms.private
        types = terms.types(devices)
        menu = optimal_layer_menu(types)
        return BestLayerMenu(
            devices=devices,
            types=types,
            menu=menu,
            audit=audit_layer_menu(menu.reward, menu.layers, types),
            revenue=terms.server.revenue,
            step=terms.split.step,
        )

    def decide(self, terms: BoughtTerms, measured: LayersMeasured | None) -> OfferedLayerMenu:
        """The menu for what the server believes."""
        return OfferedLayerMenu.of(terms)

    def engage(
        self,
        terms: BoughtTerms,
        measured: LayersMeasured,
        decision: OfferedLayerMenu,
        run: Run,
    ) -> LayersBought:
        """Plays the market with real processes."""
        best = self.optimum(terms, measured)
        saving = terms.server.saving
        taken = best.taken
        yardstick = Yardstick(
            profit=best.menu.profit,
            saving=float(np.sum(taken.saving)),
            layers=int(np.sum(taken.layers)),
            saved=lambda layers: saving * layers,
            alone=best.alone,
            ruled=_best_items_taken,
            asked=_items_offered,
            optimum=f"what the best menu leaves it {COSTS_KNOWN}",
            title=f"The menu of {terms.solver} in live rounds",
            words="each device took its best item",
            learnt=_menus_written(decision) if terms.solver == LEARNT else None,
        )
        return bought(terms, measured, yardstick, run)


def _menus_written(first: OfferedLayerMenu) -> Callable[[Sequence[RoundRecord]], Learnt]:
    """What was believed, offered and taken in each round, decided again as it was then."""

    def again(records: Sequence[RoundRecord]) -> Learnt:
        menus, rows, told = first.learnt(first.terms.seed), [], []
        for record in records:
            decided = menus.decided()
            items = sorted((int(item.amount), at) for at, item in enumerate(record.question.menu))
            layers = [0, *(number for number, _ in items)]
            share = decided.taken if decided else _shares(first)
            expected = [float(share[number]) for number in layers]
            profit = decided.profit if decided else first.profit
            took = [sum(each.item is None for each in record.answers.values())]
            took += [sum(each.item == at for each in record.answers.values()) for _, at in items]
            paid = [record.question.menu[at].reward_microcredits / MICRO for _, at in items]
            seen = decided.answers if decided else 0
            told.append(
                {
                    "answers_seen": seen,
                    "menu": [
                        {"layers": number, "reward": reward}
                        for number, reward in zip(layers[1:], paid, strict=True)
                    ],
                    "expected_taken": expected,
                    "taken": took,
                    "expected_profit": profit,
                }
            )
            rows.append(
                (
                    f"{record.number}",
                    f"{seen}",
                    " ".join(f"{number}" for number in layers),
                    " ".join(f"{reward:.4g}" for reward in (0.0, *paid)),
                    " ".join(f"{each:.0%}" for each in expected),
                    " ".join(f"{each}" for each in took),
                    f"{profit:.4g}",
                )
            )
            menus.observe(
                Finished(
                    number=record.number,
                    question=record.question,
                    answers=record.answers,
                    assigned={},
                )
            )
        split = first.terms.split
        sheet = Sheet(
            title=f"Menus that {LEARNT} wrote from what was taken before",
            head=(
                *("round", "answers learnt from", f"{split.step}s", "rewards"),
                *("expected to take it", "took it", "expected profit"),
            ),
            rows=tuple(rows),
            notes=(
                f"Credits for {one(split.unit)} of a device; 0 {split.step}s are taken by whoever "
                "takes no item. "
                "The first menu is written for what the file says that devices may be.",
            ),
        )
        return Learnt(sheet=sheet, rounds=tuple(told))

    return again


def _shares(offered: OfferedLayerMenu) -> Float[np.ndarray, " items"]:
    """Of 0, 1, ... layers, the share of devices expected to take so many."""
    weight = offered.types.weight / np.sum(offered.types.weight)
    return np.bincount(offered.taken.layers, weights=weight, minlength=len(offered.reward))


def _chosen(question: Question, types: SampledTypes) -> Int[np.ndarray, " types"]:
    """Layers that each type takes: `engagement.chosen`, which devices decide by, for all types."""
    layers = np.array([0, *(int(item.amount) for item in question.menu)])
    reward = np.array([0, *(item.reward_microcredits for item in question.menu)], float)
    gains = reward - MICRO * types.cost[:, layers]
    good = gains >= np.max(gains, axis=1, keepdims=True) - question.tie_microcredits
    # The first item that is good enough, and nothing only where none is.
    good[:, 0] = False
    return np.where(np.any(good, axis=1), layers[np.argmax(good, axis=1)], 0)


def _up_to_a_tie(audit: LayerMenuAudit) -> LayerMenuAudit:
    """The same, where gains and losses that choosers do not mind are none."""
    slack = (TIE_MICROCREDITS + 0.01) / MICRO
    return replace(
        audit,
        individually_rational=audit.largest_loss_from_taking_part <= slack,
        incentive_compatible=audit.largest_gain_from_lying <= slack,
    )


def _items_offered(record: RoundRecord) -> str:
    return f"{len(record.question.menu)} items"


def _best_items_taken(record: RoundRecord, costs: Mapping[str, Cost]) -> bool:
    """Whether each device that answered took what it likes best, at its true cost."""
    return all(
        answer.item == chosen(record.question, costs[name])
        for name, answer in record.answers.items()
    )


PACT = PartitionContract()

PICTURE = PartitionContract(name="partition-contract-picture", job="picture")
"""The same of the steps of a picture's chain."""

TEXT = PartitionContract(name="partition-contract-text", job="text")
"""The same of a language model."""

PHOTO = PartitionContract(name="partition-contract-photo", job="photo")
"""The same of photographs, by a model in stages."""

SENTENCES = PartitionContract(name="partition-contract-sentences", job="sentences")
"""The same of sentences, by a model in stages."""

STAGED = PartitionContract(name="partition-contract-staged", job="staged")
"""The same of any model in stages."""

SPEECH = PartitionContract(name="partition-contract-speech", job="speech")
"""The same of a voice."""
