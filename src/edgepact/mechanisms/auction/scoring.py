r"""Buying work that has several qualities: bids of qualities and a payment, ranked by a score.

A buyer of updates minds how much data they rest on, how fast they come, how well they are kept,
and it says so beforehand by a score $s(q)$. A bid is what a bidder would deliver, $q$, and what
it asks for, $p$; the K bids of highest $s(q) - p > 0$ win. Two rules for the payment:

- *Pay as bid* (FMore, Zeng et al., ICDCS 2020): a winner is paid $p$. The truth is not its best
  bid; what it adds to its cost in equilibrium, when all bidders know the prior of the cost
  parameter $\theta$ and nobody knows the others', is computed here.
- *Second score* (Che 1993): a winner is paid $s(q) - \max(S_{K+1}, 0)$, with the best score that
  lost. Delivering what it does best and asking for its cost is best, whatever the others do: it
  is the auction of `auction.Vcg` with the scores as values.

In both, a bidder delivers $q^*(\theta) = \arg\max_q s(q) - c(q, \theta)$, since whatever else it
could do for the same score would cost it more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import bdtr

from edgepact.errors import InputError, shown
from edgepact.mechanisms.auction.best_scores import best_scores
from edgepact.mechanisms.auction.prior import Prior
from edgepact.mechanisms.auction.terms import Auction, Award, check_count, value_left
from edgepact.mechanisms.auction.vcg import Vcg
from edgepact.mechanisms.promises import Promise

TYPES = 4097
"""Cost parameters at which an equilibrium is computed; between them it is interpolated."""

CELLS_MAX = 50_000_000
"""Most cost parameters times qualities to choose from."""

ScoreForm = Literal["sum", "minimum", "product"]
SCORE_FORMS: tuple[ScoreForm, ...] = ("sum", "minimum", "product")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    r"""What qualities are worth to the buyer, credits.

    Attributes:
        weights: w, above 0, shape `qualities`.
        form: `sum`, $\sum_d w_d q_d$, for qualities that replace one another; `minimum`,
            $\min_d w_d q_d$, for those that are worth nothing alone; `product`,
            $\prod_d q_d^{w_d}$, in between.
        scale: by which that is multiplied.

    Raises:
        InputError: something is out of range.
    """

    weights: Float[np.ndarray, " qualities"]
    form: ScoreForm = "sum"
    scale: float = 1.0

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights)
        if weights.ndim != 1 or len(weights) == 0:
            found = f"shape {weights.shape}"
            raise InputError("score", "weights", "one or more numbers", found)
        for at in np.flatnonzero(~(np.isfinite(weights) & (weights > 0.0)))[:1]:
            found_weight = weights[at].item()
            raise InputError("score", f"weights[{at}]", "a number above 0", found_weight)
        if self.form not in SCORE_FORMS:
            raise InputError("score", "form", f"one of {', '.join(SCORE_FORMS)}", shown(self.form))
        if not 0.0 < self.scale < np.inf:
            raise InputError("score", "scale", "a number above 0", self.scale)

    def __call__(self, quality: Float[np.ndarray, "... qualities"]) -> Float[np.ndarray, "..."]:
        """s(q)."""
        if self.form == "product":
            return np.asarray(self.scale * np.prod(quality**self.weights, axis=-1))
        weighted = self.weights * quality
        of = np.sum if self.form == "sum" else np.min
        return np.asarray(self.scale * of(weighted, axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PayAsBid(Auction):
    """The K best scores win and are paid what they ask for. Not truthful: see `equilibrium`.

    Attributes:
        scores: s(q) of what each bidder offers, above 0, shape `bidders`.
        winners_max: K.
    """

    scores: Float[np.ndarray, " bidders"]
    winners_max: int

    def __post_init__(self) -> None:
        Vcg(values=self.scores, winners_max=self.winners_max)  # the same terms

    @property
    def promises(self) -> tuple[Promise, ...]:
        """All but the truth."""
        return tuple(each for each in Promise if each is not Promise.INCENTIVE_COMPATIBLE)

    @property
    def bidders(self) -> int | None:
        """As many as scores."""
        return len(self.scores)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        bids = self._checked(bids)
        wins = best_scores(self.scores - bids, self.winners_max).wins
        return Award(wins=wins, payments=np.where(wins, bids, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids that score as each rival does, and the one that scores 0."""
        return second_score(self.scores, self.winners_max).critical_bids(bids)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The scores bought less the payments."""
        return value_left(self.scores, award)


def second_score(scores: Float[np.ndarray, " bidders"], winners_max: int) -> Vcg:
    """The truthful form: winners are paid their score less the best one that lost."""
    return Vcg(values=scores, winners_max=winners_max)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoringGame:
    """What every bidder of a pay-as-bid auction knows.

    Attributes:
        score: s, of qualities of shape `... qualities`.
        cost: c, of qualities of shape `choices qualities` and cost parameters of shape
            `types 1`, giving credits of shape `types choices`; rising in the parameter.
        choices: the qualities that a bidder chooses from, one a row.
        prior: of the cost parameter.
        bidders: N.
        winners_max: K.

    Raises:
        InputError: something is out of range.
    """

    score: Callable[[Float[np.ndarray, "... qualities"]], Float[np.ndarray, "..."]]
    cost: Callable[[np.ndarray, np.ndarray], np.ndarray]
    choices: Float[np.ndarray, "choices qualities"]
    prior: Prior
    bidders: int
    winners_max: int

    def __post_init__(self) -> None:
        check_count("bidders", self.bidders)
        check_count("winners_max", self.winners_max)
        shape = np.shape(self.choices)
        if len(shape) != 2 or 0 in shape or shape[0] * TYPES > CELLS_MAX:
            expected = f"1 to {CELLS_MAX // TYPES} rows of qualities"
            raise InputError("scoring game", "choices", expected, f"shape {shape}")

    def best(
        self, theta: Float[np.ndarray, " types"]
    ) -> tuple[Int[np.ndarray, " types"], Float[np.ndarray, " types"]]:
        """The row of `choices` each type does best, and what that leaves of its score."""
        left = self.score(self.choices) - self.cost(self.choices, theta[:, None])
        row = np.argmax(left, axis=1)
        return row, left[np.arange(len(theta)), row]

    def chance(self, theta: Float[np.ndarray, " types"]) -> Float[np.ndarray, " types"]:
        """Chance to win of a bid that scores as type theta does in equilibrium.

        Of N-1 rivals at most K-1 may be better, that is, of a lower cost parameter.
        """
        if self.winners_max >= self.bidders:
            return np.ones(len(theta))
        better = np.clip(self.prior.cdf(theta), 0.0, 1.0)
        return np.asarray(bdtr(self.winners_max - 1.0, self.bidders - 1, better))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equilibrium:
    """What every type bids where nobody gains by bidding otherwise.

    Attributes:
        game: the game.
        theta: types, rising.
        surplus: u, the score of a type's best quality less its cost, credits.
        markup: what it asks for beyond its cost, credits; 0 from the type on whose u is 0.
    """

    game: ScoringGame
    theta: Float[np.ndarray, " types"]
    surplus: Float[np.ndarray, " types"]
    markup: Float[np.ndarray, " types"]

    def bid(
        self, theta: Float[np.ndarray, " bidders"]
    ) -> tuple[Float[np.ndarray, "bidders qualities"], Float[np.ndarray, " bidders"]]:
        """Qualities and payments that bidders of given types ask for; infinity: no bid."""
        row, surplus = self.game.best(theta)
        score = self.game.score(self.game.choices)[row]
        asked = score - surplus + np.interp(theta, self.theta, self.markup)
        return self.game.choices[row], np.where(surplus > 0.0, asked, np.inf)


def equilibrium(game: ScoringGame) -> Equilibrium:
    r"""The symmetric Bayes-Nash equilibrium of the pay-as-bid auction.

    With the chance to win $g(u)$ of a bidder of surplus $u$, its bid is
    $p = c + \int_0^u g(x)\,dx / g(u)$: by the envelope theorem a type keeps in expectation
    the integral of its chances, and $p - c$ is what it keeps when it wins (FMore, theorem 1).
    The integral is a sum of trapezoids over `TYPES` types.

    Raises:
        InputError: the cost falls as its parameter rises.
    """
    theta = np.linspace(game.prior.low, game.prior.high, TYPES)
    _, surplus = game.best(theta)
    if np.any(np.diff(surplus) > 1e-9 * (1.0 + np.max(np.abs(surplus)))):
        raise InputError("scoring game", "cost", "a cost that rises with theta", "one that falls")
    kept = np.maximum(surplus, 0.0)
    chance = game.chance(theta)
    pieces = 0.5 * (chance[1:] + chance[:-1]) * -np.diff(kept)
    # Whoever leaves less than the worst type is beaten by everybody: it wins only if all do.
    rest = kept[-1] if game.winners_max >= game.bidders else 0.0
    total = np.append(np.cumsum(pieces[::-1])[::-1], 0.0) + rest
    markup = np.divide(total, chance, out=np.zeros(TYPES), where=chance > 0.0)
    return Equilibrium(game=game, theta=theta, surplus=surplus, markup=np.minimum(markup, kept))
