r"""A transformer pretrained to decide: it reads prices and answers, and names the next price.

A decision-pretrained transformer (DPT; Lee et al. 2023, "Supervised pretraining can learn
in-context reinforcement learning") in the way of OMGPT (Wang et al. 2024, "Understanding the
training and generalization of pretrained transformer for sequential decision making"): it was shown
histories with simulated fleets and was taught to name the best price of each fleet, by cross
entropy. Nothing is generated and no oracle decides; what it costs to be wrong, or what it is worth
to know, is nowhere but in the weights.

*What it reads.* First a token of what is public, then one a round: the price, and what the fleet
sold for it, the mean over devices and their standard deviation. Attention looks at earlier tokens
only and knows no places, so a history of any length can be read; the latest `ROUNDS` are.

*What it says.* A distribution over `GRID` prices, evenly spaced on a logarithmic scale of those
worth posting: how likely each is to be the best of the fleet. Posted is the likeliest (`greedy`),
or a draw, which is what the theory of DPT is about: sampling from the posterior.

The arithmetic is that of the array API, so that training compiles the same code with JAX.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from edgepact.solvers.in_context.policy_file import Weights, read_weights, write_weights
from edgepact.solvers.quoter import Rival, Rounds

Array = Any
"""NumPy or JAX array."""

SHIPPED = Path(__file__).parent / "weights" / "transformer.npz"
"""The weights that come with the package; their model card stands beside them."""

GRID = 512
"""Prices among which it chooses."""

ROUNDS = 20
"""Latest rounds that it reads."""

WIDTH, HEADS, LAYERS = 64, 4, 3
"""Of the transformer."""

WAVES = 7
"""Octaves at which a position is told, beside itself."""

PUBLIC, ROUND = 6, 7 + 2 * WAVES
"""Numbers of a token of what is public, and of one of a round."""


class Terms(NamedTuple):
    """What is public; leading axes are batch axes.

    Attributes:
        low, top: ends of the range of prices worth posting, logarithms of shares of b.
        layers_max: layers of the model.
        integer: 1 if devices run whole layers.
        devices: number of devices.
    """

    low: Array
    top: Array
    layers_max: Array
    integer: Array
    devices: Array


class History(NamedTuple):
    """Rounds with a fleet, `(*batch, rounds)`.

    Attributes:
        position: of the price, 0 at the lowest worth posting and 1 at the highest.
        sold: mean over devices of the share of the model that they ran.
        spread: standard deviation of it over devices.
    """

    position: Array
    sold: Array
    spread: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transformer(Rival):
    """Posts what a transformer pretrained to decide takes for the best price.

    Args:
        weights: from `load` or `Transformer.shipped`.
        greedy: posts the likeliest price; if not, a draw.
    """

    knows_absence: ClassVar[bool] = True
    weights: Weights
    greedy: bool = True

    @staticmethod
    def shipped() -> "Transformer":
        """With the weights that come with the package."""
        return Transformer(weights=load(SHIPPED))

    def next_price(self, seen: Rounds) -> float:
        """The likeliest price, or a draw that depends on the seed and the number of rounds."""
        known = seen.known
        if known.price_top <= known.price_min or known.devices == 0:
            return known.price_min
        ends = np.log(np.array([known.price_min, known.price_top]) / known.saving)
        beside = np.array([known.layers_max, known.integer, known.devices], float)
        found = scores(self.weights, Terms(*ends, *beside), _history(seen))[-1]
        if not self.greedy:
            rng = np.random.default_rng([seen.seed, len(seen)])
            found = found + rng.gumbel(size=GRID)
        return known.price_at(int(np.argmax(found)) / (GRID - 1))


def sizes() -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer."""
    found = {"public": (PUBLIC, WIDTH), "round": (ROUND, WIDTH)}
    for at in range(LAYERS):
        found[f"attend{at}"] = (WIDTH, 3 * WIDTH)
        found[f"joined{at}"] = (WIDTH, WIDTH)
        found[f"wider{at}"] = (WIDTH, 2 * WIDTH)
        found[f"back{at}"] = (2 * WIDTH, WIDTH)
    return found | {"out": (WIDTH, GRID)}


def scores(weights: Weights, terms: Terms, history: History) -> Array:
    """Logarithms of chances, up to a constant, before each round and after all of them.

    Args:
        weights: of `sizes`.
        terms: what is public, `(*batch)`.
        history: rounds, `(*batch, rounds)`.

    Returns:
        `(*batch, rounds + 1, GRID)`; entry t depends on the first t rounds alone.
    """
    xp = history.position.__array_namespace__()

    def linear(name: str, x: Array) -> Array:
        weight, bias = weights[name]
        return xp.matmul(x, weight) + bias

    x = xp.concat(
        [
            linear("public", _public(xp, terms))[..., None, :],
            linear("round", _rounds(xp, terms, history)),
        ],
        axis=-2,
    )
    tokens = x.shape[-2]
    later = xp.where(xp.tril(xp.ones((tokens, tokens))) > 0, 0.0, -1e9)
    for at in range(LAYERS):
        parts = xp.reshape(linear(f"attend{at}", _normal(xp, x)), (*x.shape[:-1], 3, HEADS, -1))
        query, key, value = (xp.moveaxis(parts[..., each, :, :], -2, -3) for each in range(3))
        fit = xp.matmul(query, xp.matrix_transpose(key)) / (WIDTH / HEADS) ** 0.5 + later
        fit = xp.exp(fit - xp.max(fit, axis=-1, keepdims=True))
        seen = xp.matmul(fit / xp.sum(fit, axis=-1, keepdims=True), value)
        x = x + linear(f"joined{at}", xp.reshape(xp.moveaxis(seen, -3, -2), x.shape))
        wider = linear(f"wider{at}", _normal(xp, x))
        x = x + linear(f"back{at}", wider / (1.0 + xp.exp(-wider)))
    return linear("out", _normal(xp, x))


def load(path: Path) -> Weights:
    """Reads weights.

    Raises:
        InputError: the file is missing, damaged or of another shape.
    """
    found = read_weights(path, "a transformer pretrained to decide", sizes=sizes())
    return {
        name: (np.asarray(weight, np.float64), np.asarray(bias, np.float64))
        for name, (weight, bias) in found.items()
    }


def save(path: Path, weights: Weights) -> None:
    """Writes weights in half precision."""
    write_weights(path, weights, half=True)


def _history(seen: Rounds) -> History:
    latest = slice(max(len(seen) - ROUNDS, 0), None)
    rows = zip(seen.layers[latest], seen.present[latest], strict=True)
    # In order, so that sums are the same whoever enrolled first.
    sold = [np.sort(row[here]) / seen.known.layers_max for row, here in rows]
    mean, spread = (
        np.array([of(each) if len(each) else 0.0 for each in sold]) for of in (np.mean, np.std)
    )
    position = seen.known.position_of(seen.prices[latest])
    return History(np.clip(position, 0.0, 1.0), mean, spread)


def _public(xp: Any, terms: Terms) -> Array:
    told = (
        terms.low,
        terms.top,
        xp.log(terms.layers_max / 12.0),
        terms.integer,
        xp.log(terms.devices) / 3.0,
        1.0 / terms.devices,
    )
    return xp.stack(told, axis=-1)


def _rounds(xp: Any, terms: Terms, history: History) -> Array:
    """The tokens of rounds; also told is which one earned most so far, and how much."""
    position, sold, spread = history
    price = terms.low[..., None] + (terms.top - terms.low)[..., None] * position
    gain = (1.0 - xp.exp(price)) * sold
    rounds = gain.shape[-1]
    before = xp.tril(xp.ones((rounds, rounds))) > 0
    so_far = xp.where(before, gain[..., None, :], -1.0)
    if rounds:
        best = xp.max(so_far, axis=-1)
        where = xp.sum(
            xp.where(so_far == best[..., None], position[..., None, :], 0.0), axis=-1
        ) / xp.sum(so_far == best[..., None], axis=-1)
    else:
        best = where = gain
    turns = 2.0 * np.pi * position[..., None] * 2.0 ** xp.arange(WAVES)
    told = xp.stack((position, price, sold, spread, gain, best, where), axis=-1)
    return xp.concat([told, xp.sin(turns), xp.cos(turns)], axis=-1)


def _normal(xp: Any, x: Array) -> Array:
    """Every token with mean 0 and variance 1; the linear layer that follows scales it."""
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
