"""Ceilings on what work is paid: learnt from the bids of others, of nobody's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.engagement import Item
from edgepact.solvers.in_context.procuring import Buying, best_ceiling, capped
from edgepact.solvers.in_context.reserves import Reserves

SHIPPED = Reserves.shipped()


def buying(worth: float = 2.0, stated: float = 1.25) -> Buying:
    return Buying(worth=worth, stated=stated, seed=3, decider=SHIPPED)


def heard(rounds: list[dict[str, float]]) -> Buying:
    bought = buying()
    for bids in rounds:
        bought.hear(bids)
    return bought


@settings(max_examples=8, deadline=None)
@given(
    bidders=st.integers(3, 9),
    rounds=st.integers(1, 5),
    seed=st.integers(0, 99),
    lies=st.lists(st.floats(0.0, 5.0), min_size=5, max_size=5),
)
def test_no_bid_of_a_bidder_moves_its_own_ceiling(
    bidders: int, rounds: int, seed: int, lies: list[float]
) -> None:
    costs = np.random.default_rng(seed).uniform(0.5, 1.5, bidders)
    names = [f"device-{at}" for at in range(bidders)]
    told = [dict(zip(names, costs.tolist(), strict=True)) for _ in range(rounds)]
    lied = [each | {"device-1": lie} for each, lie in zip(told, lies, strict=False)]
    honest, other = heard(told).ceilings(names), heard(lied).ceilings(names)
    assert honest.most["device-1"] == other.most["device-1"]
    assert honest.bids == other.bids
    assert all(0.0 <= most <= 2.0 for most in honest.most.values())


def test_what_is_stated_holds_until_there_are_bids_to_learn_from() -> None:
    names = ["a", "b", "c"]
    first = buying().ceilings(names)
    assert first.most == dict.fromkeys(names, 1.25)
    assert (first.accepting, first.bids) == (None, 0)
    once = heard([dict.fromkeys(names, 1.0)])
    assert once.ceilings(names).bids == 0
    often = heard([dict.fromkeys(names, 1.0)] * 4)
    assert often.ceilings(names).bids == 12
    # Who is new shares the ceiling of those it stands with.
    assert "new" in often.ceilings([*names, "new"]).most


def test_ceilings_come_near_the_best_one_for_the_costs_that_there_are() -> None:
    costs = np.random.default_rng(0).uniform(0.2, 1.0, 24)
    bids = {f"device-{at:02d}": cost for at, cost in enumerate(costs.tolist())}
    set_now = heard([bids] * 4).ceilings(list(bids))
    left = [2.0 - most for name, most in set_now.most.items() if bids[name] <= most]
    best = best_ceiling(2.0, costs, np.full(24, 1.0 / 24))
    most = float(np.sum(2.0 - best) * np.sum(costs <= best))
    assert sum(left) >= 0.9 * most
    # Paying everybody the worth, as without ceilings, leaves nothing.
    assert set_now.accepting is not None
    assert set_now.accepting > 0.8


@given(
    costs=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8),
    worth=st.floats(0.5, 4.0),
)
def test_the_best_ceiling_is_that_of_all_ceilings(costs: list[float], worth: float) -> None:
    weights = np.full(len(costs), 1.0 / len(costs))

    def left(ceiling: float) -> float:
        return float((worth - ceiling) * np.sum(weights * (np.array(costs) <= ceiling)))

    found = best_ceiling(worth, costs, weights)
    assert found <= worth
    assert left(found) >= max(left(each) for each in [*costs, worth, 0.5 * worth]) - 1e-12


def test_an_award_is_capped_and_whoever_asks_more_drops_out() -> None:
    award = {name: Item(amount=6.0, reward_microcredits=2 * MICRO) for name in "abc"}
    bids = {"a": 1 * MICRO, "b": 1_500_001, "c": 1_500_000}
    left = capped(award, bids, {"a": 1.2, "b": 1.5, "c": 1.5})
    assert {name: item.reward_microcredits for name, item in left.items()} == {
        "a": 1_200_000,
        "c": 1_500_000,
    }


def test_the_same_bids_give_the_same_ceilings_in_any_order_of_names() -> None:
    bids = {"x": 0.9, "y": 1.1, "z": 0.7}
    turned = dict(reversed(bids.items()))
    assert heard([bids] * 4).ceilings(["x", "z"]) == heard([turned] * 4).ceilings(["x", "z"])
    assert heard([bids] * 4).ceilings(["x"]).most["x"] == pytest.approx(
        heard([bids] * 4).ceilings(["x", "z"]).most["x"], abs=0.0
    )
