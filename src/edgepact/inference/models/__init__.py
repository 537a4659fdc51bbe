"""The embedded CLIP, its sample images, the generator of garments and its judge, shipped here.

`scripts/train_embedded_clip.py` writes the first two, `scripts/train_garments.py` and
`scripts/train_garment_judge.py` the others; the `MODEL_CARD.md` of each says what it can and
cannot do.
"""

from importlib import resources
from pathlib import Path


def embedded() -> Path:
    """The model directory of the embedded CLIP."""
    return _shipped("fashion_clip")


def samples() -> Path:
    """The sample images: one folder of PNG files for each class, named after it."""
    return _shipped("samples")


def garments() -> Path:
    """The folder of the generator of garments."""
    return _shipped("garments")


def garment_judge() -> Path:
    """The folder of the judge of what that makes."""
    return _shipped("garment_judge")


def _shipped(name: str) -> Path:
    # ONNX Runtime maps the weight file, so the package must lie unpacked, as pip leaves it.
    return Path(str(resources.files(__name__).joinpath(name)))
