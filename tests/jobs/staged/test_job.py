"""A model in stages as a job: both halves over a small model of every difficulty."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edgepact.errors import InputError
from edgepact.inference.codecs import BUILT_IN, FP16, FP32, INT8
from edgepact.inference.graph import cut_file
from edgepact.inference.stage_folder import STAGES_JSON, read_stage_folder
from edgepact.jobs.staged import STAGED
from edgepact.jobs.staged.halves import StagedDevice, StagedServer
from edgepact.tensors import Codec, Tensors
from edgepact.work import Reply, ServerAway
from tests.tiny_stages import CUTS, tiny_stages

KEY = b"a secret of the server"
AMOUNTS = range(len(CUTS) + 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("staged")
    cut_file(tiny_stages(place), CUTS, place / "stages")
    return place / "stages"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(1)
    for at in range(3):
        words = rng.integers(50, size=(1, 5 + at))
        mask = np.ones((1, 5 + at), np.float32)
        mask[0, 3] = 0.0
        np.savez(place / f"{at}.npz", words=words, attention_mask=mask)
    np.save(place / "3.npy", rng.integers(50, size=(1, 7)).astype(np.int32))
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> StagedServer:
    made = STAGED.server_part(folder, {})
    made.warm()
    return made


@pytest.fixture
def device(folder: Path, inputs: Path) -> StagedDevice:
    return STAGED.device_part(folder, inputs, {})


def sent_by(device: StagedDevice, at: int, amount: int) -> tuple[Any, Tensors]:
    device.prepare(amount)
    work = device.work(device.pieces()[at], amount)
    return work, next(work)


def carried(server: StagedServer, codec: Codec, amount: int, sent: Tensors) -> Tensors:
    specs = server.expects(amount, 0)
    return codec.unpack(codec.pack(sent, specs), specs)


def answered(server: StagedServer, amount: int, came: Tensors) -> Reply:
    (reply,) = server.answer([(server.begin(amount, 0), came)])
    assert isinstance(reply, Reply), reply
    return reply


def ended(work: Iterator[Any], reply: Reply) -> dict[str, Any]:
    with pytest.raises(StopIteration) as stop:
        work.send(reply)  # type: ignore[attr-defined]
    return dict(stop.value.value)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda each: each.name)
def test_a_split_says_what_the_whole_says_and_passes_its_audit(
    device: StagedDevice,
    server: StagedServer,
    folder: Path,
    inputs: Path,
    codec: Codec,
    amount: int,
) -> None:
    whole = ort.InferenceSession(folder.parent / "tiny.onnx", providers=["CPUExecutionProvider"])
    with np.load(inputs / "1.npz") as table:
        right, best = whole.run(["vector", "best"], dict(table))
    work, sent = sent_by(device, 1, amount)
    came = carried(server, codec, amount, sent)
    reply = answered(server, amount, came)
    rounding = {"fp32": 1e-6, "fp16": 0.03, "int8": 0.1}[codec.name]
    np.testing.assert_allclose(np.asarray(reply.outputs["vector"]), right, atol=rounding, rtol=0)
    result = ended(work, reply)
    assert result["file"] == "1.npz"
    assert not result["alone"]
    assert result["facts"]["vector"]["shape"] == [1, 16]
    if codec is FP32:
        assert reply.outputs["best"] == best
    evidence = server.evidence(amount, 0, came, reply, KEY)
    assert len(evidence) < 2200
    source = device.source(device.pieces()[1])
    audit = {"seed": 0, "codec": codec, "key": KEY}
    assert server.passes_audit(amount, [evidence], source, **audit)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", AMOUNTS[1:])
@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda each: each.name)
def test_work_on_another_piece_or_too_little_of_it_is_found(
    device: StagedDevice, server: StagedServer, codec: Codec, amount: int
) -> None:
    _, sent = sent_by(device, 0, amount)
    _, less = sent_by(device, 0, 1)
    _, other = sent_by(device, 1, amount)
    source = device.source(device.pieces()[0])
    cheats: list[Tensors] = []
    if amount == len(CUTS):
        cheats.append({**sent, "x4": less["x1"]})
    cheats += [{name: np.zeros_like(np.asarray(value)) for name, value in sent.items()}, other]
    for cheat in cheats:
        came = carried(server, codec, amount, cheat)
        reply = answered(server, amount, came)
        evidence = server.evidence(amount, 0, came, reply, KEY)
        assert not server.passes_audit(amount, [evidence], source, seed=0, codec=codec, key=KEY)


def test_control_is_right_or_it_is_not(device: StagedDevice, server: StagedServer) -> None:
    _, sent = sent_by(device, 0, 1)
    mask = np.asarray(sent["attention_mask"]).copy()
    mask[0, 0] = np.nextafter(mask[0, 0], np.float32(2))
    came = carried(server, FP32, 1, {**sent, "attention_mask": mask})
    reply = answered(server, 1, came)
    evidence = server.evidence(1, 0, came, reply, KEY)
    source = device.source(device.pieces()[0])
    assert not server.passes_audit(1, [evidence], source, seed=0, codec=FP32, key=KEY)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda sent: {**sent, "x1": np.zeros((2, 5, 16), np.float32)}, "batch"),
        (lambda sent: {**sent, "x1": np.zeros((1, 5000, 16), np.float32)}, "length"),
        (lambda sent: {**sent, "x1": np.zeros((1, 4, 16), np.float32)}, "attention_mask"),
        (lambda sent: {**sent, "x1": np.zeros((1, 5, 15), np.float32)}, "shape"),
        (lambda sent: {**sent, "x1": np.zeros((1, 0, 16), np.float32)}, "length"),
    ],
)
def test_what_does_not_fit_the_stage_is_refused_and_spoils_nothing_else(
    device: StagedDevice, server: StagedServer, change: Any, field: str
) -> None:
    _, sent = sent_by(device, 0, 1)
    bad, good = server.answer([(1, change(sent)), (1, sent)])
    assert isinstance(bad, InputError)
    assert field in str(bad)
    assert isinstance(good, Reply)


def test_words_that_the_table_does_not_have_are_an_error_of_the_input(
    server: StagedServer, tmp_path: Path
) -> None:
    np.save(tmp_path / "big.npy", np.full((1, 4), 10**6))
    (found,) = server.answer([(0, {"source": ((tmp_path / "big.npy").read_bytes(),)})])
    assert isinstance(found, InputError)


def test_a_device_that_is_left_alone_finishes_the_piece(
    device: StagedDevice, server: StagedServer
) -> None:
    for amount in AMOUNTS:
        work, sent = sent_by(device, 2, amount)
        right = answered(server, amount, sent)
        with pytest.raises(StopIteration) as stop:
            work.throw(ServerAway())
        told = stop.value.value
        assert told["alone"]
        assert told["answer"] == right.told["answer"]


def test_bytes_at_a_cut_travel_as_bytes_and_controls_are_not_coded(server: StagedServer) -> None:
    packed = {each.name: each.datatype for each in INT8.packed(server.expects(3, 0))}
    assert packed == {"q": "INT8", "attention_mask": "FP32"}
    packed = {each.name: each.datatype for each in FP16.packed(server.expects(2, 0))}
    assert packed == {"x2": "FP16", "r2": "FP16", "attention_mask": "FP32"}


def test_tolerances_are_measured_once_and_lie_beside_the_stages(
    server: StagedServer, folder: Path
) -> None:
    told = json.loads((folder / "tolerances.json").read_text())
    assert len(told["margins"]) == 3 * (len(CUTS) + 1)
    assert all(each["false_alarms"] == 0 for each in told["margins"])
    assert server.audit_power > 0.9


def test_a_file_is_cut_the_first_time(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACT_STAGES", str(tmp_path / "kept"))
    path = tiny_stages(tmp_path)
    device = STAGED.device_part(path, inputs, {})
    assert device.model.amount_max >= 4
    assert device.model.name == "tiny"
    (kept,) = (tmp_path / "kept").iterdir()
    stamp = (kept / STAGES_JSON).stat().st_mtime_ns
    assert STAGED.server_part(path, {}).model == device.model
    assert (kept / STAGES_JSON).stat().st_mtime_ns == stamp
    macs = read_stage_folder(kept).macs
    assert macs is not None
    assert sum(macs) == 5 * 128 * 16 * 16


def test_what_is_no_model_is_named(tmp_path: Path, inputs: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"job staged: model: .* no model of its own"):
        STAGED.device_part(None, inputs, {})
    with pytest.raises(InputError, match="edgepact model cut writes them"):
        STAGED.device_part(tmp_path, inputs, {})
    with pytest.raises(InputError, match="no settings"):
        STAGED.server_part(folder, {"speed": 1})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("format", 2, "format"),
        ("name", "../x", "name"),
        ("cuts", [[]], r"cuts\[0\]"),
        ("inputs", [{"name": "w", "dtype": "object", "shape": []}], "dtype"),
        ("inputs", [{"name": "w", "dtype": "int8", "shape": [2**20, 2**20]}], "shape"),
        ("inputs", [{"name": "w", "dtype": "int8", "shape": [-1]}], "shape"),
        ("macs", [1, 2], "macs"),
        ("macs", [-1] * 5, "macs"),
        ("most", {"length": 0}, "most.length"),
        ("reading", "arrays", "reading"),
    ],
)
def test_a_description_of_a_stranger_is_checked(
    folder: Path, tmp_path: Path, field: str, value: object, expected: str
) -> None:
    table = json.loads((folder / STAGES_JSON).read_text())
    (tmp_path / STAGES_JSON).write_text(json.dumps(table | {field: value}))
    with pytest.raises(InputError, match=f"{STAGES_JSON}: .*{expected}"):
        read_stage_folder(tmp_path)
