"""How good a crowd of pictures is: whether each shows what was meant, and how varied they are.

Accuracy alone would praise a generator that draws the same typical coat for ever. So a crowd is
compared with real pictures too, in the features of a judge that took no part in drawing:

- the Fréchet distance of two Gaussians with the crowds' means and covariances (Heusel et al. 2017);
- recall, the share of real pictures that lie among the drawn ones: nearer to one of them than its
  own k-th neighbour is (Kynkäänniemi et al. 2019);
- the mean distance of two pictures of the same class, in grey levels, as a share of real ones'.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8

NEIGHBOURS = 3


def frechet(
    these: Float[np.ndarray, "n features"], those: Float[np.ndarray, "m features"]
) -> float:
    """Fréchet distance of two crowds: 0 of the same, in squared units of the features.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(frechet(x, x), 6), round(frechet(x, x + [1, 0, 0]), 6)
        (0.0, 1.0)
    """
    apart = these.mean(axis=0) - those.mean(axis=0)
    one = np.atleast_2d(np.cov(these.astype(np.float64).T))
    two = np.atleast_2d(np.cov(those.astype(np.float64).T))
    root = _root(one)
    values = np.linalg.eigvalsh(root @ two @ root)
    crossed = np.sqrt(np.maximum(values, 0.0)).sum()
    found = apart @ apart + np.trace(one) + np.trace(two) - 2 * crossed
    return max(0.0, float(found))  # rounding leaves the same crowd a little below


def recall(
    real: Float[np.ndarray, "n features"],
    drawn: Float[np.ndarray, "m features"],
    neighbours: int = NEIGHBOURS,
) -> float:
    """Share of real pictures that lie among the drawn ones."""
    within = np.sort(_distances(drawn, drawn), axis=1)[:, min(neighbours, len(drawn) - 1)]
    return float((_distances(real, drawn) <= within).any(axis=1).mean())


def spread(images: UInt8[np.ndarray, "n size size"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean distance of two pictures of the same class: grey levels, root mean square."""
    found = []
    for label in np.unique(labels):
        flat = images[labels == label].reshape(-1, images[0].size).astype(np.float64)
        if len(flat) > 1:
            squares = _distances(flat, flat) ** 2 / flat.shape[1]
            found.append(np.sqrt(squares[np.triu_indices(len(flat), 1)]).mean())
    return float(np.mean(found))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric matrix without negative values."""
    values, vectors = np.linalg.eigh(matrix)
    found: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return found


def _distances(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    one, two = these.astype(np.float64), those.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1) - 2 * one @ two.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))
