from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.random_vit import VitShape, write_vit
from edgepact.inference import graph

CutVit = Callable[[VitShape], Path]

SHAPES = {
    "small": VitShape(),
    "colour": VitShape(layers=2, width=48, heads=4, channels=3, patch=14, class_token=True, seed=1),
    "shape_paths": VitShape(layers=4, class_token=True, shape_paths=True, seed=2),
}


@pytest.fixture(scope="session")
def cut_vit(tmp_path_factory: pytest.TempPathFactory) -> CutVit:
    """Model directories of random vision transformers, cut; each is made once and only read."""
    made: dict[VitShape, Path] = {}

    def make(shape: VitShape) -> Path:
        if shape not in made:
            made[shape] = write_vit(tmp_path_factory.mktemp("vit"), shape)
            graph.cut(made[shape])
        return made[shape]

    return make


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def vit_shape(request: pytest.FixtureRequest) -> VitShape:
    shape = request.param
    assert isinstance(shape, VitShape)
    return shape


@pytest.fixture
def model_dir(cut_vit: CutVit, vit_shape: VitShape) -> Path:
    """A cut model of every kind in turn; not to be changed."""
    return cut_vit(vit_shape)
