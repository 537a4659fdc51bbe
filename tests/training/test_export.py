import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgepact.errors import InputError
from edgepact.inference import models
from edgepact.inference.graph import boundaries
from edgepact.inference.pipeline import ModelInfo, open_session
from edgepact.inference.zero_shot import prompt_bytes
from edgepact.training.clip import Clip, ClipConfig, Normalisation
from edgepact.training.export import export, load, rounded_to_half

# Unlike the embedded model in every number, to catch what was written for that one only.
SMALL = ClipConfig(
    image_size=12,
    channels=3,
    patch=4,
    layers=3,
    text_layers=1,
    text_bytes=24,
    width=24,
    heads=3,
    mlp_width=40,
    dim=10,
)


@pytest.fixture(scope="module")
def model():
    # All weights at random: a mix-up of biases (0 at first) or scales (1) must not go unseen.
    random = np.random.default_rng(1)
    skeleton = eqx.filter_eval_shape(Clip.init, jax.random.key(0), SMALL)
    return rounded_to_half(
        jax.tree.map(
            lambda leaf: jnp.asarray(0.3 * random.standard_normal(leaf.shape), jnp.float32),
            skeleton,
        )
    )


@pytest.fixture(scope="module")
def model_dir(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "small"
    export(
        model,
        SMALL,
        Normalisation(mean=0.25, std=0.5),
        name="small",
        labels=("cup", "spoon"),
        templates=("a {}",),
        model_dir=folder,
    )
    return folder


def test_image_graph_computes_what_the_model_does(model, model_dir):
    pixels = np.random.default_rng(2).standard_normal((5, 3, 12, 12)).astype(np.float32)
    session = open_session(model_dir / "image.onnx")
    (vectors,) = session.run(None, {"pixels": pixels})
    assert vectors == pytest.approx(np.asarray(eqx.filter_jit(model.image)(pixels)), abs=2e-6)
    (alone,) = session.run(None, {"pixels": pixels[3:4]})
    assert alone[0] == pytest.approx(vectors[3], abs=2e-6)


def test_text_graph_computes_what_the_model_does(model, model_dir):
    rows = prompt_bytes(["x", "a cup", "é" * 12, "a spoon of tea"], SMALL.text_bytes)
    session = open_session(model_dir / "text.onnx")
    (vectors,) = session.run(None, {"bytes": rows})
    assert vectors == pytest.approx(np.asarray(eqx.filter_jit(model.text)(rows)), abs=2e-6)
    (alone,) = session.run(None, {"bytes": rows[1:2]})
    assert alone[0] == pytest.approx(vectors[1], abs=2e-6)


def test_boundaries_carry_the_tokens_between_blocks(model, model_dir):
    names = boundaries(model_dir / "image.onnx")
    assert len(names) == SMALL.layers + 1
    graph = onnx.load(model_dir / "image.onnx", load_external_data=False)
    del graph.graph.output[:]
    graph.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 9, 24])
        for name in names
    )
    (model_dir / "probe.onnx").write_bytes(graph.SerializeToString())
    pixels = np.random.default_rng(3).standard_normal((2, 3, 12, 12)).astype(np.float32)
    session = ort.InferenceSession(model_dir / "probe.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(list(names), {"pixels": pixels})
    (model_dir / "probe.onnx").unlink()

    @eqx.filter_jit
    def between_blocks(pixels):
        tokens = [model.image.embed(pixels)]
        for at in range(SMALL.layers):
            block = jax.tree.map(lambda leaf, at=at: leaf[at], model.image.blocks)
            tokens.append(block(tokens[-1], None))
        return tokens

    for output, tokens in zip(outputs, between_blocks(pixels), strict=True):
        assert output == pytest.approx(np.asarray(tokens), rel=1e-4, abs=1e-4)


def test_model_json_and_stages(model, model_dir):
    info = ModelInfo.read(model_dir)
    assert (info.layers_max, info.dim, info.tokens, info.width) == (3, 10, 9, 24)
    assert info.labels == ("cup", "spoon")
    assert info.logit_scale == pytest.approx(float(model.logit_scale), abs=1e-3)
    assert len(list(model_dir.glob("stage_*.onnx"))) == SMALL.layers + 2


def test_load_gives_back_the_model(model, model_dir):
    loaded = load(model_dir)
    assert loaded.config == SMALL
    assert loaded.normalisation == Normalisation(mean=0.25, std=0.5)
    same = jax.tree.map(
        lambda a, b: a.shape == b.shape and np.allclose(a, b, atol=1e-4),
        loaded.model,
        model,
    )
    assert all(jax.tree.leaves(same))


def test_load_refuses_other_models(model_dir, tmp_path):
    (tmp_path / "model.json").write_text((model_dir / "model.json").read_text())
    with pytest.raises(InputError, match=r"image\.onnx"):
        load(tmp_path)
    for name in ("text.onnx", "weights.bin"):
        (tmp_path / name).write_bytes((model_dir / name).read_bytes())
    graph = onnx.load(model_dir / "image.onnx", load_external_data=False)
    kept = [entry for entry in graph.metadata_props if entry.key != "edgepact.clip"]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    (tmp_path / "image.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(InputError, match=r"edgepact\.clip"):
        load(tmp_path)
    graph.metadata_props.add(key="edgepact.clip", value=json.dumps({"layers": 4, "width": 24}))
    (tmp_path / "image.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(InputError, match="a weight of shape"):
        load(tmp_path)


def test_the_embedded_files_are_those_of_its_jax_model():
    embedded = models.embedded()
    loaded = load(embedded)
    assert sum(leaf.size for leaf in jax.tree.leaves(loaded.model)) < 750_000
    pixels = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    (vectors,) = open_session(embedded / "image.onnx").run(None, {"pixels": pixels})
    assert vectors == pytest.approx(
        np.asarray(eqx.filter_jit(loaded.model.image)(pixels)), abs=2e-6
    )
    rows = prompt_bytes(["a photo of a sneaker", "bag"], 40)
    (vectors,) = open_session(embedded / "text.onnx").run(None, {"bytes": rows})
    expected = eqx.filter_jit(loaded.model.text)(rows)
    assert vectors == pytest.approx(np.asarray(expected), abs=2e-6)
