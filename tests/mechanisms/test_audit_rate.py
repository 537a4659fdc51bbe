"""The least audit rate at which cheating loses, against every cheat there is."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.audit_rate import (
    SURPLUS,
    audit_rate,
    best_cheat,
    expected_gain,
    honest_loss,
)

UNITS = st.lists(
    st.one_of(st.integers(1, 4).map(float), st.floats(0.01, 100.0)), min_size=1, max_size=7
)


@st.composite
def terms(draw: st.DrawFn) -> dict[str, float]:
    reward = draw(st.floats(0.01, 50.0))
    return {
        "margin": draw(st.floats(0.01, 1.0)),
        "reward": reward,
        "least_reward": reward * draw(st.one_of(st.just(1.0), st.floats(0.05, 1.0))),
        "power": draw(st.one_of(st.just(1.0), st.floats(0.05, 1.0))),
    }


def cheats(units: list[float]) -> list[tuple[int, ...]]:
    places = range(len(units))
    return [c for k in range(1, len(units) + 1) for c in itertools.combinations(places, k)]


def best_gain(
    units: list[float], cheat: tuple[int, ...], p: float, told: dict[str, float]
) -> float:
    """Gain of a cheat over the best honest choice, for the device to which it is worth most.

    Written out from the model: the device's cost of a unit at the item is anything from nothing
    to twice its pay, and its honest profit the better of the two items', where the least paid one
    brings it the stated margin.
    """
    paid = told["reward"] * sum(units)
    escapes = (1 - told["power"] * p) ** len(cheat)
    honest_units = sum(units) - sum(units[i] for i in cheat)
    small = told["margin"] * told["least_reward"] * sum(units)
    kink = told["reward"] - told["margin"] * told["least_reward"]
    gains = []
    for cost in [*np.linspace(0, 2 * told["reward"], 41), kink]:
        honest = max(small, paid - cost * sum(units))
        gains.append(escapes * paid - cost * honest_units - honest)
    return max(gains)


@given(UNITS, terms())
def test_every_cheat_of_every_device_loses(units: list[float], told: dict[str, float]) -> None:
    rate = audit_rate(units, **told)
    worst = max(best_gain(units, cheat, rate, told) for cheat in cheats(units))
    gains = [expected_gain(k, rate, units, **told) for k in range(1, len(units) + 1)]
    assert worst == pytest.approx(max(gains), rel=1e-9, abs=1e-9 * told["reward"] * sum(units))
    if rate < 1:
        assert worst < 0
        assert max(gains) < 0


@given(UNITS, terms())
def test_a_cheat_loses_half_of_the_margin_on_what_it_invents(
    units: list[float], told: dict[str, float]
) -> None:
    rate = audit_rate(units, **told)
    if rate == 1:
        return
    largest = np.cumsum(np.sort(units)[::-1])
    for k in range(1, len(units) + 1):
        least = SURPLUS * told["margin"] * told["least_reward"] * largest[k - 1]
        slack = 1e-9 * told["reward"] * sum(units)
        assert expected_gain(k, rate, units, **told) <= -least + slack


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12), st.floats(0.02, 1.0))
def test_spoilt_first_tries_pay_less_than_honest_work(
    spoilt: int, honest: int, tries: int, margin: float
) -> None:
    """Pictures drawn again at most so many times: the rate is reckoned from the units delivered."""
    units = [float(tries)] * spoilt + [1.0] * honest
    rate = audit_rate(units, margin=margin / tries, reward=1.0, least_reward=1.0)
    left = sum(units) * (1.0 - rate) ** spoilt - honest * (1.0 - margin)
    assert left <= (honest + spoilt / 2) * margin + 1e-9
    assert left < (honest + spoilt) * margin


@given(UNITS, terms())
def test_it_is_the_least_such_rate(units: list[float], told: dict[str, float]) -> None:
    """At the rate some cheat just loses the surplus of its honest profit; below, less than that."""
    rate = audit_rate(units, **told)
    if rate == 1:
        return
    profit_share = told["margin"] * told["least_reward"] / told["reward"]

    def short(p: float) -> float:
        """By how much the loss of the best cheat falls short of what is asked, as a share."""
        shares = []
        for cheat in cheats(units):
            share = sum(units[i] for i in cheat) / sum(units)
            found = 1 - (1 - told["power"] * p) ** len(cheat)
            shares.append((1 - SURPLUS * profit_share) * share - found)
        return max(shares)

    assert short(rate) == pytest.approx(0, abs=1e-9)
    assert short(rate * 0.999) > 0


@given(UNITS, terms())
def test_cheating_on_everything_loses_half_of_the_honest_profit(
    units: list[float], told: dict[str, float]
) -> None:
    rate = audit_rate(units, **told)
    if rate < 1:
        honest = told["margin"] * told["least_reward"] * sum(units)
        rubbish = told["reward"] * sum(units) * (1 - told["power"] * rate) ** len(units)
        assert rubbish <= (1 - SURPLUS) * honest * (1 + 1e-9)


@given(st.integers(1, 300), st.floats(0.01, 100), terms())
def test_equal_units_have_a_closed_form(count: int, unit: float, told: dict[str, float]) -> None:
    share = told["margin"] * told["least_reward"] / told["reward"]
    closed = min(1.0, (1 - (SURPLUS * share) ** (1 / count)) / told["power"])
    assert audit_rate([unit] * count, **told) == pytest.approx(closed, rel=1e-6)


@given(UNITS, terms(), st.floats(0.1, 1.0))
def test_less_to_lose_needs_more_audits(
    units: list[float], told: dict[str, float], factor: float
) -> None:
    rate = audit_rate(units, **told)
    least = rate * (1 - 1e-12)
    assert audit_rate(units, **{**told, "margin": told["margin"] * factor}) >= least
    assert audit_rate(units, **{**told, "least_reward": told["least_reward"] * factor}) >= least
    assert audit_rate(units, **{**told, "power": told["power"] * factor}) >= least
    assert audit_rate([*units, min(units)], **told) <= rate * (1 + 1e-12)  # another small piece
    assert audit_rate([unit * factor for unit in units], **told) == pytest.approx(rate)
    assert audit_rate(units[::-1], **told) == rate


@given(UNITS, terms(), st.floats(0, 1), st.floats(0, 1))
def test_gain_falls_with_the_rate(
    units: list[float], told: dict[str, float], p: float, other: float
) -> None:
    low, high = sorted((p, other))
    for k in range(len(units) + 1):
        gains = [expected_gain(k, each, units, **told) for each in (low, high)]
        assert gains[1] <= gains[0] + 1e-9 * told["reward"] * sum(units)


@given(UNITS, terms(), st.floats(0, 1))
def test_best_cheat_is_that_of_all_cheats_of_all_devices(
    units: list[float], told: dict[str, float], p: float
) -> None:
    honest = told["margin"] * told["least_reward"] * sum(units)
    gain = max(best_gain(units, cheat, p, told) for cheat in cheats(units))
    assert best_cheat(p, units, **told) == pytest.approx(1 + gain / honest, rel=1e-6, abs=1e-6)


def test_one_piece_and_none() -> None:
    assert audit_rate([], margin=0.25, reward=1, least_reward=1) == 0
    assert audit_rate([5], margin=0.25, reward=1, least_reward=1) == 0.875
    assert audit_rate([5], margin=0.25, reward=1, least_reward=1, power=0.5) == 1  # not enough
    assert expected_gain(1, 1.0, [5], margin=0.25, reward=1, least_reward=1, power=0.5) > 0


def test_honest_devices_risk_what_false_alarms_cost() -> None:
    assert honest_loss(10, 0.5, 0.0) == 0
    assert honest_loss(10, 0.5, 0.01) == pytest.approx(1 - (1 - 0.005) ** 10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("margin", 0.0),
        ("margin", 1.5),
        ("margin", float("nan")),
        ("power", 0.0),
        ("power", 1.1),
        ("least_reward", 0.0),
        ("least_reward", 2.0),
        ("units", [1.0, 0.0]),
        ("units", [float("inf")]),
    ],
)
def test_numbers_out_of_range_are_named(name: str, value: Any) -> None:
    told: dict[str, Any] = {"units": [1.0], "margin": 0.25, "reward": 1.0, "least_reward": 1.0}
    with pytest.raises(InputError, match=name):
        audit_rate(**{**told, name: value})
    with pytest.raises(InputError, match=name):
        expected_gain(1, 0.5, **{**told, name: value})


def test_probabilities_and_counts_are_checked() -> None:
    for k, p, name in ((2, 0.5, "k"), (-1, 0.5, "k"), (1, 1.5, "p"), (1, -0.1, "p")):
        with pytest.raises(InputError, match=name):
            expected_gain(k, p, [1.0], margin=0.25, reward=1, least_reward=1)
