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
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgepact.errors import InputError
from edgepact.files.stackelberg import read_game
from edgepact.framework import Run
from edgepact.jobs.staged.place import is_staged
from edgepact.live.opened import opened
from edgepact.live.report import print_summary, write_report
from edgepact.live.run_config import RunConfig, free_folder
from edgepact.pacts.partition_priced import MarketPlayed, WorkPriced
from edgepact.pacts.partition_settings import DEVICES
from edgepact.pacts.partition_stackelberg import PACT, PHOTO, SENTENCES, STAGED, PartitionTerms
from edgepact.tables import rich_table


def terms_of(config: RunConfig) -> PartitionTerms:
    """What the pact is told.

    Raises:
        InputError: the fleet cannot be read.
    """
    return PartitionTerms(
        source=config.fleet or Path("run"),
        model=config.model,
        inputs_from=config.samples,
        rounds=config.rounds,
        units=config.images,
        devices=config.devices or DEVICES,
        seed=config.seed,
        solver=config.solver,
        smoke=config.smoke,
        market=None if config.fleet is None else read_game(config.fleet),
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
    out = config.out or free_folder(f"edgepact-run-{config.seed}")
    devices = config.devices or (DEVICES if config.fleet is None else None)
    config = replace(config, out=out, devices=devices)
    with opened(out, asked=config.open_page) as on_served:
        run = Run(out=out, on_live=on_live, on_served=on_served)
        if config.model is not None and is_staged(config.model):
            return _run_staged(config, run)
        return _run_images(config, run)


def _run_images(config: RunConfig, run: Run) -> Path:
    """The same with an image encoder."""
    terms = terms_of(config)
    with _named_as_settings(config):
        measured = PACT.measure(terms, run)
    played = PACT.engage(terms, measured, PACT.decide(terms, measured), run)
    assert isinstance(played, MarketPlayed)  # as images are classified
    print_summary(played.findings)
    place = terms.inputs_place
    return write_report(run.out, config, played, job=PACT.job, place=place, smoke=config.smoke)


def _run_staged(config: RunConfig, run: Run) -> Path:
    """The same with stages of another model than an image encoder, by the job that it is for."""
    # Here, so that the main job loads no more than it needs.
    from edgepact.pacts.partition_staged import job_for

    assert config.model is not None
    job = job_for(config.model)
    pact = {"photo": PHOTO, "sentences": SENTENCES}.get(job, STAGED)
    terms = replace(terms_of(config), job=job)
    with _named_as_settings(config):
        measured = pact.measure(terms, run)
    played = pact.engage(terms, measured, pact.decide(terms, measured), run)
    assert isinstance(played, WorkPriced)
    for sheet in (*played.decided, *played.sheets):
        Console().print(rich_table(sheet))
    place = terms.inputs_place
    return write_report(run.out, terms, played, job=job, place=place, smoke=config.smoke)


@contextmanager
def _named_as_settings(config: RunConfig) -> Iterator[None]:
    """Fields of a scenario that are settings here are named as such."""
    settings = {
        "efficiency.model": ("model", config.model),
        "job.images_from": ("samples", config.samples),
        "job.photographs_from": ("samples", config.samples),
        "job.sentences_from": ("samples", config.samples),
        "job.pieces_from": ("samples", config.samples),
    }
    try:
        yield
    except InputError as error:
        if error.field not in settings:
            raise
        field, said = settings[error.field]
        found = f"{error.found}"
        found = found if found.startswith(f"{said}") else f"{said}: {found}"
        raise InputError(config.SOURCE, field, error.expected, found) from None
