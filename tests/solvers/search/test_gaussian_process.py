"""Bayesian optimisation of the price."""

import numpy as np
import pytest

from edgepact.solvers.quoting import best_so_far, play, reference_fleets
from edgepact.solvers.search.gaussian_process import GaussianProcess
from edgepact.solvers.search.random_quotes import RandomQuotes


def test_the_process_needs_fewer_quotes_than_guessing() -> None:
    games = reference_fleets(12, 20, integer=False)
    process, guesses = (
        best_so_far(play(quoter, games, rounds=8, seed=0)).mean(axis=0)[-1]
        for quoter in (GaussianProcess(), RandomQuotes())
    )
    assert process > 0.99 > guesses


def test_the_process_goes_through_what_it_has_seen() -> None:
    x = np.array([0.1, 0.4, 0.7])
    y = np.array([0.3, 1.0, 0.2])
    mean, deviation = GaussianProcess(noise=1e-4)._posterior(x, y, np.append(x, 0.25))
    assert mean[:3] == pytest.approx(y, abs=1e-3)
    assert deviation[3] > 20 * deviation[:3].max()
