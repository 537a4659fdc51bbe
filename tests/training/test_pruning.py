"""Fewer heads and hidden units: what goes, what stays, and what a short fine-tuning gains."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.footprint import footprint
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import ModelInfo, Pipeline
from edgepact.training.clip import Clip, ClipConfig, Normalisation
from edgepact.training.export import export, image_graph, load
from edgepact.training.pruning import PruningConfig, drawn_pixels, prune_heads, without_parts

CONFIG = ClipConfig(layers=2, text_layers=1, width=16, heads=4, mlp_width=24, dim=8, text_bytes=16)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    export(
        Clip.init(jax.random.key(0), CONFIG),
        CONFIG,
        Normalisation(mean=0.3, std=0.35),
        name="tiny",
        labels=["bag", "coat"],
        templates=["{}"],
        model_dir=folder,
    )
    return folder


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((40, 1, 28, 28), np.float32)


def test_what_is_left_is_smaller_and_hands_on_as_much(
    model_dir: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prune_heads(model_dir, out, PruningConfig(share=0.5, steps=0), pixels=pixels)
    before, after = Pipeline(model_dir), Pipeline(out)
    for stage in range(before.stage_count + 1):
        assert after.expects(stage) == before.expects(stage)
    assert after.info.name == "tiny-heads-0.5"
    # Matrices of a block are halved; scores and mixing have half of the heads.
    own, was = footprint(out), footprint(model_dir)
    assert [each.macs * 2 for each in own.stages[1:-1]] == [each.macs for each in was.stages[1:-1]]
    assert own.stages[0].macs == was.stages[0].macs
    assert own.stages[-1].macs == was.stages[-1].macs


def test_the_graph_computes_what_jax_does(model_dir: Path, pixels: np.ndarray) -> None:
    encoder = load(model_dir).model.image
    pruned = without_parts(encoder, jnp.asarray(pixels), 0.3)
    assert (pruned.blocks.heads, pruned.blocks.mlp_in.bias.shape) == (3, (2, 17))
    assert image_graph(pruned, CONFIG).ByteSize() < image_graph(encoder, CONFIG).ByteSize()


def test_nothing_goes_where_no_share_does(
    model_dir: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prune_heads(model_dir, out, PruningConfig(share=0.0, steps=0), pixels=pixels)
    whole = Pipeline(model_dir).device_part(pixels[:2], 2)
    assert np.array_equal(Pipeline(out).device_part(pixels[:2], 2), whole)


def test_a_head_that_never_varies_goes_first_and_leaves_its_mean(
    model_dir: Path, pixels: np.ndarray
) -> None:
    encoder = load(model_dir).model.image
    weight, bias = (
        np.array(encoder.blocks.attention_in.weight),
        np.array(encoder.blocks.attention_in.bias),
    )
    weight[:, :, 32 + 4 : 32 + 8] = 0.0  # the values of the second head are its bias alone
    bias[:, 32 + 4 : 32 + 8] = 3.0
    changed = jax.tree.map(jnp.asarray, (weight, bias))
    dead = eqx.tree_at(
        lambda each: (each.blocks.attention_in.weight, each.blocks.attention_in.bias),
        encoder,
        changed,
    )
    x = jnp.asarray(pixels)
    pruned = without_parts(dead, x, 0.25)
    assert pruned.blocks.heads == 3
    kept = np.asarray(pruned.blocks.attention_out.weight)
    was = np.asarray(dead.blocks.attention_out.weight)
    assert np.array_equal(kept, np.delete(was, range(4, 8), axis=1))


@pytest.mark.slow
def test_a_short_fine_tuning_comes_nearer_at_every_cut(
    model_dir: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    losses: list[float] = []
    for steps, name in ((0, "pruned"), (40, "taught")):
        settings = PruningConfig(steps=steps, batch=20, learning_rate=3e-3, chunk_steps=20)
        prune_heads(
            model_dir,
            tmp_path / name,
            settings,
            pixels=pixels,
            report=lambda done, of, loss: losses.append(loss),
        )
    assert len(losses) == 2
    assert losses[1] < losses[0]
    whole = Pipeline(model_dir)
    for layers in (1, 2):
        meant = whole.device_part(pixels, layers)
        far = [
            float(np.square(Pipeline(tmp_path / name).device_part(pixels, layers) - meant).mean())
            for name in ("pruned", "taught")
        ]
        assert far[1] < far[0]


def test_pictures_are_drawn_where_there_are_none() -> None:
    drawn = drawn_pixels(embedded(), 6, 0)
    assert drawn.shape == (6, 1, 28, 28)
    assert np.array_equal(drawn, drawn_pixels(embedded(), 6, 0))
    info = ModelInfo.read(embedded())
    grey = drawn * info.std[0] + info.mean[0]
    assert -1e-5 <= grey.min() < 0.1 < grey.max() <= 1 + 1e-5


def test_other_models_and_numbers_are_refused(tmp_path: Path) -> None:
    other = write_vit(tmp_path / "vit", VitShape(layers=2))
    graph.cut(other)
    with pytest.raises(InputError):
        prune_heads(other, tmp_path / "out", PruningConfig())
    assert not (tmp_path / "out").exists()
    for fields, message in (({"share": 1.0}, "share"), ({"steps": -1}, "steps")):
        with pytest.raises(InputError, match=message):
            PruningConfig(**fields)
