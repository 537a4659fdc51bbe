"""The study of learnt auctions: how it measures, and that it runs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepact.mechanisms.auction.tariffs import no_fee, sell
from edgepact.studies import auctions

TWO = "2 bidders, 2 items, additive on [0, 1]"


def test_selling_separately_measures_as_theory_says() -> None:
    config = replace(auctions.config_for(True), samples=40_000)
    setting = auctions.SETTINGS[TWO]
    found = auctions.measure(lambda bids: sell(no_fee(0.5), bids), setting, config)
    # It is one of the control variates itself, so nothing is left to chance.
    assert found.revenue == pytest.approx(setting.known[auctions.SEPARATELY], abs=1e-9)
    assert found.error < 1e-9
    assert found.worst <= 1e-12
    assert found.lost == 0.0


def test_control_variates_leave_the_mean_alone_and_take_from_the_error() -> None:
    config = replace(auctions.config_for(True), samples=60_000)
    setting = auctions.SETTINGS[TWO]
    found = auctions.measure(lambda bids: sell(no_fee(0.4), bids), setting, config)
    rng = np.random.default_rng(7)
    plain = sell(no_fee(0.4), setting.values(rng, 60_000)).payments.sum(1)
    error = plain.std() / np.sqrt(len(plain))
    assert abs(found.revenue - plain.mean()) < 4 * error
    assert found.error < 0.7 * error


def test_theory_of_separate_items() -> None:
    assert auctions.best_for_one_item(1) == pytest.approx(0.25)
    assert auctions.best_for_one_item(3) == pytest.approx(0.53125)


@pytest.mark.slow
def test_in_small(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("auctions")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["several_items"]) == set(auctions.SMOKED)
    for ways in metrics["several_items"].values():
        for name, each in ways["auctions"].items():
            assert each["sold"] <= 1.0 + 1e-6
            if name != auctions.REGRETNET:
                assert each["worst"] <= 1e-9
                assert each["lost"] <= 1e-12
    assert (folder / "auctions.png").stat().st_size > 10_000
    assert "smoke run" in (folder / "page.md").read_text()


def test_bounds_lie_above_all_that_is_known() -> None:
    config = replace(auctions.config_for(True), cells=8, flows=20_000)
    for setting in auctions.SETTINGS.values():
        bound = auctions.bound_of(setting, config)
        assert bound is not None
        earned = [*setting.known.values(), *([setting.optimum] if setting.optimum else [])]
        assert all(amount < bound.revenue + 2.0 * bound.error for amount in earned)
    unknown = auctions.SETTINGS[TWO]._replace(items=3, demand="unit")
    assert auctions.bound_of(unknown, config) is None


def test_the_page_says_what_is_behind_and_what_draws_no_lots() -> None:
    nothing = auctions.Measured(0.0, 1e-4, 0.0, 0.0, None, None, 0.0, 1.0, 0.0)
    ways = {
        auctions.MENU: nothing._replace(revenue=0.8, lots=0.04),
        auctions.THREE_BOOSTS: nothing._replace(revenue=0.8),
        auctions.TARIFFS: nothing._replace(revenue=0.9),
        auctions.THREE_TARIFFS: nothing._replace(revenue=0.85),
    }
    config = auctions.config_for(True)
    said = "\n".join(auctions._page_of_items({TWO: ways}, {TWO: None}, config))
    assert "*menu, learnt* earns 0.800, **less than items sold separately" in said
    assert "*tariffs set by rivals, learnt* earns 0.900, **less" not in said
    assert "three numbers that draw no lots earn as much" in said
    assert "none known" in said
    bound = auctions.Bound(0.95, 0.0, 0.001, "linear program")
    plain = {auctions.MENU: nothing._replace(revenue=0.9)}
    said = "\n".join(auctions._page_of_items({TWO: plain}, {TWO: bound}, config))
    assert "in truth a deterministic auction" in said
    assert "94.74" in said


def proposals() -> auctions.Proposals:
    """Two seeds of PPO and GDM, and what stands beside them, on four priors."""
    base = np.array([[0.97, 0.98, 0.99, 0.98]])
    unseen = {
        "GDM": np.repeat(base - 0.01, 2, axis=0),
        "PPO": np.repeat(base, 2, axis=0),
        auctions.GENERATED: base + 0.75 * (1.0 - base),
        auctions.HISTOGRAM: base + 0.001,
        auctions.BAYES: np.ones((1, 4)),
        auctions.MYERSON: base,
    }
    left_out = {name: each - 0.1 for name, each in unseen.items() if name != auctions.MYERSON}
    lazy = left_out | {"GDM": np.ones((2, 4))}
    anchors = {"uniform": {"optimum": 0.5} | {name: 0.9 for name in unseen}}
    return auctions.Proposals(unseen, left_out, lazy, anchors, np.ones((12, 2)))


def test_the_page_says_how_much_of_the_gap_is_closed_and_where_learners_win() -> None:
    found = proposals()
    ratio, error = auctions.closed(found)
    assert ratio == pytest.approx(0.75)
    assert error == pytest.approx(0.0, abs=1e-12)
    said = "\n".join(auctions._page_of_proposals(found, auctions.config_for(True)))
    assert "closes 75.00 ± 0.00 % of the gap" in said
    assert "GDM on unseen priors, own past bids left out, sold lazily. Where not less" in said
    assert "by two standard errors: nowhere." in said


def test_generated_distributions_earn_more_than_a_histogram_on_other_forms() -> None:
    config = replace(auctions.config_for(True), contexts=16)
    for found in auctions.on_other_forms(config):
        ahead = found.shares[auctions.GENERATED] - found.shares[auctions.HISTOGRAM]
        assert np.all(found.shares[auctions.GENERATED] <= 1.0 + 1e-5)
        assert ahead.mean() > 0.0
