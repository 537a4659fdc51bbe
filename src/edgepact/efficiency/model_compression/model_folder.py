"""The image encoder of a model folder with its weights in memory, and back to a new folder.

Compressing touches the image encoder alone, the part that devices and server share.
The text encoder is copied: it runs once for each label and not for each image.
"""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper, numpy_helper

from edgepact.errors import InputError
from edgepact.inference.digests import state_weights
from edgepact.inference.graph import BOUNDARIES_KEY, boundaries, cut
from edgepact.inference.pipeline import IMAGE_GRAPH, MODEL_JSON, ModelInfo
from edgepact.inference.zero_shot import TEXT_GRAPH, TEXT_VECTORS

WEIGHTS = "weights.bin"

# Offsets in the weight file are multiples of this: the width of an AVX-512 register.
_ALIGNMENT_BYTES = 64
# Every stage holds its small constants itself; what is larger lies once in the weight file.
_INLINE_BYTES_MAX = 64


class Weights:
    """Constants of a graph, under the names by which its operators read them.

    A weight may be stored in half precision and cast before use, as those of the
    embedded model are: it is then known by the name of the cast's result. Changing it
    changes what is stored, in the type that it is stored in.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._tensors |= {
            node.output[0]: attribute.t
            for node in graph.node
            for attribute in node.attribute
            if node.op_type == "Constant" and attribute.name == "value"
        }
        self._stored = {name: name for name in self._tensors}
        self._stored |= {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Cast" and node.input[0] in self._tensors
        }
        self._readers = Counter(name for node in graph.node for name in node.input)

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def sizes(self, name: str) -> tuple[int, ...]:
        """Shape of a weight."""
        return tuple(self._tensors[self._stored[name]].dims)

    def is_matrix(self, name: str) -> bool:
        """Whether it is a constant of floating-point numbers in rows and columns."""
        if name not in self._stored or len(self.sizes(name)) < 2:
            return False
        kind = self._tensors[self._stored[name]].data_type
        return np.issubdtype(helper.tensor_dtype_to_np_dtype(kind), np.floating)

    def read_once(self, name: str) -> bool:
        """Whether exactly one operator reads the weight, and so depends on its shape."""
        return self._readers[name] == 1 and self._readers[self._stored[name]] == 1

    def stored_name(self, name: str) -> str:
        """Of the initialiser that the weight comes from."""
        return self._stored[name]

    def values(self, name: str) -> np.ndarray:
        """A weight as it is stored."""
        return np.asarray(numpy_helper.to_array(self._tensors[self._stored[name]]))

    def replace(self, name: str, values: np.ndarray) -> None:
        """Store other values, of any shape, in the type of the old ones."""
        tensor = self._tensors[self._stored[name]]
        kept = np.asarray(values, helper.tensor_dtype_to_np_dtype(tensor.data_type))
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kept), tensor.name))


def read_image_encoder(model_dir: Path) -> onnx.ModelProto:
    """The image graph with all its weights.

    Raises:
        InputError: the folder is no model, or its graph does not say where it is cut.
    """
    path = model_dir / IMAGE_GRAPH
    boundaries(path)
    return _with_weights(path)


def check_share(share: float) -> None:
    """Insist on a share that leaves something.

    Raises:
        InputError: `share` is not at least 0 and below 1.
    """
    if not 0 <= share < 1:
        raise InputError("compression", "share", "a number from 0 to below 1", share)


def write_model(
    image: onnx.ModelProto, source: Path, out_dir: Path, *, method: str, share: float | None = None
) -> None:
    """Write a compressed image encoder as a model folder, cut into stages.

    The folder gets its name when it is complete. Its model has a name of its own too:
    a device and a server that offer the same name must hold the same weights.

    Args:
        image: the image graph with its weights; it is emptied of them.
        source: the folder that text encoder and `model.json` come from.
        out_dir: a folder that is new or empty.
        method: that made it, part of the new name.
        share: that was asked for, part of the name too.

    Raises:
        InputError: `out_dir` is taken or cannot be made, or the model cannot be cut any more.
    """
    check_free(out_dir)
    out_dir = out_dir.resolve()  # Only then has `.` a name.
    info = ModelInfo.read(source)
    table = json.loads((source / MODEL_JSON).read_text(encoding="utf-8"))
    suffix = method if share is None else f"{method}-{share:g}"
    table["name"] = f"{info.name}-{suffix}"
    table["compression"] = {"method": method, "share": share, "of": info.name}
    graphs = {IMAGE_GRAPH: image}
    if (source / TEXT_GRAPH).is_file():
        graphs[TEXT_GRAPH] = _with_weights(source / TEXT_GRAPH)

    draft = out_dir.with_name(f".{out_dir.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        with (draft / WEIGHTS).open("wb") as file:
            for graph in graphs.values():
                for tensor in graph.graph.initializer:
                    _move_out(tensor, file)
        for name, graph in graphs.items():
            (draft / name).write_bytes(graph.SerializeToString(deterministic=True))
        if (source / TEXT_VECTORS).is_file():
            shutil.copyfile(source / TEXT_VECTORS, draft / TEXT_VECTORS)
        (draft / MODEL_JSON).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        state_weights(draft)
        cut(draft)
        draft.replace(out_dir)
    except OSError as error:
        raise InputError(out_dir, "", "a folder that can be made", error.strerror or "") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_free(out_dir: Path) -> None:
    """Insist on a folder that is new or empty: nothing of the user's is overwritten.

    Raises:
        InputError: it is neither.
    """
    if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
        raise InputError(out_dir, "", "a new or empty folder", "one that holds something")


def keep_only_boundaries(image: onnx.ModelProto) -> None:
    """Drop metadata that tells of shapes or types the model has no more."""
    kept = {entry.key: entry.value for entry in image.metadata_props if entry.key == BOUNDARIES_KEY}
    helper.set_model_props(image, kept)
    # Sizes that an exporter noted down; they are inferred anew where they are needed.
    del image.graph.value_info[:]


def _with_weights(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(path, "", "an ONNX model with its weights", reason) from error


def _move_out(tensor: onnx.TensorProto, file: Any) -> None:
    """Append a tensor's bytes to the weight file and describe where they lie."""
    values = np.asarray(numpy_helper.to_array(tensor))
    if values.nbytes <= _INLINE_BYTES_MAX:
        return
    data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()
    file.write(bytes(-file.tell() % _ALIGNMENT_BYTES))
    place = {"location": WEIGHTS, "offset": file.tell(), "length": len(data)}
    file.write(data)
    tensor.CopyFrom(
        onnx.TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
        )
    )
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
