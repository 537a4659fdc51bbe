"""The audit: what it promises of every equilibrium, that it can say no, and gains from lying."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg import audit
from edgepact.mechanisms.stackelberg.audit import Audit, audit_price, largest_gain_from_lying
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome, settle
from edgepact.mechanisms.stackelberg.terms import Game
from tests.strategies import games


def alike(devices: int, *, price_max: float = 6.0) -> Game:
    column = np.ones(devices)
    fleet = Fleet(alpha=10.0 * column, capacity=13.0 * column, A=column, B=column)
    return Game(fleet, 100.0, 6.0, 0.0, price_max, 12, integer=False)


@pytest.fixture
def one_liar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all devices are alike, the lies of one are the lies of all."""
    monkeypatch.setattr(audit, "DEVICES_MAX", 2)


@pytest.mark.usefixtures("one_liar")
class TestLying:
    @pytest.mark.parametrize(("devices", "gain"), [(2, 10.36), (5, 3.54), (10, 1.67), (50, 0.32)])
    def test_finds_nearly_the_best_lie_about_alpha(self, devices: int, gain: float) -> None:
        game = alike(devices)
        found, tried = largest_gain_from_lying(game, equilibrium(game))
        assert 0.97 * gain <= found <= 1.5 * gain
        assert tried > 0

    def test_nothing_to_gain_where_the_price_is_given(self) -> None:
        game = Game(alike(3).fleet, 100.0, 6.0, 2.0, 2.0, 12, integer=False)
        assert largest_gain_from_lying(game, equilibrium(game))[0] == 0.0

    @pytest.mark.slow
    @pytest.mark.parametrize("integer", [False, True])
    def test_in_a_crowd_as_by_solving(self, integer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """The shortcut for a crowd misses little of what solving every lie anew finds."""
        draws = np.random.default_rng(3)
        size = audit.CROWD
        fleet = Fleet(
            draws.uniform(2, 6, size), draws.uniform(8, 14, size), np.ones(size), np.ones(size)
        )
        game = Game(fleet, 100.0, 1.0, 0.05, 3.0, 12, integer)
        result = equilibrium(game)
        in_crowd, _ = largest_gain_from_lying(game, result)
        monkeypatch.setattr(audit, "CROWD", size + 1)
        solved, _ = largest_gain_from_lying(game, result)
        assert in_crowd == pytest.approx(solved, abs=1e-4 * float(result.device_utility.mean()))


@pytest.fixture(scope="class")
def few_lies() -> Iterator[None]:
    """Searching for lies takes long where other promises are looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "COARSE", 2)
        patch.setattr(audit, "STARTS", 0)
        yield


@pytest.mark.usefixtures("few_lies")
class TestPromises:
    @given(games(devices_max=4))
    @settings(max_examples=25)
    def test_hold_at_every_equilibrium(self, game: Game) -> None:
        # A server that is forced to post more than a layer saves it cannot keep them.
        if game.price_min > 0.0:
            game = Game(**(_fields(game) | {"price_min": 0.0}))
        found = audit_price(game, equilibrium(game))
        assert found.individually_rational
        assert found.budget_balanced

    @given(st.integers(1, 5), st.floats(6.1, 12.0))
    @settings(max_examples=20)
    def test_a_price_above_the_saving_is_found_out(self, devices: int, price: float) -> None:
        game = alike(devices, price_max=12.0)
        found = audit_price(game, outcome(game, np.float64(price)))
        assert not found.budget_balanced
        assert not found.individually_rational, "the server would do better without"

    def test_devices_made_to_work_for_too_little_are_found_out(self) -> None:
        game = alike(3)
        found = audit_price(game, settle(game, np.float64(0.1), np.full(3, 10.0)))
        assert not found.individually_rational
        assert found.budget_balanced


def test_as_json() -> None:
    found = Audit(
        individually_rational=True,
        budget_balanced=False,
        largest_gain_from_lying=1.5,
        lies_tried=3,
    )
    assert found.as_json() == {
        "individually_rational": True,
        "budget_balanced": False,
        "largest_gain_from_lying": 1.5,
    }


def _fields(game: Game) -> dict:
    return {name: getattr(game, name) for name in game.__dataclass_fields__}
