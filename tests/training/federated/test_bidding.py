"""Auctions, selectors and posted prices as mechanisms of federated training."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.efficiency.selection import Oort, RandomSelection
from edgepact.engagement import (
    Answer,
    Engagement,
    Finished,
    Item,
    Question,
    chosen,
    truthful_bids,
)
from edgepact.errors import InputError
from edgepact.market.ledger import Ledger
from edgepact.solvers.in_context.pricing import InContext
from edgepact.training.federated import folder as files
from edgepact.training.federated.bidding import ByAuction, BySecondScore
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.rounds import Progress, Round
from edgepact.training.federated.selecting import BySelector, Narrowed
from tests.training.federated.toy import CLIENTS, ROUNDS, handlers, menu, play_in

NAMES = [f"client-{n}" for n in range(CLIENTS)]


def answers(
    engagement: Engagement, costs: list[PrivateCost], claimed: dict[int, float] | None = None
) -> dict[str, Answer]:
    """What clients of given costs say in round 1; some multiply their bids."""
    question, factor = engagement.question(1), claimed or {}
    return {
        f"client-{at}": Answer(
            item=chosen(question, cost.microcredits),
            bids_microcredits=truthful_bids(
                question.bid_amounts, cost.microcredits, claimed=factor.get(at, 1.0)
            ),
            claims={"examples": 20.0 + 13 * at, "compute_s": 1.0 + at}
            | ({} if at % 2 else {"loss": 0.5 + 0.1 * at}),
        )
        for at, cost in enumerate(costs)
    }


def engaged_by(engagement: Engagement, said: dict[str, Answer], round: int = 1) -> dict[str, Item]:
    return engagement.engage(round, engagement.question(round), said)


def finished(number: int, question: Question, said: dict[str, Answer], engaged: dict[str, Item]):
    return Finished(
        number=number,
        question=question,
        answers=said,
        assigned=engaged,
        units=dict.fromkeys(engaged, 1),
    )


def flat(cost: float) -> PrivateCost:
    return PrivateCost(participation_credits=cost)


costs_of_clients = st.lists(st.floats(0.05, 3.0), min_size=2, max_size=9)


@given(costs=costs_of_clients, budget=st.floats(0.5, 8.0), factor=st.floats(0.2, 4.0))
def test_an_auction_keeps_its_budget_and_no_lie_helps(
    costs: list[float], budget: float, factor: float
) -> None:
    auction = ByAuction(budget_microcredits=round(budget * MICRO), preferred_s=3.0)
    private = [flat(cost) for cost in costs]
    told = engaged_by(auction, answers(auction, private), 1)
    assert sum(item.reward_microcredits for item in told.values()) <= round(budget * MICRO)
    lied = engaged_by(auction, answers(auction, private, {0: factor}), 1)

    def kept(engaged: dict[str, object], at: int) -> float:
        item = engaged.get(f"client-{at}")
        cost = private[at].microcredits(1.0)
        return 0.0 if item is None else item.reward_microcredits - cost  # type: ignore[attr-defined]

    for at in range(len(costs)):
        assert kept(told, at) >= -1e-6
    # Bids and pay are whole micro-credits: a lie may be worth one of them, and no more.
    assert kept(lied, 0) <= kept(told, 0) + 2.0


@given(
    costs=st.lists(st.tuples(st.floats(0.1, 4.0), st.floats(0.0, 0.5)), min_size=2, max_size=7),
    factor=st.floats(0.2, 4.0),
    places=st.integers(1, 4),
)
def test_bids_on_several_rates_are_truthful_too(
    costs: list[tuple[float, float]], factor: float, places: int
) -> None:
    auction = BySecondScore(
        rates=(0.05, 0.2, 0.5), worth_credits=(0.5, 0.9, 1.2), per_round=places, preferred_s=3.0
    )
    private = [PrivateCost(psi=psi, participation_credits=fixed) for psi, fixed in costs]
    told = engaged_by(auction, answers(auction, private), 1)
    lied = engaged_by(auction, answers(auction, private, {0: factor}), 1)
    assert len(told) <= places

    def kept(engaged: dict[str, object], at: int) -> float:
        item = engaged.get(f"client-{at}")
        if item is None:
            return 0.0
        return item.reward_microcredits - private[at].microcredits(item.amount)  # type: ignore[attr-defined]

    for at in range(len(costs)):
        assert kept(told, at) >= -2.0
    assert kept(lied, 0) <= kept(told, 0) + 3.0


def test_who_has_just_trained_is_worth_less_for_a_while() -> None:
    auction = ByAuction(budget_microcredits=round(1.2 * MICRO))
    private = [flat(0.5), flat(0.6), flat(0.7), flat(0.8)]
    first = set(engaged_by(auction, answers(auction, private), 1))
    engaged = {name: Item(amount=1.0, reward_microcredits=1) for name in first}
    auction.observe(finished(1, auction.question(1), answers(auction, private), engaged))
    assert set(engaged_by(auction, answers(auction, private), 2)) != first


def test_a_selector_chooses_among_those_whom_the_pay_covers() -> None:
    posted = BySelector(
        selector=RandomSelection(),
        per_round=3,
        pay_microcredits=MICRO,
        budget_microcredits=2 * MICRO,
    )
    private = [flat(cost) for cost in (0.5, 2.0, 0.9, 1.5, 0.99)]
    engaged = engaged_by(posted, answers(posted, private), 1)
    assert len(engaged) == 2  # the budget
    assert set(engaged) <= {"client-0", "client-2", "client-4"}
    assert engaged == engaged_by(posted, answers(posted, private), 1)


def test_a_contract_is_narrowed_by_a_selector_that_does_not_see_what_was_taken() -> None:
    narrowed = Narrowed(mechanism=menu(), selector=Oort(), per_round=2)
    private = [PrivateCost(psi=psi) for psi in (12.0, 6.0, 2.0, 2.0)]
    said = answers(narrowed, private)
    engaged = engaged_by(narrowed, said, 1)
    assert len(engaged) == 2
    for name, item in engaged.items():
        assert item == menu().menu[said[name].item or 0]
    # Another item of the same client changes its terms and not who is chosen.
    changed = {
        n: Answer(**{f: getattr(a, f) for f in Answer.__slots__} | {"item": 0})
        for n, a in said.items()
    }
    assert set(engaged_by(narrowed, changed, 1)) == set(engaged)


def by_price() -> ByPrice:
    return ByPrice(quoter=InContext.shipped(), saving_credits=0.2, rate_max=0.5, clients=len(NAMES))


def test_a_posted_price_is_paid_for_each_step_and_follows_the_answers() -> None:
    price = by_price()
    private = [PrivateCost(psi=psi, form="quadratic") for psi in (2.0, 4.0, 6.0, 8.0, 10.0, 12.0)]
    prices = []
    for number in range(1, 5):
        cost = price.price_microcredits(number)
        prices.append(cost)
        question = price.question(number)
        said = {
            name: Answer(item=chosen(question, own.microcredits))
            for name, own in zip(NAMES, private, strict=True)
        }
        engaged = price.engage(number, question, said)
        for item in engaged.values():
            assert item.reward_microcredits == cost * round(item.amount / 0.5 * 12)
        price.observe(finished(number, question, said, engaged))
    assert len(set(prices)) > 1
    assert all(0 < each <= 0.2 * MICRO for each in prices)


def test_a_single_step_selects_those_whom_it_pays() -> None:
    price = ByPrice(
        quoter=InContext.shipped(), saving_credits=2.0, rate_max=0.1, clients=len(NAMES), steps=1
    )
    # To the quoter it looks like a model it has learned on, at the same price for all of it.
    assert price.known.layers_max == 12
    assert 12 * price.known.price_max == pytest.approx(2.0)
    private = [flat(cost) for cost in np.linspace(0.3, 1.8, len(NAMES))]
    for number in range(1, 6):
        pays = price.price_microcredits(number)
        question = price.question(number)
        said = {
            name: Answer(item=chosen(question, own.microcredits))
            for name, own in zip(NAMES, private, strict=True)
        }
        engaged = price.engage(number, question, said)
        willing = {
            n for n, own in zip(NAMES, private, strict=True) if own.microcredits(0.1) <= pays
        }
        assert set(engaged) == willing
        assert all(each == Item(amount=0.1, reward_microcredits=pays) for each in engaged.values())
        price.observe(finished(number, question, said, engaged))
    assert len({each for each, _ in price.played}) > 1


@pytest.mark.parametrize("kind", ["auction", "price"])
def test_a_federation_pays_what_its_mechanism_promised(tmp_path: Path, kind: str) -> None:
    def mechanism() -> Engagement:
        return ByAuction(budget_microcredits=4 * MICRO) if kind == "auction" else by_price()

    whole = play_in(tmp_path / "whole", handlers(), engagement=mechanism())
    clients = handlers()  # they live on when the server stops
    play_in(tmp_path / "parts", clients, engagement=mechanism(), rounds=4)
    # A mechanism made anew sees the finished rounds again and goes on as if never stopped.
    parts = play_in(tmp_path / "parts", clients, engagement=mechanism())
    for progress, folder in ((whole, "whole"), (parts, "parts")):
        paid = sum(each.paid_microcredits for each in progress.history)
        with Ledger(f"sqlite:///{tmp_path / folder / files.LEDGER}") as books:
            assert books.totals() == (paid, paid)
    assert progress.round == ROUNDS
    rewards = [[d.reward_microcredits for d in each.deliveries] for each in whole.history]
    assert rewards == [[d.reward_microcredits for d in each.deliveries] for each in parts.history]


def test_impossible_terms_are_named() -> None:
    with pytest.raises(InputError, match="budget"):
        ByAuction(budget_microcredits=0)
    with pytest.raises(InputError, match="fading"):
        ByAuction(budget_microcredits=1, fading=0.0)
    with pytest.raises(InputError, match="worth_credits"):
        BySecondScore(rates=(0.1,), worth_credits=(), per_round=1)
    with pytest.raises(InputError, match="steps"):
        ByPrice(quoter=InContext.shipped(), saving_credits=1.0, clients=1, steps=0)


def test_numbers_of_a_round_are_whole() -> None:
    auction = ByAuction(budget_microcredits=3 * MICRO)
    rng = np.random.default_rng(0)
    engaged = engaged_by(auction, answers(auction, [flat(c) for c in rng.uniform(0.2, 1.0, 8)]), 1)
    assert engaged
    assert all(type(item.reward_microcredits) is int for item in engaged.values())


def test_a_posted_price_engages_whoever_is_there_by_whatever_name(tmp_path: Path) -> None:
    # A deployment calls its clients by the numbers of their nodes, which nobody knows beforehand.
    nodes = {f"node-{7919 * at}": each for at, each in enumerate(handlers().values(), 1)}
    simulated = play_in(tmp_path / "simulated", handlers(), engagement=by_price())
    deployed = play_in(tmp_path / "deployed", nodes, engagement=by_price())
    engaged = {each.client for past in deployed.history for each in past.accepted}
    assert engaged
    assert engaged <= set(nodes)
    # Names say nothing about costs: prices are those that the same clients meet in a simulation.
    assert [each.question for each in deployed.history] == [
        each.question for each in simulated.history
    ]


def test_a_client_that_comes_late_is_priced_too(tmp_path: Path) -> None:
    few = dict(list(handlers().items())[:2])
    price = ByPrice(quoter=InContext.shipped(), saving_credits=0.2, rate_max=0.5, clients=2)
    play_in(tmp_path, few, engagement=price, rounds=2)
    again = ByPrice(quoter=InContext.shipped(), saving_credits=0.2, rate_max=0.5, clients=2)
    progress = play_in(tmp_path, handlers(), engagement=again, rounds=4)
    late = {each.client for past in progress.history[3:] for each in past.accepted}
    assert late - set(few)


def test_an_old_checkpoint_is_refused_where_its_prices_are_needed(tmp_path: Path) -> None:
    def forgetful(progress: Progress) -> Progress:
        rounds = [each.as_json() for each in progress.history]
        for each in rounds:
            del each["question"], each["answers"]
            for delivery in each["deliveries"]:
                del delivery["epochs"]
        history = tuple(Round.from_json(each) for each in rounds)
        return Progress(model=progress.model, history=history)

    files.write_checkpoint(tmp_path, forgetful(play_in(tmp_path, engagement=by_price(), rounds=2)))
    with pytest.raises(InputError, match=r"history\[1\]\.question: .* earlier version"):
        play_in(tmp_path, engagement=by_price(), rounds=3)
    auction = ByAuction(budget_microcredits=4 * MICRO)
    assert play_in(tmp_path, engagement=auction, rounds=3).round == 3
