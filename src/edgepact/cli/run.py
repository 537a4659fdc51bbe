"""`edgepact run`: the main job, or a whole scenario."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.cli import interrupt
from edgepact.cli.complaints import print_broken
from edgepact.cli.options import said_of
from edgepact.errors import InputError
from edgepact.live.run_config import RunConfig

BESIDE_SCENARIO = ("out", "smoke", "open_page")
"""Settings that a scenario does not state."""


@said_of(RunConfig)
def run(
    said: dict[str, Any],
    scenario: Annotated[
        Path | None,
        typer.Argument(
            metavar="SCENARIO",
            help="A whole scenario in TOML: method, mechanism, solver and job; see examples/.",
        ),
    ] = None,
) -> None:
    """The main job: profile, price, serve, classify, pay, report.

    Measures the model on this machine, draws a fleet of devices with private costs, starts a server
    that prices by a diffusion model and a process for each device, plays rounds on real images,
    pays for every verified one, and writes report.html.

    With SCENARIO it does what that file says instead: any method (partition, compression,
    selection), mechanism (Stackelberg game, contract, auction), solver and job that fit together,
    with its tables. Only --out, --smoke and --open go with it.
    """
    from edgepact import api

    if scenario is None:
        written = api.run(RunConfig(**said), on_live=interrupt.expect_processes)
        print(f"\nReport: {written.page}")
        return
    for name, value in said.items():
        if name not in BESIDE_SCENARIO:
            expected = f"the setting in {scenario}, which says all of them"
            raise InputError(RunConfig.SOURCE, name, expected, f"{value}")
    written = api.run(scenario, **said, on_live=interrupt.expect_processes)
    print(f"\nResults: {written.page}")
    report = written.page.with_name("report.html")
    if report.is_file():  # of a live market; a training has none
        print(f"Report: {report}")
    if written.broken:
        print_broken(scenario, written.broken)
        raise typer.Exit(1)
