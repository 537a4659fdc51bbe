"""Steps 2 and 3 of pacts that train by contract: the best menu, and those that are offered."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from edgepact.credits import MICRO
from edgepact.engagement import Engagement, Item
from edgepact.framework import Json, Sheet
from edgepact.mechanisms.contract.audit import ContractAudit, audit_menu
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.ordered import virtual_cost
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.pacts.training_outcome import share
from edgepact.solutions.contract import menu_audit
from edgepact.tables import figure
from edgepact.training.federated.config import LEARNT
from edgepact.training.federated.learnt_contract import ByLearntContract
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.selecting import Narrowed
from edgepact.training.federated.simulated import CostTypes, Simulated, name_of

WORDS = {"rate": "rates", "epochs": "epochs of local work"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestMenu:
    """The menu that earns most, with its audit.

    Attributes:
        contract: what it is for; its qualities are amounts.
        amount: what an amount is called: `rate` or `epochs`.
        menu: the best.
        audit: of it.
    """

    contract: Contract
    amount: str
    menu: Menu
    audit: ContractAudit

    @classmethod
    def of(cls, contract: Contract, amount: str, menu: Menu) -> "BestMenu":
        """A menu, audited."""
        audit = audit_menu(contract, menu)
        return cls(contract=contract, amount=amount, menu=menu, audit=audit)

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the menu does not keep."""
        return self.audit.broken

    @property
    def profit(self) -> float:
        """Of a client, expected, credits."""
        return profit(self.contract, self.menu)

    @property
    def first_best_profit(self) -> float:
        """The same if costs were public, and amounts any number."""
        return profit(self.contract, complete_information(self.contract))

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The menu; its audit."""
        contract, menu = self.contract, self.menu
        columns = (
            contract.psi,
            contract.probability,
            virtual_cost(contract),
            menu.quality,
            menu.reward,
            rents(contract, menu),
        )
        beside = float(np.max(menu.reward))
        return (
            Sheet(
                title=f"Contract: a menu of {WORDS[self.amount]} and rewards, each client takes an "
                "item; the exact optimum, if the frequencies of types are known",
                head=(
                    *("type", "cost", "probability", "virtual cost", self.amount, "reward"),
                    "over staying away",
                ),
                rows=tuple(
                    (f"{at}", *(figure(float(each), beside, 5) for each in row))
                    for at, row in enumerate(zip(*columns, strict=True), start=1)
                ),
                notes=(
                    f"Expected profit {self.profit:.5g} credits a client; if costs were public "
                    f"{self.first_best_profit:.5g}.",
                ),
            ),
            menu_audit(self.audit, beside),
        )

    def to_dict(self) -> dict[str, Json]:
        """As `edgepact solve --json` spells it."""
        return {
            "menu": self.menu.as_json(),
            "virtual_cost": virtual_cost(self.contract).tolist(),
            "profit": self.profit,
            "rents": rents(self.contract, self.menu).tolist(),
            "first_best_profit": self.first_best_profit,
            "audit": self.audit.as_json() | {"pairs": self.audit.pairs},
            "cost": self.contract.psi.tolist(),
            "probability": self.contract.probability.tolist(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OfferedMenu:
    """The menu that a solver wrote.

    Attributes:
        best: to hold it against.
        solver: who wrote it.
        menu: what is offered.
        audit: of it.
    """

    best: BestMenu
    solver: str
    menu: Menu
    audit: ContractAudit

    @classmethod
    def of(cls, best: BestMenu, solver: str, menu: Menu) -> "OfferedMenu":
        """A menu, audited."""
        audit = audit_menu(best.contract, menu)
        return cls(best=best, solver=solver, menu=menu, audit=audit)

    @property
    def which(self) -> str:
        """Whether other menus follow, in words."""
        return "first " if self.solver == LEARNT else ""

    @property
    def profit(self) -> float:
        """Of a client, expected, credits."""
        return profit(self.best.contract, self.menu)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The menu; its audit."""
        kept = rents(self.best.contract, self.menu)
        beside = float(np.max(self.menu.reward))
        return (
            Sheet(
                title=f"The {self.which}menu that {self.solver} offers",
                head=("type", self.best.amount, "reward", "over staying away"),
                rows=tuple(
                    (f"{at}", f"{quality:.5g}", f"{reward:.5g}", figure(float(own), beside, 5))
                    for at, (quality, reward, own) in enumerate(
                        zip(self.menu.quality, self.menu.reward, kept, strict=True), start=1
                    )
                ),
                notes=(
                    f"It earns {self.profit:.5g} credits a client, "
                    f"{share(self.profit, self.best.profit)} of the optimum.",
                ),
            ),
            menu_audit(self.audit, beside),
        )

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "solver": self.solver,
            "menu": self.menu.as_json(),
            "profit": self.profit,
            "share": None if self.best.profit <= 0.0 else self.profit / self.best.profit,
            "rents": rents(self.best.contract, self.menu).tolist(),
            "audit": self.audit.as_json() | {"pairs": self.audit.pairs},
        }


def menus_written(
    engagement: Engagement,
    fleet: Simulated,
    history: tuple[Round, ...],
    exact: Callable[[Contract], Menu],
) -> tuple[Sheet, ...]:
    """What was believed, offered and taken in each round, if menus follow from what was taken.

    What was believed is decided again from the rounds before, as it was then.

    Args:
        engagement: the mechanism, new: it has seen no round.
        fleet: the clients with their types, which give the best menu to hold each against.
        history: the rounds.
        exact: the best menu for a contract.

    Returns:
        One table; none where all rounds have the same menu.
    """
    menus = engagement.mechanism if isinstance(engagement, Narrowed) else engagement
    if not isinstance(menus, ByLearntContract) or not isinstance(fleet.costs, CostTypes):
        return ()
    contract, costs = menus.contract, fleet.costs
    type_of = {name_of(at): costs.drawn(fleet.seed, at) for at in range(fleet.clients)}
    rows = []
    for played in history[1:]:
        written = menus.written()
        said = {name: answer.item for name, answer in played.answers.items()}
        left = [
            _left(contract, type_of[name], None if at is None else played.question.menu[at])
            for name, at in said.items()
        ]
        kinds = np.bincount([type_of[name] for name in said], minlength=len(contract.psi))
        theirs = replace(contract, probability=np.maximum(kinds, 1e-9) / len(said))
        items = sorted((item.amount, at) for at, item in enumerate(played.question.menu))
        rows.append(
            (
                f"{played.number}",
                f"{written.devices}",
                _listed(written.probability, "{:.2f}"),
                f"{written.profit:.4g}",
                _listed([amount for amount, _ in items], "{:.4g}"),
                _listed(
                    [played.question.menu[at].reward_microcredits / MICRO for _, at in items],
                    "{:.4g}",
                ),
                _listed([sum(each == at for each in said.values()) for _, at in items], "{}"),
                f"{sum(each is None for each in said.values())}",
                f"{np.mean(left):.4g}",
                share(float(np.mean(left)), profit(theirs, exact(theirs))),
            )
        )
        menus.observe(played.finished(menus.variable))
    return (
        Sheet(
            title=f"Menus written in the rounds of training by {LEARNT}",
            head=(
                *("round", "answers learnt from", "believed frequencies", "expected profit"),
                *(WORDS[menus.variable.priced], "rewards", "taken", "took none"),
                *("profit of those that answered", "share of the best menu for them"),
            ),
            rows=tuple(rows),
            notes=(
                "Credits a client. Frequencies stand in the order of the types, items by rising "
                "amount. The first menu is written for the frequencies that the file states, every "
                "further one for those that agree with all that was taken. The best menu is the "
                "exact one for the types of the clients that answered, which nobody was told.",
            ),
        ),
    )


def _left(contract: Contract, kind: int, item: Item | None) -> float:
    """What an item that a client of some type took leaves the server, credits."""
    if item is None:
        return 0.0
    worth = contract.worth(np.full(len(contract.psi), item.amount))[kind]
    return float(worth) - item.reward_microcredits / MICRO


def _listed(values: Iterable[int | float], written: str) -> str:
    return " ".join(written.format(each) for each in values) or "-"
