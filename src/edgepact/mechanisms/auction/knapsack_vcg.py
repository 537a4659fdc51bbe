"""Most welfare among winners that fit a capacity together, each paid what it adds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from edgepact.errors import InputError
from edgepact.mechanisms.auction.terms import Auction, Award, check_count, check_values, value_left

CELLS_MAX = 20_000_000
"""Most cells, bidders times capacity, of the table behind `KnapsackVcg`: 160 MB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnapsackVcg(Auction):
    r"""Most welfare among winners that fit a capacity together; each is paid what it adds.

    Winners' sizes, such as megabytes of an upload, may add up to the capacity. The best set
    is exact (a dynamic program over whole sizes), and so is the threshold of bidder $i$,
    $v_i - (W_{-i}(C) - W_{-i}(C - z_i))$ with the best welfare $W_{-i}$ that the others reach in
    a capacity. Tables over the bidders before and after $i$ give all of these at the cost of
    two programs instead of $n + 1$: $O(n C)$ time and memory. One auction at a time.

    Attributes:
        values: v, above 0, shape `bidders`.
        sizes: whole numbers above 0, shape `bidders`.
        capacity: C, a whole number.

    Raises:
        InputError: something is out of range, or bidders times capacity exceed `CELLS_MAX`.
    """

    values: Float[np.ndarray, " bidders"]
    sizes: Int[np.ndarray, " bidders"]
    capacity: int

    def __post_init__(self) -> None:
        check_values(self.values)
        if np.shape(self.sizes) != np.shape(self.values):
            found = f"shape {np.shape(self.sizes)}"
            raise InputError("auction", "sizes", f"{len(self.values)} whole numbers", found)
        for at in np.flatnonzero(np.asarray(self.sizes) < 1)[:1]:
            found_size = self.sizes[at].item()
            raise InputError("auction", f"sizes[{at}]", "a whole number above 0", found_size)
        check_count("capacity", self.capacity)
        cells = (len(self.values) + 1) * (self._units()[1] + 1)
        if cells > CELLS_MAX:
            expected = f"bidders times capacity of at most {CELLS_MAX}, in units all sizes share"
            raise InputError("auction", "capacity", expected, cells)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    @property
    def effort(self) -> float:
        """A pass over the capacity, and what it costs to begin one."""
        return 100.0 + self._units()[1]

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n C) for each auction of a batch."""
        bids = self._checked(bids)
        flat = bids.reshape(-1, bids.shape[-1])
        each = [self._best(score) for score in self.values - flat]
        wins = np.array([wins for wins, _ in each], bool).reshape(bids.shape)
        thresholds = np.array([threshold for _, threshold in each]).reshape(bids.shape)
        return Award(wins=wins, payments=np.where(wins, thresholds, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Every bidder's own threshold, and bids that score as each rival does."""
        bids = self._checked(bids)
        flat = bids.reshape(-1, bids.shape[-1])
        own = np.array([self._best(score)[1] for score in self.values - flat])
        same = np.asarray(self.values)[:, None] - (self.values - bids)[..., None, :]
        return np.maximum(np.concatenate([own.reshape(*bids.shape, 1), same], axis=-1), 0.0)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The value bought less the payments."""
        return value_left(self.values, award)

    def _units(self) -> tuple[np.ndarray, int]:
        """Sizes and capacity in the largest unit that divides all sizes."""
        sizes = np.asarray(self.sizes)
        unit = int(np.gcd.reduce(sizes))
        return sizes // unit, min(self.capacity, int(np.sum(sizes))) // unit

    def _best(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who is in the best set, and every bidder's threshold (negative: none)."""
        whole, capacity = self._units()
        sizes, scores = whole.tolist(), score.tolist()
        count = len(score)
        after = np.zeros((count + 1, capacity + 1))  # best of the bidders from i on
        for at in range(count - 1, -1, -1):
            after[at] = _with_one_more(after[at + 1], scores[at], sizes[at])
        wins = np.zeros(count, bool)
        threshold = np.full(count, -np.inf)
        before, room = np.zeros(capacity + 1), capacity
        for at in range(count):
            size = sizes[at]
            if size <= capacity:
                others = np.max(before + after[at + 1, ::-1])
                beside = before[: capacity - size + 1] + after[at + 1, capacity - size :: -1]
                threshold[at] = self.values[at] - (others - np.max(beside))
            if after[at, room] > after[at + 1, room]:
                wins[at], room = True, room - size
            before = _with_one_more(before, scores[at], size)
        return wins, threshold


def _with_one_more(table: np.ndarray, score: float, size: int) -> np.ndarray:
    """Best welfare in every capacity, when one more bidder may be taken."""
    more = table.copy()
    if score > 0.0 and size < len(table):
        np.maximum(table[size:], score + table[: len(table) - size], out=more[size:])
    return more
