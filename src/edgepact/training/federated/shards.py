"""Who holds which images: a labelled set split over clients, evenly or by a Dirichlet draw."""

import math

import numpy as np
from jaxtyping import Int, UInt8

from edgepact.errors import InputError

Shards = tuple[Int[np.ndarray, " ..."], ...]


def dirichlet_shards(
    labels: UInt8[np.ndarray, " images"], clients: int, concentration: float, *, seed: int
) -> Shards:
    """Places of the images that each client holds: every image with exactly one client.

    Of each class, client n gets a share drawn from a symmetric Dirichlet distribution (Hsu, Qi and
    Brown 2019, arXiv 1909.06335). A small concentration leaves most clients with one or two
    classes; infinity deals each class out evenly. Nobody is left without an image: who drew none
    is given one by whoever holds most.

    Args:
        labels: class of each image, shape `images`.
        clients: how many, at most one for each image.
        concentration: above 0; `math.inf` for an even split.
        seed: all randomness comes from it.

    Raises:
        InputError: an argument is out of range.
    """
    if not 1 <= clients <= len(labels):
        expected = f"1 to {len(labels)}, the images there are"
        raise InputError("federation", "clients", expected, clients)
    if not concentration > 0.0:
        raise InputError("federation", "dirichlet", "a number above 0, or inf", concentration)
    random = np.random.default_rng([seed, 0xD1])
    held: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        for own, part in zip(held, _parted(places, clients, concentration, random), strict=True):
            own.append(part)
    shards = [np.concatenate(own) for own in held]
    for poor in range(clients):
        if len(shards[poor]) == 0:
            rich = max(range(clients), key=lambda at: len(shards[at]))
            shards[poor], shards[rich] = shards[rich][-1:], shards[rich][:-1]
    return tuple(np.sort(shard) for shard in shards)


def _parted(
    places: np.ndarray, clients: int, concentration: float, random: np.random.Generator
) -> list[np.ndarray]:
    if math.isinf(concentration):
        # Each class begins with another client, or the first would get every remainder.
        start = int(random.integers(clients))
        return [places[(start + at) % clients :: clients] for at in range(clients)]
    share = random.dirichlet(np.full(clients, concentration))
    if not np.isfinite(share).all():  # every gamma draw underflowed: one client has it all
        share = np.eye(clients)[int(random.integers(clients))]
    return np.split(places, np.rint(np.cumsum(share)[:-1] * len(places)).astype(int))
