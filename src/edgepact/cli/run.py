"""`edgepact run`: the main job, or a whole scenario."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.cli import interrupt
from edgepact.cli.complaints import print_broken
from edgepact.cli.options import said_of
from edgepact.errors import InputError
from edgepact.live.run_config import RunConfig
from edgepact.settings import flags_of

BESIDE_SCENARIO = ("out", "smoke")
"""All that is not the scenario's own to say."""


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
    with its tables. Only --out and --smoke go with it.
    """
    from edgepact import api

    if scenario is not None:
        for name, value in said.items():
            if name not in BESIDE_SCENARIO:
                expected = f"the setting in {scenario}, which says all of them"
                raise InputError("run", flags_of(RunConfig)[name], expected, f"{value}")
        written = api.run(scenario, **said, on_live=interrupt.expect_processes)
        print(f"\nResults: {written.page}")
        if written.broken:
            print_broken(scenario, written.broken)
            raise typer.Exit(1)
        return
    if "fleet" in said and "devices" in said:
        raise InputError("run", "--devices", "either --fleet or --devices", "both")
    settings = RunConfig(**said)
    if "out" not in said:
        free = api.free_folder(f"edgepact-run-{settings.seed}")
        settings = RunConfig(**said, out=free)
    written = api.run(settings, on_live=interrupt.expect_processes)
    print(f"\nReport: {written.page}")
