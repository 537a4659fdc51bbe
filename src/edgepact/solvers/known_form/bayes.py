r"""Bayesian pricing: the rivals that know the prior fleets are drawn from.

*Posted price*: the best price for devices of which only the prior is known. No
first quote earns more in expectation, so it is what first quotes are held
against. Expected profit is linear in the devices, so the number of devices does
not change it.

*Posterior pricing*: after each round, the price of largest posterior mean profit.
The posterior of the reference prior has two levels. Given a fleet's own a, b and
c its devices are independent, and given a device's capacity its answers bound
alpha exactly (see `identify`); so a sample of (a, b, c) is weighted by the
probability of all answers, summed exactly over alpha and on a grid over
capacity. From that, particles (alpha, capacity) of every device are drawn, and
the exact equilibrium of the crowd of particles is the price. Nothing degenerates
as rounds go by, since particles are drawn afresh from the bounds rather than
filtered. Both are myopic: they never quote in order to learn (`told_posterior` does).

Where answers contradict the prior, samples of (a, b, c) that misfit the fewest
devices remain, and a misfit is spread over what its own answers leave open.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.fleet import Fleet
from edgepact.solvers.known_form.identify import Open, fleet_of, form_of, price_for, what_is_open
from edgepact.solvers.quoter import Form, Known, Rival, Rounds
from edgepact.solvers.quoting import REFERENCE, ReferencePrior, in_order

SAMPLE = 40_000
"""Devices that stand for the prior of one."""

BLOCK = 16
"""Devices looked at together."""

SLACK = 1e-6
"""By how much the prior's edges give, so that rounding puts no device outside."""

MISFIT = 1e-12
"""Probability granted to answers that a fleet could not give: misfits are counted by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BayesianPostedPrice(Rival):
    """One price for every fleet, the best for the prior.

    Args:
        prior: of fleets.
    """

    knows_form: ClassVar[bool] = True
    prior: ReferencePrior = REFERENCE

    def next_price(self, seen: Rounds) -> float:
        """The same in all rounds."""
        return posted_price(self.prior, seen.known)


@dataclass(frozen=True, slots=True, kw_only=True)
class BayesianPosterior(Rival):
    """The price of largest posterior mean profit, in every round.

    Args:
        prior: of fleets.
        fleets: samples of (a, b, c).
        points: capacities on the grid.
        particles: of all devices together, and at least `particles_min` of each.
    """

    knows_form: ClassVar[bool] = True
    prior: ReferencePrior = REFERENCE
    fleets: int = 256
    points: int = 128
    particles: int = 2048
    particles_min: int = 64

    def next_price(self, seen: Rounds) -> float:
        """The posted price at first, then what the posterior says."""
        known = seen.known
        if len(seen) == 0:
            return posted_price(self.prior, known)
        rng = np.random.default_rng([seen.seed, len(seen)])
        alpha, kappa = self.draw(rng, known, seen.prices, in_order(seen.layers))
        return price_for(known, fleet_of(form_of(known), alpha.ravel(), kappa.ravel()))

    def draw(
        self,
        rng: np.random.Generator,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
    ) -> tuple[Float[np.ndarray, "draws devices"], Float[np.ndarray, "draws devices"]]:
        """Fleets drawn from the posterior: alphas and kappas of their devices.

        Raises:
            InputError: the form is not told or not logarithmic.
        """
        form, prior = form_of(known), self.prior
        span = prior.capacity_shift + prior.capacity_width
        across = (np.arange(self.points) + 0.5) / self.points
        # The shift of kappa against capacity is what `fleet_of` undoes.
        offset = float(fleet_of(form, np.ones(1), np.zeros(1)).capacity[0])
        kappas = (prior.capacity_low + span * across - offset) / form.A
        left = what_is_open(known, prices, layers, kappas)
        return self._particles(rng, left, self._rectangles(form, offset))

    def _rectangles(self, form: Form, offset: float) -> "_Rectangles":
        """Where devices may lie in samples of fleets."""
        prior = self.prior
        a, b, c = _spread_evenly(self.fleets)
        low = prior.alpha_low + prior.alpha_shift * a
        least = (prior.capacity_low + prior.capacity_shift * c - offset) / form.A
        return _Rectangles(
            low, low + prior.alpha_width * b, least, least + prior.capacity_width / form.A
        )

    def _particles(
        self, rng: np.random.Generator, left: Open, believed: "_Rectangles"
    ) -> tuple[Float[np.ndarray, "draws devices"], Float[np.ndarray, "draws devices"]]:
        """Alphas and kappas drawn from the posterior."""
        devices = len(left.kappa)
        # A block of devices at a time, so that memory does not grow with the fleet.
        blocks = [left.only(slice(at, at + BLOCK)) for at in range(0, devices, BLOCK)]
        sums = [believed.weight(block).sum(axis=-1) for block in blocks]
        of_device = np.concatenate(sums, axis=1) / (believed.high - believed.low)[:, None]
        fits = np.log(np.maximum(of_device / self.points, MISFIT)).sum(axis=1)
        chance = np.exp(fits - fits.max())
        draws = max(self.particles_min, self.particles // devices)
        # Systematic: as many draws of each fleet as its chance says, to within one.
        steps = (np.arange(draws) + rng.uniform()) / draws
        fleet = np.searchsorted(np.cumsum(chance) / chance.sum(), steps)
        chosen = believed.only(np.minimum(fleet, self.fleets - 1))
        parts = [self._draw(rng, block, chosen, steps) for block in blocks]
        alpha, kappa = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        return alpha, kappa

    def _draw(
        self,
        rng: np.random.Generator,
        left: Open,
        chosen: "_Rectangles",
        steps: Float[np.ndarray, " draws"],
    ) -> tuple[Float[np.ndarray, "draws devices"], Float[np.ndarray, "draws devices"]]:
        """One particle of every device for each fleet chosen."""
        prior, devices = self.prior, len(left.kappa)
        most = prior.alpha_low + prior.alpha_shift + prior.alpha_width
        alone = left.measure(np.zeros_like(left.low), np.full_like(left.high, most))
        alone = np.where(alone.sum(axis=1, keepdims=True) > 0, alone, 1.0)
        weight = chosen.weight(left)
        misfit = weight.sum(axis=-1) <= 0
        weight = np.where(misfit[..., None], alone, weight)

        shares = np.cumsum(weight, axis=-1)
        wanted = rng.permuted(np.tile(steps, (devices, 1)), axis=1).T[..., None] * shares[..., -1:]
        at = np.minimum(np.sum(shares <= wanted, axis=-1), weight.shape[-1] - 1)
        device = np.arange(devices)
        low, high = left.low[device, at], left.high[device, at]
        # Points and contradictions have no inside.
        floor = np.maximum(np.where(misfit, 0.0, chosen.low[:, None]), low)
        floor = np.where(left.exact, low, floor)
        ceiling = np.minimum(np.where(misfit, most, chosen.high[:, None]), high)
        ceiling = np.where(left.exact, high, ceiling)
        floor = np.where(np.isfinite(floor), np.minimum(floor, ceiling), ceiling)
        alpha = floor + rng.uniform(size=floor.shape) * (ceiling - floor)
        return np.clip(alpha, 1e-9, None), left.kappa[device, at]


class _Rectangles(NamedTuple):
    """Where the devices of each sampled fleet lie: alpha, and kappa."""

    low: Float[np.ndarray, " fleets"]
    high: Float[np.ndarray, " fleets"]
    least: Float[np.ndarray, " fleets"]
    most: Float[np.ndarray, " fleets"]

    def only(self, which: np.ndarray) -> "_Rectangles":
        """Some of the fleets, each as often as it is named."""
        return _Rectangles(*(part[which] for part in self))

    def weight(self, left: Open) -> Float[np.ndarray, "fleets devices points"]:
        """How much of what is open at each kappa lies inside."""
        low, high, least, most = (part[:, None, None] for part in self)
        able = (left.kappa >= least - SLACK) & (left.kappa <= most + SLACK)
        return able * left.measure(low - SLACK, high + SLACK)


@lru_cache(maxsize=64)
def posted_price(prior: ReferencePrior, known: Known) -> float:
    """The best price for a device of which only the prior is known.

    Fleets of one device each stand for the distribution of a device of any fleet.
    """
    rng = np.random.default_rng(0)
    a, b, c, u, v = rng.uniform(size=(5, SAMPLE))
    form = form_of(known)
    alpha = prior.alpha_low + prior.alpha_shift * a + prior.alpha_width * b * u
    capacity = prior.capacity_low + prior.capacity_shift * c + prior.capacity_width * v
    common = np.ones(SAMPLE)
    return price_for(
        known, Fleet(alpha=alpha, capacity=capacity, A=form.A * common, B=form.B * common)
    )


@lru_cache(maxsize=8)
def _spread_evenly(
    fleets: int,
) -> tuple[
    Float[np.ndarray, " fleets"], Float[np.ndarray, " fleets"], Float[np.ndarray, " fleets"]
]:
    """Values of (a, b, c): a low-discrepancy sequence (the plastic number's, in three)."""
    root = 1.2207440846057596  # of x^4 = x + 1
    index = np.arange(1, fleets + 1)
    a, b, c = (np.mod(0.5 + index * root**-power, 1.0) for power in (1, 2, 3))
    return a, b, c
