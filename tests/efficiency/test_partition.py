from pathlib import Path

import pytest

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.partition import LayerCosts
from edgepact.errors import InputError
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import ModelInfo


@pytest.mark.parametrize(
    "shape",
    [
        VitShape(),
        VitShape(layers=2, channels=3, patch=14, class_token=True),
        VitShape(layers=1, width=48, heads=3, class_token=True, shape_paths=True),
    ],
)
def test_the_closed_form_is_what_the_graph_holds(tmp_path: Path, shape: VitShape) -> None:
    counted = LayerCosts.of_model(write_vit(tmp_path / "m", shape))
    assert counted == LayerCosts.of_vit(
        layers=shape.layers,
        tokens=shape.tokens,
        width=shape.width,
        patch=shape.patch,
        channels=shape.channels,
        class_token=shape.class_token,
        dim=shape.dim,
    )


def test_the_embedded_model_follows_the_closed_form() -> None:
    info = ModelInfo.read(embedded())
    patch = info.image_size // round(info.tokens**0.5)
    assert LayerCosts.of_model(embedded()) == LayerCosts.of_vit(
        layers=info.layers_max,
        tokens=info.tokens,
        width=info.width,
        patch=patch,
        channels=info.channels,
        class_token=False,
        dim=info.dim,
    )


@pytest.mark.parametrize(
    ("layers", "tokens", "width", "patch", "A", "B", "total"),
    [
        (12, 50, 768, 32, 0.3577, 0.1156, 4.41),
        (12, 197, 768, 16, 1.4540, 0.1156, 17.56),
        (24, 257, 1024, 14, 3.3691, 0.1541, 81.0),
    ],
    ids=["ViT-B/32", "ViT-B/16", "ViT-L/14"],
)
def test_well_known_models(
    layers: int, tokens: int, width: int, patch: int, A: float, B: float, total: float
) -> None:
    costs = LayerCosts.of_vit(layers=layers, tokens=tokens, width=width, patch=patch)
    assert (round(costs.A, 4), round(costs.B, 4)) == (A, B)
    assert costs.total == pytest.approx(total, abs=0.02)


def test_device_and_server_share_the_whole() -> None:
    costs = LayerCosts(per_stage=(1.0, 2.0, 4.0, 8.0, 16.0))
    assert [costs.device(layers) for layers in range(4)] == [0.0, 3.0, 7.0, 31.0]
    assert [costs.server(layers) for layers in range(4)] == [31.0, 28.0, 24.0, 0.0]
    assert (costs.layers_max, costs.B, costs.head, costs.total) == (3, 1.0, 16.0, 31.0)
    assert pytest.approx(14 / 3) == costs.A


@pytest.mark.parametrize("layers", [-1, 4])
def test_a_cut_that_does_not_exist(layers: int) -> None:
    with pytest.raises(InputError, match="a number from 0 to 3"):
        LayerCosts(per_stage=(1.0, 2.0, 4.0, 8.0, 16.0)).device(layers)


def test_a_model_needs_a_block() -> None:
    with pytest.raises(InputError, match="embed, blocks and head"):
        LayerCosts(per_stage=(1.0, 2.0))
