"""What anybody may have in hand, who displaces whom, and whose turn it is."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.market.bounds import Bounds, Crowded
from edgepact.market.connections import Room
from edgepact.market.fair_queue import FairQueue
from edgepact.market.json_bounds import LISTS_MAX, VALUES_MAX, check_json
from edgepact.market.rates import Rate


def test_requests_of_one_are_bounded_and_given_back() -> None:
    bounds = Bounds(requests_max=1)
    with bounds.place("a"), bounds.place("b"):
        with pytest.raises(Crowded) as refused, bounds.place("a"):
            pass
        assert refused.value.own
    with bounds.place("a"):
        pass


def test_bytes_are_bounded_for_one_and_for_all() -> None:
    bounds = Bounds(bytes_max=10, bytes_total_max=15)
    with bounds.place("a") as a, bounds.place("b") as b:
        a.take(10)
        with pytest.raises(Crowded):
            a.take(1)
        b.take(5)
        with pytest.raises(Crowded):
            b.take(1)
    assert bounds.bytes_total == 0
    with bounds.place("b") as b:
        b.take(10)


def test_a_rate_is_kept_in_any_span_of_time() -> None:
    now = [0.0]
    rate = Rate(per_s=2.0, burst=4.0, clock=lambda: now[0])
    for _ in range(4):
        assert rate.wait_s("a") == 0
        rate.take("a")
    assert rate.wait_s("a") == 0.5
    assert rate.wait_s("b") == 0, "nobody pays for another"
    now[0] = 0.5
    assert rate.wait_s("a") == 0
    rate.take("a", 5)  # a body that is larger than what is left
    assert rate.wait_s("a") == 2.5
    now[0] = 1e6
    assert rate.wait_s("a") == 0
    rate.take("a", 4)
    assert rate.wait_s("a") == 0.5, "no more than a burst is saved up"


@given(st.lists(st.floats(0, 3), min_size=1, max_size=50))
def test_nobody_gets_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    now = [0.0]
    rate = Rate(per_s=2.0, burst=4.0, clock=lambda: now[0])
    taken = 0
    for pause in pauses:
        now[0] += pause
        while rate.wait_s("a") == 0:
            rate.take("a")
            taken += 1
    assert taken <= 4 + 2 * now[0]


def test_buckets_take_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepact.market.rates.ASKERS_MAX", 3)
    rate = Rate(per_s=1.0, burst=1.0)
    for who in "abcd":
        rate.take(who)
    assert len(rate._left) == 3


def test_requests_and_bytes_in_a_time_are_told_when_to_come_back() -> None:
    now = [0.0]
    slow = Rate(per_s=0.5, burst=1.0, clock=lambda: now[0])
    bounds = Bounds(requests=slow, bytes=Rate(per_s=10.0, burst=10.0, clock=lambda: now[0]))
    with bounds.place("a") as place:
        place.take(60)
    with pytest.raises(Crowded) as refused, bounds.place("a"):
        pass
    assert (refused.value.own, refused.value.after_s) == (True, 2.0)
    now[0] = 2.0
    with pytest.raises(Crowded, match="bytes a second") as refused, bounds.place("a"):
        pass
    now[0] += refused.value.after_s
    with bounds.place("a"):
        pass


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "work", "wait", "know", "leave"]),
        st.integers(0, 7),
        st.sampled_from("ab"),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_group_and_not_all_together_are_ever_too_many(
    steps: list[tuple[str, int, str]],
) -> None:
    room = Room[int](total_max=4, group_max=3)
    there: dict[int, str] = {}
    working: set[int] = set()
    for step, who, group in steps:
        if step == "enter" and who not in there:
            admitted, gone = room.enter(who, group)
            if gone is not None:
                assert gone not in working, "who is at work is not displaced"
                del there[gone]
            if admitted:
                there[who] = f"address {group}"
            else:
                own = [each for each, at in there.items() if at == f"address {group}"]
                full = own if len(own) == 3 else list(there)
                assert set(full) <= working, "refused only where all are at work"
        elif who not in there:
            continue
        elif step == "work":
            room.work(who)
            working.add(who)
        elif step == "wait":
            room.wait(who)
            working.discard(who)
        elif step == "know" and who in working:
            if room.know(who, group):
                there[who] = f"device {group}"
        elif step == "leave":
            room.leave(who)
            del there[who]
            working.discard(who)
        assert len(room) == len(there) <= 4
        groups = list(there.values())
        assert all(groups.count(each) <= 3 for each in groups)


def test_turns_go_round_over_those_who_ask() -> None:
    order: list[str] = []

    async def play() -> None:
        queue = FairQueue("test")
        begun, begin = threading.Event(), threading.Event()
        first = asyncio.create_task(queue.run("greedy", lambda: (begun.set(), begin.wait())))
        await asyncio.to_thread(begun.wait)
        calls = [
            asyncio.create_task(queue.run(who, lambda who=who: order.append(who)))
            for who in ["greedy"] * 4 + ["modest", "other", "modest"]
        ]
        await asyncio.sleep(0)
        begin.set()
        await asyncio.gather(first, *calls)
        with pytest.raises(ZeroDivisionError):
            await queue.run("greedy", lambda: 1 // 0)
        queue.close()

    asyncio.run(play())
    assert order == ["greedy", "modest", "other", "greedy", "modest", "greedy", "greedy"]


@pytest.mark.parametrize("text", [b"[]", b"{", b"1"])
def test_json_bombs_are_counted(text: bytes) -> None:
    check_json("x", text + b",1" * 1000)
    with pytest.raises(InputError, match="at most"):
        check_json("x", text + b",[]" * LISTS_MAX + b"[")
    with pytest.raises(InputError, match="binary"):
        check_json("x", text + b",1" * VALUES_MAX + b",")
