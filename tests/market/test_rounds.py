"""The rules of a round, without a clock."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgepact.engagement import NOTHING, Answer, Item, Question, posted
from edgepact.errors import MarketError
from edgepact.market import rounds
from edgepact.market.posted import FixedPrice, price_in_microcredits
from edgepact.market.rounds import Phase, Round, Terms
from edgepact.work import Model
from tests.market.harness import place

TERMS = Terms(
    job="classification",
    model=Model(name="m", amount_max=12),
    units_per_round=2,
    commit_timeout_s=10.0,
    round_timeout_s=60.0,
)
HURRIED = replace(TERMS, wait_share=0.1)
CALL = Question(bid_amounts=(1.0, 3.0))


def item(layers: int) -> Item:
    return Item(amount=float(layers), reward_microcredits=layers)


def answered(round: Round, device: str, layers: int, now_s: float = 0.0) -> Round:
    assigned = item(layers) if layers else NOTHING
    return rounds.answered(round, device, Answer(item=place(layers)), assigned, now_s)


def asked(**layers: int) -> Round:
    round = Round(number=1, question=posted(1, 12), terms=TERMS)
    for device, count in layers.items():
        round = answered(round, device, count)
    return round


def delivered(
    round: Round, device: str, pieces: int = TERMS.units_per_round, *, now_s: float = 0.0
) -> Round:
    for index in range(pieces):
        round = rounds.record(round, device, f"{index}", 1, now_s)
    return round


def test_question_stays_open_until_somebody_answers() -> None:
    assert rounds.advance(asked(), {"a"}, now_s=1e9).phase is Phase.ASKING


def test_work_begins_when_all_awaited_have_answered() -> None:
    round = asked(a=3)
    assert rounds.advance(round, {"a", "b"}, now_s=9.9).phase is Phase.ASKING
    working = rounds.advance(answered(round, "b", 0, 5.0), {"a", "b"}, now_s=5.0)
    assert (working.phase, working.deadline_s) == (Phase.WORKING, 65.0)


def test_work_begins_without_those_who_let_the_time_pass() -> None:
    assert rounds.advance(asked(a=3), {"a", "b"}, now_s=10.0).phase is Phase.WORKING


def test_bids_are_weighed_before_work_begins() -> None:
    calling = Round(number=1, question=CALL, terms=TERMS)
    bids = Answer(bids_microcredits=(1, None))
    one = rounds.answered(calling, "a", bids, None, 0.0)
    with pytest.raises(MarketError, match="waits for its assignment"):
        rounds.admit(one, "a", "0", 1)
    assert rounds.advance(one, {"a", "b"}, now_s=9.9).phase is Phase.ASKING
    for awaited, now_s in (({"a", "b"}, 10.0), ({"a"}, 1.0)):
        weighing = rounds.advance(one, awaited, now_s)
        assert (weighing.phase, weighing.deadline_s) == (Phase.ENGAGING, None)
        assert rounds.advance(weighing, awaited, 1e9).phase is Phase.ENGAGING
        with pytest.raises(MarketError, match="no more answers"):
            rounds.check_answer(weighing, "b", bids)
        working = rounds.engaged(weighing, {"a": NOTHING}, now_s)
        assert (working.phase, working.deadline_s) == (Phase.WORKING, now_s + 60.0)
        rounds.admit(working, "a", "0", 0)


def test_round_closes_when_all_is_delivered() -> None:
    working = rounds.advance(asked(a=3, b=1), {"a", "b"}, now_s=0.0)
    half = delivered(working, "a")
    assert rounds.unfinished(half) == {"b"}
    assert rounds.advance(half, set(), now_s=59.0).phase is Phase.WORKING
    # Units are counted, not pieces.
    whole = rounds.record(half, "b", "long", 2)
    assert rounds.advance(whole, set(), now_s=59.0).phase is Phase.CLOSED


def test_round_closes_when_its_time_is_up() -> None:
    working = rounds.advance(asked(a=3), {"a"}, now_s=0.0)
    assert rounds.advance(working, set(), now_s=60.0).phase is Phase.CLOSED


def test_round_does_not_wait_for_who_has_left() -> None:
    working = rounds.advance(asked(a=3, b=2), {"a", "b"}, now_s=0.0)
    left = rounds.leave(working, "b", now_s=0.0)
    assert rounds.unfinished(left) == {"a"}
    assert rounds.unfinished(rounds.come_back(left, "b")) == {"a", "b"}
    assert rounds.advance(delivered(left, "a"), set(), now_s=1.0).phase is Phase.CLOSED


def test_slower_half_has_some_times_as_long_as_the_faster() -> None:
    working = rounds.advance(asked(a=3, b=2, c=1), {"a", "b", "c"}, now_s=0.0)
    one = rounds.advance(delivered(working, "a"), set(), now_s=1.0)
    assert one.deadline_s == 60.0  # less than half are done
    two = rounds.advance(delivered(one, "b"), set(), now_s=3.0)
    assert two.deadline_s == 3.0 * rounds.SOFT_FACTOR
    later = rounds.advance(two, set(), now_s=10.0)
    assert later.deadline_s == two.deadline_s  # it is not put off
    assert rounds.advance(later, set(), now_s=12.0).phase is Phase.CLOSED


def test_quick_devices_do_not_wait_long_for_those_that_lag() -> None:
    lagging = replace(asked(a=3, b=2), terms=HURRIED, lagging=frozenset({"b", "c"}))
    working = rounds.advance(lagging, {"a", "b", "c"}, now_s=0.0)
    assert working.phase is Phase.WORKING  # c has not answered
    rounds.admit(working, "b", "0", 2)  # it takes part all the same
    waiting = rounds.advance(delivered(working, "a", now_s=10.0), set(), now_s=10.0)
    assert (waiting.phase, waiting.deadline_s) == (Phase.WORKING, 11.0)
    assert rounds.advance(waiting, set(), now_s=10.9).phase is Phase.WORKING
    assert rounds.advance(waiting, set(), now_s=11.0).phase is Phase.CLOSED
    both = rounds.advance(delivered(waiting, "b", now_s=10.5), set(), now_s=10.5)
    assert both.phase is Phase.CLOSED
    # Where all lag they are waited for.
    slow = replace(asked(b=2), terms=HURRIED, lagging=frozenset({"b"}))
    alone = rounds.advance(slow, {"b"}, now_s=0.0)
    assert rounds.advance(alone, set(), now_s=59.0).phase is Phase.WORKING


def test_bids_of_those_that_were_silent_are_not_awaited_for_long() -> None:
    bids = Answer(bids_microcredits=(1, None))
    calling = Round(number=1, question=CALL, terms=TERMS, lagging=frozenset({"b"}))
    one = rounds.advance(rounds.answered(calling, "a", bids, None, 0.0), {"a", "b"}, now_s=1.0)
    assert (one.phase, one.deadline_s) == (Phase.ASKING, 1.0 + 0.2 * TERMS.commit_timeout_s)
    again = rounds.advance(one, {"a", "b"}, now_s=2.0)
    assert again.deadline_s == one.deadline_s
    assert rounds.advance(again, {"a", "b"}, now_s=3.0).phase is Phase.ENGAGING


Evasion = st.sampled_from(["answers", "is silent", "leaves"])


def held_s(round: Round, evasion: str, others: set[str]) -> tuple[Round, float]:
    """A round in which one device evades, and how long those who have answered wait for it."""
    bids = Answer(bids_microcredits=(1, None))
    assigned = None if round.question == CALL else item(1)
    if round.question != CALL:
        bids = Answer(item=place(1))
    for device in others:
        round = rounds.answered(round, device, bids, assigned, 0.0)
    awaited, now_s = others | {"evader"}, 0.0
    round = rounds.advance(round, awaited, now_s)
    while round.phase is Phase.ASKING:
        end_s = round.deadline_s
        assert end_s is not None
        if evasion == "answers":
            round = rounds.answered(round, "evader", bids, assigned, now_s)
        else:
            now_s = end_s
            if evasion == "leaves":
                now_s -= 1e-3  # just in time
                round = rounds.leave(round, "evader", now_s)
        round = rounds.advance(round, awaited, now_s)
    return round, now_s


@given(
    evasions=st.lists(Evasion, min_size=1, max_size=60),
    question=st.sampled_from([CALL, posted(1, 12)]),
    share=st.sampled_from([math.inf, 0.1]),
)
@example(evasions=["leaves"] * 40, question=CALL, share=math.inf)
@example(evasions=["is silent", "answers"] * 20, question=CALL, share=math.inf)
def test_who_lets_questions_pass_does_not_hold_answers_up_again_and_again(
    evasions: list[str], question: Question, share: float
) -> None:
    terms = replace(TERMS, wait_share=share)
    known: dict[str, float] = {}
    whole, waited_s = 0, 0.0
    for number, evasion in enumerate(evasions, 1):
        asked = Round(number=number, question=question, terms=terms, passed=known)
        closed, took_s = held_s(asked, evasion, {"a", "b"})
        if took_s > rounds.ANSWER_SHARE * terms.commit_timeout_s:
            whole += 1
        waited_s += took_s
        known = rounds.passed(closed)
        assert set(known) <= {"evader"}
    # The whole time once in eight rounds; else a fifth of it, then what a bad link takes.
    assert whole <= 1 + len(evasions) // 8
    assert waited_s <= terms.commit_timeout_s * (whole + rounds.ANSWER_SHARE * len(evasions))
    if evasions == ["leaves"] * 40:
        assert waited_s <= terms.commit_timeout_s + 2.0 + rounds.ANSWER_LEAST_S * 38


def test_who_leaves_before_anybody_waits_is_waited_for_as_ever() -> None:
    calling = Round(number=1, question=CALL, terms=TERMS)
    early = rounds.leave(calling, "b", now_s=0.0)
    bids = Answer(bids_microcredits=(1, None))
    one = rounds.answered(early, "a", bids, None, 1.0)
    assert rounds.passed(rounds.advance(one, {"a", "b"}, now_s=1.0)) == {}
    back = rounds.answered(rounds.come_back(one, "b"), "b", bids, None, 2.0)
    assert rounds.passed(rounds.advance(back, {"a", "b"}, now_s=2.0)) == {}


def test_who_takes_longer_than_half_of_the_devices_lags_until_it_keeps_up() -> None:
    working = rounds.advance(
        replace(asked(a=3, b=2, c=1, d=1), terms=HURRIED), {"a", "b", "c", "d"}, now_s=0.0
    )
    round = delivered(delivered(working, "a", now_s=4.0), "b", now_s=4.2)
    round = delivered(round, "c", now_s=8.4)
    round = rounds.record(round, "d", "0", 1, 5.0)  # half of its work: 2 x 8.4 s in all
    first = rounds.paces(round, {"a", "b", "c", "d", "e"}, {}, now_s=8.4)
    assert first == {"a": 4 / 4.2, "b": 1.0, "c": 2.0, "d": 4.0, "e": rounds.PACE_MOST}
    assert rounds.lagging(HURRIED, first) == {"c", "d", "e"}
    assert rounds.lagging(TERMS, first) == set()  # all are waited for alike
    known, left = first, rounds.lagging(HURRIED, first)
    for _ in range(10):
        even = working
        for device in ("a", "b", "c", "d"):
            even = delivered(even, device, now_s=4.0)
        known = rounds.paces(even, {"a", "b", "c", "d"}, known, now_s=4.0)
        assert rounds.lagging(HURRIED, known) <= left
        left = rounds.lagging(HURRIED, known)
    assert left == {"e"}  # it has not been back


@settings(max_examples=20)
@given(
    quick_s=st.lists(st.floats(1.0, 1.1), min_size=3, max_size=6),
    slow_s=st.floats(1.0, 12.0),
)
def test_a_slow_device_holds_the_others_up_by_their_share_and_has_its_turns(
    quick_s: list[float], slow_s: float
) -> None:
    """However short the rounds are. In the first nobody knows yet who is slow."""
    names = [f"q{n}" for n in range(len(quick_s))]
    times = dict(zip(names, quick_s, strict=True)) | {"slow": slow_s}
    known, patience = dict[str, float](), rounds.Patience()
    waited_s, turns, others_s = 0.0, 0, 0.0
    for number in range(1000):
        round = replace(
            asked(**dict.fromkeys(times, 1)),
            terms=HURRIED,
            lagging=rounds.lagging(HURRIED, known),
            patience=patience,
        )
        round, closed_s = played(round, times)
        turns += "slow" in round.pieces
        others_s += max(quick_s)
        if number:
            waited_s += closed_s - max(quick_s)
            assert waited_s <= HURRIED.wait_share * others_s + 1e-9
        known = rounds.paces(round, set(times), known, closed_s)
        patience = rounds.patience(round, closed_s)
        if turns == 3:
            break
    assert turns == 3


@pytest.mark.parametrize("brought", [0, 1])
@pytest.mark.parametrize("slow_s", [1.0, 4.0, 30.0])
def test_none_that_lags_uses_up_the_turn_of_another(brought: int, slow_s: float) -> None:
    """One brings nothing, or one piece, and is never ready; nobody waits longer for that."""
    names = {"quick", "slow", "idle"}
    patience, waited_s, turns = rounds.Patience(), 0.0, 0
    for number in range(1, 3001):
        round = replace(
            asked(quick=1, slow=1, idle=1),
            terms=HURRIED,
            lagging=frozenset({"slow", "idle"}),
            patience=patience,
        )
        round = delivered(rounds.advance(round, names, now_s=0.0), "idle", brought, now_s=0.5)
        round, now_s = rounds.advance(delivered(round, "quick", now_s=1.0), names, 1.0), 1.0
        if round.phase is Phase.WORKING:
            assert round.deadline_s is not None
            if round.deadline_s >= 1.0 + slow_s:
                now_s = 1.0 + slow_s
                round = rounds.advance(delivered(round, "slow", now_s=now_s), names, now_s)
                turns += 1
        if round.phase is Phase.WORKING:
            assert round.deadline_s is not None
            now_s = max(now_s, round.deadline_s)
            round = rounds.advance(round, names, now_s)
        assert round.phase is Phase.CLOSED
        waited_s += now_s - 1.0
        assert waited_s <= HURRIED.wait_share * number + 1e-9
        patience = rounds.patience(round, now_s)
    # Half of what they wait is its own; less where it was waited for again in vain.
    assert turns >= 3000 * HURRIED.wait_share / 4 / slow_s


def test_who_only_says_late_that_it_brings_no_more_was_waited_for() -> None:
    names = {"a", "b", "c", "d"}
    working = rounds.advance(replace(asked(a=1, b=1, c=1, d=1), terms=HURRIED), names, now_s=0.0)
    round = delivered(delivered(working, "a", now_s=2.0), "b", now_s=2.0)
    done = rounds.bring_no_more(round, "c", now_s=7.0)
    gone = rounds.leave(done, "d", now_s=7.9)
    known = rounds.paces(gone, names, {}, now_s=7.9)
    assert rounds.lagging(HURRIED, known) == {"c", "d"}
    # To say so at once proves nothing, and does not count for what others take.
    early = rounds.bring_no_more(rounds.leave(round, "d", now_s=0.1), "c", now_s=0.1)
    after = rounds.paces(early, names, known, now_s=2.0)
    assert after == known
    # Who has come back is waited for as ever.
    back = rounds.come_back(rounds.leave(round, "d", now_s=0.1), "d")
    assert rounds.paces(back, names, {}, now_s=8.0)["d"] == rounds.PACE_MOST


def test_the_idle_do_not_hide_by_being_many() -> None:
    working = rounds.advance(
        replace(asked(a=1, x=1, y=1), terms=HURRIED), {"a", "x", "y"}, now_s=0.0
    )
    closed = delivered(working, "a", now_s=2.0)
    known = rounds.paces(closed, {"a", "x", "y"}, {}, now_s=60.0)
    assert rounds.lagging(HURRIED, known) == {"x", "y"}


def test_nobody_waits_who_has_gone_or_brings_nothing() -> None:
    """Else a quick device that answers, and does nothing more, would end all work of the others."""
    lags = replace(asked(a=1, b=1), terms=HURRIED, lagging=frozenset({"b"}))
    working = rounds.advance(lags, {"a", "b"}, now_s=0.0)
    for ended in (rounds.bring_no_more, rounds.leave):
        still = rounds.advance(ended(working, "a", now_s=0.1), {"a", "b"}, now_s=0.2)
        assert (still.phase, still.deadline_s) == (Phase.WORKING, 60.0)
        assert rounds.advance(delivered(still, "b"), {"b"}, now_s=30.0).phase is Phase.CLOSED
    # One that has brought what it has waits by the share, and is not kept.
    some = delivered(working, "a", 1, now_s=5.0)
    over = rounds.advance(rounds.bring_no_more(some, "a", now_s=10.0), {"a", "b"}, now_s=10.0)
    assert over.deadline_s == 11.0


def played(round: Round, times: dict[str, float]) -> tuple[Round, float]:
    """The round once it is closed, and when: devices deliver all of it at these times."""
    round, now_s = rounds.advance(round, set(times), now_s=0.0), 0.0
    for device, at_s in sorted(times.items(), key=lambda each: each[1]):
        over = round.deadline_s is not None and round.deadline_s < at_s
        if over or round.phase is Phase.CLOSED:
            break
        now_s = at_s
        round = rounds.advance(delivered(round, device, now_s=at_s), set(times), at_s)
    if round.phase is not Phase.CLOSED:
        assert round.deadline_s is not None
        now_s = max(now_s, round.deadline_s)
        round = rounds.advance(round, set(times), now_s)
    assert round.phase is Phase.CLOSED
    return round, now_s


def test_all_delivered_before_the_last_has_answered() -> None:
    early = delivered(asked(a=3), "a")
    assert rounds.advance(early, {"a", "b"}, now_s=0.0).phase is Phase.ASKING
    assert rounds.advance(early, {"a", "b"}, now_s=10.0).phase is Phase.CLOSED


def test_answers_are_checked() -> None:
    round = asked(a=3)
    rounds.check_answer(round, "a", Answer(item=place(3)))
    rounds.check_answer(round, "b", Answer(item=place(12)))
    rounds.check_answer(round, "b", Answer())
    for device, answer in (
        ("a", Answer(item=place(4))),
        ("a", Answer()),
        ("b", Answer(item=12)),
        ("b", Answer(bids_microcredits=(1,))),
    ):
        with pytest.raises(MarketError):
            rounds.check_answer(round, device, answer)
    working = rounds.advance(round, {"a"}, now_s=0.0)
    rounds.check_answer(working, "a", Answer(item=place(3)))
    rounds.check_answer(working, "b", Answer(item=place(3)))  # nobody else waits for it
    closed = rounds.advance(working, set(), now_s=60.0)
    with pytest.raises(MarketError, match="no more answers"):
        rounds.check_answer(closed, "b", Answer(item=place(3)))


def test_pieces_are_admitted_at_the_assigned_amount_only() -> None:
    round = delivered(asked(a=3), "a", pieces=1)
    rounds.admit(round, "a", "0", 3)
    rounds.admit(round, "a", "1", 3)
    full = delivered(round, "a")
    rounds.admit(full, "a", "0", 3)  # known
    closed = rounds.advance(rounds.advance(full, {"a"}, 0.0), {"a"}, 99.0)
    for where, device, piece, layers in (
        (round, "b", "0", 3),
        (round, "a", "1", 2),
        (full, "a", "2", 3),
        (closed, "a", "2", 3),
    ):
        with pytest.raises(MarketError):
            rounds.admit(where, device, piece, layers)


@pytest.mark.parametrize(
    "question",
    [
        posted(1, 13),
        posted(1, 12, 0.5),
        Question(menu=(Item(amount=2.5, reward_microcredits=1),)),
        Question(bid_amounts=(1.0, 13.0)),
    ],
)
def test_mechanism_may_ask_for_whole_steps_that_there_are(question: Question) -> None:
    for possible in (posted(1, 12), CALL, Question()):
        rounds.check_question(possible, TERMS)
    with pytest.raises(MarketError, match="whole ones to 12"):
        rounds.check_question(question, TERMS)


@given(price=st.floats(0, 1e6))
def test_price_is_held_to_a_microcredit(price: float) -> None:
    assert abs(price_in_microcredits(price) - price * 1e6) <= 0.5 + 1e-3


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -0.1, 2e6])
def test_impossible_price_is_refused(price: float) -> None:
    with pytest.raises(MarketError, match="price"):
        FixedPrice(price=price, steps_max=12).question(1)
