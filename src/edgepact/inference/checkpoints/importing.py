"""A model folder from a checkpoint: stages of the image tower, and vectors of the classes' texts.

The folder is put together beside its place and gets its name when it is whole. The text tower is
needed only while the texts are encoded; nothing of it is kept.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.inference.checkpoints import open_clip_layout, transformers_layout
from edgepact.inference.checkpoints.tokens import Tokens
from edgepact.inference.checkpoints.tower_graphs import WeightFile, image_graph, text_graph
from edgepact.inference.checkpoints.towers import Checkpoint
from edgepact.inference.checkpoints.words import Words
from edgepact.inference.digests import state_weights
from edgepact.inference.graph import cut
from edgepact.inference.pipeline import IMAGE_GRAPH, MODEL_JSON, open_session
from edgepact.inference.zero_shot import TEXT_GRAPH, TEXT_VECTORS

WEIGHTS = "weights.bin"


def read_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint of CLIP or SigLIP, in the layout of `transformers` or of `open_clip`.

    Raises:
        InputError: it is neither, damaged, or asks for what is not built here.
    """
    if (folder / open_clip_layout.CONFIG).is_file():
        return open_clip_layout.read(folder)
    if (folder / transformers_layout.CONFIG).is_file():
        return transformers_layout.read(folder)
    expected = f"{transformers_layout.CONFIG} or {open_clip_layout.CONFIG} in it"
    raise InputError(folder, "", expected, "neither" if folder.is_dir() else "no such folder")


def import_checkpoint(folder: Path, out: Path, words: Words, *, name: str) -> Path:
    """Makes a model folder, cut into stages.

    Args:
        folder: of the checkpoint.
        out: the new folder.
        words: labels and templates of its knowledge base.
        name: of the model, as offers call it.

    Returns:
        The new folder.

    Raises:
        InputError: there is a folder of that name, or the checkpoint cannot be used.
        MissingExtraError: a library that reads checkpoints is not installed.
    """
    if out.exists():
        raise InputError(out, "", "no file or folder of this name yet", "one")
    checkpoint = read_checkpoint(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        vectors = text_vectors(folder, checkpoint, words, draft)
        np.save(draft / TEXT_VECTORS, vectors, allow_pickle=False)
        with WeightFile(draft / WEIGHTS) as weights:
            graph = image_graph(checkpoint.image, weights)
        (draft / IMAGE_GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
        _describe(draft / MODEL_JSON, checkpoint, words, name)
        cut(draft)
        state_weights(draft)
        draft.chmod(0o755)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def text_vectors(
    folder: Path, checkpoint: Checkpoint, words: Words, scratch: Path
) -> Float[np.ndarray, "classes dim"]:
    """The mean of each label's prompts, of length 1, by the checkpoint's text tower.

    Args:
        folder: of the checkpoint, with its tokenizer.
        checkpoint: what was read there.
        words: labels and templates.
        scratch: a folder for the text tower's graph, which is removed again.

    Raises:
        InputError: a prompt is longer than the tower reads, or there is no tokenizer.
    """
    tower = checkpoint.text
    tokens = Tokens(folder, checkpoint.family, length=tower.length, vocabulary=tower.vocabulary)
    place = Path(tempfile.mkdtemp(dir=scratch))
    try:
        with WeightFile(place / WEIGHTS) as weights:
            graph = text_graph(tower, checkpoint.image.dim, weights)
        (place / TEXT_GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
        session = open_session(place / TEXT_GRAPH)
        vectors = np.zeros((len(words.labels), checkpoint.image.dim), np.float32)
        # One label at a time bounds the memory by the number of templates.
        for vector, label in zip(vectors, words.labels, strict=True):
            prompts = [template.replace("{}", label) for template in words.templates]
            (encoded,) = session.run(["vector"], {"ids": tokens.rows(prompts)})
            vector[:] = encoded.mean(axis=0)
    finally:
        shutil.rmtree(place)
    if not np.isfinite(vectors).all():
        raise InputError(folder, "", "vectors of texts that are finite", "NaN or infinity")
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


# ---------------------------------------------------------------- private


def _describe(path: Path, checkpoint: Checkpoint, words: Words, name: str) -> None:
    image, preprocessing = checkpoint.image, checkpoint.preprocessing
    facts: dict[str, str | int | float | Sequence[float | str]] = {
        "name": name,
        "layers_max": len(image.blocks),
        "image_size": image.image_size,
        "channels": 3,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "dim": image.dim,
        "logit_scale": checkpoint.logit_scale,
        "labels": list(words.labels),
        "templates": list(words.templates),
        "tokens": image.tokens,
        "width": image.shape.width,
        "fit": preprocessing.fit,
        "resample": preprocessing.resample,
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
