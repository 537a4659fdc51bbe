"""`edgepact model`: import a model, look into its folder, cut it, make it smaller."""

import typer

from edgepact.cli.model import compress, cut, halves, import_, inspect

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Import a model, look into its folder, cut it, make it smaller.",
)
app.command(short_help="List every cut of a model: GMAC on both sides, bytes, state.")(
    inspect.inspect
)
app.command(short_help="Cut a model into stages.")(cut.cut)
app.command(short_help="Make a model smaller, and measure what that does.")(compress.compress)
app.command(short_help="Make smaller forms of a model, and measure each half in each form.")(
    halves.halves
)
app.command("import", short_help="Make a model folder of a CLIP or SigLIP on disk.")(
    import_.import_
)
