"""The rules of a round, without a clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import MarketError
from edgepact.market import rounds
from edgepact.market.rounds import FixedPrice, Phase, Pricer, Round, Terms

TERMS = Terms(
    model="m", layers_max=12, images_per_round=2, commit_timeout_s=10.0, round_timeout_s=60.0
)


def offered(**layers: int) -> Round:
    round = Round(number=1, price_microcredits=1, terms=TERMS)
    for device, count in layers.items():
        round = rounds.commit(round, device, count, now_s=0.0)
    return round


def delivered(round: Round, device: str, images: int = TERMS.images_per_round) -> Round:
    for index in range(images):
        round = rounds.record(round, device, f"{index}", held=False)
    return round


def test_offer_stays_open_until_somebody_commits() -> None:
    assert rounds.advance(offered(), {"a"}, now_s=1e9).phase is Phase.OFFERED


def test_work_begins_when_all_awaited_have_committed() -> None:
    round = offered(a=3)
    assert rounds.advance(round, {"a", "b"}, now_s=9.9).phase is Phase.OFFERED
    working = rounds.advance(rounds.commit(round, "b", 0, 5.0), {"a", "b"}, now_s=5.0)
    assert (working.phase, working.deadline_s) == (Phase.WORKING, 65.0)


def test_work_begins_without_those_who_let_the_time_pass() -> None:
    assert rounds.advance(offered(a=3), {"a", "b"}, now_s=10.0).phase is Phase.WORKING


def test_round_closes_when_all_is_delivered() -> None:
    working = rounds.advance(offered(a=3, b=1), {"a", "b"}, now_s=0.0)
    half = delivered(working, "a")
    assert rounds.unfinished(half) == {"b"}
    assert rounds.advance(half, set(), now_s=59.0).phase is Phase.WORKING
    assert rounds.advance(delivered(half, "b"), set(), now_s=59.0).phase is Phase.CLOSED


def test_round_closes_when_its_time_is_up() -> None:
    working = rounds.advance(offered(a=3), {"a"}, now_s=0.0)
    assert rounds.advance(working, set(), now_s=60.0).phase is Phase.CLOSED


def test_round_waits_for_audits_but_not_for_who_has_left() -> None:
    working = rounds.advance(offered(a=3, b=2), {"a", "b"}, now_s=0.0)
    held = rounds.record(delivered(working, "a"), "a", "0", held=True)
    left = rounds.leave(held, "b")
    assert rounds.unfinished(left) == {"a"}
    assert rounds.unfinished(rounds.come_back(left, "b")) == {"a", "b"}
    done = rounds.record(left, "a", "0", held=False)
    assert rounds.advance(done, set(), now_s=1.0).phase is Phase.CLOSED


def test_all_delivered_before_the_last_has_committed() -> None:
    early = delivered(offered(a=3), "a")
    assert rounds.advance(early, {"a", "b"}, now_s=0.0).phase is Phase.OFFERED
    assert rounds.advance(early, {"a", "b"}, now_s=10.0).phase is Phase.CLOSED


def test_commitments_are_checked() -> None:
    round = offered(a=3)
    rounds.check_commitment(round, "a", 3)
    rounds.check_commitment(round, "b", 12)
    for device, layers in (("a", 4), ("b", 13)):
        with pytest.raises(MarketError):
            rounds.check_commitment(round, device, layers)
    working = rounds.advance(round, {"a"}, now_s=0.0)
    rounds.check_commitment(working, "a", 3)
    with pytest.raises(MarketError, match="no more commitments"):
        rounds.check_commitment(working, "b", 3)


def test_jobs_are_admitted_for_the_committed_cut_only() -> None:
    round = delivered(offered(a=3), "a", images=1)
    rounds.admit(round, "a", "0", 3)
    rounds.admit(round, "a", "1", 3)
    full = delivered(round, "a")
    rounds.admit(full, "a", "0", 3)  # known
    closed = rounds.advance(rounds.advance(full, {"a"}, 0.0), {"a"}, 99.0)
    for where, device, job, layers in (
        (round, "b", "0", 3),
        (round, "a", "1", 2),
        (full, "a", "2", 3),
        (closed, "a", "2", 3),
    ):
        with pytest.raises(MarketError):
            rounds.admit(where, device, job, layers)


@given(price=st.floats(0, 1e6))
def test_price_is_held_to_a_microcredit(price: float) -> None:
    assert abs(rounds.price_in_microcredits(price) - price * 1e6) <= 0.5 + 1e-3


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -0.1, 2e6])
def test_impossible_price_is_refused(price: float) -> None:
    with pytest.raises(MarketError, match="price"):
        rounds.price_in_microcredits(price)


def test_fixed_price_is_a_pricer() -> None:
    assert isinstance(FixedPrice(2.0), Pricer)
