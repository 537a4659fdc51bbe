"""What the image encoder of a model folder weighs, stage by stage: parameters, bytes, MACs.

Bytes are those of the files that a device must have. Zeros among the weights do not make
them fewer, so they are counted twice more: as a general compressor would send them, and in
a sparse encoding.
"""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from edgepact.errors import InputError
from edgepact.framework import Sheet
from edgepact.inference import graph
from edgepact.inference.pipeline import IMAGE_GRAPH, ModelInfo, stage_path
from edgepact.tables import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFootprint:
    """One stage of a model.

    Attributes:
        ends_with: name of the tensor that it hands on, where the model can be cut.
        parameters: numbers among its weights; scales and zero points of a quantised
            model count, targets of reshapes do not.
        zeros: how many of them are 0.
        graph_bytes: size of the stage's file, small constants included.
        weight_bytes: what it reads of the weight file.
        macs: multiply-accumulate operations for an image.
        deflated_bytes: file and weights after zlib.
        sparse_bytes: file and weights, with every matrix that gets smaller so written as
            one bit an entry and the entries that are not 0.
    """

    ends_with: str
    parameters: int
    zeros: int
    graph_bytes: int
    weight_bytes: int
    macs: int
    deflated_bytes: int
    sparse_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint(Shown):
    """The image encoder of a model folder.

    Attributes:
        model: its name.
        stages: embed, blocks, head. A weight that two of them read counts in both.
    """

    model: str
    stages: tuple[StageFootprint, ...]

    @property
    def parameters(self) -> int:
        """Numbers among the weights."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def zeros(self) -> int:
        """How many of them are 0."""
        return sum(stage.zeros for stage in self.stages)

    @property
    def weight_bytes(self) -> int:
        """Weights in the weight file."""
        return sum(stage.weight_bytes for stage in self.stages)

    @property
    def bytes(self) -> int:
        """Stage files and weights: what a device needs to run all layers."""
        return self.weight_bytes + sum(stage.graph_bytes for stage in self.stages)

    @property
    def deflated_bytes(self) -> int:
        """The same after zlib."""
        return sum(stage.deflated_bytes for stage in self.stages)

    @property
    def sparse_bytes(self) -> int:
        """The same with sparse matrices."""
        return sum(stage.sparse_bytes for stage in self.stages)

    @property
    def macs(self) -> int:
        """Operations for an image."""
        return sum(stage.macs for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts, lists and tables that JSON has."""
        totals = ("parameters", "zeros", "bytes", "weight_bytes", "deflated_bytes", "sparse_bytes")
        table: dict[str, Any] = {"model": self.model}
        table |= {name: getattr(self, name) for name in (*totals, "macs")}
        return table | {"stages": [asdict(stage) for stage in self.stages]}

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each stage, and the sums."""
        last = len(self.stages) - 1
        rows = [
            (
                "embed" if at == 0 else "head" if at == last else f"block {at}",
                stage.ends_with,
                f"{stage.parameters:,}",
                f"{stage.graph_bytes + stage.weight_bytes:,}",
                f"{stage.macs:,}",
            )
            for at, stage in enumerate(self.stages)
        ]
        rows.append(("all", "", f"{self.parameters:,}", f"{self.bytes:,}", f"{self.macs:,}"))
        head = ("stage", "ends with", "parameters", "bytes", "MAC")
        return (Sheet(title=f"{self.model}: image encoder", head=head, rows=tuple(rows)),)


def footprint(model_dir: Path) -> Footprint:
    """Count a model folder; nothing is run.

    Raises:
        InputError: the model cannot be read, or is not cut as its graph says.
    """
    macs = graph.macs_per_stage(model_dir)
    ends = (*graph.boundaries(model_dir / IMAGE_GRAPH), "")
    return Footprint(
        model=ModelInfo.read(model_dir).name,
        stages=tuple(
            _stage(stage_path(model_dir, at), end, count)
            for at, (end, count) in enumerate(zip(ends, macs, strict=True))
        ),
    )


def _stage(path: Path, end: str, macs: int) -> StageFootprint:
    try:
        file = path.read_bytes()
        tensors = onnx.load_from_string(file).graph
        outside = [tensor for tensor in tensors.initializer if uses_external_data(tensor)]
        for tensor in outside:
            load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(path, "", "a stage with its weights", reason) from error
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors.initializer}
    # 64-bit integers are shapes and axes; weights are never so wide.
    numbers = [array for array in arrays.values() if array.dtype != np.int64]
    numbers += [numpy_helper.to_array(sparse.values) for sparse in tensors.sparse_initializer]
    weights = [arrays[tensor.name] for tensor in outside]
    weight_bytes = sum(array.nbytes for array in weights)
    deflated = zlib.compress(b"".join(array.tobytes() for array in weights))
    matrices = [array for array in arrays.values() if array.ndim > 1]
    return StageFootprint(
        ends_with=end or tensors.output[0].name,
        parameters=sum(array.size for array in numbers),
        zeros=sum(array.size - int(np.count_nonzero(array)) for array in numbers),
        graph_bytes=len(file),
        weight_bytes=weight_bytes,
        macs=macs,
        deflated_bytes=len(zlib.compress(file)) + len(deflated),
        sparse_bytes=len(file) + weight_bytes - sum(map(_saved_by_sparsity, matrices)),
    )


def _saved_by_sparsity(matrix: np.ndarray) -> int:
    sparse = -(-matrix.size // 8) + int(np.count_nonzero(matrix)) * matrix.itemsize
    return max(matrix.nbytes - sparse, 0)
