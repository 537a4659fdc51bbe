"""The hard games are hard: what is called a false peak is one, and learners are told apart."""

import numpy as np
import pytest

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import gain_of
from edgepact.solvers.learners.random import Random
from edgepact.studies.false_peaks import BETA, exact_game, far_apart, learn, pricing, two_peaks


def peaks(fleet: Fleet) -> tuple[np.ndarray, np.ndarray]:
    """Prices of the peaks on a fine scale, and their shares of the gain, the best last."""
    game = exact_game(pricing(fleet, BETA), fleet)
    prices = np.geomspace(0.01, BETA, 20_001)
    share = np.asarray(gain_of(game).share(outcome(game, prices).server_utility))
    at = np.flatnonzero((share[1:-1] > share[:-2]) & (share[1:-1] > share[2:])) + 1
    at = at[np.argsort(share[at])]
    return prices[at], share[at]


def test_two_peaks_are_where_they_are_said_to_be() -> None:
    prices, shares = peaks(two_peaks())
    assert prices == pytest.approx([5.37, 0.96], abs=0.01)
    assert shares == pytest.approx([0.69, 1.0], abs=0.005)


def test_fleets_far_apart_have_a_false_peak_on_either_side() -> None:
    fleets = far_apart(20)
    sides = set()
    for fleet in fleets:
        prices, shares = peaks(fleet)
        assert 0.29 <= shares[-2] <= 0.98
        best = float(equilibrium(exact_game(pricing(fleet, BETA), fleet)).price)
        assert prices[-1] == pytest.approx(best, rel=0.01)
        sides.add(bool(prices[-2] < best))
    assert sides == {True, False}
    again = far_apart(2)
    assert np.array_equal(fleets[1].alpha, again[1].alpha)
    assert not np.array_equal(far_apart(1, seed=1)[0].alpha, again[0].alpha)


def test_shares_are_in_order_of_fleets_and_of_the_game_that_was_played() -> None:
    """Random prices have share 0 of the range, of each fleet its own, and less of the gain."""
    fleets = far_apart(3)
    learned = learn(Random(), fleets, 10.0 * BETA, seed=0, seeds=2, epochs=150)
    assert learned.gain.shape == learned.range.shape == (6, 150)
    mean = learned.range.mean(axis=1)
    assert mean == pytest.approx(np.zeros(6), abs=0.15)
    for at, fleet in enumerate(fleets):
        game = exact_game(pricing(fleet, 10.0 * BETA), fleet)
        gain = gain_of(game)
        rows = learned.gain[2 * at : 2 * at + 2].mean()
        prices = np.geomspace(0.002 * BETA, 10.0 * BETA, 4001)
        expected = np.mean(gain.share(outcome(game, prices).server_utility))
        assert rows == pytest.approx(float(expected), abs=0.15 * abs(float(expected)) + 0.1)
