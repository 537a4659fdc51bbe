"""The study of capacity: its arithmetic, and that it runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepact.studies.capacity import Config, Costs, Waiting, draw, line, need, predicted
from edgepact.studies.queueing import group_response, shared_response

COSTS = Costs(
    capacity=500.0,
    cpu_ms=1.5,
    whole_cpu_ms=2.0,
    compute_ms=0.5,
    up_bytes=1000.0,
    down_bytes=500.0,
    ledger_bytes=400.0,
    disk_bytes=4000.0,
    device_bytes=10_000.0,
    server_bytes=1e8,
    write_fixed_ms=4.0,
    write_each_ms=0.2,
)


def test_needs_are_in_proportion_and_bound_by_what_is_short() -> None:
    config = Config(period_s=10.0, busy=0.5, connections=1000)
    few = need(1000, COSTS, config)
    assert (few.rate, few.processes) == (100.0, 1)
    assert few.cores == pytest.approx(100.0 * 2.5e-3 / 0.5)
    assert few.megabits == pytest.approx(100.0 * 1500 * 8e-6)
    many = need(1_000_000, COSTS, config)
    # 100,000 pieces a second are 400 processes, but a process takes 1,000 devices.
    assert many.processes == 1000
    assert need(1_000_000, COSTS, Config(busy=0.5, connections=10**6)).processes == 400
    assert many.disk_gb_day == pytest.approx(1000.0 * few.disk_gb_day)


def test_the_lightest_load_is_fitted_and_the_others_are_not() -> None:
    fixed_s, each_s = 0.004, 0.0002
    own = [
        (
            rate,
            500.0,
            shared_response(1 / 500.0, rate / 500.0) + group_response(rate, fixed_s, each_s),
        )
        for rate in (50.0, 250.0, 400.0)
    ]
    shifted = [(rate, capacity, 0.003 + wait_s) for rate, capacity, wait_s in own]
    assert predicted(shifted, fixed_s, each_s) == pytest.approx([each[2] for each in shifted])


def test_the_line_through_writes() -> None:
    assert line([(1, 0.0042), (10, 0.006), (100, 0.024)]) == pytest.approx((0.004, 0.0002))


def test_the_picture_says_what_was_found_and_less_waiting_is_further_up() -> None:
    waits = [
        Waiting(load, 500.0 * load, 500.0, wait_ms, *(wait_ms + each for each in (-2, -1, 1, 9)),
                predicted_ms=10.0, group=2.0)
        for load, wait_ms in ((0.2, 10.0), (0.5, 12.0), (0.9, 35.0))
    ]  # fmt: skip
    figure = draw(COSTS, waits, [(1, 0.004), (64, 0.02)])
    left, right = figure.axes
    assert left.get_title() == "at 90% of the capacity a piece waits\n3.5 times as long as at 20%"
    assert right.get_title() == "64 pieces are written in\n5.0 times the time of one"
    for axes in figure.axes:
        assert axes.get_ylim()[0] > axes.get_ylim()[1] == 0.0
    assert len(left.collections) == 1


@pytest.mark.slow
def test_it_runs_in_small(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("capacity")
    told = json.loads((folder / "metrics.json").read_text())
    assert told["costs"]["capacity"] > 0
    assert len(told["waiting"]) == 2
    assert [each["devices"] for each in told["needs"]] == [1_000, 100_000, 10_000_000]
    assert (folder / "capacity.png").stat().st_size > 10_000
    assert "A smoke run" in (folder / "page.md").read_text()
