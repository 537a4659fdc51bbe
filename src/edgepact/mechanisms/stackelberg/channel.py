r"""Radio links that fade, and what a bad link leaves of a device's computing.

A device shares its round with its radio: it computes first and uploads the activation
at the cut afterwards, and both must fit into the deadline $D$. A link of rate $R$
needs $q/R$ seconds for $q$ bits, so of the computing $W$ that fits into $D$ there is

$$W \cdot \max(0,\ 1 - q / (R D))$$

left. The size of an activation does not depend on the cut (every block of a
transformer has the same width), so neither does $q$; what is sent without any layer
or with all of them is smaller, which this model leaves aside.

Distance and path loss stay for as long as a device does; the fading is drawn anew
for each round. Path loss, line of sight and shadowing are those of street canyons
(UMi) in 3GPP TR 38.901 (V17, tables 7.4.1-1 and 7.4.2-1), the fading is Rayleigh's,
the rate is Shannon's.

Formulas of decibels and rates work on NumPy and JAX arrays alike; what is drawn is JAX.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray
from scipy import special

from edgepact.errors import InputError
from edgepact.fleet import Array, namespace

LIGHT_M_S = 3.0e8
"""Speed of light as TR 38.901 rounds it."""

CLUTTER_M = 1.0
"""Height of the effective environment, taken off both antennas' (TR 38.901, UMi)."""

SHADOWING_LOS_DB, SHADOWING_NLOS_DB = 4.0, 7.82
"""Standard deviations of log-normal shadowing."""

NEAREST_M, FURTHEST_M = 10.0, 5000.0
"""Distances on the ground for which the path loss is stated."""

BITS_VIT_B32 = 50 * 768 * 8
"""An activation of ViT-B/32: 50 tokens of width 768, int8."""


class Channel(eqx.Module):
    r"""A cell: where devices stand, their radios, and what they have to send.

    Attributes:
        carrier_ghz: carrier frequency.
        bandwidth_hz: of each device's own share of the spectrum.
        power_dbm: what a device transmits with.
        noise_dbm_hz: thermal noise.
        noise_figure_db: what the station's receiver adds to it.
        distance_min_m, distance_max_m: ring on the ground in which devices stand,
            spread evenly over its area.
        height_station_m, height_device_m: of the antennas.
        bits: size of an activation on the link.
        deadline_s: D, time for computing and upload of one image.
        correlation: of the fading from one round to the next, from 0 (block fading)
            to 1 (no fading over time); `correlation_of` gives it for a moving device.
    """

    carrier_ghz: float = eqx.field(static=True, default=3.5)
    bandwidth_hz: float = eqx.field(static=True, default=5e6)
    power_dbm: float = eqx.field(static=True, default=23.0)
    noise_dbm_hz: float = eqx.field(static=True, default=-174.0)
    noise_figure_db: float = eqx.field(static=True, default=5.0)
    distance_min_m: float = eqx.field(static=True, default=NEAREST_M)
    distance_max_m: float = eqx.field(static=True, default=200.0)
    height_station_m: float = eqx.field(static=True, default=10.0)
    height_device_m: float = eqx.field(static=True, default=1.5)
    bits: float = eqx.field(static=True, default=float(BITS_VIT_B32))
    deadline_s: float = eqx.field(static=True, default=0.2)
    correlation: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        for name in ("power_dbm", "noise_dbm_hz", "noise_figure_db"):
            _check(name, "a finite number", getattr(self, name), -math.inf)
        for name in ("bandwidth_hz", "bits", "deadline_s"):
            _check(name, "a finite number above 0", getattr(self, name), 0.0)
        for name, low, high in (
            # The ranges of the report, without which its formulas say nothing.
            ("carrier_ghz", 0.5, 100.0),
            ("distance_min_m", NEAREST_M, FURTHEST_M),
            ("distance_max_m", self.distance_min_m, FURTHEST_M),
            ("height_device_m", 1.5, 22.5),
            ("height_station_m", 1.5, 25.0),
            ("correlation", 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError("channel", name, f"{low:g} to {high:g}", getattr(self, name))

    def draw_gain_db(self, key: PRNGKeyArray, devices: int) -> Float[Array, " devices"]:
        """Places devices, and draws line of sight and shadowing.

        Returns:
            Gain of each link without its fading, dB: what is lost, with a minus.
        """
        of_place, of_sight, of_shadow = jax.random.split(key, 3)
        near, far = self.distance_min_m**2, self.distance_max_m**2
        distance = jnp.sqrt(near + (far - near) * jax.random.uniform(of_place, (devices,)))
        sight = jax.random.uniform(of_sight, (devices,)) < line_of_sight_probability(distance)
        shadow = jax.random.normal(of_shadow, (devices,))
        heights = self.height_station_m, self.height_device_m
        clear = path_loss_los_db(distance, self.carrier_ghz, *heights)
        blocked = path_loss_nlos_db(distance, self.carrier_ghz, *heights)
        loss = jnp.where(
            sight, clear + SHADOWING_LOS_DB * shadow, blocked + SHADOWING_NLOS_DB * shadow
        )
        return -loss

    def draw_fading(self, key: PRNGKeyArray, devices: int) -> Float[Array, "devices 2"]:
        """Real and imaginary part of z, with |z|^2 exponential of mean 1 (Rayleigh)."""
        return jnp.sqrt(0.5) * jax.random.normal(key, (devices, 2))

    def fade(
        self, key: PRNGKeyArray, fading: Float[Array, "devices 2"]
    ) -> Float[Array, "devices 2"]:
        """The next round's z, `rho z + sqrt(1 - rho^2) w`: Gauss-Markov, block at rho 0."""
        rest = math.sqrt(1.0 - self.correlation**2)
        return self.correlation * fading + rest * self.draw_fading(key, fading.shape[0])

    def snr(
        self, gain_db: Float[Array, " devices"], fading: Float[Array, "devices 2"]
    ) -> Float[Array, " devices"]:
        """Signal over noise at the station."""
        noise_dbm = self.noise_dbm_hz + self.noise_figure_db + 10.0 * math.log10(self.bandwidth_hz)
        xp = namespace(fading)
        return 10.0 ** ((self.power_dbm - noise_dbm + gain_db) / 10.0) * xp.sum(fading**2, axis=-1)

    def rate_bit_s(
        self, gain_db: Float[Array, " devices"], fading: Float[Array, "devices 2"]
    ) -> Float[Array, " devices"]:
        """Shannon's rate of each link."""
        xp = namespace(fading)
        return self.bandwidth_hz / math.log(2.0) * xp.log1p(self.snr(gain_db, fading))

    def time_left(self, rate_bit_s: Float[Array, " devices"]) -> Float[Array, " devices"]:
        """Share of the deadline that an upload leaves for computing, 0 to 1."""
        xp = namespace(rate_bit_s)
        # A link of rate 0 leaves nothing either, without a division by it.
        least = self.bits / self.deadline_s
        return 1.0 - least / xp.clip(rate_bit_s, least, None)


def break_point_m(
    carrier_ghz: float, height_station_m: float = 10.0, height_device_m: float = 1.5
) -> float:
    """Distance on the ground from which the reflection off the street weakens the signal."""
    heights = (height_station_m - CLUTTER_M) * (height_device_m - CLUTTER_M)
    return 4.0 * heights * carrier_ghz * 1e9 / LIGHT_M_S


def path_loss_los_db(
    distance_m: Float[Array, "*shape"],
    carrier_ghz: float,
    height_station_m: float = 10.0,
    height_device_m: float = 1.5,
) -> Float[Array, "*shape"]:
    """Path loss with line of sight (UMi, TR 38.901 table 7.4.1-1).

    Args:
        distance_m: on the ground, 10 to 5000 m.
        carrier_ghz: carrier frequency, 0.5 to 100 GHz.
        height_station_m, height_device_m: of the antennas.

    Example:
        >>> import numpy as np
        >>> path_loss_los_db(np.array([10.0, 1000.0]), 5.0).round(3).tolist()
        [69.859, 119.311]
    """
    xp = namespace(distance_m)
    beyond = break_point_m(carrier_ghz, height_station_m, height_device_m)
    climb = height_station_m - height_device_m
    far = 0.5 * xp.log10(distance_m**2 + climb**2)  # of the distance through the air
    free = 32.4 + 20.0 * math.log10(carrier_ghz)
    reflected = 40.0 * far - 9.5 * math.log10(beyond**2 + climb**2)
    return free + xp.where(distance_m <= beyond, 21.0 * far, reflected)


def path_loss_nlos_db(
    distance_m: Float[Array, "*shape"],
    carrier_ghz: float,
    height_station_m: float = 10.0,
    height_device_m: float = 1.5,
) -> Float[Array, "*shape"]:
    """Path loss without line of sight, never below that with it; as `path_loss_los_db`."""
    xp = namespace(distance_m)
    far = 0.5 * xp.log10(distance_m**2 + (height_station_m - height_device_m) ** 2)
    around = 22.4 + 35.3 * far + 21.3 * math.log10(carrier_ghz) - 0.3 * (height_device_m - 1.5)
    return xp.maximum(
        path_loss_los_db(distance_m, carrier_ghz, height_station_m, height_device_m), around
    )


def line_of_sight_probability(distance_m: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Share of devices at a distance on the ground that see the station (table 7.4.2-1)."""
    xp = namespace(distance_m)
    near = 18.0 / xp.clip(distance_m, 18.0, None)
    return near + xp.exp(-distance_m / 36.0) * (1.0 - near)


def ergodic_rate(snr: float) -> float:
    r"""Mean rate of a Rayleigh link of mean SNR g, `e^(1/g) E1(1/g) / ln 2`, bit/s/Hz."""
    # U(1, 1, x) = e^x E1(x), without the overflow of its factors.
    return float(special.hyperu(1.0, 1.0, 1.0 / snr)) / math.log(2.0)


def outage(rate: float, snr: float) -> float:
    """Probability that a Rayleigh link of mean SNR carries less than a rate in bit/s/Hz."""
    return -math.expm1(-(2.0**rate - 1.0) / snr)


def correlation_of(speed_m_s: float, carrier_ghz: float, interval_s: float) -> float:
    """Correlation of the fading of a moving device, Clarke's `J0(2 pi f t)`; at least 0.

    Args:
        speed_m_s: of the device, from which its Doppler shift f follows.
        carrier_ghz: carrier frequency.
        interval_s: t, from one round to the next.
    """
    doppler_hz = speed_m_s * carrier_ghz * 1e9 / LIGHT_M_S
    # Beyond its first zero it only rings: independent draws come closest to that.
    angle = 2.0 * math.pi * doppler_hz * interval_s
    return float(special.j0(angle)) if angle < special.jn_zeros(0, 1)[0] else 0.0


def _check(name: str, expected: str, value: float, low: float) -> None:
    if not (math.isfinite(value) and value > low):
        raise InputError("channel", name, expected, value)
