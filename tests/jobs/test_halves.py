"""A server whose half is another form of the model, and audits of the device's form."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgepact.efficiency.halves import write_halves
from edgepact.efficiency.model_compression.int8 import quantise_int8
from edgepact.efficiency.model_compression.weight_only import quantise_weights4
from edgepact.errors import InputError
from edgepact.inference.calibration import calibrate
from edgepact.inference.codecs import INT8
from edgepact.inference.digests import digest_of, state_weights
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import SERVER_HALF, ModelInfo, Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.jobs.classification import CLASSIFICATION, DeviceHalf, Picture, ServerHalf
from edgepact.tensors import Tensors
from edgepact.work import Reply

KEY = bytes(32)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original in 4 bits, and a pair: the original on devices, 4 bits on the server."""
    folder = tmp_path_factory.mktemp("forms")
    quantise_weights4(embedded(), folder / "weights4")
    quantise_int8(embedded(), folder / "int8")
    write_halves(embedded(), folder / "weights4", folder / "pair", name="pair")
    info = ModelInfo.read(embedded())
    pixels = [
        preprocess(path.read_bytes(), info) for path in sorted(samples().glob("*/*.png"))[::50]
    ]
    tolerances = calibrate(
        folder / "pair",
        model_digest=digest_of(folder / "pair"),
        pixels=pixels,
        codecs=(INT8,),
        cheaper={name: folder / name for name in ("weights4", "int8")},
    )
    tolerances.write(folder / "pair")
    assert {margin.cheat_name for margin in tolerances.margins} != set()
    assert tolerances.power == 1.0
    return folder


@pytest.fixture(scope="module")
def server(forms: Path) -> ServerHalf:
    part = CLASSIFICATION.server_part(forms / "pair", {})
    part.warm()
    return part


@pytest.fixture(scope="module")
def pictures() -> Sequence[Picture]:
    device = DeviceHalf(embedded(), samples())
    return device.pieces()[7::40]


def sent(device: DeviceHalf, picture: Picture, layers: int) -> Tensors:
    """As the server unpacks it from int8."""
    specs = device.expects(layers, 0)
    return INT8.unpack(INT8.pack(next(device.work(picture, layers)), specs), specs)


def test_the_server_goes_on_in_its_own_form(
    forms: Path, server: ServerHalf, pictures: Sequence[Picture]
) -> None:
    device = CLASSIFICATION.device_part(forms / "pair", None, {})
    own, texts = Pipeline(forms / "weights4"), KnowledgeBase.from_texts(embedded())
    info = ModelInfo.read(embedded())
    assert server.stages == 14
    for picture in pictures:
        pixels = preprocess(picture.path.read_bytes(), info)
        for layers in (0, 5):
            came = sent(device, picture, layers)
            (reply,) = server.answer([(server.begin(layers, 0), came)])
            assert isinstance(reply, Reply)
            x = pixels if layers == 0 else np.asarray(came["tokens"])
            expected = texts.classify(own.server_part(x, layers))
            assert reply.outputs["probabilities"] == pytest.approx(expected, abs=1e-6)
            entered = server.enter(layers, came)
            assert not isinstance(entered, InputError)
            start, travelling = entered
            (done,), reached = server.advance([travelling], start, 14, lambda: False)
            assert reached == 14
            left = server.leave(layers, done)
            assert isinstance(left, Reply)
            assert left.outputs["probabilities"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cheaper", ["weights4", "int8"])
def test_a_cheaper_form_than_agreed_is_caught(
    forms: Path, server: ServerHalf, pictures: Sequence[Picture], cheaper: str
) -> None:
    honest = CLASSIFICATION.device_part(forms / "pair", None, {})
    other = CLASSIFICATION.device_part(forms / cheaper, None, {})
    for device, passes in ((honest, True), (other, False)):
        for picture in pictures:
            for layers in (1, 6, 12):
                came = sent(device, picture, layers)
                reply = Reply(outputs={}, told={})
                evidence = server.evidence(layers, 0, came, reply, KEY)
                source = device.source(picture)
                found = server.passes_audit(layers, [evidence], source, seed=0, codec=INT8, key=KEY)
                assert found is passes, (layers, picture)


def test_a_server_form_that_does_not_fit_is_refused(forms: Path, tmp_path: Path) -> None:
    shutil.copytree(forms / "pair", tmp_path / "pair")
    place = tmp_path / "pair" / SERVER_HALF / "model.json"
    place.write_text(place.read_text().replace('"tokens": 16', '"tokens": 17'))
    state_weights(place.parent)
    with pytest.raises(InputError, match="tokens: expected 16 as in pair"):
        CLASSIFICATION.server_part(tmp_path / "pair", {})
    (place.parent / "weights.bin").write_bytes(b"0")
    with pytest.raises(InputError, match="weights_sha256"):
        CLASSIFICATION.server_part(tmp_path / "pair", {})
