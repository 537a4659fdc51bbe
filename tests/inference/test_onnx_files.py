"""Damaged and hostile files end in one line that says what is wrong."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepact.efficiency.inspection import inspection
from edgepact.errors import InputError
from edgepact.inference import onnx_files
from edgepact.inference.cuts import find_cuts
from edgepact.inference.onnx_files import check_external_data, read_model
from edgepact.inference.wiring import Inputs, Wiring
from tests.inference import exports


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def look(path: Path) -> None:
    """All that is done with a file before anything is run."""
    model = read_model(path)
    check_external_data(model, path)
    inspection(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


SEEDS = [
    export().SerializeToString()
    for export in (exports.blocks_in_local_functions, exports.choice_by_size, exports.sparse_weight)
]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_flipped_and_missing_bytes(
    folder: Path, seed: bytes, flips: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(seed if cut is None else seed[:cut])
    for place, byte in flips if content else ():
        content[place % len(content)] = byte
    path = folder / "flipped.onnx"
    path.write_bytes(content)
    try:
        look(path)
    except InputError:
        return  # an answer; what is whole enough to be looked into is fine as well


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=200))
def test_bytes_of_anything(folder: Path, content: bytes) -> None:
    path = folder / "any.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError):
        look(path)


def with_initializer(change: Callable[[onnx.TensorProto], None]) -> onnx.ModelProto:
    model = exports.encoder()
    change(model.graph.initializer[0])
    return model


def negative_size(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = -8


def huge_size(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = 2**40


def more_than_it_holds(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = 16


def no_type(tensor: onnx.TensorProto) -> None:
    tensor.data_type = 99


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (negative_size, "initializer we: expected sizes of at least 0"),
        (huge_size, "initializer we: expected at most"),
        (more_than_it_holds, "initializer we: expected 3,072 bytes, which its shape needs"),
        (no_type, "initializer we: expected a type of ONNX"),
    ],
)
def test_weights_that_say_what_they_are_not(
    tmp_path: Path, change: Callable[[onnx.TensorProto], None], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        look(saved(tmp_path, with_initializer(change)))


def external(folder: Path, **told: str) -> Path:
    """The encoder with its first weight in `weights.bin`, of which it says what is told."""
    model = exports.encoder()
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "weights.bin"} | told).items():
        tensor.external_data.add(key=key, value=value)
    return saved(folder, model)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"location": "../weights.bin"}, "external data beside the graph"),
        ({"location": "/etc/passwd"}, "external data beside the graph"),
        ({"location": ".."}, "external data beside the graph"),
        ({"location": ""}, "external data beside the graph"),
        ({"offset": "1"}, "a file that holds the initializer we, found 1536 bytes"),
        ({"offset": "-1"}, "offset: expected a whole number of bytes"),
        ({"offset": "1e3"}, "offset: expected a whole number of bytes"),
        ({"offset": "9" * 40}, "offset: expected a whole number of bytes"),
        ({"length": "12"}, "length: expected 1,536 bytes"),
        ({"location": "missing.bin"}, "a file that holds the initializer we, found 0 bytes"),
    ],
)
def test_weights_elsewhere_or_too_short(tmp_path: Path, told: dict[str, str], found: str) -> None:
    look(external(tmp_path, offset="0", length="1536"))
    with pytest.raises(InputError, match=found):
        look(external(tmp_path, **told))


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = external(inside)
    (inside / "weights.bin").rename(tmp_path / "outside.bin")
    (inside / "weights.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(InputError, match="a link out of the folder"):
        look(path)


def calls(pairs: dict[str, list[str]]) -> onnx.ModelProto:
    """A model whose functions call each other as told, each in turn."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = []
    for name, called in pairs.items():
        nodes, value = [], "x"
        for at, other in enumerate(called):
            nodes.append(helper.make_node(other, [value], [f"v{at}"], domain="f"))
            value = f"v{at}"
        nodes.append(helper.make_node("Neg", [value], ["y"]))
        functions.append(helper.make_function("f", name, ["x"], ["y"], nodes, opsets))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    node = helper.make_node(next(iter(pairs)), ["x"], ["y"], domain="f")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def test_functions_that_call_each_other_in_a_circle(tmp_path: Path) -> None:
    look(saved(tmp_path, calls({"a": ["b"], "b": []})))
    with pytest.raises(InputError, match="function a: expected functions that do not call them"):
        look(saved(tmp_path, calls({"a": ["b"], "b": ["a"]})))


def test_few_functions_that_stand_for_very_many_nodes(tmp_path: Path) -> None:
    names = [f"f{at}" for at in range(12)]
    bomb = {name: [after] * 8 for name, after in itertools.pairwise(names)}
    with pytest.raises(InputError, match=r"at most 200,000 nodes when called"):
        look(saved(tmp_path, calls(bomb | {names[-1]: []})))
    deep = {f"f{at}": [f"f{at + 1}"] for at in range(20)} | {"f20": []}
    with pytest.raises(InputError, match="calls at most 16 deep"):
        look(saved(tmp_path, calls(deep)))


def test_a_circle_of_nodes(tmp_path: Path) -> None:
    model = exports.encoder()
    model.graph.node[3].input[0] = "o2"
    with pytest.raises(InputError, match="expected inputs made before it, found o2"):
        look(saved(tmp_path, model))


def test_two_nodes_that_make_the_same(tmp_path: Path) -> None:
    model = exports.encoder()
    model.graph.node[4].output[0] = "m1"
    with pytest.raises(InputError, match="outputs of names of its own, found m1"):
        look(saved(tmp_path, model))


def nested(depth: int) -> onnx.ModelProto:
    """`If` in `If` in `If`."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    inner = helper.make_node("Neg", ["x"], ["y0"])
    for at in range(depth):
        made = helper.make_tensor_value_info(f"y{at}", TensorProto.FLOAT, [2])
        graph = helper.make_graph([inner], f"g{at}", [], [made])
        simple = helper.make_node("Abs", ["x"], [f"z{at}"])
        zero = helper.make_tensor_value_info(f"z{at}", TensorProto.FLOAT, [2])
        other = helper.make_graph([simple], f"h{at}", [], [zero])
        inner = helper.make_node(
            "If", ["flag"], [f"y{at + 1}"], then_branch=graph, else_branch=other
        )
    inner.output[0] = "y"
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    graph = helper.make_graph([inner], "g", [x], [value], [flag])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_subgraphs_nested_deeper_than_any_model_needs(tmp_path: Path) -> None:
    look(saved(tmp_path, nested(4)))
    with pytest.raises(InputError, match="subgraphs at most 16 deep"):
        look(saved(tmp_path, nested(onnx_files.NESTING_MAX + 1)))


@pytest.mark.parametrize("sizes", [[2**20, 2**20], [2**31, 1]])
def test_a_small_file_that_would_make_a_huge_tensor(tmp_path: Path, sizes: list[int]) -> None:
    target = numpy_helper.from_array(np.array(sizes, np.int64), "sizes")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    ends[0].type.tensor_type.shape.dim.add().dim_value = 1
    nodes = [helper.make_node("Expand", ["x", "sizes"], ["y"])]
    graph = helper.make_graph(nodes, "bomb", ends[:1], ends[1:], [target])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError, match="node y: expected at most 1,073,741,824 numbers"):
        look(saved(tmp_path, model))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    content = exports.encoder().SerializeToString().replace(b"\x02o1", b"\x02\xff\xfe")
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"names in UTF-8|an ONNX model"):
        look(path)


def test_the_normal_form_says_each_thing_in_one_way(tmp_path: Path) -> None:
    wirings = []
    for export in (exports.encoder, exports.blocks_in_local_functions):
        path = saved(tmp_path, export())
        model = read_model(path)
        wiring = Wiring.of(model.graph, Inputs.of(model, path), path)
        wirings.append([node.op_type for node in wiring.nodes])
        assert {"e", "o1", "o2"} < {cut.name for cut in find_cuts(wiring)}
    assert wirings[0] == wirings[1]
