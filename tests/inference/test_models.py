from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepact.inference import models
from edgepact.inference.pipeline import ModelInfo, open_session, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.training import captions, fashion_mnist

needs_data_set = pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed"
)


def image_vectors(pixels):
    session = open_session(models.embedded() / "image.onnx")
    return np.concatenate(
        [
            session.run(None, {"pixels": pixels[start : start + 500]})[0]
            for start in range(0, len(pixels), 500)
        ]
    )


@pytest.fixture(scope="module")
def sample_files():
    return sorted(models.samples().glob("*/*.png"))


@pytest.fixture(scope="module")
def classified(sample_files):
    """Vectors of the samples and the index of each one's class."""
    info = ModelInfo.read(models.embedded())
    pixels = np.concatenate([preprocess(file.read_bytes(), info) for file in sample_files])
    classes = np.array([info.labels.index(file.parent.name) for file in sample_files])
    return image_vectors(pixels), classes


def test_model_directory_is_whole_and_small():
    files = {file.name: file.stat().st_size for file in models.embedded().iterdir()}
    stages = {f"stage_{stage:02d}.onnx" for stage in range(14)}
    assert {"image.onnx", "text.onnx", "weights.bin", "model.json", "MODEL_CARD.md"} <= set(files)
    assert stages <= set(files)
    assert sum(files.values()) < 3_000_000
    samples = sum(file.stat().st_size for file in models.samples().glob("*/*"))
    assert sum(files.values()) + samples < 3_000_000


def test_model_json_describes_the_embedded_model():
    info = ModelInfo.read(models.embedded())
    assert info.name == "fashion-clip"
    assert tuple(info.labels) == fashion_mnist.LABELS
    assert tuple(info.templates) == captions.TEMPLATES
    assert (info.layers_max, info.tokens, info.width) == (12, 16, 64)


def test_samples_are_28x28_grey_images_of_ten_classes(sample_files):
    folders = {file.name for file in models.samples().iterdir() if file.is_dir()}
    assert folders == set(fashion_mnist.LABELS)
    assert len(sample_files) == 300
    for file in sample_files:
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28)), file


@pytest.mark.parametrize("templates", [captions.TEMPLATES, captions.HELD_OUT_TEMPLATES])
def test_samples_are_recognised_with_seen_and_unseen_prompts(classified, templates):
    vectors, classes = classified
    base = KnowledgeBase.from_texts(models.embedded(), templates=templates)
    assert (base.classify(vectors).argmax(axis=1) == classes).mean() > 0.85


@needs_data_set
def test_samples_are_exact_test_images(sample_files):
    test = fashion_mnist.read(fashion_mnist.DEBIAN_FOLDER, "test")
    for file in sample_files:
        index = int(file.stem)
        assert fashion_mnist.LABELS[test.labels[index]] == file.parent.name
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), test.images[index])


@pytest.mark.slow
@needs_data_set
def test_ten_thousand_test_images_are_recognised():
    info = ModelInfo.read(models.embedded())
    test = fashion_mnist.read(fashion_mnist.DEBIAN_FOLDER, "test")
    grey = test.images[:, None].astype(np.float32) / 255
    vectors = image_vectors((grey - np.float32(info.mean[0])) / np.float32(info.std[0]))
    for templates in (captions.TEMPLATES, captions.HELD_OUT_TEMPLATES):
        base = KnowledgeBase.from_texts(models.embedded(), templates=templates)
        right = base.classify(vectors).argmax(axis=1) == test.labels
        assert right.mean() > 0.88


def test_the_licence_of_the_samples_is_shipped():
    text = (Path(models.__file__).parent / "LICENSE-fashion-mnist.txt").read_text()
    assert "Zalando" in text
    assert "MIT License" in text
