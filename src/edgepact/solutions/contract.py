"""A contract, solved: the menu that earns the principal most, and the audit of all its promises.

Types with one cost get an item each; types with several unlike costs may get a lottery.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.fields import check_kind
from edgepact.files.contract import contract_of
from edgepact.framework import Document, Json, Sheet
from edgepact.mechanisms.contract.audit import ContractAudit, audit_lotteries, audit_menu
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.layer_menus import LayerMenuAudit
from edgepact.mechanisms.contract.lottery import (
    LotteryMenu,
    WideContract,
    first_best_profit,
    lottery_menu,
)
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.ordered import virtual_cost
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.tables import NOBODY_ENVIES, NOBODY_LOSES, Shown, audit_sheet, figure, yes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractTerms:
    """A contract as a file states it.

    Attributes:
        source: the file.
        contract: wide where types have several costs of unlike forms.
    """

    source: Path
    contract: Contract | WideContract


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractSolution(Shown):
    """The best menu for types with one cost; types in the order of the file.

    Attributes:
        contract: the terms.
        menu: an item for each type.
        virtual_cost: of each type, credits.
        profit: of the principal, expected, credits.
        rents: what a device of each type keeps, credits.
        first_best_profit: if costs were public, credits.
        profit_without_draw: of the best menu that draws nobody; None where the best one does not.
        audit: whether the promises of a menu are kept.
    """

    contract: Contract
    menu: Menu
    virtual_cost: Float[np.ndarray, " types"]
    profit: float
    rents: Float[np.ndarray, " types"]
    first_best_profit: float
    profit_without_draw: float | None
    audit: ContractAudit

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the menu does not keep."""
        return self.audit.broken

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact solve --json`."""
        answer: dict[str, Json] = {
            "menu": self.menu.as_json(),
            "virtual_cost": self.virtual_cost.tolist(),
            "profit": self.profit,
            "rents": self.rents.tolist(),
            "first_best_profit": self.first_best_profit,
            "audit": self.audit.as_json() | {"pairs": self.audit.pairs},
        }
        if self.profit_without_draw is not None:
            answer |= {
                "lotteries_are_optimal": True,
                "profit_without_lotteries": self.profit_without_draw,
            }
        return answer | {
            "cost": self.contract.psi.tolist(),
            "probability": self.contract.probability.tolist(),
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The menu; the audit."""
        terms, menu, beside = self.contract, self.menu, _size(self.menu.reward)
        head = ["type", "cost", "probability", "quality", "reward", "rent"]
        columns = [terms.psi, terms.probability, menu.quality, menu.reward, self.rents]
        notes = []
        if self.profit_without_draw is not None:
            head.append("chance")
            columns.append(menu.engaged)
            notes.append(
                "Drawing who is engaged, at the chances told, is optimal: the best menu without a "
                f"draw earns {self.profit_without_draw:.6g}."
            )
        rows = tuple(
            (str(at), *(figure(each, beside) for each in row))
            for at, row in enumerate(zip(*columns, strict=True), start=1)
        )
        title = _earned(self.profit, self.first_best_profit)
        items = Sheet(title=title, head=tuple(head), rows=rows, notes=tuple(notes))
        return items, menu_audit(self.audit, beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class LotterySolution(Shown):
    """The best menu for types with several costs; types in the order of the file.

    Attributes:
        contract: the terms.
        menu: a lottery and a reward for each type.
        first_best_profit: if costs were public, credits.
        audit: whether the promises of a menu are kept.
    """

    contract: WideContract
    menu: LotteryMenu
    first_best_profit: float
    audit: ContractAudit

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the menu does not keep."""
        return self.audit.broken

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact solve --json`."""
        answer = self.menu.as_json()
        # What the program found about its own menu stays; the audit's verdicts come beside it.
        answer["audit"] = answer["audit"] | {
            name: verdict
            for name, verdict in self.audit.as_json().items()
            if name not in answer["audit"]
        }
        answer["audit"]["pairs"] = self.audit.pairs
        return answer | {
            "first_best_profit": self.first_best_profit,
            "costs": self.contract.psi.tolist(),
            "probability": self.contract.probability.tolist(),
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The menu; the audit."""
        menu, contract, beside = self.menu, self.contract, _size(self.menu.reward)
        rows = []
        for at, items in enumerate(menu.items()):
            figures = (contract.probability[at], menu.reward[at], menu.rents[at])
            probability, reward, rent = (figure(each, beside) for each in figures)
            costs = ", ".join(f"{cost:.6g}" for cost in contract.psi[at])
            rows.append((str(at + 1), costs, probability, _drawn(items), reward, rent))
        items_sheet = Sheet(
            title=_earned(menu.profit, self.first_best_profit),
            head=("type", "costs", "probability", "quality", "reward", "rent"),
            rows=tuple(rows),
            notes=(menu.about_lotteries(),),
        )
        return items_sheet, menu_audit(self.audit, beside)


def solve_contract(terms: ContractTerms) -> ContractSolution | LotterySolution:
    """The menu that earns most when the frequencies of the types are known, audited.

    Raises:
        InputError: the contract has no finite solution in float64.
    """
    contract = terms.contract
    if isinstance(contract, WideContract):
        lotteries = lottery_menu(contract)
        return LotterySolution(
            contract=contract,
            menu=lotteries,
            first_best_profit=first_best_profit(contract),
            audit=audit_lotteries(contract, lotteries),
        )
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        menu, charge = optimal_menu(contract), virtual_cost(contract)
        earned, kept = profit(contract, menu), rents(contract, menu)
        ceiling = profit(contract, complete_information(contract))
    results = (menu.quality, menu.reward, kept, charge, earned, ceiling)
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        found = "a contract without a finite solution in float64"
        raise InputError(terms.source, "", expected, found)
    without = None if menu.chance is None else profit(contract, sure_menu(contract))
    return ContractSolution(
        contract=contract,
        menu=menu,
        virtual_cost=charge,
        profit=earned,
        rents=kept,
        first_best_profit=ceiling,
        profit_without_draw=without,
        audit=audit_menu(contract, menu),
    )


@dataclass(frozen=True, slots=True)
class ContractMechanism:
    """The mechanism as a part: a menu of items, of which each device takes the one it likes."""

    name: str = "contract"
    about: str = "The server offers a menu of items with rewards, and each device takes one."

    def read(self, source: Path, document: Document) -> ContractTerms:
        """The contract that a file states."""
        return ContractTerms(source=source, contract=contract_of(source, document))

    def solve(self, terms: Any) -> ContractSolution | LotterySolution:
        """The optimal menu and its audit.

        Raises:
            InputError: these are no terms of a contract.
        """
        expected = "a contract: a Contract, a WideContract or ContractTerms"
        check_kind("solve", "terms", terms, ContractTerms, expected)
        return solve_contract(terms)


CONTRACT = ContractMechanism()


def menu_audit(
    audit: ContractAudit | LayerMenuAudit,
    beside: float,
    bought: str = "the budget or the value bought",
) -> Sheet:
    """The audit of a menu.

    Args:
        audit: of it.
        beside: the size of the money in it: what is small beside it is rounding.
        bought: what payments must stay within.
    """
    gain, loss = audit.largest_gain_from_lying, audit.largest_loss_from_taking_part
    return audit_sheet(
        (NOBODY_LOSES, yes(audit.individually_rational)),
        (NOBODY_ENVIES, yes(audit.incentive_compatible)),
        (f"payments stay within {bought}", yes(audit.budget_balanced)),
        (
            f"largest gain from another's item ({audit.pairs:,} pairs weighed)",
            f"{figure(gain, beside, 4)} credits",
        ),
        ("largest loss from taking part", f"{figure(loss, beside, 4)} credits"),
    )


def _size(rewards: np.ndarray) -> float:
    """Size of the money in a menu: what is small beside it is rounding."""
    return float(np.max(np.abs(rewards)))


def _earned(profit_credits: float, first_best_credits: float) -> str:
    return f"Profit {profit_credits:.6g} credits; if costs were public {first_best_credits:.6g}"


def _drawn(items: list[tuple[float | None, float]]) -> str:
    """Qualities of an item with their chances; none stands for taking no part."""
    sure = len(items) == 1
    return "\n".join(
        f"{'none' if quality is None else f'{quality:.6g}'}{'' if sure else f' at {chance:.1%}'}"
        for quality, chance in items
    )
