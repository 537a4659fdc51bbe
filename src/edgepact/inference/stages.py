"""Writing the stages of a cut model, and running them one after another.

Stages are written as graphs only. All of them, and the whole model, read one weight file; hence
they lie in one flat folder, since ONNX Runtime refuses external data outside the model's folder.
Graphs are cut before ONNX Runtime fuses nodes, never after: a fused graph has lost its cuts.

A stage makes for itself what is constant, a shape, or follows from control. A shape of a tensor
outside the stage is rebuilt from the sizes of what the stage gets. Tensors of half precision are
handed on as float32, which holds them exactly, so that every codec can pack them. What exporters
noted down for themselves stays behind.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from edgepact.errors import InputError
from edgepact.inference.cuts import Cut, state_spans
from edgepact.inference.onnx_files import called, first_line, subgraphs
from edgepact.inference.sizes import Relations, Sizes
from edgepact.inference.wiring import Wiring

STAGE_KEY = "edgepact.stage"
ROLES_KEY = "edgepact.roles"

_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_ROUNDING = {False: 1e-3, True: 2e-2}
"""Largest difference between whole and stages, as a share of the largest number: of float32,
where fusions inside one session may differ from those inside the other, and of half precision,
where a stage hands on what the whole keeps in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a cut model.

    Attributes:
        takes: tensors that it needs of the stage before, or of the model's data.
        control: inputs of the model that it reads besides.
        state: presents of the pasts that it keeps.
        gives: tensors that it makes for later stages, or as outputs of the model.
        nodes: indices in the wiring of all nodes that it runs, those that it makes anew included.
        model: ready to be written.
    """

    takes: tuple[str, ...]
    control: tuple[str, ...]
    state: Mapping[str, str]
    gives: tuple[str, ...]
    nodes: tuple[int, ...]
    model: onnx.ModelProto


def stage_nodes(wiring: Wiring, cuts: Sequence[Cut]) -> list[tuple[int, ...]]:
    """Indices of the nodes that each stage runs, in order, made anew where several need them.

    A shape of a tensor that another stage makes is rebuilt from sizes and has no node here.
    """
    spans = state_spans(wiring)
    found = []
    for number, (start, stop) in enumerate(_ranges(wiring, cuts)):
        takes, last = _ends(wiring, cuts, number)
        needed, nodes = {*last} | set(_owned(wiring, spans, start, stop).values()), []
        inside = _inside(wiring, spans, start, stop, takes)
        for at in range(len(wiring.nodes) - 1, -1, -1):
            node = wiring.nodes[at]
            data = wiring.is_data(at)
            if needed.isdisjoint(node.output) or (data and not start < at <= stop):
                continue
            if wiring.asks_size(at) and not data and node.input[0] not in inside:
                continue
            nodes.append(at)
            needed |= wiring.reads[at]
        found.append(tuple(reversed(nodes)))
    return found


def _ranges(wiring: Wiring, cuts: Sequence[Cut]) -> list[tuple[int, int]]:
    """For each stage the place before its first node, and that of its last."""
    places = [-1, *(cut.after for cut in cuts), len(wiring.nodes)]
    return list(itertools.pairwise(places))


def _ends(
    wiring: Wiring, cuts: Sequence[Cut], number: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is handed to a stage, and what it has to hand on."""
    handed = [wiring.inputs.data, *(cut.tensors for cut in cuts), wiring.outputs]
    return handed[number], handed[number + 1]


def _owned(
    wiring: Wiring, spans: Mapping[str, tuple[int, int]], start: int, stop: int
) -> dict[str, str]:
    """The state that a stage keeps: presents by their pasts."""
    return {
        past: present
        for past, present in wiring.inputs.state.items()
        if past in spans and start < spans[past][0] <= stop
    }


def _inside(
    wiring: Wiring,
    spans: Mapping[str, tuple[int, int]],
    start: int,
    stop: int,
    takes: Sequence[str],
) -> set[str]:
    """Values that a stage has or can make: all but the data and the states of other stages."""
    own = _owned(wiring, spans, start, stop)
    elsewhere = {past for past in wiring.inputs.state if past not in own}
    if start >= 0:
        elsewhere |= set(wiring.inputs.data)
    for at, node in enumerate(wiring.nodes):
        if wiring.is_data(at):
            foreign = not start < at <= stop
        else:
            foreign = not wiring.asks_size(at) and not wiring.reads[at].isdisjoint(elsewhere)
        if foreign:
            elsewhere.update(filter(None, node.output))
    return {*wiring.kinds} - elsewhere | {*takes}


def make_stages(
    model: onnx.ModelProto, wiring: Wiring, relations: Relations, cuts: Sequence[Cut], path: Path
) -> list[Stage]:
    """Stages between the cuts, one more than there are cuts.

    Args:
        model: in its normal form.
        wiring: of its graph.
        relations: of its sizes.
        cuts: in the order of computation.
        path: of the model, for errors.

    Raises:
        InputError: a stage would need a size that nothing it gets has.
    """
    spans = state_spans(wiring)
    stages = []
    ranges = _ranges(wiring, cuts)
    for number, nodes in enumerate(stage_nodes(wiring, cuts)):
        start, stop = ranges[number]
        takes, wanted = _ends(wiring, cuts, number)
        own = _owned(wiring, spans, start, stop)
        maker = _Maker(
            model=model,
            wiring=wiring,
            relations=relations,
            path=path,
            takes=takes,
            own=tuple(own),
            inside=_inside(wiring, spans, start, stop, takes),
        )
        made = {name for at in nodes for name in wiring.nodes[at].output if name}
        gives = tuple(name for name in wanted if name in made and name not in takes)
        stages.append(maker.stage(number, nodes, gives, own))
    return stages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    model: onnx.ModelProto
    wiring: Wiring
    relations: Relations
    path: Path
    takes: tuple[str, ...]
    own: tuple[str, ...]
    inside: set[str]

    def stage(
        self, number: int, nodes: Sequence[int], gives: tuple[str, ...], state: Mapping[str, str]
    ) -> Stage:
        wiring = self.wiring
        written: list[onnx.NodeProto] = []
        asked: set[str] = set()
        needed = {name for at in nodes for name in wiring.reads[at]}
        for at, node in enumerate(wiring.nodes):
            outside = wiring.asks_size(at) and node.input[0] not in self.inside
            if outside and node.output[0] in needed and not wiring.is_data(at):
                written += self._rebuilt(node, asked)
        written += [onnx.NodeProto.FromString(wiring.nodes[at].SerializeToString()) for at in nodes]
        used = {name for at in nodes for name in wiring.reads[at]} | asked
        takes = tuple(name for name in self.takes if name in used)
        control = tuple(name for name in wiring.inputs.control if name in used)
        pasts = tuple(past for past in self.own if past in used)
        presents = tuple(state.values())
        casts = {
            name: self._type(name)
            for name in dict.fromkeys((*takes, *gives))
            if self._type(name) in _HALF and name not in presents
        }
        written = _handed_on_as_float32(written, takes, gives, casts)
        ends = [self._info(name, half=False) for name in (*takes, *control)]
        ends += [self._info(name, half=True) for name in pasts]
        outs = [self._info(name, half=False) for name in gives]
        outs += [self._info(name, half=True) for name in presents]
        graph = helper.make_graph(
            written,
            f"stage {number}",
            ends,
            outs,
            [tensor for tensor in self.model.graph.initializer if tensor.name in used],
            sparse_initializer=[
                tensor
                for tensor in self.model.graph.sparse_initializer
                if tensor.values.name in used
            ],
        )
        part = helper.make_model(
            graph,
            ir_version=self.model.ir_version,
            opset_imports=self.model.opset_import,
            producer_name="edgepact",
        )
        roles = {"takes": takes, "control": control, "state": list(state.items()), "gives": gives}
        helper.set_model_props(part, {STAGE_KEY: str(number), ROLES_KEY: json.dumps(roles)})
        return Stage(
            takes=takes,
            control=control,
            state=dict(state),
            gives=gives,
            nodes=tuple(nodes),
            model=part,
        )

    def _type(self, name: str) -> int:
        found = self.relations.walks[0].values.get(name)
        elem_type = 0 if found is None else found.elem_type
        if not elem_type:
            raise self._untyped(name)
        return elem_type

    def _untyped(self, name: str) -> InputError:
        """Says from which node on types are not known."""
        values = self.relations.walks[0].values
        unknown, found = {name}, None
        for node in reversed(self.wiring.nodes):
            if not unknown.isdisjoint(node.output):
                found = node
                unknown = {
                    each for each in node.input if each in values and not values[each].elem_type
                }
                if not unknown:
                    break
        if found is None:
            return InputError(self.path, f"tensor {name}", "a type that can be inferred", "none")
        domain = f"{found.domain}." if found.domain not in ("", "ai.onnx") else ""
        expected = f"an operator whose results have types that can be inferred, for tensor {name}"
        return InputError(self.path, f"node {called(found)}", expected, f"{domain}{found.op_type}")

    def _info(self, name: str, *, half: bool) -> onnx.ValueInfoProto:
        """A stage's input or output; what its sizes are called is what the model calls them."""
        symbols = self.relations.symbols(name)
        elem_type = self._type(name)
        if elem_type in _HALF and not half and name not in self.wiring.inputs.control:
            elem_type = onnx.TensorProto.FLOAT
        return helper.make_tensor_value_info(name, elem_type, symbols)

    def _rebuilt(self, node: onnx.NodeProto, asked: set[str]) -> Iterator[onnx.NodeProto]:
        """The shape of a tensor outside the stage, made from the sizes of what the stage gets."""
        result = node.output[0]
        traces = self.relations.traces(node.input[0])
        place = f"node {called(node)}"
        if traces is None:
            raise InputError(self.path, place, f"a known rank of {node.input[0]}", "none")
        limits = {attribute.name: attribute.i for attribute in node.attribute}
        pieces = []
        for at, trace in enumerate(traces[limits.get("start", 0) : limits.get("end")]):
            piece = f"{result}/size_{at}"
            pieces.append(piece)
            number = self.relations.symbol(trace)
            if isinstance(number, int):
                yield _literal(piece, [number])
                continue
            source, axis = self._having(trace, place)
            asked.add(source)
            shape = f"{piece}/of"
            yield helper.make_node("Shape", [source], [shape])
            yield _literal(f"{piece}/axis", [axis])
            yield helper.make_node("Gather", [shape, f"{piece}/axis"], [piece], axis=0)
        if node.op_type == "Shape":
            yield (
                helper.make_node("Concat", pieces, [result], axis=0)
                if pieces
                else _literal(result, [])
            )
            return
        yield helper.make_node("Concat", pieces, [f"{result}/sizes"], axis=0)
        yield helper.make_node("ReduceProd", [f"{result}/sizes"], [result], keepdims=0)

    def _having(self, trace: Sequence[int | None], place: str) -> tuple[str, int]:
        """An input of the stage, and its axis, that has this size whatever the free ones are."""
        candidates = (*self.takes, *self.wiring.inputs.control, *self.own)
        for name in candidates if None not in trace else ():
            for axis, other in enumerate(self.relations.traces(name) or ()):
                if tuple(other) == tuple(trace):
                    return name, axis
        wanted = "an unknown size" if None in trace else f"a size like {trace[0]}"
        raise InputError(
            self.path, place, f"sizes that follow from the tensor {self.takes[0]}", wanted
        )


def _literal(name: str, numbers: list[int]) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array(numbers, np.int64))
    return helper.make_node("Constant", [], [name], value=value)


def _handed_on_as_float32(
    nodes: list[onnx.NodeProto],
    takes: Sequence[str],
    gives: Sequence[str],
    casts: Mapping[str, int],
) -> list[onnx.NodeProto]:
    """Cast tensors of half precision where they come in and go out."""
    if not casts:
        return nodes
    inner = {name: f"{name}/half" for name in casts}
    for node in nodes:
        _rename(node, inner)
    before = [
        helper.make_node("Cast", [name], [inner[name]], to=casts[name])
        for name in takes
        if name in casts
    ]
    after = [
        helper.make_node("Cast", [inner[name]], [name], to=onnx.TensorProto.FLOAT)
        for name in gives
        if name in casts
    ]
    return [*before, *nodes, *after]


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for field in (node.input, node.output):
        for at, name in enumerate(field):
            field[at] = names.get(name, name)
    for graph in subgraphs(node):
        for inner in graph.node:
            _rename(inner, names)
        for value in graph.output:
            value.name = names.get(value.name, value.name)


class Chain:
    """Stages run one after another, for checks and for jobs that are in no hurry.

    Args:
        stages: their files, first to last.
        optimised: whether ONNX Runtime may fuse nodes.

    Raises:
        InputError: ONNX Runtime cannot load a stage.
    """

    def __init__(self, stages: Sequence[Path], *, optimised: bool = True) -> None:
        self._sessions = [plain_session(path, optimised=optimised) for path in stages]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All that the stages gave, and the presents of the states.

        Args:
            feeds: data, control and pasts by their names.
        """
        values = dict(feeds)
        for session in self._sessions:
            names = [tensor.name for tensor in session.get_outputs()]
            given = {tensor.name: values[tensor.name] for tensor in session.get_inputs()}
            values |= zip(names, session.run(names, given), strict=True)
        return values


def plain_session(path: Path, *, optimised: bool) -> ort.InferenceSession:
    """A session of one thread; without optimisation it computes what the graph says, step by step.

    Raises:
        InputError: ONNX Runtime cannot load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own.
        expected = "a model that ONNX Runtime can load"
        raise InputError(path, "", expected, first_line(error)) from error


def probe(
    model: onnx.ModelProto, sizes: Sizes, wiring: Wiring, path: Path, seed: int = 0
) -> dict[str, np.ndarray]:
    """Numbers for all inputs of a model, at the sizes of a walk: noise, small ids, open masks."""
    drawn = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        dims = sizes.dims(value.name)
        shape = tuple(size for size in dims or () if size is not None)
        if dims is None or len(shape) < len(dims):
            raise InputError(path, f"input {value.name}", "known sizes", "none")
        try:
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        except KeyError as error:
            raise InputError(path, f"input {value.name}", "numbers", "another type") from error
        noise = drawn.standard_normal(shape)
        if value.name in wiring.inputs.control or dtype == np.bool_:
            noise = np.ones(shape)
        elif not np.issubdtype(dtype, np.floating):
            noise = np.abs(noise)
        feeds[value.name] = noise.astype(dtype)
    return feeds


def check_chain(
    path: Path, stages: Sequence[Path], feeds: Mapping[str, np.ndarray], wiring: Wiring, half: bool
) -> None:
    """Run whole model and stages; they must agree, each graph step by step as it is written.

    Raises:
        InputError: they differ, or one of them cannot be run.
    """
    outputs = [*wiring.outputs, *wiring.inputs.state.values()]
    whole = plain_session(path, optimised=False)
    chain = Chain(stages, optimised=False)
    handed = {
        name: number.astype(np.float32)
        if _is_half(number) and name in wiring.inputs.data
        else number
        for name, number in feeds.items()
    }
    try:
        expected = dict(zip(outputs, whole.run(outputs, dict(feeds)), strict=True))
        found = chain.run(handed)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own.
        if isinstance(error, InputError):
            raise
        raise InputError(
            path, "graph", "a model that takes a batch of any size", first_line(error)
        ) from error
    for name, right in expected.items():
        if not agrees(np.asarray(right), np.asarray(found[name]), _ROUNDING[half]):
            raise InputError(
                path,
                "stages",
                "the output of the whole model",
                f"another {name}: the model cannot be cut so",
            )


def _is_half(array: np.ndarray) -> bool:
    return array.dtype == np.float16 or array.dtype.name == "bfloat16"


def agrees(expected: np.ndarray, found: np.ndarray, rounding: float) -> bool:
    """Whether two results are the same within rounding, as a share of the largest number."""
    if expected.shape != found.shape:
        return False
    if expected.dtype.kind not in "fV":
        return bool(np.array_equal(expected, found))
    wide = expected.astype(np.float64)
    if not np.array_equal(np.isfinite(wide), np.isfinite(found.astype(np.float64))):
        return False
    finite = np.isfinite(wide)
    largest = float(np.abs(wide[finite]).max(initial=0.0))
    apart = float(np.abs(wide[finite] - found.astype(np.float64)[finite]).max(initial=0.0))
    return apart <= rounding * largest + 1e-12 or math.isclose(apart, 0.0, abs_tol=1e-7)


def uses_half(wiring: Wiring, sizes: Sizes) -> bool:
    """Whether any data is of half precision."""
    return any(
        sizes.values[name].elem_type in _HALF
        for name, kind in wiring.kinds.items()
        if kind == "data" and name in sizes.values
    )
