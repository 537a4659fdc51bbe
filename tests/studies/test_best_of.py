"""The study of pictures that are drawn until they are appropriate."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.jobs.picture.appropriate import Until, shown, until
from edgepact.studies.best_of import Config, Setting, parts_of


@given(
    judged=st.lists(
        st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=1, max_size=8
    ).map(np.array),
    least=st.floats(0.01, 1.0),
    draws=st.integers(1, 3),
)
def test_what_is_shown_is_accepted_or_the_best(
    judged: np.ndarray, least: float, draws: int
) -> None:
    chosen = shown(judged, least, draws)
    seen = judged[np.arange(len(judged)), chosen]
    best = judged[:, :draws].max(axis=1)
    assert np.all((seen >= least) == (best >= least))
    assert np.all((seen >= least) | (seen == best))
    assert float(np.mean(seen >= least)) == pytest.approx(until(judged, least, draws).appropriate)


def test_the_page_says_what_was_measured() -> None:
    plain = Setting(0.0, 1, Until(draws=1.0, appropriate=1.0, trials=9), 0.9, 0.8, 0.01, 1.0)
    better = Setting(0.5, 3, Until(draws=1.25, appropriate=0.5, trials=9), 1.0, 0.95, 0.01, 0.9)
    page = "\n".join(parts_of(Config(), [plain, better], 8))
    assert "| 0.5 | 3 | 1.250 | 50.00 | 20.00 | 100.00 | 95.00 ± 1.00 | 0.90 |" in page
    assert "80.00% as they were meant, and at best 95.00%" in page
    page = "\n".join(parts_of(Config(), [better._replace(accepted_at=0.0, draws=1), plain], 8))
    assert "95.00% as they were meant, and no setting does better." in page


@pytest.mark.slow
def test_the_study_in_small_writes_its_page(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("best-of")
    assert "smoke run" in (folder / "page.md").read_text(encoding="utf-8")
    with (folder / "best-of.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert all(float(row["draws"]) <= float(row["draws_max"]) for row in rows)
    assert (folder / "best-of.png").stat().st_size > 5000
