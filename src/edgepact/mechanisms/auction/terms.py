r"""What is given in an auction: a rule, and what it awards.

A buyer meets $n$ bidders; bidder $i$ has a cost $c_i$ that only it knows, bids $b_i$, and is
worth a known $v_i$. A rule decides who wins and what winners are paid. Telling the truth is
best for everybody, whatever the others do, exactly if a lower bid never turns a winner into a
loser and winners are paid their *threshold*, the highest bid with which they would still have
won (Myerson 1981; Archer and Tardos 2001). Every rule here but the pay-as-bid ones of `scoring`
is of that kind, so that what bidders do needs no room of its own; `audit` checks it without
trusting the theory.

A rule is a small frozen object that holds what is public, and `award` is its only step. Each
has a file, and is the exact optimum of what it is for:

- `proportional_share`: most value for a fixed budget, one price per unit of value.
- `vcg`: most welfare, at most so many winners. `knapsack_vcg`: winners must fit a capacity.
- `optimal_procurement`: most profit in expectation over a prior, at most so many winners.
- `posted_prices`: most value in expectation, payments within a budget in expectation.
- `reserve` sells instead of buying, `scoring` buys what has several qualities, and
  `supply_curves` buys amounts that cost a bidder increasingly.

Proofs: docs/theory/auction.md. NumPy and SciPy only, float64; bids come as one auction or as a
batch of auctions, and nothing loops over bidders except the program of `knapsack_vcg`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError
from edgepact.mechanisms.promises import Promise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Award:
    """Who won and who is paid what.

    Attributes:
        wins: whether each bidder won.
        payments: credits: to the bidder when buying, from it when selling; 0 for losers.
        unit_price: credits per unit of value, of rules that have one price; 0 if nobody won.
    """

    wins: Bool[np.ndarray, "*batch bidders"]
    payments: Float[np.ndarray, "*batch bidders"]
    unit_price: Float[np.ndarray, "*batch"] | None = None


class Auction(ABC):
    """A rule: bids in, an award out. All of it but the bids is public."""

    @property
    def sells(self) -> bool:
        """Whether bidders pay, and bid values, instead of being paid and bidding costs."""
        return False

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What every award keeps; all of it unless a rule says otherwise."""
        return tuple(Promise)

    @property
    def effort(self) -> float:
        """Work of an award, a bid; 1 where it is a sort or less."""
        return 1.0

    @property
    @abstractmethod
    def bidders(self) -> int | None:
        """How many bids the rule takes; None for any number."""

    @abstractmethod
    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """Holds the auction; credits. A bid of infinity takes no part in one that buys.

        Raises:
            InputError: a bid is negative or no number, or their number is wrong.
        """

    @abstractmethod
    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids at which the fate of each bidder may turn, the others' bids given.

        Where lies are worth looking for: they depend on the others' bids, not on its own.
        """

    @abstractmethod
    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """Credits left of what an award may cost: the budget, or the value bought."""

    def _checked(self, bids: np.ndarray) -> np.ndarray:
        bids = np.asarray(bids, float)
        if bids.ndim == 0 or (self.bidders is not None and bids.shape[-1] != self.bidders):
            expected = "one or more" if self.bidders is None else str(self.bidders)
            raise InputError("auction", "bids", f"{expected} bids", f"shape {bids.shape}")
        good = (bids >= 0.0) & ~(np.isinf(bids) & self.sells)
        if not np.all(good):
            at = ", ".join(map(str, np.argwhere(~good)[0]))
            kind = "a finite number" if self.sells else "a number"
            found = bids[~good][0].item()
            raise InputError("auction", f"bids[{at}]", f"{kind} of at least 0", found)
        return bids


def value_left(values: Float[np.ndarray, " bidders"], award: Award) -> Float[np.ndarray, "*batch"]:
    """What the winners are worth less what they are paid, credits."""
    return np.asarray(np.sum(np.where(award.wins, values - award.payments, 0.0), axis=-1))


def check_count(name: str, count: int) -> None:
    """Raises `InputError` unless a number is whole and at least 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError("auction", name, "a whole number of at least 1", count)


def check_values(values: np.ndarray) -> None:
    """Raises `InputError` unless values are one or more finite numbers above 0."""
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0:
        raise InputError("auction", "values", "one or more numbers", f"shape {values.shape}")
    for at in np.flatnonzero(~(np.isfinite(values) & (values > 0.0)))[:1]:
        found = values[at].item()
        raise InputError("auction", f"values[{at}]", "a finite number above 0", found)


def check_budget(budget: float) -> None:
    """Raises `InputError` unless a budget is a finite number of at least 0."""
    if not 0.0 <= budget < np.inf:
        raise InputError("auction", "budget", "a finite number of at least 0", budget)
