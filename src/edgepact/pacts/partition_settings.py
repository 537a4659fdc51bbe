"""What is played by processes on one machine: settings that a command and scenario files share.

The command line loads this module before it knows what it is asked, so it imports nothing large.
"""

from dataclasses import dataclass
from typing import ClassVar

from edgepact.settings import SEED_MAX, check, setting

ROUNDS_MAX = IMAGES_MAX = 1000

DEVICES_MAX = 64
"""Most devices, each a process, on one machine."""

DEVICES = 5
"""Devices to draw, if nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaySettings:
    """How much is played.

    Raises:
        InputError: of the source `run` and the field that cannot be.
    """

    SOURCE: ClassVar[str] = "run"

    devices: int | None = setting(
        f"Number of devices to draw and start [default: {DEVICES}, or those of the market]",
        least=1,
        most=DEVICES_MAX,
    )
    rounds: int = setting("Number of rounds to play.", default=12, least=1, most=ROUNDS_MAX)
    images: int = setting(
        "Number of images of each device in a round.", default=12, least=1, most=IMAGES_MAX
    )
    seed: int = setting(
        "Seed of the fleet, the quotes and the order of images.", default=0, least=0, most=SEED_MAX
    )

    def __post_init__(self) -> None:
        check(self)
