"""Thompson sampling from supplies that never fall."""

import numpy as np
import pytest

from edgepact.solvers.quoting import best_so_far, play, reference_fleets
from edgepact.solvers.search.monotone_process import MonotoneProcess
from edgepact.solvers.search.random_quotes import RandomQuotes

GRID = (np.arange(64) + 0.5) / 64


def test_the_process_needs_fewer_quotes_than_guessing() -> None:
    games = reference_fleets(12, 20, integer=False)
    process, guesses = (
        best_so_far(play(quoter, games, rounds=8, seed=0)).mean(axis=0)[-1]
        for quoter in (MonotoneProcess(), RandomQuotes())
    )
    assert process > 0.98 > guesses


def test_every_draw_rises_and_goes_by_what_was_seen() -> None:
    x, y = np.array([0.2, 0.5, 0.8]), np.array([0.1, 0.15, 0.7])
    process = MonotoneProcess(noise=1e-3)
    draws = np.stack([process.draw(np.random.default_rng(k), x, y, GRID) for k in range(40)])
    assert np.all(np.diff(draws, axis=1) >= 0)
    assert np.all((draws >= 0) & (draws <= 1))
    at = [int(np.argmin(np.abs(GRID - each))) for each in x]
    assert draws[:, at].mean(axis=0) == pytest.approx(y, abs=0.08)
    # Far from what was seen draws differ more than beside it.
    assert draws[:, -1].std() > 2 * draws[:, at[1]].std()
