"""`edgepact doctor`: what is installed, and what is missing for which job."""

from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def doctor(
    purpose: Annotated[
        str | None,
        typer.Argument(
            metavar="PURPOSE",
            help="What is to be done, such as text, training, postgres or ray: the names of the "
            "second table [default: run, or device where only that is installed]",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            metavar="<int>", min=1, max=65535, help="Port that a server is to listen on here."
        ),
    ] = 8080,
    as_json: Json = False,
) -> None:
    """Tell what is installed, what this machine allows, and what is missing for which job.

    Looks at versions, extras, Python, whether JAX can be loaded, the working folder, a ledger in
    it, ports and threads, and names the command that mends what is missing. Nothing is changed.
    Exit status 0 says that PURPOSE can be done here, 1 that it cannot, whatever else is missing for
    other purposes.
    """
    from edgepact.doctor import diagnose

    diagnosis = diagnose(purpose, port=port)
    show(diagnosis, as_json)
    if not diagnosis.fit:
        raise typer.Exit(1)
