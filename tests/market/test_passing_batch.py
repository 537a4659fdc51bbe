"""The order of work: bounds and fairness in virtual time, and examples of who joins whom."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edgepact.market.passing_batch import ALONE, Member, PassingBatch, Step

STAGES = 6


@dataclass(frozen=True)
class Arrival:
    who: str
    stage: int
    at_s: float


@dataclass(frozen=True)
class Done:
    arrival: int
    end_s: float


class Simulated:
    """A core in virtual time: a stage takes `base_s` and something for each piece."""

    def __init__(self, *, size_max: int, wait_s: float, base_s: float, each_s: float) -> None:
        self.batch: PassingBatch[int] = PassingBatch(
            stages=STAGES, size_max=size_max, wait_s=wait_s
        )
        self.size_max, self.wait_s = size_max, wait_s
        self.base_s, self.each_s = base_s, each_s
        self.now_s = 0.0
        self.done: list[Done] = []
        self.entered: list[int] = []
        self.passed_over_s: dict[int, float] = defaultdict(float)
        self.passed: dict[int, list[int]] = defaultdict(list)
        self.sizes: list[int] = []

    def play(self, arrivals: Sequence[Arrival]) -> None:
        """Lets all arrive, first come first in, and works until nobody is left."""
        left = sorted(range(len(arrivals)), key=lambda at: arrivals[at].at_s)
        while left or len(self.batch):
            left = self._enter(left, arrivals)
            step = self.batch.step(self.now_s)
            if step is None:
                # Nobody is there, so nobody can have been waiting.
                self.now_s = arrivals[left[0]].at_s
                continue
            self._take(step, left, arrivals)

    def _enter(self, left: list[int], arrivals: Sequence[Arrival]) -> list[int]:
        while left and self.batch.room > 0 and arrivals[left[0]].at_s <= self.now_s:
            arrival = arrivals[left[0]]
            self.batch.enter(arrival.who, left[0], arrival.stage, self.now_s)
            self.entered.append(left[0])
            left = left[1:]
        assert len(self.batch) <= self.size_max
        return left

    def _take(self, step: Step[int], left: Sequence[int], arrivals: Sequence[Arrival]) -> None:
        begun_s = self.now_s
        assert step.members
        self.sizes.append(len(step.members))
        reached = step.start
        while True:
            self.now_s += self.base_s + self.each_s * len(step.members)
            if step.start == ALONE:
                reached = step.stop
                break
            for member in step.members:
                assert member.stage == step.start
                self.passed[member.what].append(reached)
            reached += 1
            newcomers = bool(left) and arrivals[left[0]].at_s <= self.now_s
            if reached == step.stop or self.now_s >= step.until_s:
                break
            if newcomers and self.batch.room > 0:
                break
        self._check_order(step)
        took_s = self.now_s - begun_s
        places = [self.entered.index(member.what) for member in step.members]
        for member in self.batch:
            # Passed over: neither it nor anybody who entered before it was served.
            if self.entered.index(member.what) < min(places):
                self.passed_over_s[member.what] += took_s
        through = self.batch.moved(step, reached)
        assert bool(through) == (reached == STAGES)
        self.done += [Done(arrival=member.what, end_s=self.now_s) for member in through]

    def _check_order(self, step: Step[int]) -> None:
        """Nobody passes while an earlier one of the same device is further back."""
        served = set(step.members)
        earlier: list[Member[int]] = []
        for member in self.batch:
            if member in served:
                assert not any(
                    each.who == member.who and each.stage < step.start and each not in served
                    for each in earlier
                )
            earlier.append(member)


arrivals = st.lists(
    st.builds(
        Arrival,
        who=st.sampled_from("abc"),
        stage=st.sampled_from([ALONE, *range(STAGES)]),
        at_s=st.integers(0, 40).map(lambda k: k / 4),
    ),
    max_size=30,
)
waits_s = st.sampled_from([0.0, 0.5, 2.0, 7.0, 1000.0])


@given(arrivals, st.integers(1, 8), waits_s, st.sampled_from([0.25, 1.0]))
def test_all_are_served_in_bounds(
    arrivals: list[Arrival], size_max: int, wait_s: float, each_s: float
) -> None:
    core = Simulated(size_max=size_max, wait_s=wait_s, base_s=1.0, each_s=each_s)
    core.play(arrivals)
    # All are served, once, and each passes exactly its own stages in order.
    assert sorted(done.arrival for done in core.done) == list(range(len(arrivals)))
    for at, arrival in enumerate(arrivals):
        own = [] if arrival.stage == ALONE else list(range(arrival.stage, STAGES))
        assert core.passed[at] == own
    # The batch is bounded.
    assert all(1 <= size <= size_max for size in core.sizes)
    # Nobody is passed over for longer than the budget, but for the stage that ends with it.
    longest_stage_s = 1.0 + each_s * size_max
    for passed_s in core.passed_over_s.values():
        assert passed_s <= wait_s + longest_stage_s + 1e-9


@given(arrivals, st.integers(1, 8), waits_s)
def test_a_device_is_served_in_order(arrivals: list[Arrival], size_max: int, wait_s: float) -> None:
    core = Simulated(size_max=size_max, wait_s=wait_s, base_s=1.0, each_s=0.5)
    core.play(arrivals)
    end_s = {done.arrival: done.end_s for done in core.done}
    for who in "abc":
        own = [at for at in core.entered if arrivals[at].who == who]
        ends = [end_s[at] for at in own]
        assert ends == sorted(ends)


@given(arrivals, waits_s)
def test_without_room_for_two_it_is_a_queue(arrivals: list[Arrival], wait_s: float) -> None:
    core = Simulated(size_max=1, wait_s=wait_s, base_s=1.0, each_s=0.5)
    core.play(arrivals)
    assert [done.arrival for done in core.done] == core.entered


@given(arrivals, st.integers(1, 8))
def test_without_patience_those_before_go_first(arrivals: list[Arrival], size_max: int) -> None:
    core = Simulated(size_max=size_max, wait_s=0.0, base_s=1.0, each_s=0.5)
    core.play(arrivals)
    assert not core.passed_over_s  # nobody, not for a single stage


def batch(*stages: int, wait_s: float = 10.0) -> PassingBatch[int]:
    found: PassingBatch[int] = PassingBatch(stages=STAGES, size_max=8, wait_s=wait_s)
    for at, stage in enumerate(stages):
        found.enter(f"cam-{at}", at, stage, 0.0)
    return found


def told(step: Step[int] | None) -> tuple[list[int], int, int, float]:
    assert step is not None
    return [member.what for member in step.members], step.start, step.stop, step.until_s


def test_a_batch_takes_along_who_waits_and_all_end_together() -> None:
    pieces = batch(5, 0, 2)
    first = pieces.step(0.0)
    assert first is not None
    # From the lowest stage to the next at which somebody waits, while the oldest has patience.
    assert told(first) == ([1], 0, 2, 10.0)
    assert pieces.moved(first, 2) == ()
    second = pieces.step(1.0)
    assert second is not None
    assert told(second) == ([1, 2], 2, 5, 10.0)
    assert pieces.moved(second, 5) == ()
    third = pieces.step(2.0)
    assert third is not None
    assert told(third) == ([0, 1, 2], 5, STAGES, math.inf)
    assert [member.what for member in pieces.moved(third, STAGES)] == [0, 1, 2]
    assert pieces.step(3.0) is None


def test_who_has_waited_long_enough_goes_before_the_batch() -> None:
    pieces = batch(5, 0)
    first = pieces.step(0.0)
    assert first is not None
    pieces.moved(first, 1)
    # Within its patience the batch goes on; beyond it the piece goes, and nobody waits for it.
    assert told(pieces.step(9.9)) == ([1], 1, 5, 10.0)
    overdue = pieces.step(10.0)
    assert overdue is not None
    assert told(overdue) == ([0], 5, STAGES, math.inf)
    pieces.moved(overdue, STAGES)
    assert told(pieces.step(11.0)) == ([1], 1, STAGES, math.inf)


def test_the_batch_does_not_wait_for_who_comes_after_it() -> None:
    pieces = batch(2)
    first = pieces.step(0.0)
    assert first is not None
    pieces.moved(first, 3)
    pieces.enter("late", 7, 0, 1.0)
    pieces.enter("ahead", 8, 4, 1.0)
    second = pieces.step(1.0)
    assert second is not None
    assert told(second) == ([0], 3, 4, math.inf)
    pieces.moved(second, 4)
    assert told(pieces.step(1.5)) == ([0, 8], 4, STAGES, math.inf)


def test_work_without_stages_goes_alone_and_when_its_turn_has_come() -> None:
    pieces = batch(3, wait_s=10.0)
    first = pieces.step(0.0)
    assert first is not None
    pieces.moved(first, 4)
    pieces.enter("auditor", 9, ALONE, 0.0)
    assert told(pieces.step(1.0)) == ([0], 4, STAGES, math.inf)
    last = pieces.step(1.0)
    assert last is not None
    pieces.moved(last, STAGES)
    alone = pieces.step(2.0)
    assert alone is not None
    assert told(alone) == ([9], ALONE, STAGES, math.inf)
    assert [member.what for member in pieces.moved(alone, STAGES)] == [9]
