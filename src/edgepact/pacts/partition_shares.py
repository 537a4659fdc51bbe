"""Images shared out between the devices of a run, so that none of them does another's work.

A market does not pay for the same work twice, whoever brings it; devices that share their images
would bring it honestly. So each gets images of its own, as far as there are enough.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.jobs.classification import find_images

REPEAT_ROUNDS = 2
"""Within so many rounds no image comes again, where there are enough."""

SPARE = 2
"""How many times as many images a device gets as it needs, at most: some may be passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Who has which images.

    Attributes:
        folders: by device; a file where the job's inputs are one, None for the model's own.
        repeat_rounds: within so many rounds none of them need bring an image again; 0 where there
            are too few for everybody to have their own, and all have all.
    """

    folders: Mapping[str, Path | None]
    repeat_rounds: int


@contextmanager
def shared_out(
    images: Path, names: Sequence[str], *, per_round: int, rounds: int, seed: int
) -> Iterator[Shares]:
    """Shares out the images of a folder for as long as the block runs, by links to them.

    Args:
        images: the folder, flat or one folder a class.
        names: of devices.
        per_round: images of each in a round.
        rounds: that are played.
        seed: of who gets which.

    Raises:
        InputError: there are no images.
    """
    pictures = find_images(images)
    share = len(pictures) // len(names)
    repeat_rounds = min(REPEAT_ROUNDS, rounds, share // per_round)
    if repeat_rounds == 0:
        print(
            f"note: {len(pictures)} images are too few for {len(names)} devices to bring "
            f"{per_round} of their own in a round: repeats are paid",
            file=sys.stderr,
        )
        yield Shares(folders=dict.fromkeys(names, images), repeat_rounds=0)
        return
    order = np.random.default_rng(seed).permutation(len(pictures))
    most = SPARE * per_round * rounds
    with tempfile.TemporaryDirectory(prefix="edgepact-images-") as place:
        folders = {}
        for at, name in enumerate(names):
            folders[name] = folder = Path(place) / name
            for index in order[at :: len(names)][:most]:
                path = pictures[index].path
                link = folder / path.relative_to(images)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        yield Shares(folders=folders, repeat_rounds=repeat_rounds)
