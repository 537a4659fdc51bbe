"""What is told of rounds of training that learn: decided again, as it was when they were played."""

from pathlib import Path
from typing import Any

import numpy as np

from edgepact.engagement import Answer, Engagement, Learning, Question, chosen, truthful_bids
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.pacts.training_bids import RULE, awards
from edgepact.pacts.training_menus import menus_written
from edgepact.training.federated.composition import engagement_of, fleet_of
from edgepact.training.federated.config import PricedContract, TrainConfig
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.simulated import Simulated, name_of
from edgepact.training.federated.work import RATES

CONTRACT = PricedContract.read(
    Path(__file__).resolve().parents[2] / "examples" / "train-contract.toml"
)


def said(fleet: Simulated, question: Question) -> dict[str, Answer]:
    found = {}
    for number in range(fleet.clients):
        cost = fleet.cost(number).microcredits
        bids = truthful_bids(question.bid_amounts, cost)
        item = chosen(question, cost) if question.menu else None
        found[name_of(number)] = Answer(item=item, bids_microcredits=bids)
    return found


def played(config: TrainConfig, rounds: int) -> tuple[Round, ...]:
    """Rounds as they are asked and answered; nobody trains."""
    mechanism, fleet = engagement_of(config), fleet_of(config)
    assert isinstance(mechanism, Learning)
    history = [Round(number=0, accuracy=0.0)]
    for number in range(1, rounds + 1):
        question = mechanism.question(number)
        answers = said(fleet, question)
        mechanism.engage(number, question, answers)
        done = Round(
            number=number,
            accuracy=0.0,
            asked=len(answers),
            answered=len(answers),
            question=question,
            answers=answers,
        )
        history.append(done)
        mechanism.observe(done.finished(RATES))
    return tuple(history)


def by_menu(**limits: Any) -> TrainConfig:
    return TrainConfig(clients=12, mechanism="contract", contract=CONTRACT, solver="gdm", **limits)


def test_menus_are_told_with_what_was_believed_and_taken() -> None:
    config = by_menu()
    history = played(config, 3)
    (sheet,) = menus_written(engagement_of(config), fleet_of(config), history, sure_menu)
    rows = [dict(zip(sheet.head, row, strict=True)) for row in sheet.rows]
    assert [row["answers learnt from"] for row in rows] == ["0", "12", "24"]
    shares = [float(row["share of the best menu for them"].rstrip("%")) for row in rows]
    assert shares[-1] >= shares[0] - 1e-9
    assert 90.0 < shares[-1] <= 100.01
    for row in rows:
        taken = [int(each) for each in row["taken"].split()]
        assert sum(taken) + int(row["took none"]) == 12
    # What a selector leaves of the takers changes nothing of what was taken.
    narrowed = by_menu(selector="random", per_round=3)
    again = menus_written(
        engagement_of(narrowed), fleet_of(narrowed), played(narrowed, 3), sure_menu
    )
    assert again == (sheet,)
    stated = TrainConfig(clients=12, mechanism="contract", contract=CONTRACT)
    assert menus_written(engagement_of(stated), fleet_of(stated), history, sure_menu) == ()


def test_ceilings_are_told_with_what_they_were_learnt_from() -> None:
    for config in (
        TrainConfig(clients=8, mechanism="auction", budget=9.0, worth=2.0, solver="gdm"),
        TrainConfig(clients=8, mechanism="auction", contract=CONTRACT, per_round=6, solver="gdm"),
    ):
        sheet = awards(played(config, 3), fleet_of(config), engagement_of(config))
        rows = [dict(zip(sheet.head, row, strict=True)) for row in sheet.rows]
        assert [row["bids learnt from"] for row in rows] == ["0", "8", "16"]
        assert rows[0]["expected to ask no more"] == "-"
        assert rows[2]["expected to ask no more"].endswith("%")
        assert {row["bids"] for row in rows} == {"8"}
    exact = TrainConfig(clients=8, mechanism="auction", budget=9.0)
    assert awards((), fleet_of(exact), engagement_of(exact)).title == RULE


def test_no_bid_of_a_client_moves_what_it_meets_later() -> None:
    configs = (
        TrainConfig(clients=8, mechanism="auction", budget=9.0, worth=2.0, solver="gdm"),
        TrainConfig(clients=8, mechanism="auction", contract=CONTRACT, per_round=8, solver="gdm"),
    )
    for config in configs:
        met = []
        for lie in (1.0, 0.3, 3.0):
            mechanism, fleet = engagement_of(config), fleet_of(config)
            assert isinstance(mechanism, Engagement)
            assert isinstance(mechanism, Learning)
            for number in range(1, 5):
                question = mechanism.question(number)
                answers = said(fleet, question)
                if number < 4:
                    cost = fleet.cost(2).microcredits
                    bids = truthful_bids(question.bid_amounts, cost, claimed=lie)
                    answers[name_of(2)] = Answer(bids_microcredits=bids)
                engaged = mechanism.engage(number, question, answers)
                done = Round(number=number, accuracy=0.0, question=question, answers=answers)
                mechanism.observe(done.finished(RATES))
            met.append(engaged.get(name_of(2)))
        assert met[0] == met[1] == met[2]
        paid = [each.reward_microcredits for each in engaged.values()]
        assert np.all(np.array(paid) > 0)
