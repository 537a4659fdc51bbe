"""Cuts of several tensors, control and state: the chain of stages is the whole model."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from benchmarks.random_vit import VitShape, write_vit
from edgepact.errors import InputError
from edgepact.inference.cuts import find_cuts
from edgepact.inference.graph import cut_file
from edgepact.inference.onnx_files import read_model
from edgepact.inference.stages import ROLES_KEY, Chain
from edgepact.inference.wiring import CONTROL_KEY, STATE_KEY, Inputs, Wiring

WIDTH, WORDS, BLOCKS = 8, 11, 3


def decoder(
    *, metadata: bool = False, renamed: str = "past", asks_past: bool = False
) -> onnx.ModelProto:
    """A decoder with positions, a mask and one state for each block.

    Args:
        metadata: whether it says itself which inputs are control and state.
        renamed: how the names of its pasts begin.
        asks_past: whether each block places tokens by the length of the first block's past, as
            exports of older libraries do.
    """
    draw = np.random.default_rng(0).standard_normal

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.5 * draw(shape)).astype(np.float32), name)

    weights = [weight("words", WORDS, WIDTH), weight("places", 64, WIDTH), weight("head", WIDTH, 5)]
    weights.append(numpy_helper.from_array(np.float32(1e4).reshape(()), "large"))
    weights.append(numpy_helper.from_array(np.float32(1.0).reshape(()), "unit"))
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["open"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["open", "unit"], ["shut"]),
        helper.make_node("Mul", ["shut", "large"], ["shut_far"]),
        helper.make_node("Unsqueeze", ["shut_far", "one"], ["bias"]),
        helper.make_node("Gather", ["words", "input_ids"], ["word"]),
        helper.make_node("Gather", ["places", "position_ids"], ["place"]),
        helper.make_node("Add", ["word", "place"], ["x0"]),
    ]
    if asks_past:
        weights += [numpy_helper.from_array(np.array(at, np.int64), f"at{at}") for at in (0, 1)]
        nodes += [
            helper.make_node("Shape", [f"{renamed}.0"], ["past_sizes"]),
            helper.make_node("Gather", ["past_sizes", "at1"], ["before"]),
            helper.make_node("Shape", ["input_ids"], ["own_sizes"]),
            helper.make_node("Gather", ["own_sizes", "at1"], ["own"]),
            helper.make_node("Add", ["before", "own"], ["after"]),
            helper.make_node("Range", ["before", "after", "at1"], ["turns"]),
            helper.make_node("Gather", ["places", "turns"], ["turned"]),
        ]
    values, presents = [], []
    for block in range(BLOCKS):
        x = f"x{block}"
        if asks_past:
            nodes.append(helper.make_node("Add", [x, "turned"], [f"placed{block}"]))
            x = f"placed{block}"
        weights += [weight(f"k{block}", WIDTH, WIDTH), weight(f"o{block}", WIDTH, WIDTH)]
        past, present = f"{renamed}.{block}", f"present.{block}"
        nodes += [
            helper.make_node("MatMul", [x, f"k{block}"], [f"new{block}"]),
            helper.make_node("Concat", [past, f"new{block}"], [present], axis=1),
            helper.make_node("Transpose", [present], [f"t{block}"], perm=[0, 2, 1]),
            helper.make_node("MatMul", [f"new{block}", f"t{block}"], [f"scores{block}"]),
            helper.make_node("Add", [f"scores{block}", "bias"], [f"masked{block}"]),
            helper.make_node("Softmax", [f"masked{block}"], [f"shares{block}"], axis=-1),
            helper.make_node("MatMul", [f"shares{block}", present], [f"mixed{block}"]),
            helper.make_node("MatMul", [f"mixed{block}", f"o{block}"], [f"out{block}"]),
            helper.make_node("Add", [x, f"out{block}"], [f"x{block + 1}"]),
        ]
        size = ["batch", "past_length", WIDTH]
        values.append(helper.make_tensor_value_info(past, TensorProto.FLOAT, size))
        size = ["batch", "total_length", WIDTH]
        presents.append(helper.make_tensor_value_info(present, TensorProto.FLOAT, size))
    nodes.append(helper.make_node("MatMul", [f"x{BLOCKS}", "head"], ["logits"]))
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    mask = helper.make_tensor_value_info(
        "attention_mask", TensorProto.INT64, ["batch", "total_length"]
    )
    positions = helper.make_tensor_value_info(
        "position_ids", TensorProto.INT64, ["batch", "length"]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 5])
    graph = helper.make_graph(
        nodes, "decoder", [ids, mask, positions, *values], [logits, *presents], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        pairs = [[f"{renamed}.{block}", f"present.{block}"] for block in range(BLOCKS)]
        told = {STATE_KEY: json.dumps(pairs)}
        told[CONTROL_KEY] = json.dumps(["attention_mask", "position_ids"])
        helper.set_model_props(model, told)
    return model


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def wired(path: Path) -> Wiring:
    model = read_model(path)
    return Wiring.of(model.graph, Inputs.of(model, path), path)


def test_control_and_state_are_known_by_name_or_told(tmp_path: Path) -> None:
    path = saved(tmp_path, decoder())
    found = Inputs.of(read_model(path), path)
    assert (found.data, found.control) == (("input_ids",), ("attention_mask", "position_ids"))
    assert found.state == {f"past.{block}": f"present.{block}" for block in range(BLOCKS)}
    path = saved(tmp_path, decoder(metadata=True, renamed="cache"))
    told = Inputs.of(read_model(path), path)
    assert (told.data, told.control) == (found.data, found.control)
    assert list(told.state.values()) == list(found.state.values())


def test_no_cut_divides_a_state(tmp_path: Path) -> None:
    cuts = find_cuts(wired(saved(tmp_path, decoder())), 2)
    names = [set(cut.tensors) for cut in cuts]
    for block in range(BLOCKS + 1):
        assert {f"x{block}"} in names
    # Between the new key and the last use of the present lies no cut.
    assert not any(f"present.{block}" in name for name in names for block in range(BLOCKS))
    assert {"x0", "mixed0"} in names
    assert [len(cut.device_state) for cut in cuts if cut.tensors == ("x2",)] == [2]


@pytest.mark.parametrize("asks_past", [False, True])
@pytest.mark.parametrize("at", [["x0"], ["x1", "x2"], ["x0", "x1", "x3"]])
def test_a_conversation_over_stages_is_that_of_the_whole(
    tmp_path: Path, at: list[str], asks_past: bool
) -> None:
    path = saved(tmp_path, decoder(asks_past=asks_past))
    stages = cut_file(path, [name.split(",") for name in at], tmp_path / "stages")
    chain, whole = Chain(stages), ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    pasts = {f"past.{block}": np.zeros((1, 0, WIDTH), np.float32) for block in range(BLOCKS)}
    mine, theirs = dict(pasts), dict(pasts)
    seen = 0
    for words in ([1, 2, 3], [4], [5]):
        seen += len(words)
        given = {
            "input_ids": np.array([words]),
            "attention_mask": np.ones((1, seen), np.int64),
            "position_ids": np.arange(seen - len(words), seen)[None],
        }
        outputs = [output.name for output in whole.get_outputs()]
        right = dict(zip(outputs, whole.run(None, given | theirs), strict=True))
        found = chain.run(given | mine)
        np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-6, atol=1e-6)
        mine = {past: found[past.replace("past", "present")] for past in pasts}
        theirs = {past: right[past.replace("past", "present")] for past in pasts}


def test_each_stage_keeps_its_own_state_and_says_what_it_takes(tmp_path: Path) -> None:
    path = saved(tmp_path, decoder())
    roles = []
    for stage in cut_file(path, [["x1"], ["x2"]], tmp_path / "stages"):
        props = {entry.key: entry.value for entry in onnx.load(stage).metadata_props}
        roles.append(json.loads(props[ROLES_KEY]))
    assert [role["takes"] for role in roles] == [["input_ids"], ["x1"], ["x2"]]
    assert [role["gives"] for role in roles] == [["x1"], ["x2"], ["logits"]]
    assert [[past for past, _ in role["state"]] for role in roles] == [
        ["past.0"],
        ["past.1"],
        ["past.2"],
    ]
    assert [role["control"] for role in roles] == [
        ["attention_mask", "position_ids"],
        ["attention_mask"],
        ["attention_mask"],
    ]


def test_a_cut_that_is_none_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, decoder())
    for at, found in ((["scores1"], "beside which"), (["nowhere"], "does not exist")):
        with pytest.raises(InputError, match=f"--at: .*{found}"):
            cut_file(path, [at], tmp_path / "stages")
    with pytest.raises(InputError, match="in the order of computation"):
        cut_file(path, [["x2"], ["x1"]], tmp_path / "stages")


def test_inputs_that_are_none_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path, decoder())
    model = read_model(path)
    with pytest.raises(InputError, match="control: expected one of input_ids"):
        Inputs.of(model, path, control=["mask"])
    with pytest.raises(InputError, match="state: expected one of logits"):
        Inputs.of(model, path, state={"past.0": "x1"})
    with pytest.raises(InputError, match="an input that is data"):
        Inputs.of(model, path, control=["input_ids", "attention_mask", "position_ids"])


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_cut_of_a_drawn_graph_can_be_made(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    names, nodes = ["x"], []
    for at in range(data.draw(st.integers(2, 7), "nodes")):
        read = data.draw(st.lists(st.sampled_from([*names[-3:], "mask"]), min_size=1, max_size=2))
        operator = data.draw(st.sampled_from(["Sum", "Max", "shape"]))
        if operator == "shape":  # the sizes of something made before, as exporters ask for them
            asked = data.draw(st.sampled_from(names))
            nodes.append(helper.make_node("Shape", [asked], [f"s{at}"]))
            nodes.append(helper.make_node("Expand", [read[0], f"s{at}"], [f"v{at}"]))
        else:
            nodes.append(helper.make_node(operator, read, [f"v{at}"]))
        names.append(f"v{at}")
    nodes.append(helper.make_node("Sum", [names[-1], "x"], ["y"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("x", "mask", "y")
    ]
    graph = helper.make_graph(nodes, "drawn", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = saved(folder, model)
    wiring = wired(path)
    for cut in find_cuts(wiring, 3)[:3]:
        cut_file(path, [cut.tensors], folder / "stages")  # which holds them against the whole


def test_weights_beside_the_graph_go_along_into_another_folder(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "vit", VitShape(layers=2, shape_paths=True))
    stages = cut_file(folder / "image.onnx", [["embed/out"], ["block1/out"]], tmp_path / "stages")
    assert (tmp_path / "stages" / "weights.bin").samefile(stages[0].with_name("weights.bin"))
    assert sum(path.stat().st_size for path in stages) < (folder / "weights.bin").stat().st_size
    pixels = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    whole = ort.InferenceSession(folder / "image.onnx", providers=["CPUExecutionProvider"])
    (right,) = whole.run(None, {"pixels": pixels})
    np.testing.assert_allclose(Chain(stages).run({"pixels": pixels})["vector"], right, atol=1e-5)
    (stages[0].with_name("weights.bin")).write_bytes(b"of another model")
    with pytest.raises(InputError, match="expected no file, or these weights, found another"):
        cut_file(folder / "image.onnx", [["embed/out"]], tmp_path / "stages")
