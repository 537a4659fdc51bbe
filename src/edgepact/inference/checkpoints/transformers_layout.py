"""CLIP and SigLIP as the library `transformers` saves them: `config.json`, safetensors and
`preprocessor_config.json`.

Fields that a file leaves out have the library's defaults. What is not built here (SigLIP 2 with
flexible sizes, towers of other kinds) is refused by the field that asks for it.
"""

import math
from pathlib import Path

from edgepact.errors import InputError
from edgepact.inference.checkpoints.said import FILTERS, Said
from edgepact.inference.checkpoints.stored import Stored, Tensors, read_json
from edgepact.inference.checkpoints.towers import (
    Activation,
    AttentionPooling,
    Block,
    Checkpoint,
    Dense,
    Fit,
    ImageTower,
    Norm,
    Preprocessing,
    Shape,
    TextTower,
)

CONFIG = "config.json"
PREPROCESSING = "preprocessor_config.json"

SIDE_MAX = 4096
WIDTH_MAX = 16_384
LAYERS_MAX = 97
LENGTH_MAX = 4096
VOCABULARY_MAX = 2**20

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

_LEGACY_END = 2
"""The end token that early configurations state, whatever the tokenizer's is: the library then
reads the vector at the largest id."""


def read(folder: Path) -> Checkpoint:
    """A checkpoint's folder.

    Raises:
        InputError: a file is missing or damaged, or asks for what is not built here.
    """
    config = Said(folder / CONFIG, read_json(folder / CONFIG))
    families = {"clip": "clip", "siglip": "siglip"}
    family = config.choice("model_type", families)
    tensors = Tensors(folder)
    vision, text = config.inside("vision_config"), config.inside("text_config")
    preprocessing = Said(folder / PREPROCESSING, read_json(folder / PREPROCESSING))
    if family == "clip":
        dim = config.whole("projection_dim", WIDTH_MAX, 512)
        image_tower = _clip_image(vision, tensors, dim)
        text_tower = _clip_text(text, tensors, dim)
    else:
        image_tower = _siglip_image(vision, tensors)
        text_tower = _siglip_text(text, tensors, image_tower.dim)
    return Checkpoint(
        family="clip" if family == "clip" else "siglip",
        image=image_tower,
        text=text_tower,
        logit_scale=math.exp(tensors.number("logit_scale")),
        preprocessing=_preprocessing(preprocessing, image_tower.image_size),
    )


# ---------------------------------------------------------------- private


def _clip_image(config: Said, tensors: Tensors, dim: int) -> ImageTower:
    width, patch, size = _sizes(config, width=768, patch=32)
    embeddings = "vision_model.embeddings"
    return ImageTower(
        shape=_shape(config, width, heads=12, activation="quick_gelu", epsilon=1e-5),
        image_size=size,
        patch=patch,
        kernel=tensors.of(f"{embeddings}.patch_embedding.weight", width, 3, patch, patch),
        kernel_shift=None,
        class_token=tensors.of(f"{embeddings}.class_embedding", width),
        positions=tensors.of(
            f"{embeddings}.position_embedding.weight", (size // patch) ** 2 + 1, width
        ),
        first_norm=Norm.of(tensors, "vision_model.pre_layrnorm", width),
        blocks=_blocks(config, tensors, "vision_model", width, layers=12, hidden=3072),
        last_norm=Norm.of(tensors, "vision_model.post_layernorm", width),
        pooling=None,
        projection=Dense(weights=(tensors.of("visual_projection.weight", dim, width),)),
        dim=dim,
    )


def _siglip_image(config: Said, tensors: Tensors) -> ImageTower:
    width, patch, size = _sizes(config, width=768, patch=16)
    config.expect("vision_use_head", True)
    hidden = config.whole("intermediate_size", WIDTH_MAX, 3072)
    embeddings, head = "vision_model.embeddings", "vision_model.head"
    return ImageTower(
        shape=_shape(config, width, heads=12, activation="gelu_pytorch_tanh", epsilon=1e-6),
        image_size=size,
        patch=patch,
        kernel=tensors.of(f"{embeddings}.patch_embedding.weight", width, 3, patch, patch),
        kernel_shift=tensors.of(f"{embeddings}.patch_embedding.bias", width),
        class_token=None,
        positions=tensors.of(
            f"{embeddings}.position_embedding.weight", (size // patch) ** 2, width
        ),
        first_norm=None,
        blocks=_blocks(config, tensors, "vision_model", width, layers=12, hidden=3072),
        last_norm=Norm.of(tensors, "vision_model.post_layernorm", width),
        pooling=AttentionPooling(
            query=tensors.of(f"{head}.probe", 1, 1, width),
            attention_in=Dense(
                weights=(tensors.of(f"{head}.attention.in_proj_weight", 3 * width, width),),
                shifts=(tensors.of(f"{head}.attention.in_proj_bias", 3 * width),),
            ),
            attention_out=Dense.of(tensors, f"{head}.attention.out_proj", width, width),
            mlp_norm=Norm.of(tensors, f"{head}.layernorm", width),
            mlp_in=Dense.of(tensors, f"{head}.mlp.fc1", hidden, width),
            mlp_out=Dense.of(tensors, f"{head}.mlp.fc2", width, hidden),
        ),
        projection=None,
        dim=width,
    )


def _clip_text(config: Said, tensors: Tensors, dim: int) -> TextTower:
    width = config.whole("hidden_size", WIDTH_MAX, 512)
    length = config.whole("max_position_embeddings", LENGTH_MAX, 77)
    vocabulary = config.whole("vocab_size", VOCABULARY_MAX, 49_408)
    end = config.whole("eos_token_id", vocabulary - 1, 49_407)
    return TextTower(
        shape=_shape(config, width, heads=8, activation="quick_gelu", epsilon=1e-5),
        length=length,
        vocabulary=vocabulary,
        embedding=_embedding(tensors, "token", vocabulary, width),
        positions=_embedding(tensors, "position", length, width),
        causal=True,
        blocks=_blocks(config, tensors, "text_model", width, layers=12, hidden=2048),
        last_norm=Norm.of(tensors, "text_model.final_layer_norm", width),
        end=None if end == _LEGACY_END else end,
        at_last=False,
        projection=Dense(weights=(tensors.of("text_projection.weight", dim, width),)),
    )


def _siglip_text(config: Said, tensors: Tensors, dim: int) -> TextTower:
    width = config.whole("hidden_size", WIDTH_MAX, 768)
    length = config.whole("max_position_embeddings", LENGTH_MAX, 64)
    vocabulary = config.whole("vocab_size", VOCABULARY_MAX, 32_000)
    return TextTower(
        shape=_shape(config, width, heads=12, activation="gelu_pytorch_tanh", epsilon=1e-6),
        length=length,
        vocabulary=vocabulary,
        embedding=_embedding(tensors, "token", vocabulary, width),
        positions=_embedding(tensors, "position", length, width),
        causal=False,
        blocks=_blocks(config, tensors, "text_model", width, layers=12, hidden=3072),
        last_norm=Norm.of(tensors, "text_model.final_layer_norm", width),
        end=None,
        at_last=True,
        projection=Dense.of(tensors, "text_model.head", dim, width),
    )


def _sizes(config: Said, *, width: int, patch: int) -> tuple[int, int, int]:
    config.expect("num_channels", 3)
    width = config.whole("hidden_size", WIDTH_MAX, width)
    size = config.whole("image_size", SIDE_MAX, 224)
    patch = config.whole("patch_size", size, patch)
    return width, patch, size


def _shape(config: Said, width: int, *, heads: int, activation: str, epsilon: float) -> Shape:
    heads = config.whole("num_attention_heads", width, heads)
    if width % heads:
        expected = f"a divisor of the width {width}"
        raise InputError(config.path, f"{config.within}num_attention_heads", expected, heads)
    word = config.choice("hidden_act", dict(zip(ACTIVATIONS, ACTIVATIONS, strict=True)), activation)
    return Shape(
        width=width,
        heads=heads,
        activation=ACTIVATIONS[word],
        epsilon=config.number("layer_norm_eps", epsilon),
    )


def _blocks(
    config: Said, tensors: Tensors, tower: str, width: int, *, layers: int, hidden: int
) -> tuple[Block, ...]:
    layers = config.whole("num_hidden_layers", LAYERS_MAX, layers)
    hidden = config.whole("intermediate_size", WIDTH_MAX, hidden)
    return tuple(
        _block(tensors, f"{tower}.encoder.layers.{at}", width, hidden) for at in range(layers)
    )


def _block(tensors: Tensors, at: str, width: int, hidden: int) -> Block:
    parts = [f"{at}.self_attn.{part}_proj" for part in "qkv"]
    return Block(
        attention_norm=Norm.of(tensors, f"{at}.layer_norm1", width),
        attention_in=Dense(
            weights=tuple(tensors.of(f"{part}.weight", width, width) for part in parts),
            shifts=tuple(tensors.of(f"{part}.bias", width) for part in parts),
        ),
        attention_out=Dense.of(tensors, f"{at}.self_attn.out_proj", width, width),
        mlp_norm=Norm.of(tensors, f"{at}.layer_norm2", width),
        mlp_in=Dense.of(tensors, f"{at}.mlp.fc1", hidden, width),
        mlp_out=Dense.of(tensors, f"{at}.mlp.fc2", width, hidden),
    )


def _embedding(tensors: Tensors, what: str, rows: int, width: int) -> Stored:
    return tensors.of(f"text_model.embeddings.{what}_embedding.weight", rows, width)


def _preprocessing(said: Said, image_size: int) -> Preprocessing:
    for step in ("do_resize", "do_normalize", "do_rescale"):
        said.expect(step, True)
    size = said.table.get("size")
    if isinstance(size, int):  # as early files have it
        size = {"shortest_edge": size}
    by_edge: Fit = "shortest_edge"
    sides = {"shortest_edge": image_size}, {"height": image_size, "width": image_size}
    if size == sides[1]:
        by_edge = "squash"
    elif size != sides[0]:
        expected = f"the shortest edge, or height and width, of {image_size}"
        raise InputError(said.path, f"{said.within}size", expected, str(size)[:60])
    if by_edge == "shortest_edge":
        said.expect("do_center_crop", True)
        if said.table.get("crop_size", image_size) not in (image_size, sides[1]):
            expected = f"{image_size}, as the model takes"
            raise InputError(said.path, "crop_size", expected, str(said.table["crop_size"])[:60])
    return Preprocessing(
        fit=by_edge,
        resample=said.choice("resample", FILTERS, 3),
        mean=said.three("image_mean"),
        std=said.three("image_std", above=0.0),
    )
