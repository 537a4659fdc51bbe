"""Where an ONNX model can be cut, and cutting it there.

A device that runs L layers sends one tensor, so a model can be split exactly
at the tensors through which everything that depends on the image must pass
(the dominators of the output). One sweep over the nodes finds them: a tensor
is such a place if nothing else is alive when it has been computed. Two kinds of
values do not count as alive, since every stage can make them for itself:

- constants: initialisers and what is computed from them alone, such as the
  cast of an fp16 weight to fp32;
- shapes: what is computed from `Shape` alone. A reshape in the last block that
  asks for the batch size of the very first input would otherwise hide all cuts.
  A stage rebuilds such a shape from its own input.

Stages are written as graphs only. All of them, and the whole model, read one
weight file; hence they lie in one flat folder, since ONNX Runtime refuses
external data outside the model's folder. The graphs are cut before ONNX
Runtime fuses nodes, never after: a fused graph has lost its cuts.

The functions work on the protobuf messages: `onnx_ir.convenience.extract` stops
at a shape that comes from outside the stage, and `onnx.utils.extract_model`
copies the weights.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper, numpy_helper, shape_inference
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from edgepact.errors import InputError, shown
from edgepact.inference.pipeline import IMAGE_GRAPH, open_session, stage_path

BOUNDARIES_KEY = "edgepact.boundaries"
STAGE_KEY = "edgepact.stage"


def single_tensor_cuts(path: Path) -> tuple[str, ...]:
    """Names of all tensors at which the model can be cut in two.

    The model's own inputs and outputs are left out, since cutting there leaves
    nothing on one side.

    Args:
        path: an ONNX model with any number of inputs and outputs.

    Returns:
        Tensor names in the order in which they are computed.

    Raises:
        InputError: `path` is missing or is no valid ONNX model.
    """
    return _cuts(_Wiring.of(_load(path).graph, path))


def boundaries(path: Path) -> tuple[str, ...]:
    """Names of the tensors at which the model says it wants to be cut.

    They stand in the model's metadata as a JSON list under
    `edgepact.boundaries`: the output of embed, of block 1, ..., of block L_max.

    Raises:
        InputError: the list is missing or malformed, or names a tensor that is
            not a single-tensor cut, or is out of order.
    """
    model = _load(path)
    return _boundaries(model, _Wiring.of(model.graph, path), path)


def choose_boundaries(model_dir: Path, names: Sequence[str]) -> None:
    """Write into `image.onnx` where it is to be cut; `cut` then does it.

    Args:
        model_dir: holds `image.onnx`.
        names: the output of embed, of block 1, ..., of block L_max.

    Raises:
        InputError: the model cannot be read, or cannot be cut there in this order.
    """
    path = model_dir / IMAGE_GRAPH
    model = _load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, kept | {BOUNDARIES_KEY: json.dumps(list(names))})
    _boundaries(model, _Wiring.of(model.graph, path), path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(model.SerializeToString(deterministic=True))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def cut(model_dir: Path) -> tuple[Path, ...]:
    """Write `stage_00.onnx`, `stage_01.onnx`, ... beside `image.onnx`.

    The chain of stages is run on a batch of two and compared with the whole
    model before any file gets its final name: a size of one that was frozen
    into the graph, or a wrong cut, ends here and not at a customer. Files of an
    earlier cut are replaced one by one by rename, so that no reader ever sees
    half a file.

    Args:
        model_dir: holds `image.onnx` with one input, one output, a symbolic
            batch dimension and the list of its boundaries.

    Returns:
        Paths of the stage files, stage 0 (embed) first.

    Raises:
        InputError: the model cannot be cut as it asks.
    """
    path = model_dir / IMAGE_GRAPH
    model = _load(path)
    _check_weights(model, path)
    wiring = _Wiring.of(model.graph, path)
    names = _boundaries(model, wiring, path)
    batch = _batch_symbol(model.graph, path)
    shapes = _Shapes.of(_inferred(model, path), batch, path)
    ends = [model.graph.input[0].name, *names, model.graph.output[0].name]

    finished = [stage_path(model_dir, stage) for stage in range(len(ends) - 1)]
    drafts = [target.with_name(f".{target.name}.{os.getpid()}") for target in finished]
    try:
        for stage, draft in enumerate(drafts):
            part = _stage_model(model, wiring, shapes, stage, ends[stage], ends[stage + 1])
            draft.write_bytes(part.SerializeToString(deterministic=True))
        _check_chain(path, drafts, _probe(shapes, ends[0]))
        for draft, target in zip(drafts, finished, strict=True):
            draft.replace(target)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    for left_over in sorted(set(model_dir.glob("stage_[0-9][0-9].onnx")) - set(finished)):
        left_over.unlink()
    return tuple(finished)


def macs_per_stage(model_dir: Path) -> tuple[int, ...]:
    """Multiply-accumulate operations of each stage for one image.

    `MatMul`, `Gemm` and `Conv`, and their forms for integers, are counted from
    their inferred shapes; all other operators count as 0, as in the usual closed
    forms. What is computed
    from constants alone counts as 0 too, since ONNX Runtime does it once, when
    the model is loaded.

    Raises:
        InputError: the model cannot be read, or the shape of a counted
            operator's operands does not follow from the graph.
    """
    path = model_dir / IMAGE_GRAPH
    model = _load(path)
    wiring = _Wiring.of(model.graph, path)
    names = _boundaries(model, wiring, path)
    _batch_symbol(model.graph, path)
    shapes = _Shapes.of(_inferred(model, path, batch=1), "", path)
    ends = [model.graph.input[0].name, *names, model.graph.output[0].name]
    return tuple(
        sum(_macs(node, shapes) for node in _stage_nodes(wiring, start, stop))
        for start, stop in itertools.pairwise(ends)
    )


_Kind = Literal["constant", "shape", "data"]
_Dim = int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wiring:
    """The nodes that the outputs need, in order, and what each value depends on."""

    nodes: tuple[onnx.NodeProto, ...]
    kinds: Mapping[str, _Kind]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, graph: onnx.GraphProto, path: Path) -> "_Wiring":
        constants = {tensor.name for tensor in graph.initializer}
        constants |= {tensor.values.name for tensor in graph.sparse_initializer}
        inputs = tuple(value.name for value in graph.input if value.name not in constants)
        kinds: dict[str, _Kind] = dict.fromkeys(constants, "constant")
        kinds |= dict.fromkeys(inputs, "data")
        for node in graph.node:
            read = _reads(node)
            missing = [name for name in read if name not in kinds]
            if missing:
                raise InputError(
                    path, f"node {node.name or node.output[0]}", "inputs made before it", missing[0]
                )
            kinds |= dict.fromkeys(filter(None, node.output), _kind(node, read, kinds))
        outputs = tuple(value.name for value in graph.output)
        unmade = [name for name in outputs if name not in kinds]
        if unmade:
            raise InputError(path, "output", "a value that some node makes", unmade[0])

        needed, nodes = set(outputs), []
        for node in reversed(graph.node):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(_reads(node))
        return cls(nodes=tuple(reversed(nodes)), kinds=kinds, inputs=inputs, outputs=outputs)

    def data_reads(self, node: onnx.NodeProto) -> set[str]:
        """What the node reads of the image itself; nothing if it asks for a shape only."""
        if all(self.kinds[name] != "data" for name in node.output if name):
            return set()
        return {name for name in _reads(node) if self.kinds[name] == "data"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shapes:
    """Element type and dimensions of the values of a graph, as far as inferred."""

    types: Mapping[str, onnx.TypeProto.Tensor]
    batch: str
    path: Path

    @classmethod
    def of(cls, graph: onnx.GraphProto, batch: str, path: Path) -> "_Shapes":
        types = {
            value.name: value.type.tensor_type
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        for tensor in graph.initializer:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            types[tensor.name] = value.type.tensor_type
        return cls(types=types, batch=batch, path=path)

    def dims(self, name: str) -> tuple[_Dim, ...]:
        """Sizes, symbols, and None for what is unknown; an unknown first one is the batch."""
        found = self.types.get(name)
        if found is None or not found.HasField("shape"):
            raise InputError(self.path, f"tensor {name}", "a shape that can be inferred", "none")
        dims = [
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
            for dim in found.shape.dim
        ]
        if dims and self.batch and not isinstance(dims[0], int):
            dims[0] = self.batch
        return tuple(dims)

    def sizes(self, name: str) -> tuple[int, ...]:
        """Like `dims` where all of them must be numbers."""
        dims = self.dims(name)
        if not all(isinstance(dim, int) for dim in dims):
            raise InputError(self.path, f"tensor {name}", "known sizes", list(dims))
        return tuple(int(dim) for dim in dims if dim is not None)

    def value_info(self, name: str) -> onnx.ValueInfoProto:
        """Declare a stage's input or output, and insist on a symbolic batch."""
        dims = self.dims(name)
        if not dims or dims[0] != self.batch:
            raise InputError(
                self.path, f"tensor {name}", f"the batch dimension {self.batch!r} first", list(dims)
            )
        return helper.make_tensor_value_info(name, self.types[name].elem_type, dims)


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise InputError(path, "", "an ONNX model", str(error)) from error
    if not model.graph.output:
        raise InputError(path, "", "an ONNX model", "a file without a graph")
    return model


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those of its subgraphs (`If`, `Loop`) included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own.update(name for inner in graph.node for name in inner.output)
            used = [name for inner in graph.node for name in _reads(inner)]
            used += [value.name for value in graph.output]
            names += [name for name in used if name not in own]
    return names


def _kind(node: onnx.NodeProto, read: Iterable[str], kinds: Mapping[str, _Kind]) -> _Kind:
    of_inputs = {kinds[name] for name in read}
    if of_inputs <= {"constant"}:
        return "constant"
    if node.op_type == "Shape" or "data" not in of_inputs:
        return "shape"
    return "data"


def _cuts(wiring: _Wiring) -> tuple[str, ...]:
    last_read = {
        name: at for at, node in enumerate(wiring.nodes) for name in wiring.data_reads(node)
    }
    last_read |= dict.fromkeys(wiring.outputs, len(wiring.nodes))
    alive = {name for name in wiring.inputs if name in last_read}
    ends = {*wiring.inputs, *wiring.outputs}
    cuts: list[str] = []
    for at, node in enumerate(wiring.nodes):
        alive.update(
            name for name in node.output if wiring.kinds.get(name) == "data" and name in last_read
        )
        alive = {name for name in alive if last_read[name] > at}
        if len(alive) == 1:
            (only,) = alive
            if only not in ends and only not in cuts[-1:]:
                cuts.append(only)
    return tuple(cuts)


def _boundaries(model: onnx.ModelProto, wiring: _Wiring, path: Path) -> tuple[str, ...]:
    field = f"metadata_props[{BOUNDARIES_KEY}]"
    expected = "a JSON list of at least two tensor names"
    text = next((prop.value for prop in model.metadata_props if prop.key == BOUNDARIES_KEY), None)
    if text is None:
        raise InputError(path, field, expected, "no such entry")
    try:
        names = json.loads(text)
    # ValueError: no JSON, or no text, which protobuf hands on as it is.
    except (ValueError, RecursionError) as error:
        raise InputError(path, field, expected, shown(text)) from error
    if (
        not isinstance(names, list)
        or len(names) < 2
        or not all(isinstance(name, str) for name in names)
    ):
        raise InputError(path, field, expected, text[:80])
    if len(wiring.inputs) != 1 or len(wiring.outputs) != 1:
        raise InputError(
            path,
            "graph",
            "one input and one output",
            f"{len(wiring.inputs)} and {len(wiring.outputs)}",
        )
    possible = {name: at for at, name in enumerate(_cuts(wiring))}
    for name in names:
        if name not in possible:
            found = (
                f"{name!r}, beside which other values are alive"
                if name in wiring.kinds
                else f"{name!r}, which does not exist"
            )
            raise InputError(path, field, "tensors at which the graph can be cut", found)
    order = [possible[name] for name in names]
    if any(later <= earlier for earlier, later in itertools.pairwise(order)):
        raise InputError(path, field, "tensors in the order of computation", names)
    return tuple(names)


def _batch_symbol(graph: onnx.GraphProto, path: Path) -> str:
    constants = {tensor.name for tensor in graph.initializer}
    (value,) = (value for value in graph.input if value.name not in constants)
    dims = value.type.tensor_type.shape.dim
    if not dims or not dims[0].dim_param:
        found = f"the fixed size {dims[0].dim_value}" if dims else "a scalar"
        raise InputError(path, f"input {value.name}", "a symbolic batch dimension first", found)
    return str(dims[0].dim_param)


def _inferred(model: onnx.ModelProto, path: Path, batch: int | None = None) -> onnx.GraphProto:
    """The graph with all shapes that follow from its input, for a batch if one is given."""
    scratch = onnx.ModelProto()
    scratch.CopyFrom(model)
    # Sizes the exporter noted down may contradict the batch asked for; they are inferred anew.
    del scratch.graph.value_info[:]
    for tensor in scratch.graph.initializer:
        # Targets of Reshape and the like must be readable; they are a few bytes each.
        if uses_external_data(tensor) and len(tensor.dims) <= 1 and _is_integer(tensor):
            load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
    if batch is not None:
        for value in (*scratch.graph.input, *scratch.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    try:
        return shape_inference.infer_shapes(scratch, check_type=True, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise InputError(path, "graph", "shapes that fit each other", _first_line(error)) from error


def _is_integer(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)


def _check_weights(model: onnx.ModelProto, path: Path) -> None:
    for tensor in model.graph.initializer:
        if not uses_external_data(tensor):
            continue
        entry = {pair.key: pair.value for pair in tensor.external_data}
        location = entry.get("location", "")
        if not location or Path(location).name != location:
            raise InputError(
                path, f"initializer {tensor.name}", "external data beside the graph", location
            )
        weights = path.with_name(location)
        size = weights.stat().st_size if weights.is_file() else 0
        if int(entry.get("offset", 0)) + int(entry.get("length", 0)) > size:
            raise InputError(
                weights, "", f"a file that holds the initializer {tensor.name}", f"{size} bytes"
            )


def _stage_nodes(wiring: _Wiring, start: str, stop: str) -> list[onnx.NodeProto]:
    """Nodes that make `stop` from `start`, constants and shapes they need left out."""
    needed, nodes = {stop}, []
    for node in reversed(wiring.nodes):
        if needed.intersection(node.output) and start not in node.output:
            nodes.append(node)
            needed.update(wiring.data_reads(node))
    return nodes[::-1]


def _stage_model(
    model: onnx.ModelProto,
    wiring: _Wiring,
    shapes: _Shapes,
    stage: int,
    start: str,
    stop: str,
) -> onnx.ModelProto:
    inside = {start, *(name for node in _stage_nodes(wiring, start, stop) for name in node.output)}
    needed, nodes = {stop}, list[onnx.NodeProto]()
    for node in reversed(wiring.nodes):
        if not needed.intersection(node.output) or start in node.output:
            continue
        asks_outside = node.op_type == "Shape" and wiring.kinds[node.input[0]] == "data"
        if asks_outside and node.input[0] not in inside:
            rebuilt = list(_rebuilt_shape(node, shapes, start))
            nodes += rebuilt[::-1]
            continue
        nodes.append(node)
        needed.update(_reads(node))
    nodes.reverse()
    used = {name for node in nodes for name in _reads(node)}
    graph = helper.make_graph(
        nodes,
        f"stage {stage}",
        [shapes.value_info(start)],
        [shapes.value_info(stop)],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    part = helper.make_model(
        graph,
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
        functions=list(model.functions),
        producer_name="edgepact",
    )
    helper.set_model_props(part, {STAGE_KEY: str(stage)})
    return part


def _rebuilt_shape(node: onnx.NodeProto, shapes: _Shapes, start: str) -> Iterator[onnx.NodeProto]:
    """The shape of a tensor outside the stage, made from the stage's own input.

    Sizes are written down as numbers; symbols are looked up in the input, which
    has them too.
    """
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    wanted = shapes.dims(node.input[0])[limits.get("start", 0) : limits.get("end")]
    own = shapes.dims(start)
    result = node.output[0]
    own_shape = f"{result}/shape_of_stage_input"
    yield helper.make_node("Shape", [start], [own_shape])
    pieces = []
    for at, dim in enumerate(wanted):
        known = isinstance(dim, int)
        if not known and (dim is None or dim not in own):
            raise InputError(
                shapes.path,
                f"node {node.name or result}",
                f"sizes that follow from the tensor {start}",
                dim or "an unknown size",
            )
        piece, number = f"{result}/size_{at}", dim if known else own.index(dim)
        literal = piece if known else f"{piece}/axis"
        yield helper.make_node(
            "Constant", [], [literal], value=numpy_helper.from_array(np.array([number], np.int64))
        )
        if not known:
            yield helper.make_node("Gather", [own_shape, literal], [piece], axis=0)
        pieces.append(piece)
    yield helper.make_node("Concat", pieces, [result], axis=0)


def _probe(shapes: _Shapes, name: str) -> np.ndarray:
    sizes = shapes.dims(name)[1:]
    if not all(isinstance(size, int) for size in sizes):
        raise InputError(shapes.path, f"input {name}", "fixed sizes after the batch", list(sizes))
    dtype = helper.tensor_dtype_to_np_dtype(shapes.types[name].elem_type)
    drawn = np.random.default_rng(0).standard_normal((2, *(int(size or 0) for size in sizes)))
    return (drawn if np.issubdtype(dtype, np.floating) else np.abs(drawn)).astype(dtype)


def _check_chain(path: Path, stages: Sequence[Path], probe: np.ndarray) -> None:
    """Run whole model and stages on two images at once; they must agree."""
    whole = _run(path, probe)
    x = probe
    for stage in stages:
        x = _run(stage, x)
    if whole.shape[:1] != probe.shape[:1]:
        raise InputError(path, "output", f"a batch of {len(probe)}", f"shape {whole.shape}")
    # Rounding only: fusions inside one session may differ from those inside the other.
    if whole.shape != x.shape or not np.allclose(whole, x, rtol=1e-3, atol=1e-4):
        raise InputError(
            path, "stages", "the output of the whole model", "another: the model cannot be cut so"
        )


def _run(path: Path, x: np.ndarray) -> np.ndarray:
    session = open_session(path)
    try:
        return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own.
        raise InputError(
            path, "graph", "a model that takes a batch of any size", _first_line(error)
        ) from error


def _macs(node: onnx.NodeProto, shapes: _Shapes) -> int:
    """Operations of one node; formulas of the ONNX operator specification."""
    match node.op_type:
        case "MatMul" | "MatMulInteger":
            return math.prod(shapes.sizes(node.output[0])) * shapes.sizes(node.input[0])[-1]
        case "Gemm":
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            inner = shapes.sizes(node.input[0])[0 if transposed else 1]
            return math.prod(shapes.sizes(node.output[0])) * inner
        case "Conv" | "ConvInteger":
            # Weight: [channels out, channels in / groups, *kernel].
            return math.prod(shapes.sizes(node.output[0])) * math.prod(
                shapes.sizes(node.input[1])[1:]
            )
        case _:
            return 0


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
