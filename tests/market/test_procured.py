"""Auctions at work in the live market: awards are those of the rules, in whole micro-credits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.credits import MICRO, REWARD_MICROCREDITS_MAX
from edgepact.engagement import (
    Answer,
    Engagement,
    Finished,
    Item,
    Learning,
    Valuing,
    truthful_bids,
)
from edgepact.errors import InputError
from edgepact.market.procured import ByBlock, ByCurves, Competition, LearntBlock
from edgepact.solvers.in_context.procuring import Buying
from edgepact.solvers.in_context.reserves import Reserves

STEPS = 4
RESERVES = Reserves.shipped()
COUPLINGS = (
    {"steps_total": 5},
    {"bidders_max": 2},
    {"rise": 0.25},
    {"rise": 0.1, "steps_total": 6},
)


@st.composite
def curves(draw: st.DrawFn) -> np.ndarray:
    """Rising convex costs of 0 to `STEPS` steps, some of which cannot be done; micro-credits."""
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        each = sorted(draw(st.lists(st.integers(0, 3 * MICRO), min_size=STEPS, max_size=STEPS)))
        row = np.concatenate([[0.0], np.cumsum(each)])
        row[draw(st.integers(1, STEPS)) + 1 :] = np.inf
        rows.append(row)
    return np.array(rows)


def answers_of(costs: np.ndarray, amounts: tuple[float, ...]) -> dict[str, Answer]:
    return {
        f"device-{at}": Answer(
            bids_microcredits=truthful_bids(amounts, lambda amount, row=row: row[int(amount)])
        )
        for at, row in enumerate(costs)
    }


def gain(item: Item | None, row: np.ndarray) -> float:
    return 0.0 if item is None else item.reward_microcredits - row[int(item.amount)]


@given(costs=curves(), coupling=st.sampled_from(COUPLINGS))
def test_awards_of_curves_are_those_of_the_rule(
    costs: np.ndarray, coupling: dict[str, float]
) -> None:
    competition = Competition(saving=2.0, steps_max=STEPS, **coupling)  # type: ignore[arg-type]
    mechanism = ByCurves(competition=competition)
    assert isinstance(mechanism, Engagement)
    question = mechanism.question(1)
    assert not question.immediate
    engaged = mechanism.engage(1, question, answers_of(costs, question.bid_amounts))
    due = competition.rule(len(costs)).by_program(costs / MICRO)
    paid = sum(item.reward_microcredits for item in engaged.values()) / MICRO
    layers = [
        int(engaged[f"device-{at}"].amount) if f"device-{at}" in engaged else 0
        for at in range(len(costs))
    ]
    # Of awards of equal welfare any may be chosen.
    rows = np.arange(len(costs))
    own = competition.own_cost(len(costs))
    saved = own[-1] - own[len(own) - 1 - sum(layers)]
    assert saved - np.sum(costs[rows, layers]) / MICRO == pytest.approx(due.welfare, abs=1e-9)
    assert paid <= saved + 1e-9, "the server never pays more than it saves"
    for at, row in enumerate(costs):
        assert gain(engaged.get(f"device-{at}"), row) >= 0.0


@given(
    costs=curves(),
    coupling=st.sampled_from(COUPLINGS),
    lie=st.lists(st.one_of(st.none(), st.integers(0, 4 * MICRO)), min_size=STEPS, max_size=STEPS),
)
def test_no_curve_serves_a_device_better_than_its_true_one(
    costs: np.ndarray, coupling: dict[str, float], lie: list[int | None]
) -> None:
    mechanism = ByCurves(
        competition=Competition(saving=2.0, steps_max=STEPS, **coupling)  # type: ignore[arg-type]
    )
    question = mechanism.question(1)
    told = answers_of(costs, question.bid_amounts)
    honest = gain(mechanism.engage(1, question, told).get("device-0"), costs[0])
    told["device-0"] = Answer(bids_microcredits=tuple(lie))
    assert gain(mechanism.engage(1, question, told).get("device-0"), costs[0]) <= honest


@given(costs=curves(), budget=st.floats(0.1, 20.0), block=st.integers(1, STEPS))
def test_a_block_is_paid_within_the_budget_and_nobody_loses(
    costs: np.ndarray, budget: float, block: int
) -> None:
    mechanism = ByBlock(saving=2.0, steps=block, budget=budget)
    question = mechanism.question(1)
    assert question.bid_amounts == (float(block),)
    engaged = mechanism.engage(1, question, answers_of(costs, question.bid_amounts))
    paid = sum(item.reward_microcredits for item in engaged.values())
    assert paid <= budget * MICRO
    for at, row in enumerate(costs):
        item = engaged.get(f"device-{at}")
        assert gain(item, row) >= 0.0
        assert item is None or item.reward_microcredits <= 2.0 * block * MICRO
    due = mechanism.rule(len(costs)).award(costs[:, block] / MICRO)
    assert paid / MICRO == pytest.approx(np.sum(due.payments), abs=(1 + len(costs)) / MICRO) or (
        len(engaged) != np.sum(due.wins)
    ), "a tie at the last winner may fall either way"


def test_who_does_not_bid_is_bought_nothing() -> None:
    for mechanism in (
        ByCurves(competition=Competition(saving=1.0, steps_max=2, steps_total=2)),
        ByBlock(saving=1.0, steps=2, budget=5.0),
    ):
        question = mechanism.question(1)
        none = tuple(None for _ in question.bid_amounts)
        told = {"silent": Answer(), "away": Answer(bids_microcredits=none)}
        assert mechanism.engage(1, question, told) == {}
        dear = tuple(REWARD_MICROCREDITS_MAX for _ in question.bid_amounts)
        assert mechanism.engage(1, question, {"dear": Answer(bids_microcredits=dear)}) == {}


def test_couplings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="devices_max: expected neither"):
        Competition(saving=1.0, steps_max=2, steps_total=2, bidders_max=1)


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 99),
    lies=st.lists(st.integers(0, 4 * MICRO), min_size=4, max_size=4),
)
def test_what_a_device_asked_earlier_sets_nothing_that_it_meets_later(
    seed: int, lies: list[int]
) -> None:
    costs = np.random.default_rng(seed).integers(MICRO // 2, 2 * MICRO, 6)
    met = []
    for first in ([int(costs[0])] * 4, lies):
        block = ByBlock(saving=2.0, steps=1, budget=20.0)
        market = LearntBlock(block, Buying(worth=2.0, stated=2.0, seed=1, decider=RESERVES))
        assert isinstance(market, Engagement)
        assert isinstance(market, Learning)
        for number, own in enumerate([*first, int(costs[0])], start=1):
            question = market.question(number)
            told = {
                f"device-{at}": Answer(bids_microcredits=(int(cost),))
                for at, cost in enumerate(costs)
            } | {"device-0": Answer(bids_microcredits=(own,))}
            engaged = market.engage(number, question, told)
            market.observe(
                Finished(number=number, question=question, answers=told, assigned=engaged)
            )
        met.append(engaged.get("device-0"))
        for name, item in engaged.items():
            assert item.reward_microcredits >= costs[int(name[-1])]
    assert met[0] == met[1]


def test_a_block_costs_less_once_bids_were_heard() -> None:
    costs = np.linspace(0.3, 0.9, 8) * MICRO
    block = ByBlock(saving=2.0, steps=1, budget=50.0)
    market = LearntBlock(block, Buying(worth=2.0, stated=2.0, seed=1, decider=RESERVES))
    told = {f"device-{at}": Answer(bids_microcredits=(int(cost),)) for at, cost in enumerate(costs)}
    kept = []
    for number in range(1, 4):
        question = market.question(number)
        engaged = market.engage(number, question, told)
        paid = sum(item.reward_microcredits for item in engaged.values())
        kept.append(2 * MICRO * len(engaged) - paid)
        market.observe(Finished(number=number, question=question, answers=told, assigned=engaged))
    assert kept[0] == 0, "the budget allows to pay all that is saved"
    assert kept[2] >= 0.7 * max(
        (2 * MICRO - ceiling) * int(np.sum(costs <= ceiling)) for ceiling in costs
    )


def test_what_work_is_worth_is_known_unless_it_hangs_on_what_others_do() -> None:
    block = ByBlock(saving=2.0, steps=1, budget=20.0)
    learnt = LearntBlock(block, Buying(worth=2.0, stated=2.0, seed=1, decider=RESERVES))
    alike = ByCurves(competition=Competition(saving=1.5, steps_max=4, steps_total=4))
    rising = ByCurves(competition=Competition(saving=1.5, steps_max=4, rise=0.1))
    for mechanism, worth in ((block, 6.0), (learnt, 6.0), (alike, 4.5), (rising, None)):
        assert isinstance(mechanism, Valuing)
        assert mechanism.worth(3.0) == worth
