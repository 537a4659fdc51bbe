"""Links against tables, closed forms and the theory of Rayleigh fading."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.channel import (
    Channel,
    break_point_m,
    correlation_of,
    ergodic_rate,
    line_of_sight_probability,
    outage,
    path_loss_los_db,
    path_loss_nlos_db,
)

distances = st.floats(10.0, 5000.0)
carriers = st.floats(0.5, 100.0)


class TestPathLoss:
    # The values of ns-3's own tests of UMi street canyons, at 5 GHz.
    @pytest.mark.parametrize(
        ("distance", "clear", "blocked"),
        [
            (10.0, 69.8591, 76.7563),
            (100.0, 88.4122, 107.9432),
            (1000.0, 119.3114, 143.1886),
            (5000.0, 147.2696, 167.8617),
        ],
    )
    def test_golden_values(self, distance: float, clear: float, blocked: float) -> None:
        at = np.array([distance])
        assert path_loss_los_db(at, 5.0)[0] == pytest.approx(clear, abs=2e-3)
        assert path_loss_nlos_db(at, 5.0)[0] == pytest.approx(blocked, abs=2e-3)

    def test_break_point_is_that_of_the_effective_heights(self) -> None:
        assert break_point_m(5.0) == pytest.approx(4 * 9.0 * 0.5 * 5e9 / 3e8)
        assert break_point_m(5.0, 10.0, 22.5) > break_point_m(5.0, 10.0, 1.5)

    @given(carriers.filter(lambda carrier: 10.0 < break_point_m(carrier) < 4900.0))
    def test_nothing_jumps_at_the_break_point(self, carrier: float) -> None:
        at = break_point_m(carrier) * np.array([1 - 1e-9, 1 + 1e-9])
        before, after = path_loss_los_db(at, carrier)
        assert before == pytest.approx(after, abs=1e-6)

    @given(distances, distances, carriers)
    def test_further_is_weaker_and_a_wall_never_helps(
        self, one: float, other: float, carrier: float
    ) -> None:
        at = np.sort(np.array([one, other]))
        for loss in (path_loss_los_db(at, carrier), path_loss_nlos_db(at, carrier)):
            assert loss[0] <= loss[1] + 1e-9
        assert np.all(path_loss_nlos_db(at, carrier) >= path_loss_los_db(at, carrier))

    def test_line_of_sight(self) -> None:
        chance = line_of_sight_probability(np.array([10.0, 18.0, 36.0, 500.0]))
        expected = 0.5 + math.exp(-1.0) * 0.5
        far = 18 / 500 + math.exp(-500 / 36) * (1 - 18 / 500)
        np.testing.assert_allclose(chance, [1.0, 1.0, expected, far], rtol=1e-12)


class TestRates:
    @pytest.mark.parametrize("snr", [0.1, 1.0, 10.0, 300.0])
    def test_ergodic_rate(self, snr: float) -> None:
        closed = math.exp(1 / snr) * special.exp1(1 / snr) / math.log(2)
        assert ergodic_rate(snr) == pytest.approx(closed, rel=1e-9)
        fading = np.asarray(Channel().draw_fading(jax.random.key(0), 200_000), np.float64)
        rates = np.log2(1 + snr * np.sum(fading**2, axis=1))
        assert rates.mean() == pytest.approx(closed, abs=5 * rates.std() / math.sqrt(200_000))

    def test_ergodic_rate_of_next_to_no_signal(self) -> None:
        assert ergodic_rate(1e-6) == pytest.approx(1e-6 / math.log(2), rel=1e-5)

    @pytest.mark.parametrize(("rate", "snr"), [(1.0, 10.0), (2.0, 3.0), (0.1, 0.2)])
    def test_outage(self, rate: float, snr: float) -> None:
        expected = 1 - math.exp(-(2**rate - 1) / snr)
        assert outage(rate, snr) == pytest.approx(expected, rel=1e-12)
        fading = np.asarray(Channel().draw_fading(jax.random.key(1), 200_000))
        missed = np.mean(np.log2(1 + snr * np.sum(fading**2, axis=1)) < rate)
        assert missed == pytest.approx(expected, abs=5 * math.sqrt(expected / 200_000))

    def test_a_link_is_its_budget(self) -> None:
        channel = Channel(bandwidth_hz=1e6, power_dbm=20.0, noise_figure_db=4.0)
        # 20 dBm - 100 dB against -174 + 4 + 60 dBm: 30 dB
        steady = np.array([[1.0, 0.0], [0.0, 0.0]])
        snr = channel.snr(np.full(2, -100.0), steady)
        np.testing.assert_allclose(snr, [1000.0, 0.0])
        rate = channel.rate_bit_s(np.full(2, -100.0), steady)
        np.testing.assert_allclose(rate, [1e6 * math.log2(1001), 0.0])

    @given(st.floats(0.0, 1e9), st.floats(0.0, 1e9))
    def test_what_the_upload_leaves(self, one: float, other: float) -> None:
        channel = Channel(bits=1e5, deadline_s=0.1)
        slow, fast = channel.time_left(np.sort(np.array([one, other])))
        assert 0 <= slow <= fast < 1
        expected = [
            max(0.0, 1 - 1e5 / rate / 0.1) if rate else 0.0 for rate in sorted((one, other))
        ]
        np.testing.assert_allclose([slow, fast], expected, atol=1e-12)


class TestFading:
    def test_rayleigh_power_is_exponential(self) -> None:
        fading = np.asarray(Channel().draw_fading(jax.random.key(0), 100_000), np.float64)
        power = np.sort(np.sum(fading**2, axis=1))
        empirical = (np.arange(100_000) + 0.5) / 100_000
        assert np.max(np.abs(empirical - (1 - np.exp(-power)))) < 1.6 / math.sqrt(100_000)

    @pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
    def test_gauss_markov_keeps_the_power_and_its_correlation(self, correlation: float) -> None:
        channel = Channel(correlation=correlation)
        keys = jax.random.split(jax.random.key(3))
        first = channel.draw_fading(keys[0], 100_000)
        second = channel.fade(keys[1], first)
        assert float(np.mean(np.sum(second**2, axis=1))) == pytest.approx(1.0, abs=0.02)
        assert float(np.mean(first * second) * 2) == pytest.approx(correlation, abs=0.02)
        if correlation == 1.0:
            assert np.array_equal(first, second)

    def test_faster_devices_are_less_correlated(self) -> None:
        # J0(2 pi f T) of a Doppler shift of 3.5 GHz * 3 m/s / c = 35 Hz, over 5 ms
        assert correlation_of(3.0, 3.5, 0.005) == pytest.approx(special.j0(2 * math.pi * 0.175))
        assert correlation_of(0.0, 3.5, 0.005) == 1.0
        assert correlation_of(300.0, 3.5, 0.005) == 0.0


class TestPlaces:
    def test_devices_are_spread_over_the_ring(self) -> None:
        near = Channel(distance_min_m=10.0, distance_max_m=18.0, carrier_ghz=5.0)
        gain = np.asarray(near.draw_gain_db(jax.random.key(0), 50_000), np.float64)
        # Everybody there has line of sight, so the mean is that over the ring's area.
        at = np.sqrt(np.linspace(10.0**2, 18.0**2, 10_001))
        assert gain.mean() == pytest.approx(-path_loss_los_db(at, 5.0).mean(), abs=0.1)
        spread = math.sqrt(4.0**2 + path_loss_los_db(at, 5.0).std() ** 2)
        assert gain.std() == pytest.approx(spread, abs=0.1)

    def test_further_out_most_are_behind_walls(self) -> None:
        far = Channel(distance_min_m=990.0, distance_max_m=1000.0, carrier_ghz=5.0)
        gain = np.asarray(far.draw_gain_db(jax.random.key(0), 50_000), np.float64)
        chance = float(line_of_sight_probability(np.array([995.0]))[0])
        at = np.array([995.0])
        expected = chance * path_loss_los_db(at, 5.0) + (1 - chance) * path_loss_nlos_db(at, 5.0)
        assert gain.mean() == pytest.approx(-expected[0], abs=0.2)
        assert gain.std() > 7.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("carrier_ghz", 0.1),
        ("bandwidth_hz", 0.0),
        ("bits", math.nan),
        ("deadline_s", -1.0),
        ("distance_min_m", 5.0),
        ("distance_max_m", 5.0),
        ("height_device_m", 0.5),
        ("correlation", 1.5),
        ("power_dbm", math.inf),
    ],
)
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"channel: {field}: expected"):
        Channel(**{field: value})
