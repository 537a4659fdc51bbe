r"""How long a piece waits in one market process: a queueing model.

A piece meets two stations. The *process* (HTTP, decoding, digests, computing) is one processor
that all pieces share: M/G/1 with processor sharing, whose mean response $s/(1-\rho)$ depends on
the mean service time $s$ alone. The *ledger* is a server of batches: a write takes all pieces that
wait, and $T(n) = a + b n$ for $n$ of them; who comes meanwhile waits for the next. `docs/theory`
has the page `capacity`.
"""

import numpy as np
from scipy.stats import poisson

NEGLIGIBLE = 1e-12
"""Probability beyond which batches are not looked at."""


def shared_response(service_s: float, load: float) -> float:
    """Mean response of an M/G/1 queue with processor sharing, seconds.

    Args:
        service_s: mean service time.
        load: arrivals a second times the mean service time.

    Returns:
        Infinity where the load is 1 or more.

    Example:
        >>> shared_response(0.001, 0.5)
        0.002
    """
    return service_s / (1.0 - load) if load < 1.0 else float("inf")


def group_response(rate: float, fixed_s: float, each_s: float) -> float:
    r"""Mean time from a piece's coming to the end of the write it is in, seconds.

    Pieces come as a Poisson stream. Exact: batch sizes are a Markov chain, since those who come
    during a write of $n$, Poisson of mean $\lambda T(n)$, are the next write; if nobody has come
    the next is the first who comes. One who comes during a write of $n$ waits $T(n)/2$ on average.

    Args:
        rate: pieces a second, above 0.
        fixed_s: $a$, of a write, seconds.
        each_s: $b$, of a piece in it, seconds.

    Returns:
        Infinity where writes cannot keep up, $\lambda b \ge 1$.

    Example:
        >>> round(group_response(1e-6, 0.003, 0.001), 6)  # alone in its write
        0.004
    """
    if rate * each_s >= 1.0:
        return float("inf")
    sizes, taken = _batches(rate, fixed_s, each_s)
    writes_s = fixed_s + each_s * sizes
    come = poisson.pmf(sizes[None, :], rate * writes_s[:, None])
    nobody = poisson.pmf(0, rate * writes_s)
    waited = come * sizes * (writes_s[:, None] / 2.0 + writes_s[None, :])
    total_s = taken @ (waited.sum(1) + nobody * writes_s[0])
    count = taken @ ((come * sizes).sum(1) + nobody)
    return float(total_s / count)


def group_size(rate: float, fixed_s: float, each_s: float) -> float:
    """Mean number of pieces of a write, in the model of `group_response`.

    Example:
        >>> round(group_size(1e-6, 0.003, 0.001), 6)
        1.0
    """
    if rate * each_s >= 1.0:
        return float("inf")
    sizes, taken = _batches(rate, fixed_s, each_s)
    return float(taken @ sizes)


def _batches(rate: float, fixed_s: float, each_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of batches, and how likely each is: (S,) and (S,)."""
    # The mean size of a busy ledger is n = rate (a + b n); sizes spread about as a Poisson does.
    mean = rate * fixed_s / (1.0 - rate * each_s)
    spread = (mean + 1.0) / (1.0 - (rate * each_s) ** 2)
    most = int(np.ceil(mean + 12.0 * np.sqrt(spread) + 20.0))
    sizes = np.arange(1, most + 1)
    writes_s = fixed_s + each_s * sizes
    steps = np.asarray(poisson.pmf(sizes[None, :], rate * writes_s[:, None]))
    steps[:, 0] += poisson.pmf(0, rate * writes_s)
    steps /= steps.sum(1, keepdims=True)
    # taken = taken @ steps, and the sum is 1.
    equations = np.vstack([steps.T - np.eye(most), np.ones(most)])
    right = np.append(np.zeros(most), 1.0)
    found = np.linalg.lstsq(equations, right, rcond=None)[0]
    taken = np.where(found < NEGLIGIBLE, 0.0, found)
    return sizes, taken / taken.sum()
