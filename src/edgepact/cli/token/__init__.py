"""`edgepact token`: who may enrol, and who no more."""

import typer

from edgepact.cli.token import issue, listed, readmit, revoke

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Issue and revoke tokens, let excluded devices come back.\n\n"
        "A server that uses the ledger honours all of it at once."
    ),
)
app.command(short_help="Make one-time tokens.")(issue.issue)
app.command("list", short_help="One-time tokens and devices.")(listed.list_)
app.command(short_help="Void a device's token, or a one-time one.")(revoke.revoke)
app.command(short_help="Let an excluded device come back.")(readmit.readmit)
