"""Multiply-accumulate operations of a graph's nodes, counted from their sizes.

GMAC is what is priced, so that a count is never short without a word: an operator is either
counted by its formula, or it is on the list of those that multiply no matrices, or it is named
as not counted, and so is one whose sizes are not known.

What is counted are sums of products: matrix products, convolutions, recurrences and attention,
as the usual closed forms of models do. What works on each number for itself (sums, activations,
normalisations), moves numbers (transposes, slices) or picks among them (pooling, maxima) counts
as 0. What follows from constants alone counts as 0 too, since ONNX Runtime makes it once, when
the model is loaded. Of an `If` whose branch does not follow from the sizes the dearer one counts.
"""

import math
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgepact.inference.onnx_files import called, constant_names
from edgepact.inference.sizes import Sizes
from edgepact.inference.wiring import Wiring

NOTHING = frozenset(
    """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
    BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat
    ConcatFromSequence Constant ConstantOfShape Cos Cosh CumProd CumSum DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten
    Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool
    Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool MaxRoiPool
    MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Multinomial Neg NonMaxSuppression
    NonZero Not OneHot Optional OptionalGetElement OptionalHasElement Or PRelu Pad Pow
    QuantizeLinear RMSNormalization RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RoiAlign RotaryEmbedding Round Scatter ScatterElements ScatterND Selu
    SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split
    SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum SwiGLU Swish
    Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample
    Where Xor SimplifiedLayerNormalization
    """.split()  # noqa: SIM905
)
"""Operators of ONNX that sum no products."""

NOTHING_OF_RUNTIME = frozenset(
    """
    BiasAdd BiasGelu BiasSplitGelu BiasSoftmax BiasDropout CropAndResize DequantizeBFP
    DequantizeLinear EmbedLayerNormalization ExpandDims FastGelu GatherBlockQuantized GatherND
    Gelu GroupNorm NGramRepeatBlock NhwcMaxPool Pad QLinearAdd QLinearAveragePool QLinearConcat
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
    QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu RemovePadding RestorePadding
    RotaryEmbedding SimplifiedLayerNormalization SkipGroupNorm SkipLayerNormalization
    SkipSimplifiedLayerNormalization Trilu Unique
    """.split()  # noqa: SIM905
)
"""Operators of ONNX Runtime's own (domain com.microsoft) that sum no products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """A node whose operations are not known.

    Attributes:
        node: its name, or the name of what it makes.
        operator: its type, with its domain.
        reason: why.
    """

    node: str
    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Operations of some nodes.

    Attributes:
        macs: of those that could be counted.
        uncounted: the others.
    """

    macs: int
    uncounted: tuple[Uncounted, ...] = ()


class _Unknown(Exception):
    """A reason why a node cannot be counted."""


def count(node: onnx.NodeProto, sizes: Sizes, constants: frozenset[str] = frozenset()) -> Count:
    """Operations of one run of a node, its subgraphs included.

    Args:
        node: of a graph in normal form.
        sizes: of the values of the graph it stands in.
        constants: values that a subgraph sees and that are constant.

    Returns:
        A count of which either part may be 0.
    """
    try:
        match node.op_type if node.domain in ("", "ai.onnx") else "":
            case "If":
                return _if(node, sizes, constants)
            case "Loop" | "Scan":
                return _repeated(node, sizes, constants)
        return Count(macs=_formula(node)(_At(node, sizes)))
    except _Unknown as unknown:
        domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
        missing = Uncounted(
            node=called(node), operator=f"{domain}{node.op_type}", reason=str(unknown)
        )
        return Count(macs=0, uncounted=(missing,))


def node_counts(wiring: Wiring, sizes: Sizes) -> tuple[Count, ...]:
    """Operations of each node of a graph; nothing of what follows from constants alone.

    A `ReduceSum` over a `Mul` that spreads both its operands is a matrix product in other words,
    and counts as one.
    """
    counts = []
    makers = {name: node for node in wiring.nodes for name in node.output if name}
    for at, node in enumerate(wiring.nodes):
        constant = wiring.reads[at] and all(
            wiring.kinds[name] == "constant" for name in node.output if name
        )
        found = Count(macs=0) if constant else count(node, sizes)
        if node.op_type == "ReduceSum" and not node.domain and not constant:
            found = Count(macs=_spread(makers.get(node.input[0]), sizes))
        counts.append(found)
    return tuple(counts)


def _spread(node: onnx.NodeProto | None, sizes: Sizes) -> int:
    """How many products a `Mul` makes that is larger than both its operands; 0 of other nodes."""
    if node is None or node.op_type != "Mul" or node.domain:
        return 0
    try:
        made, *read = (
            math.prod(_At(node, sizes).known(name)) for name in (node.output[0], *node.input)
        )
    except _Unknown:
        return 0
    return made if made > max(read) else 0


def summed(counts: Sequence[Count], nodes: Iterable[int]) -> Count:
    """Operations of some of the nodes together."""
    chosen = [counts[at] for at in nodes]
    return Count(
        macs=sum(each.macs for each in chosen),
        uncounted=tuple(missing for each in chosen for missing in each.uncounted),
    )


@dataclass(frozen=True, slots=True)
class _At:
    """A node with the sizes around it."""

    node: onnx.NodeProto
    sizes: Sizes

    def has(self, at: int) -> bool:
        return at < len(self.node.input) and bool(self.node.input[at])

    def read(self, at: int) -> tuple[int, ...]:
        """Sizes of what it reads at a place."""
        if not self.has(at):
            raise _Unknown(f"there is no input {at}")
        return self.known(self.node.input[at])

    def made(self) -> tuple[int, ...]:
        """Sizes of what it makes first."""
        return self.known(self.node.output[0])

    def rows(self) -> int:
        return math.prod(self.made())

    def whole(self, name: str, otherwise: int) -> int:
        return next((item.i for item in self.node.attribute if item.name == name), otherwise)

    def wholes(self, name: str) -> list[int]:
        return next((list(item.ints) for item in self.node.attribute if item.name == name), [])

    def text(self, name: str) -> str:
        found = next((item.s for item in self.node.attribute if item.name == name), b"")
        return bytes(found).decode("ascii", "replace")

    def number(self, at: int) -> np.ndarray | None:
        return self.sizes.numbers.get(self.node.input[at]) if self.has(at) else None

    def known(self, name: str) -> tuple[int, ...]:
        """Sizes of a value around it."""
        dims = self.sizes.dims(name)
        known = tuple(size for size in dims or () if size is not None)
        if dims is None or len(known) < len(dims):
            raise _Unknown(f"the sizes of {name} are not known before it runs")
        return known


_Formula = Callable[[_At], int]


def _formula(node: onnx.NodeProto) -> _Formula:
    if node.domain in ("", "ai.onnx"):
        zero, formulas = node.op_type in NOTHING, _ONNX
    elif node.domain == "com.microsoft":
        zero, formulas = node.op_type in NOTHING_OF_RUNTIME, _RUNTIME
    else:
        zero, formulas = False, {}
    if zero:
        return _nothing
    if node.op_type not in formulas:
        raise _Unknown("no formula for this operator is known")
    return formulas[node.op_type]


def _nothing(at: _At) -> int:
    return 0


def _matmul(at: _At) -> int:
    return at.rows() * _last(at.read(0))


def _last(dims: tuple[int, ...]) -> int:
    if not dims:
        raise _Unknown("it multiplies a single number")
    return dims[-1]


def _gemm(at: _At) -> int:
    first = at.read(0)
    if len(first) != 2:
        raise _Unknown("it multiplies no matrix")
    return at.rows() * first[0 if at.whole("transA", 0) else 1]


def _fused_matmul(at: _At) -> int:
    first = at.read(0)
    if at.whole("transBatchA", 0) or at.whole("transBatchB", 0) or len(first) < 2:
        raise _Unknown("no formula for its transposed batch is known")
    return at.rows() * first[-2 if at.whole("transA", 0) else -1]


def _block_matmul(at: _At) -> int:
    inner, columns = at.whole("K", 0), at.whole("N", 0)
    first = at.read(0)
    if _last(first) != inner:
        raise _Unknown(f"its K is {inner}, and it reads rows of {first[-1]}")
    return math.prod(first[:-1]) * inner * columns


def _conv(weights: int) -> _Formula:
    def counted(at: _At) -> int:
        # Weights: [channels out, channels in / groups, *kernel].
        return at.rows() * math.prod(at.read(weights)[1:])

    return counted


def _conv_transpose(at: _At) -> int:
    # Weights: [channels in, channels out / groups, *kernel]; each number read meets them once.
    return math.prod(at.read(0)) * math.prod(at.read(1)[1:])


def _recurrent(gates: int) -> _Formula:
    def counted(at: _At) -> int:
        # [length, batch, inputs], whatever the layout; [directions, gates x hidden, inputs].
        read, weights, own = at.read(0), at.read(1), at.read(2)
        if len(read) != 3 or len(weights) != 3 or weights[1] != gates * own[-1]:
            raise _Unknown("its weights are of another form")
        return math.prod(read[:2]) * weights[0] * weights[1] * (weights[2] + own[2])

    return counted


def _einsum(at: _At) -> int:
    equation = at.text("equation").replace(" ", "")
    terms, _, result = equation.partition("->")
    named = terms.split(",")
    if len(named) != len(at.node.input) or (len(named) > 2 and not result):
        raise _Unknown("its equation is of another form")
    if len(named) == 1:
        return 0
    sizes: dict[str, int] = {}
    met: dict[str, int] = {}
    for place, term in enumerate(named):
        dims = list(at.read(place))
        before, dots, after = term.partition("...")
        labels = [*before]
        if dots:
            free = len(dims) - len(before) - len(after)
            # Counted from the right, as broadcasting does.
            labels += [f"...{free - 1 - number}" for number in range(max(free, 0))]
        labels += [*after]
        if len(labels) != len(dims):
            raise _Unknown("its equation does not fit what it reads")
        for label, size in zip(labels, dims, strict=True):
            if len(label) == 1 and label not in string.ascii_letters:
                raise _Unknown("its equation is of another form")
            sizes[label] = max(sizes.get(label, 1), size)
        for label in set(labels):
            met[label] = met.get(label, 0) + 1
    kept = {
        label
        for label in sizes
        if met[label] > 1 or label in result or label.startswith("...") or not result
    }
    return math.prod(sizes[label] for label in kept) * (len(named) - 1)


def _attention(at: _At) -> int:
    query, key, value = at.read(0), at.read(1), at.read(2)
    if len(query) == 4:
        batch, heads, rows, width = query
        length, mixed = key[2], value[3]
    elif len(query) == 3:
        heads, shared = at.whole("q_num_heads", 0), at.whole("kv_num_heads", 0)
        if not heads or not shared:
            raise _Unknown("it does not say how many heads it has")
        batch, rows, width = query[0], query[1], query[2] // heads
        length, mixed = key[1], value[2] // shared
    else:
        raise _Unknown("its query is of another form")
    length += at.read(4)[2] if at.has(4) else 0
    return batch * heads * rows * length * (width + mixed)


def _packed_attention(past: int) -> _Formula:
    def counted(at: _At) -> int:
        (batch, rows, width), weights = at.read(0), at.read(1)
        hidden = at.wholes("qkv_hidden_sizes") or [weights[1] // 3] * 3
        before = at.read(past)[3] if at.has(past) else 0
        projected = batch * rows * width * weights[1]
        return projected + batch * rows * (rows + before) * (hidden[0] + hidden[2])

    return counted


def _multi_head(at: _At) -> int:
    query = at.read(0)
    if len(query) == 5:  # batch, length, heads, 3, width of a head
        batch, rows, heads, _, each = query
        return 2 * batch * rows * rows * heads * each
    batch, rows, width = query
    if at.has(1) and len(at.read(1)) == 5:  # keys and values together
        _, length, heads, _, each = at.read(1)
        mixed = heads * each
    else:
        key, value = at.read(1), at.read(2)
        length = key[2] if len(key) == 4 else key[1]
        mixed = value[1] * value[3] if len(value) == 4 else value[2]
    length += at.read(6)[2] if at.has(6) else 0
    return batch * rows * length * (width + mixed)


def _group_query(at: _At) -> int:
    batch, rows, width = at.read(0)
    heads, shared = at.whole("num_heads", 0), at.whole("kv_num_heads", 0)
    if not heads or not shared:
        raise _Unknown("it does not say how many heads it has")
    if not at.has(1):
        width = width * heads // (heads + 2 * shared)
    before = at.read(3)[2] if at.has(3) else 0
    total = at.number(6)
    # Past and present may share one buffer, so that the shapes alone say the most it can be.
    length = int(total.reshape(-1)[0]) if total is not None and total.size else before + rows
    return 2 * batch * rows * length * width


_ONNX: Mapping[str, _Formula] = {
    "Attention": _attention,
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "ConvTranspose": _conv_transpose,
    "DeformConv": _conv(1),
    "Einsum": _einsum,
    "GRU": _recurrent(3),
    "Gemm": _gemm,
    "LSTM": _recurrent(4),
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearConv": _conv(3),
    "QLinearMatMul": _matmul,
    "RNN": _recurrent(1),
}

_RUNTIME: Mapping[str, _Formula] = {
    "Attention": _packed_attention(4),
    "DynamicQuantizeMatMul": _matmul,
    "FusedConv": _conv(1),
    "FusedGemm": _gemm,
    "FusedMatMul": _fused_matmul,
    "GemmFastGelu": _matmul,
    "GroupQueryAttention": _group_query,
    "MatMulBnb4": _block_matmul,
    "MatMulInteger16": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "MatMulNBits": _block_matmul,
    "MultiHeadAttention": _multi_head,
    "QAttention": _packed_attention(8),
    "QGemm": _gemm,
    "QLinearConv": _conv(3),
    "TransposeMatMul": _fused_matmul,
}


def _body(node: onnx.NodeProto, name: str, sizes: Sizes, constants: frozenset[str]) -> Count:
    (graph,) = (attribute.g for attribute in node.attribute if attribute.name == name)
    inner = sizes.inner.get((node.output[0], name))
    if inner is None:
        raise _Unknown("the sizes inside it are not known")
    fixed = set(constants) | constant_names(graph)
    total, uncounted = 0, list[Uncounted]()
    for each in graph.node:
        if each.input and all(given in fixed for given in each.input if given):
            fixed.update(each.output)
            continue
        found = count(each, inner, frozenset(fixed))
        total += found.macs
        uncounted += found.uncounted
    return Count(macs=total, uncounted=tuple(uncounted))


def _if(node: onnx.NodeProto, sizes: Sizes, constants: frozenset[str]) -> Count:
    branches = [attribute.name for attribute in node.attribute if attribute.HasField("g")]
    choice = sizes.numbers.get(node.input[0])
    taken = branches
    if choice is not None and choice.size == 1:
        taken = ["then_branch" if bool(choice.reshape(())) else "else_branch"]
    counts = [_body(node, name, sizes, constants) for name in taken]
    return Count(
        macs=max(each.macs for each in counts),
        uncounted=tuple(missing for each in counts for missing in each.uncounted),
    )


def _repeated(node: onnx.NodeProto, sizes: Sizes, constants: frozenset[str]) -> Count:
    if "body" not in {attribute.name for attribute in node.attribute}:
        raise _Unknown("it has no body")
    once = _body(node, "body", sizes, constants)
    if not once.macs and not once.uncounted:
        return once
    at = _At(node, sizes)
    if node.op_type == "Loop":
        trips = at.number(0)
        if trips is None or trips.size != 1:
            raise _Unknown("how often its body runs is not known before it runs")
        times = max(0, int(trips.reshape(())))
    else:
        scanned = at.whole("num_scan_inputs", 0)
        first = len(node.input) - scanned
        axes = at.wholes("scan_input_axes") or [0]
        if scanned < 1 or first < 0:
            raise _Unknown("it scans nothing")
        times = at.read(first)[axes[0]]
    return Count(macs=times * once.macs, uncounted=once.uncounted)
