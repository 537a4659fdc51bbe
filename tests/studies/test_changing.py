"""What quoters are shown of fleets that change, how they are scored, and the study in small."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from edgepact.mechanisms.stackelberg.dynamics import Dynamics
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import best_response
from edgepact.solvers.quoter import Known, Quoter
from edgepact.solvers.quoting import play
from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.solvers.search.random_quotes import RandomQuotes
from edgepact.studies.changing import Episode, draw_episode, play_changing
from edgepact.studies.dynamics import (
    EVERYTHING,
    Config,
    Live,
    Shares,
    behind,
    by_episode,
    by_round,
    config_for,
    kinds,
    live_verdicts,
)
from edgepact.studies.methods import GDM, in_context

CHURN = Dynamics(arrivals=1.5, stay=3.0)
both_kinds = pytest.mark.parametrize("integer", [False, True])


def episode(
    dynamics: Dynamics, *, integer: bool = True, rounds: int = 25, seed: int = 3
) -> Episode:
    return draw_episode(dynamics, rounds=rounds, slots=24, seed=seed, integer=integer)


@dataclass(frozen=True)
class Recorder:
    """Posts one price or another, and keeps what it was shown."""

    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False
    shown: list[dict[str, Any]] = field(default_factory=list)

    def quote(
        self,
        seed: int,
        known: Known,
        prices: np.ndarray,
        layers: np.ndarray,
        present: np.ndarray | None = None,
    ) -> float:
        self.shown.append({"known": known, "prices": prices, "layers": layers, "present": present})
        return 0.3 + 0.01 * len(self.shown)


@dataclass(frozen=True)
class ToldOfAbsence(Recorder):
    knows_absence: ClassVar[bool] = True


class TestEpisodes:
    @both_kinds
    def test_a_fleet_that_stays_is_played_as_ever(self, integer: bool) -> None:
        still = episode(Dynamics(), integer=integer)
        first = still.scenes[0]
        assert first is not None
        expected = play(GoldenSection(), [first.game], rounds=25, seed=0)[0]
        met = play_changing(GoldenSection(), still, window=25)
        np.testing.assert_array_equal(met.quoted, expected)
        np.testing.assert_array_equal(met.earned, expected)

    @both_kinds
    def test_the_same_for_everybody_and_from_the_same_seed(self, integer: bool) -> None:
        for one, other in zip(
            episode(EVERYTHING, integer=integer).scenes,
            episode(EVERYTHING, integer=integer).scenes,
            strict=True,
        ):
            if one is None or other is None:
                assert one is other
                continue
            assert np.array_equal(one.game.fleet.capacity, other.game.fleet.capacity)
            assert np.array_equal(one.slots, other.slots)

    def test_both_kinds_of_layers_have_the_same_fleets(self) -> None:
        smooth, whole = (episode(CHURN, integer=integer).scenes for integer in (False, True))
        for one, other in zip(smooth, whole, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert np.array_equal(one.game.fleet.alpha, other.game.fleet.alpha)

    def test_each_round_is_held_to_its_own_optimum(self) -> None:
        scenes = [each for each in episode(EVERYTHING).scenes if each is not None]
        best = [float(equilibrium(each.game).server_utility) for each in scenes]
        assert len({round(each, 6) for each in best}) > 10
        for scene, utility in zip(scenes, best, strict=True):
            assert scene.share(utility) == pytest.approx(1.0)
            assert scene.share(scene.range.zero) == pytest.approx(0.0)

    @pytest.mark.parametrize("name", list(kinds(Config())))
    def test_no_quote_is_worth_more_than_everything(self, name: str) -> None:
        met = play_changing(RandomQuotes(), episode(kinds(Config())[name].dynamics, rounds=8))
        assert np.nanmax(met.quoted) <= 1 + 1e-9
        if name not in ("inertia", "noise", "all together"):
            np.testing.assert_array_equal(met.quoted, met.earned)

    def test_habits_earn_other_than_answers_at_once(self) -> None:
        slow = episode(Dynamics(inertia=0.3))
        met = play_changing(RandomQuotes(), slow)
        assert met.quoted[0] == met.earned[0], "nobody has habits in the first round"
        assert np.all(met.quoted[1:10] != met.earned[1:10])

    def test_rounds_with_nobody_are_not_asked_for(self) -> None:
        sparse = episode(Dynamics(arrivals=0.15, stay=2.0), rounds=40)
        empty = np.array([each is None for each in sparse.scenes])
        assert 5 < empty.sum() < 40
        recorder = Recorder()
        met = play_changing(recorder, sparse)
        assert np.array_equal(np.isnan(met.quoted), empty)
        assert len(recorder.shown) == (~empty).sum()


class TestSight:
    def test_columns_are_the_devices_that_are_here_now(self) -> None:
        changing, recorder = episode(CHURN), ToldOfAbsence()
        play_changing(recorder, changing, window=6)
        scenes = [each for each in changing.scenes if each is not None]
        absent = 0
        for scene, shown in zip(scenes, recorder.shown, strict=True):
            devices = len(scene.slots)
            rounds = len(shown["prices"])
            assert shown["known"].devices == devices
            assert shown["layers"].shape == shown["present"].shape == (rounds, devices)
            assert rounds <= 6
            assert not np.any(shown["layers"][~shown["present"]])
            # Who has come stays until it leaves: absence comes first.
            assert np.all(np.diff(shown["present"].astype(int), axis=0) >= 0)
            assert np.all(shown["present"].any(axis=1)), "rounds without any of them say nothing"
            absent += (~shown["present"]).sum()
        assert absent > 50

    def test_answers_are_those_the_device_gave(self) -> None:
        changing, recorder = episode(CHURN), ToldOfAbsence()
        met = play_changing(recorder, changing, window=25)
        last = changing.scenes[-1]
        assert last is not None
        shown = recorder.shown[-1]
        for column in range(len(last.slots)):
            own = replace(last.game, fleet=_only(last.game.fleet, column))
            prices = shown["prices"][shown["present"][:, column]]
            expected = best_response(own, prices)[:, 0]
            assert np.array_equal(shown["layers"][shown["present"][:, column], column], expected)
        assert np.all(np.isin(shown["prices"], met.price))

    def test_others_are_given_the_mean_of_those_who_were_there(self) -> None:
        changing = episode(CHURN)
        told, filled_in = ToldOfAbsence(), Recorder()
        for recorder in (told, filled_in):
            play_changing(recorder, changing, window=25)
        checked = 0
        for one, other in zip(told.shown[1:], filled_in.shown[1:], strict=True):
            assert other["present"] is None
            rounds = np.isin(other["prices"], one["prices"])
            same = other["layers"][rounds]
            np.testing.assert_array_equal(same[one["present"]], one["layers"][one["present"]])
            assert np.all(other["layers"] == np.floor(other["layers"]))
            missing = ~one["present"]
            # One value a round, for all who are missing.
            for row, gone in zip(same, missing, strict=True):
                checked += gone.sum()
                assert len(set(row[gone])) <= 1
        assert checked > 50

    def test_the_gdm_in_context_is_told_of_absence(self) -> None:
        quoter: Quoter = in_context()
        assert quoter.knows_absence
        met = play_changing(quoter, episode(CHURN, rounds=10))
        assert np.nanmean(met.quoted) > 0.7


def test_means_leave_out_rounds_with_nobody() -> None:
    nan = np.nan
    shares = np.array([[0.5, nan, 0.7], [nan, nan, nan], [0.1, nan, nan]])
    np.testing.assert_allclose(by_episode(shares), [0.6, 0.1])
    mean, error = by_round(shares)
    np.testing.assert_allclose(mean, [0.3, nan, 0.7])
    np.testing.assert_allclose(error[0], np.std([0.5, 0.1], ddof=1) / np.sqrt(2))


class TestMarks:
    def of(self, **means: float) -> dict[str, Shares]:
        apart = np.array([[-0.01], [0.0], [0.01]])
        return {name: Shares(mean + apart, mean + apart) for name, mean in means.items()}

    def test_who_is_told_the_form_does_not_count(self) -> None:
        shares = self.of(told=0.99, rival=0.90) | {GDM: self.of(own=0.95)["own"]}
        found = behind(shares, frozenset({"told"}), slice(None))
        assert found.first == GDM
        assert found.behind == 0.0
        assert found.reached

    @pytest.mark.parametrize(("rival", "reached"), [(0.955, True), (0.956, False)])
    def test_within_one_standard_error_of_the_first(self, rival: float, reached: bool) -> None:
        shares = self.of(rival=rival) | {GDM: self.of(own=0.95)["own"]}
        found = behind(shares, frozenset(), slice(None))
        assert found.first == "rival"
        assert found.error == pytest.approx(0.01 / np.sqrt(3))
        assert found.reached == reached

    def test_live_quotes_are_held_to_their_own_best(self) -> None:
        config = Config(runs=2, run_rounds=12, still_rounds=14)
        runs, example = np.full((2, 14), 0.99), np.full((2, 14), 0.95)
        example[1, 12:] = np.nan
        found = live_verdicts(Live(runs, example), config)
        assert [each.reached for each in found] == [True] * 5
        runs[1, :2] = 0.0  # the beginning is free
        runs[0, 2:4] = 0.95
        runs[1, 12] = 0.97
        example[1, 11] = 0.89
        example[0, 12] = 0.945
        found = live_verdicts(Live(runs, example), config)
        assert [each.reached for each in found] == [False, True, False, False, True]


@pytest.mark.slow
def test_the_study_in_small(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("dynamics")
    figures = json.loads((folder / "metrics.json").read_text())["changes"]
    assert list(figures) == list(kinds(Config()))
    methods = set(figures["still"]["integer"])
    assert "GDM in context" in methods
    rows = list(csv.DictReader((folder / "curves.csv").read_text().splitlines()))
    rounds = config_for(True).rounds
    assert len(rows) == len(figures) * 2 * len(methods) * rounds
    assert (folder / "dynamics.png").stat().st_size > 10_000
    page = (folder / "page.md").read_text()
    assert "edgepact study dynamics --smoke" in page
    assert "smoke run" in page
    assert "| still | reached: " in page or "| still | **missed**: " in page
    assert "`examples/live.toml`, seed 0: worst quote from 3 on" in page


def _only(fleet: Any, column: int) -> Any:
    return jax.tree.map(lambda values: values[column : column + 1], fleet)
