"""Leaving out breakpoints before the sort changes no optimum, in crowds or on nasty games."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg import optimum as stackelberg
from edgepact.mechanisms.stackelberg.optimum import candidates, equilibrium
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game
from tests.strategies import games


def best_of_all(game: Game) -> tuple[float, float]:
    """Profit and largest price of the optimum, found without leaving anything out."""
    prices, profits = candidates(game)
    assert np.all(profits <= profits.max())
    return float(profits.max()), float(prices[profits == profits.max()].max())


@given(games(devices_max=20), st.integers(2, 40), st.floats(0.0, 50.0))
@settings(max_examples=100)
def test_few_bins_lose_no_optimum(game: Game, bins: int, below_best: float) -> None:
    profit, price = best_of_all(game)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stackelberg, "BINS", bins)
        patch.setattr(stackelberg, "COUNTED_MIN", 0)
        prices, profits = candidates(game, below_best=below_best)
        found = equilibrium(game)
    slack = 1e-9 * (1.0 + game.saving.sum() * game.layers_max)
    assert profits.max() == pytest.approx(profit, abs=slack)
    idle = game.revenue - game.saving.sum() * game.layers_max
    earned = float(found.server_utility) - idle
    assert earned == pytest.approx(profit, abs=slack + 1e-9 * abs(idle))
    if found.price != pytest.approx(price, rel=1e-6, abs=1e-9):
        # Two peaks of one height, told apart by rounding.
        assert np.max(profits[np.isclose(prices, price)], initial=-math.inf) >= profit - slack


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("common", [False, True])
def test_crowd(family: str, integer: bool, common: bool) -> None:
    draws = np.random.default_rng(5)
    devices = 7_000 if integer else 40_000
    # Two populations, far apart: the profit has two peaks.
    alpha = np.where(draws.random(devices) < 0.4, draws.uniform(20, 30, devices), 2.0)
    A = np.full(devices, 1.0) if common else draws.uniform(0.8, 1.2, devices)
    fleet = Fleet(alpha, draws.uniform(0.0, 14.0, devices), A, np.full(devices, 0.5))
    game = Game(fleet, 0.0, 8.0, 0.1, 20.0, 12, integer, FAMILIES[family])
    profit, price = best_of_all(game)
    prices, profits = candidates(game, below_best=0.0)
    assert len(prices) < 0.5 * len(candidates(game)[0]), "most is left out"
    assert profits.max() == pytest.approx(profit, rel=1e-10)
    found = equilibrium(game)
    assert found.price == pytest.approx(price, rel=1e-6)
