"""Rivals that know the prior."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from edgepact.mechanisms.stackelberg.responses import best_response, outcome
from edgepact.solvers.known_form.bayes import BayesianPostedPrice, BayesianPosterior
from edgepact.solvers.known_form.identify import fleet_of, what_is_open
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import REFERENCE, play, reference_fleets

both_kinds = pytest.mark.parametrize("integer", [False, True])


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False
    price: float

    def quote(
        self, seed: int, known: Known, prices: Any, layers: Any, present: Any = None
    ) -> float:
        return self.price


@both_kinds
def test_the_posted_price_is_the_best_one_that_never_looks(integer: bool) -> None:
    games = reference_fleets(21, 400, integer=integer)
    known = Known.of(games[0], form=True)
    posted = BayesianPostedPrice().quote(0, known, np.empty(0), np.empty((0, known.devices)))
    grid = np.linspace(0.1, 1.0, 91)
    profit = np.mean([outcome(g, np.append(grid, posted)).server_utility for g in games], axis=0)
    profit -= np.mean([-g.beta * g.layers_max * g.fleet.A.sum() for g in games])
    assert profit[-1] >= 0.99 * profit[:-1].max()


@both_kinds
def test_the_posted_price_never_changes(integer: bool) -> None:
    games = reference_fleets(22, 3, integer=integer)
    shares = play(BayesianPostedPrice(), games, rounds=3, seed=0)
    assert np.all(shares == shares[:, :1])


@both_kinds
def test_looking_is_worth_more_than_posting(integer: bool) -> None:
    games = reference_fleets(23, 25, integer=integer)
    posted = play(BayesianPostedPrice(), games, rounds=1, seed=0)[:, 0].mean()
    shares = play(BayesianPosterior(), games, rounds=3, seed=0).mean(axis=0)
    assert shares[0] == pytest.approx(posted)
    assert shares[1] > posted + 0.5 * (1 - posted)
    assert shares[2] > (0.96 if integer else 0.995)


@both_kinds
def test_particles_would_have_answered_as_the_devices_did(integer: bool) -> None:
    for game in reference_fleets(24, 6, integer=integer):
        known = Known.of(game, form=True)
        prices = np.array([0.35, 0.55])
        layers = best_response(game, prices)
        kappas = np.linspace(6.55, 16.45, 100)
        left = what_is_open(known, prices, layers, kappas)
        assert known.form is not None
        quoter = BayesianPosterior(points=len(kappas))
        believed = quoter._rectangles(known.form, -0.5)
        alpha, kappa = quoter._particles(np.random.default_rng(0), left, believed)
        drawn = fleet_of(known.form, alpha.ravel(), kappa.ravel())
        would = best_response(REFERENCE.game(drawn, integer=integer), prices)
        would = would.reshape(2, *alpha.shape)
        expected = np.broadcast_to(layers[:, None], would.shape)
        assert would == pytest.approx(expected, abs=0.0 if integer else 1e-4)


def test_other_devices_tell_of_one_that_has_not_answered_yet() -> None:
    # Devices that nobody sees supply are cheap or dear depending on their fleet.
    rng = np.random.default_rng(0)
    quotes = []
    for alpha in (1.2, 5.0):
        fleet = REFERENCE.fleet(rng, 8)
        fleet = type(fleet)(
            alpha=np.full(8, alpha), capacity=np.full(8, 10.0), A=fleet.A, B=fleet.B
        )
        game = REFERENCE.game(fleet, integer=True)
        prices = np.array([0.5])
        known = Known.of(game, form=True)
        quotes.append(BayesianPosterior().quote(0, known, prices, best_response(game, prices)))
    assert quotes[0] < quotes[1]


def test_a_large_fleet_is_priced_in_blocks() -> None:
    fleet = REFERENCE.fleet(np.random.default_rng(1), 300)
    game = REFERENCE.game(fleet, integer=True)
    shares = play(BayesianPosterior(), [game], rounds=3, seed=0)
    assert shares[0, 2] > 0.99
