"""`edgepact model`: look into a model folder, cut a model, make it smaller."""

import typer

from edgepact.cli.model import compress, cut, inspect

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look into a model folder, cut a model, make it smaller.",
)
app.command(short_help="Count a model's stages: parameters, bytes, operations.")(inspect.inspect)
app.command(short_help="Cut a model into stages.")(cut.cut)
app.command(short_help="Make a model smaller, and measure what that does.")(compress.compress)
