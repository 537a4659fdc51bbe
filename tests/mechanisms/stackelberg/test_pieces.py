"""Between breakpoints the server's profit has one peak, and no more than that is relied on."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import breakpoints, equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game


def drawn_game(seed: int, family: str) -> Game:
    """Devices whose layers differ by up to a hundred times, so that savings do too."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 6))
    fleet = Fleet(
        alpha=np.exp(rng.uniform(-1.0, 4.0, size)),
        capacity=rng.uniform(1.0, 40.0, size),
        A=np.exp(rng.uniform(-2.5, 2.0, size)),
        B=rng.uniform(0.0, 1.0, size),
    )
    return Game(
        fleet=fleet,
        revenue=0.0,
        beta=float(rng.uniform(0.5, 8.0)),
        price_min=0.0,
        price_max=float(rng.uniform(1.0, 40.0)),
        layers_max=12,
        integer=False,
        satisfaction=FAMILIES[family],
        outside_option=bool(rng.random() < 0.3),
    )


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["sqrt", "sqrt", *sorted(FAMILIES)]))
def test_rises_and_then_falls_between_breakpoints(seed: int, family: str) -> None:
    game = drawn_game(seed, family)
    inside = breakpoints(game)
    ends = np.unique([1e-3, *inside[np.isfinite(inside)].tolist(), float(game.price_max)])
    best = equilibrium(game)
    scale = 1e-9 * (1.0 + float(np.sum(game.saving)) * game.layers_max)
    for left, right in pairwise(ends.tolist()):
        if right - left < 1e-6:
            continue
        # Dense, and beside the ends, where what a device does may jump.
        price = left + (right - left) * np.linspace(1e-6, 1.0 - 1e-6, 400)
        utility = np.asarray(outcome(game, price).server_utility)
        assert np.max(utility) <= best.server_utility + scale
        steps = np.diff(utility)
        rising = np.flatnonzero(steps > scale)
        falling = np.flatnonzero(steps < -scale)
        if len(rising) and len(falling):
            assert rising[-1] < falling[0]


def test_the_profit_of_sqrt_is_not_concave_between_breakpoints() -> None:
    # A keen device with small layers beside one whose layers save the server much.
    fleet = Fleet(
        alpha=np.array([40.0, 1.0]),
        capacity=np.array([10.0, 4.0]),
        A=np.array([1.0, 20.0]),
        B=np.array([0.0, 0.0]),
    )
    game = Game(fleet, 0.0, 1.0, 0.0, 20.0, 12, integer=False, satisfaction=FAMILIES["sqrt"])
    inside = breakpoints(game)
    assert np.max(inside[np.isfinite(inside)]) < 7.0  # both have entered, none has saturated
    price = np.linspace(7.0, 20.0, 9)
    utility = np.asarray(outcome(game, price).server_utility)
    assert np.all(np.diff(utility, 2) > 0.0)


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.integers(0, 2**32 - 1))
def test_sqrt_with_unequal_layers_against_a_dense_grid(seed: int) -> None:
    game = drawn_game(seed, "sqrt")
    best = equilibrium(game)
    grid = np.linspace(0.0, float(game.price_max), 20_001)
    utility = outcome(game, grid).server_utility
    assert np.max(utility) <= best.server_utility + 1e-9 * (1.0 + abs(best.server_utility))
