"""The best price over samples, against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgepact.solvers.in_context.decision import best_price, gain, thinned
from edgepact.solvers.in_context.supply import Sample

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
    for share, expected in ((0.9, 0.2), (0.1, 0.6)):
        pair = [(cheap, share), (dear, 1.0 - share)]
        price, again = best_price(pair, none, low=LOW, top=TOP, horizon=0.0)
        assert not again
        assert np.isclose(np.exp(price), expected)


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
