"""Where a model of any kind can be cut, and what each cut costs.

For every cut: what the device computes before it and the server after it, in GMAC, what travels
at each codec, and the state that each side keeps. Nothing is run: all follows from the graph and
from a number for each of its free sizes, which the result tells.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from edgepact.efficiency.partition import MACS_PER_GMAC
from edgepact.errors import InputError
from edgepact.framework import Sheet
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.counting import Count, Uncounted, node_counts, summed
from edgepact.inference.cuts import Cut, find_cuts
from edgepact.inference.gguf.file import read_gguf
from edgepact.inference.gguf.llama import llama_sizes, rest_macs_per_stage
from edgepact.inference.onnx_files import check_external_data, read_model
from edgepact.inference.sizes import LENGTH, Sizes, Value, fitting_sizes
from edgepact.inference.stages import stage_nodes
from edgepact.inference.wiring import Inputs, Wiring
from edgepact.palette import LOOKS
from edgepact.tables import Shown
from edgepact.tensors import DATATYPES, TensorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CODECS = ("fp32", "fp16", "int8")
"""Names of the built-in codecs, the one that takes most bytes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor of a model, at the sizes that the inspection was made for.

    Attributes:
        name: its name.
        datatype: as NumPy calls it.
        shape: its sizes; empty of a single number, None if not known before it runs.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None

    @property
    def bytes(self) -> int | None:
        """Its size as it is."""
        return None if self.shape is None else _bytes_as_it_is(self.datatype, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedCut:
    """One place at which the model can be cut in two.

    Attributes:
        tensors: what travels.
        device_gmac: computed before it; None if a node there cannot be counted.
        server_gmac: computed after it; both sides count what each makes for itself.
        bytes: what travels at each codec; None where a size is not known.
        device_state_bytes: state kept before it.
        server_state_bytes: state kept after it.
    """

    tensors: tuple[Tensor, ...]
    device_gmac: float | None
    server_gmac: float | None
    bytes: Mapping[str, int | None]
    device_state_bytes: int
    server_state_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection(Shown):
    """What a model is, and all cuts of it.

    Attributes:
        model: name of the file.
        data: inputs that travel from stage to stage.
        control: inputs that every stage gets.
        state: inputs that stay with their stage, and the output that follows each.
        sizes: the number that each free size of the inputs was taken for.
        assumed: sizes that only running tells, and what they were taken for.
        gmac: of the whole model; None if a node cannot be counted.
        packing_gmac: how much of it comes from the way in which weights are packed, which counts
            from the sizes of a model leave out.
        uncounted: nodes whose operations are not known, and why.
        control_bytes: of the control inputs together.
        cuts: in the order of computation.
    """

    model: str
    data: tuple[Tensor, ...]
    control: tuple[Tensor, ...]
    state: tuple[tuple[Tensor, str], ...]
    sizes: Mapping[str, int]
    assumed: Mapping[str, int]
    gmac: float | None
    uncounted: tuple[Uncounted, ...]
    control_bytes: int
    cuts: tuple[InspectedCut, ...] = field(repr=False)
    packing_gmac: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts, lists and tables that JSON has."""
        table: dict[str, Any] = {"model": self.model}
        table |= {"data": [_listed(each) for each in self.data]}
        table |= {"control": [_listed(each) for each in self.control]}
        table["state"] = [{**_listed(past), "present": present} for past, present in self.state]
        table |= {"sizes": dict(self.sizes), "assumed": dict(self.assumed), "gmac": self.gmac}
        table["packing_gmac"] = self.packing_gmac
        table["uncounted"] = [asdict(each) for each in self.uncounted]
        table["control_bytes"] = self.control_bytes
        table["cuts"] = [
            {
                "tensors": [_listed(each) for each in cut.tensors],
                "device_gmac": cut.device_gmac,
                "server_gmac": cut.server_gmac,
                "bytes": dict(cut.bytes),
                "device_state_bytes": cut.device_state_bytes,
                "server_state_bytes": cut.server_state_bytes,
            }
            for cut in self.cuts
        ]
        return table

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each cut, and what they were counted for below."""
        stateful = bool(self.state)
        head = ("name", "shape", "device GMAC", "server GMAC", *(f"{name} B" for name in CODECS))
        head = (*head, "state kept, B") if stateful else head
        rows = []
        for cut in self.cuts:
            row = [
                ",".join(each.name for each in cut.tensors),
                " + ".join(_sizes(each) for each in cut.tensors),
                _number(cut.device_gmac),
                _number(cut.server_gmac),
                *(_whole(cut.bytes[name]) for name in CODECS),
            ]
            if stateful:
                row.append(f"{cut.device_state_bytes:,} + {cut.server_state_bytes:,}")
            rows.append(tuple(row))
        return (
            Sheet(
                title=f"{self.model}: {len(self.cuts)} cuts, {_number(self.gmac)} GMAC in all",
                head=head,
                rows=tuple(rows),
                notes=tuple(self._notes()),
            ),
        )

    def _notes(self) -> Sequence[str]:
        notes = [f"data: {', '.join(f'{each.name} {_sizes(each)}' for each in self.data)}"]
        if self.control:
            names = ", ".join(each.name for each in self.control)
            notes.append(f"control, handed to every stage ({self.control_bytes:,} B): {names}")
        if self.state:
            notes.append(f"state, which stays with its stage: {len(self.state)} pairs")
        if self.sizes:
            chosen = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
            notes.append(f"counted at {chosen}; --size NAME=NUMBER counts at others")
        if self.assumed:
            chosen = ", ".join(f"{name}={size}" for name, size in self.assumed.items())
            notes.append(f"known only when it runs, and taken for {chosen}: --size tells better")
        if self.packing_gmac:
            notes.append(
                f"of it, {_number(self.packing_gmac)} GMAC for how the weights are packed; "
                "counts from the sizes of a model leave these out"
            )
        notes += [
            f"not counted: node {each.node} ({each.operator}): {each.reason}"
            for each in self.uncounted[:_NAMED_MAX]
        ]
        if len(self.uncounted) > _NAMED_MAX:
            notes.append(f"not counted: {len(self.uncounted) - _NAMED_MAX} more, see --json")
        return notes


_NAMED_MAX = 8


def inspection(
    path: Path,
    *,
    sizes: Mapping[str, int] | None = None,
    control: Sequence[str] | None = None,
    state: Mapping[str, str] | None = None,
    tensors_max: int | None = None,
) -> Inspection:
    """Look into an ONNX or GGUF file.

    Args:
        path: of the file; one that ends in `.gguf` is read as such.
        sizes: numbers for free sizes, by their names; the others get usual ones.
        control: names of the inputs that every stage gets; by default as the model says, else
            those that are usually called so.
        state: the present of each past; by default likewise.
        tensors_max: most tensors of a cut; by default one, or two where there is no cut of one.

    Raises:
        InputError: the file cannot be read, a name is none of its, or its shapes do not fit
            each other.
    """
    if path.suffix.lower() == ".gguf":
        return _of_gguf(path, sizes or {})
    model = read_model(path)
    check_external_data(model, path)
    inputs = Inputs.of(model, path, control=control, state=state)
    wiring = Wiring.of(model.graph, inputs, path)
    chosen = fitting_sizes(model, inputs, path, sizes)
    found = Sizes.of(model, chosen, path)
    counts = node_counts(wiring, found)
    whole = summed(counts, range(len(counts)))
    held = {past: _held(past, present, found) for past, present in inputs.state.items()}
    tensors = {name: _tensor(name, found) for name in wiring.kinds}
    return Inspection(
        model=path.name,
        data=tuple(tensors[name] for name in inputs.data),
        control=tuple(tensors[name] for name in inputs.control),
        state=tuple((tensors[past], present) for past, present in inputs.state.items()),
        sizes={name: size for name, size in chosen.items() if name not in found.assumed},
        assumed=dict(found.assumed),
        gmac=_gmac(whole),
        uncounted=whole.uncounted,
        control_bytes=sum(tensors[name].bytes or 0 for name in inputs.control),
        cuts=tuple(
            _inspected(cut, wiring, counts, tensors, held) for cut in find_cuts(wiring, tensors_max)
        ),
    )


def _of_gguf(path: Path, told: Mapping[str, int]) -> Inspection:
    """A llama model: cut after embed and after each block, one token after `past` others."""
    file = read_gguf(path)
    model = llama_sizes(file)
    unknown = sorted({*told} - {"length", "past"})
    if unknown:
        raise InputError(path, "size", "one of its free sizes (length, past)", unknown[0])
    length, past = told.get("length", 1), told.get("past", LENGTH)
    # A token sees all before it and itself: of several, on average, half of the others too.
    packing = rest_macs_per_stage(file, model)
    counts = zip(model.macs_per_stage(0), packing, strict=True)
    macs = [length * sum(each) for each in counts]
    seen = length * past + length * (length + 1) // 2
    macs[1:-1] = [each + 2 * seen * model.width for each in macs[1:-1]]
    kept = 2 * (past + length) * model.width_kv * DATATYPES["FP32"].itemsize
    pasts = [f"block_{block}" for block in range(1, model.blocks + 1)]
    cuts = []
    for block in range(model.blocks + 1):
        name = f"block_{block}" if block else "embed"
        handed = (Tensor(name=name, datatype="float32", shape=(1, length, model.width)),)
        cuts.append(
            InspectedCut(
                tensors=handed,
                device_gmac=sum(macs[: block + 1]) / MACS_PER_GMAC,
                server_gmac=sum(macs[block + 1 :]) / MACS_PER_GMAC,
                bytes={codec.name: _bytes(handed, codec.name) for codec in BUILT_IN},
                device_state_bytes=block * kept,
                server_state_bytes=(model.blocks - block) * kept,
            )
        )
    pair = (2, past, model.width_kv)
    return Inspection(
        model=path.name,
        data=(Tensor(name="token_ids", datatype="int64", shape=(1, length)),),
        control=(),
        state=tuple((Tensor(name=name, datatype="float32", shape=pair), name) for name in pasts),
        sizes={"length": length, "past": past},
        assumed={},
        gmac=sum(macs) / MACS_PER_GMAC,
        packing_gmac=length * sum(packing) / MACS_PER_GMAC,
        uncounted=(),
        control_bytes=0,
        cuts=tuple(cuts),
    )


def picture(found: Inspection) -> "Figure":
    """Every cut as a point: the device's share of the work, and what travels at each codec."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    axes = figure.subplots()
    known = [cut for cut in found.cuts if cut.device_gmac is not None]
    for codec, look in zip(CODECS, LOOKS, strict=False):
        points = [(cut.device_gmac, cut.bytes[codec]) for cut in known if cut.bytes[codec]]
        if points:
            axes.plot(*zip(*points, strict=True), label=codec, markersize=3.5, **look.line)
            axes.set_yscale("log")
    axes.set_xlabel("computed on the device, GMAC")
    axes.set_ylabel("handed over, bytes")
    axes.set_title(f"{found.model}: {len(found.cuts)} cuts")
    if axes.lines:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def model_file(model: Path) -> Path:
    """The graph to look into: the file itself, or the one in a folder.

    Raises:
        InputError: there is none, or several and none is called `image.onnx` or `model.onnx`.
    """
    if not model.is_dir():
        return model
    for folder in (model, model / "onnx"):
        for name in ("image.onnx", "model.onnx"):
            if (folder / name).is_file():
                return folder / name
        held = sorted(folder.iterdir()) if folder.is_dir() else []
        graphs = [path for path in held if path.suffix.lower() == ".onnx" and not _is_stage(path)]
        graphs += [path for path in held if path.suffix.lower() == ".gguf"]
        if len(graphs) == 1:
            return graphs[0]
        if graphs:
            names = ", ".join(path.name for path in graphs[:5])
            raise InputError(model, "", "one model; name the file", f"several: {names}")
    if any(map(_is_stage, model.glob("*.onnx"))):
        expected = "the model itself; edgepact profile counts and measures stages"
        raise InputError(model, "", expected, "stages of one that was cut")
    raise InputError(model, "", "a folder with an ONNX or GGUF file", "none in it")


def _is_stage(path: Path) -> bool:
    return path.name.startswith("stage_")


def _inspected(
    cut: Cut,
    wiring: Wiring,
    counts: Sequence[Count],
    tensors: Mapping[str, Tensor],
    held: Mapping[str, int],
) -> InspectedCut:
    device, server = (summed(counts, nodes) for nodes in stage_nodes(wiring, [cut]))
    handed = tuple(tensors[name] for name in cut.tensors)
    kept = sum(held[past] for past in cut.device_state)
    return InspectedCut(
        tensors=handed,
        device_gmac=_gmac(device),
        server_gmac=_gmac(server),
        bytes={codec.name: _bytes(handed, codec.name) for codec in BUILT_IN},
        device_state_bytes=kept,
        server_state_bytes=sum(held.values()) - kept,
    )


def _gmac(count: Count) -> float | None:
    return None if count.uncounted else count.macs / MACS_PER_GMAC


def _tensor(name: str, sizes: Sizes) -> Tensor:
    value = sizes.values.get(name, Value(elem_type=0, dims=None))
    dims = tuple(size for size in value.dims or () if size is not None)
    known = value.dims is not None and len(dims) == len(value.dims)
    return Tensor(name=name, datatype=_datatype(value), shape=dims if known else None)


def _datatype(value: Value) -> str:
    if value.elem_type in (0, onnx.TensorProto.STRING):
        return "unknown"
    return str(helper.tensor_dtype_to_np_dtype(value.elem_type))


def _held(past: str, present: str, sizes: Sizes) -> int:
    """Bytes of a state after a step; of the past where the present is not known."""
    after = _tensor(present, sizes).bytes
    return after or _tensor(past, sizes).bytes or 0


def _bytes(tensors: Sequence[Tensor], codec_name: str) -> int | None:
    (codec,) = (codec for codec in BUILT_IN if codec.name == codec_name)
    total = 0
    for tensor in tensors:
        if tensor.shape is None or tensor.datatype == "unknown":
            return None
        if tensor.datatype in ("float32", "float16", "bfloat16"):
            spec = TensorSpec(name=tensor.name, datatype="FP32", shape=tensor.shape, coded=True)
            total += sum(
                DATATYPES[packed.datatype].itemsize * math.prod(packed.shape)
                for packed in codec.packed([spec])
            )
        else:
            total += _bytes_as_it_is(tensor.datatype, tensor.shape)
    return total


def _bytes_as_it_is(datatype: str, shape: tuple[int, ...]) -> int:
    if datatype == "unknown":
        return 0
    wide = 2 if datatype == "bfloat16" else 1 if datatype.startswith("float8") else 0
    try:
        return math.prod(shape) * (wide or np.dtype(datatype).itemsize)
    except TypeError:  # types that NumPy does not know: of a byte or less
        return math.prod(shape)


def _listed(tensor: Tensor) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}


def _sizes(tensor: Tensor) -> str:
    return "?" if tensor.shape is None else "x".join(map(str, tensor.shape)) or "1"


def _number(gmac: float | None) -> str:
    return "unknown" if gmac is None else f"{gmac:.4g}"


def _whole(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
