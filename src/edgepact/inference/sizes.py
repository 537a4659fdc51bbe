"""How large every value of a graph is, once the free sizes of its inputs have numbers.

One walk over the nodes with numbers in place of symbols: ONNX's own rules tell the shape of each
output, and what follows from sizes and small constants is computed on the way, so that a
`Reshape` or `Tile` whose target is made in the graph has a known result. Sizes that only running
the model can tell, such as the frames of a spoken sentence, begin at a few operators; there they
are taken for a number by name, and that is told (`Sizes.assumed`).

Walks with different numbers say which sizes go together (`Relations`), without any algebra.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from edgepact.errors import InputError
from edgepact.inference.onnx_files import (
    SMALL_NUMBERS_MAX,
    TENSOR_NUMBERS_MAX,
    called,
    first_line,
    small_value,
)
from edgepact.inference.wiring import Inputs

Dims = tuple[int | None, ...]
"""Sizes of a value; None where a size is not known."""

SIZE_MAX = 2**31 - 1

PICTURE_SIZE = 224
LENGTH = 128
LENGTHS = (LENGTH, 64, 32, 16, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value of a graph.

    Attributes:
        elem_type: its ONNX type; 0 if unknown or no tensor.
        dims: its sizes; None if not even their number is known.
    """

    elem_type: int
    dims: Dims | None

    def known(self) -> bool:
        """Whether all sizes are numbers."""
        return self.dims is not None and None not in self.dims


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of all values of a graph, for one choice of the free ones.

    Attributes:
        values: every value by its name.
        numbers: small values that follow from sizes and constants.
        inner: sizes inside the subgraphs of nodes, by the first output and the attribute.
        assumed: names of sizes that only running tells, and what they were taken for.
        path: of the model, for errors.
    """

    values: Mapping[str, Value]
    numbers: Mapping[str, np.ndarray]
    inner: Mapping[tuple[str, str], "Sizes"]
    assumed: Mapping[str, int]
    path: Path

    @classmethod
    def of(
        cls, model: onnx.ModelProto, free: Mapping[str, int], path: Path, *, apart: int = 0
    ) -> "Sizes":
        """Walk over a model in its normal form.

        Args:
            model: of which the sizes are wanted.
            free: a number for each free size of its inputs, and for sizes that only running
                tells, by their names.
            path: of the model, for errors and small external constants.
            apart: by how much sizes that only running tells, and `free` does not name, differ
                from each other; by default all are `LENGTH`.

        Raises:
            InputError: shapes that do not fit each other, or a value that is too large.
        """
        return _Walk(model, free, path, apart).done()

    def dims(self, name: str) -> Dims | None:
        """Sizes of a value; None if unknown."""
        found = self.values.get(name)
        return None if found is None else found.dims


def free_sizes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the free sizes of a model's inputs, in their order."""
    names = dict.fromkeys(
        dim.dim_param
        for value in model.graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    )
    return tuple(names)


def usual_sizes(
    model: onnx.ModelProto,
    inputs: Inputs,
    *,
    length: int = LENGTH,
    told: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """A number for each free size: one item, pictures of 224 pixels, sequences of 128.

    Of a model with state it is one step after 128 others, and a mask is as long as both.

    Args:
        model: in its normal form.
        inputs: what its inputs are.
        length: of sequences.
        told: sizes that are wanted otherwise.
    """
    sizes: dict[str, int] = {}
    masks = []
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if not dim.dim_param:
                continue
            if axis == 0:
                usual = 1
            elif len(dims) == 4 and value.name in inputs.data and axis >= 2:
                usual = PICTURE_SIZE
            elif inputs.state and value.name not in inputs.state:
                usual = 1
                if value.name in inputs.control and "mask" in value.name.lower():
                    masks.append(dim.dim_param)
            else:
                usual = length
            sizes.setdefault(dim.dim_param, usual)
    sizes |= {name: size for name, size in (told or {}).items() if name in sizes}
    past, step = _axis_names(model, inputs.state), _axis_names(model, inputs.data)
    for name in masks:
        if name not in (told or {}) and past and name not in (*past, *step):
            sizes[name] = sizes[past[0]] + (sizes[step[0]] if step else 1)
    return sizes


def _axis_names(model: onnx.ModelProto, names: Iterable[str]) -> list[str]:
    """Free sizes of these inputs that are not their first one."""
    return [
        dim.dim_param
        for value in model.graph.input
        if value.name in names
        for dim in list(value.type.tensor_type.shape.dim)[1:]
        if dim.dim_param
    ]


def fitting_sizes(
    model: onnx.ModelProto, inputs: Inputs, path: Path, told: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The usual sizes, with shorter sequences where the model takes none of 128.

    Raises:
        InputError: the shapes do not fit each other at any of these lengths, or a size that is
            told is none of the model's.
    """
    refused: InputError | None = None
    for length in LENGTHS:
        sizes = usual_sizes(model, inputs, length=length, told=told)
        try:
            walked = Sizes.of(model, sizes | dict(told or {}), path)
        except InputError as error:
            refused = refused or error
            continue
        # Of those that only running tells, one that is told is assumed no more.
        unknown = sorted({*(told or {})} - {*sizes} - {*walked.assumed} - _named_inside(model))
        if unknown:
            known = ", ".join((*sizes, *walked.assumed)) or "none: all sizes are fixed"
            raise InputError(path, "size", f"one of its free sizes ({known})", unknown[0])
        return sizes | dict(told or {})
    assert refused is not None
    raise refused


def _named_inside(model: onnx.ModelProto) -> set[str]:
    """Names of sizes of tensors between the inputs and the outputs, and of the outputs."""
    values = (*model.graph.value_info, *model.graph.output)
    return {dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim} - {""}


def other_sizes(
    model: onnx.ModelProto, inputs: Inputs, sizes: Mapping[str, int], turn: int, coarse: bool
) -> dict[str, int]:
    """Numbers that differ from each other and from turn to turn, for `Relations`."""
    changed = {}
    step = 16 if coarse else 1
    for at, (name, size) in enumerate(sizes.items()):
        if size == PICTURE_SIZE:
            changed[name] = max(32, size - 32 * turn * (1 + at % 3))
        elif size <= 2:
            changed[name] = size + turn + 5 * at
        else:
            changed[name] = max(1, size - step * turn * (1 + at))
    free = {name: size for name, size in changed.items() if not _is_sum(model, inputs, name)}
    return usual_sizes(model, inputs, told=free)


def _is_sum(model: onnx.ModelProto, inputs: Inputs, name: str) -> bool:
    """Whether a free size is that of past and present together: only masks have it."""
    with_state = bool(inputs.state)
    elsewhere = (*_axis_names(model, inputs.state), *_axis_names(model, inputs.data))
    return with_state and name in _axis_names(model, inputs.control) and name not in elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """Which sizes of a graph are fixed, which are free ones, and which are the same.

    Attributes:
        walks: sizes for several choices of the free ones; the first is the usual one.
        free: these choices.
    """

    walks: tuple[Sizes, ...]
    free: tuple[Mapping[str, int], ...]

    @classmethod
    def of(cls, model: onnx.ModelProto, inputs: Inputs, path: Path) -> "Relations":
        """Walk thrice, or once where nothing is free.

        Raises:
            InputError: as `Sizes.of`.
        """
        usual = fitting_sizes(model, inputs, path)
        first = Sizes.of(model, usual, path)
        if not usual and not first.assumed:
            return cls(walks=(first,), free=(usual,))
        refused: InputError | None = None
        for coarse in (False, True):
            choices = [other_sizes(model, inputs, usual, turn, coarse) for turn in (1, 2)]
            try:
                walks = [
                    Sizes.of(model, choice, path, apart=turn)
                    for turn, choice in enumerate(choices, 1)
                ]
            except InputError as error:
                refused = error
                continue
            return cls(walks=(first, *walks), free=(usual, *choices))
        assert refused is not None
        raise refused

    def traces(self, name: str) -> tuple[tuple[int | None, ...], ...] | None:
        """For each dimension of a value its size in every walk; None if their number is unknown."""
        found = [walk.dims(name) for walk in self.walks]
        ranks = {None if dims is None else len(dims) for dims in found}
        if None in ranks or len(ranks) != 1:
            return None
        return tuple(zip(*(dims for dims in found if dims is not None), strict=True))

    def symbol(self, trace: Sequence[int | None]) -> int | str | None:
        """What a dimension is by its sizes in all walks: a number, a free size, or neither."""
        if None in trace:
            return None
        if len(set(trace)) == 1 and len(self.walks) > 1:
            return trace[0]
        for name in self.free[0]:
            if tuple(trace) == tuple(choice[name] for choice in self.free):
                return name
        return trace[0] if len(self.walks) == 1 else None

    def symbols(self, name: str) -> tuple[int | str | None, ...] | None:
        """What the dimensions of a value are; None if not even their number is known."""
        traces = self.traces(name)
        return None if traces is None else tuple(self.symbol(trace) for trace in traces)


_FOLDED = frozenset(
    """
    Abs Add And Cast Ceil Concat ConstantOfShape Div Equal Expand Floor Gather Greater
    GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg Not Or Range ReduceMax
    ReduceMin ReduceProd ReduceSum Reshape Round Shape Size Slice Split Sqrt Squeeze Sub Tile
    Transpose Unsqueeze Where
    """.split()  # noqa: SIM905
)
"""Operators of which sizes are made; they are computed where all that they read is known."""

_REARRANGED = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that leave the numbers and their order; `onnx.reference` fails at old versions."""

_RULED_BY_NUMBERS = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Range", "Unique"})
"""Operators whose result is as long as the numbers say that they read."""

_SAME_AS_FIRST = frozenset(
    """
    BiasAdd BiasGelu DequantizeLinear EmbedLayerNormalization FastGelu Gelu LayerNormalization
    QLinearAdd QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear
    QuickGelu RotaryEmbedding SimplifiedLayerNormalization SkipLayerNormalization
    SkipSimplifiedLayerNormalization
    """.split()  # noqa: SIM905
)
"""Operators of ONNX Runtime's own whose result is as large as what they read first."""


class _Walk:
    def __init__(
        self, model: onnx.ModelProto, free: Mapping[str, int], path: Path, apart: int
    ) -> None:
        self._model, self._path, self._apart = model, path, apart
        self._free = dict(free)
        self._opsets = {
            entry.domain if entry.domain != "ai.onnx" else "": entry.version
            for entry in model.opset_import
        }
        self._imports = [
            helper.make_opsetid(domain, version) for domain, version in self._opsets.items()
        ]
        self._values: dict[str, Value] = {}
        self._numbers: dict[str, np.ndarray] = {}
        self._inner: dict[tuple[str, str], Sizes] = {}
        self._assumed: dict[str, int] = {}
        self._is_free = bool(free_sizes(model))
        self._meant: dict[str, int | None] = dict(self._free)

    def done(self) -> Sizes:
        graph = self._model.graph
        for value in graph.input:
            self._values[value.name] = self._input(value)
        self._graph(graph)
        return self._sizes()

    def _sizes(self) -> Sizes:
        return Sizes(
            values=self._values,
            numbers=self._numbers,
            inner=self._inner,
            assumed=self._assumed,
            path=self._path,
        )

    def _input(self, value: onnx.ValueInfoProto) -> Value:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            return Value(elem_type=tensor.elem_type, dims=None)
        dims = tuple(
            self._free.get(dim.dim_param) if dim.dim_param else max(dim.dim_value, 0)
            for dim in tensor.shape.dim
        )
        made = Value(elem_type=tensor.elem_type, dims=dims)
        self._bounded(f"input {value.name}", made)
        return made

    def _graph(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            self._values[tensor.name] = Value(elem_type=tensor.data_type, dims=tuple(tensor.dims))
            number = small_value(tensor, self._path)
            if number is not None:
                self._numbers[tensor.name] = number
        for sparse in graph.sparse_initializer:
            self._values[sparse.values.name] = Value(
                elem_type=sparse.values.data_type, dims=tuple(sparse.dims)
            )
        declared = {value.name: value for value in (*graph.value_info, *graph.output)}
        for node in graph.node:
            for name, value in self._made(node).items():
                if not name:
                    continue
                known = self._declared(value, declared.get(name))
                self._bounded(f"node {called(node)}", known)
                self._values[name] = known
            self._fold(node)
            if node.op_type in _RULED_BY_NUMBERS:
                self._ruled(node, declared)

    def _declared(self, value: Value, told: onnx.ValueInfoProto | None) -> Value:
        """Fill in what no rule gave from what the file declares: numbers, and named sizes.

        A name means what it meant where a rule did give its size. Numbers are those of the sizes
        that the exporter traced, so they count only where the inputs leave nothing free.
        """
        tensor = None if told is None else told.type.tensor_type
        if tensor is None or not tensor.HasField("shape"):
            return value
        dims = value.dims or (None,) * len(tensor.shape.dim)
        if len(dims) != len(tensor.shape.dim):
            return value
        filled = []
        for size, dim in zip(dims, tensor.shape.dim, strict=True):
            name = "" if dim.dim_param == "?" else dim.dim_param
            if name and size is not None and self._meant.setdefault(name, size) != size:
                self._meant[name] = None  # not the name of one size
            if size is None and name:
                size = self._meant.get(name)
            elif size is None and dim.dim_value > 0 and not self._is_free:
                size = dim.dim_value
            filled.append(size)
        return Value(elem_type=value.elem_type or tensor.elem_type, dims=tuple(filled))

    def _ruled(self, node: onnx.NodeProto, declared: Mapping[str, onnx.ValueInfoProto]) -> None:
        """Sizes that hang on the numbers themselves: those told, else assumed and named."""
        for name in filter(None, node.output):
            value = self._values[name]
            if value.dims is None or value.known():
                continue
            told = declared.get(name)
            params = [dim.dim_param for dim in told.type.tensor_type.shape.dim] if told else []
            sizes = []
            for axis, size in enumerate(value.dims):
                if size is None:
                    called_so = params[axis] if axis < len(params) and params[axis] else name
                    size = self._free.get(called_so)
                    if size is None:
                        size = LENGTH - self._apart * (1 + len(self._assumed))
                    self._assumed[called_so] = self._free[called_so] = size
                    self._meant.setdefault(called_so, size)
                sizes.append(size)
            self._values[name] = Value(elem_type=value.elem_type, dims=tuple(sizes))

    def _bounded(self, place: str, value: Value) -> None:
        sizes = [size for size in value.dims or () if size is not None]
        if any(size < 0 for size in sizes):
            raise InputError(self._path, place, "sizes of at least 0", sizes)
        count = math.prod(sizes) if value.known() else 0
        if count > TENSOR_NUMBERS_MAX or any(size > SIZE_MAX for size in sizes):
            expected = f"at most {TENSOR_NUMBERS_MAX:,} numbers"
            raise InputError(self._path, place, expected, f"sizes {sizes}")

    def _made(self, node: onnx.NodeProto) -> dict[str, Value]:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            return _own_rule(node, self)
        match node.op_type:
            case "If":
                return self._if(node)
            case "Loop" | "Scan" | "SequenceMap":
                return self._loop(node)
            case "Range":
                return self._range(node)
            case "Constant":
                return {node.output[0]: Value(elem_type=onnx.TensorProto.STRING, dims=None)}
        return self._by_rule(node)

    def _by_rule(self, node: onnx.NodeProto) -> dict[str, Value]:
        unknown = {name: Value(elem_type=0, dims=None) for name in node.output if name}
        version = self._opsets.get("", 0)
        try:
            schema = onnx.defs.get_schema(node.op_type, version, "")
        except onnx.defs.SchemaError as error:
            expected = f"operators of version {version} of ONNX"
            raise InputError(self._path, f"node {called(node)}", expected, node.op_type) from error
        types, data = {}, {}
        for name in filter(None, node.input):
            value = self._values[name]
            if not value.elem_type:
                continue
            types[name] = _type_proto(value)
            if name in self._numbers:
                data[name] = numpy_helper.from_array(self._numbers[name], name)
        try:
            made = shape_inference.infer_node_outputs(
                schema, node, types, data, None, self._imports, self._model.ir_version
            )
        except Exception as error:  # ONNX's inference raises several kinds, without a base
            if len(types) < len(set(filter(None, node.input))):
                return unknown
            expected = f"shapes that {node.op_type} takes"
            raise InputError(
                self._path, f"node {called(node)}", expected, first_line(error)
            ) from error
        return unknown | {name: _of_type_proto(found) for name, found in made.items()}

    def _range(self, node: onnx.NodeProto) -> dict[str, Value]:
        (made,) = node.output
        elem_type = self._values[node.input[0]].elem_type
        ends = [self._numbers.get(name) for name in node.input]
        if any(end is None or end.size != 1 for end in ends):
            return {made: Value(elem_type=elem_type, dims=(None,))}
        start, limit, step = (float(end.reshape(())) for end in ends if end is not None)
        if not step or not all(map(math.isfinite, (start, limit, step))):
            raise InputError(self._path, f"node {called(node)}", "a step that is not 0", step)
        return {made: Value(elem_type=elem_type, dims=(max(0, math.ceil((limit - start) / step)),))}

    def _within(
        self, graph: onnx.GraphProto, inputs: Mapping[str, Value], key: tuple[str, str]
    ) -> Sizes:
        """Sizes inside a subgraph, which sees all that stands outside it."""
        walk = _Walk(self._model, self._free, self._path, self._apart)
        walk._meant = self._meant
        walk._assumed = self._assumed
        walk._values, walk._numbers = dict(self._values) | dict(inputs), dict(self._numbers)
        for name in inputs:
            walk._numbers.pop(name, None)
        walk._graph(graph)
        self._inner[key] = found = walk._sizes()
        return found

    def _if(self, node: onnx.NodeProto) -> dict[str, Value]:
        branches = {
            attribute.name: attribute.g for attribute in node.attribute if attribute.HasField("g")
        }
        if set(branches) != {"then_branch", "else_branch"}:
            expected = "a then_branch and an else_branch"
            raise InputError(self._path, f"node {called(node)}", expected, sorted(branches))
        found = {
            name: self._within(graph, {}, (node.output[0], name))
            for name, graph in branches.items()
        }
        choice = self._numbers.get(node.input[0])
        taken = tuple(branches)
        if choice is not None and choice.size == 1:
            taken = ("then_branch",) if bool(choice.reshape(())) else ("else_branch",)
        made: dict[str, Value] = {}
        for at, name in enumerate(node.output):
            values = []
            for branch in taken:
                outputs = branches[branch].output
                if at >= len(outputs):
                    place = f"node {called(node)}"
                    raise InputError(self._path, place, "outputs of each branch", len(outputs))
                values.append(found[branch].values.get(outputs[at].name))
            made[name] = _common(values)
        return made

    def _loop(self, node: onnx.NodeProto) -> dict[str, Value]:
        """Sizes inside the body; those of what comes out are left to what the file declares."""
        for attribute in node.attribute:
            if not attribute.HasField("g"):
                continue
            body, given = attribute.g, list(node.input)
            carried: dict[str, Value] = {}
            for at, value in enumerate(body.input):
                outer = self._values.get(given[at]) if at < len(given) else None
                if node.op_type == "Loop" and at < 2:
                    known = Value(elem_type=value.type.tensor_type.elem_type, dims=())
                elif node.op_type == "Loop" and outer is not None:
                    known = outer
                elif node.op_type == "Scan" and outer is not None and outer.dims is not None:
                    states = len(body.input) - _attribute(node, "num_scan_inputs", 0)
                    known = outer
                    if at >= states:
                        axes = _integers(node, "scan_input_axes") or [0] * len(body.input)
                        axis = axes[at - states] if at - states < len(axes) else 0
                        left = list(outer.dims)
                        if -len(left) <= axis < len(left):
                            left.pop(axis)
                        known = Value(elem_type=outer.elem_type, dims=tuple(left))
                else:
                    known = self._input(value)
                carried[value.name] = known
            self._within(body, carried, (node.output[0], attribute.name))
        return {name: Value(elem_type=0, dims=None) for name in node.output if name}

    def _fold(self, node: onnx.NodeProto) -> None:
        if node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx"):
            return
        values = [self._values[name] for name in node.output if name]
        if not all(value.known() for value in values):
            return
        if any(math.prod(value.dims or ()) > SMALL_NUMBERS_MAX for value in values):  # type: ignore[arg-type]
            return
        if node.op_type in ("Shape", "Size"):
            dims = self._values[node.input[0]].dims
            if dims is None or (None in dims and node.op_type == "Size"):
                return
            start = _attribute(node, "start", 0)
            end = _attribute(node, "end", len(dims))
            if node.op_type == "Size":
                self._numbers[node.output[0]] = np.array(math.prod(dims), np.int64)  # type: ignore[arg-type]
            elif None not in dims[start:end]:
                self._numbers[node.output[0]] = np.array(dims[start:end], np.int64)
            return
        if not all(name in self._numbers for name in node.input if name):
            return
        given = {name: self._numbers[name] for name in node.input if name}
        if node.op_type in _REARRANGED:
            (value,) = values
            self._numbers[node.output[0]] = given[node.input[0]].reshape(value.dims or ())  # type: ignore[arg-type]
            return
        try:
            with np.errstate(all="ignore"):
                made = ReferenceEvaluator(node, opsets=self._opsets).run(None, given)
        except Exception:  # whatever it cannot compute stays unknown, and is named if it is needed
            return
        for name, number in zip(node.output, made, strict=False):
            if name and isinstance(number, np.ndarray | np.generic):
                self._numbers[name] = np.asarray(number)

    def value(self, name: str) -> Value:
        return self._values.get(name, Value(elem_type=0, dims=None))

    def number(self, name: str) -> np.ndarray | None:
        return self._numbers.get(name)


def _own_rule(node: onnx.NodeProto, walk: _Walk) -> dict[str, Value]:
    """Shapes of ONNX Runtime's own operators, as its documentation of them says."""
    made = {name: Value(elem_type=0, dims=None) for name in node.output if name}
    if not node.input or not node.output:
        return made
    first = walk.value(node.input[0])
    operator, result = node.op_type, node.output[0]
    if operator in _SAME_AS_FIRST:
        made[result] = first
        if operator.startswith("Skip") and len(node.output) > 3 and node.output[3]:
            made[node.output[3]] = first
    elif operator in ("MatMulNBits", "MatMulBnb4") and first.dims:
        made[result] = Value(
            elem_type=first.elem_type, dims=(*first.dims[:-1], _attribute(node, "N", 0))
        )
    elif operator in ("FusedMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        second = walk.value(node.input[1])
        if first.dims and second.dims and len(second.dims) >= 2:
            rows = first.dims[-1] if _attribute(node, "transA", 0) else first.dims[-2:-1]
            rows = rows if isinstance(rows, tuple) else (rows,)
            columns = second.dims[-2] if _attribute(node, "transB", 0) else second.dims[-1]
            batch = first.dims[:-2] if len(first.dims) >= len(second.dims) else second.dims[:-2]
            made[result] = Value(elem_type=onnx.TensorProto.FLOAT, dims=(*batch, *rows, columns))
    elif operator in ("MultiHeadAttention", "Attention", "QAttention", "GroupQueryAttention"):
        made |= _attention_rule(node, walk, first)
    return made


def _attention_rule(node: onnx.NodeProto, walk: _Walk, first: Value) -> dict[str, Value]:
    made: dict[str, Value] = {}
    if not first.dims or len(first.dims) != 3:
        return made
    batch, rows, width = first.dims
    if node.op_type == "GroupQueryAttention":
        heads, shared = _attribute(node, "num_heads", 1), _attribute(node, "kv_num_heads", 1)
        packed = len(node.input) < 2 or not node.input[1]
        if packed and width is not None:
            width = width * heads // (heads + 2 * shared)
        for past, present in zip(node.input[3:5], node.output[1:3], strict=False):
            before = walk.value(past).dims if past else None
            if present and before and len(before) == 4:
                total = walk.number(node.input[6]) if len(node.input) > 6 else None
                length = before[2]
                if total is not None and length is not None:
                    length = max(length, int(total.reshape(-1)[0]))
                dims = (before[0], before[1], length, before[3])
                made[present] = Value(elem_type=walk.value(past).elem_type, dims=dims)
    elif node.op_type in ("Attention", "QAttention"):
        weights = walk.value(node.input[1]).dims
        sizes = _integers(node, "qkv_hidden_sizes")
        columns = weights[-1] if weights else None
        width = sizes[2] if len(sizes) == 3 else None if columns is None else columns // 3
    elif len(node.input) > 2 and node.input[2]:
        values = walk.value(node.input[2]).dims
        if values is not None and len(values) == 4:
            width = None if None in values else math.prod(values[1::2])  # type: ignore[arg-type]
        elif values is not None and len(values) == 3:
            width = values[2]
    made[node.output[0]] = Value(elem_type=first.elem_type, dims=(batch, rows, width))
    return made


def _common(values: Sequence[Value | None]) -> Value:
    first = values[0] if values else None
    if first is None or any(value is None for value in values):
        return Value(elem_type=0, dims=None)
    dims = first.dims
    for value in values[1:]:
        other = None if value is None else value.dims
        if dims is None or other is None or len(dims) != len(other):
            dims = None
        else:
            dims = tuple(a if a == b else None for a, b in zip(dims, other, strict=True))
    return Value(elem_type=first.elem_type, dims=dims)


def _attribute(node: onnx.NodeProto, name: str, otherwise: int) -> int:
    return next((item.i for item in node.attribute if item.name == name), otherwise)


def _integers(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(item.ints) for item in node.attribute if item.name == name), [])


def _type_proto(value: Value) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(value.elem_type, value.dims)


def _of_type_proto(found: onnx.TypeProto) -> Value:
    tensor = found.tensor_type
    if not found.HasField("tensor_type"):
        return Value(elem_type=0, dims=None)
    if not tensor.HasField("shape"):
        return Value(elem_type=tensor.elem_type, dims=None)
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Value(elem_type=tensor.elem_type, dims=dims)
