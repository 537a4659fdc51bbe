"""Writes the tiny checkpoints that the tests import, with the answers of the library itself.

Run it where `transformers` and PyTorch are installed (they are in no environment of this project):

    python scripts/make_checkpoint_fixtures.py tests/inference/checkpoints/folders

Each folder is what the library saves of a random model of two layers, beside `answers.npz`: some
pictures, what its processor makes of them, and the vectors of pictures and texts, of length 1.
"""

import string
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

SEED = 0
SIZE = 32
LENGTH = 16
PROMPTS = ("a cat", "a dog")
SIDES = ((32, 32), (45, 70), (101, 33), (20, 20))
"""Heights and widths of the pictures, pixels."""

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": LENGTH,
}
ENDS = {"bos_token_id": 38, "eos_token_id": 39}


def main(folder: Path) -> None:
    """Writes `clip`, `clip-legacy` and `siglip` into a folder."""
    clip = {"text_config": TEXT | ENDS, "vision_config": VISION, "projection_dim": 24}
    edge = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    square = {"size": {"height": SIZE, "width": SIZE}, "resample": 2}
    _write(folder / "clip", CLIPModel(CLIPConfig(**clip)), CLIPImageProcessor(**edge))
    # As the first configurations have it: the end token is 2, and the largest id is meant.
    legacy = clip | {"text_config": TEXT | {"bos_token_id": 0, "eos_token_id": 2}}
    legacy["vision_config"] = VISION | {"hidden_act": "gelu"}
    _write(folder / "clip-legacy", CLIPModel(CLIPConfig(**legacy)), CLIPImageProcessor(**edge))
    siglip = {
        "text_config": TEXT | {"hidden_size": 32, "projection_size": 32},
        "vision_config": VISION,
    }
    _write(folder / "siglip", SiglipModel(SiglipConfig(**siglip)), SiglipImageProcessor(**square))


def _write(folder: Path, model: Any, processor: Any) -> None:
    torch.manual_seed(SEED)
    with torch.no_grad():
        for weights in model.parameters():  # biases begin at 0, scales at 1
            weights.add_(0.1 * torch.randn_like(weights))
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    rows = _tokenizer(folder)
    rng = np.random.default_rng(SEED)
    pictures = [rng.integers(0, 256, (*sides, 3), np.uint8) for sides in SIDES]
    shown = [Image.fromarray(picture) for picture in pictures]
    with torch.no_grad():
        pixels = torch.cat([processor(one, return_tensors="pt")["pixel_values"] for one in shown])
        found = {
            "images": model.get_image_features(pixel_values=pixels),
            "texts": model.get_text_features(input_ids=torch.tensor(rows)),
        }
    vectors = {name: getattr(one, "pooler_output", one) for name, one in found.items()}
    answers = {
        name: (one / one.norm(dim=-1, keepdim=True)).numpy() for name, one in vectors.items()
    }
    answers |= {"pixels": pixels.numpy(), "ids": np.array(rows)}
    answers |= {f"picture_{at}": picture for at, picture in enumerate(pictures)}
    np.savez_compressed(folder / "answers.npz", **answers)


def _tokenizer(folder: Path) -> list[list[int]]:
    """A tokenizer of single letters; returns the ids of the prompts, padded."""
    clip = folder.name.startswith("clip")
    letters = {letter: at + 3 for at, letter in enumerate(string.ascii_lowercase + " ")}
    start, end = ("<|startoftext|>", "<|endoftext|>") if clip else ("", "</s>")
    ends = {start: ENDS["bos_token_id"], end: ENDS["eos_token_id"]} if clip else {end: 1}
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 2, **letters, **ends}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(), special_tokens=list(ends.items())
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    return [row + [ends[end]] * (LENGTH - len(row)) for row in rows]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
