"""Quotes of a live market without its processes."""

from pathlib import Path

import numpy as np

from edgepact.files.stackelberg import read_game
from edgepact.solvers.in_context.rehearsal import quoted
from edgepact.studies.live_quotes import live_example, play_live, run_market

EXAMPLE = Path(__file__).parents[2] / "examples" / "live.toml"


def test_the_example_is_that_of_the_file() -> None:
    ours, written = live_example(), read_game(EXAMPLE)
    assert ours.names == written.names
    for name in ("alpha", "capacity", "A", "B"):
        one, other = (np.asarray(getattr(each.game.fleet, name)) for each in (ours, written))
        np.testing.assert_array_equal(one, other)
    for name in ("revenue", "beta", "price_min", "price_max", "layers_max", "integer"):
        assert getattr(ours.game, name) == getattr(written.game, name), name
    assert ours.game.satisfaction.name == written.game.satisfaction.name


def test_a_live_market_quotes_as_a_rehearsal_does_but_for_whole_microcredits() -> None:
    market = live_example()
    shares = play_live(market, rounds=3, seed=4)
    met = quoted(market.game, rounds=3, seed=4, source="live", names=market.names)
    assert np.all(shares <= 1.0 + 1e-9)
    gain = np.asarray(met.rounds.server_utility) + 3 * 12 * 1221.0 * 0.000819 - 60.0
    best = float(met.best.server_utility) + 3 * 12 * 1221.0 * 0.000819 - 60.0
    np.testing.assert_allclose(shares[:2], gain[:2] / best, atol=1e-3)


def test_the_devices_of_a_run_follow_from_its_seed() -> None:
    one, same, other = run_market(1), run_market(1), run_market(2)
    assert np.array_equal(one.game.fleet.alpha, same.game.fleet.alpha)
    assert not np.array_equal(one.game.fleet.alpha, other.game.fleet.alpha)
