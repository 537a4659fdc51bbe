import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.inference import models
from edgepact.inference.pipeline import ModelInfo
from edgepact.inference.zero_shot import KnowledgeBase, prompt_bytes


@pytest.fixture(scope="module")
def base():
    return KnowledgeBase.from_texts(models.embedded())


def test_the_models_own_labels_and_prompts_are_the_default(base):
    info = ModelInfo.read(models.embedded())
    spelled_out = KnowledgeBase.from_texts(models.embedded(), info.labels, info.templates)
    assert base.labels == tuple(info.labels)
    assert np.array_equal(base.vectors, spelled_out.vectors)
    assert base.vectors.shape == (len(info.labels), info.dim)
    assert np.linalg.norm(base.vectors, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_vectors_are_the_mean_over_the_prompts():
    each = [
        KnowledgeBase.from_texts(models.embedded(), ["bag"], [template]).vectors[0]
        for template in ("a {}", "{} here", "one {} or two")
    ]
    both = KnowledgeBase.from_texts(
        models.embedded(), ["bag"], ["a {}", "{} here", "one {} or two"]
    )
    mean = np.mean(each, axis=0)
    assert both.vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_text_is_closest_to_itself(base):
    probabilities = base.classify(base.vectors)
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert probabilities.argmax(axis=1).tolist() == list(range(len(base.labels)))


def test_classify_is_the_softmax_of_scaled_cosines():
    base = KnowledgeBase(
        labels=("east", "north"), vectors=np.eye(2, dtype=np.float32), logit_scale=3.0
    )
    vectors = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    expected = [1 / (1 + np.exp(3.0 * 0.2)), 1 / (1 + np.exp(-3.0))]
    assert base.classify(vectors)[:, 0] == pytest.approx(expected, abs=1e-6)


def test_order_of_labels_only_orders_the_answer(base):
    turned = KnowledgeBase.from_texts(models.embedded(), base.labels[::-1])
    vectors = np.roll(base.vectors, 1, axis=0)
    assert turned.classify(vectors)[:, ::-1] == pytest.approx(base.classify(vectors), abs=1e-6)


def test_no_images_no_probabilities(base):
    assert base.classify(np.zeros((0, base.vectors.shape[1]), np.float32)).shape == (0, 10)


@pytest.mark.parametrize(
    ("labels", "templates", "named"),
    [
        ([], None, "labels"),
        (["bag", "bag"], None, r"labels\[1\]"),
        (["bag", "  "], None, r"labels\[1\]"),
        (["bag"], [], "templates"),
        (["bag"], ["a {}", "a photo"], r"templates\[1\]"),
        (["bag"], ["{} {}"], r"templates\[0\]"),
        (["b" * 41], ["{}"], "1 to 40 bytes, found 41 bytes"),
        (["é" * 20], [" {}"], "1 to 40 bytes, found 41 bytes"),
        (["b\0g"], None, "zero byte"),
    ],
)
def test_texts_that_cannot_be_used(labels, templates, named):
    with pytest.raises(InputError, match=named):
        KnowledgeBase.from_texts(models.embedded(), labels, templates)


def test_texts_at_the_limit_and_with_braces_are_used():
    assert KnowledgeBase.from_texts(models.embedded(), ["é" * 20, "{x}"], ["{}"]).labels[1] == "{x}"


def test_a_single_string_is_not_a_list_of_labels():
    with pytest.raises(InputError, match="a list of labels"):
        KnowledgeBase.from_texts(models.embedded(), "bag")


def test_model_without_text_encoder(tmp_path):
    (tmp_path / "model.json").write_text((models.embedded() / "model.json").read_text())
    with pytest.raises(InputError, match=r"text\.onnx"):
        KnowledgeBase.from_texts(tmp_path)


@pytest.mark.parametrize(
    ("vectors", "field"),
    [
        (np.ones((2, 3), np.float32), "shape"),
        (np.full((1, 64), np.nan, np.float32), "values"),
        (np.full((1, 64), np.inf, np.float32), "values"),
        (np.ones((1, 64), np.float32), "length"),
        (np.zeros((1, 64), np.float32), "length"),
    ],
)
def test_vectors_that_cannot_be_used(base, vectors, field):
    with pytest.raises(InputError) as error:
        base.classify(vectors)
    assert error.value.field == field


def test_prompt_bytes_are_padded_with_zeros():
    assert prompt_bytes(["a", "é"], 3).tolist() == [[97, 0, 0], [0xC3, 0xA9, 0]]
