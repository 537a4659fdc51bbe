"""The command line: parse, call, print. One file a command.

Only Typer is imported here; each command imports what it needs when it runs,
so that `edgepact --help` answers at once and a device loads no JAX.
"""

from typing import Annotated

import typer

from edgepact import __version__
from edgepact.cli import (
    complaints,
    device,
    doctor,
    init,
    interrupt,
    ledger,
    model,
    profile,
    quote,
    run,
    serve,
    solve,
    study,
    token,
    train,
)
from edgepact.cli import (
    list as list_command,
)
from edgepact.errors import EdgepactError
from edgepact.terminal import set_up_streams

app = typer.Typer(
    name="edgepact",
    no_args_is_help=True,
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


def _print_version(asked: bool) -> bool:
    if asked:
        print(__version__)
        raise typer.Exit
    return asked


# A line of its own for each, as long as a narrow terminal holds: what is longer would be cut.
app.command(short_help="Solve one market, contract or auction exactly, and audit it.")(solve.solve)
app.command(short_help="Quote prices to a fleet of which nothing is known.")(quote.quote)
app.command(short_help="The main job: profile, price, serve, classify, pay, report.")(run.run)
app.command(short_help="Reproduce a figure or a comparison.")(study.study)
app.command(short_help="Measure a model's stages on this machine.")(profile.profile)
app.add_typer(model.app, name="model")
app.command(short_help="Serve the live market: offers, work, payments.")(serve.serve)
app.command(short_help="Take part in a live market as one device.")(device.device)
app.add_typer(ledger.app, name="ledger")
app.add_typer(token.app, name="token")
app.command(short_help="Train a model together with devices that keep their images.")(train.train)
app.command(short_help="Tell what is missing here for which job.")(doctor.doctor)
app.command(short_help="Write a commented file to start from.")(init.init)
app.command("list", short_help="List installed mechanisms, solvers, jobs, codecs and pacts.")(
    list_command.list_
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Entry point of the `edgepact` command: errors become one line and exit status 2."""
    set_up_streams()
    interrupt.handle()
    try:
        app()
    except EdgepactError as error:
        complaints.print_error(error)
        raise SystemExit(2) from None
    except ImportError as error:
        if not complaints.print_left_out(error):
            raise
        raise SystemExit(2) from None
    except BaseException as error:
        if interrupt.came():
            interrupt.leave()
        if isinstance(error, OSError) and complaints.print_of_place(error):
            raise SystemExit(2) from None
        raise
