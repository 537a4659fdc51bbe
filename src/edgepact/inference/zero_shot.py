"""From an image's vector to a class: the closest of the vectors of texts.

A knowledge base holds one vector for each label: the mean over prompt templates
of the text encoder's vectors, which is steadier than any one prompt. Classes
are words, so the same image encoder answers other questions with another
knowledge base; nothing is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from edgepact.errors import InputError, shown
from edgepact.inference.pipeline import ModelInfo, open_session

TEXT_GRAPH = "text.onnx"
TEXT_VECTORS = "texts.npy"
"""The finished vectors of the model's own labels, shape `classes dim`: all that an imported model
has of its texts."""

LABELS_MAX = 10_000
TEMPLATES_MAX = 1_000

# How far from 1 the length of an image vector may be: fp16 on the link rounds it.
_LENGTH_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeBase:
    """Text vectors to compare image vectors with.

    Args:
        labels: names of the classes.
        vectors: one of length 1 for each label, shape `classes dim`.
        logit_scale: what multiplies a cosine to make a logit.
    """

    labels: tuple[str, ...]
    vectors: Float[np.ndarray, "classes dim"]
    logit_scale: float

    @classmethod
    def from_texts(
        cls,
        model_dir: Path,
        labels: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
    ) -> "KnowledgeBase":
        """Encode every label in every template, or read what was encoded when it was imported.

        Args:
            model_dir: a model directory with a `text.onnx` or a `texts.npy`.
            labels: any words; the model's own by default.
            templates: texts with one `{}`; the model's own by default.

        Raises:
            InputError: there are no labels or templates, a label comes twice, a
                template has no `{}`, or a prompt is longer than the encoder reads;
                or other words are asked for where there is no encoder.
        """
        info = ModelInfo.read(model_dir)
        if (model_dir / TEXT_VECTORS).is_file():
            if labels is not None or templates is not None:
                expected = "the labels of the import: `edgepact model import` takes other ones"
                raise InputError(model_dir, "labels", expected, shown(labels))
            return cls._read(model_dir / TEXT_VECTORS, info)
        labels = checked_labels(info.labels if labels is None else labels)
        templates = checked_templates(info.templates if templates is None else templates)
        session = open_session(model_dir / TEXT_GRAPH)
        bytes_max = int(session.get_inputs()[0].shape[1])
        vectors = []
        # One label at a time bounds the memory by the number of templates.
        for label in labels:
            prompts = [template.replace("{}", label) for template in templates]
            (encoded,) = session.run(["vector"], {"bytes": prompt_bytes(prompts, bytes_max)})
            vectors.append(encoded.mean(axis=0))
        stacked = np.stack(vectors)
        lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
        return cls(
            labels=labels,
            vectors=(stacked / lengths).astype(np.float32),
            logit_scale=info.logit_scale,
        )

    @classmethod
    def _read(cls, path: Path, info: ModelInfo) -> "KnowledgeBase":
        expected = f"a vector of {info.dim} numbers and length 1 for each of the labels"
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(path, "", expected, str(error)) from None
        fits = vectors.shape == (len(info.labels), info.dim) and vectors.dtype == np.float32
        lengths = np.linalg.norm(vectors, axis=1) if fits else np.zeros(1)
        if not np.abs(lengths - 1).max() <= _LENGTH_TOLERANCE:
            raise InputError(path, "", expected, f"{vectors.dtype} of shape {list(vectors.shape)}")
        return cls(labels=info.labels, vectors=vectors, logit_scale=info.logit_scale)

    def classify(
        self, vectors: Float[np.ndarray, "images dim"]
    ) -> Float[np.ndarray, "images classes"]:
        """Probability of each class for each image.

        Args:
            vectors: image vectors of length 1, shape `images dim`.

        Returns:
            Probabilities that sum to 1 over the classes, shape `images classes`.

        Raises:
            InputError: the vectors have another size, are not finite, or are not
                of length 1.
        """
        dim = self.vectors.shape[1]
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise InputError(
                "image vectors", "shape", f"(images, {dim})", str(tuple(vectors.shape))
            )
        if not np.isfinite(vectors).all():
            raise InputError("image vectors", "values", "finite numbers", "NaN or infinity")
        lengths = np.linalg.norm(vectors, axis=1)
        if len(lengths) and np.abs(lengths - 1).max() > _LENGTH_TOLERANCE:
            worst = float(lengths[np.abs(lengths - 1).argmax()])
            raise InputError("image vectors", "length", "1", worst)
        logits = self.logit_scale * (vectors.astype(np.float32) @ self.vectors.T)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def prompt_bytes(prompts: Sequence[str], bytes_max: int) -> Int32[np.ndarray, "prompts bytes_max"]:
    """UTF-8 bytes of prompts, padded with zeros: the text encoder's input.

    Raises:
        InputError: a prompt is empty, holds a zero byte or is longer than `bytes_max`.

    Example:
        >>> prompt_bytes(["bag"], 5).tolist()
        [[98, 97, 103, 0, 0]]
    """
    rows = np.zeros((len(prompts), bytes_max), np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        encoded = prompt.encode("utf-8", "replace")
        if not 0 < len(encoded) <= bytes_max:
            raise InputError(
                "prompt", shown(prompt), f"1 to {bytes_max} bytes", f"{len(encoded)} bytes"
            )
        if 0 in encoded:
            raise InputError("prompt", shown(prompt), "text without zero bytes", "a zero byte")
        row[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return rows


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, each once.

    Raises:
        InputError: there are none or too many, one is blank, or one comes twice.
    """
    # A string is a sequence too, of letters: nobody means that.
    if isinstance(labels, str):
        raise InputError("knowledge base", "labels", "a list of labels", shown(labels))
    if not 1 <= len(labels) <= LABELS_MAX:
        raise InputError("knowledge base", "labels", f"1 to {LABELS_MAX} labels", len(labels))
    seen: set[str] = set()
    for index, label in enumerate(labels):
        if not label.strip():
            raise InputError("knowledge base", f"labels[{index}]", "a word", shown(label))
        if label in seen:
            raise InputError("knowledge base", f"labels[{index}]", "each label once", shown(label))
        seen.add(label)
    return tuple(labels)


def checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Prompts with one `{}` each.

    Raises:
        InputError: there are none or too many, or one has no `{}`, or several.
    """
    if isinstance(templates, str):
        raise InputError("knowledge base", "templates", "a list of prompts", shown(templates))
    if not 1 <= len(templates) <= TEMPLATES_MAX:
        raise InputError(
            "knowledge base", "templates", f"1 to {TEMPLATES_MAX} templates", len(templates)
        )
    for index, template in enumerate(templates):
        if template.count("{}") != 1:
            raise InputError(
                "knowledge base", f"templates[{index}]", "one {} for the label", shown(template)
            )
    return tuple(templates)
