"""The main job: profile, price, serve, classify, pay, report.

The article's case study on one machine: a CLIP image encoder split between device processes and
one server process. It is the pact of a partition, a Stackelberg game and classification, with its
settings on the command line, a fleet drawn at random, and a report. A diffusion model that was
taught, in simulation, to price fleets of many kinds reads this one's answers and quotes a price
per layer in each round; devices answer with the layers that pay them best, run them on real
images, and are paid per verified image.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepact.errors import InputError
from edgepact.fields import check_choice, check_whole
from edgepact.files.stackelberg import read_game
from edgepact.framework import Run
from edgepact.live.report import print_summary, write_report
from edgepact.pacts.partition_stackelberg import PACT, PartitionTerms
from edgepact.pacts.partition_terms import DEVICES_MAX, IMAGES_MAX, ROUNDS_MAX, SEED_MAX
from edgepact.solvers.by_name import OPTIMUM, quoters
from edgepact.typed import expect_types


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Settings of `edgepact run`.

    Attributes:
        fleet: market file to play; None draws a fleet.
        devices: number of devices to draw.
        rounds: rounds to play.
        images: images of each device in a round.
        seed: of the fleet, the quotes and the order of images.
        model: model directory; None takes the embedded CLIP.
        samples: folder of images; None takes the sample set.
        out: folder to write into; must be new or empty.
        solver: one of `quoters()`, or `optimum`.
        smoke: measure briefly and play two rounds.

    Paths may be given as text.

    Raises:
        InputError: of the source `run` and the field that cannot be.
    """

    fleet: Path | None = None
    devices: int = 5
    rounds: int = 12
    images: int = 12
    seed: int = 0
    model: Path | None = None
    samples: Path | None = None
    out: Path = Path("edgepact-run")
    solver: str = "gdm"
    smoke: bool = False

    def __post_init__(self) -> None:
        expect_types("run", self)
        check_choice("run", "solver", self.solver, (*quoters(), OPTIMUM.name))
        # Nothing is drawn beside a file of devices.
        check_whole("run", "devices", self.devices, least=int(self.fleet is None), most=DEVICES_MAX)
        check_whole("run", "rounds", self.rounds, least=1, most=ROUNDS_MAX)
        check_whole("run", "images", self.images, least=1, most=IMAGES_MAX)
        check_whole("run", "seed", self.seed, least=0, most=SEED_MAX)

    @classmethod
    def of(cls, terms: PartitionTerms, out: Path) -> "RunConfig":
        """The same settings as a scenario states them."""
        return cls(
            fleet=None if terms.market is None else terms.source,
            devices=terms.devices,
            rounds=terms.rounds,
            images=terms.images,
            seed=terms.seed,
            model=terms.model,
            samples=terms.images_from,
            out=out,
            solver=terms.solver,
            smoke=terms.smoke,
        )

    def terms(self) -> PartitionTerms:
        """What the pact is told.

        Raises:
            InputError: the fleet cannot be read.
        """
        return PartitionTerms(
            source=self.fleet or Path("run"),
            model=self.model,
            images_from=self.samples,
            rounds=self.rounds,
            images=self.images,
            devices=self.devices,
            seed=self.seed,
            solver=self.solver,
            smoke=self.smoke,
            market=None if self.fleet is None else read_game(self.fleet),
        )


def run_market(config: RunConfig, *, on_live: Callable[[], None] = lambda: None) -> Path:
    """Does the whole job; returns the path of the report.

    Args:
        config: the settings.
        on_live: called before the first process is started.

    Raises:
        InputError: an option or file is impossible; nothing was started.
        MarketError: the server could not be started, or all devices were lost.
    """
    terms, run = config.terms(), Run(out=config.out, on_live=on_live)
    with _named_as_options(config):
        measured = PACT.measure(terms, run)
    played = PACT.engage(terms, measured, PACT.decide(terms, measured), run)
    print_summary(played.findings)
    return write_report(config.out, config, played)


@contextmanager
def _named_as_options(config: RunConfig) -> Iterator[None]:
    """Fields of a scenario that are options here are named as such."""
    options = {
        "efficiency.model": ("--model", config.model),
        "job.images_from": ("--images-from", config.samples),
    }
    try:
        yield
    except InputError as error:
        if error.field not in options:
            raise
        option, said = options[error.field]
        raise InputError(said, option, error.expected, error.found) from None
