"""`edgepact ledger`: look into a ledger, prove it, write it out, copy it; nothing is changed."""

from typing import Any

import typer
import typer.core

from edgepact.cli.ledger import backup, check, export, show, statement


class ShowUnlessNamed(typer.core.TyperGroup):
    """A group whose command `show` need not be named: `edgepact ledger URL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `show` before what names no command."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ShowUnlessNamed,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Look into a ledger, prove it, write it out, copy it. Nothing is changed.\n\n"
        "`edgepact ledger [URL]` is short for `edgepact ledger show [URL]`. All of it may be run "
        "while a server uses the ledger, and holds nobody up."
    ),
)
app.command(short_help="Balances, strikes, payments by round.")(show.show)
app.command(short_help="Prove that a ledger is whole.")(check.check)
app.command(short_help="All of it as CSV and Parquet.")(export.export)
app.command(short_help="What a device has earned, signed.")(statement.statement)
app.command(short_help="Copy an SQLite ledger in use.")(backup.backup)
