"""Where the image encoder of a model folder can be cut, and cutting it there.

A device that runs L layers sends one tensor, so an image encoder is split at the tensors through
which everything that depends on the image must pass (`cuts`), in stages that all read one weight
file (`stages`). Models of other kinds, with several tensors at a cut, control and state, use
those rooms directly; this one knows `image.onnx`, where it says it wants to be cut, and the
stages that lie beside it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from edgepact.errors import InputError, shown
from edgepact.inference.counting import node_counts, summed
from edgepact.inference.cuts import Cut, chosen_cuts, find_cuts
from edgepact.inference.onnx_files import (
    bring_external_data,
    check_external_data,
    load,
    normal_form,
    read_model,
    write,
)
from edgepact.inference.pipeline import IMAGE_GRAPH, LAYERS_MAX, stage_path
from edgepact.inference.sizes import Relations, Sizes, free_sizes, usual_sizes
from edgepact.inference.stage_folder import STAGES_JSON
from edgepact.inference.stage_writing import described
from edgepact.inference.stages import (
    STAGE_KEY,
    Stage,
    check_chain,
    make_stages,
    probe,
    stage_nodes,
    uses_half,
)
from edgepact.inference.wiring import Inputs, Wiring

__all__ = [
    "BOUNDARIES_KEY",
    "STAGE_KEY",
    "boundaries",
    "choose_boundaries",
    "cut",
    "cut_file",
    "cut_names",
    "macs_per_stage",
    "single_tensor_cuts",
]

BOUNDARIES_KEY = "edgepact.boundaries"


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
    model = read_model(path)
    wiring = Wiring.of(model.graph, Inputs.of(model, path), path)
    return tuple(cut.tensors[0] for cut in find_cuts(wiring, 1))


def cut_names(
    path: Path, control: Sequence[str] | None = None, state: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """All cuts of a model as `--at` takes them: of one tensor, or of two where it has none of one.

    Raises:
        InputError: as `cut_file`.
    """
    model = read_model(path)
    inputs = Inputs.of(model, path, control=control, state=state)
    return tuple(cut.name for cut in find_cuts(Wiring.of(model.graph, inputs, path)))


def boundaries(path: Path) -> tuple[str, ...]:
    """Names of the tensors at which the model says it wants to be cut.

    They stand in the model's metadata as a JSON list under
    `edgepact.boundaries`: the output of embed, of block 1, ..., of block L_max.

    Raises:
        InputError: the list is missing or malformed, or names a tensor that is
            not a single-tensor cut, or is out of order.
    """
    _, cuts = _chosen(read_model(path), path)
    return tuple(cut.tensors[0] for cut in cuts)


def choose_boundaries(model_dir: Path, names: Sequence[str]) -> None:
    """Write into `image.onnx` where it is to be cut; `cut` then does it.

    Args:
        model_dir: holds `image.onnx`.
        names: the output of embed, of block 1, ..., of block L_max.

    Raises:
        InputError: the model cannot be read, or cannot be cut there in this order.
    """
    path = model_dir / IMAGE_GRAPH
    model = load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, kept | {BOUNDARIES_KEY: json.dumps(list(names))})
    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    _chosen(normal_form(checked, path), path)
    write(model, path)


def cut(model_dir: Path) -> tuple[Path, ...]:
    """Write `stage_00.onnx`, `stage_01.onnx`, ... beside `image.onnx`.

    The chain of stages is run on a batch of two, or of one where the model takes no other, and
    compared with the whole model before any file gets its final name: a size of one that was
    frozen into the graph, or a wrong cut, ends here and not at a customer. Files of an
    earlier cut are replaced one by one by rename, so that no reader ever sees
    half a file.

    Args:
        model_dir: holds `image.onnx` with one input, one output, and the list of its boundaries.

    Returns:
        Paths of the stage files, stage 0 (embed) first.

    Raises:
        InputError: the model cannot be cut as it asks.
    """
    path = model_dir / IMAGE_GRAPH
    model = read_model(path)
    check_external_data(model, path)
    wiring, cuts = _chosen(model, path)
    batch = _batch(model, path)
    relations = Relations.of(model, wiring.inputs, path)
    stages = make_stages(model, wiring, relations, cuts, path)
    for tensors in cuts:
        _check_batch_first(relations, tensors.tensors[0], batch, path)

    usual = usual_sizes(model, wiring.inputs)
    if isinstance(batch, str):
        usual[batch] = 2
    return _written(model, wiring, stages, path, model_dir, [usual])


def cut_file(
    path: Path,
    at: Sequence[Sequence[str]],
    folder: Path,
    *,
    control: Sequence[str] | None = None,
    state: Mapping[str, str] | None = None,
    name: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write the stages of a model of any kind: `stage_00.onnx`, ... in a folder.

    Each stage says in its metadata, under `edgepact.roles`, what it takes, which control it
    reads, which state it keeps, and what it gives; `stages.Chain` runs them. Whole and stages are
    run and compared before any file gets its name. `stages.json` beside them says what a job needs
    to know (`stage_folder`); a model with state, or with tensors that cannot travel, has none.

    Args:
        path: an ONNX file.
        at: tensors of each cut, in the order of computation.
        folder: for the stages; weight files are copied there if it is another one.
        control: names of inputs that every stage gets; by default as `Inputs.of` finds them.
        state: the present of each past; likewise.
        name: of the model; by default the file's.
        reading: how files become its inputs, for `stages.json`; by default nothing is said.

    Returns:
        Paths of the stage files in order.

    Raises:
        InputError: the file cannot be read, or cannot be cut there.
    """
    model = read_model(path)
    check_external_data(model, path)
    inputs = Inputs.of(model, path, control=control, state=state)
    wiring = Wiring.of(model.graph, inputs, path)
    cuts = chosen_cuts(wiring, at, path, "--at")
    if len(cuts) > LAYERS_MAX:
        raise InputError(path, "--at", f"at most {LAYERS_MAX} cuts", len(cuts))
    relations = Relations.of(model, inputs, path)
    stages = make_stages(model, wiring, relations, cuts, path)
    folder.mkdir(parents=True, exist_ok=True)
    bring_external_data(model, path, folder)
    # Short sequences first: many models know few positions.
    short = usual_sizes(model, inputs, length=16)
    written = _written(model, wiring, stages, path, folder, [short, relations.free[0]])
    (folder / STAGES_JSON).unlink(missing_ok=True)
    found = described(model, wiring, relations, cuts, path, folder, name=name, reading=reading)
    if found is not None:
        found.write()
    return written


def _written(
    model: onnx.ModelProto,
    wiring: Wiring,
    stages: Sequence[Stage],
    path: Path,
    folder: Path,
    tries: Sequence[Mapping[str, int]],
) -> tuple[Path, ...]:
    """Stage files that have been run and compared with the whole model.

    Args:
        model: in its normal form.
        wiring: of its graph.
        stages: to be written.
        path: of the model.
        folder: for the stages.
        tries: free sizes to run it at; the next ones where it does not run at the first.
    """
    finished = [stage_path(folder, stage) for stage in range(len(stages))]
    drafts = [target.with_name(f".{target.name}.{os.getpid()}") for target in finished]
    try:
        for stage, draft in zip(stages, drafts, strict=True):
            draft.write_bytes(stage.model.SerializeToString(deterministic=True))
        for at, free in enumerate(tries, 1):
            try:
                sizes = Sizes.of(model, free, path)
                feeds = probe(model, sizes, wiring, path)
                check_chain(path, drafts, feeds, wiring, uses_half(wiring, sizes))
                break
            except InputError:
                if at == len(tries):
                    raise
        for draft, target in zip(drafts, finished, strict=True):
            draft.replace(target)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    for left_over in sorted(set(folder.glob("stage_[0-9][0-9].onnx")) - set(finished)):
        left_over.unlink()
    return tuple(finished)


def macs_per_stage(model_dir: Path) -> tuple[int, ...]:
    """Multiply-accumulate operations of each stage for one image.

    What is counted, and what counts as 0, says `counting`.

    Raises:
        InputError: the model cannot be read, or a node cannot be counted.
    """
    path = model_dir / IMAGE_GRAPH
    model = read_model(path)
    wiring, cuts = _chosen(model, path)
    _batch(model, path)
    sizes = Sizes.of(model, usual_sizes(model, wiring.inputs), path)
    for name in sizes.assumed:
        expected = "sizes that follow from those of its input"
        raise InputError(path, f"size {name}", expected, "one that only running tells")
    counts = node_counts(wiring, sizes)
    totals = []
    for nodes in stage_nodes(wiring, cuts):
        total = summed(counts, nodes)
        for missing in total.uncounted[:1]:
            expected = f"operations of {missing.operator} that can be counted"
            raise InputError(path, f"node {missing.node}", expected, f"none: {missing.reason}")
        totals.append(total.macs)
    return tuple(totals)


def _chosen(model: onnx.ModelProto, path: Path) -> tuple[Wiring, tuple[Cut, ...]]:
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
    wiring = Wiring.of(model.graph, Inputs.of(model, path), path)
    inputs, outputs = len(model.graph.input), len(model.graph.output)
    if (inputs, outputs) != (1, 1):
        raise InputError(path, "graph", "one input and one output", f"{inputs} and {outputs}")
    return wiring, chosen_cuts(wiring, [[name] for name in names], path, field)


def _batch(model: onnx.ModelProto, path: Path) -> int | str:
    """What the first dimension of the input is: a free size, or 1."""
    (value,) = model.graph.input
    dims = value.type.tensor_type.shape.dim
    if dims and dims[0].dim_param:
        free = [name for name in free_sizes(model) if name != dims[0].dim_param]
        if free:
            expected = "fixed sizes after the batch"
            raise InputError(path, f"input {value.name}", expected, f"the free size {free[0]}")
        return str(dims[0].dim_param)
    if dims and dims[0].dim_value == 1:
        return 1
    found = f"the fixed size {dims[0].dim_value}" if dims else "a scalar"
    expected = "a symbolic batch dimension first, or one of 1"
    raise InputError(path, f"input {value.name}", expected, found)


def _check_batch_first(relations: Relations, name: str, batch: int | str, path: Path) -> None:
    symbols = relations.symbols(name)
    if not symbols or symbols[0] != batch:
        found = list(symbols) if symbols else "an unknown shape"
        raise InputError(path, f"tensor {name}", f"the batch dimension {batch!r} first", found)
