"""What answers leave open: the truth is never shut out, and nothing ever is left nowhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.solvers.in_context import curves
from edgepact.solvers.in_context.curves import LEVELS, MARGIN
from edgepact.solvers.in_context.supply import each_supply, sample_of, total_supply
from edgepact.solvers.quoter import Known
from tests.strategies import games

LOW, TOP = np.log(0.05), 0.0


def known(devices: int, layers_max: int = 12, *, integer: bool = True) -> Known:
    return Known(
        saving=1.0,
        layers_max=layers_max,
        price_min=0.05,
        price_max=3.0,
        devices=devices,
        integer=integer,
    )


def rising(rng: np.random.Generator, devices: int, layers: int) -> np.ndarray:
    """Prices of whole layers, logarithms; some beyond the range."""
    return np.sort(rng.uniform(LOW - 0.3, TOP + 0.3, (devices, layers)), axis=1)


def answers(thresholds: np.ndarray, prices: np.ndarray) -> np.ndarray:
    return np.sum(thresholds[None] <= np.log(prices)[:, None, None], axis=-1) * 1.0


seeds = st.integers(0, 2**32 - 1)
layers_maxes = st.sampled_from([1, 3, 5, 12, 13, 24, 40])


@given(seeds, layers_maxes, st.integers(0, 9))
def test_intervals_hold_the_price_of_every_layer(seed: int, layers: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    true, prices = rising(rng, 3, layers), rng.uniform(0.06, 1.0, rounds)
    given_ = answers(true, prices)
    seen = curves.read(known(3, layers), prices, given_, rng.uniform(size=given_.shape) < 0.8)
    assert seen.steady
    low, high = curves.intervals(seen, np.arange(1.0, layers + 1), LOW, TOP, integer=True)
    clipped = np.clip(true, LOW - MARGIN, TOP + MARGIN)
    assert np.all(low <= clipped)
    assert np.all(clipped <= high)
    assert np.all(np.diff(low, axis=1) >= 0)
    assert np.all(np.diff(high, axis=1) >= 0)


@given(seeds, layers_maxes, st.integers(1, 9), st.sampled_from(["placed", "evenly"]))
def test_every_sample_agrees_with_every_answer(
    seed: int, layers: int, rounds: int, way: str
) -> None:
    rng = np.random.default_rng(seed)
    true, prices = rising(rng, 3, layers), rng.uniform(0.06, 1.0, rounds)
    given_ = answers(true, prices)
    terms = known(3, layers)
    seen = curves.read(terms, prices, given_, np.ones(given_.shape, dtype=bool))
    at = curves.evidence(terms, seen, LOW, TOP)
    drawn = (
        curves.placed(at, rng.uniform(-1.5, 1.5, (4, 3, LEVELS)))
        if way == "placed"
        else curves.evenly(rng, at, 4)
    )
    sample = sample_of(terms, seen, drawn, LOW, TOP)
    for price, row in zip(prices, given_, strict=True):
        # A threshold may lie on the very next price above; what sold there did not sell here.
        assert np.all(each_supply(sample, float(np.log(price))) >= row)
        below = each_supply(sample, float(np.log(price)) - 1e-9)
        assert np.all(below <= row)


@given(games(integer=False, common=True), seeds, st.integers(1, 6))
def test_continuous_curves_go_through_every_answer(game, seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    devices = len(game.fleet)
    terms = known(devices, game.layers_max, integer=False)
    prices = rng.uniform(0.06, 1.0, rounds)
    given_ = outcome(game, prices).layers
    seen = curves.read(terms, prices, given_, np.ones(given_.shape, dtype=bool))
    at = curves.evidence(terms, seen, LOW, TOP)
    drawn = curves.placed(at, rng.uniform(-1.0, 1.0, (3, devices, LEVELS)))
    sample = sample_of(terms, seen, drawn, LOW, TOP)
    for price, row in zip(seen.price, seen.layers, strict=True):
        assert np.allclose(each_supply(sample, float(price)), row, atol=1e-6)
    many = np.linspace(LOW, TOP, 50)
    assert np.all(np.diff(total_supply(sample, many), axis=1) >= -1e-9)


def test_who_has_sold_a_part_of_the_first_level_never_sells_less_for_more() -> None:
    """Continued downwards, the first two levels here say that the device enters at .615 of b."""
    terms = known(1, integer=False)
    prices, layers = np.array([0.28, 0.58, 0.61]), np.array([[0.18], [0.72], [0.77]])
    seen = curves.read(terms, prices, layers, np.ones((3, 1), dtype=bool))
    thresholds = np.concatenate([[-0.336, -0.159, -0.158, -0.105, -0.018], np.full(7, 0.47)])
    sample = sample_of(terms, seen, thresholds[None, None], LOW, TOP)
    many = np.linspace(np.log(0.28), TOP, 200)
    found = total_supply(sample, many)[0]
    assert np.all(np.diff(found) >= -1e-9)
    assert found[0] == pytest.approx(0.18)


@given(seeds, st.booleans(), st.integers(1, 30))
def test_answers_that_contradict_each_other_leave_an_interval(
    seed: int, integer: bool, rounds: int
) -> None:
    """Noise, habits, drift and lies: anything may be answered."""
    rng = np.random.default_rng(seed)
    prices = rng.choice([0.1, 0.3, 0.31, 0.6, 0.9], rounds)
    given_ = rng.uniform(0.0, 12.0, (rounds, 3))
    given_ = np.round(given_) if integer else given_
    terms = known(3, integer=integer)
    seen = curves.read(terms, prices, given_, rng.uniform(size=given_.shape) < 0.8)
    at = curves.evidence(terms, seen, LOW, TOP)
    assert np.all(at.low <= at.high)
    assert np.all(np.diff(at.low, axis=1) >= 0)
    assert np.all(np.diff(at.high, axis=1) >= 0)
    assert np.all((at.low >= LOW - MARGIN) & (at.high <= TOP + MARGIN))


def test_a_contradiction_widens_and_time_heals() -> None:
    terms, whole = known(1), np.ones((2, 1), dtype=bool)
    prices = np.array([0.2, 0.5])
    calm = curves.evidence(
        terms, curves.read(terms, prices, np.array([[2.0], [6.0]]), whole), LOW, TOP
    )
    torn = curves.evidence(
        terms, curves.read(terms, prices, np.array([[6.0], [2.0]]), whole), LOW, TOP
    )
    assert np.sum(torn.high - torn.low) > np.sum(calm.high - calm.low)
    # What was said long ago gives way to what is said again and again since then.
    later = np.array([0.2, *[0.5] * 20])
    said = np.array([[6.0], *[[2.0]] * 20])
    healed = curves.evidence(
        terms, curves.read(terms, later, said, np.ones((21, 1), dtype=bool)), LOW, TOP
    )
    assert healed.low[0, 4] == pytest.approx(np.log(0.5))


def test_only_a_fleet_that_contradicts_itself_forgets() -> None:
    rng = np.random.default_rng(1)
    true, prices = rising(rng, 2, 12), np.concatenate([[0.2, 0.5], np.full(300, 0.4)])
    given_ = answers(true, prices)
    terms = known(2)
    seen = curves.read(terms, prices, given_, np.ones(given_.shape, dtype=bool))
    early = curves.read(terms, prices[:3], given_[:3], np.ones((3, 2), dtype=bool))
    long, short = (curves.evidence(terms, each, LOW, TOP) for each in (seen, early))
    assert np.array_equal(long.low, short.low)
    assert np.array_equal(long.high, short.high)


@given(seeds, st.integers(2, 5))
def test_two_continuous_answers_tell_a_curve_that_is_straight_in_the_inverse_price(
    seed: int, rounds: int
) -> None:
    """As with log satisfaction: whatever has been drawn, the line is the truth."""
    rng = np.random.default_rng(seed)
    start, slope = rng.uniform(2.0, 4.0, 3), rng.uniform(5.0, 9.0, 3)
    place = (np.arange(LEVELS) + 1.0) / LEVELS
    true = -np.log(np.maximum(slope[:, None] - start[:, None] * (2.0 * place), 1e-3))
    prices = np.sort(rng.uniform(1.05 / slope.min(), 0.95, rounds))
    sold = (slope - 1.0 / prices[:, None]) / (2.0 * start) * LEVELS
    sold = np.clip(sold, 0.0, LEVELS)
    terms = known(3, integer=False)
    seen = curves.read(terms, prices, sold, np.ones(sold.shape, dtype=bool))
    at = curves.evidence(terms, seen, LOW, TOP)
    line = at.low + (at.line + 1.0) / 2.0 * (at.high - at.low)
    inside = (at.sure > 0) & (true > at.low) & (true < at.high)
    assert np.allclose(line[inside], true[inside], atol=1e-6)
    two = np.sum((sold > 0) & (sold < LEVELS), axis=0) > 1
    assert np.array_equal(at.sure[:, 0] > 0, two)
    away = np.abs(sold.T[:, None] - LEVELS * place[:, None])
    less = (sold.T[:, None] < LEVELS * place[:, None]) & (sold.T[:, None] > 0)
    nearest = np.min(np.where(less, away, np.inf), axis=-1)
    assert np.allclose(at.under, 1.0 / (1.0 + nearest))


def test_equal_answers_are_where_a_device_ends_and_no_points_of_its_curve() -> None:
    terms = known(1, integer=False)
    prices, sold = np.array([0.2, 0.5, 0.8]), np.array([[3.0], [7.0], [7.0]])
    seen = curves.read(terms, prices, sold, np.ones(sold.shape, dtype=bool))
    at = curves.evidence(terms, seen, LOW, TOP)
    assert not at.sure.any()
    # Of the fifth level the one point is two levels below, and there is none above.
    assert at.under[0, 4] == pytest.approx(1.0 / 3.0)
    assert not at.over[0, 4:].any()
