"""Searches for a peak, on curves that have one and on fleets."""

from itertools import pairwise

import numpy as np
import pytest

from edgepact.errors import MissingExtraError
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import best_so_far, play, reference_fleets
from edgepact.solvers.search import cma_es
from edgepact.solvers.search.cma_es import CMAES
from edgepact.solvers.search.gaussian_process import GaussianProcess
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.solvers.search.grid import GridSearch
from edgepact.solvers.search.trials import Search

KNOWN = Known(saving=1.0, layers_max=12, price_min=0.05, price_max=3.0, devices=1, integer=False)


def searched(search: Search, peak: float, rounds: int = 60) -> list[float]:
    """Positions tried on a parabola with its peak at a place, until the search ends."""
    trials = search.trials(np.random.default_rng(0))
    tried = [next(trials)]
    for _ in range(rounds):
        try:
            tried.append(trials.send(-((tried[-1] - peak) ** 2)))
        except StopIteration:
            break
    return tried


@pytest.mark.parametrize("peak", [0.02, 0.3, 0.618, 0.9])
class TestOnOnePeak:
    def test_golden_section_closes_in_on_it(self, peak: float) -> None:
        tried = searched(GoldenSection(tolerance=0.01), peak)
        # One trial shrinks the bracket by the golden ratio, two begin.
        assert len(tried) == 2 + int(np.ceil(np.log(0.01) / np.log((np.sqrt(5) - 1) / 2)))
        assert min(abs(each - peak) for each in tried) < 0.01

    def test_cma_es_ends_at_it(self, peak: float) -> None:
        tried = searched(CMAES(), peak, rounds=400)
        assert len(tried) < 400
        assert np.mean(tried[-4:]) == pytest.approx(peak, abs=0.03)

    def test_the_grid_is_tried_once_each(self, peak: float) -> None:
        tried = searched(GridSearch(points=8), peak)
        assert sorted(tried) == pytest.approx((np.arange(8) + 0.5) / 8)
        assert tried[0] == pytest.approx(0.5625)


def test_without_its_library_cma_es_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cma_es, "CMA", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepact\[rivals\]'"):
        CMAES()


def test_a_finished_search_keeps_to_its_best_price() -> None:
    prices = np.array([KNOWN.price_at((i + 0.5) / 8) for i in range(8)])
    layers = np.arange(8.0)[:, None]
    best = prices[np.argmax((1.0 - prices) * layers[:, 0])]
    assert GridSearch(points=8).quote(0, KNOWN, prices, layers) == best


def test_golden_section_finds_99_percent_in_few_quotes() -> None:
    # Devices that are alike have one peak.
    games = [g for g in reference_fleets(11, 60, integer=False) if len(g.fleet) == 1]
    assert games
    shares = best_so_far(play(GoldenSection(), games, rounds=10, seed=0))
    assert np.all(shares[:, -1] > 0.99)


def test_no_search_posts_above_what_a_layer_saves() -> None:
    games = reference_fleets(13, 3, integer=True)
    for quoter in (GridSearch(), GoldenSection(), CMAES(), GaussianProcess()):
        for game in games:
            known = Known.of(game, form=False)
            prices, layers = np.empty(0), np.empty((0, known.devices))
            for _ in range(12):
                price = quoter.quote(0, known, prices, layers)
                assert known.price_min <= price <= known.saving
                prices = np.append(prices, price)
                layers = np.vstack([layers, np.zeros(known.devices)])


def test_positions_are_logarithmic() -> None:
    prices = [KNOWN.price_at(position) for position in (0.0, 0.25, 0.5, 1.0)]
    assert prices[0] == 0.05
    assert prices[-1] == 1.0
    assert all(low < high for low, high in pairwise(prices))
    assert KNOWN.position_of(np.array(prices)) == pytest.approx([0.0, 0.25, 0.5, 1.0])
