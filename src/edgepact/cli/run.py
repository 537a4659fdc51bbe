"""`edgepact run`: the main job, or a whole scenario."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli import interrupt
from edgepact.cli.complaints import print_broken
from edgepact.errors import InputError


def run(
    scenario: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SCENARIO]",
            help="A whole scenario in TOML: method, mechanism, solver and job; see examples/.",
        ),
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(help="A market in TOML to play instead of a fleet drawn at random."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Number of devices to draw and start [default: 5]"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Number of rounds to play [default: 12]")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Number of images of each device in a round [default: 12]"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="Seed of the fleet, the GDM and the order of images [default: 0]",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model directory instead of the embedded CLIP.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--images-from", help="A folder of images instead of the sample set."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the results; the same again resumes a training "
            "[default: edgepact-run-SEED or -SCENARIO, numbered]"
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option(help="Measure briefly, play few rounds: a test.")] = False,
) -> None:
    """The main job: profile, price, serve, classify, pay, report.

    Measures the model on this machine, draws a fleet of devices with private costs, starts a server
    that prices by a diffusion model and a process for each device, plays rounds on real images,
    pays for every verified one, and writes report.html.

    With SCENARIO it does what that file says instead: any method (partition, compression,
    selection), mechanism (Stackelberg game, contract, auction), solver and job that fit together,
    in four steps with a table each. Only --out and --smoke go with it.
    """
    from edgepact import api

    if scenario is not None:
        options = {
            "--fleet": fleet,
            "--devices": devices,
            "--rounds": rounds,
            "--images": images,
            "--seed": seed,
            "--model": model,
            "--images-from": samples,
        }
        for option, value in options.items():
            if value is not None:
                expected = f"the setting in {scenario}, which says all of them"
                raise InputError("run", option, expected, f"{value}")
        written = api.run(scenario, out=out, smoke=smoke, on_live=interrupt.expect_processes)
        print(f"\nResults: {written.page}")
        if written.broken:
            print_broken(scenario, written.broken)
            raise typer.Exit(1)
        return
    from edgepact.live.run import RunConfig

    if fleet is not None and devices is not None:
        raise InputError("run", "--devices", "either --fleet or --devices", "both")
    settings = RunConfig(
        fleet=fleet,
        devices=devices or 5,
        rounds=rounds or 12,
        images=images or 12,
        seed=seed or 0,
        model=model,
        samples=samples,
        out=out or api.free_folder(f"edgepact-run-{seed or 0}"),
        smoke=smoke,
    )
    written = api.run(settings, on_live=interrupt.expect_processes)
    print(f"\nReport: {written.page}")
