"""Trained policies as files: the linear layers of small networks and a reverse diffusion."""

import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError

Array = Any
"""NumPy or JAX array."""

Weights = Mapping[str, tuple[Array, Array]]
"""Weight and bias of every linear layer, by its name."""


class Constants(NamedTuple):
    """`diffusion.Chain` without JAX; entry t-1 belongs to step t."""

    signal: Float[Array, " steps"]
    from_clean: Float[Array, " steps"]
    from_noisy: Float[Array, " steps"]
    spread: Float[Array, " steps"]


class Contents(NamedTuple):
    """What a file holds: layers, the chain, and numbers by name."""

    weights: Weights
    constants: Constants
    numbers: dict[str, float]


def read_policy(
    path: Path,
    what: str,
    *,
    sizes: Mapping[str, tuple[int, int]],
    steps: int,
    numbers: tuple[str, ...] = (),
) -> Contents:
    """Reads a policy; the same file is read once.

    Args:
        path: the file.
        what: it should be, for errors.
        sizes: inputs and outputs of every layer.
        steps: of the chain.
        numbers: names of those that stand beside.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    try:
        return _read(path, path.stat().st_mtime_ns, tuple(sizes.items()), steps, numbers)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        found = getattr(error, "strerror", None) or f"{error}"
        raise InputError(path, "", what, found) from None


def write_policy(
    path: Path, weights: Weights, constants: Constants, *, half: bool = False, **numbers: float
) -> None:
    """Writes a policy in float32, or its weights in float16; its folder too if there is none."""
    arrays = {
        f"{name}.{part}": np.asarray(layer[at], np.float16 if half else np.float32)
        for name, layer in weights.items()
        for at, part in enumerate(("weight", "bias"))
    }
    chain = {
        f"chain.{name}": np.asarray(part, np.float32) for name, part in constants._asdict().items()
    }
    beside = {name: np.float64(number) for name, number in numbers.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **beside, **arrays, **chain)


def read_weights(path: Path, what: str, *, sizes: Mapping[str, tuple[int, int]]) -> Weights:
    """Reads linear layers that no chain stands beside; see `read_policy`."""
    return read_policy(path, what, sizes=sizes, steps=0).weights


def write_weights(path: Path, weights: Weights, *, half: bool = False) -> None:
    """Writes linear layers that no chain stands beside; see `write_policy`."""
    none = np.zeros(0, np.float32)
    write_policy(path, weights, Constants(none, none, none, none), half=half)


@cache
def _read(
    path: Path,
    changed_ns: int,
    sizes: tuple[tuple[str, tuple[int, int]], ...],
    steps: int,
    numbers: tuple[str, ...],
) -> Contents:
    """One reading of a file, `changed_ns` telling one version of it from another."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:

        def part(name: str, shape: tuple[int, ...]) -> np.ndarray:
            array = np.asarray(file[name])
            if array.shape != shape or not np.all(np.isfinite(array)):
                raise ValueError(f"{name} is not {shape} finite numbers")
            return array

        weights = {
            name: (part(f"{name}.weight", size), part(f"{name}.bias", size[1:]))
            for name, size in sizes
        }
        constants = Constants(*(part(f"chain.{name}", (steps,)) for name in Constants._fields))
        return Contents(weights, constants, {name: float(part(name, ())) for name in numbers})
