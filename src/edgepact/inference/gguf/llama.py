"""The sizes of a model of the llama architecture, as a GGUF file states them; checked.

What is computed is RMS norm, attention with rotary positions and shared keys, and a gated MLP. A
file that asks for more, such as scaled positions, experts or biases, is refused by name: it would
compute something else without a word.
"""

from dataclasses import dataclass

import numpy as np

from edgepact.errors import InputError
from edgepact.inference.gguf.blocks import rest_macs
from edgepact.inference.gguf.file import GgufFile

BLOCKS_MAX = 97
"""As for images: stage files carry two digits, and there are two stages more than blocks."""

REFUSED = (
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scale_linear",
    "llama.expert_count",
    "llama.attention.sliding_window",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.logit_scale",
)
"""Facts that change what is computed; passed over where they say nothing: 0, 1, 'none', or the
length of a head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSizes:
    """Sizes.

    Attributes:
        name: of the model: letters, digits, `-`.
        blocks: number of blocks.
        width: numbers of a token between two blocks.
        heads, heads_kv: of queries; of keys and values.
        mlp: width of the MLP.
        vocabulary: number of tokens.
        context: most tokens of a text, as the model was trained.
        rope_base: base of the rotary positions.
        epsilon: of the RMS norm.
        tied: whether the head multiplies with the embedding.
    """

    name: str
    blocks: int
    width: int
    heads: int
    heads_kv: int
    mlp: int
    vocabulary: int
    context: int
    rope_base: float
    epsilon: float
    tied: bool

    @property
    def head_width(self) -> int:
        """Numbers of a head."""
        return self.width // self.heads

    @property
    def width_kv(self) -> int:
        """Numbers of all keys of a token, or of all its values."""
        return self.heads_kv * self.head_width

    def macs_per_stage(self, attended: int) -> tuple[int, ...]:
        """Multiplications of a token in embed, each block, and head. How weights are packed may
        add some: `blocks.rest_macs`.

        Args:
            attended: tokens that it looks at, on average.
        """
        projections = 2 * self.width * (self.width + self.width_kv) + 3 * self.width * self.mlp
        block = projections + 2 * attended * self.width
        return (0, *[block] * self.blocks, self.width * self.vocabulary)


def llama_sizes(file: GgufFile) -> LlamaSizes:
    """Reads the sizes.

    Raises:
        InputError: the model is of another architecture, asks for what is not computed here, or
            its sizes do not fit each other.
    """
    architecture = file.text("general.architecture")
    if architecture != "llama":
        raise InputError(file.path, "general.architecture", "'llama'", architecture)

    def whole(name: str, most: int, default: int | None = None) -> int:
        return file.whole(f"llama.{name}", default, least=1, most=most)

    width, heads = whole("embedding_length", 65_536), whole("attention.head_count", 1024)
    heads_kv = whole("attention.head_count_kv", 1024, heads)
    for field, fits, expected, found in (
        ("attention.head_count", width % heads == 0, f"a divisor of the width {width}", heads),
        ("attention.head_count_kv", heads % heads_kv == 0, f"a divisor of {heads}", heads_kv),
        ("embedding_length", (width // heads) % 16 == 0, "heads of a multiple of 16", width),
    ):
        if not fits:
            raise InputError(file.path, f"llama.{field}", expected, found)
    rotated = whole("rope.dimension_count", 65_536, width // heads)
    if rotated != width // heads:
        expected = f"{width // heads}, all of a head"
        raise InputError(file.path, "llama.rope.dimension_count", expected, rotated)
    for name in REFUSED:
        value = file.facts.get(name, 0)
        listed = isinstance(value, tuple | np.ndarray)
        if listed or value not in (0, 1, 1.0, "none", width // heads):
            raise InputError(file.path, name, "nothing, which is computed here", "it")
    vocabulary = len(file.texts("tokenizer.ggml.tokens"))
    _expect_no_others(file)
    return LlamaSizes(
        name=_plain(file.facts.get("general.basename", file.facts.get("general.name"))),
        blocks=whole("block_count", BLOCKS_MAX),
        width=width,
        heads=heads,
        heads_kv=heads_kv,
        mlp=whole("feed_forward_length", 1 << 20),
        vocabulary=vocabulary,
        context=whole("context_length", 1 << 24),
        rope_base=file.number("llama.rope.freq_base", 10_000.0, above=1.0),
        epsilon=file.number("llama.attention.layer_norm_rms_epsilon", above=0.0),
        tied="output.weight" not in file.tensors,
    )


def rest_macs_per_stage(file: GgufFile, sizes: LlamaSizes) -> list[int]:
    """Multiplications of a token beside `LlamaSizes.macs_per_stage`, in each stage."""
    found = [0] * (sizes.blocks + 2)
    for name, tensor in file.tensors.items():
        if name.startswith("blk.") and len(tensor.shape) == 2:
            found[int(name.split(".")[1]) + 1] += rest_macs(tensor)
    found[-1] = rest_macs(file.tensors["token_embd.weight" if sizes.tied else "output.weight"])
    return found


def _expect_no_others(file: GgufFile) -> None:
    """Refuses tensors that nothing here multiplies with, such as biases."""
    known = {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm"}
    known |= {"ffn_gate", "ffn_up", "ffn_down"}
    for name in file.tensors:
        parts = name.split(".")
        block = len(parts) == 4 and parts[0] == "blk" and parts[3] == "weight" and parts[2] in known
        if not block and name not in ("token_embd.weight", "output.weight", "output_norm.weight"):
            raise InputError(file.path, name, "tensors of a plain llama", "this one")


def _plain(name: object) -> str:
    text = name if isinstance(name, str) else "model"
    kept = "".join(each if each.isascii() and each.isalnum() else "-" for each in text.lower())
    return kept.strip("-")[:40] or "model"
