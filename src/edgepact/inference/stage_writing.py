"""What `stages.json` says of a model that is being cut, and cuts that share its computing evenly.

Needs the ONNX package, as all cutting does; what reads the file does not (`stage_folder`).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgepact.errors import InputError
from edgepact.inference.counting import node_counts, summed
from edgepact.inference.cuts import Cut, find_cuts
from edgepact.inference.onnx_files import check_external_data, read_model
from edgepact.inference.sizes import Relations, Sizes, fitting_sizes
from edgepact.inference.stage_folder import NAME_CHARS_MAX, WIRE, Handed, StageFolder
from edgepact.inference.stages import stage_nodes
from edgepact.inference.wiring import Inputs, Wiring

_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def described(
    model: onnx.ModelProto,
    wiring: Wiring,
    relations: Relations,
    cuts: Sequence[Cut],
    path: Path,
    folder: Path,
    *,
    name: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> StageFolder | None:
    """What is to be said of a model.

    Args:
        model: in its normal form.
        wiring: of its graph.
        relations: of its sizes.
        cuts: in the order of computation.
        path: of the model.
        folder: of its stages.
        name: of the model; by default the file's.
        reading: how files become its inputs.

    Returns:
        None where the model has state, or a tensor is of a type that cannot travel.
    """
    if wiring.inputs.state:
        return None
    describe = _Describer(relations)
    try:
        inputs = [describe.handed(name, half=False) for name in wiring.inputs.data]
        inputs += [describe.handed(name, half=True, control=True) for name in wiring.inputs.control]
        handed = [tuple(describe.handed(name, half=False) for name in cut.tensors) for cut in cuts]
        outputs = [describe.handed(name, half=False) for name in wiring.outputs]
    except _CannotTravel:
        return None
    macs, uncounted, sizes = _counted(model, wiring, cuts, path)
    # One piece at a time: a size that comes first in what has several is the batch.
    batches = {
        each.shape[0]: 1
        for each in inputs
        if len(each.shape) > 1 and isinstance(each.shape[0], str)
    }
    return StageFolder(
        folder=folder,
        name=name or _named(path),
        inputs=tuple(inputs),
        cuts=tuple(handed),
        outputs=tuple(outputs),
        macs=macs,
        uncounted=uncounted,
        sizes=sizes,
        most={str(size): most for size, most in batches.items()},
        reading=dict(reading or {}),
    )


def even_cuts(
    path: Path,
    stages: int,
    *,
    control: Sequence[str] | None = None,
    state: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Tensors of cuts that make stages of about equal computing, as many as there can be.

    Of the cuts that lie about as near to an even share the one is taken that hands on least.

    Args:
        path: an ONNX file.
        stages: that are wanted, 2 or more.
        control: names of inputs that every stage gets; by default as `Inputs.of` finds them.
        state: the present of each past; likewise.

    Raises:
        InputError: the file cannot be read or cut.
    """
    model = read_model(path)
    check_external_data(model, path)
    inputs = Inputs.of(model, path, control=control, state=state)
    wiring = Wiring.of(model.graph, inputs, path)
    cuts = find_cuts(wiring)
    if not cuts:
        raise InputError(path, "graph", "a place at which it can be cut", "none")
    sizes = Sizes.of(model, fitting_sizes(model, inputs, path), path)
    counts = node_counts(wiring, sizes)
    whole = max(summed(counts, range(len(counts))).macs, 1)
    done = [summed(counts, stage_nodes(wiring, [cut])[0]).macs / whole for cut in cuts]
    chosen: list[int] = []
    for number in range(1, stages):
        first = chosen[-1] + 1 if chosen else 0
        left = [at for at in range(first, len(cuts)) if done[at] < 1.0 or number == stages - 1]
        if not left:
            break
        share = number / stages
        nearest = min(abs(done[at] - share) for at in left)
        near = [at for at in left if abs(done[at] - share) <= nearest + 0.2 / stages]
        chosen.append(min(near, key=lambda at: (_numbers(cuts[at], sizes), done[at])))
    return tuple(cuts[at].tensors for at in chosen)


# ---------------------------------------------------------------- private


class _CannotTravel(Exception):
    """A tensor's type has no place in the protocol."""


class _Describer:
    def __init__(self, relations: Relations) -> None:
        self._relations = relations

    def handed(self, name: str, *, half: bool, control: bool = False) -> Handed:
        found = self._relations.walks[0].values.get(name)
        elem_type = 0 if found is None else found.elem_type
        if elem_type in _HALF and not half:  # stages hand it on as float32
            elem_type = onnx.TensorProto.FLOAT
        try:
            dtype = helper.tensor_dtype_to_np_dtype(elem_type).name
        except KeyError:
            raise _CannotTravel from None
        symbols = self._relations.symbols(name)
        if dtype not in WIRE or symbols is None:
            raise _CannotTravel
        shape = [
            f"{name}[{axis}]"[-NAME_CHARS_MAX:] if size is None else size
            for axis, size in enumerate(symbols)
        ]
        return Handed(name=name, dtype=dtype, shape=tuple(shape), control=control)


def _counted(
    model: onnx.ModelProto, wiring: Wiring, cuts: Sequence[Cut], path: Path
) -> tuple[tuple[int, ...] | None, str, dict[str, int]]:
    """Operations of each stage; why they are not known, if so; the sizes they were counted at."""
    free = fitting_sizes(model, wiring.inputs, path)
    sizes = Sizes.of(model, free, path)
    counts = node_counts(wiring, sizes)
    totals = [summed(counts, nodes) for nodes in stage_nodes(wiring, cuts)]
    told = dict(free) | dict(sizes.assumed)
    for total in totals:
        for missing in total.uncounted[:1]:
            return None, f"node {missing.node}: {missing.operator}: {missing.reason}", told
    return tuple(total.macs for total in totals), "", told


def _numbers(cut: Cut, sizes: Sizes) -> int:
    """How many numbers a cut hands on; very many where that is not known."""
    count = 0
    for name in cut.tensors:
        dims = sizes.dims(name)
        known = [size for size in dims or (None,) if size is not None]
        count += int(np.prod(known)) if dims is not None and len(known) == len(dims) else 1 << 40
    return count


def _named(path: Path) -> str:
    """A file's name in the letters that models are named in."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:NAME_CHARS_MAX]
    return name or "model"
