"""The next token from what a language model says of it: greedily, or drawn.

What is drawn hangs on a seed and on the token's place in the text alone, so that a text can be
drawn again from any place on. NumPy only.
"""

from dataclasses import dataclass

import numpy as np

from edgepact.errors import InputError

ALTERNATIVES_MAX = 20
"""Most tokens whose probabilities are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: divides logits; 0 takes the likeliest token.
        top_k: only so many of the likeliest tokens; 0 for all.
        top_p: only the likeliest tokens that together have this probability.

    Raises:
        InputError: a value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for field, fits, expected, found in (
            ("temperature", 0.0 <= self.temperature <= 10.0, "from 0 to 10", self.temperature),
            ("top_k", 0 <= self.top_k <= 1 << 20, "from 0 to 1048576", self.top_k),
            ("top_p", 0.0 < self.top_p <= 1.0, "above 0, up to 1", self.top_p),
        ):
            if not fits:
                raise InputError("sampling", field, f"a number {expected}", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A token that was drawn.

    Attributes:
        token: its number.
        logprob: natural logarithm of its probability, by the model and before `Sampling`.
        likeliest: the likeliest tokens and their logarithms, best first.
    """

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


def drawn(
    logits: np.ndarray, sampling: Sampling, *, seed: int, place: int, alternatives: int = 0
) -> Drawn:
    """The next token.

    Args:
        logits: float32, `(vocabulary,)`.
        sampling: how.
        seed: of the text.
        place: of the token in the text.
        alternatives: how many of the likeliest tokens to tell, up to `ALTERNATIVES_MAX`.

    Raises:
        InputError: the logits are not finite.

    Example:
        >>> drawn(np.array([0.0, 2.0, 1.0], np.float32), Sampling(), seed=0, place=0).token
        1
    """
    x = logits.astype(np.float64)
    if not np.isfinite(x).all():
        raise InputError("text", "logits", "finite numbers", "NaN or infinity")
    x -= x.max()
    logprobs = x - np.log(np.exp(x).sum())
    if sampling.temperature == 0.0:
        token = int(np.argmax(x))
    else:
        order = np.argsort(-x, kind="stable")
        if sampling.top_k:
            order = order[: sampling.top_k]
        weights = np.exp(x[order] / sampling.temperature)
        weights /= weights.sum()
        if sampling.top_p < 1.0:
            enough = int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1
            order, weights = order[:enough], weights[:enough]
        at = np.random.default_rng([seed, place]).random() * weights.sum()
        token = int(order[min(int(np.searchsorted(np.cumsum(weights), at)), len(order) - 1)])
    likeliest: tuple[tuple[int, float], ...] = ()
    if alternatives:
        count = min(alternatives, ALTERNATIVES_MAX, len(x))
        best = np.argpartition(-x, count - 1)[:count]
        best = best[np.argsort(-x[best], kind="stable")]
        likeliest = tuple((int(each), float(logprobs[each])) for each in best)
    return Drawn(token=token, logprob=float(logprobs[token]), likeliest=likeliest)
