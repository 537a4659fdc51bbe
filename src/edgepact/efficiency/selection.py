r"""Which clients train in a round: the third way to save, with the set of clients left open.

All selectors answer one question, `select`, from what a server may know of its clients
(`Candidates`): how much they say they hold, how long they take, how far the model is from
their data as of their last round. What has to be remembered stands in there, so a selector
keeps no memory of its own, and a run that resumes selects as if it had not stopped.

- `Everyone` and `RandomSelection`: McMahan et al. 2017 (arXiv 1602.05629).
- `Deadline`: FedCS, as many clients as finish in time (Nishio and Yonetani 2019,
  arXiv 1804.08333).
- `PowerOfChoice`: of a few drawn by their data, those with the highest loss (Cho et al. 2020,
  arXiv 2010.01243).
- `Oort`: statistical times system utility, with exploration and staleness (Lai et al. 2021,
  arXiv 2010.06081).

An auction selects too, by what clients ask for; what each is worth to it is `worth`.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from edgepact.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """What a server knows of its clients before a round.

    Attributes:
        examples: training images each says it holds, at least 1.
        compute_s: seconds of training for a round.
        upload_s: seconds to send an update.
        loss: root mean square of its images' losses when it last took part; NaN before.
        last_round: the round it last took part in; 0 before.
        round: the coming one, from 1.

    Raises:
        InputError: columns differ in length, or hold what cannot be.
    """

    examples: Int[np.ndarray, " clients"]
    compute_s: Float[np.ndarray, " clients"]
    upload_s: Float[np.ndarray, " clients"]
    loss: Float[np.ndarray, " clients"]
    last_round: Int[np.ndarray, " clients"]
    round: int

    def __post_init__(self) -> None:
        for name in ("compute_s", "upload_s", "loss", "last_round"):
            if np.shape(getattr(self, name)) != np.shape(self.examples):
                expected = f"{np.shape(self.examples)} numbers"
                raise InputError("candidates", name, expected, str(np.shape(getattr(self, name))))
        for name, least in (("examples", 1), ("compute_s", 0), ("upload_s", 0), ("last_round", 0)):
            column = np.asarray(getattr(self, name))
            wrong = np.flatnonzero(~(np.isfinite(column) & (column >= least)))
            if len(wrong):
                at = int(wrong[0])
                expected = f"a number of at least {least}"
                raise InputError("candidates", f"{name}[{at}]", expected, column[at].item())
        if np.any(np.isinf(self.loss) | (self.loss < 0)):
            raise InputError("candidates", "loss", "numbers of at least 0, or NaN", "others")

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def seconds(self) -> Float[np.ndarray, " clients"]:
        """From the start of a round until the update has arrived."""
        return self.compute_s + self.upload_s


@runtime_checkable
class Selector(Protocol):
    """Chooses the clients of a round."""

    def select(
        self, rng: np.random.Generator, candidates: Candidates, count: int
    ) -> Int[np.ndarray, " chosen"]:
        """Places of at most `count` clients, in rising order, none twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone:
    """All clients, however many are asked for."""

    def select(
        self, rng: np.random.Generator, candidates: Candidates, count: int
    ) -> Int[np.ndarray, " chosen"]:
        """Every place."""
        return np.arange(len(candidates))


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSelection:
    """Any clients, all with the same chance."""

    def select(
        self, rng: np.random.Generator, candidates: Candidates, count: int
    ) -> Int[np.ndarray, " chosen"]:
        """A draw without replacement."""
        drawn = rng.choice(len(candidates), size=min(count, len(candidates)), replace=False)
        return np.sort(drawn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """FedCS: as many of the asked clients as are done by the deadline, quickest first.

    Clients train at the same time and send one after another. The greedy rule adds the client
    that delays the end of the round least, until the deadline would be passed.

    Args:
        deadline_s: seconds a round may take.
        asked: share of all clients that are asked, drawn at random: not always the quickest.
    """

    deadline_s: float
    asked: float = 0.5

    def __post_init__(self) -> None:
        if not self.deadline_s > 0:
            raise InputError("FedCS", "deadline_s", "seconds above 0", self.deadline_s)
        if not 0 < self.asked <= 1:
            raise InputError("FedCS", "asked", "a share above 0, at most 1", self.asked)

    def select(
        self, rng: np.random.Generator, candidates: Candidates, count: int
    ) -> Int[np.ndarray, " chosen"]:
        """At most `count` of those who are asked; nobody if not one is quick enough."""
        number = len(candidates)
        asked = max(min(count, number), math.ceil(self.asked * number))
        left = rng.choice(number, size=asked, replace=False)
        chosen: list[int] = []
        end = 0.0
        while len(left) and len(chosen) < count:
            ends = np.maximum(end, candidates.compute_s[left]) + candidates.upload_s[left]
            at = int(np.argmin(ends))
            if ends[at] > self.deadline_s:
                break
            end = float(ends[at])
            chosen.append(int(left[at]))
            left = np.delete(left, at)
        return np.sort(np.asarray(chosen, int))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOfChoice:
    """The clients of highest loss among some that are drawn by how much data they hold.

    The loss is that of each client's last round, which costs no further question (the
    article's variant rpow-d).

    Args:
        drawn: clients drawn for each one chosen, at least 1; 1 is drawing by data alone.
    """

    drawn: float = 3.0

    def __post_init__(self) -> None:
        if not self.drawn >= 1:
            raise InputError("power of choice", "drawn", "a number of at least 1", self.drawn)

    def select(
        self, rng: np.random.Generator, candidates: Candidates, count: int
    ) -> Int[np.ndarray, " chosen"]:
        """Those who have never taken part come first: their loss is not known to be low."""
        count = min(count, len(candidates))
        pool = min(len(candidates), math.ceil(self.drawn * count))
        share = candidates.examples / candidates.examples.sum()
        drawn = rng.choice(len(candidates), size=pool, replace=False, p=share)
        loss = np.nan_to_num(candidates.loss[drawn], nan=np.inf)
        return np.sort(drawn[np.argsort(-loss, kind="stable")[:count]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Oort:
    """Clients whose data still teach something, less those who are slow.

    A client's utility is its images times the root mean square of their losses, plus a bonus
    that grows while it is not chosen, times `(preferred_s / seconds) ** penalty` if it takes
    longer than preferred. A share of the places goes to clients never tried, the quick ones
    more likely. Of the others, those within `cutoff` of the last place's utility are drawn in
    proportion to it.

    Args:
        explored: share of the places for clients never tried, in the first round; it shrinks by
            `fading` each round, down to `explored_min`.
        preferred: quantile of the clients' seconds that is not yet slow.
        penalty: exponent of slowness.
        cutoff: share of the last place's utility that is still drawn from.
    """

    explored: float = 0.9
    explored_min: float = 0.2
    fading: float = 0.98
    preferred: float = 0.5
    penalty: float = 2.0
    cutoff: float = 0.95

    def select(
        self, rng: np.random.Generator, candidates: Candidates, count: int
    ) -> Int[np.ndarray, " chosen"]:
        """Tried and untried clients; more of one sort where there are too few of the other."""
        count = min(count, len(candidates))
        tried = np.flatnonzero(~np.isnan(candidates.loss))
        fresh = np.flatnonzero(np.isnan(candidates.loss))
        share = max(self.explored_min, self.explored * self.fading ** (candidates.round - 1))
        explored = min(len(fresh), max(round(share * count), count - len(tried)))
        exploited = count - explored
        speed = 1.0 / np.maximum(candidates.seconds[fresh], 1e-9)
        chosen = [_drawn(rng, fresh, speed, explored)]
        if exploited:
            utility = self.utility(candidates)[tried]
            last = np.sort(utility)[-exploited]
            good = utility >= self.cutoff * last
            chosen.append(_drawn(rng, tried[good], utility[good], exploited))
        return np.sort(np.concatenate(chosen))

    def utility(self, candidates: Candidates) -> Float[np.ndarray, " clients"]:
        """Of every client; NaN of those never tried."""
        idle = np.maximum(candidates.last_round, 1)
        statistical = candidates.examples * candidates.loss
        scale = np.nanmax(statistical) if np.any(~np.isnan(statistical)) else 1.0
        statistical = statistical / (scale if scale > 0 else 1.0)
        bonus = np.sqrt(0.1 * math.log(max(candidates.round, 1)) / idle)
        preferred = float(np.quantile(candidates.seconds, self.preferred))
        slow = np.maximum(candidates.seconds / max(preferred, 1e-9), 1.0)
        return (statistical + bonus) * slow**-self.penalty


def worth(candidates: Candidates, *, preferred_s: float) -> Float[np.ndarray, " clients"]:
    """What an auction takes a client's update to be worth, in images; above 0.

    Images that the model does not fit count more, those of a slow client less: its data, speed
    and link as the server sees them, and nothing that its bid could change. A client never
    tried counts as one of typical loss.

    Args:
        candidates: all of them.
        preferred_s: seconds of a round up to which a client is not slow.
    """
    known = candidates.loss[~np.isnan(candidates.loss)]
    typical = float(np.mean(known)) if len(known) else 1.0
    relative = np.nan_to_num(candidates.loss, nan=typical) / (typical if typical > 0 else 1.0)
    slow = np.maximum(candidates.seconds / preferred_s, 1.0)
    return candidates.examples * np.clip(relative, 0.1, 10.0) / slow


def _drawn(
    rng: np.random.Generator,
    places: Int[np.ndarray, " places"],
    weight: Float[np.ndarray, " places"],
    count: int,
) -> Int[np.ndarray, " drawn"]:
    """Some of the places, without replacement, in proportion to their weights."""
    if count == 0:
        return places[:0]
    weight = np.maximum(weight, 1e-12)
    return rng.choice(places, size=count, replace=False, p=weight / weight.sum())
