"""Setting the smallest weights of each matrix to zero.

A zero saves bytes only in a file that is compressed or sparse: the folder written here is
as large as the original. It saves no computation either, since a CPU multiplies with zeros
as with other numbers. What a link or a disk could save, `Footprint` counts.
"""

from pathlib import Path

import numpy as np

from edgepact.efficiency.model_compression.model_folder import (
    Weights,
    check_free,
    check_share,
    read_image_encoder,
    write_model,
)
from edgepact.errors import InputError
from edgepact.inference.pipeline import IMAGE_GRAPH

METHOD = "magnitude"


def prune_magnitude(model_dir: Path, out_dir: Path, share: float) -> None:
    """Write a model folder with a share of every matrix set to zero.

    Matrices are the constant operands of `MatMul`, `Gemm` and `Conv` in the image encoder.

    Args:
        model_dir: any staged model with weights in floating point.
        out_dir: a folder that is new or empty.
        share: of the entries of each matrix, from 0 to below 1; 0 changes no bit.

    Raises:
        InputError: the model cannot be read or has no such matrix, `share` is out of range,
            or `out_dir` is taken.
    """
    check_share(share)
    check_free(out_dir)
    image = read_image_encoder(model_dir)
    weights = Weights(image.graph)
    names = {
        node.input[1]
        for node in image.graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv") and weights.is_matrix(node.input[1])
    }
    if not names:
        expected = "MatMul, Gemm or Conv with a constant matrix of floating-point numbers"
        raise InputError(model_dir / IMAGE_GRAPH, "graph", expected, "none")
    # By what is stored: a matrix that two operators read is pruned once.
    for name in {weights.stored_name(name) for name in names}:
        weights.replace(name, without_smallest(weights.values(name), share))
    write_model(image, model_dir, out_dir, method=METHOD, share=share)


def without_smallest(values: np.ndarray, share: float) -> np.ndarray:
    """The same array with `round(share * size)` of its smallest entries set to zero.

    Of equal entries the first go, so that the result is the same everywhere.

    Example:
        >>> without_smallest(np.array([[3.0, -1.0], [2.0, -4.0]]), 0.5).tolist()
        [[3.0, 0.0], [0.0, -4.0]]
    """
    smallest = np.argsort(np.abs(values), axis=None, kind="stable")[: round(share * values.size)]
    pruned = values.copy()
    pruned.flat[smallest] = 0
    return pruned
