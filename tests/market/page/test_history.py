"""What the page remembers of rounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.engagement import Answer, Item, posted
from edgepact.market.ledger import RoundRecord
from edgepact.market.page.history import MAP_ROUNDS_MAX, POINTS_MAX, History, Load


def record(number: int, units: int = 2, *, amount: int = 3, closed: bool = True) -> RoundRecord:
    """A round in which one device was paid a credit for each unit."""
    return RoundRecord(
        number=number,
        job="echo",
        model="echo",
        digest="",
        question=posted(500_000, 4),
        units_per_device=8,
        engaged=True,
        closed=closed,
        answers={"cam-0": Answer(item=amount - 1), "cam-1": Answer()},
        assigned={"cam-0": Item(amount=float(amount), reward_microcredits=1_000_000)},
        pieces={},
        stages={},
        rates={},
        delivered={"cam-0": units},
        units={"cam-0": units},
        paid_microcredits={"cam-0": units * 1_000_000},
        pending_microcredits={},
    )


def test_a_round_is_told_as_the_ledger_has_it() -> None:
    history = History(worth=lambda amount: 2.0 * amount)
    history.add(record(1, units=5), Load(exchanges=10, compute_s=0.2, bytes_in=30))
    (point,) = history
    told = point.as_json()
    assert (told["price"], told["units"], told["pay"], told["worth"]) == (0.5, 5, 5.0, 30.0)
    assert (told["answered"], told["working"], told["amount"]) == (2, 1, 3.0)
    assert told["compute_ms"] == pytest.approx(20.0)
    assert history.amounts() == {1: {"cam-0": 3, "cam-1": 0}}


def test_a_round_whose_worth_is_not_known_has_none() -> None:
    history = History(worth=lambda amount: None)
    history.add(record(1))
    (point,) = history
    assert point.worth is None
    assert point.pay > 0


def test_a_round_that_is_read_again_is_one_point_with_its_exchanges_counted_once() -> None:
    history = History()
    history.add(record(1, units=1, closed=False))
    history.add(record(1, units=2), Load(exchanges=4))
    history.add(record(1, units=2))
    (point,) = history
    assert (point.units, point.load.exchanges, point.closed, point.worth) == (2, 4, True, None)


@settings(max_examples=6)
@given(count=st.integers(1, 3 * POINTS_MAX))
def test_however_long_a_market_runs_nothing_is_lost_and_little_is_kept(count: int) -> None:
    history = History(worth=lambda amount: 1.0)
    for number in range(1, count + 1):
        history.add(record(number, units=number % 5), Load(exchanges=1))
    points = list(history)
    assert len(points) <= POINTS_MAX
    # They follow each other without a gap, and the newest are single rounds.
    assert [point.first for point in points[1:]] == [point.last + 1 for point in points[:-1]]
    assert (points[0].first, points[-1].last) == (1, count)
    assert all(point.first == point.last for point in points[-min(count, POINTS_MAX // 2) :])
    assert sum(point.units for point in points) == sum(n % 5 for n in range(1, count + 1))
    assert sum(point.load.exchanges for point in points) == count
    assert sum(point.worth or 0.0 for point in points) == sum(point.units for point in points)
    assert len(history.amounts()) == min(count, MAP_ROUNDS_MAX)


def test_a_round_of_long_ago_does_not_come_back_as_a_new_one() -> None:
    history = History()
    for number in range(1, POINTS_MAX + 2):
        history.add(record(number))
    before = list(history)
    history.add(record(1, units=7))
    assert list(history) == before
