"""Files that `edgepact quote` reads for a contract: what is public, and what past menus met with.

A file with `mechanism = "contract"`, and a `[[round]]` table for every menu that was offered:

    [[round]]
    menu = [{ quality = 1.5, reward = 4.0 }, { quality = 3.0, reward = 6.5 }]
    taken = [12, 5]
    declined = 3

Types need no `probability`; where all have one they are held against the answer, which does not
see them. In place of types, `cost_min` and `cost_max` tell the range that costs lie in.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, shown
from edgepact.fields import Table, check_whole
from edgepact.files.contract import contract_of
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.terms import Contract
from edgepact.solvers.in_context.menus import MenuDecision, offered_to
from edgepact.solvers.in_context.takeup import COUNT_MAX, ROWS_MAX, PastMenu, Public, TakeUp

PAST_MAX = 10_000
"""Most past menus of a file."""

ITEMS_MAX = 1000
"""Most items of a past menu."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TakeUpFile:
    """A contract of which only take-up is known.

    Attributes:
        public: what the decision may see.
        seen: past menus and what was taken.
        private: the contract with the frequencies that the file states; None where it states none.
    """

    public: Public
    seen: TakeUp
    private: Contract | None


def take_up_of(path: Path, document: dict[str, Any]) -> TakeUpFile:
    """What a document states.

    Args:
        path: of its file, for errors.
        document: all of it.

    Raises:
        InputError: it says something impossible.
    """
    terms = {name: value for name, value in document.items() if name != "round"}
    seen = TakeUp(menus=_rounds(path, document.get("round", [])), source=path)
    told = "cost_min" not in terms and "cost_max" not in terms
    stated = False
    if told:
        terms, stated = _with_probabilities(path, terms)
    else:
        terms = _ends_of_range(path, terms)
    contract = contract_of(path, terms)
    if not isinstance(contract, Contract):
        expected = "one form, where frequencies are to be learned from take-up"
        raise InputError(path, "cost.form", expected, "several")
    if told and len(contract.psi) > ROWS_MAX:
        raise InputError(path, "type", f"at most {ROWS_MAX} types to quote to", len(contract.psi))
    public = Public(contract=contract, types_told=told)
    return TakeUpFile(public=public, seen=seen, private=contract if stated else None)


def held_against(decided: MenuDecision, private: Contract | None) -> MenuDecision:
    """A decision with the share of the exact optimum it earns, if that can be told."""
    if private is None:
        return decided
    best = profit(private, optimal_menu(private))
    share = profit(private, offered_to(private, decided)) / best if best > 0.0 else 1.0
    return replace(decided, optimum=(best, share))


def _with_probabilities(path: Path, terms: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Terms with a probability for every type, and whether they were stated."""
    types = terms.get("type")
    if not isinstance(types, list) or not types or not all(isinstance(t, dict) for t in types):
        return terms, True  # the reader of contracts says what is wrong
    having = ["probability" in each for each in types]
    if all(having):
        return terms, True
    if any(having):
        field = f"type[{having.index(False) + 1}].probability"
        raise InputError(path, field, "one for every type, or for none", "nothing")
    share = 1.0 / len(types)
    return terms | {"type": [each | {"probability": share} for each in types]}, False


def _ends_of_range(path: Path, terms: dict[str, Any]) -> dict[str, Any]:
    """Terms with the two ends of the range of costs for types."""
    if "type" in terms:
        expected = "types, or the range of their costs by cost_min and cost_max"
        raise InputError(path, "type", expected, "both")
    table = Table(
        path, "", {name: terms[name] for name in ("cost_min", "cost_max") if name in terms}
    )
    low, high = table.number("cost_min", above=0.0), table.number("cost_max", above=0.0)
    if not low < high:
        raise InputError(path, "cost_min, cost_max", "min < max", f"{low:g}, {high:g}")
    rest = {name: value for name, value in terms.items() if name not in ("cost_min", "cost_max")}
    ends = [{"cost": high, "probability": 0.5}, {"cost": low, "probability": 0.5}]
    return rest | {"type": ends}


def _rounds(path: Path, entries: Any) -> tuple[PastMenu, ...]:
    if not isinstance(entries, list) or len(entries) > PAST_MAX:
        raise InputError(path, "round", f"up to {PAST_MAX} [[round]] tables", shown(entries))
    rounds = []
    for at, entry in enumerate(entries, start=1):
        table = Table(path, f"round[{at}]", entry)
        menu = table.raw("menu", "a list of items, { quality = ..., reward = ... }")
        taken = table.raw("taken", "a list with the number of devices that took each item")
        declined = table.whole("declined", 0, least=0, most=COUNT_MAX)
        table.close()
        if not isinstance(menu, list) or not 1 <= len(menu) <= ITEMS_MAX:
            expected = f"a list of 1 to {ITEMS_MAX} items"
            raise InputError(path, f"round[{at}].menu", expected, shown(menu))
        if not isinstance(taken, list) or len(taken) != len(menu):
            expected = f"{len(menu)} counts, one for each item of the menu"
            raise InputError(path, f"round[{at}].taken", expected, shown(taken))
        items = [_item(path, f"round[{at}].menu[{i}]", item) for i, item in enumerate(menu, 1)]
        counts = [
            check_whole(path, f"round[{at}].taken[{i}]", each, least=0, most=COUNT_MAX)
            for i, each in enumerate(taken, 1)
        ]
        quality, reward = np.array(items).T
        past = PastMenu(
            quality=quality, reward=reward, taken=np.array(counts, float), declined=float(declined)
        )
        rounds.append(past)
    return tuple(rounds)


def _item(path: Path, field: str, item: Any) -> tuple[float, float]:
    table = Table(path, field, item)
    found = table.number("quality", least=0.0), table.number("reward", least=0.0)
    table.close()
    return found
