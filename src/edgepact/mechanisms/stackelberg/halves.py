r"""Which form of a model each half runs, decided together with the price per layer.

A model comes in several forms: as it is, with weights in few bits, pruned. A device runs its layers
in form $d$, the server the rest in form $s$; the server picks both, and posts a price. With the
costs of the original as the unit,

$$U_n = P L_n + \alpha_n S(W_n - a_d A_n L_n - b_d B_n), \qquad
  U_s = \sum_n \Bigl[\frac{F}{N} q_{ds}(L_n) - P L_n - \beta c_s A_n (L_{\max} - L_n)\Bigr]:$$

a layer of form $d$ costs a device the share $a_d$ of the original's, what comes before the first
the share $b_d$; a layer of form $s$ costs the server the share $c_s$; and of the revenue $F$, which
is what an image of each device would bring were all of them classified right, the share
$q_{ds}(L)$ comes in, the accuracy of a model whose first $L$ layers are of form $d$.

With the forms fixed, devices play the known game (`responses`) with other costs. What they supply
is constant between two prices at which somebody runs a further layer, and there the server's
utility falls as the price rises: one of these prices, or the lowest that may be posted, is best.
So all pairs of forms are tried, and for each the finitely many prices; the answer is exact. Where
accuracy does not depend on the cut, it is the known game, and `optimum.equilibrium` finds the same.

Of several answers that earn the same, the one with forms first in the list counts, then the largest
price. An indifferent device does what the server prefers.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import kept_value, layer_prices
from edgepact.mechanisms.stackelberg.terms import Game

FORMS_MAX = 16
"""Most forms of a half: all pairs are tried."""

_EVEN = 1e-12
"""Relative difference of utilities that counts as none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forms:
    """Forms that both halves can have.

    Attributes:
        names: of each, the original first.
        layer_share: $a_d$, what a layer costs a device as a share of the original's.
        before_share: $b_d$, the same of what comes before the first layer.
        server_share: $c_s$, what a layer costs the server as a share of the original's.
        accuracy: $q_{ds}(L)$, shape `(forms, forms, layers_max + 1)`: device's form, server's
            form, layers of the device; from 0 to 1.

    Raises:
        InputError: of the source `forms` and the field that cannot be.
    """

    names: tuple[str, ...]
    layer_share: Float[np.ndarray, " forms"]
    before_share: Float[np.ndarray, " forms"]
    server_share: Float[np.ndarray, " forms"]
    accuracy: Float[np.ndarray, "forms forms cuts"]

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= FORMS_MAX or len(set(self.names)) < count:
            expected = f"1 to {FORMS_MAX} different names"
            raise InputError("forms", "names", expected, list(self.names))
        for field in ("layer_share", "before_share", "server_share"):
            shares = np.asarray(getattr(self, field), np.float64)
            if shares.shape != (count,) or not (np.isfinite(shares) & (shares > 0)).all():
                raise InputError("forms", field, f"{count} numbers above 0", shares.tolist())
        q = np.asarray(self.accuracy, np.float64)
        if q.ndim != 3 or q.shape[:2] != (count, count) or not ((q >= 0) & (q <= 1)).all():
            expected = f"shares from 0 to 1 of shape ({count}, {count}, layers + 1)"
            raise InputError("forms", "accuracy", expected, f"shape {q.shape}")

    @property
    def accuracy_least(self) -> Float[np.ndarray, "forms forms"]:
        """Of each pair at its worst cut."""
        least: np.ndarray = self.accuracy.min(axis=-1)
        return least


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalvesOutcome:
    """What a pair of forms and a price lead to.

    Attributes:
        device, server: number of each half's form.
        price: credits per layer.
        layers: of each device.
        accuracy: expected, mean over devices.
        server_utility: credits.
        device_utility, payments: credits of each device.
    """

    device: int
    server: int
    price: float
    layers: Float[np.ndarray, " devices"]
    accuracy: float
    server_utility: float
    device_utility: Float[np.ndarray, " devices"]
    payments: Float[np.ndarray, " devices"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalvesGame:
    """The game of partition with forms to choose.

    Attributes:
        game: as it is with the original on both sides, whole layers; its revenue is what an image
            of each device brings if it is classified right.
        forms: to choose from.
        accuracy_least: pairs that fall below it at any cut are left out.

    Raises:
        InputError: of the source `halves` and the field that cannot be.
    """

    game: Game
    forms: Forms
    accuracy_least: float = 0.0

    def __post_init__(self) -> None:
        if not self.game.integer:
            expected = "'integer': accuracy is known at the cuts alone"
            raise InputError("halves", "layers", expected, "'continuous'")
        cuts = self.forms.accuracy.shape[-1]
        if cuts != self.game.layers_max + 1:
            expected = f"{self.game.layers_max + 1} cuts"
            raise InputError("halves", "accuracy", expected, f"{cuts}")
        if not (self.forms.accuracy_least >= self.accuracy_least).any():
            expected = f"at most {float(self.forms.accuracy_least.max()):.4g}, what a pair reaches"
            raise InputError("halves", "accuracy_least", expected, self.accuracy_least)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Numbers of device's and server's form of each pair that is accurate enough."""
        found = np.argwhere(self.forms.accuracy_least >= self.accuracy_least)
        return tuple((int(device), int(server)) for device, server in found)

    def fixed(self, device: int, server: int) -> Game:
        """The known game with these forms; its revenue counts every image as right."""
        game, forms = self.game, self.forms
        fleet = game.fleet
        layer, before = float(forms.layer_share[device]), float(forms.before_share[device])
        costs = Fleet.derived(fleet.alpha, fleet.capacity, fleet.A * layer, fleet.B * before)
        # What the server saves by a layer hangs on its own form, and not on the device's.
        beta = game.beta * (float(forms.server_share[server]) / layer)
        return replace(game, fleet=costs, beta=beta)

    def for_fleet(self, fleet: Fleet) -> "HalvesGame":
        """The same with other devices and the same revenue for each."""
        each = self.game.revenue / len(self.game.fleet)
        game = replace(self.game, fleet=fleet, revenue=each * len(fleet), link=None)
        return replace(self, game=game)


def best_halves(problem: HalvesGame) -> tuple[HalvesOutcome, ...]:
    """The exact best price of every pair of forms, the best pair first."""
    found = [best_price(problem, *pair) for pair in problem.pairs]
    return tuple(sorted(found, key=lambda each: -each.server_utility))


def best_price(problem: HalvesGame, device: int, server: int) -> HalvesOutcome:
    """The exact best price with the forms fixed."""
    game = problem.fixed(device, server)
    thresholds = np.asarray(layer_prices(game))
    low, high = float(game.price_min), float(game.price_max)
    prices = np.unique(np.concatenate([thresholds.reshape(-1), [low, high]]))
    prices = prices[(prices >= low) & (prices <= high)]
    steps = np.arange(game.layers_max + 1)
    fewest = np.stack([(thresholds < price).sum(axis=1) for price in prices])[..., None]
    most = np.stack([(thresholds <= price).sum(axis=1) for price in prices])[..., None]
    own = _kept(game) + prices[:, None, None] * steps
    # Between the fewest and the most that it may answer a device need not be indifferent: with an
    # outside option it jumps.
    even = own >= own.max(axis=-1, keepdims=True) - _EVEN * (1.0 + np.abs(own).max())
    allowed = (steps == fewest) | (steps == most) | ((steps > fewest) & (steps < most) & even)
    had = _worth(problem, game, device, server) - prices[:, None, None] * steps
    had = np.where(allowed, had, -np.inf)
    taken = game.layers_max - np.argmax(had[..., ::-1], axis=-1)
    utility = had.max(axis=-1).sum(axis=1)
    best = len(prices) - 1 - int(np.argmax(utility[::-1]))
    return settled(problem, device, server, float(prices[best]), taken[best].astype(float))


def settled(
    problem: HalvesGame,
    device: int,
    server: int,
    price: float,
    layers: Float[np.ndarray, " devices"],
) -> HalvesOutcome:
    """What everybody gets when the devices run these layers, best response or not."""
    game = problem.fixed(device, server)
    at = layers.astype(np.int64)
    payments = price * layers
    worth = _worth(problem, game, device, server)[np.arange(len(at)), at]
    return HalvesOutcome(
        device=device,
        server=server,
        price=price,
        layers=layers,
        accuracy=float(problem.forms.accuracy[device, server, at].mean()),
        server_utility=float((worth - payments).sum()),
        device_utility=payments + np.asarray(kept_value(game, layers)),
        payments=payments,
    )


def brought(problem: HalvesGame, found: HalvesOutcome) -> float:
    """What the layers that devices run bring the server over none: computing saved, and accuracy
    gained or lost by their form; credits."""
    game = problem.fixed(found.device, found.server)
    worth = _worth(problem, game, found.device, found.server)
    at = found.layers.astype(np.int64)
    return float((worth[np.arange(len(at)), at] - worth[:, 0]).sum())


def quoted(problem: HalvesGame, device: int, server: int) -> Game:
    """The known game that comes nearest: accuracy as a line over the layers, not a table.

    Its slope is a saving, or a loss, by each layer that a device runs. Solvers that quote prices
    from answers alone play this game.
    """
    game = problem.fixed(device, server)
    accuracy = problem.forms.accuracy[device, server]
    slope, start = np.polyfit(np.arange(len(accuracy)), accuracy, 1)
    each = float(problem.game.revenue) / max(len(game.fleet), 1)
    mean = float(np.mean(game.fleet.A))
    # A server to which a layer is worth nothing buys none; a saving below 0 is no game.
    beta = max(float(game.beta) + each * float(slope) / mean, 0.0)
    return replace(game, beta=beta, revenue=float(problem.game.revenue) * float(start))


def believed_best(problem: HalvesGame, believed: Fleet) -> HalvesOutcome:
    """The pair of forms, and a price, for devices of which only the distribution is known.

    Args:
        problem: its fleet is not looked at.
        believed: devices drawn from what is believed of them, a hundred or so.
    """
    sample = jax.tree.map(lambda column: np.asarray(column, np.float64), believed)
    return best_halves(problem.for_fleet(sample))[0]


def _kept(game: Game) -> Float[np.ndarray, "devices cuts"]:
    """What each device keeps at each number of layers, credits."""
    count = len(game.fleet)
    steps = range(game.layers_max + 1)
    columns = [np.asarray(kept_value(game, np.full(count, float(each)))) for each in steps]
    return np.stack(columns, axis=1)


def _worth(
    problem: HalvesGame, game: Game, device: int, server: int
) -> Float[np.ndarray, "devices cuts"]:
    """What the server has of each device at each cut, before it pays, credits."""
    count = len(game.fleet)
    steps = np.arange(game.layers_max + 1)
    revenue = float(problem.game.revenue) / max(count, 1) * problem.forms.accuracy[device, server]
    left = np.asarray(game.saving)[:, None] * (game.layers_max - steps)
    worth: np.ndarray = revenue - left
    return worth
