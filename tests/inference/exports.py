"""A small image encoder, written in the many ways in which exporters write the same thing."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepact.inference.graph import BOUNDARIES_KEY

MACS = (1536, 256, 256, 48)
"""Of embed (4 tokens of 8 from 3x4x4 pixels), of two blocks of 8x8 on 4 tokens, of the head."""

PARAMETERS = (384, 72, 72, 48)

BOUNDARIES = ("e", "o1", "o2")


def encoder(batch: str | int | None = "N") -> onnx.ModelProto:
    """`x` of 3x8x8 pixels to `y` of 6 numbers, with two blocks and a residual sum in each."""
    draw = np.random.default_rng(0).standard_normal

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.3 * draw(shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "we"], ["c"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["c", "shp"], ["r"]),
        helper.make_node("Transpose", ["r"], ["e"], perm=[0, 2, 1]),
    ]
    for block, before in ((1, "e"), (2, "o1")):
        nodes += [
            helper.make_node("MatMul", [before, f"w{block}"], [f"m{block}"]),
            helper.make_node("Add", [f"m{block}", f"b{block}"], [f"a{block}"]),
            helper.make_node("Tanh", [f"a{block}"], [f"g{block}"]),
            helper.make_node("Add", [f"g{block}", before], [f"o{block}"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", ["o2"], ["p"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["p", "wh"], ["y"]),
    ]
    weights = [weight("we", 8, 3, 4, 4), weight("wh", 8, 6)]
    weights += [weight(f"w{block}", 8, 8) for block in (1, 2)]
    weights += [weight(f"b{block}", 8) for block in (1, 2)]
    weights.append(numpy_helper.from_array(np.array([0, 8, 4], np.int64), "shp"))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 6])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {BOUNDARIES_KEY: json.dumps(BOUNDARIES)})
    return model


def replaced(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto]
) -> onnx.ModelProto:
    """The model with other nodes and weights."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    return model


def weights_listed_as_inputs() -> onnx.ModelProto:
    model = encoder()
    model.ir_version = 3
    model.opset_import[0].version = 12
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return model


def output_without_shape() -> onnx.ModelProto:
    model = encoder()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def batch_without_name() -> onnx.ModelProto:
    return encoder(batch=None)


def batch_below_zero() -> onnx.ModelProto:
    return encoder(batch=-1)


def batch_of_one() -> onnx.ModelProto:
    return encoder(batch=1)


def weights_in_constant_nodes() -> onnx.ModelProto:
    model = encoder()
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
        if tensor.name != "shp"
    ]
    constants.append(helper.make_node("Constant", [], ["shp"], value_ints=[0, 8, 4]))
    return replaced(model, [*constants, *model.graph.node], [])


def blocks_in_local_functions() -> onnx.ModelProto:
    """A block is a call of a function, which calls another one for its matrix."""
    model = encoder()
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    inner = helper.make_function(
        "local",
        "Linear",
        ["p", "w", "b"],
        ["a"],
        [
            helper.make_node("MatMul", ["p", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["a"]),
        ],
        opsets,
    )
    block = helper.make_function(
        "local",
        "Block",
        ["p", "w", "b"],
        ["o"],
        [
            helper.make_node("Linear", ["p", "w", "b"], ["a"], domain="local"),
            helper.make_node("Tanh", ["a"], ["g"]),
            helper.make_node("Add", ["g", "p"], ["o"]),
        ],
        opsets,
    )
    nodes = list(model.graph.node)
    calls = [
        helper.make_node("Block", [before, f"w{at}", f"b{at}"], [f"o{at}"], domain="local")
        for at, before in ((1, "e"), (2, "o1"))
    ]
    made = replaced(model, [*nodes[:3], *calls, *nodes[11:]], list(model.graph.initializer))
    made.opset_import.append(helper.make_opsetid("local", 1))
    made.functions.extend([block, inner])
    return made


def functions_of_another_version() -> onnx.ModelProto:
    """As where a library of functions is older than the graph that calls them."""
    model = blocks_in_local_functions()
    for function in model.functions:
        function.opset_import[0].version = 14
    return model


def half_precision() -> onnx.ModelProto:
    """float16 inside, float32 at both ends, as converters leave it by default."""
    model = encoder()
    weights = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        wide = array.dtype == np.float32
        weights.append(
            numpy_helper.from_array(array.astype(np.float16), tensor.name) if wide else tensor
        )
    nodes = [helper.make_node("Cast", ["x"], ["xh"], to=TensorProto.FLOAT16), *model.graph.node]
    nodes[1].input[0] = "xh"
    nodes[-1].output[0] = "yh"
    nodes.append(helper.make_node("Cast", ["yh"], ["y"], to=TensorProto.FLOAT))
    return replaced(model, nodes, weights)


def half_precision_at_its_ends() -> onnx.ModelProto:
    model = half_precision()
    nodes = list(model.graph.node)[1:-1]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    model = replaced(model, nodes, list(model.graph.initializer))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def choice_by_size() -> onnx.ModelProto:
    """The second block stands in both branches of an `If` that asks for the number of tokens."""
    model = encoder()
    nodes = list(model.graph.node)

    def branch(name: str) -> onnx.GraphProto:
        inner = [helper.make_node("MatMul", ["o1", "w2"], [f"{name}/m"])]
        inner.append(helper.make_node("Add", [f"{name}/m", "b2"], [f"{name}/a"]))
        value = helper.make_tensor_value_info(f"{name}/a", TensorProto.FLOAT, None)
        return helper.make_graph(inner, name, [], [value])

    asked = [
        helper.make_node("Shape", ["o1"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "axis"], ["tokens"]),
        helper.make_node("Equal", ["tokens", "four"], ["is_four"]),
        helper.make_node(
            "If", ["is_four"], ["a2"], then_branch=branch("then"), else_branch=branch("else")
        ),
    ]
    weights = list(model.graph.initializer)
    weights += [numpy_helper.from_array(np.array(1, np.int64), "axis")]
    weights += [numpy_helper.from_array(np.array(4, np.int64), "four")]
    return replaced(model, [*nodes[:7], *asked, *nodes[9:]], weights)


def sparse_weight() -> onnx.ModelProto:
    """A block's matrix, of which every other number is 0, as a sparse initialiser."""
    model = encoder()
    (dense,) = (tensor for tensor in model.graph.initializer if tensor.name == "w2")
    flat = numpy_helper.to_array(dense).reshape(-1)[::2].copy()
    places = np.arange(0, 64, 2, dtype=np.int64)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(flat, "w2"), numpy_helper.from_array(places, ""), [8, 8]
    )
    model = replaced(
        model,
        list(model.graph.node),
        [tensor for tensor in model.graph.initializer if tensor.name != "w2"],
    )
    model.graph.sparse_initializer.append(sparse)
    return model


def quantised_blocks() -> onnx.ModelProto:
    """The matrices of the blocks in whole numbers, their inputs quantised as they come."""
    model = encoder()
    nodes: list[onnx.NodeProto] = []
    weights = []
    for tensor in model.graph.initializer:
        if tensor.name not in ("w1", "w2"):
            weights.append(tensor)
            continue
        array = numpy_helper.to_array(tensor)
        scale = np.float32(np.abs(array).max() / 127)
        weights.append(numpy_helper.from_array(np.rint(array / scale).astype(np.int8), tensor.name))
        weights.append(numpy_helper.from_array(np.array(scale), f"{tensor.name}/scale"))
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in ("w1", "w2"):
            nodes.append(node)
            continue
        (made,), (before, matrix) = node.output, node.input
        q = [f"{made}/{part}" for part in ("q", "scale", "zero", "whole", "wide", "factor")]
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [before], q[:3]),
            helper.make_node("MatMulInteger", [q[0], matrix, q[2]], [q[3]]),
            helper.make_node("Cast", [q[3]], [q[4]], to=TensorProto.FLOAT),
            helper.make_node("Mul", [q[1], f"{matrix}/scale"], [q[5]]),
            helper.make_node("Mul", [q[4], q[5]], [made]),
        ]
    return replaced(model, nodes, weights)


def probe_repeated_by_the_batch() -> onnx.ModelProto:
    """The head adds a probe that is repeated for each item, as SigLIP's pooling does."""
    model = encoder()
    nodes = list(model.graph.node)
    asked = [
        helper.make_node("Shape", ["o2"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"]),
        helper.make_node("Unsqueeze", ["b", "ax0"], ["bb"]),
        helper.make_node("Concat", ["bb", "ones"], ["rep"], axis=0),
        helper.make_node("Tile", ["probe", "rep"], ["t"]),
        helper.make_node("MatMul", ["t", "w1"], ["q"]),
        helper.make_node("ReduceMean", ["o2"], ["p0"], axes=[1], keepdims=1),
        helper.make_node("Add", ["p0", "q"], ["p1"]),
        helper.make_node("Squeeze", ["p1", "ax1"], ["p"]),
    ]
    constants = {"zero": 0, "ax0": [0], "ax1": [1], "ones": [1, 1]}
    weights = [
        *model.graph.initializer,
        *(numpy_helper.from_array(np.array(value, np.int64), n) for n, value in constants.items()),
        numpy_helper.from_array(np.ones((1, 1, 8), np.float32), "probe"),
    ]
    return replaced(model, [*nodes[:-2], *asked, nodes[-1]], weights)


def attention_operator() -> onnx.ModelProto:
    """The first block is one `Attention` of ONNX 23, with two heads, and its projections."""
    model = encoder()
    model.opset_import[0].version, model.ir_version = 23, 10
    nodes = list(model.graph.node)
    matrices = ("w1", "w1", "w2")
    block = [
        *(
            helper.make_node("MatMul", ["e", matrix], [name])
            for matrix, name in zip(matrices, "qkv", strict=True)
        ),
        helper.make_node("Attention", ["q", "k", "v"], ["at"], q_num_heads=2, kv_num_heads=2),
        helper.make_node("Add", ["at", "e"], ["o1"]),
    ]
    mean = helper.make_node("ReduceMean", ["o2", "one"], ["p"], keepdims=0)
    weights = [
        *model.graph.initializer,
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    return replaced(model, [*nodes[:3], *block, *nodes[7:-2], mean, nodes[-1]], weights)


def notes_of_the_exporter() -> onnx.ModelProto:
    """Stack traces with the paths of the machine that exported, as torch writes them."""
    model = encoder()
    for node in model.graph.node:
        node.doc_string = 'File "/home/somebody/secret/model.py", line 3'
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/somebody/secret")
    for tensor in model.graph.initializer:
        tensor.doc_string = "/home/somebody/secret"
    model.graph.doc_string = model.doc_string = "/home/somebody/secret"
    return model


Export = Callable[[], onnx.ModelProto]

SAME: tuple[Export, ...] = (
    encoder,
    weights_listed_as_inputs,
    output_without_shape,
    batch_without_name,
    batch_below_zero,
    batch_of_one,
    weights_in_constant_nodes,
    blocks_in_local_functions,
    functions_of_another_version,
    half_precision,
    half_precision_at_its_ends,
    choice_by_size,
    sparse_weight,
    quantised_blocks,
    notes_of_the_exporter,
)
"""Ways to write the encoder; each costs `MACS`."""


def model_json(folder: Path) -> None:
    """The description that a model folder has beside its graph."""
    table = {"name": "small", "layers_max": 2, "image_size": 8, "channels": 3, "mean": 0.5}
    table |= {"std": 0.5, "dim": 6, "logit_scale": 10.0, "labels": ["a", "b"]}
    table |= {"templates": ["a {}"], "tokens": 4, "width": 8}
    (folder / "model.json").write_text(json.dumps(table), encoding="utf-8")
