"""The best price over samples, against brute force."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgepact.solvers.in_context.decision import (
    MANY,
    best_price,
    expected,
    first_price,
    gain,
    normal_share,
    thinned,
)
from edgepact.solvers.in_context.supply import Sample, each_supply, moments

LOW, TOP = np.log(0.05), 0.0


def a_sample(rng: np.random.Generator) -> Sample:
    drawn = np.sort(rng.uniform(LOW - 0.4, TOP + 0.4, (3, 2, 4)), axis=-1)
    return Sample(drawn, 4, True, None)


def worth(sample: Sample, price: float, best: float, horizon: float) -> float:
    """By the definition, a device and a layer at a time."""
    values = []
    for curves in sample.price:
        sold = sum(float(step) <= price for device in curves for step in device)
        values.append((1.0 - np.exp(price)) * sold / 8.0)
    better = [max(0.0, value - best) for value in values]
    return float(np.mean(values) + horizon * np.mean(better))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 8.0]), st.booleans())
def test_no_price_is_worth_more_than_the_one_found(seed: int, horizon: float, first: bool) -> None:
    rng = np.random.default_rng(seed)
    sample = a_sample(rng)
    seen = np.zeros(0) if first else np.sort(rng.uniform(LOW, TOP, 2))
    # All samples agree at the prices seen.
    best = max((float(gain(sample, seen).mean(axis=0).max()),) if len(seen) else (0.0,))
    price, again = best_price([(sample, 1.0)], seen, low=LOW, top=TOP, horizon=horizon)
    assert LOW <= price <= TOP
    every = [step for step in sample.price.ravel() if LOW <= step <= TOP]
    most = max((worth(sample, step, best, horizon) for step in every), default=0.0)
    if again:
        assert price in seen
        assert most <= best + 1e-6
    elif every:
        assert abs(worth(sample, price, best, horizon) - most) < 1e-12


def test_several_ways_to_draw_count_as_they_are_believed() -> None:
    cheap = Sample(np.full((2, 1, 4), np.log(0.2)), 4, True, None)
    dear = Sample(np.full((2, 1, 4), np.log(0.6)), 4, True, None)
    none = np.zeros(0)
    for share, price_of_more in ((0.9, 0.2), (0.1, 0.6)):
        pair = [(cheap, share), (dear, 1.0 - share)]
        price, again = best_price(pair, none, low=LOW, top=TOP, horizon=0.0)
        assert not again
        assert np.isclose(np.exp(price), price_of_more)


def test_a_first_price_is_the_one_with_the_highest_share_of_the_range_on_average() -> None:
    """Three devices of five leave little to gain, two much; and those of a level beyond reach."""
    cheap, dear, never = np.log(0.2), np.log(0.7), TOP + 0.4
    rows = [[dear] * 4] * 3 + [[cheap] * 4] * 2 + [[never] * 4]
    sample = Sample(np.array(rows)[:, None], 4, True, None)
    highest = np.log(3.0)
    grid = np.linspace(LOW, highest, 20_000)
    most = {}
    for price in (0.2, 0.7):
        shares = []
        for row in rows[:-1]:
            earned = (1.0 - np.exp(grid)) * (grid >= row[0])
            random, best = earned.mean(), 1.0 - np.exp(row[0])
            gained = (1.0 - price) * (np.log(price) >= row[0])
            shares.append((gained - random) / (best - random))
        most[price] = np.mean(shares)
    # What all earn together says the low price: more of the rich ones.
    together = best_price([(sample, 1.0)], np.zeros(0), low=LOW, top=TOP, horizon=0.0)[0]
    assert np.isclose(np.exp(together), 0.2)
    assert most[0.7] > most[0.2]
    price = first_price([(sample, 1.0)], low=LOW, top=TOP, highest=float(highest))
    # To within the prices looked at.
    assert 0.7 <= np.exp(price) < 0.7 * np.exp(2.0 * (TOP - LOW) / 199)
    # Devices are looked at one by one: how they were drawn together is all the same.
    other = Sample(np.array(rows).reshape(2, 3, 4), 4, True, None)
    assert first_price([(other, 1.0)], low=LOW, top=TOP, highest=float(highest)) == price


def test_with_caution_only_what_is_certain_is_posted() -> None:
    sample = Sample(np.full((2, 1, 4), np.log(0.3)), 4, True, None)
    seen = np.array([np.log(0.2), np.log(0.5)])
    bold, _ = best_price([(sample, 1.0)], seen, low=LOW, top=TOP, horizon=1.0)
    assert np.isclose(np.exp(bold), 0.3)
    certain = np.array([0.0, 1.0]), 0.004
    price, again = best_price([(sample, 1.0)], seen, low=LOW, top=TOP, horizon=1.0, certain=certain)
    assert again
    assert price == seen[1]


def test_thinning_keeps_the_ends() -> None:
    rising = np.arange(1000.0)
    few = thinned(rising, 7)
    assert len(few) == 7
    assert (few[0], few[-1]) == (0.0, 999.0)
    assert np.array_equal(thinned(few, 7), few)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_moments_are_those_of_every_choice_of_a_sample_for_each_device(
    seed: int, integer: bool
) -> None:
    rng = np.random.default_rng(seed)
    levels = 5 if integer else 12
    drawn = np.sort(rng.uniform(LOW - 0.4, TOP + 0.4, (3, 2, levels)), axis=-1)
    sample = Sample(drawn, levels, integer, None)
    price = float(rng.uniform(LOW, TOP))
    mean, variance = moments(sample, np.array([price]))
    first, second = each_supply(sample, price).T
    totals = np.add.outer(first, second).ravel()
    assert np.isclose(mean[0], totals.mean())
    # Without bias: of three draws, 3/2 times what they vary by.
    assert np.isclose(variance[0], 1.5 * totals.var())


def test_what_many_devices_promise_is_what_very_many_samples_say() -> None:
    rng = np.random.default_rng(5)
    drawn = np.sort(rng.uniform(LOW, TOP, (40_000, MANY, 4)), axis=-1)
    many = Sample(drawn, 4, True, None)
    prices = np.linspace(LOW + 0.2, TOP - 0.2, 9)
    earned = gain(many, prices)
    best = float(earned.mean(axis=0).max())
    mean, better = expected(many, prices, best)
    assert np.allclose(mean, earned.mean(axis=0))
    assert np.allclose(better, np.maximum(earned - best, 0.0).mean(axis=0), atol=2e-3)
    assert better.max() > 0.01
    # Where the answer is known nothing can be better than it is.
    sure = Sample(np.repeat(drawn[:1], 8, axis=0), 4, True, None)
    mean, better = expected(sure, prices, 0.1)
    assert np.allclose(better, np.maximum(mean - 0.1, 0.0))


def test_the_normal_distribution_function() -> None:
    x = np.linspace(-8.0, 8.0, 161)
    exact = np.array([0.5 * (1.0 + math.erf(each / math.sqrt(2.0))) for each in x])
    assert np.allclose(normal_share(x), exact, atol=1e-7)
