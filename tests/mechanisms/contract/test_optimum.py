"""Optimal menus: golden values, theorems on random contracts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, linprog

from edgepact.errors import InputError
from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.ordered import virtual_cost
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.contract.responses import payments, profit, rents
from edgepact.mechanisms.contract.terms import Contract


def contract_of(psi: list[float], probability: list[float], **rest: object) -> Contract:
    terms: dict = {"value": Log1p(scale=10.0), "quality_max": 20.0}
    return Contract(psi=np.array(psi), probability=np.array(probability), **(terms | rest))


@st.composite
def types(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    size = draw(st.integers(1, 6))
    psi = draw(st.lists(st.floats(0.25, 6.0), min_size=size, max_size=size))
    p = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=size, max_size=size)))
    return psi, list(p / p.sum())


def test_golden_values_of_falling_virtual_costs() -> None:
    contract = contract_of([3.0, 2.0, 1.0], [0.3, 0.3, 0.4])
    menu = optimal_menu(contract)
    assert virtual_cost(contract) == pytest.approx([5.333333, 3.333333, 1.0], abs=1e-6)
    assert menu.quality == pytest.approx([0.875, 2.0, 9.0], rel=1e-12)
    assert menu.reward == pytest.approx([2.625, 4.875, 11.875], rel=1e-12)
    assert rents(contract, menu) == pytest.approx([0.0, 0.875, 2.875], abs=1e-12)
    assert profit(contract, menu) == pytest.approx(7.392003, abs=5e-7)
    assert profit(contract, complete_information(contract)) == pytest.approx(9.550573, abs=5e-7)


def test_golden_values_of_ironed_virtual_costs() -> None:
    contract = contract_of([3.0, 2.9, 1.5, 1.0], [0.3, 0.1, 0.3, 0.3])
    menu = optimal_menu(contract)
    assert virtual_cost(contract) == pytest.approx([3.233333, 11.3, 2.0, 1.0], abs=1e-6)
    assert menu.quality == pytest.approx([0.904762, 0.904762, 4.0, 9.0], abs=5e-7)
    assert menu.reward == pytest.approx([2.714286, 2.714286, 7.357143, 12.357143], abs=5e-7)
    assert profit(contract, menu) == pytest.approx(7.313497, abs=5e-7)


@given(types())
def test_everybody_is_served_truthfully_and_below_first_best(
    drawn: tuple[list[float], list[float]],
) -> None:
    contract = contract_of(*drawn)
    menu, first = optimal_menu(contract), complete_information(contract)
    audit = audit_menu(contract, menu)
    assert audit.individually_rational
    assert audit.incentive_compatible
    assert -1e-9 <= profit(contract, menu) <= profit(contract, first) + 1e-9
    assert np.all(menu.quality <= first.quality + 1e-9)


@given(types(), st.floats(0.05, 5.0), st.sampled_from([0.0, 0.5]))
def test_a_budget_is_kept(
    drawn: tuple[list[float], list[float]], budget: float, fixed: float
) -> None:
    contract = contract_of(*drawn)
    limited = contract_of(*drawn, budget=budget, participation_cost=fixed)
    menu = optimal_menu(limited)
    assert payments(limited, menu) <= budget * (1 + 1e-12)
    assert audit_menu(limited, menu).incentive_compatible
    assert profit(limited, menu) <= profit(contract, optimal_menu(contract)) + 1e-9


def lottery_profit(contract: Contract, quality: np.ndarray) -> float:
    """The best profit of lotteries over given qualities: all IC and IR rows, no theory."""
    types, grid = len(contract.psi), len(quality)
    x = np.eye(types * grid).reshape(types, grid, -1)
    zero, one = np.zeros((types, types * grid)), np.eye(types)
    delivered = np.hstack([np.tensordot(x, quality, (1, 0)), np.zeros((types, types))])
    reward = np.hstack([zero, one])
    worth = np.hstack([np.tensordot(x, 10.0 * np.log1p(quality), (1, 0)), np.zeros_like(one)])
    rows = []
    for k in range(types):
        own = reward[k] - contract.psi[k] * delivered[k]
        rows.append(-own)
        rows += [reward[j] - contract.psi[k] * delivered[j] - own for j in range(types) if j != k]
    limits = np.zeros(len(rows))
    sums = np.hstack([x.sum(axis=1), np.zeros((types, types))])
    gain = contract.probability @ (worth - reward)
    bounds = [(0, None)] * (types * grid) + [(None, None)] * types
    solved = linprog(-gain, np.array(rows), limits, sums, np.ones(types), bounds)
    assert solved.success
    return -float(solved.fun)


@settings(max_examples=25)
@given(types())
def test_no_lottery_over_items_earns_more(drawn: tuple[list[float], list[float]]) -> None:
    contract = contract_of(*drawn)
    menu = optimal_menu(contract)
    grid = np.unique(np.concatenate([np.linspace(0.0, 20.0, 41), menu.quality]))
    best = lottery_profit(contract, grid)
    assert profit(contract, menu) == pytest.approx(best, rel=1e-6, abs=1e-6)


def test_impossible_terms_are_refused() -> None:
    with pytest.raises(InputError, match=r"probability\[1\]"):
        contract_of([1.0, 2.0], [1.0, 0.0])


def earned(contract: Contract, quality: np.ndarray) -> float:
    """Profit of rising qualities of types in falling order of cost, cheapest rewards."""
    reward = np.cumsum(contract.psi * np.diff(quality, prepend=0.0))
    return float(contract.probability @ (10.0 * np.log1p(quality) - reward))


def test_leaving_out_the_rent_term_earns_less() -> None:
    contract = contract_of([3.0, 2.0, 1.0], [0.3, 0.3, 0.4])
    naive = 10.0 / contract.psi - 1.0
    assert earned(contract, naive) < 0.98 * profit(contract, optimal_menu(contract))


def test_pooling_qualities_instead_of_virtual_costs_earns_less() -> None:
    contract = contract_of([3.0, 2.9, 1.5, 1.0], [0.3, 0.1, 0.3, 0.3])
    alone = np.clip(10.0 / virtual_cost(contract) - 1.0, 0.0, 20.0)
    best = profit(contract, optimal_menu(contract))
    unweighted = earned(contract, isotonic_regression(alone).x)
    weighted = earned(contract, isotonic_regression(alone, weights=contract.probability).x)
    assert unweighted < best - 1e-3
    assert weighted < best - 1e-3
