"""Settings of the main job: one object for the command line and for Python.

The command line loads this module before it knows what it is asked, so it imports nothing large.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepact.errors import InputError, shown
from edgepact.pacts.partition_limits import DEVICES_MAX, IMAGES_MAX, ROUNDS_MAX, SEED_MAX
from edgepact.settings import check, setting


def _solvers() -> tuple[str, ...]:
    from edgepact.solvers.by_name import OPTIMUM, quoters

    return (*quoters(), OPTIMUM.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Settings of `edgepact run`.

    Paths may be given as text.

    Attributes:
        fleet: market file to play; None draws a fleet.
        devices: number of devices to draw; 0 only beside a fleet.
        rounds: rounds to play.
        images: images of each device in a round.
        seed: of the fleet, the quotes and the order of images.
        model: model directory; None takes the embedded CLIP.
        samples: folder of images; None takes the sample set.
        out: folder to write into; must be new or empty.
        solver: one that quotes prices, or `optimum`.
        smoke: measure briefly and play two rounds.

    Raises:
        InputError: of the source `run` and the field that cannot be.
    """

    SOURCE: ClassVar[str] = "run"

    fleet: Path | None = setting("A market in TOML to play instead of a fleet drawn at random.")
    devices: int = setting(
        "Number of devices to draw and start.", default=5, least=0, most=DEVICES_MAX
    )
    rounds: int = setting("Number of rounds to play.", default=12, least=1, most=ROUNDS_MAX)
    images: int = setting(
        "Number of images of each device in a round.", default=12, least=1, most=IMAGES_MAX
    )
    seed: int = setting(
        "Seed of the fleet, the GDM and the order of images.", default=0, least=0, most=SEED_MAX
    )
    model: Path | None = setting("A model directory instead of the embedded CLIP.")
    samples: Path | None = setting(
        "A folder of images instead of the sample set.", flag="--images-from"
    )
    out: Path = setting(
        "New folder for the results; the same again resumes a training "
        "[default: edgepact-run-SEED or -SCENARIO, numbered]",
        default=Path("edgepact-run"),
    )
    solver: str = setting(
        "How prices are found: gdm, the diffusion model; golden-section, grid, cma-es, "
        "gaussian-process, random, or optimum, which is shown private costs.",
        default="gdm",
        choices=_solvers,
    )
    smoke: bool = setting("Measure briefly, play few rounds: a test.", default=False)

    def __post_init__(self) -> None:
        check(self)
        if self.fleet is None and self.devices == 0:
            # Nothing is drawn beside a file of devices.
            expected = f"a whole number from 1 to {DEVICES_MAX}"
            raise InputError(self.SOURCE, "devices", expected, shown(self.devices))
