"""Identify-then-solve: what answers tell of costs, and when that is everything."""

from dataclasses import replace

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import best_response
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.known_form.identify import (
    FORMS,
    IdentifyThenSolve,
    fleet_of,
    price_for,
    what_is_open,
)
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import REFERENCE, play, reference_fleets

families = pytest.mark.parametrize("family", sorted(FORMS))


def kappa_of(game: Game) -> np.ndarray:
    beside = FORMS[game.satisfaction.name]
    return (beside + game.fleet.capacity - game.fleet.B) / game.fleet.A


@families
@pytest.mark.parametrize("integer", [False, True])
def test_what_is_open_holds_the_truth(family: str, integer: bool) -> None:
    rng = np.random.default_rng(0)
    for game in reference_fleets(1, 40, integer=integer):
        game = replace(game, satisfaction=FAMILIES[family])
        known = Known.of(game, form=True)
        # Higher ones meet devices at their own cap, which one answer does not show.
        prices = rng.uniform(0.05, 1.0, 4)
        layers = best_response(game, prices)
        true = kappa_of(game)
        left = what_is_open(known, prices, layers, true)
        for device, alpha in enumerate(game.fleet.alpha):
            # A device fixed by its answers has one kappa, the right one; others a grid.
            at = int(np.argmin(np.abs(left.kappa[device] - true[device])))
            assert left.kappa[device, at] == pytest.approx(true[device], rel=1e-6)
            assert left.low[device, at] <= alpha * (1 + 1e-6)
            assert left.high[device, at] >= alpha * (1 - 1e-6)


@families
def test_whole_answers_bound_alpha_exactly(family: str) -> None:
    game = replace(
        reference_fleets(2, 1, integer=True)[0], satisfaction=FAMILIES[family], price_max=3.0
    )
    known = Known.of(game, form=True)
    prices = np.array([0.3, 0.6, 0.45])
    layers = best_response(game, prices)
    true = kappa_of(game)
    left = what_is_open(known, prices, layers, true)
    device = np.arange(known.devices)
    low, high = left.low[device, device], left.high[device, device]

    def answers(alpha: np.ndarray) -> np.ndarray:
        assert known.form is not None
        told = replace(game, fleet=fleet_of(known.form, alpha, true))
        return best_response(told, prices)

    some = (low > 0) & np.isfinite(high)
    assert np.any(some)
    inside = np.where(some, (low + high) / 2, game.fleet.alpha)
    assert np.array_equal(answers(inside), layers)
    outside = [np.where(some, edge, game.fleet.alpha) for edge in (low * 0.999, high * 1.001)]
    for alpha in outside:
        assert np.all(np.any(answers(alpha) != layers, axis=0)[some])


@families
def test_third_quote_is_exact_where_two_answers_were_inside(family: str) -> None:
    # All enter well below the first quotes and none is at its cap there.
    rng = np.random.default_rng(3)
    for _ in range(10):
        devices = int(rng.integers(1, 9))
        fleet = Fleet(
            alpha=rng.uniform(1.0, 1.6, devices),
            capacity=rng.uniform(10.5, 12.0, devices),
            A=np.ones(devices),
            B=np.full(devices, 0.5),
        )
        game = replace(REFERENCE.game(fleet, integer=False), satisfaction=FAMILIES[family])
        shares = play(IdentifyThenSolve(), [game], rounds=4, seed=0)
        assert shares[0, 2:] == pytest.approx(1.0, abs=1e-9)


def test_a_device_at_its_cap_is_recognised() -> None:
    fleet = Fleet(
        alpha=np.array([1.0]), capacity=np.array([6.0]), A=np.array([1.0]), B=np.array([0.5])
    )
    game = REFERENCE.game(fleet, integer=False)
    known = Known.of(game, form=True)
    prices = np.array([0.4, 1.5, 2.5])
    layers = best_response(game, prices)
    assert layers[1, 0] == layers[2, 0] == 5.5
    left = what_is_open(known, prices, layers, np.array([10.0]))
    assert left.kappa[0, 0] == pytest.approx(6.5)
    assert left.low[0, 0] == pytest.approx(1.0)


def test_the_first_two_quotes_differ() -> None:
    for game in reference_fleets(4, 10, integer=False):
        known = Known.of(game, form=True)
        quoter = IdentifyThenSolve()
        first = quoter.quote(0, known, np.empty(0), np.empty((0, known.devices)))
        prices = np.array([first])
        second = quoter.quote(0, known, prices, best_response(game, prices))
        assert abs(second / first - 1) > 0.02


@pytest.mark.parametrize("integer", [False, True])
def test_the_price_for_known_devices_is_the_equilibrium(integer: bool) -> None:
    for game in reference_fleets(5, 10, integer=integer):
        known = Known.of(game, form=True)
        assert price_for(known, game.fleet) == pytest.approx(float(equilibrium(game).price))


def test_whole_layers_are_nearly_solved() -> None:
    shares = play(IdentifyThenSolve(), reference_fleets(6, 30, integer=True), rounds=4, seed=0)
    assert shares[:, 3].mean() > 0.95


@pytest.mark.parametrize("family", ["sqrt", "exp"])
def test_other_families_are_refused(family: str) -> None:
    game = replace(reference_fleets(7, 1, integer=True)[0], satisfaction=FAMILIES[family])
    with pytest.raises(InputError, match="log or log1p"):
        play(IdentifyThenSolve(), [game], rounds=1, seed=0)


def test_it_must_be_told_the_form() -> None:
    (game,) = reference_fleets(7, 1, integer=True)
    known = Known.of(game, form=False)
    with pytest.raises(InputError, match="how devices decide"):
        IdentifyThenSolve().quote(0, known, np.empty(0), np.empty((0, known.devices)))
