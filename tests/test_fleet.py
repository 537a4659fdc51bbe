"""Devices as arrays: priors drawn, actions mapped."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.fleet import Fleet, FleetPrior, Interval, fleet_of


def test_a_device_without_capacity_is_possible() -> None:
    columns = {"alpha": [1], "capacity": [0.0], "A": [1.0], "B": [0]}
    fleet = fleet_of("here", columns)
    assert [fleet.alpha.dtype, fleet.B.dtype, len(fleet)] == [np.float64, np.float64, 1]
    with pytest.raises(InputError, match=r"here: device\[1\].A: .* above 0, found 0"):
        fleet_of("here", columns | {"A": [0.0]})


@given(st.floats(-1.0, 1.0), st.floats(0.0, 10.0), st.floats(0.1, 10.0))
def test_actions_and_prices_are_two_names_of_one_thing(
    action: float, low: float, width: float
) -> None:
    price = Interval(low, low + width)
    posted = price.from_unit(np.array([action]))
    assert low - 1e-9 <= posted[0] <= low + width + 1e-9
    assert price.to_unit(posted)[0] == pytest.approx(action, abs=1e-6)


def test_a_prior_draws_within_its_intervals_and_again_the_same() -> None:
    prior = FleetPrior(alpha=Interval(1.0, 2.0), capacity=Interval(5.0, 6.0), A=0.5, B=0.25)
    fleet = prior.sample(jax.random.key(3), 1000)
    assert len(fleet) == 1000
    assert np.all((fleet.alpha >= 1.0) & (fleet.alpha <= 2.0))
    assert np.all((fleet.capacity >= 5.0) & (fleet.capacity <= 6.0))
    assert np.all(fleet.A == 0.5)
    assert np.all(fleet.B == 0.25)
    assert np.ptp(fleet.alpha) > 0.9, "spread over the interval"
    assert abs(np.corrcoef(fleet.alpha, fleet.capacity)[0, 1]) < 0.1, "drawn independently"
    again = prior.sample(jax.random.key(3), 1000)
    assert np.array_equal(fleet.alpha, again.alpha)


def test_a_fleet_stays_what_was_checked() -> None:
    alpha = np.array([3.0, 8.0], np.float32)
    fleet = Fleet(alpha=alpha, capacity=[9, 12], A=[1, 1], B=[0, 0])
    alpha[0] = -5.0
    assert fleet.alpha.tolist() == [3.0, 8.0]
    assert fleet.alpha.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        fleet.alpha[0] = -5.0
    masked = np.ma.array([3.0, 8.0], mask=[False, True])
    with pytest.raises(InputError, match=r"fleet: alpha: .* masked"):
        Fleet(alpha=masked, capacity=[9, 12], A=[1, 1], B=[0, 0])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"alpha": Interval(float("nan"), 2.0)}, "alpha.low"),
        ({"alpha": Interval(-5.0, -2.0)}, "alpha.low"),
        ({"alpha": Interval(6.0, 2.0)}, "alpha.high"),
        ({"A": -1.0}, "A"),
        ({"B": float("inf")}, "B"),
    ],
)
def test_a_prior_of_what_no_device_can_be_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        FleetPrior(**settings)
    assert (refused.value.source, refused.value.field) == ("FleetPrior", field)
