"""Forms of a model, each half its own: accuracies, costs, and folders of two forms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.random_vit import VitShape, write_vit
from edgepact.efficiency.halves import (
    FormMeasured,
    HalvesMeasured,
    measure_halves,
    picture,
    write_halves,
)
from edgepact.efficiency.model_compression.report import Images
from edgepact.efficiency.model_compression.structured import prune_structured
from edgepact.efficiency.profile import LineFit
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.digests import digest_of
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import SERVER_HALF, ModelInfo, Pipeline
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.studies.compress import read_images


@pytest.fixture(scope="module")
def images() -> Images:
    found = read_images(samples(), ModelInfo.read(embedded()), split="test")
    assert found.classes is not None
    return Images(pixels=found.pixels[::15], classes=found.classes[::15])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pruned = tmp_path_factory.mktemp("forms") / "structured"
    prune_structured(embedded(), pruned, 0.75)
    return {"original": embedded(), "structured": pruned}


@pytest.fixture(scope="module")
def measured(folders: dict[str, Path], images: Images) -> HalvesMeasured:
    return measure_halves(folders, images, repeats=1)


def test_accuracy_is_that_of_the_two_halves_at_every_cut(
    folders: dict[str, Path], images: Images, measured: HalvesMeasured
) -> None:
    pipelines = [Pipeline(folder) for folder in folders.values()]
    texts = KnowledgeBase.from_texts(embedded())
    for d, device in enumerate(pipelines):
        for s, server in enumerate(pipelines):
            for layers in (0, 1, 6, 11, 12):
                vectors = server.server_part(device.device_part(images.pixels, layers), layers)
                right = texts.classify(vectors).argmax(axis=1) == images.classes
                # Rounding of larger batches may turn a close one.
                assert measured.accuracy[d, s, layers] == pytest.approx(right.mean(), abs=0.051)
    assert np.ptp(measured.accuracy[0, 0]) == np.ptp(measured.accuracy[1, 1]) == 0
    assert (measured.accuracy[:, 1, 0] == measured.accuracy[1, 1, 0]).all()
    assert (measured.accuracy[1, :, -1] == measured.accuracy[1, 1, 0]).all()


def test_what_forms_weigh_and_cost(measured: HalvesMeasured) -> None:
    original, pruned = measured.forms
    assert pruned.weight_bytes < original.weight_bytes
    assert pruned.costs.A < 0.6 * original.costs.A
    counted = measured.as_forms("gmac")
    assert counted.layer_share[0] == counted.before_share[0] == 1
    assert counted.layer_share[1] == pytest.approx(pruned.costs.A / original.costs.A)
    assert counted.before_share[1] == 1
    timed = measured.as_forms("seconds")
    assert timed.layer_share[1] == pytest.approx(pruned.fit.A_s / original.fit.A_s)
    told = measured.to_dict()
    assert [each["name"] for each in told["forms"]] == ["original", "structured"]
    assert np.shape(told["accuracy"]) == (2, 2, 13)


def form(name: str, seconds: float) -> FormMeasured:
    return FormMeasured(
        name=name,
        weight_bytes=100,
        embed_bytes=10,
        gmac_per_stage=(1.0, 1.0, 1.0, 1.0),
        seconds_per_stage=(0.0, seconds, seconds, 0.0),
        fit=LineFit(A_s=seconds, B_s=0.0, r_squared=1.0),
        accuracy=0.9,
    )


STATED = HalvesMeasured(
    model="m",
    forms=(form("original", 1.0), form("fast", 0.5), form("slow", 1.2)),
    accuracy=np.repeat(
        np.array([[0.9, 0.85, 0.9], [0.88, 0.8, 0.7], [0.9, 0.7, 0.95]])[..., None], 3, axis=2
    ),
    images=100,
)


def test_the_front_is_what_nothing_beats() -> None:
    front = [(STATED.names[d], STATED.names[s]) for d, s in STATED.pareto(1)]
    assert front == [
        ("fast", "fast"),
        ("fast", "original"),
        ("original", "original"),
        ("slow", "slow"),
    ]
    assert STATED.seconds(1, 2, 1) == pytest.approx(1.7)
    assert STATED.seconds(1, 2, 0) == pytest.approx(2.4)
    assert STATED.seconds(1, 2, 2) == pytest.approx(1.0)


def test_what_does_not_get_faster_is_said() -> None:
    forms, pairs = STATED.sheets
    assert "Not faster than the original here: slow." in forms.notes
    assert "standard error 3.00%" in forms.notes[0]
    assert len(pairs.rows) == 9
    assert sum(row[-1] == "yes" for row in pairs.rows) == 4


def test_the_picture_names_what_is_on_the_front() -> None:
    (axes,) = picture(STATED).axes
    written = {text.get_text() for text in axes.texts}
    assert {"fast | original", "slow", "fast", "original"} == written


def test_a_folder_of_two_forms_is_the_devices_and_holds_the_servers(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "pair"
    write_halves(folders["structured"], embedded(), out, name="pair")
    assert ModelInfo.read(out).name == "pair"
    assert not (out / "tolerances.json").exists()
    assert digest_of(out) != digest_of(folders["structured"])
    assert digest_of(out / SERVER_HALF) == digest_of(embedded())
    x = np.zeros((1, 1, 28, 28), np.float32)
    own = Pipeline(folders["structured"]).device_part(x, 3)
    assert np.array_equal(Pipeline(out).device_part(x, 3), own)
    with pytest.raises(InputError, match="a new or empty folder"):
        write_halves(embedded(), embedded(), out, name="pair")


def test_models_of_another_shape_are_no_forms(tmp_path: Path, images: Images) -> None:
    other = write_vit(tmp_path / "vit", VitShape(layers=2))
    graph.cut(other)
    with pytest.raises(InputError, match="layers_max: expected 12 as in fashion-clip"):
        measure_halves({"original": embedded(), "other": other}, images)
    with pytest.raises(InputError, match="layers_max"):
        write_halves(embedded(), other, tmp_path / "out", name="pair")
    with pytest.raises(InputError, match="images in a folder for each class"):
        measure_halves({"original": embedded()}, replace(images, classes=None))
