"""Menus of layers that follow from what was taken of those before."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.mechanisms.contract.layer_menu_program import climbed_menu
from edgepact.mechanisms.contract.layer_menus import SampledTypes
from edgepact.solvers.in_context.deciding import Decider
from edgepact.solvers.in_context.layer_menus import (
    LayerMenus,
    LayersPublic,
    PastLayerMenu,
    choices,
    fitting,
    thinned,
)

SHIPPED = LayerMenus.shipped()
TIE = 2e-6


def kinds_of(seed: int, size: int, layers: int = 4) -> SampledTypes:
    """Rising convex costs of whole layers that save a credit each."""
    steps = np.sort(np.random.default_rng(seed).uniform(0.1, 1.3, (size, layers)), axis=1)
    cost = np.concatenate([np.zeros((size, 1)), np.cumsum(steps, axis=1)], axis=1)
    return SampledTypes(cost=cost, saving=np.ones(size), weight=np.full(size, 1.0 / size))


def offered(known: LayersPublic, reward: np.ndarray, own: SampledTypes) -> PastLayerMenu:
    took = choices(reward, own, TIE)
    return PastLayerMenu(
        reward=reward, layers={f"device-{at}": int(each) for at, each in enumerate(took)}
    )


def left(reward: np.ndarray, own: SampledTypes) -> float:
    took = choices(reward, own, TIE)
    return float(np.mean(own.saving * took - reward[took]))


def test_menus_earn_more_of_the_same_devices_as_rounds_go_by() -> None:
    known = LayersPublic(kinds=kinds_of(0, 400), listed=False, tie=TIE)
    assert isinstance(SHIPPED, Decider)
    early, late = [], []
    for seed in range(3):
        own = kinds_of(100 + seed, 6)
        best = climbed_menu(own).profit / 6.0
        reward, past, shares = climbed_menu(known.kinds).reward, [], []
        for _ in range(6):
            shares.append(left(reward, own) / best)
            past.append(offered(known, reward, own))
            reward = SHIPPED.decide(known, past, 0).reward
        early.append(shares[0])
        late.append(shares[-1])
    assert np.mean(late) > np.mean(early) + 0.05


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999))
def test_listed_kinds_that_were_told_apart_get_their_own_menu(seed: int) -> None:
    kinds = kinds_of(seed, 3)
    known = LayersPublic(kinds=kinds, listed=True, tie=TIE)
    only = replace(kinds, weight=np.array([0.0, 1.0, 0.0]))
    alone = SampledTypes(
        cost=np.repeat(kinds.cost[1:2], 5, axis=0), saving=np.ones(5), weight=np.ones(5)
    )
    reward, past = climbed_menu(kinds).reward, []
    for _ in range(5):
        past.append(offered(known, reward, alone))
        reward = SHIPPED.decide(known, past, 0).reward
    best = climbed_menu(only).profit
    first = left(np.asarray(past[0].reward), alone)
    assert left(reward, alone) >= min(first, 0.9 * best) - 1e-9


def test_of_a_device_those_kinds_are_left_that_would_have_said_the_same() -> None:
    kinds = kinds_of(1, 50)
    asked = [climbed_menu(kinds).reward, climbed_menu(kinds_of(2, 50)).reward]
    took = np.array([choices(reward, kinds, TIE) for reward in asked])
    said = {0: int(took[0, 7]), 1: int(took[1, 7])}
    fits = fitting(kinds, asked, took, said, TIE)
    assert fits[7]
    assert np.array_equal(fits, np.all(took == took[:, [7]], axis=0))


def test_an_answer_of_no_kind_is_taken_for_one_near_it() -> None:
    kinds = kinds_of(3, 60)
    known = LayersPublic(kinds=kinds, listed=False, tie=TIE)
    reward = climbed_menu(kinds).reward
    most = int(np.flatnonzero(np.isfinite(reward))[-1])
    odd = [PastLayerMenu(reward=reward - 50.0 * (np.arange(5) > 0), layers={"liar": most})]
    decided = SHIPPED.decide(known, odd, 0)
    assert np.isfinite(decided.profit)
    assert decided.taken.sum() == pytest.approx(1.0)
    fits = fitting(kinds, [odd[0].reward], np.zeros((1, 60), int), {0: most}, TIE)
    assert 0 < fits.sum() < 60


def test_nothing_seen_is_what_was_believed_and_the_same_question_has_the_same_answer() -> None:
    known = LayersPublic(kinds=kinds_of(4, 80), listed=False, tie=TIE)
    first = SHIPPED.decide(known, [], 0)
    assert (first.answers, first.kept) == (0, False)
    assert first.profit == pytest.approx(climbed_menu(known.kinds).profit)
    past = [offered(known, first.reward, kinds_of(5, 4))]
    turned = [replace(past[0], layers=dict(reversed(list(past[0].layers.items()))))]
    one, two = SHIPPED.decide(known, past, 7), SHIPPED.decide(known, turned, 7)
    assert np.array_equal(one.reward, two.reward)
    assert one.to_dict() == two.to_dict()
    assert one.answers == 4


def test_few_kinds_stand_for_many() -> None:
    kinds = kinds_of(6, 2000)
    few = thinned(kinds, np.zeros(2000, int))
    assert len(few.weight) <= 400
    assert few.weight.sum() == pytest.approx(1.0)
    reward = climbed_menu(few).reward
    assert left(reward, kinds) == pytest.approx(left(reward, few), rel=0.1)
