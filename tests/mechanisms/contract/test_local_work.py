"""Whole amounts of local work: exact against brute force and a linear program."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from edgepact.errors import InputError
from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.benchmarks import complete_information
from edgepact.mechanisms.contract.local_work import whole_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.quality import Log1p, Saturating, cost_of
from edgepact.mechanisms.contract.responses import choose, payments, profit, rents
from edgepact.mechanisms.contract.terms import Contract
from tests.strategies import contract_terms, numbers


@st.composite
def work_terms(draw: st.DrawFn, *, types_max: int = 3, work_max: int = 4) -> dict[str, Any]:
    """Few types, often of equal cost, few amounts of work, limits of every kind."""
    sizes = tuple(range(1, types_max + 1))
    terms: dict[str, Any] = draw(contract_terms(sizes=sizes))
    count = len(terms["psi"])
    terms["quality_max"] = float(draw(st.integers(1, work_max)))
    terms["quality_min"] = float(draw(st.integers(0, int(terms["quality_max"]) - 1)))
    terms["participation_cost"] = draw(st.sampled_from([0.0, 0.0, 0.5]))
    terms["budget"] = draw(st.sampled_from([None, None, 0.5, 2.0, 6.0]))
    if draw(st.booleans()):
        scale = st.lists(numbers(0.25, 3.0), min_size=count, max_size=count)
        terms["value_scale"] = np.array(draw(scale))
    return terms


def by_every_menu(contract: Contract) -> float:
    """The best of all outcomes; the least rewards by raising each to what keeps its promises."""
    work = np.arange(contract.quality_min, contract.quality_max + 1)
    count = len(contract.psi)
    best = 0.0
    for chosen in product(range(-1, len(work)), repeat=count):
        served = np.array(chosen) >= 0
        quality = np.where(served, work[np.array(chosen)], 0.0)
        burden = np.outer(contract.psi, cost_of(contract.cost, quality))
        burden = np.where(served, burden + contract.participation_cost, 0.0)
        own = np.diagonal(burden)
        reward = np.where(served, own, 0.0)
        for _ in range(count + 1):
            wanted = own + np.max(reward - burden, axis=1)
            reward = np.where(served, np.maximum(reward, wanted), 0.0)
        kept = reward - own
        if np.max(np.max(reward - burden, axis=1) - kept) > 1e-9:
            continue
        paid = contract.devices * float(contract.probability @ reward)
        if contract.budget is None or paid <= contract.budget * (1 + 1e-9):
            worth = np.where(served, contract.worth(quality), 0.0)
            best = max(best, float(contract.probability @ (worth - reward)))
    return best


@settings(max_examples=30)
@given(work_terms())
def test_no_menu_of_whole_numbers_earns_more(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    menu = whole_menu(contract)
    assert profit(contract, menu) == pytest.approx(by_every_menu(contract), rel=1e-9, abs=1e-9)


@settings(max_examples=40)
@given(work_terms(types_max=5, work_max=8))
def test_the_menu_keeps_its_promises(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    menu = whole_menu(contract)
    audit = audit_menu(contract, menu)
    assert audit.individually_rational
    assert audit.incentive_compatible
    assert audit.budget_balanced
    assert np.all(menu.quality == np.round(menu.quality))
    served = menu.served
    assert np.all(menu.quality[served] >= contract.quality_min)
    assert np.all(menu.quality[served] <= contract.quality_max)
    if contract.budget is not None:
        assert payments(contract, menu) <= contract.budget * (1 + 1e-9)


def lottery_profit(contract: Contract) -> float:
    """The best lotteries over whole numbers: all incentives, as a linear program."""
    work = np.arange(contract.quality_min, contract.quality_max + 1)
    outcomes = len(work) + 1
    count = len(contract.psi)
    burden = np.outer(contract.psi, cost_of(contract.cost, work)) + contract.participation_cost
    burden = np.hstack([np.zeros((count, 1)), burden])
    scale = np.ones(count) if contract.value_scale is None else contract.value_scale
    worth = np.hstack([np.zeros((count, 1)), np.outer(scale, contract.value.at(work))])  # type: ignore[union-attr]
    variables = count * outcomes + count
    gain = np.concatenate([(contract.probability[:, None] * worth).ravel(), -contract.probability])
    rows = []
    for k in range(count):
        for j in range(count):
            row = np.zeros(variables)
            row[k * outcomes : (k + 1) * outcomes] += burden[k]
            row[count * outcomes + k] -= 1.0
            if j != k:
                row[j * outcomes : (j + 1) * outcomes] -= burden[k]
                row[count * outcomes + j] += 1.0
            rows.append(row)
    sums = np.zeros((count, variables))
    for k in range(count):
        sums[k, k * outcomes : (k + 1) * outcomes] = 1.0
    bounds = [(0.0, None)] * (count * outcomes) + [(None, None)] * count
    found = linprog(
        -gain, A_ub=np.array(rows), b_ub=np.zeros(len(rows)), A_eq=sums, b_eq=np.ones(count),
        bounds=bounds,
    )  # fmt: skip
    return float(-found.fun)


@settings(max_examples=40)
@given(work_terms(types_max=4, work_max=6))
def test_without_a_budget_lotteries_over_whole_numbers_bring_nothing(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    # The chain of whole numbers has V and c as straight lines between its points, with the same
    # kinks for all types, so pooled blocks have their optimum at kinks. (A cost of taking part
    # is a kink of its own, at no work, and leaves the line concave only where V(q_min) is no
    # less worth than what it costs; lotteries with nothing may pay then.)
    if contract.participation_cost > 0.0 or contract.quality_min > 0.0:
        return
    free = replace(contract, budget=None)
    best = profit(free, whole_menu(free))
    assert best == pytest.approx(lottery_profit(free), rel=1e-6, abs=1e-6)


@settings(max_examples=40)
@given(contract_terms())
def test_fine_portions_come_close_to_the_optimum_over_all_numbers(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    best = profit(contract, optimal_menu(contract))
    fine = profit(contract, whole_menu(contract, portion=contract.quality_max / 160))
    coarse = profit(contract, whole_menu(contract, portion=contract.quality_max / 4))
    assert coarse <= fine + 1e-9
    assert fine <= best * (1 + 1e-9) + 1e-9
    # Rounding each quality down loses at most the worth of one portion, since V is concave.
    worth = contract.value.at(np.array([0.0, contract.quality_max / 160]))  # type: ignore[union-attr]
    assert fine >= best - (worth[1] - worth[0]) - 1e-9
    assert best <= profit(contract, complete_information(contract)) * (1 + 1e-9) + 1e-9


def test_three_types_worked_out_by_hand() -> None:
    # V = 10 ln(1 + q). Virtual costs of (3, 2, 1) with (.3, .3, .4) are 16/3, 10/3 and 1. Each
    # further epoch is worth 10 ln(2) = 6.93, 10 ln(3/2) = 4.05, 2.88, 2.23, 1.82: one for the
    # first type, two for the second, all five for the third. Rewards: 3; 3 + 2 = 5; 5 + 3 = 8.
    contract = Contract(
        psi=np.array([1.0, 3.0, 2.0]),
        probability=np.array([0.4, 0.3, 0.3]),
        value=Log1p(scale=10.0),
        quality_max=5.0,
    )
    menu = whole_menu(contract)
    assert menu.quality.tolist() == [5.0, 1.0, 2.0]
    assert menu.reward.tolist() == [8.0, 3.0, 5.0]
    assert rents(contract, menu).tolist() == [3.0, 0.0, 1.0]
    expected = 0.3 * (10 * np.log(2) - 3) + 0.3 * (10 * np.log(3) - 5) + 0.4 * (10 * np.log(6) - 8)
    assert profit(contract, menu) == pytest.approx(expected)
    assert choose(contract, menu, np.array([2.9, 1.5, 0.5, 3.1])).tolist() == [1, 2, 0, -1]


def test_a_budget_on_whole_numbers_worked_out_by_hand() -> None:
    # One type at 1 an epoch, V = 10 ln(1 + q). Three devices of it and a budget of 7: two epochs
    # cost 6, three cost 9. The mixture over all numbers would do 7/3 epochs.
    one = {"psi": np.array([1.0]), "probability": np.array([1.0]), "value": Log1p(scale=10.0)}
    contract = Contract(**one, quality_max=5.0, devices=3, budget=7.0)
    menu = whole_menu(contract)
    assert menu.quality.tolist() == [2.0]
    assert payments(contract, menu) == 6.0
    assert whole_menu(replace(contract, budget=9.0)).quality.tolist() == [3.0]
    assert whole_menu(replace(contract, budget=0.0)).reward.tolist() == [0.0]


def test_the_order_of_types_changes_nothing() -> None:
    value = Saturating(scale=8.0, rate=0.5)
    contract = Contract(
        psi=np.array([1.0, 0.5, 1.0, 0.7]),
        probability=np.full(4, 0.25),
        value=value,
        value_scale=np.array([1.0, 0.4, 2.0, 1.2]),
        quality_max=8.0,
        budget=2.5,
    )
    best = profit(contract, whole_menu(contract))
    for order in ([3, 2, 1, 0], [2, 0, 1, 3]):
        other = replace(
            contract,
            psi=contract.psi[order],
            value_scale=contract.value_scale[order],  # type: ignore[index]
        )
        assert profit(other, whole_menu(other)) == pytest.approx(best)


def test_limits_are_told() -> None:
    one = {"psi": np.array([1.0]), "probability": np.array([1.0]), "value": Log1p(scale=10.0)}
    with pytest.raises(InputError, match="whole numbers of portions"):
        whole_menu(Contract(**one, quality_min=0.2, quality_max=0.8))
    with pytest.raises(InputError, match="whole numbers of portions"):
        whole_menu(Contract(**one, quality_max=0.8), portion=1e-6)
    with pytest.raises(InputError, match="portion"):
        whole_menu(Contract(**one, quality_max=0.8), portion=0.0)
