"""`edgepact device`: one device of the live market."""

from pathlib import Path
from typing import Annotated

import typer


def device(
    server: Annotated[
        str, typer.Option(help="Address of the server, such as http://127.0.0.1:8080.")
    ],
    alpha: Annotated[
        float, typer.Option(help="alpha: weight of the device's satisfaction, credits.")
    ],
    capacity: Annotated[
        float, typer.Option(help="W: computing the device has for one image's time, GMAC.")
    ],
    layer_gmac: Annotated[float, typer.Option("--A", help="A: computing of one layer, GMAC.")],
    before_gmac: Annotated[
        float, typer.Option("--B", help="B: computing before the first layer, GMAC.")
    ],
    name: Annotated[
        str, typer.Option(help="Name of the device: letters, digits, '.', '_', '-'.")
    ] = "device-1",
    satisfaction: Annotated[
        str, typer.Option(help="Form of the satisfaction: log1p, log, sqrt or exp.")
    ] = "log1p",
    images: Annotated[
        Path | None, typer.Option(help="Folder of images [default: the sample set]")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="File of results, a line of JSON an image [default: NAME.jsonl]"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model directory [default: the embedded CLIP]")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="EDGEPACT_ENROL_TOKEN", help="One-time token to enrol with."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Where the device keeps its own token over restarts.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="How activations travel, such as int8 [default: the job's favourite]"),
    ] = None,
    layers_max: Annotated[
        int | None, typer.Option(min=0, help="Most layers to ever run [default: the model's]")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of the order of images.")
    ] = 0,
    away_timeout_s: Annotated[
        float, typer.Option(help="How long to wait for a server that is away, seconds.")
    ] = 30.0,
    job: Annotated[
        str, typer.Option(help="Name of the job that is done, see `edgepact list jobs`.")
    ] = "classification",
    job_settings: Annotated[str, typer.Option(help="Settings of the job, as JSON.")] = "{}",
) -> None:
    """Take part in a live market as one device: commit, run layers, get paid.

    It decides by itself how many layers are worth their price, from alpha and capacity, which
    it tells nobody.
    """
    from edgepact.credits import in_credits
    from edgepact.market.device import run_device
    from edgepact.market.device_config import DeviceConfig
    from edgepact.settings import as_object

    summary = run_device(
        DeviceConfig(
            server_url=server,
            name=name,
            job=job,
            model=model,
            inputs=images,
            job_settings=as_object("device", "--job-settings", job_settings),
            results=results,
            alpha=alpha,
            capacity=capacity,
            A=layer_gmac,
            B=before_gmac,
            satisfaction=satisfaction,
            layers_max=layers_max,
            enrol_token=token,
            token_file=token_file,
            codec=codec,
            seed=seed,
            away_timeout_s=away_timeout_s,
        )
    )
    credits = in_credits(summary.paid_microcredits)
    print(f"{name}: {summary.units} units in {summary.rounds} rounds, {credits:.6f} credits")
