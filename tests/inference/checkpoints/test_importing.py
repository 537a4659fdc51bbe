"""Imported towers against the libraries' own answers, in two layouts and three precisions."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from edgepact.errors import InputError
from edgepact.inference.checkpoints.importing import import_checkpoint
from edgepact.inference.checkpoints.tokens import Tokens
from edgepact.inference.checkpoints.words import Words, read_words
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase

FOLDERS = Path(__file__).parent / "folders"
"""Made by `scripts/make_checkpoint_fixtures.py`, with answers."""

WORDS = Words(labels=("cat", "dog"), templates=("a {}",))
ROUNDING = 1e-5

NAMES = ("clip", "clip-legacy", "siglip")


@pytest.fixture(scope="module", params=NAMES)
def imported(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model folder, and the answers of the library whose checkpoint it was made of."""
    source = FOLDERS / request.param
    out = tmp_path_factory.mktemp("imported") / "model"
    import_checkpoint(source, out, WORDS, name=request.param)
    return out, np.load(source / "answers.npz")


def test_stages_give_the_library_s_vectors(imported: tuple[Path, Any]) -> None:
    model, answers = imported
    pipeline = Pipeline(model)
    whole = pipeline.run(answers["pixels"], 0, pipeline.stage_count)
    np.testing.assert_allclose(whole, answers["images"], atol=ROUNDING)
    for layers in range(pipeline.layers_max + 1):
        halfway = pipeline.device_part(answers["pixels"], layers)
        np.testing.assert_array_equal(pipeline.server_part(halfway, layers), whole)


def test_texts_have_the_library_s_vectors(imported: tuple[Path, Any]) -> None:
    model, answers = imported
    knowledge = KnowledgeBase.from_texts(model)
    assert knowledge.labels == WORDS.labels
    np.testing.assert_allclose(knowledge.vectors, answers["texts"], atol=ROUNDING)


def test_pictures_are_brought_to_size_as_the_library_does_it(imported: tuple[Path, Any]) -> None:
    model, answers = imported
    info = Pipeline(model).info
    step = 1 / 255 / min(info.std)  # a level of grey: where it rounds half a pixel to the other
    for at in range(len(answers["pixels"])):
        file = io.BytesIO()
        Image.fromarray(answers[f"picture_{at}"]).save(file, "PNG")
        own = preprocess(file.getvalue(), info)[0]
        np.testing.assert_allclose(own, answers["pixels"][at], atol=1.01 * step)


def test_one_file_of_weights_serves_all_cuts(imported: tuple[Path, Any]) -> None:
    model, _ = imported
    weights = (model / "weights.bin").stat().st_size
    graphs = sum(path.stat().st_size for path in model.glob("*.onnx"))
    stored = sum(
        tensor.nbytes
        for name, tensor in load_file(FOLDERS / model_name(model) / "model.safetensors").items()
        if name.startswith(("vision", "visual"))
    )
    assert stored <= weights <= stored + 64 * 100
    assert graphs < weights
    assert not (model / "text.onnx").exists()


def model_name(model: Path) -> str:
    return str(json.loads((model / "model.json").read_text())["name"])


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_is_kept_and_computed_in_single(kind: str, tmp_path: Path) -> None:
    source, answers = copied("siglip", tmp_path), np.load(FOLDERS / "siglip" / "answers.npz")
    tensors = load_file(source / "model.safetensors")
    if kind == "F16":
        halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
        save_file(halves, source / "model.safetensors")
    else:
        write_bfloat16(source / "model.safetensors", tensors)
    out = import_checkpoint(source, tmp_path / "out", WORDS, name="half")
    pipeline = Pipeline(out)
    found = pipeline.run(answers["pixels"], 0, pipeline.stage_count)
    expected = answers["images"]
    assert (out / "weights.bin").stat().st_size < 0.6 * sum(t.nbytes for t in tensors.values())
    assert 0 < np.abs(found - expected).max() < (0.005 if kind == "F16" else 0.03)


def write_bfloat16(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    at = 0
    for name, tensor in tensors.items():
        content = (np.ascontiguousarray(tensor).view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [at, at + len(content)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        at += len(content)
        chunks.append(content)
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(chunks))


def test_open_clip_s_layout_is_the_same_model(tmp_path: Path) -> None:
    source = copied("clip-legacy", tmp_path)
    tensors = load_file(source / "model.safetensors")
    save_file(as_open_clip(tensors), source / "open_clip_model.safetensors")
    config = json.loads((source / "config.json").read_text())
    vision, text = config["vision_config"], config["text_config"]
    stated = {
        "model_cfg": {
            "embed_dim": 24,
            "vision_cfg": {
                "image_size": 32,
                "layers": 2,
                "width": 32,
                "patch_size": 8,
                "head_width": 8,
                "mlp_ratio": vision["intermediate_size"] / 32,
            },
            "text_cfg": {
                "context_length": 16,
                "vocab_size": 40,
                "width": 16,
                "heads": 2,
                "layers": 2,
                "mlp_ratio": text["intermediate_size"] / 16,
            },
        },
        "preprocess_cfg": {"interpolation": "bicubic", "resize_mode": "shortest"},
    }
    (source / "open_clip_config.json").write_text(json.dumps(stated))
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (source / name).unlink()
    answers = np.load(FOLDERS / "clip-legacy" / "answers.npz")
    out = import_checkpoint(source, tmp_path / "out", WORDS, name="open")
    pipeline = Pipeline(out)
    found = pipeline.run(answers["pixels"], 0, pipeline.stage_count)
    np.testing.assert_allclose(found, answers["images"], atol=ROUNDING)
    # Its texts have quick_gelu in the fixture; open_clip has one activation for both towers.
    assert KnowledgeBase.from_texts(out).vectors.shape == (2, 24)


def as_open_clip(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The names that open_clip gives the tensors of a CLIP of transformers."""
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    named = {
        "visual.class_embedding": tensors[f"{vision}.class_embedding"],
        "visual.conv1.weight": tensors[f"{vision}.patch_embedding.weight"],
        "visual.positional_embedding": tensors[f"{vision}.position_embedding.weight"],
        "visual.proj": tensors["visual_projection.weight"].T,
        "token_embedding.weight": tensors[f"{text}.token_embedding.weight"],
        "positional_embedding": tensors[f"{text}.position_embedding.weight"],
        "text_projection": tensors["text_projection.weight"].T,
        "logit_scale": tensors["logit_scale"],
    }
    parts = {"weight", "bias"}
    norms = {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "ln_final": "text_model.final_layer_norm",
    }
    for tower, own in (("visual.", "vision_model"), ("", "text_model")):
        for layer in range(2):
            block, at = f"{tower}transformer.resblocks.{layer}", f"{own}.encoder.layers.{layer}"
            norms |= {
                f"{block}.ln_1": f"{at}.layer_norm1",
                f"{block}.ln_2": f"{at}.layer_norm2",
                f"{block}.attn.out_proj": f"{at}.self_attn.out_proj",
                f"{block}.mlp.c_fc": f"{at}.mlp.fc1",
                f"{block}.mlp.c_proj": f"{at}.mlp.fc2",
            }
            for part in parts:
                three = [tensors[f"{at}.self_attn.{one}_proj.{part}"] for one in "qkv"]
                named[f"{block}.attn.in_proj_{part}"] = np.concatenate(three)
    for name, own in norms.items():
        named |= {f"{name}.{part}": tensors[f"{own}.{part}"] for part in parts}
    return {name: np.ascontiguousarray(tensor) for name, tensor in named.items()}


def test_clip_s_older_tokenizer_files_are_read(tmp_path: Path) -> None:
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>"]
    vocabulary = {word: at for at, word in enumerate(words)}
    vocabulary |= {"<|startoftext|>": len(words), "<|endoftext|>": len(words) + 1}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    tokens = Tokens(tmp_path, "clip", length=8, vocabulary=100)
    (row,) = tokens.rows(["A  CAT!"])
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    # "!" is in no file here: an unknown token reads as the end.
    assert row.tolist() == [start, vocabulary["a</w>"], vocabulary["cat</w>"], end, end, 0, 0, 0]


def test_texts_of_siglip_are_plain() -> None:
    tokens = Tokens(FOLDERS / "siglip", "siglip", length=16, vocabulary=40)
    shouted, plain = tokens.rows(["A  Cat, (a cat)!", "a cat a cat"])
    np.testing.assert_array_equal(shouted, plain)


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FOLDERS / name, folder / "checkpoint"))


def changed(source: Path, file: str, **fields: Any) -> None:
    path = source / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_long_prompt_is_refused(tmp_path: Path) -> None:
    words = Words(labels=("a cat of many colours",))
    with pytest.raises(InputError, match=r"1 to 16 tokens, found 3. tokens"):
        import_checkpoint(FOLDERS / "clip", tmp_path / "out", words, name="x")
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder of this name yet"):
        import_checkpoint(FOLDERS / "clip", tmp_path, WORDS, name="x")


@pytest.mark.parametrize(
    ("name", "file", "fields", "message"),
    [
        ("clip", "config.json", {"model_type": "siglip2"}, "model_type: expected one of clip"),
        ("clip", "config.json", {"vision_config": 3}, "vision_config: expected a JSON object"),
        ("clip", "config.json", {"projection_dim": 25}, "shape .25, 32., found F32 of shape"),
        ("siglip", "preprocessor_config.json", {"size": {"height": 31, "width": 32}}, "size: exp"),
        ("siglip", "preprocessor_config.json", {"resample": 17}, "resample: expected one of 0, 1"),
        ("siglip", "preprocessor_config.json", {"image_std": [1, 0, 1]}, "image_std.1.: expected"),
        ("clip", "preprocessor_config.json", {"do_center_crop": False}, "do_center_crop: expect"),
    ],
)
def test_what_is_not_built_here_is_named(
    name: str, file: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = copied(name, tmp_path)
    changed(source, file, **fields)
    with pytest.raises(InputError, match=message):
        import_checkpoint(source, tmp_path / "out", WORDS, name="x")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:6],
        lambda content: (2**40).to_bytes(8, "little") + content[8:],
        lambda content: content.replace(b"F32", b"F99", 1),
        lambda content: content[:8] + b"[" * 1000 + content[1008:],
        lambda content: content.replace(b'"data_offsets":[', b'"data_offsets":[9', 1),
    ],
)
def test_damaged_files_of_weights_are_refused(spoil: Any, tmp_path: Path) -> None:
    source = copied("clip", tmp_path)
    path = source / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match="safetensors"):
        import_checkpoint(source, tmp_path / "out", WORDS, name="x")


def test_a_pickled_checkpoint_is_not_read(tmp_path: Path) -> None:
    source = copied("clip", tmp_path)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin, which is pickled"):
        import_checkpoint(source, tmp_path / "out", WORDS, name="x")


def test_an_index_leads_to_no_other_folder(tmp_path: Path) -> None:
    source = copied("clip", tmp_path)
    (source / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": {"logit_scale": "../model.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="weight_map: expected 1 to 100 files of the folder"):
        import_checkpoint(source, tmp_path / "out", WORDS, name="x")


def test_several_files_are_one_checkpoint(tmp_path: Path) -> None:
    source = copied("clip", tmp_path)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, inside in files.items():
        save_file({name: tensors[name] for name in inside}, source / file)
    index = {"weight_map": {name: file for file, inside in files.items() for name in inside}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    out = import_checkpoint(source, tmp_path / "out", WORDS, name="x")
    answers = np.load(FOLDERS / "clip" / "answers.npz")
    pipeline = Pipeline(out)
    found = pipeline.run(answers["pixels"], 0, pipeline.stage_count)
    np.testing.assert_allclose(found, answers["images"], atol=ROUNDING)


def test_words_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('labels = ["cat", "dog"]\n')
    assert read_words(path) == Words(labels=("cat", "dog"))
    path.write_text('labels = ["cat", "cat"]\n')
    with pytest.raises(InputError, match=r"words.toml: labels.1.: expected each label once"):
        read_words(path)
    path.write_text('labels = ["cat"]\ntemplates = ["a {}", "a dog"]\n')
    with pytest.raises(InputError, match=r"words.toml: templates.1.: expected one \{\}"):
        read_words(path)
    path.write_text('lables = ["cat"]\n')
    with pytest.raises(InputError, match="labels"):
        read_words(path)
