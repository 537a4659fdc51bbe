"""The judge of garments: what a picture shows, by a network that took no part in making it.

`scripts/train_garment_judge.py` trains it; its model card says how well it knows real pictures.
The 64 numbers before its classes are the features in which pictures are compared as crowds.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from edgepact.errors import InputError
from edgepact.inference.pipeline import open_session

JUDGE = "judge.onnx"
LABELS_JSON = "labels.json"
MEAN, STD = 0.286, 0.353
"""Of the grey levels it was trained on, from 0 to 1."""

BATCH = 500


class Judge:
    """Judges pictures. Used by one thread.

    Args:
        folder: with the model and the names of its classes.

    Raises:
        InputError: they cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LABELS_JSON
        try:
            labels = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(path, "", "names of classes as JSON", str(error)) from None
        if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
            raise InputError(path, "", "a list of names", "something else")
        self.labels: tuple[str, ...] = tuple(labels)
        self._session = open_session(folder / JUDGE)
        outputs = {each.name: each.shape for each in self._session.get_outputs()}
        if outputs.get("logits", [0])[-1] != len(labels) or "features" not in outputs:
            expected = f"outputs 'features' and 'logits', {len(labels)} of them"
            raise InputError(folder / JUDGE, "outputs", expected, outputs)

    def seen(
        self, images: UInt8[np.ndarray, "n size size"]
    ) -> tuple[Float[np.ndarray, "n classes"], Float[np.ndarray, "n features"]]:
        """Probabilities of the classes, and features, of grey pictures of 28x28."""
        logits, features = [], []
        for start in range(0, len(images), BATCH):
            grey = images[start : start + BATCH, None].astype(np.float32)
            pixels = ((grey / 255 - MEAN) / STD).astype(np.float32)
            found = self._session.run(["logits", "features"], {"pixels": pixels})
            logits.append(found[0])
            features.append(found[1])
        every = np.concatenate(logits)
        weights = np.exp(every - every.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True), np.concatenate(features)
