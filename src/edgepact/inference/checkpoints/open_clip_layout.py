"""CLIP as the library `open_clip` saves it: `open_clip_config.json` and safetensors.

Built from its published layout of names; the library itself was not run to check it. Its own
transformers for pictures and texts are read; towers that it borrows from `timm` or
`transformers` are refused.
"""

import math
from pathlib import Path

from edgepact.errors import InputError
from edgepact.inference.checkpoints.said import Said
from edgepact.inference.checkpoints.stored import Tensors, read_json
from edgepact.inference.checkpoints.towers import (
    Block,
    Checkpoint,
    Dense,
    ImageTower,
    Norm,
    Preprocessing,
    Shape,
    TextTower,
)
from edgepact.inference.checkpoints.transformers_layout import (
    LAYERS_MAX,
    LENGTH_MAX,
    SIDE_MAX,
    VOCABULARY_MAX,
    WIDTH_MAX,
)

CONFIG = "open_clip_config.json"

_EPSILON = 1e-5
_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]
_FITS = {"shortest": "shortest_edge", "squash": "squash"}
_FILTERS = {"bicubic": "bicubic", "bilinear": "bilinear"}
_OTHER_PICTURES = ("timm_model_name", "attentional_pool", "attn_pooler_queries", "pool_type")
_OTHER_TEXTS = ("hf_model_name", "hf_tokenizer_name", "embed_cls", "pool_type", "no_causal_mask")


def read(folder: Path) -> Checkpoint:
    """A checkpoint's folder.

    Raises:
        InputError: a file is missing or damaged, or asks for what is not built here.
    """
    said = Said(folder / CONFIG, read_json(folder / CONFIG))
    model = said.inside("model_cfg")
    vision, text = model.inside("vision_cfg"), model.inside("text_cfg")
    model.expect("custom_text", False)
    for part, names in ((vision, _OTHER_PICTURES), (text, _OTHER_TEXTS)):
        for name in names:
            usual = {"pool_type": "tok" if part is vision else "argmax"}.get(name)
            if part.table.get(name, usual) not in (usual, None, False):
                found = part.table[name]
                raise InputError(said.path, part.within + name, "open_clip's own tower", str(found))
    tensors = Tensors(folder)
    dim = model.whole("embed_dim", WIDTH_MAX)
    quick = model.table.get("quick_gelu", False)
    activation = "quick_gelu" if quick is True else "gelu"
    return Checkpoint(
        family="clip",
        image=_image(vision, tensors, dim, activation),
        text=_text(text, tensors, dim, activation),
        logit_scale=math.exp(tensors.number("logit_scale")),
        preprocessing=_preprocessing(said),
    )


# ---------------------------------------------------------------- private


def _image(config: Said, tensors: Tensors, dim: int, activation: str) -> ImageTower:
    width = config.whole("width", WIDTH_MAX, 768)
    size = config.whole("image_size", SIDE_MAX, 224)
    patch = config.whole("patch_size", size, 16)
    head = config.whole("head_width", width, 64)
    return ImageTower(
        shape=_shape(config, width, _heads(config, "head_width", width, width // head), activation),
        image_size=size,
        patch=patch,
        kernel=tensors.of("visual.conv1.weight", width, 3, patch, patch),
        kernel_shift=None,
        class_token=tensors.of("visual.class_embedding", width),
        positions=tensors.of("visual.positional_embedding", (size // patch) ** 2 + 1, width),
        first_norm=Norm.of(tensors, "visual.ln_pre", width),
        blocks=_blocks(config, tensors, "visual.transformer", width),
        last_norm=Norm.of(tensors, "visual.ln_post", width),
        pooling=None,
        # Stored the other way round than the matrices of layers.
        projection=_turned(tensors, "visual.proj", width, dim),
        dim=dim,
    )


def _text(config: Said, tensors: Tensors, dim: int, activation: str) -> TextTower:
    width = config.whole("width", WIDTH_MAX, 512)
    length = config.whole("context_length", LENGTH_MAX, 77)
    vocabulary = config.whole("vocab_size", VOCABULARY_MAX, 49_408)
    heads = config.whole("heads", width, 8)
    return TextTower(
        shape=_shape(config, width, _heads(config, "heads", width, heads), activation),
        length=length,
        vocabulary=vocabulary,
        embedding=tensors.of("token_embedding.weight", vocabulary, width),
        positions=tensors.of("positional_embedding", length, width),
        causal=True,
        blocks=_blocks(config, tensors, "transformer", width),
        last_norm=Norm.of(tensors, "ln_final", width),
        end=None,
        at_last=False,
        projection=_turned(tensors, "text_projection", width, dim),
    )


def _shape(config: Said, width: int, heads: int, activation: str) -> Shape:
    return Shape(
        width=width,
        heads=heads,
        activation="quick_gelu" if activation == "quick_gelu" else "gelu",
        epsilon=_EPSILON,
    )


def _heads(config: Said, name: str, width: int, heads: int) -> int:
    if heads < 1 or width % heads:
        expected = f"heads that divide the width {width}"
        raise InputError(config.path, config.within + name, expected, heads)
    return heads


def _blocks(config: Said, tensors: Tensors, tower: str, width: int) -> tuple[Block, ...]:
    layers = config.whole("layers", LAYERS_MAX, 12)
    hidden = round(width * config.number("mlp_ratio", 4.0))
    return tuple(_block(tensors, f"{tower}.resblocks.{at}", width, hidden) for at in range(layers))


def _block(tensors: Tensors, at: str, width: int, hidden: int) -> Block:
    return Block(
        attention_norm=Norm.of(tensors, f"{at}.ln_1", width),
        attention_in=Dense(
            weights=(tensors.of(f"{at}.attn.in_proj_weight", 3 * width, width),),
            shifts=(tensors.of(f"{at}.attn.in_proj_bias", 3 * width),),
        ),
        attention_out=Dense.of(tensors, f"{at}.attn.out_proj", width, width),
        mlp_norm=Norm.of(tensors, f"{at}.ln_2", width),
        mlp_in=Dense.of(tensors, f"{at}.mlp.c_fc", hidden, width),
        mlp_out=Dense.of(tensors, f"{at}.mlp.c_proj", width, hidden),
    )


def _turned(tensors: Tensors, name: str, inputs: int, outputs: int) -> Dense:
    found = tensors.of(name, inputs, outputs)
    return Dense(weights=(type(found)(found.values.T, found.kind),))


def _preprocessing(said: Said) -> Preprocessing:
    table = said.table.get("preprocess_cfg")
    stated = table if isinstance(table, dict) else {}
    config = Said(said.path, {"mean": _MEAN, "std": _STD} | stated, "preprocess_cfg.")
    fit = config.choice("resize_mode", _FITS, "shortest")
    return Preprocessing(
        fit="squash" if fit == "squash" else "shortest_edge",
        resample=config.choice("interpolation", _FILTERS, "bicubic"),
        mean=config.three("mean"),
        std=config.three("std", above=0.0),
    )
