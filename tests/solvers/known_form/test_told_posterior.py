"""The ceiling: exact Bayes with our own rule to decide."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.responses import best_response
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.solvers.in_context.supply import each_supply
from edgepact.solvers.known_form.told_posterior import ToldPosterior
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import play, reference_fleets, regret

both_kinds = pytest.mark.parametrize("integer", [False, True])


@both_kinds
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    prices=st.lists(st.floats(0.06, 0.99), min_size=1, max_size=12, unique=True),
)
def test_no_curve_disagrees_with_an_answer(integer: bool, seed: int, prices: list[float]) -> None:
    (game,) = reference_fleets(seed, 1, integer=integer)
    posted = np.array(prices)
    layers = best_response(game, posted)
    sample = ToldPosterior().sample(seed, Known.of(game, form=True), posted, layers)
    assert len(sample.price) > 1
    assert np.all(np.diff(sample.price, axis=-1) >= 0)
    for price, answer in zip(posted, layers, strict=True):
        would = each_supply(sample, float(np.log(price)))
        # Continuous curves go through their answers, but for rounding.
        assert np.max(np.abs(would - answer)) <= (0.0 if integer else 1e-6)


def test_even_answers_that_the_prior_excludes_are_agreed_with() -> None:
    (game,) = reference_fleets(3, 1, integer=True)
    prices = np.array([0.1, 0.2])
    layers = np.zeros((2, len(game.fleet)))
    layers[:, 0] = 12.0, 12.0
    sample = ToldPosterior().sample(0, Known.of(game, form=True), prices, layers)
    for price, answer in zip(prices, layers, strict=True):
        assert np.all(each_supply(sample, float(np.log(price))) == answer)


def test_looking_ahead_is_worth_more_than_being_content() -> None:
    games = reference_fleets(4242, 10, integer=True)
    ahead, content = (
        regret(play(ToldPosterior(horizon=horizon, draws=64), games, rounds=10, seed=0)).mean()
        for horizon in (8.0, 0.0)
    )
    assert ahead < content


def test_two_continuous_answers_say_everything() -> None:
    games = reference_fleets(4242, 3, integer=False)
    shares = play(ToldPosterior(), games, rounds=3, seed=0)
    assert np.all(shares[:, 2] > 0.999)


def test_what_told_nothing_new_changes_no_quote() -> None:
    (game,) = reference_fleets(7, 1, integer=True)
    known, quoter = Known.of(game, form=True), ToldPosterior()
    prices = np.array([0.3, 0.5, 0.4])
    layers = best_response(game, prices)
    again = [0, 1, 2, 1]
    once = quoter.quote(1, known, prices, layers)
    assert quoter.quote(1, known, prices[again], layers[again]) == once


def test_other_fleets_are_refused() -> None:
    (game,) = reference_fleets(7, 1, integer=True)
    known, none = Known.of(game, form=True), (np.empty(0), np.empty((0, len(game.fleet))))
    assert known.form is not None
    for other in (
        replace(known, layers_max=24),
        replace(known, price_max=5.0),
        replace(known, form=replace(known.form, satisfaction=FAMILIES["log"])),
    ):
        with pytest.raises(InputError, match="method: fleet: expected one of the prior"):
            ToldPosterior().quote(1, other, *none)
    with pytest.raises(InputError, match="to be told how devices decide"):
        ToldPosterior().quote(1, replace(known, form=None), *none)
