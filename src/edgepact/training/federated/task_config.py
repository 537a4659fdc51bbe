"""What is learnt together: its settings object, for flags, files and deployments.

The command line loads this module before it knows what it is asked, so it imports nothing large.
"""

from dataclasses import dataclass
from typing import ClassVar

from edgepact.settings import SEED_MAX, check, setting
from edgepact.training.data_set import DEBIAN_FOLDER, IMAGE_SIZE

SAMPLES = "samples"
"""Name of the data that come with the package: 300 images."""

LAYERS_MAX = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """What is trained, on what, and how much of it a client does in a round.

    The embedded model has 12 blocks; fewer learn sooner, and in some dozen rounds none of them are
    missed. An epoch has the same number of batches for every client whatever it holds, so that it
    is the same work for all.

    Raises:
        InputError: of the source `task` and the field that cannot be.
    """

    SOURCE: ClassVar[str] = "task"

    data: str = setting(
        "Folder of Fashion-MNIST, or samples: the 300 images of the package.",
        default=str(DEBIAN_FOLDER),
        metavar="DIR",
    )
    layers: int = setting(
        "Blocks of the image tower; the embedded one has 12.", default=4, least=1, most=LAYERS_MAX
    )
    public_images: int = setting(
        "Images the server keeps for the warm start; no client holds them. Of the few of samples, "
        "a sixth at most.",
        default=1000,
        least=0,
        most=60_000,
    )
    warm_up_steps: int = setting(
        "Batches of the warm start; 0 starts from random weights.",
        default=192,
        least=0,
        most=100_000,
    )
    test_images: int = setting(
        "Images of the test set that count for the accuracy; the first ones.",
        default=2000,
        least=1,
        most=10_000,
    )
    steps: int = setting(
        "Batches of an epoch, the same for every client.", default=16, least=1, most=10_000
    )
    batch: int = setting("Images of a batch.", default=16, least=1, most=4096)
    learning_rate: float = setting(
        "Learning rate of the clients' AdamW, which starts anew in every epoch.",
        default=1e-3,
        above=0,
        most=1,
    )
    weight_decay: float = setting(
        "Weight decay of the clients' AdamW.", default=0.05, least=0, most=1
    )
    shift_pixels: int = setting(
        "Images are mirrored and moved at random by up to so many pixels.",
        default=0,
        least=0,
        most=IMAGE_SIZE // 2,
    )
    seed: int = setting(
        "Seed of weights, of the split, of costs and of draws.", default=0, least=0, most=SEED_MAX
    )

    def __post_init__(self) -> None:
        check(self)
