"""What `edgepact model inspect` finds: cuts, counts, bytes, and what it cannot count."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edgepact.cli import app
from edgepact.efficiency.inspection import Inspection, inspection, model_file, picture
from edgepact.errors import InputError
from edgepact.inference import graph
from edgepact.inference.gguf.folder import read_text_model
from edgepact.inference.models import embedded
from tests.inference import exports
from tests.inference.test_stages import BLOCKS, WIDTH, decoder
from tests.tiny_llama import write_tiny_llama


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def cut_at(found: Inspection, *names: str) -> dict[str, object]:
    (cut,) = (
        each
        for each in found.to_dict()["cuts"]
        if tuple(tensor["name"] for tensor in each["tensors"]) == names
    )
    return dict(cut)


def test_both_sides_of_a_cut_are_the_whole(tmp_path: Path) -> None:
    found = inspection(saved(tmp_path, exports.encoder()))
    assert found.gmac == sum(exports.MACS) / 1e9
    assert found.sizes == {"N": 1}
    for cut in found.cuts:
        assert cut.device_gmac is not None
        assert cut.server_gmac is not None
        assert cut.device_gmac + cut.server_gmac == pytest.approx(found.gmac, abs=1e-15)
    block = cut_at(found, "o1")
    assert block["device_gmac"] == sum(exports.MACS[:2]) / 1e9
    assert block["bytes"] == {"fp32": 128, "fp16": 64, "int8": 48}  # 4 tokens of 8, and 4 scales


def test_of_the_embedded_model_it_agrees_with_the_stages() -> None:
    found = inspection(embedded() / "image.onnx")
    macs = graph.macs_per_stage(embedded())
    for at, name in enumerate(graph.boundaries(embedded() / "image.onnx")):
        assert cut_at(found, name)["device_gmac"] == pytest.approx(sum(macs[: at + 1]) / 1e9)


def test_a_decoder_is_counted_for_a_step_with_its_state(tmp_path: Path) -> None:
    found = inspection(saved(tmp_path, decoder()))
    assert found.sizes == {"batch": 1, "length": 1, "past_length": 128, "total_length": 129}
    block = 2 * WIDTH * WIDTH + 2 * 129 * WIDTH
    assert found.gmac == (BLOCKS * block + WIDTH * 5) / 1e9
    pair = 129 * WIDTH * 4
    kept = [(cut.device_state_bytes, cut.server_state_bytes) for cut in found.cuts]
    assert {(at * pair, (BLOCKS - at) * pair) for at in range(BLOCKS + 1)} == set(kept)
    longer = inspection(saved(tmp_path, decoder()), sizes={"past_length": 999})
    assert longer.sizes["total_length"] == 1000
    assert longer.gmac == (BLOCKS * (2 * WIDTH * WIDTH + 2000 * WIDTH) + WIDTH * 5) / 1e9


def test_two_tensors_where_one_does_not_do(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Exp", ["a"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    made = helper.make_graph(nodes, "skip", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = inspection(saved(tmp_path, model))
    assert [tuple(each.name for each in cut.tensors) for cut in found.cuts] == [
        ("x", "a"),
        ("x", "b"),
    ]
    assert found.cuts[0].bytes["fp32"] == 2 * 4 * 4


def test_what_cannot_be_counted_is_named_and_no_count_is_short(tmp_path: Path) -> None:
    model = exports.encoder()
    (tanh,) = (node for node in model.graph.node if node.output[0] == "g2")
    tanh.op_type, tanh.domain = "SecretProduct", "some.vendor"
    model.opset_import.append(helper.make_opsetid("some.vendor", 1))
    found = inspection(saved(tmp_path, model))
    assert found.gmac is None
    operators = [each.operator for each in found.uncounted]
    # Without its sizes the product after it is not known either.
    assert operators == ["some.vendor.SecretProduct", "MatMul"]
    assert cut_at(found, "o1")["device_gmac"] == sum(exports.MACS[:2]) / 1e9
    assert cut_at(found, "o1")["server_gmac"] is None
    assert any("not counted: node g2" in note for note in found.sheets[0].notes)


def test_a_size_that_only_running_tells_is_told(tmp_path: Path) -> None:
    """Frames of a sentence: as many as durations say that the model itself foretells."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["frames", 3]),
    ]
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Range", ["zero", "total", "unit"], ["places"]),
        helper.make_node("Unsqueeze", ["places", "one"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.float32(at).reshape(()), n)
        for n, at in (("zero", 0.0), ("unit", 1.0))
    ]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    weights.append(numpy_helper.from_array(np.ones((1, 3), np.float32), "w"))
    made = helper.make_graph(nodes, "speech", ends[:1], ends[1:], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = saved(tmp_path, model)
    found = inspection(path)
    assert found.assumed == {"places": 128}
    assert inspection(path, sizes={"places": 500}).gmac == 1500 / 1e9
    assert any("known only when it runs" in note for note in found.sheets[0].notes)
    with pytest.raises(InputError, match="one of its free sizes"):
        inspection(path, sizes={"rows": 3})
    # An exporter may have named the size, so that it is known as soon as it is told.
    place = helper.make_tensor_value_info("places", TensorProto.FLOAT, ["unk__1"])
    made.value_info.append(place)
    path = saved(tmp_path, helper.make_model(made, opset_imports=model.opset_import, ir_version=8))
    assert inspection(path).assumed == {"unk__1": 128}
    assert inspection(path, sizes={"unk__1": 500}).gmac == 1500 / 1e9


def test_the_picture_has_a_line_for_each_codec(tmp_path: Path) -> None:
    figure = picture(inspection(saved(tmp_path, exports.encoder())))
    assert [line.get_label() for line in figure.axes[0].lines] == ["fp32", "fp16", "int8"]


def test_the_file_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder with an ONNX or GGUF file"):
        model_file(tmp_path)
    path = saved(tmp_path, exports.encoder())
    (tmp_path / "stage_00.onnx").write_bytes(b"")
    assert model_file(tmp_path) == model_file(path) == path
    path = path.rename(tmp_path / "M.ONNX")
    assert model_file(tmp_path) == path
    path = path.rename(tmp_path / "m.onnx")
    (tmp_path / "other.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"several: m\.onnx, other\.onnx"):
        model_file(tmp_path)
    path.unlink()
    (tmp_path / "other.onnx").unlink()
    with pytest.raises(InputError, match=r"the model itself; edgepact profile .*found stages"):
        model_file(tmp_path)


def test_the_commands(tmp_path: Path) -> None:
    path = saved(tmp_path, decoder())
    runner, drawn = CliRunner(), tmp_path / "cuts.png"
    shown = runner.invoke(app, ["model", "inspect", str(path), "--json", "--out", str(drawn)])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["sizes"]["past_length"] == 128
    assert drawn.read_bytes()[:4] == b"\x89PNG"
    stages = tmp_path / "stages"
    args = ["--at", "x1", "--at", "x2,mixed2", "--out", str(stages)]
    cut = runner.invoke(app, ["model", "cut", str(path), *args])
    assert cut.exit_code == 0, cut.output
    assert [Path(line).name for line in cut.output.split()] == [
        f"stage_0{at}.onnx" for at in range(3)
    ]
    listed = runner.invoke(app, ["model", "cut", str(path), "--list"])
    assert {"x0", "x1", "x2", "x3"} <= set(listed.output.split())
    for wrong in (["--size", "past_length"], ["--size", "past_length=-1"], ["--out", "a.txt"]):
        assert isinstance(
            runner.invoke(app, ["model", "inspect", str(path), *wrong]).exception, InputError
        )


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_a_gguf_file_is_cut_everywhere(tmp_path: Path, kind: str) -> None:
    path = write_tiny_llama(tmp_path / "x.gguf", blocks=2, kind=kind)
    runner, stages = CliRunner(), tmp_path / "stages"
    args = ["model", "cut", str(path), "--out", str(stages), "--products", "precise"]
    cut = runner.invoke(app, args)
    assert cut.exit_code == 0, cut.output
    assert [Path(line).name for line in cut.output.split()] == [
        f"stage_0{at}.onnx" for at in range(4)
    ]
    model = read_text_model(stages)
    # Two counts of one file: before it is cut, and of what it was cut into.
    macs = sum(model.macs_per_stage(1)) / 1e9
    found = inspection(path, sizes={"length": 1, "past": 0}).to_dict()
    assert found["gmac"] == pytest.approx(macs)
    # As textbooks count: 64 wide, 32 for keys and values, 96 hidden, every token a row of the head.
    sizes = 2 * (2 * 64 * (64 + 32) + 3 * 64 * 96 + 2 * 64) + 64 * model.sizes.vocabulary
    assert found["gmac"] - found["packing_gmac"] == pytest.approx(sizes / 1e9)
    shown = runner.invoke(app, ["model", "inspect", str(path)]).output
    assert ("for how the weights are packed" in shown) == (kind == "Q4_1")
    for wrong in ([], ["--at", "x"], ["--list"], ["--products", "quick", "--out", "other"]):
        words = ["model", "cut", str(path), "--out", str(stages), *wrong]
        assert isinstance(runner.invoke(app, words).exception, InputError)
    onnx_file = saved(tmp_path, decoder())
    words = ["model", "cut", str(onnx_file), "--at", "x1", "--products", "exact"]
    assert isinstance(runner.invoke(app, words).exception, InputError)


@pytest.mark.parametrize(
    ("name", "gmac"), [("resnet50", 4.09), ("vgg19", 19.63), ("squeezenet", 0.35)]
)
def test_published_counts(name: str, gmac: float) -> None:
    """Against torchvision's table of pre-trained weights; the graphs come with `onnx`."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    path = data / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip("this onnx brings no models")
    found = inspection(path)
    assert found.gmac == pytest.approx(gmac, abs=0.006)
    assert found.cuts
