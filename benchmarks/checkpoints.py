"""Import of CLIP and SigLIP checkpoints of full size, against the library that wrote them.

Run by `python -m benchmarks.checkpoints [--json]` where `transformers` and PyTorch are installed.
The checkpoints are the library's own, of random weights: no hub is asked. Each is imported in a
process of its own, of which CPU seconds and the peak of memory are measured (PyTorch is not in
it); the stages' vectors are compared with the library's, and the chain of stages with the unsplit
graph, as `staged_inference` does it. The text tower's vectors are compared too.
"""

import json
import resource
import string
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.staged_inference import SLOWER_PERCENT_MAX, measured
from edgepact.inference.pipeline import Pipeline

MODELS = ("CLIP ViT-B/32", "CLIP ViT-B/16", "SigLIP B/16")
ROUNDS = 10
PICTURES = 2
DIFFERENCE_MAX = 1e-5
SECONDS_MAX = 60.0
MEMORY_BYTES_MAX = 2**30
"""That an import may take above the size of the checkpoint."""

PROMPTS = ("cat", "dog")


def measure() -> dict[str, Any]:
    """A row for each model: seconds, memory and differences."""
    rows = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(_measured(name, Path(scratch)))
    return {"models": rows, "threads": 1, "reached": all(row["reached"] for row in rows)}


def main() -> None:
    result = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(result, indent=1))
        return
    table = Table(title="Checkpoints of random weights, imported; one thread")
    for heading in (
        "model",
        "checkpoint MB",
        "import, CPU s",
        "memory above, MB",
        "pictures apart",
        "texts apart",
        "staged slower",
    ):
        table.add_column(heading, justify="right")
    for row in result["models"]:
        table.add_row(
            row["model"],
            f"{row['checkpoint_bytes'] / 1e6:.0f}",
            f"{row['import_s']:.1f}",
            f"{row['memory_above_bytes'] / 1e6:.0f}",
            f"{row['pictures_apart']:.1e}",
            f"{row['texts_apart']:.1e}",
            f"{row['slower_percent']:+.1f} %",
        )
    Console().print(table)


def _measured(name: str, scratch: Path) -> dict[str, Any]:
    source, out = scratch / "checkpoint", scratch / "model"
    pixels, images, texts = _saved(name, source)
    (scratch / "words.toml").write_text(f"labels = {list(PROMPTS)}\ntemplates = ['{{}}']\n")
    command = ["-m", "edgepact", "model", "import", str(source), str(out)]
    subprocess.run(
        [sys.executable, *command, "--words", str(scratch / "words.toml")],
        check=True,
        capture_output=True,
    )
    # Memory is the largest of all children so far: models come in the order of their sizes.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = (source / "model.safetensors").stat().st_size
    pipeline = Pipeline(out)
    found = pipeline.run(pixels, 0, pipeline.stage_count)
    row = {
        "model": name,
        "checkpoint_bytes": size,
        "import_s": used.ru_utime + used.ru_stime - _measured_before(used),
        "memory_above_bytes": used.ru_maxrss * 1024 - size,
        "pictures_apart": float(np.abs(found - images).max()),
        "texts_apart": float(np.abs(np.load(out / "texts.npy") - texts).max()),
        "slower_percent": measured(out, name, 1, ROUNDS)["slower_percent"],
    }
    row["reached"] = (
        row["import_s"] <= SECONDS_MAX
        and row["memory_above_bytes"] <= MEMORY_BYTES_MAX
        and row["pictures_apart"] <= DIFFERENCE_MAX
        and row["texts_apart"] <= DIFFERENCE_MAX
        and row["slower_percent"] <= SLOWER_PERCENT_MAX
    )
    return row


_before_s = [0.0]


def _measured_before(used: resource.struct_rusage) -> float:
    """CPU seconds of the children before the last one."""
    before, _before_s[0] = _before_s[0], used.ru_utime + used.ru_stime
    return before


def _saved(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random checkpoint; pictures ready for it, and the library's vectors of both."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
    )

    torch.manual_seed(0)
    clip = name.startswith("CLIP")
    patch = {"patch_size": int(name.rsplit("/", 1)[1])}
    if clip:
        model: Any = CLIPModel(CLIPConfig(vision_config=patch))
        CLIPImageProcessor().save_pretrained(folder)
    else:
        model = SiglipModel(SiglipConfig(vision_config=patch))
        SiglipImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    model.eval().save_pretrained(folder)
    rows = _tokenized(folder, model.config.text_config, clip=clip)
    pixels = torch.randn(PICTURES, 3, 224, 224)
    with torch.no_grad():
        found = (
            model.get_image_features(pixel_values=pixels),
            model.get_text_features(input_ids=torch.tensor(rows)),
        )
    vectors = (getattr(one, "pooler_output", one) for one in found)
    images, texts = ((one / one.norm(dim=-1, keepdim=True)).numpy() for one in vectors)
    return pixels.numpy(), images, texts


def _tokenized(folder: Path, config: Any, *, clip: bool) -> list[list[int]]:
    """A tokenizer of letters beside the checkpoint; the ids of the prompts, padded."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    start, end = ("<|startoftext|>", "<|endoftext|>") if clip else ("", "</s>")
    ends = {start: config.bos_token_id, end: config.eos_token_id} if clip else {end: 1}
    letters = {letter: at + 3 for at, letter in enumerate(string.ascii_lowercase)}
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 2, **letters, **ends}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(), special_tokens=list(ends.items())
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    length = config.max_position_embeddings
    rows = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    return [row + [ends[end]] * (length - len(row)) for row in rows]


if __name__ == "__main__":
    main()
