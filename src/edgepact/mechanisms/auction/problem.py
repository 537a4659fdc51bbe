r"""Setting up an auction from past bids: the design of a mechanism as a `Problem`.

One item is sold again and again to bidders whose values come from priors that nobody tells the
seller; it has seen past bids. It chooses the parameters of an affine maximiser: for each bidder a
weight $w_i > 0$ and a reserve $r_i$. The highest positive score $w_i (v_i - r_i)$ wins and pays
the value at which it would have tied,

$$t_i = r_i + \frac{1}{w_i} \max\Bigl(0,\ \max_{l \ne i} w_l (v_l - r_l)\Bigr),$$

so that whatever is chosen, truth is a dominant strategy. A learner that set allocations itself
would lose that. Theory says what is best: the scores of Myerson (1981), which are affine for
uniform and exponential priors. For priors whose virtual values fall somewhere the optimum irons
them, which affine scores can only come close to; the yardstick is the ironed optimum all the same.

Revenue over a prior is computed on a grid of quantiles: with $x_i(q)$ the chance to win at
quantile $q$, it is $\sum_i \int \varphi_i(q)\, x_i(q)\, dq$.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from edgepact.problem import Payoff, Problem

LEVELS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
"""Quantiles of past bids that the seller looks at."""

LOW = (0.0, 1.0)
"""Range of the smallest value of uniform priors, drawn uniformly, credits."""

WIDTH = (0.5, 1.5)
"""Range of half the width of uniform priors, of means of exponential ones, of first pieces."""

SECOND = (0.5, 2.0)
"""Range of the width of a second piece, in widths of the first."""

SHARE = (0.5, 0.9)
"""Range of the probability of a first piece."""

WEIGHT_MAX = 2.0
"""Weights lie between this and its inverse; Myerson's differ by a factor of 2."""


class Priors(eqx.Module):
    """Distributions of values, one a bidder: two uniform pieces, or an exponential.

    Attributes:
        exponential: whether it is an exponential, of mean `first` above `low`.
        low: smallest value, credits.
        first, second: widths of the two pieces, credits.
        share: probability of the first piece, in (0, 1).
    """

    exponential: Bool[Array, " bidders"]
    low: Float[Array, " bidders"]
    first: Float[Array, " bidders"]
    second: Float[Array, " bidders"]
    share: Float[Array, " bidders"]

    @staticmethod
    def uniform(bidders: int, low: float, high: float) -> "Priors":
        """Equal bidders, uniform on an interval."""
        half = 0.5 * (high - low)
        return Priors._equal(bidders, False, low, half, half, 0.5)

    @staticmethod
    def exponentials(bidders: int, mean: float) -> "Priors":
        """Equal bidders, exponential."""
        return Priors._equal(bidders, True, 0.0, mean, 1.0, 0.5)

    @staticmethod
    def pieces(bidders: int, first: float, second: float, share: float) -> "Priors":
        """Equal bidders: uniform on [0, first] with probability `share`, then on `second` more."""
        return Priors._equal(bidders, False, 0.0, first, second, share)

    @staticmethod
    def _equal(
        bidders: int, exponential: bool, low: float, first: float, second: float, share: float
    ) -> "Priors":
        numbers = (jnp.full(bidders, each) for each in (low, first, second, share))
        return Priors(jnp.full(bidders, exponential), *numbers)

    def value_at(self, level: Float[Array, "*batch #bidders"]) -> Float[Array, "*batch bidders"]:
        """Values at levels of the distribution function, in [0, 1); credits."""
        inner = self.first * level / self.share
        outer = self.first + self.second * (level - self.share) / (1.0 - self.share)
        tail = -self.first * jnp.log1p(-level)
        pieces = jnp.where(level < self.share, inner, outer)
        return self.low + jnp.where(self.exponential, tail, pieces)


class Tables(NamedTuple):
    """A prior on a grid of equally likely cells; leading axis bidders.

    Attributes:
        value: at the middle of each cell, credits.
        virtual: mean of the virtual value over each cell, credits.
        ironed: that, made monotone.
    """

    value: Float[Array, "bidders cells"]
    virtual: Float[Array, "bidders cells"]
    ironed: Float[Array, "bidders cells"]


@partial(jax.jit, static_argnames="cells")
def tables(priors: Priors, cells: int = 256) -> Tables:
    """Virtual values of Myerson. Exact as means over cells, kinks of the prior included."""
    edges = jnp.linspace(0.0, 1.0, cells + 1)
    inside = jnp.minimum(edges, 1.0 - 1e-7)[:, None]
    # Revenue of a posted price by the level it cuts off; its slope is the virtual value.
    posted = jnp.where(edges[:, None] < 1.0, (1.0 - edges[:, None]) * priors.value_at(inside), 0.0)
    virtual = cells * (posted[:-1] - posted[1:]).T
    middle = 0.5 * (edges[:-1] + edges[1:])[:, None]
    return Tables(priors.value_at(middle).T, virtual, jax.vmap(_iron)(virtual))


def _iron(virtual: Float[Array, " cells"]) -> Float[Array, " cells"]:
    """The closest values that never fall: best lower of upper means (isotonic regression)."""
    cells = len(virtual)
    total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(virtual)])
    start, end = jnp.arange(cells)[:, None], jnp.arange(cells)[None, :]
    mean = (total[1:][None, :] - total[:-1][:, None]) / jnp.maximum(end - start + 1, 1)
    mean = jnp.where(end >= start, mean, jnp.inf)
    least = jax.lax.associative_scan(jnp.minimum, mean, axis=1, reverse=True)
    return jnp.max(jnp.where(start <= end, least, -jnp.inf), axis=0)


def winning_chance(score: Float[Array, "bidders cells"]) -> Float[Array, "bidders cells"]:
    """Chance to win in each cell, for scores that rise with it; of equal scores the first wins."""
    bidders, cells = score.shape
    chances = []
    for bidder in range(bidders):
        chance = jnp.where(score[bidder] > 0.0, 1.0, 0.0)
        for other in range(bidders):
            if other != bidder:
                side = "left" if other < bidder else "right"
                beaten = jnp.searchsorted(score[other], score[bidder], side=side)
                chance = chance * beaten / cells
        chances.append(chance)
    return jnp.stack(chances)


class Selling(eqx.Module):
    """State: the priors, private to the bidders, and what the seller saw of them.

    Attributes:
        priors: of the values.
        seen: quantiles of past bids at `LEVELS`, credits.
        number: rounds played.
    """

    priors: Priors
    seen: Float[Array, "bidders levels"]
    number: Float[Array, ""]

    @property
    def scale(self) -> Float[Array, ""]:
        """Mean of what was seen, credits: the unit of observations and rewards."""
        return jnp.mean(self.seen)


class Rules(NamedTuple):
    """Parameters of the auction, one of each a bidder."""

    reserve: Float[Array, " bidders"]
    weight: Float[Array, " bidders"]

    def score(self, values: Float[Array, "*batch bidders"]) -> Float[Array, "*batch bidders"]:
        """What the highest of wins, if it is above 0."""
        return self.weight * (values - self.reserve)


class AuctionDesign(Problem):
    """Weights and reserves from past bids; every round brings other bidders.

    Actions: first where each bidder's reserve stands between the quantiles it bid in the past,
    then the logarithm of its weight.

    Attributes:
        bidders: at an auction.
        past: past bids seen of each bidder.
        auctions: held with the rules chosen, in one round.
    """

    bidders: int = eqx.field(static=True, default=3)
    past: int = eqx.field(static=True, default=200)
    auctions: int = eqx.field(static=True, default=256)

    @property
    def action_size(self) -> int:
        """A reserve and a weight a bidder."""
        return 2 * self.bidders

    def reset(self, key: PRNGKeyArray) -> Selling:
        """Draws priors, in half of the rounds the same for all, and past bids."""
        return self.among(*self.draw(key))

    def draw(self, key: PRNGKeyArray) -> tuple[Priors, PRNGKeyArray]:
        """Draws priors, in half of the rounds the same for all; and the key of past bids."""
        of_priors, of_equal, of_past = jax.random.split(key, 3)
        priors = _draw_priors(of_priors, self.bidders)
        equal = jax.random.bernoulli(of_equal)
        priors = jax.tree.map(lambda x: jnp.where(equal, x[0], x), priors)
        return priors, of_past

    def past_bids(self, priors: Priors, key: PRNGKeyArray) -> Float[Array, "past bidders"]:
        """Past bids of each bidder in rising order, credits."""
        # Sorted uniform draws are running sums of exponential gaps over their total (Rényi), so
        # past bids come in order without a sort, which would be most of the time of a round.
        gaps = jax.random.exponential(key, (self.past + 1, self.bidders))
        total = jnp.cumsum(gaps, axis=0)
        return priors.value_at(total[:-1] / total[-1])

    def among(self, priors: Priors, key: PRNGKeyArray) -> Selling:
        """A round with given priors, of which past bids are drawn."""
        past = self.past_bids(priors, key)
        place = (self.past - 1) * jnp.asarray(LEVELS)
        below = jnp.floor(place).astype(int)
        rest = (place - below)[:, None]
        seen = (1.0 - rest) * past[below] + rest * past[below + 1]
        return Selling(priors, seen.T, jnp.zeros(()))

    def observe(self, state: Selling) -> Float[Array, "bidders levels"]:
        """Quantiles of past bids over their mean; nothing of the bids to come."""
        return state.seen / state.scale

    def rules(self, state: Selling, action: Float[Array, " action"]) -> Rules:
        """The auction an action stands for; a function of past bids alone."""
        level = LEVELS[0] + 0.5 * (action[: self.bidders] + 1.0) * (LEVELS[-1] - LEVELS[0])
        # Linear between levels, without the loop of an interpolation that searches.
        levels = jnp.asarray(LEVELS)
        width = levels[1:] - levels[:-1]
        part = jnp.clip((level[:, None] - levels[:-1]) / width, 0.0, 1.0)
        rise = state.seen[:, 1:] - state.seen[:, :-1]
        reserve = state.seen[:, 0] + jnp.sum(part * rise, axis=1)
        return Rules(reserve, WEIGHT_MAX ** action[self.bidders :])

    def step(
        self, key: PRNGKeyArray, state: Selling, action: Float[Array, " action"]
    ) -> tuple[Selling, Payoff]:
        """Holds auctions with fresh bids; bidders bid the truth, since nothing is better."""
        level = jax.random.uniform(key, (self.auctions, self.bidders))
        values = state.priors.value_at(level)
        won, paid = sell(self.rules(state, action), values)
        after = eqx.tree_at(lambda each: each.number, state, state.number + 1.0)
        revenue = jnp.mean(jnp.sum(paid, axis=1))
        utility = jnp.mean(won * values - paid, axis=0)
        return after, Payoff(revenue, utility, -jnp.mean(paid, axis=0), revenue / state.scale)

    def expected(self, state: Selling, action: Float[Array, " action"]) -> Float[Array, ""]:
        """Revenue of an action over the priors, without sampling; credits an auction."""
        return expected(tables(state.priors), self.rules(state, action))

    def optimum(self, state: Selling) -> Payoff:
        """Myerson's auction for these priors, in expectation."""
        known = tables(state.priors)
        chance = winning_chance(known.ironed)
        revenue = jnp.mean(known.virtual * chance, axis=1)
        utility = jnp.mean((known.value - known.virtual) * chance, axis=1)
        total = jnp.sum(revenue)
        return Payoff(total, utility, -revenue, total / state.scale)

    def best_action(self, state: Selling) -> Float[Array, " action"]:
        """Myerson's reserves and slopes; for irregular priors close to the best there is."""
        known = tables(state.priors)
        sells = known.ironed > 0.0
        at = jnp.argmax(sells, axis=1)
        reserve = jnp.take_along_axis(known.value, at[:, None], axis=1)[:, 0]
        # What is seen may be flat, so the level is read off with levels as the second axis.
        level = jax.vmap(jnp.interp, (0, 0, None))(reserve, state.seen, jnp.asarray(LEVELS))
        where = 2.0 * (level - LEVELS[0]) / (LEVELS[-1] - LEVELS[0]) - 1.0
        # The virtual value rises by 2 for each credit of a uniform prior, by 1 of an exponential.
        return jnp.concatenate([where, jnp.where(state.priors.exponential, -0.5, 0.5)])

    def finished(self, state: Selling) -> Bool[Array, ""]:
        """After every round."""
        return state.number >= 1.0


def sell(
    rules: Rules, values: Float[Array, "auctions bidders"]
) -> tuple[Float[Array, "auctions bidders"], Float[Array, "auctions bidders"]]:
    """Who wins and what it pays, credits. Of equal scores the first bidder's wins."""
    score = rules.score(values)
    bidders = score.shape[1]
    winner = jnp.argmax(score, axis=1)[:, None] == jnp.arange(bidders)
    won = jnp.where(winner & (score > 0.0), 1.0, 0.0)
    rival = jnp.max(jnp.where(winner, -jnp.inf, score), axis=1, keepdims=True)
    due = rules.reserve + jnp.maximum(rival, 0.0) / rules.weight
    return won, won * due


@jax.jit
def expected(known: Tables, rules: Rules) -> Float[Array, ""]:
    """Revenue of rules over priors, without sampling; credits an auction."""
    return by_score(known, rules.score(known.value.T).T)


@jax.jit
def optimal(known: Tables) -> Float[Array, ""]:
    """Revenue of Myerson's auction, credits an auction."""
    return jnp.sum(jnp.mean(known.virtual * winning_chance(known.ironed), axis=1))


def plug_in(state: Selling) -> Rules:
    """Without learning: each bidder's best posted price among its quantiles, equal weights."""
    left = 1.0 - jnp.asarray(LEVELS)
    best = jnp.argmax(left * state.seen, axis=1)
    reserve = jnp.take_along_axis(state.seen, best[:, None], axis=1)[:, 0]
    return Rules(reserve, jnp.ones_like(reserve))


def leave_own_out(way: Callable[[Selling], Rules], state: Selling) -> Rules:
    """What a way to set up an auction says if it sees only others' past bids, bidder by bidder.

    A bidder's reserve and weight are what the way says if the mean of the others' quantiles
    stands where the bidder's own stood; so its own past bids set neither, whatever the way is.
    See `learnt_reserves` for why that matters.

    Args:
        way: from what the seller saw to rules.
        state: with at least two bidders.
    """
    bidders = state.seen.shape[0]

    def told(bidder: Array) -> Rules:
        own = jnp.arange(bidders)[:, None] == bidder
        # Left out before the sum: subtracted from it, own bids would remain in its rounding.
        others = jnp.sum(jnp.where(own, 0.0, state.seen), axis=0) / (bidders - 1)
        seen = jnp.where(own, others, state.seen)
        return way(eqx.tree_at(lambda each: each.seen, state, seen))

    said = jax.vmap(told)(jnp.arange(bidders))
    return Rules(jnp.diagonal(said.reserve), jnp.diagonal(said.weight))


@jax.jit
def by_score(known: Tables, score: Float[Array, "bidders cells"]) -> Float[Array, ""]:
    """Revenue over priors if the highest positive score wins at its threshold, credits.

    Args:
        known: the priors.
        score: of each cell's value, never falling.
    """
    return jnp.sum(jnp.mean(known.virtual * winning_chance(score), axis=1))


@jax.jit
def lazily(known: Tables, reserve: Float[Array, " bidders"]) -> Float[Array, ""]:
    """Revenue over priors if the highest value wins where it reaches its own reserve, credits.

    Args:
        known: the priors.
        reserve: of each bidder, credits.
    """
    chance = jnp.where(known.value >= reserve[:, None], winning_chance(known.value), 0.0)
    return jnp.sum(jnp.mean(known.virtual * chance, axis=1))


def _draw_priors(key: PRNGKeyArray, bidders: int) -> Priors:
    """Uniform, exponential and two-piece priors in equal parts."""
    of_kind, of_low, of_first, of_second, of_share = jax.random.split(key, 5)

    def draw(key: PRNGKeyArray, low: float, high: float) -> Array:
        return jax.random.uniform(key, (bidders,), minval=low, maxval=high)

    kind = jax.random.randint(of_kind, (bidders,), 0, 3)
    first = draw(of_first, *WIDTH)
    return Priors(
        exponential=kind == 1,
        low=jnp.where(kind == 0, draw(of_low, *LOW), 0.0),
        first=first,
        second=jnp.where(kind == 0, first, first * draw(of_second, *SECOND)),
        share=jnp.where(kind == 0, 0.5, draw(of_share, *SHARE)),
    )
