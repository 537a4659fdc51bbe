"""The two towers of a CLIP or SigLIP, whichever library wrote them down.

Matrices are as PyTorch keeps them, outputs first: y = W x + b.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgepact.inference.checkpoints.stored import Stored, Tensors

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]

Fit = Literal["shortest_edge", "squash"]
"""How a picture is brought to the model's size: scaled by its shorter side and cut around the
middle, or scaled to a square whatever its shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """Scale and shift after a normalisation over the last axis."""

    scale: Stored
    shift: Stored

    @classmethod
    def of(cls, tensors: Tensors, name: str, width: int) -> "Norm":
        """What is stored as `NAME.weight` and `NAME.bias`."""
        scale, shift = tensors.of(f"{name}.weight", width), tensors.of(f"{name}.bias", width)
        return cls(scale=scale, shift=shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A matrix and what is added to its product; several are stacked, outputs below each other."""

    weights: Sequence[Stored]
    shifts: Sequence[Stored] = ()

    @classmethod
    def of(cls, tensors: Tensors, name: str, outputs: int, inputs: int) -> "Dense":
        """What is stored as `NAME.weight` and `NAME.bias`."""
        return cls(
            weights=(tensors.of(f"{name}.weight", outputs, inputs),),
            shifts=(tensors.of(f"{name}.bias", outputs),),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A transformer block that normalises before attention and before the two dense layers."""

    attention_norm: Norm
    attention_in: Dense
    attention_out: Dense
    mlp_norm: Norm
    mlp_in: Dense
    mlp_out: Dense


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a tower's blocks have in common.

    Attributes:
        width: numbers of a token.
        heads: of the attention.
        activation: between the two dense layers.
        epsilon: added to the variance in normalisations.
    """

    width: int
    heads: int
    activation: Activation
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPooling:
    """SigLIP's head: one learnt query attends to all tokens, then a residual MLP."""

    query: Stored
    attention_in: Dense
    attention_out: Dense
    mlp_norm: Norm
    mlp_in: Dense
    mlp_out: Dense


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTower:
    """From pixels to the image's vector.

    Attributes:
        shape: of the blocks.
        image_size: height and width of the input, pixels.
        patch: height and width of a patch, pixels.
        kernel: that makes a token of each patch, `width 3 patch patch`.
        kernel_shift: added to it, if anything is.
        class_token: put before the patches, if the model has one; the vector is then read there.
        positions: added to each token.
        first_norm: before the first block, if any.
        blocks: in order.
        last_norm: of the vector's token, or of all tokens where `pooling` follows.
        pooling: what makes one of all tokens, where there is no class token.
        projection: to the space shared with texts, `dim width`; None where the tower is there.
        dim: length of the vector.
    """

    shape: Shape
    image_size: int
    patch: int
    kernel: Stored
    kernel_shift: Stored | None
    class_token: Stored | None
    positions: Stored
    first_norm: Norm | None
    blocks: Sequence[Block]
    last_norm: Norm
    pooling: AttentionPooling | None
    projection: Dense | None
    dim: int

    @property
    def tokens(self) -> int:
        """How many travel between two blocks."""
        return (self.image_size // self.patch) ** 2 + (self.class_token is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTower:
    """From token ids to a text's vector.

    Attributes:
        shape: of the blocks.
        length: ids of a text, padding included.
        vocabulary: how many ids there are.
        embedding: one row for each id.
        positions: added to each token.
        causal: whether a token sees only those before it.
        blocks: in order.
        last_norm: of all tokens.
        end: id at whose first place the vector is read; None for the largest id of the text.
        at_last: whether it is read at the last place instead, padding or not.
        projection: to the space shared with pictures.
    """

    shape: Shape
    length: int
    vocabulary: int
    embedding: Stored
    positions: Stored
    causal: bool
    blocks: Sequence[Block]
    last_norm: Norm
    end: int | None
    at_last: bool
    projection: Dense


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes the model's input, as the checkpoint says.

    Attributes:
        fit: to the model's size.
        resample: Pillow's name of the filter, in small letters.
        mean, std: of each channel, of pixels scaled to [0, 1].
    """

    fit: Fit
    resample: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A CLIP or SigLIP.

    Attributes:
        family: `clip` or `siglip`, which tells how its texts are written.
        image, text: its towers.
        logit_scale: factor on the cosine of two vectors.
        preprocessing: of pictures.
    """

    family: Literal["clip", "siglip"]
    image: ImageTower
    text: TextTower
    logit_scale: float
    preprocessing: Preprocessing
