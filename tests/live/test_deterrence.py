"""What a run tells of cheating: the rate that its own terms ask for, and those that were drawn."""

from pathlib import Path

import pytest

from edgepact.engagement import Answer, Question
from edgepact.live.deterrence import deterrences
from edgepact.mechanisms.audit_rate import audit_rate
from tests.market.ledger_cases import (
    MODEL,
    delivered,
    item_of,
    open_ledger,
    picking,
    piece,
    with_round,
)

MARGIN = 0.25


def test_rates_follow_from_what_was_taken_and_how_much_of_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger, 1, units=6, devices=("cam-1", "cam-2", "cam-3"))
        delivered(ledger, piece(evidence=b"e"), piece("cam-3"))
        ledger.settle(1, "cam-1", draw=picking("a"))  # at .5
        found = deterrences(ledger.rounds(), MARGIN)
    assert [each.layers for each in found] == [3, 2]  # nobody is paid for none
    three, two = found
    assert (three.ratio, two.ratio, three.pieces) == (3.0, 2.0, 6)  # the least item is a layer
    assert (three.drawn, two.drawn) == ((0.5,), ())
    told = {"margin": MARGIN, "reward": 3, "least_reward": 1}
    assert three.rate == audit_rate([1] * 6, **told)
    assert three.best(0.0) == pytest.approx(3 / MARGIN)
    assert three.best(three.rate) < 1 < three.best(0.05)


def test_a_market_in_which_nobody_was_paid_has_none(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with_round(ledger, devices=("cam-2",))
        assert deterrences(ledger.rounds(), MARGIN) == []
    assert deterrences([], MARGIN) == []


def test_after_an_auction_the_least_pay_of_the_round_counts(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        for name in ("cam-1", "cam-3"):
            ledger.enrol(f"once-{name}", name)
        ledger.open_round(
            1,
            job="classification",
            model=MODEL,
            question=Question(bid_amounts=(2.0, 3.0)),
            units_per_device=4,
        )
        for name in ("cam-1", "cam-3"):
            ledger.answer(1, name, Answer(bids_microcredits=(1, 2)))
        ledger.engage(1, {"cam-1": item_of(3), "cam-3": item_of(2)})
        found = {each.layers: each.ratio for each in deterrences(ledger.rounds(), MARGIN)}
    assert found == {3: pytest.approx(1.5), 2: pytest.approx(1.0)}
