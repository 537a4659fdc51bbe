r"""Removing hidden units of each block's MLP: smaller matrices, fewer operations, less time.

In $y = \phi(x U + u) D + d$ the unit $j$ is column $j$ of $U$ and row $j$ of $D$. It goes
with both, and what is left is an ordinary dense model. Which units go:

- without images, those of the smallest $\|U_{:j}\| \|D_{j:}\|$;
- with images, by the optimal brain surgeon (Hassibi and Stork 1993) on whole rows of $D$:
  the unit goes whose removal adds least to the squared error of $y$ over the images, the
  others take over what it did as far as they can, and so on. Nothing is trained.

The pairs are found in the graph by what they are, `MatMul`, activation, `MatMul`, and not by
name. Attention heads stay.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from jaxtyping import Float, Float32, Int

from edgepact.efficiency.model_compression.model_folder import (
    Weights,
    check_free,
    check_share,
    keep_only_boundaries,
    read_image_encoder,
    write_model,
)
from edgepact.errors import InputError
from edgepact.inference.graph import boundaries
from edgepact.inference.pipeline import IMAGE_GRAPH, open_session

METHOD = "structured"

# How much of the mean variance of a unit is added to each: units that never fire are then no
# division by zero, and what has hardly been seen is hardly changed.
_RIDGE = 1e-3
_BATCH = 32

# fmt: off
_ACTIVATIONS = frozenset({
    "Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min",
    "Mish", "PRelu", "QuickGelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish",
    "Tanh", "ThresholdedRelu",
})
_ELEMENTWISE = _ACTIVATIONS | {"Add", "Div", "Identity", "Mul", "Neg", "Pow", "Sub"}
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """The weights of one block's MLP that depend on the number of its hidden units.

    Attributes:
        up: $U$, shape `inputs units`.
        beside: vectors with a number for each unit, such as the bias $u$.
        down: $D$, shape `units outputs`.
        bias: $d$, shape `outputs`; None if there is none that may be changed.
    """

    up: Float[np.ndarray, "inputs units"]
    beside: tuple[np.ndarray, ...]
    down: Float[np.ndarray, "units outputs"]
    bias: np.ndarray | None = None

    def only(self, kept: Int[np.ndarray, " kept"]) -> "Mlp":
        """The MLP without the units that are not in `kept`."""
        return replace(
            self,
            up=self.up[:, kept],
            beside=tuple(vector[..., kept] for vector in self.beside),
            down=self.down[kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the hidden units of one MLP did on images.

    Attributes:
        mean: of each unit after the activation.
        covariance: of each two; about 0 and not about the mean where the MLP has no bias
            that could take up a mean.
    """

    mean: Float[np.ndarray, " units"]
    covariance: Float[np.ndarray, "units units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpPlace:
    """Where an MLP stands in a graph: names of weights, and of the tensor before `down`."""

    up: str
    beside: tuple[str, ...]
    down: str
    bias: str | None
    hidden: str


def prune_structured(
    model_dir: Path,
    out_dir: Path,
    share: float,
    *,
    pixels: Float32[np.ndarray, "images channels size size"] | None = None,
) -> None:
    """Write a model folder whose MLPs have a share fewer hidden units.

    Args:
        model_dir: a staged model with an MLP in every block.
        out_dir: a folder that is new or empty.
        share: of the units of each MLP, from 0 to below 1; rounded to whole units, of which
            one stays. 0 changes no bit.
        pixels: preprocessed images to choose by, other than those the result is judged by;
            None chooses by the norms of the weights.

    Raises:
        InputError: the model cannot be read, a block has no MLP that can be found, `share`
            is out of range, or `out_dir` is taken.
    """
    check_share(share)
    check_free(out_dir)
    image = read_image_encoder(model_dir)
    places = [place for block in mlps_by_block(image, model_dir) for place in block]
    if share > 0:
        weights = Weights(image.graph)
        activity = None if pixels is None else _activities(image, places, pixels)
        for at, place in enumerate(places):
            mlp = _read(weights, place)
            pruned = (
                prune_by_norm(mlp, share)
                if activity is None
                else prune_by_activity(mlp, activity[at], share)
            )
            _store(weights, place, pruned)
        keep_only_boundaries(image)
    write_model(image, model_dir, out_dir, method=METHOD, share=share)


def prune_by_norm(mlp: Mlp, share: float) -> Mlp:
    """Without the units of the smallest product of norms; the others stay as they are."""
    norms = np.linalg.norm(mlp.up.astype(np.float64), axis=0)
    norms *= np.linalg.norm(mlp.down.astype(np.float64), axis=1)
    kept = np.sort(np.argsort(norms, kind="stable")[_removed(len(norms), share) :])
    return mlp.only(kept)


def prune_by_activity(mlp: Mlp, activity: Activity, share: float) -> Mlp:
    r"""Without the units that the others can stand in for best.

    Minimises $\mathrm{E}\|h D' - h D\|^2 + \lambda \|D' - D\|^2$ over the rows of $D'$ that
    stay, one unit after the other. With $P$ the inverse of the covariance plus $\lambda$,
    removing unit $j$ costs $\|D_{j:}\|^2 / P_{jj}$ and changes $D$ by
    $-P_{:j} D_{j:} / P_{jj}$; the bias takes up the mean.
    """
    units = len(activity.mean)
    # A unit that never varies has a variance of 0, and so may all of them.
    ridge = _RIDGE * float(np.trace(activity.covariance)) / units or 1.0
    inverse = np.linalg.inv(activity.covariance + ridge * np.eye(units))
    down = mlp.down.astype(np.float64)
    stays = np.ones(units, bool)
    for _ in range(_removed(units, share)):
        alive = np.flatnonzero(stays)
        costs = np.sum(down[alive] ** 2, axis=1) / np.diagonal(inverse)[alive]
        unit = alive[np.argmin(costs)]
        column = inverse[:, unit] / inverse[unit, unit]
        down = down - np.outer(column, down[unit])
        inverse = inverse - np.outer(column, inverse[unit])
        stays[unit] = False
    kept = np.flatnonzero(stays)
    bias = mlp.bias
    if bias is not None:
        lost = activity.mean @ mlp.down.astype(np.float64) - activity.mean[kept] @ down[kept]
        bias = bias + lost
    return replace(replace(mlp, down=down).only(kept), bias=bias)


def mlps_by_block(image: onnx.ModelProto, model_dir: Path) -> tuple[tuple[MlpPlace, ...], ...]:
    """The MLPs of each block, found by their structure.

    A product with a constant matrix; then operators that treat every hidden unit alone, an
    activation among them, with constants of one number or one for each unit; then one
    product with a constant matrix, and nothing else that reads what is between.

    Raises:
        InputError: a block has none, or its weights are shared with another operator.
    """
    path = model_dir / IMAGE_GRAPH
    ends = boundaries(path)
    weights = Weights(image.graph)
    stop = {*ends, *(value.name for value in image.graph.output)}
    blocks: list[list[MlpPlace]] = [[] for _ in ends[1:]]
    nodes, passed = list(image.graph.node), 0
    for at, node in enumerate(nodes):
        if 1 <= passed <= len(blocks) and _is_product(node, weights):
            place = _mlp_from(nodes[at:], weights, stop)
            blocks[passed - 1] += [place] if place is not None else []
        passed += sum(name in ends for name in node.output)
    for number, found in enumerate(blocks, start=1):
        if not found:
            expected = "MatMul, activation, MatMul with constant matrices of their own"
            raise InputError(path, f"block {number}", expected, "no such operators")
    return tuple(map(tuple, blocks))


def _mlp_from(nodes: Sequence[onnx.NodeProto], weights: Weights, stop: set[str]) -> MlpPlace | None:
    """The MLP that begins with the first node, a product, if one does."""
    first = nodes[0]
    units = weights.sizes(first.input[1])[1]
    inside = {first.output[0]}
    beside: list[str] = []
    last: onnx.NodeProto | None = None
    activated = False
    for node in nodes[1:]:
        if not inside.intersection(node.input):
            continue
        if last is None and _is_product(node, weights) and node.input[0] in inside:
            last = node
            continue
        if node.op_type not in _ELEMENTWISE:
            return None
        for name in node.input:
            if not name or name in inside:
                continue
            if name not in weights:
                return None
            sizes = weights.sizes(name)
            if int(np.prod(sizes)) == 1:
                continue
            if int(np.prod(sizes)) != units or sizes[-1] != units:
                return None
            beside.append(name)
        activated |= node.op_type in _ACTIVATIONS
        inside.update(node.output)
    if last is None or not activated or inside & stop:
        return None
    if weights.sizes(last.input[1])[0] != units:
        return None
    own = [first.input[1], *beside, last.input[1]]
    if not all(weights.read_once(name) for name in own):
        return None
    return MlpPlace(
        up=first.input[1],
        beside=tuple(beside),
        down=last.input[1],
        bias=_bias_after(last, nodes, weights),
        hidden=last.input[0],
    )


def _is_product(node: onnx.NodeProto, weights: Weights) -> bool:
    if node.op_type != "MatMul" or not weights.is_matrix(node.input[1]):
        return False
    return len(weights.sizes(node.input[1])) == 2


def _bias_after(
    product: onnx.NodeProto, nodes: Sequence[onnx.NodeProto], weights: Weights
) -> str | None:
    """The vector that is added to a product, if that is all that happens to it."""
    readers = [node for node in nodes if product.output[0] in node.input]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    (other,) = (name for name in readers[0].input if name != product.output[0])
    outputs = weights.sizes(product.input[1])[1]
    fits = other in weights and weights.sizes(other) == (outputs,) and weights.read_once(other)
    return other if fits else None


def _removed(units: int, share: float) -> int:
    return min(round(share * units), units - 1)


def _read(weights: Weights, place: MlpPlace) -> Mlp:
    return Mlp(
        up=weights.values(place.up),
        beside=tuple(map(weights.values, place.beside)),
        down=weights.values(place.down),
        bias=None if place.bias is None else weights.values(place.bias),
    )


def _store(weights: Weights, place: MlpPlace, mlp: Mlp) -> None:
    weights.replace(place.up, mlp.up)
    weights.replace(place.down, mlp.down)
    for name, vector in zip(place.beside, mlp.beside, strict=True):
        weights.replace(name, vector)
    if place.bias is not None and mlp.bias is not None:
        weights.replace(place.bias, mlp.bias)


def _activities(
    image: onnx.ModelProto, places: Sequence[MlpPlace], pixels: np.ndarray
) -> list[Activity]:
    """Run the model on images with the tensors before each `down` as further outputs."""
    if not len(pixels):
        raise InputError("compression", "images to choose by", "at least one", "none")
    watched = onnx.ModelProto()
    watched.CopyFrom(image)
    watched.graph.output.extend(onnx.ValueInfoProto(name=place.hidden) for place in places)
    sums: list[np.ndarray] = []
    squares: list[np.ndarray] = []
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / IMAGE_GRAPH
        onnx.save(watched, path, save_as_external_data=True, location="weights.bin")
        session = open_session(path)
        name = session.get_inputs()[0].name
        for start in range(0, len(pixels), _BATCH):
            batch = pixels[start : start + _BATCH]
            found = session.run([place.hidden for place in places], {name: batch})
            hidden = [each.reshape(-1, each.shape[-1]).astype(np.float64) for each in found]
            sums = _added(sums, [each.sum(axis=0) for each in hidden])
            squares = _added(squares, [each.T @ each for each in hidden])
            rows += len(hidden[0])
    activities = []
    for place, total, square in zip(places, sums, squares, strict=True):
        mean, moment = total / rows, square / rows
        centred = moment if place.bias is None else moment - np.outer(mean, mean)
        activities.append(Activity(mean=mean, covariance=centred))
    return activities


def _added(sums: list[np.ndarray], more: list[np.ndarray]) -> list[np.ndarray]:
    return [a + b for a, b in zip(sums, more, strict=True)] if sums else more
