r"""What quality is worth to who buys it, and what it costs who delivers it.

A *quality* $q \ge 0$ is what a contract names: the kept share of an update, a number
of bits, one over a latency. Delivering it costs a device $\psi\,c(q)$, with $c(q) = q$
(`linear`) or $c(q) = q^2$ (`quadratic`); it is worth $V(q)$, increasing, and concave as
a function of $c(q)$. All that the optimal contract needs of $V$ is its value and the
quality that is best at a given price of $c$.

The functions work on NumPy and JAX arrays alike, except `Measured` and the pair of
`Saturating` with a quadratic cost, which are for NumPy.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression, least_squares
from scipy.special import wrightomega

from edgepact.errors import InputError, check_choice

# Any array that names its own namespace, as in `satisfaction`.
Array = Any

CostForm = Literal["linear", "quadratic"]
COST_FORMS: tuple[CostForm, ...] = ("linear", "quadratic")

POINTS_MAX = 10_000
"""Most measured points of a value function."""


def cost_of(form: CostForm, quality: Array) -> Array:
    """c(q)."""
    check_choice("contract", "cost", form, COST_FORMS)
    return quality if form == "linear" else quality * quality


def quality_of(form: CostForm, cost: Array) -> Array:
    """The quality that costs c."""
    check_choice("contract", "cost", form, COST_FORMS)
    return cost if form == "linear" else cost**0.5


def marginal_cost(form: CostForm, quality: Array) -> Array:
    """c'(q)."""
    check_choice("contract", "cost", form, COST_FORMS)
    return quality**0 if form == "linear" else 2.0 * quality


class Value(ABC):
    """A value function V."""

    @abstractmethod
    def at(self, quality: Array) -> Array:
        """V(q), credits."""

    @abstractmethod
    def slope(self, quality: Array) -> Array:
        """V'(q), from the right where V has a kink."""

    @abstractmethod
    def best(self, price: Array, cost: CostForm) -> Array:
        """The quality that maximises V(q) - price * c(q) over q >= 0; may be infinite.

        The largest one where several do. Since V is concave in c, clipping the result gives
        the best quality within bounds.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Value):
    """V(q) = scale * q."""

    scale: float = 1.0

    def at(self, quality: Array) -> Array:
        """V(q)."""
        return self.scale * quality

    def slope(self, quality: Array) -> Array:
        """V'(q)."""
        return self.scale * quality**0

    def best(self, price: Array, cost: CostForm) -> Array:
        """All or nothing with a linear cost."""
        if cost == "quadratic":
            return self.scale / (2.0 * price)
        xp = price.__array_namespace__()
        return xp.where(price <= self.scale, xp.inf, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log1p(Value):
    """V(q) = scale * ln(1 + q)."""

    scale: float = 1.0

    def at(self, quality: Array) -> Array:
        """V(q)."""
        return self.scale * quality.__array_namespace__().log1p(quality)

    def slope(self, quality: Array) -> Array:
        """V'(q)."""
        return self.scale / (1.0 + quality)

    def best(self, price: Array, cost: CostForm) -> Array:
        """From V'(q) = price * c'(q)."""
        ratio = self.scale / price
        xp = ratio.__array_namespace__()
        if cost == "linear":
            return xp.clip(ratio - 1.0, 0.0, None)
        # The root of q^2 + q = ratio/2, written so that small ratios do not cancel.
        return ratio / (1.0 + xp.sqrt(1.0 + 2.0 * ratio))


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturating(Value):
    """V(q) = base + scale * (1 - exp(-rate * q))."""

    scale: float = 1.0
    rate: float = 1.0
    base: float = 0.0

    def at(self, quality: Array) -> Array:
        """V(q)."""
        return self.base - self.scale * quality.__array_namespace__().expm1(-self.rate * quality)

    def slope(self, quality: Array) -> Array:
        """V'(q)."""
        xp = quality.__array_namespace__()
        return self.scale * self.rate * xp.exp(-self.rate * quality)

    def best(self, price: Array, cost: CostForm) -> Array:
        """From V'(q) = price * c'(q); Lambert's W with a quadratic cost."""
        xp = price.__array_namespace__()
        if cost == "linear":
            log_ratio = xp.log(self.scale * self.rate / price)
            return xp.clip(log_ratio, 0.0, None) / self.rate
        # rate*q * exp(rate*q) = z, and W(z) = omega(ln z) does not overflow.
        log_z = np.log(self.scale) + 2.0 * np.log(self.rate) - np.log(2.0 * price)
        return wrightomega(log_z) / self.rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured(Value):
    """A concave line through points, flat beyond the last one.

    Attributes:
        quality: of the points, rising from 0.
        value: at the points; concave and not falling.
    """

    quality: np.ndarray
    value: np.ndarray

    def at(self, quality: Array) -> Array:
        """V(q)."""
        return np.interp(quality, self.quality, self.value)

    def slope(self, quality: Array) -> Array:
        """V'(q), from the right."""
        after = np.searchsorted(self.quality, quality, side="right")
        return np.append(self._slopes(), 0.0)[np.maximum(after - 1, 0)]

    def best(self, price: Array, cost: CostForm) -> Array:
        """The point, or with a quadratic cost the place between two, where slopes meet."""
        price = np.asarray(price)
        slopes, left, right = self._slopes(), self.quality[:-1], self.quality[1:]
        if cost == "linear":
            return self.quality[np.searchsorted(-slopes, -price, side="right")]
        # The slope of V - price * q^2 falls, so segments whose left end still rises come first.
        # The highest price at which a left end rises; 0 / 0, flat from nothing, rises at none.
        with np.errstate(divide="ignore", invalid="ignore"):
            turning = np.divide(slopes, 2.0 * left)
        turning = np.nan_to_num(turning, nan=0.0, posinf=np.inf)
        at = np.searchsorted(-turning, -price, side="left") - 1
        at = np.clip(at, 0, len(slopes) - 1)
        return np.clip(slopes[at] / (2.0 * price), left[at], right[at])

    def _slopes(self) -> np.ndarray:
        return np.diff(self.value) / np.diff(self.quality)


def fit_saturating(quality: np.ndarray, value: np.ndarray) -> Saturating:
    """Fits a0 - a1 * exp(-a2 * q) to measurements by least squares.

    Args:
        quality: such as the kept share of an update; at least three different ones.
        value: measured at each, such as the accuracy of the trained model.

    Raises:
        InputError: too few points, points that are not finite, or values that do not rise.
    """
    quality, value = _checked_points(quality, value, 3)
    span, rise = np.ptp(quality), np.ptp(value)
    if np.polyfit(quality, value, 1)[0] <= 0.0 or rise == 0.0:
        raise InputError("fit_saturating", "value", "values that rise with quality", "they fall")
    x, y = (quality - quality[0]) / span, (value - value.min()) / rise

    def residuals(at: np.ndarray) -> np.ndarray:
        top, drop, log_rate = at
        return top - drop * np.exp(-np.exp(log_rate) * x) - y

    # Steepness from nearly a line to a step at the first point; the best start wins.
    fits = [
        least_squares(residuals, (1.0, 1.0, start), bounds=((-9, 0.0, -4.6), (99, 99, 7.0)))
        for start in (-2.0, 0.0, 1.0, 2.0, 4.0)
    ]
    top, drop, log_rate = min(fits, key=lambda fit: fit.cost).x
    rate = float(np.exp(log_rate)) / span
    # exp() was of the distance from the first point; the form's is of the distance from 0.
    scale = float(drop * rise * np.exp(rate * quality[0]))
    return Saturating(scale=scale, rate=rate, base=float(value.min() + top * rise) - scale)


def fit_concave(quality: np.ndarray, value: np.ndarray) -> Measured:
    """A concave, not falling line through measurements, whatever form they follow.

    The rising values closest to the measurements (isotonic regression), then the least concave
    line above those: it lies on the optimistic side where measurements are noisy.

    Args:
        quality: at least two different ones, none negative; repeated ones are averaged.
        value: measured at each.

    Raises:
        InputError: too few points, or points that are not finite.
    """
    quality, value = _checked_points(quality, value, 2)
    distinct, which, count = np.unique(quality, return_inverse=True, return_counts=True)
    mean = np.bincount(which, weights=value) / count
    rising = isotonic_regression(mean, weights=count.astype(float)).x
    corners = _upper_corners(distinct, rising)
    x, y = distinct[corners], rising[corners]
    if x[0] > 0.0:  # below the first point V goes on along its first slope
        start = y[0] - x[0] * (y[1] - y[0]) / (x[1] - x[0])
        x, y = np.concatenate([[0.0], x[1:]]), np.concatenate([[start], y[1:]])
    return Measured(quality=x, value=y)


def _upper_corners(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Points of the least concave line above all of them."""
    kept: list[int] = []
    for at in range(len(x)):
        while len(kept) >= 2:
            a, b = kept[-2], kept[-1]
            if (y[b] - y[a]) * (x[at] - x[b]) > (y[at] - y[b]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(at)
    return kept


def _checked_points(
    quality: np.ndarray, value: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray]:
    quality, value = np.asarray(quality, float), np.asarray(value, float)
    if quality.ndim != 1 or quality.shape != value.shape or len(quality) > POINTS_MAX:
        expected = f"as many values as qualities, at most {POINTS_MAX}"
        raise InputError("measurements", "value", expected, f"{quality.shape}, {value.shape}")
    if not (np.isfinite(quality).all() and np.isfinite(value).all() and (quality >= 0).all()):
        expected = "finite numbers, no quality below 0"
        raise InputError("measurements", "quality, value", expected, "others")
    if len(np.unique(quality)) < least:
        raise InputError("measurements", "quality", f"{least} that differ", len(np.unique(quality)))
    order = np.argsort(quality, kind="stable")
    return quality[order], value[order]
