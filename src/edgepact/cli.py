"""The command line: parse, call, print.

Only Typer is imported here; each command imports what it needs when it runs,
so that `edgepact --help` answers at once and a device loads no JAX.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.errors import EdgepactError, InputError

app = typer.Typer(
    name="edgepact",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Split a model between an edge server and the devices around it, find the price that "
        "makes them take part, do the work and pay for it.\n\n"
        "Start with `edgepact run`: five devices and a server on this machine, real images, "
        "a price found by a diffusion model, and a report."
    ),
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def main() -> None:
    """Entry point of the `edgepact` command: errors become one line and exit status 2."""
    try:
        app()
    except EdgepactError as error:
        print(f"edgepact: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@app.command()
def solve(
    file: Annotated[Path, typer.Argument(help="A market in TOML.")],
    as_json: Json = False,
) -> None:
    """Solve one market exactly: the best price, what everybody gets, and an audit.

    FILE names the mechanism, the server's terms and the devices; examples/ holds some.
    """
    from edgepact.mechanisms.audit import audit_price
    from edgepact.mechanisms.stackelberg import equilibrium
    from edgepact.scenario import read_market

    market = read_market(file)
    result = equilibrium(market.game)
    audit = audit_price(market.game, result)
    if as_json:
        layers = result.layers.astype(int) if market.game.integer else result.layers
        _print_json(
            {
                "price": float(result.price),
                "server_utility": float(result.server_utility),
                "layers": layers.tolist(),
                "device_utility": result.device_utility.tolist(),
                "payments": result.payments.tolist(),
                "audit": audit.as_json(),
            }
        )
        return
    from rich.console import Console

    from edgepact.studies.tables import audit_table, benchmarks_table, market_table

    console = Console()
    console.print(market_table(market, result))
    console.print(benchmarks_table(market.game, result))
    console.print(audit_table(audit))


@app.command()
def run(
    fleet: Annotated[
        Path | None,
        typer.Option(help="A market in TOML to play instead of a fleet drawn at random."),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, max=64, help="Devices to draw and start.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds to play.")] = 12,
    images: Annotated[int, typer.Option(min=1, max=1000, help="Images a device and round.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of the fleet, the GDM and the images.")] = 0,
    model: Annotated[
        Path | None, typer.Option(help="A model directory instead of the embedded CLIP.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--images-from", help="A folder of images instead of the sample set."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report [default: edgepact-run-SEED]")
    ] = None,
    smoke: Annotated[bool, typer.Option(help="Train briefly and play few rounds: a test.")] = False,
) -> None:
    """The main job: profile, price, serve, classify, pay, report.

    Measures the model on this machine, draws a fleet of devices with private costs, teaches a
    diffusion model to price such fleets, starts a server and a process for each device, plays
    rounds on real images, pays for every verified one, and writes report.html.
    """
    from edgepact.studies.run import RunConfig, run_market

    report = run_market(
        RunConfig(
            fleet=fleet,
            devices=devices,
            rounds=rounds,
            images=images,
            seed=seed,
            model=model,
            samples=samples,
            out=out or Path(f"edgepact-run-{seed}"),
            smoke=smoke,
        )
    )
    print(f"\nReport: {report}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Which one: fig4, fig5.")],
    smoke: Annotated[bool, typer.Option(help="A few epochs only: does it run?")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results [default: study-NAME]")
    ] = None,
) -> None:
    """Reproduce a figure or benchmark: CSV, PNG and metrics.json in one folder.

    fig4: the server's utility against training epochs, for the GDM, PPO and random pricing,
    with the exact optimum as ceiling. fig5: their final and mean utility.
    """
    from edgepact.studies import STUDIES

    if name not in STUDIES:
        raise InputError("study", "NAME", f"one of {', '.join(STUDIES)}", name)
    folder = out or Path(f"study-{name}")
    STUDIES[name](folder, smoke)
    print(f"Results: {folder}")


@app.command()
def profile(
    model: Annotated[
        Path | None, typer.Argument(help="A model directory [default: the embedded CLIP]")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=3, max=10_000, help="Runs of each stage; the fastest counts.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Measure a model's stages on this machine: seconds, GMAC, and the fit A*L + B.

    L is the number of layers a device runs, A what one costs, B what comes before the first.
    """
    from edgepact.efficiency.profile import profile as measure
    from edgepact.inference.models import embedded
    from edgepact.studies.progress import progress_bar

    with progress_bar("profile", enabled=not as_json) as advance:
        measured = measure(model or embedded(), repeats=repeats, progress=advance)
    if as_json:
        _print_json(measured.as_json())
        return
    from rich.console import Console

    Console().print(measured.table())


def _print_json(value: Any) -> None:
    # NaN is not JSON; whoever reads this must not be handed it.
    print(json.dumps(value, allow_nan=False))
