"""Menus against a linear program that knows no theory, for all terms a contract can have."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.files.contract import read_contract
from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.lottery import WideContract, first_best_profit, lottery_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.ordered import virtual_cost
from edgepact.mechanisms.contract.quality import Linear, Log1p, Measured, Value
from edgepact.mechanisms.contract.responses import payments, profit, rents
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract, Menu
from tests.mechanisms.contract.oracle import program_profit, tables
from tests.strategies import all_contract_terms

GRID = 17
"""Qualities of the program besides the kinks and those of the menu in hand."""


def of_program(contract: Contract, menu: Menu, *, public: bool = False) -> float:
    """The most that lotteries over a grid with the menu's own qualities earn.

    Any menu is one of the program's, so if the menu earns as much it is optimal.
    """
    size, one = len(contract.psi), contract.value
    own = [one] * size if isinstance(one, Value) else list(one)
    scale = np.ones(size) if contract.value_scale is None else contract.value_scale
    low, high = contract.quality_min, contract.quality_max
    kinks = [each.quality for each in own if isinstance(each, Measured)]
    grid = np.concatenate([np.linspace(low, high, GRID), menu.quality[menu.served], *kinks])
    worths: list[Callable[[float], float]] = [
        partial(_worth, v, s) for v, s in zip(own, scale, strict=True)
    ]
    burden, worth = tables(
        contract.psi,
        worths,
        np.unique(grid[(grid >= low) & (grid <= high)]),
        power=1 if contract.cost == "linear" else 2,
        participation_cost=contract.participation_cost,
    )
    return program_profit(
        burden,
        worth,
        contract.probability,
        budget=contract.budget,
        devices=contract.devices,
        public=public,
    )


def _worth(value: Value, scale: float, quality: float) -> float:
    return float(scale * value.at(np.asarray(quality)))


def assert_exact(contract: Contract) -> None:
    menu, first = optimal_menu(contract), complete_information(contract)
    best, ceiling = profit(contract, menu), profit(contract, first)
    slack = 1e-6 * contract.devices * (1.0 + abs(best) / contract.devices)
    assert best == pytest.approx(of_program(contract, menu), abs=slack)
    assert ceiling == pytest.approx(of_program(contract, first, public=True), abs=slack)
    assert best <= ceiling + 1e-9 * contract.devices * (1.0 + abs(ceiling))
    for each in (menu, first):
        assert np.all(rents(contract, each) >= -1e-9 * (1.0 + np.max(each.reward)))
        if contract.budget is not None:
            assert payments(contract, each) <= contract.budget
    assert audit_menu(contract, menu).broken == ()


@settings(max_examples=25)
@given(all_contract_terms(types_max=4))
def test_no_menu_of_lotteries_earns_more(terms: dict[str, Any]) -> None:
    assert_exact(Contract(**terms))


@settings(max_examples=5)
@given(all_contract_terms(types_max=3, own_values=True))
def test_nor_where_every_type_has_a_value_of_its_own(terms: dict[str, Any]) -> None:
    assert_exact(Contract(**terms))


@pytest.mark.parametrize("cost", ["linear", "quadratic"])
def test_a_flat_value_is_worth_no_quality(cost: str) -> None:
    flat = Measured(quality=np.array([0.0, 1.0]), value=np.zeros(2))
    assert_exact(
        Contract(
            psi=np.ones(5),
            probability=np.full(5, 0.2),
            value=[*[Linear(scale=1.0)] * 4, flat],
            cost=cost,
            quality_max=1.0,
        )
    )


@pytest.mark.slow
@settings(max_examples=120)
@given(st.booleans().flatmap(lambda own: all_contract_terms(own_values=own)))
def test_no_menu_of_lotteries_earns_more_at_length(terms: dict[str, Any]) -> None:
    assert_exact(Contract(**terms))


@settings(max_examples=8)
@given(all_contract_terms(types_max=4, own_values=True), st.randoms())
def test_the_order_of_types_does_not_matter(terms: dict[str, Any], random: Any) -> None:
    contract = Contract(**terms)
    assert not isinstance(contract.value, Value)
    size = len(contract.psi)
    order = list(range(size))
    random.shuffle(order)
    scale = contract.value_scale
    # Half of all costs are the same, so that incentives leave an order open.
    psi = np.where(np.arange(size) < (size + 1) // 2, contract.psi[0], contract.psi)
    plain = replace(contract, psi=psi)
    turned = replace(
        plain,
        psi=psi[order],
        probability=contract.probability[order],
        value=[contract.value[at] for at in order],
        value_scale=None if scale is None else scale[order],
    )
    for rule in (optimal_menu, complete_information):
        here, there = profit(plain, rule(plain)), profit(turned, rule(turned))
        assert there == pytest.approx(here, rel=1e-8, abs=1e-8)
    assert virtual_cost(turned) == pytest.approx(virtual_cost(plain)[order], rel=1e-9)


def test_of_equal_costs_the_one_that_is_worth_more_delivers_more() -> None:
    terms: dict = {"probability": np.array([0.5, 0.5]), "quality_max": 1.0}
    values = [Linear(scale=5.0), Linear(scale=1.0)]
    for order in ([0, 1], [1, 0]):
        own = [values[at] for at in order]
        contract = Contract(psi=np.array([2.0, 2.0]), value=own, **terms)
        menu = optimal_menu(contract)
        assert menu.quality[order].tolist() == [1.0, 0.0]
        assert profit(contract, menu) == pytest.approx(1.5)


@settings(max_examples=15)
@given(all_contract_terms(types_max=3), st.integers(0, 2**32 - 1))
def test_no_menu_that_was_drawn_earns_more(terms: dict[str, Any], seed: int) -> None:
    contract = Contract(**terms)
    rng = np.random.default_rng(seed)
    best = profit(contract, optimal_menu(contract))
    ceiling = profit(contract, complete_information(contract))
    for _ in range(5):
        menu = drawn_menu(contract, rng)
        assert audit_menu(contract, menu).incentive_compatible
        earned = profit(contract, menu)
        assert earned <= best + 1e-9 * contract.devices * (1.0 + abs(best))
        assert earned <= ceiling + 1e-9 * contract.devices * (1.0 + abs(ceiling))


def drawn_menu(contract: Contract, rng: np.random.Generator) -> Menu:
    """Any items, each type taking what it likes best, all made rarer until the budget holds."""
    size = len(contract.psi)
    count = int(rng.integers(1, size + 1))
    quality = rng.uniform(contract.quality_min, contract.quality_max, count)
    burden = quality if contract.cost == "linear" else quality**2
    reward = rng.choice(contract.psi, count) * burden * rng.uniform(0.8, 1.5)
    reward += contract.participation_cost
    chance = rng.choice([1.0, rng.uniform(0.0, 1.0)], count)
    left = reward - np.outer(contract.psi, burden) - contract.participation_cost
    utility = chance * left
    taken = np.argmax(utility, axis=1)
    served = utility[np.arange(size), taken] >= 0.0
    paid = float(contract.probability @ np.where(served, (chance * reward)[taken], 0.0))
    part = 1.0
    if contract.budget is not None and paid > 0.0:
        part = min(1.0, 0.999999 * contract.budget / contract.devices / paid)
    return Menu(
        quality=np.where(served, quality[taken], 0.0),
        reward=np.where(served, reward[taken], 0.0),
        served=served,
        chance=np.where(served, part * chance[taken], 0.0),
    )


@settings(max_examples=15)
@given(all_contract_terms(types_max=3))
def test_without_a_draw_no_rising_qualities_earn_more(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    sure = sure_menu(contract)
    assert sure.chance is None
    assert audit_menu(contract, sure).broken == ()
    best = profit(contract, sure)
    assert best <= profit(contract, optimal_menu(contract)) + 1e-9 * contract.devices
    order = np.argsort(-contract.psi, kind="stable")
    grid = np.linspace(contract.quality_min, contract.quality_max, 6)
    for start in range(len(order)):
        served = order[start:]
        for rising in combinations_with_replacement(grid.tolist(), len(served)):
            quality, reward = np.zeros(len(order)), np.zeros(len(order))
            quality[served] = rising
            burden = quality if contract.cost == "linear" else quality**2
            steps = contract.psi[served] * np.diff(burden[served], prepend=0.0)
            reward[served] = np.cumsum(steps) + contract.participation_cost
            menu = Menu(
                quality=quality, reward=reward, served=np.isin(np.arange(len(order)), served)
            )
            if contract.budget is None or payments(contract, menu) <= contract.budget:
                assert profit(contract, menu) <= best + 1e-9 * contract.devices * (1.0 + abs(best))


POOLED = """
mechanism = "contract"
quality_max = 2.0
budget = 2.6
value = { form = "linear", scale = 4.0 }
cost = { form = "linear" }
[[type]]
cost = 3.0
probability = 0.3
value_scale = 2.7
[[type]]
cost = 0.9
probability = 0.3
value_scale = 0.9
[[type]]
cost = 2.8
probability = 0.4
value_scale = 1.1
"""


def test_a_pooled_block_is_not_split_by_rounding(tmp_path: Path) -> None:
    file = tmp_path / "contract.toml"
    file.write_text(POOLED)
    contract = read_contract(file)
    assert isinstance(contract, Contract)
    menu = optimal_menu(contract)
    assert menu.quality[0] == menu.quality[2]
    assert profit(contract, menu) == pytest.approx(3.33289377, abs=1e-8)
    assert audit_menu(contract, menu).broken == ()


@pytest.mark.parametrize("fixed", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("least", [0.0, 0.5])
def test_two_spellings_of_one_contract_agree(fixed: float, least: float) -> None:
    terms: dict = {
        "probability": np.array([0.6, 0.4]),
        "value": Log1p(scale=10.0),
        "quality_min": least,
        "quality_max": 10.0,
        "budget": 0.5,
        "participation_cost": fixed,
    }
    psi = np.array([2.0, 1.0])
    one = Contract(psi=psi, **terms)
    none = np.zeros(2)
    two = WideContract(psi=np.stack([psi, none], axis=1), costs=("linear", "quadratic"), **terms)
    menu, wide = optimal_menu(one), lottery_menu(two)
    assert profit(one, menu) == pytest.approx(wide.profit, rel=1e-5)
    first = profit(one, complete_information(one))
    assert first == pytest.approx(first_best_profit(two), rel=1e-9)
    assert wide.lotteries == (menu.chance is not None)
    assert wide.sure_profit is not None
    # One is found exactly and the other by a search over the grid.
    assert wide.sure_profit <= profit(one, sure_menu(one)) * (1 + 1e-9) + 1e-9


def test_the_one_type_of_a_small_budget_is_drawn() -> None:
    contract = Contract(
        psi=np.array([1.0]),
        probability=np.array([1.0]),
        value=Log1p(scale=10.0),
        quality_max=10.0,
        budget=0.5,
        participation_cost=1.0,
    )
    menu = optimal_menu(contract)
    # The quality at which value for money is best: (1 + q) ln(1 + q) - q = 1, so q = e - 1.
    assert menu.quality == pytest.approx([np.e - 1.0])
    assert menu.reward == pytest.approx([np.e])
    assert menu.engaged == pytest.approx([0.5 / np.e])
    assert profit(contract, menu) == pytest.approx(5.0 / np.e - 0.5)
    assert profit(contract, sure_menu(contract)) == 0.0
