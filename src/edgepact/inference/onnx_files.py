"""Reading ONNX files that may come from anybody: bounded, checked, and brought to one form.

No code of the file's author runs and no file outside the model's folder is opened. What is
refused is refused here, with the node or tensor named, so that the rooms after this one may
trust names, order, sizes and nesting.

`normal_form` leaves one way to say each thing: calls of local functions are replaced by their
bodies, `Constant` nodes become initialisers, weights are no inputs, free dimensions of inputs
have names, and what exporters note down for themselves, such as stack traces with the paths of
their machine, is gone.
"""

import filecmp
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import helper, inliner, numpy_helper
from onnx.external_data_helper import uses_external_data

from edgepact.errors import InputError

GRAPH_BYTES_MAX = 2**31 - 1
"""Longest file; protobuf knows no longer message."""

NODES_MAX = 200_000
"""Most nodes, those of subgraphs and of called functions included."""

NESTING_MAX = 16
"""Deepest nesting of subgraphs, and of functions that call each other."""

RANK_MAX = 16
"""Most dimensions of a tensor."""

TENSOR_NUMBERS_MAX = 2**30
"""Most numbers in one tensor."""

_STANDARD = ("", "ai.onnx")
"""What the domain of ONNX's own operators is called."""

SMALL_NUMBERS_MAX = 4096
"""Most numbers of a constant that is read for its value: targets of reshapes and the like."""


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file as it is, and check what the other functions rely on.

    Weights outside the file are not read; `check_external_data` looks at where they are.

    Raises:
        InputError: `path` is missing, too large, no ONNX model, or a damaged one.
    """
    expected = "an ONNX model"
    try:
        size = path.stat().st_size
        if size > GRAPH_BYTES_MAX:
            raise InputError(path, "", f"{expected} of at most {GRAPH_BYTES_MAX:,} bytes", size)
        model = onnx.ModelProto.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(path, "", expected, reason) from error
    if not model.graph.output:
        raise InputError(path, "", expected, "a file without a graph")
    _Checked(path).model(model)
    return model


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file in its normal form.

    Raises:
        InputError: as `load`, or functions call each other in a circle.
    """
    return normal_form(load(path), path)


def normal_form(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """A checked model with each thing said in one way; the model handed in is used up.

    Raises:
        InputError: functions call each other in a circle, or too many of them.
    """
    made = model
    if made.functions:
        _check_calls(made, path)
        _to_one_version(made, path)
        try:
            made = inliner.inline_local_functions(made)
        except Exception as error:  # the inliner's exceptions share no base of their own
            expected = "calls that can be followed"
            raise InputError(path, "functions", expected, first_line(error)) from error
        del made.functions[:]
        _Checked(path).model(made)
    graph = made.graph
    _constants_as_initialisers(graph)
    constants = constant_names(graph)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < len(graph.input):
        kept_inputs = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in inputs]
        del graph.input[:]
        graph.input.extend(kept_inputs)
    made.ir_version = max(made.ir_version, 4)  # earlier ones list all weights as inputs
    _name_free_dimensions(graph)
    _forget_notes(made)
    return made


def _to_one_version(model: onnx.ModelProto, path: Path) -> None:
    """Functions may be written in another version of ONNX's operators than the graph, which the
    inliner passes over: where all their operators mean the same in both, they are brought to it.
    """
    versions = {each.version for each in model.opset_import if each.domain in _STANDARD}
    if len(versions) != 1:
        return
    (version,) = versions
    for function in model.functions:
        for opset in function.opset_import:
            if opset.domain not in _STANDARD or opset.version == version:
                continue
            for node in _all_nodes(function.node):
                if node.domain in _STANDARD and not _means_the_same(
                    node.op_type, opset.version, version
                ):
                    place = f"function {function.domain}.{function.name}: node {called(node)}"
                    expected = f"an operator that is the same in version {version} of ONNX"
                    found = f"{node.op_type} of version {opset.version}"
                    raise InputError(path, place, expected, found)
            opset.version = version


def _means_the_same(operator: str, version: int, other: int) -> bool:
    since = []
    for each in (version, other):
        try:
            since.append(onnx.defs.get_schema(operator, each, "").since_version)
        except onnx.defs.SchemaError:
            return False
    return since[0] == since[1]


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from _all_nodes(inner.node)


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """Names of the initialisers, dense and sparse."""
    names = {tensor.name for tensor in graph.initializer}
    return names | {tensor.values.name for tensor in graph.sparse_initializer}


def reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those that its subgraphs (`If`, `Loop`) take from outside included."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | constant_names(graph)
        own.update(name for inner in graph.node for name in inner.output)
        used = [name for inner in graph.node for name in reads(inner)]
        used += [value.name for value in graph.output]
        names += [name for name in used if name not in own]
    return names


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def check_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Whether all weights outside the file lie in files beside it that are long enough.

    Raises:
        InputError: one lies elsewhere, is missing or cut short, or says so of itself.
    """
    for tensor in _initialisers(model.graph):
        if uses_external_data(tensor):
            _external(tensor, path)


def bring_external_data(model: onnx.ModelProto, path: Path, folder: Path) -> None:
    """Copy the weight files of a model into another folder.

    Raises:
        InputError: a file of that name is there, and is another one.
    """
    if folder.resolve() == path.parent.resolve():
        return
    locations = {
        pair.value
        for tensor in _initialisers(model.graph)
        if uses_external_data(tensor)
        for pair in tensor.external_data
        if pair.key == "location"
    }
    for location in sorted(locations):
        source, target = path.with_name(location).resolve(), folder / location
        if target.exists():
            if not target.samefile(source) and not filecmp.cmp(source, target, shallow=False):
                raise InputError(target, "", "no file, or these weights", "another file")
            continue
        shutil.copyfile(source, target)  # no link: onnx takes one for an attack


def small_value(tensor: onnx.TensorProto, path: Path) -> np.ndarray | None:
    """Value of a small constant of numbers; None if it is large, or none of NumPy's types."""
    if tensor.data_type == onnx.TensorProto.STRING or math.prod(tensor.dims) > SMALL_NUMBERS_MAX:
        return None
    if uses_external_data(tensor):
        weights, offset = _external(tensor, path)
        inside = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type)
        with weights.open("rb") as file:
            file.seek(offset)
            inside.raw_data = file.read(_bytes(tensor) or 0)
        tensor = inside
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        place = f"initializer {tensor.name}"
        raise InputError(path, place, "numbers that fill its shape", first_line(error)) from error


def first_line(error: Exception) -> str:
    """What an exception says, as far as its first line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def without_notes(message: Message) -> None:
    """Remove from nodes, subgraphs or tensors what exporters noted down for people."""
    if isinstance(message, onnx.NodeProto | onnx.GraphProto | onnx.TensorProto):
        message.ClearField("doc_string")
        message.ClearField("metadata_props")
    if isinstance(message, onnx.NodeProto):
        message.ClearField("device_configurations")
        for attribute in message.attribute:
            attribute.ClearField("doc_string")
        for graph in subgraphs(message):
            without_notes(graph)
    if isinstance(message, onnx.GraphProto):
        for part in (*message.node, *message.initializer):
            without_notes(part)
        for value in (*message.input, *message.output, *message.value_info):
            value.ClearField("doc_string")
            value.ClearField("metadata_props")


def _forget_notes(model: onnx.ModelProto) -> None:
    model.ClearField("doc_string")
    without_notes(model.graph)


def _initialisers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _initialisers(inner)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _external(tensor: onnx.TensorProto, path: Path) -> tuple[Path, int]:
    """Where the numbers of a tensor lie: a file beside the graph, and the place in it."""
    place = f"initializer {tensor.name}"
    entry = {pair.key: pair.value for pair in tensor.external_data}
    location = entry.get("location", "")
    if not location or Path(location).name != location or location in (".", ".."):
        raise InputError(path, place, "external data beside the graph", location or "nowhere")
    weights = path.with_name(location)
    # A link would lead out of the folder; ONNX Runtime refuses it as well.
    if weights.is_symlink() and weights.resolve().parent != path.parent.resolve():
        raise InputError(path, place, "external data beside the graph", "a link out of the folder")
    limits = []
    for key, otherwise in (("offset", "0"), ("length", "0")):
        text = entry.get(key, otherwise)
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise InputError(path, f"{place}: {key}", "a whole number of bytes", text)
        limits.append(int(text))
    offset, length = limits
    needed = _bytes(tensor)
    if "length" in entry and needed is not None and length != needed:
        expected = f"{needed:,} bytes, which its shape needs"
        raise InputError(path, f"{place}: length", expected, length)
    size = weights.stat().st_size if weights.is_file() else 0
    if offset + (needed or length) > size:
        raise InputError(
            weights, "", f"a file that holds the initializer {tensor.name}", f"{size} bytes"
        )
    return weights, offset


def _bytes(tensor: onnx.TensorProto) -> int | None:
    """How many bytes the numbers of a tensor take; None of texts and unknown types."""
    bits = _BITS.get(tensor.data_type)
    return None if bits is None else -(-math.prod(tensor.dims) * bits // 8)


def _bits() -> dict[int, int]:
    found = {}
    for name, number in onnx.TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING"):
            continue
        if name.endswith(("INT4", "FLOAT4E2M1")):
            found[number] = 4
        elif name.endswith(("INT2",)):
            found[number] = 2
        else:
            found[number] = 8 * helper.tensor_dtype_to_np_dtype(number).itemsize
    return found


_BITS = _bits()


class _Checked:
    """Walks over a model once, and refuses what the other functions could stumble over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nodes = 0

    def model(self, model: onnx.ModelProto) -> None:
        texts = [entry.domain for entry in model.opset_import]
        texts += [text for entry in model.metadata_props for text in (entry.key,)]
        self._texts("model", texts)
        for function in model.functions:
            self._texts("functions", (function.name, function.domain, *function.input))
            self._texts(f"function {function.name}", function.output)
            made = set(function.input)
            for node in function.node:
                self._node(node, made, NESTING_MAX)
        self._graph(model.graph, set(), NESTING_MAX)

    def _graph(self, graph: onnx.GraphProto, outer: set[str], depth: int) -> None:
        if depth < 0:
            raise InputError(
                self._path, "graph", f"subgraphs at most {NESTING_MAX} deep", "deeper ones"
            )
        for tensor in _tensors_of(graph):
            self._tensor(tensor)
        values = (*graph.input, *graph.output, *graph.value_info)
        self._texts("graph", (value.name for value in values))
        for value in values:
            self._value(value)
        names = constant_names(graph)
        made = outer | names | {value.name for value in graph.input}
        own = set(names)
        for node in graph.node:
            self._node(node, made, depth)
            for name in filter(None, node.output):
                if name in own:
                    raise InputError(
                        self._path, f"node {called(node)}", "outputs of names of its own", name
                    )
                own.add(name)
        unmade = [value.name for value in graph.output if value.name not in made]
        if unmade:
            raise InputError(self._path, "output", "a value that some node makes", unmade[0])

    def _node(self, node: onnx.NodeProto, made: set[str], depth: int) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise InputError(self._path, "graph", f"at most {NODES_MAX:,} nodes", "more")
        self._texts("node", (node.name, node.op_type, node.domain, *node.input, *node.output))
        place = f"node {called(node)}"
        if not node.op_type:
            raise InputError(self._path, place, "an operator", "none")
        for name in node.input:
            if name and name not in made:
                raise InputError(self._path, place, "inputs made before it", name)
        for attribute in node.attribute:
            self._texts(place, (attribute.name,))
            if attribute.HasField("t"):
                self._tensor(attribute.t)
            for tensor in attribute.tensors:
                self._tensor(tensor)
        for graph in subgraphs(node):
            self._graph(graph, made, depth - 1)
        made.update(filter(None, node.output))

    def _tensor(self, tensor: onnx.TensorProto) -> None:
        self._texts("initializer", (tensor.name,))
        place = f"initializer {tensor.name}"
        self._dims(place, tensor.dims)
        if tensor.data_type not in _BITS and tensor.data_type != onnx.TensorProto.STRING:
            raise InputError(self._path, place, "a type of ONNX", f"type {tensor.data_type}")
        if uses_external_data(tensor):
            self._texts(place, (text for pair in tensor.external_data for text in _pair(pair)))
            return
        count, needed = math.prod(tensor.dims), _bytes(tensor)
        if tensor.HasField("raw_data"):
            held, wanted = len(tensor.raw_data), needed
        else:
            held = max(len(getattr(tensor, field)) for field in _TYPED)
            wanted = count
            if tensor.data_type in _COMPLEX:
                wanted = 2 * count
            elif _BITS.get(tensor.data_type, 8) < 8:
                wanted = needed  # packed, a byte in each entry
        if wanted is not None and held != wanted:
            unit = "bytes" if tensor.HasField("raw_data") else "numbers"
            raise InputError(
                self._path, place, f"{wanted:,} {unit}, which its shape needs", f"{held:,}"
            )

    def _dims(self, place: str, dims: Iterable[int]) -> None:
        sizes = list(dims)
        if len(sizes) > RANK_MAX:
            raise InputError(self._path, place, f"at most {RANK_MAX} dimensions", len(sizes))
        if any(size < 0 for size in sizes):
            raise InputError(self._path, place, "sizes of at least 0", sizes)
        if math.prod(sizes) > TENSOR_NUMBERS_MAX:
            expected = f"at most {TENSOR_NUMBERS_MAX:,} numbers"
            raise InputError(self._path, place, expected, f"{math.prod(sizes):,}")

    def _value(self, value: onnx.ValueInfoProto) -> None:
        place = f"tensor {value.name}"
        dims = value.type.tensor_type.shape.dim
        if len(dims) > RANK_MAX:
            raise InputError(self._path, place, f"at most {RANK_MAX} dimensions", len(dims))
        self._texts(place, (dim.dim_param for dim in dims))
        # Sizes below 0 mean free ones to some exporters.
        known = math.prod(dim.dim_value for dim in dims if dim.dim_value > 0)
        if known > TENSOR_NUMBERS_MAX:
            expected = f"at most {TENSOR_NUMBERS_MAX:,} numbers"
            raise InputError(self._path, place, expected, f"{known:,}")

    def _texts(self, place: str, texts: Iterable[object]) -> None:
        for text in texts:
            # protobuf hands on as bytes what is no UTF-8.
            if not isinstance(text, str):
                raise InputError(self._path, place, "names in UTF-8", "other bytes")


_TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)


def _pair(pair: onnx.StringStringEntryProto) -> tuple[object, object]:
    return pair.key, pair.value


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
        dense = onnx.TensorProto(name=sparse.values.name, data_type=sparse.values.data_type)
        if math.prod(sparse.dims) > TENSOR_NUMBERS_MAX or any(size < 0 for size in sparse.dims):
            dense.dims.extend(sparse.dims)  # to be refused by its name
            yield dense


def called(node: onnx.NodeProto) -> str:
    """How messages call a node: by its name, or by what it makes."""
    return node.name or next(iter(node.output), "") or node.op_type


def _check_calls(model: onnx.ModelProto, path: Path) -> None:
    """Whether the functions can be put in place of their calls: no circle, and not too many."""
    bodies = {
        (function.domain, function.name, function.overload): function
        for function in model.functions
    }
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], chain: tuple[tuple[str, str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += 1 if key not in bodies else called_size(key, chain)
            for graph in subgraphs(node):
                total += size(graph.node, chain)
            if total > NODES_MAX:
                raise InputError(
                    path, "functions", f"at most {NODES_MAX:,} nodes when called", "more"
                )
        return total

    def called_size(key: tuple[str, str, str], chain: tuple[tuple[str, str, str], ...]) -> int:
        if key in chain:
            raise InputError(
                path, f"function {key[1]}", "functions that do not call themselves", "a circle"
            )
        if len(chain) >= NESTING_MAX:
            raise InputError(
                path, f"function {key[1]}", f"calls at most {NESTING_MAX} deep", "deeper ones"
            )
        if key not in sizes:
            sizes[key] = size(bodies[key].node, (*chain, key))
        return sizes[key]

    for key in bodies:
        called_size(key, ())
    size(model.graph.node, ())


def _constants_as_initialisers(graph: onnx.GraphProto) -> None:
    nodes = []
    for node in graph.node:
        for inner in subgraphs(node):
            _constants_as_initialisers(inner)
        constant = _constant(node)
        if constant is None:
            nodes.append(node)
        elif isinstance(constant, onnx.SparseTensorProto):
            graph.sparse_initializer.append(constant)
        else:
            graph.initializer.append(constant)
    if len(nodes) < len(graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | onnx.SparseTensorProto | None:
    """What a `Constant` node says, as an initialiser; None of other nodes, and of texts."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or not node.attribute:
        return None
    (attribute, *_), name = node.attribute, node.output[0]
    match attribute.name:
        case "value":
            made = onnx.TensorProto.FromString(attribute.t.SerializeToString())
            made.name = name
            return made
        case "sparse_value":
            sparse = onnx.SparseTensorProto.FromString(attribute.sparse_tensor.SerializeToString())
            sparse.values.name = name
            return sparse
        case "value_float" | "value_floats":
            floats: Iterable[float] = attribute.floats
            single = attribute.name == "value_float"
            array = np.array(attribute.f if single else list(floats), np.float32)
            return numpy_helper.from_array(array, name)
        case "value_int" | "value_ints":
            single = attribute.name == "value_int"
            numbers = np.array(attribute.i if single else list(attribute.ints), np.int64)
            return numpy_helper.from_array(numbers, name)
        case _:
            return None


def _name_free_dimensions(graph: onnx.GraphProto) -> None:
    """Give free dimensions of inputs names: a size that is not told is free (ONNX IR)."""
    taken = {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim}
    # What symbolic exporters write for an unknown size is no name of one size.
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            named = dim.dim_param not in ("", "?")
            if named or (dim.HasField("dim_value") and dim.dim_value > 0):
                continue
            if dim.HasField("dim_value") and dim.dim_value == 0 and axis > 0:
                continue  # truly empty, such as a cache without a past
            name = "batch" if axis == 0 else f"{value.name}_{axis}"
            while name in taken and axis > 0:
                name += "_"
            dim.dim_param = name
            taken.add(name)


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write a model by rename, so that no reader ever sees half a file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(model.SerializeToString(deterministic=True))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
