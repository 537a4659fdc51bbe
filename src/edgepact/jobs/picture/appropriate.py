"""What a picture takes that is drawn until the judge accepts it: draws, and the chance of one.

With a chance of $p$ to be accepted a picture takes $(1 - (1-p)^n)/p$ of at most $n$ draws, and is
accepted by then with chance $1 - (1-p)^n$. But $p$ is another for each prompt, so both are
measured: whole pictures are drawn from seeds of their own, for every label in the generator's
templates, and judged as the server judges them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from edgepact.errors import InputError
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tries:
    """Draws of pictures, each picture's in a row.

    Attributes:
        pictures: themselves.
        labels: what each picture means.
        judged: probability of that, as the judge sees it in each draw.
        named: the label that the judge finds likeliest in each draw, by its place.
        judge: that judged, whose labels these are.
    """

    pictures: UInt8[np.ndarray, "trials draws size size"]
    labels: tuple[str, ...]
    judged: Float[np.ndarray, "trials draws"]
    named: Int[np.ndarray, "trials draws"]
    judge: Judge


def tried(generator: Generator, *, trials: int, draws: int, seed: int = SEED) -> Tries:
    """Draws so many of each picture, and has all of them judged.

    Args:
        generator: that draws, by its recipe; nothing is shared.
        trials: pictures, as many of each label as of any other.
        draws: of each.
        seed: of the noise.

    Raises:
        InputError: the judge does not know a label of the generator.
    """
    judge, texts = Judge(garment_judge()), TextVectors(generator.text_folder)
    for label in generator.labels:
        if label not in judge.labels:
            expected = f"labels that the judge knows: {', '.join(judge.labels)}"
            raise InputError(generator.folder, "labels", expected, label)
    prompts = built_in(generator.labels, generator.templates)
    asked = [prompts[at % len(prompts)] for at in range(trials)]
    text = np.concatenate([texts.of(each.text) for each in asked])
    labels = tuple(str(each.label) for each in asked)
    at = np.array([judge.labels.index(label) for label in labels])
    pictures, judged, named = [], [], []
    for draw in range(draws):
        seeds = np.random.default_rng((seed, draw)).integers(2**62, size=trials)
        noise = np.concatenate([generator.flow.noise(int(each)) for each in seeds])
        chain = generator.passed(noise, 0, generator.recipe.steps, text)
        drawn = generator.flow.decoded(chain)
        seen = judge.seen(drawn)[0]
        pictures.append(drawn)
        judged.append(seen[np.arange(trials), at])
        named.append(seen.argmax(axis=1))
    return Tries(
        pictures=np.stack(pictures, axis=1),
        labels=labels,
        judged=np.stack(judged, axis=1),
        named=np.stack(named, axis=1),
        judge=judge,
    )


def shown(
    judged: Float[np.ndarray, "trials draws"], accepted_at: float, draws: int
) -> Int[np.ndarray, " trials"]:
    """Which draw of each picture is shown: the first that is accepted, else the best of all."""
    some = judged[:, :draws]
    hits = some >= accepted_at
    return np.where(hits.any(axis=1), hits.argmax(axis=1), some.argmax(axis=1))


def until(judged: Float[np.ndarray, "trials draws"], accepted_at: float, draws: int) -> Until:
    """What is taken where the first draw that reaches a threshold ends it.

    Example:
        >>> until(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.3], [0.7, 0.7]]), 0.5, 2)
        Until(draws=1.5, appropriate=0.75, trials=4)
    """
    hits = judged[:, :draws] >= accepted_at
    ends = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, draws)
    return Until(
        draws=float(ends.mean()), appropriate=float(hits.any(axis=1).mean()), trials=len(judged)
    )


def drawn_until(generator: Generator, *, trials: int) -> Until:
    """What pictures take by the recipe of a generator, which has a threshold."""
    recipe = generator.recipe
    assert recipe.accepted_at is not None
    judged = tried(generator, trials=trials, draws=recipe.draws).judged
    return until(judged, recipe.accepted_at, recipe.draws)
