"""The study of speed: its marks on made-up times."""

import pytest

from edgepact.solvers.search.golden_section import GoldenSection
from edgepact.studies.methods import GDM
from edgepact.studies.speed import Config, Timing, Training, measure, verdicts


def timing(devices: int, high_ms: float, method: str = GDM) -> Timing:
    return Timing(method, devices, 4, high_ms / 2.0, high_ms / 4.0, high_ms, 5)


def training(step_cpu_s: float) -> Training:
    return Training(30.0, 2.0 * step_cpu_s, 60.0, step_cpu_s, 100, 30_100)


def test_the_slowest_upper_quartile_is_held_to_the_mark() -> None:
    found = [timing(16, 39.0), timing(16, 41.0), timing(1000, 99.0), timing(10_000, 400.0)]
    held = verdicts([*found, timing(1000, 500.0, "golden section")], training(0.01))
    assert [each.reached for each in held] == [False, True, True, True]
    assert held[0].measured == 41.0


def test_training_is_held_to_the_cpu_time_of_its_cores() -> None:
    assert training(0.02).cpu_minutes == pytest.approx(11.0)
    assert training(0.02).minutes == pytest.approx(20.5)
    assert verdicts([], training(0.02))[-1].reached
    assert not verdicts([], training(0.04))[-1].reached


def test_every_situation_is_timed() -> None:
    config = Config(devices=(1, 3), history=(1, 2), turns=3, budget_s=0.0)
    found = measure(config, {"golden section": GoldenSection()})
    assert {(each.devices, each.history) for each in found} == {(1, 1), (1, 2), (3, 1), (3, 2)}
    assert all(0 < each.low_ms <= each.median_ms <= each.high_ms for each in found)
    assert all(each.turns == 3 for each in found)
