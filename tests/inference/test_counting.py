"""Operators are counted by their formulas, held against loops over what they multiply."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepact.inference.counting import NOTHING, NOTHING_OF_RUNTIME, Count, node_counts
from edgepact.inference.onnx_files import read_model
from edgepact.inference.sizes import Sizes, usual_sizes
from edgepact.inference.wiring import Inputs, Wiring

F, I8, U8 = np.float32, np.int8, np.uint8


def counted(
    folder: Path,
    operator: str,
    given: Sequence[tuple[int, ...] | np.ndarray | None],
    outputs: int = 1,
    domain: str = "",
    dtype: Any = F,
    opset: int = 20,
    **attributes: Any,
) -> Count:
    """One node on inputs of these shapes; arrays are constants, None is left out."""
    names, ends, weights = [], [], []
    for at, each in enumerate(given):
        names.append("" if each is None else f"i{at}")
        if isinstance(each, np.ndarray):
            weights.append(numpy_helper.from_array(each, f"i{at}"))
        elif each is not None:
            elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            ends.append(helper.make_tensor_value_info(f"i{at}", elem_type, each))
    made = [f"o{at}" for at in range(outputs)]
    node = helper.make_node(operator, names, made, domain=domain, **attributes)
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made[:1]]
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1)] if domain else []
    graph = helper.make_graph([node], "one", ends, outs, weights)
    path = folder / "one.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )
    model = read_model(path)
    inputs = Inputs.of(model, path, control=[], state={})
    wiring = Wiring.of(model.graph, inputs, path)
    (found,) = node_counts(wiring, Sizes.of(model, usual_sizes(model, inputs), path))
    return found


def zeros(*shape: int, dtype: Any = F) -> np.ndarray:
    return np.zeros(shape, dtype)


MICROSOFT = {"domain": "com.microsoft"}


@pytest.mark.parametrize(
    ("operator", "given", "facts", "macs"),
    [
        ("MatMul", [(2, 3, 4), zeros(4, 5)], {}, 2 * 3 * 4 * 5),
        ("MatMul", [(4,), zeros(4, 5)], {}, 4 * 5),
        ("MatMul", [(7, 1, 3, 4), zeros(6, 4, 5)], {}, 7 * 6 * 3 * 4 * 5),
        ("Gemm", [(4, 3), zeros(5, 4)], {"transA": 1, "transB": 1}, 3 * 4 * 5),
        ("MatMulInteger", [(3, 4), zeros(4, 5, dtype=U8)], {"dtype": U8}, 60),
        ("Conv", [(1, 4, 6, 6), zeros(8, 2, 3, 3)], {"group": 2}, 8 * 4 * 4 * 2 * 9),
        ("Conv", [(1, 4, 9), zeros(4, 1, 3)], {"group": 4, "dilations": [2]}, 4 * 5 * 3),
        # Every number that is read meets each channel and place of the kernel once.
        ("ConvTranspose", [(1, 4, 5, 5), zeros(4, 6, 2, 2)], {"strides": [2, 2]}, 100 * 6 * 4),
        ("LSTM", [(7, 2, 5), zeros(2, 12, 5), zeros(2, 12, 3)],
         {"hidden_size": 3, "direction": "bidirectional"}, 7 * 2 * 2 * 12 * (5 + 3)),
        ("GRU", [(7, 2, 5), zeros(1, 9, 5), zeros(1, 9, 3)], {"hidden_size": 3}, 14 * 9 * 8),
        ("RNN", [(7, 2, 5), zeros(1, 3, 5), zeros(1, 3, 3)], {"hidden_size": 3}, 14 * 3 * 8),
        ("Einsum", [(2, 3, 4), zeros(2, 4, 5)], {"equation": "bij,bjk->bik"}, 2 * 3 * 4 * 5),
        ("Attention", [(2, 3, 8), zeros(2, 5, 4), zeros(2, 5, 4)],
         {"q_num_heads": 4, "kv_num_heads": 2, "opset": 23}, 2 * 2 * 3 * 5 * 8),
        ("MatMulNBits", [(2, 3, 64), zeros(10, 2, 16, dtype=U8), zeros(20)],
         {"K": 64, "N": 10, "bits": 4, "block_size": 32} | MICROSOFT, 6 * 64 * 10),
        ("FusedMatMul", [(3, 4), zeros(5, 4)], {"transB": 1} | MICROSOFT, 60),
        ("Attention", [(1, 6, 8), zeros(8, 24), zeros(24)], {"num_heads": 2} | MICROSOFT,
         6 * 8 * 24 + 2 * 36 * 8),
        ("MultiHeadAttention", [(1, 3, 8), zeros(1, 5, 8), zeros(1, 5, 8)],
         {"num_heads": 2} | MICROSOFT, 2 * 3 * 5 * 8),
        ("GroupQueryAttention",
         [(1, 1, 8), zeros(1, 1, 4), zeros(1, 1, 4), zeros(1, 2, 9, 2), zeros(1, 2, 9, 2),
          np.zeros(1, np.int32), np.array([6], np.int32)],
         {"num_heads": 4, "kv_num_heads": 2} | MICROSOFT, 2 * 6 * 8),
    ],
)  # fmt: skip
def test_formulas(
    tmp_path: Path, operator: str, given: list[Any], facts: Mapping[str, Any], macs: int
) -> None:
    assert counted(tmp_path, operator, given, **facts) == Count(macs=macs)


def test_quantised_convolution_and_product(tmp_path: Path) -> None:
    scale, zero = np.array(F(1)), np.array(U8(0))
    conv = [(1, 4, 6, 6), scale, zero, zeros(8, 4, 3, 3, dtype=U8), scale, zero, scale, zero]
    assert counted(tmp_path, "QLinearConv", conv, dtype=U8) == Count(macs=8 * 16 * 36)
    product = [(3, 4), scale, zero, zeros(4, 5, dtype=U8), scale, zero, scale, zero]
    assert counted(tmp_path, "QLinearMatMul", product, dtype=U8) == Count(macs=60)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 3)] * 4),
    first=st.permutations("abc").map("".join),
    second=st.permutations("bcd").map("".join),
    result=st.sampled_from(["abcd", "ad", "a", "cd", "dba"]),
)
def test_einsum_multiplies_once_for_each_place(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: tuple[int, ...],
    first: str,
    second: str,
    result: str,
) -> None:
    size = dict(zip("abcd", sizes, strict=True))
    found = counted(
        tmp_path_factory.mktemp("einsum"),
        "Einsum",
        [tuple(size[label] for label in term) for term in (first, second)],
        equation=f"{first},{second}->{result}",
    )
    # What one operand alone has, and the result has not, is summed before.
    looped = [label for label in "abcd" if label in "bc" or label in result]
    macs = sum(1 for _ in itertools.product(*(range(size[label]) for label in looped)))
    assert found == Count(macs=macs)


def body(trips: object) -> onnx.ModelProto:
    """A product in a loop."""
    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in "vw"]
    at = helper.make_tensor_value_info("at", TensorProto.INT64, [])
    on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    nodes = [
        helper.make_node("MatMul", ["v", "m"], ["w"]),
        helper.make_node("Identity", ["on"], ["still"]),
    ]
    inner = helper.make_graph(nodes, "body", [at, on, state[0]], [still, state[1]])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in "xy"]
    weights = [numpy_helper.from_array(zeros(4, 4), "m")]
    given = ends[:1]
    if trips is None:
        given = [*given, helper.make_tensor_value_info("trips", TensorProto.INT64, [])]
    else:
        weights.append(numpy_helper.from_array(np.array(trips, np.int64), "trips"))
    loop = helper.make_node("Loop", ["trips", "", "x"], ["y"], body=inner)
    graph = helper.make_graph([loop], "looped", given, ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_loop_counts_as_often_as_it_runs_or_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for trips, macs, reason in ((5, 5 * 48, ""), (None, 0, "how often its body runs")):
        path.write_bytes(body(trips).SerializeToString())
        model = read_model(path)
        inputs = Inputs.of(model, path, control=[])
        wiring = Wiring.of(model.graph, inputs, path)
        (found,) = node_counts(wiring, Sizes.of(model, {}, path))
        assert found.macs == macs
        assert [each.operator for each in found.uncounted] == (["Loop"] if reason else [])
        assert all(reason in each.reason for each in found.uncounted)


@pytest.mark.parametrize(("shape", "macs"), [((1, 4, 5), 3 * 4 * 5), ((3, 4, 1), 0)])
def test_a_product_written_as_a_sum_over_products(
    tmp_path: Path, shape: tuple[int, ...], macs: int
) -> None:
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4, 1])]
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["spread"]),
        helper.make_node("ReduceSum", ["spread", "axis"], ["y"], keepdims=0),
    ]
    weights = [numpy_helper.from_array(np.array([1], np.int64), "axis")]
    weights.append(numpy_helper.from_array(zeros(*shape), "w"))
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "product", ends, outs, weights)
    path = tmp_path / "m.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    model = read_model(path)
    wiring = Wiring.of(model.graph, Inputs.of(model, path), path)
    assert sum(each.macs for each in node_counts(wiring, Sizes.of(model, {}, path))) == macs


def test_no_operator_is_said_to_do_nothing_that_multiplies_matrices() -> None:
    products = {
        "MatMul",
        "Gemm",
        "Conv",
        "Attention",
        "LSTM",
        "GRU",
        "RNN",
        "Einsum",
        "DFT",
        "STFT",
    }
    products |= {"Det", "LinearAttention", "CausalConvWithState", "Loop", "Scan", "If"}
    assert not products & NOTHING
    assert not any(
        word in name
        for name in NOTHING_OF_RUNTIME
        for word in ("MatMul", "Gemm", "Conv", "Attention", "MoE")
    )
    known = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert NOTHING - {"SimplifiedLayerNormalization"} <= known
