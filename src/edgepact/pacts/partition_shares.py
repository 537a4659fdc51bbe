"""Inputs shared out between the devices of a run, so that none of them does another's work.

A market does not pay for the same work twice, whoever brings it; devices that share their inputs
would bring it honestly. So each gets its own, as far as there are enough.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgepact.jobs.classification import find_images
from edgepact.pacts.partition_jobs import Shares

REPEAT_ROUNDS = 2
"""Within so many rounds no input comes again, where there are enough."""

SPARE = 2
"""How many times as many images a device gets as it needs, at most: some may be passed over."""


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


@contextmanager
def lines_shared_out(
    lines: Sequence[str], names: Sequence[str], *, in_round: int, rounds: int, seed: int
) -> Iterator[Shares]:
    """Shares out lines for as long as the block runs, as a file for each device.

    Args:
        lines: such as prompts.
        names: of devices.
        in_round: lines of each in a round, at most.
        rounds: that are played.
        seed: of who gets which.
    """
    share = len(lines) // len(names)
    order = np.random.default_rng(seed).permutation(len(lines))
    with tempfile.TemporaryDirectory(prefix="edgepact-lines-") as place:
        files = {}
        for at, name in enumerate(names):
            own = [lines[index] for index in order[at :: len(names)]] if share else lines
            files[name] = Path(place) / f"{name}.txt"
            files[name].write_text("\n".join(own) + "\n", encoding="utf-8")
        yield Shares(folders=files, repeat_rounds=min(REPEAT_ROUNDS, rounds, share // in_round))
