r"""How frequent types are by exact Bayes, told the prior: the ceiling for all that must learn it.

Frequencies are $p = (1 - l) w + l / K$ with $w$ from a Dirichlet distribution of one parameter for
all types, itself log-uniform, as `contract.problem.InstancePrior` draws them. Given how many took
each run of types, the posterior mean has no closed form; Gibbs sampling reaches it: takers of a
shared item are split among its types, those who stem from the even part l are taken out, then the
parameter is drawn with $w$ integrated out, and $w$ from its Dirichlet distribution. What is
averaged is the mean given the rest (Rao and Blackwell). Many populations at once, without JAX.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from edgepact.mechanisms.contract.take_up import TakeUp

GRID = 24
"""Values that the Dirichlet parameter may have."""

BURNED = 0.2
"""Share of the sweeps that is not averaged."""


def expected_frequencies(
    seen: TakeUp,
    exists: Float[np.ndarray, "populations types"],
    *,
    concentration: tuple[float, float],
    least: float,
    seed: int,
    sweeps: int = 150,
    chains: int = 4,
) -> Float[np.ndarray, "populations types"]:
    """Posterior means of the frequencies.

    Args:
        seen: rounds of answers, `(populations, rounds, types)`, types in order of falling cost.
        exists: 1 for types, 0 for padding, which stands last.
        concentration: range of the Dirichlet parameter, log-uniform.
        least: l.
        seed: of the sampling.
        sweeps: of every chain.
        chains: of every population.
    """
    rng = np.random.default_rng(seed)
    there = exists[:, None, :]
    number = np.sum(exists, axis=-1)[:, None, None]
    run = np.cumsum(seen.first * there, axis=-1)
    same = (run[..., :, None] == run[..., None, :]) * there[..., None, :]
    together = np.sum(same * seen.taken[..., None, :], axis=-1)
    # Axes: populations, chains, rounds, types.
    ends = np.concatenate([run[..., 1:] != run[..., :-1], np.ones((*run.shape[:-1], 1))], axis=-1)
    starts = (seen.first * there)[:, None] > 0
    ends, together = ends[:, None] > 0, together[:, None].astype(np.int64)
    level = np.geomspace(*concentration, GRID)
    a = np.broadcast_to(np.exp(np.mean(np.log(level))), (len(exists), chains, 1))
    w = np.broadcast_to(there / number, (len(exists), chains, exists.shape[-1]))
    total, averaged = np.zeros_like(exists), 0
    for sweep in range(sweeps):
        p = there * ((1.0 - least) * w + least / number)
        counted = _split(rng, together, starts, ends, p)
        share = (1.0 - least) * w / np.where(p > 0, p, 1.0)
        own = rng.binomial(counted, np.clip(share, 0.0, 1.0)).astype(float)
        a = _parameter(rng, own, there, number, level)
        gamma = rng.standard_gamma(np.where(there > 0, a + own, 1.0)) * there
        gamma = np.maximum(gamma, 1e-300 * there)
        w = gamma / np.sum(gamma, axis=-1, keepdims=True)
        if sweep >= BURNED * sweeps:
            mean = (a + own) / (a * number + np.sum(own, axis=-1, keepdims=True))
            total += np.mean(there * ((1.0 - least) * mean + least / number), axis=1)
            averaged += 1
    found: np.ndarray = total / averaged
    return found


def _split(
    rng: np.random.Generator,
    together: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    p: np.ndarray,
) -> np.ndarray:
    """Takers of every type in all rounds, those of a shared item split as frequencies say."""
    types = p.shape[-1]
    each = np.broadcast_to(p[..., None, :], (*p.shape[:2], together.shape[2], types))
    left = np.zeros_like(each)
    behind = np.zeros(each.shape[:-1])
    for at in range(types - 1, -1, -1):
        behind = np.where(ends[..., at], 0.0, behind) + each[..., at]
        left[..., at] = behind
    counted = np.zeros(p.shape, np.int64)
    remaining = np.zeros(each.shape[:-1], np.int64)
    for at in range(types):
        remaining = np.where(starts[..., at], together[..., at], remaining)
        share = each[..., at] / np.where(left[..., at] > 0, left[..., at], 1.0)
        drawn = rng.binomial(remaining, np.clip(np.where(ends[..., at], 1.0, share), 0.0, 1.0))
        counted[..., at] = np.sum(drawn, axis=-1)
        remaining = remaining - drawn
    return counted


def _parameter(
    rng: np.random.Generator,
    own: np.ndarray,
    there: np.ndarray,
    number: np.ndarray,
    level: np.ndarray,
) -> np.ndarray:
    """The Dirichlet parameter given counts, the frequencies integrated out."""
    likely = gammaln(number * level) - gammaln(number * level + np.sum(own, -1, keepdims=True))
    rising = gammaln(own[..., None] + level) - gammaln(level)
    likely = likely + np.sum(there[..., None] * rising, axis=-2)
    # The largest of logarithms plus Gumbel noise is a draw.
    noisy = likely + rng.gumbel(size=likely.shape)
    return level[np.argmax(noisy, axis=-1)][..., None]
