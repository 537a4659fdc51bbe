"""Costs of several dimensions: one dimension as before, and lotteries where they pay."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.contract.audit import audit_lotteries
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.lottery import (
    WideContract,
    first_best_profit,
    lottery_menu,
)
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Log1p
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.terms import Contract
from tests.mechanisms.contract.oracle import program_profit
from tests.strategies import contract_terms

TERMS: dict = {"value": Log1p(scale=10.0), "quality_max": 20.0}


def wide(psi: list[list[float]], p: list[float], **rest: object) -> WideContract:
    terms = TERMS | {"costs": ("linear", "quadratic")} | rest
    return WideContract(psi=np.array(psi), probability=np.array(p), **terms)


GAMBLE = wide([[3.0, 0.02], [1.0, 0.4], [2.2, 0.02]], [0.4, 0.3, 0.3])
"""The second type is deterred from the first one's item by a small chance of a high quality."""


@settings(max_examples=15)
@given(contract_terms(), st.sampled_from([(None, 0.0), (None, 0.3), (0.5, 0.0)]))
def test_one_dimension_is_the_optimal_menu(
    terms: dict[str, Any], limits: tuple[float | None, float]
) -> None:
    budget, fixed = limits
    plain = Contract(**terms, budget=budget, participation_cost=fixed)
    same = {name: each for name, each in terms.items() if name not in ("psi", "cost")}
    one = WideContract(
        psi=plain.psi[:, None],
        costs=(plain.cost,),
        **same,
        budget=budget,
        participation_cost=fixed,
    )
    best = profit(plain, optimal_menu(plain))
    found = lottery_menu(one)
    assert found.profit == pytest.approx(best, rel=1e-4, abs=1e-5)
    if budget is None:
        assert not found.lotteries
        first = profit(plain, complete_information(plain))
        assert first_best_profit(one) == pytest.approx(first, rel=1e-4, abs=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_promises_are_kept_and_first_best_is_above(seed: int, types: int) -> None:
    rng = np.random.default_rng(seed)
    psi = np.stack([rng.uniform(0.3, 6.0, types), rng.uniform(0.0, 1.5, types)], axis=1)
    p = 0.9 * rng.dirichlet(np.ones(types)) + 0.1 / types
    contract = wide(psi.tolist(), p.tolist())
    found = lottery_menu(contract)
    assert found.largest_gain_from_lying < 1e-9
    assert found.largest_loss_from_taking_part < 1e-9
    assert found.profit <= first_best_profit(contract) * (1 + 1e-5) + 1e-9
    assert found.sure_profit is not None
    assert found.sure_profit <= found.profit * (1 + 1e-6) + 1e-9


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]), st.sampled_from([0.2, 1.0]))
def test_first_best_is_a_ceiling_and_every_promise_kept(
    seed: int, fixed: float, budget: float
) -> None:
    rng = np.random.default_rng(seed)
    types = int(rng.integers(1, 4))
    psi = np.stack([rng.uniform(0.3, 6.0, types), rng.uniform(0.0, 1.5, types)], axis=1)
    p = 0.9 * rng.dirichlet(np.ones(types)) + 0.1 / types
    terms: dict = {"participation_cost": fixed, "budget": budget, "devices": 3}
    contract = wide(psi.tolist(), p.tolist(), **terms)
    found, ceiling = lottery_menu(contract), first_best_profit(contract)
    assert found.profit <= ceiling * (1 + 1e-9)
    assert audit_lotteries(contract, found).broken == ()
    assert 3 * float(p @ found.reward) <= budget
    grid = np.unique(np.concatenate([np.linspace(0.0, 20.0, 9), _sure(found.quality)]))
    program = program_profit(
        contract.burden(grid), contract.worth(grid), p, budget=budget, devices=3
    )
    assert found.profit == pytest.approx(program, rel=1e-5, abs=1e-5)


def _sure(quality: np.ndarray) -> np.ndarray:
    return quality[~np.isnan(quality)]


def test_a_gamble_deters() -> None:
    found = lottery_menu(GAMBLE)
    assert found.lotteries
    assert found.sure_profit is not None
    assert found.profit > 1.03 * found.sure_profit
    assert found.items()[0][-1][0] == pytest.approx(20.0)
    assert "Lotteries are optimal" in found.about_lotteries()
    assert found.as_json()["lotteries_are_optimal"] is True


def test_no_sure_menu_of_a_grid_earns_more_than_the_one_found() -> None:
    grid = np.linspace(0.0, 6.0, 25)
    burden = GAMBLE.burden(grid)
    best = 0.0
    for place in product(range(0, len(grid), 2), repeat=3):
        own = burden[:, place]
        reward = np.diagonal(own).copy()
        for _ in range(3):
            reward = np.maximum(reward, np.diagonal(own) + np.max(reward - own, axis=1))
        gain = np.diagonal(own) + np.max(reward - own, axis=1) - reward
        if np.max(gain) < 1e-9:
            worth = 10.0 * np.log1p(grid[list(place)])
            best = max(best, float(GAMBLE.probability @ (worth - reward)))
    found = lottery_menu(GAMBLE).sure_profit
    assert found is not None
    assert found >= best - 1e-9


def test_a_budget_is_kept() -> None:
    psi, p = [[3.0, 0.02], [1.0, 0.4]], [0.5, 0.5]
    limited = wide(psi, p, budget=1.0, devices=3)
    found = lottery_menu(limited)
    assert 3 * float(limited.probability @ found.reward) <= 1.0 + 1e-9
    assert found.profit < lottery_menu(wide(psi, p, devices=3)).profit
    nothing = lottery_menu(wide(psi, p, participation_cost=50.0))
    assert nothing.profit == pytest.approx(0.0, abs=1e-9)
    assert nothing.items() == [[(None, 1.0)], [(None, 1.0)]]


@pytest.mark.parametrize(
    ("psi", "field"),
    [
        ([[0.0, 0.0]], r"psi\[0\]"),
        ([[-1.0, 1.0]], r"psi\[0\]"),
        ([[1.0]], "costs"),
        ([[1.0, 1.0]] * 25, "psi"),
    ],
)
def test_impossible_terms_are_refused(psi: list[list[float]], field: str) -> None:
    with pytest.raises(InputError, match=field):
        wide(psi, [1.0 / len(psi)] * len(psi))
