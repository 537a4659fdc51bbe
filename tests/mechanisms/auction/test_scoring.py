"""Scored bids: scores, the equilibrium of paying bids, the truthful form."""

import numpy as np
import pytest
from scipy.special import bdtr

from edgepact.errors import InputError
from edgepact.mechanisms.auction.prior import uniform
from edgepact.mechanisms.auction.scoring import (
    PayAsBid,
    Score,
    ScoringGame,
    equilibrium,
    second_score,
)


def cost(quality: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return (0.5 + theta) * quality[:, 0] ** 2 + 0.1 * theta * quality[:, 1]


def game(bidders: int = 6, winners_max: int = 2) -> ScoringGame:
    data, speed = np.meshgrid(np.linspace(0.0, 1.5, 121), [0.0, 1.0])
    return ScoringGame(
        score=Score(weights=np.array([1.0, 0.05])),
        cost=cost,
        choices=np.column_stack([data.ravel(), speed.ravel()]),
        prior=uniform(0.0, 1.0),
        bidders=bidders,
        winners_max=winners_max,
    )


def test_scores() -> None:
    quality, weights = np.array([[4.0, 1.0], [1.0, 9.0]]), np.array([0.5, 0.5])
    assert Score(weights=weights)(quality).tolist() == [2.5, 5.0]
    assert Score(weights=weights, form="minimum")(quality).tolist() == [0.5, 0.5]
    assert Score(weights=weights, form="product", scale=2.0)(quality).tolist() == [4.0, 6.0]


def test_no_bid_on_a_grid_beats_the_equilibrium() -> None:
    played = equilibrium(game())
    types = np.linspace(0.0, 1.0, 41)
    qualities, asked = played.bid(types)
    # What each score wins with, when five rivals bid as the equilibrium says.
    theta = np.linspace(0.0, 1.0, 4001)
    rival_quality, rival_asked = played.bid(theta)
    rivals = played.game.score(rival_quality) - rival_asked
    assert np.all(np.diff(rivals) < 1e-12), "dearer types score less"
    scores = np.linspace(-0.05, 1.1 * rivals[0], 1001)
    better = np.interp(scores, rivals[::-1], theta[::-1])
    chance = np.where(scores < rivals[-1], 0.0, bdtr(1.0, 5, better))
    for at, own in enumerate(types):
        own_cost = cost(qualities[at : at + 1], own[None, None])[0, 0]
        kept = (asked[at] - own_cost) * played.game.chance(types[at : at + 1])[0]
        # The bid that asks for what is left of a quality's score, at every score and quality.
        left = played.game.score(played.game.choices) - cost(played.game.choices, own[None, None])
        best = np.max((np.max(left) - scores) * chance)
        assert best <= kept + 2e-6
        assert best >= kept - 1e-4, "the grid comes close"


def test_golden_markup_of_a_linear_surplus() -> None:
    # u = 1 - theta, uniform: with one winner of N the bid keeps u / N.
    one = ScoringGame(
        score=Score(weights=np.array([1.0])),
        cost=lambda quality, theta: theta * quality[:, 0],
        choices=np.array([[0.0], [1.0]]),
        prior=uniform(0.0, 1.0),
        bidders=5,
        winners_max=1,
    )
    played = equilibrium(one)
    theta = np.array([0.0, 0.25, 0.5, 0.9])
    assert played.bid(theta)[1] == pytest.approx(theta + (1.0 - theta) / 5.0, abs=1e-6)
    assert played.bid(np.array([1.0]))[1].tolist() == [np.inf], "nothing left to ask for"


def test_where_all_win_all_ask_for_their_whole_score() -> None:
    played = equilibrium(game(bidders=3, winners_max=3))
    qualities, asked = played.bid(np.array([0.1, 0.8]))
    assert asked == pytest.approx(played.game.score(qualities), abs=1e-9)


def test_with_more_rivals_less_is_asked_beyond_cost() -> None:
    markups = [equilibrium(game(bidders=bidders)).markup for bidders in (4, 10, 100)]
    assert np.all(markups[0] >= markups[1])
    assert np.all(markups[1] >= markups[2])


def test_the_truthful_form_pays_up_to_the_best_score_that_lost() -> None:
    scores, asked = np.array([4.0, 4.0, 4.0, 1.0]), np.array([2.5, 2.0, 1.5, 2.0])
    award = second_score(scores, 2).award(asked)
    assert award.wins.tolist() == [False, True, True, False]
    assert award.payments == pytest.approx([0.0, 2.5, 2.5, 0.0])
    as_bid = PayAsBid(scores=scores, winners_max=2).award(asked)
    assert as_bid.wins.tolist() == award.wins.tolist()
    assert as_bid.payments.tolist() == [0.0, 2.0, 1.5, 0.0]


def test_both_forms_cost_the_buyer_the_same_on_average() -> None:
    # Revenue equivalence: same winners, same utility of the worst type.
    played = equilibrium(game())
    theta = np.random.default_rng(0).random((4000, 6))
    qualities, asked = played.bid(theta.ravel())
    scores = played.game.score(qualities).reshape(theta.shape)
    own = np.array(
        [cost(q[None], t[None, None])[0, 0] for q, t in zip(qualities, theta.ravel(), strict=True)]
    )
    left = np.sort(scores - own.reshape(theta.shape), axis=-1)
    kept_first = np.sort(scores - asked.reshape(theta.shape), axis=-1)[:, -2:].sum(axis=-1)
    kept_second = 2.0 * left[:, -3]
    gap = kept_first - kept_second
    assert np.mean(gap) == pytest.approx(0.0, abs=4.0 * np.std(gap) / np.sqrt(len(gap)))


def test_impossible_games_are_refused() -> None:
    with pytest.raises(InputError, match=r"weights\[1\]"):
        Score(weights=np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="scale"):
        Score(weights=np.ones(1), scale=0.0)
    with pytest.raises(InputError, match="values"):
        PayAsBid(scores=np.array([0.0]), winners_max=1)
    falling = ScoringGame(
        score=Score(weights=np.ones(1)),
        cost=lambda quality, theta: (1.0 - theta) * quality[:, 0],
        choices=np.array([[1.0]]),
        prior=uniform(0.0, 1.0),
        bidders=2,
        winners_max=1,
    )
    with pytest.raises(InputError, match="rises with theta"):
        equilibrium(falling)
