r"""Identify-then-solve: learn each device's costs from its answers, then solve the game.

A rival that is told much: that satisfaction is logarithmic, and what a layer
costs (A, B). A device is then two numbers, alpha and $\kappa = x / A$ with
$x = 1 + W - B$ (`log1p`) or $W - B$ (`log`), and answers
$L = \kappa - \alpha / P$ clipped to $[0, \text{cap}]$, or with whole layers
the number of thresholds $m(k) = \alpha \ln\frac{\kappa - k + 1}{\kappa - k}$
that the price reaches. Each answer therefore bounds alpha at every kappa:

- continuous, inside: $\alpha = P (\kappa - L)$; two such answers fix the device;
- continuous, nothing: $\alpha \ge P \kappa$; at the cap: $\alpha \le P (\kappa - \text{cap})$;
- whole layers: $m(L) \le P < m(L + 1)$, exact bounds in alpha for each kappa.

What the bounds leave open is not guessed at: the price is the best one for
devices spread over it. Beyond the form it assumes that no device could run more
than twice the model, that entry prices are below twice the highest price worth
posting, and that answers are exact best responses. A continuous answer below
the model's depth is taken for one inside until it repeats at another price, which
shows that it is the device's own cap. Where no alpha satisfies a device's bounds,
those that are missed least count.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError, shown
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.benchmarks import bayesian_price
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.quoter import Form, Known, Rival, Rounds
from edgepact.solvers.quoting import in_order

FORMS = {"log1p": 1.0, "log": 0.0}
"""Families whose devices can be identified, with what x holds beside W - B."""

SAME = 1e-7
"""Answers and prices closer than this share of their size count as equal."""

APART = 0.03
"""By what share a second price must differ from the first to teach anything."""


@dataclass(frozen=True, slots=True)
class Open:
    """What the rounds leave open: per device and kappa, an interval of alpha.

    Attributes:
        kappa: shape `(devices, points)`.
        low, high: bounds of alpha; empty where low > high.
        exact: devices with an equality among their answers: their intervals
            are points, and count as if they had length.
    """

    kappa: Float[np.ndarray, "devices points"]
    low: Float[np.ndarray, "devices points"]
    high: Float[np.ndarray, "devices points"]
    exact: Bool[np.ndarray, " devices"]

    def only(self, which: slice) -> "Open":
        """Some of the devices."""
        return Open(self.kappa[which], self.low[which], self.high[which], self.exact[which])

    def measure(
        self,
        low: Float[np.ndarray, "*batch #devices #points"],
        high: Float[np.ndarray, "*batch #devices #points"],
    ) -> Float[np.ndarray, "*batch devices points"]:
        """Length of what is open between other bounds; 1 or 0 for points."""
        length = np.minimum(self.high, high)
        length -= np.maximum(self.low, low)
        if np.any(self.exact):
            length[..., self.exact, :] = length[..., self.exact, :] >= 0
        return np.maximum(length, 0.0, out=length)


def what_is_open(
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    layers: Float[np.ndarray, "rounds devices"],
    kappas: Float[np.ndarray, " points"],
) -> Open:
    """Bounds on every device's alpha at each kappa of a grid.

    A device fixed by two answers has its one kappa at all points.

    Raises:
        InputError: the form is not told or not logarithmic.
    """
    beside = _beside(known)
    devices = known.devices
    low = np.zeros((devices, len(kappas)))
    high = np.full((devices, len(kappas)), np.inf)
    bounds = _whole_bounds if known.integer else _smooth_bounds
    for price, answer in zip(prices, layers, strict=True):
        floor, ceiling = bounds(known, float(price), answer[:, None], kappas[None, :], beside)
        low, high = np.maximum(low, floor), np.minimum(high, ceiling)
    kappa = np.broadcast_to(kappas, low.shape).copy()
    exact = np.zeros(devices, dtype=bool)
    if not known.integer:
        slack = SAME * np.where(np.isfinite(low), np.maximum(low, 1.0), 0.0)
        exact = np.any((layers > 0) & ~_full(known, layers), axis=0)
        fits = exact[:, None] & (low <= high + slack) & (low > 0)
        middle = np.where(np.isfinite(high), (low + high) / 2.0, low)
        low, high = np.where(fits, middle, low), np.where(fits, middle, high)
        for device in range(devices):
            found = _fixed(known, prices, layers[:, device], beside)
            if found is not None:
                low[device] = high[device] = found[0]
                kappa[device] = found[1]
                exact[device] = True
    return Open(kappa, low, high, exact)


def form_of(known: Known) -> Form:
    """How devices decide.

    Raises:
        InputError: it was not told.
    """
    if known.form is None:
        raise InputError("method", "form", "to be told how devices decide", "nothing")
    return known.form


def fleet_of(
    form: Form,
    alpha: Float[np.ndarray, " devices"],
    kappa: Float[np.ndarray, " devices"],
) -> Fleet:
    """Devices with the given alpha and kappa."""
    room = kappa * form.A - FORMS[form.satisfaction.name]
    common = np.ones(len(alpha))
    return Fleet.derived(alpha, room + form.B, form.A * common, form.B * common)


def price_for(known: Known, devices: Fleet) -> float:
    """The exact best price for devices, as many as one likes."""
    form = form_of(known)
    game = Game(
        fleet=devices,
        revenue=0.0,
        beta=known.saving / form.A,
        price_min=known.price_min,
        price_max=known.price_max,
        layers_max=known.layers_max,
        integer=known.integer,
        satisfaction=form.satisfaction,
    )
    # Between breakpoints below the lowest price the oracle's sums are half updated; it
    # leaves those pieces out, but only after it has taken their roots.
    with np.errstate(invalid="ignore"):
        price = float(bayesian_price(game, devices))
    return min(max(price, known.price_min), known.price_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyThenSolve(Rival):
    """Prices devices spread evenly over what their answers leave open.

    Args:
        points: kappas looked at.
        spread: devices that stand for one whose costs are not yet fixed.
    """

    knows_form: ClassVar[bool] = True
    points: int = 128
    spread: int = 64

    def next_price(self, seen: Rounds) -> float:
        """The best price for the devices as far as they are known; nothing is drawn."""
        known, prices = seen.known, seen.prices
        form, beside = form_of(known), _beside(known)
        lowest = beside / form.A
        kappas = lowest + 2.0 * known.layers_max * (np.arange(self.points) + 0.5) / self.points
        left = what_is_open(known, prices, in_order(seen.layers), kappas)
        alpha, kappa = self._spread_over(left, 2.0 * left.kappa * known.price_top)
        price = price_for(known, fleet_of(form, alpha.ravel(), kappa.ravel()))
        if not known.integer and len(prices) == 1 and abs(price / prices[0] - 1.0) < APART:
            # A second answer at the same price would teach nothing.
            up = prices[0] * (1.0 + APART)
            price = float(up if up <= known.price_top else prices[0] * (1.0 - APART))
        return min(max(price, known.price_min), known.price_max)

    def _spread_over(
        self, left: Open, ceiling: Float[np.ndarray, "devices points"]
    ) -> tuple[Float[np.ndarray, "devices spread"], Float[np.ndarray, "devices spread"]]:
        """Alphas and kappas, low-discrepancy points of the open region of each device."""
        weight = left.measure(np.zeros_like(ceiling), ceiling)
        low, high = left.low, np.minimum(left.high, ceiling)
        # Contradicting answers: the kappas at which the bounds miss each other least.
        missed = np.where(np.isfinite(low), low, np.inf) - high
        least = missed <= np.min(missed, axis=1, keepdims=True)
        weight = np.where(np.any(weight > 0, axis=1, keepdims=True), weight, least)
        shares = np.cumsum(weight, axis=1)
        across = (np.arange(self.spread) + 0.5) / self.spread
        along = np.mod(np.arange(self.spread) * (np.sqrt(5.0) - 1.0) / 2.0 + 0.5, 1.0)
        wanted = across[None, :, None] * shares[:, None, -1:]
        at = np.minimum(np.sum(shares[:, None, :] <= wanted, axis=2), weight.shape[1] - 1)
        low, high, kappa = (
            np.take_along_axis(part, at, axis=1) for part in (low, high, left.kappa)
        )
        low = np.where(np.isfinite(low), low, high)
        alpha = np.where(low <= high, low + along * (high - low), (low + high) / 2.0)
        return np.maximum(alpha, 1e-9), kappa


def _beside(known: Known) -> float:
    """What x holds beside W - B."""
    name = form_of(known).satisfaction.name
    if name not in FORMS:
        raise InputError("method", "satisfaction", " or ".join(sorted(FORMS)), shown(name))
    return FORMS[name]


def _full(known: Known, layers: Float[np.ndarray, "*shape"]) -> np.ndarray:
    return layers >= known.layers_max * (1.0 - SAME)


def _smooth_bounds(
    known: Known, price: float, answer: np.ndarray, kappas: np.ndarray, beside: float
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha from one continuous answer; shapes `(devices, 1)` and `(1, points)` broadcast."""
    point = price * (kappas - answer)
    # A device can run no more than leaves it nothing: kappa - beside / A layers.
    possible = kappas - beside / form_of(known).A >= answer * (1.0 - SAME)
    none, full = answer <= 0, _full(known, answer)
    low = np.where(full, 0.0, point)
    high = np.where(none, np.inf, point)
    return np.where(possible, low, np.inf), np.where(possible, high, 0.0)


def _whole_bounds(
    known: Known, price: float, answer: np.ndarray, kappas: np.ndarray, beside: float
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha from one whole answer: the last layer is worth its price, the next is not."""
    cap = kappas - beside / form_of(known).A
    possible = cap >= answer
    more = (answer < known.layers_max) & (cap >= answer + 1.0) & (kappas > answer + 1.0)
    left = np.where(possible & (kappas > answer), kappas - answer, 1.0)
    last = np.log1p(1.0 / left)
    high = np.where(answer > 0, price / last, np.inf)
    following = np.log1p(1.0 / np.where(more, left - 1.0, 1.0))
    low = np.where(more, price / following, 0.0)
    return np.where(possible, low, np.inf), np.where(possible, high, 0.0)


def _fixed(
    known: Known,
    prices: Float[np.ndarray, " rounds"],
    answers: Float[np.ndarray, " rounds"],
    beside: float,
) -> tuple[float, float] | None:
    """Alpha and kappa of a device with continuous answers, if they are enough.

    A regression of L on (1, 1/P) over the answers inside. Of answers that repeat
    at different prices the device is at its own cap.
    """
    inside = (answers > 0) & ~_full(known, answers)
    at, gave = prices[inside], answers[inside]
    if len(at) < 2 or np.ptp(at) <= SAME * at.max():
        return None
    top = gave >= gave.max() * (1.0 - SAME)
    if np.ptp(at[top]) > SAME * at.max():
        kappa = float(gave.max()) + beside / form_of(known).A
        below = ~top
        if np.any(below):
            return float(np.mean(at[below] * (kappa - gave[below]))), kappa
        return float(at.min() * (kappa - gave.max())) or 1e-9, kappa
    rows = np.stack([np.ones(len(at)), -1.0 / at], axis=1)
    kappa, alpha = (float(each) for each in np.linalg.lstsq(rows, gave)[0])
    possible = alpha > 0 and kappa - beside / form_of(known).A >= gave.max() * (1.0 - SAME)
    return (alpha, kappa) if possible else None
