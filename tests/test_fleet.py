"""Devices as arrays: tables read, priors drawn, actions mapped."""

from decimal import Decimal
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.fleet import COLUMNS, Fleet, FleetPrior, Interval, checked_fleet, read_fleet


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("B,A,name,capacity,alpha\n0.5,1,cam,7,2e0\n")
    fleet, names = read_fleet(path)
    assert [getattr(fleet, name).tolist() for name in COLUMNS] == [[2.0], [7.0], [1.0], [0.5]]
    assert names == ["cam"]


def test_names_are_words_even_if_they_look_like_numbers(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("name,alpha,capacity,A,B\n007,1,2,1,0\n7,1,2,1,0\n1e3,1,2,1,0\nnan,1,2,1,0\n")
    assert read_fleet(path)[1] == ["007", "7", "1e3", "nan"]


@pytest.mark.parametrize(
    "alpha",
    [
        pa.array([1, 2], pa.int16()),
        pa.array([1.0, 2.0], pa.float32()),
        pa.array([np.float16(1.0), np.float16(2.0)], pa.float16()),
        pa.array([Decimal("1.00"), Decimal("2.00")]),
    ],
)
def test_numbers_of_every_kind_become_float64(tmp_path: Path, alpha: pa.Array) -> None:
    columns = {"alpha": alpha, "capacity": [2.0, 2.0], "A": [1.0, 1.0], "B": [0.0, 0.0]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "fleet.parquet")
    fleet, names = read_fleet(tmp_path / "fleet.parquet")
    assert fleet.alpha.tolist() == [1.0, 2.0]
    assert fleet.alpha.dtype == np.float64
    assert names is None


def test_a_word_far_down_a_long_table_is_found(tmp_path: Path) -> None:
    # pyarrow reads in blocks and guesses types from the first.
    rows = ["1.000000000000000,2.000000000000000,1.000000000000000,0"] * 30_000
    rows[29_000] = "1,2,one,0"
    path = tmp_path / "fleet.csv"
    path.write_text("alpha,capacity,A,B\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match=r"device\[29001\]\.A: expected a number, found 'one'"):
        read_fleet(path)


def test_a_device_without_capacity_is_possible() -> None:
    fleet = Fleet(*(np.array([value]) for value in (1.0, 0.0, 1.0, 0.0)))
    assert checked_fleet("here", fleet) is fleet


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
