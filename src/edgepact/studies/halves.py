"""Make the forms of a model and measure every pair of them: what `edgepact model halves` does."""

from dataclasses import dataclass
from pathlib import Path

from edgepact.efficiency.halves import HalvesMeasured, measure_halves
from edgepact.efficiency.model_compression.model_folder import check_free
from edgepact.efficiency.profile import REPEATS, Progress
from edgepact.errors import InputError
from edgepact.inference.models import samples
from edgepact.inference.pipeline import ModelInfo
from edgepact.studies.compress import TEACH_IMAGES_MAX, read_images
from edgepact.training.forms import FormsConfig, make_forms


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvesConfig:
    """What to do.

    Attributes:
        model: the folder of the original, cut into stages.
        out: a new folder, for a folder of each form.
        forms: which are made, and how.
        images: folder to judge by, with a folder for each class; None takes the sample images.
        fit_images: folder that pruning chooses and teaches by; None has pictures drawn.
        repeats: runs that are timed.
    """

    model: Path
    out: Path
    forms: FormsConfig
    images: Path | None = None
    fit_images: Path | None = None
    repeats: int = REPEATS


def halves(config: HalvesConfig, progress: Progress | None = None) -> HalvesMeasured:
    """Writes the forms and measures them.

    Raises:
        InputError: something cannot be read, made or measured.
    """
    check_free(config.out)
    info = ModelInfo.read(config.model)
    images = read_images(config.images or samples(), info, split="test")
    if images.classes is None:
        expected = "a folder for each class, named by the model's labels"
        raise InputError("model halves", "--images-from", expected, "images without a class")
    if config.repeats < 1:
        raise InputError("model halves", "--repeats", "at least 1", config.repeats)
    pixels = None
    if config.fit_images is not None:
        fit = read_images(config.fit_images, info, split="train")
        pixels = fit.pixels[:TEACH_IMAGES_MAX]
    folders = make_forms(config.model, config.out, config.forms, pixels=pixels)
    return measure_halves(folders, images, repeats=config.repeats, progress=progress)
