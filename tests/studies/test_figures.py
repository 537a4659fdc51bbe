"""The studies of the article's figures, in small."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepact.studies.fig4 import FAR_APART, HARD_SMOKED, SMOKED, SOLVERS, stays_above


def test_after_which_epoch_a_seed_stays_above_the_mark() -> None:
    share = np.array(
        [
            [0.5, 0.995, 0.98, 0.995, 0.999],  # above, below again, above from the fourth epoch on
            [0.999, 0.999, 0.999, 0.999, 0.999],
            [0.999, 0.999, 0.999, 0.999, 0.9],
        ]
    )
    assert stays_above(share, 0.99) == [3, 0, None]


@pytest.mark.slow
def test_both_figures_in_small(smoke_run: Callable[[str], Path]) -> None:
    fig4 = smoke_run("fig4")
    for name, folder in (("fig4", fig4), ("fig5", smoke_run("fig5"))):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert set(metrics["solvers"]) == set(SMOKED)
        assert metrics["rounds_per_epoch"] == 64
        assert (folder / f"{name}.png").stat().st_size > 10_000
        rows = list(csv.DictReader((folder / "curves.csv").read_text().splitlines()))
        assert len(rows) == len(SMOKED) * 2 * 20
        best = metrics["optimum"]
        assert all(float(row["utility"]) <= best + 1e-3 for row in rows)
    hard = json.loads((fig4 / "metrics.json").read_text())["hard_games"]
    assert set(hard) == {FAR_APART}
    assert all(set(learners) == set(HARD_SMOKED) for learners in hard.values())
    rows = list(csv.DictReader((fig4 / "curves-hard.csv").read_text().splitlines()))
    assert len(rows) == len(HARD_SMOKED) * 2 * 2 * 20
    assert all(float(row["gain_share"]) <= 1.0 + 1e-3 for row in rows)
    page = (fig4 / "page.md").read_text()
    assert f"| {FAR_APART} | {HARD_SMOKED[0]} |" in page


def test_an_epoch_is_as_many_rounds_for_everyone() -> None:
    assert {solver.rounds_per_epoch for solver in SOLVERS.values()} == {64}
