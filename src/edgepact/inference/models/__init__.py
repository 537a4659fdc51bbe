"""The embedded CLIP and its sample images, shipped with the package.

`scripts/train_embedded_clip.py` writes both; `fashion_clip/MODEL_CARD.md` says
what the model can and cannot do.
"""

from importlib import resources
from pathlib import Path


def embedded() -> Path:
    """The model directory of the embedded CLIP."""
    return _shipped("fashion_clip")


def samples() -> Path:
    """The sample images: one folder of PNG files for each class, named after it."""
    return _shipped("samples")


def _shipped(name: str) -> Path:
    # ONNX Runtime maps the weight file, so the package must lie unpacked, as pip leaves it.
    return Path(str(resources.files(__name__).joinpath(name)))
