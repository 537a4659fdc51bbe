"""Steps 2 and 3 of pacts that train by contract: the best menu, and the one that is offered."""

from dataclasses import dataclass

import numpy as np

from edgepact.framework import Json, Sheet
from edgepact.mechanisms.contract.audit import ContractAudit, audit_menu
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.ordered import virtual_cost
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.pacts.training_outcome import share
from edgepact.solutions.contract import menu_audit
from edgepact.tables import figure

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
                title=f"The menu that {self.solver} offers",
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
