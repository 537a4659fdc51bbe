"""What no policy can reach: theorems of docs/theory/stackelberg.md, by trying all policies."""

import itertools

import numpy as np
import pytest

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.terms import Game

PRICES = (0.2, 0.4, 0.7)


def game(alpha: float) -> Game:
    fleet = Fleet(alpha=[alpha], capacity=[9.0], A=[1.0], B=[0.0])
    terms = {"revenue": 0.0, "beta": 1.0, "price_min": 0.1, "price_max": 1.0, "layers_max": 8}
    return Game(fleet, **terms, integer=True)


KINDS = (game(0.6), game(3.0))
EARNED = np.array([[outcome(each, price).server_utility for price in PRICES] for each in KINDS])
ANSWERS = np.array([[outcome(each, price).layers[0] for price in PRICES] for each in KINDS])


def best_second_round(joint: np.ndarray) -> float:
    """The most that any policy earns in the second of two rounds, on average.

    A policy is a first price and a second price for each answer to it.

    Args:
        joint: chance of each kind in the first and in the second round, `(first, second)`.
    """
    best = -np.inf
    for first in range(len(PRICES)):
        said = sorted(set(ANSWERS[:, first]))
        for then in itertools.product(range(len(PRICES)), repeat=len(said)):
            after = dict(zip(said, then, strict=True))
            best = max(
                best,
                sum(
                    joint[was, now] * EARNED[now, after[ANSWERS[was, first]]]
                    for was in range(2)
                    for now in range(2)
                ),
            )
    return best


def test_nothing_is_learnt_where_devices_are_new_in_every_round() -> None:
    blind = EARNED.mean(axis=0).max()
    redrawn, stays = np.full((2, 2), 0.25), np.diag([0.5, 0.5])
    assert best_second_round(redrawn) == pytest.approx(blind, abs=1e-12)
    assert best_second_round(stays) == pytest.approx(EARNED.max(axis=1).mean(), abs=1e-12)
    assert best_second_round(stays) > blind + 0.1


def test_two_clean_answers_give_a_device_away() -> None:
    fleet = Fleet(alpha=[2.3], capacity=[10.0], A=[1.25], B=[0.5])
    terms = {"revenue": 0.0, "beta": 1.0, "price_min": 0.1, "price_max": 2.0, "layers_max": 8}
    posted = Game(fleet, **terms, integer=False)
    one, other = 0.5, 0.9
    low, high = (float(outcome(posted, price).layers[0]) for price in (one, other))
    assert 0.0 < low < high < 8.0 - 0.5 / 1.25
    alpha = (low - high) / (1.0 / other - 1.0 / one)
    assert alpha == pytest.approx(2.3, rel=1e-9)
    assert low + alpha / one == pytest.approx((1.0 + 10.0 - 0.5) / 1.25, rel=1e-9)
