"""Image classification as a job: its two halves, what it takes, what an audit tells apart."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepact import registry
from edgepact.errors import InputError
from edgepact.inference.codecs import BUILT_IN, FP16, FP32, INT8
from edgepact.inference.digests import digest_of, state_weights
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.tolerances import TOLERANCES_JSON, Tolerances, read_tolerances
from edgepact.jobs.classification import CLASSIFICATION, DeviceHalf, Picture, find_images
from edgepact.market.evidence import amount_of, chosen_codec, cut_name, unpacked
from edgepact.tensors import Codec, Tensors
from edgepact.work import (
    NEAR_REPEAT_DISTANCE,
    SKETCH_NUMBERS_MAX,
    DevicePart,
    Job,
    Reply,
    ServerAway,
    ServerPart,
    StagedPart,
)

KEY = bytes(32)


@pytest.fixture(scope="module")
def server() -> ServerPart:
    part = CLASSIFICATION.server_part(None, {})
    part.warm()
    return part


@pytest.fixture(scope="module")
def device() -> DeviceHalf:
    return CLASSIFICATION.device_part(None, None, {})


@pytest.fixture(scope="module")
def pictures(device: DeviceHalf) -> Sequence[Picture]:
    return device.pieces()


def sent_by(device: DeviceHalf, picture: Picture, layers: int, codec: Codec = FP32) -> Tensors:
    """What a device sends, as the server unpacks it."""
    packed = codec.pack(next(device.work(picture, layers)), device.expects(layers, 0))
    return unpacked(codec, packed, device.expects(layers, 0), "test")


def answer(server: ServerPart, layers: int, sent: Tensors) -> Reply:
    (reply,) = server.answer([(server.begin(layers, 0), sent)])
    assert isinstance(reply, Reply)
    return reply


def test_it_is_the_installed_job() -> None:
    assert registry.part("jobs", "classification") is CLASSIFICATION
    assert isinstance(CLASSIFICATION, Job)
    assert isinstance(CLASSIFICATION.device_part(None, None, {}), DevicePart)
    with pytest.raises(InputError, match="no settings"):
        CLASSIFICATION.server_part(None, {"tokens": 3})


def test_answer_agrees_with_the_whole_model(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    assert isinstance(server, ServerPart)
    for picture in pictures[::50]:
        whole = answer(server, 0, sent_by(device, picture, 0))
        for layers in range(1, 13):
            split = answer(server, layers, sent_by(device, picture, layers))
            left, right = (np.asarray(each.outputs["probabilities"]) for each in (split, whole))
            assert np.array_equal(left, right)
            assert split.told == whole.told
            assert (split.finished, split.units) == (True, 1)


def test_an_image_that_cannot_be_read_spoils_its_own_answer_only(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    good = sent_by(device, pictures[0], 0)
    batch = [(server.begin(0, 0), sent) for sent in (good, {"image": (b"none",)}, good)]
    first, bad, last = server.answer(batch)
    assert isinstance(bad, InputError)
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert first.told == last.told


def test_every_codec_fits_every_cut(device: DeviceHalf, pictures: Sequence[Picture]) -> None:
    for layers in range(13):
        specs = device.expects(layers, 0)
        for codec in BUILT_IN:
            packed = codec.pack(next(device.work(pictures[0], layers)), specs)
            found = chosen_codec(None, BUILT_IN, packed, specs)
            assert found is (codec if 0 < layers < 12 else INT8)
            unpacked(found, packed, specs, "test")


def test_names_of_cuts_are_exact(server: ServerPart) -> None:
    model = server.model
    assert [amount_of(model, cut_name(model, layers)) for layers in range(13)] == list(range(13))
    for name in ("", "fashion-clip-cut-", "fashion-clip-cut-13", "fashion-clip-cut-٣", "-cut-1"):
        assert amount_of(model, name) is None


# ---------------------------------------------------------------- together


def test_together_an_answer_is_what_it_is_alone_to_rounding(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    assert isinstance(server, StagedPart)
    assert server.stages == 14
    pieces = [(cut, sent_by(device, pictures[7 * cut], cut)) for cut in (0, 1, 1, 5, 11, 12)]
    entered = [server.enter(server.begin(cut, 0), sent) for cut, sent in pieces]
    waiting = [each for each in entered if not isinstance(each, InputError)]
    assert [start for start, _ in waiting] == [0, 2, 2, 6, 12, 14]
    travelling: dict[int, np.ndarray] = {}
    for stage in range(server.stages + 1):
        travelling |= {at: x for at, (start, x) in enumerate(waiting) if start == stage}
        if stage < server.stages:
            passed, _ = server.advance(list(travelling.values()), stage, stage + 1, lambda: False)
            travelling = dict(zip(travelling, passed, strict=True))
    for at, (cut, sent) in enumerate(pieces):
        together = server.leave(server.begin(cut, 0), travelling[at])
        alone = answer(server, cut, sent)
        assert isinstance(together, Reply)
        assert together.told == alone.told
        left, right = (np.asarray(each.outputs["probabilities"]) for each in (together, alone))
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
        # Far nearer than what counts as the same work delivered twice.
        assert together.sketch is not None
        assert alone.sketch is not None
        apart = float(np.linalg.norm(together.sketch - alone.sketch))
        assert apart < 0.01 * NEAR_REPEAT_DISTANCE


def test_a_picture_that_cannot_be_read_does_not_enter(server: ServerPart) -> None:
    assert isinstance(server, StagedPart)
    assert isinstance(server.enter(server.begin(0, 0), {"image": (b"none",)}), InputError)


def test_a_vector_of_no_numbers_is_refused_when_it_leaves(server: ServerPart) -> None:
    assert isinstance(server, StagedPart)
    none = np.full((1, 64), np.nan, np.float32)
    assert isinstance(server.leave(server.begin(12, 0), none), InputError)


def test_audits_pass_what_a_device_has_made_together(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture], pipeline: Pipeline
) -> None:
    """The server makes it alone: a batch rounds otherwise, far within the tolerances."""
    sources = [device.source(each) for each in pictures[:16]]
    pixels = np.concatenate([preprocess(each, pipeline.info) for each in sources])
    for layers in range(1, 13):
        together = pipeline.device_part(pixels, layers)
        name = "vector" if layers == 12 else "tokens"
        specs = device.expects(layers, 0)
        for codec in BUILT_IN:
            for at in (0, 15):
                packed = codec.pack({name: together[at : at + 1]}, specs)
                sent = unpacked(codec, packed, specs, "test")
                assert passes(server, layers, sent, sources[at], codec)


# ---------------------------------------------------------------- audits


def passes(
    server: ServerPart, layers: int, sent: Tensors, source: bytes, codec: Codec = FP32
) -> bool:
    kept = server.evidence(layers, 0, sent, Reply(outputs={}), KEY)
    return server.passes_audit(layers, [kept], source, seed=0, codec=codec, key=KEY)


def test_audit_passes_honest_work(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    for layers in range(1, 13):
        for codec in BUILT_IN:
            picture = pictures[layers]
            sent = sent_by(device, picture, layers, codec)
            assert passes(server, layers, sent, device.source(picture), codec)


def test_audit_tells_cheap_substitutes_apart(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    for layers in range(1, 13):
        sent = sent_by(device, pictures[3], layers)
        ((name, value),) = sent.items()
        x = np.asarray(value)
        substitutes: list[Tensors] = [
            sent_by(device, pictures[200], layers),  # another image
            {name: np.zeros_like(x)},
            {name: np.random.default_rng(0).normal(0, x.std(), x.shape).astype(np.float32)},
        ]
        if 1 < layers < 12:  # one layer skipped
            substitutes.append(sent_by(device, pictures[3], layers - 1))
        for substitute in substitutes:
            assert not passes(server, layers, substitute, device.source(pictures[3]), INT8)
        honest = server.evidence(layers, 0, sent, Reply(outputs={}), KEY)
        for kept in ([], [honest, honest], [honest[:-4]], [b""]):
            assert not server.passes_audit(
                layers, kept, device.source(pictures[3]), seed=0, codec=FP32, key=KEY
            )


def test_audit_is_as_strict_as_the_codec_is_exact(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    """A number of each token off by a hundredth of its largest one, which int8 could not show
    before: the server packs its own activation too, and honest int8 is then the same."""
    sent = {"tokens": np.array(sent_by(device, pictures[5], 6)["tokens"])}
    x = sent["tokens"]
    x += 0.01 * np.abs(x).max(axis=-1, keepdims=True)
    for codec in BUILT_IN:
        specs = device.expects(6, 0)
        packed = unpacked(codec, codec.pack(sent, specs), specs, "test")
        assert not passes(server, 6, packed, device.source(pictures[5]), codec)


def test_evidence_is_a_kilobyte_and_read_with_its_own_key_only(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    source, other = (device.source(pictures[at]) for at in (9, 10))
    for layers in range(1, 13):
        sent = sent_by(device, pictures[9], layers)
        kept = server.evidence(layers, 0, sent, Reply(outputs={}), b"one key")
        assert len(kept) <= 1024
        judged = partial(server.passes_audit, layers, [kept], seed=0, codec=FP32)
        assert judged(source, key=b"one key")
        assert not judged(other, key=b"one key")
        if layers < 12:  # of the vector all numbers are kept
            assert not judged(source, key=b"another")


def test_codec_from_outside_is_calibrated_when_it_is_audited(
    device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    server = CLASSIFICATION.server_part(None, {})
    outside = replace(FP16, name="outside")
    sent, source = sent_by(device, pictures[2], 1, outside), device.source(pictures[2])
    assert passes(server, 1, sent, source, outside)
    assert not passes(server, 1, sent, device.source(pictures[3]), outside)


def test_sketches_tell_a_picture_from_others_and_not_from_its_copy(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture], tmp_path: Path
) -> None:
    with Image.open(pictures[20].path) as image:
        pixels = np.array(image)
    pixels[14, 14] ^= 1
    Image.fromarray(pixels).save(tmp_path / "copy.png")
    copy = Picture(tmp_path / "copy.png", None)
    assert copy.path.read_bytes() != pictures[20].path.read_bytes()
    own = [answer(server, cut, sent_by(device, pictures[20], cut)).sketch for cut in (0, 4, 12)]
    copied = DeviceHalf(embedded(), tmp_path)
    again = [
        answer(server, cut, sent_by(copied, copy, cut, codec)).sketch
        for cut in (0, 1, 7, 12)
        for codec in (BUILT_IN if cut in (1, 7) else [FP32])
    ]
    others = [answer(server, 4, sent_by(device, each, 4)).sketch for each in pictures[21:40]]
    for sketch in [*own, *again, *others]:
        assert sketch is not None
        assert sketch.dtype == np.float32
        assert sketch.shape == (SKETCH_NUMBERS_MAX,)
    kept = np.stack([np.asarray(each, np.float16) for each in own]).astype(np.float32)
    assert all(np.linalg.norm(kept - each, axis=1).max() < NEAR_REPEAT_DISTANCE for each in again)
    assert all(np.linalg.norm(kept - each, axis=1).min() > NEAR_REPEAT_DISTANCE for each in others)


def test_model_without_tolerances_is_measured_once_and_other_weights_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(embedded(), model)
    (model / TOLERANCES_JSON).unlink()
    shipped = read_tolerances(embedded(), digest_of(embedded()))
    assert shipped is not None
    asked: list[str] = []

    def measured(folder: Path, *, model_digest: str, codecs: Sequence[Codec]) -> Tolerances:
        asked.append(model_digest)
        return replace(shipped, model_digest=model_digest)

    monkeypatch.setattr("edgepact.inference.calibration.calibrate", measured)
    for _ in range(2):
        part = CLASSIFICATION.server_part(model, {})
        part.warm()
        assert part.audit_power == 1
    assert asked == [shipped.model_digest]
    content = (model / "weights.bin").read_bytes()
    (model / "weights.bin").write_bytes(content[:-2] + b"\x01\x02")
    state_weights(model)
    CLASSIFICATION.server_part(model, {}).warm()
    assert len(set(asked)) == 2


def test_audit_needs_an_image(
    server: ServerPart, device: DeviceHalf, pictures: Sequence[Picture]
) -> None:
    with pytest.raises(InputError, match="image"):
        passes(server, 4, sent_by(device, pictures[0], 4), b"none")


def test_the_image_itself_is_no_evidence(server: ServerPart) -> None:
    assert server.evidence(0, 0, {"image": (b"x",)}, Reply(outputs={}), KEY) == b""


# ---------------------------------------------------------------- the device's half


def test_results_name_image_and_class(device: DeviceHalf, pictures: Sequence[Picture]) -> None:
    work = device.work(pictures[0], 3)
    next(work)
    with pytest.raises(StopIteration) as end:
        work.send(Reply(outputs={}, told={"label": "bag"}))
    told = end.value.value
    image = pictures[0].path.read_bytes()
    assert (samples() / told["file"]).read_bytes() == image
    assert (told["label_true"], told["label_predicted"]) == (pictures[0].label, "bag")
    assert told["image_bytes"] == len(image)
    assert told["jpeg_bytes"] > 0


def test_alone_it_finds_the_class_of_the_whole_model(
    device: DeviceHalf, server: ServerPart, pictures: Sequence[Picture]
) -> None:
    work = device.work(pictures[7], 3)
    next(work)
    with pytest.raises(StopIteration) as end:
        work.throw(ServerAway())
    whole = answer(server, 0, sent_by(device, pictures[7], 0))
    assert end.value.value["label_predicted"] == whole.told["label"]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    device = CLASSIFICATION.device_part(None, tmp_path, {})
    bad, good = device.pieces()
    for layers in (0, 3):
        next(device.work(good, layers))
        with pytest.raises(InputError, match=r"bad\.png: expected an image file"):
            next(device.work(bad, layers))


def test_only_formats_of_the_folder_are_opened(pipeline: Pipeline, tmp_path: Path) -> None:
    """Pillow starts a program for PostScript: bytes from a network must not reach it."""
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.tiff")
    for content in ((tmp_path / "x.tiff").read_bytes(), b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        with pytest.raises(InputError, match="image"):
            preprocess(content, pipeline.info)


def test_images_in_class_folders_and_flat(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "0.PNG", "notes.txt", "a/deeper/3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, "PNG")
    found = find_images(tmp_path)
    told = [(picture.path.relative_to(tmp_path).as_posix(), picture.label) for picture in found]
    assert told == [("0.PNG", None), ("a/1.png", "a"), ("b/2.png", "b")]


def test_what_is_hidden_is_no_class_and_no_image(tmp_path: Path) -> None:
    """Left behind by notebooks, archives, file servers and tools."""
    image = sorted(samples().glob("*/*.png"))[0]
    hidden = (".ipynb_checkpoints/a.png", "__MACOSX/b.png", "__MACOSX/._b.png", "@eaDir/c.png")
    hidden += ("bag/._d.png", "._e.png", "bag/.f.JPG", ".git/g.png", "__pycache__/h.bmp")
    hidden += ("$RECYCLE.BIN/i.png", "System Volume Information/j.png")
    for name in ("bag/1.png", "coat/__2.png", "3.png", *hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / name)
    found = find_images(tmp_path)
    told = [(picture.path.relative_to(tmp_path).as_posix(), picture.label) for picture in found]
    assert told == [("3.png", None), ("bag/1.png", "bag"), ("coat/__2.png", "coat")]


def test_a_folder_that_is_hidden_itself_can_be_named(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    shutil.copy(sorted(samples().glob("*/*.png"))[0], tmp_path / ".cache" / "1.png")
    assert len(find_images(tmp_path / ".cache")) == 1


def test_missing_or_empty_image_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "none")
    with pytest.raises(InputError, match="0 images"):
        find_images(tmp_path)
