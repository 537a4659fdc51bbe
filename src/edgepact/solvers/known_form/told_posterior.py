"""The ceiling of quotes in context: exact Bayes for what is private, and our own rule to decide.

The GDM in context generates supply curves and decides by `in_context.decision`. Here the curves are
drawn from the exact posterior instead, by someone who is told how devices decide and the prior of
their costs (`bayes`), and the decision is the very same: expected gain, and H times the expected
improvement. So what the GDM misses against it is what it infers worse, and what this misses itself
is what nobody knows. It is for fleets of the prior alone, and refuses others.

With whole layers a fleet's curves are looked at as those of one device with the layers of all:
devices of one fleet are alike, and what they sell together varies more than the sum of independent
ones.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.solvers.in_context import curves, decision
from edgepact.solvers.in_context.curves import LEVELS, MARGIN
from edgepact.solvers.in_context.pricing import EAGER, HORIZON
from edgepact.solvers.in_context.supply import Sample
from edgepact.solvers.known_form.bayes import BayesianPosterior, posted_price
from edgepact.solvers.known_form.identify import FORMS, form_of
from edgepact.solvers.quoter import Known, Rival, Rounds
from edgepact.solvers.quoting import REFERENCE, ReferencePrior, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldPosterior(Rival):
    """The decision of the GDM in context over curves drawn from the exact posterior.

    Args:
        prior: of fleets.
        horizon: H.
        draws, draws_smooth: fleets drawn for one quote, with whole and with continuous layers;
            two continuous answers of a device leave nothing to draw.
    """

    knows_form: ClassVar[bool] = True
    prior: ReferencePrior = REFERENCE
    horizon: float = HORIZON
    draws: int = 256
    draws_smooth: int = 64

    def next_price(self, seen: Rounds) -> float:
        """The posted price at first, then what the rule says.

        Raises:
            InputError: an observation is not a possible one, or the fleet none of the prior.
        """
        known, prices = seen.known, seen.prices
        self._expect_of_the_prior(known)
        if len(seen) == 0:
            return posted_price(self.prior, known)
        sample = self.sample(seen.seed, known, prices, in_order(seen.layers))
        if known.integer:
            whole = sample.price.reshape(len(sample.price), 1, -1)
            sample = sample._replace(price=whole, layers=known.layers_max * known.devices)
        distinct = np.unique(prices)
        posted = np.log(distinct / known.saving)
        low, top = _ends(known)
        horizon = min(self.horizon, EAGER * len(posted))
        log, again = decision.best_price([(sample, 1.0)], posted, low=low, top=top, horizon=horizon)
        if again:
            # The same price to the last bit.
            return float(distinct[np.argmin(np.abs(posted - log))])
        return min(max(float(np.exp(log)) * known.saving, known.price_min), known.price_top)

    def sample(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
    ) -> Sample:
        """Supply curves from the posterior after some rounds, which agree with every answer.

        The draws depend on the seed and on how many different prices were posted.
        """
        form, K = form_of(known), known.layers_max
        draws = self.draws if known.integer else self.draws_smooth
        posterior = BayesianPosterior(prior=self.prior, particles=draws, particles_min=draws)
        rng = np.random.default_rng([seed, len(np.unique(prices))])
        alpha, kappa = (each[..., None] for each in posterior.draw(rng, known, prices, layers))
        low, top = _ends(known)
        seen = curves.read(known, prices, layers, np.ones(layers.shape, dtype=bool))
        places = np.arange(1.0, K + 1.0) if known.integer else K * np.arange(1, LEVELS + 1) / LEVELS
        # A device can run no more than leaves it nothing.
        able = places <= kappa - FORMS[form.satisfaction.name] / form.A
        left = np.maximum(kappa - places, 1e-12)
        price = alpha * (np.log1p(1.0 / left) if known.integer else 1.0 / left)
        levels = np.log(np.where(able, price, np.inf) / known.saving)
        # Rounding, and answers that contradict the prior, leave no curve outside of its intervals.
        least, most = curves.intervals(seen, places, low, top, integer=known.integer)
        levels = np.clip(np.clip(levels, low - MARGIN, top + MARGIN), least, most)
        levels = np.maximum.accumulate(levels, axis=-1)
        return Sample(levels, K, known.integer, None if known.integer or not seen.steady else seen)

    def _expect_of_the_prior(self, known: Known) -> None:
        """Refuses fleets whose public terms are not the prior's."""
        form, prior = form_of(known), self.prior
        ours = (prior.A, prior.B, prior.beta * prior.A, prior.price_min, prior.price_max)
        theirs = (form.A, form.B, known.saving, known.price_min, known.price_max)
        same = known.layers_max == prior.layers_max and np.allclose(ours, theirs, rtol=1e-9)
        if not same or form.satisfaction.name != prior.satisfaction.name:
            found = f"{form.satisfaction.name}, {known.layers_max} layers, {theirs}"
            expected = f"{prior.satisfaction.name}, {prior.layers_max} layers, {ours}"
            raise InputError("method", "fleet", f"one of the prior it is told: {expected}", found)


def _ends(known: Known) -> tuple[float, float]:
    """Of the range of prices worth posting, logarithms of shares of b."""
    ends = np.log(np.array([known.price_min, known.price_top]) / known.saving)
    return float(ends[0]), float(ends[1])
