"""What a report says at its head: right signs, losers and those that dropped out named."""

from types import SimpleNamespace
from typing import Any

import pytest

from edgepact.live.verdict import verdict_of
from edgepact.pacts.partition_bought import BoughtRound, LayersBought
from edgepact.pacts.partition_priced import PlayedRound, WorkPriced


def work(*, lost: str | None = None, balanced: bool = True, paid: float = 12.0) -> Any:
    """Two devices that drew pictures."""
    devices = [
        SimpleNamespace(name="cam", units=3, paid_credits=paid, lost=None),
        SimpleNamespace(name="phone", units=1, paid_credits=0.0, lost=lost),
    ]
    return SimpleNamespace(
        unit="picture",
        step="step",
        devices=devices,
        paid_pieces=(("cam", 2, 3, 12_000_000), ("phone", 0, 1, 0)),
        statement=SimpleNamespace(balanced=balanced),
        paid_as_earned=True,
        # Of these nothing is asked.
        profile=0,
        live_seconds=0.0,
        rows=tuple,
        as_json=dict,
    )


def priced(gains: dict[str, float], worth: float = 20.0) -> WorkPriced:
    """Two rounds at a price; without the checks of a real one."""
    rounds = [
        PlayedRound(number=at, price=1.0, layers={"cam": 2}, utility=1.0, share=share, gains=gains)
        for at, share in ((1, 0.5), (2, 0.9))
    ]
    played = WorkPriced.__new__(WorkPriced)
    for name, value in (("rounds", tuple(rounds)), ("worth", {"cam": worth}), ("earnings", None)):
        object.__setattr__(played, name, value)
    return played


def test_who_paid_reads_what_it_kept_and_how_good_its_prices_were() -> None:
    told = verdict_of(priced({"cam": 0.5, "phone": 0.0}), work())
    text = " ".join(told.sentences)
    assert told.good
    assert "The server paid 12 credits for 4 pictures, and kept 8 credits of what" in text
    assert "reached 70.0% in the mean and 90.0% in the last round" in text
    assert "No device lost by taking part. No device dropped out." in text


def test_a_server_that_paid_more_than_the_work_is_worth_is_told() -> None:
    text = " ".join(verdict_of(priced({"cam": 0.5}, worth=9.5), work()).sentences)
    assert "12 credits for 4 pictures, 2.5 credits more than what the same steps" in text


@pytest.mark.parametrize(
    ("gains", "facts", "said"),
    [
        ({"cam": -0.25}, {}, "cam LOST 0.25 credits by taking part."),
        ({"cam": 0.5}, {"lost": "out of memory"}, "phone dropped out."),
        ({"cam": 0.5}, {"balanced": False}, "does NOT show what was promised"),
    ],
)
def test_a_broken_promise_is_said_and_marks_the_report(
    gains: dict[str, float], facts: dict[str, Any], said: str
) -> None:
    told = verdict_of(priced(gains), work(**facts))
    assert not told.good
    assert said in " ".join(told.sentences)


def test_a_device_that_stayed_away_lost_nothing() -> None:
    assert verdict_of(priced({"cam": 0.5, "phone": -0.1}), work()).good


def test_what_was_bought_is_held_against_the_best() -> None:
    only = BoughtRound(
        number=1,
        asked="3 items",
        layers={"cam": 2},
        rewards={"cam": 1.0},
        gains={"cam": 0.1},
        profit=2.5,
        utility=3.0,
        share=0.985,
        as_ruled=True,
    )
    played = LayersBought.__new__(LayersBought)
    known = "what the best menu leaves it"
    for name, value in (("rounds", (only,)), ("kept", {"cam": 0.3}), ("optimum", known)):
        object.__setattr__(played, name, value)
    text = " ".join(verdict_of(played, work()).sentences)
    assert "kept 2.5 credits for one picture of each device in the last round" in text
    assert "That is 98.5% of what the best menu leaves it." in text
    object.__setattr__(played, "kept", {"cam": -0.25, "phone": -0.5})
    text = " ".join(verdict_of(played, work()).sentences)
    assert "cam, phone LOST by taking part, phone most: 0.5 credits." in text
