"""What every value of a graph depends on: which of them a stage can make for itself.

Inputs are of three kinds. *Data* travels from stage to stage. *Control* (a mask, positions, a
timestep, a text vector) is handed to every stage as it is, and each recomputes what follows from
it. *State* comes in pairs, past and present, such as the keys and values of a block: a pair stays
with the one stage that reads the past and makes the present.

What nodes make is constant, a shape (made from sizes alone), control, state or data, whichever is
the strongest of what they read. All but data can be made anew by any stage that has the inputs.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from edgepact.errors import InputError, shown
from edgepact.inference.onnx_files import called, constant_names, reads

CONTROL_KEY = "edgepact.control"
"""Entry of a model's metadata: a JSON list of the inputs that are control."""

STATE_KEY = "edgepact.state"
"""Entry of a model's metadata: a JSON list of pairs of an input and an output."""

Kind = Literal["constant", "shape", "control", "state", "data"]

_STRENGTH: tuple[Kind, ...] = ("constant", "shape", "control", "state", "data")

RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Operators that draw: made anew they give something else, so what they give is data."""

_CONTROL = re.compile(
    r"(^|_)(mask|masks|positions?|position_ids|token_type_ids|timesteps?|sigma|guidance\w*|speed|"
    r"cache_position|seqlens_k|total_sequence_length|lengths?|scale|temperature)$"
)
_STATE = re.compile(r"past|cache|state|hidden|memory")
"""What the names of states say of themselves; `x_in` and `x_out` alone are none."""

_PASTS = (
    ("past_key_values", "present"),
    ("past_key_values", "present_key_values"),
    ("past", "present"),
    ("_in", "_out"),
    ("in_", "out_"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the inputs of a model are.

    Attributes:
        data: names of inputs that travel from stage to stage.
        control: names of inputs that every stage gets.
        state: name of the present of each past.
    """

    data: tuple[str, ...]
    control: tuple[str, ...] = ()
    state: Mapping[str, str]

    @classmethod
    def of(
        cls,
        model: onnx.ModelProto,
        path: Path,
        *,
        control: Sequence[str] | None = None,
        state: Mapping[str, str] | None = None,
    ) -> "Inputs":
        """As told, else as the model's metadata say, else by the usual names.

        Args:
            model: in its normal form.
            path: for errors.
            control: names of control inputs.
            state: the output that is the present of each past.

        Raises:
            InputError: a name is none of the model's, or no data is left.
        """
        names = [value.name for value in model.graph.input]
        outputs = [value.name for value in model.graph.output]
        pairs = _told_pairs(model, path) if state is None else dict(state)
        if pairs is None:
            pairs = _usual_pairs(model.graph)
        for past, present in pairs.items():
            _known(path, "state", past, names)
            _known(path, "state", present, outputs)
        if len(set(pairs.values())) < len(pairs):
            raise InputError(path, "state", "a present for each past", sorted(pairs.values()))
        told = _told_control(model, path) if control is None else list(control)
        for name in told or ():
            _known(path, "control", name, names)
        rest = [name for name in names if name not in pairs]
        if told is None:
            told = [name for name in rest if _CONTROL.search(name.lower())]
            told = told if len(told) < len(rest) else []
        data = tuple(name for name in rest if name not in told)
        if not data and names:
            raise InputError(path, "control", "an input that is data", "all are control or state")
        kept = tuple(name for name in rest if name in told)
        return cls(data=data, control=kept, state=pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The nodes that the outputs need, in order, and what each value depends on.

    Attributes:
        nodes: in the order of the file, which is one of computation.
        reads: what each of them reads.
        kinds: of every value.
        inputs: what the inputs are.
        outputs: names of the outputs that are no present of a state.
    """

    nodes: tuple[onnx.NodeProto, ...]
    reads: tuple[frozenset[str], ...]
    kinds: Mapping[str, Kind]
    inputs: Inputs
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, graph: onnx.GraphProto, inputs: Inputs, path: Path) -> "Wiring":
        """Follow the values of a graph in its normal form.

        Raises:
            InputError: a node or an output wants what nothing makes.
        """
        kinds: dict[str, Kind] = dict.fromkeys(constant_names(graph), "constant")
        kinds |= dict.fromkeys(inputs.data, "data")
        kinds |= dict.fromkeys(inputs.control, "control")
        kinds |= dict.fromkeys(inputs.state, "state")
        all_reads = [frozenset(reads(node)) for node in graph.node]
        for node, read in zip(graph.node, all_reads, strict=True):
            missing = sorted(name for name in read if name not in kinds)
            if missing:
                raise InputError(path, f"node {called(node)}", "inputs made before it", missing[0])
            kinds |= dict.fromkeys(filter(None, node.output), _kind(node, read, kinds))
        outputs = [value.name for value in graph.output]
        needed, nodes, kept = set(outputs), list[onnx.NodeProto](), list[frozenset[str]]()
        for node, read in zip(reversed(graph.node), reversed(all_reads), strict=True):
            if needed.intersection(node.output):
                nodes.append(node)
                kept.append(read)
                needed |= read
        presents = set(inputs.state.values())
        return cls(
            nodes=tuple(reversed(nodes)),
            reads=tuple(reversed(kept)),
            kinds=kinds,
            inputs=inputs,
            outputs=tuple(name for name in outputs if name not in presents),
        )

    def is_data(self, at: int) -> bool:
        """Whether the node at a place makes data: it runs in one stage and in no other."""
        return any(self.kinds[name] == "data" for name in self.nodes[at].output if name)

    def asks_size(self, at: int) -> bool:
        """Whether the node at a place asks for sizes only, not for the numbers."""
        return self.nodes[at].op_type in ("Shape", "Size") and not self.nodes[at].domain

    def data_reads(self, at: int) -> frozenset[str]:
        """The data that the node at a place reads; nothing if it asks for a shape only."""
        if not self.is_data(at):
            return frozenset()
        return frozenset(name for name in self.reads[at] if self.kinds[name] == "data")


def _kind(node: onnx.NodeProto, read: Iterable[str], kinds: Mapping[str, Kind]) -> Kind:
    if node.op_type in RANDOM and not node.domain:
        return "data"
    of_inputs = {kinds[name] for name in read}
    strongest: Kind = "constant"
    for kind in _STRENGTH:
        strongest = kind if kind in of_inputs else strongest
    if node.op_type in ("Shape", "Size") and not node.domain and strongest != "constant":
        return "shape"
    return strongest


def _known(path: Path, field: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        expected = f"one of {', '.join(names[:8])}"
        raise InputError(path, field, expected, name)


def _entry(model: onnx.ModelProto, key: str, path: Path) -> object:
    text = next((entry.value for entry in model.metadata_props if entry.key == key), None)
    if text is None:
        return None
    try:
        return json.loads(text)
    # ValueError: no JSON, or no text, which protobuf hands on as it is.
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"metadata_props[{key}]", "JSON", shown(text)) from error


def _told_control(model: onnx.ModelProto, path: Path) -> list[str] | None:
    found = _entry(model, CONTROL_KEY, path)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        field = f"metadata_props[{CONTROL_KEY}]"
        raise InputError(path, field, "a JSON list of names of inputs", shown(found))
    return found


def _told_pairs(model: onnx.ModelProto, path: Path) -> dict[str, str] | None:
    found = _entry(model, STATE_KEY, path)
    if found is None:
        return None
    if not isinstance(found, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        for pair in found
    ):
        field = f"metadata_props[{STATE_KEY}]"
        raise InputError(
            path, field, "a JSON list of pairs of an input and an output", shown(found)
        )
    return {past: present for past, present in found}


def _usual_pairs(graph: onnx.GraphProto) -> dict[str, str]:
    """Pairs by the names that exporters give, of equal type and number of dimensions."""
    outputs = {value.name: value.type.tensor_type for value in graph.output}
    pairs: dict[str, str] = {}
    for value in graph.input:
        for past, present in _PASTS:
            name = value.name.replace(past, present, 1)
            found = outputs.get(name)
            if past not in value.name or found is None or name in pairs.values():
                continue
            if past != "past_key_values" and not _STATE.search(value.name.lower()):
                continue
            own = value.type.tensor_type
            ranks = (len(own.shape.dim), len(found.shape.dim))
            told = own.HasField("shape") and found.HasField("shape")
            if own.elem_type == found.elem_type and (not told or ranks[0] == ranks[1]):
                pairs[value.name] = name
                break
    return pairs if len(pairs) < len(graph.input) else {}
