"""A small model of every difficulty that stages know: integers at a cut, two tensors at another,
control, free sizes, two outputs."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16
WORDS = 50

CUTS = (("x1",), ("x2", "r2"), ("q",), ("x4",))
"""One of numbers, one of two tensors, one of bytes, one of numbers again."""


def tiny_stages(folder: Path, *, seed: int = 0) -> Path:
    """Writes `tiny.onnx`: residual layers over embedded words, masked, once rounded to bytes."""
    rng = np.random.default_rng(seed)
    table = {"table": rng.standard_normal((WORDS, WIDTH))}
    table |= {f"w{at}": rng.standard_normal((WIDTH, WIDTH)) / 4 for at in range(5)}
    weights = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in table.items()]
    weights += [
        numpy_helper.from_array(np.array([2], np.int64), "last"),
        numpy_helper.from_array(np.array(0.05, np.float32), "step"),
        numpy_helper.from_array(np.array(128, np.uint8), "zero"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "words"], ["x0"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["open"]),
    ]
    for at in range(5):
        came, gave = ("d" if at == 3 else f"x{at}"), f"x{at + 1}"
        nodes += [
            helper.make_node("MatMul", [came, f"w{at}"], [f"m{at}"]),
            helper.make_node("Relu", [f"m{at}"], [f"r{at}"]),
            helper.make_node("Mul", [f"r{at}", "open"], [f"o{at}"]),
            helper.make_node("Add", [came, f"o{at}"], [gave]),
        ]
        if at == 2:
            nodes += [
                helper.make_node("QuantizeLinear", ["x3", "step", "zero"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
            ]
    nodes += [
        helper.make_node("ReduceMean", ["x5", "middle"], ["vector"], keepdims=0),
        helper.make_node("ArgMax", ["vector"], ["best"], axis=1, keepdims=0),
    ]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "middle"))
    free = ["batch", "length"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("words", TensorProto.INT64, free),
            helper.make_tensor_value_info("attention_mask", TensorProto.FLOAT, free),
        ],
        [
            helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", WIDTH]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["batch"]),
        ],
        weights,
    )
    opset = [helper.make_opsetid("", 18)]
    path = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path
