"""What a picture takes that is drawn until the judge accepts it: draws, and the chance of one.

With a chance of $p$ to be accepted a picture takes $(1 - (1-p)^n)/p$ of at most $n$ draws, and is
accepted by then with chance $1 - (1-p)^n$. But $p$ is another for each prompt, so both are
measured: whole pictures are drawn from seeds of their own, for every label in the generator's
templates, and judged as the server judges them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.inference.judge import Judge
from edgepact.inference.models import garment_judge
from edgepact.jobs.picture.chain import Generator, TextVectors
from edgepact.jobs.picture.prompts import built_in

SEED = 20
"""Of the noise that trials are drawn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """What pictures take until they are appropriate.

    Attributes:
        draws: of a picture, on average.
        appropriate: share of pictures of which one draw was accepted.
        trials: pictures that were drawn to know it.
    """

    draws: float
    appropriate: float
    trials: int

    @property
    def sold_per_unit(self) -> float:
        """Appropriate pictures of each draw."""
        return self.appropriate / self.draws


def accepted(
    generator: Generator, *, trials: int, draws: int, seed: int = SEED
) -> Float[np.ndarray, "trials draws"]:
    """Probability of what was meant, as the judge sees it, in each of some draws of each picture.

    Args:
        generator: that draws, by its recipe.
        trials: pictures, as many of each label as of any other.
        draws: of each.
        seed: of the noise.
    """
    judge, texts = Judge(garment_judge()), TextVectors(generator.text_folder)
    prompts = built_in(generator.labels, generator.templates)
    asked = [prompts[at % len(prompts)] for at in range(trials)]
    text = np.concatenate([texts.of(each.text) for each in asked])
    at = [judge.labels.index(each.label) if each.label in judge.labels else -1 for each in asked]
    found = np.zeros((trials, draws))
    for draw in range(draws):
        noise = np.concatenate(
            [generator.flow.noise(int(each)) for each in _seeds(seed, draw, trials)]
        )
        chain = generator.passed(noise, 0, generator.recipe.steps, text)
        seen = judge.seen(generator.flow.decoded(chain))[0]
        found[:, draw] = np.where(np.array(at) >= 0, seen[np.arange(trials), at], 0.0)
    return found


def until(seen: Float[np.ndarray, "trials draws"], accepted_at: float, draws: int) -> Until:
    """What is taken where the first draw that reaches a threshold ends it.

    Example:
        >>> until(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.3], [0.7, 0.7]]), 0.5, 2)
        Until(draws=1.5, appropriate=0.75, trials=4)
    """
    hits = seen[:, :draws] >= accepted_at
    ends = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, draws)
    return Until(
        draws=float(ends.mean()), appropriate=float(hits.any(axis=1).mean()), trials=len(seen)
    )


def drawn_until(generator: Generator, *, trials: int) -> Until:
    """What pictures take by the recipe of a generator, which has a threshold."""
    recipe = generator.recipe
    assert recipe.accepted_at is not None
    seen = accepted(generator, trials=trials, draws=recipe.draws)
    return until(seen, recipe.accepted_at, recipe.draws)


def _seeds(seed: int, draw: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, draw)).integers(2**62, size=count)
