"""Classification of images in the eyes of a partition."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.efficiency.partition import LayerCosts
from edgepact.efficiency.profile import Profile, Progress, profile
from edgepact.fields import Table
from edgepact.inference import graph
from edgepact.inference.models import embedded, samples
from edgepact.inference.pictures import check_picture, read_picture
from edgepact.inference.pipeline import ModelInfo, stage_path
from edgepact.jobs.classification import find_images
from edgepact.pacts.partition_findings import WorkDone, work_done
from edgepact.pacts.partition_jobs import JobTerms, Shares
from edgepact.pacts.partition_results import Played
from edgepact.pacts.partition_settings import PlaySettings
from edgepact.pacts.partition_shares import shared_out
from edgepact.settings import fields_in
from edgepact.work import Model

IMAGES_CHECKED = 2000
"""Images opened before anything is started."""


@dataclass(frozen=True, slots=True)
class SplitImages:
    """See `partition_jobs.SplitJob`."""

    unit: str = "image"
    step: str = "layer"
    device_share: str = "runs the first L layers of the model"
    inputs_field: str = "images_from"
    inputs_words: str = "a folder of images"
    inputs_are_folder: bool = True

    def own_inputs(self) -> Path:
        """The sample images."""
        return samples()

    def model_folder(self, model: Path | None) -> Path:
        """The embedded CLIP if none is named."""
        return model or embedded()

    def model(self, folder: Path, settings: Mapping[str, Any]) -> Model:
        """As `model.json` says."""
        info = ModelInfo.read(folder)
        return Model(name=info.name, amount_max=info.layers_max)

    def read_units(self, job: Table, *, smoke: bool) -> int:
        """The field `images`; as many in small, since they take little."""
        found: int = fields_in(PlaySettings, job, "images").get("images", PlaySettings().images)
        return found

    def read_settings(self, job: Table, *, smoke: bool) -> Mapping[str, Any]:
        """None."""
        return {}

    def make_ready(self, model: Path, inputs: Path | None) -> None:
        """Opens the images that will be used first: a broken one should not end a device later."""
        size = ModelInfo.read(model).image_size
        for picture in find_images(inputs or samples())[:IMAGES_CHECKED]:
            check_picture(read_picture(picture.path), image_size=size, source=picture.path)
        if not stage_path(model, 0).is_file():
            graph.cut(model)

    def costs(self, model: Path, settings: Mapping[str, Any]) -> LayerCosts:
        """Counted in the graph."""
        return LayerCosts.of_model(model)

    def profile(
        self, model: Path, settings: Mapping[str, Any], repeats: int, progress: Progress
    ) -> Profile:
        """Measured."""
        return profile(model, repeats=repeats, progress=progress)

    def shared_out(
        self, inputs: Path | None, names: Sequence[str], *, per_round: int, rounds: int, seed: int
    ) -> AbstractContextManager[Shares]:
        """A folder of links for each device."""
        images = inputs or samples()
        return shared_out(images, names, per_round=per_round, rounds=rounds, seed=seed)

    def done(
        self,
        *,
        terms: JobTerms,
        folder: Path,
        profile: Profile,
        names: list[str],
        played: Played,
    ) -> WorkDone:
        """What was classified."""
        return work_done(terms=terms, folder=folder, profile=profile, names=names, played=played)


IMAGES = SplitImages()
