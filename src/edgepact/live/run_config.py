"""Settings of the main job: one settings object for flags and Python.

The command line loads this module before it knows what it is asked, so it imports nothing large.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepact.errors import InputError
from edgepact.pacts.partition_settings import PlaySettings
from edgepact.settings import check, same, setting


def _solvers() -> tuple[str, ...]:
    from edgepact.solvers.by_name import OPTIMUM, quoters  # they take NumPy along

    return (*quoters(), OPTIMUM.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Settings of `edgepact run`.

    Paths may be given as text. The folder of results must be new or empty.

    Raises:
        InputError: of the source `run` and the field that cannot be.
    """

    SOURCE: ClassVar[str] = "run"

    fleet: Path | None = setting("A market in TOML to play instead of a fleet drawn at random.")
    devices: int | None = same(PlaySettings, "devices")
    rounds: int = same(PlaySettings, "rounds")
    images: int = same(PlaySettings, "images")
    seed: int = same(PlaySettings, "seed")
    model: Path | None = setting(
        "A model directory instead of the embedded CLIP, or stages of any model."
    )
    samples: Path | None = setting(
        "A folder of images instead of the sample set, or what stages of another model read.",
        flag="--images-from",
    )
    out: Path | None = setting(
        "New folder for the results; the same again resumes a training "
        "[default: edgepact-run-SEED or -SCENARIO, numbered]"
    )
    solver: str = setting(
        "How prices are found: gdm, the diffusion model; golden-section, grid, cma-es, "
        "gaussian-process, random, or optimum, which is shown what devices keep private.",
        default="gdm",
        choices=_solvers,
    )
    open_page: bool = setting(
        "Open the market's live page in a browser.", flag="--open", default=False
    )
    smoke: bool = setting("Measure briefly, play few rounds: a test.", default=False)

    def __post_init__(self) -> None:
        check(self)
        if self.fleet is not None and self.devices is not None:
            raise InputError(self.SOURCE, "fleet, devices", "one of them", "both")


def free_folder(name: str) -> Path:
    """A folder that is not there yet: a second run must not touch the first one's report."""
    number = 1
    folder = Path(name)
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder
