"""`edgepact token`: who may enrol, and who no more."""

import typer

from edgepact.cli.token import issue, listed, readmit, revoke

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Issue one-time tokens, revoke tokens of devices, let excluded devices come back.\n\n"
        "A server that uses the ledger honours all of it at once."
    ),
)
app.command()(issue.issue)
app.command("list")(listed.list_)
app.command()(revoke.revoke)
app.command()(readmit.readmit)
