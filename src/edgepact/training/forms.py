"""Forms that a model can be made into, by name: what halves may be, and how each is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.efficiency.halves import ORIGINAL
from edgepact.efficiency.model_compression.int8 import quantise_int8
from edgepact.efficiency.model_compression.weight_only import quantise_weights4, quantise_weights8
from edgepact.errors import InputError
from edgepact.training.pruning import PruningConfig, prune_heads

FORMS = (ORIGINAL, "int8", "weights8", "weights4", "heads")
"""As they are spelt; the original is always among those that are measured."""

TEACHING_STEPS = 400
"""Of the fine-tuning of pruned forms, if nothing is said."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormsConfig:
    """Which forms are made, and how.

    Attributes:
        forms: of `FORMS`; the original comes first in any case.
        share: of heads and hidden units that pruning takes away.
        steps: of fine-tuning after it.
        seed: of pruning's pictures.
    """

    forms: tuple[str, ...] = FORMS
    share: float = 0.5
    steps: int = TEACHING_STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.forms:
            if name not in FORMS:
                raise InputError("forms", "name", f"one of {', '.join(FORMS)}", name)
        if len(set(self.forms)) < len(self.forms):
            raise InputError("forms", "name", "each form once", ", ".join(self.forms))

    @property
    def names(self) -> tuple[str, ...]:
        """All forms, the original first."""
        return (ORIGINAL, *(name for name in self.forms if name != ORIGINAL))

    @property
    def pruning(self) -> PruningConfig:
        """How heads and units are pruned.

        Raises:
            InputError: a number is out of range.
        """
        return PruningConfig(share=self.share, steps=self.steps, seed=self.seed)


def make_forms(
    model_dir: Path,
    out_dir: Path,
    config: FormsConfig,
    *,
    pixels: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write a folder for each form into a folder, but for the original, which is where it is.

    Args:
        model_dir: the model, cut into stages.
        out_dir: for the forms.
        config: which.
        pixels: preprocessed pictures that pruning chooses and teaches by; drawn ones if None.
        progress: told how many forms are made, and of how many.

    Returns:
        Folders by name of the form, the original first.

    Raises:
        InputError: the model has no such form, or a folder is taken.
    """
    folders = {ORIGINAL: model_dir}
    names: Sequence[str] = config.names[1:]
    for at, name in enumerate(names):
        folder = out_dir / name
        if name == "heads":
            prune_heads(model_dir, folder, config.pruning, pixels=pixels)
        else:
            _QUANTISERS[name](model_dir, folder)
        folders[name] = folder
        if progress is not None:
            progress(at + 1, len(names))
    return folders


_QUANTISERS: dict[str, Callable[[Path, Path], None]] = {
    "int8": quantise_int8,
    "weights8": quantise_weights8,
    "weights4": quantise_weights4,
}
