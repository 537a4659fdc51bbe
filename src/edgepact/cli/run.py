"""`edgepact run`: the main job, or a whole scenario."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli import interrupt
from edgepact.cli.complaints import print_error
from edgepact.errors import EdgepactError, InputError


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
        typer.Option(min=1, max=64, help="Devices to draw and start [default: 5]"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Rounds to play [default: 12]")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Images a device and round [default: 12]")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, help="Of the fleet, the GDM and the images [default: 0]"
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
        _run_scenario(scenario, out, smoke)
        return
    from edgepact.live.run import RunConfig, run_market

    if fleet is not None and devices is not None:
        raise InputError("run", "--devices", "either --fleet or --devices", "both")
    report = run_market(
        RunConfig(
            fleet=fleet,
            devices=devices or 5,
            rounds=rounds or 12,
            images=images or 12,
            seed=seed or 0,
            model=model,
            samples=samples,
            out=out or free_folder(f"edgepact-run-{seed or 0}"),
            smoke=smoke,
        ),
        on_live=interrupt.expect_processes,
    )
    print(f"\nReport: {report}")


def _run_scenario(file: Path, out: Path | None, smoke: bool) -> None:
    from edgepact.files.scenario import read_scenario
    from edgepact.live.scenario import run_scenario
    from edgepact.pact import Run

    folder = out or free_folder(f"edgepact-run-{file.stem}")
    run = Run(out=folder, on_live=interrupt.expect_processes)
    ran = run_scenario(read_scenario(file, smoke=smoke), run)
    print(f"\nResults: {ran.page}")
    if ran.broken:
        told = f"{file}: the answer breaks what its mechanism promises: {', '.join(ran.broken)}"
        print_error(EdgepactError(told))
        raise typer.Exit(1)


def free_folder(name: str) -> Path:
    """A folder that is not there yet: a second run must not touch the first one's report."""
    number = 1
    folder = Path(name)
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder
