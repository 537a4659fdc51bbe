"""The study of cheating: what it reckons is what the theory says, and it runs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepact.inference.models import samples
from edgepact.jobs.classification import find_images
from edgepact.mechanisms.audit_rate import expected_gain
from edgepact.studies import cheating
from edgepact.studies.cheating import FIXED, Found, Power, Rules, derived_rate, interval, reckoned
from edgepact.studies.cheats import CHEATS, HONEST, one_bit_changed
from edgepact.studies.cheats_at_market import write_pictures

CONFIG = replace(cheating.config_for(False), runs=4000)
ONE_ROUND = Rules(None, True, True, 1)


@pytest.mark.parametrize("rate", [None, 0.01, 0.3])
@pytest.mark.parametrize(("kind", "power"), [("random", 1.0), ("random", 0.5), ("one-in-ten", 1.0)])
def test_one_round_is_reckoned_as_in_theory(kind: str, power: float, rate: float | None) -> None:
    cheat, pieces = CHEATS[kind], CONFIG.pieces
    cheated = sum(cheat.is_on(at) for at in range(pieces))
    assert cheated == (1 if kind == "one-in-ten" else pieces)
    used = derived_rate(CONFIG, pieces) if rate is None else rate
    told = {"margin": CONFIG.margin, "reward": 1.0, "least_reward": 1.0, "power": power}
    honest = pieces * CONFIG.margin
    exact = 1 + expected_gain(cheated, used, [1.0] * pieces, **told) / honest
    found = reckoned(cheat, power, ONE_ROUND._replace(rate=rate), CONFIG)
    assert abs(found.mean - exact) < 2.5 * found.half + 1e-9


def test_every_kind_earns_less_at_the_derived_rate_and_more_by_the_rules_of_before() -> None:
    for kind, cheat in CHEATS.items():
        for rounds in (1, CONFIG.rounds):
            rules = ONE_ROUND._replace(rounds=rounds)
            found = reckoned(cheat, 1.0, rules, CONFIG)
            before = reckoned(cheat, 1.0, Rules(FIXED, False, False, rounds), CONFIG)
            if kind == HONEST:
                assert found.mean == before.mean == pytest.approx(1.0)
            else:
                assert found.above < 1.0, kind
                assert before.mean > 1.0, kind


def test_interval_is_that_of_students_t() -> None:
    mean, half = interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0
    assert half == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert interval(np.array([2.0])) == (2.0, 0.0)


def test_pictures_of_devices_are_different_ones(tmp_path: Path) -> None:
    count = len(find_images(samples()))
    files = {
        path.read_bytes()
        for start in (0, count - 3, 2 * count)
        for path in write_pictures(tmp_path / f"{start}", start, 6).iterdir()
    }
    assert len(files) == 18
    image = files.pop()
    copies = {one_bit_changed(image, at) for at in range(50)}
    assert len(copies) == 50
    assert image not in copies


def test_the_picture_has_cheats_that_lose_further_up() -> None:
    config = replace(CONFIG, runs=200)
    powers = {kind: Power(200, 200) for kind, cheat in CHEATS.items() if cheat.every}
    figure = cheating.draw(Found(config, powers, {}, {}))
    left, right = figure.axes
    # The last star is that of the legend.
    drawn = [line.get_ydata() for line in left.lines if line.get_marker() == "*"][:-1]
    stars = [float(at) for line in drawn for at in line]
    assert stars == [pytest.approx(1.0 - row["best"]) for row in cheating.sweep(config)]
    assert all(star > 0.0 for star in stars)
    assert "even the best cheat earns less" in left.get_title()
    fewest = right.get_ylim()
    assert fewest[0] > fewest[1]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [
        "margin 0.5",
        "margin 0.25",
        "margin 0.1",
        "derived rate",
        "random numbers, margin 0.25, reckoned",
    ]


@pytest.mark.slow
def test_in_small(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("cheating")
    metrics = json.loads((folder / "metrics.json").read_text())
    played = metrics["played"]
    assert set(played) == set(CHEATS)
    assert played[HONEST]["ratio"]["mean"] == pytest.approx(1.0)
    assert played[HONEST]["strikes"] == played[HONEST]["refused"] == 0
    for kind in ("replay", "near-replay"):
        assert played[kind]["refused"] > played[kind]["delivered"]
    for power in metrics["power"].values():
        assert power["found"] == power["audits"]
    assert (folder / "cheating.png").stat().st_size > 10_000
    assert "smoke run" in (folder / "page.md").read_text()
    for table in ("curves.csv", "reckoned.csv"):
        assert len((folder / table).read_text().splitlines()) > 10
