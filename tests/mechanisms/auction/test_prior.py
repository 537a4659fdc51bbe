"""Virtual costs: closed forms, ironing against the convex hull, thresholds on flat stretches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from edgepact.errors import InputError
from edgepact.mechanisms.auction.prior import (
    Histogram,
    Mixture,
    Prior,
    TruncatedExponential,
    uniform,
)
from edgepact.mechanisms.auction.virtual_cost import virtual_cost, virtual_value

IRREGULAR = Histogram(bins=np.array([0.0, 0.5, 0.6, 1.0]), weights=np.array([0.3, 0.5, 0.2]))
GAP = Mixture(parts=[uniform(0.0, 0.2), uniform(0.6, 1.0)], weights=np.array([0.5, 0.5]))
PRIORS = [
    uniform(0.25, 2.0),
    TruncatedExponential(start=0.5, stop=3.0, rate=2.0),
    IRREGULAR,
    GAP,
    Mixture(
        parts=[TruncatedExponential(start=0.0, stop=1.0, rate=9.0), uniform(0.5, 0.75)],
        weights=np.array([0.6, 0.4]),
    ),
]


def test_of_a_uniform_prior_it_is_twice_the_cost() -> None:
    virtual = virtual_cost(uniform(0.0, 1.0))
    cost = np.linspace(0.0, 1.0, 37)
    assert virtual.at(cost) == pytest.approx(2.0 * cost, abs=1e-15)
    assert virtual.at(np.array([1.0 + 1e-9, np.inf])).tolist() == [np.inf, np.inf]
    assert virtual_value(uniform(0.0, 1.0)).at(-cost) == pytest.approx(1.0 - 2.0 * cost, abs=1e-15)


def test_of_an_exponential_prior_it_has_a_closed_form() -> None:
    prior = TruncatedExponential(start=0.5, stop=3.0, rate=2.0)
    cost = np.linspace(0.5, 3.0, 101)
    exact = cost + np.expm1(2.0 * (cost - 0.5)) / 2.0
    assert virtual_cost(prior).at(cost) == pytest.approx(exact, rel=2e-6)
    value = cost - (1.0 - np.exp(-2.0 * (3.0 - cost))) / 2.0  # of bids w, cut off at 3
    assert -virtual_value(prior).at(-cost) == pytest.approx(value, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_is_a_distribution(prior: Prior) -> None:
    edges = prior.edges
    assert prior.cdf(np.array([edges[0] - 1.0, edges[-1] + 1.0])).tolist() == [0.0, 1.0]
    fine = np.linspace(edges[0], edges[-1], 40_001)
    middle = 0.5 * (fine[1:] + fine[:-1])
    total = np.cumsum(prior.density(middle) * np.diff(fine))
    assert prior.cdf(fine[1:]) == pytest.approx(total, abs=1e-3)
    assert prior.cdf(fine) + prior.tail(fine) == pytest.approx(np.ones(len(fine)), abs=1e-12)


def hull_slope(prior: Prior, cost: np.ndarray) -> np.ndarray:
    """Slope of the lower convex hull of q * quantile(q), by the gift-wrapping way."""
    c = np.linspace(prior.low, prior.high, 3001)
    q = prior.cdf(c)
    points = list(zip(q, q * c, strict=True))
    hull: list[tuple[float, float]] = []
    for x, y in points:
        if hull and x <= hull[-1][0]:
            continue  # the gap in the support: the lower of two points stays
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (
            y - hull[-2][1]
        ) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((x, y))
    xs, ys = np.array(hull).T
    at = np.clip(np.searchsorted(xs, prior.cdf(cost), side="left"), 1, len(xs) - 1)
    return (ys[at] - ys[at - 1]) / (xs[at] - xs[at - 1])


@pytest.mark.parametrize("prior", PRIORS)
def test_it_is_the_slope_of_the_convex_hull(prior: Prior) -> None:
    rng = np.random.default_rng(0)
    cost = rng.uniform(prior.low, prior.high, 500)
    cost = cost[prior.density(cost) > 0.0]
    virtual = virtual_cost(prior)
    assert np.all(np.diff(virtual.cost) >= 0.0)
    assert np.all(np.diff(virtual.level) >= 0.0)
    spread = 1.0 + np.abs(virtual.at(cost))
    close = np.abs(virtual.at(cost) - hull_slope(prior, cost)) < 0.01 * spread
    assert np.mean(close) > 0.98, "apart from where it jumps"


def test_an_ironed_stretch_is_level_and_as_long_as_theory_says() -> None:
    # c rises as 2c up to 0.5 and beyond as c + F/5; level L where the areas beside it are equal.
    def excess(level: float) -> float:
        start = level / 2.0
        stop = (level + 0.5 - 0.3 / 5.0) / 2.0
        spent = stop * (0.3 + 5.0 * (stop - 0.5)) - start * 0.6 * start
        return spent - level * (0.3 + 5.0 * (stop - 0.5) - 0.6 * start)

    level = brentq(excess, 0.6, 0.9)
    virtual = virtual_cost(IRREGULAR)
    assert virtual.at(np.array([0.4, 0.5, 0.55])) == pytest.approx([level] * 3, rel=1e-6)
    assert virtual.at(np.array([0.3, 0.7])) == pytest.approx([0.6, 0.7 + 0.85 / 0.5], rel=1e-9)
    flat = virtual.cost[virtual.level == virtual.at(np.array([0.5]))[0]]
    assert flat[[0, -1]] == pytest.approx([level / 2.0, (level + 0.44) / 2.0], abs=1e-3)


@settings(max_examples=40)
@given(st.sampled_from(PRIORS), st.floats(0.05, 4.0), st.floats(0.0, 2.0), st.booleans(), st.data())
def test_thresholds_are_where_scores_cross_the_bar(
    prior: Prior, value: float, bar: float, ties: bool, data: st.DataObject
) -> None:
    virtual = virtual_cost(prior)
    if data.draw(st.booleans()):  # a bar on the very score of some cost
        cost = data.draw(st.sampled_from(virtual.cost[::97].tolist()))
        bar = max(0.0, float(value - virtual.at(np.array([cost]))[0]))

    def beats(cost: float) -> bool:
        score = float(value - virtual.at(np.array([cost]))[0])
        return score > bar or (ties and score == bar)

    (found,) = virtual.threshold(np.array([value]), np.array([bar]), np.array([ties]))
    step = 1e-9 * (1.0 + abs(found))
    assert beats(found - step)
    assert not beats(found + step)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"bins": np.array([0.0, 0.0]), "weights": np.ones(1)}, "bins"),
        ({"bins": np.array([0.0, np.inf]), "weights": np.ones(1)}, "bins"),
        ({"bins": np.array([1.0]), "weights": np.ones(0)}, "bins"),
        ({"bins": np.array([0.0, 1.0]), "weights": np.ones(2) / 2}, "weights"),
        ({"bins": np.array([0.0, 1.0, 2.0]), "weights": np.array([1.5, -0.5])}, "weights"),
        ({"bins": np.array([0.0, 1.0, 2.0]), "weights": np.array([0.5, 0.4])}, "weights"),
        ({"bins": np.array([0.0, 1.0, 2.0]), "weights": np.array([1.0, 0.0])}, "weights"),
    ],
)
def test_impossible_histograms_are_refused(terms: dict, field: str) -> None:
    with pytest.raises(InputError, match=f"prior: {field}"):
        Histogram(**terms)


def test_other_impossible_priors_are_refused() -> None:
    with pytest.raises(InputError, match="rate"):
        TruncatedExponential(start=0.0, stop=1.0, rate=1e6)
    with pytest.raises(InputError, match="low, high"):
        TruncatedExponential(start=1.0, stop=1.0, rate=1.0)
    with pytest.raises(InputError, match="parts"):
        Mixture(parts=[], weights=np.ones(0))
    with pytest.raises(InputError, match="weights"):
        Mixture(parts=[uniform(0.0, 1.0)], weights=np.array([0.5]))
