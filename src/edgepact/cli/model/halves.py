"""`edgepact model halves`: forms of a model for device and server, measured in pairs."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show
from edgepact.errors import InputError


def halves(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the forms.")],
    form: Annotated[
        list[str] | None,
        typer.Option(
            help="A form beside the original: int8, weights8, weights4 or heads; once for each "
            "[default: all]"
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of heads and hidden units that heads takes away.")
    ] = 0.5,
    steps: Annotated[
        int | None, typer.Option(help="Steps of fine-tuning after that [default: 400]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the pictures it is taught by.")] = 0,
    images: Annotated[
        Path | None,
        typer.Option("--images-from", help="Images to judge by [default: the sample set]"),
    ] = None,
    fit_images: Annotated[
        Path | None,
        typer.Option(
            "--fit-from",
            help="Images that heads is taught by, others than to judge by [default: drawn ones]",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs that are timed; the fastest counts.")] = 30,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Draw accuracy over time: a PNG, SVG or PDF file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make smaller forms of a model, and measure each half in each form.

    int8: weights and products in whole numbers. weights8, weights4: weights alone, 8 bits with a
    scale for each column, or 4 bits with one for each 32 numbers. heads: fewer attention heads and
    hidden units, taught by the original what it hands on at every cut.

    Of each form: bytes of weights, GMAC, seconds as A L + B, accuracy; of each pair with one form
    on the device and another on the server, seconds and accuracy. Each form is a model directory
    in OUT. A scenario with compress = "model" chooses among them together with the price.
    """
    from edgepact.efficiency.halves import picture as drawn
    from edgepact.progress import progress_bar
    from edgepact.studies.halves import HalvesConfig
    from edgepact.studies.halves import halves as measured
    from edgepact.training.forms import FORMS, TEACHING_STEPS, FormsConfig

    formats = (".png", ".svg", ".pdf")
    if picture is not None and picture.suffix.lower() not in formats:
        expected = f"a file in {', '.join(formats)}"
        raise InputError("model halves", "--picture", expected, str(picture))
    forms = FormsConfig(
        forms=tuple(form) if form else FORMS,
        share=share,
        steps=TEACHING_STEPS if steps is None else steps,
        seed=seed,
    )
    _ = forms.pruning  # refuses numbers out of range before anything is made
    config = HalvesConfig(
        model=model, out=out, forms=forms, images=images, fit_images=fit_images, repeats=repeats
    )
    with progress_bar("Measure halves") as advance:
        found = measured(config, advance)
    if picture is not None:
        try:
            drawn(found).savefig(picture, dpi=150)
        except OSError as error:
            reason = error.strerror or "an error"
            raise InputError(picture, "", "a file that can be written", reason) from error
    show(found, as_json)
