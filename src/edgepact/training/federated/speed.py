"""How fast simulated clients are: their computing, and their link to the server.

A simulation runs on one machine, so the seconds it takes say nothing of the clients. They have
a clock of their own instead: a training step costs three times the operations of the model's
forward pass (forward, and backward to inputs and to weights), a device does so many a second,
and its link carries what a Rayleigh channel with the path loss of TR 38.901 carries on average.
"""

import functools
import math
from dataclasses import dataclass

import jax
import numpy as np

from edgepact.mechanisms.stackelberg.channel import Channel, ergodic_rate
from edgepact.training.federated.task import Task

TYPICAL_MACS_S = 2e9
"""Multiply-accumulates a second of a typical device: about a tenth of one core of a server in
`edgepact profile`."""

UNLIKE = 0.7
"""Standard deviation of the logarithm of devices' speeds: the quickest twentieth is ten times as
fast as the slowest."""

MACS_OF_A_STEP = 3
"""Passes through the model in a training step, in units of the forward one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Of one client in one round.

    Attributes:
        compute_s: seconds of training.
        upload_s: seconds to send an update as float32.
    """

    compute_s: float
    upload_s: float


def drawn_speed(seed: int, client: int, clients: int, *, task: Task) -> Speed:
    """The speed of one client of a fleet."""
    random = np.random.default_rng([seed, client, 0x5D])
    macs_s = TYPICAL_MACS_S * math.exp(UNLIKE * float(random.standard_normal()))
    images = task.config.steps * task.config.batch
    return Speed(
        compute_s=MACS_OF_A_STEP * images * task.macs_per_image / macs_s,
        upload_s=4 * task.size / _links_bytes_s(seed, clients)[client],
    )


@functools.lru_cache(maxsize=8)
def _links_bytes_s(seed: int, clients: int) -> tuple[float, ...]:
    channel = Channel()
    gains = channel.draw_gain_db(jax.random.key(seed), clients)
    steady = np.full((clients, 2), math.sqrt(0.5))  # fading of its mean power
    snr = np.asarray(channel.snr(np.asarray(gains, float), steady), float)
    return tuple(channel.bandwidth_hz * ergodic_rate(each) / 8.0 for each in snr)
