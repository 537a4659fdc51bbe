"""Quoting prices to a fleet nobody knows: who may see what, and how it is scored.

A *quoter* posts a price, sees how many layers every device runs for it, and posts
the next one. This module holds what all of them share, so that a comparison
compares like with like: what a server knows (`Known`), the rounds it has seen,
the reference prior of unseen fleets, and the score.

A quote is scored by its *share of the range* (`mechanisms.stackelberg.score`): 1 is the
best a server could do that knew everything, 0 is guessing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import Outcome, outcome, settle
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Satisfaction
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.quoter import Known, Quoter

Answer = Callable[[Game, float, np.random.Generator], Float[np.ndarray, " devices"]]
"""How devices answer a price: layers, by a rule that may draw."""


def in_order(
    layers: Float[np.ndarray, "rounds devices"],
) -> Float[np.ndarray, "rounds devices"]:
    """The same answers with the devices in an order that their answers alone decide.

    Methods that draw numbers for each device quote the same whoever enrolled first.
    """
    return layers[:, np.lexsort(layers)] if len(layers) else layers


def meet(
    quoter: Quoter,
    game: Game,
    known: Known,
    *,
    rounds: int,
    seed: int,
    answer: Answer | None = None,
) -> Outcome:
    """Lets a quoter meet one fleet.

    Args:
        quoter: the method.
        game: the fleet as NumPy arrays.
        known: what the quoter is told of it.
        rounds: quotes.
        seed: of the quoter's own randomness, and of the answers'.
        answer: how devices answer; exact best responses if None.

    Returns:
        All rounds: prices of shape `(rounds)`, layers `(rounds, devices)`, and what
        everybody got.
    """
    rng = np.random.default_rng([seed, 1])
    prices, layers = np.empty(rounds), np.empty((rounds, known.devices))
    for at in range(rounds):
        price = quoter.quote(seed, known, prices[:at].copy(), layers[:at].copy())
        assert known.price_min <= price <= known.price_max, (quoter, price)
        prices[at] = price
        layers[at] = answer(game, price, rng) if answer else outcome(game, price).layers
    return settle(game, prices, layers)


def play(
    quoter: Quoter,
    games: Sequence[Game],
    *,
    rounds: int,
    seed: int,
    first: int = 0,
    on_fleet: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "fleets rounds"]:
    """Lets a quoter meet fleets, each for some rounds, and scores its quotes.

    Args:
        quoter: the method.
        games: fleets as NumPy arrays, the devices of each with one A and one B.
        rounds: quotes to each fleet.
        seed: of the quoter's own randomness.
        first: number of the first of these fleets among all, which its own seed is drawn by.
        on_fleet: told after each fleet how many are done, and how many there are.

    Returns:
        Shares of the range; at most 1.
    """
    shares = np.empty((len(games), rounds))
    for index, game in enumerate(games):
        known = Known.of(game, form=quoter.knows_form)
        met = meet(quoter, game, known, rounds=rounds, seed=seed_of(seed, first + index))
        shares[index] = range_of(game).share(met.server_utility)
        if on_fleet:
            on_fleet(index + 1, len(games))
    return shares


def seed_of(seed: int, index: int) -> int:
    """The seed of one fleet of many."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def best_so_far(
    shares: Float[np.ndarray, "fleets rounds"],
) -> Float[np.ndarray, "fleets rounds"]:
    """Shares if a server went back to its best quote after each round.

    It sees what each of its quotes earned, so it could; the price of having
    searched is in `regret`, not in this.
    """
    return np.maximum.accumulate(shares, axis=1)


def regret(shares: Float[np.ndarray, "fleets rounds"]) -> Float[np.ndarray, " fleets"]:
    """What was missed over all rounds, in rounds of the full range."""
    return np.sum(1.0 - shares, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePrior:
    """The fleets that methods are compared on.

    Alpha of device n is `alpha_low + alpha_shift a + alpha_width b u_n`, its capacity
    `capacity_low + capacity_shift c + capacity_width v_n`, with a, b, c drawn once a
    fleet and u, v once a device, all uniform on [0, 1]: devices of one fleet are
    alike in ways that differ between fleets, which is what can be learned from them.

    Attributes:
        devices_max: numbers of devices are uniform on 1 to this.
        A, B: GMAC per layer and before the first one.
        beta: credits per GMAC that is left to the server.
        price_min, price_max: range that may be posted, credits per layer.
    """

    devices_max: int = 16
    alpha_low: float = 1.0
    alpha_shift: float = 4.0
    alpha_width: float = 4.0
    capacity_low: float = 6.0
    capacity_shift: float = 6.0
    capacity_width: float = 4.0
    A: float = 1.0
    B: float = 0.5
    beta: float = 1.0
    layers_max: int = 12
    price_min: float = 0.05
    price_max: float = 3.0
    satisfaction: Satisfaction = FAMILIES["log1p"]

    def fleet(self, rng: np.random.Generator, devices: int) -> Fleet:
        """Draws one fleet."""
        a, b, c = rng.uniform(size=3)
        u, v = rng.uniform(size=(2, devices))
        return Fleet(
            alpha=self.alpha_low + self.alpha_shift * a + self.alpha_width * b * u,
            capacity=self.capacity_low + self.capacity_shift * c + self.capacity_width * v,
            A=np.full(devices, self.A),
            B=np.full(devices, self.B),
        )

    def game(self, fleet: Fleet, *, integer: bool) -> Game:
        """The game that is played with a fleet; the fixed revenue is 0."""
        return Game(
            fleet=fleet,
            revenue=0.0,
            beta=self.beta,
            price_min=self.price_min,
            price_max=self.price_max,
            layers_max=self.layers_max,
            integer=integer,
            satisfaction=self.satisfaction,
        )


REFERENCE = ReferencePrior()
"""The reference prior itself."""


def reference_fleets(
    seed: int, fleets: int, *, integer: bool, prior: ReferencePrior = REFERENCE
) -> list[Game]:
    """Games with fleets of the reference prior; one seed gives the same fleets in both kinds."""
    rng = np.random.default_rng(seed)
    games = []
    for _ in range(fleets):
        devices = int(rng.integers(1, prior.devices_max + 1))
        games.append(prior.game(prior.fleet(rng, devices), integer=integer))
    return games
